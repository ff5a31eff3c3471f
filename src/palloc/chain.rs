// SPDX-License-Identifier: MIT OR Apache-2.0
//! The chain: the blocks as their start markers lead from one to the next. Here is the one test of whether a block can be at a place.

use super::format::{Extent, MIN_DATA, Marker, OVERHEAD, Start};
use super::medium::Medium;

/// A block of the chain, as its start marker has it.
#[derive(Clone, Copy)]
pub struct ChainBlock {
    pub block: Extent,
    pub is_free: bool,
}

impl ChainBlock {
    /// The block's start marker.
    pub fn marker(self) -> Marker {
        if self.is_free { Marker::free(self.block.data_len) } else { Marker::live(self.block.data_len) }
    }

    /// The block's end marker, which may be another one.
    pub fn end_marker(self, medium: &impl Medium) -> Marker {
        Marker(medium.load(self.block.end_marker()))
    }
}

/// The block that the word at `start` is the start marker of. Returns None if that leads to no place at or before `stop`.
#[inline]
pub fn block_at(medium: &impl Medium, start: Start, stop: u64) -> Option<ChainBlock> {
    let longest = stop.checked_sub(start.offset())?.checked_sub(OVERHEAD).filter(|&longest| longest >= MIN_DATA)?;
    let marker = medium.start_marker(start);
    let fits = (MIN_DATA..=longest).contains(&marker.data_len());
    fits.then(|| ChainBlock { block: Extent { start, data_len: marker.data_len() }, is_free: marker.is_free() })
}

/// A walk along the chain, for loops that change the medium meanwhile. They must not change where it leads.
pub struct Walk {
    /// Where the next block starts. After the last one: where the chain ends.
    pub end: Start,
    stop: u64,
}

impl Walk {
    /// The walk from `start` on, as far as the chain leads to places at or before `stop`.
    pub fn new(start: Start, stop: u64) -> Walk {
        Walk { end: start, stop }
    }

    /// The next block. Returns None at the end of the chain.
    #[inline]
    pub fn next(&mut self, medium: &impl Medium) -> Option<ChainBlock> {
        let found = block_at(medium, self.end, self.stop)?;
        self.end = found.block.next();
        Some(found)
    }

    /// Whether the chain led exactly to `stop`. Precondition: there is no further block.
    pub fn is_whole(&self) -> bool {
        self.end.offset() == self.stop
    }
}

/// The blocks of the chain from one place on.
pub struct Chain<'a, M> {
    medium: &'a M,
    pub walk: Walk,
}

impl<'a, M: Medium> Chain<'a, M> {
    /// The chain from `start` on, as far as it leads to places at or before `stop`.
    pub fn new(medium: &'a M, start: Start, stop: u64) -> Self {
        Chain { medium, walk: Walk::new(start, stop) }
    }
}

impl<M: Medium> Iterator for Chain<'_, M> {
    type Item = ChainBlock;

    #[inline]
    fn next(&mut self) -> Option<ChainBlock> {
        self.walk.next(self.medium)
    }
}
