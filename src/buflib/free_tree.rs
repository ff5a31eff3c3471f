// SPDX-License-Identifier: MIT OR Apache-2.0
//! The index of the free blocks of [`NODE`] words and more. Only into those does an allocation fit.
//!
//! The words of a pool are divided into [`SECTIONS`] sections of equal length. Each section has a tree of the free blocks that start in
//! it. The context holds the root of each tree, and the length of the longest block in it. The nodes are the free blocks themselves:
//!
//! ```text
//!     free block     -length | left | right | longest | ........ | -length
//!                       0       1       2        3                length-1
//! ```
//!
//! A block's *key* is its index in the pool. The upper bits of a key number the section; a tree branches by the bits below. The node at
//! depth d stands for all keys that have the same first d of these bits as its own: the root for all keys of the section, its left child
//! for those whose first bit is 0, its right child for those whose first bit is 1, and so on. Any block among those may be the node.
//! Therefore a block is added where a path ends, and removed by moving any leaf below it into its place: the tree needs no rotation, and
//! it is never deeper than a key has bits.
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
//! included. So the first block that is long enough is found on one path. A link is 1 + the key of a child, or 0. Keys do not change when
//! the pool moves.
//!
//! Each link is checked when it is followed: it must lead to a free block whose key has the right first bits and whose [`seal`] is that of
//! its depth. Only one block has both. So a damaged link leads to the same block as before, to nothing, or to a fault, and no walk runs in
//! a circle.
//!
//! An [`Edit`] changes the trees. It notes what each word was before it writes to it. If a change finds damage, the edit takes all its writes
//! back, so nothing has changed.

use super::block::{Extent, Fault, Result, free_at};
use super::layout::*;
use core::mem::MaybeUninit;
use core::ops::Range;

const LEFT: usize = 1;
const RIGHT: usize = 2;
const LONGEST: usize = 3;

const BITS: usize = usize::BITS as usize;
/// The most nodes on a path: a root, and a node for each bit of an index below those of the section.
const MAX_PATH: usize = 1 + BITS - W.trailing_zeros() as usize - SECTION_BITS;
/// The most words that [`Edit::change`] writes, beside `longest` of the nodes on its paths. At most, it removes a node and inserts one. It
/// sets 4 words of the leaf that is moved and of the new node, the links to both and to the old place of the leaf, and `longest` of
/// 2 sections; it forgets a node; and it writes the length at the end of a block. The removed node and the leaf are on a path, but
/// their `longest` is not written. Debug builds count, and a test writes as many.
const OTHER_WRITES: usize = 2 * 4 + 3 + 2 + 1 + 1 - 2;
/// The most words that [`Edit::change`] writes.
const MAX_WRITES: usize = 2 * MAX_PATH + OTHER_WRITES;
/// The most changes in one edit. Debug builds count.
const MAX_CHANGES: usize = 2;

const _: () = {
    assert!((usize::MAX / W) >> SECTION_BITS < 1 << (MAX_PATH - 1), "each key of the largest pool has a path");
    assert!(NODE == LONGEST + 2, "a node has its length at both ends, and its links and `longest` between");
    assert!(HEADER >= NODE, "a block that is freed is a node, and no block fits into a free one that is not");
};

/// The words of a node, its links without the seal.
#[derive(Clone, Copy)]
struct Node {
    start: usize,
    len: usize,
    left: usize,
    right: usize,
    longest: usize,
}

/// One change of the free blocks: `old` becomes `new`. Without `old`, `new` is added. Without `new`, `old` is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub old: Option<Extent>,
    pub new: Option<Extent>,
}

/// What a word was: of the pool, or of the context for a `place` behind the pool (see [`Edit::root_place`]).
#[derive(Clone, Copy)]
struct Old {
    place: usize,
    value: usize,
}

/// A change of the trees, of one or two blocks.
pub(crate) struct Edit<'a> {
    ctx: &'a Context,
    pool: Pool,
    nodes: Nodes,
    /// The bits of a link that are the key. The seal has those above.
    key_mask: usize,
    /// The bits of a key that the trees branch by.
    tree_bits: usize,
    /// The sum of the lengths of all free blocks, as it was.
    free_words: usize,
    /// The nodes from a root down to the node in question, as they were before the change; empty after each change.
    path: Stack<Node, MAX_PATH>,
    /// What the words that were written to had been, in this order.
    old: Stack<Old, { MAX_WRITES * MAX_CHANGES }>,
    #[cfg(debug_assertions)]
    changes: usize,
}

impl<'a> Edit<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a Context) -> Self {
        let pool = ctx.pool();
        Edit {
            ctx,
            pool,
            nodes: pool.nodes(ctx.end()),
            key_mask: (1 << ctx.key_bits.get()) - 1,
            tree_bits: ctx.tree_bits.get(),
            free_words: ctx.free_words.get(),
            path: Stack::new(),
            old: Stack::new(),
            #[cfg(debug_assertions)]
            changes: 0,
        }
    }

    /// Changes the trees, both ends of the new block, and the sum of free words. At most [`MAX_CHANGES`] fit into an edit. On failure all of
    /// them are undone.
    ///
    /// After [`Edit::first_fit`] found `change.old`, its path is used.
    #[inline(always)]
    pub fn change(&mut self, change: Change) -> Result<()> {
        #[cfg(debug_assertions)]
        let (writes_before, nodes_before) = (self.old.len(), self.path.pushed - self.path.len());
        let is_node = |block: &Extent| block.len >= NODE;
        let changed = match (change.old.filter(is_node), change.new.filter(is_node)) {
            (None, None) => Ok(()),
            (None, Some(new)) => self.insert(new),
            (Some(old), None) => self.remove(old.start),
            (Some(old), Some(new)) => self.replace(old.start, new),
        };
        self.or_undo(changed)?;
        let mut free_words = self.ctx.free_words.get();
        if let Some(old) = change.old {
            free_words = free_words.wrapping_sub(old.len);
        }
        if let Some(new) = change.new {
            free_words = free_words.wrapping_add(new.len);
            self.store_length(new);
        }
        self.ctx.free_words.set(free_words);
        #[cfg(debug_assertions)]
        {
            self.changes += 1;
            assert!(self.changes <= MAX_CHANGES, "the edit has room for {MAX_CHANGES} changes");
            let on_paths = self.path.pushed - nodes_before;
            assert!(self.old.len() - writes_before <= on_paths + OTHER_WRITES, "the edit has room for the writes");
        }
        Ok(())
    }

    /// Undoes all changes if this one failed.
    #[inline(always)]
    fn or_undo(&mut self, changed: Result<()>) -> Result<()> {
        if changed.is_err() {
            self.undo();
        }
        changed
    }

    /// Undoes all changes.
    #[cold]
    #[inline(never)]
    pub fn undo(&mut self) {
        for &Old { place, value } in self.old.as_slice().iter().rev() {
            match place.checked_sub(self.pool.words) {
                None => self.pool.set(place, value),
                Some(section) if section < SECTIONS => self.ctx.roots[section].set(value),
                Some(section) => self.ctx.longest[section - SECTIONS].set(value),
            }
        }
        self.ctx.free_words.set(self.free_words);
        self.old.clear();
        self.path.clear();
        #[cfg(debug_assertions)]
        {
            self.changes = 0;
        }
    }

    /// Finds the first block of at least `words` words.
    #[inline]
    pub fn first_fit(&mut self, words: usize) -> Result<Option<Extent>> {
        self.path.clear();
        let Some(section) = self.ctx.longest.iter().position(|longest| longest.get() >= words) else {
            return Ok(None);
        };
        let mut low = section << self.tree_bits; // the first key of the node's subtree
        let mut node = self.follow(low, self.ctx.roots[section].get(), low, 0)?;
        let (mut best, mut best_path) = (usize::MAX, 0);
        // In each round some block in the subtree of `node` fits.
        for depth in 0.. {
            self.path.push(node);
            if node.len >= words && node.start < best {
                (best, best_path) = (node.start, self.path.len());
            }
            if depth == self.tree_bits {
                break;
            }
            let middle = low | (1 << (self.tree_bits - 1 - depth));
            let mut next = None;
            // A subtree behind the best block needs no search.
            if node.left != 0 && low < best {
                let child = self.follow(node.start, node.left, low, depth + 1)?;
                next = (child.longest >= words).then_some((child, low));
            }
            if next.is_none() && node.right != 0 && middle < best {
                let child = self.follow(node.start, node.right, middle, depth + 1)?;
                next = (child.longest >= words).then_some((child, middle));
            }
            match next {
                Some(next) => (node, low) = next,
                None => break,
            }
        }
        if best == usize::MAX {
            return self.fault(node.start);
        }
        self.path.truncate(best_path);
        let len = free_at(self.ctx, self.pool, best)?;
        if len < words { self.fault(best) } else { Ok(Some(Extent { start: best, len })) }
    }

    #[cold]
    fn fault<T>(&self, at: usize) -> Result<T> {
        Err(Fault::new(self.pool, at, "the tree of free blocks is damaged"))
    }

    /// The section that a key lies in.
    fn section(&self, key: usize) -> usize {
        key >> self.tree_bits
    }

    /// LEFT or RIGHT: the side on which a node at `depth` has the subtree of `key`.
    fn side(&self, key: usize, depth: usize) -> usize {
        LEFT + ((key >> (self.tree_bits - 1 - depth)) & 1)
    }

    /// Whether two keys belong to the subtree of the same node at `depth`: the first `depth` bits are equal.
    fn akin(&self, a: usize, b: usize, depth: usize) -> bool {
        (a ^ b) >> (self.tree_bits - depth) == 0
    }

    /// The place of a section's root, for `old`.
    fn root_place(&self, section: usize) -> usize {
        self.pool.words + section
    }

    /// The place of the length of a section's longest block, for `old`.
    fn longest_place(&self, section: usize) -> usize {
        self.pool.words + SECTIONS + section
    }

    /// Writes a word of a node.
    #[inline(always)]
    fn set(&mut self, node: usize, word: usize, value: usize) {
        let place = node + word;
        self.old.push(Old { place, value: self.pool.replace(place, value) });
    }

    /// Writes a section's root.
    #[inline(always)]
    fn set_root(&mut self, section: usize, link: usize) {
        self.old.push(Old { place: self.root_place(section), value: self.ctx.roots[section].replace(link) });
    }

    /// Writes the length of a section's longest block.
    #[inline(always)]
    fn set_longest(&mut self, section: usize, longest: usize) {
        self.old.push(Old { place: self.longest_place(section), value: self.ctx.longest[section].replace(longest) });
    }

    /// Makes a free block a node at `depth`.
    #[inline]
    fn set_node(&mut self, block: Extent, depth: usize, [left, right]: [usize; 2], longest: usize) {
        let length = block.len.wrapping_neg();
        let seal = seal(block.start, length, depth) & !self.key_mask;
        let old = self.pool.replace_all(block.start, [length, seal | left, seal | right, longest]);
        self.old.push_all([0, 1, 2, 3].map(|word| Old { place: block.start + word, value: old[word] }));
    }

    /// Writes the length of a free block at its end, and at its start if it is not a node.
    #[inline]
    fn store_length(&mut self, block: Extent) {
        let length = block.len.wrapping_neg();
        if block.len < NODE {
            self.set(block.start, LENGTH, length);
        }
        self.set(block.start, block.len - 1, length);
    }

    /// Makes sure that no link leads to the words of a block that stops being a node.
    fn forget(&mut self, start: usize) {
        self.set(start, LEFT, 0);
    }

    /// Follows a link to a node at `depth`, in the subtree that `probe` belongs to.
    #[inline(always)]
    fn follow(&self, from: usize, link: usize, probe: usize, depth: usize) -> Result<Node> {
        let start = link.wrapping_sub(1);
        let Some([length, left, right, longest]) = self.nodes.get(start) else { return self.fault(from) };
        if !self.akin(start, probe, depth) {
            return self.fault(from);
        }
        let seal = seal(start, length, depth);
        if ((left ^ seal) | (right ^ seal)) & !self.key_mask != 0 {
            return self.fault(from);
        }
        let (left, right) = (left & self.key_mask, right & self.key_mask);
        Ok(Node { start, len: length.wrapping_neg(), left, right, longest })
    }

    /// The child on one side of a node at `depth`.
    #[inline(always)]
    fn child(&self, node: Node, depth: usize, side: usize) -> Result<Option<Node>> {
        let link = if side == LEFT { node.left } else { node.right };
        if link == 0 {
            return Ok(None);
        }
        if depth >= self.tree_bits {
            return self.fault(node.start);
        }
        let bit = self.tree_bits - 1 - depth;
        let probe = (node.start & !(1 << bit)) | ((side - LEFT) << bit);
        self.follow(node.start, link, probe, depth + 1).map(Some)
    }

    /// The length of the longest block in the subtree on one side of a node at `depth`; 0 without such a subtree.
    #[inline(always)]
    fn longest_on(&self, node: Node, depth: usize, side: usize) -> Result<usize> {
        Ok(self.child(node, depth, side)?.map_or(0, |child| child.longest))
    }

    /// Makes `path` the one to `key`, or to where a node with that key would be added.
    #[inline(always)]
    fn descend(&mut self, key: usize) -> Result<()> {
        self.path.clear();
        let (mut from, mut link) = (key, self.ctx.roots[self.section(key)].get());
        while link != 0 {
            let depth = self.path.len();
            let node = self.follow(from, link, key, depth)?;
            self.path.push(node);
            if node.start == key {
                break;
            }
            // At the depth at which no bit is left, `follow` accepts only `key` itself, so the loop has ended there.
            link = if self.side(key, depth) == LEFT { node.left } else { node.right };
            from = node.start;
        }
        Ok(())
    }

    /// Makes `path` the one to the node `key`, unless it is already. Fails if the node is not in its tree.
    #[inline(always)]
    fn find(&mut self, key: usize) -> Result<Node> {
        if let Some(node) = self.path.last().filter(|node| node.start == key) {
            return Ok(node);
        }
        self.descend(key)?;
        match self.path.last() {
            Some(node) if node.start == key => Ok(node),
            _ => self.fault(key),
        }
    }

    /// Sets the link on the path that leads, or would lead, to the node at `depth` on the way to `key`.
    #[inline(always)]
    fn relink(&mut self, key: usize, depth: usize, link: usize) {
        match depth.checked_sub(1) {
            None => self.set_root(self.section(key), link),
            Some(above) => {
                let parent = self.path.at(above);
                let seal = seal(parent.start, parent.len.wrapping_neg(), above) & !self.key_mask;
                self.set(parent.start, self.side(key, above), seal | link);
            }
        }
    }

    /// Adjusts `longest` of the nodes at `levels` of the path, when `longest` of the subtree below them changes from `old` to `new`. Returns
    /// the new `longest` of the topmost of the nodes, or `new` if `levels` is empty.
    #[inline(always)]
    fn adjust(&mut self, levels: Range<usize>, mut old: usize, mut new: usize) -> Result<usize> {
        for level in levels.clone().rev() {
            let node = self.path.at(level);
            let longest = if new >= old {
                node.longest.max(new)
            } else if node.longest > old {
                node.longest // of a block elsewhere
            } else {
                let other = LEFT + RIGHT - self.side(self.path.at(level + 1).start, level);
                node.len.max(new).max(self.longest_on(node, level, other)?)
            };
            if longest == node.longest {
                return Ok(self.path.at(levels.start).longest);
            }
            self.set(node.start, LONGEST, longest);
            (old, new) = (node.longest, longest);
        }
        Ok(new)
    }

    /// Adjusts `longest` of all nodes above the one at `depth` of the path, and that of the section, when that of the node changes from
    /// `old` to `new`.
    #[inline]
    fn adjust_above(&mut self, depth: usize, old: usize, new: usize) -> Result<()> {
        if old == new {
            return Ok(());
        }
        let root = self.path.at(0);
        let longest = self.adjust(0..depth, old, new)?;
        if longest != root.longest {
            self.set_longest(self.section(root.start), longest);
        }
        Ok(())
    }

    /// Adds a block.
    fn insert(&mut self, block: Extent) -> Result<()> {
        let Extent { start: key, len } = block;
        self.descend(key)?;
        let depth = self.path.len();
        let mut level = depth;
        while level > 0 {
            let above = self.path.at(level - 1);
            if above.start == key {
                return self.fault(key);
            }
            if above.longest >= len {
                break;
            }
            self.set(above.start, LONGEST, len);
            level -= 1;
        }
        if level == 0 {
            self.set_longest(self.section(key), len);
        }
        self.relink(key, depth, key + 1);
        self.set_node(block, depth, [0, 0], len);
        self.path.clear();
        Ok(())
    }

    /// Replaces the node `old` by the block `new`.
    fn replace(&mut self, old: usize, new: Extent) -> Result<()> {
        if !self.replace_in_place(old, new)? {
            self.remove(old)?;
            self.insert(new)?;
        }
        Ok(())
    }

    /// Replaces the node `old` by the block `new` if that may be at the same place of the tree. Returns whether it may.
    #[inline(always)]
    fn replace_in_place(&mut self, old: usize, new: Extent) -> Result<bool> {
        let Extent { start: key, len } = new;
        let node = self.find(old)?;
        let depth = self.path.len() - 1;
        if !self.akin(old, key, depth) {
            return Ok(false);
        }
        let longest = if len >= node.longest {
            len
        } else if node.len < node.longest {
            node.longest // of a block below
        } else {
            len.max(self.longest_on(node, depth, LEFT)?).max(self.longest_on(node, depth, RIGHT)?)
        };
        self.adjust_above(depth, node.longest, longest)?;
        if key != old {
            self.relink(key, depth, key + 1);
            self.forget(old);
        }
        self.set_node(new, depth, [node.left, node.right], longest);
        self.path.clear();
        Ok(true)
    }

    /// Removes the node `key`: a leaf below it comes into its place.
    ///
    /// ```text
    ///           k                 x
    ///          / \               / \
    ///         a   b     ->      a   b        x is any leaf below k; without one, the link to k becomes 0
    ///        / \               /
    ///       c   x             c
    /// ```
    fn remove(&mut self, key: usize) -> Result<()> {
        let node = self.find(key)?;
        let depth = self.path.len() - 1;
        let mut leaf = node;
        loop {
            let side = if leaf.left != 0 { LEFT } else { RIGHT };
            let Some(child) = self.child(leaf, self.path.len() - 1, side)? else { break };
            self.path.push(child);
            leaf = child;
        }
        let leaf_depth = self.path.len() - 1;
        let mut longest = 0;
        if leaf_depth == depth {
            self.relink(key, depth, 0);
        } else {
            let below = self.adjust(depth + 1..leaf_depth, leaf.longest, 0)?;
            let side = self.side(leaf.start, depth);
            longest = leaf.len.max(below).max(self.longest_on(node, depth, LEFT + RIGHT - side)?);
            let mut links = [node.left, node.right];
            if leaf_depth == depth + 1 {
                links[side - LEFT] = 0;
            } else {
                self.relink(leaf.start, leaf_depth, 0);
            }
            self.relink(key, depth, leaf.start + 1);
            self.set_node(Extent { start: leaf.start, len: leaf.len }, depth, links, longest);
        }
        self.adjust_above(depth, node.longest, longest)?;
        self.forget(key);
        self.path.clear();
        Ok(())
    }
}

/// The seal of a node with this first word at this depth. Its bits above those of a key are in LEFT and in RIGHT, above the links.
///
/// The two uppermost bits are 01, which no small number has, positive or negative. So [`forget`] breaks a seal by LEFT = 0: when a block
/// stops being a node, no link leads to its old words.
#[inline]
fn seal(start: usize, length: usize, depth: usize) -> usize {
    const ODD: usize = (0x9E37_79B9_7F4A_7C15_u64 >> (u64::BITS - usize::BITS)) as usize | 1;
    let mix = (start ^ length.rotate_left(usize::BITS / 2)).wrapping_add(depth).wrapping_mul(ODD);
    (mix >> 2) | (1 << (usize::BITS - 2))
}

/// Empties all trees. The caller forgets the nodes, or the pool is new.
pub(crate) fn clear(ctx: &Context) {
    for section in 0..SECTIONS {
        ctx.roots[section].set(0);
        ctx.longest[section].set(0);
    }
}

/// Makes sure that no link leads to the words of a free block that is in no tree any more.
pub(crate) fn forget(pool: Pool, block: Extent) {
    if block.len >= NODE {
        pool.set(block.start + LEFT, 0);
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
    let mut edit = Edit::new(ctx);
    if block.len >= NODE {
        let inserted = edit.insert(block);
        edit.or_undo(inserted)?;
    }
    store_length(edit.pool, block);
    Ok(())
}

/// Takes a free block out of its tree. It stays counted.
pub(crate) fn take(ctx: &Context, block: Extent) -> Result<()> {
    if block.len < NODE {
        return Ok(());
    }
    let mut edit = Edit::new(ctx);
    let removed = edit.remove(block.start);
    edit.or_undo(removed)
}

/// Fails if [`add`] of a block that starts at `start` would fail.
pub(crate) fn check_way(ctx: &Context, start: usize) -> Result<()> {
    Edit::new(ctx).descend(start)
}

/// The length of the longest free block, 0 if all are shorter than [`NODE`].
pub(crate) fn longest(ctx: &Context) -> usize {
    ctx.longest.iter().map(|longest| longest.get()).max().unwrap_or(0)
}

/// Checks the node of a free block: it is found, and `longest` is right, there and for the section of a root. Returns how many children
/// it has.
pub(crate) fn check_node(ctx: &Context, start: usize) -> Result<usize> {
    let mut edit = Edit::new(ctx);
    let node = edit.find(start)?;
    let depth = edit.path.len() - 1;
    let below = edit.longest_on(node, depth, LEFT)?.max(edit.longest_on(node, depth, RIGHT)?);
    let is_right = node.longest == node.len.max(below);
    if !is_right || (depth == 0 && node.longest != ctx.longest[edit.section(start)].get()) {
        return edit.fault(start);
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
    /// How many were pushed, those included that were taken out again.
    #[cfg(debug_assertions)]
    pushed: usize,
}

impl<T: Copy, const N: usize> Stack<T, N> {
    #[inline(always)]
    fn new() -> Self {
        Stack {
            values: [const { MaybeUninit::uninit() }; N],
            len: 0,
            #[cfg(debug_assertions)]
            pushed: 0,
        }
    }

    #[inline(always)]
    fn push(&mut self, value: T) {
        self.values[self.len].write(value);
        self.len += 1;
        #[cfg(debug_assertions)]
        {
            self.pushed += 1;
        }
    }

    /// Pushes all of them, or none if they do not fit.
    #[inline(always)]
    fn push_all<const K: usize>(&mut self, values: [T; K]) {
        for (place, value) in self.values[self.len..][..K].iter_mut().zip(values) {
            place.write(value);
        }
        self.len += K;
    }

    fn len(&self) -> usize {
        self.len
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The values, oldest first.
    #[inline(always)]
    fn as_slice(&self) -> &[T] {
        let values = &self.values[..self.len];
        // SAFETY: `push` has initialized the first `len` values, and MaybeUninit<T> has the layout of T.
        unsafe { &*(core::ptr::from_ref(values) as *const [T]) }
    }

    #[inline(always)]
    fn at(&self, index: usize) -> T {
        self.as_slice()[index]
    }

    #[inline(always)]
    fn last(&self) -> Option<T> {
        self.as_slice().last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeMap;

    const WORDS: usize = 1 << 14;

    #[test]
    fn the_change_with_the_most_writes_fills_its_part_of_an_edit() {
        let mut memory = vec![0usize; WORDS];
        let ctx = Context::new();
        // SAFETY: the memory outlives the context and nothing else uses it.
        unsafe { ctx.set_pool(memory.as_mut_ptr(), WORDS) };
        ctx.set_end(WORDS);
        let section = 1 << ctx.tree_bits.get();
        // A root, its child, and a longer leaf below that, which takes the place of the root.
        let [root, child, leaf] =
            [(0, 50), (section / 2, 10), (section / 2 + 60, 20)].map(|(start, len)| Extent { start, len });
        for block in [root, child, leaf] {
            let mut edit = Edit::new(&ctx);
            edit.change(Change { old: None, new: Some(block) }).unwrap();
        }
        let mut edit = Edit::new(&ctx);
        edit.change(Change { old: Some(root), new: Some(Extent { start: section, len: 40 }) }).unwrap();
        assert_eq!(edit.old.len(), 3 + OTHER_WRITES);
        assert_eq!([leaf, child].map(|block| check_node(&ctx, block.start)), [Ok(1), Ok(0)]);
    }

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
            let mut random = Random(seed);
            let mut random = |below: usize| random.below(below);
            for _ in 0..20_000 {
                let mut edit = Edit::new(&ctx);
                for _ in 0..1 + random(MAX_CHANGES) {
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
                    edit.change(change).unwrap();
                    if let Some(old) = change.old {
                        twin.remove(&old.start);
                    }
                    if let Some(new) = change.new {
                        twin.insert(new.start, new.len);
                    }
                }
                let words = NODE + random(70);
                let want = twin.iter().find(|&(_, &len)| len >= words).map(|(&start, &len)| Extent { start, len });
                assert_eq!(Edit::new(&ctx).first_fit(words), Ok(want));
            }
            let nodes: Vec<_> = twin.iter().filter(|&(_, &len)| len >= NODE).collect();
            let links: usize = nodes.iter().map(|&(&start, _)| check_node(&ctx, start).unwrap()).sum();
            assert_eq!(links + count_roots(&ctx), nodes.len());
            assert_eq!(ctx.free_words.get(), twin.values().sum::<usize>());
        }
    }
}
