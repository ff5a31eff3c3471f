/* The documented names. */
#define buflib_alloc_ex rockbox_buflib_alloc_ex
#define buflib_alloc_maximum rockbox_buflib_alloc_maximum
#define buflib_print_block_at rockbox_buflib_print_block_at
