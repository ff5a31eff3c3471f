//! The system calls that virtual memory needs, and nothing else: no check, no state but a descriptor. Every operating system has the
//! same functions. Ranges are whole pages; addresses are numbers, because no reference to memory is made here.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
mod lock;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub(super) use lock::{Held, Lock};
#[cfg(unix)]
pub(super) use unix::*;
#[cfg(windows)]
pub(super) use windows::*;

use std::fmt;

use super::Protect;
use crate::system_text;

/// A number that the system gave as the reason of a failure (errno, GetLastError). Its text needs no heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemError(pub i32);

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        system_text::write(f, self.0)
    }
}

/// What a system call returned.
pub(super) type Result<T> = std::result::Result<T, SystemError>;

/// Address space to be reserved, of whole pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// Bytes that are usable.
    pub size: usize,
    /// Alignment of the first of them, a power of two, at least a page.
    pub align: usize,
    /// Bytes before and behind them that are never accessible: a multiple of the granularity.
    pub guard: usize,
}

impl Space {
    /// Guards included; None if the address space is smaller.
    pub fn total(&self) -> Option<usize> {
        self.size.checked_add(self.guard.checked_mul(2)?)
    }
}

/// A mapping of the process, whoever made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mapping {
    pub start: usize,
    pub end: usize,
    /// None: reserved by someone, with nothing behind it (Windows).
    pub protect: Option<Protect>,
}
