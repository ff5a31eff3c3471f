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
