/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Casts and NULL that compile without a warning in C and in C++. */
#ifdef __cplusplus
#define LIBPALLOC_CAST_(type, value) static_cast<type>(value)
#define LIBPALLOC_POINTER_(word) reinterpret_cast<void *>(word)
#define LIBPALLOC_NULL_ nullptr
#else
#define LIBPALLOC_CAST_(type, value) ((type)(value))
#define LIBPALLOC_POINTER_(word) ((void *)(word))
#define LIBPALLOC_NULL_ NULL
#endif

/*
 * Where the payload of a block is now. NULL iff the handle is bad. `ctx` must be an initialized
 * context. With DEBUG a bad handle calls the panic handler.
 */
#if defined DEBUG || defined BUFLIB_DEBUG_GET_DATA
void *buflib_get_data(struct buflib_context *ctx, int handle);
#else
static inline void *buflib_get_data(struct buflib_context *ctx, int handle)
{
    buflib_word_ *table = ctx->handle_table;

    /* 0 and negative handles become the largest numbers. */
    if (LIBPALLOC_CAST_(size_t, handle) - 1 >= LIBPALLOC_CAST_(size_t, table - ctx->last_handle))
        return LIBPALLOC_NULL_;
#ifdef LIBPALLOC_BUFLIB_LATER
    return table[-handle].alloc;
#else
    return LIBPALLOC_POINTER_(table[-handle]);
#endif
}
#endif

#if defined DEBUG || defined BUFLIB_DEBUG_CHECK_VALID
/* Checks every header, and calls the panic handler for the first that is damaged. */
void buflib_check_valid(struct buflib_context *ctx);
#endif

#ifdef BUFLIB_DEBUG_BLOCKS
/* Calls `print` for each block, with its number from 0 and the text of buflib_print_block_at. */
void buflib_print_blocks(struct buflib_context *ctx, void (*print)(int number, const char *text));

/*
 * Calls `print` for each live handle, with the handle less 1 and a text of three lines: name(handle)
 * and the address of the block, the address of the payload, the bytes of the whole block.
 */
void buflib_print_allocs(struct buflib_context *ctx, void (*print)(int number, const char *text));
#endif

#ifdef BUFLIB_DEBUG
/*
 * Free memory is accessible during a call and inaccessible after it, but not in a callback, where
 * the library is at work: private_[6] is not 0 then.
 */
static inline void buflib_debug_open_(struct buflib_context *ctx)
{
    if (ctx != (void *)0 && ctx->buf_start != (void *)0)
        BUFLIB_DEBUG_UNPOISON_(ctx->buf_start, (size_t)((char *)ctx->handle_table - (char *)ctx->buf_start));
}

static inline void buflib_debug_close_(struct buflib_context *ctx)
{
    buflib_word_ *block;

    if (ctx == (void *)0 || ctx->buf_start == (void *)0 || ctx->private_[6] != 0)
        return;
    for (block = ctx->buf_start; block < ctx->alloc_end;) {
        intptr_t length = *(intptr_t *)(void *)block, words = length < 0 ? -length : length;

        if (words <= 0 || words > ctx->alloc_end - block)
            return; /* damaged */
        if (length < 0)
            BUFLIB_DEBUG_POISON_(block, (size_t)words * sizeof *block);
        block += words;
    }
    BUFLIB_DEBUG_POISON_(ctx->alloc_end, (size_t)((char *)ctx->last_handle - (char *)ctx->alloc_end));
}

static inline void buflib_init_debug_(struct buflib_context *ctx, void *buf, size_t size)
{
    buflib_init(ctx, buf, size);
    buflib_debug_close_(ctx);
}

/* The caller copies the pool then: nothing is closed before the next call. */
static inline bool buflib_context_relocate_debug_(struct buflib_context *ctx, void *buf)
{
    buflib_debug_open_(ctx);
    return buflib_context_relocate(ctx, buf);
}

static inline int buflib_alloc_debug_(struct buflib_context *ctx, size_t size) BUFLIB_DEBUG_CALL_(ctx, int, buflib_alloc(ctx, size))
static inline int buflib_alloc_ex_debug_(struct buflib_context *ctx, size_t size, const char *name, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(ctx, int, buflib_alloc_ex(ctx, size, name, ops))
static inline int buflib_alloc_aligned_debug_(struct buflib_context *ctx, size_t size, size_t alignment, const char *name, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(ctx, int, buflib_alloc_aligned(ctx, size, alignment, name, ops))
static inline int buflib_alloc_user_debug_(struct buflib_context *ctx, size_t size, size_t alignment, const char *name, const struct buflib_user_callbacks *ops) BUFLIB_DEBUG_CALL_(ctx, int, buflib_alloc_user(ctx, size, alignment, name, ops))
static inline int buflib_alloc_maximum_debug_(struct buflib_context *ctx, const char *name, size_t *size, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(ctx, int, buflib_alloc_maximum(ctx, name, size, ops))
static inline bool buflib_shrink_debug_(struct buflib_context *ctx, int handle, void *new_start, size_t new_size) BUFLIB_DEBUG_CALL_(ctx, bool, buflib_shrink(ctx, handle, new_start, new_size))
static inline int buflib_free_debug_(struct buflib_context *ctx, int handle) BUFLIB_DEBUG_CALL_(ctx, int, buflib_free(ctx, handle))
static inline size_t buflib_allocatable_debug_(struct buflib_context *ctx) BUFLIB_DEBUG_CALL_(ctx, size_t, buflib_allocatable(ctx))
static inline size_t buflib_compact_step_debug_(struct buflib_context *ctx, size_t max_bytes) BUFLIB_DEBUG_CALL_(ctx, size_t, buflib_compact_step(ctx, max_bytes))
static inline bool buflib_get_stat_debug_(struct buflib_context *ctx, struct buflib_stat *out) BUFLIB_DEBUG_CALL_(ctx, bool, buflib_get_stat(ctx, out))
static inline bool buflib_resize_debug_(struct buflib_context *ctx, size_t size) BUFLIB_DEBUG_CALL_(ctx, bool, buflib_resize(ctx, size))
static inline size_t buflib_get_size_debug_(struct buflib_context *ctx, int handle) BUFLIB_DEBUG_CALL_(ctx, size_t, buflib_get_size(ctx, handle))
static inline void *buflib_buffer_out_debug_(struct buflib_context *ctx, size_t *size) BUFLIB_DEBUG_CALL_(ctx, void *, buflib_buffer_out(ctx, size))
static inline void buflib_buffer_in_debug_(struct buflib_context *ctx, int size) BUFLIB_DEBUG_VOID_(ctx, buflib_buffer_in(ctx, size))
static inline const char *buflib_get_name_debug_(struct buflib_context *ctx, int handle) BUFLIB_DEBUG_CALL_(ctx, const char *, buflib_get_name(ctx, handle))
static inline void buflib_pin_debug_(struct buflib_context *ctx, int handle) BUFLIB_DEBUG_VOID_(ctx, buflib_pin(ctx, handle))
static inline void buflib_unpin_debug_(struct buflib_context *ctx, int handle) BUFLIB_DEBUG_VOID_(ctx, buflib_unpin(ctx, handle))
static inline unsigned buflib_pin_count_debug_(struct buflib_context *ctx, int handle) BUFLIB_DEBUG_CALL_(ctx, unsigned, buflib_pin_count(ctx, handle))
static inline void *buflib_get_data_pinned_debug_(struct buflib_context *ctx, int handle) BUFLIB_DEBUG_CALL_(ctx, void *, buflib_get_data_pinned(ctx, handle))
static inline void buflib_put_data_pinned_debug_(struct buflib_context *ctx, void *data) BUFLIB_DEBUG_VOID_(ctx, buflib_put_data_pinned(ctx, data))
static inline int buflib_get_num_blocks_debug_(struct buflib_context *ctx) BUFLIB_DEBUG_CALL_(ctx, int, buflib_get_num_blocks(ctx))
static inline void buflib_print_block_at_debug_(struct buflib_context *ctx, int block_num, char *buf, size_t bufsize) BUFLIB_DEBUG_VOID_(ctx, buflib_print_block_at(ctx, block_num, buf, bufsize))
static inline bool buflib_check_debug_(struct buflib_context *ctx, buflib_report_fn report, void *user) BUFLIB_DEBUG_CALL_(ctx, bool, buflib_check(ctx, report, user))
#if defined DEBUG || defined BUFLIB_DEBUG_CHECK_VALID
static inline void buflib_check_valid_debug_(struct buflib_context *ctx) BUFLIB_DEBUG_VOID_(ctx, buflib_check_valid(ctx))
#define buflib_check_valid buflib_check_valid_debug_
#endif
#ifdef BUFLIB_DEBUG_BLOCKS
static inline void buflib_print_blocks_debug_(struct buflib_context *ctx, void (*print)(int number, const char *text)) BUFLIB_DEBUG_VOID_(ctx, buflib_print_blocks(ctx, print))
static inline void buflib_print_allocs_debug_(struct buflib_context *ctx, void (*print)(int number, const char *text)) BUFLIB_DEBUG_VOID_(ctx, buflib_print_allocs(ctx, print))
#define buflib_print_blocks buflib_print_blocks_debug_
#define buflib_print_allocs buflib_print_allocs_debug_
#endif

/* Both lists in the order of the header. */
#define buflib_init buflib_init_debug_
#define buflib_alloc buflib_alloc_debug_
#define buflib_alloc_ex buflib_alloc_ex_debug_
#define buflib_alloc_aligned buflib_alloc_aligned_debug_
#define buflib_alloc_user buflib_alloc_user_debug_
#define buflib_alloc_maximum buflib_alloc_maximum_debug_
#define buflib_shrink buflib_shrink_debug_
#define buflib_free buflib_free_debug_
#define buflib_allocatable buflib_allocatable_debug_
#define buflib_compact_step buflib_compact_step_debug_
#define buflib_get_stat buflib_get_stat_debug_
#define buflib_resize buflib_resize_debug_
#define buflib_get_size buflib_get_size_debug_
#define buflib_buffer_out buflib_buffer_out_debug_
#define buflib_buffer_in buflib_buffer_in_debug_
#define buflib_get_name buflib_get_name_debug_
#define buflib_pin buflib_pin_debug_
#define buflib_unpin buflib_unpin_debug_
#define buflib_pin_count buflib_pin_count_debug_
#define buflib_get_data_pinned buflib_get_data_pinned_debug_
#define buflib_put_data_pinned buflib_put_data_pinned_debug_
#define buflib_get_num_blocks buflib_get_num_blocks_debug_
#define buflib_print_block_at buflib_print_block_at_debug_
#define buflib_check buflib_check_debug_
#define buflib_context_relocate buflib_context_relocate_debug_
#endif
