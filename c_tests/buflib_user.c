/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Callbacks that know their pool: two pools share them, and each call comes with its context and the program's pointer. */
#include "buflib_util.h"

struct owner {
    struct buflib_context *ctx;
    int moves, shrinks, syncs, refuse;
};

static int move(struct buflib_context *ctx, int handle, void *current, void *new_start, void *user)
{
    struct owner *owner = (struct owner *)user;

    CHECK(owner->ctx == ctx && buflib_get_data(ctx, handle) == current && (char *)new_start < (char *)current);
    owner->moves++;
    return owner->refuse ? BUFLIB_CB_CANNOT_MOVE : BUFLIB_CB_OK;
}

static int shrink(struct buflib_context *ctx, int handle, unsigned hints, void *start, size_t old_size, void *user)
{
    struct owner *owner = (struct owner *)user;

    CHECK(owner->ctx == ctx && buflib_get_data(ctx, handle) == start && buflib_get_size(ctx, handle) == old_size);
    CHECK((hints & BUFLIB_SHRINK_SIZE_MASK) > 0);
    owner->shrinks++;
    return old_size > 200 && buflib_shrink(ctx, handle, NULL, 200) ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
}

static void sync_it(struct buflib_context *ctx, int handle, bool on, void *user)
{
    struct owner *owner = (struct owner *)user;

    CHECK(owner->ctx == ctx && handle > 0);
    owner->syncs += on ? 1 : 1000;
}

int main(void)
{
    static struct buflib_context ctx[2];
    struct buflib_user_callbacks ops[2], locked = { NULL, NULL, NULL, NULL };
    struct owner owner[2];
    struct guarded memory[2];
    struct buflib_stat stat;

    TEST("two-pools-share-callbacks");
    for (int i = 0; i < 2; i++) {
        memset(&owner[i], 0, sizeof owner[i]);
        owner[i].ctx = &ctx[i];
        ops[i].move_callback = move;
        ops[i].shrink_callback = shrink;
        ops[i].sync_callback = sync_it;
        ops[i].user = &owner[i];
        buflib_init(&ctx[i], guarded_pool(&memory[i], 4096), 4096);
        CHECK_EQ_I(buflib_alloc(&ctx[i], 100), 1);
        CHECK_EQ_I(buflib_alloc_user(&ctx[i], 1000, 64, "user", &ops[i]), 2);
        CHECK_EQ_U((uintptr_t)buflib_get_data(&ctx[i], 2) % 64, 0);
        CHECK_STR(buflib_get_name(&ctx[i], 2), "user");
        CHECK_EQ_I(buflib_free(&ctx[i], 1), 0);
    }
    owner[1].refuse = 1;
    for (int i = 0; i < 2; i++) {
        CHECK(buflib_allocatable(&ctx[i]) > 0);
        CHECK_EQ_I(owner[i].moves, 1);
        CHECK_EQ_I(owner[i].syncs, 1001);
        CHECK_EQ_I(owner[i].shrinks, 0);
        CHECK_EQ_I(buflib_alloc(&ctx[i], 3300), 1);
        CHECK(owner[i].shrinks >= 1);
        CHECK_SOUND(&ctx[i]);
    }

    TEST("without-a-move_callback-the-block-is-locked-and-with-NULL-it-is-not");
    buflib_init(&ctx[0], memory[0].start, 4096);
    CHECK_EQ_I(buflib_alloc(&ctx[0], 100), 1);
    CHECK_EQ_I(buflib_alloc_user(&ctx[0], 100, 0, NULL, &locked), 2);
    CHECK_EQ_I(buflib_alloc_user(&ctx[0], 100, 0, NULL, NULL), 3);
    CHECK(buflib_get_stat(&ctx[0], &stat) && stat.locked == 1);
    CHECK_EQ_I(buflib_free(&ctx[0], 1), 0);
    while (buflib_compact_step(&ctx[0], 1000) > 0)
        ;
    CHECK(buflib_get_stat(&ctx[0], &stat) && stat.free_blocks == 1);
    CHECK_EQ_I(buflib_alloc_user(&ctx[0], 100, 3, NULL, &locked), BUFLIB_NO_MEMORY);
    CHECK_EQ_I(buflib_alloc_user(NULL, 100, 0, NULL, &locked), BUFLIB_NO_MEMORY);
    CHECK_SOUND(&ctx[0]);
    for (int i = 0; i < 2; i++)
        unguard(&memory[i]);
    return tap_done();
}
