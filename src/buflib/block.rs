// SPDX-License-Identifier: MIT OR Apache-2.0
//! A block: its words, and their checks. All other files read the words of a block through the checks of this one.
//!
//! A header is compared with its checksum and its slot, a free block with its other end. `free_tree` checks the links.

use super::layout::*;
use crate::crc::new_hasher;
use core::{fmt, ptr};

/// Damage: a word of the pool differs from the one that the library wrote, because a program wrote outside of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: an address in the pool.
    pub(crate) at: usize,
    /// The kind of damage.
    pub(crate) what: &'static str,
    /// If a crc is wrong: the crc that is there, and the right one.
    pub(crate) crc: Option<(u32, u32)>,
}

impl Fault {
    #[cold]
    pub(crate) fn new(pool: Pool, index: usize, what: &'static str) -> Self {
        Fault { at: pool.address(index), what, crc: None }
    }

    #[cold]
    fn of_crc(pool: Pool, index: usize, is: u32, expected: u32) -> Self {
        Fault { at: pool.address(index), what: "crc", crc: Some((is, expected)) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.crc {
            None => write!(f, "buflib metadata corrupted {:#x}: {}", self.at, self.what),
            Some((is, expected)) => {
                write!(f, "buflib metadata corrupted {:#x}, crc: {is:#010x}, expected: {expected:#010x}", self.at)
            }
        }
    }
}

impl core::error::Error for Fault {}

pub(crate) type Result<T> = core::result::Result<T, Fault>;

/// Consecutive words of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub start: usize,
    pub len: usize,
}

impl Extent {
    pub fn end(&self) -> usize {
        self.start + self.len
    }
}

/// An allocated block whose header has been checked. All but `address` is in words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub start: usize,
    pub len: usize,
    pub handle: usize,
    /// Index of the payload's first word.
    pub payload: usize,
    /// Where the payload starts.
    pub address: usize,
    pub flags: Flags,
}

impl Block {
    pub fn end(&self) -> usize {
        self.start + self.len
    }

    pub fn ops(&self, pool: Pool) -> usize {
        pool.get(self.start + OPS)
    }

    pub fn name_words(&self) -> usize {
        self.payload - self.start - HEADER
    }

    /// Bytes from where the payload starts to the end of the block.
    pub fn payload_bytes(&self) -> usize {
        (self.end() - self.payload) * W - self.flags.offset()
    }

    /// Writes the words of the header that depend on the block's length and flags, and the crc.
    #[inline(always)]
    pub fn write_header(&self, pool: Pool) {
        pool.set(self.start + LENGTH, self.len);
        pool.set(self.payload - 2, tail::length_word(self.name_words(), self.flags));
        pool.set(self.payload - 1, tail::crc_word(self.start, crc(pool, self.start, self.payload), self.flags));
    }

    /// Writes the number of pins.
    pub fn set_pins(&mut self, pool: Pool, pins: usize) {
        self.flags.set_pins(pins);
        if tail::length_word(self.name_words(), self.flags) == pool.get(self.payload - 2) {
            self.write_flags(pool, self.start);
        } else {
            self.write_header(pool);
        }
    }

    /// Writes the flags for a block that moves to `to`. On 64-bit the crc does not cover them, but their own check depends on the place. On
    /// 32-bit the crc covers them.
    pub fn write_flags(&self, pool: Pool, to: usize) {
        if cfg!(target_pointer_width = "64") {
            let crc = tail::crc(pool.get(self.payload - 1));
            pool.set(self.payload - 1, tail::crc_word(to, crc, self.flags));
        } else {
            self.write_header(pool);
        }
    }

    /// Fails iff the header does not say that the free block before has `len` words, 0 if the block before is allocated.
    #[inline(always)]
    pub fn check_free_before(&self, pool: Pool, len: usize) -> Result<()> {
        if self.flags.free_before() == len.min(NODE) {
            return Ok(());
        }
        Err(Fault::new(pool, self.start, "a block is wrong about the one before"))
    }

    /// Makes the header say how long the free block before is.
    #[inline(always)]
    pub fn set_free_before(&mut self, pool: Pool, len: usize) {
        let prev = len.min(NODE);
        if self.flags.free_before() != prev {
            self.flags.set_free_before(prev);
            self.write_flags(pool, self.start);
        }
    }
}

/// The crc of a header: all its words but the crc word.
fn crc(pool: Pool, start: usize, payload: usize) -> u32 {
    pool.with_bytes(start, payload - 1 - start, |bytes| {
        let mut hasher = new_hasher();
        hasher.update(bytes);
        hasher.finalize()
    })
}

/// The length of the block at `start`, which is in front of `end`. Negative if the block is free.
#[inline]
pub(crate) fn length_at(pool: Pool, end: usize, start: usize) -> Result<isize> {
    let length = pool.get(start + LENGTH) as isize;
    if length == 0 || length.unsigned_abs() > end - start {
        return Err(Fault::new(pool, start, "the length of a block is impossible"));
    }
    Ok(length)
}

/// The allocated block at `start`, all but the crc checked.
#[inline(always)]
pub(crate) fn shape_at(ctx: &Context, pool: Pool, start: usize) -> Result<Block> {
    shape(pool, ctx.end(), ctx.handles(), start)
}

/// As `shape_at`, with the values of the context that a loop over all blocks reads once.
#[inline(always)]
pub(crate) fn shape(pool: Pool, end: usize, handles: usize, start: usize) -> Result<Block> {
    let fault = |what| Err(Fault::new(pool, start, what));
    if start >= end {
        return fault("there is no block");
    }
    let length = length_at(pool, end, start)?;
    if length < HEADER as isize {
        return fault("the length of a block is impossible");
    }
    let len = length as usize;
    let slot = pool.get(start + SLOT);
    let handle = pool.words.wrapping_sub(pool.index(slot));
    if slot % W != 0 || handle.wrapping_sub(1) >= handles {
        return fault("the handle of a block is outside of the table");
    }
    let address = pool.slot(handle);
    let payload = pool.index(address);
    if payload < start + HEADER || payload > start + len {
        return fault("a handle does not name its block");
    }
    let length_word = pool.get(payload - 2);
    if tail::name_words(length_word) != payload - start - HEADER {
        return fault("the length of a name is impossible");
    }
    with_flags(pool, Extent { start, len }, handle, address, length_word)
}

/// A block whose header ends with `length_word` and a crc word that is to have the right flags.
#[inline(always)]
fn with_flags(
    pool: Pool,
    Extent { start, len }: Extent,
    handle: usize,
    address: usize,
    length_word: usize,
) -> Result<Block> {
    let payload = pool.index(address);
    let Some(flags) = tail::flags(start, length_word, pool.get(payload - 1)) else {
        return Err(Fault::new(pool, start, "the flags of a block are damaged"));
    };
    if flags.offset() != address % W {
        return Err(Fault::new(pool, start, "a handle does not name the start of its data"));
    }
    Ok(Block { start, len, handle, payload, address, flags })
}

/// The allocated block at `start`, wholly checked.
#[inline(always)]
pub(crate) fn block_at(ctx: &Context, pool: Pool, start: usize) -> Result<Block> {
    let block = shape_at(ctx, pool, start)?;
    check_crc(pool, &block)?;
    Ok(block)
}

#[inline(always)]
pub(crate) fn check_crc(pool: Pool, block: &Block) -> Result<()> {
    let is = tail::crc(pool.get(block.payload - 1));
    let expected = crc(pool, block.start, block.payload);
    if is == expected { Ok(()) } else { Err(Fault::of_crc(pool, block.start, is, expected)) }
}

/// The block that a handle names, wholly checked; None if the handle is free or outside of the table.
#[inline]
pub(crate) fn block_of(ctx: &Context, pool: Pool, handle: i32) -> Result<Option<Block>> {
    let handle = handle as usize; // a negative one becomes too large
    if handle.wrapping_sub(1) >= ctx.handles() {
        return Ok(None);
    }
    let address = pool.slot(handle);
    if address == 0 {
        return Ok(None);
    }
    let payload = pool.index(address);
    let fault = || Fault::new(pool, pool.words - handle, "a handle names no block");
    if payload < HEADER || payload > ctx.end() {
        return Err(fault());
    }
    let length_word = pool.get(payload - 2);
    let header = tail::name_words(length_word).saturating_add(HEADER);
    let start = payload.checked_sub(header).ok_or_else(fault)?;
    // The payload begins behind the header, and so in front of the end: of the block, too, if that is long enough.
    let length = pool.get(start + LENGTH);
    if length < header || length > ctx.end() - start || pool.get(start + SLOT) != pool.slot_address(handle) {
        return Err(fault());
    }
    let block = with_flags(pool, Extent { start, len: length }, handle, address, length_word)?;
    check_crc(pool, &block)?;
    Ok(Some(block))
}

/// The length of the free block at `start`, its ends checked.
#[inline(always)]
pub(crate) fn free_at(ctx: &Context, pool: Pool, start: usize) -> Result<usize> {
    let end = ctx.end();
    let length = if start < end { length_at(pool, end, start)? } else { 0 };
    let len = length.unsigned_abs();
    // No free block reaches the end space.
    if length >= 0 || len == end - start || pool.get(start + len - 1) != length as usize {
        return Err(Fault::new(pool, start, "the ends of a free block differ"));
    }
    Ok(len)
}

/// Returns the free block before a block, of no words if the block before is allocated. Its ends are checked. Whether a block of NODE
/// words and more is really free is checked when it is found in its tree.
#[inline]
pub(crate) fn free_before(ctx: &Context, pool: Pool, block: &Block) -> Result<Extent> {
    let (end, prev) = (block.start, block.flags.free_before());
    if prev == 0 {
        return Ok(Extent { start: end, len: 0 });
    }
    let len = if prev < NODE || end == 0 { prev } else { pool.get(end - 1).wrapping_neg() };
    if len < prev || len > end || free_at(ctx, pool, end - len)? != len {
        return Err(Fault::new(pool, end, "the free block before this one has no end"));
    }
    Ok(Extent { start: end - len, len })
}

/// A block of either kind, for a walk.
#[derive(Clone, Copy)]
pub(crate) enum Any {
    Used(Block),
    Free(usize),
}

impl Any {
    pub fn len(&self) -> usize {
        match self {
            Any::Used(block) => block.len,
            Any::Free(len) => *len,
        }
    }
}

/// The block at `start`, whether free or not, wholly checked.
#[inline]
pub(crate) fn any_at(ctx: &Context, pool: Pool, start: usize) -> Result<Any> {
    if (pool.get(start) as isize) < 0 {
        Ok(Any::Free(free_at(ctx, pool, start)?))
    } else {
        Ok(Any::Used(block_at(ctx, pool, start)?))
    }
}

/// Checks the header of every block, and that its flags agree with the block before. Returns the start of the first free block.
pub(crate) fn check_headers(ctx: &Context) -> Result<Option<usize>> {
    let (pool, end, handles) = (ctx.pool(), ctx.end(), ctx.handles());
    let mut first = None;
    let mut prev = 0;
    let mut start = 0;
    while start < end {
        if (pool.get(start) as isize) < 0 {
            if prev > 0 {
                return Err(Fault::new(pool, start, "two free blocks are neighbours"));
            }
            first = first.or(Some(start));
            prev = free_at(ctx, pool, start)?;
            start += prev;
        } else {
            let block = shape(pool, end, handles, start)?;
            block.check_free_before(pool, prev)?;
            check_crc(pool, &block)?;
            prev = 0;
            start += block.len;
        }
    }
    Ok(first)
}

/// Visits every block up to `alloc_end`, until `visit` says false.
pub(crate) fn walk(ctx: &Context, mut visit: impl FnMut(usize, Any) -> bool) -> Result<()> {
    let pool = ctx.pool();
    let mut start = 0;
    while start < ctx.end() {
        let block = any_at(ctx, pool, start)?;
        if !visit(start, block) {
            break;
        }
        start += block.len();
    }
    Ok(())
}

/// The name of a block, NULL if it has none.
pub(crate) fn name(ctx: &Context, handle: i32) -> Result<*const u8> {
    let pool = ctx.pool();
    Ok(match block_of(ctx, pool, handle)? {
        Some(block) if block.name_words() > 0 => pool.pointer(pool.address(block.start + NAME)),
        _ => ptr::null(),
    })
}
