// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes on the medium: constants and types, without access to a medium. docs/FORMAT.md describes them under "Bytes". All integers
//! on the medium are big-endian.

use std::ops::Range;

/// Magic and flags.
pub const HEADER: u64 = 8;
/// One marker, or one link of a free block.
pub const WORD: u64 = 8;
/// The two markers of a block.
pub const OVERHEAD: u64 = 2 * WORD;
/// The smallest data section: it must hold the two links of a free block.
pub const MIN_DATA: u64 = 16;
/// The first bytes of a free block: the start marker and the two links.
pub const FREE_HEAD: u64 = 3 * WORD;
/// The smallest block.
pub const MIN_BLOCK: u64 = OVERHEAD + MIN_DATA;
/// The data sizes of blocks that this library makes are multiples of this. So are the offsets of their data.
pub const STEP: u64 = 16;
/// A free block is split if more than this number of bytes is left over, else it is allocated whole.
pub const SPLIT_ABOVE: u64 = 32;

const _: () = {
    assert!(
        MIN_DATA >= 2 * WORD && FREE_HEAD == Start::FIRST.next_link() + WORD - HEADER,
        "the smallest block has room for the links"
    );
    assert!(MIN_DATA % STEP == 0 && OVERHEAD % STEP == 0, "a block of this library leaves the next one in step");
    assert!(SPLIT_ABOVE + 1 >= MIN_BLOCK, "the rest of a block that is split is a block");
};

/// The first four bytes of every medium.
pub const MAGIC: [u8; 4] = *b"PBA\0";
/// Header flag: the medium grows.
pub const DYNAMIC: u32 = 1;
/// Header flag: every operation is durable when it returns.
pub const SYNC: u32 = 2;
/// Header flag: reserved.
pub const EXTENDED: u32 = 1 << 31;

const FREE: u64 = 1 << 63;
/// The largest data size. Sums of offsets and sizes up to this do not overflow.
pub const MAX_DATA: u64 = 1 << 62;

/// The header of a medium with these flags, as a number.
pub const fn header(flags: u32) -> u64 {
    (u32::from_be_bytes(MAGIC) as u64) << 32 | flags as u64
}

/// The flags in a header. Returns None iff it does not have the magic.
pub const fn header_flags(header: u64) -> Option<u32> {
    if (header >> 32) as u32 == u32::from_be_bytes(MAGIC) { Some(header as u32) } else { None }
}

/// The offset of a block's start marker. It is a type of its own, so that it is not mixed with the block's blob, which lies one word behind
/// it, with a length or with any other offset: all of these are u64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Start(u64);

impl Start {
    /// The start of a medium's first block.
    pub const FIRST: Start = Start(HEADER);
    /// No block starts there. It is behind the start of every block.
    pub const NOWHERE: Start = Start(u64::MAX);

    /// The block that starts at `offset`.
    pub const fn at(offset: u64) -> Start {
        Start(offset)
    }
    /// The block that has this blob. Of an offset below 8, a start behind that of every block.
    pub const fn of_blob(blob: u64) -> Start {
        Start(blob.wrapping_sub(WORD))
    }
    /// The block that starts `len` bytes behind this one.
    pub const fn plus(self, len: u64) -> Start {
        Start(self.0 + len)
    }
    /// The offset of the start marker.
    pub const fn offset(self) -> u64 {
        self.0
    }
    /// The offset of the data: the name of the blob.
    pub const fn blob(self) -> u64 {
        self.0 + WORD
    }
    /// The offsets of the start marker.
    pub const fn marker(self) -> Range<u64> {
        self.0..self.blob()
    }
    /// The offset of a free block's link to the free block before it.
    pub const fn prev_link(self) -> u64 {
        self.0 + WORD
    }
    /// The offset of a free block's link to the free block behind it.
    pub const fn next_link(self) -> u64 {
        self.0 + 2 * WORD
    }
    /// Whether the data of the block is 16-byte aligned.
    pub const fn is_in_step(self) -> bool {
        self.0 % STEP == HEADER
    }
}

/// A block, by its start and its data size.
///
/// ```text
///   start           start + 8                    end_marker       end: the start of the next block
///     | start marker |      data (data_len)      | end marker |
///                   blob
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The start of the block.
    pub start: Start,
    /// The size of the data.
    pub data_len: u64,
}

impl Extent {
    /// The block from `start` to `end`.
    pub const fn between(start: Start, end: u64) -> Extent {
        Extent { start, data_len: end - start.0 - OVERHEAD }
    }
    /// The offset of the data: the name of the blob.
    pub const fn blob(self) -> u64 {
        self.start.blob()
    }
    /// The offsets of the data.
    pub const fn data(self) -> Range<u64> {
        self.blob()..self.end_marker()
    }
    /// The offset of the end marker.
    pub const fn end_marker(self) -> u64 {
        self.blob() + self.data_len
    }
    /// The offset behind the block.
    pub const fn end(self) -> u64 {
        self.next().0
    }
    /// The start of the block behind this one: its end.
    pub const fn next(self) -> Start {
        self.start.plus(OVERHEAD + self.data_len)
    }
}

/// A start or end marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marker(pub u64);

impl Marker {
    /// The marker of a live block with `data_len` bytes of data.
    pub const fn live(data_len: u64) -> Marker {
        Marker(data_len)
    }
    /// The marker of a free block with `data_len` bytes of data.
    pub const fn free(data_len: u64) -> Marker {
        Marker(data_len | FREE)
    }
    /// The size of the data.
    pub const fn data_len(self) -> u64 {
        self.0 & !FREE
    }
    /// Whether the block is free.
    pub const fn is_free(self) -> bool {
        self.0 & FREE != 0
    }
}

/// A word that the end marker of a live block holds while an operation changes two start markers: docs/FORMAT.md. Recovery finishes the
/// operation. No size that a file can have has the bits of the tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intent {
    /// The blob has moved into this block. The live block that starts there is still to be freed.
    Leave(Start),
    /// The block is to end there. The bytes from there to its end become a free block.
    ShrinkTo(Start),
}

impl Intent {
    const LEAVE: u64 = 0x4d56 << 48; // "MV", and bit 63 clear
    const SHRINK_TO: u64 = 0x5348 << 48; // "SH"
    const MASK: u64 = 0xffff << 48;
    /// The offset in an intent is below this. So blobs behind it can be neither moved nor shrunk.
    pub const MAX_OFFSET: u64 = !Intent::MASK + 1;

    /// The word on the medium. Precondition: the offset is below MAX_OFFSET.
    pub const fn word(self) -> u64 {
        match self {
            Intent::Leave(from) => Intent::LEAVE | from.0,
            Intent::ShrinkTo(end) => Intent::SHRINK_TO | end.0,
        }
    }

    /// The intent in a word. Returns None iff the word has no tag of an intent.
    pub const fn from_word(word: u64) -> Option<Intent> {
        let start = Start(word & !Intent::MASK);
        match word & Intent::MASK {
            Intent::LEAVE => Some(Intent::Leave(start)),
            Intent::SHRINK_TO => Some(Intent::ShrinkTo(start)),
            _ => None,
        }
    }
}

/// A request for a blob: the size of data that its block must have, and that of a block which is made for it. They are kept apart: a block of
/// an older medium may have an odd size between the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The block has at least so many bytes.
    pub least: u64,
    /// A block that is made for it has so many: `least` rounded up to a size that this library makes.
    pub data_len: u64,
}

impl Request {
    /// The request for `requested` bytes. Returns None iff these are more than MAX_DATA.
    #[inline]
    pub const fn of(requested: u64) -> Option<Request> {
        if requested > MAX_DATA {
            return None;
        }
        let least = if requested < MIN_DATA { MIN_DATA } else { requested };
        Some(Request { least, data_len: least.next_multiple_of(STEP) })
    }
}
