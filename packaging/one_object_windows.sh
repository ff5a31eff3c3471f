#!/bin/sh
# The same as one_object.sh for objects of Windows and GNU's tools: of the Rust objects in a static library it makes one that defines only
# the names in LIST for others. What is not Rust's, the stubs that lead to system libraries, stays as it is.
#
#   one_object_windows.sh ARCHIVE LIST RESULT
#
# The tools are those of the compiler $CC. A relocatable link would look for _tls_used, which a program gets from its start-up code: the
# reference has another name meanwhile.
set -e
archive=$(realpath "$1") list=$(realpath "$2") result=$3
tool() {
    ${CC:-x86_64-w64-mingw32-gcc} -print-prog-name="$1"
}
ar=$(tool ar) ld=$(tool ld) objcopy=$(tool objcopy)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
$ar t "$archive" | grep '\.rcgu\.o$' >"$work/members"
(cd "$work" && xargs "$ar" x "$archive" <members)
for object in "$work"/*.rcgu.o; do
    $objcopy --remove-section=.llvmbc --remove-section=.llvmcmd --redefine-sym _tls_used=palloc_tls_used "$object"
done
# shellcheck disable=SC2046  # a list
$ld -r $(sed 's/^/-u /' "$list") "$work"/*.rcgu.o -o "$work/all.o"
$objcopy --strip-debug --redefine-sym palloc_tls_used=_tls_used --keep-global-symbols="$list" "$work/all.o" "$work/palloc.o"
cp "$archive" "$result"
xargs "$ar" d "$result" <"$work/members"
$ar rs "$result" "$work/palloc.o"
