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
//!   c  the outstanding log: IDLE; this log: COMMITTED      |B|   this is the commit
//!   d  the changes in the record: start marker of each region, stores, frees into the quarantine
//!   e  without PALLOC_SYNC this log is IDLE again; with it, it is outstanding
//! ```
//!
//! New blobs of one region and nothing else need no record, unless one is outstanding: `a |B|`, the region's start marker, `|B|`.
//!
//! `changes.rs` has what one transaction will change, `commit.rs` the steps of a commit, `reserves.rs` what is kept for later transactions.

mod changes;
mod commit;
mod reserves;

pub use self::changes::Changes;
pub use self::commit::Commit;

use self::changes::units_of_store;
use super::Heap;
use crate::palloc::Result;
use crate::palloc::block_index::State;
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, MIN_BLOCK, Marker, OVERHEAD, Request, SPLIT_ABOVE, STEP, Start};
use crate::palloc::medium::{Bytes, Medium};
use crate::palloc::record::{self, UNIT};

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
    pub(super) unjoined: bool,
    /// The last block of a dynamic medium is free and not slack.
    tail_freed: bool,
    /// How many blocks transactions have: logs, `idle`, `spent`, and the regions of those that are open. Not those in quarantine.
    owned: usize,
    /// How many blobs open transactions free, or have room to free.
    frees: usize,
    /// So many blocks fit in each list, and twice as many in `dead`.
    list_capacity: usize,
}

impl Transactions {
    /// The start of the first log, if there is one. The program sees it as free, and so it does reserved blocks: as long as there are any,
    /// there is a log.
    pub(super) fn shown_as_free(&self) -> Option<Start> {
        self.logs[0].map(|log| log.start)
    }
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
                self.tx.logs[i] = Some(self.using_reserves(&|heap: &mut Self| heap.make_log(LOG))?);
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

    /// Whether something of transactions that are over is on the medium.
    pub(in crate::palloc) fn has_traces(&self) -> bool {
        self.tx.outstanding.is_some() || self.has_reserves() || self.tx.logs.iter().any(Option::is_some)
    }

    /// Allocates a blob that exists once the transaction is committed.
    pub fn tx_alloc(&mut self, changes: &mut Changes, requested: u64) -> Result<u64> {
        if Request::of(requested).is_none() {
            return Err(Error::TooLarge(requested));
        }
        changes.new_blobs.try_reserve(1)?;
        loop {
            if let Some(ptr) = changes.alloc(requested) {
                return Ok(ptr);
            }
            self.add_region(changes, requested)?;
        }
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
        let last = changes.last_stored(at, len).filter(|&last| self.is_unchanged(last));
        let block = last.map_or_else(|| self.blob_around(at, len), |last| Ok(Some(last)))?;
        let block = block.ok_or(Error::NotInBlob { at, len })?;
        changes.check_store(block, at, len)?;
        self.reserve_units(changes, units_of_store(bytes))?;
        self.medium.ensure_space(at..at + len, Bytes::Preserve)?;
        changes.stored.try_reserve(1)?;
        let is_added = changes.store(block, at, bytes);
        debug_assert!(is_added);
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
                self.tx.owned -= 1;
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

    /// Transactions that are open are cancelled: their changes are not used any more.
    pub(super) fn abandon_transactions(&mut self) {
        if self.tx.open == 0 || self.take_back_record().is_err() {
            return;
        }
        self.tx.open = 0;
        self.tx.frees = 0;
        self.tx.idle.clear();
        self.tx.spent.clear();
        self.tx.owned = self.tx.logs.iter().flatten().count();
        let mut from = 0;
        while let Ok(Some(block)) = self.block_from(from) {
            let start = Start::of_blob(block.ptr);
            let is_log = self.tx.logs.iter().flatten().any(|log| log.start == start);
            if self.index.state(start) == Some(State::Reserved) && !is_log {
                if self.tx.spent.try_reserve(1).is_err() {
                    return; // the next open frees it
                }
                self.tx.spent.push(Extent { start, data_len: block.size });
                self.tx.owned += 1;
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
        assert!(known == tx.owned || (known < tx.owned && tx.open > 0), "{known} blocks of {} owned ones", tx.owned);
        assert!(tx.outstanding.is_some() || tx.quarantine.is_empty(), "a quarantine ends with its record");
    }

    /// The end marker of the first log.
    #[cfg(test)]
    pub fn first_log_tag(&self) -> u64 {
        self.tx.logs[0].expect("there was a transaction").end_marker()
    }
}
