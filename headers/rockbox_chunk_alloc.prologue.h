/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rockbox/chunk_alloc.h: many small blocks that are freed together, in a few blocks of buflib.
 *
 * A block of buflib costs a header and a handle. This allocator puts small blocks one behind the
 * other into larger ones, the chunks, and names them by offsets. Chunks may move: chunk_get_data pins
 * the chunk of a block, chunk_put_data takes the pin back. There is no free for a single block.
 *
 *   #include <rockbox/chunk_alloc.h>
 *   #include <stdio.h>
 *
 *   int main(void)
 *   {
 *       struct chunk_alloc_header words;
 *       size_t offset;
 *       char *data;
 *
 *       core_allocator_init();
 *       if (!core_chunk_alloc_init(&words, 1024, 16))
 *           return 1;
 *       offset = chunk_alloc(&words, 6);
 *       if (offset == CHUNK_ALLOC_INVALID)
 *           return 1;
 *       data = (char *)chunk_get_data(&words, offset);
 *       strcpy(data, "hello");
 *       puts(data);
 *       chunk_put_data(&words, data, offset);
 *       chunk_alloc_free(&words);
 *       return 0;
 *   }
 *
 * Names are mapped to those of this library by macros at the end of this file.
 */
#include "core_alloc.h"

/* No block. */
#define CHUNK_ALLOC_INVALID ((size_t)-1)

/* An allocator of small blocks, made by chunk_alloc_init. Read the fields, never write them. */
struct chunk_alloc_header {
    struct buflib_context *context; /* where the chunks are */
    int chunk_handle;               /* the list of the chunks; 0 if not initialized */
    size_t chunk_bytes_total;       /* bytes of the last chunk */
    size_t chunk_bytes_free;        /* how many of them are left */
    size_t chunk_size;              /* bytes of the next chunk */
    size_t count;                   /* how many chunks there can be */
    size_t current;                 /* the number of the last chunk */
    struct {
        int handle;
        size_t min_offset, max_offset;
    } cached_chunk;                 /* the chunk that was looked up last */
};
