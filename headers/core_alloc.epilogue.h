/*
 * In a file that defines MEMORYSIZE (in MiB) before this one, core_allocator_init takes a static pool
 * of MEMORYSIZE * 1024 - 768 KiB in that file instead.
 */
#ifdef MEMORYSIZE
static inline void core_allocator_init_memorysize_(void)
{
    static uint64_t pool[((size_t)(MEMORYSIZE) * 1024 - 768) * 1024 / sizeof(uint64_t)];

    core_allocator_init_pool(pool, sizeof pool);
}
#define core_allocator_init core_allocator_init_memorysize_
#endif

/* buflib_get_data. */
static inline void *core_get_data(int handle)
{
    return buflib_get_data(&core_ctx, handle);
}

#if defined DEBUG || defined BUFLIB_DEBUG_CHECK_VALID
/* buflib_check_valid. */
void core_check_valid(void);
#endif

#ifdef BUFLIB_DEBUG_BLOCKS
/* buflib_print_blocks and buflib_print_allocs, with `print` called without the number. */
struct core_print_ { void (*print)(const char *text); };

static inline struct core_print_ *core_print_to_(void)
{
    static struct core_print_ to;

    return &to;
}

static inline void core_print_one_(int number, const char *text)
{
    (void)number;
    core_print_to_()->print(text);
}

static inline void core_print_blocks(void (*print)(const char *text))
{
    core_print_to_()->print = print;
    buflib_print_blocks(&core_ctx, core_print_one_);
}

static inline void core_print_allocs(void (*print)(const char *text))
{
    core_print_to_()->print = print;
    buflib_print_allocs(&core_ctx, core_print_one_);
}
#endif
