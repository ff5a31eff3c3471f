// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frees *used* blocks: those that the index does not have as free. Their start markers may say already that they are free: held blocks, and
//! reserved ones of transactions. And joins free blocks that could not be joined when they were freed.

use super::Heap;
use crate::palloc::Result;
use crate::palloc::block_index::State;
use crate::palloc::format::{Extent, Marker, Start};
use crate::palloc::medium::Medium;

impl<M: Medium> Heap<M> {
    /// Frees a used block, joined with its free neighbours. `inner` are used blocks in it behind the first one, if it is several. Fails as
    /// `plan_join` and `free_as_planned`, and iff a sync failed before.
    #[inline(never)]
    pub(super) fn free_used(&mut self, block: Extent, inner: &[Extent]) -> Result<()> {
        self.check_synced()?; // a free before this one may have cut the file, which flushes
        let join = self.plan_join(block)?;
        let is_free_already = join.whole == block && self.marker(block.start) == Marker::free(block.data_len);
        if !is_free_already {
            return self.free_as_planned(block, inner, join);
        }
        self.ensure_words([Some(block.end_marker())])?;
        self.replace_in_index(block, join);
        Ok(())
    }

    /// As `free_used`, and cannot fail: if the markers of a neighbour were overwritten or the disk has no space, the block is joined later.
    /// Precondition: no operation needs a barrier.
    pub(super) fn free_used_joined_or_not(&mut self, block: Extent, inner: &[Extent]) {
        if self.free_used(block, inner).is_err() {
            self.free_used_unjoined(block, inner);
        }
    }

    /// Frees a used block, and leaves it to later to join it with its neighbours. Precondition: no operation needs a barrier, or its start
    /// marker is free on the disk already and `inner` is empty.
    pub(super) fn free_used_unjoined(&mut self, block: Extent, inner: &[Extent]) {
        self.tx.unjoined = true;
        self.medium.store_start(block.start, Marker::free(block.data_len));
        self.erase_inner(inner);
        self.index.remove_used(block.start);
        self.add_to_index(block);
    }

    /// Removes these used blocks, which have become a part of another one, from the index, and erases their start markers.
    pub(super) fn erase_inner(&mut self, inner: &[Extent]) {
        for block in inner {
            self.index.remove_used(block.start);
            self.erase([Some(block.start.offset())]);
        }
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

    /// Joins two free blocks of the index, which are side by side.
    fn join(&mut self, before: Extent, behind: Extent) -> Result<Extent> {
        self.check_synced()?; // as in `free_used`
        let whole = Extent::between(before.start, behind.end());
        self.publish_free(whole, [Some(behind.start.offset()), None])?;
        self.take_from_index(before);
        self.take_from_index(behind);
        self.add_to_index(whole);
        Ok(whole)
    }
}
