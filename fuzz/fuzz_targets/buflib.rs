// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]

#[path = "../buflib.rs"]
mod buflib;

// The functions that the target calls by their C names.
use palloc as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    buflib::operations(data);
});
