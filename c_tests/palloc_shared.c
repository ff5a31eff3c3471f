/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One writer and many readers of one medium (PALLOC_SHARED): each promise of the manual. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FILE_OFFSET_BITS /* fstatfs is defined here as it is named */
#include "palloc_util.h"

#if defined(__linux__) || defined(_WIN32)

#if defined(__linux__)
#include <sched.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#endif
#if !defined(ESTALE)
#define ESTALE PALLOC_E_NO_WRITER
#endif

#define WRITER (PALLOC_SHARED | PALLOC_DYNAMIC)
#define READER (PALLOC_SHARED | PALLOC_READONLY)
#define READERS 254

#if defined(__linux__)
/* The library's calls come here: it asks what kind of file system this is. */
static unsigned long pretended;

int fstatfs(int fd, struct statfs *info)
{
    int result = (int)syscall(SYS_fstatfs, fd, info);

    if (pretended != 0)
        info->f_type = (__typeof__(info->f_type))pretended;
    return result;
}

#if UINTPTR_MAX > 0xffffffff
/* And here when it asks for locks of bytes of FILE.live: something is done behind the question after `more_questions` others. */
static void (*meanwhile)(void);
static int more_questions;
static int no_locks; /* if not 0, questions and requests for such locks fail with this errno */

int fcntl(int fd, int command, ...)
{
    void (*call)(void) = meanwhile;
    va_list args;
    void *arg;
    int result;

    va_start(args, command);
    arg = va_arg(args, void *);
    va_end(args);
    if ((command == F_OFD_GETLK || command == F_OFD_SETLK) && no_locks != 0) {
        errno = no_locks;
        return -1;
    }
    result = (int)syscall(SYS_fcntl, fd, command, arg);
    if (command == F_OFD_GETLK && call != NULL && more_questions-- == 0) {
        meanwhile = NULL;
        call();
    }
    return result;
}

/* And here when it sleeps: this is called once, before the sleep. */
static void (*in_sleep)(void);

static void slept(void)
{
    void (*call)(void) = in_sleep;

    in_sleep = NULL;
    if (call != NULL)
        call();
}

int nanosleep(const struct timespec *wait, struct timespec *rest)
{
    slept();
    return (int)syscall(SYS_nanosleep, wait, rest);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wait, struct timespec *rest)
{
    slept();
    return syscall(SYS_clock_nanosleep, clock, flags, wait, rest) == 0 ? 0 : errno;
}
#endif
#endif

static int exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int filled(const char *at, char with, size_t size)
{
    while (size > 0 && *at == with) {
        at++;
        size--;
    }
    return size == 0;
}

/* A blob of `size` bytes, all of them `with`. */
static uint64_t blob_of(struct palloc_t *pt, size_t size, char with)
{
    const uint64_t ptr = palloc(pt, size);

    if (CHECK(ptr != 0))
        memset(palloc_data(pt, ptr), with, (size_t)palloc_size(pt, ptr));
    return ptr;
}

static int shows(struct palloc_t *reader, uint64_t ptr, char with)
{
    const char *data = palloc_data(reader, ptr);

    return data != NULL && filled(data, with, (size_t)palloc_size(reader, ptr));
}

static struct palloc_readers readers_of(struct palloc_t *pt)
{
    struct palloc_readers readers = {0, 0, 0, 0, 0};

    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    return readers;
}

/* Frees and allocates until the writer has begun new epochs, more than once. */
static void churn(struct palloc_t *pt)
{
    int i;

    for (i = 0; i < 500; i++)
        pfree(pt, blob_of(pt, 48, 'c'));
}

/* What a child does with a medium of its own. */

static int just_open(struct palloc_t *pt)
{
    (void)pt;
    return 1;
}

static int read_on(struct palloc_t *pt)
{
    return palloc_read_begin(pt) == 0;
}

static int make_a_blob(struct palloc_t *pt)
{
    return blob_of(pt, 100, 'k') != 0;
}

static const struct {
    const char *name;
    int (*work)(struct palloc_t *);
} works[] = {{"just_open", just_open}, {"read_on", read_on}, {"make_a_blob", make_a_blob}};

/* The child: does that, makes a file that says so, and waits to be killed. */
static int as_child(const char *name, const char *path, uint32_t flags)
{
    struct palloc_t *pt = palloc_init(path, flags);
    size_t i = 0;

    while (i < 2 && strcmp(works[i].name, name) != 0)
        i++;
    if (pt == NULL || !works[i].work(pt))
        return 1;
    file_write("ready", "", 0);
    for (;;)
        usleep(100000);
}

#if defined(_WIN32)
typedef HANDLE process;
#define NUMBER(child) ((int64_t)GetProcessId(child))
#else
typedef pid_t process;
#define NUMBER(child) ((int64_t)(child))
#endif

/* A child that has done this. */
static process child_that(const char *name, const char *path, uint32_t flags)
{
    process child;
    int i;

    unlink("ready");
#if defined(_WIN32)
    {
        char args[200];

        snprintf(args, sizeof args, "%s %s %u", name, path, (unsigned)flags);
        child = start_self(args);
        REQUIRE(child != NULL);
    }
#else
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        _exit(as_child(name, path, flags));
#endif
    for (i = 0; i < 3000 && !exists("ready"); i++)
        usleep(10000);
    CHECK(exists("ready"));
    return child;
}

static void killed(process child)
{
#if defined(_WIN32)
    kill_it(child);
#else
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
#endif
}

static void opening(void)
{
    struct palloc_t *writer;
    struct palloc_t *reader;
    uint64_t root;

    TEST("without-a-writer-a-reader-is-ESTALE-and-locks-nothing");
    CHECK(palloc_init("open.pba", READER) == NULL);
    CHECK_ERRNO(ENOENT);
    palloc_close(palloc_init("open.pba", PALLOC_DYNAMIC));
    CHECK(palloc_init("open.pba", READER) == NULL);
    CHECK_ERRNO(ESTALE);
    CHECK_EQ_I(errno, PALLOC_E_NO_WRITER);
    CHECK_STR_CONTAINS(palloc_error(), "PALLOC_SHARED");
    writer = palloc_init("open.pba", PALLOC_DYNAMIC);
    CHECK(writer != NULL);
    CHECK(palloc_init("open.pba", READER) == NULL);
    CHECK_ERRNO(ESTALE);
    palloc_close(writer);

    TEST("a-writer-makes-FILE.live-and-its-close-removes-it");
    writer = palloc_init("open.pba", WRITER);
    REQUIRE(writer != NULL);
    CHECK(exists("open.pba.live"));
    CHECK_EQ_U(writer->flags, PALLOC_DYNAMIC);
    root = palloc_root(writer, 64);
    memset(palloc_data(writer, root), 'r', 64);

    TEST("a-reader-sees-the-root-and-what-the-writer-stores");
    reader = palloc_init("open.pba", READER);
    REQUIRE(reader != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    CHECK_EQ_U(palloc_first(reader), root);
    CHECK_EQ_U(palloc_root(reader, 64), root);
    CHECK_EQ_U(palloc_root(reader, 65), 0);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_U(palloc_size(reader, root), 64);
    CHECK(shows(reader, root, 'r'));
    CHECK(palloc_at(reader, root) == palloc_data(reader, root));
    CHECK(reader->at_size > root); /* so palloc_at took no lock */
    CHECK_EQ_U(palloc_offset(reader, palloc_data(reader, root)), root);
    memset(palloc_data(writer, root), 's', 64);
    CHECK(shows(reader, root, 's'));
    palloc_read_end(reader);

    TEST("others-stay-out-by-the-lock-as-ever");
    CHECK(palloc_init("open.pba", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(palloc_init("open.pba", PALLOC_READONLY) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(palloc_init("open.pba", WRITER) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK_EQ_I(palloc_check("open.pba", NULL, NULL), -1);
    CHECK_ERRNO(EWOULDBLOCK);

    TEST("after-the-writers-close-sections-are-ESTALE");
    palloc_close(writer);
    CHECK(!exists("open.pba.live"));
    CHECK_EQ_I(palloc_read_begin(reader), -1);
    CHECK_ERRNO(ESTALE);
    writer = palloc_init("open.pba", WRITER);
    CHECK(writer != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), -1);
    CHECK_ERRNO(ESTALE);
    palloc_close(reader);
    palloc_close(writer);
    CHECK_SOUND("open.pba");
}

static int walked(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    (void)user, (void)ptr, (void)size, (void)is_free;
    return 0;
}

static int traced(void *user, uint64_t ptr, const void *data, uint64_t size, palloc_visit_fn visit, void *mark)
{
    (void)user, (void)ptr, (void)data, (void)size, (void)visit, (void)mark;
    return 0;
}

static void refused(void)
{
    struct palloc_t *writer = palloc_init("refused.pba", WRITER);
    const uint64_t root = palloc_root(writer, 100);
    struct palloc_t *reader = palloc_init("refused.pba", READER);
    struct palloc_t *other;
    struct palloc_stat stat;
    struct palloc_readers readers;

    REQUIRE(writer != NULL && reader != NULL && root != 0);
    TEST("a-reader-changes-nothing: EROFS");
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    CHECK(palloc(reader, 10) == 0);
    CHECK_ERRNO(EROFS);
    errno = 0;
    pfree(reader, root);
    CHECK_ERRNO(EROFS);
    CHECK(prealloc(reader, root, 1000) == 0);
    CHECK_ERRNO(EROFS);
    CHECK(palloc_begin(reader) == NULL);
    CHECK_ERRNO(EROFS);
    CHECK_EQ_I(palloc_trim(reader, 0), -1);
    CHECK_ERRNO(EROFS);
    CHECK_EQ_I(palloc_sync(reader), 0);
    CHECK_EQ_I(palloc_flush(reader, root, 10), 0);

    TEST("a-reader-can't-walk: ENOTSUP");
    errno = 0;
    CHECK_EQ_U(palloc_next(reader, 0), 0);
    CHECK_ERRNO(ENOTSUP);
    CHECK_EQ_I(palloc_stat(reader, &stat), -1);
    CHECK_ERRNO(ENOTSUP);
    CHECK_EQ_I(palloc_walk(reader, walked, NULL), -1);
    CHECK_ERRNO(ENOTSUP);
    CHECK_EQ_I(palloc_unreachable(reader, &root, 1, traced, walked, NULL, NULL), -1);
    CHECK_ERRNO(ENOTSUP);
    CHECK_EQ_I(palloc_snapshot(reader, "copy.pba", 0), -1);
    CHECK_ERRNO(ENOTSUP);

    TEST("offsets-that-are-no-blobs-are-EINVAL");
    CHECK(palloc_data(reader, 0) == NULL);
    CHECK_ERRNO(EINVAL);
    CHECK(palloc_data(reader, root + 1) == NULL);
    CHECK_ERRNO(EINVAL);
    CHECK(palloc_data(reader, root + 16) == NULL); /* behind a word that is 0, no size */
    CHECK_ERRNO(EINVAL);
    CHECK(palloc_data(reader, (uint64_t)1 << 40) == NULL);
    CHECK_ERRNO(EINVAL);
    CHECK(palloc_size(reader, UINT64_MAX) == 0);
    CHECK_ERRNO(EINVAL);
    CHECK(palloc_at(reader, (uint64_t)1 << 40) == NULL);
    CHECK_ERRNO(EINVAL);

    TEST("outside-of-a-section-there-is-nothing-to-read: EINVAL");
    palloc_read_end(reader);
    CHECK(palloc_data(reader, root) == NULL);
    CHECK_ERRNO(EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "section");
    CHECK_EQ_U(palloc_size(reader, root), 0);
    CHECK_ERRNO(EINVAL);
    errno = 0;
    CHECK_EQ_U(palloc_first(reader), 0);
    CHECK_ERRNO(EINVAL);

    TEST("sections-and-counts-are-for-media-that-are-opened-for-them: EINVAL");
    CHECK_EQ_I(palloc_read_begin(writer), -1);
    CHECK_ERRNO(EINVAL);
    palloc_read_end(writer);
    CHECK_EQ_I(palloc_read_begin(NULL), -1);
    CHECK_ERRNO(EINVAL);
    palloc_read_end(NULL);
    CHECK_EQ_I(palloc_get_readers(NULL, &readers), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_get_readers(writer, NULL), -1);
    CHECK_ERRNO(EINVAL);
    other = palloc_init("other.pba", PALLOC_DYNAMIC);
    CHECK_EQ_I(palloc_get_readers(other, &readers), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_read_begin(other), -1);
    CHECK_ERRNO(EINVAL);
    palloc_close(other);
    palloc_close(reader);
    palloc_close(writer);

#if defined(__linux__)
    TEST("network-file-systems-are-ENOTSUP");
    pretended = 0x6969;
    CHECK(palloc_init("refused.pba", WRITER) == NULL);
    CHECK_ERRNO(ENOTSUP);
    CHECK(!exists("refused.pba.live"));
    pretended = 0;
    writer = palloc_init("refused.pba", WRITER);
    pretended = 0xff534d42;
    CHECK(palloc_init("refused.pba", READER) == NULL);
    CHECK_ERRNO(ENOTSUP);
    pretended = 0;
    palloc_close(writer);
#endif
    CHECK_SOUND("refused.pba");
}

static void held(void)
{
    struct palloc_t *writer = palloc_init("held.pba", WRITER);
    const uint64_t root = palloc_root(writer, 16);
    struct palloc_t *reader = palloc_init("held.pba", READER);
    uint64_t small, large, moved, shrunk, last, ptr;
    struct stat before, after;
    struct palloc_readers readers;
    process child;

    REQUIRE(writer != NULL && reader != NULL && root != 0);
    small = blob_of(writer, 48, 'a');
    large = blob_of(writer, 100000, 'b');
    moved = blob_of(writer, 3000, 'm');
    shrunk = blob_of(writer, 3000, 's');
    last = blob_of(writer, 1 << 20, 'l');
    TEST("what-is-freed-or-moved-in-a-section-keeps-its-bytes");
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    pfree(writer, small);
    pfree(writer, large);
    ptr = prealloc(writer, moved, 200000);
    CHECK(ptr != 0 && ptr != moved);
    CHECK_EQ_U(prealloc(writer, shrunk, 16), shrunk);
    pfree(writer, last);
    churn(writer);
    CHECK_EQ_I(palloc_sync(writer), 0);
    churn(writer);
    CHECK(shows(reader, small, 'a') && shows(reader, large, 'b') && shows(reader, moved, 'm'));
    CHECK(shows(reader, shrunk, 's') && shows(reader, last, 'l'));
    CHECK_EQ_U(palloc_size(reader, large), 100000);

    TEST("a-second-pfree-of-a-held-blob-is-EINVAL");
    errno = 0;
    pfree(writer, small);
    CHECK_ERRNO(EINVAL);
    CHECK(palloc_data(writer, large) == NULL);
    CHECK_ERRNO(EINVAL);

    TEST("palloc_get_readers-names-the-process-and-what-it-holds-back");
    readers = readers_of(writer);
    CHECK_EQ_U(readers.open, 1);
    CHECK_EQ_U(readers.reading, 1);
    CHECK_EQ_I(readers.oldest_pid, getpid());
    CHECK_EQ_I(readers.writer_pid, getpid());
    CHECK(readers.held_bytes >= 100000 + 48 + 3000 + (1 << 20));
    readers = readers_of(reader);
    CHECK_EQ_U(readers.open, 1);
    CHECK_EQ_I(readers.oldest_pid, getpid());
    CHECK(readers.held_bytes >= 100000 + 48 + 3000 + (1 << 20));
    child = child_that("read_on", "held.pba", READER); /* a younger section */
    readers = readers_of(writer);
    CHECK_EQ_U(readers.reading, 2);
    CHECK_EQ_I(readers.oldest_pid, getpid());
    killed(child);

    TEST("the-file-is-not-cut-while-a-reader-is-open");
    CHECK(stat("held.pba", &before) == 0);
    palloc_read_end(reader);
    CHECK_EQ_I(palloc_sync(writer), 0);
    CHECK(stat("held.pba", &after) == 0);
    CHECK(after.st_size >= before.st_size);
    CHECK(writer->size < (uint64_t)after.st_size);

    TEST("after-the-section-the-space-is-used-again");
    readers = readers_of(writer);
    CHECK_EQ_U(readers.reading, 0);
    CHECK_EQ_U(readers.held_bytes, 0);
    CHECK_EQ_I(readers.oldest_pid, 0);
    ptr = blob_of(writer, 100000, 'n');
    CHECK(ptr < last);

    TEST("a-reader-that-is-killed-holds-nothing-back-any-more");
    child = child_that("read_on", "held.pba", READER);
    readers = readers_of(writer);
    CHECK_EQ_U(readers.open, 2);
    CHECK_EQ_U(readers.reading, 1);
    CHECK_EQ_I(readers.oldest_pid, NUMBER(child));
    pfree(writer, ptr);
    churn(writer);
    CHECK(readers_of(writer).held_bytes >= 100000);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    readers = readers_of(writer);
    CHECK_EQ_U(readers.reading, 2);
    CHECK_EQ_I(readers.oldest_pid, NUMBER(child));
    palloc_read_end(reader);
    killed(child);
    CHECK_EQ_I(palloc_sync(writer), 0);
    readers = readers_of(writer);
    CHECK_EQ_U(readers.open, 1);
    CHECK_EQ_U(readers.held_bytes, 0);

    TEST("pcalloc-gives-zeros-where-palloc_sync-could-not-cut-the-file");
    ptr = palloc(writer, 4 << 20);
    CHECK(ptr != 0);
    CHECK_EQ_I(palloc_sync(writer), 0); /* the slack is a free block now, with links and an end marker */
    CHECK(stat("held.pba", &after) == 0 && (uint64_t)after.st_size > writer->size + 1000);
    moved = pcalloc(writer, 1, (size_t)((uint64_t)after.st_size - writer->size - 16));
    CHECK(moved != 0 && filled(palloc_data(writer, moved), 0, (size_t)palloc_size(writer, moved)));
    pfree(writer, moved);
    pfree(writer, ptr);

    TEST("without-readers-the-file-is-cut-and-exactly-the-format");
    palloc_close(reader);
    CHECK_EQ_I(palloc_sync(writer), 0);
    CHECK(stat("held.pba", &after) == 0);
#if !defined(_WIN32) /* where a file of which the program has addresses can't be cut before its close */
    CHECK_EQ_U(after.st_size, writer->size);
#endif
    palloc_close(writer);
    CHECK_SOUND("held.pba");
}

#if defined(__linux__) && UINTPTR_MAX > 0xffffffff
static struct palloc_t *cut_writer, *cut_reader;
static uint64_t cut_blob;

static void open_the_reader(void)
{
    cut_reader = palloc_init("cut.pba", READER);
}

static void cut_the_file(void)
{
    pfree(cut_writer, cut_blob);
    CHECK_EQ_I(palloc_sync(cut_writer), 0);
}

/* What it knows of the file is there, so that an offset of a blob that is gone is an error and no SIGBUS. */
static void check_its_end(void)
{
    struct stat st;

    CHECK(stat("cut.pba", &st) == 0);
    if (!CHECK(cut_reader != NULL && cut_reader->at_size <= (uint64_t)st.st_size))
        return;
    CHECK_EQ_I(palloc_read_begin(cut_reader), 0);
    CHECK(palloc_data(cut_reader, cut_blob) == NULL || (uint64_t)st.st_size > cut_blob);
    palloc_read_end(cut_reader);
    palloc_close(cut_reader);
    cut_reader = NULL;
}

static void cuts(void)
{
    int n, opened = 0;

    TEST("a-reader-that-opens-while-the-file-is-cut-does-not-look-behind-its-end");
    cut_writer = palloc_init("cut.pba", WRITER);
    REQUIRE(cut_writer != NULL && palloc_root(cut_writer, 16) != 0);
    for (n = 0; n < 10; n++) {
        cut_blob = blob_of(cut_writer, 4 << 20, 'x');
        pfree(cut_writer, cut_blob);
        more_questions = n;
        meanwhile = open_the_reader;
        CHECK_EQ_I(palloc_sync(cut_writer), 0);
        meanwhile = NULL;
        if (cut_reader == NULL)
            break;
        opened++;
        check_its_end();
    }
    CHECK(opened >= 4);

    TEST("a-file-that-is-cut-while-a-reader-opens-it-ends-there-for-it");
    for (n = 0; n < 2; n++) {
        cut_blob = blob_of(cut_writer, 4 << 20, 'x');
        more_questions = n;
        meanwhile = cut_the_file;
        cut_reader = palloc_init("cut.pba", READER);
        CHECK(meanwhile == NULL);
        meanwhile = NULL;
        check_its_end();
    }

    TEST("where-the-system-can't-say-whether-a-reader-is-open-the-file-is-not-cut");
    cut_blob = blob_of(cut_writer, 4 << 20, 'x');
    pfree(cut_writer, cut_blob);
    no_locks = ENOLCK;
    CHECK_EQ_I(palloc_sync(cut_writer), 0);
    CHECK(file_size("cut.pba") > 4 << 20);
    no_locks = 0;
    CHECK_EQ_I(palloc_sync(cut_writer), 0);
    CHECK(file_size("cut.pba") < 4 << 20);
    palloc_close(cut_writer);
    CHECK_SOUND("cut.pba");
}

static void end_section(void)
{
    palloc_read_end(cut_reader);
}

/* Locks a byte of FILE.live, as a process of another version would. Returns the descriptor. */
static int locked_byte(const char *path, off_t at)
{
    struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

    CHECK(fd > 2);
    CHECK_EQ_I(fcntl(fd, F_OFD_SETLK, &byte), 0);
    return fd;
}

static void moments(void)
{
    struct palloc_t *writer = palloc_init("moment.pba", WRITER);
    struct bytes live;
    uint64_t ptr;
    int fd, other;

    TEST("a-system-without-locks-of-open-files-on-bytes-is-ENOTSUP");
    no_locks = EINVAL;
    CHECK(palloc_init("locks.pba", WRITER) == NULL);
    CHECK_ERRNO(ENOTSUP);
    no_locks = 0;
    CHECK(!exists("locks.pba.live"));

    TEST("palloc_close-waits-a-moment-for-a-section-to-end");
    REQUIRE(writer != NULL);
    ptr = blob_of(writer, 100000, 'a');
    cut_reader = palloc_init("moment.pba", READER);
    REQUIRE(cut_reader != NULL);
    CHECK_EQ_I(palloc_read_begin(cut_reader), 0);
    pfree(writer, ptr);
    in_sleep = end_section;
    palloc_close(writer);
    CHECK(in_sleep == NULL);
    in_sleep = NULL;
    CHECK(!exists("moment.pba.live"));
    CHECK_SOUND("moment.pba");
    palloc_close(cut_reader);

    TEST("FILE.live-that-its-writer-has-not-filled-yet-is-ESTALE");
    fd = locked_byte("moment.pba.live", 0);
    CHECK(palloc_init("moment.pba", READER) == NULL);
    CHECK_ERRNO(ESTALE);
    close(fd);

    TEST("a-writer-of-another-version-is-none-for-a-reader: ESTALE");
    writer = palloc_init("moment.pba", WRITER);
    live = file_read("moment.pba.live");
    palloc_close(writer);
    for (other = 0; other < 2; other++) {
        file_write("moment.pba.live", live.at, live.size);
        if (other)
            file_poke64("moment.pba.live", 0, ~get64(live.at));
        fd = locked_byte("moment.pba.live", 0);
        cut_reader = palloc_init("moment.pba", READER);
        CHECK((cut_reader == NULL) == other);
        if (other)
            CHECK_ERRNO(ESTALE);
        palloc_close(cut_reader);
        close(fd);
    }
    bytes_free(&live);
    unlink("moment.pba.live");

    TEST("a-reader-of-another-version-is-not-disturbed: EWOULDBLOCK");
    fd = locked_byte("moment.pba.live", 1);
    CHECK(palloc_init("moment.pba", WRITER) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(exists("moment.pba.live"));
    close(fd);
    writer = palloc_init("moment.pba", WRITER);
    CHECK(writer != NULL);
    palloc_close(writer);
    CHECK(!exists("moment.pba.live"));
}
#endif

static void static_medium(void)
{
    struct palloc_t *writer, *reader;
    uint64_t large;

    TEST("on-a-full-static-medium-held-space-is-ENOSPC-until-the-section-ends");
    file_write("static.pba", "", 0);
    REQUIRE(truncate("static.pba", 1 << 20) == 0);
    writer = palloc_init("static.pba", PALLOC_SHARED);
    reader = palloc_init("static.pba", READER);
    REQUIRE(writer != NULL && reader != NULL);
    large = blob_of(writer, 900000, 'x');
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    pfree(writer, large);
    CHECK(palloc(writer, 900000) == 0);
    CHECK_ERRNO(ENOSPC);
    CHECK(shows(reader, large, 'x'));
    palloc_read_end(reader);
    CHECK_EQ_U(palloc(writer, 900000), large);
    palloc_close(reader);
    palloc_close(writer);
    CHECK_SOUND("static.pba");
}

static void growth(void)
{
    struct palloc_t *writer = palloc_init("grow.pba", WRITER);
    struct palloc_t *reader = palloc_init("grow.pba", READER);
    uint64_t first, ptr = 0;
    char *at;
    int i;

    TEST("a-reader-sees-blobs-in-the-part-that-the-file-has-grown-by");
    REQUIRE(writer != NULL && reader != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    errno = 0;
    CHECK_EQ_U(palloc_first(reader), 0);
    CHECK_ERRNO(0);
    first = blob_of(writer, 100, 'f');
    CHECK_EQ_U(palloc_first(reader), first);
    CHECK(shows(reader, first, 'f'));
    at = palloc_data(reader, first);
    for (i = 0; i < 100; i++)
        ptr = blob_of(writer, 1 << 20, (char)('A' + i % 26));
    CHECK(palloc_at(reader, ptr) != NULL);
    CHECK(shows(reader, ptr, (char)('A' + 99 % 26)));
    CHECK(filled(at, 'f', 100));
    palloc_read_end(reader);
    palloc_close(writer);
    palloc_close(reader);
}

static void first_blob(void)
{
    struct palloc_t *writer = palloc_init("first.pba", WRITER);
    struct palloc_t *reader = palloc_init("first.pba", READER);
    uint64_t a = blob_of(writer, 16, 'a'), b = blob_of(writer, 16, 'b'), c;

    TEST("palloc_first-of-a-reader-follows-when-the-writer-frees-the-first-blob");
    REQUIRE(writer != NULL && reader != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    CHECK_EQ_U(palloc_first(reader), a);
    pfree(writer, a);
    CHECK_EQ_U(palloc_first(reader), b);
    CHECK(shows(reader, a, 'a'));
    palloc_read_end(reader);
    churn(writer);
    CHECK_EQ_I(palloc_sync(writer), 0);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    c = blob_of(writer, 16, 'c');
    CHECK_EQ_U(c, a);
    CHECK_EQ_U(palloc_first(reader), c);
    pfree(writer, b);
    pfree(writer, c);
    errno = 0;
    CHECK_EQ_U(palloc_first(reader), 0);
    CHECK_ERRNO(0);
    palloc_read_end(reader);
    palloc_close(reader);
    palloc_close(writer);
}

/* A table is published by one word of the root; the reader sees the old one or the new one, whole. */
static void transactions(uint32_t flags, const char *path)
{
    struct palloc_t *writer = palloc_init(path, WRITER | flags);
    struct palloc_t *reader = palloc_init(path, READER);
    const uint64_t root = palloc_root(writer, 16);
    uint64_t tables[40], seen;
    int i;

    TESTF("a-commit-publishes-and-what-it-frees-is-held%s", flags != 0 ? "-with-PALLOC_SYNC" : "");
    REQUIRE(writer != NULL && reader != NULL && root != 0);
    for (i = 0; i < 40; i++) {
        struct palloc_tx *tx = palloc_begin(writer);

        REQUIRE(tx != NULL);
        tables[i] = palloc_tx_alloc(tx, 4000);
        memset(palloc_tx_data(tx, tables[i]), 'a' + i % 26, 4000);
        CHECK_EQ_I(palloc_tx_store(tx, root, &tables[i], sizeof tables[i]), 0);
        if (i > 0)
            CHECK_EQ_I(palloc_tx_free(tx, tables[i - 1]), 0);
        if (i == 20) {
            CHECK_EQ_I(palloc_read_begin(reader), 0);
            memcpy(&seen, palloc_data(reader, root), sizeof seen);
            CHECK_EQ_U(seen, tables[19]);
        }
        CHECK_EQ_I(palloc_commit(tx), 0);
        if (i == 20) {
            memcpy(&seen, palloc_data(reader, root), sizeof seen);
            CHECK_EQ_U(seen, tables[20]);
        }
    }
    CHECK_EQ_I(palloc_sync(writer), 0);
    churn(writer);
    CHECK(shows(reader, tables[19], 'a' + 19));
    CHECK(shows(reader, tables[20], 'a' + 20));
    CHECK(shows(reader, tables[30], 'a' + 30 % 26));
    palloc_read_end(reader);
    churn(writer);
    CHECK_EQ_I(palloc_sync(writer), 0);
    CHECK_EQ_U(readers_of(writer).held_bytes, 0);
    palloc_close(reader);
    palloc_close(writer);
    CHECK_SOUND(path);
}

static void all_slots(void)
{
    struct palloc_t *writer = palloc_init("slots.pba", WRITER);
    struct palloc_t *readers[READERS];
    int i;

    TEST("254-readers-can-be-open-and-one-more-is-EAGAIN");
    REQUIRE(writer != NULL);
    if (sizeof(void *) < 8) {
        SKIP("one process has no address space for 254 mappings of the medium");
        palloc_close(writer);
        return;
    }
    for (i = 0; i < READERS; i++) {
        readers[i] = palloc_init("slots.pba", READER);
        if (readers[i] == NULL)
            break;
    }
    CHECK_EQ_I(i, READERS);
    CHECK(palloc_init("slots.pba", READER) == NULL);
    CHECK_ERRNO(EAGAIN);
    CHECK_STR_CONTAINS(palloc_error(), "254 readers");
    CHECK_EQ_U(readers_of(writer).open, READERS);
    palloc_close(readers[100]);
    readers[100] = palloc_init("slots.pba", READER);
    CHECK(readers[100] != NULL);
    while (i-- > 0)
        palloc_close(readers[i]);
    CHECK_EQ_U(readers_of(writer).open, 0);
    palloc_close(writer);
}

/* Waits at most 10 s until the reader sees that its writer is gone. */
static int turns_stale(struct palloc_t *reader)
{
    int i;

    for (i = 0; i < 1000; i++) {
        if (palloc_read_begin(reader) != 0)
            return errno == ESTALE;
        palloc_read_end(reader);
        usleep(10000);
    }
    return 0;
}

static void killed_writer(void)
{
    process child = child_that("make_a_blob", "kill.pba", WRITER);
    struct palloc_t *reader = palloc_init("kill.pba", READER);
    struct palloc_t *idle = palloc_init("kill.pba", READER);
    struct palloc_t *writer;
    uint64_t root;

    TEST("when-the-writer-is-killed-a-section-goes-on-in-peace");
    REQUIRE(reader != NULL && idle != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    root = palloc_first(reader);
    killed(child);
    CHECK(exists("kill.pba.live"));
    CHECK(shows(reader, root, 'k'));

    TEST("and-a-new-writer-is-EWOULDBLOCK-until-it-ends");
    CHECK(palloc_init("kill.pba", WRITER) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK_STR_CONTAINS(palloc_error(), "section");
    CHECK(shows(reader, root, 'k'));
    palloc_read_end(reader);

    TEST("the-next-section-is-ESTALE");
    CHECK(turns_stale(reader));
    CHECK(turns_stale(idle));
    CHECK(palloc_init("kill.pba", READER) == NULL);
    CHECK_ERRNO(ESTALE);

    TEST("a-new-writer-does-not-wait-for-readers-that-are-open-only");
    writer = palloc_init("kill.pba", WRITER);
    REQUIRE(writer != NULL);
#if !defined(_WIN32) /* where nothing has an address yet */
    CHECK(writer->at_size > root || is_emulated()); /* an emulator has no room for two windows */
#endif
    CHECK_EQ_U(palloc_first(writer), root);
    CHECK_EQ_I(palloc_read_begin(reader), -1);
    CHECK_ERRNO(ESTALE);
    palloc_close(reader);
    reader = palloc_init("kill.pba", READER);
    REQUIRE(reader != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    CHECK(shows(reader, root, 'k'));
    palloc_read_end(reader);
    palloc_close(reader);
    palloc_close(idle);
    palloc_close(writer);

    TEST("a-reader-notices-the-death-of-its-writer-by-itself");
    child = child_that("just_open", "kill.pba", WRITER);
    reader = palloc_init("kill.pba", READER);
    REQUIRE(reader != NULL);
    killed(child);
    CHECK(turns_stale(reader));
    palloc_close(reader);

    TEST("a-writer-that-does-not-share-opens-too-and-FILE.live-stays-without-effect");
    writer = palloc_init("kill.pba", PALLOC_DEFAULT);
    CHECK(writer != NULL);
    CHECK(palloc_init("kill.pba", READER) == NULL);
    CHECK_ERRNO(ESTALE);
    palloc_close(writer);
    CHECK_SOUND("kill.pba");
}

static void closing(void)
{
    struct palloc_t *writer = palloc_init("close.pba", WRITER);
    struct palloc_t *reader = palloc_init("close.pba", READER);
    uint64_t a = blob_of(writer, 1000, 'a'), b = blob_of(writer, 1000, 'b');

    TEST("palloc_close-leaves-the-bytes-that-a-section-may-read");
    REQUIRE(writer != NULL && reader != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    pfree(writer, a);
    pfree(writer, b);
    palloc_close(writer);
    CHECK(shows(reader, a, 'a') && shows(reader, b, 'b'));

    TEST("and-the-next-open-after-the-section-makes-the-file-exact");
    CHECK(palloc_init("close.pba", WRITER) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    palloc_read_end(reader);
    CHECK_EQ_I(palloc_read_begin(reader), -1);
    CHECK_ERRNO(ESTALE);
    writer = palloc_init("close.pba", WRITER);
    CHECK(writer != NULL);
    palloc_close(writer);
    CHECK_SOUND("close.pba");
    CHECK(!exists("close.pba.live"));
    palloc_close(reader);

    TEST("a-reader-that-is-open-only-does-not-disturb-the-writers-close");
    writer = palloc_init("close.pba", WRITER);
    reader = palloc_init("close.pba", READER);
    REQUIRE(writer != NULL && reader != NULL);
    a = blob_of(writer, 1000, 'a');
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    CHECK(shows(reader, a, 'a'));
    palloc_read_end(reader);
    for (b = 0; b < 10; b++)
        CHECK(palloc(writer, 100000) != 0);
    pfree(writer, a);
    pfree(writer, palloc(writer, 4 << 20)); /* on Windows the file can't be cut while somebody has it mapped */
    palloc_close(writer);
    CHECK_SOUND("close.pba");
    CHECK(!exists("close.pba.live"));
    writer = palloc_init("close.pba", WRITER);
    CHECK(writer != NULL);
    palloc_close(writer);
    CHECK_SOUND("close.pba");
    palloc_close(reader);

    TEST("and-no-file-stays-beside-it");
    palloc_close(palloc_init("close.pba", WRITER));
    CHECK(!exists("close.pba.live"));
    CHECK(!exists("close.pba.live.0")); /* on Windows, while that reader had it mapped */
}

#if defined(__linux__)
static void forking(void)
{
    struct palloc_t *writer = palloc_init("fork.pba", WRITER);
    struct palloc_t *reader = palloc_init("fork.pba", READER);
    const uint64_t root = palloc_root(writer, 16);
    int status;
    pid_t child;

    TEST("a-forked-child-that-exits-leaves-the-readers-slot-and-may-open-its-own");
    REQUIRE(writer != NULL && reader != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        struct palloc_t *own = palloc_init("fork.pba", READER);

        _exit(own == NULL || palloc_read_begin(own) != 0 || palloc_first(own) != root || readers_of(own).open != 2);
    }
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    CHECK_EQ_I(status, 0);
    CHECK_EQ_U(readers_of(writer).open, 1);
    CHECK_EQ_U(readers_of(writer).reading, 1);
    pfree(writer, root);
    churn(writer);
    CHECK(readers_of(writer).held_bytes >= 16);
    palloc_read_end(reader);
    palloc_close(reader);
    palloc_close(writer);
}

#endif

static struct palloc_t *threads_reader;
static uint64_t threads_root;

static void *reads(void *arg)
{
    uintptr_t wrong = 0;
    int i;

    (void)arg;
    for (i = 0; i < 20000; i++) {
        if (palloc_read_begin(threads_reader) != 0) {
            wrong++;
            continue;
        }
        {
            const uint64_t *root = palloc_data(threads_reader, threads_root);
            const uint64_t ptr = root != NULL ? __atomic_load_n(root, __ATOMIC_ACQUIRE) : 0;
            const char *data = palloc_data(threads_reader, ptr);

            wrong += data == NULL || !filled(data, data[0], 200);
        }
        palloc_read_end(threads_reader);
    }
    return (void *)wrong;
}

static void threads(void)
{
    struct palloc_t *writer = palloc_init("threads.pba", WRITER);
    pthread_t thread[3];
    uint64_t ptr, *root;
    void *wrong;
    int i;

    TEST("threads-of-one-reader-are-in-sections-at-once-and-see-no-torn-blob");
    REQUIRE(writer != NULL);
    threads_root = palloc_root(writer, 16);
    root = palloc_data(writer, threads_root);
    *root = ptr = blob_of(writer, 200, 'A');
    threads_reader = palloc_init("threads.pba", READER);
    REQUIRE(threads_reader != NULL);
    for (i = 0; i < 3; i++)
        REQUIRE(pthread_create(&thread[i], NULL, reads, NULL) == 0);
    for (i = 0; i < 20000; i++) {
        const uint64_t next = palloc(writer, 200);

        memset(palloc_data(writer, next), 'A' + i % 26, 200);
        __atomic_store_n(root, next, __ATOMIC_RELEASE);
        pfree(writer, ptr);
        ptr = next;
    }
    for (i = 0; i < 3; i++) {
        pthread_join(thread[i], &wrong);
        CHECK_EQ_U((uintptr_t)wrong, 0);
    }
    CHECK_EQ_U(readers_of(writer).reading, 0);
    palloc_close(threads_reader);
    palloc_close(writer);
    CHECK_SOUND("threads.pba");
}

/* FILE.live as something that a crash, a power cut, or a user left. */
static void garbage(void)
{
    static const size_t sizes[] = {0, 1, 7, 8, 100, 4096, 16511, 16512, 20000, 30000};
    struct palloc_t *writer = palloc_init("garbage.pba", WRITER);
    struct palloc_t *reader;
    char bytes[30000];
    size_t i;

    REQUIRE(writer != NULL);
    palloc_root(writer, 16);
    palloc_close(writer);
    TEST("whatever-zeros-or-beginnings-a-crash-left-of-FILE.live-is-replaced");
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct bytes live;

        memset(bytes, 0, sizeof bytes);
        file_write("garbage.pba.live", bytes, sizes[i]);
        CHECK(palloc_init("garbage.pba", READER) == NULL);
        CHECK_ERRNO(ESTALE);
        writer = palloc_init("garbage.pba", WRITER);
        if (!CHECK(writer != NULL))
            continue;
        reader = palloc_init("garbage.pba", READER);
        CHECK(reader != NULL && palloc_read_begin(reader) == 0);
        palloc_close(reader);
        live = file_read("garbage.pba.live");
        palloc_close(writer);
        file_write("garbage.pba.live", live.at, sizes[i] < live.size ? sizes[i] : live.size);
        bytes_free(&live);
        writer = palloc_init("garbage.pba", WRITER);
        CHECK(writer != NULL);
        palloc_close(writer);
    }

    TEST("FILE.live-of-another-boot-with-slots-in-use-holds-nobody-up");
    writer = palloc_init("garbage.pba", WRITER);
    {
        struct bytes live = file_read("garbage.pba.live");

        palloc_close(writer);
        memset(live.at + 64, 0x01, live.size - 64);
        file_write("garbage.pba.live", live.at, live.size);
        bytes_free(&live);
    }
    writer = palloc_init("garbage.pba", WRITER);
    CHECK(writer != NULL);
    palloc_close(writer);

    TEST("a-file-of-the-user-that-has-this-name-is-EEXIST-and-stays");
    memset(bytes, 'x', sizeof bytes);
    file_write("garbage.pba.live", bytes, 1000);
    CHECK(palloc_init("garbage.pba", WRITER) == NULL);
    CHECK_ERRNO(EEXIST);
    CHECK(palloc_init("garbage.pba", READER) == NULL);
    CHECK_ERRNO(ESTALE);
    {
        struct bytes live = file_read("garbage.pba.live");

        CHECK_EQ_U(live.size, 1000);
        bytes_free(&live);
    }
    unlink("garbage.pba.live");
    CHECK(mkdir("garbage.pba.live", 0700) == 0);
    CHECK(palloc_init("garbage.pba", WRITER) == NULL);
    CHECK(palloc_init("garbage.pba", READER) == NULL);
    rmdir("garbage.pba.live");
#if defined(__linux__)
    CHECK(symlink("garbage.pba", "garbage.pba.live") == 0);
    CHECK(palloc_init("garbage.pba", WRITER) == NULL);
    CHECK_ERRNO(ELOOP);
    unlink("garbage.pba.live");
#endif

    TEST("a-palloc_init-that-fails-leaves-no-FILE.live");
    file_write("foreign.pba", bytes, 1000);
    CHECK(palloc_init("foreign.pba", WRITER) == NULL);
    CHECK_ERRNO(EINVAL);
    CHECK(!exists("foreign.pba.live"));

    TEST("a-medium-that-is-replaced-by-another-file-is-not-taken-for-the-writers");
    writer = palloc_init("garbage.pba", WRITER);
    CHECK(rename("garbage.pba", "old.pba") == 0);
    palloc_close(palloc_init("new.pba", PALLOC_DYNAMIC));
    CHECK(rename("new.pba", "garbage.pba") == 0);
    CHECK(palloc_init("garbage.pba", READER) == NULL);
    CHECK_ERRNO(ESTALE);
    CHECK(palloc_init("garbage.pba", WRITER) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    palloc_close(writer);
    CHECK_SOUND("old.pba");
}

#if defined(__linux__)
/* Gives up the rights of root, if this process has them. */
static int without_rights(void)
{
    return geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
}

static void permissions(void)
{
    struct palloc_t *writer;
    struct palloc_t *reader;
    struct stat live;
    int status;
    pid_t child;

    CHECK(mkdir("dir", 0755) == 0);
    writer = palloc_init("dir/m.pba", WRITER);
    REQUIRE(writer != NULL);
    palloc_root(writer, 16);
    palloc_close(writer);
    CHECK(chmod("dir/m.pba", 0644) == 0);

    TEST("FILE.live-can-be-written-by-those-who-may-read-the-medium");
    writer = palloc_init("dir/m.pba", WRITER);
    REQUIRE(writer != NULL);
    CHECK(stat("dir/m.pba.live", &live) == 0);
    CHECK_EQ_U(live.st_mode & 0777, 0666);

    TEST("a-reader-needs-no-write-access-to-the-directory-or-the-medium");
    CHECK(chmod(".", 0755) == 0 && chmod("dir", 0555) == 0 && chmod("dir/m.pba", 0444) == 0);
    child = fork();
    if (child == 0) {
        if (!without_rights())
            _exit(9);
        reader = palloc_init("dir/m.pba", READER);
        _exit(reader == NULL ? errno == EACCES ? 2 : 1 : palloc_read_begin(reader) == 0 && palloc_first(reader) == 16 ? 0 : 3);
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        SKIP("that user can't enter the directory of this test");
    else
        CHECK_EQ_I(status, 0);
    CHECK(chmod("dir", 0755) == 0);
    palloc_close(writer);

    TEST("a-writer-that-can't-make-FILE.live-is-EACCES-and-changes-nothing");
    CHECK(chmod("dir", 0555) == 0 && chmod("dir/m.pba", 0666) == 0);
    child = fork();
    if (child == 0) {
        if (!without_rights())
            _exit(9);
        if (access("dir/m.pba", R_OK | W_OK) != 0)
            _exit(8);
        writer = palloc_init("dir/m.pba", WRITER);
        _exit(writer == NULL && errno == EACCES && strstr(palloc_error(), "FILE.live") != NULL ? 0 : 1);
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 8)
        SKIP("that user can't enter the directory of this test");
    else
        CHECK_EQ_I(status, 0);
    CHECK(chmod("dir", 0755) == 0);
    CHECK_SOUND("dir/m.pba");
}

static void full_disk(void)
{
    struct palloc_t *writer;

    TEST("a-full-disk-is-ENOSPC-at-once-and-leaves-no-FILE.live");
    if (geteuid() != 0 || mkdir("full", 0700) != 0 || unshare(CLONE_NEWNS) != 0) {
        SKIP("needs root to mount a file system");
        return;
    }
    if (syscall(SYS_mount, "none", "/", NULL, 0x44000UL, NULL) != 0
        || syscall(SYS_mount, "tmpfs", "full", "tmpfs", 0, "size=16k") != 0) {
        SKIP("can't mount a tmpfs here");
        return;
    }
    writer = palloc_init("full/m.pba", WRITER);
    CHECK(writer == NULL);
    CHECK_ERRNO(ENOSPC);
    CHECK(!exists("full/m.pba.live"));
    CHECK(syscall(SYS_umount2, "full", 0) == 0);
}

/* Ends with its child's status: the child is process 1 of a namespace of its own. */
static void namespaces(void)
{
    struct palloc_t *writer = palloc_init("space.pba", WRITER);
    struct palloc_readers readers;
    int ready[2], go[2], status;
    pid_t child;
    char c;

    TEST("a-reader-in-another-pid-namespace-holds-back-and-is-gone-when-it-is-killed");
    REQUIRE(writer != NULL && pipe(ready) == 0 && pipe(go) == 0);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        pid_t inner;

        if (unshare(CLONE_NEWPID) != 0)
            _exit(9);
        inner = fork();
        if (inner == 0) {
            struct palloc_t *reader = palloc_init("space.pba", READER);

            if (getpid() != 1 || reader == NULL || palloc_read_begin(reader) != 0 || write(ready[1], "r", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        close(ready[1]);
        if (read(go[0], &c, 1) != 1)
            _exit(1);
        kill(inner, SIGKILL);
        waitpid(inner, NULL, 0);
        _exit(0);
    }
    close(ready[1]);
    if (read(ready[0], &c, 1) != 1) {
        waitpid(child, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9);
        SKIP("can't make a pid namespace here");
        palloc_close(writer);
        return;
    }
    pfree(writer, blob_of(writer, 5000, 'h'));
    churn(writer);
    readers = readers_of(writer);
    CHECK_EQ_U(readers.reading, 1);
    CHECK_EQ_I(readers.oldest_pid, 1);
    CHECK(readers.held_bytes >= 5000);
    CHECK(write(go[1], "g", 1) == 1);
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    CHECK_EQ_I(status, 0);
    CHECK_EQ_I(palloc_sync(writer), 0);
    CHECK_EQ_U(readers_of(writer).held_bytes, 0);
    palloc_close(writer);
}

#endif

int main(int argc, char **argv)
{
    if (argc == 4)
        return as_child(argv[1], argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
    alarm(tap_seconds(120));
    PART(opening());
    PART(refused());
    PART(held());
#if defined(__linux__) && UINTPTR_MAX > 0xffffffff
    PART(cuts());
    PART(moments());
#endif
    PART(static_medium());
    PART(growth());
    PART(first_blob());
    PART(transactions(0, "tx.pba"));
    PART(transactions(PALLOC_SYNC, "txsync.pba"));
    PART(all_slots());
    PART(killed_writer());
    PART(closing());
    PART(threads());
    PART(garbage());
#if defined(__linux__)
    PART(forking());
    PART(permissions());
    PART(namespaces());
    PART(full_disk());
#endif
    return tap_done();
}

#else

int main(void)
{
    struct palloc_t *pt;

    TEST("PALLOC_SHARED-is-ENOTSUP-on-this-system");
    pt = palloc_init("none.pba", PALLOC_DYNAMIC | PALLOC_SHARED);
    CHECK(pt == NULL);
    CHECK_ERRNO(ENOTSUP);
    return tap_done();
}

#endif
