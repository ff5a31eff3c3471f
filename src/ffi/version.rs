//! palloc_version.h: which version of the library this is.

use core::ffi::c_char;

/// The version of the library that the program runs with, as PALLOC_VERSION is that of the one it was compiled for. With the same
/// PALLOC_VERSION_MAJOR, a later one has all that an earlier one has. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
