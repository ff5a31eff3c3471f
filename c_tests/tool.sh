#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The tool `palloc`, on a terminal and in a pipe, with and without AddressSanitizer.
. "$(dirname "$0")/lib.sh"

build() { # FLAGS...
    # shellcheck disable=SC2086
    strict_cc "$@" "$ROOT/tools/palloc.c" $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB" -o "$WORK/palloc"
}

# status WANTED COMMAND...: the command ends with this status. What it printed is in $WORK/out and $WORK/err.
status() {
    wanted=$1
    shift
    "$@" >"$WORK/out" 2>"$WORK/err"
    got=$?
    cat "$WORK/out" "$WORK/err"
    [ "$got" -eq "$wanted" ] || {
        echo "status $got, not $wanted"
        return 1
    }
}

# A medium with 60 blobs, of which some are free, and one that waits for a line on its standard input before it closes it.
sample() {
    cat >"$WORK/sample.c" <<'C'
#include <palloc.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    struct palloc_t *pt = palloc_init(argv[1], PALLOC_DYNAMIC);
    uint64_t last = 0;
    unsigned i;
    for (i = 0; pt != NULL && argc == 2 && i < 60; i++) {
        uint64_t ptr = pcalloc(pt, 1, 40 + i * 30);
        snprintf(palloc_data(pt, ptr), 40, "blob number %u", i);
        if (i % 4 == 3)
            pfree(pt, last);
        last = ptr;
    }
    if (argc > 2) {
        puts("open");
        fflush(stdout);
        getchar();
    }
    palloc_close(pt);
    return pt == NULL;
}
C
    # shellcheck disable=SC2086
    strict_cc "$WORK/sample.c" $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB" -o "$WORK/sample"
}

fresh() {
    rm -f "$WORK/m.db" "$WORK/copy.db" && "$WORK/sample" "$WORK/m.db"
}

a_sound_medium() {
    fresh && status 0 "$WORK/palloc" stat "$WORK/m.db" && grep -q " 45 blobs of" "$WORK/out" &&
        status 0 "$WORK/palloc" check "$WORK/m.db" && grep -q " 0 violations" "$WORK/out" &&
        status 0 "$WORK/palloc" list "$WORK/m.db" && [ "$(wc -l <"$WORK/out")" -eq 45 ] &&
        status 0 "$WORK/palloc" list -l "$WORK/m.db" && grep -q "blob number 0" "$WORK/out" && grep -q " free$" "$WORK/out" &&
        status 0 "$WORK/palloc" dump "$WORK/m.db" 16 && grep -q "62 6c 6f 62" "$WORK/out" &&
        status 0 "$WORK/palloc" dump -o "$WORK/blob" "$WORK/m.db" 16 && [ "$(wc -c <"$WORK/blob")" -eq 48 ] &&
        status 0 "$WORK/palloc" map "$WORK/m.db" && grep -q "#" "$WORK/out" && ! grep -q "$(printf '\033')" "$WORK/out" &&
        status 0 "$WORK/palloc" map -o "$WORK/map.svg" "$WORK/m.db" && grep -q "</svg>" "$WORK/map.svg" &&
        status 0 "$WORK/palloc" copy "$WORK/m.db" "$WORK/copy.db" && cmp "$WORK/m.db" "$WORK/copy.db" && [ ! -s "$WORK/err" ] &&
        status 2 "$WORK/palloc" copy "$WORK/m.db" "$WORK/copy.db" && grep -q "File exists" "$WORK/err"
}

in_json() {
    fresh && for command in stat check list; do
        status 0 "$WORK/palloc" $command --json "$WORK/m.db" && python3 -m json.tool <"$WORK/out" >/dev/null || return
    done
}

a_damaged_medium() {
    fresh && printf '\0\0\0\0\0\0\0\7' | dd of="$WORK/m.db" bs=1 seek=8 conv=notrunc status=none &&
        status 2 "$WORK/palloc" stat "$WORK/m.db" && grep -q "palloc_salvage" "$WORK/err" &&
        status 1 "$WORK/palloc" check "$WORK/m.db" && status 1 "$WORK/palloc" check --json "$WORK/m.db" &&
        status 1 "$WORK/palloc" salvage "$WORK/m.db" "$WORK/copy.db" && grep -q "45 blobs, 1 blocks mended, 0 ranges" "$WORK/out" &&
        status 0 "$WORK/palloc" check "$WORK/copy.db"
}

open_elsewhere() {
    fresh && mkfifo "$WORK/in" && { "$WORK/sample" "$WORK/m.db" wait <"$WORK/in" >"$WORK/open" & } && exec 9>"$WORK/in" || return
    while ! [ -s "$WORK/open" ]; do sleep 0.1; done
    status 0 "$WORK/palloc" stat "$WORK/m.db" && grep -q "without the lock" "$WORK/err" && grep -q " 45 blobs" "$WORK/out" &&
        status 0 "$WORK/palloc" list "$WORK/m.db" && [ "$(wc -l <"$WORK/out")" -eq 45 ] &&
        status 0 "$WORK/palloc" map "$WORK/m.db" && status 2 "$WORK/palloc" check "$WORK/m.db" &&
        grep -q "open elsewhere" "$WORK/err"
    result=$?
    exec 9>&-
    wait
    rm -f "$WORK/in" "$WORK/open"
    return $result
}

created() {
    rm -f "$WORK/new.db" "$WORK/fixed.db"
    status 0 "$WORK/palloc" create "$WORK/new.db" && [ "$(wc -c <"$WORK/new.db")" -eq 8 ] &&
        status 2 "$WORK/palloc" create "$WORK/new.db" && status 0 "$WORK/palloc" create --static 64K "$WORK/fixed.db" &&
        [ "$(wc -c <"$WORK/fixed.db")" -eq 65536 ] && status 0 "$WORK/palloc" check "$WORK/fixed.db" &&
        status 2 "$WORK/palloc" create --static 3X "$WORK/none.db" && [ ! -e "$WORK/none.db" ]
}

wrong_use() {
    fresh && status 2 "$WORK/palloc" && status 2 "$WORK/palloc" stat && status 2 "$WORK/palloc" stat --no "$WORK/m.db" &&
        status 0 "$WORK/palloc" --help && status 2 "$WORK/palloc" dump "$WORK/m.db" 17 && status 2 "$WORK/palloc" dump "$WORK/m.db" x &&
        status 2 "$WORK/palloc" stat "$WORK/nothing.db" && status 2 "$WORK/palloc" stat /dev/null
}

on_a_terminal() {
    fresh && script -qec "'$WORK/palloc' map '$WORK/m.db'" /dev/null >"$WORK/out" </dev/null && grep -q "$(printf '\033')\[31m#" "$WORK/out"
}

all() { # HOW
    check "the tool$1: a sound medium" a_sound_medium
    if have python3; then check "the tool$1: JSON" in_json; else skip "the tool$1: JSON" "no python3"; fi
    check "the tool$1: a damaged medium" a_damaged_medium
    check "the tool$1: a medium that is open for writing" open_elsewhere
    check "the tool$1: new media" created
    check "the tool$1: wrong use is status 2" wrong_use
    if have script; then check "the tool$1: colours on a terminal" on_a_terminal; else skip "the tool$1: on a terminal" "no script(1)"; fi
}

check "the tool's sample" sample
check "the tool is built" build
all ""
if build -fsanitize=address,undefined -fno-sanitize-recover >"$WORK/log" 2>&1; then
    all " under AddressSanitizer"
else
    skip "the tool under AddressSanitizer" "the compiler has none"
fi
finish
