/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Media that pass from one machine to another, of every kind and of both generations.
 *
 *     palloc_exchange                 writes a set of media, and takes it over as if another machine had written it
 *     palloc_exchange write DIR       writes the set into a directory: the same bytes on every machine
 *     palloc_exchange take DIR SEED   opens the media of the set that lies there, checks every blob, does random work, and leaves them
 *
 * Some media are as a kill or a power cut in a transaction leaves them. Each machine leaves them so again.
 *
 * Beside each medium, NAME.db, a text NAME.txt has its blobs, a line for each: offset, size, id of the bytes' pattern, how many of them
 * hold it. c_tests/cross.sh carries sets between the machines it can run.
 */
#include "palloc_util.h"

/* How far the last transaction of a medium had come when its process was killed, or the power was cut. */
enum transaction {
    NO_TRANSACTION,
    OPEN,        /* not committed */
    COMMITTED,   /* its record is on the disk, and nothing else */
    PARTLY_DONE, /* some of its changes too, whichever */
    DONE,        /* all of them */
    BOTH,        /* all of them, and the record of the transaction before it, which was not taken back on the disk, has its tag still */
};

static const struct kind {
    const char *name;
    uint32_t flags;
    uint64_t zeros;     /* the file before it is a medium */
    const char *golden; /* or what the original wrote */
    int descriptors;    /* second generation */
    int unclosed;       /* as a kill leaves it */
    unsigned steps;
    enum transaction transaction;
} kinds[] = {
    {"dynamic", PALLOC_DYNAMIC, 0, NULL, 0, 0, 800, NO_TRANSACTION},
    {"static", PALLOC_DEFAULT, 60000, NULL, 0, 0, 800, NO_TRANSACTION},
    {"sync", PALLOC_DYNAMIC | PALLOC_SYNC, 0, NULL, 0, 0, 30, NO_TRANSACTION},
    {"unclosed", PALLOC_DYNAMIC, 0, NULL, 0, 1, 800, NO_TRANSACTION},
    {"unclosed_static", PALLOC_DEFAULT, 60000, NULL, 0, 1, 800, NO_TRANSACTION},
    {"descriptors", PALLOC_DYNAMIC, 0, NULL, 1, 0, 300, NO_TRANSACTION},
    {"descriptors_static", PALLOC_DEFAULT, 60000, NULL, 1, 0, 300, NO_TRANSACTION},
    {"odd", PALLOC_DYNAMIC, 0, "g1_03_dynamic_fragmented", 0, 0, 0, NO_TRANSACTION},
    {"odd_changed", PALLOC_DYNAMIC, 0, "g1_03_dynamic_fragmented", 0, 0, 300, NO_TRANSACTION},
    {"odd_static", PALLOC_DEFAULT, 0, "h_05_static_fragmented_4096", 0, 0, 300, NO_TRANSACTION},
    {"odd_descriptors", PALLOC_DYNAMIC, 0, "h_02_dynamic_grow", 1, 0, 300, NO_TRANSACTION},
    {"tx_open", PALLOC_DYNAMIC, 0, NULL, 0, 0, 300, OPEN},
    {"tx_open_static", PALLOC_DEFAULT, 90000, NULL, 0, 0, 300, OPEN},
    {"tx_committed", PALLOC_DYNAMIC | PALLOC_SYNC, 0, NULL, 0, 0, 40, COMMITTED},
    {"tx_committed_static", PALLOC_SYNC, 90000, NULL, 0, 0, 40, COMMITTED},
    {"tx_partly_done", PALLOC_DYNAMIC | PALLOC_SYNC, 0, NULL, 0, 0, 40, PARTLY_DONE},
    {"tx_partly_done_static", PALLOC_SYNC, 90000, NULL, 0, 0, 40, PARTLY_DONE},
    {"tx_done", PALLOC_DYNAMIC | PALLOC_SYNC, 0, NULL, 0, 0, 40, DONE},
    {"tx_both", PALLOC_DYNAMIC | PALLOC_SYNC, 0, NULL, 0, 0, 40, BOTH},
    {"tx_both_static", PALLOC_SYNC, 90000, NULL, 0, 0, 40, BOTH},
    {"tx_odd_committed", PALLOC_DYNAMIC | PALLOC_SYNC, 0, "g1_03_dynamic_fragmented", 0, 0, 40, COMMITTED},
    {"tx_odd_partly_done", PALLOC_DYNAMIC | PALLOC_SYNC, 0, "g1_03_dynamic_fragmented", 0, 0, 40, PARTLY_DONE},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static const char *path_of(const char *dir, const char *name, const char *end)
{
    static char paths[4][4096];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s%s", dir, name, end);
    return path;
}

static void table_write(const struct shadow *s, const char *path)
{
    FILE *file = fopen(path, "wb");
    size_t i;

    REQUIRE(file != NULL);
    for (i = 0; i < s->count; i++)
        fprintf(file, "%llu %llu %llu %llu\n", (unsigned long long)s->at[i].ptr, (unsigned long long)s->at[i].size,
                (unsigned long long)s->at[i].id, (unsigned long long)s->at[i].sure);
    REQUIRE(fclose(file) == 0);
}

static void table_read(struct shadow *s, const char *path)
{
    FILE *file = fopen(path, "r");
    unsigned long long ptr, size, id, sure;

    REQUIRE(file != NULL);
    while (fscanf(file, "%llu %llu %llu %llu", &ptr, &size, &id, &sure) == 4)
        REQUIRE(shadow_add(s, ptr, size, id, sure) != SIZE_MAX);
    REQUIRE(feof(file));
    fclose(file);
}

/* Bytes that were there before are whatever they are. */
static void adopt(struct shadow *s, const char *path)
{
    struct palloc_t *pt = palloc_init(path, PALLOC_READONLY);

    REQUIRE(pt != NULL);
    shadow_adopt(s, pt);
    palloc_close(pt);
}

/* Allocations and frees through a descriptor. The walk is that of the shadow, before and after. */
static int work_by_descriptor(const char *path, const struct kind *kind, struct shadow *s, struct rng *rng, unsigned steps)
{
    int fd = palloc_fd_open(path, kind->flags);
    uint64_t ptr = 0;
    uint8_t *bytes = xmalloc((size_t)s->max_size + 64);
    size_t i;

    MUST(s, CHECK(fd > 0) && CHECK_EQ_I(palloc_fd_init(fd, kind->flags), 0));
    for (i = 0; i < s->count; i++) {
        struct blob b = s->at[i];
        MUST(s, CHECK_EQ_U(ptr = palloc_fd_next(fd, ptr), b.ptr) && CHECK_EQ_U(palloc_fd_size(fd, ptr), b.size));
        MUST(s, CHECK(b.sure <= s->max_size + 64) && CHECK_EQ_I(pread(fd, bytes, (size_t)b.sure, (off_t)ptr), b.sure));
        MUST(s, CHECK_EQ_U(pattern_match(bytes, b.id, b.sure), b.sure));
    }
    MUST(s, CHECK_EQ_U(palloc_fd_next(fd, ptr), 0));
    for (; steps > 0; steps--) {
        uint64_t size;
        if (s->count > 0 && (rng_below(rng, 3) == 0 || s->count >= s->max_count)) {
            i = (size_t)rng_below(rng, s->count);
            MUST(s, CHECK_EQ_I(palloc_fd_free(fd, s->at[i].ptr), 0));
            shadow_remove(s, i);
            continue;
        }
        ptr = palloc_fd_alloc(fd, rng_size(rng, s->max_size));
        if (ptr == 0 && (kind->flags & PALLOC_DYNAMIC) == 0)
            continue; /* full */
        MUST(s, CHECK(ptr != 0));
        size = palloc_fd_size(fd, ptr);
        MUST(s, CHECK(size <= s->max_size + 64));
        pattern_fill(bytes, s->next_id, 0, size);
        MUST(s, CHECK_EQ_I(pwrite(fd, bytes, (size_t)size, (off_t)ptr), size));
        MUST(s, shadow_add(s, ptr, size, s->next_id++, size) != SIZE_MAX);
    }
    MUST(s, CHECK_EQ_I(palloc_fd_close(fd), 0));
    free(bytes);
    return 1;
}

/* The first block whose end marker begins with `tag`; 0 if no block's does. The chain is read as it is. */
static uint64_t block_with_tag(const struct bytes *b, const char *tag)
{
    uint64_t at = 8, next;

    for (; at + 32 <= b->size; at = next) {
        next = at + 16 + (get64(b->at + at) & ~FREE_BIT);
        if (next <= at || next > b->size)
            return 0; /* it ends with what is kept for growth */
        if (memcmp(b->at + next - 8, tag, 2) == 0)
            return at;
    }
    return 0;
}

static int is_free_block(const struct bytes *b, uint64_t start)
{
    uint64_t at = 8;

    while (at < start && at + 32 <= b->size)
        at += 16 + (get64(b->at + at) & ~FREE_BIT);
    return at == start && at + 8 <= b->size && (get64(b->at + at) & FREE_BIT) != 0;
}

/* With COMMITTED always, with PARTLY_DONE now and then, bytes that a commit changes are what they were before. */
static void undo(struct bytes *after, const struct bytes *before, uint64_t at, uint64_t size, const struct kind *kind, struct rng *rng)
{
    if (kind->transaction == COMMITTED || (kind->transaction == PARTLY_DONE && rng_below(rng, 2) == 0))
        memcpy(after->at + at, before->at + at, (size_t)size);
}

/*
 * A transaction that allocates, frees and stores. Closes the medium, and leaves the file as if the process had ended in the transaction.
 *
 * With PALLOC_SYNC the record of a transaction is in the file until the next operation. So a copy that was made after the commit is what a
 * power cut leaves once all changes are on the disk. If only some are, the other places have the bytes of a copy from before the commit.
 */
static int end_in_transaction(struct palloc_t *pt, const char *path, const struct kind *kind, struct shadow *s, struct rng *rng)
{
    enum { BLOBS = 6 };
    struct palloc_tx *tx;
    struct blob made[BLOBS], freed[BLOBS / 2], stored[BLOBS / 2];
    struct bytes before, after;
    uint8_t *bytes = xmalloc((size_t)s->max_size * 2 + 64);
    uint8_t tag[8] = {0};
    uint64_t log, place = 0;
    size_t k, first;
    unsigned regions = 0;

    for (k = 0; k < 4 * BLOBS && s->count < 2 * BLOBS; k++)
        MUST(s, model_palloc(pt, s, rng));
    palloc_close(pt); /* so that no address is in use: on Windows a medium whose addresses are in use is not cut, and grows by more */
    pt = palloc_init(path, kind->flags);
    MUST(s, CHECK(pt != NULL));
    MUST(s, CHECK(s->count >= 2 * BLOBS));
    first = (size_t)rng_below(rng, s->count - BLOBS);
    if (kind->transaction == BOTH) { /* its stores are not those that are found: a replay goes by age */
        memset(bytes, 7, 8);
        tx = palloc_begin(pt);
        for (k = 0; k < BLOBS / 2; k++)
            MUST(s, CHECK_EQ_I(palloc_tx_store(tx, s->at[first + 2 * k + 1].ptr, bytes, 8), 0));
        MUST(s, CHECK_EQ_I(palloc_commit(tx), 0));
        file_copy(path, "before.copy");
        before = file_read("before.copy");
        log = block_with_tag(&before, "TX");
        place = log + 8 + get64(before.at + log);
        MUST(s, CHECK(log != 0));
        memcpy(tag, before.at + place, 8);
        bytes_free(&before);
    }
    tx = palloc_begin(pt);
    MUST(s, CHECK(tx != NULL));
    for (k = 0; k < BLOBS; k++) {
        struct blob *b = &made[k];
        void *data;
        b->sure = rng_size(rng, s->max_size);
        b->id = s->next_id++;
        b->ptr = palloc_tx_alloc(tx, (size_t)b->sure);
        data = b->ptr != 0 ? palloc_tx_data(tx, b->ptr) : NULL;
        MUST(s, CHECK(data != NULL));
        pattern_fill(data, b->id, 0, b->sure);
    }
    for (k = 0; k < BLOBS / 2; k++) {
        freed[k] = s->at[first + 2 * k];
        MUST(s, CHECK_EQ_I(palloc_tx_free(tx, freed[k].ptr), 0));
        stored[k] = s->at[first + 2 * k + 1];
        stored[k].id = s->next_id++;
        stored[k].sure = stored[k].size < s->max_size ? stored[k].size : s->max_size;
        pattern_fill(bytes, stored[k].id, 0, stored[k].sure);
        MUST(s, CHECK_EQ_I(palloc_tx_store(tx, stored[k].ptr, bytes, (size_t)stored[k].sure), 0));
    }
    free(bytes);
    file_copy(path, "before.copy");
    before = file_read("before.copy");
    if (kind->transaction == OPEN) {
        CHECK(block_with_tag(&before, "RS") != 0 && block_with_tag(&before, "TX") == 0);
        palloc_close(pt);
        file_write(path, before.at, before.size);
        bytes_free(&before);
        unlink("before.copy");
        return 1;
    }
    MUST(s, CHECK_EQ_I(palloc_commit(tx), 0));
    file_copy(path, "after.copy");
    after = file_read("after.copy");
    for (k = 0; k < BLOBS / 2; k++) {
        shadow_remove(s, shadow_find(s, freed[k].ptr));
        s->at[shadow_find(s, stored[k].ptr)] = stored[k];
        undo(&after, &before, freed[k].ptr - 8, 8, kind, rng);
        undo(&after, &before, stored[k].ptr, stored[k].sure, kind, rng);
    }
    for (k = 0; k < BLOBS; k++) {
        made[k].size = palloc_size(pt, made[k].ptr);
        MUST(s, shadow_add(s, made[k].ptr, made[k].size, made[k].id, made[k].sure) != SIZE_MAX);
        if (is_free_block(&before, made[k].ptr - 8)) {
            regions++;
            undo(&after, &before, made[k].ptr - 8, 8, kind, rng);
        }
    }
    CHECK(regions > 0 && block_with_tag(&after, "TX") != 0);
    if (kind->transaction == BOTH) {
        CHECK(memcmp(after.at + place, "RS", 2) == 0);
        memcpy(after.at + place, tag, sizeof tag);
    }
    palloc_close(pt);
    file_write(path, after.at, after.size);
    bytes_free(&before);
    bytes_free(&after);
    unlink("before.copy"), unlink("after.copy");
    return 1;
}

static int work(const char *path, const struct kind *kind, struct shadow *s, struct rng *rng, unsigned steps)
{
    struct palloc_t *pt;
    int good;

    if (kind->descriptors)
        return work_by_descriptor(path, kind, s, rng, steps);
    pt = palloc_init(path, kind->flags);
    MUST(s, CHECK(pt != NULL));
    good = shadow_matches(s, pt, BY_ADDRESS) && shadow_matches(s, pt, BY_DESCRIPTOR);
    while (good && steps-- > 0)
        good = model_step(pt, s, rng);
    good = good && CHECK_VIEW(pt);
    if (good && kind->transaction != NO_TRANSACTION)
        return end_in_transaction(pt, path, kind, s, rng);
    if (kind->unclosed)
        file_copy(path, "unclosed.copy");
    palloc_close(pt);
    if (kind->unclosed)
        file_copy("unclosed.copy", path), unlink("unclosed.copy");
    else
        good = good && CHECK_SOUND(path);
    return good;
}

static void write_set(const char *dir)
{
    size_t i;

    for (i = 0; i < KINDS; i++) {
        const struct kind *kind = &kinds[i];
        const char *path = path_of(dir, kind->name, ".db");
        struct shadow s;
        struct rng rng = {1000 + i};

        TESTF("%s-is-written", kind->name);
        shadow_init(&s, 1000 + i, 700, 60, 0);
        unlink(path);
        if (kind->golden != NULL) {
            char golden[4096];
            REQUIRE(getenv("TEST_DATA") != NULL);
            snprintf(golden, sizeof golden, "%s/palloc/%s.db", getenv("TEST_DATA"), kind->golden);
            file_copy(golden, path);
            if (kind->steps > 0) /* else it passes as the original wrote it */
                adopt(&s, path);
        } else if (kind->zeros != 0) {
            file_zeros(path, kind->zeros);
        }
        if (kind->steps > 0)
            work(path, kind, &s, &rng, kind->steps);
        else
            adopt(&s, path);
        table_write(&s, path_of(dir, kind->name, ".txt"));
        shadow_free(&s);
    }
}

static void take_set(const char *dir, uint64_t seed)
{
    size_t i;

    for (i = 0; i < KINDS; i++) {
        const struct kind *kind = &kinds[i];
        const char *path = path_of(dir, kind->name, ".db");
        struct shadow s;
        struct rng rng = {2000 + 100 * seed + i};

        TESTF("%s-is-taken-over", kind->name);
        shadow_init(&s, 2000 + 100 * seed + i, 700, 60, 0);
        table_read(&s, path_of(dir, kind->name, ".txt"));
        CHECK(s.count > 0);
        work(path, kind, &s, &rng, (kind->flags & PALLOC_SYNC) != 0 ? 20 : 200);
        table_write(&s, path_of(dir, kind->name, ".txt"));
        shadow_free(&s);
    }
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        write_set(".");
        take_set(".", 1);
        take_set(".", 2);
    } else if (argc == 3 && strcmp(argv[1], "write") == 0) {
        write_set(argv[2]);
    } else if (argc == 4 && strcmp(argv[1], "take") == 0) {
        take_set(argv[2], strtoull(argv[3], NULL, 10));
    } else {
        fprintf(stderr, "usage: %s [write DIR | take DIR SEED]\n", argv[0]);
        return 2;
    }
    return tap_done();
}
