// SPDX-License-Identifier: MIT OR Apache-2.0
//! The index of the free blocks of [`NODE`] words and more. Only into those does an allocation fit.
//!
//! The words of a pool are divided into [`SECTIONS`] sections of equal length. Each section has a tree of the free blocks that end in
//! it. The context holds the root of each tree, and the length of the longest block in it. The nodes are the last words of the free
//! blocks themselves:
//!
//! ```text
//!     free block     -length | ........ | longest | right | left | -length
//!                       0                   -4       -3      -2      -1        from its end
//! ```
//!
//! A block's *key* is the index of the word behind it. So an allocation, which takes the first words of a free block, leaves the key of
//! the rest as it was. The upper bits of a key number the section; a tree branches by the bits below. The node at depth d stands for all
//! keys that have the same first d of these bits as its own: the root for all keys of the section, its left child for those whose first
//! bit is 0, its right child for those whose first bit is 1, and so on. Any block among those may be the node. Therefore a block is added
//! where a path ends, and removed by moving any leaf below it into its place: the tree needs no rotation, and it is never deeper than a
//! key has bits.
//!
//! ```text
//!     keys of 4 bits:                 0110                 all
//!                                    /    \
//!                                0011      1110            0xxx, 1xxx
//!                               /   \      /
//!                           0000   0100  1001              00xx, 01xx, 10xx
//! ```
//!
//! All of a left subtree lies before all of the right one, and `longest` is the length of the longest block of a subtree, its root
//! included. So the first block that is long enough is found on one path. A link is the key of a child, or 0. Keys do not change when the
//! pool moves.
//!
//! Each link is checked when it is followed: it must lead to a node whose key has the right first bits and whose [`seal`] is that of its
//! depth. Only one block has both. So a damaged link leads to the same block as before, to nothing, or to a fault, and no walk runs in a
//! circle.
//!
//! A change has two parts: checks, which can fail and write nothing, and then writes, which can't fail. [`Change::plan`] and
//! [`Trees::check_path`] check, [`Change::make`] and [`Trees::add`] write. An operation changes at most one block, before it adds any. So
//! all checks come first: the change leaves every other path as it was, except that it ends sooner, or that there is another node at the
//! place of the block.

use super::block::{Extent, Fault, Result};
use super::layout::*;
use core::mem::MaybeUninit;
use core::ops::Range;

/// Distance of a node's word with the left link from the key.
const LEFT: usize = 2;
/// Distance of a node's word with the right link from the key.
const RIGHT: usize = 3;
/// Distance of a node's word with the length of the longest block from the key.
const LONGEST: usize = 4;

const BITS: usize = usize::BITS as usize;
/// The most nodes on a path: a root, and a node for each bit of an index below those of the section.
const MAX_PATH: usize = 1 + BITS - W.trailing_zeros() as usize - SECTION_BITS;

const _: () = {
    assert!((usize::MAX / W) >> SECTION_BITS < 1 << (MAX_PATH - 1), "each key of the largest pool has a path");
    assert!(RIGHT == LEFT + 1, "a bit of a key is added to LEFT");
    assert!(NODE == LONGEST + 1, "a node has its length at both ends, and its links and `longest` between");
    assert!(HEADER >= NODE, "a block that is freed is a node, and no block fits into a free one that is not");
};

/// The words of a node, its links without the seal.
#[derive(Clone, Copy)]
struct Node {
    key: usize,
    len: usize,
    left: usize,
    right: usize,
    longest: usize,
}

impl Node {
    fn is_leaf(&self) -> bool {
        self.left | self.right == 0
    }
}

/// A node on a path.
#[derive(Clone, Copy)]
struct Level {
    key: usize,
    /// Its `longest`, as it is, or as it is planned to be.
    longest: usize,
}

/// The trees of a pool, for one operation.
pub(crate) struct Trees<'a> {
    ctx: &'a Context,
    pool: Pool,
    nodes: Nodes,
    /// The bits of a link that are the key. The seal has those above.
    key_mask: usize,
    /// The bits of a key that the trees branch by.
    tree_bits: usize,
}

/// A free block that becomes another one, or none.
pub(crate) struct Change<'a> {
    trees: &'a Trees<'a>,
    /// The nodes from a root down to the block. A plan to remove a node that is not a leaf adds those further down, to a leaf.
    path: Stack<Level, MAX_PATH>,
    plan: Option<Plan>,
}

/// What a change writes, beside `longest` of the nodes from `changed` on to `depth`.
#[derive(Clone, Copy)]
struct Plan {
    key: usize,
    /// No words if the node is removed.
    new: Extent,
    /// The level of the block.
    depth: usize,
    /// The topmost level whose `longest` changes.
    changed: usize,
}

impl<'a> Trees<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a Context) -> Self {
        let pool = ctx.pool();
        Trees {
            ctx,
            pool,
            nodes: pool.nodes(ctx.end()),
            key_mask: (1 << ctx.key_bits.get()) - 1,
            tree_bits: ctx.tree_bits.get(),
        }
    }

    #[cold]
    fn fault<T>(&self, at: usize) -> Result<T> {
        Err(Fault::new(self.pool, at, "the tree of free blocks is damaged"))
    }

    /// The section that a key lies in.
    fn section(&self, key: usize) -> usize {
        key >> self.tree_bits
    }

    /// How many bits of a key the node at `depth` leaves open.
    fn shift(&self, depth: usize) -> usize {
        self.tree_bits - depth
    }

    /// The link of a node on the side of `key`, if the children of the node leave `shift` bits open.
    #[inline(always)]
    fn link(&self, node: Node, key: usize, shift: usize) -> usize {
        if (key >> shift) & 1 == 0 { node.left } else { node.right }
    }

    /// Follows a link to a node that leaves `shift` bits open, in the subtree that `probe` belongs to.
    #[inline(always)]
    fn follow(&self, from: usize, link: usize, probe: usize, shift: usize) -> Result<Node> {
        let Some([longest, right, left, length]) = self.nodes.get(link) else { return self.fault(from) };
        let seal = seal(link, length, shift);
        if (link ^ probe) >> shift != 0 || ((left ^ seal) | (right ^ seal)) & !self.key_mask != 0 {
            return self.fault(from);
        }
        Ok(self.node(link, [longest, right, left, length]))
    }

    #[inline(always)]
    fn node(&self, key: usize, [longest, right, left, length]: [usize; 4]) -> Node {
        Node { key, len: length.wrapping_neg(), left: left & self.key_mask, right: right & self.key_mask, longest }
    }

    /// The length of the longest block in the subtree behind a link, as in `follow`; 0 without a link.
    #[inline(always)]
    fn longest_on(&self, from: usize, link: usize, probe: usize, shift: usize) -> Result<usize> {
        if link == 0 { Ok(0) } else { Ok(self.follow(from, link, probe, shift)?.longest) }
    }

    /// The longest of both subtrees of a node that leaves `shift` bits open.
    #[inline(always)]
    fn longest_below(&self, node: Node, shift: usize) -> Result<usize> {
        if node.is_leaf() {
            return Ok(0);
        }
        if shift == 0 {
            return self.fault(node.key);
        }
        let bit = 1 << (shift - 1);
        let left = self.longest_on(node.key, node.left, node.key & !bit, shift - 1)?;
        let right = self.longest_on(node.key, node.right, node.key | bit, shift - 1)?;
        Ok(left.max(right))
    }

    /// Visits the nodes on the path to `key`. Returns the node with this key; None if the tree has no such node.
    #[inline(always)]
    fn descend(&self, key: usize, mut visit: impl FnMut(Node)) -> Result<Option<Node>> {
        let (mut from, mut link) = (key, self.ctx.roots[self.section(key)].get());
        let mut shift = self.tree_bits;
        while link != 0 {
            let node = self.follow(from, link, key, shift)?;
            visit(node);
            if link == key {
                return Ok(Some(node));
            }
            // When no bit is open, `follow` accepts only `key` itself, so the loop has ended there.
            shift -= 1;
            (from, link) = (link, self.link(node, key, shift));
        }
        Ok(None)
    }

    /// Checks the path to where the free block `new` is to be added; or, if it takes the place of one of `old_len` words with the same
    /// end, that this one is there.
    #[inline]
    pub fn check_path(&self, new: Extent, old_len: usize) -> Result<()> {
        if new.len < NODE {
            return Ok(());
        }
        let old = self.descend(new.end(), |_| ())?;
        let expected = if old_len >= NODE { old_len } else { 0 };
        if old.map_or(0, |node| node.len) == expected { Ok(()) } else { self.fault(new.end()) }
    }

    /// Replaces the link in a word. The seal stays.
    #[inline(always)]
    fn replace_link(&self, word: usize, link: usize) {
        self.pool.set(word, (self.pool.get(word) & !self.key_mask) | link);
    }

    /// The links of a node that was checked.
    #[inline(always)]
    fn links(&self, key: usize) -> [usize; 2] {
        // Not by `map`: where every object of the library is linked as a whole, on Windows, that is in one with functions of palloc.
        let link = |word| self.pool.get(key - word) & self.key_mask;
        [link(LEFT), link(RIGHT)]
    }

    /// Writes a node that leaves `shift` bits open.
    #[inline(always)]
    fn set_node(&self, key: usize, len: usize, shift: usize, [left, right]: [usize; 2], longest: usize) {
        let length = len.wrapping_neg();
        let seal = seal(key, length, shift) & !self.key_mask;
        self.pool.set_all(key - LONGEST, [longest, seal | right, seal | left, length]);
    }

    /// Adds a free block, or makes the one with the same end longer. Writes its length at both its ends.
    ///
    /// [`Trees::check_path`] has checked the path.
    #[inline]
    pub fn add(&self, block: Extent) {
        let Extent { len, .. } = block;
        if len < NODE {
            return store_length(self.pool, block);
        }
        let key = block.end();
        let section = self.section(key);
        if self.ctx.longest[section].get() < len {
            self.ctx.longest[section].set(len);
        }
        let mut link = self.ctx.roots[section].get();
        let mut above = 0; // the word with the link
        let mut shift = self.tree_bits;
        while link != 0 && link != key {
            if self.pool.get(link - LONGEST) < len {
                self.pool.set(link - LONGEST, len);
            }
            shift -= 1;
            above = link - LEFT - ((key >> shift) & 1);
            link = self.pool.get(above) & self.key_mask;
        }
        let (mut links, mut longest) = ([0, 0], len);
        if link == key {
            links = self.links(key);
            longest = longest.max(self.pool.get(key - LONGEST));
        } else if above == 0 {
            self.ctx.roots[section].set(key);
        } else {
            self.replace_link(above, key);
        }
        self.set_node(key, len, shift, links, longest);
        self.pool.set(block.start, len.wrapping_neg());
    }
}

impl<'a> Change<'a> {
    #[inline(always)]
    pub fn new(trees: &'a Trees<'a>) -> Self {
        Change { trees, path: Stack::new(), plan: None }
    }

    /// Finds the first block of at least `words` words.
    #[inline(always)]
    pub fn first_fit(&mut self, words: usize) -> Result<Option<Extent>> {
        let trees = self.trees;
        self.path.truncate(0);
        let Some(section) = trees.ctx.longest.iter().position(|longest| longest.get() >= words) else {
            return Ok(None);
        };
        let mut shift = trees.tree_bits;
        let mut low = section << shift; // the first key of the node's subtree
        let mut node = trees.follow(low, trees.ctx.roots[section].get(), low, shift)?;
        let mut best = usize::MAX;
        // In each round some block in the subtree of `node` fits.
        loop {
            self.path.push(Level { key: node.key, longest: node.longest });
            if node.len >= words && node.key < best {
                best = node.key;
            }
            if shift == 0 {
                break;
            }
            shift -= 1;
            if node.left != 0 {
                let child = trees.follow(node.key, node.left, low, shift)?;
                if child.longest >= words {
                    node = child;
                    continue;
                }
            }
            let middle = low | (1 << shift);
            // A subtree behind the best block needs no search.
            if node.right != 0 && middle < best {
                let child = trees.follow(node.key, node.right, middle, shift)?;
                if child.longest >= words {
                    (node, low) = (child, middle);
                    continue;
                }
            }
            break;
        }
        if best == usize::MAX {
            return trees.fault(node.key);
        }
        while self.path.last().is_some_and(|level| level.key != best) {
            self.path.truncate(self.path.len() - 1);
        }
        // The node has the length at its end.
        let length = trees.pool.get(best - 1);
        let start = best.wrapping_add(length);
        if start > best || trees.pool.get(start) != length {
            return trees.fault(best);
        }
        Ok(Some(Extent { start, len: best - start }))
    }

    /// A node of the path, which was checked.
    #[inline(always)]
    fn at(&self, level: usize) -> Result<Node> {
        let key = self.path.at(level).key;
        match self.trees.nodes.get(key) {
            Some(words) => Ok(self.trees.node(key, words)),
            None => self.trees.fault(key),
        }
    }

    /// Makes `path` the one to the node `key`, unless it is already. Fails if the node is not in its tree.
    #[inline(always)]
    fn find(&mut self, key: usize) -> Result<Node> {
        if self.path.last().is_some_and(|level| level.key == key) {
            return self.at(self.path.len() - 1);
        }
        self.path.truncate(0);
        let push = |node: Node| self.path.push(Level { key: node.key, longest: node.longest });
        match self.trees.descend(key, push)? {
            Some(node) => Ok(node),
            None => self.trees.fault(key),
        }
    }

    /// Plans `longest` of the nodes at `levels` of the path, which leads to `key`, when `longest` of the subtree below them falls from `old`
    /// to `new`. Returns the topmost level that changes, or the end of `levels`.
    #[inline(always)]
    fn lower(&mut self, levels: Range<usize>, key: usize, old: usize, mut new: usize) -> Result<usize> {
        let mut changed = levels.end;
        let mut shift = self.trees.shift(levels.end);
        while changed > levels.start {
            let level = changed - 1;
            if self.path.at(level).longest > old {
                break; // that is of a block elsewhere
            }
            let node = self.at(level)?;
            let other = key ^ (1 << shift);
            let link = self.trees.link(node, other, shift);
            new = node.len.max(new).max(self.trees.longest_on(node.key, link, other, shift)?);
            if new >= old {
                break;
            }
            self.path.at_mut(level).longest = new;
            changed = level;
            shift += 1;
        }
        Ok(changed)
    }

    /// Checks that the free block `old` can become `new`, and plans it. Returns whether `new` comes to the same place of the tree; if not,
    /// `old` is only removed, and `new`, if it is a node, is to be added. An `old` that is no node is in no tree, and nothing is planned.
    ///
    /// After [`Change::first_fit`] found `old`, its path is used.
    #[inline(always)]
    pub fn plan(&mut self, old: Extent, new: Extent) -> Result<bool> {
        if old.len < NODE {
            return Ok(false);
        }
        let key = old.end();
        let node = self.find(key)?;
        let depth = self.path.len() - 1;
        let shift = self.trees.shift(depth);
        let stays = new.len >= NODE && (key ^ new.end()) >> shift == 0;
        let len = if stays { new.len } else { 0 };
        let longest = if !stays && !node.is_leaf() {
            self.plan_leaf(node, depth)?
        } else if len >= node.longest {
            len
        } else if node.longest > node.len {
            node.longest // of a block below
        } else {
            len.max(self.trees.longest_below(node, shift)?)
        };
        let mut changed = depth;
        if longest < node.longest {
            changed = self.lower(0..depth, key, node.longest, longest)?;
        } else {
            while changed > 0 && self.path.at(changed - 1).longest < longest {
                changed -= 1;
                self.path.at_mut(changed).longest = longest;
            }
        }
        self.path.at_mut(depth).longest = longest;
        self.plan = Some(Plan { key, new: if stays { new } else { Extent::default() }, depth, changed });
        Ok(stays)
    }

    /// Extends the path from a node at `depth` to a leaf below, which is to take the node's place. Returns `longest` of that place then.
    #[cold]
    #[inline(never)]
    fn plan_leaf(&mut self, node: Node, depth: usize) -> Result<usize> {
        let mut leaf = node;
        let mut shift = self.trees.shift(depth);
        while !leaf.is_leaf() {
            if shift == 0 {
                return self.trees.fault(leaf.key);
            }
            shift -= 1;
            let bit = 1 << shift;
            let (link, probe) =
                if leaf.left != 0 { (leaf.left, leaf.key & !bit) } else { (leaf.right, leaf.key | bit) };
            leaf = self.trees.follow(leaf.key, link, probe, shift)?;
            self.path.push(Level { key: leaf.key, longest: leaf.longest });
        }
        let leaf_depth = self.path.len() - 1;
        self.lower(depth + 1..leaf_depth, leaf.key, leaf.longest, 0)?;
        let below = if leaf_depth == depth + 1 { 0 } else { self.path.at(depth + 1).longest };
        let shift = self.trees.shift(depth + 1);
        let other = leaf.key ^ (1 << shift);
        let link = self.trees.link(node, other, shift);
        Ok(leaf.len.max(below).max(self.trees.longest_on(node.key, link, other, shift)?))
    }

    /// Makes the change that was planned, if one was. A block that is no node any more is removed: a leaf below it comes into its place.
    ///
    /// ```text
    ///           k                 x
    ///          / \               / \
    ///         a   b     ->      a   b        x is any leaf below k; without one, the link to k becomes 0
    ///        / \               /
    ///       c   x             c
    /// ```
    #[inline(always)]
    pub fn make(&self) {
        let Some(Plan { key, new, depth, changed }) = self.plan else { return };
        let trees = self.trees;
        let (shift, longest) = (trees.shift(depth), self.path.at(depth).longest);
        for level in changed..depth {
            let Level { key, longest } = self.path.at(level);
            trees.pool.set(key - LONGEST, longest);
        }
        if changed == 0 {
            trees.ctx.longest[trees.section(key)].set(self.path.at(0).longest);
        }
        if new.len > 0 {
            let links = trees.links(key);
            if new.end() != key {
                self.set_link(depth, key, new.end());
                trees.pool.set(key - LEFT, 0);
            }
            trees.set_node(new.end(), new.len, shift, links, longest);
            trees.pool.set(new.start, new.len.wrapping_neg());
        } else {
            if self.path.len() == depth + 1 {
                self.set_link(depth, key, 0);
            } else {
                self.move_leaf(key, depth);
            }
            trees.pool.set(key - LEFT, 0);
        }
    }

    /// Moves the leaf at the end of the path to the place of the node `key` at `depth`.
    #[cold]
    #[inline(never)]
    fn move_leaf(&self, key: usize, depth: usize) {
        let trees = self.trees;
        let leaf_depth = self.path.len() - 1;
        let leaf = self.path.at(leaf_depth).key;
        for level in depth + 1..leaf_depth {
            let Level { key, longest } = self.path.at(level);
            trees.pool.set(key - LONGEST, longest);
        }
        self.set_link(leaf_depth, leaf, 0);
        let links = trees.links(key);
        self.set_link(depth, key, leaf);
        let len = trees.pool.get(leaf - 1).wrapping_neg();
        trees.set_node(leaf, len, trees.shift(depth), links, self.path.at(depth).longest);
    }

    /// Sets the link to the node at `depth` of the path, which is on the way to `key`.
    #[inline(always)]
    fn set_link(&self, depth: usize, key: usize, link: usize) {
        let trees = self.trees;
        match depth.checked_sub(1) {
            None => trees.ctx.roots[trees.section(key)].set(link),
            Some(above) => {
                let side = (key >> trees.shift(depth)) & 1;
                trees.replace_link(self.path.at(above).key - LEFT - side, link);
            }
        }
    }
}

/// The seal of a node with this key that leaves `shift` bits open. Its bits above those of a key are in LEFT and in RIGHT, above the links.
///
/// The two uppermost bits are 01, which no small number has, positive or negative. So [`break_seal`] breaks a seal by LEFT = 0.
#[inline]
fn seal(key: usize, length: usize, shift: usize) -> usize {
    const ODD: usize = (0x9E37_79B9_7F4A_7C15_u64 >> (u64::BITS - usize::BITS)) as usize | 1;
    let mix = (key ^ length.rotate_left(usize::BITS / 2)).wrapping_add(shift).wrapping_mul(ODD);
    (mix >> 2) | (1 << (usize::BITS - 2))
}

/// Empties all trees. The caller breaks the seals of the nodes, or the pool is new.
pub(crate) fn clear(ctx: &Context) {
    for section in 0..SECTIONS {
        ctx.roots[section].set(0);
        ctx.longest[section].set(0);
    }
}

/// Makes sure that no link leads to the words of a free block that is in no tree any more.
pub(crate) fn break_seal(pool: Pool, block: Extent) {
    if block.len >= NODE {
        pool.set(block.end() - LEFT, 0);
    }
}

/// Writes the length of a free block at both its ends.
pub(crate) fn store_length(pool: Pool, block: Extent) {
    let length = block.len.wrapping_neg();
    pool.set(block.start, length);
    pool.set(block.end() - 1, length);
}

/// Adds a free block that is counted already.
pub(crate) fn add(ctx: &Context, block: Extent) -> Result<()> {
    let trees = Trees::new(ctx);
    trees.check_path(block, 0)?;
    trees.add(block);
    Ok(())
}

/// Takes a free block out of its tree. It stays counted.
pub(crate) fn remove(ctx: &Context, block: Extent) -> Result<()> {
    let trees = Trees::new(ctx);
    let mut change = Change::new(&trees);
    change.plan(block, Extent::default())?;
    change.make();
    Ok(())
}

/// Fails if [`add`] of this block would fail.
pub(crate) fn check_path(ctx: &Context, block: Extent) -> Result<()> {
    Trees::new(ctx).check_path(block, 0)
}

/// The length of the longest free block, 0 if all are shorter than [`NODE`].
pub(crate) fn longest(ctx: &Context) -> usize {
    ctx.longest.iter().map(|longest| longest.get()).max().unwrap_or(0)
}

/// Checks the node of a free block: it is found, and `longest` is right, there and for the section of a root. Returns how many children
/// it has.
pub(crate) fn check_node(ctx: &Context, block: Extent) -> Result<usize> {
    let trees = Trees::new(ctx);
    let key = block.end();
    let mut depth = 0;
    let Some(node) = trees.descend(key, |_| depth += 1)? else { return trees.fault(key) };
    depth -= 1;
    let below = trees.longest_below(node, trees.shift(depth))?;
    let is_right = node.len == block.len && node.longest == node.len.max(below);
    if !is_right || (depth == 0 && node.longest != ctx.longest[trees.section(key)].get()) {
        return trees.fault(key);
    }
    Ok(usize::from(node.left != 0) + usize::from(node.right != 0))
}

/// How many sections have a root.
pub(crate) fn count_roots(ctx: &Context) -> usize {
    ctx.roots.iter().filter(|root| root.get() != 0).count()
}

/// Up to `N` values. It is made without writing to them, which would take longer than most searches.
struct Stack<T: Copy, const N: usize> {
    /// The first `len` are initialized.
    values: [MaybeUninit<T>; N],
    len: usize,
}

impl<T: Copy, const N: usize> Stack<T, N> {
    #[inline(always)]
    fn new() -> Self {
        Stack { values: [const { MaybeUninit::uninit() }; N], len: 0 }
    }

    #[inline(always)]
    fn push(&mut self, value: T) {
        self.values[self.len].write(value);
        self.len += 1;
    }

    fn len(&self) -> usize {
        self.len
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    #[inline(always)]
    fn at_mut(&mut self, index: usize) -> &mut T {
        assert!(index < self.len);
        // SAFETY: the first `len` values are initialized.
        unsafe { self.values.get_unchecked_mut(index).assume_init_mut() }
    }

    #[inline(always)]
    fn at(&self, index: usize) -> T {
        assert!(index < self.len);
        // SAFETY: the first `len` values are initialized.
        unsafe { self.values.get_unchecked(index).assume_init() }
    }

    #[inline(always)]
    fn last(&self) -> Option<T> {
        self.len.checked_sub(1).map(|index| self.at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
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
            let trees = Trees::new(&ctx);
            let mut twin = BTreeMap::new();
            let mut random = Random(seed);
            let mut random = |below: usize| random.below(below);
            for _ in 0..5_000 {
                let mut change = Change::new(&trees);
                let some = twin.range(random(WORDS)..).next().map(|(&start, &len)| Extent { start, len });
                let (mut added, mut changed) = (Vec::new(), [0, 0]);
                if let Some(old) = some.filter(|_| random(3) > 0) {
                    // A part of it is left, or it grows to one or both sides.
                    let before = twin.range(..old.start).next_back().map_or(0, |(start, len)| start + len);
                    let behind = twin.range(old.end()..).next().map_or(WORDS - 1, |(&start, _)| start);
                    let new = match random(4) {
                        0 => Extent::default(),
                        1 => Extent { start: old.start, len: random(behind.min(old.end() + 60) - old.start) },
                        2 => {
                            let start = before + random(old.start - before + 1);
                            Extent { start, len: old.end() - start }
                        }
                        _ => {
                            let cut = random(old.len);
                            Extent { start: old.start + cut, len: old.len - cut }
                        }
                    };
                    if random(2) == 0 {
                        change.first_fit(old.len).unwrap();
                    }
                    if !change.plan(old, new).unwrap() && new.len > 0 {
                        added.push((new, 0));
                    }
                    changed = [old.end(), new.end()];
                    twin.remove(&old.start);
                    if new.len > 0 {
                        twin.insert(new.start, new.len);
                    }
                }
                // Another block is added: anywhere but up to the end of the pool. Or one becomes longer.
                let at = random(WORDS - 100);
                let before = twin.range(..=at).next_back().map_or(0, |(start, len)| start + len);
                let behind = twin.range(at..).next().map_or(WORDS - 1, |(&start, _)| start);
                if before <= at && at + 1 < behind {
                    let mut new = Extent { start: at, len: 1 + random((behind - at - 1).min(60)) };
                    let mut old_len = 0;
                    if let Some(&len) = twin.get(&behind).filter(|_| random(2) == 0) {
                        (old_len, new.len) = (len, behind + len - at);
                    }
                    if !changed.contains(&new.end()) {
                        if old_len > 0 {
                            twin.remove(&behind);
                        }
                        added.push((new, old_len));
                        twin.insert(at, new.len);
                    }
                }
                for &(new, old_len) in &added {
                    trees.check_path(new, old_len).unwrap();
                }
                change.make();
                for (new, _) in added {
                    trees.add(new);
                }
                let words = NODE + random(70);
                let want = twin.iter().find(|&(_, &len)| len >= words).map(|(&start, &len)| Extent { start, len });
                assert_eq!(Change::new(&trees).first_fit(words), Ok(want));
            }
            let nodes: Vec<_> = twin.iter().filter(|&(_, &len)| len >= NODE).collect();
            let links: usize =
                nodes.iter().map(|&(&start, &len)| check_node(&ctx, Extent { start, len }).unwrap()).sum();
            assert_eq!(links + count_roots(&ctx), nodes.len());
        }
    }
}
