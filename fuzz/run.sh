#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the fuzz targets with libFuzzer, and ends with a table of them. `make` has built the library.
#
#   fuzz/run.sh [TARGET...]     those, or all, FUZZ_SECONDS (120) each; more options of libFuzzer in FUZZ_FLAGS
#   fuzz/run.sh replay          the corpora of the targets in C, which no Rust test runs, without libFuzzer
#
# New inputs are kept in build/fuzz/TARGET, inputs that crashed in build/fuzz/crashes. Add one of these to fuzz/corpus/TARGET, under a name
# that describes it: the tests replay it then.
#
# The targets in memory run without what slows them down: AddressSanitizer, and hints about compared numbers. `--cfg fuzzing` lets media
# grow by less, too; those in files grow as they do for users. media runs without checks of overflows, which bytes has, and counts blocks, not
# edges: libFuzzer looks at each counter after each execution. With any sanitizer the compiler options are not stable: RUSTC_BOOTSTRAP makes
# a stable compiler accept them.
cd "$(dirname "$0")/.." || exit
ROOT=$PWD
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}" "${RUSTC:=rustc}" "${CLANG:=clang}" "${FUZZ_SECONDS:=120}" "${FUZZ_FLAGS=}" "${LIBS=-lpthread -lm -ldl}"
OUT=$ROOT/build/fuzz
HOST=$($RUSTC -vV | sed -n 's/^host: //p')
ALL="media transactions records intervals vmem bytes operations salvage buflib inline later tool"
[ $# -gt 0 ] || eval "set -- $ALL"
mkdir -p "$OUT/crashes" "$OUT/c" || exit
if [ "$*" = replay ]; then
    for name in inline later tool; do
        # shellcheck disable=SC2086
        ${CC:-cc} -std=gnu11 -O1 -g -Wall -Wextra -Werror -DREPLAY -Iinclude "fuzz/$name.c" build/lib/libpalloc.a $LIBS -o "$OUT/replay" ||
            exit
        "$OUT/replay" "fuzz/corpus/$name"/* >/dev/null 2>"$OUT/replay.log" || {
            cat "$OUT/replay.log"
            exit 1
        }
    done
    exit
fi

# glibc keeps this many freed blocks of each size at hand.
export GLIBC_TUNABLES=glibc.malloc.tcache_count=1000

kind() {
    case $1 in
    media) echo fast ;;
    transactions | records | intervals | vmem) echo plain ;;
    inline | later | tool) echo c ;;
    *) echo address ;;
    esac
}

corpus() {
    case $1 in
    media | salvage) echo fuzz/corpus/bytes ;;
    *) echo "fuzz/corpus/$1" ;;
    esac
}

# Where an execution takes microseconds, libFuzzer's search for shorter inputs costs more than it gives.
options() {
    case $1 in
    media) echo "-dict=fuzz/palloc.dict -max_len=256 -reduce_inputs=0" ;;
    salvage | bytes) echo "-dict=fuzz/palloc.dict" ;;
    tool) echo "-dict=fuzz/palloc.dict -close_fd_mask=3" ;;
    intervals) echo "-max_len=200 -reduce_inputs=0" ;;
    esac
}

program() {
    case $(kind "$1") in
    c) echo "$OUT/c/$1" ;;
    *) echo "$OUT/$(kind "$1")/$HOST/release/$1" ;;
    esac
}

# Builds the targets that are wanted of one kind.
build() { # KIND NAMES...
    level=4
    [ "$1" != fast ] || level=2
    flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=$level -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
    flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1 -Cdebug-assertions"
    case $1 in
    fast) flags="$flags --cfg fuzzing -Coverflow-checks=off" ;;
    plain) flags="$flags --cfg fuzzing" ;;
    address) flags="$flags -Zsanitizer=address -Cllvm-args=-sanitizer-coverage-trace-compares" ;;
    c)
        shift
        for name; do
            # shellcheck disable=SC2086
            $CLANG -std=gnu11 -O1 -g -Wall -Wextra -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Iinclude \
                "fuzz/$name.c" build/lib/libpalloc.a $LIBS -o "$OUT/c/$name" || return
        done
        return
        ;;
    esac
    targets=$OUT/$1
    shift
    bins=
    for name; do bins="$bins --bin $name"; done
    # shellcheck disable=SC2086
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags $CARGO build $CARGOFLAGS -q --release --manifest-path fuzz/Cargo.toml --target "$HOST" \
        --target-dir "$targets" $bins
}

# How many inputs of this target crashed. One that only was slow, as any is on a busy machine, does not count.
crashes_of() { # NAME
    find "$OUT/crashes" -name "$1-*" ! -name "*-slow-unit-*" | wc -l
}

stat_of() { # NAME LOG
    sed -n "s/^stat::$1: *//p" "$2" | tail -n 1
}

for wanted in fast plain address c; do
    names=
    for name; do
        [ "$(kind "$name")" != $wanted ] || names="$names $name"
    done
    # shellcheck disable=SC2086
    if [ $wanted = c ] && [ -n "$names" ] && ! command -v "$CLANG" >/dev/null; then
        echo "skipped:$names: no $CLANG"
    elif [ -n "$names" ]; then
        build $wanted $names || exit
    fi
done

table=$OUT/table.md
printf '%s\n' "| target | executions | a CPU second | edges | inputs | crashes |" "| --- | ---: | ---: | ---: | ---: | ---: |" >"$table"
status=0
for name; do
    program=$(program "$name") log=$OUT/$name.log
    [ -x "$program" ] || continue
    echo "== $name"
    mkdir -p "$OUT/$name" "$(corpus "$name")"
    options=$(options "$name")
    before=$(crashes_of "$name")
    # shellcheck disable=SC2086
    (
        "$program" -max_total_time="$FUZZ_SECONDS" -print_final_stats=1 -artifact_prefix="$OUT/crashes/$name-" $options $FUZZ_FLAGS \
            "$OUT/$name" "$(corpus "$name")" >"$log" 2>&1
        code=$?
        times >"$log.times" # the second line is of the children
        exit $code
    ) || {
        echo "failed: $log"
        status=1 # whether or not the input is a new one
    }
    crashes=$(($(crashes_of "$name") - before))
    runs=$(stat_of number_of_executed_units "$log")
    [ -n "$runs" ] || status=1
    awk -v name="$name" -v runs="${runs:-0}" -v crashes="$crashes" -v edges="$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" \
        -v inputs="$(sed -n 's/.* corp: \([0-9]*\)\/.*/\1/p' "$log" | tail -n 1)" '
        function seconds(text) { split(text, part, /[ms]/); return 60 * part[1] + part[2] }
        NR == 2 { cpu = seconds($1) + seconds($2)
          printf "| %s | %d | %d | %s | %s | %d |\n", name, runs, (cpu > 0 ? runs / cpu : 0), edges, inputs, crashes }' "$log.times" >>"$table"
done
cat "$table"
exit $status
