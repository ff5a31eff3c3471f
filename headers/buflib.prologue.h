/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * buflib.h: blocks that the allocator may move, in one buffer of yours.
 *
 * A fixed amount of memory is shared by users that need more or less of it over time. Blocks are
 * named by handles: when a large block is wanted and the free memory lies in pieces, the blocks
 * between are moved together; when there is not enough, blocks that can do with less are asked to
 * shrink. Nothing is allocated outside of the buffer and the context. Link with -lpalloc.
 *
 * Terms
 *
 *   pool      The buffer. It holds blocks from its start, handles from its end, and nothing else.
 *   context   The state of one pool beside it: struct buflib_context, 688 bytes (216 on 32-bit).
 *   word      sizeof(void *) bytes. Sizes of blocks are multiples of it.
 *   block     A header, then the payload, which is the caller's. BUFLIB_ALLOC_OVERHEAD bytes and the
 *             name are what a block takes beside its payload.
 *   handle    The number of a block, 1 or more. It stays the same when the block moves. When the block
 *             is freed the handle is given to another: who uses it still uses that one's block.
 *             A handle is bad if no block has it now. Every function says what it does with a bad one.
 *   pin       While a block has pins it does not move.
 *
 * A program: two blocks apart leave room for a larger one, when the second is moved.
 *
 *   #include <buflib.h>
 *   #include <stdio.h>
 *   #include <string.h>
 *
 *   static char pool[4096];
 *
 *   int main(void)
 *   {
 *       struct buflib_context ctx;
 *       int first, second, large;
 *
 *       buflib_init(&ctx, pool, sizeof pool);
 *       first = buflib_alloc(&ctx, 1500);
 *       second = buflib_alloc_ex(&ctx, 1000, "second", NULL);
 *       if (first < 0 || second < 0)
 *           return 1;
 *       strcpy(buflib_get_data(&ctx, second), "hello");
 *       buflib_free(&ctx, first);
 *       large = buflib_alloc(&ctx, 2800);
 *       printf("%s is still there: %s\n", buflib_get_name(&ctx, second),
 *              (char *)buflib_get_data(&ctx, second));
 *       return large < 0;
 *   }
 *
 * Addresses
 *
 *   The address from buflib_get_data is right until the next call that may move blocks: buflib_alloc and
 *   its variants, buflib_allocatable, buflib_compact_step, buflib_resize, buflib_buffer_out,
 *   buflib_buffer_in, buflib_context_relocate, and buflib_shrink of this block. Ask anew after those, or pin the block. buflib_free moves nothing.
 *
 * Callbacks
 *
 *   A block with ops NULL moves without being asked and never shrinks. Otherwise its callbacks are
 *   asked; each may be NULL. Without a move_callback the block never moves (buflib_ops_locked).
 *
 *   move_callback    The block will move: `current` is its payload, which is still there,
 *                    `new_start` is where it will be. BUFLIB_CB_CANNOT_MOVE keeps it where it is;
 *                    anything else agrees. Not called by buflib_buffer_out, buflib_buffer_in and
 *                    buflib_context_relocate.
 *   sync_callback    Called with true before and with false after move_callback and the move, also
 *                    if it was refused: to take and release a lock, for one.
 *   shrink_callback  Others need memory. `start` and `old_size` are the payload, up to the end of the
 *                    block. `hints & BUFLIB_SHRINK_SIZE_MASK` is how many bytes are wanted, header
 *                    included; `hints & BUFLIB_SHRINK_POS_MASK` is where: at the front, at the back,
 *                    or, to make the most of it, at both. Give any of it by buflib_shrink or
 *                    buflib_free of this handle, or of others, and return BUFLIB_CB_OK, else
 *                    BUFLIB_CB_CANNOT_SHRINK. It is called again as long as that yields something and
 *                    is not enough; BUFLIB_CB_OK without any progress counts as CANNOT_SHRINK.
 *
 *   In a move_callback or sync_callback only buflib_get_data, buflib_get_name, buflib_pin_count and
 *   buflib_available may be used on this context; in a shrink_callback also buflib_shrink and
 *   buflib_free, of any handle, and in all of them buflib_get_size and buflib_next. All others do nothing and fail: those that return a handle, and
 *   buflib_free, with -3. A callback must return: no longjmp, no buflib_init.
 *
 *   buflib_alloc_user takes callbacks that get the context and a pointer of the program's too.
 *
 * Time
 *
 *   An allocation that compacts moves as many blocks as it takes. A program that has no time for that,
 *   but has some now and then, calls buflib_compact_step with the bytes that may be moved: in each
 *   frame, say, or when idle. buflib_get_stat shows how much allocations had to move nevertheless.
 *
 * Growing
 *
 *   buflib_resize makes the pool longer or shorter at its place. With vmem.h: reserve address space,
 *   commit a part and make it the pool; when an allocation fails, commit more and resize.
 *
 * Damage
 *
 *   Headers lie between the payloads, so a program that writes outside of its blocks destroys them.
 *   They have a checksum, and whatever is used of the pool is checked before. Damage is reported to
 *   the panic handler (buflib_set_panic_handler); without one the message goes to stderr and the
 *   program ends. If the handler returns, the call fails and has changed nothing.
 *
 * Threads
 *
 *   No locking anywhere. Different contexts share only the panic handler. One context may be
 *   used by one thread at a time: the caller sees to that. buflib_get_data is a read.
 *   A call needs some 8 KiB of stack on 64-bit machines, 2 KiB on others, beside that of callbacks.
 *
 * Debugging
 *
 *   With BUFLIB_DEBUG defined in all files of a program, every use of free memory is reported, so of
 *   the old address of a block that was freed, moved or cut: by AddressSanitizer in a program that is
 *   compiled with it, else by valgrind if <valgrind/memcheck.h> is there. Each call then takes time
 *   that grows with the number of blocks, and memory that was a pool can be used for something else
 *   only after it was given back to malloc or the system. The library is the same.
 *
 * DEBUG defined before this file makes buflib_get_data call the panic handler for a bad handle, and
 * declares buflib_check_valid. BUFLIB_DEBUG_BLOCKS declares buflib_print_blocks and
 * buflib_print_allocs. The library is the same.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef BUFLIB_DEBUG
#if defined __SANITIZE_ADDRESS__
#define BUFLIB_DEBUG_ASAN_
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define BUFLIB_DEBUG_ASAN_
#endif
#endif
#if defined BUFLIB_DEBUG_ASAN_
#include <sanitizer/asan_interface.h>
#define BUFLIB_DEBUG_POISON_(start, bytes) ASAN_POISON_MEMORY_REGION(start, bytes)
#define BUFLIB_DEBUG_UNPOISON_(start, bytes) ASAN_UNPOISON_MEMORY_REGION(start, bytes)
#elif defined __has_include
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define BUFLIB_DEBUG_POISON_(start, bytes) ((void)VALGRIND_MAKE_MEM_NOACCESS(start, bytes))
#define BUFLIB_DEBUG_UNPOISON_(start, bytes) ((void)VALGRIND_MAKE_MEM_DEFINED(start, bytes))
#endif
#endif
#ifndef BUFLIB_DEBUG_POISON_
#define BUFLIB_DEBUG_POISON_(start, bytes) ((void)(start), (void)(bytes))
#define BUFLIB_DEBUG_UNPOISON_(start, bytes) ((void)(start), (void)(bytes))
#endif
#define BUFLIB_DEBUG_CALL_(ctx, type, call) \
    { \
        type result_; \
        buflib_debug_open_(ctx); \
        result_ = call; \
        buflib_debug_close_(ctx); \
        return result_; \
    }
#define BUFLIB_DEBUG_VOID_(ctx, call) \
    { \
        buflib_debug_open_(ctx); \
        call; \
        buflib_debug_close_(ctx); \
    }
#endif

/* Results of callbacks. */
#define BUFLIB_CB_OK 0
#define BUFLIB_CB_CANNOT_MOVE 1
#define BUFLIB_CB_CANNOT_SHRINK 1

/* Negative results of functions that return a handle. */
#define BUFLIB_NO_HANDLE (-1)  /* no handle is free, and there is no word for one */
#define BUFLIB_NO_MEMORY (-2)  /* there is no place, even after compaction and shrinking */
#define BUFLIB_REFUSED (-3)    /* a callback is running, or the pool is damaged */

/* The hints of a shrink_callback: where memory is wanted, and how many bytes. */
#define BUFLIB_SHRINK_POS_FRONT (1u << 31)
#define BUFLIB_SHRINK_POS_BACK (1u << 30)
#define BUFLIB_SHRINK_POS_MASK (BUFLIB_SHRINK_POS_FRONT | BUFLIB_SHRINK_POS_BACK)
#define BUFLIB_SHRINK_SIZE_MASK (~BUFLIB_SHRINK_POS_MASK)

/* For core_alloc.h files of the original, which ask whether buflib_print_block_at exists: it always does. */
#ifndef BUFLIB_DEBUG_BLOCK_SINGLE
#define BUFLIB_DEBUG_BLOCK_SINGLE
#endif

/* Bytes that a block without a name takes of the pool beside its payload: the header and the handle. */
#define BUFLIB_ALLOC_OVERHEAD (6 * sizeof(void *))

/* A word of a pool: a length, an address of callbacks or of a payload, a slot of the handle table. */
union buflib_data {
    intptr_t val;
    volatile unsigned pincount;
    struct buflib_callbacks *ops;
    char *alloc;
    union buflib_data *handle;
};

/* rockbox/buflib.h, for the later generation, has the context's pointers point to the union. */
#ifdef LIBPALLOC_BUFLIB_LATER
typedef union buflib_data buflib_word_;
#else
typedef intptr_t buflib_word_;
#endif

/*
 * One pool's state, made by buflib_init. Read the fields, never write them: they are public so that
 * buflib_get_data can be inlined. All pointers are to words of the pool.
 */
struct buflib_context {
    buflib_word_ *handle_table;       /* end of the pool; handle n is the word n words below */
    buflib_word_ *first_free_handle;  /* no handle of a lower number is free */
    buflib_word_ *last_handle;        /* lowest word of the handle table */
    buflib_word_ *buf_start;          /* first block */
    buflib_word_ *alloc_end;          /* end of the last allocated block */
    bool compact;                 /* a compaction would not help */
    uintptr_t private_[16 + 8 * sizeof(void *)];
};

/* The callbacks of a block; see "Callbacks" above. Kept by reference. */
struct buflib_callbacks {
    int (*move_callback)(int handle, void *current, void *new_start);
    int (*shrink_callback)(int handle, unsigned hints, void *start, size_t old_size);
    void (*sync_callback)(int handle, bool sync_on);
};

/* As struct buflib_callbacks, for buflib_alloc_user: each gets the context and `user` too. */
struct buflib_user_callbacks {
    int (*move_callback)(struct buflib_context *ctx, int handle, void *current, void *new_start, void *user);
    int (*shrink_callback)(struct buflib_context *ctx, int handle, unsigned hints, void *start,
                           size_t old_size, void *user);
    void (*sync_callback)(struct buflib_context *ctx, int handle, bool sync_on, void *user);
    void *user;
};

/* The result of buflib_get_stat. Sizes are in bytes. */
struct buflib_stat {
    size_t pool;          /* live + free + a word for each of `handles` */
    size_t live;          /* blocks with their headers */
    size_t free;          /* in holes and at the end */
    size_t largest_free;  /* the longest free piece */
    size_t holes;         /* free pieces between blocks */
    size_t blocks, free_blocks; /* how many blocks and how many holes there are */
    size_t pinned, locked; /* blocks with pins; blocks with callbacks but without a move_callback */
    size_t handles;       /* words of the handle table */
    /* Since buflib_init; on 32-bit these three wrap at 2^32. */
    uint64_t moves, moved_bytes; /* blocks that compactions and steps moved, and their bytes */
    uint64_t refused;     /* moves that a move_callback refused */
    uint64_t worst_alloc_move; /* the most bytes that were moved within one allocation */
};

/* Called when a pool turns out to be damaged, or a program to be wrong. */
typedef void (*buflib_panic_fn)(struct buflib_context *ctx, const char *message);

/* Called for each damage that buflib_check finds, with its address and a description. */
typedef void (*buflib_report_fn)(void *user, const void *block, const char *what);
