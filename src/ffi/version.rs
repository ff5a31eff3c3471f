// SPDX-License-Identifier: MIT OR Apache-2.0
//! palloc_version.h: which version of the library this is.

use core::ffi::c_char;

/// Returns the version of the library that the program runs with. PALLOC_VERSION is the version that the program was compiled for. With
/// the same PALLOC_VERSION_MAJOR, a later version has everything that an earlier one has. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
