//! Where blocks come to lie: first fit by address, taking and giving back memory, what is free.

use super::check::{Any, Block, Fault, Result, any_at, block_at, block_of, free_before};
use super::compact::{FRONT, compact_and_shrink, saturate};
use super::free_tree::{self, Path};
use super::layout::*;
use super::{compact, handles};
use core::ptr;

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

/// Makes the words that lie wholly in `size` bytes from `buf` a pool.
///
/// # Safety
/// Those bytes are *pool memory* of `ctx` from now on.
pub(crate) unsafe fn init(ctx: *mut Context, buf: *mut u8, size: usize) {
    let skip = buf.addr().wrapping_neg() % W;
    let words = if buf.is_null() { 0 } else { size.saturating_sub(skip) / W };
    // SAFETY: the caller's; a context has no destructor, so that what was there needs none.
    unsafe {
        ctx.write(Context::new());
        if words > 0 {
            (*ctx).set_pool(buf.add(skip).cast(), words);
        }
    }
}

/// What a new block shall be.
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

    /// Words of the block with its header, unless there are more than an address can tell.
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
    let result = alloc_words(ctx, request, words);
    ctx.reserved.set(0);
    compact::settle(ctx);
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
        let path = &mut Path::new();
        if let Some(place) = find_place(ctx, path, request, words)? {
            put(ctx, path, request, words, handle, place)?;
            return Ok(handle);
        }
        if !compact_and_shrink(ctx, FRONT | saturate(words))? {
            return Err(Error::NoMemory);
        }
    }
}

/// First fit by address, the end space last.
fn find_place(ctx: &Context, path: &mut Path, request: Request<'_>, words: usize) -> Result<Option<Place>> {
    let pool = ctx.pool();
    let align = 1usize << request.align;
    let header = HEADER + request.name_words();
    // Words to skip at `start` so that the payload is aligned.
    let pad = |start: usize| (pool.address(start + header) / W).wrapping_neg() % align;
    // A free block of so many words will do, wherever it starts.
    let ample = words.saturating_add(align - 1);
    if let Some((start, len)) = free_tree::first_fit(ctx, path, ample)? {
        return Ok(Some(Place { start, pad: pad(start), free: Some(len) }));
    }
    let (start, room) = (ctx.end(), ctx.end_space());
    if words.checked_add(pad(start)).is_some_and(|need| need <= room) {
        return Ok(Some(Place { start, pad: pad(start), free: None }));
    }
    if align > 1 && free_tree::first_fit(ctx, path, words)?.is_some() {
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

/// Writes a block to its place.
///
/// ```text
///     free block      | free: len                           | used ...
///     becomes         | free: pad | block: words | free: rest | used ...      pad and rest may be 0
/// ```
fn put(ctx: &Context, path: &mut Path, request: Request<'_>, words: usize, handle: usize, place: Place) -> Result<()> {
    let pool = ctx.pool();
    let Place { start, pad, free } = place;
    let front = (pad > 0).then_some((start, pad));
    match free {
        Some(len) => {
            let rest = len - pad - words;
            let back = (rest > 0).then_some((start + pad + words, rest));
            let mut next = if rest < NODE { Some(block_at(ctx, pool, start + len)?) } else { None };
            let old = Some((start, len));
            if pad < NODE {
                free_tree::exchange(ctx, path, [(old, back), (None, front)])?;
            } else {
                free_tree::exchange(ctx, path, [(old, front), (None, back)])?;
            }
            if let Some(next) = &mut next {
                next.set_prev(pool, rest);
            }
        }
        None => {
            // The tree is changed within the blocks, so they reach over the new one first.
            ctx.set_end(start + pad + words);
            if pad > 0 {
                if let Err(fault) = free_tree::exchange(ctx, path, [(None, front)]) {
                    ctx.set_end(start);
                    return Err(fault);
                }
            }
        }
    }
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

/// What stands behind a block that ends at `end`.
enum After {
    EndSpace,
    Used(Block),
    /// Its length, and the block behind a short one.
    Free(usize, Option<Block>),
}

fn after(ctx: &Context, pool: Pool, end: usize) -> Result<After> {
    if end == ctx.end() {
        return Ok(After::EndSpace);
    }
    Ok(match any_at(ctx, pool, end)? {
        Any::Used(block) => After::Used(block),
        Any::Free(len) => {
            // A short one is in no tree and may be a single word: a damaged header could look like it. The block behind knows.
            let behind = if len < NODE { Some(block_at(ctx, pool, end + len)?) } else { None };
            if behind.is_some_and(|block| block.flags.prev != len) {
                return Err(Fault::new(pool, end, "a free block that the next block does not know"));
            }
            After::Free(len, behind)
        }
    })
}

/// Frees a block.
///
/// ```text
///     | free: a | block: b | free: c |     becomes  | free: a + b + c         |       a and c may be missing
///     | free: a | block: b | end space ... becomes  | end space ...
/// ```
///
/// 0 if it is done; the handle if that is bad.
pub(crate) fn free(ctx: &Context, handle: i32) -> core::result::Result<i32, Error> {
    if !ctx.may_give() {
        return Err(Error::InCallback);
    }
    let pool = ctx.pool();
    let Some(block) = block_of(ctx, pool, handle)? else { return Ok(handle) };
    let path = &mut Path::new();
    let before = free_before(ctx, pool, &block)?;
    let start = before.map_or(block.start, |(start, _)| start);
    match after(ctx, pool, block.end())? {
        After::EndSpace => {
            if before.is_some() {
                free_tree::exchange(ctx, path, [(before, None)])?;
            }
            ctx.set_end(start);
        }
        After::Used(mut next) => {
            free_tree::exchange(ctx, path, [(before, Some((start, block.end() - start)))])?;
            next.set_prev(pool, block.end() - start);
            ctx.compact.set(false);
        }
        After::Free(len, behind) => {
            let next = Some((block.end(), len));
            let joined = Some((start, block.end() + len - start));
            if before.is_some_and(|(_, len)| len >= NODE) {
                free_tree::exchange(ctx, path, [(next, None), (before, joined)])?;
            } else {
                free_tree::exchange(ctx, path, [(next, joined), (before, None)])?;
            }
            if let Some(mut behind) = behind {
                behind.set_prev(pool, NODE);
            }
            ctx.compact.set(false);
        }
    }
    if pool.get(block.start) == block.len {
        // Inside of free words now: as in `shrink`.
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

/// Cuts a block's payload to `size` bytes from the address `start`; 0 is where it starts already.
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

    let mut lower = (None, None);
    if front > 0 {
        let before = free_before(ctx, pool, &block)?;
        let from = before.map_or(block.start, |(start, _)| start);
        lower = (before, Some((from, block.start + front - from)));
    }
    let mut upper = (None, None);
    let mut next = None;
    if back > 0 {
        match after(ctx, pool, block.end())? {
            After::EndSpace => {}
            After::Used(block_after) => {
                upper.1 = Some((end, back));
                next = Some(block_after);
            }
            After::Free(len, behind) => {
                upper = (Some((block.end(), len)), Some((end, back + len)));
                next = behind;
            }
        }
    }
    // In this order: see `exchange`.
    let changes = [upper, lower];
    free_tree::prepare(ctx, &changes)?;
    // The header goes to where the front of the payload was, before a free block is written over it.
    let joins_end = block.end() == ctx.end();
    let header = block.payload - block.start;
    pool.copy(block.start, block.start + front, header);
    if front > 0 {
        pool.set(block.start, 0); // what will be a payload there must not look like a block
    }
    block.start += front;
    block.payload += front;
    block.len = end - block.start;
    block.address = start;
    block.flags.offset = start % W;
    if let Some((_, len)) = lower.1 {
        block.flags.prev = len.min(NODE);
    }
    free_tree::exchange(ctx, &mut Path::new(), changes)?;
    if joins_end {
        ctx.set_end(end);
    }
    block.seal(pool);
    pool.set_slot(block.handle, start);
    if let (Some(next), Some((_, len))) = (&mut next, upper.1) {
        next.set_prev(pool, len);
    }
    if front > 0 || (back > 0 && !joins_end) {
        ctx.compact.set(false);
    }
    Ok(true)
}

/// Bytes that the end space has for one more block: less room for its header, 16 handles and 16 bytes of name.
pub(crate) fn end_estimate(ctx: &Context) -> usize {
    ctx.end_space().saturating_sub(HEADER + 16).saturating_mul(W).saturating_sub(16)
}

pub(crate) fn available(ctx: &Context) -> usize {
    ctx.free_words.get() * W + end_estimate(ctx)
}

/// The name of a block, NULL if it has none.
pub(crate) fn name(ctx: &Context, handle: i32) -> Result<*const u8> {
    let pool = ctx.pool();
    Ok(match block_of(ctx, pool, handle)? {
        Some(block) if block.name_words() > 0 => pool.pointer(pool.address(block.start + NAME)),
        _ => ptr::null(),
    })
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
