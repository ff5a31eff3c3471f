#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Everything that `make check` checks. Goes on when something fails; the last line has the totals.
#
# The C programs run here with the libraries as they are delivered, so tests/c_programs.rs, which runs them with a debug build, is left
# to `cargo test`; with CI=true it runs as well, for the assertions of that build.
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}"
cd "$ROOT" || exit

RESULTS=$WORK/results
export RESULTS
: >"$RESULTS"

step() {
    echo "== $*"
}

cargo_() {
    command=$1
    shift
    # shellcheck disable=SC2086
    $CARGO $command $CARGOFLAGS "$@"
}

# has COMMAND: whether cargo has it. (rustup has stand-ins for commands that are not installed.)
has() {
    "$CARGO" "$1" --version >/dev/null 2>&1
}

# Adds up the totals of cargo's test runners. A failure without a failed test (it does not compile, it crashed) counts as one.
count_tests() { # NAME STATUS LOG
    counts=$(awk '
        function sum(word) { return match($0, "[0-9]+ " word) ? substr($0, RSTART) + 0 : 0 }
        /^test result:/ || /^ *Summary \[/ {
            passed += sum("passed"); failed += sum("failed") + sum("timed out"); skipped += sum("ignored") + sum("skipped")
        }
        END { print passed + 0, failed + 0, skipped + 0 }' "$3")
    read -r p f s <<COUNTS
$counts
COUNTS
    [ "$2" -eq 0 ] || [ "$f" -gt 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ "$2" -ne 0 ]; then
        echo "not ok - $1"
        grep -v '^ *\(Compiling\|PASS\|Downloaded\) ' "$3" | tail -n 150 | sed 's/^/    /'
    fi
}

rust_tests() { # NAME CARGO-ARGUMENTS...
    name=$1
    shift
    cargo_ "$@" >"$WORK/log" 2>&1 </dev/null
    count_tests "$name" $? "$WORK/log"
}

# The tree as it is, without what was built, in a path with a space; and what cargo has fetched, under another path. Most scripts run there.
copy_tree() {
    mkdir -p "$OTHER_HOME"
    for entry in "${CARGO_HOME:-$HOME/.cargo}"/*; do
        [ ! -e "$entry" ] || ln -s "$entry" "$OTHER_HOME"
    done
    mkdir -p "$COPY" && tar -c --exclude=./.git --exclude=./build --exclude=target . | tar -x -C "$COPY" &&
        CARGO_HOME="$OTHER_HOME" CARGO_TARGET_DIR=target "$MAKE" --no-print-directory -C "$COPY" all
}

same_bytes() {
    for file in lib/libpalloc.a lib/libpalloc.so bin/palloc; do
        if [ -e "build/$file" ]; then cmp "build/$file" "$COPY/build/$file" || return; fi
    done
}

no_paths_in() { # FILE...
    ! grep -aFe "$ROOT" -e "$COPY" -e "${CARGO_HOME:-$HOME/.cargo}" -e "$OTHER_HOME" "$@"
}

step "build"
check "make" "$MAKE" --no-print-directory all
COPY="$WORK/a copy" OTHER_HOME=$WORK/home
check "make in a path with a space" copy_tree
if [ -z "${TARGET-}${RUSTFLAGS-}${DEBUG-}" ]; then
    check "two directories and two cargo homes give the same bytes" same_bytes
    check "no path of the builder is in what is built" no_paths_in build/lib/* build/bin/* "$COPY"/build/lib/* "$COPY"/build/bin/*
else
    skip "the same bytes again" "TARGET, RUSTFLAGS or DEBUG is set"
fi

step "Rust: format, lints, tests, documentation"
if has fmt; then check "cargo fmt" "$CARGO" fmt --check -- --color never; else skip "cargo fmt" "not installed"; fi
# clippy finds functions of std that are newer than the compiler of Cargo.toml, but not newer syntax. `if let` chains, which need Rust 1.88,
# are refused in the edition before.
if have rustfmt && rustfmt --version >/dev/null 2>&1; then
    check "no syntax of a newer compiler" rustfmt --edition 2021 --style-edition 2024 --check src/lib.rs build.rs tests/*.rs
else
    skip "no syntax of a newer compiler" "no rustfmt"
fi
# Lints change with the compiler: those of 1.85 want parentheses that later ones do not, and see no comment before an attribute.
if ! has clippy; then
    skip "cargo clippy" "not installed"
elif [ "$("$CARGO" clippy --version | sed 's/^clippy 0[.]1[.]\([0-9]*\).*/\1/')" -lt 95 ]; then
    skip "cargo clippy" "the lints are those of Rust 1.95"
else
    check "cargo clippy" cargo_ clippy -q --all-targets -- -D warnings
fi
[ "${CI-}" = true ] || export SKIP_C_PROGRAMS=1
if has nextest; then
    rust_tests "cargo nextest" "nextest run" --no-fail-fast
    rust_tests "cargo test --doc" test --doc
else
    rust_tests "cargo test" test --no-fail-fast
fi
RUSTFLAGS="--cfg fuzzing" check "the library of the fuzz targets compiles" cargo_ check -q --lib --target-dir target/fuzzing
RUSTDOCFLAGS="-D warnings" check "cargo doc" cargo_ doc -q --no-deps

# Runs one of the scripts beside this one, which appends its totals to $RESULTS at its end.
script() { # NAME [TREE]
    before=$(wc -l <"$RESULTS")
    if [ $# -gt 1 ]; then
        CARGO_HOME="$OTHER_HOME" "$2/c_tests/$1"
    else
        "c_tests/$1"
    fi
    [ "$(wc -l <"$RESULTS")" -gt "$before" ] || fail "$1 stopped before its end"
}

step "headers"
script headers.sh "$COPY"
script cxx.sh
script python.sh
script html.sh
script gdb.sh
script vmem_hooks.sh "$COPY"
script buflib_debug.sh "$COPY"
script vmem_debug.sh "$COPY"

step "C programs"
script run.sh
script own_names.sh "$COPY"
script tool.sh
check "the corpus of fuzz/inline.c" fuzz/run.sh replay

step "libraries and installation"
script package.sh "$COPY"

step "the guide"
script guide.sh

step "benchmarks"
if [ "$(uname)" = Linux ] && [ -z "${TARGET-}" ]; then
    check "benches/run.sh smoke" benches/run.sh smoke
else
    skip "benchmarks" "for Linux, and not cross-compiled"
fi

step "the tree itself"
licence_lines() {
    find . \( -name target -o -name build -o -name vendor -o -name corpus -o -name golden -o -name .git \) -prune -o -type f \
        \( -name '*.rs' -o -name '*.[ch]' -o -name '*.hpp' -o -name '*.cc' -o -name '*.sh' -o -name '*.py' -o -name '*.toml' -o -name Makefile \) \
        -exec grep -L 'SPDX-License-Identifier: MIT OR Apache-2.0' {} + >"$WORK/lacking"
    ! grep . "$WORK/lacking"
}
check "every source file has a line with its licence" licence_lines
bill() {
    packaging/sbom.sh 0.0.0 2026-01-01T00:00:00Z >"$WORK/spdx" || return
    crates=$(grep -c '^[a-z].*: ' packaging/licences.txt)
    [ "$crates" -gt 3 ] && [ "$(grep -cE '^PackageChecksum: SHA256: [0-9a-f]{64}$' "$WORK/spdx")" = "$crates" ]
}
check "the bill of materials has each linked crate with its checksum" bill
if have shellcheck; then
    check "shellcheck" shellcheck -x -P SCRIPTDIR c_tests/*.sh packaging/*.sh benches/*.sh fuzz/run.sh .ci/run
else
    skip "shellcheck" "not installed"
fi
unchanged() {
    git status --short | tee "$WORK/status"
    ! [ -s "$WORK/status" ]
}
if [ "${CI-}" = true ] && [ -d .git ]; then
    check "what was run left no trace in the tree" unchanged
fi

while read -r p f s; do
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done <"$RESULTS"
echo
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
