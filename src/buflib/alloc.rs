// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocating, freeing and shrinking blocks. A block is placed first fit by address, and in the end space last.

use super::block::{Any, Block, Extent, Fault, Result, any_at, block_at, block_of, free_at, free_before, walk};
use super::compact::{FRONT, compact_and_shrink, saturate};
use super::free_tree::{Change, Edit};
use super::layout::*;
use super::{compact, handles};

/// Why there is no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no handle left and no word for another one.
    NoHandle,
    /// There is no memory, not even after a compaction and after asking every shrink callback.
    NoMemory,
    /// A callback is running.
    InCallback,
    /// The pool is damaged.
    Damaged(Fault),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Damaged(fault)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::NoHandle => f.write_str("no handle is left, and no word for another one"),
            Error::NoMemory => f.write_str("the pool has no memory left, not even when compacted"),
            Error::InCallback => f.write_str("not while a callback is running"),
            Error::Damaged(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// Initializes a context. Its pool is the words that lie wholly in the `size` bytes from `buf`.
///
/// # Safety
/// Those bytes are *pool memory* of `ctx` from now on.
pub(crate) unsafe fn init(ctx: *mut Context, buf: *mut u8, size: usize) {
    let skip = buf.addr().wrapping_neg() % W;
    let words = if buf.is_null() { 0 } else { size.saturating_sub(skip) / W };
    // SAFETY: the caller's. A context has no destructor, so it may be overwritten.
    unsafe {
        ctx.write(Context::new());
        if words > 0 {
            (*ctx).set_pool(buf.add(skip).cast(), words);
        }
    }
}

/// A request for a block.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub size: usize,
    /// Without its NUL.
    pub name: Option<&'a [u8]>,
    /// Address of its callbacks, or 0.
    pub ops: usize,
    /// Log2 of the alignment in words.
    pub align: usize,
}

/// Log2 of an alignment in words; None if it is neither 0 nor a power of two.
pub(crate) fn log2_of_alignment(alignment: usize) -> Option<usize> {
    match alignment {
        0 => Some(0),
        _ if alignment.is_power_of_two() => Some(alignment.div_ceil(W).trailing_zeros() as usize),
        _ => None,
    }
}

impl Request<'_> {
    fn name_words(&self) -> usize {
        self.name.map_or(0, |name| name.len() / W + 1)
    }

    /// Words of the block with its header, or None if they are more than a word can count.
    fn words(&self) -> Option<usize> {
        self.size.div_ceil(W).checked_add(HEADER + self.name_words())
    }
}

/// A place for a block: `pad` free words in front of it, in the free block or the end space at `start`.
struct Place {
    start: usize,
    pad: usize,
    /// Length of the free block; None in the end space.
    free: Option<usize>,
}

pub(crate) fn alloc(ctx: &Context, request: Request<'_>) -> core::result::Result<usize, Error> {
    if ctx.busy.get() != IDLE {
        return Err(Error::InCallback);
    }
    let words = request.words().filter(|&words| words <= ctx.pool().words).ok_or(Error::NoMemory)?;
    if request.name_words() > MAX_NAME || 1 << request.align > ctx.pool().words {
        return Err(Error::NoMemory);
    }
    let moved = ctx.moved_words.get();
    let result = alloc_words(ctx, request, words);
    if ctx.moved_words.get() != moved {
        ctx.worst_alloc.set(ctx.worst_alloc.get().max(ctx.moved_words.get().wrapping_sub(moved)));
    }
    ctx.reserved.set(0);
    compact::note_stuck(ctx);
    result
}

fn alloc_words(ctx: &Context, request: Request<'_>, words: usize) -> core::result::Result<usize, Error> {
    let hint = ctx.first_free_handle.get();
    let handle = loop {
        match handles::reserve(ctx) {
            Some(handle) => break handle,
            None => {
                let Some(hints) = compact::hints_for_a_handle(ctx)? else { return Err(Error::NoHandle) };
                if !compact_and_shrink(ctx, hints)? {
                    return Err(Error::NoHandle);
                }
            }
        }
    };
    let placed = place(ctx, request, words, handle);
    if let Err(error) = placed {
        let inner = handles::release(ctx, handle);
        match error {
            Error::NoMemory if inner => ctx.compact.set(false),
            Error::Damaged(_) => ctx.first_free_handle.set(hint), // as it was
            _ => {}
        }
    }
    placed
}

fn place(ctx: &Context, request: Request<'_>, words: usize, handle: usize) -> core::result::Result<usize, Error> {
    loop {
        let mut edit = Edit::new(ctx);
        if let Some(place) = find_place(ctx, &mut edit, request, words)? {
            put(ctx, &mut edit, request, words, handle, place)?;
            return Ok(handle);
        }
        if !compact_and_shrink(ctx, FRONT | saturate(words))? {
            return Err(Error::NoMemory);
        }
    }
}

/// First fit by address, the end space last.
fn find_place(ctx: &Context, edit: &mut Edit<'_>, request: Request<'_>, words: usize) -> Result<Option<Place>> {
    let pool = ctx.pool();
    let align = 1usize << request.align;
    let header = HEADER + request.name_words();
    // Words to skip at `start` so that the payload is aligned.
    let pad = |start: usize| (pool.address(start + header) / W).wrapping_neg() % align;
    // A free block of so many words will do, wherever it starts.
    let ample = words.saturating_add(align - 1);
    debug_assert!(!ctx.can_be_searched() || edit.first_fit(ample) == slow_first_fit(ctx, ample));
    if let Some(Extent { start, len }) = edit.first_fit(ample)? {
        return Ok(Some(Place { start, pad: pad(start), free: Some(len) }));
    }
    let (start, room) = (ctx.end(), ctx.end_space());
    if words.checked_add(pad(start)).is_some_and(|need| need <= room) {
        return Ok(Some(Place { start, pad: pad(start), free: None }));
    }
    if align > 1 && edit.first_fit(words)?.is_some() {
        // Some shorter one may happen to start at the right place.
        let mut start = 0;
        while start < ctx.end() {
            let block = any_at(ctx, pool, start)?;
            match block {
                Any::Free(len) if words.checked_add(pad(start)).is_some_and(|need| need <= len) => {
                    return Ok(Some(Place { start, pad: pad(start), free: Some(len) }));
                }
                _ => {}
            }
            start += block.len();
        }
    }
    Ok(None)
}

/// The result that `Edit::first_fit` must have, found by a walk. For debug builds.
fn slow_first_fit(ctx: &Context, words: usize) -> Result<Option<Extent>> {
    let mut found = None;
    walk(ctx, |start, block| {
        if let Any::Free(len) = block {
            found = (len >= words).then_some(Extent { start, len });
        }
        found.is_none()
    })?;
    Ok(found)
}

/// Writes a block to its place.
///
/// ```text
///     free block      | free: len                           | used ...
///     becomes         | free: pad | block: words | free: rest | used ...      pad and rest may be 0
/// ```
fn put(
    ctx: &Context,
    edit: &mut Edit<'_>,
    request: Request<'_>,
    words: usize,
    handle: usize,
    place: Place,
) -> Result<()> {
    let pool = ctx.pool();
    let Place { start, pad, free } = place;
    let front = (pad > 0).then_some(Extent { start, len: pad });
    match free {
        Some(len) => {
            let rest = len - pad - words;
            let back = (rest > 0).then_some(Extent { start: start + pad + words, len: rest });
            let mut next = if rest < NODE { Some(block_at(ctx, pool, start + len)?) } else { None };
            edit.change(Change { old: Some(Extent { start, len }), new: back })?;
            edit.change(Change { old: None, new: front })?;
            if let Some(next) = &mut next {
                next.set_prev(pool, rest);
            }
        }
        None => {
            edit.change(Change { old: None, new: front })?;
            ctx.set_end(start + pad + words);
        }
    }
    ctx.changed_at(start);
    let start = start + pad;
    let name_words = request.name_words();
    let payload = start + HEADER + name_words;
    pool.set(start + SLOT, pool.slot_address(handle));
    pool.set(start + OPS, request.ops);
    if let Some(name) = request.name {
        pool.set_name(start + NAME, name_words, name);
    }
    let flags = Flags { prev: pad.min(NODE), offset: 0, align: request.align, pins: 0 };
    let address = pool.address(payload);
    Block { start, len: words, handle, payload, address, flags }.seal(pool);
    pool.set_slot(handle, address);
    Ok(())
}

/// The neighbour behind a block.
enum After {
    EndSpace,
    Used(Block),
    /// Its length, and the block behind a short one.
    Free(usize, Option<Block>),
}

#[inline(always)]
fn after(ctx: &Context, pool: Pool, end: usize) -> Result<After> {
    if end == ctx.end() {
        return Ok(After::EndSpace);
    }
    if pool.get(end) as isize >= 0 {
        return Ok(After::Used(block_at(ctx, pool, end)?));
    }
    let len = free_at(ctx, pool, end)?;
    // A short one is in no tree and may be a single word: a damaged header could look like it. The block behind knows.
    let behind = if len < NODE { Some(block_at(ctx, pool, end + len)?) } else { None };
    if behind.is_some_and(|block| block.flags.prev != len) {
        return Err(Fault::new(pool, end, "a free block that the next block does not know"));
    }
    Ok(After::Free(len, behind))
}

/// In a shrink callback: makes the walk that called it continue behind words that have become free.
fn skip_when_asking(ctx: &Context, free: Extent) {
    let next = ctx.next_to_ask.get();
    if ctx.busy.get() != IDLE && free.start < next && next < free.end() {
        ctx.next_to_ask.set(free.end());
    }
}

/// Frees a block.
///
/// ```text
///     | free: a | block: b | free: c |     becomes  | free: a + b + c         |       a and c may be missing
///     | free: a | block: b | end space ... becomes  | end space ...
/// ```
///
/// Returns 0, or the handle itself if it is bad.
pub(crate) fn free(ctx: &Context, handle: i32) -> core::result::Result<i32, Error> {
    if !ctx.may_give() {
        return Err(Error::InCallback);
    }
    let pool = ctx.pool();
    let Some(block) = block_of(ctx, pool, handle)? else { return Ok(handle) };
    let mut edit = Edit::new(ctx);
    let before = free_before(ctx, pool, &block)?;
    let start = before.map_or(block.start, |before| before.start);
    let joined = match after(ctx, pool, block.end())? {
        After::EndSpace => {
            edit.change(Change { old: before, new: None })?;
            ctx.set_end(start);
            Extent { start, len: block.end() - start }
        }
        After::Used(mut next) => {
            let joined = Extent { start, len: block.end() - start };
            edit.change(Change { old: before, new: Some(joined) })?;
            next.set_prev(pool, joined.len);
            ctx.compact.set(false);
            joined
        }
        After::Free(len, behind) => {
            let next = Some(Extent { start: block.end(), len });
            let joined = Extent { start, len: block.end() + len - start };
            if before.is_some_and(|before| before.len >= NODE) {
                edit.change(Change { old: next, new: None })?;
                edit.change(Change { old: before, new: Some(joined) })?;
            } else {
                edit.change(Change { old: before, new: None })?;
                edit.change(Change { old: next, new: Some(joined) })?;
            }
            if let Some(mut behind) = behind {
                behind.set_prev(pool, NODE);
            }
            ctx.compact.set(false);
            joined
        }
    };
    skip_when_asking(ctx, joined);
    ctx.changed_at(start);
    if pool.get(block.start) == block.len {
        // Inside of free words now: it may become payload, which must not look like a block.
        pool.set(block.start, 0);
    }
    if block.flags.pins > 0 {
        ctx.pinned_blocks.set(ctx.pinned_blocks.get().saturating_sub(1));
    }
    if handles::release(ctx, block.handle) {
        ctx.compact.set(false);
    }
    Ok(0)
}

/// Cuts the payload of a block to `size` bytes from the address `start`. A `start` of 0 keeps the start.
///
/// ```text
///     | free: a | header | cut |    payload    | cut | free: c |
///     | free: a + cut | header |    payload    | free: cut + c |       or the end space begins behind the payload
/// ```
pub(crate) fn shrink(ctx: &Context, handle: i32, start: usize, size: usize) -> Result<bool> {
    if !ctx.may_give() {
        return Ok(false);
    }
    let pool = ctx.pool();
    let Some(mut block) = block_of(ctx, pool, handle)? else { return Ok(false) };
    let start = if start == 0 { block.address } else { start };
    let Some(end) = start.checked_add(size) else { return Ok(false) };
    if start < block.address || end > pool.address(block.end()) {
        return Ok(false);
    }
    let payload = pool.index(start);
    let end = payload + (start % W + size).div_ceil(W);
    let front = payload - block.payload;
    let back = block.end() - end;

    let mut lower = Change::default();
    if front > 0 {
        let before = free_before(ctx, pool, &block)?;
        let start = before.map_or(block.start, |before| before.start);
        lower = Change { old: before, new: Some(Extent { start, len: block.start + front - start }) };
    }
    let mut upper = Change::default();
    let mut next = None;
    if back > 0 {
        match after(ctx, pool, block.end())? {
            After::EndSpace => {}
            After::Used(block_after) => {
                upper.new = Some(Extent { start: end, len: back });
                next = Some(block_after);
            }
            After::Free(len, behind) => {
                let old = Some(Extent { start: block.end(), len });
                upper = Change { old, new: Some(Extent { start: end, len: back + len }) };
                next = behind;
            }
        }
    }
    let mut edit = Edit::new(ctx);
    edit.change(upper)?;
    edit.change(lower)?;
    // From here on nothing fails.
    let joins_end = block.end() == ctx.end();
    if front > 0 {
        // The header goes to where the front of the payload was, before a free block is written over it. So the changes are made again.
        edit.undo();
        pool.copy(block.start, block.start + front, block.payload - block.start);
        pool.set(block.start, 0); // this word may become payload, which must not look like a block
        edit.change(upper)?;
        edit.change(lower)?;
    }
    block.start += front;
    block.payload += front;
    block.len = end - block.start;
    block.address = start;
    block.flags.offset = start % W;
    if let Some(free) = lower.new {
        block.flags.prev = free.len.min(NODE);
    }
    for free in [upper, lower].into_iter().filter_map(|change| change.new) {
        skip_when_asking(ctx, free);
        ctx.changed_at(free.start);
    }
    if joins_end {
        ctx.set_end(end);
        ctx.changed_at(end);
    }
    block.seal(pool);
    pool.set_slot(block.handle, start);
    if let (Some(next), Some(free)) = (&mut next, upper.new) {
        next.set_prev(pool, free.len);
    }
    if front > 0 || (back > 0 && !joins_end) {
        ctx.compact.set(false);
    }
    Ok(true)
}
