/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* pcalloc, palloc_root, palloc_offset and palloc_flush, with each of their errors, and the names of errors. */
#include "palloc_util.h"

#define FILE_NAME "root.db"

static int failing_msync, msyncs; /* calls, and whether they fail */
static char *synced;
static size_t synced_len;

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>

int msync(void *start, size_t len, int flags)
{
    msyncs++;
    synced = start;
    synced_len = len;
    if (failing_msync) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_msync, start, len, flags);
}
#endif

static int is_zero(struct palloc_t *pt, uint64_t ptr)
{
    const unsigned char *data = palloc_data(pt, ptr);
    uint64_t i, n = palloc_size(pt, ptr);

    for (i = 0; data != NULL && i < n; i++)
        if (data[i] != 0)
            return 0;
    return data != NULL && n > 0;
}

/* Constants that a program can use in a switch. */
static const char *name(int error)
{
    switch (error) {
    case PALLOC_E_INVALID: return "invalid";
    case PALLOC_E_NO_FILE: return "no file";
    case PALLOC_E_LOCKED: return "locked";
    case PALLOC_E_DAMAGED: return "damaged";
    case PALLOC_E_FULL: return "full";
    case PALLOC_E_NO_MEMORY: return "no memory";
    case PALLOC_E_READ_ONLY: return "read only";
    case PALLOC_E_SYNC_FAILED: return "sync failed";
    case PALLOC_E_UNSUPPORTED: return "unsupported";
    default: return "other";
    }
}

static void zeros(void)
{
    struct palloc_t *pt;
    uint64_t ptr[40], again;
    unsigned i, size;

    for (size = 1; size <= 100000; size *= 10) {
        TESTF("pcalloc-of-%u-bytes-is-zeros-where-other-bytes-were", size);
        pt = medium_fresh(FILE_NAME, size < 1000 ? PALLOC_DYNAMIC : PALLOC_DYNAMIC | PALLOC_SYNC);
        for (i = 0; i < 40; i++) {
            ptr[i] = palloc(pt, size);
            REQUIRE(ptr[i] != 0);
            memset(palloc_data(pt, ptr[i]), 0xee, palloc_size(pt, ptr[i]));
        }
        for (i = 0; i < 40; i += 2)
            pfree(pt, ptr[i]);
        for (i = 39; i > 30; i -= 2)
            pfree(pt, ptr[i]);
        for (i = 0; i < 60; i++) {
            again = pcalloc(pt, 1 + i % 3, size);
            CHECK(again != 0 && palloc_size(pt, again) >= (uint64_t)size * (1 + i % 3) && is_zero(pt, again));
            memset(palloc_data(pt, again), 0xdd, palloc_size(pt, again));
        }
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("pcalloc-of-nothing-has-16-bytes");
    pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    CHECK_EQ_U(palloc_size(pt, pcalloc(pt, 0, 1000)), 16);
    CHECK_EQ_U(palloc_size(pt, pcalloc(pt, 1000, 0)), 16);

    TEST("pcalloc-of-a-product-that-wraps-is-ENOMEM");
    errno = 0;
    CHECK_EQ_U(pcalloc(pt, SIZE_MAX / 2 + 2, 2), 0);
    CHECK_ERRNO(ENOMEM);
    CHECK_STR(name(errno), "no memory");
    CHECK_EQ_U(pcalloc(pt, SIZE_MAX, SIZE_MAX), 0);
    CHECK_ERRNO(ENOMEM);
    CHECK_EQ_U(pcalloc(NULL, 1, 1), 0);
    CHECK_ERRNO(EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "pcalloc");
    palloc_close(pt);

    TEST("pcalloc-on-a-full-static-medium-is-ENOSPC");
    unlink(FILE_NAME);
    file_zeros(FILE_NAME, 1000);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(pcalloc(pt, 100, 10), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_STR(name(errno), "full");
    CHECK_EQ_U(pcalloc(pt, 97, 10), 16);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

/* The first blob stays the first, whatever transactions make, free and cancel; once one frees it, the next blob is the first; and once one
   frees them all, the root is made anew. */
static void root_and_transactions(uint32_t flags)
{
    enum { MOST = 30, ROUNDS = 300 };
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC | flags);
    struct rng rng = {flags};
    struct palloc_tx *tx;
    uint64_t blobs[MOST], news[3], lowest = UINT64_MAX;
    unsigned i, count = 0, round, more, gone, n = ROUNDS / (flags != 0 ? 4 : 1);

    CHECK_EQ_U(palloc_root(pt, 64), 16);
    for (round = 0; round < n; round++) {
        tx = palloc_begin(pt);
        REQUIRE(tx != NULL);
        for (more = 0; more < 1 + round % 3 && count + more < MOST; more++)
            REQUIRE((news[more] = palloc_tx_alloc(tx, (size_t)rng_size(&rng, 5000))) != 0);
        gone = count > MOST / 2 ? (unsigned)rng_below(&rng, 4) : 0;
        for (i = 0; i < gone; i++)
            CHECK_EQ_I(palloc_tx_free(tx, blobs[i]), 0);
        CHECK_EQ_I(palloc_tx_store(tx, 16 + round % 8 * 8, "a word..", 8), 0);
        CHECK_EQ_U(palloc_first(pt), 16);
        CHECK_EQ_U(palloc_root(pt, 64), 16);
        if (round % 4 == 3) {
            palloc_cancel(tx);
        } else {
            CHECK_EQ_I(palloc_commit(tx), 0);
            memmove(blobs, blobs + gone, (count - gone) * sizeof *blobs);
            memcpy(blobs + count - gone, news, more * sizeof *news);
            count += more - gone;
        }
        if (round % 5 == 0)
            pfree(pt, palloc(pt, (size_t)rng_size(&rng, 5000)));
        if (round % 50 == 49)
            CHECK_EQ_I(palloc_sync(pt), 0);
        CHECK_EQ_U(palloc_first(pt), 16);
        CHECK_EQ_U(palloc_root(pt, 64), 16);
    }
    CHECK(memcmp(palloc_data(pt, 16), "a word..", 8) == 0);
    for (i = 0; i < count; i++)
        lowest = blobs[i] < lowest ? blobs[i] : lowest;
    tx = palloc_begin(pt);
    REQUIRE(tx != NULL);
    CHECK_EQ_I(palloc_tx_free(tx, 16), 0);
    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK_EQ_U(palloc_first(pt), lowest);
    CHECK_EQ_U(palloc_root(pt, 1), lowest);
    tx = palloc_begin(pt);
    REQUIRE(tx != NULL);
    for (i = 0; i < count; i++)
        CHECK_EQ_I(palloc_tx_free(tx, blobs[i]), 0);
    CHECK_EQ_I(palloc_commit(tx), 0);
    CHECK_EQ_U(palloc_first(pt), 0);
    CHECK_EQ_U(palloc_root(pt, 64), 16);
    CHECK_EQ_U(palloc_first(pt), 16);
    CHECK(is_zero(pt, 16));
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void root(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t other;

    TEST("the-root-is-made-of-zeros-once-and-found-again");
    CHECK_EQ_U(palloc_root(pt, 100), 16);
    CHECK(is_zero(pt, 16));
    CHECK_EQ_U(palloc_size(pt, 16), 112);
    memcpy(palloc_data(pt, 16), "root", 5);
    other = palloc(pt, 20);
    CHECK_EQ_U(palloc_root(pt, 112), 16);
    palloc_close(pt);
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc_root(pt, 1), 16);
    CHECK_STR(palloc_data(pt, 16), "root");
    palloc_close(pt);

    TEST("a-root-that-is-too-short-is-EINVAL");
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    errno = 0;
    CHECK_EQ_U(palloc_root(pt, 113), 0);
    CHECK_ERRNO(EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "the first blob, at offset 16, has 112 bytes, not 113");
    CHECK_EQ_U(palloc_root(NULL, 1), 0);
    CHECK_ERRNO(EINVAL);

    TEST("the-root-is-never-behind-what-a-transaction-has-reserved");
    pfree(pt, 16);
    pfree(pt, other);
    {
        struct palloc_tx *tx = palloc_begin(pt);

        REQUIRE(tx != NULL);
        CHECK_EQ_U(palloc_root(pt, 1), 0);
        CHECK_ERRNO(EINVAL);
        palloc_cancel(tx);
        CHECK_EQ_U(palloc_root(pt, 1), 16);
    }
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("the-root-is-palloc_first-whatever-transactions-do");
    root_and_transactions(0);
    TEST("and-with-PALLOC_SYNC");
    root_and_transactions(PALLOC_SYNC);

    TEST("a-root-of-a-medium-that-is-read-only-and-empty-is-EROFS");
    palloc_close(medium_fresh(FILE_NAME, PALLOC_DYNAMIC));
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc_root(pt, 1), 0);
    CHECK_ERRNO(EROFS);
    CHECK_STR(name(errno), "read only");
    CHECK_EQ_U(pcalloc(pt, 1, 1), 0);
    CHECK_ERRNO(EROFS);
    palloc_close(pt);
}

static void offsets(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 100), large;
    char *before = palloc_data(pt, ptr);
    int local = 0;

    TEST("palloc_offset-is-the-reverse-of-palloc_data");
    CHECK_EQ_U(palloc_offset(pt, before), ptr);
    CHECK_EQ_U(palloc_offset(pt, before + 37), ptr + 37);
    large = palloc(pt, 3 << 20);
    CHECK_EQ_U(palloc_offset(pt, before), ptr);
    CHECK_EQ_U(palloc_offset(pt, palloc_data(pt, ptr)), ptr);
    CHECK_EQ_U(palloc_offset(pt, palloc_data(pt, large)), large);

    TEST("palloc_at-of-the-end-of-the-last-block-is-EINVAL");
    CHECK(palloc_at(pt, pt->size - 1) != NULL);
    errno = 0;
    CHECK(palloc_at(pt, pt->size) == NULL);
    CHECK_ERRNO(EINVAL);

    TEST("an-address-elsewhere-is-EINVAL");
    errno = 0;
    CHECK_EQ_U(palloc_offset(pt, &local), 0);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_U(palloc_offset(pt, NULL), 0);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_U(palloc_offset(pt, before - ptr), 0); /* the header */
    CHECK_ERRNO(EINVAL);
    before = palloc_data(pt, ptr); /* where all of the medium is mapped */
    CHECK_EQ_U(palloc_offset(pt, before - ptr + 8), 8);
    CHECK_EQ_U(palloc_offset(pt, before - ptr + pt->size), 0);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_U(palloc_offset(NULL, before), 0);
    CHECK_ERRNO(EINVAL);
    palloc_close(pt);
}

static void flush(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 100000), other = palloc(pt, 100);
    char *data = palloc_data(pt, ptr);

    TEST("palloc_flush-writes-the-pages-of-the-bytes");
    memset(data, 7, 100000);
    errno = 7;
    CHECK_EQ_I(palloc_flush(pt, ptr + 50000, 10), 0);
    CHECK_EQ_I(errno, 7);
    CHECK_EQ_I(palloc_flush(pt, ptr, 100000), 0);
#if defined(__linux__)
    CHECK_EQ_I(msyncs, 2);
    CHECK(synced <= data && synced + synced_len >= data + 100000 && synced_len < 100000 + 2 * 65536);
#endif

    TEST("bytes-that-are-not-all-in-one-blob-are-EINVAL");
    errno = 0;
    CHECK_EQ_I(palloc_flush(pt, ptr, 100001), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "not all in one blob");
    CHECK(strstr(palloc_error(), "transaction") == NULL); /* there is none */
    CHECK_EQ_I(palloc_flush(pt, 0, 1), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_flush(pt, ptr - 8, 8), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_flush(pt, ptr + 1, SIZE_MAX), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_flush(pt, UINT64_MAX, 1), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_flush(NULL, ptr, 1), -1);
    CHECK_ERRNO(EINVAL);
    pfree(pt, other);
    CHECK_EQ_I(palloc_flush(pt, other, 1), -1);
    CHECK_ERRNO(EINVAL);

#if defined(__linux__)
    TEST("a-flush-that-fails-is-a-failed-sync");
    failing_msync = 1;
    CHECK_EQ_I(palloc_flush(pt, ptr, 1), -1);
    CHECK_ERRNO(EIO);
    CHECK_STR(name(errno), "sync failed");
    failing_msync = 0;
    CHECK_EQ_I(palloc_flush(pt, ptr, 1), -1);
    CHECK_ERRNO(EIO);
    CHECK_EQ_U(palloc(pt, 1), 0);
    CHECK_ERRNO(EIO);
    CHECK_STR_CONTAINS(palloc_error(), "a sync failed before");
#endif
    palloc_close(pt);

    TEST("a-flush-of-a-medium-that-is-read-only-does-nothing");
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    msyncs = 0;
    CHECK_EQ_I(palloc_flush(pt, palloc_first(pt), 1), 0);
    CHECK_EQ_I(msyncs, 0);
    palloc_close(pt);
}

#if defined(__linux__)
static uint64_t by_pcalloc(struct palloc_t *pt, size_t size)
{
    return pcalloc(pt, size, 1);
}

static uint64_t by_aligned(struct palloc_t *pt, size_t size)
{
    return palloc_aligned(pt, 4096, size);
}

/* The errors of palloc. */
static void errors_of_palloc(void)
{
    static uint64_t (*const functions[])(struct palloc_t *, size_t) = {palloc, by_pcalloc, by_aligned, palloc_root};
    static const char *const function_names[] = {"palloc", "pcalloc", "palloc_aligned", "palloc_root"};
    struct rlimit limit, old;
    unsigned i;

    REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
    for (i = 0; i < 4; i++) {
        struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);

        TESTF("each-error-of-palloc-and-the-medium-as-it-was-%s", function_names[i]);
        limit = old;
        limit.rlim_cur = 1 << 20;
        REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        CHECK_EQ_U(functions[i](pt, 2 << 20), 0);
        CHECK_ERRNO(EFBIG);
        REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
        CHECK_EQ_U(functions[i](pt, SIZE_MAX / 2), 0);
        CHECK_ERRNO(ENOMEM);
        CHECK_EQ_U(functions[i](NULL, 1), 0);
        CHECK_ERRNO(EINVAL);
        CHECK_EQ_U(pt->size, 8);
        palloc_close(pt);
        pt = palloc_init(FILE_NAME, PALLOC_READONLY);
        CHECK_EQ_U(functions[i](pt, 1), 0);
        CHECK_ERRNO(EROFS);
        palloc_close(pt);
        unlink(FILE_NAME);
        file_zeros(FILE_NAME, 10000);
        pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
        REQUIRE(pt != NULL);
        CHECK_EQ_U(functions[i](pt, 10000), 0);
        CHECK_ERRNO(ENOSPC);
        CHECK_EQ_U(palloc_first(pt), 0);
        CHECK(palloc(pt, 16) == 16);
        failing_msync = 1;
        CHECK_EQ_I(palloc_flush(pt, 16, 1), -1);
        failing_msync = 0;
        if (functions[i] == palloc_root) {
            CHECK_EQ_U(palloc_root(pt, 1), 16); /* nothing is made */
        } else {
            CHECK_EQ_U(functions[i](pt, 1), 0);
            CHECK_ERRNO(EIO);
        }
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }
}
#endif

static void names(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    struct bytes b;

    TEST("each-name-is-the-error-that-it-says");
    CHECK(palloc_init(FILE_NAME, PALLOC_DYNAMIC) == NULL);
    CHECK_STR(name(errno), "locked");
    CHECK(palloc(pt, 100) != 0);
    palloc_close(pt);
    CHECK(palloc_init("nothing.db", PALLOC_DEFAULT) == NULL);
    CHECK_STR(name(errno), "no file");
    CHECK(palloc_init(FILE_NAME, PALLOC_EXTENDED) == NULL);
    CHECK_STR(name(errno), "unsupported");
    CHECK(palloc_init(FILE_NAME, 1u << 20) == NULL);
    CHECK_STR(name(errno), "invalid");
    b = file_read(FILE_NAME);
    put64(b.at + 8, 3);
    file_write(FILE_NAME, b.at, b.size);
    bytes_free(&b);
    CHECK(palloc_init(FILE_NAME, PALLOC_DEFAULT) == NULL);
    CHECK_STR(name(errno), "damaged");
    CHECK_STR(name(EPERM), "other");
}

int main(void)
{
    (void)synced;
    (void)synced_len;
    (void)failing_msync;
    PART(zeros());
    PART(root());
    PART(offsets());
    PART(flush());
#if defined(__linux__)
    PART(errors_of_palloc());
#endif
    PART(names());
    return tap_done();
}
