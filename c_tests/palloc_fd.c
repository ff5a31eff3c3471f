/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The second generation: functions over descriptors, and a file that at every moment is as long as the medium. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef _WIN32
#include <sys/file.h>
#include <sys/syscall.h>
#endif

#include <finwo/palloc.h>

#include "support/files.h"
#include "support/random.h"
#include "tap.h"

#ifndef _WIN32
static unsigned stats; /* calls of fstat */
static int slow_locks;  /* so that threads meet between a look and a lock */
static int slow_syncs;  /* so that a fork finds a thread in one */
#endif

/* In front of the C library's functions, on systems on which that works. */
#if defined(__linux__) && defined(__GLIBC__) && defined(__x86_64__)
#define INTERPOSES 1

int fstat64(int fd, struct stat64 *info)
{
    __atomic_fetch_add(&stats, 1, __ATOMIC_RELAXED);
    return (int)syscall(SYS_fstat, fd, info);
}

int fdatasync(int fd)
{
    if (__atomic_load_n(&slow_syncs, __ATOMIC_RELAXED))
        usleep(500);
    return (int)syscall(SYS_fdatasync, fd);
}

int flock(int fd, int how)
{
    if (__atomic_load_n(&slow_locks, __ATOMIC_RELAXED))
        usleep(1000);
    return (int)syscall(SYS_flock, fd, how);
}
#else
#define INTERPOSES 0
#endif

#define FILE_NAME "fd.db"
#define UNTOUCHED 31313
#define FREE_BIT ((uint64_t)1 << 63)

/* From palloc.h, which can't be included here. */
int64_t palloc_check(const char *filename, void (*report)(void *, uint64_t, const char *), void *user);

static uint64_t end_of(int fd)
{
    return (uint64_t)lseek(fd, 0, SEEK_END);
}

static uint64_t word_at(int fd, uint64_t at)
{
    uint8_t raw[8] = {0};
    uint64_t word = 0;
    int i;

    CHECK_EQ_I(pread(fd, raw, 8, (off_t)at), 8);
    for (i = 0; i < 8; i++)
        word = word << 8 | raw[i];
    return word;
}

static int fresh(uint32_t flags)
{
    int fd;

    unlink(FILE_NAME);
    fd = palloc_open(FILE_NAME, flags);
    REQUIRE(fd > 2);
    REQUIRE(palloc_init(fd, flags) == PALLOC_OK);
    return fd;
}

static void make_file(const char *name, const void *bytes, size_t size, uint64_t length)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0666);

    REQUIRE(fd >= 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size && ftruncate(fd, (off_t)length) == 0);
    close(fd);
}

static void figures(void)
{
    int fd;

    TEST("figures-of-a-dynamic-medium");
    unlink(FILE_NAME);
    errno = UNTOUCHED;
    fd = palloc_open(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(fd > 2);
    CHECK_EQ_U(end_of(fd), 0);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_OK);
    CHECK_EQ_U(end_of(fd), 8);
    CHECK_EQ_U(palloc_next(fd, 0), 0);
    CHECK_EQ_U(palloc(fd, 4), 16);
    CHECK_EQ_U(end_of(fd), 40);
    CHECK_EQ_U(palloc_size(fd, 16), 16);
    CHECK_EQ_U(palloc(fd, 32), 48);
    CHECK_EQ_U(end_of(fd), 88);
    CHECK_EQ_I(pfree(fd, 48), PALLOC_OK);
    CHECK_EQ_U(end_of(fd), 40);
    CHECK_EQ_U(palloc(fd, 0), 48);
    CHECK_EQ_U(end_of(fd), 72);
    CHECK_EQ_I(pfree(fd, 16), PALLOC_OK);
    CHECK_EQ_U(end_of(fd), 72);
    CHECK_EQ_I(pfree(fd, 48), PALLOC_OK);
    CHECK_EQ_U(end_of(fd), 8);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    CHECK_ERRNO(UNTOUCHED);
    CHECK_EQ_I(fcntl(fd, F_GETFD), -1);

    TEST("figures-of-a-static-medium");
    make_file(FILE_NAME, "", 0, 1 << 20);
    fd = palloc_open(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(fd > 2);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DEFAULT), PALLOC_OK);
    CHECK_EQ_U(palloc(fd, 4), 16);
    CHECK_EQ_U(palloc(fd, 32), 48);
    CHECK_EQ_U(palloc(fd, 32), 96);
    CHECK_EQ_U(palloc(fd, 32), 144);
    CHECK_EQ_U(palloc(fd, 32), 192);
    CHECK_EQ_I(pfree(fd, 144), PALLOC_OK);
    CHECK_EQ_I(pfree(fd, 16), PALLOC_OK);
    CHECK_EQ_I(pfree(fd, 96), PALLOC_OK);
    CHECK_EQ_U(palloc(fd, 40), 96);
    CHECK_EQ_U(palloc(fd, 64), 240);
    CHECK_EQ_U(palloc(fd, 1 << 20), 0);
    CHECK_ERRNO(ENOSPC);
    CHECK_EQ_U(palloc_next(fd, 0), 48);
    CHECK_EQ_U(palloc_next(fd, 48), 96);
    CHECK_EQ_U(palloc_next(fd, 96), 192);
    CHECK_EQ_U(palloc_next(fd, 192), 240);
    CHECK_EQ_U(palloc_next(fd, 240), 0);
    CHECK_EQ_U(palloc(fd, 1), 16);
    CHECK_EQ_U(end_of(fd), 1 << 20);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
}

/* The chain of start markers ends with the file, in a live block. */
static int is_exact(int fd)
{
    uint64_t at = 8, end = end_of(fd), word = 0;

    while (at < end) {
        word = word_at(fd, at);
        at += (word & ~FREE_BIT) + 16;
    }
    return CHECK_EQ_U(at, end) && CHECK(!(word & FREE_BIT));
}

static void exact_sizes(uint32_t flags, unsigned steps)
{
    uint64_t live[64] = {0};
    struct rng rng = {42};
    unsigned step, i;
    int fd = fresh(PALLOC_DYNAMIC | flags);

    TESTF("the-file-ends-with-the-last-blob-at-every-moment-%s", flags & PALLOC_SYNC ? "sync" : "plain");
    for (step = 0; step < steps; step++) {
        i = (unsigned)rng_below(&rng, 64);
        if (live[i] != 0) {
            if (!CHECK_EQ_I(pfree(fd, live[i]), PALLOC_OK))
                break;
            live[i] = 0;
        } else {
            uint64_t size = rng_below(&rng, step % 97 == 0 ? 300000 : 700);
            live[i] = palloc(fd, size);
            if (!CHECK(live[i] != 0) || !CHECK(palloc_size(fd, live[i]) >= size))
                break;
        }
        if (!is_exact(fd)) {
            DIAG("after step %u", step);
            break;
        }
    }
    for (i = 0; i < 64; i++)
        if (live[i] != 0)
            CHECK_EQ_I(pfree(fd, live[i]), PALLOC_OK);
    CHECK_EQ_U(end_of(fd), 8);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
}

static int has_pattern(int fd, uint64_t ptr, uint64_t n, unsigned id)
{
    uint64_t j;

    for (j = 0; j < n; j++) {
        uint8_t byte = 0;
        if (pread(fd, &byte, 1, (off_t)(ptr + j)) != 1 || !CHECK_EQ_U(byte, (id * 37 + j * 11 + 5) & 0xff))
            return 0;
    }
    return 1;
}

/* Blobs, sizes and contents are those that the file beside the medium lists. */
static void listed(int fd, FILE *list)
{
    char line[512];
    int in_set = 0;
    uint64_t ptr = 0;

    rewind(list);
    while (fgets(line, sizeof line, list) != NULL) {
        unsigned long long at, wanted, n;
        unsigned id;

        if (strncmp(line, "expected live set", 17) == 0)
            in_set = 1;
        else if (in_set && sscanf(line, " %llu %llu %llu id %u", &at, &wanted, &n, &id) == 4) {
            ptr = palloc_next(fd, ptr);
            if (!CHECK_EQ_U(ptr, at) || !CHECK_EQ_U(palloc_size(fd, ptr), n) || !has_pattern(fd, ptr, wanted, id))
                return;
        } else if (in_set && line[0] == '\n')
            break;
    }
    CHECK(in_set);
    CHECK_EQ_U(palloc_next(fd, ptr), 0);
}

static void golden(void)
{
    const char *data = getenv("TEST_DATA");
    char path[4096], text[4096];
    struct dirent *entry;
    unsigned seen = 0;
    DIR *dir;

    TEST("media-of-both-generations-of-the-original-open-without-palloc_init");
    if (data == NULL) {
        SKIP("TEST_DATA is not set");
        return;
    }
    snprintf(path, sizeof path, "%s/palloc", data);
    dir = opendir(path);
    REQUIRE(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        char *dot = strrchr(entry->d_name, '.');
        static char bytes[1 << 20];
        uint64_t ptr;
        ssize_t size;
        FILE *list;
        int fd;

        if (dot == NULL || strcmp(dot, ".db") != 0)
            continue;
        snprintf(text, sizeof text, "%s/palloc/%.*s.txt", data, (int)(dot - entry->d_name), entry->d_name);
        snprintf(path, sizeof path, "%s/palloc/%s", data, entry->d_name);
        fd = open(path, O_RDONLY);
        size = read(fd, bytes, sizeof bytes);
        close(fd);
        REQUIRE(size >= 8);
        make_file(FILE_NAME, bytes, (size_t)size, (uint64_t)size);
        list = fopen(text, "r");
        REQUIRE(list != NULL);
        fd = palloc_open(FILE_NAME, PALLOC_DEFAULT);
        if (!CHECK(fd > 2)) {
            DIAG("%s: %s", entry->d_name, palloc_error());
            continue;
        }
        listed(fd, list);
        ptr = palloc(fd, 24);
        if (ptr != 0)
            CHECK_EQ_I(pfree(fd, ptr), PALLOC_OK);
        listed(fd, list);
        CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
        CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
        fclose(list);
        seen++;
    }
    closedir(dir);
    CHECK(seen >= 12);
}

#define REFUSED(call, value, error)                                                                                                        \
    do {                                                                                                                                   \
        errno = 0;                                                                                                                         \
        CHECK_EQ_I(call, value);                                                                                                           \
        CHECK_ERRNO(error);                                                                                                                \
    } while (0)

static void free_while_iterating(void)
{
    uint32_t flags;

    for (flags = PALLOC_DEFAULT; flags <= PALLOC_DYNAMIC; flags++) {
        uint64_t ptr;
        int i, freed = 0, fd;

        TESTF("freeing-while-iterating-empties-a-%s-medium", flags == PALLOC_DYNAMIC ? "dynamic" : "static");
        unlink(FILE_NAME);
        if (flags == PALLOC_DEFAULT)
            make_file(FILE_NAME, "", 0, 1 << 20);
        fd = palloc_open(FILE_NAME, flags);
        CHECK_EQ_I(palloc_init(fd, flags), PALLOC_OK);
        for (i = 0; i < 100; i++)
            CHECK(palloc(fd, (uint64_t)(i * 37 % 1000)) != 0);
        for (ptr = palloc_next(fd, 0); ptr != 0; ptr = palloc_next(fd, ptr))
            freed += pfree(fd, ptr) == PALLOC_OK;
        CHECK_EQ_I(freed, 100);
        CHECK_EQ_U(end_of(fd), flags == PALLOC_DYNAMIC ? 8 : 1 << 20);
        CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    }
}

static void errors(void)
{
    static const uint8_t damaged[48] = {'P', 'B', 'A', 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7};
    int fd, other, i;
    uint64_t ptr;

    TEST("palloc_open-returns-0-on-every-failure");
    unlink(FILE_NAME);
    REFUSED(palloc_open(NULL, PALLOC_DYNAMIC), 0, EINVAL);
    REFUSED(palloc_open(FILE_NAME, PALLOC_DEFAULT), 0, ENOENT);
    REFUSED(palloc_open(FILE_NAME, PALLOC_EXTENDED), 0, ENOTSUP);
    REFUSED(palloc_open(FILE_NAME, 1024), 0, EINVAL);
    REFUSED(palloc_open(".", PALLOC_READONLY), 0, EINVAL);
    make_file(FILE_NAME, "some text of mine", 17, 17);
    REFUSED(palloc_open(FILE_NAME, PALLOC_DYNAMIC), 0, EINVAL);
    make_file(FILE_NAME, damaged, sizeof damaged, sizeof damaged);
    REFUSED(palloc_open(FILE_NAME, PALLOC_DYNAMIC), 0, EILSEQ);
    CHECK_STR_CONTAINS(palloc_error(), "palloc_open: " FILE_NAME);

    TEST("a-second-open-is-EWOULDBLOCK");
    fd = fresh(PALLOC_DYNAMIC);
    REFUSED(palloc_open(FILE_NAME, PALLOC_DYNAMIC), 0, EWOULDBLOCK);
    other = open(FILE_NAME, O_RDWR);
    REFUSED(palloc_init(other, PALLOC_DYNAMIC), PALLOC_ERR, EWOULDBLOCK);
    close(other);
    other = dup(fd);
    REFUSED(palloc_init(other, PALLOC_DYNAMIC), PALLOC_ERR, EWOULDBLOCK);
    close(other);

    TEST("wrong-offsets-are-refused");
    ptr = palloc(fd, 100);
    REFUSED(pfree(fd, 0), PALLOC_ERR, EINVAL);
    REFUSED(pfree(fd, ptr + 16), PALLOC_ERR, EINVAL);
    REFUSED(pfree(fd, UINT64_MAX), PALLOC_ERR, EINVAL);
    REFUSED(palloc_size(fd, 17), 0, EINVAL);
    CHECK_EQ_U(palloc_next(fd, ptr - 1), ptr);
    CHECK_EQ_U(palloc_next(fd, ptr + 1), 0);
    CHECK_EQ_I(pfree(fd, ptr), PALLOC_OK);
    REFUSED(pfree(fd, ptr), PALLOC_ERR, EINVAL);
    CHECK_STR_CONTAINS(palloc_error(), "pfree: descriptor ");
    REFUSED(palloc(fd, UINT64_MAX), 0, ENOMEM);
    REFUSED(palloc(fd, (UINT64_C(1) << 63) - 8), 0, ENOMEM);
    CHECK_EQ_U(end_of(fd), 8);
    palloc(fd, 1);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);

    TEST("a-descriptor-without-a-medium-is-EBADF");
    REFUSED(palloc(fd, 1), 0, EBADF);
    REFUSED(palloc_close(fd), PALLOC_ERR, EBADF);
    REFUSED(palloc_close(-1), PALLOC_ERR, EBADF);
    for (i = 0; i <= 2; i++) { /* 0 is what a palloc_open that failed returned */
        REFUSED(palloc_close(i), PALLOC_ERR, EBADF);
        CHECK(fcntl(i, F_GETFD) != -1);
    }
    REFUSED(palloc_next(-7, 0), 0, EBADF);
    REFUSED(palloc_next(1000000, 0), 0, EBADF);
    REFUSED(palloc_init(-1, PALLOC_DYNAMIC), PALLOC_ERR, EBADF);
    make_file("empty.db", "", 0, 0);
    fd = palloc_open("empty.db", PALLOC_DEFAULT);
    CHECK(fd > 2);
    REFUSED(palloc(fd, 1), 0, EBADF);
    REFUSED(palloc_init(fd, PALLOC_DEFAULT), PALLOC_ERR, EINVAL);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_OK);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);

    TEST("PALLOC_READONLY-is-EROFS");
    fd = palloc_open(FILE_NAME, PALLOC_READONLY);
    CHECK(fd > 2);
    CHECK_EQ_U(palloc_next(fd, 0), 16);
    REFUSED(palloc(fd, 1), 0, EROFS);
    REFUSED(pfree(fd, 16), PALLOC_ERR, EROFS);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);

    TEST("PALLOC_FORCE-makes-a-medium-of-a-foreign-file");
    make_file(FILE_NAME, "some text of mine", 17, 17);
    fd = palloc_open(FILE_NAME, PALLOC_DYNAMIC | PALLOC_FORCE);
    CHECK(fd > 2);
    REFUSED(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_ERR, EINVAL);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC | PALLOC_FORCE), PALLOC_OK);
    CHECK_EQ_U(palloc(fd, 1), 16);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
}

static void descriptors(void)
{
#ifndef _WIN32
    char path[64];
#endif
    struct stat st;
    int fd, in = dup(0), out, ends[2];

    TEST("the-descriptor-is-never-0-1-or-2-and-has-O_CLOEXEC");
    close(0);
    fd = fresh(PALLOC_DYNAMIC | PALLOC_SYNC);
    CHECK(fd > 2);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(fd, F_GETFL) & O_DSYNC) != 0);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    CHECK_EQ_I(fstat(0, &st), -1);
    dup2(in, 0);
    close(in);

    TEST("palloc_init-takes-a-descriptor-of-open-and-leaves-its-position");
    unlink(FILE_NAME);
    fd = open(FILE_NAME, O_RDWR | O_CREAT, 0666);
    lseek(fd, 5, SEEK_SET);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_OK);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_OK);
    CHECK_EQ_U(palloc(fd, 30), 16);
    CHECK_EQ_I(lseek(fd, 0, SEEK_CUR), 5);
    CHECK_EQ_U(end_of(fd), 56);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    REFUSED(palloc_close(fd), PALLOC_ERR, EBADF);
    make_file(FILE_NAME, "PBA\0\0\0\0\1\x80\0\0\0\1\0\0\0", 16, 65536); /* a block beyond the end: data is looked for */
    fd = open(FILE_NAME, O_RDWR);
    CHECK_EQ_I(pwrite(fd, "x", 1, 65535), 1);
    lseek(fd, 7, SEEK_SET);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DEFAULT), PALLOC_OK);
    CHECK_EQ_I(lseek(fd, 0, SEEK_CUR), 7);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
#ifndef _WIN32
    file_in_memory(path, FILE_NAME); /* on a disk, most file systems have no file of this length */
    fd = open(path, O_RDWR | O_TRUNC);
    if (ftruncate(fd, (off_t)1 << 62) == 0) { /* too long for the address space of any machine */
        lseek(fd, 7, SEEK_SET);
        REFUSED(palloc_init(fd, PALLOC_DEFAULT), PALLOC_ERR, ENOMEM);
        CHECK_EQ_I(lseek(fd, 0, SEEK_CUR), 7);
        CHECK_STR_CONTAINS(palloc_error(), "PALLOC_FORCE");
    }
    close(fd);
#endif
    make_file(FILE_NAME, "", 0, 4096); /* zeros: looked at from end to end */
    fd = open(FILE_NAME, O_RDWR);
    lseek(fd, 7, SEEK_SET);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DEFAULT), PALLOC_OK);
    CHECK_EQ_I(lseek(fd, 0, SEEK_CUR), 7);
    CHECK_EQ_U(palloc(fd, 30), 16);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);

    TEST("a-descriptor-that-cannot-be-used-is-an-error-and-stays-open-and-unlocked");
    fd = open(FILE_NAME, O_RDONLY);
    REFUSED(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_ERR, EBADF);
    CHECK_EQ_I(palloc_init(fd, PALLOC_READONLY), PALLOC_OK);
    CHECK_EQ_U(palloc_next(fd, 0), 16);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    fd = open(FILE_NAME, O_WRONLY);
    REFUSED(palloc_init(fd, PALLOC_READONLY), PALLOC_ERR, EBADF);
    CHECK_EQ_I(close(fd), 0);
#ifndef _WIN32 /* which does not report it */
    fd = open(FILE_NAME, O_RDWR | O_APPEND);
    REFUSED(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_ERR, EINVAL);
    close(fd);
#endif
    REQUIRE(pipe(ends) == 0);
    REFUSED(palloc_init(ends[0], PALLOC_READONLY), PALLOC_ERR, EINVAL);
    CHECK_EQ_I(close(ends[1]), 0);
    CHECK_EQ_I(palloc_close(ends[0]), PALLOC_OK);
    make_file(FILE_NAME, "not a medium at all", 19, 19);
    fd = open(FILE_NAME, O_RDWR);
    REFUSED(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_ERR, EINVAL);
    CHECK_EQ_I(lseek(fd, 0, SEEK_CUR), 0);
    unlink("link.db");
    CHECK_EQ_I(link(FILE_NAME, "link.db"), 0);
    out = palloc_open("link.db", PALLOC_DYNAMIC | PALLOC_FORCE); /* no lock was left */
    CHECK(out > 2);
    CHECK_EQ_I(palloc_close(out), PALLOC_OK);
    CHECK_EQ_I(close(fd), 0);

    TEST("close-2-in-place-of-palloc_close-harms-nothing");
    fd = fresh(PALLOC_DYNAMIC);
    CHECK_EQ_U(palloc(fd, 30), 16);
    close(fd);
    fd = palloc_open(FILE_NAME, PALLOC_DYNAMIC);
    CHECK(fd > 2);
    CHECK_EQ_U(palloc_next(fd, 0), 16);
    close(fd);
    out = open("other.txt", O_RDWR | O_CREAT, 0666); /* most likely the same number */
    REFUSED(out == fd ? palloc_close(fd) : (errno = EBADF, PALLOC_ERR), PALLOC_ERR, EBADF);
    CHECK_EQ_I(close(out), 0);
    fd = palloc_open(FILE_NAME, PALLOC_DYNAMIC);
    CHECK(fd > 2);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
}

static int shared_fd;

static void *thread(void *argument)
{
    const char *name = argument;
    unsigned i;

    for (i = 0; i < 300; i++) {
        uint64_t ptr = palloc(shared_fd, i), own;
        int fd = palloc_open(name, PALLOC_DYNAMIC);

        if (!CHECK(fd > 2) || !CHECK(palloc_init(fd, PALLOC_DYNAMIC) == PALLOC_OK))
            break;
        own = palloc(fd, i);
        if (!CHECK_EQ_U(own, 16) || !CHECK_EQ_I(pfree(fd, own), PALLOC_OK) || !CHECK_EQ_I(palloc_close(fd), PALLOC_OK) ||
            !CHECK(ptr != 0) || !CHECK_EQ_I(pfree(shared_fd, ptr), PALLOC_OK))
            break;
    }
    return NULL;
}

static void threads(void)
{
    char names[4][16];
    pthread_t ids[4];
    int i;

    TEST("threads-share-a-descriptor-while-others-are-opened-and-closed");
    shared_fd = fresh(PALLOC_DYNAMIC);
    for (i = 0; i < 4; i++) {
        snprintf(names[i], sizeof names[i], "thread%d.db", i);
        REQUIRE(pthread_create(&ids[i], NULL, thread, names[i]) == 0);
    }
    for (i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
    CHECK_EQ_U(end_of(shared_fd), 8);
    CHECK_EQ_I(palloc_close(shared_fd), PALLOC_OK);
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
}

#ifndef _WIN32

enum { RACERS = 4 };

static pthread_barrier_t barrier;

struct racer {
    int fd, result, error;
    uint64_t ptr;
};

static void *race_to_init(void *argument)
{
    struct racer *r = argument;

    pthread_barrier_wait(&barrier);
    r->result = palloc_init(r->fd, PALLOC_DYNAMIC);
    r->error = errno;
    r->ptr = r->result == PALLOC_OK ? palloc(r->fd, 16) : 0;
    return NULL;
}

/* Two threads on a descriptor, two on a dup(2) of it, all at palloc_init at once. */
static void races_of_init(unsigned rounds)
{
    struct racer racers[RACERS];
    pthread_t ids[RACERS];
    unsigned round;
    int i, fd;

    TEST("of-threads-at-palloc_init-of-a-descriptor-and-of-its-dup-those-at-one-of-them-succeed");
    fd = fresh(PALLOC_DYNAMIC);
    CHECK(palloc(fd, 16) != 0);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    slow_locks = 1;
    REQUIRE(pthread_barrier_init(&barrier, NULL, RACERS) == 0);
    for (round = 0; round < rounds && tap_.bad == 0; round++) {
        int one = open(FILE_NAME, O_RDWR), two = dup(one), probe = open(FILE_NAME, O_RDWR), winner;

        REQUIRE(one > 0 && two > 0 && probe > 0);
        for (i = 0; i < RACERS; i++) {
            racers[i].fd = i % 2 == 0 ? one : two;
            REQUIRE(pthread_create(&ids[i], NULL, race_to_init, &racers[i]) == 0);
        }
        for (i = 0; i < RACERS; i++)
            pthread_join(ids[i], NULL);
        winner = racers[0].result == PALLOC_OK ? 0 : 1;
        for (i = 0; i < RACERS; i++) {
            CHECK_EQ_I(racers[i].result, i % 2 == winner ? PALLOC_OK : PALLOC_ERR);
            if (i % 2 != winner)
                CHECK_EQ_I(racers[i].error, EWOULDBLOCK);
        }
        CHECK(racers[winner].ptr != 0 && racers[winner + 2].ptr != 0 && racers[winner].ptr != racers[winner + 2].ptr);
        CHECK_EQ_I(flock(probe, LOCK_EX | LOCK_NB), -1);
        for (i = winner; i < RACERS; i += 2)
            CHECK_EQ_I(pfree(racers[i].fd, racers[i].ptr), PALLOC_OK);
        CHECK_EQ_I(palloc_close(winner == 0 ? one : two), PALLOC_OK);
        close(winner == 0 ? two : one);
        close(probe);
        if (tap_.bad != 0)
            DIAG("round %u", round);
    }
    pthread_barrier_destroy(&barrier);
    slow_locks = 0;
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
}

static unsigned open_rounds;

/* Opens and closes a file of its own, sometimes by close(2), and now and then fails to open, so that the library looks for what was
 * closed by close(2). */
static void *open_and_close(void *argument)
{
    const char *name = argument;
    unsigned i;

    for (i = 0; i < open_rounds; i++) {
        int fd = palloc_open(name, PALLOC_DYNAMIC);
        uint64_t ptr;

        if (!CHECK(fd > 2) || !CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_OK)) {
            DIAG("%s", palloc_error());
            break;
        }
        ptr = palloc(fd, 20);
        if (!CHECK_EQ_U(ptr, 16) || !CHECK_EQ_I(pfree(fd, ptr), PALLOC_OK) || !CHECK_EQ_U(end_of(fd), 8)) {
            DIAG("round %u: %s", i, palloc_error());
            break;
        }
        if (i % 4 == 3)
            close(fd);
        else if (!CHECK_EQ_I(palloc_close(fd), PALLOC_OK))
            break;
        if (i % 2 == 0 && !CHECK_EQ_I(palloc_open("missing.db", PALLOC_DEFAULT), 0))
            break;
    }
    return NULL;
}

static void races_of_open(unsigned rounds)
{
    char names[RACERS][16];
    pthread_t ids[RACERS];
    int i;

    TEST("threads-open-and-close-media-of-their-own-and-none-of-anothers");
    open_rounds = rounds;
    for (i = 0; i < RACERS; i++) {
        snprintf(names[i], sizeof names[i], "race%d.db", i);
        REQUIRE(pthread_create(&ids[i], NULL, open_and_close, names[i]) == 0);
    }
    for (i = 0; i < RACERS; i++)
        pthread_join(ids[i], NULL);
}

static volatile int stop_racers;

static void *opens_until_stopped(void *argument)
{
    while (!stop_racers) {
        int fd = palloc_open(argument, PALLOC_DYNAMIC);

        if (!CHECK(fd > 2) || !CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_OK) || !CHECK_EQ_I(palloc_close(fd), PALLOC_OK))
            break;
    }
    return NULL;
}

static void *syncs_until_stopped(void *argument)
{
    int fd = *(int *)argument;

    while (!stop_racers) {
        uint64_t ptr = palloc(fd, 100);

        if (!CHECK(ptr != 0) || !CHECK_EQ_I(pfree(fd, ptr), PALLOC_OK))
            break;
    }
    return NULL;
}

/* Gives its copies of the parent's descriptors back, and opens media of its own, with the parent's numbers first. */
static int child_of_threads(int inherited)
{
    int i, fds[3];

    alarm((unsigned)tap_seconds(20));
    close(inherited);
    for (i = 0; i < 3; i++) {
        char name[32];

        snprintf(name, sizeof name, "child%d.db", i);
        unlink(name);
        fds[i] = palloc_open(name, PALLOC_DYNAMIC);
        if (fds[i] <= 2 || palloc_init(fds[i], PALLOC_DYNAMIC) != PALLOC_OK || palloc(fds[i], 10) != 16)
            return 1;
    }
    for (i = 0; i < 3; i++)
        if (palloc_close(fds[i]) != PALLOC_OK)
            return 2;
    return 0;
}

static void forks_among_threads(void)
{
    char names[2][16];
    pthread_t ids[3];
    int i, fd, bad = 0;

    TEST("a-child-that-is-forked-while-threads-are-at-work-opens-media-of-its-own");
    fd = fresh(PALLOC_DYNAMIC | PALLOC_SYNC);
    stop_racers = 0;
    slow_locks = slow_syncs = 1;
    for (i = 0; i < 2; i++) {
        snprintf(names[i], sizeof names[i], "fork%d.db", i);
        REQUIRE(pthread_create(&ids[i], NULL, opens_until_stopped, names[i]) == 0);
    }
    REQUIRE(pthread_create(&ids[2], NULL, syncs_until_stopped, &fd) == 0);
    for (i = 0; i < 40 && bad == 0; i++) {
        int status = -1;
        pid_t child;

        usleep(1000);
        child = fork();
        if (child == 0)
            _exit(child_of_threads(fd));
        bad += child < 0 || waitpid(child, &status, 0) != child || !CHECK_EQ_I(status, 0);
    }
    stop_racers = 1;
    for (i = 0; i < 3; i++)
        pthread_join(ids[i], NULL);
    slow_locks = slow_syncs = 0;
    CHECK_EQ_I(bad, 0);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    CHECK_EQ_I(palloc_check(FILE_NAME, NULL, NULL), 0);
}

/* The lock that another open file is refused: 0, LOCK_SH (which all others are then refused too) or LOCK_EX. */
static int refused_to_others(const char *name)
{
    int probe = open(name, O_RDONLY), refused = 0;

    REQUIRE(probe > 0);
    if (flock(probe, LOCK_SH | LOCK_NB) != 0)
        refused = LOCK_SH;
    else if (flock(probe, LOCK_EX | LOCK_NB) != 0)
        refused = LOCK_EX;
    close(probe);
    return refused;
}

static void readers(void)
{
    int writer, one, two, three;

    TEST("readers-of-one-file-do-not-exclude-each-other");
    writer = fresh(PALLOC_DYNAMIC);
    CHECK_EQ_U(palloc(writer, 30), 16);
    REFUSED(palloc_open(FILE_NAME, PALLOC_READONLY), 0, EWOULDBLOCK);
    one = dup(writer);
    REFUSED(palloc_init(one, PALLOC_READONLY), PALLOC_ERR, EWOULDBLOCK);
    CHECK_EQ_I(palloc_close(writer), PALLOC_OK);
    close(one);
    one = open(FILE_NAME, O_RDONLY);
    two = dup(one);
    three = open(FILE_NAME, O_RDONLY);
    CHECK_EQ_I(palloc_init(one, PALLOC_READONLY), PALLOC_OK);
    CHECK_EQ_I(palloc_init(two, PALLOC_READONLY), PALLOC_OK);
    CHECK_EQ_I(palloc_init(three, PALLOC_READONLY), PALLOC_OK);
    CHECK_EQ_U(palloc_next(one, 0), 16);
    CHECK_EQ_U(palloc_next(two, 0), 16);
    CHECK_EQ_U(palloc_next(three, 0), 16);

    TEST("the-last-of-them-gives-the-lock-back");
    CHECK_EQ_I(palloc_close(three), PALLOC_OK);
    CHECK_EQ_I(palloc_close(one), PALLOC_OK);
    CHECK_EQ_I(refused_to_others(FILE_NAME), LOCK_EX);
    REFUSED(palloc_open(FILE_NAME, PALLOC_DYNAMIC), 0, EWOULDBLOCK);
    writer = open(FILE_NAME, O_RDWR);
    REFUSED(palloc_init(writer, PALLOC_DYNAMIC), PALLOC_ERR, EWOULDBLOCK);
    CHECK_EQ_U(palloc_next(two, 0), 16);
    CHECK_EQ_I(palloc_close(two), PALLOC_OK);
    CHECK_EQ_I(refused_to_others(FILE_NAME), 0);
    CHECK_EQ_I(palloc_init(writer, PALLOC_DYNAMIC), PALLOC_OK);
    CHECK_EQ_I(palloc_close(writer), PALLOC_OK);
}

static void locks_of_the_program(void)
{
    static const int locks[] = {0, LOCK_SH, LOCK_EX};
    static const int refused[] = {0, LOCK_EX, LOCK_SH};
    struct flock of_bytes = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 4};
    int i, fd, other;

    TEST("a-palloc_init-that-fails-leaves-the-programs-own-flock");
    if (access("/proc/self/fdinfo/0", R_OK) != 0) {
        SKIP("the system does not list locks");
        return;
    }
    make_file(FILE_NAME, "not a medium at all", 19, 19);
    for (i = 0; i < 3; i++) {
        fd = open(FILE_NAME, O_RDWR);
        CHECK(locks[i] == 0 || flock(fd, locks[i] | LOCK_NB) == 0);
        REFUSED(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_ERR, EINVAL);
        CHECK_EQ_I(refused_to_others(FILE_NAME), refused[i]);
        REFUSED(palloc_init(fd, PALLOC_READONLY), PALLOC_ERR, EINVAL);
        CHECK_EQ_I(refused_to_others(FILE_NAME), refused[i]);
        CHECK_EQ_I(fcntl(fd, F_SETLK, &of_bytes), 0); /* a lock of another kind, which the system lists too */
        REFUSED(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_ERR, EINVAL);
        CHECK_EQ_I(refused_to_others(FILE_NAME), refused[i]);
        if (locks[i] != LOCK_EX) { /* refused the lock, by somebody who reads */
            other = open(FILE_NAME, O_RDONLY);
            CHECK_EQ_I(flock(other, LOCK_SH | LOCK_NB), 0);
            REFUSED(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_ERR, EWOULDBLOCK);
            close(other);
            CHECK_EQ_I(refused_to_others(FILE_NAME), refused[i]);
        }
        CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC | PALLOC_FORCE), PALLOC_OK);
        CHECK_EQ_I(refused_to_others(FILE_NAME), LOCK_SH);
        CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
        CHECK_EQ_I(refused_to_others(FILE_NAME), 0);
        make_file(FILE_NAME, "not a medium at all", 19, 19);
    }
}

static unsigned open_descriptors(void)
{
    unsigned fd, count = 0;

    for (fd = 0; fd < 1024; fd++)
        count += fcntl((int)fd, F_GETFD) != -1;
    return count;
}

static void want_of_descriptors(void)
{
    enum { LIMIT = 100 };
    unsigned before, left, flags, failures = 0, i, filled;
    int fill[LIMIT], fd;
    struct rlimit limit, small;

    TEST("palloc_open-that-finds-too-few-descriptors-leaves-neither-file-nor-descriptor");
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    small = limit;
    small.rlim_cur = LIMIT;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &small) == 0);
    for (flags = PALLOC_DYNAMIC; flags <= (PALLOC_DYNAMIC | PALLOC_SYNC); flags += PALLOC_SYNC)
        for (left = 0, fd = 0; fd == 0 && left < 10; left++) {
            unlink(FILE_NAME);
            for (filled = 0; (fd = dup(0)) != -1; filled++)
                fill[filled] = fd;
            for (i = 0; i < left; i++)
                close(fill[--filled]);
            before = open_descriptors();
            errno = 0;
            fd = palloc_open(FILE_NAME, flags);
            if (fd == 0) {
                CHECK_ERRNO(EMFILE);
                CHECK_EQ_I(access(FILE_NAME, F_OK), -1);
                CHECK_EQ_U(open_descriptors(), before);
                failures++;
            } else
                CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
            while (filled > 0)
                close(fill[--filled]);
        }
    CHECK_EQ_U(failures, 2 * 3); /* of three that it needs, there were 0, 1, 2 */
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* Calls of fstat while a medium is opened. */
static unsigned stats_of_open(const char *name, int *fd)
{
    unsigned before = stats;

    *fd = palloc_open(name, PALLOC_DYNAMIC);
    CHECK(*fd > 2);
    CHECK_EQ_I(palloc_init(*fd, PALLOC_DYNAMIC), PALLOC_OK);
    unlink(name);
    return stats - before;
}

static void many_media(void)
{
    enum { MANY = 50 };
    unsigned first, i;
    int fds[MANY];
    char name[32];

    TEST("opening-a-medium-asks-nothing-of-those-that-are-open");
    if (!INTERPOSES) {
        SKIP("system calls can't be counted here");
        return;
    }
    first = stats_of_open("many.db", &fds[0]);
    CHECK(first > 0);
    for (i = 1; i < MANY; i++) {
        snprintf(name, sizeof name, "many%u.db", i);
        CHECK_EQ_U(stats_of_open(name, &fds[i]), first);
    }
    for (i = 0; i < MANY; i++)
        CHECK_EQ_I(palloc_close(fds[i]), PALLOC_OK);
}

/* The rules for close(2) in the header. */
static void closed_by_close(void)
{
    int fd, other, i, met = 0, opened[3];

    TEST("a-number-that-was-closed-by-close-2-stands-for-its-medium-until-it-is-given-to-palloc_init");
    fd = fresh(PALLOC_DYNAMIC);
    CHECK_EQ_U(palloc(fd, 30), 16);
    close(fd);
    make_file("other.db", "", 0, 0);
    other = open("other.db", O_RDWR);
    CHECK_EQ_I(other, fd);
    CHECK_EQ_U(palloc(fd, 30), 64);
    CHECK_EQ_U(end_of(fd), 0);
    CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_OK);
    CHECK_EQ_U(palloc_next(fd, 0), 0);
    CHECK_EQ_U(palloc(fd, 1), 16);
    CHECK_EQ_U(end_of(fd), 40);
    CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
    fd = palloc_open(FILE_NAME, PALLOC_DYNAMIC);
    CHECK(fd > 2);
    CHECK_EQ_U(palloc_next(fd, 16), 64);

    TEST("or-returned-by-palloc_open");
    close(fd);
    make_file("empty.db", "", 0, 0);
    for (i = 0; i < 3; i++) {
        opened[i] = palloc_open("empty.db", PALLOC_DYNAMIC);
        met |= opened[i] == fd;
        REFUSED(palloc(opened[i], 1), 0, EBADF);
    }
    CHECK(met);
    for (i = 0; i < 3; i++)
        CHECK_EQ_I(palloc_close(opened[i]), PALLOC_OK);
    CHECK_EQ_I(refused_to_others(FILE_NAME), 0);

    TEST("a-medium-that-was-closed-by-close-2-keeps-no-descriptor-from-others");
    {
        struct rlimit limit, small;

        REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
        small = limit;
        small.rlim_cur = 40;
        REQUIRE(setrlimit(RLIMIT_NOFILE, &small) == 0);
        for (i = 0; i < 100; i++) {
            char name[32];

            snprintf(name, sizeof name, "closed%d.db", i);
            fd = palloc_open(name, PALLOC_DYNAMIC);
            if (!CHECK(fd > 2) || !CHECK_EQ_I(palloc_init(fd, PALLOC_DYNAMIC), PALLOC_OK))
                break;
            close(fd);
            unlink(name);
        }
        REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
}

static void make_medium(const char *name)
{
    int fd;

    unlink(name);
    fd = palloc_open(name, PALLOC_DYNAMIC);
    REQUIRE(fd > 2 && palloc_init(fd, PALLOC_DYNAMIC) == PALLOC_OK && palloc(fd, 8) == 16 && palloc_close(fd) == PALLOC_OK);
}

enum child { OPENS_A_NEW_FILE, OPENS_A_MEDIUM, OPENS_A_MEDIUM_BY_OPEN, FAILS_TO_OPEN, CLOSES_ANOTHER_FILE, CHILDREN };

/* In a child that has closed what it inherited. */
static int child_works(enum child what, int closed)
{
    const char *name = what == OPENS_A_NEW_FILE ? "new.pba" : "child.pba";
    int fd;

    switch (what) {
    case FAILS_TO_OPEN:
        return palloc_open("missing.pba", PALLOC_DEFAULT) == 0;
    case CLOSES_ANOTHER_FILE:
        fd = dup2(open(name, O_RDWR), closed);
        return fd == closed && palloc_close(fd) == PALLOC_ERR && errno == EBADF && close(fd) == 0;
    case OPENS_A_MEDIUM_BY_OPEN:
        fd = dup2(open(name, O_RDWR), closed);
        break;
    default:
        fd = palloc_open(name, PALLOC_DYNAMIC);
        break;
    }
    return fd > 2 && palloc_init(fd, PALLOC_DYNAMIC) == PALLOC_OK && palloc(fd, 8) != 0 && palloc_close(fd) == PALLOC_OK;
}

/* A child closes what it inherited and opens a medium of its own, as a worker process would. */
static void a_child_that_closes_what_it_inherited(void)
{
    int fd, ready[2], status;
    uint64_t free_one, last;
    char bytes[64], c;
    unsigned what;
    pid_t child;

    TEST("a-forked-child-that-closes-the-descriptor-and-opens-another-medium-leaves-the-parents-alone");
    make_medium("child.pba");
    for (what = 0; what < CHILDREN; what++) {
        unlink("new.pba");
        fd = fresh(PALLOC_DYNAMIC);
        REQUIRE(pipe(ready) == 0);
        free_one = palloc(fd, 64);
        last = palloc(fd, 64);
        CHECK_EQ_I(pfree(fd, free_one), PALLOC_OK);
        child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            if (read(ready[0], &c, 1) != 1)
                _exit(1);
            close(fd);
            _exit(!child_works((enum child)what, fd));
        }
        CHECK_EQ_U(palloc(fd, 64), free_one);
        memset(bytes, 7, sizeof(bytes));
        CHECK(pwrite(fd, bytes, sizeof(bytes), (off_t)free_one) == (ssize_t)sizeof(bytes));
        CHECK(write(ready[1], "x", 1) == 1);
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
        CHECK_EQ_I(WEXITSTATUS(status), 0);
        memset(bytes, 0, sizeof(bytes));
        CHECK(pread(fd, bytes, sizeof(bytes), (off_t)free_one) == (ssize_t)sizeof(bytes));
        CHECK(bytes[0] == 7 && bytes[8] == 7 && bytes[63] == 7);
        CHECK_EQ_I(refused_to_others(FILE_NAME), LOCK_SH);
        CHECK_EQ_I(pfree(fd, last), PALLOC_OK);
        CHECK_EQ_I(palloc_close(fd), PALLOC_OK);
        close(ready[0]);
        close(ready[1]);
        if (tap_.bad != 0)
            DIAG("child %u", what);
    }
}

#endif

#include "both_generations.h" /* from here on palloc_init() is that of palloc.h */

static void both(void)
{
    int fd = fresh(PALLOC_DYNAMIC);
    struct palloc_t *pt;

    TEST("both-generations-in-one-program");
    unlink("first.db");
    pt = palloc_init("first.db", PALLOC_DYNAMIC);
    CHECK(pt != NULL);
    CHECK_EQ_U(palloc(pt, 4), 16);
    CHECK_EQ_U(palloc_fd_alloc(fd, 4), 16);
    REFUSED(palloc_fd_open("first.db", PALLOC_DYNAMIC), 0, EWOULDBLOCK);
    errno = 0;
    CHECK(palloc_init(FILE_NAME, PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    pfree(pt, 16);
    palloc_close(pt);
    CHECK_EQ_I(palloc_fd_close(fd), PALLOC_OK);

    TEST("a-medium-passes-from-one-generation-to-the-other");
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    CHECK(pt != NULL);
    CHECK_EQ_U(palloc(pt, 4), 48);
    palloc_close(pt);
    fd = palloc_fd_open(FILE_NAME, PALLOC_DEFAULT);
    CHECK_EQ_U(palloc_fd_next(fd, 16), 48);
    CHECK_EQ_I(palloc_fd_close(fd), PALLOC_OK);
}

int main(void)
{
#ifndef _WIN32
    int deep = getenv("DEEP") != NULL;

    PART(a_child_that_closes_what_it_inherited());
    PART(many_media());
    PART(closed_by_close());
    PART(readers());
    PART(locks_of_the_program());
    PART(forks_among_threads());
    PART(want_of_descriptors());
    PART(races_of_init((deep ? 500 : 50) / tap_every(10)));
    PART(races_of_open((deep ? 20000 : 2000) / tap_every(10)));
#endif
    PART(figures());
    PART(free_while_iterating());
    PART(exact_sizes(0, 3000));
    PART(exact_sizes(PALLOC_SYNC, 100));
    PART(golden());
    PART(errors());
    PART(descriptors());
    PART(threads());
    PART(both());
    return tap_done();
}
