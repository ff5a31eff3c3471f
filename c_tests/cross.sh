#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The tests on other machines and systems, as far as this one has the emulators and compilers. Names each that it skipped, and why. About an hour.
#
#   c_tests/cross.sh [NAME...]    only those: s390x aarch64 i686 windows musl, exchange (media between all of them), check (types)
#
# A machine needs
#   a compiler for C, the one in CARGO_TARGET_<TRIPLE>_LINKER or the usual name on PATH (s390x-linux-gnu-gcc, musl-gcc, ...);
#   an emulator, the command in CARGO_TARGET_<TRIPLE>_RUNNER or the usual name (qemu-s390x, wine64 or wine);
#   Rust's standard library for it (rustup target add TRIPLE), or that library's sources (rustup component add rust-src).
unset TARGET # of the caller
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}"
cd "$ROOT" || exit
only=$*
RESULTS=$WORK/results
TEST_DATA=$ROOT/c_tests/golden
SYSROOT=$($RUSTC --print sysroot)
WINEDEBUG=-all WINEPREFIX=${WINEPREFIX:-$ROOT/build/wine}
# qemu-user keeps a record of every page that was ever mapped. Windows of 4 GiB come and go in the tests: confined, they share pages.
QEMU_RESERVED_VA=${QEMU_RESERVED_VA:-64G}
export RESULTS TEST_DATA WINEDEBUG WINEPREFIX QEMU_RESERVED_VA

MACHINES="s390x aarch64 i686 windows musl"
CHECKED="aarch64-apple-darwin x86_64-apple-darwin aarch64-linux-android x86_64-pc-windows-msvc"

wanted() {
    case " $only " in
    "  " | *" $1 "*) ;;
    *) false ;;
    esac
}

# The value of CARGO_TARGET_<TRIPLE>_$1, where it is set.
of_cargo() { # LINKER|RUNNER
    variable=CARGO_TARGET_$(echo "$TARGET" | tr a-z- A-Z_)_$1
    eval "echo \"\${$variable-}\""
}

first_of() {
    for tool; do
        command -v "$tool" && return
    done
}

# Where the standard library for $TARGET comes from: sets BUILD_STD, or fails.
has_std() {
    BUILD_STD=
    for file in "$SYSROOT/lib/rustlib/$TARGET/lib"/libstd-*.rlib; do
        [ -f "$file" ] && return
    done
    [ -d "$SYSROOT/lib/rustlib/src/rust/library" ] || return
    BUILD_STD=-Zbuild-std=std,panic_unwind,panic_abort,test
    RUSTC_BOOTSTRAP=1 # -Zbuild-std is not stable
    export RUSTC_BOOTSTRAP
}

# Makes this shell one for another machine. `native` leaves all as it is.
become() { # NAME
    prefix='' emulator='' EXEEXT='' RUNNER='' RUST_TESTS=''
    case $1 in
    native) return ;;
    s390x) TARGET=s390x-unknown-linux-gnu prefix=s390x-linux-gnu- emulator=qemu-s390x RUST_TESTS=1 ;;
    aarch64) TARGET=aarch64-unknown-linux-gnu prefix=aarch64-linux-gnu- emulator=qemu-aarch64 ;;
    i686) TARGET=i686-unknown-linux-gnu prefix=i686-linux-gnu- RUST_TESTS=1 ;;
    windows)
        TARGET=x86_64-pc-windows-gnu prefix=x86_64-w64-mingw32- EXEEXT=.exe
        LDFLAGS=-static LIBS="-lkernel32 -lntdll -luserenv -lws2_32 -ldbghelp -lpthread"
        ;;
    musl) TARGET=x86_64-unknown-linux-musl LDFLAGS=-static ;;
    esac
    CC=$(of_cargo LINKER)
    case $1 in
    musl) : "${CC:=$(first_of musl-gcc)}" ;;
    windows) : "${CC:=$(first_of "${prefix}gcc-posix" "${prefix}gcc")}" ;;
    *) : "${CC:=$(first_of "${prefix}gcc")}" ;;
    esac
    [ -n "$CC" ] || { echo "no ${prefix:-musl-}gcc" && return 1; }
    LD=${prefix}ld AR=${prefix}ar NM=${prefix}nm OBJCOPY=${prefix}objcopy LIB=$ROOT/build/$TARGET/lib

    RUNNER=$(of_cargo RUNNER)
    if [ -z "$RUNNER" ] && [ -n "$emulator" ] && [ "$(uname -m)" != "$1" ]; then
        RUNNER=$(first_of "$emulator" "$emulator-static")
        [ -n "$RUNNER" ] || { echo "no $emulator" && return 1; }
        [ ! -d "/usr/${prefix%-}" ] || RUNNER="$RUNNER -L /usr/${prefix%-}"
    elif [ -z "$RUNNER" ] && [ "$1" = windows ]; then
        RUNNER=$(first_of wine64 wine64-stable wine)
        [ -n "$RUNNER" ] || { echo "no wine" && return 1; }
    fi
    case $RUNNER in
    *qemu*) : "${TEST_TIMEOUT=3000}" "${KINDS=static}" ;; # both libraries are made of one object
    *wine*) : "${TEST_TIMEOUT=3000}" ;;
    esac

    has_std || { echo "no standard library for $TARGET (rustup target add $TARGET, or rustup component add rust-src)" && return 1; }
    CARGOFLAGS="$CARGOFLAGS $BUILD_STD"
    echo 'int main(void) { return 0; }' >"$WORK/probe.c"
    # shellcheck disable=SC2086
    if ! $CC "$WORK/probe.c" $LDFLAGS -o "$WORK/probe$EXEEXT" >"$WORK/log" 2>&1 ||
        ! limited $RUNNER "$WORK/probe$EXEEXT" >"$WORK/log" 2>&1; then
        echo "an empty program can't be built and run: $(tail -n 1 "$WORK/log")"
        return 1
    fi
    export TARGET CC LD AR NM OBJCOPY LDFLAGS LIBS RUNNER EXEEXT CARGOFLAGS ${TEST_TIMEOUT+TEST_TIMEOUT} ${KINDS+KINDS}
    export "CARGO_TARGET_$(echo "$TARGET" | tr a-z- A-Z_)_LINKER=$CC"
    [ -z "$RUNNER" ] || export "CARGO_TARGET_$(echo "$TARGET" | tr a-z- A-Z_)_RUNNER=$RUNNER"
}

# The Rust tests, on this machine's words and pages. The C programs have run already.
rust_tests() {
    # shellcheck disable=SC2086
    SKIP_C_PROGRAMS=1 $CARGO test $CARGOFLAGS --target "$TARGET" --lib --tests --no-fail-fast >"$WORK/rust" 2>&1 </dev/null
    status=$?
    awk '/^test .* FAILED$/ || /panicked at/ || /^error/' "$WORK/rust" | head -n 40
    counts=$(awk '/^test result:/ { p += $4; f += $6; s += $8 } END { print p + 0, f + 0, s + 0 }' "$WORK/rust")
    # shellcheck disable=SC2086
    set -- $counts
    passed=$1 failed=$2 skipped=$3
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
    [ "$failed" -eq 0 ] || [ "$passed" -gt 0 ] || tail -n 20 "$WORK/rust"
    add_row "Rust tests"
    finish
}

# Remembers the totals since the last call for the table at the end.
add_row() { # WHAT
    printf '%-28s %-13s %5d passed %3d failed %3d skipped\n' "${TARGET:-native}" "$1" "$passed" "$failed" "$skipped" >>"$WORK/table"
}

# palloc_full fills it on Windows, where it can't mount one itself. (In this namespace: Wine's server opens the files.)
small_disk() {
    mkdir "$WORK/disk" && mount -t tmpfs -o size=1m palloc "$WORK/disk" 2>/dev/null || return
    trap 'umount -l "$SMALL_DISK"' EXIT
    trap 'exit 130' HUP INT TERM
    SMALL_DISK=$WORK/disk
    export SMALL_DISK
}

# A program with the DLL and the import library that `make install` puts into place.
installed_for_windows() (
    "$MAKE" --no-print-directory install DESTDIR="$WORK/there" PREFIX=/p CARGO=false && cd "$WORK/there/p/bin" &&
        PKG_CONFIG_SYSROOT_DIR=$WORK/there PKG_CONFIG_LIBDIR=../lib/pkgconfig pkg-config --cflags --libs palloc >"$WORK/flags" || exit
    # shellcheck disable=SC2046,SC2086
    $CC "$ROOT/examples_c/quickstart.c" $(cat "$WORK/flags") -o quickstart.exe && limited $RUNNER ./quickstart.exe
)

# In a shell of its own, which becomes that machine.
run_machine() { # NAME
    passed=0 failed=0 skipped=0
    why=$(become "$1") || {
        skip "$1" "$why"
        TARGET=$1
        add_row "-"
        finish
        return
    }
    become "$1"
    check "make TARGET=$TARGET" "$MAKE" --no-print-directory all
    if [ "$failed" -eq 0 ]; then
        [ "$1" != windows ] || check "make install for Windows, and a program that uses it" installed_for_windows
        before=$(wc -l <"$RESULTS") made=$passed not_made=$failed
        [ "$1" != windows ] || [ -n "${SMALL_DISK-}" ] || small_disk
        c_tests/run.sh
        c_tests/own_names.sh
        if [ "$(wc -l <"$RESULTS")" -eq $((before + 2)) ]; then
            read -r passed failed skipped <<TOTALS
$(tail -n 2 "$RESULTS" | awk '{ p += $1; f += $2; s += $3 } END { print p, f, s }')
TOTALS
            add_row "C programs"
            passed=$made failed=$not_made skipped=0 # the scripts have reported the rest
        else
            fail "run.sh or own_names.sh stopped before its end"
        fi
    fi
    finish
    [ -z "$RUST_TESTS" ] || [ "$failed" -gt 0 ] || rust_tests
}

build_exchange() { # NAME
    SUPPORT=$WORK/support.$1.a
    become "$1" && $MAKE --no-print-directory all && strict_cc -c c_tests/palloc_exchange.c -o "$WORK/$1.o" && link static "$WORK/$1.o" "$WORK/exchange.$1$EXEEXT"
}

# On machine NAME in a directory: write . | take . SEED
exchange() { # NAME DIRECTORY ARGUMENTS...
    name=$1 directory=$2
    shift 2
    # shellcheck disable=SC2086
    (become "$name" && cd "$directory" && limited $RUNNER "$WORK/exchange.$name$EXEEXT" "$@")
}

# Each machine writes media; they are the same as those of this one. Then they travel: every machine opens them, and leaves them changed.
exchanges() {
    passed=0 failed=0 skipped=0 seed=0 present=''
    for machine in native $MACHINES; do
        why=$(become "$machine") || {
            skip "media of $machine" "$why"
            continue
        }
        (build_exchange "$machine") >"$WORK/log" 2>&1 || {
            fail "palloc_exchange for $machine" "$WORK/log"
            continue
        }
        present="$present $machine"
        mkdir -p "$WORK/media/$machine"
        check "$machine writes media" exchange "$machine" "$WORK/media/$machine" write .
        check "$machine writes the media that this machine writes" diff -r "$WORK/media/native" "$WORK/media/$machine"
    done
    for writer in $present; do
        for taker in $present $writer; do
            seed=$((seed + 1))
            check "$taker takes over the media of $writer" exchange "$taker" "$WORK/media/$writer" take . $seed
        done
    done
    TARGET="media between${present}"
    add_row ""
    finish
}

type_check() {
    for TARGET in $CHECKED; do
        passed=0 failed=0 skipped=0
        if has_std; then
            # shellcheck disable=SC2086
            check "cargo check --target $TARGET" $CARGO check $CARGOFLAGS $BUILD_STD --lib --release --target "$TARGET"
        else
            skip "$TARGET" "no standard library for it (rustup target add $TARGET, or rustup component add rust-src)"
        fi
        add_row "type-checked"
        finish
    done
}

: >"$RESULTS"
check "make" "$MAKE" --no-print-directory all
for machine in $MACHINES; do
    if wanted "$machine"; then
        echo "== $machine"
        (run_machine "$machine")
    fi
done
if wanted exchange; then
    echo "== media exchange"
    (exchanges)
fi
if wanted check; then
    echo "== type checks"
    (type_check)
fi

while read -r p f s; do
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done <"$RESULTS"
echo
cat "$WORK/table"
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
