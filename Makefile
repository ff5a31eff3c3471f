# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds, tests and installs libpalloc for C programs. cargo compiles the Rust part; the scripts in packaging/ and c_tests/ do what takes
# more than a command, and describe it at their heads. `make help` prints the lines with ##.
#
##   make                 build/lib/libpalloc.a, build/lib/libpalloc.so and the tool build/bin/palloc
##   make demo            a C program keeps blobs in a file, and finds them in a second run
##   make check           every test and check; the last line has the totals
##   make check-deep      many more power cuts, kills, faults and mutants; sanitizers, source archive, packages: half an hour
##   make check-power     cuts the power of a virtual machine with real file systems for POWER_SECONDS (900); MUTANT=N leaves out a barrier
##   make check-cross     the tests on other machines and systems, in the emulators that are installed: an hour
##   make check-mutants   small changes of the code, and whether a test fails: a random sample, MUTANTS_SECONDS (3600); needs cargo-mutants
##   make fuzz            libFuzzer, FUZZ_SECONDS (120) for each target, and a table; new inputs end up in build/fuzz
##   make fuzz-regress    the inputs in fuzz/corpus again, and mutants of them, without libFuzzer; part of make check
##   make coverage        lines and branches that Rust tests, C programs and fuzz corpora run: a table by file; needs llvm-tools of rustup
##   make bench           figures beside those of other allocators that are installed; nothing passes or fails
##   make bench-report    the same, and writes docs/PERFORMANCE.md (needs python3)
##   make headers         writes include/*.h from src/ffi and headers/, and man/*.3 from these
##   make abi             writes packaging/libpalloc.abi from include/; abidiff compares the library with it
##   make html            build/html: manuals and documents as a site that can be searched, also without a server (needs python3)
##   make install         installs headers, libraries, the tool, manual pages, and files for pkg-config and CMake
##   make uninstall       removes these
##   make PREFIX_SYMBOLS=my_ [install]
##                        build/my_: the same libraries and headers with my_ before each name: my_palloc(), my_palloc.h, -lmy_palloc
##   make dist            build/dist/palloc-VERSION.tar.gz: the sources, with all crates, so that it builds without a network
##   make clean           removes all that was built
##
## Variables: PREFIX (/usr/local), BINDIR, LIBDIR, INCLUDEDIR, MANDIR, DOCDIR (empty: no documents), DESTDIR; CARGO, CC, CXX, CPPFLAGS, CFLAGS, LDFLAGS,
## AR, LD, NM, OBJCOPY, INSTALL;
## CARGOFLAGS (--locked); TARGET, a Rust target triple, to cross-compile: set the tools too; build/TARGET takes the place of build.
## DEBUG=1: with debug information. TOOL_RPATH: the linker flags by which the tool finds the shared library.
## O, a directory for what make, make install and make html build, in place of build and target: the sources are only read, and may be on a
## read-only file system. Tests and benchmarks use build.

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

# The products
#
# A system with ELF. Both libraries come from one object, in which all names but the exported ones are local:
#
#   src/ --cargo--> libpalloc.a of Rust --one_object.sh--> libpalloc.o --(objcopy, with a prefix)--> libNAME.o
#   libNAME.o --weak.sh--> libNAME-weak.o --ar--> lib/libNAME.a
#   libNAME.o --CC -shared, with the MAP of versions--> lib/libNAME.so.VERSION --CC, tools/palloc.c--> bin/palloc
#
# Windows: cargo makes both libraries. musl: the static library only, as Rust's libraries for it have static parts only.

system   := $(or $(findstring windows,$(TARGET)),$(findstring musl,$(TARGET)),elf)

VERSION := $(shell sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
NAME    := $(PREFIX_SYMBOLS)palloc
STATIC  := lib$(NAME).a
SHARED  := $(if $(filter windows,$(system)),palloc.dll,lib$(NAME).so.$(VERSION))
SONAME  := lib$(NAME).so.$(firstword $(subst ., ,$(VERSION)))

DOCDIR  ?= $(PREFIX)/share/doc/$(NAME)

# The libraries that a program linked with libpalloc.a needs besides libc. (Most systems of today have them in libc. The compiler adds libgcc
# itself.) Those of Linux stand in other files too; c_tests/package.sh names the one that differs.
LIBS    ?= $(if $(filter windows,$(system)),-lkernel32 -lntdll -luserenv -lws2_32 -ldbghelp,-lpthread -lm -ldl)

# Each target and each prefix has a directory of its own. With a prefix, so do the headers and the map.
BUILD   := $(or $(O),build)$(if $(TARGET),/$(TARGET))$(if $(PREFIX_SYMBOLS),/$(PREFIX_SYMBOLS))
INCLUDE := $(if $(PREFIX_SYMBOLS),$(BUILD)/include,include)
MAP     := $(if $(PREFIX_SYMBOLS),$(BUILD)/lib$(NAME).map,packaging/libpalloc.map)
# There is no tool with a prefix.
TOOL    := $(if $(filter elf,$(system)),$(if $(PREFIX_SYMBOLS),,$(BUILD)/bin/palloc))
# It finds the shared library from its own directory, where that was built, and where LIBDIR is.
TOOL_RPATH ?= -Wl,-rpath,'$$ORIGIN/../lib' $(if $(filter-out $(PREFIX)/lib,$(LIBDIR)),-Xlinker -rpath='$(LIBDIR:$(PREFIX)/%=$$ORIGIN/../%)')

ifeq ($(system),musl)
ifneq ($(filter install,$(MAKECMDGOALS)),)
$(error make install needs the shared library: copy $(BUILD)/lib and include)
endif
endif
ifneq ($(and $(filter windows,$(system)),$(PREFIX_SYMBOLS)),)
$(error PREFIX_SYMBOLS is for systems with ELF)
endif

CARGO_TARGET_DIR ?= $(if $(O),$(O)/)target
CARGO_OUT  = $(CARGO_TARGET_DIR)/$(if $(TARGET),$(TARGET)/)release
SOURCES   := $(shell find src -name '*.rs') Cargo.toml build.rs $(wildcard Cargo.lock) packaging/one_object.sh
# Directories of the builder are not written into what is built: the same sources give the same bytes anywhere. (RUSTFLAGS, if set, take the
# place of cargo's part.)
as_built := libpalloc-$(VERSION)
no_paths := --config "target.'cfg(all())'.rustflags=['--remap-path-prefix=$(CURDIR)=$(as_built)', \
    '--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo']"
cargo_build = $(CARGO) rustc --release --lib $(CARGOFLAGS) --target-dir "$(CARGO_TARGET_DIR)" $(if $(TARGET),--target $(TARGET)) \
    $(no_paths) $(if $(DEBUG),--config profile.release.debug=2) --crate-type

.PHONY: abi all bench bench-report check check-cross check-deep check-mutants check-power clean coverage demo dist fuzz fuzz-regress headers help html install uninstall
.DELETE_ON_ERROR:

all: $(BUILD)/lib/$(STATIC) $(if $(filter musl,$(system)),,$(BUILD)/lib/$(SHARED)) $(TOOL) $(if $(PREFIX_SYMBOLS),$(INCLUDE))

ifeq ($(system),windows)

# cargo links the shared library, with the same compiler. One call for each: in one call for both, cargo silently leaves out link-time
# optimization.
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

$(BUILD)/libpalloc.o: $(BUILD)/exports $(SOURCES)
	$(cargo_build) staticlib -- --cfg one_object
	packaging/one_object.sh "$(CARGO_OUT)/libpalloc.a" $< $@

ifneq ($(PREFIX_SYMBOLS),)
$(BUILD)/lib$(NAME).o: $(BUILD)/libpalloc.o
	sed 's/.*/& $(PREFIX_SYMBOLS)&/' $(BUILD)/exports >$(BUILD)/renamed
	$(OBJCOPY) --redefine-syms=$(BUILD)/renamed $< $@

$(MAP): packaging/libpalloc.map packaging/exports.sh
	@mkdir -p $(@D)
	packaging/exports.sh map $(PREFIX_SYMBOLS) >$@

$(INCLUDE): packaging/prefix.sh packaging/exports.sh packaging/libpalloc.map $(wildcard include/*.h include/*.hpp include/*/*.h)
	rm -rf $@
	packaging/prefix.sh $(PREFIX_SYMBOLS) $@
endif

# A program may have functions of these names itself.
# (Without a prefix lib$(NAME).o is libpalloc.o.)
$(BUILD)/lib$(NAME)-weak.o: $(BUILD)/lib$(NAME).o packaging/weak.sh
	@sed 's/^/$(PREFIX_SYMBOLS)/' $(BUILD)/exports >$@.names
	packaging/weak.sh $@.names $< $@
	@rm $@.names

$(BUILD)/lib/$(STATIC): $(BUILD)/lib$(NAME)-weak.o
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcsD $@ $<

$(BUILD)/lib/$(SHARED): $(BUILD)/lib$(NAME).o $(MAP)
	@mkdir -p $(@D)
	@rm -f $(BUILD)/lib/lib$(NAME).so*
	$(CC) -shared $(LDFLAGS) -Wl,-soname,$(SONAME),--no-undefined-version,--version-script,$(MAP),--gc-sections,--as-needed \
	    -Wl,-z,relro,-z,now,-z,defs $< $(LIBS) -o $@
	@ln -s $(SHARED) $(BUILD)/lib/$(SONAME)
	@ln -s $(SONAME) $(BUILD)/lib/lib$(NAME).so

$(BUILD)/bin/palloc: tools/palloc.c $(BUILD)/lib/$(SHARED) include/palloc.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) "-fdebug-prefix-map=$(CURDIR)=$(as_built)" -D_GNU_SOURCE -Iinclude $< $(LDFLAGS) $(BUILD)/lib/$(SHARED) $(TOOL_RPATH) -o $@

endif

# Targets that run something

demo: all
	@rm -rf build/demo && mkdir -p build/demo
	$(CC) $(CFLAGS) -Iinclude examples_c/quickstart.c $(LDFLAGS) $(BUILD)/lib/libpalloc.a $(LIBS) -o build/demo/quickstart
	@cd build/demo && for run in first second; do echo; echo "The $$run run:  ./quickstart"; ./quickstart || exit; done

# What the scripts in c_tests, fuzz, benches and packaging use, and the makes that they call.
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

fuzz: all
	@fuzz/run.sh

fuzz-regress: all
	$(CARGO) test $(CARGOFLAGS) -q --lib fuzzing
	$(CARGO) test $(CARGOFLAGS) -q --test fuzz
	@fuzz/run.sh replay

coverage:
	@c_tests/coverage.sh

bench: all
	@benches/run.sh

bench-report: all
	@benches/run.sh report

# (a_new_function... compares with packaging/libpalloc.abi, which `make abi` writes after this.)
headers:
	UPDATE_HEADERS=1 $(CARGO) test $(CARGOFLAGS) --test headers --test man --test dependencies -- --skip a_new_function

abi:
	packaging/abi.sh packaging/libpalloc.abi

html:
	python3 packaging/make_html.py "$(BUILD)/html"

INSTALL_VARIABLES = NAME VERSION STATIC SHARED SONAME TOOL LIBS BUILD INCLUDE PREFIX BINDIR LIBDIR INCLUDEDIR MANDIR DOCDIR DESTDIR PREFIX_SYMBOLS INSTALL
install uninstall: export_variables = $(foreach variable,$(INSTALL_VARIABLES),$(variable)="$($(variable))")

install: all
	$(export_variables) packaging/install.sh install

uninstall:
	$(export_variables) packaging/install.sh uninstall

dist:
	@packaging/dist.sh "$(VERSION)"

clean:
	rm -rf $(if $(O),"$(BUILD)/lib" "$(BUILD)/bin",build)
	$(CARGO) clean --target-dir "$(CARGO_TARGET_DIR)"

help:
	@sed -n 's/^## \{0,1\}//p' Makefile
