/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A medium and what else a process does: fork, descriptors, memory; and media that are block devices. */
#include "palloc_util.h"
#ifndef _WIN32
#include <dirent.h>
#endif

static int open_descriptors(void)
{
#ifdef _WIN32
    DWORD n = 0;

    return GetProcessHandleCount(GetCurrentProcess(), &n) && n > 0 ? (int)n : -1; /* Wine counts none */
#else
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    if (dir == NULL)
        return -1;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
#endif
}

#ifndef _WIN32

static void fork_and_close(void)
{
    struct palloc_t *pt = palloc_init("fork.pba", PALLOC_DYNAMIC);
    int hold[2];
    pid_t child;
    char c;

    TEST("palloc_close-unlocks-the-medium-though-a-forked-child-lives");
    REQUIRE(pt != NULL && pipe(hold) == 0);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        close(hold[1]);
        _exit(read(hold[0], &c, 1) != 0);
    }
    close(hold[0]);
    palloc_close(pt);
    pt = palloc_init("fork.pba", PALLOC_DEFAULT);
    CHECK(pt != NULL);

    TEST("a-child-that-exits-leaves-the-parents-lock");
    close(hold[1]);
    waitpid(child, NULL, 0);
    CHECK(palloc_init("fork.pba", PALLOC_DEFAULT) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(palloc(pt, 100) == 16);
    palloc_close(pt);
}

/* The parent leaves the medium to its child, and later opens it anew. */
static void fork_and_go_on(void)
{
    struct palloc_t *pt = palloc_init("fork2.pba", PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 100);
    char *parents = palloc_data(pt, ptr);
    int status;
    pid_t child;

    TEST("a-forked-child-may-go-on-with-the-medium");
    REQUIRE(parents != NULL);
    strcpy(parents, "from the parent");
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int good = strcmp(palloc_data(pt, ptr), "from the parent") == 0 && palloc(pt, 200000) != 0 && palloc_sync(pt) == 0;
        strcpy(palloc_data(pt, ptr), "from the child");
        palloc_close(pt);
        _exit(!good);
    }
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    CHECK_EQ_I(status, 0);

    TEST("what-the-child-did-is-there-for-the-parent-that-opens-the-medium-anew");
    CHECK_STR(parents, "from the child"); /* a blob's bytes are shared all the time */
    pt = palloc_init("fork2.pba", PALLOC_DEFAULT);
    CHECK(pt != NULL);
    CHECK(palloc_next(pt, ptr) != 0);
    palloc_close(pt);
    CHECK_SOUND("fork2.pba");
}

/* A process that is killed, while a child that it forked with the medium open sleeps. */
static void killed_with_a_child(void)
{
    struct palloc_t *pt;
    int ready[2], over[2], status, i;
    pid_t writer;
    char c;

    TEST("a-medium-of-a-killed-process-is-locked-until-its-child-ends-too");
    REQUIRE(pipe(ready) == 0 && pipe(over) == 0);
    writer = fork();
    REQUIRE(writer >= 0);
    if (writer == 0) {
        close(over[1]);
        if (palloc(palloc_init("fork3.pba", PALLOC_DYNAMIC), 100) == 0)
            _exit(1);
        if (fork() == 0) {
            close(ready[0]);
            if (write(ready[1], "r", 1) != 1 || read(over[0], &c, 1) < 0)
                _exit(1);
            _exit(0);
        }
        pause();
    }
    close(over[0]);
    REQUIRE(read(ready[0], &c, 1) == 1);
    CHECK_EQ_I(kill(writer, SIGKILL), 0);
    CHECK_EQ_I(waitpid(writer, &status, 0), writer);
    errno = 0;
    CHECK(palloc_init("fork3.pba", PALLOC_DYNAMIC) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    close(over[1]);
    close(ready[1]);
    CHECK_EQ_I(read(ready[0], &c, 1), 0); /* the child ends */
    for (i = 0, pt = NULL; pt == NULL && i < 5000; i++) {
        usleep(1000);
        pt = palloc_init("fork3.pba", PALLOC_DYNAMIC);
    }
    REQUIRE(pt != NULL);
    CHECK(palloc_first(pt) != 0);
    palloc_close(pt);
    close(ready[0]);
    CHECK_SOUND("fork3.pba");
}

#endif

static void descriptors(void)
{
    int before, i;
    FILE *junk = fopen("junk", "w");

    REQUIRE(junk != NULL);
    fputs("this is no medium, and long enough not to be the beginning of one", junk);
    fclose(junk);
    TEST("no-descriptor-is-left-by-success-or-failure");
    before = open_descriptors();
    if (before < 0)
        SKIP("the system does not report it");
    for (i = 0; i < 50; i++) {
        palloc_close(palloc_init("descriptors.pba", PALLOC_DYNAMIC | (i % 2 ? PALLOC_SYNC : 0)));
        CHECK(palloc_init("junk", PALLOC_DYNAMIC) == NULL);
        CHECK(palloc_init("missing", PALLOC_DEFAULT) == NULL);
        CHECK(palloc_check("junk", NULL, NULL) == 1);
        CHECK(palloc_check("descriptors.pba", NULL, NULL) == 0);
    }
    CHECK_EQ_I(open_descriptors(), before);

    TEST("the-position-of-the-descriptor-is-the-programs");
    {
        struct palloc_t *pt = palloc_init("descriptors.pba", PALLOC_DYNAMIC);
        uint64_t ptr;

        REQUIRE(pt != NULL);
        CHECK_EQ_I(lseek(pt->descriptor, 0, SEEK_CUR), 0);
        CHECK_EQ_I(lseek(pt->descriptor, 12345, SEEK_SET), 12345);
        ptr = palloc(pt, 1000000);
        ptr = prealloc(pt, ptr, 5000000);
        palloc_data(pt, ptr);
        palloc_sync(pt);
        pfree(pt, ptr);
        CHECK_EQ_I(lseek(pt->descriptor, 0, SEEK_CUR), 12345);
        palloc_close(pt);
    }
}

/* A log that got the number of the descriptor: what it has is what was written to it, and it is still open. */
static void log_is_intact(int log)
{
    char text[64] = "";

    CHECK_EQ_I(pread(log, text, sizeof text - 1, 0), 10);
    CHECK_STR(text, "first line");
    CHECK_EQ_I(lseek(log, 0, SEEK_END), 10);
    CHECK_EQ_I(close(log), 0);
}

static int open_log(void)
{
    int log = open("log.txt", O_RDWR | O_CREAT | O_TRUNC, 0666);

    CHECK_EQ_I(pwrite(log, "first line", 10, 0), 10);
    return log;
}

static void closed_descriptors(void)
{
    struct palloc_t *pt;
    uint64_t kept, grown;
    int fd, log, reopened;

    TEST("a-program-that-closes-the-descriptor-harms-neither-the-medium-nor-the-file-that-gets-its-number");
    for (reopened = 0; reopened < 2; reopened++) {
#ifdef _WIN32
        if (!reopened)
            continue; /* a number that is no descriptor may end the program */
#endif
        unlink("closed.pba");
        pt = palloc_init("closed.pba", PALLOC_DYNAMIC);
        REQUIRE(pt != NULL);
        fd = pt->descriptor;
        kept = palloc(pt, 1000);
        memset(palloc_data(pt, kept), 7, 1000);
        CHECK_EQ_I(close(fd), 0);
        log = reopened ? open_log() : fd;
        CHECK_EQ_I(log, fd);
        grown = palloc(pt, 20000000);
        CHECK(grown != 0);
        memset(palloc_data(pt, grown), 8, 20000000);
        grown = prealloc(pt, grown, 30000000);
        CHECK(grown != 0);
        CHECK_EQ_I(palloc_sync(pt), 0);
        pfree(pt, grown);
        errno = 0;
        palloc_close(pt);
        CHECK_EQ_I(errno, 0);
        if (reopened)
            log_is_intact(log);
        CHECK_SOUND("closed.pba");
        pt = palloc_init("closed.pba", PALLOC_DYNAMIC);
        REQUIRE(pt != NULL);
        CHECK_EQ_U(palloc_first(pt), kept);
        CHECK_EQ_I(((unsigned char *)palloc_data(pt, kept))[999], 7);
        palloc_close(pt);
    }

    TEST("in-the-second-generation-too");
    unlink("closed.pba");
    fd = palloc_fd_open("closed.pba", PALLOC_DYNAMIC);
    REQUIRE(fd > 2 && palloc_fd_init(fd, PALLOC_DYNAMIC) == 0);
    CHECK_EQ_I(close(fd), 0);
    log = open_log();
    CHECK_EQ_I(log, fd);
    grown = palloc_fd_alloc(fd, 20000000);
    CHECK(grown != 0);
    CHECK_EQ_I(palloc_fd_free(fd, grown), 0);
    CHECK_EQ_I(palloc_fd_close(fd), -1);
    log_is_intact(log);
    CHECK_SOUND("closed.pba");

    TEST("a-new-medium-holds-two-descriptors");
    if (open_descriptors() < 0) {
        SKIP("the system does not report it");
        return;
    }
    {
        int before = open_descriptors();
        uint32_t flags;

        for (flags = PALLOC_DYNAMIC; flags <= (PALLOC_DYNAMIC | PALLOC_SYNC); flags += PALLOC_SYNC) {
            unlink("closed.pba");
            pt = palloc_init("closed.pba", flags);
            CHECK_EQ_I(open_descriptors(), before + 2);
            palloc_close(pt);
            unlink("closed.pba");
            fd = palloc_fd_open("closed.pba", flags);
            CHECK_EQ_I(palloc_fd_init(fd, flags), 0);
            CHECK_EQ_I(open_descriptors(), before + 2);
            CHECK_EQ_I(palloc_fd_close(fd), 0);
        }
    }
}

#ifndef _WIN32

enum { HIGHEST = 64 }; /* no test has more descriptors */

/* Closes all descriptors above stderr but these two; then another file has all their numbers. Returns one of them. */
static int others_replaced(int kept, int kept_too)
{
    int fd, log;

    for (fd = 3; fd < HIGHEST; fd++)
        if (fd != kept && fd != kept_too)
            close(fd);
    log = open_log();
    for (fd = 3; fd < HIGHEST; fd++)
        if (fd != kept && fd != kept_too)
            CHECK_EQ_I(dup2(log, fd), fd);
    return log;
}

/* closefrom(3), with the library's descriptor among those that are closed; then another file has all their numbers. */
static void library_descriptor_closed(uint32_t flags)
{
    struct palloc_t *pt;
    uint64_t kept;
    int fd, log;

    unlink("closed.pba");
    pt = palloc_init("closed.pba", PALLOC_DYNAMIC | flags);
    REQUIRE(pt != NULL);
    kept = palloc(pt, 1000);
    memset(palloc_data(pt, kept), 7, 1000);
    log = others_replaced(-1, -1);
    errno = 0;
    CHECK_EQ_U(palloc(pt, 20000000), 0);
    CHECK_EQ_I(errno, EBADF);
    CHECK_EQ_I(palloc_sync(pt), -1);
    CHECK_EQ_I(((unsigned char *)palloc_data(pt, kept))[999], 7);
    palloc_close(pt);
    for (fd = 3; fd < HIGHEST; fd++)
        if (fd != log)
            CHECK_EQ_I(close(fd), 0);
    log_is_intact(log);
    pt = palloc_init("closed.pba", PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_U(palloc_first(pt), kept);
    CHECK_EQ_I(((unsigned char *)palloc_data(pt, kept))[999], 7);
    palloc_close(pt);
    CHECK_SOUND("closed.pba");
}

static void library_descriptors_closed(void)
{
    TEST("a-program-that-closes-the-library-s-descriptor-harms-neither-the-medium-nor-the-file-that-gets-its-number");
    library_descriptor_closed(0);
    library_descriptor_closed(PALLOC_SYNC);
#ifdef __linux__
    library_descriptor_closed(PALLOC_SHARED);
    library_descriptor_closed(PALLOC_SHARED | PALLOC_SYNC);
#endif
}

#ifdef __linux__

/* The writer can't ask any more whether the reader lives. */
static void held_blobs_of_a_writer_without_descriptors(void)
{
    enum { SIZE = 256, ROUNDS = 5000 };
    struct palloc_t *writer;
    unsigned char bytes[SIZE];
    uint64_t ptr, other;
    int to_child[2], to_parent[2], status = -1, log, i;
    char c = 0;
    pid_t child;

    TEST("a-live-reader-s-blobs-stay-when-the-writer-s-program-closes-the-library-s-descriptors");
    unlink("without.pba");
    REQUIRE(pipe(to_child) == 0 && pipe(to_parent) == 0);
    writer = palloc_init("without.pba", PALLOC_DYNAMIC | PALLOC_SHARED);
    REQUIRE(writer != NULL && palloc_root(writer, 8) != 0 && (ptr = palloc(writer, SIZE)) != 0);
    memset(palloc_data(writer, ptr), 'x', SIZE);
    memset(bytes, 'x', SIZE);
    REQUIRE(palloc(writer, 16) != 0);
    fflush(stdout);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        struct palloc_t *reader = palloc_init("without.pba", PALLOC_READONLY | PALLOC_SHARED);
        const void *data = reader != NULL && palloc_read_begin(reader) == 0 ? palloc_data(reader, ptr) : NULL;

        if (data == NULL || write(to_parent[1], &c, 1) != 1 || read(to_child[0], &c, 1) != 1)
            _exit(2);
        _exit(memcmp(data, bytes, SIZE) != 0);
    }
    CHECK_EQ_I(read(to_parent[0], &c, 1), 1);
    log = others_replaced(to_child[1], to_parent[0]);
    pfree(writer, ptr);
    for (i = 0; i < ROUNDS; i++) {
        other = palloc(writer, SIZE);
        if (other == 0)
            break; /* the file can't grow */
        CHECK(other != ptr);
        memset(palloc_data(writer, other), 'y', SIZE);
        pfree(writer, other);
    }
    CHECK(i > 50); /* the reader is so many epochs behind that the writer asks */
    CHECK_EQ_I(write(to_child[1], &c, 1), 1);
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    CHECK_EQ_I(status, 0);
    palloc_close(writer);
    log_is_intact(log);
}

/* The mapping keeps the locks of FILE.live: nobody else gets the slot before palloc_close. */
static void reader_without_descriptors(void)
{
    struct palloc_t *writer, *reader, *next;
    struct palloc_readers readers;
    uint64_t ptr;
    int status = -1;
    pid_t child;

    TEST("a-reader-whose-program-closed-the-library-s-descriptors-closes-nothing-else-and-ends-no-other-section");
    unlink("slot.pba");
    writer = palloc_init("slot.pba", PALLOC_DYNAMIC | PALLOC_SHARED);
    REQUIRE(writer != NULL && palloc_root(writer, 8) != 0 && (ptr = palloc(writer, 100)) != 0);
    fflush(stdout);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        enum { ROOM = 40 };
        int i;

        reader = palloc_init("slot.pba", PALLOC_READONLY | PALLOC_SHARED);
        others_replaced(-1, -1);
        for (i = ROOM; i < 64; i++)
            close(i);
        next = palloc_init("slot.pba", PALLOC_READONLY | PALLOC_SHARED);
        if (reader == NULL || next == NULL || palloc_read_begin(next) != 0)
            _exit(2);
        palloc_close(reader);
        if (palloc_get_readers(next, &readers) != 0 || readers.open != 1 || readers.reading != 1)
            _exit(3);
        if (palloc_data(next, ptr) == NULL)
            _exit(4);
        palloc_read_end(next);
        palloc_close(next);
        for (i = 3; i < ROOM; i++)
            if (fcntl(i, F_GETFD) == -1)
                _exit(5);
        _exit(0);
    }
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    CHECK_EQ_I(status, 0);
    palloc_close(writer);
    CHECK_SOUND("slot.pba");
}

#endif

/* The exit status: which of the facts does not hold. */
static int without_standard_streams(void)
{
    struct palloc_t *pt;
    int fd;

    close(0);
    close(1);
    close(2);
    unlink("streams.pba");
    pt = palloc_init("streams.pba", PALLOC_DYNAMIC);
    if (pt == NULL || pt->descriptor <= 2)
        return 1;
    for (fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            return 2;
    perror("this text"); /* would be the header */
    if (palloc(pt, 100) == 0 || palloc_sync(pt) != 0)
        return 3;
    palloc_close(pt);
    fd = palloc_fd_open("streams.pba", PALLOC_DYNAMIC);
    if (fd <= 2 || fcntl(0, F_GETFD) != -1 || fcntl(1, F_GETFD) != -1 || fcntl(2, F_GETFD) != -1)
        return 4;
    perror("this text");
    return palloc_fd_next(fd, 0) == 16 && palloc_fd_close(fd) == 0 ? 0 : 5;
}

static void standard_streams(void)
{
    int status = -1;
    pid_t child;

    TEST("no-medium-gets-the-number-of-stdin-stdout-or-stderr");
    fflush(stdout);
    child = fork();
    if (child == 0)
        _exit(without_standard_streams());
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ_I(status, 0);
    CHECK_SOUND("streams.pba");
}

/* No file is created where the second descriptor can't be had. */
static void want_of_descriptors(uint32_t flags, unsigned needed)
{
    enum { LIMIT = 100 };
    struct rlimit limit, small;
    struct palloc_t *pt;
    unsigned left, failures = 0, filled, i;
    int fill[LIMIT], before, fd;

    TESTF("palloc_init%s-that-finds-too-few-descriptors-leaves-neither-file-nor-descriptor", flags & PALLOC_SHARED ? "-with-SHARED" : "");
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    small = limit;
    small.rlim_cur = LIMIT;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &small) == 0);
    for (left = 0, pt = NULL; pt == NULL && left < 10; left++) {
        unlink("few.pba");
        before = open_descriptors();
        for (filled = 0; (fd = dup(0)) != -1; filled++)
            fill[filled] = fd;
        for (i = 0; i < left; i++)
            close(fill[--filled]);
        errno = 0;
        pt = palloc_init("few.pba", flags);
        if (pt == NULL) {
            CHECK_ERRNO(EMFILE);
            CHECK_EQ_I(access("few.pba", F_OK), -1);
            failures++;
        }
        palloc_close(pt);
        while (filled > 0)
            close(fill[--filled]);
        CHECK_EQ_I(open_descriptors(), before);
    }
    CHECK(pt != NULL);
    CHECK_EQ_U(failures, needed); /* there was each smaller number */
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* A loop device over a file of zeros; returns 0 where the system has none for us. */
static int make_device(char *name, size_t size, const char *options)
{
    char command[200];
    FILE *losetup;
    int found;

    if (geteuid() != 0 || system("truncate -s 8M device.img && command -v losetup >/dev/null 2>&1") != 0)
        return 0;
    snprintf(command, sizeof(command), "losetup %s --find --show device.img 2>/dev/null", options);
    losetup = popen(command, "r");
    if (losetup == NULL)
        return 0;
    found = fgets(name, (int)size, losetup) != NULL;
    pclose(losetup);
    name[strcspn(name, "\n")] = '\0';
    return found && name[0] == '/';
}

/* Whether the command, with the name in place of each %s, of which there are at most two, succeeds. */
static int run_on(const char *command, const char *name)
{
    char text[300];

    snprintf(text, sizeof(text), command, name, name);
    return system(text) == 0;
}

static void block_device(void)
{
    char device[100] = "";
    struct palloc_t *pt;
    uint64_t a, b;
    uint32_t flags;

    TEST("a-medium-on-a-block-device-works-and-stays-sound-static-or-dynamic");
    if (!make_device(device, sizeof(device), "")) {
        SKIP("there is no free loop device");
        return;
    }
    for (flags = PALLOC_DEFAULT; flags <= PALLOC_DYNAMIC; flags++) {
        pt = palloc_init(device, flags | PALLOC_FORCE);
        if (!CHECK(pt != NULL))
            break;
        CHECK_EQ_U(pt->size, 8 << 20);
        a = palloc(pt, 1000);
        b = palloc(pt, 6000000);
        CHECK(a != 0 && b != 0);
        CHECK(palloc(pt, 6000000) == 0);
        CHECK_ERRNO(ENOSPC);
        memset(palloc_data(pt, b), 1, 6000000);
        pfree(pt, a);
        CHECK_EQ_I(palloc_sync(pt), 0);
        pfree(pt, b);
        CHECK_EQ_I(palloc_trim(pt, 0), -1);
        CHECK_ERRNO(EOPNOTSUPP);
        CHECK_EQ_I(palloc_snapshot(pt, "copy.db", PALLOC_SNAPSHOT_CLONE), -1);
        CHECK_ERRNO(EOPNOTSUPP);
        CHECK_EQ_I(palloc_snapshot(pt, "copy.db", 0), 0);
        CHECK_SOUND("copy.db");
        unlink("copy.db");
        CHECK(prealloc(pt, palloc(pt, 100), 7000000) != 0);
        palloc_close(pt);
        CHECK_EQ_I(palloc_check(device, NULL, NULL), 0);
        CHECK_EQ_I(palloc_salvage(device, "copy.db", 0, NULL, NULL, NULL), 0);
        CHECK_SOUND("copy.db");
        unlink("copy.db");
        CHECK(run_on("head -c 8388608 /dev/urandom >%s", device));
    }
    CHECK(run_on("losetup -d %s", device));
}

static void read_only_device(void)
{
    char device[100] = "";

    TEST("a-read-only-block-device-is-EROFS-for-writing-and-a-medium-on-it-can-be-read");
    if (!make_device(device, sizeof(device), "--read-only")) {
        SKIP("there is no free loop device");
        return;
    }
    CHECK(palloc_init(device, PALLOC_DEFAULT) == NULL);
    CHECK_ERRNO(EROFS);
    CHECK_STR_CONTAINS(palloc_error(), strerror(EROFS));
    CHECK(palloc_init(device, PALLOC_FORCE) == NULL);
    CHECK_ERRNO(EROFS);
    CHECK(run_on("losetup -d %s", device));
    CHECK_EQ_I(truncate("device.img", 0), 0);
    CHECK_EQ_I(truncate("device.img", 8 << 20), 0);
    palloc_close(palloc_init("device.img", PALLOC_DEFAULT));
    if (CHECK(make_device(device, sizeof(device), "--read-only"))) {
        struct palloc_t *pt = palloc_init(device, PALLOC_READONLY);

        CHECK(pt != NULL);
        palloc_close(pt);
        CHECK(run_on("losetup -d %s", device));
    }
}

static void mounted_device(void)
{
    struct palloc_t *pt;
    char device[100] = "", path[4096];

    TEST("PALLOC_FORCE-does-not-write-over-a-mounted-file-system");
    snprintf(path, sizeof(path), "%s:/sbin:/usr/sbin", getenv("PATH") != NULL ? getenv("PATH") : "/bin:/usr/bin");
    setenv("PATH", path, 1); /* losetup and mkfs are there, which is not in every user's PATH */
    unlink("device.img");
    if (!make_device(device, sizeof(device), "")) {
        SKIP("there is no free loop device");
        return;
    }
    if (run_on("mkfs.ext4 -q %s && mkdir -p mounted && mount %s mounted && echo text >mounted/file", device)) {
        CHECK(palloc_init(device, PALLOC_FORCE) == NULL);
        CHECK_ERRNO(EBUSY);
        CHECK(palloc_init(device, PALLOC_FORCE | PALLOC_DYNAMIC) == NULL);
        CHECK_ERRNO(EBUSY);
        CHECK(run_on("umount %s && mount %s mounted && grep -q text mounted/file && umount mounted", device));
        pt = palloc_init(device, PALLOC_FORCE);
        CHECK(pt != NULL);
        CHECK(palloc_init(device, PALLOC_DEFAULT) == NULL);
        CHECK_ERRNO(EWOULDBLOCK);
        palloc_close(pt);
    } else
        SKIP("no file system can be mounted here");
    CHECK(run_on("losetup -d %s", device));
    pt = palloc_init("forced.db", PALLOC_DYNAMIC | PALLOC_FORCE);
    CHECK(pt != NULL);
    CHECK(palloc_init("forced.db", PALLOC_FORCE) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    palloc_close(pt);
}

#endif

int main(void)
{
#ifndef _WIN32
    PART(fork_and_close());
    PART(fork_and_go_on());
    PART(killed_with_a_child());
#endif
    PART(descriptors());
    PART(closed_descriptors());
#ifndef _WIN32
    PART(library_descriptors_closed());
#ifdef __linux__
    PART(held_blobs_of_a_writer_without_descriptors());
    PART(reader_without_descriptors());
#endif
    PART(standard_streams());
    PART(want_of_descriptors(PALLOC_DYNAMIC, 3));
#ifdef __linux__
    PART(want_of_descriptors(PALLOC_DYNAMIC | PALLOC_SHARED, 4));
#endif
    PART(block_device());
#ifdef __linux__
    PART(read_only_device());
    PART(mounted_device());
#endif
#endif
    return tap_done();
}
