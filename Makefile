# libpalloc for C programmers; cargo builds, this file packs. `make help` tells what there is.
#
##   make                 build/lib/libpalloc.a and build/lib/libpalloc.so
##   make demo            a C program keeps blobs in a file, and finds them in a second run
##   make check           every test and check; the last line has the totals
##   make check-deep      many more crashes, faults and hostile media, and sanitizers: half an hour
##   make check-cross     the tests on other machines and systems, by emulators, as far as they are here: an hour
##   make fuzz            cargo-fuzz, FUZZ_SECONDS (120) for each target; new inputs end up in build/fuzz
##   make bench           figures of benches/*.c beside their peers; decides nothing
##   make headers         make include/*.h anew from src/ffi
##   make install         headers, libraries and palloc.pc
##   make uninstall       what install put there
##   make clean           remove what was built
##
## Variables: PREFIX (/usr/local), LIBDIR, INCLUDEDIR, DESTDIR; CARGO, CC, CXX, CFLAGS, LDFLAGS, AR, LD, NM, OBJCOPY, INSTALL;
## CARGOFLAGS (--locked); TARGET, a Rust target triple, to cross-compile: then also the tools, and build/TARGET stands for build.

CARGO      ?= cargo
CFLAGS     ?= -O2 -g
NM         ?= nm
OBJCOPY    ?= objcopy
INSTALL    ?= install
CARGOFLAGS ?= --locked

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include

# What a program linked with libpalloc.a needs besides libc (within it, on most systems of today). The compiler adds libgcc itself.
LIBS       ?= -lpthread -lm -ldl

VERSION := $(shell sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME  := libpalloc.so.$(firstword $(subst ., ,$(VERSION)))
SHARED  := $(if $(findstring windows,$(TARGET)),palloc.dll,libpalloc.so.$(VERSION))
HEADERS := $(patsubst include/%,%,$(shell find include -name '*.h'))

BUILD := build$(if $(TARGET),/$(TARGET))

CARGO_TARGET_DIR ?= target
CARGO_OUT  = $(CARGO_TARGET_DIR)/$(if $(TARGET),$(TARGET)/)release
SOURCES   := $(shell find src -name '*.rs') Cargo.toml build.rs $(wildcard Cargo.lock)

# One call for each kind of library: with several kinds in one call cargo leaves out link-time optimization without a word.
cargo_build = $(CARGO) rustc --release --lib $(CARGOFLAGS) --target-dir "$(CARGO_TARGET_DIR)" $(if $(TARGET),--target $(TARGET)) --crate-type

.PHONY: all bench check check-cross check-deep demo fuzz headers install uninstall clean help
.DELETE_ON_ERROR:

# cargo links the shared library with the same compiler.
ifdef TARGET
export CARGO_TARGET_$(shell echo $(TARGET) | tr a-z- A-Z_)_LINKER ?= $(firstword $(CC))
endif

# With musl a library has static parts only, unless the target says otherwise: cargo makes no shared one.
all: $(BUILD)/lib/libpalloc.a $(if $(findstring musl,$(TARGET)),,$(BUILD)/lib/$(SHARED))

ifneq (,$(findstring windows,$(TARGET)))

$(BUILD)/lib/palloc.dll: $(SOURCES)
	$(cargo_build) cdylib
	@mkdir -p $(BUILD)/lib
	cp "$(CARGO_OUT)/libpalloc.dll.a" $(BUILD)/lib
	cp "$(CARGO_OUT)/palloc.dll" $@

$(BUILD)/lib/libpalloc.a: $(SOURCES)
	$(cargo_build) staticlib
	@mkdir -p $(BUILD)/lib
	cp "$(CARGO_OUT)/libpalloc.a" $@

else

$(BUILD)/lib/$(SHARED): $(SOURCES)
	$(cargo_build) cdylib
	@mkdir -p $(BUILD)/lib
	@rm -f $(BUILD)/lib/libpalloc.so*
	cp "$(CARGO_OUT)/libpalloc.so" $@
	@ln -s $(SHARED) $(BUILD)/lib/$(SONAME)
	@ln -s $(SONAME) $(BUILD)/lib/libpalloc.so

# The functions and variables behind #[unsafe(no_mangle)].
$(BUILD)/exports: $(SOURCES)
	@mkdir -p $(BUILD)/lib
	@awk '/^#\[unsafe\(no_mangle\)\]/ { exported = 1 } \
	    exported && match($$0, /(fn|static|static mut) [A-Za-z_0-9]+/) \
	        { name = substr($$0, RSTART, RLENGTH); sub(/.* /, "", name); print name; exported = 0 }' src/ffi/*.rs >$@

# A Rust static library has the symbols of Rust's standard library too, and so has every other one: two would not link together.
# Hence one object of all that is needed, with our names global and the rest local. (Without the group flag, references into
# discarded COMDAT groups remain. LLVM's bitcode, which parts of the standard library carry, goes: no other tool reads it.)
$(BUILD)/lib/libpalloc.a: $(BUILD)/exports $(SOURCES)
	$(cargo_build) staticlib
	$(LD) -r --force-group-allocation --gc-sections $$(sed 's/^/-u /' $(BUILD)/exports) "$(CARGO_OUT)/libpalloc.a" -o $(BUILD)/libpalloc.all.o
	$(OBJCOPY) --strip-debug -R .llvmbc -R .llvmcmd --keep-global-symbols=$(BUILD)/exports $(BUILD)/libpalloc.all.o $(BUILD)/libpalloc.o
	@rm -f $@
	$(AR) rcs $@ $(BUILD)/libpalloc.o
	@rm -f $(BUILD)/libpalloc.all.o $(BUILD)/libpalloc.o

endif

demo: all
	@rm -rf build/demo && mkdir -p build/demo
	$(CC) $(CFLAGS) -Iinclude examples_c/quickstart.c $(LDFLAGS) $(BUILD)/lib/libpalloc.a $(LIBS) -o build/demo/quickstart
	@cd build/demo && for run in first second; do echo; echo "The $$run run:  ./quickstart"; ./quickstart || exit; done

export CARGO CC CXX CFLAGS LDFLAGS NM LIBS TARGET CARGOFLAGS CARGO_TARGET_DIR

check:
	@+MAKE="$(MAKE)" c_tests/check.sh

check-deep:
	@+MAKE="$(MAKE)" c_tests/deep.sh

check-cross:
	@+MAKE="$(MAKE)" c_tests/cross.sh

FUZZ_SECONDS ?= 120

# AddressSanitizer and coverage are unstable options of the compiler.
fuzz:
	@for target in bytes operations; do \
	    mkdir -p build/fuzz/$$target && echo "== $$target" && \
	    RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target build/fuzz/$$target fuzz/corpus/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit; \
	done

bench: all
	@mkdir -p build/bench
	@for source in benches/*.c; do \
	    program=build/bench/$$(basename $$source .c) && echo "== $$source" && \
	    $(CC) -O2 -D_GNU_SOURCE -Iinclude $$source $(LDFLAGS) $(BUILD)/lib/libpalloc.a $(LIBS) -o $$program && $$program || exit; \
	done

headers:
	UPDATE_HEADERS=1 $(CARGO) test $(CARGOFLAGS) --test headers

install: all
	$(INSTALL) -d "$(DESTDIR)$(LIBDIR)/pkgconfig"
	$(INSTALL) -m 644 $(BUILD)/lib/libpalloc.a "$(DESTDIR)$(LIBDIR)"
	$(INSTALL) -m 755 $(BUILD)/lib/$(SHARED) "$(DESTDIR)$(LIBDIR)"
	ln -sf $(SHARED) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/libpalloc.so"
	for header in $(HEADERS); do \
	    $(INSTALL) -d "$(DESTDIR)$(INCLUDEDIR)/$$(dirname $$header)" && \
	    $(INSTALL) -m 644 include/$$header "$(DESTDIR)$(INCLUDEDIR)/$$header" || exit; \
	done
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' -e 's|@VERSION@|$(VERSION)|' \
	    -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' -e 's|@LIBS@|$(LIBS)|' palloc.pc.in \
	    >"$(DESTDIR)$(LIBDIR)/pkgconfig/palloc.pc"
	chmod 644 "$(DESTDIR)$(LIBDIR)/pkgconfig/palloc.pc"

uninstall:
	for file in libpalloc.a $(SHARED) $(SONAME) libpalloc.so pkgconfig/palloc.pc; do rm -f "$(DESTDIR)$(LIBDIR)/$$file"; done
	for header in $(HEADERS); do rm -f "$(DESTDIR)$(INCLUDEDIR)/$$header"; done

clean:
	rm -rf build
	$(CARGO) clean --target-dir "$(CARGO_TARGET_DIR)"

help:
	@sed -n 's/^## \{0,1\}//p' Makefile
