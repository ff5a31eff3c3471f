/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The time to open a medium of large and of small blobs, beside a plain walk along its blocks, on a disk. The pages of the file are where
 *
 *   cold     on the disk only
 *   stored   in the page cache, as the program's stores through its mapping left them: each by itself
 *   read     in the page cache, as read(2) brought them in: the system keeps many together then
 *
 *   opening [DIRECTORY]     the file is made there and removed (.); on a tmpfs nothing is cold
 */
#include "../c_tests/support/disk_reads.h"
#include "bench.h"
#include "palloc.h"
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

static char file[PATH_MAX];

enum pages { STORED, COLD, READ, PAGES };
enum way { OPEN_IT, WALK, READ_ALL, WAYS };

struct task {
    size_t blobs, mean;
    int pages, way;
};

static void open_it(void)
{
    struct palloc_t *pt = palloc_init(file, PALLOC_READONLY);

    MUST(pt != NULL);
    palloc_close(pt);
}

/* From start marker to start marker through a plain mapping: what any reader of such a file would do first. */
static void walk(void)
{
    int fd = open(file, O_RDONLY);
    struct stat status;
    const char *bytes;
    uint64_t marker;

    MUST(fd >= 0 && fstat(fd, &status) == 0);
    bytes = (const char *)mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    MUST(bytes != MAP_FAILED);
    for (uint64_t at = 8; at < (uint64_t)status.st_size; at += marker + 16) {
        memcpy(&marker, bytes + at, sizeof marker);
        marker = be64toh(marker) & UINT64_MAX >> 1;
    }
    munmap((void *)bytes, (size_t)status.st_size);
    close(fd);
}

/* The whole file into one buffer. */
static void read_all(void)
{
    static char buffer[1 << 20];
    int fd = open(file, O_RDONLY);
    ssize_t got;

    MUST(fd >= 0);
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        ;
    MUST(got == 0);
    close(fd);
}

static void drop_pages(void)
{
    int fd = open(file, O_RDWR);

    MUST(fd >= 0 && fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    close(fd);
}

/* Wall-clock time in ms, and what was read from the disk, in MiB. */
static void measure(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    uint64_t before;
    double start;

    if (t->pages == COLD)
        drop_pages();
    before = disk_reads();
    start = nanoseconds(CLOCK_MONOTONIC);
    if (t->way == READ_ALL)
        read_all();
    else if (t->way == WALK)
        walk();
    else
        open_it();
    figures[0] = (nanoseconds(CLOCK_MONOTONIC) - start) / 1e6;
    figures[1] = (double)(disk_reads() - before) / (1 << 20);
}

/* Blobs from half the mean to one and a half, all stored to. */
static void make(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    struct palloc_t *pt = palloc_init(file, PALLOC_DYNAMIC);

    MUST(pt != NULL);
    seed = 1;
    for (size_t i = 0; i < t->blobs; i++) {
        size_t size = t->mean / 2 + random_below(t->mean);
        uint64_t ptr = palloc(pt, size);
        MUST(ptr != 0);
        memset(palloc_data(pt, ptr), 0x5a, size);
    }
    figures[0] = (double)pt->size / (1 << 20);
    MUST(palloc_sync(pt) == 0); /* or the system would write it back meanwhile */
    palloc_close(pt);
}

/*
 * The median time of each way in one state of the pages, and what was read in the last round. Each way is the first by turns; the first
 * round does not count.
 */
static void measure_all(struct task *t, double figures[WAYS][2])
{
    enum { ROUNDS = 5 };
    const int rounds = smoke() ? 1 : ROUNDS;
    double times[WAYS][ROUNDS];

    for (int round = 0; round <= rounds; round++) {
        for (int k = 0; k < WAYS; k++) {
            double one[FIGURES];
            t->way = (k + round) % WAYS;
            MUST(in_process(measure, t, one));
            figures[t->way][1] = one[1];
            if (round > 0)
                times[t->way][round - 1] = one[0];
        }
    }
    for (int way = 0; way < WAYS; way++)
        figures[way][0] = median(times[way], rounds);
}

int main(int argc, char **argv)
{
    static const struct {
        size_t blobs, mean;
    } kinds[] = {{1000000, 256}, {131072, 4096}, {8192, 64 << 10}, {2048, 256 << 10}, {512, 1 << 20}};
    static const char *const names[PAGES] = {"stored", "cold", "read"};

    snprintf(file, sizeof file, "%s/palloc_bench_opening.%d", argc > 1 ? argv[1] : ".", (int)getpid());
    printf("\n### palloc: open, by size of blobs\n\n"
           "| blobs, mean bytes, pages |   file, MiB |  libpalloc, ms | read, MiB | plain walk, ms (ratio) | read, MiB | read of all, ms (ratio) |\n"
           "| ------------------------ | ----------: | -------------: | --------: | ---------------------: | --------: | ----------------------: |\n");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct task t = {smoke() ? 10 : kinds[i].blobs, kinds[i].mean, 0, 0};
        double made[FIGURES];

        MUST(in_process(make, &t, made));
        for (t.pages = 0; t.pages < PAGES; t.pages++) {
            double figures[WAYS][2];
            char label[60];

            if (t.pages == READ) {
                drop_pages();
                read_all();
            }
            measure_all(&t, figures);
            snprintf(label, sizeof label, "%zu, %zu, %s", t.blobs, t.mean, names[t.pages]);
            printf("| %-24s | %11.0f | %14.1f | %9.1f | %14.1f (%5.2f) | %9.1f | %15.1f (%5.2f) |\n", label, made[0], figures[OPEN_IT][0],
                   figures[OPEN_IT][1], figures[WALK][0], figures[OPEN_IT][0] / figures[WALK][0], figures[WALK][1], figures[READ_ALL][0],
                   figures[OPEN_IT][0] / figures[READ_ALL][0]);
        }
        unlink(file);
    }
    return 0;
}
