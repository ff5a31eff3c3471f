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
static int is_fast; /* no disk: each takes a moment */
enum { KNOWN = 32 };
static pthread_t callers[KNOWN]; /* of the first ones */

static int sync_point(int fd, long call)
{
    unsigned number;

    if (is_fast) {
        usleep(50);
        return 0;
    }
    pthread_mutex_lock(&lock);
    if (syncs < KNOWN)
        callers[syncs] = pthread_self();
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

/* A thread that commits a transaction, or frees a blob, or syncs, once or more often, if it has neither. */
struct thread {
    pthread_t id;
    struct palloc_t *pt;
    struct palloc_tx *tx;
    uint64_t ptr;
    unsigned more_syncs;
    int result, error;
    pid_t number; /* of the kernel */
};

static void *run(void *arg)
{
    struct thread *t = arg;

    __atomic_store_n(&t->number, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    errno = 0;
    if (t->ptr != 0)
        pfree(t->pt, t->ptr);
    else
        t->result = t->tx != NULL ? palloc_commit(t->tx) : palloc_sync(t->pt);
    while (t->more_syncs-- > 0)
        t->result |= palloc_sync(t->pt);
    t->error = errno;
    return NULL;
}

static void start_thread(struct thread *t, struct palloc_t *pt, struct palloc_tx *tx, uint64_t ptr, unsigned more_syncs)
{
    memset(t, 0, sizeof *t);
    t->pt = pt;
    t->tx = tx;
    t->ptr = ptr;
    t->more_syncs = more_syncs;
    REQUIRE(pthread_create(&t->id, NULL, run, t) == 0);
}

static void start(struct thread *t, struct palloc_t *pt, struct palloc_tx *tx)
{
    start_thread(t, pt, tx, 0, 0);
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

static void *clone_it(void *arg)
{
    struct thread *t = arg;

    __atomic_store_n(&t->number, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    t->result = palloc_snapshot(t->pt, "clone.db", PALLOC_SNAPSHOT_CLONE);
    t->error = errno;
    return NULL;
}

/* Of two syncs at once only one sees that the disk failed. So a clone waits for a palloc_sync, and syncs itself before it shares blocks. */
static void a_clone(void)
{
    struct palloc_t *pt = make(0);
    struct thread sync, clone;

    unlink("clone.db");
    memset(&clone, 0, sizeof clone);
    clone.pt = pt;
    CHECK_EQ_I(palloc_sync(pt), 0);
    memset(palloc_data(pt, blobs[0]), 7, 200);
    hold();
    start(&sync, pt, NULL);
    await_sync(1);
    REQUIRE(pthread_create(&clone.id, NULL, clone_it, &clone) == 0);
    await_sleep(&clone);
    CHECK_EQ_U(syncs, 1);
    allow(1);
    await_sync(2);
    CHECK(pthread_equal(callers[1], clone.id));
    release();
    REQUIRE(pthread_join(sync.id, NULL) == 0 && pthread_join(clone.id, NULL) == 0);
    CHECK_EQ_I(sync.result, 0);
    CHECK(clone.result == 0 || clone.error == EOPNOTSUPP);
    unlink("clone.db");
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

/* A call that has to wait for the disk goes before each that comes later, also before the next one of the thread it waits for. */
static void in_order(void)
{
    enum { CALLS = 5 };
    struct palloc_t *pt = make(PALLOC_SYNC);
    struct palloc_tx *txs[2] = {palloc_begin(pt), palloc_begin(pt)};
    struct thread threads[CALLS];
    unsigned expected[] = {0, 1, 2, 3, 4, 0}, i, at = 0;

    for (i = 0; i < 2; i++)
        REQUIRE(txs[i] != NULL && palloc_tx_alloc(txs[i], 100) != 0 && palloc_tx_store(txs[i], blobs[i], "abcdefgh", 8) == 0);
    hold();
    start_thread(&threads[0], pt, NULL, 0, 1);
    await_sync(1);
    start(&threads[1], pt, txs[0]);
    await_sleep(&threads[1]);
    start(&threads[2], pt, NULL);
    await_sleep(&threads[2]);
    start_thread(&threads[3], pt, NULL, blobs[5], 0);
    await_sleep(&threads[3]);
    start(&threads[4], pt, NULL);
    await_sleep(&threads[4]);
    release();
    for (i = 0; i < CALLS; i++) {
        REQUIRE(pthread_join(threads[i].id, NULL) == 0);
        CHECK_EQ_I(threads[i].result, 0);
    }
    CHECK(syncs < KNOWN);
    for (i = 0; i < syncs; i++) {
        if (at < 5 && pthread_equal(callers[i], threads[expected[at + 1]].id))
            at++;
        CHECK(pthread_equal(callers[i], threads[expected[at]].id));
    }
    CHECK_EQ_U(at, 5);
    palloc_cancel(txs[1]);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

enum { COMMIT, ALLOC_AND_FREE, RESIZE, SYNC, WORKS, HOGS = 3 };
static const char *const work_names[WORKS] = {"palloc_commit", "palloc and pfree", "prealloc", "palloc_sync"};

struct worker {
    pthread_t id;
    struct palloc_t *pt;
    int work;
    uint64_t blob, last;
    unsigned done; /* atomic */
};

static int is_over; /* atomic */

static int do_work(struct worker *w)
{
    struct palloc_tx *tx;
    uint64_t ptr;

    switch (w->work) {
    case COMMIT:
        tx = palloc_begin(w->pt);
        if (tx == NULL || (ptr = palloc_tx_alloc(tx, 100)) == 0 || palloc_tx_store(tx, w->blob, &ptr, sizeof ptr) != 0
            || (w->last != 0 && palloc_tx_free(tx, w->last) != 0) || palloc_commit(tx) != 0)
            return 0;
        w->last = ptr;
        return 1;
    case ALLOC_AND_FREE:
        ptr = palloc(w->pt, 100);
        pfree(w->pt, ptr);
        return ptr != 0;
    case RESIZE:
        ptr = prealloc(w->pt, w->blob, w->done % 2 == 0 ? 700 : 100);
        w->blob = ptr;
        return ptr != 0;
    default:
        return palloc_sync(w->pt) == 0;
    }
}

static void *work_on(void *arg)
{
    struct worker *w = arg;

    while (!__atomic_load_n(&is_over, __ATOMIC_SEQ_CST) && do_work(w))
        __atomic_add_fetch(&w->done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* How many calls the others have made when this one has made some. */
static void one_beside_others(uint32_t flags, int one, int others)
{
    enum { SOME = 5 };
    const unsigned most = flags == 0 && others != SYNC ? 5000000 : 20000;
    struct palloc_t *pt = make(flags);
    struct worker workers[1 + HOGS];
    unsigned i, calls;

    __atomic_store_n(&is_over, 0, __ATOMIC_SEQ_CST);
    for (i = 0; i <= HOGS; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].pt = pt;
        workers[i].work = i == 0 ? one : others;
        workers[i].blob = blobs[i];
    }
    for (i = HOGS + 1; i-- > 0;)
        REQUIRE(pthread_create(&workers[i].id, NULL, work_on, &workers[i]) == 0);
    do {
        usleep(100);
        for (i = 1, calls = 0; i <= HOGS; i++)
            calls += __atomic_load_n(&workers[i].done, __ATOMIC_SEQ_CST);
    } while (__atomic_load_n(&workers[0].done, __ATOMIC_SEQ_CST) < SOME && calls < most);
    if (!CHECK(calls < most))
        DIAG("%s did %u times beside %u times %s, flags %u", work_names[one], workers[0].done, calls, work_names[others], (unsigned)flags);
    __atomic_store_n(&is_over, 1, __ATOMIC_SEQ_CST);
    for (i = 0; i <= HOGS; i++) {
        REQUIRE(pthread_join(workers[i].id, NULL) == 0);
        CHECK(workers[i].blob != 0);
    }
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void nobody_starves(uint32_t flags)
{
    int one, others;

    is_fast = 1;
    for (one = 0; one < WORKS; one++)
        for (others = 0; others < WORKS; others++)
            one_beside_others(flags, one, others);
    is_fast = 0;
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
    POINT("a-clone-and-palloc_sync-are-not-at-the-disk-at-once", a_clone());
    POINT("calls-that-wait-for-the-disk-go-on-in-the-order-in-which-they-came", in_order());
    POINT("no-call-starves-beside-others-that-are-made-all-the-time", nobody_starves(0));
    POINT("with-PALLOC_SYNC-neither", nobody_starves(PALLOC_SYNC));
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
