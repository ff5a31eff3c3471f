// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of a transaction on the medium: tags in end markers, and the record of the changes.
//!
//! A log is a live block that nobody owns. Its end marker has no meaning of its own, so it holds a tag, which no size can be:
//!
//! ```text
//!   IDLE       "RS" (2) | offset of this end marker (6)                   opening frees the block
//!   COMMITTED  "TX" (2) | CRC-32 of the record (4) | its sequence (2)     opening makes the changes of the record, then frees the block
//!
//!   log        marker | record ...                                        | tag
//!   record     "PTX" 1 (4) | units (4) || "SQ" (2) | sequence (6) || "CR" (2) 0 (2) | CRC-32 (4) || units of 16 bytes
//!   units      "MA" (2) | block (6) || its new start marker (8)       the free block becomes several, by this store
//!              "FR" (2) | block (6) || 0 (8)
//!              "ST" (2) | block (6) || offset (6) | length (2)        and the bytes, in as many units as they take
//! ```
//!
//! The second word of a unit has all its bits inverted. So none of these words can be a marker: the rest of a record in free space
//! does not lead anywhere. The CRC covers the offset of the log, the sequence and the units. A tag whose record is another one counts as
//! IDLE.

use super::format::{Extent, Intent, Start, WORD};
use super::medium::Medium;
use super::sabotage::{Rule, is_broken};
use crate::crc::new_hasher;

/// Offsets in tags and records have 48 bits: blocks that begin at this offset or behind take no part in transactions.
pub const MAX_OFFSET: u64 = 1 << 48;
const _: () = assert!(MAX_OFFSET == Intent::MAX_OFFSET, "tags and intents have the same bits");
const OFFSET_MASK: u64 = MAX_OFFSET - 1;

const IDLE: u64 = 0x5253 << 48; // "RS"
const COMMITTED: u64 = 0x5458 << 48; // "TX"
const MAGIC: u32 = u32::from_be_bytes(*b"PTX\x01");
const SEQUENCE: u64 = 0x5351 << 48; // "SQ"
const CRC: u64 = 0x4352 << 48; // "CR"

/// The words in front of the units.
pub const HEAD: u64 = 3 * WORD;
/// One unit of a record.
pub const UNIT: u64 = 2 * WORD;
/// The most bytes that one STORE has.
pub const MAX_STORE: usize = u16::MAX as usize / UNIT as usize * UNIT as usize;

// Neither tag is a size that a file can have, nor the marker of a free block, nor an intent.
const _: () = assert!(IDLE >> 63 == 0 && COMMITTED >> 63 == 0 && IDLE >= MAX_OFFSET && COMMITTED >= MAX_OFFSET);
const _: () = assert!(Intent::from_word(IDLE).is_none() && Intent::from_word(COMMITTED).is_none() && IDLE != COMMITTED);
const _: () = assert!(HEAD == 24 && UNIT == 16 && MAX_STORE <= u16::MAX as usize);

/// Returns IDLE: the tag of the log with the end marker at `place` while no record in it counts.
pub const fn idle_tag(place: u64) -> u64 {
    IDLE | place
}

/// Returns whether this live block is a log, which nobody owns: whether its end marker is a tag. COMMITTED counts only if a record, whole or
/// not, begins in the block. Why: bytes of a program could look like it.
pub fn is_log(medium: &impl Medium, block: Extent) -> bool {
    let place = block.end_marker();
    let word = medium.load(place);
    word == idle_tag(place) || (word & !OFFSET_MASK == COMMITTED && medium.load(block.blob()) >> 32 == MAGIC as u64)
}

/// Returns whether the word in the end marker at `place` can be that of a log.
pub const fn is_tag(word: u64, place: u64) -> bool {
    word == idle_tag(place) || word & !OFFSET_MASK == COMMITTED
}

/// Returns COMMITTED: the tag of a log whose record counts.
pub fn committed_tag(crc: u32, sequence: u64) -> u64 {
    let (crc, sequence) = if is_broken(Rule::TagNamesRecord) { (0, 0) } else { (crc, sequence) };
    COMMITTED | (crc as u64) << 16 | sequence & 0xffff
}

/// Returns how many units `len` bytes take.
pub const fn units_of(len: usize) -> usize {
    len.div_ceil(UNIT as usize)
}

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The free block at `block` gets the start marker `marker`: that of the first of the blocks that it was divided into.
    Mark { block: Start, marker: u64 },
    /// The live block at `block` becomes free.
    Free { block: Start },
    /// The `len` bytes in the units behind this one are stored at `at`, in the live block at `block`.
    Store { block: Start, at: u64, len: u16 },
}

impl Change {
    const MARK: u64 = 0x4d41; // "MA"
    const FREE: u64 = 0x4652; // "FR"
    const STORE: u64 = 0x5354; // "ST"

    /// The unit as two words.
    pub const fn encode(self) -> [u64; 2] {
        match self {
            Change::Mark { block, marker } => [Self::MARK << 48 | block.offset(), !marker],
            Change::Free { block } => [Self::FREE << 48 | block.offset(), !0],
            Change::Store { block, at, len } => [Self::STORE << 48 | block.offset(), !(at << 16 | len as u64)],
        }
    }

    /// Returns the change in a unit, or None if it is not one.
    pub const fn decode(unit: [u64; 2]) -> Option<Change> {
        let (block, value) = (Start::at(unit[0] & OFFSET_MASK), !unit[1]);
        match unit[0] >> 48 {
            Self::MARK => Some(Change::Mark { block, marker: value }),
            Self::FREE => Some(Change::Free { block }),
            Self::STORE => Some(Change::Store { block, at: value >> 16, len: value as u16 }),
            _ => None,
        }
    }

    /// Returns how many units of bytes follow.
    pub const fn bytes_units(self) -> usize {
        match self {
            Change::Store { len, .. } => units_of(len as usize),
            _ => 0,
        }
    }
}

/// Writes a record into a log, from its units on.
pub struct Writer {
    /// Where the log's block starts.
    log: Start,
    sequence: u64,
    units: u32,
    crc: crc32fast::Hasher,
}

impl Writer {
    /// Begins the record with this sequence in the log whose block starts at `log`.
    pub fn new(log: Start, sequence: u64) -> Writer {
        let mut crc = new_hasher();
        crc.update(&unit_bytes([log.offset(), sequence]));
        Writer { log, sequence, units: 0, crc }
    }

    /// Appends whole units.
    pub fn units(&mut self, medium: &mut impl Medium, bytes: &[u8]) {
        debug_assert!(bytes.len() % UNIT as usize == 0);
        medium.write(self.log.blob() + HEAD + self.units as u64 * UNIT, bytes);
        self.crc.update(bytes);
        self.units += (bytes.len() / UNIT as usize) as u32;
    }

    /// Completes the record, and returns the tag that commits it.
    pub fn finish(self, medium: &mut impl Medium) -> u64 {
        let crc = self.crc.finalize();
        let head = [(MAGIC as u64) << 32 | self.units as u64, SEQUENCE | self.sequence, CRC | crc as u64];
        for (at, word) in (self.log.blob()..).step_by(WORD as usize).zip(head) {
            medium.store(at, word);
        }
        committed_tag(crc, self.sequence)
    }
}

/// Returns two words as they are on the medium.
pub const fn unit_bytes(words: [u64; 2]) -> [u8; UNIT as usize] {
    ((words[0] as u128) << 64 | words[1] as u128).to_be_bytes()
}

/// The inverse of `unit_bytes`.
pub const fn unit_words(bytes: [u8; UNIT as usize]) -> [u64; 2] {
    let unit = u128::from_be_bytes(bytes);
    [(unit >> 64) as u64, unit as u64]
}

/// A committed record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    /// Later transactions have higher ones.
    pub sequence: u64,
    /// Where the block of its log starts.
    pub log: Start,
    units: u32,
}

impl Record {
    /// Returns the record in this live block. Returns None unless its end marker says that it is committed, and its CRC is right.
    pub fn find(medium: &impl Medium, block: Extent) -> Option<Record> {
        let Extent { start: log, data_len } = block;
        let tag = medium.load(block.end_marker());
        if tag & !OFFSET_MASK != COMMITTED || data_len < HEAD {
            return None;
        }
        let [head, sequence, crc] = [0, 1, 2].map(|i| medium.load(log.blob() + i * WORD));
        let (units, crc, sequence) = (head as u32, crc ^ CRC, sequence ^ SEQUENCE);
        let is_one = (head >> 32) as u32 == MAGIC && sequence < 1 << 48 && crc <= u32::MAX.into();
        if !is_one || units as u64 > (data_len - HEAD) / UNIT || committed_tag(crc as u32, sequence) != tag {
            return None;
        }
        let record = Record { sequence, log, units };
        (record.crc(medium) as u64 == crc).then_some(record)
    }

    fn crc(&self, medium: &impl Medium) -> u32 {
        let mut crc = new_hasher();
        crc.update(&unit_bytes([self.log.offset(), self.sequence]));
        let mut piece = [0; 1024];
        let (mut at, end) = (self.unit(0), self.unit(self.units));
        while at < end {
            let len = (end - at).min(piece.len() as u64);
            medium.read(at, &mut piece[..len as usize]);
            crc.update(&piece[..len as usize]);
            at += len;
        }
        crc.finalize()
    }

    /// Returns the offset of a unit.
    fn unit(&self, number: u32) -> u64 {
        self.log.blob() + HEAD + number as u64 * UNIT
    }

    /// Returns the change in the unit of this number, the offset of its bytes on the medium, and the number of the unit behind. Returns None
    /// at the end, and if the unit is not a change.
    pub fn change(&self, medium: &impl Medium, number: u32) -> Option<(Change, u64, u32)> {
        if number >= self.units {
            return None;
        }
        let at = self.unit(number);
        let change = Change::decode([medium.load(at), medium.load(at + WORD)])?;
        let next = u64::from(number) + 1 + change.bytes_units() as u64;
        let next = u32::try_from(next).ok().filter(|&next| next <= self.units)?;
        Some((change, at + UNIT, next))
    }
}

/// Returns whether the `len` bytes at `at` are all in the block's data.
pub fn is_inside(block: Extent, at: u64, len: u64) -> bool {
    let offset = at.checked_sub(block.blob());
    offset.is_some_and(|offset| offset <= block.data_len && len <= block.data_len - offset)
}

/// Stores bytes: by one store if they are an aligned word.
pub fn put(medium: &mut impl Medium, at: u64, bytes: &[u8]) {
    match bytes.try_into() {
        Ok(word) if at % WORD == 0 => medium.store(at, u64::from_be_bytes(word)),
        _ => medium.write(at, bytes),
    }
}
