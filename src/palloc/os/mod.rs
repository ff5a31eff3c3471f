//! The file of a medium on each operating system: opening and locking, mapping, growth and cuts, space on the disk, and the descriptor
//! for C programs. Every system has the same functions. `medium.rs` describes their purpose.
//!
//! A [`MappedFile`] is always open, locked and mapped up to its end.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::c_int;
use std::fs::File;
use std::io;

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
        let is_ours = file_of(self.number).map_or_else(|e| errno_of(&e) != libc::EBADF, |of| of == self.of);
        if is_ours {
            // SAFETY: still open on its file, or the system cannot report it; and ours to close.
            unsafe { close_descriptor(self.number) };
        }
    }
}

/// Writes zeros to the parts of the range that are zeros, so that the file system allocates them. Precondition: nobody else writes there.
fn write_zeros(file: &File, at: u64, len: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut buffer = ZEROS;
    let mut at = at;
    let stop = at + len;
    while at < stop {
        let n = (ZEROS.len() as u64 - at % ZEROS.len() as u64).min(stop - at) as usize;
        let there = retry(|| read_at(file, &mut buffer[..n], at))?;
        if buffer[..there].iter().all(|&b| b == 0) {
            write_all(file, &ZEROS[..n], at)?;
        }
        at += n as u64;
    }
    Ok(())
}

fn write_all(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = retry(|| write_at(file, bytes, at))?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        (bytes, at) = (&bytes[n..], at + n as u64);
    }
    Ok(())
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
