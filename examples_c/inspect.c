/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Shows the contents of a medium: its blocks, figures, a map, and whether the file is sound. The file is only read.
 *
 *     inspect [-a] FILE        -a lists all blocks, not only the first 40
 *
 * Without FILE it makes sample.db and inspects that. Exit status: 0 for a sound medium, 1 for one with violations or an error.
 */
#include <ctype.h>
#include <palloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 64
#define ROWS 8
#define CELLS (COLUMNS * ROWS)

struct view {
    struct palloc_t *pt;
    unsigned long long blocks, most;
    char map[CELLS];
    uint64_t cell; /* bytes of the medium for each character of the map */
};

/* Enters the bytes from `start` to `end` into the map. */
static void draw(struct view *v, uint64_t start, uint64_t end, char kind)
{
    uint64_t i;

    for (i = start / v->cell; i <= (end - 1) / v->cell; i++)
        v->map[i] = v->map[i] == 0 || v->map[i] == kind ? kind : '+';
}

/* palloc_walk calls this for every block in turn. */
static int show(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    struct view *v = user;
    const unsigned char *data;
    uint64_t i;

    /* A block is its data and a marker of 8 bytes on either side. */
    draw(v, ptr - 8, ptr + size + 8, is_free ? '.' : '#');
    if (v->blocks++ >= v->most)
        return 0;
    printf("%12llu %12llu  %s", (unsigned long long)ptr, (unsigned long long)size, is_free ? "free\n" : "blob  ");
    if (is_free)
        return 0;
    data = palloc_data(v->pt, ptr);
    for (i = 0; data != NULL && i < size && i < 24; i++)
        putchar(isprint(data[i]) ? data[i] : '.');
    printf("%s\n", size > 24 ? "..." : "");
    return 0;
}

static void violation(void *user, uint64_t offset, const char *what)
{
    (void)user;
    printf("%12llu  %s\n", (unsigned long long)offset, what);
}

/* Makes a medium with some live and some free blocks. */
static int make_sample(const char *file)
{
    struct palloc_t *pt;
    uint64_t ptr[12];
    size_t i;

    remove(file);
    pt = palloc_init(file, PALLOC_DYNAMIC);
    if (pt == NULL)
        return 0;
    for (i = 0; i < 12; i++) {
        char *text;
        ptr[i] = palloc(pt, 20 + i * i * 7);
        text = palloc_data(pt, ptr[i]);
        if (text == NULL)
            return 0;
        memset(text, 0, palloc_size(pt, ptr[i]));
        snprintf(text, 20, "blob number %d", (int)i);
    }
    for (i = 2; i < 12; i += 3)
        pfree(pt, ptr[i]);
    palloc_close(pt);
    return 1;
}

static int inspect(const char *file, unsigned long long most)
{
    struct view v;
    struct palloc_stat stat;
    int64_t violations;
    uint64_t i;
    int opened;

    memset(&v, 0, sizeof v);
    v.most = most;

    /* READONLY shares the medium with other readers and writes nothing, not even a repair. */
    v.pt = palloc_init(file, PALLOC_READONLY);
    opened = v.pt != NULL;
    if (!opened) {
        printf("%s\n", palloc_error()); /* the check below may report more */
    } else {
        v.cell = v.pt->size / CELLS + 1;
        if (v.cell < 16)
            v.cell = 16;
        if (palloc_stat(v.pt, &stat) != 0) {
            fprintf(stderr, "%s\n", palloc_error());
            palloc_close(v.pt);
            return 1;
        }
        printf("%s: %s medium of %llu bytes%s\n\n", file, v.pt->flags & PALLOC_DYNAMIC ? "dynamic" : "static",
               (unsigned long long)stat.medium_size, v.pt->flags & PALLOC_SYNC ? ", SYNC" : "");
        printf("%12s %12s\n", "offset", "size");
        if (palloc_walk(v.pt, show, &v) != 0)
            printf("%s\n", palloc_error());
        if (v.blocks > v.most)
            printf("%12s and %llu more\n", "...", v.blocks - v.most);
        printf("\n%12llu blobs of %llu bytes\n", (unsigned long long)stat.live_blobs, (unsigned long long)stat.live_bytes);
        printf("%12llu free blocks of %llu bytes, the largest of %llu\n", (unsigned long long)stat.free_blocks,
               (unsigned long long)stat.free_bytes, (unsigned long long)stat.largest_free);
        if (stat.free_bytes > 0)
            printf("%11.1f%% of the free bytes are outside of the largest free block\n",
                   100.0 - 100.0 * (double)stat.largest_free / (double)stat.free_bytes);

        printf("\nmap, %llu bytes to a character: # blobs, . free, + both\n", (unsigned long long)v.cell);
        for (i = 0; i * v.cell < v.pt->size; i++)
            printf("%s%c", i > 0 && i % COLUMNS == 0 ? "\n" : "", v.map[i] != 0 ? v.map[i] : ' ');
        printf("\n");
        palloc_close(v.pt);
    }

    printf("\ncheck:\n");
    violations = palloc_check(file, violation, NULL);
    if (violations < 0)
        printf("%s\n", palloc_error());
    else
        printf("%12lld violations of the format\n", (long long)violations);
    return violations == 0 && opened ? 0 : 1;
}

int main(int argc, char **argv)
{
    int all = argc > 1 && strcmp(argv[1], "-a") == 0;
    const char *file = argc > 1 + all ? argv[1 + all] : NULL;

    if (file == NULL) {
        file = "sample.db";
        if (!make_sample(file)) {
            fprintf(stderr, "%s\n", palloc_error());
            return 1;
        }
    }
    return inspect(file, all ? ~0ULL : 40);
}
