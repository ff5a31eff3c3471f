/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * How much one buflib_compact_step, allocation or free does, counted in what the load of the machine does not change: bytes moved,
 * callbacks, steps, and (by single-stepping a child process) instructions.
 */
#include "buflib_util.h"
#if defined(__linux__) && (defined(__x86_64__) || defined(__i386__) || defined(__aarch64__))
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#define SINGLE_STEPS
#endif

/* The bound in buflib.h. */
static size_t most_blocks(size_t max_bytes)
{
    return (max_bytes / 256 > 64 ? max_bytes / 256 : 64) + 1;
}

static struct buflib_context ctx;
static size_t asked, refuse;

static int move(int handle, void *current, void *new_start)
{
    (void)handle, (void)current, (void)new_start;
    asked++;
    return refuse ? BUFLIB_CB_CANNOT_MOVE : BUFLIB_CB_OK;
}

static struct buflib_callbacks movable = { move, NULL, NULL };

/* `count` blocks of `size` bytes, a hole of as many before each. NULL if there is no memory. */
static void *make(size_t count, size_t size, struct buflib_callbacks *ops)
{
    size_t bytes = (2 * count + 1) * (size + BUFLIB_ALLOC_OVERHEAD + W) + 4096;
    void *memory = malloc(bytes);

    if (memory == NULL)
        return NULL;
    buflib_init(&ctx, memory, bytes);
    for (size_t i = 1; i <= 2 * count; i++)
        if (buflib_alloc_ex(&ctx, size, NULL, ops) != (int)i)
            return NULL;
    for (size_t i = 1; i < 2 * count; i += 2)
        buflib_free(&ctx, (int)i);
    asked = 0;
    return memory;
}

/* Steps until nothing is left to do. Returns how many; 0 if one did more than the bound allows. */
static size_t steps(size_t max_bytes)
{
    for (size_t n = 1;; n++) {
        struct buflib_stat was, is;
        size_t asked_before = asked, left;
        if (!CHECK(buflib_get_stat(&ctx, &was)))
            return 0;
        left = buflib_compact_step(&ctx, max_bytes);
        CHECK(buflib_get_stat(&ctx, &is));
        if (!CHECK(asked - asked_before <= most_blocks(max_bytes)) ||
            !CHECK(is.moves - was.moves <= 1 || is.moved_bytes - was.moved_bytes <= max_bytes))
            return 0;
        if (left == 0)
            return n;
    }
}

static void bounds(void)
{
    static const size_t budgets[] = { 0, 1000, 16384, 100000 };
    const size_t count = 3000;

    for (size_t i = 0; i < 4; i++) {
        size_t most = most_blocks(budgets[i]), n;
        void *memory;
        TESTF("a-step-of-%zu-bytes-moves-no-more-and-comes-to-%zu-blocks-at-most", budgets[i], most);
        for (int what = 0; what < 4; what++) { /* they move; refuse; can't move; are pinned */
            refuse = what == 1;
            memory = make(count, what == 0 ? 100 : 0, what == 2 ? &buflib_ops_locked : what == 3 ? NULL : &movable);
            REQUIRE(memory != NULL);
            for (size_t h = 2; h <= 2 * count && what == 3; h += 2)
                buflib_pin(&ctx, (int)h);
            n = steps(budgets[i]);
            /* All blocks were visited, by so many steps. */
            if (!CHECK(n >= count / most))
                DIAG("case %d: %zu steps for %zu blocks", what, n, count);
            CHECK(what > 1 || asked == count);
            CHECK_SOUND(&ctx);
            free(memory);
        }
    }
}

#ifdef SINGLE_STEPS
/* Waits until the child stops, and returns the signal, or 0 if it has ended. */
static int stopped(pid_t child)
{
    int status;

    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        return 0;
    return WSTOPSIG(status);
}

/* Steps of 16 KiB among blocks as short as a block can be, with a hole before each. */
static bool prepare_steps(size_t count)
{
    return make(count, 0, NULL) != NULL;
}

static bool one_step(size_t count)
{
    (void)count;
    return buflib_compact_step(&ctx, 16384) > 0;
}

/* An allocation after handles became free, and were given out again, from the end of the table to its start. */
static bool prepare_alloc(size_t count)
{
    if (make(count / 2, 0, NULL) == NULL)
        return false;
    for (size_t i = 1; i < count; i += 2)
        if (buflib_alloc(&ctx, 0) != (int)i)
            return false;
    for (size_t i = count; i > 0; i -= count / 1000)
        if (buflib_free(&ctx, (int)i) != 0 || buflib_alloc(&ctx, 0) != (int)i)
            return false;
    return buflib_free(&ctx, (int)count - 1) == 0;
}

static bool one_alloc(size_t count)
{
    return buflib_alloc(&ctx, 0) == (int)count - 1;
}

/* A free of a block between two holes. */
static bool prepare_free(size_t count)
{
    return make(count / 2, 0, NULL) != NULL;
}

static bool one_free(size_t count)
{
    return buflib_free(&ctx, (int)(count / 4 * 2)) == 0;
}

/* The instructions of `call` among `count` blocks that `prepare` makes. 0 if they can't be counted. */
static size_t instructions(bool (*prepare)(size_t), bool (*call)(size_t), size_t count)
{
    pid_t child = fork();
    size_t n = 0;
    int signal;

    if (child == 0) {
        bool right;
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || !prepare(count))
            _exit(1);
        raise(SIGUSR1);
        right = call(count);
        raise(SIGUSR2);
        _exit(!right);
    }
    if (child < 0)
        return 0;
    signal = stopped(child);
    if (signal == SIGUSR1)
        do {
            if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0)
                return 0;
            n++;
        } while ((signal = stopped(child)) == SIGTRAP);
    if (signal != SIGUSR2)
        n = 0;
    else if (ptrace(PTRACE_CONT, child, NULL, NULL) == 0 && waitpid(child, &signal, 0) == child && signal == 0)
        return n; /* it ended, and its call was right */
    kill(child, SIGKILL), waitpid(child, NULL, 0);
    return 0;
}
#endif

static void instruction_counts(void)
{
#ifdef SINGLE_STEPS
    static const struct {
        const char *name;
        bool (*prepare)(size_t), (*call)(size_t);
        size_t most; /* instructions; a debug build has some more than half of it */
        size_t searched; /* the part of the handle table that it searches at most is one in so many */
    } calls[] = {
        { "a-step", prepare_steps, one_step, 5000 * 65, SIZE_MAX },
        { "an-allocation", prepare_alloc, one_alloc, 10000, sizeof(void *) == 8 ? 1024 : 256 },
        { "a-free", prepare_free, one_free, 10000, SIZE_MAX },
    };
    size_t many = 100000 / tap_every(10);

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        size_t of_few, of_many;
        TESTF("the-instructions-of-%s-do-not-grow-with-the-number-of-blocks-but-for-its-logarithm", calls[i].name);
        of_few = instructions(calls[i].prepare, calls[i].call, 1000);
        of_many = instructions(calls[i].prepare, calls[i].call, many);
        if (of_few == 0 || of_many == 0) {
            SKIP("no single-stepping here");
            continue;
        }
        DIAG("%s: %zu instructions among 1,000 blocks, %zu among %zu", calls[i].name, of_few, of_many, many);
        CHECK(of_many < 2 * of_few + 4 * (many / calls[i].searched)); /* the trees are deeper */
        CHECK(of_many < calls[i].most);
    }
#else
    TEST("the-instructions-of-a-call-do-not-grow-with-the-number-of-blocks-but-for-its-logarithm");
    SKIP("instructions are counted on Linux only");
#endif
}

int main(void)
{
    PART(bounds());
    PART(instruction_counts());
    return tap_done();
}
