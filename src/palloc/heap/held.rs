// SPDX-License-Identifier: MIT OR Apache-2.0
//! Held blocks: free on the medium, and not yet free for those who allocate ([`State::Held`](super::State)).
//!
//! ```text
//!   live  -- hold: one store -->  held  -- free_held: joins it with its neighbours -->  free
//! ```
//!
//! Between the two nothing is stored to the block: neither links nor an end marker, and no neighbour is joined with it. For opening after
//! a kill it is a free block.

use super::Heap;
use crate::palloc::Result;
use crate::palloc::format::{Extent, Marker};
use crate::palloc::medium::Medium;

impl<M: Medium> Heap<M> {
    /// Frees a live block on the medium, and keeps it from everybody. Fails iff the disk has no space for its marker, or a barrier fails;
    /// then nothing changed.
    #[cfg_attr(not(test), expect(dead_code))]
    pub(in crate::palloc) fn hold(&mut self, block: Extent) -> Result<()> {
        self.ensure_words([Some(block.start), Some(block.end_marker())])?;
        self.publish(block.start, Marker::free(block.data_len))?;
        self.index.put_held(block.start);
        Ok(())
    }

    /// A held block is free for everybody: joins it with its free neighbours. Precondition: the medium may be stored to.
    #[cfg_attr(not(test), expect(dead_code))]
    pub(in crate::palloc) fn free_held(&mut self, block: Extent) {
        self.free_reserved_or_unjoined(block, &[]);
    }
}
