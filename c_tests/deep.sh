#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Tests that are too long for `make check`: many more power cuts, kills, faults, mutants and executions of the fuzz targets; each part of
# each C program alone; palloc's Rust tests under AddressSanitizer, the C programs with threads under ThreadSanitizer; two minutes of
# power.sh; the source archive and the packages made of it (dist.sh). The last line has the totals. About half an hour.
#
# FUZZ_SECONDS (120) is the time of each fuzz target under libFuzzer.
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}"
cd "$ROOT" || exit
# With 3000 or more, the programs would try fewer cases (tap_every), as on a slow machine.
export DEEP=1 RUST_BACKTRACE=0 TEST_TIMEOUT="${TEST_TIMEOUT:-2999}"

# tests NAME COMMAND...: counts cargo's tests; prints what they say about how much was done.
tests() {
    name=$1
    shift
    echo "== $name"
    "$@" >"$WORK/log" 2>&1 </dev/null
    status=$?
    p=$(awk '/^test result:/ { n += $4 } END { print n + 0 }' "$WORK/log")
    f=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$WORK/log")
    grep -E '(opened|executions)' "$WORK/log" | grep -v '^test' | sed 's/^/    /'
    passed=$((passed + p))
    [ "$status" -eq 0 ] || [ "$f" -gt 0 ] || f=1
    failed=$((failed + f))
    [ "$f" -eq 0 ] || tail -n 60 "$WORK/log" | sed 's/^/    /'
}

# shellcheck disable=SC2086  # flags are lists
cargo_test() {
    $CARGO test $CARGOFLAGS "$@" -- --nocapture
}

check "make" "$MAKE" --no-print-directory all
tests "power cuts, kills, faults in memory" cargo_test --lib palloc
tests "mutants of the fuzz corpus" cargo_test --test fuzz
if "$CARGO" fetch --locked --manifest-path models/Cargo.toml >/dev/null 2>&1; then
    tests "slots of readers and caches of threads under loom" cargo_test --manifest-path models/Cargo.toml --target-dir "$ROOT/target/models"
else
    skip "slots of readers and caches of threads under loom" "needs the crate loom"
fi

echo "== C programs"
# Prints what run.sh left in $WORK/c, and adds its totals.
add_totals() {
    sed '$d' "$WORK/c"
    read -r p f s <<TOTALS
$(tail -n 1 "$WORK/c" | awk '{ print $1, $3, $5 }')
TOTALS
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

RESULTS="" c_tests/run.sh palloc_kill palloc_mutate palloc_faults palloc_threads palloc_fd palloc_shared_stress >"$WORK/c"
add_totals

# Each part of each program alone: it passes without the parts before it.
parts() {
    for source in c_tests/*.c; do
        sed -n "s/^ *PART(\([a-z_0-9]*\)(.*/$(basename "$source" .c):\1/p" "$source" | sort -u
    done
}
echo "== C programs, part by part"
# shellcheck disable=SC2046
DEEP="" KINDS=static RESULTS="" c_tests/run.sh $(parts) >"$WORK/c"
add_totals

# The Rust tests of palloc, and the fuzz corpus. Unstable options need RUSTC_BOOTSTRAP.
HOST=$($RUSTC -vV | sed -n 's/^host: //p')
with_address_sanitizer() {
    # shellcheck disable=SC2086
    DEEP="" RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR="$ROOT/target/address" \
        $CARGO test $CARGOFLAGS --target "$HOST" --lib --test fuzz -- --nocapture palloc any_
}

# The C programs with threads. The library and Rust's standard library are built for it; the sanitizer's runtime is Rust's.
with_thread_sanitizer() {
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread" $CARGO rustc -q --lib --crate-type staticlib -Zbuild-std=std,panic_abort --target "$HOST" \
        --release --config 'profile.release.lto=false' --target-dir "$ROOT/target/thread" || return
    # Of palloc_shared_stress, the part in which all are threads of one process.
    for program in palloc_threads palloc_fd palloc_shared_stress; do
        part="" wrap=""
        [ "$program" != palloc_shared_stress ] || part=threads wrap="-Wl,--wrap=mmap,--wrap=mmap64,--wrap=munmap"
        for source in "c_tests/$program.c" c_tests/support/*.c; do
            # shellcheck disable=SC2086
            $CC -O1 -g -std=c99 -D_GNU_SOURCE -fsanitize=thread -I"$ROOT/include" -c "$source" -o "$WORK/thread_$(basename "$source" .c).o" || return
        done
        # shellcheck disable=SC2086
        $CXX -no-pie $wrap "$WORK"/thread_*.o "$ROOT/target/thread/$HOST/release/libpalloc.a" -Wl,--whole-archive \
                "$SYSROOT/lib/rustlib/$HOST/lib"/librustc*_rt.tsan.a -Wl,--no-whole-archive $LIBS -o "$WORK/$program" || return
        rm "$WORK/thread_$program.o"
        (mkdir -p "$WORK/$program.dir" && cd "$WORK/$program.dir" && TEST_DATA=$ROOT/c_tests/golden TEST_PART=$part "$WORK/$program") || return
    done
}

RESULTS="" c_tests/sabotage.sh >"$WORK/c"
add_totals

tests "Rust tests under AddressSanitizer" with_address_sanitizer
SYSROOT=$($RUSTC --print sysroot)
if [ -d "$SYSROOT/lib/rustlib/src/rust/library" ]; then
    echo "== threads under ThreadSanitizer"
    check "C programs under ThreadSanitizer" with_thread_sanitizer
else
    skip "ThreadSanitizer" "needs the sources of Rust's standard library (rustup component add rust-src)"
fi

if "$CARGO" fetch --locked --manifest-path fuzz/Cargo.toml >/dev/null 2>&1; then
    echo "== fuzz targets"
    check "make fuzz" "$MAKE" --no-print-directory fuzz
    sed 's/^/    /' build/fuzz/table.md
else
    skip "fuzz targets" "needs the crate libfuzzer-sys"
fi

RESULTS="" POWER_SECONDS="${POWER_SECONDS:-120}" c_tests/power.sh >"$WORK/power"
sed '$d' "$WORK/power"
read -r p f s <<TOTALS
$(tail -n 1 "$WORK/power" | awk '{ print $1, $3, $5 }')
TOTALS
passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))

echo "== source archive and packages"
RESULTS="" c_tests/dist.sh >"$WORK/dist"
sed '$d' "$WORK/dist"
read -r p f s <<TOTALS
$(tail -n 1 "$WORK/dist" | awk '{ print $1, $3, $5 }')
TOTALS
passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
finish
