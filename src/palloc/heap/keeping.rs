// SPDX-License-Identifier: MIT OR Apache-2.0
//! The heap's side of the caches (`caches.rs`): opens and closes them, and exchanges blocks with them.

use std::ptr::NonNull;

use super::Heap;
use crate::palloc::Result;
use crate::palloc::block_index::{class_of, data_len_of_class};
use crate::palloc::caches::{Caches, depth_of};
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, MIN_BLOCK, Marker, Request, SPLIT_ABOVE, Start};
use crate::palloc::medium::Medium;
use crate::palloc::sabotage::{Rule, is_broken};

/// Caches to which fewer calls came before they had to be closed were not worth it.
const WORTHWHILE: u64 = 1 << 12;
/// So often, at most, threads that want the lock at the same time don't open the caches: where they never pay, they are opened once in so
/// many times.
const MOST_PATIENCE: u32 = 1 << 10;

/// The caches of a medium. Changed under the medium's lock.
#[derive(Default)]
pub struct Keeping {
    /// None until they are opened the first time. They stay where they are until this is dropped.
    caches: Option<NonNull<Caches>>,
    is_open: bool,
    /// How many more times threads may find the lock taken before the caches are opened.
    patience: u32,
    /// What `patience` was set to when the caches were closed last; 0 if they had been worth it.
    last_patience: u32,
}

// SAFETY: the caches may be used by any thread.
unsafe impl Send for Keeping {}

impl Keeping {
    /// Whether blocks may be kept.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The caches, if they were ever opened.
    fn caches<'a>(&self) -> Option<&'a Caches> {
        // SAFETY: they live until the heap is dropped; the result is used by its functions only.
        self.caches.map(|caches| unsafe { caches.as_ref() })
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(caches) = self.caches {
            // SAFETY: threads without the lock don't use them when the medium is dropped.
            unsafe { Caches::drop(caches) }
        }
    }
}

impl<M: Medium> Heap<M> {
    /// Opens the caches, because threads wait for each other. Does nothing if the medium is in exact mode or not plain, if they were not
    /// worth it the last times, or if there is no memory. Returns the caches if they are open.
    ///
    /// Precondition: threads without the lock may store to all markers of live blocks.
    pub fn open_caches(&mut self) -> Option<NonNull<Caches>> {
        if self.keeping.is_open {
            return self.keeping.caches;
        }
        if self.exact || !self.is_plain() {
            return None;
        }
        if self.keeping.patience > 0 {
            self.keeping.patience -= 1;
            return None;
        }
        if self.keeping.caches.is_none() {
            self.keeping.caches = Caches::new();
        }
        self.keeping.caches()?.open(depth_of(self.size()));
        self.keeping.is_open = true;
        self.keeping.caches
    }

    /// Closes the caches, if they are open. All kept blocks are free blocks of the index then, joined with their free neighbours if the
    /// medium may be changed. Returns whether they were open.
    #[inline]
    pub fn close_caches(&mut self) -> bool {
        self.keeping.is_open && self.close_open_caches()
    }

    #[cold]
    #[inline(never)]
    fn close_open_caches(&mut self) -> bool {
        let Some(caches) = self.keeping.caches() else { return false };
        let calls = caches.begin_close();
        while let Some(block) = caches.take_any() {
            self.free_kept(block);
        }
        caches.end_close();
        self.keeping.is_open = false;
        let longer = (2 * self.keeping.last_patience).clamp(1, MOST_PATIENCE);
        self.keeping.last_patience = if calls < WORTHWHILE { longer } else { 0 };
        self.keeping.patience = self.keeping.last_patience;
        if self.dynamic && self.writable {
            self.trim_slack();
        }
        true
    }

    /// A block that was kept becomes a free one of the index. If its marker was overwritten, it stays as it is: a live block with a marker
    /// that was overwritten.
    fn free_kept(&mut self, block: Extent) {
        if self.marker(block.start) != Marker::free(block.data_len) {
            return;
        }
        if self.writable {
            self.free_used_joined_or_not(block, &[]);
        } else {
            // After a failed sync nothing is stored: not even its end marker, which nobody reads any more.
            self.index.remove_used(block.start);
            self.index.add_free(block);
        }
    }

    /// Prepares to allocate `requested` bytes beside open caches: refills the cache of this thread. Closes them if their time is over.
    #[cold]
    #[inline(never)]
    pub(in crate::palloc) fn prepare_alloc_beside_caches(&mut self, requested: u64) {
        let Some(caches) = self.keeping.caches() else { return };
        if let Some(class) = Request::of(requested).and_then(|request| class_of(request.data_len)) {
            self.refill(caches, class);
        }
        if caches.is_worn() {
            self.close_caches();
        }
    }

    fn refill(&mut self, caches: &Caches, class: usize) {
        for _ in 0..caches.wanted(class, depth_of(self.size())) {
            let Some(start) = self.make_kept(data_len_of_class(class)) else { break };
            if !caches.put(class, start) {
                self.free_kept(Extent { start, data_len: data_len_of_class(class) }); // another thread shares the cache
                break;
            }
        }
    }

    /// Frees a live block beside open caches. Closes them if their time is over, or if the file is to be cut.
    #[cold]
    #[inline(never)]
    pub(super) fn free_beside_caches(&mut self, block: Extent) -> Result<()> {
        let Some(caches) = self.keeping.caches() else { return self.free_block(block) };
        // Another thread may be freeing it, against the rules.
        let (live, free) = (Marker::live(block.data_len), Marker::free(block.data_len));
        if is_broken(Rule::OneFrees) {
            self.medium.store_start(block.start, free);
        } else if !self.medium.replace(block.start.offset(), live.0, free.0) {
            return Err(Error::NoBlob(block.blob()));
        }
        self.free_block(block).inspect_err(|_| self.medium.store_start(block.start, live))?;
        let batch = class_of(block.data_len).and_then(|class| caches.take_batch(class, depth_of(self.size())));
        for &start in batch.iter().flat_map(|batch| batch.starts()) {
            self.free_kept(Extent { start, data_len: block.data_len });
        }
        if caches.is_worn() || self.is_slack_too_long() {
            self.close_caches();
        }
        Ok(())
    }

    /// Makes a kept block of this size of free space. Returns its start. Returns None, and changes nothing, if the heap has only free
    /// blocks that are a bit larger, or space that the medium would have to grow for, or if the disk or memory is full.
    fn make_kept(&mut self, data_len: u64) -> Option<Start> {
        let found = self.find_free(Request::of(data_len)?).ok()?;
        let free = found.or_else(|| self.slack())?;
        if found.is_some() {
            self.check_free(free).ok()?;
        }
        let block = Extent { start: free.start, data_len };
        let fits = free == block || free.data_len > data_len + SPLIT_ABOVE.max(MIN_BLOCK);
        if !fits || !block.start.is_in_step() {
            return None;
        }
        if found.is_none() {
            self.store_slack(); // it may be without a start marker
        }
        self.index.prepare(block.start).ok()?;
        if is_broken(Rule::RestFirst) {
            self.medium.store_start(block.start, Marker::free(data_len));
        }
        self.divide(block, free, Marker::free(data_len), Marker::live(data_len).0).ok()?;
        self.index.put_live(block.start);
        Some(block.start)
    }

    /// Panics unless there are so many kept blocks, and each is in one of the open caches: for tests.
    pub(super) fn check_kept(&self, kept: impl Iterator<Item = Extent>) {
        let caches = self.keeping.caches();
        let mut count = 0;
        for block in kept {
            assert!(self.keeping.is_open && caches.is_some_and(|caches| caches.has(block)), "{block:?} is kept");
            assert_eq!(self.end_marker(block), Marker::live(block.data_len), "end marker of kept {block:?}");
            count += 1;
        }
        assert_eq!(caches.map_or(0, Caches::count), count, "each kept block is a block");
    }
}
