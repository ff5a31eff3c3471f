#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The macros that files define for vmem.h, in programs of one file and of several, in C and C++, with both libraries: the effect
# of each on an error. All of it compiles without a warning in every standard.
. "$(dirname "$0")/lib.sh"

# Makes errors, in a file that defines nothing; prints "done" at its end.
cat >"$WORK/main.c" <<'C'
#include <stdio.h>
#include <vmem.h>
int main(void)
{
    int good = vmem_reserve(0) == NULL && vmem_align_forward(1, 3) == 0 && !vmem_is_aligned(1, 2);
    void *p = vmem_reserve(1);
    good = good && p != NULL && vmem_release(p, 1);
    puts(good ? "done" : "wrong");
    return !good;
}
C

# source NAME: the file's lines come from standard input.
source_file() {
    cat >"$WORK/$1"
}

# program FLAGS FILES...: main.c with these files, linked with both libraries; $WORK/static and $WORK/shared.
program() {
    flags=$1
    shift
    objects="main.o"
    # shellcheck disable=SC2086
    strict_cc -c "$WORK/main.c" -o "$WORK/main.o" || return
    for file in "$@"; do
        objects="$objects $file.o"
        # shellcheck disable=SC2086
        case $file in
        *.c) strict_cc $flags -c "$WORK/$file" -o "$WORK/$file.o" ;;
        *.cc) $CXX -O2 -std=c++11 $STRICT -I"$ROOT/include" $flags -c "$WORK/$file" -o "$WORK/$file.o" ;;
        esac || return
    done
    # shellcheck disable=SC2086
    (cd "$WORK" && $CC $CFLAGS $objects $LDFLAGS "$LIB/libpalloc.a" $LIBS -o static &&
        $CC $CFLAGS $objects $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB" -o shared)
}

# prints EXPECTED FLAGS FILES...: both programs print that, and nothing on standard error.
prints() {
    printf '%s\n' "$1" >"$WORK/expected"
    shift
    program "$@" || return
    for kind in static shared; do
        "$WORK/$kind" >"$WORK/printed" 2>&1 || return
        diff "$WORK/expected" "$WORK/printed" || return
    done
}

# aborts TEXT FLAGS FILES...: both programs end by assert, which prints that.
aborts() {
    text=$1
    shift
    program "$@" || return
    for kind in static shared; do
        (
            # shellcheck disable=SC3045  # where there is none, a core file is left in WORK
            ulimit -c 0 2>/dev/null
            cd "$WORK" || exit
            "$WORK/$kind" >"$WORK/printed" 2>&1
        )
        status=$?
        if [ "$status" -ne 134 ] || ! grep -q "$text" "$WORK/printed"; then
            echo "status $status"
            cat "$WORK/printed"
            return 1
        fi
    done
}

source_file nothing.c <<'C'
#include <vmem.h>
extern int nothing;
int nothing;
C
source_file plain.c <<'C'
#define VMEM_IMPLEMENTATION
#include <vmem.h>
C
source_file plain.cc <<'C'
#define VMEM_IMPLEMENTATION
#include <vmem.h>
C
source_file on_error.c <<'C'
#include <stdio.h>
#define VMEM_ON_ERROR(msg) printf("error: %s\n", msg)
#define VMEM_IMPLEMENTATION
#include <vmem.h>
C
source_file second.c <<'C'
#include <vmem.h>
#include <stdio.h>
#define VMEM_IMPLEMENTATION
#define VMEM_ON_ERROR(msg) printf("error: %s\n", msg)
#include <vmem.h>
#include <vmem.h>
C
source_file on_error.cc <<'C'
#include <cstdio>
#define VMEM_ON_ERROR(msg) std::printf("error: %s\n", msg); std::fflush(stdout)
#define VMEM_IMPLEMENTATION
#include <vmem.h>
C
source_file ignores.c <<'C'
#define VMEM_ON_ERROR(msg)
#define VMEM_IMPLEMENTATION
#include <vmem.h>
C
source_file assertion.c <<'C'
#include <stdio.h>
#define VMEM_ASSERT(cond) do { if (!(cond)) printf("asserted\n"); } while (0)
#define VMEM_IMPLEMENTATION
#include <vmem.h>
C
source_file everything.c <<'C'
#define VMEM_FUNC static
#define VMEM_INLINE static
#define VMEM_UNUSED
#define VMEM_THREAD_LOCAL
#define VMEM_NO_ERROR_MESSAGES
#define VMEM_NO_AUTO_PLATFORM
#define VMEM_NO_ERROR_CHECKING
#define VMEM_PLATFORM_LINUX
#define VMEM_IMPLEMENTATION
#include <vmem.h>
#ifndef VMEM_H_INCLUDED
#error VMEM_H_INCLUDED
#endif
C
cp "$WORK/everything.c" "$WORK/everything_too.c"
cp "$WORK/plain.c" "$WORK/plain_too.c"

reported="error: vmem_reserve: the size is 0
error: vmem_align_forward: the alignment 3 is not a positive power of two
done"
asserted="asserted
asserted
done"
check "without VMEM_IMPLEMENTATION errors are only returned" prints "done" "" nothing.c
check "VMEM_IMPLEMENTATION alone asserts on the first error" aborts "0 && message" "" plain.c
check "two files with VMEM_IMPLEMENTATION link" aborts "0 && message" "" plain.c plain_too.c
check "under NDEBUG it does nothing" prints "done" "-DNDEBUG" plain.c plain_too.c
check "VMEM_ON_ERROR is called on every error of the program" prints "$reported" "" on_error.c nothing.c
check "VMEM_ON_ERROR is called under NDEBUG too" prints "$reported" "-DNDEBUG" on_error.c
check "VMEM_ON_ERROR may do nothing" prints "done" "" ignores.c
check "VMEM_IMPLEMENTATION works at a second inclusion" prints "$reported" "" second.c
check "VMEM_ASSERT is called on every error, under NDEBUG too" prints "$asserted" "-DNDEBUG" assertion.c
check "VMEM_NO_ERROR_CHECKING installs no handler" prints "done" "-DVMEM_NO_ERROR_CHECKING" plain.c on_error.c
check "every other macro is accepted, in two files" prints "done" "" everything.c everything_too.c
if have "$CXX"; then
    check "VMEM_IMPLEMENTATION alone asserts in C++" aborts "0 && message" "" plain.cc
    check "VMEM_ON_ERROR is called in C++" prints "$reported" "" on_error.cc
    check "a C and a C++ file with VMEM_IMPLEMENTATION link" prints "done" "-DNDEBUG" plain.c plain.cc
fi

# Every inline function and every macro of the header is used here.
cat >"$WORK/use.c" <<'C'
#define VMEM_IMPLEMENTATION
#include <vmem.h>
#ifdef __cplusplus
#define TEXT(p) static_cast<char *>(p)
#else
#define TEXT(p) ((char *)(p))
#endif
int main(void)
{
    VMemGrowArena arena;
    VMemArena old = vmem_arena_init_alloc(100);
    VMemUsageStatus status = vmem_query_usage_status();
    VMemProtect protect = VMemProtect_Read;
    VMemProtect_ name = VMemProtect_Read;
    VMemResult_ result = VMemResult_Success;
    enum VMemProtect_ tag = VMemProtect_COUNT;
    VMemSize mark;
    char *p;
    int good = result == 1 && tag == 7 && name == protect && status.total_physical_bytes != 0;
    good = good && vmem_arena_is_valid(&old) && vmem_arena_calc_bytes_used_for_size(1) == vmem_get_page_size();
    good = good && vmem_align_forward_fast(1, 8) == 8 && vmem_align_backward_fast(9, 8) == 8 && vmem_is_aligned_fast(8, 8);
    good = good && vmem_arena_deinit_dealloc(&old) && vmem_grow_init(&arena, 1000000, VMEM_GROW_GUARD);
    mark = vmem_grow_mark(&arena);
    p = TEXT(vmem_grow_push(&arena, 10, 8));
    good = good && p && vmem_protect(p, 10, protect) && vmem_protect(p, 10, VMemProtect_ReadWrite);
    p = TEXT(vmem_grow_push_zeroed(&arena, 10, 8));
    good = good && p && p[9] == 0 && vmem_grow_pop_to(&arena, mark) && vmem_grow_deinit(&arena);
    return !good;
}
C
cp "$WORK/use.c" "$WORK/use.cc"
# Warnings that C++ programs are compiled with, as far as the compiler knows them.
cxx_warnings() { # COMPILER
    for warning in -Wold-style-cast -Wuseless-cast -Wzero-as-null-pointer-constant; do
        if echo "int one;" | $1 -Werror $warning -x c++ -c - -o "$WORK/one.o" 2>/dev/null; then
            echo $warning
        fi
    done
}
# With VMEM_IMPLEMENTATION a file has all names that it had when the code was in the header.
source_file includes.c <<'C'
#define VMEM_IMPLEMENTATION
#include <vmem.h>
int main(void)
{
    errno = 0;
#ifndef _WIN32
    (void)getpid();
#endif
#ifdef _WIN32
    return GetCurrentProcessId() == 0;
#else
    int one = errno;

    return strlen("a") != 1 || one != 0 || munmap(&one, 0) == 0;
#endif
}
C
cp "$WORK/includes.c" "$WORK/includes.cc"
uses() { # COMPILER STANDARD FILE
    warnings=
    case $3 in
    *.cc) warnings=$(cxx_warnings "$1") ;;
    esac
    # shellcheck disable=SC2086
    $1 -std="$2" -O2 -pedantic-errors $STRICT -Wconversion -Wsign-conversion -Wshadow $warnings -I"$ROOT/include" "$WORK/$3" "$LIB/libpalloc.a" $LIBS -o "$WORK/use" && "$WORK/use"
}
for compiler in "$CC" clang; do
    have "${compiler%% *}" || continue
    for standard in c99 c11 c17; do
        check "vmem.h in use: $compiler -std=$standard" uses "$compiler" $standard use.c
        check "what vmem.h includes: $compiler -std=$standard" uses "$compiler" $standard includes.c
    done
done
for compiler in "$CXX" clang++; do
    have "${compiler%% *}" || continue
    for standard in c++11 c++17 c++20; do
        check "vmem.h in use: $compiler -std=$standard" uses "$compiler" $standard use.cc
        check "what vmem.h includes: $compiler -std=$standard" uses "$compiler" $standard includes.cc
    done
done
finish
