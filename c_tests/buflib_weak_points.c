/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Cases that the original got wrong or left undefined have a defined result: the 25 known weak points, by number, and the rules behind them. */
#include "buflib_util.h"

/* An address, for printing: %p is not the same everywhere. */
#define NUMBER(pointer) ((unsigned long long)(uintptr_t)(pointer))

/* From the library, as a file compiled with DEBUG gets it. */
static void *checked_get_data(struct buflib_context *ctx, int handle);

static struct buflib_context ctx;
static struct guarded memory;
static char *pool;

static void begin(const char *name, size_t size)
{
    TEST(name);
    pool = fresh_pool(&ctx, &memory, size);
    buflib_set_panic_handler(note_panic);
    panics = 0;
}

/* The pool and the context as they are, to see that nothing changes. */
static char before_pool[1 << 17];
static struct buflib_context before_ctx;

static void remember(void)
{
    memcpy(&before_ctx, &ctx, sizeof ctx);
    memcpy(before_pool, ctx.buf_start, (size_t)((char *)ctx.handle_table - (char *)ctx.buf_start));
}

#define CHECK_UNCHANGED() \
    (CHECK_MEM(&ctx, &before_ctx, 6 * W), \
     CHECK_MEM(ctx.buf_start, before_pool, (size_t)((char *)ctx.handle_table - (char *)ctx.buf_start)))

/* ---- callbacks ---- */

static int refuse_moves, asked_to_move, asked_to_shrink, on_shrink_free;
static unsigned last_hints;
static size_t cut_front;

static int may_refuse(int handle, void *current, void *new_start)
{
    (void)handle, (void)current, (void)new_start;
    asked_to_move++;
    return refuse_moves ? BUFLIB_CB_CANNOT_MOVE : BUFLIB_CB_OK;
}

static int lies(int handle, unsigned hints, void *start, size_t size)
{
    (void)handle, (void)start, (void)size;
    last_hints = hints;
    asked_to_shrink++;
    return BUFLIB_CB_OK;
}

static int gives_front(int handle, unsigned hints, void *start, size_t size)
{
    asked_to_shrink++;
    last_hints = hints;
    if (on_shrink_free)
        return buflib_free(&ctx, handle) == 0 ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
    if (size < cut_front)
        return BUFLIB_CB_CANNOT_SHRINK;
    return buflib_shrink(&ctx, handle, (char *)start + cut_front, size - cut_front) ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
}

static struct buflib_callbacks refuser = { may_refuse, NULL, NULL };
static struct buflib_callbacks liar = { may_refuse, lies, NULL };
static struct buflib_callbacks giver = { NULL, gives_front, NULL };

/* ---- 1 to 6: bad handles ---- */

static void bad_handles(void)
{
    int a, b;

    begin("1-free-twice-returns-the-handle-and-touches-nothing", 4096);
    a = buflib_alloc(&ctx, 100);
    b = buflib_alloc(&ctx, 100);
    buflib_alloc(&ctx, 100);
    CHECK_EQ_I(buflib_free(&ctx, b), 0);
    remember();
    CHECK_EQ_I(buflib_free(&ctx, b), b);
    CHECK_UNCHANGED();
    CHECK_EQ_I(buflib_free(&ctx, 3), 0);
    remember();
    CHECK_EQ_I(buflib_free(&ctx, 3), 3);
    CHECK_UNCHANGED();
    CHECK_EQ_I(buflib_free(&ctx, a), 0);

    begin("2-free-of-0-and-of-a-negative-handle", 4096);
    buflib_alloc(&ctx, 100);
    remember();
    CHECK_EQ_I(buflib_free(&ctx, 0), 0);
    CHECK_EQ_I(buflib_free(&ctx, -1), -1);
    CHECK_EQ_I(buflib_free(&ctx, INT32_MIN), INT32_MIN);
    CHECK_UNCHANGED();

    begin("3-free-of-a-handle-never-given", 4096);
    buflib_alloc(&ctx, 100);
    remember();
    CHECK_EQ_I(buflib_free(&ctx, 77), 77);
    CHECK_EQ_I(buflib_free(&ctx, INT32_MAX), INT32_MAX);
    CHECK_UNCHANGED();

    begin("4-get_data-of-0-and-of-a-negative-handle-is-NULL", 4096);
    buflib_alloc(&ctx, 100);
    CHECK(buflib_get_data(&ctx, 0) == NULL);
    CHECK(buflib_get_data(&ctx, -3) == NULL);
    CHECK(buflib_get_data(&ctx, INT32_MIN) == NULL);
    CHECK(buflib_get_data(&ctx, INT32_MAX) == NULL);

    begin("5-get_data-of-a-freed-handle-is-NULL-also-when-blocks-grew-over-its-slot", 512);
    a = buflib_alloc(&ctx, 8);
    b = buflib_alloc(&ctx, 8);
    buflib_free(&ctx, a);
    CHECK(buflib_get_data(&ctx, a) == NULL);
    a = buflib_alloc(&ctx, 8);
    buflib_free(&ctx, b);
    CHECK(buflib_get_data(&ctx, b) == NULL);
    CHECK(buflib_shrink(&ctx, a, buflib_get_data(&ctx, a), 0));
    buflib_free(&ctx, a);
    a = buflib_alloc(&ctx, 512 - 6 * W);
    CHECK(a == 1);
    memset(buflib_get_data(&ctx, a), 0x55, 512 - 6 * W);
    CHECK(buflib_get_data(&ctx, b) == NULL);

    begin("6-get_name-of-a-freed-handle-is-NULL", 4096);
    a = buflib_alloc_ex(&ctx, 100, "name", NULL);
    buflib_alloc(&ctx, 100);
    CHECK_STR(buflib_get_name(&ctx, a), "name");
    buflib_free(&ctx, a);
    CHECK(buflib_get_name(&ctx, a) == NULL);
    CHECK(buflib_get_name(&ctx, 0) == NULL);
    CHECK(buflib_get_name(&ctx, -5) == NULL);

    begin("shrink-and-pin-refuse-bad-handles", 4096);
    a = buflib_alloc(&ctx, 100);
    buflib_alloc(&ctx, 100);
    buflib_free(&ctx, a);
    remember();
    for (int i = -1; i <= 3; i += i == 1 ? 2 : 1) {
        CHECK(!buflib_shrink(&ctx, i, pool, 0));
        CHECK(!buflib_shrink(&ctx, i, NULL, 0));
        panics = 0;
        buflib_pin(&ctx, i);
        CHECK_EQ_I(panics, 1);
        CHECK_STR_CONTAINS(panic_message, "invalid handle access");
        buflib_unpin(&ctx, i);
        CHECK_EQ_I(panics, 2);
        CHECK_STR_CONTAINS(panic_message, "invalid handle access");
        panics = 0;
        CHECK_EQ_U(buflib_pin_count(&ctx, i), 0);
        CHECK(buflib_get_data_pinned(&ctx, i) == NULL);
    }
    buflib_put_data_pinned(&ctx, NULL);
    buflib_put_data_pinned(&ctx, &a);
    buflib_put_data_pinned(&ctx, pool + 8);
    CHECK_UNCHANGED();
    CHECK_EQ_I(panics, 0);

    begin("the-exported-get_data-panics-on-bad-handles", 4096);
    a = buflib_alloc(&ctx, 100);
    CHECK(checked_get_data(&ctx, a) == buflib_get_data(&ctx, a));
    CHECK_EQ_I(panics, 0);
    CHECK(checked_get_data(&ctx, -3) == NULL);
    CHECK_EQ_I(panics, 1);
    CHECK_STR_CONTAINS(panic_message, "invalid handle access: -3");
    buflib_free(&ctx, a);
    CHECK(checked_get_data(&ctx, a) == NULL);
    CHECK_EQ_I(panics, 2);
}

/* The exported function has the name of the inline one: found by the dynamic way, it would need -ldl, so by an alias. */
extern void *exported_get_data(struct buflib_context *, int) __asm__("buflib_get_data");
static void *checked_get_data(struct buflib_context *c, int handle)
{
    return exported_get_data(c, handle);
}

/* ---- 7 to 11: sizes ---- */

static void sizes(void)
{
    size_t size;
    int a;

    begin("7-all-handles-free-and-the-table-not-yet-shrunk", 4096);
    for (int i = 0; i < 10; i++)
        buflib_alloc(&ctx, 10);
    for (int i = 1; i <= 10; i++)
        buflib_free(&ctx, i);
    CHECK(table_size(&ctx) > 0);
    CHECK_EQ_U(buflib_allocatable(&ctx), 4096 - 21 * W - 16);
    CHECK(ctx.last_handle == ctx.handle_table);
    for (int i = 0; i < 10; i++)
        buflib_alloc(&ctx, 10);
    for (int i = 1; i <= 10; i++)
        buflib_free(&ctx, i);
    size = 0;
    CHECK(buflib_buffer_out(&ctx, &size) == pool);
    CHECK_EQ_U(size, 4096);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), -2);
    buflib_buffer_in(&ctx, (int)size);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, "all", &size, NULL), 1);
    CHECK_EQ_U(size, 4096 - 21 * W - 16);
    CHECK_SOUND(&ctx);

    begin("8-sizes-next-to-SIZE_MAX-are-refused", 4096);
    remember();
    for (size = 0; size < 64; size++) {
        CHECK_EQ_I(buflib_alloc(&ctx, SIZE_MAX - size), -2);
        CHECK_EQ_I(buflib_alloc_ex(&ctx, SIZE_MAX / 2 - size, "name", &liar), -2);
        CHECK_EQ_I(buflib_alloc_aligned(&ctx, SIZE_MAX - size, 64, "name", &liar), -2);
    }
    CHECK_UNCHANGED();

    TEST("9-an-allocation-larger-than-a-pool-of-24-GiB");
    if (WIDE) {
        size_t bytes = (size_t)24 << 30;
        char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED) {
            SKIP("not so much address space");
        } else {
            buflib_init(&ctx, map, bytes);
            CHECK_EQ_I(buflib_alloc(&ctx, (size_t)30 << 30), -2);
            a = buflib_alloc(&ctx, (size_t)20 << 30);
            CHECK_EQ_I(a, 1);
            CHECK((char *)ctx.alloc_end == map + ((size_t)20 << 30) + 5 * W);
            CHECK_EQ_I(buflib_alloc(&ctx, (size_t)3 << 30), 2);
            buflib_free(&ctx, a);
            CHECK_EQ_I(buflib_alloc(&ctx, 100), 1);
            CHECK_EQ_I(buflib_alloc(&ctx, (size_t)19 << 30), 3);
            CHECK_SOUND(&ctx);
            munmap(map, bytes);
        }
    } else {
        SKIP("64-bit only");
    }

    TEST("10-pools-of-33-and-40-GiB");
    if (WIDE) {
        for (size_t gib = 33; gib <= 40; gib += 7) {
            size_t bytes = gib << 30;
            char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (map == MAP_FAILED) {
                SKIP("not so much address space");
                continue;
            }
            buflib_init(&ctx, map, bytes);
            CHECK_EQ_I(buflib_alloc(&ctx, (size_t)2 << 30), 1);
            for (int i = 0; i < 7; i++)
                CHECK_EQ_I(buflib_alloc(&ctx, (size_t)4 << 30), i + 2);
            CHECK_SOUND(&ctx);
            munmap(map, bytes);
        }
    } else {
        SKIP("64-bit only");
    }

    TEST("11-a-hint-above-30-bits-saturates");
    if (WIDE) {
        size_t bytes = (size_t)3 << 30;
        char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED) {
            SKIP("not so much address space");
        } else {
            buflib_init(&ctx, map, bytes);
            CHECK(buflib_alloc_ex(&ctx, (size_t)2 << 30, NULL, &liar) == 1);
            CHECK_EQ_I(buflib_alloc(&ctx, ((size_t)2 << 30) - 40), -2);
            CHECK_EQ_U(last_hints, BUFLIB_SHRINK_POS_FRONT | BUFLIB_SHRINK_SIZE_MASK);
            munmap(map, bytes);
        }
    } else {
        SKIP("64-bit only");
    }

    begin("an-allocation-larger-than-the-pool-asks-no-shrinker", 4096);
    buflib_alloc_ex(&ctx, 100, NULL, &liar);
    asked_to_shrink = 0;
    CHECK_EQ_I(buflib_alloc(&ctx, 4097), -2);
    CHECK_EQ_I(asked_to_shrink, 0);
    CHECK_EQ_I(buflib_alloc(&ctx, 4000), -2);
    CHECK_EQ_I(asked_to_shrink, 1);
}

/* ---- 12 to 16: compaction ---- */

static void compaction(void)
{
    size_t size, half;
    int a, b;

    begin("12-a-shrink-that-leaves-a-hole-is-compacted-away", 4096);
    a = buflib_alloc(&ctx, 2000);
    buflib_alloc(&ctx, 1000);
    CHECK(ctx.compact);
    CHECK(buflib_shrink(&ctx, a, buflib_get_data(&ctx, a), 500));
    CHECK(!ctx.compact);
    CHECK_EQ_I(buflib_alloc(&ctx, 2000), 3);
    CHECK_SOUND(&ctx);
    begin("12-a-shrink-at-the-end-leaves-nothing-to-compact", 4096);
    buflib_alloc(&ctx, 1000);
    a = buflib_alloc(&ctx, 2000);
    CHECK(buflib_shrink(&ctx, a, buflib_get_data(&ctx, a), 500));
    CHECK(ctx.compact);
    CHECK_EQ_I(buflib_alloc(&ctx, 2000), 3);

    begin("13-a-move-that-was-refused-is-tried-again", 4096);
    a = buflib_alloc(&ctx, 1500);
    b = buflib_alloc_ex(&ctx, 1000, NULL, &refuser);
    buflib_free(&ctx, a);
    CHECK_EQ_I(buflib_alloc(&ctx, 100), a);
    refuse_moves = 1;
    CHECK_EQ_I(buflib_alloc(&ctx, 2500), -2);
    CHECK(!ctx.compact);
    refuse_moves = 0;
    CHECK_EQ_I(buflib_alloc(&ctx, 2500), 3);
    CHECK(ctx.compact);
    CHECK_SOUND(&ctx);
    begin("13-the-same-with-a-pin", 4096);
    a = buflib_alloc(&ctx, 1500);
    b = buflib_alloc(&ctx, 1000);
    buflib_free(&ctx, a);
    buflib_pin(&ctx, b);
    CHECK_EQ_I(buflib_alloc(&ctx, 2500), -2);
    CHECK(!ctx.compact);
    buflib_unpin(&ctx, b);
    CHECK_EQ_I(buflib_alloc(&ctx, 2500), 1);
    begin("13-locked-blocks-do-not-count", 4096);
    a = buflib_alloc(&ctx, 1500);
    buflib_alloc_ex(&ctx, 1000, NULL, &buflib_ops_locked);
    buflib_free(&ctx, a);
    CHECK(buflib_allocatable(&ctx) > 0);
    CHECK(ctx.compact);

    begin("14-a-shrink-callback-without-progress-counts-as-CANNOT_SHRINK", 4096);
    buflib_alloc_ex(&ctx, 2000, NULL, &liar);
    asked_to_shrink = 0;
    CHECK_EQ_I(buflib_alloc(&ctx, 3000), -2);
    CHECK_EQ_I(asked_to_shrink, 1);
    CHECK(buflib_alloc_maximum(&ctx, "max", &size, NULL) == 2);
    CHECK_EQ_I(asked_to_shrink, 2);
    begin("14-one-byte-off-the-start-is-progress", 4096);
    buflib_alloc_ex(&ctx, 2000, NULL, &giver);
    asked_to_shrink = 0;
    cut_front = 1;
    CHECK_EQ_I(buflib_alloc(&ctx, 3000), -2);
    CHECK_EQ_I(asked_to_shrink, 2001);
    CHECK_SOUND(&ctx);
    begin("14-a-callback-may-free-its-block", 4096);
    buflib_alloc_ex(&ctx, 2000, NULL, &giver);
    buflib_alloc_ex(&ctx, 1000, NULL, &giver);
    asked_to_shrink = 0;
    on_shrink_free = 1;
    CHECK_EQ_I(buflib_alloc(&ctx, 3000), 3);
    CHECK_EQ_I(asked_to_shrink, 2);
    CHECK_SOUND(&ctx);
    on_shrink_free = 0;

    for (half = 0; half < 2; half++) {
        begin(half ? "15-alloc_maximum-takes-an-inner-hole" : "15-allocatable-of-an-inner-hole-is-granted", 4096);
        a = buflib_alloc(&ctx, 2000);
        buflib_alloc_ex(&ctx, 4096 - 2000 - 12 * W - 200, NULL, &buflib_ops_locked);
        buflib_free(&ctx, a);
        CHECK_EQ_U(buflib_allocatable(&ctx), 2000);
        if (half) {
            CHECK_EQ_I(buflib_alloc_maximum(&ctx, "max", &size, NULL), 1);
            CHECK_EQ_U(size, 2000 - W);
        } else {
            CHECK_EQ_I(buflib_alloc(&ctx, 2000), 1);
        }
        CHECK((char *)buflib_get_data(&ctx, 1) < pool + 100);
        CHECK_SOUND(&ctx);
    }
    begin("15-allocatable-is-0-without-a-handle", 64 * W);
    a = buflib_alloc(&ctx, 30 * W);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 22 * W, NULL, &buflib_ops_locked), 2);
    CHECK(ctx.alloc_end == ctx.last_handle);
    CHECK(buflib_shrink(&ctx, a, buflib_get_data(&ctx, a), 10 * W));
    CHECK_EQ_U(buflib_available(&ctx), 20 * W);
    CHECK_EQ_U(buflib_allocatable(&ctx), 0);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), -1);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, "none", &size, NULL), -1);
    CHECK_EQ_U(size, 0);
    CHECK_SOUND(&ctx);

    begin("15-allocatable-counts-no-room-that-a-block-would-move-into", 400 * W);
    a = buflib_alloc(&ctx, 95 * W);
    buflib_alloc_ex(&ctx, 15 * W, NULL, &refuser);
    b = buflib_alloc(&ctx, 35 * W);
    buflib_alloc_ex(&ctx, W, NULL, &buflib_ops_locked);
    buflib_alloc_ex(&ctx, 75 * W, NULL, &refuser);
    buflib_alloc_ex(&ctx, W, NULL, &buflib_ops_locked);
    buflib_alloc_ex(&ctx, 125 * W, NULL, &buflib_ops_locked);
    buflib_free(&ctx, a);
    buflib_free(&ctx, b);
    refuse_moves = 1;
    size = buflib_allocatable(&ctx);
    CHECK_EQ_U(size, 95 * W); /* not those 100 and 40 words together */
    refuse_moves = 0;
    CHECK_EQ_I(buflib_alloc(&ctx, size), 1);
    CHECK_SOUND(&ctx);

    for (int between = 0; between < 3; between++) {
        begin("15-allocatable-adds-what-is-free-on-both-sides-of-a-block-that-refused", 4096);
        a = buflib_alloc(&ctx, 100 * W);
        b = between < 2 ? buflib_alloc_ex(&ctx, 3 * W, NULL, &refuser) : buflib_alloc_aligned(&ctx, 3 * W, W, NULL, &refuser);
        CHECK_EQ_I(buflib_alloc(&ctx, 100 * W), 3);
        buflib_alloc_ex(&ctx, ctx.last_handle - ctx.alloc_end > 20 ? (size_t)(ctx.last_handle - ctx.alloc_end - 20) * W : 0, NULL,
                        &buflib_ops_locked);
        buflib_free(&ctx, a);
        buflib_free(&ctx, 3);
        refuse_moves = 1;
        if (between == 1)
            buflib_pin(&ctx, b);
        CHECK_EQ_U(buflib_allocatable(&ctx), between == 1 ? 100 * W : 205 * W); /* a pinned one can't agree */
        CHECK_EQ_U(buflib_allocatable(&ctx), between == 1 ? 100 * W : 205 * W);
        refuse_moves = 0;
        CHECK_EQ_I(buflib_alloc(&ctx, between == 1 ? 100 * W : 205 * W), a);
        CHECK_SOUND(&ctx);
    }

    begin("16-alloc_maximum-with-name-NULL", 4096);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, NULL, &size, NULL), 1);
    CHECK_EQ_U(size, 4096 - 21 * W - 16);
    CHECK(buflib_get_name(&ctx, 1) == NULL);
    begin("16-alloc_maximum-cuts-the-name-to-15-characters", 4096);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, "123456789012345678", &size, NULL), 1);
    CHECK_STR(buflib_get_name(&ctx, 1), "123456789012345");
}

/* ---- 17 to 20: relocation, re-entry, printing ---- */

static int tried;

/* Declared for DEBUG and BUFLIB_DEBUG_BLOCKS only, and always there. */
void buflib_print_blocks(struct buflib_context *, void (*)(int, const char *));
void buflib_print_allocs(struct buflib_context *, void (*)(int, const char *));
void buflib_check_valid(struct buflib_context *);

static void print_no_more(int number, const char *text)
{
    (void)number, (void)text;
    CHECK(!"called in a callback");
}

static void try_everything(int own, int in_shrink)
{
    size_t size = 0;
    char text[100] = "x";
    struct buflib_stat stat;

    tried++;
    remember();
    CHECK_EQ_I(buflib_alloc(&ctx, 1), -3);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 1, 64, NULL, NULL), -3);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, "m", &size, NULL), -3);
    for (int handle = 2; handle <= own && !in_shrink; handle++) {
        CHECK_EQ_I(buflib_free(&ctx, handle), -3);
        CHECK(!buflib_shrink(&ctx, handle, buflib_get_data(&ctx, handle), 0));
        CHECK(!buflib_shrink(&ctx, handle, NULL, 0));
    }
    for (int bad = -1; bad <= 1; bad++)
        CHECK_EQ_I(buflib_free(&ctx, bad), in_shrink ? bad : -3);
    CHECK_EQ_I(buflib_free(&ctx, INT32_MIN), in_shrink ? INT32_MIN : -3);
    CHECK(!buflib_shrink(&ctx, 1, buflib_get_data(&ctx, 2), 0));
    CHECK(!buflib_context_relocate(&ctx, pool));
    CHECK_EQ_U(buflib_allocatable(&ctx), 0);
    CHECK_EQ_U(buflib_compact_step(&ctx, 100), 0);
    CHECK(!buflib_get_stat(&ctx, &stat));
    CHECK(!buflib_resize(&ctx, 4000));
    CHECK(buflib_get_size(&ctx, own) > 0);
    CHECK_EQ_I(buflib_next(&ctx, 1), 2);
    CHECK(buflib_buffer_out(&ctx, &size) == NULL);
    CHECK_EQ_U(size, 0);
    buflib_buffer_in(&ctx, 0);
    buflib_pin(&ctx, own);
    CHECK_EQ_U(buflib_pin_count(&ctx, own), 0);
    CHECK(buflib_get_data_pinned(&ctx, own) == NULL);
    CHECK_EQ_I(buflib_get_num_blocks(&ctx), 0);
    buflib_print_block_at(&ctx, 0, text, sizeof text);
    CHECK_STR(text, "");
    buflib_print_allocs(&ctx, print_no_more);
    CHECK(!buflib_check(&ctx, NULL, NULL));
    CHECK(buflib_get_data(&ctx, own) != NULL);
    CHECK_STR(buflib_get_name(&ctx, own), "own");
    CHECK_STR(buflib_get_name(&ctx, 2), "two");
    CHECK(buflib_available(&ctx) > 0);
    CHECK_EQ_I(panics, 0);
    CHECK_UNCHANGED();
}

static int tries_move(int handle, void *current, void *new_start)
{
    (void)new_start;
    CHECK(buflib_get_data(&ctx, handle) == current);
    try_everything(handle, 0);
    return BUFLIB_CB_OK;
}

static void tries_sync(int handle, bool on)
{
    (void)on;
    try_everything(handle, 0);
}

static int tries_shrink(int handle, unsigned hints, void *start, size_t size)
{
    (void)hints;
    try_everything(handle, 1);
    if (size > 900) {
        CHECK(buflib_shrink(&ctx, handle, (char *)start + 100, size - 100));
        CHECK(buflib_get_data(&ctx, handle) == (char *)start + 100);
    } else {
        CHECK_EQ_I(buflib_free(&ctx, handle), 0);
        CHECK_EQ_I(buflib_free(&ctx, handle), handle);
    }
    return BUFLIB_CB_OK;
}

static struct buflib_callbacks trier = { tries_move, tries_shrink, tries_sync };

static char printed[4000];
static int prints;

static void print(int number, const char *text)
{
    CHECK_EQ_I(number, prints);
    prints++;
    strcat(printed, text);
    strcat(printed, "\n");
}

static void the_rest(void)
{
    struct guarded other;
    char *to, text[200], want[400];
    size_t size;
    int a, b;

    begin("17-a-compaction-after-context_relocate", 8192);
    for (int i = 0; i < 4; i++) {
        buflib_alloc_ex(&ctx, 300, i == 2 ? "three" : NULL, NULL);
        memset(buflib_get_data(&ctx, i + 1), 'a' + i, 300);
    }
    buflib_free(&ctx, 1);
    to = guarded_pool(&other, 8192);
    CHECK(buflib_context_relocate(&ctx, to));
    memcpy(to, pool, 8192);
    unguard(&memory);
    memory = other;
    pool = to;
    CHECK_SOUND(&ctx);
    CHECK_EQ_I(buflib_alloc(&ctx, 100), 1);
    buflib_free(&ctx, 2);
    CHECK(buflib_allocatable(&ctx) > 0);
    for (int i = 2; i < 4; i++) {
        char *data = buflib_get_data(&ctx, i + 1);
        CHECK(data >= pool && data[0] == 'a' + i && data[299] == 'a' + i);
        CHECK(buflib_shrink(&ctx, i + 1, data + 1, 10));
    }
    CHECK_STR(buflib_get_name(&ctx, 3), "three");
    CHECK_SOUND(&ctx);

    begin("18-relocation-to-a-misaligned-place-is-refused", 4096);
    a = buflib_alloc(&ctx, 100);
    remember();
    to = guarded_pool(&other, 8192);
    for (size_t i = 1; i < W; i++)
        CHECK(!buflib_context_relocate(&ctx, to + i));
    CHECK(!buflib_context_relocate(&ctx, NULL));
    CHECK(!buflib_context_relocate(&ctx, (char *)UINTPTR_MAX - 15));
    buflib_pin(&ctx, a);
    CHECK(!buflib_context_relocate(&ctx, to));
    buflib_unpin(&ctx, a);
    CHECK_UNCHANGED();
    size = 512;
    CHECK(buflib_buffer_out(&ctx, &size) == pool);
    CHECK(!buflib_context_relocate(&ctx, to));
    buflib_buffer_in(&ctx, 512);
    b = buflib_alloc_aligned(&ctx, 100, 64, NULL, NULL);
    CHECK(b > 0);
    CHECK(!buflib_context_relocate(&ctx, to + W));
    CHECK(buflib_context_relocate(&ctx, to));
    memcpy(to, pool, 4096);
    CHECK_SOUND(&ctx);
    CHECK_EQ_U((uintptr_t)buflib_get_data(&ctx, b) % 64, 0);
    unguard(&other);

    begin("19-inside-a-callback-nothing-can-be-changed", 4096);
    buflib_alloc(&ctx, 100);
    buflib_alloc_ex(&ctx, 100, "two", NULL);
    a = buflib_alloc_ex(&ctx, 1000, "own", &trier);
    buflib_free(&ctx, 1);
    tried = 0;
    CHECK(buflib_allocatable(&ctx) > 0);
    CHECK_EQ_I(tried, 3);
    CHECK_EQ_I(buflib_alloc(&ctx, 3600), 1);
    CHECK(tried > 5);
    CHECK(buflib_get_data(&ctx, a) == NULL);
    CHECK_SOUND(&ctx);

    begin("20-printing-with-a-block-without-a-name", 4096);
    buflib_alloc_ex(&ctx, 100, "named", NULL);
    a = buflib_alloc(&ctx, 100);
    buflib_alloc(&ctx, 10);
    prints = 0;
    printed[0] = '\0';
    buflib_print_allocs(&ctx, print);
    CHECK_EQ_I(prints, 3);
    snprintf(want, sizeof want, "named(1):\t%#llx\n   \t%#llx\n   \t%d\n\n<anonymous>(2):\t%#llx\n", NUMBER(ctx.buf_start),
             NUMBER(buflib_get_data(&ctx, 1)), (int)(ctx.buf_start[0] * (intptr_t)W), NUMBER(ctx.buf_start + ctx.buf_start[0]));
    printed[strlen(want)] = '\0';
    CHECK_STR(printed, want);
    buflib_free(&ctx, 1);
    prints = 0;
    printed[0] = '\0';
    buflib_print_blocks(&ctx, print);
    CHECK_EQ_I(prints, 3);
    buflib_print_block_at(&ctx, 0, text, sizeof text);
    snprintf(want, sizeof want, "%#8llx: val: %4d (<unallocated>)", NUMBER(ctx.buf_start), (int)ctx.buf_start[0]);
    CHECK_STR(text, want);
    CHECK_MEM(printed, want, strlen(want));
    buflib_print_block_at(&ctx, 1, text, sizeof text);
    CHECK_STR_CONTAINS(text, WIDE ? ":   18 (<anonymous>)" + 1 : "(<anonymous>)");
    buflib_print_block_at(&ctx, 1, text, 5);
    CHECK_EQ_U(strlen(text), 4);
    buflib_print_block_at(&ctx, 3, text, sizeof text);
    CHECK_STR(text, "");
    buflib_print_block_at(&ctx, -1, text, sizeof text);
    CHECK_STR(text, "");
    text[0] = 'x';
    buflib_print_block_at(&ctx, 0, text, 0);
    buflib_print_block_at(&ctx, 0, NULL, 10);
    CHECK(text[0] == 'x');
    CHECK_EQ_I(buflib_get_num_blocks(&ctx), 3);
}

/* ---- 21 to 25: damage ---- */

/* What buflib_check says. */
static struct {
    int count;
    const void *first;
    char text[200];
} seen;

static void see_damage(void *user, const void *block, const char *what)
{
    CHECK(user == &seen);
    if (seen.count++ == 0) {
        seen.first = block;
        snprintf(seen.text, sizeof seen.text, "%s", what);
    }
}

static void damage(void)
{
    static const intptr_t lengths[] = { 0, 5000 };
    intptr_t *next, saved;
    int a, b, c;

    for (int kind = 0; kind < 6; kind++) {
        static const char *const names[] = { "0", "5000", "one-more", "an-x", "negated", "that-of-one-free-word" };
        char name[80];
        snprintf(name, sizeof name, kind >= 4 ? "22-a-length-that-is-%s" : "21-a-length-that-is-%s", names[kind]);
        begin(name, 4096);
        a = buflib_alloc(&ctx, 100);
        b = buflib_alloc(&ctx, 100);
        c = buflib_alloc(&ctx, 100);
        next = ctx.buf_start + ctx.buf_start[0];
        saved = *next;
        if (kind < 2)
            *next = lengths[kind];
        else if (kind == 2)
            *next += 1;
        else if (kind == 3)
            *(char *)next = 'x';
        else
            *next = kind == 4 ? -*next : -1;
        remember();
        CHECK_EQ_I(buflib_free(&ctx, a), -3);
        CHECK_EQ_I(panics, 1);
        CHECK_STR_CONTAINS(panic_message, "buflib error (CTX:");
        CHECK_STR_CONTAINS(panic_message, "4096 bytes):\nbuflib metadata corrupted");
        CHECK_EQ_I(buflib_free(&ctx, b), -3);
        CHECK(!buflib_shrink(&ctx, a, buflib_get_data(&ctx, a), 10));
        CHECK(buflib_get_name(&ctx, b) == NULL);
        buflib_check_valid(&ctx);
        CHECK_EQ_I(panics, 5);
        CHECK_UNCHANGED();
        CHECK(!buflib_check(&ctx, NULL, NULL));
        CHECK_EQ_I(panics, 5);
        ctx.compact = false;
        CHECK_EQ_U(buflib_allocatable(&ctx), 0);
        CHECK_EQ_I(panics, 6);
        *next = saved;
        ctx.compact = true;
        CHECK_SOUND(&ctx);
        CHECK_EQ_I(buflib_free(&ctx, c), 0);
        CHECK_EQ_I(buflib_free(&ctx, a), 0);
        CHECK_EQ_I(buflib_free(&ctx, b), 0);
    }

    for (int word = 1; word <= 3; word++) {
        static const char *const names[] = { "23-a-handle-pointer-overwritten", "24-the-ops-pointer-overwritten",
                                             "24-the-name-overwritten" };
        begin(names[word - 1], 4096);
        a = buflib_alloc(&ctx, 100);
        b = buflib_alloc_ex(&ctx, 100, "name", NULL);
        next = ctx.buf_start + ctx.buf_start[0];
        next[word] ^= 0x58;
        buflib_free(&ctx, a);
        CHECK_EQ_I(panics, 1);
        CHECK_EQ_I(buflib_free(&ctx, b), -3);
        CHECK_EQ_I(panics, 2);
        ctx.compact = false;
        CHECK_EQ_I(buflib_alloc(&ctx, 4000), -3);
        CHECK_EQ_I(panics, 3);
        CHECK(word < 2 || strstr(panic_message, "expected: 0x") != NULL);
        next[word] ^= 0x58;
        CHECK_SOUND(&ctx);
    }

    for (int call = 0; call < 2; call++) {
        size_t size = 1;
        begin(call ? "no-shrink-callback-is-asked-by-alloc_maximum-in-a-damaged-pool" : "no-shrink-callback-is-asked-in-a-damaged-pool", 4096);
        buflib_alloc_ex(&ctx, 1000, NULL, &giver);
        buflib_alloc(&ctx, 64);
        c = buflib_alloc(&ctx, 64);
        next = (intptr_t *)buflib_get_data(&ctx, c) - 3;
        *next ^= 0x10;
        asked_to_shrink = 0;
        cut_front = 500;
        remember();
        CHECK_EQ_I(call ? buflib_alloc_maximum(&ctx, "max", &size, NULL) : buflib_alloc(&ctx, 3000), -3);
        CHECK_EQ_I(asked_to_shrink, 0);
        CHECK_EQ_I(panics, 1);
        CHECK(ctx.alloc_end == before_ctx.alloc_end && ctx.last_handle == before_ctx.last_handle && ctx.compact);
        CHECK_MEM(pool, before_pool, 4096);
        *next ^= 0x10;
        CHECK_SOUND(&ctx);
    }

    begin("check-reports-damage-with-its-place-and-a-text", 4096);
    {
        void *end;

        buflib_alloc(&ctx, 100);
        b = buflib_alloc(&ctx, 100);
        end = ctx.alloc_end;
        next = (intptr_t *)buflib_get_data(&ctx, b) - 3;
        *next ^= 0x10;
        memset(&seen, 0, sizeof seen);
        CHECK(!buflib_check(&ctx, see_damage, &seen));
        CHECK(seen.count > 0 && (char *)seen.first >= pool && (char *)seen.first < pool + 4096);
        CHECK_STR_CONTAINS(seen.text, "corrupted");
        CHECK(!buflib_check(&ctx, NULL, NULL));
        *next ^= 0x10;
        CHECK_SOUND(&ctx);
        memset(&seen, 0, sizeof seen);
        ctx.alloc_end = (void *)(pool + 8192);
        CHECK(!buflib_check(&ctx, see_damage, &seen));
        CHECK_EQ_I(seen.count, 1);
        CHECK_STR_CONTAINS(seen.text, "the context is damaged");
        ctx.alloc_end = end;
        CHECK_SOUND(&ctx);
        CHECK_EQ_I(panics, 0);
    }

    begin("check-reports-one-damaged-word-of-a-free-block-once", 4096);
    {
        unsigned word, length, reported = 0;

        buflib_alloc(&ctx, 100);
        b = buflib_alloc(&ctx, 200);
        buflib_alloc(&ctx, 100);
        next = ctx.buf_start + ctx.buf_start[0];
        CHECK_EQ_I(buflib_free(&ctx, b), 0);
        length = (unsigned)-*next;
        CHECK(length > 20);
        for (word = 1; word < length; word++) { /* word 0 is the length, without which the next block can't be found */
            memset(&seen, 0, sizeof seen);
            next[word] ^= 0x10;
            buflib_check(&ctx, see_damage, &seen);
            next[word] ^= 0x10;
            CHECK(seen.count <= 1);
            if (seen.count > 0)
                CHECK((const intptr_t *)seen.first >= next && (const intptr_t *)seen.first <= next + length);
            reported += (unsigned)seen.count;
        }
        CHECK(reported >= 2); /* where others say what they are */
        CHECK_SOUND(&ctx);
        CHECK_EQ_I(panics, 0);
    }

    begin("without-a-panic-handler-the-program-aborts", 4096);
    {
#ifdef _WIN32
        int status = run_self("abort");

        CHECK(status != 0 && status != 2);
#else
        int status;
        pid_t child;
        a = buflib_alloc(&ctx, 100);
        *ctx.buf_start = 5000;
        fflush(stdout);
        child = fork();
        if (child == 0) {
            buflib_set_panic_handler(NULL);
            if (freopen("/dev/null", "w", stderr) == NULL)
                _exit(2);
            buflib_free(&ctx, a);
            _exit(0);
        }
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
#endif
    }

    TEST("25-init-with-less-than-a-word");
    {
        char small[64];
        size_t size;
        panics = 0;
        for (size = 0; size < 2 * W; size++) {
            for (size_t skew = 0; skew < W; skew++) {
                memset(small, 0x55, sizeof small);
                buflib_init(&ctx, small + 16 + skew, size);
                CHECK_EQ_I(buflib_alloc(&ctx, 0), -2);
                CHECK_EQ_U(buflib_available(&ctx), 0);
                CHECK_EQ_U(buflib_allocatable(&ctx), 0);
                for (size_t i = 0; i < sizeof small; i++)
                    CHECK(small[i] == 0x55);
            }
        }
        buflib_init(&ctx, NULL, 4096);
        CHECK_EQ_I(buflib_alloc(&ctx, 0), -2);
        CHECK_EQ_I(buflib_alloc_maximum(&ctx, "x", &size, NULL), -1);
        CHECK_EQ_U(size, 0);
        CHECK(buflib_check(&ctx, NULL, NULL));
        buflib_init(&ctx, small + 3, 32);
        CHECK_EQ_I(ctx.handle_table - ctx.buf_start, WIDE ? 3 : 7);
        CHECK_EQ_I(panics, 0);
    }
}

/* ---- pins and alignment, and memory taken out ---- */

static void additions(void)
{
    char *data;
    size_t size;
    int a, b, c;

    begin("a-pinned-block-stays-and-may-shrink", 4096);
    a = buflib_alloc(&ctx, 500);
    b = buflib_alloc_ex(&ctx, 1000, NULL, &giver);
    data = buflib_get_data_pinned(&ctx, b);
    buflib_pin(&ctx, b);
    CHECK_EQ_U(buflib_pin_count(&ctx, b), 2);
    buflib_free(&ctx, a);
    asked_to_shrink = 0;
    cut_front = 1000;
    CHECK(buflib_allocatable(&ctx) > 0);
    CHECK(buflib_get_data(&ctx, b) == data);
    CHECK(buflib_alloc(&ctx, 4096 - 20 * W) == -2);
    CHECK_EQ_I(asked_to_shrink, 2); /* it gave all at first */
    size = 0;
    CHECK(buflib_buffer_out(&ctx, &size) == NULL && size == 0);
    data = buflib_get_data(&ctx, b);
    buflib_put_data_pinned(&ctx, data);
    buflib_unpin(&ctx, b);
    buflib_unpin(&ctx, b);
    CHECK_EQ_U(buflib_pin_count(&ctx, b), 0);
    buflib_pin(&ctx, b);
    CHECK_EQ_I(buflib_free(&ctx, b), 0);
    CHECK_EQ_I(buflib_alloc(&ctx, 100), a);
    CHECK_EQ_I(buflib_alloc(&ctx, 100), b);
    CHECK_EQ_U(buflib_pin_count(&ctx, b), 0);
    CHECK(buflib_buffer_out(&ctx, &size) != NULL);
    CHECK_SOUND(&ctx);

    for (int named = 0; named < 2; named++) {
        int most = 4095;

        begin(named ? "no-pin-is-lost-with-a-name" : "no-pin-is-lost", 4096);
        a = buflib_alloc(&ctx, 100);
        b = buflib_alloc_ex(&ctx, 100, named ? "a name" : NULL, NULL);
        data = buflib_get_data(&ctx, b);
        for (c = 0; c < most; c++) {
            CHECK_EQ_U(buflib_pin_count(&ctx, b), c);
            buflib_pin(&ctx, b);
            if (c % 64 > 61)
                CHECK_SOUND(&ctx);
        }
        CHECK_EQ_I(panics, 0);
        if (!WIDE) { /* as many as can be counted there */
            buflib_pin(&ctx, b);
            CHECK_EQ_I(panics, 1);
            CHECK_STR_CONTAINS(panic_message, "too many pins");
            CHECK(buflib_get_data_pinned(&ctx, b) == NULL);
            CHECK_EQ_I(panics, 2);
            panics = 0;
        }
        CHECK_EQ_I(buflib_free(&ctx, a), 0);
        CHECK(!named || strcmp(buflib_get_name(&ctx, b), "a name") == 0);
        for (c = most; c > 0; c--) {
            CHECK_EQ_U(buflib_pin_count(&ctx, b), c);
            buflib_allocatable(&ctx);
            CHECK(buflib_get_data(&ctx, b) == data);
            buflib_unpin(&ctx, b);
        }
        CHECK_SOUND(&ctx);
        CHECK_EQ_I(panics, 0);
        remember();
        buflib_unpin(&ctx, b);
        CHECK_EQ_I(panics, 1);
        CHECK_STR_CONTAINS(panic_message, "unpin without a pin");
        buflib_put_data_pinned(&ctx, data);
        CHECK_EQ_I(panics, 2);
        CHECK_UNCHANGED();
        CHECK_EQ_U(buflib_pin_count(&ctx, b), 0);
        buflib_allocatable(&ctx);
        CHECK((char *)buflib_get_data(&ctx, b) < data);
        CHECK_SOUND(&ctx);
    }

    begin("300-pins-and-256-unpins-leave-44", 4096);
    b = buflib_alloc(&ctx, 100);
    for (c = 0; c < 300; c++)
        buflib_pin(&ctx, b);
    for (c = 0; c < 256; c++)
        buflib_unpin(&ctx, b);
    CHECK_EQ_U(buflib_pin_count(&ctx, b), 44);
    CHECK_EQ_I(buflib_free(&ctx, b), 0);
    CHECK_SOUND(&ctx);
    begin("pins-above-255-end-with-the-block", 4096);
    a = buflib_alloc(&ctx, 100);
    b = buflib_alloc(&ctx, 100);
    for (c = 0; c < 1000; c++)
        buflib_pin(&ctx, b);
    data = buflib_get_data(&ctx, b);
    CHECK(buflib_shrink(&ctx, b, data + 3, 20));
    CHECK_EQ_U(buflib_pin_count(&ctx, b), 1000);
    CHECK_EQ_I(buflib_free(&ctx, a), 0);
    CHECK_EQ_I(buflib_free(&ctx, b), 0);
    CHECK_EQ_I(buflib_alloc(&ctx, 100), 1);
    CHECK_EQ_I(buflib_alloc(&ctx, 100), 2);
    CHECK_EQ_U(buflib_pin_count(&ctx, b), 0);
    CHECK_SOUND(&ctx);
    CHECK_EQ_I(panics, 0);

    begin("an-alignment-is-kept-through-every-move", 1 << 16);
    for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        a = buflib_alloc(&ctx, 24);
        b = buflib_alloc_aligned(&ctx, 100, alignment, "aligned", NULL);
        CHECK(b > 0);
        CHECK_EQ_U((uintptr_t)buflib_get_data(&ctx, b) % alignment, 0);
        CHECK_SOUND(&ctx);
    }
    for (c = 1; c < 26; c += 2) {
        buflib_free(&ctx, c);
        buflib_allocatable(&ctx);
        for (int i = 0; i < 13; i++)
            CHECK_EQ_U((uintptr_t)buflib_get_data(&ctx, 2 * i + 2) % ((size_t)1 << i), 0);
        CHECK_SOUND(&ctx);
    }
    size = 100;
    CHECK(buflib_buffer_out(&ctx, &size) != NULL);
    CHECK_EQ_U(size, 4096);
    for (int i = 0; i < 13; i++)
        CHECK_EQ_U((uintptr_t)buflib_get_data(&ctx, 2 * i + 2) % ((size_t)1 << i), 0);
    buflib_buffer_in(&ctx, 4096);
    CHECK_SOUND(&ctx);

    begin("an-alignment-that-is-none", 4096);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 8, 3, NULL, NULL), -2);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 8, 8192, NULL, NULL), -2);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 8, ((size_t)1 << (8 * W - 1)), NULL, NULL), -2);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 8, 0, NULL, NULL), 1);

    begin("buffer_out-and-buffer_in-move-all-blocks", 4096);
    a = buflib_alloc_ex(&ctx, 64, NULL, &buflib_ops_locked);
    b = buflib_alloc(&ctx, 64);
    memset(buflib_get_data(&ctx, b), 'b', 64);
    size = 1001;
    CHECK(buflib_buffer_out(&ctx, &size) == pool);
    CHECK_EQ_U(size, WIDE ? 1008 : 1004);
    memset(pool, 0xFF, size);
    CHECK_SOUND(&ctx);
    CHECK(buflib_alloc(&ctx, 64) == 3);
    CHECK_MEM(buflib_get_data(&ctx, b), "bbbbbbbbbbbbbbbb", 16);
    buflib_buffer_in(&ctx, 5000); /* more than is out */
    buflib_buffer_in(&ctx, -8);
    CHECK((char *)ctx.buf_start == pool + size);
    buflib_buffer_in(&ctx, (int)size);
    CHECK((char *)ctx.buf_start == pool);
    CHECK_SOUND(&ctx);
    CHECK_MEM(buflib_get_data(&ctx, b), "bbbbbbbbbbbbbbbb", 16);
    CHECK_EQ_I(buflib_free(&ctx, a), 0);

    begin("shrink-within-the-rounding", 4096);
    a = buflib_alloc(&ctx, 98);
    size = (98 + W - 1) / W * W;
    data = buflib_get_data(&ctx, a);
    CHECK(buflib_shrink(&ctx, a, data, size));
    CHECK(!buflib_shrink(&ctx, a, data, size + 1));
    CHECK(!buflib_shrink(&ctx, a, data - 1, 10));
    CHECK(!buflib_shrink(&ctx, a, NULL, size + 1));
    CHECK(!buflib_shrink(&ctx, a, NULL, SIZE_MAX));
    CHECK(!buflib_shrink(&ctx, a, data + 1, SIZE_MAX));
    CHECK(buflib_shrink(&ctx, a, data + size, 0));
    CHECK(buflib_get_data(&ctx, a) == data + size);
    CHECK_SOUND(&ctx);

    begin("shrink-with-start-NULL-leaves-the-start", 4096);
    a = buflib_alloc(&ctx, 200);
    b = buflib_alloc(&ctx, 8);
    data = buflib_get_data(&ctx, a);
    memset(data, 7, 200);
    CHECK(buflib_shrink(&ctx, a, data + 3, 197)); /* which need not be aligned */
    CHECK(buflib_shrink(&ctx, a, NULL, 100));
    CHECK(buflib_get_data(&ctx, a) == data + 3 && data[3] == 7 && data[102] == 7);
    CHECK_SOUND(&ctx);
    CHECK(buflib_shrink(&ctx, a, NULL, 0));
    CHECK(buflib_get_data(&ctx, a) == data + 3);
    CHECK_SOUND(&ctx);
    (void)b;

    begin("buffer_out-without-a-pool-is-NULL", 4096);
    buflib_init(&ctx, NULL, 0);
    size = 8;
    CHECK(buflib_buffer_out(&ctx, &size) == NULL);
    CHECK_EQ_U(size, 0);
    begin("alloc_maximum-without-a-place-for-the-size", 4096);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, "all", NULL, NULL), 1);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, "none", NULL, NULL), -1);
    CHECK_SOUND(&ctx);
}

/* ---- shrink callbacks that give back other blocks ---- */

static int others[8], asked[16], give_by_shrink;

/* Frees the blocks in `others`, or cuts them to nothing, its own perhaps among them. */
static int gives_others(int handle, unsigned hints, void *start, size_t size)
{
    int result = BUFLIB_CB_CANNOT_SHRINK;

    (void)hints, (void)start, (void)size;
    asked[handle]++;
    for (int i = 0; others[i] != 0; i++) {
        char *data = buflib_get_data(&ctx, others[i]);

        CHECK(data != NULL);
        if (give_by_shrink)
            CHECK(buflib_shrink(&ctx, others[i], data + 32, 0));
        else
            CHECK_EQ_I(others[i] = buflib_free(&ctx, others[i]), 0);
        others[i] = 0;
        result = BUFLIB_CB_OK;
    }
    return result;
}

static struct buflib_callbacks generous = { may_refuse, gives_others, NULL };

static void gives_back_others(void)
{
    /* Of eight blocks, number 4 is asked first: which others it gives back. */
    static const int cases[][8] = { { 1 }, { 3 }, { 4 }, { 5 }, { 8 }, { 3, 4 }, { 4, 3 }, { 4, 5 }, { 5, 4 }, { 3, 5 }, { 3, 4, 5 }, { 5, 4, 3 },
                                    { 5, 6 }, { 6, 5 }, { 2, 3, 4, 5, 6, 7, 8 }, { 8, 7, 6, 5, 4, 3, 2 }, { 7, 8 }, { 1, 2, 3 } };

    for (size_t n = 0; n < 2 * sizeof cases / sizeof cases[0]; n++) {
        give_by_shrink = n % 2;
        begin("a-shrink-callback-may-free-and-shrink-any-block", 8 * (64 + 6 * W) + 4 * W);
        for (int i = 1; i <= 8; i++)
            CHECK_EQ_I(buflib_alloc_ex(&ctx, 64, NULL, i < 4 ? &buflib_ops_locked : &generous), i);
        memset(others, 0, sizeof others);
        memcpy(others, cases[n / 2], sizeof cases[0]);
        memset(asked, 0, sizeof asked);
        refuse_moves = 1;
        CHECK_EQ_I(buflib_alloc(&ctx, 8 * (64 + 6 * W) - 4 * W), -2);
        refuse_moves = 0;
        for (int i = 4; i <= 8; i++) {
            bool gone = buflib_get_data(&ctx, i) == NULL;

            /* Twice: in the round in which number 4 gave, and in the next one. */
            if (!CHECK_EQ_I(asked[i], gone ? i == 4 : 2))
                DIAG("case %d: block %d", (int)n, i);
        }
        CHECK_SOUND(&ctx);
        CHECK_EQ_I(panics, 0);
        if (!give_by_shrink) /* the handle is given again */
            CHECK(buflib_alloc(&ctx, 64) > 0);
        CHECK_SOUND(&ctx);
    }
}

/* ---- exactly at a limit ---- */

/* While an allocation asks this callback, the program sees no handle but that of the callback. */
static int looks_around(int handle, unsigned hints, void *start, size_t size)
{
    (void)hints, (void)start, (void)size;
    asked_to_shrink++;
    CHECK_EQ_I(buflib_next(&ctx, 0), handle);
    CHECK_EQ_I(buflib_next(&ctx, handle), 0);
    CHECK(buflib_get_data(&ctx, handle + 1) == NULL);
    return BUFLIB_CB_CANNOT_SHRINK;
}

/* Frees another block, and says that it could not shrink. */
static int gives_and_denies(int handle, unsigned hints, void *start, size_t size)
{
    (void)hints, (void)start, (void)size;
    buflib_free(&ctx, handle + 1);
    return BUFLIB_CB_CANNOT_SHRINK;
}

static struct buflib_callbacks looker = { may_refuse, looks_around, NULL };
static struct buflib_callbacks denier = { may_refuse, gives_and_denies, NULL };

/* Words between the last block and the handle table. */
static size_t end_words(void)
{
    return (size_t)((char *)ctx.last_handle - (char *)ctx.alloc_end) / W;
}

/* Counts the reports that contain the text `user`. */
static int reported;
static const void *reported_at;

static void see_report(void *user, const void *block, const char *what)
{
    if (strstr(what, user) != NULL) {
        reported++;
        reported_at = block;
    }
}

/* Each count in the context is compared with the pool. `word` is an index of private_, which src/buflib/layout.rs describes. */
static void counts(void)
{
    static const struct {
        int word;
        uintptr_t flip;
        const char *what;
    } wrong[] = { { 2, 1, "the count of free words is wrong" },
                  { 3, 1, "the count of pinned blocks is wrong" },
                  { 5, 2, "a handle is reserved for no allocation" },
                  { 9, 1, "a free handle is lost" },
                  { 10, 8, "a walk over shrink callbacks has not ended" },
                  { 16, 2, "a free handle is lost" } };

    begin("check-reports-each-count-that-is-wrong", 4096);
    for (int i = 1; i <= 3; i++)
        CHECK_EQ_I(buflib_alloc(&ctx, 64), i);
    CHECK_EQ_I(buflib_free(&ctx, 2), 0);
    for (size_t n = 0; n < sizeof wrong / sizeof wrong[0]; n++) {
        char what[64];

        snprintf(what, sizeof what, "%s", wrong[n].what);
        ctx.private_[wrong[n].word] ^= wrong[n].flip;
        reported = 0;
        CHECK(!buflib_check(&ctx, see_report, what));
        if (!CHECK_EQ_I(reported, 1))
            DIAG("%s", what);
        if (strstr(what, "lost") != NULL)
            CHECK(reported_at == (char *)ctx.handle_table - 2 * W);
        else
            CHECK(reported_at == pool);
        ctx.private_[wrong[n].word] ^= wrong[n].flip;
        CHECK_SOUND(&ctx);
    }
}

static void limits(void)
{
    int a, b;
    size_t size = 0;
    char *data, *raw, *at;

    begin("init-with-a-NULL-context-does-nothing", 512);
    memset(pool, 7, 512);
    buflib_init(NULL, pool, 512);
    for (int i = 0; i < 512; i++)
        CHECK(pool[i] == 7);

    begin("first_free_handle-of-an-empty-pool-is-its-last-word-and-moves-with-the-table", 4096);
    CHECK((char *)ctx.first_free_handle == (char *)ctx.handle_table - W);
    for (int i = 1; i <= 3; i++)
        CHECK_EQ_I(buflib_alloc(&ctx, 64), i);
    CHECK_EQ_I(buflib_free(&ctx, 2), 0);
    CHECK((char *)ctx.first_free_handle == (char *)ctx.handle_table - 2 * W);
    CHECK(buflib_resize(&ctx, 2048));
    CHECK((char *)ctx.first_free_handle == (char *)ctx.handle_table - 2 * W);
    buflib_init(&ctx, NULL, 100);
    CHECK(ctx.first_free_handle == NULL && ctx.handle_table == NULL);

    begin("a-handle-just-behind-the-table-names-no-block-whatever-lies-there", 512);
    a = buflib_alloc(&ctx, 512 - 6 * W);
    memset(buflib_get_data(&ctx, a), 0x55, 512 - 6 * W);
    remember();
    CHECK_EQ_I(buflib_free(&ctx, a + 1), a + 1);
    CHECK_EQ_U(buflib_get_size(&ctx, a + 1), 0);
    CHECK_EQ_I(panics, 0);
    CHECK(checked_get_data(&ctx, a + 1) == NULL);
    CHECK_EQ_I(panics, 1);
    CHECK_UNCHANGED();

    begin("a-shrink-callback-does-not-see-the-handle-of-the-allocation-that-asks", 4096);
    a = buflib_alloc_ex(&ctx, 4096 - 6 * W, NULL, &looker);
    memset(buflib_get_data(&ctx, a), 0x55, 4096 - 6 * W); /* the word of the next handle, too */
    CHECK(buflib_shrink(&ctx, a, NULL, 1000));
    asked_to_shrink = 0;
    CHECK_EQ_I(buflib_alloc(&ctx, 3500), -2);
    CHECK_EQ_I(asked_to_shrink, 1);
    CHECK_SOUND(&ctx);

    begin("alloc_maximum-joins-what-a-callback-freed-that-said-no", 4096);
    refuse_moves = 0;
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 64, NULL, &denier), 1);
    for (int i = 2; i <= 3; i++)
        CHECK_EQ_I(buflib_alloc(&ctx, 500), i);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, NULL, &size, NULL), 2);
    CHECK(strchr(blocks(&ctx), '-') == NULL && size > 3000);
    CHECK_SOUND(&ctx);

    begin("an-allocation-fits-by-the-word-of-a-free-handle", 4096);
    for (int i = 1; i <= 4; i++)
        CHECK_EQ_I(buflib_alloc(&ctx, 64), i);
    for (int i = 2; i <= 4; i++)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    CHECK_EQ_I(table_size(&ctx), 3);
    CHECK_EQ_I(buflib_alloc(&ctx, (end_words() - 5 + 2) * W), -2);
    for (int i = 2; i <= 4; i++)
        CHECK_EQ_I(buflib_alloc(&ctx, 64), i);
    for (int i = 2; i <= 4; i++)
        CHECK_EQ_I(buflib_free(&ctx, i), 0);
    CHECK_EQ_I(table_size(&ctx), 3);
    CHECK_EQ_I(buflib_alloc(&ctx, (end_words() - 5 + 1) * W), 2);
    CHECK_SOUND(&ctx);

    begin("an-aligned-block-goes-to-the-free-block-that-happens-to-start-right", 4096);
    CHECK_EQ_I(buflib_alloc(&ctx, 12 * W), 1); /* as long, but it starts elsewhere */
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 5 * W, NULL, &buflib_ops_locked), 2);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 12 * W, 8 * W, NULL, NULL), 3);
    data = buflib_get_data(&ctx, 3);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 5 * W, NULL, &buflib_ops_locked), 4);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, (end_words() - 6) * W, NULL, &buflib_ops_locked), 5);
    CHECK_EQ_U(end_words(), 0);
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    CHECK_EQ_I(buflib_free(&ctx, 3), 0);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 13 * W, 8 * W, NULL, NULL), -2);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 12 * W, 8 * W, NULL, NULL), 1);
    CHECK(buflib_get_data(&ctx, 1) == data);
    CHECK_SOUND(&ctx);

    begin("an-alignment-up-to-the-size-of-the-pool-wherever-that-lies", 512);
    raw = malloc(3 << 16);
    REQUIRE(raw != NULL);
    at = raw + (1 << 16) + (-(uintptr_t)raw) % (1 << 16); /* a multiple of 64 KiB */
    buflib_init(&ctx, at - 5 * W, 4096);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 8, 8192, NULL, NULL), -2);
    CHECK_EQ_I(buflib_alloc_aligned(&ctx, 8, 4096, NULL, NULL), 1);
    CHECK(buflib_get_data(&ctx, 1) == at);
    free(raw);

    begin("relocation-to-where-the-address-space-ends-is-refused", 4096);
    b = buflib_alloc(&ctx, 64);
    remember();
    CHECK(!buflib_context_relocate(&ctx, (void *)(UINTPTR_MAX - 2047)));
    CHECK(!buflib_context_relocate(&ctx, (void *)(UINTPTR_MAX - 4095 + W)));
    CHECK_UNCHANGED();
    CHECK_EQ_I(buflib_free(&ctx, b), 0);

    begin("alloc_maximum-that-fails-after-a-refusal-leaves-the-move-to-an-allocation", 4096);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), 1);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, (end_words() - 5 - 1 - 20) * W, NULL, &refuser), 2);
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    refuse_moves = 1;
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, NULL, NULL, NULL), -1);
    refuse_moves = 0;
    CHECK_EQ_I(buflib_alloc(&ctx, 20 * W), 1);
    CHECK_SOUND(&ctx);

    begin("what-is-asked-for-when-there-is-no-word-for-a-handle", 4096);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 100 * W, NULL, &liar), 1);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, (end_words() - 5 - 1) * W, NULL, &liar), 2);
    CHECK_EQ_U(end_words(), 0);
    CHECK_EQ_I(buflib_alloc(&ctx, 8), -1);
    CHECK_EQ_U(last_hints, BUFLIB_SHRINK_POS_BACK | 16 * W);
    CHECK(buflib_shrink(&ctx, 2, NULL, 50 * W));
    CHECK_EQ_I(buflib_alloc(&ctx, (end_words() - 5 - 1) * W), 3);
    CHECK_EQ_U(end_words(), 0);
    size = buflib_get_size(&ctx, 3) + 5 * W;
    CHECK_EQ_I(buflib_alloc(&ctx, 8), -1);
    CHECK_EQ_U(last_hints, BUFLIB_SHRINK_POS_FRONT | size);

    begin("the-pin-of-a-block-of-0-bytes-at-the-end-is-put-back", 4096);
    a = buflib_alloc(&ctx, 0);
    data = buflib_get_data_pinned(&ctx, a);
    CHECK(data == (char *)ctx.alloc_end);
    CHECK_EQ_U(buflib_pin_count(&ctx, a), 1);
    buflib_put_data_pinned(&ctx, data);
    CHECK_EQ_U(buflib_pin_count(&ctx, a), 0);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "abort") == 0) { /* the child of the point that says so */
        if (freopen("NUL", "w", stderr) == NULL)
            return 2;
        buflib_init(&ctx, before_pool, 4096);
        buflib_alloc(&ctx, 100);
        *ctx.buf_start = 5000;
        buflib_free(&ctx, 1);
        return 0;
    }
    PART(bad_handles());
    PART(sizes());
    PART(compaction());
    PART(the_rest());
    PART(damage());
    PART(additions());
    PART(gives_back_others());
    PART(counts());
    PART(limits());
    return tap_done();
}
