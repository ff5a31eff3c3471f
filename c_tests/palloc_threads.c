/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads on one medium, threads on media of their own, and the errors that each of them sees. */

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

/* -------------------------------------------------------------------------------------------------- readers beside a writer */

enum { READERS = 3, KNOWN = 4096 };

/* Blobs that the writer has filled and never frees: each begins with its own offset and size. */
struct known {
    struct palloc_t *pt;
    uint64_t at[KNOWN];
    unsigned count; /* published by the writer */
    int stop;
};

struct reader {
    pthread_t thread;
    struct known *known;
    unsigned number;
    uint64_t reads;
};

static int reads_right(struct palloc_t *pt, uint64_t ptr)
{
    uint64_t *data = palloc_data(pt, ptr), size = palloc_size(pt, ptr), next = palloc_next(pt, ptr);
    const uint64_t *at = palloc_at(pt, ptr);
    const uint8_t *last = palloc_at(pt, ptr + size - 1);

    return CHECK(data != NULL && at != NULL && last != NULL) && CHECK_EQ_U(data[0], ptr) && CHECK_EQ_U(at[0], ptr) && CHECK_EQ_U(at[1], size)
        && CHECK_EQ_U(*last, ptr / 16 % 251) && CHECK(next == 0 || next >= ptr + size + 16);
}

static void *read_them(void *user)
{
    struct reader *r = user;
    struct rng rng = {900 + r->number};

    while (!__atomic_load_n(&r->known->stop, __ATOMIC_RELAXED)) {
        unsigned count = __atomic_load_n(&r->known->count, __ATOMIC_ACQUIRE), k;
        for (k = 0; k < 64 && count > 0; k++, r->reads++)
            if (!reads_right(r->known->pt, r->known->at[k % 2 ? count - 1 : rng_below(&rng, count)]))
                return NULL;
    }
    return NULL;
}

/*
 * The writer allocates, frees and resizes blobs of its own; now and then it syncs, and it makes a blob that the readers get. The medium
 * grows to more than `grow` bytes, and is cut again when the large blobs at its end are freed.
 */
static void write_beside_readers(struct known *known, uint64_t grow, unsigned rounds)
{
    uint64_t own[64] = {0};
    struct rng rng = {77};
    unsigned k;

    for (k = 0; k < rounds; k++) {
        uint64_t i = rng_below(&rng, 64), size = 16 + rng_below(&rng, k % 5 ? 500 : 40000), ptr, *data;
        if (own[i] != 0 && k % 3) {
            pfree(known->pt, own[i]);
            own[i] = 0;
        } else if (!CHECK((own[i] = prealloc(known->pt, own[i], size)) != 0)) {
            return;
        }
        if (k % 1000 == 500) {
            ptr = palloc(known->pt, grow);
            CHECK(ptr != 0 && palloc_at(known->pt, ptr + grow - 1) != NULL);
            pfree(known->pt, ptr);
            CHECK_EQ_I(palloc_sync(known->pt), 0);
        }
        if (k % 8 == 0 && known->count < KNOWN) {
            ptr = palloc(known->pt, 16 + size);
            data = palloc_data(known->pt, ptr);
            if (!CHECK(data != NULL))
                return;
            size = palloc_size(known->pt, ptr);
            data[0] = ptr;
            data[1] = size;
            ((uint8_t *)data)[size - 1] = (uint8_t)(ptr / 16 % 251);
            known->at[known->count] = ptr;
            __atomic_store_n(&known->count, known->count + 1, __ATOMIC_RELEASE);
        }
    }
}

/* Opens the medium while there is little address space, so that its mapping is short. NULL if the system can't limit that. */
static struct palloc_t *with_a_short_mapping(const char *path)
{
    struct palloc_t *pt = NULL;
#ifdef _WIN32
    (void)path;
#else
    struct rlimit all, little;
    uint64_t used = address_space_used();

    REQUIRE(getrlimit(RLIMIT_AS, &all) == 0);
    little = all;
    little.rlim_cur = (rlim_t)(used + 80 * MIB);
    if (used != 0 && setrlimit(RLIMIT_AS, &little) == 0) {
        pt = palloc_init(path, PALLOC_DYNAMIC);
        REQUIRE(setrlimit(RLIMIT_AS, &all) == 0);
        REQUIRE(pt != NULL);
    }
#endif
    return pt;
}

static void readers_beside_a_writer(void)
{
    static struct known known;
    struct reader readers[READERS];
    uint64_t first;
    const void *address;
    unsigned t, round;

    for (round = 0; round < 2; round++) {
        TEST(round == 0 ? "threads-read-blobs-while-another-one-changes-the-medium"
                        : "threads-read-blobs-while-the-medium-outgrows-its-mapping");
        memset(&known, 0, sizeof known);
        unlink("readers.db");
        known.pt = round == 0 ? palloc_init("readers.db", PALLOC_DYNAMIC) : with_a_short_mapping("readers.db");
        if (known.pt == NULL) {
            SKIP("the address space can't be limited here");
            continue;
        }
        first = palloc(known.pt, 16);
        address = palloc_at(known.pt, first);
        for (t = 0; t < READERS; t++) {
            memset(&readers[t], 0, sizeof readers[t]);
            readers[t].known = &known;
            readers[t].number = t;
            REQUIRE(pthread_create(&readers[t].thread, NULL, read_them, &readers[t]) == 0);
        }
        write_beside_readers(&known, 64 * MIB, 8000);
        __atomic_store_n(&known.stop, 1, __ATOMIC_RELAXED);
        for (t = 0; t < READERS; t++) {
            CHECK_EQ_I(pthread_join(readers[t].thread, NULL), 0);
            CHECK(readers[t].reads > 0);
        }
        for (t = 0; t < known.count; t++)
            if (!reads_right(known.pt, known.at[t]))
                break;
        CHECK_VIEW(known.pt);
        if (round == 1 && !is_emulated()) /* else the mapping is as long as the medium can be, but on small systems */
            CHECK(palloc_at(known.pt, first) != address);
        errno = 0;
        CHECK(palloc_at(known.pt, known.pt->size) == NULL);
        CHECK_ERRNO(EINVAL);
        CHECK_STR_CONTAINS(palloc_error(), "palloc_at: ");
        CHECK_STR_CONTAINS(palloc_error(), "the medium ends at or before offset");
        CHECK(palloc_at(known.pt, UINT64_MAX) == NULL);
        palloc_close(known.pt);
        CHECK_SOUND("readers.db");
    }
}

/* ------------------------------------------------------------------------------------------------ threads that allocate and free */

enum { OWN_BLOBS = 500 };

struct churner {
    pthread_t thread;
    struct palloc_t *pt;
    unsigned number, steps;
    uint64_t at[OWN_BLOBS], size[OWN_BLOBS];
    int stop_when_full, good, found_full;
};

/* The first and the last 8 bytes of a blob are its own. */
static void stamp(struct churner *c, unsigned k)
{
    uint8_t *data = palloc_data(c->pt, c->at[k]);
    uint64_t own = c->at[k] * 64 + c->number;

    if (CHECK(data != NULL)) {
        memcpy(data, &own, 8);
        memcpy(data + c->size[k] - 8, &own, 8);
    }
}

static int is_stamped(const struct churner *c, unsigned k)
{
    const uint8_t *data = palloc_data(c->pt, c->at[k]);
    uint64_t own = c->at[k] * 64 + c->number;

    return CHECK(data != NULL) && CHECK(memcmp(data, &own, 8) == 0) && CHECK(memcmp(data + c->size[k] - 8, &own, 8) == 0);
}

static void *churn(void *user)
{
    struct churner *c = user;
    struct rng rng = {40 + c->number};
    unsigned i;

    for (i = 0; i < c->steps; i++) {
        unsigned k = (unsigned)rng_below(&rng, OWN_BLOBS);
        if (c->at[k] != 0) {
            if (!is_stamped(c, k))
                return NULL;
            errno = UNTOUCHED;
            pfree(c->pt, c->at[k]);
            if (!CHECK_ERRNO(UNTOUCHED))
                return NULL;
        }
        c->size[k] = 16 + rng_below(&rng, i % 50 != 0 ? 500 : 5000);
        c->at[k] = palloc(c->pt, c->size[k]);
        if (c->at[k] == 0) {
            c->found_full = 1;
            c->good = c->stop_when_full && CHECK_ERRNO(ENOSPC);
            return NULL;
        }
        stamp(c, k);
    }
    c->good = 1;
    return NULL;
}

static void churn_together(struct churner *churners, struct palloc_t *pt, unsigned steps, int stop_when_full)
{
    unsigned t, full = 0;

    for (t = 0; t < THREADS; t++) {
        memset(&churners[t], 0, sizeof churners[t]);
        churners[t].pt = pt;
        churners[t].number = t;
        churners[t].steps = steps;
        churners[t].stop_when_full = stop_when_full;
        REQUIRE(pthread_create(&churners[t].thread, NULL, churn, &churners[t]) == 0);
    }
    for (t = 0; t < THREADS; t++) {
        CHECK_EQ_I(pthread_join(churners[t].thread, NULL), 0);
        CHECK(churners[t].good);
        full += churners[t].found_full != 0;
    }
    /* One that has done its steps before others began, as happens under Wine, finds space. */
    CHECK(!stop_when_full || full > 0);
}

/* All of them are there, and no others. */
static void stamped_and_complete(struct churner *churners, struct palloc_t *pt)
{
    struct palloc_stat stat;
    unsigned t, k;
    uint64_t count = 0;

    for (t = 0; t < THREADS; t++)
        for (k = 0; k < OWN_BLOBS; k++)
            if (churners[t].at[k] != 0 && count++ < UINT64_MAX && !is_stamped(&churners[t], k))
                return;
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, count);
}

static void free_all(struct churner *churners, struct palloc_t *pt)
{
    unsigned t, k;

    for (t = 0; t < THREADS; t++)
        for (k = 0; k < OWN_BLOBS; k++)
            if (churners[t].at[k] != 0)
                pfree(pt, churners[t].at[k]);
}

static void churners_on_one_medium(void)
{
    static struct churner churners[THREADS];
    struct palloc_t *pt;

    TEST("threads-allocate-and-free-on-one-medium-and-no-blob-is-anothers");
    unlink("churn.db");
    pt = palloc_init("churn.db", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    churn_together(churners, pt, 60000, 0);

    TEST("after-a-sync-nothing-stays-with-threads");
    CHECK_EQ_I(palloc_sync(pt), 0);
    file_copy("churn.db", "copy.db");
    CHECK_SOUND("copy.db");
    stamped_and_complete(churners, pt);
    CHECK_VIEW(pt);
    unlink("copy.db");

    TEST("after-a-close-nothing-stays-with-threads");
    free_all(churners, pt);
    churn_together(churners, pt, 30000, 0);
    palloc_close(pt);
    CHECK_SOUND("churn.db");
    pt = palloc_init("churn.db", PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    churners[0].pt = churners[1].pt = churners[2].pt = churners[3].pt = pt;
    stamped_and_complete(churners, pt);
    free_all(churners, pt);
    CHECK_EQ_U(pt->size, 8);
    palloc_close(pt);
}

static void no_space_stays_with_threads(void)
{
    static struct churner churners[THREADS];
    const uint64_t size = MIB / 2;
    struct palloc_t *pt;

    TEST("a-full-medium-has-the-space-that-threads-freed");
    unlink("full.db");
    file_zeros("full.db", size);
    pt = palloc_init("full.db", PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    churn_together(churners, pt, 1000000, 1);
    stamped_and_complete(churners, pt);
    free_all(churners, pt);
    CHECK_EQ_U(palloc(pt, (size_t)size - 24), 16); /* all of it, in one piece */
    palloc_close(pt);
    CHECK_SOUND("full.db");
}

enum { RING = 256, PASSED = 200000 };

struct ring {
    struct palloc_t *pt;
    uint64_t at[RING];
    unsigned made, taken;
};

static void *consume(void *user)
{
    struct ring *ring = user;
    unsigned k;

    for (k = 0; k < PASSED; k++) {
        while (__atomic_load_n(&ring->made, __ATOMIC_ACQUIRE) == k)
            sched_yield();
        errno = 0;
        pfree(ring->pt, ring->at[k % RING]);
        if (!CHECK_ERRNO(0))
            break;
        __atomic_store_n(&ring->taken, k + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void a_producer_and_a_consumer(void)
{
    static struct ring ring;
    struct rng rng = {9};
    pthread_t thread;
    unsigned k;

    TEST("the-file-of-a-producer-and-a-consumer-stays-short");
    unlink("ring.db");
    ring.pt = palloc_init("ring.db", PALLOC_DYNAMIC);
    REQUIRE(ring.pt != NULL);
    REQUIRE(pthread_create(&thread, NULL, consume, &ring) == 0);
    for (k = 0; k < PASSED; k++) {
        while (k - __atomic_load_n(&ring.taken, __ATOMIC_ACQUIRE) >= RING)
            sched_yield();
        if (!CHECK((ring.at[k % RING] = palloc(ring.pt, 16 + rng_below(&rng, 497))) != 0))
            break;
        __atomic_store_n(&ring.made, k + 1, __ATOMIC_RELEASE);
    }
    CHECK_EQ_I(pthread_join(thread, NULL), 0);
    CHECK(file_size("ring.db") <= 2 * MIB); /* of 56 MB that were allocated, and never more than 72 KB at a time */
    CHECK_EQ_I(palloc_sync(ring.pt), 0);
    CHECK_EQ_U(ring.pt->size, 8);
    palloc_close(ring.pt);
    CHECK_SOUND("ring.db");
}

enum { RACES = 20000 };

struct race {
    pthread_t thread;
    struct palloc_t *pt;
    unsigned *arrived; /* of both threads */
    const uint64_t *at;
    unsigned failed;
};

static void *free_them_too(void *user)
{
    struct race *r = user;
    unsigned k;

    for (k = 0; k < RACES; k++) {
        if (k % 100 == 0) { /* both begin at the same time */
            __atomic_fetch_add(r->arrived, 1, __ATOMIC_RELAXED);
            while (__atomic_load_n(r->arrived, __ATOMIC_RELAXED) < 2 * (k / 100 + 1))
                sched_yield();
        }
        errno = 0;
        pfree(r->pt, r->at[k]);
        if (errno != 0) {
            CHECK_ERRNO(EINVAL);
            r->failed++;
        }
    }
    return NULL;
}

static void two_threads_free_a_blob(void)
{
    static uint64_t at[RACES];
    struct race races[2];
    struct palloc_stat stat;
    struct palloc_t *pt;
    unsigned k, arrived = 0;

    TEST("of-two-threads-that-free-a-blob-at-once-one-gets-EINVAL");
    unlink("double.db");
    pt = palloc_init("double.db", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (k = 0; k < RACES; k++)
        REQUIRE((at[k] = palloc(pt, 16 + k % 40 * 16)) != 0);
    for (k = 0; k < 2; k++) {
        memset(&races[k], 0, sizeof races[k]);
        races[k].pt = pt;
        races[k].arrived = &arrived;
        races[k].at = at;
        REQUIRE(pthread_create(&races[k].thread, NULL, free_them_too, &races[k]) == 0);
    }
    for (k = 0; k < 2; k++)
        CHECK_EQ_I(pthread_join(races[k].thread, NULL), 0);
    CHECK_EQ_U(races[0].failed + races[1].failed, RACES);
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, 0);
    palloc_close(pt);
    CHECK_SOUND("double.db");
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
    PART(one_medium());
    PART(own_media());
    PART(walk_meanwhile());
    PART(errors());
    PART(openings());
    PART(readers_beside_a_writer());
    PART(churners_on_one_medium());
    PART(no_space_stays_with_threads());
    PART(a_producer_and_a_consumer());
    PART(two_threads_free_a_blob());
    return tap_done();
}
