#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The bill of materials of libpalloc, in SPDX 2.3: what packaging/licences.txt lists, with the checksums of Cargo.lock. `make dist` puts it
# into the source archive.
#
#   sbom.sh VERSION DATE          DATE as 2026-01-31T12:00:00Z
set -e
cd "$(dirname "$0")/.."
version=$1 date=$2

checksum() { # NAME VERSION
    awk -v name="name = \"$1\"" -v version="version = \"$2\"" '
        /^\[\[package\]\]/ { found = 0 }
        $0 == name { found = 1 }
        found && $0 == version { found = 2 }
        found == 2 && /^checksum = / { gsub(/"/, "", $3); print $3; exit }' Cargo.lock
}

package() { # ID NAME VERSION LICENCE PURL [CHECKSUM]
    printf '\nPackageName: %s\nSPDXID: SPDXRef-%s\nPackageVersion: %s\nPackageDownloadLocation: NOASSERTION\nFilesAnalyzed: false\n' "$2" "$1" "$3"
    [ -z "${6-}" ] || echo "PackageChecksum: SHA256: $6"
    printf 'PackageLicenseConcluded: %s\nPackageLicenseDeclared: %s\nPackageCopyrightText: NOASSERTION\n' "$4" "$4"
    echo "ExternalRef: PACKAGE-MANAGER purl $5"
}

cat <<HEAD
SPDXVersion: SPDX-2.3
DataLicense: CC0-1.0
SPDXID: SPDXRef-DOCUMENT
DocumentName: libpalloc-$version
DocumentNamespace: urn:libpalloc:$version:$(cksum <Cargo.lock | tr ' ' '-')
Creator: Tool: sbom.sh
Created: $date
Relationship: SPDXRef-DOCUMENT DESCRIBES SPDXRef-libpalloc
HEAD
package libpalloc libpalloc "$version" "MIT OR Apache-2.0" "pkg:cargo/libpalloc@$version"
sed -n 's/^\([a-z][a-z0-9_-]*\) \([0-9][^ ]*\): \(.*\)/\1 \2 \3/p' packaging/licences.txt | while read -r name number licence; do
    sum=$(checksum "$name" "$number")
    if [ -z "$sum" ]; then
        echo "sbom.sh: Cargo.lock has no checksum of $name $number" >&2
        exit 1
    fi
    package "$name" "$name" "$number" "$licence" "pkg:cargo/$name@$number" "$sum"
    echo "Relationship: SPDXRef-libpalloc DEPENDS_ON SPDXRef-$name"
done
