/* core_allocator_init of core_alloc.h; the test block stays only if BUFLIB_DEBUG_PRINT is defined. */
static inline void rockbox_core_allocator_init_(void)
{
    core_allocator_init();
#ifndef BUFLIB_DEBUG_PRINT
    core_test_free();
#endif
}

/* The documented names. */
#undef core_allocator_init
#define core_allocator_init rockbox_core_allocator_init_
#define core_alloc rockbox_core_alloc
#define core_alloc_ex rockbox_core_alloc_ex
#define core_alloc_maximum rockbox_core_alloc_maximum
#define core_get_data_pinned rockbox_core_get_data_pinned
#define core_put_data_pinned rockbox_core_put_data_pinned
#define core_print_block_at rockbox_core_print_block_at
