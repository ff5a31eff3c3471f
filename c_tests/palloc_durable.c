/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which stores are brought to the disk, and when: calls of fdatasync and fsync are counted, and fail, by functions in front of the C library's.
 *
 * POSIX only: the system calls of a Windows library are not found by name in the program
 */
#include "palloc_util.h"

#if defined(__linux__)
#include <sys/syscall.h>

#define FILE_NAME "durable.db"

static unsigned syncs, directory_syncs;
static ino_t synced_directory;
static unsigned until_failure; /* that many syncs from now on, one fails with EIO; 0: none does */

static int count(int fd, long call)
{
    struct stat st;

    if (until_failure > 0 && --until_failure == 0) {
        errno = EIO;
        return -1;
    }
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        directory_syncs++;
        synced_directory = st.st_ino;
    } else
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
static unsigned growths, too_short; /* calls of fallocate, and those beyond the end of the file */

int fallocate64(int fd, int how, off64_t at, off64_t len)
{
    struct stat st;

    if (how == 0 && fstat(fd, &st) == 0) {
        growths++;
        too_short += st.st_size < at + len;
    }
    return (int)syscall(SYS_fallocate, fd, how, at, len);
}

static void growth(void)
{
    static const char *const generations[] = {"first", "second"};
    unsigned second, i;

    for (second = 0; second < 2; second++) {
        TESTF("the-files-length-is-set-before-space-is-allocated-behind-it-in-the-%s-generation", generations[second]);
        unlink(FILE_NAME);
        growths = too_short = 0;
        if (second) {
            int fd = palloc_fd_open(FILE_NAME, PALLOC_DYNAMIC);

            REQUIRE(fd > 0 && palloc_fd_init(fd, PALLOC_DYNAMIC) == 0);
            for (i = 0; i < 10; i++)
                CHECK(palloc_fd_alloc(fd, 3000 << i) != 0);
            CHECK_EQ_I(palloc_fd_close(fd), 0);
        } else {
            struct palloc_t *pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
            uint64_t ptr = 0;

            REQUIRE(pt != NULL);
            for (i = 0; i < 10; i++)
                CHECK((ptr = prealloc(pt, i % 2 ? ptr : 0, 3000 << i)) != 0);
            palloc_close(pt);
        }
        CHECK(growths >= 5);
        CHECK_EQ_U(too_short, 0);
    }
}

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
static void growth(void)
{
}

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

/* A file that is no medium. */
static void make_foreign(size_t size)
{
    FILE *f = fopen(FILE_NAME, "w");

    REQUIRE(f != NULL);
    while (size-- > 0)
        fputc('x', f);
    REQUIRE(fclose(f) == 0);
}

static void sync_points(void)
{
    struct palloc_t *pt;
    uint64_t a, b, c, moved;
    uint32_t flags;

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
    CHECK_EQ_U(since(), 3);
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
    CHECK_EQ_U(since(), 2); /* the file grows; the slack is zeros */
    b = palloc(pt, 1000);
    CHECK_EQ_U(since(), 1); /* a part of the slack */
    c = palloc(pt, 5000000);
    CHECK_EQ_U(since(), 2);
    pfree(pt, c);
    CHECK_EQ_U(since(), 2); /* slack remains */
    CHECK_EQ_U(palloc(pt, 1000), c);
    CHECK_EQ_U(since(), 2); /* a part of the slack, where a blob was */
    CHECK(a != 0 && b != 0 && c != 0);
    pfree(pt, c);
    since();
    pfree(pt, b);
    CHECK_EQ_U(since(), 1);
    palloc_close(pt);
    CHECK_EQ_U(since(), 2); /* nothing remains; and what follows from the chain */

    TEST("without-SYNC-creation-growth-and-palloc_sync-are-the-sync-points");
    unlink(FILE_NAME);
    since();
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(since(), 1); /* the header */
    a = palloc(pt, 1000);
    CHECK_EQ_U(since(), 1); /* the file grows */
    b = palloc(pt, 1000);
    c = palloc(pt, 1000);
    a = prealloc(pt, a, 50000);
    pfree(pt, b);
    CHECK_EQ_U(since(), 0);
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(since(), 1); /* no blob was where the file is cut */
    pfree(pt, c);
    CHECK(palloc(pt, 1000) != 0);
    palloc_close(pt);
    CHECK_EQ_U(since(), 0);

    TEST("without-SYNC-a-medium-that-FORCE-makes-of-another-file-has-one-sync-point-as-a-new-one");
    for (flags = 0; flags <= PALLOC_DYNAMIC; flags += PALLOC_DYNAMIC) {
        make_foreign(100008);
        since();
        pt = palloc_init(FILE_NAME, PALLOC_FORCE | flags);
        REQUIRE(pt != NULL);
        CHECK_EQ_U(since(), 1); /* the header */
        CHECK_EQ_U(pt->flags, flags);
        CHECK_EQ_U(pt->size, flags ? 8 : 100008);
        palloc_close(pt);
        CHECK_EQ_U(since(), 0);
        CHECK_SOUND(FILE_NAME);
    }

    TEST("without-SYNC-the-end-of-a-file-is-cut-in-three-steps-where-blobs-were");
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    a = palloc(pt, 1000);
    b = palloc(pt, 80000);
    CHECK_EQ_I(palloc_sync(pt), 0);
    since();
    pfree(pt, b);
    CHECK_EQ_U(since(), 0); /* not that much is given back at once */
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(since(), 3); /* the chain; the page at the new end; length and links */
    b = palloc(pt, 80000);
    CHECK_EQ_I(palloc_sync(pt), 0);
    since();
    pfree(pt, b);
    palloc_close(pt);
    CHECK_EQ_U(since(), 2); /* the last is left to the system */
    CHECK(a != 0);
    CHECK_SOUND(FILE_NAME);

    TEST("without-SYNC-a-large-blob-at-the-end-is-given-back-in-order");
    unlink(FILE_NAME);
    pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    b = palloc(pt, 5000000);
    since();
    pfree(pt, b);
    CHECK_EQ_U(since(), 1); /* the length, before the chain ends there */
    palloc_close(pt);
}

/* Whatever changes the medium or promises durability fails; reading goes on. */
static void all_fail(struct palloc_t *pt, uint64_t ptr)
{
    struct palloc_stat stat;
    uint64_t size = pt->size;
    char text[100];
    unsigned i;

    for (i = 0; i < 5; i++) {
        errno = 0;
        switch (i) {
        case 0: CHECK_EQ_U(palloc(pt, 100), 0); break;
        case 1: pfree(pt, ptr); break;
        case 2: CHECK_EQ_U(prealloc(pt, ptr, 10), 0); break;
        case 3: CHECK_EQ_U(prealloc(pt, ptr, 100000), 0); break;
        default: CHECK_EQ_I(palloc_sync(pt), -1); break;
        }
        snprintf(text, sizeof text, "a sync failed before: %s", strerror(EIO));
        if (!CHECK_ERRNO(EIO) || !CHECK_STR_CONTAINS(palloc_error(), text))
            DIAG("function %u", i);
    }
    CHECK_EQ_U(pt->size, size);
    errno = UNTOUCHED;
    CHECK_EQ_U(palloc_first(pt), ptr);
    CHECK_EQ_U(palloc_next(pt, ptr), 0);
    CHECK_EQ_U(palloc_size(pt, ptr), 1008);
    CHECK(palloc_data(pt, ptr) != NULL && *(char *)palloc_data(pt, ptr) == 'x');
    CHECK_EQ_I(palloc_stat(pt, &stat), 0);
    CHECK_EQ_U(stat.live_blobs, 1);
    CHECK_EQ_I(errno, UNTOUCHED);
    errno = 0;
    palloc_close(pt);
    CHECK_ERRNO(EIO);
    pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc_first(pt), ptr);
    CHECK(palloc(pt, 100) != 0);
    CHECK_EQ_I(palloc_sync(pt), 0);
    palloc_close(pt);
    CHECK_SOUND(FILE_NAME);
}

static void failed_syncs(void)
{
    struct palloc_t *pt;
    uint64_t ptr;
    unsigned n, k;

    for (n = 1; n <= 3; n++)
        for (k = 0; k < 2; k++) {
            TESTF("after-a-failed-palloc_sync-nothing-is-promised-%s-%u", k ? "with-SYNC" : "without-SYNC", n);
            unlink(FILE_NAME);
            pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | (k ? PALLOC_SYNC : 0));
            REQUIRE(pt != NULL);
            ptr = palloc(pt, 1000);
            *(char *)palloc_data(pt, ptr) = 'x';
            {
                uint64_t more = palloc(pt, 150000);
                CHECK_EQ_I(palloc_sync(pt), 0);
                pfree(pt, more);
            }
            until_failure = k && n == 3 ? 2 : n; /* with SYNC there are two of them */
            errno = 0;
            CHECK_EQ_I(palloc_sync(pt), -1);
            CHECK_ERRNO(EIO);
            until_failure = 0;
            all_fail(pt, ptr);
        }

    for (n = 1; n <= 6; n++) {
        TESTF("after-a-failed-barrier-nothing-is-changed-or-promised-%u", n);
        unlink(FILE_NAME);
        pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SYNC);
        REQUIRE(pt != NULL);
        ptr = palloc(pt, 1000);
        *(char *)palloc_data(pt, ptr) = 'x';
        errno = 0;
        until_failure = n < 3 ? n : n < 6 ? n - 2 : 1;
        if (n < 3)
            CHECK_EQ_U(palloc(pt, 1000000), 0);
        else if (n < 6)
            CHECK_EQ_U(prealloc(pt, ptr, 100), 0);
        else
            CHECK_EQ_U(prealloc(pt, ptr, 2000), 0);
        CHECK_ERRNO(EIO);
        until_failure = 0;
        all_fail(pt, ptr);
    }

    for (k = 0; k < 2; k++) {
        struct palloc_tx *tx;

        TESTF("after-a-failed-sync-an-open-transaction-may-get-blobs-and-is-not-committed-%s", k ? "with-SYNC" : "without-SYNC");
        unlink(FILE_NAME);
        pt = palloc_init(FILE_NAME, PALLOC_DYNAMIC | (k ? PALLOC_SYNC : 0));
        REQUIRE(pt != NULL);
        ptr = palloc(pt, 1000);
        *(char *)palloc_data(pt, ptr) = 'x';
        tx = palloc_begin(pt);
        CHECK(palloc_tx_alloc(tx, 100) != 0);
        until_failure = 1;
        CHECK_EQ_I(palloc_sync(pt), -1);
        until_failure = 0;
        CHECK(palloc_tx_alloc(tx, 100) != 0);
        CHECK_EQ_I(palloc_tx_store(tx, ptr, "y", 1), 0);
        errno = 0;
        CHECK_EQ_U(palloc_tx_alloc(tx, 1000000), 0);
        CHECK_ERRNO(EIO);
        errno = 0;
        CHECK_EQ_I(palloc_commit(tx), -1);
        CHECK_ERRNO(EIO);
        CHECK_STR_CONTAINS(palloc_error(), "a sync failed before: ");
        palloc_cancel(tx);
        errno = 0;
        CHECK(palloc_begin(pt) == NULL);
        CHECK_ERRNO(EIO);
        all_fail(pt, ptr);
    }

    TEST("after-a-failed-barrier-nothing-is-changed-in-the-second-generation");
    unlink(FILE_NAME);
    {
        int fd = palloc_fd_open(FILE_NAME, PALLOC_DYNAMIC | PALLOC_SYNC);

        REQUIRE(fd > 0 && palloc_fd_init(fd, PALLOC_DYNAMIC | PALLOC_SYNC) == 0);
        ptr = palloc_fd_alloc(fd, 1000);
        until_failure = 1;
        errno = 0;
        CHECK_EQ_I(palloc_fd_free(fd, ptr), -1);
        CHECK_ERRNO(EIO);
        until_failure = 0;
        errno = 0;
        CHECK_EQ_U(palloc_fd_alloc(fd, 100), 0);
        CHECK_ERRNO(EIO);
        CHECK_STR_CONTAINS(palloc_error(), "a sync failed before: ");
        errno = 0;
        CHECK_EQ_I(palloc_fd_free(fd, ptr), -1);
        CHECK_ERRNO(EIO);
        errno = 0;
        CHECK_EQ_I(palloc_fd_init(fd, PALLOC_DYNAMIC | PALLOC_SYNC), -1);
        CHECK_ERRNO(EIO);
        CHECK_EQ_U(palloc_fd_next(fd, 0), ptr);
        CHECK_EQ_U(palloc_fd_size(fd, ptr), 1008);
        errno = 0;
        CHECK_EQ_I(palloc_fd_close(fd), -1);
        CHECK_ERRNO(EIO);
        fd = palloc_fd_open(FILE_NAME, PALLOC_SYNC);
        REQUIRE(fd > 0);
        CHECK_EQ_U(palloc_fd_next(fd, 0), ptr);
        CHECK_EQ_I(palloc_fd_free(fd, ptr), 0);
        CHECK_EQ_I(palloc_fd_close(fd), 0);
    }
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
    palloc_close(pt);

    TEST("of-a-file-that-a-symbolic-link-leads-to-its-own-directory");
    {
        static const struct {
            const char *target, *link;
        } links[] = {{"inner/one.db", "one"}, {"../inner/two.db", "other/two"}, {"other/two", "three"}, {"absolute", "four"}};
        char here[4000], path[4100];
        struct stat st;
        size_t i;

        mkdir("inner", 0777);
        mkdir("other", 0777);
        REQUIRE(stat("inner", &st) == 0 && getcwd(here, sizeof here) != NULL);
        for (i = 0; i < sizeof links / sizeof links[0]; i++) {
            snprintf(path, sizeof path, "%s/inner/four.db", here);
            unlink(links[i].link);
            REQUIRE(symlink(strcmp(links[i].target, "absolute") == 0 ? path : links[i].target, links[i].link) == 0);
            unlink("inner/two.db");
            synced_directory = 0;
            pt = palloc_init(links[i].link, PALLOC_DYNAMIC);
            if (!CHECK(pt != NULL) || !CHECK_EQ_U(synced_directory, st.st_ino))
                DIAG("%s -> %s", links[i].link, links[i].target);
            palloc_close(pt);
        }
        unlink("loop");
        REQUIRE(symlink("loop", "loop") == 0);
        errno = 0;
        CHECK(palloc_init("loop", PALLOC_DYNAMIC) == NULL);
        CHECK_ERRNO(ELOOP);
    }

    TEST("palloc_open-of-the-second-generation-brings-it-there-in-any-mode");
    {
        unsigned k;

        for (k = 0; k < 2; k++) {
            uint32_t flags = PALLOC_DYNAMIC | (k ? PALLOC_SYNC : 0);

            unlink(FILE_NAME);
            directory_syncs = 0;
            fd = palloc_fd_open(FILE_NAME, flags);
            CHECK(fd > 0);
            CHECK_EQ_U(directory_syncs, 1);
            since();
            CHECK_EQ_I(palloc_fd_init(fd, flags), 0);
            CHECK(since() >= 1); /* the header */
            CHECK_EQ_I(palloc_fd_close(fd), 0);
        }
    }
}

/* SYNC given to palloc_open, to palloc_init, to both or to none of them; for a new file and for one that is a medium already. */
static void second_generation(void)
{
    unsigned open_sync, init_sync, is_new, wanted;

    TEST("palloc_init-with-SYNC-brings-to-the-disk-what-was-done-without");
    unlink(FILE_NAME);
    {
        int fd = palloc_fd_open(FILE_NAME, PALLOC_DYNAMIC);
        uint64_t ptr;

        REQUIRE(fd > 0 && palloc_fd_init(fd, PALLOC_DYNAMIC) == 0);
        since();
        CHECK(palloc_fd_alloc(fd, 100) != 0);
        ptr = palloc_fd_alloc(fd, 100);
        CHECK(palloc_fd_alloc(fd, 100) != 0);
        CHECK_EQ_U(since(), 0);
        CHECK_EQ_I(palloc_fd_init(fd, PALLOC_DYNAMIC | PALLOC_SYNC), 0);
        CHECK_EQ_U(since(), 1);
        CHECK_EQ_I(palloc_fd_free(fd, ptr), 0);
        CHECK_EQ_U(since(), 1);
        CHECK_EQ_U(palloc_fd_alloc(fd, 100), ptr);
        CHECK_EQ_U(since(), 1);
        CHECK_EQ_I(palloc_fd_close(fd), 0);
    }

    TEST("palloc_init-of-a-medium-with-a-stored-SYNC-is-durable-whatever-the-descriptor-is");
    {
        int fd;

        file_poke64(FILE_NAME, 0, UINT64_C(0x50424100) << 32 | PALLOC_DYNAMIC | PALLOC_SYNC);
        fd = open(FILE_NAME, O_RDWR);
        REQUIRE(fd > 0 && palloc_fd_init(fd, PALLOC_DEFAULT) == 0);
        since();
        CHECK(palloc_fd_alloc(fd, 100) != 0);
        CHECK(since() > 0);
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
    PART(sync_points());
    PART(failed_syncs());
    PART(growth());
    PART(directories());
    PART(a_directory_that_cannot_be_opened());
    PART(second_generation());
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
