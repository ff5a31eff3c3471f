#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# The package: the libraries export what the headers declare and nothing else, they link beside other Rust code, and an
# installed tree can be used and removed.
. "$(dirname "$0")/lib.sh"

# The functions and variables that the headers declare, one a line: preprocessed, without what is in braces, what stands before a "("
# and is no type, and what is extern.
declared() {
    find "$ROOT/include" -name '*.h' | while read -r header; do
        echo "#include \"$header\"" | $CC -E -DDEBUG -DBUFLIB_DEBUG_BLOCKS -x c - | awk -v header="$header" '
            /^# [0-9]+ "/ { ours = index($0, "\"" header "\""); next }
            ours' | tr '\n' ' ' | awk '{ gsub(/[;{}]/, "\n&\n"); print }' | awk '
            /^[{]/ { depth++ }
            /^[}]/ { depth-- }
            /^ *extern [^(]*$/ && !depth { sub(/ *$/, ""); sub(/.*[ *]/, ""); print }
            /\(/ && !depth && !/^ *(typedef|static)/ { sub(/ *\(.*/, ""); sub(/.*[ *]/, ""); print }'
    done | sort -u
}

exported() { # NM-FLAGS FILE
    # shellcheck disable=SC2086
    $NM $1 --defined-only "$2" | awk 'NF == 3 && $2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort
}

same_symbols() { # NM-FLAGS FILE
    exported "$1" "$2" >"$WORK/exported"
    [ -s "$WORK/declared" ] && diff "$WORK/declared" "$WORK/exported"
}

# No page is writable and executable, and none of the loader's tables is writable once it has run.
hardened() {
    readelf -lW "$1" >"$WORK/segments" && readelf -dW "$1" >"$WORK/dynamic" || return
    grep GNU_ "$WORK/segments"
    grep -q 'GNU_RELRO' "$WORK/segments" && grep -q 'GNU_STACK.* RW ' "$WORK/segments" && ! grep -E '(LOAD|GNU_STACK) .* (RWE|WE) ' "$WORK/segments" &&
        grep -q BIND_NOW "$WORK/dynamic" && ! grep TEXTREL "$WORK/dynamic"
}

# Each name that is exported has the version that packaging/libpalloc.map gives it, and begins with one of few words; that file is sorted.
versions() {
    "$ROOT/packaging/exports.sh" versions >"$WORK/map" && LC_ALL=C sort -c "$WORK/map" || return
    if grep -vE '^(palloc|pcalloc|pfree|prealloc|vmem_|buflib_|core_|rockbox_)' "$WORK/map"; then return 1; fi
    $NM -D --defined-only --with-symbol-versions "$LIB/libpalloc.so" | awk '$2 != "A" { print $3 }' | LC_ALL=C sort | diff "$WORK/map" -
}

soname() {
    objdump -p "$LIB/libpalloc.so" | grep -q "SONAME  *$(basename "$(readlink "$LIB/libpalloc.so")")\$" || {
        objdump -p "$LIB/libpalloc.so" | grep SONAME
        return 1
    }
}

exports() {
    declared >"$WORK/declared"
    check "the shared library exports what the headers declare" same_symbols -D "$LIB/libpalloc.so"
    check "the static library's global symbols are what the headers declare" same_symbols -g "$LIB/libpalloc.a"
    check "every exported name has its version" versions
    check "the soname is the name of the first link" soname
    check "the shared library's segments are hardened" hardened "$LIB/libpalloc.so"
}

# A program with libpalloc.a and another Rust static library, both of which bring Rust's standard library.
beside_rust() {
    cat >"$WORK/other.rs" <<'RUST'
#[unsafe(no_mangle)]
pub extern "C" fn other(n: i32) -> i32 {
    std::panic::catch_unwind(|| format!("{n}").len() as i32).unwrap_or(-1)
}
RUST
    cat >"$WORK/both.c" <<'C'
#include <palloc.h>
int other(int n);
int main(void) { return palloc_size(NULL, 16) == 0 && palloc_error()[0] != '\0' && other(12345) == 5 ? 0 : 1; }
C
    # shellcheck disable=SC2086
    $RUSTC --edition 2024 --crate-type staticlib -O "$WORK/other.rs" -o "$WORK/libother.a" &&
        strict_cc "$WORK/both.c" $LDFLAGS "$LIB/libpalloc.a" "$WORK/libother.a" "$LIB/libpalloc.a" $LIBS -o "$WORK/both" &&
        "$WORK/both"
}

# below NAME BYTES: not more than the ceiling that docs/PACKAGING.md gives NAME, for the compiler at the head of that table. Others, which
# are not compared with each other, may need a tenth more.
below() {
    ceiling=$(awk -F ' *[|] *' -v name="$1" '$2 == name { gsub(/,/, "", $4); print $4 }' "$ROOT/docs/PACKAGING.md")
    grep -q "^| x86_64, Rust $($RUSTC --version | sed 's/^rustc \([0-9]*[.][0-9]*\).*/\1/')," "$ROOT/docs/PACKAGING.md" ||
        ceiling=$((ceiling + ceiling / 10))
    echo "$1: $2 bytes, at most ${ceiling:?}"
    [ "$2" -le "$ceiling" ]
}

stripped_size() {
    ${STRIP:-strip} -o "$WORK/stripped" "$1" && wc -c <"$WORK/stripped"
}

# The size that the library adds to a program that has stdio and malloc already.
static_program() {
    cat >"$WORK/small.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef WITH_PALLOC
#include <palloc.h>
#endif
int main(int argc, char **argv)
{
    char *text = malloc((size_t)argc);
#ifdef WITH_PALLOC
    struct palloc_t *pt = palloc_init(argv[0], PALLOC_DYNAMIC);
    printf("%d %s", (int)palloc(pt, 10), palloc_error());
    palloc_close(pt);
#endif
    printf("%d %s %s", argc, strerror(argc), argv[0]);
    free(text);
    return 0;
}
C
    # shellcheck disable=SC2086
    strict_cc -static "$WORK/small.c" $LDFLAGS -o "$WORK/small" &&
        strict_cc -static -DWITH_PALLOC "$WORK/small.c" $LDFLAGS -Wl,--gc-sections "$LIB/libpalloc.a" $LIBS -o "$WORK/with" &&
        below "what palloc adds to a static program" $(($(stripped_size "$WORK/with") - $(stripped_size "$WORK/small")))
}

sizes() {
    check "the size of the shared library" below "libpalloc.so, stripped" "$(stripped_size "$LIB/libpalloc.so")"
    cat "$WORK/log"
    if static_libc; then
        check "the size that it adds to a static program" static_program
        cat "$WORK/log"
    else
        skip "the size that it adds to a static program" "no static C library"
    fi
}

# A panic says where it is on stderr, and ends the process; without what prints a backtrace. One is made for it: the library has none.
panics() {
    cat >"$WORK/panicking.rs" <<RUST
#[path = "$ROOT/src/ffi/panic.rs"]
mod panic;
#[unsafe(no_mangle)]
pub extern "C" fn at(i: usize) -> u8 {
    let bytes = vec![1u8; i];
    bytes[i]
}
#[unsafe(no_mangle)]
pub extern "C" fn out_of_memory() {
    std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 77]>())
}
RUST
    printf 'at\nout_of_memory\n' >"$WORK/list"
    cat >"$WORK/panicking.c" <<'C'
#include <stdlib.h>
int at(size_t i);
void out_of_memory(void);
int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        out_of_memory();
    return at((size_t)argc + 6);
}
C
    # shellcheck disable=SC2086
    $RUSTC --edition 2024 --crate-type staticlib -O -Cpanic=abort "$WORK/panicking.rs" -o "$WORK/libpanicking.a" &&
        "$ROOT/packaging/one_object.sh" "$WORK/libpanicking.a" "$WORK/list" "$WORK/panicking.o" &&
        strict_cc "$WORK/panicking.c" "$WORK/panicking.o" $LDFLAGS $LIBS -o "$WORK/panicking" || return
    "$WORK/panicking" 2>"$WORK/said"
    echo "status $?"
    "$WORK/panicking" more 2>>"$WORK/said"
    echo "status $?"
    cat "$WORK/said"
    ! $NM "$WORK/panicking" | grep gimli && grep -q "^libpalloc: panicked at .*panicking.rs:6:" "$WORK/said" &&
        grep -q "the len is 7 but the index is 7" "$WORK/said" && grep -q "^libpalloc: no memory for 77 bytes" "$WORK/said"
}

# In an archive of a compiler that has other names for them, the standard library's handlers stay; and a linker that can't do it is named.
other_names() {
    # shellcheck disable=SC2086
    LC_ALL=C sed 's/rust_begin_unwind/rust_begin_unw1nd/g; s/__rust_alloc_error_handler/__rust_alloc_error_hand1er/g' \
        "$WORK/libpanicking.a" >"$WORK/libother_names.a" &&
        "$ROOT/packaging/one_object.sh" "$WORK/libother_names.a" "$WORK/list" "$WORK/other_names.o" &&
        strict_cc "$WORK/panicking.c" "$WORK/other_names.o" $LDFLAGS $LIBS -o "$WORK/other_names" || return
    "$WORK/other_names" 2>"$WORK/said"
    echo "status $?"
    cat "$WORK/said"
    grep -q "the len is 7 but the index is 7" "$WORK/said" && ! grep "^libpalloc:" "$WORK/said" &&
        ! LD=false "$ROOT/packaging/one_object.sh" "$WORK/libpanicking.a" "$WORK/list" "$WORK/none.o" 2>"$WORK/said" &&
        grep -q "false is not GNU ld" "$WORK/said"
}

# One program, two source files, each with the header of one generation.
both_generations() {
    cat >"$WORK/first.c" <<'C'
#include <palloc.h>
uint64_t first(void);
uint64_t first(void)
{
    struct palloc_t *pt = palloc_init("first.pba", PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 4);
    palloc_close(pt);
    return ptr;
}
C
    cat >"$WORK/second.c" <<'C'
#include <finwo/palloc.h>
uint64_t first(void);
int main(void)
{
    PALLOC_FD fd = palloc_open("second.pba", PALLOC_DYNAMIC);
    PALLOC_RESPONSE done = palloc_init(fd, PALLOC_DYNAMIC);
    PALLOC_OFFSET ptr = palloc(fd, 4);
    return done == PALLOC_OK && ptr == 16 && first() == 16 && palloc_close(fd) != PALLOC_ERR ? 0 : 1;
}
C
    # shellcheck disable=SC2086
    (cd "$WORK" && strict_cc first.c second.c $LDFLAGS "$LIB/libpalloc.a" $LIBS -o generations && ./generations)
}

# The same for buflib, with one pool.
both_generations_of_buflib() {
    cat >"$WORK/named.c" <<'C'
#include <core_alloc.h>
int named(void);
int named(void)
{
    return core_alloc("name", 100);
}
C
    cat >"$WORK/later.c" <<'C'
#include <rockbox/chunk_alloc.h>
int named(void);
int main(void)
{
    struct chunk_alloc_header chunks;
    int first, second;
    core_allocator_init();
    first = named();
    second = core_alloc(100);
    return first == 1 && second == 2 && core_ctx.handle_table[-first].alloc == core_get_data(first) &&
                   core_chunk_alloc_init(&chunks, 100, 1) && chunk_alloc(&chunks, 8) == 0 ? 0 : 1;
}
C
    # shellcheck disable=SC2086
    (cd "$WORK" && strict_cc named.c later.c $LDFLAGS "$LIB/libpalloc.a" $LIBS -o generations && ./generations)
}

only_one_header() {
    printf '#include <finwo/palloc.h>\n#include <palloc.h>\n' >"$WORK/clash.c"
    ! strict_cc -c "$WORK/clash.c" -o "$WORK/clash.o" 2>"$WORK/clash.log" && grep -q "same source file" "$WORK/clash.log"
}

# A build with a prefix, in a program that has functions named palloc, pfree and prealloc of its own.
prefixed_program() { # CC-FLAGS...
    cat >"$WORK/own.c" <<'C'
#include <my_palloc.h>
#include <my_buflib.h>
#include <my_core_alloc.h>
#include <my_vmem.h>
#include <stdlib.h>
#include <string.h>
void *palloc(size_t size);
void pfree(void *p);
void *prealloc(void *p, size_t size);
int fd_generation(void);
void *palloc(size_t size) { return malloc(size); }
void pfree(void *p) { free(p); }
void *prealloc(void *p, size_t size) { return realloc(p, size); }
static struct buflib_context ctx;
static char pool[4096];
int main(void)
{
    char *own = prealloc(palloc(10), 20);
    struct palloc_t *pt = my_palloc_init("own.pba", PALLOC_DYNAMIC);
    struct palloc_stat stat;
    uint64_t ptr = my_prealloc(pt, my_palloc(pt, 10), 100);
    VMemGrowArena arena;
    int good = own != NULL && ptr != 0 && my_palloc_stat(pt, &stat) == 0 && stat.live_blobs == 1;
    int block;

    my_pfree(pt, ptr);
    my_palloc_close(pt);
    pfree(own);
    my_buflib_init(&ctx, pool, sizeof pool);
    block = my_buflib_alloc_ex(&ctx, 10, "name", &my_buflib_ops_locked);
    good = good && my_buflib_get_data(&ctx, block) != NULL;
    my_core_allocator_init();
    good = good && my_core_get_data(my_core_alloc("name", 10)) != NULL;
    good = good && my_vmem_grow_init(&arena, (VMemSize)1 << 20, 0) && my_vmem_grow_push(&arena, 8, 8) != NULL;
    return good && strcmp(my_palloc_version(), PALLOC_VERSION) == 0 && fd_generation() ? 0 : 1;
}
C
    cat >"$WORK/own_fd.c" <<'C'
#include <finwo/my_palloc.h>
int fd_generation(void);
int fd_generation(void)
{
    PALLOC_FD fd = my_palloc_open("own.pba", PALLOC_DYNAMIC);
    PALLOC_OFFSET ptr = my_palloc(fd, 10);
    return my_pfree(fd, ptr) == PALLOC_OK && my_palloc_close(fd) == PALLOC_OK;
}
C
    # shellcheck disable=SC2086
    (cd "$WORK" && $CC $CFLAGS -std=c99 $STRICT -I"$ROOT/build/my_/include" own.c own_fd.c $LDFLAGS "$@" -o own && ./own)
}

# The linker sees only names with the prefix, and no macro without it replaces a function.
prefixed_names() {
    sed 's/^/my_/' "$WORK/declared" >"$WORK/want"
    exported -D "$ROOT/build/my_/lib/libmy_palloc.so" | diff "$WORK/want" - || return
    exported -g "$ROOT/build/my_/lib/libmy_palloc.a" | diff "$WORK/want" - || return
    ! grep -rnE '^#define [a-z]' "$ROOT/build/my_/include" | grep -v '#define my_'
}

prefixed_headers() {
    (cd "$ROOT/build/my_/include" && find . -name '*.h') | while read -r header; do
        echo "#include \"$header\"" >"$WORK/header.c"
        cp "$WORK/header.c" "$WORK/header.cc"
        # shellcheck disable=SC2086
        $CC -std=c99 $STRICT -I"$ROOT/build/my_/include" -c "$WORK/header.c" -o "$WORK/header.o" || exit
        if have "$CXX"; then
            # shellcheck disable=SC2086
            $CXX -std=c++11 $STRICT -I"$ROOT/build/my_/include" -c "$WORK/header.cc" -o "$WORK/header.o" || exit
        fi
    done
}

prefixed() {
    check "make PREFIX_SYMBOLS=my_" make_quietly PREFIX_SYMBOLS=my_
    check "with a prefix, every exported name has it" prefixed_names
    check "with a prefix, the headers compile, in C and C++" prefixed_headers
    # shellcheck disable=SC2086
    check "with a prefix, beside a program's own palloc, statically" prefixed_program "$ROOT/build/my_/lib/libmy_palloc.a" $LIBS
    check "with a prefix, beside a program's own palloc, shared" \
        prefixed_program -L"$ROOT/build/my_/lib" -lmy_palloc -Wl,-rpath,"$ROOT/build/my_/lib"
    check "with a prefix, make install" make_quietly install PREFIX_SYMBOLS=my_ DESTDIR="$WORK/dest" PREFIX=/usr
    for file in include/my_palloc.h include/finwo/my_palloc.h lib/libmy_palloc.so.0 lib/pkgconfig/my_palloc.pc lib/cmake/my_palloc/my_palloc-config.cmake; do
        check "with a prefix, $file is installed" test -f "$WORK/dest/usr/$file"
    done
    check "with a prefix, make uninstall" make_quietly uninstall PREFIX_SYMBOLS=my_ DESTDIR="$WORK/dest" PREFIX=/usr
    check "with a prefix, uninstall leaves nothing" nothing_left "$WORK/dest"
}

make_quietly() {
    $MAKE --no-print-directory -C "$ROOT" "$@" >"$WORK/make.log" 2>&1 || {
        cat "$WORK/make.log"
        return 1
    }
}

cat >"$WORK/user.c" <<'C'
#include <palloc.h>
#include <stdio.h>
int main(void)
{
    struct palloc_t *pt = palloc_init("installed.pba", PALLOC_DYNAMIC);
    uint64_t ptr = palloc(pt, 4);
    if (ptr == 0) {
        puts(palloc_error());
        return 1;
    }
    palloc_close(pt);
    return ptr != 16;
}
C

# build_and_run FLAGS...: flags stand behind the source. Where the shared library is, the loader learns from the environment.
build_and_run() {
    rm -f "$WORK/installed.pba"
    # shellcheck disable=SC2086
    (cd "$WORK" && $CC $CFLAGS -std=c99 $STRICT user.c "$@" -o user && LD_LIBRARY_PATH=$WORK/dest/usr/lib ./user)
}

with_pkg_config() { # PKG-CONFIG-FLAGS [CC-FLAGS...]
    flags=$(PKG_CONFIG_SYSROOT_DIR=$WORK/dest PKG_CONFIG_LIBDIR=$WORK/dest/usr/lib/pkgconfig \
        PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 pkg-config --cflags --libs "$1" palloc) || return
    shift
    # shellcheck disable=SC2086
    build_and_run "$@" $flags
}

with_linker() { # gold|lld|mold
    # shellcheck disable=SC2086
    build_and_run -fuse-ld="$1" -I"$ROOT/include" $LDFLAGS "$LIB/libpalloc.a" $LIBS &&
        build_and_run -fuse-ld="$1" -I"$ROOT/include" $LDFLAGS "$LIB/libpalloc.so" -Wl,-rpath,"$LIB"
}

# The pages show without a warning, on a terminal of 80 columns; every function has a page, or one that refers to the page that has its declaration.
manual_pages() {
    man3=$WORK/dest/usr/share/man/man3
    for page in "$man3"/*.3; do
        if ! grep -q '^[.]so ' "$page"; then
            LC_ALL=C MANWIDTH=80 man --warnings -l "$page" >"$page.text" 2>"$WORK/warnings" || return
            if have mandoc; then mandoc -T lint -W style "$page" >>"$WORK/warnings" 2>&1; fi
            for section in "RETURN VALUE" EXAMPLES "SEE ALSO"; do
                grep -qx "[.]SH $section" "$page" || echo "$page has no $section" >>"$WORK/warnings"
            done
            if grep . "$WORK/warnings" || grep -E '.{81}' "$page.text"; then return 1; fi
        fi
    done
    grep -v -e '^core_ctx$' -e '^buflib_ops_locked$' -e '^palloc_fd_' -e '^rockbox_' "$WORK/declared" | while read -r name; do
        page=$(sed -n 's/^[.]so man3[/]//p' "$man3/$name.3")
        grep -q "[ *]$name(" "$man3/${page:-$name.3}.text" || {
            echo "nothing of $name in ${page:-$name.3}"
            exit 1
        }
    done && rm "$man3"/*.text && [ "$(LC_ALL=C man -M "$WORK/dest/usr/share/man" -w palloc_init)" = "$man3/palloc.3" ]
}

# A CMake project that uses the tree installed in $WORK/dest/usr: with both libraries; a version that is not there is refused.
with_cmake() {
    mkdir -p "$WORK/cmake" && cat >"$WORK/cmake/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.13)
project(user C)
find_package(palloc 0.1 REQUIRED)
find_package(palloc REQUIRED)
add_executable(shared ../user.c)
target_link_libraries(shared PRIVATE palloc::palloc)
add_executable(static ../user.c)
target_link_libraries(static PRIVATE palloc::palloc_static)
find_package(palloc ${TOO_NEW} QUIET)
if(palloc_FOUND)
    message(FATAL_ERROR "this is version ${palloc_VERSION}, not ${TOO_NEW}")
endif()
CMAKE
    for version in 0.999 1.0; do
        rm -rf "$WORK/cmake/build"
        cmake -S "$WORK/cmake" -B "$WORK/cmake/build" -DTOO_NEW=$version -DCMAKE_PREFIX_PATH="$WORK/dest/usr" -DCMAKE_C_COMPILER="$CC" ||
            return
    done
    cmake --build "$WORK/cmake/build" && cd "$WORK" && rm -f installed.pba && cmake/build/shared && rm installed.pba && cmake/build/static &&
        readelf -d cmake/build/shared | grep -q 'NEEDED.*\[libpalloc.so.0\]' && ! readelf -d cmake/build/static | grep libpalloc
}

pkg_config_with_space() {
    flags=$(PKG_CONFIG_LIBDIR="$WORK/p q/lib/multi/pkgconfig" pkg-config --cflags --libs palloc) &&
        (cd "$WORK" && rm -f installed.pba && eval "$CC $CFLAGS user.c $flags -o user" && LD_LIBRARY_PATH="$WORK/p q/lib/multi" ./user)
}

cmake_with_space() {
    rm -rf "$WORK/cmake/build" && cmake -S "$WORK/cmake" -B "$WORK/cmake/build" -DTOO_NEW=1.0 -DCMAKE_C_COMPILER="$CC" \
        -Dpalloc_DIR="$WORK/p q/lib/multi/cmake/palloc" && cmake --build "$WORK/cmake/build"
}

only_statically() {
    rm "$WORK"/dest/usr/lib/libpalloc.so* && with_pkg_config --static
}

# As CMake projects that contain the sources: everything is built in their own directory.
embedded_in_cmake() {
    mkdir -p "$WORK/embeds" && cat >"$WORK/embeds/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.14)
project(user C)
include(FetchContent)
if(FETCH)
    FetchContent_Declare(libpalloc SOURCE_DIR "${SOURCES}")
    FetchContent_MakeAvailable(libpalloc)
else()
    add_subdirectory("${SOURCES}" palloc)
endif()
add_executable(shared ../user.c)
target_link_libraries(shared PRIVATE palloc::palloc)
add_executable(static ../user.c)
target_link_libraries(static PRIVATE palloc::palloc_static)
CMAKE
    for fetch in OFF ON; do
        cmake -S "$WORK/embeds" -B "$WORK/embeds-$fetch" -DFETCH=$fetch -DSOURCES="$ROOT" -DCMAKE_C_COMPILER="$CC" &&
            cmake --build "$WORK/embeds-$fetch" || return
        for program in shared static; do
            (cd "$WORK" && rm -f installed.pba && "embeds-$fetch/$program") || return
        done
    done
}

# As ExternalProject does it.
installed_by_cmake() {
    cmake -S "$ROOT" -B "$WORK/external" -DCMAKE_INSTALL_PREFIX="$WORK/external-prefix" -DCMAKE_INSTALL_LIBDIR=lib64 -DCMAKE_C_COMPILER="$CC" &&
        cmake --build "$WORK/external" && cmake --install "$WORK/external" &&
        build_and_run -I"$WORK/external-prefix/include" -L"$WORK/external-prefix/lib64" -Wl,-rpath,"$WORK/external-prefix/lib64" -lpalloc &&
        test -f "$WORK/external-prefix/lib64/cmake/palloc/palloc-config.cmake" &&
        "$WORK/external-prefix/bin/palloc" create "$WORK/external.pba"
}

# A Meson project with the sources as a subproject: built in its own directory, found by both names, and installed with it.
embedded_in_meson() {
    mkdir -p "$WORK/meson/subprojects" && ln -sfn "$ROOT" "$WORK/meson/subprojects/libpalloc" && cp "$WORK/user.c" "$WORK/meson" || return
    cat >"$WORK/meson/meson.build" <<'MESON'
project('user', 'c')
executable('shared', 'user.c', dependencies: dependency('palloc', fallback: ['libpalloc', 'palloc_dep']))
executable('static', 'user.c', dependencies: dependency('palloc_static', fallback: ['libpalloc', 'palloc_static_dep']))
MESON
    CC=$CC meson setup --prefix=/usr --libdir=lib64 "$WORK/meson/build" "$WORK/meson" && ninja -C "$WORK/meson/build" &&
        DESTDIR=$WORK/meson/dest meson install --no-rebuild -C "$WORK/meson/build" || return
    for program in shared static; do
        (cd "$WORK" && rm -f installed.pba && "meson/build/$program") || return
    done
    readelf -d "$WORK/meson/build/shared" | grep -q 'NEEDED.*\[libpalloc.so.0\]' && ! readelf -d "$WORK/meson/build/static" | grep 'NEEDED.*libpalloc' &&
        test -f "$WORK/meson/dest/usr/lib64/pkgconfig/palloc.pc" && "$WORK/meson/dest/usr/bin/palloc" create "$WORK/meson/tool.pba"
}

sources_are_as_before() {
    ! find "$ROOT" -newer "$WORK/before_embedded" -type f ! -path "$ROOT/target/*" | grep .
}

# Nothing but directories that others use too.
nothing_left() {
    if find "$1" ! -type d -o -name finwo -o -name rockbox -o -path '*/cmake/*' | grep .; then return 1; fi
}

# With a umask of 077, all users can still read what is installed.
all_readable() { # DIRECTORY
    if find "$1" -type d ! -perm -755 -o -type f ! -perm -644 | grep .; then return 1; fi
}

install_privately() {
    (umask 077 && make_quietly install "$@")
}

# The installed tool finds the installed library.
installed_tool() {
    "$WORK/dest/usr/bin/palloc" create "$WORK/tool.pba" && "$WORK/dest/usr/bin/palloc" check "$WORK/tool.pba"
}

installed() {
    check "make install, under umask 077" install_privately DESTDIR="$WORK/dest" PREFIX=/usr
    check "what is installed can be read by everybody" all_readable "$WORK/dest"
    for file in LICENSE-MIT README.md docs/GUIDE.md examples_c/quickstart.c; do
        check "$file is installed" cmp "$ROOT/$file" "$WORK/dest/usr/share/doc/palloc/$file"
    done
    check "gdb's printers are installed" cmp "$ROOT/packaging/palloc-gdb.py" "$WORK/dest/usr/share/gdb/auto-load/usr/lib/$(basename "$(readlink -f "$LIB/libpalloc.so")")-gdb.py"
    check "the installed tool makes a medium and checks it" installed_tool
    check "an installed tree links by plain flags" build_and_run -I"$WORK/dest/usr/include" -L"$WORK/dest/usr/lib" -lpalloc
    if have pkg-config; then
        check "pkg-config links the shared library" with_pkg_config --libs
        check "pkg-config --static links the static library" only_statically
        if static_libc; then
            check "pkg-config --static links a program without any shared library" with_pkg_config --static -static
        else
            skip "pkg-config --static -static" "no static C library"
        fi
    else
        skip "palloc.pc" "no pkg-config"
    fi
    if have man && have groff; then
        check "every function has a manual page" manual_pages
    else
        skip "manual pages" "no man or groff"
    fi
    check "make install again" make_quietly install DESTDIR="$WORK/dest" PREFIX=/usr
    if have cmake; then
        check "CMake: find_package(palloc) finds both libraries, and no other version" with_cmake
        touch "$WORK/before_embedded"
        check "CMake: add_subdirectory and FetchContent" embedded_in_cmake
        check "CMake: ExternalProject" installed_by_cmake
        check "CMake: builds beside the sources, not in them" sources_are_as_before
    else
        skip "CMake" "no cmake"
    fi
    if have meson && have ninja; then
        touch "$WORK/before_embedded"
        check "Meson: a subproject, and installed with it" embedded_in_meson
        check "Meson: builds beside the sources, not in them" sources_are_as_before
    else
        skip "Meson" "needs meson and ninja"
    fi
    check "make uninstall" make_quietly uninstall DESTDIR="$WORK/dest" PREFIX=/usr
    check "uninstall leaves nothing" nothing_left "$WORK/dest"
    check "uninstall removes its directory of documents" test ! -e "$WORK/dest/usr/share/doc/palloc"

    set -- DESTDIR="$WORK/a b" PREFIX=/opt/p LIBDIR=/opt/lib64 INCLUDEDIR=/opt/p/include/q CARGO=false
    check "make install into other directories, one with a space, without cargo" make_quietly install "$@"
    check "palloc.pc names other directories" grep -qx 'libdir=/opt/lib64' "$WORK/a b/opt/lib64/pkgconfig/palloc.pc"
    check "palloc.pc names directories by the prefix" grep -qx "includedir=\${prefix}/include/q" "$WORK/a b/opt/lib64/pkgconfig/palloc.pc"
    check "palloc.pc names what a static program needs" grep -qx "Libs.private: $LIBS" "$WORK/a b/opt/lib64/pkgconfig/palloc.pc"
    check "CMake's file names other directories" grep -q '"/opt/p/include/q"' "$WORK/a b/opt/lib64/cmake/palloc/palloc-config.cmake"
    check "make uninstall there" make_quietly uninstall "$@"
    check "uninstall leaves nothing there" nothing_left "$WORK/a b"

    check "make install under a prefix with a space" make_quietly install PREFIX="$WORK/p q" LIBDIR="$WORK/p q/lib/multi"
    if have pkg-config; then check "pkg-config finds it there" pkg_config_with_space; fi
    if have cmake; then check "CMake finds it there" cmake_with_space; fi
    check "make uninstall under a prefix with a space" make_quietly uninstall PREFIX="$WORK/p q" LIBDIR="$WORK/p q/lib/multi"
    check "uninstall leaves nothing under a prefix with a space" nothing_left "$WORK/p q"
}

# The files of packagers name the version that Cargo.toml has.
versions_agree() {
    for file in CHANGELOG.md debian/changelog packaging/rpm/libpalloc.spec packaging/alpine/APKBUILD packaging/vcpkg/vcpkg.json \
        packaging/homebrew/libpalloc.rb; do
        grep -m 1 '[0-9][.][0-9]*[.][0-9]' "$ROOT/$file" | grep -qF "$(sed -n 's/^version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml")" || {
            echo "$file has another version"
            return 1
        }
    done
}

# The files that link libpalloc.a on Linux name the libraries that the Makefile does, however they spell them.
libraries_agree() {
    libraries=$(sed -n 's/^LIBS .*,\(-l[a-z -]*\))$/\1/p' "$ROOT/Makefile")
    [ -n "$libraries" ] || return
    for file in README.md CMakeLists.txt meson.build benches/run.sh c_tests/lib.sh fuzz/run.sh packaging/conan/conanfile.py \
        packaging/oss-fuzz/build.sh tests/c_programs.rs; do
        tr -s "\"',;" ' ' <"$ROOT/$file" | sed 's/ -l/ /g; s/=-l/= /g' | grep -q "[^a-z]$(echo "$libraries" | sed 's/-l//g')\([^a-z]\|\$\)" || {
            echo "$file does not name $libraries"
            return 1
        }
    done
}

exports
check "packages have the version of Cargo.toml" versions_agree
check "all that link the library name the libraries of the Makefile" libraries_agree
if have abidiff && [ "$(uname -sm)" = "Linux x86_64" ]; then
    check "the ABI is the one of packaging/libpalloc.abi" "$ROOT/packaging/abi.sh"
else
    skip "the ABI" "needs abigail-tools, and the machine of packaging/libpalloc.abi"
fi
if [ "$(uname -sm)" = "Linux x86_64" ]; then
    sizes
else
    skip "sizes" "the ceilings are those of x86_64"
fi
check "links beside another Rust static library" beside_rust
for linker in gold lld mold; do
    if have ld.$linker; then check "links with $linker" with_linker $linker; else skip "linking with $linker" "not installed"; fi
done
check "a panic says where, and ends the process" panics
check "one object of an archive with other names" other_names
check "both generations of palloc in one program" both_generations
check "both generations of buflib in one program" both_generations_of_buflib
check "both headers in one source file are refused" only_one_header
prefixed
installed
finish
