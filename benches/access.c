/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An offset becomes an address: base + offset, palloc_at, palloc_data, and the offset_ptr of Boost.Interprocess; palloc_size and palloc_next
 * beside them. Wall-clock time of one step, all in the cache: 1,000 blobs of 16 to 64 bytes in random order.
 *
 *   table    references are in a table; the first word of each blob is added up, or what palloc_size or palloc_next returns
 *   list     each blob has the reference of the next one, so a step waits for the one before
 *   two/one  two threads on one medium do the work of "table": their steps a second, over those of one
 */
#include "bench.h"
#include "palloc.h"
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>

enum { BLOBS = 1000, ROUNDS = 9 };
enum way { BASE, AT, DATA, SIZE, NEXT, OFFSET_PTR, WAYS };

static const char *const names[WAYS] = {"base + offset", "palloc_at", "palloc_data", "palloc_size", "palloc_next", "offset_ptr"};

static struct palloc_t *pt;
static const char *base;
static uint64_t table[BLOBS];
static uint64_t (*boost_table)(size_t steps), (*boost_list)(size_t steps);
static volatile uint64_t result;

/* The loops of one way. `address` is an expression of `at`, an offset. */
#define LOOPS(name, address)                                                    \
    static uint64_t name##_table(size_t steps)                                  \
    {                                                                           \
        uint64_t sum = 0;                                                       \
        for (size_t done = 0; done < steps; done += BLOBS) {                    \
            for (size_t i = 0; i < BLOBS; i++) {                                \
                uint64_t at = table[i];                                         \
                sum += *(const uint64_t *)(address);                            \
            }                                                                   \
        }                                                                       \
        return sum;                                                             \
    }                                                                           \
    static uint64_t name##_list(size_t steps)                                   \
    {                                                                           \
        uint64_t at = table[0];                                                 \
        for (size_t done = 0; done < steps; done++)                             \
            at = *(const uint64_t *)(address);                                  \
        return at;                                                              \
    }

LOOPS(base, base + at)
LOOPS(at, palloc_at(pt, at))
LOOPS(data, palloc_data(pt, at))

#define QUERY(name)                                                             \
    static uint64_t name##_table(size_t steps)                                  \
    {                                                                           \
        uint64_t sum = 0;                                                       \
        for (size_t done = 0; done < steps; done += BLOBS)                      \
            for (size_t i = 0; i < BLOBS; i++)                                  \
                sum += palloc_##name(pt, table[i]);                             \
        return sum;                                                             \
    }

QUERY(size)
QUERY(next)

static uint64_t (*loop(enum way way, int list))(size_t steps)
{
    switch (way) {
    case BASE: return list ? base_list : base_table;
    case AT: return list ? at_list : at_table;
    case DATA: return list ? data_list : data_table;
    case SIZE: return list ? NULL : size_table;
    case NEXT: return list ? NULL : next_table;
    default: return list ? boost_list : boost_table;
    }
}

struct worker {
    uint64_t (*loop)(size_t steps);
    size_t steps;
    pthread_barrier_t *barrier;
    double start, end;
};

static void *work(void *arg)
{
    struct worker *w = (struct worker *)arg;

    pthread_barrier_wait(w->barrier);
    w->start = nanoseconds(CLOCK_MONOTONIC);
    result = w->loop(w->steps);
    w->end = nanoseconds(CLOCK_MONOTONIC);
    return NULL;
}

/* The wall-clock time in which each of so many threads does the steps. */
static double time_of(uint64_t (*loop)(size_t steps), size_t steps, int count)
{
    struct worker workers[2];
    pthread_t threads[2];
    pthread_barrier_t barrier;
    double start = 0, end = 0;

    MUST(pthread_barrier_init(&barrier, NULL, (unsigned)count) == 0);
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){loop, steps, &barrier, 0, 0};
        MUST(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < count; i++) {
        MUST(pthread_join(threads[i], NULL) == 0);
        start = i == 0 || workers[i].start < start ? workers[i].start : start;
        end = workers[i].end > end ? workers[i].end : end;
    }
    return end - start;
}

static void make(const char *path)
{
    MUST((pt = palloc_init(path, PALLOC_DYNAMIC)) != NULL);
    for (size_t i = 0; i < BLOBS; i++)
        MUST((table[i] = palloc(pt, 16 + random_below(49))) != 0);
    for (size_t i = BLOBS - 1; i > 0; i--) {
        size_t other = random_below(i + 1);
        uint64_t at = table[i];
        table[i] = table[other], table[other] = at;
    }
    for (size_t i = 0; i < BLOBS; i++)
        *(uint64_t *)palloc_data(pt, table[i]) = table[(i + 1) % BLOBS];
    base = (const char *)palloc_data(pt, table[0]) - table[0];
}

int main(int argc, char **argv)
{
    static double times[3][WAYS][ROUNDS];
    static const char *const rows[] = {"table, ns", "list, ns", "two/one"};
    const int rounds = smoke() ? 1 : ROUNDS;
    char path[PATH_MAX];
    void *boost = dlopen("peer_boost.so", RTLD_NOW | RTLD_LOCAL);

    snprintf(path, sizeof path, "%s/palloc_bench_access.%d", argc > 1 ? argv[1] : "/dev/shm", (int)getpid());
    make(path);
    if (boost != NULL) {
        void (*boost_make)(size_t count);
        *(void **)&boost_make = dlsym(boost, "offset_ptr_make");
        *(void **)&boost_table = dlsym(boost, "offset_ptr_table");
        *(void **)&boost_list = dlsym(boost, "offset_ptr_list");
        boost_make(BLOBS);
    }
    for (int round = 0; round < rounds; round++) {
        for (int way = 0; way < WAYS; way++) {
            for (int list = 0; list <= 1; list++) {
                uint64_t (*run)(size_t) = loop((enum way)way, list);
                if (run == NULL)
                    continue;
                /* So long that it does not matter when the system moves a thread to a processor that has nothing to do. */
                size_t steps = smoke() ? BLOBS : (size_t)(1e8 / (time_of(run, 1000 * BLOBS, 1) / 1e6)) / BLOBS * BLOBS;
                double one = time_of(run, steps, 1);
                times[list][way][round] = one / (double)steps;
                if (!list)
                    times[2][way][round] = 2 * one / time_of(run, steps, 2);
            }
        }
    }
    palloc_close(pt);
    unlink(path);

    printf("\n### palloc: an offset becomes an address\n\n|           |");
    for (int way = 0; way < WAYS; way++)
        printf(" %18s |", names[way]);
    printf("\n| --------: |");
    for (int way = 0; way < WAYS; way++)
        printf(" -----------------: |");
    for (int row = 0; row < 3; row++) {
        double ours = median(times[row][BASE], rounds);
        printf("\n| %9s |", rows[row]);
        for (int way = 0; way < WAYS; way++) {
            double figure = median(times[row][way], rounds);
            char text[40] = "-";
            if (figure > 0)
                snprintf(text, sizeof text, row == 2 || way == BASE ? "%.2f" : "%.2f (%.2f)", figure, figure / ours);
            printf(" %18s |", text);
        }
    }
    printf("\n");
    return 0;
}
