// SPDX-License-Identifier: MIT OR Apache-2.0
//! A growing array in pages of its own. The registry uses it instead of the heap, because a program may build its malloc on this library.

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use super::os::{self, Space};
use super::{Protect, page_size};

/// The size of a table after its first growth. Pages that are not written use no memory.
const FIRST_BYTES: usize = 16 << 10;

pub struct Table<T> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: it owns its pages, and any thread may use them.
unsafe impl<T: Send> Send for Table<T> {}

impl<T: Copy> Table<T> {
    pub const fn new() -> Self {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 4096) }; // no system has smaller pages
        Table { start: NonNull::dangling(), len: 0, capacity: 0 }
    }

    /// Returns the number of values that fit without growing.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for at least `capacity` values in all. Fails, and changes nothing, iff the system refuses the memory. Precondition:
    /// `capacity` is at least the number of values.
    pub fn grow(&mut self, capacity: usize) -> os::Result<()> {
        let bytes = capacity.saturating_mul(size_of::<T>()).max(FIRST_BYTES);
        let size = bytes.checked_next_multiple_of(page_size()).unwrap_or(usize::MAX); // too much: the system refuses it
        let space = Space { size, align: page_size(), guard: 0 };
        let address = os::reserve(&space, Protect::ReadWrite)?;
        // SAFETY: reserved above, and nobody knows of it.
        if let Err(error) = unsafe { os::commit(address, size, Protect::ReadWrite) } {
            // SAFETY: as above.
            let _also_fails = unsafe { os::release(address, size) };
            return Err(error);
        }
        let Some(start) = NonNull::new(ptr::with_exposed_provenance_mut::<T>(address)) else { return Ok(()) };
        // SAFETY: `len` values are initialized in the old pages. The new pages have room for more, and do not overlap the old ones.
        unsafe { start.copy_from_nonoverlapping(self.start, self.len) };
        let mut larger = Table { start, len: self.len, capacity: size / size_of::<T>() };
        std::mem::swap(self, &mut larger); // drops the old pages
        Ok(())
    }

    /// Adds a value. Precondition: the number of values is below the capacity.
    pub fn push(&mut self, value: T) {
        assert!(self.len < self.capacity);
        // SAFETY: inside the table's pages, which are committed.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
    }
}

impl<T> Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` values are initialized.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        if self.capacity > 0 {
            let size = (self.capacity * size_of::<T>()).next_multiple_of(page_size());
            // SAFETY: the pages that `grow` committed. `size` is their size: they have less than one value more than `capacity` values.
            let _stays_mapped = unsafe { os::release(self.start.as_ptr().expose_provenance(), size) };
        }
    }
}
