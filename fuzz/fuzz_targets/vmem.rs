// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]

use std::ffi::{c_int, c_long, c_void};

#[path = "../vmem.rs"]
mod vmem;

// The functions that the target calls by their C names.
use palloc as _;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod failing {
    use super::*;

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
        fn __errno_location() -> *mut c_int;
    }

    const ENOMEM: c_int = 12;

    fn call(number: c_long, arguments: [c_long; 6]) -> c_long {
        let [a, b, c, d, e, f] = arguments;
        if vmem::fails_now() {
            // SAFETY: the address of this thread's errno.
            unsafe { *__errno_location() = ENOMEM };
            return -1;
        }
        // SAFETY: the caller's, who called a function with this meaning.
        unsafe { syscall(number, a, b, c, d, e, f) }
    }

    // These stand before those of the C library.
    #[unsafe(no_mangle)]
    extern "C" fn mmap(at: usize, size: usize, protect: c_int, flags: c_int, fd: c_int, offset: c_long) -> *mut c_void {
        let arguments = [at as c_long, size as c_long, protect.into(), flags.into(), fd.into(), offset];
        std::ptr::with_exposed_provenance_mut(call(9, arguments) as usize)
    }

    #[unsafe(no_mangle)]
    extern "C" fn mprotect(at: usize, size: usize, protect: c_int) -> c_int {
        call(10, [at as c_long, size as c_long, protect.into(), 0, 0, 0]) as c_int
    }

    #[unsafe(no_mangle)]
    extern "C" fn munmap(at: usize, size: usize) -> c_int {
        call(11, [at as c_long, size as c_long, 0, 0, 0, 0]) as c_int
    }

    #[unsafe(no_mangle)]
    extern "C" fn madvise(at: usize, size: usize, advice: c_int) -> c_int {
        call(28, [at as c_long, size as c_long, advice.into(), 0, 0, 0]) as c_int
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    vmem::calls(data);
});
