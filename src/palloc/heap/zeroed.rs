// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blobs of zeros, and the root, which is one.

use super::Heap;
use super::alloc::{Data, Place};
use crate::palloc::Result;
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, Marker, Start};
use crate::palloc::medium::{Bytes, Medium};

impl<M: Medium> Heap<M> {
    /// As `alloc`, and the bytes of the blob are zeros before the chain leads to it.
    pub fn alloc_zeroed(&mut self, requested: u64) -> Result<u64> {
        self.begin_change()?;
        self.using_reserves(&|heap: &mut Self| {
            heap.with_tail_restored(|heap| {
                let Place { block, free } = heap.place(requested)?;
                let data = heap.clear_data(block, free)?;
                heap.claim(block, free, Marker::live(block.data_len).0, data)?;
                Ok(block.blob())
            })
        })
    }

    /// Clears the data of `block`, which is to become a live one in `free`: up to its end marker, or to where there are zeros already.
    fn clear_data(&mut self, block: Extent, free: Extent) -> Result<Data> {
        let is_slack = free.start == self.blocks_end;
        let stop = if is_slack { self.zeros_from.min(block.end_marker()) } else { block.end_marker() };
        let Some(len) = stop.checked_sub(block.blob()).filter(|&len| len > 0) else { return Ok(Data::Any) };
        self.medium.ensure_space(block.blob()..stop, Bytes::Scratch)?;
        self.medium.clear(block.blob(), len);
        Ok(Data::Stored)
    }

    /// The first blob. If there is no blob, allocates one of zeros, at the lowest place. Fails iff the blob has fewer than `size` bytes,
    /// a transaction is open and there is no blob, or as `alloc_zeroed`.
    pub fn root(&mut self, size: u64) -> Result<u64> {
        const LOWEST: u64 = Start::FIRST.blob();
        let first = self.first()?;
        if first != 0 {
            let len = self.size_of(first)?;
            return if len < size { Err(Error::RootTooShort { ptr: first, len, size }) } else { Ok(first) };
        }
        self.begin_change()?;
        if self.has_open_transactions() {
            return Err(Error::RootInTransaction);
        }
        self.tidy_transactions()?; // their logs may be where the root must be
        let root = self.alloc_zeroed(size)?;
        debug_assert_eq!(root, LOWEST, "a medium without blobs is one free block, or ends with its header");
        Ok(root)
    }
}
