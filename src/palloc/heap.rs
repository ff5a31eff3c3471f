// SPDX-License-Identifier: MIT OR Apache-2.0
//! The heap: an open medium, and the operations on its blocks.
//!
//! Only the chain of start markers is trusted: from the header on, each start marker leads to the next block. An operation has three
//! steps. It prepares bytes that the chain does not lead to. It publishes them by one store, as a rule to a start marker. Then it corrects
//! derived data: end markers. Links between free blocks are derived too; only sync, close, trim and clones write them.
//! docs/FORMAT.md has the order of stores of each operation, and the state that a kill between any two of them leaves.
//!
//! ```text
//!   header | live | free | live | live | slack
//!          8                           blocks_end   medium.file_len()
//! ```
//!
//! This file has the state, its invariants, the queries and the stores that all operations share. `heap/alloc.rs` allocates,
//! `heap/free.rs` frees, `heap/resize.rs` resizes, `heap/tail.rs` grows and cuts the end of a dynamic medium, `heap/zeroed.rs`
//! allocates blobs of zeros, `heap/aligned.rs` aligned ones, `heap/trim.rs` gives space on the disk back, `heap/transaction.rs` does
//! several of that in one step, `heap/group.rs` for several threads at once, `heap/join.rs` frees
//! blocks that are reserved or held, and joins free ones that could not be joined before.
//! `heap/keeping.rs` exchanges blocks with the caches of threads. `heap/held.rs` keeps what was freed until no live reader can read it.

mod aligned;
mod alloc;
mod free;
mod group;
mod held;
mod join;
mod keeping;
mod resize;
mod tail;
mod transaction;
mod trim;
mod zeroed;

use std::ptr::NonNull;

pub use self::aligned::MAX_ALIGNMENT;
use self::group::Turns;
pub use self::held::Held;
use self::keeping::Keeping;
use self::transaction::Transactions;
pub use self::transaction::{Changes, MAX_OPEN};

use super::block_index::{BlockIndex, MAX_EXACT, State};
use super::error::{Error, Sharing};
use super::format::{Extent, FREE_HEAD, HEADER, MIN_DATA, Marker, OVERHEAD, Start, WORD};
use super::medium::{Bytes, FileMedium, Medium};
use super::record::is_inside;
use super::recover::Overlay;
use super::sabotage::{Rule, is_broken};
use super::{Block, Result, Stat};

/// An open medium. [`Heap::check_invariants`] tests the invariants that hold between operations.
pub struct Heap<M> {
    pub(super) medium: M,
    pub(super) index: BlockIndex,
    /// The end of the last block that the program can see. Nothing starts there, or the slack.
    pub(super) blocks_end: Start,
    /// Whether the medium grows and shrinks.
    pub(super) dynamic: bool,
    /// Whether the medium is changed: false if it is read only, if a sync failed, and after close.
    pub(super) writable: bool,
    /// Whether the file ends with the last block between operations.
    pub(super) exact: bool,
    /// From here to the end of the file there are zeros, on the disk too, except for the start marker of the slack.
    pub(super) zeros_from: u64,
    /// The system's error number if a sync failed. After that it is not known which stores are on the disk: the kernel may have
    /// dropped them. So nothing is changed or promised until the medium is opened again. The only stores after it take back what the
    /// operation had stored that the sync was for (undo_division, shrink, publish_durably, commit_undo, store_idle_tag).
    pub(super) failed_sync: Option<i32>,
    /// On a medium that is read only: the start markers that a repair would have changed.
    pub(super) overlay: Overlay,
    /// On a medium that is read only and has no free block: a log, which the program sees as free.
    pub(super) shown_as_free: Option<Start>,
    pub(super) tx: Transactions,
    /// Whose turn it is to wait for the disk.
    pub(super) turns: Turns,
    /// The caches of threads.
    pub(in crate::palloc) keeping: Keeping,
    /// The blocks that live readers may still read.
    pub(super) held: Held,
}

// Queries.
impl<M: Medium> Heap<M> {
    /// The end of the last block.
    pub fn size(&self) -> u64 {
        self.blocks_end.offset()
    }

    /// The offset of a block that the program sees as free, the lowest after opening and sync; 0 if there is no such block.
    pub fn first_free(&self) -> u64 {
        match self.index.first_free() {
            Start::NOWHERE => {
                let shown = self.tx.shown_as_free().or(self.held.any()).or(self.shown_as_free);
                shown.map_or(0, Start::offset)
            }
            start => start.offset(),
        }
    }

    /// The size of the data at `blob`, of a live or a free block. Fails iff no block's data starts there, or its marker was
    /// overwritten.
    pub fn size_of(&self, blob: u64) -> Result<u64> {
        let start = Start::of_blob(blob);
        let Some(state) = self.index.state(start) else {
            return self.medium.block_for_reader(blob).map(|block| block.data_len).ok_or(self.no_block(blob));
        };
        self.block(start, state).map(|block| block.data_len)
    }

    /// The blob with the lowest offset, 0 if there is no blob.
    pub fn first(&self) -> Result<u64> {
        if self.medium.is_reader() { self.medium.first_for_reader() } else { self.live_from(Start::FIRST) }
    }

    /// The blob with the lowest offset above `offset`, 0 if there is no such blob. `offset` is any number, for example that of a blob
    /// which was freed.
    #[inline]
    pub fn next(&self, offset: u64) -> Result<u64> {
        self.check_walkable()?;
        let start = Start::of_blob(offset);
        match self.index.state(start) {
            Some(state) => self.live_from(self.block(start, state)?.next()),
            None => match self.index.next_start(offset.saturating_sub(WORD - 1)) {
                Some(start) => self.live_from(start),
                None => Ok(0),
            },
        }
    }

    /// The bytes of a blob, in memory. Fails as `live`, and iff the disk has no space for them.
    pub fn data(&mut self, blob: u64) -> Result<NonNull<[u8]>> {
        self.follow()?;
        let block = self.live(blob)?;
        self.medium.ensure_space(block.data(), Bytes::Preserve)?;
        Ok(self.medium.address(blob, block.data_len))
    }

    /// The address of a byte. Fails iff the last block ends before it, or the disk has no space for it.
    pub fn address(&mut self, offset: u64) -> Result<NonNull<u8>> {
        self.follow()?;
        if offset >= self.size() {
            return Err(Error::BeyondEnd(offset));
        }
        self.medium.ensure_space(offset..offset + 1, Bytes::Preserve)?;
        Ok(self.medium.address(offset, 1).cast())
    }

    /// The first block that starts at or behind `from`. Returns None if there is no such block. Fails iff its marker was overwritten.
    pub fn block_from(&self, from: u64) -> Result<Option<Block>> {
        self.check_walkable()?;
        let from = from.max(HEADER);
        let here = Some(Start::at(from)).filter(|&start| self.index.is_start(start));
        let start = here.or_else(|| self.index.next_start(from));
        let Some(start) = start else { return Ok(None) };
        let state = self.index.state(start).expect("a block starts there");
        let block = self.block(start, state)?;
        Ok(Some(Block { ptr: block.blob(), size: block.data_len, is_free: state != State::Live }))
    }

    /// Copies bytes of a blob, from `offset` in it on, to `bytes`. Fails as `live`, and iff the blob is too short.
    pub fn read(&self, blob: u64, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.live(blob)?.check_range(offset, bytes.len() as u64)?;
        self.medium.read(blob + offset, bytes);
        Ok(())
    }

    /// Copies `bytes` to a blob, from `offset` in it on. Fails as `read`, and iff the medium can't be changed, or the disk has no space.
    pub fn write(&mut self, blob: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        let block = self.live(blob)?;
        block.check_range(offset, bytes.len() as u64)?;
        self.medium.ensure_space(block.data(), Bytes::Preserve)?;
        self.medium.write(blob + offset, bytes);
        Ok(())
    }

    /// The live block with all of these bytes in its data. Returns None if no block has them. Fails iff its start marker was overwritten.
    pub(super) fn blob_around(&self, at: u64, len: u64) -> Result<Option<Extent>> {
        let start = Some(Start::of_blob(at)).filter(|&start| self.index.is_live(start));
        let start = start.or_else(|| self.index.start_at_or_before(at)).filter(|&start| self.index.is_live(start));
        let block = start.map(|start| self.block(start, State::Live)).transpose()?;
        Ok(block.filter(|&block| is_inside(block, at, len)))
    }

    /// Counts blocks and bytes. Fails iff a start marker was overwritten.
    pub fn stat(&self) -> Result<Stat> {
        let mut stat = Stat { medium_size: self.size(), ..Stat::default() };
        let mut from = HEADER;
        while let Some(block) = self.block_from(from)? {
            if block.is_free {
                stat.free_blocks += 1;
                stat.free_bytes += block.size;
                stat.largest_free = stat.largest_free.max(block.size);
            } else {
                stat.live_blobs += 1;
                stat.live_bytes += block.size;
            }
            from = block.end();
        }
        Ok(stat)
    }
}

// Addresses, and single ranges on the disk.
impl Heap<FileMedium> {
    /// The offset of an address in the data of a block, or in one of its markers.
    pub fn offset_of(&self, address: usize) -> Result<u64> {
        let offset = self.medium.offset_of(address);
        offset.filter(|&offset| offset >= HEADER && offset < self.size()).ok_or(Error::NoAddress)
    }

    /// Brings bytes of a blob to the disk. Fails iff they are not all in one blob, or a sync fails or failed before.
    pub fn flush_bytes(&mut self, at: u64, len: u64) -> Result<()> {
        self.check_synced()?;
        if self.medium.is_reader() {
            return Ok(());
        }
        if self.blob_around(at, len)?.is_none() {
            return Err(Error::NotInBlob { at, len });
        }
        if len == 0 || !self.writable {
            return Ok(());
        }
        self.may_flush()?;
        let result = self.medium.flush_range(at, len);
        result.inspect_err(|error| self.note_failed_sync(error))
    }
}

impl Extent {
    /// Fails iff the bytes are not all in the block's data.
    fn check_range(self, offset: u64, len: u64) -> Result<()> {
        let fits = offset <= self.data_len && len <= self.data_len - offset;
        if fits { Ok(()) } else { Err(Error::OutOfBlob { ptr: self.blob(), offset, len }) }
    }
}

// Sync, close, and the state of the whole.
impl<M: Medium> Heap<M> {
    /// Makes the file exactly the format, and writes it to the disk. The same as a palloc_sync does, in one piece.
    #[cfg(any(test, fuzzing))]
    pub fn sync(&mut self) -> Result<()> {
        if self.begin_sync() {
            self.flush()?;
            self.note_flushed();
        }
        if self.tidy_for_sync()? { self.flush() } else { Ok(()) }
    }

    /// Returns whether a sync is to flush before `tidy_for_sync`: that flushes itself, and then there is little left to write.
    pub fn begin_sync(&mut self) -> bool {
        let has_slack = self.slack().is_some() && self.medium.can_be_cut();
        let cuts = has_slack && self.cut_needs_flush();
        self.turns.tail_flushed = cuts.then_some(true);
        self.writable && (cuts || (self.medium.is_durable() && self.has_traces()))
    }

    /// Call this when that flush succeeded.
    pub fn note_flushed(&mut self) {
        self.turns.record_flushed = self.medium.is_durable();
    }

    /// Makes the file exactly the format, in memory. Returns whether the caller has to flush it.
    pub fn tidy_for_sync(&mut self) -> Result<bool> {
        self.check_synced()?;
        let result = if self.writable { self.tidy().map(|()| true) } else { Ok(false) };
        (self.turns.tail_flushed, self.turns.record_flushed) = (None, false);
        result
    }

    /// Makes the file exactly the format. Nothing is written to it from here on.
    pub fn close(&mut self) -> Result<()> {
        self.close_caches();
        self.medium.end_addresses();
        if self.writable {
            self.abandon_transactions();
            self.end_sharing();
        }
        let result = if self.writable { self.tidy().and_then(|()| self.barrier()) } else { self.check_synced() };
        self.writable = false;
        result
    }

    /// Makes the file exactly the format, in memory, but for slack: for a copy that ends where the last block does. Returns false if there
    /// is more for an open to do: a transaction is open, the medium is read only, or live readers have blocks held.
    pub fn tidy_for_clone(&mut self) -> Result<bool> {
        self.check_synced()?;
        if !self.writable || self.medium.is_shared() {
            return Ok(false); // held blocks have no links
        }
        self.tidy_transactions()?;
        self.tidy_free_blocks(None)?;
        Ok(!self.has_open_transactions())
    }

    /// Makes the file exactly the format: no slack, and free blocks with their end markers, linked by address. If the file can't be
    /// cut, the slack is a free block.
    fn tidy(&mut self) -> Result<()> {
        self.close_caches();
        self.take_back_record()?;
        self.reclaim(true);
        self.tidy_transactions()?;
        self.cut_slack()?;
        let slack = self.slack();
        if let Some(slack) = slack {
            self.store_slack();
            self.medium.store(slack.end_marker(), Marker::free(slack.data_len).0);
            self.zeros_from = slack.end(); // it gets links, too
        }
        self.tidy_free_blocks(slack)
    }

    /// Stores the end markers of free blocks, and links them by address, and with them the slack if that is to be one.
    fn tidy_free_blocks(&mut self, slack: Option<Extent>) -> Result<()> {
        let medium = &mut self.medium;
        self.index.settle(|block| medium.store(block.end_marker(), Marker::free(block.data_len).0));
        let mut last: Option<Start> = None;
        for start in self.index.free_from(0).chain(slack.map(|slack| slack.start)) {
            if let Some(last) = last {
                put_link(&mut self.medium, last.next_link(), start.offset())?;
            }
            put_link(&mut self.medium, start.prev_link(), last.map_or(0, Start::offset))?;
            last = Some(start);
        }
        if let Some(last) = last {
            put_link(&mut self.medium, last.next_link(), 0)?;
        }
        Ok(())
    }

    /// Panics if the heap, its index and the medium do not agree. Its cost grows with the medium.
    ///
    /// The end marker of a free block may be that of a live one: a recent block has it.
    pub fn check_invariants(&self) {
        let mut indexed = self.index.blocks();
        let mut kept = Vec::new();
        let mut start = Start::FIRST;
        while start < self.blocks_end {
            let marker = self.marker_or_repaired(start);
            let block = Extent { start, data_len: marker.data_len() };
            assert!(
                block.data_len >= MIN_DATA && block.next() <= self.blocks_end,
                "{block:?} fits in {:?}",
                self.blocks_end
            );
            let (indexed_start, state) = indexed.next().expect("the index has each block");
            assert_eq!(indexed_start, start, "the index has the blocks of the chain, and no others");
            if self.writable && state != State::Reserved {
                if state == State::Live && marker.is_free() {
                    kept.push(block);
                } else {
                    assert_eq!(state != State::Live, marker.is_free(), "state of {block:?}");
                }
                let end_marker = self.end_marker(block);
                let is_right = end_marker == marker || (marker.is_free() && end_marker == Marker::live(block.data_len));
                assert!(is_right, "end marker of {block:?}: {end_marker:x?}");
            }
            start = block.next();
        }
        self.check_transactions();
        self.check_kept(kept.into_iter());
        self.check_held();
        assert_eq!(start, self.blocks_end, "the chain leads to the end");
        assert_eq!(indexed.next(), None, "the index has the blocks of the chain, and no others");
        let data_len = |start| {
            if self.writable { data_len_at(&self.medium, start) } else { self.marker_or_repaired(start).data_len() }
        };
        self.index.check_invariants(data_len);

        if let Some(shown) = self.shown_as_free {
            assert!(!self.writable && self.index.state(shown) == Some(State::Reserved), "{shown:?} is shown as free");
        }
        if let Some(slack) = self.writable.then(|| self.slack()).flatten() {
            assert!(self.dynamic, "only a dynamic medium has slack");
            // Zeros are slack too: growth that failed after the file had grown leaves them, if the file can't be cut again.
            let marker = self.marker(slack.start);
            assert!(
                [Marker::free(slack.data_len), Marker(0)].contains(&marker),
                "start marker of the slack: {marker:x?}"
            );
            // Where an end marker would be, for one, and where the zeros begin.
            let zeros = self.zeros_from.max(slack.blob());
            for at in [slack.end_marker(), zeros].into_iter().filter(|&at| at >= zeros && at < slack.end()) {
                assert_eq!(self.medium.load(at), 0, "at {at}, where no blob has been since {zeros} was the end");
            }
        } else if self.writable {
            assert_eq!(self.size(), self.medium.file_len(), "the last block ends the medium");
        }
    }

    /// Fails iff this is the heap of a live reader: it has no index, and another process changes the blocks.
    #[inline]
    pub(super) fn check_walkable(&self) -> Result<()> {
        if self.medium.is_reader() { Err(Sharing::Reader.into()) } else { Ok(()) }
    }

    /// For the heap of a live reader: the file may be longer now.
    pub(super) fn follow(&mut self) -> Result<()> {
        if self.medium.is_reader() {
            self.medium.follow()?;
            self.blocks_end = Start::at(self.medium.file_len());
        }
        Ok(())
    }

    fn no_block(&self, blob: u64) -> Error {
        let in_section = self.medium.first_for_reader();
        in_section.err().unwrap_or(Error::NoBlock(blob))
    }

    fn check_writable(&self) -> Result<()> {
        self.check_synced()?;
        if self.writable { Ok(()) } else { Err(Error::ReadOnly) }
    }

    /// Checks that the medium may be changed, and takes back the record of the last transaction.
    ///
    /// Each operation calls this before its first store, unless the medium is plain: then there is nothing to check. (The fast paths
    /// beside readers, in held.rs, ask `writable`: they are on media without records only.) A transaction instead
    /// calls check_writable, and calls may_store before it stores to anything but its own blobs. An operation that flushes without
    /// PALLOC_SYNC too calls may_flush. The functions that these use (claim, divide, publish_free, ...) rely on it; growth of the file asks
    /// again (extend_tail), and so does a publishing store on a durable medium.
    #[inline]
    fn begin_change(&mut self) -> Result<()> {
        if self.is_plain() { Ok(()) } else { self.begin_careful_change() }
    }

    #[inline(never)]
    fn begin_careful_change(&mut self) -> Result<()> {
        self.check_writable()?;
        self.take_back_record()
    }

    /// Fails iff a sync failed before.
    pub(super) fn check_synced(&self) -> Result<()> {
        self.failed_sync.map_or(Ok(()), |code| Err(Error::SyncFailed(code)))
    }

    /// Whether operations are their stores alone: the medium may be changed, is neither durable nor shared, and no block is kept.
    #[inline]
    fn is_plain(&self) -> bool {
        self.writable && !self.medium.is_durable_or_shared() && !self.keeping.is_open()
    }

    /// On a durable medium, flushes: earlier stores are on the disk before later ones. Else does nothing.
    #[inline]
    pub(super) fn barrier(&mut self) -> Result<()> {
        if self.medium.is_durable() { self.flush() } else { Ok(()) }
    }

    /// In any mode: all stores are on the disk when it returns. Fails iff a sync fails; then the medium is not changed any more.
    #[inline(never)]
    fn flush(&mut self) -> Result<()> {
        debug_assert!(!self.turns.disk_busy, "one flush at a time");
        self.check_synced()?; // a system reports a failure once only, and the next sync succeeds
        let result = self.medium.flush();
        result.inspect_err(|error| self.note_failed_sync(error))
    }

    #[cold]
    pub(super) fn note_failed_sync(&mut self, error: &Error) {
        let code = match error {
            Error::System { source, .. } => source.raw_os_error(),
            _ => None,
        };
        self.failed_sync = Some(code.unwrap_or(libc::EIO));
        self.writable = false;
        if !is_broken(Rule::CloseFailed) {
            self.close_caches();
        }
    }
}

// Blocks, as the index and the markers have them.
impl<M: Medium> Heap<M> {
    fn marker(&self, start: Start) -> Marker {
        self.medium.start_marker(start)
    }

    fn end_marker(&self, block: Extent) -> Marker {
        Marker(self.medium.load(block.end_marker()))
    }

    /// The block at `start`, which is in the index with this state. Fails iff its start marker does not agree with the index: with the
    /// state, the next start, the end of the medium.
    #[inline]
    fn block(&self, start: Start, state: State) -> Result<Extent> {
        match self.data_len(start, state) {
            Some(data_len) => Ok(Extent { start, data_len }),
            None => self.in_flight_or_damaged(start),
        }
    }

    /// The size in the start marker of the block at `start`, if that agrees with the index.
    fn data_len(&self, start: Start, state: State) -> Option<u64> {
        let longest = self.size().checked_sub(start.offset() + OVERHEAD)?;
        let marker = if self.writable { self.marker(start) } else { self.marker_or_repaired(start) };
        let data_len = marker.data_len();
        if !(MIN_DATA..=longest).contains(&data_len) {
            return None;
        }
        let next = Extent { start, data_len }.next();
        // A reserved block can be either.
        let agrees = marker.is_free() == (state != State::Live) || state == State::Reserved;
        let leads_on = (next == self.blocks_end || self.index.is_start(next))
            && (data_len > MAX_EXACT || self.index.is_next(start, next));
        (leads_on && agrees).then_some(data_len)
    }

    /// The block at `start`, if it is a region that is being published: its start marker is already that of its first blob, and the index
    /// has the region until the disk has the marker. Else fails.
    #[cold]
    #[inline(never)]
    fn in_flight_or_damaged(&self, start: Start) -> Result<Extent> {
        let damaged = Error::Damaged { offset: start.offset(), what: "a start marker was overwritten" };
        self.turns.in_flight.filter(|region| region.start == start).ok_or(damaged)
    }

    #[cold]
    fn marker_or_repaired(&self, start: Start) -> Marker {
        self.overlay.marker(start).unwrap_or_else(|| self.marker(start))
    }

    /// The live block of a blob. Fails iff no blob starts there, or its start marker was overwritten.
    #[inline]
    fn live(&self, blob: u64) -> Result<Extent> {
        let start = Start::of_blob(blob);
        if self.index.is_live(start) { self.block(start, State::Live) } else { self.live_for_reader(blob) }
    }

    #[cold]
    fn live_for_reader(&self, blob: u64) -> Result<Extent> {
        let in_section = self.medium.first_for_reader();
        self.medium.block_for_reader(blob).ok_or(in_section.err().unwrap_or(Error::NoBlob(blob)))
    }

    /// The blob of the first live block from the block at `start` on, 0 if there is no such block.
    #[inline]
    fn live_from(&self, start: Start) -> Result<u64> {
        let mut start = start;
        while start < self.blocks_end {
            match self.index.state(start) {
                Some(State::Live) => return Ok(start.blob()),
                Some(state) => start = self.block(start, state)?.next(),
                None => return Err(Error::Damaged { offset: start.offset(), what: "no block begins here" }),
            }
        }
        Ok(0)
    }

    /// The free block that starts at `start`. Returns None if no free block of the index does. Fails iff its markers were overwritten.
    fn free_at(&self, start: Start) -> Result<Option<Extent>> {
        match self.index.state(start) {
            Some(State::Free) if start < self.blocks_end => {
                let block = self.block(start, State::Free)?;
                self.check_end(block).map(|()| Some(block))
            }
            _ => Ok(None),
        }
    }

    /// Fails iff a block larger than all exact sizes has different markers. Called before such a block is changed: its start marker
    /// may have been overwritten and lead to a later block. The index knows the ends of all other blocks, so their end markers are not
    /// read, which often saves a cache miss.
    #[inline(always)]
    fn check_end(&self, block: Extent) -> Result<()> {
        if block.data_len <= MAX_EXACT || self.marker(block.start) == self.end_marker(block) {
            Ok(())
        } else {
            Err(Error::Damaged {
                offset: block.start.offset(),
                what: "the markers of a block differ, one was overwritten",
            })
        }
    }

    /// The free block that ends where `next` starts. Returns None if no free block does, or its markers differ.
    ///
    /// Why two ways: the index finds the start of a block of an exact size, whose end marker may be that of a live block. The end marker
    /// leads to the start of a larger one. It is not trusted: the start marker must have the same size.
    #[inline]
    fn free_before(&self, next: Start) -> Option<Extent> {
        let end = next.offset();
        let start = match self.index.nearest_start_before(next) {
            Some(start) => start,
            None if next <= Start::FIRST => return None,
            None => Start::at(end.checked_sub(OVERHEAD)?.checked_sub(Marker(self.medium.load(end - WORD)).data_len())?),
        };
        if self.index.state(start) != Some(State::Free) || end - start.offset() < OVERHEAD {
            return None;
        }
        let block = Extent::between(start, end);
        (self.marker(start) == Marker::free(block.data_len)).then_some(block)
    }

    /// Removes a free block from the index.
    fn take_from_index(&mut self, block: Extent) {
        self.index.remove_free(block, |start| data_len_at(&self.medium, start));
    }
}

// Stores that operations share.
impl<M: Medium> Heap<M> {
    /// Publishes an operation: stores a start marker. Fails iff the barrier after it does; then the marker is as it was.
    #[inline]
    fn publish(&mut self, start: Start, marker: Marker) -> Result<()> {
        self.publish_word(start.offset(), marker.0)
    }

    /// As `publish`, for any word: an intent in an end marker.
    #[inline]
    fn publish_word(&mut self, at: u64, word: u64) -> Result<()> {
        if !self.medium.is_durable() {
            debug_assert!(self.writable && self.failed_sync.is_none(), "begin_change or check_synced was called");
            self.medium.store(at, word);
            return Ok(());
        }
        self.publish_durably(at, word)
    }

    #[inline(never)]
    fn publish_durably(&mut self, at: u64, word: u64) -> Result<()> {
        self.check_synced()?; // a free before it may have cut the file, which flushes
        let before = self.medium.load(at);
        self.medium.store(at, word);
        self.flush().inspect_err(|_| self.medium.store(at, before))
    }

    /// Makes sure that the disk has space for stores to these words, which are markers or next to live data.
    #[inline(always)]
    fn ensure_words<const N: usize>(&mut self, places: [Option<u64>; N]) -> Result<()> {
        if self.medium.has_holes() { self.ensure_words_in_holes(places) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn ensure_words_in_holes<const N: usize>(&mut self, places: [Option<u64>; N]) -> Result<()> {
        places.into_iter().flatten().try_for_each(|at| self.medium.ensure_space(at..at + WORD, Bytes::Preserve))
    }

    /// Makes sure that the disk has space to divide `free`, a free block or the slack, at the end of `block` or to use all of it: for its
    /// markers, the part of `block` in it, and the start marker and the links of the rest.
    fn ensure_divisible(&mut self, free: Extent, block: Extent) -> Result<()> {
        let is_slack = free.start == self.blocks_end; // which has no end marker
        self.ensure_words([Some(free.start.offset()), (!is_slack).then_some(free.end_marker())])?;
        let scratch_end = (block.end() + FREE_HEAD).min(free.end_marker());
        self.medium.ensure_space(block.start.offset().max(free.blob())..scratch_end, Bytes::Scratch)
    }

    /// Clears start markers of blocks that do not exist any more.
    ///
    /// A power cut without barriers needs that: it may leave the first part of a split on the disk, and not the start marker of the
    /// rest. An old start marker there could lead over blobs that were made since.
    fn erase<const N: usize>(&mut self, dead: [Option<u64>; N]) {
        dead.into_iter().flatten().for_each(|at| self.medium.store(at, 0));
    }
}

/// The size in the start marker at `start`. The marker may have been overwritten, so the size is any number.
fn data_len_at(medium: &impl Medium, start: Start) -> u64 {
    if start.offset() <= medium.file_len() - WORD { medium.start_marker(start).data_len() } else { 0 }
}

fn put_link(medium: &mut impl Medium, at: u64, link: u64) -> Result<()> {
    if medium.load(at) != link {
        medium.ensure_space(at..at + WORD, Bytes::Preserve)?;
        medium.store(at, link);
    }
    Ok(())
}
