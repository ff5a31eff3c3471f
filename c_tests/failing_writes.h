/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program that includes this has a pwrite of its own, which the library calls too: it fails as on a full disk while the program wants that. */
#ifndef FAILING_WRITES_H
#define FAILING_WRITES_H

#if defined(__linux__) && defined(__LP64__)
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned writes_left; /* so many calls of pwrite from now on, one fails; 0: none does */

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at)
{
#ifdef NOTE_WRITE
    NOTE_WRITE();
#endif
    if (writes_left > 0 && --writes_left == 0) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, n, at);
}
#endif

#endif
