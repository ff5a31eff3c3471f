//! The free blocks of [`NODE`] words and more, which are all that an allocation fits into, as a tree in the free blocks themselves.
//!
//! ```text
//!     free block     -length | left | right | longest | ........ | -length
//!                       0       1       2        3                length-1
//! ```
//!
//! A block's *key* is its index in the pool. The node at depth d stands for all keys that share their first d bits with its own: the
//! root for all, its left child for those whose first bit is 0, its right child for those whose first bit is 1, and so on. Which of
//! those blocks is the node is left open, so that a block is added where a path ends and removed by putting any leaf below into its
//! place: no rotation, no rank, and a depth that cannot exceed the bits of an index.
//!
//! ```text
//!     keys of 4 bits:                 0110                 all
//!                                    /    \
//!                                0011      1110            0xxx, 1xxx
//!                               /   \      /
//!                           0000   0100  1001              00xx, 01xx, 10xx
//! ```
//!
//! Everything in a left subtree lies before everything in the right one, and `longest` is the length of the longest block of the
//! subtree with its root, so that the first block that is long enough is found on one path. A link is 1 + the key, or 0. Keys do not
//! change when the pool moves.
//!
//! Each link is checked as it is followed: it must lead to a free block whose key has the right first bits and whose [`seal`] is that of
//! its depth. Only one block is both: a damaged link leads where it did before, or nowhere, or to a fault, and no way goes in circles.
//!
//! Each change first reads all that it needs and then writes: a fault leaves the tree as it was.

use super::block::{Extent, Fault, Result, free_at};
use super::layout::*;
use core::mem::MaybeUninit;
use core::ops::Range;

const LEFT: usize = 1;
const RIGHT: usize = 2;
const LONGEST: usize = 3;

const _: () = {
    assert!(NODE == LONGEST + 2, "a node has its length at both ends, and its links and `longest` between");
    assert!(HEADER >= NODE, "a block that is freed is a node, and no block fits into a free one that is not");
};

/// The nodes from the root to the one in question, as long as the tree does not change.
pub(crate) struct Path {
    /// The first `len` are initialized. (To do that with all of them would take longer than the search.)
    nodes: [MaybeUninit<usize>; usize::BITS as usize + 1],
    len: usize,
}

impl Path {
    #[inline(always)]
    pub fn new() -> Self {
        Path { nodes: [const { MaybeUninit::uninit() }; usize::BITS as usize + 1], len: 0 }
    }

    fn push(&mut self, node: usize) {
        self.nodes[self.len].write(node);
        self.len += 1;
    }

    #[inline]
    fn at(&self, level: usize) -> usize {
        assert!(level < self.len, "beyond the path");
        // SAFETY: `push` has written the first `len`.
        unsafe { self.nodes[level].assume_init() }
    }

    fn last(&self) -> usize {
        self.at(self.len - 1)
    }

    /// Forgets the nodes from `len` on.
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn leads_to(&self, node: usize) -> bool {
        self.len > 0 && self.last() == node
    }
}

/// The words of a free block that is a node.
#[derive(Clone, Copy)]
struct Node {
    at: usize,
    len: usize,
    left: usize,
    right: usize,
    longest: usize,
}

struct Tree<'a> {
    ctx: &'a Context,
    pool: Pool,
    /// No node lies here or behind.
    limit: usize,
    key_bits: usize,
    /// The bits of an index.
    index: usize,
}

impl<'a> Tree<'a> {
    fn new(ctx: &'a Context) -> Self {
        let key_bits = ctx.key_bits.get();
        Tree { ctx, pool: ctx.pool(), limit: ctx.end().saturating_sub(NODE), key_bits, index: (1 << key_bits) - 1 }
    }

    #[cold]
    fn fault<T>(&self, at: usize) -> Result<T> {
        Err(Fault::new(self.pool, at, "the tree of free blocks is damaged"))
    }

    /// LEFT or RIGHT: where a key, or a node below, is from the node at `depth` on its way.
    fn side(&self, key: usize, depth: usize) -> usize {
        LEFT + ((key >> (self.key_bits - 1 - depth)) & 1)
    }

    /// Whether two keys share the first `depth` bits.
    fn akin(&self, a: usize, b: usize, depth: usize) -> bool {
        (a ^ b) >> (self.key_bits - depth) == 0
    }

    fn longest(&self, node: usize) -> usize {
        self.pool.get(node + LONGEST)
    }

    /// A node's link: LEFT or RIGHT.
    fn link(&self, node: usize, side: usize) -> usize {
        self.pool.get(node + side) & self.index
    }

    fn set_link(&self, node: usize, side: usize, link: usize) {
        self.pool.set(node + side, (self.pool.get(node + side) & !self.index) | link);
    }

    /// Makes the free block `key` of `len` words a node at `depth`.
    fn set_node(&self, key: usize, len: usize, depth: usize, [left, right]: [usize; 2], longest: usize) {
        let seal = seal(key, len.wrapping_neg(), depth) & !self.index;
        self.pool.set(key + LEFT, seal | left);
        self.pool.set(key + RIGHT, seal | right);
        self.pool.set(key + LONGEST, longest);
    }

    fn links(&self, node: usize) -> [usize; 2] {
        [self.link(node, LEFT), self.link(node, RIGHT)]
    }

    /// Follows a link to a node at `depth`, in the subtree that `probe` belongs to.
    #[inline(always)]
    fn follow(&self, from: usize, link: usize, probe: usize, depth: usize) -> Result<Node> {
        let at = link.wrapping_sub(1);
        if at >= self.limit || !self.akin(at, probe, depth) {
            return self.fault(from);
        }
        let [length, left, right, longest] = self.pool.get_all(at);
        let seal = seal(at, length, depth);
        if ((left ^ seal) | (right ^ seal)) & !self.index != 0 {
            return self.fault(from);
        }
        Ok(self.node(at, [length, left, right, longest]))
    }

    #[inline(always)]
    fn node(&self, at: usize, [length, left, right, longest]: [usize; 4]) -> Node {
        Node { at, len: length.wrapping_neg(), left: left & self.index, right: right & self.index, longest }
    }

    /// A node that has been followed to.
    #[inline(always)]
    fn known(&self, at: usize) -> Node {
        self.node(at, self.pool.get_all(at))
    }

    /// The child on one side of a node at `depth`.
    #[inline(always)]
    fn child(&self, node: Node, depth: usize, side: usize) -> Result<Option<Node>> {
        let link = self.link(node.at, side); // which side it is can't be predicted: no branch
        if link == 0 {
            return Ok(None);
        }
        if depth >= self.key_bits {
            return self.fault(node.at);
        }
        let bit = self.key_bits - 1 - depth;
        let probe = (node.at & !(1 << bit)) | ((side - LEFT) << bit);
        self.follow(node.at, link, probe, depth + 1).map(Some)
    }

    /// The longest block in the subtree on one side of a node at `depth`, 0 if there is none.
    #[inline(always)]
    fn longest_on(&self, node: Node, depth: usize, side: usize) -> Result<usize> {
        Ok(self.child(node, depth, side)?.map_or(0, |child| child.longest))
    }

    /// Visits the nodes on the way to `key`, or to where it would be added.
    #[inline]
    fn walk(&self, key: usize, mut visit: impl FnMut(usize)) -> Result<()> {
        let (mut from, mut link, mut depth) = (key, self.ctx.root.get(), 0);
        while link != 0 {
            let node = self.follow(from, link, key, depth)?;
            visit(node.at);
            if node.at == key {
                break;
            }
            link = self.link(node.at, self.side(key, depth));
            from = node.at;
            depth += 1;
        }
        Ok(())
    }

    /// Makes `path` the one to `key`, or to where it would be added.
    fn descend(&self, path: &mut Path, key: usize) -> Result<()> {
        path.truncate(0);
        self.walk(key, |node| path.push(node))
    }

    /// Makes `path` the one to `key`, which has to be there.
    fn find(&self, path: &mut Path, key: usize) -> Result<Node> {
        if !path.leads_to(key) {
            self.descend(path, key)?;
            if !path.leads_to(key) {
                return self.fault(key);
            }
        }
        Ok(self.known(key))
    }

    /// Makes the link that leads to the last node of the path lead elsewhere.
    fn relink(&self, path: &Path, link: usize) {
        match path.len.checked_sub(2) {
            None => self.ctx.root.set(link),
            Some(depth) => self.set_link(path.at(depth), self.side(path.last(), depth), link),
        }
    }

    /// The new `longest` of the node at `level` of the path: the node is `len` words long, and its child on the path has `below`.
    #[inline(always)]
    fn longest_with(&self, path: &Path, level: usize, node: Node, len: usize, below: usize) -> Result<usize> {
        let other = LEFT + RIGHT - self.side(path.at(level + 1), level);
        Ok(len.max(below).max(self.longest_on(node, level, other)?))
    }

    /// Corrects `longest` of the nodes at `levels` when that of the child below them changes from `old` to `new`; or only tries
    /// whether that can be done. Returns the `longest` of the topmost node then.
    #[inline]
    fn settle(&self, path: &Path, levels: Range<usize>, mut old: usize, mut new: usize, write: bool) -> Result<usize> {
        for level in levels.clone().rev() {
            let node = self.known(path.at(level));
            let current = node.longest;
            let settled = if new >= old {
                current.max(new)
            } else if current > old {
                current // it is another's
            } else {
                self.longest_with(path, level, node, node.len, new)?
            };
            if settled == current {
                return Ok(self.longest(path.at(levels.start)));
            }
            if write {
                self.pool.set(node.at + LONGEST, settled);
            }
            (old, new) = (current, settled);
        }
        Ok(new)
    }

    fn insert(&self, path: &mut Path, free: Extent) -> Result<()> {
        let Extent { start: key, len } = free;
        self.descend(path, key)?;
        if path.leads_to(key) {
            return self.fault(key);
        }
        for node in (0..path.len).map(|level| path.at(level)) {
            if self.longest(node) < len {
                self.pool.set(node + LONGEST, len);
            }
        }
        match path.len.checked_sub(1) {
            None => self.ctx.root.set(key + 1),
            Some(depth) => self.set_link(path.at(depth), self.side(key, depth), key + 1),
        }
        self.set_node(key, len, path.len, [0, 0], len);
        path.truncate(0);
        Ok(())
    }

    /// `old` becomes the block `new`, which may start elsewhere if the key may stand in the place of the old one. False if it may not.
    /// Without `commit` it is only tried.
    fn replace(&self, path: &mut Path, old: usize, new: Extent, commit: bool) -> Result<bool> {
        let Extent { start: key, len } = new;
        let node = self.find(path, old)?;
        let depth = path.len - 1;
        if !self.akin(old, key, depth) {
            return Ok(false);
        }
        let longest = len.max(self.longest_on(node, depth, LEFT)?).max(self.longest_on(node, depth, RIGHT)?);
        let before = node.longest;
        if longest < before {
            self.settle(path, 0..depth, before, longest, false)?;
        }
        if !commit {
            return Ok(true);
        }
        self.settle(path, 0..depth, before, longest, true)?;
        if key != old {
            self.relink(path, key + 1);
            forget(self.pool, old, NODE);
        }
        self.set_node(key, len, depth, [node.left, node.right], longest);
        path.truncate(0);
        Ok(true)
    }

    /// Takes a block out: some leaf below it comes into its place. Without `commit` it is only tried.
    fn remove(&self, path: &mut Path, key: usize, commit: bool) -> Result<()> {
        let node = self.find(path, key)?;
        let depth = path.len - 1;
        let mut leaf = node;
        loop {
            let level = path.len - 1;
            let side = if leaf.left != 0 { LEFT } else { RIGHT };
            let Some(child) = self.child(leaf, level, side)? else { break };
            leaf = child;
            path.push(leaf.at);
        }
        let bottom = path.len - 1;

        // `longest` from the leaf's parent up to below where the leaf goes, there, and above.
        let mut longest = 0;
        for write in [false, true] {
            if write && !commit {
                return Ok(());
            }
            let mut new = 0;
            if leaf.at != key {
                let below = self.settle(path, depth + 1..bottom, leaf.longest, 0, write)?;
                new = self.longest_with(path, depth, node, leaf.len, below)?;
            }
            self.settle(path, 0..depth, node.longest, new, write)?;
            longest = new;
        }

        self.relink(path, 0);
        if leaf.at != key {
            self.set_node(leaf.at, leaf.len, depth, self.links(key), longest);
            path.truncate(depth + 1);
            self.relink(path, leaf.at + 1);
        }
        forget(self.pool, key, NODE);
        path.truncate(0);
        Ok(())
    }

    /// Makes sure that these changes can be made.
    fn prepare(&self, path: &mut Path, changes: &[Change]) -> Result<()> {
        for &change in changes {
            match in_tree(change) {
                (None, None) => {}
                (None, Some(new)) => self.walk(new.start, |_| {})?,
                (Some(old), None) => self.remove(path, old.start, false)?,
                (Some(old), Some(new)) => {
                    if !self.replace(path, old.start, new, false)? {
                        self.walk(new.start, |_| {})?;
                        self.remove(path, old.start, false)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn first_fit(&self, path: &mut Path, words: usize) -> Result<Option<usize>> {
        path.truncate(0);
        let root = self.ctx.root.get();
        if root == 0 {
            return Ok(None);
        }
        let (mut best, mut best_len, mut node) = (None, 0, self.follow(0, root, 0, 0)?);
        if node.longest < words {
            return Ok(None);
        }
        let (mut depth, mut low) = (0, 0); // the subtree's first key
        // Here a block in the subtree of `node` fits.
        loop {
            path.push(node.at);
            if node.len >= words && best.is_none_or(|best| node.at < best) {
                (best, best_len) = (Some(node.at), path.len);
            }
            if depth == self.key_bits {
                break;
            }
            let middle = low | (1 << (self.key_bits - 1 - depth));
            let mut next = None;
            if node.left != 0 && best.is_none_or(|best| best > low) {
                let child = self.follow(node.at, node.left, low, depth + 1)?;
                next = (child.longest >= words).then_some((child, low));
            }
            if next.is_none() && node.right != 0 && best.is_none_or(|best| best > middle) {
                let child = self.follow(node.at, node.right, middle, depth + 1)?;
                next = (child.longest >= words).then_some((child, middle));
            }
            let Some(next) = next else { break };
            (node, low) = next;
            depth += 1;
        }
        path.truncate(best_len);
        match best {
            Some(_) => Ok(best),
            None => self.fault(node.at),
        }
    }
}

/// The seal of a node with this first word at this depth: the bits of LEFT and RIGHT that no index needs. The two uppermost are 01, as in
/// no number near 0. [`forget`] removes it when the block stops being a node, so that its old words are not followed as a node.
#[inline]
fn seal(node: usize, length: usize, depth: usize) -> usize {
    const ODD: usize = (0x9E37_79B9_7F4A_7C15_u64 >> (u64::BITS - usize::BITS)) as usize | 1;
    let mix = (node ^ length.rotate_left(usize::BITS / 2)).wrapping_add(depth).wrapping_mul(ODD);
    (mix >> 2) | (1 << (usize::BITS - 2))
}

/// Makes a free block a node no more.
pub(crate) fn forget(pool: Pool, start: usize, len: usize) {
    if len >= NODE {
        pool.set(start + LEFT, 0);
    }
}

/// Writes a free block's length at its ends.
pub(crate) fn mark(pool: Pool, free: Extent) {
    let length = free.len.wrapping_neg();
    pool.set(free.start, length);
    pool.set(free.end() - 1, length);
}

/// The first block of at least `words` words. `path` leads to it.
pub(crate) fn first_fit(ctx: &Context, path: &mut Path, words: usize) -> Result<Option<Extent>> {
    let tree = Tree::new(ctx);
    let Some(start) = tree.first_fit(path, words)? else { return Ok(None) };
    let len = free_at(ctx, tree.pool, start)?;
    if len < words { tree.fault(start) } else { Ok(Some(Extent { start, len })) }
}

/// A change of one free block: `old` becomes `new`. Without `old` it is added, without `new` it is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub old: Option<Extent>,
    pub new: Option<Extent>,
}

/// The blocks of a change that are nodes.
fn in_tree(change: Change) -> (Option<Extent>, Option<Extent>) {
    let large = |block: &Extent| block.len >= NODE;
    (change.old.filter(large), change.new.filter(large))
}

/// Makes sure that `exchange` will not fail.
pub(crate) fn prepare(ctx: &Context, changes: &[Change]) -> Result<()> {
    Tree::new(ctx).prepare(&mut Path::new(), changes)
}

/// Some free blocks become others in one go: the tree and both ends of the new ones are written, their sum counted.
/// A new block beside an old one takes its place in the tree if it can. `path` is a new one, or that of `first_fit`.
///
/// On a fault nothing has changed, even if one word of the tree is damaged. Order of work: all changes but the first are tried; the
/// first fails before it writes; the others can't fail then. That holds because each of the others adds a block, or makes one longer at
/// its end, and so reads the nodes on the way to its place only (and the children of a block that is made longer). The first change leaves
/// those nodes where they were, or replaces one by a node that it has read or written itself. Removing a block would read more, beside the
/// way, and how far may depend on the first change: only the first may do that.
pub(crate) fn exchange<const N: usize>(ctx: &Context, path: &mut Path, changes: [Change; N]) -> Result<()> {
    let tree = Tree::new(ctx);
    let others = changes.get(1..).unwrap_or_default();
    debug_assert!(others.iter().all(|&change| match in_tree(change) {
        (Some(old), Some(new)) => old.start == new.start && old.len <= new.len,
        (old, _) => old.is_none(),
    }));
    // The first change fails before it writes. Make sure that the others will not.
    tree.prepare(path, others)?;
    let mut sum = ctx.free_words.get();
    for change in changes {
        match in_tree(change) {
            (None, None) => {}
            (None, Some(new)) => tree.insert(path, new)?,
            (Some(old), None) => tree.remove(path, old.start, true)?,
            (Some(old), Some(new)) => {
                if !tree.replace(path, old.start, new, true)? {
                    tree.walk(new.start, |_| {})?;
                    tree.remove(path, old.start, true)?;
                    tree.insert(path, new)?;
                }
            }
        }
        if let Some(old) = change.old {
            sum = sum.wrapping_sub(old.len);
        }
        if let Some(new) = change.new {
            sum = sum.wrapping_add(new.len);
            mark(tree.pool, new);
        }
    }
    ctx.free_words.set(sum);
    Ok(())
}

/// Adds a free block that is already counted.
pub(crate) fn add(ctx: &Context, free: Extent) -> Result<()> {
    let tree = Tree::new(ctx);
    mark(tree.pool, free);
    if free.len >= NODE { tree.insert(&mut Path::new(), free) } else { Ok(()) }
}

/// Takes a free block out of the tree, as it may be gone or longer soon. It stays counted.
pub(crate) fn take(ctx: &Context, free: Extent) -> Result<()> {
    if free.len >= NODE { Tree::new(ctx).remove(&mut Path::new(), free.start, true) } else { Ok(()) }
}

/// Makes sure that a free block can be added at `start` while no other one is.
pub(crate) fn check_way(ctx: &Context, start: usize) -> Result<()> {
    Tree::new(ctx).walk(start, |_| {})
}

/// The length of the longest free block, 0 if all are shorter than [`NODE`].
pub(crate) fn longest(ctx: &Context) -> Result<usize> {
    let tree = Tree::new(ctx);
    match ctx.root.get() {
        0 => Ok(0),
        root => Ok(tree.follow(0, root, 0, 0)?.longest),
    }
}

/// Checks the node of a free block: that it is found, that `longest` is right, and how many children it has.
pub(crate) fn check_node(ctx: &Context, start: usize) -> Result<usize> {
    let tree = Tree::new(ctx);
    let mut path = Path::new();
    let node = tree.find(&mut path, start)?;
    let depth = path.len - 1;
    let below = tree.longest_on(node, depth, LEFT)?.max(tree.longest_on(node, depth, RIGHT)?);
    if node.longest != node.len.max(below) {
        return tree.fault(start);
    }
    Ok(usize::from(node.left != 0) + usize::from(node.right != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const WORDS: usize = 1 << 14;

    /// Beside a list of the same blocks, which is searched from its start.
    #[test]
    fn the_first_block_that_fits_is_the_one_that_a_walk_finds() {
        for seed in 1..6u64 {
            let mut memory = vec![0usize; WORDS];
            let ctx = Context::new();
            // SAFETY: the memory outlives the context and nothing else uses it.
            unsafe { ctx.set_pool(memory.as_mut_ptr(), WORDS) };
            ctx.set_end(WORDS);
            let mut twin = BTreeMap::new();
            let mut state = seed;
            let mut random = |below: usize| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize % below
            };
            for _ in 0..20_000 {
                let some = twin.range(random(WORDS)..).next().map(|(&start, &len)| Extent { start, len });
                // Where a block may be: between its neighbours in the list, and not up to the end of the pool.
                let at = random(WORDS - 100);
                let before = twin.range(..=at).next_back().map_or(0, |(start, len)| start + len);
                let behind = twin.range(at..).next().map_or(WORDS - 1, |(&start, _)| start);
                let new = (before <= at && at + 1 < behind)
                    .then(|| Extent { start: at, len: 1 + random((behind - at - 1).min(60)) });
                let change = match (random(3), some, new) {
                    (0, Some(_), _) => Change { old: some, new: None },
                    // A part of it, as an allocation leaves it.
                    (1, Some(old), _) => {
                        let cut = random(old.len);
                        Change { old: some, new: Some(Extent { start: old.start + cut, len: old.len - cut }) }
                    }
                    _ => Change { old: None, new },
                };
                exchange(&ctx, &mut Path::new(), [change]).unwrap();
                if let Some(old) = change.old {
                    twin.remove(&old.start);
                }
                if let Some(new) = change.new {
                    twin.insert(new.start, new.len);
                }
                let words = NODE + random(70);
                let want = twin.iter().find(|&(_, &len)| len >= words).map(|(&start, &len)| Extent { start, len });
                assert_eq!(first_fit(&ctx, &mut Path::new(), words), Ok(want));
            }
            let nodes: Vec<_> = twin.iter().filter(|&(_, &len)| len >= NODE).collect();
            let links: usize = nodes.iter().map(|&(&start, _)| check_node(&ctx, start).unwrap()).sum();
            assert_eq!(links + 1, nodes.len());
            assert_eq!(ctx.free_words.get(), twin.values().sum::<usize>());
        }
    }
}
