/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc beside allocators that keep files and allocators that don't: blobs of 16 to 512 bytes, fixed seeds. Timings decide no test.
 *
 *   palloc [DIRECTORY [DISK]]     files are made there and removed: in a tmpfs (/dev/shm), and on a disk (.)
 *
 * Each figure is the median of several rounds, in which the allocators take turns, each time in a process of its own; all are called
 * by pointers to functions. Nanoseconds of CPU time, but where another time is said; in parentheses, libpalloc's over it.
 *
 *   grow     N allocations from nothing. libpalloc's file grows from 8 bytes; those of others, which don't grow, are made large enough
 *   churn    one random free and one allocation with N live, after as many for warm-up
 *   iterate  from each blob to the next
 *   open     of the closed file, which is in the page cache; opening.c has other files
 *   space    bytes of the closed file over bytes that were asked for
 */
#include "bench.h"
#include "syncs.h"
#include "our_peer.h"
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#define MALLOC "glibc malloc"
#else
#define MALLOC "malloc"
#define gnu_get_libc_version() ""
#endif

enum { OURS, PLAIN, JEMALLOC, MIMALLOC, BOOST, PMEMOBJ, PEERS };

static const char *const names[PEERS] = {"libpalloc", MALLOC, "jemalloc", "mimalloc", "Boost.Interprocess", "libpmemobj"};
static int present[PEERS];
static char file[PATH_MAX + 32], disk_file[PATH_MAX + 32];

/* A malloc as a peer. The first byte is touched, as the others write beside the block. */
static struct heap {
    void *(*malloc)(size_t size);
    void (*free)(void *p);
} heap = {malloc, free};

static void *heap_create(const char *path, size_t size_bytes, int durable)
{
    (void)path, (void)size_bytes, (void)durable;
    return &heap;
}

static void heap_close(void *medium)
{
    (void)medium;
}

static uint64_t heap_alloc(void *medium, size_t size)
{
    char *p = (char *)((struct heap *)medium)->malloc(size);

    if (p != NULL)
        *p = 1;
    return (uintptr_t)p;
}

static void heap_release(void *medium, uint64_t block)
{
    ((struct heap *)medium)->free((void *)(uintptr_t)block);
}

static void *library(const char *const *sonames)
{
    void *handle = NULL;

    for (; handle == NULL && *sonames != NULL; sonames++)
        handle = dlopen(*sonames, RTLD_NOW | RTLD_LOCAL);
    return handle;
}

/* Loads one, in the process that measures it. Zero if it is not there: dlerror() says why. */
static int load(int which, struct peer *peer)
{
    static const char *const sonames[PEERS][4] = {
        [JEMALLOC] = {"libjemalloc.so.2"},
        [MIMALLOC] = {"libmimalloc.so", "libmimalloc.so.2", "libmimalloc.so.3"},
        [BOOST] = {"peer_boost.so"},
        [PMEMOBJ] = {"peer_pmemobj.so"},
    };
    const struct peer plain = {"", heap_create, NULL, heap_close, heap_alloc, heap_release, NULL, NULL};
    void *handle = NULL;

    if (which > PLAIN && (handle = library(sonames[which])) == NULL)
        return 0;
    *peer = which == OURS ? our_peer : which < BOOST ? plain : *(const struct peer *)dlsym(handle, "peer");
    if (which == PLAIN) {
        snprintf(peer->version, sizeof peer->version, "%s", gnu_get_libc_version());
    } else if (which == JEMALLOC) {
        int (*mallctl)(const char *, void *, size_t *, void *, size_t);
        const char *version = "";
        size_t size = sizeof version;
        *(void **)&mallctl = dlsym(handle, "mallctl");
        *(void **)&heap.malloc = dlsym(handle, "malloc");
        *(void **)&heap.free = dlsym(handle, "free");
        mallctl("version", &version, &size, NULL, 0);
        snprintf(peer->version, sizeof peer->version, "%.*s", (int)strcspn(version, "-"), version);
    } else if (which == MIMALLOC) {
        int (*version)(void), number;
        *(void **)&version = dlsym(handle, "mi_version");
        *(void **)&heap.malloc = dlsym(handle, "mi_malloc");
        *(void **)&heap.free = dlsym(handle, "mi_free");
        number = version();
        snprintf(peer->version, sizeof peer->version, "%d.%d.%d", number / 100, number / 10 % 10, number % 10);
    }
    return 1;
}

static void probe(void *arg, double *figures)
{
    struct peer peer;

    if (!load(*(int *)arg, &peer)) {
        fprintf(stderr, "%s is skipped: %s\n", names[*(int *)arg], dlerror());
        _exit(1);
    }
    memcpy(figures, peer.version, sizeof peer.version);
}

struct task {
    int which, durable;
    size_t n, operations;
};

/* Room for N blobs in those that don't grow. */
static size_t room(size_t n)
{
    return n * 450 + (16u << 20);
}

static void fill(const struct peer *peer, void *medium, uint64_t *live, size_t n)
{
    for (size_t i = 0; i < n; i++)
        MUST((live[i] = peer->alloc(medium, random_size())) != 0);
}

static void churn(const struct peer *peer, void *medium, uint64_t *live, size_t n, size_t operations)
{
    for (size_t i = 0; i < operations; i++) {
        size_t k = random_below(n);

        peer->release(medium, live[k]);
        MUST((live[k] = peer->alloc(medium, random_size())) != 0);
    }
}

enum { GROW, CHURN, ITERATE, OPEN };

static void measure_costs(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    uint64_t *live = (uint64_t *)calloc(t->n, sizeof *live);
    struct peer peer;
    void *medium;
    double start;

    MUST(load(t->which, &peer));
    MUST((medium = peer.create(file, room(t->n), 0)) != NULL && live != NULL);
    memset(live, 1, t->n * sizeof *live);
    seed = 1;
    start = cpu_ns();
    fill(&peer, medium, live, t->n);
    figures[GROW] = (cpu_ns() - start) / (double)t->n;
    churn(&peer, medium, live, t->n, t->operations);
    start = cpu_ns();
    churn(&peer, medium, live, t->n, t->operations);
    figures[CHURN] = (cpu_ns() - start) / (double)t->operations;
    for (size_t seen = 0, pass = 0; peer.first != NULL && (pass < 2 || seen < 1000000) && !smoke(); pass++) {
        if (pass == 1)
            start = cpu_ns(), seen = 0;
        for (uint64_t block = peer.first(medium); block != 0; block = peer.next(medium, block))
            seen++;
        figures[ITERATE] = (cpu_ns() - start) / (double)seen;
    }
    peer.close(medium);
    if (peer.open != NULL) {
        start = cpu_ns();
        MUST((medium = peer.open(file)) != NULL);
        figures[OPEN] = cpu_ns() - start;
        peer.close(medium);
    }
}

/* Each peer's figures, medians of the rounds. */
static void take_turns(void (*measure)(void *, double *), struct task task, int rounds, double medians[PEERS][FIGURES])
{
    static double all[PEERS][FIGURES][MAX_ROUNDS];

    for (int round = 0; round < rounds; round++)
        for (task.which = 0; task.which < PEERS; task.which++) {
            double figures[FIGURES] = {0};
            if (present[task.which] && !in_process(measure, &task, figures)) {
                fprintf(stderr, "%s failed\n", names[task.which]);
                MUST(task.which != OURS);
                memset(figures, 0, sizeof figures);
            }
            unlink(file);
            unlink(disk_file);
            for (int i = 0; i < FIGURES; i++)
                all[task.which][i][round] = figures[i];
        }
    for (int which = 0; which < PEERS; which++)
        for (int i = 0; i < FIGURES; i++)
            medians[which][i] = median(all[which][i], rounds);
}

static void head(const char *title, const char *first)
{
    printf("\n### %s\n\n| %9s |", title, first);
    for (int i = 0; i < PEERS; i++)
        printf(" %-18s |", names[i]);
    printf("\n| --------: |");
    for (int i = 0; i < PEERS; i++)
        printf(" -----------------: |");
    printf("\n");
}

static void costs(void)
{
    static const size_t numbers[] = {1000, 10000, 100000, 1000000};
    static double medians[4][PEERS][FIGURES];
    const size_t count = smoke() ? 1 : 4;

    for (size_t i = 0; i < count; i++) {
        size_t n = numbers[i], operations = smoke() ? 100 : n > 300000 ? n : 300000;
        take_turns(measure_costs, (struct task){0, 0, n, operations}, smoke() ? 1 : 5, medians[i]);
    }
    for (int what = GROW; what <= OPEN; what++) {
        static const char *const titles[] = {"palloc: grow, ns", "palloc: churn, ns", "palloc: iterate, ns", "palloc: open, ms"};
        head(titles[what], "N");
        for (size_t i = 0; i < count; i++) {
            double unit = what == OPEN ? 1e6 : 1, ours = medians[i][OURS][what] / unit;
            printf("| %9zu |", numbers[i]);
            for (int which = 0; which < PEERS; which++)
                cell(medians[i][which][what] / unit, ours, what == ITERATE ? 1 : what == OPEN ? 2 : 0);
            printf("\n");
        }
    }
}

/* Each thread has a file of its own, or its own blobs in one heap or `shared` medium. */
struct worker {
    const struct peer *peer;
    const struct task *task;
    pthread_barrier_t *barrier;
    char path[sizeof file + 4];
    pthread_t thread;
    void *shared;
    uint64_t seed;
    double cpu, wall, waits, start, end;
};

static void *work(void *arg)
{
    struct worker *w = (struct worker *)arg;
    const struct task *t = w->task;
    uint64_t *live = (uint64_t *)calloc(t->n, sizeof *live);
    void *medium = w->shared != NULL ? w->shared : w->peer->create(w->path, room(t->n), 0);
    double cpu = 0;
    uint64_t own = w->seed;
    struct rusage before = {0}, after;

    MUST(live != NULL && medium != NULL);
    for (size_t i = 0; i < t->n + 2 * t->operations; i++) {
        size_t k = i < t->n ? i : (size_t)((own >> 32) * t->n >> 32);
        if (i == t->n + t->operations) {
            pthread_barrier_wait(w->barrier);
            getrusage(RUSAGE_THREAD, &before);
            cpu = nanoseconds(CLOCK_THREAD_CPUTIME_ID), w->start = nanoseconds(CLOCK_MONOTONIC);
        }
        if (live[k] != 0)
            w->peer->release(medium, live[k]);
        own = random_after(own);
        MUST((live[k] = w->peer->alloc(medium, 16 + ((own >> 16 & 0xffff) * 497 >> 16))) != 0);
    }
    w->cpu = (nanoseconds(CLOCK_THREAD_CPUTIME_ID) - cpu) / (double)t->operations;
    w->end = nanoseconds(CLOCK_MONOTONIC);
    w->wall = (w->end - w->start) / (double)t->operations;
    getrusage(RUSAGE_THREAD, &after);
    w->waits = (double)(after.ru_nvcsw - before.ru_nvcsw) * 1e6 / (double)t->operations;
    pthread_barrier_wait(w->barrier);
    if (w->shared == NULL) {
        w->peer->close(medium);
        unlink(w->path);
    }
    return NULL;
}

/*
 * One thread, then two: CPU time of an operation in each; operations a second of both together over those of one, on a machine with
 * nothing else to do; and how often, in a million operations of two, a thread had to wait (voluntary context switches).
 */
static void measure_threads(void *arg, double *figures)
{
    struct worker workers[2];
    pthread_barrier_t barrier;
    struct peer peer;

    MUST(load(((const struct task *)arg)->which, &peer));
    for (int count = 1; count <= 2; count++) {
        MUST(pthread_barrier_init(&barrier, NULL, (unsigned)count) == 0);
        for (int i = 0; i < count; i++) {
            workers[i] = (struct worker){.peer = &peer, .task = (const struct task *)arg, .barrier = &barrier, .seed = 1};
            snprintf(workers[i].path, sizeof workers[i].path, "%s.%d", file, i);
            MUST(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
        }
        for (int i = 0; i < count; i++)
            MUST(pthread_join(workers[i].thread, NULL) == 0);
        figures[count - 1] = count == 1 ? workers[0].cpu : (workers[0].cpu + workers[1].cpu) / 2;
        if (count == 1) {
            figures[2] = workers[0].wall;
        } else {
            figures[2] *= 1 / workers[0].wall + 1 / workers[1].wall;
            figures[3] = (workers[0].waits + workers[1].waits) / 2;
        }
    }
}

static void threads(void)
{
    static double medians[PEERS][FIGURES];
    static const char *const rows[] = {"one, ns", "two, ns", "speed-up", "waits"};

    take_turns(measure_threads, (struct task){0, 0, smoke() ? 1000 : 100000, smoke() ? 100 : 300000}, smoke() ? 1 : 5, medians);
    head("palloc: churn with threads, N = 100,000 each", "threads");
    for (int what = 0; what < 4; what++) {
        printf("| %9s |", rows[what]);
        for (int which = 0; which < PEERS; which++)
            if (what == 3 && present[which])
                printf(" %18.0f |", medians[which][what]);
            else
                cell(medians[which][what], medians[OURS][what], what == 2 ? 2 : 0);
        printf("\n");
    }
}

/*
 * One, two and eight threads on one medium, and (N/4) eight that have as many blobs together as two: CPU time of an operation in each;
 * operations a second of two over those of one, and of both eights over those of two.
 */
enum { STEPS = 4 };

static void measure_one_medium(void *arg, double *figures)
{
    static const struct {
        int threads, share;
    } steps[STEPS] = {{1, 1}, {2, 1}, {8, 1}, {8, 4}};
    struct worker workers[8];
    pthread_barrier_t barrier;
    double rates[STEPS];
    struct peer peer;

    MUST(load(((const struct task *)arg)->which, &peer));
    for (int step = 0; step < STEPS; step++) {
        struct task part = *(const struct task *)arg;
        int count = steps[step].threads;
        part.n /= (size_t)steps[step].share;
        void *medium = peer.create(file, room(part.n * (size_t)count), 0);
        double start = 0, end = 0, cpu = 0;
        MUST(medium != NULL && pthread_barrier_init(&barrier, NULL, (unsigned)count) == 0);
        for (int i = 0; i < count; i++) {
            workers[i] = (struct worker){.peer = &peer, .task = &part, .barrier = &barrier, .shared = medium, .seed = (uint64_t)i + 1};
            MUST(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
        }
        for (int i = 0; i < count; i++) {
            MUST(pthread_join(workers[i].thread, NULL) == 0);
            start = i == 0 || workers[i].start < start ? workers[i].start : start;
            end = workers[i].end > end ? workers[i].end : end;
            cpu += workers[i].cpu / count;
        }
        rates[step] = (double)part.operations * count / (end - start);
        figures[step] = cpu;
        if (step > 0)
            figures[STEPS + step - 1] = rates[step] / rates[step > 1];
        peer.close(medium);
        unlink(file);
    }
}

static void one_medium(void)
{
    static double medians[PEERS][FIGURES];
    static const char *const rows[] = {"one, ns", "two, ns", "eight, ns", "N/4, ns", "two/one", "eight/two", "N/4 / two"};
    static const size_t numbers[] = {1000, 100000};

    for (int i = 0; i < (smoke() ? 1 : 2); i++) {
        char title[80];
        take_turns(measure_one_medium, (struct task){0, 0, numbers[i], smoke() ? 100 : 300000}, smoke() ? 1 : MAX_ROUNDS, medians);
        snprintf(title, sizeof title, "palloc: churn with threads on one medium, N = %zu each", numbers[i]);
        head(title, "threads");
        for (int what = 0; what < 2 * STEPS - 1; what++) {
            printf("| %9s |", rows[what]);
            for (int which = 0; which < PEERS; which++)
                cell(medians[which][what], medians[OURS][what], what >= STEPS ? 2 : 0);
            printf("\n");
        }
    }
}

/*
 * First fit: where the lowest free block that is large enough is taken, with blocks and splits as in libpalloc's format. A tree of
 * maxima over the places of 16 bytes finds it.
 */
struct first_fit {
    uint32_t *tree, *size_at, *start_of; /* the free block at a place, the block at a place, the block that ends before a place */
    uint8_t *is_free;
    uint32_t places, end;
};

static void mark_free(struct first_fit *f, uint32_t at, uint32_t size)
{
    uint32_t i = f->places + at;

    f->is_free[at] = size != 0;
    f->tree[i] = size;
    while ((i /= 2) != 0)
        f->tree[i] = f->tree[2 * i] > f->tree[2 * i + 1] ? f->tree[2 * i] : f->tree[2 * i + 1];
}

static void mark_block(struct first_fit *f, uint32_t at, uint32_t size)
{
    f->size_at[at] = size;
    f->start_of[at + size] = at;
}

static uint32_t fit(struct first_fit *f, size_t size)
{
    uint32_t wanted = 1 + (uint32_t)(size + 15) / 16, at = f->end;

    if (f->tree[1] >= wanted) {
        for (at = 1; at < f->places;)
            at = f->tree[2 * at] >= wanted ? 2 * at : 2 * at + 1;
        at -= f->places;
        uint32_t found = f->size_at[at];
        mark_free(f, at, 0);
        if (found - wanted > 2) {
            mark_block(f, at + wanted, found - wanted);
            mark_free(f, at + wanted, found - wanted);
            found = wanted;
        }
        mark_block(f, at, found);
    } else {
        f->end += wanted;
        MUST(f->end < f->places);
        mark_block(f, at, wanted);
    }
    return at;
}

static void unfit(struct first_fit *f, uint32_t at)
{
    uint32_t end = at + f->size_at[at];

    if (end < f->end && f->is_free[end]) {
        mark_free(f, end, 0);
        end += f->size_at[end];
    }
    if (at > 0 && f->is_free[f->start_of[at]]) {
        at = f->start_of[at];
        mark_free(f, at, 0);
    }
    if (end == f->end) {
        f->end = at;
    } else {
        mark_block(f, at, end - at);
        mark_free(f, at, end - at);
    }
}

/* Bytes of the file, and bytes of blobs, as first fit would have them. */
static void simulate_first_fit(size_t n, size_t operations, double *file_bytes, double *asked)
{
    struct first_fit f = {.places = 1};
    uint32_t *live = (uint32_t *)malloc(n * sizeof *live), *sizes = (uint32_t *)malloc(n * sizeof *sizes);

    while (f.places < 40 * n)
        f.places *= 2;
    f.tree = (uint32_t *)calloc(2 * (size_t)f.places, sizeof *f.tree);
    f.size_at = (uint32_t *)calloc(f.places, sizeof *f.size_at);
    f.start_of = (uint32_t *)calloc(f.places, sizeof *f.start_of);
    f.is_free = (uint8_t *)calloc(f.places, 1);
    MUST(f.tree != NULL && f.size_at != NULL && f.start_of != NULL && f.is_free != NULL && live != NULL && sizes != NULL);
    seed = 1;
    for (size_t i = 0; i < n + operations; i++) {
        size_t k = i < n ? i : random_below(n);
        if (i >= n)
            unfit(&f, live[k]);
        sizes[k] = (uint32_t)random_size();
        live[k] = fit(&f, sizes[k]);
    }
    *file_bytes = 8 + 16.0 * f.end;
    *asked = 0;
    for (size_t i = 0; i < n; i++)
        *asked += sizes[i];
    free(f.tree), free(f.size_at), free(f.start_of), free(f.is_free), free(live), free(sizes);
}

static void measure_space(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    uint64_t *live = (uint64_t *)calloc(t->n, sizeof *live);
    struct palloc_stat counts;
    struct stat closed;
    struct peer peer;
    void *medium;

    MUST(load(t->which, &peer));
    MUST((medium = peer.create(file, room(t->n), 0)) != NULL && live != NULL);
    seed = 1;
    fill(&peer, medium, live, t->n);
    churn(&peer, medium, live, t->n, t->operations);
    if (t->which == OURS && palloc_stat((struct palloc_t *)medium, &counts) == 0)
        figures[1] = (double)counts.live_bytes;
    peer.close(medium);
    MUST(stat(file, &closed) == 0);
    figures[0] = (double)closed.st_size;
}

/* One round: nothing of it depends on the clock. */
static void space(void)
{
    printf("\n### palloc: space after a long churn, MiB; in parentheses, over the bytes asked for\n\n"
           "|         N | operations | asked for | libpalloc        | first fit        | Boost.Interprocess | libpalloc / first fit | "
           "libpalloc / palloc_size |\n"
           "| --------: | ---------: | --------: | ---------------: | ---------------: | -----------------: | --------------------: | "
           "----------------------: |\n");
    for (size_t n = smoke() ? 1000 : 10000; n <= (smoke() ? 1000 : 100000); n *= 10) {
        struct task task = {OURS, 0, n, 50 * n};
        double ours[FIGURES], boost[FIGURES] = {0}, first_fit, asked, mib = 1 << 20;

        MUST(in_process(measure_space, &task, ours));
        unlink(file);
        task.which = BOOST;
        if (present[BOOST])
            MUST(in_process(measure_space, &task, boost));
        unlink(file);
        simulate_first_fit(n, task.operations, &first_fit, &asked);
        printf("| %9zu | %10zu | %9.2f | %8.2f (%.3f) | %8.2f (%.3f) |", n, task.operations, asked / mib, ours[0] / mib, ours[0] / asked,
               first_fit / mib, first_fit / asked);
        if (boost[0] > 0)
            printf(" %10.2f (%.3f) |", boost[0] / mib, boost[0] / asked);
        else
            printf(" %18s |", "-");
        printf(" %21.3f | %23.3f |\n", ours[0] / first_fit, ours[0] / ours[1]);
    }
}

/* On a disk, wall-clock time: each operation is there when it returns. */
static void measure_durable(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    static double times[300];
    const int count = smoke() ? 3 : 300;
    struct peer peer;
    uint64_t live[64];
    void *medium;
    unsigned before;

    MUST(setenv("PMEM_IS_PMEM_FORCE", "0", 1) == 0 && load(t->which, &peer));
    MUST((medium = peer.create(disk_file, room(t->n), 1)) != NULL);
    for (size_t i = 0; i < 64; i++)
        MUST((live[i] = peer.alloc(medium, 100)) != 0);
    before = syncs;
    for (int i = 0; i < count; i++) {
        uint64_t *block = &live[i * 37 % 64];
        double start = nanoseconds(CLOCK_MONOTONIC);
        peer.release(medium, *block);
        MUST((*block = peer.alloc(medium, 100)) != 0);
        times[i] = nanoseconds(CLOCK_MONOTONIC) - start;
    }
    figures[0] = median(times, count) / 1e6;
    figures[1] = (double)(syncs - before) / count;
    peer.close(medium);
}

static void durable(void)
{
    static double medians[PEERS][FIGURES];
    const int all[PEERS] = {present[OURS], present[PLAIN], present[JEMALLOC], present[MIMALLOC], present[BOOST], present[PMEMOBJ]};

    for (int which = PLAIN; which < PMEMOBJ; which++)
        present[which] = 0;
    take_turns(measure_durable, (struct task){0, 1, 64, 0}, smoke() ? 1 : 3, medians);
    memcpy(present, all, sizeof present);
    printf("\n### palloc: one free and one allocation of 100 bytes, on a disk when they return\n\n"
           "|                         | ms     | syncs  |\n| ----------------------- | -----: | -----: |\n");
    for (int which = OURS; which <= PMEMOBJ; which += PMEMOBJ)
        if (medians[which][0] > 0)
            printf("| %-23s | %6.3f | %6.1f |\n", which == OURS ? "libpalloc, PALLOC_SYNC" : "libpmemobj, msync", medians[which][0],
                   medians[which][1]);
}

int main(int argc, char **argv)
{
    snprintf(file, sizeof file, "%s/palloc_bench.%d", argc > 1 ? argv[1] : "/dev/shm", (int)getpid());
    snprintf(disk_file, sizeof disk_file, "%s/palloc_bench_durable.%d", argc > 2 ? argv[2] : ".", (int)getpid());
    MUST(setenv("PMEM_IS_PMEM_FORCE", "1", 1) == 0);
    for (int which = 0; which < PEERS; which++) {
        double version[FIGURES];
        present[which] = in_process(probe, &which, version);
        if (present[which] && which != OURS)
            printf("%s %s %s", which == PLAIN ? "Peers:" : ",", names[which], (const char *)version);
    }
    printf("\n");
    costs();
    threads();
    one_medium();
    space();
    durable();
    return 0;
}
