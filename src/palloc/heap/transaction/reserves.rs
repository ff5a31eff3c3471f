// SPDX-License-Identifier: MIT OR Apache-2.0
//! What transactions keep for later: logs, regions and room in lists. It is given back when space is short, and when the medium is made tidy.

use super::changes::{Changes, Region, is_large};
use super::{MAX_IDLE, MAX_RECORD, MIN_IDLE, OWN_LOG, REGION, units_in};
use crate::palloc::Result;
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, MIN_BLOCK, Marker, Request, Start};
use crate::palloc::heap::Heap;
use crate::palloc::heap::alloc::{Place, split};
use crate::palloc::medium::Medium;
use crate::palloc::record::{self, MAX_OFFSET, UNIT};

impl<M: Medium> Heap<M> {
    /// Runs `operation`. If it fails for want of space, frees the blocks that no live reader can reach, then the reserves of later
    /// transactions, and runs it once more after each. Not after a failed sync: then nothing may be stored. Precondition: `operation` leaves
    /// the medium as it was when it fails.
    #[inline(always)]
    pub(in crate::palloc::heap) fn using_reserves<T>(
        &mut self,
        operation: &impl Fn(&mut Self) -> Result<T>,
    ) -> Result<T> {
        operation(self).or_else(|error| self.with_reserves_freed(error, operation))
    }

    /// Continues `using_reserves` after `operation` failed.
    #[cold]
    #[inline(never)]
    fn with_reserves_freed<T>(&mut self, error: Error, operation: &impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        match error {
            Error::Held => self.reclaimed(|heap| heap.using_reserves(operation)), // not a second time: see `may_reclaim`
            Error::Full { .. } | Error::System { .. } if self.failed_sync.is_none() && self.has_reserves() => {
                self.free_reserves()?;
                operation(self)
            }
            error => Err(error),
        }
    }

    pub(super) fn has_reserves(&self) -> bool {
        !(self.tx.idle.is_empty() && self.tx.spent.is_empty() && self.tx.quarantine.is_empty())
    }

    /// Makes room in the lists for one more reserved block, and for so many more freed ones, so that later steps cannot fail.
    #[inline]
    pub(super) fn reserve_lists(&mut self, more_frees: usize) -> Result<()> {
        let needed = self.tx.owned + 1 + self.tx.frees + more_frees;
        if needed <= self.tx.list_capacity { Ok(()) } else { self.grow_lists(needed) }
    }

    #[cold]
    #[inline(never)]
    fn grow_lists(&mut self, needed: usize) -> Result<()> {
        let tx = &mut self.tx;
        for list in [&mut tx.idle, &mut tx.spent, &mut tx.quarantine] {
            list.try_reserve(needed - list.len().min(needed))?;
        }
        tx.dead.try_reserve(2 * needed - tx.dead.len().min(2 * needed))?;
        tx.list_capacity = needed;
        Ok(())
    }

    /// Makes a log of at least `size` bytes. It counts from its first commit on, before which a barrier comes.
    pub(super) fn make_log(&mut self, size: u64) -> Result<Extent> {
        self.may_store()?;
        self.reserve_lists(0)?;
        let log = self.with_tail_restored(|heap| {
            let Place { block, free } = heap.place(size)?;
            if free.end() > MAX_OFFSET {
                return Err(Error::TooLarge(size));
            }
            heap.divide(block, free, Marker::live(block.data_len), record::idle_tag(block.end_marker()))?;
            Ok(block)
        })?;
        self.index.put_reserved(log.start);
        self.tx.owned += 1;
        Ok(log)
    }

    /// Makes sure that the transaction's record can have so many more units.
    pub(super) fn reserve_units(&mut self, changes: &mut Changes, more: usize) -> Result<()> {
        if changes.has_units(more) {
            return Ok(());
        }
        let needed_len = record::HEAD + (changes.units() + more) as u64 * UNIT;
        if needed_len > MAX_RECORD {
            return Err(Error::TooManyChanges { limit: MAX_RECORD });
        }
        let ahead = (2 * needed_len).clamp(OWN_LOG, MAX_RECORD);
        changes.record.try_reserve(units_in(ahead) * UNIT as usize - changes.record.len())?;
        let log = self.make_log(ahead).or_else(|_| {
            self.check_synced()?;
            self.using_reserves(&|heap: &mut Self| heap.make_log(needed_len))
        })?;
        changes.capacity = units_in(log.data_len.min(ahead));
        if let Some(old) = changes.log.replace(log) {
            self.done_with(old);
        }
        Ok(())
    }

    /// Adds a region to the transaction in which a blob of `requested` bytes fits.
    pub(super) fn add_region(&mut self, changes: &mut Changes, requested: u64) -> Result<()> {
        self.check_writable()?;
        let request = Request::of(requested).ok_or(Error::TooLarge(requested))?;
        changes.regions.try_reserve(1)?;
        self.reserve_units(changes, 1)?;
        let fits = |region: &Extent| region.data_len >= request.least;
        let region = match self.tx.idle.iter().rposition(fits) {
            Some(i) => self.tx.idle.swap_remove(i),
            None => {
                self.using_reserves(&|heap: &mut Self| heap.with_tail_restored(|heap| heap.new_region(requested)))?
            }
        };
        let (start, end) = (region.start, region.end());
        let address = self.medium.address(start.offset(), end - start.offset()).cast();
        changes.regions.push(Region { start, next: start, end, address });
        changes.unused_regions += 1;
        Ok(())
    }

    /// Reserves a free block in which a blob of `requested` bytes fits: a whole one, or a part of a large one or of the slack.
    fn new_region(&mut self, requested: u64) -> Result<Extent> {
        let request = Request::of(requested).ok_or(Error::TooLarge(requested))?;
        self.reserve_lists(0)?;
        let Place { block, free } = self.place(requested)?;
        let start = free.start;
        if free.end() > MAX_OFFSET {
            return Err(Error::TooLarge(requested));
        }
        let is_slack = start == self.blocks_end;
        let data_len = match is_slack {
            true if !start.is_in_step() => block.data_len, // brings the next block into step
            false if !is_large(start, free.end()) => free.data_len,
            _ => split(free.data_len, request.data_len.max(REGION)),
        };
        let region = Extent { start, data_len };
        if !is_large(start, region.end()) {
            self.index.prepare_between(start, Start::at(region.end() - MIN_BLOCK))?; // the last block starts there at the latest
        }
        if is_slack || region != free {
            self.may_store()?;
            // It counts from the commit of its first blobs on, and a barrier comes before that.
            let marker = Marker::free(region.data_len);
            self.divide(region, free, marker, marker.0)?;
        } else {
            self.ensure_divisible(free, free)?;
            self.take_from_index(free);
        }
        self.index.put_reserved(start);
        self.tx.owned += 1;
        Ok(region)
    }

    /// Keeps a region, or the rest of one, for the next transaction, or has it freed.
    pub(super) fn make_idle(&mut self, region: Extent) {
        let is_worth_it = region.data_len >= MIN_IDLE && !is_large(region.start, region.end());
        if is_worth_it && self.tx.idle.len() < MAX_IDLE {
            self.tx.idle.push(region);
        } else {
            self.done_with(region);
        }
    }

    /// Has a reserved block freed: at once, or on a durable medium with the next quarantine.
    pub(super) fn done_with(&mut self, block: Extent) {
        if self.medium.is_durable() || !self.writable {
            self.tx.spent.push(block);
        } else {
            self.tx.owned -= 1;
            self.free_used_joined_or_not(block, &[]);
        }
    }

    /// Frees all that is kept for later transactions, except the logs. Fails as `take_back_record` and `free_used`.
    fn free_reserves(&mut self) -> Result<()> {
        self.take_back_record()?;
        self.tx.spent.append(&mut self.tx.idle); // each list has room for all
        while let Some(&block) = self.tx.spent.last() {
            self.free_used(block, &[])?;
            self.tx.spent.pop();
            self.tx.owned -= 1;
        }
        self.check_synced() // as in `free_used`
    }

    /// If no transaction is open, removes all traces of earlier ones: the medium is exactly the format again.
    pub(in crate::palloc::heap) fn tidy_transactions(&mut self) -> Result<()> {
        self.take_back_record()?;
        if self.tx.open > 0 {
            return Ok(());
        }
        self.free_reserves()?;
        for i in 0..self.tx.logs.len() {
            if let Some(log) = self.tx.logs[i] {
                self.free_used(log, &[])?;
                self.tx.logs[i] = None;
                self.tx.owned -= 1;
            }
        }
        if self.tx.unjoined { self.join_free_blocks() } else { Ok(()) }
    }
}
