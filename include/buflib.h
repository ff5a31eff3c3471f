/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/buflib.rs and headers/buflib.*; changes belong there. */
#ifndef LIBPALLOC_BUFLIB_H
#define LIBPALLOC_BUFLIB_H

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

#ifdef __cplusplus
extern "C" {
#endif

/* Callbacks for a block that neither moves nor shrinks. */
extern struct buflib_callbacks buflib_ops_locked;

/*
 * Makes the `size` bytes at `buf` a pool, without touching them, and `ctx` its context, whatever
 * was in it. Both ends are aligned inwards to words. If `buf` is NULL or no whole word is left,
 * every allocation will fail.
 */
void buflib_init(struct buflib_context *ctx, void *buf, size_t size);

/*
 * `buflib_alloc_ex(ctx, size, NULL, NULL)`: a block without a name that may be moved at any time.
 */
int buflib_alloc(struct buflib_context *ctx, size_t size);

/*
 * Allocates a block of `size` bytes, which may be 0, and returns its handle, 1 or more: the lowest
 * that is free. The payload is aligned to a word. `name` is copied into the block, or NULL. `ops`
 * is kept by reference and must live as long as the block; NULL means that the block may be moved
 * without being asked. `name` must not lie in the pool, as what buflib_get_name returns does:
 * blocks may move before it is copied.
 *
 * The block lies in the first free place that is large enough. If there is none, the pool is
 * compacted; if that does not help, all blocks that have a shrink callback are asked, as long as
 * that yields anything.
 *
 * Fails iff
 * - no handle is free and there is no word for one: -1;
 * - there is no place for `size` bytes, with the header and the name: -2, at once if they are more
 *   than the whole pool;
 * - a callback is running, or the pool is damaged and the panic handler returned: -3.
 */
int buflib_alloc_ex(struct buflib_context *ctx, size_t size, const char *name, struct buflib_callbacks *ops);

/*
 * As buflib_alloc_ex, with the payload aligned to `alignment` bytes, which every move keeps.
 * `alignment` is a power of two; 0 and all up to the size of a word are as buflib_alloc_ex. Up to
 * `alignment` bytes may be left free in front of the block.
 *
 * Where neither the end of the pool nor any free block has `alignment` bytes to spare, all blocks
 * are looked at in turn, to see whether one that is large enough starts at the right place: this
 * costs time that grows with their number.
 *
 * Fails iff buflib_alloc_ex does, or `alignment` is not a power of two or above the size of the
 * pool: -2.
 */
int buflib_alloc_aligned(struct buflib_context *ctx, size_t size, size_t alignment, const char *name, struct buflib_callbacks *ops);

/*
 * As buflib_alloc_aligned, with callbacks that get the context and a pointer of yours: for programs
 * with more than one pool. `ops` is kept by reference and must live as long as the block; NULL
 * means that the block may be moved without being asked.
 *
 * Fails iff buflib_alloc_aligned does.
 */
int buflib_alloc_user(struct buflib_context *ctx, size_t size, size_t alignment, const char *name, const struct buflib_user_callbacks *ops);

/*
 * Compacts, asks every block that has a shrink callback for all that it can give, and allocates all
 * that there is then in one place: `*size` bytes; with `size` NULL they are not reported. Room for
 * some more handles is left. The name is cut to 15 bytes.
 *
 * Fails iff (`*size` becomes 0; `size` NULL is no failure)
 * - there are fewer than 22 words and 16 bytes more at the end, and no other free block in which a
 *   byte has room, or there can be no handle: -1;
 * - a callback is running, or the pool is damaged and the panic handler returned: -3.
 */
int buflib_alloc_maximum(struct buflib_context *ctx, const char *name, size_t *size, struct buflib_callbacks *ops);

/*
 * Cuts a block down to the `new_size` bytes from `new_start`, which lie where they are: bytes to
 * keep have to be moved there before. Its payload then starts exactly at `new_start`, aligned or
 * not; with NULL where it starts already. The words in front and behind are free. No callback runs.
 * A block may grow back to the end of its last word.
 *
 * Fails iff (false, and nothing has changed) the handle is bad; the range is not within the
 * payload, rounded up to words; a move_callback or sync_callback is running; or the pool is damaged
 * and the panic handler returned.
 */
bool buflib_shrink(struct buflib_context *ctx, int handle, void *new_start, size_t new_size);

/*
 * Frees a block, whatever pins it has, and returns 0.
 *
 * Fails iff the handle is bad: the argument is returned, so that `h = buflib_free(ctx, h)` may be
 * repeated; or a move_callback or sync_callback is running, or the pool is damaged and the panic
 * handler returned: -3.
 */
int buflib_free(struct buflib_context *ctx, int handle);

/*
 * Bytes that are free in the pool, in whatever pieces; of those at the end, without the room for a
 * header, 16 handles and a short name. Never fails, and takes the same time however many blocks
 * there are.
 */
size_t buflib_available(struct buflib_context *ctx);

/*
 * Compacts if that may help, and returns how many bytes buflib_alloc gives then, as long as the
 * move callbacks of blocks that are in the way agree. No shrink callback is asked.
 *
 * Returns 0 iff there is nothing, no handle is free and there is no word for one, a callback is
 * running, or the pool is damaged and the panic handler returned.
 */
size_t buflib_allocatable(struct buflib_context *ctx);

/*
 * Compacts a part of the pool, for callers that cannot wait for all of it: moves blocks together as
 * compaction does, and asks their callbacks. Blocks keep their order: a hole before a block that
 * stays remains. Returns the bytes that still lie in holes if a further step may close one; 0 when
 * no step can before the next buflib_alloc, buflib_free, buflib_shrink or buflib_unpin. A block
 * whose move_callback refused is asked again only after one of these.
 *
 * A step moves at most `max_bytes` bytes, headers included; or one block, if the first is longer.
 * At most max(64, `max_bytes` / 256) + 1 blocks move or are found to stay (pinned, without a
 * move_callback, refused); it calls at most one move_callback and two sync_callbacks for each. Each
 * costs O(log n) in a pool of n words; nothing else depends on the number of blocks. So a step
 * takes longer only by the time of the callbacks, and of one block that is longer than `max_bytes`.
 * A step may move nothing, if so many blocks stay.
 *
 * Fails iff (0) a callback is running, or the pool is damaged and the panic handler returned.
 * Blocks that were moved before the damage was found remain moved.
 */
size_t buflib_compact_step(struct buflib_context *ctx, size_t max_bytes);

/*
 * Writes sums over all blocks, and counters since buflib_init, to `*out`. Looks at every block.
 *
 * Fails iff (false, `*out` is unchanged) `out` is NULL, a callback is running, or the pool is
 * damaged and the panic handler returned.
 */
bool buflib_get_stat(struct buflib_context *ctx, struct buflib_stat *out);

/*
 * Makes the pool `size` bytes long, rounded down to words, more or less than before, at the same
 * place: counted from the first whole word that buflib_init was given. The handle table moves to
 * the new end. Compacts if that is necessary. Before a pool becomes longer the memory behind it
 * must be there; after it became shorter the rest is the caller's.
 *
 * Fails iff (false, and the pool is as long as before) the blocks and handles in use do not fit,
 * because of pins and locked blocks perhaps; `size` is less than a word or beyond the end of the
 * address space; the context has no pool; a callback is running; or the pool is damaged and the
 * panic handler returned.
 */
bool buflib_resize(struct buflib_context *ctx, size_t size);

/*
 * Bytes of a block's payload, up to the end of the block: the size asked for, rounded up to words.
 *
 * Fails iff (0) the handle is bad, or the pool is damaged and the panic handler returned.
 */
size_t buflib_get_size(struct buflib_context *ctx, int handle);

/*
 * The next handle in use after `handle`, which need not be in use; 0 or less: the first. Returns 0
 * at the end.
 */
int buflib_next(struct buflib_context *ctx, int handle);

/*
 * Prepares the pool for being copied to `buf`: all its pointers are changed to that place, and the
 * pool may not be used before its bytes lie there, the first whole word at `buf`. No callback runs.
 *
 * Fails iff (false, and nothing has changed) `buf` is NULL, or not as aligned as a word and,
 * relative to where the pool is, as each aligned block; a block is pinned; memory is out
 * (buflib_buffer_out); a callback is running; or the pool is damaged and the panic handler
 * returned.
 */
bool buflib_context_relocate(struct buflib_context *ctx, void *buf);

/*
 * Takes memory away from the free end of the pool, compacting it first if that may help: all blocks
 * move up without being asked, and the start of the pool, which is returned, is the caller's until
 * buflib_buffer_in. `*size` is how many bytes are wanted, 0 for all; then how many they are,
 * rounded up to words, and up to the largest alignment of a block. They are fewer, even 0, if fewer
 * are free.
 *
 * Fails iff (NULL, `*size` becomes 0, and nothing has changed) the context has no pool, a block is
 * pinned, a callback is running, `size` is NULL, or the pool is damaged and the panic handler
 * returned.
 */
void *buflib_buffer_out(struct buflib_context *ctx, size_t *size);

/*
 * Brings back `size` bytes of those taken out last, without a rest that does not make a word or a
 * multiple of the largest alignment of a block: all blocks move down without being asked.
 *
 * Fails iff (nothing has changed) a block is pinned, a callback is running, `size` is negative or
 * more than is out, or the pool is damaged and the panic handler returned.
 */
void buflib_buffer_in(struct buflib_context *ctx, int size);

/*
 * The name of a block, in the block itself: it moves with it. NULL iff the block has none, the
 * handle is bad, or the pool is damaged and the panic handler returned.
 */
const char *buflib_get_name(struct buflib_context *ctx, int handle);

/*
 * Keeps a block where it is, also from compaction, until as many buflib_unpin. Its shrink callback
 * is still asked. The pins end with the block.
 *
 * Fails iff (nothing has changed) a callback is running; or, which calls the panic handler, the
 * handle is bad, the block has 2^32 - 1 pins (4095 on 32-bit), or the pool is damaged.
 */
void buflib_pin(struct buflib_context *ctx, int handle);

/*
 * Takes back one pin.
 *
 * Fails iff (nothing has changed) a callback is running; or, which calls the panic handler, the
 * handle is bad, the block has no pin, or the pool is damaged.
 */
void buflib_unpin(struct buflib_context *ctx, int handle);

/* How many pins a block has; 0 if the handle is bad. */
unsigned int buflib_pin_count(struct buflib_context *ctx, int handle);

/*
 * Pins a block and returns its data, which stays there until buflib_put_data_pinned.
 *
 * Fails iff (NULL) buflib_pin does. A bad handle does not call the panic handler here.
 */
void *buflib_get_data_pinned(struct buflib_context *ctx, int handle);

/*
 * Takes back the pin of buflib_get_data_pinned. `data` is the pointer that it returned or, when
 * buflib_shrink has cut the front of the block since, the one that buflib_get_data returns now;
 * anything else is ignored. A shrink callback may be asked while the block is pinned: one that cuts
 * fronts is better served by buflib_unpin.
 *
 * Fails iff buflib_unpin does.
 */
void buflib_put_data_pinned(struct buflib_context *ctx, void *data);

/* How many blocks there are, free ones too. 0 also iff a callback is running. */
int buflib_get_num_blocks(struct buflib_context *ctx);

/*
 * Writes a line about the block of that number, from 0, into `buf`, cut to `bufsize` with its NUL:
 * `ADDRESS: val: LENGTH (NAME)`. LENGTH is in words, NAME `<unallocated>` for a free block, whose
 * length is negative, and `<anonymous>` for one without a name. The line is empty iff there is no
 * such block or a callback is running.
 */
void buflib_print_block_at(struct buflib_context *ctx, int block_num, char *buf, size_t bufsize);

/*
 * Looks at every block, handle and link of the pool, and calls `report`, unless it is NULL, for
 * each damage, with `user`, the address and a text that is valid during the call; it must not use
 * the context. Never calls the panic handler. True iff all is sound; false also in a callback,
 * where the pool can't be looked at.
 */
bool buflib_check(struct buflib_context *ctx, buflib_report_fn report, void *user);

/*
 * Lets `handler` be called when a pool turns out to be damaged, or, with DEBUG, a handle to be bad.
 * NULL, as at the start: the message goes to stderr, and the program ends by abort(). If the
 * handler returns, the call it came from fails and has changed nothing; it may leave by longjmp as
 * well, unless that call was made in a callback. One handler serves all pools and threads.
 */
void buflib_set_panic_handler(buflib_panic_fn handler);

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

#ifdef __cplusplus
}
#endif

#endif
