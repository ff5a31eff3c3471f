// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading ahead of the survey. A start marker says where the next one is, so each page with a marker is waited for before the next is
//! known. And where blocks are large, the system, which reads ahead in a mapping, reads all the bytes between two markers.
//!
//! Nothing here changes what the survey finds: it only brings pages into memory, or leaves them where they are.

use crate::palloc::chain::{Chain, ChainBlock, block_at};
use crate::palloc::format::{Extent, HEADER, STEP, Start, WORD};
use crate::palloc::medium::Medium;

/// Blocks are far apart if they are at least this long: a disk reads two pages sooner than all between them. A solid state disk does so
/// from 64 KiB on, a rotating one from 1 MiB on.
const FAR: u64 = 128 << 10;

/// So many long blocks, and few others between them, show that blocks are far apart.
const SURE: u32 = 16;
/// A block that is not long weighs as many long ones.
const SHORT: u32 = 4;

/// The chain is read from so many places at once: disks work on many requests in the time of one.
const PLACES: u64 = 16;
/// In a shorter file that gains nothing.
const WORTHWHILE: u64 = 64 << 20;
/// The bytes in which the chain is looked for at a place, and how many of them are read at once.
const SEARCHED: u64 = 4 << 20;
const AT_ONCE: u64 = 256 << 10;
/// So many blocks in a row with markers that agree are the chain, most likely.
const LIKELY: usize = 8;

const _: () = assert!(PLACES * SEARCHED <= WORTHWHILE && SEARCHED % AT_ONCE == 0 && AT_ONCE % STEP == 0);

/// The knowledge of the survey about the distances of markers. A drop takes the advice to the system back.
pub struct Ahead<'a, M: Medium> {
    medium: &'a M,
    /// How many long blocks speak for blocks that are far apart: at most `SURE`.
    score: u32,
    far: bool,
    /// Whether the markers of the rest of the medium were fetched.
    fetched: bool,
}

impl<'a, M: Medium> Ahead<'a, M> {
    pub fn of(medium: &'a M) -> Self {
        Ahead { medium, score: 0, far: false, fetched: false }
    }

    /// Takes note of the block.
    #[inline]
    pub fn note(&mut self, block: Extent) {
        let is_long = block.data_len >= FAR;
        if is_long && self.score < SURE || !is_long && self.score > 0 {
            self.count(is_long, block.next());
        }
    }

    #[cold]
    fn count(&mut self, is_long: bool, next: Start) {
        self.score = if is_long { self.score + 1 } else { self.score.saturating_sub(SHORT) };
        if self.score == 0 || self.score == SURE {
            self.advise(self.score == SURE);
        }
        if self.far && !self.fetched {
            self.fetched = true;
            fetch_markers(self.medium, next);
        }
    }

    fn advise(&mut self, far: bool) {
        if self.far != far {
            self.far = far;
            self.medium.advise_far_apart(far);
        }
    }
}

impl<M: Medium> Drop for Ahead<'_, M> {
    fn drop(&mut self) {
        self.advise(false);
    }
}

/// Reads the pages with markers from the block at `first` on, at several places at once. A place where the chain is not found is left
/// to the survey. Does nothing if the pages seem to be in memory.
fn fetch_markers(medium: &impl Medium, first: Start) {
    let (end, from) = (medium.file_len(), first.offset());
    let part = (end - from) / PLACES;
    let place = |i: u64| Start::at((from - HEADER + i * part).next_multiple_of(STEP) + HEADER);
    let are_in_memory = || (1..PLACES).all(|i| medium.is_in_memory(place(i).offset()));
    if end - from < WORTHWHILE || medium.has_holes() || are_in_memory() {
        return;
    }
    // Where each walk is.
    let mut walks = [first; PLACES as usize];
    for (i, walk) in (1..PLACES).zip(&mut walks[1..]) {
        *walk = find_chain(medium, place(i)).unwrap_or(Start::at(end));
    }
    // At most so many steps: twice as many as blocks of length FAR are in a part. If blocks get shorter, this stops. Their markers are in
    // pages side by side, which the system reads ahead itself.
    for _ in 0..2 * (part / FAR) {
        for (i, walk) in (1..=PLACES).zip(&mut walks) {
            if *walk < place(i) && walk.offset() < end {
                *walk = next_block(medium, *walk).unwrap_or(Start::at(end));
            }
        }
    }
}

/// Starts to read the markers between the block at `start` and the next, and returns where that starts. None if no block is at `start`.
fn next_block(medium: &impl Medium, start: Start) -> Option<Start> {
    let ChainBlock { block, .. } = block_at(medium, start, medium.file_len())?;
    medium.start_reading(block.end_marker(), (2 * WORD).min(medium.file_len() - block.end_marker()));
    Some(block.next())
}

/// A place at or behind `from`, near to it, where the chain seems to be.
fn find_chain(medium: &impl Medium, from: Start) -> Option<Start> {
    let from = from.offset();
    let has_chain = |start| {
        let agree = |found: &ChainBlock| found.end_marker(medium) == found.marker();
        Chain::new(medium, start, medium.file_len()).take(LIKELY).take_while(agree).count() == LIKELY
    };
    (from..medium.file_len().min(from + SEARCHED)).step_by(AT_ONCE as usize).find_map(|piece| {
        let end = medium.file_len().min(piece + AT_ONCE);
        medium.start_reading(piece, end - piece);
        let mut starts = (piece..end - (end - piece) % STEP).step_by(STEP as usize).map(Start::at);
        starts.find(|&start| has_chain(start))
    })
}
