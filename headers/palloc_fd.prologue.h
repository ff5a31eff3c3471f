/*
 * finwo/palloc.h: the second generation of palloc's functions, which take a file descriptor where
 * those of palloc.h take a struct palloc_t *. The media are the same; palloc.h explains the terms,
 * what happens in a crash, and the rules for threads, which hold here with "descriptor" for "medium".
 * Link with -lpalloc.
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
 *       if (ptr == 0 || lseek(fd, (off_t)ptr, SEEK_SET) < 0 ||
 *           write(fd, "hello", 6) != 6) {
 *           fprintf(stderr, "%s\n", palloc_error());
 *           return 1;
 *       }
 *       for (ptr = palloc_next(fd, 0); ptr != 0; ptr = palloc_next(fd, ptr))
 *           printf("%llu\n", (unsigned long long)ptr);
 *       return palloc_close(fd) == PALLOC_OK ? 0 : 1;
 *   }
 *
 * The file of a dynamic medium ends with its last block at every moment, so that lseek(fd, 0,
 * SEEK_END) tells the size of the medium. Growth thus costs some system calls with each palloc that
 * finds no free block; palloc.h reserves space ahead.
 *
 * The position of `fd` in the file is the program's. The library works on descriptors of its own,
 * so a program that closes `fd` by close(2) harms nothing. But it leaves the medium open and locked:
 * the library lets go of it, as if the process had been killed, when a later palloc_open or
 * palloc_init in this process would fail otherwise, or returns or is given its number for another
 * file. Up to then calls with the number act on the medium, not on what else has that number by now.
 * (To ask the system at each call would make a palloc several times slower.)
 *
 * After fork(2), one of the two processes may go on with the medium (the parent, if another thread
 * was in a call at the fork), and the other must not use these functions on it. A child may use media
 * of its own in any case: fork waits for a palloc_open or palloc_init of another thread.
 *
 * The names of the functions are those of palloc.h with other parameters: macros at the end of this
 * file map them to others, and a source file can include one of the two headers only. Both may be
 * used in one program, for different media.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef LIBPALLOC_PALLOC_H
#error "palloc.h and finwo/palloc.h can't be included in the same source file"
#endif

/* What functions return. */
#define PALLOC_OK 0
#define PALLOC_ERR (-1)
