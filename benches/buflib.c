/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What buflib costs: CPU time per operation, medians of several rounds, fixed seeds. Timings decide no test.
 *
 * Blocks of 16 to 512 bytes. "one pool" has all live blocks in one pool; "pools of 100" has them in pools of 100 each, chosen at
 * random, and touches as much memory. churn is one random free and one allocation; get_data and pointers are a dependent chain of
 * reads through handles and through an array of pointers. Compaction moves all blocks of a pool but the first, which was freed.
 */
#include <buflib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 5

static uint64_t seed;

static uint32_t rnd(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static size_t some_size(void)
{
    return 16 + rnd() % 497;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, by_value);
    return values[ROUNDS / 2];
}

struct pools {
    struct buflib_context *ctx;
    char *memory;
    size_t count, live;   /* pools, and blocks in each */
    int *handles;         /* count * live */
};

static void check(int ok)
{
    if (!ok) {
        fprintf(stderr, "an operation failed\n");
        exit(1);
    }
}

static void make(struct pools *p, size_t count, size_t live)
{
    size_t bytes = (live * 420 + 8192) / 64 * 64;

    p->count = count;
    p->live = live;
    p->ctx = malloc(count * sizeof *p->ctx);
    p->memory = malloc(count * bytes + 64);
    p->handles = malloc(count * live * sizeof *p->handles);
    memset(p->memory, 0, count * bytes + 64);
    for (size_t i = 0; i < count; i++)
        buflib_init(&p->ctx[i], p->memory + i * bytes, bytes);
}

static void drop(struct pools *p)
{
    free(p->ctx);
    free(p->memory);
    free(p->handles);
}

struct figures {
    double alloc, release, churn, shrink, pointer, data;
};

static struct figures measure(size_t count, size_t live)
{
    double alloc[ROUNDS], release[ROUNDS], churn[ROUNDS], shrunk[ROUNDS], pointer[ROUNDS], data[ROUNDS];
    size_t total = count * live;
    struct pools p;

    for (int round = 0; round < ROUNDS; round++) {
        size_t repeat = total < 10000 ? 10000 / total : 1, pairs = 300000, steps = 1000000;
        uint32_t *order = malloc(total * sizeof *order);
        void ***array = malloc(total * sizeof *array);
        double start;

        seed = 1;
        alloc[round] = release[round] = 0;
        for (size_t r = 0; r < repeat; r++) {
            make(&p, count, live);
            start = now();
            for (size_t i = 0; i < total; i++)
                check((p.handles[i] = buflib_alloc(&p.ctx[i / live], some_size())) > 0);
            alloc[round] += (now() - start) / (double)(repeat * total);
            for (size_t i = 0; i < total; i++)
                order[i] = (uint32_t)i;
            for (size_t i = total - 1; i > 0; i--) {
                size_t j = rnd() % (i + 1);
                uint32_t t = order[i];
                order[i] = order[j];
                order[j] = t;
            }
            start = now();
            for (size_t i = 0; i < total; i++)
                check(buflib_free(&p.ctx[order[i] / live], p.handles[order[i]]) == 0);
            release[round] += (now() - start) / (double)(repeat * total);
            if (r + 1 < repeat)
                drop(&p);
        }

        for (size_t i = 0; i < total; i++)
            check((p.handles[i] = buflib_alloc(&p.ctx[i / live], some_size())) > 0);
        for (size_t warm = 0; warm < 2; warm++) {
            start = now();
            for (size_t n = 0; n < pairs; n++) {
                size_t i = rnd() % total;
                struct buflib_context *ctx = &p.ctx[i / live];
                buflib_free(ctx, p.handles[i]);
                check((p.handles[i] = buflib_alloc(ctx, some_size())) > 0);
            }
            churn[round] = (now() - start) / (double)pairs;
        }

        /* A dependent chain: each block begins with the number of the next. */
        for (size_t i = 0; i < total; i++) {
            *(uintptr_t *)buflib_get_data(&p.ctx[order[i] / live], p.handles[order[i]]) = order[(i + 1) % total];
            array[order[i]] = buflib_get_data(&p.ctx[order[i] / live], p.handles[order[i]]);
        }
        for (int warm = 0; warm < 2; warm++) {
            uintptr_t at = order[0];
            start = now();
            for (size_t n = 0; n < steps; n++)
                at = *(uintptr_t *)array[at];
            pointer[round] = (now() - start) / (double)steps + (double)(at == total);
        }
        if (count == 1) {
            uintptr_t at = (uintptr_t)p.handles[order[0]];
            for (size_t i = 0; i < total; i++)
                *(uintptr_t *)array[order[i]] = (uintptr_t)p.handles[order[(i + 1) % total]];
            for (int warm = 0; warm < 2; warm++) {
                start = now();
                for (size_t n = 0; n < steps; n++)
                    at = *(uintptr_t *)buflib_get_data(p.ctx, (int)at);
                data[round] = (now() - start) / (double)steps + (double)(at == total + 1);
            }
        } else {
            data[round] = 0;
        }

        start = now();
        for (size_t n = 0; n < total; n++) {
            size_t i = order[n];
            struct buflib_context *ctx = &p.ctx[i / live];
            check(buflib_shrink(ctx, p.handles[i], buflib_get_data(ctx, p.handles[i]), 8));
        }
        shrunk[round] = (now() - start) / (double)total;
        drop(&p);
        free(order);
        free(array);
    }
    return (struct figures){ median(alloc), median(release), median(churn), median(shrunk), median(pointer), median(data) };
}

static struct figures measure_malloc(size_t total)
{
    double alloc[ROUNDS], release[ROUNDS], churn[ROUNDS];
    size_t pairs = 300000, repeat = total < 10000 ? 10000 / total : 1;
    void **blocks = malloc(total * sizeof *blocks);

    for (int round = 0; round < ROUNDS; round++) {
        double start;

        seed = 1;
        alloc[round] = release[round] = 0;
        for (size_t r = 0; r < repeat; r++) {
            start = now();
            for (size_t i = 0; i < total; i++)
                check((blocks[i] = malloc(some_size())) != NULL);
            alloc[round] += (now() - start) / (double)(repeat * total);
            for (size_t i = total - 1; i > 0; i--) {
                size_t j = rnd() % (i + 1);
                void *t = blocks[i];
                blocks[i] = blocks[j];
                blocks[j] = t;
            }
            if (r == 0) {
                for (int warm = 0; warm < 2; warm++) {
                    start = now();
                    for (size_t n = 0; n < pairs; n++) {
                        size_t i = rnd() % total;
                        free(blocks[i]);
                        check((blocks[i] = malloc(some_size())) != NULL);
                    }
                    churn[round] = (now() - start) / (double)pairs;
                }
            }
            start = now();
            for (size_t i = 0; i < total; i++)
                free(blocks[i]);
            release[round] += (now() - start) / (double)(repeat * total);
        }
    }
    free(blocks);
    return (struct figures){ median(alloc), median(release), median(churn), 0, 0, 0 };
}

/* One column; "-" where nothing was measured. */
static void column(int width, int digits, double figure)
{
    if (figure > 0)
        printf(" %*.*f |", width, digits, figure);
    else
        printf(" %*s |", width, "-");
}

static void show(const char *what, struct figures f)
{
    printf("| %-22s |", what);
    column(5, 0, f.alloc);
    column(5, 0, f.release);
    column(5, 0, f.churn);
    column(6, 0, f.shrink);
    column(8, 1, f.data);
    column(8, 1, f.pointer);
    printf("\n");
    fflush(stdout);
}

/* Frees the first block of a pool of equal ones, so that a compaction moves all others; beside one memmove of the same bytes. */
static void compaction(size_t size, size_t total)
{
    size_t block = size + BUFLIB_ALLOC_OVERHEAD - sizeof(void *);
    size_t live = total / (size + BUFLIB_ALLOC_OVERHEAD), bytes = total + 8192;
    char *memory = malloc(bytes);
    struct buflib_context ctx;
    double times[ROUNDS], plain[ROUNDS];
    size_t repeat = (64u << 20) / total + 1;

    memset(memory, 0, bytes);
    buflib_init(&ctx, memory, bytes);
    for (size_t i = 0; i < live; i++)
        check(buflib_alloc(&ctx, size) > 0);
    for (int round = 0; round < ROUNDS; round++) {
        double start;

        times[round] = 0;
        for (size_t r = 0; r < repeat; r++) {
            intptr_t *first = ctx.buf_start;
            int handle = (int)(ctx.handle_table - (intptr_t *)first[1]);
            buflib_free(&ctx, handle);
            start = now();
            buflib_allocatable(&ctx);
            times[round] += now() - start;
            check(buflib_alloc(&ctx, size) > 0);
        }
        start = now();
        for (size_t r = 0; r < repeat; r++) {
            memmove(memory, memory + block, (live - 1) * block);
            __asm__ volatile("" : : "r"(memory) : "memory");
        }
        plain[round] = now() - start;
        buflib_init(&ctx, memory, bytes);
        for (size_t i = 0; i < live; i++)
            check(buflib_alloc(&ctx, size) > 0);
    }
    double moved = (double)repeat * (double)(live - 1) * (double)block, ours = moved / median(times), theirs = moved / median(plain);
    printf("| %5zu B in %6zu KiB | %8.2f | %8.2f | %5.2f |\n", size, total >> 10, ours, theirs, ours / theirs);
    free(memory);
}

int main(void)
{
    static const size_t sizes[] = { 100, 1000, 10000, 100000 };
    char text[64];

    printf("| ns per operation       | alloc |  free | churn | shrink | get_data | pointers |\n"
           "| ---------------------- | ----: | ----: | ----: | -----: | -------: | -------: |\n");
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "%zu in one pool", sizes[i]);
        show(text, measure(1, sizes[i]));
    }
    show("1000 pools of 100", measure(1000, 100));
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "malloc, %zu", sizes[i]);
        show(text, measure_malloc(sizes[i]));
    }
    printf("\n| compaction, GB/s       |   buflib |  memmove | ratio |\n| ---------------------- | -------: | -------: | ----: |\n");
    for (size_t total = 256 << 10; total <= (32u << 20); total *= 128)
        for (size_t size = 256; size <= 4096; size *= 4)
            compaction(size, total);
    return 0;
}
