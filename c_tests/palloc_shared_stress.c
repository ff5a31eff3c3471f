/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * POSIX only: fork
 *
 * One process writes a medium, others read it, and each of them is killed again and again: no reader ever sees a torn or reused blob.
 *
 * The root has words: one leads to a table of blobs, the others to small blobs that are replaced as fast as possible. What a word leads to
 * is never changed, only replaced: its bytes follow from its place and its version. A reader follows the words in a section, and checks
 * every byte; sometimes it waits, and checks them again. A version is at least the one that was published before the section began.
 * Offsets that a reader has kept for too long lead to any bytes, or to none, but not to a crash. The writer uses transactions and plain calls, makes the file grow, syncs, and now and then closes the medium.
 *
 * SHARED_SECONDS (2) is how long it runs; SHARED_READS, if set: until so many blobs were read. SHARED_READERS (3) is the number of readers.
 */
#include "palloc_util.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILE_NAME "shared.db"
#define LIVE_NAME FILE_NAME ".live"

enum { HOT = 8, ENTRIES = 48, MOST_READERS = 64, COLD = 1 << 21, KILL_MS = 50 };
/* Blobs that a kill may leave where nothing leads to them: of the thread that replaces small ones, and of the other. */
enum { LOST_HOT = 1, LOST_TABLE = 4 };

struct root {
    uint64_t table, hot[HOT];
};

struct small {
    uint64_t slot, version, check, more[3];
};

struct entry {
    uint64_t offset, size, version; /* offset 0: there is no blob */
};

struct table {
    uint64_t version, check;
    struct entry at[ENTRIES];
};

struct head {
    uint64_t index, version;
};

/* In memory that all processes share. Versions: of small blobs, then of the table. */
static struct shared {
    uint64_t begun[HOT + 1];     /* the last that may be there */
    uint64_t published[HOT + 1]; /* the last that is there for sure */
    uint64_t reads, sections, stale, opened, closed, kills, writes, waits;
    uint64_t bits; /* readers that are in a section, for diagnostics */
    int stop, failed;
    char why[400];
} *shared;

static uint64_t get(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void put(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static void add(uint64_t *count, uint64_t n)
{
    __atomic_fetch_add(count, n, __ATOMIC_RELAXED);
}

static int is_over(void)
{
    return __atomic_load_n(&shared->stop, __ATOMIC_RELAXED) || __atomic_load_n(&shared->failed, __ATOMIC_RELAXED);
}

/* The first fault counts. Its process, or thread, goes on until it sees that all is over. */
static void fault(const char *format, ...)
{
    va_list args;

    if (__atomic_exchange_n(&shared->failed, 1, __ATOMIC_RELAXED))
        return;
    va_start(args, format);
    vsnprintf(shared->why, sizeof shared->why, format, args);
    va_end(args);
}

static void pause_us(unsigned us)
{
    struct timespec wait = {0, (long)us * 1000};

    nanosleep(&wait, NULL);
}

static uint64_t seconds_since(const struct timespec *from)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)(now.tv_sec - from->tv_sec);
}

/* The bytes of blobs. */

static uint64_t small_check(uint64_t slot, uint64_t version)
{
    return mix64(version * HOT + slot + 1);
}

static void fill_small(struct small *blob, uint64_t slot, uint64_t version)
{
    unsigned k;

    memset(blob, 0xdd, sizeof *blob); /* a reader that is still here sees it */
    blob->slot = slot;
    blob->version = version;
    blob->check = small_check(slot, version);
    for (k = 0; k < 3; k++)
        blob->more[k] = blob->check + k;
}

static int small_is_whole(const struct small *blob, uint64_t slot, uint64_t version)
{
    uint64_t check = small_check(slot, version);

    return blob->slot == slot && blob->version == version && blob->check == check && blob->more[0] == check
        && blob->more[1] == check + 1 && blob->more[2] == check + 2;
}

static uint64_t word_of(uint64_t index, uint64_t version, uint64_t k)
{
    return mix64(version * ENTRIES + index) + k * UINT64_C(0x9e3779b97f4a7c15);
}

/* Fills a blob from byte `from` on. The bytes do not depend on the size. */
static void fill_blob(void *data, uint64_t index, uint64_t version, uint64_t from, uint64_t size)
{
    struct head *head = data;
    uint64_t *words = data, k;

    if (from == 0)
        memset(data, 0xdd, size);
    for (k = from > sizeof *head ? from / 8 : sizeof *head / 8; k < size / 8; k++)
        words[k] = word_of(index, version, k);
    if (from == 0)
        *head = (struct head){index, version};
}

static int blob_is_whole(const void *data, uint64_t index, uint64_t version, uint64_t size)
{
    const struct head *head = data;
    const uint64_t *words = data;
    uint64_t k;

    if (head->index != index || head->version != version)
        return 0;
    for (k = sizeof *head / 8; k < size / 8; k++)
        if (words[k] != word_of(index, version, k))
            return 0;
    return 1;
}

static uint64_t table_check(const struct table *table)
{
    uint64_t sum = mix64(table->version), i;

    for (i = 0; i < ENTRIES; i++)
        sum = mix64(sum + table->at[i].offset + 3 * table->at[i].size + 7 * table->at[i].version);
    return sum;
}

/* The writer */

struct writer {
    struct palloc_t *pt;
    struct root *root;
    uint64_t root_at;
    struct rng rng;
    struct table table;
    int has_thread;
    uint64_t threads_seed;
};

static void *data_of(struct writer *w, uint64_t offset)
{
    void *data = offset != 0 ? palloc_data(w->pt, offset) : NULL;

    if (data == NULL) {
        fault("writer: %s", palloc_error());
        pause_us(1000);
        _exit(1);
    }
    return data;
}

static void must(int good)
{
    if (!good) {
        fault("writer: %s", palloc_error());
        _exit(1);
    }
}

static uint64_t some_size(struct writer *w, uint64_t index)
{
    if (index == 0)
        return 8 * (1000 + rng_below(&w->rng, 200000)); /* the file grows, and its end is free again */
    return 8 * (2 + rng_below(&w->rng, rng_below(&w->rng, 8) == 0 ? 1000 : 40));
}

static void replace_small(struct writer *w, struct rng *rng)
{
    uint64_t slot = rng_below(rng, HOT), version = shared->begun[slot] + 1, offset, old;

    put(&shared->begun[slot], version);
    old = get(&w->root->hot[slot]);
    if (rng_below(rng, 16) == 0) {
        struct palloc_tx *tx = palloc_begin(w->pt);

        must(tx != NULL);
        offset = palloc_tx_alloc(tx, sizeof(struct small));
        must(offset != 0);
        fill_small(palloc_tx_data(tx, offset), slot, version);
        must(old == 0 || palloc_tx_free(tx, old) == 0);
        must(palloc_tx_store(tx, w->root_at + offsetof(struct root, hot) + 8 * slot, &offset, 8) == 0);
        must(palloc_commit(tx) == 0);
    } else {
        offset = palloc(w->pt, sizeof(struct small));
        fill_small(data_of(w, offset), slot, version);
        put(&w->root->hot[slot], offset);
        if (old != 0)
            must((errno = 0, pfree(w->pt, old), errno == 0));
    }
    put(&shared->published[slot], version);
    add(&shared->writes, 1);
}

static void *replace_small_ones(void *user)
{
    struct writer *w = user;
    struct rng rng = {w->threads_seed};

    while (!is_over() && __atomic_load_n(&w->has_thread, __ATOMIC_RELAXED))
        replace_small(w, &rng);
    return NULL;
}

/* Begins a version of the table, whose entries the caller then changes. */
static void begin_table(struct writer *w)
{
    w->table.version = shared->begun[HOT] + 1;
    put(&shared->begun[HOT], w->table.version);
}

/* Makes it visible, by plain calls. */
static void publish(struct writer *w)
{
    uint64_t old = get(&w->root->table), offset = palloc(w->pt, sizeof w->table);

    w->table.check = table_check(&w->table);
    memcpy(data_of(w, offset), &w->table, sizeof w->table);
    put(&w->root->table, offset);
    put(&shared->published[HOT], w->table.version);
    if (old != 0)
        must((errno = 0, pfree(w->pt, old), errno == 0));
}

static void replace_in_transaction(struct writer *w, unsigned count, int cancel)
{
    struct palloc_tx *tx = palloc_begin(w->pt);
    struct table before = w->table;
    uint64_t offset;

    must(tx != NULL);
    begin_table(w);
    while (count-- > 0) {
        uint64_t index = rng_below(&w->rng, ENTRIES), size = some_size(w, index);
        struct entry *entry = &w->table.at[index];

        if (entry->version == w->table.version)
            continue;
        offset = palloc_tx_alloc(tx, size);
        must(offset != 0);
        fill_blob(palloc_tx_data(tx, offset), index, w->table.version, 0, size);
        must(entry->offset == 0 || palloc_tx_free(tx, entry->offset) == 0);
        *entry = (struct entry){offset, size, w->table.version};
    }
    w->table.check = table_check(&w->table);
    offset = palloc_tx_alloc(tx, sizeof w->table);
    must(offset != 0);
    memcpy(palloc_tx_data(tx, offset), &w->table, sizeof w->table);
    must(w->root->table == 0 || palloc_tx_free(tx, w->root->table) == 0);
    must(palloc_tx_store(tx, w->root_at + offsetof(struct root, table), &offset, 8) == 0);
    if (cancel) {
        palloc_cancel(tx);
        w->table = before;
        return;
    }
    must(palloc_commit(tx) == 0);
    put(&shared->published[HOT], w->table.version);
}

/* A blob that no reader finds may move. */
static uint64_t make_and_resize(struct writer *w, uint64_t size)
{
    uint64_t offset = palloc(w->pt, some_size(w, 1));

    data_of(w, offset);
    if (rng_below(&w->rng, 2))
        offset = prealloc(w->pt, offset, size + 8 * rng_below(&w->rng, 100));
    data_of(w, offset);
    return prealloc(w->pt, offset, size);
}

static void replace_by_calls(struct writer *w)
{
    uint64_t index = rng_below(&w->rng, ENTRIES), size = some_size(w, index), offset, old = w->table.at[index].offset;

    offset = rng_below(&w->rng, 2) ? palloc(w->pt, size) : make_and_resize(w, size);
    begin_table(w);
    fill_blob(data_of(w, offset), index, w->table.version, 0, size);
    w->table.at[index] = (struct entry){offset, size, w->table.version};
    publish(w);
    if (old != 0)
        must((errno = 0, pfree(w->pt, old), errno == 0));
}

/* Takes a blob out of the table, so that nobody finds it who does not have it, resizes it and puts it back. */
static void resize(struct writer *w)
{
    uint64_t index = rng_below(&w->rng, ENTRIES), size = some_size(w, index);
    struct entry entry = w->table.at[index];

    if (entry.offset == 0)
        return;
    begin_table(w);
    w->table.at[index].offset = 0;
    publish(w);
    entry.offset = prealloc(w->pt, entry.offset, size);
    fill_blob(data_of(w, entry.offset), index, entry.version, size > entry.size ? entry.size : size, size);
    entry.size = size;
    begin_table(w);
    w->table.at[index] = entry;
    publish(w);
}

static void take_out(struct writer *w)
{
    uint64_t index = rng_below(&w->rng, ENTRIES), old = w->table.at[index].offset;

    begin_table(w);
    w->table.at[index].offset = 0;
    publish(w);
    if (old != 0)
        must((errno = 0, pfree(w->pt, old), errno == 0));
}

static void change(struct writer *w)
{
    switch (rng_below(&w->rng, 12)) {
    case 0: case 1: case 2: replace_in_transaction(w, 1, 0); break;
    case 3: replace_in_transaction(w, 4, 0); break;
    case 4: replace_in_transaction(w, 2, 1); break;
    case 5: case 6: case 7: replace_by_calls(w); break;
    case 8: case 9: resize(w); break;
    case 10: take_out(w); break;
    default:
        if (rng_below(&w->rng, 20) == 0)
            must(palloc_sync(w->pt) == 0);
        else if (rng_below(&w->rng, 20) == 0)
            must(palloc_trim(w->pt, 0) >= 0 || errno == EOPNOTSUPP);
    }
    add(&shared->writes, 1);
}

static int is_linked(struct writer *w, uint64_t offset)
{
    unsigned k;

    if (offset == w->root_at || offset == w->root->table)
        return 1;
    for (k = 0; k < HOT; k++)
        if (w->root->hot[k] == offset)
            return 1;
    for (k = 0; k < ENTRIES; k++)
        if (w->table.at[k].offset == offset)
            return 1;
    return 0;
}

/* What the last writer left is whole. Frees the blobs that it lost, and returns how many there were. */
static unsigned adopt(struct writer *w)
{
    uint64_t k, offset, next, lost = 0;

    w->root_at = palloc_root(w->pt, sizeof *w->root);
    w->root = data_of(w, w->root_at);
    if (w->root->table != 0) {
        w->table = *(const struct table *)data_of(w, w->root->table);
        if (w->table.check != table_check(&w->table) || w->table.version < shared->published[HOT])
            fault("writer: the table of version %llu is damaged", (unsigned long long)w->table.version);
        for (k = 0; k < ENTRIES; k++)
            if (w->table.at[k].offset != 0
                && !blob_is_whole(data_of(w, w->table.at[k].offset), k, w->table.at[k].version, w->table.at[k].size))
                fault("writer: blob %u is damaged", (unsigned)k);
    }
    for (k = 0; k < HOT; k++) {
        const struct small *small = w->root->hot[k] != 0 ? data_of(w, w->root->hot[k]) : NULL;

        if (small != NULL && (!small_is_whole(small, k, small->version) || small->version < shared->published[k]))
            fault("writer: small blob %u is damaged", (unsigned)k);
        if (small != NULL)
            put(&shared->published[k], small->version);
    }
    put(&shared->published[HOT], w->table.version);
    for (offset = palloc_first(w->pt); offset != 0; offset = next) {
        next = palloc_next(w->pt, offset);
        if (!is_linked(w, offset)) {
            lost++;
            pfree(w->pt, offset);
        }
    }
    return (unsigned)lost;
}

static void write_until_over(uint64_t seed, int in_process)
{
    struct writer w;
    struct timespec from;
    pthread_t thread;
    unsigned steps, lost;

    do {
        memset(&w, 0, sizeof w);
        w.rng.state = seed++;
        clock_gettime(CLOCK_MONOTONIC, &from);
        while ((w.pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SHARED)) == NULL) {
            if (errno != EWOULDBLOCK || seconds_since(&from) > tap_seconds(20)) {
                fault("writer: %s", palloc_error());
                return;
            }
            add(&shared->waits, 1);
            pause_us(300);
        }
        lost = adopt(&w);
        if (lost > LOST_HOT + LOST_TABLE)
            fault("writer: %u blobs are lost", lost);
        w.has_thread = in_process || rng_below(&w.rng, 2);
        w.threads_seed = rng_next(&w.rng);
        if (w.has_thread)
            REQUIRE(pthread_create(&thread, NULL, replace_small_ones, &w) == 0);
        for (steps = (unsigned)rng_below(&w.rng, 4000); steps > 0 && !is_over(); steps--) {
            unsigned k;

            for (k = 0; k < 100 && !w.has_thread; k++)
                replace_small(&w, &w.rng);
            change(&w);
        }
        if (w.has_thread) {
            __atomic_store_n(&w.has_thread, 0, __ATOMIC_RELAXED);
            pthread_join(thread, NULL);
        }
        palloc_close(w.pt);
        add(&shared->closed, 1);
    } while (!is_over());
}

/* Readers */

struct reader {
    struct palloc_t *pt;
    const struct root *root;
    struct rng rng;
    uint64_t reads, sections;
    uint64_t highest; /* the last blob that it has seen */
    unsigned char *cold;
    int gone; /* the medium has to be opened anew */
};

/* What a section has seen. */
struct seen {
    const struct small *small[HOT];
    uint64_t small_version[HOT];
    const struct table *table;
    uint64_t least[HOT + 1]; /* published before the section */
};

static void torn(struct reader *r, const char *what, unsigned index, uint64_t version)
{
    (void)r;
    fault("reader: %s %u of version %llu is torn: %s", what, index, (unsigned long long)version, palloc_error());
}

static int sees_small(struct reader *r, struct seen *seen, unsigned slot)
{
    uint64_t offset = get(&r->root->hot[slot]);
    const struct small *small;
    uint64_t version;

    if (offset == 0)
        return 1;
    small = palloc_data(r->pt, offset);
    if (small == NULL || palloc_size(r->pt, offset) < sizeof *small) {
        torn(r, "address of small blob", slot, seen->least[slot]);
        return 0;
    }
    version = small->version;
    if (!small_is_whole(small, slot, version) || version < seen->least[slot] || version > get(&shared->begun[slot])) {
        torn(r, "small blob", slot, version);
        return 0;
    }
    seen->small[slot] = small;
    seen->small_version[slot] = version;
    r->reads++;
    return 1;
}

static int sees_blob(struct reader *r, const struct table *table, unsigned index)
{
    const struct entry *entry = &table->at[index];
    const void *data;

    if (entry->offset == 0)
        return 1;
    data = palloc_data(r->pt, entry->offset);
    if (data == NULL || palloc_size(r->pt, entry->offset) < entry->size) {
        torn(r, "address of blob", index, entry->version);
        return 0;
    }
    if (palloc_at(r->pt, entry->offset) == NULL || !blob_is_whole(data, index, entry->version, entry->size)) {
        torn(r, "blob", index, entry->version);
        return 0;
    }
    if (entry->offset > r->highest)
        r->highest = entry->offset;
    r->reads++;
    return 1;
}

/* The blob that was once the last one may be gone, and the file have ended before it. */
static void looks_where_a_blob_was(struct reader *r)
{
#if !defined(__SANITIZE_THREAD__) /* for which this races with the writer, as it may */
    const volatile unsigned char *data = palloc_data(r->pt, r->highest);
    uint64_t size = data != NULL ? palloc_size(r->pt, r->highest) : 0;

    if (size > 0)
        (void)(data[0] + data[size - 1]);
#else
    (void)r;
#endif
}

static int sees_table(struct reader *r, struct seen *seen)
{
    uint64_t offset = get(&r->root->table);

    if (offset == 0)
        return 1;
    seen->table = palloc_data(r->pt, offset);
    if (seen->table == NULL || palloc_size(r->pt, offset) < sizeof *seen->table) {
        torn(r, "address of table", 0, seen->least[HOT]);
        return 0;
    }
    if (seen->table->check != table_check(seen->table) || seen->table->version < seen->least[HOT]
        || seen->table->version > get(&shared->begun[HOT])) {
        torn(r, "table", 0, seen->table->version);
        return 0;
    }
    return sees_blob(r, seen->table, (unsigned)rng_below(&r->rng, ENTRIES));
}

/* All that it has seen is still there. */
static int sees_the_same(struct reader *r, struct seen *seen)
{
    unsigned k;

    for (k = 0; k < HOT; k++)
        if (seen->small[k] != NULL && !small_is_whole(seen->small[k], k, seen->small_version[k])) {
            torn(r, "small blob, after a while,", k, seen->small_version[k]);
            return 0;
        }
    if (seen->table == NULL)
        return 1;
    if (seen->table->check != table_check(seen->table)) {
        torn(r, "table, after a while,", 0, seen->table->version);
        return 0;
    }
    for (k = 0; k < ENTRIES; k++)
        if (!sees_blob(r, seen->table, k))
            return 0;
    return 1;
}

/* One section. Returns 0 when the medium has to be opened anew. */
static int read_section(struct reader *r)
{
    uint64_t kind = rng_below(&r->rng, 4096), k, n;
    struct seen seen;

    memset(&seen, 0, sizeof seen);
    for (k = 0; k <= HOT; k++)
        seen.least[k] = get(&shared->published[k]);
    /* These stores wait for memory, and so keep those behind them from being seen for a while. */
    for (k = 0; k < 4 && kind % 2 == 0; k++)
        r->cold[rng_below(&r->rng, COLD)] = (unsigned char)kind;
    if (palloc_read_begin(r->pt) != 0) {
        if (errno != ESTALE)
            fault("reader: palloc_read_begin: %s", palloc_error());
        return 0;
    }
    n = kind % 4 == 0 ? 1 : HOT;
    for (k = 0; k < n; k++)
        if (!sees_small(r, &seen, (unsigned)(kind + k) % HOT))
            break;
    if (k == n && (kind < 64 || kind % 16 == 3) && sees_table(r, &seen) && kind < 16) {
        if (kind < 2)
            pause_us(kind == 0 ? 20000 : 1000);
        else
            sched_yield();
        sees_the_same(r, &seen);
    }
    if (kind % 64 == 5)
        looks_where_a_blob_was(r);
    palloc_read_end(r->pt);
    r->sections++;
    return 1;
}

static void read_sections(struct reader *r)
{
    unsigned k;

    while (!is_over() && !__atomic_load_n(&r->gone, __ATOMIC_RELAXED)) {
        for (k = 0; k < 256; k++)
            if (!read_section(r)) {
                __atomic_store_n(&r->gone, 1, __ATOMIC_RELAXED);
                break;
            }
        add(&shared->reads, r->reads);
        add(&shared->sections, r->sections);
        r->reads = r->sections = 0;
    }
}

static void *second_thread(void *user)
{
    struct reader r = *(struct reader *)user;

    r.rng.state++;
    read_sections(&r);
    return NULL;
}

/* Errors of a medium that is being made, opened or closed by its writer. */
static int is_passing(int error)
{
    return error == ENOENT || error == EWOULDBLOCK || error == ESTALE;
}

/* `threads` of them read through one struct palloc_t. */
static void read_until_over(uint64_t seed, unsigned threads)
{
    struct reader r;
    struct timespec from;
    pthread_t thread;
    uint64_t root;

    memset(&r, 0, sizeof r);
    r.rng.state = seed;
    r.cold = xmalloc(COLD);
    clock_gettime(CLOCK_MONOTONIC, &from);
    while (!is_over()) {
        r.pt = palloc_init(FILE_NAME, PALLOC_READONLY | PALLOC_SHARED);
        if (r.pt == NULL) {
            if (!is_passing(errno) || seconds_since(&from) > tap_seconds(20))
                fault("reader: %s", palloc_error());
            pause_us(200);
            continue;
        }
        add(&shared->opened, 1);
        r.gone = 0;
        r.root = NULL;
        if (palloc_read_begin(r.pt) == 0) {
            root = palloc_first(r.pt);
            r.root = root != 0 && palloc_size(r.pt, root) >= sizeof *r.root ? palloc_data(r.pt, root) : NULL;
            palloc_read_end(r.pt);
        }
        if (r.root != NULL) {
            if (threads > 1)
                REQUIRE(pthread_create(&thread, NULL, second_thread, &r) == 0);
            read_sections(&r);
            if (threads > 1)
                pthread_join(thread, NULL);
        } else
            pause_us(200);
        palloc_close(r.pt);
        add(&shared->stale, 1);
        clock_gettime(CLOCK_MONOTONIC, &from);
    }
    free(r.cold);
}

/* The parent */

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static void begin_run(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
}

static pid_t start_process(unsigned number, uint64_t seed)
{
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        if (number == 0)
            write_until_over(seed, 0);
        else
            read_until_over(seed, number == 1 ? 2 : 1);
        _exit(0);
    }
    REQUIRE(pid > 0);
    return pid;
}

/* Every blob is linked, nothing is held back, and the file is in the format. */
static void check_end(void)
{
    struct writer w;
    struct palloc_stat stat;

    memset(&w, 0, sizeof w);
    CHECK(access(LIVE_NAME, F_OK) != 0 && errno == ENOENT);
    CHECK_SOUND(FILE_NAME);
    w.pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(w.pt != NULL);
    CHECK_EQ_U(adopt(&w), 0);
    CHECK_EQ_I(palloc_stat(w.pt, &stat), 0);
    CHECK(CHECK_VIEW(w.pt));
    palloc_close(w.pt);
    CHECK_SOUND(FILE_NAME);
    if (shared->failed)
        DIAG("%s", shared->why);
    CHECK(!shared->failed);
}

static void report(void)
{
    DIAG("%llu blobs read in %llu sections; %llu replaced; media opened by readers %llu times, closed by the writer %llu times; %llu kills",
        (unsigned long long)shared->reads, (unsigned long long)shared->sections, (unsigned long long)shared->writes,
        (unsigned long long)shared->opened, (unsigned long long)shared->closed, (unsigned long long)shared->kills);
}

/* Whether the time is not over yet. On a machine that is slow it lasts until something was read and written. */
static int goes_on(const struct timespec *from, uint64_t seconds)
{
    uint64_t passed = seconds_since(from);

    return passed < seconds || ((get(&shared->reads) == 0 || get(&shared->writes) == 0) && passed < tap_seconds(60));
}

static void processes(void)
{
    uint64_t seconds = setting("SHARED_SECONDS", 2), reads = setting("SHARED_READS", 0), seed = setting("SHARED_SEED", 1);
    unsigned readers = (unsigned)setting("SHARED_READERS", 3), k;
    pid_t pids[MOST_READERS + 1];
    struct rng rng = {seed};
    struct timespec from;

    TEST("readers-never-see-a-torn-or-reused-blob-though-they-and-the-writer-are-killed");
    begin_run();
    REQUIRE(readers >= 1 && readers <= MOST_READERS);
    unlink(FILE_NAME);
    for (k = 0; k <= readers; k++)
        pids[k] = start_process(k, rng_next(&rng));
    clock_gettime(CLOCK_MONOTONIC, &from);
    while (!shared->failed && (reads != 0 ? get(&shared->reads) < reads : goes_on(&from, seconds))) {
        int status;

        pause_us((unsigned)(KILL_MS * 500 + rng_below(&rng, KILL_MS * 1000)));
        k = (unsigned)rng_below(&rng, readers + 1);
        if (k > 0 && rng_below(&rng, 8) == 0) { /* one that is slow, perhaps in a section */
            kill(pids[k], SIGSTOP);
            pause_us(100000);
            kill(pids[k], SIGCONT);
            continue;
        }
        kill(pids[k], SIGKILL);
        REQUIRE(waitpid(pids[k], &status, 0) == pids[k]);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
            fault("%s %u ended by itself, status %x", k == 0 ? "writer" : "reader", k, (unsigned)status);
        shared->kills++;
        pids[k] = start_process(k, rng_next(&rng));
    }
    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
    for (k = 0; k <= readers; k++) {
        int status;

        REQUIRE(waitpid(pids[k], &status, 0) == pids[k]);
        CHECK(WIFEXITED(status));
    }
    report();
    CHECK(shared->reads > 0 && shared->kills > 0 && shared->writes > 0);
    check_end();
}

static void *thread_of_reader(void *user)
{
    read_until_over((uint64_t)(uintptr_t)user, 1);
    return NULL;
}

static void *thread_of_writer(void *user)
{
    write_until_over((uint64_t)(uintptr_t)user, 1);
    return NULL;
}

#if defined(__SANITIZE_THREAD__)
/*
 * ThreadSanitizer knows addresses, not files: it sees what happens between media of one process if all map the same file at the same
 * address. (The library is linked with --wrap for these functions.)
 */
static struct same {
    dev_t device;
    ino_t inode;
    char *at;
    size_t size;
    unsigned uses;
} mapped[64];
static pthread_mutex_t mapping = PTHREAD_MUTEX_INITIALIZER;

void *__real_mmap64(void *at, size_t size, int how, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t size);
void *__wrap_mmap64(void *at, size_t size, int how, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int how, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t size);

void *__wrap_mmap64(void *at, size_t size, int how, int flags, int fd, off_t offset)
{
    const size_t room = (size_t)1 << 30;
    struct same *found = NULL, *unused = NULL, *m;
    struct stat st;
    void *result;

    if (at != NULL || offset != 0 || !(flags & MAP_SHARED) || fd < 0 || size > room || fstat(fd, &st) != 0)
        return __real_mmap64(at, size, how, flags, fd, offset);
    pthread_mutex_lock(&mapping);
    for (m = mapped; m < mapped + 64; m++) {
        if (m->uses > 0 && m->device == st.st_dev && m->inode == st.st_ino)
            found = m;
        else if (m->uses == 0)
            unused = m;
    }
    if (found == NULL) {
        /* For others to come, which may write. */
        int again = open(FILE_NAME, O_RDWR | O_CLOEXEC), live = open(LIVE_NAME, O_RDWR | O_CLOEXEC);
        struct stat other;

        if (again >= 0 && fstat(again, &other) == 0 && other.st_ino == st.st_ino)
            fd = again;
        else if (live >= 0 && fstat(live, &other) == 0 && other.st_ino == st.st_ino)
            fd = live;
        result = __real_mmap64(NULL, room, PROT_READ | PROT_WRITE, flags, fd, 0);
        if (result != MAP_FAILED && unused != NULL)
            *(found = unused) = (struct same){st.st_dev, st.st_ino, result, room, 1};
        close(again);
        close(live);
    } else {
        found->uses++;
        result = found->at;
    }
    pthread_mutex_unlock(&mapping);
    return result;
}

void *__wrap_mmap(void *at, size_t size, int how, int flags, int fd, off_t offset)
{
    return __wrap_mmap64(at, size, how, flags, fd, offset);
}

int __wrap_munmap(void *at, size_t size)
{
    struct same *m;
    int result = 0, known = 0;

    pthread_mutex_lock(&mapping);
    for (m = mapped; m < mapped + 64; m++)
        if (m->uses > 0 && (char *)at >= m->at && (char *)at < m->at + m->size) {
            known = 1;
            if (--m->uses == 0)
                result = __real_munmap(m->at, m->size);
        }
    pthread_mutex_unlock(&mapping);
    return known ? result : __real_munmap(at, size);
}
#endif

static void threads(void)
{
    uint64_t seconds = setting("SHARED_SECONDS", 1);
    pthread_t ids[4];
    struct timespec from;
    uintptr_t k;

    TEST("threads-with-media-of-their-own-are-like-processes");
    begin_run();
    unlink(FILE_NAME);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (k = 0; k < 4; k++)
        REQUIRE(pthread_create(&ids[k], NULL, k == 0 ? thread_of_writer : thread_of_reader, (void *)(k + 1)) == 0);
    while (!is_over() && goes_on(&from, seconds))
        pause_us(10000);
    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
    for (k = 0; k < 4; k++)
        pthread_join(ids[k], NULL);
    report();
    CHECK(shared->reads > 0 && shared->writes > 0);
    check_end();
}

int main(void)
{
    alarm(tap_seconds(3600));
    PART(processes());
    PART(threads());
    return tap_done();
}
