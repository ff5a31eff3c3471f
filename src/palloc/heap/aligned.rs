// SPDX-License-Identifier: MIT OR Apache-2.0
//! Aligned blobs: a block that starts inside of a free one, of which the first part stays free.
//!
//! ```text
//!   before   free                                        end
//!   after    front: free  end | block: live  end | rest: free  end
//! ```
//!
//! Everything but the new start marker of the free block is inside of that, so nothing leads there before it is published: one store to one
//! start marker, as ever.

use super::alloc::{Data, Place, split};
use super::{Heap, data_len_at};
use crate::palloc::Result;
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, MIN_BLOCK, Marker, Request, STEP, Start};
use crate::palloc::medium::Medium;

/// The largest alignment.
pub const MAX_ALIGNMENT: u64 = 1 << 30;

/// So many free blocks that are perhaps too short are looked at, before one is taken that holds the blob wherever it starts.
const LOOKS: usize = 64;

impl<M: Medium> Heap<M> {
    /// As `alloc`, and the offset of the blob is a multiple of `alignment`. Fails iff that is no power of two up to MAX_ALIGNMENT, or as
    /// `alloc`.
    pub fn alloc_aligned(&mut self, alignment: u64, requested: u64) -> Result<u64> {
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return Err(Error::BadAlignment(alignment));
        }
        let alignment = alignment.max(STEP);
        self.begin_change()?;
        self.using_reserves(&|heap: &mut Self| {
            heap.with_tail_restored(|heap| {
                let Place { block, free } = heap.place_aligned(alignment, requested)?;
                match block.start == free.start {
                    true => heap.claim(block, free, Marker::live(block.data_len).0, Data::Any)?,
                    false => heap.claim_inside(block, free)?,
                }
                Ok(block.blob())
            })
        })
    }

    fn place_aligned(&mut self, alignment: u64, requested: u64) -> Result<Place> {
        let request = Request::of(requested).ok_or(Error::TooLarge(requested))?;
        let data_len = request.data_len;
        // A free block with so many bytes holds the blob wherever it starts.
        let ample = Request::of(data_len + alignment + MIN_BLOCK).ok_or(Error::TooLarge(requested))?;
        let inside = |free: Extent| {
            let start = aligned_start(free.start, alignment);
            let longest = free.end_marker().checked_sub(start.blob()).filter(|&len| len >= request.least)?;
            Some(Place { block: Extent { start, data_len: split(longest, data_len) }, free })
        };
        let first = self.find_free(request)?.and_then(inside);
        let found = match first.or_else(|| self.look_for(data_len, inside)) {
            None => self.find_free(ample)?.and_then(inside),
            found => found,
        };
        if let Some(place) = found {
            self.check_free(place.free)?;
            return Ok(place);
        }
        if self.may_reclaim(ample.data_len) {
            return Err(Error::Held);
        }
        if !self.dynamic {
            return Err(Error::Full { size: requested });
        }
        let start = self.start_of_growth();
        let block = Extent { start: aligned_start(start, alignment), data_len };
        self.extend_tail(start, block.end())?;
        let free = Extent::between(start, self.medium.file_len());
        inside(free).ok_or(Error::Full { size: requested }) // it was made long enough
    }

    /// Looks for a free block in which an aligned place happens to be.
    fn look_for(&self, data_len: u64, inside: impl Fn(Extent) -> Option<Place>) -> Option<Place> {
        let next = |from| self.index.next_other(from, data_len, |start| data_len_at(&self.medium, start));
        let free = std::iter::successors(next(0), |free| next(free.end()));
        free.take(LOOKS).find_map(inside)
    }

    /// Makes `block` a live one inside of `free`, a free block or the slack, in front of which a free block stays. Fails iff there is no
    /// memory, no space on the disk, or a barrier fails. The medium is then as it was.
    fn claim_inside(&mut self, block: Extent, free: Extent) -> Result<()> {
        let front = Extent::between(free.start, block.start.offset());
        self.index.prepare(block.start)?;
        self.ensure_words([Some(front.end_marker())])?;
        let division = self.begin_division(block, free)?;
        self.medium.store_start(block.start, Marker::live(block.data_len));
        self.medium.store(block.end_marker(), Marker::live(block.data_len).0);
        // Salvage after a kill goes by it: the end marker of the rest still leads back to the start of `free`.
        self.medium.store(front.end_marker(), Marker::free(front.data_len).0);
        let prepared = self.barrier();
        if let Err(error) = prepared.and_then(|()| self.publish(front.start, Marker::free(front.data_len))) {
            self.undo_division(division);
            self.erase([Some(block.start.offset()), Some(front.end_marker())]);
            return Err(error);
        }

        self.end_division(block, division);
        self.add_to_index(front);
        self.index.put_live(block.start);
        self.note_live_for_readers(block.start);
        Ok(())
    }
}

/// The lowest start of a block whose data is aligned: `start` itself, or far enough behind it that a free block has room before.
fn aligned_start(start: Start, alignment: u64) -> Start {
    let aligned = |start: Start| Start::of_blob(start.blob().next_multiple_of(alignment));
    if aligned(start) == start { start } else { aligned(start.plus(MIN_BLOCK)) }
}
