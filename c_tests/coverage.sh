#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Which lines and branches of src/ the Rust tests, the fuzz corpora and the C programs run: a table by file, in build/coverage/table.md, and
# beside it not-run.txt, the lines that none of them runs. A process that a signal kills writes no counts. Needs the LLVM tools of the
# compiler (rustup component add llvm-tools), or llvm-cov-N and llvm-profdata-N of the compiler's LLVM N. About 20 minutes.
#
#   c_tests/coverage.sh [FILTER...]      only the Rust tests whose names contain one of these, and no C program
. "$(dirname "$0")/lib.sh"
: "${CARGO:=cargo}" "${CARGOFLAGS=--locked}"
cd "$ROOT" || exit
HOST=$($RUSTC -vV | sed -n 's/^host: //p')
COV=$($RUSTC --print sysroot)/lib/rustlib/$HOST/bin/llvm-cov
PROFDATA=${COV%cov}profdata
if [ ! -x "$COV" ]; then
    LLVM=$($RUSTC -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    COV=llvm-cov-$LLVM PROFDATA=llvm-profdata-$LLVM
fi
OUT=$ROOT/build/coverage
if ! command -v "$COV" "$PROFDATA" >/dev/null; then
    skip "coverage" "needs llvm-cov and llvm-profdata of the compiler: rustup component add llvm-tools"
    finish
    exit
fi
rm -rf "$OUT" && mkdir -p "$OUT" || exit

# Branches are an unstable option of the compiler. One file for some processes: they merge into it.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$ROOT/target/coverage" LLVM_PROFILE_FILE="$OUT/%4m.profraw"
export RUSTFLAGS="-Cinstrument-coverage -Zcoverage-options=branch" RUSTDOCFLAGS="-Cinstrument-coverage"
# The other tests compile the library again, or none of it.
tests="--lib --test palloc --test buflib --test fuzz --test memory"
# shellcheck disable=SC2086
$CARGO test $CARGOFLAGS --no-run --message-format=json $tests 2>"$OUT/build.log" |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | sort -u >"$OUT/programs"
[ -s "$OUT/programs" ] || { tail -n 30 "$OUT/build.log"; exit 1; }
# shellcheck disable=SC2086
$CARGO test $CARGOFLAGS --no-fail-fast $tests -- "$@" >"$OUT/tests.log" 2>&1 ||
    echo "Some tests failed: $OUT/tests.log"

if [ $# -eq 0 ]; then
    # The C programs, with a static library that counts too.
    # shellcheck disable=SC2086
    $CARGO rustc $CARGOFLAGS --release --lib --crate-type staticlib >>"$OUT/build.log" 2>&1 || { tail -n 30 "$OUT/build.log"; exit 1; }
    # The part of the library that writes the counts at the end of a program: nothing refers to it. _exit and abort would not write them.
    cat >"$WORK/ends.c" <<'END'
int __llvm_profile_write_file(void);
_Noreturn void __real__exit(int);
_Noreturn void __real_abort(void);
_Noreturn void __wrap__exit(int);
_Noreturn void __wrap_abort(void);
void __wrap__exit(int status) { __llvm_profile_write_file(); __real__exit(status); }
void __wrap_abort(void) { __llvm_profile_write_file(); __real_abort(); }
END
    $CC -c "$WORK/ends.c" -o "$OUT/ends.o" || exit
    export LDFLAGS="-Wl,-u,__llvm_profile_runtime -Wl,--wrap=_exit -Wl,--wrap=abort $OUT/ends.o"
    # A program for llvm-cov: it has every function of the library, since that is one object file.
    echo 'int palloc_close(void *); int main(void) { return palloc_close(0); }' >"$WORK/any.c"
    # shellcheck disable=SC2086
    $CC "$WORK/any.c" $LDFLAGS "$CARGO_TARGET_DIR/release/libpalloc.a" $LIBS -o "$OUT/palloc-c" || exit
    echo "$OUT/palloc-c" >>"$OUT/programs"
    (unset RUSTFLAGS RUSTDOCFLAGS RUSTC_BOOTSTRAP CARGO_TARGET_DIR
        TEST_LIB=$ROOT/target/coverage/release KINDS=static c_tests/run.sh) >"$OUT/c_tests.log" 2>&1 ||
        echo "Some C programs failed, which may be due to the counting: $OUT/c_tests.log"
fi

"$PROFDATA" merge "$OUT"/*.profraw -o "$OUT/all.profdata" || exit
# One program at a time: of functions that have one name in several, as those of the C interface, llvm-cov would count one only.
while read -r program; do
    case $program in
    */palloc-* | */buflib-* | */fuzz-* | */memory-*) "$COV" export -format=lcov -instr-profile="$OUT/all.profdata" "$program" || exit ;;
    esac
done <"$OUT/programs" >"$OUT/lcov" 2>"$OUT/lcov.log" || { cat "$OUT/lcov.log"; exit 1; }
# A line is run if it is in one of them. Code of tests is left out.
awk -v root="$ROOT/" -v table="$OUT/table.md" -v not_run="$OUT/not-run.txt" '
    function percent(all, missed) { return all ? sprintf("%.1f", 100 * (all - missed) / all) : "-" }
    function row(name, key) {
        printf "| %s | %d | %d | %s | %d | %d | %s |\n", name, lines[key], missed[key], percent(lines[key], missed[key]),
            branches[key], untaken[key], percent(branches[key], untaken[key]) >table
    }
    # Reads a file up to its tests.
    function read_source(file,    n, text, last) {
        while ((getline text <(root file)) > 0) {
            if (text ~ /^mod tests [{]/ && last ~ /^#\[cfg\(test\)\]/) break
            source[file, ++n] = last = text
        }
        length_of[file] = n
        files[++count] = file
    }
    /^SF:/ {
        file = substr($0, 4)
        if (index(file, root) == 1) file = substr(file, length(root) + 1)
        wanted = file ~ /^src\// && file !~ /\/tests\/|(tests|fuzzing|memory|sabotage|random)\.rs$/
        if (wanted && !(file in length_of)) read_source(file)
    }
    /^DA:/ && wanted { split(substr($0, 4), part, ","); run[file, part[1]] += part[2] > 0 }
    /^BRDA:/ && wanted { split(substr($0, 6), part, ","); taken[file, part[1], part[2], part[3]] += part[4] > 0 }
    END {
        for (key in taken) {
            split(key, part, SUBSEP)
            if (part[2] > length_of[part[1]]) continue
            branches[part[1]]++
            untaken[part[1]] += !taken[key]
        }
        print "| file | lines | not run | % | branches | not taken | % |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |" >table
        for (i = 1; i <= count; i++) {
            file = files[i]
            for (n = 1; n <= length_of[file]; n++) {
                if (!((file, n) in run)) continue
                lines[file]++
                if (run[file, n]) continue
                missed[file]++
                print file ":" n ":" source[file, n] >not_run
            }
            area = file ~ /^src\/.*\// ? file : "src/others"
            sub(/^src\//, "", area)
            sub(/\/.*/, "", area)
            if (!(area in lines)) areas[++area_count] = area
            lines[area] += lines[file]; missed[area] += missed[file]; branches[area] += branches[file]; untaken[area] += untaken[file]
            row(file, file)
        }
        for (i = 1; i <= area_count; i++) row("all of " areas[i], areas[i])
    }' "$OUT/lcov"
sort -t: -k1,1 -k2,2n -o "$OUT/not-run.txt" "$OUT/not-run.txt"
cat "$OUT/table.md"
