#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# packaging/python/palloc.py: its tests, and the program at its head, with the shared library.
. "$(dirname "$0")/lib.sh"

python() {
    (cd "$WORK" && PALLOC_LIBRARY="$LIB/libpalloc.so" PYTHONPATH="$ROOT/packaging/python" PYTHONDONTWRITEBYTECODE=1 limited python3 "$@")
}

head_program() {
    sed -n '/^    import palloc$/,/^[A-Z]/s/^    //p' "$ROOT/packaging/python/palloc.py" >"$WORK/head.py"
    [ "$(python head.py)" = "b'hello'" ]
}

if [ -n "${TARGET-}" ]; then
    skip "palloc.py" "not cross-compiled"
elif ! have python3 || ! python3 -c 'import ctypes, sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
    skip "palloc.py" "no Python 3.8 with ctypes"
else
    check "palloc.py" python -W error "$ROOT/packaging/python/test_palloc.py"
    check "palloc.py: the program at its head" head_program
fi
finish
