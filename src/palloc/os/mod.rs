//! The file under a medium, as each operating system has it: opening and locking, mapping, growth and cuts, space on the disk, and the
//! descriptor that C programs get. Every system has the same functions; what they are for stands in `medium.rs`.
//!
//! A [`MappedFile`] is open, locked and mapped up to its end throughout.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fs::File;
use std::io;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

/// Writes zeros where zeros or nothing is, and nobody else writes.
fn write_zeros(file: &File, at: u64, len: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut buffer = ZEROS;
    let mut at = at;
    let stop = at + len;
    while at < stop {
        let n = (ZEROS.len() as u64 - at % ZEROS.len() as u64).min(stop - at) as usize;
        let there = retry(|| read_at(file, &mut buffer[..n], at))?;
        if buffer[..there].iter().all(|&b| b == 0) {
            retry(|| write_all_at(file, &ZEROS[..n], at))?;
        }
        at += n as u64;
    }
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
