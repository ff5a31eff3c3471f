#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Leaves out a rule of live readers, and shows that palloc_shared_stress finds it, or, if that takes calls at one moment, palloc_shared. The
# library is built for that (cfg(palloc_sabotage)): PALLOC_LEAVE_OUT names the rule, as src/palloc/sabotage.rs does. The fences, their order
# and the second look at the epoch don't show in seconds on x86, where an exchange is a fence: models/ leaves these out.
#
#   c_tests/sabotage.sh [RULE...]     SABOTAGE_SECONDS (30) for each at most
. "$(dirname "$0")/lib.sh"
: "${SABOTAGE_SECONDS:=30}" "${CARGO:=cargo}" "${CARGOFLAGS=--locked}"

[ $# -gt 0 ] || set -- HeldEpoch CutAlone CutRecheck ShrinkAlone

build() {
    # shellcheck disable=SC2086
    RUSTFLAGS="--cfg palloc_sabotage" "$CARGO" rustc -q --release --lib $CARGOFLAGS --target-dir "$ROOT/target/sabotage" --crate-type staticlib \
        --config 'profile.release.lto=false' --config 'profile.release.codegen-units=16' &&
        support && for program in palloc_shared_stress palloc_shared; do
        strict_cc -c "$ROOT/c_tests/$program.c" -o "$WORK/$program.o" &&
            $CC $CFLAGS "$WORK/$program.o" "$SUPPORT" $LDFLAGS "$ROOT/target/sabotage/release/libpalloc.a" $LIBS -o "$WORK/$program" || return
    done
}

# Runs the stress, up to the first fault: prints the fault and the seconds that it took.
stress() { # RULE
    mkdir -p "$WORK/run" && cd "$WORK/run" || exit
    program=palloc_shared_stress part=processes
    [ "$1" != CutRecheck ] || program=palloc_shared part=cuts
    from=$(date +%s)
    PALLOC_LEAVE_OUT=$1 SHARED_SECONDS=$SABOTAGE_SECONDS TEST_PART=$part timeout $((SABOTAGE_SECONDS + 60)) "$WORK/$program" >"$WORK/log" 2>&1
    status=$?
    why=$(sed -n 's/^# \(reader\|writer\)/\1/p; s/^# .*failed: /failed: /p' "$WORK/log" | head -n 1)
    rm -rf "$WORK/run"
    cd "$ROOT" || exit
    echo "$1: $(($(date +%s) - from)) s, ${why:-status $status}"
    [ "$status" -ne 0 ]
}

if ! build >"$WORK/log" 2>&1; then
    fail "a library that rules can be left out of" "$WORK/log"
    finish
    exit
fi
if stress "" >"$WORK/out"; then
    fail "the stress without a rule left out" "$WORK/log"
else
    pass
fi
for rule; do
    if stress "$rule" >"$WORK/out"; then pass; else fail "$rule left out is found" "$WORK/log"; fi
    sed 's/^/    /' "$WORK/out"
done
finish
