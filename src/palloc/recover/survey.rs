// SPDX-License-Identifier: MIT OR Apache-2.0
//! The survey: walks the chain of a medium that is opened, and classifies its end. Reads only.
//!
//! A start marker that the program overwrote must not make blobs disappear silently. It is accepted only if it fits what an
//! operation that was cut off can leave.

use super::ahead::Ahead;
use crate::palloc::Result;
use crate::palloc::block_index::BlockIndex;
use crate::palloc::chain::{Chain, ChainBlock, block_at};
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, HEADER, Intent, MIN_BLOCK, MIN_DATA, Marker, OVERHEAD, STEP, Start, WORD};
use crate::palloc::medium::Medium;
use crate::palloc::record;

/// The findings of a walk along the chain.
pub struct Survey {
    /// Where the chain ends; behind it there may be bytes that belong to no block.
    pub end: Start,
    /// The last block, if there is one.
    pub last: Option<Start>,
    /// The bytes between the end of the chain and the end of the file.
    pub rest: Rest,
    /// Whether an end marker differs from its start marker, or free blocks are side by side.
    pub untidy: bool,
}

/// The bytes behind the chain.
#[derive(Clone, Copy, PartialEq)]
pub enum Rest {
    /// There are no bytes.
    Nothing,
    /// Zeros, and perhaps the end marker of a free block that they would be.
    Zeros,
    /// A block with this start marker, which leads beyond the end of the file.
    LeadsBeyondEnd(Marker),
}

/// A start marker that leads farther than any file is long was overwritten.
const LONGEST: u64 = 1 << 48;

/// So many blobs an operation can hide behind the start marker of a live block: one that was freed, and whose space was allocated again
/// just before the power was cut.
const HIDDEN_BY_REUSE: u64 = 1;
/// And so many behind a start marker that leads beyond the end of the file.
const HIDDEN_BY_CUT: u64 = 0;

const OVERWRITTEN: &str = "the start marker was overwritten";

/// Where blocks are smaller than this, the rest of a page is fetched when the walk comes to it. Where they are larger, no page is read
/// that has no marker.
const DENSE: u64 = 1024;
const PAGE: u64 = 4096;

/// Walks the chain and enters its blocks into the index. Fails iff the chain ends in bytes that no operation leaves, or there is no
/// memory.
pub fn survey(medium: &impl Medium, dynamic: bool, index: &mut BlockIndex) -> Result<Survey> {
    let end = medium.file_len();
    let mut survey = Survey { end: Start::FIRST, last: None, rest: Rest::Nothing, untidy: false };
    let mut after_free = false;
    let mut fetched = 0;
    let mut ahead = Ahead::of(medium);
    // Whether the end marker of the last block confirms its start marker.
    let mut last_is_confirmed = true;
    // If the last block is live and not confirmed: the first of the blocks up to it of which all are like that.
    let mut unconfirmed_from: Option<Start> = None;
    // Not a Chain: the rest of a page is fetched before the marker in it is read.
    while survey.end.offset() < end {
        let start = survey.end;
        let offset = start.offset();
        if offset >= fetched && offset - survey.last.map_or(0, Start::offset) < DENSE {
            fetched = (offset + 1).next_multiple_of(PAGE);
            medium.prefetch(offset, fetched);
        }
        let Some(found) = block_at(medium, start, end) else {
            survey.rest = rest_at(medium, start, dynamic && last_is_confirmed)?;
            // An overwritten marker may lead anywhere into the zeros of growth.
            if let Some(from) = unconfirmed_from.filter(|_| survey.rest == Rest::Zeros) {
                if has_live_block(medium, from.plus(STEP), offset) {
                    return Err(Error::Damaged { offset: from.offset(), what: OVERWRITTEN });
                }
            }
            break;
        };
        let ChainBlock { block, is_free } = found;
        ahead.note(block);
        let end_marker = found.end_marker(medium);
        let is_confirmed = end_marker == found.marker() || can_have_end_marker(medium, found, end_marker);
        unconfirmed_from = if is_confirmed || is_free { None } else { unconfirmed_from.or(Some(start)) };
        if end_marker != found.marker() {
            survey.untidy = true;
            let is_doubtful = !is_free && !is_confirmed;
            if is_doubtful && hides_more_blobs(medium, found.marker(), start, block.end(), HIDDEN_BY_REUSE) {
                return Err(Error::Damaged { offset, what: OVERWRITTEN });
            }
        }
        survey.untidy |= after_free && is_free;
        after_free = is_free;
        index.prepare(start)?;
        if is_free {
            index.add_free(block)
        } else {
            index.put_live(start)
        }
        last_is_confirmed = is_confirmed;
        survey.last = Some(start);
        survey.end = block.next();
    }
    Ok(survey)
}

/// Whether an operation that was cut off can leave this end marker in a block: its own, whatever its bit of free blocks is; an intent; or,
/// in a free block, that of the last block which was joined.
fn can_have_end_marker(medium: &impl Medium, ChainBlock { block, is_free }: ChainBlock, end_marker: Marker) -> bool {
    let joined_len = end_marker.data_len();
    let was_joined = || {
        let joined_start = medium.start_marker(block.start.plus(block.data_len - joined_len));
        joined_start.0 == 0 || joined_start.data_len() == joined_len
    };
    joined_len == block.data_len
        || Intent::from_word(end_marker.0).is_some()
        || record::is_log(medium, block) // that of a free one too, once opening has freed it
        || (is_free && joined_len >= MIN_DATA && joined_len <= block.data_len.saturating_sub(MIN_BLOCK) && was_joined())
}

/// Classifies the bytes from `start` to the end of the file, where no block can be. Fails iff no operation leaves such bytes.
pub fn rest_at(medium: &impl Medium, start: Start, can_be_cut_off: bool) -> Result<Rest> {
    let has_marker = medium.file_len() - start.offset() >= WORD;
    let marker = if has_marker { medium.start_marker(start) } else { Marker(0) };
    if can_be_cut_off && was_cut_off(medium, start, marker) {
        Ok(Rest::LeadsBeyondEnd(marker))
    } else if marker.0 == 0 && is_unclaimed(medium, start)? {
        Ok(Rest::Zeros)
    } else {
        Err(Error::Damaged { offset: start.offset(), what: "no block begins here" })
    }
}

/// Whether the bytes from `start` to the end of the file can be the last block of a dynamic medium: it was being given back, or it was
/// growing when the power was cut.
fn was_cut_off(medium: &impl Medium, start: Start, marker: Marker) -> bool {
    let end = medium.file_len();
    (MIN_DATA..LONGEST).contains(&marker.data_len())
        && (marker.is_free() || end - start.offset() >= MIN_BLOCK && !has_live_block(medium, start.plus(STEP), end))
        && !hides_more_blobs(medium, marker, start, end, HIDDEN_BY_CUT)
}

/// Whether a live block with two equal markers is in these bytes, at a place where this library's blocks start.
///
/// After a power cut without PALLOC_SYNC, an old link of a free block may be where a start marker should be. It looks like that of a live
/// block beyond the end of the file. A synced blob behind it still has both markers, whatever the sectors around it hold. A free block
/// can't be tested so: slack is full of the markers of freed blobs.
fn has_live_block(medium: &impl Medium, from: Start, end: u64) -> bool {
    let mut place = (from.offset() - HEADER).next_multiple_of(STEP) + HEADER;
    while place < end {
        match block_at(medium, Start::at(place), end) {
            Some(found) if !found.is_free && found.end_marker(medium) == found.marker() => return true,
            _ => place += STEP,
        }
        if place % PAGE < STEP {
            // The file may be sparse, so holes are skipped.
            place += medium.data_from(place).saturating_sub(place) / STEP * STEP;
        }
    }
    false
}

/// Whether the bytes from `start` to the end of the file are zeros, as growth or an initialization that was cut off leaves them. The end
/// marker of the free block that was to be there may be on the disk without the start marker.
fn is_unclaimed(medium: &impl Medium, start: Start) -> Result<bool> {
    let end = medium.file_len();
    let has_end_marker = end - start.offset() >= MIN_BLOCK
        && medium.load(end - WORD) == Marker::free(Extent::between(start, end).data_len).0;
    medium.is_zero(start.offset(), if has_end_marker { end - WORD } else { end })
}

/// Whether the start marker at `start`, which leads to `stop` or beyond, hides more than `allowed` live blocks.
///
/// It does if the end marker of a shorter block is in the bytes, from which a chain leads exactly to `stop`. The shorter block may be odd
/// and end at any byte. It counts as hidden if it is live and the start marker is that of a free block.
fn hides_more_blobs(medium: &impl Medium, marker: Marker, start: Start, stop: u64, allowed: u64) -> bool {
    let start = start.offset();
    let last_word = stop - WORD;
    // Crafted bytes may begin very many chains. Beyond so many blocks, in proportion to the bytes, the medium counts as damaged.
    let mut budget = 64 + (stop - start) / WORD;
    let mut place = start + WORD + MIN_DATA;
    let mut here = if place <= last_word { medium.load(place) } else { 0 };
    while place <= last_word {
        // The bytes behind the word at `place`, as far as there are any.
        let behind = match last_word - place {
            0 => 0,
            more if more >= WORD => medium.load(place + WORD),
            more => medium.load(last_word) << (8 * (WORD - more)),
        };
        for shift in 0..WORD.min(last_word - place + 1) {
            let bits = 8 * shift as u32;
            let word = Marker(here << bits | behind.checked_shr(64 - bits).unwrap_or(0));
            let end = place + shift + WORD;
            if word.data_len() == end - start - OVERHEAD {
                let shorter = u64::from(marker.is_free() && !word.is_free());
                if blobs_between(medium, Start::at(end), stop, &mut budget)
                    .is_some_and(|blobs| shorter + blobs > allowed)
                {
                    return true;
                }
            }
        }
        place += WORD;
        here = behind;
        if here == 0 && place % PAGE < WORD {
            // Zeros are no marker. The file may be sparse, so holes are skipped.
            let data = medium.data_from(place).min(stop);
            if data > place + WORD {
                place = data - WORD;
                here = medium.load(place);
            }
        }
    }
    false
}

/// How many live blocks the chain from `from` has, if it leads exactly to `stop`. More than any file has if the budget runs out.
fn blobs_between(medium: &impl Medium, from: Start, stop: u64, budget: &mut u64) -> Option<u64> {
    let mut chain = Chain::new(medium, from, stop);
    let mut blobs = 0;
    for found in &mut chain {
        if *budget == 0 {
            return Some(u64::MAX >> 1);
        }
        *budget -= 1;
        blobs += u64::from(!found.is_free);
    }
    chain.walk.is_whole().then_some(blobs)
}
