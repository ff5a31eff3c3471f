/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What is brought to the disk and when: calls of fdatasync and fsync are counted, by functions in front of the C library's.
 *
 * POSIX only: the system calls of a Windows library are not found by name in the program
 */
#include "palloc_util.h"

#if defined(__linux__)
#include <sys/syscall.h>

#define FILE_NAME "durable.db"

static unsigned syncs, directory_syncs;

static int count(int fd, long call)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        directory_syncs++;
    else
        syncs++;
    return (int)syscall(call, fd);
}

int fdatasync(int fd)
{
    return count(fd, SYS_fdatasync);
}

int fsync(int fd)
{
    return count(fd, SYS_fsync);
}

#if defined(__GLIBC__) && defined(__LP64__)
static int no_directory; /* open(2) of one fails with this error */

int open64(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (no_directory != 0 && (flags & O_DIRECTORY) == O_DIRECTORY) {
        errno = no_directory;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static void a_directory_that_cannot_be_opened(void)
{
    struct palloc_t *pt;

    TEST("no-file-is-made-whose-entry-could-not-be-brought-to-the-disk");
    unlink(FILE_NAME);
    no_directory = ENFILE;
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SYNC);
    CHECK(pt == NULL);
    CHECK_ERRNO(ENFILE);
    CHECK_EQ_I(access(FILE_NAME, F_OK), -1);
    palloc_close(pt);

    TEST("but-a-directory-that-may-not-be-read-is-no-reason-to-fail");
    no_directory = EACCES;
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SYNC);
    CHECK(pt != NULL);
    palloc_close(pt);
    no_directory = 0;
}
#else
static void a_directory_that_cannot_be_opened(void)
{
}
#endif

static unsigned since(void)
{
    unsigned n = syncs;

    syncs = 0;
    return n;
}

static void sync_points(void)
{
    struct palloc_t *pt;
    uint64_t a, b, c, moved;

    TEST("with-SYNC-each-operation-has-the-documented-number-of-sync-points");
    file_zeros(FILE_NAME, 100008);
    pt = palloc_init(FILE_NAME, PALLOC_SYNC);
    REQUIRE(pt != NULL);
    since();
    a = palloc(pt, 1000);
    CHECK_EQ_U(since(), 2); /* a part of a free block */
    b = palloc(pt, 1000);
    c = palloc(pt, 1000);
    CHECK_EQ_U(since(), 4);
    CHECK(b != 0 && c != 0);
    pfree(pt, b);
    CHECK_EQ_U(since(), 1);
    CHECK_EQ_U(palloc(pt, 1000), b); /* a whole free block */
    CHECK_EQ_U(since(), 1);
    CHECK_EQ_U(prealloc(pt, b, 500), b); /* shrinks */
    CHECK_EQ_U(since(), 2);
    CHECK_EQ_U(prealloc(pt, b, 700), b); /* grows in place */
    CHECK_EQ_U(since(), 2);
    moved = prealloc(pt, a, 5000);
    CHECK(moved != 0 && moved != a);
    CHECK_EQ_U(since(), 3);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(since(), 1);
    palloc_close(pt);
    CHECK_EQ_U(since(), 1);

    TEST("so-have-growth-and-cutting");
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SYNC);
    REQUIRE(pt != NULL);
    since();
    a = palloc(pt, 1000);
    CHECK_EQ_U(since(), 3); /* the file grows; a part of the slack */
    b = palloc(pt, 1000);
    CHECK_EQ_U(since(), 2); /* a part of the slack */
    c = palloc(pt, 5000000);
    CHECK_EQ_U(since(), 3);
    pfree(pt, c);
    CHECK_EQ_U(since(), 2); /* slack remains */
    CHECK(a != 0 && b != 0 && c != 0);
    pfree(pt, b);
    CHECK_EQ_U(since(), 1);
    palloc_close(pt);
    CHECK_EQ_U(since(), 2); /* nothing remains; and what follows from the chain */

    TEST("without-SYNC-palloc_sync-is-the-only-sync-point");
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    a = palloc(pt, 1000);
    b = palloc(pt, 1000);
    a = prealloc(pt, a, 100000);
    pfree(pt, b);
    CHECK_EQ_U(since(), 0);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(since(), 1);
    pfree(pt, a);
    palloc_close(pt);
    CHECK_EQ_U(since(), 0);
}

static void directories(void)
{
    struct palloc_t *pt;
    int fd;

    TEST("with-SYNC-a-new-files-directory-is-on-the-disk-when-palloc_init-returns");
    unlink(FILE_NAME);
    directory_syncs = 0;
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SYNC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(directory_syncs, 1);
    CHECK(palloc(pt, 10) != 0);
    CHECK_EQ_U(directory_syncs, 1);
    palloc_close(pt);

    TEST("without-SYNC-too");
    unlink(FILE_NAME);
    directory_syncs = 0;
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(directory_syncs, 1);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(directory_syncs, 1);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(directory_syncs, 1);
    palloc_close(pt);

    TEST("with-SYNC-palloc_open-of-the-second-generation-brings-it-there");
    unlink(FILE_NAME);
    directory_syncs = 0;
    fd = palloc_fd_open(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SYNC);
    CHECK(fd > 0);
    CHECK_EQ_U(directory_syncs, 1);
    CHECK_EQ_I(palloc_fd_init(fd, PALLOC_DYNAMIC | PALLOC_SYNC), 0);
    CHECK_EQ_I(palloc_fd_close(fd), 0);
}

/* SYNC given to palloc_open, to palloc_init, to both or to none of them; for a new file and for one that is a medium already. */
static void second_generation(void)
{
    unsigned open_sync, init_sync, is_new, wanted;

    TEST("palloc_init-with-SYNC-brings-to-the-disk-what-was-done-without");
    unlink(FILE_NAME);
    {
        int fd = palloc_fd_open(FILE_NAME, PALLOC_DYNAMIC);

        REQUIRE(fd > 0 && palloc_fd_init(fd, PALLOC_DYNAMIC) == 0);
        since();
        CHECK(palloc_fd_alloc(fd, 100) != 0);
        CHECK_EQ_U(since(), 0);
        CHECK_EQ_I(palloc_fd_init(fd, PALLOC_DYNAMIC | PALLOC_SYNC), 0);
        CHECK_EQ_U(since(), 1);
        CHECK_EQ_I(palloc_fd_close(fd), 0);
    }

    TEST("in-the-second-generation-SYNC-given-to-palloc_open-or-to-palloc_init-counts");
    for (open_sync = 0; open_sync < 2; open_sync++)
        for (init_sync = 0; init_sync < 2; init_sync++) {
            unlink(FILE_NAME);
            for (is_new = 2; is_new-- > 0;) {
                int fd = palloc_fd_open(FILE_NAME, PALLOC_DYNAMIC | (open_sync ? PALLOC_SYNC : 0));
                uint64_t ptr;

                REQUIRE(fd > 0 && palloc_fd_init(fd, PALLOC_DYNAMIC | (init_sync ? PALLOC_SYNC : 0)) == 0);
                wanted = open_sync || init_sync;
                since();
                ptr = palloc_fd_alloc(fd, 100);
                CHECK(ptr != 0);
                CHECK_EQ_U(since() > 0, wanted);
                CHECK_EQ_I(palloc_fd_free(fd, ptr), 0);
                CHECK_EQ_U(since() > 0, wanted);
                CHECK_EQ_I(palloc_fd_close(fd), 0);
                if (tap_.bad != 0)
                    DIAG("palloc_open %s SYNC, palloc_init %s, %s file", open_sync ? "with" : "without", init_sync ? "with" : "without",
                         is_new ? "new" : "old");
            }
        }
}

int main(void)
{
    sync_points();
    directories();
    a_directory_that_cannot_be_opened();
    second_generation();
    return tap_done();
}

#else

int main(void)
{
    TEST("what-is-brought-to-the-disk");
    SKIP("counted on Linux only");
    return tap_done();
}

#endif
