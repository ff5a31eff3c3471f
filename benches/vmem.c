/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * vmem beside raw system calls with the same semantics, and its arena beside an array and malloc. Timings decide no test. Linux.
 *
 * Nanoseconds of CPU time, medians of several rounds, in which both take turns, each time in a process of its own.
 */
#include "bench.h"
#include <vmem.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define MAPS "/proc/self/maps"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static size_t page;

static size_t times(size_t n)
{
    return smoke() ? n / 100 : n;
}

static void *raw_reserve(size_t size)
{
    return mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static int raw_commit(void *p, size_t size)
{
    return mprotect(p, size, PROT_READ | PROT_WRITE) == 0;
}

static int raw_decommit(void *p, size_t size)
{
    return mmap(p, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == p;
}

/* Some address space, of which nothing is committed. The process ends before it is given back. */
static char *reserve(int ours, size_t size)
{
    char *p = (char *)(ours ? vmem_reserve(size) : raw_reserve(size));

    MUST(p != NULL && p != MAP_FAILED);
    return p;
}

/* Repeats a pair of calls, and returns the time of one pair. */
#define REPEAT(count, our_calls, raw_calls)                                                                                               \
    do {                                                                                                                                  \
        const size_t n_ = times(count);                                                                                                   \
        double start_ = 0;                                                                                                                \
        for (size_t i_ = 0; i_ < n_ + n_ / 10; i_++) {                                                                                    \
            if (i_ == n_ / 10) /* as many for warm-up */                                                                                  \
                start_ = cpu_ns();                                                                                                        \
            if (ours)                                                                                                                     \
                MUST(our_calls);                                                                                                          \
            else                                                                                                                          \
                MUST(raw_calls);                                                                                                          \
        }                                                                                                                                 \
        return (cpu_ns() - start_) / (double)n_;                                                                                          \
    } while (0)

/* Each returns nanoseconds of one unit of work. */
typedef double measure(int ours, size_t size);

static double page_size(int ours, size_t unused)
{
    (void)unused;
    REPEAT(1000000, vmem_get_page_size() != 0, sysconf(_SC_PAGESIZE) != 0);
}

static double reserve_release(int ours, size_t size)
{
    void *p;

    REPEAT(10000, (p = vmem_reserve(size)) != NULL && vmem_release(p, size), (p = raw_reserve(size)) != NULL && munmap(p, size) == 0);
}

static double commit_decommit(int ours, size_t size)
{
    char *p = reserve(ours, GIB);

    REPEAT(10000, vmem_commit(p, size) && vmem_decommit(p, size), raw_commit(p, size) && raw_decommit(p, size));
}

static double protect_twice(int ours, size_t size)
{
    char *p = reserve(ours, GIB);

    MUST(ours ? vmem_commit(p, 2 * size) : raw_commit(p, 2 * size));
    REPEAT(10000, vmem_protect(p, size, VMemProtect_Read) && vmem_protect(p, size, VMemProtect_ReadWrite),
           mprotect(p, size, PROT_READ) == 0 && raw_commit(p, size));
}

static double lock_unlock(int ours, size_t size)
{
    char *p = reserve(ours, GIB);

    MUST(ours ? vmem_commit(p, 2 * size) : raw_commit(p, 2 * size));
    memset(p, 1, 2 * size);
    REPEAT(10000, vmem_lock(p, size) && vmem_unlock(p, size), mlock(p, size) == 0 && munlock(p, size) == 0);
}

static double reset(int ours, size_t size)
{
    char *p = reserve(ours, GIB);

    MUST(ours ? vmem_commit(p, size) : raw_commit(p, size));
    memset(p, 1, size);
    REPEAT(10000, (*p = 1) && vmem_reset(p, size), (*p = 1) && madvise(p, size, MADV_FREE) == 0);
}

static double prefault(int ours, size_t size)
{
    char *p = reserve(ours, GIB);

    REPEAT(2000, vmem_commit(p, size) && vmem_prefault(p, size) && vmem_decommit(p, size),
           raw_commit(p, size) && madvise(p, size, MADV_POPULATE_WRITE) == 0 && raw_decommit(p, size));
}

static double commit_in_steps(int ours, size_t step, int touch)
{
    const size_t size = times(64 * MIB / step) * step;
    char *p = reserve(ours, 64 * MIB);
    double start = cpu_ns();

    for (size_t at = 0; at < size; at += step) {
        MUST(ours ? vmem_commit(p + at, step) : raw_commit(p + at, step));
        for (size_t i = 0; touch && i < step; i += page)
            p[at + i] = 1;
    }
    return (cpu_ns() - start) / (double)(size / page);
}

static double commit_untouched(int ours, size_t step)
{
    return commit_in_steps(ours, step, 0);
}

static double commit_touched(int ours, size_t step)
{
    return commit_in_steps(ours, step, 1);
}

/* Among so many pages that are committed already, each a mapping of its own. */
static double commit_among_many(int ours, size_t many)
{
    char *p = reserve(ours, GIB), *at = p;
    size_t i;

    for (i = 0; i < many; i++)
        MUST(ours ? vmem_commit(p + 2 * i * page, page) : raw_commit(p + 2 * i * page, page));
    REPEAT(4000, (at = p + (i = (i + 7919) % many) * 2 * page) && vmem_decommit(at, page) && vmem_commit(at, page),
           (at = p + (i = (i + 7919) % many) * 2 * page) && raw_decommit(at, page) && raw_commit(at, page));
}

/* In place of raw calls: the same three runs from /proc/self/maps. */
static int three_of_maps(const char *p)
{
    char line[512];
    int found = 0;
    FILE *maps = fopen(MAPS, "r");

    MUST(maps != NULL);
    while (found < 3 && fgets(line, sizeof line, maps) != NULL)
        found += strtoull(line, NULL, 16) >= (uintptr_t)p;
    fclose(maps);
    return found == 3;
}

static double query(int ours, size_t foreign)
{
    char *p = foreign || !ours ? (char *)raw_reserve(64 * page) : reserve(ours, 64 * page);
    VMemRangeInfo info[3];

    for (size_t i = 1; i < 64; i += 2)
        MUST(foreign || !ours ? raw_commit(p + i * page, page) : vmem_commit(p + i * page, page));
    REPEAT(ours ? 20000 : 1000, vmem_query_range_info(p, 3 * page, info, 3) == 3, three_of_maps(p));
}

/* Pushes of 16 to 256 bytes through 256 MiB, of which the first byte is written. Not ours: an array, or malloc. */
enum { WARM = 1, HUGE = 2, BESIDE_MALLOC = 4 };

static double pushes(int ours, size_t how)
{
    const size_t size = smoke() ? MIB : 256 * MIB;
    static unsigned char sizes[4096];
    VMemGrowArena arena;
    char *plain = NULL;
    double start = 0;

    for (size_t i = 0; i < sizeof sizes; i++)
        sizes[i] = (unsigned char)(i * 2654435761u >> 20);
    MUST(vmem_grow_init(&arena, size, how & HUGE ? VMEM_GROW_HUGE : 0));
    if (!ours && !(how & BESIDE_MALLOC))
        MUST((plain = reserve(0, size)) != NULL && raw_commit(plain, size));
    for (size_t pass = 0; pass <= (how & WARM); pass++) {
        size_t used = 0, n = 0;
        vmem_grow_pop_to(&arena, 0);
        start = cpu_ns();
        for (; used < size - 512; n++) {
            size_t bytes = 16 + (sizes[n % sizeof sizes] & 0xf0);
            char *p = ours ? (char *)vmem_grow_push(&arena, bytes, 16) : plain != NULL ? plain + used : (char *)malloc(bytes);
            *p = 1;
            used += bytes;
        }
        start = (cpu_ns() - start) / (double)n;
    }
    return start;
}

static const struct row {
    const char *what;
    measure *measure;
    size_t size;
} rows[] = {
    {"vmem: system calls, ns|the raw calls", NULL, 0},
    {"page size", page_size, 0},
    {"reserve + release 1 MiB", reserve_release, MIB},
    {"reserve + release 1 TiB", reserve_release, GIB << 10},
    {"commit in 4 KiB steps, untouched, a page", commit_untouched, 4 * KIB},
    {"commit in 64 KiB steps, untouched, a page", commit_untouched, 64 * KIB},
    {"commit in 64 KiB steps, touched, a page", commit_touched, 64 * KIB},
    {"commit + decommit 64 KiB", commit_decommit, 64 * KIB},
    {"decommit + commit among 1,000 runs", commit_among_many, 1000},
    {"decommit + commit among 20,000 runs", commit_among_many, 20000},
    {"protect, twice, 64 KiB", protect_twice, 64 * KIB},
    {"lock + unlock 64 KiB", lock_unlock, 64 * KIB},
    {"reset 64 KiB", reset, 64 * KIB},
    {"commit + prefault + decommit 64 KiB", prefault, 64 * KIB},
    {"vmem: queries, ns|" MAPS, NULL, 0},
    {"3 runs of a reservation", query, 0},
    {"3 mappings of others", query, 1},
    {"vmem: arena push, ns|an array", NULL, 0},
    {"warm", pushes, WARM},
    {"cold", pushes, 0},
    {"vmem: arena push beside malloc, ns|malloc", NULL, 0},
    {"cold", pushes, BESIDE_MALLOC},
    {"cold, huge pages", pushes, HUGE | BESIDE_MALLOC},
};

struct task {
    const struct row *row;
    int ours;
};

static void run(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;

    figures[0] = t->row->measure(t->ours, t->row->size);
}

int main(void)
{
    const int rounds = smoke() ? 1 : 9;

    page = vmem_get_page_size();
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        double all[2][MAX_ROUNDS], figures[FIGURES], raw, ours;
        if (row->measure == NULL) {
            int title = (int)strcspn(row->what, "|");
            printf("\n### %.*s\n\n| %-42s | %-18s | vmem               |\n", title, row->what, "", row->what + title + 1);
            printf("| ------------------------------------------ | -----------------: | -----------------: |\n");
            continue;
        }
        for (int round = -1; round < rounds; round++) /* the first is for warm-up: of memory that the machine has not used yet */
            for (int own = 0; own < 2; own++) {
                MUST(in_process(run, &(struct task){row, own}, figures));
                if (round >= 0)
                    all[own][round] = figures[0];
            }
        raw = median(all[0], rounds), ours = median(all[1], rounds);
        printf("| %-42s |", row->what);
        cell(raw, raw, 1);
        cell(ours, ours * ours / raw, 1);
        printf("\n");
    }
    return 0;
}
