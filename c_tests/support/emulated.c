/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "emulated.h"

#ifdef _WIN32
int is_emulated(void)
{
    return 0;
}
#else
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int is_emulated(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char in_memory = 0;
    int ignored;

    if (p == MAP_FAILED)
        return 0;
    ignored = madvise(p, page, MADV_POPULATE_WRITE) == 0 && mincore(p, page, &in_memory) == 0 && in_memory % 2 == 0;
    munmap(p, page);
    return ignored;
}
#endif
