/* SPDX-License-Identifier: MIT OR Apache-2.0 */
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
