// SPDX-License-Identifier: MIT OR Apache-2.0
//! The view: what threads read of a medium without its lock. It answers most of the questions about one blob; where it can't, the caller
//! takes the lock and asks the heap.
//!
//! ```text
//!   one thread, with the lock        other threads, without it
//!   stores a marker, a slot's byte   load the slot's byte, the marker, the byte of the next block
//!   ends its call: update            answer if these agree; else the caller takes the lock
//! ```
//!
//! A thread that knows a blob's offset has it from a call that returned, or from a thread that has. So what the view knows is not older
//! than that blob. No thread may free or move a blob while another thread's call asks for its address or size: that is the program's duty.
//! So its markers are in the file meanwhile. All else that the view leads to stays in memory until the medium is closed.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::block_index::{KnownZones, MAX_EXACT, Zone, Zones, class_of, unlocked as slots, zone_of};
use super::caches::Caches;
use super::format::{Extent, MIN_DATA, Marker, Request, Start, WORD};
use super::sabotage::{Rule, is_broken};

/// See the head of this file. In a cache line of its own, since the threads that read it would wait for every store beside it.
#[derive(Default)]
#[repr(align(64))]
pub struct View {
    zones: KnownZones,
    /// Where the file is mapped.
    base: AtomicPtr<u8>,
    /// The end of the last block.
    size: AtomicUsize,
    /// The caches, if they were ever open.
    caches: AtomicPtr<Caches>,
}

/// A live block, its zone of the slot map, and where the medium is mapped.
struct LiveBlock<'a> {
    block: Extent,
    zone: &'a Zone,
    base: NonNull<u8>,
}

impl View {
    /// Whether the view knows all that was made since: blocks by their zones and the end of the last block. A mapping is replaced only
    /// when the medium grows.
    #[inline]
    pub fn is_current(&self, zones: &Zones, size: u64) -> bool {
        self.size.load(Ordering::Relaxed) as u64 == size && self.zones.len() == zones.len()
    }

    /// Makes known what the medium is now. The caller has the lock. Nothing is stored that did not change.
    #[inline]
    pub fn update(&self, zones: &Zones, base: NonNull<u8>, size: u64) {
        self.zones.update(zones);
        if self.base.load(Ordering::Relaxed) != base.as_ptr() {
            // First the address: a longer mapping of which less is known is harmless.
            self.base.store(base.as_ptr(), Ordering::Relaxed);
        }
        if self.size.load(Ordering::Relaxed) != size as usize {
            self.size.store(size as usize, Ordering::Release);
        }
    }

    /// Makes the caches known. The caller has the lock, and what the medium is was made known.
    pub fn know_caches(&self, caches: NonNull<Caches>) {
        self.caches.store(caches.as_ptr(), Ordering::Release);
    }

    /// The caches, if they are open.
    ///
    /// # Safety
    /// For all functions: the heap that the view knows is not dropped meanwhile.
    #[inline]
    unsafe fn open_caches(&self) -> Option<&Caches> {
        // SAFETY: they live as long as the heap.
        unsafe { self.caches.load(Ordering::Acquire).as_ref() }.filter(|caches| caches.are_open())
    }

    /// The start marker of a block that the slot map has as live: a live one or a kept one. None if the view does not know.
    #[inline]
    fn start_marker(&self, start: Start) -> Option<&AtomicU64> {
        let (base, size) = self.mapping();
        self.start_marker_in(NonNull::new(base)?, size as u64, start)
    }

    /// As `start_marker`, in the mapping of `size` bytes at `base`.
    #[inline]
    fn start_marker_in(&self, base: NonNull<u8>, size: u64, start: Start) -> Option<&AtomicU64> {
        let is_known = start.offset() < size && start.offset() % WORD == 0;
        // SAFETY: an aligned word of the mapping, and in the file, since a block starts there.
        is_known.then(|| unsafe { base.add(start.offset() as usize).cast().as_ref() })
    }

    /// Allocates a blob out of a cache. None, unchanged, if that has none of the size.
    ///
    /// # Safety
    /// As of `open_caches`.
    #[inline]
    pub unsafe fn alloc(&self, requested: u64) -> Option<u64> {
        // SAFETY: passed on to the caller.
        let caches = unsafe { self.open_caches() }?;
        let class = class_of(Request::of(requested)?.data_len)?;
        caches.alloc(class, |start| self.start_marker(start)).map(Start::blob)
    }

    /// Frees a blob into a cache. Returns false, unchanged, if that has no room, the blob has no exact size, or there is no such blob.
    ///
    /// # Safety
    /// As of `open_caches`.
    #[inline]
    pub unsafe fn free(&self, blob: u64) -> bool {
        let start = Start::of_blob(blob);
        // SAFETY: passed on to the caller.
        let zone = unsafe { self.open_caches().map(|caches| (caches, self.zones.get(zone_of(start.offset())))) };
        let Some((caches, Some(zone))) = zone else { return false };
        // An x86 processor loads ahead, but it begins an exchange only when all before it is done. So without this the thread would wait
        // for memory twice: for the slots, then for the marker.
        prefetch(self.base.load(Ordering::Relaxed).wrapping_add(start.offset() as usize));
        let Some((block, marker)) = slots::near_live(zone, start).zip(self.start_marker(start)) else { return false };
        caches.free(block, marker)
    }

    /// The address and the size that were made known last.
    #[inline]
    pub fn mapping(&self) -> (*mut u8, usize) {
        // The size first: the address is that of the mapping which had this size, or of a later one, which is longer.
        let size = self.size.load(Ordering::Acquire);
        (self.base.load(Ordering::Relaxed), size)
    }

    /// The address of the blob's data. None if the view does not know.
    ///
    /// # Safety
    /// For all functions: the heap that the view knows is not dropped meanwhile.
    #[inline]
    pub unsafe fn data(&self, blob: u64) -> Option<NonNull<u8>> {
        // SAFETY: passed on to the caller; and the blob is in the mapping, as its start is.
        unsafe { self.live_block(blob).map(|live| live.base.add(blob as usize)) }
    }

    /// The size of the blob's data. None if the view does not know.
    ///
    /// # Safety
    /// As of `data`.
    #[inline]
    pub unsafe fn size_of(&self, blob: u64) -> Option<u64> {
        // SAFETY: passed on to the caller.
        unsafe { self.block(blob) }.map(|block| block.data_len)
    }

    /// The block of the blob. None if the view does not know.
    ///
    /// # Safety
    /// As of `data`.
    #[inline]
    pub unsafe fn block(&self, blob: u64) -> Option<Extent> {
        // SAFETY: passed on to the caller.
        let LiveBlock { block, zone, .. } = unsafe { self.live_block(blob) }?;
        // A block of an exact size: no other one starts before its end.
        let is_next = block.data_len > MAX_EXACT || slots::none_between(zone, block.start, block.next());
        is_next.then_some(block)
    }

    /// Whether this block of a blob, which the view or the heap knew, is still there. False too if the view does not know.
    ///
    /// # Safety
    /// As of `data`.
    #[inline]
    pub unsafe fn has(&self, block: Extent) -> bool {
        // SAFETY: passed on to the caller.
        let zone = unsafe { self.zones.get(zone_of(block.start.offset())) };
        let is_live = zone.is_some_and(|zone| slots::is_live(zone, block.start));
        let marker = if is_live { self.start_marker(block.start) } else { None };
        marker.is_some_and(|marker| u64::from_be(marker.load(Ordering::Relaxed)) == Marker::live(block.data_len).0)
    }

    /// The last block that starts at or before `at`, if it is that of a blob and starts near. None if the view does not know.
    ///
    /// # Safety
    /// As of `data`.
    #[inline]
    pub unsafe fn block_with(&self, at: u64) -> Option<Extent> {
        // SAFETY: passed on to the caller.
        unsafe {
            let start = slots::near_live_at_or_before(self.zones.get(zone_of(at))?, at)?;
            self.block(start.blob())
        }
    }

    /// The blob behind a blob, if it starts near. None if the view does not know.
    ///
    /// Reads no marker: another thread may free the blob meanwhile, and the end of the file be cut. So it does not know where blocks may be
    /// kept, which only their markers say.
    ///
    /// # Safety
    /// As of `data`.
    #[inline]
    pub unsafe fn next(&self, blob: u64) -> Option<u64> {
        let start = Start::of_blob(blob);
        // SAFETY: passed on to the caller.
        let asks_markers = unsafe { self.open_caches() }.is_some() && !is_broken(Rule::AskMarkers);
        if asks_markers {
            return None;
        }
        // SAFETY: passed on to the caller.
        let zone = unsafe { self.zones.get(zone_of(start.offset())) }?;
        if slots::is_live(zone, start) { slots::near_live_behind(zone, start).map(Start::blob) } else { None }
    }

    /// The live block of a blob. None if the view does not know, or its start marker does not lead to the start of a block.
    ///
    /// # Safety
    /// As of `data`.
    #[inline]
    unsafe fn live_block(&self, blob: u64) -> Option<LiveBlock<'_>> {
        let start = Start::of_blob(blob);
        // SAFETY: passed on to the caller.
        let zone = unsafe { self.zones.get(zone_of(start.offset())) }?;
        let (base, size) = self.mapping();
        let (base, size) = (NonNull::new(base)?, size as u64);
        if !slots::is_live(zone, start) {
            return None;
        }
        let marker = self.start_marker_in(base, size, start)?;
        // The marker of a kept block is free, which is no such size.
        let data_len = u64::from_be(marker.load(Ordering::Relaxed));
        if !(MIN_DATA..size).contains(&data_len) {
            return None;
        }
        let block = Extent { start, data_len };
        let next = block.next();
        let is_same_zone = zone_of(next.offset()) == zone_of(start.offset());
        // SAFETY: passed on to the caller.
        let next_zone = if is_same_zone { Some(zone) } else { unsafe { self.zones.get(zone_of(next.offset())) } };
        let is_start = next_zone.is_some_and(|zone| slots::is_start(zone, next));
        (is_start || next.offset() == size).then_some(LiveBlock { block, zone, base })
    }
}

/// Begins to load the cache line at this address, which may be any address.
#[inline(always)]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction never faults.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::{Extent, Start};
    use crate::palloc::{Flags, Palloc};

    /// The view answers as the heap does, or that it does not know.
    #[test]
    fn the_view_agrees_with_the_heap() {
        let directory = tempfile::tempdir().unwrap();
        let medium = Palloc::open(directory.path().join("view.db"), Flags::DYNAMIC).unwrap();
        let mut blobs = Vec::new();
        let (mut asked, mut known) = (0, 0);
        for i in 0..3000_u64 {
            blobs.push(medium.alloc(16 + i * 37 % if i % 50 == 0 { 9000 } else { 500 }).unwrap());
            if i % 3 == 0 {
                medium.free(blobs.swap_remove((i * 7919 % blobs.len() as u64) as usize)).unwrap();
            }
            if i % 100 == 0 {
                for &blob in &blobs {
                    let heap = medium.lock();
                    let (size, next) = (heap.size_of(blob).unwrap(), heap.next(blob).unwrap());
                    let (known_size, known_next) = (medium.size_unlocked(blob), medium.next_unlocked(blob));
                    assert!(known_size.is_none_or(|known| known == size));
                    assert!(known_next.is_none_or(|known| known == next));
                    assert!(known_size.is_none() || medium.data_unlocked(blob).is_some());
                    // SAFETY: the heap is not dropped.
                    let block_with = |at| unsafe { medium.view.block_with(at) };
                    let with = [0, 8, size - 1].map(|offset| block_with(blob + offset));
                    let block = Extent { start: Start::of_blob(blob), data_len: size };
                    assert!(with.iter().all(|with| with.is_none_or(|with| with == block)), "{with:?} {block:?}");
                    // SAFETY: the heap is not dropped.
                    let has = |n| unsafe { medium.view.has(Extent { data_len: n, ..block }) };
                    assert!((has(size) || known_size.is_none()) && !has(size + 16) && !has(size - 16), "{block:?}");
                    let behind = block_with(block.end());
                    assert!(behind.is_none_or(|other| other == block || other.start == block.next()), "{behind:?}");
                    known += usize::from(known_size.is_some()) + usize::from(known_next.is_some());
                    known += with.iter().flatten().count();
                    asked += 5;
                }
            }
        }
        println!("{known} of {asked} known");
        assert!(known * 100 > asked * 90);
    }
}
