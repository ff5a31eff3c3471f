/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* vmem_query_range_info: of our own reservations, of other memory, and of nothing. vmem_query_usage_status. */
#include "vmem_util.h"

static size_t page;

/* A run is what is expected: offset and number of pages relative to p. */
static int is_run(const VMemRangeInfo *run, unsigned char *p, size_t first, size_t pages, int commited, VMemProtect protect)
{
    return CHECK_EQ_I((unsigned char *)run->ptr - p, first * page) && CHECK_EQ_U(run->size_bytes, pages * page) &&
           CHECK_EQ_U(run->is_commited, commited) && CHECK_EQ_U(run->protect, protect);
}

static void own(void)
{
    VMemRangeInfo runs[16];
    unsigned char *p = vmem_alloc_protect(16 * page, VMemProtect_Read);

    REQUIRE(p != NULL);
    TEST("a-fresh-reservation-is-one-run-with-the-protection-it-was-given");
    CHECK_EQ_U(vmem_query_range_info(p, 16 * page, runs, 16), 1);
    is_run(&runs[0], p, 0, 16, 0, VMemProtect_Read);

    TEST("runs-follow-what-is-committed");
    CHECK_DOES(vmem_commit(p + 2 * page, 4 * page));
    CHECK_DOES(vmem_protect(p + 3 * page, page, VMemProtect_Read));
    CHECK_DOES(vmem_commit_protect(p + 8 * page, page, VMemProtect_NoAccess));
    CHECK_EQ_U(vmem_query_range_info(p, 16 * page, runs, 16), 7);
    is_run(&runs[0], p, 0, 2, 0, VMemProtect_Read);
    is_run(&runs[1], p, 2, 1, 1, VMemProtect_ReadWrite);
    is_run(&runs[2], p, 3, 1, 1, VMemProtect_Read);
    is_run(&runs[3], p, 4, 2, 1, VMemProtect_ReadWrite);
    is_run(&runs[4], p, 6, 2, 0, VMemProtect_Read);
    is_run(&runs[5], p, 8, 1, 1, VMemProtect_NoAccess);
    is_run(&runs[6], p, 9, 7, 0, VMemProtect_Read);

    TEST("runs-join-when-they-become-equal");
    CHECK_DOES(vmem_protect(p + 3 * page, page, VMemProtect_ReadWrite));
    CHECK_DOES(vmem_commit(p + 6 * page, 3 * page));
    CHECK_EQ_U(vmem_query_range_info(p, 16 * page, runs, 16), 3);
    is_run(&runs[1], p, 2, 7, 1, VMemProtect_ReadWrite);

    TEST("the-range-is-widened-to-pages-and-runs-are-cut-to-it");
    CHECK_EQ_U(vmem_query_range_info(p + page + 5, 2 * page, runs, 16), 2);
    is_run(&runs[0], p, 1, 1, 0, VMemProtect_Read);
    is_run(&runs[1], p, 2, 2, 1, VMemProtect_ReadWrite);
    CHECK_EQ_U(vmem_query_range_info(p + 3 * page - 1, 1, runs, 16), 1);
    is_run(&runs[0], p, 2, 1, 1, VMemProtect_ReadWrite);

    TEST("no-more-than-max_items-are-written");
    memset(runs, 0x55, sizeof runs);
    CHECK_EQ_U(vmem_query_range_info(p, 16 * page, runs, 2), 2);
    is_run(&runs[1], p, 2, 7, 1, VMemProtect_ReadWrite);
    CHECK(all_bytes((unsigned char *)&runs[2], sizeof runs - 2 * sizeof *runs, 0x55));

    TEST("a-lock-does-not-split-a-run");
    CHECK_DOES(vmem_lock(p + 3 * page, page));
    CHECK_EQ_U(vmem_query_range_info(p + 2 * page, 7 * page, runs, 16), 1);
    CHECK_DOES(vmem_release(p, 16 * page));

    TEST("guard-pages-are-runs-of-their-own");
    p = vmem_reserve_guarded(2 * page);
    REQUIRE(p != NULL);
    CHECK_DOES(vmem_commit(p, page));
    CHECK_EQ_U(vmem_query_range_info(p - page, 4 * page, runs, 16), 4);
    is_run(&runs[0], p - page, 0, 1, 0, VMemProtect_NoAccess);
    is_run(&runs[1], p, 0, 1, 1, VMemProtect_ReadWrite);
    is_run(&runs[2], p, 1, 1, 0, VMemProtect_ReadWrite);
    is_run(&runs[3], p, 2, 1, 0, VMemProtect_NoAccess);
    CHECK_DOES(vmem_release(p, 2 * page));
}

static void others(void)
{
    VMemRangeInfo runs[16];
    unsigned char *hole = mmap(NULL, 64 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p;
    size_t n, i, size;

    REQUIRE(hole != MAP_FAILED);
    TEST("memory-of-others-is-one-run-a-mapping-and-free-memory-is-not-accessible");
#ifdef _WIN32
    CHECK(VirtualFree(hole + 4 * page, 8 * page, MEM_DECOMMIT)); /* which gives it back as far as part of a mapping can be */
#else
    munmap(hole + 4 * page, 8 * page);
#endif
    CHECK(mprotect(hole, page, PROT_READ) == 0);
    CHECK(mprotect(hole + page, page, PROT_READ | PROT_WRITE) == 0);
    n = vmem_query_range_info(hole, 14 * page, runs, 16);
    CHECK_EQ_U(n, 5);
    is_run(&runs[0], hole, 0, 1, 1, VMemProtect_Read);
    is_run(&runs[1], hole, 1, 1, 1, VMemProtect_ReadWrite);
    is_run(&runs[2], hole, 2, 2, 1, VMemProtect_NoAccess);
    is_run(&runs[3], hole, 4, 8, 0, VMemProtect_NoAccess);
    is_run(&runs[4], hole, 12, 2, 1, VMemProtect_NoAccess);
    if (mprotect(hole, page, PROT_READ | PROT_WRITE | PROT_EXEC) == 0) /* some systems refuse that */
        is_state(hole, 1, VMemProtect_ExecuteReadWrite);
    munmap(hole, 64 * page);

    TEST("code-is-executable-and-the-stack-is-not");
    is_state((void *)(uintptr_t)others, 1, VMemProtect_ExecuteRead);
    is_state(runs, 1, VMemProtect_ReadWrite);

    TEST("two-adjacent-reservations-are-two-runs");
    size = vmem_get_allocation_granularity() > 2 * page ? vmem_get_allocation_granularity() : 2 * page;
    p = adjacent(size);
    if (p != NULL) {
        CHECK_EQ_U(vmem_query_range_info(p, 2 * size, runs, 16), 2);
        is_run(&runs[0], p, 0, size / page, 0, VMemProtect_ReadWrite);
        is_run(&runs[1], p, size / page, size / page, 0, VMemProtect_ReadWrite);
        CHECK_DOES(vmem_commit(p, size) && vmem_commit(p + size, size));
        CHECK_EQ_U(vmem_query_range_info(p, 2 * size, runs, 16), 2);
        is_run(&runs[0], p, 0, size / page, 1, VMemProtect_ReadWrite);
        CHECK_DOES(vmem_release(p, size));
        CHECK_DOES(vmem_release(p + size, size));
    } else {
        SKIP("the system did not place them side by side");
    }

    TEST("runs-of-the-whole-address-space-leave-no-gap");
    {
        static VMemRangeInfo all[4096];
        uintptr_t at = page, end = (sizeof(void *) == 8 ? UINTPTR_MAX >> 16 : UINTPTR_MAX) / page * page; /* above: the system's */

        p = vmem_reserve(GIB);
        n = vmem_query_range_info((void *)at, end - at, all, 4096);
        CHECK(n > 10 && n < 4096);
        for (i = 0; i < n; i++) {
            if ((uintptr_t)all[i].ptr != at || all[i].size_bytes == 0)
                break;
            at += all[i].size_bytes;
        }
        CHECK_EQ_U(i, n);
        CHECK_EQ_U(at, end);
        CHECK_DOES(vmem_release(p, GIB));
    }

    TEST("an-empty-query-is-an-error");
    CHECK_FAILS(vmem_query_range_info(NULL, page, runs, 16), "vmem_query_range_info: the pointer is NULL");
    CHECK_FAILS(vmem_query_range_info(runs, 0, runs, 16), "the size is 0");
    CHECK_FAILS(vmem_query_range_info(runs, page, NULL, 16), "the pointer is NULL");
    CHECK_FAILS(vmem_query_range_info(runs, page, runs, 0), "the size is 0");
    CHECK_FAILS(vmem_query_range_info(runs, SIZE_MAX, runs, 16), "behind the address space");
}

static void sizes(void)
{
    VMemUsageStatus status = vmem_query_usage_status();
#ifdef _WIN32
    MEMORYSTATUSEX memory = {.dwLength = sizeof memory};
    long long total = GlobalMemoryStatusEx(&memory) ? (long long)memory.ullTotalPhys : -1;
    long long available = (long long)memory.ullAvailPhys;
#else
    long long total = proc_number("/proc/meminfo", "MemTotal:"), available = proc_number("/proc/meminfo", "MemAvailable:");
#endif

    TEST("usage_status-has-the-memory-of-the-machine-and-the-free-part-of-it");
    CHECK_EQ_U(status.total_physical_bytes, (uint64_t)total < SIZE_MAX ? (uint64_t)total : SIZE_MAX);
    CHECK(status.avail_physical_bytes > 0);
    CHECK((long long)status.avail_physical_bytes <= available + 512 * (long long)MIB);

    TEST("page-size-and-granularity-are-known-without-init");
    CHECK_EQ_U(vmem_get_page_size(), sysconf(_SC_PAGESIZE));
    CHECK_EQ_U(vmem_query_page_size(), vmem_get_page_size());
    CHECK_EQ_U(vmem_get_allocation_granularity() % vmem_get_page_size(), 0);
    CHECK_EQ_U(vmem_query_allocation_granularity(), vmem_get_allocation_granularity());
}

static void no_descriptor(void)
{
    VMemRangeInfo info;
    int before = dup(0);

    TEST("a-query-leaves-no-descriptor-open");
    close(before);
    CHECK_EQ_U(vmem_query_range_info((void *)(uintptr_t)&no_descriptor, 1, &info, 1), 1);
    CHECK_EQ_I(dup(0), before);
    close(before);
}

int main(void)
{
    PART(no_descriptor());
    page = (size_t)sysconf(_SC_PAGESIZE);
    PART(own());
    PART(others());
    PART(sizes());
    return tap_done();
}
