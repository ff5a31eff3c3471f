/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/rockbox_chunk_alloc.rs and headers/rockbox_chunk_alloc.*; changes belong there. */
#ifndef LIBPALLOC_ROCKBOX_CHUNK_ALLOC_H
#define LIBPALLOC_ROCKBOX_CHUNK_ALLOC_H

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

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Makes an allocator of at most `max_chunks` chunks of `chunk_size` bytes, in blocks of `ctx`,
 * whatever was in `*hdr`. The list of chunks is allocated at once, the chunks when they are used.
 *
 * Fails iff (false, and chunk_alloc_is_initialized says so too) `hdr` or `ctx` is NULL,
 * `chunk_size` or `max_chunks` is 0, or buflib_alloc fails for the list.
 */
bool rockbox_chunk_alloc_init(struct chunk_alloc_header *hdr, struct buflib_context *ctx, size_t chunk_size, size_t max_chunks);

/*
 * From now on chunks are of `chunk_size` bytes, and there can be `max_chunks` of them. Blocks stay
 * as they are.
 *
 * Fails iff (false, and nothing has changed) there are more chunks than that, `chunk_size` or
 * `max_chunks` is 0, or buflib_alloc fails for the list.
 */
bool rockbox_chunk_realloc(struct chunk_alloc_header *hdr, size_t chunk_size, size_t max_chunks);

/*
 * Frees all blocks, pinned or not, and the list: the allocator is not initialized any more. Does
 * nothing if it was not.
 */
void rockbox_chunk_alloc_free(struct chunk_alloc_header *hdr);

/* Gives back what the last chunk has left. The next chunk_alloc begins a new one. */
void rockbox_chunk_alloc_finalize(struct chunk_alloc_header *hdr);

/*
 * Allocates a block of `size` bytes and returns its offset. Blocks of a chunk lie one behind the
 * other without gaps, and a chunk begins at a word: who wants aligned blocks asks for sizes that
 * are multiples of the alignment. A block that does not fit into the last chunk begins a new one,
 * of chunk_size bytes or of `size` if that is more, after chunk_alloc_finalize.
 *
 * Fails iff (CHUNK_ALLOC_INVALID) `size` is 0, there are as many chunks as there can be,
 * buflib_alloc fails for a new chunk, or the allocator is not initialized.
 */
size_t rockbox_chunk_alloc(struct chunk_alloc_header *hdr, size_t size);

/*
 * Pins the chunk of the block at `offset` and returns where the block is, until chunk_put_data. An
 * offset within a block is good too.
 *
 * Fails iff (NULL) there is no block, or buflib_get_data_pinned fails.
 */
void *rockbox_chunk_get_data(struct chunk_alloc_header *hdr, size_t offset);

/*
 * Takes the pin of chunk_get_data back. `data` is what that returned; only `offset` counts. Calls
 * the panic handler iff buflib_unpin does, or there is no block.
 */
void rockbox_chunk_put_data(struct chunk_alloc_header *hdr, void *data, size_t offset);

#ifdef BUFLIB_DEBUG
/* As in buflib.h. */
static inline bool rockbox_chunk_realloc_debug_(struct chunk_alloc_header *hdr, size_t chunk_size, size_t max_chunks) BUFLIB_DEBUG_CALL_(hdr->context, bool, rockbox_chunk_realloc(hdr, chunk_size, max_chunks))
static inline void rockbox_chunk_alloc_free_debug_(struct chunk_alloc_header *hdr) BUFLIB_DEBUG_VOID_(hdr->context, rockbox_chunk_alloc_free(hdr))
static inline void rockbox_chunk_alloc_finalize_debug_(struct chunk_alloc_header *hdr) BUFLIB_DEBUG_VOID_(hdr->context, rockbox_chunk_alloc_finalize(hdr))
static inline size_t rockbox_chunk_alloc_debug_(struct chunk_alloc_header *hdr, size_t size) BUFLIB_DEBUG_CALL_(hdr->context, size_t, rockbox_chunk_alloc(hdr, size))
static inline void *rockbox_chunk_get_data_debug_(struct chunk_alloc_header *hdr, size_t offset) BUFLIB_DEBUG_CALL_(hdr->context, void *, rockbox_chunk_get_data(hdr, offset))
static inline void rockbox_chunk_put_data_debug_(struct chunk_alloc_header *hdr, void *data, size_t offset) BUFLIB_DEBUG_VOID_(hdr->context, rockbox_chunk_put_data(hdr, data, offset))
static inline bool rockbox_chunk_alloc_init_debug_(struct chunk_alloc_header *hdr, struct buflib_context *ctx, size_t chunk_size, size_t max_chunks)
    BUFLIB_DEBUG_CALL_(ctx, bool, rockbox_chunk_alloc_init(hdr, ctx, chunk_size, max_chunks))
#define rockbox_chunk_realloc rockbox_chunk_realloc_debug_
#define rockbox_chunk_alloc_free rockbox_chunk_alloc_free_debug_
#define rockbox_chunk_alloc_finalize rockbox_chunk_alloc_finalize_debug_
#define rockbox_chunk_alloc rockbox_chunk_alloc_debug_
#define rockbox_chunk_get_data rockbox_chunk_get_data_debug_
#define rockbox_chunk_put_data rockbox_chunk_put_data_debug_
#define rockbox_chunk_alloc_init rockbox_chunk_alloc_init_debug_
#endif

/* chunk_alloc_init on core_ctx. */
static inline bool rockbox_core_chunk_alloc_init_(struct chunk_alloc_header *hdr, size_t chunk_size, size_t max_chunks)
{
    return rockbox_chunk_alloc_init(hdr, &core_ctx, chunk_size, max_chunks);
}

/* Whether chunk_alloc_init has been called with success, and chunk_alloc_free not since. */
static inline bool rockbox_chunk_alloc_is_initialized_(struct chunk_alloc_header *hdr)
{
    return hdr->chunk_handle > 0;
}

/* The documented names. */
#define chunk_alloc_init rockbox_chunk_alloc_init
#define chunk_realloc rockbox_chunk_realloc
#define chunk_alloc_free rockbox_chunk_alloc_free
#define chunk_alloc_finalize rockbox_chunk_alloc_finalize
#define chunk_alloc rockbox_chunk_alloc
#define chunk_get_data rockbox_chunk_get_data
#define chunk_put_data rockbox_chunk_put_data
#define core_chunk_alloc_init rockbox_core_chunk_alloc_init_
#define chunk_alloc_is_initialized rockbox_chunk_alloc_is_initialized_

#ifdef __cplusplus
}
#endif

#endif
