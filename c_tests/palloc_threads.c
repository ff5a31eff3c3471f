/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads on one medium, threads on media of their own, and what each of them is told of errors. */

#include "palloc_util.h"

enum { THREADS = 4, STEPS = 15000 };

struct worker {
    pthread_t thread;
    struct palloc_t *pt;
    struct shadow shadow;
    unsigned number;
    int good;
};

static void *work(void *user)
{
    struct worker *w = user;
    struct rng rng = {500 + w->number};
    unsigned k;

    for (k = 0; k < STEPS; k++)
        if (!model_step(w->pt, &w->shadow, &rng)) {
            DIAG("thread %u", w->number);
            return NULL;
        }
    w->good = 1;
    return NULL;
}

/* The blobs of all shadows together are those of the medium, each with its bytes. */
static void all_there(struct worker *workers, struct palloc_t *pt)
{
    struct shadow all;
    unsigned t;
    size_t i;

    shadow_init(&all, 0, 0, 0, 1);
    for (t = 0; t < THREADS; t++)
        for (i = 0; i < workers[t].shadow.count; i++) {
            const struct blob *b = &workers[t].shadow.at[i];
            if (shadow_add(&all, b->ptr, b->size, b->id, b->sure) == SIZE_MAX) {
                DIAG("a blob of thread %u overlaps another one", t);
                return;
            }
        }
    shadow_matches(&all, pt, BY_ADDRESS);
    shadow_free(&all);
}

static void start(struct worker *workers)
{
    unsigned t;

    for (t = 0; t < THREADS; t++) {
        workers[t].number = t;
        workers[t].good = 0;
        shadow_init(&workers[t].shadow, 1000 + t, 2000, 100, 1);
    }
    for (t = 0; t < THREADS; t++)
        REQUIRE(pthread_create(&workers[t].thread, NULL, work, &workers[t]) == 0);
}

static void join(struct worker *workers)
{
    unsigned t;

    for (t = 0; t < THREADS; t++) {
        CHECK_EQ_I(pthread_join(workers[t].thread, NULL), 0);
        CHECK(workers[t].good);
    }
}

static void one_medium(void)
{
    struct worker workers[THREADS];
    struct palloc_t *pt;
    unsigned t;

    TEST("threads-share-a-medium");
    unlink("shared.db");
    pt = palloc_init("shared.db", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (t = 0; t < THREADS; t++)
        workers[t].pt = pt;
    start(workers);
    join(workers);
    all_there(workers, pt);
    CHECK_VIEW(pt);

    TEST("what-threads-left-is-sound-and-complete");
    palloc_close(pt);
    CHECK_SOUND("shared.db");
    pt = palloc_init("shared.db", PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    all_there(workers, pt);
    palloc_close(pt);
    for (t = 0; t < THREADS; t++)
        shadow_free(&workers[t].shadow);
}

static void own_media(void)
{
    struct worker workers[THREADS];
    unsigned t;
    char name[32];

    TEST("threads-work-on-media-of-their-own");
    for (t = 0; t < THREADS; t++) {
        snprintf(name, sizeof name, "own%u.db", t);
        unlink(name);
        workers[t].pt = palloc_init(name, PALLOC_DYNAMIC);
        REQUIRE(workers[t].pt != NULL);
    }
    start(workers);
    join(workers);
    for (t = 0; t < THREADS; t++) {
        snprintf(name, sizeof name, "own%u.db", t);
        shadow_matches(&workers[t].shadow, workers[t].pt, BY_DESCRIPTOR);
        palloc_close(workers[t].pt);
        CHECK_SOUND(name);
        shadow_free(&workers[t].shadow);
    }
}

/* ------------------------------------------------------------------------------------------------- a walk while others allocate */

enum { STABLE = 200 };

struct watcher {
    struct palloc_t *pt;
    uint64_t stable[STABLE], size[STABLE];
    size_t next;        /* of `stable` that this walk has to meet */
    uint64_t last;
    volatile int stop;
    unsigned walks;
};

static int meet(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    struct watcher *w = user;

    if (!CHECK(ptr > w->last) || !CHECK(size >= 16))
        return 1;
    w->last = ptr;
    if (w->next < STABLE && ptr == w->stable[w->next]) {
        if (!CHECK_EQ_I(is_free, 0) || !CHECK_EQ_U(size, w->size[w->next]))
            return 1;
        w->next++;
    } else if (w->next < STABLE && !CHECK(ptr < w->stable[w->next])) {
        return 1; /* it was passed by */
    }
    return 0;
}

static void *watch(void *user)
{
    struct watcher *w = user;

    while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
        struct palloc_stat stat;

        w->next = 0;
        w->last = 0;
        if (!CHECK_EQ_I(palloc_walk(w->pt, meet, w), 0) || !CHECK_EQ_U(w->next, STABLE))
            break;
        if (!CHECK_EQ_I(palloc_stat(w->pt, &stat), 0)
            || !CHECK_EQ_U(8 + stat.live_bytes + stat.free_bytes + 16 * (stat.live_blobs + stat.free_blocks), stat.medium_size))
            break;
        if (w->walks % 16 == 0 && !CHECK_EQ_I(palloc_sync(w->pt), 0))
            break;
        w->walks++;
    }
    return NULL;
}

static void walk_meanwhile(void)
{
    struct worker workers[THREADS];
    struct watcher watcher;
    struct palloc_t *pt;
    pthread_t thread;
    unsigned t, k;

    TEST("a-walk-meets-every-lasting-blob-once-while-others-allocate");
    unlink("walk.db");
    pt = palloc_init("walk.db", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    memset(&watcher, 0, sizeof watcher);
    watcher.pt = pt;
    for (k = 0; k < STABLE; k++) {
        uint64_t gap = palloc(pt, 16 + k * 7 % 300);
        watcher.stable[k] = palloc(pt, 16 + k * 13 % 200);
        watcher.size[k] = palloc_size(pt, watcher.stable[k]);
        blob_write(pt, watcher.stable[k], 70000 + k, 0, watcher.size[k], BY_ADDRESS);
        pfree(pt, gap); /* room between them for the others */
    }
    for (k = 1; k < STABLE; k++)
        if (watcher.stable[k] < watcher.stable[k - 1]) { /* a gap was filled: keep them in order of address */
            uint64_t p = watcher.stable[k], n = watcher.size[k];
            unsigned at = k;
            while (at > 0 && watcher.stable[at - 1] > p) {
                watcher.stable[at] = watcher.stable[at - 1];
                watcher.size[at] = watcher.size[at - 1];
                at--;
            }
            watcher.stable[at] = p;
            watcher.size[at] = n;
        }
    REQUIRE(pthread_create(&thread, NULL, watch, &watcher) == 0);
    for (t = 0; t < THREADS; t++)
        workers[t].pt = pt;
    start(workers);
    join(workers);
    __atomic_store_n(&watcher.stop, 1, __ATOMIC_RELAXED);
    CHECK_EQ_I(pthread_join(thread, NULL), 0);
    CHECK(watcher.walks > 0);
    for (t = 0; t < THREADS; t++) {
        size_t i;
        for (i = 0; i < workers[t].shadow.count; i++)
            pfree(pt, workers[t].shadow.at[i].ptr);
        shadow_free(&workers[t].shadow);
    }
    {
        struct palloc_stat stat;
        CHECK_EQ_I(palloc_stat(pt, &stat), 0);
        CHECK_EQ_U(stat.live_blobs, STABLE);
    }
    CHECK_VIEW(pt);
    palloc_close(pt);
    CHECK_SOUND("walk.db");
}

/* --------------------------------------------------------------------------------------------------------------------- errors */

struct failing {
    pthread_t thread;
    struct palloc_t *pt;
    uint64_t bad;
};

static void *fail(void *user)
{
    struct failing *f = user;
    char number[32];
    unsigned k;

    snprintf(number, sizeof number, "%llu", (unsigned long long)f->bad);
    CHECK_STR(palloc_error(), "");
    for (k = 0; k < 500; k++) {
        errno = 0;
        pfree(f->pt, f->bad);
        if (!CHECK_EQ_I(errno, EINVAL) || !CHECK_STR_CONTAINS(palloc_error(), number))
            break;
        errno = UNTOUCHED;
        if (!CHECK_EQ_U(palloc_size(f->pt, 16), 16) || !CHECK_EQ_I(errno, UNTOUCHED)
            || !CHECK_STR_CONTAINS(palloc_error(), number))
            break;
    }
    return NULL;
}

static void errors(void)
{
    struct failing failing[THREADS];
    struct palloc_t *pt;
    unsigned t;

    TEST("errno-and-palloc_error-are-a-threads-own");
    unlink("errors.db");
    pt = palloc_init("errors.db", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc(pt, 16), 16);
    for (t = 0; t < THREADS; t++) {
        failing[t].pt = pt;
        failing[t].bad = 1000001 + 111111 * t;
        REQUIRE(pthread_create(&failing[t].thread, NULL, fail, &failing[t]) == 0);
    }
    for (t = 0; t < THREADS; t++)
        CHECK_EQ_I(pthread_join(failing[t].thread, NULL), 0);
    CHECK_STR(palloc_error(), ""); /* nothing failed in this thread */
    palloc_close(pt);
    CHECK_SOUND("errors.db");
}

/* Only one of many threads can have the medium open. */
static void *open_it(void *user)
{
    unsigned *count = user, k;

    for (k = 0; k < 200; k++) {
        struct palloc_t *pt = palloc_init("race.db", PALLOC_DYNAMIC);
        if (pt == NULL) {
            CHECK_ERRNO(EWOULDBLOCK);
            continue;
        }
        (*count)++;
        CHECK(palloc(pt, 100) != 0);
        palloc_close(pt);
    }
    return NULL;
}

static void openings(void)
{
    pthread_t threads[THREADS];
    unsigned counts[THREADS] = {0}, t, sum = 0;
    struct palloc_t *pt;
    struct palloc_stat stat;

    TEST("of-threads-that-open-a-medium-one-at-a-time-gets-it");
    unlink("race.db");
    for (t = 0; t < THREADS; t++)
        REQUIRE(pthread_create(&threads[t], NULL, open_it, &counts[t]) == 0);
    for (t = 0; t < THREADS; t++) {
        CHECK_EQ_I(pthread_join(threads[t], NULL), 0);
        sum += counts[t];
    }
    pt = palloc_init("race.db", PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, sum);
    palloc_close(pt);
    CHECK_SOUND("race.db");
}

int main(void)
{
    one_medium();
    own_media();
    walk_meanwhile();
    errors();
    openings();
    return tap_done();
}
