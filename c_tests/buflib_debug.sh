#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# BUFLIB_DEBUG, in programs of both generations, under AddressSanitizer and under valgrind: correct programs run without a report; a
# use of memory that was given back is reported.
. "$(dirname "$0")/lib.sh"

# Uses the pool in every way; then, with an argument, an old address.
cat >"$WORK/use.c" <<'C'
#define BUFLIB_DEBUG
#define BUFLIB_DEBUG_CHECK_VALID
#define BUFLIB_DEBUG_BLOCKS
#ifdef LATER
#include <rockbox/chunk_alloc.h>
#define ALLOC(size, ops) buflib_alloc_ex(&ctx, size, ops)
#define CORE(size) core_alloc(size)
#else
#include <core_alloc.h>
#define ALLOC(size, ops) buflib_alloc_ex(&ctx, size, "name", ops)
#define CORE(size) core_alloc("name", size)
#endif
#include <stdlib.h>
#include "support/random.h"

static struct buflib_context ctx;
static struct rng rng = {1};

static unsigned rnd(unsigned below)
{
    return (unsigned)rng_below(&rng, below);
}

static int shrink(int handle, unsigned hints, void *start, size_t size)
{
    (void)hints, (void)start;
    if (size < 100)
        return buflib_free(&ctx, handle) == 0 ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
    return buflib_shrink(&ctx, handle, NULL, size / 2) ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_SHRINK;
}

static int move(int handle, void *current, void *new_start)
{
    (void)new_start;
    return buflib_get_data(&ctx, handle) == current ? BUFLIB_CB_OK : BUFLIB_CB_CANNOT_MOVE;
}

static struct buflib_callbacks ops = { move, shrink, NULL };

static void print(int number, const char *text)
{
    (void)number, (void)text;
}

static int use(void)
{
    for (int i = 0; i < 3000; i++) {
        int h = 1 + (int)rnd(40);
        size_t size = 256, old = (size_t)((char *)ctx.handle_table - (char *)ctx.buf_start);
        struct buflib_stat stat;
        char text[80], *data = (char *)buflib_get_data(&ctx, h);

        if (data == NULL) {
            h = ALLOC(rnd(600), rnd(2) ? &ops : NULL);
            if (h > 0)
                memset(buflib_get_data(&ctx, h), h, buflib_get_size(&ctx, h));
        } else if (rnd(3)) {
            buflib_free(&ctx, h);
        } else {
            buflib_shrink(&ctx, h, data + buflib_get_size(&ctx, h) / 4, buflib_get_size(&ctx, h) / 2);
        }
        if (i % 10 == 0) {
            /* There are holes; buflib_allocatable closes them. */
            buflib_get_name(&ctx, h);
            buflib_print_block_at(&ctx, 0, text, sizeof text);
            buflib_check_valid(&ctx);
            buflib_print_blocks(&ctx, print);
            buflib_print_allocs(&ctx, print);
            if (!buflib_check(&ctx, NULL, NULL) || !buflib_get_stat(&ctx, &stat))
                return 1;
            buflib_allocatable(&ctx);
        }
        buflib_compact_step(&ctx, 300);
        if (i % 50 == 0 && (data = (char *)buflib_buffer_out(&ctx, &size)) != NULL) {
            memset(data, 1, size);
            buflib_buffer_in(&ctx, (int)size);
        }
        if (i % 100 == 0 && buflib_resize(&ctx, old - 8 * rnd(100)))
            buflib_resize(&ctx, old);
    }
    return 0;
}

int main(int argc, char **argv)
{
    size_t bytes = 16384;
    char *pool = (char *)malloc(bytes), *to = (char *)malloc(bytes);
    int what = argc > 1 ? atoi(argv[1]) : 0, a, b, c;
    volatile char *old;

    buflib_init(&ctx, pool, bytes);
    if (use() != 0)
        return 2;
    if (buflib_context_relocate(&ctx, to))
        memcpy(to, pool, bytes);
    if (use() != 0)
        return 2;
    core_allocator_init();
    a = CORE(100);
    memset(core_get_data(a), 1, 100);
    core_free(a);
    core_check_valid();
#ifdef LATER
    {
        struct chunk_alloc_header hdr;
        if (!core_chunk_alloc_init(&hdr, 100, 10))
            return 2;
        for (int i = 0; i < 40; i++) {
            size_t at = chunk_alloc(&hdr, 20);
            char *data = (char *)chunk_get_data(&hdr, at);
            memset(data, i, 20);
            chunk_put_data(&hdr, data, at);
        }
        chunk_alloc_free(&hdr);
    }
#endif

    buflib_init(&ctx, pool, bytes);
    a = ALLOC(200, NULL), b = ALLOC(200, NULL), c = ALLOC(200, NULL);
    memset(buflib_get_data(&ctx, a), 1, 200);
    memset(buflib_get_data(&ctx, c), 1, 200);
    old = (char *)buflib_get_data(&ctx, what == 1 ? a : what == 2 ? c : b);
    if (what == 1)
        buflib_free(&ctx, a); /* an old address of a block that was freed */
    else if (what == 2)
        buflib_free(&ctx, a), buflib_free(&ctx, b), buflib_allocatable(&ctx); /* that moved away */
    else if (what == 3)
        buflib_shrink(&ctx, b, NULL, 64), old += 100; /* that was cut */
    else if (what == 4)
        old = (char *)ctx.alloc_end + 100; /* behind all blocks */
    else if (what == 5)
        a = CORE(100), old = (char *)core_get_data(a), core_free(a);
    *old = 1;
    free(pool);
    free(to);
    return 0;
}
C

build() { # DEFINES FLAGS
    # shellcheck disable=SC2086
    strict_cc $1 $2 -I"$ROOT/c_tests" "$WORK/use.c" $LDFLAGS "$LIB/libpalloc.a" $LIBS -o "$WORK/use"
}

both_ways() { # NAME DEFINES FLAGS TEXT RUNNER...
    name=$1 defines=$2 flags=$3 text=$4
    shift 4
    check "$name: compiles" build "$defines" "$flags"
    check "$name: no report for correct use" "$@" "$WORK/use"
    for what in 1 2 3 4 5; do
        check "$name: an old address is reported, case $what" reports "$text" "$@" "$WORK/use" "$what"
    done
}

asan() {
    echo 'int main(void) { return 0; }' >"$WORK/asan.c"
    # shellcheck disable=SC2086
    $CC -fsanitize=address "$WORK/asan.c" -o "$WORK/asan" >/dev/null 2>&1 && "$WORK/asan" >/dev/null 2>&1
}

for generation in "" -DLATER; do
    if asan; then
        both_ways "BUFLIB_DEBUG, AddressSanitizer $generation" "$generation" -fsanitize=address use-after-poison env
    else
        skip "BUFLIB_DEBUG, AddressSanitizer $generation" "needs -fsanitize=address"
    fi
    if have valgrind && echo '#include <valgrind/memcheck.h>' | $CC -E - >/dev/null 2>&1; then
        both_ways "BUFLIB_DEBUG, valgrind $generation" "$generation" "" "Invalid write" valgrind -q --error-exitcode=9
    else
        skip "BUFLIB_DEBUG, valgrind $generation" "needs valgrind and its headers"
    fi
    check "BUFLIB_DEBUG $generation alone: compiles" build "$generation" ""
    check "BUFLIB_DEBUG $generation alone: runs" "$WORK/use"
done

if have "${CXX%% *}"; then
    cp "$WORK/use.c" "$WORK/use.cc"
    # shellcheck disable=SC2086
    cxx() { $CXX -std=c++11 -D_GNU_SOURCE -Wall -Wextra -DLATER -I"$ROOT/include" -I"$ROOT/c_tests" -c "$WORK/use.cc" -o "$WORK/use_cc.o"; }
    check "BUFLIB_DEBUG in C++: compiles" cxx
else
    skip "BUFLIB_DEBUG in C++" "no C++ compiler"
fi
finish
