#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The names that the libraries export, as packaging/libpalloc.map lists them. Whatever needs the list calls this script.
#
#   exports.sh               the names, one a line
#   exports.sh versions      NAME@@VERSION, one a line
#   exports.sh map PREFIX    the map itself, with PREFIX before each name
#   exports.sh def           a module definition file, of which Windows tools (lib, dlltool) make an import library of palloc.dll
#
# A line of the map that is no name, where one is expected, is an error: a name that was skipped would not be exported.
set -e
cd "$(dirname "$0")/.."
awk -v what="${1-names}" -v prefix="${2-}" '
    BEGIN { if (what == "def") print "LIBRARY palloc.dll\nEXPORTS" }
    /^[A-Z][A-Z0-9_.]* [{]$/ { version = $1 }
    /^local:$/ { names = 0 }
    names && !/^ +[A-Za-z_][A-Za-z0-9_]*;$/ {
        print FILENAME ":" FNR ": not a name: " $0 >"/dev/stderr"
        exit 1
    }
    names {
        name = $1
        sub(/;$/, "", name)
        if (what == "names") print name
        if (what == "def") print "    " name (name ~ /^(core_ctx|buflib_ops_locked)$/ ? " DATA" : "")
        if (what == "versions") print name "@@" version
        $0 = "    " prefix name ";"
    }
    what == "map" { print }
    /^global:$/ { names = 1 }' packaging/libpalloc.map
