/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Shared by the tests of buflib: pools between guard pages, callbacks that keep a log, the blocks of a pool as text. */
#ifndef BUFLIB_UTIL_H
#define BUFLIB_UTIL_H

#include <buflib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#define TAP_ERROR_TEXT() ""
#include "support/random.h"
#include "tap.h"

#define W sizeof(void *)
#define WIDE (sizeof(void *) == 8)

/* A pool whose first and last byte lie against pages that can't be touched, as far as `size` is a multiple of a page. */
struct guarded {
    char *map;
    size_t mapped;
    char *start; /* of `size` bytes that end at a guard page */
};

static inline char *guarded_pool(struct guarded *pool, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (size + page - 1) / page * page;

    pool->mapped = inner + 2 * page;
    pool->map = mmap(NULL, pool->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(pool->map != MAP_FAILED);
    REQUIRE(mprotect(pool->map + page, inner, PROT_READ | PROT_WRITE) == 0);
    pool->start = pool->map + page + inner - size;
    return pool->start;
}

static inline void unguard(struct guarded *pool)
{
    munmap(pool->map, pool->mapped);
}

/* Initializes a context with a new pool between guard pages. `memory` is that of its last pool, or zeros. */
static inline char *fresh_pool(struct buflib_context *ctx, struct guarded *memory, size_t size)
{
    if (memory->map != NULL)
        unguard(memory);
    buflib_init(ctx, guarded_pool(memory, size), size);
    return memory->start;
}

/* Lengths of all blocks, as in "9 6 -3". */
static inline const char *blocks(struct buflib_context *ctx)
{
    static char text[1 << 16];
    size_t at = 0;
    intptr_t *block = ctx->buf_start;

    text[0] = '\0';
    while (block < ctx->alloc_end && *block != 0 && at < sizeof text - 32) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%ld", at ? " " : "", (long)*block);
        block += *block < 0 ? -*block : *block;
    }
    return text;
}

static inline int table_size(struct buflib_context *ctx)
{
    return (int)(ctx->handle_table - ctx->last_handle);
}

/* A panic handler that keeps the message and returns. */
static char panic_message[600];
static int panics;

static inline void note_panic(struct buflib_context *ctx, const char *message)
{
    (void)ctx;
    panics++;
    snprintf(panic_message, sizeof panic_message, "%s", message);
}

static inline void note_damage(void *user, const void *block, const char *what)
{
    DIAG("%s%p: %s", (const char *)user, block, what);
}

#define CHECK_SOUND(ctx) CHECK(buflib_check((ctx), note_damage, (void *)"damage: "))

#endif
