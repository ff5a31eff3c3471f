//! Making room: moving blocks together, asking blocks to shrink, and moving the whole pool.

use super::alloc::{Error, Request, alloc, end_estimate};
use super::callbacks::{Ops, ops};
use super::check::{Any, Block, Result, any_at, check_headers, free_before, length_at, shape, shape_at};
use super::layout::*;
use super::{free_tree, handles};

/// Shrink hint: give back memory at the front.
pub(crate) const FRONT: u32 = 1 << 31;
/// Shrink hint: give back memory at the back.
pub(crate) const BACK: u32 = 1 << 30;
/// The part of a shrink hint that tells how many bytes are wanted.
pub(crate) const SIZE: u32 = BACK - 1;

/// Words as the bytes of a shrink hint.
pub(crate) fn saturate(words: usize) -> u32 {
    u32::try_from(words.saturating_mul(W)).unwrap_or(SIZE).min(SIZE)
}

/// Ends an operation that may have compacted: the pool is not compact if a block would not move.
pub(crate) fn settle(ctx: &Context) {
    if ctx.stuck.get() {
        ctx.compact.set(false);
    }
}

/// Moves blocks towards the start of the pool, so that free words come together at its end. True if that changed anything.
///
/// ```text
///     | a | free | b | free | c | locked | free | d |
///     | a | b | c | free: the gap | locked | free | d |       b and c move down by the gap, which grows on its way
///     | a | b | c | d | hole | locked |                       the gap before a block that stays is the hole, and d fits
/// ```
///
/// Only the latest hole is filled. Each block is asked and moved at most once, after the headers of all have been checked.
pub(crate) fn compact(ctx: &Context) -> Result<bool> {
    let first = check_headers(ctx)?;
    let trimmed = handles::trim(ctx);
    ctx.compact.set(true);
    ctx.stuck.set(false);
    let Some(first) = first else { return Ok(trimmed) };
    ctx.root.set(0);
    let mut pass = Pass { ctx, pool: ctx.pool(), gap: 0, hole: (0, 0), run: (0, 0), moved: false };
    let walked = pass.run(first);
    pass.finish(walked).map(|gained| gained || trimmed)
}

struct Pass<'a> {
    ctx: &'a Context,
    pool: Pool,
    /// Free words right before the current block.
    gap: usize,
    /// Start and length of blocks without callbacks that move down by the gap, in one piece and soon: their handles say that they have.
    run: (usize, usize),
    /// Start and length of free words in front of a block that stayed; not in the tree before it is left behind.
    hole: (usize, usize),
    moved: bool,
}

impl Pass<'_> {
    /// Visits the blocks from `start` on; returns where it ended.
    fn run(&mut self, mut start: usize) -> (usize, Result<()>) {
        while start < self.ctx.end() {
            match self.step(start) {
                Ok(len) => start += len,
                Err(fault) => return (start, Err(fault)),
            }
        }
        (start, Ok(()))
    }

    #[inline(always)]
    fn step(&mut self, start: usize) -> Result<usize> {
        let length = length_at(self.pool, self.ctx.end(), start)?;
        if length < 0 {
            self.move_run();
            free_tree::forget(self.pool, start, length.unsigned_abs());
            self.gap += length.unsigned_abs();
            return Ok(length.unsigned_abs());
        }
        let mut block = shape(self.pool, self.ctx.end(), self.ctx.handles(), start)?;
        let len = block.len;
        let align = 1usize << block.flags.align;
        let skip = (start - self.hole.0) % align;
        let fits = self.hole.1.checked_sub(skip).is_some_and(|room| room >= len);
        let slide = self.gap - self.gap % align;
        if !fits && self.gap == 0 {
            return Ok(len);
        }
        let ops = ops(self.ctx, &block)?;
        if !fits && align == 1 && block.flags.pins == 0 && matches!(ops, Ops::None) {
            if self.run.1 == 0 {
                self.run.0 = start;
            }
            self.run.1 += len;
            block.flags.prev = 0;
            block.send(self.pool, start - self.gap);
            self.pool.set_slot(block.handle, block.address - self.gap * W);
            self.moved = true;
            return Ok(len);
        }
        self.move_run();
        let mut may_move = ops.movable();
        if may_move && block.flags.pins > 0 {
            may_move = false;
            self.ctx.stuck.set(true);
        }
        if may_move && fits {
            let to = self.hole.0 + skip;
            let rest = (to + len, self.hole.1 - skip - len);
            if self.try_move(block, ops, to, skip)? {
                if skip > 0 {
                    free_tree::add(self.ctx, self.hole.0, skip)?;
                }
                if rest.1 < NODE {
                    shape_at(self.ctx, self.pool, rest.0 + rest.1)?.set_prev(self.pool, rest.1);
                }
                self.hole = rest;
                self.gap += len;
                return Ok(len);
            }
            may_move = false;
        }
        if self.gap == 0 {
            return Ok(len);
        }
        let rest = (start - self.gap, self.gap - slide);
        if may_move && slide > 0 && self.try_move(block, ops, start - slide, rest.1)? {
            if rest.1 > 0 {
                free_tree::add(self.ctx, rest.0, rest.1)?;
            }
            self.gap = slide;
        } else {
            block.set_prev(self.pool, self.gap);
            self.leave_hole()?;
            self.hole = (start - self.gap, self.gap);
            self.gap = 0;
        }
        Ok(len)
    }

    fn try_move(&mut self, mut block: Block, ops: Ops<'_>, to: usize, prev: usize) -> Result<bool> {
        let from = block.start;
        let address = block.address.wrapping_sub((from - to) * W);
        if !matches!(ops, Ops::None) {
            ops.sync(self.ctx, &block, true);
            if !ops.agrees(self.ctx, &block, address) {
                ops.sync(self.ctx, &block, false);
                self.ctx.stuck.set(true);
                return Ok(false);
            }
        }
        block.flags.prev = prev.min(NODE);
        block.send(self.pool, to);
        self.pool.set_slot(block.handle, address);
        self.pool.copy(from, to, block.len);
        if to + block.len <= from {
            self.pool.set(from, 0); // as in `shrink`
        }
        self.moved = true;
        if !matches!(ops, Ops::None) {
            ops.sync(self.ctx, &block, false);
        }
        Ok(true)
    }

    fn move_run(&mut self) {
        let (start, len) = core::mem::take(&mut self.run);
        if len > 0 {
            self.pool.copy(start, start - self.gap, len);
        }
    }

    /// Puts the hole, which nothing more is moved to, among the free blocks.
    fn leave_hole(&mut self) -> Result<()> {
        let (start, len) = core::mem::take(&mut self.hole);
        if len > 0 { free_tree::add(self.ctx, start, len) } else { Ok(()) }
    }

    /// Gives the gap to the end space. If a callback damaged the pool meanwhile, the pass ended early, and the gap remains free there.
    fn finish(mut self, (end, walked): (usize, Result<()>)) -> Result<bool> {
        self.move_run();
        let left = self.leave_hole();
        if let Err(fault) = walked.and(left) {
            if self.gap > 0 {
                free_tree::mark(self.pool, end - self.gap, self.gap);
            }
            return Err(fault);
        }
        self.ctx.set_end(end - self.gap);
        self.ctx.free_words.set(self.ctx.free_words.get() - self.gap);
        Ok(self.moved || self.gap > 0)
    }
}

/// Compacts, if that may change anything; then, or if it did not, asks every block that has a shrink callback, and compacts again.
/// True if there is more free memory in one place now.
pub(crate) fn compact_and_shrink(ctx: &Context, hints: u32) -> Result<bool> {
    if !ctx.compact.get() && compact(ctx)? {
        return Ok(true);
    }
    // What callbacks give can't be taken back when damage is found only then.
    check_headers(ctx)?;
    if !ask_to_shrink(ctx, hints)? {
        return Ok(false);
    }
    compact(ctx)?;
    Ok(true)
}

/// Asks every block that has a shrink callback. Returns true if one said OK and there was progress: more is free, in whatever block, or
/// the payload of the block starts elsewhere.
fn ask_to_shrink(ctx: &Context, hints: u32) -> Result<bool> {
    let gained = ask_each(ctx, hints);
    ctx.next_to_ask.set(0);
    gained
}

/// Asks in address order. With FRONT alone, the free words before a block are taken off what it and all later ones are asked for, and
/// it is not asked if they are more than that.
fn ask_each(ctx: &Context, hints: u32) -> Result<bool> {
    let pool = ctx.pool();
    let position = hints & !SIZE;
    let mut wanted = hints & SIZE;
    let mut gained = false;
    let mut start = 0;
    while start < ctx.end() {
        let block = match any_at(ctx, pool, start)? {
            Any::Free(len) => {
                start += len;
                continue;
            }
            Any::Used(block) => block,
        };
        start = block.end();
        let ops = ops(ctx, &block)?;
        if !ops.shrinkable() {
            continue;
        }
        if let Some((_, len)) = free_before(ctx, pool, &block)?.filter(|_| position == FRONT) {
            let free = saturate(len);
            if wanted < free {
                continue;
            }
            wanted -= free;
        }
        let all = || (ctx.free_words.get(), ctx.end(), handles::data(ctx, block.handle as i32).addr());
        let before = all();
        // The callback may free and shrink any block, so that a free block comes to reach over this place.
        ctx.next_to_ask.set(start);
        gained |= ops.shrink(ctx, &block, position | wanted) && all() != before;
        start = ctx.next_to_ask.get();
    }
    Ok(gained)
}

/// What to ask for when there is no word for a handle: the last block should get out of the way. None if there is no block.
pub(crate) fn hints_for_a_handle(ctx: &Context) -> Result<Option<u32>> {
    let mut last = None;
    super::alloc::walk(ctx, |_, block| {
        if let Any::Used(block) = block {
            last = Some(block);
        }
        true
    })?;
    let Some(block) = last else { return Ok(None) };
    Ok(Some(if ops(ctx, &block)?.shrinkable() { BACK | saturate(16) } else { FRONT | saturate(block.len) }))
}

/// Bytes that an allocation without a name gets, if the callbacks of blocks in the way let them move.
pub(crate) fn allocatable(ctx: &Context) -> Result<usize> {
    if ctx.busy.get() != IDLE {
        return Ok(0);
    }
    if ctx.compact.get() {
        check_headers(ctx)?;
    } else {
        compact(ctx)?; // which checks them
        settle(ctx);
    }
    if !handles::available(ctx) {
        return Ok(0);
    }
    let (pool, end) = (ctx.pool(), ctx.end());
    let (mut start, mut run, mut longest, mut piece) = (0, 0, 0, 0);
    // Without a free block there is no run.
    while ctx.free_words.get() > 0 && start < end {
        let length = length_at(pool, end, start)?;
        if length < 0 {
            run += length.unsigned_abs();
            longest = longest.max(run);
            piece = piece.max(length.unsigned_abs());
        } else {
            let block = shape(pool, end, ctx.handles(), start)?;
            // An aligned block may leave some words on either side.
            if block.flags.pins > 0 || block.flags.align > 0 || !ops(ctx, &block)?.movable() {
                run = 0;
            }
        }
        start += length.unsigned_abs();
    }
    if longest > piece {
        // Blocks that refused to move lie between: what they would uncover may be filled with other blocks at once.
        longest = longest.min(piece.max(longest_if_all_agree(ctx)?));
    }
    Ok(end_estimate(ctx).max(longest.saturating_sub(HEADER) * W))
}

/// The longest free block after a compaction in which every callback agrees: a `Pass` that moves nothing.
fn longest_if_all_agree(ctx: &Context) -> Result<usize> {
    let (pool, end) = (ctx.pool(), ctx.end());
    let (mut start, mut gap, mut hole, mut longest) = (0, 0, (0, 0), 0usize);
    while start < end {
        let length = length_at(pool, end, start)?;
        let len = length.unsigned_abs();
        if length < 0 {
            gap += len;
        } else {
            let block = shape(pool, end, ctx.handles(), start)?;
            let align = 1usize << block.flags.align;
            let skip = (start - hole.0) % align;
            let slide = gap - gap % align;
            let may_move = block.flags.pins == 0 && ops(ctx, &block)?.movable();
            if may_move && skip + len <= hole.1 {
                longest = longest.max(skip);
                hole = (hole.0 + skip + len, hole.1 - skip - len);
                gap += len;
            } else if may_move && slide > 0 {
                longest = longest.max(gap - slide);
                gap = slide;
            } else if gap > 0 {
                longest = longest.max(hole.1);
                hole = (start - gap, gap);
                gap = 0;
            }
        }
        start += len;
    }
    Ok(longest.max(hole.1))
}

/// Allocates as much as there is in one place, after asking for all that can be given. Returns the handle and the size.
pub(crate) fn alloc_maximum(
    ctx: &Context,
    name: Option<&[u8]>,
    ops: usize,
) -> core::result::Result<(usize, usize), Error> {
    if ctx.busy.get() != IDLE {
        return Err(Error::InCallback);
    }
    while compact_and_shrink(ctx, FRONT | BACK | saturate(ctx.pool().words))? {}
    if !ctx.compact.get() {
        compact(ctx)?;
    }
    let name_words = name.map_or(0, |name| name.len() / W + 1);
    let inner = free_tree::longest(ctx)?.saturating_sub(HEADER + name_words) * W;
    let size = end_estimate(ctx).max(inner);
    if size == 0 || !handles::available(ctx) {
        settle(ctx);
        return Err(Error::NoHandle);
    }
    let handle = alloc(ctx, Request { size, name, ops, align: 0 })?;
    Ok((handle, size))
}

/// The largest alignment of a block, in words, after checking all headers.
fn largest_alignment(ctx: &Context) -> Result<usize> {
    check_headers(ctx)?;
    let mut align = 0;
    super::alloc::walk(ctx, |_, block| {
        if let Any::Used(block) = block {
            align = align.max(block.flags.align);
        }
        true
    })?;
    Ok(1 << align)
}

/// Adds `distance` bytes to where every handle points.
fn shift_handles(ctx: &Context, distance: usize) {
    let pool = ctx.pool();
    for handle in 1..=ctx.handles() {
        let address = pool.slot(handle);
        if address != 0 {
            pool.set_slot(handle, address.wrapping_add(distance));
        }
    }
}

/// Takes `wanted` bytes of the end space, or all of it, away at the start of the pool, from which all blocks move up. Returns the
/// address and how many bytes they are.
pub(crate) fn buffer_out(ctx: &Context, wanted: usize) -> Result<Option<(*mut u8, usize)>> {
    if ctx.busy.get() != IDLE || ctx.pinned_blocks.get() > 0 {
        return Ok(None);
    }
    if !ctx.compact.get() {
        compact(ctx)?;
        settle(ctx);
    }
    let align = largest_alignment(ctx)?;
    let room = ctx.end_space() / align * align;
    let wanted = if wanted == 0 { room } else { wanted.div_ceil(W).min(room) };
    let words = wanted.next_multiple_of(align).min(room);
    let pool = ctx.pool();
    shift_handles(ctx, words * W);
    pool.copy(0, words, ctx.end());
    ctx.shift_start(words as isize);
    ctx.words_out.set(ctx.words_out.get() + words);
    Ok(Some((pool.pointer(pool.address(0)), words * W)))
}

/// Brings back `size` bytes that were taken out.
pub(crate) fn buffer_in(ctx: &Context, size: usize) -> Result<()> {
    let words = size / W;
    if ctx.busy.get() != IDLE || ctx.pinned_blocks.get() > 0 || words > ctx.words_out.get() {
        return Ok(());
    }
    let align = largest_alignment(ctx)?;
    let words = words / align * align;
    shift_handles(ctx, (words * W).wrapping_neg());
    let end = ctx.end();
    ctx.shift_start(-(words as isize));
    ctx.pool().copy(words, 0, end);
    ctx.words_out.set(ctx.words_out.get() - words);
    Ok(())
}

/// Prepares for the pool being copied to `buf`: all that points into it points there afterwards. False if it can't lie there.
pub(crate) fn relocate(ctx: &Context, buf: *mut u8) -> Result<bool> {
    let (pool, address) = (ctx.pool(), buf.addr());
    if ctx.busy.get() != IDLE
        || ctx.pinned_blocks.get() > 0
        || ctx.words_out.get() > 0
        || address == 0
        || address % W != 0
        || address.checked_add(pool.words * W).is_none()
    {
        return Ok(false);
    }
    let distance = address.wrapping_sub(pool.address(0));
    if distance % (largest_alignment(ctx)? * W) != 0 {
        return Ok(false);
    }
    let mut start = 0;
    while start < ctx.end() {
        let length = length_at(pool, ctx.end(), start)?;
        if length > 0 {
            let block = shape_at(ctx, pool, start)?;
            pool.set(start + SLOT, pool.slot_address(block.handle).wrapping_add(distance));
            block.seal(pool);
        }
        start += length.unsigned_abs();
    }
    shift_handles(ctx, distance);
    ctx.rebase(buf.cast());
    Ok(true)
}
