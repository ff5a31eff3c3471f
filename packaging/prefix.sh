#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Copies include/ with a prefix before each name that the linker sees: every function and variable; and with them the inline functions,
# the macros that stand for functions, the guards, the headers' names, and the namespace of C++. Types and constants stay as they are.
#
#   prefix.sh PREFIX DIRECTORY
set -e
prefix=$1 to=$2
cd "$(dirname "$0")/.."

headers=$(find include -name '*.h' -o -name '*.hpp')
names=$(
    packaging/exports.sh
    # shellcheck disable=SC2086
    sed -n 's/^static inline [^(]*[ *]\([A-Za-z0-9_]*\)(.*/\1/p; s/^#define \([a-z][A-Za-z0-9_]*\) .*/\1/p' $headers
)
for header in $headers; do
    path=${header#include/}
    out=$to/$(dirname "$path")/$prefix$(basename "$path")
    mkdir -p "$(dirname "$out")"
    awk -v prefix="$prefix" -v cxx="$(case $header in *.hpp) echo 1 ;; esac)" -v names="$names" -v headers="$headers" '
        BEGIN {
            n = split(names, name, /[ \n]+/)
            for (i = 1; i <= n; i++) renamed[name[i]]
            n = split(headers, name, /[ \n]+/)
            for (i = 1; i <= n; i++) { sub(/.*[/]/, "", name[i]); sub(/[.]h(pp)?$/, "", name[i]); header[name[i]] }
        }
        # "palloc.h" is a header, "palloc.c" a file of somebody else, "palloc." the end of a sentence; "struct palloc_stat" is a type.
        function ours(word, before, after) {
            if (word ~ /^LIBPALLOC_/ || (cxx && word == "libpalloc")) return 1
            if (after ~ /^[.]h(pp)?([^a-z]|$)/) return word in header
            return word in renamed && after !~ /^[.][a-z]/ && before !~ /struct $/
        }
        /^[/][*] Made by / { $0 = "/* Made of '"$header"' with the prefix " prefix ". */"; print; next }
        {
            before = ""
            while (match($0, /[A-Za-z_][A-Za-z0-9_]*/)) {
                before = before substr($0, 1, RSTART - 1)
                word = substr($0, RSTART, RLENGTH)
                $0 = substr($0, RSTART + RLENGTH)
                if (before ~ /-$/ && word == "lpalloc") word = "l" prefix "palloc"
                else if (ours(word, before, $0)) word = prefix word
                before = before word
            }
            print before $0
        }' "$header" >"$out"
done
