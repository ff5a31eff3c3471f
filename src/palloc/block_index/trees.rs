// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees over zone numbers: which zones have a free block of one exact size (`BitTree`), and how large the largest other free
//! block of each zone is (`MaxTree`). Each level is an array. A search reads a few words on each level, and there are three or four
//! levels in a medium of some hundred GiB. The highest level is one word, the root, which needs no memory of its own.

use std::collections::TryReserveError;

const BIT_ARITY: usize = u64::BITS as usize;
const MAX_ARITY: usize = 16;
const _: () = assert!(
    BIT_ARITY <= u64::BITS as usize && MAX_ARITY >= 2,
    "a word has a bit for each number, and levels become shorter"
);

/// A set of numbers. Level 0 has a bit for each number; each higher level has a bit for each word below, set iff that is not 0.
#[derive(Default)]
pub struct BitTree {
    /// All levels but the root.
    levels: Vec<Vec<u64>>,
    root: u64,
}

impl BitTree {
    /// Makes room for the numbers below `count`. Fails iff there is no memory; then the set is as it was.
    pub fn cover(&mut self, count: usize) -> Result<(), TryReserveError> {
        cover_levels(&mut self.levels, &mut self.root, count.div_ceil(BIT_ARITY), BIT_ARITY, bits_of)
    }

    /// Adds a number. Precondition: `cover` made room for it.
    pub fn set(&mut self, number: usize) {
        let mut bit = number;
        for level in &mut self.levels {
            let word = &mut level[bit / BIT_ARITY];
            let was_empty = *word == 0;
            *word |= 1 << (bit % BIT_ARITY);
            if !was_empty {
                return;
            }
            bit /= BIT_ARITY;
        }
        self.root |= 1 << bit;
    }

    /// Removes a number. Precondition: `cover` made room for it.
    pub fn clear(&mut self, number: usize) {
        let mut bit = number;
        for level in &mut self.levels {
            let word = &mut level[bit / BIT_ARITY];
            *word &= !(1 << (bit % BIT_ARITY));
            if *word != 0 {
                return;
            }
            bit /= BIT_ARITY;
        }
        self.root &= !(1 << bit);
    }

    /// Whether no number is in the set.
    pub fn is_empty(&self) -> bool {
        self.root == 0
    }

    /// Whether a number is in the set. For checks.
    pub fn contains(&self, number: usize) -> bool {
        let level = self.levels.first().map_or(std::slice::from_ref(&self.root), |level| level);
        let word = level.get(number / BIT_ARITY);
        word.is_some_and(|word| word >> (number % BIT_ARITY) & 1 == 1)
    }

    /// The smallest number in the set.
    pub fn first(&self) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let down = |word: usize, level: &Vec<u64>| word * BIT_ARITY + level[word].trailing_zeros() as usize;
        Some(self.levels.iter().rev().fold(self.root.trailing_zeros() as usize, down))
    }

    /// Panics if a level does not agree with the one below.
    pub fn check_invariants(&self) {
        check_levels(&self.levels, self.root, BIT_ARITY, bits_of);
    }
}

fn bits_of(below: &[u64]) -> u64 {
    below.iter().enumerate().fold(0, |bits, (i, &word)| bits | u64::from(word != 0) << i)
}

/// An array of numbers, at first 0. Level 0 is the array; each higher level has the maximum of each 16 numbers below.
#[derive(Default)]
pub struct MaxTree {
    /// All levels but the root.
    levels: Vec<Vec<u64>>,
    root: u64,
}

impl MaxTree {
    /// Makes room for the indices below `count`. Fails iff there is no memory; then the numbers are as they were.
    pub fn cover(&mut self, count: usize) -> Result<(), TryReserveError> {
        cover_levels(&mut self.levels, &mut self.root, count, MAX_ARITY, max_of)
    }

    /// The number at `index`. Precondition: `cover` made room for it.
    pub fn get(&self, index: usize) -> u64 {
        self.levels.first().map_or(self.root, |level| level[index])
    }

    /// Makes the number at `index` at least `number`. Precondition: `cover` made room for it.
    pub fn raise(&mut self, index: usize, number: u64) {
        let mut index = index;
        for level in &mut self.levels {
            if level[index] >= number {
                return;
            }
            level[index] = number;
            index /= MAX_ARITY;
        }
        self.root = self.root.max(number);
    }

    /// Makes the number at `index` this one. Precondition: `cover` made room for it.
    pub fn set(&mut self, index: usize, number: u64) {
        let (mut index, mut number) = (index, number);
        for level in &mut self.levels {
            if std::mem::replace(&mut level[index], number) == number {
                return;
            }
            index /= MAX_ARITY;
            let first = index * MAX_ARITY;
            number = max_of(&level[first..level.len().min(first + MAX_ARITY)]);
        }
        self.root = number;
    }

    /// The first index whose number is at least `number`, which is not 0.
    pub fn first_at_least(&self, number: u64) -> Option<usize> {
        if self.root < number {
            return None;
        }
        let mut index = 0;
        for level in self.levels.iter().rev() {
            let first = index * MAX_ARITY;
            index = (first..level.len().min(first + MAX_ARITY)).find(|&i| level[i] >= number)?;
        }
        Some(index)
    }

    /// The first index from `from` on whose number is at least `number`, which is not 0.
    pub fn first_at_least_from(&self, from: usize, number: u64) -> Option<usize> {
        let in_group =
            |level: &[u64], first: usize, end: usize| (first..end.min(level.len())).find(|&i| level[i] >= number);
        // Up, as long as the rest of the group has none; then down.
        let mut index = from;
        for (depth, level) in self.levels.iter().enumerate() {
            let end = (index / MAX_ARITY + 1) * MAX_ARITY;
            if let Some(found) = in_group(level, index, end) {
                let mut below = self.levels[..depth].iter().rev();
                return below
                    .try_fold(found, |found, level| in_group(level, found * MAX_ARITY, (found + 1) * MAX_ARITY));
            }
            index = index / MAX_ARITY + 1;
        }
        (index == 0 && self.root >= number).then_some(0)
    }

    /// Panics if a level does not agree with the one below.
    pub fn check_invariants(&self) {
        check_levels(&self.levels, self.root, MAX_ARITY, max_of);
    }
}

fn max_of(below: &[u64]) -> u64 {
    below.iter().copied().max().unwrap_or(0)
}

/// Makes level 0 at least `len` words long, and each higher level a word for each `arity` words below, up to the root. New words of level 0
/// are 0. Fails iff there is no memory; then the levels are as they were.
fn cover_levels(
    levels: &mut Vec<Vec<u64>>,
    root: &mut u64,
    len: usize,
    arity: usize,
    parent_of: impl Fn(&[u64]) -> u64,
) -> Result<(), TryReserveError> {
    let lens = || std::iter::successors(Some(len), |&len| Some(len.div_ceil(arity))).take_while(|&len| len > 1);
    let mut new_levels = Vec::new();
    for (depth, len) in lens().enumerate() {
        match levels.get_mut(depth) {
            Some(level) => level.try_reserve(len.saturating_sub(level.len()))?,
            None => {
                let mut level = Vec::new();
                level.try_reserve_exact(len)?;
                new_levels.try_reserve(1)?;
                new_levels.push(level);
            }
        }
    }
    levels.try_reserve(new_levels.len())?;
    levels.append(&mut new_levels);
    // All memory is there: nothing fails from here on.
    for (depth, len) in lens().enumerate() {
        let (below, level) = levels.split_at_mut(depth);
        match below.last() {
            Some(below) if level[0].is_empty() => level[0].extend(below.chunks(arity).map(&parent_of)),
            None if level[0].is_empty() => level[0].push(*root),
            _ => {}
        }
        if len > level[0].len() {
            level[0].resize(len, 0);
        }
    }
    if let Some(highest) = levels.last() {
        *root = parent_of(highest);
    }
    Ok(())
}

fn check_levels(levels: &[Vec<u64>], root: u64, arity: usize, parent_of: impl Fn(&[u64]) -> u64) {
    for pair in levels.windows(2) {
        assert!(pair[0].chunks(arity).map(&parent_of).eq(pair[1].iter().copied()), "a level is made of the one below");
    }
    if let Some(highest) = levels.last() {
        assert!(highest.len() <= arity && root == parent_of(highest), "the root is made of the highest level");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Grows in all ways over the limits of levels, beside a plain array.
    #[test]
    fn the_trees_say_what_a_search_through_all_numbers_says() {
        let (mut bits, mut maxima, mut shadow) = (BitTree::default(), MaxTree::default(), Vec::<u64>::new());
        let mut random = Random(1);
        for step in 0..3000 {
            let count = [1, 16, 17, 64, 65, 256, 4096, 4097, 5000][step / 400];
            if shadow.len() < count {
                bits.cover(count).unwrap();
                maxima.cover(count).unwrap();
                shadow.resize(count, 0);
            }
            let (index, number) = (random.below(count), random.below(50) as u64);
            shadow[index] = number;
            maxima.set(index, number);
            if number == 0 {
                bits.clear(index)
            } else {
                bits.set(index)
            }
            if step % 3 == 0 {
                maxima.raise(index, 25);
                shadow[index] = number.max(25);
                bits.set(index);
            }
            bits.check_invariants();
            maxima.check_invariants();
            assert_eq!(
                (bits.levels.is_empty(), maxima.levels.is_empty()),
                (count <= BIT_ARITY, count <= 1),
                "no memory"
            );
            assert_eq!(bits.first(), shadow.iter().position(|&number| number > 0));
            for wanted in [1, 25, 49] {
                let first = shadow.iter().position(|&number| number >= wanted);
                assert_eq!(maxima.first_at_least(wanted), first, "step {step}, at least {wanted}");
                let from = index + step % 3 * 20; // beyond the end too
                let first = shadow.iter().skip(from).position(|&number| number >= wanted).map(|i| i + from);
                assert_eq!(maxima.first_at_least_from(from, wanted), first, "step {step}, from {from}");
            }
        }
    }
}
