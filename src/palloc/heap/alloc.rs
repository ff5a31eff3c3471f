// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocating: finds free space, and makes a live block of it or of its first part.

use super::{Heap, data_len_at};
use crate::palloc::Result;
use crate::palloc::block_index::{MAX_EXACT, State};
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, HEADER, MAX_DATA, Marker, OVERHEAD, Request, SPLIT_ABOVE, STEP, Start};
use crate::palloc::medium::{Bytes, Medium};

const FREE_OVERWRITTEN: &str = "the start marker of a free block was overwritten";

/// Where a block can be made.
pub(super) struct Place {
    /// The block: all of the free one, or its first part.
    pub(super) block: Extent,
    /// The free block, or the slack.
    pub(super) free: Extent,
}

/// The data of a block that is claimed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// Nothing was stored to it: it may be anything.
    Any,
    /// It must be on the disk before the blob is.
    Stored,
}

/// A free block, or the slack, that is being divided. See [`Heap::begin_division`].
pub(super) struct Division {
    free: Extent,
    /// The free block behind the part that is used, if any.
    rest: Option<Extent>,
    /// The rest is slack of zeros. The next open cuts off zeros behind the last block, so it does not miss the start marker.
    rest_is_zeros: bool,
}

impl<M: Medium> Heap<M> {
    /// Allocates a blob of at least `requested` bytes. Returns its offset. Fails iff there is no space on the medium, on the disk or in
    /// memory, a marker of a free block was overwritten, or the medium can't be changed; then no block changed.
    #[inline]
    pub fn alloc(&mut self, requested: u64) -> Result<u64> {
        match self.alloc_quickly(requested) {
            Some(blob) => Ok(blob),
            None => self.alloc_any(requested),
        }
    }

    /// The fast paths. Returns None, unchanged, if there is none now; the caller then uses `alloc_any`.
    #[inline(always)]
    pub fn alloc_quickly(&mut self, requested: u64) -> Option<u64> {
        self.alloc_recent(requested).or_else(|| self.alloc_ready(requested))
    }

    /// Fast path: reuses the block of this size, or of at most SPLIT_ABOVE bytes more, that was freed last, with one store. Its end marker
    /// is that of a live block already. Returns None, unchanged, if the medium is not plain, if there is no such block, if its marker was
    /// overwritten, or if the disk has no space.
    #[inline(always)]
    fn alloc_recent(&mut self, requested: u64) -> Option<u64> {
        if requested > MAX_EXACT || !self.is_plain() {
            return None;
        }
        let request = Request::of(requested)?;
        let block = self.index.recent(request.data_len, request.data_len + SPLIT_ABOVE)?;
        if self.marker(block.start) != Marker::free(block.data_len) {
            return None;
        }
        debug_assert_eq!(
            self.index.find(request, |start| data_len_at(&self.medium, start)),
            Ok(Some(block)),
            "both ways find the same block"
        );
        self.medium.ensure_space(block.start.marker(), Bytes::Preserve).ok()?;
        self.medium.ensure_space(block.data(), Bytes::Scratch).ok()?;
        self.medium.store_start(block.start, Marker::live(block.data_len));
        self.index.take_recent(block);
        Some(block.blob())
    }

    /// As `alloc`, by the slow path.
    #[inline(never)]
    pub fn alloc_any(&mut self, requested: u64) -> Result<u64> {
        if !self.is_plain() {
            self.begin_careful_alloc(requested)?;
        }
        self.using_reserves(&|heap: &mut Self| {
            heap.with_tail_restored(|heap| {
                let Place { block, free } = heap.place(requested)?;
                heap.claim(block, free, Marker::live(block.data_len).0, Data::Any)?;
                Ok(block.blob())
            })
        })
    }

    /// Begins an allocation on a medium that is not plain.
    #[inline(never)]
    fn begin_careful_alloc(&mut self, requested: u64) -> Result<()> {
        self.begin_careful_change()?;
        if self.keeping.is_open() {
            self.prepare_alloc_beside_caches(requested);
        }
        Ok(())
    }

    /// Finds a free block for `requested` bytes. If a dynamic medium has no such block, grows the slack so that it holds them. Fails iff
    /// `requested` is too large (TooLarge), a marker of a free block was overwritten (Damaged), a static medium has no space (Full), or growth
    /// fails; or a held block may have the space (Held: `using_reserves` frees these, and tries again).
    pub(super) fn place(&mut self, requested: u64) -> Result<Place> {
        let request = Request::of(requested).ok_or(Error::TooLarge(requested))?;
        let data_len = request.data_len;
        let found = self
            .index
            .find(request, |start| data_len_at(&self.medium, start))
            .map_err(|offset| Error::Damaged { offset, what: FREE_OVERWRITTEN })?;
        if let Some(free) = found {
            self.check_free(free)?;
            return Ok(Place { block: Extent { start: free.start, data_len: split(free.data_len, data_len) }, free });
        }
        if self.may_reclaim(data_len) {
            return Err(Error::Held);
        }
        if !self.dynamic {
            return Err(Error::Full { size: requested });
        }
        let start = self.start_of_growth();
        let data_len = data_len_in_step(start, request).ok_or(Error::TooLarge(requested))?;
        self.extend_tail(start, Extent { start, data_len }.end())?;
        let free = Extent::between(start, self.medium.file_len());
        Ok(Place { block: Extent { start, data_len: split(free.data_len, data_len) }, free })
    }

    /// The free block of the index for a request, as `place` finds it; there the search is inlined: one function for both takes 26
    /// instructions more of each allocation.
    pub(super) fn find_free(&self, request: Request) -> Result<Option<Extent>> {
        let found = self.index.find(request, |start| data_len_at(&self.medium, start));
        found.map_err(|offset| Error::Damaged { offset, what: FREE_OVERWRITTEN })
    }

    /// Fails iff a marker of a free block that the index found was overwritten.
    #[inline]
    pub(super) fn check_free(&self, free: Extent) -> Result<()> {
        self.block(free.start, State::Free)?;
        self.check_end(free)
    }

    /// Where a block starts that a dynamic medium grows for: where its slack does, or else a free block at its end, or at the end.
    pub(super) fn start_of_growth(&self) -> Start {
        let tail = self.slack().or_else(|| self.free_before(self.blocks_end));
        tail.map_or(self.blocks_end, |tail| tail.start)
    }

    /// Makes `block` a live block, with `end_word` in the place of its end marker. It ends in `free` or with it, and the rest of
    /// `free` becomes a free block. It starts where `free` does, to allocate; or it is a live block before `free`, to grow.
    ///
    /// ```text
    ///   before   free                      end        live         | free              end
    ///   after    block: live | rest: free  end        block: live        | rest: free  end
    /// ```
    ///
    /// Fails iff there is no memory, no space on the disk, or a barrier fails. The medium is then as it was. Preconditions: `free`
    /// is a free block of the index, or the slack, or begins where the old end of the block that grows is; the start marker of a block
    /// that grows has space on the disk.
    pub(super) fn claim(&mut self, block: Extent, free: Extent, end_word: u64, data: Data) -> Result<()> {
        let division = self.begin_division(block, free)?;
        self.medium.store(block.end_marker(), end_word);
        let needs_barrier = (division.rest.is_some() && !division.rest_is_zeros) || data == Data::Stored;
        let prepared = if needs_barrier { self.barrier() } else { Ok(()) };
        if let Err(error) = prepared.and_then(|()| self.publish(block.start, Marker::live(block.data_len))) {
            self.undo_division(division);
            return Err(error);
        }
        self.erase([(block.start != free.start).then_some(free.start.offset())]);
        self.end_division(block, division);
        self.index.put_live(block.start);
        self.note_live_for_readers(block.start);
        Ok(())
    }

    /// Divides `free`, which may be the slack, or uses all of it, and publishes nothing: no barrier is behind the store of the start marker
    /// of `block`. So the caller sees to it that one comes before anything in `block` counts. It enters `block` into the index. `end_word` is
    /// stored in the place of its end marker. Fails as `claim`.
    ///
    /// ```text
    ///   before   free                 end
    ///   after    block | rest: free   end
    /// ```
    pub(super) fn divide(&mut self, block: Extent, free: Extent, marker: Marker, end_word: u64) -> Result<()> {
        let division = self.begin_division(block, free)?;
        self.medium.store(block.end_marker(), end_word);
        // `claim` needs no barrier if the rest is zeros, as `publish` flushes. Here nothing does. The next division would store behind the
        // start marker of the rest before that is on the disk. A live block needs the barrier for its end word.
        let needs_barrier = division.rest.is_some() || !marker.is_free();
        let prepared = if needs_barrier { self.barrier() } else { Ok(()) };
        if let Err(error) = prepared {
            self.undo_division(division);
            return Err(error);
        }
        self.medium.store_start(block.start, marker);
        self.end_division(block, division);
        Ok(())
    }

    /// Begins to divide `free`, a free block or the slack, at the end of `block`, or to use all of it: writes the start marker of the rest,
    /// where the chain does not lead yet. The caller publishes `block`, and calls `end_division`; or it calls `undo_division`. Fails iff
    /// there is no memory or no space on the disk; then nothing changed.
    #[inline(always)]
    pub(super) fn begin_division(&mut self, block: Extent, free: Extent) -> Result<Division> {
        let end = block.end();
        let is_slack = free.start == self.blocks_end;
        let rest = (end != free.end()).then(|| Extent::between(block.next(), free.end()));
        let rest_is_zeros = is_slack && end >= self.zeros_from;
        if is_slack {
            self.zeros_from = self.zeros_from.max(end); // on failure too: there may be more zeros than it says
        } else if rest.is_some() {
            self.index.prepare(block.next())?;
        }
        self.ensure_divisible(free, block)?;
        if let Some(rest) = rest {
            self.medium.store_start(rest.start, Marker::free(rest.data_len));
        }
        Ok(Division { free, rest, rest_is_zeros })
    }

    /// `block` was published: the index has the rest in place of the free block. The rest of the slack is the slack.
    #[inline(always)]
    pub(super) fn end_division(&mut self, block: Extent, division: Division) {
        let Division { free, rest, .. } = division;
        if free.start == self.blocks_end {
            self.blocks_end = block.next();
        } else {
            self.take_from_index(free);
            if let Some(rest) = rest {
                self.add_to_index(rest);
            }
        }
    }

    /// A barrier failed: `free` is as it was, but that a recent block loses the end marker of a live one. Nothing is allocated here any more.
    #[cold]
    pub(super) fn undo_division(&mut self, division: Division) {
        debug_assert!(!self.writable, "nothing is allocated after a failed sync");
        let Division { free, rest, .. } = division;
        if free.start != self.blocks_end {
            self.medium.store(free.end_marker(), Marker::free(free.data_len).0); // slack has no end marker
        }
        self.erase([rest.map(|rest| rest.start.offset())]);
    }
}

/// How much of a free block with `free_len` bytes is used for `data_len`: all of it if the rest is not worth a block.
pub(super) fn split(free_len: u64, data_len: u64) -> u64 {
    if free_len > data_len && free_len - data_len > SPLIT_ABOVE { data_len } else { free_len }
}

/// The data size for a request in a block at `start` that is to be the last one of a dynamic medium: the next block is in
/// step. None if it would end beyond 2^62.
pub(super) fn data_len_in_step(start: Start, request: Request) -> Option<u64> {
    if start.is_in_step() {
        return Some(request.data_len);
    }
    let end = start.offset().checked_add(OVERHEAD + request.least).filter(|&end| end <= MAX_DATA)?;
    Some(Extent::between(start, (end - HEADER).next_multiple_of(STEP) + HEADER).data_len)
}
