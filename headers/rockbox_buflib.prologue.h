/* SPDX-License-Identifier: MIT OR Apache-2.0 */
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
