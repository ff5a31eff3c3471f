/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Things in the headers that programs of the first generation rely on: <string.h>, names of its core_alloc.h files, MEMORYSIZE. */
#define MEMORYSIZE 2
#include <core_alloc.h>

/* With no other header before. */
static size_t length(const char *text)
{
    return strlen(text);
}

#ifdef BUFLIB_DEBUG_BLOCK_SINGLE
static int (*const num_blocks)(void) = core_get_num_blocks;
static void (*const print_block_at)(int, char *, size_t) = core_print_block_at;
#endif

#include "buflib_util.h"

int main(void)
{
    union buflib_data word;
    char text[64];
    size_t bytes;
    int all;

    TEST("buflib_h-brings-string_h");
    CHECK_EQ_U(length("four"), 4);

    TEST("buflib_data-is-a-word");
    CHECK_EQ_U(sizeof word, W);
    word.alloc = text;
    CHECK_EQ_I(word.val, (intptr_t)(void *)text);
    word.ops = &buflib_ops_locked;
    CHECK(word.handle == (void *)&buflib_ops_locked);

    TEST("core_allocator_init-makes-the-pool-that-MEMORYSIZE-asks-for");
    core_allocator_init();
    bytes = (size_t)((char *)core_ctx.handle_table - (char *)core_ctx.buf_start);
    CHECK_EQ_U(bytes, (2 * 1024 - 768) * 1024);
    CHECK_STR(core_get_name(1), "test");
    CHECK(core_test_free());
    CHECK_EQ_I(all = core_alloc_maximum("all", &bytes, NULL), 1);
    memset(core_get_data(all), 1, bytes);
    CHECK_EQ_I(core_free(all), 0);

    TEST("BUFLIB_DEBUG_BLOCK_SINGLE-says-that-the-block-functions-exist");
    CHECK_EQ_I(num_blocks(), 0);
    print_block_at(0, text, sizeof text);
    CHECK_STR(text, "");
    return tap_done();
}
