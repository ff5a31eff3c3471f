/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/core_alloc.rs and headers/core_alloc.*; changes belong there. */
#ifndef LIBPALLOC_CORE_ALLOC_H
#define LIBPALLOC_CORE_ALLOC_H

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

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the pool of core_allocator_init. */
#define CORE_ALLOC_POOL_SIZE 7602176

/* The context of all functions of this header. */
extern struct buflib_context core_ctx;

/*
 * core_allocator_init_pool with a static pool of CORE_ALLOC_POOL_SIZE bytes, 7424 KiB, which costs
 * no memory before it is used, but counts for RLIMIT_AS and RLIMIT_DATA. In a file that defines
 * MEMORYSIZE it has MEMORYSIZE * 1024 - 768 KiB: see below.
 */
void core_allocator_init(void);

/*
 * Makes the `size` bytes at `buf` the pool, as buflib_init does, and allocates 112 bytes with the
 * name "test": handle 1.
 */
void core_allocator_init_pool(void *buf, size_t size);

/* Frees the allocation "test". False iff that has been done, or was never made. */
bool core_test_free(void);

/* buflib_alloc_ex without callbacks. Note that the name comes first. */
int core_alloc(const char *name, size_t size);

/* buflib_alloc_ex. */
int core_alloc_ex(const char *name, size_t size, struct buflib_callbacks *ops);

/* buflib_alloc_maximum. */
int core_alloc_maximum(const char *name, size_t *size, struct buflib_callbacks *ops);

/* buflib_free. */
int core_free(int handle);

/* buflib_shrink. */
bool core_shrink(int handle, void *new_start, size_t new_size);

/* buflib_available. */
size_t core_available(void);

/* buflib_allocatable. */
size_t core_allocatable(void);

/* buflib_compact_step. */
size_t core_compact_step(size_t max_bytes);

/* buflib_get_stat. */
bool core_get_stat(struct buflib_stat *out);

/* buflib_resize. */
bool core_resize(size_t size);

/* buflib_get_size. */
size_t core_get_size(int handle);

/* buflib_next. */
int core_next(int handle);

/* buflib_get_name, but returns `<anonymous>` instead of NULL. */
const char *core_get_name(int handle);

/* buflib_pin. */
void core_pin(int handle);

/* buflib_unpin. */
void core_unpin(int handle);

/* buflib_pin_count. */
unsigned int core_pin_count(int handle);

/* buflib_get_num_blocks. */
int core_get_num_blocks(void);

/* buflib_print_block_at. */
void core_print_block_at(int block_num, char *buf, size_t bufsize);

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

#ifdef __cplusplus
}
#endif

#endif
