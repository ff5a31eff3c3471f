// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commits: the steps from the record to its changes, and the quarantine of the blocks that a durable one frees. The head of transaction.rs has
//! their order.

use super::changes::{Changes, NewBlob};
use crate::palloc::Result;
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, Marker, Start};
use crate::palloc::heap::Heap;
use crate::palloc::medium::Medium;
use crate::palloc::record::{self, Change, Writer, is_inside, put};
use crate::palloc::sabotage::{Rule, is_broken};

/// The store that commits.
#[derive(Clone, Copy)]
enum CommitBy {
    /// There is nothing to do.
    Nothing,
    /// One start marker does it all.
    StartMarker { at: Start, before: Marker, marker: Marker },
    /// By the record in this log, which this tag commits.
    Record { log: Extent, tag: u64 },
}

/// A commit on its way, from `commit_prepare` to `commit_end`.
pub struct Commit {
    by: CommitBy,
    step: Step,
}

/// What was done last.
#[derive(Clone, Copy)]
enum Step {
    Prepared,
    Stored,
    Flushed,
    Failed,
}

impl Commit {
    fn new(by: CommitBy) -> Commit {
        let step = if matches!(by, CommitBy::Nothing) { Step::Flushed } else { Step::Prepared };
        Commit { by, step }
    }

    /// Whether `advance_commit` is to be called next, else `commit_end`.
    pub fn needs_flush(&self) -> bool {
        matches!(self.step, Step::Prepared | Step::Stored)
    }
}

impl<M: Medium> Heap<M> {
    /// Commits with the lock, all the time. On failure nothing is done, and the transaction goes on. On a durable medium threads commit in
    /// groups instead (`Palloc::lead`), which do these steps, and flush between them without the lock; there only tests use this.
    pub fn tx_commit(&mut self, changes: &mut Changes) -> Result<()> {
        self.commit_check(changes, |_| false)?;
        let mut commit = self.commit_prepare(&[changes]);
        let mut result = Ok(());
        while commit.needs_flush() {
            result = self.barrier();
            self.advance_commit(&mut commit, result.is_ok());
        }
        self.commit_end(&[changes], commit);
        result?;
        self.tx_end(changes);
        self.after_commit();
        Ok(())
    }

    /// Fails iff the transaction cannot be committed: the blocks that it frees or stores to have to be there. `is_freed` says which
    /// blocks the transactions before it in the group free.
    pub(in crate::palloc::heap) fn commit_check(
        &self,
        changes: &Changes,
        is_freed: impl Fn(Start) -> bool,
    ) -> Result<()> {
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
    pub(super) fn is_unchanged(&self, block: Extent) -> bool {
        self.index.is_live(block.start) && self.marker(block.start) == Marker::live(block.data_len)
    }

    /// The part of a commit before its first barrier: it stores only behind the start markers of free blocks, and in a log that is not
    /// committed.
    pub(in crate::palloc::heap) fn commit_prepare(&mut self, group: &[&Changes]) -> Commit {
        Commit::new(self.prepare(group))
    }

    fn prepare(&mut self, group: &[&Changes]) -> CommitBy {
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
    pub(in crate::palloc::heap) fn log_of(&self, first: &Changes) -> Option<Extent> {
        let [one, other] = self.tx.logs;
        first.log.or(if one == self.tx.outstanding { other } else { one })
    }

    /// Continues a commit after a barrier (of a group: a flush of all stores): makes the store that commits after the first one.
    pub fn advance_commit(&mut self, commit: &mut Commit, succeeded: bool) {
        commit.step = match commit.step {
            _ if !succeeded => Step::Failed,
            Step::Prepared => {
                self.commit_store(commit.by);
                Step::Stored
            }
            _ => Step::Flushed,
        };
    }

    /// The store that commits.
    fn commit_store(&mut self, by: CommitBy) {
        match by {
            CommitBy::Nothing => {}
            CommitBy::StartMarker { at, before, marker } => {
                self.turns.in_flight = Some(Extent { start: at, data_len: before.data_len() });
                self.medium.store_start(at, marker);
            }
            CommitBy::Record { log, tag } => {
                if let Some(outstanding) = self.tx.outstanding {
                    self.store_idle_tag(outstanding);
                }
                self.medium.store(log.end_marker(), tag);
            }
        }
    }

    /// Makes the changes of a commit, or undoes it if a flush failed.
    pub(in crate::palloc::heap) fn commit_end(&mut self, group: &[&Changes], commit: Commit) {
        debug_assert!(!commit.needs_flush());
        self.turns.in_flight = None;
        match commit.step {
            Step::Failed => self.commit_undo(commit.by),
            _ => self.commit_apply(group, commit.by),
        }
    }

    /// Undoes the store that commits after a flush failed; the tag of the log that was outstanding stays idle. (The store may be on the
    /// disk all the same: nothing is stored to this medium any more.)
    fn commit_undo(&mut self, by: CommitBy) {
        match by {
            CommitBy::Nothing => {}
            CommitBy::StartMarker { at, before, .. } => self.medium.store_start(at, before),
            CommitBy::Record { log, .. } => self.store_idle_tag(log),
        }
    }

    fn store_idle_tag(&mut self, log: Extent) {
        self.medium.store(log.end_marker(), record::idle_tag(log.end_marker()));
    }

    /// Makes the changes that were committed. Cannot fail.
    fn commit_apply(&mut self, group: &[&Changes], by: CommitBy) {
        let CommitBy::Record { log, .. } = by else { return };
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
                self.free_used_joined_or_not(block, inner);
                rest = behind;
            }
        }
        if durable {
            self.tx.owned -= self.tx.spent.len();
            let tx = &mut self.tx;
            tx.quarantine.append(&mut tx.spent);
            self.begin_quarantine();
            self.tx.outstanding = Some(log);
            if is_broken(Rule::Quarantine) {
                self.end_quarantine();
            }
        } else {
            // Also if a free has cut the file and its flush failed: else the next open would do the stores again, over later ones of the program.
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

    /// Frees the blocks in the quarantine on the medium, joined with each other and with free neighbours, by one store each. The index has
    /// them as reserved.
    fn begin_quarantine(&mut self) {
        let mut list = std::mem::take(&mut self.tx.quarantine);
        list.sort_unstable_by_key(|block| block.start);
        let mut kept = 0; // the list up to here is done
        for i in 0..list.len() {
            let block = list[i];
            let last = list[..kept].last().copied().filter(|last| last.next() == block.start);
            let (before, behind) = self.neighbours_in_quarantine(block, last);
            let joins_last = before.is_some() && before == last;
            self.index.remove_used(block.start);
            if let Some(before) = before.filter(|_| !joins_last) {
                self.take_from_index(before);
            }
            if let Some(behind) = behind {
                self.take_from_index(behind);
            }
            // Their start markers stay where they are: on the disk the chain may still lead there.
            let dead = [before.map(|_| block.start), behind.map(|behind| behind.start)];
            self.tx.dead.extend(dead.into_iter().flatten()); // `grow_lists` made room
            let start = before.map_or(block.start, |before| before.start);
            let whole = Extent::between(start, behind.map_or(block.end(), Extent::end));
            self.mark_quarantined(whole);
            kept += usize::from(!joins_last);
            list[kept - 1] = whole;
        }
        list.truncate(kept);
        self.tx.quarantine = list;
    }

    /// The free blocks that a block is joined with when it goes into the quarantine: the one before, which is `last` if that is
    /// in the quarantine already, and the one behind. None, if the disk has no space for their markers, or if the medium has live
    /// readers: then the block is held when it leaves the quarantine, and joined after that.
    fn neighbours_in_quarantine(&mut self, block: Extent, last: Option<Extent>) -> (Option<Extent>, Option<Extent>) {
        if self.medium.is_shared() || is_broken(Rule::JoinAtOnce) {
            return (None, None);
        }
        let before = last.or_else(|| self.free_before(block.start));
        let behind = self.free_at(block.next()).unwrap_or(None);
        // Its own markers are in pages that the disk has space for, those of its neighbours may not be.
        let theirs = [before.map(|before| before.start.offset()), behind.map(Extent::end_marker)];
        if self.ensure_words(theirs).is_ok() {
            return (before, behind);
        }
        self.tx.unjoined = true;
        (None, None)
    }

    /// Stores the markers of a free block, and enters it as a reserved one.
    fn mark_quarantined(&mut self, block: Extent) {
        let marker = Marker::free(block.data_len);
        self.medium.store_start(block.start, marker);
        // No record frees a log of one transaction. It keeps its tag until its start marker is on the disk: by the tag, opening knows that
        // it is no blob.
        if self.medium.load(block.end_marker()) != record::idle_tag(block.end_marker()) {
            self.medium.store(block.end_marker(), marker.0);
        }
        self.index.put_reserved(block.start);
        self.tx.tail_freed |= self.dynamic && block.next() == self.blocks_end;
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
                let _ = self.free_without_barrier(block);
                continue;
            }
            self.index.remove_used(block.start);
            self.add_to_index(block);
        }
        self.tx.quarantine = list;
        let mut dead = std::mem::take(&mut self.tx.dead);
        dead.drain(..).for_each(|start| self.medium.store_start(start, Marker(0)));
        self.tx.dead = dead;
    }

    /// Brings the last transaction to the disk, and takes its record back. The barriers of the next operation bring that to the disk too, in
    /// time. Called before an operation other than a commit changes a durable medium.
    #[inline]
    pub(in crate::palloc::heap) fn take_back_record(&mut self) -> Result<()> {
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
                let whole = Extent::between(tail.start, self.medium.file_len());
                self.publish_free(whole, [None, None])?;
                self.add_free_space(whole, [tail].into_iter());
            }
            self.tx.tail_freed = false;
        }
        self.check_synced() // as in `free_used`
    }

    /// The block at `start`, whose marker was checked.
    fn extent_of(&self, start: Start) -> Extent {
        Extent { start, data_len: self.marker(start).data_len() }
    }
}
