/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The functions beside the documented ones: palloc_data, prealloc, palloc_walk, palloc_stat, palloc_check. */

#include "palloc_util.h"

#define FILE_NAME "data.db"

static void closed_sound(struct palloc_t *pt)
{
    uint64_t size = pt->size;

    palloc_close(pt);
    CHECK_EQ_U(file_size(FILE_NAME), size);
    CHECK_SOUND(FILE_NAME);
}

/* ------------------------------------------------------------------------------------------------------------------- palloc_data */

/*
 * Two addresses of the same bytes. They are the same address, except where the medium has outgrown what a small address space could
 * reserve for it, and on Windows where it grew at all: then the old one stays good beside the new one.
 */
static int same_bytes(uint8_t *old, uint8_t *new)
{
#ifdef _WIN32
    const int may_differ = 1;
#else
    const int may_differ = sizeof(void *) < 8;
#endif

    if (old == new || !may_differ)
        return old == new;
    (*(volatile uint8_t *)old)++;
    if (*(volatile uint8_t *)new != *(volatile uint8_t *)old)
        return 0;
    (*(volatile uint8_t *)new)--;
    return *(volatile uint8_t *)new == *(volatile uint8_t *)old;
}

static void addresses(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t first, ptr, k;
    uint8_t *data, *base;

    TEST("the-address-of-a-blob-stays-while-the-medium-grows-by-100-MiB");
    first = palloc(pt, 1000);
    data = palloc_data(pt, first);
    REQUIRE(data != NULL);
    pattern_fill(data, 70000, 0, 1000);
    for (k = 1; k <= 100; k++) {
        ptr = palloc(pt, MIB);
        if (!CHECK(ptr != 0) || !CHECK(same_bytes(data, palloc_data(pt, first))))
            break;
        memset(palloc_data(pt, ptr), (int)k, 100);
        if (!CHECK_EQ_U(pattern_match(data, 70000, 1000), 1000))
            break;
    }
    CHECK_EQ_U((uintptr_t)data % 16, 0);

    TEST("addresses-are-as-far-apart-as-offsets");
    base = palloc_data(pt, first);
    for (ptr = first; ptr != 0; ptr = palloc_next(pt, ptr))
        CHECK(palloc_data(pt, ptr) == base + (ptr - first));

    TEST("the-address-of-a-blob-stays-while-the-medium-shrinks");
    while ((ptr = palloc_next(pt, first)) != 0)
        pfree(pt, ptr);
    CHECK_EQ_U(pt->size, 8 + 1008 + 16);
    CHECK(same_bytes(data, palloc_data(pt, first)));
    CHECK_EQ_U(pattern_match(data, 70000, 1000), 1000);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(pattern_match(data, 70000, 1000), 1000);
    CHECK(palloc(pt, 3 * MIB) != 0);
    CHECK(same_bytes(data, palloc_data(pt, first)));

    TEST("the-address-and-the-descriptor-show-the-same-bytes");
    {
        struct rng rng = {8};
        uint64_t at = palloc(pt, 100000);
        uint8_t *bytes = palloc_data(pt, at), copy[300];
        for (k = 0; k < 500; k++) {
            uint64_t from = rng_below(&rng, 99000), n = 1 + rng_below(&rng, 300);
            memset(copy, (int)k, sizeof copy);
            if (k % 2) {
                CHECK_EQ_I(pwrite(pt->descriptor, copy, n, (off_t)(at + from)), n);
            } else {
                memset(bytes + from, (int)(uint8_t)k, n);
                memset(copy, ~(int)k, sizeof copy);
                CHECK_EQ_I(pread(pt->descriptor, copy, n, (off_t)(at + from)), n);
            }
            if (!CHECK_MEM(bytes + from, copy, n))
                break;
        }
    }

    TEST("all-palloc_size-bytes-belong-to-the-blob");
    {
        uint64_t a = palloc(pt, 1), b = palloc(pt, 17), c = palloc(pt, 100);
        memset(palloc_data(pt, a), 0xaa, palloc_size(pt, a));
        memset(palloc_data(pt, b), 0xbb, palloc_size(pt, b));
        memset(palloc_data(pt, c), 0xcc, palloc_size(pt, c));
        CHECK_VIEW(pt);
        CHECK_EQ_U(palloc_size(pt, a), 16);
        CHECK_EQ_U(palloc_size(pt, b), 32);
        CHECK_EQ_U(palloc_size(pt, c), 112);
    }
    closed_sound(pt);
}

static int write_byte(void *p)
{
    *(volatile uint8_t *)p = 1;
    return 0;
}

static void readonly_address(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 100);
    uint8_t *data;

    blob_write(pt, ptr, 70001, 0, 100, BY_ADDRESS);
    palloc_close(pt);

    TEST("with-READONLY-the-bytes-can-be-read-but-not-written");
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    data = palloc_data(pt, ptr);
    REQUIRE(data != NULL);
    CHECK_EQ_U(pattern_match(data, 70001, 100), 100);
#ifdef _WIN32
    CHECK(fault_in(write_byte, data));
#else
    {
        int status = 0;
        pid_t child;

        fflush(stdout);
        child = fork();
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL);
            write_byte(data);
            _exit(0);
        }
        CHECK_EQ_I(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    }
#endif
    errno = 0;
    CHECK_EQ_I(pwrite(pt->descriptor, "x", 1, (off_t)ptr), -1);
    CHECK_EQ_I(errno, EBADF);
    palloc_close(pt);
}

/* ---------------------------------------------------------------------------------------------------------------------- prealloc */

/* Blobs of 64 at 16, 96, 176, and of 16 at 256, with patterns; 280 bytes. */
static struct palloc_t *row(void)
{
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);

    REQUIRE(palloc(pt, 64) == 16);
    REQUIRE(palloc(pt, 64) == 96);
    REQUIRE(palloc(pt, 64) == 176);
    REQUIRE(palloc(pt, 16) == 256);
    blob_write(pt, 16, 70016, 0, 64, BY_ADDRESS);
    blob_write(pt, 96, 70096, 0, 64, BY_ADDRESS);
    blob_write(pt, 176, 70176, 0, 64, BY_ADDRESS);
    blob_write(pt, 256, 70256, 0, 16, BY_ADDRESS);
    return pt;
}

static void resizing(void)
{
    struct palloc_t *pt;
    uint64_t ptr, size;
    struct palloc_stat stat;

    TEST("prealloc-grows-in-place-into-a-free-neighbour");
    pt = row();
    pfree(pt, 96);
    CHECK_EQ_U(prealloc(pt, 16, 100), 16);
    CHECK_EQ_U(palloc_size(pt, 16), 144); /* 32 bytes too many are not split off */
    blob_intact(pt, 16, 70016, 64, BY_ADDRESS);
    blob_intact(pt, 176, 70176, 64, BY_ADDRESS);
    CHECK_VIEW(pt);
    closed_sound(pt);

    TEST("prealloc-takes-of-a-free-neighbour-only-what-it-needs");
    pt = row();
    pfree(pt, 96);
    CHECK_EQ_U(prealloc(pt, 16, 90), 16);
    CHECK_EQ_U(palloc_size(pt, 16), 96);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.free_blocks, 1);
    CHECK_EQ_U(stat.largest_free, 32);
    CHECK_EQ_U(palloc(pt, 32), 128);
    closed_sound(pt);

    TEST("prealloc-to-all-of-a-free-neighbour-fits-exactly");
    pt = row();
    pfree(pt, 96);
    CHECK_EQ_U(prealloc(pt, 16, 144), 16);
    CHECK_EQ_U(palloc_size(pt, 16), 144);
    CHECK_EQ_U(palloc_next(pt, 16), 176);
    closed_sound(pt);

    TEST("prealloc-to-the-same-size-changes-nothing");
    pt = row();
    CHECK_EQ_U(prealloc(pt, 96, 64), 96);
    CHECK_EQ_U(prealloc(pt, 96, 50), 96);
    CHECK_EQ_U(palloc_size(pt, 96), 64);
    blob_intact(pt, 96, 70096, 64, BY_ADDRESS);
    CHECK_VIEW(pt);

    TEST("shrinking-gives-back-what-is-worth-a-block");
    CHECK_EQ_U(prealloc(pt, 96, 32), 96); /* 32 bytes are not */
    CHECK_EQ_U(palloc_size(pt, 96), 64);
    CHECK_EQ_U(prealloc(pt, 96, 16), 96); /* 48 are */
    CHECK_EQ_U(palloc_size(pt, 96), 16);
    blob_intact(pt, 96, 70096, 16, BY_ADDRESS);
    blob_intact(pt, 176, 70176, 64, BY_ADDRESS);
    CHECK_EQ_U(palloc_size(pt, 128), 32);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.free_blocks, 1);
    CHECK_VIEW(pt);
    closed_sound(pt);

    TEST("shrinking-to-0-leaves-16-bytes");
    pt = row();
    CHECK_EQ_U(prealloc(pt, 96, 0), 96);
    CHECK_EQ_U(palloc_size(pt, 96), 16);
    blob_intact(pt, 96, 70096, 16, BY_DESCRIPTOR);
    closed_sound(pt);

    TEST("shrinking-the-last-blob-of-a-dynamic-medium-shrinks-the-medium-or-leaves-a-free-block");
    pt = row();
    ptr = palloc(pt, 10000);
    blob_write(pt, ptr, 70300, 0, 10000, BY_ADDRESS);
    CHECK_EQ_U(prealloc(pt, ptr, 100), ptr);
    CHECK_EQ_U(palloc_size(pt, ptr), 112);
    blob_intact(pt, ptr, 70300, 100, BY_ADDRESS);
    CHECK_VIEW(pt);
    pfree(pt, ptr);
    CHECK_EQ_U(pt->size, 280);
    closed_sound(pt);

    TEST("growing-where-there-is-no-room-moves-with-the-contents");
    pt = row();
    ptr = prealloc(pt, 96, 5000);
    CHECK(ptr > 256);
    CHECK_EQ_U(ptr % 16, 0);
    CHECK(palloc_size(pt, ptr) >= 5000);
    blob_intact(pt, ptr, 70096, 64, BY_ADDRESS);
    blob_intact(pt, ptr, 70096, 64, BY_DESCRIPTOR);
    errno = 0;
    CHECK(palloc_data(pt, 96) == NULL); /* the old place is free */
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_U(palloc_size(pt, 96), 64);
    CHECK_EQ_U(palloc(pt, 64), 96);
    CHECK_VIEW(pt);
    blob_intact(pt, 16, 70016, 64, BY_ADDRESS);
    blob_intact(pt, 176, 70176, 64, BY_ADDRESS);
    closed_sound(pt);

    TEST("the-last-blob-grows-with-its-contents");
    pt = row();
    for (ptr = 256, size = 17; size < 3 * MIB; size = size * 3 / 2) {
        ptr = prealloc(pt, ptr, size);
        if (!CHECK(ptr != 0) || !blob_intact(pt, ptr, 70256, 16, BY_ADDRESS))
            break;
        CHECK(palloc_size(pt, ptr) >= size);
    }
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, 4);
    CHECK_VIEW(pt);
    closed_sound(pt);

    TEST("prealloc-of-0-is-palloc");
    pt = row();
    CHECK_EQ_U(prealloc(pt, 0, 20), 288);
    CHECK_EQ_U(palloc_size(pt, 288), 32);
    CHECK_EQ_U(prealloc(pt, 0, 0), 336);
    CHECK_EQ_U(palloc_size(pt, 336), 16);
    closed_sound(pt);

    TEST("a-prealloc-that-fails-keeps-the-blob");
    file_zeros(FILE_NAME, 1032);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    REQUIRE(palloc(pt, 400) == 16);
    REQUIRE(palloc(pt, 560) == 432);
    blob_write(pt, 16, 70400, 0, 400, BY_ADDRESS);
    errno = 0;
    CHECK_EQ_U(prealloc(pt, 16, 401), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_EQ_U(palloc_size(pt, 16), 400);
    blob_intact(pt, 16, 70400, 400, BY_ADDRESS);
    errno = 0;
    CHECK_EQ_U(prealloc(pt, 16, 100000), 0);
    CHECK_ERRNO(ENOSPC);
    blob_intact(pt, 16, 70400, 400, BY_DESCRIPTOR);
    CHECK_VIEW(pt);

    TEST("shrinking-works-on-a-full-static-medium");
    CHECK_EQ_U(prealloc(pt, 16, 100), 16);
    CHECK_EQ_U(palloc_size(pt, 16), 112);
    blob_intact(pt, 16, 70400, 100, BY_ADDRESS);
    CHECK_EQ_U(palloc(pt, 272), 144);

    TEST("a-static-medium-can-move-a-blob-within-itself");
    pfree(pt, 432);
    CHECK_EQ_U(prealloc(pt, 16, 300), 432);
    blob_intact(pt, 432, 70400, 100, BY_ADDRESS);
    CHECK_EQ_U(palloc_first(pt), 144);
    closed_sound(pt);

    TEST("a-large-blob-moves-whole");
    pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    ptr = palloc(pt, 5 * MIB);
    CHECK(palloc(pt, 16) != 0);
    blob_write(pt, ptr, 70500, 0, 5 * MIB, BY_ADDRESS);
    ptr = prealloc(pt, ptr, 9 * MIB);
    blob_intact(pt, ptr, 70500, 5 * MIB, BY_ADDRESS);
    ptr = prealloc(pt, ptr, MIB);
    blob_intact(pt, ptr, 70500, MIB, BY_DESCRIPTOR);
    closed_sound(pt);
}

/* ------------------------------------------------------------------------------------------------------------------- palloc_walk */

struct visit {
    struct palloc_t *pt;
    uint64_t seen[64];
    size_t count, stop_after;
    int what; /* done to each visited blob: 'f' freed, 'a' another one allocated, 'n' a walk of its own */
};

static int visit(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    struct visit *v = user;

    CHECK(is_free == 0 || is_free == 1);
    CHECK_EQ_U(palloc_size(v->pt, ptr), size); /* the medium is not locked */
    if (v->count < 64)
        v->seen[v->count] = ptr;
    v->count++;
    if (v->what == 'f' && !is_free) {
        errno = 0;
        pfree(v->pt, ptr);
        CHECK_EQ_I(errno, 0);
    }
    if (v->what == 'a' && v->count < 20)
        CHECK(palloc(v->pt, 16) != 0);
    if (v->what == 'n') {
        struct blocks inner = {NULL, 0, 0};
        CHECK_EQ_I(palloc_walk(v->pt, walk_collect, &inner), 0);
        CHECK(inner.count == 4);
        free(inner.at);
    }
    return v->stop_after != 0 && v->count == v->stop_after ? 4242 : 0;
}

static void walks(void)
{
    struct visit v;
    struct palloc_t *pt;
    size_t i;

    TEST("a-walk-shows-every-block-by-address-free-ones-too");
    pt = row();
    pfree(pt, 96);
    memset(&v, 0, sizeof v);
    v.pt = pt;
    CHECK_EQ_I(palloc_walk(pt, visit, &v), 0);
    CHECK_EQ_U(v.count, 4);
    CHECK(v.seen[0] == 16 && v.seen[1] == 96 && v.seen[2] == 176 && v.seen[3] == 256);

    TEST("a-walk-ends-with-what-the-function-returns");
    memset(&v, 0, sizeof v);
    v.pt = pt;
    v.stop_after = 2;
    errno = UNTOUCHED;
    CHECK_EQ_I(palloc_walk(pt, visit, &v), 4242);
    CHECK_EQ_I(errno, UNTOUCHED);
    CHECK_EQ_U(v.count, 2);

    TEST("walks-may-be-nested");
    memset(&v, 0, sizeof v);
    v.pt = pt;
    v.what = 'n';
    CHECK_EQ_I(palloc_walk(pt, visit, &v), 0);
    CHECK_EQ_U(v.count, 4);
    closed_sound(pt);

    TEST("an-empty-medium-has-nothing-to-walk");
    pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    memset(&v, 0, sizeof v);
    v.pt = pt;
    CHECK_EQ_I(palloc_walk(pt, visit, &v), 0);
    CHECK_EQ_U(v.count, 0);
    palloc_close(pt);

    TEST("a-walk-may-allocate-and-sees-the-old-blobs-once");
    pt = row();
    memset(&v, 0, sizeof v);
    v.pt = pt;
    v.what = 'a';
    CHECK_EQ_I(palloc_walk(pt, visit, &v), 0);
    CHECK(v.count >= 4 && v.count < 64);
    CHECK(v.seen[0] == 16 && v.seen[1] == 96 && v.seen[2] == 176 && v.seen[3] == 256);
    for (i = 1; i < v.count; i++)
        CHECK(v.seen[i] > v.seen[i - 1]);
    CHECK_VIEW(pt);
    closed_sound(pt);

    TEST("a-walk-may-free-what-it-visits");
    pt = row();
    memset(&v, 0, sizeof v);
    v.pt = pt;
    v.what = 'f';
    CHECK_EQ_I(palloc_walk(pt, visit, &v), 0);
    CHECK_EQ_U(v.seen[0], 16);
    CHECK_EQ_U(palloc_first(pt), 0);
    CHECK_EQ_U(pt->size, 8);
    closed_sound(pt);

    TEST("a-walk-that-frees-reaches-every-blob");
    pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    for (i = 0; i < 500; i++)
        REQUIRE(palloc(pt, i % 100) != 0);
    {
        uint64_t ptr, next;
        size_t k = 0;
        for (ptr = palloc_first(pt); ptr != 0; ptr = next) { /* holes, so that what is freed merges both ways */
            next = palloc_next(pt, ptr);
            if (k++ % 3 == 0)
                pfree(pt, ptr);
        }
    }
    memset(&v, 0, sizeof v);
    v.pt = pt;
    v.what = 'f';
    CHECK_EQ_I(palloc_walk(pt, visit, &v), 0);
    CHECK_EQ_U(palloc_first(pt), 0);
    CHECK_EQ_U(pt->size, 8);
    closed_sound(pt);
}

/* ------------------------------------------------------------------------------------------------------------------- palloc_stat */

static void statistics(void)
{
    struct rng rng = {31};
    struct shadow s;
    unsigned round;
    struct palloc_t *pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);

    TEST("palloc_stat-after-palloc_sync-agrees-with-the-file");
    shadow_init(&s, 31, 2000, 200, 1);
    for (round = 0; round < 20; round++) {
        struct palloc_stat stat;
        struct medium m;
        unsigned k;

        for (k = 0; k < 100; k++)
            REQUIRE(model_step(pt, &s, &rng));
        CHECK_EQ_I(palloc_sync(pt), 0);
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        medium_load(&m, FILE_NAME);
        CHECK_EQ_U(m.faults, 0);
        CHECK(medium_ends_at(&m, stat.medium_size));
        CHECK_EQ_U(stat.live_blobs, m.live);
        CHECK_EQ_U(stat.live_bytes, m.live_bytes);
        CHECK_EQ_U(stat.free_blocks, m.free);
        CHECK_EQ_U(stat.free_bytes, m.free_bytes);
        CHECK_EQ_U(stat.largest_free, m.largest_free);
        CHECK_EQ_U(stat.live_blobs, s.count);
        CHECK_EQ_U(8 + stat.live_bytes + stat.free_bytes + 16 * (stat.live_blobs + stat.free_blocks), stat.medium_size);
        medium_free(&m);
    }
    shadow_free(&s);
    closed_sound(pt);
}

/* ------------------------------------------------------------------------------------------------------------------ palloc_check */

struct reports {
    uint64_t at[32];
    size_t count;
};

static void collect(void *user, uint64_t offset, const char *what)
{
    struct reports *r = user;

    CHECK(what != NULL && strlen(what) > 3);
    if (r->count < 32)
        r->at[r->count] = offset;
    r->count++;
}

/* live 32 at 8, free 48 at 56, live 16 at 120, free 64 at 152, live 32 at 232, free 16 at 280; 312 bytes */
static struct bytes sample(void)
{
    struct bytes b;

    build_header(&b, PALLOC_DEFAULT);
    build_block(&b, 32, 0);
    build_block(&b, 48, 1);
    build_block(&b, 16, 0);
    build_block(&b, 64, 1);
    build_block(&b, 32, 0);
    build_block(&b, 16, 1);
    build_links(&b, 56, 0, 152);
    build_links(&b, 152, 56, 280);
    build_links(&b, 280, 152, 0);
    return b;
}

/* palloc_check finds `count` violations, one of them at `offset` or `or_at`; the file is left alone. */
static void finds(struct bytes *b, size_t count, uint64_t offset, uint64_t or_at)
{
    struct reports r;
    struct stat was, is;
    size_t i;
    int there = count == 0;
    int64_t found;

    file_write(FILE_NAME, b->at, b->size);
    CHECK(stat(FILE_NAME, &was) == 0);
    memset(&r, 0, sizeof r);
    errno = UNTOUCHED;
    found = palloc_check(FILE_NAME, collect, &r);
    CHECK_EQ_I(errno, UNTOUCHED);
    CHECK_EQ_I(found, count);
    CHECK_EQ_U(r.count, count);
    for (i = 0; i < r.count && i < 32; i++)
        there |= r.at[i] == offset || r.at[i] == or_at;
    if (!CHECK(there))
        DIAG("wanted at %llu, reported first at %llu", (unsigned long long)offset, (unsigned long long)r.at[0]);
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), found);
    CHECK(file_is(FILE_NAME, b));
    CHECK(stat(FILE_NAME, &is) == 0);
    CHECK(same_mtime(&is, &was));
    bytes_free(b);
}

static void checks(void)
{
    struct bytes b;

    TEST("a-sound-medium-has-no-violation");
    b = sample();
    finds(&b, 0, 0, 0);

    TEST("an-end-marker-that-differs-is-found");
    b = sample();
    put64(b.at + 48, 33);
    finds(&b, 1, 8, 8);
    b = sample();
    put64(b.at + 112, 48); /* not free */
    finds(&b, 1, 56, 56);
    b = sample();
    put64(b.at + 144, 16 | FREE_BIT);
    finds(&b, 1, 120, 120);

    TEST("a-wrong-prev-is-found");
    b = sample();
    put64(b.at + 160, 8);
    finds(&b, 1, 152, 152);
    b = sample();
    put64(b.at + 64, 280);
    finds(&b, 1, 56, 56);
    b = sample();
    put64(b.at + 288, 0);
    finds(&b, 1, 280, 280);

    TEST("a-wrong-next-is-found");
    b = sample();
    put64(b.at + 72, 280);
    finds(&b, 1, 56, 56);
    b = sample();
    put64(b.at + 296, 56);
    finds(&b, 1, 280, 280);
    b = sample();
    put64(b.at + 168, UINT64_MAX);
    finds(&b, 1, 152, 152);

    TEST("free-blocks-side-by-side-are-found");
    build_header(&b, PALLOC_DYNAMIC);
    build_block(&b, 16, 1);
    build_block(&b, 32, 1);
    build_block(&b, 16, 0);
    build_links(&b, 8, 0, 40);
    build_links(&b, 40, 8, 0);
    finds(&b, 1, 8, 40);

    TEST("a-free-block-outside-of-the-list-is-found");
    b = sample();
    build_links(&b, 56, 0, 280);
    build_links(&b, 280, 56, 0);
    build_links(&b, 152, 0, 0);
    file_write(FILE_NAME, b.at, b.size);
    CHECK(palloc_check(FILE_NAME, NULL, NULL) >= 1);
    bytes_free(&b);

    TEST("a-size-that-is-too-small-or-too-large-is-found");
    b = sample();
    put64(b.at + 120, 15);
    file_write(FILE_NAME, b.at, b.size);
    {
        struct reports r;
        memset(&r, 0, sizeof r);
        CHECK(palloc_check(FILE_NAME, collect, &r) >= 1);
        CHECK_EQ_U(r.at[r.count - 1], 120);
    }
    bytes_free(&b);
    b = sample();
    put64(b.at + 120, 10000);
    file_write(FILE_NAME, b.at, b.size);
    {
        struct reports r;
        memset(&r, 0, sizeof r);
        CHECK(palloc_check(FILE_NAME, collect, &r) >= 1);
        CHECK_EQ_U(r.at[r.count - 1], 120);
    }
    bytes_free(&b);

    TEST("bytes-behind-the-last-block-are-found");
    b = sample();
    build_zeros(&b, 100);
    finds(&b, 1, 312, 312);
    b = sample();
    build_zeros(&b, 1);
    finds(&b, 1, 312, 312);

    TEST("a-missing-header-is-found");
    b = sample();
    b.at[0] = 'Q';
    finds(&b, 1, 0, 0);
    b = bytes_new(5);
    finds(&b, 1, 0, 0);
    b = bytes_new(0);
    finds(&b, 1, 0, 0);
    b = bytes_new(1000);
    finds(&b, 1, 0, 0);

    TEST("several-violations-are-all-found");
    b = sample();
    put64(b.at + 48, 0);
    put64(b.at + 160, 1);
    put64(b.at + 296, 1);
    finds(&b, 3, 152, 152);

    TEST("a-medium-opened-for-reading-can-be-checked");
    b = sample();
    file_write(FILE_NAME, b.at, b.size);
    bytes_free(&b);
    {
        struct palloc_t *pt = palloc_init(FILE_NAME, PALLOC_READONLY);
        CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
        palloc_close(pt);
    }

    TEST("what-a-check-finds-a-repair-mends");
    b = sample();
    put64(b.at + 48, 0);
    put64(b.at + 160, 1);
    put64(b.at + 296, 1);
    file_write(FILE_NAME, b.at, b.size);
    bytes_free(&b);
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 3);
    palloc_close(palloc_init(FILE_NAME, PALLOC_DEFAULT));
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
    CHECK_SOUND(FILE_NAME);
}

int main(void)
{
    PART(addresses());
    PART(readonly_address());
    PART(resizing());
    PART(walks());
    PART(statistics());
    PART(checks());
    return tap_done();
}
