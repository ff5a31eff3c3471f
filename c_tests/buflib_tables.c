/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The figures of the original, on 64-bit and on 32-bit: what blocks lie where after known operations; and the bytes of the structs. */
#include "buflib_util.h"

#include <stddef.h>

#define N(wide, narrow) (WIDE ? (wide) : (narrow))

static struct buflib_context ctx;
static struct guarded memory;
static char *pool;

static void begin(const char *name, size_t size)
{
    TEST(name);
    pool = fresh_pool(&ctx, &memory, size);
}

#define BLOCKS(wide, narrow) (CHECK_STR(blocks(&ctx), N(wide, narrow)), CHECK_SOUND(&ctx))

static int moves, shrinks, refuse_moves;
static intptr_t last_distance;
static unsigned last_hints;

static int on_move(int handle, void *current, void *new_start)
{
    (void)handle;
    if (refuse_moves > 0) {
        refuse_moves--;
        return BUFLIB_CB_CANNOT_MOVE;
    }
    moves++;
    last_distance = ((char *)new_start - (char *)current) / (intptr_t)W;
    return BUFLIB_CB_OK;
}

static int gives_nothing(int handle, unsigned hints, void *start, size_t size)
{
    (void)handle, (void)start, (void)size;
    shrinks++;
    last_hints = hints;
    return BUFLIB_CB_CANNOT_SHRINK;
}

static int gives_a_byte(int handle, unsigned hints, void *start, size_t size)
{
    shrinks++;
    last_hints = hints;
    return buflib_shrink(&ctx, handle, (char *)start + 1, size - 1) ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
}

static int keeps_the_middle(int handle, unsigned hints, void *start, size_t size)
{
    shrinks++;
    last_hints = hints;
    return buflib_shrink(&ctx, handle, (char *)start + size / 4, size / 2) ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
}

static struct buflib_callbacks stubborn = { on_move, gives_nothing, NULL };
static struct buflib_callbacks fixed_byte = { NULL, gives_a_byte, NULL };
static struct buflib_callbacks middle = { on_move, keeps_the_middle, NULL };
static struct buflib_callbacks movable = { on_move, NULL, NULL };
static struct buflib_callbacks fixed_stubborn = { NULL, gives_nothing, NULL };

static void scenarios(void)
{
    int a, b, c, d;
    size_t size;

    begin("main", 12288);
    a = buflib_alloc_ex(&ctx, 512, "foo", NULL);
    b = buflib_alloc_ex(&ctx, 1024, "bar", NULL);
    c = buflib_alloc_ex(&ctx, 8192, "8K", &stubborn);
    BLOCKS("70 134 1030", "134 262 2054");
    buflib_free(&ctx, a);
    buflib_free(&ctx, b);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 3072, "should compact", &stubborn), 1);
    CHECK_EQ_I(moves, 1);
    CHECK_EQ_I(last_distance, N(-204, -396));
    BLOCKS("1030 391", "2054 777");
    CHECK_STR(buflib_get_name(&ctx, c), "8K");
    shrinks = 0;
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 3072, "should fail", &stubborn), -2);
    CHECK_EQ_I(shrinks, 2);

    begin("main2", 51200);
    CHECK_EQ_U(buflib_available(&ctx), N(51016, 51100));
    CHECK(buflib_alloc_ex(&ctx, 4096, "first, fixed", &buflib_ops_locked) == 1);
    CHECK_EQ_U(buflib_available(&ctx), N(46856, 46964));
    b = buflib_alloc_maximum(&ctx, "second, var", &size, &fixed_byte);
    CHECK_EQ_U(size, N(46856, 46964));
    CHECK(buflib_shrink(&ctx, b, buflib_get_data(&ctx, b), 128));
    CHECK(buflib_alloc_ex(&ctx, 20480, "third, fixed", &buflib_ops_locked) == 3);
    BLOCKS("519 23 2567", "1033 40 5129");
    buflib_free(&ctx, b);
    b = buflib_alloc_ex(&ctx, 128, "second, var", &buflib_ops_locked);
    d = buflib_alloc_maximum(&ctx, "fourth", &size, &fixed_byte);
    CHECK_EQ_U(size, N(26120, 26280));
    BLOCKS("519 23 2567 3271", "1033 40 5129 6577");
    CHECK(buflib_shrink(&ctx, d, (char *)buflib_get_data(&ctx, d) + 5120, size - 5120));
    BLOCKS("519 23 2567 -640 2631", "1033 40 5129 -1280 5297");
    shrinks = 0;
    CHECK(buflib_alloc_ex(&ctx, 6144, "fifth, fixed", &buflib_ops_locked) > 0);
    CHECK_EQ_I(shrinks, N(1080, 1060));
    BLOCKS("519 23 2567 775 2496", "1033 40 5129 1545 5032");

    begin("move", 51200);
    a = buflib_alloc_ex(&ctx, 20480, "first", &movable);
    b = buflib_alloc_ex(&ctx, 20480, "second", &movable);
    memset(buflib_get_data(&ctx, b), 'b', 20480);
    buflib_free(&ctx, a);
    c = buflib_alloc_ex(&ctx, 20480, "third", &movable);
    buflib_free(&ctx, c);
    moves = 0;
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 21504, "fourth", &movable), 1);
    CHECK_EQ_I(moves, 1);
    CHECK_EQ_I(last_distance, N(-2566, -5127));
    BLOCKS("2566 2694", "5127 5383");
    CHECK(((char *)buflib_get_data(&ctx, b))[0] == 'b' && ((char *)buflib_get_data(&ctx, b))[20479] == 'b');

    begin("move2", 51200);
    a = buflib_alloc_ex(&ctx, 20480, "first", &movable);
    b = buflib_alloc_ex(&ctx, 5120, "second", &buflib_ops_locked);
    c = buflib_alloc_ex(&ctx, 15360, "third", &movable);
    buflib_free(&ctx, a);
    CHECK_EQ_U(buflib_available(&ctx), N(30416, 30552));
    refuse_moves = 1;
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 21504, "fourth", &movable), -2);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 21504, "fourth", &movable), 1);
    CHECK(buflib_alloc_ex(&ctx, 2048, "fifth", &movable) > 0);
    CHECK(buflib_alloc_ex(&ctx, 512, "sixth", &movable) > 0);
    BLOCKS("1926 262 70 -308 646 2694", "3847 519 135 -626 1287 5383");

    begin("max", 51200);
    a = buflib_alloc_maximum(&ctx, "get_all", &size, &buflib_ops_locked);
    CHECK_EQ_U(size, N(51016, 51100));
    BLOCKS("6383", "12782");
    CHECK(buflib_shrink(&ctx, a, buflib_get_data(&ctx, a), size / 2));
    CHECK(buflib_alloc_ex(&ctx, 100, "dont freeze", &buflib_ops_locked) > 0);
    BLOCKS("3195 20", "6395 33");

    begin("shrink", 51200);
    for (int i = 0; i < 3; i++)
        a = buflib_alloc_ex(&ctx, 10240, i == 0 ? "first" : i == 1 ? "second" : "third", &buflib_ops_locked);
    CHECK(buflib_shrink(&ctx, 2, (char *)buflib_get_data(&ctx, 2) + 0x100, 10240 - 0x200));
    BLOCKS("1286 -32 1222 -32 1286", "2567 -64 2439 -64 2567");

    begin("shrink_unaligned", 51200);
    for (int i = 0; i < 3; i++)
        a = buflib_alloc_ex(&ctx, 10240, i == 0 ? "first" : i == 1 ? "second" : "third", &buflib_ops_locked);
    pool = buflib_get_data(&ctx, 2);
    CHECK(buflib_shrink(&ctx, 2, pool + 0x102, 10240 - 0x200));
    CHECK(buflib_get_data(&ctx, 2) == pool + 0x102);
    BLOCKS("1286 -32 1223 -31 1286", "2567 -64 2440 -63 2567");

    begin("shrink_startchanged", 51200);
    for (int i = 0; i < 3; i++)
        a = buflib_alloc_ex(&ctx, 10240, i == 0 ? "first" : i == 1 ? "second" : "third", &buflib_ops_locked);
    CHECK(buflib_shrink(&ctx, 2, (char *)buflib_get_data(&ctx, 2) + 0x102, 10240 - 0x102));
    BLOCKS("1286 -32 1254 1286", "2567 -64 2503 2567");

    begin("shrink_cb", 51200);
    a = buflib_alloc_ex(&ctx, 10240, "first", &buflib_ops_locked);
    b = buflib_alloc_ex(&ctx, 10240, "second", &buflib_ops_locked);
    c = buflib_alloc_ex(&ctx, 10240, "third", &middle);
    buflib_free(&ctx, b);
    shrinks = 0;
    CHECK(buflib_alloc_ex(&ctx, 11264, "fourth", &movable) == 2);
    CHECK(buflib_alloc_ex(&ctx, 17408, "fifth", &movable) == 4);
    CHECK_EQ_I(shrinks, 0);
    BLOCKS("1286 1286 1414 2182", "2567 2567 2823 4359");
    CHECK(buflib_alloc_ex(&ctx, 4096, "sixth", &movable) == 5);
    CHECK_EQ_I(shrinks, 1);
    CHECK_EQ_U(last_hints, BUFLIB_SHRINK_POS_FRONT | N(4144, 4124));
    BLOCKS("1286 646 1414 2182 518", "2567 1287 2823 4359 1031");
}

static void more_numbers(void)
{
    int count;

    begin("handles-are-the-lowest-free-ones", 4096);
    for (int i = 0; i < 6; i++)
        buflib_alloc(&ctx, 32);
    buflib_free(&ctx, 2);
    buflib_free(&ctx, 4);
    CHECK_EQ_I(buflib_alloc(&ctx, 8), 2);
    CHECK_EQ_I(buflib_alloc(&ctx, 8), 4);
    CHECK_EQ_I(buflib_alloc(&ctx, 8), 7);
    if (WIDE)
        BLOCKS("9 6 -3 9 6 -3 9 9 6", "");
    CHECK_EQ_I(table_size(&ctx), 7);
    CHECK(!ctx.compact);
    buflib_free(&ctx, 7);
    CHECK_EQ_I(table_size(&ctx), 6);
    buflib_free(&ctx, 5);
    CHECK_EQ_I(table_size(&ctx), 6);
    buflib_free(&ctx, 6);
    CHECK_EQ_I(table_size(&ctx), 5);
    if (WIDE)
        BLOCKS("9 6 -3 9 6", "");
    buflib_allocatable(&ctx);
    CHECK_EQ_I(table_size(&ctx), 4);
    CHECK(ctx.compact);
    if (WIDE)
        BLOCKS("9 6 9 6", "");

    if (!WIDE)
        return; /* the rest is known of 64-bit only */

    begin("free-neighbours-join", 4096);
    for (int i = 0; i < 6; i++)
        buflib_alloc(&ctx, 64 + 16 * (size_t)i);
    buflib_free(&ctx, 2);
    buflib_free(&ctx, 4);
    buflib_alloc(&ctx, 64);
    buflib_alloc(&ctx, 8);
    buflib_alloc(&ctx, 0);
    BLOCKS("13 13 -2 17 6 5 -8 21 23", "");
    buflib_free(&ctx, 3);
    BLOCKS("13 13 -19 6 5 -8 21 23", "");
    buflib_free(&ctx, 6);
    BLOCKS("13 13 -19 6 5 -8 21", "");
    buflib_free(&ctx, 5);
    BLOCKS("13 13 -19 6 5", "");

    begin("a-remainder-of-one-word", 1024);
    for (int i = 0; i < 3; i++)
        buflib_alloc(&ctx, 64);
    buflib_free(&ctx, 2);
    CHECK_EQ_I(buflib_alloc(&ctx, 56), 2);
    BLOCKS("13 12 -1 13", "");
    buflib_free(&ctx, 2);
    BLOCKS("13 -13 13", "");

    begin("the-smallest-pools", 256);
    for (count = 0; buflib_alloc(&ctx, 0) > 0; count++)
        ;
    CHECK_EQ_I(count, 5);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), -2);
    buflib_init(&ctx, pool, 56);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), 1);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), -2);
    buflib_init(&ctx, pool, 48);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), 1);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), -1);
    buflib_init(&ctx, pool, 40);
    CHECK_EQ_I(buflib_alloc(&ctx, 0), -2);

    begin("a-block-moves-into-the-hole-before-a-locked-one", 4096);
    buflib_alloc(&ctx, 64);
    buflib_alloc(&ctx, 64);
    buflib_alloc_ex(&ctx, 64, NULL, &buflib_ops_locked);
    buflib_alloc(&ctx, 200);
    buflib_alloc(&ctx, 32);
    buflib_alloc(&ctx, 64);
    buflib_free(&ctx, 1);
    buflib_allocatable(&ctx);
    BLOCKS("13 9 -4 13 30 13", "");

    begin("two-locked-blocks", 4096);
    for (int i = 1; i <= 8; i++)
        buflib_alloc_ex(&ctx, (size_t)(32 + 8 * i), NULL, i == 4 || i == 7 ? &buflib_ops_locked : NULL);
    buflib_free(&ctx, 1);
    buflib_free(&ctx, 3);
    buflib_free(&ctx, 5);
    buflib_allocatable(&ctx);
    BLOCKS("11 15 -7 13 17 -12 16", "");

    begin("free-words-before-a-block-are-taken-off-the-hint", 1024);
    buflib_alloc_ex(&ctx, 64, NULL, &buflib_ops_locked);
    buflib_alloc(&ctx, 40);
    for (int i = 0; i < 3; i++)
        buflib_alloc_ex(&ctx, 160, NULL, &fixed_stubborn);
    buflib_free(&ctx, 2);
    shrinks = 0;
    CHECK_EQ_I(buflib_alloc(&ctx, 300), -2);
    CHECK_EQ_I(shrinks, 3);
    CHECK_EQ_U(last_hints, BUFLIB_SHRINK_POS_FRONT | 264);

    begin("overhead", 4096);
    CHECK_EQ_U(BUFLIB_ALLOC_OVERHEAD, 48);
    buflib_alloc_ex(&ctx, 8, "", NULL);
    CHECK_STR(buflib_get_name(&ctx, 1), "");
    buflib_alloc_ex(&ctx, 8, "1234567", NULL);
    buflib_alloc_ex(&ctx, 8, "12345678", NULL);
    buflib_alloc_ex(&ctx, 1, NULL, NULL);
    CHECK(buflib_get_name(&ctx, 4) == NULL);
    BLOCKS("7 7 8 6", "");
    CHECK_EQ_U(buflib_available(&ctx), 4096 - (28 + 4 + 5 + 16) * 8 - 16);

    begin("a-long-name-is-whole", 4096);
    {
        char name[1001];
        memset(name, 'x', 1000);
        name[1000] = '\0';
        CHECK_EQ_I(buflib_alloc_ex(&ctx, 0, name, NULL), 1);
        CHECK_STR(buflib_get_name(&ctx, 1), name);
        BLOCKS("131", "");
    }
}

/* The crc-32 of zlib and Ethernet, a bit at a time. */
static uint32_t crc32_of(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint32_t crc = 0xFFFFFFFFu;

    while (size-- > 0) {
        crc ^= *bytes++;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void layout(void)
{
    intptr_t *block;
    uint32_t crc;
    size_t length;
    void *data;

    TEST("the-structs-are-frozen");
    CHECK_EQ_U(offsetof(struct buflib_context, handle_table), 0);
    CHECK_EQ_U(offsetof(struct buflib_context, first_free_handle), W);
    CHECK_EQ_U(offsetof(struct buflib_context, last_handle), 2 * W);
    CHECK_EQ_U(offsetof(struct buflib_context, buf_start), 3 * W);
    CHECK_EQ_U(offsetof(struct buflib_context, alloc_end), 4 * W);
    CHECK_EQ_U(offsetof(struct buflib_context, compact), 5 * W);
    CHECK_EQ_U(sizeof(struct buflib_context), N(688, 216));
    CHECK_EQ_U(sizeof(struct buflib_callbacks), 3 * W);
    CHECK_EQ_U(BUFLIB_SHRINK_POS_MASK, 0xC0000000u);
    CHECK_EQ_U(BUFLIB_SHRINK_SIZE_MASK, 0x3FFFFFFFu);

    begin("a-header-is-as-documented", 4096);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 20, "four", &buflib_ops_locked), 1);
    block = ctx.buf_start;
    length = (size_t)block[0];
    data = buflib_get_data(&ctx, 1);
    CHECK(block[1] == (intptr_t)(ctx.handle_table - 1));
    CHECK(*(ctx.handle_table - 1) == (intptr_t)data);
    CHECK(block[2] == (intptr_t)&buflib_ops_locked);
    CHECK_STR((char *)&block[3], "four");
    CHECK_EQ_I(((intptr_t *)data)[-2] & 0xFFFF, N(2, 3));
    memcpy(&crc, (intptr_t *)data - 1, 4);
    CHECK_EQ_U(crc, crc32_of(block, (size_t)((char *)data - (char *)block) - W));
    CHECK_EQ_U(length, N(9, 12));
    CHECK(block + length == ctx.alloc_end);
}

int main(void)
{
    PART(scenarios());
    PART(more_numbers());
    PART(layout());
    return tap_done();
}
