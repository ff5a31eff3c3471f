/* SPDX-License-Identifier: MIT OR Apache-2.0 */
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
