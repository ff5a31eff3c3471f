/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/palloc.rs and headers/palloc.*; changes belong there. */
#ifndef LIBPALLOC_PALLOC_H
#define LIBPALLOC_PALLOC_H

/*
 * palloc.h: blobs of bytes, allocated and freed inside a file that outlives the process.
 *
 * What malloc and free do with memory, palloc and pfree do with a file: when it is opened the next
 * time, by this program or another, the blobs are where they were. Link with -lpalloc.
 *
 * Terms
 *
 *   medium   The file or block device that holds the blobs. A dynamic medium grows and shrinks with
 *            them, a static one keeps the size that it has.
 *   blob     What palloc allocates: a run of bytes, named by the offset of its first byte in the
 *            medium. The offset stays the same while the blob lives, so that one blob can refer to
 *            another by it. No blob has the offset 0.
 *   block    A part of the medium that holds one blob or is free. Blocks leave no gaps.
 *   marker   The 8 bytes at each end of a block that tell its size and whether it is free. They lie
 *            right before and after a blob's bytes: a program that writes outside of its blobs
 *            destroys them.
 *
 * A program: it keeps one more line with each run, and prints all of them.
 *
 *   #include <palloc.h>
 *   #include <stdio.h>
 *
 *   int main(void)
 *   {
 *       struct palloc_t *pt = palloc_init("lines.pba", PALLOC_DYNAMIC);
 *       uint64_t ptr = pt != NULL ? palloc(pt, 48) : 0;
 *       char *line = ptr != 0 ? palloc_data(pt, ptr) : NULL;
 *
 *       if (line == NULL) {
 *           fprintf(stderr, "%s\n", palloc_error());
 *           palloc_close(pt);
 *           return 1;
 *       }
 *       snprintf(line, 48, "the blob at %llu", (unsigned long long)ptr);
 *       for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr)) {
 *           line = palloc_data(pt, ptr);
 *           puts(line != NULL ? line : palloc_error());
 *       }
 *       palloc_close(pt);
 *       return 0;
 *   }
 *
 * A blob is read and written through the address that palloc_data gives, or with pread(2) and
 * pwrite(2) on the medium's descriptor at the blob's offset; both show the same bytes.
 *
 * To find its blobs again, a program allocates a root first: the first blob of an empty medium has
 * the lowest offset there is, 16, and palloc_first finds it as long as it is neither freed nor moved
 * by prealloc. The root holds the offsets of other blobs, and these of others; addresses are good
 * for one run only. What bytes mean, their order included, is the program's business.
 *
 * Errors
 *
 *   A function that fails returns NULL, 0 or -1, as said with it, sets errno, and leaves a line of
 *   text for palloc_error(). "Fails iff" lists all the cases. A call that succeeds leaves errno
 *   alone. Nothing is printed, and nothing ends the program, not for want of memory either.
 *   Print palloc_error(): perror(3) has no words for some of it, and speaks of multibyte characters
 *   where a medium is damaged (EILSEQ).
 *
 * Threads
 *
 *   Any number of threads may use one medium at a time, except palloc_close, which must be the last
 *   use. Different media do not wait for each other. errno and palloc_error() are each thread's own.
 *   The bytes of a blob are not protected, nor is a blob that one thread uses while another frees or
 *   moves it. No thread may be cancelled within a call.
 *   After fork(2), one of the two processes may go on with the medium; the other may read and write
 *   blobs' bytes, but must not use its functions, not even to close it. It is the parent that goes on
 *   if another thread was in a call at the fork. A child may use media of its own in any case.
 *   None of the functions may be called in a signal handler. Nor may exit(3), if a function given to
 *   atexit(3) closes a medium: it would wait for ever for the call that the signal interrupted. Set a
 *   flag, or call _exit(2): a kill loses nothing.
 *
 * Crashes
 *
 *   A process may be killed (kill -9) at any moment. The next palloc_init then finds every blob whose
 *   palloc had returned and whose pfree had not been called, with its bytes as the program had
 *   written them; the operation in flight is done or undone, and no space is lost.
 *   To have the same after a power cut: with PALLOC_SYNC each operation is on the disk when it
 *   returns. Without, palloc_sync brings to the disk all that was done up to then; after a power cut
 *   between two of these, palloc_init recovers the medium or refuses it (EILSEQ), and if it recovers,
 *   every blob that was synced and not freed or moved since is there. One that prealloc moved may be
 *   at neither place. A new medium is on the disk, with nothing in it, when palloc_init returns.
 *   After a sync has failed, nobody knows what is on the disk: the system may have dropped what it
 *   could not write. From then on all that changes the medium or makes it durable fails with EIO, "a
 *   sync failed before: ...", until it is closed and opened anew; reading goes on. With PALLOC_SYNC,
 *   the operation whose sync failed is undone here, and may be done on the disk.
 *
 * Backups
 *
 *   A copy of a medium that is in use can be refused, or open with blobs that never were together: cp
 *   reads the file piece by piece. Copy it while it is closed, or while it is open with
 *   PALLOC_READONLY, which keeps writers out and lets cp read; or keep all threads from using the
 *   medium and storing to blobs, call palloc_sync, and let them go on when the copy is made.
 *
 * Windows
 *
 *   Paths are UTF-8. `descriptor` is one of the C runtime that the library is linked with, which has
 *   to be the program's; it is in binary mode. LockFileEx, file mappings and FlushFileBuffers stand
 *   for the system calls that are named here, and errno has the number that suits their error.
 *   A file that is mapped can't be cut, and can't be mapped beyond its end. So palloc_data may answer
 *   with another address after the medium has grown: both are good until palloc_close. And once it
 *   was called the file is not cut before palloc_close: after palloc_sync too it may end in a free
 *   block that `size` does not count.
 *
 * Origin
 *
 *   PALLOC_DEFAULT, PALLOC_DYNAMIC, PALLOC_SYNC, PALLOC_EXTENDED, struct palloc_t, and the functions
 *   palloc_init, palloc_close, palloc, pfree, palloc_size, palloc_first and palloc_next are those that
 *   palloc.c documents, and the media are byte-compatible with it, both ways. The rest is an addition.
 *
 *   PostgreSQL has other functions of the same names: code that runs inside its server links a build of
 *   this library whose names have a prefix (make PREFIX_SYMBOLS=my_).
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "palloc_version.h"

#ifdef LIBPALLOC_FINWO_PALLOC_H
#error "palloc.h and finwo/palloc.h can't be included in the same source file"
#endif

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
 * Every operation is on the disk when it returns. `descriptor` carries O_DSYNC, so that what the
 * program writes with it is on the disk too. What it stores through palloc_data is not: that needs
 * palloc_sync.
 */
#define PALLOC_SYNC 2

/*
 * Open with a shared lock and write nothing at all, not even a repair; palloc, pfree and prealloc
 * fail with EROFS.
 */
#define PALLOC_READONLY 4

/*
 * Initialize a file that holds something else, or a damaged medium. A good medium is kept. One that
 * is open elsewhere, or has PALLOC_EXTENDED, is refused all the same.
 */
#define PALLOC_FORCE 8

/* Reserved. No layout is defined for it; a medium that has it is refused. */
#define PALLOC_EXTENDED (1u << 31)

/*
 * An open medium. Read the fields, never write them; first_free and size may change with each call.
 * The struct is made by palloc_init and may be longer than what is shown here: handle it by pointer
 * only.
 */
struct palloc_t {
    /*
     * The absolute path, without symbolic links, `.` and `..`; the path that was given to
     * palloc_init where the system can't tell it.
     */
    char *filename;
    /*
     * The file, for reading and writing blobs with pread(2), pwrite(2), or lseek(2) with read(2)
     * and write(2). It is larger than 2. The library uses one of its own: a program that closes
     * this one, by mistake or to save it, harms nothing.
     */
    int descriptor;
    /* PALLOC_DYNAMIC if the medium grows; PALLOC_SYNC if every operation is durable. */
    uint32_t flags;
    /* Where the first block begins: 8. */
    uint32_t header_size;
    /*
     * Start of a free block, 0 if there is none; the lowest one after palloc_init and palloc_sync.
     */
    uint64_t first_free;
    /* End of the last block. A dynamic medium's file may be longer while it is open. */
    uint64_t size;
};

/*
 * What palloc_stat tells of a medium. Bytes are those of data sections, without the 16 bytes of
 * markers of each block.
 */
struct palloc_stat {
    /* End of the last block, as `size` in struct palloc_t. */
    uint64_t medium_size;
    /* How many blobs are allocated. */
    uint64_t live_blobs;
    /* Sum of their palloc_size. */
    uint64_t live_bytes;
    /* How many blocks are free. */
    uint64_t free_blocks;
    /* Sum of their sizes. */
    uint64_t free_bytes;
    /*
     * The size of the largest of them. A static medium cannot give a larger blob; a dynamic one
     * grows.
     */
    uint64_t largest_free;
};

/*
 * Called for each block: `ptr` is the offset of its data, `size` that of its data section,
 * `is_free` 1 or 0. Non-zero ends the walk. It has to return: no longjmp, no exception.
 */
typedef int (*palloc_walk_fn)(void *user, uint64_t ptr, uint64_t size, int is_free);

/*
 * Called for each violation of the format: the offset of the block, and what is wrong, valid during
 * the call. It has to return: no longjmp, no exception.
 */
typedef void (*palloc_report_fn)(void *user, uint64_t offset, const char *what);

/*
 * Opens the medium in `filename`, and makes one where there is none:
 *
 *   the file          PALLOC_DYNAMIC                                          otherwise
 *   ----------------  ------------------------------------------------------  -------------
 *   does not exist    created, mode 0660 minus the umask                      fails, ENOENT
 *   is empty          a medium of 8 bytes that grows                          fails, EINVAL
 *   is all zeros      initialized, one free block                             the same
 *   is a medium       opened; repaired if a process was killed at work in it  the same
 *   is anything else  fails, EINVAL; initialized with PALLOC_FORCE            the same
 *
 * A file of zeros must have 8 bytes, or at least 40; a smaller one is made that long with
 * PALLOC_DYNAMIC and refused without (EINVAL). So `truncate -s 1M FILE` and palloc_init(FILE,
 * PALLOC_DEFAULT) make a static medium of 1 MiB.
 *
 * With PALLOC_READONLY only a medium can be opened. The medium is locked (flock(2)) until
 * palloc_close; with PALLOC_READONLY the lock is shared.
 *
 * Returns the open medium, NULL on failure; a file that was created for it may remain, empty, but
 * not for want of descriptors. Fails iff:
 * - EINVAL: one of the cases above; filename is NULL; flags that are unknown or contradict each
 *   other; neither a file nor a block device.
 * - EWOULDBLOCK: the medium is open already, in this process or another.
 * - EILSEQ: the chain of blocks is damaged (palloc_error() says where); nothing was written.
 * - ENOTSUP: the medium or `flags` have PALLOC_EXTENDED set.
 * - ENOMEM: memory or address space ran out. ENOSPC: the disk is full. EMFILE: it takes two
 *   descriptors, three for a moment to create a file.
 * - ENODEV: the file system has no shared mappings.
 * - whatever else open(2), mmap(2) and their like say.
 */
struct palloc_t *palloc_init(const char *filename, uint32_t flags);

/*
 * Closes the medium: gives back what was reserved ahead, and leaves the file exactly in the
 * documented format. NULL is accepted. No other thread may be using the medium, and pointers from
 * palloc_data end here. It walks all free blocks.
 *
 * What could not be written is reported in errno and palloc_error(), and made good by the next
 * palloc_init; the medium is closed all the same.
 */
void palloc_close(struct palloc_t *pt);

/*
 * Allocates a blob of at least `size` bytes and returns the offset of its first byte, 16-byte
 * aligned on media that this library made. What the bytes hold is not defined. A size of 0 gives a
 * blob of 16 bytes.
 *
 * Returns 0 on failure, and the medium is as it was. Fails iff:
 * - ENOSPC: no free block is large enough and the medium is static, or the disk is full.
 * - ENOMEM: no medium can hold `size` bytes, or memory or address space ran out.
 * - EROFS: opened with PALLOC_READONLY. EINVAL: `pt` is NULL.
 * - EFBIG: the file would exceed what the file system or RLIMIT_FSIZE allows.
 * - EILSEQ: a marker was overwritten since the medium was opened (palloc_error() says where).
 * - EIO, EDQUOT, ...: what ftruncate(2), fallocate(2) and fdatasync(2) say. EIO: a sync failed
 *   before.
 */
uint64_t palloc(struct palloc_t *pt, size_t size);

/*
 * Frees the blob at `ptr`. On a dynamic medium, freeing the last one gives its space back to the
 * file system.
 *
 * Returns nothing: to see a failure, set errno to 0 before the call. Fails, and changes nothing,
 * iff:
 * - EINVAL: no allocated blob starts at `ptr` (0, a stray offset, inside a blob, freed already), or
 *   `pt` is NULL.
 * - EROFS: opened with PALLOC_READONLY.
 * - EILSEQ: a marker was overwritten since the medium was opened (the one at the end of a blob of
 *   up to 512 bytes is not looked at).
 * - EIO, ...: with PALLOC_SYNC, what fdatasync(2) says. EIO: a sync failed before.
 */
void pfree(struct palloc_t *pt, uint64_t ptr);

/*
 * The size of the data section at `ptr`: what was asked for or more. Answers for free blocks too.
 *
 * Returns 0 on failure. Fails iff:
 * - EINVAL: no block's data starts at `ptr`, or `pt` is NULL.
 * - EILSEQ: the marker was overwritten since the medium was opened.
 */
uint64_t palloc_size(struct palloc_t *pt, uint64_t ptr);

/*
 * The allocated blob with the lowest offset, 0 if there is none. Fails (0 too: set errno to 0
 * before to tell) iff:
 * - EINVAL: `pt` is NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 */
uint64_t palloc_first(struct palloc_t *pt);

/*
 * The allocated blob with the lowest offset above `ptr`, 0 if there is none. `ptr` can be any
 * number: 0 gives the first blob, and that of a blob which was freed the one behind it, so a
 * program may free blobs while it iterates. Fails (0 too: set errno to 0 before to tell) iff:
 * - EINVAL: `pt` is NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 */
uint64_t palloc_next(struct palloc_t *pt, uint64_t ptr);

/*
 * Resizes the blob at `ptr`, in place where there is room and by a move where not, and returns its
 * offset. The first bytes, up to the smaller of both sizes, are kept; a kill during the call leaves
 * either the old blob, with every byte, or the new one, never both or none. If it moves, the old
 * offset and address are dead. With `ptr` 0 it is palloc(pt, size). A size of 0 shrinks to 16
 * bytes. Space given up is freed when it is worth a block (more than 32 bytes).
 *
 * Returns 0 on failure, and the blob at `ptr` is as it was. Fails iff:
 * - EINVAL: `ptr` is not 0 and no allocated blob starts there, or `pt` is NULL.
 * - ENOSPC, ENOMEM, EFBIG, EIO, ...: as with palloc.
 * - EROFS: opened with PALLOC_READONLY.
 * - EILSEQ: a marker was overwritten since the medium was opened (the one at the end of a blob of
 *   up to 512 bytes is not looked at).
 */
uint64_t prealloc(struct palloc_t *pt, uint64_t ptr, size_t size);

/*
 * The address of the blob's bytes, palloc_size of them, to read and (except with PALLOC_READONLY)
 * write. It stays valid until palloc_close, whatever the medium does, as long as the blob is not
 * freed or moved; it shows the same bytes as pread(2) and pwrite(2) on `descriptor`. What is stored
 * here is safe from a kill at once, and from a power cut after palloc_sync only, with PALLOC_SYNC
 * too.
 *
 * The address is 16-byte aligned on media that this library made. On media of the original it can
 * be odd: use memcpy there.
 *
 * Returns NULL on failure. Fails iff:
 * - EINVAL: no allocated blob starts at `ptr`, or `pt` is NULL.
 * - ENOSPC, EDQUOT, EIO: the file is sparse under the blob, and the disk is full or fails.
 * - EILSEQ: the marker right before the blob was overwritten since the medium was opened. The one
 *   behind it is not looked at.
 */
void *palloc_data(struct palloc_t *pt, uint64_t ptr);

/*
 * Makes everything done so far durable, blobs' bytes included, and the file exactly the documented
 * format: nothing behind the last block, free blocks linked in order. It walks all free blocks.
 * With PALLOC_READONLY it does nothing and succeeds.
 *
 * Returns 0, or -1 on failure. Fails iff:
 * - EINVAL: `pt` is NULL.
 * - EIO, ENOSPC, ...: what fdatasync(2) and ftruncate(2) say. EIO: a sync failed before.
 */
int palloc_sync(struct palloc_t *pt);

/*
 * Counts blocks and bytes into `out`, by a walk over all blocks.
 *
 * Returns 0, or -1 on failure, with `out` untouched. Fails iff:
 * - EINVAL: `pt` or `out` is NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 */
int palloc_stat(struct palloc_t *pt, struct palloc_stat *out);

/*
 * Calls `fn` for every block, allocated or free, by ascending offset. The medium is not locked
 * during the call of `fn`, which may use it in every way except palloc_close: blocks that exist
 * throughout are seen once.
 *
 * Returns what `fn` returned last; 0 when the end was reached or there is no block. Fails (-1, with
 * errno set; a walk that ends well leaves errno alone) iff:
 * - EINVAL: `pt` or `fn` is NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 */
int palloc_walk(struct palloc_t *pt, palloc_walk_fn fn, void *user);

/*
 * Reads the medium in `filename`, without opening it or writing to it, and calls `report` (if not
 * NULL) for every violation of the format: wrong or missing markers, gaps, free blocks that are
 * side by side, links that do not form the sorted list. While it runs the file has a shared lock.
 *
 * Returns how many there are, 0 for a sound medium; -1 if it can't be read. Fails iff:
 * - EINVAL: `filename` is NULL, or names neither a file nor a block device.
 * - EWOULDBLOCK: the medium is open for writing.
 * - ENOENT, EACCES, EIO, ENOMEM, ...: what open(2), mmap(2) and their like say.
 */
int64_t palloc_check(const char *filename, palloc_report_fn report, void *user);

/*
 * What went wrong in the last call that failed in this thread, as one line that names the function,
 * the file and the offset or argument. Never NULL; "" if nothing failed yet. The system's own words
 * in it are those of strerror(3). It changes with the next failure in this thread.
 */
const char *palloc_error(void);

#ifdef __cplusplus
}
#endif

#endif
