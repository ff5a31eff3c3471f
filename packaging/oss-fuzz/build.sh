#!/bin/bash -eu
# SPDX-License-Identifier: MIT OR Apache-2.0
# For OSS-Fuzz: puts each fuzz target with its corpus, its dictionary and its options into $OUT. Runs in the tree's root.
host=x86_64-unknown-linux-gnu
cargo fuzz build -O
cargo rustc --locked --release --lib --crate-type staticlib --target $host
read -ra c_flags <<<"${CFLAGS-}"
read -ra cxx_flags <<<"${CXXFLAGS-}"
targets=()
for source in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    cp "fuzz/target/$host/release/$target" "$OUT"
    targets+=("$target")
done
for target in inline later tool; do
    "$CC" "${c_flags[@]}" -std=gnu11 -Iinclude -c "fuzz/$target.c" -o "$WORK/$target.o"
    "$CXX" "${cxx_flags[@]}" "$WORK/$target.o" "target/$host/release/libpalloc.a" "$LIB_FUZZING_ENGINE" -lpthread -lm -ldl -o "$OUT/$target"
    targets+=("$target")
done
for target in "${targets[@]}"; do
    corpus=$target
    case $target in
    media | salvage | bytes)
        corpus=bytes
        cp fuzz/palloc.dict "$OUT/$target.dict"
        ;;
    esac
    case $target in
    media) options="max_len = 256" ;;
    intervals) options="max_len = 200" ;;
    tool) options="close_fd_mask = 3" ;;
    *) options= ;;
    esac
    [ -z "$options" ] || printf '[libfuzzer]\n%s\n' "$options" >"$OUT/$target.options"
    [ ! -d "fuzz/corpus/$corpus" ] || python3 -c 'import shutil, sys; shutil.make_archive(sys.argv[1], "zip", sys.argv[2])' \
        "$OUT/${target}_seed_corpus" "fuzz/corpus/$corpus"
done
