/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A process that is killed at work loses, at most, the one operation it was in.
 *
 * A child works on a medium and logs into shared memory: before each call what it is about to do, after it what came out. Once it is
 * dead, verify() opens the medium and holds it against the log. Two ways of killing: SIGKILL at random moments, many times over the
 * same medium; and each state that the file goes through between two stores of an operation, as it would be after a kill there.
 */
#include "store_trap.h"

#include <time.h>

#include "palloc_util.h"

#define FILE_NAME "kill.db"
#define COPY "copy.db"

enum { SLOTS = 160 };
enum kind { NOTHING, PALLOC, PFREE, PREALLOC, SYNC, REOPEN };
static const char *const kind_names[] = {"nothing", "palloc", "pfree", "prealloc", "sync", "reopen"};
enum phase { IDLE, CALLING, RETURNED };

struct slot {
    uint64_t ptr;  /* 0: no blob */
    uint64_t size; /* what palloc_size said; 0: not known yet */
    uint64_t id;
    uint64_t sure; /* so many first bytes hold the pattern */
};

struct log {
    volatile int phase;
    enum kind kind;
    unsigned at; /* slot */
    struct slot old; /* as it was before the call */
    uint64_t asked;
    uint64_t result;
    struct slot slots[SLOTS];
    uint64_t next_id, calls;
    unsigned used_slots; /* so many of SLOTS are used */
    uint64_t max_size;
    unsigned often; /* of 100000 calls are palloc_sync, and as many reopen the medium: both take long */
};

/* The compiler keeps stores on their side of this; a killed process's earlier stores have all happened. */
#define FENCE() __sync_synchronize()

#ifdef _WIN32

/* Shared by its name with children: it has that of the process which made it. It lives as long as its handles. */
static struct log *log_by_name(unsigned long owner)
{
    char name[64];
    HANDLE section;

    snprintf(name, sizeof name, "palloc_kill_%lu", owner);
    section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0, sizeof(struct log), name);
    return section != NULL ? MapViewOfFile(section, FILE_MAP_WRITE, 0, 0, 0) : NULL;
}

#endif

static struct log *log_new(unsigned used_slots, uint64_t max_size, unsigned often)
{
#ifdef _WIN32
    struct log *log = log_by_name(GetCurrentProcessId());

    REQUIRE(log != NULL);
    memset(log, 0, sizeof *log);
#else
    struct log *log = mmap(NULL, sizeof *log, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    REQUIRE(log != MAP_FAILED);
#endif
    log->next_id = 100000;
    log->used_slots = used_slots;
    log->max_size = max_size;
    log->often = often;
    return log;
}

static void log_free(struct log *log)
{
#ifdef _WIN32
    UnmapViewOfFile(log);
#else
    munmap(log, sizeof *log);
#endif
}

/* Enters the blobs that a medium has already; they have no pattern that is known. */
static void log_adopt(struct log *log)
{
    struct palloc_t *pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    uint64_t ptr;
    unsigned k = 0;

    REQUIRE(pt != NULL);
    for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr), k++) {
        REQUIRE(k < log->used_slots);
        log->slots[k].ptr = ptr;
        log->slots[k].size = palloc_size(pt, ptr);
        log->slots[k].id = log->next_id++;
    }
    palloc_close(pt);
}

/* Enters the result of a call that returned; the child does so, or its parent if the child did not get that far. */
static void settle(struct log *log)
{
    struct slot s = log->old;

    if (log->phase != RETURNED)
        return;
    if (log->kind == PALLOC || log->kind == PREALLOC) {
        if (log->result != 0) { /* a static medium may be full */
            s.ptr = log->result;
            s.size = 0;
            if (s.sure > log->asked)
                s.sure = log->asked;
        }
    } else if (log->kind == PFREE) {
        memset(&s, 0, sizeof s);
    }
    log->slots[log->at] = s;
    FENCE();
    log->phase = IDLE;
}

static void choose(struct log *log, struct rng *rng)
{
    struct slot *s;
    uint64_t choice = rng_below(rng, 100000);

    log->at = (unsigned)rng_below(rng, log->used_slots);
    s = &log->slots[log->at];
    log->asked = rng_size(rng, log->max_size);
    if (choice < log->often)
        log->kind = REOPEN;
    else if (choice < 2 * log->often)
        log->kind = SYNC;
    else if (s->ptr == 0)
        log->kind = PALLOC;
    else if (choice < 45000)
        log->kind = PFREE;
    else {
        log->kind = PREALLOC;
        if (choice < 60000)
            log->asked = rng_below(rng, s->size + 1); /* shrink */
        else if (choice < 75000)
            log->asked = s->size + 1 + rng_below(rng, 48); /* perhaps in place */
    }
    log->old = *s;
    if (log->kind == PALLOC) {
        memset(&log->old, 0, sizeof log->old);
        log->old.id = log->next_id++;
    }
    log->result = 0;
}

/* The call itself, between the two entries. */
static struct palloc_t *call(struct log *log, struct palloc_t *pt, uint32_t flags)
{
    FENCE();
    log->phase = CALLING;
    FENCE();
    switch (log->kind) {
    case PALLOC:
        log->result = palloc(pt, (size_t)log->asked);
        break;
    case PREALLOC:
        log->result = prealloc(pt, log->old.ptr, (size_t)log->asked);
        break;
    case PFREE:
        pfree(pt, log->old.ptr);
        break;
    case SYNC:
        if (palloc_sync(pt) != 0)
            _exit(11);
        break;
    case REOPEN:
        palloc_close(pt);
        pt = palloc_init(FILE_NAME, flags);
        break;
    case NOTHING:
        break;
    }
    FENCE();
    log->phase = RETURNED;
    FENCE();
    log->calls++;
    return pt;
}

/* Fills what the call left without pattern. */
static void fill(struct log *log, struct palloc_t *pt)
{
    struct slot *s = &log->slots[log->at];

    if (s->ptr == 0)
        return;
    if (s->size == 0)
        s->size = palloc_size(pt, s->ptr);
    if (s->sure < s->size) {
        if (!blob_write(pt, s->ptr, s->id, s->sure, s->size, (enum access)(s->id % 2)))
            _exit(12);
        FENCE();
        s->sure = s->size;
    }
}

static void work(struct log *log, uint64_t seed, uint32_t flags)
{
    struct rng rng = {seed};
    struct palloc_t *pt = palloc_init(FILE_NAME, flags);

    if (pt == NULL)
        _exit(10);
    for (;;) {
        choose(log, &rng);
        pt = call(log, pt, flags);
        if (pt == NULL)
            _exit(10);
        settle(log);
        fill(log, pt);
    }
}

static int live_has(const struct shadow *live, uint64_t ptr)
{
    size_t i = shadow_find(live, ptr);

    return i < live->count && live->at[i].ptr == ptr;
}

#define OR_FAIL(check)    \
    do {                  \
        if (!(check))     \
            goto failed;  \
    } while (0)

/* Opens the medium after a kill and holds it against the log, which then describes the medium as it is. */
static int verify(const char *path, struct log *log)
{
    struct shadow live;
    struct palloc_t *pt;
    struct blocks seen_by_reader = {NULL, 0, 0};
    unsigned in_flight = log->phase == CALLING ? log->at : SLOTS, i;
    size_t j;
    int good = 0;

    settle(log);
    shadow_init(&live, 0, 0, 0, 0);
    pt = palloc_init(path, PALLOC_READONLY); /* sees what the repaired medium has, without repairing it */
    OR_FAIL(CHECK(pt != NULL));
    OR_FAIL(CHECK_EQ_I(palloc_walk(pt, walk_collect, &seen_by_reader), 0));
    palloc_close(pt);
    pt = palloc_init(path, PALLOC_DEFAULT);
    OR_FAIL(CHECK(pt != NULL));
    OR_FAIL(CHECK_VIEW(pt)); /* no space is unaccounted for */
    shadow_adopt(&live, pt);
    for (i = 0, j = 0; j < seen_by_reader.count; j++)
        if (!seen_by_reader.at[j].is_free) {
            OR_FAIL(CHECK(i < live.count));
            OR_FAIL(CHECK_EQ_U(seen_by_reader.at[j].start + 8, live.at[i].ptr));
            OR_FAIL(CHECK_EQ_U(seen_by_reader.at[j].n, live.at[i].size));
            i++;
        }
    OR_FAIL(CHECK_EQ_U(i, live.count));
    for (i = 0; i < log->used_slots; i++) { /* take from `live` what the log knows of; the rest may be the operation in flight */
        struct slot *s = &log->slots[i];
        if (i == in_flight || s->ptr == 0)
            continue;
        OR_FAIL(CHECK(live_has(&live, s->ptr)));
        if (s->size != 0)
            OR_FAIL(CHECK_EQ_U(palloc_size(pt, s->ptr), s->size));
        s->size = palloc_size(pt, s->ptr);
        OR_FAIL(blob_intact(pt, s->ptr, s->id, s->sure, BY_ADDRESS));
        shadow_remove(&live, shadow_find(&live, s->ptr));
    }
    if (in_flight < SLOTS) {
        struct slot *s = &log->slots[in_flight];
        int old_is_there = s->ptr != 0 && live_has(&live, s->ptr);
        if (old_is_there) { /* undone, with every byte that it had, or resized in place */
            shadow_remove(&live, shadow_find(&live, s->ptr));
            if (log->kind == PREALLOC) {
                uint64_t size = palloc_size(pt, s->ptr);
                OR_FAIL(CHECK(size == s->size || size >= (log->asked < 16 ? 16 : log->asked)));
                if (size != s->size && s->sure > log->asked)
                    s->sure = log->asked;
                s->size = size;
            }
            OR_FAIL(blob_intact(pt, s->ptr, s->id, s->sure, BY_DESCRIPTOR));
        } else if (log->kind == PFREE) {
            memset(s, 0, sizeof *s);
        } else if (log->kind == PREALLOC) { /* moved */
            OR_FAIL(CHECK_EQ_U(live.count, 1));
            s->ptr = live.at[0].ptr;
            s->size = live.at[0].size;
            OR_FAIL(CHECK(s->size >= log->asked));
            if (s->sure > log->asked)
                s->sure = log->asked;
            OR_FAIL(blob_intact(pt, s->ptr, s->id, s->sure, BY_DESCRIPTOR));
            shadow_remove(&live, 0);
        } else if (log->kind == PALLOC && live.count == 1) { /* done, but the call had not returned */
            OR_FAIL(CHECK(live.at[0].size >= log->asked));
            s->ptr = live.at[0].ptr;
            s->size = live.at[0].size;
            s->id = log->old.id;
            s->sure = 0;
            shadow_remove(&live, 0);
        } else {
            OR_FAIL(CHECK(log->kind == PALLOC || s->ptr == 0));
        }
        log->phase = IDLE;
    }
    OR_FAIL(CHECK_EQ_U(live.count, 0));
    palloc_close(pt);
    pt = NULL;
    OR_FAIL(CHECK_SOUND(path));
    good = 1;
failed:
    if (!good) {
        DIAG("in flight: %s of slot %u, ptr %llu, size %llu, asked for %llu (phase %d); not accounted for: %u blobs, first at %llu",
             kind_names[log->kind], log->at, (unsigned long long)log->old.ptr, (unsigned long long)log->old.size,
             (unsigned long long)log->asked, log->phase, (unsigned)live.count,
             (unsigned long long)(live.count != 0 ? live.at[0].ptr : 0));
        palloc_close(pt);
    }
    free(seen_by_reader.at);
    shadow_free(&live);
    return good;
}

/* Everything freed, the medium has all its space again. */
static int nothing_is_lost(const char *path)
{
    struct palloc_t *pt;
    struct shadow s;
    struct rng rng = {5};
    uint64_t size = file_size(path);
    int good;

    file_copy(path, COPY);
    pt = palloc_init(COPY, PALLOC_DEFAULT);
    if (!CHECK(pt != NULL))
        return 0;
    shadow_init(&s, 5, 0, 0, 0);
    shadow_adopt(&s, pt);
    if (s.count == 0)
        pfree(pt, palloc(pt, 16)); /* takes a free tail along */
    good = model_free_all(pt, &s, &rng);
    if (pt->flags & PALLOC_DYNAMIC)
        good &= CHECK_EQ_U(pt->size, 8);
    else
        good &= CHECK_EQ_U(palloc(pt, (size_t)size - 24), 16);
    palloc_close(pt);
    shadow_free(&s);
    unlink(COPY);
    return good;
}

/* -------------------------------------------------------------------------------------------------------------- at random moments */

#ifdef _WIN32

/* Lets a child work for that long, from its first call on, and kills it. Returns 0 if it ended by itself. */
static int work_and_die(struct log *log, uint64_t seed, uint32_t flags, uint64_t nanoseconds)
{
    char args[100];
    uint64_t calls = log->calls;
    LARGE_INTEGER now, start, per_second;
    HANDLE child;

    snprintf(args, sizeof args, "work %lu %llu %u", (unsigned long)GetCurrentProcessId(), (unsigned long long)seed, (unsigned)flags);
    child = start_self(args);
    REQUIRE(child != NULL);
    while (*(volatile uint64_t *)&log->calls == calls && WaitForSingleObject(child, 0) == WAIT_TIMEOUT)
        Sleep(0);
    QueryPerformanceFrequency(&per_second);
    QueryPerformanceCounter(&start);
    do
        QueryPerformanceCounter(&now);
    while ((uint64_t)(now.QuadPart - start.QuadPart) * 1000000000 / (uint64_t)per_second.QuadPart < nanoseconds);
    return CHECK_EQ_I(kill_it(child), KILLED) && CHECK(log->calls > calls);
}

#else

static int work_and_die(struct log *log, uint64_t seed, uint32_t flags, uint64_t nanoseconds)
{
    struct timespec wait = {0, (long)nanoseconds};
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0)
        work(log, seed, flags);
    REQUIRE(child > 0);
    nanosleep(&wait, NULL);
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, &status, 0) == child);
    if (!CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
        DIAG("the child ended by itself, status %#x", (unsigned)status);
        return 0;
    }
    return 1;
}

#endif

static void kill_often(uint64_t seed, uint32_t flags, unsigned kills, uint64_t max_microseconds, unsigned used_slots, uint64_t max_size)
{
    struct log *log = log_new(used_slots, max_size, 15);
    struct rng rng = {seed};
    uint64_t interrupted[6] = {0};
    unsigned k;

    palloc_close(palloc_init(FILE_NAME, flags));
    log_adopt(log);
    for (k = 0; k < kills; k++) {
        uint64_t nanoseconds = 1000 * rng_below(&rng, max_microseconds) + rng_below(&rng, 1000), child_seed = rng_next(&rng);

        if (!work_and_die(log, child_seed, flags, nanoseconds)) {
            DIAG("seed %llu, kill %u", (unsigned long long)seed, k);
            break;
        }
        if (log->phase == CALLING)
            interrupted[log->kind]++;
        if (!verify(FILE_NAME, log)) {
            DIAG("seed %llu, kill %u", (unsigned long long)seed, k);
            break;
        }
        if (k % 8 == 7 && !nothing_is_lost(FILE_NAME)) {
            DIAG("seed %llu, kill %u", (unsigned long long)seed, k);
            break;
        }
    }
    DIAG("%u kills among %llu calls; inside of palloc %u, pfree %u, prealloc %u, sync %u, reopening %u", k, (unsigned long long)log->calls,
         (unsigned)interrupted[PALLOC], (unsigned)interrupted[PFREE], (unsigned)interrupted[PREALLOC], (unsigned)interrupted[SYNC],
         (unsigned)interrupted[REOPEN]);
    log_free(log);
}

/* An odd medium, live and free blocks in turn. */
static void odd_medium(void)
{
    struct bytes b;
    unsigned i;

    build_header(&b, PALLOC_DYNAMIC);
    for (i = 0; i < 40; i++)
        build_block(&b, 16 + i * 7 % 61, i % 3 == 1);
    file_write(FILE_NAME, b.at, b.size); /* links are rebuilt on open */
    bytes_free(&b);
}

static void random_moments(void)
{
    unsigned times = getenv("DEEP") != NULL ? 20 : 1;
#ifdef _WIN32
    enum { FEWER = 5 }; /* starting a process takes long */
#else
    enum { FEWER = 1 };
#endif

    TEST("a-dynamic-medium-survives-SIGKILL");
    unlink(FILE_NAME);
    kill_often(1, PALLOC_DYNAMIC, 200 * times / FEWER, 3000, SLOTS, 3000);

    TEST("a-small-dynamic-medium-that-grows-and-shrinks-all-the-time-survives-SIGKILL");
    unlink(FILE_NAME);
    kill_often(2, PALLOC_DYNAMIC, 100 * times / FEWER, 3000, 4, 300000);

    TEST("a-static-medium-survives-SIGKILL");
    file_zeros(FILE_NAME, 100000);
    kill_often(3, PALLOC_DEFAULT, 100 * times / FEWER, 3000, SLOTS, 2000);

    TEST("an-odd-medium-survives-SIGKILL");
    odd_medium();
    kill_often(4, PALLOC_DYNAMIC, 100 * times / FEWER, 3000, 60, 300);

    TEST("a-medium-with-SYNC-survives-SIGKILL");
    unlink(FILE_NAME);
    kill_often(5, PALLOC_DYNAMIC | PALLOC_SYNC, 40 * times / FEWER, 10000, 20, 500);
}

/* ------------------------------------------------------------------------------------------------------ between any two stores */

/*
 * The trap is armed while the child is in a call. Around each store it takes a picture of the file, and stops until its parent has verified
 * the picture. The next store, or the end of the call, shows what system calls did to the file.
 */
#ifdef CAN_TRAP

/* So much of the file's beginning, where all blobs are, and of its end is watched and copied. */
enum { HEAD = 16384, TAIL = 64 };

struct picture {
    uint64_t size;
    uint8_t head[HEAD], tail[TAIL];
};

struct trap {
    struct picture picture;
    uint64_t stores;
};
static struct trap *trap; /* shared by parent and child */
static char snapshot[64]; /* the file that a picture becomes */

static int file_descriptor; /* in the child: our own of the file */

/* In the child, perhaps in a signal handler: hands a picture of the file to the parent if it has changed. */
static void take_picture(void)
{
    static struct picture now;
    struct stat st;

    memset(&now, 0, sizeof now);
    if (fstat(file_descriptor, &st) != 0 || pread(file_descriptor, now.head, HEAD, 0) < 0
        || (st.st_size > HEAD + TAIL && pread(file_descriptor, now.tail, TAIL, st.st_size - TAIL) != TAIL))
        _exit(21);
    now.size = (uint64_t)st.st_size;
    if (memcmp(&now, &trap->picture, sizeof now) == 0)
        return;
    memcpy(&trap->picture, &now, sizeof now);
    raise(SIGSTOP);
}

static void before_store(void)
{
    take_picture();
}

static void after_store(void)
{
    trap->stores++;
    take_picture();
}

static void arm(void)
{
    take_picture();
    trap_arm();
}

static void disarm(void)
{
    trap_disarm();
    take_picture();
}

static void picture_write(const struct picture *p, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    uint64_t head = p->size < HEAD ? p->size : HEAD;

    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, p->head, (size_t)head, 0) == (ssize_t)head);
    REQUIRE(ftruncate(fd, (off_t)p->size) == 0);
    if (p->size > HEAD + TAIL)
        REQUIRE(pwrite(fd, p->tail, TAIL, (off_t)(p->size - TAIL)) == TAIL);
    close(fd);
}

/* States of the file in need of repair, each with the log as it was then: a random choice. */
enum { KEPT = 300 };
struct kept {
    struct picture picture;
    struct log log;
};
static struct kept *kept;
static unsigned kept_count, kept_offers;

static void keep(const struct log *log)
{
    unsigned at = kept_count < KEPT ? kept_count : (unsigned)(mix64(kept_offers) % kept_offers);

    kept_offers++;
    if (at >= KEPT)
        return;
    kept[at].picture = trap->picture;
    kept[at].log = *log;
    kept_count += kept_count < KEPT;
}

static void child_begins(void)
{
    trap_install(HEAD);
    memset(&trap->picture, 0, sizeof trap->picture);
    file_descriptor = open(FILE_NAME, O_RDONLY | O_CLOEXEC);
    if (file_descriptor < 0)
        _exit(22);
}

static void child_works(struct log *log, uint64_t seed, unsigned calls)
{
    struct rng rng = {seed};
    struct palloc_t *pt;

    child_begins();
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    while (pt != NULL && calls-- > 0) {
        choose(log, &rng);
        arm();
        pt = call(log, pt, PALLOC_DEFAULT);
        disarm();
        if (pt == NULL)
            break;
        settle(log);
        fill(log, pt);
    }
    if (pt == NULL)
        _exit(10);
    palloc_close(pt);
    _exit(0);
}

/* A kill during the repair after a kill. */
static void child_opens(struct log *log, uint64_t seed, unsigned calls)
{
    struct palloc_t *pt;

    (void)log;
    (void)seed;
    (void)calls;
    child_begins();
    arm();
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    disarm();
    _exit(pt == NULL ? 10 : 0);
}

/* Runs the child and verifies each state of the file that it shows. Returns how many there were, 0 when a check failed. */
static unsigned watch(struct log *log, void (*child_does)(struct log *, uint64_t, unsigned), uint64_t seed, unsigned calls)
{
    int status = 0, keeping = child_does == child_works;
    unsigned states = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0)
        child_does(log, seed, calls);
    REQUIRE(child > 0);
    for (;;) {
        struct log copy;

        REQUIRE(waitpid(child, &status, WUNTRACED) == child);
        if (!WIFSTOPPED(status))
            break;
        states++;
        picture_write(&trap->picture, snapshot);
        copy = *log;
        if (keeping && palloc_check(snapshot, NULL, NULL) > 0)
            keep(&copy);
        if (!verify(snapshot, &copy)) {
            DIAG("seed %llu, call %llu, state %u", (unsigned long long)seed, (unsigned long long)log->calls, states);
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return 0;
        }
        kill(child, SIGCONT);
    }
    if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        DIAG("seed %llu: the child ended with status %#x", (unsigned long long)seed, (unsigned)status);
        return 0;
    }
    return states;
}

static void trap_medium(uint64_t seed, unsigned calls, unsigned used_slots)
{
    struct log *log = log_new(used_slots, 200, 1000);
    uint64_t stores = trap->stores;
    unsigned states;

    log_adopt(log);
    states = watch(log, child_works, seed, calls);
    DIAG("%llu calls, %llu stores, %u states of the file", (unsigned long long)log->calls, (unsigned long long)(trap->stores - stores),
         states);
    CHECK(trap->stores - stores >= calls); /* else the traps do not work */
    log_free(log);
}
#endif

static void any_two_stores(void)
{
#ifdef CAN_TRAP
    unsigned i, states = 0;

    REQUIRE((trap = mmap(NULL, sizeof *trap, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
    kept = xmalloc(KEPT * sizeof *kept);
    file_in_memory(snapshot, "snapshot.db");

    TEST("a-dynamic-medium-survives-a-kill-between-any-two-stores");
    unlink(FILE_NAME);
    palloc_close(palloc_init(FILE_NAME, PALLOC_DYNAMIC));
    trap_medium(11, 1200, 10);

    TEST("a-static-medium-survives-a-kill-between-any-two-stores");
    file_zeros(FILE_NAME, 2000);
    palloc_close(palloc_init(FILE_NAME, PALLOC_DEFAULT));
    trap_medium(12, 1000, 12);

    TEST("an-odd-medium-survives-a-kill-between-any-two-stores");
    odd_medium();
    trap_medium(13, 800, 40);

    TEST("a-medium-with-SYNC-survives-a-kill-between-any-two-stores");
    {
        struct bytes b;
        build_header(&b, PALLOC_DYNAMIC | PALLOC_SYNC);
        file_write(FILE_NAME, b.at, b.size);
        bytes_free(&b);
    }
    trap_medium(14, 100, 10);

    TEST("a-kill-between-any-two-stores-of-the-repair-is-survived");
    for (i = 0; i < kept_count; i++) {
        struct log *log = log_new(0, 0, 0);
        unsigned seen;

        *log = kept[i].log;
        picture_write(&kept[i].picture, FILE_NAME);
        seen = watch(log, child_opens, i, 0);
        log_free(log);
        if (!CHECK(seen > 0))
            break;
        states += seen;
    }
    DIAG("%u repairs of %u, %u states of the file", i, kept_offers, states);
    free(kept);
#else
    TEST("a-medium-survives-a-kill-between-any-two-stores");
    SKIP("single stores are trapped on x86 Linux only");
#endif
}

/* ---------------------------------------------------------------------------------------------------------- threads on one medium */

#ifndef _WIN32

enum { KILL_THREADS = 4, THREAD_BLOBS = 200 };

/* What a thread has. `kind` is that of the call it is in, for the blob at `at`. */
struct thread_log {
    struct palloc_t *pt;
    pthread_t thread;
    uint64_t number, calls;
    volatile enum kind kind;
    volatile unsigned at;
    volatile uint64_t ptr[THREAD_BLOBS];
};

static void *work_in_thread(void *user)
{
    struct thread_log *log = user;
    struct rng rng = {log->calls * 8 + log->number};

    for (;;) {
        unsigned k = (unsigned)rng_below(&rng, THREAD_BLOBS);
        uint64_t own = log->number << 32 | k, ptr;
        void *data;

        log->at = k;
        log->kind = log->ptr[k] != 0 ? PFREE : PALLOC;
        FENCE();
        if (log->kind == PFREE) {
            pfree(log->pt, log->ptr[k]);
            FENCE();
            log->ptr[k] = 0;
        } else {
            ptr = palloc(log->pt, 16 + rng_below(&rng, rng_below(&rng, 20) != 0 ? 500 : 5000));
            data = ptr != 0 ? palloc_data(log->pt, ptr) : NULL;
            if (data == NULL)
                _exit(12);
            memcpy(data, &own, 8);
            FENCE();
            log->ptr[k] = ptr;
        }
        FENCE();
        log->kind = NOTHING;
        log->calls++;
    }
    return NULL;
}

static void work_in_threads(struct thread_log *logs)
{
    struct palloc_t *pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    unsigned t;

    if (pt == NULL)
        _exit(10);
    for (t = 0; t < KILL_THREADS; t++) {
        logs[t].pt = pt;
        if (pthread_create(&logs[t].thread, NULL, work_in_thread, &logs[t]) != 0)
            _exit(11);
    }
    for (;;) { /* what threads keep goes back now and then */
        struct timespec wait = {0, 3000000};
        nanosleep(&wait, NULL);
        if (palloc_sync(pt) != 0)
            _exit(13);
    }
}

/* Exactly the blobs of all threads are there, but for that of the call which each of them was in. */
static int verify_threads(struct thread_log *logs)
{
    struct palloc_t *pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    struct shadow live;
    unsigned t, k, in_palloc = 0;
    int good = 0;

    if (!CHECK(pt != NULL))
        return 0;
    shadow_init(&live, 0, 0, 0, 0);
    OR_FAIL(CHECK_VIEW(pt));
    shadow_adopt(&live, pt);
    for (t = 0; t < KILL_THREADS; t++) {
        struct thread_log *log = &logs[t];
        for (k = 0; k < THREAD_BLOBS; k++) {
            uint64_t own = log->number << 32 | k;
            if (log->ptr[k] == 0 || (log->kind == PFREE && log->at == k))
                continue;
            OR_FAIL(CHECK(live_has(&live, log->ptr[k])));
            OR_FAIL(CHECK_MEM(palloc_data(pt, log->ptr[k]), &own, 8));
            shadow_remove(&live, shadow_find(&live, log->ptr[k]));
        }
        in_palloc += log->kind == PALLOC;
    }
    for (t = 0; t < KILL_THREADS; t++) { /* a blob that was being freed: perhaps another thread had it already */
        struct thread_log *log = &logs[t];
        uint64_t own = log->number << 32 | log->at, ptr = log->ptr[log->at];
        if (log->kind == PFREE && ptr != 0) {
            if (live_has(&live, ptr) && memcmp(palloc_data(pt, ptr), &own, 8) == 0)
                shadow_remove(&live, shadow_find(&live, ptr));
            else
                log->ptr[log->at] = 0;
        }
        log->kind = NOTHING;
    }
    OR_FAIL(CHECK(live.count <= in_palloc));
    while (live.count > 0) {
        pfree(pt, live.at[0].ptr);
        shadow_remove(&live, 0);
    }
    good = 1;
failed:
    shadow_free(&live);
    palloc_close(pt);
    return good && CHECK_SOUND(FILE_NAME);
}

/* Calls of all threads, of all children until now. */
static uint64_t all_calls(const struct thread_log *logs)
{
    uint64_t calls = 0;
    unsigned t;

    for (t = 0; t < KILL_THREADS; t++)
        calls += *(const volatile uint64_t *)&logs[t].calls;
    return calls;
}

static void threads_are_killed(void)
{
    const unsigned times = getenv("DEEP") != NULL ? 1000 : 15;
    struct thread_log *logs = mmap(NULL, KILL_THREADS * sizeof *logs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct rng rng = {3};
    uint64_t calls = 0;
    unsigned i, t;

    TEST("threads-on-one-medium-are-killed-and-exactly-their-blobs-are-there");
    REQUIRE(logs != MAP_FAILED);
    unlink(FILE_NAME);
    for (t = 0; t < KILL_THREADS; t++)
        logs[t].number = t + 1;
    for (i = 0; i < times; i++) {
        struct timespec wait = {0, (long)(2000000 + rng_below(&rng, 8000000)) * (is_emulated() ? 20 : 1)};
        int status = 0, waits = 0;
        pid_t child;

        fflush(stdout);
        child = fork();
        if (child == 0)
            work_in_threads(logs);
        REQUIRE(child > 0);
        /* On a busy machine the wait may end before the child has made the medium. For every second child it goes on until there are calls. */
        do
            nanosleep(&wait, NULL);
        while (i % 2 && all_calls(logs) == calls && ++waits < 500);
        kill(child, SIGKILL);
        REQUIRE(waitpid(child, &status, 0) == child);
        if (!CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
            break;
        calls = all_calls(logs);
        if (access(FILE_NAME, F_OK) == 0 && file_size(FILE_NAME) > 0 && !verify_threads(logs))
            break;
    }
    CHECK(calls >= times / 2); /* they did something */
    munmap(logs, KILL_THREADS * sizeof *logs);
    unlink(FILE_NAME);
}

#endif

int main(int argc, char **argv)
{
#ifdef _WIN32
    if (argc == 5 && strcmp(argv[1], "work") == 0) { /* the child of work_and_die */
        struct log *log = log_by_name(strtoul(argv[2], NULL, 10));

        if (log != NULL)
            work(log, strtoull(argv[3], NULL, 10), (uint32_t)strtoul(argv[4], NULL, 10));
        return 13;
    }
#endif
    (void)argc, (void)argv;
    PART(random_moments());
    PART(any_two_stores());
#ifndef _WIN32
    PART(threads_are_killed());
#endif
    return tap_done();
}
