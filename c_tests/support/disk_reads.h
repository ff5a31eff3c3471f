/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The bytes that a process read from disks. */
#ifndef SUPPORT_DISK_READS_H
#define SUPPORT_DISK_READS_H

#include <stdint.h>
#include <stdio.h>

/* Of this process, since it began; 0 if the system does not count them. Linux does. */
static inline uint64_t disk_reads(void)
{
    FILE *counters = fopen("/proc/self/io", "r");
    unsigned long long bytes = 0;
    char line[80];

    while (counters != NULL && fgets(line, sizeof line, counters) != NULL)
        if (sscanf(line, "read_bytes: %llu", &bytes) == 1)
            break;
    if (counters != NULL)
        fclose(counters);
    return bytes;
}

#endif
