// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions: several blobs are allocated, filled, changed and freed in one step, which a kill or a power cut leaves done or undone.
//!
//! Terms. All of this state is in memory only:
//!
//! * **region**: a free block that new blobs are carved out of. For the chain it stays one free block until the commit; the index keeps it
//!   from everybody else ([`State::Reserved`]). So blobs that nobody has committed leave nothing behind.
//! * **log**: a live block that nobody owns, which holds the record of a commit (`record` has the bytes). One is enough without
//!   PALLOC_SYNC; with it there are two, as the record of the last transaction stays **outstanding** until its changes are on the disk.
//! * **quarantine**: blocks that a durable transaction freed, until its record is taken back. Were one handed out before, a power cut
//!   could replay the record and free it again.
//! * **spent**: regions and logs of a durable medium that nobody needs. A record on the disk may still name them, so they go through the
//!   next quarantine.
//!
//! A commit in order, with `|B|` for a barrier, which is nothing without PALLOC_SYNC:
//!
//! ```text
//!   a  all markers of the new blobs, except the start marker of the first one in each region: the chain does not lead there
//!   b  the record, in the log that is not outstanding      |B|   also for the changes of the last transaction
//!   c  the outstanding log: RESERVED; this log: COMMITTED  |B|   this is the commit
//!   d  the changes in the record: start marker of each region, stores, frees into the quarantine
//!   e  without PALLOC_SYNC this log is RESERVED again; with it, it is outstanding
//! ```
//!
//! New blobs of one region and nothing else need no record: `a |B|`, the region's start marker, `|B|`.

use std::ptr::NonNull;

use super::Heap;
use super::alloc::{Place, Rest, split};
use crate::palloc::Result;
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, MIN_BLOCK, MIN_DATA, Marker, OVERHEAD, SPLIT_ABOVE, STEP, Start, WORD, round_up};
use crate::palloc::free_index::State;
use crate::palloc::medium::{Bytes, Medium};
use crate::palloc::record::{
    self, Change, MAX_OFFSET, MAX_STORE, UNIT, Writer, is_inside, put, unit_bytes, unit_words,
};
use crate::palloc::sabotage::{Rule, is_broken};

/// So many transactions can be open on a medium.
pub const MAX_OPEN: usize = 64;
/// The largest record, in bytes.
const MAX_RECORD: u64 = 16 << 20;
/// The data size of a region, if no blob needs more.
const REGION: u64 = 64 << 10;
/// Free blocks up to this size become regions whole.
const MAX_WHOLE: u64 = 2 * REGION;
/// The rest of a region becomes idle, for the next transaction, if it has at least so many bytes of data.
const MIN_IDLE: u64 = 1 << 10;
/// The greatest number of idle regions.
const MAX_IDLE: usize = 8;
/// The data size of the logs that the first transaction makes.
const LOG: u64 = 2 << 10;
/// The least data size of a log of one transaction, whose record does not fit into those.
const OWN_LOG: u64 = 4 * LOG;
/// The number of blobs that a transaction can free before the medium's lists grow.
const FREES_AHEAD: usize = 8;
/// How many regions back a transaction looks for a place.
const LOOK_BACK: usize = 8;
/// For so many new blobs, and blocks that are stored to, the lists of a transaction are allocated when it begins.
const BUFFER: usize = 8;
/// Buffers of transactions that are over are kept for later ones, if they are not larger.
const MAX_SPARE: usize = 4 << 10;

/// The number of units of a record in a log of LOG bytes.
const LOG_UNITS: usize = units_in(LOG);

const _: () = {
    assert!(REGION % STEP == 0 && MIN_IDLE >= MIN_BLOCK, "the rest of a region is a block");
    assert!(LOG > record::HEAD + UNIT && OWN_LOG <= MAX_RECORD, "a log has room for a record");
    assert!(
        OVERHEAD + REGION + SPLIT_ABOVE <= MAX_WHOLE,
        "a region that is split off is not large: small blobs fit in it"
    );
    assert!(LOOK_BACK >= 1, "a blob goes into the region that was made for it");
};

/// How many units a record has at most in a log of this size.
pub(super) const fn units_in(data_len: u64) -> usize {
    ((data_len - record::HEAD) / UNIT) as usize
}

/// How many units the record of a store of these bytes takes.
fn units_of_store(bytes: &[u8]) -> usize {
    if (1..=MAX_STORE).contains(&bytes.len()) {
        return 1 + record::units_of(bytes.len());
    }
    bytes.chunks(MAX_STORE).map(|part| 1 + record::units_of(part.len())).sum()
}

/// The free block from `start` to `end`, of which the part up to `next` is in use for new blobs.
struct Region {
    start: Start,
    /// Where the next new blob's block starts: `end`, or so far before it that a block fits. So `address` stays inside.
    next: Start,
    end: u64,
    address: NonNull<u8>,
}

impl Region {
    fn marker(&self) -> Marker {
        Marker::free(Extent::between(self.start, self.end).data_len)
    }

    /// The size of the largest blob that fits.
    fn largest_blob(&self) -> u64 {
        (self.end - self.next.offset()).saturating_sub(OVERHEAD)
    }

    /// Returns the size that the next new blob gets if `requested` bytes are requested, which round up to `rounded`. Returns None if it
    /// does not fit. A large region takes one blob of its whole length only: the index is not prepared for starts of blocks inside of it.
    #[inline]
    fn size_of_next(&self, requested: u64, rounded: u64) -> Option<u64> {
        let largest = self.largest_blob();
        let data_len = split(largest, rounded);
        let fits = largest >= requested.max(MIN_DATA) && (data_len == largest || !is_large(self.start, self.end));
        fits.then_some(data_len)
    }
}

/// Whether the region is longer than MAX_WHOLE. In such a one the index is prepared for its start only.
fn is_large(start: Start, end: u64) -> bool {
    end - start.offset() > MAX_WHOLE
}

/// A new blob: its block, and where its bytes are in memory.
struct NewBlob {
    block: Extent,
    /// Whether its region begins with it. Then its start marker is that of the region, and storing it publishes all of them.
    is_first: bool,
    data: NonNull<u8>,
}

/// The changes that a transaction will make when it is committed. Used by one thread at a time.
#[derive(Default)]
pub struct Changes {
    is_open: bool,
    regions: Vec<Region>,
    /// By ascending address.
    new_blobs: Vec<NewBlob>,
    /// The blocks that it frees, by ascending address, as they were when they were added.
    frees: Vec<Extent>,
    /// The blocks that it stores to, one for each run of stores, as they were when they were added.
    stored: Vec<Extent>,
    /// The units of the record.
    record: Vec<u8>,
    /// How many of the regions have no new blob, and no unit in the record.
    unused_regions: usize,
    log: Option<Extent>,
    /// How many units its log holds. `record` has room for them.
    capacity: usize,
    /// So many more blobs fit in `frees` and in the medium's lists.
    more_frees: usize,
}

// SAFETY: the addresses are those of bytes of the medium, which belong to this transaction alone and stay good up to the end of the
// medium, in whatever thread.
unsafe impl Send for Changes {}

impl Changes {
    /// Adds a new blob. Returns its offset. Returns None, unchanged, if it fits in no region, or the list of new blobs is full.
    #[inline]
    pub fn alloc(&mut self, requested: u64) -> Option<u64> {
        if self.regions.is_empty() {
            return None; // the first blob
        }
        let rounded = round_up(requested)?;
        let recent = self.regions.len().saturating_sub(LOOK_BACK);
        let mut regions = self.regions[recent..].iter_mut().rev();
        let (data_len, region) = regions.find_map(|region| Some((region.size_of_next(requested, rounded)?, region)))?;
        if self.new_blobs.len() == self.new_blobs.capacity() {
            return None;
        }
        let block = Extent { start: region.next, data_len };
        let is_first = block.start == region.start;
        // SAFETY: inside of the region, whose bytes follow each other in memory.
        let data = unsafe { region.address.add((block.blob() - region.start.offset()) as usize) };
        region.next = block.next();
        debug_assert!(
            block.end() == region.end || block.end() + MIN_BLOCK <= region.end,
            "`split` leaves a block or nothing"
        );
        if is_first {
            let Marker(marker) = Marker::live(data_len);
            self.push_units([Change::Mark { block: block.start, marker }.encode()]);
            self.unused_regions -= 1;
        }
        let new = NewBlob { block, is_first, data };
        match self.new_blobs_up_to(block.blob()) {
            place if place == self.new_blobs.len() => self.new_blobs.push(new),
            place => self.new_blobs.insert(place, new),
        }
        Some(block.blob())
    }

    /// How many new blobs start at or before `at`. Often it is in or behind the last one, or before the first.
    #[inline]
    fn new_blobs_up_to(&self, at: u64) -> usize {
        match &self.new_blobs[..] {
            [.., last] if at >= last.block.blob() => self.new_blobs.len(),
            [first, ..] if at < first.block.blob() => 0,
            all => all.partition_point(|new| new.block.blob() <= at),
        }
    }

    /// The new blob that has all of these bytes.
    #[inline]
    fn new_blob_around(&self, at: u64, len: u64) -> Option<&NewBlob> {
        let new = &self.new_blobs[self.new_blobs_up_to(at).checked_sub(1)?];
        is_inside(new.block, at, len).then_some(new)
    }

    /// The bytes of the new blob at `ptr`.
    #[inline]
    pub fn data(&self, ptr: u64) -> Result<NonNull<[u8]>> {
        match self.new_blob_around(ptr, 0) {
            Some(new) if new.block.blob() == ptr => {
                Ok(NonNull::slice_from_raw_parts(new.data, new.block.data_len as usize))
            }
            _ => Err(Error::NoBlob(ptr)),
        }
    }

    /// Stores bytes in a new blob at once. Returns false, unchanged, if they are not all in one.
    pub fn store_in_new(&mut self, at: u64, bytes: &[u8]) -> bool {
        let Some(new) = self.new_blob_around(at, bytes.len() as u64) else { return false };
        // SAFETY: the bytes are all in the blob, which is this transaction's alone, and no part of `bytes`: a program that passes
        // bytes of the blob itself gets them copied as memmove(3) does.
        unsafe { new.data.add((at - new.block.blob()) as usize).as_ptr().copy_from(bytes.as_ptr(), bytes.len()) }
        true
    }

    /// Adds to the changes that this live block is freed. Returns false, unchanged, if that is not allowed, or if a list or the log is full.
    pub fn free(&mut self, block: Extent) -> bool {
        let Ok(place) = self.place_of_new_free(block) else { return false };
        if self.more_frees == 0 || !self.has_units(1) {
            return false;
        }
        self.more_frees -= 1;
        self.frees.insert(place, block);
        self.push_units([Change::Free { block: block.start }.encode()]);
        true
    }

    /// The place in `frees` of one that is added. Fails iff that is not allowed.
    #[inline(always)]
    pub(in crate::palloc) fn place_of_new_free(&self, block: Extent) -> Result<usize> {
        match self.place_of_free(block.start) {
            Ok(_) => Err(Error::NoBlob(block.blob())),
            Err(_) if block.start.offset() >= MAX_OFFSET => Err(Error::TooLarge(block.data_len)),
            Err(place) => Ok(place),
        }
    }

    /// Fails iff a store of `len` bytes to a live block is not allowed.
    #[inline(always)]
    pub(in crate::palloc) fn check_store(&self, block: Extent, at: u64, len: u64) -> Result<()> {
        if self.frees(block.start) {
            Err(Error::NotInBlob { at, len })
        } else if at >= MAX_OFFSET - len {
            Err(Error::TooLarge(len))
        } else {
            Ok(())
        }
    }

    /// Adds to the changes that these bytes, all of them in this live block, are stored. Returns false, unchanged, if that is not allowed, or
    /// if a list or the log is full.
    pub fn store(&mut self, block: Extent, at: u64, bytes: &[u8]) -> bool {
        if self.check_store(block, at, bytes.len() as u64).is_err() || !self.has_units(units_of_store(bytes)) {
            return false;
        }
        if self.stored.last() != Some(&block) {
            if self.stored.len() == self.stored.capacity() {
                return false;
            }
            self.stored.push(block);
        }
        let block = block.start;
        // The usual case: a word, which may be an offset.
        if let Ok(word) = bytes.try_into() {
            let store = Change::Store { block, at, len: WORD as u16 };
            self.push_units([store.encode(), [u64::from_be_bytes(word), 0]]);
            return true;
        }
        let mut at = at;
        for part in bytes.chunks(MAX_STORE) {
            let store = Change::Store { block, at, len: part.len() as u16 };
            self.push_units([store.encode()]);
            self.record.extend_from_slice(part);
            self.record.resize(self.record.len().next_multiple_of(UNIT as usize), 0);
            at += part.len() as u64;
        }
        true
    }

    /// The block that the last store was to, if it has these bytes too.
    #[inline]
    pub fn last_stored(&self, at: u64, len: u64) -> Option<Extent> {
        self.stored.last().copied().filter(|&last| is_inside(last, at, len))
    }

    /// Appends units to the record.
    #[inline]
    fn push_units<const N: usize>(&mut self, units: [[u64; 2]; N]) {
        self.record.extend_from_slice(units.map(unit_bytes).as_flattened());
    }

    /// Whether its record can have so many more units without a larger log.
    fn has_units(&self, more: usize) -> bool {
        self.units() + more <= self.capacity
    }

    /// The new blobs, by ascending offset.
    #[cfg(test)]
    pub fn offsets(&self) -> Vec<u64> {
        self.new_blobs.iter().map(|new| new.block.blob()).collect()
    }

    /// Whether it was committed or cancelled.
    pub fn is_over(&self) -> bool {
        !self.is_open
    }

    /// How many units its record has, and will have for the regions.
    pub(super) fn units(&self) -> usize {
        self.unused_regions + self.record.len() / UNIT as usize
    }

    /// How many start markers publish the new blobs; None if there are other changes.
    fn only_start_markers(&self) -> Option<usize> {
        let count = self.regions.len() - self.unused_regions;
        (self.record.len() == count * UNIT as usize).then_some(count)
    }

    pub(super) fn frees(&self, block: Start) -> bool {
        self.place_of_free(block).is_ok()
    }

    /// Where a block is in `frees`, or where it would be: often it would be the last or the first one.
    #[inline]
    fn place_of_free(&self, block: Start) -> std::result::Result<usize, usize> {
        match &self.frees[..] {
            [.., last] if block > last.start => Err(self.frees.len()),
            [first, ..] if block < first.start => Err(0),
            all => all.binary_search_by_key(&block, |free| free.start),
        }
    }

    /// The changes in the record, each with its bytes.
    fn changes(&self) -> impl Iterator<Item = (Change, &[u8])> {
        let mut rest = &self.record[..];
        std::iter::from_fn(move || {
            let (unit, behind) = rest.split_first_chunk()?;
            let change = Change::decode(unit_words(*unit)).expect("the record has changes only");
            let (bytes, behind) = behind.split_at(change.bytes_units() * UNIT as usize);
            rest = behind;
            Some((change, bytes))
        })
    }
}

/// The state of a medium's transactions.
#[derive(Default)]
pub struct Transactions {
    open: usize,
    sequence: u64,
    logs: [Option<Extent>; 2],
    outstanding: Option<Extent>,
    /// Regions that nobody uses.
    idle: Vec<Extent>,
    spent: Vec<Extent>,
    quarantine: Vec<Extent>,
    /// Start markers in quarantined blocks that no block begins with any more.
    dead: Vec<Start>,
    /// Free blocks may be side by side: the disk had no space for a page with a marker, or a neighbour's marker was overwritten.
    unjoined: bool,
    /// The last block of a dynamic medium is free and not slack.
    tail_freed: bool,
    /// How many blocks are reserved: logs, `idle`, `spent`, and the regions of open transactions. Those in quarantine are not counted.
    reserved: usize,
    /// How many blobs open transactions free, or have room to free.
    frees: usize,
    /// So many blocks fit in each list.
    list_capacity: usize,
}

impl Transactions {
    /// The start of the first log, if there is one. The program sees it as free, and so it does reserved blocks: as long as there are any,
    /// there is a log.
    pub(super) fn shown_as_free(&self) -> Option<Start> {
        self.logs[0].map(|log| log.start)
    }
}

/// How a commit goes on.
#[derive(Clone, Copy)]
pub enum CommitBy {
    /// There is nothing to do.
    Nothing,
    /// One start marker does it all.
    StartMarker { at: Start, before: Marker, marker: Marker },
    /// By the record in this log, which this tag commits.
    Record { log: Extent, tag: u64 },
}

impl<M: Medium> Heap<M> {
    /// Begins a transaction.
    pub fn begin(&mut self) -> Result<Changes> {
        let mut changes = Changes::default();
        self.begin_in(&mut changes).map(|()| changes)
    }

    /// Begins a transaction in `changes`, which are new, or those of a transaction that is over: their buffers are used again.
    pub fn begin_in(&mut self, changes: &mut Changes) -> Result<()> {
        debug_assert!(changes.is_over());
        self.check_writable()?;
        if self.tx.open == MAX_OPEN {
            return Err(Error::TooManyTransactions);
        }
        let logs = if self.medium.is_durable() { 2 } else { 1 };
        for i in 0..logs {
            if self.tx.logs[i].is_none() {
                self.tx.logs[i] = Some(self.using_reserves(&|heap: &mut Self| heap.claim_log(LOG))?);
            }
        }
        self.reserve_queue()?;
        self.reserve_lists(FREES_AHEAD)?;
        changes.new_blobs.try_reserve(BUFFER)?;
        changes.frees.try_reserve(FREES_AHEAD)?;
        changes.stored.try_reserve(BUFFER)?;
        changes.record.try_reserve(LOG_UNITS * UNIT as usize)?;
        (changes.capacity, changes.more_frees) = (LOG_UNITS, FREES_AHEAD);
        changes.is_open = true;
        self.tx.open += 1;
        self.tx.frees += FREES_AHEAD;
        Ok(())
    }

    /// Whether a transaction is open.
    pub(super) fn has_open_transactions(&self) -> bool {
        self.tx.open > 0
    }

    /// Runs `operation`. If it fails for want of space, frees the blocks that no live reader can reach, then the reserves of later
    /// transactions, and runs it once more after each. Not after a failed sync: then nothing may be stored. Precondition: `operation` leaves
    /// the medium as it was when it fails.
    #[inline(always)]
    pub(super) fn using_reserves<T>(&mut self, operation: &impl Fn(&mut Self) -> Result<T>) -> Result<T> {
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

    /// Whether something of transactions that are over is on the medium.
    pub(in crate::palloc) fn has_traces(&self) -> bool {
        self.tx.outstanding.is_some() || self.has_reserves() || self.tx.logs.iter().any(Option::is_some)
    }

    fn has_reserves(&self) -> bool {
        !(self.tx.idle.is_empty() && self.tx.spent.is_empty() && self.tx.quarantine.is_empty())
    }

    /// Makes room in the lists for one more reserved block, and for so many more freed ones, so that later steps cannot fail.
    #[inline]
    fn reserve_lists(&mut self, more_frees: usize) -> Result<()> {
        let needed = self.tx.reserved + 1 + self.tx.frees + more_frees;
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

    fn claim_log(&mut self, size: u64) -> Result<Extent> {
        self.may_store()?;
        self.reserve_lists(0)?;
        let log = self.with_tail_restored(|heap| {
            let place = heap.place(size)?;
            if place.free.end() > MAX_OFFSET {
                return Err(Error::TooLarge(size));
            }
            heap.claim(place.block, place.free, record::idle_tag(place.block.end_marker()))?;
            Ok(place.block)
        })?;
        self.index.put_reserved(log.start);
        self.tx.reserved += 1;
        Ok(log)
    }

    /// Makes sure that the transaction's record can have so many more units.
    fn reserve_units(&mut self, changes: &mut Changes, more: usize) -> Result<()> {
        if changes.has_units(more) {
            return Ok(());
        }
        let needed_len = record::HEAD + (changes.units() + more) as u64 * UNIT;
        if needed_len > MAX_RECORD {
            return Err(Error::TooManyChanges { limit: MAX_RECORD });
        }
        let ahead = (2 * needed_len).clamp(OWN_LOG, MAX_RECORD);
        changes.record.try_reserve(units_in(ahead) * UNIT as usize - changes.record.len())?;
        let log = self.claim_log(ahead).or_else(|_| {
            self.check_synced()?;
            self.using_reserves(&|heap: &mut Self| heap.claim_log(needed_len))
        })?;
        changes.capacity = units_in(log.data_len.min(ahead));
        if let Some(old) = changes.log.replace(log) {
            self.done_with(old);
        }
        Ok(())
    }

    /// Allocates a blob that exists once the transaction is committed.
    pub fn tx_alloc(&mut self, changes: &mut Changes, requested: u64) -> Result<u64> {
        if round_up(requested).is_none() {
            return Err(Error::TooLarge(requested));
        }
        changes.new_blobs.try_reserve(1)?;
        loop {
            if let Some(ptr) = changes.alloc(requested) {
                return Ok(ptr);
            }
            self.tx_reserve(changes, requested)?;
        }
    }

    /// Adds a region to the transaction in which a blob of `requested` bytes fits.
    fn tx_reserve(&mut self, changes: &mut Changes, requested: u64) -> Result<()> {
        self.check_writable()?;
        changes.regions.try_reserve(1)?;
        self.reserve_units(changes, 1)?;
        let fits = |region: &Extent| region.data_len >= requested.max(MIN_DATA);
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
        let rounded = round_up(requested).ok_or(Error::TooLarge(requested))?;
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
            _ => split(free.data_len, rounded.max(REGION)),
        };
        let region = Extent { start, data_len };
        if !is_large(start, region.end()) {
            self.index.prepare_between(start, Start::at(region.end() - MIN_BLOCK))?; // the last block starts there at the latest
        }
        if is_slack || region != free {
            self.may_store()?;
            self.carve(region, free)?;
        } else {
            self.ensure_divisible(free, free)?;
            self.take_from_index(free);
        }
        self.index.put_reserved(start);
        self.tx.reserved += 1;
        Ok(region)
    }

    /// Makes two free blocks of `free`, which may be the slack: `region`, which the caller enters in the index, and the rest.
    ///
    /// ```text
    ///   before   free                  end
    ///   after    region | rest: free   end
    /// ```
    fn carve(&mut self, region: Extent, free: Extent) -> Result<()> {
        let Rest { rest, .. } = self.begin_division(region, free)?;
        self.medium.store(region.end_marker(), Marker::free(region.data_len).0);
        // Zeros need it too: nothing flushes between two regions, and the words of the next are behind the start marker of the rest.
        let prepared = if rest.is_some() { self.barrier() } else { Ok(()) };
        prepared.inspect_err(|_| self.erase([rest.map(|rest| rest.start.offset())]))?;
        // No barrier behind it: the region counts from the commit of its first blobs on, and one comes before that.
        self.medium.store_start(region.start, Marker::free(region.data_len));
        self.end_division(free, region.next(), rest);
        Ok(())
    }

    /// Adds to the changes that the blob at `ptr` is freed. palloc_tx_free lists the failures.
    pub fn tx_free(&mut self, changes: &mut Changes, ptr: u64) -> Result<()> {
        self.check_writable()?;
        let block = self.live(ptr)?;
        self.check_end(block)?;
        changes.place_of_new_free(block)?;
        self.ensure_words([Some(block.start.offset()), Some(block.end_marker())])?;
        self.reserve_units(changes, 1)?;
        if changes.more_frees == 0 {
            self.reserve_lists(FREES_AHEAD)?;
            changes.frees.try_reserve(FREES_AHEAD)?;
            self.tx.frees += FREES_AHEAD;
            changes.more_frees = FREES_AHEAD;
        }
        let is_added = changes.free(block);
        debug_assert!(is_added);
        Ok(())
    }

    /// Adds to the changes that `bytes` are stored at `at`. Their places must all be in one blob. palloc_tx_store lists the failures.
    pub fn tx_store(&mut self, changes: &mut Changes, at: u64, bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        let len = bytes.len() as u64;
        let found = match changes.last_stored(at, len).filter(|&last| self.is_unchanged(last)) {
            Some(last) => Some(last),
            None => {
                let start = self.index.start_at_or_before(at).filter(|&start| self.index.is_live(start));
                start.map(|start| self.block(start, State::Live)).transpose()?
            }
        };
        let block = found.filter(|&block| is_inside(block, at, len)).ok_or(Error::NotInBlob { at, len })?;
        changes.check_store(block, at, len)?;
        self.reserve_units(changes, units_of_store(bytes))?;
        self.medium.ensure_space(at..at + len, Bytes::Preserve)?;
        changes.stored.try_reserve(1)?;
        let is_added = changes.store(block, at, bytes);
        debug_assert!(is_added);
        Ok(())
    }

    /// Commits with the lock, all the time. On failure nothing is done, and the transaction goes on. On a durable medium threads commit in
    /// groups instead (`Palloc::lead`), which do these steps, and flush between them without the lock; there only tests use this.
    pub fn tx_commit(&mut self, changes: &mut Changes) -> Result<()> {
        self.commit_check(changes, |_| false)?;
        let step = self.commit_prepare(&[changes]);
        if !matches!(step, CommitBy::Nothing) {
            self.barrier()?;
            self.commit_store(step);
            self.barrier().inspect_err(|_| self.commit_undo(step))?;
        }
        self.commit_apply(&[changes], step);
        self.tx_end(changes);
        self.after_commit();
        Ok(())
    }

    /// Fails iff the transaction cannot be committed: the blocks that it frees or stores to have to be there. `is_freed` says which
    /// blocks the transactions before it in the group free.
    pub(super) fn commit_check(&self, changes: &Changes, is_freed: impl Fn(Start) -> bool) -> Result<()> {
        self.check_writable()?;
        for region in &changes.regions {
            if self.marker(region.start) != region.marker() {
                return Err(Error::Damaged {
                    offset: region.start.offset(),
                    what: "the start marker of a free block was overwritten",
                });
            }
        }
        // Nearly always each block is as it was; else the changes are looked at one by one.
        let is_there = |&block: &Extent| self.is_unchanged(block) && !is_freed(block.start);
        let can_be_freed = |block: &Extent| is_there(block) && self.check_end(*block).is_ok();
        if changes.frees.iter().all(can_be_freed) && changes.stored.iter().all(is_there) {
            return Ok(());
        }
        for (change, _) in changes.changes() {
            let (block, at, len) = match change {
                Change::Free { block } => (block, block.blob(), 0),
                Change::Store { block, at, len } => (block, at, len.into()),
                Change::Mark { .. } => continue,
            };
            let now = self.live(block.blob())?;
            if matches!(change, Change::Free { .. }) {
                self.check_end(now)?;
            }
            if !is_inside(now, at, len) || is_freed(block) {
                return Err(Error::NoBlob(block.blob()));
            }
        }
        Ok(())
    }

    /// Whether a live block that was found earlier is still there, with the same size.
    fn is_unchanged(&self, block: Extent) -> bool {
        self.index.is_live(block.start) && self.marker(block.start) == Marker::live(block.data_len)
    }

    /// The part of a commit before its first barrier: it stores only behind the start markers of free blocks, and in a log that is not
    /// committed.
    pub(super) fn commit_prepare(&mut self, group: &[&Changes]) -> CommitBy {
        for changes in group {
            for &NewBlob { block, is_first, .. } in &changes.new_blobs {
                self.medium.store(block.end_marker(), Marker::live(block.data_len).0);
                if !is_first {
                    self.medium.store_start(block.start, Marker::live(block.data_len));
                }
            }
            for region in &changes.regions {
                if region.start < region.next && region.next.offset() < region.end {
                    let rest = Extent::between(region.next, region.end);
                    self.medium.store_start(rest.start, Marker::free(rest.data_len));
                    self.medium.store(rest.end_marker(), Marker::free(rest.data_len).0);
                }
            }
        }
        let mut only = group.iter().map(|changes| changes.only_start_markers());
        match only.try_fold(0, |sum, count| Some(sum + count?)) {
            Some(0) => return CommitBy::Nothing,
            Some(1) if self.tx.outstanding.is_none() => {
                let mut changes = group.iter().flat_map(|changes| changes.changes());
                if let Some((Change::Mark { block, marker }, _)) = changes.next() {
                    return CommitBy::StartMarker { at: block, before: self.marker(block), marker: Marker(marker) };
                }
            }
            _ => {}
        }
        let log = self.log_of(group[0]).expect("a medium with transactions has logs");
        self.tx.sequence += 1;
        let mut writer = Writer::new(log.start, self.tx.sequence);
        for changes in group {
            writer.units(&mut self.medium, &changes.record);
        }
        CommitBy::Record { log, tag: writer.finish(&mut self.medium) }
    }

    /// The log for the record of a group whose first transaction this is.
    pub(super) fn log_of(&self, first: &Changes) -> Option<Extent> {
        let [one, other] = self.tx.logs;
        first.log.or(if one == self.tx.outstanding { other } else { one })
    }

    /// The store that commits.
    pub(super) fn commit_store(&mut self, step: CommitBy) {
        match step {
            CommitBy::Nothing => {}
            CommitBy::StartMarker { at, marker, .. } => self.medium.store_start(at, marker),
            CommitBy::Record { log, tag } => {
                if let Some(outstanding) = self.tx.outstanding {
                    self.store_idle_tag(outstanding);
                }
                self.medium.store(log.end_marker(), tag);
            }
        }
    }

    /// Undoes `commit_store` after its barrier failed. (The store may be on the disk all the same: nothing is stored to this medium any more.)
    pub(super) fn commit_undo(&mut self, step: CommitBy) {
        match step {
            CommitBy::Nothing => {}
            CommitBy::StartMarker { at, before, .. } => self.medium.store_start(at, before),
            CommitBy::Record { log, .. } => self.store_idle_tag(log),
        }
    }

    fn store_idle_tag(&mut self, log: Extent) {
        self.medium.store(log.end_marker(), record::idle_tag(log.end_marker()));
    }

    /// Makes the changes that were committed. Cannot fail.
    pub(super) fn commit_apply(&mut self, group: &[&Changes], step: CommitBy) {
        let CommitBy::Record { log, .. } = step else { return };
        let durable = self.medium.is_durable();
        if self.tx.outstanding.is_some() {
            self.note_record_taken_back();
        }
        for changes in group {
            for (change, bytes) in changes.changes() {
                match change {
                    Change::Mark { block, marker } => self.medium.store_start(block, Marker(marker)),
                    Change::Store { at, len, .. } => put(&mut self.medium, at, &bytes[..len as usize]),
                    Change::Free { .. } => {} // below: those side by side at once
                }
            }
        }
        for changes in group {
            let mut rest = &changes.frees[..];
            while let Some((first, behind)) = rest.split_first() {
                let mut block = self.extent_of(first.start);
                if self.is_shared_without_sync() {
                    self.medium.store_start(block.start, Marker::free(block.data_len));
                    self.note_held_by_commit(block);
                    rest = behind;
                    continue;
                }
                if durable {
                    self.tx.quarantine.push(block);
                    rest = behind;
                    continue;
                }
                // Those side by side are joined at once: the ones behind the first are free before its start marker leads over them.
                let mut inner = 0;
                while behind.get(inner).is_some_and(|next| next.start == block.next()) {
                    let next = self.extent_of(block.next());
                    self.medium.store_start(next.start, Marker::free(next.data_len));
                    block = Extent::between(block.start, next.end());
                    inner += 1;
                }
                let (inner, behind) = behind.split_at(inner);
                self.free_joined_if_possible(block, inner);
                rest = behind;
            }
        }
        if durable {
            self.tx.reserved -= self.tx.spent.len();
            let tx = &mut self.tx;
            tx.quarantine.append(&mut tx.spent);
            self.begin_quarantine();
            self.tx.outstanding = Some(log);
            if is_broken(Rule::Quarantine) {
                self.end_quarantine();
            }
        } else {
            self.store_idle_tag(log);
        }
    }

    /// Updates the lists after the record of the last transaction was taken back: its quarantine ends, and its log is idle again, or spent if
    /// it was that transaction's own.
    fn note_record_taken_back(&mut self) {
        let Some(log) = self.tx.outstanding.take() else { return };
        if !self.tx.logs.contains(&Some(log)) {
            self.tx.spent.push(log);
        }
        self.end_quarantine();
    }

    /// Frees the blocks in the quarantine, joined with free neighbours, by one store each. The start markers that no block begins
    /// with any more stay where they are: on the disk the chain may still lead there.
    fn begin_quarantine(&mut self) {
        let mut list = std::mem::take(&mut self.tx.quarantine);
        list.sort_unstable_by_key(|block| block.start);
        let mut kept = 0;
        for i in 0..list.len() {
            let block = list[i];
            let joins_last = kept > 0 && list[kept - 1].next() == block.start;
            let before = if joins_last { Some(list[kept - 1]) } else { self.free_before(block.start) };
            let behind = self.free_at(block.next()).unwrap_or(None);
            // Its own markers are in pages that the disk has room for, those of its neighbours may not be.
            let theirs = [before.map(|before| before.start.offset()), behind.map(Extent::end_marker)];
            let has_room = self.ensure_words(theirs).is_ok();
            // Beside live readers it is held when it leaves the quarantine, and joined after that.
            let shared = self.medium.is_shared();
            self.tx.unjoined |= !has_room && !shared;
            let joins = has_room && !shared && !is_broken(Rule::JoinAtOnce);
            let (joins_last, before, behind) = if joins { (joins_last, before, behind) } else { (false, None, None) };
            self.index.remove_used(block.start);
            if let Some(before) = before {
                if !joins_last {
                    self.take_from_index(before);
                }
                self.tx.dead.push(block.start);
            }
            if let Some(behind) = behind {
                self.take_from_index(behind);
                self.tx.dead.push(behind.start);
            }
            let start = before.map_or(block.start, |before| before.start);
            let whole = Extent::between(start, behind.map_or(block.end(), Extent::end));
            self.medium.store_start(whole.start, Marker::free(whole.data_len));
            // No record frees a log of one transaction. It keeps its tag until its start marker is on the disk: by the tag, opening knows that
            // it is no blob.
            if self.medium.load(whole.end_marker()) != record::idle_tag(whole.end_marker()) {
                self.medium.store(whole.end_marker(), Marker::free(whole.data_len).0);
            }
            self.index.put_reserved(whole.start);
            self.tx.tail_freed |= self.dynamic && whole.next() == self.blocks_end;
            kept += usize::from(!joins_last);
            list[kept - 1] = whole;
        }
        list.truncate(kept);
        self.tx.quarantine = list;
    }

    /// Lets everybody use the blocks in the quarantine. Precondition: they are free on the disk, and the record that freed them is taken back.
    fn end_quarantine(&mut self) {
        let mut list = std::mem::take(&mut self.tx.quarantine);
        for block in list.drain(..) {
            if self.medium.is_shared() {
                self.note_held_by_commit(block);
                continue;
            }
            if is_broken(Rule::JoinAtOnce) {
                let _ = self.release_without_barrier(block);
                continue;
            }
            self.index.remove_used(block.start);
            self.enter(block);
        }
        self.tx.quarantine = list;
        let mut dead = std::mem::take(&mut self.tx.dead);
        dead.drain(..).for_each(|start| self.medium.store_start(start, Marker(0)));
        self.tx.dead = dead;
    }

    /// Brings the last transaction to the disk, and takes its record back. The barriers of the next operation bring that to the disk too, in
    /// time. Called before an operation other than a commit changes a durable medium.
    #[inline]
    pub(super) fn take_back_record(&mut self) -> Result<()> {
        self.may_store()?;
        if self.tx.outstanding.is_some() { self.take_back_outstanding() } else { Ok(()) }
    }

    #[inline(never)]
    fn take_back_outstanding(&mut self) -> Result<()> {
        if !self.turns.record_flushed {
            self.barrier()?;
        }
        if let Some(outstanding) = self.tx.outstanding {
            self.store_idle_tag(outstanding);
        }
        self.note_record_taken_back();
        if self.tx.tail_freed {
            if let Some(tail) = self.free_before(self.blocks_end) {
                let slack = self.slack().map(|slack| slack.start.offset());
                let whole = Extent::between(tail.start, self.medium.file_len());
                self.ensure_words([Some(whole.start.offset()), slack])?;
                self.publish(whole.start, Marker::free(whole.data_len))?;
                self.erase([slack]);
                self.note_free(whole, [tail].into_iter());
            }
            self.tx.tail_freed = false;
        }
        Ok(())
    }

    /// Ends a transaction that was committed: enters its new blobs in the index.
    pub(super) fn tx_end(&mut self, changes: &mut Changes) {
        for new in &changes.new_blobs {
            self.index.put_live(new.block.start);
            self.note_live_for_readers(new.block.start);
        }
        for region in &changes.regions {
            if region.next.offset() < region.end {
                self.index.put_reserved(region.next);
                self.make_idle(Extent::between(region.next, region.end));
            } else {
                self.tx.reserved -= 1;
            }
        }
        if let Some(log) = changes.log.filter(|&log| self.tx.outstanding != Some(log)) {
            self.done_with(log);
        }
        self.tx_over(changes);
    }

    /// Ends the transaction without its changes.
    pub fn tx_cancel(&mut self, changes: &mut Changes) {
        for region in &changes.regions {
            self.make_idle(Extent::between(region.start, region.end));
        }
        if let Some(log) = changes.log {
            self.done_with(log);
        }
        self.tx_over(changes);
    }

    fn tx_over(&mut self, changes: &mut Changes) {
        self.tx.open -= 1;
        self.tx.frees -= changes.frees.len() + changes.more_frees;
        if changes.new_blobs.capacity().max(changes.record.capacity()) > MAX_SPARE {
            *changes = Changes::default();
            return;
        }
        changes.regions.clear();
        changes.new_blobs.clear();
        changes.frees.clear();
        changes.stored.clear();
        changes.record.clear();
        (changes.unused_regions, changes.log, changes.is_open) = (0, None, false);
    }

    /// Keeps a region, or the rest of one, for the next transaction, or has it freed.
    fn make_idle(&mut self, region: Extent) {
        let is_worth_it = region.data_len >= MIN_IDLE && !is_large(region.start, region.end());
        if is_worth_it && self.tx.idle.len() < MAX_IDLE {
            self.tx.idle.push(region);
        } else {
            self.done_with(region);
        }
    }

    /// Has a reserved block freed: at once, or on a durable medium with the next quarantine.
    fn done_with(&mut self, block: Extent) {
        if self.medium.is_durable() || !self.writable {
            self.tx.spent.push(block);
        } else {
            self.tx.reserved -= 1;
            self.free_joined_if_possible(block, &[]);
        }
    }

    /// The block at `start`, whose marker was checked.
    fn extent_of(&self, start: Start) -> Extent {
        Extent { start, data_len: self.marker(start).data_len() }
    }

    /// Frees a block, joined with its neighbours unless their markers were overwritten or the disk has no space. Precondition: no
    /// operation needs a barrier.
    pub(super) fn free_joined_if_possible(&mut self, block: Extent, inner: &[Extent]) {
        if self.free_joined(block, inner).is_err() {
            self.enter_unjoined(block, inner);
        }
    }

    /// Frees a block, and leaves it to later to join it with its neighbours. Precondition: no operation needs a barrier, or its start marker
    /// is free on the disk already and `inner` is empty.
    pub(super) fn enter_unjoined(&mut self, block: Extent, inner: &[Extent]) {
        self.tx.unjoined = true;
        self.medium.store_start(block.start, Marker::free(block.data_len));
        self.forget_inner(inner);
        self.index.remove_used(block.start);
        self.enter(block);
    }

    /// Erases the start markers of these, which have become a part of another block, and removes them from the index.
    fn forget_inner(&mut self, inner: &[Extent]) {
        for block in inner {
            self.index.remove_used(block.start);
            self.medium.store_start(block.start, Marker(0));
        }
    }

    /// Frees a block that may be free on the medium already, joined with its free neighbours. `inner` are blocks in it behind the first
    /// one, if it is several.
    pub(super) fn free_joined(&mut self, block: Extent, inner: &[Extent]) -> Result<()> {
        let joined = self.joined(block)?;
        let slack = self.slack_before(joined.whole.end());
        let behind = joined.behind.map(|behind| behind.start.offset());
        let (whole, marker) = (joined.whole, Marker::free(joined.whole.data_len));
        let starts = (Some(whole.start.offset()), Some(block.start.offset()));
        self.ensure_words([starts.0, starts.1, behind, slack, Some(whole.end_marker())])?;
        if whole.start != block.start || marker != self.marker(block.start) {
            self.publish(whole.start, marker)?;
            // Before the markers inside are erased: salvage of a killed medium goes by one or the other. Slack has no end marker.
            if slack.is_none() {
                self.medium.store(whole.end_marker(), marker.0);
            }
            self.erase([joined.before.map(|_| block.start.offset()), behind, slack]);
        }
        self.forget_inner(inner);
        self.note_released(block, joined);
        Ok(())
    }

    /// Frees all that is kept for later transactions, except the logs.
    fn free_reserves(&mut self) -> Result<()> {
        self.take_back_record()?;
        while let Some(&region) = self.tx.idle.last() {
            self.free_joined(region, &[])?;
            self.tx.idle.pop();
            self.tx.reserved -= 1;
        }
        while let Some(&block) = self.tx.spent.last() {
            self.free_joined(block, &[])?;
            self.tx.spent.pop();
            self.tx.reserved -= 1;
        }
        Ok(())
    }

    /// If no transaction is open, removes all traces of earlier ones: the medium is exactly the format again.
    pub(super) fn tidy_transactions(&mut self) -> Result<()> {
        self.take_back_record()?;
        if self.tx.open > 0 {
            return Ok(());
        }
        self.free_reserves()?;
        for i in 0..self.tx.logs.len() {
            if let Some(log) = self.tx.logs[i] {
                self.free_joined(log, &[])?;
                self.tx.logs[i] = None;
                self.tx.reserved -= 1;
            }
        }
        if self.tx.unjoined { self.join_free_blocks() } else { Ok(()) }
    }

    /// Joins all free blocks that are side by side.
    fn join_free_blocks(&mut self) -> Result<()> {
        let (mut from, mut last) = (0, None);
        while let Some(block) = self.block_from(from)? {
            from = block.end();
            let block = Extent { start: Start::of_blob(block.ptr), data_len: block.size };
            let is_free = self.index.state(block.start) == Some(State::Free);
            last = match last {
                Some(before) if is_free => Some(self.join(before, block)?),
                _ => is_free.then_some(block),
            };
        }
        self.tx.unjoined = false;
        Ok(())
    }

    fn join(&mut self, before: Extent, behind: Extent) -> Result<Extent> {
        let whole = Extent::between(before.start, behind.end());
        let starts = (Some(whole.start.offset()), Some(behind.start.offset()));
        self.ensure_words([starts.0, starts.1, Some(whole.end_marker())])?;
        self.publish(whole.start, Marker::free(whole.data_len))?;
        self.erase([Some(behind.start.offset())]);
        self.take_from_index(before);
        self.take_from_index(behind);
        self.enter(whole);
        Ok(whole)
    }

    /// Transactions that are open are cancelled: their changes are not used any more.
    pub(super) fn abandon_transactions(&mut self) {
        if self.tx.open == 0 || self.take_back_record().is_err() {
            return;
        }
        self.tx.open = 0;
        self.tx.frees = 0;
        self.tx.idle.clear();
        self.tx.spent.clear();
        self.tx.reserved = self.tx.logs.iter().flatten().count();
        let mut from = 0;
        while let Ok(Some(block)) = self.block_from(from) {
            let start = Start::of_blob(block.ptr);
            let is_log = self.tx.logs.iter().flatten().any(|log| log.start == start);
            if self.index.state(start) == Some(State::Reserved) && !is_log {
                if self.tx.spent.try_reserve(1).is_err() {
                    return; // the next open frees it
                }
                self.tx.spent.push(Extent { start, data_len: block.size });
                self.tx.reserved += 1;
            }
            from = block.end();
        }
    }

    /// Panics if the state of transactions does not agree with the index.
    pub(super) fn check_transactions(&self) {
        let tx = &self.tx;
        let is_reserved = |start: Start| self.index.state(start) == Some(State::Reserved);
        for log in tx.logs.iter().chain([&tx.outstanding]).flatten() {
            assert!(is_reserved(log.start) && self.marker(log.start) == Marker::live(log.data_len), "{log:?}");
        }
        for region in &tx.idle {
            assert!(
                is_reserved(region.start) && self.marker(region.start) == Marker::free(region.data_len),
                "{region:?}"
            );
        }
        for block in tx.spent.iter().chain(&tx.quarantine) {
            assert!(is_reserved(block.start) && self.marker(block.start).data_len() == block.data_len, "{block:?}");
        }
        let own_log = tx.outstanding.filter(|&log| !tx.logs.contains(&Some(log)));
        let known = [&tx.logs[..], &[own_log]].concat().iter().flatten().count() + tx.idle.len() + tx.spent.len();
        assert!(
            known == tx.reserved || (known < tx.reserved && tx.open > 0),
            "{known} blocks of {} reserved ones",
            tx.reserved
        );
        assert!(tx.outstanding.is_some() || tx.quarantine.is_empty(), "a quarantine ends with its record");
    }

    /// The end marker of the first log.
    #[cfg(test)]
    pub fn first_log_tag(&self) -> u64 {
        self.tx.logs[0].expect("there was a transaction").end_marker()
    }
}
