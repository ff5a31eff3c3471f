/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc_salvage: what damage did not touch is in the copy, at its place, with its bytes; the copy is sound; the damaged medium is as it
 * was. A damaged marker touches no blob.
 */
#include "failing_writes.h"
#include "palloc_util.h"

#include <dirent.h>
#include <sys/stat.h>

#if defined(__linux__) && defined(__LP64__)
#include <sys/resource.h>
#include <sys/syscall.h>
#define HAS_FAULTS 1

static uint64_t bad_from, bad_to; /* of the file that is open for reading only, these bytes can't be read */

ssize_t pread64(int fd, void *bytes, size_t n, off64_t at)
{
    if ((uint64_t)at < bad_to && (uint64_t)at + n > bad_from && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, bytes, n, at);
}
#endif

static char damaged[64], copy[64];
static unsigned reports;

static void report(void *user, uint64_t offset, const char *what)
{
    (void)offset;
    CHECK(user == &reports && what[0] != 0);
    reports++;
}

/* The words that a marker is overwritten by: zeros, ones, noise, plausible sizes. `n` is the block's, `next` that of the block behind it. */
enum { VALUES = 8 };

static uint64_t value_for(unsigned which, uint64_t was, uint64_t n, uint64_t next, uint64_t to_end, struct rng *rng)
{
    switch (which) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return rng_next(rng);
    case 3: return 16;
    case 4: return n + 16;
    case 5: return was ^ FREE_BIT;
    case 6: return to_end;
    default: return (n + 16 + next) | FREE_BIT; /* leads over the next block */
    }
}

/* Salvages the bytes, and returns the copy; the original must stay as it is. */
static struct bytes salvage(const struct bytes *b, uint32_t flags, struct palloc_salvage *out)
{
    struct bytes made;

    memset(&made, 0, sizeof made);
    file_write(damaged, b->at, b->size);
    unlink(copy);
    reports = 0;
    if (CHECK_EQ_I(palloc_salvage(damaged, copy, flags, report, &reports, out), 0)) {
        CHECK(file_is(damaged, b));
        CHECK_SOUND(copy);
        CHECK_EQ_U(reports, out->healed + out->lost_ranges);
        made = file_read(copy);
    } else {
        DIAG("%s", palloc_error());
    }
    return made;
}

static int has(const struct medium *m, uint64_t start, uint64_t n)
{
    size_t i;

    for (i = 0; i < m->blocks.count; i++)
        if (m->blocks.at[i].start == start)
            return !m->blocks.at[i].is_free && m->blocks.at[i].n >= n;
    return 0;
}

/* How many live blocks of `was` that do not touch [from, to) are not in the copy, with their bytes. */
static unsigned lost(const struct medium *was, const struct bytes *b, const struct bytes *made, uint64_t from, uint64_t to)
{
    struct medium is;
    unsigned count = 0;
    size_t i;

    medium_parse(&is, made->at, made->size);
    for (i = 0; i < was->blocks.count; i++) {
        const struct block *block = &was->blocks.at[i];

        if (block->is_free || (block->start < to && block->start + 16 + block->n > from))
            continue;
        if (!has(&is, block->start, block->n) || memcmp(made->at + block->start + 8, b->at + block->start + 8, block->n) != 0)
            count++;
    }
    medium_free(&is);
    return count;
}

/* Live blocks of the copy that start where none did. */
static unsigned invented(const struct medium *was, const struct bytes *made)
{
    struct medium is;
    unsigned count = 0;
    size_t i, k;

    medium_parse(&is, made->at, made->size);
    for (i = 0; i < is.blocks.count; i++) {
        for (k = 0; k < was->blocks.count && was->blocks.at[k].start != is.blocks.at[i].start; k++) {
        }
        count += !is.blocks.at[i].is_free && k == was->blocks.count;
    }
    medium_free(&is);
    return count;
}

/* ------------------------------------------------------------------------------------------------------------------ damaged markers */

static void one_marker(const struct medium *m, struct bytes *b, size_t i, int end, struct rng *rng)
{
    const struct block *block = &m->blocks.at[i];
    uint64_t at = end ? block->start + 8 + block->n : block->start, was = get64(b->at + at), value;
    uint64_t next = i + 1 < m->blocks.count ? m->blocks.at[i + 1].n : 32;
    struct palloc_salvage out;
    unsigned v;

    for (v = 0; v < VALUES; v++) {
        struct bytes made;

        value = value_for(v, was, block->n, next, b->size - 16 - block->start, rng);
        put64(b->at + at, value);
        made = salvage(b, 0, &out);
        put64(b->at + at, was);
        if (made.at == NULL) {
            DIAG("marker at %llu: %llx", (unsigned long long)at, (unsigned long long)value);
            return;
        }
        if (!CHECK_EQ_U(lost(m, b, &made, 0, 0), 0) || !CHECK_EQ_U(invented(m, &made), 0) || !CHECK_EQ_U(out.lost_ranges, 0)
            || !CHECK(out.blobs == m->live + (value == (was ^ FREE_BIT) && block->is_free)))
            DIAG("%s marker of the block at %llu: %llx", end ? "end" : "start", (unsigned long long)block->start,
                 (unsigned long long)value);
        bytes_free(&made);
    }
}

static void each_marker(const char *path, const char *name)
{
    struct bytes b = file_read(path);
    struct medium m;
    struct rng rng;
    size_t i;

    rng.state = 5;
    medium_parse(&m, b.at, b.size);
    TESTF("%s-with-any-one-marker-damaged-loses-no-blob", name);
    for (i = 0; i < m.blocks.count; i++) {
        one_marker(&m, &b, i, 0, &rng);
        one_marker(&m, &b, i, 1, &rng);
    }
    medium_free(&m);
    bytes_free(&b);
}

static struct bytes copy_of(const struct bytes *b)
{
    struct bytes c = bytes_new(b->size);

    memcpy(c.at, b->at, b->size);
    return c;
}

/* The blobs that are there once the medium is opened: those of a medium whose process was killed. */
static struct bytes opened(const struct bytes *b, struct medium *m)
{
    struct bytes made;

    file_write(copy, b->at, b->size);
    palloc_close(palloc_init(copy, PALLOC_DEFAULT));
    made = file_read(copy);
    medium_parse(m, made.at, made.size);
    CHECK_EQ_U(m->faults, 0);
    return made;
}

/* Live blocks of `was`, outside of [from, to), that `is` has too, with the same bytes: nothing happened to them in between. */
static struct medium unchanged(const struct medium *was, const struct bytes *b, const struct bytes *is, uint64_t from, uint64_t to)
{
    struct medium m;
    size_t i, k = 0;

    medium_parse(&m, b->at, b->size);
    for (i = 0; i < m.blocks.count; i++) {
        struct medium one = *was;

        one.blocks.at = &was->blocks.at[i];
        one.blocks.count = 1;
        if (lost(&one, b, is, from, to) == 0)
            m.blocks.at[k++] = m.blocks.at[i];
    }
    m.blocks.count = k;
    return m;
}

/*
 * A medium whose process was killed, perhaps in a transaction, with one word of its chain damaged. Where the kill was, only one of two
 * markers may be right, so the block of the word and those beside it can be lost. The record of a transaction stands once: if the word
 * is one of its, what the transaction did can be lost. `before` is the medium before it. Nothing else is lost.
 */
static void killed(const struct bytes *before, const struct bytes *b, unsigned every, struct rng *rng, unsigned *tried, unsigned *missing)
{
    struct medium m, raw, old;
    struct bytes sound = opened(b, &m), c = copy_of(b), was_sound = opened(before, &old), made;
    struct medium rest = unchanged(&old, &was_sound, &sound, 0, 0);
    struct palloc_salvage out;
    size_t i;
    unsigned end, v;

    medium_parse(&raw, b->at, b->size);
    made = salvage(b, 0, &out);
    CHECK_EQ_U(lost(&m, &sound, &made, 0, 0), 0);
    CHECK_EQ_U(out.lost_ranges, 0);
    bytes_free(&made);
    for (i = 0; i < raw.blocks.count * 2 * VALUES; i++) {
        const struct block *block = &raw.blocks.at[i / (2 * VALUES)];
        const struct block *next = block + 1 < raw.blocks.at + raw.blocks.count ? block + 1 : block;
        const struct block *previous = block > raw.blocks.at ? block - 1 : block;
        uint64_t end_marker = block->start + 8 + block->n, at, was;
        int is_record = !block->is_free && get64(b->at + end_marker) != block->n;

        v = i % VALUES;
        end = i / VALUES % 2;
        at = end ? end_marker : block->start;
        was = get64(b->at + at);
        if (rng_below(rng, every) != 0)
            continue;
        put64(c.at + at, value_for(v, was, block->n, next->n, b->size - 16 - block->start, rng));
        made = salvage(&c, 0, &out);
        if (!CHECK_EQ_U(is_record ? lost(&rest, &was_sound, &made, previous->start, next->start + 16 + next->n)
                                  : lost(&m, &sound, &made, previous->start, next->start + 16 + next->n), 0))
            DIAG("%s marker of the block at %llu: %llx", end ? "end" : "start", (unsigned long long)block->start,
                 (unsigned long long)get64(c.at + at));
        *missing += lost(&m, &sound, &made, 0, 0);
        ++*tried;
        bytes_free(&made);
        put64(c.at + at, was);
    }
    medium_free(&m);
    medium_free(&raw);
    medium_free(&old);
    medium_free(&rest);
    bytes_free(&sound);
    bytes_free(&was_sound);
    bytes_free(&c);
}

/* A medium as a kill in front of each store of a commit leaves it: the text beside it has these stores. */
static void each_step(const char *path, const char *name)
{
    struct bytes before = file_read(path), b = file_read(path);
    char text[4096], line[256] = "";
    unsigned steps = 0, tried = 0, missing = 0, offset, byte;
    struct rng rng;
    FILE *file;
    int n;

    rng.state = 8;
    snprintf(text, sizeof text, "%.*s.txt", (int)strlen(path) - 3, path);
    file = fopen(text, "r");
    REQUIRE(file != NULL);
    TESTF("%s-with-any-one-word-damaged-loses-blobs-beside-it-or-of-its-transaction-only", name);
    do {
        const char *hex = line;

        if (steps > 0 && sscanf(line, " %u %n", &offset, &n) == 1)
            for (hex += n; sscanf(hex, "%2x", &byte) == 1 && offset < b.size; hex += 2)
                b.at[offset++] = (uint8_t)byte;
        if (steps > 0 || strcmp(line, "steps\n") == 0) {
            killed(&before, &b, tap_every(4), &rng, &tried, &missing);
            steps++;
        }
    } while (fgets(line, sizeof line, file) != NULL && (steps == 0 || line[0] == ' '));
    fclose(file);
    CHECK(steps > 10 && tried > 400);
    DIAG("%u states, %u damaged words: %u blobs lost", steps, tried, missing);
    bytes_free(&b);
    bytes_free(&before);
}

static void golden(const char *directory)
{
    DIR *dir = opendir(directory);
    struct dirent *entry;
    unsigned count = 0;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        char path[4096];
        size_t len = strlen(entry->d_name);

        if (len < 3 || strcmp(entry->d_name + len - 3, ".db") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (strncmp(entry->d_name, "tx_", 3) == 0) {
            each_step(path, entry->d_name);
            continue;
        }
        each_marker(path, entry->d_name);
        count++;
    }
    closedir(dir);
    CHECK(count > 5);
}

/* --------------------------------------------------------------------------------------------------------------- media made by hand */

enum { COUNT = 40, LONGEST = 10, LONG_SIZE = 2000 };

/* A medium of live blocks with bytes that are no markers; one, and the last, are longer. Blocks of odd media start at any offset. */
static struct bytes by_hand(struct medium *m, unsigned count, int odd)
{
    struct bytes b;
    unsigned i;

    memset(&b, 0, sizeof b);
    build_header(&b, PALLOC_DYNAMIC);
    for (i = 0; i < count; i++) {
        uint64_t n = i == LONGEST || i == count - 1 ? LONG_SIZE : odd ? 33 + 7 * i : 48 + 16 * i;
        uint64_t start = build_block(&b, n, 0);

        memset(b.at + start + 8, 0xee - (int)i, n);
    }
    medium_parse(m, b.at, b.size);
    CHECK_EQ_U(m->faults, 0);
    return b;
}

static uint64_t start_of(const struct medium *m, unsigned i)
{
    return m->blocks.at[i].start;
}

static uint64_t end_marker_of(const struct medium *m, unsigned i)
{
    return m->blocks.at[i].start + 8 + m->blocks.at[i].n;
}

/* The bytes of the block look like `count` small blocks. */
static void put_image(struct bytes *b, const struct medium *m, unsigned i, unsigned count)
{
    uint64_t at = start_of(m, i) + 8 + 64;

    for (; count > 0; count--, at += 48) {
        put64(b->at + at, 32);
        put64(b->at + at + 40, 32);
    }
}

/* Of the blocks of `was` those from `first` on, `gone` of them, are lost, as one range, and no others. */
static void expect(const struct medium *was, const struct bytes *sound, const struct bytes *b, unsigned first, unsigned gone, uint64_t healed)
{
    struct palloc_salvage out;
    uint64_t from = gone > 0 ? start_of(was, first) : 0, to = gone > 0 ? end_marker_of(was, first + gone - 1) + 8 : 0;
    struct bytes made = salvage(b, 0, &out);

    if (made.at == NULL)
        return;
    CHECK_EQ_U(lost(was, sound, &made, from, to), 0);
    CHECK_EQ_U(invented(was, &made), 0);
    CHECK_EQ_U(out.blobs, was->live - gone);
    CHECK_EQ_U(out.lost_ranges, gone > 0);
    CHECK_EQ_U(out.lost_bytes, to - from);
    CHECK_EQ_U(out.healed, healed);
    bytes_free(&made);
}

static void damage_block(struct bytes *b, const struct medium *m, unsigned i)
{
    put64(b->at + start_of(m, i), 7);
    put64(b->at + end_marker_of(m, i), 5);
}

static void rules(int odd)
{
    static const char *const odd_name[] = {"", "-odd"};
    struct medium m;
    struct bytes b = by_hand(&m, COUNT, odd), c;
    unsigned gap, fakes;

    TESTF("two-damaged-markers-with-whole-blocks-between-lose-no-blob%s", odd_name[odd]);
    for (gap = 1; gap < 7; gap++) {
        unsigned kind;

        for (kind = 0; kind < 4; kind++) {
            unsigned first = 12, second = first + 1 + gap;

            c = copy_of(&b);
            put64(c.at + (kind & 1 ? end_marker_of(&m, first) : start_of(&m, first)), 7);
            put64(c.at + (kind & 2 ? end_marker_of(&m, second) : start_of(&m, second)), 5);
            expect(&m, &b, &c, 0, 0, 2);
            bytes_free(&c);
        }
    }

    TESTF("a-block-without-markers-is-lost-and-no-other%s", odd_name[odd]);
    c = copy_of(&b);
    damage_block(&c, &m, 12);
    expect(&m, &b, &c, 12, 1, 0);
    bytes_free(&c);

    TESTF("bytes-that-look-like-blocks-are-no-blobs%s", odd_name[odd]);
    for (fakes = 1; fakes < 8; fakes++) {
        struct bytes sound = copy_of(&b);

        put_image(&sound, &m, LONGEST, fakes);
        put_image(&sound, &m, COUNT - 1, fakes);
        c = copy_of(&sound);
        put64(c.at + start_of(&m, LONGEST), 7);
        expect(&m, &sound, &c, 0, 0, 1);
        put64(c.at + start_of(&m, LONGEST), LONG_SIZE);
        put64(c.at + end_marker_of(&m, LONGEST), 7);
        expect(&m, &sound, &c, 0, 0, 1);
        bytes_free(&c);
        if (fakes == 1) { /* more are, in a blob that has lost both its markers */
            c = copy_of(&sound);
            damage_block(&c, &m, LONGEST);
            expect(&m, &sound, &c, LONGEST, 1, 0);
            bytes_free(&c);
        }
        c = copy_of(&sound); /* the last block has nothing behind it */
        put64(c.at + start_of(&m, COUNT - 1), 7);
        expect(&m, &sound, &c, 0, 0, 1);
        put64(c.at + start_of(&m, COUNT - 1), LONG_SIZE);
        put64(c.at + end_marker_of(&m, COUNT - 1), 7);
        expect(&m, &sound, &c, 0, 0, 1);
        bytes_free(&c);
        bytes_free(&sound);
    }

    TESTF("a-few-blocks-between-lost-ranges-are-kept%s", odd_name[odd]);
    for (gap = 2; gap < 8; gap++) {
        struct palloc_salvage out;
        struct bytes made;

        c = copy_of(&b);
        damage_block(&c, &m, 12);
        damage_block(&c, &m, 13 + gap);
        made = salvage(&c, 0, &out);
        CHECK_EQ_U(invented(&m, &made), 0);
        CHECK_EQ_U(out.blobs, COUNT - 2);
        CHECK_EQ_U(out.lost_ranges, 2);
        bytes_free(&made);
        memset(c.at + start_of(&m, 13 + gap), 0xee, c.size - start_of(&m, 13 + gap));
        made = salvage(&c, 0, &out);
        if (made.at == NULL)
            return;
        CHECK_EQ_U(out.blobs, 12 + gap);
        CHECK_EQ_U(out.lost_ranges, 2);
        bytes_free(&made);
        bytes_free(&c);
    }
    c = copy_of(&b); /* one is not enough: it may be bytes of a blob */
    put_image(&c, &m, LONGEST, 1);
    damage_block(&c, &m, LONGEST);
    memset(c.at + start_of(&m, LONGEST + 1), 0xee, c.size - start_of(&m, LONGEST + 1));
    {
        struct palloc_salvage out;
        struct bytes made = salvage(&c, 0, &out);

        CHECK_EQ_U(out.blobs, LONGEST);
        CHECK_EQ_U(out.lost_ranges, 1);
        bytes_free(&made);
    }
    bytes_free(&c);

    TESTF("a-last-block-that-is-cut-off-ends-with-the-file%s", odd_name[odd]);
    c = copy_of(&b);
    c.size -= 1000;
    {
        struct palloc_salvage out;
        struct bytes made = salvage(&c, 0, &out);

        CHECK_EQ_U(out.blobs, COUNT);
        CHECK_EQ_U(out.healed, 1);
        CHECK_EQ_U(out.lost_ranges, 0);
        CHECK(made.size == c.size && memcmp(made.at + start_of(&m, COUNT - 1) + 8, b.at + start_of(&m, COUNT - 1) + 8, LONG_SIZE - 1000) == 0);
        bytes_free(&made);
    }
    bytes_free(&c);
    medium_free(&m);
    bytes_free(&b);

    TESTF("bytes-behind-the-last-block-are-lost-and-zeros-are-not%s", odd_name[odd]);
    for (gap = 1; gap < 60; gap++) {
        struct palloc_salvage out;
        struct bytes made;

        b = by_hand(&m, 5, odd);
        c = bytes_new(b.size + gap);
        memcpy(c.at, b.at, b.size);
        memset(c.at + b.size, 0xee, gap);
        made = salvage(&c, 0, &out);
        if (made.at == NULL)
            return;
        CHECK_EQ_U(lost(&m, &b, &made, 0, 0), 0);
        CHECK_EQ_U(out.blobs, 5);
        CHECK_EQ_U(out.lost_ranges, 1);
        CHECK_EQ_U(out.lost_bytes, gap);
        bytes_free(&made);
        memset(c.at + b.size, 0, gap);
        expect(&m, &b, &c, 0, 0, 0);
        bytes_free(&c);
        medium_free(&m);
        bytes_free(&b);
    }

    TESTF("a-block-before-zeros-at-the-end-is-kept%s", odd_name[odd]);
    b = by_hand(&m, 13, odd);
    c = bytes_new(b.size + 4096);
    memcpy(c.at, b.at, b.size);
    damage_block(&c, &m, 11);
    expect(&m, &b, &c, 11, 1, 0);
    bytes_free(&c);
    medium_free(&m);
    bytes_free(&b);
}

/* -------------------------------------------------------------------------------------------------------------------- random ranges */

static void make(const char *path, unsigned blobs, unsigned largest)
{
    struct palloc_t *pt;
    struct rng rng;
    uint64_t ptr;
    unsigned i;

    rng.state = 9;
    unlink(path);
    pt = palloc_init(path, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (i = 0; i < blobs; i++) {
        ptr = palloc(pt, rng_below(&rng, largest));
        REQUIRE(ptr != 0);
        if (i % 2)
            memset(palloc_data(pt, ptr), 0, palloc_size(pt, ptr));
        else
            blob_write(pt, ptr, i, 0, palloc_size(pt, ptr), BY_ADDRESS);
    }
    for (ptr = palloc_first(pt), i = 0; ptr != 0; ptr = palloc_next(pt, ptr), i++)
        if (i % 5 == 0)
            pfree(pt, ptr);
    palloc_close(pt);
}

static void ranges(void)
{
    static const unsigned lengths[] = {1, 8, 100, 4096, 20000};
    struct bytes b, made;
    struct medium m;
    struct palloc_salvage out;
    struct rng rng;
    unsigned l, i;
    uint64_t blobs = 0;

    rng.state = 12;
    make(damaged, 1500, 512);
    b = file_read(damaged);
    medium_parse(&m, b.at, b.size);
    for (l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        unsigned len = lengths[l], worst = 0;

        TESTF("a-range-of-%u-bytes-that-is-damaged-loses-only-blobs-that-it-touches", len);
        for (i = 0; i < 60 / tap_every(6); i++) {
            struct bytes c = bytes_new(b.size);
            uint64_t at = 8 + rng_below(&rng, b.size - 8 - len);
            unsigned k;

            memcpy(c.at, b.at, b.size);
            for (k = 0; k < len; k++)
                c.at[at + k] = i % 2 ? (uint8_t)rng_next(&rng) : 0;
            made = salvage(&c, i % 3 == 0 ? PALLOC_SALVAGE_FREE : 0, &out);
            if (made.at == NULL)
                return;
            CHECK_EQ_U(lost(&m, &b, &made, at, at + len), 0);
            CHECK_EQ_U(invented(&m, &made), 0);
            CHECK(out.lost_bytes <= (uint64_t)len + 2 * 560 && out.lost_ranges <= 1);
            worst = out.blobs < m.live && m.live - out.blobs > worst ? (unsigned)(m.live - out.blobs) : worst;
            blobs += out.blobs;
            bytes_free(&made);
            bytes_free(&c);
        }
        DIAG("%u bytes: of %llu blobs at most %u are lost", len, (unsigned long long)m.live, worst);
    }

    TEST("many-ranges-that-are-damaged-lose-only-blobs-that-they-touch-and-those-alone-between-two");
    for (i = 0; i < 40 / tap_every(4); i++) {
        struct bytes c = copy_of(&b);
        struct medium is;
        unsigned k, alone = 0;
        size_t n;

        for (k = 0; k < 10 + 5 * (i % 8); k++) {
            uint64_t at = 8 + rng_below(&rng, b.size - 308);

            for (l = 0; l < 300; l++)
                c.at[at + l] = i % 2 ? (uint8_t)rng_next(&rng) : 0;
        }
        made = salvage(&c, 0, &out);
        if (made.at == NULL)
            return;
        medium_parse(&is, made.at, made.size);
        for (n = 1; n + 1 < m.blocks.count; n++) {
            const struct block *block = &m.blocks.at[n];

#define TOUCHED(which) (memcmp(c.at + (which)->start, b.at + (which)->start, (which)->n + 16) != 0)
            if (block->is_free || TOUCHED(block) || has(&is, block->start, block->n))
                continue;
            CHECK(TOUCHED(block - 1) && TOUCHED(block + 1));
            alone++;
        }
        CHECK_EQ_U(invented(&m, &made), 0);
        DIAG("%u ranges: %u untouched blobs are lost", k, alone);
        medium_free(&is);
        bytes_free(&made);
        bytes_free(&c);
    }

    TEST("many-markers-damaged-lose-few-blobs");
    for (i = 0; i < 20; i++) {
        struct bytes c = bytes_new(b.size);
        size_t k;

        memcpy(c.at, b.at, b.size);
        for (k = i % 7; k < m.blocks.count; k += 3 + i)
            put64(c.at + m.blocks.at[k].start + (i % 2 ? 8 + m.blocks.at[k].n : 0), i % 3 ? rng_next(&rng) : 0);
        made = salvage(&c, 0, &out);
        if (made.at == NULL)
            return;
        CHECK_EQ_U(lost(&m, &b, &made, 0, 0), 0);
        bytes_free(&made);
        bytes_free(&c);
    }
    CHECK(blobs > 0);
    medium_free(&m);
    bytes_free(&b);
}

/* --------------------------------------------------------------------------------------------------------------------------- errors */

static void no_trace(void)
{
    DIR *dir = opendir(".");
    struct dirent *entry;

    CHECK_EQ_I(access(copy, F_OK), -1);
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        CHECK(strstr(entry->d_name, ".tmp") == NULL);
    if (dir != NULL)
        closedir(dir);
}

static void errors(void)
{
#ifndef _WIN32
    char longest[4096];
#endif
    struct palloc_salvage out;
    struct palloc_t *pt;
    struct bytes b, made;
    uint64_t first, n, n_blobs;
    uint32_t flag;

    strcpy(damaged, "damaged.db");
    strcpy(copy, "copy.db");
    make(damaged, 300, 3000);
    b = file_read(damaged);
    n = get64(b.at + 8) & ~FREE_BIT;

    TEST("a-damaged-medium-is-refused-by-an-error-that-names-palloc_salvage");
    file_poke64(damaged, 8, 3);
    CHECK(palloc_init(damaged, PALLOC_DEFAULT) == NULL);
    CHECK_ERRNO(EILSEQ);
    CHECK_STR_CONTAINS(palloc_error(), "palloc_salvage");

    TEST("a-copy-that-is-there-already-is-EEXIST");
    unlink(copy);
    CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, NULL), 0);
    CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(EEXIST);
    CHECK_SOUND(copy);

    TEST("the-copy-of-a-medium-is-private-as-the-medium-is");
    {
        struct stat st;

        unlink(copy);
        REQUIRE(chmod(damaged, 0600) == 0);
        CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, NULL), 0);
        CHECK(stat(copy, &st) == 0);
#ifndef _WIN32
        CHECK_EQ_I(st.st_mode & 0777, 0600);
#endif
    }

    TEST("a-medium-that-is-open-for-writing-is-EWOULDBLOCK");
    unlink(copy);
    file_write(damaged, b.at, b.size);
    pt = palloc_init(damaged, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(EWOULDBLOCK);
    palloc_close(pt);
    no_trace();

    TEST("no-header-is-EINVAL-unless-forced");
    file_write(damaged, b.at, b.size);
    file_poke64(damaged, 0, 12345);
    CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "PALLOC_FORCE");
    no_trace();
    CHECK_EQ_I(palloc_salvage(damaged, copy, PALLOC_FORCE, NULL, NULL, &out), 0);
    made = file_read(copy);
    CHECK_EQ_U(made.size, b.size);
    CHECK_MEM(made.at, b.at, b.size);
    CHECK_EQ_U(out.healed, 0);
    bytes_free(&made);
    unlink(copy);
    file_poke64(damaged, 0, get64(b.at) | FREE_BIT >> 32);
    CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(ENOTSUP);
    CHECK_EQ_I(palloc_salvage(damaged, copy, PALLOC_FORCE, NULL, NULL, &out), 0);
    CHECK(file_is(copy, &b));
    unlink(copy);
    put64(b.at, get64(b.at) & ~(uint64_t)PALLOC_DYNAMIC);
    file_write(damaged, b.at, b.size);
    file_poke64(damaged, 0, get64(b.at) & UINT32_MAX); /* the half with the flags is undamaged */
    CHECK_EQ_I(palloc_salvage(damaged, copy, PALLOC_FORCE, NULL, NULL, &out), 0);
    CHECK(file_is(copy, &b));
    put64(b.at, get64(b.at) | PALLOC_DYNAMIC);
    unlink(copy);
    file_write(damaged, "PBA", 3);
    CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_salvage(damaged, copy, PALLOC_FORCE, NULL, NULL, &out), 0);
    CHECK_SOUND(copy);
    unlink(copy);

    TEST("bad-arguments-are-EINVAL-and-no-file-is-ENOENT");
    CHECK_EQ_I(palloc_salvage(NULL, copy, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_salvage(damaged, NULL, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(EINVAL);
    file_write(damaged, b.at, b.size);
    for (flag = 1; flag != 0; flag <<= 1) {
        int result = palloc_salvage(damaged, copy, flag, NULL, NULL, &out);

        CHECK_EQ_I(result, flag == PALLOC_FORCE || flag == PALLOC_SALVAGE_FREE ? 0 : -1);
        if (result != 0)
            CHECK_ERRNO(EINVAL);
        unlink(copy);
    }
    CHECK_EQ_I(palloc_salvage("nothing.db", copy, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(ENOENT);
    CHECK_EQ_I(palloc_salvage(".", copy, 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(EINVAL);
#ifndef _WIN32
    REQUIRE(mkfifo("fifo", 0600) == 0);
    CHECK_EQ_I(palloc_salvage("fifo", copy, PALLOC_FORCE, NULL, NULL, &out), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "neither a file");
    unlink("fifo");
#endif
    CHECK_EQ_I(palloc_salvage(damaged, "nowhere/copy.db", 0, NULL, NULL, &out), -1);
    CHECK_ERRNO(ENOENT);
    no_trace();

#ifndef _WIN32
    TEST("a-copy-can-have-the-longest-name");
    n = (uint64_t)pathconf(".", _PC_NAME_MAX);
    memset(longest, 'b', n);
    longest[n] = 0;
    CHECK_EQ_I(palloc_salvage(damaged, longest, 0, NULL, NULL, &out), 0);
    CHECK_EQ_I(unlink(longest), 0);
    no_trace();
    n = get64(b.at + 8) & ~FREE_BIT;
#endif

    TEST("a-sound-medium-is-copied-as-it-is");
    made = salvage(&b, 0, &out);
    CHECK_EQ_U(made.size, b.size);
    CHECK_MEM(made.at, b.at, b.size);
    CHECK_EQ_U(out.healed + out.lost_ranges + out.lost_bytes, 0);
    bytes_free(&made);
    unlink(copy);
    file_write(damaged, "PBA\0\0\0\0\1", 8); /* without a block */
    CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, &out), 0);
    CHECK_EQ_U(file_size(copy), 8);
    unlink(copy);

    TEST("a-lost-range-is-a-blob-or-with-PALLOC_SALVAGE_FREE-a-free-block");
    first = get64(b.at + 8);
    put64(b.at + 8, 5);
    put64(b.at + 16 + n, 7);
    made = salvage(&b, 0, &out);
    CHECK_EQ_U(get64(made.at + 8) & FREE_BIT, 0);
    CHECK_EQ_U(out.lost_ranges, 1);
    n_blobs = out.blobs;
    bytes_free(&made);
    made = salvage(&b, PALLOC_SALVAGE_FREE, &out);
    CHECK(get64(made.at + 8) & FREE_BIT);
    CHECK_EQ_U(out.lost_ranges, 1);
    CHECK_EQ_U(out.blobs, n_blobs); /* what stands for the range is no blob */
    bytes_free(&made);
    put64(b.at + 8, first);
    put64(b.at + 16 + n, first);

#ifdef HAS_FAULTS
    TEST("a-hole-of-1-TiB-to-which-no-marker-leads-is-passed-at-once");
    {
        int fd = open("sparse.db", O_RDWR | O_CREAT, 0600);
        uint64_t last, noise = 0x0102030405060708;

        if (fd >= 0 && ftruncate64(fd, 1LL << 40) == 0 && (pt = palloc_init("sparse.db", PALLOC_DEFAULT)) != NULL) {
            REQUIRE(palloc(pt, 100) != 0);
            REQUIRE((last = palloc(pt, 100)) != 0);
            last += palloc_size(pt, last);
            palloc_close(pt);
            REQUIRE(pwrite64(fd, &noise, 8, (off64_t)last + 8) == 8); /* in place of the start marker of the free block */
            unlink(copy);
            alarm(tap_seconds(100)); /* to look at every place in it would take hours */
            CHECK_EQ_I(palloc_salvage("sparse.db", copy, 0, NULL, NULL, &out), 0);
            alarm(0);
            CHECK_EQ_U(out.blobs, 2);
            CHECK_EQ_U(out.healed, 1);
            CHECK_EQ_U(out.lost_bytes, 0);
        } else {
            SKIP("no such file can be made or mapped");
        }
        if (fd >= 0)
            close(fd);
        unlink("sparse.db");
    }

    TEST("bytes-that-can-not-be-read-are-zeros-and-lose-only-what-is-there");
    {
        struct medium m;

        unlink(copy);
        medium_parse(&m, b.at, b.size);
        file_write(damaged, b.at, b.size);
        bad_from = 100000;
        bad_to = 103000;
        CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, &out), 0);
        bad_to = 0;
        CHECK_SOUND(copy);
        made = file_read(copy);
        CHECK_EQ_U(lost(&m, &b, &made, 98304, 106496), 0);
        CHECK(out.lost_ranges >= 1 && out.lost_bytes >= 8192);
        bytes_free(&made);
        medium_free(&m);
    }

    TEST("bytes-that-can-not-be-read-are-counted-and-reported-by-disk-sectors");
    {
        struct palloc_stat stat;

        unlink(copy);
        unlink("large.db");
        pt = palloc_init("large.db", PALLOC_DYNAMIC);
        REQUIRE(pt != NULL && palloc(pt, 200000) != 0 && palloc(pt, 100) != 0);
        palloc_close(pt);
        bad_from = 100000;
        bad_to = 103000;
        reports = 0;
        CHECK_EQ_I(palloc_salvage("large.db", copy, 0, report, &reports, &out), 0);
        bad_to = 0;
        CHECK_EQ_U(reports, 2);
        CHECK_EQ_U(out.lost_ranges, 2);
        CHECK_EQ_U(out.lost_bytes, 8192);
        CHECK_EQ_U(out.healed, 0);
        CHECK_EQ_U(out.blobs, 2);
        pt = palloc_init(copy, PALLOC_READONLY);
        memset(&stat, 0, sizeof stat);
        CHECK(pt != NULL && palloc_stat(pt, &stat) == 0);
        CHECK_EQ_U(stat.live_blobs, 2);
        palloc_close(pt);
        unlink("large.db");
    }

    TEST("a-copy-beyond-the-limit-of-files-is-EFBIG-and-no-signal");
    {
        struct rlimit limit, old;

        unlink(copy);
        REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
        limit = old;
        limit.rlim_cur = 100000;
        file_write(damaged, b.at, b.size);
        REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        CHECK_EQ_I(palloc_salvage(damaged, copy, 0, NULL, NULL, &out), -1);
        CHECK_ERRNO(EFBIG);
        REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
        no_trace();
    }

    TEST("a-full-disk-at-any-moment-is-ENOSPC-and-leaves-no-file");
    {
        unsigned n_writes, failed = 0;

        put64(b.at + 8, 5);
        file_write(damaged, b.at, b.size);
        for (n_writes = 1; n_writes < 1000; n_writes += n_writes < 40 ? 1 : 37) {
            int result;

            unlink(copy);
            writes_left = n_writes;
            errno = 0;
            result = palloc_salvage(damaged, copy, 0, NULL, NULL, &out);
            if (writes_left > 0) {
                writes_left = 0;
                CHECK_EQ_I(result, 0);
                break;
            }
            CHECK_EQ_I(result, -1);
            CHECK_ERRNO(ENOSPC);
            no_trace();
            failed++;
        }
        CHECK(failed > 3);
    }
#endif
    bytes_free(&b);
}

/* On every system; palloc_snapshot.c has the rest. */
static void snapshots(void)
{
    struct palloc_t *pt;
    struct bytes medium, made;

    TEST("a-snapshot-is-the-medium-as-it-is-closed");
    file_zeros(damaged, 0);
    unlink(copy);
    pt = palloc_init(damaged, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL && palloc(pt, 100) != 0 && palloc(pt, 3000) != 0);
    CHECK_EQ_I(palloc_snapshot(pt, copy, 0), 0);

    TEST("a-snapshot-that-can-t-be-made-names-its-reason");
    CHECK_EQ_I(palloc_snapshot(pt, copy, 0), -1);
    CHECK_ERRNO(EEXIST);
    CHECK_EQ_I(palloc_snapshot(pt, "nowhere/copy.db", 0), -1);
    CHECK_ERRNO(ENOENT);
#ifdef _WIN32
    unlink(copy);
    CHECK_EQ_I(palloc_snapshot(pt, copy, PALLOC_SNAPSHOT_CLONE), -1);
    CHECK_ERRNO(EOPNOTSUPP);
    CHECK(access(copy, F_OK) != 0);
    CHECK_EQ_I(palloc_snapshot(pt, copy, 0), 0);
#endif
    palloc_close(pt);
    medium = file_read(damaged);
    made = file_read(copy);
    CHECK_EQ_U(made.size, medium.size);
    CHECK_MEM(made.at, medium.at, medium.size);
    CHECK_SOUND(copy);
    bytes_free(&medium);
    bytes_free(&made);
    unlink(damaged);
    unlink(copy);
}

int main(void)
{
    char path[4096];

    /* In memory, for speed. */
    snprintf(damaged, sizeof damaged, "%s%d.damaged", access("/dev/shm", W_OK) == 0 ? "/dev/shm/palloc-" : "", (int)getpid());
    snprintf(copy, sizeof copy, "%s%d.copy", access("/dev/shm", W_OK) == 0 ? "/dev/shm/palloc-" : "", (int)getpid());
    REQUIRE(getenv("TEST_DATA") != NULL);
    snprintf(path, sizeof path, "%s/palloc", getenv("TEST_DATA"));
    PART(golden(path));
    if (getenv("MORE_MEDIA") != NULL)
        golden(getenv("MORE_MEDIA"));
    PART(rules(0));
    PART(rules(1));
    PART(ranges());
    unlink(damaged);
    unlink(copy);
    PART(errors());
    PART(snapshots());
    return tap_done();
}
