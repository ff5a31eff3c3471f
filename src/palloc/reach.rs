// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which blobs are reachable: follows references from roots, as the program reads them out of its blobs.
//!
//! A bit for each slot of 32 bytes of the medium, in which at most one block starts, is set while the blob there is not reached. Blobs that
//! are reached and not traced yet are on a stack. Nothing is stored on the medium, and it is locked for moments only.

use std::ffi::CStr;
use std::ops::ControlFlow;

use super::block_index::State;
use super::format::{Extent, MIN_BLOCK, Start};
use super::{Block, Palloc, Result};

const BITS: u64 = u64::BITS as u64;

/// The slot in which a block starts.
fn slot_of(start: Start) -> u64 {
    start.offset() / MIN_BLOCK
}

struct Reach<'a> {
    medium: &'a Palloc,
    unreached: Vec<u64>,
    stack: Vec<u64>,
}

impl<'a> Reach<'a> {
    /// No blob is reached.
    fn new(medium: &'a Palloc) -> Result<Reach<'a>> {
        let heap = medium.lock();
        heap.check_walkable()?;
        let words = (heap.size() / MIN_BLOCK / BITS + 1) as usize;
        let mut unreached = Vec::new();
        unreached.try_reserve_exact(words)?;
        unreached.resize(words, 0);
        for (start, _) in heap.index.blocks().filter(|&(_, state)| state == State::Live) {
            let slot = slot_of(start);
            unreached[(slot / BITS) as usize] |= 1 << (slot % BITS);
        }
        drop(heap);
        Ok(Reach { medium, unreached, stack: Vec::new() })
    }

    /// A reference to the byte at `ptr` was found. Fails iff there is no memory.
    fn visit(&mut self, ptr: u64, dangling: &mut impl FnMut(u64, &CStr)) -> Result<()> {
        if ptr == 0 {
            return Ok(());
        }
        let Some(blob) = self.medium.lock().blob_around(ptr, 1)?.map(Extent::blob) else {
            dangling(ptr, c"no blob is there");
            return Ok(());
        };
        if blob != ptr {
            dangling(ptr, c"it is inside of a blob, which is kept");
        }
        let slot = slot_of(Start::of_blob(blob));
        let bit = 1 << (slot % BITS);
        if let Some(word) = self.unreached.get_mut((slot / BITS) as usize).filter(|word| **word & bit != 0) {
            self.stack.try_reserve(1)?;
            self.stack.push(blob);
            *word &= !bit;
        }
        Ok(())
    }

    /// The first blob from `from` on that is not reached, and still there.
    fn next_unreached(&self, from: u64) -> Result<Option<Block>> {
        let mut slot = from.div_ceil(MIN_BLOCK);
        while let Some(&word) = self.unreached.get((slot / BITS) as usize) {
            let bits = word >> (slot % BITS);
            if bits == 0 {
                slot = (slot / BITS + 1) * BITS;
                continue;
            }
            slot += u64::from(bits.trailing_zeros());
            let heap = self.medium.lock();
            match heap.block_from(slot * MIN_BLOCK)? {
                Some(block) if !block.is_free && slot_of(Start::of_blob(block.ptr)) == slot => return Ok(Some(block)),
                _ => slot += 1,
            }
        }
        Ok(None)
    }
}

impl Palloc {
    /// Follows references from `roots`, and calls `each` for every blob that none leads to, by ascending offset. `trace` calls its second
    /// argument for each offset that the blob holds; 0 is no reference. `dangling` is called with each offset that is not the first byte
    /// of a blob; one inside of a blob counts as a reference to it. Either function may end it all.
    ///
    /// Meanwhile no other thread changes the medium, `trace` changes nothing, and `each` frees no blob that is reached.
    pub fn unreachable<B>(
        &self,
        roots: &[u64],
        mut trace: impl FnMut(Block, &mut dyn FnMut(u64)) -> ControlFlow<B>,
        mut each: impl FnMut(Block) -> ControlFlow<B>,
        mut dangling: impl FnMut(u64, &CStr),
    ) -> Result<ControlFlow<B>> {
        let mut reach = Reach::new(self)?;
        for &root in roots {
            reach.visit(root, &mut dangling)?;
            while let Some(ptr) = reach.stack.pop() {
                let block = Block { ptr, size: self.size_of(ptr)?, is_free: false };
                let mut result = Ok(());
                let traced = trace(block, &mut |to| {
                    if result.is_ok() {
                        result = reach.visit(to, &mut dangling);
                    }
                });
                result?;
                if traced.is_break() {
                    return Ok(traced);
                }
            }
        }
        let mut from = 0;
        while let Some(block) = reach.next_unreached(from)? {
            let answer = each(block);
            if answer.is_break() {
                return Ok(answer);
            }
            from = (slot_of(Start::of_blob(block.ptr)) + 1) * MIN_BLOCK;
        }
        Ok(ControlFlow::Continue(()))
    }
}
