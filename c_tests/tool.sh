#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The tool `palloc`, on a terminal and in a pipe, with and without AddressSanitizer.
. "$(dirname "$0")/lib.sh"

build() { # FLAGS...
    # shellcheck disable=SC2086
    strict_cc "$@" "$ROOT/tools/palloc.c" $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB" -o "$WORK/palloc"
}

# status WANTED COMMAND...: the command ends with this status. Its output is in $WORK/out and $WORK/err.
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

# sample FILE: makes a medium with 60 blobs, of which some are free. sample FILE large: one with a blob of 3 MiB. sample FILE wait: waits
# for a line on its standard input before it closes it. sample FILE share, read: the same as a writer and as a reader in a section.
sample() {
    cat >"$WORK/sample.c" <<'C'
#include <palloc.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    int shares = argc > 2 && strcmp(argv[2], "share") == 0, reads = argc > 2 && strcmp(argv[2], "read") == 0;
    struct palloc_t *pt = palloc_init(argv[1], (reads ? PALLOC_READONLY : PALLOC_DYNAMIC) | (shares || reads ? PALLOC_SHARED : 0));
    uint64_t last = 0;
    unsigned i;
    if (pt == NULL || (reads && palloc_read_begin(pt) != 0)) {
        fprintf(stderr, "%s\n", palloc_error());
        return 1;
    }
    for (i = 0; pt != NULL && argc == 2 && i < 60; i++) {
        uint64_t ptr = pcalloc(pt, 1, 40 + i * 30);
        snprintf(palloc_data(pt, ptr), 40, "blob number %u", i);
        if (i % 4 == 3)
            pfree(pt, last);
        last = ptr;
    }
    if (argc > 2 && strcmp(argv[2], "large") == 0) {
        memset(palloc_data(pt, palloc(pt, 3 << 20)), 'x', 3 << 20);
    } else if (argc > 2) {
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
        status 2 "$WORK/palloc" $command --json "$WORK/nothing.db" && [ ! -s "$WORK/out" ] || return
    done
    # A name with a newline, quotes, a byte that is no UTF-8, and half of a surrogate pair.
    python3 - "$WORK/palloc" "$WORK" <<'PYTHON'
import json, os, subprocess, sys
tool, work = sys.argv[1:]
name = os.fsencode(work) + b'/a\nb"\\\x01\xff\xc3\xa9\xed\xa0\x80\xe2\x82\xac\xc0\xaf'
os.link(work + "/m.db", name)
found = json.loads(subprocess.check_output([tool, "stat", "--json", name]).decode())["file"]
os.unlink(name)
assert os.fsencode(found) == name, found
PYTHON
}

# The SVG is XML: a square for each cell that has blocks. Parts of the file without space on the disk are seen, in it and in the text.
pictures() {
    rm -f "$WORK/holes.db" "$WORK/map.svg"
    "$WORK/palloc" create --static 4M "$WORK/holes.db" >/dev/null && "$WORK/sample" "$WORK/holes.db" keep || return
    for medium in holes m; do
        [ $medium = holes ] || fresh || return
        status 0 "$WORK/palloc" map "$WORK/$medium.db" && cp "$WORK/out" "$WORK/map.txt" &&
            status 0 "$WORK/palloc" map -o "$WORK/map.svg" "$WORK/$medium.db" && [ ! -s "$WORK/out" ] && python3 - "$WORK/map.svg" "$WORK/map.txt" <<'PYTHON' || return
import re, sys, xml.etree.ElementTree as ET
root = ET.parse(sys.argv[1]).getroot()
text = open(sys.argv[2]).read().split("\n")[:-2]
assert root.tag == "{http://www.w3.org/2000/svg}svg"
width, height = int(root.get("width")), int(root.get("height"))
seen = {}
for rect in root:
    assert rect.tag == "{http://www.w3.org/2000/svg}rect" and re.fullmatch("#[0-9a-f]{6}", rect.get("fill"))
    x, y = int(rect.get("x")), int(rect.get("y"))
    assert x + int(rect.get("width")) <= width and y + int(rect.get("height")) <= height
    seen[x // 10, y // 10] = rect.get("fill")
letters = {(x, y): letter for y, line in enumerate(text) for x, letter in enumerate(line) if letter != " "}
assert letters.keys() == seen.keys() and letters, (len(letters), len(seen))
for place, letter in letters.items():
    assert (letter == "_") == (seen[place] == "#dddddd"), place
print(len(letters), "cells", sum(letter == "_" for letter in letters.values()), "holes")
PYTHON
    done
    if have xmllint; then xmllint --noout "$WORK/map.svg" || return; fi
    [ "$(du -k "$WORK/holes.db" | cut -f1)" -gt 2048 ] || grep -q "____" "$WORK/map.txt" || "$WORK/palloc" map "$WORK/holes.db" | grep -q "____"
}

# Each option and command of the tool's own help is in palloc(1) and in the completion, and no other.
documented() {
    "$WORK/palloc" --help | sed 's/^usage://; s/^ *//' | sort >"$WORK/help" &&
        sed -n '/^.nf/,/^.fi/ { /^\\fB/ { s/\\f[A-Z]//g; s/\\-/-/g; p; }; }' "$ROOT/tools/palloc.1" | sort >"$WORK/man" && diff "$WORK/help" "$WORK/man" || return
    while read -r _ command rest; do
        options=$(echo "$rest" | grep -o -e '--*[a-z]*' | sort | tr '\n' ' ')
        [ "$(answer palloc "$command" - | tr ' ' '\n' | grep -e - | sort | tr '\n' ' ')" = "$options" ] || {
            echo "completion of $command: $(answer palloc "$command" -), and the tool has $options"
            return 1
        }
        grep -q "^\\\\fB$command\\\\fP\$" "$ROOT/tools/palloc.1" || {
            echo "palloc(1) does not describe $command"
            return 1
        }
    done <"$WORK/help"
}

# A program with a name that begins with a dash, and options that are no options.
odd_names() {
    fresh && cd "$WORK" && cp m.db -- -x.db && status 2 ./palloc stat -x.db && status 0 ./palloc stat -- -x.db &&
        status 0 ./palloc copy -- -x.db -y.db && cmp m.db -- -y.db
    result=$?
    rm -f -- -x.db -y.db
    cd "$ROOT" && return $result
}

# `dump -o` and `map -o` replace no medium that they read, and a file only by one that is whole.
written_files() {
    fresh && cp "$WORK/m.db" "$WORK/kept.db" && ln -sf m.db "$WORK/link.db" && ln -f "$WORK/m.db" "$WORK/hard.db" || return
    for own in m.db link.db hard.db; do
        status 2 "$WORK/palloc" dump -o "$WORK/$own" "$WORK/m.db" 16 && grep -q "the medium itself" "$WORK/err" &&
            status 2 "$WORK/palloc" map -o "$WORK/$own" "$WORK/m.db" && cmp "$WORK/m.db" "$WORK/kept.db" || return
    done
    rm "$WORK/link.db" "$WORK/hard.db"
    echo old >"$WORK/old" && chmod 600 "$WORK/old" && ln -sf old "$WORK/link" && status 0 "$WORK/palloc" dump -o "$WORK/link" "$WORK/m.db" 16 &&
        [ "$(wc -c <"$WORK/old")" -eq 48 ] && [ -L "$WORK/link" ] && [ "$(stat -c %a "$WORK/old")" = 600 ] &&
        status 2 "$WORK/palloc" dump -o "$WORK" "$WORK/m.db" 16 && status 2 "$WORK/palloc" map -o "$WORK/none/map.svg" "$WORK/m.db" &&
        status 0 "$WORK/palloc" dump -o - "$WORK/m.db" 16 && cmp "$WORK/out" "$WORK/old" || return
    longest=$(printf '%0255d' 0)
    for command in "dump -o $longest m.db 16" "copy m.db $longest" "salvage m.db $longest"; do
        # shellcheck disable=SC2086
        (cd "$WORK" && status 0 ./palloc $command && rm "$longest") || return
    done
    [ -z "$(find "$WORK" -maxdepth 1 -name '*.tmp')" ]
}

# Output that can't be written is status 2, with the reason. Nothing else is written to a file instead.
output_that_fails() {
    fresh || return
    for command in "stat m.db" "stat --json m.db" "check m.db" "list m.db" "list --json m.db" "dump m.db 16" "dump -o - m.db 16" "map m.db" \
        "map -o - m.db" "trim m.db" "help" "--version"; do
        for to in full closed; do
            (
                cd "$WORK" || exit
                if [ $to = full ]; then exec >/dev/full; else exec >&-; fi
                # shellcheck disable=SC2086
                exec ./palloc $command 2>err
            )
            if [ $? -ne 2 ] || ! grep -q -e "the output: No space left" -e "the output: Bad file" "$WORK/err"; then
                echo "$command, $to"
                cat "$WORK/err"
                return 1
            fi
        done
    done
    (cd "$WORK" && ./palloc copy m.db copy.db <&- >&- 2>&-) && cmp "$WORK/m.db" "$WORK/copy.db" &&
        (cd "$WORK" && ! ./palloc stat none.db <&- >&- 2>&-) && status 0 "$WORK/palloc" check "$WORK/m.db"
}

# Files that are no media: all commands say so, and change nothing.
foreign_files() {
    fresh && head -c 100000 /dev/urandom >"$WORK/random" && : >"$WORK/nothing" && truncate -s 5G "$WORK/zeros" && printf 'PBA' >"$WORK/short" &&
        mkfifo "$WORK/fifo" && printf 'SQLite format 3\0' >"$WORK/sqlite" && head -c 8000 /dev/zero >>"$WORK/sqlite" || return
    for file in random nothing zeros short sqlite fifo . none; do
        for command in stat "stat --json" list "list --json" dump map copy salvage trim; do
            case $command in dump) more=16 ;; copy | salvage) more=$WORK/copy.db ;; *) more= ;; esac
            before=$(cksum "$WORK/random" "$WORK/nothing" "$WORK/short" "$WORK/sqlite")
            # shellcheck disable=SC2086
            if ! status 2 limited "$WORK/palloc" $command "$WORK/$file" $more || [ -s "$WORK/out" ] || [ ! -s "$WORK/err" ] ||
                [ -e "$WORK/copy.db" ] || [ "$before" != "$(cksum "$WORK/random" "$WORK/nothing" "$WORK/short" "$WORK/sqlite")" ]; then
                echo "$command of $file"
                return 1
            fi
        done
    done
    cmp -n 4096 "$WORK/zeros" /dev/zero && [ "$(wc -c <"$WORK/zeros")" -eq 5368709120 ]
    result=$?
    for file in random nothing zeros short sqlite; do status 1 "$WORK/palloc" check "$WORK/$file" || result=1; done
    rm -f "$WORK/random" "$WORK/nothing" "$WORK/zeros" "$WORK/short" "$WORK/sqlite" "$WORK/fifo"
    return $result
}

a_damaged_medium() {
    fresh && printf '\0\0\0\0\0\0\0\7' | dd of="$WORK/m.db" bs=1 seek=8 conv=notrunc status=none &&
        status 2 "$WORK/palloc" stat "$WORK/m.db" && grep -q "palloc_salvage" "$WORK/err" &&
        status 1 "$WORK/palloc" check "$WORK/m.db" && status 1 "$WORK/palloc" check --json "$WORK/m.db" &&
        status 1 "$WORK/palloc" salvage "$WORK/m.db" "$WORK/copy.db" && grep -q "45 blobs, 1 blocks mended, 0 ranges" "$WORK/out" &&
        status 0 "$WORK/palloc" check "$WORK/copy.db" && rm "$WORK/copy.db" &&
        printf '\0\0\0\0' | dd of="$WORK/m.db" bs=1 conv=notrunc status=none && status 2 "$WORK/palloc" salvage "$WORK/m.db" "$WORK/copy.db" &&
        [ ! -e "$WORK/copy.db" ] && status 1 "$WORK/palloc" salvage --force "$WORK/m.db" "$WORK/copy.db" && grep -q "45 blobs" "$WORK/out" &&
        status 0 "$WORK/palloc" check "$WORK/copy.db"
}

# A medium that process PID has open: a clone, or a copy while the process is stopped; it goes on afterwards.
copied_in_use() { # PID
    "$WORK/palloc" copy "$WORK/m.db" "$WORK/clone.db" >"$WORK/out" 2>"$WORK/err"
    case $? in
    0) "$WORK/palloc" check "$WORK/clone.db" ;;
    2) grep -q "palloc_snapshot" "$WORK/err" && [ ! -e "$WORK/clone.db" ] ;;
    *) false ;;
    esac || return
    rm -f "$WORK/clone.db"
    [ -r /proc/locks ] || return 0
    status 0 "$WORK/palloc" copy --stop "$WORK/m.db" "$WORK/copy.db" && [ ! -s "$WORK/err" ] &&
        status 0 "$WORK/palloc" check "$WORK/copy.db" && [ "$("$WORK/palloc" list "$WORK/copy.db" | wc -l)" -eq 45 ] &&
        status 2 "$WORK/palloc" copy --stop "$WORK/m.db" "$WORK/copy.db" && grep -q "File exists" "$WORK/err" &&
        grep -q "^State:.[^T]" "/proc/$1/status" && [ -z "$(find "$WORK" -maxdepth 1 -name '*.tmp')" ]
}

# waiting FILE HOW: starts the sample, and waits until it has the medium open. Its input is the descriptor 9.
waiting() {
    rm -f "$WORK/open"
    "$WORK/sample" "$1" "$2" <"$WORK/in" >"$WORK/open" &
    pid=$!
    while ! [ -s "$WORK/open" ]; do
        kill -0 "$pid" 2>/dev/null || return
        sleep 0.1
    done
}

# hold FILE HOW: as `waiting`, and makes its input, which `let_go` removes.
hold() {
    mkfifo "$WORK/in" && { exec 9<>"$WORK/in"; } || return
    waiting "$1" "$2" && return
    let_go "$pid"
    return 1
}

# let_go PROCESS: lets the sample end. Fails iff the sample does.
let_go() {
    echo >&9
    wait "$1"
    set -- $?
    exec 9>&-
    rm -f "$WORK/in" "$WORK/open"
    return "$1"
}

open_elsewhere() {
    fresh && hold "$WORK/m.db" wait || return
    status 0 "$WORK/palloc" stat "$WORK/m.db" && grep -q "without the lock" "$WORK/err" && grep -q " 45 blobs" "$WORK/out" &&
        { [ ! -r /proc/locks ] || grep -q "open for writing in process $pid\$" "$WORK/out"; } &&
        status 0 "$WORK/palloc" list "$WORK/m.db" && [ "$(wc -l <"$WORK/out")" -eq 45 ] &&
        status 0 "$WORK/palloc" map "$WORK/m.db" && status 2 "$WORK/palloc" check "$WORK/m.db" &&
        grep -q "open elsewhere" "$WORK/err" && copied_in_use "$pid"
    result=$?
    let_go "$pid" || result=1
    return $result
}

shared() {
    [ "$(uname -s)" = Linux ] || return 0
    fresh && hold "$WORK/m.db" share || return
    writer=$pid
    waiting "$WORK/m.db" read || {
        let_go "$writer"
        return 1
    }
    status 0 "$WORK/palloc" stat "$WORK/m.db" && grep -q " 45 blobs" "$WORK/out" &&
        grep -q " 1 readers have it open, 1 of them in a section" "$WORK/out" &&
        grep -q "the oldest section is that of process $pid\$" "$WORK/out" &&
        grep -q "open for writing in process $writer\$" "$WORK/out" &&
        { ! unshare -rpf --mount-proc true 2>/dev/null || { status 0 unshare -rpf --mount-proc "$WORK/palloc" stat "$WORK/m.db" &&
            grep -q "open for writing in process $writer\$" "$WORK/out"; }; } &&
        status 0 "$WORK/palloc" stat --json "$WORK/m.db" && grep -q '"readers": {"open": 1, "reading": 1, ' "$WORK/out" &&
        grep -q "\"process\": $writer, .*\"oldest_process\": $pid, " "$WORK/out" &&
        kill -9 "$pid" && { wait "$pid" || :; } &&
        status 0 "$WORK/palloc" stat --json "$WORK/m.db" && grep -q '"readers": {"open": 0, "reading": 0, ' "$WORK/out"
    result=$?
    let_go "$writer" || result=1
    [ ! -e "$WORK/m.db.live" ] && status 0 "$WORK/palloc" stat --json "$WORK/m.db" && grep -q '"readers": null' "$WORK/out" && return $result
}

# A file that would exceed the limit of files: status 2, and nothing is left of it. A process that is stopped meanwhile goes on.
beyond_the_file_size_limit() {
    rm -f "$WORK/big.db"
    fresh && "$WORK/sample" "$WORK/big.db" large && echo old >"$WORK/old" && hold "$WORK/m.db" wait || return
    result=0
    for command in "copy --stop m.db new" "copy big.db new" "salvage big.db new" "create --static 1M new" "dump -o new big.db 16" \
        "dump -o old big.db 16" "map -o new big.db" "dump big.db 16"; do
        [ -r /proc/locks ] || [ "${command#copy --stop}" = "$command" ] || continue
        if ! (cd "$WORK" && status 2 sh -c "ulimit -f 8 && exec ./palloc $command") || ! grep -q -e "File too large" -e "the output: " "$WORK/err" ||
            [ -n "$(find "$WORK" -maxdepth 1 -name '*.tmp' -o -maxdepth 1 -name new)" ] || ! grep -q old "$WORK/old" ||
            { [ -r "/proc/$pid/status" ] && grep "^State:.T" "/proc/$pid/status"; }; then
            echo "$command"
            result=1
        fi
        kill -CONT "$pid"
        rm -f "$WORK/new" "$WORK"/*.tmp
    done
    let_go "$pid" || result=1
    rm -f "$WORK/old" "$WORK/big.db"
    return $result
}

# A signal that ends the tool while a process is stopped: the process goes on, and no file is left.
interrupted() {
    rm -f "$WORK/long.db"
    "$WORK/palloc" create --static 16G "$WORK/long.db" && hold "$WORK/long.db" wait || return
    result=0
    for signal in HUP TERM XCPU; do
        "$WORK/palloc" copy --stop "$WORK/long.db" "$WORK/copy.db" &
        tool=$!
        tries=0
        until grep -q "^State:.T" "/proc/$pid/status" || [ $((tries += 1)) -gt 500 ]; do sleep 0.02; done
        kill -$signal $tool
        wait $tool
        status=$?
        if [ $status -le 128 ] || grep "^State:.T" "/proc/$pid/status" || [ -n "$(find "$WORK" -maxdepth 1 -name 'copy.db*')" ]; then
            echo "$signal, status $status"
            result=1
        fi
        kill -CONT "$pid"
        rm -f "$WORK"/copy.db*
    done
    let_go "$pid" || result=1
    rm -f "$WORK/long.db"
    return $result
}

# The tool with a link(2) that fails with the error $LINK_ERROR, before which another process makes the file $MADE_BEFORE_LINK. Once the
# copy has its name, and before that is on the disk, another process makes a file with the temporary name.
tool_with_own_link() {
    cat >"$WORK/own_link.c" <<C
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char temporary[4096];

static void make(const char *path)
{
    if (path != NULL && close(open(path, O_CREAT | O_EXCL | O_WRONLY, 0666)) != 0)
        abort();
}

static int own_link(const char *from, const char *to)
{
    const char *error = getenv("LINK_ERROR");

    snprintf(temporary, sizeof temporary, "%s", from);
    make(getenv("MADE_BEFORE_LINK"));
    if (error == NULL)
        return link(from, to);
    errno = *error == 'P' ? EPERM : *error == 'O' ? EOPNOTSUPP : *error == 'N' ? ENOSYS : EIO;
    return -1;
}

static int own_fsync(int fd)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        make(temporary);
    return fsync(fd);
}

#define link own_link
#define fsync own_fsync
#include "$ROOT/tools/palloc.c"
C
    # shellcheck disable=SC2086
    strict_cc "$WORK/own_link.c" $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB" -o "$WORK/own_link"
}

# A copy never takes a name that is taken, with links or without; and a file that is not the tool's stays.
names_of_copies() {
    tool_with_own_link && fresh && hold "$WORK/m.db" wait || return
    result=0
    for error in "" P O N; do
        rm -f "$WORK/copy.db"
        if ! status 0 env ${error:+LINK_ERROR=$error} "$WORK/own_link" copy --stop "$WORK/m.db" "$WORK/copy.db" ||
            ! status 0 "$WORK/palloc" check "$WORK/copy.db" || [ "$(find "$WORK" -name '*.tmp' | wc -l)" -ne 1 ] || ! rm "$WORK"/*.tmp "$WORK/copy.db" ||
            ! status 2 env ${error:+LINK_ERROR=$error} MADE_BEFORE_LINK="$WORK/copy.db" "$WORK/own_link" copy --stop "$WORK/m.db" "$WORK/copy.db" ||
            ! grep -q "File exists" "$WORK/err" || [ -s "$WORK/copy.db" ] || [ -n "$(find "$WORK" -name '*.tmp')" ]; then
            echo "the error of link: $error"
            result=1
        fi
        rm -f "$WORK"/*.tmp
    done
    rm -f "$WORK/copy.db"
    status 2 env LINK_ERROR=I "$WORK/own_link" copy --stop "$WORK/m.db" "$WORK/copy.db" &&
        [ -z "$(find "$WORK" -name 'copy.db*')" ] || result=1
    # Of a long name, the temporary one has the whole characters in the first 100 bytes: 33 of 3 bytes.
    part=$(printf '%033d' 0 | sed "s/0/$(printf '\342\202\254')/g")
    status 0 "$WORK/own_link" copy --stop "$WORK/m.db" "$WORK/$part$part" && rm "$WORK/$part$part" "$WORK/$part".[0-9]*.tmp || result=1
    let_go "$pid" || result=1
    rm -f "$WORK"/copy.db*
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
        status 2 "$WORK/palloc" stat "$WORK/nothing.db" && status 2 "$WORK/palloc" stat /dev/null &&
        status 2 "$WORK/palloc" dump "$WORK/m.db" "" && status 2 "$WORK/palloc" check -l "$WORK/m.db" &&
        status 2 "$WORK/palloc" stat --static 5 "$WORK/m.db" && status 2 "$WORK/palloc" dump "$WORK/m.db" 16 -o &&
        status 2 "$WORK/palloc" copy "$WORK/m.db" && [ ! -s "$WORK/out" ]
}

# churn FILE: makes and frees blobs until it is killed, each of which holds its own offset. churn FILE check: they do.
churn_program() {
    cat >"$WORK/churn.c" <<'C'
#include <palloc.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    struct palloc_t *pt = palloc_init(argv[1], PALLOC_DYNAMIC);
    uint64_t ptr, holds, kept[200] = {0}, i;
    unsigned odd = 0, count = 0;
    if (pt == NULL)
        return puts(palloc_error()), 1;
    if (argc > 2) {
        for (ptr = palloc_first(pt); ptr != 0; ptr = palloc_next(pt, ptr), count++) {
            memcpy(&holds, palloc_data(pt, ptr), 8);
            odd += holds != ptr;
        }
        printf("%u blobs, %u of them new\n", count, odd);
        palloc_close(pt);
        return odd > 1 || count < 2 || count > 201;
    }
    for (i = 0;; i++) {
        uint64_t *place = &kept[i * 7919 % 200];
        pfree(pt, *place);
        *place = pcalloc(pt, 1, 8 + i * 104729 % 9000);
        memcpy(palloc_data(pt, *place), place, 8);
        if (i == 1000)
            puts("busy"), fflush(stdout);
    }
}
C
    # shellcheck disable=SC2086
    strict_cc "$WORK/churn.c" $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB" -o "$WORK/churn"
}

# Copies of a medium while another process changes it all the time.
copies_during_churn() { # DIRECTORY OPTION...
    directory=$1
    shift
    rm -f "$directory/busy.db" "$WORK/busy"
    "$WORK/churn" "$directory/busy.db" >"$WORK/busy" &
    busy=$!
    n=0
    while ! [ -s "$WORK/busy" ]; do sleep 0.1; done
    while [ $((n += 1)) -le 10 ] && status 0 "$WORK/palloc" copy "$@" "$directory/busy.db" "$directory/copy.db" &&
        status 0 "$WORK/palloc" check "$directory/copy.db" && status 0 "$WORK/churn" "$directory/copy.db" check; do
        rm "$directory/copy.db"
    done
    kill -9 $busy
    wait $busy 2>/dev/null
    echo "$n copies"
    [ $n -eq 11 ] && status 0 "$WORK/churn" "$directory/busy.db" check
}

# A file system of this kind on WORK/disk, for a command.
on_disk() { # KIND SIZE COMMAND...
    kind=$1 size=$2
    shift 2
    case $kind in ext4) force=-F ;; *) force=-f ;; esac
    mkdir -p "$WORK/disk" && rm -f "$WORK/image" && truncate -s "$size" "$WORK/image" &&
        PATH=$PATH:/sbin:/usr/sbin "mkfs.$kind" -q $force "$WORK/image" >/dev/null 2>&1 && mount -o loop "$WORK/image" "$WORK/disk" || return
    "$@"
    result=$?
    umount "$WORK/disk"
    rm -f "$WORK/image"
    return $result
}

# A medium on btrfs is not copied on write, as one that palloc_init creates.
created_without_copies() {
    status 0 "$WORK/palloc" create "$WORK/disk/new.db" && status 0 "$WORK/palloc" create --static 64K "$WORK/disk/fixed.db" &&
        lsattr "$WORK/disk" >"$WORK/out" && [ "$(grep -c "^[-a-zA-Z]*C" "$WORK/out")" -eq 2 ]
}

# Nothing is left of a file for which the disk has no space, and the medium is as it was.
on_a_full_disk() {
    rm -f "$WORK/big.db"
    "$WORK/sample" "$WORK/big.db" large && "$WORK/sample" "$WORK/disk/m.db" && cp "$WORK/disk/m.db" "$WORK/kept.db" && echo kept >"$WORK/disk/old" || return
    for size in 1M 4096 512; do dd if=/dev/urandom of="$WORK/disk/fill$size" bs=$size 2>/dev/null; done
    for command in "salvage big.db disk/copy" "copy big.db disk/copy" "salvage disk/m.db disk/copy" "dump -o disk/copy big.db 16" "dump -o disk/old big.db 16"; do
        # shellcheck disable=SC2086
        if ! (cd "$WORK" && status 2 ./palloc $command) || ! grep -q "No space left" "$WORK/err" ||
            [ -n "$(find "$WORK/disk" -name '*copy*' -o -name '*tmp')" ]; then
            echo "$command"
            return 1
        fi
    done
    for command in "map -o disk/new big.db" "create disk/new" "create --static 8M disk/new" "trim disk/m.db"; do # so small that it may fit
        # shellcheck disable=SC2086
        (cd "$WORK" && exec ./palloc $command) 2>"$WORK/err"
        status=$?
        echo "$command: $status"
        [ $status -eq 0 ] || { [ $status -eq 2 ] && grep -q "No space left" "$WORK/err" && [ ! -e "$WORK/disk/new" ]; } || return
        rm -f "$WORK/disk/new"
    done
    grep -q kept "$WORK/disk/old" && status 0 "$WORK/palloc" check "$WORK/disk/m.db" && cmp "$WORK/disk/m.db" "$WORK/kept.db"
}

trimmed() {
    dd if=/dev/urandom of="$WORK/large.db" bs=65536 count=64 status=none && dd if=/dev/zero of="$WORK/zeros.db" bs=65536 count=64 status=none &&
        "$WORK/sample" "$WORK/zeros.db" && before=$(du -k "$WORK/zeros.db" | cut -f1) &&
        "$WORK/palloc" trim "$WORK/zeros.db" >"$WORK/out" 2>"$WORK/err"
    case $? in
    0) grep -q " bytes given back" "$WORK/out" && status 0 "$WORK/palloc" check "$WORK/zeros.db" &&
        [ "$(du -k "$WORK/zeros.db" | cut -f1)" -lt "$((before / 2))" ] && [ "$("$WORK/palloc" list "$WORK/zeros.db" | wc -l)" -eq 45 ] ;;
    2) grep -q "give space back" "$WORK/err" ;;
    *) false ;;
    esac && status 2 "$WORK/palloc" trim "$WORK/large.db"
}

# shellcheck disable=SC2016
answer() { bash -c '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _palloc; echo "${COMPREPLY[*]}"' "$ROOT/packaging/palloc.bash-completion" "$@"; }

completed() {
    fresh && [ "$(answer palloc s)" = "stat salvage" ] && [ "$(answer palloc list -)" = "-l --json" ] &&
        [ "$(answer palloc stat "$WORK/m.d")" = "$WORK/m.db" ] && for command in $(answer palloc ""); do
        case $command in -*) continue ;; esac
        "$WORK/palloc" --help | grep -q "palloc $command " || return
    done
}

# Each marker of each golden medium is damaged: no command may crash, and status 2 or 1 must say so.
damaged_golden_media() {
    python3 - "$WORK/palloc" "$WORK" "$ROOT/c_tests/golden/palloc" <<'PYTHON'
import glob, os, random, subprocess, sys
tool, work, golden = sys.argv[1:]
path, copy, part = work + "/golden.db", work + "/golden.copy", 1 if os.environ.get("DEEP") else 3
random.seed(1)
def run(*arguments):
    done = subprocess.run([tool, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode not in (0, 1, 2) or b"Sanitizer" in done.stderr or b"runtime error" in done.stderr:
        sys.exit("%s of %s: status %d\n%s" % (arguments, name, done.returncode, done.stderr.decode(errors="replace")))
    return done.returncode
count = 0
for name in sorted(glob.glob(golden + "/*.db")):
    data = open(name, "rb").read()
    at, places = 8, [0]
    while at + 32 <= len(data):
        n = int.from_bytes(data[at:at + 8], "big") & ~(1 << 63)
        if n < 16 or at + 16 + n > len(data):
            break
        places += [at, at + 8 + n]
        at += 16 + n
    for place in places[count % part::part]:
        value = random.choice([0, 2**64 - 1, 16, 2**40, 2**63 + 16, len(data) - place, random.getrandbits(64)])
        open(path, "wb").write(data[:place] + value.to_bytes(8, "big") + data[place + 8:])
        if os.path.exists(copy):
            os.unlink(copy)
        for arguments in (["stat", path], ["check", "--json", path], ["list", "-l", path], ["map", path], ["dump", path, "16"]):
            run(*arguments)
        if run("salvage", path, copy) != 2:
            assert run("check", copy) == 0, (name, place, value)
        count += 1
print(count, "media")
assert count > 50
PYTHON
}

progress() { # on a terminal; in a pipe there is none
    fresh && script -qec "'$WORK/palloc' copy '$WORK/m.db' '$WORK/copy.db'" /dev/null >"$WORK/out" </dev/null && grep -q "copying, [0-9]* bytes" "$WORK/out" &&
        rm -f "$WORK/copy.db" && status 0 "$WORK/palloc" copy "$WORK/m.db" "$WORK/copy.db" && [ ! -s "$WORK/err" ]
}

on_a_terminal() {
    fresh && script -qec "'$WORK/palloc' map '$WORK/m.db'" /dev/null >"$WORK/out" </dev/null && grep -q "$(printf '\033')\[31m#" "$WORK/out"
}

copies_in_use() {
    check "the tool: the program that changes its medium is built" churn_program
    if [ -r /proc/locks ]; then
        check "the tool: copies of a medium in use, whose process is stopped meanwhile" copies_during_churn "$WORK" --stop
        check "the tool: a copy that is interrupted" interrupted
        check "the tool: the names of copies" names_of_copies
    else
        skip "the tool: copies while the process is stopped" "no /proc/locks"
    fi
    for kind in ext4 xfs btrfs; do
        case $kind in ext4) size=8M ;; xfs) size=320M ;; *) size=130M ;; esac
        if [ "$(id -u)" -ne 0 ] || ! on_disk "$kind" "$size" true; then
            skip "the tool: copies of a medium in use, and a full disk, on $kind" "can't make or mount one"
            continue
        fi
        [ "$kind" != btrfs ] || ! have lsattr || check "the tool: new media on btrfs" on_disk btrfs 130M created_without_copies
        [ "$kind" = ext4 ] || check "the tool: copies of a medium in use on $kind" on_disk "$kind" 320M copies_during_churn "$WORK/disk"
        fresh
        check "the tool: a full disk, $kind" on_disk "$kind" "$size" on_a_full_disk
    done
}

# The disk fails to read one blob: `list -l` says so. It fails to read markers while another process has the medium open: so do all that
# follow them.
unreadable() {
    cat >"$WORK/unreadable.h" <<'C'
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static ssize_t failing_pread(int fd, void *bytes, size_t size, off_t at)
{
    if (at == (off_t)strtoll(getenv("UNREADABLE"), NULL, 10)) {
        errno = EIO;
        return -1;
    }
    return pread(fd, bytes, size, at);
}
#define pread failing_pread
C
    # shellcheck disable=SC2086
    strict_cc -include "$WORK/unreadable.h" "$ROOT/tools/palloc.c" $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB" -o "$WORK/reads" || return
    UNREADABLE=16
    export UNREADABLE
    fresh && status 2 "$WORK/reads" list -l "$WORK/m.db" && grep -q "^palloc: offset 16: Input/output error" "$WORK/err" &&
        [ "$(wc -l <"$WORK/out")" -gt 45 ] && hold "$WORK/m.db" wait || return
    result=0
    for UNREADABLE in 0 8; do
        for command in stat list map; do
            status 2 "$WORK/reads" "$command" "$WORK/m.db" && grep -q "Input/output error" "$WORK/err" || result=1
        done
    done
    let_go "$pid" || result=1
    return $result
}

all() { # HOW
    check "the tool$1: a sound medium" a_sound_medium
    if have python3; then check "the tool$1: JSON" in_json; else skip "the tool$1: JSON" "no python3"; fi
    if have python3; then check "the tool$1: pictures" pictures; else skip "the tool$1: pictures" "no python3"; fi
    check "the tool$1: a damaged medium" a_damaged_medium
    check "the tool$1: a medium that is open for writing" open_elsewhere
    check "the tool$1: a medium that is shared" shared
    check "the tool$1: new media" created
    check "the tool$1: wrong use is status 2" wrong_use
    check "the tool$1: names that begin with a dash" odd_names
    check "the tool$1: files that it writes are whole, and not the medium" written_files
    check "the tool$1: output that can't be written" output_that_fails
    check "the tool$1: files beyond the limit of files" beyond_the_file_size_limit
    check "the tool$1: files that are no media" foreign_files
    check "the tool$1: trim" trimmed
    if have script; then
        check "the tool$1: colours on a terminal" on_a_terminal
        check "the tool$1: progress on a terminal, none in a pipe" progress
    else
        skip "the tool$1: on a terminal" "no script(1)"
    fi
    if have bash; then check "the tool$1: completion" completed && check "the tool$1: palloc(1) and the completion have its options" documented; else skip "the tool$1: completion" "no bash"; fi
}

check "the tool's sample" sample
check "the tool is built" build
all ""
check "the tool: a disk that fails to read" unreadable
copies_in_use
if build -fsanitize=address,undefined -fno-sanitize-recover >"$WORK/log" 2>&1; then
    all " under AddressSanitizer"
    if have python3; then
        check "the tool under AddressSanitizer: golden media with each marker damaged" damaged_golden_media
    else
        skip "the tool under AddressSanitizer: damaged media" "no python3"
    fi
else
    skip "the tool under AddressSanitizer" "the compiler has none"
fi
finish
