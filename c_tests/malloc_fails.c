/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * malloc fails at each call, or at each call and all later ones, in every function of all three engines that can fail: the function fails, or does
 * without the memory, and the process goes on. A function that fails for another reason reports that without memory.
 *
 * POSIX only: the functions of a Windows library are not found by name in the program
 */
#include "portable.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <buflib.h>
#include <core_alloc.h>
#include <vmem.h>

#include "palloc_util.h"

#if defined(__linux__) && defined(__GLIBC__)

enum { NEVER = -1 };

static long until_failure = NEVER; /* how many allocations of the script succeed before one fails */
static int goes_on;                /* all that follow in the same call fail too */
static int armed, in_failure;
static long fired;
static int no_sync; /* the disk fails */

static int fails(void)
{
    if (!armed || until_failure == NEVER || (until_failure > 0 && until_failure-- > 0) || (!goes_on && in_failure))
        return 0;
    fired++;
    in_failure = 1;
    errno = ENOMEM;
    return 1;
}

/* These stand before those of the C library, for the library under test too. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *at, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *at, size_t size)
{
    return fails() ? NULL : __libc_realloc(at, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **at, size_t alignment, size_t size)
{
    void *got = fails() ? NULL : __libc_memalign(alignment, size);

    if (got == NULL)
        return ENOMEM;
    *at = got;
    return 0;
}

/* No power is cut here. */
int fdatasync(int fd)
{
    (void)fd;
    errno = EIO;
    return no_sync ? -1 : 0;
}

int fsync(int fd)
{
    return fdatasync(fd);
}

static unsigned wrong;

/* A call that succeeds, or fails for want of memory only and succeeds when it is repeated. */
#define DO(call)                                         \
    do {                                                 \
        int good_;                                       \
        armed = 1;                                       \
        good_ = (call) ? 1 : 0;                          \
        armed = 0;                                       \
        if (!good_ && (!in_failure || !(call))) {        \
            DIAG("%s", #call);                           \
            wrong++;                                     \
        }                                                \
        if (in_failure)                                  \
            until_failure = NEVER;                       \
        in_failure = 0;                                  \
    } while (0)

/* A call that fails for the reason that `text` is a part of, memory or not. */
#define FAILS(call, text, has)                                                 \
    do {                                                                       \
        int good_;                                                             \
        const char *got_;                                                      \
        armed = 1;                                                             \
        good_ = (call) ? 1 : 0;                                                \
        got_ = text;                                                           \
        armed = 0;                                                             \
        if (good_ || (strstr(got_, has) == NULL && !in_failure)) {             \
            DIAG("%s: %s", #call, got_);                                       \
            wrong++;                                                           \
        }                                                                      \
        in_failure = 0;                                                        \
    } while (0)

static int nothing(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    (void)user, (void)ptr, (void)size, (void)is_free;
    return 0;
}

static int no_offsets(void *user, uint64_t ptr, const void *data, uint64_t size, palloc_visit_fn visit, void *mark)
{
    (void)user, (void)ptr, (void)data, (void)size, (void)visit, (void)mark;
    return 0;
}

static int closes(struct palloc_t *pt)
{
    errno = 0;
    palloc_close(pt);
    return errno == 0;
}

static int frees(struct palloc_t *pt, uint64_t ptr)
{
    errno = 0;
    pfree(pt, ptr);
    return errno == 0;
}

static void palloc_script(uint32_t flags)
{
    struct palloc_t *pt = NULL;
    struct palloc_stat stat;
    uint64_t ptr = 0, many[60];
    int i, fd = 0, count = flags & PALLOC_SYNC ? 6 : 20;

    unlink("malloc.pba");
    DO((pt = palloc_init("malloc.pba", flags)) != NULL);
    REQUIRE(pt != NULL);
    for (i = 0; i < count; i++)
        DO((many[i] = palloc(pt, (size_t)(i * 40))) != 0);
    for (i = 0; i < count; i += 2)
        DO(frees(pt, many[i]));
    DO((ptr = palloc(pt, 50000)) != 0);
    DO((ptr = prealloc(pt, ptr, 90000)) != 0);
    DO(palloc_data(pt, ptr) != NULL);
    DO(palloc_size(pt, ptr) != 0);
    DO(palloc_first(pt) != 0);
    DO(palloc_next(pt, many[1]) != 0);
    DO(palloc_stat(pt, &stat) == 0);
    DO(palloc_walk(pt, nothing, NULL) == 0);
    DO(palloc_unreachable(pt, many, 1, no_offsets, nothing, NULL, NULL) == 0);
    DO(palloc_sync(pt) == 0);
    DO(frees(pt, ptr));
    closes(pt);
    DO(palloc_check("malloc.pba", NULL, NULL) == 0);
    DO((pt = palloc_init("malloc.pba", flags)) != NULL);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc_first(pt), many[1]);
    closes(pt);
    DO((fd = palloc_fd_open("malloc.pba", flags)) != 0);
    DO(palloc_fd_init(fd, flags) == 0);
    DO((ptr = palloc_fd_alloc(fd, 100000)) != 0);
    DO(palloc_fd_size(fd, ptr) != 0);
    DO(palloc_fd_next(fd, 0) != 0);
    DO(palloc_fd_free(fd, ptr) == 0);
    CHECK_EQ_I(palloc_fd_close(fd), 0);
    fd = open("malloc.pba", O_RDWR);
    DO(palloc_fd_init(fd, flags) == 0);
    CHECK_EQ_I(palloc_fd_close(fd), 0);
}

/* A blob of a transaction, and stores into one of the medium's. */
static int changes(struct palloc_tx *tx, uint64_t ptr)
{
    uint64_t own = palloc_tx_alloc(tx, 100);

    return own != 0 && palloc_tx_data(tx, own) != NULL && palloc_tx_store(tx, ptr, "transaction", 11) == 0;
}

/* Either all of a transaction is done, or nothing. */
static int commits(struct palloc_t *pt, uint64_t ptr, uint64_t gone)
{
    struct palloc_tx *tx = palloc_begin(pt);

    if (tx == NULL)
        return 0;
    if (changes(tx, ptr) && palloc_tx_free(tx, gone) == 0 && palloc_commit(tx) == 0)
        return memcmp(palloc_data(pt, ptr), "transaction", 11) == 0 && palloc_data(pt, gone) == NULL;
    palloc_cancel(tx);
    if (memcmp(palloc_data(pt, ptr), "transaction", 11) == 0 || palloc_data(pt, gone) == NULL) {
        DIAG("a transaction that failed has changed the medium");
        wrong++;
    }
    return 0;
}

static int cancels(struct palloc_t *pt, uint64_t ptr)
{
    struct palloc_tx *tx = palloc_begin(pt);
    int good = tx != NULL && changes(tx, ptr);

    if (tx != NULL)
        palloc_cancel(tx);
    return good;
}

/* What came later: transactions, aligned blobs, copies, salvage, live readers. */
static void later_script(uint32_t flags)
{
    struct palloc_t *pt = NULL, *reader = NULL;
    struct palloc_readers readers;
    uint64_t root = 0, a = 0, b = 0, big = 0;

    unlink("malloc.pba");
    DO((pt = palloc_init("malloc.pba", flags)) != NULL);
    REQUIRE(pt != NULL);
    DO((root = palloc_root(pt, 64)) != 0);
    DO((a = pcalloc(pt, 10, 30)) != 0);
    DO((b = palloc_aligned(pt, 4096, 100)) != 0);
    DO(palloc_aligned(pt, 4096, 50000) != 0);
    DO(cancels(pt, root));
    DO(commits(pt, root, a));
    DO(palloc_flush(pt, root, 8) == 0);
    DO(palloc_at(pt, root) != NULL && palloc_offset(pt, palloc_at(pt, root)) == root);
    DO((big = palloc(pt, 1 << 20)) != 0);
    DO(palloc(pt, 16) != 0);
    DO(frees(pt, big));
    DO(palloc_trim(pt, 4096) >= 0);
    if (flags & PALLOC_SHARED) {
        DO((reader = palloc_init("malloc.pba", PALLOC_SHARED | PALLOC_READONLY)) != NULL);
        REQUIRE(reader != NULL);
        DO(palloc_read_begin(reader) == 0);
        DO(palloc_first(reader) == root);
        DO(frees(pt, b));
        DO(prealloc(pt, root, 4000) != 0);
        DO(palloc_get_readers(reader, &readers) == 0 && readers.reading == 1);
        palloc_read_end(reader);
        palloc_close(reader);
    }
    DO(palloc_get_readers(pt, &readers) == 0 || !(flags & PALLOC_SHARED));
    unlink("copy.pba");
    DO(palloc_snapshot(pt, "copy.pba", 0) == 0);
    closes(pt);
    unlink("salvaged.pba");
    DO(palloc_salvage("malloc.pba", "salvaged.pba", 0, NULL, NULL, NULL) == 0);
    CHECK_SOUND("malloc.pba");
    CHECK_SOUND("copy.pba");
    CHECK_SOUND("salvaged.pba");
}

static void palloc_failures(void)
{
    struct palloc_t *pt, *synced;
    struct rlimit limit, small;
    struct palloc_stat stat;
    uint64_t ptr;
    int fd;

    unlink("malloc.pba");
    FAILS(palloc_init("no/such/file", PALLOC_DYNAMIC) != NULL, palloc_error(), "No such file");
    FAILS(palloc_init("no/such/file", PALLOC_DEFAULT) != NULL, palloc_error(), "No such file");
    FAILS(palloc_init(".", PALLOC_READONLY) != NULL, palloc_error(), "neither a file");
    FAILS(palloc_init(NULL, 0) != NULL, palloc_error(), "NULL");
    FAILS(palloc_check("no/such/file", NULL, NULL) >= 0, palloc_error(), "No such file");
    FAILS(palloc_fd_open("no/such/file", PALLOC_DYNAMIC) != 0, palloc_error(), "No such file");
    FAILS(palloc_fd_init(-1, PALLOC_DYNAMIC) == 0, palloc_error(), "Bad file descriptor");
    FAILS(palloc_fd_alloc(-1, 1) != 0, palloc_error(), "Bad file descriptor");
    FAILS(palloc_fd_free(-1, 1) == 0, palloc_error(), "Bad file descriptor");
    FAILS(palloc_fd_size(-1, 1) != 0, palloc_error(), "Bad file descriptor");
    FAILS(palloc_fd_next(-1, 1) != 0, palloc_error(), "Bad file descriptor");
    FAILS(palloc_fd_close(-1) == 0, palloc_error(), "Bad file descriptor");
    fd = open("readonly.pba", O_RDONLY | O_CREAT, 0666);
    FAILS(palloc_fd_init(fd, PALLOC_DYNAMIC) == 0, palloc_error(), "Bad file descriptor");
    close(fd);

    pt = palloc_init("malloc.pba", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    FAILS(palloc_init("malloc.pba", PALLOC_DYNAMIC) != NULL, palloc_error(), "open elsewhere");
    FAILS(palloc_fd_open("malloc.pba", PALLOC_DYNAMIC) != 0, palloc_error(), "open elsewhere");
    FAILS(palloc_check("malloc.pba", NULL, NULL) >= 0, palloc_error(), "open elsewhere");
    FAILS(palloc(pt, SIZE_MAX) != 0, palloc_error(), SIZE_MAX > UINT32_MAX ? "no medium can hold" : "Cannot allocate memory");
    ptr = palloc(pt, 10);
    FAILS(frees(pt, 1), palloc_error(), "no allocated blob");
    FAILS(prealloc(pt, 1, 1) != 0, palloc_error(), "no allocated blob");
    FAILS(palloc_data(pt, 1) != NULL, palloc_error(), "no allocated blob");
    FAILS(palloc_size(pt, 1) != 0, palloc_error(), "no block's data");
    FAILS(palloc_stat(pt, NULL) == 0, palloc_error(), "NULL");
    FAILS(palloc_stat(NULL, &stat) == 0, palloc_error(), "NULL");
    FAILS(palloc_walk(NULL, nothing, NULL) == 0, palloc_error(), "NULL");
    FAILS(palloc_first(NULL) != 0, palloc_error(), "NULL");
    FAILS(palloc_next(NULL, 1) != 0, palloc_error(), "NULL");
    FAILS(palloc_sync(NULL) == 0, palloc_error(), "NULL");
    FAILS(palloc_begin(NULL) != NULL, palloc_error(), "NULL");
    FAILS(palloc_aligned(pt, 3, 1) != 0, palloc_error(), "power of two");
    FAILS(pcalloc(pt, SIZE_MAX, 3) != 0, palloc_error(), "");
    FAILS(palloc_flush(pt, 1, 8) == 0, palloc_error(), "");
    FAILS(palloc_offset(pt, NULL) != 0, palloc_error(), "");
    FAILS(palloc_read_begin(pt) == 0, palloc_error(), "");
    FAILS(palloc_snapshot(pt, "no/such/file", 0) == 0, palloc_error(), "No such file");
    FAILS(palloc_salvage("no/such/file", "x.pba", 0, NULL, NULL, NULL) == 0, palloc_error(), "No such file");
    FAILS(palloc_init("malloc.pba", PALLOC_READONLY | PALLOC_SHARED) != NULL, palloc_error(), "");
    signal(SIGXFSZ, SIG_IGN);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    small = limit;
    small.rlim_cur = 1 << 20;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    FAILS(palloc(pt, 100 << 20) != 0, palloc_error(), "File too large");
    FAILS(prealloc(pt, ptr, 100 << 20) != 0, palloc_error(), "File too large");
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);

    unlink("synced.pba");
    synced = palloc_init("synced.pba", PALLOC_DYNAMIC | PALLOC_SYNC);
    REQUIRE(synced != NULL);
    ptr = palloc(synced, 10);
    no_sync = 1;
    FAILS(palloc(synced, 10000) != 0, palloc_error(), "Input/output error");
    FAILS(frees(synced, ptr), palloc_error(), "");
    FAILS(prealloc(synced, ptr, 100000) != 0, palloc_error(), "");
    FAILS(palloc_sync(pt) == 0, palloc_error(), "Input/output error");
    armed = 1;
    palloc_close(synced);
    palloc_close(pt);
    armed = 0;
    no_sync = 0;
}

static void vmem_script(void)
{
    size_t page = vmem_get_page_size();
    unsigned char *p = NULL, *q = NULL;
    VMemArena arena = {0};
    VMemUsageStatus usage;
    VMemGrowArena grow;

    memset(&grow, 0, sizeof grow);
    DO((p = (unsigned char *)vmem_reserve(64 * page)) != NULL);
    REQUIRE(p != NULL);
    DO(vmem_commit(p, 8 * page));
    DO(vmem_protect(p + page, 2 * page, VMemProtect_Read));
    DO(vmem_commit(p + 10 * page, page));
    DO(vmem_lock(p + 10 * page, page));
    DO(vmem_unlock(p + 10 * page, page));
    DO(vmem_reset(p + 4 * page, page));
    DO(vmem_prefault(p + 3 * page, page));
    DO(vmem_decommit(p + 2 * page, 3 * page));
    DO(vmem_commit_protect(p + 20 * page, 4 * page, VMemProtect_Read));
    DO(vmem_partially_commit_region(p, 64 * page, 0, 12 * page));
    DO(vmem_set_name(p, page, "name") || 1);
    DO(vmem_advise_huge(p, page) || 1);
    DO(vmem_set_executable(p, page, 1) || 1);
    DO((q = (unsigned char *)vmem_reserve_aligned(page, 4 << 20)) != NULL);
    DO(vmem_release(q, page));
    DO((q = (unsigned char *)vmem_reserve_guarded(page)) != NULL);
    DO(vmem_release(q, page));
    DO((q = (unsigned char *)vmem_alloc(page)) != NULL);
    DO(vmem_dealloc(q, page));
    DO((q = (unsigned char *)vmem_alloc_commited(page)) != NULL);
    DO(vmem_release(q, page));
    DO((q = (unsigned char *)vmem_alloc_protect(page, VMemProtect_ReadWrite)) != NULL);
    DO(vmem_release(q, page));
    DO((arena = vmem_arena_init_alloc(4 * page)).mem != NULL);
    DO(vmem_arena_set_commited(&arena, 3 * page));
    DO(vmem_arena_deinit_dealloc(&arena));
    DO(vmem_grow_init(&grow, 1 << 20, VMEM_GROW_GUARD));
    DO(vmem_grow_push(&grow, 100000, 1) != NULL);
    DO(vmem_grow_reset(&grow, 0));
    DO(vmem_grow_deinit(&grow));
    DO((usage = vmem_query_usage_status()).total_physical_bytes != 0);
    DO(vmem_release(p, 64 * page));
}

static void vmem_failures(void)
{
    size_t page = vmem_get_page_size();
    unsigned char *p = (unsigned char *)vmem_reserve(4 * page);
    VMemArena arena = {0};
    VMemGrowArena grow;
    VMemRangeInfo info;

    memset(&grow, 0, sizeof grow);
    REQUIRE(p != NULL);
    if (SIZE_MAX > UINT32_MAX) /* where half of it is more than the address space */
        FAILS(vmem_reserve(SIZE_MAX / 2 - (1 << 20)) != NULL, vmem_get_error_message(), "Cannot allocate memory");
    FAILS(vmem_reserve(0) != NULL, vmem_get_error_message(), "the size is 0");
    FAILS(vmem_reserve_aligned(page, 3) != NULL, vmem_get_error_message(), "alignment");
    FAILS(vmem_reserve_guarded(0) != NULL, vmem_get_error_message(), "the size is 0");
    FAILS(vmem_commit(NULL, 1), vmem_get_error_message(), "NULL");
    FAILS(vmem_commit(p + 8 * page, page), vmem_get_error_message(), "not inside");
    FAILS(vmem_decommit(p + 8 * page, page), vmem_get_error_message(), "not inside");
    FAILS(vmem_protect(p, page, VMemProtect_Read), vmem_get_error_message(), "not committed");
    FAILS(vmem_lock(p, page), vmem_get_error_message(), "not committed");
    FAILS(vmem_unlock(p, page), vmem_get_error_message(), "");
    FAILS(vmem_reset(p, page), vmem_get_error_message(), "not committed");
    FAILS(vmem_prefault(p, page), vmem_get_error_message(), "not committed");
    FAILS(vmem_set_executable(p, page, 1), vmem_get_error_message(), "not committed");
    FAILS(vmem_release(p + page, page), vmem_get_error_message(), "no live reservation");
    FAILS(vmem_release(p, page), vmem_get_error_message(), "bytes, not");
    FAILS(vmem_arena_set_commited(&arena, page), vmem_get_error_message(), "arena");
    FAILS(vmem_arena_deinit_dealloc(&arena), vmem_get_error_message(), "");
    FAILS(vmem_grow_push(&grow, 10, 1) != NULL, vmem_get_error_message(), "");
    FAILS(vmem_grow_init(&grow, 0, 0), vmem_get_error_message(), "the size is 0");
    FAILS(vmem_query_range_info(NULL, page, &info, 1) != 0, vmem_get_error_message(), "");
    if (!vmem_release(p, 4 * page))
        wrong++;
}

static unsigned panics;

static void on_panic(struct buflib_context *ctx, const char *message)
{
    (void)ctx;
    panics += message[0] != '\0';
}

/* buflib has no memory but the pool: every allocation that it made would show. */
static void buflib_script(void)
{
    static uintptr_t pool[4096];
    struct buflib_context ctx;
    size_t size = 0;
    int a = 0, b = 0;

    buflib_set_panic_handler(on_panic);
    armed = 1;
    buflib_init(&ctx, pool, sizeof pool);
    armed = 0;
    DO((a = buflib_alloc(&ctx, 1000)) > 0);
    DO((b = buflib_alloc_ex(&ctx, 1000, "name", NULL)) > 0);
    DO(buflib_alloc(&ctx, sizeof pool * 2) == -2);
    DO(buflib_alloc_aligned(&ctx, 10, 3, "name", NULL) == -2);
    DO(buflib_shrink(&ctx, b, buflib_get_data(&ctx, b), 500));
    DO(!buflib_shrink(&ctx, 77, pool, 1));
    DO(buflib_free(&ctx, a) == 0);
    DO(buflib_free(&ctx, 77) == 77);
    DO(buflib_check(&ctx, NULL, NULL));
    DO((a = buflib_alloc_maximum(&ctx, "all", &size, NULL)) > 0);
    DO(!buflib_context_relocate(&ctx, (char *)pool + 1));
    pool[sizeof pool / sizeof *pool / 2] ^= 1;
    armed = 1;
    core_allocator_init();
    armed = 0;
    DO((a = core_alloc("core", 100)) > 0);
    DO(core_alloc("core", (size_t)1 << 30) == -2);
    DO(core_free(a) == 0);
    memset(pool, 0x5a, sizeof pool);
    DO(buflib_get_name(&ctx, b) == NULL || 1); /* damage goes to the handler */
    DO(!buflib_check(&ctx, NULL, NULL));
    buflib_set_panic_handler(NULL);
}

static void script(unsigned engine)
{
    switch (engine) {
    case 0: palloc_script(PALLOC_DYNAMIC); break;
    case 1: palloc_script(PALLOC_DYNAMIC | PALLOC_SYNC); break;
    case 2: later_script(PALLOC_DYNAMIC); break;
    case 3: later_script(PALLOC_DYNAMIC | PALLOC_SHARED); break;
    case 4: vmem_script(); break;
    default: buflib_script(); break;
    }
}

/* Blobs are freed while a reader is in a section, and there is no memory for the list of held ones. */
static void held_without_memory(void)
{
    enum { BLOBS = 2000 };
    struct palloc_t *writer = palloc_init("held.pba", PALLOC_DYNAMIC | PALLOC_SHARED);
    struct palloc_t *reader = palloc_init("held.pba", PALLOC_READONLY | PALLOC_SHARED);
    static uint64_t ptr[BLOBS];
    struct palloc_stat stat;
    unsigned i, wrong_bytes = 0, failures = 0;

    TEST("without-memory-for-the-list-what-is-freed-beside-a-live-reader-is-held-all-the-same");
    REQUIRE(writer != NULL && reader != NULL && palloc_root(writer, 8) != 0);
    for (i = 0; i < BLOBS; i++) {
        REQUIRE((ptr[i] = palloc(writer, 16 + i)) != 0);
        pattern_fill(palloc_data(writer, ptr[i]), i, 0, 16 + i);
    }
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    fired = 0;
    until_failure = 0;
    goes_on = armed = 1;
    for (i = 0; i < BLOBS; i++) {
        errno = 0;
        pfree(writer, ptr[i]);
        failures += errno != 0;
    }
    armed = 0;
    until_failure = NEVER;
    CHECK(fired > 0);
    CHECK_EQ_U(failures, 0);
    for (i = 0; i < 500; i++)
        CHECK(palloc(writer, 16 + i) > ptr[BLOBS - 1]);
    for (i = 0; i < BLOBS; i++)
        wrong_bytes += pattern_match(palloc_data(reader, ptr[i]), i, 16 + i) != 16 + i;
    CHECK_EQ_U(wrong_bytes, 0);

    TEST("and-free-after-the-section");
    palloc_read_end(reader);
    CHECK_EQ_I(palloc_sync(writer), 0);
    CHECK(palloc_stat(writer, &stat) == 0 && stat.free_blocks == 1);
    CHECK_EQ_U(palloc(writer, 100000), ptr[0]);
    palloc_close(reader);
    palloc_close(writer);
    CHECK_SOUND("held.pba");
}

int main(void)
{
    static const char *const names[] = {
        "palloc", "palloc-with-SYNC", "palloc-s-later-functions", "those-with-SHARED", "vmem", "buflib",
    };
    unsigned engine;
    long n;

    for (engine = 0; engine < sizeof names / sizeof *names; engine++)
        for (goes_on = 0; goes_on < 2; goes_on++) {
            TESTF("%s-with-%s", names[engine], goes_on ? "no-memory-from-the-n-th-allocation-on" : "each-allocation-failing-once");
            wrong = 0;
            n = 0;
            do {
                fired = 0;
                until_failure = n;
                script(engine);
                n += n < 50 ? 1 : 11; /* the later ones are in the same places */
            } while (fired > 0 && n < 2000);
            until_failure = NEVER;
            CHECK_EQ_U(wrong, 0);
            DIAG("%ld allocations", n - 1);
        }

    TEST("no-failure-of-palloc-needs-memory-to-be-reported");
    goes_on = 1;
    until_failure = NEVER;
    wrong = 0;
    palloc_failures();
    until_failure = 0;
    palloc_failures();
    CHECK_EQ_U(wrong, 0);

    TEST("no-failure-of-vmem-needs-memory-to-be-reported");
    wrong = 0;
    until_failure = NEVER;
    vmem_failures();
    until_failure = 0;
    vmem_failures();
    CHECK_EQ_U(wrong, 0);
    held_without_memory();
    return tap_done();
}

#else

int main(void)
{
    TEST("malloc-fails");
    SKIP("allocations can't be made to fail here");
    return tap_done();
}

#endif
