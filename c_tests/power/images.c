/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Cuts the power at places of a log (disk.c), and compares what palloc then finds with what was acknowledged (guest.c).
 *
 *     images BASE LOG FS OPTIONS MODE SEED DIRECTORY COUNT JOBS       about COUNT images at random places, by JOBS processes
 *     images BASE LOG FS OPTIONS MODE SEED DIRECTORY COUNT JOBS mutant     only around operations that lack a sync
 *     images BASE LOG FS OPTIONS MODE SEED DIRECTORY at PLACE HOW N   that one, which is kept as DIRECTORY/image
 *
 * After a cut the disk has all that was written before the last flush, and of what was written since
 *
 *     all     everything
 *     none    nothing
 *     subset  some of the writes
 *     torn    some sectors of some of the writes
 *
 * An image is a new file in memory under a loop device; the kernel mounts it on DIRECTORY/mnt.N, so that the journal is replayed. In a child
 * process the medium is opened and compared: these blobs, with these sizes and bytes, the operation in flight done or undone. Then work,
 * close, palloc_check. A failure counts when another loop device, with another file, shows it again.
 *
 * Without PALLOC_SYNC an open may be refused; that is counted by cause. Else each blob that was synced, and neither freed nor moved since,
 * must be there, with the bytes that were not written since.
 *
 * Prints a line "how HOW images N failures N unmounted N refused N N N N N" for each HOW, in the order of enum cause; "total cuts N";
 * "syncs OPERATION N M" where M operations made N syncs. A failure is a line "failed: at PLACE HOW N: ...", and an image that can't be
 * mounted, which says nothing about palloc, "unmounted: at PLACE HOW N: ...". N is 0 but where several images are made at a place.
 */
#include "power.h"

#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define BLOCK 4096

enum how { ALL, NONE, SUBSET, TORN, HOW_COUNT };
static const char *const how_names[HOW_COUNT] = {"all", "none", "subset", "torn"};

/* Why an open was refused, without PALLOC_SYNC. */
enum cause {
    CREATION, /* nothing was synced yet, and there is no file, or no header in it */
    IN_SYNC,  /* the cut was inside palloc_sync */
    BEYOND,   /* a live block reaches beyond the end of the file */
    GROWTH,   /* no block begins at a place behind the end of the medium at the last sync or opening */
    MARKERS,  /* no block begins at another place */
    CAUSE_COUNT
};

enum verdict { GOOD, REFUSED, UNMOUNTED, FAILED, VERDICT_COUNT };
static const char *const verdict_names[VERDICT_COUNT] = {"good", "refused", "unmounted", "failed"};

struct outcome {
    enum verdict verdict;
    enum cause cause;
    char text[400];
};

static const char *fs, *options, *directory;
static char mount_point[256], medium_path[300];
static enum mode mode;

/* --------------------------------------------------------------------------------------------------------------------------- the model */

struct expected {
    uint64_t ptr, size, id;
    uint64_t sure;     /* how many of its first bytes are the pattern of `id` on the disk */
    uint64_t old_id;   /* while a write is in flight: or that of this one, */
    uint64_t old_sure; /* the part of it that is certain */
    uint64_t least, most; /* without PALLOC_SYNC: the sizes that it had since the last sync */
    int loose;            /* bytes were stored that no sync has put on the disk */
    int logged;           /* a transaction stored to it: a power cut may bring back those bytes, until the next palloc_sync */
    int gone;             /* without PALLOC_SYNC: freed or moved since the last sync, perhaps */
    unsigned thread;      /* that made it, and frees it */
};

struct state {
    struct expected blobs[MOST_BLOBS + 1];
    unsigned count;
    int is_medium;
    uint64_t end; /* of the medium, at the last sync or opening */
};

static struct state now, synced;
static struct op in_flight[THREADS]; /* with what they do */
static int broken; /* an operation failed in the guest */
static int is_first_job;
static int is_mutant; /* only cuts around operations that lack a sync */

static struct expected *find(struct state *s, uint64_t ptr)
{
    unsigned i;

    for (i = 0; i < s->count; i++)
        if (s->blobs[i].ptr == ptr)
            return &s->blobs[i];
    return NULL;
}

/*
 * The same of one thread. A record says when an operation begins, so one that has returned may still count as in flight: another thread's
 * new blob can be where the blob is that such an operation frees.
 */
static struct expected *find_of(struct state *s, uint64_t ptr, unsigned thread)
{
    unsigned i;

    for (i = 0; i < s->count; i++)
        if (s->blobs[i].ptr == ptr && s->blobs[i].thread == thread)
            return &s->blobs[i];
    return NULL;
}

static void add(struct state *s, uint64_t ptr, uint64_t size, uint64_t id, uint64_t sure, unsigned thread)
{
    struct expected blob = {ptr, size, id, sure, 0, 0, size, size, 0, 0, 0, thread};

    REQUIRE(s->count <= MOST_BLOBS);
    s->blobs[s->count++] = blob;
}

static void apply_transaction(struct state *s, const struct tx *tx, unsigned thread)
{
    struct expected *blob;
    unsigned i;

    if (tx->cancelled)
        return;
    if (tx->stored != 0) {
        blob = find_of(s, tx->stored, thread);
        blob->id = tx->id;
        blob->sure = blob->size;
        blob->loose = mode == MODE_PLAIN;
        blob->logged = 1;
    }
    for (i = 0; i < TX_FREED; i++)
        if (tx->freed[i] != 0) {
            blob = find_of(s, tx->freed[i], thread);
            *blob = s->blobs[--s->count];
        }
    for (i = 0; i < TX_NEW; i++)
        if (tx->new[i].ptr != 0) {
            add(s, tx->new[i].ptr, tx->new[i].size, tx->new[i].id, tx->new[i].asked, thread);
            s->blobs[s->count - 1].loose = mode == MODE_PLAIN;
        }
}

static void apply(struct state *s, const struct op *op, unsigned thread)
{
    struct expected *blob = find_of(s, op->ptr, thread);
    unsigned i;

    switch (op->kind) {
    case OP_INIT:
    case OP_REOPEN:
        s->is_medium = 1;
        s->end = op->size;
        break;
    case OP_ALLOC:
        if (op->result != 0)
            add(s, op->result, op->size, 0, 0, thread);
        break;
    case OP_FREE:
        *blob = s->blobs[--s->count];
        break;
    case OP_RESIZE:
        if (op->result == 0)
            break;
        blob->ptr = op->result;
        blob->size = op->size;
        if (blob->sure > op->size)
            blob->sure = op->size;
        break;
    case OP_WRITE:
        blob->id = op->id;
        blob->sure = blob->size;
        blob->loose = mode == MODE_PLAIN || blob->logged;
        break;
    case OP_COMMIT:
        apply_transaction(s, &op->tx, thread);
        break;
    case OP_STORE:
        blob->id = op->id;
        blob->sure = blob->size;
        blob->loose = 1;
        break;
    case OP_SYNC:
        s->end = op->size;
        for (i = 0; i < s->count; i++)
            s->blobs[i].loose = s->blobs[i].logged = 0;
        break;
    }
}

/* Marks the synced blobs that `op` may change or free, once it has begun. */
static void touch(const struct op *op)
{
    struct expected *blob = find(&synced, op->ptr);
    unsigned i;

    if (op->kind == OP_COMMIT && !op->tx.cancelled) {
        for (i = 0; i < TX_FREED; i++)
            if ((blob = find(&synced, op->tx.freed[i])) != NULL)
                blob->gone = 1;
        if ((blob = find(&synced, op->tx.stored)) != NULL)
            blob->loose = 1;
        return;
    }
    if (blob == NULL || blob->gone)
        return;
    if (op->kind == OP_FREE)
        blob->gone = 1;
    else if (op->kind == OP_WRITE || op->kind == OP_STORE)
        blob->loose = 1;
    else if (op->kind == OP_RESIZE && op->result == op->ptr) {
        blob->least = op->size < blob->least ? op->size : blob->least;
        blob->most = op->size > blob->most ? op->size : blob->most;
    } else if (op->kind == OP_RESIZE)
        blob->gone = op->result != 0;
}

/* How many operations of the log made how many syncs. */
#define MOST_SYNCS 12
static struct tally {
    const char *name;
    unsigned count[MOST_SYNCS + 1];
} tallies[16];

static void tally(const struct op *op)
{
    const struct expected *blob = find(&now, op->ptr);
    const char *name = operation_name(op, blob != NULL ? blob->size : 0);
    struct tally *t = tallies;

    while (t->name != NULL && strcmp(t->name, name) != 0)
        t++;
    t->name = name;
    t->count[op->syncs < MOST_SYNCS ? op->syncs : MOST_SYNCS]++;
}

static void print_tallies(void)
{
    const struct tally *t;
    int n;

    for (t = tallies; t->name != NULL; t++)
        for (n = 0; n <= MOST_SYNCS; n++)
            if (t->count[n] != 0)
                printf("syncs %s %d %u\n", t->name, n, t->count[n]);
}

/* It has returned. */
static void end_operation(const struct op *op, unsigned thread)
{
    unsigned i;

    if (op->kind == OP_NONE)
        return;
    tally(op);
    apply(&now, op, thread);
    if (op->kind != OP_SYNC)
        return;
    synced = now;
    for (i = 0; i < synced.count; i++)
        synced.blobs[i].least = synced.blobs[i].most = synced.blobs[i].size;
}

/* Takes a record over; `now` is then what was done before. */
static void take(const struct record *record)
{
    const struct op *next = &record->next;

    if (next->kind == OP_BROKEN) {
        if (!broken++ && is_first_job)
            printf("failed: in the guest: %s\n", record->text);
        return;
    }
    if (next->kind == OP_LOSS) {
        if (next->asked == LOSS_MEDIA && is_first_job)
            printf("loss %llu of %llu\n", (unsigned long long)next->result, (unsigned long long)next->asked);
        return;
    }
    end_operation(&in_flight[record->thread], (unsigned)record->thread);
    in_flight[record->thread] = *next;
    touch(next);
}

/* ------------------------------------------------------------------------------------------------------- in the child: a medium's check */

static struct outcome *outcome; /* shared with the parent */

static void verdict(enum verdict what, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    outcome->verdict = what;
    vsnprintf(outcome->text, sizeof outcome->text, format, args);
    va_end(args);
}

static int is_pattern(const uint8_t *bytes, const struct expected *blob)
{
    uint64_t size = blob->sure < blob->size ? blob->sure : blob->size, i;

    if (blob->loose || pattern_match(bytes, blob->id, size) == size)
        return 1;
    if (blob->old_id == 0)
        return 0;
    for (i = 0; i < size; i++) /* a write in flight: any bytes of it are there */
        if (i < blob->old_sure && bytes[i] != pattern_byte(blob->id, i) && bytes[i] != pattern_byte(blob->old_id, i))
            return 0;
    return 1;
}

/* The difference between a medium and a state, as a text; NULL if there is none. */
static const char *difference(struct palloc_t *pt, struct state *s)
{
    static char text[200];
    uint64_t ptr, count = 0;

    for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr)) {
        const struct expected *blob = find(s, ptr);
        uint64_t size = palloc_size(pt, ptr);
        const uint8_t *data;
        if (blob == NULL) {
            snprintf(text, sizeof text, "a blob at %llu too many", (unsigned long long)ptr);
            return text;
        }
        if (mode == MODE_THREADS ? size < blob->size : size != blob->size) {
            snprintf(text, sizeof text, "the blob at %llu has %llu bytes, not %llu", (unsigned long long)ptr, (unsigned long long)size,
                     (unsigned long long)blob->size);
            return text;
        }
        data = palloc_data(pt, ptr);
        if (data == NULL || !is_pattern(data, blob)) {
            snprintf(text, sizeof text, "the blob at %llu has wrong bytes, from byte %llu of %llu on", (unsigned long long)ptr,
                     (unsigned long long)(data != NULL ? pattern_match(data, blob->id, blob->sure) : 0), (unsigned long long)size);
            return text;
        }
        count++;
    }
    if (count == s->count)
        return NULL;
    snprintf(text, sizeof text, "%llu blobs are missing", (unsigned long long)(s->count - count));
    return text;
}

/* It is undone, but bytes may be there. */
static void undo(struct state *s, const struct op *op)
{
    struct expected *blob = find(s, op->ptr);

    if (blob != NULL && op->kind == OP_STORE)
        blob->loose = 1;
    if (blob != NULL && op->kind == OP_WRITE) {
        blob->old_id = blob->id != 0 ? blob->id : 1;
        blob->old_sure = blob->sure;
        blob->id = op->id;
        blob->sure = blob->size;
        blob->loose |= blob->logged;
    }
}

/* With PALLOC_SYNC: what returned is there, each operation in flight done or undone. */
static void compare(struct palloc_t *pt)
{
    unsigned done, cases = mode == MODE_THREADS ? 1u << THREADS : 2, i;
    char texts[300] = "";

    for (done = 0; done < cases; done++) {
        struct state s = now;
        const char *why;
        for (i = 0; i < THREADS; i++)
            if ((done >> i & 1) != 0)
                apply(&s, &in_flight[i], i);
            else
                undo(&s, &in_flight[i]);
        why = difference(pt, &s);
        if (why == NULL)
            return;
        if (done == 0 || done == cases - 1)
            snprintf(texts + strlen(texts), sizeof texts - strlen(texts), "%s%s", done == 0 ? "undone: " : "; done: ", why);
    }
    verdict(FAILED, "%s", texts);
}

/* Without PALLOC_SYNC: what was synced, and neither freed nor moved since. */
static void compare_synced(struct palloc_t *pt)
{
    unsigned i;

    for (i = 0; i < synced.count; i++) {
        struct expected blob = synced.blobs[i];
        uint64_t size = palloc_size(pt, blob.ptr);
        const uint8_t *data = palloc_data(pt, blob.ptr);
        if (blob.gone)
            continue;
        if (blob.sure > blob.least)
            blob.sure = blob.least;
        if (data == NULL || size < blob.least || size > blob.most || !is_pattern(data, &blob)) {
            verdict(FAILED, "the synced blob at %llu, %llu to %llu bytes: %s", (unsigned long long)blob.ptr, (unsigned long long)blob.least,
                    (unsigned long long)blob.most, data == NULL ? "missing" : size < blob.least || size > blob.most ? "size" : "wrong bytes");
            return;
        }
    }
}

/* The medium is as good as any other. */
static void work(struct palloc_t *pt, uint64_t seed)
{
    struct rng rng = {seed};
    uint64_t ptr, next;
    int i;

    for (ptr = palloc_first(pt); ptr != 0; ptr = next) {
        next = palloc_next(pt, ptr);
        if (rng_below(&rng, 3) == 0)
            pfree(pt, ptr);
    }
    for (i = 0; i < 12; i++) {
        ptr = palloc(pt, (size_t)rng_below(&rng, i == 0 ? 100000 : 1500));
        if (ptr != 0)
            pattern_fill(palloc_data(pt, ptr), 7, 0, palloc_size(pt, ptr));
        if (ptr != 0 && rng_below(&rng, 3) == 0)
            prealloc(pt, ptr, (size_t)rng_below(&rng, 3000));
    }
    if (palloc_sync(pt) != 0)
        verdict(FAILED, "palloc_sync after work: %s", palloc_error());
    palloc_close(pt);
    if (palloc_check(medium_path, NULL, NULL) != 0)
        verdict(FAILED, "palloc_check after work: %s", palloc_error());
}

static enum cause cause_of(const char *text, int error)
{
    const char *number = NULL, *p;
    uint64_t offset = 0;
    struct bytes file;
    struct stat st;

    if (error != EILSEQ || stat(medium_path, &st) != 0)
        return CREATION;
    if (in_flight[0].kind == OP_SYNC)
        return IN_SYNC;
    for (p = text; *p != '\0'; p++) /* the offset is the last number of the text */
        if (*p >= '0' && *p <= '9' && (p == text || p[-1] < '0' || p[-1] > '9'))
            number = p;
    offset = number != NULL ? strtoull(number, NULL, 10) : 0;
    if (S_ISREG(st.st_mode)) {
        file = file_read(medium_path);
        if (offset + 8 <= file.size) {
            uint64_t word = get64(file.at + offset);
            if (word >= 16 && word < MIB && offset + 16 + word > file.size)
                return BEYOND;
        }
        bytes_free(&file);
    }
    return offset >= now.end ? GROWTH : MARKERS;
}

/* FILE.live as the power cut left it, or cut somewhere, zeros, or anything behind its first word. */
static void spoil_live_file(uint64_t seed)
{
    struct rng rng = {seed};
    char path[sizeof medium_path + 8];
    struct bytes live;
    size_t i;

    snprintf(path, sizeof path, "%s.live", medium_path);
    if (access(path, F_OK) != 0)
        return;
    live = file_read(path);
    switch (rng_below(&rng, 4)) {
    case 0:
        break;
    case 1:
        file_write(path, live.at, (size_t)rng_below(&rng, live.size + 1));
        break;
    case 2:
        memset(live.at, 0, live.size);
        file_write(path, live.at, live.size);
        break;
    default:
        for (i = 8; i < live.size; i++)
            live.at[i] = (uint8_t)rng_next(&rng);
        file_write(path, live.at, live.size);
    }
    bytes_free(&live);
}

/* A live reader finds it. */
static void check_reader(void)
{
    struct palloc_t *reader = palloc_init(medium_path, PALLOC_READONLY | PALLOC_SHARED);

    if (reader == NULL || palloc_read_begin(reader) != 0)
        verdict(FAILED, "a live reader: %s", palloc_error());
    else if (palloc_first(reader) != 0 && palloc_data(reader, palloc_first(reader)) == NULL)
        verdict(FAILED, "a live reader and the first blob: %s", palloc_error());
    palloc_close(reader);
}

static void check_medium(uint64_t seed)
{
    uint32_t flags = mode == MODE_STATIC || strcmp(fs, "raw") == 0 ? PALLOC_DEFAULT : PALLOC_DYNAMIC;
    struct palloc_t *pt;
    struct stat st;

    verdict(GOOD, "good");
    if (now.is_medium) {
        flags = PALLOC_DEFAULT;
        if (stat(medium_path, &st) != 0) {
            outcome->cause = CREATION;
            verdict(mode == MODE_PLAIN && !synced.is_medium ? REFUSED : FAILED, "there is no file");
            return;
        }
    }
    if (mode == MODE_SHARED) {
        flags |= PALLOC_SHARED;
        spoil_live_file(seed);
    }
    pt = palloc_init(medium_path, flags);
    if (pt == NULL) {
        int error = errno;
        char text[300];
        snprintf(text, sizeof text, "%s", palloc_error());
        if (mode == MODE_PLAIN && (error == EILSEQ || !synced.is_medium)) {
            outcome->cause = cause_of(text, error);
            verdict(REFUSED, "%s", text);
        } else
            verdict(FAILED, "palloc_init: %s", text);
        return;
    }
    if (mode == MODE_PLAIN)
        compare_synced(pt);
    else
        compare(pt);
    if (mode == MODE_SHARED)
        check_reader();
    if (outcome->verdict == GOOD)
        work(pt, seed);
}

/* ------------------------------------------------------------------------------------------------------------------------- loop devices */

static int loop_fd = -1;
static char loop_path[32];

static void attach(int image, int other)
{
    struct loop_config config;
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), first = -1, number, tries;

    for (tries = 0; tries < 50; tries++) {
        number = ioctl(control, LOOP_CTL_GET_FREE);
        if (other && tries == 0) { /* one that is not the first free one: that is held meanwhile */
            snprintf(loop_path, sizeof loop_path, "/dev/loop%d", number);
            first = open(loop_path, O_RDWR | O_CLOEXEC);
            memset(&config, 0, sizeof config);
            config.fd = (uint32_t)image;
            config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
            if (ioctl(first, LOOP_CONFIGURE, &config) == 0)
                number = ioctl(control, LOOP_CTL_GET_FREE);
        }
        snprintf(loop_path, sizeof loop_path, "/dev/loop%d", number);
        loop_fd = open(loop_path, O_RDWR | O_CLOEXEC);
        memset(&config, 0, sizeof config);
        config.fd = (uint32_t)image;
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
        if (loop_fd >= 0 && ioctl(loop_fd, LOOP_CONFIGURE, &config) == 0) {
            ioctl(loop_fd, BLKFLSBUF, 0);
            break;
        }
        if (loop_fd >= 0)
            close(loop_fd);
        usleep(20000);
    }
    if (first >= 0) {
        ioctl(first, LOOP_CLR_FD, 0);
        close(first);
    }
    close(control);
    if (tries == 50) {
        printf("no loop device: %s\n", strerror(errno));
        exit(2);
    }
}

/* btrfs remembers the devices that it has seen, and refuses an older image of the same file system on another one (EEXIST). */
static void forget_device(void)
{
    struct btrfs_ioctl_vol_args args;
    int control = strcmp(fs, "btrfs") == 0 ? open("/dev/btrfs-control", O_RDWR | O_CLOEXEC) : -1;

    if (control < 0)
        return;
    memset(&args, 0, sizeof args);
    snprintf(args.name, sizeof args.name, "%s", loop_path);
    ioctl(control, BTRFS_IOC_FORGET_DEV, &args);
    close(control);
}

static void detach(void)
{
    forget_device();
    ioctl(loop_fd, BLKFLSBUF, 0);
    ioctl(loop_fd, LOOP_CLR_FD, 0);
    close(loop_fd);
}

static void check_image(int image, int other, uint64_t seed)
{
    int is_raw = strcmp(fs, "raw") == 0, status, tries;
    pid_t child;

    attach(image, other);
    if (is_raw)
        snprintf(medium_path, sizeof medium_path, "%s", loop_path);
    else if (mount(loop_path, mount_point, fs, MS_NOATIME, options) != 0) {
        verdict(UNMOUNTED, "mount: %s", strerror(errno));
        detach();
        return;
    }
    fflush(stdout);
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(60);
        check_medium(seed);
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (status != 0)
        verdict(FAILED, "the check ended with status %#x", (unsigned)status);
    for (tries = 0; !is_raw && umount(mount_point) != 0 && tries < 100; tries++)
        usleep(20000);
    detach();
}

/* ------------------------------------------------------------------------------------------------------------------------------- images */

struct write {
    const uint8_t *bytes;
    uint64_t offset;
    uint32_t size;
};

static uint8_t *disk; /* what is on the disk for sure */
static uint8_t *used; /* a byte for each block of it: not zeros, perhaps */
static uint64_t disk_size;
static struct write *pending; /* since the last flush */
static size_t pending_count, pending_room;

static void put_on_disk(const struct write *w)
{
    uint64_t block;

    memcpy(disk + w->offset, w->bytes, w->size);
    for (block = w->offset / BLOCK; block * BLOCK < w->offset + w->size; block++)
        used[block] = 1;
}

static void write_image(int image, const void *bytes, uint64_t size, uint64_t offset)
{
    REQUIRE(pwrite(image, bytes, size, (off_t)offset) == (ssize_t)size);
}

static int make_image(enum how how, uint64_t seed)
{
    struct rng rng = {seed};
    uint64_t block = 0, blocks = disk_size / BLOCK, from;
    uint64_t rare = 1 + rng_below(&rng, 6), most = rng_below(&rng, 2); /* most are there, or most are missing */
    size_t i;
    int image = memfd_create("image", MFD_CLOEXEC);

    REQUIRE(image >= 0 && ftruncate(image, (off_t)disk_size) == 0);
    while (block < blocks) {
        for (; block < blocks && !used[block]; block++)
            continue;
        for (from = block; block < blocks && used[block]; block++)
            continue;
        if (block > from)
            write_image(image, disk + from * BLOCK, (block - from) * BLOCK, from * BLOCK);
    }
    for (i = 0; i < pending_count && how != NONE; i++) {
        const struct write *w = &pending[i];
        int kept = how == ALL || (rng_below(&rng, rare + 1) != 0) == most;
        uint64_t at;
        if (how != TORN || rng_below(&rng, 2) == 0) {
            if (kept)
                write_image(image, w->bytes, w->size, w->offset);
            continue;
        }
        for (at = 0; at < w->size; at += SECTOR)
            if (rng_below(&rng, 2) == 0)
                write_image(image, w->bytes + at, w->size - at < SECTOR ? w->size - at : SECTOR, w->offset + at);
    }
    return image;
}

/* A sparse copy in a file. */
static void keep_image(int image, const char *name)
{
    static uint8_t bytes[BLOCK], zeros[BLOCK];
    char path[400];
    uint64_t at;
    int fd;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)disk_size) == 0);
    for (at = 0; at < disk_size; at += BLOCK)
        if (pread(image, bytes, BLOCK, (off_t)at) > 0 && memcmp(bytes, zeros, BLOCK) != 0)
            write_image(fd, bytes, disk_size - at < BLOCK ? disk_size - at : BLOCK, at);
    close(fd);
}

static struct counts {
    uint64_t images, failures, unmounted, refused[CAUSE_COUNT];
} *counts; /* of this process, for each `how` */

static void print_outcome(const char *what, size_t place, enum how how, unsigned variant)
{
    const struct op *op = &in_flight[0];

    printf("%s: at %zu %s %u: %s; %s in flight, of the blob at %llu, asked for %llu bytes; %u blobs\n", what, place, how_names[how], variant,
           outcome->text, operation_name(op, 0), (unsigned long long)op->ptr, (unsigned long long)op->asked, now.count);
}

/* One image, which is made again if it fails. `variant`: which one of several at this place. */
static void cut(size_t place, enum how how, unsigned variant, uint64_t seed, int keep)
{
    int image;

    seed = mix64(seed * 31 + place * 4 + (unsigned)how + ((uint64_t)variant << 40));
    image = make_image(how, seed);
    if (keep)
        keep_image(image, "image");
    check_image(image, 0, seed);
    close(image);
    if (outcome->verdict == FAILED || outcome->verdict == UNMOUNTED) {
        image = make_image(how, seed);
        check_image(image, 1, seed);
        close(image);
        if (outcome->verdict == GOOD || outcome->verdict == REFUSED)
            printf("a failure was not there the second time: at %zu %s\n", place, how_names[how]);
    }
    counts[how].images++;
    counts[how].failures += outcome->verdict == FAILED;
    counts[how].unmounted += outcome->verdict == UNMOUNTED;
    if (outcome->verdict == REFUSED)
        counts[how].refused[outcome->cause]++;
    if (outcome->verdict == FAILED)
        print_outcome("failed", place, how, variant);
    else if (keep || outcome->verdict == UNMOUNTED)
        print_outcome(verdict_names[outcome->verdict], place, how, variant);
}

/* --------------------------------------------------------------------------------------------------------------------------------- log */

static const uint8_t *log_bytes;
static uint64_t log_size;
static const struct entry **entries;
static size_t entry_count;

static void load_log(const char *path)
{
    static struct bytes file;
    size_t room = 0;
    uint64_t at = 0;

    file = file_read(path);
    log_bytes = file.at;
    log_size = file.size;
    while (log_size - at >= sizeof(struct entry)) {
        const struct entry *entry = (const void *)(log_bytes + at);
        if (entry->size > log_size - at - sizeof *entry)
            break;
        if (entry_count == room) {
            room = room != 0 ? 2 * room : 4096;
            entries = realloc(entries, room * sizeof *entries);
            REQUIRE(entries != NULL);
        }
        entries[entry_count++] = entry;
        at += sizeof *entry + entry->size;
    }
}

/* Records lie in the log at any address. */
static void record_at(size_t i, struct record *record)
{
    memcpy(record, entries[i] + 1, sizeof *record);
}

static void load_base(const char *path)
{
    static uint8_t zeros[BLOCK];
    uint64_t at;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    disk_size = file_size(path);
    disk = mmap(NULL, disk_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    used = calloc(disk_size / BLOCK + 1, 1);
    REQUIRE(fd >= 0 && disk != MAP_FAILED && used != NULL && disk_size % BLOCK == 0);
    for (at = 0; at < disk_size;) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole = data >= 0 ? lseek(fd, data, SEEK_HOLE) : 0;
        if (data < 0)
            break;
        for (at = (uint64_t)data / BLOCK * BLOCK; at < (uint64_t)hole; at += BLOCK)
            used[at / BLOCK] = memcmp(disk + at, zeros, BLOCK) != 0;
    }
    close(fd);
}

static void do_entry(size_t i)
{
    const struct entry *entry = entries[i];
    struct record record;
    size_t j;

    switch (entry->type) {
    case ENTRY_WRITE:
        if (pending_count == pending_room) {
            pending_room = pending_room != 0 ? 2 * pending_room : 256;
            pending = realloc(pending, pending_room * sizeof *pending);
            REQUIRE(pending != NULL);
        }
        pending[pending_count].bytes = (const uint8_t *)(entry + 1);
        pending[pending_count].size = entry->size;
        pending[pending_count++].offset = entry->offset;
        break;
    case ENTRY_FLUSH:
        for (j = 0; j < pending_count; j++)
            put_on_disk(&pending[j]);
        pending_count = 0;
        break;
    case ENTRY_RECORD:
        record_at(i, &record);
        take(&record);
    }
}

static int by_value(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return x < y ? -1 : x > y;
}

/* Places from the beginning of an operation that lacks a sync to the end of the one behind it. */
static size_t places_of_mutant(size_t *places)
{
    size_t i, n = 0;
    struct record record;
    int more = 0;

    for (i = 0; i < entry_count; i++) {
        if (entries[i]->type == ENTRY_RECORD) {
            record_at(i, &record);
            more = record.next.left_out ? 2 : more - (more > 0);
        }
        if (more > 0)
            places[n++] = i + 1;
    }
    return n;
}

/* The end, where the guest was killed; the first places, where the medium is made; places just before a flush and just after a record,
   where most is open; and any others. With a mutant, places where it matters. */
static size_t choose_places(size_t *places, size_t wanted, struct rng *rng)
{
    size_t first = 0, count = 0, n = 0, i;
    size_t *all = xmalloc((entry_count + 1) * sizeof *all), all_count = is_mutant ? places_of_mutant(all) : 0;
    unsigned tries;

    while (first < entry_count && entries[first]->type != ENTRY_RECORD)
        first++;
    if (first >= entry_count || (is_mutant && all_count == 0))
        return 0;
    if (is_mutant)
        wanted = wanted / 3 + 1; /* with more images at each */
    else
        places[count++] = entry_count;
    for (i = first + 1; i < entry_count && entries[i]->type != ENTRY_RECORD && count < wanted / 4 && !is_mutant; i++)
        places[count++] = i;
    while (count < wanted) {
        size_t place = first + 1 + rng_below(rng, entry_count - first);
        if (is_mutant) {
            place = all[rng_below(rng, all_count)];
            for (tries = 0; tries < 3 && (place >= entry_count || entries[place]->type != ENTRY_FLUSH); tries++)
                place = all[rng_below(rng, all_count)];
        } else if (rng_below(rng, 4) != 0)
            while (place < entry_count && entries[place]->type != ENTRY_FLUSH && entries[place - 1]->type != ENTRY_RECORD)
                place++;
        places[count++] = place;
    }
    free(all);
    qsort(places, count, sizeof *places, by_value);
    for (i = 0; i < count; i++)
        if (i == 0 || places[i] != places[i - 1])
            places[n++] = places[i];
    return n;
}

static void be_alone(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing goes on when the script is killed */
    /* Mounts are for this process only, and end with it. */
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0) {
        printf("no mount namespace: %s\n", strerror(errno));
        exit(2);
    }
}

static void *shared(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    REQUIRE(at != MAP_FAILED);
    return at;
}

/* How many images of each kind are made at a place, each with other writes missing; more with a mutant. */
static unsigned variants(enum how how)
{
    static const unsigned of_mutant[HOW_COUNT] = {1, 1, 3, 4};

    return is_mutant ? of_mutant[how] : 1;
}

static void prepare(int job)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(mount_point, sizeof mount_point, "%s/mnt.%d", directory, job);
    snprintf(medium_path, sizeof medium_path, "%s/medium", mount_point);
    mkdir(mount_point, 0700);
    outcome = shared(sizeof *outcome);
}

/* Cuts at each `jobs`-th place. */
static void cut_at(const size_t *places, size_t count, uint64_t seed, int job, int jobs)
{
    size_t i, at = 0;
    int how;
    unsigned variant;

    prepare(job);
    for (i = 0; i < count && !broken; i++) {
        while (at < places[i])
            do_entry(at++);
        if (broken || mode == MODE_LOSS || i % (size_t)jobs != (size_t)job)
            continue;
        for (how = 0; how < HOW_COUNT; how++)
            for (variant = 0; variant < variants((enum how)how); variant++)
                if (how == ALL || pending_count > (how == SUBSET ? 1 : 0))
                    cut(places[i], (enum how)how, variant, seed, 0);
    }
    rmdir(mount_point);
}

/* Makes one image again: `arguments` are PLACE HOW N. Returns whether all is well. */
static int cut_once(char **arguments, uint64_t seed)
{
    static struct counts of_one[HOW_COUNT];
    size_t at, place = strtoull(arguments[0], NULL, 10);
    int how = 0;

    while (how < HOW_COUNT && strcmp(how_names[how], arguments[1]) != 0)
        how++;
    REQUIRE(how < HOW_COUNT && place <= entry_count);
    counts = of_one;
    prepare(0);
    for (at = 0; at < place; at++)
        do_entry(at);
    cut(place, (enum how)how, (unsigned)atoi(arguments[2]), seed, 1);
    rmdir(mount_point);
    return outcome->verdict == GOOD || outcome->verdict == REFUSED;
}

int main(int argc, char **argv)
{
    struct counts total[HOW_COUNT], *of_job;
    size_t *places, count;
    struct rng rng;
    uint64_t wanted, seed, failures = 0;
    int how, cause, job, jobs, status = 0;

    REQUIRE(argc >= 10);
    fs = argv[3];
    options = argv[4];
    mode = mode_of(argv[5]);
    seed = strtoull(argv[6], NULL, 10);
    rng.state = seed;
    directory = argv[7];
    be_alone();
    load_base(argv[1]);
    load_log(argv[2]);
    if (strcmp(argv[8], "at") == 0) {
        REQUIRE(argc >= 12);
        return cut_once(argv + 9, seed) ? 0 : 1;
    }
    is_mutant = argc > 10;
    wanted = strtoull(argv[8], NULL, 10) / 3 + 1;
    jobs = atoi(argv[9]);
    places = xmalloc((wanted + 1) * sizeof *places);
    count = choose_places(places, wanted, &rng);
    of_job = shared(sizeof total * (size_t)jobs);
    for (job = 0; job < jobs; job++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            counts = of_job + job * HOW_COUNT;
            is_first_job = job == 0;
            cut_at(places, count, seed, job, jobs);
            if (job == 0)
                print_tallies();
            fflush(stdout);
            _exit(broken);
        }
    }
    while (wait(&job) > 0)
        status |= job;
    memset(total, 0, sizeof total);
    for (job = 0; job < jobs; job++)
        for (how = 0; how < HOW_COUNT; how++) {
            struct counts *from = of_job + job * HOW_COUNT + how;
            total[how].images += from->images;
            total[how].failures += from->failures;
            total[how].unmounted += from->unmounted;
            for (cause = 0; cause < CAUSE_COUNT; cause++)
                total[how].refused[cause] += from->refused[cause];
        }
    for (how = 0; how < HOW_COUNT; how++) {
        printf("how %s images %llu failures %llu unmounted %llu refused", how_names[how], (unsigned long long)total[how].images,
               (unsigned long long)total[how].failures, (unsigned long long)total[how].unmounted);
        for (cause = 0; cause < CAUSE_COUNT; cause++)
            printf(" %llu", (unsigned long long)total[how].refused[cause]);
        printf("\n");
        failures += total[how].failures;
    }
    printf("total cuts %llu\n", (unsigned long long)count);
    return failures == 0 && status == 0 ? 0 : 1;
}
