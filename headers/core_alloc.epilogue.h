/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifdef BUFLIB_DEBUG
/* As in buflib.h: free memory is accessible during a call only. */
static inline int core_alloc_debug_(const char *name, size_t size) BUFLIB_DEBUG_CALL_(&core_ctx, int, core_alloc(name, size))
static inline int core_alloc_ex_debug_(const char *name, size_t size, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(&core_ctx, int, core_alloc_ex(name, size, ops))
static inline int core_alloc_maximum_debug_(const char *name, size_t *size, struct buflib_callbacks *ops) BUFLIB_DEBUG_CALL_(&core_ctx, int, core_alloc_maximum(name, size, ops))
static inline int core_free_debug_(int handle) BUFLIB_DEBUG_CALL_(&core_ctx, int, core_free(handle))
static inline bool core_shrink_debug_(int handle, void *new_start, size_t new_size) BUFLIB_DEBUG_CALL_(&core_ctx, bool, core_shrink(handle, new_start, new_size))
static inline size_t core_allocatable_debug_(void) BUFLIB_DEBUG_CALL_(&core_ctx, size_t, core_allocatable())
static inline size_t core_compact_step_debug_(size_t max_bytes) BUFLIB_DEBUG_CALL_(&core_ctx, size_t, core_compact_step(max_bytes))
static inline bool core_get_stat_debug_(struct buflib_stat *out) BUFLIB_DEBUG_CALL_(&core_ctx, bool, core_get_stat(out))
static inline bool core_resize_debug_(size_t size) BUFLIB_DEBUG_CALL_(&core_ctx, bool, core_resize(size))
static inline size_t core_get_size_debug_(int handle) BUFLIB_DEBUG_CALL_(&core_ctx, size_t, core_get_size(handle))
static inline const char *core_get_name_debug_(int handle) BUFLIB_DEBUG_CALL_(&core_ctx, const char *, core_get_name(handle))
static inline void core_pin_debug_(int handle) BUFLIB_DEBUG_VOID_(&core_ctx, core_pin(handle))
static inline void core_unpin_debug_(int handle) BUFLIB_DEBUG_VOID_(&core_ctx, core_unpin(handle))
static inline unsigned core_pin_count_debug_(int handle) BUFLIB_DEBUG_CALL_(&core_ctx, unsigned, core_pin_count(handle))
static inline int core_get_num_blocks_debug_(void) BUFLIB_DEBUG_CALL_(&core_ctx, int, core_get_num_blocks())
static inline void core_print_block_at_debug_(int block_num, char *buf, size_t bufsize) BUFLIB_DEBUG_VOID_(&core_ctx, core_print_block_at(block_num, buf, bufsize))
static inline bool core_test_free_debug_(void) BUFLIB_DEBUG_CALL_(&core_ctx, bool, core_test_free())
static inline void core_allocator_init_pool_debug_(void *buf, size_t size) BUFLIB_DEBUG_VOID_(&core_ctx, core_allocator_init_pool(buf, size))
static inline void core_allocator_init_debug_(void) BUFLIB_DEBUG_VOID_(&core_ctx, core_allocator_init())

#define core_alloc core_alloc_debug_
#define core_alloc_ex core_alloc_ex_debug_
#define core_alloc_maximum core_alloc_maximum_debug_
#define core_free core_free_debug_
#define core_shrink core_shrink_debug_
#define core_allocatable core_allocatable_debug_
#define core_compact_step core_compact_step_debug_
#define core_get_stat core_get_stat_debug_
#define core_resize core_resize_debug_
#define core_get_size core_get_size_debug_
#define core_get_name core_get_name_debug_
#define core_pin core_pin_debug_
#define core_unpin core_unpin_debug_
#define core_pin_count core_pin_count_debug_
#define core_get_num_blocks core_get_num_blocks_debug_
#define core_print_block_at core_print_block_at_debug_
#define core_test_free core_test_free_debug_
#define core_allocator_init_pool core_allocator_init_pool_debug_
#define core_allocator_init core_allocator_init_debug_
#endif

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
#undef core_allocator_init
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
#ifdef BUFLIB_DEBUG
static inline void core_check_valid_debug_(void) BUFLIB_DEBUG_VOID_(&core_ctx, core_check_valid())
#define core_check_valid core_check_valid_debug_
#endif
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
