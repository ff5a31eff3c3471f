/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A thread's stack between two guard pages: an overflow is a fault at once, and damages no other memory. The stack is large, but only its
 * used pages take memory.
 */
#include <pthread.h>
#include <stdio.h>
#include <vmem.h>

#define STACK_SIZE ((size_t)64 << 20)

static unsigned depth(unsigned n)
{
    volatile char frame[1000];

    frame[0] = 1;
    return n == 0 ? 0 : depth(n - 1) + (unsigned)frame[0];
}

static void *run(void *result)
{
    *(unsigned *)result = depth(20000);
    return NULL;
}

int main(void)
{
    unsigned result = 0;
    pthread_attr_t attributes;
    pthread_t thread;
    VMemRangeInfo info[2];
    char *stack = (char *)vmem_reserve_guarded(STACK_SIZE);

    if (stack == NULL || !vmem_commit(stack, STACK_SIZE)) {
        fprintf(stderr, "%s\n", vmem_get_error_message());
        return 1;
    }
    if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstack(&attributes, stack, STACK_SIZE) != 0 ||
        pthread_create(&thread, &attributes, run, &result) != 0 || pthread_join(thread, NULL) != 0) {
        fprintf(stderr, "no thread\n");
        return 1;
    }
    printf("%u calls deep\n", result);
    if (vmem_query_range_info(stack - 1, 2, info, 2) != 2) {
        fprintf(stderr, "%s\n", vmem_get_error_message());
        return 1;
    }
    printf("below the stack: %s; in it: %s\n", vmem_get_protect_name(info[0].protect), vmem_get_protect_name(info[1].protect));
    return !vmem_release(stack, STACK_SIZE);
}
