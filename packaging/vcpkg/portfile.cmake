# SPDX-License-Identifier: MIT OR Apache-2.0
# vcpkg install libpalloc --overlay-ports=packaging/vcpkg builds the tree that this file stands in. A port in a registry takes the
# archive of `make dist` in its place: vcpkg_download_distfile and vcpkg_extract_source_archive.
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}")
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME palloc CONFIG_PATH lib/cmake/palloc)
vcpkg_fixup_pkgconfig()
if(VCPKG_LIBRARY_LINKAGE STREQUAL "static")
    file(GLOB unused "${CURRENT_PACKAGES_DIR}/lib/libpalloc.so*" "${CURRENT_PACKAGES_DIR}/debug/lib/libpalloc.so*")
    file(REMOVE_RECURSE ${unused} "${CURRENT_PACKAGES_DIR}/bin" "${CURRENT_PACKAGES_DIR}/debug/bin")
else()
    file(REMOVE "${CURRENT_PACKAGES_DIR}/lib/libpalloc.a" "${CURRENT_PACKAGES_DIR}/debug/lib/libpalloc.a")
    vcpkg_copy_tools(TOOL_NAMES palloc AUTO_CLEAN)
endif()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE-MIT" "${SOURCE_PATH}/LICENSE-APACHE" "${SOURCE_PATH}/packaging/licences.txt")
