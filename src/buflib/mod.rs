// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks that the allocator may move, in one buffer of yours.
//!
//! A block is named by a [`Handle`], so that it can be moved when its neighbours leave gaps, or asked to shrink when others need
//! memory. Everything lives in the buffer and in the [`Buflib`]: no heap is used, and no lock. This is the engine behind `buflib.h`.
//!
//! ```
//! use palloc::buflib::Buflib;
//!
//! let mut memory = [0u8; 4096];
//! let mut pool = Buflib::new(&mut memory);
//! let names = pool.alloc_named(100, "names")?;
//! let scratch = pool.alloc(1000)?;
//! pool.data_mut(names).unwrap()[..5].copy_from_slice(b"Linus");
//! pool.free(scratch);
//! assert_eq!(pool.name(names), Some("names"));
//! assert_eq!(&pool.data(names).unwrap()[..5], b"Linus");
//! # Ok::<(), palloc::buflib::Error>(())
//! ```
//!
//! # A pool
//!
//! ```text
//!     buf_start                               alloc_end            last_handle     handle_table
//!     |                                       |                    |               |
//!     | used | free | used | used | free | used |    end space     | n ... 3  2  1 |
//!       ------ blocks, upwards ------>            no header          <-- handles
//!
//!     used       0  length           > 0, in words, with the header
//!                1  handle           address of its word in the table
//!                2  ops              address of the callbacks, or 0
//!                3  name             n words, NUL terminated; or n = 0
//!              3+n  n + 1            (the upper 22 bits on 32-bit are flags, the upper 24 on 64-bit more bits of the pins)
//!              4+n  crc | flags      crc-32 of the words before; flags (64-bit): length of a free block before, pins, alignment
//!              5+n  payload
//!
//!     free       0  -length
//!         length-4  longest  right  left      if length >= 5: a node of the tree, with its seal in `right` and `left`
//!         length-1  -length          for the block behind, whose flags say that the block before is free
//! ```
//!
//! Between two calls no free block is next to another one or to the end space.
//!
//! # The files
//!
//! Each uses those above it only.
//!
//! | file | subject |
//! | --- | --- |
//! | `layout.rs` | the words of a context, a pool and a header; the only one that reads and writes words of a pool |
//! | `block.rs` | a block, whether its header is right, the free block before it; walks |
//! | `free_tree.rs`, `handles.rs` | which blocks are free, which handles; pins |
//! | `callbacks.rs` | the callbacks of blocks, and calls of them |
//! | `compaction.rs` | moving blocks together, asking blocks to shrink |
//! | `alloc.rs` | allocating, freeing, shrinking |
//! | `step.rs` | compaction in steps |
//! | `room.rs`, `relocate.rs`, `verify.rs` | how much is free; moving and resizing the whole pool; checking everything |
//!
//! # Costs
//!
//! | what | how it is found | cost |
//! | --- | --- | --- |
//! | the first block that fits | one path of a tree of free blocks (`free_tree.rs`) | O(log of the pool's words) |
//! | the block before | the flag, then the last word of the free block | O(1) |
//! | the lowest free handle | a bitmap in the context (`handles.rs`) | O(1), and at most 2 / 2048 of the table (2 / 512 on 32-bit) |
//! | free bytes | counted | O(1) |
//! | compaction | one walk that checks, one that moves each block at most once | O(blocks), and the bytes moved |
//!
//! An aligned block looks at all blocks when the only free ones that are large enough are not so by the alignment.
//!
//! Free blocks of fewer than 5 words are in no tree: not even a block of 0 bytes fits into them.
//!
//! # Damage
//!
//! A program that writes outside of its blocks damages headers. A header is compared with its crc before it is used, a slot with the
//! block that it names, a free block with its other end, a link of the tree with the place it leads to; a compaction checks all headers
//! before it moves a block. An operation that finds damage has changed nothing: all its checks, those of the trees included, come before
//! its first write.
//!
//! Payloads may look like anything, above all like the headers and nodes that were there before. So that one damaged word never makes
//! the library write to a payload as if it were a block:
//!
//! * a header is right only if the slot that it names leads back to it; the length of one that has become part of free words or of another
//!   block is made 0, but where a compaction slid blocks: there the slot leads elsewhere;
//! * a node of the tree has a seal, a mix of its end, length and depth in the upper bits of its links, which is broken when the block
//!   is no longer a node;
//! * a free block that is too short for a node is known to the block behind by its length.
//!
//! Two risks remain. A seal has BITS - 2 - (bits of an index) bits: at least 40 on 64-bit up to 16 MiB, 8 on 32-bit at 8 MiB, none at
//! 2 GiB; words that look like a node by accident pass with that probability. And a slot that is overwritten with exactly the address
//! that its block had before a compaction may pass: on 64-bit with probability 1 in 2048, on 32-bit if the old header is still whole.

#![allow(clippy::len_without_is_empty)]

pub(crate) mod alloc;
pub(crate) mod block;
pub(crate) mod callbacks;
pub(crate) mod compaction;
pub(crate) mod free_tree;
pub(crate) mod handles;
pub(crate) mod layout;
pub(crate) mod relocate;
pub(crate) mod room;
pub(crate) mod step;
#[cfg(test)]
mod tests;
pub(crate) mod verify;

use core::marker::PhantomData;
use core::ops::Range;

pub use alloc::Error;
pub use block::Fault;
pub use callbacks::{Handle, Hooks, Shrink};
use layout::{Context, W};
pub use room::Stat;

impl Shrink<'_> {
    /// The block's handle.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// How many bytes are wanted.
    pub fn wanted(&self) -> usize {
        (self.hints & compaction::SIZE) as usize
    }

    /// Whether memory at the front of the payload is welcome.
    pub fn front(&self) -> bool {
        self.hints & compaction::FRONT != 0
    }

    /// Whether memory at the back of the payload is welcome.
    pub fn back(&self) -> bool {
        self.hints & compaction::BACK != 0
    }

    /// The payload; empty once it is freed.
    pub fn data(&mut self) -> &mut [u8] {
        payload(self.ctx, self.handle).map_or(&mut [], |data| {
            // SAFETY: a live payload is pool memory that nothing else refers to: the pool is borrowed for as long as the hook runs,
            // and `self` for as long as the slice is used.
            unsafe { &mut *data }
        })
    }

    /// Keeps the bytes in `range` of the payload, where they are, and gives back the others. False if there is no such range.
    pub fn keep(&mut self, range: Range<usize>) -> bool {
        keep(self.ctx, self.handle, range).unwrap_or(false)
    }

    /// Frees the block.
    pub fn free(&mut self) -> bool {
        alloc::free(self.ctx, self.handle.get()) == Ok(0)
    }
}

/// The payload of a live block, to the end of its last word.
fn payload(ctx: &Context, handle: Handle) -> Option<*mut [u8]> {
    let pool = ctx.pool();
    let block = block::block_of(ctx, pool, handle.get()).ok()??;
    Some(core::ptr::slice_from_raw_parts_mut(pool.pointer(block.address), block.payload_bytes()))
}

fn keep(ctx: &Context, handle: Handle, range: Range<usize>) -> block::Result<bool> {
    let start = handles::data(ctx, handle.get()).addr();
    let Some(size) = range.end.checked_sub(range.start) else { return Ok(false) };
    if start == 0 {
        return Ok(false);
    }
    match start.checked_add(range.start) {
        Some(start) => alloc::shrink(ctx, handle.get(), start, size),
        None => Ok(false),
    }
}

/// How a block is allocated, apart from its size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'n, 'pool> {
    /// Stored in the block, up to the first NUL.
    pub name: Option<&'n str>,
    /// A power of two, which every move keeps. 0 or up to the size of a word: that of a word.
    pub alignment: usize,
    /// Called before the block is moved or shrunk.
    pub hooks: Option<&'pool Hooks<'pool>>,
}

/// An allocator in a buffer that it borrows. Payloads are borrowed from it, so that none can be in use while a block may move:
///
/// ```compile_fail,E0502
/// # let mut memory = [0u8; 4096];
/// let mut pool = palloc::buflib::Buflib::new(&mut memory);
/// let a = pool.alloc(10).unwrap();
/// let data = pool.data(a).unwrap();
/// pool.alloc(10).unwrap(); // may compact
/// assert_eq!(data[0], 0);
/// ```
///
/// A handle of another pool, or of a block that was freed, is bad; every method says what it does then.
#[derive(Debug)]
pub struct Buflib<'pool> {
    ctx: Context,
    /// Bytes of the whole words that it borrows.
    capacity: usize,
    pool: PhantomData<(&'pool mut [u8], Hooks<'pool>)>,
}

impl<'pool> Buflib<'pool> {
    /// An empty allocator in the words that lie wholly in `memory`.
    pub fn new(memory: &'pool mut [u8]) -> Self {
        let mut ctx = Context::new();
        // SAFETY: the memory is borrowed for 'pool, and what refers to it does so through the result.
        unsafe { alloc::init(&mut ctx, memory.as_mut_ptr(), memory.len()) };
        ctx.closures.set(true);
        Buflib { capacity: ctx.pool().words * W, ctx, pool: PhantomData }
    }

    /// Allocates `size` bytes, rounded up to words. Fails iff a handle or the memory is missing, even after compacting, and after
    /// asking every shrink hook.
    pub fn alloc(&mut self, size: usize) -> Result<Handle, Error> {
        self.alloc_with(size, &Options::default())
    }

    /// `alloc` of a block with a name.
    pub fn alloc_named(&mut self, size: usize, name: &str) -> Result<Handle, Error> {
        self.alloc_with(size, &Options { name: Some(name), ..Options::default() })
    }

    /// `alloc` with options. Fails also iff the alignment is neither 0 nor a power of two, or above the size of the pool.
    ///
    /// ```
    /// use palloc::buflib::{Buflib, Hooks, Options};
    /// use std::cell::Cell;
    ///
    /// // A cache that gives up half of what it has when others need memory.
    /// let asked = Cell::new(0);
    /// let give = |block: &mut palloc::buflib::Shrink<'_>| {
    ///     asked.set(asked.get() + 1);
    ///     let half = block.data().len() / 2;
    ///     block.keep(0..half)
    /// };
    /// let hooks = Hooks::movable().on_shrink(&give);
    /// let mut memory = [0u8; 4096];
    /// let mut pool = Buflib::new(&mut memory);
    /// let cache = pool.alloc_with(3000, &Options { name: Some("cache"), hooks: Some(&hooks), ..Options::default() })?;
    /// let other = pool.alloc(2000)?;
    /// assert_eq!(asked.get(), 1);
    /// assert_eq!(pool.data(cache).unwrap().len(), 1504);
    /// # Ok::<(), palloc::buflib::Error>(())
    /// ```
    pub fn alloc_with(&mut self, size: usize, options: &Options<'_, 'pool>) -> Result<Handle, Error> {
        let align = alloc::log2_of_alignment(options.alignment).ok_or(Error::NoMemory)?;
        let ops = options.hooks.map_or(0, |hooks| core::ptr::from_ref(hooks).expose_provenance());
        let name = options.name.map(bytes_of_name);
        self.checked(alloc::alloc(&self.ctx, alloc::Request { size, name, ops, align })).map(Handle::of)
    }

    /// Allocates all that there is in one place, after asking every shrink hook for all that it can give, and leaves only room for
    /// some handles. Returns the size too. The name is cut to 15 bytes.
    pub fn alloc_maximum(
        &mut self,
        name: Option<&str>,
        hooks: Option<&'pool Hooks<'pool>>,
    ) -> Result<(Handle, usize), Error> {
        let ops = hooks.map_or(0, |hooks| core::ptr::from_ref(hooks).expose_provenance());
        let name = name.map(|name| {
            let cut = (0..=name.len().min(15)).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
            bytes_of_name(&name[..cut])
        });
        self.checked(room::alloc_maximum(&self.ctx, name, ops)).map(|(handle, size)| (Handle::of(handle), size))
    }

    /// The payload, to the end of its last word. None iff the handle is bad.
    pub fn data(&self, handle: Handle) -> Option<&[u8]> {
        // SAFETY: a live payload is pool memory; only `&mut self` writes to it, moves it or ends it.
        payload(&self.ctx, handle).map(|data| unsafe { &*data })
    }

    /// The payload, to the end of its last word. None iff the handle is bad.
    pub fn data_mut(&mut self, handle: Handle) -> Option<&mut [u8]> {
        // SAFETY: as for `data`, and nothing else refers to it while `self` is borrowed.
        payload(&self.ctx, handle).map(|data| unsafe { &mut *data })
    }

    /// The name that the block was given. None iff it has none, or the handle is bad.
    pub fn name(&self, handle: Handle) -> Option<&str> {
        let pool = self.ctx.pool();
        let block = block::block_of(&self.ctx, pool, handle.get()).ok()??;
        if block.name_words() == 0 {
            return None;
        }
        let start = pool.pointer(pool.address(block.start + layout::NAME));
        // SAFETY: the name's words are pool memory that stays as it is while `self` is borrowed.
        let bytes = unsafe { core::slice::from_raw_parts(start, block.name_words() * W) };
        core::ffi::CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok()
    }

    /// Keeps the bytes in `range` of the payload, where they are, and gives back the others. False iff the handle is bad or there is
    /// no such range; nothing has changed then.
    pub fn shrink(&mut self, handle: Handle, range: Range<usize>) -> bool {
        self.checked(keep(&self.ctx, handle, range)).unwrap_or(false)
    }

    /// Frees a block. False iff the handle is bad.
    pub fn free(&mut self, handle: Handle) -> bool {
        self.checked(alloc::free(&self.ctx, handle.get())) == Ok(0)
    }

    /// Keeps a block where it is until as many `unpin`s. False iff the handle is bad, or has 2^32 - 1 pins (4095 on 32-bit).
    pub fn pin(&mut self, handle: Handle) -> bool {
        self.checked(handles::pin(&self.ctx, handle.get())).is_ok()
    }

    /// Takes back a pin. False iff the handle is bad, or the block has no pin.
    pub fn unpin(&mut self, handle: Handle) -> bool {
        self.checked(handles::unpin(&self.ctx, handle.get())).is_ok()
    }

    /// How many pins the block has; 0 if the handle is bad.
    pub fn pin_count(&self, handle: Handle) -> usize {
        handles::pin_count(&self.ctx, handle.get()).unwrap_or(0)
    }

    /// Bytes that are free, wherever they are: less what one more block needs for its header, and 16 handles.
    pub fn available(&self) -> usize {
        room::available(&self.ctx)
    }

    /// Compacts; then says how many bytes `alloc` gives, if hooks agree to the moves that it takes.
    pub fn allocatable(&mut self) -> usize {
        self.checked(room::allocatable(&self.ctx)).unwrap_or(0)
    }

    /// The result of an operation; debug builds check after each one that everything still holds.
    fn checked<T>(&self, result: T) -> T {
        debug_assert_eq!(self.check(), Ok(()));
        result
    }

    /// Moves blocks together, at most `max_bytes` of them but at least one, asking their hooks. Returns the bytes in holes if a further step
    /// may close one, else 0. A hook that refused is called again only after the next allocation, `free`, `shrink` or `unpin`.
    ///
    /// ```
    /// let mut memory = [0u8; 4096];
    /// let mut pool = palloc::buflib::Buflib::new(&mut memory);
    /// let (a, b) = (pool.alloc(100)?, pool.alloc(100)?);
    /// pool.free(a);
    /// while pool.compact_step(1024) > 0 {}
    /// assert_eq!(pool.stat().holes, 0);
    /// assert!(pool.size(b) >= Some(100));
    /// # Ok::<(), palloc::buflib::Error>(())
    /// ```
    pub fn compact_step(&mut self, max_bytes: usize) -> usize {
        self.checked(step::step(&self.ctx, max_bytes)).unwrap_or(0)
    }

    /// Sums over all blocks, and counters since `new`.
    pub fn stat(&self) -> Stat {
        room::stat(&self.ctx).ok().flatten().unwrap_or_default()
    }

    /// Uses `size` bytes of the memory that `new` was given, from its first whole word on; compacts if that is necessary. False iff the blocks
    /// and handles in use do not fit, the memory is not as long, or `size` is less than a word.
    pub fn resize(&mut self, size: usize) -> bool {
        size <= self.capacity && self.checked(relocate::resize(&self.ctx, size)).unwrap_or(false)
    }

    /// Bytes of the payload, to the end of its last word. None iff the handle is bad.
    pub fn size(&self, handle: Handle) -> Option<usize> {
        room::size(&self.ctx, handle.get()).ok().flatten()
    }

    /// The handles in use, lowest first.
    pub fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        let next = |handle| match handles::next(&self.ctx, handle) {
            0 => None,
            handle => Some(handle),
        };
        core::iter::successors(next(0), move |&handle| next(handle)).map(|handle| Handle::of(handle as usize))
    }

    /// Compares every block, handle and link. Returns the first damage that it finds as the error. Damage means a fault in this crate, or
    /// in unsafe code elsewhere.
    pub fn check(&self) -> Result<(), Fault> {
        let mut first = None;
        verify::check(&self.ctx, |fault| {
            first.get_or_insert(fault);
        });
        first.map_or(Ok(()), Err)
    }
}

fn bytes_of_name(name: &str) -> &[u8] {
    let bytes = name.as_bytes();
    &bytes[..bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len())]
}
