// SPDX-License-Identifier: MIT OR Apache-2.0
//! This system has no live readers: nothing here is called once CAN_SHARE says so.

use std::ffi::CStr;
use std::fs::File;
use std::io;

use super::unix::Borrowed;

/// Whether this system has what live readers need.
pub const CAN_SHARE: bool = false;

fn unsupported() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

pub fn lock_byte(_: &File, _: u64) -> io::Result<bool> {
    Err(unsupported())
}

pub fn unlock_byte(_: &File, _: u64) {}

pub fn is_locked(_: &File, _: u64, _: u64) -> io::Result<bool> {
    Err(unsupported())
}

pub fn is_locked_borrowed(_: Borrowed, _: u64) -> bool {
    false
}

pub fn open_beside(_: &CStr) -> io::Result<File> {
    Err(unsupported())
}

pub fn remove_live(_: &CStr, _: u64) {}

pub fn let_readers_write(_: &File, _: &File) -> io::Result<()> {
    Err(unsupported())
}

pub fn file_number(_: &File) -> io::Result<u64> {
    Err(unsupported())
}

pub fn coarse_ms() -> u64 {
    0
}

pub fn is_remote(_: &File) -> bool {
    true
}
