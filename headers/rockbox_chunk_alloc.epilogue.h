/* SPDX-License-Identifier: MIT OR Apache-2.0 */
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
