/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Processes to which the system denies some things: system calls that a sandbox forbids, memory that mlockall(2) locks, a main thread
 * that has ended, a cgroup with a limit.
 *
 * POSIX only: it sets up such processes
 */
#include "vmem_util.h"

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/filter.h>) /* musl-gcc has no headers of the kernel */
#define HAS_FILTERS
#endif
#endif

#ifdef HAS_FILTERS
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

static size_t page;

#define SKIPPED 77 /* exit status of a child that can't be set up */

#ifdef HAS_FILTERS

#define JUMP_IF_CALL(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1)
#define FAIL_WITH(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))

/* From now on madvise, ioctl, and prctl but to name mappings is refused with this error. Returns 0 if there are no filters here. */
static int forbid(unsigned error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        JUMP_IF_CALL(SYS_madvise), FAIL_WITH(error),
        JUMP_IF_CALL(SYS_ioctl), FAIL_WITH(error),
        JUMP_IF_CALL(SYS_prctl), FAIL_WITH(error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
           madvise((void *)&program, 0, MADV_NORMAL) != 0;
}

static int forbidden(void *error)
{
    VMemGrowArena arena;
    VMemRangeInfo info;
    unsigned char *p = vmem_alloc_commited(16 * page), *foreign, *q;
    long long before;

    foreign = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[0] = 7;
    if (!forbid(*(unsigned *)error))
        return SKIPPED;
    before = resident();
    CHECK_DOES(vmem_prefault(p, 16 * page));
    CHECK(resident() - before >= (long long)(8 * page));
    CHECK(p[0] == 7 && p[16 * page - 1] == 0);
    CHECK_DOES(vmem_protect(p, 8 * page, VMemProtect_Read));
    CHECK_DOES(vmem_prefault(p, 16 * page));
    CHECK_DOES(vmem_set_name(p, page, "name"));
    CHECK_FAILS(vmem_advise_huge(p, page), "vmem_advise_huge: cannot advise huge pages for 0x");
    CHECK_DOES(vmem_grow_init(&arena, 8 * MIB, VMEM_GROW_HUGE));
    q = vmem_grow_push(&arena, MIB, 16);
    if (CHECK_DOES(q != NULL))
        memset(q, 1, MIB);
    CHECK_DOES(vmem_grow_deinit(&arena));
    CHECK_EQ_U(vmem_query_range_info(foreign, page, &info, 1), 1);
    CHECK(info.is_commited && info.protect == VMemProtect_Read);
    CHECK(vmem_query_usage_status().total_physical_bytes > 0);
    CHECK_DOES(vmem_decommit(p, 16 * page));
    CHECK_DOES(vmem_release(p, 16 * page));
    return tap_done();
}

/* Not root any more if it was, with all that is mapped from now on locked, up to a limit. Returns the limit, or 0. */
static size_t lock_all(size_t wanted)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return 0;
    if (limit.rlim_max > wanted)
        limit.rlim_max = wanted;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (geteuid() == 0 && setuid(65534) != 0 && errno != EINVAL) || mlockall(MCL_FUTURE) != 0)
        return 0;
    return (size_t)limit.rlim_cur;
}

static int all_locked(void *unused)
{
    int emulated = is_emulated(); /* not to be seen once all memory is locked */
    size_t size = lock_all(24 * MIB) / 3 * 2 / page * page;
    unsigned char *p;
    int i;

    (void)unused;
    if (size < 64 * page || emulated) /* an emulator locks its own memory too */
        return SKIPPED;
    p = vmem_reserve(size);
    if (!CHECK_DOES(p != NULL))
        return tap_done();
    CHECK_FAILS(vmem_reserve(size), strerror(EAGAIN));
    for (i = 0; i < 3; i++) {
        CHECK_DOES(vmem_commit(p, size));
        memset(p, 1, size);
        CHECK_DOES(vmem_decommit(p, size));
    }
    CHECK_DOES(vmem_commit(p, size));
    CHECK(p[0] == 0 && p[size - 1] == 0);
    memset(p, 2, size);
    if (vmem_reset(p, size)) {
        CHECK(p[0] == 0 || p[0] == 2);
        memset(p, 3, size);
    } else {
        CHECK_STR_CONTAINS(vmem_get_error_message(), "is locked");
    }
    CHECK_DOES(vmem_release(p, size));
    CHECK_DOES((p = vmem_reserve(size)) != NULL);
    return tap_done();
}

/* Not in memory. */
static int without_memory(unsigned char *p)
{
    unsigned char in_memory = 1;

    return mincore(p, page, &in_memory) == 0 && !(in_memory & 1);
}

static int locked_beyond_the_limit(void *unused)
{
    const size_t size = 1024 * page;
    int emulated = is_emulated();
    unsigned char *p = vmem_reserve(2 * size), *region = vmem_reserve(size), *pushed;
    VMemGrowArena grow;
    VMemArena arena;
    int i;

    (void)unused;
    CHECK_DOES(vmem_commit(p, size) && vmem_protect(p, page, VMemProtect_Read));
    (void)vmem_advise_huge(p, size);
    memset(p + page, 1, size - page);
    CHECK_DOES(vmem_partially_commit_region(region, size, 0, size));
    arena = vmem_arena_init_alloc(size);
    CHECK_DOES(vmem_arena_set_commited(&arena, size));
    CHECK_DOES(vmem_grow_init(&grow, 2 * size, 0));
    CHECK_DOES((pushed = vmem_grow_push(&grow, size, 8)) != NULL);
    memset(region, 1, size);
    memset(arena.mem, 1, size);
    memset(pushed, 1, size);
    (void)vmem_lock(p + 8 * page, 4 * page);
    if (lock_all(64 * page) == 0 || emulated)
        return SKIPPED;
    CHECK_FAILS(vmem_reserve(size), strerror(EAGAIN));
    for (i = 0; i < 2; i++) {
        CHECK_DOES(vmem_decommit(p, size));
        CHECK(without_memory(p + page) && without_memory(p + 8 * page) && without_memory(p + size - page));
        CHECK(inaccessible(p) && inaccessible(p + 8 * page) && inaccessible(p + size - page));
        CHECK_DOES(vmem_commit(p, size));
        CHECK(all_bytes(p, size, 0));
        CHECK_FAILS(vmem_unlock(p + 8 * page, page), "is not locked");
        memset(p, 1, size);
    }
    CHECK_DOES(vmem_reset(p, size));
    CHECK_DOES(vmem_partially_commit_region(region, size, size, page));
    CHECK_DOES(vmem_arena_set_commited(&arena, page));
    CHECK_DOES(vmem_grow_reset(&grow, page));
    CHECK(without_memory(region + page) && without_memory((unsigned char *)arena.mem + page) && without_memory(pushed + size / 2));
    CHECK(region[0] == 1 && *(unsigned char *)arena.mem == 1);
    CHECK(inaccessible(region + page) && inaccessible((unsigned char *)arena.mem + page) && inaccessible(pushed + size / 2));
    CHECK_DOES(vmem_partially_commit_region(region, size, page, size));
    CHECK(all_bytes(region + page, size - page, 0));
    CHECK_DOES((pushed = vmem_grow_push(&grow, size, 8)) != NULL);
    CHECK(all_bytes(pushed + page, size - page, 0));
    CHECK_DOES(vmem_arena_deinit_dealloc(&arena) && vmem_grow_deinit(&grow) && vmem_release(p, 2 * size));
    return tap_done();
}

/* Neither a new mapping, which would be locked, nor madvise can discard the contents. */
static int locked_and_forbidden(void *unused)
{
    const size_t size = 1024 * page;
    int emulated = is_emulated();
    unsigned char *p = vmem_reserve(size);

    (void)unused;
    CHECK_DOES(vmem_commit(p, size) && vmem_protect(p, page, VMemProtect_Read));
    memset(p + page, 1, size - page);
    if (lock_all(64 * page) == 0 || emulated || !forbid(EPERM))
        return SKIPPED;
    CHECK_FAILS(vmem_decommit(p, size), strerror(EPERM));
    CHECK(p[0] == 0 && faults(p, WRITES));
    CHECK(all_bytes(p + page, size - page, 1));
    memset(p + page, 2, size - page);
    CHECK_DOES(vmem_release(p, size));
    return tap_done();
}

static void *without_main(void *limit)
{
    VMemUsageStatus status;
    VMemRangeInfo info;

    usleep(100000); /* the main thread ends */
    CHECK_EQ_U(vmem_query_range_info((void *)(uintptr_t)without_main, 1, &info, 1), 1);
    CHECK_EQ_U(info.is_commited, 1);
    if (!is_emulated())
        CHECK_EQ_U(info.protect, VMemProtect_ExecuteRead);
    CHECK_EQ_U(vmem_query_range_info(&info, 1, &info, 1), 1);
    CHECK_EQ_U(info.is_commited, 1);
    status = vmem_query_usage_status();
    CHECK(status.total_physical_bytes > 0);
    if (limit != NULL)
        CHECK(status.avail_physical_bytes <= *(size_t *)limit);
    _exit(tap_done());
    return NULL;
}

static int main_thread_ends(void *limit)
{
    pthread_t thread;

    if (limit != NULL)
        CHECK(vmem_query_usage_status().avail_physical_bytes <= *(size_t *)limit);
    if (pthread_create(&thread, NULL, without_main, limit) != 0)
        return SKIPPED;
    pthread_exit(NULL);
}

static int put(const char *directory, const char *name, const char *text)
{
    char path[256];
    FILE *file;
    int good;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "w");
    good = file != NULL && fputs(text, file) >= 0;
    return file != NULL && fclose(file) == 0 && good;
}

/* In a cgroup of its own, if this program may make one. */
static int in_cgroup(void *directory)
{
    static size_t limit = 64 * MIB;

    if (!put(directory, "cgroup.procs", "0"))
        return SKIPPED;
    return main_thread_ends(&limit);
}

static int limited_cgroup(char *directory, size_t size)
{
    static const char *const roots[][2] = {{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"},
                                           {"/sys/fs/cgroup", "memory.high"}};
    size_t i;

    for (i = 0; i < sizeof roots / sizeof *roots; i++) {
        snprintf(directory, size, "%s/test-%ld", roots[i][0], (long)getpid());
        if (mkdir(directory, 0700) != 0)
            continue;
        if (put(directory, roots[i][1], "67108864"))
            return 1;
        rmdir(directory);
    }
    return 0;
}

static void check_child(int status, const char *reason)
{
    if (status == -SKIPPED)
        SKIP(reason);
    else
        CHECK_EQ_I(status, 0);
}

#endif

int main(void)
{
#ifdef HAS_FILTERS
    static unsigned errors[] = {EPERM, ENOSYS, EACCES};
    char directory[128];
    size_t i;
    int tries;
#endif

    page = vmem_get_page_size();
    TEST("where-system-calls-are-forbidden-everything-that-can-do-without-them-works");
#ifdef HAS_FILTERS
    for (i = 0; i < 3; i++)
        check_child(in_child(forbidden, &errors[i]), "there are no seccomp filters here");

    POINT("where-all-memory-is-locked-decommit-works-within-the-limit", check_child(in_child(all_locked, NULL), "memory can't be locked here"));

    POINT("where-all-memory-is-locked-decommit-works-beyond-the-limit",
          check_child(in_child(locked_beyond_the_limit, NULL), "memory can't be locked here"));

    POINT("where-all-memory-is-locked-and-advice-is-forbidden-a-decommit-that-fails-changes-nothing",
          check_child(in_child(locked_and_forbidden, NULL), "memory can't be locked here"));

    POINT("after-the-main-thread-has-ended-queries-go-on", check_child(in_child(main_thread_ends, NULL), "no threads"));

    TEST("after-the-main-thread-has-ended-limits-of-cgroups-count");
    if (limited_cgroup(directory, sizeof directory)) {
        check_child(in_child(in_cgroup, directory), "this process can't move to a cgroup");
        for (tries = 0; tries < 100 && rmdir(directory) != 0; tries++)
            usleep(20000);
    } else {
        SKIP("no cgroup can be made here");
    }
#else
    SKIP("for Linux, with the headers of the kernel");
#endif
    return tap_done();
}
