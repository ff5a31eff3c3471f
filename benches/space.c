/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The space that palloc takes for work of several kinds, beside Boost.Interprocess (rbtree_best_fit). Nothing here depends on a clock.
 *
 *   space [DIRECTORY]     files are made there and removed
 *
 * "end" is where the last block ends, "file" the length of libpalloc's file while it is open. Both are looked at after every 16th step
 * of the second half of the work, and with each of three seeds; a figure is the mean, "most" the largest ratio of all.
 */
#include "bench.h"
#include "our_peer.h"
#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <sys/stat.h>

enum { OURS, BOOST };

/*
 * QUEUE: the oldest block is freed, and another one allocated. VARYING: now and then the queue becomes shorter or longer. CACHE: as QUEUE,
 * but half of the steps make a block the youngest instead. RANDOM: any block is freed. VECTORS: one of them gets a larger block, or begins
 * anew.
 */
enum kind { QUEUE, VARYING, CACHE, RANDOM, VECTORS };

enum sizes { UNIFORM, POWER_LAW, LOGNORMAL, TIMES, PLUS };

static const struct workload {
    const char *name;
    enum kind kind;
    enum sizes sizes;
    double least, most; /* of VECTORS: the factor or the bytes of a growth, and the length at which one begins anew */
    size_t blocks;
} workloads[] = {
    {"queue, 16 to 4,096 bytes", QUEUE, UNIFORM, 16, 4096, 4000},
    {"queue, 100 bytes", QUEUE, UNIFORM, 100, 100, 10000},
    {"queue, 1 byte to 256 KiB", QUEUE, UNIFORM, 1, 262144, 400},
    {"queue of varying length, 16 to 4,096 bytes", VARYING, UNIFORM, 16, 4096, 4000},
    {"cache, power law, 16 bytes to 1 MiB", CACHE, POWER_LAW, 16, 1048576, 2000},
    {"cache, lognormal", CACHE, LOGNORMAL, 16, 1048576, 4000},
    {"vectors that grow by 2", VECTORS, TIMES, 2, 262144, 500},
    {"vectors that grow by 1.5", VECTORS, TIMES, 1.5, 262144, 500},
    {"vectors that grow by 64 bytes", VECTORS, PLUS, 64, 65536, 500},
    {"random lives, power law, 16 bytes to 1 MiB", RANDOM, POWER_LAW, 16, 1048576, 2000},
    {"random lives, lognormal", RANDOM, LOGNORMAL, 16, 1048576, 4000},
    {"random lives, 600 to 8,600 bytes", RANDOM, UNIFORM, 600, 8600, 4000},
};

static char file[PATH_MAX + 32];

struct task {
    const struct workload *work;
    int which;
    uint64_t seed;
};

static struct block {
    uint64_t at, used;
    size_t size;
} * blocks;
static size_t count, asked;
static uint64_t now;
static struct peer peer;
static void *medium;

static double unit(void)
{
    return next_random() / 4294967296.0;
}

/* Power law: the probability of a size is inverse to it. Lognormal: half of them are shorter than 1,097 bytes, sigma is 1.5. */
static size_t size_of_next(const struct workload *work)
{
    double normal = -6;

    switch (work->sizes) {
    case UNIFORM: return (size_t)(work->least + unit() * (work->most - work->least + 1));
    case POWER_LAW: return (size_t)(work->least * pow(work->most / work->least, unit()));
    case LOGNORMAL:
        for (int i = 0; i < 12; i++)
            normal += unit();
        return (size_t)fmin(work->most, fmax(work->least, exp(7 + 1.5 * normal)));
    default: return 64;
    }
}

static void allocate(struct block *b, size_t size)
{
    MUST((b->at = peer.alloc(medium, size)) != 0);
    b->size = size;
    b->used = now++;
    asked += size;
}

static void release(struct block *b)
{
    peer.release(medium, b->at);
    asked -= b->size;
}

static struct block *oldest(void)
{
    struct block *found = blocks;

    for (size_t i = 1; i < count; i++)
        if (blocks[i].used < found->used)
            found = &blocks[i];
    return found;
}

static void step(const struct workload *work, size_t wanted)
{
    struct block *b = &blocks[random_below(count)], old = *b;
    size_t larger;

    switch (work->kind) {
    case VECTORS:
        larger = work->sizes == PLUS ? old.size + (size_t)work->least : (size_t)((double)old.size * work->least);
        if ((double)larger > work->most || random_below(work->sizes == PLUS ? 200 : 20) == 0) {
            release(b);
            allocate(b, 64);
        } else {
            allocate(b, larger);
            release(&old);
        }
        return;
    case VARYING:
        while (count > wanted) {
            b = oldest();
            release(b);
            *b = blocks[--count];
        }
        if (count < wanted) {
            allocate(&blocks[count++], size_of_next(work));
            return;
        }
        b = oldest();
        break;
    case CACHE:
        if (random_below(2) == 0) {
            b->used = now++;
            return;
        }
        b = oldest();
        break;
    case QUEUE: b = oldest(); break;
    case RANDOM: break;
    }
    release(b);
    allocate(b, size_of_next(work));
}

/* Figures: end, what was asked for, file / end, the most of that. */
static void measure(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    size_t n = smoke() ? 50 : t->work->blocks, steps = (t->work->sizes == PLUS ? 150 : 30) * n, wanted = n;
    uint64_t base = UINT64_MAX;
    double looks = 0;

    if (t->which == BOOST) {
        void *handle = dlopen("peer_boost.so", RTLD_NOW | RTLD_LOCAL);
        MUST(handle != NULL);
        peer = *(const struct peer *)dlsym(handle, "peer");
    } else {
        peer = our_peer;
        base = 0;
    }
    seed = t->seed;
    MUST((blocks = (struct block *)calloc(n, sizeof *blocks)) != NULL && (medium = peer.create(file, (size_t)1 << 30, 0)) != NULL);
    while (count < n)
        allocate(&blocks[count++], size_of_next(t->work));
    for (size_t i = 0; i < steps; i++) {
        if (i % n == 0)
            wanted = t->work->kind == VARYING ? n / 4 + random_below(n - n / 4) : n;
        step(t->work, wanted);
        if (i >= steps / 2 && i % 16 == 0) {
            uint64_t end = 0;
            struct stat now_open;
            double ratio;

            for (size_t k = 0; k < count; k++) {
                base = base == 0 || base < blocks[k].at ? base : blocks[k].at;
                end = end > blocks[k].at + blocks[k].size ? end : blocks[k].at + blocks[k].size;
            }
            end -= base;
            MUST(stat(file, &now_open) == 0);
            ratio = (double)now_open.st_size / (double)end;
            figures[0] += (double)end;
            figures[1] += (double)asked;
            figures[2] += ratio;
            figures[3] = fmax(figures[3], ratio);
            looks++;
        }
    }
    for (int i = 0; i < 3; i++)
        figures[i] /= looks;
    peer.close(medium);
}

int main(int argc, char **argv)
{
    void *boost = dlopen("peer_boost.so", RTLD_NOW | RTLD_LOCAL);
    const int seeds = smoke() ? 1 : 3;

    snprintf(file, sizeof file, "%s/palloc_space.%d", argc > 1 ? argv[1] : "/dev/shm", (int)getpid());
    printf("\n### palloc: space for work of several kinds\n\n"
           "| work                                       | asked for, MiB | end / asked for | file / end | most  | Boost.Interprocess | end / "
           "Boost.Interprocess |\n"
           "| ------------------------------------------ | -------------: | --------------: | ---------: | ----: | -----------------: | "
           "-----------------------: |\n");
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        double ours[4] = {0}, theirs[2] = {0}, figures[FIGURES];

        for (int k = 1; k <= seeds; k++) {
            struct task task = {&workloads[i], OURS, (uint64_t)k};
            MUST(in_process(measure, &task, figures));
            unlink(file);
            for (int f = 0; f < 3; f++)
                ours[f] += figures[f] / seeds;
            ours[3] = fmax(ours[3], figures[3]);
            if (boost == NULL)
                continue;
            task.which = BOOST;
            MUST(in_process(measure, &task, figures));
            unlink(file);
            theirs[0] += figures[0] / seeds;
            theirs[1] += figures[1] / seeds;
        }
        printf("| %-42s | %14.2f | %15.3f | %10.3f | %5.3f |", workloads[i].name, ours[1] / (1 << 20), ours[0] / ours[1], ours[2], ours[3]);
        if (boost != NULL)
            printf(" %18.3f | %24.3f |\n", theirs[0] / theirs[1], ours[0] / theirs[0]);
        else
            printf(" %18s | %24s |\n", "-", "-");
    }
    return 0;
}
