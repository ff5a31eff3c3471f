//! The slot map: which blocks there are. It has one byte for each slot of 32 bytes of the medium. The smallest block is 32 bytes
//! long, so at most one block starts in a slot. The byte says where in the slot that is, and the state of the block.
//!
//! ```text
//!   bit   7      6      5        4 to 0
//!         FREE   USED   RECENT   offset of the block's start in the slot
//!
//!   0                no block starts in the slot
//!   USED             a live block does
//!   USED | RECENT    a free block that is in a stack (recent.rs)
//!   USED | FREE      a free block that is in a set (sets.rs)
//!   RECENT           a reserved block
//! ```
//!
//! The bytes are in zones of 32 KiB of the medium. A zone is allocated when the first block in it is entered.

use std::collections::TryReserveError;

use super::{Bits, MAX_EXACT, State};
use crate::palloc::format::{MIN_BLOCK, OVERHEAD};
use crate::palloc::try_box_with;

/// Bytes of the medium for one byte of the map.
const SLOT: u64 = MIN_BLOCK;
const SLOT_SHIFT: u32 = SLOT.trailing_zeros();

/// Bytes of the medium in a zone: 1 << ZONE_SHIFT.
pub const ZONE_SHIFT: u32 = 15;
const SLOTS: usize = 1 << (ZONE_SHIFT - SLOT_SHIFT);

/// Slots that are read at once.
const GROUP: usize = size_of::<u128>();

/// Bytes of the medium in a granule, of which a zone has 64: 1 << GRANULE_SHIFT.
pub const GRANULE_SHIFT: u32 = ZONE_SHIFT - 6;
const SLOTS_PER_GRANULE: usize = 1 << (GRANULE_SHIFT - SLOT_SHIFT);

const OFFSET_IN_SLOT: u8 = 0x1f;
const RECENT: u8 = 0x20;
const USED: u8 = 0x40;
const FREE: u8 = 0x80;
const XOR_RESERVED: u8 = USED ^ RECENT;

/// The block behind one of an exact size starts at most this many slots behind it.
const NEAR: usize = ((OFFSET_IN_SLOT as u64 + MAX_EXACT + OVERHEAD) / SLOT) as usize;

const _: () = {
    assert!(SLOT.is_power_of_two(), "slots are found by shifts");
    assert!(OFFSET_IN_SLOT as u64 == SLOT - 1, "a byte has room for each offset in a slot");
    assert!(NEAR - 1 == GROUP, "the slots between two near starts are read at once");
    assert!(SLOTS > 2 * NEAR, "a zone has slots whose near ones are all in it");
    assert!(SLOTS_PER_GRANULE == 16, "in_set_in_granule reads two groups of 8 slots");
};

/// The state of a block in the slot map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotState {
    /// The program has the block.
    Live,
    /// The block is free and in a stack of recent ones.
    Recent,
    /// The block is free and in a set.
    InSet,
    /// A transaction has the block.
    Reserved,
}

impl SlotState {
    /// The state of the block for the program.
    pub const fn of_block(self) -> State {
        match self {
            SlotState::Live => State::Live,
            SlotState::Recent | SlotState::InSet => State::Free,
            SlotState::Reserved => State::Reserved,
        }
    }

    const fn byte(self, start: u64) -> u8 {
        let state = match self {
            SlotState::Live => USED,
            SlotState::Recent => USED | RECENT,
            SlotState::InSet => USED | FREE,
            SlotState::Reserved => RECENT,
        };
        state | offset_in_slot(start)
    }
}

/// The slot map.
#[derive(Default)]
pub struct SlotMap {
    /// A boxed slice of one, because only that has a fallible constructor: see `try_box_with`.
    zones: Vec<Option<Box<[[u8; SLOTS]]>>>,
}

const fn offset_in_slot(start: u64) -> u8 {
    start as u8 & OFFSET_IN_SLOT
}

fn slot_of(offset: u64) -> usize {
    (offset >> SLOT_SHIFT) as usize % SLOTS
}

/// The index of the zone that `offset` lies in. An offset that no address space can hold is in a zone that does not exist.
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

impl SlotMap {
    /// Makes room for a block that starts at `start`. Fails iff there is no memory; then nothing changed that can be seen.
    pub fn prepare(&mut self, start: u64) -> Result<(), TryReserveError> {
        let zone = zone_of(start);
        if zone >= self.zones.len() {
            self.zones.try_reserve(zone + 1 - self.zones.len())?;
            self.zones.resize_with(zone + 1, || None);
        }
        if self.zones[zone].is_none() {
            self.zones[zone] = Some(try_box_with(|| [0; SLOTS])?);
        }
        Ok(())
    }

    /// Whether `prepare` succeeded for this start.
    #[inline]
    pub fn is_prepared(&self, start: u64) -> bool {
        self.zone(start).is_some()
    }

    fn zone(&self, offset: u64) -> Option<&[u8; SLOTS]> {
        self.zones.get(zone_of(offset))?.as_ref().map(|one| &one[0])
    }

    fn slot_mut(&mut self, start: u64) -> &mut u8 {
        let zone = self.zones[zone_of(start)].as_mut().expect("`prepare` was called for this start");
        &mut zone[0][slot_of(start)]
    }

    /// The state of the block that starts at `start`, or None if no block does.
    #[inline]
    pub fn get(&self, start: u64) -> Option<SlotState> {
        match self.zone(start)?[slot_of(start)] ^ (USED | offset_in_slot(start)) {
            0 => Some(SlotState::Live),
            RECENT => Some(SlotState::Recent),
            FREE => Some(SlotState::InSet),
            XOR_RESERVED => Some(SlotState::Reserved),
            _ => None,
        }
    }

    /// Whether a block starts at `start`, in any state.
    #[inline]
    pub fn is_start(&self, start: u64) -> bool {
        self.zone(start).is_some_and(|zone| {
            let byte = zone[slot_of(start)];
            byte != 0 && byte & OFFSET_IN_SLOT == offset_in_slot(start)
        })
    }

    /// Whether a live block starts at `start`.
    #[inline]
    pub fn is_live(&self, start: u64) -> bool {
        self.zone(start).is_some_and(|zone| zone[slot_of(start)] == SlotState::Live.byte(start))
    }

    /// Enters the block that starts at `start`, or changes its state. Precondition: `prepare(start)` succeeded before.
    pub fn set(&mut self, start: u64, state: SlotState) {
        *self.slot_mut(start) = state.byte(start);
    }

    /// Removes the block that starts at `start`. Returns whether it was recent. Precondition: there is one.
    pub fn remove(&mut self, start: u64) -> bool {
        debug_assert!(self.get(start).is_some(), "no block starts at {start}");
        std::mem::take(self.slot_mut(start)) & RECENT != 0
    }

    /// The start of the block that starts in the slot of `offset`.
    fn start_in_slot(&self, offset: u64) -> Option<u64> {
        let byte = self.zone(offset)?[slot_of(offset)];
        (byte != 0).then_some((offset >> SLOT_SHIFT << SLOT_SHIFT) + (byte & OFFSET_IN_SLOT) as u64)
    }

    /// The last start in the NEAR slots before that of `end`, or None. A block of an exact size that ends at `end` starts there.
    #[inline]
    pub fn nearest_before(&self, end: u64) -> Option<u64> {
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
    pub fn none_between(&self, start: u64, next: u64) -> bool {
        let slot = slot_of(start) + 1;
        let between = (next >> SLOT_SHIFT) - (start >> SLOT_SHIFT) - 1;
        if slot + NEAR - 1 > SLOTS || between > NEAR as u64 - 1 {
            return (1..=between).all(|i| self.start_in_slot(start + (i << SLOT_SHIFT)).is_none());
        }
        let Some(zone) = self.zone(start) else { return true };
        empty_at_start(&zone[slot..slot + NEAR - 1]) as u64 >= between
    }

    /// A live block at `start` whose neighbours are live and near: its data size, and its slot's byte, to be changed by
    /// [`NearBlock::make_recent`]. Returns None if there is no such block, or if one of the slots looked at is in another zone.
    ///
    /// Reads nothing but bytes of the map that lie side by side.
    #[inline]
    pub fn between_live(&mut self, start: u64) -> Option<NearBlock<'_>> {
        let slot = slot_of(start);
        let zone = self.zones.get_mut(zone_of(start))?.as_mut()?;
        let near = zone[0].get_mut(slot.checked_sub(NEAR)?..slot + 1 + NEAR)?;
        let before = near[NEAR - 1 - empty_at_end(&near[1..NEAR])];
        let empty_behind = empty_at_start(&near[NEAR + 1..2 * NEAR]);
        let behind = near[NEAR + 1 + empty_behind];
        let is_live = |byte: u8| byte & !OFFSET_IN_SLOT == USED;
        if near[NEAR] != SlotState::Live.byte(start) || !is_live(before) || !is_live(behind) {
            return None;
        }
        let slots = (empty_behind as u64 + 1) * SLOT;
        let data_len = slots + (behind & OFFSET_IN_SLOT) as u64 - offset_in_slot(start) as u64 - OVERHEAD;
        Some(NearBlock { data_len, byte: &mut near[NEAR] })
    }

    /// The first start at or behind `from`.
    pub fn next_start(&self, from: u64) -> Option<u64> {
        for (zone, one) in self.zones.iter().enumerate().skip(zone_of(from)) {
            let Some(one) = one else { continue };
            let first_group = if zone == zone_of(from) { slot_of(from) / GROUP } else { 0 };
            for (group, slots) in one[0].chunks_exact(GROUP).enumerate().skip(first_group) {
                if sixteen(slots) == 0 {
                    continue;
                }
                for (slot, &byte) in (GROUP * group..).zip(slots) {
                    let slot_start = granule_start(zone, 0) + ((slot as u64) << SLOT_SHIFT);
                    let start = slot_start + (byte & OFFSET_IN_SLOT) as u64;
                    if byte != 0 && start >= from {
                        return Some(start);
                    }
                }
            }
        }
        None
    }

    /// The last start at or before `offset`.
    pub fn start_at_or_before(&self, offset: u64) -> Option<u64> {
        let last = zone_of(offset);
        for zone in (0..self.zones.len().min(last.saturating_add(1))).rev() {
            let Some(one) = &self.zones[zone] else { continue };
            let last_group = if zone == last { slot_of(offset) / GROUP } else { SLOTS / GROUP - 1 };
            for (group, slots) in one[0].chunks_exact(GROUP).enumerate().take(last_group + 1).rev() {
                if sixteen(slots) == 0 {
                    continue;
                }
                for (i, &byte) in slots.iter().enumerate().rev() {
                    let slot_start = granule_start(zone, 0) + (((GROUP * group + i) as u64) << SLOT_SHIFT);
                    let start = slot_start + (byte & OFFSET_IN_SLOT) as u64;
                    if byte != 0 && start <= offset {
                        return Some(start);
                    }
                }
            }
        }
        None
    }

    /// The free blocks that start in the granule of `offset` and are in a set, by address.
    pub fn in_set_in_granule(&self, offset: u64) -> impl Iterator<Item = u64> + '_ {
        let first_slot = slot_of(offset) / SLOTS_PER_GRANULE * SLOTS_PER_GRANULE;
        let start = granule_start(zone_of(offset), granule_of(offset));
        let slots =
            self.zone(offset).map_or(&[0; SLOTS_PER_GRANULE][..], |zone| &zone[first_slot..][..SLOTS_PER_GRANULE]);
        let free = free_bits(&slots[..8]) | free_bits(&slots[8..]) << 8;
        Bits(free).map(move |slot| start + ((slot as u64) << SLOT_SHIFT) + (slots[slot] & OFFSET_IN_SLOT) as u64)
    }

    /// All blocks by address, with their states. For checks.
    pub fn all(&self) -> impl Iterator<Item = (u64, SlotState)> + '_ {
        std::iter::successors(self.next_start(0), |&start| self.next_start(start + 1))
            .map(|start| (start, self.get(start).expect("next_start returns starts")))
    }
}

/// See [`SlotMap::between_live`].
pub struct NearBlock<'a> {
    /// The size of its data, as far as the next start.
    pub data_len: u64,
    byte: &'a mut u8,
}

impl NearBlock<'_> {
    /// The block is a free one in a stack from now on.
    pub fn make_recent(self) {
        *self.byte |= RECENT;
    }
}

/// How many of these 16 slots, from the first one on, are the start of no block.
fn empty_at_start(slots: &[u8]) -> usize {
    sixteen(slots).trailing_zeros() as usize / 8
}

/// How many of these 16 slots, from the last one back, are the start of no block.
fn empty_at_end(slots: &[u8]) -> usize {
    sixteen(slots).leading_zeros() as usize / 8
}

/// 16 slots as one number, the first in its lowest byte.
fn sixteen(slots: &[u8]) -> u128 {
    u128::from_le_bytes(slots.try_into().expect("16 slots"))
}

/// Bit i is the FREE bit of slot i of these 8.
fn free_bits(slots: &[u8]) -> u64 {
    let bytes = u64::from_le_bytes(slots.try_into().expect("8 slots"));
    // Takes each byte's highest bit and packs them: the product has bit 8 i of the left factor at 56 + i.
    (bytes >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}
