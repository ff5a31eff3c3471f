/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What vmem costs over the raw system calls with the same semantics: nanoseconds of CPU time, the least of several rounds, both in turn
 * in one process. Ratios carry over to other machines, the absolute figures do not. Linux.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vmem.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define ROUNDS 9

#define MUST(cond) ((cond) ? (void)0 : (fprintf(stderr, "%s: %s\n", #cond, vmem_get_error_message()), exit(1)))

static size_t page;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *raw_reserve(size_t size)
{
    return mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static int raw_decommit(void *p, size_t size)
{
    return mmap(p, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == p;
}

/* Each returns nanoseconds for one unit of work. */
typedef double measure(int ours, size_t size);

static double reserve_release(int ours, size_t size)
{
    const int n = 20000;
    double start = now();
    int i;

    for (i = 0; i < n; i++)
        if (ours) {
            void *p = vmem_reserve(size);
            MUST(vmem_release(p, size));
        } else {
            void *p = raw_reserve(size);
            MUST(munmap(p, size) == 0);
        }
    return (now() - start) / n;
}

static double commit_in_steps(int ours, size_t step, int touch)
{
    const size_t size = 64 * MIB;
    char *p = ours ? (char *)vmem_reserve(size) : (char *)raw_reserve(size);
    double start = now(), end;
    size_t at, i;

    for (at = 0; at < size; at += step) {
        if (ours)
            MUST(vmem_commit(p + at, step));
        else
            MUST(mprotect(p + at, step, PROT_READ | PROT_WRITE) == 0);
        for (i = 0; touch && i < step; i += page)
            p[at + i] = 1;
    }
    end = now();
    MUST(ours ? vmem_release(p, size) : munmap(p, size) == 0);
    return (end - start) / (double)(size / page);
}

static double commit_untouched(int ours, size_t step)
{
    return commit_in_steps(ours, step, 0);
}

static double commit_touched(int ours, size_t step)
{
    return commit_in_steps(ours, step, 1);
}

static double commit_decommit(int ours, size_t size)
{
    const int n = 20000;
    char *p = ours ? (char *)vmem_reserve(GIB) : (char *)raw_reserve(GIB);
    double start = now(), end;
    int i;

    for (i = 0; i < n; i++)
        if (ours)
            MUST(vmem_commit(p, size) && vmem_decommit(p, size));
        else
            MUST(mprotect(p, size, PROT_READ | PROT_WRITE) == 0 && raw_decommit(p, size));
    end = now();
    MUST(ours ? vmem_release(p, GIB) : munmap(p, GIB) == 0);
    return (end - start) / n;
}

/* Commits among 20,000 that are there already, each a mapping of its own. */
static double commit_among_many(int ours, size_t holes)
{
    const size_t n = 2000;
    char *p = ours ? (char *)vmem_reserve(GIB) : (char *)raw_reserve(GIB);
    double start, end;
    size_t i;

    for (i = 0; i < holes; i++)
        MUST(ours ? vmem_commit(p + 2 * i * page, page) : mprotect(p + 2 * i * page, page, PROT_READ | PROT_WRITE) == 0);
    start = now();
    for (i = 0; i < n; i++) {
        char *at = p + (i * 7919 % holes) * 2 * page;
        if (ours)
            MUST(vmem_decommit(at, page) && vmem_commit(at, page));
        else
            MUST(raw_decommit(at, page) && mprotect(at, page, PROT_READ | PROT_WRITE) == 0);
    }
    end = now();
    MUST(ours ? vmem_release(p, GIB) : munmap(p, GIB) == 0);
    return (end - start) / (double)n;
}

/* Pushes of 16 to 256 bytes through 256 MiB, of which the first byte is written. Not ours: a plain array. */
static double pushes(int ours, int warm, uint32_t flags)
{
    const size_t size = 256 * MIB;
    static unsigned char sizes[4096];
    VMemGrowArena arena;
    char *plain = NULL;
    double start = 0;
    size_t used, n, i, pass;

    for (i = 0; i < sizeof sizes; i++)
        sizes[i] = (unsigned char)(i * 2654435761u >> 20);
    MUST(vmem_grow_init(&arena, size, flags));
    if (!ours) {
        plain = (char *)raw_reserve(size);
        MUST(mprotect(plain, size, PROT_READ | PROT_WRITE) == 0);
    }
    for (pass = 0; pass <= (size_t)warm; pass++) {
        vmem_grow_pop_to(&arena, 0);
        start = now();
        for (used = n = 0; used < size - 512; n++) {
            size_t bytes = 16 + (sizes[n % sizeof sizes] & 0xf0);
            char *p;
            if (ours)
                p = (char *)vmem_grow_push(&arena, bytes, 16);
            else
                p = plain + used;
            *p = 1;
            used += bytes;
        }
        start = (now() - start) / (double)n;
    }
    if (!ours)
        munmap(plain, size);
    MUST(vmem_grow_deinit(&arena));
    return start;
}

static double push_warm(int ours, size_t unused)
{
    (void)unused;
    return pushes(ours, 1, 0);
}

static double push_cold(int ours, size_t flags)
{
    return pushes(ours, 0, (uint32_t)flags);
}

/* Three runs of a reservation, or of memory that is not ours; in place of raw calls: the same from /proc/self/maps. */
static double query(int ours, void *p)
{
    const int n = ours ? 20000 : 200;
    VMemRangeInfo info[3];
    double start = now();
    int i;

    for (i = 0; i < n; i++)
        if (ours) {
            MUST(vmem_query_range_info(p, 3 * page, info, 3) == 3);
        } else {
            char line[512];
            int found = 0;
            FILE *maps = fopen("/proc/self/maps", "r");
            while (found < 3 && fgets(line, sizeof line, maps) != NULL)
                found += strtoull(line, NULL, 16) >= (uintptr_t)p;
            fclose(maps);
            MUST(found == 3);
        }
    return (now() - start) / n;
}

static char *queried;

static double query_any(int ours, size_t unused)
{
    (void)unused;
    return query(ours, queried);
}

static void report(const char *what, measure *f, size_t size)
{
    double raw = 1e30, own = 1e30;
    int i;

    for (i = 0; i < ROUNDS; i++) {
        double a = f(0, size), b = f(1, size);
        raw = a < raw ? a : raw;
        own = b < own ? b : own;
    }
    printf("| %-52s | %9.1f | %9.1f | %5.2f |\n", what, raw, own, own / raw);
    fflush(stdout);
}

int main(void)
{
    size_t i;

    page = vmem_get_page_size();
    puts("|                                                      |  raw [ns] | vmem [ns] | ratio |");
    puts("| ---------------------------------------------------- | --------- | --------- | ----- |");
    report("reserve + release 1 MiB", reserve_release, MIB);
    report("reserve + release 1 TiB", reserve_release, GIB << 10);
    report("commit in 4 KiB steps, untouched, a page", commit_untouched, 4 * KIB);
    report("commit in 64 KiB steps, untouched, a page", commit_untouched, 64 * KIB);
    report("commit in 64 KiB steps, touched, a page", commit_touched, 64 * KIB);
    report("commit + decommit 64 KiB", commit_decommit, 64 * KIB);
    report("decommit + commit a page among 20,000 runs", commit_among_many, 20000);
    report("arena push, warm (raw: plain array)", push_warm, 0);
    report("arena push, cold (raw: plain array)", push_cold, 0);
    report("arena push, cold, huge pages (raw: plain, small)", push_cold, VMEM_GROW_HUGE);
    queried = (char *)vmem_reserve(64 * page);
    for (i = 1; i < 64; i += 2)
        MUST(vmem_commit(queried + i * page, page));
    report("query 3 runs of a reservation (raw: /proc/self/maps)", query_any, 0);
    queried = (char *)mmap(NULL, 64 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (i = 1; i < 64; i += 2)
        MUST(mprotect(queried + i * page, page, PROT_NONE) == 0);
    report("query 3 mappings of others (raw: /proc/self/maps)", query_any, 0);
    return 0;
}
