// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C `errno` of this thread.

use std::ffi::c_int;

#[cfg(windows)]
unsafe extern "C" {
    fn _errno() -> *mut c_int;
}

/// The address of this thread's errno.
pub(crate) fn address() -> *mut c_int {
    // SAFETY: these functions have no preconditions and return the address of a thread-local integer.
    unsafe {
        #[cfg(target_os = "linux")]
        return libc::__errno_location();
        #[cfg(target_os = "android")]
        return libc::__errno();
        #[cfg(target_vendor = "apple")]
        return libc::__error();
        #[cfg(windows)]
        return _errno();
    }
}

pub(crate) fn get() -> c_int {
    // SAFETY: the address is that of an integer of this thread.
    unsafe { *address() }
}

pub(crate) fn set(value: c_int) {
    // SAFETY: as in get.
    unsafe { *address() = value }
}

/// Calls `f`. errno is the same afterwards, whatever system calls it made.
pub(crate) fn unchanged_by<T>(f: impl FnOnce() -> T) -> T {
    let before = get();
    let result = f();
    set(before);
    result
}
