//! The growing arena: a reservation that is used up from its start. It commits memory ahead of use, in steps that double: growth seldom
//! costs a system call, and memory follows use. Taking committed bytes is one addition, which the C header does inline. This file does
//! the rest, for C and for Rust.

use std::alloc::Layout;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use super::error::{Error, Result};
use super::{Pages, page_size, region};

/// The first step of commit-ahead, and the largest.
const FIRST_STEP: usize = 64 << 10;
const LAST_STEP: usize = 2 << 20;

/// The usual size of a huge page.
const HUGE_PAGE: usize = 2 << 20;

const _: () = assert!(FIRST_STEP <= LAST_STEP && HUGE_PAGE <= LAST_STEP && HUGE_PAGE.is_power_of_two());

/// Addresses, in this order, none of them behind the next: `start`, `next`, `limit`, `end`.
#[derive(Clone, Copy, Debug)]
pub struct Bump {
    /// First byte of the reservation.
    pub start: usize,
    /// First byte that is not taken.
    pub next: usize,
    /// Behind what is committed.
    pub limit: usize,
    /// Behind the reservation.
    pub end: usize,
    /// Bytes at or above max(fresh, next) have never been handed out since they were committed, so they are zero.
    pub fresh: usize,
    /// How much is committed next.
    pub step: usize,
    /// Commit huge pages.
    pub huge: bool,
}

impl Bump {
    /// Reserves the arena's address space. Fails iff `region::reserve` does.
    pub fn new(size: usize, huge: bool, guarded: bool) -> Result<Bump> {
        let align = if huge { HUGE_PAGE } else { 1 };
        let start = region::reserve(region::Request { size, align, guarded, ..region::Request::default() })?;
        let end = start + size.next_multiple_of(page_size());
        let step = if huge { HUGE_PAGE } else { FIRST_STEP };
        Ok(Bump { start, next: start, limit: start, end, fresh: start, step, huge })
    }

    /// Fails iff the fields contradict each other or the registry: a C program may have written over them.
    fn check(&self) -> Result<()> {
        self.check_order()?;
        region::check_owner(self.start, self.end - self.start)
    }

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

    /// Takes bytes, and commits what is missing. Fails iff the size is 0, the alignment is no power of two, the reservation is used up,
    /// the arena is not valid, or the system refuses to commit.
    pub fn push(&mut self, size: usize, align: usize) -> Result<usize> {
        if size == 0 {
            return Err(Error::Empty);
        }
        if !align.is_power_of_two() {
            return Err(Error::BadAlignment(align as i128));
        }
        self.check()?;
        let full = Error::ArenaFull { size, align, left: self.end - self.next };
        let (at, next) = self.place(size, align).filter(|&(_, next)| next <= self.end).ok_or(full)?;
        if next > self.limit {
            self.commit(next)?;
        }
        self.next = next;
        Ok(at)
    }

    /// Fast path of `push`: one addition. Returns None, unchanged, if the committed bytes do not suffice or the size is 0; the caller
    /// then uses `push`. Precondition: `align` is a power of two. (vmem_grow_push in headers/vmem.epilogue.h does the same in C.)
    #[inline]
    fn push_committed(&mut self, size: usize, align: usize) -> Option<usize> {
        let (at, next) = self.place(size, align).filter(|&(_, next)| next <= self.limit && size > 0)?;
        debug_assert_eq!({ *self }.push(size, align), Ok(at));
        self.next = next;
        Some(at)
    }

    /// Start and end of the next bytes of this size and alignment; None beyond the address space.
    #[inline]
    fn place(&self, size: usize, align: usize) -> Option<(usize, usize)> {
        let at = self.next.checked_add(align - 1)? & !(align - 1);
        Some((at, at.checked_add(size)?))
    }

    /// Commits up to `needed` at least, and ahead of it if the system has the memory. Fails iff it can't commit up to `needed`.
    fn commit(&mut self, needed: usize) -> Result<()> {
        let needed = needed.next_multiple_of(page_size());
        let step = self.step.clamp(FIRST_STEP, LAST_STEP);
        let ahead = self.limit.saturating_add(step).min(self.end).next_multiple_of(page_size()).max(needed);
        // When memory is short, what is needed is enough.
        let limit = match self.commit_up_to(ahead) {
            Err(Error::System { .. }) if ahead > needed => self.commit_up_to(needed).map(|()| needed)?,
            result => result.map(|()| ahead)?,
        };
        self.step = (step * 2).min(LAST_STEP);
        self.limit = limit;
        Ok(())
    }

    fn commit_up_to(&self, limit: usize) -> Result<()> {
        let pages = Pages::touched(self.limit, limit - self.limit)?;
        region::commit_missing(pages)?;
        if self.huge {
            // A system without huge pages has the others.
            let _advice = region::advise_huge(pages.start(), pages.size());
        }
        Ok(())
    }

    /// Gives back all but the first `used` bytes. Fails iff fewer are taken, or the arena is not valid.
    pub fn pop_to(&mut self, used: usize) -> Result<()> {
        self.check_order()?;
        let taken = self.next - self.start;
        if used > taken {
            return Err(Error::BadMark { mark: used, used: taken });
        }
        self.fresh = self.fresh.max(self.next);
        self.next = self.start + used;
        Ok(())
    }

    /// Gives everything back, and decommits all but the first `keep` bytes. Fails iff the arena is not valid or the system refuses.
    ///
    /// # Safety
    /// Nobody relies on what is in the arena.
    pub unsafe fn reset(&mut self, keep: usize) -> Result<()> {
        self.check()?;
        let kept = self.start.saturating_add(keep).min(self.limit).next_multiple_of(page_size());
        if kept < self.limit {
            // SAFETY: own range, by the caller; in the arena's reservation, by `check`.
            unsafe { region::decommit(kept, self.limit - kept)? };
        }
        self.fresh = self.fresh.max(self.next).min(kept);
        self.next = self.start;
        self.limit = kept;
        Ok(())
    }

    /// Releases the reservation. Fails iff the arena is not valid or the system refuses.
    ///
    /// # Safety
    /// Nobody relies on what is in the arena.
    pub unsafe fn release(&mut self) -> Result<()> {
        self.check()?;
        // SAFETY: own range, by the caller.
        unsafe { region::release(self.start, self.end - self.start) }
    }
}

/// Memory that is taken piece by piece and given back all at once. Pieces stay where they are, however much is taken.
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

// SAFETY: it owns its address space; nothing about it belongs to one thread.
unsafe impl Send for Arena {}

impl Arena {
    /// Reserves `size` bytes. Fails iff the size is 0, or address space or memory for the registry is out.
    pub fn new(size: usize) -> Result<Arena> {
        Ok(Arena { bump: Cell::new(Bump::new(size, false, false)?), memory: PhantomData })
    }

    /// As [`Arena::new`], with huge pages where the system has them: faster to fill, but memory is taken 2 MiB at a time.
    pub fn with_huge_pages(size: usize) -> Result<Arena> {
        Ok(Arena { bump: Cell::new(Bump::new(size, true, false)?), memory: PhantomData })
    }

    /// Takes memory of this size and alignment. Its bytes are initialized, but may be those of what was there before a reset.
    /// Fails iff the size is 0, or the arena or memory is used up.
    #[inline]
    pub fn alloc(&self, layout: Layout) -> Result<NonNull<u8>> {
        let mut bump = self.bump.get();
        let at = match bump.push_committed(layout.size(), layout.align()) {
            Some(at) => at,
            None => bump.push(layout.size(), layout.align())?,
        };
        self.bump.set(bump);
        NonNull::new(ptr::with_exposed_provenance_mut(at)).ok_or(Error::Null)
    }

    /// Takes room for `len` values and fills it. They are not dropped. Fails iff there are no bytes in it, or the arena or memory is used up.
    #[expect(clippy::mut_from_ref, reason = "each call returns other memory")]
    pub fn alloc_slice<T: Copy>(&self, len: usize, value: T) -> Result<&mut [T]> {
        let too_large = Error::ArenaFull { size: len.saturating_mul(size_of::<T>()), align: align_of::<T>(), left: 0 };
        let start = self.alloc(Layout::array::<T>(len).map_err(|_| too_large)?)?.cast::<T>();
        for i in 0..len {
            // SAFETY: in the memory that was just taken, and aligned.
            unsafe { start.add(i).write(value) };
        }
        // SAFETY: initialized above, and nobody else's until a reset, which needs `self` exclusively.
        Ok(unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// How many bytes are taken, padding included.
    pub fn used(&self) -> usize {
        let bump = self.bump.get();
        bump.next - bump.start
    }

    /// Gives everything that was taken back, and keeps the memory for what comes.
    pub fn reset(&mut self) {
        let bump = self.bump.get_mut();
        bump.fresh = bump.fresh.max(bump.next);
        bump.next = bump.start;
    }

    /// Gives everything that was taken back, and its memory to the system but for the first `keep` bytes. Fails iff the system's number
    /// of mappings is out; then everything is as it was.
    pub fn shrink(&mut self, keep: usize) -> Result<()> {
        // SAFETY: what was taken borrows `self`, which is borrowed exclusively here.
        unsafe { self.bump.get_mut().reset(keep) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: as in `shrink`. It fails only when the number of mappings is out, and the address space is left reserved.
        let _unless_mappings_are_out = unsafe { self.bump.get_mut().release() };
    }
}
