// SPDX-License-Identifier: MIT OR Apache-2.0
//! The growing arena: a reservation that is committed from its start up to the end of its used part. It commits memory ahead of use, in
//! steps that double, so that growth seldom needs a system call and memory follows use. Allocating committed bytes is one addition, which
//! the C header does inline. This file does the rest, for C and for Rust.

use std::alloc::Layout;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use super::error::{Error, Result};
use super::{Pages, page_size, registry};

/// The first and the largest step in which the arena commits ahead of use.
const FIRST_STEP: usize = 64 << 10;
const LAST_STEP: usize = 2 << 20;

/// The usual size of a huge page.
const HUGE_PAGE: usize = 2 << 20;

const _: () = assert!(FIRST_STEP <= LAST_STEP && HUGE_PAGE <= LAST_STEP && HUGE_PAGE.is_power_of_two());

/// The arena's state: `start` <= `next` <= `limit` <= `end`.
#[derive(Clone, Copy, Debug)]
pub struct Bump {
    /// First byte of the reservation.
    pub start: usize,
    /// First byte that is not in use.
    pub next: usize,
    /// End of the committed bytes.
    pub limit: usize,
    /// End of the reservation.
    pub end: usize,
    /// Bytes at or above max(fresh, next) have never been handed out since they were committed, so they are zero.
    pub fresh: usize,
    /// The number of bytes that the next commit adds, or more if it needs more.
    pub step: usize,
    /// Whether to advise huge pages.
    pub huge: bool,
}

impl Bump {
    /// Reserves the arena's address space. Fails iff `registry::reserve` does.
    pub fn new(size: usize, huge: bool, guarded: bool) -> Result<Bump> {
        let align = if huge { HUGE_PAGE } else { 1 };
        let start = registry::reserve(registry::Request { size, align, guarded, ..registry::Request::default() })?;
        let end = start + size.next_multiple_of(page_size());
        let step = if huge { HUGE_PAGE } else { FIRST_STEP };
        Ok(Bump { start, next: start, limit: start, end, fresh: start, step, huge })
    }

    /// Fails iff the fields contradict each other or the registry. A C program may have overwritten them.
    fn check(&self) -> Result<()> {
        self.check_order()?;
        registry::check_owner(self.start, self.end - self.start)
    }

    /// Fails iff the arena is not initialized, or its addresses are not in order.
    fn check_order(&self) -> Result<()> {
        let Bump { start, next, limit, end, .. } = *self;
        if start == 0 {
            return Err(Error::BadArena("it is not initialized"));
        }
        if start > next || next > limit || limit > end {
            return Err(Error::BadArena("its addresses are not in order"));
        }
        Ok(())
    }

    /// Allocates bytes, commits the missing pages, and returns the address. Fails, with nothing allocated, iff the size is 0, the alignment
    /// is not a power of two, the reservation has too few bytes left, the arena is not valid, or the commit fails.
    pub fn push(&mut self, size: usize, align: usize) -> Result<usize> {
        if size == 0 {
            return Err(Error::Empty);
        }
        if !align.is_power_of_two() {
            return Err(Error::BadAlignment(align as i128));
        }
        self.check()?;
        let full = Error::ArenaFull { size, align, left: self.end - self.next };
        let (start, next) = self.place(size, align).filter(|&(_, next)| next <= self.end).ok_or(full)?;
        if next > self.limit {
            self.commit(next)?;
        }
        self.next = next;
        Ok(start)
    }

    /// Fast path of `push`: one addition. Returns None, unchanged, if the committed bytes do not suffice or the size is 0; the caller
    /// then uses `push`. Precondition: `align` is a power of two. (vmem_grow_push in headers/vmem.epilogue.h does the same in C.)
    #[inline]
    fn push_committed(&mut self, size: usize, align: usize) -> Option<usize> {
        let (start, next) = self.place(size, align).filter(|&(_, next)| next <= self.limit && size > 0)?;
        debug_assert_eq!({ *self }.push(size, align), Ok(start));
        self.next = next;
        Some(start)
    }

    /// Returns start and end of the next bytes of this size and alignment, or None if they end beyond the address space. Precondition:
    /// `align` is a power of two.
    #[inline]
    fn place(&self, size: usize, align: usize) -> Option<(usize, usize)> {
        let start = self.next.checked_add(align - 1)? & !(align - 1);
        Some((start, start.checked_add(size)?))
    }

    /// Commits up to the address `needed`, and a step ahead of it if the system has the memory. Fails iff it can't commit up to `needed`.
    fn commit(&mut self, needed: usize) -> Result<()> {
        let needed = needed.next_multiple_of(page_size());
        let step = self.step.clamp(FIRST_STEP, LAST_STEP);
        let ahead = self.limit.saturating_add(step).min(self.end).next_multiple_of(page_size()).max(needed);
        // If memory is short, commit only the needed pages.
        let limit = match self.commit_up_to(ahead) {
            Err(Error::System { .. }) if ahead > needed => self.commit_up_to(needed).map(|()| needed)?,
            result => result.map(|()| ahead)?,
        };
        self.step = (step * 2).min(LAST_STEP);
        self.limit = limit;
        Ok(())
    }

    /// Commits the pages from `self.limit` up to `limit`. Fails iff `registry::commit_missing` does.
    fn commit_up_to(&self, limit: usize) -> Result<()> {
        let pages = Pages::touched(self.limit, limit - self.limit)?;
        registry::commit_missing(pages)?;
        if self.huge {
            // On a system without huge pages, the arena has ordinary ones.
            let _advice = registry::advise_huge(pages.start(), pages.size());
        }
        Ok(())
    }

    /// Frees all but the first `used` bytes. Fails iff fewer are in use, or the arena is not valid.
    pub fn pop_to(&mut self, used: usize) -> Result<()> {
        self.check_order()?;
        let now_used = self.next - self.start;
        if used > now_used {
            return Err(Error::BadMark { mark: used, used: now_used });
        }
        self.fresh = self.fresh.max(self.next);
        self.next = self.start + used;
        Ok(())
    }

    /// Frees all bytes, and decommits all but the first `keep`. Fails iff the arena is not valid, or `registry::decommit` fails.
    ///
    /// # Safety
    /// Nobody relies on the arena's contents.
    pub unsafe fn reset(&mut self, keep: usize) -> Result<()> {
        self.check()?;
        let kept = self.start.saturating_add(keep).min(self.limit).next_multiple_of(page_size());
        if kept < self.limit {
            // SAFETY: own range, by the caller; in the arena's reservation, by `check`.
            unsafe { registry::decommit(kept, self.limit - kept)? };
        }
        self.fresh = self.fresh.max(self.next).min(kept);
        self.next = self.start;
        self.limit = kept;
        Ok(())
    }

    /// Releases the reservation. Fails iff the arena is not valid, or `registry::release` fails.
    ///
    /// # Safety
    /// Nobody relies on the arena's contents.
    pub unsafe fn release(&mut self) -> Result<()> {
        self.check()?;
        // SAFETY: own range, by the caller.
        unsafe { registry::release(self.start, self.end - self.start) }
    }
}

/// A growing arena: allocates bytes one after the other, and frees them together. Allocated bytes never move.
///
/// ```
/// use palloc::vmem::Arena;
///
/// let mut arena = Arena::new(1 << 30)?;
/// let numbers = arena.alloc_slice(1000, 7_u32)?;
/// let name = arena.alloc_slice(4, b'x')?;
/// numbers[999] += 1;
/// assert_eq!((numbers[0], numbers[999], &*name), (7, 8, &b"xxxx"[..]));
/// arena.reset();
/// # Ok::<(), palloc::vmem::Error>(())
/// ```
#[derive(Debug)]
pub struct Arena {
    bump: Cell<Bump>,
    memory: PhantomData<NonNull<u8>>,
}

// SAFETY: it owns its address space, and any thread may use that.
unsafe impl Send for Arena {}

impl Arena {
    /// Reserves `size` bytes, rounded up to whole pages. Fails iff `size` is 0, or no address space of this size or no memory for the
    /// registry is left.
    pub fn new(size: usize) -> Result<Arena> {
        Ok(Arena { bump: Cell::new(Bump::new(size, false, false)?), memory: PhantomData })
    }

    /// As [`Arena::new`], with huge pages on systems that have them. The arena is faster to fill, and uses memory in steps of 2 MiB.
    pub fn with_huge_pages(size: usize) -> Result<Arena> {
        Ok(Arena { bump: Cell::new(Bump::new(size, true, false)?), memory: PhantomData })
    }

    /// Allocates memory of this size and alignment. Its bytes are initialized: they are zero, or hold contents from before a reset.
    /// Fails iff the size is 0, the arena has too few bytes left, or the commit of missing pages fails.
    #[inline]
    pub fn alloc(&self, layout: Layout) -> Result<NonNull<u8>> {
        let mut bump = self.bump.get();
        let start = match bump.push_committed(layout.size(), layout.align()) {
            Some(start) => start,
            None => bump.push(layout.size(), layout.align())?,
        };
        self.bump.set(bump);
        NonNull::new(ptr::with_exposed_provenance_mut(start)).ok_or(Error::Null)
    }

    /// Allocates a slice of `len` copies of `value`. Fails iff the slice has no bytes, the arena has too few bytes left, or the commit of
    /// missing pages fails.
    #[expect(clippy::mut_from_ref, reason = "each call returns other memory")]
    pub fn alloc_slice<T: Copy>(&self, len: usize, value: T) -> Result<&mut [T]> {
        let too_large = Error::ArenaFull { size: len.saturating_mul(size_of::<T>()), align: align_of::<T>(), left: 0 };
        let start = self.alloc(Layout::array::<T>(len).map_err(|_| too_large)?)?.cast::<T>();
        for i in 0..len {
            // SAFETY: in the memory that was just allocated, and aligned.
            unsafe { start.add(i).write(value) };
        }
        // SAFETY: initialized above. No other reference to it exists until a reset, which borrows `self` exclusively.
        Ok(unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// Returns the number of bytes in use, padding included.
    pub fn used(&self) -> usize {
        let bump = self.bump.get();
        bump.next - bump.start
    }

    /// Frees all bytes. Their memory stays committed for later allocations.
    pub fn reset(&mut self) {
        let bump = self.bump.get_mut();
        bump.fresh = bump.fresh.max(bump.next);
        bump.next = bump.start;
    }

    /// Frees all bytes, and decommits all but the first `keep`. Fails, and changes nothing, iff mappings or memory for the registry run out.
    pub fn shrink(&mut self, keep: usize) -> Result<()> {
        // SAFETY: every allocated reference borrows `self`, which is borrowed exclusively here.
        unsafe { self.bump.get_mut().reset(keep) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: as in `shrink`. If the call fails, because mappings ran out, the address space stays reserved.
        let _fails_without_mappings = unsafe { self.bump.get_mut().release() };
    }
}
