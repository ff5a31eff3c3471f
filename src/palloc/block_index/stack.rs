// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stack of block starts, for the recent blocks of a class and for those in a cache.

use crate::palloc::format::Start;

/// Starts of blocks of one size. The one that was pushed last is on top. Bytes of zeros are an empty stack.
pub struct Stack<const DEPTH: usize> {
    len: usize,
    starts: [Start; DEPTH],
}

impl<const DEPTH: usize> Stack<DEPTH> {
    pub const EMPTY: Stack<DEPTH> = Stack { len: 0, starts: [Start::NOWHERE; DEPTH] };

    /// From the oldest to the top.
    #[inline]
    pub fn starts(&self) -> &[Start] {
        &self.starts[..self.len]
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub fn top(&self) -> Option<Start> {
        self.starts().last().copied()
    }

    /// Returns false, and changes nothing, if the stack is full.
    #[inline]
    pub fn push(&mut self, start: Start) -> bool {
        let Some(place) = self.starts.get_mut(self.len) else { return false };
        *place = start;
        self.len += 1;
        true
    }

    /// Removes the top. Precondition: there is one.
    #[inline]
    pub fn pop(&mut self) {
        self.len -= 1;
    }

    /// Returns false, and changes nothing, if `start` is not in the stack.
    pub fn remove(&mut self, start: Start) -> bool {
        let Some(place) = self.starts().iter().rposition(|&other| other == start) else { return false };
        self.starts.copy_within(place + 1..self.len, place);
        self.len -= 1;
        true
    }

    /// Removes the `n` oldest, and returns them. Precondition: there are so many.
    pub fn take_oldest(&mut self, n: usize) -> Stack<DEPTH> {
        let mut oldest = Stack { len: n, starts: [Start::NOWHERE; DEPTH] };
        oldest.starts[..n].copy_from_slice(&self.starts()[..n]);
        self.starts.copy_within(n..self.len, 0);
        self.len -= n;
        oldest
    }
}
