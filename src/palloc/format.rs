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
    assert!(MIN_DATA >= 2 * WORD && FREE_HEAD == next_link(0) + WORD, "the smallest block has room for the links");
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

/// A block, by its start and its data size.
///
/// ```text
///   start           start + 8                    end_marker       end
///     | start marker |      data (data_len)      | end marker |
///                   blob
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The offset of the start marker.
    pub start: u64,
    /// The size of the data.
    pub data_len: u64,
}

impl Extent {
    /// The block from `start` to `end`.
    pub const fn between(start: u64, end: u64) -> Extent {
        Extent { start, data_len: end - start - OVERHEAD }
    }
    /// The offset of the data: the name of the blob.
    pub const fn blob(self) -> u64 {
        blob_of(self.start)
    }
    /// The offsets of the data.
    pub const fn data(self) -> Range<u64> {
        self.blob()..self.end_marker()
    }
    /// The offset of the end marker.
    pub const fn end_marker(self) -> u64 {
        self.blob() + self.data_len
    }
    /// The offset behind the block, where the next one starts.
    pub const fn end(self) -> u64 {
        self.start + OVERHEAD + self.data_len
    }
}

/// The blob of the block at `start`.
pub const fn blob_of(start: u64) -> u64 {
    start + WORD
}

/// The start of the block that has this blob. Of an offset below that of every blob, a number above that of every block.
pub const fn start_of(blob: u64) -> u64 {
    blob.wrapping_sub(WORD)
}

/// The offset of the link of the free block at `start` to the free block before it.
pub const fn prev_link(start: u64) -> u64 {
    start + WORD
}

/// The offset of the link of the free block at `start` to the free block behind it.
pub const fn next_link(start: u64) -> u64 {
    start + 2 * WORD
}

/// A start or end marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marker(pub u64);

impl Marker {
    /// The marker of a live block with `n` bytes of data.
    pub const fn live(n: u64) -> Marker {
        Marker(n)
    }
    /// The marker of a free block with `n` bytes of data.
    pub const fn free(n: u64) -> Marker {
        Marker(n | FREE)
    }
    /// The size of the data.
    pub const fn n(self) -> u64 {
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
    /// The blob has moved into this block. The live block that starts at this offset is still to be freed.
    Leave(u64),
    /// The block is to end at this offset. The bytes from there to its end become a free block.
    ShrinkTo(u64),
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
            Intent::Leave(from) => Intent::LEAVE | from,
            Intent::ShrinkTo(end) => Intent::SHRINK_TO | end,
        }
    }

    /// The intent in a word. Returns None iff the word has no tag of an intent.
    pub const fn from_word(word: u64) -> Option<Intent> {
        let offset = word & !Intent::MASK;
        match word & Intent::MASK {
            Intent::LEAVE => Some(Intent::Leave(offset)),
            Intent::SHRINK_TO => Some(Intent::ShrinkTo(offset)),
            _ => None,
        }
    }
}

/// `size` rounded up to a data size that this library makes. Returns None iff `size` is above MAX_DATA.
pub const fn round_up(size: u64) -> Option<u64> {
    if size > MAX_DATA {
        return None;
    }
    let n = size.next_multiple_of(STEP);
    Some(if n < MIN_DATA { MIN_DATA } else { n })
}

/// Whether the data of a block that starts at this offset is 16-byte aligned.
pub const fn in_step(offset: u64) -> bool {
    offset % STEP == HEADER
}
