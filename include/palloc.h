/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `make headers` from src/ffi/palloc.rs and headers/palloc.*; changes belong there. */
#ifndef LIBPALLOC_PALLOC_H
#define LIBPALLOC_PALLOC_H

/*
 * palloc.h: blobs of bytes, allocated and freed inside a file that outlives the process.
 *
 * palloc and pfree do with a file what malloc and free do with memory. The blobs outlive the
 * process: when the file is opened again, by this program or another, they are where they were. Link
 * with -lpalloc.
 *
 * Terms
 *
 *   medium   The file or block device that holds the blobs. A dynamic medium grows and shrinks with
 *            them, a static one keeps its size.
 *   blob     The bytes that one call of palloc allocates. The offset of its first byte in the medium
 *            is its name. The offset does not change while the blob exists, so blobs can refer to
 *            each other by offsets. No blob has the offset 0.
 *   block    A part of the medium that holds one blob or is free. Blocks leave no gaps.
 *   marker   8 bytes at each end of a block, with its size and whether it is free. They are directly
 *            before and after a blob's bytes: a program that writes outside of its blobs overwrites
 *            them.
 *   chain    The blocks as the start markers lead from one to the next.
 *
 * This program adds one line with each run, and prints all of them.
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
 * A program reads and writes a blob through the address that palloc_data returns, or with pread(2)
 * and pwrite(2) on the medium's descriptor at the blob's offset. Both show the same bytes.
 *
 * To find its blobs again, a program makes a root first, by palloc_root: it is the first blob of
 * the medium as long as it is neither freed nor moved by prealloc. (Blobs of a transaction are not:
 * others may come to lie before them.) The root holds the offsets of other blobs, and these of more.
 * Addresses are valid in one run only. The program decides the meaning of the bytes and their byte
 * order.
 *
 * Errors
 *
 *   A function that fails returns NULL, 0 or -1, as its manual says, sets errno, and leaves a line
 *   of text for palloc_error(). "Fails iff" lists all the cases. A call that succeeds does not
 *   change errno. The library never prints and never ends the program, even if memory runs out.
 *   Print palloc_error(), not perror(3): errno alone does not name the place, and the system's text
 *   for a damaged medium (EILSEQ) is about multibyte characters.
 *
 * Threads
 *
 *   Any number of threads may use one medium at a time. palloc_close must be the last use. Calls on
 *   different media do not wait for each other. Each thread has its own errno and palloc_error().
 *   While palloc_sync, or with PALLOC_SYNC palloc_commit, waits for the disk, other threads go on:
 *   they read, add to transactions, and without PALLOC_SYNC allocate and free. Calls that need the
 *   disk themselves wait (with PALLOC_SYNC what changes the medium; growth of the file), and go on
 *   in the order in which they came. Threads that commit at once share their syncs. (On Windows all
 *   calls wait.)
 *   The program itself must protect the bytes of a blob, and must not free or move a blob that
 *   another thread uses, or names in a call. No thread may be cancelled within a call.
 *   Threads that allocate and free blobs of up to 512 bytes at the same time each keep some of the
 *   freed space for themselves, in at most 16 threads: up to 64 free blocks of a size, of a small
 *   medium no more than a quarter, but always 8 of a size. So most of their calls of palloc and
 *   pfree do not wait for others. palloc_walk shows these blocks as free. The file may grow while
 *   threads have them. They are free for all before a call fails for want of space, when a function
 *   takes the lock that does more than answer for one blob (palloc_sync, palloc_close, palloc_stat,
 *   prealloc, ...), and after a million calls. Only `first_free` does not count them. With
 *   PALLOC_SYNC or PALLOC_SHARED each call of palloc and pfree takes the lock.
 *   palloc_at takes no lock. palloc_data, palloc_size and palloc_next take none as a rule, so threads
 *   that read do not wait for those that allocate, nor for the disk.
 *   After fork(2), one of the two processes may call functions on the medium. The other may only
 *   read and write the bytes of blobs; it must not even call palloc_close. If another thread was in
 *   a call at the fork, the process that continues must be the parent. A child may always use media
 *   that it opens itself.
 *   No function may be called in a signal handler. Nor may exit(3), if a function registered by
 *   atexit(3) closes a medium: it would wait forever for the call that the signal interrupted. Set
 *   a flag, or call _exit(2): a kill loses nothing.
 *   A thread with 16 KiB of stack can call every function (24 KiB on s390x).
 *
 * Crashes
 *
 *   A process may be killed (kill -9) at any moment. The next palloc_init then finds every blob
 *   whose palloc had returned and whose pfree had not been called, with its bytes as the program
 *   had written them (palloc_tx_store has an exception). The operation in flight is done or undone,
 *   and no space is lost. (A child that the process forked while the medium was open keeps it
 *   locked: until that ends or calls exec(3), palloc_init fails with EWOULDBLOCK.)
 *   For the same after a power cut, use PALLOC_SYNC: each operation is on the disk when it returns.
 *   Without it, palloc_sync brings everything done before to the disk. After a power cut between
 *   two syncs, palloc_init recovers the medium or refuses it (EILSEQ). If it recovers the medium,
 *   every blob is there that was synced, and not freed or moved since. A blob that prealloc moved
 *   may be at neither place. A new medium is on the disk, empty, when palloc_init returns.
 *   After a sync has failed, the contents of the disk are unknown: the system may have dropped data
 *   that it could not write. From then on every call that changes the medium or makes it durable
 *   fails with EIO, "a sync failed before: ...", until the medium is closed and opened again.
 *   Reading still works. With PALLOC_SYNC, the operation whose sync failed is undone in this
 *   process, and may be done on the disk.
 *
 * Transactions
 *
 *   palloc_begin, then palloc_tx_alloc, palloc_tx_free and palloc_tx_store, then palloc_commit:
 *   several blobs are made and filled, freed and changed, in one step. A kill leaves all of it or
 *   nothing, and no blob that the program has not linked in yet. So does a power cut, with
 *   PALLOC_SYNC or after palloc_sync. The guide (docs/GUIDE.md) has a program.
 *   The file is exactly in the documented format after palloc_close, and after palloc_sync while no
 *   transaction is open. A medium of a process that was killed in a transaction has to be opened
 *   once by this library, on any machine, before other programs use it.
 *
 * Live readers
 *
 *   With PALLOC_SHARED other processes may read the medium while this one writes it: they open it with
 *   PALLOC_SHARED | PALLOC_READONLY. No server and no copy is needed, and no lock outlives its process.
 *   A reader reads in sections: palloc_read_begin, then palloc_data, palloc_at, palloc_size, and
 *   palloc_first or palloc_root, then palloc_read_end. What the writer frees, or moves by prealloc, from
 *   the beginning of a section on keeps its bytes until the section ends. Other functions fail: EROFS if
 *   they change the medium, ENOTSUP if they walk it.
 *   The writer publishes by one store of an offset to 8 bytes at a multiple of 8: by palloc_tx_store in a
 *   transaction, or by an atomic store with release order. Readers load it with acquire order. They see
 *   the old blob or the new one, and all that the writer stored to it before. A blob that readers can
 *   reach is not changed in place: allocate another one, fill it, publish it, then free the old one.
 *   Unlink first, then free: a blob that is still linked must be neither freed nor moved.
 *   A section may be as long as it likes, and holds back the space of what is freed meanwhile:
 *   palloc_get_readers names its process. prealloc to a smaller size gives nothing back, and while a
 *   reader is open the file is not cut, even by palloc_sync: it may end in a free block that `size` does
 *   not count. If a section is open at palloc_close, the free blocks that it may read are not linked
 *   before a writer's next palloc_sync or palloc_close.
 *   If the writer closes or dies, sections that are open go on; the next palloc_read_begin fails with
 *   ESTALE. A new writer is refused (EWOULDBLOCK) while such a section is open. Without a writer
 *   open with PALLOC_READONLY alone, which keeps writers out. A reader that dies holds nothing back.
 *   Beside the medium there is a file with .live at the end of its name, while it is open and after a
 *   kill. It is made by the writer, which must be able to create files in the directory. Everybody who
 *   may read the medium may write to it: trust them. Who cuts it or the medium while others have it
 *   mapped ends them by a SIGBUS. If it is removed or replaced, new readers are ESTALE, and the next
 *   writer does not wait for sections. Containers that share the directory share the medium; numbers of
 *   processes are those that each process sees of itself.
 *   A medium that is opened by another hard link, or without its directory, has no readers.
 *   A reader may see what is not on the disk yet: use PALLOC_SYNC with transactions if that matters.
 *   Linux and Windows, on file systems of this machine; elsewhere ENOTSUP. On media of the original,
 *   blobs whose offset is no multiple of 8 can't be read.
 *
 * Backups
 *
 *   palloc_snapshot copies a medium in use; so does palloc(1), of a medium that another process has
 *   open too. cp reads a file piece by piece: its copy of a medium in use may be refused, or may open
 *   with blobs that never existed at the same time. Use cp while the medium is closed, or open with
 *   PALLOC_READONLY, which keeps writers out and lets cp read. A medium that is damaged (EILSEQ) is
 *   not lost: palloc_salvage makes a sound copy of it.
 *
 * Windows
 *
 *   Paths are UTF-8. `descriptor` belongs to the C runtime that the library is linked with, which
 *   must be the program's; it is in binary mode. LockFileEx, file mappings and FlushFileBuffers
 *   replace the system calls that are named here, and errno has the number that fits their error.
 *   A mapped file can't be cut, and can't be mapped beyond its end. So palloc_data may return
 *   another address after the medium has grown; both are valid until palloc_close. And once
 *   the program has an address, by palloc_data, palloc_at or palloc_tx_alloc, the file is not cut
 *   before palloc_close: even after palloc_sync it may end in a free block that `size` does not
 *   count.
 *   FILE.live can't be removed while a live reader has it mapped. If the writer closes or dies then,
 *   it is renamed (.live.0 to .live.9), and removed by a later writer. Windows has no ESTALE: the
 *   error of a reader without a writer is PALLOC_E_NO_WRITER, EOWNERDEAD.
 *
 * Origin
 *
 *   PALLOC_DEFAULT, PALLOC_DYNAMIC, PALLOC_SYNC, PALLOC_EXTENDED, struct palloc_t, and the
 *   functions palloc_init, palloc_close, palloc, pfree, palloc_size, palloc_first and palloc_next
 *   are those that palloc.c documents, and the media are byte-compatible with it, both ways. The
 *   rest is an addition.
 *
 *   PostgreSQL has other functions with the same names. Code that runs inside its server links a
 *   build of this library whose names have a prefix (make PREFIX_SYMBOLS=my_).
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "palloc_version.h"

#ifdef LIBPALLOC_FINWO_PALLOC_H
#error "palloc.h and finwo/palloc.h can't be included in the same source file"
#endif

#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* two functions have the names of structs, as stat(2) has */
#endif

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
 * Every operation is on the disk when it returns. `descriptor` has O_DSYNC, so the program's writes
 * with it are on the disk when they return, too. Stores through the address that palloc_data
 * returned are on the disk after palloc_sync.
 */
#define PALLOC_SYNC 2

/*
 * Open with a shared lock. Nothing is written, not even a repair; palloc, pfree and prealloc fail
 * with EROFS.
 */
#define PALLOC_READONLY 4

/*
 * Make a medium of a file that holds something else, or of a damaged medium. A sound medium is
 * kept. A medium that is open elsewhere, or has PALLOC_EXTENDED, is still refused; on Linux a block
 * device too that is in use, such as by a mounted file system.
 */
#define PALLOC_FORCE 8

/*
 * Other processes may read the medium while this one writes it: see "Live readers" above. With
 * PALLOC_READONLY: be such a reader.
 */
#define PALLOC_SHARED 16

/* For palloc_salvage: a range that is lost becomes a free block, not a live one. */
#define PALLOC_SALVAGE_FREE 16

/* For palloc_snapshot: the copy shares its blocks on the disk with the medium. */
#define PALLOC_SNAPSHOT_CLONE 32

/* Reserved: its layout is not defined. A medium that has it is refused. */
#define PALLOC_EXTENDED (1u << 31)

/*
 * A transaction: made by palloc_begin, gone after palloc_commit or palloc_cancel. One thread at a
 * time uses it.
 */
struct palloc_tx;

/*
 * An open medium. A program may read the fields and must not write them; first_free and size may
 * change with each call. palloc_init makes the struct, which may be longer than shown here: use it
 * by pointer only.
 */
struct palloc_t {
    /*
     * The absolute path, without symbolic links, `.` and `..`. If the system can't find it, the
     * path that was given to palloc_init.
     */
    char *filename;
    /*
     * A descriptor of the file, larger than 2, for reading and writing blobs with pread(2),
     * pwrite(2), or lseek(2) with read(2) and write(2). The library uses another one, so a program
     * may close this one.
     */
    int descriptor;
    /* PALLOC_DYNAMIC if the medium grows; PALLOC_SYNC if every operation is durable. */
    uint32_t flags;
    /* Where the first block begins: 8. */
    uint32_t header_size;
    /*
     * Start of a free block, 0 if no block is free but those that threads keep. After palloc_init
     * and palloc_sync it is the lowest one.
     */
    uint64_t first_free;
    /* End of the last block. A dynamic medium's file may be longer while it is open. */
    uint64_t size;
    /* For palloc_at only: where the medium is mapped. */
    char *at_base;
    /* For palloc_at only: how many bytes it may find there. */
    size_t at_size;
};

/*
 * Counts of a medium. Bytes are those of blocks' data, without the 16 bytes of markers of each
 * block.
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
     * The size of the largest of them: the largest blob that a static medium can allocate. A
     * dynamic one grows.
     */
    uint64_t largest_free;
};

/*
 * Called for each block: `ptr` is the offset of its data, `size` the size of its data, `is_free` 1
 * or 0. A result other than 0 ends the walk. The function must return: no longjmp, no exception.
 */
typedef int (*palloc_walk_fn)(void *user, uint64_t ptr, uint64_t size, int is_free);

/*
 * Given to a palloc_trace_fn, which calls it with its `mark` and an offset that the blob holds. 0
 * is ignored.
 */
typedef void (*palloc_visit_fn)(void *mark, uint64_t ptr);

/*
 * Calls `visit(mark, p)` for each offset `p` that the blob at `ptr` holds. `data` are its `size`
 * bytes. A result other than 0 ends the call of palloc_unreachable. The function must return: no
 * longjmp, no exception.
 */
typedef int (*palloc_trace_fn)(void *user, uint64_t ptr, const void *data, uint64_t size, palloc_visit_fn visit, void *mark);

/*
 * Called for each violation of the format: `offset` is that of the block, `what` describes the
 * violation and is valid during the call. The function must return: no longjmp, no exception.
 */
typedef void (*palloc_report_fn)(void *user, uint64_t offset, const char *what);

/* The live readers of a medium. */
struct palloc_readers {
    /* How many readers are open. */
    uint32_t open;
    /* How many of them are in a read section. */
    uint32_t reading;
    /*
     * The process id of the reader whose section is the oldest, 0 if none is in a section. It is
     * the id that the process itself sees: in another container it means another process.
     */
    int64_t oldest_pid;
    /*
     * Bytes of blobs that were freed or moved, and are not reused yet because a reader may be
     * reading them.
     */
    uint64_t held_bytes;
    /* The process id of the writer, as it sees itself. */
    int64_t writer_pid;
};

/* The findings of palloc_salvage. */
struct palloc_salvage {
    /* The blobs in the copy, without those in the place of lost ranges. */
    uint64_t blobs;
    /* Blocks one of whose markers was damaged, and is mended. */
    uint64_t healed;
    /* Ranges that are lost: of their blocks nothing is known, or their bytes could not be read. */
    uint64_t lost_ranges;
    /* Bytes of these ranges. */
    uint64_t lost_bytes;
};

/*
 * Opens the medium in `filename`, and makes one first if the file holds none:
 *
 *   the file          PALLOC_DYNAMIC                                                        otherwise
 *   ----------------  --------------------------------------------------------------------  -------------
 *   does not exist    created, mode 0660 minus the umask                                    fails, ENOENT
 *   is empty          a medium of 8 bytes that grows                                        fails, EINVAL
 *   is all zeros      initialized, one free block                                           the same
 *   is a medium       opened; repaired if a process was killed while it changed the medium  the same
 *   is anything else  fails, EINVAL; initialized with PALLOC_FORCE                          the same
 *
 * A file of zeros must have 8 bytes, or at least 40. With PALLOC_DYNAMIC a shorter one is made
 * longer; without, it is refused (EINVAL). So `truncate -s 1M FILE` and palloc_init(FILE,
 * PALLOC_DEFAULT) make a static medium of 1 MiB.
 *
 * PALLOC_READONLY opens media only. The medium is locked (flock(2)) until palloc_close; with
 * PALLOC_READONLY the lock is shared. With PALLOC_SHARED too, the medium is that of a live reader,
 * which has no such lock, and is open for writing elsewhere.
 *
 * Returns the open medium, or NULL on failure. An empty file that the call created may then remain,
 * but not after EMFILE. Fails iff:
 * - EINVAL: one of the cases above; `filename` is NULL; `flags` are unknown or contradict each
 *   other; neither a file nor a block device.
 * - ENOENT: the file does not exist, and PALLOC_DYNAMIC is not given.
 * - EWOULDBLOCK: the medium is open already, in this process or another, unless both are
 *   PALLOC_READONLY. A child that was forked meanwhile has it open too, until it ends or calls
 *   exec(3), unless palloc_close was called.
 * - EBUSY: PALLOC_FORCE, and a block device that is in use: by a mounted file system, or by another
 *   PALLOC_FORCE (Linux).
 * - EILSEQ: the chain of blocks is damaged (palloc_error() names the offset); nothing was written.
 * - EROFS: PALLOC_READONLY, and a process was killed in palloc_commit: open the medium once for
 *   writing. EROFS too: the file system or the block device is read-only, without PALLOC_READONLY.
 * - ENOTSUP: the medium or `flags` have PALLOC_EXTENDED set; or PALLOC_SHARED, and the system or
 *   the file system can't do it.
 * - ESTALE: PALLOC_SHARED and PALLOC_READONLY, and no process has the medium open for writing with
 *   PALLOC_SHARED. (Windows has no such number: EOWNERDEAD there. PALLOC_E_NO_WRITER is the right
 *   one.)
 * - EAGAIN (the same number as EWOULDBLOCK): the same flags, and 254 readers are open.
 * - EWOULDBLOCK too: PALLOC_SHARED, and a reader is in a section that began with the last writer;
 *   or `filename.live` belongs to the writer of another medium, which had this name.
 * - EEXIST: PALLOC_SHARED, and there is a file `filename.live` that is something else. EACCES: that
 *   file can't be made or opened.
 * - ENOMEM: memory or address space ran out; the file is 2^47 bytes or longer and does not fit into
 *   the address space (PALLOC_FORCE with PALLOC_DYNAMIC makes an empty medium of it). ENOSPC: the
 *   disk is full.
 * - EMFILE: the process has not enough descriptors. The call needs two, and three for a moment to
 *   create a file; one more with PALLOC_SHARED.
 * - ENODEV: the file system has no shared mappings.
 * - any other error of open(2), mmap(2) and the like.
 */
struct palloc_t *palloc_init(const char *filename, uint32_t flags);

/*
 * Closes the medium. The file is then exactly in the documented format, without space reserved
 * ahead. If `pt` is NULL, nothing happens. No other thread may be using the medium, and addresses
 * from palloc_data are not valid any more. The call walks all free blocks.
 *
 * Returns nothing. If something could not be written, errno and palloc_error() report it, and the
 * next palloc_init repairs it. The medium is closed in any case.
 *
 * As with palloc_sync, the start markers of blobs are not read.
 */
void palloc_close(struct palloc_t *pt);

/*
 * Allocates a blob of at least `size` bytes and returns the offset of its first byte. The offset is
 * a multiple of 16 on media that this library made. The contents of the bytes are undefined. A size
 * of 0 gives a blob of 16 bytes.
 *
 * Returns 0 on failure, and the medium is as it was. Fails iff:
 * - ENOSPC: no free block is large enough and the medium is static, or the disk is full.
 * - ENOMEM: no medium can hold `size` bytes, or memory or address space ran out.
 * - EROFS: opened with PALLOC_READONLY. EINVAL: `pt` is NULL.
 * - EFBIG: the file would exceed what the file system or RLIMIT_FSIZE allows.
 * - EILSEQ: a marker was overwritten since the medium was opened (palloc_error() names the offset).
 * - EIO, EDQUOT, ...: an error of ftruncate(2), fallocate(2) or fdatasync(2). EIO also if a sync
 *   failed before.
 */
uint64_t palloc(struct palloc_t *pt, size_t size);

/*
 * Allocates a blob of at least `count` times `size` bytes, all of which are zeros, and returns its
 * offset. A kill during the call leaves a blob of zeros or no blob, and so does a power cut, with
 * PALLOC_SYNC. If the product is 0, the blob has 16 bytes.
 *
 * Returns 0 on failure, and the medium is as it was. Fails iff:
 * - ENOMEM: the product is larger than any medium, or memory or address space ran out.
 * - ENOSPC, EROFS, EINVAL, EFBIG, EILSEQ, EIO, ...: as with palloc.
 */
uint64_t pcalloc(struct palloc_t *pt, size_t count, size_t size);

/*
 * As palloc, and the offset of the blob is a multiple of `alignment`, a power of two up to 2^30. Up
 * to the page size, so is its address. The space before the blob stays free, less than `alignment`
 * + 32 bytes of it. On a dynamic medium that may be a part of the file that holds nothing else.
 * prealloc that moves the blob keeps an alignment of 16 only: to resize it, use palloc_aligned, a
 * copy and pfree.
 *
 * Returns 0 on failure, and the medium is as it was. Fails iff:
 * - EINVAL: `alignment` is no power of two, or more than 2^30; `pt` is NULL.
 * - ENOSPC, ENOMEM, EROFS, EFBIG, EILSEQ, EIO, ...: as with palloc.
 */
uint64_t palloc_aligned(struct palloc_t *pt, size_t alignment, size_t size);

/*
 * Returns the offset of the root: the first blob of the medium, in which a program keeps the
 * offsets of its other blobs. If there is no blob, allocates one of at least `size` zeros, as
 * pcalloc does. Its offset is 16, so no other blob is ever before it. It stays the root until it is
 * freed or moved by prealloc.
 *
 * Returns 0 on failure, and the medium is as it was. Fails iff:
 * - EINVAL: the first blob has fewer than `size` bytes; or there is no blob, and a transaction is
 *   open; or `pt` is NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 * - ENOSPC, ENOMEM, EROFS, EFBIG, EIO, ...: as with palloc, if there is no blob.
 */
uint64_t palloc_root(struct palloc_t *pt, size_t size);

/*
 * Frees the blob at `ptr`. If it is the last of a dynamic medium, `size` shrinks at once; the file
 * is cut by palloc_sync and palloc_close, and when much space is free at its end. With
 * PALLOC_SHARED its space is free when no read section needs it any more, and `size` may shrink
 * only then.
 *
 * Returns nothing: to see a failure, set errno to 0 before the call. Fails, and changes nothing,
 * iff:
 * - EINVAL: no allocated blob starts at `ptr` (0, a stray offset, inside a blob, freed already), or
 *   `pt` is NULL.
 * - EROFS: opened with PALLOC_READONLY.
 * - EILSEQ: a marker was overwritten since the medium was opened. The end marker of a blob of up to
 *   512 bytes is not read.
 * - EIO, ...: with PALLOC_SYNC, an error of fdatasync(2). EIO also if a sync failed before.
 */
void pfree(struct palloc_t *pt, uint64_t ptr);

/*
 * Returns the size of the block's data at `ptr`: the size that was asked for, or more. The block
 * may be free.
 *
 * Returns 0 on failure. Fails iff:
 * - EINVAL: no block's data starts at `ptr`, or `pt` is NULL.
 * - EILSEQ: the marker was overwritten since the medium was opened.
 */
uint64_t palloc_size(struct palloc_t *pt, uint64_t ptr);

/*
 * Returns the allocated blob with the lowest offset, 0 if there is no blob.
 *
 * Returns 0 on failure too: to see a failure, set errno to 0 before the call. Fails iff:
 * - EINVAL: `pt` is NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 */
uint64_t palloc_first(struct palloc_t *pt);

/*
 * Returns the allocated blob with the lowest offset above `ptr`, 0 if there is no such blob. `ptr`
 * may be any number: 0 gives the first blob, and the offset of a freed blob gives the blob behind
 * it. So a program may free blobs while it iterates.
 *
 * Returns 0 on failure too: to see a failure, set errno to 0 before the call. Fails iff:
 * - EINVAL: `pt` is NULL.
 * - EILSEQ: a marker that the call read was overwritten since the medium was opened. It does not
 *   read all markers on its way.
 */
uint64_t palloc_next(struct palloc_t *pt, uint64_t ptr);

/*
 * Resizes the blob at `ptr` and returns its offset. The blob stays in place if there is space for
 * it, else it moves; the old offset and address are then invalid. The first bytes, up to the
 * smaller of both sizes, are kept. A kill during the call leaves either the old blob, with every
 * byte, or the new one; never both, and always one of them. With `ptr` 0 the call is palloc(pt,
 * size). A size of 0 shrinks to 16 bytes. A shorter blob frees the space behind it if that is more
 * than 32 bytes; otherwise the blob keeps it. With PALLOC_SHARED it keeps it always.
 *
 * Returns 0 on failure, and the blob at `ptr` is as it was. Fails iff:
 * - EINVAL: `ptr` is not 0 and no allocated blob starts there, or `pt` is NULL.
 * - ENOSPC, ENOMEM, EFBIG, EIO, ...: as with palloc.
 * - EROFS: opened with PALLOC_READONLY.
 * - EILSEQ: a marker was overwritten since the medium was opened. The end marker of a blob of up to
 *   512 bytes is not read.
 */
uint64_t prealloc(struct palloc_t *pt, uint64_t ptr, size_t size);

/*
 * Returns the address of the blob's bytes, palloc_size of them. The program may read them and,
 * except with PALLOC_READONLY, write them. The address is valid until palloc_close, also when the
 * medium grows, unless the blob is freed or moved. It shows the same bytes as pread(2) and
 * pwrite(2) on `descriptor`. A store there is safe from a kill at once, and from a power cut after
 * the next palloc_sync, also with PALLOC_SYNC.
 *
 * The address is 16-byte aligned on media that this library made. On media of the original it can
 * be odd: use memcpy there.
 *
 * Returns NULL on failure. Fails iff:
 * - EINVAL: no allocated blob starts at `ptr`, or `pt` is NULL.
 * - ENOSPC, EDQUOT, EIO: the file is sparse at the blob, and the disk is full or fails.
 * - EILSEQ: the start marker of the blob was overwritten since the medium was opened. The end
 *   marker is not read.
 */
void *palloc_data(struct palloc_t *pt, uint64_t ptr);

/*
 * Called by palloc_at if it can't answer itself. Call palloc_at instead.
 *
 * Returns NULL on failure. Fails iff:
 * - EINVAL: the medium ends at or before `offset`, or `pt` is NULL.
 * - ENOSPC, EDQUOT, EFBIG: the byte is in a hole of the file, and the disk is full.
 */
void *palloc_at_locked(const struct palloc_t *pt, uint64_t offset);

/*
 * Returns the offset of the byte at `address`: the reverse of palloc_data, for an address that it
 * returned, and for those of the other bytes of the blob. Addresses from before the medium grew are
 * good too.
 *
 * Returns 0 on failure. Fails iff:
 * - EINVAL: the address is not in a block of the medium, or `pt` is NULL.
 */
uint64_t palloc_offset(struct palloc_t *pt, const void *address);

/*
 * Brings `len` bytes at `offset`, all of one blob, to the disk: they are there when the call
 * returns. Only the pages that hold them are written (on Windows, all that changed). Without
 * PALLOC_SYNC, the blob itself is safe from a power cut after the next palloc_sync, as always. With
 * PALLOC_READONLY, and if `len` is 0, the call only checks its arguments.
 *
 * Returns 0, or -1 on failure. Fails iff:
 * - EINVAL: the bytes are not all in one allocated blob, or `pt` is NULL.
 * - EILSEQ: the marker of the blob was overwritten since the medium was opened.
 * - EIO, ENOSPC, ...: an error of msync(2). As after a failed palloc_sync, the medium is not
 *   changed any more. EIO also if a sync failed before.
 */
int palloc_flush(struct palloc_t *pt, uint64_t offset, size_t len);

/*
 * Makes everything done so far durable, with the bytes of blobs. The file is then exactly in the
 * documented format: it ends with the last block, and free blocks are linked in order. The call
 * walks all free blocks. With PALLOC_READONLY it does nothing and succeeds.
 *
 * The call does not read the start markers of blobs. If the program has overwritten one, the call
 * succeeds all the same, and the next palloc_init may fail with EILSEQ. palloc_stat reads all of
 * them.
 *
 * Returns 0, or -1 on failure. Fails iff:
 * - EINVAL: `pt` is NULL.
 * - EIO, ENOSPC, ...: an error of fdatasync(2) or ftruncate(2). EIO also if a sync failed before.
 */
int palloc_sync(struct palloc_t *pt);

/*
 * Gives the disk's space under free blocks back to the file system, where there are at least
 * `min_bytes` of it in one piece; 0 stands for 1 MiB. The file keeps its length and gets holes. A
 * blob that is made there later gets its space before its palloc returns. Calls palloc_sync first,
 * and then writes to the disk once more, with the medium locked: that the blocks are free is on the
 * disk before their space is given back.
 *
 * The library never does this by itself: a file of many small holes is slow to read, to copy and to
 * remove, and each page of a hole costs a system call when it is used again. Trim when much is free
 * that will not be needed soon.
 *
 * Returns by how many bytes the file takes less space on the disk; -1 on failure. Blobs are the
 * same in both cases. Fails iff:
 * - EOPNOTSUPP: there is such space, and the file system or the operating system can't give it
 *   back; or it is a block device.
 * - EROFS: opened with PALLOC_READONLY. EINVAL: `pt` is NULL.
 * - EILSEQ: a marker of a free block was overwritten since the medium was opened.
 * - EIO, ENOSPC, ...: as with palloc_sync, or an error of fallocate(2).
 */
int64_t palloc_trim(struct palloc_t *pt, uint64_t min_bytes);

/*
 * Counts blocks and bytes into `out`. The call walks all blocks.
 *
 * Returns 0, or -1 on failure, and then `out` is unchanged. Fails iff:
 * - EINVAL: `pt` or `out` is NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 * - ENOTSUP: the medium is that of a live reader.
 */
int palloc_stat(struct palloc_t *pt, struct palloc_stat *out);

/*
 * Calls `fn` for every block, allocated or free, by ascending offset. The medium is not locked
 * during the call of `fn`, which may call every function on it except palloc_close. Blocks that
 * exist during the whole walk are visited once.
 *
 * Returns the last result of `fn`; 0 at the end of the medium. Returns -1 on failure too: to see a
 * failure, set errno to 0 before the call. Fails iff:
 * - EINVAL: `pt` or `fn` is NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 * - ENOTSUP: the medium is that of a live reader.
 */
int palloc_walk(struct palloc_t *pt, palloc_walk_fn fn, void *user);

/*
 * Follows references from the `count` offsets in `roots`: calls `trace` for each blob that they
 * lead to, which calls `visit` for each offset in it. Then calls `fn` for every blob that is not
 * reached, by ascending offset, with `is_free` 0. `fn` may pfree it, and others of them. So a
 * program whose process was killed between palloc and the store of the offset finds the blob that
 * nothing leads to. (With palloc_begin there is none.) An offset that is not the first byte of a
 * blob goes to `report`, if not NULL; one inside of a blob keeps the blob, all the same.
 *
 * Nothing is written. The call needs 1/256 of the medium's size as memory, and 8 bytes for each
 * blob at most. The medium is not locked during the calls of the functions.
 *
 * Returns the first result of `trace` or `fn` that is not 0, and ends there; else 0. Blobs may not
 * be reached if `trace` ended it, so `fn` is not called then. Returns -1 on failure too: to see a
 * failure, set errno to 0 before the call. Fails iff:
 * - EINVAL: `pt`, `trace` or `fn` is NULL, or `roots` is and `count` is not 0.
 * - ENOMEM: memory ran out; `fn` was not called.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 * - ENOSPC, ...: as with palloc_data.
 *
 * Precondition: during the call no other thread changes the medium or stores offsets, `trace`
 * changes nothing, and `fn` frees no blob that is reached. It is called neither for blobs that it
 * has freed, nor for those that it makes (unless it has freed others than its own).
 */
int palloc_unreachable(struct palloc_t *pt, const uint64_t *roots, size_t count, palloc_trace_fn trace, palloc_walk_fn fn, palloc_report_fn report, void *user);

/*
 * Begins a read section: every blob that the writer frees or moves from here on keeps its bytes
 * until palloc_read_end. For a medium that was opened with PALLOC_SHARED and PALLOC_READONLY. Keep
 * sections short: they hold back the space of what is freed meanwhile. The process may have several
 * open on one `pt`, in one thread or in several; they end with the last palloc_read_end, and hold
 * back what was freed since the first began. Threads that read all the time therefore open a `pt`
 * each.
 *
 * Outside of sections palloc_data, palloc_size, palloc_first and palloc_root fail, and offsets and
 * addresses of the last section are not valid any more.
 *
 * Returns 0, or -1 on failure. Fails iff:
 * - ESTALE: the writer has closed the medium, or its process has ended (it may take 100 ms until
 *   this is noticed): close, and open anew.
 * - EAGAIN: 65535 sections of this process are open on `pt`.
 * - EINVAL: `pt` is NULL, or was not opened with both flags.
 */
int palloc_read_begin(struct palloc_t *pt);

/*
 * Ends a read section. Does nothing if `pt` is NULL or was not opened with PALLOC_SHARED and
 * PALLOC_READONLY.
 *
 * Precondition: palloc_read_begin returned 0 before, once for each call of this.
 */
void palloc_read_end(struct palloc_t *pt);

/*
 * Counts the live readers of the medium into `out`, for its writer or for one of its readers, which
 * counts itself.
 *
 * Returns 0, or -1 on failure, and then `out` is unchanged. Fails iff:
 * - EINVAL: `pt` or `out` is NULL, or the medium was not opened with PALLOC_SHARED.
 * - any error of fcntl(2) (LockFileEx).
 */
int palloc_get_readers(struct palloc_t *pt, struct palloc_readers *out);

/*
 * Begins a transaction: blobs are allocated, filled, changed and freed in one step. After a kill
 * the next palloc_init finds all of it done or nothing, and so it does after a power cut, with
 * PALLOC_SYNC from the moment on that palloc_commit returns, else from the next palloc_sync on.
 * Blobs of a transaction that is not committed do not exist: palloc_first, palloc_next, palloc_stat
 * and palloc_walk do not show them, and a kill leaves nothing of them.
 *
 * A transaction sees nothing of others, and others see nothing of it, before its palloc_commit. It
 * locks nothing: of two that store to the same bytes, the later commit wins; of two that free the
 * same blob, the later one fails.
 *
 * Returns the transaction, NULL on failure. Fails iff:
 * - EMFILE: 64 transactions are open on this medium.
 * - ENOSPC, ENOMEM, EFBIG, EIO, ...: as with palloc. A transaction needs a log of 2 KiB on the
 *   medium, with PALLOC_SYNC two, which all transactions share; palloc_sync gives them back when
 *   none is open, and palloc_close does.
 * - EROFS: opened with PALLOC_READONLY. EINVAL: `pt` is NULL.
 */
struct palloc_tx *palloc_begin(struct palloc_t *pt);

/*
 * Allocates a blob of at least `size` bytes which is one once the transaction is committed, and
 * returns the offset of its first byte. The contents of the bytes are undefined. Fill them through
 * palloc_tx_data, or with pwrite(2).
 *
 * Returns 0 on failure, and the transaction is as it was. Fails iff:
 * - ENOSPC, ENOMEM, EFBIG, EILSEQ, EIO, ...: as with palloc. After a sync that failed it may return
 *   a blob still: palloc_commit fails with EIO then. ENOSPC too: the record of the transaction
 *   would be longer than 16 MiB.
 * - EINVAL: `tx` is NULL.
 */
uint64_t palloc_tx_alloc(struct palloc_tx *tx, size_t size);

/*
 * The address of the bytes of a blob of this transaction, to fill them. It is that of palloc_data
 * once the transaction is committed.
 *
 * Returns NULL on failure. Fails iff:
 * - EINVAL: no blob of this transaction starts at `ptr`, or `tx` is NULL.
 */
void *palloc_tx_data(struct palloc_tx *tx, uint64_t ptr);

/*
 * The blob at `ptr` is freed by palloc_commit, and stays until then. (A blob of the same
 * transaction can't be: cancel it.)
 *
 * Returns 0, or -1 on failure, and the transaction is as it was. Fails iff:
 * - EINVAL: no allocated blob starts at `ptr`, the transaction frees it already, or `tx` is NULL.
 * - ENOSPC: the record of the transaction would be longer than 16 MiB, or there is no room for it
 *   on the medium.
 * - ENOMEM, EFBIG, EILSEQ, EIO, ...: as with palloc. After a sync that failed it may return 0
 *   still: palloc_commit fails with EIO then.
 */
int palloc_tx_free(struct palloc_tx *tx, uint64_t ptr);

/*
 * The `len` bytes at the offset `at`, which are all in one blob, become `bytes` by palloc_commit,
 * and stay as they are until then. 8 bytes whose offset is a multiple of 8 change by one store: a
 * thread that reads them sees the old ones or the new ones. In a blob of the same transaction they
 * change at once.
 *
 * Bytes that were changed in this way are changed by transactions only, until the next palloc_sync
 * (which palloc_close does too, with PALLOC_SYNC): a kill or a power cut may bring back the stores
 * of the last transaction. palloc_flush does not prevent it.
 *
 * Returns 0, or -1 on failure, and the transaction is as it was. Fails iff:
 * - EINVAL: the bytes are not all in one allocated blob, or the transaction frees that blob;
 *   `bytes` or `tx` is NULL.
 * - ENOSPC: the record of the transaction would be longer than 16 MiB, or there is no room for it
 *   on the medium. (It takes 16 bytes for each store, and its bytes rounded up to 16.)
 * - ENOMEM, EFBIG, EILSEQ, EIO, ...: as with palloc; after a sync that failed as with
 *   palloc_tx_free.
 */
int palloc_tx_store(struct palloc_tx *tx, uint64_t at, const void *bytes, size_t len);

/*
 * Does all that the transaction says, in one step. It needs no space and no memory. With
 * PALLOC_SYNC it is on the disk, with the bytes of the new blobs, when this returns: that takes two
 * barriers (fdatasync(2)), however many blobs there are. Transactions of threads that commit at
 * once share them, as far as one record holds their changes.
 *
 * Returns 0, and `tx` is gone; or -1 on failure: nothing was done, and the transaction goes on, to
 * be committed again or cancelled. Fails iff:
 * - EINVAL: a blob that it frees or stores to was freed since, or is too small now; or `tx` is
 *   NULL.
 * - EILSEQ: a marker was overwritten since the medium was opened.
 * - EIO, ...: with PALLOC_SYNC, an error of fdatasync(2). Then the next palloc_init finds it done
 *   or undone; of those that shared the barrier, all or none. EIO also if a sync failed before.
 */
int palloc_commit(struct palloc_tx *tx);

/*
 * Ends the transaction: none of it is done. NULL is accepted. palloc_close cancels those that are
 * open.
 */
void palloc_cancel(struct palloc_tx *tx);

/*
 * Reads the medium in `filename`, without opening it or writing to it, and calls `report`, if not
 * NULL, for every violation of the format: wrong or missing markers, gaps, adjacent free blocks,
 * links that do not form the sorted list. The file has a shared lock during the call.
 *
 * Returns the number of violations, 0 for a sound medium; -1 on failure. Fails iff:
 * - EINVAL: `filename` is NULL, or names neither a file nor a block device.
 * - EWOULDBLOCK: the medium is open for writing.
 * - ENOENT, EACCES, EIO, ENOMEM, ...: an error of open(2), mmap(2) and the like.
 */
int64_t palloc_check(const char *filename, palloc_report_fn report, void *user);

/*
 * Reads the damaged medium in `filename`, and writes a sound one to the new file `copy`: every
 * block that is known is where it was, with its bytes. If the medium was closed, one damaged marker
 * loses no blob, because each size stands in the block's other marker too. If its process was
 * killed, a marker may have been wrong before: then the blob of the damaged one and those beside it
 * can be lost, and, if it is in the record of a transaction, what that transaction did. Of several
 * damaged ranges, each loses only the blobs that it touches, but a blob alone between two of them
 * can be lost too. A range of which nothing is known is one blob, so that no later blob overwrites
 * it; with PALLOC_SALVAGE_FREE it is a free block. `report`, if not NULL, is called for each block
 * that was mended and each range that is lost. `out`, if not NULL, gets the counts. `filename` is
 * not written to; it has a shared lock during the call. `copy` gets its name when it is whole and
 * on the disk. A kill may leave a file `copy.PROCESS.NUMBER.tmp`; of a `copy` of more than 100
 * bytes the end is cut off there.
 *
 * The call finishes operations that a kill cut off, as palloc_init does, but keeps a block of which
 * the markers disagree on whether it is free. So a blob that was freed just before a kill can be
 * there again. `flags` are 0, PALLOC_FORCE, PALLOC_SALVAGE_FREE or both.
 *
 * Returns 0, or -1 on failure, and then there is no new file. Fails iff:
 * - EINVAL: the file does not begin with the header of a medium (with PALLOC_FORCE the call goes on
 *   as if it did); it is neither a file nor a block device; `filename` or `copy` is NULL, or
 *   `flags` are others.
 * - ENOTSUP: the header has PALLOC_EXTENDED, and `flags` not PALLOC_FORCE.
 * - EEXIST: there is a file `copy`. EWOULDBLOCK: the medium is open for writing.
 * - ENOENT, EACCES, ENOSPC, EFBIG, ENOMEM, EIO, ...: an error of open(2), write(2) and the like.
 *   Bytes of `filename` that can't be read are zeros in the copy, and counted.
 */
int palloc_salvage(const char *filename, const char *copy, uint32_t flags, palloc_report_fn report, void *user, struct palloc_salvage *out);

/*
 * Writes a copy of the medium to the new file `filename`: the state between two calls of other
 * threads, exactly in the documented format, without changes of transactions that are not
 * committed. It is on the disk when the call returns, and has its name only when it is whole. A
 * kill may leave a file `filename.PROCESS.NUMBER.tmp`; of a name of more than 100 bytes the end is
 * cut off there. The copy has the medium's mode.
 *
 * With PALLOC_SNAPSHOT_CLONE the copy shares its blocks on the disk with the medium, where the file
 * system can do that (xfs, btrfs). The call writes to the disk what the program has changed since
 * the last sync, as palloc_sync does, and locks the medium while it goes through the free blocks
 * and shares the disk's: its time does not grow with the number or the bytes of blobs. The copy is
 * not read, so a marker that the program has overwritten is so in the copy: palloc_check finds it.
 * While a transaction is open, and if the medium was opened with PALLOC_SHARED, the copy is read
 * and repaired. With PALLOC_READONLY the medium is read, and if it was not closed the copy is
 * repaired. Stores of the program are in the copy up to one moment. From then on a store to a page
 * that is shared needs space on the disk: see docs/COMPAT.md.
 *
 * With `flags` 0 the bytes are copied, and the medium is locked meanwhile: readers of blobs don't
 * wait, allocation does. Bytes that the program stores during the call may be in the copy or not.
 *
 * Returns 0, or -1 on failure, and then there is no new file. Fails iff:
 * - EEXIST: there is a file `filename`. EOPNOTSUPP: PALLOC_SNAPSHOT_CLONE, and the file system
 *   can't.
 * - EINVAL: `pt` or `filename` is NULL, or `flags` are others. EIO: a sync failed, now or before,
 *   or bytes can't be read.
 * - EILSEQ: the copy is read, and a start marker in it was overwritten.
 * - ENOSPC, EACCES, ENOMEM, EMFILE, ...: an error of open(2), write(2) and the like.
 */
int palloc_snapshot(struct palloc_t *pt, const char *filename, uint32_t flags);

/*
 * Returns the text of the last error in this thread: one line that names the function, the file and
 * the offset or argument. Never NULL; "" if no call has failed yet. The next failure in this thread
 * changes it.
 *
 * The system's part of it is the text of strerror(3) in the language of the program's locale
 * (Windows: of FormatMessage). For the errors EPERM, ENOENT, ESRCH, EIO, EAGAIN, ENOMEM, EACCES,
 * EFAULT, EINVAL, ENFILE, EMFILE and ENOSYS it is always English, except with musl and on Windows:
 * vmem.h reports them too, strerror(3) may call malloc to translate, and malloc may be built on
 * vmem.h.
 */
const char *palloc_error(void);

#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/*
 * Names for the values of errno, for a switch over the reasons why a call failed. "Fails iff" of each
 * function has the values themselves. Other values are those of system calls: write a default.
 */
enum palloc_errno {
    PALLOC_E_INVALID = EINVAL,          /* an argument, or a file that is no medium */
    PALLOC_E_NO_FILE = ENOENT,          /* the file does not exist */
    PALLOC_E_LOCKED = EWOULDBLOCK,      /* the medium is open elsewhere */
    PALLOC_E_DAMAGED = EILSEQ,          /* a marker was overwritten: palloc_error() names the offset */
    PALLOC_E_FULL = ENOSPC,             /* the static medium or the disk is full */
    PALLOC_E_NO_MEMORY = ENOMEM,        /* memory, address space, or a size that no medium holds */
    PALLOC_E_READ_ONLY = EROFS,         /* opened with PALLOC_READONLY */
    PALLOC_E_SYNC_FAILED = EIO,         /* a sync failed, now or before, or the disk has an error */
    PALLOC_E_UNSUPPORTED = ENOTSUP,     /* PALLOC_EXTENDED; PALLOC_SHARED on this system or file system */
#if defined(ESTALE)
    PALLOC_E_NO_WRITER = ESTALE         /* no process has the medium open for writing with PALLOC_SHARED (any more) */
#else
    PALLOC_E_NO_WRITER = EOWNERDEAD     /* Windows has no ESTALE */
#endif
};

/*
 * Returns the address of the byte at `offset`, as palloc_data does for the first byte of a blob. It is faster: it takes no lock and
 * does not ask whether a blob is there. So use it for offsets that are in allocated blobs, such as those that the program has stored
 * itself. Any thread may call it at any time, also while another one makes the medium grow.
 *
 * Returns NULL on failure. Fails iff:
 * - EINVAL: the medium ends at or before `offset`.
 * - ENOSPC, EDQUOT, EFBIG: the file has holes, `offset` is in one, and the disk is full.
 *
 * It reserves space for one byte only: where the medium is a sparse copy of another one, call palloc_data once for each blob that is
 * written to.
 *
 * Precondition: `pt` is an open medium, not NULL.
 */
static inline void *palloc_at(const struct palloc_t *pt, uint64_t offset)
{
    /* The size first: the address is that of the mapping that had this size, or of a later one. */
#if defined(__GNUC__)
    const size_t size = __atomic_load_n(&pt->at_size, __ATOMIC_ACQUIRE);
    char *const base = __atomic_load_n(&pt->at_base, __ATOMIC_RELAXED);
#else
    const size_t size = *(const volatile size_t *)&pt->at_size;
    char *const base = *(char *const volatile *)&pt->at_base;
#endif

    return offset < size ? base + offset : palloc_at_locked(pt, offset);
}

#ifdef __cplusplus
}
#endif

#endif
