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

static unsigned since(void)
{
    unsigned n = syncs;

    syncs = 0;
    return n;
}

/* From finwo/palloc.h, which can't be included here. */
int palloc_fd_open(const char *filename, uint32_t flags);
int palloc_fd_init(int fd, uint32_t flags);
int palloc_fd_close(int fd);

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

    TEST("without-SYNC-the-first-palloc_sync-brings-it-there");
    unlink(FILE_NAME);
    directory_syncs = 0;
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(directory_syncs, 0);
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

int main(void)
{
    sync_points();
    directories();
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
