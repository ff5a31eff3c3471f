// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a panic. A panic is a bug in this library: nothing may be written any more, and the process ends.
//!
//! packaging/one_object.sh puts these two in the place of those of Rust's standard library, which do the same and print a backtrace
//! besides: that takes 240 KB.

use core::panic::PanicInfo;
use std::io::Write;
use std::process::abort;

#[unsafe(no_mangle)]
extern "Rust" fn palloc_on_panic(panic: &PanicInfo<'_>) -> ! {
    let _ = writeln!(std::io::stderr(), "libpalloc: {panic}");
    abort()
}

#[unsafe(no_mangle)]
extern "Rust" fn palloc_on_out_of_memory(size: usize, _align: usize) -> ! {
    let _ = writeln!(std::io::stderr(), "libpalloc: no memory for {size} bytes");
    abort()
}
