# SPDX-License-Identifier: MIT OR Apache-2.0
# Sourced by the scripts beside it: where things are, how a C file is compiled, and how results are counted.
# shellcheck shell=sh

ROOT=$(cd "$(dirname "$0")/.." && pwd)
: "${CC:=cc}" "${CXX:=g++}" "${AR:=ar}" "${CFLAGS=-O2 -g}" "${LDFLAGS=}" "${LIBS=-lpthread -lm -ldl}" "${NM:=nm}" "${MAKE:=make}" "${RUSTC:=rustc}"
LIB=${TEST_LIB:-"$ROOT/build${TARGET:+/$TARGET}/lib"}
STRICT="-Wall -Wextra -Wpedantic -Werror"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/palloc.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' HUP INT TERM

passed=0 failed=0 skipped=0

pass() {
    passed=$((passed + 1))
}

# fail NAME [FILE]: FILE says why.
fail() {
    failed=$((failed + 1))
    echo "not ok - $1"
    if [ -n "${2-}" ]; then
        sed 's/^/    /' "$2"
    fi
}

skip() {
    skipped=$((skipped + 1))
    echo "skipped - $1: $2"
}

# check NAME COMMAND...: passes if the command succeeds; else shows what it printed.
check() {
    name=$1
    shift
    if "$@" >"$WORK/log" 2>&1 </dev/null; then
        pass
    else
        fail "$name" "$WORK/log"
    fi
}

# Whether the command fails and prints a line with TEXT.
reports() { # TEXT COMMAND...
    text=$1
    shift
    if "$@" >"$WORK/report" 2>&1 </dev/null; then return 1; fi
    grep "$text" "$WORK/report" || { cat "$WORK/report"; return 1; }
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Whether programs can be linked with -static: some systems have the static C library in a package of its own.
static_libc() {
    echo 'int main(void) { return 0; }' >"$WORK/static.c"
    # shellcheck disable=SC2086
    $CC -static "$WORK/static.c" $LDFLAGS -o "$WORK/static" >/dev/null 2>&1
}

# Compiles the way C programs of this project are compiled: C99, every warning an error.
strict_cc() {
    # shellcheck disable=SC2086  # flags are lists
    $CC $CFLAGS -std=c99 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $STRICT -I"$ROOT/include" "$@"
}

# Makes $SUPPORT, the library that the C tests share, unless it was made before.
SUPPORT=$WORK/libsupport.a
support() {
    [ -f "$SUPPORT" ] || for part in "$ROOT"/c_tests/support/*.c; do
        object=$WORK/support_$(basename "$part" .c).o
        strict_cc -c "$part" -o "$object" && $AR rcs "$SUPPORT" "$object" || return
    done
}

# link static|shared OBJECT PROGRAM
link() {
    support || return
    # shellcheck disable=SC2086
    case $1-${TARGET-} in
    static-*) $CC $CFLAGS "$2" "$SUPPORT" $LDFLAGS "$LIB/libpalloc.a" $LIBS -o "$3" ;;
    shared-*windows*)
        cp "$LIB/palloc.dll" "$(dirname "$3")" && $CC $CFLAGS "$2" "$SUPPORT" $LDFLAGS "$LIB/libpalloc.dll.a" $LIBS -o "$3"
        ;;
    shared-*) $CC $CFLAGS "$2" "$SUPPORT" $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB" -lpthread -o "$3" ;;
    esac
}

# Runs a program with a time limit, $TEST_TIMEOUT seconds; it counts as killed by SIGTERM beyond.
limited() {
    if have timeout; then
        timeout -k 10 "${TEST_TIMEOUT:-300}" "$@"
    else
        "$@"
    fi
}

# Appends the totals to $RESULTS for check.sh, or prints them if the script was called alone.
finish() {
    if [ -n "${RESULTS-}" ]; then
        echo "$passed $failed $skipped" >>"$RESULTS"
    else
        echo "$passed passed, $failed failed, $skipped skipped"
    fi
    [ "$failed" -eq 0 ]
}
