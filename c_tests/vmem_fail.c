/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Each system call that the library makes fails once, the first, the second, and so on: the call fails, and the state that it leaves is known.
 *
 * POSIX only: the system calls of a Windows library are not found by name in the program
 */
#undef _FILE_OFFSET_BITS /* the functions defined here are named as they are */
#include <sys/syscall.h>

#include "vmem_util.h"

static long until_failure = -1; /* how many calls succeed before one fails; below 0: none fails */
static long in_a_row = 1;       /* how many fail then */
static int failure = ENOMEM;    /* their errno */
static int was_munmap;
static int no_mmap;             /* mmap fails from now on */
static long refused;            /* so often it did */
static size_t most_protected;   /* mprotect fails if it is not 0 and the size is larger */
static int does_half;           /* mprotect does half of its work before it fails */
static int no_advice;           /* the errno of each madvise from now on */
static int no_queries;          /* the kernel has no ioctl for mappings */

static int fails_now(int is_munmap)
{
    if (until_failure < 0)
        return 0;
    if (until_failure > 0) {
        until_failure--;
        return 0;
    }
    if (--in_a_row <= 0) {
        until_failure = -1;
        in_a_row = 1;
    }
    was_munmap = is_munmap;
    errno = failure;
    return 1;
}

/* These stand before those of the C library, for the library under test too. */
void *mmap(void *at, size_t size, int protect, int flags, int descriptor, off_t offset)
{
    if (no_mmap) {
        refused++;
        errno = ENOMEM;
        return MAP_FAILED;
    }
#ifdef SYS_mmap2
    return fails_now(0) ? MAP_FAILED : (void *)syscall(SYS_mmap2, at, size, protect, flags, descriptor, offset >> 12);
#elif defined(__s390x__)
    unsigned long arguments[] = {(unsigned long)at, size, (unsigned long)protect, (unsigned long)flags, (unsigned long)descriptor,
                                 (unsigned long)offset};
    return fails_now(0) ? MAP_FAILED : (void *)syscall(SYS_mmap, arguments);
#else
    return fails_now(0) ? MAP_FAILED : (void *)syscall(SYS_mmap, at, size, protect, flags, descriptor, offset);
#endif
}

int munmap(void *at, size_t size)
{
    return fails_now(1) ? -1 : (int)syscall(SYS_munmap, at, size);
}

int mprotect(void *at, size_t size, int protect)
{
    if (most_protected > 0 && size > most_protected) {
        errno = ENOMEM;
        return -1;
    }
    if (fails_now(0)) {
        if (does_half)
            syscall(SYS_mprotect, at, size - size / 4, protect);
        errno = failure;
        return -1;
    }
    return (int)syscall(SYS_mprotect, at, size, protect);
}

int mlock(const void *at, size_t size)
{
    return fails_now(0) ? -1 : (int)syscall(SYS_mlock, at, size);
}

int munlock(const void *at, size_t size)
{
    return fails_now(0) ? -1 : (int)syscall(SYS_munlock, at, size);
}

int madvise(void *at, size_t size, int advice)
{
    if (no_advice != 0) {
        errno = no_advice;
        return -1;
    }
    return fails_now(0) ? -1 : (int)syscall(SYS_madvise, at, size, advice);
}

int ioctl(int descriptor, unsigned long request, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (no_queries) {
        errno = ENOTTY;
        return -1;
    }
    return (int)syscall(SYS_ioctl, descriptor, request, argument);
}

static size_t page, failures, wrong;

/* By fields: padding has no value. */
static int same_runs(const VMemRangeInfo *a, const VMemRangeInfo *b, size_t n)
{
    while (n > 0 && a->ptr == b->ptr && a->size_bytes == b->size_bytes && a->is_commited == b->is_commited && a->protect == b->protect)
        n--, a++, b++;
    return n == 0;
}

/* A call that succeeds; or fails, leaves the runs of p as they were, and succeeds when it is repeated. */
#define DO(call)                                                                                     \
    do {                                                                                             \
        VMemRangeInfo before[8], after[8];                                                           \
        size_t n = vmem_query_range_info(p, 16 * page, before, 8);                                   \
        memset(before + n, 0, (8 - n) * sizeof *before);                                             \
        if (!(call)) {                                                                               \
            failures++;                                                                              \
            memset(after, 0, sizeof after);                                                          \
            vmem_query_range_info(p, 16 * page, after, 8);                                           \
            if (strstr(vmem_get_error_message(), strerror(ENOMEM)) == NULL || until_failure != -1 || \
                !same_runs(before, after, 8) || !(call)) {                                           \
                DIAG("%s: %s", #call, vmem_get_error_message());                                     \
                wrong++;                                                                             \
            }                                                                                        \
        }                                                                                            \
    } while (0)

/* Some calls of each kind. Returns how many system calls there were. */
static long run(long fail_at)
{
    unsigned char *p, *q = NULL;
    VMemArena arena = {0};
    VMemGrowArena grow;
    long calls;

    memset(&grow, 0, sizeof grow);
    p = vmem_reserve(16 * page);
    REQUIRE(p != NULL);
    until_failure = fail_at < 0 ? 1000000 : fail_at;
    DO(vmem_commit(p, 8 * page));
    DO(vmem_protect(p + page, 2 * page, VMemProtect_Read));
    DO(vmem_commit(p + 10 * page, page));
    DO(vmem_lock(p + 10 * page, page));
    DO(vmem_unlock(p + 10 * page, page));
    DO(vmem_lock(p, page));
    DO(vmem_reset(p + 4 * page, 4 * page));
    DO(vmem_prefault(p, 8 * page));
    DO(vmem_set_executable(p, page, 1));
    DO(vmem_advise_huge(p, page));
    DO(vmem_decommit(p, 16 * page));
    DO(vmem_commit_protect(p + 3 * page, 4 * page, VMemProtect_Read));
    DO((q = vmem_reserve_aligned(page, 64 * MIB)) != NULL);
    DO(vmem_release(q, page));
    DO((q = vmem_reserve_guarded(page)) != NULL);
    DO(vmem_release(q, page));
    DO((q = vmem_alloc_commited(page)) != NULL);
    DO(vmem_release(q, page));
    DO((arena = vmem_arena_init_alloc(4 * page)).mem != NULL);
    DO(vmem_arena_set_commited(&arena, 3 * page));
    arena.mem[3 * page - 1] = 1;
    DO(vmem_arena_set_commited(&arena, page));
    DO(vmem_decommit(p, 16 * page));
    DO(vmem_partially_commit_region(p, 16 * page, 0, 12 * page));
    DO(vmem_partially_commit_region(p, 16 * page, 12 * page, 1));
    DO(vmem_grow_init(&grow, MIB, VMEM_GROW_HUGE));
    q = (unsigned char *)vmem_grow_push(&grow, 10, 1); /* huge pages and commits ahead of need may fail silently */
    CHECK_DOES(q != NULL);
    if (q != NULL)
        q[9] = 1;
    DO(vmem_grow_reset(&grow, 0));
    DO((q = vmem_grow_push_zeroed(&grow, 10, 1)) != NULL);
    CHECK_EQ_U(q[9], 0);
    DO(vmem_grow_deinit(&grow));
    DO(vmem_arena_deinit_dealloc(&arena));
    calls = 1000000 - until_failure;
    until_failure = -1;
    CHECK_DOES(vmem_release(p, 16 * page));
    return calls;
}

static int protect_of(void *at)
{
    VMemRangeInfo info = {0};

    return vmem_query_range_info(at, page, &info, 1) == 1 ? (int)info.protect : -1;
}

/* Splits a run of the registry with each call, while it can't have more memory. */
static void full_registry(void)
{
    enum { PAGES = 20000 };
    unsigned char *p = vmem_reserve(PAGES * page);
    size_t i = 0, room = 0, again;

    TEST("a-registry-that-cannot-grow-is-used-up-and-then-the-call-fails-and-changes-nothing");
    REQUIRE(p != NULL && vmem_commit(p, PAGES * page));
    no_mmap = 1;
    for (; i + 1 < PAGES && vmem_protect(p + i * page, page, VMemProtect_Read); i += 2)
        room += refused > 0;
    CHECK(refused > 0 && i + 1 < PAGES);
    CHECK(room >= 20);
    CHECK(strstr(vmem_get_error_message(), strerror(ENOMEM)) != NULL);
    CHECK(protect_of(p + i * page) == VMemProtect_ReadWrite);
    CHECK(i < 2 || protect_of(p + (i - 2) * page) == VMemProtect_Read);
    no_mmap = 0;
    for (again = i; again + 1 < i + 2000; again += 2)
        REQUIRE(vmem_protect(p + again * page, page, VMemProtect_Read));
    CHECK_DOES(vmem_release(p, PAGES * page));
}

/* An emulator has reserved all before, and has an address space of its own. */
static int vm_size_is_ours(void)
{
    long long before = address_space_in_use();
    void *at = mmap(NULL, 64 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int grown = at != MAP_FAILED && address_space_in_use() - before == 64 * (long long)MIB;

    munmap(at, 64 * MIB);
    return grown;
}

static void full_list_of_reservations(void)
{
    enum { MOST = 5000 };
    static void *at[MOST];
    size_t n = 0, i;
    long long before;

    TEST("a-reservation-that-the-registry-has-no-room-for-is-given-back");
    for (; n < MOST; n++) {
        before = address_space_in_use();
        until_failure = 1; /* the second call: only growth of the registry makes one */
        at[n] = vmem_reserve(page);
        until_failure = -1;
        if (at[n] == NULL)
            break;
    }
    CHECK(n < MOST);
    if (vm_size_is_ours())
        CHECK_EQ_I(address_space_in_use(), before);
    CHECK_DOES((at[n] = vmem_reserve(page)) != NULL);

    TEST("a-registry-whose-memory-cannot-be-committed-is-used-up-too");
    most_protected = page;
    for (n++; n < MOST && (at[n] = vmem_reserve(page)) != NULL; n++)
        ;
    CHECK(n < MOST);
    most_protected = 0;
    CHECK_DOES((at[n] = vmem_reserve(page)) != NULL);
    for (i = 0; i <= n; i++)
        if (!vmem_release(at[i], page))
            break;
    CHECK_EQ_U(i, n + 1);
}

/* A change that leaves few runs of many moves them to a smaller table. */
static void registry_that_cannot_shrink(void)
{
    enum { PAGES = 6000 };
    unsigned char *p = vmem_reserve(PAGES * page);
    size_t i;

    TEST("a-registry-that-cannot-shrink-stays-as-it-is");
    REQUIRE(p != NULL && vmem_commit(p, PAGES * page));
    for (i = 0; i < PAGES; i += 2)
        REQUIRE(vmem_protect(p + i * page, page, VMemProtect_Read));
    no_mmap = 1;
    refused = 0;
    CHECK_DOES(vmem_protect(p, (PAGES - 2) * page, VMemProtect_Read));
    CHECK(refused > 0);
    no_mmap = 0;
    CHECK(protect_of(p) == VMemProtect_Read && protect_of(p + (PAGES - 3) * page) == VMemProtect_Read);
    CHECK(protect_of(p + (PAGES - 1) * page) == VMemProtect_ReadWrite);
    CHECK_DOES(vmem_release(p, PAGES * page));
}

static int is_resident(void *at)
{
    unsigned char there = 0;

    return mincore(at, page, &there) == 0 && (there & 1);
}

static void older_kernels(void)
{
    const int causes[] = {EINVAL, EPERM};
    unsigned char *p;
    size_t i, k, resident;
    VMemRangeInfo by_query[64], by_list[64];
    size_t queried, listed;

    TEST("without-MADV_POPULATE-prefault-touches-each-page-and-changes-none");
    for (k = 0; k < 2; k++) {
        p = vmem_reserve(8 * page);
        REQUIRE(p != NULL && vmem_commit(p, 8 * page));
        memset(p, 7, 2 * page);
        CHECK_DOES(vmem_protect(p + 6 * page, 2 * page, VMemProtect_Read));
        no_advice = causes[k];
        CHECK_DOES(vmem_prefault(p, 8 * page));
        no_advice = 0;
        for (i = resident = 0; i < 8; i++) {
            resident += (size_t)is_resident(p + i * page);
            CHECK_EQ_U(p[i * page], i < 2 ? 7 : 0);
        }
        if (!is_emulated())
            CHECK_EQ_U(resident, 8);
        CHECK_DOES(vmem_release(p, 8 * page));
    }

    TEST("a-kernel-without-huge-pages-or-without-MADV_FREE-is-an-error");
    p = vmem_reserve(8 * page);
    REQUIRE(p != NULL && vmem_commit(p, 8 * page));
    no_advice = EINVAL;
    CHECK_FAILS(vmem_advise_huge(p, page), "this system has no huge pages");
    CHECK_FAILS(vmem_reset(p, page), "is locked");
    no_advice = 0;

    TEST("EAGAIN-from-mmap-unlocks-the-pages-and-tries-again");
    memset(p, 9, 4 * page);
    CHECK_DOES(vmem_lock(p, 2 * page));
    failure = EAGAIN;
    until_failure = 0;
    CHECK_DOES(vmem_decommit(p, 2 * page));
    CHECK_EQ_I(until_failure, -1);
    CHECK_DOES(vmem_commit(p, 2 * page));
    CHECK_EQ_U(p[0], 0);
    CHECK_FAILS(vmem_unlock(p, page), "not locked");

    TEST("and-if-it-fails-again-the-pages-are-as-they-were");
    p[0] = 9;
    CHECK_DOES(vmem_lock(p, 2 * page));
    for (k = 0; k < 2; k++) { /* the second call is munlock */
        failure = k == 0 ? EAGAIN : EPERM;
        until_failure = 0;
        in_a_row = 3;
        CHECK_FAILS(vmem_decommit(p, 2 * page), "cannot decommit");
        until_failure = -1;
        in_a_row = 1;
        CHECK(p[0] == 9 && p[2 * page] == 9 && protect_of(p) == VMemProtect_ReadWrite);
    }
    failure = ENOMEM;
    CHECK_DOES(vmem_unlock(p, 2 * page));

    TEST("pages-that-a-failed-call-changed-and-that-cannot-be-mapped-again-are-not-accessible");
    CHECK_DOES(vmem_decommit(p + 4 * page, 4 * page));
    until_failure = 0;
    in_a_row = 2; /* mprotect, and the mmap that undoes it */
    does_half = 1;
    CHECK_FAILS(vmem_commit(p, 8 * page), strerror(ENOMEM));
    CHECK_EQ_I(until_failure, -1);
    does_half = 0;
    CHECK(!faults(p, READS) && faults(p + 4 * page, READS));
    CHECK_EQ_I(protect_of(p), VMemProtect_ReadWrite);
    CHECK_DOES(vmem_release(p, 8 * page));

    TEST("a-kernel-without-queries-of-mappings-has-its-list-read");
    p = mmap(NULL, 8 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED && mprotect(p + 2 * page, page, PROT_READ | PROT_WRITE) == 0);
    REQUIRE(munmap(p + 5 * page, page) == 0);
    queried = vmem_query_range_info(p, 8 * page, by_query, 64);
    no_queries = 1;
    listed = vmem_query_range_info(p, 8 * page, by_list, 64);
    no_queries = 0;
    CHECK_EQ_U(queried, 5);
    CHECK(listed == queried && same_runs(by_query, by_list, listed));
    munmap(p, 8 * page);
}

int main(void)
{
    long calls, n;
    long long before, leaked = 0;

    page = vmem_get_page_size();
    TEST("without-a-failure-every-call-succeeds");
    calls = run(-1);
    CHECK(calls > 30);
    CHECK_EQ_U(failures, 0);

    TEST("every-system-call-may-fail");
    for (n = 0; n < calls; n++) {
        before = address_space_in_use();
        was_munmap = 0;
        run(n);
        if (!was_munmap) /* nothing can be done when the kernel does not take memory back */
            leaked += address_space_in_use() - before;
    }
    CHECK_EQ_U(wrong, 0);
    /* Advice and commits ahead of need may fail silently. And some calls are not made if an address happens to be aligned. */
    CHECK(failures >= (size_t)calls - 16);

    full_registry();
    full_list_of_reservations();
    registry_that_cannot_shrink();
    older_kernels();

    TEST("no-failure-loses-address-space");
    if (vm_size_is_ours())
        CHECK_EQ_I(leaked, 0);
    else
        SKIP("/proc/self/status is about an emulator");
    return tap_done();
}
