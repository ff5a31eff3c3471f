/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Counts what brings bytes to the disk: of libpalloc, and, as the program exports these functions, of shared objects. */
#ifndef SYNCS_H
#define SYNCS_H

#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic unsigned syncs;

int fdatasync(int descriptor)
{
    syncs++;
    return (int)syscall(SYS_fdatasync, descriptor);
}

int fsync(int descriptor)
{
    syncs++;
    return (int)syscall(SYS_fsync, descriptor);
}

int msync(void *start, size_t size, int flags)
{
    syncs++;
    return (int)syscall(SYS_msync, start, size, flags);
}

#endif
