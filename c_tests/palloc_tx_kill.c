/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * POSIX only: fork
 *
 * A process that is killed in its transactions leaves each of them done or undone, and nothing of it.
 *
 * A child keeps two doubly linked lists in a medium, each thread one. Each transaction allocates a node, fills it and links it in, or
 * frees one, or does both, and counts itself in the root. Once the child is dead, check_lists() opens the medium: the lists are whole in
 * both directions, each node has its bytes, the sums are right, the root has counted all that had returned and at most one more of each
 * thread, and each blob is in a list. Two ways of killing: SIGKILL at random moments, over the same medium; and each state
 * that the file goes through between two stores of the library.
 */
#include "store_trap.h"

#include <sched.h>
#include <stddef.h>
#include <time.h>

#include "palloc_util.h"

#define FILE_NAME "tx_kill.db"

enum { THREADS = 2, MOST = 40 };

struct list {
    uint64_t first, last, count, sum, done;
};

struct root {
    struct list lists[THREADS];
};

struct node {
    uint64_t prev, next, number, size, check;
};

/* In memory shared with the parent: how many commits have returned. */
static volatile uint64_t *returned;

static uint64_t check_of(const struct node *node)
{
    return mix64(node->number * 31 + node->size);
}

static void must(int good)
{
    if (!good) {
        fprintf(stderr, "%s\n", palloc_error());
        _exit(11);
    }
}

/* The list after a transaction. */
struct work {
    struct palloc_t *pt;
    struct palloc_tx *tx; /* NULL: plain calls and stores do the same work */
    uint64_t root;
    size_t field; /* of the root: the list */
    struct list list;
    struct rng rng;
    unsigned number;
};

static struct node *node_at(struct palloc_t *pt, uint64_t offset)
{
    struct node *node = palloc_data(pt, offset);

    must(node != NULL);
    return node;
}

static void store(struct work *w, uint64_t blob, size_t field, const void *bytes, size_t len)
{
    if (w->tx != NULL)
        must(palloc_tx_store(w->tx, blob + field, bytes, len) == 0);
    else
        memcpy((char *)palloc_data(w->pt, blob) + field, bytes, len);
}

static void set(struct work *w, uint64_t blob, size_t field, uint64_t value)
{
    store(w, blob, field, &value, sizeof value);
}

/* A new last node. */
static uint64_t append(struct work *w)
{
    uint64_t size = sizeof(struct node) + rng_below(&w->rng, 300);
    uint64_t offset = w->tx != NULL ? palloc_tx_alloc(w->tx, (size_t)size) : palloc(w->pt, (size_t)size);
    struct node *node = w->tx != NULL ? palloc_tx_data(w->tx, offset) : palloc_data(w->pt, offset);

    must(node != NULL);
    node->prev = w->list.last;
    node->next = 0;
    node->number = rng_next(&w->rng) % 1000;
    node->size = size;
    node->check = check_of(node);
    memset(node + 1, (int)node->number, (size_t)size - sizeof *node);
    if (w->list.last != 0)
        set(w, w->list.last, offsetof(struct node, next), offset);
    else
        w->list.first = offset;
    w->list.last = offset;
    w->list.count++;
    w->list.sum += node->number;
    return offset;
}

/* Unlinks some node but the last one; the caller frees it. */
static uint64_t take_out(struct work *w)
{
    uint64_t offset = w->list.first, k = rng_below(&w->rng, w->list.count - 1);
    struct node *node;

    while (k-- > 0)
        offset = node_at(w->pt, offset)->next;
    node = node_at(w->pt, offset);
    set(w, node->next, offsetof(struct node, prev), node->prev);
    if (node->prev != 0)
        set(w, node->prev, offsetof(struct node, next), node->next);
    else
        w->list.first = node->next;
    w->list.count--;
    w->list.sum -= node->number;
    return offset;
}

static void read_list(struct work *w)
{
    memcpy(&w->list, (char *)palloc_data(w->pt, w->root) + w->field, sizeof w->list);
}

static void store_list(struct work *w)
{
    w->list.done++;
    store(w, w->root, w->field, &w->list, sizeof w->list);
}

static void one_transaction(struct work *w)
{
    uint64_t choice = rng_below(&w->rng, 10);

    read_list(w);
    w->tx = palloc_begin(w->pt);
    must(w->tx != NULL);
    if (w->list.count >= 2 && (choice < 4 || w->list.count >= MOST))
        must(palloc_tx_free(w->tx, take_out(w)) == 0);
    if (choice >= 3)
        append(w);
    if (choice == 9) {
        palloc_cancel(w->tx);
        return;
    }
    store_list(w);
    must(palloc_commit(w->tx) == 0);
    returned[w->number]++;
}

/* Never is a freed node linked, and what is linked can be reached forwards. */
static void plain_calls(struct work *w)
{
    uint64_t choice = rng_below(&w->rng, 10), gone = 0;

    read_list(w);
    if (w->list.count >= 2 && (choice < 4 || w->list.count >= MOST))
        gone = take_out(w);
    if (choice >= 3)
        append(w);
    store_list(w);
    if (gone != 0)
        pfree(w->pt, gone);
    returned[w->number]++;
}

static void (*step)(struct work *);

static void *work_forever(void *user)
{
    for (;;)
        step(user);
    return NULL;
}

static void begin_work(struct work *w, struct palloc_t *pt, unsigned number, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->pt = pt;
    w->root = palloc_root(pt, sizeof(struct root));
    must(w->root != 0);
    w->number = number;
    w->field = offsetof(struct root, lists) + number * sizeof(struct list);
    w->rng.state = seed * 2 + number;
}

static void child(uint32_t flags, uint64_t seed)
{
    struct palloc_t *pt = palloc_init(FILE_NAME, flags);
    struct work w[THREADS];
    pthread_t thread;
    unsigned t;

    must(pt != NULL);
    for (t = 0; t < THREADS; t++)
        begin_work(&w[t], pt, t, seed);
    must(pthread_create(&thread, NULL, work_forever, &w[1]) == 0);
    work_forever(&w[0]);
}

#define OR_FAIL(check)   \
    do {                 \
        if (!(check))    \
            goto failed; \
    } while (0)

/* Opens the medium after a kill, or makes it, if the child did not get so far. Returns how many blobs there are, or UINT64_MAX when
   something is wrong. */
static uint64_t check_lists(const char *path, const uint64_t *had_returned)
{
    struct palloc_t *pt = palloc_init(path, PALLOC_DYNAMIC);
    const struct root *root;
    struct palloc_stat stat;
    uint64_t seen = 1, offset, result = UINT64_MAX;
    unsigned t;

    if (!CHECK(pt != NULL))
        return result;
    if (palloc_first(pt) == 0) {
        palloc_close(pt);
        return 0;
    }
    root = palloc_data(pt, palloc_first(pt));
    OR_FAIL(CHECK(root != NULL));
    for (t = 0; t < THREADS; t++) {
        const struct list *list = &root->lists[t];
        uint64_t last = 0, count = 0, sum = 0;
        for (offset = list->first; offset != 0; count++) {
            const struct node *node = palloc_data(pt, offset);
            OR_FAIL(CHECK(node != NULL && count < list->count));
            OR_FAIL(CHECK_EQ_U(node->prev, last));
            OR_FAIL(CHECK_EQ_U(node->check, check_of(node)));
            OR_FAIL(CHECK(palloc_size(pt, offset) >= node->size));
            for (const uint8_t *byte = (const uint8_t *)(node + 1); byte < (const uint8_t *)node + node->size; byte++)
                OR_FAIL(CHECK_EQ_U(*byte, node->number & 255));
            sum += node->number;
            last = offset;
            offset = node->next;
        }
        OR_FAIL(CHECK_EQ_U(last, list->last));
        OR_FAIL(CHECK_EQ_U(count, list->count));
        OR_FAIL(CHECK_EQ_U(sum, list->sum));
        OR_FAIL(CHECK(list->done == had_returned[t] || list->done == had_returned[t] + 1));
        seen += count;
    }
    OR_FAIL(CHECK_EQ_I(palloc_stat(pt, &stat), 0));
    OR_FAIL(CHECK_EQ_U(stat.live_blobs, seen)); /* no leak */
    OR_FAIL(CHECK_VIEW(pt));
    result = seen;
failed:
    palloc_close(pt);
    if (result != UINT64_MAX && !CHECK_SOUND(path))
        result = UINT64_MAX;
    return result;
}

static void set_returned(const char *path)
{
    struct palloc_t *pt = palloc_init(path, PALLOC_DEFAULT);
    const struct root *root;
    unsigned t;

    REQUIRE(pt != NULL);
    root = palloc_data(pt, palloc_first(pt));
    for (t = 0; t < THREADS && root != NULL; t++)
        returned[t] = root->lists[t].done;
    palloc_close(pt);
}

static void kill_often(uint32_t flags, unsigned kills, uint64_t max_microseconds)
{
    struct rng rng = {flags + 1};
    uint64_t commits = 0;
    unsigned k;

    for (k = 0; k < kills; k++) {
        struct timespec wait = {0, (long)(1000 * rng_below(&rng, max_microseconds) + rng_below(&rng, 1000))};
        uint64_t seed = rng_next(&rng), before = returned[0] + returned[1];
        int status = 0;
        pid_t pid;

        fflush(stdout);
        pid = fork();
        if (pid == 0)
            child(flags, seed);
        REQUIRE(pid > 0);
        nanosleep(&wait, NULL);
        kill(pid, SIGKILL);
        REQUIRE(waitpid(pid, &status, 0) == pid);
        if (!CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
            || check_lists(FILE_NAME, (const uint64_t *)returned) == UINT64_MAX) {
            DIAG("kill %u", k);
            break;
        }
        commits += returned[0] + returned[1] - before;
        set_returned(FILE_NAME);
    }
    DIAG("%u kills among %llu transactions", k, (unsigned long long)commits);
}

/* How many blobs no list leads to, in a medium of plain calls. */
static uint64_t count_lost(void)
{
    struct palloc_t *pt = palloc_init(FILE_NAME, PALLOC_DEFAULT);
    const struct root *root;
    struct palloc_stat stat;
    uint64_t lost;
    unsigned t;

    REQUIRE(pt != NULL);
    root = palloc_data(pt, palloc_first(pt));
    REQUIRE(root != NULL && palloc_stat(pt, &stat) == 0);
    lost = stat.live_blobs - 1;
    for (t = 0; t < THREADS; t++)
        for (uint64_t offset = root->lists[t].first; offset != 0; offset = node_at(pt, offset)->next)
            lost--;
    palloc_close(pt);
    return lost;
}

/* The control: these kills do come where something is half done. Each has a new medium: the last one's lists may not be whole. */
static void plain_calls_lose(unsigned kills, int is_enough)
{
    struct rng rng = {17};
    uint64_t lost = 0;
    unsigned k;

    for (k = 0; k < kills && (lost == 0 || !is_enough); k++) {
        struct timespec wait = {0, (long)(1000 * rng_below(&rng, 3000) + rng_below(&rng, 1000))};
        uint64_t seed = rng_next(&rng);
        int status = 0;
        pid_t pid;

        unlink(FILE_NAME);
        returned[0] = returned[1] = 0;
        fflush(stdout);
        pid = fork();
        if (pid == 0)
            child(PALLOC_DYNAMIC, seed);
        REQUIRE(pid > 0);
        while ((returned[0] == 0 || returned[1] == 0) && waitpid(pid, &status, WNOHANG) == 0)
            sched_yield();
        nanosleep(&wait, NULL);
        kill(pid, SIGKILL);
        REQUIRE(waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        lost += count_lost();
    }
    CHECK(lost > 0);
    DIAG("%u kills lost %llu blobs", k, (unsigned long long)lost);
}

static void random_moments(void)
{
    int deep = getenv("DEEP") != NULL;

    step = one_transaction;
    unlink(FILE_NAME);
    TEST("a-kill-in-transactions-of-two-threads-leaves-whole-lists-and-no-leak");
    kill_often(PALLOC_DYNAMIC, deep ? 10000 : 200, 3000);

    TEST("with-PALLOC_SYNC-too");
    unlink(FILE_NAME);
    returned[0] = returned[1] = 0;
    kill_often(PALLOC_DYNAMIC | PALLOC_SYNC, deep ? 10000 : 40, 40000);

    TEST("the-same-work-with-plain-calls-loses-blobs");
    step = plain_calls;
    plain_calls_lose(10000, !deep);
    unlink(FILE_NAME);
}

/* ------------------------------------------------------------------------------------------------------ between any two stores */

/*
 * The trap is armed while the child is in palloc_commit. Behind each store the child stops until its parent has copied the file and looked
 * at the copy.
 */
#ifdef CAN_TRAP

enum { WATCHED = 256 << 10 };
static uint64_t stores;

static void before_store(void)
{
}

static void after_store(void)
{
    raise(SIGSTOP);
}

static void trapped_child(uint32_t flags, unsigned transactions)
{
    struct palloc_t *pt;
    struct work w;

    trap_install(WATCHED);
    pt = palloc_init(FILE_NAME, flags);
    must(pt != NULL);
    begin_work(&w, pt, 0, 7);
    while (transactions-- > 0) {
        read_list(&w);
        w.tx = palloc_begin(pt);
        must(w.tx != NULL);
        if (w.list.count >= 3)
            must(palloc_tx_free(w.tx, take_out(&w)) == 0);
        append(&w);
        store_list(&w);
        trap_arm();
        must(palloc_commit(w.tx) == 0);
        trap_disarm();
        returned[0]++;
    }
    _exit(0);
}

static void every_store(uint32_t flags)
{
    const unsigned transactions = getenv("DEEP") != NULL ? 400 : 12;
    uint64_t start = returned[0], pictures = 0;
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        trapped_child(flags, transactions);
    REQUIRE(pid > 0);
    for (;;) {
        REQUIRE(waitpid(pid, &status, WUNTRACED) == pid);
        if (!WIFSTOPPED(status))
            break;
        file_copy(FILE_NAME, "copy.db");
        pictures++;
        if (check_lists("copy.db", (const uint64_t *)returned) == UINT64_MAX) {
            DIAG("store %llu, after %llu transactions", (unsigned long long)pictures, (unsigned long long)(returned[0] - start));
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return;
        }
        kill(pid, SIGCONT);
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ_U(returned[0] - start, transactions);
    CHECK(pictures > transactions * 8);
    stores += pictures;
}

static void single_stores(void)
{
    TEST("a-kill-between-any-two-stores-of-a-commit-leaves-all-or-nothing");
    if (getenv("RUNNER") != NULL && *getenv("RUNNER") != 0)
        SKIP("single steps are not for an emulator or a checker");
    else {
        unlink(FILE_NAME);
        returned[0] = returned[1] = 0;
        every_store(PALLOC_DYNAMIC);
        every_store(PALLOC_DYNAMIC);
        unlink(FILE_NAME);
        returned[0] = returned[1] = 0;
        every_store(PALLOC_DYNAMIC | PALLOC_SYNC);
        DIAG("%llu stores", (unsigned long long)stores);
    }
}

#else

static void single_stores(void)
{
    TEST("a-kill-between-any-two-stores-of-a-commit-leaves-all-or-nothing");
    SKIP("stores are trapped on Linux and x86 only");
}

#endif

int main(void)
{
    TEST("memory-can-be-shared-with-a-child");
    returned = mmap(NULL, THREADS * sizeof *returned, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(returned != MAP_FAILED);
    PART(random_moments());
    PART(single_stores());
    return tap_done();
}
