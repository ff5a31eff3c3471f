/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc_aligned, palloc_trim and palloc_unreachable, with each of their errors.
 *
 * POSIX only: it counts system calls and the blocks of files
 */
#include "palloc_util.h"
#include "support/mounted.h"

#include <sys/ioctl.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#define FILE_NAME "more.db"

/* ------------------------------------------------------------------------------------------------------------------------- alignment */

static void aligned(void)
{
    static const size_t alignments[] = {1, 2, 16, 32, 64, 256, 4096, 65536};
    struct palloc_t *pt;
    uint64_t ptr, largest;
    unsigned i, k;

    for (k = 0; k < 3; k++) {
        TESTF("offsets-and-addresses-are-aligned-%s", k == 0 ? "dynamic" : k == 1 ? "static" : "SYNC");
        unlink(FILE_NAME);
        if (k == 1)
            file_zeros(FILE_NAME, 4 * MIB + 1);
        pt = palloc_init(FILE_NAME, k == 0 ? PALLOC_DYNAMIC : k == 1 ? PALLOC_DEFAULT : PALLOC_DYNAMIC | PALLOC_SYNC);
        REQUIRE(pt != NULL);
        for (i = 0; i < 200; i++) {
            size_t alignment = alignments[i % 8], size = i * 37 % 5000;
            size_t address = alignment < 4096 ? alignment : 4096;

            errno = UNTOUCHED;
            ptr = palloc_aligned(pt, alignment, size);
            if (!CHECK(ptr != 0 && ptr % alignment == 0 && palloc_size(pt, ptr) >= size)
                || !CHECK((uintptr_t)palloc_data(pt, ptr) % address == 0))
                DIAG("%zu bytes aligned to %zu: %llu", size, alignment, (unsigned long long)ptr);
            CHECK_ERRNO(UNTOUCHED);
            blob_write(pt, ptr, i, 0, palloc_size(pt, ptr), BY_ADDRESS);
            if (i % 5 == 4) {
                pfree(pt, palloc_first(pt));
                CHECK(palloc(pt, 100) != 0); /* what is in front of an aligned blob is in use again */
            }
        }
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("the-space-before-an-aligned-blob-is-free-and-less-than-the-alignment-and-32-bytes");
    pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    ptr = palloc_aligned(pt, MIB, 100);
    CHECK_EQ_U(ptr, MIB);
    CHECK_EQ_U(palloc(pt, 1000), 16);
    CHECK_EQ_U(palloc(pt, 1000), 16 + 1008 + 16);
    CHECK_EQ_U(palloc_aligned(pt, MIB, 100), 2 * MIB);
    pfree(pt, MIB);
    CHECK_EQ_U(palloc_aligned(pt, MIB, 100), MIB);
    CHECK_EQ_U(prealloc(pt, MIB, 100), MIB);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("what-is-no-alignment-is-EINVAL");
    pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    for (i = 0; i < 6; i++) {
        static const size_t bad[] = {0, 3, 24, 48, (size_t)1 << 31, SIZE_MAX};

        errno = 0;
        CHECK_EQ_U(palloc_aligned(pt, bad[i], 10), 0);
        CHECK_ERRNO(EINVAL);
        CHECK_STR_CONTAINS(palloc_error(), "is no power of two");
    }
    CHECK_EQ_U(pt->size, 8);
    errno = 0;
    CHECK_EQ_U(palloc_aligned(NULL, 16, 10), 0);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_U(palloc_aligned(pt, 16, SIZE_MAX), 0);
    CHECK_ERRNO(ENOMEM);
    palloc_close(pt);
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc_aligned(pt, 64, 10), 0);
    CHECK_ERRNO(EROFS);
    palloc_close(pt);

    TEST("a-static-medium-without-an-aligned-place-is-ENOSPC-and-unchanged");
    file_zeros(FILE_NAME, 6000);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    errno = 0;
    CHECK_EQ_U(palloc_aligned(pt, 4096, 1897), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_EQ_U(palloc_aligned(pt, 8192, 1), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_EQ_U(palloc_aligned(pt, 4096, 1896), 4096);
    for (largest = 0; palloc(pt, 16) != 0; largest++) {
    }
    CHECK(largest > 100);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

/* A child allocates aligned blobs and frees some until it is killed; each is there, with its bytes, or was in flight. */
static void killed(void)
{
    unsigned round, rounds = 40 / tap_every(4);
    struct rng rng;

    TEST("a-kill-in-palloc_aligned-and-palloc_trim-loses-nothing");
    unlink(FILE_NAME);
    rng.state = 77;
    for (round = 0; round < rounds; round++) {
        struct palloc_t *pt;
        struct palloc_stat stat;
        uint64_t ptr, bytes = 0;
        int pipes[2], status;
        pid_t child;
        char byte;

        fflush(stdout);
        REQUIRE(pipe(pipes) == 0);
        child = fork();
        if (child == 0) {
            uint64_t kept[50], i;

            pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
            if (pt == NULL || write(pipes[1], "", 1) != 1)
                _exit(1);
            memset(kept, 0, sizeof kept);
            for (i = 0;; i++) {
                uint64_t *place = &kept[rng_below(&rng, 50)], size = 8 + rng_below(&rng, i % 10 == 0 ? 60000 : 300);

                if (*place != 0)
                    pfree(pt, *place);
                *place = palloc_aligned(pt, (size_t)1 << rng_below(&rng, 13), size);
                if (*place == 0)
                    _exit(1);
                memset(palloc_data(pt, *place), 0, size);
                memcpy(palloc_data(pt, *place), place, 8); /* a blob of its own, or zeros */
                if (i % 40 == 0 && palloc_trim(pt, 4096) < 0 && errno != EOPNOTSUPP)
                    _exit(1);
            }
        }
        close(pipes[1]);
        CHECK_EQ_I(read(pipes[0], &byte, 1), 1);
        close(pipes[0]);
        usleep((useconds_t)rng_below(&rng, 30000));
        kill(child, SIGKILL);
        CHECK_EQ_I(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status));
        pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
        if (!CHECK(pt != NULL)) {
            DIAG("%s", palloc_error());
            return;
        }
        CHECK_VIEW(pt);
        for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr)) {
            bytes++;
            pfree(pt, ptr);
        }
        CHECK(bytes <= 51);
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(stat.live_blobs, 0);
        CHECK(pt->size == 8 || (stat.free_blocks == 1 && stat.free_bytes == pt->size - 24)); /* no space is lost */
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
        rng_next(&rng);
    }
}

/* ------------------------------------------------------------------------------------------------------------------------------ trim */

#if defined(__linux__) && defined(__LP64__)
#define HAS_CALLS 1
static unsigned syncs, punched, punched_before_sync; /* calls, and those that came too early */
static int fail_punch;

int fdatasync(int fd)
{
    syncs++;
    return (int)syscall(SYS_fdatasync, fd);
}

int fallocate64(int fd, int mode, off64_t at, off64_t len)
{
    if (mode & 2) { /* FALLOC_FL_PUNCH_HOLE */
        punched++;
        punched_before_sync += syncs < 2;
        if (fail_punch) {
            errno = fail_punch;
            return -1;
        }
    }
    return (int)syscall(SYS_fallocate, fd, mode, at, len);
}
#endif

/* 64 blobs of 256 KiB, of which every second is freed. */
static struct palloc_t *with_gaps(const char *path, uint64_t *ptr, uint32_t flags)
{
    struct palloc_t *pt;
    unsigned i;

    unlink(path);
    if (!(flags & PALLOC_DYNAMIC))
        file_zeros(path, 20 * MIB);
    pt = palloc_init(path, flags);
    REQUIRE(pt != NULL);
    for (i = 0; i < 64; i++) {
        ptr[i] = palloc(pt, 256 << 10);
        REQUIRE(ptr[i] != 0);
        blob_write(pt, ptr[i], i, 0, 256 << 10, BY_ADDRESS);
    }
    for (i = 0; i < 64; i += 2)
        pfree(pt, ptr[i]);
    return pt;
}

static void trim_on(const char *directory, const char *kind)
{
    char path[300];
    uint64_t ptr[64], before, after;
    unsigned i, k;
    struct palloc_t *pt;
    int64_t bytes;

    snprintf(path, sizeof path, "%s/" FILE_NAME, directory);
    for (k = 0; k < 3; k++) {
        TESTF("free-space-is-given-back-and-used-again-%s-%s", k == 0 ? "dynamic" : k == 1 ? "static" : "SYNC", kind);
        pt = with_gaps(path, ptr, k == 0 ? PALLOC_DYNAMIC : k == 1 ? PALLOC_DEFAULT : PALLOC_DYNAMIC | PALLOC_SYNC);
        CHECK_EQ_I(palloc_sync(pt), 0);
        before = file_disk(path);
        CHECK_EQ_I(palloc_trim(pt, 0) > 0, k == 1); /* only pieces of 1 MiB: that at the end of the static medium */
        errno = UNTOUCHED;
        bytes = palloc_trim(pt, 128 << 10);
        if (bytes < 0 && errno == EOPNOTSUPP) {
            SKIP("this file system has no holes");
            palloc_close(pt);
            continue;
        }
        CHECK_ERRNO(UNTOUCHED);
        after = file_disk(path);
        CHECK(bytes > 32 * (240 << 10) - 4096 && bytes <= 32 * (256 << 10));
        CHECK(before >= after + 32 * (uint64_t)(240 << 10));
        CHECK_EQ_I(palloc_trim(pt, 128 << 10), 0); /* nothing is left */
        CHECK_VIEW(pt);
        for (i = 1; i < 64; i += 2)
            blob_intact(pt, ptr[i], i, 256 << 10, i % 4 == 1 ? BY_ADDRESS : BY_DESCRIPTOR);
        /* Holes are filled before they are blobs. */
        for (i = 0; i < 64; i += 2) {
            ptr[i] = i % 4 ? palloc(pt, 256 << 10) : pcalloc(pt, 256, 1024);
            CHECK(ptr[i] != 0);
        }
        if (!is_emulated()) /* ext2 has no fallocate(), and advice does nothing there */
            CHECK(file_disk(path) >= 64 * (uint64_t)(256 << 10));
        for (i = 0; i < 64; i += 2)
            blob_write(pt, ptr[i], i, 0, 256 << 10, BY_ADDRESS);
        for (i = 0; i < 64; i++)
            blob_intact(pt, ptr[i], i, 256 << 10, BY_ADDRESS);
        palloc_close(pt);
        CHECK_SOUND(path);
        CHECK(file_size(path) >= 16 * MIB);
        unlink(path);
    }
}

static void trim(void)
{
    uint64_t ptr[64];
    struct palloc_t *pt;
    struct bytes b;
    unsigned i;

    trim_on(".", "here");

    TEST("a-medium-with-holes-of-a-trim-opens-again-and-takes-transactions");
    pt = with_gaps(FILE_NAME, ptr, PALLOC_DYNAMIC);
    CHECK(palloc_trim(pt, 4096) >= 0 || errno == EOPNOTSUPP);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    for (i = 0; i < 100; i++) {
        struct palloc_tx *tx = palloc_begin(pt);
        uint64_t new = palloc_tx_alloc(tx, 3000);

        REQUIRE(tx != NULL && new != 0);
        memset(palloc_tx_data(tx, new), 7, 3000);
        CHECK_EQ_I(palloc_tx_free(tx, palloc_first(pt)), 0);
        CHECK_EQ_I(palloc_commit(tx), 0);
        if (i % 30 == 0)
            CHECK(palloc_trim(pt, 4096) >= 0 || errno == EOPNOTSUPP);
    }
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);

    TEST("trim-of-a-medium-that-is-read-only-is-EROFS");
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    CHECK_EQ_I(palloc_trim(pt, 0), -1);
    CHECK_ERRNO(EROFS);
    palloc_close(pt);
    CHECK_EQ_I(palloc_trim(NULL, 0), -1);
    CHECK_ERRNO(EINVAL);

    TEST("a-trim-finds-a-marker-that-was-overwritten");
    pt = with_gaps(FILE_NAME, ptr, PALLOC_DYNAMIC);
    CHECK_EQ_I(palloc_sync(pt), 0);
    b = bytes_new(8);
    put64(b.at, FREE_BIT | (uint64_t)1 << 40);
    CHECK_EQ_I(pwrite(pt->descriptor, b.at, 8, (off_t)ptr[2] - 8), 8);
    errno = 0;
    CHECK_EQ_I(palloc_trim(pt, 4096), -1);
    CHECK_ERRNO(EILSEQ);
    bytes_free(&b);
    palloc_close(pt);

#ifdef HAS_CALLS
    TEST("that-blocks-are-free-is-on-the-disk-before-their-space-is-given-back");
    pt = with_gaps(FILE_NAME, ptr, PALLOC_DYNAMIC);
    punched = punched_before_sync = syncs = 0;
    CHECK(palloc_trim(pt, 4096) > 0 || errno == EOPNOTSUPP);
    CHECK(punched > 0);
    CHECK_EQ_U(punched_before_sync, 0); /* one of palloc_sync, one with the lock */

    TEST("a-file-system-without-holes-is-EOPNOTSUPP-and-one-with-an-error-says-so");
    pfree(pt, ptr[1]);
    fail_punch = EOPNOTSUPP;
    errno = 0;
    CHECK_EQ_I(palloc_trim(pt, 4096), -1);
    CHECK_ERRNO(EOPNOTSUPP);
    CHECK_STR_CONTAINS(palloc_error(), "give space back to the file system");
    fail_punch = EIO;
    CHECK_EQ_I(palloc_trim(pt, 4096), -1);
    CHECK_ERRNO(EIO);
    fail_punch = 0;
    CHECK_VIEW(pt);
    for (i = 3; i < 64; i += 2)
        blob_intact(pt, ptr[i], i, 256 << 10, BY_ADDRESS);
    CHECK(palloc(pt, 256 << 10) != 0);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
#endif
}

/* Other programs take the space that was given back: then palloc is ENOSPC, never a signal. */
static void trimmed_and_full(const char *directory)
{
    char path[300], other[300];
    uint64_t ptr[64];
    struct palloc_t *pt;
    unsigned i, n = 0;
    static char block[65536];
    int fd;

    snprintf(path, sizeof path, "%s/" FILE_NAME, directory);
    snprintf(other, sizeof other, "%s/other", directory);
    pt = with_gaps(path, ptr, PALLOC_DYNAMIC);
    if (!CHECK(palloc_trim(pt, 4096) > 0))
        DIAG("%s", palloc_error());
    memset(block, 1, sizeof block);
    fd = open(other, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    while (write(fd, block, sizeof block) > 0) {
    }
    errno = 0;
    for (i = 0; i < 64; i++) {
        uint64_t new = i % 2 ? palloc(pt, 256 << 10) : palloc_aligned(pt, 4096, 200 << 10);

        if (new == 0) {
            CHECK(errno == ENOSPC);
            n++;
        } else {
            blob_write(pt, new, 900, 0, 200 << 10, BY_ADDRESS);
            pfree(pt, new);
        }
    }
    CHECK(n > 10);
    CHECK_VIEW(pt);
    for (i = 1; i < 64; i += 2)
        blob_intact(pt, ptr[i], i, 256 << 10, BY_ADDRESS);
    close(fd);
    unlink(other);
    CHECK(palloc(pt, 256 << 10) != 0);
    palloc_close(pt);
    CHECK_SOUND(path);
    unlink(path);
}

static void on_disk(void *user)
{
    const char *kind = (const char *)user;

    trim_on("disk", kind);
    if (strcmp(kind, "ext2") != 0)
        trimmed_and_full("disk");
}

static void file_systems(void)
{
    static const char *const kinds[][3] = {{"ext4", "mkfs.ext4 -q -F", "120M"},
        {"ext4 with blocks of 1 KiB", "mkfs.ext4 -q -F -b 1024", "120M"}, {"ext2", "mkfs.ext2 -q -F", "120M"},
        {"xfs", "mkfs.xfs -q -f", "320M"}, {"btrfs", "mkfs.btrfs -q -f", "120M"}, {"tmpfs", NULL, "40M"}};
    unsigned k;

    for (k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        TESTF("trim-and-a-full-disk-on-%s", kinds[k][0]);
        on_file_system(kinds[k][1], kinds[k][2], 100, on_disk, (void *)kinds[k][0]);
    }
}

/* ----------------------------------------------------------------------------------------------------------------------- unreachable */

enum { MOST = 4000, LINKS = 4 };

/* Blobs that hold offsets. */
struct graph {
    struct palloc_t *pt;
    uint64_t ptr[MOST];
    unsigned count, traced, visited, reports;
    uint64_t reported, last;
    int end_after, answer, frees, frees_next, makes;
    uint64_t found[MOST];
};

static int trace(void *user, uint64_t ptr, const void *data, uint64_t size, palloc_visit_fn visit, void *mark)
{
    struct graph *g = user;
    const unsigned char *bytes = data;
    uint64_t i;

    CHECK(palloc_data(g->pt, ptr) == data);
    CHECK_EQ_U(palloc_size(g->pt, ptr), size);
    if (g->end_after > 0 && --g->end_after == 0)
        return g->answer;
    g->traced++;
    for (i = 0; i < LINKS; i++)
        visit(mark, get64(bytes + 8 * i));
    return 0;
}

static int unreached(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    struct graph *g = user;

    CHECK_EQ_I(is_free, 0);
    CHECK_EQ_U(palloc_size(g->pt, ptr), size);
    CHECK(ptr > g->last);
    g->last = ptr;
    g->found[g->visited++] = ptr;
    if (g->frees)
        pfree(g->pt, ptr);
    if (g->frees_next) {
        pfree(g->pt, g->ptr[g->frees_next]);
        g->frees_next += 2;
    }
    if (g->makes)
        CHECK(palloc(g->pt, 8 * LINKS) != 0);
    return g->visited == (unsigned)g->makes ? 5 : 0;
}

static void reported(void *user, uint64_t offset, const char *what)
{
    struct graph *g = user;

    CHECK(what[0] != 0);
    g->reports++;
    g->reported = offset;
}

static int follow(struct graph *g, const uint64_t *roots, size_t count)
{
    g->traced = g->visited = g->reports = 0;
    g->last = 0;
    return palloc_unreachable(g->pt, roots, count, trace, unreached, reported, g);
}

static void set_link(struct graph *g, unsigned from, unsigned link, uint64_t to)
{
    put64((uint8_t *)palloc_data(g->pt, g->ptr[from]) + 8 * link, to);
}

static void fresh_graph(struct graph *g, unsigned count, struct rng *rng)
{
    unsigned i;

    memset(g, 0, sizeof *g);
    g->pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    g->count = count;
    for (i = 0; i < count; i++) {
        g->ptr[i] = pcalloc(g->pt, 1, 8 * LINKS + (size_t)rng_below(rng, 200));
        REQUIRE(g->ptr[i] != 0);
        if (rng_below(rng, 3) == 0)
            pfree(g->pt, pcalloc(g->pt, 1, (size_t)rng_below(rng, 900)));
    }
}

/* Beside a walk of the same graph in memory. */
static void random_graph(unsigned seed)
{
    static unsigned link[MOST][LINKS], todo[MOST];
    static unsigned char reached[MOST];
    static struct graph g;
    struct rng rng;
    unsigned i, k, n = 0, unreached_count = 0, count;
    uint64_t roots[3];

    rng.state = seed;
    count = 1 + (unsigned)rng_below(&rng, seed % 4 ? 300 : MOST);
    fresh_graph(&g, count, &rng);
    memset(reached, 0, sizeof reached);
    for (i = 0; i < count; i++)
        for (k = 0; k < LINKS; k++) {
            link[i][k] = rng_below(&rng, 6) < 2 ? (unsigned)rng_below(&rng, count) : MOST; /* cycles and links to itself too */
            set_link(&g, i, k, link[i][k] == MOST ? 0 : g.ptr[link[i][k]]);
        }
    for (i = 0; i < 3; i++) {
        unsigned root = (unsigned)rng_below(&rng, count);

        roots[i] = g.ptr[root];
        if (!reached[root]) {
            reached[root] = 1;
            todo[n++] = root;
        }
    }
    while (n > 0) {
        unsigned at = todo[--n];

        for (k = 0; k < LINKS; k++)
            if (link[at][k] != MOST && !reached[link[at][k]]) {
                reached[link[at][k]] = 1;
                todo[n++] = link[at][k];
            }
    }
    g.frees = 1;
    errno = UNTOUCHED;
    CHECK_EQ_I(follow(&g, roots, 3), 0);
    CHECK_ERRNO(UNTOUCHED);
    for (i = 0; i < count; i++) {
        unreached_count += !reached[i];
        errno = 0;
        CHECK_EQ_I(palloc_data(g.pt, g.ptr[i]) != NULL, reached[i]);
    }
    CHECK_EQ_U(g.visited, unreached_count);
    CHECK_EQ_U(g.traced, count - unreached_count);
    CHECK_EQ_U(g.reports, 0);
    CHECK_EQ_I(follow(&g, roots, 3), 0);
    CHECK_EQ_U(g.visited, 0);
    CHECK_VIEW(g.pt);
    palloc_close(g.pt);
}

static void unreachable_blobs(void)
{
    static struct graph g;
    struct rng rng;
    unsigned i;

    TEST("unreachable-blobs-are-those-of-a-search-in-memory-with-cycles");
    for (i = 1; i <= 40 / tap_every(2); i++)
        random_graph(i);

    rng.state = 3;
    TEST("a-long-chain-and-a-wide-blob-are-followed");
    fresh_graph(&g, MOST, &rng);
    for (i = 0; i + 1 < MOST; i++)
        set_link(&g, i, i % LINKS, g.ptr[i + 1]);
    CHECK_EQ_I(follow(&g, &g.ptr[0], 1), 0);
    CHECK_EQ_U(g.visited, 0);
    CHECK_EQ_U(g.traced, MOST);
    CHECK_EQ_I(follow(&g, &g.ptr[1], 1), 0);
    CHECK_EQ_U(g.visited, 1);
    CHECK_EQ_U(g.found[0], g.ptr[0]);
    CHECK_EQ_I(follow(&g, g.ptr, MOST), 0);
    CHECK_EQ_U(g.visited, 0);
    CHECK_EQ_I(follow(&g, NULL, 0), 0);
    CHECK_EQ_U(g.visited, MOST);
    CHECK_EQ_U(g.traced, 0);
    palloc_close(g.pt);

    TEST("an-offset-that-is-no-blob-is-reported-and-one-inside-of-a-blob-keeps-it");
    fresh_graph(&g, 3, &rng);
    set_link(&g, 0, 0, g.ptr[1] + 8 * LINKS - 1); /* inside */
    CHECK_EQ_I(follow(&g, g.ptr, 1), 0);
    CHECK_EQ_U(g.reports, 1);
    CHECK_EQ_U(g.reported, g.ptr[1] + 8 * LINKS - 1);
    CHECK_EQ_U(g.visited, 1);
    CHECK_EQ_U(g.found[0], g.ptr[2]);
    set_link(&g, 0, 0, 0);
    {
        uint64_t wrong[] = {1, 8, 15, g.ptr[1] - 1, g.ptr[1] - 8, g.ptr[1] + palloc_size(g.pt, g.ptr[1]), UINT64_MAX, (uint64_t)1 << 63,
            (uint64_t)1 << 40, g.pt->size, g.pt->size - 1};

        for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            set_link(&g, 0, 3, wrong[i]);
            CHECK_EQ_I(follow(&g, g.ptr, 1), 0);
            if (!CHECK_EQ_U(g.reports, 1) || !CHECK_EQ_U(g.reported, wrong[i]) || !CHECK_EQ_U(g.visited, 2))
                DIAG("offset %llu", (unsigned long long)wrong[i]);
        }
        pfree(g.pt, g.ptr[1]);
        set_link(&g, 0, 3, g.ptr[1]); /* freed */
        CHECK_EQ_I(follow(&g, g.ptr, 1), 0);
        CHECK_EQ_U(g.reported, g.ptr[1]);
        CHECK_EQ_U(g.visited, 1);
        g.last = 0;
        CHECK_EQ_I(palloc_unreachable(g.pt, g.ptr, 1, trace, unreached, NULL, &g), 0);
    }
    palloc_close(g.pt);

    TEST("either-function-ends-the-call-with-its-result");
    fresh_graph(&g, 20, &rng);
    for (i = 0; i < 9; i++)
        set_link(&g, i, 1, g.ptr[i + 1]);
    g.end_after = 5;
    g.answer = -1;
    errno = UNTOUCHED;
    CHECK_EQ_I(follow(&g, g.ptr, 1), -1);
    CHECK_ERRNO(UNTOUCHED);
    CHECK_EQ_U(g.traced, 4);
    CHECK_EQ_U(g.visited, 0); /* not all was followed, so nothing is known to be unreachable */
    g.end_after = 0;
    g.makes = 6;
    g.frees = 1;
    CHECK_EQ_I(follow(&g, g.ptr, 1), 5);
    CHECK_EQ_U(g.visited, 6);
    palloc_close(g.pt);

    TEST("blobs-that-are-made-during-the-call-are-not-among-them");
    fresh_graph(&g, 200, &rng);
    g.makes = 1000;
    g.frees = 1;
    CHECK_EQ_I(follow(&g, g.ptr, 1), 0);
    CHECK_EQ_U(g.visited, 199);
    CHECK_VIEW(g.pt);
    palloc_close(g.pt);

    TEST("nor-are-those-that-are-made-where-blocks-were-free");
    fresh_graph(&g, 200, &rng);
    for (i = 50; i < 200; i += 7)
        pfree(g.pt, g.ptr[i]);
    g.makes = 1000;
    CHECK_EQ_I(follow(&g, g.ptr, 1), 0);
    CHECK_EQ_U(g.visited, 199 - 22);
    palloc_close(g.pt);
    fresh_graph(&g, 200, &rng);
    palloc_close(g.pt);

    TEST("a-blob-that-the-function-has-freed-already-is-not-among-them-nor-is-a-reached-one-behind-it");
    {
        uint64_t roots[150];

        fresh_graph(&g, 200, &rng);
        for (i = 0; i < 150; i++)
            roots[i] = g.ptr[i < 50 ? i : i + 50]; /* 50 to 99 are not reached */
        g.frees = 1;
        g.frees_next = 51; /* with 50 */
        CHECK_EQ_I(follow(&g, roots, 150), 0);
        CHECK_EQ_U(g.visited, 25);
        for (i = 0; i < 200; i++)
            CHECK_EQ_I(palloc_data(g.pt, g.ptr[i]) != NULL, i < 50 || i > 99);
        CHECK_VIEW(g.pt);
        palloc_close(g.pt);
        fresh_graph(&g, 200, &rng);
        palloc_close(g.pt);
    }

    TEST("unreachable-on-a-medium-that-is-read-only-finds-them-too");
    g.pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(g.pt != NULL);
    g.makes = g.frees = 0;
    CHECK_EQ_I(follow(&g, g.ptr, 1), 0);
    CHECK_EQ_U(g.visited, 199);

    TEST("bad-arguments-are-EINVAL");
    errno = 0;
    CHECK_EQ_I(palloc_unreachable(NULL, g.ptr, 1, trace, unreached, reported, &g), -1);
    CHECK_ERRNO(EINVAL);
    errno = 0;
    CHECK_EQ_I(palloc_unreachable(g.pt, NULL, 1, trace, unreached, reported, &g), -1);
    CHECK_ERRNO(EINVAL);
    errno = 0;
    CHECK_EQ_I(palloc_unreachable(g.pt, g.ptr, 1, NULL, unreached, reported, &g), -1);
    CHECK_ERRNO(EINVAL);
    errno = 0;
    CHECK_EQ_I(palloc_unreachable(g.pt, g.ptr, 1, trace, NULL, reported, &g), -1);
    CHECK_ERRNO(EINVAL);
    palloc_close(g.pt);

    TEST("a-marker-that-was-overwritten-is-EILSEQ");
    fresh_graph(&g, 20, &rng);
    set_link(&g, 0, 0, g.ptr[7]);
    put64((uint8_t *)palloc_data(g.pt, g.ptr[7]) - 8, 3);
    errno = 0;
    CHECK_EQ_I(follow(&g, g.ptr, 1), -1);
    CHECK_ERRNO(EILSEQ);
    CHECK_EQ_U(g.visited, 0);
    palloc_close(g.pt);
}

/* A child allocates, fills and links, with plain calls, until it is killed: what it had not linked yet is found, and nothing else. */
static void killed_before_the_link(void)
{
    static struct graph g;
    unsigned kills, found = 0, rounds = tap_every(1) > 1 ? 300 : 60;
    uint64_t root;

    TEST("what-a-killed-process-had-not-linked-is-found-and-nothing-else");
    g.pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
    root = palloc_root(g.pt, 8 * LINKS);
    palloc_close(g.pt);
    for (kills = 0; kills < rounds; kills++) {
        uint64_t ptr, blobs = 0;
        int status;
        pid_t child;

        fflush(stdout);
        child = fork();
        if (child == 0) {
            struct palloc_t *pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
            unsigned i;

            alarm(20);
            for (i = 0; pt != NULL; i++) {
                uint64_t new = palloc(pt, 8 * LINKS + i % 50);
                uint8_t *head = palloc_data(pt, root), *data = palloc_data(pt, new);

                memset(data, 0, 8 * LINKS);
                memcpy(data, head, 8); /* the list so far */
                if (i > 20 + kills % 7 && kills % 3 == 0)
                    raise(SIGKILL); /* just before the link, in some rounds */
                put64(head, new);
                if (i > 500)
                    raise(SIGKILL);
            }
            _exit(1);
        }
        if (kills % 3)
            usleep(500 + kills * 37 % 1500);
        if (kills % 3)
            kill(child, SIGKILL);
        CHECK_EQ_I(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status));
        g.pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
        REQUIRE(g.pt != NULL);
        g.frees = 1;
        g.makes = 0;
        CHECK_EQ_I(follow(&g, &root, 1), 0);
        CHECK(g.visited <= 1);
        CHECK_EQ_U(g.reports, 0);
        found += g.visited;
        for (ptr = palloc_first(g.pt); ptr != 0; ptr = palloc_next(g.pt, ptr))
            blobs++;
        CHECK_EQ_U(blobs, g.traced); /* 0 are left that nothing leads to */
        if (blobs > 3000) {
            palloc_close(g.pt);
            g.pt = medium_fresh(FILE_NAME, PALLOC_DYNAMIC);
            CHECK_EQ_U(palloc_root(g.pt, 8 * LINKS), root);
        }
        palloc_close(g.pt);
    }
    CHECK(found >= rounds / 3);
    DIAG("%u kills, %u blobs that nothing led to", rounds, found);
}

int main(void)
{
    PART(aligned());
    PART(killed());
    PART(trim());
    PART(file_systems());
    PART(unreachable_blobs());
    PART(killed_before_the_link());
    return tap_done();
}
