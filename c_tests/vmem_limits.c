/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Calls when address space, memory, locked memory or mappings have run out; and that unused address space costs nothing.
 *
 * POSIX only: it sets limits of a process
 */
#include "vmem_util.h"

static size_t page;

static int limited(int resource, size_t above)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) != 0)
        return -1;
    limit.rlim_cur = above;
    return setrlimit(resource, &limit);
}

static size_t data_limit_now(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_DATA, &limit) == 0 ? (size_t)limit.rlim_cur : 0;
}

static int address_space(void *unused)
{
    char *p;

    (void)unused;
    CHECK(limited(RLIMIT_AS, (size_t)address_space_in_use() + 64 * MIB) == 0);
    CHECK_FAILS(vmem_reserve(GIB), strerror(ENOMEM));
    /* An address that happens to be aligned would do: not with an alignment as large as this. */
    CHECK_FAILS(vmem_reserve_aligned(40 * MIB, GIB << (sizeof(size_t) > 4 ? 8 : 0)), strerror(ENOMEM));
    p = vmem_reserve(32 * MIB);
    CHECK_DOES(p != NULL);
    CHECK_DOES(vmem_commit(p, 32 * MIB));
    memset(p, 1, 32 * MIB);
    CHECK_DOES(vmem_decommit(p, 32 * MIB));
    CHECK_DOES(vmem_release(p, 32 * MIB));
    return tap_done();
}

/* Nothing is left: every call fails, and none of them ends the program. */
static int no_address_space_at_all(void *unused)
{
    char *p = vmem_reserve(1024 * page), *q;
    size_t i, n = 0, failed = 0;

    (void)unused;
    CHECK(limited(RLIMIT_AS, (size_t)address_space_in_use()) == 0);
    while (malloc(64) != NULL)
        ;
    for (i = 0; i < 100000 && (q = vmem_reserve(page)) != NULL; i++)
        ;
    for (i = 0; i < 512; i++) {
        if (vmem_commit(p + 2 * i * page, page))
            p[2 * i * page] = 1;
        else
            failed++;
        if (vmem_query_range_info(p + 2 * i * page, page, &(VMemRangeInfo){0}, 1) == 1)
            n++;
    }
    CHECK_EQ_U(n, 512);
    CHECK(failed == 0 || strstr(vmem_get_error_message(), "emory") != NULL);
    for (i = 0; i < 512; i++) {
        VMemRangeInfo info = info_at(p + 2 * i * page);
        if (info.is_commited && p[2 * i * page] != 1)
            CHECK(!"lost");
    }
    return tap_done();
}

static int data_limit(void *unused)
{
    char *p = vmem_reserve(GIB);

    (void)unused;
    CHECK(limited(RLIMIT_DATA, (size_t)proc_number("/proc/self/status", "VmData:") + 64 * MIB) == 0);
    CHECK_FAILS(vmem_commit(p, 256 * MIB), "vmem_commit: cannot commit 0x");
    CHECK_FAILS(vmem_alloc_commited(256 * MIB), "vmem_alloc_commited: cannot commit 0x");
    is_state(p, 0, VMemProtect_ReadWrite);
    CHECK_FAILS(vmem_protect(p, page, VMemProtect_Read), "is not committed");
    CHECK_DOES(vmem_commit(p, 32 * MIB));
    p[32 * MIB - 1] = 1;
    CHECK_DOES(vmem_decommit(p, 32 * MIB));
    CHECK_DOES(vmem_commit(p + 512 * MIB, 32 * MIB));
    return tap_done();
}

/* The second half can't be committed, because it would have to become writable beyond the limit. */
static int half_way(void *unused)
{
    char *p = vmem_reserve(64 * MIB);
    VMemRangeInfo runs[8];
    size_t i, n, accessible = 0;

    (void)unused;
    CHECK_DOES(vmem_commit_protect(p, 16 * MIB, VMemProtect_Read));
    CHECK(limited(RLIMIT_DATA, (size_t)proc_number("/proc/self/status", "VmData:") + 20 * MIB) == 0);
    CHECK_FAILS(vmem_commit(p, 64 * MIB), "vmem_commit: cannot commit");
    n = vmem_query_range_info(p, 64 * MIB, runs, 8);
    for (i = 0; i < n; i++)
        if (runs[i].is_commited) {
            accessible += runs[i].size_bytes;
            CHECK(!faults(runs[i].ptr, READS));
            CHECK_EQ_I(faults(runs[i].ptr, WRITES), runs[i].protect == VMemProtect_Read);
        } else {
            CHECK(faults(runs[i].ptr, READS));
        }
    CHECK_EQ_U(accessible, 16 * MIB);
    return tap_done();
}

/*
 * The first pages of the range are not committed, and become accessible before the last can't: the call fails behind them, and they
 * are inaccessible again.
 */
static int half_way_behind_a_gap(void *unused)
{
    unsigned char *p = vmem_reserve(64 * MIB);
    VMemRangeInfo runs[8];

    (void)unused;
    CHECK_DOES(vmem_commit_protect(p + 4 * MIB, 4 * MIB, VMemProtect_Read));
    CHECK_DOES(vmem_commit_protect(p + 12 * MIB, 4 * MIB, VMemProtect_Read));
    CHECK(limited(RLIMIT_DATA, (size_t)proc_number("/proc/self/status", "VmData:") + 20 * MIB) == 0);
    CHECK_FAILS(vmem_commit(p, 64 * MIB), "vmem_commit: cannot commit");
    CHECK(inaccessible(p) && inaccessible(p + 4 * MIB - 1));
    CHECK(inaccessible(p + 8 * MIB) && inaccessible(p + 12 * MIB - 1));
    CHECK(inaccessible(p + 16 * MIB) && inaccessible(p + 64 * MIB - 1));
    CHECK(faults(p + 4 * MIB, WRITES) && faults(p + 16 * MIB - 1, WRITES));
    CHECK(p[4 * MIB] == 0 && p[8 * MIB - 1] == 0 && p[12 * MIB] == 0 && p[16 * MIB - 1] == 0);
    CHECK_EQ_U(vmem_query_range_info(p, 64 * MIB, runs, 8), 5);
    CHECK_EQ_U(proc_number("/proc/self/status", "VmData:") + 20 * MIB, data_limit_now());
    return tap_done();
}

static int lock_limit(void *unused)
{
    char *p = vmem_alloc_commited(64 * page);
    long long before = proc_number("/proc/self/status", "VmLck:");
    struct rlimit limit;

    (void)unused;
    limit.rlim_cur = limit.rlim_max = 8 * page;
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (geteuid() == 0 && setuid(65534) != 0) /* root has no such limit */
        return 0;
    CHECK_DOES(vmem_lock(p + page, page));
    CHECK_FAILS(vmem_lock(p, 64 * page), "vmem_lock: cannot lock 0x");
    CHECK_EQ_I(proc_number("/proc/self/status", "VmLck:") - before, page);
    CHECK_FAILS(vmem_unlock(p, page), "is not locked");
    CHECK_DOES(vmem_unlock(p + page, page));
    CHECK_DOES(vmem_lock(p, 8 * page));
    return tap_done();
}

/* Every second page is committed until the kernel refuses; then each page is as the answers said. */
static int mapping_limit(void *unused)
{
    static unsigned char done[200000];
    size_t pages = 200000, i, n = 0, wrong = 0;
    unsigned char *p = vmem_reserve(pages * page);
    VMemRangeInfo info;

    (void)unused;
    for (i = 0; i < pages; i += 2)
        if (vmem_commit(p + i * page, page)) {
            done[i] = 1;
            n++;
        }
    CHECK(n > 1000 && n < pages / 2);
    CHECK_STR_CONTAINS(vmem_get_error_message(), "vmem_commit: cannot commit 0x");
    for (i = 0; i < pages; i++) {
        vmem_query_range_info(p + i * page, page, &info, 1);
        wrong += info.is_commited != done[i];
        if (done[i])
            p[i * page] = 1; /* a fault if it is not so */
    }
    CHECK_EQ_U(wrong, 0);
    for (i = 0; i < pages && done[i]; i += 2)
        ;
    CHECK(faults(p + i * page, READS));
    /* And back: what takes no mapping more works, and gives some back. */
    CHECK_DOES(vmem_decommit(p, page));
    CHECK_DOES(vmem_decommit(p + 2 * page, page));
    CHECK_DOES(vmem_commit(p, page));
    CHECK_EQ_U(*p, 0);
    CHECK_DOES(vmem_decommit(p, pages * page));
    CHECK_DOES(vmem_commit(p, page));
    CHECK_DOES(vmem_release(p, pages * page));
    return tap_done();
}

/* In the middle of a run that others have filled the table of mappings round: what fails changes nothing. */
static int splits_at_the_limit(void *unused)
{
    size_t i, n = 200000;
    unsigned char *p = vmem_alloc_commited(16 * page), *filler;

    (void)unused;
    memset(p, 7, 16 * page);
    filler = mmap(NULL, n * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (i = 0; i < n && mprotect(filler + i * page, page, PROT_READ) == 0; i += 2)
        ;
    CHECK(i < n);
    CHECK_FAILS(vmem_decommit(p + 4 * page, page), "vmem_decommit: cannot decommit 0x");
    CHECK_FAILS(vmem_protect(p + 4 * page, page, VMemProtect_Read), "vmem_protect: cannot protect 0x");
    CHECK(all_bytes(p, 16 * page, 7));
    p[4 * page] = 7;
    CHECK_EQ_U(info_at(p).size_bytes, page);
    is_state(p + 4 * page, 1, VMemProtect_ReadWrite);
    munmap(filler, n * page);
    CHECK_DOES(vmem_decommit(p + 4 * page, page));
    CHECK_DOES(vmem_release(p, 16 * page));
    return tap_done();
}

static int sixty_four_tebibytes(void *unused)
{
    size_t size = (size_t)64 << 30 << 10, i;
    long long before = resident();
    unsigned char *p = vmem_reserve(size);

    (void)unused;
    if (!CHECK_DOES(p != NULL))
        return tap_done();
    for (i = 0; i < 1000; i++)
        if (!vmem_commit(p + i * (size / 1000 / page * page), page))
            CHECK(!"commit");
        else
            p[i * (size / 1000 / page * page)] = 1;
    CHECK(resident() - before < (long long)(1000 * page + 16 * MIB));
    CHECK_DOES(vmem_release(p, size));
    return tap_done();
}

static int overcommit_mode(void)
{
    FILE *mode = fopen("/proc/sys/vm/overcommit_memory", "r");
    int number = -1;

    if (mode != NULL) {
        if (fscanf(mode, "%d", &number) != 1)
            number = -1;
        fclose(mode);
    }
    return number;
}

static void commit_charge(void)
{
    size_t size = 256 * MIB;
    unsigned char *p = vmem_reserve(size);
    long long start = proc_number("/proc/meminfo", "Committed_AS:"), up, down;
    int strict = overcommit_mode() == 2, tries;

    TEST("decommit-gives-the-commit-charge-back");
    REQUIRE(p != NULL);
    if (!strict)
        SKIP("the kernel does not charge for reservations here (vm.overcommit_memory is not 2)");
    for (tries = 0; strict && tries < 5; tries++) {
        start = proc_number("/proc/meminfo", "Committed_AS:");
        CHECK_DOES(vmem_commit(p, size));
        up = proc_number("/proc/meminfo", "Committed_AS:");
        CHECK_DOES(vmem_decommit(p, size));
        down = proc_number("/proc/meminfo", "Committed_AS:");
        if (up - start > (long long)size / 2 && up - down > (long long)size / 2)
            break; /* other programs may have changed it meanwhile */
    }
    CHECK(tries < 5);

    TEST("decommit-gives-memory-back");
    CHECK_DOES(vmem_commit(p, 64 * MIB));
    memset(p, 1, 64 * MIB);
    start = resident();
    CHECK_DOES(vmem_decommit(p, 64 * MIB));
    CHECK(start - resident() > (long long)(60 * MIB));

    TEST("what-is-reserved-or-committed-and-not-touched-takes-no-memory");
    start = resident();
    CHECK_DOES(vmem_commit(p, size));
    CHECK(resident() - start < (long long)(4 * MIB));
    CHECK_DOES(vmem_release(p, size));
}

/* qemu-user accepts limits and holds no program to them, and reserves its own space in advance. */
static int limits_hold(void *unused)
{
    (void)unused;
    return limited(RLIMIT_AS, (size_t)address_space_in_use()) == 0 &&
           mmap(NULL, 64 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED;
}

int main(void)
{
    static const struct {
        const char *fact;
        int (*holds)(void *);
    } points[] = {
        {"the-address-space-limit-is-an-error", address_space},
        {"without-any-address-space-left-calls-fail-and-the-program-goes-on", no_address_space_at_all},
        {"the-data-limit-is-an-error-of-commit", data_limit},
        {"a-commit-that-fails-half-way-is-known-page-by-page", half_way},
        {"a-commit-that-fails-half-way-leaves-nothing-accessible-before-or-behind", half_way_behind_a_gap},
        {"the-lock-limit-is-an-error-and-leaves-locks-as-they-were", lock_limit},
        {"the-limit-of-mappings-is-an-error-and-every-answer-was-true", mapping_limit},
        {"what-needs-a-mapping-more-than-there-are-changes-nothing", splits_at_the_limit},
    };
    int limits = in_child(limits_hold, NULL) != 0;
    size_t i;

    page = vmem_get_page_size();
    for (i = 0; i < sizeof points / sizeof *points; i++)
        POINT(points[i].fact, limits ? (void)CHECK_EQ_I(in_child(points[i].holds, NULL), 0) : SKIP("limits of a process are not held here"));
    TEST("64-TiB-can-be-reserved-and-used-sparsely");
    if (sizeof(void *) < 8 || !limits)
        SKIP("the address space is smaller");
    else
        CHECK_EQ_I(in_child(sixty_four_tebibytes, NULL), 0);
    commit_charge();
    return tap_done();
}
