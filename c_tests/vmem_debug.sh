#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# VMEM_DEBUG, in C and C++, under AddressSanitizer and under valgrind: correct programs run without a report; a use of
# bytes of a growing arena that were popped, or of a decommitted page, is reported.
. "$(dirname "$0")/lib.sh"

# Uses an arena in every way; then, with an argument, an old address.
cat >"$WORK/use.c" <<'C'
#define VMEM_DEBUG
#include <stdio.h>
#include <stdlib.h>
#include <vmem.h>
#include "support/random.h"

static struct rng rng = {1};

static unsigned rnd(unsigned below)
{
    return (unsigned)rng_below(&rng, below);
}

static int use(VMemGrowArena *arena)
{
    VMemSize marks[100];
    unsigned depth = 0, i, n;

    for (i = 0; i < 3000; i++) {
        if (depth < 100 && rnd(3)) {
            VMemSize size = 1 + rnd(3000);
            unsigned char *data;
            marks[depth++] = vmem_grow_mark(arena);
            if (rnd(2)) {
                data = (unsigned char *)vmem_grow_push(arena, size, (VMemSize)1 << rnd(7));
                if (data == NULL)
                    return 1;
                memset(data, (int)i, (size_t)size);
            } else {
                data = (unsigned char *)vmem_grow_push_zeroed(arena, size, 1);
                if (data == NULL)
                    return 1;
                for (n = 0; n < size; n++)
                    if (data[n] != 0)
                        return 1;
                data[0] = 1;
            }
        } else if (depth > 0) {
            depth = rnd(depth);
            if (!vmem_grow_pop_to(arena, marks[depth]))
                return 1;
        }
        if (rnd(500) == 0) {
            depth = 0;
            if (!vmem_grow_reset(arena, rnd(2) ? 0 : 100000))
                return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    VMemGrowArena arena;
    VMemSize mark;
    int what = argc > 1 ? atoi(argv[1]) : 0, i;
    volatile char *old, *pages;

    for (i = 0; i < 20; i++) {
        void *other;
        if (!vmem_grow_init(&arena, (VMemSize)1 << 26, 0) || use(&arena) || !vmem_grow_deinit(&arena))
            return 2;
        /* Others can use the addresses. */
        other = vmem_alloc((VMemSize)1 << 26);
        if (other == NULL || !vmem_commit(other, 1 << 20))
            return 2;
        memset(other, 1, 1 << 20);
        vmem_dealloc(other, (VMemSize)1 << 26);
    }
    if (!vmem_grow_init(&arena, (VMemSize)1 << 26, 0))
        return 2;
    pages = (char *)vmem_alloc(1 << 20);
    vmem_grow_push(&arena, 100, 1);
    mark = vmem_grow_mark(&arena);
    old = (char *)vmem_grow_push(&arena, 4096, 16);
    if (old == NULL || pages == NULL || !vmem_commit((void *)pages, 1 << 20))
        return 2;
    old[0] = 1;
    if (what == 1)
        vmem_grow_pop_to(&arena, mark), old += 1000; /* it was popped */
    else if (what == 2)
        vmem_grow_reset(&arena, 1 << 20); /* it was reset, and is committed still */
    else if (what == 3)
        old += 4096; /* it is behind the last byte that was pushed */
    else if (what == 4)
        vmem_decommit((void *)pages, 1 << 20), old = pages + 5000;
    *old = 1;
    vmem_grow_deinit(&arena);
    vmem_dealloc((void *)pages, 1 << 20);
    return 0;
}
C

build() { # FLAGS
    # shellcheck disable=SC2086
    strict_cc $1 -I"$ROOT/c_tests" "$WORK/use.c" $LDFLAGS "$LIB/libpalloc.a" $LIBS -o "$WORK/use"
}

both_ways() { # NAME FLAGS TEXT TEXT_OF_A_FAULT RUNNER...
    name=$1 flags=$2 text=$3 fault=$4
    shift 4
    check "$name: compiles" build "$flags"
    check "$name: no report for correct use" "$@" "$WORK/use"
    for what in 1 2 3; do
        check "$name: an old address is reported, case $what" reports "$text" "$@" "$WORK/use" "$what"
    done
    check "$name: a decommitted page is reported" reports "$fault" "$@" "$WORK/use" 4
}

asan() {
    echo 'int main(void) { return 0; }' >"$WORK/asan.c"
    # shellcheck disable=SC2086
    $CC -fsanitize=address "$WORK/asan.c" -o "$WORK/asan" >/dev/null 2>&1 && "$WORK/asan" >/dev/null 2>&1
}

if asan; then
    both_ways "VMEM_DEBUG, AddressSanitizer" -fsanitize=address use-after-poison "AddressSanitizer: SEGV" env
else
    skip "VMEM_DEBUG, AddressSanitizer" "needs -fsanitize=address"
fi
if have valgrind && echo '#include <valgrind/memcheck.h>' | $CC -E - >/dev/null 2>&1; then
    both_ways "VMEM_DEBUG, valgrind" "" "Invalid write" "Process terminating with default action of signal 11" \
        valgrind -q --error-exitcode=9
else
    skip "VMEM_DEBUG, valgrind" "needs valgrind and its headers"
fi
check "VMEM_DEBUG alone: compiles" build ""
check "VMEM_DEBUG alone: runs" "$WORK/use"

if have "${CXX%% *}"; then
    cp "$WORK/use.c" "$WORK/use.cc"
    # shellcheck disable=SC2086
    cxx() { $CXX -std=c++11 -D_GNU_SOURCE -Wall -Wextra -I"$ROOT/include" -I"$ROOT/c_tests" -c "$WORK/use.cc" -o "$WORK/use_cc.o"; }
    check "VMEM_DEBUG in C++: compiles" cxx
else
    skip "VMEM_DEBUG in C++" "no C++ compiler"
fi
finish
