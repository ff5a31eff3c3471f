#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The ABI that the headers declare: what abidw (abigail-tools) reports of a shared library in C that has their functions and variables,
# empty. A name that the headers declare and packaging/libpalloc.map lacks, or the other way round, is an error.
#
#   abi.sh          compares it with packaging/libpalloc.abi; any difference is an error
#   abi.sh FILE     writes it to FILE (`make abi`: packaging/libpalloc.abi)
set -e
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Each statement at file scope that declares a function, or a variable that is extern, becomes a definition.
definitions() { # HEADER
    echo "#include \"$1\"" | ${CC:-cc} -E -DDEBUG -DBUFLIB_DEBUG_BLOCKS -x c - | awk -v header="$1" '
        /^# [0-9]+ "/ { ours = index($0, "\"" header "\""); next }
        ours' | tr '\n' ' ' | sed 's/[;{}]/&\n/g' | awk '
        { before = depth }
        /\{$/ { depth++ }
        /\}$/ { depth-- }
        before || depth || !/;$/ || /^ *(typedef|static)/ { next }
        /(^| )extern / { sub(/extern /, ""); print; next }
        /\(/ { sub(/;$/, " { __builtin_trap(); }"); print }'
}

find include -name '*.h' | sort | while read -r header; do
    stub=$work/$(echo "$header" | tr '/.' '__').c
    printf '#define DEBUG\n#define BUFLIB_DEBUG_BLOCKS\n#include <%s>\n' "${header#include/}" >"$stub"
    # A function of an included header is defined once, with that header; two headers declare palloc_error.
    case $header in
    include/finwo/palloc.h) definitions "$header" | grep -v '[*]palloc_error(' >>"$stub" ;;
    *) definitions "$header" >>"$stub" ;;
    esac
done
root=$PWD
cd "$work"
${CC:-cc} -g -O0 -std=c99 -fPIC -I"$root/include" -c ./*.c
# The version script would hide them silently.
"$root/packaging/exports.sh" | LC_ALL=C sort >exported
${NM:-nm} -g --defined-only -P ./*.o | awk 'NF > 1 { print $1 }' | LC_ALL=C sort -u | LC_ALL=C comm -23 - exported >lacking
if [ -s lacking ]; then
    sed 's,^,packaging/libpalloc.map lacks ,' lacking >&2
    exit 1
fi
${CC:-cc} -shared ./*.o \
    -Wl,-soname,libpalloc.so.0,--no-undefined-version,--version-script,"$root/packaging/libpalloc.map" -o libpalloc.so
cd "$root"
abidw --no-corpus-path --no-show-locs --no-comp-dir-path --no-elf-needed --out-file "${1:-$work/abi}" "$work/libpalloc.so"
[ -n "$1" ] || abidiff packaging/libpalloc.abi "$work/abi"
