// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recent blocks: the free blocks of exact sizes that were freed last. Each exact size has a stack of them.
//!
//! Searches of that size take the top of the stack first, because its bytes are still in the processor's cache. A block of the stack is in
//! no set. A block that is freed while its stack is full goes to a set.

use std::collections::TryReserveError;

use super::stack::Stack;
use super::{CLASSES, class_of, data_len_of_class};
use crate::palloc::format::{Extent, Start};

/// How many blocks a stack holds.
pub const DEPTH: usize = 63;

const _: () = assert!(CLASSES <= u32::BITS as usize, "a set of classes is a u32");

/// The stacks of all exact sizes.
#[derive(Default)]
pub struct RecentBlocks {
    /// One for each class. Empty until `prepare` is called.
    stacks: Vec<Stack<DEPTH>>,
    /// Bit c is set iff the stack of class c has a block.
    non_empty: u32,
}

impl RecentBlocks {
    /// Allocates the stacks. Fails iff there is no memory.
    pub fn prepare(&mut self) -> Result<(), TryReserveError> {
        if self.stacks.is_empty() {
            self.stacks.try_reserve_exact(CLASSES)?;
            self.stacks.resize_with(CLASSES, || Stack::EMPTY);
        }
        Ok(())
    }

    /// The classes whose stacks have a block, a bit for each.
    pub fn non_empty(&self) -> u32 {
        self.non_empty
    }

    /// Pushes a free block. Returns false, and changes nothing, if its size is not exact or its stack is full.
    #[inline]
    pub fn push(&mut self, block: Extent) -> bool {
        let Some(class) = class_of(block.data_len) else { return false };
        let pushed = self.stacks.get_mut(class).is_some_and(|stack| stack.push(block.start));
        if pushed {
            self.non_empty |= 1 << class;
        }
        pushed
    }

    /// The block of this class that was freed last.
    #[inline]
    pub fn top(&self, class: usize) -> Option<Start> {
        self.stacks.get(class)?.top()
    }

    /// Takes a block that is the top of its stack.
    #[inline]
    pub fn pop(&mut self, block: Extent) {
        let class = class_of(block.data_len).expect("a recent block has an exact size");
        let stack = &mut self.stacks[class];
        debug_assert_eq!(stack.top(), Some(block.start));
        stack.pop();
        self.clear_if_empty(class);
    }

    /// Takes the block at `start` out of its stack. Precondition: it is in one.
    ///
    /// It is in that of `data_len`, unless that was read from a marker that the program overwrote: then this looks in all of them.
    pub fn remove(&mut self, start: Start, data_len: u64) {
        let mut classes = class_of(data_len).into_iter().chain(0..CLASSES);
        let class = classes.find(|&class| self.stacks[class].remove(start)).expect("a recent block is in a stack");
        self.clear_if_empty(class);
    }

    #[inline]
    fn clear_if_empty(&mut self, class: usize) {
        if self.stacks[class].is_empty() {
            self.non_empty &= !(1 << class);
        }
    }

    /// Takes the top of the stack of the lowest class that has a block.
    pub fn pop_any(&mut self) -> Option<Extent> {
        let class = self.non_empty.trailing_zeros() as usize;
        let block = Extent { start: self.top(class)?, data_len: data_len_of_class(class) };
        self.pop(block);
        Some(block)
    }

    /// All recent blocks. For checks.
    pub fn all(&self) -> impl Iterator<Item = Extent> + '_ {
        self.stacks.iter().enumerate().flat_map(|(class, stack)| {
            stack.starts().iter().map(move |&start| Extent { start, data_len: data_len_of_class(class) })
        })
    }

    /// Panics if `non_empty` is wrong.
    pub fn check_invariants(&self) {
        for (class, stack) in self.stacks.iter().enumerate() {
            assert_eq!(self.non_empty >> class & 1 == 1, !stack.is_empty(), "non_empty of class {class}");
        }
        assert!(!self.stacks.is_empty() || self.non_empty == 0, "no stacks, so none has a block");
    }
}
