// SPDX-License-Identifier: MIT OR Apache-2.0
//! A medium in memory, for tests and fuzz targets.
#![cfg_attr(not(test), allow(dead_code))] // tests look at more

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;

use super::heap::Heap;
use super::live::epochs::NEVER;
use super::medium::{Bytes, Medium};
use super::sabotage::{Rule, is_broken};
use super::{Error, Result, recover};

/// The smallest range that give_back gives back.
pub const PAGE: u64 = 64;

/// A medium in memory that keeps its state before every change.
#[derive(Default)]
pub struct MemMedium {
    pub bytes: Vec<u8>,
    pub before_each_change: Option<Vec<Vec<u8>>>,
    /// The length that it cannot exceed.
    pub disk_size: u64,
    /// How many calls that can fail still succeed, and how many behind these fail.
    pub calls_left: Cell<u64>,
    pub failures_left: Cell<u64>,
    /// With PALLOC_SYNC: where in `before_each_change` the barriers were.
    pub barriers: Option<Vec<usize>>,
    /// Without: where there the syncs were.
    pub syncs: Vec<usize>,
    /// That many barriers from now on, one is left out.
    pub sabotage: Option<u64>,
    pub loads: Cell<u64>,
    /// The number of changes so far.
    pub changes: Rc<Cell<u64>>,
    /// The change before which `picture` is taken.
    pub picture_before: Option<u64>,
    pub picture: Option<Vec<u8>>,
    /// The pages that have no space on the disk.
    pub holes: BTreeSet<u64>,
    /// Nothing may be stored now.
    pub is_frozen: bool,
    /// Whether the last change was a cut.
    pub is_cut: bool,
    /// If a flush failed: the number of changes since, and whether the one before it was a cut.
    pub since_failed_flush: Option<(u64, bool)>,
    /// With live readers: the epoch.
    pub epoch: Option<u64>,
    /// The epochs that readers pin.
    pub pins: Vec<u64>,
    /// The first blob, as readers see it.
    pub first: Cell<u64>,
}

impl MemMedium {
    pub fn new(bytes: Vec<u8>) -> MemMedium {
        MemMedium { bytes, disk_size: 1 << 30, ..MemMedium::default() }
    }

    /// A medium with these bytes. Its pages of zeros are holes.
    pub fn sparse(bytes: Vec<u8>) -> MemMedium {
        let pages = bytes.chunks(PAGE as usize).zip(0..);
        let holes = pages.filter(|(page, _)| page.iter().all(|&byte| byte == 0)).map(|(_, number)| number);
        let holes = holes.collect();
        MemMedium { holes, ..MemMedium::new(bytes) }
    }

    /// Counts a call that can fail.
    pub fn call(&self) -> Result<()> {
        if self.calls_left.get() > 0 {
            self.calls_left.set(self.calls_left.get() - 1);
        } else if self.failures_left.get() > 0 {
            self.failures_left.set(self.failures_left.get() - 1);
            let source = std::io::Error::from_raw_os_error(libc::EIO);
            return Err(Error::System { doing: "fail", source });
        }
        Ok(())
    }

    /// Where in `before_each_change` the next state will be.
    pub fn states(&self) -> usize {
        self.before_each_change.as_ref().map_or(0, Vec::len)
    }

    /// A flush that began when there were so many states, and is over now.
    pub fn flush_from(&mut self, place: usize) -> Result<()> {
        if let Some(n) = self.sabotage {
            self.sabotage = n.checked_sub(1);
            if n == 0 {
                return Ok(());
            }
        }
        if self.before_each_change.is_some() {
            self.barriers.as_mut().unwrap_or(&mut self.syncs).push(place);
        }
        let result = self.call();
        if result.is_err() {
            self.since_failed_flush = Some((0, self.is_cut));
        }
        result
    }

    /// The program is about to store something.
    pub fn note_change(&mut self) {
        self.is_cut = false;
        self.since_failed_flush = self.since_failed_flush.map(|(n, behind_cut)| (n + 1, behind_cut));
        if let Some(states) = &mut self.before_each_change {
            states.push(self.bytes.clone());
        }
        self.changes.set(self.changes.get() + 1);
        if let Some(n) = self.picture_before {
            self.picture_before = n.checked_sub(1);
            if n == 0 {
                self.picture = Some(self.bytes.clone());
            }
        }
    }

    pub fn note(&mut self) {
        assert!(!self.is_frozen, "stores while another thread waits for the disk");
        self.note_change();
    }

    /// The program is about to store `len` bytes at `at`.
    fn note_store(&mut self, at: u64, len: usize) {
        let mut holes = self.holes.range(at / PAGE..(at + len as u64).div_ceil(PAGE));
        assert_eq!(holes.next(), None, "the page may have no space on the disk");
        self.note();
    }
}

impl Medium for MemMedium {
    fn file_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn head(&self) -> u64 {
        let mut head = [0; 8];
        let n = self.bytes.len().min(8);
        head[..n].copy_from_slice(&self.bytes[..n]);
        u64::from_be_bytes(head)
    }

    fn load(&self, at: u64) -> u64 {
        self.loads.set(self.loads.get() + 1);
        u64::from_be_bytes(self.bytes[at as usize..][..8].try_into().unwrap())
    }

    fn store(&mut self, at: u64, word: u64) {
        self.note_store(at, size_of::<u64>());
        self.bytes[at as usize..][..8].copy_from_slice(&word.to_be_bytes());
    }

    fn prefetch(&self, _: u64, _: u64) {}

    fn read(&self, at: u64, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.bytes[at as usize..][..bytes.len()]);
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        self.note_store(at, bytes.len());
        self.bytes[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn clear(&mut self, at: u64, len: u64) {
        self.note_store(at, len as usize);
        self.bytes[at as usize..][..len as usize].fill(0);
    }

    fn copy(&mut self, from: u64, to: u64, len: u64) {
        self.note_store(to, len as usize);
        assert!(from + len <= to || to + len <= from);
        self.bytes.copy_within(from as usize..(from + len) as usize, to as usize);
    }

    fn is_zero(&self, at: u64, stop: u64) -> Result<bool> {
        Ok(self.bytes[at as usize..stop as usize].iter().all(|&b| b == 0))
    }

    fn data_from(&self, at: u64) -> u64 {
        at
    }

    fn has_movable_len(&self) -> bool {
        true
    }

    fn set_file_len(&mut self, end: u64) -> Result<()> {
        self.call()?;
        if end < self.file_len() && !self.can_be_cut() {
            return Err(Error::Locked);
        }
        if end > self.disk_size {
            let source = std::io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(Error::System { doing: "grow", source });
        }
        self.note();
        self.is_cut = end < self.file_len();
        self.holes.split_off(&(end / PAGE)); // growth takes space for its bytes
        self.bytes.resize(end as usize, 0);
        Ok(())
    }

    fn is_durable_or_shared(&self) -> bool {
        self.is_durable() || self.is_shared()
    }

    fn is_shared(&self) -> bool {
        self.epoch.is_some()
    }

    fn can_be_cut(&self) -> bool {
        self.pins.is_empty() || is_broken(Rule::CutAlone)
    }

    fn epoch(&self) -> u64 {
        self.epoch.unwrap_or(0)
    }

    fn next_epoch(&mut self, _: bool) -> u64 {
        self.epoch = self.epoch.map(|epoch| epoch + 1);
        self.pins.iter().copied().min().unwrap_or(NEVER)
    }

    fn end_sharing(&mut self) -> u64 {
        let oldest = self.next_epoch(true);
        self.epoch = None;
        oldest
    }

    fn show_first(&self, blob: u64) {
        self.first.set(blob);
    }

    fn has_holes(&self) -> bool {
        true
    }

    fn ensure_space(&mut self, range: Range<u64>, _: Bytes) -> Result<()> {
        assert!(range.start <= range.end && range.end <= self.file_len(), "space for {range:?} of {}", self.file_len());
        if !self.holes.is_empty() {
            self.holes.retain(|page| !(range.start / PAGE..range.end.div_ceil(PAGE)).contains(page));
        }
        self.call()
    }

    fn allocated(&self) -> u64 {
        self.file_len() - self.holes.range(..self.file_len() / PAGE).count() as u64 * PAGE
    }

    fn give_back(&mut self, range: Range<u64>, least: u64) -> Result<()> {
        let (from, to) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        if from < to && to - from >= least {
            self.call()?;
            self.note();
            self.bytes[from as usize..to as usize].fill(0);
            self.holes.extend(from / PAGE..to / PAGE);
        }
        Ok(())
    }

    fn is_durable(&self) -> bool {
        self.barriers.is_some()
    }

    fn flush(&mut self) -> Result<()> {
        self.flush_from(self.states())
    }

    fn address(&self, at: u64, len: u64) -> NonNull<[u8]> {
        NonNull::from(&self.bytes[at as usize..][..len as usize])
    }
}

/// Live blobs and their bytes.
pub type Blobs = BTreeMap<u64, Vec<u8>>;

/// The live blobs, after a check of all invariants.
pub fn blobs(heap: &Heap<MemMedium>) -> Blobs {
    heap.check_invariants();
    let mut blobs = Blobs::new();
    let mut ptr = heap.first().unwrap();
    while ptr != 0 {
        let n = heap.size_of(ptr).unwrap() as usize;
        blobs.insert(ptr, heap.medium.bytes[ptr as usize..][..n].to_vec());
        ptr = heap.next(ptr).unwrap();
    }
    blobs
}

/// Closes the medium, and returns it: it is exactly the format.
pub fn closed(mut heap: Heap<MemMedium>) -> MemMedium {
    heap.close().unwrap();
    assert_eq!(recover::check(&heap.medium, |offset, what| eprintln!("{offset}: {what:?}")), 0);
    heap.medium
}
