//! An ordered map from ranges of addresses to values, kept as the longest runs of equal values: a treap (a search tree by address, a
//! heap by random priorities), so that everything is O(log n) in the number of runs. Its nodes lie in one vector, whose growth is
//! asked for beforehand: [`IntervalMap::make_room`] may fail, a change never does.

use std::collections::TryReserveError;

const NIL: u32 = u32::MAX;

/// A change makes at most three nodes: two for what sticks out at the ends, one for the new run.
const NODES_FOR_A_CHANGE: usize = 3;

/// Below this many nodes their memory is not given back before the map is dropped.
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
    /// Runs below this one; in a free node, the next free node.
    left: u32,
    right: u32,
}

pub struct IntervalMap<V> {
    nodes: Vec<Node<V>>,
    root: u32,
    free: u32,
    live: usize,
    random: u32,
}

impl<V: Copy + PartialEq> IntervalMap<V> {
    pub const fn new() -> Self {
        IntervalMap { nodes: Vec::new(), root: NIL, free: NIL, live: 0, random: 0x9e37_79b9 }
    }

    /// Fails iff there is no memory for one more change.
    pub fn make_room(&mut self) -> Result<(), TryReserveError> {
        let free = self.nodes.len() - self.live;
        self.nodes.try_reserve(NODES_FOR_A_CHANGE.saturating_sub(free))
    }

    /// The run that contains `address`, or else the first one behind it.
    pub fn at_or_after(&self, address: usize) -> Option<Run<V>> {
        let mut found = None;
        let mut tree = self.root;
        while let Some(node) = self.nodes.get(tree as usize) {
            if node.run.end > address {
                found = Some(node.run);
                tree = node.left;
            } else {
                tree = node.right;
            }
        }
        found
    }

    /// The run that contains `address`.
    pub fn at(&self, address: usize) -> Option<Run<V>> {
        self.at_or_after(address).filter(|run| run.start <= address)
    }

    /// The runs that touch the range, cut to it, in order.
    pub fn runs(&self, start: usize, end: usize) -> impl Iterator<Item = Run<V>> {
        let mut from = start;
        std::iter::from_fn(move || {
            let run = self.at_or_after(from).filter(|run| run.start < end && from < end)?;
            let run = Run { start: run.start.max(from), end: run.end.min(end), value: run.value };
            from = run.end;
            Some(run)
        })
    }

    /// The first address of the range that is in no run.
    pub fn first_gap(&self, start: usize, end: usize) -> Option<usize> {
        let mut at = start;
        for run in self.runs(start, end) {
            if run.start > at {
                break;
            }
            at = run.end;
        }
        (at < end).then_some(at)
    }

    /// Gives the range this value; with None it is in no run afterwards. `make_room` succeeded since the last change.
    pub fn assign(&mut self, mut start: usize, mut end: usize, value: Option<V>) {
        debug_assert!(start < end);
        let touched = self.at_or_after(start.saturating_sub(1)).filter(|run| run.start <= end);
        if touched.is_none() && value.is_none() {
            return;
        }
        if let Some(first) = touched.filter(|run| Some(run.value) == value) {
            start = start.min(first.start);
        }
        if let Some(last) = self.at(end).filter(|run| Some(run.value) == value) {
            end = end.max(last.end);
        }
        self.cut(start);
        self.cut(end);
        let (below, rest) = self.split(self.root, start);
        let (replaced, above) = self.split(rest, end);
        self.discard(replaced);
        let middle = value.map_or(NIL, |value| self.node(Run { start, end, value }));
        let below = self.merge(below, middle);
        self.root = self.merge(below, above);
        self.shrink();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Makes two runs of the one that `at` is inside of.
    fn cut(&mut self, at: usize) {
        let mut tree = self.root;
        while let Some(node) = self.nodes.get_mut(tree as usize) {
            if node.run.end <= at {
                tree = node.right;
            } else if node.run.start >= at {
                tree = node.left;
            } else {
                let upper = Run { start: at, ..node.run };
                node.run.end = at;
                let (below, above) = self.split(self.root, at);
                let upper = self.node(upper);
                let below = self.merge(below, upper);
                self.root = self.merge(below, above);
                return;
            }
        }
    }

    fn node(&mut self, run: Run<V>) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.live += 1;
        let node = Node { run, priority: self.random, left: NIL, right: NIL };
        let index = self.free;
        if index == NIL {
            self.nodes.push(node); // within the capacity, by make_room
            return (self.nodes.len() - 1) as u32;
        }
        self.free = self.nodes[index as usize].left;
        self.nodes[index as usize] = node;
        index
    }

    fn discard(&mut self, tree: u32) {
        if tree == NIL {
            return;
        }
        let node = self.nodes[tree as usize];
        self.discard(node.left);
        self.discard(node.right);
        self.nodes[tree as usize].left = self.free;
        self.free = tree;
        self.live -= 1;
    }

    /// Two trees: the runs that start below `at`, and the others.
    fn split(&mut self, tree: u32, at: usize) -> (u32, u32) {
        if tree == NIL {
            return (NIL, NIL);
        }
        let node = self.nodes[tree as usize];
        if node.run.start < at {
            let (below, above) = self.split(node.right, at);
            self.nodes[tree as usize].right = below;
            (tree, above)
        } else {
            let (below, above) = self.split(node.left, at);
            self.nodes[tree as usize].left = above;
            (below, tree)
        }
    }

    /// One tree of two; every run of the first is below every run of the second.
    fn merge(&mut self, below: u32, above: u32) -> u32 {
        if below == NIL || above == NIL {
            return if below == NIL { above } else { below };
        }
        let (a, b) = (self.nodes[below as usize], self.nodes[above as usize]);
        if a.priority > b.priority {
            let right = self.merge(a.right, above);
            self.nodes[below as usize].right = right;
            below
        } else {
            let left = self.merge(below, b.left);
            self.nodes[above as usize].left = left;
            above
        }
    }

    /// Gives memory back when most nodes are free.
    fn shrink(&mut self) {
        if self.nodes.len() < WORTH_SHRINKING || self.live > self.nodes.len() / 4 {
            return;
        }
        let mut smaller = Self::new();
        if smaller.nodes.try_reserve(self.live * 2 + NODES_FOR_A_CHANGE).is_err() {
            return;
        }
        for run in self.runs(0, usize::MAX) {
            let node = smaller.node(run);
            smaller.root = smaller.merge(smaller.root, node);
        }
        *self = smaller;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % n
        }
    }

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
