/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Every single word of a pool, damaged in many ways: whatever is called then, nothing outside of the pool is touched, no loop is
 * endless, and buflib_check sees every damage of a word that is not payload. The pool lies between pages that can't be touched.
 */
#include "buflib_util.h"

#define POOL 4096

static struct buflib_context ctx, saved_ctx;
static char *pool;
static char saved_pool[POOL];
static jmp_buf out;
static int jump;

static void on_panic(struct buflib_context *c, const char *message)
{
    (void)c, (void)message;
    panics++;
    if (jump)
        longjmp(out, 1);
}

static int move(int handle, void *current, void *new_start)
{
    (void)handle;
    return (char *)current < pool || (char *)current >= pool + POOL || (char *)new_start < pool;
}

static int shrink(int handle, unsigned hints, void *start, size_t size)
{
    (void)hints;
    return size > 64 && buflib_shrink(&ctx, handle, (char *)start + 16, size - 32) ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
}

static intptr_t *spoiled;

static int spoil(int handle, void *current, void *new_start)
{
    (void)handle, (void)current, (void)new_start;
    *spoiled = 16;
    return BUFLIB_CB_OK;
}

static struct buflib_callbacks movable = { move, NULL, NULL }, shrinkable = { move, shrink, NULL }, spoiler = { spoil, NULL, NULL };

static void restore(void)
{
    memcpy(pool, saved_pool, POOL);
    ctx = saved_ctx;
}

static void make(void)
{
    buflib_init(&ctx, pool, POOL);
    memset(pool, 0, POOL);
    for (int i = 0; i < 24; i++) {
        int handle;
        if (i % 8 == 7)
            handle = buflib_alloc_aligned(&ctx, 40, 64, "al", NULL);
        else
            handle = buflib_alloc_ex(&ctx, (size_t)(i * 37 % 120), i % 3 ? NULL : "a name",
                                     i % 4 == 0 ? NULL : i % 4 == 1 ? &movable : i % 4 == 2 ? &shrinkable : &buflib_ops_locked);
        CHECK(handle == i + 1);
        /* A payload that looks like headers and lengths. */
        for (intptr_t *word = buflib_get_data(&ctx, handle), n = 0; n < i * 37 % 120 / (int)W; n++)
            word[n] = n % 3 == 0 ? -(n + 1) : n % 3 == 1 ? (intptr_t)(ctx.handle_table - handle) : n + 5;
    }
    for (int i = 2; i < 24; i += 3)
        CHECK(buflib_free(&ctx, i) == 0);
    CHECK(buflib_free(&ctx, 12) == 0);
    buflib_pin(&ctx, 10);
    CHECK(buflib_shrink(&ctx, 16, (char *)buflib_get_data(&ctx, 16) + 3, 10));
    CHECK_SOUND(&ctx);
    saved_ctx = ctx;
    memcpy(saved_pool, pool, POOL);
}

static void use(int how)
{
    size_t size;
    char text[64];

    if (jump && setjmp(out) != 0)
        return;
    switch (how) {
    case 0:
        for (int i = 0; i < 30; i++)
            buflib_alloc(&ctx, (size_t)i * 8);
        break;
    case 1:
        for (int i = 1; i < 30; i++)
            buflib_free(&ctx, i);
        break;
    case 2:
        for (int i = 30; i > 0; i--)
            buflib_free(&ctx, i);
        break;
    case 3:
        ctx.compact = false;
        buflib_allocatable(&ctx);
        buflib_alloc_maximum(&ctx, "max", &size, &shrinkable);
        break;
    case 4:
        for (int i = 1; i < 30; i++) {
            char *data = buflib_get_data(&ctx, i);
            buflib_shrink(&ctx, i, (char *)((uintptr_t)data + 8), 8);
            buflib_get_name(&ctx, i);
            buflib_pin(&ctx, i);
            buflib_put_data_pinned(&ctx, data);
        }
        break;
    case 5:
        size = 256;
        buflib_buffer_out(&ctx, &size);
        buflib_buffer_in(&ctx, 256);
        buflib_unpin(&ctx, 10);
        size = 256;
        buflib_buffer_out(&ctx, &size);
        buflib_buffer_in(&ctx, 256);
        buflib_get_num_blocks(&ctx);
        buflib_print_block_at(&ctx, 7, text, sizeof text);
        buflib_alloc_aligned(&ctx, 64, 256, "aligned", NULL);
        break;
    case 6:
        buflib_alloc(&ctx, 3500);
        buflib_alloc(&ctx, 1500);
        buflib_unpin(&ctx, 10);
        if (buflib_context_relocate(&ctx, pool))
            buflib_alloc(&ctx, 1500);
        break;
    default:
        for (int i = 0; i < 60; i++) {
            buflib_free(&ctx, 1 + i * 7 % 24);
            buflib_alloc(&ctx, (size_t)(i * 13 % 100));
        }
    }
}

/* Whether a word has links of a free block. */
static bool node_word(size_t word)
{
    intptr_t *at = (intptr_t *)saved_pool + word, *block = (intptr_t *)saved_pool;

    for (; block <= at; block += *block < 0 ? -*block : *block)
        if (*block <= -5 && (at == block - *block - 2 || at == block - *block - 3))
            return true;
    return false;
}

/* Whether the library checks a word: headers, ends and links of free blocks, used slots. */
static bool checked_word(size_t word)
{
    intptr_t *at = (intptr_t *)saved_pool + word, *first = (intptr_t *)saved_pool;
    intptr_t *end = first + (saved_ctx.alloc_end - saved_ctx.buf_start);
    size_t words = POOL / W;

    if (word >= words - (size_t)table_size(&saved_ctx))
        return *at != 0; /* a free slot that is written to becomes a handle without a block: seen too, but see below */
    if (at >= end)
        return false;
    for (intptr_t *block = first; block < end; block += *block < 0 ? -*block : *block) {
        intptr_t length = *block < 0 ? -*block : *block;
        if (at >= block + length)
            continue;
        if (*block < 0)
            return at == block || at == block + length - 1 || (length >= 5 && at >= block + length - 4);
        else {
            size_t handle = (size_t)((intptr_t *)pool + words - (intptr_t *)block[1]);
            intptr_t slot = *((intptr_t *)saved_pool + words - handle);
            return (uintptr_t)slot - (uintptr_t)pool >= (uintptr_t)((char *)at - saved_pool) + W;
        }
    }
    return false;
}

/* A pool whose payloads look like what the library writes: blocks that stay where they are, with holes of all lengths between. */
enum { BLOCKS = 24, FILLED = 4, LOOKS = 10 };

static void make_lookalikes(int look)
{
    struct rng rng = {(uint64_t)look};

    buflib_init(&ctx, pool, POOL);
    memset(pool, 0, POOL);
    /* A first life, with merges to both sides and compactions, leaves its headers and nodes behind. */
    for (int n = 0; n < 300; n++) {
        int some = 1 + (int)rng_below(&rng, BLOCKS);
        char *data = buflib_get_data(&ctx, some);
        size_t words = rng_below(&rng, 16);
        if (n % 50 == 49)
            buflib_allocatable(&ctx);
        else if (data == NULL)
            buflib_alloc_ex(&ctx, words * W, rng_below(&rng, 2) ? NULL : "name", &movable);
        else if (rng_below(&rng, 2))
            buflib_shrink(&ctx, some, data + words / 4 * W, words / 4 * W);
        else
            CHECK_EQ_I(buflib_free(&ctx, some), 0);
    }
    for (int i = BLOCKS; i > 0; i--)
        buflib_free(&ctx, i);
    CHECK(ctx.alloc_end == ctx.buf_start);

    for (int i = 1; i <= BLOCKS; i++)
        CHECK_EQ_I(buflib_alloc_ex(&ctx, (size_t)(i * 7 % 15 + i % 2 * 12) * W, i % 5 ? NULL : "name", &buflib_ops_locked), i);
    for (int i = 2; i < BLOCKS; i += 2) {
        intptr_t *data = buflib_get_data(&ctx, i);
        size_t words = (size_t)(i * 7 % 15);
        if (i % 4)
            CHECK_EQ_I(buflib_free(&ctx, i), 0);
        else
            CHECK(buflib_shrink(&ctx, i, data, (words - words % 5) * W));
    }
    for (int i = 1; i <= BLOCKS && look < FILLED; i++) {
        intptr_t *data = buflib_get_data(&ctx, i);
        size_t words = (size_t)(i * 7 % 15);
        words = data == NULL ? 0 : i % 2 ? words + 12 : words - words % 5;
        for (size_t n = 0; n < words; n++) /* a free block of 6 words without links; or lengths of short ones */
            data[n] = look > 0 ? -1 - look : n % 6 == 0 || n % 6 == 5 ? -6 : n % 6 == 3 ? 6 : 0;
    }
    CHECK_SOUND(&ctx);
    saved_ctx = ctx;
    memcpy(saved_pool, pool, POOL);
}

/* The values that a word is damaged to: a slot to the address of every word; a word of a free block to small numbers, and to a link to every word,
 * with the bits that are above an index as they were. */
static size_t bad_values(size_t word, const intptr_t **values)
{
    static intptr_t list[POOL / W + 16];
    size_t words = POOL / W, count = 0;
    intptr_t good = ((intptr_t *)saved_pool)[word], index_bits = (intptr_t)(2 * words - 1);

    *values = list;
    if (word >= words - (size_t)table_size(&saved_ctx)) {
        for (size_t i = 0; i < words; i++)
            list[count++] = (intptr_t)(pool + i * W);
    } else if (checked_word(word)) {
        for (intptr_t i = -8; i < 8; i++)
            list[count++] = i;
        if (node_word(word))
            for (size_t i = 0; i < words; i++)
                list[count++] = (good & ~index_bits) + (intptr_t)i;
    }
    return count;
}

/* Whether the payloads of all live blocks but `target` are what they were. */
static bool payloads_are_whole(size_t word, int target)
{
    intptr_t *was = (intptr_t *)saved_pool, *is = (intptr_t *)pool, *block = was;
    size_t words = POOL / W;

    for (; block < was + (saved_ctx.alloc_end - saved_ctx.buf_start); block += *block < 0 ? -*block : *block) {
        size_t slot = (size_t)((intptr_t *)block[1] - is), at = (size_t)(block - was);
        if (*block < 0 || (size_t)target == words - slot)
            continue;
        for (size_t i = (size_t)((intptr_t *)was[slot] - is); i < at + (size_t)*block; i++)
            if (i != word && is[i] != was[i])
                return false;
    }
    return true;
}

static void check_no_hang(int signal)
{
    (void)signal;
    (void)!write(1, "Bail out! an endless loop\n", 26);
    _exit(1);
}

static void every_word(void)
{
    size_t damages = 0, seen = 0, must = 0;

    TEST("every-damaged-word-is-survived-by-every-function");
    make();
    for (size_t word = 0; word < POOL / W; word += tap_every(5)) {
        intptr_t *at = (intptr_t *)pool + word, good = *((intptr_t *)saved_pool + word);
        bool must_be_seen = checked_word(word);
        for (int kind = 0; kind < 24; kind++) {
            intptr_t bad = kind == 0 ? 0 : kind == 1 ? -1 : kind == 2 ? good + 1 : kind == 3 ? good - 1 : kind == 4 ? -good
                : kind == 5 ? INTPTR_MIN : kind == 6 ? INTPTR_MAX : kind == 7 ? (intptr_t)at : kind == 8 ? (intptr_t)pool
                : kind == 9 ? (intptr_t)(pool + POOL) : kind == 10 ? (intptr_t)(ctx.handle_table - 3) : kind == 11 ? 5 : kind == 12 ? -5
                : kind == 13 ? (intptr_t)(pool + POOL / 2) : kind == 14 ? (intptr_t)(word + 1) : kind == 15 ? good + (intptr_t)W
                : good ^ ((intptr_t)1 << (kind * 7 % (8 * (int)W)));
            if (bad == good)
                continue;
            alarm(tap_seconds(60));
            for (int how = 0; how < 8; how++) {
                restore();
                *at = bad;
                jump = how % 2 && kind % 2;
                use(how);
                jump = 0;
                buflib_check(&ctx, NULL, NULL);
                /* The calls before may have damaged the pool further. */
                use(7);
            }
            restore();
            *at = bad;
            damages++;
            must += must_be_seen;
            panics = 0;
            if (!buflib_check(&ctx, NULL, NULL))
                seen++;
            else if (must_be_seen && !CHECK(!"buflib_check sees the damage"))
                DIAG("word %zu: 0x%jx for 0x%jx", word, (intmax_t)bad, (intmax_t)good);
            if (!CHECK_EQ_I(panics, 0))
                break;
        }
    }
    alarm(0);
    DIAG("%zu damages, %zu of checked words, %zu seen", damages, must, seen);
    CHECK(must > 1000 / tap_every(5));
    restore();
    CHECK_SOUND(&ctx);
}

static void nothing_is_changed(void)
{
    struct rng rng = {1};
    size_t seen = 0;

    TEST("a-call-that-finds-damage-has-changed-nothing");
    make();
    for (size_t word = 0; word < POOL / W; word += tap_every(5)) {
        static const intptr_t masks[] = { 1, 6, 0x58, -1, (intptr_t)1 << (8 * W - 3) };
        if (!checked_word(word))
            continue;
        for (int kind = 0; kind < 5; kind++) {
            for (int call = 0; call < 64; call++) {
                static char damaged[POOL];
                size_t end, table;
                int h = call % 25, result = 0;
                restore();
                ctx.compact = true;
                ((intptr_t *)pool)[word] ^= masks[kind];
                memcpy(damaged, pool, POOL);
                end = (size_t)((char *)ctx.alloc_end - pool);
                table = (size_t)((char *)ctx.last_handle - pool);
                panics = 0;
                if (call < 25)
                    result = buflib_free(&ctx, h) == -3;
                else if (call < 50)
                    result = !buflib_shrink(&ctx, h, (char *)buflib_get_data(&ctx, h) + 8, 8);
                else
                    result = buflib_alloc(&ctx, (size_t)(call - 50) * 8) == -3;
                if (panics == 0)
                    continue;
                seen++;
                CHECK(result);
                CHECK(ctx.alloc_end == saved_ctx.alloc_end && ctx.last_handle == saved_ctx.last_handle && ctx.compact);
                if (!CHECK_MEM(pool, damaged, end) || !CHECK_MEM(pool + table, damaged + table, POOL - table)) {
                    DIAG("word %zu, mask %jx, call %d", word, (intmax_t)masks[kind], call);
                    kind = 5;
                    word = POOL;
                    break;
                }
            }
        }
    }
    /* Nodes at which the tree can't be followed, in random pools; in some, links to every other node, with the seal as it was. */
    for (unsigned life = 0; life < 400; life += tap_every(20)) {
        intptr_t links[POOL / W], *at, index_bits = (intptr_t)(2 * (POOL / W) - 1);
        int count = 0;
        buflib_init(&ctx, pool, POOL);
        for (int n = 0; n < 300; n++) {
            int some = 1 + (int)rng_below(&rng, 40);
            if (buflib_get_data(&ctx, some) == NULL)
                buflib_alloc_ex(&ctx, rng_below(&rng, 20) * W, NULL, &buflib_ops_locked);
            else
                buflib_free(&ctx, some);
        }
        saved_ctx = ctx;
        memcpy(saved_pool, pool, POOL);
        for (at = (intptr_t *)saved_pool; life % 40 == 0 && at < (intptr_t *)saved_pool + (ctx.alloc_end - ctx.buf_start);
             at += *at < 0 ? -*at : *at)
            if (*at <= -5)
                links[count++] = at - *at - (intptr_t *)saved_pool;
        for (size_t word = 0; word < (size_t)(saved_ctx.alloc_end - saved_ctx.buf_start) && life < 400; word++) {
            for (int call = 0; node_word(word) && call < (count + 1) * 3 * 40; call++) {
                static char damaged[POOL];
                int h = 1 + call % 40, how = call / 40 % 3, link = call / (3 * 40) - 1;
                char *data;
                restore();
                at = (intptr_t *)pool + word;
                *at = link < 0 ? *at ^ (intptr_t)1 << (8 * W - 2) : (*at & ~index_bits) | links[link];
                memcpy(damaged, pool, POOL);
                panics = 0;
                if ((data = buflib_get_data(&ctx, h)) == NULL)
                    continue;
                if (how == 0)
                    buflib_free(&ctx, h);
                else
                    buflib_shrink(&ctx, h, data + (how == 1 ? W : 6 * W), W);
                seen += panics > 0;
                if (panics > 0 && !CHECK_MEM(pool, damaged, POOL)) {
                    DIAG("life %u, word %zu, call %d", (unsigned)life, word, call);
                    life = 400;
                    break;
                }
            }
        }
    }
    DIAG("%zu calls", seen);
}

static void another_length(void)
{
    size_t seen = 0;

    TEST("the-length-at-the-end-of-a-free-block-is-not-believed-when-it-is-another");
    for (int length = 5; length < 12; length++) {
        intptr_t *last, *end;
        int a, b, c;

        buflib_init(&ctx, pool, POOL);
        a = buflib_alloc(&ctx, 10 * W);
        b = buflib_alloc(&ctx, (size_t)(length - 5) * W);
        c = buflib_alloc(&ctx, 8 * W);
        CHECK(buflib_alloc(&ctx, 0) > 0);
        CHECK_EQ_I(buflib_free(&ctx, b), 0);
        end = (intptr_t *)buflib_get_data(&ctx, c) - 5;
        last = end - 1;
        CHECK_EQ_I(*last, -length);
        saved_ctx = ctx;
        memcpy(saved_pool, pool, POOL);
        for (intptr_t bad = -length - 8; bad < length + 8; bad++) {
            static char damaged[POOL];

            if (bad == -length)
                continue;
            for (int call = 0; call < 3; call++) {
                restore();
                *last = bad;
                if (bad < -1 && -bad < length - 4) /* of old data there, which no node is in */
                    end[bad] = bad;
                memcpy(damaged, pool, POOL);
                panics = 0;
                if (call == 0)
                    CHECK_EQ_I(buflib_free(&ctx, c), -3);
                else if (call == 1)
                    CHECK(!buflib_shrink(&ctx, c, (char *)buflib_get_data(&ctx, c) + W, W));
                else
                    CHECK_EQ_I(buflib_free(&ctx, a), -3);
                if (!CHECK_EQ_I(panics, 1) || !CHECK_MEM(pool, damaged, POOL))
                    DIAG("length %d, %d, call %d", length, (int)bad, call);
                seen++;
            }
        }
    }
    CHECK(seen > 400);
}

static void two_slots(void)
{
    size_t seen = 0;

    TEST("a-call-that-finds-two-damaged-slots-side-by-side-has-changed-nothing");
    make();
    for (size_t word = POOL / W - (size_t)table_size(&saved_ctx); word + 1 < POOL / W; word++) {
        static const intptr_t masks[] = { 1, 6, 0x58, -1, (intptr_t)1 << (8 * W - 3) };

        for (int kind = 0; kind < 5 * 7; kind++) {
            for (int call = 0; call < 80; call++) {
                static char damaged[POOL];
                struct buflib_context was;
                int h = call % 25;

                restore();
                for (size_t i = 0; i < 2; i++) {
                    intptr_t *at = (intptr_t *)pool + word + i;
                    int how = i == 0 ? kind % 5 : kind / 5;

                    *at = how < 5 ? *at ^ masks[how] : how == 5 ? 0 : *((intptr_t *)saved_pool + word + 1 - i);
                }
                memcpy(damaged, pool, POOL);
                was = ctx;
                panics = 0;
                if (call < 25)
                    buflib_free(&ctx, h);
                else if (call < 50)
                    buflib_shrink(&ctx, h, (char *)buflib_get_data(&ctx, h) + 8, 8);
                else if (call < 66)
                    buflib_alloc(&ctx, (size_t)(call - 50) * 8);
                else if (call < 70)
                    buflib_alloc(&ctx, 1000);
                else if (call < 72)
                    buflib_allocatable(&ctx);
                else if (call < 75)
                    buflib_pin(&ctx, h);
                else
                    buflib_alloc_aligned(&ctx, 8, 64, NULL, NULL);
                if (panics == 0)
                    continue;
                seen++;
                if (memcmp(&was, &ctx, 6 * W) != 0 || memcmp(pool, damaged, POOL) != 0) {
                    intptr_t *x = (intptr_t *)pool, *y = (intptr_t *)damaged;
                    DIAG("slots %d and %d, kind %d, call %d", (int)(POOL / W - word), (int)(POOL / W - word - 1), kind, call);
                    for (size_t i = 0; i < 6; i++)
                        if (((intptr_t *)&was)[i] != ((intptr_t *)&ctx)[i])
                            DIAG("field %d: 0x%jx 0x%jx", (int)i, (intmax_t)((intptr_t *)&was)[i], (intmax_t)((intptr_t *)&ctx)[i]);
                    for (size_t i = 0; i < POOL / W; i++)
                        if (x[i] != y[i])
                            DIAG("word %d of %d: 0x%jx 0x%jx", (int)i, (int)(ctx.alloc_end - ctx.buf_start), (intmax_t)y[i], (intmax_t)x[i]);
                    CHECK(!"unchanged");
                }
            }
        }
    }
    DIAG("%zu calls", seen);
}

static void bytes_beside_the_crc(void)
{
    TEST("every-single-byte-beside-a-payload-s-crc-is-seen");
    make();
    {
        int pins[] = { 0, 1, 3, 127, 255 };
        size_t unseen = 0;
        for (int handle = 1; handle <= 24; handle++) {
            for (int p = 0; p < 5; p++) {
                unsigned char *data;
                restore();
                if ((data = buflib_get_data(&ctx, handle)) == NULL)
                    continue;
                data -= (uintptr_t)data % W; /* the header ends there, wherever a shrink let the data start */
                for (int n = (int)buflib_pin_count(&ctx, handle); n < pins[p]; n++)
                    buflib_pin(&ctx, handle);
                CHECK(buflib_pin_count(&ctx, handle) >= (unsigned)pins[p]);
                for (int byte = 1; byte <= (int)W; byte++) {
                    for (unsigned delta = 1; delta < 256; delta++) {
                        data[-byte] ^= (unsigned char)delta;
                        panics = 0;
                        unseen += buflib_free(&ctx, handle) != -3 || panics != 1;
                        if (unseen == 1)
                            DIAG("handle %d, byte %d, delta %u", handle, byte, delta);
                        if (!CHECK_EQ_U(unseen, 0))
                            return;
                        data[-byte] ^= (unsigned char)delta;
                    }
                }
            }
        }
    }
}

static void an_int_before_a_payload(void)
{
    const int step = (int)tap_every(37);

    TEST("an-int-written-right-before-a-payload-is-seen");
    make();
    for (int handle = 1; handle <= 24; handle += 4) {
        int *data = buflib_get_data(&ctx, handle), good;
        if (data == NULL)
            continue;
        good = data[-1];
        for (int value = -50000; value < 500000; value += step) {
            data[-1] = value;
            panics = 0;
            if (value != good && (!CHECK_EQ_I(buflib_free(&ctx, handle), -3) || !CHECK_EQ_I(panics, 1))) {
                DIAG("handle %d, value %d", handle, value);
                restore();
                break;
            }
        }
        restore();
    }
}

static void lookalikes(void)
{
    TEST("no-payload-is-written-to-because-of-one-damaged-word-whatever-the-payloads-look-like");
    for (int look = 0; look < LOOKS; look++) {
        size_t done = 0, found = 0;
        make_lookalikes(look);
        for (size_t word = 0; word < POOL / W && look < LOOKS; word += tap_every(5)) {
            const intptr_t *values;
            size_t count = bad_values(word, &values), slot = POOL / W - word;
            alarm(tap_seconds(60));
            for (size_t i = 0; i < count && look < LOOKS; i++) {
                for (int call = 0; call < 3 * BLOCKS; call++) {
                    intptr_t target = call % BLOCKS + 1;
                    if (slot <= BLOCKS ? call < BLOCKS || (size_t)target != slot : call < BLOCKS && call % 3)
                        continue;
                    restore();
                    ((intptr_t *)pool)[word] = values[i];
                    panics = 0;
                    if (call < BLOCKS)
                        buflib_alloc_ex(&ctx, (size_t)call * W, NULL, &buflib_ops_locked);
                    else if (call < 2 * BLOCKS)
                        buflib_free(&ctx, (int)target);
                    else
                        buflib_shrink(&ctx, (int)target, (char *)buflib_get_data(&ctx, (int)target) + W * (size_t)(target % 2),
                                      W * (size_t)(target % 3));
                    done++;
                    found += panics > 0;
                    if (!CHECK(payloads_are_whole(word, call < BLOCKS || panics > 0 ? 0 : (int)target))) {
                        DIAG("look %d, word %zu: 0x%jx for 0x%jx, call %d", look, word, (intmax_t)values[i],
                             (intmax_t)((intptr_t *)saved_pool)[word], call);
                        look = LOOKS;
                        break;
                    }
                }
            }
        }
        DIAG("look %d: %zu calls, %zu found damage", look, done, found);
        CHECK(found > 1000);
    }
    alarm(0);
}

static void front_of_an_aligned_block(void)
{
    /* Words of payload. Blocks 2 and 4 become nodes on the way to the words in front of the aligned block; block 6 is where that fits. */
    static size_t payloads[] = { 0, 3, 5, 1, 0, 45, 5 };
    size_t seen = 0;

    TEST("no-payload-is-written-to-because-of-a-damaged-link-on-the-way-to-the-words-in-front-of-an-aligned-block");
    for (payloads[0] = 0; payloads[0] < 8; payloads[0]++) { /* so many words are in front */
        buflib_init(&ctx, pool, POOL);
        memset(pool, 0, POOL);
        for (int i = 1; i <= 7; i++)
            CHECK_EQ_I(buflib_alloc_ex(&ctx, payloads[i - 1] * W, NULL, &buflib_ops_locked), i);
        for (int i = 2; i < 7; i += 2)
            CHECK_EQ_I(buflib_free(&ctx, i), 0);
        saved_ctx = ctx;
        memcpy(saved_pool, pool, POOL);
        for (size_t word = 0; word < (size_t)(saved_ctx.alloc_end - saved_ctx.buf_start); word++) {
            const intptr_t *values;
            size_t count = node_word(word) ? bad_values(word, &values) : 0;
            for (size_t i = 0; i < count; i++) {
                restore();
                ((intptr_t *)pool)[word] = values[i];
                panics = 0;
                buflib_alloc_aligned(&ctx, 20 * W, 8 * W, NULL, &buflib_ops_locked);
                seen += panics > 0;
                if (!CHECK(payloads_are_whole(word, 0))) {
                    DIAG("word %zu: 0x%jx, %zu words in front", word, (intmax_t)values[i], payloads[0]);
                    return;
                }
            }
        }
    }
    CHECK(seen > 1000);
    DIAG("%zu calls found damage", seen);
}

static void old_addresses(void)
{
    TEST("a-handle-that-names-where-its-block-once-was-is-seen");
    for (int how = 0; how < 3; how++) {
        int a, b, c, whole;
        intptr_t *once, *slot, *data;
        buflib_init(&ctx, pool, POOL);
        a = buflib_alloc_ex(&ctx, 40 * W, NULL, &buflib_ops_locked);
        b = buflib_alloc_ex(&ctx, 30 * W, NULL, how == 2 ? &movable : &buflib_ops_locked);
        c = buflib_alloc_ex(&ctx, 30 * W, NULL, &buflib_ops_locked);
        CHECK(a == 1 && b == 2 && c == 3);
        once = buflib_get_data(&ctx, b);
        slot = ctx.handle_table - b;
        REQUIRE(once != NULL);
        if (how == 0) { /* it was freed, and its handle given to another one */
            CHECK(buflib_free(&ctx, a) == 0 && buflib_free(&ctx, b) == 0);
            whole = buflib_alloc_ex(&ctx, 75 * W, NULL, &buflib_ops_locked);
            CHECK_EQ_I(buflib_alloc(&ctx, 8), b);
        } else if (how == 1) { /* it gave its front to the free block before it */
            CHECK_EQ_I(buflib_free(&ctx, a), 0);
            CHECK(buflib_shrink(&ctx, b, once + 10, 20 * W));
            whole = buflib_alloc_ex(&ctx, 50 * W, NULL, &buflib_ops_locked);
        } else { /* it moved */
            CHECK_EQ_I(buflib_free(&ctx, a), 0);
            buflib_allocatable(&ctx);
            whole = buflib_alloc_ex(&ctx, 40 * W, NULL, &buflib_ops_locked);
        }
        CHECK_EQ_I(whole, a);
        data = buflib_get_data(&ctx, whole);
        REQUIRE(data != NULL);
        CHECK(data < once - 4 && data[-5] - 5 >= once - data && *slot != (intptr_t)once);
        CHECK_SOUND(&ctx);
        saved_ctx = ctx;
        memcpy(saved_pool, pool, POOL);
        for (int call = 0; call < 2; call++) {
            restore();
            *slot = (intptr_t)once;
            panics = 0;
            CHECK(call ? !buflib_shrink(&ctx, b, once, W) : buflib_free(&ctx, b) == -3);
            CHECK_EQ_I(panics, 1);
            CHECK_MEM(data, saved_pool + ((char *)data - pool), (size_t)(data[-5] - 5) * W);
        }
    }
}

static void a_spoiled_header(void)
{
    TEST("a-header-that-a-callback-damages-during-a-compaction-is-seen-before-its-callbacks-are-used");
    buflib_init(&ctx, pool, POOL);
    CHECK_EQ_I(buflib_alloc(&ctx, 40), 1);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 40, NULL, &spoiler), 2);
    CHECK_EQ_I(buflib_alloc_ex(&ctx, 40, NULL, &movable), 3);
    CHECK_EQ_I(buflib_free(&ctx, 1), 0);
    spoiled = (intptr_t *)buflib_get_data(&ctx, 3) - 3;
    panics = 0;
    CHECK_EQ_U(buflib_allocatable(&ctx), 0);
    CHECK_EQ_I(panics, 1);

    TEST("a-block-whose-header-its-own-callback-damages-does-not-move");
    for (int step = 0; step < 2; step++) {
        void *data;

        buflib_init(&ctx, pool, POOL);
        CHECK_EQ_I(buflib_alloc(&ctx, 40), 1);
        CHECK_EQ_I(buflib_alloc_ex(&ctx, 40, NULL, &spoiler), 2);
        CHECK_EQ_I(buflib_free(&ctx, 1), 0);
        data = buflib_get_data(&ctx, 2);
        spoiled = (intptr_t *)data - 3;
        panics = 0;
        CHECK_EQ_U(step ? buflib_compact_step(&ctx, POOL) : buflib_allocatable(&ctx), 0);
        CHECK_EQ_I(panics, 1);
        CHECK(buflib_get_data(&ctx, 2) == data);
    }
}

/* Callbacks that agree; after the move that is number `hit_at`, one word is damaged, unless it is payload. */
static int syncs, hit_at;
static size_t hit_word;
static intptr_t hit_mask;
static size_t sizes[BLOCKS + 1];

static int agree(int handle, void *current, void *new_start)
{
    (void)handle, (void)current, (void)new_start;
    return BUFLIB_CB_OK;
}

static void sync_and_hit(int handle, bool on)
{
    intptr_t *at = (intptr_t *)pool + hit_word;

    (void)handle;
    if (on || ++syncs != hit_at)
        return;
    for (int i = 1; i <= BLOCKS; i++) {
        intptr_t *data = sizes[i] == 0 ? NULL : buflib_get_data(&ctx, i);
        if (data != NULL && at >= data && at < data + sizes[i])
            return;
    }
    *at ^= hit_mask;
}

static void compact_by(int life)
{
    if (life % 3 == 0)
        buflib_compact_step(&ctx, POOL);
    else if (life % 3 == 1)
        buflib_resize(&ctx, POOL - (size_t)(ctx.last_handle - ctx.alloc_end + 1) * W);
    else
        buflib_allocatable(&ctx);
}

static void change_all(void)
{
    for (int i = 1; i <= BLOCKS; i += 2)
        if (sizes[i] > 0)
            buflib_free(&ctx, i);
    for (size_t words = 0; words < 20; words += 3) {
        int handle = buflib_alloc(&ctx, words * W);
        if (handle > 0)
            memset(buflib_get_data(&ctx, handle), 0xEE, words * W);
    }
}

static struct buflib_callbacks hitting = { agree, NULL, sync_and_hit };

static void damage_after_a_move(void)
{
    static const intptr_t masks[] = { 1, -1, (intptr_t)1 << (8 * W - 2) };
    struct rng rng = {1};
    size_t calls = 0, seen = 0;

    TEST("no-payload-is-written-to-when-a-callback-damages-a-word-during-a-compaction");
    for (int life = 0; life < 60; life += (int)tap_every(4)) {
        size_t words;
        int all;

        buflib_init(&ctx, pool, POOL);
        memset(pool, 0, POOL);
        for (int i = 1; i <= BLOCKS; i++) {
            unsigned kind = (unsigned)rng_below(&rng, 6);
            sizes[i] = rng_below(&rng, 12);
            CHECK_EQ_I(buflib_alloc_aligned(&ctx, sizes[i] * W, rng_below(&rng, 4) ? 0 : 8 * W, NULL,
                                            kind < 3 ? &hitting : kind < 5 ? &buflib_ops_locked : NULL), i);
            for (size_t n = 0; n < sizes[i]; n++)
                ((intptr_t *)buflib_get_data(&ctx, i))[n] = i * 1000 + (int)n;
        }
        for (int i = 1; i < BLOCKS; i++)
            if (rng_below(&rng, 5) < 2) {
                CHECK_EQ_I(buflib_free(&ctx, i), 0);
                sizes[i] = 0;
            }
        words = (size_t)(ctx.alloc_end - ctx.buf_start);
        saved_ctx = ctx;
        memcpy(saved_pool, pool, POOL);
        syncs = hit_at = 0;
        compact_by(life);
        all = syncs;
        for (hit_at = 1; hit_at <= all && life < 60; hit_at++)
            for (hit_word = 0; hit_word < words && life < 60; hit_word++)
                for (int m = 0; m < 3; m++) {
                    restore();
                    hit_mask = masks[m];
                    syncs = panics = 0;
                    compact_by(life);
                    calls++;
                    seen += panics > 0;
                    for (int i = 1; i <= 2 * BLOCKS; i++) { /* and when every second block is freed then, and another one made */
                        int handle = i <= BLOCKS ? i : i - BLOCKS;
                        if (i == BLOCKS + 1)
                            change_all();
                        for (size_t n = 0; n < sizes[handle] && (i <= BLOCKS || i % 2 == 0); n++)
                            if (!CHECK_EQ_I(((intptr_t *)buflib_get_data(&ctx, handle))[n], handle * 1000 + (int)n)) {
                                DIAG("life %d, move %d of %d, word %zu ^ %jx, handle %d", life, hit_at, all, hit_word, (intmax_t)hit_mask, i);
                                life = 60;
                                i = 2 * BLOCKS;
                                m = 3;
                                break;
                            }
                    }
                }
    }
    DIAG("%zu calls, %zu found damage", calls, seen);
    CHECK(seen > 1000);
}

static void random_words(void)
{
    struct rng rng = {1};

    TEST("random-words-are-survived");
    make();
    for (int n = 0; n < 20000; n += (int)tap_every(5)) {
        restore();
        alarm(tap_seconds(60));
        for (int hits = 0; hits < 1 + n % 3; hits++) {
            intptr_t word = (intptr_t)rng_next(&rng) >> rng_below(&rng, 32);
            ((intptr_t *)pool)[rng_below(&rng, POOL / W)] = word;
        }
        use(n % 8);
        use(7);
    }
    alarm(0);
}

int main(void)
{
    struct guarded memory;

    pool = guarded_pool(&memory, POOL);
    buflib_set_panic_handler(on_panic);
    signal(SIGALRM, check_no_hang);

    PART(every_word());
    PART(nothing_is_changed());
    PART(another_length());
    PART(two_slots());
    PART(bytes_beside_the_crc());
    PART(an_int_before_a_payload());
    PART(lookalikes());
    PART(front_of_an_aligned_block());
    PART(old_addresses());
    PART(a_spoiled_header());
    PART(damage_after_a_move());
    PART(random_words());
    unguard(&memory);
    return tap_done();
}
