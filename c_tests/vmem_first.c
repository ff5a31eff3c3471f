/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program of the first generation, unchanged: functions without a result, VMEM_ASSERT, and a stack on top. */
#include <stddef.h>

static int asserted;
#define VMEM_IMPLEMENTATION
#define VMEM_FUNC static
#define VMEM_ASSERT(cond) ((cond) ? (void)0 : (void)asserted++)
#include <vmem.h>

#include "vmem_util.h"

typedef struct Stack {
    char *base;
    size_t used, commited, reserved;
} Stack;

static void *stack_push(Stack *stack, size_t size)
{
    void *p;
    size_t end = stack->used + size;

    if (end > stack->commited) {
        size_t need = (size_t)vmem_align_forward(end - stack->commited, (int)vmem_get_page_size());
        vmem_commit(stack->base + stack->commited, need);
        stack->commited += need;
    }
    p = stack->base + stack->used;
    stack->used = end;
    return p;
}

int main(void)
{
    Stack stack = {0};
    size_t i, page = vmem_get_page_size();
    unsigned char *p;

    TEST("a-program-of-the-first-generation-runs");
    stack.reserved = GIB;
    stack.base = (char *)vmem_reserve(stack.reserved);
    REQUIRE(stack.base != NULL);
    for (i = 1; i <= 10000; i++) {
        char *bytes = (char *)stack_push(&stack, i % 500);
        memset(bytes, (int)i, i % 500);
    }
    CHECK(all_bytes((unsigned char *)stack.base, 1, 1));
    vmem_decommit(stack.base, stack.commited);
    CHECK(inaccessible(stack.base));
    vmem_release(stack.base, stack.reserved);
    CHECK_EQ_I(asserted, 0);

    TEST("align-helpers-of-the-first-generation");
    CHECK_EQ_U(vmem_align_forward((uintptr_t)1, 4096), 4096);
    CHECK_EQ_U(vmem_align_backward((uintptr_t)8191, 4096), 4096);

    TEST("VMEM_ASSERT-is-given-a-false-condition-on-every-error");
    vmem_release(stack.base, stack.reserved);
    CHECK_EQ_I(asserted, 1);
    CHECK_EQ_U(vmem_align_forward(1, 3), 0);
    CHECK_EQ_I(asserted, 2);
    CHECK_EQ_U((uintptr_t)vmem_alloc(0), 0);
    CHECK_EQ_I(asserted, 3);
    p = vmem_reserve(page);
    vmem_commit(p, page + 1);
    CHECK_EQ_I(asserted, 4);
    vmem_release(p, page);
    CHECK_EQ_I(asserted, 4);
    return tap_done();
}
