// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slot map: which blocks there are. It has one byte for each slot of 32 bytes of the medium. The smallest block is 32 bytes
//! long, so at most one block starts in a slot. The byte is 0 if none does. Else it is:
//!
//! ```text
//!   bit   7 to 5                          4 to 0
//!         state of the block: SlotState   offset of the block's start in the slot
//! ```
//!
//! The bytes are in zones of 32 KiB of the medium. A zone is allocated when the first block in it is entered.
//!
//! One thread at a time works with the map: the one that has the medium's lock. Threads without the lock may read single bytes
//! meanwhile (see `view.rs`), so bytes are stored by atomic stores.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicU8, Ordering};

use super::zones::Zones;
use super::{Bits, MAX_EXACT, State};
use crate::palloc::format::{Extent, MIN_BLOCK, OVERHEAD, Start};

/// Bytes of the medium for one byte of the map.
const SLOT: u64 = MIN_BLOCK;
const SLOT_SHIFT: u32 = SLOT.trailing_zeros();

/// Bytes of the medium in a zone: 1 << ZONE_SHIFT.
pub const ZONE_SHIFT: u32 = 15;
pub const SLOTS: usize = 1 << (ZONE_SHIFT - SLOT_SHIFT);

/// Slots that are read at once.
const GROUP: usize = size_of::<u128>();

/// Bytes of the medium in a granule, of which a zone has 64: 1 << GRANULE_SHIFT.
pub const GRANULE_SHIFT: u32 = ZONE_SHIFT - 6;
const SLOTS_PER_GRANULE: usize = 1 << (GRANULE_SHIFT - SLOT_SHIFT);

const OFFSET_IN_SLOT: u8 = 0x1f;
const STATE: u8 = !OFFSET_IN_SLOT;

/// The block behind one of an exact size starts at most this many slots behind it.
const NEAR: usize = ((OFFSET_IN_SLOT as u64 + MAX_EXACT + OVERHEAD) / SLOT) as usize;

const _: () = {
    assert!(SLOT.is_power_of_two(), "slots are found by shifts");
    assert!(OFFSET_IN_SLOT as u64 == SLOT - 1, "a byte has room for each offset in a slot");
    assert!(NEAR - 1 == GROUP, "the slots between two near starts are read at once");
    assert!(SLOTS > 2 * NEAR, "a zone has slots whose near ones are all in it");
    assert!(SLOTS_PER_GRANULE == 16, "in_set_in_granule reads two groups of 8 slots");
};

/// The state of a block in the slot map: the bits of STATE in its slot's byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SlotState {
    /// Nobody may allocate the block, as in [`super::State::Reserved`].
    Reserved = 1 << 5,
    /// The program has the block, or a thread keeps it.
    Live = 2 << 5,
    /// The block is free and in a stack of recent ones.
    Recent = 3 << 5,
    /// Nobody may allocate the block yet, as in [`super::State::Held`].
    Held = 4 << 5,
    /// The block is free and in a set. The only state with both of the highest bits: `in_set_bits` looks for these.
    InSet = 6 << 5,
}

const RESERVED: u8 = SlotState::Reserved as u8;
const LIVE: u8 = SlotState::Live as u8;
const RECENT: u8 = SlotState::Recent as u8;
const HELD: u8 = SlotState::Held as u8;
const IN_SET: u8 = SlotState::InSet as u8;

const _: () = {
    assert!((RESERVED | LIVE | RECENT | HELD | IN_SET) & OFFSET_IN_SLOT == 0, "a state leaves room for the offset");
    assert!(IN_SET >> 6 == 3, "in_set_bits finds the blocks in sets,");
    assert!(RESERVED >> 6 != 3 && LIVE >> 6 != 3 && RECENT >> 6 != 3 && HELD >> 6 != 3, "and no others");
};

impl SlotState {
    /// The state of the block for the program.
    pub const fn of_block(self) -> State {
        match self {
            SlotState::Live => State::Live,
            SlotState::Recent | SlotState::InSet => State::Free,
            SlotState::Reserved => State::Reserved,
            SlotState::Held => State::Held,
        }
    }

    /// The byte of the slot in which a block with this state starts.
    const fn byte(self, start: Start) -> u8 {
        self as u8 | offset_in_slot(start)
    }
}

/// The bytes of one zone.
pub type Zone = [AtomicU8; SLOTS];

/// The slot map.
#[derive(Default)]
pub struct SlotMap {
    zones: Zones,
}

const fn offset_in_slot(start: Start) -> u8 {
    start.offset() as u8 & OFFSET_IN_SLOT
}

fn slot_of(offset: u64) -> usize {
    (offset >> SLOT_SHIFT) as usize % SLOTS
}

/// The index of the zone that `offset` lies in. An offset beyond the address space gets the highest number, which no zone has.
pub fn zone_of(offset: u64) -> usize {
    usize::try_from(offset >> ZONE_SHIFT).unwrap_or(usize::MAX)
}

/// The granule of its zone that `offset` lies in.
pub fn granule_of(offset: u64) -> usize {
    slot_of(offset) / SLOTS_PER_GRANULE
}

/// The offset of a granule's first byte.
pub fn granule_start(zone: usize, granule: usize) -> u64 {
    ((zone as u64) << ZONE_SHIFT) + ((granule as u64) << GRANULE_SHIFT)
}

/// The offset of a slot's first byte.
fn slot_start(zone: usize, slot: usize) -> u64 {
    ((zone as u64) << ZONE_SHIFT) + ((slot as u64) << SLOT_SHIFT)
}

impl SlotMap {
    /// Makes room for a block that starts at `start`. Fails iff there is no memory; then nothing changed that can be seen.
    pub fn prepare(&mut self, start: Start) -> Result<(), TryReserveError> {
        self.zones.prepare(zone_of(start.offset()))
    }

    /// The zones, for threads without the lock.
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Whether `prepare` succeeded for this start.
    #[inline]
    pub fn is_prepared(&self, start: Start) -> bool {
        self.zone(start.offset()).is_some()
    }

    fn zone(&self, offset: u64) -> Option<&Zone> {
        self.zones.get(zone_of(offset))
    }

    fn byte(&self, offset: u64) -> Option<u8> {
        Some(self.zone(offset)?[slot_of(offset)].load(Ordering::Relaxed))
    }

    fn put(&mut self, start: Start, byte: u8) {
        let zone = self.zone(start.offset()).expect("`prepare` was called for this start");
        zone[slot_of(start.offset())].store(byte, Ordering::Relaxed);
    }

    /// The state of the block that starts at `start`, or None if no block does.
    #[inline]
    pub fn get(&self, start: Start) -> Option<SlotState> {
        state_at(start, self.byte(start.offset())?)
    }

    /// Whether a block starts at `start`, in any state.
    #[inline]
    pub fn is_start(&self, start: Start) -> bool {
        self.byte(start.offset()).is_some_and(|byte| is_start(start, byte))
    }

    /// Whether a live block starts at `start`.
    #[inline]
    pub fn is_live(&self, start: Start) -> bool {
        self.byte(start.offset()) == Some(SlotState::Live.byte(start))
    }

    /// Enters the block that starts at `start`, or changes its state. Precondition: `prepare(start)` succeeded before.
    pub fn set(&mut self, start: Start, state: SlotState) {
        self.put(start, state.byte(start));
    }

    /// Removes the block that starts at `start`. Returns whether it was recent. Precondition: there is one.
    pub fn remove(&mut self, start: Start) -> bool {
        debug_assert!(self.get(start).is_some(), "no block starts at {start:?}");
        let byte = self.byte(start.offset()).unwrap_or(0);
        self.put(start, 0);
        byte & STATE == RECENT
    }

    /// The start of the block that starts in the slot of `offset`.
    fn start_in_slot(&self, offset: u64) -> Option<Start> {
        start_of_byte(offset >> SLOT_SHIFT << SLOT_SHIFT, self.byte(offset)?)
    }

    /// The last start in the NEAR slots before that of `next`, or None. A block of an exact size that ends at `next` starts there.
    #[inline]
    pub fn nearest_before(&self, next: Start) -> Option<Start> {
        let end = next.offset();
        let slot = slot_of(end);
        if slot < NEAR {
            return (1..=NEAR as u64).find_map(|i| self.start_in_slot(end.checked_sub(i << SLOT_SHIFT)?));
        }
        let near = &self.zone(end)?[slot - NEAR..slot];
        let back = empty_at_end(&near[1..]);
        self.start_in_slot(end - ((1 + back as u64) << SLOT_SHIFT))
    }

    /// Whether no block starts in the slots between those of `start` and `next`. Precondition: `next` is at most NEAR slots behind.
    #[inline]
    pub fn none_between(&self, start: Start, next: Start) -> bool {
        let (start, next) = (start.offset(), next.offset());
        let slot = slot_of(start) + 1;
        let between = (next >> SLOT_SHIFT) - (start >> SLOT_SHIFT) - 1;
        if slot + NEAR - 1 > SLOTS || between > NEAR as u64 - 1 {
            return (1..=between).all(|i| self.start_in_slot(start + (i << SLOT_SHIFT)).is_none());
        }
        let Some(zone) = self.zone(start) else { return true };
        empty_at_start(&zone[slot..slot + NEAR - 1]) as u64 >= between
    }

    /// A live block at `start` whose neighbours are live and near: its data size, and its slot's byte, to be changed by
    /// [`NearBlock::set`]. Returns None if there is no such block, or if one of the slots looked at is in another zone.
    ///
    /// Reads only bytes of the map that lie side by side.
    #[inline]
    pub fn between_live(&mut self, start: Start) -> Option<NearBlock<'_>> {
        let slot = slot_of(start.offset());
        let near = self.zone(start.offset())?.get(slot.checked_sub(NEAR)?..slot + 1 + NEAR)?;
        let byte = |i: usize| near[i].load(Ordering::Relaxed);
        let before = byte(NEAR - 1 - empty_at_end(&near[1..NEAR]));
        let empty_behind = empty_at_start(&near[NEAR + 1..2 * NEAR]);
        let behind = byte(NEAR + 1 + empty_behind);
        let is_live = |byte: u8| byte & STATE == LIVE;
        if byte(NEAR) != SlotState::Live.byte(start) || !is_live(before) || !is_live(behind) {
            return None;
        }
        Some(NearBlock { data_len: data_len_to(start, empty_behind, behind), byte: &near[NEAR] })
    }

    /// A live block at `start` behind which another block starts near. Returns None if there is no such block, or if one of the slots
    /// looked at is in another zone.
    #[inline]
    pub fn near_live(&mut self, start: Start) -> Option<NearBlock<'_>> {
        let slot = slot_of(start.offset());
        let near = self.zone(start.offset())?.get(slot..slot + 1 + NEAR)?;
        let empty_behind = empty_at_start(&near[1..NEAR]);
        let behind = near[1 + empty_behind].load(Ordering::Relaxed);
        if near[0].load(Ordering::Relaxed) != SlotState::Live.byte(start) || behind == 0 {
            return None;
        }
        Some(NearBlock { data_len: data_len_to(start, empty_behind, behind), byte: &near[0] })
    }

    /// The first start at or behind `from`.
    pub fn next_start(&self, from: u64) -> Option<Start> {
        for zone in zone_of(from)..self.zones.len() {
            let Some(one) = self.zones.get(zone) else { continue };
            let first_group = if zone == zone_of(from) { slot_of(from) / GROUP } else { 0 };
            for (group, slots) in one.chunks_exact(GROUP).enumerate().skip(first_group) {
                if sixteen(slots) == 0 {
                    continue;
                }
                for (slot, byte) in (GROUP * group..).zip(slots) {
                    let start = start_of_byte(slot_start(zone, slot), byte.load(Ordering::Relaxed));
                    if start.is_some_and(|start| start.offset() >= from) {
                        return start;
                    }
                }
            }
        }
        None
    }

    /// The last start at or before `offset`.
    pub fn start_at_or_before(&self, offset: u64) -> Option<Start> {
        let last = zone_of(offset);
        for zone in (0..self.zones.len().min(last.saturating_add(1))).rev() {
            let Some(one) = self.zones.get(zone) else { continue };
            let last_group = if zone == last { slot_of(offset) / GROUP } else { SLOTS / GROUP - 1 };
            for (group, slots) in one.chunks_exact(GROUP).enumerate().take(last_group + 1).rev() {
                if sixteen(slots) == 0 {
                    continue;
                }
                for (i, byte) in slots.iter().enumerate().rev() {
                    let start = start_of_byte(slot_start(zone, GROUP * group + i), byte.load(Ordering::Relaxed));
                    if start.is_some_and(|start| start.offset() <= offset) {
                        return start;
                    }
                }
            }
        }
        None
    }

    /// The free blocks that start in the granule of `offset` and are in a set, by address.
    pub fn in_set_in_granule(&self, offset: u64) -> impl Iterator<Item = Start> + '_ {
        let first_slot = slot_of(offset) / SLOTS_PER_GRANULE * SLOTS_PER_GRANULE;
        let start = granule_start(zone_of(offset), granule_of(offset));
        let slots = self.zone(offset).map(|zone| &zone[first_slot..][..SLOTS_PER_GRANULE]);
        let free = slots.map_or(0, |slots| in_set_bits(&slots[..8]) | in_set_bits(&slots[8..]) << 8);
        Bits(free).map(move |slot| {
            let byte = slots.map_or(0, |slots| slots[slot].load(Ordering::Relaxed));
            Start::at(start + ((slot as u64) << SLOT_SHIFT) + (byte & OFFSET_IN_SLOT) as u64)
        })
    }

    /// All blocks by address, with their states. For checks.
    pub fn all(&self) -> impl Iterator<Item = (Start, SlotState)> + '_ {
        std::iter::successors(self.next_start(0), |&start| self.next_start(start.blob()))
            .map(|start| (start, self.get(start).expect("next_start returns starts")))
    }
}

/// The data size of a block at `start` that ends where the next one starts: in the slot behind so many empty ones, which has this byte.
#[inline(always)]
fn data_len_to(start: Start, empty_slots: usize, behind: u8) -> u64 {
    (empty_slots as u64 + 1) * SLOT + (behind & OFFSET_IN_SLOT) as u64 - offset_in_slot(start) as u64 - OVERHEAD
}

/// See [`SlotMap::between_live`].
pub struct NearBlock<'a> {
    /// The size of its data, as far as the next start.
    pub data_len: u64,
    byte: &'a AtomicU8,
}

impl NearBlock<'_> {
    /// Changes the state of the block, which was live.
    pub fn set(self, state: SlotState) {
        self.byte.store(self.byte.load(Ordering::Relaxed) ^ LIVE ^ state as u8, Ordering::Relaxed);
    }
}

/// Queries of one zone for threads without the lock. Each byte is read by itself.
pub mod unlocked {
    use super::*;

    /// Whether a live block starts at `start`.
    #[inline]
    pub fn is_live(zone: &Zone, start: Start) -> bool {
        zone[slot_of(start.offset())].load(Ordering::Relaxed) == SlotState::Live.byte(start)
    }

    /// Whether a block starts at `start`, in any state.
    #[inline]
    pub fn is_start(zone: &Zone, start: Start) -> bool {
        super::is_start(start, zone[slot_of(start.offset())].load(Ordering::Relaxed))
    }

    /// The live block at `start`, as far as the next start, if that is near and in this zone.
    #[inline]
    pub fn near_live(zone: &Zone, start: Start) -> Option<Extent> {
        let slot = slot_of(start.offset());
        let behind = zone.get(slot + 1..slot + 1 + NEAR)?;
        if !is_live(zone, start) {
            return None;
        }
        let mut starts = 0_u32;
        for (i, byte) in behind.iter().enumerate() {
            starts |= u32::from(byte.load(Ordering::Relaxed) != 0) << i;
        }
        let empty = starts.trailing_zeros() as usize;
        let next_slot = (start.offset() & !(OFFSET_IN_SLOT as u64)) + (1 + empty as u64) * SLOT;
        let next = next_slot + (behind.get(empty)?.load(Ordering::Relaxed) & OFFSET_IN_SLOT) as u64;
        let data_len = next.checked_sub(start.offset() + OVERHEAD)?;
        Some(Extent { start, data_len })
    }

    /// Whether no block starts in the slots between those of `start` and `next`. False too if `next` is in another zone.
    #[inline]
    pub fn none_between(zone: &Zone, start: Start, next: Start) -> bool {
        let (start, next) = (start.offset(), next.offset());
        zone_of(start) == zone_of(next)
            && zone[slot_of(start) + 1..slot_of(next)].iter().all(|byte| byte.load(Ordering::Relaxed) == 0)
    }

    /// The start of the last block that starts at or before `offset`, if it is live, in this zone and at most NEAR slots away.
    #[inline]
    pub fn near_live_at_or_before(zone: &Zone, offset: u64) -> Option<Start> {
        let slots_start = offset >> SLOT_SHIFT << SLOT_SHIFT;
        for back in 0..=NEAR.min(slot_of(offset)) {
            let byte = zone[slot_of(offset) - back].load(Ordering::Relaxed);
            let start = start_of_byte(slots_start - ((back as u64) << SLOT_SHIFT), byte);
            if start.is_some_and(|start| start.offset() <= offset) {
                return start.filter(|&start| is_live(zone, start));
            }
        }
        None
    }

    /// The start of the first live block behind that of `start`, if it is in this zone and at most NEAR slots away, and only free blocks
    /// are between.
    #[inline]
    pub fn near_live_behind(zone: &Zone, start: Start) -> Option<Start> {
        let zone_start = start.offset() >> ZONE_SHIFT << ZONE_SHIFT;
        let first = slot_of(start.offset()) + 1;
        for (slot, byte) in (first..SLOTS.min(first + NEAR)).zip(&zone[first..]) {
            let byte = byte.load(Ordering::Relaxed);
            match byte & STATE {
                LIVE => return start_of_byte(zone_start + ((slot as u64) << SLOT_SHIFT), byte),
                RESERVED | HELD => return None,
                _ => {}
            }
        }
        None
    }
}

/// The start of the block that starts in a slot, by the slot's first offset and its byte.
#[inline]
fn start_of_byte(slot_start: u64, byte: u8) -> Option<Start> {
    (byte != 0).then_some(Start::at(slot_start + (byte & OFFSET_IN_SLOT) as u64))
}

/// The state of the block that starts at `start`, if the byte of its slot says that one does.
#[inline]
fn state_at(start: Start, byte: u8) -> Option<SlotState> {
    match byte ^ offset_in_slot(start) {
        RESERVED => Some(SlotState::Reserved),
        LIVE => Some(SlotState::Live),
        RECENT => Some(SlotState::Recent),
        HELD => Some(SlotState::Held),
        IN_SET => Some(SlotState::InSet),
        _ => None, // no block, or one at another offset
    }
}

/// Whether the byte of its slot says that a block starts at `start`.
#[inline]
fn is_start(start: Start, byte: u8) -> bool {
    byte != 0 && byte & OFFSET_IN_SLOT == offset_in_slot(start)
}

/// How many of these 16 slots, from the first one on, are the start of no block.
fn empty_at_start(slots: &[AtomicU8]) -> usize {
    sixteen(slots).trailing_zeros() as usize / 8
}

/// How many of these 16 slots, from the last one back, are the start of no block.
fn empty_at_end(slots: &[AtomicU8]) -> usize {
    sixteen(slots).leading_zeros() as usize / 8
}

/// 16 slots as one number, the first in its lowest byte.
fn sixteen(slots: &[AtomicU8]) -> u128 {
    u128::from_le_bytes(bytes(slots))
}

/// Bit i is set iff the block in slot i of these 8 is in a set.
fn in_set_bits(slots: &[AtomicU8]) -> u64 {
    let bytes = u64::from_le_bytes(bytes(slots));
    let bytes = bytes & bytes << 1; // each byte's highest bit and the one beside it; from the byte below comes a lowest bit only
    // Takes each byte's highest bit and packs them: the product has bit 8 i of the left factor at 56 + i.
    (bytes >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// The slots' bytes, read at once.
fn bytes<const N: usize>(slots: &[AtomicU8]) -> [u8; N] {
    assert!(slots.len() == N);
    // SAFETY: N bytes of a slice. They are not stored to meanwhile: this thread has the lock, and the others only read.
    unsafe { slots.as_ptr().cast::<[u8; N]>().read() }
}
