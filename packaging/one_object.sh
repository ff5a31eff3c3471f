#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes one relocatable object of what LIST names, and of all that it needs, from a Rust static library.
#
#   one_object.sh ARCHIVE LIST OBJECT
#
# LIST has the names that stay global, one a line. All others become local: every Rust static library has the symbols of Rust's standard
# library, and two of them would not link together. (Without the group flag, references into discarded COMDAT groups remain.) OBJECT then
# defines each name of LIST, and no other global one; else this fails, and there is no OBJECT.
#
# If the archive has palloc_on_panic and palloc_on_out_of_memory (src/ffi/panic.rs), they replace the standard library's functions for
# these cases, and code that only those need is left out. Their names are rustc's own; in an archive that has no such names, which is one
# made with full link-time optimization or by a compiler that calls them otherwise, the standard library's stay. Names of the unwinder's
# that nothing refers to any more go too: they would make a static program need one.
#
# Needs GNU ld, objcopy and nm: LD, OBJCOPY, NM. DEBUG=1 keeps debug information.
set -e
archive=$1 list=$2 object=$3
case $(${LD:-ld} --version) in
"GNU ld "*) ;;
*)
    echo "one_object.sh: ${LD:-ld} is not GNU ld, which is needed here; set LD" >&2
    exit 1
    ;;
esac

# The mangled name, or the plain one of older compilers. (nm can't read bitcode without a plugin.)
rustc_name() {
    grep -aoE "(_RNv[A-Za-z0-9]*_7___rustc[0-9]+_?)?$1" "$archive" | sort -u | grep -v "^$1\$" || echo "$1"
}

replace() { # RUSTC-NAME OURS
    for name in $(rustc_name "$1"); do
        echo "--defsym=$name=$2 "
    done
}

instead=
if grep -aq palloc_on_panic "$archive"; then
    instead="-u palloc_on_panic -u palloc_on_out_of_memory $(replace rust_begin_unwind palloc_on_panic)
        $(replace __rust_alloc_error_handler palloc_on_out_of_memory)"
fi

strip=--strip-debug
[ -z "${DEBUG-}" ] || strip=
# shellcheck disable=SC2046,SC2086  # lists
${LD:-ld} -r --unique --force-group-allocation --gc-sections $(sed 's/^/-u /' "$list") $instead "$archive" -o "$object.all"
# shellcheck disable=SC2086
${OBJCOPY:-objcopy} $strip --remove-section=.llvmbc --remove-section=.llvmcmd --wildcard --strip-unneeded-symbol='_Unwind_*' \
    --keep-global-symbols="$list" "$object.all" "$object"
rm "$object.all"
${NM:-nm} -P -g --defined-only "$object" | sed 's/ .*//' | LC_ALL=C sort >"$object.names"
LC_ALL=C sort "$list" | diff - "$object.names" >&2 || {
    echo "one_object.sh: these names are in $list only (<), or global in $object only (>)" >&2
    rm "$object" "$object.names"
    exit 1
}
rm "$object.names"
