#!/bin/sh
# What is too long for `make check`: many more power cuts, kills, faults, mutants and executions of the fuzz targets, and everything
# again under sanitizers. The last line has the totals. Half an hour, more or less.
#
# FUZZ_SECONDS (120) is the time of each fuzz target under cargo-fuzz.
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}"
cd "$ROOT" || exit
export DEEP=1 RUST_BACKTRACE=0 TEST_TIMEOUT="${TEST_TIMEOUT:-3600}"

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

echo "== C programs"
RESULTS="" c_tests/run.sh palloc_kill palloc_mutate palloc_faults palloc_threads palloc_fd >"$WORK/c"
sed '$d' "$WORK/c"
read -r p f s <<TOTALS
$(tail -n 1 "$WORK/c" | awk '{ print $1, $3, $5 }')
TOTALS
passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))

# sanitized KIND FLAGS...: the Rust tests, and the C program of threads with a library that is built the same way.
HOST=$($RUSTC -vV | sed -n 's/^host: //p')
sanitized() {
    kind=$1
    shift
    unset DEEP
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$kind" CARGO_TARGET_DIR="$ROOT/target/$kind" SKIP_C_PROGRAMS=1
    # shellcheck disable=SC2086
    $CARGO test $CARGOFLAGS "$@" --target "$HOST" --lib --test fuzz palloc any -- --nocapture
}

# The C programs of threads; the library is built for it, so that the sanitizer sees what is inside.
sanitized_c() {
    unset DEEP
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread" $CARGO rustc -q --lib --crate-type staticlib -Zbuild-std=std,panic_abort --target "$HOST" \
        --release --config 'profile.release.lto=false' --target-dir "$ROOT/target/thread" || return
    for program in palloc_threads palloc_fd; do
        # shellcheck disable=SC2086
        $CC -O1 -g -std=c99 -D_GNU_SOURCE -fsanitize=thread -I"$ROOT/include" "c_tests/$program.c" \
            "$ROOT/target/thread/$HOST/release/libpalloc.a" $LIBS -o "$WORK/$program" || return
        (mkdir -p "$WORK/$program.dir" && cd "$WORK/$program.dir" && TEST_DATA=$ROOT/c_tests/golden "$WORK/$program") || return
    done
}

tests "Rust tests under AddressSanitizer" sanitized address
if [ -d "$($RUSTC --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo "== threads under ThreadSanitizer"
    check "C programs under ThreadSanitizer" sanitized_c
else
    skip "ThreadSanitizer" "needs the sources of Rust's standard library (rustup component add rust-src)"
fi

if "$CARGO" fuzz --version >/dev/null 2>&1; then
    echo "== fuzz targets"
    check "make fuzz" "$MAKE" --no-print-directory fuzz
    grep -hE 'number_of_executed_units' "$WORK/log" | sed 's/^/    /'
else
    skip "fuzz targets" "needs cargo-fuzz (cargo install cargo-fuzz)"
fi
finish
