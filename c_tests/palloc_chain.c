/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The chain of blocks: iterating while blobs are freed, and markers that were overwritten. A word in the place of a marker may cost the
 * blob that it belongs to, never one behind it without a word.
 */
#include "palloc_util.h"

#define FILE_NAME "chain.db"

/* ------------------------------------------------------------------------------------------------------- freeing while iterating */

/* Frees those of 200 blobs that `mask` names by their number, in the loop that programs of both originals have. */
static void free_in_the_loop(uint32_t flags, unsigned mask)
{
    struct palloc_t *pt;
    struct palloc_stat stat;
    uint64_t ptr, last = 0;
    unsigned i = 0, freed = 0, kept = 0;

    unlink(FILE_NAME);
    if (flags == PALLOC_DEFAULT)
        file_zeros(FILE_NAME, MIB);
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

int main(void)
{
    iteration();
    return tap_done();
}
