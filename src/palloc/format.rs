//! The bytes on the medium, and nothing else. All integers are big-endian, whatever the host.
//!
//! ```text
//! offset 0   "PBA\0"
//! offset 4   flags, u32
//! offset 8   blocks without gaps, to the end of the medium
//!
//!            start                                                  end
//!   block    | marker (8) | data (n bytes, n >= 16)    | marker (8) |
//!   free     | marker (8) | prev (8) | next (8) | ...  | marker (8) |
//!
//!   marker = n, with bit 63 set when the block is free; both markers of a block are equal
//!   prev, next = start of the free block before and after in the file, 0 = none
//! ```
//!
//! A blob is named by the offset of its data, which is the block's start + 8.

/// Magic and flags.
pub const HEADER: u64 = 8;
/// One marker, or one link of a free block.
pub const WORD: u64 = 8;
/// The two markers of a block.
pub const OVERHEAD: u64 = 2 * WORD;
/// The smallest data section: it must hold the two links of a free block.
pub const MIN_DATA: u64 = 16;
/// The smallest block.
pub const MIN_BLOCK: u64 = OVERHEAD + MIN_DATA;
/// Sizes of blocks that we create are multiples of this, so that their data offsets are too.
pub const STEP: u64 = 16;
/// A free block is split when at least more than this is left over, else handed out whole.
pub const SPLIT_ABOVE: u64 = 32;

/// The first four bytes of every medium.
pub const MAGIC: [u8; 4] = *b"PBA\0";
/// Header flag: the medium grows.
pub const DYNAMIC: u32 = 1;
/// Header flag: every operation is durable when it returns.
pub const SYNC: u32 = 2;
/// Header flag: reserved.
pub const EXTENDED: u32 = 1 << 31;

const FREE: u64 = 1 << 63;
/// The largest data section for which offsets, sizes and sums of them stay far from overflow.
pub const MAX_DATA: u64 = 1 << 62;

/// The header of a medium with these flags, as the big-endian number it is.
pub const fn header(flags: u32) -> u64 {
    (u32::from_be_bytes(MAGIC) as u64) << 32 | flags as u64
}

/// The flags in a header, or None without the magic.
pub const fn header_flags(header: u64) -> Option<u32> {
    if (header >> 32) as u32 == u32::from_be_bytes(MAGIC) { Some(header as u32) } else { None }
}

/// A block: where its start marker is, and how many bytes of data it has.
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
    /// The size of the data section.
    pub data_len: u64,
}

impl Extent {
    /// The block from `start` to `end`.
    pub const fn between(start: u64, end: u64) -> Extent {
        Extent { start, data_len: end - start - OVERHEAD }
    }
    /// The offset of the data, by which programs name a blob.
    pub const fn blob(self) -> u64 {
        self.start + WORD
    }
    /// The offset of the end marker.
    pub const fn end_marker(self) -> u64 {
        self.start + WORD + self.data_len
    }
    /// The offset behind the block, where the next one starts.
    pub const fn end(self) -> u64 {
        self.start + OVERHEAD + self.data_len
    }
}

/// A start or end marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marker(pub u64);

impl Marker {
    /// The marker of a block that is handed out.
    pub const fn live(n: u64) -> Marker {
        Marker(n)
    }
    /// The marker of a free block.
    pub const fn free(n: u64) -> Marker {
        Marker(n | FREE)
    }
    /// The size of the data section.
    pub const fn n(self) -> u64 {
        self.0 & !FREE
    }
    /// Whether the block is free.
    pub const fn is_free(self) -> bool {
        self.0 & FREE != 0
    }
}

/// What the end marker of a live block holds while an operation changes two start markers. It is the commit of the operation:
/// recovery finishes what it says. The tags keep it apart from every size that a file can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intent {
    /// The blob moved into this block from the live block that starts there, which is to be freed.
    Leave(u64),
    /// The block is to end there, where a free block begins that ends where this one did.
    ShrinkTo(u64),
}

impl Intent {
    const LEAVE: u64 = 0x4d56 << 48; // "MV", and bit 63 clear
    const SHRINK_TO: u64 = 0x5348 << 48; // "SH"
    const MASK: u64 = 0xffff << 48;
    /// Media up to this offset can have blobs moved and shrunk in them.
    pub const MAX_OFFSET: u64 = 1 << 48;

    /// The word on the medium. The offset is below MAX_OFFSET.
    pub const fn word(self) -> u64 {
        match self {
            Intent::Leave(from) => Intent::LEAVE | from,
            Intent::ShrinkTo(end) => Intent::SHRINK_TO | end,
        }
    }

    /// The intent that a word is, if it is one.
    pub const fn from_word(word: u64) -> Option<Intent> {
        let offset = word & !Intent::MASK;
        match word & Intent::MASK {
            Intent::LEAVE => Some(Intent::Leave(offset)),
            Intent::SHRINK_TO => Some(Intent::ShrinkTo(offset)),
            _ => None,
        }
    }
}

/// `size` rounded up to a size that we create; None near 2^63.
pub const fn round_up(size: u64) -> Option<u64> {
    if size > MAX_DATA {
        return None;
    }
    let n = size.next_multiple_of(STEP);
    Some(if n < MIN_DATA { MIN_DATA } else { n })
}

/// Whether a block boundary at this offset keeps data offsets 16-byte aligned.
pub const fn in_step(offset: u64) -> bool {
    offset % STEP == HEADER
}
