/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/rockbox_buflib.rs and headers/rockbox_buflib.*; changes belong there. */
#ifndef LIBPALLOC_ROCKBOX_BUFLIB_H
#define LIBPALLOC_ROCKBOX_BUFLIB_H

/*
 * rockbox/buflib.h: buflib as its later generation (since 2023) declares it, for programs written for
 * that one. buflib.h is the manual: pools, blocks, handles, callbacks and damage are the same here.
 *
 *   - Blocks have no names: buflib_alloc_ex and buflib_alloc_maximum don't take one.
 *   - The words of the handle table are a union: ctx.handle_table[-handle].alloc is the payload.
 *   - buflib_print_block_at returns whether there is such a block.
 *   - Pins, buflib_shrink with start NULL, and a bad handle given to buflib_pin and buflib_unpin are
 *     as there. Headers are those of this library: BUFLIB_ALLOC_OVERHEAD is their size.
 *
 *   #include <rockbox/buflib.h>
 *   #include <stdio.h>
 *
 *   static char pool[4096];
 *
 *   int main(void)
 *   {
 *       struct buflib_context ctx;
 *       int handle;
 *       char *text;
 *
 *       buflib_init(&ctx, pool, sizeof pool);
 *       handle = buflib_alloc_ex(&ctx, 100, &buflib_ops_locked);
 *       if (handle < 0)
 *           return 1;
 *       text = (char *)buflib_get_data(&ctx, handle);
 *       strcpy(text, "locked");
 *       puts(ctx.handle_table[-handle].alloc);
 *       return buflib_free(&ctx, handle);
 *   }
 *
 * BUFLIB_DEBUG_GET_DATA makes buflib_get_data a function that calls the panic handler for a bad
 * handle, BUFLIB_DEBUG_CHECK_VALID declares buflib_check_valid, BUFLIB_DEBUG_PRINT makes
 * core_allocator_init allocate its test block. The functions that BUFLIB_DEBUG_PRINT declares in the
 * original always exist.
 *
 * Functions with other parameters than in buflib.h have names of their own, to which macros at the
 * end of this file map. So a source file can include the headers of one generation only. Both may be
 * used in one program, even for the same context.
 */
#ifdef LIBPALLOC_BUFLIB_H
#error "buflib.h and rockbox/buflib.h can't be included in the same source file"
#endif
#define LIBPALLOC_BUFLIB_LATER
#include "../buflib.h"

#ifdef __cplusplus
extern "C" {
#endif

/* buflib_alloc_ex of buflib.h without a name. */
int rockbox_buflib_alloc_ex(struct buflib_context *ctx, size_t size, struct buflib_callbacks *ops);

/* buflib_alloc_maximum of buflib.h without a name. */
int rockbox_buflib_alloc_maximum(struct buflib_context *ctx, size_t *size, struct buflib_callbacks *ops);

/*
 * buflib_print_block_at of buflib.h. False iff the line is empty: there is no such block, or a
 * callback is running.
 */
bool rockbox_buflib_print_block_at(struct buflib_context *ctx, int block_num, char *buf, size_t bufsize);

#ifdef BUFLIB_DEBUG
/* As in buflib.h. */
static inline int rockbox_buflib_alloc_ex_debug_(struct buflib_context *ctx, size_t size, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(ctx, int, rockbox_buflib_alloc_ex(ctx, size, ops))
static inline int rockbox_buflib_alloc_maximum_debug_(struct buflib_context *ctx, size_t *size, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(ctx, int, rockbox_buflib_alloc_maximum(ctx, size, ops))
static inline bool rockbox_buflib_print_block_at_debug_(struct buflib_context *ctx, int block_num, char *buf, size_t bufsize) BUFLIB_DEBUG_CALL_(ctx, bool, rockbox_buflib_print_block_at(ctx, block_num, buf, bufsize))
#define rockbox_buflib_alloc_ex rockbox_buflib_alloc_ex_debug_
#define rockbox_buflib_alloc_maximum rockbox_buflib_alloc_maximum_debug_
#define rockbox_buflib_print_block_at rockbox_buflib_print_block_at_debug_
#endif

/* The documented names. */
#undef buflib_alloc_ex
#undef buflib_alloc_maximum
#undef buflib_print_block_at
#define buflib_alloc_ex rockbox_buflib_alloc_ex
#define buflib_alloc_maximum rockbox_buflib_alloc_maximum
#define buflib_print_block_at rockbox_buflib_print_block_at

#ifdef __cplusplus
}
#endif

#endif
