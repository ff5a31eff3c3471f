#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes build/dist/palloc-VERSION.tar.gz, as `make dist` does: the files that git knows, as they are in the tree, and in vendor/ the crates
# of Cargo.lock, so that it builds without a network; and libpalloc.spdx, the bill of
# materials. The same tree gives the same bytes.
#
#   dist.sh VERSION
#
# CARGO and CARGOFLAGS are those of the Makefile. Needs git and GNU tar.
set -e
cd "$(dirname "$0")/.."
name=palloc-$1
tree=build/dist/$name

rm -rf build/dist
mkdir -p "$tree/.cargo"
git ls-files -z | tar -c --null -T - | tar -x -C "$tree"
# shellcheck disable=SC2086  # flags are a list
"${CARGO:-cargo}" vendor -q ${CARGOFLAGS-} "$tree/vendor" >/dev/null
cat >"$tree/.cargo/config.toml" <<'CONFIG'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "vendor"
CONFIG
packaging/sbom.sh "$1" "$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)" >"$tree/libpalloc.spdx"
tar -c -C build/dist --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r-w,a+X \
    --mtime="@$(git log -1 --format=%ct)" "$name" | gzip -9n >"$tree.tar.gz"
rm -rf "$tree"
