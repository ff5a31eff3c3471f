/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Shared by the programs beside this file: clocks, random numbers, medians, a process for each measurement, cells of tables.
 *
 * BENCH_SMOKE in the environment makes one round of next to nothing: it shows that a program runs, not how fast.
 */
#ifndef BENCH_H
#define BENCH_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ROUNDS 9
#define FIGURES 8 /* of one measurement */

#define MUST(cond) ((cond) ? (void)0 : (fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond), exit(1)))

static uint64_t seed;

static inline int smoke(void)
{
    return getenv("BENCH_SMOKE") != NULL;
}

static inline double nanoseconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline double cpu_ns(void)
{
    return nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
}

/* Cheap, so that little of a figure is its own: a multiplication and a shift, as with the ranges below. The high bits are random. */
static inline uint64_t random_after(uint64_t state)
{
    return state * 6364136223846793005u + 1442695040888963407u;
}

static inline uint32_t next_random(void)
{
    seed = random_after(seed);
    return (uint32_t)(seed >> 32);
}

static inline size_t random_below(size_t n)
{
    return (size_t)((uint64_t)next_random() * n >> 32);
}

/* 16 to 512 bytes. */
static inline size_t random_size(void)
{
    return 16 + random_below(497);
}

static inline int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static inline double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

/* Runs `measure` in a process of its own, so that none finds the heap or the caches of another's. Whether it succeeded. */
static inline int in_process(void (*measure)(void *arg, double *figures), void *arg, double *figures)
{
    static double *shared;
    int status = -1;
    pid_t child;

    if (shared == NULL) {
        shared = (double *)mmap(NULL, FIGURES * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        MUST(shared != MAP_FAILED);
    }
    memset(shared, 0, FIGURES * sizeof *shared);
    fflush(stdout);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        measure(arg, shared);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child);
    memcpy(figures, shared, FIGURES * sizeof *figures);
    return status == 0;
}

/* A cell: a figure, and how many times as much ours is; "-" if it was not measured. */
static inline void cell(double figure, double ours, int digits)
{
    double ratio = ours / figure;
    char text[40] = "-";

    if (figure > 0)
        snprintf(text, sizeof text, figure == ours ? "%.*f" : "%.*f (%.*f)", digits, figure, ratio < 100 ? 2 : 0, ratio);
    printf(" %18s |", text);
}
#endif
