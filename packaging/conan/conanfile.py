# SPDX-License-Identifier: MIT OR Apache-2.0
# conan create packaging/conan [-o 'libpalloc/*:shared=True']: builds the tree that this file stands in.
import os

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.env import VirtualBuildEnv
from conan.tools.files import copy, load
from conan.tools.gnu import AutotoolsToolchain

required_conan_version = ">=2.0"


class Libpalloc(ConanFile):
    name = "libpalloc"
    description = "Allocators for files, movable blocks and virtual memory"
    license = "MIT OR Apache-2.0"
    topics = ("allocator", "persistent", "mmap")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False]}
    default_options = {"shared": False}

    @property
    def _tree(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):
        manifest = load(self, os.path.join(self._tree, "Cargo.toml"))
        self.version = manifest.split('\nversion = "')[1].split('"')[0]

    def export_sources(self):
        excludes = [".git*", "target/*", "build/*", "fuzz/*", "packaging/conan/*"]
        copy(self, "*", os.path.abspath(self._tree), self.export_sources_folder, excludes=excludes)

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("this recipe is for Linux")

    def configure(self):
        self.settings.rm_safe("compiler.cppstd")
        self.settings.rm_safe("compiler.libcxx")

    def package_id(self):
        del self.info.settings.build_type

    def generate(self):
        VirtualBuildEnv(self).generate()
        AutotoolsToolchain(self).generate()

    def _make(self, arguments):
        self.run(f'make -C "{self.source_folder}" O="{self.build_folder}" PREFIX=/ LIBDIR=/lib {arguments}')

    def build(self):
        self._make("all")

    def package(self):
        self._make(f'install DESTDIR="{self.package_folder}" DOCDIR=')
        copy(self, "LICENSE-*", self.source_folder, os.path.join(self.package_folder, "licenses"))
        unused = "libpalloc.a" if self.options.shared else "libpalloc.so*"
        self.run(f'rm -rf lib/{unused} lib/pkgconfig lib/cmake share{"" if self.options.shared else " bin"}', cwd=self.package_folder)

    def package_info(self):
        self.cpp_info.libs = ["palloc"]
        self.cpp_info.set_property("cmake_file_name", "palloc")
        self.cpp_info.set_property("cmake_target_name", "palloc::palloc")
        self.cpp_info.set_property("pkg_config_name", "palloc")
        if not self.options.shared:
            self.cpp_info.system_libs = ["pthread", "m", "dl"]
