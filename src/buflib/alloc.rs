// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocating, freeing and shrinking blocks. [`find_place`] says where a block is placed.

use super::block::{Any, Block, Extent, Fault, Result, any_at, block_at, block_of, free_at, free_before, walk};
use super::compaction::compact_and_shrink;
use super::free_tree::{Change, Trees};
use super::layout::*;
use super::{compaction, handles};

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
    compaction::note_stuck(ctx);
    result
}

fn alloc_words(ctx: &Context, request: Request<'_>, words: usize) -> core::result::Result<usize, Error> {
    let hint = ctx.first_free_handle.get();
    let handle = loop {
        match handles::reserve(ctx) {
            Some(handle) => break handle,
            None => {
                let Some(hints) = compaction::hints_for_a_handle(ctx)? else { return Err(Error::NoHandle) };
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
            // As after `free` of an inner handle: C programs read the field (docs/COMPAT.md).
            Error::NoMemory if inner => ctx.compact.set(false),
            Error::Damaged(_) => ctx.first_free_handle.set(hint), // as it was
            _ => {}
        }
    }
    placed
}

fn place(ctx: &Context, request: Request<'_>, words: usize, handle: usize) -> core::result::Result<usize, Error> {
    loop {
        let trees = Trees::new(ctx);
        let mut change = Change::new(&trees);
        if let Some(place) = find_place(ctx, &mut change, request, words)? {
            put(ctx, &trees, &mut change, request, words, handle, place)?;
            return Ok(handle);
        }
        if !compaction::make_room(ctx, words)? {
            return Err(Error::NoMemory);
        }
    }
}

/// The first free block by address in which the request fits wherever it starts; without one the end space; and without room there, for an
/// aligned request, the first free block that happens to start at the right place.
fn find_place(ctx: &Context, change: &mut Change<'_>, request: Request<'_>, words: usize) -> Result<Option<Place>> {
    let pool = ctx.pool();
    let align = 1usize << request.align;
    let header = HEADER + request.name_words();
    // Words to skip at `start` so that the payload is aligned.
    let pad = |start: usize| (pool.address(start + header) / W).wrapping_neg() % align;
    // A free block of so many words will do, wherever it starts.
    let ample = words.saturating_add(align - 1);
    debug_assert!(!ctx.can_be_searched() || change.first_fit(ample) == slow_first_fit(ctx, ample));
    if let Some(Extent { start, len }) = change.first_fit(ample)? {
        return Ok(Some(Place { start, pad: pad(start), free: Some(len) }));
    }
    let (start, room) = (ctx.end(), ctx.end_space());
    if words.checked_add(pad(start)).is_some_and(|need| need <= room) {
        return Ok(Some(Place { start, pad: pad(start), free: None }));
    }
    if align > 1 && change.first_fit(words)?.is_some() {
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

/// The result that `Change::first_fit` must have, found by a walk. For debug builds.
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
    trees: &Trees<'_>,
    change: &mut Change<'_>,
    request: Request<'_>,
    words: usize,
    handle: usize,
    place: Place,
) -> Result<()> {
    let pool = ctx.pool();
    let Place { start, pad, free } = place;
    let front = Extent { start, len: pad };
    trees.check_path(front, 0)?;
    match free {
        Some(len) => {
            let rest = len - pad - words;
            let next = if rest < NODE { Some(block_at(ctx, pool, start + len)?) } else { None };
            let back = Extent { start: start + pad + words, len: rest };
            change.plan(Extent { start, len }, back)?;
            // From here on nothing fails.
            change.make();
            if rest > 0 && rest < NODE {
                trees.add(back);
            }
            ctx.free_words.set(ctx.free_words.get() - words);
            if let Some(mut next) = next {
                next.set_free_before(pool, rest);
            }
        }
        None => {
            ctx.free_words.set(ctx.free_words.get() + pad);
            ctx.set_end(start + pad + words);
        }
    }
    if pad > 0 {
        trees.add(front);
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
    let flags = Flags::new(request.align, pad.min(NODE));
    let address = pool.address(payload);
    Block { start, len: words, handle, payload, address, flags }.write_header(pool);
    pool.set_slot(handle, address);
    Ok(())
}

/// What is behind a block: a free block of `free` words, or 0; then the block `next`. None at the end space, and behind a free block of
/// [`NODE`] words and more.
struct Behind {
    free: usize,
    next: Option<Block>,
}

#[inline(always)]
fn behind(ctx: &Context, pool: Pool, end: usize) -> Result<Behind> {
    if end == ctx.end() {
        return Ok(Behind { free: 0, next: None });
    }
    let free = if (pool.get(end) as isize) < 0 { free_at(ctx, pool, end)? } else { 0 };
    if free >= NODE {
        return Ok(Behind { free, next: None });
    }
    // A short free block is in no tree and may be a single word: a damaged header could look like it. The block behind knows.
    let next = block_at(ctx, pool, end + free)?;
    next.check_free_before(pool, free)?;
    Ok(Behind { free, next: Some(next) })
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
    if !ctx.may_shrink() {
        return Err(Error::InCallback);
    }
    let pool = ctx.pool();
    let Some(block) = block_of(ctx, pool, handle)? else { return Ok(handle) };
    let before = free_before(ctx, pool, &block)?;
    let Behind { free, next } = behind(ctx, pool, block.end())?;
    let joined = Extent { start: before.start, len: before.len + block.len + free };
    let joins_end = block.end() == ctx.end();
    let trees = Trees::new(ctx);
    let mut change = Change::new(&trees);
    // If there is a node on one side, it becomes the joined block. If there is one on both sides, that in front is removed.
    let (old, new) = if before.len < NODE {
        (Extent { start: block.end(), len: free }, joined)
    } else if joins_end || free >= NODE {
        (before, Extent::default())
    } else {
        (before, joined)
    };
    let in_place = change.plan(old, new)?;
    if !in_place && !joins_end {
        trees.check_path(joined, free)?;
    }
    // From here on nothing fails.
    change.make();
    if joins_end {
        ctx.free_words.set(ctx.free_words.get() - before.len);
        ctx.set_end(joined.start);
    } else {
        if !in_place {
            trees.add(joined);
        }
        ctx.free_words.set(ctx.free_words.get() + block.len);
        if let Some(mut next) = next {
            next.set_free_before(pool, joined.len);
        }
        ctx.compact.set(false);
    }
    skip_when_asking(ctx, joined);
    ctx.changed_at(joined.start);
    if pool.get(block.start) == block.len {
        // Inside of free words now: it may become payload, which must not look like a block.
        pool.set(block.start, 0);
    }
    if block.flags.pins() > 0 {
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
    if !ctx.may_shrink() {
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

    // The free blocks before and behind, as they become.
    let (mut before, mut lower, mut upper) = (Extent::default(), Extent::default(), Extent::default());
    let mut free_behind = Behind { free: 0, next: None };
    let joins_end = block.end() == ctx.end();
    if front > 0 {
        before = free_before(ctx, pool, &block)?;
        lower = Extent { start: before.start, len: before.len + front };
    }
    if back > 0 && !joins_end {
        free_behind = behind(ctx, pool, block.end())?;
        upper = Extent { start: end, len: back + free_behind.free };
    }
    let trees = Trees::new(ctx);
    let mut change = Change::new(&trees);
    let in_place = change.plan(before, lower)?;
    if !in_place {
        trees.check_path(lower, 0)?;
    }
    trees.check_path(upper, free_behind.free)?;
    // From here on nothing fails.
    if front > 0 {
        // The header goes to where the front of the payload was, before a free block is written over it.
        pool.copy(block.start, block.start + front, block.payload - block.start);
        pool.set(block.start, 0); // this word may become payload, which must not look like a block
        block.flags.set_free_before(lower.len.min(NODE));
    }
    change.make();
    if !in_place && lower.len > 0 {
        trees.add(lower);
    }
    if upper.len > 0 {
        trees.add(upper);
    }
    block.start += front;
    block.payload += front;
    block.len = end - block.start;
    block.address = start;
    block.flags.set_offset(start % W);
    for free in [upper, lower].into_iter().filter(|free| free.len > 0) {
        skip_when_asking(ctx, free);
        ctx.changed_at(free.start);
    }
    ctx.free_words.set(ctx.free_words.get() + lower.len - before.len + upper.len - free_behind.free);
    if joins_end {
        ctx.set_end(end);
        ctx.changed_at(end);
    }
    block.write_header(pool);
    pool.set_slot(block.handle, start);
    if let Some(mut next) = free_behind.next {
        next.set_free_before(pool, upper.len);
    }
    if front > 0 || (back > 0 && !joins_end) {
        ctx.compact.set(false);
    }
    Ok(true)
}
