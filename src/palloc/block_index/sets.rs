// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of free blocks: one for each exact size, and one for all others (larger ones, and odd ones of older media). A search finds the
//! lowest block of an exact size, or of the lowest others that fit the smallest.
//!
//! ```text
//!   tree        which zones have a block of the set (exact sizes), or how large their largest one is (others)
//!   word        one for each set and zone: bit g is set iff a block of the set starts in granule g, which is 512 bytes
//!   slot map    which blocks start in the granule
//!   marker      the size of each of those
//! ```
//!
//! Sizes are kept in the markers only. The functions read them through `data_len_of`.

use std::collections::TryReserveError;

use super::slots::{GRANULE_SHIFT, SlotMap, ZONE_SHIFT, granule_of, granule_start, zone_of};
use super::trees::{BitTree, MaxTree};
use super::{Bits, CLASSES, class_of, data_len_of_class};
use crate::palloc::format::{Extent, STEP, Start};
use crate::palloc::try_box_with;

/// Among how many blocks that fit a search chooses. With 1, first fit, the end of a medium of vectors that grow, or of sizes from 600 to
/// 8,600 bytes, is some 3 % farther away; with very many, best fit, that of a medium of power-law sizes is.
const CANDIDATES: usize = 4;

const _: () = {
    assert!(CANDIDATES >= 1, "a block that fits is found");
    assert!(ZONE_SHIFT - GRANULE_SHIFT == u64::BITS.trailing_zeros(), "a word has a bit for each granule of a zone");
    assert!(CLASSES <= u32::BITS as usize, "a set of classes is a u32");
};

/// The words of one zone.
struct Words {
    exact: [u64; CLASSES],
    others: u64,
}

impl Words {
    const EMPTY: Words = Words { exact: [0; CLASSES], others: 0 };

    fn of(&self, class: Option<usize>) -> u64 {
        class.map_or(self.others, |class| self.exact[class])
    }

    fn of_mut(&mut self, class: Option<usize>) -> &mut u64 {
        match class {
            Some(class) => &mut self.exact[class],
            None => &mut self.others,
        }
    }
}

/// The sets. In each function a `class` of None is the set of blocks that have no exact size.
pub struct FreeSets {
    /// A boxed slice of one, because only that has a fallible constructor: see `try_box_with`.
    zones: Vec<Option<Box<[Words]>>>,
    /// One for each class. Empty until `prepare` is called.
    exact: Vec<BitTree>,
    /// Bit c is set iff the set of class c has a block.
    non_empty: u32,
    others: MaxTree,
}

impl FreeSets {
    /// Empty sets.
    pub fn new() -> FreeSets {
        FreeSets { zones: Vec::new(), exact: Vec::new(), non_empty: 0, others: MaxTree::default() }
    }

    /// Makes room for a block that starts at `start`. Fails iff there is no memory; then nothing changed that can be seen.
    pub fn prepare(&mut self, start: Start) -> Result<(), TryReserveError> {
        let zone = zone_of(start.offset());
        if zone >= self.zones.len() {
            // Twice as many as before: the number of zones grows by one at a time while a medium is opened.
            let count = (zone + 1).max(2 * self.zones.len());
            self.exact.try_reserve_exact(CLASSES - self.exact.len())?;
            self.exact.resize_with(CLASSES, BitTree::default);
            for tree in &mut self.exact {
                tree.cover(count)?;
            }
            self.others.cover(count)?;
            self.zones.try_reserve(count - self.zones.len())?;
            self.zones.resize_with(count, || None);
        }
        if self.zones[zone].is_none() {
            self.zones[zone] = Some(try_box_with(|| Words::EMPTY)?);
        }
        Ok(())
    }

    /// The classes whose sets have a block, a bit for each.
    pub fn non_empty(&self) -> u32 {
        self.non_empty
    }

    fn words(&self, zone: usize) -> &Words {
        &self.zones[zone].as_ref().expect("`prepare` was called for this zone")[0]
    }

    fn word_mut(&mut self, zone: usize, class: Option<usize>) -> &mut u64 {
        self.zones[zone].as_mut().expect("`prepare` was called for this zone")[0].of_mut(class)
    }

    /// Adds a free block. Precondition: `prepare` succeeded for its start. The slot map has it as in a set.
    pub fn add(&mut self, block: Extent) {
        let (zone, class) = (zone_of(block.start.offset()), class_of(block.data_len));
        let word = self.word_mut(zone, class);
        let was_empty = *word == 0;
        *word |= 1 << granule_of(block.start.offset());
        match class {
            None => self.others.raise(zone, block.data_len),
            Some(class) if was_empty => {
                self.exact[class].set(zone);
                self.non_empty |= 1 << class;
            }
            Some(_) => {}
        }
    }

    /// Removes a free block. Precondition: it was added with this size, and the slot map does not have it any more.
    pub fn remove(&mut self, block: Extent, slots: &SlotMap, data_len_of: impl Fn(Start) -> u64) {
        let (zone, class) = (zone_of(block.start.offset()), class_of(block.data_len));
        let has_class = |&other: &Start| class_of(data_len_of(other)) == class;
        if !slots.in_set_in_granule(block.start.offset()).any(|other| has_class(&other)) {
            *self.word_mut(zone, class) &= !(1 << granule_of(block.start.offset()));
        }
        let word = self.words(zone).of(class);
        let Some(class) = class else {
            if self.others.get(zone) == block.data_len {
                let others = Bits(word).flat_map(|granule| slots.in_set_in_granule(granule_start(zone, granule)));
                self.others.set(zone, others.filter(has_class).map(&data_len_of).max().unwrap_or(0));
            }
            return;
        };
        if word == 0 {
            self.exact[class].clear(zone);
            if self.exact[class].is_empty() {
                self.non_empty &= !(1 << class);
            }
        }
    }

    /// The lowest block of the class. Returns None if there is no block.
    /// Fails iff a marker has another size than the sets say: the offset of the last block of the set that was looked at.
    pub fn lowest_exact(
        &self,
        class: usize,
        slots: &SlotMap,
        data_len_of: impl Fn(Start) -> u64,
    ) -> Result<Option<Extent>, u64> {
        let Some(zone) = self.exact[class].first() else { return Ok(None) };
        self.lowest_in_zone(zone, Some(class), data_len_of_class(class), slots, data_len_of).map(Some)
    }

    /// The smallest of the [`CANDIDATES`] lowest of the other blocks that have at least `data_len` bytes, and of equal ones the lowest. One
    /// that leaves less than STEP bytes ends the search. Returns and fails as `lowest_exact`.
    pub fn best_other(
        &self,
        data_len: u64,
        slots: &SlotMap,
        data_len_of: impl Fn(Start) -> u64,
    ) -> Result<Option<Extent>, u64> {
        let Some(zone) = self.others.first_at_least(data_len) else { return Ok(None) };
        let mut found = self.lowest_in_zone(zone, None, data_len, slots, &data_len_of)?;
        let mut best = found;
        for _ in 1..CANDIDATES {
            if best.data_len - data_len < STEP {
                break;
            }
            let Some(next) = self.next_other(found.blob(), data_len, slots, &data_len_of) else { break };
            found = next;
            if found.data_len < best.data_len {
                best = found;
            }
        }
        Ok(Some(best))
    }

    /// The lowest of the other blocks with at least `data_len` bytes that starts at or behind `from`. Returns None if there is no such block.
    pub fn next_other(
        &self,
        from: u64,
        data_len: u64,
        slots: &SlotMap,
        data_len_of: impl Fn(Start) -> u64,
    ) -> Option<Extent> {
        let mut zone = zone_of(from);
        loop {
            zone = self.others.first_at_least_from(zone, data_len)?;
            let before = if zone == zone_of(from) { granule_of(from) } else { 0 };
            let granules = Bits(self.words(zone).others & (u64::MAX << before));
            let mut starts = granules.flat_map(|granule| slots.in_set_in_granule(granule_start(zone, granule)));
            let fits = |&start: &Start| {
                start.offset() >= from && data_len_of(start) >= data_len && class_of(data_len_of(start)).is_none()
            };
            if let Some(start) = starts.find(fits) {
                return Some(Extent { start, data_len: data_len_of(start) });
            }
            zone += 1;
        }
    }

    fn lowest_in_zone(
        &self,
        zone: usize,
        class: Option<usize>,
        min_len: u64,
        slots: &SlotMap,
        data_len_of: impl Fn(Start) -> u64,
    ) -> Result<Extent, u64> {
        let mut seen = granule_start(zone, 0);
        for granule in Bits(self.words(zone).of(class)) {
            for start in slots.in_set_in_granule(granule_start(zone, granule)) {
                seen = start.offset();
                let data_len = data_len_of(start);
                if data_len >= min_len && class_of(data_len) == class {
                    return Ok(Extent { start, data_len });
                }
            }
        }
        Err(seen)
    }

    /// A zone that has a block in a set, whichever is found at once.
    pub fn any_zone(&self) -> Option<usize> {
        match self.non_empty {
            0 => self.others.first_at_least(1),
            sets => self.exact[sets.trailing_zeros() as usize].first(),
        }
    }

    /// The blocks of all sets in `zone` and the zones behind it, by address.
    pub fn starts_from<'a>(&'a self, zone: usize, slots: &'a SlotMap) -> impl Iterator<Item = Start> + 'a {
        (zone..self.zones.len()).flat_map(move |zone| {
            let granules = self.zones[zone]
                .as_ref()
                .map_or(0, |words| words[0].exact.iter().fold(words[0].others, |all, word| all | word));
            Bits(granules).flat_map(move |granule| slots.in_set_in_granule(granule_start(zone, granule)))
        })
    }

    /// Panics if words or trees do not agree with the slot map and the sizes.
    pub fn check_invariants(&self, slots: &SlotMap, data_len_of: impl Fn(Start) -> u64) {
        for (zone, words) in self.zones.iter().enumerate() {
            let Some(words) = words.as_ref().map(|words| &words[0]) else { continue };
            let mut expected = Words::EMPTY;
            let mut largest = 0;
            for granule in 0..u64::BITS as usize {
                for start in slots.in_set_in_granule(granule_start(zone, granule)) {
                    let class = class_of(data_len_of(start));
                    *expected.of_mut(class) |= 1 << granule;
                    largest = if class.is_none() { largest.max(data_len_of(start)) } else { largest };
                }
            }
            assert!(words.exact == expected.exact && words.others == expected.others, "words of zone {zone}");
            assert_eq!(self.others.get(zone), largest, "largest other block of zone {zone}");
            for (class, tree) in self.exact.iter().enumerate() {
                assert_eq!(tree.contains(zone), words.exact[class] != 0, "tree of class {class}, zone {zone}");
            }
        }
        for (class, tree) in self.exact.iter().enumerate() {
            tree.check_invariants();
            assert_eq!(self.non_empty >> class & 1 == 1, !tree.is_empty(), "non_empty of class {class}");
        }
        self.others.check_invariants();
    }
}
