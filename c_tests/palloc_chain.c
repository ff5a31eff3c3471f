/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The chain of blocks: iterating while blobs are freed, and markers that were overwritten. A word in the place of a marker may cost the
 * blob that it belongs to, and never silently to one behind it.
 */
#include "palloc_util.h"

static char path[64]; /* in memory where there is such a thing: very many files are opened */
#define FILE_NAME path

/* ------------------------------------------------------------------------------------------------------- freeing while iterating */

/* Frees those of 200 blobs that `mask` names by their number, in the loop that programs of both originals have. */
static void free_in_the_loop(uint32_t flags, unsigned mask)
{
    struct palloc_t *pt;
    struct palloc_stat stat;
    uint64_t ptr, last = 0;
    unsigned i = 0, freed = 0, kept = 0;

    file_zeros(FILE_NAME, flags == PALLOC_DEFAULT ? MIB : 0);
    pt = palloc_init(FILE_NAME, flags);
    REQUIRE(pt != NULL);
    for (i = 0; i < 200; i++)
        REQUIRE(palloc(pt, i % 7 == 3 ? 2000 : i * 37 % 600) != 0);
    errno = UNTOUCHED;
    for (ptr = palloc_first(pt), i = 0; ptr != 0 && i < 200; ptr = palloc_next(pt, ptr), i++) {
        CHECK(ptr > last);
        last = ptr;
        if (mask >> i % 8 & 1) {
            pfree(pt, ptr);
            freed++;
        } else {
            kept++;
        }
    }
    CHECK_ERRNO(UNTOUCHED);
    CHECK_EQ_U(i, 200);
    CHECK_EQ_U(ptr, 0);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, kept);
    CHECK_EQ_U(freed + kept, 200);
    if (kept == 0)
        CHECK_EQ_U(pt->size, flags == PALLOC_DEFAULT ? MIB : 8);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void iteration(void)
{
    unsigned mask;

    TEST("freeing-while-iterating-reaches-every-blob-of-a-dynamic-medium");
    for (mask = 1; mask < 256; mask += mask < 16 ? 1 : 17)
        free_in_the_loop(PALLOC_DYNAMIC, mask);
    free_in_the_loop(PALLOC_DYNAMIC, 255);
    TEST("freeing-while-iterating-reaches-every-blob-of-a-static-medium");
    for (mask = 1; mask < 256; mask += mask < 16 ? 1 : 17)
        free_in_the_loop(PALLOC_DEFAULT, mask);
    free_in_the_loop(PALLOC_DEFAULT, 255);
}

/* ---------------------------------------------------------------------------------------------------------------- overwritten markers */

static unsigned long opened, refused;

/*
 * The medium `b` with `word` in the place of block k's start marker: it is refused and not written to, or opens with every blob that
 * it had, except block k itself, if that was a blob.
 */
static int overwritten(const struct bytes *b, const struct medium *m, size_t k, uint64_t word)
{
    struct bytes damaged = bytes_new(b->size);
    struct palloc_t *pt;
    size_t i;
    int good = 1;

    memcpy(damaged.at, b->at, b->size);
    put64(damaged.at + m->blocks.at[k].start, word);
    file_write(FILE_NAME, damaged.at, damaged.size);
    errno = 0;
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    if (pt == NULL) {
        refused++;
        good = CHECK_ERRNO(EILSEQ) && CHECK(file_is(FILE_NAME, &damaged));
    } else {
        opened++;
        for (i = 0; i < m->blocks.count && good; i++) {
            const struct block *one = &m->blocks.at[i];
            if (i != k && !one->is_free)
                good = CHECK_EQ_U(palloc_size(pt, one->start + 8), one->n)
                    && CHECK_MEM(palloc_data(pt, one->start + 8), b->at + one->start + 8, one->n);
        }
    }
    palloc_close(pt);
    bytes_free(&damaged);
    if (!good)
        DIAG("%#llx in the start marker at %llu", (unsigned long long)word, (unsigned long long)m->blocks.at[k].start);
    return good;
}

/*
 * Every power of two, its neighbours, what is near the sizes that there are, and random words; free and live. With `zeros` behind the
 * chain, as a power cut leaves them after growth, only live ones: a free one looks like slack that was not given back yet.
 */
static void overwrite_markers(const char *name, const struct bytes *b, size_t zeros)
{
    struct medium m;
    struct rng rng = {b->size};
    struct bytes all = bytes_new(b->size + zeros);
    size_t k;
    int i, good = 1;

    TESTF("an-overwritten-start-marker-loses-no-other-blob-%s%s", name, zeros != 0 ? "-that-grew" : "");
    medium_parse(&m, b->at, b->size);
    memcpy(all.at, b->at, b->size);
    memset(all.at + b->size, 0, zeros);
    for (k = 0; k < m.blocks.count && good; k += (m.blocks.count > 60 ? 7 : 1) * tap_every(3)) {
        for (i = 0; i < 64 * 3 + 100 && good; i += (int)tap_every(29)) {
            uint64_t word = i < 192 ? ((uint64_t)1 << i / 3) + (uint64_t)(i % 3) - 1 : rng_next(&rng) >> rng_below(&rng, 64);
            uint64_t n = word & ~FREE_BIT, at = m.blocks.at[k].start;
            size_t later;
            int leads_to_a_block = 0; /* it may have grown up to there, or been freed together with what is before that */
            for (later = k + 1; later <= m.blocks.count; later++)
                leads_to_a_block |= at + 16 + n == (later < m.blocks.count ? m.blocks.at[later].start : b->size);
            if (!leads_to_a_block && zeros == 0)
                good = overwritten(&all, &m, k, word) && overwritten(&all, &m, k, word ^ FREE_BIT);
            else if (!leads_to_a_block)
                good = overwritten(&all, &m, k, n);
        }
    }
    bytes_free(&all);
    medium_free(&m);
}

static void markers(void)
{
    static const char *const golden[] = {"g1_02_dynamic_grow", "g1_03_dynamic_fragmented", "g1_06_static_stale_prev",
        "g1_09_dynamic_sync_flag", "h_04_dynamic_two_lists", "h_05_static_fragmented_4096", "h_07_dynamic_trailing_free"};
    size_t i;
    struct bytes b;

    REQUIRE(getenv("TEST_DATA") != NULL);
    for (i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/palloc/%s.db", getenv("TEST_DATA"), golden[i]);
        b = file_read(name);
        overwrite_markers(golden[i], &b, 0);
        bytes_free(&b);
    }
    for (i = 0; i < 4; i++) { /* ours: 40 blobs, of which every third is freed or none */
        struct palloc_t *pt;
        uint64_t ptrs[40];
        int k;

        file_zeros(FILE_NAME, i % 2 ? 8192 : 0);
        pt = palloc_init(FILE_NAME, i % 2 ? PALLOC_DEFAULT : PALLOC_DYNAMIC);
        REQUIRE(pt != NULL);
        for (k = 0; k < 40; k++) {
            ptrs[k] = palloc(pt, (size_t)(k * 37 % 200));
            REQUIRE(ptrs[k] != 0 && blob_write(pt, ptrs[k], 65536 + (uint64_t)k, 0, palloc_size(pt, ptrs[k]), BY_ADDRESS));
        }
        for (k = 1; k < 40 && i >= 2; k += 3)
            pfree(pt, ptrs[k]);
        palloc_close(pt);
        b = file_read(FILE_NAME);
        overwrite_markers(i % 2 ? i < 2 ? "static" : "static-fragmented" : i < 2 ? "dynamic" : "dynamic-fragmented", &b, 0);
        if (i % 2 == 0)
            overwrite_markers(i < 2 ? "dynamic" : "dynamic-fragmented", &b, 65536);
        if (i == 0) {
            struct medium m;
            medium_parse(&m, b.at, b.size);
            TEST("one-huge-free-word-over-the-first-marker-is-EILSEQ");
            refused = 0;
            overwritten(&b, &m, 0, UINT64_C(0x8000010000000000));
            CHECK_EQ_U(refused, 1);
            medium_free(&m);
        }
        bytes_free(&b);
    }
    DIAG("%lu opened, %lu refused", opened, refused);
}

/* ------------------------------------------------------------------------------------------ an initialization that was cut off */

static void cut_off_initialization(void)
{
    static const size_t sizes[] = {40, 48, 56, 512, 1000, 4096, 100000};
    size_t i;
    unsigned on_disk;

    TEST("an-initialization-of-which-any-part-is-on-the-disk-opens");
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (on_disk = 0; on_disk < 8; on_disk++) { /* header, start marker, end marker */
            struct bytes b = bytes_new(sizes[i]);
            uint64_t marker = (sizes[i] - 24) | FREE_BIT;
            struct palloc_t *pt;

            memcpy(b.at, "PBA", on_disk & 1 ? 3 : 0);
            put64(b.at + 8, on_disk & 2 ? marker : 0);
            put64(b.at + sizes[i] - 8, on_disk & 4 ? marker : 0);
            file_write(FILE_NAME, b.at, b.size);
            bytes_free(&b);
            if ((on_disk & 1) == 0 && on_disk != 0)
                continue; /* the header is on the disk before the others are written */
            pt = palloc_init(FILE_NAME, PALLOC_SYNC);
            CHECK(pt != NULL);
            if (pt != NULL) {
                CHECK_EQ_U(pt->size, sizes[i]);
                CHECK(palloc(pt, sizes[i] - 24) == 16);
            }
            palloc_close(pt);
            CHECK_SOUND(FILE_NAME);
        }
    }
}

int main(void)
{
    file_in_memory(path, "chain.db");
    PART(iteration());
    PART(markers());
    PART(cut_off_initialization());
    return tap_done();
}
