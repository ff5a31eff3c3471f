// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frees blocks that may be free on the medium already, joined with their free neighbours; and joins free blocks that could not be joined when
//! they were freed.

use super::Heap;
use crate::palloc::Result;
use crate::palloc::format::{Extent, Marker, Start};
use crate::palloc::free_index::State;
use crate::palloc::medium::Medium;

impl<M: Medium> Heap<M> {
    /// Frees a block, joined with its neighbours unless their markers were overwritten or the disk has no space. Precondition: no
    /// operation needs a barrier.
    pub(super) fn free_joined_if_possible(&mut self, block: Extent, inner: &[Extent]) {
        if self.free_joined(block, inner).is_err() {
            self.enter_unjoined(block, inner);
        }
    }

    /// Frees a block, and leaves it to later to join it with its neighbours. Precondition: no operation needs a barrier, or its start marker
    /// is free on the disk already and `inner` is empty.
    pub(super) fn enter_unjoined(&mut self, block: Extent, inner: &[Extent]) {
        self.tx.unjoined = true;
        self.medium.store_start(block.start, Marker::free(block.data_len));
        self.forget_inner(inner);
        self.index.remove_used(block.start);
        self.enter(block);
    }

    /// Erases the start markers of these, which have become a part of another block, and removes them from the index.
    pub(super) fn forget_inner(&mut self, inner: &[Extent]) {
        for block in inner {
            self.index.remove_used(block.start);
            self.medium.store_start(block.start, Marker(0));
        }
    }

    /// Frees a block that may be free on the medium already, joined with its free neighbours. `inner` are blocks in it behind the first
    /// one, if it is several. Fails as `release_joined`, and iff the markers of the free block behind it were overwritten, or a
    /// sync failed before.
    #[inline(never)]
    pub(super) fn free_joined(&mut self, block: Extent, inner: &[Extent]) -> Result<()> {
        self.check_synced()?; // the free before this one may have cut the file, which flushes
        let joined = self.joined(block)?;
        let is_free_already = joined.whole == block && self.marker(block.start) == Marker::free(block.data_len);
        if !is_free_already {
            return self.release_joined(block, inner, joined);
        }
        self.ensure_words([Some(block.end_marker())])?;
        self.note_released(block, joined);
        Ok(())
    }

    /// Joins all free blocks that are side by side.
    pub(super) fn join_free_blocks(&mut self) -> Result<()> {
        let (mut from, mut last) = (0, None);
        while let Some(block) = self.block_from(from)? {
            from = block.end();
            let block = Extent { start: Start::of_blob(block.ptr), data_len: block.size };
            let is_free = self.index.state(block.start) == Some(State::Free);
            last = match last {
                Some(before) if is_free => Some(self.join(before, block)?),
                _ => is_free.then_some(block),
            };
        }
        self.tx.unjoined = false;
        Ok(())
    }

    fn join(&mut self, before: Extent, behind: Extent) -> Result<Extent> {
        self.check_synced()?;
        let whole = Extent::between(before.start, behind.end());
        let starts = (Some(whole.start.offset()), Some(behind.start.offset()));
        self.ensure_words([starts.0, starts.1, Some(whole.end_marker())])?;
        self.publish(whole.start, Marker::free(whole.data_len))?;
        self.erase([Some(behind.start.offset())]);
        self.take_from_index(before);
        self.take_from_index(behind);
        self.enter(whole);
        Ok(whole)
    }
}
