/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * core_alloc.h: buflib for a program that has one pool.
 *
 * The functions are those of buflib.h on one context, core_ctx; that file is the manual. Note that
 * the name comes first here. Call core_allocator_init or core_allocator_init_pool before all others.
 *
 *   #include <core_alloc.h>
 *   #include <stdio.h>
 *
 *   int main(void)
 *   {
 *       int handle;
 *
 *       core_allocator_init();
 *       handle = core_alloc("numbers", 100 * sizeof(int));
 *       if (handle < 0)
 *           return 1;
 *       ((int *)core_get_data(handle))[99] = 42;
 *       printf("%s: %d bytes more\n", core_get_name(handle),
 *              (int)core_available());
 *       return core_free(handle);
 *   }
 *
 * Threads: one at a time, as for any context.
 *
 * There is no core_buffer_out and no core_buffer_in: they move every block of everybody.
 */
#include "buflib.h"
