/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Random operations beside a naive twin, which walks the whole pool and the whole handle table for everything: where the next block
 * must come to lie and which handle it gets, how much is free, what every payload holds. Callbacks refuse, shrink and free at random.
 */
#include "buflib_util.h"

#define HANDLES 4096

static struct buflib_context ctx;
static struct rng rng;

static unsigned rnd(unsigned below)
{
    return (unsigned)rng_below(&rng, below);
}

static struct {
    bool live;
    unsigned char value;
    unsigned char *data;
    size_t size, alignment;
    unsigned pins;
    struct buflib_callbacks *ops;
    char name[24];
} twin[HANDLES];

static int wrong;

/* No callback refuses a move, and none gives anything; half of the moves are refused. */
static bool all_agree, moody;

#define EXPECT(cond) (wrong += !CHECK(cond))

static int some_handle(void)
{
    int count = table_size(&ctx);

    return count == 0 ? 1 : 1 + (int)rnd((unsigned)count);
}

static bool intact(int handle)
{
    for (size_t i = 0; i < twin[handle].size; i++)
        if (twin[handle].data[i] != twin[handle].value)
            return false;
    return true;
}

static int move(int handle, void *current, void *new_start)
{
    EXPECT(twin[handle].live && twin[handle].data == current && buflib_get_data(&ctx, handle) == current);
    EXPECT(intact(handle));
    EXPECT(twin[handle].pins == 0);
    EXPECT(((uintptr_t)new_start - (uintptr_t)current) % twin[handle].alignment == 0);
    if (!all_agree && rnd(moody ? 2 : 8) == 0)
        return BUFLIB_CB_CANNOT_MOVE;
    return BUFLIB_CB_OK;
}

static void sync_it(int handle, bool on)
{
    EXPECT(twin[handle].live);
    if (!on)
        twin[handle].data = buflib_get_data(&ctx, handle);
    EXPECT(intact(handle));
    EXPECT(buflib_alloc(&ctx, 8) == -3);
}

static int shrink(int handle, unsigned hints, void *start, size_t size)
{
    size_t front, back;
    int other = some_handle();

    (void)hints;
    twin[handle].data = buflib_get_data(&ctx, handle);
    EXPECT(twin[handle].data == start && twin[handle].size <= size && size < twin[handle].size + W);
    if (!all_agree && rnd(8) == 0) { /* first another one, or this one */
        EXPECT(buflib_free(&ctx, other) == (twin[other].live ? 0 : other));
        twin[other].live = false;
        if (other == handle || rnd(2))
            return BUFLIB_CB_OK;
    } else if (!all_agree && rnd(8) == 0 && twin[other].live) {
        twin[other].data = buflib_get_data(&ctx, other);
        front = rnd((unsigned)twin[other].size + 1);
        twin[other].size -= front;
        twin[other].data += front;
        EXPECT(buflib_shrink(&ctx, other, twin[other].data, twin[other].size));
        EXPECT(twin[other].data == buflib_get_data(&ctx, other));
        start = twin[handle].data;
    }
    switch (all_agree ? 2 : rnd(6)) {
    case 0:
        EXPECT(buflib_free(&ctx, handle) == 0);
        twin[handle].live = false;
        return BUFLIB_CB_OK;
    case 1:
        return BUFLIB_CB_OK; /* a lie */
    case 2:
        return BUFLIB_CB_CANNOT_SHRINK;
    default:
        front = rnd((unsigned)twin[handle].size + 1);
        back = rnd((unsigned)(twin[handle].size - front) + 1);
        EXPECT(buflib_shrink(&ctx, handle, (char *)start + front, twin[handle].size - front - back));
        twin[handle].data += front;
        twin[handle].size -= front + back;
        return rnd(4) ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
    }
}

static struct buflib_callbacks movable = { move, NULL, sync_it }, shrinkable = { move, shrink, sync_it }, fixed = { NULL, shrink, NULL };

/* Checks the rules that hold between two calls. Reads only the pool. */
static void look(void)
{
    struct buflib_stat stat;
    intptr_t sum = 0;
    int live = 0, next = 0;
    intptr_t end = ctx.last_handle - ctx.alloc_end;

    EXPECT(end >= 0);
    for (intptr_t *block = ctx.buf_start, before = 1; block < ctx.alloc_end; before = *block, block += *block < 0 ? -*block : *block) {
        EXPECT(*block != 0 && !(*block < 0 && before < 0));
        if (*block < 0) {
            sum -= *block;
            EXPECT(block - *block < ctx.alloc_end);
        }
        if (wrong)
            return;
    }
    EXPECT(buflib_get_stat(&ctx, &stat));
    EXPECT(stat.pool == (size_t)((char *)ctx.handle_table - (char *)ctx.buf_start));
    EXPECT(stat.pool == stat.live + stat.free + stat.handles * W && stat.handles == (size_t)table_size(&ctx));
    EXPECT(stat.free == (size_t)(sum + end) * W && stat.holes == (size_t)sum * W);
    EXPECT((int)(stat.blocks + stat.free_blocks) == buflib_get_num_blocks(&ctx));
    end = (end - 21) * (intptr_t)W - 16;
    EXPECT((intptr_t)buflib_available(&ctx) == sum * (intptr_t)W + (end > 0 ? end : 0));
    for (int h = 1; h < HANDLES; h++) {
        unsigned char *data = buflib_get_data(&ctx, h);
        EXPECT((data != NULL) == twin[h].live);
        if (data == NULL || wrong)
            continue;
        live++;
        EXPECT((next = buflib_next(&ctx, next)) == h);
        EXPECT(buflib_get_size(&ctx, h) >= twin[h].size && buflib_get_size(&ctx, h) < twin[h].size + 2 * W);
        if (twin[h].pins > 0)
            EXPECT(data == twin[h].data);
        twin[h].data = data;
        EXPECT(intact(h));
        EXPECT(buflib_pin_count(&ctx, h) == twin[h].pins);
        if (twin[h].name[0] != '\0')
            EXPECT(strcmp(buflib_get_name(&ctx, h), twin[h].name) == 0);
        else
            EXPECT(buflib_get_name(&ctx, h) == NULL);
    }
    EXPECT(buflib_next(&ctx, next) == 0 && (size_t)live == stat.blocks);
    EXPECT(buflib_check(&ctx, note_damage, (void *)""));
}

static void born(int handle, size_t size, size_t alignment, const char *name, struct buflib_callbacks *ops)
{
    static unsigned char value;

    EXPECT(handle < HANDLES && !twin[handle].live);
    twin[handle].live = true;
    twin[handle].data = buflib_get_data(&ctx, handle);
    twin[handle].size = size;
    twin[handle].alignment = alignment;
    twin[handle].value = ++value;
    twin[handle].pins = 0;
    twin[handle].ops = ops;
    snprintf(twin[handle].name, sizeof twin[handle].name, "%s", name != NULL ? name : "");
    EXPECT((uintptr_t)twin[handle].data % alignment == 0);
    memset(twin[handle].data, value, size);
}

static void allocate(size_t limit)
{
    static const char *const names[] = { NULL, "a", "seven77", "eight888", "fifteen fifteen" };
    struct buflib_callbacks *const all[] = { NULL, NULL, &movable, &shrinkable, &fixed, &buflib_ops_locked };
    struct buflib_callbacks *ops = all[rnd(6)];
    const char *name = names[rnd(5)];
    size_t size = rnd(10) == 0 ? rnd((unsigned)limit) : rnd(100);
    size_t alignment = rnd(8) == 0 ? W << rnd(5) : W;
    intptr_t words = (intptr_t)((size + W - 1) / W + 5 + (name != NULL ? strlen(name) / W + 1 : 0));
    intptr_t *block, *fit = NULL;
    int lowest = 1, handle;

    /* The twin's first fit and lowest handle. */
    while (lowest <= table_size(&ctx) && *(ctx.handle_table - lowest) != 0)
        lowest++;
    for (block = ctx.buf_start; block < ctx.alloc_end && fit == NULL; block += *block < 0 ? -*block : *block)
        if (-*block >= words)
            fit = block;
    if (fit == NULL && ctx.last_handle - (lowest > table_size(&ctx)) - ctx.alloc_end >= words)
        fit = ctx.alloc_end;
    if (lowest > table_size(&ctx) && ctx.last_handle == ctx.alloc_end)
        fit = NULL;

    if (alignment == W)
        handle = buflib_alloc_ex(&ctx, size, name, ops);
    else
        handle = buflib_alloc_aligned(&ctx, size, alignment, name, ops);
    if (handle > 0) {
        if (fit != NULL && alignment == W) {
            EXPECT(handle == lowest);
            EXPECT((char *)buflib_get_data(&ctx, handle)
                   == (char *)(fit + 5 + (name != NULL ? strlen(name) / W + 1 : 0)));
        }
        born(handle, size, alignment, name, ops);
    } else {
        EXPECT(handle == -1 || handle == -2);
        EXPECT(fit == NULL || alignment > W);
    }
}

static void operate(size_t limit)
{
    int h = some_handle();
    size_t size, front, back;
    char *data;

    switch (rnd(18)) {
    default:
        allocate(limit);
        break;
    case 6: case 7: case 8: case 9: case 10:
        EXPECT(buflib_free(&ctx, h) == (twin[h].live ? 0 : h));
        twin[h].live = false;
        break;
    case 11:
        if (twin[h].live) {
            data = buflib_get_data(&ctx, h);
            front = rnd((unsigned)twin[h].size + 1);
            back = rnd((unsigned)(twin[h].size - front) + 1);
            EXPECT(buflib_shrink(&ctx, h, data + front, twin[h].size - front - back));
            EXPECT(buflib_get_data(&ctx, h) == data + front);
            twin[h].data = (unsigned char *)data + front;
            twin[h].size -= front + back;
        }
        break;
    case 12:
        /* Moves refused until then are agreed to when it is taken at its word. */
        moody = rnd(2);
        size = buflib_allocatable(&ctx);
        moody = false;
        if (size > 0 && rnd(2)) {
            all_agree = true;
            EXPECT((h = buflib_alloc(&ctx, size)) > 0);
            all_agree = false;
            if (h > 0) {
                born(h, size, W, NULL, NULL);
                if (rnd(8))
                    EXPECT(buflib_shrink(&ctx, h, buflib_get_data(&ctx, h), twin[h].size = size / 8));
            }
        }
        break;
    case 13:
        if (rnd(4) == 0) {
            h = buflib_alloc_maximum(&ctx, rnd(2) ? "maximum" : NULL, &size, NULL);
            if (h > 0) {
                const char *name = buflib_get_name(&ctx, h);
                born(h, size, W, name, NULL);
                if (rnd(2))
                    EXPECT(buflib_shrink(&ctx, h, buflib_get_data(&ctx, h), twin[h].size = size / 4));
            } else {
                EXPECT(h == -1 && size == 0);
            }
        }
        break;
    case 14:
        if (twin[h].live && rnd(3) == 0) {
            twin[h].data = buflib_get_data(&ctx, h);
            buflib_pin(&ctx, h);
            twin[h].pins++;
        } else if (twin[h].live && twin[h].pins > 0) {
            buflib_unpin(&ctx, h);
            twin[h].pins--;
        }
        break;
    case 16: /* a step or some of a compaction */
        for (int n = (int)rnd(4); n >= 0; n--) {
            struct buflib_stat before, after;
            size_t most = rnd(3) ? rnd(3000) : 0;
            EXPECT(buflib_get_stat(&ctx, &before));
            size = buflib_compact_step(&ctx, most);
            EXPECT(buflib_get_stat(&ctx, &after));
            EXPECT(size == 0 || size == after.holes);
            EXPECT(after.moves - before.moves <= 1 || after.moved_bytes - before.moved_bytes <= most);
            EXPECT(after.live == before.live && after.free == before.free && after.handles == before.handles);
        }
        break;
    case 17: /* a pool that ends elsewhere for a while */
        size = (size_t)((char *)ctx.handle_table - (char *)ctx.buf_start);
        if (buflib_resize(&ctx, size - rnd((unsigned)size / 2))) {
            if (rnd(2)) {
                look();
                allocate(limit);
            }
            look();
            EXPECT(buflib_resize(&ctx, size));
        }
        EXPECT((size_t)((char *)ctx.handle_table - (char *)ctx.buf_start) == size);
        break;
    case 15:
        size = rnd(300);
        if (buflib_buffer_out(&ctx, &size) != NULL) {
            memset((char *)ctx.buf_start - size, 0xEE, size);
            buflib_buffer_in(&ctx, (int)size);
        } else {
            EXPECT(size == 0);
        }
        break;
    }
}

static void run(size_t pool_size, unsigned operations, uint64_t start)
{
    struct guarded memory;
    char *pool;

    TESTF("a-pool-of-%zu-bytes-seed-%d", pool_size, (int)start);
    pool = guarded_pool(&memory, pool_size);
    wrong = 0;
    rng.state = start;
    memset(twin, 0, sizeof twin);
    buflib_init(&ctx, pool, pool_size);
    buflib_set_panic_handler(note_panic);
    panics = 0;
    for (unsigned n = 0; n < operations && wrong == 0 && panics == 0; n++) {
        operate(pool_size / 4);
        if (n < 2000 || n % 16 == 0)
            look();
        if (wrong)
            DIAG("operation %u: %s", n, blocks(&ctx));
    }
    if (!CHECK_EQ_I(panics, 0))
        DIAG("%s", panic_message);
    unguard(&memory);
}

int main(void)
{
    for (uint64_t start = 1; start <= 6; start++) {
        PART(run(1024, 4000, start));
        PART(run(8192, 6000, start));
    }
    PART(run(1 << 16, 12000, 7));
    PART(run(1 << 18, 12000, 8));
    return tap_done();
}
