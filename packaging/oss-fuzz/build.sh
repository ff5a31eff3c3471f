#!/bin/bash -eu
# SPDX-License-Identifier: MIT OR Apache-2.0
# For OSS-Fuzz: puts each fuzz target with its corpus and its dictionary into $OUT. Runs in the tree's root.
cargo fuzz build -O
for source in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    cp "fuzz/target/x86_64-unknown-linux-gnu/release/$target" "$OUT"
    corpus=$target
    case $target in
    media | salvage | bytes)
        corpus=bytes
        cp fuzz/palloc.dict "$OUT/$target.dict"
        ;;
    esac
    [ ! -d "fuzz/corpus/$corpus" ] || python3 -c 'import shutil, sys; shutil.make_archive(sys.argv[1], "zip", sys.argv[2])' \
        "$OUT/${target}_seed_corpus" "fuzz/corpus/$corpus"
done
