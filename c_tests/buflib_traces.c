/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Runs of the original, replayed: each result, each callback in its order, each length of a block and each handle slot must be the same.
 *
 * Only these may differ, and are counted:
 *   hole      the original reported an inner hole as larger than what an allocation gets of it: allocatable is larger by the header,
 *             and buflib_alloc_maximum fails where ours succeeds.
 *   compact   ours is false after a shrink that leaves free space in the middle, and while a block refuses to move. What follows is
 *             replayed with the original's, which is set after each operation: later operations have to be the same again.
 */
#include "buflib_util.h"

#include <inttypes.h>

#define SLOTS 512

static struct buflib_context ctx;
static char *pool;
static char kinds[SLOTS];
static unsigned char fill[SLOTS];
static size_t used[SLOTS];      /* payload bytes that must keep their value */
static char got[1 << 16];       /* what this operation printed */
static size_t got_length;

static void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    got_length += (size_t)vsnprintf(got + got_length, sizeof got - got_length, format, args);
    va_end(args);
}

static long offset(const void *data)
{
    return (long)((const char *)data - pool);
}

static int move(int handle, void *current, void *new_start)
{
    int refuse = kinds[handle] == 'r';

    CHECK(buflib_get_data(&ctx, handle) == current);
    say("  cb move %d %ld %ld -> %s\n", handle, offset(current), offset(new_start), refuse ? "refuse" : "ok");
    return refuse ? BUFLIB_CB_CANNOT_MOVE : BUFLIB_CB_OK;
}

static void sync_it(int handle, bool on)
{
    say("  cb sync %d %d\n", handle, on);
}

static int shrink(int handle, unsigned hints, void *start, size_t size)
{
    size_t keep = size / 2 / 8 * 8;
    char *from = start;
    int ok;

    say("  cb shrink %d pos=%u size=%u start=%ld cur=%zu -> ", handle, hints >> 30, hints & BUFLIB_SHRINK_SIZE_MASK,
        offset(start), size);
    if (size < 64) {
        say("cannot\n");
        return BUFLIB_CB_CANNOT_SHRINK;
    }
    if (kinds[handle] == 'f') {
        from += size - keep;
        say("front to %ld size %zu ", offset(from), keep);
    } else {
        say("shrink to %zu ", keep);
    }
    ok = buflib_shrink(&ctx, handle, from, keep);
    used[handle] = kinds[handle] == 'f' ? 0 : keep < used[handle] ? keep : used[handle];
    memset(from, fill[handle], keep);
    used[handle] = keep;
    say(ok ? "ok\n" : "false\n");
    return BUFLIB_CB_OK;
}

static struct buflib_callbacks movable = { move, NULL, sync_it };
static struct buflib_callbacks keeps_first = { NULL, shrink, NULL };
static struct buflib_callbacks keeps_last = { move, shrink, NULL };

static struct buflib_callbacks *ops_of(char kind)
{
    switch (kind) {
    case 'n': return NULL;
    case 'l': return &buflib_ops_locked;
    case 's': return &keeps_first;
    case 'f': return &keeps_last;
    default: return &movable;
    }
}

static void state(void)
{
    say("= %s%s; t=%d c=%d\n", blocks(&ctx), ctx.alloc_end > ctx.buf_start ? " " : "", table_size(&ctx), ctx.compact);
}

static void filled(int handle, size_t size, char kind)
{
    static unsigned char value;

    kinds[handle] = kind;
    fill[handle] = ++value;
    used[handle] = size;
    memset(buflib_get_data(&ctx, handle), value, size);
}

static int payloads_are_kept(void)
{
    for (int handle = 1; handle <= table_size(&ctx); handle++) {
        unsigned char *data = buflib_get_data(&ctx, handle);
        for (size_t i = 0; data != NULL && i < used[handle]; i++)
            if (data[i] != fill[handle])
                return handle;
    }
    return 0;
}

/* The largest run of free words between locked blocks: what the original reported of inner holes. */
static size_t inner_run(void)
{
    size_t run = 0, best = 0;

    for (intptr_t *block = ctx.buf_start; block < ctx.alloc_end; block += *block < 0 ? -*block : *block) {
        if (*block < 0) {
            run += (size_t)-*block;
        } else {
            struct buflib_callbacks *ops = (struct buflib_callbacks *)block[2];
            if (ops != NULL && ops->move_callback == NULL)
                run = 0;
        }
        best = run > best ? run : best;
    }
    return best * W;
}

static unsigned holes, flags, refusals, operations;

/* Runs one operation and leaves its text in `got`. `want` is the original's. */
static void operate(const char *line, const char *want)
{
    char name[64], kind;
    int handle;
    size_t size, delta, length, their_size = 0;
    int their_handle;
    const char *result;

    got_length = 0;
    got[0] = '\0';
    operations++;
    if (sscanf(line, "alloc %zu %63s %c", &size, name, &kind) == 3) {
        char letters[64] = "";
        if (name[0] != '-')
            memset(letters, 'n', (size_t)atoi(name));
        handle = 0;
        /* The handle that it will get is not known before, but callbacks of other blocks only are called. */
        handle = buflib_alloc_ex(&ctx, size, name[0] == '-' ? NULL : letters, ops_of(kind));
        if (handle > 0) {
            filled(handle, size, kind);
            say("  -> %d %ld\n", handle, offset(buflib_get_data(&ctx, handle)));
        } else {
            say("  -> %d\n", handle);
        }
    } else if (sscanf(line, "free %d", &handle) == 1) {
        buflib_free(&ctx, handle);
    } else if (sscanf(line, "shrink %d %zu %zu", &handle, &delta, &size) == 3) {
        char *data = buflib_get_data(&ctx, handle);
        bool ok = buflib_shrink(&ctx, handle, data + delta, size);
        if (ok) {
            used[handle] = delta + size <= used[handle] ? size : used[handle] > delta ? used[handle] - delta : 0;
        }
        say("  -> %d\n", ok);
    } else if (sscanf(line, "max %zu %c", &length, &kind) == 2) {
        char letters[64] = "max";
        (void)length;
        size = 0;
        handle = buflib_alloc_maximum(&ctx, letters, &size, ops_of(kind));
        result = strstr(want, "  -> ");
        while (result != NULL && sscanf(result, "  -> %d %zu", &their_handle, &their_size) != 2)
            result = strstr(result + 1, "  -> ");
        if (size != their_size) {
            /* The original asked its allocator for the whole hole. It got that elsewhere, or nothing. */
            if (handle > 0)
                CHECK_EQ_I(buflib_free(&ctx, handle), 0);
            ctx.compact = true; /* as the original's is at this point */
            CHECK_EQ_U(their_size, inner_run());
            CHECK(size < their_size);
            holes++;
            handle = buflib_alloc_ex(&ctx, size = their_size, letters, ops_of(kind));
        }
        if (handle > 0)
            filled(handle, size, kind);
        say("  -> %d %zu\n", handle, size);
    } else if (strncmp(line, "avail", 5) == 0) {
        say("  -> %zu\n", buflib_available(&ctx));
    } else if (strncmp(line, "allocatable", 11) == 0) {
        size_t bytes = buflib_allocatable(&ctx);
        size_t original = bytes > inner_run() ? bytes : inner_run();
        holes += original != bytes;
        say("  -> %zu\n", original);
    } else {
        CHECK(!"an operation that is not known");
        DIAG("%s", line);
    }
}

static int replay(const char *name)
{
    char path[4096], line[1 << 14];
    static char want[1 << 16];
    static char next[1 << 14];
    struct guarded memory;
    FILE *file;
    size_t size;
    int differences = 0, have_line;

    TESTF("trace-%s-is-the-same", name);
    snprintf(path, sizeof path, "%s/buflib/trace_%s.txt", getenv("TEST_DATA") ? getenv("TEST_DATA") : "c_tests/golden", name);
    file = fopen(path, "r");
    REQUIRE(file != NULL);
    REQUIRE(fgets(line, sizeof line, file) != NULL && sscanf(line, "init %zu", &size) == 1);
    pool = guarded_pool(&memory, size);
    buflib_init(&ctx, pool, size);
    REQUIRE(fgets(line, sizeof line, file) != NULL); /* the state after init */
    holes = flags = refusals = operations = 0;

    have_line = fgets(next, sizeof next, file) != NULL;
    while (have_line && differences < 3) {
        char *end;
        bool theirs;

        snprintf(line, sizeof line, "%s", next);
        want[0] = '\0';
        do {
            have_line = fgets(next, sizeof next, file) != NULL;
            if (have_line && (next[0] == ' ' || next[0] == '='))
                strcat(want, next);
        } while (have_line && (next[0] == ' ' || next[0] == '='));

        operate(line, want);
        refusals += strstr(want, "refuse") != NULL;
        end = strstr(want, " c=");
        theirs = end != NULL && end[3] == '1';
        if (theirs && !ctx.compact) {
            /* After a shrink, by the program or a callback, or since a block refused. */
            if (!CHECK(refusals > 0 || strncmp(line, "shrink", 6) == 0 || strstr(want, "cb shrink") != NULL))
                DIAG("%s", line);
            flags++;
            ctx.compact = true;
        }
        state();
        if (strcmp(got, want) != 0) {
            differences++;
            CHECK(!"the same");
            DIAG("operation %u: %s  is:\n%s  should be:\n%s", operations, line, got, want);
        }
        if (!CHECK(buflib_check(&ctx, note_damage, (void *)line)))
            differences++;
        CHECK_EQ_I(payloads_are_kept(), 0);
    }
    fclose(file);
    unguard(&memory);
    DIAG("%u operations, %u about an inner hole, %u with another `compact`", operations, holes, flags);
    if (name[1] == '0')
        CHECK(holes + flags == 0);
    if (name[1] == '1')
        CHECK(flags == 0);
    return differences;
}

int main(void)
{
    static const char *const names[] = { "m0_s1", "m0_s2", "m1_s1", "m1_s2", "m2_s1", "m2_s2", "m3_s1", "m3_s2" };

    if (!WIDE) {
        TEST("traces");
        SKIP("they are of a 64-bit machine");
        return tap_done();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        PART(replay(names[i]));
    return tap_done();
}
