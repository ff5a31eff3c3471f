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
 *   VMEM_IMPLEMENTATION is not needed for anything else: the code is in the library. VMEM_FUNC,
 *   VMEM_INLINE, VMEM_UNUSED, VMEM_THREAD_LOCAL, VMEM_NO_ERROR_MESSAGES and VMEM_NO_AUTO_PLATFORM are
 *   accepted without effect.
 *
 * Threads
 *
 *   Every function may be called from any thread at any time; on one VMemArena or VMemGrowArena,
 *   from one thread at a time. Messages are each thread's own. After fork(2) (not _Fork or clone)
 *   the child may use everything; what was reserved is its own copy then, and nothing is locked. (A
 *   child of vfork(2) must not.) None of the functions may be called in a signal handler or a
 *   handler of pthread_atfork(3).
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
