#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Each public header alone, and those of the three engines together, twice in one file, and from two files of one program: in every C and
# C++ from C99 and C++11 on that the compilers here know, with all warnings.
. "$(dirname "$0")/lib.sh"

STRICT="$STRICT -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Wcast-align -Wundef"
CXX_ONLY="-Wold-style-cast -Wzero-as-null-pointer-constant -Wno-unknown-warning-option -Wuseless-cast" # clang has no -Wuseless-cast

try() { # COMPILER SUFFIX STANDARD HEADER
    printf '#include <%s>\nint main(void) { return 0; }\n' "$4" >"$WORK/once.$2"
    printf '#include <%s>\n#include <%s>\nextern int twice;\nint twice;\n' "$4" "$4" >"$WORK/twice.$2"
    case $2 in
    cc) only=$CXX_ONLY ;;
    *) only= ;;
    esac
    # shellcheck disable=SC2086
    $1 -std="$3" -pedantic-errors $STRICT $only -I"$ROOT/include" -I"$WORK" "$WORK/once.$2" "$WORK/twice.$2" -o "$WORK/program" && "$WORK/program"
}

knows() { # COMPILER SUFFIX STANDARD
    echo "typedef int nothing;" >"$WORK/empty.$2"
    # shellcheck disable=SC2086
    $1 -std="$3" -c "$WORK/empty.$2" -o "$WORK/empty.o" 2>"$WORK/log"
}

# compilers COMMAND...: those that are there, each once, whatever its names.
compilers() {
    for compiler in "$@"; do
        have "${compiler%% *}" && echo "$compiler"
    done | while read -r compiler; do
        # shellcheck disable=SC2086
        echo "$($compiler --version | sed -n '1s/^[^ ]*//p')|$compiler"
    done | awk -F '|' '!seen[$1]++ { print $2 }'
}

c_compilers=$(compilers "$CC" gcc clang)
cxx_compilers=$(compilers "$CXX" g++ clang++)
headers=$(cd "$ROOT/include" && find . -name '*.h' | sed 's|^\./||')
# buflib.h and vmem.h both define LIBPALLOC_CAST_, which must be one macro.
printf '#include <%s.h>\n' palloc buflib core_alloc vmem >"$WORK/together.h"
headers="$headers
together.h"

while read -r header; do
    for standard in c99 c11 c17; do
        echo "$c_compilers" | while read -r compiler; do echo "$compiler|c|$standard|$header"; done
    done
    for standard in c++11 c++17; do
        echo "$cxx_compilers" | while read -r compiler; do echo "$compiler|cc|$standard|$header"; done
    done
done >"$WORK/matrix" <<HEADERS
$headers
HEADERS

while IFS='|' read -r compiler suffix standard header; do
    case $compiler in
    ?*)
        if knows "$compiler" "$suffix" "$standard"; then
            check "$header: $compiler -std=$standard" try "$compiler" "$suffix" "$standard" "$header"
        else
            skip "$header: $compiler -std=$standard" "this compiler does not know it"
        fi
        ;;
    esac
done <"$WORK/matrix"

# The names that the originals' headers define, and which of them are macros.
brings() { # HEADER MACRO...
    echo "#include <$1>" >"$WORK/brings.c"
    shift
    printf '#ifndef %s\n#error no macro\n#endif\n' "$@" >>"$WORK/brings.c"
    cat >>"$WORK/brings.c" <<'PROGRAM'
int main(void)
{
    bool failed = true;
    uint8_t *bytes = (uint8_t *)malloc(1);

    failed = bytes == NULL;
    free(bytes);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
PROGRAM
    # shellcheck disable=SC2086
    $CC -std=c99 -pedantic-errors $STRICT -I"$ROOT/include" "$WORK/brings.c" -o "$WORK/program" && "$WORK/program"
}

check "palloc.h brings what the original's does" brings palloc.h PALLOC_DEFAULT PALLOC_DYNAMIC PALLOC_SYNC PALLOC_EXTENDED
check "finwo/palloc.h brings what the original's does" brings finwo/palloc.h \
    PALLOC_OK PALLOC_ERR PALLOC_FD PALLOC_FLAGS PALLOC_RESPONSE PALLOC_OFFSET PALLOC_SIZE

[ -n "$cxx_compilers" ] || skip "headers in C++" "no C++ compiler"
finish
