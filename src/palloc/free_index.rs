//! Where blocks begin and which are free, in memory: found by a walk over the medium when it is opened, and never written to it.
//!
//! ```text
//!   medium   |-- region: 32 KiB --|-- region --|-- region --| ...
//!
//!   region   starts: a byte for each 32 bytes, the smallest block: which of them is the start of a block, if any, and whether it is free
//!            sets:   a word for each set of free blocks; its bit g says that one of them starts in granule g, 512 bytes
//!
//!   sets     1 to 32: n is exactly 16 times the number.   0: all others, larger ones and odd ones of older media
//!   above    for each of the sets 1 to 32 a tree of bits over the regions: the first region that has one, in three or four steps
//!            for set 0 a tree of maxima over the regions: the first region that has a block large enough
//! ```
//!
//! In front of each of the sets 1 to 32 stands a stack of blocks of that size that were freed lately. They are in no set until
//! [`FreeIndex::settle`]; what is freed while the stack is full goes to the set.
//!
//! A search takes the smallest exact size that fits: the top of its stack, as its lines are in the cache, else its lowest block;
//! else the lowest block of the others that fits. What it looks at does not grow with the medium but for the height of the trees: in
//! a region, at most the free blocks that begin there. Nothing is allocated but the stacks, with the first block, and for regions
//! in which no block began before, about 1/25 of the medium's length in all; so freeing never fails for want of memory.
//!
//! The sizes of free blocks are not kept here but in their markers, which the functions read through `n_of`.

use std::collections::TryReserveError;

use super::format::{HEADER, MIN_DATA, OVERHEAD};
use super::try_box;

const REGION_SHIFT: u32 = 15;
const GRANULE_SHIFT: u32 = 9;
const SLOT_SHIFT: u32 = 5;
const SLOTS: usize = 1 << (REGION_SHIFT - SLOT_SHIFT);
const SLOTS_PER_GRANULE: usize = 1 << (GRANULE_SHIFT - SLOT_SHIFT);

const EXACT_SETS: usize = 32;
const OTHERS: usize = 0;
/// The largest exact size.
pub const MAX_EXACT: u64 = EXACT_SETS as u64 * MIN_DATA;
/// How many slots back the start of a block of an exact size can be, at most.
const NEAR: usize = ((MAX_EXACT + OVERHEAD) >> SLOT_SHIFT) as usize + 1;

/// How many blocks of one size are in its stack at most.
const DEPTH: usize = 63;

/// A slot's byte: 0, or USED with the offset in the slot in the low 5 bits, and FREE in a set or RECENT in a stack.
const USED: u8 = 0x40;
const FREE: u8 = 0x80;
const RECENT: u8 = 0x20;

/// What begins at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// An allocated block.
    Live,
    /// A free block.
    Free,
}

struct Region {
    starts: [u8; SLOTS],
    sets: [u64; 1 + EXACT_SETS],
}

/// Free blocks of one size, the one that was freed last on top.
struct Stack {
    len: usize,
    blocks: [u64; DEPTH],
}

impl Stack {
    fn blocks(&self) -> &[u64] {
        &self.blocks[..self.len]
    }

    fn push(&mut self, at: u64) {
        self.blocks[self.len] = at;
        self.len += 1;
    }

    /// False if it is not here.
    fn remove(&mut self, at: u64) -> bool {
        let place = self.blocks().iter().rposition(|&block| block == at);
        if let Some(place) = place {
            self.blocks.copy_within(place + 1..self.len, place);
            self.len -= 1;
        }
        place.is_some()
    }
}

/// The index. Callers keep it in step with the medium.
pub struct FreeIndex {
    // Slices of one: see try_box.
    regions: Vec<Option<Box<[Region]>>>,
    /// One for each of the sets 1 to 32, or none while no block was entered.
    recent: Vec<Stack>,
    /// Bit s - 1: the stack of set s is not empty.
    any_recent: u32,
    exact: [BitTree; EXACT_SETS],
    /// Bit s - 1: set s is not empty.
    not_empty: u32,
    others: MaxTree,
}

/// Beyond all regions for what no address space can hold.
fn region_of(at: u64) -> usize {
    usize::try_from(at >> REGION_SHIFT).unwrap_or(usize::MAX)
}

fn slot_of(at: u64) -> usize {
    (at >> SLOT_SHIFT) as usize % SLOTS
}

fn granule_of(at: u64) -> usize {
    slot_of(at) / SLOTS_PER_GRANULE
}

fn set_of(n: u64) -> usize {
    let step = n / MIN_DATA;
    if n % MIN_DATA == 0 && step <= EXACT_SETS as u64 { step as usize } else { OTHERS }
}

impl FreeIndex {
    /// An empty index.
    pub fn new() -> FreeIndex {
        FreeIndex {
            regions: Vec::new(),
            recent: Vec::new(),
            any_recent: 0,
            exact: std::array::from_fn(|_| BitTree::default()),
            not_empty: 0,
            others: MaxTree::default(),
        }
    }

    /// Makes room for a block that begins at `at`.
    pub fn prepare(&mut self, at: u64) -> Result<(), TryReserveError> {
        let region = region_of(at);
        if self.recent.is_empty() {
            self.recent.try_reserve_exact(EXACT_SETS)?;
            self.recent.resize_with(EXACT_SETS, || Stack { len: 0, blocks: [0; DEPTH] });
        }
        if region >= self.regions.len() {
            for tree in &mut self.exact {
                tree.cover(region + 1)?;
            }
            self.others.cover(region + 1)?;
            self.regions.try_reserve(region + 1 - self.regions.len())?;
            self.regions.resize_with(region + 1, || None);
        }
        if self.regions[region].is_none() {
            self.regions[region] = Some(try_box(Region { starts: [0; SLOTS], sets: [0; 1 + EXACT_SETS] })?);
        }
        Ok(())
    }

    fn region(&self, at: u64) -> Option<&Region> {
        self.regions.get(region_of(at))?.as_ref().map(|one| &one[0])
    }

    fn region_mut(&mut self, at: u64) -> &mut Region {
        &mut self.regions[region_of(at)].as_mut().expect("a region is prepared before a block begins in it")[0]
    }

    /// What begins at `at`, if anything.
    #[inline]
    pub fn state(&self, at: u64) -> Option<State> {
        match self.region(at)?.starts[slot_of(at)] ^ (USED | (at % 32) as u8) {
            0 => Some(State::Live),
            FREE | RECENT => Some(State::Free),
            _ => None,
        }
    }

    /// The start before `at` among the 17 slots before its own, which is all that an exact size can have.
    #[inline]
    pub fn start_near_before(&self, at: u64) -> Option<u64> {
        let slot = slot_of(at);
        if slot < NEAR {
            return (1..=NEAR as u64).find_map(|i| self.start_in_slot(at.checked_sub(i << SLOT_SHIFT)?));
        }
        let starts = &self.region(at)?.starts[slot - NEAR..slot];
        let back = sixteen(&starts[1..]).leading_zeros() as usize / 8;
        self.start_in_slot(at - ((1 + back as u64) << SLOT_SHIFT))
    }

    /// The start in the slot of `at`.
    fn start_in_slot(&self, at: u64) -> Option<u64> {
        let byte = self.region(at)?.starts[slot_of(at)];
        (byte != 0).then_some((at >> SLOT_SHIFT << SLOT_SHIFT) + (byte % 32) as u64)
    }

    /// Whether no block begins between the blocks at `at` and `next`, which is at most 17 slots behind.
    #[inline]
    pub fn is_next(&self, at: u64, next: u64) -> bool {
        let slot = slot_of(at) + 1;
        let between = (next >> SLOT_SHIFT) - (at >> SLOT_SHIFT) - 1;
        if slot + 16 > SLOTS || between > 16 {
            return (1..=between).all(|i| self.start_in_slot(at + (i << SLOT_SHIFT)).is_none());
        }
        let Some(region) = self.region(at) else { return true };
        sixteen(&region.starts[slot..slot + 16]).trailing_zeros() as u64 / 8 >= between
    }

    fn put(&mut self, at: u64, kind: u8) {
        self.region_mut(at).starts[slot_of(at)] = USED | kind | (at % 32) as u8;
    }

    /// An allocated block begins at `at`, in a prepared region.
    pub fn put_live(&mut self, at: u64) {
        self.put(at, 0);
    }

    /// No block begins at `at` any more, where an allocated one did.
    pub fn remove_live(&mut self, at: u64) {
        self.region_mut(at).starts[slot_of(at)] = 0;
    }

    /// A free block with `n` bytes of data begins at `at`, in a prepared region: if it is recent now, searches of its size find it
    /// before all others.
    pub fn add_recent(&mut self, at: u64, n: u64) -> bool {
        let set = set_of(n);
        if set == OTHERS || self.recent[set - 1].len == DEPTH {
            return false;
        }
        self.put(at, RECENT);
        self.recent[set - 1].push(at);
        self.any_recent |= 1 << (set - 1);
        true
    }

    /// The same for an allocated block that is freed, between allocated ones, all of exact sizes. Returns the size, which the index
    /// tells: `confirm` has to say that the marker says the same. None, and nothing is changed, if it does not, where the stack is
    /// full, and if it can't be told by one look, near the ends of a region.
    #[inline]
    pub fn free_alone(&mut self, at: u64, confirm: impl FnOnce(u64) -> bool) -> Option<u64> {
        let slot = slot_of(at);
        let region = self.regions.get_mut(region_of(at))?.as_mut()?;
        let near = region[0].starts.get_mut(slot.checked_sub(NEAR)?..slot + 1 + NEAR)?;
        // So many empty slots are before the next start, 16 at most.
        let before = sixteen(&near[1..NEAR]).leading_zeros() as usize / 8;
        let behind = sixteen(&near[NEAR + 1..2 * NEAR]).trailing_zeros() as usize / 8;
        let next = near[NEAR + 1 + behind];
        let is_alone =
            near[NEAR] == USED | (at % 32) as u8 && near[NEAR - 1 - before] & !31 == USED && next & !31 == USED;
        if !is_alone {
            return None;
        }
        let n = ((behind as u64 + 1) << SLOT_SHIFT) + (next % 32) as u64 - at % 32 - OVERHEAD;
        let stack = self.recent.get_mut((n / MIN_DATA) as usize - 1)?;
        if n % MIN_DATA != 0 || !confirm(n) {
            return None;
        }
        *stack.blocks.get_mut(stack.len)? = at;
        if stack.len == 0 {
            self.any_recent |= 1 << (n / MIN_DATA - 1);
        }
        stack.len += 1;
        near[NEAR] |= RECENT;
        Some(n)
    }

    /// What [`FreeIndex::find`] would find for a blob of `n` bytes, an exact size, if that is a recent block of at most `most` bytes.
    #[inline]
    pub fn recent(&self, n: u64, most: u64) -> Option<(u64, u64)> {
        let stack = (n / MIN_DATA) as usize - 1;
        let stack = stack + ((self.any_recent | self.not_empty) >> stack).trailing_zeros() as usize;
        let n = (stack as u64 + 1) * MIN_DATA;
        let stack = self.recent.get(stack).filter(|_| n <= most)?;
        Some((*stack.blocks.get(stack.len.wrapping_sub(1))?, n))
    }

    /// What [`FreeIndex::recent`] gave is an allocated block now.
    #[inline]
    pub fn take_recent(&mut self, at: u64, n: u64) {
        let stack = &mut self.recent[(n / MIN_DATA) as usize - 1];
        debug_assert_eq!(stack.blocks().last(), Some(&at));
        stack.len -= 1;
        if stack.len == 0 {
            self.any_recent &= !(1 << (n / MIN_DATA - 1));
        }
        self.put_live(at);
    }

    /// A free block with `n` bytes of data begins at `at`, in a prepared region.
    pub fn add_free(&mut self, at: u64, n: u64) {
        let set = set_of(n);
        self.put(at, FREE);
        let word = &mut self.region_mut(at).sets[set];
        let was_empty = *word == 0;
        *word |= 1 << granule_of(at);
        if set == OTHERS {
            self.others.raise(region_of(at), n);
        } else if was_empty {
            self.exact[set - 1].set(region_of(at));
            self.not_empty |= 1 << (set - 1);
        }
    }

    /// The free block at `at`, with `n` bytes of data, is none any more. `n_of` reads the sizes of free blocks beside it.
    pub fn remove_free(&mut self, at: u64, n: u64, n_of: impl Fn(u64) -> u64) {
        let (set, region) = (set_of(n), region_of(at));
        let start = &mut self.region_mut(at).starts[slot_of(at)];
        let is_recent = *start & RECENT != 0;
        *start = 0;
        if is_recent {
            // In all of them if it is not in its own: then the size in its marker was overwritten.
            let mut stacks = set.checked_sub(1).into_iter().chain(0..EXACT_SETS);
            let stack = stacks.find(|&stack| self.recent[stack].remove(at)).expect("a recent block is in a stack");
            if self.recent[stack].len == 0 {
                self.any_recent &= !(1 << stack);
            }
            return;
        }
        if !self.free_in_granule(at).any(|other| set_of(n_of(other)) == set) {
            self.region_mut(at).sets[set] &= !(1 << granule_of(at));
        }
        let word = self.region_mut(at).sets[set];
        if set == OTHERS {
            if self.others.get(region) == n {
                let others = Bits(word).flat_map(|granule| self.free_in_granule(granule_start(region, granule)));
                let largest = others.map(&n_of).filter(|&n| set_of(n) == OTHERS).max();
                self.others.set(region, largest.unwrap_or(0));
            }
        } else if word == 0 {
            self.exact[set - 1].clear(region);
            if self.exact[set - 1].is_empty() {
                self.not_empty &= !(1 << (set - 1));
            }
        }
    }

    /// Moves the blocks in the stacks to the sets, where they are found by address, and tells which these are.
    pub fn settle(&mut self, mut each: impl FnMut(u64, u64)) {
        self.any_recent = 0;
        for set in 1..=self.recent.len() {
            while let Some(&at) = self.recent[set - 1].blocks().last() {
                self.recent[set - 1].len -= 1;
                let n = set as u64 * MIN_DATA;
                self.add_free(at, n);
                each(at, n);
            }
        }
    }

    /// A free block of at least `size` bytes, else of at least `least` (odd blocks may hold what a rounded size does not).
    /// Err: the marker of a free block at or before that offset, in its region, does not say what the index knows.
    pub fn find(&self, size: u64, least: u64, n_of: impl Fn(u64) -> u64) -> Result<Option<(u64, u64)>, u64> {
        let first_set = size.div_ceil(MIN_DATA) - 1;
        let sets = self.any_recent | self.not_empty;
        let sets = if first_set < EXACT_SETS as u64 { sets >> first_set << first_set } else { 0 };
        let (set, region, wanted) = if sets != 0 {
            let set = sets.trailing_zeros() as usize + 1;
            if let Some(&at) = self.recent[set - 1].blocks().last() {
                let n = set as u64 * MIN_DATA;
                return if n_of(at) == n { Ok(Some((at, n))) } else { Err(at) };
            }
            let region = self.exact[set - 1].first().expect("a set that is not empty has a first region");
            (set, region, set as u64 * MIN_DATA)
        } else if let Some(region) = self.others.first_at_least(least) {
            (OTHERS, region, least)
        } else {
            return Ok(None);
        };
        let start = granule_start(region, 0);
        let mut seen = start;
        for granule in Bits(self.region(start).expect("a set bit is in a region").sets[set]) {
            for at in self.free_in_granule(start + ((granule as u64) << GRANULE_SHIFT)) {
                seen = at;
                let n = n_of(at);
                if n >= wanted && set_of(n) == set {
                    return Ok(Some((at, n)));
                }
            }
        }
        Err(seen)
    }

    /// The lowest block that begins at `from` or behind it.
    pub fn next_start(&self, from: u64) -> Option<u64> {
        let from = from.max(HEADER);
        for (region, one) in self.regions.iter().enumerate().skip(region_of(from)) {
            let Some(one) = one else { continue };
            let first_slot = if region == region_of(from) { slot_of(from) } else { 0 };
            for (group, slots) in one[0].starts.chunks_exact(16).enumerate().skip(first_slot / 16) {
                if sixteen(slots) == 0 {
                    continue;
                }
                for (slot, &byte) in (16 * group..).zip(slots).skip(first_slot.saturating_sub(16 * group)) {
                    let at = ((region as u64) << REGION_SHIFT) + ((slot as u64) << SLOT_SHIFT) + (byte % 32) as u64;
                    if byte != 0 && at >= from {
                        return Some(at);
                    }
                }
            }
        }
        None
    }

    /// The lowest free block, once they are settled.
    pub fn first_free(&self) -> Option<u64> {
        self.free_from(0).next()
    }

    /// The free blocks in regions from that of `from` on, by address, once they are settled.
    pub fn free_from(&self, from: u64) -> impl Iterator<Item = u64> + '_ {
        (region_of(from)..self.regions.len()).flat_map(move |region| {
            let granules =
                self.regions[region].as_ref().map_or(0, |one| one[0].sets.iter().fold(0, |all, set| all | set));
            Bits(granules).flat_map(move |granule| self.free_in_granule(granule_start(region, granule)))
        })
    }

    /// A free block, whichever is found at once.
    pub fn any_free(&self) -> Option<u64> {
        if self.any_recent != 0 {
            return self.recent[self.any_recent.trailing_zeros() as usize].blocks().last().copied();
        }
        let region = match self.not_empty {
            0 => self.others.first_at_least(1)?,
            sets => self.exact[sets.trailing_zeros() as usize].first()?,
        };
        self.free_from((region as u64) << REGION_SHIFT).next()
    }

    /// The free blocks that begin in the granule of `at`.
    fn free_in_granule(&self, at: u64) -> impl Iterator<Item = u64> + '_ {
        let first_slot = slot_of(at) / SLOTS_PER_GRANULE * SLOTS_PER_GRANULE;
        let start = granule_start(region_of(at), granule_of(at));
        let slots = self
            .region(at)
            .map_or(&[0; SLOTS_PER_GRANULE][..], |region| &region.starts[first_slot..][..SLOTS_PER_GRANULE]);
        let free = free_bits(&slots[..8]) | free_bits(&slots[8..]) << 8;
        Bits(free).map(move |slot| start + ((slot as u64) << SLOT_SHIFT) + (slots[slot] % 32) as u64)
    }
}

/// 16 slots as one number, the first in its lowest byte.
fn sixteen(slots: &[u8]) -> u128 {
    u128::from_le_bytes(slots.try_into().expect("16 slots"))
}

/// Bit i: slot i of these 8 is FREE.
fn free_bits(slots: &[u8]) -> u64 {
    let bytes = u64::from_le_bytes(slots.try_into().expect("8 slots"));
    // Each byte's highest bit, then all of them side by side: the product has bit 8 i at 56 + i.
    (bytes >> 7 & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

fn granule_start(region: usize, granule: usize) -> u64 {
    ((region as u64) << REGION_SHIFT) + ((granule as u64) << GRANULE_SHIFT)
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

/// A set of numbers: a bit each, and above every 64 bits one that is their OR.
#[derive(Default)]
struct BitTree {
    levels: Vec<Vec<u64>>,
}

impl BitTree {
    /// Makes room for the numbers below `count`.
    fn cover(&mut self, count: usize) -> Result<(), TryReserveError> {
        cover_levels(&mut self.levels, count, 64, |below| {
            below.iter().enumerate().fold(0, |bits, (i, &word)| bits | u64::from(word != 0) << i)
        })
    }

    fn set(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            let was_empty = *word == 0;
            *word |= 1 << (at % 64);
            if !was_empty {
                break;
            }
            at /= 64;
        }
    }

    fn clear(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            *word &= !(1 << (at % 64));
            if *word != 0 {
                break;
            }
            at /= 64;
        }
    }

    fn is_empty(&self) -> bool {
        self.levels.last().is_none_or(|top| top[0] == 0)
    }

    fn first(&self) -> Option<usize> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level[at];
            if word == 0 {
                return None;
            }
            at = at * 64 + word.trailing_zeros() as usize;
        }
        (!self.levels.is_empty()).then_some(at)
    }
}

/// A number for each index, and above every 16 of them their maximum.
#[derive(Default)]
struct MaxTree {
    levels: Vec<Vec<u64>>,
}

impl MaxTree {
    /// Makes room for the indices below `count`; new numbers are 0.
    fn cover(&mut self, count: usize) -> Result<(), TryReserveError> {
        cover_levels(&mut self.levels, count * 16, 16, |below| below.iter().copied().max().unwrap_or(0))
    }

    fn get(&self, index: usize) -> u64 {
        self.levels[0][index]
    }

    fn raise(&mut self, index: usize, number: u64) {
        let mut at = index;
        for level in &mut self.levels {
            if level[at] >= number {
                break;
            }
            level[at] = number;
            at /= 16;
        }
    }

    fn set(&mut self, index: usize, number: u64) {
        let (mut at, mut number) = (index, number);
        for level in 0..self.levels.len() {
            if std::mem::replace(&mut self.levels[level][at], number) == number {
                break;
            }
            let row = at / 16 * 16;
            number = self.levels[level].iter().skip(row).take(16).copied().max().unwrap_or(0);
            at /= 16;
        }
    }

    fn first_at_least(&self, number: u64) -> Option<usize> {
        if self.levels.last()?.first()? < &number {
            return None;
        }
        let mut at = 0;
        for level in self.levels.iter().rev().skip(1) {
            at = (at * 16..level.len().min(at * 16 + 16)).find(|&i| level[i] >= number)?;
        }
        Some(at)
    }
}

/// Levels of a tree: the lowest has `count / arity` words (rounded up), each higher one a word for `arity` words below, the top one.
/// New words are 0; new levels are made by `parent_of` from the words below. On failure the levels are as they were.
fn cover_levels(
    levels: &mut Vec<Vec<u64>>,
    count: usize,
    arity: usize,
    parent_of: impl Fn(&[u64]) -> u64,
) -> Result<(), TryReserveError> {
    let mut higher = Vec::new();
    let mut len = count;
    for depth in 0.. {
        len = len.div_ceil(arity);
        match levels.get_mut(depth) {
            Some(level) => level.try_reserve(len.saturating_sub(level.len()))?,
            None => {
                let mut level = Vec::new();
                level.try_reserve_exact(len)?;
                higher.try_reserve(1)?;
                higher.push(level);
            }
        }
        if len <= 1 {
            break;
        }
    }
    levels.try_reserve(higher.len())?;
    levels.append(&mut higher);
    // Nothing fails from here on.
    let mut len = count;
    for depth in 0..levels.len() {
        len = len.div_ceil(arity);
        let (below, level) = levels.split_at_mut(depth);
        if level[0].is_empty() && depth > 0 {
            level[0].extend(below[depth - 1].chunks(arity).map(&parent_of));
        } else if len > level[0].len() {
            level[0].resize(len, 0);
        }
    }
    Ok(())
}
