/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The n-th call of the system fails, once, for n = 1, 2, 3, ... until no call is left to fail: each kind of call, each error, on each
 * kind of medium, over a script of every operation. Whatever fails, there is an error code or success, the medium is as it was, the
 * handle works on, no descriptor and no lock is left behind, and the file is sound after palloc_close.
 *
 * The functions of the C library that the library under test calls are defined here, in front of those.
 *
 * POSIX only: the system calls of a Windows library are not found by name in the program
 */
#undef _FILE_OFFSET_BITS /* the functions defined here are named as they are */
#include "in_child.h"
#include "palloc_util.h"

#include <dirent.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#if defined(__linux__) && defined(__GLIBC__) && defined(__x86_64__)

#include <linux/fs.h>

#define FILE_NAME "faults.db"

#define CALLS(call)                                                                                                                        \
    call(OPEN) call(FALLOCATE) call(FTRUNCATE) call(MMAP) call(MADVISE) call(FDATASYNC) call(FSYNC) call(FLOCK) call(PREAD) call(PWRITE)   \
        call(LSEEK) call(FCNTL) call(STAT) call(FSTATFS) call(FSTATVFS) call(GETRLIMIT) call(MEMORY) call(LINK) call(FCHMOD) call(FICLONE_)

#define AS_ENUM(name) name,
#define AS_TEXT(name) #name,
enum call { CALLS(AS_ENUM) CALL_COUNT };
static const char *const call_names[] = {CALLS(AS_TEXT)};

#define SHORT_COUNT (-1) /* not an error: half of the bytes are read or written */

static struct {
    int armed;
    enum call call;
    int error;
    unsigned left;        /* calls of that kind that still succeed */
    int fired;
    int for_ever;         /* not once */
    int no_fallocate;     /* the file system can't */
    int sparse;           /* fallocate only sets the length, and the file system reports much free space */
} fault;

static unsigned long faults_total;

/* Whether the path of an open file ends with this. */
static int is_named(int fd, const char *end)
{
    char link[64], path[4096];
    size_t length = strlen(end);
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path);
    return n >= (ssize_t)length && memcmp(path + n - length, end, length) == 0;
}

/* Counts calls that change the length of FILE.live, which readers may map at any time, and those after which not all of it has space. */
static struct {
    int is_watched;
    int calls;
    int without_space;
} live_file;

static void look_at_live_file(int fd)
{
    int error = errno;
    struct stat info;

    if (live_file.is_watched && is_named(fd, ".live")) {
        live_file.calls++;
        if (syscall(SYS_fstat, fd, &info) != 0 || info.st_size > info.st_blocks * 512)
            live_file.without_space++;
    }
    errno = error;
}

static int fails(enum call call)
{
    if (!fault.armed || call != fault.call || (fault.fired && !fault.for_ever) || fault.error == SHORT_COUNT)
        return 0;
    if (fault.left > 0) {
        fault.left--;
        return 0;
    }
    fault.fired = 1;
    faults_total++;
    errno = fault.error;
    return 1;
}

static size_t shortened(enum call call, size_t n)
{
    if (!fault.armed || call != fault.call || fault.fired || fault.error != SHORT_COUNT || n < 2)
        return n;
    if (fault.left > 0) {
        fault.left--;
        return n;
    }
    fault.fired = 1;
    faults_total++;
    return n / 2;
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags & ~O_DSYNC, mode); /* as with fdatasync */
}

int fallocate64(int fd, int how, off64_t at, off64_t len)
{
    if (fault.no_fallocate && fault.armed) {
        errno = EOPNOTSUPP;
        return -1;
    }
    if (fault.sparse && how == 0) {
        struct stat info;

        if (syscall(SYS_fstat, fd, &info) != 0)
            return -1;
        return info.st_size >= at + len ? 0 : (int)syscall(SYS_ftruncate, fd, at + len);
    }
    return fails(FALLOCATE) ? -1 : (int)syscall(SYS_fallocate, fd, how, at, len);
}

int ftruncate64(int fd, off64_t length)
{
    int result = fails(FTRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, length);

    look_at_live_file(fd);
    return result;
}

void *mmap64(void *at, size_t length, int prot, int flags, int fd, off64_t offset)
{
    return fails(MMAP) ? MAP_FAILED : (void *)syscall(SYS_mmap, at, length, prot, flags, fd, offset);
}

int madvise(void *at, size_t length, int advice)
{
    return fails(MADVISE) ? -1 : (int)syscall(SYS_madvise, at, length, advice);
}

int fdatasync(int fd)
{
    (void)fd;
    return fails(FDATASYNC) ? -1 : 0; /* what a disk does is tested elsewhere */
}

int fsync(int fd)
{
    (void)fd;
    return fails(FSYNC) ? -1 : 0;
}

int flock(int fd, int how)
{
    return !(how & LOCK_UN) && fails(FLOCK) ? -1 : (int)syscall(SYS_flock, fd, how);
}

ssize_t pread64(int fd, void *bytes, size_t n, off64_t at)
{
    return fails(PREAD) ? -1 : (ssize_t)syscall(SYS_pread64, fd, bytes, shortened(PREAD, n), at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at)
{
    ssize_t result = fails(PWRITE) ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, bytes, shortened(PWRITE, n), at);

    look_at_live_file(fd);
    return result;
}

off64_t lseek64(int fd, off64_t at, int whence)
{
    return fails(LSEEK) ? -1 : (off64_t)syscall(SYS_lseek, fd, at, whence);
}

int fcntl(int fd, int command, ...)
{
    va_list args;
    long argument;

    va_start(args, command);
    argument = va_arg(args, long);
    va_end(args);
    return fails(FCNTL) ? -1 : (int)syscall(SYS_fcntl, fd, command, argument);
}

int statx(int directory, const char *restrict path, int flags, unsigned mask, struct statx *restrict info)
{
    return fails(STAT) ? -1 : (int)syscall(SYS_statx, directory, path, flags, mask, info);
}

int fstat(int fd, struct stat *info)
{
    return fails(STAT) ? -1 : (int)syscall(SYS_fstat, fd, info);
}

int fstat64(int fd, struct stat64 *info)
{
    return fails(STAT) ? -1 : (int)syscall(SYS_fstat, fd, info);
}

int fstatfs(int fd, struct statfs *info)
{
    return fails(FSTATFS) ? -1 : (int)syscall(SYS_fstatfs, fd, info);
}

int fstatvfs(int fd, struct statvfs *info)
{
    struct statfs fs;

    if (fails(FSTATVFS) || syscall(SYS_fstatfs, fd, &fs) != 0)
        return -1;
    memset(info, 0, sizeof *info);
    info->f_frsize = (unsigned long)fs.f_bsize;
    info->f_blocks = fs.f_blocks;
    info->f_bfree = fault.sparse ? UINT32_MAX : fs.f_bfree;
    return 0;
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit)
{
    return fails(GETRLIMIT) ? -1 : (int)syscall(SYS_prlimit64, 0, resource, NULL, limit);
}

int link(const char *old, const char *new)
{
    return fails(LINK) ? -1 : (int)syscall(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0);
}

int fchmod(int fd, mode_t mode)
{
    return fails(FCHMOD) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

/* The file system is one that shares blocks, as far as anybody can see. */
int ioctl(int fd, unsigned long command, ...)
{
    static char bytes[1 << 16];
    va_list args;
    long argument, n;
    off_t at = 0;

    va_start(args, command);
    argument = va_arg(args, long);
    va_end(args);
    if (command != FICLONE)
        return (int)syscall(SYS_ioctl, fd, command, argument);
    if (fails(FICLONE_))
        return -1;
    while ((n = syscall(SYS_pread64, (int)argument, bytes, sizeof bytes, at)) > 0) {
        if (syscall(SYS_pwrite64, fd, bytes, n, at) != n)
            return -1;
        at += n;
    }
    return (int)n;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *at, size_t size);

void *malloc(size_t size)
{
    return fails(MEMORY) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails(MEMORY) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *at, size_t size)
{
    return fails(MEMORY) ? NULL : __libc_realloc(at, size);
}

/* -------------------------------------------------------------------------------------------------------------------- the script */

/* Both generations behind one set of functions. */
struct handle {
    struct palloc_t *pt;
    int fd; /* the descriptor to read and write with */
};

struct kind {
    const char *name;
    uint32_t flags;
    uint64_t zeros;      /* the file before it is a medium */
    int descriptors;     /* second generation */
    int no_fallocate;
};

static const struct kind kinds[] = {
    {"dynamic", PALLOC_DYNAMIC, 0, 0, 0},
    {"dynamic-sync", PALLOC_DYNAMIC | PALLOC_SYNC, 0, 0, 0},
    {"static-sparse", PALLOC_DEFAULT, 1 << 20, 0, 0},
    {"static-sparse-sync", PALLOC_SYNC, 1 << 20, 0, 0},
    {"dynamic-without-fallocate", PALLOC_DYNAMIC, 0, 0, 1},
    {"static-sparse-without-fallocate", PALLOC_DEFAULT, 700000, 0, 1},
    {"descriptors", PALLOC_DYNAMIC, 0, 1, 0},
    {"descriptors-sync", PALLOC_DYNAMIC | PALLOC_SYNC, 0, 1, 0},
};

#define BLOBS 16
static struct {
    uint64_t ptr, n;
    unsigned id;
} blobs[BLOBS];

static int open_handle(struct handle *h, const struct kind *k)
{
    if (k->descriptors) {
        int was_armed = fault.armed;
        h->pt = NULL;
        h->fd = palloc_fd_open(FILE_NAME, k->flags);
        if (h->fd != 0 && palloc_fd_init(h->fd, k->flags) != 0) {
            int error = errno;
            fault.armed = 0;
            if (palloc_fd_close(h->fd) != 0) /* a sync failed */
                CHECK_ERRNO(EIO);
            fault.armed = was_armed;
            h->fd = 0;
            errno = error;
        }
        return h->fd != 0;
    }
    h->pt = palloc_init(FILE_NAME, k->flags);
    h->fd = h->pt != NULL ? h->pt->descriptor : 0;
    return h->pt != NULL;
}

static int close_handle(struct handle *h)
{
    int before = errno, result;

    if (h->pt == NULL)
        return palloc_fd_close(h->fd) == 0;
    errno = 0;
    palloc_close(h->pt);
    result = errno == 0;
    if (result)
        errno = before;
    return result;
}

static uint64_t next(struct handle *h, uint64_t ptr)
{
    return h->pt == NULL ? palloc_fd_next(h->fd, ptr) : ptr == 0 ? palloc_first(h->pt) : palloc_next(h->pt, ptr);
}

static void fill(struct handle *h, unsigned i)
{
    uint8_t bytes[4096];
    uint64_t done, j;

    for (done = 0; done < blobs[i].n; done += sizeof bytes) {
        uint64_t n = blobs[i].n - done < sizeof bytes ? blobs[i].n - done : sizeof bytes;
        for (j = 0; j < n; j++)
            bytes[j] = (uint8_t)(blobs[i].id * 31 + done + j);
        CHECK_EQ_I(pwrite(h->fd, bytes, n, (off_t)(blobs[i].ptr + done)), n);
    }
}

/* Just the blobs that must be there, with their bytes. */
static int intact(struct handle *h)
{
    unsigned i, live = 0;
    uint64_t ptr, count = 0;

    for (i = 0; i < BLOBS; i++) {
        uint8_t bytes[4096];
        uint64_t done, j;

        live += blobs[i].ptr != 0;
        for (done = 0; blobs[i].ptr != 0 && done < blobs[i].n; done += sizeof bytes) {
            uint64_t n = blobs[i].n - done < sizeof bytes ? blobs[i].n - done : sizeof bytes;
            if (!CHECK_EQ_I(pread(h->fd, bytes, n, (off_t)(blobs[i].ptr + done)), n))
                return 0;
            for (j = 0; j < n; j++)
                if (bytes[j] != (uint8_t)(blobs[i].id * 31 + done + j))
                    return CHECK_EQ_U(bytes[j], (uint8_t)(blobs[i].id * 31 + done + j));
        }
    }
    for (ptr = next(h, 0); ptr != 0; ptr = next(h, ptr))
        count++;
    return CHECK_EQ_U(count, live);
}

struct view {
    struct palloc_stat stat;
    uint64_t size, end;
};

static struct view look(struct handle *h, const struct kind *k)
{
    struct view v;

    memset(&v, 0, sizeof v);
    if (h->pt != NULL) {
        CHECK_EQ_I(palloc_stat(h->pt, &v.stat), 0);
        v.size = h->pt->size;
    }
    if (k->descriptors)
        v.end = (uint64_t)lseek(h->fd, 0, SEEK_END);
    return v;
}

enum operation { ALLOC, FREE, RESIZE, DATA, SYNC, STAT_ };

static const struct step {
    enum operation operation;
    unsigned blob;
    uint64_t size;
} script[] = {
    {ALLOC, 8, 100},      {ALLOC, 9, 0},       {FREE, 1, 0},      {ALLOC, 10, 200000}, {RESIZE, 8, 60},  {RESIZE, 8, 5000},
    {RESIZE, 10, 250000}, {RESIZE, 10, 40},    {FREE, 3, 0},      {FREE, 4, 0},        {SYNC, 0, 0},     {ALLOC, 11, 1000},
    {DATA, 2, 0},         {RESIZE, 9, 70},     {ALLOC, 12, 3000}, {FREE, 12, 0},       {STAT_, 0, 0},    {FREE, 2, 0},
    {ALLOC, 13, 200000},  {RESIZE, 11, 90000}, {FREE, 13, 0},     {RESIZE, 11, 90016}, {ALLOC, 14, 500}, {SYNC, 0, 0},
};

/* Does a step and notes it in the model. Returns 0 if it failed. */
static int run_step(struct handle *h, const struct step *s)
{
    uint64_t *ptr = &blobs[s->blob].ptr, got = 0;
    int good, error;
    struct palloc_stat stat;

    if (h->pt == NULL && s->operation > FREE)
        return 1; /* not in the second generation */
    switch (s->operation) {
    case ALLOC:
        got = h->pt != NULL ? palloc(h->pt, s->size) : palloc_fd_alloc(h->fd, s->size);
        good = got != 0;
        break;
    case FREE:
        if (h->pt != NULL) {
            int before = errno;
            errno = 0;
            pfree(h->pt, *ptr);
            good = errno == 0;
            if (good)
                errno = before;
        } else
            good = palloc_fd_free(h->fd, *ptr) == 0;
        break;
    case RESIZE:
        got = prealloc(h->pt, *ptr, s->size);
        good = got != 0;
        break;
    case DATA:
        good = palloc_data(h->pt, *ptr) != NULL;
        break;
    case SYNC:
        good = palloc_sync(h->pt) == 0;
        break;
    default:
        good = palloc_stat(h->pt, &stat) == 0;
        break;
    }
    error = errno;
    fault.armed = 0;
    if (good && s->operation == FREE)
        *ptr = 0;
    if (good && (s->operation == ALLOC || s->operation == RESIZE)) {
        *ptr = got;
        blobs[s->blob].n = s->size;
        blobs[s->blob].id++;
        fill(h, s->blob);
    }
    errno = error;
    return good;
}

static unsigned descriptors(void)
{
    unsigned fd, count = 0;
    struct stat info;

    for (fd = 0; fd < 64; fd++)
        count += syscall(SYS_fstat, fd, &info) == 0;
    return count;
}

static void prepare(const struct kind *k)
{
    struct handle h;
    unsigned i;

    memset(blobs, 0, sizeof blobs);
    unlink(FILE_NAME);
    if (k->zeros != 0)
        file_zeros(FILE_NAME, k->zeros);
    REQUIRE(open_handle(&h, k));
    for (i = 0; i < 8; i++) {
        blobs[i].n = 40 + i * 300;
        blobs[i].ptr = h.pt != NULL ? palloc(h.pt, blobs[i].n) : palloc_fd_alloc(h.fd, blobs[i].n);
        blobs[i].id = i;
        REQUIRE(blobs[i].ptr != 0);
        fill(&h, i);
    }
    REQUIRE(close_handle(&h));
}

/* 0 when the n-th call was not reached or something is wrong. */
static int with_fault(const struct kind *k, enum call call, int error, unsigned n, int is_new)
{
    struct handle h;
    struct bytes before;
    unsigned open_before, i, seen = tap_.bad;
    size_t s;

    if (is_new) {
        memset(blobs, 0, sizeof blobs);
        unlink(FILE_NAME);
        if (k->zeros != 0)
            file_zeros(FILE_NAME, k->zeros);
    } else
        prepare(k);
    memset(&before, 0, sizeof before);
    if (!is_new)
        before = file_read(FILE_NAME);
    open_before = descriptors();
    fault.call = call;
    fault.error = error;
    fault.left = n;
    fault.fired = 0;
    fault.no_fallocate = k->no_fallocate;

    errno = UNTOUCHED;
    fault.armed = 1;
    if (!open_handle(&h, k)) {
        fault.armed = 0;
        CHECK(fault.fired);
        CHECK(errno != UNTOUCHED && errno != 0);
        CHECK(error != EINTR);
        CHECK_EQ_U(descriptors(), open_before);
        if (!is_new)
            CHECK(file_is(FILE_NAME, &before));
        REQUIRE(open_handle(&h, k)); /* no lock was left */
    } else
        CHECK_EQ_I(errno, UNTOUCHED);
    fault.armed = 0;
    bytes_free(&before);
    intact(&h);

    for (s = 0; s < sizeof script / sizeof *script && tap_.bad == seen; s++) {
        struct view was = look(&h, k);
        int good;

        if (script[s].operation != ALLOC && blobs[script[s].blob].ptr == 0)
            continue; /* a new medium has no blobs of before */
        errno = UNTOUCHED;
        fault.armed = 1;
        good = run_step(&h, &script[s]);
        fault.armed = 0;
        if (good) {
            CHECK_EQ_I(errno, UNTOUCHED);
            continue;
        }
        CHECK(errno != UNTOUCHED && errno != 0);
        CHECK(fault.fired);
        CHECK(error != EINTR && error != SHORT_COUNT);
        {
            struct view is = look(&h, k);
            if (script[s].operation != SYNC) /* it may have cut what is not counted */
                CHECK_MEM(&is, &was, sizeof is);
        }
        intact(&h);
        if (call == FDATASYNC || call == FSYNC) { /* until it is opened anew */
            errno = 0;
            CHECK(!run_step(&h, &script[s]));
            CHECK_ERRNO(EIO);
            CHECK_STR_CONTAINS(palloc_error(), "a sync failed before: ");
            errno = 0;
            CHECK(!close_handle(&h));
            CHECK_ERRNO(EIO);
            REQUIRE(open_handle(&h, k));
            intact(&h);
        }
        if (!CHECK(run_step(&h, &script[s]))) /* the handle works on */
            DIAG("again: %s", palloc_error());
        if (tap_.bad != seen)
            DIAG("step %u", (unsigned)s);
    }
    intact(&h);
    errno = UNTOUCHED;
    fault.armed = 1;
    if (!close_handle(&h)) {
        fault.armed = 0;
        CHECK(fault.fired);
        CHECK(errno != UNTOUCHED && errno != 0);
        REQUIRE(open_handle(&h, k)); /* makes it good */
        CHECK(close_handle(&h));
    }
    fault.armed = 0;
    CHECK_EQ_U(descriptors(), open_before);
    CHECK_SOUND(FILE_NAME);
    REQUIRE(open_handle(&h, k));
    intact(&h);
    for (i = 0; i < BLOBS; i++)
        if (blobs[i].ptr != 0 && h.pt != NULL)
            pfree(h.pt, blobs[i].ptr);
    CHECK(close_handle(&h));
    CHECK_SOUND(FILE_NAME);
    if (tap_.bad != seen)
        DIAG("%s medium: call %u of %s, errno %d", is_new ? "new" : "existing", n + 1, call_names[call], error);
    return fault.fired && tap_.bad == seen;
}

/* From now on, advice and fallocate fail. */
static void only_writes_fill_holes(void)
{
    memset(&fault, 0, sizeof fault);
    fault.call = MADVISE;
    fault.error = EINVAL;
    fault.for_ever = 1;
    fault.no_fallocate = 1;
    fault.armed = 1;
}

/* The fast paths of palloc and pfree fill holes too. pfree reports its failures by errno alone. */
static void quiet_in_holes(void)
{
    uint64_t ptrs[64];
    struct palloc_t *pt;
    int i, fd;

    TEST("calls-that-succeed-leave-errno-alone-in-a-file-with-holes-where-advice-and-fallocate-fail");
    unlink(FILE_NAME);
    fd = open(FILE_NAME, O_RDWR | O_CREAT, 0600);
    REQUIRE(fd >= 0 && ftruncate(fd, MIB) == 0 && close(fd) == 0);
    REQUIRE((pt = palloc_init(FILE_NAME, PALLOC_DEFAULT)) != NULL);
    for (i = 0; i < 64; i++)
        REQUIRE((ptrs[i] = palloc(pt, i % 2 ? 100 : 12000)) != 0);
    palloc_close(pt);
    REQUIRE((fd = open(FILE_NAME, O_RDWR)) >= 0);
    for (i = 0; i < 64; i += 2) { /* a page of each large blob */
        off_t page = (off_t)(ptrs[i] + 4095) / 4096 * 4096;

        REQUIRE(syscall(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page, (off_t)4096) == 0);
    }
    close(fd);
    REQUIRE((pt = palloc_init(FILE_NAME, PALLOC_DEFAULT)) != NULL);
    only_writes_fill_holes();
    for (i = 1; i < 64; i += 2) {
        errno = UNTOUCHED;
        pfree(pt, ptrs[i]);
        CHECK_EQ_I(errno, UNTOUCHED);
    }
    for (i = 1; i < 64; i += 2) {
        errno = UNTOUCHED;
        CHECK(palloc(pt, 100) != 0);
        CHECK_EQ_I(errno, UNTOUCHED);
    }
    fault.armed = 0;
    CHECK(fault.fired);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
    unlink(FILE_NAME);
}

/* A hole is filled by writes where advice and fallocate fail. A write beyond the limit of file size would be SIGXFSZ. */
static void fill_beyond_the_limit(void)
{
    const struct rlimit limit = {300000, 300000};
    uint64_t ptr, live = 0, size;
    struct palloc_stat stat;
    struct palloc_t *pt;

    signal(SIGXFSZ, SIG_DFL);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    only_writes_fill_holes();
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    size = pt->size;
    while (errno = 0, (ptr = palloc(pt, 50000)) != 0 && live < 100) {
        memset(palloc_data(pt, ptr), 0x55, 50000);
        live++;
    }
    CHECK_ERRNO(EFBIG);
    CHECK_EQ_U(live, 5); /* all that are below the limit */
    errno = 0;
    CHECK_EQ_U(prealloc(pt, palloc_first(pt), 400000), 0);
    CHECK_ERRNO(EFBIG);
    fault.armed = 0;
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, live);
    CHECK_EQ_U(pt->size, size);
    for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr)) {
        const unsigned char *data = palloc_data(pt, ptr);
        CHECK(data != NULL && data[0] == 0x55 && data[49999] == 0x55);
    }
    palloc_close(pt);
}

static void limited(void)
{
    TEST("a-hole-beyond-the-limit-of-file-size-is-EFBIG-and-no-signal-where-advice-and-fallocate-fail");
    unlink(FILE_NAME);
    file_zeros(FILE_NAME, MIB);
    in_child(fill_beyond_the_limit);
    CHECK_SOUND(FILE_NAME);
    CHECK_EQ_U(file_size(FILE_NAME), MIB);
    unlink(FILE_NAME);
}

/* A writer that readers can open beside; NULL, with the point skipped, where the file system has none. */
static struct palloc_t *shared_writer(void)
{
    struct palloc_t *pt;

    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SHARED);
    if (pt == NULL) {
        CHECK_ERRNO(ENOTSUP);
        SKIP("no live readers on this file system");
    }
    return pt;
}

/* A reader's store to a page of FILE.live without space would be a SIGBUS on a full disk. */
static void live_file_has_space(void)
{
    struct palloc_t *pt;

    TEST("FILE.live-has-space-wherever-it-has-length-while-the-writer-makes-it");
    live_file.is_watched = 1;
    pt = shared_writer();
    palloc_close(pt);
    live_file.is_watched = 0;
    if (pt == NULL)
        return;
    CHECK(live_file.calls > 0);
    CHECK_EQ_I(live_file.without_space, 0);
    unlink(FILE_NAME);
}

/* The writer's medium grows beyond what the reader has mapped, and another file has the numbers of the reader's descriptors. */
static void reader_beyond_its_window(void)
{
    enum { SIZE = 100, HIGHEST = 64 };
    const uint64_t large = 5ULL << 30;
    struct palloc_t *writer, *reader;
    char is_kept[HIGHEST];
    uint64_t near, far;
    int fd, other;

    TEST("a-live-reader-maps-no-other-file-that-got-the-number-of-its-descriptor");
    writer = shared_writer();
    if (writer == NULL)
        return;
    REQUIRE((near = palloc(writer, SIZE)) != 0);
    memset(palloc_data(writer, near), 'n', SIZE);
    for (fd = 3; fd < HIGHEST; fd++)
        is_kept[fd] = fcntl(fd, F_GETFD) != -1; /* the writer's */
    REQUIRE((reader = palloc_init(FILE_NAME, PALLOC_READONLY | PALLOC_SHARED)) != NULL);
    file_zeros("other", 2 * large);
    REQUIRE((other = open("other", O_RDWR)) > 2);
    for (fd = 3; fd < HIGHEST; fd++)
        if (!is_kept[fd] && is_named(fd, FILE_NAME))
            CHECK_EQ_I(dup2(other, fd), fd);
    memset(&fault, 0, sizeof fault);
    fault.sparse = 1;
    CHECK(palloc(writer, large) != 0);
    far = palloc(writer, SIZE);
    fault.sparse = 0;
    if (CHECK(far > large))
        memset(palloc_data(writer, far), 'f', SIZE);
    CHECK_EQ_I(palloc_read_begin(reader), 0);
    CHECK(palloc_data(reader, far) == NULL);
    CHECK_ERRNO(EBADF);
    CHECK(palloc_data(reader, near) != NULL && *(unsigned char *)palloc_data(reader, near) == 'n');
    palloc_read_end(reader);
    palloc_close(reader);
    palloc_close(writer);
    CHECK_SOUND(FILE_NAME);
    for (fd = 3; fd < HIGHEST; fd++)
        if (!is_kept[fd] && is_named(fd, "other"))
            CHECK_EQ_I(close(fd), 0);
    unlink("other");
    unlink(FILE_NAME);
}

/* A system call that is interrupted each time. */
static void interrupted_for_ever(void)
{
    static const enum call calls[] = {OPEN, FALLOCATE, FTRUNCATE, FDATASYNC, FSYNC, FLOCK, PREAD, PWRITE};
    size_t i, k, s;

    for (i = 0; i < sizeof calls / sizeof *calls; i++) {
        TESTF("a-call-that-is-interrupted-for-ever-comes-to-an-end-%s", call_names[calls[i]]);
        for (k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            struct handle h;

            alarm(tap_seconds(120));
            prepare(&kinds[k]);
            memset(&fault, 0, sizeof fault);
            fault.call = calls[i];
            fault.error = EINTR;
            fault.for_ever = 1;
            fault.no_fallocate = kinds[k].no_fallocate;
            errno = UNTOUCHED;
            fault.armed = 1;
            if (!open_handle(&h, &kinds[k])) {
                CHECK_ERRNO(EINTR);
                fault.armed = 0;
                REQUIRE(open_handle(&h, &kinds[k]));
            }
            for (s = 0; s < sizeof script / sizeof *script; s++) {
                if (script[s].operation != ALLOC && blobs[script[s].blob].ptr == 0)
                    continue;
                errno = UNTOUCHED;
                fault.armed = 1;
                if (!run_step(&h, &script[s]) && !CHECK(errno == EINTR || errno == EIO))
                    DIAG("step %u, errno %d: %s", (unsigned)s, errno, palloc_error());
            }
            fault.armed = 1;
            close_handle(&h);
            fault.armed = 0;
            alarm(0);
            REQUIRE(open_handle(&h, &kinds[k]));
            intact(&h);
            CHECK(close_handle(&h));
            CHECK_SOUND(FILE_NAME);
        }
    }
    memset(&fault, 0, sizeof fault);
}

/* ------------------------------------------------------------------------------------------------------------------------- copies */

#define COPY_NAME "copy.db"

enum way { SALVAGE, SNAPSHOT, CLONE, WAYS };

/* Nothing is left of a copy, not under another name either. */
static int no_copy(void)
{
    DIR *dir = opendir(".");
    struct dirent *entry;
    int none = 1;

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (strncmp(entry->d_name, COPY_NAME, sizeof COPY_NAME - 1) == 0) {
            none = 0;
            unlink(entry->d_name);
        }
    if (dir != NULL)
        closedir(dir);
    return none;
}

/* One call fails, or that and all behind it. There is a whole copy or none, and the medium is as it was. 0 when the call was not reached
 * or something is wrong. */
static int copy_with_fault(const struct kind *k, enum way way, enum call call, int error, unsigned n, int for_ever)
{
    struct handle h;
    struct bytes before;
    struct palloc_salvage out;
    unsigned open_before, seen = tap_.bad;
    int result;

    memset(&h, 0, sizeof h);
    memset(&out, 0, sizeof out);
    unlink(COPY_NAME);
    prepare(k);
    if (way == SALVAGE)
        file_poke64(FILE_NAME, blobs[3].ptr - 8, 3);
    else
        REQUIRE(open_handle(&h, k));
    before = file_read(FILE_NAME);
    open_before = descriptors();
    memset(&fault, 0, sizeof fault);
    fault.call = call;
    fault.error = error;
    fault.left = n;
    fault.for_ever = for_ever;
    fault.no_fallocate = k->no_fallocate;
    errno = UNTOUCHED;
    fault.armed = 1;
    result = way == SALVAGE ? palloc_salvage(FILE_NAME, COPY_NAME, 0, NULL, NULL, &out)
                            : palloc_snapshot(h.pt, COPY_NAME, way == CLONE ? PALLOC_SNAPSHOT_CLONE : 0);
    fault.armed = 0;
    if (result == 0) {
        CHECK_EQ_I(errno, UNTOUCHED);
        CHECK_SOUND(COPY_NAME);
        CHECK(way != SALVAGE || out.blobs == 8 || (call == PREAD && out.lost_ranges > 0));
    } else {
        CHECK_EQ_I(result, -1);
        CHECK(fault.fired);
        if (way == SALVAGE && call == PREAD && n == 0)
            CHECK_ERRNO(EINVAL); /* the header can't be read: it is damaged */
        else
            CHECK_ERRNO(error);
        CHECK(error != SHORT_COUNT && (error != EINTR || for_ever));
        CHECK_STR_CONTAINS(palloc_error(), way == SALVAGE ? "palloc_salvage: " : "palloc_snapshot: ");
        CHECK(strstr(palloc_error(), "os error") == NULL);
        CHECK(no_copy());
    }
    CHECK_EQ_U(descriptors(), open_before);
    CHECK(file_is(FILE_NAME, &before));
    if (way == CLONE && call == FDATASYNC && result != 0 && n == 0) { /* the medium's own */
        errno = 0;
        CHECK_EQ_U(palloc(h.pt, 10), 0);
        CHECK_ERRNO(EIO);
        CHECK_STR_CONTAINS(palloc_error(), "a sync failed before");
    } else if (way != SALVAGE) {
        intact(&h);
        pfree(h.pt, blobs[5].ptr);
        blobs[5].ptr = palloc(h.pt, blobs[5].n);
        CHECK(blobs[5].ptr != 0); /* the handle works on */
        fill(&h, 5);
        intact(&h);
    }
    if (way != SALVAGE)
        close_handle(&h);
    bytes_free(&before);
    if (tap_.bad != seen)
        DIAG("%s: call %u of %s%s, errno %d, result %d: %s", way == SALVAGE ? "salvage" : way == SNAPSHOT ? "snapshot" : "clone", n + 1,
             call_names[call], for_ever ? " and those behind it" : "", error, result, palloc_error());
    return fault.fired && tap_.bad == seen;
}

static void copies(void)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EFBIG, ENOMEM, EINTR, SHORT_COUNT};
    static const char *const error_names[] = {"EIO", "ENOSPC", "EDQUOT", "EFBIG", "ENOMEM", "EINTR", "short"};
    static const struct kind *const media[] = {&kinds[0], &kinds[5]};
    enum { EACH = 1, INTERRUPTED = 2, FULL = 4 }; /* which errors a call can have */
    static const int can_have[CALL_COUNT] = {
        [OPEN] = 7, [FALLOCATE] = 7, [FTRUNCATE] = 7, [MMAP] = 1, [MADVISE] = 1, [FDATASYNC] = 7, [FSYNC] = 7, [FLOCK] = 3, [PREAD] = 3,
        [PWRITE] = 7, [LSEEK] = 1, [FCNTL] = 1, [STAT] = 1, [FSTATFS] = 1, [FSTATVFS] = 1, [GETRLIMIT] = 1, [LINK] = 5, [FCHMOD] = 1,
        [FICLONE_] = 5};
    size_t e, m;
    int call, for_ever, way;

    for (e = 0; e < sizeof errors / sizeof *errors; e++) {
        unsigned long before = faults_total;

        TESTF("copies-are-whole-or-not-there-whatever-fails-%s", error_names[e]);
        for (way = 0; way < WAYS; way++)
            for (call = 0; call < CALL_COUNT; call++)
                for (m = 0; m < sizeof media / sizeof *media; m++)
                    for (for_ever = 0; for_ever < 2; for_ever++) {
                        unsigned n = 0;

                        if (errors[e] == SHORT_COUNT ? (call != PREAD && call != PWRITE) || for_ever
                            : call == MEMORY         ? errors[e] != ENOMEM
                                             : !(can_have[call] & (errors[e] == EINTR ? INTERRUPTED : errors[e] == EIO ? EACH : FULL)))
                            continue;
                        while (copy_with_fault(media[m], (enum way)way, (enum call)call, errors[e], n, for_ever))
                            n++;
                    }
        CHECK(faults_total > before);
    }
    unlink(COPY_NAME);
    memset(&fault, 0, sizeof fault);
}

int main(void)
{
    static const int errors[] = {EINTR, EIO, ENOSPC, ENOMEM, SHORT_COUNT};
    /* The errors that a call can have, by bits. EIO is in place of all errors that the library treats alike. */
    static const int can_fail[CALL_COUNT] = {
        [OPEN] = 1 | 2 | 4 | 8, [FALLOCATE] = 1 | 2 | 4, [FTRUNCATE] = 1 | 2, [MMAP] = 8,    [MADVISE] = 2 | 8, [FDATASYNC] = 1 | 2 | 4,
        [FSYNC] = 1 | 2,        [FLOCK] = 1 | 2 | 8,     [PREAD] = 1 | 2 | 16, [PWRITE] = 1 | 2 | 4 | 16,       [LSEEK] = 2,
        [FCNTL] = 2,            [STAT] = 2,              [FSTATFS] = 2,     [FSTATVFS] = 2,  [GETRLIMIT] = 2,   [MEMORY] = 8,
        [LINK] = 0,             [FCHMOD] = 0,            [FICLONE_] = 0, /* of copies only */
    };
    char directory[] = "/dev/shm/palloc.XXXXXX";
    int deep = getenv("DEEP") != NULL;
    int call, is_new, in_memory = mkdtemp(directory) != NULL && chdir(directory) == 0;
    size_t k, e;

    for (k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (e = 0; e < sizeof errors / sizeof *errors; e++) {
            unsigned long before = faults_total;

            if (errors[e] == SHORT_COUNT && kinds[k].zeros == 0 && !kinds[k].no_fallocate)
                continue; /* nothing is read or written there */
            TESTF("every-call-fails-once-and-nothing-is-lost-%s-%s", kinds[k].name,
                  errors[e] == SHORT_COUNT ? "short" : errors[e] == EINTR ? "EINTR" : errors[e] == EIO ? "EIO"
                  : errors[e] == ENOSPC ? "ENOSPC" : "ENOMEM");
            for (call = 0; call < CALL_COUNT; call++) {
                if (!(can_fail[call] & 1 << e))
                    continue;
                for (is_new = 0; is_new < 2; is_new++) {
                    unsigned n = 0;
                    while (with_fault(&kinds[k], (enum call)call, errors[e], n, is_new))
                        n += deep ? 1 : 1 + n / 24; /* reads of a sparse file in memory are many, and alike */
                }
            }
            CHECK(faults_total > before);
        }
    PART(quiet_in_holes());
    PART(limited());
    PART(live_file_has_space());
    PART(reader_beyond_its_window());
    PART(interrupted_for_ever());
    PART(copies());
    if (in_memory) {
        unlink(FILE_NAME);
        rmdir(directory);
    }
    DIAG("%lu faults", faults_total);
    return tap_done();
}

#else

int main(void)
{
    TEST("every-call-fails-once");
    SKIP("needs glibc on x86_64");
    return tap_done();
}

#endif
