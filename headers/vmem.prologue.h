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
