#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Which lines and branches of src/ the Rust tests, the fuzz corpora and the C programs run: a table by file, in build/coverage/table.md, and
# beside it not-run.txt, the lines that none of them runs. A process that a test kills writes no counts. Needs the LLVM tools of the
# compiler (rustup component add llvm-tools), or llvm-cov-N and llvm-profdata-N of the compiler's LLVM N. About 20 minutes.
#
#   c_tests/coverage.sh [FILTER...]      only the Rust tests whose names contain one of these, and no C program
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}"
cd "$ROOT" || exit
HOST=$($RUSTC -vV | sed -n 's/^host: //p')
COV=$($RUSTC --print sysroot)/lib/rustlib/$HOST/bin/llvm-cov
PROFDATA=${COV%cov}profdata
if [ ! -x "$COV" ]; then
    LLVM=$($RUSTC -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    COV=llvm-cov-$LLVM PROFDATA=llvm-profdata-$LLVM
fi
OUT=$ROOT/build/coverage
if ! command -v "$COV" "$PROFDATA" >/dev/null; then
    skip "coverage" "needs llvm-cov and llvm-profdata of the compiler: rustup component add llvm-tools"
    finish
    exit
fi
rm -rf "$OUT" && mkdir -p "$OUT" || exit

# Branches are an unstable option of the compiler. One file for some processes: they merge into it.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$ROOT/target/coverage" LLVM_PROFILE_FILE="$OUT/%4m.profraw"
export RUSTFLAGS="-Cinstrument-coverage -Zcoverage-options=branch" RUSTDOCFLAGS="-Cinstrument-coverage"
# The other tests compile the library again, or none of it.
tests="--lib --test palloc --test buflib --test fuzz --test memory"
# shellcheck disable=SC2086
$CARGO test $CARGOFLAGS --no-run --message-format=json $tests 2>"$OUT/build.log" |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | sort -u >"$OUT/programs"
[ -s "$OUT/programs" ] || { tail -n 30 "$OUT/build.log"; exit 1; }
# shellcheck disable=SC2086
$CARGO test $CARGOFLAGS --no-fail-fast $tests -- "$@" >"$OUT/tests.log" 2>&1 ||
    echo "Some tests failed: $OUT/tests.log"

if [ $# -eq 0 ]; then
    # The C programs, with a static library that counts too.
    # shellcheck disable=SC2086
    $CARGO rustc $CARGOFLAGS --release --lib --crate-type staticlib >>"$OUT/build.log" 2>&1 || { tail -n 30 "$OUT/build.log"; exit 1; }
    # The part of the library that writes the counts at the end of a program: nothing refers to it.
    export LDFLAGS="-Wl,-u,__llvm_profile_runtime"
    # A program for llvm-cov: it has every function of the library, since that is one object file.
    echo 'int palloc_close(void *); int main(void) { return palloc_close(0); }' >"$WORK/any.c"
    # shellcheck disable=SC2086
    $CC "$WORK/any.c" $LDFLAGS "$CARGO_TARGET_DIR/release/libpalloc.a" $LIBS -o "$OUT/palloc-c" || exit
    echo "$OUT/palloc-c" >>"$OUT/programs"
    (unset RUSTFLAGS RUSTDOCFLAGS RUSTC_BOOTSTRAP CARGO_TARGET_DIR
        TEST_LIB=$ROOT/target/coverage/release KINDS=static c_tests/run.sh) >"$OUT/c_tests.log" 2>&1 ||
        echo "Some C programs failed, which may be due to the counting: $OUT/c_tests.log"
fi

"$PROFDATA" merge -sparse "$OUT"/*.profraw -o "$OUT/all.profdata" || exit
objects=
while read -r program; do
    case $program in
    */palloc-* | */buflib-* | */fuzz-* | */memory-*) objects="$objects $program" ;;
    esac
done <"$OUT/programs"
objects=${objects# }
first=${objects%% *}
more=
for object in ${objects#"$first"}; do more="$more -object $object"; done
# shellcheck disable=SC2086
cov() { # COMMAND
    command=$1
    shift
    "$COV" "$command" "$first" $more -instr-profile="$OUT/all.profdata" \
        -ignore-filename-regex='(/registry/|/rustc/|/tests/[a-z_]*\.rs|tests\.rs|/fuzz/[a-z_]*\.rs|fuzzing\.rs|memory\.rs|sabotage\.rs)' "$@"
}
cov report >"$OUT/report.txt" || exit
cov show -show-branches=count -use-color=0 >"$OUT/lines.txt" || exit
awk -v root="$ROOT/src/" '
    BEGIN { print "| file | lines | not run | % | branches | not run | % |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |" }
    / 100\.00%|[0-9]\.[0-9][0-9]%|-$/ && NF >= 10 && $1 != "Filename" {
        name = $1
        sub(root, "", name)
        sub(/^.*\/src\//, "", name)
        printf "| %s | %d | %d | %.1f | %d | %d | %s |\n", name, $8, $9, $8 ? 100 * ($8 - $9) / $8 : 100, $11, $12,
            $11 ? sprintf("%.1f", 100 * ($11 - $12) / $11) : "-"
    }' "$OUT/report.txt" >"$OUT/table.md"
# FILE:LINE: text, of each line that is not run.
awk '/^\/.*:$/ { file = $0; sub(/^.*\/src\//, "", file); next }
    { split($0, part, "|") }
    part[2] ~ /^ *0$/ { text = $0; sub(/^[^|]*\|[^|]*\|/, "", text); printf "%s%d:%s\n", file, part[1], text }' "$OUT/lines.txt" >"$OUT/not-run.txt"
cat "$OUT/table.md"
