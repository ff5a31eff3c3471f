// SPDX-License-Identifier: MIT OR Apache-2.0
//! Repair: finishes the operation that was cut off, makes the chain reach the end of the file, and corrects end markers.

use super::survey::{Rest, Survey};
use super::{Opened, Overlay};
use crate::palloc::Result;
use crate::palloc::block_index::{BlockIndex, State};
use crate::palloc::chain::{Chain, Walk};
use crate::palloc::format::{Extent, FREE_HEAD, Intent, MIN_BLOCK, Marker, Start, WORD};
use crate::palloc::medium::{Bytes, Medium};

/// An operation that was published by an intent and cut off before all of its start markers were stored.
pub struct Unfinished {
    /// The start of the block that gets another start marker.
    start: Start,
    marker: Marker,
    /// The free block that starts in its data then.
    rest: Option<Extent>,
}

/// Finds the operation that was cut off; there is one at most.
///
/// A program's bytes may look like an intent, so the operation must be possible: the block that a blob was moved out of still has the
/// same bytes.
pub fn find_unfinished(medium: &impl Medium, index: &BlockIndex, end: Start) -> Option<Unfinished> {
    for found in Chain::new(medium, Start::FIRST, end.offset()).filter(|found| !found.is_free) {
        let block = found.block;
        match Intent::from_word(found.end_marker(medium).0) {
            Some(Intent::Leave(left)) if left != block.start && index.state(left) == Some(State::Live) => {
                let left = Extent { start: left, data_len: medium.start_marker(left).data_len() };
                if left.data_len <= block.data_len && has_same_bytes(medium, left, block) {
                    return Some(Unfinished { start: left.start, marker: Marker::free(left.data_len), rest: None });
                }
            }
            Some(Intent::ShrinkTo(rest))
                if rest >= block.start.plus(MIN_BLOCK) && rest.offset() <= block.end().saturating_sub(MIN_BLOCK) =>
            {
                let kept = Extent::between(block.start, rest.offset());
                let rest = Some(Extent::between(rest, block.end()));
                return Some(Unfinished { start: block.start, marker: Marker::live(kept.data_len), rest });
            }
            _ => {}
        }
    }
    None
}

/// Whether the data of `shorter` is the beginning of that of `longer`.
fn has_same_bytes(medium: &impl Medium, shorter: Extent, longer: Extent) -> bool {
    let last_word = shorter.data_len - WORD;
    let mut words = (0..=last_word).step_by(WORD as usize).chain([last_word]);
    words.all(|offset| medium.load(shorter.blob() + offset) == medium.load(longer.blob() + offset))
}

/// Stores the markers of an operation that was cut off, in its own order.
pub fn finish(medium: &mut impl Medium, unfinished: &Unfinished) -> Result<()> {
    if let Some(rest) = unfinished.rest {
        let end_marker = rest.start.offset() - WORD;
        medium.ensure_space(end_marker..rest.blob(), Bytes::Preserve)?;
        medium.store(end_marker, unfinished.marker.0);
        medium.store_start(rest.start, Marker::free(rest.data_len));
        medium.barrier()?;
    }
    medium.ensure_space(unfinished.start.marker(), Bytes::Preserve)?;
    medium.store_start(unfinished.start, unfinished.marker);
    Ok(())
}

/// Stores all markers that a repair needs. On failure the chain leads to the same blobs as before.
pub fn repair(
    medium: &mut impl Medium,
    mut found: Survey,
    unfinished: Option<Unfinished>,
    dynamic: bool,
) -> Result<()> {
    if let Some(unfinished) = unfinished {
        finish(medium, &unfinished)?;
        found.last = found.last.max(unfinished.rest.map(|rest| rest.start));
    }
    medium.barrier()?;
    let end = claim_rest(medium, &found, dynamic)?;
    tidy_markers(medium, end)?;
    medium.barrier()
}

/// The chain of a medium that needs repair and is read only: as a repair would leave it.
pub fn read_only_chain(
    medium: &impl Medium,
    mut index: BlockIndex,
    found: &Survey,
    unfinished: Option<Unfinished>,
) -> Result<Opened> {
    let (mut overlay, mut end) = (Overlay::default(), found.end);
    if let Some(Unfinished { start, marker, rest }) = unfinished {
        overlay.unfinished = Some((start, marker));
        if marker.is_free() {
            index.add_free(Extent { start, data_len: marker.data_len() });
        }
        if let Some(rest) = rest {
            overlay.rest = Some((rest.start, Marker::free(rest.data_len)));
            index.prepare(rest.start)?;
            index.add_free(rest);
        }
    }
    if let Rest::LeadsBeyondEnd(marker) = found.rest {
        if !marker.is_free() {
            let last = Extent::between(found.end, medium.file_len());
            overlay.last = Some((last.start, Marker::live(last.data_len)));
            index.prepare(last.start)?;
            index.put_live(last.start);
            end = last.next();
        }
    }
    // (A walk along all blocks: no other medium needs it.)
    let log = || index.blocks().find(|&(_, state)| state == State::Reserved).map(|(start, _)| start);
    let shown_as_free = if index.first_free() == Start::NOWHERE { log() } else { None };
    Ok(Opened { index, end, overlay, shown_as_free })
}

/// Stores both markers of a block.
pub fn make_block(medium: &mut impl Medium, block: Extent, is_free: bool) -> Result<()> {
    let marker = if is_free { Marker::free(block.data_len) } else { Marker::live(block.data_len) };
    medium.ensure_space(block.start.offset()..block.start.offset() + FREE_HEAD, Bytes::Preserve)?;
    medium.ensure_space(block.end_marker()..block.end(), Bytes::Preserve)?;
    medium.store_start(block.start, marker);
    medium.store(block.end_marker(), marker.0);
    Ok(())
}

/// Makes the chain reach the end of the file: bytes that belong to no block become a block, or are cut off. Returns the end.
///
/// | the bytes | static medium | dynamic medium |
/// | --- | --- | --- |
/// | a block that leads beyond the end | does not occur | that block, up to the end |
/// | 32 or more, and there is no block yet | a free block | a free block |
/// | 32 or more | a free block | cut off |
/// | fewer | the last block gets them | cut off |
fn claim_rest(medium: &mut impl Medium, found: &Survey, dynamic: bool) -> Result<u64> {
    let (chain_end, end) = (found.end.offset(), medium.file_len());
    if chain_end == end {
        return Ok(end);
    }
    if end - chain_end >= MIN_BLOCK {
        let is_free = match found.rest {
            Rest::LeadsBeyondEnd(marker) => Some(marker.is_free()),
            _ => (!dynamic || found.last.is_none()).then_some(true),
        };
        if let Some(is_free) = is_free {
            make_block(medium, Extent::between(found.end, end), is_free)?;
            return Ok(end);
        }
    }
    let Some(last) = found.last.filter(|_| !dynamic) else {
        medium.set_file_len(chain_end)?;
        return Ok(chain_end);
    };
    let data_len = Extent::between(last, end).data_len;
    let is_free = medium.start_marker(last).is_free();
    medium.ensure_space(last.marker(), Bytes::Preserve)?;
    medium.ensure_space(chain_end..end, Bytes::Preserve)?;
    medium.store_start(last, if is_free { Marker::free(data_len) } else { Marker::live(data_len) });
    Ok(end)
}

/// Joins free blocks that are side by side, and makes end markers equal to start markers.
fn tidy_markers(medium: &mut impl Medium, end: u64) -> Result<()> {
    let mut walk = Walk::new(Start::FIRST, end);
    while let Some(first) = walk.next(medium) {
        let mut joined = first;
        if first.is_free {
            let run = Chain::new(medium, walk.end, end).take_while(|found| found.is_free);
            if let Some(last) = run.last() {
                joined.block = Extent::between(first.block.start, last.block.end());
            }
        }
        for place in [first.block.start.offset(), joined.block.end_marker()] {
            if medium.load(place) != joined.marker().0 {
                medium.ensure_space(place..place + WORD, Bytes::Preserve)?;
                medium.store(place, joined.marker().0);
            }
        }
        walk.end = joined.block.next();
    }
    debug_assert!(walk.is_whole(), "the chain was whole");
    Ok(())
}
