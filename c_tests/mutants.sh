#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Counts the small changes of the code (mutants) that make a test fail. They come from cargo-mutants (`cargo mutants --list`): operators that
# are exchanged, bodies that are replaced by a constant. Of a random sample each is put into a copy of the tree; the Rust tests run, and
# then, if they pass, the C programs of the changed engine.
#
#   c_tests/mutants.sh [PATH...]     only of files whose names begin so: src/vmem, src/palloc/heap.rs
#
# After MUTANTS_SECONDS (3600) no further mutant is begun. MUTANTS_SEED (1) chooses the sample. MUTANTS_ONLY is a regular expression:
# only mutants whose names match. Everything is in build/mutants: the copy of the tree, and results, a line for each mutant. With
# MUTANTS_RESUME=1 the mutants that are listed there are counted, and not tried again. Mutants that no test catches are printed as patches:
# someone has to decide which of them change nothing that a user could notice, and which lack a test.
#
# A mutant costs a compilation without optimization that reuses most of the last one, and the tests up to the first that fails: the C
# programs are compiled once, and linked with the library of that compilation. TEST_TIMEOUT (300) limits each C program and each run of Rust
# tests, but no compilation.
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}" "${MUTANTS_SECONDS:=3600}" "${MUTANTS_SEED:=1}" "${MUTANTS_ONLY=.}" "${MUTANTS_RESUME=}"
cd "$ROOT" || exit
if ! "$CARGO" mutants --version >/dev/null 2>&1; then
    skip "mutants" "needs cargo-mutants (cargo install --locked cargo-mutants)"
    finish
    exit
fi

# Files of other systems, which are not compiled here, and those for tests and fuzz targets only.
LEFT_OUT='/os/(windows|macos|other|live_windows)|/(fuzzing|memory|sabotage|random)[.]rs|/tests[/.]'

# Each mutant in a file of its own, MUTANTS/N: a line that names it, and the patch.
MUTANTS=$WORK/mutants
mkdir "$MUTANTS"
[ $# -gt 0 ] || set -- src
"$CARGO" mutants --list --diff | awk -v dir="$MUTANTS" -v paths="$*" -v other="$LEFT_OUT" '
    BEGIN { count = split(paths, path, " ") }
    /^src\/[^ ]*:[0-9]+:[0-9]+: / {
        if (file != "") close(file)
        file = ""
        for (i = 1; i <= count; i++)
            if (index($0, path[i]) == 1 && $0 !~ other) file = dir "/" ++n
    }
    file != "" { print >file }'
total=$(find "$MUTANTS" -type f | wc -l)
if [ "$total" -eq 0 ]; then
    fail "there are mutants of $*"
    finish
    exit
fi

PLACE=$ROOT/build/mutants
TREE=$PLACE/tree
rm -rf "$TREE"
mkdir -p "$TREE" && tar -c --exclude=./.git --exclude=./build --exclude=./target . | tar -x -C "$TREE"
cd "$TREE" || exit
[ -n "$MUTANTS_RESUME" ] || rm -f "$PLACE/results"
touch "$PLACE/results"
unset MAKEFLAGS MAKELEVEL RESULTS
TEST_DATA=$TREE/c_tests/golden
export CARGO_TARGET_DIR="$ROOT/target/mutants" TEST_DATA TEST_TIMEOUT="${TEST_TIMEOUT:-300}" SKIP_C_PROGRAMS=1 RUST_BACKTRACE=0

# The engine that FILE is a part of: palloc, vmem, buflib, or none.
engine_of() { # FILE
    case $1 in
    src/palloc/* | src/ffi/palloc*) echo palloc ;;
    src/vmem/* | src/ffi/vmem*) echo vmem ;;
    src/buflib/* | src/ffi/buflib* | src/ffi/core*) echo buflib ;;
    *) echo ;;
    esac
}

# Those that take longest; they come last.
LONG="between_two_syncs every_image_of_a_power_cut a_power_cut_in_any_transaction a_power_cut_while_a_sync a_power_cut_after_growth
every_short_sequence_with_transactions"

# What a stage returns if the tree does not compile with the mutant.
NOT_COMPILED=90

# Rust tests of one target. Only the run is limited: on a busy machine a compilation may take longer, which says nothing about the mutant.
rust_target() { # --lib|--test=NAME [FILTER...]
    # shellcheck disable=SC2086
    $CARGO $RUN_TESTS $CARGOFLAGS --no-run "$1" || return $NOT_COMPILED
    # shellcheck disable=SC2086
    limited $CARGO $RUN_TESTS $CARGOFLAGS "$@"
}

# The other Rust tests of the engine, beside the code and in tests/. nextest stops at the first failure.
rust_tests() { # FILE
    case $(engine_of "$1") in
    palloc) set -- palloc:: fuzz memory palloc ;;
    buflib) set -- buflib:: buflib ;;
    vmem) set -- vmem:: ;;
    *) set -- "" fuzz memory palloc buflib ;;
    esac
    skips=""
    for name in $LONG; do skips="$skips --skip $name"; done
    # shellcheck disable=SC2086
    rust_target --lib "$1" -- $skips || return
    shift
    for target; do rust_target "--test=$target" || return; done
}

long_tests() { # FILE
    case $(engine_of "$1") in buflib | vmem) return ;; esac
    for name in $LONG; do rust_target --lib "$name" || return; done
}

if "$CARGO" nextest --version >/dev/null 2>&1; then
    RUN_TESTS="nextest run --color never"
else
    RUN_TESTS="test -q"
fi

# The C programs of the engine, those first that run quickly.
programs_of() { # FILE
    engine=$(engine_of "$1")
    for program in "$TREE"/c_tests/"$engine"*.c "$TREE"/c_tests/core_alloc.c; do
        program=$(basename "$program" .c)
        case $engine-$program in
        palloc-core_alloc | vmem-core_alloc) ;;
        *) [ -f "$WORK/$program.unusable" ] || echo "$(cat "$WORK/$program.seconds" 2>/dev/null || echo 0) $program" ;;
        esac
    done | sort -n | cut -d ' ' -f 2
}

# Runs a C program with the library; its object is made once.
c_program() { # PROGRAM
    support || return
    object=$WORK/$1.o
    [ -f "$object" ] || strict_cc -c "$TREE/c_tests/$1.c" -o "$object" || return
    # shellcheck disable=SC2086
    $CC $CFLAGS "$object" "$SUPPORT" $LDFLAGS "$CARGO_TARGET_DIR/debug/libpalloc.a" $LIBS -o "$WORK/program" || return
    rm -rf "$WORK/dir"
    mkdir "$WORK/dir"
    began=$(date +%s)
    (cd "$WORK/dir" && limited "$WORK/program") || return
    echo $(($(date +%s) - began)) >"$WORK/$1.seconds"
}

c_programs() { # FILE
    # shellcheck disable=SC2086
    $CARGO rustc $CARGOFLAGS -q --lib --crate-type staticlib || return $NOT_COMPILED
    for program in $(programs_of "$1"); do c_program "$program" || return; done
}

# The verdict on the tree as it is after a change of FILE. A mutant of which a test did not end in time counts as caught, and says so: it may
# have made a loop endless, but a machine that is too busy, or that paused the test, looks like that too.
try() { # FILE
    for stage in rust_tests c_programs long_tests; do
        status=0
        "$stage" "$1" >"$WORK/log" 2>&1 </dev/null || status=$?
        [ $status -ne 0 ] || continue
        case $stage in
        rust_tests) by="the Rust tests" ;;
        c_programs) by="a C program" ;;
        long_tests) by="the long Rust tests" ;;
        esac
        case $status in
        "$NOT_COMPILED") echo "does not compile" ;;
        124 | 137) echo "caught by the time limit of $by" ;;
        *) echo "caught by $by" ;;
        esac
        return
    done
    echo "not caught"
}

# All tests that a mutant can come to pass without one; else they would catch every mutant. A run that is resumed has seen the Rust tests
# pass. C programs that need the optimized library are left out.
echo "== without a mutant"
awk 'FNR == 1 { sub(/:.*/, ""); print }' "$MUTANTS"/* | sort -u >"$WORK/files"
read -r first <"$WORK/files"
engines=$(while read -r file; do engine_of "$file"; done <"$WORK/files" | sort -u | wc -l)
[ "$engines" -eq 1 ] || first=src/lib.rs # which all tests are for
if [ -z "$MUTANTS_RESUME" ]; then
    { rust_tests "$first" && long_tests "$first"; } >"$WORK/log" 2>&1 </dev/null || fail "the Rust tests of the tree as it is" "$WORK/log"
fi
# shellcheck disable=SC2086
check "cargo rustc" "$CARGO" rustc $CARGOFLAGS -q --lib --crate-type staticlib
[ "$failed" -eq 0 ] || {
    finish
    exit
}
for program in $(programs_of "$first"); do
    c_program "$program" >"$WORK/log" 2>&1 </dev/null || {
        skip "$program" "fails without optimization and without a mutant: $(grep -m 1 '^not ok' "$WORK/log")"
        touch "$WORK/$program.unusable"
    }
done

echo "== $total mutants, a sample with seed $MUTANTS_SEED, for $MUTANTS_SECONDS seconds"
end=$(($(date +%s) + MUTANTS_SECONDS))
# (Not with awk's rand(), which every awk has its own of.)
awk -v n="$total" -v x="$MUTANTS_SEED" 'BEGIN { for (i = 1; i <= n; i++) { x = x * 16807 % 2147483647; printf "%010d %d\n", x, i } }' |
    sort >"$WORK/order"
while read -r _ n; do
    [ "$(date +%s)" -lt "$end" ] || break
    name=$(head -n 1 "$MUTANTS/$n")
    echo "$name" | grep -q -e "$MUTANTS_ONLY" || continue
    ! grep -q -F -e " - $name" "$PLACE/results" || continue
    file=${name%%:*}
    cp "$file" "$WORK/original"
    sed 1d "$MUTANTS/$n" | patch -s "$file" || break
    verdict=$(try "$file")
    cp "$WORK/original" "$file"
    [ "$verdict" != "not caught" ] || sed 's/^/    /' "$MUTANTS/$n"
    echo "$verdict - $name" | tee -a "$PLACE/results"
done <"$WORK/order"
echo
awk '/^does not compile/ { useless++ } /^caught/ { caught++ } /^caught by the time limit/ { late++ } /^not caught/ { missed++ }
    END { printf "%d mutants caught (%d of them by a time limit), %d not caught, %d do not compile\n", caught, late, missed, useless
          exit caught + missed == 0 }' "$PLACE/results"
