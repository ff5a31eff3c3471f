// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a dynamic medium: slack, growth and cuts.
//!
//! A dynamic medium that is open may end in slack: a free block that is not in the index and starts at `Heap::blocks_end`. Growth makes it
//! ahead of need; freeing the last block makes it too. It has a start marker and no end marker, so behind that there are zeros where
//! no blob was. In exact mode there is no slack between operations.

use super::Heap;
use crate::palloc::format::{Extent, MIN_BLOCK, Marker, OVERHEAD, SPLIT_ABOVE, STEP, Start, WORD};
use crate::palloc::medium::{Bytes, Medium};
use crate::palloc::{Error, Result};

/// A file system may clear bytes up to the end of a page or block when a file is cut. Those of ext4, xfs and btrfs are not larger, nor are
/// pages of arm64 and ppc64.
const LARGEST_PAGE: u64 = if cfg!(fuzzing) { 4 << 10 } else { 64 << 10 };

/// Growth makes slack of 1/12 of the medium, between these limits: with `most_slack`, the file of a large medium stays below 1.12 times the
/// end of its last block. (Fuzz targets in memory have less: they would spend half of their time on
/// bytes of slack.)
const AHEAD: u64 = 12;
const LEAST_AHEAD: u64 = if cfg!(fuzzing) { 4 << 10 } else { 64 << 10 };
const MOST_AHEAD: u64 = 64 << 20;

const _: () = {
    assert!(LEAST_AHEAD % STEP == 0 && MOST_AHEAD % STEP == 0, "blocks behind the slack are in step");
    assert!(SPLIT_ABOVE < LEAST_AHEAD && LEAST_AHEAD <= MOST_AHEAD, "slack has room for a block");
    assert!(
        AHEAD > 0 && 10_000 + most_slack(10_000 / AHEAD) <= 11_200,
        "the file of a large medium is at most 1.12 times the end of the last block"
    );
    assert!(most_slack(LEAST_AHEAD) > LEAST_AHEAD + STEP, "cutting slack makes it shorter");
    assert!(LARGEST_PAGE.is_power_of_two(), "every smaller page ends where it does");
};

/// Slack that is longer than this is cut to `ahead` bytes, the slack that growth makes.
const fn most_slack(ahead: u64) -> u64 {
    ahead + ahead * 2 / 5
}

impl<M: Medium> Heap<M> {
    /// The slack, if there is any.
    pub(super) fn slack(&self) -> Option<Extent> {
        (self.size() < self.medium.file_len()).then(|| Extent::between(self.blocks_end, self.medium.file_len()))
    }

    /// The offset of the slack's start marker, if there is slack and it ends at `end`.
    pub(super) fn slack_before(&self, end: u64) -> Option<u64> {
        self.slack().filter(|slack| slack.end() == end).map(|slack| slack.start.offset())
    }

    /// Writes the start marker of the slack, if there is any. Slack that is too short for a block is left when growth fails and can't be taken
    /// back: that becomes zeros, which opening cuts off.
    pub(super) fn store_slack(&mut self) {
        let (start, end) = (self.blocks_end, self.medium.file_len());
        if end - start.offset() >= MIN_BLOCK {
            self.medium.store_start(start, Marker::free(Extent::between(start, end).data_len));
        } else if end > start.offset() {
            let mut bytes = [0; MIN_BLOCK as usize];
            let bytes = &mut bytes[..(end - start.offset()) as usize];
            self.medium.read(start.offset(), bytes);
            if bytes.iter().any(|&byte| byte != 0) {
                self.medium.clear(start.offset(), bytes.len() as u64); // bytes that are not zero have space on the disk
            }
        }
    }

    /// Makes slack of all space from `start` on. It ends at `end` or far enough behind that a block up to `end` can be split off it.
    /// Grows the file if need be; ahead of need if the disk has space. Fails iff there is no memory, no space on the disk, or a barrier
    /// fails.
    ///
    /// Precondition: from `start` to the end of the medium there is one free block, or slack, or nothing. See `with_tail_restored`.
    pub(super) fn extend_tail(&mut self, start: Start, end: u64) -> Result<()> {
        self.may_store()?;
        self.index.prepare(start)?;
        let end_before = self.medium.file_len();
        let fits = end_before >= end;
        let leaves_too_little = end_before > end && end_before - end <= SPLIT_ABOVE && !self.exact;
        if !fits || leaves_too_little {
            if !self.exact {
                self.may_flush()?;
            }
            self.cover_old_blobs(start)?;
            let ahead = self.medium.set_file_len(end + self.growth_ahead(end));
            if ahead.is_err() && !fits {
                self.medium.set_file_len(end)?;
            }
        }
        if start < self.blocks_end {
            let tail = Extent::between(start, self.size());
            if let Err(error) = self.ensure_divisible(tail, Extent::between(tail.start, end)) {
                let had_slack = end_before > self.size();
                if self.medium.set_file_len(end_before).is_err() && had_slack {
                    self.store_slack(); // it is longer now; without it, zeros are left, where a store could find no space
                }
                return Err(error);
            }
            let data_len = self.marker(start).data_len();
            self.take_from_index(Extent { start, data_len });
            self.blocks_end = start;
            self.turns.note_shrunk();
        }
        self.store_slack();
        // The longer slack is on the disk before blobs are in it: else the chain could end in bytes that are no block. Growth is seldom,
        // so this is done in any mode; in exact mode each allocation grows the file, and only a durable medium waits for the disk.
        match end_before < self.medium.file_len() {
            true if self.exact => self.barrier(),
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes an end marker to the space from `start` to the end of the medium and makes it durable, if blobs were there.
    ///
    /// Growth writes a longer start marker, which may be on the disk before the longer file is. Opening then looks for blobs that the
    /// start marker hides. Old markers of blobs, on the disk or not, must not look like hidden ones.
    fn cover_old_blobs(&mut self, start: Start) -> Result<()> {
        let end = self.medium.file_len();
        let needs_flush = self.medium.is_durable() || !self.exact;
        if !needs_flush || start.offset() >= end || self.zeros_from <= start.offset() {
            return Ok(());
        }
        let space = Extent::between(start, end);
        let slack = self.slack().map(|slack| slack.start.offset());
        self.ensure_words([slack, Some(space.end_marker())])?;
        // Growth that failed and could not be taken back has left slack of zeros, without a start marker. Opening accepts zeros only.
        self.store_slack();
        if self.free_at(start)? == Some(space) {
            // If it was a recent block, it has the end marker of a live one: it is no recent one any more.
            self.take_from_index(space);
            self.index.add_free(space);
        }
        self.medium.store(space.end_marker(), Marker::free(space.data_len).0);
        self.zeros_from = end;
        self.flush()
    }

    /// Calls `operation`, which may call `extend_tail`. If it fails after the last free block had become slack, that is a free block
    /// again, unless the file was cut meanwhile: what is left of it stays slack. In exact mode cuts off the slack that is left.
    #[inline(always)]
    pub(super) fn with_tail_restored<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let end = self.blocks_end;
        let result = operation(self);
        if result.is_err() && self.blocks_end < end && end.offset() <= self.medium.file_len() {
            let tail = Extent::between(self.blocks_end, end.offset());
            self.blocks_end = end;
            self.store_slack();
            self.medium.store_start(tail.start, Marker::free(tail.data_len));
            self.add_to_index(tail);
        }
        if self.exact {
            let _ = self.cut_slack(); // if that fails, a later operation does it
        }
        result
    }

    /// The length of the slack that growth makes behind the last block, which ends at `end`.
    fn growth_ahead(&self, end: u64) -> u64 {
        if self.exact { 0 } else { (end / AHEAD).clamp(LEAST_AHEAD, MOST_AHEAD) / STEP * STEP }
    }

    /// Whether the slack is much longer than growth makes it, and may be cut.
    pub(super) fn is_slack_too_long(&self) -> bool {
        let end = self.size();
        let is_long = self.medium.file_len() - end > most_slack(self.growth_ahead(end));
        // The disk: a cut may have to flush. Beside readers a sync cuts, which asks whether one is open.
        is_long && !self.turns.disk_busy && !self.medium.is_shared() && self.medium.can_be_cut()
    }

    /// Cuts slack that is much longer than growth makes it. If that fails, close does it.
    pub(super) fn trim_slack(&mut self) {
        if self.exact {
            let _ = self.cut_slack();
            return;
        }
        if self.keeping.is_open() || !self.is_slack_too_long() {
            return; // when the caches are closed, this is called again; `free_beside_caches` sees to it
        }
        let end = self.size();
        let mut ahead = self.growth_ahead(end);
        // A kill before store_slack leaves a start marker that leads beyond the end. If the last words of the file then look like the end
        // marker of a blob that starts where the slack does, the next open could accept the bytes as that blob. Then the slack ends
        // elsewhere.
        if self.medium.load(end + ahead - WORD) == Marker::live(ahead - OVERHEAD).0 {
            ahead += STEP;
        }
        if self.medium.set_file_len(end + ahead).is_ok() {
            let slack_end = self.medium.file_len();
            // The file is shorter on the disk before the marker is: else bytes that are no block would be behind the slack.
            if self.zeros_from > slack_end && self.flush().is_ok() {
                self.zeros_from = slack_end;
            }
            self.store_slack();
        }
    }

    /// Cuts the file at the end of the last block. Does nothing if the system can't cut it now. On failure the slack remains.
    pub(super) fn cut_slack(&mut self) -> Result<()> {
        if self.slack().is_none() || !self.medium.can_be_cut() {
            return Ok(());
        }
        let prepared = if self.cut_needs_flush() && self.failed_sync.is_none() { self.prepare_cut() } else { Ok(()) };
        let cut = prepared.and_then(|()| self.medium.set_file_len(self.size())).inspect_err(|_| self.store_slack());
        if let Err(Error::Locked) = cut { Ok(()) } else { cut } // a reader has opened it meanwhile
    }

    /// Without PALLOC_SYNC, exact mode does not wait for the disk; and where no blob was, there are zeros already.
    pub(super) fn cut_needs_flush(&self) -> bool {
        self.medium.is_durable() || (!self.exact && self.zeros_from > self.size())
    }

    /// Clears at least the part of the slack that is in the same page as its start, and makes that durable.
    ///
    /// A file system clears the last page of a file that is cut, and that may be on the disk before the new length is. The slack is
    /// then without a start marker. Opening accepts that if only zeros are behind it.
    fn prepare_cut(&mut self) -> Result<()> {
        let behind = self.blocks_end.blob();
        // What is left is a block, if a later step fails.
        let page_end =
            self.blocks_end.plus(MIN_BLOCK).offset().next_multiple_of(LARGEST_PAGE).min(self.medium.file_len());
        let is_cut_twice = page_end < self.medium.file_len();
        if !self.medium.is_durable() && self.turns.tail_flushed.map_or(is_cut_twice, |flushed| !flushed) {
            self.flush()?; // the chain on the disk does not lead there any more
        }
        if is_cut_twice {
            self.medium.set_file_len(page_end)?;
        }
        self.medium.ensure_space(behind..page_end, Bytes::Preserve)?;
        self.medium.clear(behind, page_end - behind);
        self.flush()?;
        self.zeros_from = self.size();
        Ok(())
    }
}
