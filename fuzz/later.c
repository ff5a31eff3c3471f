/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A fuzz target in C of the later generation's headers, rockbox/buflib.h and rockbox/chunk_alloc.h, with their inline functions. By clang
 * with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
 *
 * Each three bytes are a call and its arguments.
 */
#define BUFLIB_DEBUG
#include <rockbox/chunk_alloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(what) ((what) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what), abort()))
enum { PIECES = 32, HANDLES = 256, CALLS = 200 };

static struct buflib_context pool;
static int panics;

static void count_panics(struct buflib_context *ctx, const char *message)
{
    (void)ctx, (void)message;
    panics++;
}

static int moves(int handle, void *from, void *to)
{
    MUST(buflib_get_data(&pool, handle) == from && from != to);
    return BUFLIB_CB_OK;
}

static int refuses(int handle, void *from, void *to)
{
    (void)handle, (void)from, (void)to;
    return BUFLIB_CB_CANNOT_MOVE;
}

/* Whether all bytes are `value`. */
static int is_filled(const uint8_t *bytes, size_t size, uint8_t value)
{
    return size == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, size - 1) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static union { long double align; char bytes[4096]; } memory;
    struct buflib_callbacks agrees = {moves, NULL, NULL}, stays = {refuses, NULL, NULL};
    struct buflib_callbacks *kinds[] = {NULL, &agrees, &stays, &buflib_ops_locked};
    struct chunk_alloc_header chunks;
    struct { size_t offset, size; uint8_t value, *pinned; } pieces[PIECES], *piece;
    struct { size_t size; uint8_t value; } blocks[HANDLES] = {{0, 0}};
    size_t n = 0, bytes;
    uint8_t *at;
    int handle, is_made;

    buflib_init(&pool, memory.bytes, sizeof memory.bytes);
    buflib_set_panic_handler(count_panics);
    panics = 0;
    is_made = size > 1 && chunk_alloc_init(&chunks, &pool, 1 + data[0] * 2u, 1 + data[1] % 16);
    MUST(size <= 1 || is_made == chunk_alloc_is_initialized(&chunks));
    for (size_t i = 2; i + 3 <= size && i < 3 * CALLS; i += 3) {
        uint8_t what = data[i], a = data[i + 1], b = data[i + 2];

        piece = n > 0 ? &pieces[a % n] : NULL;
        handle = 1 + a % (HANDLES - 1);
        switch (what % 10) {
        case 0:
        case 1: /* a piece of a chunk */
            bytes = what % 10 == 0 ? b % 40 : b * 4u;
            if (is_made && n < PIECES && (pieces[n].offset = chunk_alloc(&chunks, bytes)) != CHUNK_ALLOC_INVALID) {
                MUST(bytes > 0);
                at = (uint8_t *)chunk_get_data(&chunks, pieces[n].offset);
                MUST(at != NULL);
                pieces[n].size = bytes, pieces[n].pinned = NULL;
                memset(at, pieces[n].value = (uint8_t)(a ^ b), bytes);
                chunk_put_data(&chunks, at, pieces[n++].offset);
            }
            break;
        case 2: /* it stays where it is, until later */
            if (piece != NULL && piece->pinned == NULL) {
                piece->pinned = (uint8_t *)chunk_get_data(&chunks, piece->offset);
            } else if (piece != NULL) {
                MUST(is_filled(piece->pinned, piece->size, piece->value));
                chunk_put_data(&chunks, piece->pinned, piece->offset);
                piece->pinned = NULL;
            }
            break;
        case 3: /* in the middle of it, or nowhere */
            if (piece != NULL) {
                size_t offset = piece->offset + b % piece->size;

                at = (uint8_t *)chunk_get_data(&chunks, offset);
                MUST(at != NULL && is_filled(at, piece->size - b % piece->size, piece->value));
                chunk_put_data(&chunks, at, offset);
            }
            MUST(!is_made || chunk_get_data(&chunks, (size_t)-1 - b) == NULL);
            break;
        case 4:
            if (is_made && b % 4 == 0)
                chunk_alloc_finalize(&chunks);
            else if (is_made)
                (void)chunk_realloc(&chunks, 1 + a * 2u, b % 20);
            break;
        case 5:
            if (is_made && b % 8 == 0) {
                chunk_alloc_free(&chunks);
                MUST(!chunk_alloc_is_initialized(&chunks) && chunk_alloc(&chunks, 1) == CHUNK_ALLOC_INVALID);
                is_made = chunk_alloc_init(&chunks, &pool, 1 + a * 2u, 1 + b % 16);
                n = 0;
            }
            break;
        case 6:
        case 7: /* a block comes */
            handle = buflib_alloc_ex(&pool, bytes = 1 + b * 2u, kinds[a % 4]);
            if (handle > 0) {
                MUST(handle < HANDLES && blocks[handle].size == 0);
                blocks[handle].size = bytes;
                memset(buflib_get_data(&pool, handle), blocks[handle].value = (uint8_t)(a + b), bytes);
            }
            break;
        case 8: /* and goes */
            if (blocks[handle].size > 0) {
                MUST(buflib_free(&pool, handle) == 0 && buflib_get_data(&pool, handle) == NULL);
                blocks[handle].size = 0;
            }
            break;
        default: {
            char line[80];
            int last = buflib_get_num_blocks(&pool);

            line[0] = 1;
            MUST(buflib_print_block_at(&pool, b % (last + 2), line, sizeof line) == (line[0] != 0));
            buflib_compact_step(&pool, a);
        }
        }
        for (size_t k = 0; k < n; k++) {
            at = (uint8_t *)chunk_get_data(&chunks, pieces[k].offset);
            MUST(at != NULL && is_filled(at, pieces[k].size, pieces[k].value));
            MUST(pieces[k].pinned == NULL || pieces[k].pinned == at);
            chunk_put_data(&chunks, at, pieces[k].offset);
        }
        for (handle = 1; handle < HANDLES; handle++)
            MUST(blocks[handle].size == 0
                 || is_filled((uint8_t *)buflib_get_data(&pool, handle), blocks[handle].size, blocks[handle].value));
        MUST(buflib_check(&pool, NULL, NULL) && panics == 0);
    }
    buflib_set_panic_handler(NULL);
    return 0;
}

#include "replay.h"
