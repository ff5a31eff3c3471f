// SPDX-License-Identifier: MIT OR Apache-2.0
//! `check`: checks everything that must hold between two operations, and relies on none of it.

use super::block::{Any, Extent, Fault, any_at, block_of, length_at};
use super::layout::*;
use super::{free_tree, handles};

/// Checks every block, every slot, the trees of free blocks and the counts in the context, and calls `report` for each fault. Returns
/// whether there was no fault.
pub(crate) fn check(ctx: &Context, mut report: impl FnMut(Fault)) -> bool {
    let (pool, end) = (ctx.pool(), ctx.end());
    let mut sound = true;
    let mut bad = |fault: Fault| {
        sound = false;
        report(fault);
    };
    if end > pool.words || ctx.handles() > pool.words - end {
        bad(Fault { at: pool.address(0), what: "the context is damaged", crc: None });
        return false;
    }
    let (mut start, mut prev, mut whole) = (0, 0, true);
    let (mut free_words, mut nodes, mut links, mut used, mut pinned) = (0, 0, free_tree::count_roots(ctx), 0, 0);
    while start < end {
        let len = match any_at(ctx, pool, start) {
            Ok(Any::Used(block)) => {
                if let Err(fault) = block.check_free_before(pool, prev) {
                    bad(fault);
                }
                used += 1;
                pinned += usize::from(block.flags.pins() > 0);
                prev = 0;
                block.len
            }
            Ok(Any::Free(len)) => {
                if prev > 0 {
                    bad(Fault::new(pool, start, "two free blocks are neighbours"));
                }
                if len >= NODE {
                    nodes += 1;
                    match free_tree::check_node(ctx, Extent { start, len }) {
                        Ok(children) => links += children,
                        Err(fault) => bad(fault),
                    }
                }
                free_words += len;
                prev = len.min(NODE);
                len
            }
            Err(fault) => {
                bad(fault);
                whole = false;
                // On with the next block, if the length may be right.
                match length_at(pool, end, start) {
                    Ok(length) => {
                        prev = if length < 0 { length.unsigned_abs().min(NODE) } else { 0 };
                        length.unsigned_abs()
                    }
                    Err(_) => break,
                }
            }
        };
        start += len;
    }
    let mut slots = 0;
    for handle in 1..=ctx.handles() {
        if pool.slot(handle) == 0 {
            if handle != ctx.reserved.get() && !handles::is_marked(ctx, handle) {
                bad(Fault::new(pool, pool.words - handle, "a free handle is lost"));
            }
            continue;
        }
        slots += 1;
        if let Err(fault) = block_of(ctx, pool, handle as i32) {
            bad(fault);
        }
    }
    if whole {
        let books = [
            (free_words == ctx.free_words.get(), "the count of free words is wrong"),
            (links == nodes, "the tree has other blocks than the free ones"),
            (slots == used, "there are handles without a block"),
            (pinned == ctx.pinned_blocks.get(), "the count of pinned blocks is wrong"),
            (ctx.next_to_ask.get() == 0 || ctx.busy.get() != IDLE, "a walk over shrink callbacks has not ended"),
            (ctx.reserved.get() == 0, "a handle is reserved for no allocation"),
        ];
        for (right, what) in books {
            if !right {
                bad(Fault { at: pool.address(0), what, crc: None });
            }
        }
    }
    sound
}
