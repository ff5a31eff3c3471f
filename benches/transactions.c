/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Transactions beside those of other engines. One transaction makes 3 new blobs of 100 bytes, frees 2 old ones, and stores 2 words of 8
 * bytes in a blob (a row, a record) that stays.
 *
 *   transactions [DIRECTORY [DISK]]     files are made there and removed: in a tmpfs (/dev/shm), and on a disk (.)
 *
 * durable   on the disk when the commit returns: wall-clock time, and syncs. A sync is a call of fdatasync, fsync or msync, or a write
 *           to a descriptor with O_DSYNC. The engines take turns in each round
 * amortised syncs of many transactions of libpalloc: those of palloc_commit, and those of the calls before it
 * memory    without PALLOC_SYNC, beside libpmemobj that only flushes caches: CPU time
 * threads   1, 2, 4 and 8 threads with transactions of their own on one durable medium
 * leaks     of a program that is killed in "allocate, fill, link" and "unlink, free", with transactions and with plain calls
 */
#include "bench.h"
#include "syncs.h"
#include "tx_peer.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <palloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#if defined(__has_include)
#if __has_include(<lmdb.h>)
#include <lmdb.h>
#define HAS_LMDB 1
#endif
#if __has_include(<sqlite3.h>)
#include <sqlite3.h>
#define HAS_SQLITE 1
#endif
#endif

enum { OLD = 64, MOST_PEERS = 6, ROUNDS = 3 };

static char file[PATH_MAX + 40], disk_file[PATH_MAX + 40];

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t at)
{
    syncs += (fcntl(descriptor, F_GETFL) & O_DSYNC) != 0;
    return syscall(SYS_pwrite64, descriptor, bytes, size, at);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t at)
{
    return pwrite(descriptor, bytes, size, at);
}

/* ---------------------------------------------------------------------------------------------------------------------- libpalloc */

struct ours {
    struct palloc_t *pt;
    uint64_t words;
};

static void *our_create(const char *path, int durable)
{
    struct ours *m = (struct ours *)malloc(sizeof *m);

    m->pt = palloc_init(path, PALLOC_DYNAMIC | (durable ? PALLOC_SYNC : 0));
    m->words = m->pt != NULL ? palloc(m->pt, WORDS * 8) : 0;
    return m->words != 0 ? m : NULL;
}

static void our_close(void *medium)
{
    palloc_close(((struct ours *)medium)->pt);
    free(medium);
}

/* NULL on failure. */
static struct palloc_tx *our_changes(struct ours *m, const uint64_t *gone, int freed, uint64_t *news, const char *bytes, uint64_t value)
{
    struct palloc_tx *tx = palloc_begin(m->pt);
    int failed = tx == NULL;

    for (int i = 0; i < NEWS && !failed; i++) {
        news[i] = palloc_tx_alloc(tx, BLOB);
        if (!(failed = news[i] == 0))
            memcpy(palloc_tx_data(tx, news[i]), bytes, BLOB);
    }
    for (int i = 0; i < freed && !failed; i++)
        failed = palloc_tx_free(tx, gone[i]) != 0;
    for (uint64_t i = 0; i < WORDS && !failed; i++)
        failed = palloc_tx_store(tx, m->words + 8 * i, &value, 8) != 0;
    return failed ? NULL : tx;
}

static int our_run(void *medium, const uint64_t *gone, int freed, uint64_t *news, const char *bytes, uint64_t value)
{
    struct palloc_tx *tx = our_changes((struct ours *)medium, gone, freed, news, bytes, value);

    return tx != NULL && palloc_commit(tx) == 0;
}

/* --------------------------------------------------------------------------------------------------------------------------- LMDB */

#if defined(HAS_LMDB)

static struct {
    int (*env_create)(MDB_env **);
    int (*env_open)(MDB_env *, const char *, unsigned, mdb_mode_t);
    int (*env_set_mapsize)(MDB_env *, size_t);
    void (*env_close)(MDB_env *);
    int (*txn_begin)(MDB_env *, MDB_txn *, unsigned, MDB_txn **);
    int (*txn_commit)(MDB_txn *);
    int (*dbi_open)(MDB_txn *, const char *, unsigned, MDB_dbi *);
    int (*put)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *, unsigned);
    int (*del)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
} lmdb;

struct lmdb_medium {
    MDB_env *env;
    uint64_t next;
    char path[sizeof disk_file];
};

static void *lmdb_create(const char *path, int durable)
{
    struct lmdb_medium *m = (struct lmdb_medium *)calloc(1, sizeof *m);

    (void)durable;
    m->next = 1000; /* smaller keys are the words */
    snprintf(m->path, sizeof m->path, "%s", path);
    if (lmdb.env_create(&m->env) != 0 || lmdb.env_set_mapsize(m->env, 256 << 20) != 0 || lmdb.env_open(m->env, path, MDB_NOSUBDIR, 0600) != 0)
        return NULL;
    return m;
}

static void lmdb_close(void *medium)
{
    struct lmdb_medium *m = (struct lmdb_medium *)medium;
    char lock[sizeof disk_file + 8];

    lmdb.env_close(m->env);
    snprintf(lock, sizeof lock, "%s-lock", m->path);
    unlink(lock);
    free(m);
}

static int lmdb_run(void *medium, const uint64_t *gone, int freed, uint64_t *news, const char *bytes, uint64_t value)
{
    struct lmdb_medium *m = (struct lmdb_medium *)medium;
    MDB_txn *txn;
    MDB_dbi table;
    int failed = lmdb.txn_begin(m->env, NULL, 0, &txn) != 0 || lmdb.dbi_open(txn, NULL, MDB_INTEGERKEY, &table) != 0;

    for (int i = 0; i < NEWS && !failed; i++) {
        news[i] = m->next++;
        MDB_val key = {8, &news[i]}, data = {BLOB, (void *)bytes};
        failed = lmdb.put(txn, table, &key, &data, 0);
    }
    for (int i = 0; i < freed && !failed; i++) {
        MDB_val key = {8, (void *)&gone[i]};
        failed = lmdb.del(txn, table, &key, NULL);
    }
    for (uint64_t i = 0; i < WORDS && !failed; i++) {
        MDB_val key = {8, &i}, data = {8, &value};
        failed = lmdb.put(txn, table, &key, &data, 0);
    }
    return !failed && lmdb.txn_commit(txn) == 0;
}

static int has_lmdb(void)
{
    void *library = dlopen("liblmdb.so.0", RTLD_NOW);

    if (library == NULL)
        return 0;
    *(void **)&lmdb.env_create = dlsym(library, "mdb_env_create");
    *(void **)&lmdb.env_open = dlsym(library, "mdb_env_open");
    *(void **)&lmdb.env_set_mapsize = dlsym(library, "mdb_env_set_mapsize");
    *(void **)&lmdb.env_close = dlsym(library, "mdb_env_close");
    *(void **)&lmdb.txn_begin = dlsym(library, "mdb_txn_begin");
    *(void **)&lmdb.txn_commit = dlsym(library, "mdb_txn_commit");
    *(void **)&lmdb.dbi_open = dlsym(library, "mdb_dbi_open");
    *(void **)&lmdb.put = dlsym(library, "mdb_put");
    *(void **)&lmdb.del = dlsym(library, "mdb_del");
    return 1;
}

static const struct tx_peer lmdb_peer = {"LMDB", lmdb_create, lmdb_close, lmdb_run};
#endif

/* ------------------------------------------------------------------------------------------------------------------------- SQLite */

#if defined(HAS_SQLITE)

static struct {
    int (*open)(const char *, sqlite3 **);
    int (*exec)(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
    int (*close)(sqlite3 *);
    int (*prepare)(sqlite3 *, const char *, int, sqlite3_stmt **, const char **);
    int (*bind_int64)(sqlite3_stmt *, int, sqlite3_int64);
    int (*bind_blob)(sqlite3_stmt *, int, const void *, int, void (*)(void *));
    int (*step)(sqlite3_stmt *);
    int (*reset)(sqlite3_stmt *);
    int (*finalize)(sqlite3_stmt *);
} lite;

enum { BEGIN, INSERT, DELETE, UPDATE, COMMIT, STATEMENTS };

struct lite_medium {
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENTS];
    uint64_t next;
};

static void *lite_create(const char *path, const char *journal)
{
    static const char *const texts[STATEMENTS] = {"BEGIN IMMEDIATE", "INSERT INTO t VALUES(?, ?)", "DELETE FROM t WHERE id = ?",
                                                  "UPDATE w SET value = ? WHERE id = ?", "COMMIT"};
    struct lite_medium *m = (struct lite_medium *)calloc(1, sizeof *m);
    char sql[400];

    m->next = 1;
    snprintf(sql, sizeof sql,
             "PRAGMA journal_mode=%s; PRAGMA synchronous=FULL; CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB);"
             "CREATE TABLE w(id INTEGER PRIMARY KEY, value INTEGER); INSERT INTO w VALUES(0, 0); INSERT INTO w VALUES(1, 0);",
             journal);
    if (lite.open(path, &m->db) != 0 || lite.exec(m->db, sql, NULL, NULL, NULL) != 0)
        return NULL;
    for (int i = 0; i < STATEMENTS; i++)
        MUST(lite.prepare(m->db, texts[i], -1, &m->statements[i], NULL) == 0);
    return m;
}

static void *lite_create_wal(const char *path, int durable)
{
    (void)durable;
    return lite_create(path, "WAL");
}

static void *lite_create_delete(const char *path, int durable)
{
    (void)durable;
    return lite_create(path, "DELETE");
}

static void lite_close(void *medium)
{
    struct lite_medium *m = (struct lite_medium *)medium;

    for (int i = 0; i < STATEMENTS; i++)
        lite.finalize(m->statements[i]);
    lite.close(m->db);
    free(m);
}

static int lite_step(sqlite3_stmt *statement)
{
    return lite.step(statement) == SQLITE_DONE && lite.reset(statement) == 0;
}

static int lite_run(void *medium, const uint64_t *gone, int freed, uint64_t *news, const char *bytes, uint64_t value)
{
    struct lite_medium *m = (struct lite_medium *)medium;
    int good = lite_step(m->statements[BEGIN]);

    for (int i = 0; i < NEWS && good; i++) {
        news[i] = m->next++;
        lite.bind_int64(m->statements[INSERT], 1, (sqlite3_int64)news[i]);
        lite.bind_blob(m->statements[INSERT], 2, bytes, BLOB, NULL);
        good = lite_step(m->statements[INSERT]);
    }
    for (int i = 0; i < freed && good; i++) {
        lite.bind_int64(m->statements[DELETE], 1, (sqlite3_int64)gone[i]);
        good = lite_step(m->statements[DELETE]);
    }
    for (int i = 0; i < WORDS && good; i++) {
        lite.bind_int64(m->statements[UPDATE], 1, (sqlite3_int64)value);
        lite.bind_int64(m->statements[UPDATE], 2, i);
        good = lite_step(m->statements[UPDATE]);
    }
    return good && lite_step(m->statements[COMMIT]);
}

static int has_sqlite(void)
{
    void *library = dlopen("libsqlite3.so.0", RTLD_NOW);

    if (library == NULL)
        return 0;
    *(void **)&lite.open = dlsym(library, "sqlite3_open");
    *(void **)&lite.exec = dlsym(library, "sqlite3_exec");
    *(void **)&lite.close = dlsym(library, "sqlite3_close");
    *(void **)&lite.prepare = dlsym(library, "sqlite3_prepare_v2");
    *(void **)&lite.bind_int64 = dlsym(library, "sqlite3_bind_int64");
    *(void **)&lite.bind_blob = dlsym(library, "sqlite3_bind_blob");
    *(void **)&lite.step = dlsym(library, "sqlite3_step");
    *(void **)&lite.reset = dlsym(library, "sqlite3_reset");
    *(void **)&lite.finalize = dlsym(library, "sqlite3_finalize");
    return 1;
}

static const struct tx_peer lite_peers[2] = {
    {"SQLite, WAL, synchronous=FULL", lite_create_wal, lite_close, lite_run},
    {"SQLite, rollback journal (DELETE), FULL", lite_create_delete, lite_close, lite_run},
};
#endif

/* ------------------------------------------------------------------------------------------------------------------------ the work */

/* libpmemobj reads PMEM_IS_PMEM_FORCE when it is loaded: in the process of each measurement. */
static struct tx_peer load(int which, int durable)
{
    struct tx_peer peer = {NULL, NULL, NULL, NULL};
    const struct tx_peer *found = NULL;

    if (which == 0)
        return (struct tx_peer){"libpalloc", our_create, our_close, our_run};
    if (which == 1 || which == 2) {
        MUST(setenv("PMEM_IS_PMEM_FORCE", durable ? "0" : "1", 1) == 0);
        void *library = dlopen("./peer_pmemobj_tx.so", RTLD_NOW);
        if (library != NULL)
            found = (const struct tx_peer *)dlsym(library, "tx_peers") + (which - 1);
    }
#if defined(HAS_LMDB)
    if (which == 3 && has_lmdb())
        found = &lmdb_peer;
#endif
#if defined(HAS_SQLITE)
    if ((which == 4 || which == 5) && has_sqlite())
        found = &lite_peers[which - 4];
#endif
    return found != NULL ? *found : peer;
}

struct task {
    int which, durable, count;
};

enum { MILLISECONDS, SYNCS, FOUND, NAME }; /* figures; the name is in the bytes from there on */

static void measure(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    struct tx_peer peer = load(t->which, t->durable);
    uint64_t *blobs = (uint64_t *)calloc((size_t)(t->count + OLD) * NEWS, sizeof *blobs), *gone = blobs, *news = blobs;
    double *times = (double *)calloc((size_t)t->count, sizeof *times), start_cpu = 0;
    char bytes[BLOB];
    void *medium;

    if (peer.name == NULL)
        return;
    figures[FOUND] = 1;
    snprintf((char *)&figures[NAME], (FIGURES - NAME) * sizeof *figures, "%s", peer.name);
    memset(bytes, 7, sizeof bytes);
    MUST(blobs != NULL && times != NULL && (medium = peer.create(t->durable ? disk_file : file, t->durable)) != NULL);
    for (int i = -OLD; i < t->count; i++, news += NEWS) { /* the first ones free nothing */
        double start = t->durable ? nanoseconds(CLOCK_MONOTONIC) : 0;
        if (i == 0) {
            syncs = 0;
            start_cpu = cpu_ns();
        }
        MUST(peer.run(medium, gone, i < 0 ? 0 : FREED, news, bytes, (uint64_t)(i + OLD)));
        if (i >= 0) {
            gone += FREED;
            times[i] = t->durable ? nanoseconds(CLOCK_MONOTONIC) - start : 0;
        }
    }
    figures[SYNCS] = (double)syncs / t->count;
    figures[MILLISECONDS] = (t->durable ? median(times, t->count) : (cpu_ns() - start_cpu) / t->count) / 1e6;
    peer.close(medium);
}

/* The same for each engine, in turns. */
static void beside_others(int durable)
{
    static double all[MOST_PEERS][2][MAX_ROUNDS], names[MOST_PEERS][FIGURES];
    const int rounds = smoke() ? 1 : durable ? 3 : 5, count = smoke() ? 20 : durable ? 300 : 200000, peers = durable ? 6 : 3;
    double ours = 0;

    for (int round = 0; round < rounds; round++)
        for (int which = 0; which < peers; which++) {
            struct task task = {which, durable, count};
            double figures[FIGURES] = {0};
            if (!in_process(measure, &task, figures)) {
                fprintf(stderr, "%s failed\n", figures[FOUND] > 0 ? (const char *)&figures[NAME] : "a peer");
                MUST(which != 0);
                figures[FOUND] = 0;
            }
            unlink(file), unlink(disk_file);
            if (figures[FOUND] > 0)
                memcpy(names[which], figures, sizeof figures);
            all[which][0][round] = figures[MILLISECONDS];
            all[which][1][round] = figures[SYNCS];
        }
    if (durable)
        printf("\n### transactions: on a disk when the commit returns\n\n"
               "| %-40s | ms     | syncs  |\n| ---------------------------------------- | -----: | -----: |\n", "");
    else
        printf("\n### transactions: without syncs, us of CPU time\n\n"
               "| %-40s | us                 |\n| ---------------------------------------- | -----------------: |\n", "");
    for (int which = 0; which < peers; which++) {
        double time = median(all[which][0], rounds), count_of_syncs = median(all[which][1], rounds);
        if (names[which][FOUND] <= 0)
            continue;
        printf("| %-40s |", (const char *)&names[which][NAME]);
        if (durable) {
            printf(" %6.3f | %6.2f |\n", time, count_of_syncs);
        } else {
            ours = which == 0 ? time : ours;
            cell(time * 1e3, ours * 1e3, 2);
            printf("\n");
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------------- amortised syncs */

enum { IN_COMMIT, ELSEWHERE };

/* Of many transactions, one after the other: those of palloc_commit, and those of the calls before it. */
static void count_syncs(void *arg, double *figures)
{
    const int count = *(const int *)arg;
    uint64_t *blobs = (uint64_t *)calloc((size_t)(count + OLD) * NEWS, sizeof *blobs), *gone = blobs, *news = blobs;
    unsigned in_commit = 0, all = 0;
    char bytes[BLOB] = {7};
    struct ours *m;

    MUST(blobs != NULL && (m = (struct ours *)our_create(file, 1)) != NULL);
    for (int i = -OLD; i < count; i++, news += NEWS) {
        const unsigned before = syncs;
        struct palloc_tx *tx = our_changes(m, gone, i < 0 ? 0 : FREED, news, bytes, 0);
        const unsigned at_commit = syncs;
        MUST(tx != NULL && palloc_commit(tx) == 0);
        if (i >= 0) {
            gone += FREED;
            all += syncs - before;
            in_commit += syncs - at_commit;
        }
    }
    figures[IN_COMMIT] = (double)in_commit / count;
    figures[ELSEWHERE] = (double)(all - in_commit) / count;
    our_close(m);
}

static void amortised(void)
{
    int count = smoke() ? 200 : 10000;
    double figures[FIGURES] = {0};

    MUST(in_process(count_syncs, &count, figures));
    unlink(file);
    printf("\n### transactions: syncs of one, amortised over %d\n\n"
           "|                                  | syncs  |\n| -------------------------------- | -----: |\n"
           "| palloc_commit                    | %6.4f |\n| regions, and growth of the file  | %6.4f |\n",
           count, figures[IN_COMMIT], figures[ELSEWHERE]);
}

/* ------------------------------------------------------------------------------------------------------------------------ threads */

struct worker {
    struct ours medium;
    pthread_t thread;
    pthread_barrier_t *barrier;
    int count;
};

static void *work(void *arg)
{
    struct worker *w = (struct worker *)arg;
    uint64_t *blobs = (uint64_t *)calloc((size_t)w->count * NEWS + NEWS, sizeof *blobs), *gone = blobs, *news = blobs;
    char bytes[BLOB] = {7};

    MUST(blobs != NULL && our_run(&w->medium, NULL, 0, news, bytes, 0));
    news += NEWS;
    pthread_barrier_wait(w->barrier);
    for (int i = 0; i < w->count; i++, gone += FREED, news += NEWS)
        MUST(our_run(&w->medium, gone, FREED, news, bytes, (uint64_t)i));
    free(blobs);
    return NULL;
}

static void measure_threads(void *arg, double *figures)
{
    const struct task *t = (const struct task *)arg;
    struct palloc_t *pt = palloc_init(disk_file, PALLOC_DYNAMIC | PALLOC_SYNC);
    pthread_barrier_t barrier;
    struct worker workers[8];
    double start;

    MUST(pt != NULL && t->which <= 8 && pthread_barrier_init(&barrier, NULL, (unsigned)t->which + 1) == 0);
    for (int i = 0; i < t->which; i++) {
        workers[i] = (struct worker){.medium = {pt, palloc(pt, WORDS * 8)}, .barrier = &barrier, .count = t->count};
        MUST(workers[i].medium.words != 0 && pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    pthread_barrier_wait(&barrier);
    syncs = 0;
    start = nanoseconds(CLOCK_MONOTONIC);
    for (int i = 0; i < t->which; i++)
        MUST(pthread_join(workers[i].thread, NULL) == 0);
    figures[MILLISECONDS] = (nanoseconds(CLOCK_MONOTONIC) - start) / 1e6 / t->count / t->which;
    figures[SYNCS] = (double)syncs / t->count / t->which;
    palloc_close(pt);
}

static void threads(void)
{
    printf("\n### transactions: threads on one durable medium; of a transaction\n\n"
           "| threads | ms     | syncs  |\n| ------: | -----: | -----: |\n");
    for (int count = 1; count <= 8; count *= 2) {
        double times[ROUNDS], counts[ROUNDS];
        int rounds = smoke() ? 1 : ROUNDS;
        for (int round = 0; round < rounds; round++) {
            struct task task = {count, 1, smoke() ? 10 : 200};
            double figures[FIGURES];
            MUST(in_process(measure_threads, &task, figures));
            unlink(disk_file);
            times[round] = figures[MILLISECONDS];
            counts[round] = figures[SYNCS];
        }
        printf("| %7d | %6.3f | %6.2f |\n", count, median(times, rounds), median(counts, rounds));
    }
}

/* -------------------------------------------------------------------------------------------------------------------------- leaks */

/* A stack: the first blob is the root, which has the offset of the first node; each node begins with that of the next. */
static void push_and_pop(struct palloc_t *pt, uint64_t root, int with_transactions)
{
    uint64_t depth = 0, value;

    for (uint64_t at = *(uint64_t *)palloc_data(pt, root); at != 0; at = *(uint64_t *)palloc_data(pt, at))
        depth++;
    for (;;) {
        uint64_t first = *(uint64_t *)palloc_data(pt, root);
        int pushes = depth < 2 || (depth < 50 && random_below(2) == 0);
        struct palloc_tx *tx = with_transactions ? palloc_begin(pt) : NULL;
        if (pushes) {
            uint64_t node = with_transactions ? palloc_tx_alloc(tx, BLOB) : palloc(pt, BLOB);
            char *bytes = (char *)(with_transactions ? palloc_tx_data(tx, node) : palloc_data(pt, node));
            MUST(bytes != NULL);
            memset(bytes, 7, BLOB);
            memcpy(bytes, &first, sizeof first);
            value = node;
        } else {
            value = *(uint64_t *)palloc_data(pt, first);
        }
        if (with_transactions) {
            MUST(palloc_tx_store(tx, root, &value, 8) == 0 && (pushes || palloc_tx_free(tx, first) == 0) && palloc_commit(tx) == 0);
        } else {
            *(volatile uint64_t *)palloc_data(pt, root) = value;
            if (!pushes)
                pfree(pt, first);
        }
        depth += pushes ? 1 : (uint64_t)-1;
    }
}

static uint64_t leaks_after_kills(int kills, int with_transactions)
{
    struct palloc_t *pt = palloc_init(file, PALLOC_DYNAMIC);
    uint64_t root = pt != NULL ? palloc(pt, 8) : 0, leaks = 0;

    MUST(root != 0);
    *(uint64_t *)palloc_data(pt, root) = 0;
    palloc_close(pt);
    seed = 5;
    for (int k = 0; k < kills; k++) {
        struct timespec wait = {0, 200000 + (long)random_below(2000000)};
        struct palloc_stat stat;
        uint64_t reached = 1;
        pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            seed += (uint64_t)k;
            if ((pt = palloc_init(file, PALLOC_DEFAULT)) != NULL)
                push_and_pop(pt, root, with_transactions);
            _exit(1);
        }
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
        MUST(waitpid(child, NULL, 0) == child);
        MUST((pt = palloc_init(file, PALLOC_DEFAULT)) != NULL);
        for (uint64_t at = *(uint64_t *)palloc_data(pt, root); at != 0; at = *(uint64_t *)palloc_data(pt, at), reached++)
            MUST(palloc_data(pt, at) != NULL);
        MUST(palloc_stat(pt, &stat) == 0);
        leaks = stat.live_blobs - reached;
        palloc_close(pt);
    }
    unlink(file);
    return leaks;
}

static void leaks(void)
{
    const char *wanted = getenv("BENCH_KILLS");
    int kills = smoke() ? 5 : wanted != NULL ? atoi(wanted) : 1000;

    printf("\n### transactions: blobs that nothing leads to after %d kills\n\n|                          | leaks  |\n"
           "| ------------------------ | -----: |\n", kills);
    printf("| transactions             | %6llu |\n", (unsigned long long)leaks_after_kills(kills, 1));
    printf("| plain calls and stores   | %6llu |\n", (unsigned long long)leaks_after_kills(kills, 0));
}

int main(int argc, char **argv)
{
    snprintf(file, sizeof file, "%s/palloc_bench_tx.%d", argc > 1 ? argv[1] : "/dev/shm", (int)getpid());
    snprintf(disk_file, sizeof disk_file, "%s/palloc_bench_tx_durable.%d", argc > 2 ? argv[2] : ".", (int)getpid());
    setvbuf(stdout, NULL, _IOLBF, 0);
    beside_others(1);
    amortised();
    threads();
    beside_others(0);
    fflush(stdout);
    leaks();
    return 0;
}
