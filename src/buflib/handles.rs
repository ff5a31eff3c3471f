// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handle table, which grows down from the end of the pool: handle n is the word n words below the end, the address of the
//! payload or 0.
//!
//! The lowest free handle is found by a bitmap in the context. One bit stands for a group of handles, twice as many each time the table
//! outgrows the bitmap. A bit is set iff there is a free handle in the group, but where `trim` cut the table: bits of handles that were behind
//! the cut may still be set. So a search reads the slots of two groups at most.
//!
//! ```text
//!     summary      0 ... 0 1 0      one bit for each word of groups
//!     groups[1]        0 ... 1 0 0    one bit for each group of 1 << group_shift handles
//!     table          group: 7f..18  0  7f..a8  0
//! ```

use super::block::{Block, Fault, Result, block_of};
use super::layout::*;
use core::ops::Range;

const BITS: usize = usize::BITS as usize;

/// Bits of the bitmap.
const GROUPS: usize = GROUP_WORDS * BITS;

const _: () = assert!(GROUP_WORDS <= BITS, "`summary` has a bit for each of `groups`");

/// Sets the bit of a handle that became free.
fn set_bit(ctx: &Context, handle: usize) {
    let group = (handle - 1) >> ctx.group_shift.get();
    let word = &ctx.groups[group / BITS];
    word.set(word.get() | (1 << (group % BITS)));
    ctx.summary.set(ctx.summary.get() | (1 << (group / BITS)));
}

/// Whether a search would find the handle if it is free.
pub(crate) fn is_marked(ctx: &Context, handle: usize) -> bool {
    let group = (handle - 1) >> ctx.group_shift.get();
    group < GROUPS
        && ctx.groups[group / BITS].get() & (1 << (group % BITS)) != 0
        && ctx.summary.get() & (1 << (group / BITS)) != 0
}

/// The handles of the table in a group.
fn handles_of(ctx: &Context, group: usize) -> Range<usize> {
    let first = (group << ctx.group_shift.get()) + 1;
    first..(first + (1 << ctx.group_shift.get())).min(ctx.handles() + 1)
}

/// Clears the bit of a group.
fn unmark(ctx: &Context, group: usize) {
    let bits = ctx.groups[group / BITS].get() & !(1 << (group % BITS));
    ctx.groups[group / BITS].set(bits);
    if bits == 0 {
        ctx.summary.set(ctx.summary.get() & !(1 << (group / BITS)));
    }
}

/// Returns the lowest free handle of the table, its group, and the handles behind it in the group.
#[inline(always)]
fn lowest_free(ctx: &Context, pool: Pool) -> Option<(usize, usize, Range<usize>)> {
    while ctx.summary.get() != 0 {
        let i = ctx.summary.get().trailing_zeros() as usize;
        let group = i * BITS + ctx.groups[i].get().trailing_zeros() as usize;
        let mut handles = handles_of(ctx, group);
        if handles.is_empty() {
            // This group and all others with a bit are behind the table.
            ctx.groups.iter().for_each(|groups| groups.set(0));
            ctx.summary.set(0);
            break;
        }
        if let Some(handle) = handles.find(|&handle| pool.slot(handle) == 0 && handle != ctx.reserved.get()) {
            debug_assert!(!ctx.can_be_searched() || (1..handle).all(|lower| pool.slot(lower) != 0));
            return Some((handle, group, handles));
        }
        unmark(ctx, group);
    }
    None
}

/// Takes the lowest free handle of the table. Returns None if no handle is free.
fn reserve_free(ctx: &Context, pool: Pool) -> Option<usize> {
    let (handle, group, mut behind) = lowest_free(ctx, pool)?;
    // All handles before it in the group are in use.
    if behind.all(|other| pool.slot(other) != 0) {
        unmark(ctx, group);
    }
    Some(handle)
}

/// Takes the lowest free handle, adding one to the table if necessary. None if there is no word for it.
pub(crate) fn reserve(ctx: &Context) -> Option<usize> {
    let pool = ctx.pool();
    let handle = reserve_free(ctx, pool).or_else(|| {
        let handle = ctx.handles() + 1;
        if ctx.end_space() == 0 || i32::try_from(handle).is_err() {
            return None;
        }
        ctx.set_handles(handle);
        pool.set_slot(handle, 0);
        if (handle - 1) >> ctx.group_shift.get() >= GROUPS {
            // Each bit stands for twice as many handles. The search has cleared them all.
            debug_assert!(ctx.groups.iter().all(|groups| groups.get() == 0));
            ctx.group_shift.set(ctx.group_shift.get() + 1);
        }
        Some(handle)
    })?;
    ctx.reserved.set(handle);
    ctx.first_free_handle.set(ctx.handle_table.get().wrapping_sub(handle));
    Some(handle)
}

/// Whether `reserve` would find a handle.
pub(crate) fn available(ctx: &Context) -> bool {
    lowest_free(ctx, ctx.pool()).is_some() || ctx.end_space() > 0
}

/// Frees a handle. The last one shortens the table by one word. Returns whether it was an inner one: not the last.
pub(crate) fn release(ctx: &Context, handle: usize) -> bool {
    ctx.pool().set_slot(handle, 0);
    let last = ctx.handles();
    let slot = ctx.handle_table.get().wrapping_sub(handle);
    ctx.first_free_handle.set(ctx.first_free_handle.get().max(slot)); // a lower number has a higher address
    if handle == last {
        ctx.set_handles(last - 1);
    } else {
        set_bit(ctx, handle);
    }
    handle != last
}

/// Removes the free handles at the end of the table. Returns whether there were any.
pub(crate) fn trim(ctx: &Context) -> bool {
    let (pool, before) = (ctx.pool(), ctx.handles());
    let mut handles = before;
    while handles > 0 && handles != ctx.reserved.get() && pool.slot(handles) == 0 {
        handles -= 1;
    }
    ctx.set_handles(handles);
    handles < before
}

/// Returns the lowest handle above `handle` that names a block, or 0.
pub(crate) fn next(ctx: &Context, handle: i32) -> i32 {
    let pool = ctx.pool();
    let first = usize::try_from(handle).unwrap_or(0).saturating_add(1);
    let found = (first..=ctx.handles()).find(|&handle| pool.slot(handle) != 0);
    found.map_or(0, |handle| handle as i32)
}

/// The address of a handle's payload, NULL if it is free or outside of the table.
#[inline]
pub(crate) fn data(ctx: &Context, handle: i32) -> *mut u8 {
    let handle = handle as usize;
    if handle.wrapping_sub(1) >= ctx.handles() {
        return core::ptr::null_mut();
    }
    let pool = ctx.pool();
    match pool.slot(handle) {
        0 => core::ptr::null_mut(),
        address => pool.pointer(address),
    }
}

/// Why a pin was not added or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPin {
    /// No block has the handle.
    BadHandle,
    /// The block has as many pins as can be counted.
    TooMany,
    /// The block has no pin.
    NotPinned,
    /// A callback is running.
    InCallback,
    /// The pool is damaged.
    Damaged(Fault),
}

impl From<Fault> for NoPin {
    fn from(fault: Fault) -> Self {
        NoPin::Damaged(fault)
    }
}

/// The block of a handle, if its pins may change.
fn block_to_pin(ctx: &Context, handle: i32) -> core::result::Result<Block, NoPin> {
    if ctx.busy.get() != IDLE {
        return Err(NoPin::InCallback);
    }
    block_of(ctx, ctx.pool(), handle)?.ok_or(NoPin::BadHandle)
}

/// Adds a pin: the block does not move while it has one.
pub(crate) fn pin(ctx: &Context, handle: i32) -> core::result::Result<(), NoPin> {
    let mut block = block_to_pin(ctx, handle)?;
    let pins = block.flags.pins();
    if pins == MAX_PINS {
        return Err(NoPin::TooMany);
    }
    block.set_pins(ctx.pool(), pins + 1);
    if pins == 0 {
        ctx.pinned_blocks.set(ctx.pinned_blocks.get() + 1);
    }
    Ok(())
}

/// Removes a pin.
pub(crate) fn unpin(ctx: &Context, handle: i32) -> core::result::Result<(), NoPin> {
    let mut block = block_to_pin(ctx, handle)?;
    let pins = block.flags.pins().checked_sub(1).ok_or(NoPin::NotPinned)?;
    block.set_pins(ctx.pool(), pins);
    if pins == 0 {
        ctx.pinned_blocks.set(ctx.pinned_blocks.get().saturating_sub(1));
        ctx.changed_at(block.start);
    }
    Ok(())
}

pub(crate) fn pin_count(ctx: &Context, handle: i32) -> Result<usize> {
    Ok(block_of(ctx, ctx.pool(), handle)?.map_or(0, |block| block.flags.pins()))
}

/// The handle whose data starts at `address`, or 0.
pub(crate) fn handle_at(ctx: &Context, address: usize) -> i32 {
    let pool = ctx.pool();
    let payload = pool.index(address);
    if ctx.busy.get() != IDLE || payload < HEADER || payload > ctx.end() {
        return 0;
    }
    let header = tail::name_words(pool.get(payload - 2)).saturating_add(HEADER);
    let slot = payload.checked_sub(header).map_or(0, |start| pool.get(start + SLOT));
    let handle = pool.words.wrapping_sub(pool.index(slot));
    if handle.wrapping_sub(1) < ctx.handles() && pool.slot(handle) == address { handle as i32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_finds_the_lowest_free_handle_at_any_width() {
        const WORDS: usize = 3 * GROUPS;
        let mut memory = vec![0usize; WORDS];
        let ctx = Context::new();
        // SAFETY: the memory outlives the context and nothing else uses it.
        unsafe { ctx.set_pool(memory.as_mut_ptr(), WORDS) };
        let pool = ctx.pool();
        for want in 1..WORDS {
            assert_eq!(reserve(&ctx), Some(want));
            pool.set_slot(want, 1);
        }
        ctx.reserved.set(0);
        let mut free = [7, GROUPS - 1, 1, 2 * GROUPS + 3, 100, BITS + 1];
        for handle in free {
            assert!(release(&ctx, handle));
        }
        free.sort_unstable();
        for handle in free {
            assert_eq!(reserve(&ctx), Some(handle));
            pool.set_slot(handle, 1);
        }
        assert_eq!(reserve(&ctx), Some(WORDS));
        assert_eq!(reserve(&ctx), None, "the table is as long as the pool");
    }
}
