// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moving the whole pool: to another place, or up by memory that is taken away at its start; and moving its end.

use super::block::{Any, Extent, Result, check_headers, length_at, shape_at, walk};
use super::compaction::{compact, note_stuck};
use super::layout::*;
use super::{free_tree, handles};

/// The largest alignment of a block, in words, after checking all headers.
fn largest_alignment(ctx: &Context) -> Result<usize> {
    check_headers(ctx)?;
    let mut align = 0;
    walk(ctx, |_, block| {
        if let Any::Used(block) = block {
            align = align.max(block.flags.align());
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

/// Takes `wanted` bytes of the end space, or all of it, away at the start of the pool: all blocks move up. Returns the address and the number
/// of the bytes.
pub(crate) fn buffer_out(ctx: &Context, wanted: usize) -> Result<Option<(*mut u8, usize)>> {
    if ctx.busy.get() != IDLE || ctx.pinned_blocks.get() > 0 {
        return Ok(None);
    }
    if !ctx.compact.get() {
        compact(ctx)?;
        note_stuck(ctx);
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

/// Prepares the pool for a copy to `buf`: all addresses in it are those of the copy afterwards. Returns false if it can't lie there.
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
            block.write_header(pool);
        }
        start += length.unsigned_abs();
    }
    shift_handles(ctx, distance);
    ctx.rebase(buf.cast());
    Ok(true)
}

/// Makes the pool `size` bytes long, counted from its start before memory was taken out. Returns whether that was possible.
///
/// ```text
///     | blocks | end space | table |
///     | blocks | end space                | table |       the table moves, so all headers change: they say where their slot is
/// ```
pub(crate) fn resize(ctx: &Context, size: usize) -> Result<bool> {
    let Some(words) = (size / W).checked_sub(ctx.words_out.get()) else { return Ok(false) };
    let old = ctx.pool();
    if ctx.busy.get() != IDLE || old.words == 0 || old.address(0).checked_add(words.saturating_mul(W)).is_none() {
        return Ok(false);
    }
    check_headers(ctx)?;
    handles::trim(ctx);
    let fits = || ctx.end() + ctx.handles() <= words;
    if !fits() && !ctx.compact.get() {
        compact(ctx)?;
        note_stuck(ctx);
        check_headers(ctx)?; // callbacks may have damaged some
    }
    if words == 0 || !fits() {
        return Ok(false);
    }
    let (handles, end) = (ctx.handles(), ctx.end());
    // The new table may lie beyond the end of the shorter of the two pools, so read and write through the longer one.
    let both = old.with_words(words.max(old.words));
    both.copy(old.words - handles, words - handles, handles);
    let new = old.with_words(words);
    ctx.set_table(words, handles);
    // Nodes are placed by the bits of an index, of which there may be more or fewer now.
    free_tree::clear(ctx);
    let mut start = 0;
    while start < end {
        let length = length_at(new, end, start)?;
        if length > 0 {
            let slot = new.get(start + SLOT);
            new.set(start + SLOT, slot.wrapping_add(new.address(words)).wrapping_sub(old.address(old.words)));
            shape_at(ctx, new, start)?.write_header(new);
        } else {
            free_tree::break_seal(new, Extent { start, len: length.unsigned_abs() });
        }
        start += length.unsigned_abs();
    }
    start = 0;
    while start < end {
        let length = length_at(new, end, start)?;
        if length < 0 {
            free_tree::add(ctx, Extent { start, len: length.unsigned_abs() })?;
        }
        start += length.unsigned_abs();
    }
    Ok(true)
}
