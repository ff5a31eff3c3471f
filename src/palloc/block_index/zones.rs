// SPDX-License-Identifier: MIT OR Apache-2.0
//! The zones of the slot map, by index.
//!
//! A zone and a table of zones stay at their addresses until the map is dropped. So threads without the lock can read them while the
//! thread that has it adds zones.

use std::collections::TryReserveError;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use super::slots::{SLOTS, Zone};
use crate::palloc::try_box_with;

/// One entry for each zone, null if there is no such zone yet.
type Table = Box<[AtomicPtr<Zone>]>;

/// The zones.
#[derive(Default)]
pub struct Zones {
    table: Table,
    /// Shorter tables that other threads may still be reading. Each is at most half as long as the next one.
    outgrown: Vec<Table>,
}

impl Zones {
    /// No zone from this index on exists.
    #[inline]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The zone of this index, None if it does not exist yet.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Zone> {
        let zone = self.table.get(index)?.load(Ordering::Relaxed);
        // SAFETY: an entry is null or a zone, which lives as long as `self`.
        unsafe { zone.as_ref() }
    }

    /// Makes the zone of this index. Fails iff there is no memory; then nothing changed that can be seen.
    #[cold]
    pub fn prepare(&mut self, index: usize) -> Result<(), TryReserveError> {
        if index >= self.table.len() {
            self.lengthen(index.saturating_add(1))?;
        }
        if self.table[index].load(Ordering::Relaxed).is_null() {
            let zone = Box::into_raw(try_box_with(|| [const { AtomicU8::new(0) }; SLOTS])?).cast::<Zone>();
            // Release: whoever reads the entry reads the zeros of the zone.
            self.table[index].store(zone, Ordering::Release);
        }
        Ok(())
    }

    /// Replaces the table by one of at least `len` entries.
    fn lengthen(&mut self, len: usize) -> Result<(), TryReserveError> {
        let len = len.max(self.table.len().saturating_mul(2));
        let mut longer = Vec::new();
        longer.try_reserve_exact(len)?;
        self.outgrown.try_reserve(1)?;
        longer.extend(self.table.iter().map(|zone| AtomicPtr::new(zone.load(Ordering::Relaxed))));
        longer.resize_with(len, || AtomicPtr::new(null_mut()));
        self.outgrown.push(std::mem::replace(&mut self.table, longer.into_boxed_slice()));
        Ok(())
    }
}

impl Drop for Zones {
    fn drop(&mut self) {
        for zone in &self.table {
            if let Some(zone) = NonNull::new(zone.load(Ordering::Relaxed)) {
                // SAFETY: it came from Box::into_raw in `prepare`, as a slice of one, and is in this table once.
                drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(zone.as_ptr(), 1)) });
            }
        }
    }
}

/// The zones as threads without the lock know them. They may know fewer than there are.
#[derive(Default)]
pub struct KnownZones {
    table: AtomicPtr<AtomicPtr<Zone>>,
    len: AtomicUsize,
}

impl KnownZones {
    /// No zone from this index on is known.
    #[inline]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Makes all zones known. The caller has the lock.
    pub fn update(&self, zones: &Zones) {
        if self.len() != zones.len() {
            // First the table: one that is longer than the known length is harmless. Release: whoever reads its address reads its
            // entries, also if it reads the length that was known before.
            self.table.store(zones.table.as_ptr().cast_mut(), Ordering::Release);
            self.len.store(zones.len(), Ordering::Release);
        }
    }

    /// The zone of this index, None if it is not known.
    ///
    /// # Safety
    /// The zones that were made known are not dropped meanwhile.
    #[inline]
    pub unsafe fn get(&self, index: usize) -> Option<&Zone> {
        if index >= self.len.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the table was made known before this length, or later, and then it is longer. It lives until the zones are dropped, as
        // the zone does.
        unsafe { (*self.table.load(Ordering::Acquire).add(index)).load(Ordering::Acquire).as_ref() }
    }
}
