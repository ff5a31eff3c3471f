#!/bin/sh
# Runs cargo-fuzz on each target for FUZZ_SECONDS (120), as `make fuzz` does. Stops at the first crash.
#
#   fuzz/run.sh [TARGET...]
#
# New inputs go to build/fuzz/TARGET, crashes to fuzz/artifacts. A target starts with the inputs in fuzz/corpus, its own or those of the
# target that has inputs of the same kind.
set -e
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- bytes operations salvage buflib transactions records media
for target; do
    case $target in
    salvage | media) corpus=fuzz/corpus/bytes ;;
    *) corpus=fuzz/corpus/$target ;;
    esac
    # Targets over a medium in memory try many more inputs without the sanitizer.
    case $target in
    transactions | records | media) flags="--sanitizer none --no-trace-compares" ;;
    *) flags= ;;
    esac
    [ -d "$corpus" ] || corpus=
    echo "== $target"
    mkdir -p "build/fuzz/$target"
    # RUSTC_BOOTSTRAP: coverage and AddressSanitizer are unstable options of the compiler.
    # shellcheck disable=SC2086  # flags are a list
    RUSTC_BOOTSTRAP=1 "${CARGO:-cargo}" fuzz run $flags "$target" "build/fuzz/$target" $corpus -- \
        "-max_total_time=${FUZZ_SECONDS:-120}" -print_final_stats=1
done
