#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds and runs the C programs: each c_tests/*.c, which speaks TAP, with the static and with the shared library; each
# examples_c/*.c, which succeeds without arguments and, if there is a NAME.expected, prints just that; the programs in README.md and
# at the head of include/*.h.
#
#   c_tests/run.sh [NAME[:POINT]...]
#
# NAME is a program, such as palloc_model or quickstart; without one, all run. POINT is a test point, or the beginning of its name, or a
# function that main calls with PART: only that one runs, with the points before it in its function, which it may need.
#
# A program runs in an empty directory of its own. TEST_DATA is the path of c_tests/golden. TEST_TIMEOUT is the limit in seconds
# (300), KINDS which libraries are tested ("static shared"), RUNNER a command that runs the programs (valgrind -q --leak-check=no).
#
# For another machine or system, TARGET is its Rust target triple, for which `make` has been run, CC its compiler, RUNNER what runs its
# programs here (qemu-s390x -L /usr/s390x-linux-gnu), LIBS what they are linked with and EXEEXT how their names end (.exe). A program
# whose head has a line "POSIX only: WHY" is not for Windows.
. "$(dirname "$0")/lib.sh"

: "${EXEEXT=}"
TEST_DATA=$ROOT/c_tests/golden
case ${TARGET-} in
*musl*) KINDS=static ;;
*) : "${KINDS=static shared}" ;;
esac
export TEST_DATA

# Reads the TAP of one program: prints what failed, with its diagnostics, and a last line with the totals. Whatever is wrong with the
# program as a whole (a crash, a wrong plan) is one failure more.
read_tap() { # NAME STATUS OUTPUT
    awk -v name="$1" -v status="$2" '
        { sub(/\r$/, "") }
        /^ok /     { seen++; notes = ""
                     if (/ # SKIP/) { skipped++; sub(/^ok [0-9]+ - /, ""); sub(/ # SKIP/, ":"); print "skipped - " name ": " $0 }
                     else passed++
                     next }
        /^not ok / { seen++; failed++; sub(/^not ok [0-9]+ - /, ""); printf "not ok - %s: %s\n%s", name, $0, notes; notes = ""; next }
        /^1\.\.[0-9]+$/ { plan = substr($0, 4); planned = 1; next }
        { notes = notes "    " $0 "\n" }
        END {
            if (status > 128) wrong = "killed by signal " status - 128
            else if (status == 124) wrong = "ran too long"
            else if (status != 0 && failed == 0) wrong = "exit status " status
            else if (!planned) wrong = "ended without a plan"
            else if (seen + 0 == 0) wrong = "has no such point, or none"
            else if (plan != seen) wrong = "planned " plan " points, but " seen " came"
            if (wrong != "") { failed++; printf "not ok - %s: %s, after %d points\n%s", name, wrong, seen, notes }
            print passed + 0, failed + 0, skipped + 0
        }' "$3"
}

# Sets TEST_PART and TEST_ONLY for POINT of a program, as tap.h describes them. A point may stand in a function that is no part, or in a
# table: then any part may have it.
select_point() { # SOURCE POINT
    unset TEST_PART TEST_ONLY
    [ -n "$2" ] || return
    part=$(awk -v word="$2" '
        /^[a-z].*[(]/ && !/;$/ { match($0, /[a-z_0-9]+[(]/); inside = substr($0, RSTART, RLENGTH - 1) }
        match($0, /(PART|POINT)[(].*[(]/) {
            call = $0
            sub(/.*PART[(]|.*POINT[(].*", */, "", call)
            sub(/[(].*/, "", call)
            parts[call]
        }
        index($0, "\"" word) && !found { found = inside }
        END { if (word in parts) print word; else if (found == "main") print "main"; else if (found in parts) print found }' "$1")
    [ -z "$part" ] || export TEST_PART="$part"
    [ "$part" = "$2" ] || export TEST_ONLY="$2"
}

run_test() { # PROGRAM static|shared
    mkdir "$WORK/$1.$2.dir"
    cd "$WORK/$1.$2.dir" || exit
    # shellcheck disable=SC2086
    limited ${RUNNER-} "$WORK/$1.$2$EXEEXT" >"$WORK/$1.$2.out" 2>"$WORK/$1.$2.err" </dev/null
    status=$?
    sed 's/^/# stderr: /' "$WORK/$1.$2.err" | tail -n 40 >>"$WORK/$1.$2.out"
    read_tap "$1 ($2)" "$status" "$WORK/$1.$2.out" >"$WORK/$1.$2.results"
    rm -rf "$WORK/$1.$2.dir"
}

# Runs one program with both libraries at once.
run_kinds() { # PROGRAM
    for kind in $KINDS; do
        [ ! -f "$WORK/$1.$kind$EXEEXT" ] || run_test "$1" "$kind" &
    done
    wait
    for kind in $KINDS; do
        [ -f "$WORK/$1.$kind.results" ] || continue
        sed '$d' "$WORK/$1.$kind.results"
        read -r p f s <<TOTALS
$(tail -n 1 "$WORK/$1.$kind.results")
TOTALS
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    done
}

tests() {
    for source in "$ROOT"/c_tests/*.c; do
        program=$(basename "$source" .c)
        wanted "$program" || continue
        case ${TARGET-} in
        *windows*)
            why=$(sed -n 's/^ [*] POSIX only: //p' "$source")
            if [ -n "$why" ]; then
                skip "$program" "$why"
                continue
            fi
            ;;
        esac
        if ! strict_cc -c "$source" -o "$WORK/$program.o" >"$WORK/log" 2>&1; then
            fail "$program: compiles" "$WORK/log"
            continue
        fi
        for kind in $KINDS; do
            if ! link "$kind" "$WORK/$program.o" "$WORK/$program.$kind$EXEEXT" >"$WORK/log" 2>&1; then
                fail "$program ($kind): links" "$WORK/log"
            fi
        done
        for word in ${only:-"$program"}; do
            case $word in
            "$program") select_point "$source" "" ;;
            "$program:"*) select_point "$source" "${word#*:}" ;;
            *) continue ;;
            esac
            run_kinds "$program"
        done
    done
}

run_example() { # SOURCE
    program=$(basename "$1" .c)
    strict_cc -c "$1" -o "$WORK/$program.o" && link static "$WORK/$program.o" "$WORK/$program$EXEEXT" || return
    mkdir "$WORK/$program.dir"
    cd "$WORK/$program.dir" || return
    # shellcheck disable=SC2086
    if ! limited ${RUNNER-} "$WORK/$program$EXEEXT" >"$WORK/$program.out" 2>&1; then
        cat "$WORK/$program.out"
        echo "it should have succeeded"
        return 1
    fi
    if [ -f "${1%.c}.expected" ]; then
        tr -d '\r' <"$WORK/$program.out" | diff "${1%.c}.expected" -
    fi
}

examples() {
    awk -v dir="$WORK" '/^```c$/ { file = dir "/README_" ++n ".c"; next } /^```/ { file = "" } file { print >file }' "$ROOT/README.md"
    for header in "$ROOT"/include/*.h "$ROOT"/include/*/*.h; do
        name=$(echo "${header#"$ROOT/include/"}" | tr / _)
        awk -v file="$WORK/header_${name%.h}.c" '
            /^ [*]   #include </ { program = 1 }
            program { line = $0; sub(/^ [*] ? ? ?/, "", line); print line >file }
            /^ [*]   }$/ { program = 0 }' "$header"
    done
    for source in "$ROOT"/examples_c/*.c "$WORK"/README_*.c "$WORK"/header_*.c; do
        if [ -f "$source" ] && wanted "$(basename "$source" .c)"; then
            check "example $(basename "$source")" run_example "$source"
        fi
    done
}

only=$*

for kind in $KINDS; do
    case $kind-${TARGET-} in
    static-*) library=libpalloc.a ;;
    *windows*) library=palloc.dll ;;
    *) library=libpalloc.so ;;
    esac
    if [ ! -f "$LIB/$library" ]; then
        echo "$0: there is no $LIB/$library; run \`make\` first" >&2
        exit 1
    fi
done

wanted() {
    case " $only " in
    "  " | *" $1 "* | *" $1:"*) ;;
    *) false ;;
    esac
}

tests
examples
[ $((passed + failed + skipped)) -gt 0 ] || fail "there is a program called $only"
finish
