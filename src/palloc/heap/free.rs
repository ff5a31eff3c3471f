// SPDX-License-Identifier: MIT OR Apache-2.0
//! Freeing: makes a live block a free one, joined with its free neighbours.

use super::Heap;
use crate::palloc::Result;
use crate::palloc::format::{Extent, Marker, Start, WORD};
use crate::palloc::medium::{Bytes, Medium};

/// A block that is to be freed, and the free blocks that it is to be joined with.
pub(super) struct Join {
    /// The free block that they become. It reaches to the end of the slack if the block is the last one.
    pub(super) whole: Extent,
    pub(super) before: Option<Extent>,
    pub(super) behind: Option<Extent>,
}

impl<M: Medium> Heap<M> {
    /// Frees the blob at this offset. Fails iff no blob starts there, its markers or those of a neighbour were overwritten, or the
    /// medium can't be changed; then nothing changed.
    #[inline]
    pub fn free(&mut self, blob: u64) -> Result<()> {
        if self.free_quickly(blob) { Ok(()) } else { self.free_any(blob) }
    }

    /// The fast paths. Returns false, unchanged, if there is none now; the caller then uses `free_any`.
    #[inline(always)]
    pub fn free_quickly(&mut self, blob: u64) -> bool {
        self.free_between_live(blob) || self.hold_exact(blob)
    }

    /// As `free`, by the slow path.
    #[inline(never)]
    pub fn free_any(&mut self, blob: u64) -> Result<()> {
        if !self.is_plain() {
            return self.free_carefully(blob);
        }
        let block = self.live(blob)?;
        self.check_end(block)?;
        self.free_and_join(block)
    }

    /// As `free`, on a medium that is not plain.
    #[inline(never)]
    fn free_carefully(&mut self, blob: u64) -> Result<()> {
        self.begin_careful_change()?;
        let block = self.live(blob)?;
        self.check_end(block)?;
        if self.keeping.is_open() { self.free_beside_caches(block) } else { self.free_block(block) }
    }

    /// Fast path: frees a blob of an exact size between two live ones, with one store. Its end marker stays that of a live block.
    /// Returns false, unchanged, if the medium is not plain, if there is no such blob, if its marker was overwritten, or if the disk has no
    /// space.
    #[inline(always)]
    fn free_between_live(&mut self, blob: u64) -> bool {
        let start = Start::of_blob(blob);
        if !self.is_plain()
            || start.offset() > self.size() - WORD
            || self.medium.ensure_space(start.marker(), Bytes::Preserve).is_err()
        {
            return false;
        }
        // The load is often a cache miss. The index finds the size, so that nothing waits for it but the comparison.
        let marker = self.marker(start);
        let confirm = |data_len| marker == Marker::live(data_len);
        let Some(data_len) = self.index.free_between_live(start, confirm) else { return false };
        let block = Extent { start, data_len };
        debug_assert!(
            !matches!(self.plan_join(block), Ok(join) if join.whole != block),
            "the slow path joins nothing either"
        );
        self.medium.store_start(start, Marker::free(data_len));
        true
    }

    /// Frees a live block: at once, or, on a shared medium, when no reader can read it any more.
    pub(super) fn free_block(&mut self, block: Extent) -> Result<()> {
        if self.medium.is_shared() { self.hold_for_readers(block) } else { self.free_and_join(block) }
    }

    /// Frees a live block: joins it with free neighbours, and with the slack if it is then the last block of a dynamic medium. Fails as
    /// `plan_join` and `free_as_planned`. Precondition: no reader can reach the block.
    ///
    /// ```text
    ///   before   free | block: live | free  end      (without a free neighbour, the joined block starts or ends where the block does)
    ///   after    free                       end
    /// ```
    #[inline(always)]
    fn free_and_join(&mut self, block: Extent) -> Result<()> {
        let join = self.plan_join(block)?;
        self.free_as_planned(block, &[], join)
    }

    /// The free neighbours that a block will be joined with when it is freed, and the slack if they reach it. Changes nothing. Fails iff
    /// the markers of the free block behind it were overwritten.
    pub(super) fn plan_join(&self, block: Extent) -> Result<Join> {
        let (end, behind) = self.free_space_behind(block)?;
        let before = self.free_before(block.start);
        let start = before.map_or(block.start, |before| before.start);
        Ok(Join { whole: Extent::between(start, end), before, behind })
    }

    /// Frees `block`, joined as `join` says. `inner` are blocks in it behind the first one, if it is several. Fails as `publish_free`.
    #[inline(always)]
    pub(super) fn free_as_planned(&mut self, block: Extent, inner: &[Extent], join: Join) -> Result<()> {
        let dead = [join.before.map(|_| block.start.offset()), join.behind.map(|behind| behind.start.offset())];
        self.publish_free(join.whole, dead)?;
        self.erase_inner(inner);
        self.replace_in_index(block, join);
        Ok(())
    }

    /// Publishes that `whole` is one free block, which leads over the start markers `dead` and that of the slack, if it reaches to its end.
    /// Stores its end marker, unless there is slack, and erases those start markers. Fails iff the disk has no space for the markers, or
    /// the barrier fails; then nothing changed.
    #[inline(always)]
    pub(super) fn publish_free(&mut self, whole: Extent, dead: [Option<u64>; 2]) -> Result<()> {
        let slack = self.slack_before(whole.end());
        self.ensure_words([Some(whole.start.offset()), dead[0], dead[1], slack, Some(whole.end_marker())])?;
        let marker = Marker::free(whole.data_len);
        self.publish(whole.start, marker)?;
        // Before the markers inside are erased: salvage of a killed medium goes by one or the other. Slack has no end marker.
        if slack.is_none() {
            self.medium.store(whole.end_marker(), marker.0);
        }
        self.erase([dead[0], dead[1], slack]);
        Ok(())
    }

    /// Frees a live block without a barrier: for an operation that is undone. After a failed sync nothing else is allowed; otherwise the
    /// caller does the barrier.
    pub(super) fn free_without_barrier(&mut self, block: Extent) -> Result<()> {
        let join = self.plan_join(block)?;
        let marker = Marker::free(join.whole.data_len);
        self.medium.store_start(join.whole.start, marker);
        match self.slack_before(join.whole.end()) {
            None => self.medium.store(join.whole.end_marker(), marker.0),
            slack => self.erase([slack]),
        }
        self.replace_in_index(block, join);
        Ok(())
    }

    /// Enters `join.whole` into the index in place of `block` and its neighbours. Precondition: its start marker was stored, and, if there
    /// is a free block before, its end marker.
    #[inline(always)]
    pub(super) fn replace_in_index(&mut self, block: Extent, join: Join) {
        self.index.remove_used(block.start);
        let Join { whole, before, behind } = join;
        let becomes_slack = self.dynamic && whole.end() == self.medium.file_len();
        let grows = !becomes_slack && before.is_some_and(|before| self.index.grow_free(before, whole));
        if !grows {
            return self.add_free_space(whole, before.into_iter().chain(behind));
        }
        behind.into_iter().for_each(|behind| self.take_from_index(behind));
    }

    /// The free space that a block can be joined with: where it ends, and the free block of the index in it.
    pub(super) fn free_space_behind(&self, block: Extent) -> Result<(u64, Option<Extent>)> {
        let behind = self.free_at(block.next())?;
        let end = behind.unwrap_or(block).end();
        Ok((if end == self.size() { self.medium.file_len() } else { end }, behind))
    }

    /// Enters a free block in place of those in `replaced`. At the end of a dynamic medium it becomes slack.
    pub(super) fn add_free_space(&mut self, block: Extent, replaced: impl Iterator<Item = Extent>) {
        replaced.for_each(|old| self.take_from_index(old));
        if self.dynamic && block.end() == self.medium.file_len() {
            self.blocks_end = block.start;
            self.turns.note_shrunk();
            self.trim_slack();
        } else {
            self.add_to_index(block);
        }
    }

    /// Adds a free block to the index and writes its end marker: if it is a recent one, that of a live block, as
    /// `alloc_recent` expects.
    pub(super) fn add_to_index(&mut self, block: Extent) {
        let is_recent = self.index.add_recent(block);
        if !is_recent {
            self.index.add_free(block);
        }
        let marker = if is_recent { Marker::live(block.data_len) } else { Marker::free(block.data_len) };
        self.medium.store(block.end_marker(), marker.0);
    }
}
