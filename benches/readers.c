/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One process writes, others read.
 *
 *   readers [DIRECTORY]     files are made there and removed: in a tmpfs (/dev/shm)
 *
 * sections   a read section with one look-up beside a transaction of LMDB with one: CPU time of the reader, in turns
 * churn      the writer frees and allocates while nobody has the medium open, or 1 or 16 processes have, idle or reading; or while they do
 *            the same on a copy, to which nobody writes, and so only take processors and caches from the writer: CPU time of the writer
 * space      held back by a reader that sleeps in a section, after so many blobs were replaced
 */
#include "bench.h"
#include <dlfcn.h>
#include <limits.h>
#include <palloc.h>
#include <sched.h>
#include <signal.h>

#if defined(__has_include)
#if __has_include(<lmdb.h>)
#include <lmdb.h>
#define HAS_LMDB 1
#endif
#endif

enum { BLOB = 100, ROUNDS = 5, MOST_READERS = 16, READER_PAUSE_NS = 100000 };

static char file[PATH_MAX + 40], copy[sizeof file + 8];

static void remove_files(void)
{
    char other[sizeof file + 8];

    unlink(file);
    unlink(copy);
    snprintf(other, sizeof other, "%s-lock", file);
    unlink(other);
}

/* A medium with a table of the offsets of `count` blobs, whose first word is their number; the root has the table's offset. */
static struct palloc_t *create(const char *path, uint32_t flags, uint64_t count)
{
    struct palloc_t *pt = palloc_init(path, PALLOC_DYNAMIC | flags);
    uint64_t root = pt != NULL ? palloc_root(pt, 8) : 0, table = root != 0 ? palloc(pt, 8 * count) : 0;

    MUST(table != 0);
    *(uint64_t *)palloc_data(pt, root) = table;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t blob = palloc(pt, BLOB);
        MUST(blob != 0);
        *(uint64_t *)palloc_data(pt, blob) = i;
        ((uint64_t *)palloc_data(pt, table))[i] = blob;
    }
    return pt;
}

/* ------------------------------------------------------------------------------------------------------------------------ sections */

struct task {
    int which;
    uint64_t count;
    int sections;
};

static void our_sections(const struct task *t, double *figures)
{
    struct palloc_t *writer = create(file, PALLOC_SHARED, t->count), *pt = palloc_init(file, PALLOC_READONLY | PALLOC_SHARED);
    const uint64_t *root;
    double start;

    MUST(pt != NULL && palloc_read_begin(pt) == 0);
    root = (const uint64_t *)palloc_data(pt, palloc_first(pt));
    palloc_read_end(pt);
    start = cpu_ns();
    for (int i = 0; i < t->sections; i++) {
        size_t k = random_below(t->count);
        MUST(palloc_read_begin(pt) == 0);
        const uint64_t *table = (const uint64_t *)palloc_at(pt, __atomic_load_n(root, __ATOMIC_ACQUIRE));
        MUST(*(const uint64_t *)palloc_data(pt, table[k]) == k);
        palloc_read_end(pt);
    }
    figures[0] = (cpu_ns() - start) / t->sections;
    palloc_close(pt);
    palloc_close(writer);
}

#if defined(HAS_LMDB)

static struct {
    int (*env_create)(MDB_env **);
    int (*env_open)(MDB_env *, const char *, unsigned, mdb_mode_t);
    int (*env_set_mapsize)(MDB_env *, size_t);
    int (*txn_begin)(MDB_env *, MDB_txn *, unsigned, MDB_txn **);
    int (*txn_commit)(MDB_txn *);
    int (*txn_renew)(MDB_txn *);
    void (*txn_reset)(MDB_txn *);
    int (*dbi_open)(MDB_txn *, const char *, unsigned, MDB_dbi *);
    int (*put)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *, unsigned);
    int (*get)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
} lmdb;

static int has_lmdb(void)
{
    void *library = dlopen("liblmdb.so.0", RTLD_NOW);

    if (library == NULL)
        return 0;
    *(void **)&lmdb.env_create = dlsym(library, "mdb_env_create");
    *(void **)&lmdb.env_open = dlsym(library, "mdb_env_open");
    *(void **)&lmdb.env_set_mapsize = dlsym(library, "mdb_env_set_mapsize");
    *(void **)&lmdb.txn_begin = dlsym(library, "mdb_txn_begin");
    *(void **)&lmdb.txn_commit = dlsym(library, "mdb_txn_commit");
    *(void **)&lmdb.txn_renew = dlsym(library, "mdb_txn_renew");
    *(void **)&lmdb.txn_reset = dlsym(library, "mdb_txn_reset");
    *(void **)&lmdb.dbi_open = dlsym(library, "mdb_dbi_open");
    *(void **)&lmdb.put = dlsym(library, "mdb_put");
    *(void **)&lmdb.get = dlsym(library, "mdb_get");
    return 1;
}

static void lmdb_sections(const struct task *t, double *figures)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
    char bytes[BLOB] = {0};
    double start;

    if (!has_lmdb())
        return;
    MUST(lmdb.env_create(&env) == 0 && lmdb.env_set_mapsize(env, 256 << 20) == 0);
    MUST(lmdb.env_open(env, file, MDB_NOSUBDIR | MDB_NOSYNC, 0600) == 0);
    MUST(lmdb.txn_begin(env, NULL, 0, &txn) == 0 && lmdb.dbi_open(txn, NULL, MDB_INTEGERKEY, &table) == 0);
    for (uint64_t i = 0; i < t->count; i++) {
        MDB_val key = {8, &i}, data = {BLOB, bytes};
        memcpy(bytes, &i, sizeof i);
        MUST(lmdb.put(txn, table, &key, &data, MDB_APPEND) == 0);
    }
    MUST(lmdb.txn_commit(txn) == 0 && lmdb.txn_begin(env, NULL, MDB_RDONLY, &txn) == 0);
    lmdb.txn_reset(txn);
    start = cpu_ns();
    for (int i = 0; i < t->sections; i++) {
        uint64_t k = random_below(t->count), found;
        MDB_val key = {8, &k}, data;
        MUST(lmdb.txn_renew(txn) == 0 && lmdb.get(txn, table, &key, &data) == 0);
        memcpy(&found, data.mv_data, sizeof found);
        MUST(found == k);
        lmdb.txn_reset(txn);
    }
    figures[0] = (cpu_ns() - start) / t->sections;
}
#endif

static void measure_sections(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;

    seed = 3;
    if (t->which == 0)
        our_sections(t, figures);
#if defined(HAS_LMDB)
    else
        lmdb_sections(t, figures);
#endif
}

static void sections(void)
{
    const int rounds = smoke() ? 1 : ROUNDS;

    printf("\n### readers: a section with one look-up, ns\n\n"
           "| blobs   | libpalloc          | LMDB               |\n| ------: | -----------------: | -----------------: |\n");
    for (uint64_t count = 1000; count <= (smoke() ? 1000 : 1000000); count *= 1000) {
        double all[2][MAX_ROUNDS], ours;
        for (int round = 0; round < rounds; round++)
            for (int which = 0; which < 2; which++) {
                struct task task = {which, count, smoke() ? 1000 : 1000000};
                double figures[FIGURES];
                MUST(in_process(measure_sections, &task, figures));
                remove_files();
                all[which][round] = figures[0];
            }
        ours = median(all[0], rounds);
        printf("| %7llu |", (unsigned long long)count);
        cell(ours, ours, 1);
        cell(median(all[1], rounds), ours, 1);
        printf("\n");
    }
}

/* --------------------------------------------------------------------------------------------------------------------------- churn */

struct readers {
    pid_t pids[MOST_READERS];
    int count;
};

/* A process that has read in a section, and then sleeps; or again and again reads 10 blobs in one, and then sleeps a little. */
static void read_forever(const char *path, uint64_t count, int is_idle)
{
    struct timespec wait = {0, READER_PAUSE_NS};
    struct palloc_t *pt = palloc_init(path, PALLOC_READONLY | PALLOC_SHARED);
    const uint64_t *root;

    MUST(pt != NULL && palloc_read_begin(pt) == 0);
    root = (const uint64_t *)palloc_data(pt, palloc_first(pt));
    palloc_read_end(pt);
    while (is_idle)
        pause();
    for (;;) {
        MUST(palloc_read_begin(pt) == 0);
        for (int i = 0; i < 10; i++) {
            size_t k = random_below(count);
            const uint64_t *table = (const uint64_t *)palloc_data(pt, *root);
            MUST(*(const uint64_t *)palloc_data(pt, __atomic_load_n(&table[k], __ATOMIC_ACQUIRE)) == k);
        }
        palloc_read_end(pt);
        nanosleep(&wait, NULL);
    }
}

/* They read `path`, which is open here as `pt`. */
static void start_readers(const char *path, struct palloc_t *pt, struct readers *r, int count, int are_idle, uint64_t blobs)
{
    struct palloc_readers now = {0};

    r->count = count;
    for (int i = 0; i < count; i++) {
        r->pids[i] = fork();
        MUST(r->pids[i] >= 0);
        if (r->pids[i] == 0) {
            seed = (uint64_t)i;
            read_forever(path, blobs, are_idle);
            _exit(1);
        }
    }
    while (count > 0 && now.open < (unsigned)count) { /* one that could not begin ended the run */
        sched_yield();
        MUST(palloc_get_readers(pt, &now) == 0);
    }
}

static void stop_readers(struct readers *r)
{
    for (int i = 0; i < r->count; i++) {
        kill(r->pids[i], SIGKILL);
        MUST(waitpid(r->pids[i], NULL, 0) == r->pids[i]);
    }
}

/* Puts a new blob in the place of one of the table. */
static void replace(struct palloc_t *pt, uint64_t *table, uint64_t count)
{
    size_t k = random_below(count);
    uint64_t old = table[k], blob = palloc(pt, random_size());

    MUST(blob != 0);
    *(uint64_t *)palloc_data(pt, blob) = k;
    __atomic_store_n(&table[k], blob, __ATOMIC_RELEASE);
    pfree(pt, old);
}

static const struct {
    const char *name;
    int shares, readers, are_idle, of_copy;
} kinds[] = {{"not shared", 0, 0, 0, 0},      {"no reader", 1, 0, 0, 0}, {"1 idle reader", 1, 1, 1, 0},  {"16 idle readers", 1, 16, 1, 0},
             {"1 reads a copy", 1, 1, 0, 1}, {"1 reads", 1, 1, 0, 0},   {"16 read a copy", 1, 16, 0, 1}, {"16 read", 1, 16, 0, 0}};

enum { ONE_COPY = 4, ONE, ALL_COPY, ALL, KINDS };

/* `which` of these kinds. */
static void measure_churn(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    struct palloc_t *pt = create(file, kinds[t->which].shares ? PALLOC_SHARED : 0, t->count), *other = NULL;
    uint64_t *table = (uint64_t *)palloc_data(pt, *(uint64_t *)palloc_data(pt, palloc_first(pt)));
    struct readers readers = {.count = 0};
    double start;

    if (kinds[t->which].of_copy)
        other = create(copy, PALLOC_SHARED, t->count);
    seed = 3;
    start_readers(other != NULL ? copy : file, other != NULL ? other : pt, &readers, kinds[t->which].readers, kinds[t->which].are_idle, t->count);
    for (int i = 0; i < t->sections / 4; i++)
        replace(pt, table, t->count);
    start = cpu_ns();
    for (int i = 0; i < t->sections; i++)
        replace(pt, table, t->count);
    figures[0] = (cpu_ns() - start) / t->sections;
    stop_readers(&readers);
    palloc_close(other);
    palloc_close(pt);
}

static void churn(void)
{
    const int rounds = smoke() ? 1 : ROUNDS;
    double costs[2][2];
    int row = 0;

    printf("\n### readers: churn of the writer, ns\n\n| blobs   |");
    for (int which = 0; which < KINDS; which++)
        printf(" %-18s |", kinds[which].name);
    printf("\n| ------: |");
    for (int which = 0; which < KINDS; which++)
        printf(" -----------------: |");
    printf("\n");
    for (uint64_t count = 1000; count <= (smoke() ? 1000 : 100000); count *= 100) {
        double all[KINDS][MAX_ROUNDS], alone;
        for (int round = 0; round < rounds; round++)
            for (int which = 0; which < KINDS; which++) {
                struct task task = {which, count, smoke() ? 1000 : 500000};
                double figures[FIGURES];
                MUST(in_process(measure_churn, &task, figures));
                remove_files();
                all[which][round] = figures[0];
            }
        printf("| %7llu |", (unsigned long long)count);
        alone = median(all[0], rounds);
        for (int which = 0; which < KINDS; which++)
            cell(median(all[which], rounds), alone, 1);
        printf("\n");
        costs[row][0] = median(all[ONE], rounds) / median(all[ONE_COPY], rounds);
        costs[row++][1] = median(all[ALL], rounds) / median(all[ALL_COPY], rounds);
    }
    printf("\n### readers: the writer's churn beside readers, divided by that beside as many which read a copy\n\n"
           "| blobs   | 1 reads | 16 read |\n| ------: | ------: | ------: |\n");
    for (int i = 0; i < row; i++)
        printf("| %7d | %7.2f | %7.2f |\n", i == 0 ? 1000 : 100000, costs[i][0], costs[i][1]);
}

/* --------------------------------------------------------------------------------------------------------------------------- space */

static void space(void)
{
    const uint64_t count = 1000;
    struct palloc_t *pt = create(file, PALLOC_SHARED, count);
    uint64_t *table = (uint64_t *)palloc_data(pt, *(uint64_t *)palloc_data(pt, palloc_first(pt)));
    struct palloc_readers now = {0};
    pid_t reader = fork();
    uint64_t done = 0;

    MUST(reader >= 0);
    if (reader == 0) {
        struct palloc_t *sleeper = palloc_init(file, PALLOC_READONLY | PALLOC_SHARED);
        MUST(sleeper != NULL && palloc_read_begin(sleeper) == 0);
        for (;;)
            pause();
    }
    while (now.reading == 0) {
        sched_yield();
        MUST(palloc_get_readers(pt, &now) == 0);
    }
    printf("\n### readers: space held back by one that sleeps in a section, MiB\n\n"
           "| blobs replaced | held back | medium   |\n| -------------: | --------: | -------: |\n");
    for (uint64_t n = 1000; n <= (smoke() ? 1000 : 1000000); n *= 10) {
        for (; done < n; done++)
            replace(pt, table, count);
        MUST(palloc_get_readers(pt, &now) == 0);
        printf("| %14llu | %9.2f | %8.2f |\n", (unsigned long long)n, (double)now.held_bytes / 1048576, (double)pt->size / 1048576);
    }
    kill(reader, SIGKILL);
    MUST(waitpid(reader, NULL, 0) == reader);
    for (uint64_t n = 0; n < 10 * count; n++, done++)
        replace(pt, table, count);
    MUST(palloc_get_readers(pt, &now) == 0);
    printf("| it was killed  | %9.2f | %8.2f |\n", (double)now.held_bytes / 1048576, (double)pt->size / 1048576);
    palloc_close(pt);
    remove_files();
}

int main(int argc, char **argv)
{
    snprintf(file, sizeof file, "%s/palloc_bench_readers.%d", argc > 1 ? argv[1] : "/dev/shm", (int)getpid());
    snprintf(copy, sizeof copy, "%s-copy", file);
    setvbuf(stdout, NULL, _IOLBF, 0);
    sections();
    churn();
    space();
    return 0;
}
