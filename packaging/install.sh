#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# `make install` and `make uninstall`. The Makefile sets the variables; its head lists them.
#
#   install.sh install     puts the libraries, the headers, the tool, the manual pages, and what pkg-config and CMake need below DESTDIR
#   install.sh uninstall   removes the same files, and the directories that are libpalloc's own
# shellcheck disable=SC2153  # names that the Makefile gives
set -e
: "${DESTDIR=}" "${PREFIX_SYMBOLS=}" "${DOCDIR=}"
bindir=$DESTDIR$BINDIR libdir=$DESTDIR$LIBDIR includedir=$DESTDIR$INCLUDEDIR
gdb=$DESTDIR$PREFIX/share/gdb/auto-load$LIBDIR
man1=$DESTDIR$MANDIR/man1 man3=$DESTDIR$MANDIR/man3 completions=$DESTDIR$PREFIX/share/bash-completion/completions

# Everybody can read what is installed, whatever the umask of the one who installs it.
umask 022

# Files of packaging/palloc*.in, and where they go to below LIBDIR, made of them with variables in place of @VARIABLE@.
templates="palloc.pc.in|pkgconfig/$NAME.pc
palloc-config.cmake.in|cmake/$NAME/$NAME-config.cmake
palloc-config-version.cmake.in|cmake/$NAME/$NAME-config-version.cmake"

# below DIRECTORY: its place below PREFIX, or nothing.
below() {
    case $1 in
    "$PREFIX"/*) echo "${1#"$PREFIX/"}" ;;
    esac
}

# Directories below PREFIX are named by their place there, so that the installed tree can be moved.
in_pc() { # DIRECTORY
    below=$(below "$1")
    # shellcheck disable=SC2016  # a variable of pkg-config's
    if [ -n "$below" ]; then echo '${prefix}/'"$below"; else echo "$1"; fi
}

in_cmake() { # DIRECTORY
    from=$(below "$LIBDIR") to=$(below "$1")
    # shellcheck disable=SC2016  # a variable of CMake's
    if [ -n "$from" ] && [ -n "$to" ]; then echo '${_palloc_libdir}/'"$(echo "$from" | sed 's|[^/][^/]*|..|g')/$to"; else echo "$1"; fi
}

# The arguments of sed that put VALUE in place of @NAME@.
value() { # NAME VALUE
    echo "s|@$1@|$(printf '%s\n' "$2" | sed 's/[&|\\]/\\&/g')|g"
}

# A DLL is in BINDIR, and programs are linked with its import library.
cmake_shared() {
    # shellcheck disable=SC2016
    case $SHARED in
    *.dll) echo "IMPORTED_LOCATION \"$(in_cmake "$BINDIR")/$SHARED\" "'IMPORTED_IMPLIB "${_palloc_libdir}/libpalloc.dll.a"' ;;
    *) echo 'IMPORTED_LOCATION "${_palloc_libdir}/'"$SHARED\" IMPORTED_SONAME \"$SONAME\"" ;;
    esac
}

fill_in() { # TEMPLATE FILE
    rm -f "$2"
    sed -e "$(value NAME "$NAME")" -e "$(value VERSION "$VERSION")" -e "$(value MAJOR "${VERSION%%.*}")" \
        -e "$(value CMAKE_SHARED "$(cmake_shared)")" -e "$(value STATIC "$STATIC")" -e "$(value LIBS "$LIBS")" -e "$(value PREFIX "$PREFIX")" \
        -e "$(value PC_LIBDIR "$(in_pc "$LIBDIR")")" -e "$(value PC_INCLUDEDIR "$(in_pc "$INCLUDEDIR")")" \
        -e "$(value CMAKE_LIBS "$(echo "$LIBS" | tr ' ' ';')")" -e "$(value CMAKE_INCLUDEDIR "$(in_cmake "$INCLUDEDIR")")" "$1" >"$2"
}

headers() {
    (cd include && find . -name '*.h' -o -name '*.hpp') | sed "s|^[.]/||; s|[^/]*\$|$PREFIX_SYMBOLS&|"
}

# A build with a prefix has no manual pages.
pages() {
    [ -n "$PREFIX_SYMBOLS" ] || echo palloc finwo_palloc palloc_version buflib core_alloc vmem \
        rockbox_buflib rockbox_core_alloc rockbox_chunk_alloc
}

# "PAGE FUNCTION" for each function under the NAME of a page, except the page's own: it gets a page that refers to that one. Of two
# pages that have it, the first is meant.
references() {
    for page in $(pages); do
        sed -n '/^[.]SH NAME/,/^[.]SH LIBRARY/{/^[.]/!p;}' "man/$page.3" | tr ' ' '\n' | sed "/^.-/,\$d; s/,//; s/^/$page /"
    done | awk '!seen[$2]++ && $1 != $2'
}

# The licences, README.md and what it refers to, and the examples, below DOCDIR; nothing if that is empty.
documents() {
    [ -z "$DOCDIR" ] || ls LICENSE-* README.md CHANGELOG.md SECURITY.md packaging/licences.txt docs/*.md examples_c/*.c
}

# $INSTALL may have options.
# shellcheck disable=SC2086
put() {
    ${INSTALL:-install} "$@"
}

install_() {
    put -d "$libdir/pkgconfig" "$libdir/cmake/$NAME"
    put -m 644 "$BUILD/lib/$STATIC" "$libdir"
    case $SHARED in
    *.dll)
        put -d "$bindir"
        put -m 755 "$BUILD/lib/$SHARED" "$bindir"
        put -m 644 "$BUILD/lib/libpalloc.dll.a" "$libdir"
        ;;
    *)
        put -m 755 "$BUILD/lib/$SHARED" "$libdir"
        ln -sf "$SHARED" "$libdir/$SONAME"
        ln -sf "$SONAME" "$libdir/lib$NAME.so"
        ;;
    esac
    echo "$templates" | while IFS='|' read -r template file; do fill_in "packaging/$template" "$libdir/$file"; done
    headers | while read -r header; do
        put -d "$(dirname "$includedir/$header")"
        put -m 644 "$INCLUDE/$header" "$includedir/$header"
    done
    if [ -n "$TOOL" ]; then
        put -d "$bindir" "$man1" "$completions" "$gdb"
        put -m 644 packaging/palloc-gdb.py "$gdb/$SHARED-gdb.py"
        put -m 755 "$TOOL" "$bindir/palloc"
        put -m 644 tools/palloc.1 "$man1"
        put -m 644 packaging/palloc.bash-completion "$completions/palloc"
    fi
    documents | while read -r file; do
        put -d "$(dirname "$DESTDIR$DOCDIR/$file")"
        put -m 644 "$file" "$DESTDIR$DOCDIR/$file"
    done
    for page in $(pages); do
        put -d "$man3"
        put -m 644 "man/$page.3" "$man3"
    done
    references | while read -r page name; do
        rm -f "$man3/$name.3"
        echo ".so man3/$page.3" >"$man3/$name.3"
    done
}

uninstall() {
    for file in "$STATIC" "$SHARED" "$SONAME" "lib$NAME.so" libpalloc.dll.a; do rm -f "$libdir/$file"; done
    rm -f "$bindir/palloc.dll"
    echo "$templates" | while IFS='|' read -r template file; do rm -f "$libdir/$file"; done
    headers | while read -r header; do rm -f "$includedir/$header"; done
    [ -z "$TOOL" ] || rm -f "$bindir/palloc" "$man1/palloc.1" "$completions/palloc" "$gdb/$SHARED-gdb.py"
    for page in $(pages); do rm -f "$man3/$page.3"; done
    references | while read -r page name; do rm -f "$man3/$name.3"; done
    documents | while read -r file; do rm -f "$DESTDIR$DOCDIR/$file"; done
    [ -z "$DOCDIR" ] || rmdir "$DESTDIR$DOCDIR/docs" "$DESTDIR$DOCDIR/examples_c" "$DESTDIR$DOCDIR/packaging" "$DESTDIR$DOCDIR" 2>/dev/null || true
    rmdir "$libdir/cmake/$NAME" "$includedir/finwo" "$includedir/rockbox" 2>/dev/null || true
}

case $1 in
install) install_ ;;
uninstall) uninstall ;;
*)
    echo "install.sh: install or uninstall" >&2
    exit 2
    ;;
esac
