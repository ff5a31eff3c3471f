// SPDX-License-Identifier: MIT OR Apache-2.0
//! Freeing: makes a live block a free one, joined with its free neighbours.

use super::Heap;
use crate::palloc::Result;
use crate::palloc::format::{Extent, Marker, Start, WORD};
use crate::palloc::medium::{Bytes, Medium};

/// A live block that is freed, and the free blocks that it is joined with.
pub(super) struct Joined {
    /// The free block that they become. It reaches to the end of the slack if the live block is the last one.
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
        self.free_between_live(blob) || self.hold_near(blob)
    }

    /// As `free`, by the slow path.
    #[inline(never)]
    pub fn free_any(&mut self, blob: u64) -> Result<()> {
        if !self.has_fast_paths() {
            return self.free_carefully(blob);
        }
        let block = self.live(blob)?;
        self.check_end(block)?;
        self.release_at_once(block)
    }

    /// As `free`, on a medium that has no fast paths.
    #[inline(never)]
    fn free_carefully(&mut self, blob: u64) -> Result<()> {
        self.begin_careful_change()?;
        let block = self.live(blob)?;
        self.check_end(block)?;
        if self.keeping.is_open() { self.release_beside_caches(block) } else { self.release(block) }
    }

    /// Fast path: frees a blob of an exact size between two live ones, with one store. Its end marker stays that of a live block.
    /// Returns false, unchanged, if the medium is durable, shared or read only, if there is no such blob, or if its marker was overwritten.
    #[inline(always)]
    fn free_between_live(&mut self, blob: u64) -> bool {
        let start = Start::of_blob(blob);
        if !self.has_fast_paths()
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
            !matches!(self.joined(block), Ok(joined) if joined.whole != block),
            "the other way joins nothing either"
        );
        self.medium.store_start(start, Marker::free(data_len));
        true
    }

    /// Frees a live block: joins it with free neighbours, and with the slack if it is then the last block of a dynamic medium.
    ///
    /// ```text
    ///   before   free | block: live | free  end      (without a free neighbour, the joined block starts or ends where the block does)
    ///   after    free                       end
    /// ```
    pub(super) fn release(&mut self, block: Extent) -> Result<()> {
        if self.medium.is_shared() {
            return self.hold_for_readers(block);
        }
        self.release_at_once(block)
    }

    /// As `release`. Precondition: no reader can reach the block.
    #[inline(always)]
    fn release_at_once(&mut self, block: Extent) -> Result<()> {
        let joined = self.joined(block)?;
        self.release_joined(block, &[], joined)
    }

    /// Frees `block`, joined as `joined` says. `inner` are blocks in it behind the first one, if it is several. Fails iff the disk has no
    /// space for the markers, or the barrier fails; then nothing changed.
    #[inline(always)]
    pub(super) fn release_joined(&mut self, block: Extent, inner: &[Extent], joined: Joined) -> Result<()> {
        let (whole, behind) = (joined.whole, joined.behind.map(|behind| behind.start.offset()));
        let slack = self.slack_before(whole.end());
        let starts = (Some(whole.start.offset()), Some(block.start.offset()));
        self.ensure_words([starts.0, starts.1, behind, slack, Some(whole.end_marker())])?;
        let marker = Marker::free(whole.data_len);
        self.publish(whole.start, marker)?;
        // Before the markers inside are erased: salvage of a killed medium goes by one or the other. Slack has no end marker.
        if slack.is_none() {
            self.medium.store(whole.end_marker(), marker.0);
        }
        self.erase([joined.before.map(|_| block.start.offset()), behind, slack]);
        self.forget_inner(inner);
        self.note_released(block, joined);
        Ok(())
    }

    /// Frees a live block without a barrier: for an operation that is undone. After a failed sync nothing else is allowed; otherwise the
    /// caller does the barrier.
    pub(super) fn release_without_barrier(&mut self, block: Extent) -> Result<()> {
        let joined = self.joined(block)?;
        let slack = self.slack_before(joined.whole.end());
        self.medium.store_start(joined.whole.start, Marker::free(joined.whole.data_len));
        self.erase([slack]);
        self.note_released(block, joined);
        Ok(())
    }

    /// The free neighbours that a live block will be joined with, and the slack if they reach it. Changes nothing. Fails iff the markers
    /// of the free block behind it were overwritten.
    pub(super) fn joined(&self, block: Extent) -> Result<Joined> {
        let (end, behind) = self.free_space_behind(block)?;
        let before = self.free_before(block.start);
        let start = before.map_or(block.start, |before| before.start);
        Ok(Joined { whole: Extent::between(start, end), before, behind })
    }

    /// After the start marker of `joined.whole` was stored: enters it into the index in place of `block` and its neighbours, and stores its
    /// end marker if it needs one.
    #[inline(always)]
    pub(super) fn note_released(&mut self, block: Extent, joined: Joined) {
        self.index.remove_used(block.start);
        let Joined { whole, before, behind } = joined;
        let becomes_slack = self.dynamic && whole.end() == self.medium.file_len();
        let grows = !becomes_slack && before.is_some_and(|before| self.index.grow_free(before, whole));
        if !grows {
            return self.note_free(whole, before.into_iter().chain(behind));
        }
        behind.into_iter().for_each(|behind| self.take_from_index(behind));
        self.medium.store(whole.end_marker(), Marker::free(whole.data_len).0);
    }

    /// The free space that a block can be joined with: where it ends, and the free block of the index in it.
    pub(super) fn free_space_behind(&self, block: Extent) -> Result<(u64, Option<Extent>)> {
        let behind = self.free_at(block.next())?;
        let end = behind.unwrap_or(block).end();
        Ok((if end == self.size() { self.medium.file_len() } else { end }, behind))
    }

    /// Enters a free block that took the place of those in `joined`. At the end of a dynamic medium it becomes slack.
    pub(super) fn note_free(&mut self, block: Extent, joined: impl Iterator<Item = Extent>) {
        joined.for_each(|old| self.take_from_index(old));
        if self.dynamic && block.end() == self.medium.file_len() {
            self.blocks_end = block.start;
            self.turns.note_shrunk();
            self.trim_slack();
        } else {
            self.enter(block);
        }
    }

    /// Enters a free block into the index and writes its end marker: if it is a recent one, that of a live block, as
    /// `alloc_recent` expects.
    pub(super) fn enter(&mut self, block: Extent) {
        let is_recent = self.index.add_recent(block);
        if !is_recent {
            self.index.add_free(block);
        }
        let marker = if is_recent { Marker::live(block.data_len) } else { Marker::free(block.data_len) };
        self.medium.store(block.end_marker(), marker.0);
    }
}
