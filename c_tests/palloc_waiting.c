/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which calls wait for the disk and which do not: fdatasync is a function here that holds a thread until the test lets it go.
 *
 * POSIX only: the system calls of a Windows library are not found by name in the program
 */
#include "palloc_util.h"

#if defined(__linux__)
#include <pthread.h>
#include <sys/syscall.h>

#define FILE_NAME "waiting.db"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned syncs;   /* how many began */
static unsigned allowed; /* that many may return; with `holds` */
static unsigned failing; /* the one with this number fails with EDQUOT; 0: none does */
static int holds;

static int sync_point(int fd, long call)
{
    unsigned number;

    pthread_mutex_lock(&lock);
    number = ++syncs;
    pthread_cond_broadcast(&changed);
    while (holds && allowed < number)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    if (number == failing) {
        errno = EDQUOT;
        return -1;
    }
    return (int)syscall(call, fd);
}

int fdatasync(int fd)
{
    return sync_point(fd, SYS_fdatasync);
}

int fsync(int fd)
{
    return sync_point(fd, SYS_fsync);
}

static void hold(void)
{
    pthread_mutex_lock(&lock);
    holds = 1;
    syncs = allowed = failing = 0;
    pthread_mutex_unlock(&lock);
}

/* Waits until a thread is held in the sync of this number. */
static void await_sync(unsigned number)
{
    pthread_mutex_lock(&lock);
    while (syncs < number)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void allow(unsigned number)
{
    pthread_mutex_lock(&lock);
    allowed = number;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void release(void)
{
    pthread_mutex_lock(&lock);
    holds = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* A thread that commits a transaction, or syncs if it has none. */
struct thread {
    pthread_t id;
    struct palloc_t *pt;
    struct palloc_tx *tx;
    int result, error;
    pid_t number; /* of the kernel */
};

static void *run(void *arg)
{
    struct thread *t = arg;

    __atomic_store_n(&t->number, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    errno = 0;
    t->result = t->tx != NULL ? palloc_commit(t->tx) : palloc_sync(t->pt);
    t->error = errno;
    return NULL;
}

static void start(struct thread *t, struct palloc_t *pt, struct palloc_tx *tx)
{
    memset(t, 0, sizeof *t);
    t->pt = pt;
    t->tx = tx;
    REQUIRE(pthread_create(&t->id, NULL, run, t) == 0);
}

/* Waits until the thread sleeps in its call. */
static void await_sleep(struct thread *t)
{
    char path[64], text[200] = "";
    const char *state;
    FILE *f;

    for (;;) {
        pid_t number = __atomic_load_n(&t->number, __ATOMIC_SEQ_CST);

        snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)number);
        f = number != 0 ? fopen(path, "r") : NULL;
        if (f != NULL) {
            size_t n = fread(text, 1, sizeof text - 1, f);

            text[n] = '\0';
            fclose(f);
            state = strrchr(text, ')');
            if (state != NULL && state[2] == 'S')
                return;
        }
        usleep(1000);
    }
}

static uint64_t count_blobs(struct palloc_t *pt)
{
    struct palloc_stat stat;

    memset(&stat, 0, sizeof stat);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    return stat.live_blobs;
}

static int count_block(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    (void)ptr;
    (void)size;
    *(unsigned *)user += !is_free;
    return 0;
}

enum { BLOBS = 20 };
static uint64_t blobs[BLOBS];

static struct palloc_t *make(uint32_t flags)
{
    struct palloc_t *pt;
    unsigned i;

    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | flags);
    REQUIRE(pt != NULL);
    for (i = 0; i < BLOBS; i++) {
        REQUIRE((blobs[i] = palloc(pt, 200)) != 0);
        memset(palloc_data(pt, blobs[i]), (int)i, 200);
    }
    palloc_cancel(palloc_begin(pt)); /* the logs are there */
    return pt;
}

/* All that needs no disk. If one of these waits, the test ends by a signal. */
static void look_and_prepare(struct palloc_t *pt, struct palloc_tx *tx)
{
    unsigned n = 0, i;
    uint64_t ptr;

    for (i = 2; i < BLOBS; i++) {
        unsigned char *data = palloc_data(pt, blobs[i]);

        CHECK(data != NULL && data[0] == i);
        CHECK(palloc_size(pt, blobs[i]) >= 200);
    }
    for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr))
        n++;
    CHECK_EQ_U(n, BLOBS);
    n = 0;
    CHECK_EQ_I(palloc_walk(pt, count_block, &n), 0);
    CHECK_EQ_U(n, BLOBS);
    CHECK_EQ_U(count_blobs(pt), BLOBS);
    CHECK_EQ_I(palloc_tx_store(tx, blobs[10], "12345678", 8), 0);
    CHECK_EQ_I(palloc_tx_free(tx, blobs[11]), 0);
    palloc_cancel(tx);
    tx = palloc_begin(pt);
    CHECK(tx != NULL);
    palloc_cancel(tx);
}

static void a_commit(void)
{
    unsigned kind, barrier;

    for (kind = 0; kind < 2; kind++) {
        struct palloc_t *pt = make(PALLOC_SYNC);
        struct palloc_tx *tx = palloc_begin(pt), *others[2];
        struct thread t;

        REQUIRE(tx != NULL && palloc_tx_alloc(tx, 100) != 0 && palloc_tx_alloc(tx, 100) != 0);
        if (kind == 1)
            REQUIRE(palloc_tx_store(tx, blobs[0], "abcdefgh", 8) == 0 && palloc_tx_free(tx, blobs[1]) == 0);
        others[0] = palloc_begin(pt);
        others[1] = palloc_begin(pt);
        hold();
        start(&t, pt, tx);
        for (barrier = 1; barrier <= 2; barrier++) {
            await_sync(barrier);
            look_and_prepare(pt, others[barrier - 1]);
            allow(barrier);
        }
        release();
        REQUIRE(pthread_join(t.id, NULL) == 0);
        CHECK_EQ_I(t.result, 0);
        CHECK_EQ_U(syncs, 2);
        CHECK_EQ_U(count_blobs(pt), BLOBS + 2 - kind);
        CHECK_VIEW(pt);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
    }
}

static void a_sync(void)
{
    struct palloc_t *pt = make(0);
    struct palloc_tx *tx;
    struct thread t;
    unsigned i;
    uint64_t ptr;

    ptr = palloc(pt, 200000);
    REQUIRE(ptr != 0);
    memset(palloc_data(pt, ptr), 1, 200000);
    pfree(pt, ptr); /* so that there is room, and the file is cut, which takes more than one sync */
    hold();
    start(&t, pt, NULL);
    for (i = 1; i <= 4; i++) {
        await_sync(i);
        if (i == 1 || i == 4) { /* the file is cut between, with the lock: little is left to write then */
            pfree(pt, blobs[i]);
            CHECK_EQ_U(palloc(pt, 200), blobs[i]);
            CHECK(palloc_data(pt, blobs[i]) != NULL);
            CHECK_EQ_U(prealloc(pt, blobs[i], 20), blobs[i]);
        }
        if (i == 1) { /* and where the file need not grow */
            tx = palloc_begin(pt);
            CHECK(tx != NULL && palloc_tx_alloc(tx, 50) != 0 && palloc_tx_free(tx, blobs[7]) == 0);
            CHECK_EQ_I(palloc_commit(tx), 0);
        }
        allow(i);
    }
    release();
    REQUIRE(pthread_join(t.id, NULL) == 0);
    CHECK_EQ_I(t.result, 0);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

enum { GROUP = 6 };

static void start_group(struct palloc_t *pt, struct thread *threads, uint64_t *news)
{
    struct palloc_tx *txs[GROUP + 1];
    unsigned i;

    for (i = 0; i <= GROUP; i++) {
        txs[i] = palloc_begin(pt);
        REQUIRE(txs[i] != NULL && (news[i] = palloc_tx_alloc(txs[i], 100)) != 0);
        REQUIRE(palloc_tx_store(txs[i], blobs[i], "abcdefgh", 8) == 0 && palloc_tx_free(txs[i], blobs[BLOBS - 1 - i]) == 0);
    }
    hold();
    start(&threads[0], pt, txs[0]);
    await_sync(1);
    for (i = 1; i <= GROUP; i++)
        start(&threads[i], pt, txs[i]);
    for (i = 1; i <= GROUP; i++)
        await_sleep(&threads[i]);
}

static void is_done(struct palloc_t *pt, const uint64_t *news, unsigned i, int done)
{
    char *data = palloc_data(pt, blobs[i]);

    CHECK((palloc_data(pt, news[i]) != NULL) == done);
    CHECK((palloc_data(pt, blobs[BLOBS - 1 - i]) == NULL) == done);
    CHECK(data != NULL && (memcmp(data, "abcdefgh", 8) == 0) == done);
}

static void a_group(void)
{
    struct palloc_t *pt = make(PALLOC_SYNC);
    struct thread threads[GROUP + 1];
    uint64_t news[GROUP + 1];
    unsigned i;

    start_group(pt, threads, news);
    release();
    for (i = 0; i <= GROUP; i++) {
        REQUIRE(pthread_join(threads[i].id, NULL) == 0);
        CHECK_EQ_I(threads[i].result, 0);
        is_done(pt, news, i, 1);
    }
    CHECK_EQ_U(syncs, 4);
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void a_failed_sync(unsigned number)
{
    struct palloc_t *pt = make(PALLOC_SYNC);
    struct thread threads[GROUP + 1];
    uint64_t news[GROUP + 1];
    unsigned i, done;

    start_group(pt, threads, news);
    failing = number;
    release();
    for (i = 0; i <= GROUP; i++) {
        REQUIRE(pthread_join(threads[i].id, NULL) == 0);
        CHECK_EQ_I(threads[i].result, i == 0 ? 0 : -1);
        if (i > 0)
            CHECK_EQ_I(threads[i].error, EDQUOT);
        is_done(pt, news, i, i == 0);
    }
    CHECK_EQ_U(syncs, number);
    for (i = 1; i <= GROUP; i++) { /* these go on, and fail for good */
        CHECK_EQ_I(palloc_commit(threads[i].tx), -1);
        CHECK_ERRNO(EIO);
        palloc_cancel(threads[i].tx);
    }
    CHECK_EQ_U(palloc(pt, 10), 0);
    CHECK_ERRNO(EIO);
    palloc_close(pt);
    failing = 0;
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    done = palloc_data(pt, news[1]) != NULL;
    for (i = 0; i <= GROUP; i++)
        is_done(pt, news, i, i == 0 || done);
    palloc_close(pt);
}

/* A plain call that came while a group was on its way goes before the next group. */
static void a_plain_call(void)
{
    struct palloc_t *pt = make(PALLOC_SYNC);
    struct thread threads[GROUP + 1], plain;
    uint64_t news[GROUP + 1];
    unsigned i;

    start_group(pt, threads, news);
    start(&plain, pt, NULL);
    await_sleep(&plain);
    allow(2);        /* the first transaction is done */
    await_sync(3);   /* the palloc_sync or the next group */
    release();
    REQUIRE(pthread_join(plain.id, NULL) == 0);
    CHECK_EQ_I(plain.result, 0);
    for (i = 0; i <= GROUP; i++) {
        REQUIRE(pthread_join(threads[i].id, NULL) == 0);
        CHECK_EQ_I(threads[i].result, 0);
        is_done(pt, news, i, 1);
    }
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

int main(void)
{
    alarm(tap_seconds(120));
    POINT("no-call-that-needs-no-disk-waits-for-a-commit", a_commit());
    POINT("no-call-without-SYNC-waits-for-palloc_sync", a_sync());
    POINT("threads-that-commit-at-once-share-two-syncs", a_group());
    POINT("a-failed-first-sync-of-a-group-fails-each-transaction-in-it", a_failed_sync(3));
    POINT("a-failed-second-sync-of-a-group-fails-each-transaction-in-it", a_failed_sync(4));
    POINT("palloc_sync-beside-groups-of-transactions", a_plain_call());
    return tap_done();
}

#else
int main(void)
{
    TEST("which-calls-wait-for-the-disk");
    SKIP("fdatasync is not found by name in the program");
    return tap_done();
}
#endif
