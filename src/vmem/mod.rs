//! Virtual memory: reserve address space, commit parts of it to memory, give them back, release it.
//!
//! Address space costs nothing, memory does: a [`Reservation`] may be far larger than memory is, never moves, and only what is
//! committed counts. The rules are the same on every system, those of Windows' VirtualAlloc:
//!
//! * A page is *reserved*, and can't be accessed; or *committed*, with a protection. Committed pages are zero at first.
//! * Decommitted pages are gone at once, contents and all; committed again, they are zero.
//! * What is changed has to lie in one reservation; a range is widened to whole pages.
//!
//! An [`Arena`] is a reservation that is used up from its start.
//!
//! The modules, from the system up: `os` makes system calls, `table` is memory for `interval_map`, which
//! remembers ranges, `region` knows all reservations of the
//! process and checks every call against them, `arena` stands on it.
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
mod interval_map;
mod os;
pub(crate) mod region;
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

/// What may be done with a page. The numbers are those of C.
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
    /// Every protection; that with the number n is at n - 1.
    pub(crate) const ALL: [Protect; 6] = [
        Protect::NoAccess,
        Protect::Read,
        Protect::ReadWrite,
        Protect::Execute,
        Protect::ExecuteRead,
        Protect::ExecuteReadWrite,
    ];

    /// The protection that has this number in C.
    pub fn from_number(number: u8) -> Result<Protect> {
        Self::ALL.get(usize::from(number).wrapping_sub(1)).copied().ok_or(Error::BadProtect(number))
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self.c_name().to_str() {
            Ok(name) => name,
            Err(_) => unreachable!(), // ASCII
        }
    }

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

    /// The protection that permits this. None writes without reading: with `write` set, `read` makes no difference.
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

/// Whole pages: from `start` up to `end`, exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pages {
    start: usize,
    end: usize,
}

impl Pages {
    /// The pages that `size` bytes from `address` on touch. Fails iff the address is 0, the size is 0, or the address space ends before.
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

    /// The address of the first page.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The address behind the last page.
    pub fn end(&self) -> usize {
        self.end
    }

    /// How many bytes they have.
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
    /// Which pages.
    pub pages: Pages,
    /// Whether they have memory; all that others than this module mapped has.
    pub is_committed: bool,
    /// Their protection; that of the reservation if they are not committed.
    pub protect: Protect,
}

/// The machine's memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageStatus {
    /// What it has.
    pub total_physical_bytes: usize,
    /// What the process can still get without swapping; limits of its cgroups count.
    pub avail_physical_bytes: usize,
}

/// The size of a page.
pub fn page_size() -> usize {
    static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);
    cached(&PAGE_SIZE, os::page_size)
}

/// What the addresses of reservations are multiples of.
pub fn allocation_granularity() -> usize {
    static GRANULARITY: AtomicUsize = AtomicUsize::new(0);
    cached(&GRANULARITY, os::allocation_granularity)
}

/// The size of a page, asked of the system.
pub fn query_page_size() -> usize {
    os::page_size()
}

/// The granularity, asked of the system.
pub fn query_allocation_granularity() -> usize {
    os::allocation_granularity()
}

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

/// How much memory there is. Fails iff the system does not tell.
pub fn usage_status() -> Result<UsageStatus> {
    os::usage_status().map_err(|source| Error::System {
        doing: "find out how much memory there is",
        range: None,
        source,
    })
}

/// Address space that is this value's own, and is released with it.
///
/// Ranges are offsets from its start. A function that fails because of them says so: `Error::NotReserved`, if they go beyond the end.
#[derive(Debug)]
pub struct Reservation {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: it owns its address space; nothing about it belongs to one thread.
unsafe impl Send for Reservation {}
// SAFETY: through a shared reference memory can only be read.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves `size` bytes, in whole pages. Fails iff the size is 0, or address space or memory for the registry is out.
    pub fn new(size: usize) -> Result<Self> {
        Self::with(region::Request { size, ..region::Request::default() })
    }

    /// As [`Reservation::new`], with a start that is a multiple of `align`. Fails also iff that is not a power of two.
    pub fn aligned(size: usize, align: usize) -> Result<Self> {
        Self::with(region::Request { size, align, ..region::Request::default() })
    }

    /// As [`Reservation::new`], between two guards that can never be accessed.
    pub fn guarded(size: usize) -> Result<Self> {
        Self::with(region::Request { size, guarded: true, ..region::Request::default() })
    }

    fn with(request: region::Request) -> Result<Self> {
        let start = region::reserve(request)?;
        let size = request.size.next_multiple_of(page_size());
        let Some(start) = NonNull::new(ptr::with_exposed_provenance_mut(start)) else { return Err(Error::Null) };
        Ok(Reservation { start, size })
    }

    /// Its first byte. Nothing can be read there before it is committed.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// How many bytes it has; whole pages.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Gives the pages of the range memory, to read and write. Pages that are committed keep their contents.
    /// Fails iff the range is empty or beyond the end, or memory, the system's number of mappings or a limit is out.
    pub fn commit(&mut self, range: impl RangeBounds<usize>) -> Result<()> {
        let (at, size) = self.locate(range)?;
        // SAFETY: own range: nobody holds a reference into it while `self` is borrowed exclusively.
        unsafe { region::commit(at, size, Protect::ReadWrite) }
    }

    /// Gives the memory of the range's pages back; they can't be accessed then. Fails iff the range is empty or beyond the end, or the
    /// system's number of mappings is out.
    pub fn decommit(&mut self, range: impl RangeBounds<usize>) -> Result<()> {
        let (at, size) = self.locate(range)?;
        // SAFETY: own range, as in `commit`.
        unsafe { region::decommit(at, size) }
    }

    /// Changes the protection of committed pages. Fails iff a page of the range is not committed, or the system refuses.
    pub fn protect(&mut self, range: impl RangeBounds<usize>, protect: Protect) -> Result<()> {
        let (at, size) = self.locate(range)?;
        // SAFETY: own range, as in `commit`.
        unsafe { region::protect(at, size, protect) }
    }

    /// Keeps committed pages in memory. Fails iff one is not committed or not accessible, or the system refuses (RLIMIT_MEMLOCK).
    pub fn lock(&self, range: impl RangeBounds<usize>) -> Result<()> {
        let (at, size) = self.locate(range)?;
        region::lock(at, size)
    }

    /// Undoes [`Reservation::lock`]. Fails iff a page of the range is not locked.
    pub fn unlock(&self, range: impl RangeBounds<usize>) -> Result<()> {
        let (at, size) = self.locate(range)?;
        region::unlock(at, size)
    }

    /// The bytes of the range. Fails iff it is beyond the end, or not all of it is committed and readable.
    pub fn as_slice(&self, range: impl RangeBounds<usize>) -> Result<&[u8]> {
        let (at, size) = self.locate(range)?;
        region::check_access(at, size, Protect::reads)?;
        // SAFETY: committed and readable, and stays so: what would change it needs `self` exclusively.
        Ok(unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(at), size) })
    }

    /// The bytes of the range, to change them. Fails iff it is beyond the end, or not all of it is committed and writable.
    pub fn as_mut_slice(&mut self, range: impl RangeBounds<usize>) -> Result<&mut [u8]> {
        let (at, size) = self.locate(range)?;
        region::check_access(at, size, Protect::writes)?;
        // SAFETY: committed and writable, and `self` is borrowed exclusively.
        Ok(unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(at), size) })
    }

    /// Address and size of a range.
    fn locate(&self, range: impl RangeBounds<usize>) -> Result<(usize, usize)> {
        let base = self.start.as_ptr().expose_provenance();
        let Range { start, end } = bounds(range, self.size);
        if start >= end {
            return Err(Error::Empty);
        }
        if end > self.size {
            let size = end - start;
            let at = base.checked_add(start).ok_or(Error::TooLarge { start: base, size: start })?;
            return Err(Error::NotReserved(Pages::touched(at, size)?));
        }
        Ok((base + start, end - start))
    }
}

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
        // SAFETY: own range, all of it. It fails only when the number of mappings is out and the address space is left reserved.
        let _unless_mappings_are_out = unsafe { region::release(self.start.as_ptr().expose_provenance(), self.size) };
    }
}

/// The state of the pages that `size` bytes from `address` on touch, as runs, the lowest first, until `visit` returns false.
/// Fails iff the range is empty or beyond the address space, or the system does not tell what others mapped.
pub fn query(address: usize, size: usize, visit: impl FnMut(RangeInfo) -> bool) -> Result<()> {
    region::query(Pages::touched(address, size)?, visit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::Layout;

    #[test]
    fn a_reservation_is_released_with_its_value() {
        for _ in 0..1000 {
            // The address space has room for a part of them only.
            let mut reservation = Reservation::new(usize::MAX >> 20).unwrap();
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
