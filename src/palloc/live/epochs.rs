// SPDX-License-Identifier: MIT OR Apache-2.0
//! How readers in other processes pin what they may read: the protocol of epochs and slots. Without files and mappings, so that a model
//! checker can run it.
//!
//! The writer counts epochs. A block that it frees is held from that epoch on. A reader has a slot, which is 0, or the epoch in which its
//! read section began, with a count of the sections of its process that are open:
//!
//! ```text
//!   reader   e = epoch; slot = e;       fence;  read the root, follow it; ...               slot = 0
//!   writer   unlink; free: held in e;   epoch = e + 1;  fence;  look at all slots: reuse what was held before the oldest of them
//! ```
//!
//! Why nothing is reused that a reader may reach. Of the two fences one is first. If it is the reader's, the writer sees the slot: a block
//! that the reader can reach was not unlinked before it read `e`, so it is held in `e` or later, and stays. If it is the writer's, the
//! reader sees each unlinking before that: it can't reach what the writer reuses after this look. A slot that is older than need be holds
//! back more, and does no harm; so a section which begins while others of its process are open shares their epoch.
//!
//! `epoch` is 0 once the writer has closed. A section that begins looks again after its fence, so whoever stored 0 and then looks at the
//! slots, behind a fence, sees all that are still open. A new writer does that before it changes anything.

use crate::palloc::sabotage::{Rule, is_broken};
use crate::palloc::sync::{AtomicU64, Ordering, fence};

/// The bits of a slot that count sections. The epoch is above them.
const COUNT_BITS: u32 = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// The epoch of a file whose writer has closed, or has not begun yet.
pub const CLOSED: u64 = 0;
/// The first epoch.
pub const FIRST: u64 = 1;
/// Above every epoch.
pub const NEVER: u64 = u64::MAX;

/// The reason why a section can't begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The writer has closed.
    Closed,
    /// The process has too many sections open.
    TooMany,
}

/// Begins a read section.
#[inline]
pub fn enter(epoch: &AtomicU64, slot: &AtomicU64) -> Result<(), Refused> {
    let mut before = slot.load(Ordering::Relaxed);
    loop {
        let after = if before & COUNT == 0 {
            match epoch.load(Ordering::Acquire) {
                CLOSED => return Err(Refused::Closed),
                now => now << COUNT_BITS | 1,
            }
        } else if before & COUNT == COUNT {
            return Err(Refused::TooMany);
        } else {
            before + 1
        };
        // Release: a writer that sees this slot, and not the section before it any more, has the reads of that section behind it.
        match slot.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => break,
            Err(now) => before = now,
        }
    }
    if !is_broken(Rule::PinFence) {
        fence(Ordering::SeqCst);
    }
    if epoch.load(Ordering::Acquire) == CLOSED && !is_broken(Rule::PinRecheck) {
        leave(slot);
        return Err(Refused::Closed);
    }
    Ok(())
}

/// Ends a read section. Precondition: one is open.
#[inline]
pub fn leave(slot: &AtomicU64) {
    let mut before = slot.load(Ordering::Relaxed);
    loop {
        let after = if before & COUNT <= 1 { 0 } else { before - 1 };
        match slot.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => before = now,
        }
    }
}

/// Whether a section is open.
#[inline]
pub fn is_open(slot: &AtomicU64) -> bool {
    slot.load(Ordering::Relaxed) & COUNT != 0
}

/// The epoch that a slot pins, None if no section is open.
pub fn pinned(slot: &AtomicU64) -> Option<u64> {
    let word = slot.load(Ordering::Acquire);
    (word & COUNT != 0).then_some(word >> COUNT_BITS)
}

/// Begins an epoch, or closes, and then looks at the slots: it sees all sections that can reach a block which was unlinked before this call.
/// Returns the oldest epoch that is pinned, as `oldest`.
pub fn next<'a>(
    epoch: &AtomicU64,
    to: u64,
    slots: impl Iterator<Item = &'a AtomicU64>,
    is_gone: impl FnMut(usize, u64) -> bool,
) -> u64 {
    if is_broken(Rule::EpochBeforeScan) {
        let oldest = oldest(slots, is_gone);
        epoch.store(to, Ordering::Release);
        return oldest;
    }
    epoch.store(to, Ordering::Release);
    if !is_broken(Rule::ReclaimFence) {
        fence(Ordering::SeqCst);
    }
    oldest(slots, is_gone)
}

/// The oldest epoch that is pinned, NEVER if no epoch is. `is_gone` says of a slot whether its process has ended; it clears it then.
fn oldest<'a>(slots: impl Iterator<Item = &'a AtomicU64>, mut is_gone: impl FnMut(usize, u64) -> bool) -> u64 {
    let mut oldest = NEVER;
    for (place, slot) in slots.enumerate() {
        if let Some(epoch) = pinned(slot).filter(|&epoch| epoch < oldest) {
            if !is_gone(place, epoch) {
                oldest = epoch;
            }
        }
    }
    oldest
}
