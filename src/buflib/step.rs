// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compaction in steps: blocks slide down one by one, as many as the caller has time for.
//!
//! ```text
//!     | a | hole | b | c | locked | free | d |
//!     | a | b |  gap | c | locked | free | d |        one block, 16 bytes: enough for this step
//!     | a | b | c |  gap | locked | free | d |        the next step goes on here: `step_from`
//! ```
//!
//! Blocks keep their order: no hole is filled with a block from behind a block that stays, as a full compaction does. A block is checked
//! before it moves, and every block that has moved is where its handle says: damage or a full budget ends the step between two blocks.
//!
//! The work of a step does not depend on how many blocks the pool has, except for the depth of the trees of free blocks. Each block that the
//! step comes to is charged to the budget, whether it moves or stays; so are the words that move. Each is checked, asked, moved and taken
//! out of its tree in O(log n). Besides, a step checks the block that it ends before, which is not charged.

use super::block::{Any, Block, Extent, Result, any_at, block_at, check_crc};
use super::callbacks::{Ops, ops};
use super::free_tree;
use super::layout::*;

/// Words that a step pays for each block, beside the words that it moves.
const BLOCK: usize = 256 / W;
/// Blocks that a step may find to stay without moving one, however small its budget is. Without them, many blocks that stay would take many
/// steps.
const LOOKS: usize = 64;

/// Slides blocks of `max_bytes` together, but at least one. Returns the bytes in holes, or 0 if no step can close any of them. At
/// most max(LOOKS, `max_bytes` / (BLOCK * W)) + 1 blocks move or are found to stay.
pub(crate) fn step(ctx: &Context, max_bytes: usize) -> Result<usize> {
    if ctx.busy.get() != IDLE {
        return Ok(0);
    }
    let mut step = Step { ctx, pool: ctx.pool(), budget: max_bytes / W, moved: 0, blocks: 0 };
    let mut full = false;
    while !full && ctx.free_words.get() > 0 && ctx.step_from.get() < ctx.end() {
        let start = ctx.step_from.get();
        match any_at(ctx, step.pool, start)? {
            Any::Used(block) => {
                full = step.pass_by();
                ctx.step_from.set(block.end());
            }
            Any::Free(len) => full = step.close(Extent { start, len })?,
        }
    }
    let more = full && ctx.step_from.get() < ctx.end();
    Ok(if more { ctx.free_words.get() * W } else { 0 })
}

struct Step<'a> {
    ctx: &'a Context,
    pool: Pool,
    /// Words that may be spent.
    budget: usize,
    /// Words that have been moved.
    moved: usize,
    /// Blocks that have been moved or found to stay.
    blocks: usize,
}

impl Step<'_> {
    /// The words spent.
    fn spent(&self) -> usize {
        self.moved + self.blocks * BLOCK
    }

    /// Counts a block that stays. Returns whether the step ends behind it.
    fn pass_by(&mut self) -> bool {
        self.blocks += 1;
        self.spent() > self.budget.max(LOOKS * BLOCK)
    }

    /// Moves blocks down to a hole, the tree apart until the end. True if the budget is used up.
    fn close(&mut self, hole: Extent) -> Result<bool> {
        // Find the damage of the first blocks while nothing has changed.
        let first = block_at(self.ctx, self.pool, hole.end())?;
        if first.end() < self.ctx.end() {
            any_at(self.ctx, self.pool, first.end())?;
        }
        free_tree::remove(self.ctx, hole)?;
        let mut gap = hole;
        let outcome = self.slide_blocks(&mut gap);
        self.ctx.step_from.set(match outcome {
            Ok(End::Stays { behind, .. }) => behind,
            _ => gap.start,
        });
        self.free_gap(gap)?;
        Ok(matches!(outcome?, End::Budget | End::Stays { full: true, .. }))
    }

    /// Moves the blocks behind `gap` down, so that it moves up and joins the holes on its way.
    fn slide_blocks(&mut self, gap: &mut Extent) -> Result<End> {
        while gap.end() < self.ctx.end() {
            let mut block = block_at(self.ctx, self.pool, gap.end())?;
            if self.moved > 0 && self.spent() + block.len + BLOCK > self.budget {
                return Ok(End::Budget);
            }
            let by = gap.len - gap.len % (1 << block.flags.align());
            let ops = ops(self.ctx, &block)?;
            if by == 0 || block.flags.pins() > 0 || !ops.movable() {
                if block.flags.pins() > 0 {
                    self.ctx.retry.set(true);
                }
                return Ok(End::Stays { behind: block.end(), full: self.pass_by() });
            }
            // All that can fail comes before the move.
            let mut behind = Extent { start: block.end(), len: 0 };
            if behind.start < self.ctx.end() {
                if let Any::Free(len) = any_at(self.ctx, self.pool, behind.start)? {
                    behind.len = len;
                }
            }
            let rest = Extent { start: gap.start, len: gap.len - by };
            free_tree::check_path(self.ctx, rest)?;
            if behind.len > 0 {
                free_tree::remove(self.ctx, behind)?;
            } else {
                free_tree::check_path(self.ctx, Extent { start: block.end() - by, len: by })?;
            }
            // A callback may damage the trees, so the gap changes before a block is added.
            if self.slide(&mut block, ops, by, rest.len) {
                *gap = Extent { start: block.end() - by, len: by + behind.len };
                if rest.len > 0 {
                    free_tree::add(self.ctx, rest)?;
                }
            } else {
                if behind.len > 0 {
                    free_tree::add(self.ctx, behind)?;
                }
                return Ok(End::Stays { behind: block.end(), full: self.pass_by() });
            }
        }
        Ok(End::Pool)
    }

    /// Moves one block down, if its callback agrees.
    fn slide(&mut self, block: &mut Block, ops: Ops<'_>, by: usize, free_before: usize) -> bool {
        let (ctx, pool) = (self.ctx, self.pool);
        let address = block.address - by * W;
        let asked = !matches!(ops, Ops::None);
        if asked {
            ops.sync(ctx, block, true);
        }
        // The header is written anew, so a damaged one must not get a right crc: `free_gap` finds it.
        let agrees = !asked || (ops.agrees(ctx, block, address) && check_crc(pool, block).is_ok());
        if agrees {
            let to = block.start - by;
            let mut there = *block;
            there.flags.set_free_before(free_before.min(NODE));
            there.write_flags(pool, to);
            pool.set_slot(block.handle, address);
            pool.copy(block.start, to, block.len);
            if by >= block.len {
                pool.set(block.start, 0); // may become payload, which must not look like a block
            }
            self.moved += block.len;
            self.blocks += 1;
            ctx.count_moves(1, block.len);
        } else {
            ctx.retry.set(true);
            ctx.refused.set(ctx.refused.get().wrapping_add(1));
        }
        if asked {
            ops.sync(ctx, block, false);
        }
        agrees
    }

    /// Puts the gap among the free blocks, or into the end space.
    fn free_gap(&mut self, gap: Extent) -> Result<()> {
        if gap.end() == self.ctx.end() {
            self.ctx.set_end(gap.start);
            self.ctx.free_words.set(self.ctx.free_words.get() - gap.len);
            return Ok(());
        }
        let added = free_tree::add(self.ctx, gap);
        block_at(self.ctx, self.pool, gap.end())?.set_free_before(self.pool, gap.len);
        added
    }
}

/// Why blocks stopped sliding.
enum End {
    /// Those moved so far are enough.
    Budget,
    /// A block stays. The next one begins `behind` it; the budget may be spent, too.
    Stays { behind: usize, full: bool },
    /// The gap has reached the end space.
    Pool,
}
