/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The first and only process of the virtual machine: random operations on a medium on the first disk, and on the second one
 * a record (power.h) before each. The kernel's command line says how, as NAME=VALUE:
 *
 *     POWER_FS       ext4, xfs, btrfs; "raw": the medium is the disk itself
 *     POWER_OPTIONS  of mount
 *     POWER_MODE     power.h
 *     POWER_SEED     of the random numbers
 *     POWER_BUSY     1: pages that the program stored to are written to the disk all the time
 *     POWER_MUTANT   OPERATION:K/N: the K-th sync of an operation that makes N is left out; in MODE_THREADS every third
 *                    one is left out
 *
 * Each operation first runs on a twin of the medium in memory, which shows how many syncs it makes and its results. So a sync can be left
 * out though the library is the one that is shipped: it calls the fdatasync and fsync below. In the place of the sync, another file is
 * synced now and then: that brings the length of the medium's file to the disk, but not what was stored there.
 *
 * Threads have no twin. They write the record between what precedes palloc_commit, which no power cut shows, and palloc_commit.
 */
#include "power.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>

#define DISK "/dev/vda"
#define RECORDS "/dev/vdb"

/* ------------------------------------------------------------------------------------------------------------------------- barriers */

static enum mode mode;
static unsigned syncs;            /* of the operation that runs */
static int on_twin;               /* it runs on the twin */
static unsigned left_out;         /* which of its syncs is left out, 0: none; 3 in MODE_THREADS: every third one */
static const char *mutant = "";
static int other = -1;            /* another file on the same file system */

/* Brings the journal to the disk. */
static void write_other(void)
{
    static uint64_t count;

    count++;
    if (pwrite(other, &count, sizeof count, 0) == sizeof count)
        syscall(SYS_fsync, other); /* not by the function below, which counts */
}

static int barrier(int fd, long call)
{
    static unsigned count;
    unsigned n = __atomic_add_fetch(&syncs, 1, __ATOMIC_RELAXED);

    if (on_twin)
        return 0;
    if (left_out == 0 || (mode == MODE_THREADS ? n % left_out != 0 : n != left_out))
        return (int)syscall(call, fd);
    if (other >= 0 && count++ % 2 == 0)
        write_other();
    return 0;
}

int fdatasync(int fd)
{
    return barrier(fd, SYS_fdatasync);
}

int fsync(int fd)
{
    return barrier(fd, SYS_fsync);
}

/* -------------------------------------------------------------------------------------------------------------------------- records */

static struct record *record; /* aligned, for O_DIRECT */
static int records = -1;
static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread unsigned this_thread;

static void write_record(const struct op *next)
{
    record->magic = RECORD_MAGIC;
    record->thread = this_thread;
    record->next = *next;
    while (pwrite(records, record, sizeof *record, (off_t)(record->number * sizeof *record)) != sizeof *record)
        continue;
    record->number++;
}

/* `next` begins when this is on the disk. */
static void announce(const struct op *next)
{
    pthread_mutex_lock(&record_lock);
    write_record(next);
    pthread_mutex_unlock(&record_lock);
}

/* Nothing more can be done. */
static void stop(uint64_t kind, const char *format, ...)
{
    struct op last;
    va_list args;

    pthread_mutex_lock(&record_lock); /* the last record: nobody unlocks it */
    va_start(args, format);
    vsnprintf(record->text, sizeof record->text, format, args);
    va_end(args);
    printf("%s\n", record->text);
    memset(&last, 0, sizeof last);
    last.kind = kind;
    if (records >= 0)
        write_record(&last);
    for (;;)
        pause();
}

#define BROKEN(...) stop(OP_BROKEN, __VA_ARGS__)

/* ------------------------------------------------------------------------------------------------------------------------- the medium */

static int is_static;

/* One of the two, by either generation. */
struct medium_of {
    const char *path;
    struct palloc_t *pt;
    int fd;
    struct palloc_t *reader; /* in MODE_SHARED */
};

static struct medium_of real = {"/mnt/medium", NULL, -1, NULL}, twin = {"/tmp/twin", NULL, -1, NULL};

static uint32_t flags(void)
{
    return (is_static ? PALLOC_DEFAULT : PALLOC_DYNAMIC) | (mode == MODE_PLAIN ? 0 : PALLOC_SYNC)
        | (mode == MODE_SHARED ? PALLOC_SHARED : 0);
}

static int open_medium(struct medium_of *m)
{
    if (mode == MODE_SECOND) {
        m->fd = palloc_fd_open(m->path, flags());
        return m->fd > 0 && palloc_fd_init(m->fd, flags()) == 0;
    }
    m->pt = palloc_init(m->path, flags());
    if (mode == MODE_SHARED)
        m->reader = palloc_init(m->path, PALLOC_READONLY | PALLOC_SHARED);
    return m->pt != NULL && (mode != MODE_SHARED || m->reader != NULL);
}

static int close_medium(struct medium_of *m)
{
    if (mode == MODE_SECOND)
        return palloc_fd_close(m->fd) == 0;
    if (mode == MODE_SHARED)
        palloc_close(m->reader);
    palloc_close(m->pt);
    return errno == 0;
}

static int descriptor(const struct medium_of *m)
{
    return mode == MODE_SECOND ? m->fd : m->pt->descriptor;
}

static uint64_t size_of_medium(const struct medium_of *m)
{
    return mode == MODE_SECOND ? (uint64_t)lseek(m->fd, 0, SEEK_END) : m->pt->size;
}

static int write_pattern(struct medium_of *m, const struct op *op, uint64_t size)
{
    static uint8_t bytes[4 * MIB];

    pattern_fill(bytes, op->id, 0, size);
    return pwrite(descriptor(m), bytes, size, (off_t)op->ptr) == (ssize_t)size;
}

static uint64_t size_of_blob(const struct medium_of *m, uint64_t ptr)
{
    return mode == MODE_SECOND ? palloc_fd_size(m->fd, ptr) : palloc_size(m->pt, ptr);
}

/* All of a transaction but its end: cancelled if there is no space, NULL if there is not even space for a log. */
static int prepare(struct palloc_t *pt, struct tx *t, struct palloc_tx **transaction)
{
    struct palloc_tx *tx = *transaction = palloc_begin(pt);
    unsigned i;

    if (tx == NULL) {
        t->cancelled = 1;
        return errno == ENOSPC;
    }
    for (i = 0; i < TX_NEW; i++) {
        if (t->new[i].asked == 0)
            continue;
        t->new[i].ptr = palloc_tx_alloc(tx, (size_t)t->new[i].asked);
        if (t->new[i].ptr == 0 && errno != ENOSPC)
            return 0;
        if (t->new[i].ptr != 0 && !on_twin)
            pattern_fill(palloc_tx_data(tx, t->new[i].ptr), t->new[i].id, 0, t->new[i].asked);
    }
    for (i = 0; i < TX_FREED; i++)
        if (t->freed[i] != 0 && palloc_tx_free(tx, t->freed[i]) != 0) {
            t->cancelled = 1;
            if (errno != ENOSPC)
                return 0;
        }
    if (t->stored != 0) {
        uint64_t size = palloc_size(pt, t->stored);
        uint8_t *bytes = xmalloc((size_t)size);
        pattern_fill(bytes, t->id, 0, size);
        if (palloc_tx_store(tx, t->stored, bytes, (size_t)size) != 0) {
            t->cancelled = 1;
            if (errno != ENOSPC)
                return 0;
        }
        free(bytes);
    }
    return 1;
}

static int end(const struct tx *t, struct palloc_tx *tx)
{
    if (!t->cancelled)
        return palloc_commit(tx) == 0;
    if (tx != NULL)
        palloc_cancel(tx);
    return 1;
}

static int run_transaction(struct palloc_t *pt, struct tx *t)
{
    struct palloc_tx *tx;
    unsigned i;

    if (!prepare(pt, t, &tx) || !end(t, tx))
        return 0;
    for (i = 0; i < TX_NEW && !t->cancelled; i++)
        if (t->new[i].ptr != 0)
            t->new[i].size = palloc_size(pt, t->new[i].ptr);
    return 1;
}

/* Runs the operation and fills in its results; 0 if it failed, other than for want of space. */
static int run(struct medium_of *m, struct op *op)
{
    int good = 1;

    if (m->reader != NULL && palloc_read_begin(m->reader) == 0) {
        palloc_data(m->reader, palloc_first(m->reader));
        palloc_read_end(m->reader); /* FILE.live changes with each section */
    }
    errno = 0;
    syncs = 0;
    switch (op->kind) {
    case OP_REOPEN:
        good = close_medium(m);
        /* fall through */
    case OP_INIT:
        good = open_medium(m) && good;
        op->size = good ? size_of_medium(m) : 0;
        break;
    case OP_ALLOC:
        op->result = mode == MODE_SECOND ? palloc_fd_alloc(m->fd, op->asked) : palloc(m->pt, (size_t)op->asked);
        break;
    case OP_FREE:
        if (mode == MODE_SECOND)
            palloc_fd_free(m->fd, op->ptr);
        else
            pfree(m->pt, op->ptr);
        good = errno == 0;
        break;
    case OP_RESIZE:
        op->result = prealloc(m->pt, op->ptr, (size_t)op->asked);
        break;
    case OP_WRITE:
        good = on_twin || write_pattern(m, op, size_of_blob(m, op->ptr));
        break;
    case OP_STORE:
        if (!on_twin)
            pattern_fill(palloc_data(m->pt, op->ptr), op->id, 0, palloc_size(m->pt, op->ptr));
        break;
    case OP_SYNC:
        good = palloc_sync(m->pt) == 0;
        op->size = size_of_medium(m);
        break;
    case OP_COMMIT:
        good = run_transaction(m->pt, &op->tx);
        break;
    }
    if (op->kind == OP_ALLOC || op->kind == OP_RESIZE) {
        good = op->result != 0 || errno == ENOSPC;
        op->size = op->result != 0 ? size_of_blob(m, op->result) : 0;
    }
    op->syncs = syncs;
    return good;
}

static uint64_t length(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Runs the operation on the twin, which fills in its results, and chooses a sync that is left out on the medium. */
static void rehearse(struct op *op, uint64_t old_size)
{
    uint64_t old_length = length(twin.path);
    char operation[16];
    unsigned k, n;

    on_twin = 1;
    if (!run(&twin, op))
        BROKEN("operation %d on the twin: %s", (int)op->kind, palloc_error());
    on_twin = 0;
    op->grows = length(twin.path) > old_length;
    if (sscanf(mutant, "%15[a-z]:%u/%u", operation, &k, &n) == 3 && op->syncs == n && strcmp(operation, operation_name(op, old_size)) == 0)
        op->left_out = k;
}

/* Runs the operation on the medium. */
static void operate(const struct op *rehearsed)
{
    struct op op = *rehearsed;

    left_out = (unsigned)op.left_out;
    if (!run(&real, &op))
        BROKEN("operation %d: %s", (int)op.kind, palloc_error());
    if (op.result != rehearsed->result || op.size != rehearsed->size || memcmp(&op.tx, &rehearsed->tx, sizeof op.tx) != 0)
        BROKEN("operation %d gave %llu of %llu bytes, and %llu of %llu on the twin", (int)op.kind, (unsigned long long)op.result,
               (unsigned long long)op.size, (unsigned long long)rehearsed->result, (unsigned long long)rehearsed->size);
}

/* ------------------------------------------------------------------------------------------------------------------- random operations */

/* Each thread has blobs of its own. */
static __thread struct {
    uint64_t ptr, size;
} blobs[MOST_BLOBS];
static __thread unsigned blob_count;
static unsigned most_blobs = MOST_BLOBS;
static __thread uint64_t fresh; /* the blob that the last operation allocated, resized or moved, 0: none */
static __thread uint64_t next_id;

static uint64_t first_id(uint64_t seed)
{
    return 65536 + seed * 1000000;
}

static uint64_t any_size(struct rng *rng)
{
    switch (rng_below(rng, 8)) {
    case 0:
        return rng_below(rng, 120000);
    case 1:
    case 2:
        return rng_below(rng, 9000);
    default:
        return rng_below(rng, 700);
    }
}

static uint64_t last_blob(void)
{
    uint64_t last = 0;
    unsigned i;

    for (i = 0; i < blob_count; i++)
        last = blobs[i].ptr > last ? blobs[i].ptr : last;
    return last;
}

static struct op make_op(enum kind kind)
{
    struct op op;

    memset(&op, 0, sizeof op);
    op.kind = kind;
    return op;
}

/* New blobs; often others are freed, or one is stored over. */
static struct op choose_transaction(struct rng *rng)
{
    struct op op = make_op(OP_COMMIT);
    unsigned i, count = (unsigned)rng_below(rng, TX_NEW + 1), from = (unsigned)rng_below(rng, blob_count);

    op.tx.cancelled = rng_below(rng, 10) == 0;
    for (i = 0; i < count && blob_count + count <= most_blobs; i++) {
        op.tx.new[i].asked = any_size(rng) + 1;
        op.tx.new[i].id = next_id++;
    }
    if (count != 0 && rng_below(rng, 3) == 0)
        return op;
    count = 1 + (unsigned)rng_below(rng, TX_FREED);
    for (i = 0; i < count && blob_count > 2 * TX_FREED; i++)
        op.tx.freed[i] = blobs[(from + i) % blob_count].ptr;
    if (blob_count > 2 * TX_FREED && rng_below(rng, 2) == 0) {
        op.tx.stored = blobs[(from + TX_FREED) % blob_count].ptr;
        op.tx.id = next_id++;
    }
    return op;
}

static int is_mutant(const char *operation)
{
    return strncmp(mutant, operation, strlen(operation)) == 0;
}

/* Media grow for a while, then shrink for a while. With a mutant, what makes its operation likely comes more often. */
static struct op choose(struct rng *rng)
{
    static unsigned until = 20, growing = 1, since_sync;
    struct op op = make_op(OP_ALLOC);
    unsigned i = (unsigned)rng_below(rng, blob_count), choice = (unsigned)rng_below(rng, 100);
    int of_transactions = is_mutant("commit:") || is_mutant("new:") || is_mutant("next:");

    if (until-- == 0) {
        growing = !growing;
        until = 10 + (unsigned)rng_below(rng, 60);
    }
    since_sync++;
    if (fresh != 0 && rng_below(rng, 3) != 0) { /* as programs do; else its bytes are those that were there */
        op.kind = mode != MODE_SECOND && rng_below(rng, mode == MODE_PLAIN ? 2 : 8) == 0 ? OP_STORE : OP_WRITE;
        op.ptr = fresh;
        op.id = next_id++;
        return op;
    }
    if (of_transactions && rng_below(rng, 6) == 0) { /* gives the logs back, so that the next transaction is a first one */
        op.kind = OP_SYNC;
        return op;
    }
    if (mode != MODE_SECOND && (mutant[0] == '\0' || of_transactions) && rng_below(rng, of_transactions ? 2 : 5) == 0)
        return choose_transaction(rng);
    if ((is_mutant("growth:") || strstr(mutant, "free:") != NULL) && rng_below(rng, 4) != 0) { /* at the end of the medium */
        op.kind = blob_count > MOST_BLOBS / 2 || rng_below(rng, 2) != 0 ? OP_FREE : OP_ALLOC;
        op.asked = any_size(rng);
        op.ptr = last_blob();
        if (mode != MODE_SECOND && rng_below(rng, 3) == 0) /* cuts off the slack */
            op.kind = OP_SYNC;
        else if (op.ptr == 0)
            op.kind = OP_ALLOC;
        return op;
    }
    if (is_mutant("shrink:") && blob_count > 8 && rng_below(rng, 2) == 0) { /* of a large blob: the markers are in two sectors */
        unsigned tries;
        for (tries = 0; tries < 4; tries++) {
            unsigned j = (unsigned)rng_below(rng, blob_count);
            i = blobs[j].size > blobs[i].size ? j : i;
        }
        op.kind = OP_RESIZE;
        op.ptr = blobs[i].ptr;
        op.asked = rng_below(rng, blobs[i].size);
        return op;
    }
    if (mode == MODE_PLAIN ? since_sync > 4 && choice < 10 : mode != MODE_SECOND && choice < 3) {
        since_sync = 0;
        op.kind = OP_SYNC;
        return op;
    }
    if (choice < 13) {
        op.kind = choice < 11 ? OP_ALLOC : OP_REOPEN;
        op.asked = any_size(rng);
        if (op.kind == OP_REOPEN || blob_count < MOST_BLOBS)
            return op;
    }
    if (blob_count == 0 || (choice < (growing ? 45 : 25) && blob_count < MOST_BLOBS)) {
        op.asked = any_size(rng);
        return op;
    }
    op.ptr = blobs[i].ptr;
    if (choice < 55) {
        op.kind = OP_FREE;
        if (!growing && rng_below(rng, 2) == 0) /* the last one, so that the file is cut */
            op.ptr = last_blob();
    } else if (choice < 85 && mode != MODE_SECOND) {
        op.kind = OP_RESIZE;
        op.asked = choice < 66 ? rng_below(rng, blobs[i].size + 1) : choice < 76 ? blobs[i].size + 1 + rng_below(rng, 600) : any_size(rng);
    } else {
        op.kind = choice < (mode == MODE_PLAIN ? 95 : 87) && mode != MODE_SECOND ? OP_STORE : OP_WRITE;
        op.id = next_id++;
    }
    return op;
}

static unsigned find(uint64_t ptr)
{
    unsigned i = 0;

    while (i < blob_count && blobs[i].ptr != ptr)
        i++;
    return i;
}

static void add(uint64_t ptr, uint64_t size)
{
    blobs[blob_count].ptr = ptr;
    blobs[blob_count++].size = size;
}

static void note(const struct op *op)
{
    unsigned i = find(op->ptr);

    fresh = op->result;
    if (op->kind == OP_ALLOC && op->result != 0)
        add(op->result, op->size);
    else if (op->kind == OP_FREE)
        blobs[i] = blobs[--blob_count];
    else if (op->kind == OP_RESIZE && op->result != 0) {
        blobs[i].ptr = op->result;
        blobs[i].size = op->size;
    } else if (op->kind == OP_COMMIT && !op->tx.cancelled) {
        for (i = 0; i < TX_FREED; i++)
            if (op->tx.freed[i] != 0)
                blobs[find(op->tx.freed[i])] = blobs[blob_count - 1], blob_count--;
        for (i = 0; i < TX_NEW; i++)
            if (op->tx.new[i].ptr != 0)
                add(op->tx.new[i].ptr, op->tx.new[i].size);
    }
}

/*
 * Writes back what was stored, all the time, as a system under pressure does. Now and then another file is synced, which brings the journal
 * to the disk, and with it the length of the medium's file, but not what was stored there.
 */
static void *write_back(void *unused)
{
    struct rng rng = {1};
    (void)unused;
    for (;;) {
        int fd = open(real.path, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            sync_file_range(fd, (off_t)(rng_below(&rng, 4) * 65536), rng_below(&rng, 3) == 0 ? 4096 : 0, SYNC_FILE_RANGE_WRITE);
            close(fd);
        }
        if (other >= 0 && rng_below(&rng, 16) == 0)
            write_other();
        usleep((useconds_t)rng_below(&rng, 400));
    }
    return NULL;
}

/* Also frees a blob now and then, as the first call behind a transaction. */
static void *work_of_thread(void *seed)
{
    struct rng rng = {(uint64_t)(uintptr_t)seed};

    this_thread = (unsigned)((uintptr_t)seed % THREADS);
    next_id = first_id((uintptr_t)seed);
    for (;;) {
        struct op op = blob_count == 0 || rng_below(&rng, 8) != 0 ? choose_transaction(&rng) : make_op(OP_FREE);
        struct palloc_tx *tx = NULL;
        unsigned i;

        op.left_out = left_out;
        if (op.kind == OP_FREE)
            op.ptr = blobs[rng_below(&rng, blob_count)].ptr;
        else if (!prepare(real.pt, &op.tx, &tx))
            BROKEN("a transaction: %s", palloc_error());
        for (i = 0; i < TX_NEW; i++)
            op.tx.new[i].size = op.tx.new[i].asked;
        announce(&op);
        errno = 0;
        if (op.kind == OP_FREE)
            pfree(real.pt, op.ptr);
        if (op.kind == OP_FREE ? errno != 0 : !end(&op.tx, tx))
            BROKEN("operation %d of a thread: %s", (int)op.kind, palloc_error());
        note(&op);
    }
    return NULL;
}

static void work_in_threads(uint64_t seed)
{
    pthread_t thread;
    uintptr_t i;

    most_blobs = MOST_BLOBS / THREADS;
    left_out = mutant[0] != '\0' ? 3 : 0;
    for (i = 1; i < THREADS; i++)
        pthread_create(&thread, NULL, work_of_thread, (void *)(uintptr_t)(seed * THREADS + i));
    work_of_thread((void *)(uintptr_t)(seed * THREADS));
}

static void work(uint64_t seed, int busy)
{
    struct rng rng = {seed};
    struct op op = make_op(OP_INIT);
    pthread_t thread;

    if (busy)
        pthread_create(&thread, NULL, write_back, NULL);
    for (;;) {
        unsigned i = find(op.ptr);
        uint64_t has_record;
        rehearse(&op, i < blob_count ? blobs[i].size : 0);
        announce(&op);
        operate(&op);
        note(&op);
        if (mode == MODE_THREADS)
            work_in_threads(seed);
        has_record = op.kind == OP_COMMIT && changes_blobs(&op.tx);
        op = choose(&rng);
        op.has_record = has_record;
    }
}

/* A static medium begins as zeros that are on the disk; the twin of one on a block device has the same size. */
static void make_zeros(const char *path, uint64_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 || fallocate(fd, 0, 0, (off_t)size) != 0)
        BROKEN("%s: %s", path, strerror(errno));
    fsync(fd);
    close(fd);
    if (path == real.path) {
        fd = open("/mnt", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fsync(fd);
        close(fd);
    }
}

/* ------------------------------------------------------------------------------------------------------- the plain loss, without a cut */

static int is_lost(struct rng *rng, const char *fs, const char *options)
{
    uint64_t ptrs[40], sizes[40], id = next_id;
    int i, lost = 0;
    struct palloc_t *pt = palloc_init(real.path, PALLOC_DYNAMIC);

    if (pt == NULL)
        BROKEN("palloc_init: %s", palloc_error());
    for (i = 0; i < 40; i++) {
        ptrs[i] = palloc(pt, (size_t)any_size(rng));
        if (ptrs[i] == 0)
            BROKEN("palloc: %s", palloc_error());
        sizes[i] = palloc_size(pt, ptrs[i]);
        pattern_fill(palloc_data(pt, ptrs[i]), id + (uint64_t)i, 0, sizes[i]);
        if (rng_below(rng, 8) == 0)
            sync_file_range(pt->descriptor, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    if (palloc_sync(pt) != 0)
        BROKEN("palloc_sync: %s", palloc_error());
    palloc_close(pt);
    if (umount("/mnt") != 0 || mount(DISK, "/mnt", fs, 0, options) != 0)
        BROKEN("umount and mount: %s", strerror(errno));
    pt = palloc_init(real.path, PALLOC_DEFAULT);
    for (i = 0; i < 40 && pt != NULL; i++) {
        const void *data = palloc_data(pt, ptrs[i]);
        lost |= data == NULL || pattern_match(data, id + (uint64_t)i, sizes[i]) != sizes[i];
    }
    lost |= pt == NULL;
    palloc_close(pt);
    unlink(real.path);
    next_id += 40;
    return lost;
}

static void lose(uint64_t seed, const char *fs, const char *options)
{
    struct rng rng = {seed};
    struct op op = make_op(OP_LOSS);

    mode = MODE_PLAIN;
    for (op.asked = 1; op.asked <= LOSS_MEDIA; op.asked++) {
        op.result += (uint64_t)is_lost(&rng, fs, options);
        announce(&op);
    }
    stop(OP_END, "%llu", (unsigned long long)op.result);
}

/* ---------------------------------------------------------------------------------------------------------------------------- the system */

/* In the order of their names, which begin with numbers. */
static void load_modules(void)
{
    struct dirent **entries;
    int count = scandir("/modules", &entries, NULL, alphasort), i;

    for (i = 0; i < count; i++) {
        char path[300];
        int fd;
        snprintf(path, sizeof path, "/modules/%s", entries[i]->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (entries[i]->d_name[0] != '.' && syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)
            printf("%s: %s\n", path, strerror(errno));
        close(fd);
    }
}

static uint64_t device_size(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);

    close(fd);
    return size;
}

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);

    return value != NULL ? value : otherwise;
}

int main(void)
{
    const char *fs = setting("POWER_FS", "ext4"), *options = setting("POWER_OPTIONS", "");
    uint64_t seed = strtoull(setting("POWER_SEED", "1"), NULL, 10);
    int is_raw = strcmp(fs, "raw") == 0, tries;

    mkdir("/dev", 0755);
    mkdir("/mnt", 0755);
    mkdir("/tmp", 0755);
    mkdir("/proc", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, "");
    mount("proc", "/proc", "proc", 0, "");
    mount("tmpfs", "/tmp", "tmpfs", 0, "");
    load_modules();
    for (tries = 0; tries < 500 && access(RECORDS, F_OK) != 0; tries++)
        usleep(10000);
    records = open(RECORDS, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (posix_memalign((void **)&record, 4096, sizeof *record) != 0 || records < 0) {
        printf("no %s: %s\n", RECORDS, strerror(errno));
        reboot(RB_POWER_OFF);
    }
    memset(record, 0, sizeof *record);
    mode = mode_of(setting("POWER_MODE", "first"));
    mutant = setting("POWER_MUTANT", "");
    next_id = first_id(seed * THREADS);
    if (is_raw)
        real.path = DISK;
    else if (mount(DISK, "/mnt", fs, 0, options) != 0)
        BROKEN("mount: %s", strerror(errno));
    if (mode == MODE_LOSS)
        lose(seed, fs, options);
    is_static = is_raw || mode == MODE_STATIC;
    if (is_static)
        make_zeros(twin.path, is_raw ? device_size(DISK) : STATIC_SIZE);
    if (is_static && !is_raw)
        make_zeros(real.path, STATIC_SIZE);
    if (!is_raw) {
        other = open("/mnt/other", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        sync(); /* the directory is there */
    }
    work(seed, atoi(setting("POWER_BUSY", "1")));
    return 0;
}
