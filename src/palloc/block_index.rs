// SPDX-License-Identifier: MIT OR Apache-2.0
//! The index of all blocks, and of the free ones. It is in memory only. A walk over the medium makes it when it is opened.
//!
//! * `slots` is the slot map: where each block starts, and whether it is live, recent or in a set.
//! * `recent` has the free blocks of exact sizes that were freed last.
//! * `sets` has all other free blocks, in one set for each exact size and one for the others; `trees` find the lowest that fit.
//!
//! An exact size is a multiple of 16 bytes up to 512. Sizes are not kept here but in the markers; the functions read them through
//! `data_len_of`.
//!
//! A search takes the smallest exact size that fits: the block of that size that was freed last, else the lowest one. If there is no
//! such block, it takes the smallest of the four lowest others that fit. Of its cost only the height of the trees grows with the medium;
//! in each of at most four zones of 32 KiB it looks at the free blocks that start there.
//!
//! The index takes about 1/25 of the medium's length. Only `prepare` allocates memory. It is called before a block is made at a start
//! in a zone that had none before, so freeing a block never fails for want of memory.

mod recent;
mod sets;
mod slots;
mod stack;
mod trees;
mod zones;

use std::collections::TryReserveError;

pub use self::recent::RecentBlocks;
use self::sets::FreeSets;
use self::slots::{SlotMap, SlotState, granule_start};
pub use self::slots::{Zone, unlocked, zone_of};
pub use self::stack::Stack;
pub use self::zones::{KnownZones, Zones};
use super::format::{Extent, MIN_DATA, Request, STEP, Start};

/// How many exact sizes there are. A class is the number of one of them: class c has STEP * (c + 1) bytes of data.
pub const CLASSES: usize = 32;
/// The largest exact size.
pub const MAX_EXACT: u64 = CLASSES as u64 * STEP;

const _: () = {
    assert!(MIN_DATA == STEP, "class 0 is the smallest size that there is");
    assert!(STEP.is_power_of_two(), "a size is divided by a rotation");
    assert!(
        CLASSES == u32::BITS as usize,
        "a bit for each class; shifted beyond the last one, none is left and there is no stack"
    );
};

/// The class of an exact size, None for all other sizes.
#[inline]
pub fn class_of(data_len: u64) -> Option<usize> {
    // The rotation divides by STEP. A remainder gets to the highest bits, so the result is then no class.
    let class = data_len.rotate_right(STEP.trailing_zeros()).wrapping_sub(1);
    (class < CLASSES as u64).then_some(class as usize)
}

/// The size of a class.
pub fn data_len_of_class(class: usize) -> u64 {
    (class as u64 + 1) * STEP
}

/// The state of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The block holds a blob, or a thread keeps it.
    Live,
    /// The block is free. Its end marker says so too, unless it is a recent block: then it says live, as `alloc_recent` allocates it by
    /// the store of its start marker alone. It gets that of a free block when it is joined, and by `settle`.
    Free,
    /// Nobody may allocate the block: a region, a log, or a block in quarantine or spent. Its marker may say live or free.
    Reserved,
    /// The block is free, and its marker says so, but nobody may allocate it yet, and its data and end marker stay as they are: a
    /// live reader may read it. It is joined with no neighbour. Searches do not find it.
    Held,
}

/// The index. The heap keeps it in step with the medium.
pub struct BlockIndex {
    slots: SlotMap,
    recent: RecentBlocks,
    sets: FreeSets,
    /// A free block, NOWHERE if there is no such block. The lowest as long as no block was removed since `settle`.
    first_free: Start,
}

impl BlockIndex {
    /// An empty index.
    pub fn new() -> BlockIndex {
        let (slots, recent, sets) = (SlotMap::default(), RecentBlocks::default(), FreeSets::new());
        BlockIndex { slots, recent, sets, first_free: Start::NOWHERE }
    }

    /// Makes room for a block that starts at `start`. Fails iff there is no memory; then nothing changed that can be seen.
    #[inline]
    pub fn prepare(&mut self, start: Start) -> Result<(), TryReserveError> {
        if self.slots.is_prepared(start) { Ok(()) } else { self.prepare_zone(start) }
    }

    /// As `prepare`, for all blocks that start at `first`, at `last` or between them.
    pub fn prepare_between(&mut self, first: Start, last: Start) -> Result<(), TryReserveError> {
        let inner = zone_of(first.offset()) + 1..=zone_of(last.offset());
        self.prepare(first)?;
        inner.map(|zone| Start::at(granule_start(zone, 0))).try_for_each(|start| self.prepare(start))
    }

    #[cold]
    fn prepare_zone(&mut self, start: Start) -> Result<(), TryReserveError> {
        self.recent.prepare()?;
        self.sets.prepare(start)?;
        self.slots.prepare(start) // the last one: `prepare` asks only the slot map
    }

    /// The zones of the slot map, for threads without the lock.
    pub fn zones(&self) -> &Zones {
        self.slots.zones()
    }

    /// The state of the block that starts at `start`. Returns None if no block starts there.
    #[inline]
    pub fn state(&self, start: Start) -> Option<State> {
        self.slots.get(start).map(SlotState::of_block)
    }

    /// Whether a block starts at `start`, in any state.
    #[inline]
    pub fn is_start(&self, start: Start) -> bool {
        self.slots.is_start(start)
    }

    /// Whether a live block starts at `start`.
    #[inline]
    pub fn is_live(&self, start: Start) -> bool {
        self.slots.is_live(start)
    }

    /// The last start before `next`, of any block. Returns None if it is farther away than that of a block of an exact size which ends
    /// at `next`.
    #[inline]
    pub fn nearest_start_before(&self, next: Start) -> Option<Start> {
        self.slots.nearest_before(next)
    }

    /// Whether no block starts between `start` and `next`. Precondition: a block of an exact size at `start` can end at `next`.
    #[inline]
    pub fn is_next(&self, start: Start, next: Start) -> bool {
        self.slots.none_between(start, next)
    }

    /// Enters a live block. Precondition: `prepare(start)` succeeded before.
    pub fn put_live(&mut self, start: Start) {
        self.slots.set(start, SlotState::Live);
    }

    /// Enters a reserved block. Precondition: `prepare(start)` succeeded before.
    pub fn put_reserved(&mut self, start: Start) {
        self.slots.set(start, SlotState::Reserved);
    }

    /// Enters a held block, or makes the live one at `start` one. Precondition: as of `put_live`.
    pub fn put_held(&mut self, start: Start) {
        self.slots.set(start, SlotState::Held);
    }

    /// Removes the live, reserved or held block at `start`.
    pub fn remove_used(&mut self, start: Start) {
        debug_assert!(matches!(self.state(start), Some(State::Live | State::Reserved | State::Held)));
        self.slots.remove(start);
    }

    /// Enters a free block as recent. Returns false, and changes nothing, if its size is not exact or the stack of its size is full.
    /// Precondition: `prepare` succeeded for its start.
    pub fn add_recent(&mut self, block: Extent) -> bool {
        let pushed = self.recent.push(block);
        if pushed {
            self.slots.set(block.start, SlotState::Recent);
            self.lower_first_free(block.start);
        }
        pushed
    }

    /// Fast path of freeing: makes the live block at `start` a recent one if it has an exact size and both its neighbours are live
    /// and start near. Returns its data size. Returns None, unchanged, in all other cases, and if `confirm` says that the block's
    /// marker does not have that size.
    #[inline]
    pub fn free_between_live(&mut self, start: Start, confirm: impl FnOnce(u64) -> bool) -> Option<u64> {
        let block = self.slots.between_live(start)?;
        let data_len = block.data_len;
        if confirm(data_len) && self.recent.push(Extent { start, data_len }) {
            block.set(SlotState::Recent);
            self.lower_first_free(start);
            Some(data_len)
        } else {
            None
        }
    }

    /// Makes the live block at `start` a held one if it has an exact size and the next block starts near. Returns its data size. Returns
    /// None, unchanged, in all other cases, and if `confirm` says that the block's marker does not have that size.
    #[inline]
    pub fn hold_exact(&mut self, start: Start, confirm: impl FnOnce(u64) -> bool) -> Option<u64> {
        let block = self.slots.near_live(start)?;
        let data_len = block.data_len;
        let is_held = class_of(data_len).is_some() && confirm(data_len);
        if is_held {
            block.set(SlotState::Held);
        }
        is_held.then_some(data_len)
    }

    /// The exact sizes that there are free blocks of, a bit for each class.
    #[inline]
    pub fn exact_classes(&self) -> u32 {
        self.recent.non_empty() | self.sets.non_empty()
    }

    /// The block that [`BlockIndex::find`] would return for `data_len` bytes, an exact size, if that is a recent one with at most `most`
    /// bytes.
    #[inline]
    pub fn recent(&self, data_len: u64, most: u64) -> Option<Extent> {
        debug_assert!(class_of(data_len).is_some());
        let class = (data_len / STEP) as usize - 1;
        let class = class + (self.exact_classes() >> class).trailing_zeros() as usize;
        let data_len = data_len_of_class(class);
        let start = self.recent.top(class).filter(|_| data_len <= most)?;
        Some(Extent { start, data_len })
    }

    /// Makes the block that [`BlockIndex::recent`] returned a live one.
    #[inline]
    pub fn take_recent(&mut self, block: Extent) {
        self.recent.pop(block);
        self.put_live(block.start);
        self.renew_first_free(block.start);
    }

    /// Enters a free block into its set. Precondition: `prepare` succeeded for its start.
    pub fn add_free(&mut self, block: Extent) {
        self.slots.set(block.start, SlotState::InSet);
        self.sets.add(block);
        self.lower_first_free(block.start);
    }

    /// Makes the free block `old` the longer one `new`, which starts where it does. Returns false, and changes nothing, if one of them has
    /// an exact size.
    pub fn grow_free(&mut self, old: Extent, new: Extent) -> bool {
        debug_assert!(old.start == new.start && old.data_len < new.data_len);
        let is_other = class_of(old.data_len).is_none() && class_of(new.data_len).is_none();
        if is_other {
            self.sets.add(new); // the word has the bit already
        }
        is_other
    }

    /// Removes a free block, recent or not. Precondition: it was entered with this size. (Of a recent block the size may be another one,
    /// read from a marker that the program overwrote.)
    pub fn remove_free(&mut self, block: Extent, data_len_of: impl Fn(Start) -> u64) {
        if self.slots.remove(block.start) {
            self.recent.remove(block.start, block.data_len);
        } else {
            self.sets.remove(block, &self.slots, data_len_of);
        }
        self.renew_first_free(block.start);
    }

    /// The block at `start` is free from now on.
    #[inline]
    fn lower_first_free(&mut self, start: Start) {
        self.first_free = self.first_free.min(start);
    }

    /// The block at `start` is not free any more.
    #[inline]
    fn renew_first_free(&mut self, start: Start) {
        if self.first_free == start {
            self.first_free = self.any_free().unwrap_or(Start::NOWHERE);
        }
    }

    /// Moves all recent blocks to the sets, where they are found by address. Calls `each` for every one of them.
    pub fn settle(&mut self, mut each: impl FnMut(Extent)) {
        while let Some(block) = self.recent.pop_any() {
            self.add_free(block);
            each(block);
        }
        let lowest = self.free_from(0).next();
        self.first_free = lowest.unwrap_or(Start::NOWHERE);
    }

    /// Finds a free block for a request: the smallest exact size of at least `data_len` bytes, else the smallest of the four lowest other
    /// blocks of at least `least` bytes. Returns None if there is no such block.
    ///
    /// Fails iff a marker has another size than the index knows. The error is the offset of a block at or before it, in its zone.
    pub fn find(&self, request: Request, data_len_of: impl Fn(Start) -> u64) -> Result<Option<Extent>, u64> {
        let first_class = (request.data_len.div_ceil(STEP) - 1).min(CLASSES as u64) as u32;
        let classes = self.exact_classes().checked_shr(first_class).unwrap_or(0);
        if classes == 0 {
            return self.sets.best_other(request.least, &self.slots, data_len_of);
        }
        let class = (first_class + classes.trailing_zeros()) as usize;
        let Some(start) = self.recent.top(class) else {
            return self.sets.lowest_exact(class, &self.slots, data_len_of);
        };
        let data_len = data_len_of_class(class);
        if data_len_of(start) == data_len { Ok(Some(Extent { start, data_len })) } else { Err(start.offset()) }
    }

    /// The first free block at or behind `from` that has no exact size and at least `data_len` bytes, or None. (If its marker was
    /// overwritten, the size is any number.)
    pub fn next_other(&self, from: u64, data_len: u64, data_len_of: impl Fn(Start) -> u64) -> Option<Extent> {
        self.sets.next_other(from, data_len, &self.slots, data_len_of)
    }

    /// The first start at or behind `from`, of any block. Returns None if there is no such block. Its cost grows with the distance.
    pub fn next_start(&self, from: u64) -> Option<Start> {
        self.slots.next_start(from)
    }

    /// The last start at or before `offset`, of any block.
    pub fn start_at_or_before(&self, offset: u64) -> Option<Start> {
        self.slots.start_at_or_before(offset)
    }

    /// A free block: the lowest if none was removed since `settle`. Returns NOWHERE if no block is free.
    #[inline]
    pub fn first_free(&self) -> Start {
        self.first_free
    }

    /// The free blocks in the zone of `from` and those behind it, by address. Precondition: `settle` was called since a block was recent.
    pub fn free_from(&self, from: u64) -> impl Iterator<Item = Start> + '_ {
        self.sets.starts_from(zone_of(from), &self.slots)
    }

    /// Any free block: the one that costs least to find. Returns None if no block is free.
    fn any_free(&self) -> Option<Start> {
        let recent = self.recent.non_empty();
        if recent != 0 {
            return self.recent.top(recent.trailing_zeros() as usize);
        }
        self.sets.starts_from(self.sets.any_zone()?, &self.slots).next()
    }

    /// All blocks by address. For checks.
    pub fn blocks(&self) -> impl Iterator<Item = (Start, State)> + '_ {
        self.slots.all().map(|(start, state)| (start, state.of_block()))
    }

    /// Panics if the parts of the index do not agree with each other and with the sizes in the markers. Its cost grows with the
    /// medium.
    pub fn check_invariants(&self, data_len_of: impl Fn(Start) -> u64) {
        self.recent.check_invariants();
        self.sets.check_invariants(&self.slots, &data_len_of);
        let mut in_stacks = 0;
        for block in self.recent.all() {
            in_stacks += 1;
            assert_eq!(self.slots.get(block.start), Some(SlotState::Recent), "{block:?} in a stack");
            assert_eq!(data_len_of(block.start), block.data_len, "size of the recent {block:?}");
        }
        let recent = self.slots.all().filter(|&(_, state)| state == SlotState::Recent).count();
        assert_eq!(recent, in_stacks, "each recent block is in one stack");
        let first = self.state(self.first_free);
        let is_right =
            if self.any_free().is_some() { first == Some(State::Free) } else { self.first_free == Start::NOWHERE };
        assert!(is_right, "first_free is {:?}, which is {first:?}", self.first_free);
    }
}

/// The set bits of a word, from the lowest.
#[derive(Clone)]
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}
