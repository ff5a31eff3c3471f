//! How much is free, and how much of it one allocation can have.

use super::alloc::{Error, Request, alloc};
use super::block::{Result, check_headers, length_at, shape};
use super::callbacks::ops;
use super::compact::{BACK, FRONT, compact, compact_and_shrink, saturate, settle};
use super::layout::*;
use super::{compact as compaction, free_tree, handles};

/// Bytes that the end space has for one more block: less room for its header, 16 handles and 16 bytes of name.
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
        // Blocks that refused to move lie between. If they agree next time, other blocks may be moved into the words that become free.
        longest = longest.min(piece.max(compaction::longest_if_all_agree(ctx)?));
    }
    Ok(end_estimate(ctx).max(longest.saturating_sub(HEADER) * W))
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
