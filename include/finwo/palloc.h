/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/palloc_fd.rs and headers/palloc_fd.*; changes belong there. */
#ifndef LIBPALLOC_FINWO_PALLOC_H
#define LIBPALLOC_FINWO_PALLOC_H

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

#ifdef __cplusplus
extern "C" {
#endif

/* No flags: a static medium, whose size is that of the file and does not change. */
#define PALLOC_DEFAULT 0

/*
 * The medium grows and shrinks with its blobs. A medium that is already initialized knows whether
 * it does; its own bit wins.
 */
#define PALLOC_DYNAMIC 1

/*
 * Every operation is on the disk when it returns. The descriptor that palloc_open returns carries
 * O_DSYNC, so that what the program writes with it is on the disk too.
 */
#define PALLOC_SYNC 2

/*
 * Open with a shared lock and write nothing at all, not even a repair; palloc and pfree fail with
 * EROFS.
 */
#define PALLOC_READONLY 4

/* Initialize a file that holds something else, or a damaged medium. A good medium is kept. */
#define PALLOC_FORCE 8

/* Reserved. No layout is defined for it; a medium that has it is refused. */
#define PALLOC_EXTENDED (1u << 31)

/* A descriptor on which a medium is open. */
typedef int PALLOC_FD;

/* PALLOC_DYNAMIC and the others, combined with |. */
typedef uint32_t PALLOC_FLAGS;

/* PALLOC_OK or PALLOC_ERR. */
typedef int PALLOC_RESPONSE;

/* Where a blob is in the medium; 0 is none. */
typedef uint64_t PALLOC_OFFSET;

/* How many bytes. */
typedef uint64_t PALLOC_SIZE;

/*
 * Opens the file, and the medium in it if it is one: for that no palloc_init is needed. In a file
 * that is empty or all zeros, palloc_init makes one. A file that does not exist is created with
 * PALLOC_DYNAMIC, mode 0660 minus the umask. The medium is locked (flock(2)) until palloc_close.
 *
 * Returns a descriptor that has O_CLOEXEC and is larger than 2; 0 on failure; a file that was
 * created for it may remain, empty, where memory ran out, but not for want of descriptors. Fails
 * iff:
 * - ENOENT: the file does not exist, and PALLOC_DYNAMIC is not given.
 * - EINVAL: the file holds something else (palloc_init makes a medium of it if PALLOC_FORCE is
 *   given to both); filename is NULL; flags that are unknown or contradict each other; neither a
 *   file nor a block device.
 * - EWOULDBLOCK: the medium is open already, in this process or another, unless both are
 *   PALLOC_READONLY.
 * - EILSEQ: the chain of blocks is damaged (palloc_error() says where); nothing was written.
 * - ENOTSUP: the medium or `flags` have PALLOC_EXTENDED set.
 * - ENOMEM: memory or address space ran out. ENOSPC: the disk is full. EMFILE: it takes two
 *   descriptors, three for a moment to create a file.
 * - ENODEV: the file system has no shared mappings.
 * - whatever else open(2), mmap(2) and their like say.
 */
PALLOC_FD palloc_fd_open(const char *filename, PALLOC_FLAGS flags);

/*
 * Makes a medium of the file that `fd` is open on, if it is not one yet, and opens it. `fd` comes
 * from palloc_open, or from open(2): then for reading and writing (for reading only with
 * PALLOC_READONLY) and without O_APPEND. What the file may hold is as with palloc_open; also:
 *
 *   the file      PALLOC_DYNAMIC                  otherwise
 *   ------------  ------------------------------  -------------
 *   is empty      a medium of 8 bytes that grows  fails, EINVAL
 *   is all zeros  initialized, one free block     the same
 *   is a medium   opened; its own flags win       the same
 *
 * palloc and pfree are durable with PALLOC_SYNC, and if `fd` has O_DSYNC (as that of a palloc_open
 * with PALLOC_SYNC has); the program's own writes are if it has O_DSYNC. A new file's entry in its
 * directory is palloc_open's matter.
 *
 * Returns PALLOC_OK, also if the medium is open on `fd` already (with PALLOC_SYNC it is durable
 * from then on); PALLOC_ERR on failure, and `fd` stays open. A flock(2) that `fd` had is then as it
 * was, on Linux with /proc; elsewhere it may be gone. Fails iff:
 * - EBADF: `fd` is not open, or not for reading and writing.
 * - EINVAL: one of the cases above; the file holds something else and PALLOC_FORCE is not given;
 *   flags as with palloc_open; O_APPEND.
 * - EROFS, EWOULDBLOCK, EILSEQ, ENOTSUP, ENOMEM, ENOSPC, ...: as with palloc_open. EWOULDBLOCK also
 *   for a dup(2) of a descriptor that a medium is open on, unless both are PALLOC_READONLY.
 */
PALLOC_RESPONSE palloc_fd_init(PALLOC_FD fd, PALLOC_FLAGS flags);

/*
 * Closes the medium, which leaves the file exactly in the documented format, and the descriptor,
 * wherever that came from. A descriptor from palloc_open whose file was never made a medium is
 * closed too. No other thread may be using them.
 *
 * Returns PALLOC_OK; PALLOC_ERR on failure, and both are closed all the same, as far as they were
 * open. Fails iff:
 * - EBADF: `fd` is not open; or it was closed by close(2), and its number now is that of another
 *   file, which stays open.
 * - EIO, ENOSPC, ...: what could not be written; the next palloc_open makes it good.
 */
PALLOC_RESPONSE palloc_fd_close(PALLOC_FD fd);

/*
 * Allocates a blob of at least `size` bytes and returns the offset of its first byte, 16-byte
 * aligned on media that this library made. What the bytes hold is not defined. A size of 0 gives a
 * blob of 16 bytes.
 *
 * Returns 0 on failure, and the medium is as it was. Fails iff:
 * - EBADF: no medium is open on `fd`.
 * - ENOSPC: no free block is large enough and the medium is static, or the disk is full.
 * - ENOMEM: no medium can hold `size` bytes, or memory or address space ran out.
 * - EROFS: opened with PALLOC_READONLY.
 * - EFBIG: the file would exceed what the file system or RLIMIT_FSIZE allows.
 * - EILSEQ: a marker was overwritten since the medium was opened (palloc_error() says where).
 * - EIO, EDQUOT, ...: what ftruncate(2), fallocate(2) and fdatasync(2) say. EIO: a sync failed
 *   before.
 */
PALLOC_OFFSET palloc_fd_alloc(PALLOC_FD fd, PALLOC_SIZE size);

/*
 * Frees the blob at `ptr`. If it is the last of a dynamic medium, the file is cut.
 *
 * Returns PALLOC_OK; PALLOC_ERR on failure, and nothing was changed. Fails iff:
 * - EBADF: no medium is open on `fd`.
 * - EINVAL: no allocated blob starts at `ptr` (0, a stray offset, inside a blob, freed already).
 * - EROFS: opened with PALLOC_READONLY.
 * - EILSEQ: a marker was overwritten since the medium was opened (the one at the end of a blob of
 *   up to 512 bytes is not looked at).
 * - EIO, ...: with PALLOC_SYNC, what fdatasync(2) says. EIO: a sync failed before.
 */
PALLOC_RESPONSE palloc_fd_free(PALLOC_FD fd, PALLOC_OFFSET ptr);

/*
 * The size of the data section at `ptr`: what was asked for or more. Answers for free blocks too.
 *
 * Returns 0 on failure. Fails iff:
 * - EBADF: no medium is open on `fd`.
 * - EINVAL: no block's data starts at `ptr`.
 * - EILSEQ: the marker was overwritten since the medium was opened.
 */
PALLOC_SIZE palloc_fd_size(PALLOC_FD fd, PALLOC_OFFSET ptr);

/*
 * The allocated blob with the lowest offset above `ptr`, 0 if there is none. `ptr` can be any
 * number: 0 gives the first blob, and that of a blob which was freed the one behind it, so a
 * program may free blobs while it iterates. Fails (0 too: set errno to 0 before to tell) iff:
 * - EBADF: no medium is open on `fd`.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 */
PALLOC_OFFSET palloc_fd_next(PALLOC_FD fd, PALLOC_OFFSET ptr);

/* As in palloc.h: what went wrong in the last call that failed in this thread. Never NULL. */
const char *palloc_error(void);

/* The documented names. Those of the types are macros too, for #ifdef. */
#define PALLOC_FD PALLOC_FD
#define PALLOC_FLAGS PALLOC_FLAGS
#define PALLOC_RESPONSE PALLOC_RESPONSE
#define PALLOC_OFFSET PALLOC_OFFSET
#define PALLOC_SIZE PALLOC_SIZE
#define palloc_open palloc_fd_open
#define palloc_init palloc_fd_init
#define palloc_close palloc_fd_close
#define palloc palloc_fd_alloc
#define pfree palloc_fd_free
#define palloc_size palloc_fd_size
#define palloc_next palloc_fd_next

#ifdef __cplusplus
}
#endif

#endif
