#!/bin/sh
# The ABI that the headers declare, as abidw (abigail-tools) tells it of a shared library that has their functions and variables, empty,
# in C.
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
    # What a header includes is defined by that header; palloc_error is declared by two.
    case $header in
    include/finwo/palloc.h) definitions "$header" | grep -v '[*]palloc_error(' >>"$stub" ;;
    *) definitions "$header" >>"$stub" ;;
    esac
done
(cd "$work" && ${CC:-cc} -g -O0 -std=c99 -fPIC -shared -I"$OLDPWD/include" ./*.c \
    -Wl,-soname,libpalloc.so.0,--no-undefined-version,--version-script,"$OLDPWD/packaging/libpalloc.map" -o libpalloc.so)
abidw --no-corpus-path --no-show-locs --no-comp-dir-path --no-elf-needed --out-file "${1:-$work/abi}" "$work/libpalloc.so"
[ -n "$1" ] || abidiff packaging/libpalloc.abi "$work/abi"
