//! The system calls that virtual memory needs, and nothing else: no checks and no state. Each operating system has the same functions,
//! which [`Contract`] describes. Ranges are whole pages; addresses are numbers, because no reference to memory is made here. No function
//! calls malloc or calls back.

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

/// The functions of a system. The compiler checks below that each system has them as they are described here; where a system does
/// more, its file says so.
///
/// "Own" means: the range is in one reservation, and nobody relies on its contents and protection but the caller.
#[expect(dead_code, reason = "it is there to be checked by the compiler")]
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
    /// Makes pages accessible, or changes their protection; fresh pages are zero. After a failure some of the pages may have changed.
    /// Precondition: own.
    commit: unsafe fn(start: usize, size: usize, Protect) -> Result<()>,
    /// As `commit`. Precondition: own, and committed.
    protect: unsafe fn(start: usize, size: usize, Protect) -> Result<()>,
    /// Gives pages back; they can't be accessed, and are zero when they are committed again. Precondition: own.
    decommit: unsafe fn(start: usize, size: usize) -> Result<()>,
    /// Locks pages in memory. After a failure some of them may be locked. Precondition: committed and accessible.
    lock: fn(start: usize, size: usize) -> Result<()>,
    /// Unlocks pages. Precondition: committed.
    unlock: fn(start: usize, size: usize) -> Result<()>,
    /// Gives up the contents of pages, which stay committed. Returns false if something outside of the registry has locked one of them.
    /// Precondition: own, and committed.
    reset: unsafe fn(start: usize, size: usize) -> Result<bool>,
    /// Brings pages into memory. Returns false if the system has no call for it or forbids it; then they have to be touched.
    populate: fn(start: usize, size: usize, write: bool) -> Result<bool>,
    /// Advises huge pages. Returns false if the system has none.
    advise_huge: fn(start: usize, size: usize) -> Result<bool>,
    /// Names pages, or takes their name away. Does nothing where the system has no names or forbids them.
    set_name: fn(start: usize, size: usize, Option<&CStr>),
    /// Lets the processor see code that was just written. Precondition: readable.
    flush_instruction_cache: fn(start: usize, size: usize),
    /// The machine's memory, and how much of it the process can still get.
    usage_status: fn() -> Result<UsageStatus>,
    /// Installs handlers round fork(2): before it, and after it in the parent and in the child. If it fails, for lack of memory, fork is
    /// as safe as without them.
    at_fork: fn(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()),
    /// Begins a walk over the mappings of the process, whoever made them.
    mappings: fn() -> Mappings,
    /// The mapping that contains the address, or the next one. Addresses are asked for in ascending order.
    mapping_at_or_after: fn(&mut Mappings, usize) -> Result<Option<Mapping>>,
    /// The reason why the last call of this thread failed.
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
    at_fork,
    mappings: Mappings::new,
    mapping_at_or_after: Mappings::at_or_after,
    last_error: SystemError::last,
};
