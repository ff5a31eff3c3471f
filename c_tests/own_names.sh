#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Programs that define functions with exported names: a core_alloc.c of their own, say, or functions called like those of vmem.h in a
# program of palloc.h. They link with the static library; the library calls its own functions, and the programs theirs.
#
#   c_tests/own_names.sh [NAME...]     only those of the programs
#
# The programs are some of c_tests/; their own functions end them. On Windows a program that uses one name of a header gets all of them.
. "$(dirname "$0")/lib.sh"
: "${EXEEXT=}"
TEST_DATA=$ROOT/c_tests/golden
export TEST_DATA
"$ROOT/packaging/exports.sh" >"$WORK/exports"

# The header that an exported name is of: what it has to be beside on Windows.
header() {
    sed 's/^rockbox_\([a-z]*\)_.*/& rockbox_\1/; t; s/^palloc_fd_.*/& fd/; t; s/^vmem_.*/& vmem/; t; s/^buflib_.*/& buflib/; t; s/^core_.*/& core/; t; s/.*/& palloc/'
}

# own_names PROGRAM: the exported names that it does not use.
own_names() {
    $NM -u "$WORK/$1.o" | awk '{ print $NF }' | sort | comm -12 - "$WORK/exports" >"$WORK/used"
    [ -s "$WORK/used" ] || return
    case ${TARGET-} in
    *windows*)
        header <"$WORK/used" | awk '{ print $2 }' >"$WORK/headers"
        header <"$WORK/exports" | awk 'NR == FNR { used[$1]; next } !($2 in used) { print $1 }' "$WORK/headers" -
        ;;
    *) comm -13 "$WORK/used" "$WORK/exports" ;;
    esac
}

with_own_names() { # PROGRAM
    # shellcheck disable=SC2086  # flags are lists
    strict_cc -c "$ROOT/c_tests/$1.c" -o "$WORK/alone.o" && support && $CC $CFLAGS -r -nostdlib "$WORK/alone.o" "$SUPPORT" -o "$WORK/$1.o" &&
        own_names "$1" >"$WORK/own" && [ -s "$WORK/own" ] || return
    {
        echo '#include <stdlib.h>'
        echo '#include <stdio.h>'
        while read -r own; do
            echo "void $own(void);"
            echo "void $own(void) { puts(\"Bail out! $own of the program was called\"); exit(99); }"
        done <"$WORK/own"
    } >"$WORK/own.c"
    # shellcheck disable=SC2086
    strict_cc -fno-builtin -c "$WORK/own.c" -o "$WORK/own.o" &&
        $CC $CFLAGS "$WORK/$1.o" "$WORK/own.o" $LDFLAGS "$LIB/libpalloc.a" $LIBS -o "$WORK/$1$EXEEXT" || return
    # shellcheck disable=SC2086
    mkdir "$WORK/$1.dir" && (cd "$WORK/$1.dir" && limited ${RUNNER-} "$WORK/$1$EXEEXT")
}

# The program's own definition is what the program calls, from another file too.
cat >"$WORK/wins.c" <<'C'
#include <palloc.h>
int core_alloc(int n);
int vmem_commit(void);
int core_alloc(int n) { return n + 1; }
int main(void)
{
    struct palloc_t *pt = palloc_init("own.pba", PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 4);
    palloc_close(pt);
    return ptr == 16 && core_alloc(4) == 5 && vmem_commit() == 77 ? 0 : 1;
}
C
cat >"$WORK/other.c" <<'C'
int vmem_commit(void);
int vmem_commit(void) { return 77; }
C
program_wins() {
    case ${TARGET-} in
    *windows*) set -- wins.o other.o "$LIB/libpalloc.a" ;; # there the first definition counts
    *) set -- wins.o "$LIB/libpalloc.a" other.o ;;
    esac
    # shellcheck disable=SC2086
    (cd "$WORK" && strict_cc -c wins.c && strict_cc -c other.c && $CC $CFLAGS $LDFLAGS "$@" $LIBS -o wins$EXEEXT &&
        limited ${RUNNER-} ./wins$EXEEXT)
}

check "a program calls its own function, not the library's of that name" program_wins
[ $# -gt 0 ] || set -- core_alloc buflib_model vmem_arena palloc_model palloc_golden version
for program; do
    check "$program, with all other names its own" with_own_names "$program"
done
finish
