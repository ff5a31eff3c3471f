/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * finwo/palloc.h: the second generation of palloc's functions. They take a file descriptor, and
 * those of palloc.h a struct palloc_t *. The media are the same. palloc.h explains the terms,
 * crashes, and the rules for threads, which hold here for each descriptor. Link with -lpalloc.
 *
 *   #include <finwo/palloc.h>
 *   #include <stdio.h>
 *   #include <unistd.h>
 *
 *   int main(void)
 *   {
 *       PALLOC_FD fd = palloc_open("greetings.pba", PALLOC_DYNAMIC);
 *       PALLOC_OFFSET ptr = 0;
 *
 *       if (fd != 0 && palloc_init(fd, PALLOC_DYNAMIC) == PALLOC_OK)
 *           ptr = palloc(fd, 6);
 *       if (ptr == 0) {
 *           fprintf(stderr, "%s\n", palloc_error());
 *           return 1;
 *       }
 *       if (lseek(fd, (off_t)ptr, SEEK_SET) < 0 ||
 *           write(fd, "hello", 6) != 6) {
 *           perror("greetings.pba");
 *           return 1;
 *       }
 *       for (ptr = palloc_next(fd, 0); ptr != 0; ptr = palloc_next(fd, ptr))
 *           printf("%llu\n", (unsigned long long)ptr);
 *       return palloc_close(fd) == PALLOC_OK ? 0 : 1;
 *   }
 *
 * The file of a dynamic medium ends with its last block after each call, so lseek(fd, 0, SEEK_END)
 * returns the size of the medium. Therefore each palloc that finds no free block makes some system
 * calls. The functions of palloc.h reserve space ahead.
 *
 * Without PALLOC_SYNC nothing is promised about power cuts: these functions grow and cut the file
 * with each blob, and do not sync it. A kill loses nothing, with PALLOC_SYNC and without.
 *
 * The position of `fd` in the file stays as the program left it. The library works on descriptors
 * of its own, so a program that closes `fd` by close(2) harms no medium. But the medium stays open
 * and locked. The library abandons it, as if the process had been killed, when a later palloc_open
 * or palloc_init in this process would fail otherwise, or when one of them gets its number for
 * another file. Until then calls with the number act on the medium, not on another file that has
 * the number by now. (A system call in each function to check would make palloc several times
 * slower.)
 *
 * After fork(2), one of the two processes may use these functions on the medium: the parent, if
 * another thread was in a call at the fork. The other process must not. A child may always use
 * media that it opens itself: fork waits for a palloc_open or palloc_init of another thread.
 *
 * A thread with 16 KiB of stack can call every function (24 KiB on s390x).
 *
 * The functions have the names of those of palloc.h, with other parameters: macros at the end of
 * this file map the names. So a source file can include only one of the two headers. A program may
 * use both, for different media.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef LIBPALLOC_PALLOC_H
#error "palloc.h and finwo/palloc.h can't be included in the same source file"
#endif

/* The values of PALLOC_RESPONSE. */
#define PALLOC_OK 0
#define PALLOC_ERR (-1)
