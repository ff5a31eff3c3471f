/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An array that grows in place: pointers to its elements stay valid, nothing is copied, and it uses memory only for its elements. */
#include <stdio.h>
#include <vmem.h>

struct array {
    int *items;
    size_t count;
    VMemArena memory;
};

/* Makes an empty array for at most `max` elements. */
static int array_init(struct array *array, size_t max)
{
    array->memory = vmem_arena_init_alloc(max * sizeof *array->items);
    array->items = (int *)(void *)array->memory.mem;
    array->count = 0;
    return vmem_arena_is_valid(&array->memory);
}

/* Adds an element and returns it; NULL if memory runs out or the array has its maximum. */
static int *array_add(struct array *array, int value)
{
    VMemSize need = (array->count + 1) * sizeof *array->items;

    if (need > array->memory.commited) {
        VMemSize more = array->memory.commited + ((VMemSize)64 << 10); /* a system call for every 64 KiB */

        if (more > array->memory.size_bytes)
            more = array->memory.size_bytes;
        if (!vmem_arena_set_commited(&array->memory, more > need ? more : need))
            return NULL;
    }
    array->items[array->count] = value;
    return &array->items[array->count++];
}

int main(void)
{
    struct array array;
    int *first, i;

    if (!array_init(&array, (size_t)1 << 28)) {
        fprintf(stderr, "%s\n", vmem_get_error_message());
        return 1;
    }
    first = array_add(&array, 42);
    for (i = 1; i < 1000000; i++)
        if (first == NULL || array_add(&array, i) == NULL) {
            fprintf(stderr, "%s\n", vmem_get_error_message());
            return 1;
        }
    printf("%d is where it was, before %zu others\n", *first, array.count - 1);
    printf("%zu KiB of %zu KiB are committed\n", array.memory.commited >> 10, array.memory.size_bytes >> 10);
    return !vmem_arena_deinit_dealloc(&array.memory);
}
