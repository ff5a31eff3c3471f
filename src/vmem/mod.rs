// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual memory: reserve address space, commit parts of it, decommit them, release it.
//!
//! Address space costs nothing, and memory does. So a [`Reservation`] may be far larger than the machine's memory. It never moves, and
//! only its committed pages can use memory. The rules are the same on every system, and are those of Windows' VirtualAlloc:
//!
//! * A page is *reserved*, and can't be accessed; or *committed*, with a protection. Committed pages are zero at first.
//! * Decommitting pages discards their contents at once. When they are committed again, they are zero.
//! * A call works on the pages that its range touches, and all of them must be in one reservation.
//!
//! An [`Arena`] is a reservation that is committed from its start up to the end of its used part.
//!
//! The modules, from the system up:
//!
//! * `os` makes the system calls.
//! * `table` is an array in pages of its own.
//! * `interval_map` maps ranges of addresses to values. It keeps its nodes in a `table`.
//! * `registry` has all reservations of the process, and checks every call against them.
//! * `arena` is the growing arena, on top of `registry`.
//!
//! ```
//! use palloc::vmem::{Protect, Reservation};
//!
//! let mut reservation = Reservation::new(1 << 40)?;
//! reservation.commit(0..100)?;
//! reservation.as_mut_slice(0..100)?[42] = 1;
//! reservation.protect(0..100, Protect::Read)?;
//! assert!(reservation.as_mut_slice(0..100).is_err());
//! assert_eq!(reservation.as_slice(0..100)?[42], 1);
//! reservation.decommit(0..100)?;
//! assert!(reservation.as_slice(0..100).is_err());
//! # Ok::<(), palloc::vmem::Error>(())
//! ```

pub(crate) mod arena;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod interval_map;
mod os;
pub(crate) mod registry;
mod table;

use std::ffi::CStr;
use std::fmt;
use std::ops::Bound;
use std::ops::{Range, RangeBounds};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use arena::Arena;
pub use error::{Error, Result};
pub use os::SystemError;

/// The access that a page permits. The numbers are those of enum VMemProtect_ in C.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Protect {
    /// Nothing.
    NoAccess = 1,
    /// Read.
    Read = 2,
    /// Read and write.
    ReadWrite = 3,
    /// Run code.
    Execute = 4,
    /// Read, and run code.
    ExecuteRead = 5,
    /// Read, write, and run code. Many systems refuse it.
    ExecuteReadWrite = 6,
}

impl Protect {
    /// Every protection, in the order of their numbers, from 1.
    pub(crate) const ALL: [Protect; 6] = [
        Protect::NoAccess,
        Protect::Read,
        Protect::ReadWrite,
        Protect::Execute,
        Protect::ExecuteRead,
        Protect::ExecuteReadWrite,
    ];

    /// Returns the protection with this number in C. Fails iff no protection has it.
    pub fn from_number(number: u8) -> Result<Protect> {
        Self::ALL.get(usize::from(number).wrapping_sub(1)).copied().ok_or(Error::BadProtect(number))
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self.c_name().to_str() {
            Ok(name) => name,
            Err(_) => unreachable!(), // ASCII
        }
    }

    /// As `name`, for C.
    pub(crate) const fn c_name(self) -> &'static CStr {
        match self {
            Protect::NoAccess => c"NoAccess",
            Protect::Read => c"Read",
            Protect::ReadWrite => c"ReadWrite",
            Protect::Execute => c"Execute",
            Protect::ExecuteRead => c"ExecuteRead",
            Protect::ExecuteReadWrite => c"ExecuteReadWrite",
        }
    }

    /// Returns the protection that permits these kinds of access. Every protection that permits writing permits reading too: if `write`
    /// is set, `read` has no effect.
    const fn of(read: bool, write: bool, execute: bool) -> Protect {
        match (read, write, execute) {
            (false, false, false) => Protect::NoAccess,
            (true, false, false) => Protect::Read,
            (_, true, false) => Protect::ReadWrite,
            (false, false, true) => Protect::Execute,
            (true, false, true) => Protect::ExecuteRead,
            (_, true, true) => Protect::ExecuteReadWrite,
        }
    }

    const fn reads(self) -> bool {
        !matches!(self, Protect::NoAccess | Protect::Execute)
    }

    const fn writes(self) -> bool {
        matches!(self, Protect::ReadWrite | Protect::ExecuteReadWrite)
    }

    const fn executes(self) -> bool {
        self as u8 >= Protect::Execute as u8
    }
}

const _: () = {
    let mut i = 0;
    while i < Protect::ALL.len() {
        let protect = Protect::ALL[i];
        assert!(protect as usize == i + 1);
        assert!(Protect::of(protect.reads(), protect.writes(), protect.executes()) as u8 == protect as u8);
        i += 1;
    }
};

/// A range of whole pages, from `start` up to `end`, exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pages {
    start: usize,
    end: usize,
}

impl Pages {
    /// Returns the pages that the `size` bytes from `address` touch. Fails iff `address` is 0, `size` is 0, or the pages end beyond the
    /// address space.
    pub fn touched(address: usize, size: usize) -> Result<Pages> {
        let page = page_size();
        if address == 0 {
            return Err(Error::Null);
        }
        if size == 0 {
            return Err(Error::Empty);
        }
        let end = address.checked_add(size).and_then(|end| end.checked_next_multiple_of(page));
        let end = end.ok_or(Error::TooLarge { start: address, size })?;
        Ok(Pages { start: address - address % page, end })
    }

    /// Returns the address of the first page.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Returns the address behind the last page.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Returns the number of bytes in the pages.
    pub fn size(&self) -> usize {
        self.end - self.start
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// A run of pages in the same state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeInfo {
    /// The pages.
    pub pages: Pages,
    /// Whether they are committed. Pages that others mapped count as committed; on Windows, only if they are.
    pub is_committed: bool,
    /// Their protection. Pages that are reserved, but not committed, have the protection that the reservation was made with.
    pub protect: Protect,
}

/// The machine's memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageStatus {
    /// Memory that the machine has.
    pub total_physical_bytes: usize,
    /// Memory that the process can still get without swapping, within the limits of its cgroups.
    pub avail_physical_bytes: usize,
}

/// Returns the size of a page. Only the first call asks the system.
pub fn page_size() -> usize {
    static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);
    cached(&PAGE_SIZE, os::page_size)
}

/// Returns the alignment of reservations. Only the first call asks the system.
pub fn allocation_granularity() -> usize {
    static GRANULARITY: AtomicUsize = AtomicUsize::new(0);
    cached(&GRANULARITY, os::allocation_granularity)
}

/// Asks the system for the size of a page, and returns it.
pub fn query_page_size() -> usize {
    os::page_size()
}

/// Asks the system for the alignment of reservations, and returns it.
pub fn query_allocation_granularity() -> usize {
    os::allocation_granularity()
}

/// Returns `value`. If it is still 0, calls `query` for it first.
fn cached(value: &AtomicUsize, query: fn() -> usize) -> usize {
    match value.load(Ordering::Relaxed) {
        0 => {
            let answer = query();
            value.store(answer, Ordering::Relaxed);
            answer
        }
        known => known,
    }
}

/// Returns the machine's memory. Fails iff the system does not report it.
pub fn usage_status() -> Result<UsageStatus> {
    os::usage_status().map_err(|source| Error::System {
        doing: "find out how much memory there is",
        range: None,
        source,
    })
}

/// A reservation that this value owns. Dropping the value releases it.
///
/// Ranges are offsets from its start. A range that ends beyond the reservation is [`Error::NotReserved`].
#[derive(Debug)]
pub struct Reservation {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: it owns its address space, and any thread may use that.
unsafe impl Send for Reservation {}
// SAFETY: a shared reference permits only to read the memory, and to lock and unlock it, which the registry serializes.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves `size` bytes, rounded up to whole pages. Fails iff `size` is 0, or no address space of this size or no memory for the
    /// registry is left.
    pub fn new(size: usize) -> Result<Self> {
        Self::with(registry::Request { size, ..registry::Request::default() })
    }

    /// As [`Reservation::new`], with a start that is a multiple of `align`. Fails also if `align` is not a power of two.
    pub fn aligned(size: usize, align: usize) -> Result<Self> {
        Self::with(registry::Request { size, align, ..registry::Request::default() })
    }

    /// As [`Reservation::new`], with a guard on each side. A guard can never be accessed.
    pub fn guarded(size: usize) -> Result<Self> {
        Self::with(registry::Request { size, guarded: true, ..registry::Request::default() })
    }

    fn with(request: registry::Request) -> Result<Self> {
        let start = registry::reserve(request)?;
        let size = request.size.next_multiple_of(page_size());
        let Some(start) = NonNull::new(ptr::with_exposed_provenance_mut(start)) else { return Err(Error::Null) };
        Ok(Reservation { start, size })
    }

    /// Returns the address of its first byte. Its pages can't be accessed before they are committed.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns its size in bytes, without guards: a multiple of the page size.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Commits the pages that the range touches, to read and write. Pages that are committed already keep their contents.
    /// Fails iff the range is empty or ends beyond the reservation, or memory or mappings run out, or a limit is reached.
    pub fn commit(&mut self, range: impl RangeBounds<usize>) -> Result<()> {
        let (address, size) = self.locate(range)?;
        // SAFETY: own range: nobody holds a reference into it while `self` is borrowed exclusively.
        unsafe { registry::commit(address, size, Protect::ReadWrite) }
    }

    /// Decommits the pages that the range touches. Fails iff the range is empty or ends beyond the reservation, or mappings or memory for
    /// the registry run out.
    pub fn decommit(&mut self, range: impl RangeBounds<usize>) -> Result<()> {
        let (address, size) = self.locate(range)?;
        // SAFETY: own range, as in `commit`.
        unsafe { registry::decommit(address, size) }
    }

    /// Changes the protection of the pages that the range touches. Fails iff the range is empty or ends beyond the reservation, a page is
    /// not committed, the system refuses, or memory for the registry runs out.
    pub fn protect(&mut self, range: impl RangeBounds<usize>, protect: Protect) -> Result<()> {
        let (address, size) = self.locate(range)?;
        // SAFETY: own range, as in `commit`.
        unsafe { registry::protect(address, size, protect) }
    }

    /// Locks the pages that the range touches in memory. Fails iff the range is empty or ends beyond the reservation, a page is not
    /// committed or not accessible, the system refuses (RLIMIT_MEMLOCK), or memory for the registry runs out.
    pub fn lock(&self, range: impl RangeBounds<usize>) -> Result<()> {
        let (address, size) = self.locate(range)?;
        registry::lock(address, size)
    }

    /// Unlocks the pages that the range touches. Fails iff the range is empty or ends beyond the reservation, a page is not locked, or
    /// mappings or memory for the registry run out.
    pub fn unlock(&self, range: impl RangeBounds<usize>) -> Result<()> {
        let (address, size) = self.locate(range)?;
        registry::unlock(address, size)
    }

    /// Returns the bytes of the range. Fails iff it is empty or ends beyond the reservation, or a page that it touches is not committed or
    /// not readable.
    pub fn as_slice(&self, range: impl RangeBounds<usize>) -> Result<&[u8]> {
        let (address, size) = self.locate(range)?;
        registry::check_access(address, size, Protect::reads)?;
        // SAFETY: committed and readable, until a call that borrows `self` exclusively changes that.
        Ok(unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(address), size) })
    }

    /// Returns the bytes of the range, to read and write. Fails iff it is empty or ends beyond the reservation, or a page that it touches
    /// is not committed or not writable.
    pub fn as_mut_slice(&mut self, range: impl RangeBounds<usize>) -> Result<&mut [u8]> {
        let (address, size) = self.locate(range)?;
        registry::check_access(address, size, Protect::writes)?;
        // SAFETY: committed and writable, and `self` is borrowed exclusively.
        Ok(unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(address), size) })
    }

    /// Returns the address and the size of a range of offsets. Fails iff it is empty or ends beyond the reservation.
    fn locate(&self, range: impl RangeBounds<usize>) -> Result<(usize, usize)> {
        let base = self.start.as_ptr().expose_provenance();
        let Range { start, end } = bounds(range, self.size);
        if start >= end {
            return Err(Error::Empty);
        }
        if end > self.size {
            let size = end - start;
            let address = base.checked_add(start).ok_or(Error::TooLarge { start: base, size: start })?;
            return Err(Error::NotReserved(Pages::touched(address, size)?));
        }
        Ok((base + start, end - start))
    }
}

/// Returns the range's start and end; an end that is not given is `size`.
fn bounds(range: impl RangeBounds<usize>, size: usize) -> Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => size,
    };
    start..end
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: own range, the whole reservation. If the call fails, because mappings ran out, the address space stays reserved.
        let _fails_without_mappings = unsafe { registry::release(self.start.as_ptr().expose_provenance(), self.size) };
    }
}

/// Calls `visit` for each run of the pages that the `size` bytes from `address` touch, in ascending order, until it returns false.
/// Fails iff the range is empty, starts at 0 or ends beyond the address space, or the system does not report the mappings of others.
pub fn query(address: usize, size: usize, visit: impl FnMut(RangeInfo) -> bool) -> Result<()> {
    registry::query(Pages::touched(address, size)?, visit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::Layout;

    #[test]
    fn a_reservation_is_released_with_its_value() {
        // The address space has room for a part of them only. (An emulator's may have none for one of the longer ones.)
        let size =
            [usize::MAX >> 20, usize::MAX >> 30].into_iter().find(|&size| Reservation::new(size).is_ok()).unwrap();
        for _ in 0..1000 {
            let mut reservation = Reservation::new(size).unwrap();
            assert_eq!(reservation.size() % page_size(), 0);
            reservation.commit(..1).unwrap();
            reservation.as_mut_slice(..1).unwrap().fill(1);
        }
    }

    #[test]
    fn ranges_beyond_a_reservation_are_refused() {
        let page = page_size();
        let mut reservation = Reservation::guarded(2 * page).unwrap();
        for range in [0..2 * page + 1, 2 * page..2 * page + 1, usize::MAX - 1..usize::MAX] {
            assert!(reservation.commit(range).is_err());
        }
        assert!(reservation.commit(usize::MAX..).is_err());
        assert!(reservation.commit(0..=usize::MAX).is_err());
        assert_eq!(reservation.commit(0..0), Err(Error::Empty));
        reservation.commit(..=0).unwrap();
        assert_eq!(reservation.as_slice(0..page).unwrap(), vec![0; page]);
        let start = reservation.as_ptr().addr();
        assert_eq!(reservation.as_slice(..), Err(Error::NotCommitted(start + page)));
    }

    #[test]
    fn slices_need_the_access_that_they_give() {
        let mut reservation = Reservation::aligned(1, 1 << 21).unwrap();
        assert_eq!(reservation.as_ptr().addr() % (1 << 21), 0);
        assert!(reservation.as_slice(..).is_err());
        reservation.commit(..).unwrap();
        for protect in [Protect::NoAccess, Protect::Read, Protect::ReadWrite, Protect::Execute, Protect::ExecuteRead] {
            reservation.protect(.., protect).unwrap();
            assert_eq!(reservation.as_slice(..).is_ok(), protect.reads());
            assert_eq!(reservation.as_mut_slice(..).is_ok(), protect.writes());
        }
        reservation.decommit(..).unwrap();
        assert!(reservation.protect(.., Protect::Read).is_err());
        assert!(reservation.lock(..).is_err());
    }

    #[test]
    fn pages_are_locked_until_they_are_unlocked() {
        let page = page_size();
        let mut reservation = Reservation::new(3 * page).unwrap();
        reservation.commit(..).unwrap();
        reservation.lock(page..).unwrap();
        reservation.unlock((Bound::Excluded(page - 1), Bound::Excluded(2 * page))).unwrap(); // the second page
        let third = Pages::touched(reservation.as_ptr().addr() + 2 * page, page).unwrap();
        assert_eq!(third.end(), third.start() + page);
        assert_eq!(reservation.unlock(..=0), Err(Error::NotLocked(third.start() - 2 * page)));
        assert_eq!(reservation.unlock(page..), Err(Error::NotLocked(third.start() - page)));
        reservation.unlock(2 * page..).unwrap();
    }

    #[test]
    fn an_arena_that_is_reset_gives_its_memory_again() {
        let mut arena = Arena::new(1 << 20).unwrap();
        let first = arena.alloc_slice(1000, 7_u8).unwrap().as_ptr();
        arena.reset();
        assert_eq!(arena.used(), 0);
        assert_eq!(arena.alloc_slice(10, 8_u8).unwrap().as_ptr(), first);
        assert_eq!(arena.used(), 10);
    }

    #[test]
    fn an_arena_gives_aligned_memory_that_does_not_overlap() {
        let mut arena = Arena::new(1 << 24).unwrap();
        for _ in 0..2 {
            let mut end = 0;
            for i in 0..1000 {
                let layout = Layout::from_size_align(1 + i * 13 % 777, 1 << (i % 14)).unwrap();
                let at = arena.alloc(layout).unwrap().as_ptr().addr();
                assert!(at % layout.align() == 0 && at >= end);
                end = at + layout.size();
            }
            let slice = arena.alloc_slice(10_000, 7_u64).unwrap();
            assert!(slice.iter().all(|&value| value == 7));
            assert!(arena.alloc_slice(1 << 30, 0_u64).is_err());
            assert!(arena.alloc_slice(usize::MAX, 0_u64).is_err());
            assert!(arena.alloc_slice(0, 0_u8).is_err());
            arena.shrink(page_size()).unwrap();
            assert_eq!(arena.used(), 0);
        }
        assert!(Arena::with_huge_pages(1 << 22).unwrap().alloc_slice(1 << 22, 1_u8).is_ok());
    }

    #[test]
    fn a_query_describes_every_page() {
        let page = page_size();
        let mut reservation = Reservation::new(4 * page).unwrap();
        reservation.commit(page..2 * page).unwrap();
        let mut runs = Vec::new();
        query(reservation.as_ptr().addr(), 4 * page, |run| {
            runs.push((run.pages.size() / page, run.is_committed));
            true
        })
        .unwrap();
        assert_eq!(runs, [(1, false), (1, true), (2, false)]);
    }
}
