// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much is free, and how much of it one allocation can have.

use super::alloc::{Error, Request, alloc};
use super::block::{Any, Result, block_of, check_headers, length_at, shape, walk};
use super::callbacks::ops;
use super::compaction::{BACK, FRONT, compact, compact_and_shrink, hint_size, note_stuck};
use super::layout::*;
use super::{compaction, free_tree, handles};

/// Bytes that the end space has for one more block: less room for its header, 16 handles and 16 bytes of name. The numbers are frozen: C
/// programs see them in buflib_available.
pub(crate) fn end_estimate(ctx: &Context) -> usize {
    ctx.end_space().saturating_sub(HEADER + 16).saturating_mul(W).saturating_sub(16)
}

pub(crate) fn available(ctx: &Context) -> usize {
    ctx.free_words.get() * W + end_estimate(ctx)
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
        note_stuck(ctx);
    }
    if !handles::available(ctx) {
        return Ok(0);
    }
    let (pool, end) = (ctx.pool(), ctx.end());
    let (mut start, mut joined, mut longest, mut piece) = (0, 0, 0, 0);
    // Without a free block there is nothing to join.
    while ctx.free_words.get() > 0 && start < end {
        let length = length_at(pool, end, start)?;
        if length < 0 {
            joined += length.unsigned_abs();
            longest = longest.max(joined);
            piece = piece.max(length.unsigned_abs());
        } else {
            let block = shape(pool, end, ctx.handles(), start)?;
            // An aligned block may leave some words on either side.
            if block.flags.pins() > 0 || block.flags.align() > 0 || !ops(ctx, &block)?.movable() {
                joined = 0;
            }
        }
        start += length.unsigned_abs();
    }
    if longest > piece {
        // Blocks that refused to move lie between. If they agree next time, other blocks may be moved into the words that become free.
        longest = longest.min(piece.max(compaction::longest_if_all_agree(ctx)?));
    }
    Ok(end_estimate(ctx).max(longest.saturating_sub(HEADER) * W))
}

/// Sums over the blocks of a pool, and counters. Sizes are in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The whole pool: `live`, `free` and a word for each of `handles`.
    pub pool: usize,
    /// Allocated blocks, with their headers.
    pub live: usize,
    /// All that is free: holes and the end.
    pub free: usize,
    /// The longest free piece.
    pub largest_free: usize,
    /// Free pieces between blocks.
    pub holes: usize,
    /// How many allocated blocks there are.
    pub blocks: usize,
    /// How many holes there are.
    pub free_blocks: usize,
    /// How many blocks are pinned.
    pub pinned: usize,
    /// How many blocks never move, because they have callbacks but none for moves.
    pub locked: usize,
    /// Words of the handle table, in use or not.
    pub handles: usize,
    /// How many times a compaction or a step moved a block. This number and the next two wrap at 2^32 on 32-bit.
    pub moves: u64,
    /// The bytes of those blocks.
    pub moved_bytes: u64,
    /// How many times a callback refused a move.
    pub refused: u64,
    /// The most bytes that were moved within one allocation.
    pub worst_alloc_move: u64,
}

/// Sums up all blocks. Returns None if a callback runs.
pub(crate) fn stat(ctx: &Context) -> Result<Option<Stat>> {
    if ctx.busy.get() != IDLE {
        return Ok(None);
    }
    check_headers(ctx)?;
    let bytes = |words: usize| words as u64 * W as u64;
    let mut stat = Stat {
        pool: ctx.pool().words * W,
        free: ctx.end_space() * W,
        largest_free: ctx.end_space() * W,
        handles: ctx.handles(),
        moves: ctx.moves.get() as u64,
        moved_bytes: bytes(ctx.moved_words.get()),
        refused: ctx.refused.get() as u64,
        worst_alloc_move: bytes(ctx.worst_alloc.get()),
        ..Stat::default()
    };
    let mut damage = Ok(());
    walk(ctx, |_, block| {
        match block {
            Any::Free(len) => {
                stat.free_blocks += 1;
                stat.holes += len * W;
                stat.free += len * W;
                stat.largest_free = stat.largest_free.max(len * W);
            }
            Any::Used(block) => {
                stat.blocks += 1;
                stat.live += block.len * W;
                stat.pinned += usize::from(block.flags.pins() > 0);
                match ops(ctx, &block) {
                    Ok(ops) => stat.locked += usize::from(!ops.movable()),
                    Err(fault) => damage = Err(fault),
                }
            }
        }
        damage.is_ok()
    })?;
    damage.map(|()| Some(stat))
}

/// Bytes of a payload, up to the end of its block. None if the handle is bad.
pub(crate) fn size(ctx: &Context, handle: i32) -> Result<Option<usize>> {
    Ok(block_of(ctx, ctx.pool(), handle)?.map(|block| block.payload_bytes()))
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
    while compact_and_shrink(ctx, FRONT | BACK | hint_size(ctx.pool().words))? {}
    if !ctx.compact.get() {
        compact(ctx)?;
    }
    let name_words = name.map_or(0, |name| name.len() / W + 1);
    let inner = free_tree::longest(ctx).saturating_sub(HEADER + name_words).saturating_mul(W); // that may be a damaged word
    let size = end_estimate(ctx).max(inner);
    if size == 0 || !handles::available(ctx) {
        note_stuck(ctx);
        return Err(Error::NoHandle);
    }
    let handle = alloc(ctx, Request { size, name, ops, align: 0 })?;
    Ok((handle, size))
}
