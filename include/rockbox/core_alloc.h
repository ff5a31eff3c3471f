/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/rockbox_core_alloc.rs and headers/rockbox_core_alloc.*; changes belong there. */
#ifndef LIBPALLOC_ROCKBOX_CORE_ALLOC_H
#define LIBPALLOC_ROCKBOX_CORE_ALLOC_H

/*
 * rockbox/core_alloc.h: core_alloc as the later generation of buflib declares it, on core_ctx.
 *
 * The functions are those of rockbox/buflib.h without the context; core_alloc.h is the manual of the
 * others. core_allocator_init allocates its test block iff BUFLIB_DEBUG_PRINT is defined.
 *
 *   #include <rockbox/core_alloc.h>
 *   #include <stdio.h>
 *
 *   int main(void)
 *   {
 *       int handle;
 *       int *numbers;
 *
 *       core_allocator_init();
 *       handle = core_alloc(100 * sizeof(int));
 *       if (handle < 0)
 *           return 1;
 *       numbers = (int *)core_get_data_pinned(handle);
 *       numbers[99] = 42;
 *       core_put_data_pinned(numbers);
 *       printf("%d\n", ((int *)core_get_data(handle))[99]);
 *       return core_free(handle);
 *   }
 */
#ifdef LIBPALLOC_CORE_ALLOC_H
#error "core_alloc.h and rockbox/core_alloc.h can't be included in the same source file"
#endif
#include "buflib.h"
#include "../core_alloc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* buflib_alloc. */
int rockbox_core_alloc(size_t size);

/* buflib_alloc_ex. */
int rockbox_core_alloc_ex(size_t size, struct buflib_callbacks *ops);

/* buflib_alloc_maximum. */
int rockbox_core_alloc_maximum(size_t *size, struct buflib_callbacks *ops);

/* buflib_get_data_pinned. */
void *rockbox_core_get_data_pinned(int handle);

/* buflib_put_data_pinned. */
void rockbox_core_put_data_pinned(void *data);

/* buflib_print_block_at. */
bool rockbox_core_print_block_at(int block_num, char *buf, size_t bufsize);

/* core_allocator_init of core_alloc.h; the test block stays only if BUFLIB_DEBUG_PRINT is defined. */
static inline void rockbox_core_allocator_init_(void)
{
    core_allocator_init();
#ifndef BUFLIB_DEBUG_PRINT
    core_test_free();
#endif
}

#ifdef BUFLIB_DEBUG
/* As in buflib.h. */
static inline int rockbox_core_alloc_debug_(size_t size) BUFLIB_DEBUG_CALL_(&core_ctx, int, rockbox_core_alloc(size))
static inline int rockbox_core_alloc_ex_debug_(size_t size, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(&core_ctx, int, rockbox_core_alloc_ex(size, ops))
static inline int rockbox_core_alloc_maximum_debug_(size_t *size, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(&core_ctx, int, rockbox_core_alloc_maximum(size, ops))
static inline void *rockbox_core_get_data_pinned_debug_(int handle) BUFLIB_DEBUG_CALL_(&core_ctx, void *, rockbox_core_get_data_pinned(handle))
static inline void rockbox_core_put_data_pinned_debug_(void *data) BUFLIB_DEBUG_VOID_(&core_ctx, rockbox_core_put_data_pinned(data))
static inline bool rockbox_core_print_block_at_debug_(int block_num, char *buf, size_t bufsize) BUFLIB_DEBUG_CALL_(&core_ctx, bool, rockbox_core_print_block_at(block_num, buf, bufsize))
#define rockbox_core_alloc rockbox_core_alloc_debug_
#define rockbox_core_alloc_ex rockbox_core_alloc_ex_debug_
#define rockbox_core_alloc_maximum rockbox_core_alloc_maximum_debug_
#define rockbox_core_get_data_pinned rockbox_core_get_data_pinned_debug_
#define rockbox_core_put_data_pinned rockbox_core_put_data_pinned_debug_
#define rockbox_core_print_block_at rockbox_core_print_block_at_debug_
#endif

/* The documented names. */
#undef core_allocator_init
#undef core_alloc
#undef core_alloc_ex
#undef core_alloc_maximum
#undef core_get_data_pinned
#undef core_put_data_pinned
#undef core_print_block_at
#define core_allocator_init rockbox_core_allocator_init_
#define core_alloc rockbox_core_alloc
#define core_alloc_ex rockbox_core_alloc_ex
#define core_alloc_maximum rockbox_core_alloc_maximum
#define core_get_data_pinned rockbox_core_get_data_pinned
#define core_put_data_pinned rockbox_core_put_data_pinned
#define core_print_block_at rockbox_core_print_block_at

#ifdef __cplusplus
}
#endif

#endif
