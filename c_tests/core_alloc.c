/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* core_alloc.h: the pool of the whole program, with what DEBUG and BUFLIB_DEBUG_BLOCKS declare. */
#define DEBUG
#define BUFLIB_DEBUG_BLOCKS
#include <core_alloc.h>

#include "buflib_util.h"

static char printed[2000];

static void print(const char *text)
{
    strncat(printed, text, sizeof printed - strlen(printed) - 1);
    strncat(printed, "\n", sizeof printed - strlen(printed) - 1);
}

int main(void)
{
    struct buflib_stat stat;
    static char pool[4096];
    char text[100];
    size_t size;
    int a;

    TEST("before-core_allocator_init-every-allocation-fails");
    CHECK_EQ_I(core_alloc("early", 10), -2);
    CHECK_EQ_U(core_available(), 0);
    CHECK(!core_test_free());

    TEST("core_allocator_init-allocates-112-bytes-named-test");
    core_allocator_init();
    CHECK_EQ_U((size_t)((char *)core_ctx.handle_table - (char *)core_ctx.buf_start), CORE_ALLOC_POOL_SIZE);
    CHECK_EQ_U((uintptr_t)core_ctx.buf_start % 64, 0);
    CHECK_STR(core_get_name(1), "test");
    CHECK_EQ_I(core_ctx.buf_start[0], 112 / (int)W + 5 + (WIDE ? 1 : 2));
    CHECK_EQ_I(core_alloc("mine", 100), 2);
    CHECK(core_test_free());
    CHECK(!core_test_free());
    CHECK_EQ_I(core_alloc_maximum("all", &size, NULL), 1);
    CHECK(size > CORE_ALLOC_POOL_SIZE - 1000);

    TEST("every-function-forwards");
    core_allocator_init_pool(pool, sizeof pool);
    buflib_set_panic_handler(note_panic);
    CHECK(core_test_free());
    a = core_alloc_ex("name first", 100, &buflib_ops_locked);
    CHECK_EQ_I(a, 1);
    memset(core_get_data(a), 1, 100);
    CHECK_STR(core_get_name(a), "name first");
    CHECK_EQ_I(core_alloc(NULL, 10), 2);
    CHECK_STR(core_get_name(2), "<anonymous>");
    CHECK_STR(core_get_name(3), "<anonymous>");
    CHECK(core_shrink(a, (char *)core_get_data(a) + 1, 50));
    CHECK(core_allocatable() > 3000 && core_available() > 3000);
    core_pin(a);
    CHECK_EQ_U(core_pin_count(a), 1);
    core_unpin(a);
    CHECK_EQ_U(core_pin_count(a), 0);
    CHECK_EQ_I(core_get_num_blocks(), buflib_get_num_blocks(&core_ctx));
    core_print_block_at(0, text, sizeof text);
    CHECK_STR_CONTAINS(text, "(name first)");
    CHECK_EQ_U(core_get_size(a), buflib_get_size(&core_ctx, a));
    CHECK_EQ_I(core_next(0), a);
    CHECK_EQ_I(core_next(a), 2);
    CHECK_EQ_I(core_next(2), 0);
    CHECK(core_get_stat(&stat) && stat.blocks == 2 && stat.pool <= sizeof pool);
    CHECK(core_resize(sizeof pool - 64));
    CHECK(core_get_stat(&stat) && stat.pool <= sizeof pool - 64);
    CHECK(core_resize(sizeof pool));
    CHECK_EQ_U(core_compact_step(sizeof pool), 0); /* the first block is locked, and no hole is between the two */
    core_check_valid();
    CHECK_EQ_I(panics, 0);
    core_ctx.buf_start[3] ^= 1;
    core_check_valid();
    CHECK_EQ_I(panics, 1);
    core_ctx.buf_start[3] ^= 1;
    CHECK(core_get_data(99) == NULL);
    CHECK_EQ_I(panics, 2);
    core_print_allocs(print);
    CHECK_STR_CONTAINS(printed, "name first(1):\t");
    CHECK_STR_CONTAINS(printed, "<anonymous>(2):\t");
    printed[0] = '\0';
    CHECK_EQ_I(core_free(a), 0);
    core_print_blocks(print);
    CHECK_STR_CONTAINS(printed, "(<unallocated>)");
    CHECK_EQ_I(core_free(a), a);

    TEST("a-pool-too-small-for-the-test-allocation");
    core_allocator_init_pool(pool, 64);
    CHECK(!core_test_free());
    return tap_done();
}
