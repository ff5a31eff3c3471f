//! Opening a medium: what is in the file, whether its chain of blocks is whole, and repair of what a killed process, a power cut or
//! an older library left. Nothing that is stored is trusted but the start markers, and these only as far as they form a chain.
//!
//! A medium that needs no repair is walked once and not written to.

use std::ffi::CStr;

use super::error::Error;
use super::format::{
    DYNAMIC, EXTENDED, Extent, HEADER, MIN_BLOCK, MIN_DATA, Marker, MoveIntent, OVERHEAD, SYNC, WORD, header,
    header_flags,
};
use super::free_index::{FreeIndex, State};
use super::heap::Heap;
use super::medium::Medium;
use super::{Flags, Result};

const NOT_INITIALIZED: &str = "it is not initialized, and opened for reading only";
const TOO_SMALL: &str = "it must have 8 bytes, or 40 and more, and only a medium with PALLOC_DYNAMIC grows";

/// What a file holds.
enum Found {
    /// Nothing, or the beginning of a header, in less than 8 bytes.
    Beginning,
    Zeros,
    Medium(u32),
    Foreign,
}

fn identify(medium: &impl Medium) -> Result<Found> {
    let (head, end) = (medium.head(), medium.end());
    if end < HEADER {
        let cut_off = header(0).checked_shr(64 - 8 * end as u32).map_or(0, |bytes| bytes << (64 - 8 * end));
        return Ok(if head == 0 || head == cut_off { Found::Beginning } else { Found::Foreign });
    }
    Ok(match header_flags(head) {
        Some(flags) => Found::Medium(flags),
        None if head == 0 && medium.is_zero_from(HEADER)? => Found::Zeros,
        None => Found::Foreign,
    })
}

/// The flags that the medium's header has, if there is one.
pub fn stored_flags(medium: &impl Medium) -> u32 {
    if medium.end() < HEADER { 0 } else { header_flags(medium.head()).unwrap_or(0) }
}

/// Whether there is a medium; an error if there is something else that must not be made one.
pub fn is_initialized(medium: &impl Medium, flags: Flags) -> Result<bool> {
    match identify(medium)? {
        Found::Medium(_) => Ok(true),
        Found::Beginning | Found::Zeros => Ok(false),
        Found::Foreign if flags.contains(Flags::FORCE) => Ok(false),
        Found::Foreign => Err(Error::NotAMedium),
    }
}

/// Opens the medium, after making one or repairing it where that is called for. On failure nothing that it holds was changed.
/// Returns the flags in its header too.
pub fn open<M: Medium>(mut medium: M, flags: Flags) -> Result<(Heap<M>, u32)> {
    let writable = !flags.contains(Flags::READONLY);
    match identify(&medium)? {
        Found::Medium(stored) if stored & EXTENDED != 0 => return Err(Error::Extended),
        Found::Medium(stored) => match open_chain(&mut medium, stored, writable) {
            Err(Error::Damaged { .. }) if flags.contains(Flags::FORCE) => overwrite(&mut medium, flags)?,
            result => {
                let (index, size) = result?;
                return Ok(heap(medium, index, size, stored, writable));
            }
        },
        Found::Foreign if flags.contains(Flags::FORCE) => overwrite(&mut medium, flags)?,
        Found::Foreign => return Err(Error::NotAMedium),
        _ if !writable => return Err(Error::Incompatible(NOT_INITIALIZED)),
        Found::Beginning | Found::Zeros => initialize(&mut medium, flags)?,
    }
    let stored = stored_flags(&medium);
    let (index, size) = open_chain(&mut medium, stored, writable)?;
    Ok(heap(medium, index, size, stored, writable))
}

/// Whether the medium grows and shrinks: one on a block device can say so, and does not.
fn is_dynamic(medium: &impl Medium, stored: u32) -> bool {
    stored & DYNAMIC != 0 && medium.has_movable_end()
}

fn heap<M: Medium>(medium: M, index: FreeIndex, size: u64, stored: u32, writable: bool) -> (Heap<M>, u32) {
    let first_free = index.first_free().unwrap_or(0);
    let dynamic = is_dynamic(&medium, stored);
    (Heap { medium, index, size, dynamic, writable, first_free, exact: false, used: size, failed_sync: None }, stored)
}

/// Makes a medium of zeros, or of the beginning of a header. The header comes first: with zeros behind it, it is a medium already.
/// It is on the disk in any mode.
fn initialize(medium: &mut impl Medium, flags: Flags) -> Result<()> {
    let wanted = match medium.end() {
        0..HEADER => HEADER,
        HEADER => HEADER,
        end => end.max(HEADER + MIN_BLOCK),
    };
    if wanted > medium.end() && !flags.contains(Flags::DYNAMIC) {
        return Err(Error::Incompatible(if medium.end() == 0 {
            "the file is empty, and only a medium with PALLOC_DYNAMIC grows"
        } else {
            TOO_SMALL
        }));
    }
    if wanted > medium.end() {
        medium.set_end(wanted)?;
    }
    medium.reserve_free(0, HEADER)?; // which is all zeros
    medium.store(0, header(flags.bits() & DYNAMIC));
    medium.flush()
}

/// Makes a medium of whatever the file holds. The header comes last: until then the file is what it was, no medium or a damaged one.
fn overwrite(medium: &mut impl Medium, flags: Flags) -> Result<()> {
    if is_dynamic(medium, flags.bits()) {
        medium.set_end(HEADER)?;
    } else if medium.end() >= HEADER + MIN_BLOCK {
        let end = medium.end();
        make_free(medium, HEADER, end)?;
        medium.barrier()?;
    } else if medium.end() != HEADER {
        return Err(Error::Incompatible(TOO_SMALL));
    }
    medium.reserve(0, HEADER)?;
    medium.store(0, header(flags.bits() & DYNAMIC));
    medium.flush()
}

/// One free block from `at` to `end`.
fn make_free(medium: &mut impl Medium, at: u64, end: u64) -> Result<()> {
    let marker = Marker::free(end - at - OVERHEAD);
    medium.reserve(at, OVERHEAD + WORD)?;
    medium.reserve(end - WORD, WORD)?;
    medium.store(at, marker.0);
    medium.store(end - WORD, marker.0);
    Ok(())
}

/// What a walk along the chain found.
struct Survey {
    /// Where the chain ends; behind it there may be bytes that belong to no block.
    end: u64,
    /// The last block.
    last: u64,
    /// What lies between the chain and the end of the file.
    rest: Rest,
    /// End markers differ from start markers, or free blocks are side by side.
    untidy: bool,
}

#[derive(PartialEq)]
enum Rest {
    Nothing,
    Zeros,
    /// A free block that reaches beyond the end of the file.
    CutOff,
}

/// A free block that is larger than any file is not one that was cut off, but a marker that was overwritten.
const PLAUSIBLE: u64 = 1 << 48;

/// Where blocks are smaller than this, the rest of a page is fetched when the walk comes to it. No page is touched that has no marker.
const DENSE: u64 = 1024;
const PAGE: u64 = 4096;

/// Walks the chain and enters its blocks into the index.
fn survey(medium: &impl Medium, index: &mut FreeIndex) -> Result<Survey> {
    let end = medium.end();
    let mut survey = Survey { end: HEADER, last: 0, rest: Rest::Nothing, untidy: false };
    let mut after_free = false;
    let mut fetched = 0;
    while survey.end < end {
        let at = survey.end;
        let room = end - at;
        if at >= fetched && at - survey.last < DENSE {
            fetched = (at + 1).next_multiple_of(PAGE);
            medium.prefetch(at, fetched);
        }
        let marker = Marker(if room >= WORD { medium.load(at) } else { 0 });
        let n = marker.n();
        if room < MIN_BLOCK || n < MIN_DATA || n > room - OVERHEAD {
            survey.rest = if marker.is_free() && (MIN_DATA..PLAUSIBLE).contains(&n) {
                Rest::CutOff
            } else if marker.0 == 0 && medium.is_zero_from(at)? {
                Rest::Zeros
            } else {
                return Err(Error::Damaged { offset: at, what: "no block begins here" });
            };
            break;
        }
        survey.untidy |= medium.load(at + WORD + n) != marker.0 || (after_free && marker.is_free());
        after_free = marker.is_free();
        index.prepare(at)?;
        if after_free {
            index.add_free(Extent { start: at, data_len: n });
        } else {
            index.put_live(at);
        }
        survey.last = at;
        survey.end = at + OVERHEAD + n;
    }
    Ok(survey)
}

/// Walks the chain, repairs it if need be, and returns the index and the end of the last block.
fn open_chain(medium: &mut impl Medium, stored: u32, writable: bool) -> Result<(FreeIndex, u64)> {
    let dynamic = is_dynamic(medium, stored);
    let mut index = FreeIndex::new();
    let found = survey(medium, &mut index)?;
    if found.rest == Rest::Nothing && !found.untidy {
        return Ok((index, found.end));
    }
    if found.end == HEADER && !dynamic {
        // An initialization that was cut off. (A dynamic medium is one already, with nothing in it.)
        if medium.end() < HEADER + MIN_BLOCK {
            return Err(Error::Incompatible(TOO_SMALL));
        } else if found.rest == Rest::Zeros && !writable {
            return Err(Error::Incompatible(NOT_INITIALIZED));
        }
    }
    finish_moves(medium, &mut index, found.end, writable);
    if !writable {
        return Ok((index, found.end));
    }
    drop(index); // two at a time would be too much memory
    medium.barrier()?;
    let end = claim_rest(medium, &found, dynamic)?;
    tidy_markers(medium, end)?;
    medium.barrier()?;
    let mut index = FreeIndex::new();
    let found = survey(medium, &mut index)?;
    Ok((index, found.end))
}

/// A blob that was being moved is live in its new block, whose end marker says which block it left: frees that one, if it still is
/// live. On a medium that is not written to it becomes free for the index only, and its markers still say live.
fn finish_moves(medium: &mut impl Medium, index: &mut FreeIndex, end: u64, writable: bool) {
    let mut at = HEADER;
    while at < end {
        let marker = Marker(medium.load(at));
        let next = at + OVERHEAD + marker.n();
        if let Some(left) = MoveIntent::from_word(medium.load(next - WORD)) {
            if !marker.is_free() && left != at && index.state(left) == Some(State::Live) {
                let n = Marker(medium.load(left)).n();
                index.add_free(Extent { start: left, data_len: n });
                if writable {
                    medium.store(left, Marker::free(n).0);
                }
            }
        }
        at = next;
    }
}

/// Makes the chain reach the end of the file: bytes that belong to no block become a free one, or are cut off. Returns the end.
fn claim_rest(medium: &mut impl Medium, found: &Survey, dynamic: bool) -> Result<u64> {
    let (at, end) = (found.end, medium.end());
    let is_new = at == HEADER; // an initialization that was cut off
    if at == end {
        return Ok(end);
    }
    if end - at >= MIN_BLOCK && (!dynamic || is_new || found.rest == Rest::CutOff) {
        make_free(medium, at, end)?;
        return Ok(end);
    }
    if dynamic {
        medium.set_end(at)?;
        return Ok(at);
    }
    // Too little for a block: the last one gets it.
    let last = Marker(medium.load(found.last));
    let n = end - found.last - OVERHEAD;
    let longer = if last.is_free() { Marker::free(n) } else { Marker::live(n) };
    medium.reserve(found.last, WORD)?;
    medium.reserve(at, end - at)?;
    medium.store(found.last, longer.0);
    Ok(end)
}

/// Joins free blocks that are side by side, and makes end markers equal to start markers.
fn tidy_markers(medium: &mut impl Medium, end: u64) -> Result<()> {
    let mut at = HEADER;
    while at < end {
        let marker = Marker(medium.load(at));
        let mut next = at + OVERHEAD + marker.n();
        if marker.is_free() {
            while next < end && Marker(medium.load(next)).is_free() {
                next += OVERHEAD + Marker(medium.load(next)).n();
            }
        }
        let n = next - at - OVERHEAD;
        let marker = if marker.is_free() { Marker::free(n) } else { marker };
        for place in [at, next - WORD] {
            if medium.load(place) != marker.0 {
                medium.reserve(place, WORD)?;
                medium.store(place, marker.0);
            }
        }
        at = next;
    }
    Ok(())
}

/// Counts what is not exactly the format, and tells `report` where. Reads only.
pub fn check(medium: &impl Medium, mut report: impl FnMut(u64, &CStr)) -> u64 {
    let mut count = 0;
    let mut found = |offset, what: &CStr| {
        count += 1;
        report(offset, what);
    };
    let end = medium.end();
    match if end < HEADER { None } else { header_flags(medium.head()) } {
        None => found(0, c"there is no palloc header"),
        Some(flags) if flags & EXTENDED != 0 => found(WORD / 2, c"the EXTENDED flag is set"),
        Some(_) => {
            let (mut at, mut free, mut after_free) = (HEADER, 0, false);
            while at < end {
                let room = end - at;
                let marker = Marker(if room >= WORD { medium.load(at) } else { 0 });
                let n = marker.n();
                if room < MIN_BLOCK || n < MIN_DATA || n > room - OVERHEAD {
                    found(at, c"no block begins here, the rest cannot be read");
                    return count;
                }
                if medium.load(at + WORD + n) != marker.0 {
                    found(at, c"the end marker differs from the start marker");
                }
                if marker.is_free() {
                    if after_free {
                        found(at, c"a free block stands beside a free block");
                    }
                    if free != 0 && medium.load(free + 2 * WORD) != at {
                        found(free, c"the next link is not the next free block");
                    }
                    if medium.load(at + WORD) != free {
                        found(at, c"the prev link is not the free block before");
                    }
                    free = at;
                }
                after_free = marker.is_free();
                at += OVERHEAD + n;
            }
            if free != 0 && medium.load(free + 2 * WORD) != 0 {
                found(free, c"the last free block has a next link");
            }
        }
    }
    count
}

/// Whether every operation is to be durable: asked for now, or by a program that stored it in the header.
pub fn is_durable(stored: u32, flags: Flags) -> bool {
    flags.contains(Flags::SYNC) || stored & SYNC != 0
}
