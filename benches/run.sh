#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the programs beside this file, and of the peers what there is, and runs them; `make` has built the library.
#
#   run.sh             prints tables, and keeps them in build/bench
#   run.sh report [PART...]
#                      makes docs/PERFORMANCE.md and its plots of them too; of these parts only, if some are named (transactions, for one)
#   run.sh smoke       only shows that the programs compile and run
cd "$(dirname "$0")/.." || exit
: "${CARGO:=cargo}" "${CC:=cc}" "${CXX:=c++}" "${LDFLAGS=}" "${LIBS=-lpthread -lm -ldl}" "${CARGOFLAGS=--locked}"
ROOT=$PWD
OUT=$ROOT/build/bench
mkdir -p "$OUT" && cd "$OUT" || exit

# shellcheck disable=SC2086  # flags are lists
program() {
    $CC -O2 -std=c99 -D_GNU_SOURCE -Wall -Wextra -rdynamic -I"$ROOT/include" "$ROOT/benches/$1.c" $LDFLAGS "$ROOT/build/lib/libpalloc.a" \
        $LIBS -Wl,-rpath,"\$ORIGIN" -o "$1"
}

# peer NEEDS COMMAND...: builds a peer, or says what is missing.
peer() {
    needs=$1
    shift
    "$@" >log 2>&1 || echo "Skipped: what needs $needs" >&2
}

# shellcheck disable=SC2086
pool_peers() {
    $CARGO build $CARGOFLAGS --release --manifest-path "$ROOT/benches/peers/Cargo.toml" --target-dir peers &&
        cp peers/release/libpool_peers.so .
}

for name in palloc opening access space buflib vmem sync transactions readers instructions; do
    program $name || exit
done
# shellcheck disable=SC2086
peer "a C++ compiler and Boost.Interprocess" $CXX -O2 -shared -fPIC "$ROOT/benches/peers/boost.cpp" -o peer_boost.so
# shellcheck disable=SC2086
peer libpmemobj $CC -O2 -shared -fPIC -DPMEMOBJ_VERSION="\"$(pkg-config --modversion libpmemobj 2>/dev/null)\"" \
    "$ROOT/benches/peers/pmemobj.c" -lpmemobj -o peer_pmemobj.so
# shellcheck disable=SC2086
peer libpmemobj $CC -O2 -shared -fPIC "$ROOT/benches/peers/pmemobj_tx.c" -lpmemobj -o peer_pmemobj_tx.so

# jemalloc is loaded at run time, and has more thread-local variables than glibc keeps room for.
export GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384

if [ "${1-}" = smoke ]; then
    export BENCH_SMOKE=1
    memory=/dev/shm
    [ -w $memory ] || memory=.
    ./palloc . && ./opening . && ./access . && ./space . && ./buflib && ./vmem && ./instructions && ./sync $memory && ./transactions . $memory && ./readers $memory
    exit
fi

peer "crates from crates.io" pool_peers

# The output of callgrind has a line for each function, with the functions that it called.
instructions() {
    command -v callgrind_annotate >/dev/null || {
        echo "Skipped: what needs valgrind"
        return
    }
    valgrind -q --tool=callgrind --callgrind-out-file=callgrind.out --toggle-collect='ours_*' --toggle-collect='peer_*' \
        ./instructions >rows &&
        callgrind_annotate --inclusive=yes --threshold=100 callgrind.out |
        sed -n 's/^ *\([0-9,]*\) .*:\(\(ours\|peer\)_[A-Za-z0-9_]*\).*/\2 \1/p' | tr -d , >counts &&
        awk -F '|' '
            NR == FNR { split($0, field, " "); count[field[1]] = field[2]; next }
            FNR == 1 {
                print "\n### instructions of one call or pair\n"
                print "|                                                | libpalloc | peer |                   |"
                print "| ---------------------------------------------- | --------: | ---: | ----------------- |"
            }
            $2 != "" {
                printf "| %-46s | %9.0f | %4.0f | %-17s |\n", $2, (count["ours_" $1] - count["ours_loop"]) / 10000,
                    (count["peer_" $1] - count["ours_loop"]) / 10000, $3
            }' counts rows
}

# Runs COMMAND, and keeps what it prints in NAME.md.
run() { # NAME COMMAND
    echo
    { $2 || touch failed; } | tee "$1.md"
    [ ! -e failed ] || exit 1
}

rm -f failed ./*.md
cut -d ' ' -f 1 /proc/loadavg >load
what=${1-}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- palloc opening access space buflib vmem instructions sync transactions readers
for part; do
    case $part in
    instructions) run instructions instructions ;;
    *) run "$part" "./$part" ;;
    esac
done
[ "$what" != report ] || exec python3 "$ROOT/benches/report.py" "$ROOT"
