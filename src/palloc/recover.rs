// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening a medium: identifies or initializes it, surveys its chain, and repairs what a killed process, a power cut or an older library
//! left. Only the start markers are trusted, and these only as far as they form a chain.
//!
//! A medium that needs no repair is walked once and not written to. `survey` walks, `ahead` reads ahead of it, `repair` stores, `check`
//! compares a medium with the format.

mod ahead;
mod check;
mod repair;
mod survey;

pub use self::check::check;
pub use self::repair::make_block;
use self::repair::{find_unfinished, read_only_chain, repair};
use self::survey::survey;
pub use self::survey::{Rest, rest_at};
use super::block_index::BlockIndex;
use super::error::Error;
use super::format::{DYNAMIC, EXTENDED, Extent, HEADER, MIN_BLOCK, Marker, SYNC, Start, header, header_flags};
use super::heap::Heap;
use super::medium::{Bytes, Medium};
use super::{Flags, Result, replay};

const NOT_INITIALIZED: &str = "it is not initialized, and opened for reading only";
const TOO_SMALL: &str = "it must have 8 bytes, or 40 and more, and only a medium with PALLOC_DYNAMIC grows";

/// The contents of a file.
enum Found {
    /// Nothing, or the beginning of a header, in less than 8 bytes.
    Beginning,
    Zeros,
    Medium(u32),
    Foreign,
}

fn identify(medium: &impl Medium) -> Result<Found> {
    let (head, end) = (medium.head(), medium.file_len());
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
    if medium.file_len() < HEADER { 0 } else { header_flags(medium.head()).unwrap_or(0) }
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

/// Opens the medium. First makes one or repairs it, if need be. Returns the flags in its header too.
///
/// On failure the chain leads to the same blobs as before; a repair may be done in part. Nothing was stored to a medium that is refused as
/// damaged.
pub fn open<M: Medium>(mut medium: M, flags: Flags) -> Result<(Heap<M>, u32)> {
    let writable = !flags.contains(Flags::READONLY);
    match identify(&medium)? {
        Found::Medium(stored) if stored & EXTENDED != 0 => return Err(Error::Extended),
        Found::Medium(stored) => match open_chain(&mut medium, stored, writable) {
            Err(Error::Damaged { .. }) if flags.contains(Flags::FORCE) => overwrite(&mut medium, flags)?,
            result => {
                let opened = result?;
                return Ok(heap(medium, opened, stored, writable));
            }
        },
        Found::Foreign if flags.contains(Flags::FORCE) => overwrite(&mut medium, flags)?,
        Found::Foreign => return Err(Error::NotAMedium),
        _ if !writable => return Err(Error::Incompatible(NOT_INITIALIZED)),
        Found::Beginning | Found::Zeros => initialize(&mut medium, flags)?,
    }
    let stored = stored_flags(&medium);
    let opened = open_chain(&mut medium, stored, writable)?;
    Ok(heap(medium, opened, stored, writable))
}

/// Whether the medium grows and shrinks. One on a block device does not, whatever its header says.
fn is_dynamic(medium: &impl Medium, stored: u32) -> bool {
    stored & DYNAMIC != 0 && medium.has_movable_len()
}

/// The heap of a live reader, which does not walk the medium. Fails iff that has no header.
pub fn beside_writer<M: Medium>(medium: M) -> Result<(Heap<M>, u32)> {
    let stored =
        Some(&medium).filter(|medium| medium.file_len() >= HEADER).and_then(|medium| header_flags(medium.head()));
    let stored = stored.ok_or(Error::NotAMedium)?;
    let opened = Opened::tidy(BlockIndex::new(), Start::at(medium.file_len()));
    Ok(heap(medium, opened, stored, false))
}

fn heap<M: Medium>(medium: M, opened: Opened, stored: u32, writable: bool) -> (Heap<M>, u32) {
    let Opened { index, end, overlay, shown_as_free } = opened;
    let dynamic = is_dynamic(&medium, stored);
    let (exact, zeros_from, failed_sync) = (false, end.offset(), None);
    let (tx, turns, keeping, held) = Default::default();
    (
        Heap {
            medium,
            index,
            blocks_end: end,
            dynamic,
            writable,
            exact,
            zeros_from,
            failed_sync,
            overlay,
            shown_as_free,
            tx,
            turns,
            keeping,
            held,
        },
        stored,
    )
}

/// Makes a medium of zeros, or of the beginning of a header. The header comes first: with zeros behind it, it is a medium already.
/// It is on the disk in any mode.
fn initialize(medium: &mut impl Medium, flags: Flags) -> Result<()> {
    let wanted = match medium.file_len() {
        0..HEADER => HEADER,
        HEADER => HEADER,
        end => end.max(HEADER + MIN_BLOCK),
    };
    if wanted > medium.file_len() && !flags.contains(Flags::DYNAMIC) {
        return Err(Error::Incompatible(if medium.file_len() == 0 {
            "the file is empty, and only a medium with PALLOC_DYNAMIC grows"
        } else {
            TOO_SMALL
        }));
    }
    if wanted > medium.file_len() {
        medium.set_file_len(wanted)?;
    }
    medium.ensure_space(0..HEADER, Bytes::Scratch)?; // which is all zeros
    medium.store(0, header(flags.bits() & DYNAMIC));
    medium.flush()
}

/// Makes a medium, whatever the file holds. The header comes last: until then the file is no medium or a damaged one, as before.
fn overwrite(medium: &mut impl Medium, flags: Flags) -> Result<()> {
    if is_dynamic(medium, flags.bits()) {
        medium.set_file_len(HEADER)?;
    } else if medium.file_len() >= HEADER + MIN_BLOCK {
        let all = Extent::between(Start::FIRST, medium.file_len());
        make_block(medium, all, true)?;
        medium.barrier()?;
    } else if medium.file_len() != HEADER {
        return Err(Error::Incompatible(TOO_SMALL));
    }
    medium.ensure_space(0..HEADER, Bytes::Preserve)?;
    medium.store(0, header(flags.bits() & DYNAMIC));
    medium.flush()
}

/// What the heap gets.
struct Opened {
    index: BlockIndex,
    /// The end of the last block.
    end: Start,
    overlay: Overlay,
    /// A log of a medium that is read only, if no block is free: logs are shown as free.
    shown_as_free: Option<Start>,
}

impl Opened {
    /// A medium whose markers are as they should be.
    fn tidy(index: BlockIndex, end: Start) -> Opened {
        Opened { index, end, overlay: Overlay::default(), shown_as_free: None }
    }
}

/// The start markers that a medium would have if it were repaired, each with the start of its block.
#[derive(Default)]
pub struct Overlay {
    /// The block that an operation which was cut off was to change.
    unfinished: Option<(Start, Marker)>,
    /// The free block that a shrink was to leave behind it.
    rest: Option<(Start, Marker)>,
    /// The last block, which leads beyond the end of the file.
    last: Option<(Start, Marker)>,
}

impl Overlay {
    /// Whether no marker would change.
    pub fn is_empty(&self) -> bool {
        self.unfinished.is_none() && self.rest.is_none() && self.last.is_none()
    }

    /// The marker for the block at `start`, if that would have another one.
    pub fn marker(&self, start: Start) -> Option<Marker> {
        let mut markers = [self.unfinished, self.rest, self.last].into_iter().flatten();
        markers.find(|&(other, _)| other == start).map(|(_, marker)| marker)
    }
}

/// Walks the chain, and repairs it if need be.
fn open_chain(medium: &mut impl Medium, stored: u32, writable: bool) -> Result<Opened> {
    let dynamic = is_dynamic(medium, stored);
    let mut index = BlockIndex::new();
    let found = survey(medium, dynamic, &mut index)?;
    if found.rest == Rest::Nothing && !found.untidy {
        return Ok(Opened::tidy(index, found.end));
    }
    if found.end == Start::FIRST && !dynamic {
        // An initialization that was cut off. (A dynamic medium is one already, with nothing in it.)
        if medium.file_len() < HEADER + MIN_BLOCK {
            return Err(Error::Incompatible(TOO_SMALL));
        } else if found.rest == Rest::Zeros && !writable {
            return Err(Error::Incompatible(NOT_INITIALIZED));
        }
    }
    // A power cut may leave an intent and a record: an operation takes the last record back without waiting for the disk. All changes of
    // that record are on the disk then, so doing it again changes no block of the intent.
    let unfinished = find_unfinished(medium, &index, found.end);
    let found = if replay::finish(medium, &mut index, found.end.offset(), writable)? {
        index = BlockIndex::new();
        survey(medium, dynamic, &mut index)?
    } else {
        found
    };
    if !writable {
        return read_only_chain(medium, index, &found, unfinished);
    }
    drop(index); // two at a time would be too much memory
    repair(medium, found, unfinished, dynamic)?;
    let mut index = BlockIndex::new();
    let found = survey(medium, dynamic, &mut index)?;
    Ok(Opened::tidy(index, found.end))
}

/// Whether every operation is to be durable: asked for now, or by a program that stored it in the header.
pub fn wants_sync(stored: u32, flags: Flags) -> bool {
    flags.contains(Flags::SYNC) || stored & SYNC != 0
}
