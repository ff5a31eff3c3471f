#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# packaging/palloc-gdb.py: gdb shows the public structs in a readable form.
. "$(dirname "$0")/lib.sh"

cat >"$WORK/debugged.c" <<'C'
#include <buflib.h>
#include <palloc.h>
#include <vmem.h>

static char buffer[4096];
static struct buflib_context pool, no_pool;

static void stop(struct palloc_t *pt, VMemArena *arena, VMemGrowArena *grown) { (void)pt, (void)arena, (void)grown; }

int main(void)
{
    struct palloc_t *pt = palloc_init("debugged.pba", PALLOC_DYNAMIC);
    VMemArena arena = vmem_arena_init_alloc(1 << 20);
    VMemGrowArena grown;
    int first, second;

    (void)no_pool;
    buflib_init(&pool, buffer, sizeof buffer);
    first = buflib_alloc(&pool, 100);
    second = buflib_alloc(&pool, 200);
    buflib_free(&pool, first);
    if (pt == NULL || palloc(pt, 100) == 0 || second != 2 || !vmem_arena_set_commited(&arena, 4096) || !vmem_grow_init(&grown, 1 << 20, 0) ||
        vmem_grow_push(&grown, 10, 1) == NULL)
        return 1;
    stop(pt, &arena, &grown);
    palloc_close(pt);
    return 0;
}
C

prints() {
    # shellcheck disable=SC2086
    (cd "$WORK" && $CC -g -O0 -I"$ROOT/include" debugged.c $LDFLAGS "$LIB/libpalloc.a" $LIBS -o debugged && limited gdb -nx -batch \
        -ex "source $ROOT/packaging/palloc-gdb.py" -ex 'break stop' -ex run -ex 'print *pt' -ex 'print *arena' -ex 'print *grown' \
        -ex 'print pool' -ex 'print no_pool' ./debugged) >"$WORK/printed" 2>&1
    cat "$WORK/printed"
    grep -q "^\$1 = medium '.*/debugged.pba', PALLOC_DYNAMIC, 136 bytes, first free block 0\$" "$WORK/printed" &&
        grep -q '^[$]2 = arena at 0x[0-9a-f]*, 4096 of 1048576 bytes committed$' "$WORK/printed" &&
        grep -q '^[$]3 = arena at 0x[0-9a-f]*, 10 bytes in use, 65536 committed, 1048576 reserved$' "$WORK/printed" &&
        grep -q '^[$]4 = pool of 4096 bytes at 0x[0-9a-f]*, 1 blocks = {\[2\] = 0x[0-9a-f]* <buffer+[0-9]*>}$' "$WORK/printed" &&
        grep -q '^[$]5 = no pool$' "$WORK/printed"
}

# (In some sandboxes gdb can't trace.)
if [ -n "${TARGET-}" ]; then
    skip "gdb" "not cross-compiled"
elif ! have gdb || ! gdb -nx -batch -ex 'python import gdb.printing' -ex run true >"$WORK/log" 2>&1 || ! grep -q "exited normally" "$WORK/log"; then
    skip "gdb" "no gdb with Python that can run a program"
else
    check "gdb prints a medium, a pool and arenas" prints
fi
finish
