/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/palloc_fd.rs and headers/palloc_fd.*; changes belong there. */
#ifndef LIBPALLOC_FINWO_PALLOC_H
#define LIBPALLOC_FINWO_PALLOC_H

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

#ifdef __cplusplus
extern "C" {
#endif

/* No flags: a static medium, which keeps the size of the file. */
#define PALLOC_DEFAULT 0

/*
 * The medium grows and shrinks with its blobs. For a medium that is already initialized, the bit in
 * its header counts.
 */
#define PALLOC_DYNAMIC 1

/*
 * Every operation is on the disk when it returns. The descriptor that palloc_open returns has
 * O_DSYNC, so the program's writes with it are on the disk when they return, too.
 */
#define PALLOC_SYNC 2

/*
 * Open with a shared lock. Nothing is written, not even a repair; palloc and pfree fail with EROFS.
 */
#define PALLOC_READONLY 4

/*
 * Make a medium of a file that holds something else, or of a damaged medium. A sound medium is
 * kept. On Linux palloc_open refuses a block device that is in use, such as by a mounted file
 * system.
 */
#define PALLOC_FORCE 8

/* Reserved: its layout is not defined. A medium that has it is refused. */
#define PALLOC_EXTENDED (1u << 31)

/* A descriptor that a medium is open on. */
typedef int PALLOC_FD;

/* PALLOC_DYNAMIC and the others, combined with |. */
typedef uint32_t PALLOC_FLAGS;

/* PALLOC_OK or PALLOC_ERR. */
typedef int PALLOC_RESPONSE;

/* The offset of a blob in the medium; 0 is no blob. */
typedef uint64_t PALLOC_OFFSET;

/* A number of bytes. */
typedef uint64_t PALLOC_SIZE;

/*
 * Opens the file, and the medium in it, if it holds one; then palloc_init is not needed. If the
 * file is empty or all zeros, palloc_init makes a medium. With PALLOC_DYNAMIC, a file that does not
 * exist is created, mode 0660 minus the umask. The medium is locked (flock(2)) until palloc_close.
 *
 * Returns a descriptor that has O_CLOEXEC and is larger than 2; 0 on failure. If memory ran out, an
 * empty file that the call created may remain. Fails iff:
 * - ENOENT: the file does not exist, and PALLOC_DYNAMIC is not given.
 * - EINVAL: the file holds something else (with PALLOC_FORCE palloc_open succeeds, and palloc_init
 *   with PALLOC_FORCE makes a medium); `filename` is NULL; `flags` are unknown or contradict each
 *   other; neither a file nor a block device.
 * - EWOULDBLOCK: the medium is open already, in this process or another, unless both are
 *   PALLOC_READONLY.
 * - EBUSY: PALLOC_FORCE, and a block device that is in use: by a mounted file system, or by another
 *   PALLOC_FORCE (Linux).
 * - EILSEQ: the chain of blocks is damaged (palloc_error() names the offset); nothing was written.
 * - EROFS: PALLOC_READONLY, and a process was killed in palloc_commit of palloc.h: open the medium
 *   once for writing. EROFS too: the file system or the block device is read-only, without
 *   PALLOC_READONLY.
 * - ENOTSUP: the medium or `flags` have PALLOC_EXTENDED set.
 * - ENOMEM: memory or address space ran out; the file is 2^47 bytes or longer and does not fit into
 *   the address space (PALLOC_FORCE with PALLOC_DYNAMIC makes an empty medium of it). ENOSPC: the
 *   disk is full.
 * - EMFILE: the process has not enough descriptors. The call needs two, and three for a moment to
 *   create a file.
 * - ENODEV: the file system has no shared mappings.
 * - any other error of open(2), mmap(2) and the like.
 */
PALLOC_FD palloc_fd_open(const char *filename, PALLOC_FLAGS flags);

/*
 * Opens the medium in the file that `fd` is open on, and makes one first if the file holds none.
 * `fd` comes from palloc_open or from open(2). A descriptor from open(2) must be open for reading
 * and writing (with PALLOC_READONLY for reading at least), without O_APPEND:
 *
 *   the file          PALLOC_DYNAMIC                                otherwise
 *   ----------------  --------------------------------------------  -------------
 *   is empty          a medium of 8 bytes that grows                fails, EINVAL
 *   is all zeros      initialized, one free block                   the same
 *   is a medium       opened; the flags in its header count         the same
 *   is anything else  fails, EINVAL; initialized with PALLOC_FORCE  the same
 *
 * palloc and pfree are durable with PALLOC_SYNC, and if `fd` has O_DSYNC (as after palloc_open with
 * PALLOC_SYNC). The program's own writes are durable if `fd` has O_DSYNC. Only palloc_open makes
 * the entry of a new file in its directory durable.
 *
 * Returns PALLOC_OK, also if the medium is already open on `fd`; then PALLOC_SYNC makes it durable
 * from now on. Returns PALLOC_ERR on failure, and `fd` stays open. A flock(2) that `fd` had is then
 * as before on Linux with /proc; on other systems it may be gone. Fails iff:
 * - EBADF: `fd` is not open, or not for reading and writing.
 * - EINVAL: one of the cases above; `flags` are unknown or contradict each other; O_APPEND; neither
 *   a file nor a block device.
 * - EWOULDBLOCK: the medium is open already, unless both are PALLOC_READONLY. This includes a
 *   dup(2) of a descriptor that a medium is open on.
 * - EILSEQ, EROFS, ENOTSUP, ENOMEM, ENOSPC, ...: as with palloc_open.
 */
PALLOC_RESPONSE palloc_fd_init(PALLOC_FD fd, PALLOC_FLAGS flags);

/*
 * Closes the medium and the descriptor, whether it came from palloc_open or open(2). The file is
 * then exactly in the documented format. A descriptor from palloc_open whose file holds no medium
 * is closed too. No other thread may be using either. The call walks all free blocks.
 *
 * The call does not read the start markers of blobs. If the program has overwritten one, the call
 * succeeds all the same, and the next palloc_open or palloc_init may fail with EILSEQ.
 *
 * Returns PALLOC_OK, or PALLOC_ERR on failure; even then both are closed, if they were open. Fails
 * iff:
 * - EBADF: `fd` is not open; or the program closed it by close(2) and its number now belongs to
 *   another file, which stays open.
 * - EIO, ENOSPC, ...: something could not be written; the next palloc_open repairs it. EIO also if
 *   a sync failed before.
 */
PALLOC_RESPONSE palloc_fd_close(PALLOC_FD fd);

/*
 * Allocates a blob of at least `size` bytes and returns the offset of its first byte. The offset is
 * a multiple of 16 on media that this library made. The contents of the bytes are undefined. A size
 * of 0 gives a blob of 16 bytes.
 *
 * Returns 0 on failure, and the medium is as it was. Fails iff:
 * - EBADF: no medium is open on `fd`.
 * - ENOSPC: no free block is large enough and the medium is static, or the disk is full.
 * - ENOMEM: no medium can hold `size` bytes, or memory or address space ran out.
 * - EROFS: opened with PALLOC_READONLY.
 * - EFBIG: the file would exceed what the file system or RLIMIT_FSIZE allows.
 * - EILSEQ: a marker was overwritten since the medium was opened (palloc_error() names the offset).
 * - EIO, EDQUOT, ...: an error of ftruncate(2), fallocate(2) or fdatasync(2). EIO also if a sync
 *   failed before.
 */
PALLOC_OFFSET palloc_fd_alloc(PALLOC_FD fd, PALLOC_SIZE size);

/*
 * Frees the blob at `ptr`. If it is the last of a dynamic medium, the file is cut.
 *
 * Returns PALLOC_OK, or PALLOC_ERR on failure, and then nothing has changed. Fails iff:
 * - EBADF: no medium is open on `fd`.
 * - EINVAL: no allocated blob starts at `ptr` (0, a stray offset, inside a blob, freed already).
 * - EROFS: opened with PALLOC_READONLY.
 * - EILSEQ: a marker was overwritten since the medium was opened. The end marker of a blob of up to
 *   512 bytes is not read.
 * - EIO, ...: with PALLOC_SYNC, an error of fdatasync(2). EIO also if a sync failed before.
 */
PALLOC_RESPONSE palloc_fd_free(PALLOC_FD fd, PALLOC_OFFSET ptr);

/*
 * Returns the size of the block's data at `ptr`: the size that was asked for, or more. The block
 * may be free.
 *
 * Returns 0 on failure. Fails iff:
 * - EBADF: no medium is open on `fd`.
 * - EINVAL: no block's data starts at `ptr`.
 * - EILSEQ: the marker was overwritten since the medium was opened.
 */
PALLOC_SIZE palloc_fd_size(PALLOC_FD fd, PALLOC_OFFSET ptr);

/*
 * Returns the allocated blob with the lowest offset above `ptr`, 0 if there is no such blob. `ptr`
 * may be any number: 0 gives the first blob, and the offset of a freed blob gives the blob behind
 * it. So a program may free blobs while it iterates.
 *
 * Returns 0 on failure too: to see a failure, set errno to 0 before the call. Fails iff:
 * - EBADF: no medium is open on `fd`.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 */
PALLOC_OFFSET palloc_fd_next(PALLOC_FD fd, PALLOC_OFFSET ptr);

/* As in palloc.h: the text of the last error in this thread. Never NULL. */
const char *palloc_error(void);

/* The documented names. The types are macros too, for #ifdef. */
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
