/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/vmem.rs and headers/vmem.*; changes belong there. */
#ifndef LIBPALLOC_VMEM_H
#define LIBPALLOC_VMEM_H

/*
 * vmem.h: virtual memory. Reserve address space, commit parts of it to memory, give them back.
 *
 * Address space costs nothing, memory does. A reservation may be far larger than memory is; it never
 * moves, and only what is committed counts. So an array can grow in place for ever, an arena needs no
 * list of blocks, and a fault tells of the first byte beyond. Link with -lpalloc.
 *
 * Terms
 *
 *   reserved    A page that is kept free for the program, and can't be accessed.
 *   committed   A page that the program can access as its protection says. Zero at first.
 *   decommit    Back to reserved. The contents are gone; committed again, the page is zero.
 *
 * A program: an array that grows in place.
 *
 *   #include <stdio.h>
 *   #include <vmem.h>
 *
 *   int main(void)
 *   {
 *       size_t max = (size_t)1 << 30, n = 1000000;
 *       int *numbers = (int *)vmem_reserve(max);
 *
 *       if (numbers == NULL || !vmem_commit(numbers, n * sizeof *numbers)) {
 *           fprintf(stderr, "%s\n", vmem_get_error_message());
 *           return 1;
 *       }
 *       numbers[n - 1] = 42;
 *       printf("%d %d\n", numbers[0], numbers[n - 1]);
 *       return !vmem_release(numbers, max);
 *   }
 *
 * Rules, the same on every system
 *
 *   vmem_commit, vmem_decommit, vmem_protect, vmem_lock and their like take any range inside one live
 *   reservation, and widen it to whole pages. Beyond it, on memory of others, and on nothing (NULL, or
 *   a size of 0) they fail. A call that fails has changed nothing, unless it is said. vmem_release takes
 *   the start and the size of a reservation, and nothing else.
 *
 * Memory
 *
 *   A reservation is never charged as memory on Linux, whatever its size. For a commit it depends on
 *   vm.overcommit_memory:
 *
 *     0 (usual), 1   Nothing is charged. A commit does not fail for lack of memory; if the program
 *                    writes more than there is, the kernel ends it.
 *     2              A commit is charged, and fails beyond the limit. A decommit gives the charge back.
 *
 *   Windows charges each commit, too. A decommit replaces the pages by fresh ones. They keep what
 *   vmem_set_name and vmem_advise_huge gave them, and lose what the program gave them by system calls
 *   of its own: MADV_DONTDUMP, MADV_WIPEONFORK, MADV_DONTFORK, MADV_MERGEABLE, NUMA policies,
 *   protection keys, userfaultfd. Give it again after each commit: without MADV_DONTDUMP a secret
 *   gets into core files. vmem_reset keeps all of it.
 *
 *   After mlockall(2) with MCL_FUTURE reserved bytes count as locked ones against RLIMIT_MEMLOCK, and a
 *   commit brings the pages in. A program that changes pages with mprotect(2) or munmap(2) does so
 *   behind the library's back: queries and checks go by what these functions did.
 *
 * Errors
 *
 *   A function that fails returns NULL or 0, as said with it, and leaves a line of text for
 *   vmem_get_error_message(). "Fails iff" lists all the cases. Nothing is printed, and nothing ends the
 *   program, unless it asks for that:
 *
 *     vmem_set_error_handler(f)             f is called on every error of the program.
 *     #define VMEM_IMPLEMENTATION           in any file, before vmem.h is included, has a handler set
 *                                           before main:
 *       #define VMEM_ON_ERROR(msg) ...      this one, if it is defined there;
 *       #define VMEM_ASSERT(cond) ...       else this one, called with a false condition;
 *                                           else assert(0 && msg), and none under NDEBUG;
 *       #define VMEM_NO_ERROR_CHECKING      or none.
 *     Of several files that differ, one wins. (One in a static library counts only if the linker takes
 *     it: name the object file itself.)
 *
 *   VMEM_IMPLEMENTATION is not needed for anything else: the code is in the library. A file that has it
 *   gets <errno.h>, <string.h>, and <sys/mman.h> and <unistd.h> or <windows.h>, as before. VMEM_FUNC,
 *   VMEM_INLINE, VMEM_UNUSED, VMEM_THREAD_LOCAL, VMEM_NO_ERROR_MESSAGES and VMEM_NO_AUTO_PLATFORM are
 *   accepted without effect.
 *
 * Threads
 *
 *   Every function may be called from any thread at any time; on one VMemArena or VMemGrowArena,
 *   from one thread at a time. Messages are each thread's own. After fork(2) (not _Fork or clone)
 *   the child may use everything; what was reserved is its own copy then, and nothing is locked. (A
 *   child of vfork(2) must not.) Handlers of pthread_atfork(3) may call the functions, signal handlers
 *   must not.
 *
 *   malloc may be built on these functions: none of them calls malloc, and none calls back while a
 *   lock is held. If such a malloc has handlers of pthread_atfork(3), it calls vmem_init first: fork
 *   then takes malloc's lock before the library's, as malloc does.
 *
 * Origin
 *
 *   The functions are those of the two generations of the single-file library vmem.h: vmem_reserve and
 *   vmem_release are the names of the first, vmem_alloc and vmem_dealloc those of the second. Programs
 *   written for either compile unchanged. The additions are vmem_reserve_aligned, vmem_reserve_guarded,
 *   vmem_reset, vmem_prefault, vmem_advise_huge, vmem_set_name, vmem_set_executable,
 *   vmem_set_error_handler, and the growing arena, vmem_grow_*.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef VMEM_H_INCLUDED
#define VMEM_H_INCLUDED
#endif
#if defined(_WIN32) && !defined(VMEM_PLATFORM_WIN32)
#define VMEM_PLATFORM_WIN32
#elif defined(__linux__) && !defined(VMEM_PLATFORM_LINUX)
#define VMEM_PLATFORM_LINUX
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * For vmem_grow_init: huge pages where the system has them. Faster to fill, but memory is taken 2
 * MiB at a time.
 */
#define VMEM_GROW_HUGE 1

/* For vmem_grow_init: guards before and behind the arena, as with vmem_reserve_guarded. */
#define VMEM_GROW_GUARD 2

/* What may be done with a page. */
typedef enum VMemProtect_ {
    /* Not a protection. */
    VMemProtect_Invalid = 0,
    /* Committed, but any access is a fault. */
    VMemProtect_NoAccess,
    /* Read. */
    VMemProtect_Read,
    /* Read and write. */
    VMemProtect_ReadWrite,
    /* Run code; most machines let it be read too. */
    VMemProtect_Execute,
    /* Run code and read. */
    VMemProtect_ExecuteRead,
    /* All of it. Many systems refuse it; see vmem_set_executable. */
    VMemProtect_ExecuteReadWrite,
    /* How many there are, with the invalid one. */
    VMemProtect_COUNT,
} VMemProtect_;

/* What functions return. */
typedef enum VMemResult_ {
    /* The function failed. */
    VMemResult_Error = 0,
    /* The function did what it says. */
    VMemResult_Success = 1,
} VMemResult_;

/* A size in bytes. */
typedef size_t VMemSize;

/* One of enum VMemResult_: 1 if the function did what it says, 0 if it failed. */
typedef int VMemResult;

/* One of enum VMemProtect_. */
typedef uint8_t VMemProtect;

/* The machine's memory. */
typedef struct VMemUsageStatus {
    /* What the machine has. */
    VMemSize total_physical_bytes;
    /* What the process can still get without swapping. */
    VMemSize avail_physical_bytes;
} VMemUsageStatus;

/* A run of pages in one state. */
typedef struct VMemRangeInfo {
    /* The first page. */
    void *ptr;
    /* How many bytes the pages have. */
    VMemSize size_bytes;
    /*
     * 1 if they are committed, or mapped by someone else than this library; 0 if they are reserved
     * or free.
     */
    uint8_t is_commited;
    /*
     * Their protection. Of reserved pages: the one given when they were reserved. Of free ones:
     * NoAccess.
     */
    VMemProtect protect;
} VMemRangeInfo;

/* Called with the text of an error. */
typedef void (*vmem_error_fn)(const char *message);

/* A region whose first `commited` bytes are committed. All zero if it is not initialized. */
typedef struct VMemArena {
    /* Where it begins. */
    uint8_t *mem;
    /* How many bytes it has. */
    VMemSize size_bytes;
    /* How many of them are committed; changed by vmem_arena_set_commited. */
    VMemSize commited;
} VMemArena;

/*
 * A growing arena: bytes are pushed onto it, and commit themselves. Read the fields, never write
 * them.
 */
typedef struct VMemGrowArena {
    /* Where it begins; NULL if it is not initialized. */
    uint8_t *mem;
    /* The first byte that is not in use. */
    uint8_t *next;
    /* Behind what is committed. */
    uint8_t *limit;
    /* Behind what is reserved. */
    uint8_t *end;
    /* What is not in use from here on is zero. */
    uint8_t *fresh;
    /* How many bytes are committed when the next are needed. */
    VMemSize step;
    /* As given to vmem_grow_init. */
    uint32_t flags;
} VMemGrowArena;

/*
 * Not needed: every function works without it. Programs of the second generation call it first. A
 * malloc that is built on vmem.h calls it before it installs its own handlers of pthread_atfork(3).
 */
void vmem_init(void);

/*
 * Reserves `num_bytes` of address space, rounded up to whole pages. It takes no memory, and can't
 * be accessed before it is committed.
 *
 * Returns its start, a multiple of vmem_get_allocation_granularity(), or NULL on failure. Fails
 * iff:
 * - `num_bytes` is 0.
 * - There is no address space of this size, or a limit is in the way (RLIMIT_AS).
 * - There is no memory to note it.
 */
void *vmem_reserve(VMemSize num_bytes);

/*
 * As vmem_reserve, with a start that is a multiple of `alignment`, a power of two. Fails also iff
 * it is none, or where the sum of both is not free for a moment.
 */
void *vmem_reserve_aligned(VMemSize num_bytes, VMemSize alignment);

/*
 * As vmem_reserve, between two guards that can't be accessed, ever: running over either end is a
 * fault, not a corruption. They have vmem_get_allocation_granularity() bytes each, a page on most
 * systems, and do not count in the size.
 */
void *vmem_reserve_guarded(VMemSize num_bytes);

/*
 * Releases a reservation, whatever is committed or locked in it.
 *
 * Fails, and touches nothing, iff:
 * - `ptr` is not the start of a live reservation: NULL, inside of one, released already, not of
 *   this library.
 * - `num_reserved_bytes`, rounded up to whole pages, is not its size.
 * - The system has no mappings left to split one that spans neighbouring reservations, or there is
 *   no memory to note it.
 */
VMemResult vmem_release(void *ptr, VMemSize num_reserved_bytes);

/* The same as vmem_reserve, which is the name in the first generation. */
void *vmem_alloc(VMemSize num_bytes);

/*
 * As vmem_reserve; `protect` is what vmem_query_range_info tells of pages that are not committed.
 * Nothing is accessible before a commit, which gives its own protection. (Memory that is to become
 * executable on Apple systems has to be reserved with one of the Execute protections.) Fails also
 * iff `protect` is not a protection.
 */
void *vmem_alloc_protect(VMemSize num_bytes, VMemProtect protect);

/*
 * vmem_reserve and vmem_commit in one. Fails iff one of them would; then nothing is reserved,
 * unless the process has no mappings left to give the address space back.
 */
void *vmem_alloc_commited(VMemSize num_bytes);

/* The same as vmem_release, which is the name in the first generation. */
VMemResult vmem_dealloc(void *ptr, VMemSize num_bytes);

/* The same as vmem_commit_protect with VMemProtect_ReadWrite. */
VMemResult vmem_commit(void *ptr, VMemSize num_bytes);

/*
 * Commits the pages that the range touches: they are accessible from now on, as `protect` says, and
 * zero. Pages that are committed already keep their contents, and get the protection too.
 *
 * Fails, and changes nothing, iff:
 * - The range is empty, or not inside one live reservation, or `protect` is not a protection.
 * - Memory is out, or a limit is in the way: RLIMIT_DATA, the commit limit of a system that has
 *   one, the number of mappings of the process (Linux: vm.max_map_count, usually 65,530; each run
 *   of pages with one protection is one).
 * - The system forbids the protection.
 * - There is no memory to note it.
 */
VMemResult vmem_commit_protect(void *ptr, VMemSize num_bytes, VMemProtect protect);

/*
 * Gives the memory of the pages that the range touches back to the system, and unlocks them; they
 * are reserved again. Pages that are not committed stay as they are. The pages keep the names and
 * the advice that they have from vmem_set_name and vmem_advise_huge, and lose all other advice: see
 * "Memory" above.
 *
 * Fails, and changes nothing, iff:
 * - The range is empty or not inside one live reservation.
 * - The process has no mappings left to split one, or there is no memory to note it.
 */
VMemResult vmem_decommit(void *ptr, VMemSize num_bytes);

/*
 * Changes the protection of the pages that the range touches.
 *
 * Fails iff:
 * - The range is empty, or not inside one live reservation; a page is not committed; `protect` is
 *   not a protection. Nothing changed.
 * - The system refuses, as with vmem_commit_protect.
 */
VMemResult vmem_protect(void *ptr, VMemSize num_bytes, VMemProtect protect);

/*
 * For programs that write code, on systems that forbid memory to be written and executed at the
 * same time. With `executable` 1 the pages that the range touches become ExecuteRead, and the
 * processor sees the code that was written; with 0 they become ReadWrite. Fails iff vmem_protect
 * would.
 */
VMemResult vmem_set_executable(void *ptr, VMemSize num_bytes, int executable);

/*
 * Keeps the pages that the range touches in memory, and brings them there. Locks do not nest, and a
 * child of fork(2) has none.
 *
 * Fails, and changes nothing, iff:
 * - The range is empty, or not inside one live reservation; a page is not committed, or NoAccess.
 * - The system refuses (RLIMIT_MEMLOCK), or memory is out.
 */
VMemResult vmem_lock(void *ptr, VMemSize num_bytes);

/*
 * Undoes vmem_lock.
 *
 * Fails, and changes nothing, iff:
 * - The range is empty, or not inside one live reservation; a page is not locked.
 * - The process has no mappings left to split one, or there is no memory to note it.
 */
VMemResult vmem_unlock(void *ptr, VMemSize num_bytes);

/*
 * Tells the system that the contents of the pages that the range touches are not needed any more:
 * it may take the memory when it runs short. They stay committed. Until they are written again,
 * they hold their old contents or zeros. Much faster than decommit and commit.
 *
 * Fails iff:
 * - The range is empty, or not inside one live reservation; a page is not committed, or is locked
 *   by vmem_lock.
 * - mlockall(2) has locked a page, and the system is Linux before 5.18.
 * - The system refuses: a sandbox forbids madvise(2).
 */
VMemResult vmem_reset(void *ptr, VMemSize num_bytes);

/*
 * Brings the pages that the range touches into memory now, so that touching them later costs
 * nothing; contents stay as they are. They must stay committed during the call. Where the system
 * has no call for it, or forbids it, each page is touched.
 *
 * Fails iff:
 * - The range is empty, or not inside one live reservation; a page is not committed, or can't be
 *   read.
 * - Memory is out.
 */
VMemResult vmem_prefault(void *ptr, VMemSize num_bytes);

/*
 * Advises the system to use huge pages for the range, committed or not, where they fit: first touch
 * is several times faster then, but takes memory 2 MiB at a time on most machines. The advice lasts
 * until the reservation is released. Best with a range that vmem_reserve_aligned aligned to 2 MiB.
 *
 * Fails iff:
 * - The range is empty, or not inside one live reservation.
 * - The system has no huge pages to advise, or forbids it, or no mappings are left, or there is no
 *   memory to note it.
 */
VMemResult vmem_advise_huge(void *ptr, VMemSize num_bytes);

/*
 * Names the range in /proc/PID/maps until the reservation is released; NULL takes the name away.
 * Where the system has no such names (Linux before 5.17, and others), or forbids them, it succeeds
 * without effect.
 *
 * Fails iff:
 * - The range is empty, or not inside one live reservation.
 * - `name` has more than 79 bytes, or other than printable ASCII characters, or one of \ ` $ [ ]
 * - There is no memory to note it.
 */
VMemResult vmem_set_name(void *ptr, VMemSize num_bytes, const char *name);

/* The size of a page. Only the first call makes a system call. */
VMemSize vmem_get_page_size(void);

/* The same, asked of the system. */
VMemSize vmem_query_page_size(void);

/* What the starts of reservations are multiples of: 64 KiB on Windows, elsewhere the page size. */
VMemSize vmem_get_allocation_granularity(void);

/* The same, asked of the system. */
VMemSize vmem_query_allocation_granularity(void);

/*
 * How much memory the machine has, and how much of it the process can still get without swapping;
 * on Linux no more than its cgroups and their ancestors leave below memory.max and memory.high,
 * with cache that can be dropped counted as free.
 *
 * Returns zeros on failure. Fails iff the system does not tell (Linux: /proc is not mounted).
 */
struct VMemUsageStatus vmem_query_usage_status(void);

/*
 * Describes the pages that the range touches, as runs of equal state with nothing left out, the
 * lowest first, the last one cut at the end of the range; and writes at most `max_items` of them to
 * `out`. A run ends where a reservation ends. Memory that is not of this library is one run a
 * mapping of the system's.
 *
 * Returns how many were written; 0 on failure. Fails iff:
 * - The range is empty, `out` is NULL, or `max_items` is 0.
 * - A part of the range is not of this library, and the system does not tell of it (Linux: /proc is
 *   not mounted).
 */
VMemSize vmem_query_range_info(void *ptr, VMemSize num_bytes, struct VMemRangeInfo *out, VMemSize max_items);

/*
 * What went wrong in the last call that failed in this thread, as one line that names the function,
 * what was being done, and the range. Never NULL; "" if nothing failed yet. It changes with the
 * next failure in this thread.
 */
const char *vmem_get_error_message(void);

/*
 * Has `handler` called once for each call that fails, in the thread that made it, with its message;
 * NULL: errors are only returned. No lock is held then: the handler may call this library. It must
 * return.
 *
 * Returns the handler there was, NULL at first. Never fails.
 */
vmem_error_fn vmem_set_error_handler(vmem_error_fn handler);

/*
 * The protection's name: "NoAccess", "Read", "ReadWrite", "Execute", "ExecuteRead",
 * "ExecuteReadWrite"; "INVALID" for 0, and `<Unknown>` for what is not a protection.
 */
const char *vmem_get_protect_name(VMemProtect protect);

/*
 * The first multiple of `align` that is not below `address`. Returns 0 on failure. Fails iff
 * `align` is not a positive power of two, or there is no such address.
 */
uintptr_t vmem_align_forward(uintptr_t address, int align);

/*
 * The last multiple of `align` that is not above `address`. Returns 0 on failure. Fails iff `align`
 * is not a positive power of two.
 */
uintptr_t vmem_align_backward(uintptr_t address, int align);

/*
 * 1 if `address` is a multiple of `align`, 0 if not, which is no error, and 0 on failure. Fails iff
 * `align` is not a positive power of two.
 */
VMemResult vmem_is_aligned(uintptr_t address, int align);

/*
 * Of a region of which the first `prev_commited` bytes are committed, has the first `commited`
 * bytes committed: in whole pages, those between are committed as ReadWrite, but for those that are
 * already, or decommitted.
 *
 * Fails iff:
 * - The region is empty or not inside one live reservation; `prev_commited` or `commited` is more
 *   than `num_bytes`. Nothing changed.
 * - vmem_commit or vmem_decommit of the pages would.
 *
 * A page that the region shares with the bytes before or behind it in the reservation stays
 * committed.
 */
VMemResult vmem_partially_commit_region(void *ptr, VMemSize num_bytes, VMemSize prev_commited, VMemSize commited);

/*
 * An arena on a part of a reservation, with nothing committed. A page that it shares with what lies
 * before or behind it is committed for both, and not decommitted when the arena shrinks. All zero
 * on failure. Fails iff the range is empty or not inside one live reservation.
 */
struct VMemArena vmem_arena_init(void *mem, VMemSize size_bytes);

/*
 * An arena with a reservation of its own, with nothing committed. All zero on failure. Fails iff
 * vmem_reserve would.
 */
struct VMemArena vmem_arena_init_alloc(VMemSize size_bytes);

/*
 * Releases the reservation of an arena of vmem_arena_init_alloc; the arena is all zero then.
 *
 * Fails, and changes nothing, iff `arena` is NULL, or vmem_release of its memory would.
 */
VMemResult vmem_arena_deinit_dealloc(struct VMemArena *arena);

/*
 * Commits or decommits pages so that the first `commited` bytes of the arena are committed. What
 * was committed before keeps its protection and its contents.
 *
 * Fails, and leaves the arena as it is, iff:
 * - `arena` is NULL or not initialized, or not inside one live reservation; `commited`, or the
 *   arena's own, is more than its size.
 * - vmem_commit or vmem_decommit of the pages would.
 */
VMemResult vmem_arena_set_commited(struct VMemArena *arena, VMemSize commited);

/*
 * Makes a growing arena with a reservation of `size_bytes`, which is all that it can ever hold.
 * `flags` are 0, or VMEM_GROW_HUGE and VMEM_GROW_GUARD.
 *
 * Fails, and leaves the arena all zero, iff `arena` is NULL, a flag is not known, or vmem_reserve
 * would.
 */
VMemResult vmem_grow_init(struct VMemGrowArena *arena, VMemSize size_bytes, uint32_t flags);

/*
 * What vmem_grow_push calls when what is committed does not suffice. Does the same, and fails as it
 * does.
 */
void *vmem_grow_push_more(struct VMemGrowArena *arena, VMemSize size, VMemSize align);

/*
 * Gives back what was pushed since vmem_grow_mark returned `mark`; the memory is kept for what
 * comes. 0 gives back everything.
 *
 * Fails, and changes nothing, iff `arena` is NULL or not initialized, or `mark` is more than is in
 * use.
 */
VMemResult vmem_grow_pop_to(struct VMemGrowArena *arena, VMemSize mark);

/*
 * Gives everything back, and all memory but the first `keep_bytes` to the system.
 * (vmem_grow_pop_to(arena, 0) keeps all.)
 *
 * Fails, and changes nothing, iff `arena` is NULL or not initialized, or vmem_decommit would.
 */
VMemResult vmem_grow_reset(struct VMemGrowArena *arena, VMemSize keep_bytes);

/*
 * Releases the arena's reservation; the arena is all zero then.
 *
 * Fails, and changes nothing, iff `arena` is NULL or not initialized, or vmem_release would.
 */
VMemResult vmem_grow_deinit(struct VMemGrowArena *arena);

/* Casts that compilers take without a warning, in C and in C++. */
#ifdef __cplusplus
#define LIBPALLOC_CAST_(type, value) static_cast<type>(value)
#define LIBPALLOC_ADDRESS_(pointer) reinterpret_cast<uintptr_t>(pointer)
#else
#define LIBPALLOC_CAST_(type, value) ((type)(value))
#define LIBPALLOC_ADDRESS_(pointer) ((uintptr_t)(pointer))
#endif

/* vmem_align_forward, vmem_align_backward and vmem_is_aligned without checks. */
static inline uintptr_t vmem_align_forward_fast(uintptr_t address, int align)
{
    const uintptr_t mask = LIBPALLOC_CAST_(uintptr_t, align) - 1;

    return (address + mask) & ~mask;
}

static inline uintptr_t vmem_align_backward_fast(uintptr_t address, int align)
{
    return address & ~(LIBPALLOC_CAST_(uintptr_t, align) - 1);
}

static inline VMemResult vmem_is_aligned_fast(uintptr_t address, int align)
{
    return (address & (LIBPALLOC_CAST_(uintptr_t, align) - 1)) == 0;
}

/* 1 if the arena is initialized and its numbers agree; 0 if not, or if it is NULL. Never fails. */
static inline VMemResult vmem_arena_is_valid(const VMemArena *arena)
{
    return arena && arena->mem && arena->size_bytes != 0 && arena->commited <= arena->size_bytes;
}

/* How many bytes an arena takes of which `num_bytes` are committed: whole pages. Never fails. */
static inline VMemSize vmem_arena_calc_bytes_used_for_size(VMemSize num_bytes)
{
    const VMemSize mask = vmem_get_page_size() - 1;

    return (num_bytes + mask) & ~mask;
}

/*
 * The growing arena, for what is needed together and given back together:
 *
 *   VMemGrowArena arena;
 *   VMemSize mark;
 *   char *name;
 *
 *   vmem_grow_init(&arena, (VMemSize)1 << 36, 0);  never more than 64 GiB
 *   mark = vmem_grow_mark(&arena);
 *   name = (char *)vmem_grow_push(&arena, 100, 1);
 *   ...
 *   vmem_grow_pop_to(&arena, mark);                name is given back
 *   vmem_grow_deinit(&arena);
 *
 * What is pushed stays where it is. Memory is committed ahead, 64 KiB at first and twice as much each
 * time up to 2 MiB, less where memory is short; so most pushes are an addition.
 */

/*
 * Takes `size` bytes, with an address that is a multiple of `align`, a power of two. What they hold is
 * not defined.
 *
 * Returns their address, or NULL on failure, with nothing changed. Fails iff:
 * - `size` is 0, or `align` is not a power of two.
 * - `arena` is NULL or not initialized.
 * - What was reserved for the arena does not suffice.
 * - vmem_commit of what is missing would.
 */
static inline void *vmem_grow_push(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    if (arena && (align & (align - 1)) == 0) {
        const VMemSize left = LIBPALLOC_ADDRESS_(arena->limit) - LIBPALLOC_ADDRESS_(arena->next);
        const VMemSize pad = (0 - LIBPALLOC_ADDRESS_(arena->next)) & (align - 1);

        if (size - 1 < left && pad <= left - size) {
            uint8_t *const at = arena->next + pad;
            arena->next = at + size;
            return at;
        }
    }
    return vmem_grow_push_more(arena, size, align);
}

/* vmem_grow_push of zeros: only what was in use before is overwritten, as fresh memory is zero. */
static inline void *vmem_grow_push_zeroed(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    uint8_t *const at = LIBPALLOC_CAST_(uint8_t *, vmem_grow_push(arena, size, align));

    if (at && at < arena->fresh) {
        const VMemSize used = LIBPALLOC_CAST_(VMemSize, arena->fresh - at);
        memset(at, 0, used < size ? used : size);
    }
    return at;
}

/* How many bytes are in use, padding included; for vmem_grow_pop_to. `arena` is initialized. Never fails. */
static inline VMemSize vmem_grow_mark(const VMemGrowArena *arena)
{
    return LIBPALLOC_CAST_(VMemSize, arena->next - arena->mem);
}

#undef LIBPALLOC_CAST_
#undef LIBPALLOC_ADDRESS_

/* What programs rely on. */
typedef char vmem_layout_is_as_documented_[
    sizeof(VMemProtect) == 1 && sizeof(VMemResult) == 4 && sizeof(VMemUsageStatus) == 2 * sizeof(void *) &&
    sizeof(VMemArena) == 3 * sizeof(void *) && sizeof(VMemRangeInfo) == 3 * sizeof(void *) &&
    sizeof(VMemGrowArena) == 7 * sizeof(void *) ? 1 : -1];

#ifdef __cplusplus
}
#endif

#endif

/* A file with VMEM_IMPLEMENTATION has errors handled in its way, from before main on. */
#if defined(VMEM_IMPLEMENTATION) && !defined(LIBPALLOC_VMEM_IMPLEMENTATION)
#define LIBPALLOC_VMEM_IMPLEMENTATION
/* Programs rely on what the implementation included. */
#include <errno.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif
#if !defined(VMEM_NO_ERROR_CHECKING) && (defined(VMEM_ON_ERROR) || defined(VMEM_ASSERT) || !defined(NDEBUG))
#if !defined(VMEM_ON_ERROR) && !defined(VMEM_ASSERT)
#include <assert.h>
#endif
#ifdef __cplusplus
extern "C" {
#endif

static void vmem_handle_error_(const char *message)
{
    (void)message;
#if defined(VMEM_ON_ERROR)
    VMEM_ON_ERROR(message);
#elif defined(VMEM_ASSERT)
    VMEM_ASSERT(0 && message);
#else
    assert(0 && message);
#endif
}

#if defined(__GNUC__)
__attribute__((constructor)) static void vmem_install_handler_(void)
{
    vmem_set_error_handler(vmem_handle_error_);
}
#elif defined(__cplusplus)
static const vmem_error_fn vmem_installed_handler_ = vmem_set_error_handler(vmem_handle_error_);
#elif defined(_MSC_VER)
static void __cdecl vmem_install_handler_(void)
{
    vmem_set_error_handler(vmem_handle_error_);
}
#pragma section(".CRT$XCU", read)
__declspec(allocate(".CRT$XCU")) static void(__cdecl *vmem_installed_handler_)(void) = vmem_install_handler_;
#else
#error "vmem.h does not know how this compiler runs code before main: call vmem_set_error_handler instead"
#endif

#ifdef __cplusplus
}
#endif
#endif
#endif
