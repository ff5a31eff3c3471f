/* SPDX-License-Identifier: MIT OR Apache-2.0 */
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
