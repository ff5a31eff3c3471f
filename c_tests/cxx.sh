#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# palloc.hpp, with the C++ compilers that are there: its tests (c_tests/cxx) with the static library and exceptions, and with the shared
# library without exceptions; files with and without exceptions in one program; the program at its head; and the same with a prefix.
. "$(dirname "$0")/lib.sh"

case ${TARGET-} in
?*)
    skip "palloc.hpp" "not cross-compiled"
    finish
    exit
    ;;
esac

build() { # COMPILER OUTPUT ARGUMENTS...
    compiler=$1 output=$2
    shift 2
    # shellcheck disable=SC2086
    $compiler $CFLAGS -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $STRICT -Wconversion -pedantic-errors -I"$ROOT/include" "$@" -o "$output"
}

# The program at the head of palloc.hpp.
awk '/^ [*]   #include </ { program = 1 }
    program { line = $0; sub(/^ [*] ? ? ?/, "", line); print line }
    /^ [*]   }$/ { program = 0 }' "$ROOT/include/palloc.hpp" >"$WORK/notes.cc"

tests() { # COMPILER LIBRARY FLAGS...
    compiler=$1 library=$2
    shift 2
    # shellcheck disable=SC2086
    support && build "$compiler" "$WORK/tests" "$@" "$ROOT/c_tests/cxx/palloc_hpp.cc" "$SUPPORT" "$library" -Wl,-rpath,"$LIB" $LIBS || return
    rm -rf "$WORK/empty" && mkdir "$WORK/empty" && cd "$WORK/empty" || return
    limited "$WORK/tests" >"$WORK/tap" || { cat "$WORK/tap"; return 1; }
    grep -q '^1\.\.[1-9]' "$WORK/tap" && ! grep '^not ok' "$WORK/tap"
}

twice() { # PROGRAM...
    (cd "$WORK" && rm -f notes.pba && "$@" && [ "$("$@")" = "one more note
one more note" ])
}

head_program() { # COMPILER
    # shellcheck disable=SC2086
    build "$1" "$WORK/notes" -std=c++17 "$WORK/notes.cc" "$LIB/libpalloc.a" $LIBS && twice ./notes
}

# Each file has its own kind of functions: the first would not end, if the linker took the second's.
both_kinds() { # COMPILER
    cat >"$WORK/throws.cc" <<'CC'
#include <palloc.hpp>
bool opens_quietly();
int main()
{
    try {
        libpalloc::medium absent("absent.pba");
    } catch (const libpalloc::error &) {
        return opens_quietly();
    }
    return 2;
}
CC
    cat >"$WORK/quiet.cc" <<'CC'
#define LIBPALLOC_NO_EXCEPTIONS
#include <palloc.hpp>
#include <palloc.hpp>
bool opens_quietly()
{
    return bool(libpalloc::medium("absent.pba"));
}
CC
    # shellcheck disable=SC2086
    (cd "$WORK" && build "$1" kinds -std=c++17 -O0 throws.cc quiet.cc "$LIB/libpalloc.a" $LIBS && ./kinds)
}

with_prefix() { # COMPILER
    "$ROOT/packaging/prefix.sh" my_ "$WORK/my_include" && sed 's/<palloc/<my_palloc/; s/libpalloc::/my_libpalloc::/g' "$WORK/notes.cc" >"$WORK/my_notes.cc" &&
        build "$1" "$WORK/my_notes.o" -std=c++17 -I"$WORK/my_include" -c "$WORK/my_notes.cc" &&
        $NM -u "$WORK/my_notes.o" >"$WORK/needs" && grep -q 'my_palloc_init$' "$WORK/needs" && ! grep ' p[a-z]*alloc\| vmem_\| buflib_' "$WORK/needs"
}

tried=
for compiler in "$CXX" g++ clang++; do
    # shellcheck disable=SC2086
    have "${compiler%% *}" || continue
    version=$($compiler --version | sed -n '1s/^[^ ]*//p')
    case $tried in *"|$version|"*) continue ;; esac
    tried="$tried|$version|"
    check "palloc.hpp: $compiler, C++17" tests "$compiler" "$LIB/libpalloc.a" -std=c++17
    check "palloc.hpp: $compiler, C++20 without exceptions" tests "$compiler" "$LIB/libpalloc.so" -std=c++20 -fno-exceptions -fno-rtti
    check "palloc.hpp: $compiler, both kinds in one program" both_kinds "$compiler"
    check "palloc.hpp: $compiler, the program at its head" head_program "$compiler"
    check "palloc.hpp: $compiler, with a prefix" with_prefix "$compiler"
done
[ -n "$tried" ] || skip "palloc.hpp" "no C++ compiler"
finish
