/* SPDX-License-Identifier: MIT OR Apache-2.0 */
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
