// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C layer: one file for each header. It converts arguments, calls safe Rust, and reports errors.

pub mod buflib;
pub mod core_alloc;
mod open_media;
pub mod palloc;
pub mod palloc_fd;
#[cfg(one_object)]
mod panic;
pub mod rockbox_buflib;
pub mod rockbox_chunk_alloc;
pub mod rockbox_core_alloc;
pub mod version;
pub mod vmem;

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::fmt::{self, Write};

use crate::errno::{address as errno, get as get_errno, set as set_errno};
use crate::palloc::Flags;

/// cbindgen copies literals only, so both headers of palloc have the flags as such. They are those of the engine.
const _: () = {
    use {palloc as one, palloc_fd as fd};
    assert!(one::PALLOC_DEFAULT == Flags::DEFAULT.bits() && fd::PALLOC_DEFAULT == one::PALLOC_DEFAULT);
    assert!(one::PALLOC_DYNAMIC == Flags::DYNAMIC.bits() && fd::PALLOC_DYNAMIC == one::PALLOC_DYNAMIC);
    assert!(one::PALLOC_SYNC == Flags::SYNC.bits() && fd::PALLOC_SYNC == one::PALLOC_SYNC);
    assert!(one::PALLOC_READONLY == Flags::READONLY.bits() && fd::PALLOC_READONLY == one::PALLOC_READONLY);
    assert!(one::PALLOC_FORCE == Flags::FORCE.bits() && fd::PALLOC_FORCE == one::PALLOC_FORCE);
    assert!(one::PALLOC_SHARED == Flags::SHARED.bits() && one::PALLOC_SNAPSHOT_CLONE == Flags::CLONE.bits());
    assert!(one::PALLOC_SALVAGE_FREE == Flags::LOST_IS_FREE.bits());
    assert!(one::PALLOC_EXTENDED == Flags::EXTENDED && fd::PALLOC_EXTENDED == one::PALLOC_EXTENDED);
};

/// A thread's last error text: ends with a NUL, and is cut if it is too long. It is never on the heap, so that "out of memory" can be
/// reported.
struct ErrorText {
    bytes: UnsafeCell<[u8; 1024]>,
}

impl ErrorText {
    const fn new() -> Self {
        ErrorText { bytes: UnsafeCell::new([0; 1024]) }
    }

    fn set(&self, text: fmt::Arguments<'_>) {
        // SAFETY: the cell is a thread-local and no reference into it outlives this function. Formatting our errors does not call
        // this function. C has only a pointer, and reads through it between calls of its own thread.
        let bytes = unsafe { &mut *self.bytes.get() };
        let mut cursor = Cursor { bytes, len: 0 };
        let _cut = cursor.write_fmt(text);
        let len = cursor.len;
        cursor.bytes[len] = 0;
    }

    fn as_ptr(&self) -> *const c_char {
        self.bytes.get().cast()
    }
}

struct Cursor<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl fmt::Write for Cursor<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        // Cut between characters.
        let n = (0..=room.min(s.len())).rev().find(|&n| s.is_char_boundary(n)).unwrap_or(0);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        if n == s.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
