// SPDX-License-Identifier: MIT OR Apache-2.0
//! Held blocks: free on the medium, and not yet free for those who allocate ([`State::Held`](super::State)).
//!
//! ```text
//!   live  -- hold: one store -->  held  -- free_held: joins it with its neighbours -->  free
//! ```
//!
//! Between the two nothing is stored to the block: neither links nor an end marker, and no neighbour is joined with it. For opening after
//! a kill it is a free block.
//!
//! On a medium with live readers every block that is freed is held, until no reader can reach it: `live/epochs.rs` says when. The list is
//! in the order of the epochs. If there is no memory for it, a held block is only in the index, and found there.
//!
//! Most blocks have exact sizes. Without PALLOC_SYNC they are not joined then, but stay held, *ready* to be allocated:
//!
//! ```text
//!   live  -- hold_exact: one store -->  held  -- no reader can reach it -->  held, ready  -- alloc_ready: one store -->  live
//! ```
//!
//! For all others a ready block is a held one. So before the medium grows, and before whatever is to find all free space, they become free.

use std::collections::VecDeque;

use super::{Heap, State};
use crate::palloc::Result;
use crate::palloc::block_index::{MAX_EXACT, RecentBlocks, class_of, data_len_of_class};
use crate::palloc::format::{Extent, HEADER, Marker, Request, SPLIT_ABOVE, Start, WORD};
use crate::palloc::medium::{Bytes, Medium};
use crate::palloc::sabotage::{Rule, is_broken};

/// After so many blocks were held, those are freed that no reader can reach any more.
const BATCH: usize = if cfg!(palloc_sabotage) { 1 } else { 64 };

/// The blocks that are held for live readers.
pub struct Held {
    list: VecDeque<HeldBlock>,
    /// The sizes of the blocks in the list.
    bytes: u64,
    /// Those that are ready.
    ready: RecentBlocks,
    /// Whether blocks become ready: until sharing ends, and not on a durable medium.
    has_ready: bool,
    /// The epoch of the last one that is not in the list.
    unlisted: Option<u64>,
    /// How many were held since the list got room for BATCH of them, in the last reclaim; BATCH if there was no memory for it.
    new: usize,
    /// Whether `using_reserves` has freed what it could.
    reclaimed: bool,
    /// No live block starts before this; NOWHERE if there is no live block.
    first: Start,
}

struct HeldBlock {
    block: Extent,
    epoch: u64,
}

impl Default for Held {
    fn default() -> Held {
        let (list, first) = (VecDeque::new(), Start::FIRST);
        Held {
            list,
            bytes: 0,
            ready: RecentBlocks::default(),
            has_ready: false,
            unlisted: None,
            new: 0,
            reclaimed: false,
            first,
        }
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.list.is_empty() && self.ready.non_empty() == 0 && self.unlisted.is_none()
    }

    /// The start of one of them, if any is in the list or ready.
    pub(super) fn any(&self) -> Option<Start> {
        let listed = self.list.front().map(|held| held.block.start);
        listed.or_else(|| self.ready.top(self.ready.non_empty().trailing_zeros() as usize))
    }
}

#[cfg(test)]
impl Held {
    /// As if there had been no memory for the list.
    pub(in crate::palloc) fn forget_list(&mut self) {
        self.unlisted = self.list.back().map(|held| held.epoch);
        self.list.clear();
        self.bytes = 0;
    }
}

impl<M: Medium> Heap<M> {
    /// Frees a live block on the medium: it is held from now on. Fails iff the disk has no space for its marker, or a barrier fails;
    /// then nothing changed.
    pub(in crate::palloc) fn hold(&mut self, block: Extent) -> Result<()> {
        self.ensure_words([Some(block.start.offset()), Some(block.end_marker())])?;
        self.publish(block.start, Marker::free(block.data_len))?;
        self.index.put_held(block.start);
        Ok(())
    }

    /// Makes a held block a free one of the index: joins it with its free neighbours. One whose marker was overwritten stays held: the next
    /// open reports it. Fails iff a barrier does. Precondition: the medium may be stored to.
    pub(in crate::palloc) fn free_held(&mut self, block: Extent) -> Result<()> {
        if self.block(block.start, State::Held).ok() != Some(block) {
            return Ok(());
        }
        match self.free_used(block, &[]) {
            Err(error) if self.failed_sync.is_some() => return Err(error),
            Err(_) => self.free_used_unjoined(block, &[]), // the start marker is free on the disk already
            Ok(()) => {}
        }
        Ok(())
    }

    /// Whether live readers may be open, and no operation needs a barrier.
    #[inline]
    pub(super) fn is_shared_without_sync(&self) -> bool {
        self.medium.is_shared() && !self.medium.is_durable()
    }

    /// Fast path of freeing beside readers: holds a blob of an exact size. Returns false, unchanged, if the medium has none or is durable, if
    /// there is no such blob, if it is the first one or may be the last, or if its marker was overwritten.
    #[inline(always)]
    pub(super) fn hold_exact(&mut self, blob: u64) -> bool {
        self.held.has_ready && self.hold_beside_readers(blob)
    }

    #[inline(never)]
    fn hold_beside_readers(&mut self, blob: u64) -> bool {
        let start = Start::of_blob(blob);
        // A reclaim makes system calls and reserves memory: both may change errno, so `hold_for_readers` does it.
        let may_be = self.writable
            && self.held.new + 1 < BATCH
            && start.offset() <= self.size() - WORD
            && start != self.held.first;
        if !may_be || self.medium.ensure_space(start.marker(), Bytes::Preserve).is_err() {
            return false;
        }
        let marker = self.marker(start);
        let Some(data_len) = self.index.hold_exact(start, |data_len| marker == Marker::live(data_len)) else {
            return false;
        };
        let block = Extent { start, data_len };
        self.medium.store_start(start, Marker::free(data_len));
        debug_assert_eq!(self.block(start, State::Held).ok(), Some(block), "the slow path holds this block too");
        self.put_on_list(block);
        true
    }

    /// Fast path of allocating beside readers: allocates a ready block, if there is none of a better size in the index. Returns None,
    /// unchanged, otherwise.
    #[inline(always)]
    pub(super) fn alloc_ready(&mut self, requested: u64) -> Option<u64> {
        if self.held.has_ready { self.alloc_beside_readers(requested) } else { None }
    }

    #[inline(never)]
    fn alloc_beside_readers(&mut self, requested: u64) -> Option<u64> {
        if !self.writable || requested > MAX_EXACT {
            return None;
        }
        let request = Request::of(requested)?;
        let least = class_of(request.data_len)?;
        loop {
            let ready = self.held.ready.non_empty() >> least;
            let class = least + ((self.index.exact_classes() >> least) | ready).trailing_zeros() as usize;
            let block = Extent { start: self.held.ready.top(class)?, data_len: data_len_of_class(class) };
            if block.data_len > request.data_len + SPLIT_ABOVE {
                return None;
            }
            self.medium.ensure_space(block.start.marker(), Bytes::Preserve).ok()?;
            self.medium.ensure_space(block.data(), Bytes::Scratch).ok()?;
            self.held.ready.pop(block);
            // As `free_held`.
            if self.marker(block.start) == Marker::free(block.data_len) {
                debug_assert_eq!(
                    self.block(block.start, State::Held).ok(),
                    Some(block),
                    "the slow path frees this block"
                );
                let is_smaller = |found: Extent| class_of(found.data_len).is_some() && found.data_len < block.data_len;
                debug_assert!(
                    !matches!(self.find_free(request), Ok(Some(found)) if is_smaller(found)),
                    "the slow path finds no block of a smaller exact size"
                );
                self.medium.store_start(block.start, Marker::live(block.data_len));
                self.index.put_live(block.start);
                self.note_live_for_readers(block.start);
                return Some(block.blob());
            }
        }
    }

    /// Frees a live block that live readers may be reading.
    pub(super) fn hold_for_readers(&mut self, block: Extent) -> Result<()> {
        self.hold(block)?;
        self.note_held(block);
        if block.start == self.held.first {
            self.show_first();
        }
        if self.held.new >= BATCH {
            self.reclaim(false);
        }
        Ok(())
    }

    /// A block of a transaction that was committed is held. It is free on the medium. The caller calls `after_commit` in the end.
    pub(super) fn note_held_by_commit(&mut self, block: Extent) {
        self.index.put_held(block.start);
        self.note_held(block);
    }

    /// The blobs of a transaction that was committed are in the index.
    pub(super) fn after_commit(&mut self) {
        if self.medium.is_shared() {
            self.show_first();
            if self.held.new >= BATCH {
                self.reclaim(false);
            }
        }
    }

    fn note_held(&mut self, block: Extent) {
        if self.held.list.try_reserve(1).is_ok() {
            self.put_on_list(block);
        } else {
            self.held.new += 1;
            self.held.unlisted = Some(self.medium.epoch());
        }
    }

    /// Precondition: the list has room.
    #[inline]
    fn put_on_list(&mut self, block: Extent) {
        let epoch = self.medium.epoch();
        let held = &mut self.held;
        debug_assert!(held.list.len() < held.list.capacity(), "there is memory for it");
        held.new += 1;
        held.bytes += block.data_len;
        held.list.push_back(HeldBlock { block, epoch });
    }

    /// Begins an epoch, and frees the blocks that no reader can reach any more. `thorough`: asks whether the readers that hold some back
    /// live.
    pub(in crate::palloc) fn reclaim(&mut self, thorough: bool) {
        if self.held.is_empty() || !self.medium.is_shared() || !self.writable || self.may_store().is_err() {
            return;
        }
        self.end_epoch(|medium| medium.next_epoch(thorough));
        self.begin_batch();
        if thorough {
            self.free_ready();
        }
    }

    /// Makes room in the list for the next batch. If there is no memory, each block that is held from now on ends a batch.
    fn begin_batch(&mut self) {
        self.held.new = if self.held.list.try_reserve(BATCH).is_ok() { 0 } else { BATCH };
    }

    /// Ends the epoch by `end`, which returns the oldest one that a reader pins. Frees the blocks that were held before that.
    fn end_epoch(&mut self, end: impl FnOnce(&mut M) -> u64) {
        self.show_first(); // before the epoch ends: the old one is held in it
        let oldest = end(&mut self.medium);
        let is_before = |epoch: u64| epoch < oldest || (is_broken(Rule::HeldEpoch) && epoch == oldest);
        while let Some(held) = self.held.list.pop_front() {
            if !is_before(held.epoch) {
                self.held.list.push_front(held);
                break;
            }
            self.held.bytes -= held.block.data_len;
            if self.held.has_ready && self.held.ready.push(held.block) {
                continue;
            }
            if self.free_held(held.block).is_err() {
                break;
            }
        }
        if self.held.list.is_empty() && self.held.unlisted.is_some_and(is_before) {
            self.free_ready();
            self.free_unlisted();
        }
        self.show_held();
    }

    /// Makes known how much is held back.
    pub(in crate::palloc) fn show_held(&self) {
        self.medium.show_held(self.held.bytes);
    }

    /// The ready blocks become free ones of the index.
    fn free_ready(&mut self) {
        while let Some(block) = self.held.ready.pop_any() {
            if self.free_held(block).is_err() {
                break;
            }
        }
    }

    /// Frees all held blocks of the index. None is in the list, or ready.
    #[cold]
    fn free_unlisted(&mut self) {
        let mut from = HEADER;
        while let Some(start) = self.index.next_start(from) {
            from = start.blob();
            if self.index.state(start) != Some(State::Held) {
                continue;
            }
            if let Ok(block) = self.block(start, State::Held) {
                from = block.end();
                if self.free_held(block).is_err() {
                    return;
                }
            }
        }
        self.held.unlisted = None;
    }

    /// Whether held blocks may make room for so many bytes, and `using_reserves` has not freed them yet. As long as there is slack it is
    /// not asked for.
    pub(super) fn may_reclaim(&self, data_len: u64) -> bool {
        let fits = self.slack().is_some_and(|slack| slack.data_len >= data_len);
        !self.held.is_empty() && !self.held.reclaimed && !fits
    }

    /// Panics unless all blocks in the list, and those that are ready, are held, each once. For tests.
    pub(super) fn check_held(&self) {
        let mut blocks: Vec<Extent> = self.held.list.iter().map(|held| held.block).collect();
        assert_eq!(self.held.bytes, blocks.iter().map(|block| block.data_len).sum::<u64>(), "bytes of the list");
        blocks.extend(self.held.ready.all());
        blocks.sort_unstable_by_key(|block| block.start);
        assert!(blocks.windows(2).all(|two| two[0].end() <= two[1].start.offset()), "no block is held twice");
        for block in blocks {
            assert_eq!(self.block(block.start, State::Held).ok(), Some(block), "{block:?} is held");
        }
        self.held.ready.check_invariants();
    }

    /// Frees the blocks that no reader can reach, and runs `operation` once more. Fails iff that does, or a sync failed.
    pub(super) fn reclaimed<T>(&mut self, operation: impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        self.reclaim(true);
        self.check_synced()?; // freeing them may have flushed
        self.held.reclaimed = true;
        let result = operation(self);
        self.held.reclaimed = false;
        result
    }

    /// Prepares for readers, which may come from now on. Fails iff a marker was overwritten, or the disk has no space for a blob.
    pub(in crate::palloc) fn begin_sharing(&mut self) -> Result<()> {
        if self.medium.has_holes() {
            // A load from a hole takes space on some file systems. Readers can't.
            let mut from = HEADER;
            while let Some(start) = self.index.next_start(from) {
                from = start.blob();
                if self.index.is_live(start) {
                    let block = self.block(start, State::Live)?;
                    self.medium.ensure_space(block.start.offset()..block.end(), Bytes::Preserve)?;
                }
            }
        }
        self.held.has_ready = self.is_shared_without_sync() && self.held.ready.prepare().is_ok();
        self.begin_batch();
        self.first()?; // fails where `show_first` would keep an older one
        self.show_first();
        Ok(())
    }

    /// Ends sharing: no read section begins any more. Frees the blocks that no reader can reach.
    pub(super) fn end_sharing(&mut self) {
        // Blocks that leave the quarantine are held. On failure nothing is stored to the medium any more.
        if self.medium.is_shared() && self.take_back_record().is_ok() {
            self.held.has_ready = false;
            self.end_epoch(M::end_sharing);
            self.free_ready();
        }
    }

    /// Keeps `held.first` right: a live block starts there from now on.
    #[inline]
    pub(super) fn note_live_for_readers(&mut self, start: Start) {
        if start < self.held.first {
            self.held.first = start;
            self.medium.show_first(start.blob());
        }
    }

    /// Makes the first blob known to readers.
    fn show_first(&mut self) {
        if self.held.first != Start::NOWHERE && !self.index.is_live(self.held.first) {
            // If a marker was overwritten, the first one stays as it was.
            match self.next(self.held.first.blob()) {
                Ok(0) => self.held.first = Start::NOWHERE,
                Ok(blob) => self.held.first = Start::of_blob(blob),
                Err(_) => return,
            }
        }
        let first = Some(self.held.first).filter(|&first| first != Start::NOWHERE);
        self.medium.show_first(first.map_or(0, Start::blob));
    }
}
