/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A compacting heap that grows. Its pool is in reserved address space, and a failed allocation commits more of it. When the program is
 * idle, it moves blocks together in small steps, and then decommits the free end.
 */
#include <buflib.h>
#include <stdio.h>
#include <vmem.h>

#define RESERVED ((VMemSize)1 << 30)
#define STEP ((size_t)64 << 10)

static struct buflib_context heap;
static char *start;
static size_t committed;

static int heap_alloc(size_t size)
{
    int handle;

    while ((handle = buflib_alloc(&heap, size)) < 0 && committed + size + STEP <= RESERVED) {
        size_t more = (size + STEP) / STEP * STEP;

        if (!vmem_commit(start + committed, more)) {
            fprintf(stderr, "%s\n", vmem_get_error_message());
            return handle;
        }
        committed += more;
        if (!buflib_resize(&heap, committed))
            return handle;
    }
    return handle;
}

/* Decommits the free end, except one to two steps. */
static void heap_trim(void)
{
    struct buflib_stat stat;

    if (buflib_get_stat(&heap, &stat) && stat.free - stat.holes > 2 * STEP) {
        size_t keep = (stat.live + stat.holes + stat.handles * sizeof(void *)) / STEP * STEP + 2 * STEP;

        if (keep < committed && buflib_resize(&heap, keep) && vmem_decommit(start + keep, committed - keep))
            committed = keep;
    }
}

int main(void)
{
    enum { COUNT = 1000 };
    int handles[COUNT], steps = 0;

    start = (char *)vmem_reserve(RESERVED);
    if (start == NULL || !vmem_commit(start, STEP)) {
        fprintf(stderr, "%s\n", vmem_get_error_message());
        return 1;
    }
    committed = STEP;
    buflib_init(&heap, start, committed);

    for (int i = 0; i < COUNT; i++) {
        if ((handles[i] = heap_alloc(4096)) < 0)
            return 1;
        *(int *)buflib_get_data(&heap, handles[i]) = i;
    }
    printf("%d blocks, grown to %d KiB or more\n", COUNT, committed >= 4096 * COUNT ? 4000 : 0);

    for (int i = 0; i < COUNT; i++)
        if (i % 10 != 0)
            buflib_free(&heap, handles[i]);
    while (buflib_compact_step(&heap, 16384) > 0) /* in a frame, or when idle */
        steps++;
    heap_trim();
    printf("compacted in more than 10 steps: %s; %s\n", steps > 10 ? "yes" : "no", committed < 1000 << 10 ? "memory was given back" : "too large");
    for (int i = 0; i < COUNT; i += 10)
        if (*(int *)buflib_get_data(&heap, handles[i]) != i)
            return 1;
    printf("every block is whole\n");
    return !vmem_release(start, RESERVED);
}
