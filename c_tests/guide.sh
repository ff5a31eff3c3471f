#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Does what docs/GUIDE.md says, from its start to its end, in one directory: "```LANGUAGE FILE" is a file, "```sh" commands, "```sh TARGET"
# commands for which Rust's standard library for that target must be installed.
. "$(dirname "$0")/lib.sh"

export PALLOC="$ROOT" PREFIX="$WORK/prefix"
# git refuses to clone a submodule from a directory otherwise.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always
unset MAKEFLAGS MAKELEVEL

mkdir "$WORK/guide" "$WORK/blocks"
awk -v dir="$WORK/blocks" '
    /^```/ && file != "" { close(file); file = ""; next }
    /^```sh/ { file = sprintf("%s/%02d.sh%s", dir, ++n, $2 ? "." $2 : ""); line[file] = NR; next }
    /^```./ { file = sprintf("%s/%02d.file", dir, ++n); print $2 >file; next }
    file != "" { print >file }' "$ROOT/docs/GUIDE.md"

run() { # BLOCK
    (
        cd "$WORK/guide" || exit
        case $(grep -l 'libs/palloc' "$1") in
        ?*) export CARGO_TARGET_DIR="$ROOT/target/guide" ;;
        esac
        sh -e "$1"
    )
}

for block in "$WORK"/blocks/*; do
    first=$(sed -n 's/^export .*//; /./{p;q;}' "$block")
    case $block in
    *.file) sed 1d "$block" >"$WORK/guide/$first" ;;
    *.sh.*)
        target=${block##*.sh.}
        if [ -d "$($RUSTC --print sysroot)/lib/rustlib/$target/lib" ]; then
            check "guide: $first" run "$block"
        else
            skip "guide: cross-compiling" "Rust's standard library for $target is not installed"
        fi
        ;;
    *)
        if grep -q 'pkg-config -' "$block" && ! have pkg-config; then
            skip "guide: $first" "no pkg-config"
        elif grep -q '^cmake ' "$block" && ! have cmake; then
            skip "guide: $first" "no cmake"
        elif grep -q '^git ' "$block" && ! git rev-parse --resolve-git-dir "$ROOT/.git" >/dev/null 2>&1; then
            skip "guide: $first" "not a git repository"
        elif grep -q '^cc -static' "$block" && ! static_libc; then
            skip "guide: $first" "no static C library"
        else
            check "guide: $first" run "$block"
        fi
        ;;
    esac
done

# Each program whose medium is a directory prints why it can't open it. Where the file can't grow, it prints why there is no transaction.
elsewhere() { # COMMAND
    (cd "$WORK/elsewhere" && eval "$1")
}
mkdir "$WORK/elsewhere"
for source in "$WORK"/guide/*.c; do
    program=$(basename "$source" .c) medium=$(sed -n 's/.*"\([a-z]*[.]pba\)".*/\1/p' "$source")
    mkdir -p "$WORK/elsewhere/$medium"
    check "guide: why $program fails" reports "palloc_[a-z]*: $medium: " elsewhere "../guide/$program"
done
rm -r "$WORK/elsewhere/records.pba"
check "guide: why records fails in a file of 512 bytes" reports "palloc_begin: .*too large" elsewhere "ulimit -f 1; ../guide/records"
finish
