/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One process writes a table of accounts, others read it at the same time.
 *
 *     shared_table write [FILE]    transfers money ten times a second, until it is killed
 *     shared_table read [FILE]     prints the table once a second; any number of such processes
 *     shared_table                 both in one process, in an empty directory, step by step
 *
 * Three things to learn from it:
 *
 * A word of the root leads to the table, and the table to its rows. What it leads to is never changed, only replaced: a transaction makes
 * new rows and a new table, frees the old ones, and stores the word. So a reader finds all of the old table or all of the new one, and
 * the sum is always the same.
 *
 * A reader follows offsets between palloc_read_begin and palloc_read_end only. Blobs that are freed meanwhile keep their bytes up to the
 * end. So it copies what it needs, and ends the section before it prints.
 *
 * PALLOC_E_NO_WRITER (ESTALE): the writer has closed the medium or died. The reader opens it anew.
 */
#include <palloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <time.h>
#endif

enum { ROWS = 4 };

struct row {
    char name[24];
    int64_t cents;
};

struct table {
    uint64_t changes;
    uint64_t rows[ROWS]; /* offsets */
};

struct root {
    uint64_t table; /* its offset, 0 at first */
};

static void fail(void)
{
    fprintf(stderr, "%s\n", palloc_error());
    exit(1);
}

static void *not_null(void *data)
{
    if (data == NULL)
        fail();
    return data;
}

static void must(int good)
{
    if (!good)
        fail();
}

static void wait_ms(unsigned milliseconds)
{
#ifdef _WIN32
    Sleep(milliseconds);
#else
    struct timespec wait;

    wait.tv_sec = milliseconds / 1000;
    wait.tv_nsec = milliseconds % 1000 * 1000000L;
    nanosleep(&wait, NULL);
#endif
}

/* The word, by one load: another process may store it at any time. */
static uint64_t table_of(const struct root *root)
{
    return *(const volatile uint64_t *)&root->table;
}

/* The writer */

static uint64_t new_row(struct palloc_tx *tx, const char *name, int64_t cents)
{
    uint64_t offset = palloc_tx_alloc(tx, sizeof(struct row));
    struct row *row;

    must(offset != 0);
    row = not_null(palloc_tx_data(tx, offset));
    memset(row, 0, sizeof *row);
    strncpy(row->name, name, sizeof row->name - 1);
    row->cents = cents;
    return offset;
}

/* The table takes the place of the one that is there. */
static void commit_table(struct palloc_t *pt, struct palloc_tx *tx, uint64_t root, const struct table *table)
{
    uint64_t old = table_of(not_null(palloc_data(pt, root))), offset = palloc_tx_alloc(tx, sizeof *table);

    must(offset != 0);
    memcpy(not_null(palloc_tx_data(tx, offset)), table, sizeof *table);
    must(old == 0 || palloc_tx_free(tx, old) == 0);
    must(palloc_tx_store(tx, root + offsetof(struct root, table), &offset, sizeof offset) == 0);
    must(palloc_commit(tx) == 0);
}

static void make_table(struct palloc_t *pt, uint64_t root)
{
    static const char *const names[ROWS] = {"Ada", "Ben", "Cleo", "Dan"};
    struct palloc_tx *tx = palloc_begin(pt);
    struct table table = {0, {0}};
    int i;

    must(tx != NULL);
    for (i = 0; i < ROWS; i++)
        table.rows[i] = new_row(tx, names[i], 10000);
    commit_table(pt, tx, root, &table);
}

static void transfer(struct palloc_t *pt, uint64_t root, int from, int to, int64_t cents)
{
    struct table table = *(struct table *)not_null(palloc_data(pt, table_of(not_null(palloc_data(pt, root)))));
    int both[2], i;
    struct palloc_tx *tx = palloc_begin(pt);

    must(tx != NULL);
    both[0] = from;
    both[1] = to;
    for (i = 0; i < 2; i++) {
        uint64_t *place = &table.rows[both[i]];
        const struct row *row = not_null(palloc_data(pt, *place));

        must(palloc_tx_free(tx, *place) == 0);
        *place = new_row(tx, row->name, row->cents + (i == 0 ? -cents : cents));
    }
    table.changes++;
    commit_table(pt, tx, root, &table);
}

static struct palloc_t *open_to_write(const char *file, uint64_t *root)
{
    struct palloc_t *pt = not_null(palloc_init(file, PALLOC_DYNAMIC | PALLOC_SHARED));

    *root = palloc_root(pt, sizeof(struct root));
    must(*root != 0);
    if (table_of(not_null(palloc_data(pt, *root))) == 0)
        make_table(pt, *root);
    return pt;
}

static void write_for_ever(const char *file)
{
    uint64_t root;
    struct palloc_t *pt = open_to_write(file, &root);
    int i;

    for (i = 0;; i++) {
        transfer(pt, root, i % ROWS, (i + 1 + i / ROWS % (ROWS - 1)) % ROWS, 100 + i % 50);
        wait_ms(100);
    }
}

/* The readers */

struct copy {
    uint64_t changes;
    struct row rows[ROWS];
};

/* Copies the table, in a section that has begun. */
static void copy_table(struct palloc_t *pt, struct copy *copy)
{
    const struct root *root = not_null(palloc_data(pt, palloc_first(pt)));
    const struct table *table = not_null(palloc_data(pt, table_of(root)));
    int i;

    copy->changes = table->changes;
    for (i = 0; i < ROWS; i++)
        copy->rows[i] = *(const struct row *)not_null(palloc_data(pt, table->rows[i]));
}

static void print_table(const struct copy *copy)
{
    int64_t sum = 0;
    int i;

    printf("after %d transfers:", (int)copy->changes);
    for (i = 0; i < ROWS; i++) {
        printf(" %s %d.%02d", copy->rows[i].name, (int)(copy->rows[i].cents / 100), (int)(copy->rows[i].cents % 100));
        sum += copy->rows[i].cents;
    }
    printf("; together %d.%02d\n", (int)(sum / 100), (int)(sum % 100));
    fflush(stdout);
}

static void read_for_ever(const char *file)
{
    struct palloc_t *pt = not_null(palloc_init(file, PALLOC_READONLY | PALLOC_SHARED));
    struct copy copy;

    for (;;) {
        while (palloc_read_begin(pt) != 0) {
            must(errno == PALLOC_E_NO_WRITER);
            palloc_close(pt);
            while ((pt = palloc_init(file, PALLOC_READONLY | PALLOC_SHARED)) == NULL) {
                must(errno == EWOULDBLOCK); /* a writer is just opening it */
                wait_ms(10);
            }
        }
        copy_table(pt, &copy);
        palloc_read_end(pt);
        print_table(&copy);
        wait_ms(1000);
    }
}

/* Both, step by step. A medium can be open twice in a process: as if it was in two. */
static void show(const char *file)
{
    uint64_t root;
    struct palloc_t *writer = open_to_write(file, &root), *reader = not_null(palloc_init(file, PALLOC_READONLY | PALLOC_SHARED));
    struct copy copy;

    must(palloc_read_begin(reader) == 0);
    copy_table(reader, &copy);
    palloc_read_end(reader);
    print_table(&copy);

    must(palloc_read_begin(reader) == 0);
    {
        const struct root *words = not_null(palloc_data(reader, palloc_first(reader)));
        const struct table *table = not_null(palloc_data(reader, table_of(words)));
        const struct row *first = not_null(palloc_data(reader, table->rows[0]));

        transfer(writer, root, 0, 1, 2550);
        transfer(writer, root, 1, 2, 99);
        /* The old table and its rows are freed, but not yet for others: the section goes on. */
        printf("in the section %s still has %d.%02d\n", first->name, (int)(first->cents / 100), (int)(first->cents % 100));
    }
    palloc_read_end(reader);

    must(palloc_read_begin(reader) == 0);
    copy_table(reader, &copy);
    palloc_read_end(reader);
    print_table(&copy);

    palloc_close(writer);
    if (palloc_read_begin(reader) != 0 && errno == PALLOC_E_NO_WRITER)
        printf("the writer has closed it\n");
    palloc_close(reader);
}

int main(int argc, char **argv)
{
    const char *file = argc > 2 ? argv[2] : "table.db";

    if (argc > 1 && strcmp(argv[1], "write") == 0)
        write_for_ever(file);
    else if (argc > 1 && strcmp(argv[1], "read") == 0)
        read_for_ever(file);
    else if (argc > 1)
        return fprintf(stderr, "usage: %s [write|read [FILE]]\n", argv[0]), 2;
    show(file);
    return 0;
}
