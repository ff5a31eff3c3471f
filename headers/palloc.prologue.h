/* SPDX-License-Identifier: MIT OR Apache-2.0 */
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
