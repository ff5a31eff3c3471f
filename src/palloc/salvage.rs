// SPDX-License-Identifier: MIT OR Apache-2.0
//! Salvage: a sound copy of a damaged medium.
//!
//! Each size stands on the medium twice, in the start marker and in the end marker of its block. So a word that was overwritten is known
//! from the other one. The start markers are followed from the header on, as long as both markers of a block agree. Where they do not,
//! the nearest place behind is found from which several blocks in a row have markers that agree. From there the end markers lead back. If
//! start markers lead to where they stop, all markers between are mended. Otherwise a range between is lost: it is kept as one live block,
//! so that nothing is put there. The walk goes on behind.
//!
//! ```text
//!   whole | whole | at: start marker damaged | next: whole | whole | ...   the end marker before `next` leads back to `at`
//!   whole | whole | at: end marker damaged   | next: whole | whole | ...   the start marker at `at` leads to `next`
//!   whole | at: ??????????? | reached: whole | next: whole | whole | ...   from `at` to `reached` all is lost
//! ```
//!
//! Time is linear in the length of the medium.
//!
//! All of this is done to a copy, which then has a whole chain. Opening it by the usual code finishes operations that were cut off.

use std::ffi::CStr;

use super::chain::{Chain, ChainBlock, Walk, block_at};
use super::error::Error;
use super::format::{DYNAMIC, EXTENDED, SYNC, header, header_flags};
use super::format::{Extent, HEADER, Intent, MIN_BLOCK, MIN_DATA, Marker, OVERHEAD, STEP, Start, WORD};
use super::medium::{Bytes, Medium};
use super::record::{self, Record};
use super::recover::{Rest, make_block, rest_at};
use super::replay::MAX_RECORDS;
use super::{Flags, Result, Salvage};

/// So many blocks in a row with markers that agree are no bytes of a blob that look like blocks.
const RUN: u32 = 8;
/// So many are enough between two damaged ranges, and where there is nothing better up to the end.
const SHORT_RUN: u32 = 2;

/// Steps along start markers, for each word of a range in which a chain is looked for.
const TRIES: u64 = 4;

/// A copy of a damaged medium on the way to a sound one.
pub struct Salvager<'a, M, R> {
    pub medium: &'a mut M,
    pub report: R,
    pub found: Salvage,
    /// From here to the end there are zeros: no block, or one that was growing.
    pub zeros_from: u64,
    /// Whether a lost range becomes a free block, not a live one.
    pub lost_is_free: bool,
    /// Whether blocks can start at any offset.
    pub odd: bool,
    /// Live blocks that stand for lost ranges.
    pub stand_ins: u64,
    /// The run that was found last: the nearest one behind all places before it.
    pub run_at: Start,
}

impl<M: Medium, R: FnMut(u64, &CStr)> Salvager<'_, M, R> {
    /// Makes the header, with the flags `stored`, and the chain whole.
    pub fn mend(&mut self, stored: u32) -> Result<()> {
        // No medium is shorter than its header, or ends in a part of its first block.
        let least = if self.medium.file_len() <= HEADER { HEADER } else { HEADER + MIN_BLOCK };
        if self.medium.file_len() < least {
            self.medium.set_file_len(least)?;
        }
        self.medium.ensure_space(0..HEADER, Bytes::Preserve)?;
        self.medium.store(0, header(stored));
        self.mend_chain()
    }

    fn mend_chain(&mut self) -> Result<()> {
        let stop = Start::at(self.medium.file_len().min(self.zeros_from));
        let (mut at, mut records) = (Start::FIRST, 0);
        while at < stop {
            at = match self.whole_at(at) {
                Some(found) => {
                    self.mend_whole(found, &mut records)?;
                    found.block.next()
                }
                None => self.mend_at(at)?,
            };
        }
        Ok(())
    }

    /// Of a whole block: markers that disagree on whether it is free make it live, as no blob may be lost. More records than opening
    /// takes are not transactions.
    fn mend_whole(&mut self, found: ChainBlock, records: &mut usize) -> Result<()> {
        let Extent { start, data_len } = found.block;
        let end_marker = found.end_marker(self.medium);
        if end_marker.data_len() == data_len {
            if end_marker != found.marker() {
                make_block(self.medium, found.block, false)?;
                self.healed(start, c"the markers disagree on whether the block is free: it is kept");
            }
        } else if Record::find(self.medium, found.block).is_some() {
            *records += 1;
            if *records > MAX_RECORDS {
                make_block(self.medium, found.block, false)?;
                self.healed(start, c"too many transactions are recorded: this one is kept as a blob");
            }
        }
        Ok(())
    }

    /// Mends the markers from `at`, where no whole block starts, to the next whole one, or to a place before that. Returns where that is.
    ///
    /// Finds `next`: the nearest place with a run of whole blocks. Without one, the end of the file if all markers up to there can be mended;
    /// else the nearest shorter run.
    fn mend_at(&mut self, at: Start) -> Result<Start> {
        let end = Start::at(self.medium.file_len());
        if self.run_at < at.plus(MIN_BLOCK) {
            self.run_at = match self.next_run(at, RUN, false) {
                Some(next) => next,
                None if self.mend_between(at, end)? => return Ok(end),
                None => self.next_run(at, RUN, true).or_else(|| self.next_run(at, SHORT_RUN, false)).unwrap_or(end),
            };
        }
        self.mend_to(at, self.run_at)
    }

    /// As `mend_at`, for a known `next`.
    ///
    /// 1. If start markers lead from `at` to where end markers lead back from `next`, all markers between are mended.
    /// 2. If so many start markers lead on from `at` that they are no bytes of a blob, mends these blocks. So it does if so many end markers
    ///    lead back from `next`.
    /// 3. Walks from `next` back by end markers, mending start markers, to `reached`. If start markers lead there from `at`, mends the end
    ///    markers. If a kill interrupted a join of free blocks there, mends that.
    /// 4. If an end marker between leads back to where start markers lead from `at`, mends the markers up to there.
    /// 5. If there is a shorter run of whole blocks before that, begins again with that as `next`.
    /// 6. Else looks between `at` and `reached` for a place from which start markers lead to `reached`, mends the end markers, and goes on
    ///    with 3 from there.
    /// 7. Without such a place, the range from `at` to `reached` is lost.
    fn mend_to(&mut self, at: Start, mut next: Start) -> Result<Start> {
        if self.mend_between(at, next)? {
            return Ok(next);
        }
        let (reached, blocks) = self.lead_back(at, next);
        if blocks >= RUN {
            self.mend_starts(reached, next)?;
            if self.run_at == next {
                self.run_at = reached;
            }
            next = reached;
        }
        let (reached, blocks) = self.lead_on(at, next);
        if blocks >= RUN && (reached == next || next >= reached.plus(MIN_BLOCK)) {
            self.mend_ends(at, reached)?;
            return Ok(reached);
        }
        let mut reached = self.walk_back(at, next)?;
        while reached > at {
            if self.lead_on(at, reached).0 == reached {
                self.mend_ends(at, reached)?;
                break;
            }
            if let Some(end) = self.end_of_joined(at, reached) {
                self.mend_ends(at, end)?;
                return Ok(end);
            }
            let from = self.lead_on(at, reached).0;
            match self.next_known(at, from, reached) {
                Some((island, false)) => return self.mend_to(at, island),
                Some((end, true)) => {
                    self.mend_start(Extent::between(from, end.offset()))?;
                    self.mend_ends(at, from)?;
                    return Ok(end);
                }
                None => {}
            }
            let Some(from) = self.chain_to(at, reached) else {
                return self.give_up(at, reached, next);
            };
            self.mend_ends(from, reached)?;
            reached = self.walk_back(at, from)?;
        }
        Ok(next)
    }

    /// Mends the blocks between two places, if start markers lead from the one to where end markers lead back from the other. Returns
    /// whether they do.
    fn mend_between(&mut self, at: Start, next: Start) -> Result<bool> {
        let (reached, _) = self.lead_back(at, next);
        if self.lead_on(at, reached).0 != reached {
            return Ok(false);
        }
        self.mend_starts(reached, next)?;
        self.mend_ends(at, reached)?;
        Ok(true)
    }

    /// How far start markers lead from `at`, at most to `stop`, and over how many blocks.
    fn lead_on(&self, at: Start, stop: Start) -> (Start, u32) {
        let mut chain = Chain::new(self.medium, at, stop.offset());
        let blocks = chain.by_ref().count();
        (chain.walk.end, blocks as u32)
    }

    /// How far end markers lead back from `next`, at most to `at`, and over how many blocks.
    fn lead_back(&self, at: Start, next: Start) -> (Start, u32) {
        let (mut reached, mut blocks) = (next, 0);
        while let Some(start) = self.start_before(at, reached) {
            (reached, blocks) = (start, blocks + 1);
        }
        (reached, blocks)
    }

    /// The start of the block before `next`, by its end marker, as `start_by_end_marker`. None if that is stale: slack has an old end
    /// marker, which leads to where slack began before a block was allocated there.
    fn start_before(&self, at: Start, next: Start) -> Option<Start> {
        let start = self.start_by_end_marker(at, next)?;
        let is_stale = |found: ChainBlock| found.block.next() != next;
        (!self.whole_at(start).is_some_and(is_stale)).then_some(start)
    }

    /// Mends the start markers of the blocks from `from` to `to`. Precondition: the end markers lead from `to` to `from`.
    fn mend_starts(&mut self, from: Start, to: Start) -> Result<()> {
        let mut reached = to;
        while let Some(start) = self.start_by_end_marker(from, reached) {
            self.mend_start(Extent::between(start, reached.offset()))?;
            reached = start;
        }
        Ok(())
    }

    /// Mends the end markers of the blocks from `from` to `to`. Precondition: the start markers lead from `from` to `to`.
    fn mend_ends(&mut self, from: Start, to: Start) -> Result<()> {
        let mut walk = Walk::new(from, to.offset());
        while let Some(found) = walk.next(self.medium) {
            if !self.is_whole(found) {
                let end_marker = found.block.end_marker();
                self.medium.ensure_space(end_marker..end_marker + WORD, Bytes::Preserve)?;
                self.medium.store(end_marker, found.marker().0);
                self.healed(found.block.start, c"the end marker was damaged, and is that of the start marker");
            }
        }
        Ok(())
    }

    /// The nearest place behind the block at `at` from which `run` whole blocks follow each other, or fewer that lead to the end. With
    /// `to_zeros`, those that lead to the zeros at the end count too.
    fn next_run(&mut self, at: Start, run: u32, to_zeros: bool) -> Option<Start> {
        let (from, end) = (at.plus(MIN_BLOCK), Start::at(self.medium.file_len()));
        let found = (!self.odd && at.is_in_step()).then(|| self.run_from(from, end, STEP, run, to_zeros));
        match found.flatten() {
            None if from < end => {
                let odd = self.run_from(from, end, 1, run, to_zeros);
                self.odd |= odd.is_some();
                odd
            }
            found => found,
        }
    }

    /// As `next_run`, at or behind `from`, and at least a block before `stop`.
    fn run_from(&self, from: Start, stop: Start, step: u64, run: u32, to_zeros: bool) -> Option<Start> {
        let last = Start::at(stop.offset().saturating_sub(MIN_BLOCK));
        self.places(from, last, step).find(|&at| self.is_run(at, run, to_zeros))
    }

    /// The nearest place behind the block at `at`, at most `stop`, from which a short run follows, and false; or before which an end marker
    /// leads back to `from`, and true.
    fn next_known(&self, at: Start, from: Start, stop: Start) -> Option<(Start, bool)> {
        let step = if self.odd { 1 } else { STEP };
        let leads_back = |next: Start| {
            let end_marker = || Marker(self.medium.load(next.offset() - WORD));
            next >= from.plus(MIN_BLOCK) && end_marker().data_len() == Extent::between(from, next.offset()).data_len
        };
        self.places(at.plus(MIN_BLOCK), stop, step).find_map(|place| match leads_back(place) {
            true => Some((place, true)),
            false => (place < stop && self.is_run(place, SHORT_RUN, false)).then_some((place, false)),
        })
    }

    /// The places from `from` to `stop` where a block can start or end. Leaves out holes and the zeros at the end.
    fn places(&self, from: Start, stop: Start, step: u64) -> impl Iterator<Item = Start> + '_ {
        let stop = stop.offset().min(self.zeros_from + WORD);
        let mut next = from.offset();
        std::iter::from_fn(move || {
            let at = next;
            next += step;
            if next % 4096 < step {
                let data = self.medium.data_from(next.min(self.medium.file_len()));
                next += data.saturating_sub(next) / STEP * STEP;
            }
            (at <= stop).then(|| Start::at(at))
        })
    }

    fn is_run(&self, from: Start, run: u32, to_zeros: bool) -> bool {
        let (mut at, mut blocks) = (from, 0);
        while let Some(found) = self.whole_at(at) {
            (at, blocks) = (found.block.next(), blocks + 1);
            if blocks == run {
                return true;
            }
        }
        let reached = at.offset();
        blocks > 0 && (reached == self.medium.file_len() || (to_zeros && reached >= self.zeros_from))
    }

    /// Walks from `from`, where a block starts, back to `at` by end markers. On the way, mends the start markers of single blocks.
    /// Returns where the blocks that it passed begin.
    fn walk_back(&mut self, at: Start, from: Start) -> Result<Start> {
        let mut reached = from;
        while let Some(start) = self.start_before(at, reached) {
            let block = Extent::between(start, reached.offset());
            let is_right = self.medium.start_marker(start).data_len() == block.data_len;
            if !is_right && start != at && !self.whole_before(at, start) {
                break;
            }
            self.mend_start(block)?;
            reached = start;
        }
        Ok(reached)
    }

    /// Makes the start marker of the block that of its end marker, if its size is another one.
    fn mend_start(&mut self, block: Extent) -> Result<()> {
        if self.medium.start_marker(block.start).data_len() != block.data_len {
            let end_marker = Marker(self.medium.load(block.end_marker()));
            let marker = if end_marker.is_free() { end_marker } else { Marker::live(block.data_len) };
            self.medium.ensure_space(block.start.marker(), Bytes::Preserve)?;
            self.medium.store_start(block.start, marker);
            self.healed(block.start, c"the start marker was damaged, and is that of the end marker");
        }
        Ok(())
    }

    /// The start of the block before `next`, by its end marker. None if that leads before `at`, or is no size.
    fn start_by_end_marker(&self, at: Start, next: Start) -> Option<Start> {
        let end = next.offset();
        let longest = end.checked_sub(at.offset())?.checked_sub(MIN_BLOCK)? + MIN_DATA;
        let data_len = Marker(self.medium.load(end - WORD)).data_len();
        let start = if (MIN_DATA..=longest).contains(&data_len) {
            Start::at(end - OVERHEAD - data_len)
        } else {
            self.start_of_tagged(at, end)?
        };
        (start == at || start >= at.plus(MIN_BLOCK)).then_some(start)
    }

    /// As `start_by_end_marker`, for a block whose end marker is a tag: the nearest start marker that leads there, or `at` if a record is there.
    fn start_of_tagged(&self, at: Start, end: u64) -> Option<Start> {
        const FARTHEST: u64 = 1 << 20;
        let word = self.medium.load(end - WORD);
        if !record::is_tag(word, end - WORD) && Intent::from_word(word).is_none() {
            return None;
        }
        let starts = (1..).map(|steps| (end - OVERHEAD).checked_sub(steps * STEP));
        let starts = starts.map_while(|start| start.filter(|&start| start >= at.offset() && end - start <= FARTHEST));
        let marker_to = |start| Marker::live(Extent::between(start, end).data_len);
        let leads_here = |&start: &Start| self.medium.start_marker(start) == marker_to(start);
        let has_record = || Record::find(self.medium, Extent::between(at, end)).is_some();
        starts.map(Start::at).find(leads_here).or_else(|| has_record().then_some(at))
    }

    /// Whether a whole block ends at `next`, and starts at or behind `at`.
    fn whole_before(&self, at: Start, next: Start) -> bool {
        let start = self.start_by_end_marker(at, next);
        start.is_some_and(|start| self.whole_at(start).is_some_and(|found| found.block.next() == next))
    }

    /// The end of the free block at `at`, if it has free blocks only behind `reached`: a kill was between the store of its start marker,
    /// which joined them, and that of its end marker.
    fn end_of_joined(&self, at: Start, reached: Start) -> Option<Start> {
        let joined = block_at(self.medium, at, self.medium.file_len()).filter(|found| found.is_free)?;
        let mut start = reached;
        while start < joined.block.next() {
            start = self.whole_at(start).filter(|found| found.is_free)?.block.next();
        }
        (start == joined.block.next()).then_some(start)
    }

    /// The nearest place behind the block at `at` from which start markers lead to `end`.
    fn chain_to(&self, at: Start, end: Start) -> Option<Start> {
        let step = if self.odd { 1 } else { STEP };
        let mut tries = 64 + (end.offset() - at.offset()) / WORD * TRIES;
        let mut from = at.plus(MIN_BLOCK);
        while from.plus(MIN_BLOCK) <= end && from.offset() < self.zeros_from {
            let (reached, blocks) = self.lead_on(from, end);
            if reached == end {
                return Some(from);
            }
            tries = tries.checked_sub(blocks.into())?;
            from = from.plus(step);
        }
        None
    }

    /// Nothing is known of the range from `at` to `reached`.
    fn give_up(&mut self, at: Start, reached: Start, next: Start) -> Result<Start> {
        let (end, lost) = (self.medium.file_len(), at.offset()..reached.offset());
        let lost_len = lost.end - lost.start;
        if lost.end == end && block_at(self.medium, at, end).is_none() {
            if let Ok(Rest::LeadsBeyondEnd(marker)) = rest_at(self.medium, at, lost_len >= MIN_BLOCK) {
                make_block(self.medium, Extent::between(at, end), marker.is_free())?;
                self.healed(at, c"the last block reached beyond the end of the file, and ends with it");
                return Ok(reached);
            }
        }
        self.found.lost_ranges += 1;
        self.found.lost_bytes += lost_len;
        (self.report)(lost.start, c"a range is lost, from here to the next block");
        if lost_len < MIN_BLOCK {
            self.medium.ensure_space(lost.clone(), Bytes::Preserve)?;
            self.medium.clear(lost.start, lost_len); // at the end of the file: opening knows zeros
        } else {
            make_block(self.medium, Extent::between(at, lost.end), self.lost_is_free)?;
            self.stand_ins += u64::from(!self.lost_is_free);
        }
        Ok(next)
    }

    fn whole_at(&self, start: Start) -> Option<ChainBlock> {
        block_at(self.medium, start, self.medium.file_len()).filter(|&found| self.is_whole(found))
    }

    /// Whether both markers have the same size, or the end marker is one that an operation or a transaction leaves there.
    fn is_whole(&self, found: ChainBlock) -> bool {
        let end_marker = found.end_marker(self.medium);
        let has_tag = || Intent::from_word(end_marker.0).is_some() || record::is_log(self.medium, found.block);
        end_marker.data_len() == found.block.data_len || (!found.is_free && has_tag())
    }

    fn healed(&mut self, start: Start, what: &CStr) {
        self.found.healed += 1;
        (self.report)(start.offset(), what);
    }
}

/// The flags for the header of the copy. Fails iff the medium has no header, or one with EXTENDED, unless `flags` has FORCE.
pub fn check_header(head: Option<u64>, flags: Flags) -> Result<u32> {
    const KNOWN: u32 = DYNAMIC | SYNC;
    let forced = flags.contains(Flags::FORCE);
    match head.and_then(header_flags) {
        Some(stored) if stored & EXTENDED != 0 && !forced => Err(Error::Extended),
        Some(stored) => Ok(stored & !EXTENDED),
        None if !forced => Err(Error::NoHeader),
        // The half of the header that has the flags may be undamaged.
        None => Ok(head.map(|head| head as u32).filter(|flags| flags & !KNOWN == 0).unwrap_or(DYNAMIC)),
    }
}
