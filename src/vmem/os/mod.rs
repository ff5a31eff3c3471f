// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls that virtual memory needs, without checks and without state. Each operating system has the same functions, which
//! [`Contract`] describes. Ranges are whole pages. Addresses are numbers, because the functions make no references to memory. No function
//! calls malloc or code of the program.

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

use std::ffi::CStr;
use std::fmt;

use super::{Protect, UsageStatus};
use crate::system_text;

/// The system's number for the reason of a failure (errno, GetLastError). Displaying it does not use the heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemError(pub i32);

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        system_text::write(f, self.0)
    }
}

/// The result of a system call.
pub(super) type Result<T> = std::result::Result<T, SystemError>;

/// The address space that `reserve` makes a reservation of. All sizes are whole pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// The number of usable bytes.
    pub size: usize,
    /// The alignment of the first usable byte: a power of two, at least a page.
    pub align: usize,
    /// The size of each guard, before and behind the usable bytes: 0 or a multiple of the granularity.
    pub guard: usize,
}

impl Space {
    /// Returns the size with both guards, or None if it is beyond the address space.
    pub fn total(&self) -> Option<usize> {
        self.size.checked_add(self.guard.checked_mul(2)?)
    }
}

/// A mapping of the process, whoever made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mapping {
    pub start: usize,
    pub end: usize,
    /// None if the pages are reserved and not committed (Windows only).
    pub protect: Option<Protect>,
}

/// The functions of an operating system. The constant below makes the compiler check that each system has all of them, with these types.
/// If a system does more, its file says so.
///
/// "Own" means: the range is in one reservation, and only the caller relies on its contents and protection.
#[expect(dead_code, reason = "only the compiler uses it, for its check")]
struct Contract {
    /// Whether locked pages have to be unlocked before they are decommitted or released.
    unlock_first: bool,
    /// The size of a page, a power of two.
    page_size: fn() -> usize,
    /// The alignment of reservations: a power of two, a page or more.
    allocation_granularity: fn() -> usize,
    /// Reserves address space that can't be accessed. Returns the address of the first usable byte, behind the guard.
    reserve: fn(&Space, Protect) -> Result<usize>,
    /// Releases a whole reservation with its guards. Precondition: own.
    release: unsafe fn(start: usize, size: usize) -> Result<()>,
    /// Makes reserved pages accessible, which are zero then, or changes the protection of committed ones. A call that fails may have
    /// changed some of the pages.
    /// Precondition: own.
    commit: unsafe fn(start: usize, size: usize, Protect) -> Result<()>,
    /// As `commit`. Precondition: own, and committed.
    protect: unsafe fn(start: usize, size: usize, Protect) -> Result<()>,
    /// Discards pages. They can't be accessed then, and are zero if they are committed again. Precondition: own.
    decommit: unsafe fn(start: usize, size: usize) -> Result<()>,
    /// Locks pages in memory. A call that fails may have locked some of them. Precondition: committed and accessible.
    lock: fn(start: usize, size: usize) -> Result<()>,
    /// Unlocks pages. Precondition: committed.
    unlock: fn(start: usize, size: usize) -> Result<()>,
    /// Permits the system to discard the contents of pages, which stay committed. Returns false if a page
    /// is locked by other means than the registry. Precondition: own, and committed.
    reset: unsafe fn(start: usize, size: usize) -> Result<bool>,
    /// Brings pages into memory. Returns false if the system has no call for it or forbids it; the caller then accesses each page.
    populate: fn(start: usize, size: usize, write: bool) -> Result<bool>,
    /// Advises huge pages. Returns false if the system has none.
    advise_huge: fn(start: usize, size: usize) -> Result<bool>,
    /// Names pages, or removes their name. Does nothing if the system has no names or forbids them.
    set_name: fn(start: usize, size: usize, Option<&CStr>),
    /// Makes the processor see code that was just written. Precondition: readable.
    flush_instruction_cache: fn(start: usize, size: usize),
    /// Returns the machine's memory, and the part that the process can still get.
    usage_status: fn() -> Result<UsageStatus>,
    /// Begins a walk over the mappings of the process, whoever made them.
    mappings: fn() -> Mappings,
    /// Returns the mapping that contains the address, or else the first one behind it. Precondition: the addresses of successive calls
    /// ascend.
    mapping_at_or_after: fn(&mut Mappings, usize) -> Result<Option<Mapping>>,
    /// Returns the reason why the last system call of this thread failed.
    last_error: fn() -> SystemError,
}

const _: Contract = Contract {
    unlock_first: UNLOCK_FIRST,
    page_size,
    allocation_granularity,
    reserve,
    release,
    commit,
    protect,
    decommit,
    lock,
    unlock,
    reset,
    populate,
    advise_huge,
    set_name,
    flush_instruction_cache,
    usage_status,
    mappings: Mappings::new,
    mapping_at_or_after: Mappings::at_or_after,
    last_error: SystemError::last,
};
