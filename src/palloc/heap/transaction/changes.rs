// SPDX-License-Identifier: MIT OR Apache-2.0
//! The changes that a transaction will make: its regions, new blobs, frees and stores, and the units of its record. Without access to the heap.

use std::ptr::NonNull;

use crate::palloc::Result;
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, MIN_BLOCK, Marker, OVERHEAD, Request, Start, WORD};
use crate::palloc::heap::alloc::split;
use crate::palloc::record::{self, Change, MAX_OFFSET, MAX_STORE, UNIT, is_inside, unit_bytes, unit_words};

use super::{LOOK_BACK, MAX_WHOLE};

/// How many units the record of a store of these bytes takes.
pub(super) fn units_of_store(bytes: &[u8]) -> usize {
    if (1..=MAX_STORE).contains(&bytes.len()) {
        return 1 + record::units_of(bytes.len());
    }
    bytes.chunks(MAX_STORE).map(|part| 1 + record::units_of(part.len())).sum()
}

/// The free block from `start` to `end`, of which the part up to `next` is in use for new blobs.
pub(super) struct Region {
    pub(super) start: Start,
    /// Where the next new blob's block starts: `end`, or so far before it that a block fits. So `address` stays inside.
    pub(super) next: Start,
    pub(super) end: u64,
    pub(super) address: NonNull<u8>,
}

impl Region {
    pub(super) fn marker(&self) -> Marker {
        Marker::free(Extent::between(self.start, self.end).data_len)
    }

    /// The size of the largest blob that fits.
    fn largest_blob(&self) -> u64 {
        (self.end - self.next.offset()).saturating_sub(OVERHEAD)
    }

    /// Returns the size that the next new blob gets, for this request. Returns None if it does not fit. A large region takes one blob of
    /// its whole length only: the index is not prepared for starts of blocks inside of it.
    #[inline]
    fn size_of_next(&self, request: Request) -> Option<u64> {
        let largest = self.largest_blob();
        let data_len = split(largest, request.data_len);
        let fits = largest >= request.least && (data_len == largest || !is_large(self.start, self.end));
        fits.then_some(data_len)
    }
}

/// Whether the region is longer than MAX_WHOLE. In such a one the index is prepared for its start only.
pub(super) fn is_large(start: Start, end: u64) -> bool {
    end - start.offset() > MAX_WHOLE
}

/// A new blob: its block, and where its bytes are in memory.
pub(super) struct NewBlob {
    pub(super) block: Extent,
    /// Whether its region begins with it. Then its start marker is that of the region, and storing it publishes all of them.
    pub(super) is_first: bool,
    pub(super) data: NonNull<u8>,
}

/// The changes that a transaction will make when it is committed. Used by one thread at a time.
#[derive(Default)]
pub struct Changes {
    pub(super) is_open: bool,
    pub(super) regions: Vec<Region>,
    /// By ascending address.
    pub(super) new_blobs: Vec<NewBlob>,
    /// The blocks that it frees, by ascending address, as they were when they were added.
    pub(super) frees: Vec<Extent>,
    /// The blocks that it stores to, one for each run of stores, as they were when they were added.
    pub(super) stored: Vec<Extent>,
    /// The units of the record.
    pub(super) record: Vec<u8>,
    /// How many of the regions have no new blob, and no unit in the record.
    pub(super) unused_regions: usize,
    pub(super) log: Option<Extent>,
    /// How many units its log holds. `record` has room for them.
    pub(super) capacity: usize,
    /// So many more blobs fit in `frees` and in the medium's lists.
    pub(super) more_frees: usize,
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
        let request = Request::of(requested)?;
        let recent = self.regions.len().saturating_sub(LOOK_BACK);
        let mut regions = self.regions[recent..].iter_mut().rev();
        let (data_len, region) = regions.find_map(|region| Some((region.size_of_next(request)?, region)))?;
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
            Ok(_) => Err(Error::FreedByTransaction(block.blob())),
            Err(_) if block.start.offset() >= MAX_OFFSET => Err(Error::TooLarge(block.data_len)),
            Err(place) => Ok(place),
        }
    }

    /// Fails iff a store of `len` bytes to a live block is not allowed.
    #[inline(always)]
    pub(in crate::palloc) fn check_store(&self, block: Extent, at: u64, len: u64) -> Result<()> {
        if self.frees(block.start) {
            Err(Error::FreedByTransaction(block.blob()))
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
    pub(super) fn has_units(&self, more: usize) -> bool {
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
    pub(in crate::palloc::heap) fn units(&self) -> usize {
        self.unused_regions + self.record.len() / UNIT as usize
    }

    /// How many start markers publish the new blobs; None if there are other changes.
    pub(super) fn only_start_markers(&self) -> Option<usize> {
        let count = self.regions.len() - self.unused_regions;
        (self.record.len() == count * UNIT as usize).then_some(count)
    }

    pub(in crate::palloc::heap) fn frees(&self, block: Start) -> bool {
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
    pub(super) fn changes(&self) -> impl Iterator<Item = (Change, &[u8])> {
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
