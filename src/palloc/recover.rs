//! Opening a medium: what is in the file, whether its chain of blocks is whole, and repair of what a killed process, a power cut or
//! an older library left. Nothing that is stored is trusted but the start markers, and these only as far as they form a chain.
//!
//! A medium that needs no repair is walked once and not written to.

use std::ffi::CStr;

use super::error::Error;
use super::format::{
    DYNAMIC, EXTENDED, Extent, HEADER, Intent, MIN_BLOCK, MIN_DATA, Marker, OVERHEAD, SYNC, WORD, header, header_flags,
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
        None if head == 0 && medium.is_zero(HEADER, end)? => Found::Zeros,
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
                let chain = result?;
                return Ok(heap(medium, chain, stored, writable));
            }
        },
        Found::Foreign if flags.contains(Flags::FORCE) => overwrite(&mut medium, flags)?,
        Found::Foreign => return Err(Error::NotAMedium),
        _ if !writable => return Err(Error::Incompatible(NOT_INITIALIZED)),
        Found::Beginning | Found::Zeros => initialize(&mut medium, flags)?,
    }
    let stored = stored_flags(&medium);
    let chain = open_chain(&mut medium, stored, writable)?;
    Ok(heap(medium, chain, stored, writable))
}

/// Whether the medium grows and shrinks: one on a block device can say so, and does not.
fn is_dynamic(medium: &impl Medium, stored: u32) -> bool {
    stored & DYNAMIC != 0 && medium.has_movable_end()
}

fn heap<M: Medium>(medium: M, chain: Chain, stored: u32, writable: bool) -> (Heap<M>, u32) {
    let Chain { index, size, overlay } = chain;
    let first_free = index.first_free().unwrap_or(0);
    let dynamic = is_dynamic(&medium, stored);
    let (used, failed_sync) = (size, None);
    (Heap { medium, index, size, dynamic, writable, first_free, exact: false, used, failed_sync, overlay }, stored)
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
        make_block(medium, HEADER, end, true)?;
        medium.barrier()?;
    } else if medium.end() != HEADER {
        return Err(Error::Incompatible(TOO_SMALL));
    }
    medium.reserve(0, HEADER)?;
    medium.store(0, header(flags.bits() & DYNAMIC));
    medium.flush()
}

/// One block from `at` to `end`.
fn make_block(medium: &mut impl Medium, at: u64, end: u64, is_free: bool) -> Result<()> {
    let n = end - at - OVERHEAD;
    let marker = if is_free { Marker::free(n) } else { Marker::live(n) };
    medium.reserve(at, OVERHEAD + WORD)?;
    medium.reserve(end - WORD, WORD)?;
    medium.store(at, marker.0);
    medium.store(end - WORD, marker.0);
    Ok(())
}

/// The chain of an open medium.
struct Chain {
    index: FreeIndex,
    /// The end of the last block.
    size: u64,
    overlay: Overlay,
}

/// Start markers that a medium would have if it were repaired, by the start of their blocks. 0 stands for no block.
pub type Overlay = [(u64, Marker); 3];
const NO_OVERLAY: Overlay = [(0, Marker(0)); 3];

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

#[derive(Clone, Copy, PartialEq)]
enum Rest {
    Nothing,
    /// Zeros, and perhaps the end marker of a free block that they would be.
    Zeros,
    /// A block that reaches beyond the end of the file.
    CutOff(Marker),
}

/// A block that is larger than any file is not one that was cut off, but a marker that was overwritten.
const PLAUSIBLE: u64 = 1 << 48;

/// Where blocks are smaller than this, the rest of a page is fetched when the walk comes to it. No page is touched that has no marker.
const DENSE: u64 = 1024;
const PAGE: u64 = 4096;

/// Walks the chain and enters its blocks into the index.
fn survey(medium: &impl Medium, dynamic: bool, index: &mut FreeIndex) -> Result<Survey> {
    let end = medium.end();
    let mut survey = Survey { end: HEADER, last: 0, rest: Rest::Nothing, untidy: false };
    let mut after_free = false;
    let mut fetched = 0;
    // Whether the block before is surely one: its end marker says so.
    let mut is_sure = true;
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
            survey.rest = if dynamic && is_sure && was_cut_off(medium, at, marker) {
                Rest::CutOff(marker)
            } else if marker.0 == 0 && is_unclaimed(medium, at)? {
                Rest::Zeros
            } else {
                return Err(Error::Damaged { offset: at, what: "no block begins here" });
            };
            break;
        }
        let (next, end_marker) = (at + OVERHEAD + n, Marker(medium.load(at + WORD + n)));
        is_sure = end_marker == marker || has_end_of(medium, at, marker, end_marker);
        if end_marker != marker {
            survey.untidy = true;
            // One blob may have been there, which was freed and whose space was handed out again just before the power was cut.
            if !marker.is_free() && !is_sure && hides_blobs(medium, at, next, marker, 2) {
                return Err(Error::Damaged { offset: at, what: "the start marker was overwritten" });
            }
        }
        survey.untidy |= after_free && marker.is_free();
        after_free = marker.is_free();
        index.prepare(at)?;
        if after_free {
            index.add_free(Extent { start: at, data_len: n });
        } else {
            index.put_live(at);
        }
        survey.last = at;
        survey.end = next;
    }
    Ok(survey)
}

/// Whether an operation that was cut off can leave that end marker in the block at `at`: its own but for the bit that says free, an intent,
/// or that of the last block which a free one took up.
fn has_end_of(medium: &impl Medium, at: u64, marker: Marker, end_marker: Marker) -> bool {
    let (n, taken) = (marker.n(), end_marker.n());
    let took_up = || {
        let start = Marker(medium.load(at + n - taken));
        start.0 == 0 || start.n() == taken
    };
    n == taken
        || Intent::from_word(end_marker.0).is_some()
        || (marker.is_free() && taken >= MIN_DATA && taken <= n.saturating_sub(MIN_BLOCK) && took_up())
}

/// Whether the bytes from `at` to the end of the file are a dynamic medium's last block, which was being given back, or was growing
/// when the power was cut.
fn was_cut_off(medium: &impl Medium, at: u64, marker: Marker) -> bool {
    let end = medium.end();
    (MIN_DATA..PLAUSIBLE).contains(&marker.n())
        && (marker.is_free() || end - at >= MIN_BLOCK)
        && !hides_blobs(medium, at, end, marker, 1)
}

/// Whether the bytes from `at` to the end of the file are zeros: growth or an initialization that was cut off. The end marker of the
/// free block that was to be there may be on the disk without the start marker.
fn is_unclaimed(medium: &impl Medium, at: u64) -> Result<bool> {
    let end = medium.end();
    let claimed = end - at >= MIN_BLOCK && medium.load(end - WORD) == Marker::free(end - at - OVERHEAD).0;
    medium.is_zero(at, if claimed { end - WORD } else { end })
}

/// Whether the start marker at `at`, which claims the bytes up to `stop`, hides `least` live blocks or more: whether there is the end marker of a
/// shorter block from which a chain leads exactly to `stop`. Such a shorter block may be odd and end anywhere. Where a live marker
/// claims these bytes, that block itself is not hidden; where a free one does, it is.
fn hides_blobs(medium: &impl Medium, at: u64, stop: u64, marker: Marker, least: u64) -> bool {
    let last = stop - WORD;
    // Bytes from anywhere may begin very many chains. So many blocks are looked at, in proportion to the file; then it is damaged.
    let mut budget = 64 + (stop - at) / WORD;
    let mut place = at + WORD + MIN_DATA;
    let mut here = if place <= last { medium.load(place) } else { 0 };
    while place <= last {
        // The last word is read so that it ends with the bytes.
        let behind = match last - place {
            0 => 0,
            more if more >= WORD => medium.load(place + WORD),
            more => medium.load(last) << (8 * (WORD - more)),
        };
        for shift in 0..WORD.min(last - place + 1) {
            let bits = 8 * shift as u32;
            let word = Marker(here << bits | behind.checked_shr(64 - bits).unwrap_or(0));
            let end = place + shift + WORD;
            if word.n() == end - at - OVERHEAD {
                let first = u64::from(marker.is_free() && !word.is_free());
                if blobs_between(medium, end, stop, &mut budget).is_some_and(|blobs| first + blobs >= least) {
                    return true;
                }
            }
        }
        place += WORD;
        here = behind;
        if here == 0 && place % PAGE < WORD {
            // No marker of a block is zeros: those are skipped, as the file may be sparse.
            let data = medium.data_from(place).min(stop);
            if data > place + WORD {
                place = data - WORD;
                here = medium.load(place);
            }
        }
    }
    false
}

/// How many live blocks the chain from `from` has, if it leads exactly to `stop`; any number if the budget runs out.
fn blobs_between(medium: &impl Medium, from: u64, stop: u64, budget: &mut u64) -> Option<u64> {
    let (mut at, mut blobs) = (from, 0);
    while at < stop {
        let room = stop - at;
        let marker = Marker(if room >= MIN_BLOCK { medium.load(at) } else { 0 });
        let n = marker.n();
        if n < MIN_DATA || n > room - OVERHEAD {
            return None;
        }
        if *budget == 0 {
            return Some(u64::MAX >> 1);
        }
        *budget -= 1;
        blobs += u64::from(!marker.is_free());
        at += OVERHEAD + n;
    }
    Some(blobs)
}

/// Walks the chain, repairs it if need be, and returns it.
fn open_chain(medium: &mut impl Medium, stored: u32, writable: bool) -> Result<Chain> {
    let dynamic = is_dynamic(medium, stored);
    let mut index = FreeIndex::new();
    let found = survey(medium, dynamic, &mut index)?;
    if found.rest == Rest::Nothing && !found.untidy {
        return Ok(Chain { index, size: found.end, overlay: NO_OVERLAY });
    }
    if found.end == HEADER && !dynamic {
        // An initialization that was cut off. (A dynamic medium is one already, with nothing in it.)
        if medium.end() < HEADER + MIN_BLOCK {
            return Err(Error::Incompatible(TOO_SMALL));
        } else if found.rest == Rest::Zeros && !writable {
            return Err(Error::Incompatible(NOT_INITIALIZED));
        }
    }
    let unfinished = find_unfinished(medium, &index, found.end);
    if !writable {
        return read_only_chain(medium, index, &found, unfinished);
    }
    drop(index); // two at a time would be too much memory
    let mut found = found;
    if let Some(unfinished) = unfinished {
        finish(medium, &unfinished)?;
        found.last = found.last.max(unfinished.rest.map_or(0, |(rest, _)| rest));
    }
    medium.barrier()?;
    let end = claim_rest(medium, &found, dynamic)?;
    tidy_markers(medium, end)?;
    medium.barrier()?;
    let mut index = FreeIndex::new();
    let found = survey(medium, dynamic, &mut index)?;
    Ok(Chain { index, size: found.end, overlay: NO_OVERLAY })
}

/// An operation that committed by an intent and was cut off before all of its start markers were there.
struct Unfinished {
    /// The block that gets another start marker.
    at: u64,
    marker: Marker,
    /// The block that begins in its data then.
    rest: Option<(u64, Marker)>,
}

/// Looks for the intent of the operation that was cut off: there is one at most. Other words can look like one, so what it says has to be
/// possible: the block that a blob left holds the same bytes still.
fn find_unfinished(medium: &impl Medium, index: &FreeIndex, end: u64) -> Option<Unfinished> {
    let mut at = HEADER;
    while at < end {
        let marker = Marker(medium.load(at));
        let n = marker.n();
        let next = at + OVERHEAD + n;
        if !marker.is_free() {
            match Intent::from_word(medium.load(next - WORD)) {
                Some(Intent::Leave(left)) if left != at && index.state(left) == Some(State::Live) => {
                    let left_n = Marker(medium.load(left)).n();
                    if left_n <= n && has_same_bytes(medium, left + WORD, at + WORD, left_n) {
                        return Some(Unfinished { at: left, marker: Marker::free(left_n), rest: None });
                    }
                }
                Some(Intent::ShrinkTo(rest)) if rest >= at + MIN_BLOCK && rest <= next.saturating_sub(MIN_BLOCK) => {
                    let (kept, freed) = (Marker::live(rest - at - OVERHEAD), Marker::free(next - rest - OVERHEAD));
                    return Some(Unfinished { at, marker: kept, rest: Some((rest, freed)) });
                }
                _ => {}
            }
        }
        at = next;
    }
    None
}

fn has_same_bytes(medium: &impl Medium, a: u64, b: u64, len: u64) -> bool {
    let words = (0..=len - WORD).step_by(WORD as usize).chain([len - WORD]);
    words.into_iter().all(|at| medium.load(a + at) == medium.load(b + at))
}

/// Writes the start markers of an operation that was cut off, in the order in which it does.
fn finish(medium: &mut impl Medium, unfinished: &Unfinished) -> Result<()> {
    if let Some((rest, freed)) = unfinished.rest {
        medium.reserve(rest - WORD, OVERHEAD)?;
        medium.store(rest - WORD, unfinished.marker.0);
        medium.store(rest, freed.0);
        medium.barrier()?;
    }
    medium.reserve(unfinished.at, WORD)?;
    medium.store(unfinished.at, unfinished.marker.0);
    Ok(())
}

/// The chain of a medium that needs repair and is not written to: as far as it goes, with what the repair would change laid over it.
fn read_only_chain(
    medium: &impl Medium,
    mut index: FreeIndex,
    found: &Survey,
    unfinished: Option<Unfinished>,
) -> Result<Chain> {
    let (mut overlay, mut size) = (NO_OVERLAY, found.end);
    if let Some(Unfinished { at, marker, rest }) = unfinished {
        overlay[0] = (at, marker);
        if marker.is_free() {
            index.add_free(Extent { start: at, data_len: marker.n() });
        }
        if let Some((rest, freed)) = rest {
            overlay[1] = (rest, freed);
            index.prepare(rest)?;
            index.add_free(Extent { start: rest, data_len: freed.n() });
        }
    }
    if let Rest::CutOff(marker) = found.rest {
        if !marker.is_free() {
            overlay[2] = (found.end, Marker::live(medium.end() - found.end - OVERHEAD));
            index.prepare(found.end)?;
            index.put_live(found.end);
            size = medium.end();
        }
    }
    Ok(Chain { index, size, overlay })
}

/// Makes the chain reach the end of the file: bytes that belong to no block become a free one, or are cut off. Returns the end.
fn claim_rest(medium: &mut impl Medium, found: &Survey, dynamic: bool) -> Result<u64> {
    let (at, end) = (found.end, medium.end());
    let is_new = at == HEADER; // an initialization that was cut off
    if at == end {
        return Ok(end);
    }
    if let (Rest::CutOff(marker), true) = (found.rest, end - at >= MIN_BLOCK) {
        make_block(medium, at, end, marker.is_free())?;
        return Ok(end);
    }
    if end - at >= MIN_BLOCK && (!dynamic || is_new) {
        make_block(medium, at, end, true)?;
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
