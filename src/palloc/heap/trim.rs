// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trim: gives the disk's space under free blocks back.

use super::{Heap, data_len_at};
use crate::palloc::Result;
use crate::palloc::block_index::{MAX_EXACT, State};
use crate::palloc::format::{FREE_HEAD, OVERHEAD};
use crate::palloc::medium::Medium;

impl<M: Medium> Heap<M> {
    /// Gives the space of whole pages in free blocks back, where there are at least `least` bytes of them. Returns by how many bytes
    /// the file takes less space.
    ///
    /// That the blocks are free is on the disk first: a power cut must not bring back a blob without its bytes.
    pub fn trim(&mut self, least: u64) -> Result<u64> {
        self.check_writable()?;
        self.may_flush()?;
        self.tidy()?;
        self.flush()?;
        let before = self.medium.allocated();
        let shortest = least.saturating_add(FREE_HEAD + OVERHEAD).max(MAX_EXACT + 1);
        let mut from = 0;
        while let Some(free) = self.index.next_other(from, shortest, |start| data_len_at(&self.medium, start)) {
            let free = self.block(free.start, State::Free)?;
            self.medium.give_back(free.start.offset() + FREE_HEAD..free.end_marker(), least)?;
            from = free.end();
        }
        Ok(before.saturating_sub(self.medium.allocated()))
    }
}
