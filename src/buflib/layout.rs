// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of a context and of a pool. The documented fields are frozen, because C code was compiled against them. This file makes no
//! decisions.
//!
//! This is the one file that reads and writes the words of a pool. (`mod.rs` hands out payloads.) An index counts words from `buf_start`, and each access is compared with
//! the size of the pool, so that whatever a damaged pool says, nothing outside of it is read or written.

use core::cell::Cell;
use core::ffi::{c_int, c_void};
use core::mem::offset_of;
use core::ptr;

/// Bytes in a word.
pub const W: usize = size_of::<usize>();
/// Words before the payload of a block without a name: length, handle, ops, name length, crc.
pub(crate) const HEADER: usize = 5;
/// Words of the smallest free block that can be a node of the tree. No allocation fits into less.
pub(crate) const NODE: usize = 5;

/// Index of a header's word with the length of the block: positive if it is allocated, negative if it is free.
pub(crate) const LENGTH: usize = 0;
/// Index of a header's word with the address of its handle's slot.
pub(crate) const SLOT: usize = 1;
/// Index of a header's word with the address of its callbacks.
pub(crate) const OPS: usize = 2;
/// Index of a header's first word of the name.
pub(crate) const NAME: usize = 3;

/// The callbacks of a block, as C sees them: `struct buflib_callbacks`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Callbacks {
    /// Called before a block is moved, to allow it. A block with callbacks but without this one never moves.
    pub move_callback:
        Option<unsafe extern "C" fn(handle: c_int, current: *mut c_void, new_start: *mut c_void) -> c_int>,
    /// Called when an allocation does not fit, to give memory back.
    pub shrink_callback:
        Option<unsafe extern "C" fn(handle: c_int, hints: u32, start: *mut c_void, old_size: usize) -> c_int>,
    /// Called before and after each move that is tried.
    pub sync_callback: Option<unsafe extern "C" fn(handle: c_int, sync_on: bool)>,
}

/// Callbacks that get the context of their block and a pointer of the program's: `struct buflib_user_callbacks`. Otherwise as
/// [`Callbacks`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UserCallbacks {
    /// As in `Callbacks`.
    pub move_callback: Option<
        unsafe extern "C" fn(
            ctx: *mut Context,
            handle: c_int,
            current: *mut c_void,
            new_start: *mut c_void,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// As in `Callbacks`.
    pub shrink_callback: Option<
        unsafe extern "C" fn(
            ctx: *mut Context,
            handle: c_int,
            hints: u32,
            start: *mut c_void,
            old_size: usize,
            user: *mut c_void,
        ) -> c_int,
    >,
    /// As in `Callbacks`.
    pub sync_callback: Option<unsafe extern "C" fn(ctx: *mut Context, handle: c_int, sync_on: bool, user: *mut c_void)>,
    /// The last argument of each of them.
    pub user: *mut c_void,
}

/// Added to the address in a block's ops word if that is of [`UserCallbacks`].
pub(crate) const USER_OPS: usize = 1;

const _: () = assert!(align_of::<Callbacks>() > USER_OPS && align_of::<UserCallbacks>() > USER_OPS);

/// `struct buflib_context`: six documented fields, and ours behind them. All state of an allocator is here and in its pool.
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    /// The end of the pool; handle n is the word n words below.
    pub(crate) handle_table: Cell<*mut usize>,
    /// No slot nearer to the end of the pool is free.
    pub(crate) first_free_handle: Cell<*mut usize>,
    /// The lowest word of the handle table.
    pub(crate) last_handle: Cell<*mut usize>,
    /// The first word of the pool.
    pub(crate) buf_start: Cell<*mut usize>,
    /// The first word behind the last allocated block.
    pub(crate) alloc_end: Cell<*mut usize>,
    /// Whether a compaction would change nothing.
    pub(crate) compact: Cell<bool>,

    /// Bits of an index.
    pub(crate) key_bits: Cell<usize>,
    /// Those of them below the number of the section.
    pub(crate) tree_bits: Cell<usize>,
    /// Sum of the lengths of free blocks.
    pub(crate) free_words: Cell<usize>,
    /// How many blocks are pinned.
    pub(crate) pinned_blocks: Cell<usize>,
    /// Words that buffer_out took and buffer_in has not brought back.
    pub(crate) words_out: Cell<usize>,
    /// The handle that an allocation in progress has taken, or 0.
    pub(crate) reserved: Cell<usize>,
    /// Which callback runs: [`IDLE`], [`MOVING`] or [`SHRINKING`].
    pub(crate) busy: Cell<usize>,
    /// The last compaction left a block where it was because its callback refused or it was pinned.
    pub(crate) stuck: Cell<bool>,
    /// The blocks' callbacks are Rust closures.
    pub(crate) closures: Cell<bool>,
    /// A step left a free block because a callback refused or a pin was in the way: it is tried again after the next change.
    pub(crate) retry: Cell<bool>,
    /// Each bit of `groups` stands for 1 << `group_shift` handles.
    pub(crate) group_shift: Cell<usize>,
    /// Bit i: `groups[i]` is not 0.
    pub(crate) summary: Cell<usize>,
    /// While shrink callbacks are asked: where the next block to ask begins. No free block reaches over it.
    pub(crate) next_to_ask: Cell<usize>,
    /// Where the next step of a compaction begins: a block's start, or at or behind the end. Before it are only free blocks that a
    /// step could not close.
    pub(crate) step_from: Cell<usize>,
    /// How many times a block was moved by a compaction or a step, and the words moved. They wrap.
    pub(crate) moves: Cell<usize>,
    pub(crate) moved_words: Cell<usize>,
    /// How many times a callback refused a move. Wraps.
    pub(crate) refused: Cell<usize>,
    /// The most words that were moved within one allocation.
    pub(crate) worst_alloc: Cell<usize>,
    /// Bit i of word j: a handle of group 64 j + i (32 j + i) may be free.
    pub(crate) groups: [Cell<usize>; GROUP_WORDS],
    /// For each section of the pool, the key of the root of its tree of free blocks, or 0.
    pub(crate) roots: [Cell<usize>; SECTIONS],
    /// For each section, the length of the longest block in its tree, or 0.
    pub(crate) longest: [Cell<usize>; SECTIONS],
}

/// Words of the bitmap of free handles.
pub(crate) const GROUP_WORDS: usize = usize::BITS as usize / 2;
/// Sections of a pool: each has a tree of its free blocks.
pub(crate) const SECTIONS: usize = usize::BITS as usize / 4;
/// Bits of a section's number: the uppermost bits of an index.
pub(crate) const SECTION_BITS: usize = SECTIONS.trailing_zeros() as usize;

/// No callback is running.
pub(crate) const IDLE: usize = 0;
/// A move or sync callback is running.
pub(crate) const MOVING: usize = 1;
/// A shrink callback is running.
pub(crate) const SHRINKING: usize = 2;

const _: () = {
    assert!(W == 4 || W == 8);
    assert!(OPS == SLOT + 1 && NAME == OPS + 1 && HEADER == NAME + 2);
    assert!(offset_of!(Context, handle_table) == 0);
    assert!(offset_of!(Context, first_free_handle) == W);
    assert!(offset_of!(Context, last_handle) == 2 * W);
    assert!(offset_of!(Context, buf_start) == 3 * W);
    assert!(offset_of!(Context, alloc_end) == 4 * W);
    assert!(offset_of!(Context, compact) == 5 * W);
    assert!(offset_of!(Context, key_bits) == 6 * W, "headers/buflib.prologue.h: private_");
    assert!(size_of::<Context>() == (6 + 16 + 8 * W) * W);
    assert!(offset_of!(Context, busy) == (6 + 6) * W, "headers/buflib.epilogue.h: private_[6]");
    assert!(size_of::<Context>() <= 1024);
    assert!(size_of::<Callbacks>() == 3 * W);
    assert!(offset_of!(Callbacks, move_callback) == 0);
    assert!(offset_of!(Callbacks, shrink_callback) == W);
    assert!(offset_of!(Callbacks, sync_callback) == 2 * W);
};

impl Context {
    /// A context without a pool: every allocation fails.
    pub const fn new() -> Self {
        Context {
            handle_table: Cell::new(ptr::null_mut()),
            first_free_handle: Cell::new(ptr::null_mut()),
            last_handle: Cell::new(ptr::null_mut()),
            buf_start: Cell::new(ptr::null_mut()),
            alloc_end: Cell::new(ptr::null_mut()),
            compact: Cell::new(true),
            key_bits: Cell::new(0),
            tree_bits: Cell::new(0),
            free_words: Cell::new(0),
            pinned_blocks: Cell::new(0),
            words_out: Cell::new(0),
            reserved: Cell::new(0),
            busy: Cell::new(IDLE),
            stuck: Cell::new(false),
            closures: Cell::new(false),
            retry: Cell::new(false),
            group_shift: Cell::new(0),
            summary: Cell::new(0),
            next_to_ask: Cell::new(0),
            step_from: Cell::new(0),
            moves: Cell::new(0),
            moved_words: Cell::new(0),
            refused: Cell::new(0),
            worst_alloc: Cell::new(0),
            groups: [const { Cell::new(0) }; GROUP_WORDS],
            roots: [const { Cell::new(0) }; SECTIONS],
            longest: [const { Cell::new(0) }; SECTIONS],
        }
    }

    /// Makes `words` words from `start` the pool. Their contents are not touched.
    ///
    /// # Safety
    /// They are *pool memory* of this context.
    pub(crate) unsafe fn set_pool(&self, start: *mut usize, words: usize) {
        let end = start.wrapping_add(words);
        self.handle_table.set(end);
        self.first_free_handle.set(end.wrapping_sub(usize::from(words > 0)));
        self.last_handle.set(end);
        self.buf_start.set(start);
        self.alloc_end.set(start);
        self.set_key_bits(words);
    }

    /// Divides a pool of `words` words into sections.
    fn set_key_bits(&self, words: usize) {
        // The index behind the pool counts, too.
        let bits = (usize::BITS - words.leading_zeros()) as usize;
        self.key_bits.set(bits);
        self.tree_bits.set(bits.saturating_sub(SECTION_BITS));
    }

    /// Whether blocks may be shrunk and freed: no callback runs, or a shrink callback.
    pub(crate) fn may_shrink(&self) -> bool {
        self.busy.get() != MOVING
    }

    /// Notes that `start` is where words became free, or a block was placed, for the next step of a compaction.
    #[inline]
    pub(crate) fn changed_at(&self, start: usize) {
        let from = if self.retry.get() { 0 } else { start };
        if from < self.step_from.get() {
            self.step_from.set(from);
            self.retry.set(false);
        }
    }

    /// Counts blocks that were moved.
    pub(crate) fn count_moves(&self, blocks: usize, words: usize) {
        self.moves.set(self.moves.get().wrapping_add(blocks));
        self.moved_words.set(self.moved_words.get().wrapping_add(words));
    }

    /// Whether debug builds compare fast searches with slow ones in this pool: one of `Buflib`, which nothing can damage.
    pub(crate) fn can_be_searched(&self) -> bool {
        self.closures.get()
    }

    /// Moves `buf_start` and `alloc_end` by `words`; the caller moves the blocks.
    pub(crate) fn shift_start(&self, words: isize) {
        self.buf_start.set(self.buf_start.get().wrapping_offset(words));
        self.alloc_end.set(self.alloc_end.get().wrapping_offset(words));
    }

    /// Makes the fields point to where the pool will lie.
    pub(crate) fn rebase(&self, start: *mut usize) {
        let old = self.buf_start.replace(start).addr();
        for field in [&self.handle_table, &self.first_free_handle, &self.last_handle, &self.alloc_end] {
            field.set(start.wrapping_byte_add(field.get().addr().wrapping_sub(old)));
        }
    }

    pub(crate) fn pool(&self) -> Pool {
        let base = self.buf_start.get();
        Pool { base, words: (self.handle_table.get().addr().wrapping_sub(base.addr())) / W }
    }

    /// Makes the pool `words` words long, with the table of `handles` slots at its new end.
    pub(crate) fn set_table(&self, words: usize, handles: usize) {
        let first_free = self.handle_table.get().addr().wrapping_sub(self.first_free_handle.get().addr());
        let end = self.buf_start.get().wrapping_add(words);
        self.handle_table.set(end);
        self.first_free_handle.set(end.wrapping_byte_sub(first_free));
        self.set_handles(handles);
        self.set_key_bits(words + self.words_out.get());
    }

    /// Index of `alloc_end`.
    pub(crate) fn end(&self) -> usize {
        self.alloc_end.get().addr().wrapping_sub(self.buf_start.get().addr()) / W
    }

    pub(crate) fn set_end(&self, index: usize) {
        self.alloc_end.set(self.buf_start.get().wrapping_add(index));
    }

    /// Slots in the handle table.
    pub(crate) fn handles(&self) -> usize {
        self.handle_table.get().addr().wrapping_sub(self.last_handle.get().addr()) / W
    }

    pub(crate) fn set_handles(&self, count: usize) {
        self.last_handle.set(self.handle_table.get().wrapping_sub(count));
    }

    /// Words between the last block and the handle table.
    pub(crate) fn end_space(&self) -> usize {
        self.last_handle.get().addr().saturating_sub(self.alloc_end.get().addr()) / W
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

/// The work of an operation in tests: words of the pool that it read or wrote, but of a name or a crc.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    std::thread_local! {
        static WORDS: Cell<usize> = const { Cell::new(0) };
    }

    pub fn add(words: usize) {
        WORDS.set(WORDS.get() + words);
    }

    /// The words since the last call.
    pub fn take() -> usize {
        WORDS.replace(0)
    }
}

/// Counts words for tests.
#[inline(always)]
fn touches(_words: usize) {
    #[cfg(test)]
    work::add(_words);
}

/// A pool's memory, as it lies at the moment.
#[derive(Clone, Copy)]
pub(crate) struct Pool {
    base: *mut usize,
    pub words: usize,
}

impl Pool {
    /// This pool with another length. The caller guarantees that the memory is there.
    pub fn with_words(self, words: usize) -> Pool {
        Pool { words, ..self }
    }

    #[inline]
    pub fn get(self, index: usize) -> usize {
        touches(1);
        if index >= self.words {
            outside()
        }
        // SAFETY: pool memory, `words` of them from `base`.
        unsafe { self.base.add(index).read() }
    }

    /// The nodes in front of `end`, where the end space begins, which no free block reaches.
    pub fn nodes(self, end: usize) -> Nodes {
        Nodes { base: self.base, count: end.min(self.words).saturating_sub(NODE) }
    }

    /// Writes `N` words.
    #[inline]
    pub fn set_all<const N: usize>(self, index: usize, values: [usize; N]) {
        touches(N);
        if index > self.words || N > self.words - index {
            outside()
        }
        // SAFETY: pool memory, `words` of them from `base`.
        unsafe { self.base.add(index).cast::<[usize; N]>().write(values) }
    }

    #[inline]
    pub fn set(self, index: usize, value: usize) {
        touches(1);
        if index >= self.words {
            outside()
        }
        // SAFETY: pool memory, `words` of them from `base`.
        unsafe { self.base.add(index).write(value) }
    }

    /// `len` words as bytes, for the crc.
    #[inline]
    pub fn with_bytes<T>(self, index: usize, len: usize, f: impl FnOnce(&[u8]) -> T) -> T {
        if index > self.words || len > self.words - index {
            outside()
        }
        // SAFETY: pool memory; nothing writes to it while `f`, which is ours, reads.
        f(unsafe { core::slice::from_raw_parts(self.base.add(index).cast(), len * W) })
    }

    /// Moves `len` words; the places may overlap.
    pub fn copy(self, from: usize, to: usize, len: usize) {
        touches(len);
        if from.max(to) > self.words || len > self.words - from.max(to) {
            outside()
        }
        // SAFETY: pool memory, both places.
        unsafe { ptr::copy(self.base.add(from), self.base.add(to), len) }
    }

    /// Writes a name, its NUL and zeros up to the end of `len` words.
    pub fn set_name(self, index: usize, len: usize, name: &[u8]) {
        if index > self.words || len > self.words - index || name.len() >= len * W {
            outside()
        }
        // SAFETY: pool memory, `len` words, more than the name takes.
        unsafe {
            let to = self.base.add(index).cast::<u8>();
            ptr::copy_nonoverlapping(name.as_ptr(), to, name.len());
            to.add(name.len()).write_bytes(0, len * W - name.len());
        }
    }

    /// Address of a word, which may be the one behind the pool.
    pub fn address(self, index: usize) -> usize {
        self.base.addr().wrapping_add(index.wrapping_mul(W))
    }

    /// The pointer to an address in the pool.
    pub fn pointer(self, address: usize) -> *mut u8 {
        self.base.cast::<u8>().wrapping_add(address.wrapping_sub(self.base.addr()))
    }

    /// Index of the word that an address lies in, more than the pool's size if it is outside. An index may be that of the end.
    #[inline]
    pub fn index(self, address: usize) -> usize {
        address.wrapping_sub(self.base.addr()) / W
    }

    /// Address of the slot of a handle.
    pub fn slot_address(self, handle: usize) -> usize {
        self.address(self.words - handle)
    }

    /// The slot of a handle of the table: the address of the payload, or 0.
    #[inline]
    pub fn slot(self, handle: usize) -> usize {
        self.get(self.words.wrapping_sub(handle))
    }

    pub fn set_slot(self, handle: usize, address: usize) {
        self.set(self.words.wrapping_sub(handle), address);
    }
}

/// The words of nodes.
#[derive(Clone, Copy)]
pub(crate) struct Nodes {
    base: *mut usize,
    /// How many indices can be that of a node's end: those from NODE on.
    count: usize,
}

impl Nodes {
    /// The last four words of a node that ends in front of `end`. None if there can't be one.
    #[inline(always)]
    pub fn get(self, end: usize) -> Option<[usize; 4]> {
        touches(4);
        let index = end.wrapping_sub(NODE);
        // SAFETY: pool memory: `count` is so far in front of its end.
        (index < self.count).then(|| unsafe { self.base.add(index + NODE - 4).cast::<[usize; 4]>().read() })
    }
}

/// Ends the program. It is not reached: every index is checked where it is read.
#[cold]
#[inline(never)]
fn outside() -> ! {
    panic!("buflib: access outside of the pool")
}

/// State of a block for which the frozen words of its header have no room. On 64-bit it is in the upper half of the crc word, with a check of
/// its own; on 32-bit in the upper 22 bits of the word with the name's length, which the crc covers.
///
/// ```text
///     bits:   free_before   offset   align   pins   check
///     64-bit       3           3       6       8     12
///     32-bit       3           2       5      12      -
/// ```
///
/// On 64-bit the other 24 bits of the pins are in the upper half of the word with the name's length, which the crc covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(usize);

const WIDE: bool = usize::BITS == 64;
const OFFSET_BITS: u32 = W.trailing_zeros();
const ALIGN_BITS: u32 = if WIDE { 6 } else { 5 };
const PIN_BITS: u32 = if WIDE { 8 } else { 12 };
const BEFORE_BITS: u32 = 3;
/// The bits of flags that are kept together. The pins, which come last, may have more.
const FLAG_BITS: u32 = BEFORE_BITS + OFFSET_BITS + ALIGN_BITS + PIN_BITS;
const PIN_SHIFT: u32 = FLAG_BITS - PIN_BITS;
/// The most pins that a block can have.
pub(crate) const MAX_PINS: usize = if WIDE { u32::MAX as usize } else { (1 << PIN_BITS) - 1 };
/// The bits of the word with the name's length that are the length. Above them are flags.
const NAME_BITS: u32 = if WIDE { 32 } else { 32 - FLAG_BITS };
/// The most words of a name.
pub(crate) const MAX_NAME: usize = (1 << NAME_BITS) - 2;

const _: () = {
    assert!(NODE < 1 << BEFORE_BITS && W == 1 << OFFSET_BITS && usize::BITS <= 1 << ALIGN_BITS);
    assert!(FLAG_BITS <= if WIDE { 20 } else { 32 - 8 }, "12 bits for the check; 8 bits for the length of a name");
};

impl Flags {
    pub fn new(align: usize, free_before: usize) -> Self {
        Flags((align << (BEFORE_BITS + OFFSET_BITS)) | free_before)
    }

    /// The length of the free block before, at most [`NODE`]; 0 if the block before is allocated. It is the only check of a free block that is
    /// too short for a tree.
    pub fn free_before(self) -> usize {
        self.0 & ((1 << BEFORE_BITS) - 1)
    }

    /// Bytes from the payload's first word to where it starts, after a shrink to an unaligned start.
    pub fn offset(self) -> usize {
        (self.0 >> BEFORE_BITS) & (W - 1)
    }

    /// Log2 of the alignment in words: the block moves by multiples of it.
    pub fn align(self) -> usize {
        (self.0 >> (BEFORE_BITS + OFFSET_BITS)) & ((1 << ALIGN_BITS) - 1)
    }

    /// How many times the block is pinned.
    pub fn pins(self) -> usize {
        self.0 >> PIN_SHIFT
    }

    pub fn set_free_before(&mut self, len: usize) {
        self.0 = (self.0 & !((1 << BEFORE_BITS) - 1)) | len;
    }

    pub fn set_offset(&mut self, offset: usize) {
        self.0 = (self.0 & !((W - 1) << BEFORE_BITS)) | (offset << BEFORE_BITS);
    }

    pub fn set_pins(&mut self, pins: usize) {
        self.0 = (self.0 & ((1 << PIN_SHIFT) - 1)) | (pins << PIN_SHIFT);
    }
}

/// The flags with their check of 12 bits above. The last two bits of the check differ, so that no int of less than 31 bits, be it positive
/// or negative, looks like flags: 1 << 10 is added to a check of 11 bits, which makes bit 11 what bit 10 was, and inverts bit 10.
///
/// The 11 bits are the flags folded onto them, so that no change within one byte goes unseen; and a mix of the crc and the block's place,
/// so that the flags of one header are not valid in another.
fn with_check(bits: u32, crc: u32, start: usize) -> u32 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = ((u64::from(crc) ^ ((start as u64) << 32)).wrapping_mul(ODD) >> 53) as u32;
    let check = (bits ^ (bits >> 11) ^ mix) & 0x7FF;
    bits | ((check + (1 << 10)) << FLAG_BITS)
}

/// The length word of a name and the crc word of a header, with the flags in.
pub(crate) mod tail {
    use super::*;

    /// The word of the name's length.
    pub fn length_word(name_words: usize, flags: Flags) -> usize {
        let above = if WIDE { flags.0 >> FLAG_BITS } else { flags.0 };
        name_words + 1 + (above << NAME_BITS)
    }

    /// Words of the name.
    pub fn name_words(length_word: usize) -> usize {
        (length_word & ((1 << NAME_BITS) - 1)).wrapping_sub(1)
    }

    /// The crc word of the block at `start`: the crc in the four bytes of the lowest addresses.
    pub fn crc_word(start: usize, crc: u32, flags: Flags) -> usize {
        if WIDE { join(crc, with_check((flags.0 & ((1 << FLAG_BITS) - 1)) as u32, crc, start)) } else { crc as usize }
    }

    /// The crc of a crc word.
    pub fn crc(crc_word: usize) -> u32 {
        if WIDE { split(crc_word).0 } else { crc_word as u32 }
    }

    /// The flags of the block at `start`, unless they are damaged.
    #[inline(always)]
    pub fn flags(start: usize, length_word: usize, crc_word: usize) -> Option<Flags> {
        if !WIDE {
            return Some(Flags(length_word >> NAME_BITS));
        }
        let (crc, upper) = split(crc_word);
        let bits = upper & ((1 << FLAG_BITS) - 1);
        (upper == with_check(bits, crc, start))
            .then_some(Flags(bits as usize | (length_word >> NAME_BITS << FLAG_BITS)))
    }

    fn join(first: u32, second: u32) -> usize {
        let [low, high] = if cfg!(target_endian = "little") { [first, second] } else { [second, first] };
        (u64::from(low) | (u64::from(high) << 32)) as usize
    }

    fn split(word: usize) -> (u32, u32) {
        let (low, high) = (word as u32, (word as u64 >> 32) as u32);
        if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_back() {
        let (align, pins) = ((1 << ALIGN_BITS) - 1, MAX_PINS);
        for (prev, offset, align, pins) in
            [(0, 0, 0, 0), (NODE, W - 1, align, pins), (NODE, W - 1, align, 5), (0, W - 1, 0, pins), (1, 0, align, 0)]
        {
            let mut flags = Flags::new(align, 1);
            for (prev, offset, pins) in [(NODE, W - 1, MAX_PINS), (prev, offset, pins)] {
                flags.set_free_before(prev);
                flags.set_offset(offset);
                flags.set_pins(pins);
            }
            assert_eq!((flags.free_before(), flags.offset(), flags.align(), flags.pins()), (prev, offset, align, pins));
            let (length, crc) = (tail::length_word(3, flags), tail::crc_word(7, 0x1234_5678, flags));
            assert_eq!(tail::name_words(length), 3);
            assert_eq!((tail::crc(crc), tail::flags(7, length, crc)), (0x1234_5678, Some(flags)));
        }
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn every_damaged_byte_of_the_flags_is_seen_and_no_int_of_less_than_31_bits_is_taken_for_flags() {
        let shift = if cfg!(target_endian = "little") { 32 } else { 0 };
        for (crc, start) in [(0, 0), (1, 13), (0x1234_5678, 40), (u32::MAX, 1 << 30), (0x8000_0001, 99_999)] {
            let mut good = Flags::new(9, 3);
            good.set_offset(5);
            good.set_pins(247);
            for flags in [Flags::default(), good] {
                let word = tail::crc_word(start, crc, flags);
                for byte in 0..4 {
                    for delta in 1..256 {
                        assert_eq!(tail::flags(start, 1, word ^ (delta << (shift + 8 * byte))), None);
                    }
                }
                let rest = word & !(0xFFFF_FFFF << shift);
                for int in (-(1 << 30)..1 << 30).step_by(977).chain(-100_000..100_000) {
                    let forged = rest | ((int as u32 as usize) << shift);
                    assert_eq!(tail::flags(start, 1, forged), None);
                }
            }
        }
        assert_eq!(tail::flags(0, 1, 0), None, "zeros are no flags");
    }
}
