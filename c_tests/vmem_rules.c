/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reserve, commit, decommit, protect, lock and release: the state of each page after a call, and the calls that are refused. */
#include "vmem_util.h"

static size_t page;

static void reserving(void)
{
    static const VMemProtect protects[] = {VMemProtect_NoAccess, VMemProtect_Read, VMemProtect_ReadWrite, VMemProtect_Execute,
                                           VMemProtect_ExecuteRead, VMemProtect_ExecuteReadWrite};
    unsigned char *p, *q;
    size_t i;

    TEST("reserved-pages-are-not-accessible");
    p = vmem_reserve(3 * page);
    REQUIRE(p != NULL);
    CHECK_EQ_U((uintptr_t)p % vmem_get_allocation_granularity(), 0);
    CHECK(inaccessible(p) && inaccessible(p + 3 * page - 1));
    CHECK_DOES(vmem_release(p, 3 * page));

    TEST("a-size-is-rounded-up-to-whole-pages");
    p = vmem_reserve(page + 1);
    REQUIRE(p != NULL);
    CHECK_DOES(vmem_commit(p + page, page));
    CHECK_FAILS(vmem_commit(p + 2 * page, 1), "not inside one live reservation");
    CHECK_DOES(vmem_release(p, page + 1));

    TEST("size-0-and-sizes-beyond-the-address-space-are-refused");
    CHECK_FAILS(vmem_reserve(0), "vmem_reserve: the size is 0");
    CHECK_FAILS(vmem_reserve(SIZE_MAX), "more than the address space has");
    CHECK_FAILS(vmem_reserve(SIZE_MAX - page), "more than the address space has");
    CHECK_FAILS(vmem_reserve(too_much()), "cannot reserve");
    CHECK_FAILS(vmem_alloc(0), "vmem_alloc: the size is 0");
    CHECK_FAILS(vmem_alloc_commited(0), "vmem_alloc_commited: the size is 0");
    CHECK_FAILS(vmem_alloc_protect(0, VMemProtect_Read), "vmem_alloc_protect: the size is 0");

    TEST("every-protection-can-be-reserved-and-nothing-else");
    for (i = 0; i < sizeof protects / sizeof *protects; i++) {
        p = vmem_alloc_protect(page, protects[i]);
        REQUIRE(p != NULL);
        is_state(p, 0, protects[i]);
        CHECK(inaccessible(p));
        CHECK_DOES(vmem_commit(p, page));
        is_state(p, 1, VMemProtect_ReadWrite);
        *p = 1;
        CHECK_DOES(vmem_dealloc(p, page));
    }
    CHECK_FAILS(vmem_alloc_protect(page, VMemProtect_Invalid), "0 is not a protection");
    CHECK_FAILS(vmem_alloc_protect(page, VMemProtect_COUNT), "7 is not a protection");
    CHECK_FAILS(vmem_alloc_protect(page, 255), "255 is not a protection");

    TEST("alloc_commited-is-zero-and-writable");
    p = vmem_alloc_commited(2 * page);
    REQUIRE(p != NULL);
    CHECK(all_bytes(p, 2 * page, 0));
    memset(p, 1, 2 * page);
    CHECK_DOES(vmem_dealloc(p, 2 * page));

    TEST("reserve_aligned-aligns");
    for (i = page; i <= GIB / 4; i *= 4) {
        p = vmem_reserve_aligned(3 * page, i);
        REQUIRE(p != NULL);
        CHECK_EQ_U((uintptr_t)p % i, 0);
        CHECK_DOES(vmem_commit(p, 3 * page));
        CHECK_DOES(vmem_release(p, 3 * page));
    }
    p = vmem_reserve_aligned(page, 1);
    CHECK(p != NULL && vmem_release(p, page));
    CHECK_FAILS(vmem_reserve_aligned(page, 0), "the alignment 0 is not");
    CHECK_FAILS(vmem_reserve_aligned(page, 3 * MIB), "the alignment 3145728 is not");
    CHECK_FAILS(vmem_reserve_aligned(0, MIB), "the size is 0");
    CHECK_FAILS(vmem_reserve_aligned(page, (SIZE_MAX / 2) + 1), "cannot reserve");

    TEST("guard-pages-are-never-accessible");
    p = vmem_reserve_guarded(2 * page);
    REQUIRE(p != NULL);
    CHECK_DOES(vmem_commit(p, 2 * page));
    memset(p, 1, 2 * page);
    CHECK(inaccessible(p - 1) && inaccessible(p + 2 * page));
    CHECK_FAILS(vmem_commit(p - page, page), "not inside one live reservation");
    CHECK_FAILS(vmem_commit(p + 2 * page, 1), "not inside one live reservation");
    CHECK_FAILS(vmem_decommit(p, 2 * page + 1), "not inside one live reservation");
    CHECK_FAILS(vmem_release(p - page, 4 * page), "no live reservation starts at");
    is_state(p - page, 0, VMemProtect_NoAccess);
    is_state(p + 2 * page, 0, VMemProtect_NoAccess);
    q = p - page;
    CHECK_DOES(vmem_release(p, 2 * page));
#ifdef _WIN32
    is_state(q, 0, VMemProtect_NoAccess);
    CHECK(VirtualAlloc(q, 4 * page, MEM_RESERVE, PAGE_NOACCESS) != NULL); /* at the granularity below */
#else
    CHECK(mmap(q, 4 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == q);
    munmap(q, 4 * page);
#endif
}

/* Each function that reserves takes as many bytes as it is asked for. */
static void sizes(void)
{
    size_t size = 5 * page - 100, i;
    unsigned char *p[6];
    VMemArena arena = vmem_arena_init_alloc(size);
    VMemGrowArena grow;

    TEST("every-way-to-reserve-reserves-the-size-that-is-asked-for");
    p[0] = vmem_reserve(size);
    p[1] = vmem_alloc(size);
    p[2] = vmem_alloc_protect(size, VMemProtect_ReadWrite);
    p[3] = vmem_alloc_commited(size);
    p[4] = vmem_reserve_aligned(size, 2 * page);
    p[5] = vmem_reserve_guarded(size);
    for (i = 0; i < 6; i++) {
        VMemRangeInfo run;
        REQUIRE(p[i] != NULL);
        CHECK_EQ_U(vmem_query_range_info(p[i], 5 * page, &run, 1), 1);
        CHECK_EQ_U(run.size_bytes, 5 * page);
        CHECK_EQ_U(run.is_commited, i == 3);
        CHECK_FAILS(vmem_commit(p[i], 5 * page + 1), "not inside one live reservation");
        CHECK_DOES(vmem_commit(p[i] + 4 * page, page));
        p[i][5 * page - 1] = 1;
        CHECK_DOES(vmem_release(p[i], size));
    }
    CHECK_EQ_U(arena.size_bytes, size);
    CHECK_DOES(vmem_arena_set_commited(&arena, size));
    arena.mem[size - 1] = 1;
    CHECK_DOES(vmem_arena_deinit_dealloc(&arena));
    CHECK_DOES(vmem_grow_init(&grow, size, 0));
    CHECK_DOES(vmem_grow_push(&grow, size, 1) != NULL);
    CHECK_DOES(vmem_grow_deinit(&grow));
}

#define KEPT_NAME "[anon:kept name]"

/* Whether /proc/self/smaps has `text` in the first line of the mapping that begins at p, which has its name, or in that of its flags. */
static int mapping_has(void *p, const char *text)
{
    char line[512], start[32];
    FILE *file = fopen("/proc/self/smaps", "r");
    int inside = 0, found = 0;

    snprintf(start, sizeof start, "%lx-", (unsigned long)(uintptr_t)p);
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        int is_first = line[0] < 'A' || line[0] > 'Z';

        if (is_first)
            inside = strncmp(line, start, strlen(start)) == 0;
        found |= inside && (is_first || strncmp(line, "VmFlags:", 8) == 0) && strstr(line, text) != NULL;
    }
    if (file != NULL)
        fclose(file);
    return found;
}

/* Of 16 MiB at p, 4 have a name or advice, which smaps shows as `text`. A decommit of all does not end it. */
static void outlives_decommit(unsigned char *p, const char *text)
{
    CHECK_DOES(vmem_commit(p, 16 * MIB));
    memset(p + 6 * MIB, 1, page);
    CHECK_DOES(vmem_decommit(p, 16 * MIB));
    CHECK(mapping_has(p + 4 * MIB, text));
    CHECK(!mapping_has(p + 8 * MIB, text));
}

static void release_whole(unsigned char *p)
{
    CHECK_DOES(vmem_release(p, 16 * MIB));
#ifndef _WIN32
    CHECK(mmap(p, 16 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
    munmap(p, 16 * MIB);
#endif
}

#ifndef _WIN32
static int can_unlock(void *p)
{
    return vmem_unlock(p, page) != VMemResult_Error;
}
#endif

static void what_is_kept(void)
{
    enum { RANGES = 4000 };
    unsigned char *p = vmem_reserve(2 * RANGES * page);
    long long before = address_space_in_use();

    TEST("the-records-of-ranges-that-are-gone-take-no-memory");
    REQUIRE(p != NULL);
    for (size_t i = 0; i < RANGES; i++)
        REQUIRE(vmem_commit(p + 2 * i * page, page));
    CHECK_DOES(vmem_decommit(p, 2 * RANGES * page));
    if (before < 0 || is_emulated())
        SKIP("no way to see the address space in use");
    else
        CHECK(address_space_in_use() <= before + 128 * (long long)KIB);

#ifndef _WIN32
    TEST("a-child-has-no-locks");
    CHECK_DOES(vmem_commit(p, page));
    if (vmem_lock(p, page)) {
        CHECK_EQ_I(in_child(can_unlock, p), 0);
        CHECK_DOES(vmem_unlock(p, page));
    } else {
        SKIP("no memory may be locked here");
    }
#endif
    CHECK_DOES(vmem_release(p, 2 * RANGES * page));
}

static void advice(void)
{
    unsigned char *p;

    TEST("huge-page-advice-outlives-a-decommit");
    p = vmem_reserve_aligned(16 * MIB, 2 * MIB);
    REQUIRE(p != NULL);
    vmem_advise_huge(p + 4 * MIB, 4 * MIB);
    if (mapping_has(p + 4 * MIB, " hg"))
        outlives_decommit(p, " hg");
    else
        SKIP("there are no huge pages, or no way to see the advice");
    release_whole(p);

    TEST("an-arena-asks-for-huge-pages-iff-its-flag-says-so");
    p = vmem_reserve_aligned(4 * MIB, 2 * MIB);
    REQUIRE(p != NULL);
    vmem_advise_huge(p, 4 * MIB);
    if (mapping_has(p, " hg")) {
        for (unsigned flags = 0; flags <= (VMEM_GROW_HUGE | VMEM_GROW_GUARD); flags++) {
            VMemGrowArena arena;

            CHECK_DOES(vmem_grow_init(&arena, 4 * MIB, flags));
            CHECK_DOES(vmem_grow_push(&arena, 1, 1));
            CHECK_EQ_I(mapping_has(arena.mem, " hg"), (flags & VMEM_GROW_HUGE) != 0);
            CHECK_DOES(vmem_grow_deinit(&arena));
        }
    } else {
        SKIP("there are no huge pages, or no way to see the advice");
    }
    CHECK_DOES(vmem_release(p, 4 * MIB));

    TEST("a-name-outlives-a-decommit-until-it-is-taken-away");
    p = vmem_reserve_aligned(16 * MIB, 2 * MIB);
    REQUIRE(p != NULL);
    CHECK_DOES(vmem_set_name(p + 4 * MIB, 4 * MIB, "kept name"));
    if (mapping_has(p + 4 * MIB, KEPT_NAME)) {
        outlives_decommit(p, KEPT_NAME);
        CHECK_DOES(vmem_set_name(p + 4 * MIB, 4 * MIB, NULL));
        CHECK_DOES(vmem_commit(p, 16 * MIB));
        CHECK_DOES(vmem_decommit(p, 16 * MIB));
        CHECK(!mapping_has(p + 4 * MIB, KEPT_NAME));
    } else
        SKIP("this system has no names of memory (Linux has, with CONFIG_ANON_VMA_NAME), or no way to see them");
    release_whole(p);
}

static void committing(void)
{
    unsigned char *p = vmem_reserve(8 * page), *foreign;

    REQUIRE(p != NULL);
    TEST("commit-makes-the-touched-pages-accessible-and-no-others");
    CHECK_DOES(vmem_commit(p + 2 * page + 5, page));
    CHECK(all_bytes(p + 2 * page, 2 * page, 0));
    memset(p + 2 * page, 7, 2 * page);
    CHECK(inaccessible(p + 2 * page - 1) && inaccessible(p + 4 * page));

    TEST("commit-keeps-the-contents-of-committed-pages-and-sets-their-protection");
    CHECK_DOES(vmem_commit_protect(p + page, 4 * page, VMemProtect_Read));
    CHECK(all_bytes(p + 2 * page, 2 * page, 7) && all_bytes(p + page, page, 0) && all_bytes(p + 4 * page, page, 0));
    CHECK(faults(p + page, WRITES) && faults(p + 2 * page, WRITES));
    CHECK_DOES(vmem_commit(p + page, 4 * page));
    CHECK(all_bytes(p + 2 * page, 2 * page, 7));
    p[page] = 1;

    TEST("commit-beyond-the-reservation-is-refused-and-changes-nothing");
    CHECK_FAILS(vmem_commit(p + 6 * page, 2 * page + 1), "vmem_commit: 0x");
    CHECK_FAILS(vmem_commit(p + 8 * page - 1, 2), "not inside one live reservation");
    CHECK_FAILS(vmem_commit(p, SIZE_MAX), "behind the address space");
    CHECK_FAILS(vmem_commit(p, SIZE_MAX - (uintptr_t)p), "behind the address space");
    CHECK_FAILS(vmem_commit(p - 1, 2), "not inside one live reservation");
    CHECK(inaccessible(p + 6 * page) && inaccessible(p + 7 * page));

    TEST("commit-with-a-bad-protection-is-refused-and-changes-nothing");
    CHECK_FAILS(vmem_commit_protect(p + 6 * page, page, VMemProtect_Invalid), "vmem_commit_protect: 0 is not a protection");
    CHECK_FAILS(vmem_commit_protect(p + 6 * page, page, 7), "7 is not a protection");
    CHECK(inaccessible(p + 6 * page));

    TEST("commit-of-NULL-nothing-and-foreign-memory-is-refused");
    CHECK_FAILS(vmem_commit(NULL, page), "the pointer is NULL");
    CHECK_FAILS(vmem_commit(p, 0), "the size is 0");
    foreign = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_FAILS(vmem_commit(foreign, page), "not inside one live reservation");
    CHECK(faults(foreign, WRITES));
    CHECK_FAILS(vmem_decommit(foreign, page), "not inside one live reservation");
    CHECK_FAILS(vmem_protect(foreign, page, VMemProtect_ReadWrite), "not inside one live reservation");
    CHECK_FAILS(vmem_lock(foreign, page), "not inside one live reservation");
    CHECK_FAILS(vmem_unlock(foreign, page), "not inside one live reservation");
    CHECK_FAILS(vmem_release(foreign, page), "no live reservation starts at");
    CHECK_FAILS(vmem_reset(foreign, page), "not inside one live reservation");
    CHECK_FAILS(vmem_prefault(foreign, page), "not inside one live reservation");
    CHECK(!faults(foreign, READS));
    munmap(foreign, page);

    TEST("decommitted-pages-are-inaccessible-and-zero-when-committed-again");
    memset(p + page, 9, 4 * page);
    CHECK_DOES(vmem_decommit(p + 2 * page + 1, 1));
    CHECK(inaccessible(p + 2 * page) && p[page] == 9 && p[3 * page] == 9);
    CHECK_DOES(vmem_commit(p + 2 * page, page));
    CHECK(all_bytes(p + 2 * page, page, 0) && all_bytes(p + 3 * page, 2 * page, 9));

    TEST("decommit-of-pages-that-never-were-committed-succeeds");
    CHECK_DOES(vmem_decommit(p + 6 * page, 2 * page));
    CHECK_DOES(vmem_decommit(p, 8 * page));
    CHECK_DOES(vmem_decommit(p, 8 * page));
    CHECK(inaccessible(p + page) && inaccessible(p + 4 * page));
    CHECK_FAILS(vmem_decommit(p, 8 * page + 1), "not inside one live reservation");
    CHECK_FAILS(vmem_decommit(NULL, page), "the pointer is NULL");
    CHECK_FAILS(vmem_decommit(p, 0), "the size is 0");

    TEST("every-protection-does-what-it-says");
    CHECK_DOES(vmem_commit_protect(p, page, VMemProtect_NoAccess));
    is_state(p, 1, VMemProtect_NoAccess);
    CHECK(inaccessible(p));
    CHECK_DOES(vmem_commit_protect(p, page, VMemProtect_Read));
    CHECK(!faults(p, READS) && faults(p, WRITES) && faults(p, RUNS));
    CHECK_DOES(vmem_commit_protect(p, page, VMemProtect_ReadWrite));
    CHECK(!faults(p, WRITES) && faults(p, RUNS));
#if defined(__x86_64__) || defined(__i386__)
    *p = 0xc3; /* ret */
    CHECK_DOES(vmem_commit_protect(p, page, VMemProtect_Execute));
    CHECK(!faults(p, RUNS) && faults(p, WRITES));
    CHECK_DOES(vmem_commit_protect(p, page, VMemProtect_ExecuteRead));
    CHECK(!faults(p, RUNS) && !faults(p, READS) && faults(p, WRITES));
    CHECK_DOES(vmem_commit_protect(p, page, VMemProtect_ExecuteReadWrite));
    CHECK(!faults(p, RUNS) && !faults(p, WRITES));

    TEST("set_executable-switches-between-writing-and-running");
    CHECK_DOES(vmem_set_executable(p, page, 0));
    CHECK(!faults(p, WRITES) && faults(p, RUNS));
    CHECK_DOES(vmem_set_executable(p, page, 1));
    CHECK(!faults(p, RUNS) && faults(p, WRITES));
    CHECK_FAILS(vmem_set_executable(p + page, page, 1), "vmem_set_executable: the page at");
#endif
    CHECK_DOES(vmem_release(p, 8 * page));
}

static void protecting(void)
{
    unsigned char *p = vmem_reserve(6 * page);
    size_t size;

    REQUIRE(p != NULL);
    TEST("protect-keeps-contents");
    CHECK_DOES(vmem_commit(p, 3 * page));
    memset(p, 5, 3 * page);
    CHECK_DOES(vmem_protect(p + page + 1, 1, VMemProtect_Read));
    CHECK(faults(p + page, WRITES) && all_bytes(p, 3 * page, 5));
    p[0] = p[2 * page] = 5;
    CHECK_DOES(vmem_protect(p, 3 * page, VMemProtect_NoAccess));
    CHECK(inaccessible(p));
    CHECK_DOES(vmem_protect(p, 3 * page, VMemProtect_ReadWrite));
    CHECK(all_bytes(p, 3 * page, 5));

    TEST("protect-of-a-hole-or-beyond-is-refused-and-changes-nothing");
    CHECK_DOES(vmem_commit(p + 4 * page, page));
    CHECK_FAILS(vmem_protect(p, 5 * page, VMemProtect_Read), "is not committed");
    CHECK_FAILS(vmem_protect(p + 3 * page, page, VMemProtect_Read), "is not committed");
    CHECK_FAILS(vmem_protect(p + 4 * page, 3 * page, VMemProtect_Read), "not inside one live reservation");
    CHECK_FAILS(vmem_protect(p, page, VMemProtect_Invalid), "not a protection");
    CHECK_FAILS(vmem_protect(NULL, page, VMemProtect_Read), "the pointer is NULL");
    CHECK_FAILS(vmem_protect(p, 0, VMemProtect_Read), "the size is 0");
    memset(p, 6, 3 * page);
    p[4 * page] = 6;

    TEST("two-adjacent-reservations-are-not-one");
    CHECK_DOES(vmem_release(p, 6 * page));
    size = vmem_get_allocation_granularity() > 2 * page ? vmem_get_allocation_granularity() : 2 * page;
    p = adjacent(size);
    if (p != NULL) {
        CHECK_FAILS(vmem_commit(p + page, size), "not inside one live reservation");
        CHECK_FAILS(vmem_release(p, 2 * size), "has");
        CHECK_DOES(vmem_commit(p, size));
        CHECK_DOES(vmem_commit(p + size, size));
        CHECK_FAILS(vmem_protect(p + page, size, VMemProtect_Read), "not inside one live reservation");
        CHECK_FAILS(vmem_decommit(p + page, size), "not inside one live reservation");
        memset(p, 1, 2 * size);
        CHECK_DOES(vmem_release(p, size));
        CHECK(all_bytes(p + size, size, 1));
        CHECK_DOES(vmem_release(p + size, size));
    } else {
        SKIP("the system did not place them side by side");
    }
}

static void locks(void)
{
    unsigned char *p = vmem_reserve(6 * page);
    long long before;

    REQUIRE(p != NULL);
    TEST("lock-takes-committed-accessible-pages-only");
    CHECK_DOES(vmem_commit(p, 3 * page));
    CHECK_FAILS(vmem_lock(p, 4 * page), "is not committed");
    CHECK_DOES(vmem_protect(p + 2 * page, page, VMemProtect_NoAccess));
    CHECK_FAILS(vmem_lock(p, 3 * page), "is NoAccess");
    CHECK_FAILS(vmem_lock(p, 7 * page), "not inside one live reservation");
    CHECK_FAILS(vmem_lock(NULL, page), "the pointer is NULL");
    CHECK_FAILS(vmem_lock(p, 0), "the size is 0");

    TEST("lock-locks-and-locks-do-not-nest");
    before = locked();
    CHECK_DOES(vmem_lock(p + 1, page));
    CHECK_DOES(vmem_lock(p, 2 * page));
    CHECK_LOCKED(before, 2 * page);
    CHECK_DOES(vmem_unlock(p, 2 * page));
    CHECK_LOCKED(before, 0);

    TEST("unlock-of-what-is-not-locked-throughout-is-refused-and-changes-nothing");
    CHECK_FAILS(vmem_unlock(p, page), "is not locked");
    CHECK_DOES(vmem_lock(p, page));
    CHECK_FAILS(vmem_unlock(p, 2 * page), "is not locked");
    CHECK_FAILS(vmem_unlock(p, 7 * page), "not inside one live reservation");
    CHECK_FAILS(vmem_unlock(NULL, page), "the pointer is NULL");
    CHECK_LOCKED(before, page);
    CHECK_DOES(vmem_unlock(p, page));

    TEST("locked-pages-can-be-decommitted-and-are-unlocked-then");
    CHECK_DOES(vmem_lock(p, 2 * page));
    CHECK_DOES(vmem_decommit(p, page));
    CHECK_LOCKED(before, page);
    CHECK_FAILS(vmem_unlock(p, 2 * page), "is not locked");
    CHECK_DOES(vmem_commit(p, page));
    CHECK_FAILS(vmem_unlock(p, page), "is not locked");

    TEST("pages-committed-beside-locked-ones-are-not-locked");
    CHECK_FAILS(vmem_unlock(p, 2 * page), "is not locked");
    CHECK_DOES(vmem_unlock(p + page, page));

    TEST("a-reservation-with-locked-pages-can-be-released");
    CHECK_DOES(vmem_lock(p, 2 * page));
    CHECK_DOES(vmem_release(p, 6 * page));
    CHECK_LOCKED(before, 0);
}

static void releasing(void)
{
    unsigned char *p = vmem_reserve(4 * page), *neighbour = vmem_reserve(4 * page);

    REQUIRE(p != NULL && neighbour != NULL);
    CHECK_DOES(vmem_commit(p, 4 * page) && vmem_commit(neighbour, 4 * page));
    memset(p, 3, 4 * page);
    memset(neighbour, 4, 4 * page);

    TEST("release-takes-the-exact-start-and-size-and-touches-nothing-otherwise");
    CHECK_FAILS(vmem_release(p + page, 3 * page), "no live reservation starts at");
    CHECK_FAILS(vmem_release(p + 1, 4 * page), "no live reservation starts at");
    CHECK_FAILS(vmem_release(p - page, 4 * page), "no live reservation starts at");
    CHECK_FAILS(vmem_release(p, 3 * page), "bytes, not");
    CHECK_FAILS(vmem_release(p, 4 * page + 1), "bytes, not");
    CHECK_FAILS(vmem_release(p, 1024 * page), "bytes, not");
    CHECK_FAILS(vmem_release(p, 0), "vmem_release: the size is 0");
    CHECK_FAILS(vmem_release(p, SIZE_MAX), "behind the address space");
    CHECK_FAILS(vmem_release(NULL, 4 * page), "the pointer is NULL");
    CHECK_FAILS(vmem_dealloc(p, 3 * page), "vmem_dealloc: the reservation at");
    CHECK(all_bytes(p, 4 * page, 3) && all_bytes(neighbour, 4 * page, 4));

    TEST("release-takes-a-size-that-rounds-up-to-the-right-one");
    CHECK_DOES(vmem_release(p, 3 * page + 1));
    CHECK(inaccessible(p));

    TEST("double-release-is-refused-and-leaves-neighbours-alone");
    CHECK_FAILS(vmem_release(p, 4 * page), "no live reservation starts at");
    CHECK_FAILS(vmem_commit(p, page), "not inside one live reservation");
    CHECK_FAILS(vmem_decommit(p, page), "not inside one live reservation");
    CHECK(all_bytes(neighbour, 4 * page, 4));
    CHECK_DOES(vmem_release(neighbour, 4 * page));
}

static void contents(void)
{
    size_t size = 64 * page;
    unsigned char *p = vmem_alloc_commited(size);
#ifndef _WIN32
    long long before;
#endif

    REQUIRE(p != NULL);
    TEST("prefault-brings-pages-in-and-keeps-contents");
    p[5 * page] = 5;
#ifdef _WIN32
    CHECK(in_memory(p, size) < (long long)size);
#else
    before = resident();
#endif
    CHECK_DOES(vmem_protect(p, page, VMemProtect_Read));
    CHECK_DOES(vmem_prefault(p, size));
#ifdef _WIN32
    CHECK_EQ_I(in_memory(p, size), size);
#else
    if (is_emulated())
        SKIP("the system reports success and does not bring pages in");
    else
        CHECK(resident() - before > (long long)(size / 2));
#endif
    CHECK(p[5 * page] == 5 && p[0] == 0 && p[size - 1] == 0);
    CHECK_DOES(vmem_protect(p, page, VMemProtect_NoAccess));
    CHECK_FAILS(vmem_prefault(p, size), "is NoAccess");
    CHECK_DOES(vmem_decommit(p, page));
    CHECK_FAILS(vmem_prefault(p, size), "is not committed");
    CHECK_FAILS(vmem_prefault(p, 0), "the size is 0");
    CHECK_DOES(vmem_commit(p, size));

    TEST("reset-pages-stay-committed-and-hold-what-they-held-or-zeros");
    memset(p, 8, size);
    CHECK_DOES(vmem_reset(p, size));
    CHECK(p[0] == 8 || p[0] == 0);
    memset(p, 9, size);
    CHECK(all_bytes(p, size, 9));
    CHECK_DOES(vmem_lock(p + 2 * page, page));
    CHECK_FAILS(vmem_reset(p, size), "is locked");
    CHECK(all_bytes(p, size, 9));
    CHECK_DOES(vmem_unlock(p + 2 * page, page));
    CHECK_DOES(vmem_decommit(p + page, page));
    CHECK_FAILS(vmem_reset(p, size), "is not committed");
    CHECK_DOES(vmem_release(p, size));

    TEST("huge-pages-can-be-advised-for-any-part-of-a-reservation");
    p = vmem_reserve_aligned(4 * MIB, 2 * MIB);
    REQUIRE(p != NULL);
#ifdef _WIN32
    CHECK_FAILS(vmem_advise_huge(p, 4 * MIB), "this system has no huge pages");
#else
    if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) == 0) {
        CHECK_DOES(vmem_advise_huge(p, 4 * MIB));
        CHECK_DOES(vmem_commit(p, 4 * MIB));
        memset(p, 1, 4 * MIB);
        CHECK_DOES(vmem_advise_huge(p, 2 * MIB));
        CHECK_FAILS(vmem_advise_huge(p, 4 * MIB + 1), "not inside one live reservation");
        CHECK_FAILS(vmem_advise_huge(p, 0), "the size is 0");
    } else {
        SKIP("this kernel has no transparent huge pages");
    }
#endif

    TEST("a-reservation-can-be-named");
    CHECK_DOES(vmem_set_name(p, 4 * MIB, "frame arena 1"));
    CHECK_DOES(vmem_set_name(p, 4 * MIB, NULL));
    CHECK_DOES(vmem_set_name(p, 4 * MIB, ""));
    CHECK_FAILS(vmem_set_name(p, 4 * MIB, "a[1]"), "a name has at most 79");
    CHECK_FAILS(vmem_set_name(p, 4 * MIB, "line\n"), "a name has at most 79");
    CHECK_FAILS(vmem_set_name(p, 4 * MIB, "12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
                "a name has at most 79");
    CHECK_FAILS(vmem_set_name(p, 4 * MIB + 1, "x"), "not inside one live reservation");
    CHECK_DOES(vmem_release(p, 4 * MIB));
}

int main(void)
{
    page = vmem_get_page_size();
    PART(reserving());
    PART(sizes());
    PART(committing());
    PART(protecting());
    PART(locks());
    PART(releasing());
    PART(contents());
    PART(advice());
    PART(what_is_kept());
    return tap_done();
}
