/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Compaction in steps, statistics, a pool that becomes longer and shorter, sizes and iteration. */
#include "buflib_util.h"
#include <vmem.h>

static struct buflib_context ctx;
static struct guarded memory;
static char *pool;
static size_t pool_size;

static void begin(const char *name, size_t size)
{
    TEST(name);
    pool = fresh_pool(&ctx, &memory, size);
    pool_size = size;
    buflib_set_panic_handler(note_panic);
    panics = 0;
}

static struct buflib_stat stat_now(void)
{
    struct buflib_stat stat = { 0 };

    CHECK(buflib_get_stat(&ctx, &stat));
    return stat;
}

static int asked, refuse;

static int move(int handle, void *current, void *new_start)
{
    asked++;
    CHECK((char *)new_start < (char *)current && buflib_get_data(&ctx, handle) == current);
    return refuse == handle || refuse < 0 ? BUFLIB_CB_CANNOT_MOVE : BUFLIB_CB_OK;
}

static int sync_depth, syncs;

static void sync_it(int handle, bool on)
{
    (void)handle;
    syncs++;
    sync_depth += on ? 1 : -1;
    CHECK(sync_depth == on);
}

static struct buflib_callbacks movable = { move, NULL, sync_it };

/* `count` blocks of 32 bytes, each full of its number. */
static void fill(int count, struct buflib_callbacks *ops)
{
    for (int i = 1; i <= count; i++) {
        CHECK_EQ_I(buflib_alloc_ex(&ctx, 32, i % 3 ? NULL : "third", ops), i);
        memset(buflib_get_data(&ctx, i), i, 32);
    }
}

static bool whole(int count)
{
    for (int i = buflib_next(&ctx, 0); i > 0 && i <= count; i = buflib_next(&ctx, i))
        for (int n = 0; n < 32; n++)
            if (((char *)buflib_get_data(&ctx, i))[n] != (char)i)
                return false;
    return true;
}

static void steps(void)
{
    struct buflib_stat was, stat;
    size_t left;

    begin("a-step-moves-at-most-so-many-bytes-and-at-least-one-block", 1 << 15);
    fill(100, &movable);
    for (int i = 1; i <= 100; i += 4)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    asked = syncs = 0;
    for (size_t most = 0, n = 0;; most = (most + 100) % 700, n++) {
        was = stat_now();
        left = buflib_compact_step(&ctx, most);
        stat = stat_now();
        CHECK_SOUND(&ctx);
        if (left == 0)
            break;
        CHECK_EQ_U(left, stat.holes);
        CHECK(stat.moves - was.moves == 1 || (stat.moves > was.moves && stat.moved_bytes - was.moved_bytes <= most));
        CHECK(whole(100) && n < 1000);
    }
    CHECK_EQ_U(stat.holes, 0);
    CHECK_EQ_U(stat.moves, 75);
    CHECK_EQ_I(asked, 75);
    CHECK_EQ_I(syncs, 150);
    CHECK(whole(100));
    CHECK(buflib_allocatable(&ctx) > 0);
    CHECK_EQ_I(asked, 75);
    CHECK_EQ_U(stat_now().moves, 75);
    CHECK_EQ_U(buflib_compact_step(&ctx, 1000), 0);

    begin("holes-too-short-for-the-tree-are-closed-too", 1 << 14);
    fill(60, NULL);
    for (int i = 2; i < 60; i++) {
        char *data = buflib_get_data(&ctx, i);
        CHECK(buflib_shrink(&ctx, i, data, 32 - W * (1 + (size_t)i % 3)));
    }
    CHECK(stat_now().free_blocks == 58);
    for (int n = 0; buflib_compact_step(&ctx, 200) > 0 && n < 1000; n++)
        CHECK_SOUND(&ctx);
    CHECK_EQ_U(stat_now().holes, 0);
    for (int i = 2; i < 60; i++)
        CHECK(*(char *)buflib_get_data(&ctx, i) == (char)i);
    CHECK_EQ_U(stat_now().refused, 0);

    begin("a-block-that-refused-is-asked-again-after-the-next-change", 1 << 13);
    fill(20, &movable);
    CHECK_EQ_I(buflib_free(&ctx, 2), 0);
    CHECK_EQ_I(buflib_free(&ctx, 12), 0);
    refuse = 5;
    asked = 0;
    while (buflib_compact_step(&ctx, 100) > 0)
        ;
    CHECK_EQ_I(asked, 2 + 1 + 8);
    CHECK_EQ_U(stat_now().refused, 1);
    CHECK_EQ_U(stat_now().free_blocks, 1);
    CHECK_EQ_U(buflib_compact_step(&ctx, 10000), 0);
    CHECK_EQ_I(asked, 11);
    refuse = 0;
    CHECK_EQ_I(buflib_alloc(&ctx, 8), 2);
    while (buflib_compact_step(&ctx, 100) > 0)
        ;
    CHECK(asked > 11);
    CHECK_SOUND(&ctx);
    memset(buflib_get_data(&ctx, 2), 2, 8);
    CHECK_EQ_I(buflib_free(&ctx, 2), 0);
    CHECK(whole(20));

    begin("pinned-and-locked-blocks-stay-and-an-unpinned-one-moves", 1 << 13);
    fill(8, NULL);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 32, NULL, &buflib_ops_locked), 9);
    CHECK_EQ_I(buflib_alloc(&ctx, 32), 10);
    CHECK_EQ_I(buflib_alloc(&ctx, 32), 11);
    CHECK_EQ_I(buflib_free(&ctx, 2), 0);
    CHECK_EQ_I(buflib_free(&ctx, 7), 0);
    CHECK_EQ_I(buflib_free(&ctx, 10), 0);
    buflib_pin(&ctx, 4);
    while (buflib_compact_step(&ctx, 50) > 0)
        ;
    CHECK_SOUND(&ctx);
    stat = stat_now();
    CHECK_EQ_U(stat.free_blocks, 2);
    CHECK_EQ_U(stat.pinned, 1);
    CHECK_EQ_U(stat.locked, 1);
    buflib_unpin(&ctx, 4);
    while (buflib_compact_step(&ctx, 50) > 0)
        ;
    CHECK_EQ_U(stat_now().free_blocks, 1); /* before the locked one, all in one piece */
    CHECK_SOUND(&ctx);

    begin("aligned-blocks-stay-aligned-in-steps", 1 << 14);
    for (int i = 1; i <= 30; i++)
        CHECK(buflib_alloc_aligned(&ctx, (size_t)i * 8, i % 3 ? 0 : 64, NULL, &movable) == i);
    for (int i = 1; i <= 30; i += 4)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    for (int n = 0; buflib_compact_step(&ctx, 150) > 0 && n < 1000; n++) {
        CHECK_SOUND(&ctx);
        for (int i = 3; i <= 30; i += 3)
            CHECK_EQ_U((uintptr_t)buflib_get_data(&ctx, i) % 64, 0);
    }
    CHECK(stat_now().moves > 20);

    begin("steps-among-many-blocks-that-stay-end", 1 << 17);
    for (int i = 1; i <= 500; i++)
        CHECK_EQ_I(buflib_alloc_ex(&ctx, 32, NULL, i % 2 ? &buflib_ops_locked : NULL), i);
    for (int i = 2; i <= 490; i += 2)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    for (int n = 0; (left = buflib_compact_step(&ctx, 0)) > 0; n++)
        if (!CHECK(n < 100))
            break;
    CHECK_SOUND(&ctx);
    CHECK_EQ_U(stat_now().moves, 0);
}

static void damage(void)
{
    static char saved[1 << 13], damaged[1 << 13];
    struct buflib_context saved_ctx;
    size_t end, found = 0;

    begin("a-damaged-header-ends-a-step-between-two-blocks", 1 << 13);
    fill(30, &movable);
    for (int i = 3; i <= 30; i += 5)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    saved_ctx = ctx;
    memcpy(saved, pool, sizeof saved);
    end = (size_t)((char *)ctx.alloc_end - pool) / W;
    for (size_t word = 0; word < end; word++) {
        ctx = saved_ctx;
        memcpy(pool, saved, sizeof saved);
        ((intptr_t *)pool)[word] ^= 0x58;
        memcpy(damaged, pool, sizeof damaged);
        panics = 0;
        for (int n = 0; panics == 0 && buflib_compact_step(&ctx, 200) > 0 && n < 1000; n++)
            memcpy(damaged, pool, sizeof damaged);
        if (panics == 0)
            continue;
        found++;
        CHECK_EQ_I(panics, 1);
        /* Whatever can be reached by its handle is whole. */
        for (int i = 1; i <= 30; i++) {
            char *data = buflib_get_data(&ctx, i);
            if (data == NULL || (data >= pool && data + 32 <= pool + sizeof saved && data[16] == (char)i))
                continue;
            CHECK_EQ_I(i, word);
        }
    }
    DIAG("%d of %d words", (int)found, (int)end);
    CHECK(found > 100);
}

static void resizing(void)
{
    struct buflib_stat stat;

    begin("a-pool-becomes-longer-and-shorter", 1 << 16);
    buflib_init(&ctx, pool, 1024);
    fill(5, NULL);
    CHECK_EQ_I(buflib_alloc(&ctx, 2000), BUFLIB_NO_MEMORY);
    CHECK(buflib_resize(&ctx, 1 << 16));
    CHECK_SOUND(&ctx);
    CHECK(ctx.handle_table == (intptr_t *)(pool + (1 << 16)) && whole(5));
    CHECK_EQ_I(buflib_alloc(&ctx, 2000), 6);
    CHECK_EQ_I(buflib_alloc(&ctx, 50000), 7);
    CHECK(!buflib_resize(&ctx, 1024));
    CHECK_EQ_I(buflib_free(&ctx, 7), 0);
    CHECK(!buflib_resize(&ctx, 2000));
    CHECK_EQ_U(stat_now().pool, 1 << 16);
    CHECK_EQ_I(buflib_free(&ctx, 6), 0);
    CHECK_EQ_I(buflib_free(&ctx, 2), 0);
    stat = stat_now();
    CHECK(!buflib_resize(&ctx, stat.live + stat.handles * W - W));
    CHECK(buflib_resize(&ctx, stat.live + stat.handles * W)); /* to the word, compacted */
    CHECK_SOUND(&ctx);
    CHECK_EQ_U(stat_now().free, 0);
    CHECK(whole(5));
    CHECK(buflib_resize(&ctx, 1500));
    CHECK_EQ_I(buflib_alloc(&ctx, 100), 2);
    CHECK_SOUND(&ctx);

    begin("a-tree-of-free-blocks-is-right-after-resize", 1 << 16);
    buflib_init(&ctx, pool, 1 << 13);
    for (int i = 1; i <= 60; i++)
        CHECK_EQ_I(buflib_alloc_ex(&ctx, (size_t)(i % 7) * 16, NULL, &buflib_ops_locked), i);
    for (int i = 1; i < 60; i += 2)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    for (size_t size = 1 << 13; size <= 1 << 16; size += size / 3) {
        CHECK(buflib_resize(&ctx, size));
        CHECK_SOUND(&ctx);
    }
    while (buflib_resize(&ctx, stat_now().pool - 8 * W))
        CHECK_SOUND(&ctx);
    CHECK_EQ_I(panics, 0);

    begin("resize-refuses", 4096);
    fill(3, NULL);
    CHECK(!buflib_resize(&ctx, 0));
    CHECK(!buflib_resize(&ctx, W - 1));
    CHECK(!buflib_resize(&ctx, SIZE_MAX));
    CHECK(!buflib_resize(NULL, 4096));
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    buflib_pin(&ctx, 3);
    stat = stat_now();
    CHECK(!buflib_resize(&ctx, stat.live + stat.handles * W)); /* the pin keeps the hole */
    CHECK(buflib_resize(&ctx, 2048));
    CHECK_SOUND(&ctx);
    *ctx.buf_start = -9999;
    CHECK(!buflib_resize(&ctx, 4096));
    CHECK_EQ_I(panics, 1);
    buflib_init(&ctx, NULL, 0);
    CHECK(!buflib_resize(&ctx, 4096));

    begin("resize-counts-from-where-the-pool-was-before-memory-was-taken-out", 8192);
    buflib_init(&ctx, pool, 4096);
    fill(3, NULL);
    {
        size_t out = 1024;
        CHECK(buflib_buffer_out(&ctx, &out) == pool);
        CHECK_EQ_U(out, 1024);
        CHECK(!buflib_resize(&ctx, 1000));
        CHECK(buflib_resize(&ctx, 8192));
        CHECK(ctx.handle_table == (intptr_t *)(pool + 8192));
        CHECK_SOUND(&ctx);
        buflib_buffer_in(&ctx, 1024);
        CHECK(ctx.buf_start == (intptr_t *)pool && whole(3));
        CHECK_SOUND(&ctx);
    }
}

static void growing(void)
{
    size_t reserved = (size_t)64 << 20, committed = (size_t)vmem_get_page_size();
    char *start = (char *)vmem_reserve(reserved);
    struct rng rng = {1};

    TEST("a-pool-in-reserved-address-space-grows-and-shrinks");
    REQUIRE(start != NULL && vmem_commit(start, committed));
    buflib_init(&ctx, start, committed);
    panics = 0;
    for (int n = 0; n < 3000; n++) {
        int some = 1 + (int)rng_below(&rng, 400), h;

        if (buflib_get_data(&ctx, some) != NULL) {
            CHECK_EQ_I(buflib_free(&ctx, some), 0);
            continue;
        }
        size_t size = rng_below(&rng, 5000);
        while ((h = buflib_alloc(&ctx, size)) < 0) {
            REQUIRE(vmem_commit(start + committed, 65536) && buflib_resize(&ctx, committed += 65536));
            CHECK_EQ_U(stat_now().pool, committed);
        }
        buflib_compact_step(&ctx, 4096);
        if (n % 500 == 499) {
            size_t page = (size_t)vmem_get_page_size(), keep = (stat_now().live + stat_now().handles * W) / page * page + 2 * page;
            CHECK(keep >= committed || buflib_resize(&ctx, keep));
            if (keep < committed) {
                CHECK(vmem_decommit(start + keep, committed - keep)); /* any use of it is a crash now */
                committed = keep;
            }
            CHECK_SOUND(&ctx);
        }
    }
    CHECK_SOUND(&ctx);
    CHECK_EQ_I(panics, 0);
    CHECK(vmem_release(start, reserved));
}

static void rest(void)
{
    struct buflib_stat stat;
    int many[8], n = 0;

    begin("get_size-and-next", 4096);
    CHECK_EQ_I(buflib_next(&ctx, 0), 0);
    fill(6, NULL);
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    CHECK_EQ_I(buflib_free(&ctx, 4), 0);
    for (int h = buflib_next(&ctx, 0); h != 0 && n < 8; h = buflib_next(&ctx, h))
        many[n++] = h;
    CHECK(n == 4 && many[0] == 2 && many[1] == 3 && many[2] == 5 && many[3] == 6);
    CHECK_EQ_I(buflib_next(&ctx, -5), 2);
    CHECK_EQ_I(buflib_next(&ctx, 6), 0);
    CHECK_EQ_I(buflib_next(&ctx, INT32_MAX), 0);
    CHECK_EQ_I(buflib_next(NULL, 0), 0);
    for (int h = buflib_next(&ctx, 0); h != 0; h = buflib_next(&ctx, h)) /* freeing on the way */
        CHECK_EQ_I(buflib_free(&ctx, h), 0);
    CHECK_EQ_U(stat_now().blocks, 0);
    CHECK_EQ_U(buflib_get_size(&ctx, 2), 0);
    n = buflib_alloc(&ctx, 33);
    CHECK_EQ_U(buflib_get_size(&ctx, n), 32 + W);
    CHECK(buflib_shrink(&ctx, n, (char *)buflib_get_data(&ctx, n) + 3, 10));
    CHECK_EQ_U(buflib_get_size(&ctx, n), 16 - 3);
    CHECK_EQ_U(buflib_get_size(&ctx, -1), 0);
    CHECK_EQ_U(buflib_get_size(NULL, 1), 0);
    CHECK_EQ_I(panics, 0);

    begin("an-allocation-that-compacts-shows-in-the-statistics", 1 << 14);
    fill(100, NULL);
    CHECK(!buflib_get_stat(&ctx, NULL) && !buflib_get_stat(NULL, &stat));
    stat = stat_now();
    CHECK_EQ_U(stat.worst_alloc_move, 0);
    CHECK_EQ_U(stat.blocks, 100);
    for (int i = 1; i <= 100; i += 2)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    CHECK(buflib_alloc(&ctx, stat_now().free - 200) > 0);
    stat = stat_now();
    CHECK_EQ_U(stat.moves, 50);
    CHECK(stat.worst_alloc_move == stat.moved_bytes && stat.moved_bytes >= 50 * 32);
    CHECK_EQ_U(stat.holes, 0);
}

/* What a full compaction, `shrink` or a refusal leaves for the next step and the next allocation; what `stat`, `resize`, `buffer_out` tell. */
static void after_other_calls(void)
{
    static const char *const calls[] = { "resize", "buffer_out", "allocatable", "alloc", "alloc_maximum" };
    size_t size;
    char *data;

    for (size_t n = 0; n < sizeof calls / sizeof calls[0]; n++) {
        TESTF("a-move-that-was-refused-in-%s-is-tried-again-for-an-allocation", calls[n]);
        pool = fresh_pool(&ctx, &memory, 4096);
        CHECK_EQ_I(buflib_alloc(&ctx, 2000), 1);
        CHECK_EQ_I(buflib_alloc_ex(&ctx, 500, NULL, &movable), 2);
        CHECK_EQ_I(buflib_free(&ctx, 1), 0);
        refuse = 2;
        size = 8;
        switch (n) {
        case 0: CHECK(!buflib_resize(&ctx, 2048)); break;
        case 1: CHECK(buflib_buffer_out(&ctx, &size) != NULL); break;
        case 2: CHECK(buflib_allocatable(&ctx) < 3000); break;
        case 3: CHECK_EQ_I(buflib_alloc(&ctx, 3000), -2); break;
        default:
            CHECK_EQ_I(buflib_alloc_maximum(&ctx, NULL, &size, NULL), 1);
            CHECK_EQ_I(buflib_free(&ctx, 1), 0);
            break;
        }
        refuse = 0;
        CHECK(!ctx.compact);
        CHECK(buflib_alloc(&ctx, 3000) > 0);
        CHECK_SOUND(&ctx);
    }

    begin("a-step-closes-what-shrink-leaves", 4096);
    fill(4, &movable);
    for (int i = 2; i >= 1; i--) {
        CHECK_EQ_U(buflib_compact_step(&ctx, SIZE_MAX), 0);
        data = buflib_get_data(&ctx, i);
        CHECK(i == 1 ? buflib_shrink(&ctx, i, data, 8) : buflib_shrink(&ctx, i, data + 16, 16));
        CHECK(stat_now().holes > 0);
        CHECK_EQ_U(buflib_compact_step(&ctx, SIZE_MAX), 0);
        CHECK_EQ_U(stat_now().holes, 0);
        CHECK_SOUND(&ctx);
    }

    begin("a-step-closes-what-a-compaction-leaves", 4096);
    fill(3, &movable);
    refuse = 2;
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    CHECK_EQ_U(buflib_compact_step(&ctx, SIZE_MAX), 0);
    refuse = 3;
    buflib_allocatable(&ctx);
    CHECK(stat_now().holes > 0);
    refuse = 0;
    CHECK_EQ_U(buflib_compact_step(&ctx, SIZE_MAX), 0);
    CHECK_EQ_U(stat_now().holes, 0);
    CHECK_SOUND(&ctx);

    begin("a-hole-behind-a-block-that-refuses-a-step-is-still-there", 4096);
    fill(5, &movable);
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    data = buflib_get_data(&ctx, 3);
    CHECK_EQ_I(buflib_free(&ctx, 3), 0);
    refuse = -1;
    CHECK_EQ_U(buflib_compact_step(&ctx, SIZE_MAX), 0);
    refuse = 0;
    CHECK_SOUND(&ctx);
    CHECK_EQ_I(buflib_alloc(&ctx, 32), 1);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 32, "third", NULL), 3);
    CHECK(buflib_get_data(&ctx, 3) == data);
    CHECK_SOUND(&ctx);

    begin("a-move-that-a-step-was-refused-is-tried-again-after-a-change-elsewhere", 4096);
    for (int i = 0; i < 3; i++) {
        buflib_init(&ctx, pool, pool_size);
        fill(4, &movable);
        refuse = 2;
        CHECK_EQ_I(buflib_free(&ctx, 1), 0);
        CHECK_EQ_U(buflib_compact_step(&ctx, SIZE_MAX), 0);
        refuse = asked = 0;
        CHECK_EQ_U(buflib_compact_step(&ctx, SIZE_MAX), 0);
        CHECK_EQ_I(asked, 0);
        switch (i) {
        case 0: CHECK_EQ_I(buflib_free(&ctx, 4), 0); break;
        case 1: CHECK(buflib_shrink(&ctx, 4, NULL, 8)); break;
        default: CHECK_EQ_I(buflib_alloc(&ctx, 200), 1); break;
        }
        CHECK_EQ_U(buflib_compact_step(&ctx, SIZE_MAX), 0);
        CHECK_EQ_U(stat_now().holes, 0);
        CHECK(asked > 0);
    }

    begin("stat-has-holes-and-moves", 4096);
    CHECK_EQ_I(buflib_alloc(&ctx, 2500), 1);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 32, NULL, &movable), 2);
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    CHECK_EQ_U(stat_now().holes, (2500 + W - 1) / W * W + 5 * W);
    CHECK_EQ_U(stat_now().largest_free, stat_now().holes);
    CHECK_EQ_U(stat_now().free, stat_now().holes + (size_t)((char *)ctx.last_handle - (char *)ctx.alloc_end));
    CHECK_EQ_U(stat_now().pool, stat_now().live + stat_now().free + 2 * W);
    CHECK_EQ_U(stat_now().moved_bytes, 0);
    buflib_allocatable(&ctx);
    CHECK_EQ_U(stat_now().moves, 1);
    CHECK_EQ_U(stat_now().moved_bytes, 32 + 5 * W);

    begin("resize-moves-no-block-if-all-fit", 4096);
    fill(4, &movable);
    asked = 0;
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    CHECK(buflib_resize(&ctx, 2048));
    CHECK_EQ_I(buflib_free(&ctx, 3), 0);
    CHECK_EQ_I(buflib_free(&ctx, 4), 0);
    CHECK_EQ_U((size_t)((char *)ctx.handle_table - (char *)ctx.last_handle), 3 * W);
    CHECK(buflib_resize(&ctx, (size_t)((char *)ctx.alloc_end - pool) + 2 * W)); /* without the word of handle 3, which is free */
    CHECK_EQ_I(asked, 0);
    CHECK_SOUND(&ctx);

    begin("resize-while-memory-is-out-knows-the-places-of-all-blocks-when-it-is-in-again", 1100 * W);
    for (int i = 1; i <= 12; i++)
        CHECK_EQ_I(buflib_alloc(&ctx, 45 * W), i);
    size = 300 * W;
    CHECK(buflib_buffer_out(&ctx, &size) == pool && size == 300 * W);
    CHECK(buflib_resize(&ctx, 1100 * W));
    buflib_buffer_in(&ctx, (int)size);
    CHECK(buflib_alloc_ex(&ctx, 300 * W, NULL, &buflib_ops_locked) == 13);
    CHECK(buflib_alloc_ex(&ctx, 45 * W, NULL, &buflib_ops_locked) == 14);
    for (int i = 9; i <= 13; i += 2)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    CHECK_SOUND(&ctx);
    CHECK_EQ_I(buflib_alloc(&ctx, 300 * W), 9);
    CHECK_SOUND(&ctx);

    begin("buffer_out-gives-no-more-than-there-is-beside-an-aligned-block", 4096);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 64, 8 * W, NULL, NULL), 1);
    data = buflib_get_data(&ctx, 1);
    size = 0;
    CHECK(buflib_buffer_out(&ctx, &size) == pool);
    CHECK(size > 3000 && size % (8 * W) == 0 && (char *)buflib_get_data(&ctx, 1) == data + size);
    CHECK(ctx.alloc_end <= ctx.last_handle);
    CHECK_SOUND(&ctx);
}

int main(void)
{
    PART(steps());
    PART(damage());
    PART(resizing());
    PART(growing());
    PART(rest());
    PART(after_other_calls());
    return tap_done();
}
