/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * buflib beside allocators of pools that don't move blocks, and malloc: blocks of 16 to 512 bytes, fixed seeds. Timings decide no test.
 *
 * Each figure is the median of several rounds, in which the allocators take turns, each time in a process of its own; all are called
 * by pointers to functions. Nanoseconds of CPU time; in parentheses, buflib's over it.
 *
 *   alloc, free  all blocks, the latter in random order
 *   churn        one random free and one allocation, after as many for warm-up
 *   shrink       each block to 8 bytes
 *   chain        reads that depend on each other: each block holds the name of the next. By buflib_get_data, and by an array of pointers
 *
 * N is the blocks in one pool, or 1,000 pools of 100, chosen at random. Compaction moves all blocks of a pool but the first, which was
 * freed, beside one memmove of the same bytes. Pauses are the times of single calls.
 */
#include "bench.h"
#include <buflib.h>
#include <dlfcn.h>
#include <math.h>

enum { OURS, RLSF, TALC, MALLOC, PEERS };

static const char *const names[PEERS] = {"buflib", "rlsf", "talc", "glibc malloc"};
static int present[PEERS];

/* `state` is what an allocator keeps beside a pool; a block is named by a handle or an address, 0 is none; `size` is what it had. */
struct pool_peer {
    size_t state_bytes;
    void (*init)(void *state, void *memory, size_t size);
    uintptr_t (*alloc)(void *state, size_t size);
    void (*free)(void *state, uintptr_t block, size_t size);
    uintptr_t (*shrink)(void *state, uintptr_t block, size_t size, size_t new_size);
};

static void our_init(void *state, void *memory, size_t size)
{
    buflib_init((struct buflib_context *)state, memory, size);
}

static uintptr_t our_alloc(void *state, size_t size)
{
    int handle = buflib_alloc((struct buflib_context *)state, size);

    return handle > 0 ? (uintptr_t)handle : 0;
}

static void our_free(void *state, uintptr_t block, size_t size)
{
    (void)size;
    buflib_free((struct buflib_context *)state, (int)block);
}

static uintptr_t our_shrink(void *state, uintptr_t block, size_t size, size_t new_size)
{
    struct buflib_context *ctx = (struct buflib_context *)state;

    (void)size;
    return buflib_shrink(ctx, (int)block, buflib_get_data(ctx, (int)block), new_size) ? block : 0;
}

static void malloc_init(void *state, void *memory, size_t size)
{
    (void)state, (void)memory, (void)size;
}

static uintptr_t malloc_alloc(void *state, size_t size)
{
    (void)state;
    return (uintptr_t)malloc(size);
}

static void malloc_free(void *state, uintptr_t block, size_t size)
{
    (void)state, (void)size;
    free((void *)block);
}

static uintptr_t malloc_shrink(void *state, uintptr_t block, size_t size, size_t new_size)
{
    (void)state, (void)size;
    return (uintptr_t)realloc((void *)block, new_size);
}

/* Loads one, in the process that measures it. Zero if it is not there: dlerror() says why. */
static int load(int which, struct pool_peer *peer)
{
    void *handle;
    char symbol[32];
    const char *name = names[which];

    if (which == OURS) {
        *peer = (struct pool_peer){sizeof(struct buflib_context), our_init, our_alloc, our_free, our_shrink};
        return 1;
    }
    if (which == MALLOC) {
        *peer = (struct pool_peer){0, malloc_init, malloc_alloc, malloc_free, malloc_shrink};
        return 1;
    }
    if ((handle = dlopen("libpool_peers.so", RTLD_NOW | RTLD_LOCAL)) == NULL)
        return 0;
#define LOAD(part) (snprintf(symbol, sizeof symbol, "%s_" part, name), dlsym(handle, symbol))
    peer->state_bytes = *(size_t *)LOAD("state_bytes");
    *(void **)&peer->init = LOAD("init");
    *(void **)&peer->alloc = LOAD("alloc");
    *(void **)&peer->free = LOAD("free");
    *(void **)&peer->shrink = LOAD("shrink");
    return 1;
}

static void probe(void *arg, double *figures)
{
    struct pool_peer peer;

    (void)figures;
    if (!load(*(int *)arg, &peer)) {
        fprintf(stderr, "%s is skipped: %s\n", names[*(int *)arg], dlerror());
        _exit(1);
    }
}

struct task {
    int which;
    size_t pools, live; /* blocks in each pool */
};

struct block {
    uintptr_t name;
    uint32_t pool, size;
};

/* States of pools lie side by side, in cache lines of their own. */
static size_t state_stride(const struct pool_peer *peer)
{
    return (peer->state_bytes + 63) / 64 * 64;
}

/* The pools of one measurement, without a block. */
static char *make(const struct pool_peer *peer, const struct task *t)
{
    size_t bytes = (t->live * 420 + 8192) / 64 * 64;
    char *states = (char *)aligned_alloc(64, t->pools * state_stride(peer) + 64);
    char *memory = t->which == MALLOC ? NULL : (char *)aligned_alloc(64, t->pools * bytes);

    MUST(states != NULL && (memory != NULL || t->which == MALLOC));
    if (memory != NULL)
        memset(memory, 0, t->pools * bytes);
    for (size_t i = 0; i < t->pools; i++)
        peer->init(states + i * state_stride(peer), memory == NULL ? NULL : memory + i * bytes, bytes);
    return states; /* never freed: the process ends */
}

static double alloc_all(const struct pool_peer *peer, char *states, struct block *blocks, size_t n)
{
    double start = cpu_ns();

    for (struct block *b = blocks; b < blocks + n; b++)
        MUST((b->name = peer->alloc(states + b->pool * state_stride(peer), b->size)) != 0);
    return cpu_ns() - start;
}

static double free_all(const struct pool_peer *peer, char *states, struct block *blocks, size_t n)
{
    double start = cpu_ns();

    for (struct block *b = blocks; b < blocks + n; b++)
        peer->free(states + b->pool * state_stride(peer), b->name, b->size);
    return cpu_ns() - start;
}

static double shrink_all(const struct pool_peer *peer, char *states, struct block *blocks, size_t n)
{
    double start = cpu_ns();

    for (struct block *b = blocks; b < blocks + n; b++)
        MUST((b->name = peer->shrink(states + b->pool * state_stride(peer), b->name, b->size, 8)) != 0);
    return cpu_ns() - start;
}

enum { ALLOC, FREE, CHURN, SHRINK, GET_DATA, POINTERS };

/* A chain through all blocks in random order. Nothing else than the reads of it are in the loops. */
static void chain(struct buflib_context *ctx, struct block *blocks, size_t n, double *figures)
{
    const size_t steps = smoke() ? 1000 : 1000000;
    void **array = (void **)malloc((n + 1) * sizeof *array);

    MUST(array != NULL);
    for (size_t i = 0; i < n; i++) {
        array[blocks[i].name] = buflib_get_data(ctx, (int)blocks[i].name);
        *(uintptr_t *)array[blocks[i].name] = blocks[(i + 1) % n].name;
    }
    for (int warm = 0; warm < 2; warm++) {
        uintptr_t at = blocks[0].name;
        double start = cpu_ns();
        for (size_t i = 0; i < steps; i++)
            at = *(uintptr_t *)buflib_get_data(ctx, (int)at);
        figures[GET_DATA] = (cpu_ns() - start) / (double)steps + (double)(at > n);
        start = cpu_ns();
        for (size_t i = 0; i < steps; i++)
            at = *(uintptr_t *)array[at];
        figures[POINTERS] = (cpu_ns() - start) / (double)steps + (double)(at > n);
    }
    free(array);
}

static void measure(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    const size_t n = t->pools * t->live, pairs = smoke() ? 100 : 300000, repeat = smoke() || n >= 10000 ? 1 : 10000 / n;
    struct block *blocks = (struct block *)calloc(n, sizeof *blocks);
    struct pool_peer peer;
    char *states;
    double start;

    MUST(load(t->which, &peer) && blocks != NULL);
    seed = 1;
    for (size_t i = 0; i < n; i++)
        blocks[i] = (struct block){0, (uint32_t)(i / t->live), (uint32_t)random_size()};
    for (size_t r = 0; r <= repeat; r++) { /* the first is for warm-up */
        double of_all = r == 0 ? HUGE_VAL : (double)(repeat * n);
        states = make(&peer, t);
        figures[ALLOC] += alloc_all(&peer, states, blocks, n) / of_all;
        for (size_t i = n - 1; i > 0; i--) {
            size_t j = random_below(i + 1);
            struct block other = blocks[i];
            blocks[i] = blocks[j];
            blocks[j] = other;
        }
        figures[FREE] += free_all(&peer, states, blocks, n) / of_all;
        states = make(&peer, t);
        alloc_all(&peer, states, blocks, n);
        figures[SHRINK] += shrink_all(&peer, states, blocks, n) / of_all;
        if (t->which == MALLOC) /* pools are left behind */
            free_all(&peer, states, blocks, n);
    }

    states = make(&peer, t);
    alloc_all(&peer, states, blocks, n);
    for (int warm = 0; warm < 2; warm++) {
        start = cpu_ns();
        for (size_t i = 0; i < pairs; i++) {
            struct block *b = &blocks[random_below(n)];
            void *state = states + b->pool * state_stride(&peer);
            peer.free(state, b->name, b->size);
            b->size = (uint32_t)random_size();
            MUST((b->name = peer.alloc(state, b->size)) != 0);
        }
        figures[CHURN] = (cpu_ns() - start) / (double)pairs;
    }
    if (t->which == OURS && t->pools == 1)
        chain((struct buflib_context *)states, blocks, n, figures);
}

static void costs(void)
{
    static const struct task tasks[] = {{0, 1, 100}, {0, 1, 1000}, {0, 1, 10000}, {0, 1, 100000}, {0, 1000, 100}};
    static const char *const labels[] = {"100", "1000", "10000", "100000", "1,000 pools of 100"};
    static const char *const operations[] = {"alloc", "free", "churn", "shrink"};
    static double all[5][PEERS][FIGURES][MAX_ROUNDS];
    const int rounds = smoke() ? 1 : 5, from = smoke() ? 1 : 0, to = smoke() ? 2 : 5;

    for (int i = from; i < to; i++)
        for (int round = 0; round < rounds; round++)
            for (int which = 0; which < PEERS; which++) {
                struct task task = tasks[i];
                double figures[FIGURES] = {0};
                task.which = which;
                if (present[which])
                    MUST(in_process(measure, &task, figures));
                for (int k = 0; k < FIGURES; k++)
                    all[i][which][k][round] = figures[k];
            }
    for (int operation = ALLOC; operation <= SHRINK; operation++) {
        printf("\n### buflib: %s, ns\n\n| %-18s |", operations[operation], "N");
        for (int which = 0; which < PEERS; which++)
            printf(" %-18s |", names[which]);
        printf("\n| -----------------: | -----------------: | -----------------: | -----------------: | -----------------: |\n");
        for (int i = from; i < to; i++) {
            double ours = median(all[i][OURS][operation], rounds);
            printf("| %18s |", labels[i]);
            for (int which = 0; which < PEERS; which++)
                cell(median(all[i][which][operation], rounds), ours, 0);
            printf("\n");
        }
    }
    printf("\n### buflib: chain, ns\n\n"
           "|      N | buflib_get_data | array of pointers  |\n| -----: | --------------: | -----------------: |\n");
    for (int i = from; i < to && i < 4; i++) {
        double ours = median(all[i][OURS][GET_DATA], rounds);
        printf("| %6s | %15.2f |", labels[i], ours);
        cell(median(all[i][OURS][POINTERS], rounds), ours, 2);
        printf("\n");
    }
}

struct heap_of_equals {
    size_t size, total;
};

static void measure_compaction(void *arg, double *figures)
{
    const size_t size = ((struct heap_of_equals *)arg)->size, total = ((struct heap_of_equals *)arg)->total;
    const size_t block = size + BUFLIB_ALLOC_OVERHEAD - sizeof(void *); /* without its handle */
    const size_t live = total / (size + BUFLIB_ALLOC_OVERHEAD), bytes = total + 8192, moved = (live - 1) * block;
    const size_t repeat = smoke() ? 1 : (128u << 20) / total;
    char *memory = (char *)aligned_alloc(64, bytes);
    struct buflib_context ctx;
    double ours = 0, plain = 0;

    MUST(memory != NULL);
    memset(memory, 0, bytes);
    buflib_init(&ctx, memory, bytes);
    for (size_t i = 0; i < live; i++)
        MUST(buflib_alloc(&ctx, size) > 0);
    for (size_t r = 0; r <= repeat; r++) {
        intptr_t *first = ctx.buf_start;
        double start;
        buflib_free(&ctx, (int)(ctx.handle_table - (intptr_t *)first[1]));
        start = cpu_ns();
        buflib_allocatable(&ctx);
        ours += (cpu_ns() - start) * (r > 0); /* the first is for warm-up */
        MUST(buflib_alloc(&ctx, size) > 0);
    }
    for (size_t r = 0; r <= repeat; r++) {
        double start = cpu_ns();
        memmove(memory, memory + block, moved);
        __asm__ volatile("" : : "r"(memory) : "memory");
        plain += (cpu_ns() - start) * (r > 0);
    }
    figures[0] = (double)(repeat * moved) / ours;
    figures[1] = (double)(repeat * moved) / plain;
    free(memory);
}

static void compaction(void)
{
    const int rounds = smoke() ? 1 : 5;

    printf("\n### buflib: compaction, GB/s\n\n"
           "| blocks of | in       | buflib | memmove | buflib / memmove |\n"
           "| --------: | -------: | -----: | ------: | ---------------: |\n");
    for (size_t total = 256 << 10; total <= (smoke() ? 256u << 10 : 32u << 20); total *= 128)
        for (size_t size = 256; size <= 4096; size *= 4) {
            double all[2][MAX_ROUNDS], figures[FIGURES], ours, plain;
            for (int round = 0; round < rounds; round++) {
                MUST(in_process(measure_compaction, &(struct heap_of_equals){size, total}, figures));
                all[0][round] = figures[0];
                all[1][round] = figures[1];
            }
            ours = median(all[0], rounds), plain = median(all[1], rounds);
            printf("| %9zu | %4zu %s | %6.2f | %7.2f | %16.2f |\n", size, total < 1u << 20 ? total >> 10 : total >> 20,
                   total < 1u << 20 ? "KiB" : "MiB", ours, plain, ours / plain);
        }
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* A row of `pauses`: `count` calls that took so many nanoseconds each. */
static void pause_row(const char *call, double *taken, size_t count)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += taken[i];
    qsort(taken, count, sizeof *taken, by_value);
    printf("| %-30s | %8.2f | %8.2f | %8.2f |\n", call, sum / (double)count / 1e3, taken[(size_t)((double)count * 0.999)] / 1e3,
           taken[count - 1] / 1e3);
}

/* A churn with a step of a compaction after each pair; each call's nanoseconds replace those in `taken` if they are fewer. The last row is
 * of a loop that calls nothing. */
static void stepped_churn(struct buflib_context *ctx, char *memory, size_t n, int *handles, size_t pairs, double *taken[4])
{
    memset(memory, 0, n * 420);
    seed = 1;
    buflib_init(ctx, memory, n * 420);
    for (size_t i = 0; i < n; i++)
        MUST((handles[i] = buflib_alloc(ctx, random_size())) > 0);
    for (size_t i = 0; i < pairs; i++) {
        size_t some = random_below(n), size = random_size();
        double at[5];
        at[0] = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        buflib_free(ctx, handles[some]);
        at[1] = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        handles[some] = buflib_alloc(ctx, size);
        at[2] = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        buflib_compact_step(ctx, 16384);
        at[3] = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        for (int k = 0; k < 5000; k++)
            __asm__ volatile("");
        at[4] = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        MUST(handles[some] > 0);
        for (int k = 0; k < 4; k++)
            if (at[k + 1] - at[k] < taken[k][i])
                taken[k][i] = at[k + 1] - at[k];
    }
}

/* Each call is measured in the CPU time of the thread, which leaves out other programs, but not interrupts. The first table is of one run, the
 * second of several that are equal: the shortest time of each call. */
static void pauses(void)
{
    const size_t n = smoke() ? 1000 : 100000, pairs = n;
    char *memory = (char *)aligned_alloc(64, n * 420);
    int *handles = (int *)malloc(n * sizeof *handles);
    double *taken[4], *sorted = (double *)malloc(pairs * sizeof *sorted), start, whole;
    struct buflib_context ctx;

    MUST(memory != NULL && handles != NULL && sorted != NULL);
    for (int k = 0; k < 4; k++) {
        MUST((taken[k] = (double *)malloc(pairs * sizeof **taken)) != NULL);
        for (size_t i = 0; i < pairs; i++)
            taken[k][i] = HUGE_VAL;
    }
    for (int runs = 1; runs <= 5; runs++) {
        stepped_churn(&ctx, memory, n, handles, pairs, taken);
        if (runs != 1 && runs != 5)
            continue;
        printf("\n### buflib: pauses, %s, us\n\n"
               "|                                |     mean |   99.9 %% |  longest |\n"
               "| :----------------------------- | -------: | -------: | -------: |\n",
               runs == 1 ? "one run" : "shortest of 5 runs");
        for (int k = 0; k < 4; k++) {
            static const char *const calls[] = {"buflib_free", "buflib_alloc", "buflib_compact_step of 16 KiB", "a loop that calls nothing"};
            memcpy(sorted, taken[k], pairs * sizeof *sorted);
            pause_row(calls[k], sorted, pairs);
        }
    }
    for (size_t i = 0; i < n; i += 2)
        buflib_free(&ctx, handles[i]);
    start = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    buflib_allocatable(&ctx);
    whole = nanoseconds(CLOCK_THREAD_CPUTIME_ID) - start;
    pause_row("a whole compaction", &whole, 1);
}

int main(void)
{
    for (int which = 0; which < PEERS; which++) {
        double unused[FIGURES];
        present[which] = in_process(probe, &which, unused);
    }
    costs();
    compaction();
    pauses();
    return 0;
}
