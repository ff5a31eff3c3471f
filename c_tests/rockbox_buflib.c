/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The later generation of buflib, core_alloc and chunk_alloc, used as programs written for it do; chunk_alloc beside a model. */
#define BUFLIB_DEBUG_CHECK_VALID
#define BUFLIB_DEBUG_GET_DATA
#include <rockbox/chunk_alloc.h>

#include <setjmp.h>
#include <stdio.h>

#define TAP_ERROR_TEXT() ""
#include "support/random.h"
#include "tap.h"

#define W sizeof(void *)
#define WIDE (sizeof(void *) == 8)

static struct buflib_context ctx;
static union { long double align; char bytes[1 << 16]; } memory;
#define pool (memory.bytes)
static int panics;
static char panic_message[600];

static void note_panic(struct buflib_context *c, const char *message)
{
    (void)c;
    panics++;
    snprintf(panic_message, sizeof panic_message, "%s", message);
}

static void begin(const char *name, size_t size)
{
    TEST(name);
    buflib_init(&ctx, pool, size);
    buflib_set_panic_handler(note_panic);
    panics = 0;
}

static int moves, shrinks;

static int move_callback(int handle, void *current, void *new_start)
{
    (void)handle, (void)current, (void)new_start;
    moves++;
    return BUFLIB_CB_OK;
}

static int shrink_callback(int handle, unsigned hints, void *start, size_t old_size)
{
    (void)start;
    shrinks++;
    if ((hints & BUFLIB_SHRINK_POS_MASK) == 0 || old_size < 500)
        return BUFLIB_CB_CANNOT_SHRINK;
    return buflib_shrink(&ctx, handle, NULL, old_size / 2) ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
}

static struct buflib_callbacks ops = { move_callback, shrink_callback, NULL };

static void blocks(void)
{
    int (*alloc_ex)(struct buflib_context *, size_t, struct buflib_callbacks *) = buflib_alloc_ex;
    int (*maximum)(struct buflib_context *, size_t *, struct buflib_callbacks *) = buflib_alloc_maximum;
    bool (*print_at)(struct buflib_context *, int, char *, size_t) = buflib_print_block_at;
    union buflib_data *entry;
    char text[100], *data;
    size_t size, out;
    int a, b, c;

    begin("alloc-without-names", 4096);
    CHECK((a = buflib_alloc(&ctx, 100)) == 1);
    CHECK((b = buflib_alloc_ex(&ctx, 100, &ops)) == 2);
    CHECK((c = alloc_ex(&ctx, 100, NULL)) == 3);
    CHECK_EQ_U((size_t)((char *)ctx.alloc_end - (char *)ctx.buf_start) + 3 * W,
               3 * (BUFLIB_ALLOC_OVERHEAD + (100 + W - 1) / W * W));
    CHECK(buflib_get_name(&ctx, b) == NULL);

    TEST("the-table-s-entries-are-a-union");
    entry = ctx.handle_table;
    CHECK(entry[-b].alloc == buflib_get_data(&ctx, b));
    CHECK(ctx.handle_table[-c].alloc == (char *)buflib_get_data(&ctx, c));
    CHECK(ctx.buf_start[0].val > 0 && ctx.buf_start[1].handle == &ctx.handle_table[-a]);
    CHECK(ctx.last_handle == ctx.handle_table - 3);
    CHECK_EQ_U(sizeof *entry, W);
    ctx.handle_table[0 - c].pincount = ctx.handle_table[0 - c].pincount;

    TEST("moves-and-shrinks-ask-callbacks");
    moves = shrinks = 0;
    CHECK_EQ_I(buflib_free(&ctx, a), 0);
    CHECK(buflib_allocatable(&ctx) > 0 && buflib_available(&ctx) > 0);
    CHECK_EQ_I(moves, 1);
    CHECK((a = buflib_alloc_ex(&ctx, 2000, &ops)) == 1);
    CHECK(buflib_alloc(&ctx, 2200) > 0);
    CHECK(shrinks > 0);

    begin("alloc_maximum-without-a-name", 4096);
    CHECK_EQ_I(maximum(&ctx, &size, NULL), 1);
    CHECK(size > 3500 && size < 4096);
    CHECK_EQ_I(buflib_alloc_maximum(&ctx, &size, &ops), -1);
    CHECK_EQ_U(size, 0);

    begin("shrink-with-start-NULL", 4096);
    a = buflib_alloc(&ctx, 100);
    data = (char *)buflib_get_data(&ctx, a);
    CHECK(buflib_shrink(&ctx, a, NULL, 40));
    CHECK(buflib_get_data(&ctx, a) == data);
    CHECK(buflib_shrink(&ctx, a, data + 8, 16));
    CHECK((char *)buflib_get_data(&ctx, a) == data + 8);

    begin("pins-are-counted-and-mistakes-go-to-the-panic-handler", 4096);
    a = buflib_alloc(&ctx, 100);
    for (int i = 0; i < 1000; i++)
        buflib_pin(&ctx, a);
    CHECK_EQ_U(buflib_pin_count(&ctx, a), 1000);
    data = (char *)buflib_get_data_pinned(&ctx, a);
    buflib_put_data_pinned(&ctx, data);
    for (int i = 0; i < 1000; i++)
        buflib_unpin(&ctx, a);
    CHECK_EQ_I(panics, 0);
    buflib_unpin(&ctx, a);
    buflib_pin(&ctx, 0);
    buflib_unpin(&ctx, -1);
    CHECK_EQ_I(panics, 3);

    begin("get_data-is-checked-with-BUFLIB_DEBUG_GET_DATA", 4096);
    CHECK(buflib_get_data(&ctx, 5) == NULL);
    CHECK_EQ_I(panics, 1);
    a = buflib_alloc(&ctx, 8);
    CHECK(buflib_get_data(&ctx, a) != NULL);
    CHECK_EQ_I(panics, 1);

    begin("free-of-a-bad-handle-returns-it", 4096);
    CHECK_EQ_I(buflib_free(&ctx, 0), 0);
    CHECK_EQ_I(buflib_free(&ctx, -1), -1);
    CHECK_EQ_I(panics, 0);

    begin("print_block_at-says-whether-there-is-a-block", 4096);
    buflib_alloc(&ctx, 8);
    CHECK(print_at(&ctx, 0, text, sizeof text));
    CHECK_STR_CONTAINS(text, "val:");
    CHECK(!buflib_print_block_at(&ctx, 1, text, sizeof text));
    CHECK_STR(text, "");
    CHECK(!buflib_print_block_at(&ctx, -1, text, sizeof text));
    CHECK_EQ_I(buflib_get_num_blocks(&ctx), 1);

    begin("check_valid-and-damage", 4096);
    buflib_alloc(&ctx, 8);
    buflib_check_valid(&ctx);
    CHECK_EQ_I(panics, 0);
    ctx.buf_start[2].val ^= 64;
    buflib_check_valid(&ctx);
    CHECK_EQ_I(panics, 1);

    begin("buffer_out-buffer_in-and-context_relocate", 4096);
    a = buflib_alloc(&ctx, 8);
    out = 512;
    CHECK(buflib_buffer_out(&ctx, &out) == pool && out == 512);
    buflib_buffer_in(&ctx, 512);
    CHECK(buflib_context_relocate(&ctx, pool + 4096));
    memcpy(pool + 4096, pool, 4096);
    CHECK((char *)buflib_get_data(&ctx, a) > pool + 4096);
    CHECK(!buflib_context_relocate(&ctx, pool + 2));
    CHECK(buflib_ops_locked.move_callback == NULL && buflib_ops_locked.shrink_callback == NULL);
}

static void core(void)
{
    char text[100];
    size_t size;
    int a, b;

    TEST("core_alloc-without-names");
    core_allocator_init();
    CHECK(!core_test_free());
    CHECK_EQ_I(core_get_num_blocks(), 0);
    CHECK((a = core_alloc(100)) == 1);
    CHECK((b = core_alloc_ex(100, &buflib_ops_locked)) == 2);
    memset(core_get_data(a), 7, 100);
    CHECK(core_get_data_pinned(a) == core_get_data(a));
    CHECK_EQ_U(core_pin_count(a), 1);
    core_put_data_pinned(core_get_data(a));
    core_pin(a);
    core_unpin(a);
    CHECK_EQ_U(core_pin_count(a), 0);
    CHECK(core_shrink(a, NULL, 50));
    CHECK(core_available() > 0 && core_allocatable() > 0);
    CHECK(core_print_block_at(0, text, sizeof text) && !core_print_block_at(9, text, sizeof text));
    core_check_valid();
    CHECK_EQ_I(core_free(b), 0);
    CHECK_EQ_I(core_alloc_maximum(&size, NULL), b);
    CHECK_EQ_I(core_free(b), 0);
    CHECK(core_ctx.handle_table[-a].alloc == core_get_data(a));
    CHECK_EQ_I(core_free(a), 0);
}

static struct rng rng = {1};

static unsigned rnd(unsigned below)
{
    return (unsigned)rng_below(&rng, below);
}

enum { COUNT = 2000 };

static struct {
    size_t offset, size;
    char value;
} twin[COUNT];

static bool intact(struct chunk_alloc_header *hdr, int i)
{
    char *data = (char *)chunk_get_data(hdr, twin[i].offset);
    bool same = data != NULL;

    buflib_allocatable(hdr->context); /* others may move, this one is pinned */
    for (size_t n = 0; same && n < twin[i].size; n++)
        same = data[n] == twin[i].value;
    chunk_put_data(hdr, data, twin[i].offset);
    return same;
}

static void chunks(void)
{
    struct chunk_alloc_header hdr;
    size_t offset, used = 0;
    int filler[64] = { 0 };
    char *data;

    begin("chunks-are-used-one-after-the-other", 1 << 14);
    CHECK(chunk_alloc_init(&hdr, &ctx, 100, 3));
    CHECK(chunk_alloc_is_initialized(&hdr) && hdr.context == &ctx && hdr.chunk_size == 100 && hdr.count == 3);
    CHECK_EQ_U(chunk_alloc(&hdr, 60), 0);
    CHECK_EQ_U(chunk_alloc(&hdr, 40), 60);
    CHECK_EQ_U(chunk_alloc(&hdr, 30), 100);
    CHECK_EQ_U(hdr.current, 1);
    CHECK_EQ_U(hdr.chunk_bytes_free, 70);
    CHECK_EQ_U(chunk_alloc(&hdr, 500), 130); /* larger than a chunk */
    CHECK_EQ_U(hdr.chunk_bytes_total, 500);
    CHECK_EQ_U(chunk_alloc(&hdr, 1), CHUNK_ALLOC_INVALID);
    CHECK(chunk_realloc(&hdr, 50, 4) && hdr.count == 4 && hdr.chunk_size == 50);
    CHECK(!chunk_realloc(&hdr, 50, 2));
    CHECK_EQ_U(chunk_alloc(&hdr, 1), 630);
    CHECK_EQ_U(chunk_alloc(&hdr, 0), CHUNK_ALLOC_INVALID);
    data = (char *)chunk_get_data(&hdr, 100);
    memset(data, 1, 30);
    CHECK((char *)chunk_get_data(&hdr, 110) == data + 10 && hdr.cached_chunk.min_offset == 100 && hdr.cached_chunk.max_offset == 130);
    CHECK_EQ_U(buflib_pin_count(&ctx, hdr.cached_chunk.handle), 2);
    chunk_put_data(&hdr, data, 110);
    chunk_put_data(&hdr, data, 100);
    CHECK_EQ_I(panics, 0);
    CHECK(chunk_get_data(&hdr, 631) == NULL && chunk_get_data(&hdr, CHUNK_ALLOC_INVALID) == NULL);
    CHECK_EQ_I(panics, 0);
    chunk_put_data(&hdr, data, 631);
    chunk_put_data(&hdr, data, 100);
    CHECK_EQ_I(panics, 2);
    offset = buflib_available(&ctx);
    chunk_alloc_finalize(&hdr);
    CHECK(buflib_available(&ctx) > offset && hdr.chunk_bytes_free == 0);
    CHECK_EQ_U(chunk_alloc(&hdr, 1), CHUNK_ALLOC_INVALID);
    chunk_alloc_free(&hdr);
    CHECK(!chunk_alloc_is_initialized(&hdr));
    CHECK_EQ_U(chunk_alloc(&hdr, 1), CHUNK_ALLOC_INVALID);
    chunk_alloc_free(&hdr);
    chunk_alloc_finalize(&hdr);
    CHECK_EQ_I(buflib_next(&ctx, 0), 0);

    begin("chunk_alloc_init-fails", 256);
    CHECK(!chunk_alloc_init(&hdr, &ctx, 100, 1000) && !chunk_alloc_is_initialized(&hdr));
    CHECK(!chunk_alloc_init(&hdr, &ctx, 0, 1));
    CHECK(!chunk_alloc_init(&hdr, &ctx, 1, 0));
    CHECK(!chunk_alloc_init(&hdr, &ctx, 1, SIZE_MAX));
    CHECK(!chunk_alloc_init(&hdr, NULL, 1, 1));
    CHECK(!chunk_alloc_init(NULL, &ctx, 1, 1));
    CHECK(chunk_alloc_init(&hdr, &ctx, 10, 1));
    CHECK_EQ_U(chunk_alloc(&hdr, 4000), CHUNK_ALLOC_INVALID);
    CHECK_EQ_U(chunk_alloc(&hdr, SIZE_MAX - 1), CHUNK_ALLOC_INVALID);
    CHECK_EQ_U(chunk_alloc(&hdr, 10), 0);
    CHECK_EQ_I(panics, 0);

    for (int run = 0; run < 4; run++) {
        begin("blocks-keep-their-bytes-while-chunks-move", sizeof memory);
        CHECK(chunk_alloc_init(&hdr, &ctx, 700, 60));
        used = 0;
        for (int i = 0; i < COUNT; i++) {
            int f = (int)rnd(64);

            /* Blocks of others between the chunks come and go, so that chunks move. */
            if (filler[f] > 0)
                filler[f] = buflib_free(&ctx, filler[f]);
            else
                filler[f] = buflib_alloc(&ctx, rnd(300));
            twin[i].size = 1 + rnd(i % 100 ? 20 : 1000);
            twin[i].offset = chunk_alloc(&hdr, twin[i].size);
            if (twin[i].offset == CHUNK_ALLOC_INVALID)
                break;
            CHECK_EQ_U(twin[i].offset, used);
            used += twin[i].size;
            twin[i].value = (char)rnd(256);
            data = (char *)chunk_get_data(&hdr, twin[i].offset);
            REQUIRE(data != NULL);
            memset(data, twin[i].value, twin[i].size);
            chunk_put_data(&hdr, data, twin[i].offset);
            if (rnd(50) == 0)
                chunk_alloc_finalize(&hdr);
            if (rnd(100) == 0)
                CHECK(chunk_realloc(&hdr, 300 + rnd(800), hdr.count + rnd(3)));
            CHECK(intact(&hdr, (int)rnd((unsigned)i + 1)));
            if (i % 100 == 0) {
                for (int n = 0; n <= i; n++)
                    CHECK(intact(&hdr, n));
                CHECK(buflib_check(&ctx, NULL, NULL));
            }
        }
        CHECK(used > 10000);
        CHECK_EQ_I(panics, 0);
        chunk_alloc_free(&hdr);
        for (int f = 0; f < 64; f++)
            filler[f] = filler[f] > 0 ? buflib_free(&ctx, filler[f]) : 0;
        CHECK_EQ_I(buflib_next(&ctx, 0), 0);
    }

    TEST("core_chunk_alloc_init-uses-core_ctx");
    core_allocator_init();
    CHECK(core_chunk_alloc_init(&hdr, 1000, 10) && hdr.context == &core_ctx);
    CHECK_EQ_U(chunk_alloc(&hdr, 10), 0);
    chunk_alloc_free(&hdr);
}

int main(void)
{
    PART(blocks());
    PART(core());
    PART(chunks());
    return tap_done();
}
