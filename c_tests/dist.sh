#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The source archive, and the things made of it: a build, an installation and Rust's tests without a network, packages.
# A part of `make check-deep`.
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}"
VERSION=$(sed -n 's/^version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)
TREE=$WORK/palloc-$VERSION
ARCHIVE=$ROOT/build/dist/palloc-$VERSION.tar.gz

make_in() { # DIRECTORY ARGUMENTS...
    (
        cd "$1" || exit
        shift
        # Nothing that was built or fetched before.
        unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL
        CARGO_HOME=$WORK/cargo CARGO_NET_OFFLINE=true "$MAKE" "$@"
    )
}

# Those that need most crates.
tests_in() { # DIRECTORY
    (cd "$1" && unset CARGO_TARGET_DIR && CARGO_HOME=$WORK/cargo "$CARGO" test --locked --offline --test headers --test man --test dependencies)
}

same_again() {
    cp "$ARCHIVE" "$WORK/first.tar.gz" && "$MAKE" -C "$ROOT" dist && cmp "$WORK/first.tar.gz" "$ARCHIVE"
}

cat >"$WORK/user.c" <<'C'
#include <palloc.h>
#include <string.h>
int main(void)
{
    struct palloc_t *pt = palloc_init("user.pba", PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 4);
    palloc_close(pt);
    return ptr == 0 || strcmp(palloc_version(), PALLOC_VERSION) != 0;
}
C

uses() { # ROOT LIBDIR
    rm -f "$WORK/user.pba"
    # shellcheck disable=SC2086
    (cd "$WORK" && $CC $CFLAGS -I"$1/usr/include" user.c -L"$1$2" -lpalloc -o user && LD_LIBRARY_PATH=$1$2 ./user)
}

# (debhelper hides $HOME, where rustup, if cargo is its, has the compiler.)
debian_packages() {
    (cd "$TREE" && unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL CFLAGS LDFLAGS &&
        RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} DEB_BUILD_OPTIONS=$1 dpkg-buildpackage -us -uc -b -d) &&
        ls -l "$WORK/libpalloc0_$VERSION"-*.deb "$WORK/libpalloc-dev_$VERSION"-*.deb
}

debian_installs() {
    mkdir "$WORK/debian" && for package in "$WORK"/libpalloc0_*.deb "$WORK"/libpalloc-dev_*.deb; do
        dpkg-deb -x "$package" "$WORK/debian" || return
    done
    uses "$WORK/debian" "/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)"
}

debian_lint() {
    lintian --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs,bad-distribution-in-changes-file "$WORK"/libpalloc_*.changes
}

rpm_packages() {
    (unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL && rpmbuild -tb --nodeps --define "_topdir $WORK/rpm" "$ARCHIVE") &&
        for part in libpalloc libpalloc-devel libpalloc-tools; do ls "$WORK"/rpm/RPMS/*/"$part-$VERSION"-*.rpm || return; done
}

conan_package() { # SHARED
    (export CONAN_HOME="$WORK/conan" && unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL && { [ -d "$CONAN_HOME" ] || conan profile detect; } &&
        conan create "$TREE/packaging/conan" -o "libpalloc/*:shared=$1")
}

if ! [ -d "$ROOT/.git" ] && ! [ -f "$ROOT/.git" ]; then
    skip "make dist" "needs git's list of the files"
    finish
    exit
fi
check "make dist" "$MAKE" -C "$ROOT" dist
check "make dist gives the same bytes again" same_again
check "the archive unpacks" tar -xzf "$ARCHIVE" -C "$WORK"
check "its tree builds and installs without a network" make_in "$TREE" install DESTDIR="$WORK/dest" PREFIX=/usr
check "a program uses what it installed" uses "$WORK/dest" /usr/lib
check "its tests build and run without a network" tests_in "$TREE"
if have dpkg-buildpackage && have dh; then
    check "Debian packages" debian_packages nocheck
    check "a program uses what they have" debian_installs
    if have lintian; then check "lintian has nothing to say" debian_lint; else skip "lintian" "not installed"; fi
else
    skip "Debian packages" "needs dpkg-dev and debhelper"
fi
if have rpmbuild; then check "RPM packages, with their tests" rpm_packages; else skip "RPM packages" "needs rpmbuild"; fi
if have conan; then
    check "Conan: the static library, used by a program" conan_package False
    check "Conan: the shared library, used by a program" conan_package True
else
    skip "Conan" "not installed"
fi
finish
