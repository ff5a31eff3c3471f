/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * POSIX only: fork
 *
 * A shared medium where things go wrong around it: FILE.live holds anything, or is no file; readers stop, fork, exec and are too many;
 * writers die, come twice and come again; names of files change while they are in use. Each time it works, or fails with a clear error.
 */
#include "palloc_util.h"
#include "support/mounted.h"

#include <dirent.h>
#include <sys/wait.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#endif

#define DB "shared.db"
#define LIVE DB ".live"

enum { MOST_READERS = 254, NOBODY = 65534, LIVE_SIZE = 16512 };

/* A process that goes from step to step with this one. */
struct other {
    pid_t pid;
    int in, out;
};

static int steps_in = -1, steps_out = -1; /* in the child */

/* In the child: a step is done, and the parent allows the next one. */
static void step_done(void)
{
    char c = 0;

    if (write(steps_out, &c, 1) != 1 || read(steps_in, &c, 1) != 1)
        _exit(tap_done());
}

static void start(struct other *o, void (*work)(void *user), void *user)
{
    int in[2], out[2];

    fflush(stdout);
    REQUIRE(pipe(in) == 0 && pipe(out) == 0);
    o->pid = fork();
    REQUIRE(o->pid >= 0);
    if (o->pid == 0) {
        close(in[1]);
        close(out[0]);
        steps_in = in[0];
        steps_out = out[1];
        alarm(tap_seconds(60));
        work(user);
        _exit(tap_done());
    }
    close(in[0]);
    close(out[1]);
    o->in = in[1];
    o->out = out[0];
}

/* The child has done a step. */
static int has_done(struct other *o)
{
    char c;

    return read(o->out, &c, 1) == 1;
}

static void go_on(struct other *o)
{
    char c = 0;

    CHECK_EQ_I(write(o->in, &c, 1), 1);
}

static void end(struct other *o)
{
    int status = 0;

    close(o->in);
    close(o->out);
    waitpid(o->pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void kill_other(struct other *o)
{
    close(o->in);
    close(o->out);
    kill(o->pid, SIGKILL);
    waitpid(o->pid, NULL, 0);
}

/* Media and their bytes: a root with the offset of one blob, whose pattern has the id `version`. */

struct root {
    uint64_t blob, version;
};

enum { SIZE = 500 };

static struct root *root_of(struct palloc_t *pt)
{
    return palloc_data(pt, palloc_first(pt));
}

static void replace(struct palloc_t *pt)
{
    struct root *root = root_of(pt);
    uint64_t old = root->blob, version = root->version + 1, blob = palloc(pt, SIZE);

    REQUIRE(blob != 0);
    pattern_fill(palloc_data(pt, blob), 70000 + version, 0, SIZE);
    __atomic_store_n(&root->version, version, __ATOMIC_RELEASE);
    __atomic_store_n(&root->blob, blob, __ATOMIC_RELEASE);
    if (old != 0)
        pfree(pt, old);
}

static struct palloc_t *writer_open(void)
{
    struct palloc_t *pt = palloc_init(DB, PALLOC_DYNAMIC | PALLOC_SHARED);

    if (pt != NULL && palloc_root(pt, sizeof(struct root)) != 0 && root_of(pt)->blob == 0)
        replace(pt);
    return pt;
}

static struct palloc_t *reader_open_shared(void)
{
    return palloc_init(DB, PALLOC_READONLY | PALLOC_SHARED);
}

/* One section: the blob has its bytes. */
static int reads(struct palloc_t *pt)
{
    const struct root *root;
    int good;

    if (!CHECK_EQ_I(palloc_read_begin(pt), 0))
        return 0;
    root = root_of(pt);
    if (root == NULL)
        DIAG("%s", palloc_error());
    good = CHECK(root != NULL)
        && CHECK_EQ_U(pattern_match(palloc_data(pt, root->blob), 70000 + root->version, SIZE), SIZE);
    palloc_read_end(pt);
    return good;
}

static void remove_all(void)
{
    unlink(DB);
    if (unlink(LIVE) != 0)
        rmdir(LIVE);
}

/* The writer opens it, and readers read it, whatever FILE.live was. */
static void works(void)
{
    struct palloc_t *writer = writer_open(), *reader;
    int i;

    if (!CHECK(writer != NULL)) {
        DIAG("%s", palloc_error());
        return;
    }
    reader = reader_open_shared();
    if (CHECK(reader != NULL)) {
        for (i = 0; i < 300; i++) {
            replace(writer);
            if (!reads(reader))
                break;
        }
        palloc_close(reader);
    } else
        DIAG("%s", palloc_error());
    palloc_close(writer);
    CHECK_SOUND(DB);
    CHECK(access(LIVE, F_OK) != 0);
}

/* Begins a section and is killed in it, or ends it when it may. */
static void read_section(void *user)
{
    struct palloc_t *pt = reader_open_shared();
    const struct root *root;
    uint64_t version;
    const void *data;

    (void)user;
    REQUIRE(pt != NULL);
    REQUIRE(palloc_read_begin(pt) == 0);
    root = root_of(pt);
    REQUIRE(root != NULL);
    version = root->version;
    data = palloc_data(pt, root->blob);
    REQUIRE(data != NULL);
    step_done();
    CHECK_EQ_U(pattern_match(data, 70000 + version, SIZE), SIZE);
    palloc_read_end(pt);
    step_done();
    palloc_close(pt);
}

static void write_steps(void *user)
{
    struct palloc_t *pt = writer_open();

    (void)user;
    REQUIRE(pt != NULL);
    for (;;) {
        step_done();
        replace(pt);
    }
}

/* FILE.live */

/* The writer can't open it, says so, and harms nothing. Others are not concerned. */
static void refused(int error)
{
    struct palloc_t *pt = writer_open();

    if (CHECK(pt == NULL)) {
        CHECK_ERRNO(error);
        CHECK_STR_CONTAINS(palloc_error(), ".live");
    }
    palloc_close(pt);
    pt = palloc_init(DB, PALLOC_DYNAMIC);
    CHECK(pt != NULL);
    palloc_close(pt);
}

/* A file of this name that no writer can have left is the user's. */
static void foreign_file(const char *what, const void *data, size_t size)
{
    struct bytes before;

    TESTF("a-file-of-%s-with-the-name-of-FILE.live-is-kept", what);
    file_write(LIVE, data, size);
    before = file_read(LIVE);
    refused(EEXIST);
    CHECK(file_is(LIVE, &before));
    bytes_free(&before);
    CHECK(unlink(LIVE) == 0);
    works();
}

/* What a power cut can leave of FILE.live. */
static void cut_file(const char *what, const void *data, size_t size)
{
    TESTF("FILE.live-of-%s-after-a-power-cut-does-no-harm", what);
    file_write(LIVE, data, size);
    works();
}

static void foreign_live_files(void)
{
    static uint8_t bytes[1 << 20];
    struct rng rng = {5};
    struct bytes old;
    struct other writer, reader;
    struct palloc_t *pt;
    size_t i;

    for (i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)rng_next(&rng);
    remove_all();
    foreign_file("1-byte", "x", 1);
    foreign_file("random-bytes", bytes, 4096);
    foreign_file("random-bytes-a-little-shorter", bytes, LIVE_SIZE - 1);
    foreign_file("random-bytes-a-little-longer", bytes, LIVE_SIZE + 1);
    foreign_file("random-bytes-much-longer", bytes, sizeof bytes);
    cut_file("its-length-with-random-bytes", bytes, LIVE_SIZE);
    memset(bytes, 0, sizeof bytes);
    cut_file("no-bytes", bytes, 0);
    cut_file("few-zeros", bytes, 100);
    cut_file("zeros", bytes, LIVE_SIZE);

    TEST("FILE.live-of-a-writer-and-a-reader-that-died-does-no-harm");
    start(&writer, write_steps, NULL);
    REQUIRE(has_done(&writer));
    start(&reader, read_section, NULL);
    REQUIRE(has_done(&reader));
    kill_other(&writer);
    kill_other(&reader);
    old = file_read(LIVE);
    works();

    TEST("FILE.live-of-an-earlier-boot-does-no-harm");
    CHECK_EQ_U(old.size, LIVE_SIZE);
    file_write(LIVE, old.at, old.size);
    works();
    memcpy(bytes, old.at, old.size < sizeof bytes ? old.size : sizeof bytes);
    memcpy(bytes + 24, &(uint64_t){MOST_READERS}, 8); /* so many slots were used: they are behind its end */
    cut_file("its-first-half", bytes, old.size / 2);
    cut_file("its-first-bytes", bytes, 8);

    TEST("FILE.live-of-an-earlier-boot-with-any-byte-wrong-does-no-harm");
    for (i = 0; i < old.size; i += i < 512 ? 1 : 509) {
        old.at[i] ^= 0xff;
        file_write(LIVE, old.at, old.size);
        pt = writer_open();
        if (!CHECK(pt != NULL)) {
            DIAG("byte %u: %s", (unsigned)i, palloc_error());
            break;
        }
        palloc_close(pt);
        old.at[i] ^= 0xff;
    }
    bytes_free(&old);

    TEST("FILE.live-does-not-matter-to-those-who-do-not-share");
    memset(bytes, 0x55, sizeof bytes);
    file_write(LIVE, bytes, 32768);
    pt = palloc_init(DB, PALLOC_DYNAMIC);
    CHECK(pt != NULL);
    palloc_close(pt);
    pt = palloc_init(DB, PALLOC_READONLY);
    CHECK(pt != NULL);
    palloc_close(pt);
    CHECK_EQ_U(file_size(LIVE), 32768);
    unlink(LIVE);
}

static void live_files_that_are_none(void)
{
    struct stat st;
    struct bytes victim;
    struct palloc_t *pt;

    TEST("FILE.live-that-is-a-directory-is-an-error-that-names-it");
    remove_all();
    REQUIRE(mkdir(LIVE, 0777) == 0);
    refused(EISDIR);
    CHECK(rmdir(LIVE) == 0);

    TEST("FILE.live-that-is-a-symbolic-link-is-not-followed");
    file_write("victim", "do not touch", 12);
    victim = file_read("victim");
    REQUIRE(symlink("victim", LIVE) == 0);
    refused(ELOOP);
    CHECK(file_is("victim", &victim));
    CHECK(lstat(LIVE, &st) == 0 && S_ISLNK(st.st_mode));
    unlink(LIVE);
    REQUIRE(symlink("nowhere", LIVE) == 0);
    refused(ELOOP);
    CHECK(access("nowhere", F_OK) != 0);
    unlink(LIVE);

    TEST("FILE.live-that-is-a-link-to-another-file-does-not-harm-that");
    REQUIRE(link("victim", LIVE) == 0);
    pt = writer_open();
    palloc_close(pt);
    CHECK(file_is("victim", &victim));
    unlink(LIVE);
    unlink("victim");
    bytes_free(&victim);

    TEST("FILE.live-that-is-a-pipe-is-an-error-that-names-it");
    REQUIRE(mkfifo(LIVE, 0666) == 0);
    refused(EEXIST);
    CHECK(unlink(LIVE) == 0);
}

static void as_nobody(void (*work)(void *), void *user)
{
    struct other o;

    start(&o, work, user);
    end(&o);
}

static void writer_is_refused(void *user)
{
    struct palloc_t *pt;

    (void)user;
    REQUIRE(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    pt = writer_open();
    CHECK(pt == NULL);
    CHECK_ERRNO(EACCES);
    CHECK_STR_CONTAINS(palloc_error(), ".live");
}

static void reader_is_refused(void *user)
{
    struct palloc_t *pt;

    (void)user;
    REQUIRE(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    pt = reader_open_shared();
    CHECK(pt == NULL);
    CHECK_ERRNO(EACCES);
    CHECK_STR_CONTAINS(palloc_error(), ".live");
}

static void permissions(void)
{
    static const mode_t modes[4][2] = {{0600, 0600}, {0640, 0660}, {0644, 0666}, {0660, 0660}};
    struct palloc_t *pt;
    struct stat st, live;
    unsigned i;

    TEST("who-may-read-the-medium-may-write-FILE.live");
    remove_all();
    pt = writer_open();
    REQUIRE(pt != NULL);
    palloc_close(pt);
    for (i = 0; i < 4; i++) {
        CHECK(chmod(DB, modes[i][0]) == 0);
        pt = writer_open();
        REQUIRE(pt != NULL);
        CHECK(stat(DB, &st) == 0 && stat(LIVE, &live) == 0 && st.st_gid == live.st_gid);
        CHECK_EQ_U(live.st_mode & 0777, modes[i][1]);
        palloc_close(pt);
    }

    TEST("without-permission-for-FILE.live-opening-fails-and-names-it");
    if (geteuid() != 0) {
        SKIP("needs root to become somebody else");
        return;
    }
    CHECK(chmod(DB, 0666) == 0 && chmod(".", 0755) == 0);
    as_nobody(writer_is_refused, NULL); /* may not make it in this directory */
    CHECK(access(LIVE, F_OK) != 0);
    pt = writer_open();
    REQUIRE(pt != NULL);
    CHECK(chmod(DB, 0644) == 0 && chmod(LIVE, 0644) == 0);
    as_nobody(reader_is_refused, NULL); /* may read the medium, but have no slot */
    CHECK(chmod(LIVE, 0666) == 0);
    palloc_close(pt);
}

/* No reader is open any more: 1,000 blobs are replaced in the space that is there. Returns the counts then. */
static struct palloc_readers after_the_last_reader(struct palloc_t *pt)
{
    struct palloc_readers readers = {0};
    uint64_t size = pt->size;
    int i;

    for (i = 0; i < 1000; i++)
        replace(pt);
    CHECK(pt->size <= size);
    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    CHECK_EQ_U(readers.open, 0);
    return readers;
}

/* Processes */

static void stopped_readers(void)
{
    struct palloc_t *pt;
    struct palloc_readers readers;
    struct other o;
    uint64_t held, size;
    int i;

    TEST("a-reader-that-sleeps-in-a-section-holds-space-back-and-is-named");
    remove_all();
    pt = writer_open();
    REQUIRE(pt != NULL);
    start(&o, read_section, NULL);
    REQUIRE(has_done(&o));
    CHECK(kill(o.pid, SIGSTOP) == 0);
    for (i = 0; i < 1000; i++)
        replace(pt);
    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    CHECK_EQ_U(readers.open, 1);
    CHECK_EQ_U(readers.reading, 1);
    CHECK_EQ_I(readers.oldest_pid, o.pid);
    CHECK(readers.held_bytes >= 1000 * SIZE);
    held = readers.held_bytes;
    size = pt->size;
    CHECK(size > 1000 * SIZE);

    TEST("its-blobs-have-their-bytes-and-then-the-space-is-free");
    CHECK(kill(o.pid, SIGCONT) == 0);
    go_on(&o);
    CHECK(has_done(&o));
    for (i = 0; i < 1000; i++)
        replace(pt);
    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    CHECK_EQ_U(readers.reading, 0);
    CHECK(readers.held_bytes < held / 10);
    CHECK(pt->size <= size + 200 * SIZE);
    go_on(&o);
    end(&o);

    TEST("a-reader-that-is-killed-in-a-section-holds-nothing-back");
    start(&o, read_section, NULL);
    REQUIRE(has_done(&o));
    for (i = 0; i < 1000; i++)
        replace(pt);
    kill_other(&o);
    readers = after_the_last_reader(pt);
    CHECK_EQ_U(readers.reading, 0);
    palloc_close(pt);
    CHECK_SOUND(DB);
}

static void too_many_readers(void)
{
    static struct palloc_t *readers[MOST_READERS + 1];
    struct rlimit limit, high;
    struct palloc_readers counts;
    struct palloc_t *pt;
    int i;

    TEST("254-readers-can-have-it-open-and-the-next-one-is-EAGAIN");
    remove_all();
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    high = limit;
    high.rlim_cur = high.rlim_max;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &high) == 0);
    if (sizeof(void *) < 8) {
        SKIP("one process has no address space for 254 mappings of the medium");
        return;
    }
    if (high.rlim_max < 5 * MOST_READERS) {
        SKIP("needs more descriptors");
        return;
    }
    pt = writer_open();
    REQUIRE(pt != NULL);
    for (i = 0; i < MOST_READERS; i++)
        if (!CHECK((readers[i] = reader_open_shared()) != NULL)) {
            DIAG("reader %d: %s", i, palloc_error());
            break;
        }
    CHECK(reader_open_shared() == NULL);
    CHECK_ERRNO(EAGAIN);
    CHECK_STR_CONTAINS(palloc_error(), DB);
    CHECK_EQ_I(palloc_get_readers(pt, &counts), 0);
    CHECK_EQ_U(counts.open, MOST_READERS);
    for (i = 0; i < 300; i++) {
        replace(pt);
        reads(readers[i % MOST_READERS]);
    }

    TEST("a-reader-that-is-closed-makes-room-for-another");
    palloc_close(readers[100]);
    CHECK((readers[100] = reader_open_shared()) != NULL);
    reads(readers[100]);
    for (i = 0; i < MOST_READERS; i++)
        palloc_close(readers[i]);
    CHECK_EQ_I(palloc_get_readers(pt, &counts), 0);
    CHECK_EQ_U(counts.open, 0);
    palloc_close(pt);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void fork_in_section(void *user)
{
    struct palloc_t *pt = reader_open_shared();
    pid_t child;

    (void)user;
    REQUIRE(pt != NULL && palloc_read_begin(pt) == 0);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) { /* goes on without the medium */
        char c;
        _exit(read(steps_in, &c, 1) != 0);
    }
    palloc_read_end(pt);
    palloc_close(pt);
    step_done();
}

static void exec_in_section(void *user)
{
    struct palloc_t *pt = reader_open_shared();

    (void)user;
    REQUIRE(pt != NULL && palloc_read_begin(pt) == 0);
    REQUIRE(fcntl(steps_out, F_SETFD, 0) == 0 && dup2(steps_out, 1) == 1 && dup2(steps_in, 0) == 0);
    execlp("sh", "sh", "-c", "printf x; read line", (char *)NULL);
}

static void forks_and_execs(void)
{
    struct palloc_readers readers;
    struct palloc_t *pt;
    struct other o;
    int i;

    TEST("a-reader-that-forked-and-closed-leaves-no-slot-though-its-child-lives");
    remove_all();
    pt = writer_open();
    REQUIRE(pt != NULL);
    start(&o, fork_in_section, NULL);
    REQUIRE(has_done(&o));
    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    CHECK_EQ_U(readers.open, 0);
    CHECK_EQ_U(readers.reading, 0);
    pfree(pt, palloc(pt, 4 << 20));
    CHECK_EQ_I(palloc_sync(pt), 0);
    CHECK_EQ_U(file_size(DB), pt->size); /* so nobody has the lock of a slot */
    go_on(&o);
    end(&o);

    TEST("a-reader-that-execs-another-program-leaves-no-slot");
    start(&o, exec_in_section, NULL);
    REQUIRE(has_done(&o));
    for (i = 0; i < 1000; i++)
        replace(pt);
    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    CHECK_EQ_U(readers.open, 0);
    CHECK_EQ_U(readers.reading, 0);
    CHECK(readers.held_bytes < 200 * SIZE);
    kill_other(&o);
    palloc_close(pt);
}

#if defined(__linux__)
enum { NOT_PERMITTED = 77 };

/* In memory that the processes share: what the reader in the container is and sees. */
static struct inside {
    pid_t pid, own_pid; /* as others see it, and as it sees itself */
    struct palloc_readers readers;
} *inside;

/*
 * As a container would: the directory is mounted at another path, in a namespace of mounts that nobody else sees, and the process that
 * reads is number 1 of its own.
 */
static void read_in_container(void *user)
{
    struct palloc_t *pt;
    const void *data;
    uint64_t version;
    pid_t pid;

    (void)user;
    if (unshare((geteuid() == 0 ? 0 : CLONE_NEWUSER) | CLONE_NEWNS | CLONE_NEWPID) != 0
        || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 || mount(".", "elsewhere", "none", MS_BIND, NULL) != 0)
        _exit(NOT_PERMITTED);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid > 0) {
        __atomic_store_n(&inside->pid, pid, __ATOMIC_RELEASE);
        waitpid(pid, NULL, 0);
        _exit(tap_done());
    }
    alarm(tap_seconds(60));
    REQUIRE(chdir("elsewhere") == 0);
    inside->own_pid = getpid();
    pt = reader_open_shared();
    if (pt == NULL)
        DIAG("%s", palloc_error());
    REQUIRE(pt != NULL && palloc_read_begin(pt) == 0);
    version = root_of(pt)->version;
    data = palloc_data(pt, root_of(pt)->blob);
    CHECK_EQ_I(palloc_get_readers(pt, &inside->readers), 0);
    step_done();
    CHECK_EQ_U(pattern_match(data, 70000 + version, SIZE), SIZE);
    palloc_read_end(pt);
    REQUIRE(palloc_read_begin(pt) == 0);
    CHECK(root_of(pt)->version >= version + 1000);
    CHECK_EQ_U(pattern_match(palloc_data(pt, root_of(pt)->blob), 70000 + root_of(pt)->version, SIZE), SIZE);
    step_done();
    step_done(); /* is killed there */
}

static void containers(void)
{
    struct palloc_readers readers;
    struct palloc_t *pt;
    struct other o;
    pid_t pid;
    int i, status;

    TEST("a-reader-in-another-container-reads-and-has-the-pid-that-it-sees-itself");
    remove_all();
    inside = mmap(NULL, sizeof *inside, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(inside != MAP_FAILED && mkdir("elsewhere", 0777) == 0);
    pt = writer_open();
    REQUIRE(pt != NULL);
    start(&o, read_in_container, NULL);
    if (!has_done(&o)) {
        CHECK(waitpid(o.pid, &status, 0) == o.pid && WIFEXITED(status));
        if (WEXITSTATUS(status) == NOT_PERMITTED)
            SKIP("can't make namespaces of mounts and processes");
        else
            CHECK_EQ_I(status, 0);
        palloc_close(pt);
        return;
    }
    CHECK_EQ_I(inside->own_pid, 1);
    CHECK_EQ_U(inside->readers.open, 1);
    CHECK_EQ_U(inside->readers.reading, 1);
    CHECK_EQ_I(inside->readers.oldest_pid, 1);
    CHECK_EQ_I(inside->readers.writer_pid, getpid());
    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    CHECK_EQ_U(readers.open, 1);
    CHECK_EQ_U(readers.reading, 1);
    CHECK_EQ_I(readers.oldest_pid, 1);
    for (i = 0; i < 1000; i++)
        replace(pt);
    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    CHECK(readers.held_bytes >= 1000 * SIZE);
    go_on(&o);
    REQUIRE(has_done(&o)); /* it has read both */

    TEST("one-that-is-killed-there-holds-nothing-back");
    for (i = 0; i < 1000; i++)
        replace(pt);
    go_on(&o);
    REQUIRE(has_done(&o));
    CHECK_EQ_I(palloc_get_readers(pt, &readers), 0);
    CHECK_EQ_U(readers.reading, 1);
    CHECK(readers.held_bytes >= 900 * SIZE);
    for (i = 0; i < 10000 && (pid = __atomic_load_n(&inside->pid, __ATOMIC_ACQUIRE)) == 0; i++)
        usleep(1000);
    REQUIRE(pid > 0 && kill(pid, SIGKILL) == 0);
    end(&o);
    readers = after_the_last_reader(pt);
    CHECK(readers.held_bytes < 200 * SIZE);
    palloc_close(pt);
    CHECK_SOUND(DB);
    CHECK(rmdir("elsewhere") == 0);
    munmap(inside, sizeof *inside);
}
#endif

static void second_writers(void)
{
    struct palloc_t *pt, *reader, *other;
    const uint32_t flags[] = {PALLOC_DYNAMIC | PALLOC_SHARED, PALLOC_DYNAMIC, PALLOC_READONLY, PALLOC_DEFAULT};
    unsigned i;

    TEST("others-than-shared-readers-stay-out-while-a-writer-shares-it");
    remove_all();
    pt = writer_open();
    REQUIRE(pt != NULL);
    reader = reader_open_shared();
    REQUIRE(reader != NULL);
    for (i = 0; i < 4; i++) {
        other = palloc_init(DB, flags[i]);
        CHECK(other == NULL);
        CHECK_ERRNO(EWOULDBLOCK);
        palloc_close(other);
    }
    CHECK_EQ_I(palloc_check(DB, NULL, NULL), -1);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(reads(reader)); /* none of them has disturbed anything */
    replace(pt);
    CHECK(reads(reader));
    palloc_close(reader);
    palloc_close(pt);

    TEST("shared-readers-stay-out-while-a-writer-does-not-share-it");
    pt = palloc_init(DB, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK(reader_open_shared() == NULL);
    CHECK_ERRNO(ESTALE);
    palloc_close(pt);
}

static void writers_that_die(void)
{
    struct palloc_t *pt, *reader;
    struct other writer, section;
    pid_t child;
    int i;

    TEST("the-writer-dies-and-readers-get-ESTALE");
    remove_all();
    start(&writer, write_steps, NULL);
    REQUIRE(has_done(&writer));
    reader = reader_open_shared();
    REQUIRE(reader != NULL);
    CHECK(reads(reader));
    kill_other(&writer);
    for (i = 0; i < 100 && palloc_read_begin(reader) == 0; i++) { /* each 100 ms it looks at the lock */
        palloc_read_end(reader);
        usleep(20000);
    }
    CHECK(palloc_read_begin(reader) == -1);
    CHECK_ERRNO(ESTALE);
    palloc_close(reader);

    TEST("a-new-writer-waits-for-the-sections-of-the-last-ones-readers-and-no-longer");
    start(&writer, write_steps, NULL);
    REQUIRE(has_done(&writer));
    start(&section, read_section, NULL);
    REQUIRE(has_done(&section));
    kill_other(&writer);
    pt = writer_open();
    CHECK(pt == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    palloc_close(pt);
    go_on(&section); /* ends it, and stays open */
    REQUIRE(has_done(&section));
    pt = writer_open();
    CHECK(pt != NULL);
    for (i = 0; i < 200 && pt != NULL; i++)
        replace(pt);
    palloc_close(pt);
    go_on(&section);
    end(&section);
    CHECK_SOUND(DB);

    TEST("a-writer-closes-while-a-reader-is-in-a-section");
    remove_all(); /* what it frees is not joined with a free block before it: links would be in its bytes */
    pt = writer_open();
    REQUIRE(pt != NULL);
    start(&section, read_section, NULL);
    REQUIRE(has_done(&section));
    for (i = 0; i < 100; i++)
        replace(pt);
    palloc_close(pt);
    go_on(&section); /* it has its bytes still */
    CHECK(has_done(&section));
    go_on(&section);
    end(&section);
    pt = writer_open();
    CHECK(pt != NULL);
    palloc_close(pt);
    CHECK_SOUND(DB);

    TEST("and-has-a-child-that-was-forked-meanwhile-which-keeps-no-writer-out");
    pt = writer_open();
    REQUIRE(pt != NULL);
    start(&section, read_section, NULL);
    REQUIRE(has_done(&section));
    fflush(stdout);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        alarm(300);
        pause(); /* the parent kills it */
        _exit(1);
    }
    palloc_close(pt);
    CHECK(access(LIVE, F_OK) == 0);
    go_on(&section);
    CHECK(has_done(&section));
    pt = writer_open();
    CHECK(pt != NULL);
    palloc_close(pt);
    CHECK_EQ_I(kill(child, SIGKILL), 0);
    CHECK_EQ_I(waitpid(child, &i, 0), child);
    go_on(&section);
    end(&section);
    CHECK_SOUND(DB);

    TEST("a-reader-whose-writer-has-closed-keeps-no-writer-out");
    pt = writer_open();
    reader = reader_open_shared();
    CHECK(pt != NULL && reader != NULL && reads(reader));
    palloc_close(pt);
    CHECK(reader_open_shared() == NULL);
    CHECK_ERRNO(ESTALE);
    pt = writer_open();
    CHECK(pt != NULL);
    CHECK_EQ_I(palloc_read_begin(reader), -1);
    CHECK_ERRNO(ESTALE);
    palloc_close(pt);
    palloc_close(reader);
    CHECK_SOUND(DB);
}

/* Names */

/* Somebody did what the manual forbids. The section ends without a crash, and then all works. */
static void end_section(struct other *section)
{
    go_on(section);
    CHECK(has_done(section));
    go_on(section);
    end(section);
    remove_all();
    works();
}

/* Another file takes the name of FILE.live: a copy of it, one that is nobody's, or that of another medium in use. */
static void replaced_live_files(void)
{
    static const char *const kinds[] = {"its-copy", "a-user's-file", "that-of-another-medium-in-use"};
    struct other section;
    struct palloc_t *pt, *other = NULL;
    int kind, i;

    for (kind = 0; kind < 3; kind++) {
        TESTF("FILE.live-is-replaced-by-%s-while-in-use", kinds[kind]);
        remove_all();
        pt = writer_open();
        REQUIRE(pt != NULL);
        start(&section, read_section, NULL);
        REQUIRE(has_done(&section));
        if (kind == 2) {
            other = palloc_init("other.db", PALLOC_DYNAMIC | PALLOC_SHARED);
            REQUIRE(other != NULL);
            CHECK(rename("other.db.live", LIVE) == 0);
        } else {
            file_copy(kind == 0 ? LIVE : DB, "new");
            CHECK(rename("new", LIVE) == 0);
        }
        CHECK(reader_open_shared() == NULL); /* it is not the writer's */
        CHECK_ERRNO(ESTALE);
        for (i = 0; i < 1000; i++)
            replace(pt);
        go_on(&section);
        CHECK(has_done(&section)); /* it has its bytes still */
        palloc_close(pt);
        CHECK(access(LIVE, F_OK) == 0); /* it is not the writer's to remove */
        if (kind == 1)
            unlink(LIVE);
        go_on(&section);
        end(&section);
        palloc_close(other);
        works();
    }
    unlink("other.db");
}

static void names(void)
{
    struct palloc_t *again, *pt, *next;
    struct other section, writer;
    int i;

    TEST("FILE.live-is-removed-while-in-use");
    remove_all();
    start(&writer, write_steps, NULL);
    REQUIRE(has_done(&writer));
    start(&section, read_section, NULL);
    REQUIRE(has_done(&section));
    CHECK(unlink(LIVE) == 0);
    CHECK(reader_open_shared() == NULL); /* finds no slots */
    CHECK_ERRNO(ESTALE);
    go_on(&writer); /* those that are there go on */
    CHECK(has_done(&writer));
    kill_other(&writer);
    end_section(&section);

    replaced_live_files();

    TEST("who-cuts-FILE.live-ends-the-writer-and-the-medium-loses-nothing");
    start(&writer, write_steps, NULL);
    REQUIRE(has_done(&writer));
    CHECK(truncate(LIVE, 0) == 0);
    for (i = 0; i < 1000; i++) {
        go_on(&writer);
        if (!has_done(&writer)) /* a SIGBUS, when it begins an epoch */
            break;
    }
    CHECK(i < 1000);
    kill_other(&writer);
    works();

    TEST("the-medium-is-renamed-while-in-use");
    start(&writer, write_steps, NULL);
    REQUIRE(has_done(&writer));
    start(&section, read_section, NULL);
    REQUIRE(has_done(&section));
    CHECK(rename(DB, "renamed.db") == 0);
    CHECK(palloc_init("renamed.db", PALLOC_DYNAMIC | PALLOC_SHARED) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(palloc_init("renamed.db", PALLOC_READONLY | PALLOC_SHARED) == NULL);
    CHECK_ERRNO(ESTALE);
    CHECK(access("renamed.db.live", F_OK) != 0);
    kill_other(&writer);
    end_section(&section);
    CHECK_SOUND("renamed.db");
    unlink("renamed.db");

    TEST("another-medium-with-the-name-of-one-in-use-is-not-taken-for-it");
    start(&writer, write_steps, NULL);
    REQUIRE(has_done(&writer));
    CHECK(rename(DB, "renamed.db") == 0);
    file_copy("renamed.db", DB);
    CHECK(reader_open_shared() == NULL);
    CHECK_ERRNO(ESTALE);
    kill_other(&writer);
    unlink("renamed.db");
    remove_all();
    works();

    TEST("a-writer-whose-medium-was-renamed-with-FILE.live-does-not-remove-that-of-the-next-with-the-name");
    pt = writer_open();
    REQUIRE(pt != NULL);
    CHECK(rename(DB, "renamed.db") == 0 && rename(LIVE, "renamed.db.live") == 0);
    next = writer_open();
    REQUIRE(next != NULL);
    palloc_close(pt);
    again = reader_open_shared();
    CHECK(again != NULL);
    palloc_close(again);
    palloc_close(next);
    CHECK(access(LIVE, F_OK) != 0);
    CHECK_SOUND("renamed.db");
    unlink("renamed.db");
    unlink("renamed.db.live");
    remove_all();

    TEST("a-new-medium-with-the-name-of-one-in-use-is-refused-with-the-reason");
    pt = writer_open();
    REQUIRE(pt != NULL);
    CHECK(rename(DB, "renamed.db") == 0);
    errno = 0;
    CHECK(palloc_init(DB, PALLOC_DYNAMIC | PALLOC_SHARED) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(strstr(palloc_error(), ".live at its end is in use") != NULL);
    palloc_close(pt);
    unlink("renamed.db");
    remove_all();
    works();

    TEST("a-symbolic-link-leads-to-the-same-FILE.live-and-a-second-name-does-not");
    start(&writer, write_steps, NULL);
    REQUIRE(has_done(&writer));
    CHECK(link(DB, "second.db") == 0 && symlink(DB, "third.db") == 0);
    CHECK(palloc_init("second.db", PALLOC_DYNAMIC | PALLOC_SHARED) == NULL);
    CHECK_ERRNO(EWOULDBLOCK);
    CHECK(palloc_init("second.db", PALLOC_READONLY | PALLOC_SHARED) == NULL);
    CHECK_ERRNO(ESTALE);
    again = palloc_init("third.db", PALLOC_READONLY | PALLOC_SHARED);
    CHECK(again != NULL);
    if (again != NULL)
        reads(again);
    palloc_close(again);
    kill_other(&writer);
    unlink("second.db");
    unlink("third.db");
    works();
}

/* Limits */

static unsigned open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void few_descriptors(void)
{
    struct rlimit limit, small;
    struct palloc_t *pt, *reader;
    unsigned before = open_descriptors(), extra;

    TEST("EMFILE-at-any-descriptor-leaves-nothing-open");
    remove_all();
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    pt = writer_open();
    palloc_close(pt);
    for (extra = 0; extra < 12; extra++) {
        small = limit;
        small.rlim_cur = (rlim_t)(before - 3 + extra);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &small) == 0);
        pt = writer_open();
        if (pt == NULL)
            CHECK_ERRNO(EMFILE);
        reader = pt != NULL ? reader_open_shared() : NULL;
        if (pt != NULL && reader == NULL)
            CHECK_ERRNO(EMFILE);
        if (reader != NULL)
            reads(reader);
        palloc_close(reader);
        palloc_close(pt);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK_EQ_U(open_descriptors(), before);
    }
    works();
}

static void on_full_disk(void *user)
{
    struct palloc_t *pt;
    int file;
    static char zeros[4096];

    (void)user;
    if (!CHECK(chdir("disk") == 0))
        return;
    pt = palloc_init(DB, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL && palloc_root(pt, sizeof(struct root)) != 0);
    palloc_close(pt);
    file = open("full", O_CREAT | O_WRONLY, 0666);
    while (write(file, zeros, sizeof zeros) > 0)
        ;
    pt = palloc_init(DB, PALLOC_DYNAMIC | PALLOC_SHARED);
    CHECK(pt == NULL);
    CHECK_ERRNO(ENOSPC);
    CHECK_STR_CONTAINS(palloc_error(), ".live");
    palloc_close(pt);
    pt = palloc_init(DB, PALLOC_DYNAMIC); /* works on without it */
    CHECK(pt != NULL);
    palloc_close(pt);
    CHECK(ftruncate(file, 0) == 0);
    close(file);
    works();
}

static void full_disks(void)
{
    TEST("a-full-disk-is-ENOSPC-when-FILE.live-is-made");
    on_file_system(NULL, "256K", 30, on_full_disk, NULL);
}

/* Calls */

static void wrong_calls(void)
{
    struct palloc_t *pt, *reader;
    struct palloc_readers readers;
    uint64_t blob;

    TEST("what-a-reader-may-not-do-fails-and-changes-nothing");
    remove_all();
    pt = writer_open();
    REQUIRE(pt != NULL);
    reader = reader_open_shared();
    REQUIRE(reader != NULL && palloc_read_begin(reader) == 0);
    blob = root_of(pt)->blob;
    CHECK_EQ_U(palloc(reader, 10), 0);
    CHECK_ERRNO(EROFS);
    errno = 0;
    pfree(reader, blob);
    CHECK_ERRNO(EROFS);
    CHECK_EQ_U(prealloc(reader, blob, 4000), 0);
    CHECK_ERRNO(EROFS);
    CHECK(palloc_begin(reader) == NULL);
    CHECK_ERRNO(EROFS);
    errno = 0;
    CHECK_EQ_U(palloc_next(reader, blob), 0);
    CHECK_ERRNO(ENOTSUP);
    CHECK_EQ_I(palloc_walk(reader, walk_collect, NULL), -1);
    CHECK_ERRNO(ENOTSUP);
    CHECK_EQ_I(palloc_stat(reader, &(struct palloc_stat){0}), -1);
    CHECK_ERRNO(ENOTSUP);
    CHECK_EQ_I(palloc_trim(reader, 0), -1);
    CHECK(palloc_data(reader, blob + 8) == NULL);
    CHECK_ERRNO(EINVAL);
    CHECK(palloc_data(reader, 0) == NULL);
    CHECK(palloc_data(reader, 7) == NULL);
    CHECK(palloc_data(reader, UINT64_MAX) == NULL);
    CHECK(palloc_data(reader, UINT64_MAX - 7) == NULL);
    CHECK(palloc_size(reader, pt->size + (UINT64_C(1) << 40)) == 0);
    CHECK_ERRNO(EINVAL);
    palloc_read_end(reader);
    CHECK(reads(reader));

    TEST("sections-are-for-readers");
    CHECK_EQ_I(palloc_read_begin(pt), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_read_begin(NULL), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_get_readers(NULL, &readers), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_get_readers(pt, NULL), -1);
    CHECK_ERRNO(EINVAL);
    palloc_read_end(NULL);
    palloc_close(reader);
    palloc_close(pt);
    pt = palloc_init(DB, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    CHECK_EQ_I(palloc_read_begin(pt), -1);
    CHECK_ERRNO(EINVAL);
    CHECK_EQ_I(palloc_get_readers(pt, &readers), -1);
    CHECK_ERRNO(EINVAL);
    palloc_close(pt);
}

int main(void)
{
    alarm(tap_seconds(250));
    signal(SIGPIPE, SIG_IGN);
    PART(foreign_live_files());
    PART(live_files_that_are_none());
    PART(permissions());
    PART(stopped_readers());
    PART(too_many_readers());
    PART(forks_and_execs());
#if defined(__linux__)
    PART(containers());
#endif
    PART(second_writers());
    PART(writers_that_die());
    PART(names());
    PART(few_descriptors());
    PART(full_disks());
    PART(wrong_calls());
    return tap_done();
}
