/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The cost of durability: wall-clock time of one change that is on the disk when the call returns, the median of some hundred. An
 * order of magnitude only: it is the disk's time, and other programs use the disk too.
 *
 *   sync [DIRECTORY]     files are made there (the working directory), which should be on a real disk, and removed
 *
 * palloc    PALLOC_SYNC: one pfree and one palloc of 100 bytes; then the same and a write of the blob
 * LMDB      one write transaction that deletes a record of 100 bytes and puts one
 * SQLite    synchronous=FULL: one transaction that deletes a row of 100 bytes and inserts one, with a rollback journal and with WAL
 *
 * And the calls of two other threads during palloc_sync of a medium of which 256 MiB were stored to: the longest of each kind, beside the
 * longest of as many as fit into the same time without a palloc_sync. The median of five.
 */
#include <dlfcn.h>
#include <palloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<lmdb.h>)
#include <lmdb.h>
#define HAS_LMDB 1
#endif
#endif

#define COUNT 300

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print(const char *name, double *times)
{
    qsort(times, COUNT, sizeof(*times), compare);
    printf("%-44s %8.3f ms\n", name, times[COUNT / 2]);
}

static int with_palloc(int writes)
{
    struct palloc_t *pt = palloc_init("sync_bench.pba", PALLOC_DYNAMIC | PALLOC_SYNC);
    double times[COUNT];
    uint64_t ptrs[64] = {0};
    char bytes[100];
    unsigned i;

    if (pt == NULL) {
        fprintf(stderr, "%s\n", palloc_error());
        return 1;
    }
    memset(bytes, 7, sizeof(bytes));
    for (i = 0; i < 64; i++)
        ptrs[i] = palloc(pt, sizeof(bytes));
    for (i = 0; i < COUNT; i++) {
        double start = now_ms();
        uint64_t *ptr = &ptrs[i * 37 % 64];
        pfree(pt, *ptr);
        *ptr = palloc(pt, sizeof(bytes));
        if (*ptr == 0 || (writes && pwrite(pt->descriptor, bytes, sizeof(bytes), (off_t)*ptr) != (ssize_t)sizeof(bytes))) {
            fprintf(stderr, "%s\n", palloc_error());
            return 1;
        }
        times[i] = now_ms() - start;
    }
    palloc_close(pt);
    unlink("sync_bench.pba");
    print(writes ? "palloc: pfree, palloc, pwrite" : "palloc: pfree, palloc", times);
    return 0;
}

/* A library that is called through dlopen, so that nothing more has to be linked. */
static int skipped(const char *name, const char *why)
{
    printf("%-44s skipped: %s\n", name, why);
    return 0;
}

static int with_lmdb(void)
{
#if defined(HAS_LMDB)
    void *library = dlopen("liblmdb.so.0", RTLD_NOW);
    int (*create)(MDB_env **), (*open)(MDB_env *, const char *, unsigned, mdb_mode_t), (*open_table)(MDB_txn *, const char *, unsigned, MDB_dbi *);
    int (*begin)(MDB_env *, MDB_txn *, unsigned, MDB_txn **), (*del)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
    int (*put)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *, unsigned), (*commit)(MDB_txn *);
    void (*close)(MDB_env *);
    double times[COUNT];
    char bytes[100];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
    unsigned i;

    if (library == NULL)
        return skipped("LMDB", "no liblmdb.so.0");
    *(void **)&create = dlsym(library, "mdb_env_create");
    *(void **)&open = dlsym(library, "mdb_env_open");
    *(void **)&open_table = dlsym(library, "mdb_dbi_open");
    *(void **)&begin = dlsym(library, "mdb_txn_begin");
    *(void **)&del = dlsym(library, "mdb_del");
    *(void **)&put = dlsym(library, "mdb_put");
    *(void **)&commit = dlsym(library, "mdb_txn_commit");
    *(void **)&close = dlsym(library, "mdb_env_close");
    memset(bytes, 7, sizeof(bytes));
    unlink("sync_bench.lmdb");
    if (create(&env) != 0 || open(env, "sync_bench.lmdb", MDB_NOSUBDIR, 0660) != 0)
        return 1;
    for (i = 0; i < COUNT; i++) {
        unsigned gone = i - 64;
        MDB_val old = {sizeof(gone), &gone}, key = {sizeof(i), &i}, value = {sizeof(bytes), bytes};
        double start = now_ms();
        if (begin(env, NULL, 0, &txn) != 0 || open_table(txn, NULL, 0, &table) != 0)
            return 1;
        if ((i >= 64 && del(txn, table, &old, NULL) != 0) || put(txn, table, &key, &value, 0) != 0 || commit(txn) != 0)
            return 1;
        times[i] = now_ms() - start;
    }
    close(env);
    unlink("sync_bench.lmdb");
    unlink("sync_bench.lmdb-lock");
    print("LMDB: a write transaction", times);
    return 0;
#else
    return skipped("LMDB", "no lmdb.h when this was built");
#endif
}


static int with_sqlite(const char *journal)
{
    void *library = dlopen("libsqlite3.so.0", RTLD_NOW);
    int (*open)(const char *, void **), (*exec)(void *, const char *, void *, void *, char **), (*close)(void *);
    char sql[400], name[64];
    double times[COUNT];
    void *db = NULL;
    unsigned i;

    if (library == NULL)
        return skipped("SQLite", "no libsqlite3.so.0");
    *(void **)&open = dlsym(library, "sqlite3_open");
    *(void **)&exec = dlsym(library, "sqlite3_exec");
    *(void **)&close = dlsym(library, "sqlite3_close");
    unlink("sync_bench.sqlite");
    snprintf(sql, sizeof(sql), "PRAGMA journal_mode=%s; PRAGMA synchronous=FULL; CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB);", journal);
    if (open("sync_bench.sqlite", &db) != 0 || exec(db, sql, NULL, NULL, NULL) != 0)
        return 1;
    for (i = 0; i < COUNT; i++) {
        double start = now_ms();
        snprintf(sql, sizeof(sql), "BEGIN; DELETE FROM t WHERE id = %u; INSERT INTO t VALUES(%u, zeroblob(100)); COMMIT;", i - 64, i);
        if (exec(db, sql, NULL, NULL, NULL) != 0)
            return 1;
        times[i] = now_ms() - start;
    }
    close(db);
    unlink("sync_bench.sqlite");
    snprintf(name, sizeof(name), "SQLite: a transaction, journal_mode=%s", journal);
    print(name, times);
    return 0;
}

#define BLOBS 256
#define BLOB_SIZE (1 << 20)
#define ROUNDS 5

/* Calls of another thread, until `stop`. */
struct caller {
    struct palloc_t *pt;
    uint64_t ptr; /* of a blob, for palloc_data */
    int allocates;
    double longest;
    atomic_int stop;
    pthread_t thread;
};

static void *call(void *argument)
{
    struct caller *caller = argument;
    volatile char sink = 0;
    double start = now_ms();

    while (!atomic_load(&caller->stop)) {
        double end;
        if (caller->allocates) {
            uint64_t ptr = palloc(caller->pt, 100);
            if (ptr == 0)
                exit(1);
            pfree(caller->pt, ptr);
        } else {
            sink += *(char *)palloc_data(caller->pt, caller->ptr);
        }
        end = now_ms();
        if (end - start > caller->longest)
            caller->longest = end - start;
        start = end;
    }
    return NULL;
}

/* Syncs, or with `syncs` 0 sleeps for so many ms. Returns how long it took; the longest calls meanwhile are in `longest`. */
static double beside(struct palloc_t *pt, uint64_t ptr, int syncs, double ms, double longest[2])
{
    struct caller callers[2] = {{.pt = pt, .ptr = ptr}, {.pt = pt, .allocates = 1}};
    double start;
    int i;

    for (i = 0; i < 2; i++)
        if (pthread_create(&callers[i].thread, NULL, call, &callers[i]) != 0)
            exit(1);
    start = now_ms();
    if (!syncs) {
        struct timespec pause = {.tv_sec = (time_t)(ms / 1e3), .tv_nsec = (long)(ms * 1e6) % 1000000000};
        nanosleep(&pause, NULL);
    } else if (palloc_sync(pt) != 0) {
        fprintf(stderr, "%s\n", palloc_error());
        exit(1);
    }
    ms = now_ms() - start;
    for (i = 0; i < 2; i++) {
        atomic_store(&callers[i].stop, 1);
        pthread_join(callers[i].thread, NULL);
        longest[i] = callers[i].longest;
    }
    return ms;
}

static double median(double *times, int count)
{
    qsort(times, (size_t)count, sizeof(*times), compare);
    return times[count / 2];
}

/* No call of another thread waits for the disk. */
static int calls_beside_a_sync(void)
{
    struct palloc_t *pt = palloc_init("sync_bench.pba", PALLOC_DYNAMIC);
    uint64_t ptrs[BLOBS];
    double time[ROUNDS], data[ROUNDS], pair[ROUNDS], quiet_data[ROUNDS], quiet_pair[ROUNDS], longest[2];
    int i, round;

    for (i = 0; i < BLOBS; i++)
        if (pt == NULL || (ptrs[i] = palloc(pt, BLOB_SIZE)) == 0) {
            fprintf(stderr, "%s\n", palloc_error());
            return 1;
        }
    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < BLOBS; i++)
            memset(palloc_data(pt, ptrs[i]), round + 1, BLOB_SIZE);
        time[round] = beside(pt, ptrs[0], 1, 0, longest);
        data[round] = longest[0];
        pair[round] = longest[1];
        beside(pt, ptrs[0], 0, time[round], longest);
        quiet_data[round] = longest[0];
        quiet_pair[round] = longest[1];
    }
    palloc_close(pt);
    unlink("sync_bench.pba");
    printf("%-44s %8.3f ms\n", "palloc_sync, 256 MiB were stored to", median(time, ROUNDS));
    printf("%-44s %8.3f ms (no sync: %.3f)\n", "  the longest palloc_data meanwhile", median(data, ROUNDS), median(quiet_data, ROUNDS));
    printf("%-44s %8.3f ms (no sync: %.3f)\n", "  the longest palloc and pfree meanwhile", median(pair, ROUNDS), median(quiet_pair, ROUNDS));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && chdir(argv[1]) != 0) {
        perror(argv[1]);
        return 1;
    }
    return with_palloc(0) || with_palloc(1) || with_lmdb() || with_sqlite("DELETE") || with_sqlite("WAL") || calls_beside_a_sync();
}
