/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc beside malloc, in one run: CPU time per operation, the median of some rounds, blobs of 16 to 512 bytes.
 *
 *   palloc_bench [FILE]      FILE (/dev/shm/palloc_bench.pba) is overwritten and removed
 *
 * grow     N allocations, the medium growing from nothing
 * churn    one random free and one allocation, N live, after as many operations of warm-up
 * iterate  palloc_first and palloc_next over all blobs
 * open     palloc_init on the medium, closed and in the page cache, per medium
 * space    bytes of the file over bytes of live blobs (palloc_size)
 */
#include <palloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5

static const char *path = "/dev/shm/palloc_bench.pba";
static uint64_t seed;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static size_t next_size(void)
{
    return 16 + next_random() % 497;
}

static double cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *times)
{
    qsort(times, ROUNDS, sizeof(*times), compare);
    return times[ROUNDS / 2];
}

struct result {
    double grow[ROUNDS], churn[ROUNDS], iterate[ROUNDS], open[ROUNDS], space;
};

static void *allocate(struct palloc_t *pt, size_t size)
{
    char *memory;

    if (pt != NULL)
        return (void *)(uintptr_t)palloc(pt, size);
    memory = malloc(size);
    if (memory != NULL)
        *memory = 1;
    return memory;
}

static void release(struct palloc_t *pt, void *p)
{
    if (pt != NULL)
        pfree(pt, (uintptr_t)p);
    else
        free(p);
}

static void churn(struct palloc_t *pt, void **live, size_t n, size_t operations)
{
    for (size_t i = 0; i < operations; i++) {
        size_t k = next_random() % n;

        release(pt, live[k]);
        live[k] = allocate(pt, next_size());
    }
}

static void measure(struct palloc_t *pt, void **live, size_t n, size_t operations, struct result *r, int round)
{
    double start = cpu_ns();

    for (size_t i = 0; i < n; i++)
        live[i] = allocate(pt, next_size());
    r->grow[round] = (cpu_ns() - start) / (double)n;
    churn(pt, live, n, operations);
    start = cpu_ns();
    churn(pt, live, n, operations);
    r->churn[round] = (cpu_ns() - start) / (double)operations;
}

static void walk_and_open(struct palloc_t *pt, size_t n, struct result *r, int round)
{
    size_t walks = 2000000 / n, seen = 0;
    struct palloc_stat stat;
    double start = cpu_ns();

    for (size_t i = 0; i < walks; i++)
        for (uint64_t ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr))
            seen++;
    r->iterate[round] = (cpu_ns() - start) / (double)seen;
    palloc_stat(pt, &stat);
    r->space = (double)stat.medium_size / (double)stat.live_bytes;
    palloc_close(pt);
    start = cpu_ns();
    pt = palloc_init(path, PALLOC_DEFAULT);
    r->open[round] = cpu_ns() - start;
    palloc_close(pt);
}

int main(int argc, char **argv)
{
    static const size_t numbers[] = {1000, 10000, 100000, 1000000};

    if (argc > 1)
        path = argv[1];
    printf("ns of CPU time (ratio to malloc)\n%9s %16s %16s %9s %12s %7s\n", "N", "grow", "churn", "iterate", "open", "space");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        size_t n = numbers[i], operations = n > 500000 ? n : 500000;
        struct result ours, theirs;
        void **live = calloc(n, sizeof(*live));
        double grow, flux;

        for (int round = 0; round < ROUNDS; round++) {
            struct palloc_t *pt;

            unlink(path);
            pt = palloc_init(path, PALLOC_DYNAMIC);
            if (pt == NULL || live == NULL) {
                fprintf(stderr, "%s\n", palloc_error());
                return 1;
            }
            seed = 88172645463325252u;
            measure(pt, live, n, operations, &ours, round);
            walk_and_open(pt, n, &ours, round);
            seed = 88172645463325252u;
            measure(NULL, live, n, operations, &theirs, round);
            for (size_t k = 0; k < n; k++)
                free(live[k]);
        }
        unlink(path);
        free(live);
        grow = median(ours.grow);
        flux = median(ours.churn);
        printf("%9zu %8.0f (%5.2f) %8.0f (%5.2f) %9.1f %9.2f ms %7.3f\n", n, grow, grow / median(theirs.grow), flux,
               flux / median(theirs.churn), median(ours.iterate), median(ours.open) / 1e6, ours.space);
        fflush(stdout);
    }
    return 0;
}
