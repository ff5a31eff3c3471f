/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A thread with 16 KiB of stack, or 24 on s390x, can call every function of palloc.h and of finwo/palloc.h: each part runs in such a thread
 * of a process of its own, where one byte more is a SIGSEGV. SHOW_STACK in the environment prints what is left of it.
 *
 * POSIX only: a thread's stack has no fixed size on Windows
 */
#include "palloc_util.h"

/* On s390x each call of a function takes 160 bytes at least. */
#if defined(__s390x__)
enum { STACK = 24576 };
#else
enum { STACK = 16384 };
#endif

enum { GUARD = 65536, PAINT = 0xa5 };

#define CALL(cond) do { if (!(cond)) { fail_line = __LINE__; return; } } while (0)

static int fail_line; /* no printf in a thread with so little stack */
static const char *file;

static int visit(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    (void)ptr, (void)size, (void)is_free;
    return ++*(int *)user < 0;
}

static void see(void *user, uint64_t offset, const char *what)
{
    (void)offset, (void)what;
    ++*(int *)user;
}

static void transactions(struct palloc_t *pt)
{
    struct palloc_tx *tx[3];
    uint64_t old = palloc(pt, 300), blob[20];
    char bytes[300] = "new bytes";
    int k;

    CALL(old != 0);
    for (k = 0; k < 3; k++)
        CALL((tx[k] = palloc_begin(pt)) != NULL);
    for (k = 0; k < 20; k++)
        CALL((blob[k] = palloc_tx_alloc(tx[0], (size_t)k * 90)) != 0 && palloc_tx_data(tx[0], blob[k]) != NULL);
    CALL(palloc_tx_alloc(tx[0], 300000) != 0);
    CALL(palloc_tx_store(tx[0], old, bytes, sizeof bytes) == 0);
    CALL(palloc_commit(tx[0]) == 0);
    for (k = 0; k < 20; k += 2)
        CALL(palloc_tx_free(tx[1], blob[k]) == 0);
    CALL(palloc_tx_free(tx[1], old) == 0 && palloc_tx_store(tx[1], blob[1], bytes, 90) == 0 && palloc_tx_alloc(tx[1], 5) != 0);
    errno = 0;
    CALL(palloc_tx_free(tx[1], 3) == -1 && errno == EINVAL);
    CALL(palloc_commit(tx[1]) == 0);
    CALL(palloc_tx_alloc(tx[2], 4000) != 0 && palloc_tx_free(tx[2], blob[1]) == 0);
    palloc_cancel(tx[2]);
    CALL(palloc_begin(pt) != NULL); /* palloc_close cancels it */
}

static void live_readers(struct palloc_t *writer)
{
    struct palloc_t *reader = palloc_init(file, PALLOC_READONLY | PALLOC_SHARED);
    struct palloc_readers readers;
    int k;

    CALL(reader != NULL && palloc_read_begin(reader) == 0);
    CALL(palloc_first(reader) != 0 && palloc_data(reader, palloc_first(reader)) != NULL && palloc_size(reader, palloc_first(reader)) != 0);
    for (k = 0; k < 300; k++)
        pfree(writer, palloc(writer, (size_t)k * 10)); /* held, and looked at */
    CALL(palloc_get_readers(writer, &readers) == 0 && readers.reading == 1 && readers.held_bytes > 0);
    CALL(palloc_get_readers(reader, &readers) == 0 && readers.reading == 1);
    CALL(palloc(reader, 1) == 0 && errno == EROFS);
    palloc_read_end(reader);
    CALL(palloc_sync(writer) == 0);
    palloc_close(reader);
}

static int lead_nowhere(void *user, uint64_t ptr, const void *data, uint64_t size, palloc_visit_fn visit_fn, void *mark)
{
    (void)user, (void)ptr, (void)data, (void)size, (void)visit_fn, (void)mark;
    return 0;
}

/* Those that copy files, and those of the disk's space. */
static void copies(struct palloc_t *pt, uint64_t blob)
{
    struct palloc_salvage salvaged;
    int count = 0;

    CALL(palloc_aligned(pt, 4096, 100) % 4096 == 0 && palloc_trim(pt, 0) >= 0);
    CALL(palloc_unreachable(pt, &blob, 1, lead_nowhere, visit, see, &count) >= 0);
    unlink("copy.db");
    CALL(palloc_snapshot(pt, "copy.db", 0) == 0);
    unlink("salvaged.db");
    CALL(palloc_salvage("copy.db", "salvaged.db", 0, see, &count, &salvaged) >= 0);
    unlink("copy.db");
    unlink("salvaged.db");
}

static void every_function(uint32_t flags)
{
    struct palloc_t *pt = palloc_init(file, flags);
    struct palloc_stat stat;
    uint64_t ptr[40], other;
    int count = 0, k;
    char *at;

    CALL(pt != NULL);
    for (k = 0; k < 40; k++)
        CALL((ptr[k] = palloc(pt, (size_t)k * 50)) != 0);
    for (k = 0; k < 40; k += 2)
        pfree(pt, ptr[k]);
    for (k = 1; k < 40; k += 2) {
        CALL((ptr[k] = prealloc(pt, ptr[k], (size_t)k * 70)) != 0);
        CALL((at = palloc_data(pt, ptr[k])) != NULL && palloc_size(pt, ptr[k]) >= (size_t)k * 70);
        at[0] = 1;
    }
    CALL((other = palloc(pt, 150000)) != 0);
    CALL((other = prealloc(pt, other, 200000)) != 0);
    CALL((other = prealloc(pt, other, 5)) != 0);
    CALL(palloc_first(pt) != 0 && palloc_next(pt, palloc_first(pt)) != 0);
    CALL(palloc_stat(pt, &stat) == 0 && stat.live_blobs >= 21);
    CALL(palloc_walk(pt, visit, &count) == 0 && count >= 21);
    CALL((other = pcalloc(pt, 3, 100)) != 0 && palloc_root(pt, 1) == palloc_first(pt));
    CALL(palloc_offset(pt, palloc_data(pt, other)) == other && palloc_flush(pt, other, 300) == 0);
    transactions(pt);
    copies(pt, other);
    if (flags & PALLOC_SHARED)
        live_readers(pt);
    CALL(fail_line == 0 && palloc_sync(pt) == 0);
    pfree(pt, other);
    errno = 0;
    pfree(pt, other);
    CALL(errno == EINVAL && palloc_error()[0] != '\0');
    errno = 0;
    CALL(palloc(pt, SIZE_MAX) == 0 && errno == ENOMEM);
    palloc_close(pt);
    CALL(palloc_check(file, see, &count) == 0);
    pt = palloc_init(file, PALLOC_READONLY);
    CALL(pt != NULL && palloc_first(pt) != 0 && palloc_data(pt, palloc_first(pt)) != NULL);
    palloc_close(pt);
    errno = 0;
    CALL(palloc_init("no/such/directory/at/all", PALLOC_DYNAMIC) == NULL && errno == ENOENT);
}

static void second_generation(uint32_t flags, int by_open)
{
    int fd = by_open ? open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : palloc_fd_open(file, flags), k;
    uint64_t ptr[40];

    CALL(fd > 2 && palloc_fd_init(fd, flags) == 0);
    for (k = 0; k < 40; k++)
        CALL((ptr[k] = palloc_fd_alloc(fd, (uint64_t)k * 1000)) != 0);
    for (k = 0; k < 40; k += 2)
        CALL(palloc_fd_free(fd, ptr[k]) == 0);
    CALL(palloc_fd_next(fd, 0) != 0 && palloc_fd_size(fd, ptr[1]) >= 1000);
    errno = 0;
    CALL(palloc_fd_free(fd, 3) == -1 && errno == EINVAL);
    CALL(palloc_fd_close(fd) == 0);
    errno = 0;
    CALL(palloc_fd_open("no/such/directory/at/all", flags) == 0 && errno == ENOENT);
}

static void with_dynamic(void) { every_function(PALLOC_DYNAMIC); }
static void with_sync(void) { every_function(PALLOC_DYNAMIC | PALLOC_SYNC); }
#if defined(__linux__)
static void with_shared(void) { every_function(PALLOC_DYNAMIC | PALLOC_SHARED); }
static void with_shared_and_sync(void) { every_function(PALLOC_DYNAMIC | PALLOC_SHARED | PALLOC_SYNC); }
#endif
static void with_force(void) { every_function(PALLOC_DYNAMIC | PALLOC_FORCE); }
static void second(void) { second_generation(PALLOC_DYNAMIC, 0); }
static void second_with_sync(void) { second_generation(PALLOC_DYNAMIC | PALLOC_SYNC, 0); }
static void second_with_force(void) { second_generation(PALLOC_DYNAMIC | PALLOC_FORCE, 0); }
static void second_by_open(void) { second_generation(PALLOC_DYNAMIC, 1); }

static void is_refused(void)
{
    int k;

    for (k = 0; k < 2; k++) {
        errno = 0;
        CALL(palloc_init(file, k == 0 ? PALLOC_DYNAMIC : PALLOC_READONLY) == NULL && errno != 0 && palloc_error()[0] != '\0');
        errno = 0;
        CALL(palloc_fd_open(file, k == 0 ? PALLOC_DYNAMIC : PALLOC_READONLY) == 0 && errno != 0);
    }
    CALL(palloc_check(file, NULL, NULL) > 0);
}

static void *in_thread(void *part)
{
    void (*function)(void) = *(void (**)(void))part;

    function();
    return NULL;
}

/* In a child: whether the part succeeds in a thread with STACK bytes. */
static int run(void (*part)(void))
{
    uint8_t *memory = mmap(NULL, GUARD + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *stack;
    pthread_attr_t attr;
    pthread_t thread;
    size_t left = 0;

    if (memory == MAP_FAILED || mprotect(memory, GUARD, PROT_NONE) != 0)
        return 2;
    stack = memory + GUARD;
    memset(stack, PAINT, STACK);
    if (pthread_attr_init(&attr) != 0 || pthread_attr_setstack(&attr, stack, STACK) != 0
        || pthread_create(&thread, &attr, in_thread, &part) != 0 || pthread_join(thread, NULL) != 0)
        return 3;
    while (left < STACK && stack[left] == PAINT)
        left++;
    if (getenv("SHOW_STACK") != NULL)
        printf("# %u bytes of stack were left\n", (unsigned)left);
    if (fail_line != 0)
        printf("# line %d: errno %d, %s\n", fail_line, errno, palloc_error());
    return fail_line != 0;
}

static void check_part(void (*part)(void))
{
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int result = run(part);

        fflush(stdout);
        _exit(result);
    }
    CHECK_EQ_I(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        DIAG("killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    CHECK_EQ_I(status, 0);
}

/* ------------------------------------------------------------------------------------------------------------------------- media */

static void new_file(void)
{
    unlink(file);
}

static void filled(int is_killed)
{
    struct palloc_t *pt;
    uint64_t ptr[300];
    unsigned k;

    unlink(file);
    pt = palloc_init(file, PALLOC_DYNAMIC);
    REQUIRE(pt != NULL);
    for (k = 0; k < 300; k++)
        ptr[k] = palloc(pt, (k * 37) % 900);
    for (k = 0; k < 300; k += 3)
        pfree(pt, ptr[k]);
    if (is_killed)
        _exit(0);
    palloc_close(pt);
}

static void existing(void)
{
    filled(0);
}

static void killed(void)
{
    int status = 0;
    pid_t child = fork();

    REQUIRE(child >= 0);
    if (child == 0)
        filled(1);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

/* Start markers lead to all blocks; nothing else is right. */
static void untidy(void)
{
    struct bytes b;
    uint64_t at;

    existing();
    b = file_read(file);
    for (at = 8; at < b.size; at += 16 + (get64(b.at + at) & ~FREE_BIT))
        put64(b.at + at + 8 + (get64(b.at + at) & ~FREE_BIT), 12345);
    file_write(file, b.at, b.size);
    bytes_free(&b);
}

static void sparse_zeros(void)
{
    int fd;

    unlink(file);
    fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)MIB) == 0);
    close(fd);
}

static void written_zeros(void)
{
    uint8_t *zeros = calloc(1, MIB);

    REQUIRE(zeros != NULL);
    file_write(file, zeros, MIB);
    free(zeros);
}

static void damaged(void)
{
    struct bytes b;

    existing();
    b = file_read(file);
    put64(b.at + 8, 3);
    file_write(file, b.at, b.size);
    bytes_free(&b);
}

/* A marker that claims all that is behind it. */
static void hidden(void)
{
    struct bytes b;

    existing();
    b = file_read(file);
    put64(b.at + 8, b.size - 24);
    file_write(file, b.at, b.size);
    bytes_free(&b);
}

static void foreign(void)
{
    file_write(file, "a file that holds something else, which is no medium", 52);
}

/* Each of the two parts has a thread, and a medium, of its own. */
static void check(void (*make)(void), void (*part)(void), void (*part_2)(void))
{
    if (sysconf(_SC_THREAD_STACK_MIN) > STACK) {
        SKIP("this system needs more for the thread alone");
        return;
    }
    make();
    check_part(part);
    if (part_2 != NULL) {
        make();
        check_part(part_2);
    }
}

int main(void)
{
    static const struct {
        const char *name;
        void (*make)(void);
        void (*part)(void), (*part_2)(void);
    } points[] = {
        {"a-new-medium", new_file, with_dynamic, second},
        {"a-new-medium-with-SYNC", new_file, with_sync, second_with_sync},
        {"an-existing-medium", existing, with_dynamic, second},
        {"an-existing-medium-with-SYNC", existing, with_sync, second_with_sync},
        {"a-medium-whose-process-was-killed", killed, with_dynamic, second},
        {"a-medium-whose-process-was-killed-with-SYNC", killed, with_sync, second_with_sync},
        {"an-untidy-medium", untidy, with_dynamic, second},
        {"a-sparse-file-of-zeros", sparse_zeros, with_dynamic, second},
        {"a-file-of-zeros", written_zeros, with_dynamic, second},
        {"a-damaged-medium", damaged, is_refused, NULL},
        {"a-medium-with-hidden-blobs", hidden, is_refused, NULL},
        {"a-damaged-medium-with-FORCE", damaged, with_force, second_with_force},
        {"something-else", foreign, is_refused, NULL},
        {"something-else-with-FORCE", foreign, with_force, second_with_force},
#if defined(__linux__)
        {"a-new-medium-with-live-readers", new_file, with_shared, with_shared_and_sync},
        {"a-medium-whose-process-was-killed-with-live-readers", killed, with_shared, with_shared_and_sync},
#endif
        {"a-new-medium-by-open", new_file, second_by_open, NULL},
        {"an-existing-medium-by-open", existing, second_by_open, NULL},
    };
    char here[400], path[500], fact[200];
    size_t i;

    /* An absolute path, for realpath(3) most of all. */
    if (getcwd(here, sizeof here) == NULL)
        here[0] = '\0';
    snprintf(path, sizeof path, "%s/stack.db", here);
    file = path;
    for (i = 0; i < sizeof points / sizeof points[0]; i++) {
        snprintf(fact, sizeof fact, "%d-KiB-of-stack-is-enough-for-every-function-%s", STACK / 1024, points[i].name);
        POINT(fact, check(points[i].make, points[i].part, points[i].part_2));
    }
    unlink(file);
    return tap_done();
}
