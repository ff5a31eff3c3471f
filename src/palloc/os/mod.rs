// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file of a medium on each operating system: opening and locking, mapping, growth and cuts, space on the disk, and the descriptor
//! for C programs. Every system has the same functions, which `contract` describes.
//!
//! A [`MappedFile`] is always open, locked and mapped up to its end.

mod contract;
#[cfg_attr(any(target_os = "linux", target_os = "android"), path = "live_linux.rs")]
#[cfg_attr(windows, path = "live_windows.rs")]
#[cfg_attr(not(any(target_os = "linux", target_os = "android", windows)), path = "live_none.rs")]
mod live;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::{CStr, CString, c_int};
use std::fs::File;
use std::io;

use super::format::{DYNAMIC, EXTENDED, HEADER, header_flags};
use super::{Error, Flags, Result, try_c_string};
pub use live::*;
#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

/// A descriptor for the program, above those of stdin, stdout and stderr. A drop closes it, unless the program has closed it and its number
/// now belongs to another file.
pub struct Descriptor {
    number: c_int,
    of: FileId,
}

impl Descriptor {
    pub fn number(&self) -> c_int {
        self.number
    }

    /// Leaves the descriptor open. The program must close it.
    pub fn into_number(self) -> c_int {
        std::mem::ManuallyDrop::new(self).number
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if still_open(self.number, self.of).is_ok() {
            // SAFETY: still open on its file, or the system cannot report it; and ours to close.
            unsafe { close_descriptor(self.number) };
        }
    }
}

/// Fails with EBADF iff the descriptor was closed, or belongs to another file now. If the system cannot answer for another reason, the
/// caller goes on.
fn still_open(fd: c_int, of: FileId) -> io::Result<()> {
    match file_of(fd) {
        Ok(now) if now != of => Err(bad_descriptor()),
        Err(error) if errno_of(&error) == libc::EBADF => Err(error),
        _ => Ok(()),
    }
}

/// The address space of a process on common machines.
const ADDRESS_SPACE: u64 = 1 << 47;

/// Makes a file empty that is too long for any address space: only its header stays, if that says that the medium grows. Returns the new
/// length. Does nothing and returns `error`, that of mapping the file, iff the file is not that long, or `flags` do not ask for an empty
/// medium that grows.
///
/// An original leaves such a file: it extends a dynamic medium by whatever size it is asked for.
fn empty_if_forced(file: &File, end: u64, flags: Flags, error: Error) -> Result<u64> {
    const TOO_LONG: &str =
        "map the file, too long for the address space (PALLOC_FORCE with PALLOC_DYNAMIC makes an empty medium of it)";
    let source = match error {
        Error::System { source, .. } if end >= ADDRESS_SPACE && errno_of(&source) == libc::ENOMEM => source,
        other => return Err(other),
    };
    let mut head = [0; HEADER as usize];
    retry(|| read_at(file, &mut head, 0)).map_err(Error::system("read the file"))?;
    let stored = header_flags(u64::from_be_bytes(head)).unwrap_or(0);
    let kept = if stored & DYNAMIC != 0 { HEADER } else { 0 };
    if stored & EXTENDED != 0 {
        return Err(Error::Extended);
    }
    if !flags.contains(Flags::FORCE) || (kept == 0 && !flags.contains(Flags::DYNAMIC)) {
        return Err(Error::System { doing: TOO_LONG, source });
    }
    set_length(file, kept).map_err(Error::system("cut the file"))?;
    Ok(kept)
}

/// Bytes that are read at once.
const BUFFER: usize = 32 << 10;
/// Bytes that are read at once where there is no memory for a buffer. It is on the stack, and threads may have little of it.
const SMALL_BUFFER: usize = 64;

/// Memory to read into: on the heap if there is any.
pub struct Buffer {
    large: Vec<u8>,
    small: [u8; SMALL_BUFFER],
}

impl Buffer {
    pub fn new() -> Buffer {
        let mut large = Vec::new();
        if large.try_reserve_exact(BUFFER).is_ok() {
            large.resize(BUFFER, 0);
        }
        Buffer { large, small: [0; SMALL_BUFFER] }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        if self.large.is_empty() { &mut self.small } else { &mut self.large }
    }
}

/// Writes zeros to the parts of the range that are zeros, so that the file system allocates them. Precondition: nobody else writes there.
pub fn write_zeros(file: &File, at: u64, len: u64) -> io::Result<()> {
    const PIECE: u64 = 4096;
    static ZEROS: [u8; PIECE as usize] = [0; PIECE as usize];
    let mut buffer = Buffer::new();
    let buffer = buffer.bytes();
    let piece = PIECE.min(buffer.len() as u64);
    let mut at = at;
    let stop = at + len;
    while at < stop {
        let n = (piece - at % piece).min(stop - at) as usize;
        let there = retry(|| read_at(file, &mut buffer[..n], at))?;
        if buffer[..there].iter().all(|&b| b == 0) {
            write_all(file, &ZEROS[..n], at)?;
        }
        at += n as u64;
    }
    Ok(())
}

/// Writes all of `bytes` at `at`.
pub fn write_all(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = retry(|| write_at(file, bytes, at))?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        (bytes, at) = (&bytes[n..], at + n as u64);
    }
    Ok(())
}

/// Reads as many bytes as `bytes` has.
pub fn read_all(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = retry(|| read_at(file, bytes, at))?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (bytes, at) = (&mut bytes[n..], at + n as u64);
    }
    Ok(())
}

/// A copy of a path.
pub fn copy_path(path: &CStr) -> Result<CString> {
    Ok(try_c_string(path.to_bytes())?.expect("a C string has no NUL in it"))
}

/// How often a call that was interrupted is repeated. Some file systems would return EINTR forever.
const RETRIES: u32 = 1000;

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..RETRIES {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
    call()
}
