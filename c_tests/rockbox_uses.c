/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every function of the later generation with the type that it has there, and BUFLIB_DEBUG_PRINT. */
#define BUFLIB_DEBUG_PRINT
#define BUFLIB_DEBUG_GET_DATA
#define BUFLIB_DEBUG_CHECK_VALID
#include <rockbox/chunk_alloc.h>
#include <rockbox/core_alloc.h>

#define TAP_ERROR_TEXT() ""
#include "tap.h"

#define CTX struct buflib_context *
#define OPS struct buflib_callbacks *
#define HDR struct chunk_alloc_header *

/* Does not compile unless `name` is a function of that type. */
#define USE(result, name, parameters)                                                                                                      \
    do {                                                                                                                                   \
        result(*function) parameters = name;                                                                                               \
        TEST(#name);                                                                                                                       \
        CHECK(function != NULL);                                                                                                           \
    } while (0)

static void types(void)
{
    USE(void, buflib_init, (CTX, void *, size_t));
    USE(size_t, buflib_available, (CTX));
    USE(size_t, buflib_allocatable, (CTX));
    USE(int, buflib_alloc, (CTX, size_t));
    USE(int, buflib_alloc_ex, (CTX, size_t, OPS));
    USE(int, buflib_alloc_maximum, (CTX, size_t *, OPS));
    USE(int, buflib_free, (CTX, int));
    USE(bool, buflib_shrink, (CTX, int, void *, size_t));
    USE(void *, buflib_get_data, (CTX, int));
    USE(void, buflib_pin, (CTX, int));
    USE(void, buflib_unpin, (CTX, int));
    USE(unsigned, buflib_pin_count, (CTX, int));
    USE(void *, buflib_get_data_pinned, (CTX, int));
    USE(void, buflib_put_data_pinned, (CTX, void *));
    USE(bool, buflib_context_relocate, (CTX, void *));
    USE(void *, buflib_buffer_out, (CTX, size_t *));
    USE(void, buflib_buffer_in, (CTX, int));
    USE(int, buflib_get_num_blocks, (CTX));
    USE(bool, buflib_print_block_at, (CTX, int, char *, size_t));
    USE(void, buflib_check_valid, (CTX));

    USE(void, core_allocator_init, (void));
    USE(size_t, core_available, (void));
    USE(size_t, core_allocatable, (void));
    USE(int, core_alloc, (size_t));
    USE(int, core_alloc_ex, (size_t, OPS));
    USE(int, core_alloc_maximum, (size_t *, OPS));
    USE(int, core_free, (int));
    USE(bool, core_shrink, (int, void *, size_t));
    USE(void *, core_get_data, (int));
    USE(void, core_pin, (int));
    USE(void, core_unpin, (int));
    USE(unsigned, core_pin_count, (int));
    USE(void *, core_get_data_pinned, (int));
    USE(void, core_put_data_pinned, (void *));
    USE(int, core_get_num_blocks, (void));
    USE(bool, core_print_block_at, (int, char *, size_t));
    USE(void, core_check_valid, (void));
    USE(bool, core_test_free, (void));

    USE(bool, chunk_alloc_init, (HDR, CTX, size_t, size_t));
    USE(bool, core_chunk_alloc_init, (HDR, size_t, size_t));
    USE(bool, chunk_realloc, (HDR, size_t, size_t));
    USE(void, chunk_alloc_free, (HDR));
    USE(void, chunk_alloc_finalize, (HDR));
    USE(size_t, chunk_alloc, (HDR, size_t));
    USE(void *, chunk_get_data, (HDR, size_t));
    USE(void, chunk_put_data, (HDR, void *, size_t));
    USE(bool, chunk_alloc_is_initialized, (HDR));
}

static void fields(void)
{
    struct chunk_alloc_header hdr = {NULL, 1, 2, 3, 4, 5, 6, {7, 8, 9}};
    union buflib_data word = {0};

    TEST("the-fields-have-their-places-and-types");
    CHECK(hdr.context == NULL && hdr.chunk_handle == 1 && hdr.chunk_bytes_total == 2 && hdr.chunk_bytes_free == 3 &&
          hdr.chunk_size == 4 && hdr.count == 5 && hdr.current == 6 && hdr.cached_chunk.handle == 7 &&
          hdr.cached_chunk.min_offset == 8 && hdr.cached_chunk.max_offset == 9);
    CHECK(CHUNK_ALLOC_INVALID == (size_t)-1);
    word.val = (intptr_t)&word;
    CHECK(word.handle == &word && word.alloc == (char *)&word && (void *)word.ops == &word);
    word.val = 0;
    word.pincount = 3;
    CHECK_EQ_U(*(unsigned *)&word, 3);
}

static void print(void)
{
    char text[100];

    TEST("with-BUFLIB_DEBUG_PRINT-core_allocator_init-makes-its-test-block");
    core_allocator_init();
    CHECK_EQ_I(core_get_num_blocks(), 1);
    CHECK(core_print_block_at(0, text, sizeof text));
    CHECK_STR_CONTAINS(text, "val:");
    CHECK(core_test_free());
    CHECK(!core_test_free());
    CHECK_EQ_I(core_get_num_blocks(), 0);
}

int main(void)
{
    types();
    fields();
    print();
    return tap_done();
}
