#!/bin/sh
# How many small changes of the library's code the tests catch. Mutants come from cargo-mutants (`cargo mutants --list`): operators that
# are exchanged, bodies that are replaced by a constant. Of a random sample each is put into a copy of the tree; the Rust tests run, and
# then, if they pass, the C programs of the changed engine.
#
#   c_tests/mutants.sh [PATH...]     only of files whose names begin so: src/vmem, src/palloc/heap.rs
#
# MUTANTS_SECONDS (3600) is when it begins no further mutant, MUTANTS_SEED (1) chooses the sample. Mutants that no test catches are printed
# as patches: someone has to see which of them change nothing that a user could notice, and which lack a test.
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}" "${MUTANTS_SECONDS:=3600}" "${MUTANTS_SEED:=1}"
cd "$ROOT" || exit
if ! "$CARGO" mutants --version >/dev/null 2>&1; then
    skip "mutants" "needs cargo-mutants (cargo install --locked cargo-mutants)"
    finish
    exit
fi

# Nothing of this is compiled here.
OTHER_SYSTEMS='/os/(windows|macos|other)'

# Each mutant in a file of its own, MUTANTS/N: a line that names it, and the patch.
MUTANTS=$WORK/mutants
mkdir "$MUTANTS"
[ $# -gt 0 ] || set -- src
"$CARGO" mutants --list --diff | awk -v dir="$MUTANTS" -v paths="$*" -v other="$OTHER_SYSTEMS" '
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

TREE=$WORK/tree
mkdir "$TREE" && tar -c --exclude=./.git --exclude=./build --exclude=target . | tar -x -C "$TREE"
cd "$TREE" || exit
unset MAKEFLAGS MAKELEVEL RESULTS
export CARGO_TARGET_DIR="$ROOT/target/mutants" KINDS=static TEST_TIMEOUT="${TEST_TIMEOUT:-300}" SKIP_C_PROGRAMS=1 RUST_BACKTRACE=0

# What FILE is a part of: palloc, vmem, buflib, or nothing of these.
engine_of() { # FILE
    case $1 in
    src/palloc/* | src/ffi/palloc*) echo palloc ;;
    src/vmem/* | src/ffi/vmem*) echo vmem ;;
    src/buflib/* | src/ffi/buflib* | src/ffi/core*) echo buflib ;;
    esac
}

# The Rust tests of the engine, beside the code and in tests/.
rust_tests() { # FILE
    case $(engine_of "$1") in
    palloc) set -- palloc:: fuzz memory ;;
    buflib) set -- buflib:: buflib ;;
    vmem) set -- vmem:: ;;
    *) set -- "" fuzz memory buflib ;;
    esac
    # shellcheck disable=SC2086
    limited $CARGO test $CARGOFLAGS -q --lib "$1" || return
    shift
    # shellcheck disable=SC2086
    for target; do limited $CARGO test $CARGOFLAGS -q --test "$target" || return; done
}

# The C programs of the engine.
programs_of() { # FILE
    engine=$(engine_of "$1")
    for program in c_tests/"$engine"*.c c_tests/core_alloc.c; do
        case $engine-$program in
        palloc-*core_alloc.c | vmem-*core_alloc.c) ;;
        *) basename "$program" .c ;;
        esac
    done
}

c_programs() { # FILE
    "$MAKE" --no-print-directory all || return
    for program in $(programs_of "$1"); do c_tests/run.sh "$program" || return; done
}

# compiles | caught | missed, for the tree as it is after a change of FILE.
try() { # FILE
    # shellcheck disable=SC2086
    if ! $CARGO test $CARGOFLAGS -q --no-run --lib >"$WORK/log" 2>&1; then
        echo "does not compile"
    elif ! rust_tests "$1" >"$WORK/log" 2>&1 </dev/null; then
        echo "caught by the Rust tests"
    elif ! c_programs "$1" >"$WORK/log" 2>&1 </dev/null; then
        echo "caught by a C program"
    else
        echo "not caught"
    fi
}

echo "== without a mutant"
first=$(head -n 1 "$MUTANTS/1") # of PATH's files, if there is a PATH
[ "$*" != src ] || first=src/lib.rs
verdict=$(try "${first%%:*}")
if [ "$verdict" != "not caught" ]; then
    fail "the tests of the tree as it is: $verdict" "$WORK/log"
    finish
    exit
fi
pass

echo "== $total mutants, a sample with seed $MUTANTS_SEED, for $MUTANTS_SECONDS seconds"
caught=0 missed=0 useless=0
end=$(($(date +%s) + MUTANTS_SECONDS))
# (Not with awk's rand(), which every awk has its own of.)
awk -v n="$total" -v x="$MUTANTS_SEED" 'BEGIN { for (i = 1; i <= n; i++) { x = x * 16807 % 2147483647; printf "%010d %d\n", x, i } }' |
    sort >"$WORK/order"
while read -r _ n; do
    [ "$(date +%s)" -lt "$end" ] || break
    file=$(sed -n '1s/:.*//p' "$MUTANTS/$n")
    cp "$file" "$WORK/original"
    sed 1d "$MUTANTS/$n" | patch -s "$file" || break
    verdict=$(try "$file")
    case $verdict in
    "does not compile") useless=$((useless + 1)) ;;
    caught*) caught=$((caught + 1)) ;;
    *)
        missed=$((missed + 1))
        sed 's/^/    /' "$MUTANTS/$n"
        ;;
    esac
    echo "$verdict - $(head -n 1 "$MUTANTS/$n")"
    cp "$WORK/original" "$file"
done <"$WORK/order"
echo
echo "$caught mutants caught, $missed not caught, $useless do not compile"
[ "$((caught + missed))" -gt 0 ]
