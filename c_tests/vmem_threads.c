/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every function from many threads at once, and fork among them. */

#include "vmem_util.h"

#define THREADS 8
#define ROUNDS 1500

static size_t page;
static unsigned char *shared;

/* Its own reservations, its own part of one that all share, and queries of everything. */
static void *worker(void *number)
{
    struct rng rng = {(uintptr_t)number};
    unsigned char *part = shared + (uintptr_t)number * 64 * page, *own[8] = {NULL};
    VMemRangeInfo runs[32];
    int i;

    for (i = 0; i < ROUNDS; i++) {
        unsigned r = (unsigned)rng_next(&rng), slot = r % 8;
        size_t first = rng_below(&rng, 48), pages = 1 + rng_below(&rng, 16);

        if (own[slot] == NULL) {
            own[slot] = vmem_reserve(16 * page);
            CHECK(own[slot] != NULL);
        }
        if (!vmem_commit(own[slot], 16 * page) || !vmem_commit(part + first * page, pages * page))
            CHECK_DOES(0);
        own[slot][15 * page] = part[first * page] = (unsigned char)r;
        if (!vmem_protect(part + first * page, page, VMemProtect_Read) || part[first * page] != (unsigned char)r)
            CHECK_DOES(0);
        if (r % 3 == 0 && !vmem_decommit(part + first * page, pages * page))
            CHECK_DOES(0);
        if (vmem_query_range_info(shared, THREADS * 64 * page, runs, 32) == 0)
            CHECK_DOES(0);
        if (r % 5 == 0) {
            if (!vmem_release(own[slot], 16 * page))
                CHECK_DOES(0);
            own[slot] = NULL;
        }
        if (vmem_commit(NULL, (size_t)number + 1) || strstr(vmem_get_error_message(), "vmem_commit") == NULL)
            CHECK(!"another thread's message");
    }
    for (i = 0; i < 8; i++)
        if (own[i] != NULL)
            vmem_release(own[i], 16 * page);
    return NULL;
}

#ifndef _WIN32

/* A child calls every function. */
static int child(void *p)
{
    unsigned char *inherited = p, *own;
    VMemRangeInfo info;
    VMemArena arena = vmem_arena_init_alloc(4 * page);

    own = vmem_reserve(8 * page);
    if (!CHECK_DOES(own != NULL && vmem_commit(own, 8 * page)))
        return tap_done();
    own[0] = 1;
    CHECK_DOES(vmem_protect(inherited, page, VMemProtect_ReadWrite));
    CHECK_DOES(vmem_decommit(inherited + page, page));
    CHECK_DOES(vmem_commit(inherited + page, page));
    CHECK_EQ_U(inherited[0], 42);
    inherited[0] = 43;
    CHECK_EQ_U(vmem_query_range_info((void *)(uintptr_t)child, 1, &info, 1), 1);
    CHECK_EQ_U(info.protect, VMemProtect_ExecuteRead);
    CHECK_DOES(vmem_arena_set_commited(&arena, 4 * page));
    CHECK_DOES(vmem_arena_deinit_dealloc(&arena));
    CHECK_FAILS(vmem_commit(NULL, 1), "NULL");
    CHECK_DOES(vmem_release(own, 8 * page));
    CHECK_DOES(vmem_release(inherited, 4 * page));
    return tap_done();
}

/* Forks again and again. Returns how many children could not use the library. */
static void *forker(void *p)
{
    uintptr_t bad = 0;
    int forks, status;

    for (forks = 0; forks < 60; forks++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(tap_seconds(20)); /* a lock that nobody holds any more hangs it */
            _exit(!vmem_commit(p, page) || !vmem_decommit(p, page) || vmem_commit(NULL, page));
        }
        if (!vmem_commit((char *)p + page, page) || !vmem_decommit((char *)p + page, page))
            bad++;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            bad++;
    }
    return (void *)bad;
}

/* A mapping that exists in one of the two processes only. */
static int sees_its_own_mappings(void *p)
{
    VMemRangeInfo info;

    munmap(p, page);
    vmem_query_range_info(p, page, &info, 1);
    CHECK_EQ_U(info.is_commited, 0);
    return tap_done();
}

static int locks_are_not_inherited(void *p)
{
    CHECK_FAILS(vmem_unlock(p, page), "is not locked");
    CHECK_DOES(vmem_lock(p, page));
    CHECK_DOES(vmem_unlock(p, page));
    return tap_done();
}

#endif

int main(void)
{
    pthread_t threads[THREADS];
    unsigned char *p;
    size_t i;
#ifndef _WIN32
    unsigned char *foreign;
    int forks, bad = 0;
#endif

    page = vmem_get_page_size();
    shared = vmem_reserve(THREADS * 64 * page);
    p = vmem_alloc_commited(4 * page);
    REQUIRE(shared != NULL && p != NULL);
    p[0] = 42;

    TEST("threads-do-not-disturb-each-other");
    for (i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, worker, (void *)i) == 0);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);

#ifndef _WIN32
    TEST("a-child-that-is-forked-while-threads-are-at-work-can-use-everything");
    for (i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, worker, (void *)i) == 0);
    for (forks = 0; forks < 100; forks++)
        bad += in_child(child, p) != 0;
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ_I(bad, 0);
    CHECK_EQ_U(p[0], 42);

    TEST("threads-that-fork-at-once-wait-for-each-other");
    alarm(tap_seconds(120));
    for (i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, i % 2 != 0 ? forker : worker, i % 2 != 0 ? shared + i * 64 * page : (void *)i) == 0);
    for (i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    alarm(0);

    TEST("a-child-sees-its-own-mappings-and-the-parent-its-own");
    foreign = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    is_state(foreign, 1, VMemProtect_Read);
    CHECK_EQ_I(in_child(sees_its_own_mappings, foreign), 0);
    is_state(foreign, 1, VMemProtect_Read);

    TEST("a-child-has-no-locks");
    CHECK_DOES(vmem_lock(p, page));
    CHECK_EQ_I(in_child(locks_are_not_inherited, p), 0);
    CHECK_DOES(vmem_unlock(p, page));
#endif
    CHECK_DOES(vmem_release(p, 4 * page));
    CHECK_DOES(vmem_release(shared, THREADS * 64 * page));
    return tap_done();
}
