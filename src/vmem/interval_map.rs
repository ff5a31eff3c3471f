// SPDX-License-Identifier: MIT OR Apache-2.0
//! An ordered map from ranges of addresses to values. It keeps the longest runs of equal values as nodes of a treap: a search tree by
//! address, and a heap by random priorities. Each operation is O(log n) in the number of runs.
//!
//! The nodes are in one table. [`IntervalMap::make_room`] grows the table, and may fail. The next change then can't fail.

use super::error::{Error, Result};
use super::os;
use super::table::Table;

const NIL: u32 = u32::MAX;

/// A change adds at most two nodes: one for the new run, and one for the rest of an old run behind it. Debug builds count. (A larger number
/// would make the last call before memory runs out fail, and nothing else.)
const NODES_FOR_A_CHANGE: usize = 2;

/// `make_room` grows the table when fewer nodes are free. Growing needs a mapping. When the process has no mappings left, these nodes serve
/// the calls that free some.
const SPARE_NODES: usize = 64;
const _: () = assert!(NODES_FOR_A_CHANGE < SPARE_NODES && SPARE_NODES < WORTH_SHRINKING);

/// `shrink` leaves a table alone while it has fewer nodes.
const WORTH_SHRINKING: usize = 1024;

/// The addresses from `start` up to `end`, exclusive, and their value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run<V> {
    pub start: usize,
    pub end: usize,
    pub value: V,
}

#[derive(Clone, Copy)]
struct Node<V> {
    run: Run<V>,
    priority: u32,
    /// The tree of lower runs; in a free node, the next free node.
    left: u32,
    /// The tree of higher runs.
    right: u32,
}

pub struct IntervalMap<V> {
    nodes: Table<Node<V>>,
    root: u32,
    /// The first free node.
    free: u32,
    /// How many nodes are in the tree.
    live: usize,
    /// State of the generator of priorities (xorshift), never 0.
    random: u32,
}

impl<V: Copy + PartialEq> IntervalMap<V> {
    pub const fn new() -> Self {
        IntervalMap { nodes: Table::new(), root: NIL, free: NIL, live: 0, random: 0x9e37_79b9 }
    }

    /// Makes room for one change. Fails iff the table has too few free nodes for it and can't grow.
    pub fn make_room(&mut self) -> Result<()> {
        let free = self.nodes.capacity() - self.live;
        if free >= SPARE_NODES {
            return Ok(());
        }
        match self.nodes.grow(self.nodes.capacity() * 2) {
            Err(source) if free < NODES_FOR_A_CHANGE => Err(no_memory(source)),
            _ => Ok(()),
        }
    }

    /// Returns whether the map has no runs.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Returns the run that contains `address`, or else the first one behind it.
    pub fn at_or_after(&self, address: usize) -> Option<Run<V>> {
        self.find(address).map(|index| self.nodes[index].run)
    }

    /// As `at_or_after`, but returns the index of the node.
    fn find(&self, address: usize) -> Option<usize> {
        let mut found = None;
        let mut tree = self.root;
        while let Some(node) = self.nodes.get(tree as usize) {
            if node.run.end > address {
                found = Some(tree as usize);
                tree = node.left;
            } else {
                tree = node.right;
            }
        }
        found
    }

    /// Returns the run that contains `address`.
    pub fn at(&self, address: usize) -> Option<Run<V>> {
        self.at_or_after(address).filter(|run| run.start <= address)
    }

    /// Returns the runs that overlap the range, cut to it, in ascending order.
    pub fn runs(&self, start: usize, end: usize) -> impl Iterator<Item = Run<V>> {
        let mut from = start;
        std::iter::from_fn(move || {
            if from >= end {
                return None;
            }
            let run = self.at_or_after(from).filter(|run| run.start < end)?;
            let run = Run { start: run.start.max(from), end: run.end.min(end), value: run.value };
            from = run.end;
            Some(run)
        })
    }

    /// Returns the first address of the range that is in no run, or None.
    pub fn first_gap(&self, start: usize, end: usize) -> Option<usize> {
        let mut gap = start;
        for run in self.runs(start, end) {
            if run.start > gap {
                break;
            }
            gap = run.end;
        }
        (gap < end).then_some(gap)
    }

    /// Sets the value of the range. None removes the range from all runs. Precondition: `make_room` succeeded since the last change.
    pub fn assign(&mut self, start: usize, end: usize, value: Option<V>) {
        debug_assert!(start < end);
        let live_before = self.live;
        while let Some(index) = self.find(start) {
            let run = self.nodes[index].run;
            if run.start >= end {
                break;
            }
            match (run.start < start, run.end > end) {
                (false, false) => self.remove(run.start),
                (true, false) => self.nodes[index].run.end = start,
                (false, true) => self.nodes[index].run.start = end,
                (true, true) => {
                    self.nodes[index].run.end = start;
                    self.insert(Run { start: end, ..run });
                }
            }
        }
        if let Some(value) = value {
            self.join(Run { start, end, value });
        }
        debug_assert!(self.live <= live_before + NODES_FOR_A_CHANGE, "make_room made room for the new nodes");
        self.shrink();
        if cfg!(debug_assertions) && self.is_checked_now() {
            self.check_invariants();
        }
    }

    /// Returns whether debug builds check the map now: always if it is small, and sometimes if it is large. A check visits every node.
    pub fn is_checked_now(&self) -> bool {
        self.live <= 64 || self.random % 1024 == 0
    }

    /// Panics if an invariant does not hold:
    /// - Runs are not empty, ascend, and do not touch a run of the same value.
    /// - No node has a higher priority than its parent.
    /// - Each node is in the tree or in the list of free nodes, and `live` counts those in the tree.
    pub fn check_invariants(&self) {
        let mut last: Option<Run<V>> = None;
        let live = self.check_tree(self.root, u32::MAX, &mut last);
        assert_eq!(live, self.live);
        let mut free = 0;
        let mut next = self.free;
        while let Some(node) = self.nodes.get(next as usize) {
            free += 1;
            assert!(live + free <= self.nodes.len(), "the list of free nodes has a circle or a live node");
            next = node.left;
        }
        assert!(next == NIL && live + free == self.nodes.len());
    }

    /// Checks a tree, and returns the number of its nodes. `last` is the run before the tree, and becomes the last run of the tree.
    fn check_tree(&self, tree: u32, priority: u32, last: &mut Option<Run<V>>) -> usize {
        if tree == NIL {
            return 0;
        }
        let node = self.nodes[tree as usize];
        assert!(node.priority <= priority);
        let below = self.check_tree(node.left, node.priority, last);
        let apart =
            |last: &Run<V>| last.end < node.run.start || (last.end == node.run.start && last.value != node.run.value);
        assert!(node.run.start < node.run.end && last.as_ref().is_none_or(apart));
        *last = Some(node.run);
        below + 1 + self.check_tree(node.right, node.priority, last)
    }

    /// Inserts a run, and joins it with adjacent runs of the same value. Precondition: no run overlaps it.
    fn join(&mut self, run: Run<V>) {
        let below = run.start.checked_sub(1).and_then(|before| self.find(before));
        let below = below.filter(|&i| self.nodes[i].run.end == run.start && self.nodes[i].run.value == run.value);
        let above = self.find(run.end);
        let above = above.filter(|&i| self.nodes[i].run.start == run.end && self.nodes[i].run.value == run.value);
        match (below, above) {
            (None, None) => self.insert(run),
            (Some(below), None) => self.nodes[below].run.end = run.end,
            (None, Some(above)) => self.nodes[above].run.start = run.start,
            (Some(below), Some(above)) => {
                let last = self.nodes[above].run;
                self.remove(last.start);
                self.nodes[below].run.end = last.end;
            }
        }
    }

    /// Removes all runs, and frees the table.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Inserts a node for the run. Preconditions: no run overlaps it, and a node is free.
    fn insert(&mut self, run: Run<V>) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let priority = self.random;
        let (mut tree, mut parent) = (self.root, NIL);
        while let Some(node) = self.nodes.get(tree as usize).filter(|node| node.priority >= priority) {
            parent = tree;
            tree = if run.start < node.run.start { node.left } else { node.right };
        }
        let (left, right) = self.split(tree, run.start);
        let node = Node { run, priority, left, right };
        self.live += 1;
        let new = self.free;
        if new == NIL {
            self.nodes.push(node); // below the capacity, by make_room
            self.set_child(parent, run.start, (self.nodes.len() - 1) as u32);
        } else {
            self.free = self.nodes[new as usize].left;
            self.nodes[new as usize] = node;
            self.set_child(parent, run.start, new);
        }
    }

    /// Removes the run that starts at `start`, if one does.
    fn remove(&mut self, start: usize) {
        let (mut tree, mut parent) = (self.root, NIL);
        while let Some(node) = self.nodes.get(tree as usize) {
            if node.run.start == start {
                let rest = self.merge(node.left, node.right);
                self.set_child(parent, start, rest);
                self.nodes[tree as usize].left = self.free;
                self.free = tree;
                self.live -= 1;
                return;
            }
            parent = tree;
            tree = if start < node.run.start { node.left } else { node.right };
        }
    }

    /// Makes `child` the left or right tree of `parent`, on the side where a run at `start` belongs; the root, if `parent` is NIL.
    fn set_child(&mut self, parent: u32, start: usize, child: u32) {
        match self.nodes.get_mut(parent as usize) {
            None => self.root = child,
            Some(node) if start < node.run.start => node.left = child,
            Some(node) => node.right = child,
        }
    }

    /// Splits a tree into two, and returns them: the runs that start below `boundary`, and the others.
    fn split(&mut self, tree: u32, boundary: usize) -> (u32, u32) {
        if tree == NIL {
            return (NIL, NIL);
        }
        let node = self.nodes[tree as usize];
        if node.run.start < boundary {
            let (below, above) = self.split(node.right, boundary);
            self.nodes[tree as usize].right = below;
            (tree, above)
        } else {
            let (below, above) = self.split(node.left, boundary);
            self.nodes[tree as usize].left = above;
            (below, tree)
        }
    }

    /// Merges two trees into one, and returns it. Precondition: every run of `below` is below every run of `above`.
    fn merge(&mut self, below: u32, above: u32) -> u32 {
        if below == NIL || above == NIL {
            return if below == NIL { above } else { below };
        }
        let (a, b) = (self.nodes[below as usize], self.nodes[above as usize]);
        if a.priority >= b.priority {
            let right = self.merge(a.right, above);
            self.nodes[below as usize].right = right;
            below
        } else {
            let left = self.merge(below, b.left);
            self.nodes[above as usize].left = left;
            above
        }
    }

    /// Moves the nodes to a smaller table if most are free. If no memory is left for the smaller one, keeps the large one.
    fn shrink(&mut self) {
        if self.nodes.len() < WORTH_SHRINKING || self.live > self.nodes.len() / 4 {
            return;
        }
        let mut smaller = Self::new();
        if smaller.nodes.grow(self.live * 2 + SPARE_NODES).is_err() {
            return;
        }
        for run in self.runs(0, usize::MAX) {
            smaller.insert(run);
        }
        *self = smaller;
    }
}

/// Returns the error of a table that can't grow.
fn no_memory(source: os::SystemError) -> Error {
    Error::System { doing: "map pages for the registry of reservations", range: None, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The longest runs of equal values in `shadow`.
    fn runs_of(shadow: &[Option<u8>]) -> Vec<Run<u8>> {
        let mut runs: Vec<Run<u8>> = Vec::new();
        for (at, value) in shadow.iter().enumerate() {
            let Some(value) = *value else { continue };
            match runs.last_mut() {
                Some(run) if run.end == at && run.value == value => run.end += 1,
                _ => runs.push(Run { start: at, end: at + 1, value }),
            }
        }
        runs
    }

    #[test]
    fn behaves_as_an_array_of_values() {
        let mut random = Random(1);
        for size in [5, 40, 300] {
            let mut map = IntervalMap::new();
            let mut shadow = vec![None; size];
            for _ in 0..3000 {
                let start = random.below(size);
                let end = start + 1 + random.below((size - start).min(1 + size / 4));
                let value = (random.below(3) > 0).then(|| random.below(3) as u8);
                map.make_room().unwrap();
                map.assign(start, end, value);
                shadow[start..end].fill(value);
                let want = runs_of(&shadow);
                assert_eq!(map.runs(0, size).collect::<Vec<_>>(), want);
                assert_eq!(map.live, want.len());
                let (from, to) = (random.below(size), size - random.below(size / 2));
                if from < to {
                    let gap = (from..to).find(|&at| shadow[at].is_none());
                    assert_eq!(map.first_gap(from, to), gap);
                }
                assert_eq!(map.at(from).map(|run| run.value), shadow[from]);
            }
        }
    }

    #[test]
    fn a_change_stays_within_the_room_that_was_made() {
        let mut random = Random(2);
        let mut map = IntervalMap::new();
        for _ in 0..20_000 {
            let start = random.below(10_000);
            map.make_room().unwrap();
            let capacity = map.nodes.capacity();
            map.assign(start, start + 1 + random.below(20), (random.below(4) > 0).then_some(start));
            assert!(map.nodes.capacity() <= capacity);
        }
    }

    #[test]
    fn memory_follows_the_number_of_runs() {
        let mut map = IntervalMap::new();
        for at in 0..100_000 {
            map.make_room().unwrap();
            map.assign(2 * at, 2 * at + 1, Some(()));
        }
        assert_eq!(map.live, 100_000);
        for at in 10..100_000 {
            map.make_room().unwrap();
            map.assign(2 * at, 2 * at + 1, None);
        }
        assert_eq!(map.runs(0, usize::MAX).count(), 10);
        assert!(map.nodes.capacity() < 2 * WORTH_SHRINKING, "{}", map.nodes.capacity());
    }

    #[test]
    fn one_change_empties_or_fills_a_large_map() {
        for (value, runs) in [(None, 0), (Some(1_u8), 1)] {
            let mut map = IntervalMap::new();
            for at in 0..100_000 {
                map.make_room().unwrap();
                map.assign(2 * at + 1, 2 * at + 2, Some(at as u8));
            }
            map.make_room().unwrap();
            map.assign(1, 200_000, value);
            assert_eq!(map.runs(0, usize::MAX).count(), runs);
            assert_eq!(map.live, runs);
            assert!(map.nodes.capacity() < 2 * WORTH_SHRINKING, "{}", map.nodes.capacity());
            for at in 0..10_000 {
                map.make_room().unwrap();
                map.assign(2 * at + 1, 2 * at + 2, Some(7));
            }
            assert_eq!(map.live, 10_000 * (1 + runs));
        }
    }

    #[test]
    fn the_tree_is_shallow_when_filled_in_order() {
        fn depth<V>(map: &IntervalMap<V>, tree: u32) -> u32 {
            map.nodes.get(tree as usize).map_or(0, |node| 1 + depth(map, node.left).max(depth(map, node.right)))
        }
        let mut map = IntervalMap::new();
        for at in 0..65_536 {
            map.make_room().unwrap();
            map.assign(2 * at, 2 * at + 1, Some(()));
        }
        assert!(depth(&map, map.root) < 64);
    }
}
