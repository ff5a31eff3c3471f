/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A fuzz target in C of the functions that the headers define inline, which the Rust targets don't run: palloc_at, buflib_get_data, the
 * pushes of a growing arena, align and arena helpers. By clang with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
 *
 * Each three bytes are a call and its arguments.
 */
#define BUFLIB_DEBUG
#define VMEM_DEBUG
#include <buflib.h>
#include <palloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <vmem.h>

#define MUST(what) ((what) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what), abort()))
#define BLOBS 16
#define PUSHES 64
#define CALLS 200

static struct palloc_t *medium;

static void forget(void)
{
    palloc_close(medium);
}

static void open_medium(void)
{
    char name[] = "/tmp/palloc-fuzz-XXXXXX";
    int fd = mkstemp(name);

    MUST(fd >= 0 && close(fd) == 0 && unlink(name) == 0);
    medium = palloc_init(name, PALLOC_DYNAMIC);
    MUST(medium != NULL && unlink(name) == 0);
    atexit(forget);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static union { long double align; char bytes[4096]; } memory;
    struct buflib_context pool;
    VMemGrowArena arena;
    uint64_t blobs[BLOBS] = {0};
    uint8_t values[BLOBS] = {0}, of_handles[256] = {0}, pushed[PUSHES] = {0};
    uint8_t *pushes[PUSHES];
    VMemSize marks[PUSHES], sizes[PUSHES];
    size_t n = 0, last = 0;

    if (medium == NULL)
        open_medium();
    buflib_init(&pool, memory.bytes, sizeof memory.bytes);
    MUST(vmem_grow_init(&arena, 1 << 20, 0));
    for (size_t i = 0; i + 3 <= size && i < 3 * CALLS; i += 3) {
        uint8_t what = data[i], a = data[i + 1], b = data[i + 2];
        size_t slot = a % BLOBS;
        int handle = a % 100;
        char *block;

        switch (what % 10) {
        case 0: /* a blob comes or goes */
            if (blobs[slot] != 0) {
                pfree(medium, blobs[slot]);
                MUST(palloc_data(medium, blobs[slot]) == NULL);
                blobs[slot] = 0;
            } else if ((blobs[slot] = palloc(medium, b)) != 0) {
                memset(palloc_at(medium, blobs[slot]), values[slot] = b, palloc_size(medium, blobs[slot]));
            }
            break;
        case 1: /* its address, and back */
            if (blobs[slot] != 0) {
                uint8_t *at = (uint8_t *)palloc_at(medium, blobs[slot]);
                size_t bytes = palloc_size(medium, blobs[slot]);
                MUST(at == palloc_data(medium, blobs[slot]) && palloc_offset(medium, at) == blobs[slot]);
                for (size_t k = 0; k < bytes; k++)
                    MUST(at[k] == values[slot]);
            }
            break;
        case 2: /* an offset that may be anything */
            (void)palloc_at(medium, ((uint64_t)a << 56 | b) * (what + 1u));
            break;
        case 3: /* a block comes */
            handle = buflib_alloc(&pool, 1 + b * 2u);
            if (handle > 0) {
                MUST(handle < 256 && of_handles[handle] == 0);
                of_handles[handle] = (uint8_t)(1 + b % 255);
                memset(buflib_get_data(&pool, handle), of_handles[handle], 1 + b * 2u);
            }
            break;
        case 4: /* a block is read, or goes */
            block = (char *)buflib_get_data(&pool, handle);
            MUST((block != NULL) == (of_handles[handle] != 0));
            if (block != NULL) {
                MUST((uint8_t)block[0] == of_handles[handle]);
                if (b % 2) {
                    MUST(buflib_free(&pool, handle) == 0 && buflib_get_data(&pool, handle) == NULL);
                    of_handles[handle] = 0;
                }
            }
            MUST(buflib_get_data(&pool, -1 - b) == NULL && buflib_get_data(&pool, 0) == NULL);
            buflib_compact_step(&pool, b);
            break;
        case 5:
        case 6: /* bytes are pushed */
            if (n < PUSHES) {
                VMemSize align = (VMemSize)1 << a % 9, bytes = b % 16 ? b : (VMemSize)b * 999;
                marks[n] = vmem_grow_mark(&arena);
                pushes[n] = (uint8_t *)(what % 10 == 5 ? vmem_grow_push(&arena, bytes, align) : vmem_grow_push_zeroed(&arena, bytes, align));
                if (pushes[n] != NULL) {
                    MUST(((uintptr_t)pushes[n] & (align - 1)) == 0);
                    for (VMemSize k = 0; what % 10 == 6 && k < bytes; k++)
                        MUST(pushes[n][k] == 0);
                    memset(pushes[n], pushed[n] = (uint8_t)(a ^ b), bytes);
                    sizes[n++] = bytes;
                }
            }
            MUST(vmem_grow_push(&arena, 1, 3) == NULL && vmem_grow_push(NULL, 1, 1) == NULL && vmem_grow_push(&arena, (VMemSize)-1 - b, 8) == NULL);
            break;
        case 7: /* and popped */
            if (n > 0) {
                last = a % n;
                MUST(vmem_grow_pop_to(&arena, marks[last]));
                n = last;
                MUST(!vmem_grow_pop_to(&arena, vmem_grow_mark(&arena) + 1 + b));
            }
            break;
        case 8:
            MUST(vmem_grow_reset(&arena, (VMemSize)a * 256));
            n = 0;
            break;
        default: {
            uintptr_t address = (uintptr_t)(a * 257u + b);
            int align = 1 << b % 8;
            MUST(vmem_align_forward_fast(address, align) == vmem_align_forward(address, align));
            MUST(vmem_align_backward_fast(address, align) == vmem_align_backward(address, align));
            MUST(!vmem_is_aligned_fast(address, align) == !vmem_is_aligned(address, align));
            MUST(!vmem_arena_is_valid(NULL));
        }
        }
        for (size_t k = 0; k < n; k++)
            MUST(sizes[k] == 0 || (pushes[k][0] == pushed[k] && pushes[k][sizes[k] - 1] == pushed[k]));
    }
    for (size_t i = 0; i < BLOBS; i++)
        if (blobs[i] != 0)
            pfree(medium, blobs[i]);
    MUST(palloc_first(medium) == 0);
    MUST(vmem_grow_deinit(&arena));
    return 0;
}

#include "replay.h"
