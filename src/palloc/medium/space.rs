// SPDX-License-Identifier: MIT OR Apache-2.0
//! Space on the disk for the pages of a file.
//!
//! A store to a page is a SIGBUS if the disk has no space for it. So growth allocates space before anything uses it. In a file with
//! holes, each range is allocated before the first store to it, in whole pages, because the file system's blocks may be smaller. The
//! pages of an allocated range are then made writable in one call, for three reasons: some file systems can still fail there (ext4, in a
//! file of very many pieces), others can't allocate otherwise (ext2), and it costs less than a fault for each page. On tmpfs a load from
//! a hole takes space too: there, holes are read by system calls.

use std::ops::Range;

use super::Bytes;
use crate::palloc::os::MappedFile;
use crate::palloc::{Error, Result};

const GIVING_BACK: &str = "give space back to the file system";

/// Holes are filled in pieces of this size.
const PIECE: u64 = 64 << 10;

/// How far beyond a request pages of growth are made writable, and for how many bytes this pays: a large blob may never be written whole.
const POPULATE_AHEAD: u64 = 256 << 10;
const POPULATE_AT_MOST: u64 = 1 << 20;

/// The space that a file is known to have on the disk.
pub struct Space {
    /// Pages of growth up to here were made writable, or would have cost too much.
    populated: u64,
    /// None if the file has no holes.
    holes: Option<Holes>,
}

impl Space {
    /// Finds the holes of a file.
    pub fn of(file: &MappedFile) -> Space {
        Space { populated: file.end(), holes: if file.has_movable_len() { Holes::find(file) } else { None } }
    }

    /// From now on no page counts as one with space of its own.
    pub fn assume_holes(&mut self) {
        match &mut self.holes {
            Some(holes) => holes.filled.clear(),
            None => self.holes = Some(Holes { filled: Vec::new(), loads_fill: false }),
        }
    }

    /// Whether the file has holes.
    #[inline]
    pub fn has_holes(&self) -> bool {
        self.holes.is_some()
    }

    /// Whether loads must use a system call where there are holes.
    pub fn loads_fill_holes(&self) -> bool {
        self.holes.as_ref().is_some_and(|holes| holes.loads_fill)
    }

    /// The word at `at`, if a load through the mapping would fill a hole; else None.
    #[inline]
    pub fn read(&self, file: &MappedFile, at: u64) -> Option<u64> {
        self.holes.as_ref().and_then(|holes| holes.read(file, at))
    }

    /// Notes that the file was cut at `end`.
    pub fn note_cut(&mut self, end: u64) {
        self.populated = self.populated.min(end);
    }

    /// Whether [`Space::ensure`] has nothing to do.
    #[inline]
    pub fn is_ensured(&self, range: &Range<u64>, bytes: Bytes) -> bool {
        self.holes.is_none() && (bytes == Bytes::Preserve || range.end <= self.populated)
    }

    /// As [`Medium::ensure_space`](super::Medium::ensure_space).
    pub fn ensure(&mut self, file: &MappedFile, range: Range<u64>, bytes: Bytes) -> Result<()> {
        let (at, len) = (range.start, range.end - range.start);
        match (bytes, &mut self.holes) {
            (Bytes::Preserve, None) => Ok(()),
            (Bytes::Preserve, Some(holes)) => holes.fill(file, at, len).map(drop),
            (Bytes::Scratch, _) => {
                self.populate_growth(file, range.end)?;
                let Some(holes) = &mut self.holes else { return Ok(()) };
                let filled = holes.fill(file, at, len);
                let filled = filled.and_then(|done| if done { Ok(()) } else { file.write_zeros(at, len) });
                filled.inspect_err(|_| holes.open_again(file, at, len))
            }
        }
    }

    /// As [`Medium::give_back`](super::Medium::give_back).
    pub fn give_back(&mut self, file: &MappedFile, range: Range<u64>, least: u64) -> Result<()> {
        let pages = whole_pages(file, range);
        let len = pages.end.saturating_sub(pages.start);
        if len == 0 || len < least {
            return Ok(());
        }
        // First the note: if the call fails, pages that have space count as ones that don't, which costs a call later.
        let holes = self.holes.get_or_insert_with(|| Holes::filled(file));
        holes.note_hole(pages.clone());
        file.punch_hole(pages.start, len).map_err(Error::system(GIVING_BACK))
    }

    /// Makes pages that the file grew by writable, up to `end` and some further.
    fn populate_growth(&mut self, file: &MappedFile, end: u64) -> Result<()> {
        if end > self.populated {
            let (from, to) = (self.populated, (end + POPULATE_AHEAD).min(file.end()));
            if to - from <= POPULATE_AT_MOST {
                file.populate(from, to - from)?;
            }
            self.populated = to;
        }
        Ok(())
    }
}

/// The pieces of a file with holes, and which of them have space on the disk.
struct Holes {
    filled: Vec<u64>,
    /// Whether a load from a hole through the mapping takes space on the disk, and is a SIGBUS if the disk is full.
    loads_fill: bool,
}

/// The pages that are wholly in the range. Empty, or the wrong way round, if there are none.
fn whole_pages(file: &MappedFile, range: Range<u64>) -> Range<u64> {
    let page = file.page();
    range.start.next_multiple_of(page)..range.end / page * page
}

impl Holes {
    /// Returns None iff the file has no holes; an empty file has none. Allocated space that was never written counts as a hole: this costs
    /// one call later.
    fn find(file: &MappedFile) -> Option<Holes> {
        let (mut at, end) = (0, file.end());
        if end == 0 {
            return None;
        }
        let mut holes = Holes { filled: Vec::new(), loads_fill: file.do_loads_fill_holes() };
        while at < end {
            // ENXIO: behind the last data there is only a hole. Other errors: the system does not know, so nothing more counts as filled.
            let Ok((data, hole)) = file.next_data(at) else { return Some(holes) };
            if data == 0 && hole >= end {
                return None;
            }
            (data.div_ceil(PIECE)..hole / PIECE).for_each(|piece| holes.set_filled(piece));
            at = hole;
        }
        Some(holes)
    }

    /// Reads the word at `at` by a system call, if a load through the mapping would fill a hole; else returns None.
    #[cold]
    fn read(&self, file: &MappedFile, at: u64) -> Option<u64> {
        if !self.loads_fill || (self.is_filled(at / PIECE) && self.is_filled((at + 7) / PIECE)) {
            return None;
        }
        let mut word = [0; 8];
        file.read_exact(&mut word, at).ok().map(|()| u64::from_be_bytes(word))
    }

    fn is_filled(&self, piece: u64) -> bool {
        self.filled.get((piece / 64) as usize).is_some_and(|word| word >> (piece % 64) & 1 == 1)
    }

    fn set_filled(&mut self, piece: u64) {
        let word = (piece / 64) as usize;
        if word >= self.filled.len() {
            let more = word + 1 - self.filled.len();
            if self.filled.try_reserve(more).is_err() {
                return; // the piece counts as a hole, and is filled again: one more call
            }
            self.filled.resize(word + 1, 0);
        }
        self.filled[word] |= 1 << (piece % 64);
    }

    /// Fills the whole pieces around the range; if the disk has no space for these, only the pages of the range. Returns false if the
    /// system can't allocate.
    fn fill(&mut self, file: &MappedFile, at: u64, len: u64) -> Result<bool> {
        let pieces = at / PIECE..(at + len).div_ceil(PIECE);
        let Some(first) = pieces.clone().find(|&piece| !self.is_filled(piece)) else { return Ok(true) };
        let last = pieces.rev().find(|&piece| !self.is_filled(piece)).unwrap_or(first);
        let (start, stop) = (first * PIECE, ((last + 1) * PIECE).min(file.end()));
        let there = file.allocated();
        let take = |start: u64, stop: u64| {
            let allocated = file.allocate(start, stop - start, (stop - start).saturating_sub(there))?;
            Ok(file.populate(start, stop - start)? || allocated)
        };
        match take(start, stop) {
            Ok(true) => (first..=last).for_each(|piece| self.set_filled(piece)),
            Ok(false) => return Ok(false),
            Err(_) => {
                let page = file.page();
                return take(at / page * page, (at + len).next_multiple_of(page).min(file.end()));
            }
        }
        Ok(true)
    }

    /// Of a file that has no holes yet.
    fn filled(file: &MappedFile) -> Holes {
        let mut holes = Holes { filled: Vec::new(), loads_fill: file.do_loads_fill_holes() };
        (0..file.end().div_ceil(PIECE)).for_each(|piece| holes.set_filled(piece));
        holes
    }

    /// The range may be a hole from now on.
    fn note_hole(&mut self, range: Range<u64>) {
        for piece in range.start / PIECE..range.end.div_ceil(PIECE) {
            if let Some(word) = self.filled.get_mut((piece / 64) as usize) {
                *word &= !(1 << (piece % 64));
            }
        }
    }

    /// Gives the space of whole pages of the range back to the disk, if the system can.
    fn open_again(&mut self, file: &MappedFile, at: u64, len: u64) {
        self.note_hole(at..at + len);
        let pages = whole_pages(file, at..at + len);
        if !pages.is_empty() {
            let _ = file.punch_hole(pages.start, pages.end - pages.start);
        }
    }
}
