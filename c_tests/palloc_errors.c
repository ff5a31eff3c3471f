/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Calls that are refused: their errno, their text, and that nothing changed. Calls that succeed leave errno alone. */

#include "palloc_util.h"

#define FILE_NAME "errors.db"

/* Everything that can be seen of a medium: its file, its statistics, its fields. */
struct state {
    struct bytes file;
    struct palloc_stat stat;
    uint64_t size, first_free;
};

static struct state state_of(struct palloc_t *pt)
{
    struct state s;

    s.file = file_read(FILE_NAME);
    CHECK_EQ_I(palloc_stat(pt, &s.stat), 0);
    s.size = pt->size;
    s.first_free = pt->first_free;
    return s;
}

/* Nothing changed since then. */
static int unchanged(struct palloc_t *pt, struct state *then)
{
    struct state now = state_of(pt);
    int good = CHECK_EQ_U(now.file.size, then->file.size) && CHECK_MEM(now.file.at, then->file.at, now.file.size);

    good &= CHECK(memcmp(&now.stat, &then->stat, sizeof now.stat) == 0);
    good &= CHECK_EQ_U(now.size, then->size);
    good &= CHECK_EQ_U(now.first_free, then->first_free);
    bytes_free(&now.file);
    bytes_free(&then->file);
    return good & CHECK_VIEW(pt);
}

/* live 64 at 16, free 48 at 96, live 32 at 160, live 128 at 208, free 32 at 352, live 16 at 400; dynamic, 424 bytes. */
static struct palloc_t *sample(void)
{
    static const size_t sizes[] = {64, 48, 32, 128, 32, 16};
    static const uint64_t at[] = {16, 96, 160, 208, 352, 400};
    struct palloc_t *pt;
    size_t i;

    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (i = 0; i < 6; i++) {
        REQUIRE(palloc(pt, sizes[i]) == at[i]);
        blob_write(pt, at[i], i, 0, sizes[i], BY_ADDRESS);
    }
    pfree(pt, 96);
    pfree(pt, 352);
    REQUIRE(palloc_sync(pt) == 0);
    REQUIRE(pt->size == 424);
    return pt;
}

/* pfree(ptr) fails with EINVAL, names the offset and the file, and changes nothing. */
static int bad_pfree(struct palloc_t *pt, uint64_t ptr)
{
    struct state before = state_of(pt);
    char number[32];
    int good;

    snprintf(number, sizeof number, "%llu", (unsigned long long)ptr);
    errno = 0;
    pfree(pt, ptr);
    good = CHECK_ERRNO(EINVAL);
    good &= CHECK_STR_CONTAINS(palloc_error(), number);
    good &= CHECK_STR_CONTAINS(palloc_error(), FILE_NAME);
    good &= unchanged(pt, &before);
    if (!good)
        DIAG("pfree(%s)", number);
    return good;
}

static void bad_offsets(void)
{
    struct palloc_t *pt = sample();
    uint64_t ptr;
    uint8_t fake[64];

    TEST("pfree-of-0-is-EINVAL");
    bad_pfree(pt, 0);

    TEST("pfree-inside-the-header-is-EINVAL");
    for (ptr = 1; ptr < 16; ptr++)
        bad_pfree(pt, ptr);

    TEST("pfree-inside-a-blob-is-EINVAL");
    for (ptr = 17; ptr < 96; ptr++)
        bad_pfree(pt, ptr);

    TEST("pfree-of-a-free-block-is-EINVAL");
    bad_pfree(pt, 96);
    bad_pfree(pt, 352);

    TEST("pfree-inside-a-free-block-is-EINVAL");
    for (ptr = 97; ptr < 160; ptr++)
        bad_pfree(pt, ptr);

    TEST("pfree-at-the-end-and-beyond-is-EINVAL");
    for (ptr = 401; ptr < 500; ptr++)
        bad_pfree(pt, ptr);
    bad_pfree(pt, 424); /* where the next blob would be */
    bad_pfree(pt, 4096);
    bad_pfree(pt, 65536);
    bad_pfree(pt, MIB);
    bad_pfree(pt, GIB);
    bad_pfree(pt, (uint64_t)1 << 40);

    TEST("pfree-of-garbage-is-EINVAL");
    {
        struct rng rng = {20240501};
        int k;
        bad_pfree(pt, UINT64_MAX);
        bad_pfree(pt, UINT64_MAX - 7);
        bad_pfree(pt, UINT64_MAX - 15);
        bad_pfree(pt, FREE_BIT);
        bad_pfree(pt, FREE_BIT | 16);
        bad_pfree(pt, FREE_BIT + 8);
        bad_pfree(pt, FREE_BIT - 1);
        bad_pfree(pt, FREE_BIT / 2);
        for (k = 0; k < 200; k++)
            bad_pfree(pt, rng_next(&rng) | 4096);
    }

    TEST("pfree-of-bytes-inside-a-blob-that-look-like-a-block-is-EINVAL");
    /* live block of 16 with both markers at blob + 16, then a free one at blob + 48 */
    memset(fake, 0, sizeof fake);
    put64(fake, 16);
    put64(fake + 24, 16);
    put64(fake + 32, 16 | FREE_BIT);
    put64(fake + 56, 16 | FREE_BIT);
    CHECK_EQ_I(pwrite(pt->descriptor, fake, 64, 208 + 16), 64);
    bad_pfree(pt, 208 + 16 + 8);
    bad_pfree(pt, 208 + 16 + 8 + 32);
    errno = 0;
    CHECK_EQ_U(palloc_size(pt, 208 + 16 + 8), 0);
    CHECK_ERRNO(EINVAL);
    errno = 0;
    CHECK(palloc_data(pt, 208 + 16 + 8) == NULL);
    CHECK_ERRNO(EINVAL);

    TEST("a-blob-that-looks-like-blocks-is-still-one-blob-after-reopening");
    CHECK_EQ_I(palloc_sync(pt), 0);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    bad_pfree(pt, 208 + 16 + 8);
    bad_pfree(pt, 208 + 16 + 8 + 32);
    errno = UNTOUCHED;
    pfree(pt, 208);
    CHECK_EQ_I(errno, UNTOUCHED);
    CHECK_VIEW(pt);

    TEST("a-double-free-is-EINVAL");
    bad_pfree(pt, 208);
    errno = UNTOUCHED;
    pfree(pt, 160);
    CHECK_EQ_I(errno, UNTOUCHED);
    bad_pfree(pt, 160); /* merged into its neighbours by now */
    bad_pfree(pt, 208);
    bad_pfree(pt, 96);

    TEST("a-double-free-after-the-medium-shrank-is-EINVAL");
    pfree(pt, 400);
    CHECK_EQ_U(pt->size, 88);
    bad_pfree(pt, 400);
    bad_pfree(pt, 208);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("a-double-free-across-reopening-is-EINVAL");
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    bad_pfree(pt, 400);
    bad_pfree(pt, 160);
    CHECK_EQ_U(palloc(pt, 10), 96);
    CHECK_EQ_U(palloc(pt, 10), 128);
    pfree(pt, 96);
    palloc_close(pt);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    bad_pfree(pt, 96);
    palloc_close(pt);

    TEST("pfree-after-reopening-loses-no-free-space");
    pt = sample();
    palloc_close(pt);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    pfree(pt, 160);
    {
        struct palloc_stat stat;
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(stat.live_blobs, 3);
        CHECK_EQ_U(stat.live_bytes, 64 + 128 + 16);
        CHECK_EQ_U(stat.medium_size, 424);
    }
    CHECK_EQ_I(palloc_sync(pt), 0);
    {
        struct palloc_stat stat;
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(stat.free_blocks, 2);
        CHECK_EQ_U(stat.free_bytes, 48 + 16 + 32 + 32); /* 96 and 160 are one */
        CHECK_EQ_U(stat.largest_free, 96);
    }
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void stray_reads(void)
{
    struct palloc_t *pt = sample();
    struct state before = state_of(pt);
    static const uint64_t live[] = {16, 160, 208, 400};
    uint64_t ptr;
    size_t i;

    TEST("palloc_size-answers-for-every-block-and-nothing-else");
    for (ptr = 0; ptr < 500; ptr++) {
        uint64_t want = ptr == 16 ? 64 : ptr == 96 ? 48 : ptr == 160 ? 32 : ptr == 208 ? 128 : ptr == 352 ? 32 : ptr == 400 ? 16 : 0;
        errno = UNTOUCHED;
        CHECK_EQ_U(palloc_size(pt, ptr), want);
        CHECK_ERRNO(want != 0 ? UNTOUCHED : EINVAL);
    }
    errno = 0;
    CHECK_EQ_U(palloc_size(pt, UINT64_MAX), 0);
    CHECK_ERRNO(EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "18446744073709551615");

    TEST("palloc_next-gives-the-next-allocated-blob-above-any-number");
    errno = UNTOUCHED;
    for (ptr = 0; ptr < 500; ptr++) {
        uint64_t want = 0;
        for (i = 4; i > 0 && live[i - 1] > ptr; i--)
            want = live[i - 1];
        CHECK_EQ_U(palloc_next(pt, ptr), want);
    }
    for (i = 0; i < 64; i++)
        CHECK_EQ_U(palloc_next(pt, UINT64_MAX << i), 0);
    CHECK_ERRNO(UNTOUCHED);

    TEST("palloc_data-answers-for-allocated-blobs-only");
    for (ptr = 0; ptr < 500; ptr++) {
        int is_live = ptr == 16 || ptr == 160 || ptr == 208 || ptr == 400;
        errno = UNTOUCHED;
        CHECK_EQ_I(palloc_data(pt, ptr) != NULL, is_live);
        CHECK_ERRNO(is_live ? UNTOUCHED : EINVAL);
    }

    TEST("prealloc-of-what-is-no-blob-is-EINVAL");
    for (ptr = 1; ptr < 500; ptr++) {
        if (ptr == 16 || ptr == 160 || ptr == 208 || ptr == 400)
            continue;
        errno = 0;
        CHECK_EQ_U(prealloc(pt, ptr, ptr % 3 * 100), 0);
        CHECK_ERRNO(EINVAL);
    }
    errno = 0;
    CHECK_EQ_U(prealloc(pt, UINT64_MAX, 1), 0);
    CHECK_ERRNO(EINVAL);

    TEST("none-of-these-calls-changed-anything");
    unchanged(pt, &before);
    palloc_close(pt);
}

#define HALF (SIZE_MAX / 2 + 1)

static void impossible_sizes(void)
{
    static const size_t far_too_large[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 7, SIZE_MAX - 15, SIZE_MAX - 16, SIZE_MAX - 31,
        SIZE_MAX - 32,
#if SIZE_MAX > UINT32_MAX
        HALF + 16, HALF + 1, HALF, HALF - 1, HALF - 15, HALF - 16, HALF - 17, HALF - 32, HALF - 4096, HALF | 64
#endif
    };
    static const size_t too_large[] = {HALF / 2 + 16, HALF / 2 + 1, HALF / 2, HALF / 2 - 1, HALF / 2 - 16, HALF / 2 - 4096};
    int dynamic;
    size_t i;

    for (dynamic = 0; dynamic < 2; dynamic++) {
        const char *kind = dynamic ? "dynamic" : "static";
        /* With 32 bits there are media that could hold SIZE_MAX, and a growing one may well get a quarter of it. */
        int error = SIZE_MAX > UINT32_MAX || dynamic ? ENOMEM : ENOSPC;
        size_t too_large_count = SIZE_MAX > UINT32_MAX || !dynamic ? sizeof too_large / sizeof too_large[0] : 0;
        struct palloc_t *pt;
        struct state before;

        unlink(FILE_NAME);
        if (!dynamic)
            file_zeros(FILE_NAME, 4096);
        pt = palloc_init(FILE_NAME, dynamic ? PALLOC_DYNAMIC : PALLOC_DEFAULT);
        REQUIRE(pt != NULL);
        REQUIRE(palloc(pt, 100) == 16);
        REQUIRE(palloc(pt, 100) == 144);
        REQUIRE(palloc(pt, 100) == 272);
        pfree(pt, 144);
        REQUIRE(palloc_sync(pt) == 0);

        TESTF("palloc-of-SIZE_MAX-and-near-half-of-it-fails-%s", kind);
        before = state_of(pt);
        for (i = 0; i < sizeof far_too_large / sizeof far_too_large[0]; i++) {
            errno = 0;
            if (!CHECK_EQ_U(palloc(pt, far_too_large[i]), 0) || !CHECK_ERRNO(error))
                DIAG("size %#llx", (unsigned long long)far_too_large[i]);
            CHECK_STR_CONTAINS(palloc_error(), FILE_NAME);
        }
        unchanged(pt, &before);

        TESTF("palloc-near-a-quarter-of-SIZE_MAX-fails-%s", kind);
        before = state_of(pt);
        for (i = 0; i < too_large_count; i++) {
            errno = 0;
            CHECK_EQ_U(palloc(pt, too_large[i]), 0);
            if (!CHECK(errno == ENOMEM || errno == ENOSPC || errno == EFBIG))
                DIAG("size %#llx: errno %d", (unsigned long long)too_large[i], errno);
        }
        unchanged(pt, &before);

        TESTF("prealloc-to-an-impossible-size-keeps-the-blob-%s", kind);
        blob_write(pt, 16, 70000, 0, 112, BY_ADDRESS);
        before = state_of(pt);
        for (i = 0; i < sizeof far_too_large / sizeof far_too_large[0]; i++) {
            errno = 0;
            if (!CHECK_EQ_U(prealloc(pt, 16, far_too_large[i]), 0) || !CHECK_ERRNO(error))
                DIAG("size %#llx", (unsigned long long)far_too_large[i]);
        }
        for (i = 0; i < too_large_count; i++)
            CHECK_EQ_U(prealloc(pt, 272, too_large[i]), 0);
        unchanged(pt, &before);
        blob_intact(pt, 16, 70000, 112, BY_DESCRIPTOR);

        TESTF("the-medium-works-on-after-impossible-sizes-%s", kind);
        CHECK_EQ_U(palloc(pt, 100), 144);
        CHECK(palloc(pt, 1000) != 0);
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("palloc-0-is-a-blob-of-16-bytes");
    {
        struct palloc_t *pt;
        unlink(FILE_NAME);
        pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
        REQUIRE(pt != NULL);
        CHECK_EQ_U(palloc(pt, 0), 16);
        CHECK_EQ_U(palloc_size(pt, 16), 16);
        CHECK_EQ_U(palloc(pt, 0), 48);
        palloc_close(pt);
    }
}

static void full_static(void)
{
    struct palloc_t *pt;
    struct state before;
    uint64_t ptr;

    file_zeros(FILE_NAME, 4096);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    while ((ptr = palloc(pt, 200)) != 0)
        blob_write(pt, ptr, 80000 + ptr, 0, 200, BY_ADDRESS);
    REQUIRE(palloc_sync(pt) == 0);

    TEST("a-full-static-medium-is-ENOSPC-and-unchanged");
    before = state_of(pt);
    errno = 0;
    CHECK_EQ_U(palloc(pt, 200), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_STR_CONTAINS(palloc_error(), FILE_NAME);
    CHECK_STR_CONTAINS(palloc_error(), "200");
    errno = 0;
    CHECK_EQ_U(prealloc(pt, 16, 3000), 0);
    CHECK_ERRNO(ENOSPC);
    errno = 0;
    CHECK_EQ_U(prealloc(pt, 0, 3000), 0);
    CHECK_ERRNO(ENOSPC);
    unchanged(pt, &before);
    for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr))
        blob_intact(pt, ptr, 80000 + ptr, 200, BY_ADDRESS);

    TEST("a-pfree-makes-room-in-a-full-static-medium");
    ptr = palloc_next(pt, palloc_first(pt));
    pfree(pt, ptr);
    CHECK_EQ_U(palloc(pt, 200), ptr);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static int walk_nothing(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    (void)user;
    (void)ptr;
    (void)size;
    (void)is_free;
    return 0;
}

static int walk_ends(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    (void)user;
    (void)ptr;
    (void)size;
    (void)is_free;
    return -1;
}

static void null_handles(void)
{
    struct palloc_t *pt;
    struct palloc_stat stat;

#define POINT_OF(name, call_fails)        \
    TEST(name);                           \
    errno = 0;                            \
    CHECK(call_fails);                    \
    CHECK_ERRNO(EINVAL);                  \
    CHECK(strlen(palloc_error()) > 0)

    POINT_OF("palloc-of-NULL-is-EINVAL", palloc(NULL, 16) == 0);
    POINT_OF("pfree-of-NULL-is-EINVAL", (pfree(NULL, 16), 1));
    POINT_OF("prealloc-of-NULL-is-EINVAL", prealloc(NULL, 16, 16) == 0);
    POINT_OF("prealloc-0-of-NULL-is-EINVAL", prealloc(NULL, 0, 16) == 0);
    POINT_OF("palloc_size-of-NULL-is-EINVAL", palloc_size(NULL, 16) == 0);
    POINT_OF("palloc_first-of-NULL-is-EINVAL", palloc_first(NULL) == 0);
    POINT_OF("palloc_next-of-NULL-is-EINVAL", palloc_next(NULL, 16) == 0);
    POINT_OF("palloc_data-of-NULL-is-EINVAL", palloc_data(NULL, 16) == NULL);
    POINT_OF("palloc_at_locked-of-NULL-is-EINVAL", palloc_at_locked(NULL, 16) == NULL);
    POINT_OF("palloc_sync-of-NULL-is-EINVAL", palloc_sync(NULL) == -1);
    POINT_OF("palloc_stat-of-NULL-is-EINVAL", palloc_stat(NULL, &stat) == -1);
    POINT_OF("palloc_walk-of-NULL-is-EINVAL", palloc_walk(NULL, walk_nothing, NULL) == -1);
    POINT_OF("palloc_aligned-of-NULL-is-EINVAL", palloc_aligned(NULL, 16, 16) == 0);
    POINT_OF("palloc_trim-of-NULL-is-EINVAL", palloc_trim(NULL, 0) == -1);
    POINT_OF("palloc_check-of-NULL-is-EINVAL", palloc_check(NULL, NULL, NULL) == -1);
    POINT_OF("palloc_init-of-NULL-is-EINVAL", palloc_init(NULL, PALLOC_DYNAMIC) == NULL);

    TEST("palloc_close-accepts-NULL");
    errno = UNTOUCHED;
    palloc_close(NULL);
    CHECK_EQ_I(errno, UNTOUCHED);

    pt = sample();
    POINT_OF("palloc_stat-into-NULL-is-EINVAL", palloc_stat(pt, NULL) == -1);
    POINT_OF("palloc_walk-with-NULL-is-EINVAL", palloc_walk(pt, NULL, NULL) == -1);
    CHECK_VIEW(pt);
    palloc_close(pt);
#undef POINT_OF

    TEST("palloc_check-of-a-missing-file-is-ENOENT");
    errno = 0;
    CHECK_EQ_I(palloc_check("missing.db", NULL, NULL), -1);
    CHECK_ERRNO(ENOENT);
    CHECK_STR_CONTAINS(palloc_error(), "missing.db");
}

static void quiet_success(void)
{
    struct palloc_t *pt;
    struct palloc_stat stat;
    uint64_t ptr;

    TEST("calls-that-succeed-leave-errno-alone");
    unlink(FILE_NAME);
#define QUIET(call)                    \
    do {                               \
        errno = UNTOUCHED;             \
        call;                          \
        CHECK_EQ_I(errno, UNTOUCHED);  \
    } while (0)
    QUIET(pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC));
    REQUIRE(pt != NULL);
    QUIET(CHECK_EQ_U(palloc_first(pt), 0));
    QUIET(CHECK_EQ_U(palloc(pt, 16), 16));
    QUIET(CHECK_EQ_U(palloc(pt, 3 * MIB), 48));
    QUIET(CHECK_EQ_U(ptr = palloc(pt, 5), 48 + 3 * MIB + 16));
    QUIET(CHECK_EQ_U(palloc_size(pt, 48), 3 * MIB));
    QUIET(CHECK_EQ_U(palloc_first(pt), 16));
    QUIET(CHECK_EQ_U(palloc_next(pt, 16), 48));
    QUIET(CHECK_EQ_U(palloc_next(pt, ptr), 0));
    QUIET(CHECK(palloc_data(pt, 48) != NULL));
    QUIET(CHECK_EQ_U(prealloc(pt, 48, MIB), 48));
    QUIET(CHECK_EQ_U(prealloc(pt, 48, 2 * MIB), 48));
    QUIET(CHECK(prealloc(pt, 48, 5 * MIB) != 0));
    QUIET(CHECK_EQ_I(palloc_stat(pt, &stat), 0));
    QUIET(CHECK_EQ_I(palloc_walk(pt, walk_nothing, NULL), 0));
    QUIET(pfree(pt, 16));
    QUIET(CHECK_EQ_I(palloc_sync(pt), 0));
    QUIET(CHECK(palloc_aligned(pt, 4096, 100) % 4096 == 0));
    QUIET(CHECK_EQ_I(palloc_trim(pt, GIB), 0));
    QUIET(pfree(pt, ptr));
    QUIET(palloc_close(pt));
    QUIET(CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0));
    QUIET(pt = palloc_init(FILE_NAME, PALLOC_READONLY));
    QUIET(palloc_close(pt));
    QUIET(pt = palloc_init(FILE_NAME, PALLOC_SYNC));
    QUIET(CHECK(palloc(pt, 100) != 0));
    QUIET(palloc_close(pt));
#undef QUIET

    TEST("a-walk-that-is-ended-leaves-errno-alone-even-with-minus-1");
    pt = sample();
    errno = UNTOUCHED;
    CHECK_EQ_I(palloc_walk(pt, walk_ends, NULL), -1);
    CHECK_EQ_I(errno, UNTOUCHED);
    palloc_close(pt);
}

static void *fails_elsewhere(void *user)
{
    (void)user;
    CHECK_STR(palloc_error(), ""); /* nothing failed in this thread yet */
    CHECK(palloc_init("of-the-thread.db", PALLOC_DEFAULT) == NULL);
    CHECK_STR_CONTAINS(palloc_error(), "of-the-thread.db");
    return NULL;
}

static void texts(void)
{
    struct palloc_t *pt;
    char kept[1024];
    pthread_t thread;

    TEST("palloc_error-is-one-line-that-names-function-file-and-offset");
    pt = sample();
    errno = 0;
    pfree(pt, 12345);
    CHECK_STR_CONTAINS(palloc_error(), "pfree");
    CHECK_STR_CONTAINS(palloc_error(), FILE_NAME);
    CHECK_STR_CONTAINS(palloc_error(), "12345");
    CHECK(strchr(palloc_error(), '\n') == NULL);

    TEST("palloc_error-has-the-systems-own-words-and-not-a-number-of-them");
    errno = 0;
    CHECK(palloc_init("missing/of.db", PALLOC_DEFAULT) == NULL);
    CHECK_ERRNO(ENOENT);
#ifndef _WIN32
    CHECK_STR_CONTAINS(palloc_error(), ": No such file or directory");
#endif
    CHECK(strstr(palloc_error(), "os error") == NULL);

    TEST("palloc_size-that-fails-speaks-of-blocks-as-it-answers-for-free-ones-too");
    CHECK_EQ_U(palloc_size(pt, 12345), 0);
    CHECK_STR_CONTAINS(palloc_error(), "no block's data starts at offset 12345");

    TEST("palloc_error-stays-through-calls-that-succeed");
    errno = 0;
    pfree(pt, 12345);
    snprintf(kept, sizeof kept, "%s", palloc_error());
    CHECK(palloc(pt, 16) != 0);
    CHECK_EQ_U(palloc_size(pt, 16), 64);
    CHECK_STR(palloc_error(), kept);

    TEST("palloc_error-is-a-threads-own");
    CHECK_EQ_I(pthread_create(&thread, NULL, fails_elsewhere, NULL), 0);
    CHECK_EQ_I(pthread_join(thread, NULL), 0);
    CHECK_STR(palloc_error(), kept);

    TEST("palloc_error-changes-with-the-next-failure");
    CHECK_EQ_U(palloc_size(pt, 54321), 0);
    CHECK_STR_CONTAINS(palloc_error(), "54321");
    palloc_close(pt);

    TEST("a-very-long-path-does-not-overrun-the-text");
    {
        char path[3000];
        memset(path, 'p', sizeof path);
        path[sizeof path - 1] = '\0';
        errno = 0;
        CHECK(palloc_init(path, PALLOC_DYNAMIC) == NULL);
#ifdef _WIN32 /* where it may be a name of a place that is not there */
        CHECK(errno == ENAMETOOLONG || errno == ENOENT);
#else
        CHECK_ERRNO(ENAMETOOLONG);
#endif
        CHECK(strlen(palloc_error()) > 20);
    }
}

/* A program writes over a marker: what meets it says EILSEQ with the offset, and does not spread the damage. */
static int fails_palloc(struct palloc_t *pt)
{
    return palloc(pt, 48) == 0;
}

static int fails_pcalloc(struct palloc_t *pt)
{
    return pcalloc(pt, 6, 8) == 0;
}

static int fails_palloc_aligned(struct palloc_t *pt)
{
    return palloc_aligned(pt, 16, 48) == 0;
}

static int fails_palloc_root(struct palloc_t *pt)
{
    return palloc_root(pt, 64) == 0;
}

static int fails_palloc_flush(struct palloc_t *pt)
{
    return palloc_flush(pt, 160, 8) == -1;
}

static int fails_palloc_snapshot(struct palloc_t *pt)
{
    int failed = palloc_snapshot(pt, "copy.db", 0) == -1, error = errno;

    CHECK_EQ_I(unlink("copy.db"), -1);
    errno = error;
    return failed && strstr(palloc_error(), "damaged") != NULL;
}

/* With a transaction that has freed the blob at 160 before it was damaged, and another that has not. */
static struct palloc_tx *frees_160, *other_tx;

static int fails_palloc_tx_alloc(struct palloc_t *pt)
{
    (void)pt;
    return palloc_tx_alloc(other_tx, 48) == 0;
}

static int fails_palloc_tx_free(struct palloc_t *pt)
{
    (void)pt;
    return palloc_tx_free(other_tx, 160) == -1;
}

static int fails_palloc_tx_store(struct palloc_t *pt)
{
    (void)pt;
    return palloc_tx_store(other_tx, 160, "x", 1) == -1;
}

static int fails_palloc_commit(struct palloc_t *pt)
{
    (void)pt;
    return palloc_commit(frees_160) == -1;
}

static const struct {
    const char *name;
    int (*fails)(struct palloc_t *pt);
    uint64_t marker;
    int is_free; /* the error can name a free block near it */
} readers[] = {
    {"palloc", fails_palloc, 88, 1},
    {"pcalloc", fails_pcalloc, 88, 1},
    {"palloc_aligned", fails_palloc_aligned, 88, 1},
    {"palloc_root", fails_palloc_root, 8, 0},
    {"palloc_flush", fails_palloc_flush, 152, 0},
    {"palloc_snapshot", fails_palloc_snapshot, 152, 0},
    {"palloc_tx_alloc", fails_palloc_tx_alloc, 88, 1},
    {"palloc_tx_free", fails_palloc_tx_free, 152, 0},
    {"palloc_tx_store", fails_palloc_tx_store, 152, 0},
    {"palloc_commit", fails_palloc_commit, 152, 0},
};

/* Each function that reads the marker says so, and changes nothing. */
static void overwritten_each(void)
{
    static const uint64_t words[] = {0, 1, UINT64_C(0x6f7665727275216e), UINT64_MAX >> 1, 15};
    size_t i, w;

    for (i = 0; i < sizeof readers / sizeof *readers; i++) {
        TESTF("a-marker-that-was-overwritten-is-EILSEQ-in-%s", readers[i].name);
        for (w = 0; w < sizeof words / sizeof *words; w++) {
            struct palloc_t *pt = sample();
            struct bytes before;
            char number[32];
            uint8_t raw[8];

            frees_160 = other_tx = NULL;
            if (strncmp(readers[i].name, "palloc_tx", 9) == 0 || readers[i].fails == fails_palloc_commit) {
                frees_160 = palloc_begin(pt);
                other_tx = palloc_begin(pt);
                REQUIRE(frees_160 != NULL && other_tx != NULL);
                if (readers[i].fails == fails_palloc_commit)
                    REQUIRE(palloc_tx_free(frees_160, 160) == 0);
            }
            put64(raw, words[w]);
            CHECK_EQ_I(pwrite(pt->descriptor, raw, 8, (off_t)readers[i].marker), 8);
            before = file_read(FILE_NAME);
            errno = 0;
            CHECK(readers[i].fails(pt));
            CHECK_ERRNO(EILSEQ);
            snprintf(number, sizeof number, "%llu", (unsigned long long)readers[i].marker);
            CHECK_STR_CONTAINS(palloc_error(), readers[i].is_free ? "at offset" : number);
            CHECK(file_is(FILE_NAME, &before));
            bytes_free(&before);
            palloc_close(pt);
        }
    }
}

static void overwritten(void)
{
    static const uint64_t words[] = {0, 1, UINT64_C(0x6f7665727275216e), UINT64_MAX >> 1, 15};
    size_t w;

    TEST("a-start-marker-that-was-overwritten-is-EILSEQ");
    for (w = 0; w < sizeof words / sizeof words[0]; w++) {
        struct palloc_t *pt = sample();
        struct palloc_stat stat;
        struct bytes before;
        uint8_t raw[8];

        put64(raw, words[w]);
        CHECK_EQ_I(pwrite(pt->descriptor, raw, 8, 152), 8);
        before = file_read(FILE_NAME);
        errno = 0;
        CHECK_EQ_U(palloc_size(pt, 160), 0);
        CHECK_ERRNO(EILSEQ);
        CHECK_STR_CONTAINS(palloc_error(), "152");
        errno = 0;
        CHECK(palloc_data(pt, 160) == NULL);
        CHECK_ERRNO(EILSEQ);
        errno = 0;
        if (palloc_next(pt, 160) == 0) /* the next one need not depend on the marker */
            CHECK_ERRNO(EILSEQ);
        else
            CHECK_EQ_U(palloc_next(pt, 160), 208);
        errno = 0;
        pfree(pt, 160);
        CHECK_ERRNO(EILSEQ);
        errno = 0;
        CHECK_EQ_U(prealloc(pt, 160, 1000), 0);
        CHECK_ERRNO(EILSEQ);
        errno = 0;
        CHECK_EQ_I(palloc_stat(pt, &stat), -1);
        CHECK_ERRNO(EILSEQ);
        errno = 0;
        CHECK_EQ_I(palloc_walk(pt, walk_nothing, NULL), -1);
        CHECK_ERRNO(EILSEQ);
        CHECK(file_is(FILE_NAME, &before));
        bytes_free(&before);
        palloc_close(pt); /* whatever it says, it ends */
        errno = 0;
        CHECK(palloc_init(FILE_NAME, PALLOC_DEFAULT) == NULL);
        CHECK_ERRNO(EILSEQ);
    }

    TEST("palloc_stat-that-fails-leaves-out-untouched");
    {
        struct palloc_t *pt = sample();
        struct palloc_stat stat, copy;
        uint8_t raw[8] = {0};

        memset(&stat, 0x5a, sizeof stat);
        copy = stat;
        CHECK_EQ_I(pwrite(pt->descriptor, raw, 8, 152), 8);
        CHECK_EQ_I(palloc_stat(pt, &stat), -1);
        CHECK(memcmp(&stat, &copy, sizeof stat) == 0);
        palloc_close(pt);
    }

    TEST("a-blob-written-16-bytes-too-far-does-no-harm-beyond-its-neighbour");
    {
        struct palloc_t *pt = sample();
        uint8_t *data = palloc_data(pt, 16);
        memset(data, 0x41, 64 + 16); /* its end marker, and the start marker of the free block at 88 */
        errno = 0;
        CHECK_EQ_U(palloc(pt, 48), 0);
        CHECK_ERRNO(EILSEQ);
        blob_intact(pt, 160, 2, 32, BY_ADDRESS);
        blob_intact(pt, 208, 3, 128, BY_ADDRESS);
        palloc_close(pt);
    }
}

int main(void)
{
    TEST("palloc_error-is-empty-before-anything-failed");
    CHECK_STR(palloc_error(), "");
    PART(bad_offsets());
    PART(stray_reads());
    PART(impossible_sizes());
    PART(full_static());
    PART(null_handles());
    PART(quiet_success());
    PART(texts());
    PART(overwritten());
    PART(overwritten_each());
    return tap_done();
}
