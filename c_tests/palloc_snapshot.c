/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc_snapshot: each copy is sound, and is the state between two calls of every thread.
 *
 * POSIX only: it mounts file systems, and counts on threads and files together
 */
#include "failing_writes.h"
#include "palloc_util.h"
#include "support/mounted.h"

#include <dirent.h>

#define FILE_NAME "medium.db"
#define COPY "copy.db"

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

static void during_churn(const char *directory, uint32_t flags, unsigned count)
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
    pt = palloc_init(file, PALLOC_DYNAMIC);
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
    during_churn("disk", PALLOC_SNAPSHOT_CLONE, 40 / tap_every(4));
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

int main(void)
{
    PART(one());
    POINT("copies-during-churn-of-two-threads-are-states-between-two-calls", during_churn(".", 0, 100 / tap_every(4)));
    PART(clones("xfs", "mkfs.xfs -q -f", "320M"));
    PART(clones("btrfs", "mkfs.btrfs -q -f", "200M"));
    return tap_done();
}
