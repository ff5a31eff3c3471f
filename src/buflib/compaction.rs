// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making room: moving blocks together, and asking blocks to shrink.

use super::block::{
    Any, Block, Extent, Result, any_at, block_at, check_crc, check_headers, free_at, free_before, length_at, shape,
    shape_at, walk,
};
use super::callbacks::{Ops, ops};
use super::layout::*;
use super::{free_tree, handles};

/// Shrink hint: give back memory at the front.
pub(crate) const FRONT: u32 = 1 << 31;
/// Shrink hint: give back memory at the back.
pub(crate) const BACK: u32 = 1 << 30;
/// The bits of a shrink hint that are the number of bytes wanted.
pub(crate) const SIZE: u32 = BACK - 1;

/// The size in a shrink hint that wants `words` words: bytes, or the largest number that a hint can hold.
pub(crate) fn hint_size(words: usize) -> u32 {
    u32::try_from(words.saturating_mul(W)).unwrap_or(SIZE).min(SIZE)
}

/// Ends an operation that may have compacted: the pool is not compact if a block would not move.
pub(crate) fn note_stuck(ctx: &Context) {
    if ctx.stuck.get() {
        ctx.compact.set(false);
    }
}

/// Moves blocks towards the start of the pool, so that free words come together at its end. Returns whether that changed anything.
///
/// ```text
///     | a | free | b | free | c | locked | free | d |
///     | a | b | c | free: the gap | locked | free | d |       b and c move down by the gap, which grows on its way
///     | a | b | c | d | pocket | locked |                     the gap before a block that stays becomes the pocket, and d fits
/// ```
///
/// Only the latest pocket is filled. Each block is asked and moved at most once, after the headers of all have been checked.
pub(crate) fn compact(ctx: &Context) -> Result<bool> {
    let first = check_headers(ctx)?;
    let trimmed = handles::trim(ctx);
    ctx.compact.set(true);
    ctx.stuck.set(false);
    let Some(first) = first else { return Ok(trimmed) };
    free_tree::clear(ctx);
    ctx.step_from.set(0);
    let mut pass = Pass {
        ctx,
        pool: ctx.pool(),
        next: first,
        space: Space::default(),
        queue: Extent::default(),
        moved_blocks: 0,
        moved_words: 0,
        called: false,
    };
    let visited = pass.visit_all();
    pass.join_gap(visited).map(|gained| gained || trimmed)
}

/// The free words that a compaction has passed and can still fill.
#[derive(Clone, Copy, Default)]
pub(crate) struct Space {
    /// Free words right before the current block.
    gap: usize,
    /// Free words in front of the last block that stayed.
    pocket: Extent,
}

/// The place that a compaction has for a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// There is no free word to move it into.
    Untouched,
    /// Into the pocket. The first `skip` words of that stay free, so that the block moves by a multiple of its alignment.
    Fill { skip: usize },
    /// Down, by this many words, which are the gap or, because of the alignment, less than it.
    Slide { by: usize },
    /// It stays, and the gap becomes the pocket.
    Stays,
}

impl Space {
    /// Decides about a block at `start` of `len` words that moves by multiples of `align` words, if it may move at all.
    #[inline(always)]
    fn fate(&self, start: usize, len: usize, align: usize, may_move: bool) -> Fate {
        let skip = (start - self.pocket.start) % align;
        let by = self.gap - self.gap % align;
        if may_move && skip + len <= self.pocket.len {
            Fate::Fill { skip }
        } else if self.gap == 0 {
            Fate::Untouched
        } else if may_move && by > 0 {
            Fate::Slide { by }
        } else {
            Fate::Stays
        }
    }

    /// Updates the gap and the pocket for a block at `start` of `len` words with this fate. Returns the words that no later block can fill,
    /// possibly 0.
    #[inline(always)]
    fn advance(&mut self, fate: Fate, start: usize, len: usize) -> Extent {
        let gap = Extent { start: start - self.gap, len: self.gap };
        match fate {
            Fate::Untouched => Extent::default(),
            Fate::Fill { skip } => {
                let left = Extent { start: self.pocket.start, len: skip };
                self.pocket = Extent { start: left.end() + len, len: self.pocket.len - skip - len };
                self.gap += len;
                left
            }
            Fate::Slide { by } => {
                self.gap = by;
                Extent { start: gap.start, len: gap.len - by }
            }
            Fate::Stays => {
                self.gap = 0;
                core::mem::replace(&mut self.pocket, gap)
            }
        }
    }
}

struct Pass<'a> {
    ctx: &'a Context,
    pool: Pool,
    /// Where the next block begins. The gap ends there.
    next: usize,
    /// `gap` lies free; `pocket` is in the tree only when it is left behind.
    space: Space,
    /// Blocks without callbacks that move down by the gap, in one piece and soon: their handles say that they have.
    queue: Extent,
    moved_blocks: usize,
    moved_words: usize,
    /// A callback has been called, which may have damaged headers.
    called: bool,
}

impl Pass<'_> {
    /// Visits the blocks from `next` on.
    fn visit_all(&mut self) -> Result<()> {
        while self.next < self.ctx.end() {
            self.visit(self.next)?;
        }
        Ok(())
    }

    /// Visits the block at `start`, and passes it: `next` and the space change together, and nothing fails between them.
    #[inline(always)]
    fn visit(&mut self, start: usize) -> Result<()> {
        if (self.pool.get(start) as isize) < 0 {
            let len = free_at(self.ctx, self.pool, start)?;
            // The length of an allocated block that was damaged may look like that of a free one. The block behind knows.
            if self.called {
                shape_at(self.ctx, self.pool, start + len)?.check_free_before(self.pool, len)?;
            }
            self.move_queue();
            free_tree::break_seal(self.pool, Extent { start, len });
            self.space.gap += len;
            self.next += len;
            return Ok(());
        }
        let mut block = shape(self.pool, self.ctx.end(), self.ctx.handles(), start)?;
        let len = block.len;
        let align = 1usize << block.flags.align();
        let mut fate = self.space.fate(start, len, align, true);
        if fate == Fate::Untouched {
            self.next += len;
            return Ok(());
        }
        let ops = ops(self.ctx, &block)?;
        if self.called && matches!(ops, Ops::None) {
            check_crc(self.pool, &block)?; // `ops` checks the others
        }
        let pinned = block.flags.pins() > 0;
        // No callback is to be called: the block joins the queue, which is copied in one piece.
        if fate == (Fate::Slide { by: self.space.gap }) && !pinned && matches!(ops, Ops::None) {
            if self.queue.len == 0 {
                self.queue.start = start;
            }
            self.queue.len += len;
            block.flags.set_free_before(0);
            block.write_flags(self.pool, start - self.space.gap);
            self.pool.set_slot(block.handle, block.address - self.space.gap * W);
            self.moved_blocks += 1;
            self.moved_words += len;
            self.next += len; // as by a full slide, after which `advance` leaves the space as it is
            return Ok(());
        }
        self.move_queue();
        if ops.movable() && pinned {
            self.ctx.stuck.set(true);
        }
        if !ops.movable() || pinned || !self.try_move(block, ops, fate)? {
            fate = self.space.fate(start, len, align, false);
        }
        let left = self.space.advance(fate, start, len);
        self.next += len;
        // First the free words: a callback may have damaged the header of the block behind.
        self.leave(left)?;
        match fate {
            Fate::Fill { .. } if self.space.pocket.len < NODE => {
                let mut behind = block_at(self.ctx, self.pool, self.space.pocket.end())?;
                behind.set_free_before(self.pool, self.space.pocket.len);
            }
            Fate::Stays => block.set_free_before(self.pool, self.space.pocket.len),
            _ => {}
        }
        Ok(())
    }

    /// Moves a block, if its callback agrees.
    fn try_move(&mut self, mut block: Block, ops: Ops<'_>, fate: Fate) -> Result<bool> {
        let from = block.start;
        let (to, free_before) = match fate {
            Fate::Fill { skip } => (self.space.pocket.start + skip, skip),
            Fate::Slide { by } => (from - by, self.space.gap - by),
            Fate::Untouched | Fate::Stays => return Ok(false),
        };
        let address = block.address.wrapping_sub((from - to) * W);
        if !matches!(ops, Ops::None) {
            self.called = true;
            ops.sync(self.ctx, &block, true);
            // The header is written anew below, so a damaged one must not get a right crc.
            if !ops.agrees(self.ctx, &block, address) || check_crc(self.pool, &block).is_err() {
                ops.sync(self.ctx, &block, false);
                check_crc(self.pool, &block)?;
                self.ctx.stuck.set(true);
                self.ctx.refused.set(self.ctx.refused.get().wrapping_add(1));
                return Ok(false);
            }
        }
        block.flags.set_free_before(free_before.min(NODE));
        block.write_flags(self.pool, to);
        self.pool.set_slot(block.handle, address);
        self.pool.copy(from, to, block.len);
        if to + block.len <= from {
            self.pool.set(from, 0); // may become payload, which must not look like a block
        }
        self.moved_blocks += 1;
        self.moved_words += block.len;
        if !matches!(ops, Ops::None) {
            ops.sync(self.ctx, &block, false);
        }
        Ok(true)
    }

    fn move_queue(&mut self) {
        let queue = core::mem::take(&mut self.queue);
        if queue.len > 0 {
            self.pool.copy(queue.start, queue.start - self.space.gap, queue.len);
        }
    }

    /// Makes words that no block will move to a free block.
    fn leave(&mut self, free: Extent) -> Result<()> {
        if free.len > 0 { free_tree::add(self.ctx, free) } else { Ok(()) }
    }

    /// Joins the gap to the end space. If a callback damaged the pool, the pass may have ended early, and the gap becomes a free block there.
    fn join_gap(mut self, visited: Result<()>) -> Result<bool> {
        self.move_queue();
        self.ctx.count_moves(self.moved_blocks, self.moved_words);
        let pocket = core::mem::take(&mut self.space.pocket);
        let left = self.leave(pocket);
        let gap = Extent { start: self.next - self.space.gap, len: self.space.gap };
        if self.next == self.ctx.end() {
            self.ctx.set_end(gap.start);
            self.ctx.free_words.set(self.ctx.free_words.get().saturating_sub(gap.len));
        } else if gap.len > 0 {
            free_tree::store_length(self.pool, gap);
        }
        visited.and(left)?;
        Ok(self.moved_blocks > 0 || gap.len > 0)
    }
}

/// The longest free block after a compaction in which every callback agrees, from a walk that decides as `Pass` does but moves nothing.
pub(crate) fn longest_if_all_agree(ctx: &Context) -> Result<usize> {
    let (pool, end) = (ctx.pool(), ctx.end());
    let (mut start, mut space, mut longest) = (0, Space::default(), 0);
    while start < end {
        let length = length_at(pool, end, start)?;
        let len = length.unsigned_abs();
        if length < 0 {
            space.gap += len;
        } else {
            let block = shape(pool, end, ctx.handles(), start)?;
            let may_move = block.flags.pins() == 0 && ops(ctx, &block)?.movable();
            let fate = space.fate(start, len, 1 << block.flags.align(), may_move);
            longest = longest.max(space.advance(fate, start, len).len);
        }
        start += len;
    }
    Ok(longest.max(space.pocket.len))
}

/// Compacts, if that may change anything. If nothing changed, asks every block that has a shrink callback, and compacts again.
/// Returns whether anything changed: a block moved, or gave memory back.
pub(crate) fn compact_and_shrink(ctx: &Context, hints: u32) -> Result<bool> {
    if !ctx.compact.get() && compact(ctx)? {
        return Ok(true);
    }
    // Find damage before the callbacks give memory back, which can't be undone.
    check_headers(ctx)?;
    if !ask_to_shrink(ctx, hints)? {
        return Ok(false);
    }
    compact(ctx)?;
    Ok(true)
}

/// `compact_and_shrink` for an allocation of `words` words.
#[cold]
#[inline(never)]
pub(crate) fn make_room(ctx: &Context, words: usize) -> Result<bool> {
    compact_and_shrink(ctx, FRONT | hint_size(words))
}

/// Asks every block that has a shrink callback. Returns true if one said OK and there was progress: more is free, in whatever block, or
/// the payload of the block starts elsewhere.
fn ask_to_shrink(ctx: &Context, hints: u32) -> Result<bool> {
    let gained = ask_each(ctx, hints);
    ctx.next_to_ask.set(0);
    gained
}

/// Asks in address order. With FRONT alone, the length of a free block before a block is subtracted from the size that this block and all
/// later ones are asked for; a block is skipped if that length is larger.
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
        let before = free_before(ctx, pool, &block)?;
        if before.len > 0 && position == FRONT {
            let free = hint_size(before.len);
            if wanted < free {
                continue;
            }
            wanted -= free;
        }
        let progress = || (ctx.free_words.get(), ctx.end(), handles::data(ctx, block.handle as i32).addr());
        let progress_before = progress();
        // The callback may free and shrink any block, so that a free block comes to reach over this place.
        ctx.next_to_ask.set(start);
        gained |= ops.shrink(ctx, &block, position | wanted) && progress() != progress_before;
        start = ctx.next_to_ask.get();
    }
    Ok(gained)
}

/// The shrink hints when there is no word for a handle: the last block should make room. None if there is no block.
/// The size of 16 words is frozen: the callback of a C program sees it.
pub(crate) fn hints_for_a_handle(ctx: &Context) -> Result<Option<u32>> {
    let mut last = None;
    walk(ctx, |_, block| {
        if let Any::Used(block) = block {
            last = Some(block);
        }
        true
    })?;
    let Some(block) = last else { return Ok(None) };
    Ok(Some(if ops(ctx, &block)?.shrinkable() { BACK | hint_size(16) } else { FRONT | hint_size(block.len) }))
}
