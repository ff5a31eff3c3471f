# libpalloc for C programmers; cargo builds, this file packs. `make help` lists the targets.
#
##   make                 build/lib/libpalloc.a, build/lib/libpalloc.so and the tool build/bin/palloc
##   make demo            a C program keeps blobs in a file, and finds them in a second run
##   make check           every test and check; the last line has the totals
##   make check-deep      many more power cuts, kills, faults and mutants; sanitizers, source archive, packages: half an hour
##   make check-power     the power of a virtual machine is cut on real file systems: POWER_SECONDS (900) of it, MUTANT=N without a barrier
##   make check-cross     the tests on other machines and systems, by emulators, as far as they are here: an hour
##   make check-mutants   how many small changes of the code the tests catch: a random sample, MUTANTS_SECONDS (3600); needs cargo-mutants
##   make fuzz            cargo-fuzz, FUZZ_SECONDS (120) for each target; new inputs end up in build/fuzz
##   make bench           figures beside those of other allocators, as far as they are installed; decides nothing
##   make bench-report    the same, and docs/PERFORMANCE.md of them (needs python3)
##   make headers         make include/*.h anew from src/ffi, and man/*.3 from these
##   make abi             make packaging/libpalloc.abi anew from include/: what abidiff compares with
##   make install         headers, libraries, the tool, manual pages, and what pkg-config and CMake need
##   make uninstall       what install put there
##   make PREFIX_SYMBOLS=my_ [install]
##                        build/my_: the same libraries and headers with my_ before each name: my_palloc(), my_palloc.h, -lmy_palloc
##   make dist            build/dist/palloc-VERSION.tar.gz: the sources, with all crates, so that it builds without a network
##   make clean           remove what was built
##
## Variables: PREFIX (/usr/local), BINDIR, LIBDIR, INCLUDEDIR, MANDIR, DESTDIR; CARGO, CC, CXX, CFLAGS, LDFLAGS, AR, LD, NM, OBJCOPY, INSTALL;
## CARGOFLAGS (--locked); TARGET, a Rust target triple, to cross-compile: then also the tools, and build/TARGET stands for build.

CARGO      ?= cargo
CFLAGS     ?= -O2 -g
NM         ?= nm
OBJCOPY    ?= objcopy
INSTALL    ?= install
CARGOFLAGS ?= --locked

PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man

# What a program linked with libpalloc.a needs besides libc (within it, on most systems of today). The compiler adds libgcc itself.
LIBS       ?= -lpthread -lm -ldl

VERSION := $(shell sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
NAME    := $(PREFIX_SYMBOLS)palloc
STATIC  := lib$(NAME).a
SHARED  := $(if $(findstring windows,$(TARGET)),palloc.dll,lib$(NAME).so.$(VERSION))
SONAME  := lib$(NAME).so.$(firstword $(subst ., ,$(VERSION)))

# A build for another machine has a directory of its own. So has one with a prefix, with its own headers and version script.
BUILD   := build$(if $(TARGET),/$(TARGET))$(if $(PREFIX_SYMBOLS),/$(PREFIX_SYMBOLS))
INCLUDE := $(if $(PREFIX_SYMBOLS),$(BUILD)/include,include)
MAP     := $(if $(PREFIX_SYMBOLS),$(BUILD)/lib$(NAME).map,packaging/libpalloc.map)

CARGO_TARGET_DIR ?= target
CARGO_OUT  = $(CARGO_TARGET_DIR)/$(if $(TARGET),$(TARGET)/)release
SOURCES   := $(shell find src -name '*.rs') Cargo.toml build.rs $(wildcard Cargo.lock) packaging/one_object.sh

.PHONY: abi all bench bench-report check check-cross check-deep check-power demo dist fuzz headers install uninstall clean help
.DELETE_ON_ERROR:

# With musl a Rust library has static parts only, the C library's among them.
all: $(BUILD)/lib/$(STATIC) $(if $(findstring musl,$(TARGET)),,$(BUILD)/lib/$(SHARED))

# The tool is linked with the shared library, which it finds beside its own directory, and is not built with a prefix.
TOOL_RPATH ?= -Wl,-rpath,'$$ORIGIN/../lib'
TOOL    := $(if $(PREFIX_SYMBOLS)$(findstring musl,$(TARGET))$(findstring windows,$(TARGET)),,$(BUILD)/bin/palloc)
all: $(TOOL)

cargo_build = $(CARGO) rustc --release --lib $(CARGOFLAGS) --target-dir "$(CARGO_TARGET_DIR)" $(if $(TARGET),--target $(TARGET)) \
    $(if $(DEBUG),--config profile.release.debug=2) --crate-type

ifneq ($(and $(findstring windows,$(TARGET)),$(PREFIX_SYMBOLS)),)
$(error PREFIX_SYMBOLS is for systems with ELF)
endif
ifneq ($(and $(or $(findstring windows,$(TARGET)),$(findstring musl,$(TARGET))),$(filter install,$(MAKECMDGOALS))),)
$(error make install needs the shared library of a system with ELF: copy $(BUILD)/lib and include)
endif

ifneq ($(findstring windows,$(TARGET)),)

# cargo links the shared library, with the same compiler. One call for each: with both in one call it leaves out link-time optimization
# without a word.
export CARGO_TARGET_$(shell echo $(TARGET) | tr a-z- A-Z_)_LINKER ?= $(firstword $(CC))

$(BUILD)/lib/$(SHARED): $(SOURCES)
	$(cargo_build) cdylib
	@mkdir -p $(@D)
	cp "$(CARGO_OUT)/libpalloc.dll.a" $(@D)
	cp "$(CARGO_OUT)/palloc.dll" $@

# An object for each file of src/ffi: a linker leaves those out whose functions a program has itself.
$(BUILD)/lib/$(STATIC): $(SOURCES)
	$(cargo_build) staticlib -- -Ccodegen-units=256
	@mkdir -p $(@D)
	cp "$(CARGO_OUT)/libpalloc.a" $@

else

$(BUILD)/exports: packaging/libpalloc.map packaging/exports.sh
	@mkdir -p $(@D)
	packaging/exports.sh >$@

# Both libraries are made of one object; in the static one its names are weak.
$(BUILD)/libpalloc.o: $(BUILD)/exports $(SOURCES)
	$(cargo_build) staticlib -- --cfg one_object
	packaging/one_object.sh "$(CARGO_OUT)/libpalloc.a" $< $@

ifneq ($(PREFIX_SYMBOLS),)
all: $(BUILD)/include

$(BUILD)/lib$(NAME).o: $(BUILD)/libpalloc.o
	sed 's/.*/& $(PREFIX_SYMBOLS)&/' $(BUILD)/exports >$(BUILD)/renamed
	$(OBJCOPY) --redefine-syms=$(BUILD)/renamed $< $@

$(MAP): packaging/libpalloc.map packaging/exports.sh
	@mkdir -p $(@D)
	packaging/exports.sh map $(PREFIX_SYMBOLS) >$@

$(BUILD)/include: packaging/prefix.sh packaging/exports.sh packaging/libpalloc.map $(wildcard include/*.h include/*/*.h)
	rm -rf $@
	packaging/prefix.sh $(PREFIX_SYMBOLS) $@
endif

# A program may have functions of these names itself.
$(BUILD)/lib$(NAME)-weak.o: $(BUILD)/lib$(NAME).o packaging/weak.sh
	@sed 's/^/$(PREFIX_SYMBOLS)/' $(BUILD)/exports >$@.names
	packaging/weak.sh $@.names $< $@
	@rm $@.names

$(BUILD)/lib/$(STATIC): $(BUILD)/lib$(NAME)-weak.o
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $<

$(BUILD)/lib/$(SHARED): $(BUILD)/lib$(NAME).o $(MAP)
	@mkdir -p $(@D)
	@rm -f $(BUILD)/lib/lib$(NAME).so*
	$(CC) -shared $(LDFLAGS) -Wl,-soname,$(SONAME),--no-undefined-version,--version-script,$(MAP),--gc-sections,--as-needed \
	    -Wl,-z,relro,-z,now,-z,defs $< $(LIBS) -o $@
	@ln -s $(SHARED) $(BUILD)/lib/$(SONAME)
	@ln -s $(SONAME) $(BUILD)/lib/lib$(NAME).so

$(BUILD)/bin/palloc: tools/palloc.c $(BUILD)/lib/$(SHARED) include/palloc.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -D_GNU_SOURCE -Iinclude $< $(LDFLAGS) $(BUILD)/lib/$(SHARED) $(TOOL_RPATH) -o $@

endif

demo: all
	@rm -rf build/demo && mkdir -p build/demo
	$(CC) $(CFLAGS) -Iinclude examples_c/quickstart.c $(LDFLAGS) $(BUILD)/lib/libpalloc.a $(LIBS) -o build/demo/quickstart
	@cd build/demo && for run in first second; do echo; echo "The $$run run:  ./quickstart"; ./quickstart || exit; done

export CARGO CC CXX CFLAGS LD LDFLAGS NM OBJCOPY LIBS TARGET CARGOFLAGS CARGO_TARGET_DIR DEBUG

check:
	@+MAKE="$(MAKE)" c_tests/check.sh

check-deep:
	@+MAKE="$(MAKE)" c_tests/deep.sh

check-power: all
	@+MAKE="$(MAKE)" c_tests/power.sh

check-mutants:
	@+MAKE="$(MAKE)" c_tests/mutants.sh

check-cross:
	@+MAKE="$(MAKE)" c_tests/cross.sh

FUZZ_SECONDS ?= 120

# AddressSanitizer and coverage are unstable options of the compiler. The targets over a medium in memory run without what slows them down.
fuzz:
	@for target in bytes operations salvage buflib transactions records media; do \
	    case $$target in \
	    bytes | operations | buflib) flags= corpus=$$target ;; \
	    salvage) flags= corpus=bytes ;; \
	    media) flags="--sanitizer none --no-trace-compares" corpus=bytes ;; \
	    *) flags="--sanitizer none --no-trace-compares" corpus=$$target ;; \
	    esac; \
	    mkdir -p build/fuzz/$$target && echo "== $$target" && \
	    RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$flags $$target build/fuzz/$$target $$(ls -d fuzz/corpus/$$corpus 2>/dev/null) -- \
	        -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit; \
	done

bench: all
	@benches/run.sh

bench-report: all
	@benches/run.sh report

headers:
	UPDATE_HEADERS=1 $(CARGO) test $(CARGOFLAGS) --test headers --test man --test dependencies -- --skip a_new_function_is_in_every_file

abi:
	packaging/abi.sh packaging/libpalloc.abi

INSTALL_VARIABLES = NAME VERSION STATIC SHARED SONAME TOOL LIBS BUILD INCLUDE PREFIX BINDIR LIBDIR INCLUDEDIR MANDIR DESTDIR PREFIX_SYMBOLS INSTALL
install uninstall: export_variables = $(foreach variable,$(INSTALL_VARIABLES),$(variable)="$($(variable))")

install: all
	$(export_variables) packaging/install.sh install

uninstall:
	$(export_variables) packaging/install.sh uninstall

# The files that git knows, as they are, and the crates of Cargo.lock. The same tree gives the same bytes.
DIST := palloc-$(VERSION)

dist:
	rm -rf build/dist
	mkdir -p build/dist/$(DIST)/.cargo
	git ls-files -z | tar -c --null -T - | tar -x -C build/dist/$(DIST)
	$(CARGO) vendor -q $(CARGOFLAGS) build/dist/$(DIST)/vendor >/dev/null
	printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "vendor"\n' >build/dist/$(DIST)/.cargo/config.toml
	tar -c -C build/dist --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mode=u+rw,go+r-w,a+X \
	    --mtime="@$$(git log -1 --format=%ct)" $(DIST) | gzip -9n >build/dist/$(DIST).tar.gz
	rm -rf build/dist/$(DIST)

clean:
	rm -rf build
	$(CARGO) clean --target-dir "$(CARGO_TARGET_DIR)"

help:
	@sed -n 's/^## \{0,1\}//p' Makefile
