#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes of the one object (one_object.sh) the object of the static library: each exported name becomes weak, and the library itself
# refers to a local name at the same place.
#
#   weak.sh LIST OBJECT WEAK-OBJECT
#
# So a program links that has its own core_alloc.c, or functions called like those of vmem.h: its definitions are the program's, and the
# library goes on to call its own. LIST has the names, one a line. Needs nm and objcopy of GNU binutils: NM, OBJCOPY.
set -e
list=$1 object=$2 weak=$3

# NAME |ADDRESS|CLASS|TYPE|SIZE|LINE|SECTION
${NM:-nm} -f sysv "$object" | tr -d ' ' | awk -F '|' '
    NR == FNR { listed[$1]; next }
    $3 ~ /[A-Z]/ && $1 in listed {
        print "--localize-symbol=" $1
        print "--add-symbol=" $1 "=" $7 ":0x" $2 ",weak," ($4 == "FUNC" ? "function" : "object")
    }' "$list" - >"$weak.arguments"
[ "$(wc -l <"$weak.arguments")" -eq $(($(wc -l <"$list") * 2)) ] || {
    echo "weak.sh: $object lacks names of $list" >&2
    exit 1
}
${OBJCOPY:-objcopy} "@$weak.arguments" "$object" "$weak"
rm "$weak.arguments"
