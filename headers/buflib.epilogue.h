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
    if ((size_t)handle - 1 >= (size_t)(table - ctx->last_handle))
        return (void *)0;
#ifdef LIBPALLOC_BUFLIB_LATER
    return table[-handle].alloc;
#else
    return (void *)table[-handle];
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
