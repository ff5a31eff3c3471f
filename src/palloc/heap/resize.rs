// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resizing: shrinks in place, grows in place into free space behind the blob, or moves the blob.

use super::Heap;
use super::alloc::{Data, Place, data_len_in_step, split};
use crate::palloc::Result;
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, FREE_HEAD, Intent, MIN_BLOCK, Marker, Request, STEP};
use crate::palloc::medium::{Bytes, Medium};
use crate::palloc::sabotage::{Rule, is_broken};

impl<M: Medium> Heap<M> {
    /// Resizes a blob to at least `requested` bytes. Returns its offset, a new one if it was moved. Offset 0 allocates. Fails as `alloc`
    /// and `free` do; then the blob is as it was.
    pub fn resize(&mut self, blob: u64, requested: u64) -> Result<u64> {
        if blob == 0 {
            return self.alloc(requested);
        }
        self.begin_change()?;
        let block = self.live(blob)?;
        self.check_end(block)?;
        let request = Request::of(requested).ok_or(Error::TooLarge(requested))?;
        let data_len = request.data_len;
        if requested <= block.data_len {
            let kept = Extent { start: block.start, data_len };
            // Not beside live readers: it stores where they may read.
            let may_shrink = !self.medium.is_shared() || is_broken(Rule::ShrinkAlone);
            let is_worth_it = data_len < block.data_len && split(block.data_len, data_len) == data_len;
            if may_shrink && is_worth_it && kept.end() < Intent::MAX_OFFSET {
                self.shrink(block, kept)?;
            }
            return Ok(blob);
        }
        self.using_reserves(&|heap: &mut Self| {
            heap.with_tail_restored(|heap| match heap.grow_in_place(block, request)? {
                true => Ok(blob),
                false => heap.move_blob(block, requested),
            })
        })
    }

    /// Gives back the end of a live block: `kept` remains. Publishes by an intent in the old end marker. The start marker of the rest
    /// is written where the blob has bytes, and an undone shrink must leave them.
    ///
    /// ```text
    ///   before   block: live             | free  end      (or a live block is behind, or slack)
    ///   after    kept: live | rest: free         end
    /// ```
    fn shrink(&mut self, block: Extent, kept: Extent) -> Result<()> {
        let (end, behind) = self.free_space_behind(block)?;
        let rest = Extent::between(kept.next(), end);
        self.index.prepare(rest.start)?;
        self.medium.ensure_space(kept.end_marker()..kept.end() + FREE_HEAD, Bytes::Preserve)?;
        let (behind_start, slack) = (behind.map(|behind| behind.start.offset()), self.slack_before(end));
        let old_end_marker = block.end_marker();
        let start = block.start.offset();
        self.ensure_words([Some(start), Some(old_end_marker), behind_start, slack, Some(rest.end_marker())])?;

        self.publish_word(old_end_marker, Intent::ShrinkTo(rest.start).word())?;
        let overwritten = [kept.end_marker(), rest.start.offset()].map(|at| (at, self.medium.load(at)));
        self.medium.store(kept.end_marker(), Marker::live(kept.data_len).0);
        self.medium.store_start(rest.start, Marker::free(rest.data_len));
        let prepared = self.barrier();
        if let Err(error) = prepared.and_then(|()| self.publish(block.start, Marker::live(kept.data_len))) {
            overwritten.into_iter().for_each(|(at, word)| self.medium.store(at, word));
            self.medium.store(old_end_marker, Marker::live(block.data_len).0);
            return Err(error);
        }
        self.erase([Some(old_end_marker), behind_start, slack]);
        self.add_free_space(rest, behind.into_iter());
        Ok(())
    }

    /// Grows a live block into free space behind it. Returns false, unchanged, if there is not enough.
    fn grow_in_place(&mut self, block: Extent, request: Request) -> Result<bool> {
        let free_start = block.next();
        let free_end = self.free_at(free_start)?.unwrap_or(block).end();
        let longest = Extent::between(block.start, free_end).data_len;
        let (new_len, free_end) = if longest >= request.least {
            (split(longest, request.data_len), free_end)
        } else if self.dynamic && free_end == self.size() {
            let data_len = data_len_in_step(block.start, request).ok_or(Error::TooLarge(request.least))?;
            if data_len - block.data_len < STEP {
                return Ok(false);
            }
            // The space that the file grows by is a block until it is joined.
            let at_least = if data_len - block.data_len < MIN_BLOCK { data_len + STEP } else { data_len };
            match self.extend_tail(free_start, Extent { start: block.start, data_len: at_least }.end()) {
                Ok(()) => {}
                // After a failed sync nothing is stored any more: the blob is not moved either.
                Err(error) if matches!(error, Error::Busy) || self.failed_sync.is_some() => return Err(error),
                Err(_) => return Ok(false),
            }
            let longest = Extent::between(block.start, self.medium.file_len()).data_len;
            (split(longest, data_len), self.medium.file_len())
        } else {
            return Ok(false);
        };
        // A new end marker less than 16 bytes behind the old one would overwrite the next start marker. Only odd media have that.
        if new_len - block.data_len < STEP {
            return Ok(false);
        }
        let grown = Extent { start: block.start, data_len: new_len };
        self.ensure_words([Some(block.start.offset())])?;
        self.claim(grown, Extent::between(free_start, free_end), Marker::live(new_len).0, Data::Any)?;
        Ok(true)
    }

    /// Moves the blob of a live block to a place with room for `requested` bytes. Returns its new offset. Two start markers change:
    /// the end marker of the new block holds the intent to free the old one until that is done.
    fn move_blob(&mut self, old: Extent, requested: u64) -> Result<u64> {
        if old.start.offset() >= Intent::MAX_OFFSET {
            return Err(Error::TooLarge(requested));
        }
        self.free_space_behind(old)?; // fails before anything is changed
        let Place { block: new, free } = self.place(requested)?;
        self.medium.ensure_space(old.data(), Bytes::Preserve)?;
        self.medium.ensure_space(new.data(), Bytes::Scratch)?;
        self.medium.copy(old.blob(), new.blob(), old.data_len);
        self.claim(new, free, Intent::Leave(old.start).word(), Data::Stored)?;
        self.free_block(old).inspect_err(|_| {
            let _ = self.free_without_barrier(new);
            // If no sync failed, the new block may be on the disk with its intent.
            let _ = self.barrier();
        })?;
        self.medium.store(new.end_marker(), Marker::live(new.data_len).0);
        Ok(new.blob())
    }
}
