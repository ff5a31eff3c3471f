/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/vmem.rs and headers/vmem.*; changes belong there. */
#ifndef LIBPALLOC_VMEM_H
#define LIBPALLOC_VMEM_H

/*
 * vmem.h: virtual memory. Reserve address space, commit parts of it, decommit them, release it.
 *
 * Address space costs nothing, and memory does. A reservation may be far larger than the machine's
 * memory. It never moves, and only its committed pages can use memory. So an array can grow in place,
 * an arena needs no list of blocks, and an access behind the committed pages is a fault. Link with
 * -lpalloc.
 *
 * Terms
 *
 *   reserve     To set address space aside for the program. A reserved page can't be accessed.
 *   commit      To make a reserved page accessible, as its protection permits. It is zero at first.
 *   decommit    To make a committed page a reserved one again. Its contents are discarded: if it is
 *               committed again, it is zero.
 *   release     To return a whole reservation to the system.
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
 *   vmem_commit, vmem_decommit, vmem_protect, vmem_lock and similar functions work on the pages that
 *   a range of bytes touches. All of these pages must be in one live reservation: the functions fail
 *   if one is not, or if the range is empty (NULL, or a size of 0). A call that fails has changed
 *   nothing, unless its description lists an exception. vmem_release accepts only the start and the
 *   size of a whole reservation.
 *
 * Memory
 *
 *   Linux never charges a reservation as memory, whatever its size. Whether it charges a commit
 *   depends on vm.overcommit_memory:
 *
 *     0 (usual), 1   It does not. A commit does not fail for lack of memory. If the program writes more
 *                    than the machine has, the kernel kills the program.
 *     2              It does. A commit fails beyond the limit. A decommit ends the charge.
 *
 *   Windows charges each commit, too.
 *
 *   A decommit replaces the pages by fresh ones. The fresh pages have the names and the advice of
 *   vmem_set_name and vmem_advise_huge. They do not have the settings that the program made with its
 *   own system calls: MADV_DONTDUMP, MADV_WIPEONFORK, MADV_DONTFORK, MADV_MERGEABLE, NUMA policies,
 *   protection keys, userfaultfd. Make such settings again after each commit: without MADV_DONTDUMP,
 *   for example, core files contain the page's secrets. vmem_reset keeps all settings.
 *
 *   After mlockall(2) with MCL_FUTURE, reserved bytes count as locked against RLIMIT_MEMLOCK, and a
 *   commit brings its pages into memory. If RLIMIT_MEMLOCK has no room for the fresh pages of
 *   a decommit, the old ones stay mapped, unlocked and without memory: they keep their settings,
 *   vm.overcommit_memory 2 goes on to charge them, and later commits do not lock them.
 *
 *   The library does not see changes that a program makes with mprotect(2) or munmap(2): its queries
 *   and checks report the state that its own functions left.
 *
 * Errors
 *
 *   A function that fails returns NULL or 0, as its description says, and stores a line of text for
 *   vmem_get_error_message(). "Fails iff" lists all the cases. The library prints nothing and never
 *   ends the program. A program can have its own code called on each error, in two ways:
 *
 *     vmem_set_error_handler(f)             sets the handler f at run time.
 *     #define VMEM_IMPLEMENTATION           in any file, before vmem.h is included, sets a handler
 *                                           before main. These definitions in the same file choose it:
 *       #define VMEM_NO_ERROR_CHECKING      no handler;
 *       #define VMEM_ON_ERROR(msg) ...      or else this code;
 *       #define VMEM_ASSERT(cond) ...       or else this code, with a false condition;
 *                                           or else assert(0 && msg), and no handler under NDEBUG.
 *     If several files set different handlers, one of them wins. (A file in a static library sets a
 *     handler only if the linker includes it: link its object file by name.)
 *
 *   VMEM_IMPLEMENTATION has no other purpose, because the code is in the library. As in the original,
 *   a file that defines it includes <errno.h>, <string.h>, and <sys/mman.h> and <unistd.h> or
 *   <windows.h>. VMEM_FUNC, VMEM_INLINE, VMEM_UNUSED, VMEM_THREAD_LOCAL, VMEM_NO_ERROR_MESSAGES and
 *   VMEM_NO_AUTO_PLATFORM are accepted without effect.
 *
 * Threads
 *
 *   Any thread may call any function at any time. Only one thread at a time may use the same VMemArena
 *   or VMemGrowArena. Each thread has its own error message. After fork(2), the child may call all
 *   functions: it has its own copies of the reservations, and none of its pages are locked. After
 *   vfork(2), _Fork(3) or clone(2), it must not. Handlers of pthread_atfork(3) may call the functions;
 *   signal handlers must not.
 *
 *   malloc may be built on these functions: they do not call malloc, and they call the error handler
 *   only while no lock is held. If such a malloc has handlers of pthread_atfork(3), it calls vmem_init
 *   before it installs them: fork then locks malloc before the library, in the order in which malloc
 *   does. On musl it calls vmem_init before its first block, while it holds no lock of its own,
 *   because pthread_atfork(3) calls malloc there.
 *
 * Debugging
 *
 *   With VMEM_DEBUG defined in all files of a program, each use of an address of a growing arena that
 *   was popped, or not pushed yet, is reported: by AddressSanitizer in a program that is compiled with
 *   it, or else by valgrind if <valgrind/memcheck.h> is there. Without it nothing of this is compiled,
 *   and the library is the same. A page that is reserved or decommitted needs no macro: an access to
 *   it is a fault in every program, and both tools report the line.
 *
 * Origin
 *
 *   The functions are those of the two generations of the single-file library vmem.h: the first has the
 *   names vmem_reserve and vmem_release, and the second has vmem_alloc and vmem_dealloc. Programs
 *   written for either compile unchanged. The additions are vmem_reserve_aligned, vmem_reserve_guarded,
 *   vmem_reset, vmem_prefault, vmem_advise_huge, vmem_set_name, vmem_set_executable,
 *   vmem_set_error_handler, and the growing arena, vmem_grow_*.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef VMEM_DEBUG
#if defined __SANITIZE_ADDRESS__
#define VMEM_DEBUG_ASAN_
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define VMEM_DEBUG_ASAN_
#endif
#endif
#if defined VMEM_DEBUG_ASAN_
#include <sanitizer/asan_interface.h>
#define VMEM_DEBUG_CLOSE_(start, bytes) ASAN_POISON_MEMORY_REGION(start, bytes)
#define VMEM_DEBUG_OPEN_(start, bytes) ASAN_UNPOISON_MEMORY_REGION(start, bytes)
#define VMEM_DEBUG_UNDEFINED_(start, bytes) ASAN_UNPOISON_MEMORY_REGION(start, bytes)
#elif defined __has_include
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define VMEM_DEBUG_CLOSE_(start, bytes) ((void)VALGRIND_MAKE_MEM_NOACCESS(start, bytes))
#define VMEM_DEBUG_OPEN_(start, bytes) ((void)VALGRIND_MAKE_MEM_DEFINED(start, bytes))
#define VMEM_DEBUG_UNDEFINED_(start, bytes) ((void)VALGRIND_MAKE_MEM_UNDEFINED(start, bytes))
#endif
#endif
#ifndef VMEM_DEBUG_CLOSE_
#define VMEM_DEBUG_CLOSE_(start, bytes) ((void)(start), (void)(bytes))
#define VMEM_DEBUG_OPEN_(start, bytes) ((void)(start), (void)(bytes))
#define VMEM_DEBUG_UNDEFINED_(start, bytes) ((void)(start), (void)(bytes))
#endif
#endif

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
 * A flag of vmem_grow_init: use huge pages, on systems that have them. The arena is faster to fill,
 * and uses memory in steps of 2 MiB.
 */
#define VMEM_GROW_HUGE 1

/* A flag of vmem_grow_init: put a guard on each side of the arena, as vmem_reserve_guarded does. */
#define VMEM_GROW_GUARD 2

/* The access that a page permits. */
typedef enum VMemProtect_ {
    /* Not a protection. */
    VMemProtect_Invalid = 0,
    /* Committed, but any access is a fault. */
    VMemProtect_NoAccess,
    /* Read. */
    VMemProtect_Read,
    /* Read and write. */
    VMemProtect_ReadWrite,
    /* Run code. Most machines permit reading it too. */
    VMemProtect_Execute,
    /* Run code and read. */
    VMemProtect_ExecuteRead,
    /* Read, write and run code. Many systems refuse it; see vmem_set_executable. */
    VMemProtect_ExecuteReadWrite,
    /* The number of values before this one, VMemProtect_Invalid included. */
    VMemProtect_COUNT,
} VMemProtect_;

/* The results of functions. */
typedef enum VMemResult_ {
    /* The function failed. */
    VMemResult_Error = 0,
    /* The function succeeded. */
    VMemResult_Success = 1,
} VMemResult_;

/* A size in bytes. */
typedef size_t VMemSize;

/* One of enum VMemResult_: 1 if the function succeeded, 0 if it failed. */
typedef int VMemResult;

/* One of enum VMemProtect_. */
typedef uint8_t VMemProtect;

/* The machine's memory. */
typedef struct VMemUsageStatus {
    /* Memory that the machine has. */
    VMemSize total_physical_bytes;
    /* Memory that the process can still get without swapping. */
    VMemSize avail_physical_bytes;
} VMemUsageStatus;

/* A run of pages in one state. */
typedef struct VMemRangeInfo {
    /* The first page. */
    void *ptr;
    /* The size of its pages. */
    VMemSize size_bytes;
    /*
     * 1 if the pages are committed, or mapped by others than this library; 0 if they are reserved
     * or free.
     */
    uint8_t is_commited;
    /*
     * Their protection. Reserved pages have the one that they were reserved with. Free pages have
     * NoAccess.
     */
    VMemProtect protect;
} VMemRangeInfo;

/* A function that the library calls with the text of an error. */
typedef void (*vmem_error_fn)(const char *message);

/* A region whose first `commited` bytes are committed. All zero if it is not initialized. */
typedef struct VMemArena {
    /* Its first byte. */
    uint8_t *mem;
    /* Its size. */
    VMemSize size_bytes;
    /* The number of committed bytes. vmem_arena_set_commited changes it. */
    VMemSize commited;
} VMemArena;

/*
 * A growing arena: vmem_grow_push takes bytes from it, and commits pages when they are needed.
 * Programs may read the fields, and must not write them.
 */
typedef struct VMemGrowArena {
    /* Its first byte; NULL if the arena is not initialized. */
    uint8_t *mem;
    /* The first byte that is not in use. */
    uint8_t *next;
    /* The end of the committed bytes. */
    uint8_t *limit;
    /* The end of the reserved bytes. */
    uint8_t *end;
    /* Committed bytes from here on that are not in use are zero. */
    uint8_t *fresh;
    /* The number of bytes that the next commit adds, or more if a push needs more. */
    VMemSize step;
    /* The flags of vmem_grow_init. */
    uint32_t flags;
} VMemGrowArena;

/*
 * Prepares the library for fork(2). Programs need not call it, because every other function does
 * the same when it first needs to. Programs of the second generation call it first. A malloc that
 * is built on vmem.h calls it before it installs its own handlers of pthread_atfork(3). Never
 * fails.
 */
void vmem_init(void);

/*
 * Reserves `num_bytes` of address space, rounded up to whole pages. The reservation uses no memory,
 * and can't be accessed before it is committed.
 *
 * Returns its start, a multiple of vmem_get_allocation_granularity(), or NULL on failure. Fails
 * iff:
 * - `num_bytes` is 0.
 * - No address space of this size is free, or a limit would be exceeded (RLIMIT_AS).
 * - No memory is left for the library's registry.
 */
void *vmem_reserve(VMemSize num_bytes);

/*
 * As vmem_reserve, with a start that is a multiple of `alignment`. Fails also if:
 * - `alignment` is not a power of two.
 * - No address space of `num_bytes` plus `alignment` is free; the function may reserve so much for
 *   a moment, to find an aligned start.
 */
void *vmem_reserve_aligned(VMemSize num_bytes, VMemSize alignment);

/*
 * As vmem_reserve, with a guard on each side. A guard can never be accessed: an access just outside
 * of the reservation is a fault, not a corruption. Each guard has vmem_get_allocation_granularity()
 * bytes, a page on most systems. The size of the reservation does not include them.
 */
void *vmem_reserve_guarded(VMemSize num_bytes);

/*
 * Releases a whole reservation. Pages in it may be committed and locked.
 *
 * Fails, and changes nothing, iff:
 * - `ptr` is not the start of a live reservation. (It is NULL, or inside a reservation, or was
 *   released, or is not of this library.)
 * - `num_reserved_bytes`, rounded up to whole pages, is not the size of the reservation.
 * - The process has no mapping left to split one that spans neighbouring reservations.
 * - No memory is left for the library's registry.
 */
VMemResult vmem_release(void *ptr, VMemSize num_reserved_bytes);

/* The same as vmem_reserve, under its name in the second generation. */
void *vmem_alloc(VMemSize num_bytes);

/*
 * As vmem_reserve. vmem_query_range_info reports `protect` for pages that are not committed. Pages
 * can't be accessed before a commit, which sets their protection. (On Apple systems, only a
 * reservation with one of the Execute protections can become executable.) Fails also if `protect`
 * is not a protection.
 */
void *vmem_alloc_protect(VMemSize num_bytes, VMemProtect protect);

/*
 * Does vmem_reserve and then vmem_commit of all. Fails iff one of them would. Then nothing stays
 * reserved, unless the process has no mapping left to release the address space.
 */
void *vmem_alloc_commited(VMemSize num_bytes);

/* The same as vmem_release, under its name in the second generation. */
VMemResult vmem_dealloc(void *ptr, VMemSize num_bytes);

/* The same as vmem_commit_protect with VMemProtect_ReadWrite. */
VMemResult vmem_commit(void *ptr, VMemSize num_bytes);

/*
 * Commits the pages that the range touches, with the protection `protect`. They are zero. Pages
 * that are committed already keep their contents, and change their protection.
 *
 * Fails, and changes nothing, iff:
 * - The range is empty or not inside one live reservation.
 * - `protect` is not a protection, or the system forbids it.
 * - Memory has run out, also for the library's registry.
 * - A limit would be exceeded: RLIMIT_DATA, the commit limit of a system that has one, or the
 *   number of mappings of the process (Linux: vm.max_map_count, usually 65,530). Each run of pages
 *   with one protection needs a mapping.
 */
VMemResult vmem_commit_protect(void *ptr, VMemSize num_bytes, VMemProtect protect);

/*
 * Decommits the pages that the range touches: discards their contents, unlocks them, and returns
 * their memory to the system. They are reserved again. Pages that are not committed stay as they
 * are. The pages keep their names and advice from vmem_set_name and vmem_advise_huge, and lose all
 * other advice: see "Memory" above.
 *
 * Fails, and changes nothing, iff:
 * - The range is empty or not inside one live reservation.
 * - The process has no mapping left to split one, or no memory is left for the library's registry.
 */
VMemResult vmem_decommit(void *ptr, VMemSize num_bytes);

/*
 * Changes the protection of the pages that the range touches.
 *
 * Fails, and changes nothing, iff:
 * - The range is empty or not inside one live reservation.
 * - A page is not committed.
 * - `protect` is not a protection, or the system forbids it.
 * - A limit would be exceeded, as with vmem_commit_protect, or no memory is left for the library's
 *   registry.
 */
VMemResult vmem_protect(void *ptr, VMemSize num_bytes, VMemProtect protect);

/*
 * Prepares the pages that the range touches for running code or for writing it. If `executable` is
 * 0, they become ReadWrite. Otherwise they become ExecuteRead, and the processor sees the code that
 * was written. Fails iff vmem_protect would. It is for programs that write code, because many
 * systems forbid memory that is writable and executable at the same time.
 */
VMemResult vmem_set_executable(void *ptr, VMemSize num_bytes, int executable);

/*
 * Locks the pages that the range touches: brings them into memory, and keeps them there. Locks do
 * not nest. A child of fork(2) does not inherit them.
 *
 * Fails, and leaves the same pages locked as before, iff:
 * - The range is empty or not inside one live reservation.
 * - A page is not committed, or is NoAccess.
 * - The system refuses (RLIMIT_MEMLOCK), or memory has run out, also for the library's registry.
 */
VMemResult vmem_lock(void *ptr, VMemSize num_bytes);

/*
 * Unlocks the pages that the range touches.
 *
 * Fails, and changes nothing, iff:
 * - The range is empty or not inside one live reservation.
 * - A page is not locked by vmem_lock.
 * - The process has no mapping left to split one, or no memory is left for the library's registry.
 */
VMemResult vmem_unlock(void *ptr, VMemSize num_bytes);

/*
 * Declares that the program does not need the contents of the pages that the range touches. The
 * system may take their memory when memory is short. The pages stay committed. Until a page is
 * written again, it holds its old contents or zeros. This is much faster than a decommit and a
 * commit.
 *
 * Fails iff:
 * - The range is empty or not inside one live reservation.
 * - A page is not committed, or is locked by vmem_lock.
 * - mlockall(2) has locked a page, and the system is Linux before 5.18.
 * - The system refuses: a sandbox forbids madvise(2).
 */
VMemResult vmem_reset(void *ptr, VMemSize num_bytes);

/*
 * Brings the pages that the range touches into memory, so that a later access causes no page fault.
 * It does not change their contents. They must stay committed during the call. If the system has no
 * call for it, or forbids it, the function accesses each page.
 *
 * Fails iff:
 * - The range is empty or not inside one live reservation.
 * - A page is not committed, or not readable.
 * - Memory has run out.
 */
VMemResult vmem_prefault(void *ptr, VMemSize num_bytes);

/*
 * Advises the system to use huge pages for the range, where they fit. Its pages may be committed or
 * not. The first access is then several times faster, but uses memory in steps of 2 MiB on most
 * machines. The advice lasts until the reservation is released. It works best if the range is
 * aligned to 2 MiB; see vmem_reserve_aligned.
 *
 * Fails iff:
 * - The range is empty or not inside one live reservation.
 * - The system has no huge pages, or forbids the advice.
 * - The process has no mapping left to split one, or no memory is left for the library's registry.
 */
VMemResult vmem_advise_huge(void *ptr, VMemSize num_bytes);

/*
 * Names the range in /proc/PID/maps until the reservation is released. NULL removes the name. If
 * the system has no such names (Linux before 5.17, and other systems), or forbids them, the
 * function succeeds without effect.
 *
 * Fails iff:
 * - The range is empty or not inside one live reservation.
 * - `name` has more than 79 bytes, a character that is not printable ASCII, or one of \ ` $ [ ]
 * - No memory is left for the library's registry.
 */
VMemResult vmem_set_name(void *ptr, VMemSize num_bytes, const char *name);

/* Returns the size of a page. Only the first call asks the system. Never fails. */
VMemSize vmem_get_page_size(void);

/* Asks the system for the size of a page, and returns it. Never fails. */
VMemSize vmem_query_page_size(void);

/*
 * Returns the alignment of reservations: 64 KiB on Windows, the page size on other systems. Only
 * the first call asks the system. Never fails.
 */
VMemSize vmem_get_allocation_granularity(void);

/* Asks the system for the alignment of reservations, and returns it. Never fails. */
VMemSize vmem_query_allocation_granularity(void);

/*
 * Returns the memory that the machine has, and the memory that the process can still get without
 * swapping. On Linux, the second number respects the limits memory.max and memory.high of the
 * process's cgroups and their ancestors; cache that the kernel can drop counts as free.
 *
 * Returns zeros on failure. Fails iff the system does not report its memory (Linux: /proc is not
 * mounted).
 */
struct VMemUsageStatus vmem_query_usage_status(void);

/*
 * Describes the pages that the range touches, as runs of pages in one state, in ascending order.
 * Writes the first `max_items` runs to `out`, or all if they are fewer. The runs have no gaps
 * between them, and the last one ends with the range. A run ends where a reservation ends. Outside
 * of reservations, each mapping of the system is a run.
 *
 * Returns the number of runs written, or 0 on failure. Fails iff:
 * - The range is empty, `out` is NULL, or `max_items` is 0.
 * - A part of the range is in no reservation, and the system does not report its mappings (Linux:
 *   /proc is not mounted).
 */
VMemSize vmem_query_range_info(void *ptr, VMemSize num_bytes, struct VMemRangeInfo *out, VMemSize max_items);

/*
 * Returns the text of the last error in this thread: one line that names the function, the step
 * that failed, and the range or argument. Returns "" if no call has failed in this thread, and
 * never NULL. The next failure in this thread changes the text. Never fails.
 *
 * The system's part of it is the text of strerror(3) in the language of the program's locale
 * (Windows: of FormatMessage). For the errors EPERM, ENOENT, ESRCH, EIO, EAGAIN, ENOMEM, EACCES,
 * EFAULT, EINVAL, ENFILE, EMFILE and ENOSYS it is always English, except with musl and on Windows:
 * strerror(3) may call malloc to translate, and malloc may be built on these functions.
 */
const char *vmem_get_error_message(void);

/*
 * Sets the error handler of the process. The library calls it once for each call that fails, in the
 * thread of that call, with the text of the error. NULL removes the handler. The handler may call
 * this library, because no lock is held. It must return.
 *
 * Returns the handler that was set before, or NULL. Never fails.
 */
vmem_error_fn vmem_set_error_handler(vmem_error_fn handler);

/*
 * Returns the protection's name: "NoAccess", "Read", "ReadWrite", "Execute", "ExecuteRead" or
 * "ExecuteReadWrite". Returns "INVALID" for 0 and `<Unknown>` for any other number. Never fails.
 */
const char *vmem_get_protect_name(VMemProtect protect);

/*
 * Returns the lowest multiple of `align` at or above `address`, or 0 on failure. Fails iff `align`
 * is not a positive power of two, or the address space ends before such a multiple.
 */
uintptr_t vmem_align_forward(uintptr_t address, int align);

/*
 * Returns the highest multiple of `align` at or below `address`, or 0 on failure. Fails iff `align`
 * is not a positive power of two.
 */
uintptr_t vmem_align_backward(uintptr_t address, int align);

/*
 * Returns 1 if `address` is a multiple of `align`, or else 0, also on failure. Fails iff `align` is
 * not a positive power of two.
 */
VMemResult vmem_is_aligned(uintptr_t address, int align);

/*
 * Changes the number of committed bytes at the start of a region from `prev_commited` to
 * `commited`. To grow, it commits the pages between the two as ReadWrite, except those that are
 * committed already. To shrink, it decommits the pages between the two. A page stays committed if
 * bytes of the reservation before or behind the region share it.
 *
 * Fails iff:
 * - The region is empty or not inside one live reservation. Nothing has changed then.
 * - `prev_commited` or `commited` is more than `num_bytes`. Nothing has changed then.
 * - vmem_commit or vmem_decommit of the pages would.
 */
VMemResult vmem_partially_commit_region(void *ptr, VMemSize num_bytes, VMemSize prev_commited, VMemSize commited);

/*
 * Returns an arena on a part of a reservation, with a `commited` of 0; all zero on failure. It
 * commits nothing. The arena may share its first and its last page with other bytes of the
 * reservation: committing such a page commits it for both, and it stays committed when the arena
 * shrinks. Fails iff the range is empty or not inside one live reservation.
 */
struct VMemArena vmem_arena_init(void *mem, VMemSize size_bytes);

/*
 * Returns an arena with a reservation of its own, with nothing committed; all zero on failure.
 * Fails iff vmem_reserve would.
 */
struct VMemArena vmem_arena_init_alloc(VMemSize size_bytes);

/*
 * Releases the reservation of an arena that vmem_arena_init_alloc returned, and sets the arena to
 * all zero.
 *
 * Fails, and changes nothing, iff `arena` is NULL, or vmem_release of its memory would.
 */
VMemResult vmem_arena_deinit_dealloc(struct VMemArena *arena);

/*
 * Commits or decommits pages, so that the first `commited` bytes of the arena are committed. Pages
 * that were committed and stay so keep their contents and their protection.
 *
 * Fails, and leaves `*arena` unchanged, iff:
 * - `arena` is NULL or not initialized, or its memory is not inside one live reservation.
 * - `commited`, or the arena's own `commited`, is more than its size.
 * - vmem_commit or vmem_decommit of the pages would.
 */
VMemResult vmem_arena_set_commited(struct VMemArena *arena, VMemSize commited);

/*
 * Initializes a growing arena with a reservation of `size_bytes`, which it can't exceed. `flags` is
 * 0, or any of VMEM_GROW_HUGE and VMEM_GROW_GUARD.
 *
 * Fails, and leaves the arena all zero, iff `arena` is NULL, a flag is not known, or the
 * reservation fails; see vmem_reserve.
 */
VMemResult vmem_grow_init(struct VMemGrowArena *arena, VMemSize size_bytes, uint32_t flags);

/*
 * The slow path of vmem_grow_push, which calls it if the committed bytes do not suffice. Does the
 * same as vmem_grow_push, and fails iff that would.
 */
void *vmem_grow_push_more(struct VMemGrowArena *arena, VMemSize size, VMemSize align);

/*
 * Frees all bytes that were pushed since vmem_grow_mark returned `mark`. If `mark` is 0, frees all.
 * Their memory stays committed for later pushes.
 *
 * Fails, and changes nothing, iff `arena` is NULL or not initialized, or `mark` is more than is in
 * use.
 */
VMemResult vmem_grow_pop_to(struct VMemGrowArena *arena, VMemSize mark);

/*
 * Frees all bytes, and decommits all but the first `keep_bytes`. (vmem_grow_pop_to(arena, 0)
 * decommits nothing.)
 *
 * Fails, and changes nothing, iff `arena` is NULL or not initialized, or vmem_decommit would.
 */
VMemResult vmem_grow_reset(struct VMemGrowArena *arena, VMemSize keep_bytes);

/*
 * Releases the arena's reservation, and sets the arena to all zero.
 *
 * Fails, and changes nothing, iff `arena` is NULL or not initialized, or vmem_release would.
 */
VMemResult vmem_grow_deinit(struct VMemGrowArena *arena);

/* Casts that compile without a warning in C and in C++. */
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

/* Returns 1 if the arena is initialized and its numbers agree; or else 0, also if it is NULL. Never fails. */
static inline VMemResult vmem_arena_is_valid(const VMemArena *arena)
{
    return arena && arena->mem && arena->size_bytes != 0 && arena->commited <= arena->size_bytes;
}

/* Returns the size of the pages that `num_bytes` bytes need. Returns 0 if that is beyond the address space. Never fails. */
static inline VMemSize vmem_arena_calc_bytes_used_for_size(VMemSize num_bytes)
{
    const VMemSize mask = vmem_get_page_size() - 1;

    return (num_bytes + mask) & ~mask;
}

/*
 * The growing arena: allocates bytes one after the other, and frees them together.
 *
 *   VMemGrowArena arena;
 *   VMemSize mark;
 *   char *name;
 *
 *   vmem_grow_init(&arena, (VMemSize)1 << 36, 0);  at most 64 GiB
 *   mark = vmem_grow_mark(&arena);
 *   name = (char *)vmem_grow_push(&arena, 100, 1);
 *   ...
 *   vmem_grow_pop_to(&arena, mark);                frees name
 *   vmem_grow_deinit(&arena);
 *
 * Pushed bytes never move. The arena commits pages ahead of use: 64 KiB at first, then twice as much
 * each time, up to 2 MiB, and less if memory is short. So most pushes are one addition.
 */

/*
 * Allocates `size` bytes at a multiple of `align`, a power of two. Their contents are undefined.
 *
 * Returns their address, or NULL on failure. Fails, and changes nothing, iff:
 * - `size` is 0, or `align` is not a power of two.
 * - `arena` is NULL or not initialized.
 * - The arena's reservation has too few bytes left.
 * - vmem_commit of the missing pages would.
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

/* As vmem_grow_push, but the bytes are zero. Clears only bytes that were in use before, because fresh memory is zero. */
static inline void *vmem_grow_push_zeroed(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    uint8_t *const at = LIBPALLOC_CAST_(uint8_t *, vmem_grow_push(arena, size, align));

    if (at && at < arena->fresh) {
        const VMemSize used = LIBPALLOC_CAST_(VMemSize, arena->fresh - at);
        memset(at, 0, used < size ? used : size);
    }
    return at;
}

/* Returns the number of bytes in use, padding included, for vmem_grow_pop_to. `arena` must be initialized. Never fails. */
static inline VMemSize vmem_grow_mark(const VMemGrowArena *arena)
{
    return LIBPALLOC_CAST_(VMemSize, arena->next - arena->mem);
}

#ifdef VMEM_DEBUG
/* The functions of the growing arena, which close the bytes that are not in use, and open those that are. */
static inline void *vmem_grow_push_debug_(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    const uint8_t *const limit = arena ? arena->limit : NULL;
    uint8_t *const at = LIBPALLOC_CAST_(uint8_t *, vmem_grow_push(arena, size, align));

    if (at && arena->limit != limit)
        VMEM_DEBUG_CLOSE_(arena->next, LIBPALLOC_CAST_(VMemSize, arena->limit - arena->next));
    if (at)
        VMEM_DEBUG_UNDEFINED_(at, size);
    return at;
}

static inline void *vmem_grow_push_zeroed_debug_(VMemGrowArena *arena, VMemSize size, VMemSize align)
{
    uint8_t *const at = LIBPALLOC_CAST_(uint8_t *, vmem_grow_push_debug_(arena, size, align));

    if (at)
        VMEM_DEBUG_OPEN_(at, size);
    if (at && at < arena->fresh) {
        const VMemSize used = LIBPALLOC_CAST_(VMemSize, arena->fresh - at);
        memset(at, 0, used < size ? used : size);
    }
    return at;
}

static inline VMemResult vmem_grow_pop_to_debug_(VMemGrowArena *arena, VMemSize mark)
{
    const uint8_t *const next = arena ? arena->next : NULL;
    const VMemResult result = vmem_grow_pop_to(arena, mark);

    if (result)
        VMEM_DEBUG_CLOSE_(arena->next, LIBPALLOC_CAST_(VMemSize, next - arena->next));
    return result;
}

/* Bytes that are not committed any more are opened, so that other mappings can use their addresses. */
static inline VMemResult vmem_grow_reset_debug_(VMemGrowArena *arena, VMemSize keep_bytes)
{
    const uint8_t *const limit = arena ? arena->limit : NULL;
    const VMemResult result = vmem_grow_reset(arena, keep_bytes);

    if (result && arena->limit < limit)
        VMEM_DEBUG_OPEN_(arena->limit, LIBPALLOC_CAST_(VMemSize, limit - arena->limit));
    if (result)
        VMEM_DEBUG_CLOSE_(arena->mem, LIBPALLOC_CAST_(VMemSize, arena->limit - arena->mem));
    return result;
}

static inline VMemResult vmem_grow_deinit_debug_(VMemGrowArena *arena)
{
    const uint8_t *const mem = arena ? arena->mem : NULL, *const limit = arena ? arena->limit : NULL;
    const VMemResult result = vmem_grow_deinit(arena);

    if (result)
        VMEM_DEBUG_OPEN_(mem, LIBPALLOC_CAST_(VMemSize, limit - mem));
    return result;
}

#define vmem_grow_push vmem_grow_push_debug_
#define vmem_grow_push_zeroed vmem_grow_push_zeroed_debug_
#define vmem_grow_pop_to vmem_grow_pop_to_debug_
#define vmem_grow_reset vmem_grow_reset_debug_
#define vmem_grow_deinit vmem_grow_deinit_debug_
#endif

#undef LIBPALLOC_CAST_
#undef LIBPALLOC_ADDRESS_

/* The sizes that programs rely on. */
typedef char vmem_layout_is_as_documented_[
    sizeof(VMemProtect) == 1 && sizeof(VMemResult) == 4 && sizeof(VMemUsageStatus) == 2 * sizeof(void *) &&
    sizeof(VMemArena) == 3 * sizeof(void *) && sizeof(VMemRangeInfo) == 3 * sizeof(void *) &&
    sizeof(VMemGrowArena) == 7 * sizeof(void *) ? 1 : -1];

#ifdef __cplusplus
}
#endif

#endif

/* A file that defines VMEM_IMPLEMENTATION sets an error handler before main. */
#if defined(VMEM_IMPLEMENTATION) && !defined(LIBPALLOC_VMEM_IMPLEMENTATION)
#define LIBPALLOC_VMEM_IMPLEMENTATION
/* The original's implementation includes these, and programs rely on it. */
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
