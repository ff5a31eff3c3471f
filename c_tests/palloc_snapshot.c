/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc_snapshot: each copy is sound, and is the state between two calls of every thread.
 *
 * POSIX only: it mounts file systems, and counts on threads and files together
 */
#if defined(__linux__) && defined(__LP64__)
static void note(char call);
#define NOTE_WRITE() note('W')
#endif
#include "failing_writes.h"
#include "palloc_util.h"
#include "support/mounted.h"

#include <dirent.h>
#include <sys/stat.h>

#define FILE_NAME "medium.db"
#define COPY "copy.db"

#if defined(__linux__) && defined(__LP64__)
#ifdef __GLIBC__
#include <linux/fs.h>
#else
#define FICLONE 0x40049409 /* musl-gcc does not find the headers of the kernel */
#endif
#include <stdarg.h>
#include <sys/resource.h>

#define HAS_CALLS 1

/* What the library does to files: W it writes, S it syncs a file, D a directory, L it gives a file its name. */
static char calls[4096];
static int reads_fail, syncs_fail, clones_are_copies, clone_error;
static unsigned reads, locks; /* a copy that is read is locked first */
static const char *made_before_link;
static int link_error; /* of a file system without links */
static int makes_temporary_again; /* once the copy has its name, another process makes a file with the name that it had before */
static char temporary[4096];

static void note(char call)
{
    size_t n = strlen(calls);

    if (n + 1 < sizeof calls && (n == 0 || calls[n - 1] != call))
        calls[n] = call;
}

ssize_t pread64(int fd, void *bytes, size_t n, off64_t at)
{
    reads++;
    if (reads_fail && at <= 4096 && at + (off64_t)n > 4096 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        errno = EIO; /* one sector of the medium, not of the copy */
        return -1;
    }
    return syscall(SYS_pread64, fd, bytes, n, at);
}

int fsync(int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        note('D');
        if (makes_temporary_again)
            file_write(temporary, "other", 5);
    } else {
        note('S');
    }
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    if (!syncs_fail)
        return (int)syscall(SYS_fdatasync, fd);
    errno = EIO;
    return -1;
}

int flock(int fd, int how)
{
    locks++;
    return (int)syscall(SYS_flock, fd, how);
}

int link(const char *from, const char *to)
{
    if (made_before_link != NULL)
        file_write(made_before_link, "other", 5);
    note('L');
    snprintf(temporary, sizeof temporary, "%s", from);
    if (link_error != 0) {
        errno = link_error;
        return -1;
    }
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int ioctl(int fd, unsigned long command, ...)
{
    static char bytes[1 << 16];
    long argument;
    va_list args;
    off64_t at = 0;
    ssize_t n;

    va_start(args, command);
    argument = va_arg(args, long);
    va_end(args);
    if (command != FICLONE || (!clones_are_copies && clone_error == 0))
        return (int)syscall(SYS_ioctl, fd, command, argument);
    if (clone_error != 0) {
        errno = clone_error;
        return -1;
    }
    note('W');
    while ((n = syscall(SYS_pread64, (int)argument, bytes, sizeof bytes, at)) > 0) {
        if (syscall(SYS_pwrite64, fd, bytes, n, at) != n)
            return -1;
        at += n;
    }
    return (int)n;
}
#endif

/* ---------------------------------------------------------------------------------------------------------------------------- churn */

enum { THREADS = 2, WINDOW = 20, ROUND = 150 };

static struct palloc_t *pt;
static volatile int stop;
static volatile uint64_t made[THREADS]; /* how many blobs each thread has made */

/* The k-th blob of a thread is known by its size, which palloc makes up to 32 bytes longer. */
static size_t size_of(unsigned thread, uint64_t k)
{
    return (size_t)(64 * (2 * (k % ROUND) + thread + 1));
}

/* Makes a blob, and frees the one that it made WINDOW blobs ago. */
static void *churn(void *user)
{
    unsigned thread = *(unsigned *)user;
    uint64_t ptr[WINDOW];
    uint64_t k;

    for (k = 0; !stop; k++) {
        uint64_t new = palloc(pt, size_of(thread, k));

        if (!CHECK(new != 0))
            break;
        __atomic_store_n(&made[thread], k + 1, __ATOMIC_SEQ_CST);
        if (k >= WINDOW)
            pfree(pt, ptr[k % WINDOW]);
        ptr[k % WINDOW] = new;
    }
    return NULL;
}

/* The blobs of each thread follow each other, WINDOW of them or one more, and the last was made between `before` and `after`. */
static int is_a_state(const char *path, const uint64_t *before, const uint64_t *after)
{
    unsigned char there[THREADS][ROUND];
    struct medium m;
    unsigned thread, i, good = 1;
    size_t b;

    memset(there, 0, sizeof there);
    medium_load(&m, path);
    good &= CHECK_EQ_U(m.faults, 0);
    for (b = 0; b < m.blocks.count; b++)
        if (!m.blocks.at[b].is_free) {
            uint64_t number = m.blocks.at[b].n / 64 - 1;

            good &= CHECK(number / 2 < ROUND && there[number % 2][number / 2]++ == 0);
        }
    medium_free(&m);
    for (thread = 0; thread < THREADS; thread++) {
        unsigned count = 0, ends = 0, last = 0;

        for (i = 0; i < ROUND; i++) {
            count += there[thread][i];
            if (there[thread][i] && !there[thread][(i + 1) % ROUND]) {
                ends++;
                last = i;
            }
        }
        good &= CHECK(count == WINDOW || count == WINDOW + 1) & CHECK_EQ_U(ends, 1);
        for (i = 0; before[thread] + i <= after[thread] + 1 && (before[thread] + i + ROUND - 1) % ROUND != last; i++) {
        }
        good &= CHECK(before[thread] + i <= after[thread] + 1);
    }
    return good;
}

static void during_churn(const char *directory, uint32_t medium_flags, uint32_t flags, unsigned count)
{
    char file[200], copy[200];
    unsigned names[THREADS], n, thread;
    pthread_t threads[THREADS];
    uint64_t before[THREADS], after[THREADS];
    int result = 0;

    snprintf(file, sizeof file, "%s/" FILE_NAME, directory);
    snprintf(copy, sizeof copy, "%s/" COPY, directory);
    unlink(file);
    stop = 0;
    pt = palloc_init(file, PALLOC_DYNAMIC | medium_flags);
    REQUIRE(pt != NULL);
    for (thread = 0; thread < THREADS; thread++) {
        made[thread] = 0;
        names[thread] = thread;
        REQUIRE(pthread_create(&threads[thread], NULL, churn, &names[thread]) == 0);
    }
    while (made[0] <= WINDOW || made[1] <= WINDOW)
        usleep(100);
    for (n = 0; n < count && result == 0; n++) {
        for (thread = 0; thread < THREADS; thread++)
            before[thread] = __atomic_load_n(&made[thread], __ATOMIC_SEQ_CST);
        unlink(copy);
        result = palloc_snapshot(pt, copy, flags);
        for (thread = 0; thread < THREADS; thread++)
            after[thread] = __atomic_load_n(&made[thread], __ATOMIC_SEQ_CST);
        if (!CHECK_EQ_I(result, 0))
            DIAG("%s", palloc_error());
        else if (!is_a_state(copy, before, after))
            break;
        usleep(500);
    }
    stop = 1;
    for (thread = 0; thread < THREADS; thread++)
        pthread_join(threads[thread], NULL);
    palloc_close(pt);
    CHECK_SOUND(file);
    if (result == 0)
        CHECK_SOUND(copy);
    unlink(file);
    unlink(copy);
}

/* --------------------------------------------------------------------------------------------------------------------------- clones */

static void clones_during_churn(void *user)
{
    (void)user;
    during_churn("disk", 0, PALLOC_SNAPSHOT_CLONE, 40 / tap_every(4));
    during_churn("disk", PALLOC_SHARED, PALLOC_SNAPSHOT_CLONE, 20 / tap_every(4));
}

static void clones(const char *kind, const char *make, const char *size)
{
    TESTF("clones-on-%s-during-churn-of-two-threads-are-states-between-two-calls", kind);
    on_file_system(make, size, 100, clones_during_churn, NULL);
}

/* --------------------------------------------------------------------------------------------------------------------------- errors */

static void no_trace(void)
{
    DIR *dir = opendir(".");
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        CHECK(strstr(entry->d_name, ".tmp") == NULL && strcmp(entry->d_name, COPY) != 0);
    if (dir != NULL)
        closedir(dir);
}

static void one(void)
{
    struct palloc_t *copied;
    struct palloc_tx *tx;
    uint64_t ptr, other;
    unsigned i;

    TEST("a-snapshot-has-the-blobs-and-bytes-of-the-medium-and-nothing-else");
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (i = 0; i < 100; i++) {
        ptr = palloc(pt, 100 + i * 37);
        blob_write(pt, ptr, i, 0, 100 + i * 37, BY_ADDRESS);
        if (i % 3 == 2)
            pfree(pt, ptr);
    }
    tx = palloc_begin(pt);
    REQUIRE(tx != NULL && (other = palloc_tx_alloc(tx, 3000)) != 0);
    errno = 7;
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), 0);
    CHECK_EQ_I(errno, 7);
    CHECK_SOUND(COPY);
    CHECK(file_size(COPY) < file_size(FILE_NAME)); /* no slack */
    copied = palloc_init(COPY, PALLOC_READONLY);
    REQUIRE(copied != NULL);
    for (ptr = palloc_first(pt), i = 0; ptr != 0; ptr = palloc_next(pt, ptr), i++) {
        CHECK_EQ_U(palloc_size(copied, ptr), palloc_size(pt, ptr));
        CHECK_MEM(palloc_data(copied, ptr), palloc_data(pt, ptr), palloc_size(pt, ptr));
        CHECK_EQ_U(palloc_next(copied, ptr), palloc_next(pt, ptr));
    }
    CHECK(i > 60);
    palloc_close(copied);

    TEST("a-snapshot-does-not-replace-a-file");
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), -1);
    CHECK_ERRNO(EEXIST);
    CHECK_SOUND(COPY);
    unlink(COPY);
    no_trace();

#ifndef _WIN32
    TEST("a-copy-can-have-each-name-that-the-file-system-takes");
    for (i = 95; i <= (unsigned)pathconf(".", _PC_NAME_MAX); i += i == 110 ? 100 : 1) {
        char path[4096] = "./";

        memset(path + 2, 'b', i);
        path[2 + i] = 0;
        CHECK_EQ_I(palloc_snapshot(pt, path + i % 2 * 2, 0), 0);
        CHECK_EQ_I(unlink(path), 0);
    }
    CHECK(i > 200);
    no_trace();
#endif

    TEST("bad-arguments-are-EINVAL");
    CHECK_EQ_I(palloc_snapshot(NULL, COPY, 0), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_snapshot(pt, NULL, 0), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SYNC), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_snapshot(pt, "nowhere/" COPY, 0), -1);
    CHECK_ERRNO(ENOENT);
    no_trace();

    TEST("a-clone-where-the-file-system-can-not-is-EOPNOTSUPP");
    if (palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE) == 0) {
        SKIP("this file system can");
        unlink(COPY);
    } else
        CHECK_ERRNO(EOPNOTSUPP);
    no_trace();

#if defined(__linux__) && defined(__LP64__)
    TEST("a-full-disk-at-any-moment-is-ENOSPC-and-leaves-no-file");
    for (i = 1; i < 1000; i++) {
        int result;

        writes_left = i;
        errno = 0;
        result = palloc_snapshot(pt, COPY, 0);
        if (writes_left > 0) {
            writes_left = 0;
            CHECK_EQ_I(result, 0);
            break;
        }
        CHECK_EQ_I(result, -1);
        CHECK_ERRNO(ENOSPC);
        no_trace();
    }
    CHECK(i > 3);
    unlink(COPY);
#endif
    palloc_cancel(tx);
    palloc_close(pt);

    TEST("a-medium-that-is-read-only-can-be-copied");
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), 0);
    CHECK_SOUND(COPY);
    CHECK_EQ_U(file_size(COPY), file_size(FILE_NAME));
    palloc_close(pt);
    unlink(COPY);
}

#if HAS_CALLS
/* A medium with blobs and free blocks between them, and slack. */
static void fragmented(uint32_t flags)
{
    unsigned i;

    unlink(FILE_NAME);
    file_zeros(FILE_NAME, flags & PALLOC_DYNAMIC ? 0 : 400000);
    pt = palloc_init(FILE_NAME, flags);
    REQUIRE(pt != NULL);
    for (i = 0; i < 300; i++) {
        uint64_t ptr = palloc(pt, 40 + i * 3);

        REQUIRE(ptr != 0);
        blob_write(pt, ptr, i, 0, palloc_size(pt, ptr), BY_ADDRESS);
    }
    for (i = 0; i < 40; i++)
        pfree(pt, palloc_next(pt, 200 + 3000 * i));
}

/* A clone has each byte that palloc_sync leaves: it is not read and repaired, which would take as long as a copy. */
static void clones_are_synced_media(void)
{
    static const uint32_t kinds[] = {PALLOC_DYNAMIC, PALLOC_DYNAMIC | PALLOC_SYNC, PALLOC_DEFAULT, PALLOC_SYNC};
    struct rlimit limit, unlimited;
    struct bytes medium;
    unsigned i;

    clones_are_copies = 1;
    TEST("a-clone-has-the-bytes-that-palloc_sync-leaves");
    for (i = 0; i < 8; i++) {
        struct palloc_tx *tx;
        uint64_t ptr;

        fragmented(kinds[i % 4]);
        if (i >= 4) { /* transactions that are over leave logs */
            tx = palloc_begin(pt);
            ptr = palloc_tx_alloc(tx, 100);
            REQUIRE(ptr != 0);
            memset(palloc_tx_data(tx, ptr), 1, 100);
            CHECK_EQ_I(palloc_tx_free(tx, palloc_first(pt)), 0);
            CHECK_EQ_I(palloc_commit(tx), 0);
        }
        CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), 0);
        CHECK_SOUND(COPY);
        CHECK_EQ_I(palloc_sync(pt), 0);
        medium = file_read(FILE_NAME);
        CHECK(file_is(COPY, &medium));
        bytes_free(&medium);
        CHECK_VIEW(pt);
        palloc_close(pt);
        unlink(COPY);
    }

    TEST("a-clone-of-a-closed-medium-is-not-read-and-one-of-a-killed-medium-is-repaired");
    for (i = 0; i < 4; i++) {
        unsigned killed;

        fragmented(kinds[i]);
        CHECK_EQ_I(palloc_sync(pt), 0);
        for (killed = 0; killed < 2; killed++) {
            if (killed) {
                pid_t child = fork();
                int status;

                if (child == 0) {
                    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
                    for (killed = 0; killed < 30; killed++)
                        pfree(pt, palloc_next(pt, 900 * killed));
                    raise(SIGKILL);
                }
                CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
            } else {
                palloc_close(pt);
            }
            pt = palloc_init(FILE_NAME, PALLOC_READONLY);
            REQUIRE(pt != NULL);
            locks = 0;
            CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), 0);
            CHECK_EQ_I(locks > 0, killed);
            CHECK_SOUND(COPY);
            CHECK_EQ_U(file_size(COPY), file_size(FILE_NAME));
            palloc_close(pt);
            unlink(COPY);
        }
    }

    TEST("a-clone-beside-a-transaction-that-is-open-has-nothing-of-it");
    for (i = 0; i < 4; i++) {
        struct palloc_tx *tx;
        struct palloc_stat before, after;
        struct palloc_t *copied;

        memset(&before, 0, sizeof before);
        memset(&after, 0, sizeof after);
        fragmented(kinds[i]);
        tx = palloc_begin(pt);
        CHECK(tx != NULL && palloc_tx_alloc(tx, 5000) != 0 && palloc_tx_free(tx, palloc_first(pt)) == 0);
        CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), 0);
        CHECK_SOUND(COPY);
        CHECK_EQ_I(palloc_commit(tx), 0);
        copied = palloc_init(COPY, PALLOC_DEFAULT);
        REQUIRE(copied != NULL);
        CHECK_EQ_I(palloc_stat(pt, &before), 0);
        CHECK_EQ_I(palloc_stat(copied, &after), 0);
        CHECK_EQ_U(after.live_blobs, before.live_blobs); /* one more, one fewer */
        CHECK_EQ_U(palloc_first(copied), 16);
        palloc_close(copied);
        palloc_close(pt);
        unlink(COPY);
    }

    TEST("a-marker-that-was-overwritten-is-EILSEQ-in-a-copy-and-stays-so-in-a-clone");
    fragmented(PALLOC_DYNAMIC);
    memset((char *)palloc_data(pt, palloc_next(pt, 100)) - 8, 0x3f, 8);
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), -1);
    CHECK_ERRNO(EILSEQ);
    CHECK_STR_CONTAINS(palloc_error(), "palloc_salvage");
    no_trace();
    CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), 0);
    CHECK(palloc_check(COPY, NULL, NULL) > 0);
    unlink(COPY);
    palloc_close(pt);
    clones_are_copies = 0;

    TEST("a-clone-beyond-the-limit-of-file-size-is-EFBIG-without-a-call-that-would-send-a-signal");
    fragmented(PALLOC_DYNAMIC);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &unlimited) == 0);
    limit = unlimited;
    limit.rlim_cur = 4096;
    REQUIRE(pt->size > 4096 && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    clones_are_copies = 1;
    CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), -1);
    CHECK_ERRNO(EFBIG);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &unlimited) == 0);
    clones_are_copies = 0;
    no_trace();
    palloc_close(pt);

    TEST("a-file-system-without-clones-is-EOPNOTSUPP-whatever-it-says");
    fragmented(PALLOC_DYNAMIC);
    for (i = 0; i < 4; i++) {
        static const int errors[] = {EOPNOTSUPP, EINVAL, EXDEV, ENOTTY};

        clone_error = errors[i];
        CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), -1);
        CHECK_ERRNO(EOPNOTSUPP);
        no_trace();
    }
    clone_error = 0;
    palloc_close(pt);
}

/* A medium that others read meanwhile: the bytes that are held for them are free in the copy. */
static void shared_media(void)
{
    unsigned way, i;

    for (way = 0; way < 2; way++) {
        struct palloc_t *reader, *copied;
        struct palloc_readers readers;
        struct palloc_stat before, after;
        struct palloc_tx *tx;
        uint64_t ptr, held;

        TESTF("a-%s-of-a-medium-that-is-shared-is-sound-and-has-nothing-that-is-held-for-a-reader", way ? "clone" : "copy");
        memset(&readers, 0, sizeof readers);
        fragmented(PALLOC_DYNAMIC | PALLOC_SHARED);
        reader = palloc_init(FILE_NAME, PALLOC_READONLY | PALLOC_SHARED);
        REQUIRE(reader != NULL && palloc_read_begin(reader) == 0);
        held = palloc_next(pt, palloc_next(pt, 100));
        for (i = 0; i < 20; i++)
            pfree(pt, palloc_next(pt, held + i * 900));
        pfree(pt, held);
        for (i = 0; i < 20; i++)
            CHECK((ptr = palloc(pt, 70 + i)) != 0 && blob_write(pt, ptr, i, 0, palloc_size(pt, ptr), BY_ADDRESS));
        CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
        CHECK(readers.held_bytes > 0);
        tx = palloc_begin(pt);
        CHECK(tx != NULL && palloc_tx_alloc(tx, 5000) != 0 && palloc_tx_free(tx, palloc_first(pt)) == 0);
        clones_are_copies = 1;
        CHECK_EQ_I(palloc_snapshot(pt, COPY, way ? PALLOC_SNAPSHOT_CLONE : 0), 0);
        clones_are_copies = 0;
        CHECK_SOUND(COPY);
        CHECK(access(COPY ".live", F_OK) != 0);
        CHECK(palloc_data(reader, held) != NULL); /* the section goes on */
        copied = palloc_init(COPY, PALLOC_DEFAULT);
        REQUIRE(copied != NULL);
        memset(&before, 0, sizeof before);
        memset(&after, 0, sizeof after);
        CHECK_EQ_I(palloc_stat(pt, &before), 0);
        CHECK_EQ_I(palloc_stat(copied, &after), 0);
        CHECK_EQ_U(after.live_blobs, before.live_blobs);
        CHECK_EQ_U(after.live_bytes, before.live_bytes);
        CHECK(palloc_data(copied, held) == NULL);
        for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr))
            CHECK_MEM(palloc_data(copied, ptr), palloc_data(pt, ptr), palloc_size(pt, ptr));
        palloc_close(copied);
        palloc_cancel(tx);
        palloc_read_end(reader);
        palloc_close(reader);
        palloc_close(pt);
        CHECK_SOUND(FILE_NAME);
        unlink(COPY);
    }
}

/* In which order a copy is made, and what it reads and writes. */
static void steps(void)
{
    struct bytes medium;
    struct rlimit limit, old;
    struct stat st;
    unsigned way;

    TEST("a-copy-is-on-the-disk-before-it-has-its-name-and-its-name-before-the-call-returns");
    fragmented(PALLOC_DYNAMIC);
    for (way = 0; way < 2; way++) {
        clones_are_copies = (int)way;
        memset(calls, 0, sizeof calls);
        CHECK_EQ_I(palloc_snapshot(pt, COPY, way ? PALLOC_SNAPSHOT_CLONE : 0), 0);
        CHECK_STR(calls + (strlen(calls) > 4 ? strlen(calls) - 4 : 0), "WSLD");
        unlink(COPY);
    }
    clones_are_copies = 0;

    TEST("a-file-of-that-name-is-EEXIST-before-a-byte-is-copied");
    file_write(COPY, "other", 5);
    memset(calls, 0, sizeof calls);
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), -1);
    CHECK_ERRNO(EEXIST);
    CHECK_STR(calls, "");
    unlink(COPY);

    TEST("a-file-that-gets-that-name-meanwhile-is-EEXIST-and-stays-as-it-is");
    made_before_link = COPY;
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), -1);
    CHECK_ERRNO(EEXIST);
    CHECK_EQ_U(file_size(COPY), 5);
    unlink(COPY);
    no_trace();

    TEST("on-a-file-system-without-links-too");
    link_error = EPERM;
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), -1);
    CHECK_ERRNO(EEXIST);
    CHECK_EQ_U(file_size(COPY), 5);
    made_before_link = NULL;
    unlink(COPY);
    no_trace();

    TEST("which-is-given-its-name-by-rename-but-not-after-another-error-of-link");
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), 0);
    CHECK_SOUND(COPY);
    unlink(COPY);
    link_error = EIO;
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), -1);
    CHECK_ERRNO(EIO);
    CHECK(access(COPY, F_OK) != 0);
    link_error = 0;
    no_trace();

    TEST("a-file-that-gets-the-temporary-name-after-the-copy-got-its-own-stays");
    makes_temporary_again = 1;
    for (way = 0; way < 2; way++) {
        link_error = way ? EPERM : 0;
        CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), 0);
        CHECK_EQ_I(unlink(temporary), 0);
        unlink(COPY);
    }
    makes_temporary_again = link_error = 0;

    TEST("the-copy-of-a-medium-is-private-as-the-medium-is");
    REQUIRE(chmod(FILE_NAME, 0600) == 0);
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), 0);
    CHECK(stat(COPY, &st) == 0);
    CHECK_EQ_I(st.st_mode & 0777, 0600);
    unlink(COPY);

    TEST("bytes-that-can-not-be-read-are-EIO");
    reads_fail = 1;
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), -1);
    reads_fail = 0;
    CHECK_ERRNO(EIO);
    no_trace();

    TEST("a-sync-that-failed-before-is-EIO");
    for (way = 0; way < 2; way++) {
        syncs_fail = 1;
        CHECK_EQ_I(palloc_sync(pt), -1);
        syncs_fail = 0;
        CHECK_EQ_I(palloc_snapshot(pt, COPY, way ? PALLOC_SNAPSHOT_CLONE : 0), -1);
        CHECK_ERRNO(EIO);
        CHECK_STR_CONTAINS(palloc_error(), "a sync failed before");
        no_trace();
        palloc_close(pt);
        fragmented(PALLOC_DYNAMIC);
    }

    TEST("a-copy-beyond-the-limit-of-files-is-EFBIG-and-no-signal");
    REQUIRE(palloc(pt, 3000000) != 0 && getrlimit(RLIMIT_FSIZE, &old) == 0);
    limit = old;
    limit.rlim_cur = 1 << 20;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), -1);
    CHECK_ERRNO(EFBIG);
    no_trace();
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
    palloc_close(pt);

    TEST("holes-are-not-read-and-zeros-become-holes-and-the-program-s-place-in-the-file-stays");
    fragmented(PALLOC_DYNAMIC);
    palloc_close(pt);
    unlink(FILE_NAME);
    file_zeros(FILE_NAME, 64 << 20);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL && pcalloc(pt, 1, 8 << 20) != 0);
    REQUIRE(lseek(pt->descriptor, 5, SEEK_SET) == 5);
    reads = 0;
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), 0);
    CHECK(reads < 400); /* 8 of 64 MiB are no hole */
    CHECK_EQ_I((int)lseek(pt->descriptor, 0, SEEK_CUR), 5);
    CHECK(file_disk(COPY) < 4 << 20);
    palloc_close(pt);
    unlink(COPY);

    TEST("a-static-medium-that-is-read-only-keeps-its-length");
    fragmented(PALLOC_DEFAULT);
    palloc_close(pt);
    medium = file_read(FILE_NAME);
    file_zeros(FILE_NAME, medium.size + 4096);
    file_write(COPY, medium.at, medium.size);
    bytes_free(&medium);
    REQUIRE(truncate(COPY, (off_t)file_size(FILE_NAME)) == 0 && rename(COPY, FILE_NAME) == 0);
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    CHECK_EQ_I(palloc_snapshot(pt, COPY, 0), 0);
    CHECK_EQ_U(file_size(COPY), file_size(FILE_NAME));
    CHECK_SOUND(COPY);
    palloc_close(pt);
    unlink(COPY);
    unlink(FILE_NAME);
}
#endif

/* A file with other attributes than those that the library gives to a new one. */
static void foreign_clone(void *user)
{
    (void)user;
    REQUIRE(chdir("disk") == 0);
    unlink(FILE_NAME);
    pt = palloc_init(COPY, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL && palloc(pt, 100000) != 0);
    palloc_close(pt);
    file_copy(COPY, FILE_NAME);
    unlink(COPY);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), 0);
    CHECK_SOUND(COPY);
    palloc_close(pt);
    REQUIRE(chdir("..") == 0);
}

/* A clone of a medium that is read only is repaired: its stores need space that the disk has not. */
static void clone_on_a_full_disk(void *user)
{
    static char bytes[1 << 16];
    uint64_t ptrs[2000];
    unsigned i, size;
    int fd, status;
    pid_t child;

    (void)user;
    REQUIRE(chdir("disk") == 0);
    child = fork();
    if (child == 0) {
        pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
        for (i = 0; i < 2000; i++)
            if ((ptrs[i] = palloc(pt, 8000)) == 0)
                _exit(1);
        for (i = 0; i < 2000; i += 2)
            pfree(pt, ptrs[i]);
        raise(SIGKILL); /* the links of 1,000 free blocks are missing */
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    pt = palloc_init(FILE_NAME, PALLOC_READONLY);
    REQUIRE(pt != NULL);
    fd = open("fill", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    for (size = sizeof bytes; size >= 512; size /= 2)
        while (write(fd, bytes, size) > 0) {
        }
    CHECK(ftruncate(fd, lseek(fd, 0, SEEK_END) - (6 << 20)) == 0 && fsync(fd) == 0);
    errno = 0;
    CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), -1);
    CHECK_ERRNO(ENOSPC);
    CHECK_STR_CONTAINS(palloc_error(), "allocate space"); /* the blocks could be shared */
    no_trace();
    close(fd);
    unlink("fill");
    CHECK_EQ_I(palloc_snapshot(pt, COPY, PALLOC_SNAPSHOT_CLONE), 0);
    CHECK_SOUND(COPY);
    palloc_close(pt);
    REQUIRE(chdir("..") == 0);
}

int main(void)
{
    PART(one());
#if HAS_CALLS
    PART(clones_are_synced_media());
    PART(shared_media());
    PART(steps());
#endif
    TEST("a-file-of-another-program-on-btrfs-is-cloned");
    on_file_system("mkfs.btrfs -q -f", "200M", 30, foreign_clone, NULL);
    TEST("a-clone-that-is-repaired-on-a-full-disk-is-ENOSPC-and-no-signal");
    if (is_emulated())
        SKIP("MADV_POPULATE_WRITE does nothing here");
    else
        on_file_system("mkfs.xfs -q -f", "320M", 60, clone_on_a_full_disk, NULL);
    POINT("copies-during-churn-of-two-threads-are-states-between-two-calls", during_churn(".", 0, 0, 100 / tap_every(4)));
    PART(clones("xfs", "mkfs.xfs -q -f", "320M"));
    PART(clones("btrfs", "mkfs.btrfs -q -f", "200M"));
    return tap_done();
}
