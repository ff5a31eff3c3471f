// SPDX-License-Identifier: MIT OR Apache-2.0
//! Caches of free blocks: with them, threads that allocate and free on one medium do not wait for each other.
//!
//! A block in a cache is called *kept*. It is free on the medium. For the heap it looks like a live block: the slot map says that it is
//! one, so nothing joins or finds it. Its start marker alone says that it is free. So a thread without the medium's lock allocates or frees
//! a block by one store, to that marker; it changes nothing that other threads write to.
//!
//! ```text
//!             slot map   start marker   end marker
//!   live      live       live           live
//!   kept      live       free           live         free on the medium, and in one stack of one cache
//!   recent    recent     free           live         in the heap's own stack
//! ```
//!
//! The caches are closed, and empty, until two threads want the lock at the same time (`heap/keeping.rs`). Then they are open: calls of
//! palloc and pfree for exact sizes use the cache of their thread, and take the lock only to exchange a batch of blocks with the heap. Those
//! for other sizes, and questions about one blob, leave the caches open. Every other call that takes the lock closes them first: all kept
//! blocks go back to the heap, which is then as if there had been no caches. They stay closed as long as that call has the lock. A failed
//! sync closes them for good.
//!
//! The medium may grow beside open caches: for the heap, kept blocks are live ones. Else threads with few blobs would close them all the
//! time. What the medium is longer for it is bounded: a cache keeps at most so many blocks of a class ([`depth_of`]). The file is not cut
//! beside open caches: a thread that frees a blob twice, against the rules, would store behind the end.
//!
//! Locks are taken in this order: the medium's, then that of a cache. A thread with that of a cache waits for nothing.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::block_index::{CLASSES, Stack, class_of, data_len_of_class};
use super::format::{Extent, Marker, OVERHEAD, STEP, Start};
use super::sabotage::{Rule, between_accesses, is_broken};
use super::sync::{AtomicBool, AtomicU64, CACHES, Ordering, own_cache, set_own_cache, wait};

/// How many blocks a stack holds.
const DEPTH: usize = 64;
/// Fewer on a small medium, so that one cache keeps at most 1/SHARE of it, but at least LEAST_DEPTH.
const SHARE: u64 = 4;
const LEAST_DEPTH: usize = 8;
/// The bytes of one block of each class.
const ONE_OF_EACH: u64 = CLASSES as u64 * (STEP + (CLASSES as u64 * STEP)) / 2 + CLASSES as u64 * OVERHEAD;
/// After so many calls in one of them the caches are closed, so that no block stays for ever in the cache of an idle thread.
const CALLS: u32 = 1 << 20;

const _: () = assert!(DEPTH <= u8::MAX as usize, "a depth is a u8");

/// How many blocks of a class a cache of a medium of `size` bytes keeps.
pub fn depth_of(size: u64) -> u8 {
    (size / SHARE / ONE_OF_EACH).clamp(LEAST_DEPTH as u64, DEPTH as u64) as u8
}

/// All caches of a medium. Zeros are closed caches.
#[repr(C)]
pub struct Caches {
    is_open: OwnLine<AtomicBool>,
    caches: [OwnLine<Cache>; CACHES],
}

/// In cache lines of its own, two at a time: processors fetch them in pairs.
#[repr(align(128))]
struct OwnLine<T>(T);

struct Cache {
    is_locked: AtomicBool,
    stacks: UnsafeCell<Stacks>,
}

// SAFETY: the stacks are accessed by the thread that has the lock only.
unsafe impl Sync for Cache {}

/// The stacks of one cache.
struct Stacks {
    is_open: bool,
    /// How many blocks each of them keeps.
    depth: u8,
    /// How many blocks the last refill of a class was to bring.
    last_wanted: [u8; CLASSES],
    calls_left: u32,
    of_class: [Stack<DEPTH>; CLASSES],
}

/// The lock of a cache, which is held while this lives.
struct Locked<'a>(&'a Cache);

impl Deref for Locked<'_> {
    type Target = Stacks;

    fn deref(&self) -> &Stacks {
        // SAFETY: this thread has the lock.
        unsafe { &*self.0.stacks.get() }
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Stacks {
        // SAFETY: this thread has the lock.
        unsafe { &mut *self.0.stacks.get() }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.is_locked.store(false, Ordering::Release);
    }
}

impl Cache {
    #[inline]
    fn try_lock(&self) -> Option<Locked<'_>> {
        let was_free = self.is_locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        was_free.then(|| Locked(self)) // not then_some: one that is dropped unlocks
    }

    /// Waits for the lock: for a few instructions of another thread, unless the system has stopped that one in them.
    fn lock(&self) -> Locked<'_> {
        let mut tries = 0;
        loop {
            if let Some(locked) = self.try_lock() {
                return locked;
            }
            tries += 1;
            wait(tries);
        }
    }
}

impl Stacks {
    fn is_full(&self, class: usize) -> bool {
        self.of_class[class].starts().len() >= self.depth.into()
    }

    /// Counts a call. Returns false if the caches are closed, or are to be closed now.
    #[inline]
    fn count_call(&mut self) -> bool {
        if (!self.is_open && !is_broken(Rule::ClosedIsClosed)) || self.calls_left == 0 {
            return false;
        }
        self.calls_left -= 1;
        true
    }
}

impl Caches {
    /// Closed caches, in memory of their own. Fails iff there is no memory.
    pub fn new() -> Option<NonNull<Caches>> {
        // SAFETY: the layout has a size. Zeros are valid values of all fields.
        NonNull::new(unsafe { alloc_zeroed(Layout::new::<Caches>()) }.cast())
    }

    /// Closed caches.
    #[cfg(test)]
    pub fn closed() -> Caches {
        let stacks = || Stacks {
            is_open: false,
            depth: 0,
            last_wanted: [0; CLASSES],
            calls_left: 0,
            of_class: [const { Stack::EMPTY }; CLASSES],
        };
        let cache = |_| OwnLine(Cache { is_locked: AtomicBool::new(false), stacks: UnsafeCell::new(stacks()) });
        Caches { is_open: OwnLine(AtomicBool::new(false)), caches: std::array::from_fn(cache) }
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// It came from `new`, and nobody uses it any more.
    pub unsafe fn drop(caches: NonNull<Caches>) {
        // SAFETY: passed on to the caller.
        unsafe { dealloc(caches.as_ptr().cast(), Layout::new::<Caches>()) }
    }

    /// Whether a block may be kept. If false, no block is kept, and the caller sees the slot map as it was after the last one was
    /// released, or newer.
    #[inline]
    pub fn are_open(&self) -> bool {
        self.is_open.0.load(Ordering::Acquire)
    }

    /// Takes a block of this class, and makes it live: stores its start marker, the word that `word_of` finds. Returns its start. Returns
    /// None, and changes nothing, if the cache has no such block, its marker was overwritten, or `word_of` does not know it.
    #[inline]
    pub fn alloc<'a>(&self, class: usize, word_of: impl FnOnce(Start) -> Option<&'a AtomicU64>) -> Option<Start> {
        let mut stacks = self.lock_own()?;
        if !stacks.count_call() {
            return None;
        }
        let start = stacks.of_class[class].top()?;
        let (word, data_len) = (word_of(start)?, data_len_of_class(class));
        if word.load(Ordering::Relaxed) != Marker::free(data_len).0.to_be() {
            return None;
        }
        // Release: as every store to a marker.
        word.store(Marker::live(data_len).0.to_be(), Ordering::Release);
        stacks.of_class[class].pop();
        Some(start)
    }

    /// Makes a live block of an exact size a kept one: stores its start marker, `word`. Returns false, and changes nothing, if the stack is
    /// full, or if the marker is not that of such a live block: of two threads that free a blob at once, one gets false.
    #[inline]
    pub fn free(&self, block: Extent, word: &AtomicU64) -> bool {
        let Some(class) = class_of(block.data_len) else { return false };
        let Some(mut stacks) = self.lock_own() else { return false };
        if !stacks.count_call() || stacks.is_full(class) {
            return false;
        }
        let (live, free) = (Marker::live(block.data_len).0.to_be(), Marker::free(block.data_len).0.to_be());
        if is_broken(Rule::OneFrees) {
            word.store(free, Ordering::Release);
        } else if word.compare_exchange(live, free, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        stacks.of_class[class].push(block.start)
    }

    /// The cache of this thread; another one if its lock is taken, and from then on that. None if all are.
    #[inline]
    fn lock_own(&self) -> Option<Locked<'_>> {
        between_accesses();
        self.caches[own_cache()].0.try_lock().or_else(|| self.lock_any())
    }

    #[cold]
    fn lock_any(&self) -> Option<Locked<'_>> {
        let own = own_cache();
        let mut others = (1..CACHES).map(|i| (own + i) % CACHES);
        let (number, locked) = others.find_map(|i| Some((i, self.caches[i].0.try_lock()?)))?;
        set_own_cache(number);
        Some(locked)
    }
}

// For the thread that has the medium's lock.
impl Caches {
    /// Opens the caches, and lets them keep `depth` blocks of each class.
    pub fn open(&self, depth: u8) {
        // First this: whoever can keep a block can know that blocks are kept.
        if !is_broken(Rule::OpenFirst) {
            self.is_open.0.store(true, Ordering::Relaxed);
        }
        for cache in &self.caches {
            let mut stacks = cache.0.lock();
            (stacks.is_open, stacks.depth) = (true, depth);
            (stacks.calls_left, stacks.last_wanted) = (CALLS, [0; CLASSES]);
        }
    }

    /// Closes all caches, so that no thread changes one any more. Returns how many calls came to them.
    pub fn begin_close(&self) -> u64 {
        let close = |cache: &OwnLine<Cache>| {
            let mut stacks = cache.0.lock();
            stacks.is_open = false;
            u64::from(CALLS - stacks.calls_left)
        };
        self.caches.iter().map(close).sum()
    }

    /// Ends closing. Precondition: `take_any` returned None.
    pub fn end_close(&self) {
        self.is_open.0.store(false, Ordering::Release); // see `are_open`
    }

    /// Takes a block out of closed caches.
    pub fn take_any(&self) -> Option<Extent> {
        self.caches.iter().find_map(|cache| {
            let mut stacks = cache.0.lock();
            let class = stacks.of_class.iter().position(|stack| !stack.is_empty())?;
            let start = stacks.of_class[class].top()?;
            stacks.of_class[class].pop();
            Some(Extent { start, data_len: data_len_of_class(class) })
        })
    }

    /// Whether the calls of this thread's cache are used up.
    pub fn is_worn(&self) -> bool {
        self.caches[own_cache()].0.lock().calls_left == 0
    }

    /// From now on this thread's cache keeps `depth` blocks of each class. If it has so many of this one, takes those out of it that were
    /// freed first.
    pub fn take_batch(&self, class: usize, depth: u8) -> Option<Stack<DEPTH>> {
        let mut stacks = self.caches[own_cache()].0.lock();
        stacks.depth = depth;
        stacks.is_full(class).then(|| stacks.of_class[class].take_oldest((depth / 2).into()))
    }

    /// As `take_batch`, and returns how many blocks a refill of this class is to bring: the more, the more often it was refilled since the
    /// caches were opened.
    pub fn wanted(&self, class: usize, depth: u8) -> usize {
        let mut stacks = self.caches[own_cache()].0.lock();
        stacks.depth = depth;
        let wanted = (2 * stacks.last_wanted[class]).clamp(1, depth / 2);
        stacks.last_wanted[class] = wanted;
        usize::from(wanted).min(usize::from(depth).saturating_sub(stacks.of_class[class].starts().len()))
    }

    /// Keeps a block that the heap made free for it. Returns false if the stack is full.
    pub fn put(&self, class: usize, start: Start) -> bool {
        self.caches[own_cache()].0.lock().of_class[class].push(start)
    }

    /// How many blocks are kept. For checks.
    pub fn count(&self) -> usize {
        let count = |cache: &OwnLine<Cache>| -> usize {
            cache.0.lock().of_class.iter().map(|stack| stack.starts().len()).sum()
        };
        self.caches.iter().map(count).sum()
    }

    /// Whether this block is kept. For checks.
    pub fn has(&self, block: Extent) -> bool {
        let Some(class) = class_of(block.data_len) else { return false };
        self.caches.iter().any(|cache| cache.0.lock().of_class[class].starts().contains(&block.start))
    }
}
