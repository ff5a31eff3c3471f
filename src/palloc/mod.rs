// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blobs in a file that outlives the process: allocate, free, resize and walk them. A kill at any moment loses nothing.
//!
//! docs/FORMAT.md describes the bytes of the file and the order of stores. The modules, from the bytes up: `format` has the bytes'
//! constants and types, `medium` gives access to the bytes by the system calls in `os`, `block_index` is the index of the blocks, `heap`
//! works on the blocks, `recover` opens and repairs a medium. A [`Palloc`] is a heap with a lock. `view` answers without the lock, `caches`
//! has blocks for threads that collide, `waiting` waits for the disk, `live` is for readers in other processes. `record` and `replay` have
//! the bytes of transactions.
//!
//! ```
//! use palloc::{Flags, Palloc};
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("notes.db");
//! let medium = Palloc::open(&path, Flags::DYNAMIC)?;
//! let note = medium.alloc(5)?;
//! medium.write(note, 0, b"hello")?;
//! medium.close()?;
//!
//! let medium = Palloc::open(&path, Flags::DYNAMIC)?;
//! let mut text = [0; 5];
//! medium.read(medium.iter().next().unwrap()?, 0, &mut text)?;
//! assert_eq!(&text, b"hello");
//! # Ok::<(), palloc::Error>(())
//! ```

mod block_index;
mod caches;
mod chain;
mod copy;
mod error;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod heap;
mod live;
mod medium;
#[cfg(any(test, fuzzing))]
mod memory;
mod os;
mod reach;
mod record;
mod recover;
mod replay;
mod sabotage;
mod salvage;
mod sync;
#[cfg(test)]
mod tests;
mod view;
mod waiting;

use std::collections::TryReserveError;
use std::ffi::{CStr, CString, c_int};
use std::ops::{BitOr, Deref, DerefMut};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Condvar, Mutex, MutexGuard};

use block_index::MAX_EXACT;
use copy::NewFile;
pub use error::{Error, Sharing};
pub(crate) use heap::Changes;
use heap::Heap;
pub use live::Readers;
use live::Sections;
use medium::{FileMedium, Medium};
pub(crate) use os::{Descriptor, FileId, absolute_path, bad_descriptor, close_descriptor, errno_of, file_of};
use record::is_inside;
use sabotage::{Rule, is_broken};
use view::View;

/// The result of a call on a medium.
pub type Result<T> = std::result::Result<T, Error>;

/// The start of the first block.
pub const HEADER_SIZE: u32 = format::HEADER as u32;

impl From<TryReserveError> for Error {
    fn from(_: TryReserveError) -> Error {
        Error::OutOfMemory
    }
}

/// Flags for opening a medium. Combine them with `|`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u32);

impl Flags {
    /// A static medium, as large as its file.
    pub const DEFAULT: Flags = Flags(0);
    /// The medium grows and shrinks. For a medium that is already initialized, the bit in its header counts.
    pub const DYNAMIC: Flags = Flags(format::DYNAMIC);
    /// Every operation is on the disk when it returns.
    pub const SYNC: Flags = Flags(format::SYNC);
    /// A shared lock. Nothing is written.
    pub const READONLY: Flags = Flags(4);
    /// Make a medium of a file that holds something else, or of a damaged medium.
    pub const FORCE: Flags = Flags(8);
    /// Other processes may read the medium while this one writes it. With READONLY: be such a reader.
    pub const SHARED: Flags = Flags(16);

    /// A bit that is reserved.
    pub(crate) const EXTENDED: u32 = format::EXTENDED;
    /// For [`salvage`]: a range that is lost becomes a free block.
    pub const LOST_IS_FREE: Flags = Flags(16);
    /// For [`Palloc::snapshot`]: the copy shares its blocks on the disk with the medium.
    pub const CLONE: Flags = Flags(32);

    /// Flags from their bits in C. [`Palloc::open`] refuses bits that are not defined.
    pub const fn from_bits(bits: u32) -> Flags {
        Flags(bits)
    }

    /// The bits in C.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `flags` are set.
    pub const fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub(crate) fn check(self) -> Result<()> {
        let known = Flags::DYNAMIC | Flags::SYNC | Flags::READONLY | Flags::FORCE | Flags::SHARED;
        if self.0 & Flags::EXTENDED != 0 {
            Err(Error::Extended)
        } else if !known.contains(self) || self.contains(Flags::READONLY | Flags::FORCE) {
            Err(Error::BadFlags(self.0))
        } else {
            Ok(())
        }
    }
}

impl Flags {
    /// The flags of the second generation, which has no live readers.
    pub(crate) fn check_exact(self) -> Result<()> {
        if self.contains(Flags::SHARED) { Err(Error::BadFlags(self.0)) } else { self.check() }
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A block, live or free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Offset of its data.
    pub ptr: u64,
    /// Size of its data.
    pub size: u64,
    /// Whether it is free.
    pub is_free: bool,
}

impl Block {
    /// The start of the next block.
    pub(crate) fn end(&self) -> u64 {
        self.ptr + self.size + format::WORD
    }
}

/// Counts of a medium. Bytes are those of blocks' data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// End of the last block.
    pub medium_size: u64,
    /// Number of blobs.
    pub live_blobs: u64,
    /// Sum of their sizes.
    pub live_bytes: u64,
    /// Number of free blocks.
    pub free_blocks: u64,
    /// Sum of their sizes.
    pub free_bytes: u64,
    /// Size of the largest of them.
    pub largest_free: u64,
}

/// An open medium. It may be used by many threads; each call locks it, but not while it waits for the disk in a sync or commit.
/// Dropping it closes it.
pub struct Palloc {
    heap: Mutex<BoxedHeap>,
    /// A thread that others wait for is back from the disk.
    turn_over: Condvar,
    view: View,
    flags: Flags,
    /// For the program. None in the second generation, where the descriptor is not ours.
    descriptor: Option<Descriptor>,
    /// Those of a live reader.
    sections: Option<Sections>,
}

pub(crate) type Locked<'a> = MutexGuard<'a, BoxedHeap>;

/// The heap, which is large, in memory of its own: a `Palloc` is moved on the stack, of which a thread may have little.
pub(crate) struct BoxedHeap(Box<[Heap<FileMedium>; 1]>);

impl BoxedHeap {
    fn new(heap: Heap<FileMedium>) -> Result<BoxedHeap> {
        let one = try_box(heap)?;
        Ok(BoxedHeap(one.try_into().unwrap_or_else(|_| unreachable!("a slice of one is an array of one"))))
    }
}

impl Deref for BoxedHeap {
    type Target = Heap<FileMedium>;

    #[inline]
    fn deref(&self) -> &Heap<FileMedium> {
        &self.0[0]
    }
}

impl DerefMut for BoxedHeap {
    #[inline]
    fn deref_mut(&mut self) -> &mut Heap<FileMedium> {
        &mut self.0[0]
    }
}

impl Palloc {
    /// Opens the medium in the file at `path`. Makes one if the file is empty, all zeros, or does not exist (with DYNAMIC). Repairs the
    /// medium if a process was killed while it changed it. Fails iff the medium is open already, the file holds something else or a
    /// damaged medium (without FORCE), a commit that a kill cut off is not finished (with READONLY), `flags` are not valid, or the system
    /// fails.
    pub fn open(path: impl AsRef<Path>, flags: Flags) -> Result<Palloc> {
        Palloc::open_c(&os::c_path(path.as_ref())?, flags)
    }

    pub(crate) fn open_c(path: &CStr, flags: Flags) -> Result<Palloc> {
        if flags.contains(Flags::SHARED | Flags::READONLY) {
            return Palloc::open_beside_writer(path, flags);
        }
        let (mut medium, descriptor) = open_with_descriptor(path, flags)?;
        if flags.contains(Flags::SHARED) {
            medium.prepare_sharing(path)?;
        }
        let mut opened = Palloc::of_medium(medium, flags, false)?;
        opened.descriptor = Some(descriptor);
        Ok(opened)
    }

    // Never inlined: its variables would lie on the stack of every open.
    #[inline(never)]
    fn open_beside_writer(path: &CStr, flags: Flags) -> Result<Palloc> {
        flags.check()?;
        let medium = FileMedium::open_beside_writer(path)?;
        let (descriptor, sections) = (medium.descriptor()?, medium.sections());
        let (heap, stored) = Palloc::heap_beside_writer(medium)?;
        let view = View::default();
        update(&view, &heap);
        let (flags, descriptor) = (Flags(stored), Some(descriptor));
        Ok(Palloc { heap: Mutex::new(heap), turn_over: Condvar::new(), view, flags, descriptor, sections })
    }

    // Never inlined: a heap on the stack, and what opens the medium, are not there at the same time.
    #[inline(never)]
    fn heap_beside_writer(medium: FileMedium) -> Result<(BoxedHeap, u32)> {
        let (heap, stored) = recover::beside_writer(medium)?;
        Ok((BoxedHeap::new(heap)?, stored))
    }

    /// Opens the file at `path`, and the medium in it, if it holds one, in exact mode. Returns a descriptor for the program, and the medium.
    pub(crate) fn open_exact(path: &CStr, flags: Flags) -> Result<(Descriptor, Option<Palloc>)> {
        flags.check_exact()?;
        let (mut medium, descriptor) = open_with_descriptor(path, flags)?;
        if recover::is_initialized(&medium, flags)? {
            return Palloc::of_medium(medium, flags, true).map(|opened| (descriptor, Some(opened)));
        }
        medium.flush().map(|()| (descriptor, None)) // the entry of a new file in its directory, too
    }

    /// Opens the medium in the file that the program's descriptor is open on, in exact mode. Makes one if the file is empty or all zeros.
    pub(crate) fn attach_exact(fd: c_int, flags: Flags) -> Result<Palloc> {
        flags.check_exact()?;
        let mut medium = FileMedium::of_descriptor(fd, flags)?;
        if recover::wants_sync(recover::stored_flags(&medium), flags) {
            medium.make_durable(); // before it is repaired
        }
        Palloc::of_medium(medium, flags, true)
    }

    fn of_medium(medium: FileMedium, flags: Flags, exact: bool) -> Result<Palloc> {
        let (heap, stored) = recover::open(medium, flags)?;
        let mut heap = BoxedHeap::new(heap)?;
        heap.exact = exact;
        let sync = Flags(if recover::wants_sync(stored, flags) { format::SYNC } else { 0 });
        let has_blobs = heap.first()? != 0;
        heap.medium.note_opened(has_blobs);
        if heap.medium.is_shared() {
            heap.begin_sharing()?;
            heap.medium.begin_sharing();
        }
        let view = View::default();
        update(&view, &heap);
        let (flags, descriptor, sections) = (Flags(stored) | sync, None, None);
        Ok(Palloc { heap: Mutex::new(heap), turn_over: Condvar::new(), view, flags, descriptor, sections })
    }

    /// The flags in the medium's header, and SYNC if the medium was opened with it.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// A descriptor of the file, for reading and writing blobs at their offsets. The library itself does not use it.
    pub fn descriptor(&self) -> c_int {
        self.descriptor.as_ref().map_or(-1, Descriptor::number)
    }

    /// Locks the medium, and closes the caches: no block is kept as long as the caller has the lock. Panics if a thread panicked with the
    /// lock: after half an update, nothing may be written any more.
    pub(crate) fn lock(&self) -> Locked<'_> {
        let mut heap = self.heap.lock().expect("no thread panicked at work on the medium");
        if !is_broken(Rule::CloseFirst) {
            heap.close_caches();
        }
        heap
    }

    /// Locks the medium, for what may be done while threads without the lock keep blocks: to allocate, to free, to ask about one live blob.
    /// If the lock is taken, opens the caches.
    #[inline]
    pub(crate) fn lock_beside_caches(&self) -> Locked<'_> {
        self.try_lock().unwrap_or_else(|| self.lock_contended())
    }

    /// Locks the medium if the lock is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Locked<'_>> {
        self.heap.try_lock().ok()
    }

    #[cold]
    #[inline(never)]
    fn lock_contended(&self) -> Locked<'_> {
        let mut heap = self.heap.lock().expect("no thread panicked at work on the medium");
        // Where the view knows less, threads without the lock can't find all markers.
        if self.view.is_current(heap.index.zones(), heap.size()) && !self.view.mapping().0.is_null() {
            if let Some(caches) = heap.open_caches() {
                self.view.know_caches(caches);
            }
        }
        heap
    }

    /// Allocates out of a cache, without the lock. None if that is needed.
    #[inline]
    pub(crate) fn alloc_unlocked(&self, size: u64) -> Option<u64> {
        // SAFETY: the view knows the heap beside it.
        unsafe { self.view.alloc(size) }
    }

    /// Frees into a cache, without the lock. Returns false, and changes nothing, if that is needed.
    #[inline]
    pub(crate) fn free_unlocked(&self, ptr: u64) -> bool {
        // SAFETY: as above.
        unsafe { self.view.free(ptr) }
    }

    /// Makes the state known to threads without the lock, if they don't know it yet. Called at the end of each call that may have made a
    /// block. Returns whether it had to.
    #[inline]
    pub(crate) fn update_view(&self, heap: &Locked<'_>) -> bool {
        let is_current = self.view.is_current(heap.index.zones(), heap.size());
        if !is_current {
            update(&self.view, heap);
        }
        !is_current
    }

    /// The address of the blob at `ptr`, without the lock. Returns None if the answer needs the lock.
    #[inline]
    pub(crate) fn data_unlocked(&self, ptr: u64) -> Option<NonNull<u8>> {
        // SAFETY: as above.
        match unsafe { self.view.data(ptr) } {
            None => self.block_beside_writer(ptr).map(|(data, _)| data),
            data => data,
        }
    }

    /// The blob at `ptr` of a live reader: its address and its size. None of others, or if the answer needs the lock.
    #[cold]
    #[inline(never)]
    fn block_beside_writer(&self, ptr: u64) -> Option<(NonNull<u8>, u64)> {
        let sections = self.sections.as_ref()?;
        let find = || {
            let (base, size) = self.view.mapping();
            let base = NonNull::new(base)?;
            // SAFETY: so many bytes are mapped there, until the medium is closed.
            let block = unsafe { sections.block(base, size as u64, ptr) }?;
            // SAFETY: a byte of them.
            Some((unsafe { base.add(block.blob() as usize) }, block.data_len))
        };
        find().or_else(|| {
            self.follow_writer();
            find()
        })
    }

    /// The medium may be longer now.
    #[cold]
    #[inline(never)]
    fn follow_writer(&self) {
        let mut heap = self.lock();
        if heap.follow().is_ok() {
            self.update_view(&heap);
        }
    }

    /// Begins a read section of a live reader: what the writer frees or moves from here on keeps its bytes until the section is dropped.
    /// Fails iff the writer has closed or died, too many sections are open, or this is no live reader.
    pub fn read_section(&self) -> Result<ReadSection<'_>> {
        self.begin_reading().map(|()| ReadSection { medium: self })
    }

    /// Begins a read section, as `read_section`, which lasts until [`Palloc::end_reading`].
    #[inline]
    pub(crate) fn begin_reading(&self) -> Result<()> {
        self.sections.as_ref().ok_or(Sharing::NotReader)?.enter()
    }

    /// Ends a read section, if one is open.
    #[inline]
    pub(crate) fn end_reading(&self) {
        if let Some(sections) = &self.sections {
            sections.leave();
        }
    }

    /// The blob with the lowest offset, the root; 0 if there is no blob.
    pub(crate) fn first_beside_writer(&self) -> Option<u64> {
        self.sections.as_ref()?.first()
    }

    /// Counts the live readers of a medium that was opened with SHARED, and what they hold back.
    pub fn readers(&self) -> Result<Readers> {
        let heap = self.lock();
        heap.show_held();
        heap.medium.readers()
    }

    /// The size of the blob at `ptr`, without the lock. Returns None if the answer needs the lock.
    #[inline]
    pub(crate) fn size_unlocked(&self, ptr: u64) -> Option<u64> {
        // SAFETY: as above.
        match unsafe { self.view.size_of(ptr) } {
            None => self.block_beside_writer(ptr).map(|(_, size)| size),
            size => size,
        }
    }

    /// The blob behind the blob at `ptr`, without the lock. Returns None if the answer needs the lock.
    #[inline]
    pub(crate) fn next_unlocked(&self, ptr: u64) -> Option<u64> {
        // SAFETY: as above.
        unsafe { self.view.next(ptr) }
    }

    /// Where the medium is mapped, and its size, without the lock: for offsets in live blobs. The size is 0 where the lock is needed.
    #[inline]
    pub(crate) fn mapping(&self) -> (*mut u8, usize) {
        self.view.mapping()
    }

    /// Adds to a transaction that it frees the blob at `ptr`, without the lock. Returns false, and changes nothing, where that is needed.
    #[inline]
    pub(crate) fn tx_free_unlocked(&self, changes: &mut Changes, ptr: u64) -> bool {
        // SAFETY: as above.
        let block = unsafe { self.view.block(ptr) };
        // Of larger ones the end markers are compared.
        block.filter(|block| block.data_len <= MAX_EXACT).is_some_and(|block| changes.free(block))
    }

    /// Adds to a transaction that it stores `bytes` at `at`, without the lock. Returns false, and changes nothing, where that is needed.
    #[inline]
    pub(crate) fn tx_store_unlocked(&self, changes: &mut Changes, at: u64, bytes: &[u8]) -> bool {
        let len = bytes.len() as u64;
        // SAFETY: as above.
        let last = changes.last_stored(at, len).filter(|&last| unsafe { self.view.has(last) });
        if last.is_none() && changes.store_in_new(at, bytes) {
            return true;
        }
        // SAFETY: as above.
        let block = last.or_else(|| unsafe { self.view.block_with(at) }.filter(|&block| is_inside(block, at, len)));
        block.is_some_and(|block| changes.store(block, at, bytes))
    }

    /// Allocates a blob of at least `size` bytes and returns its offset.
    pub fn alloc(&self, size: u64) -> Result<u64> {
        self.alloc_unlocked(size).map_or_else(|| self.with_beside_caches(|heap| heap.alloc(size)), Ok)
    }

    /// Frees the blob at `ptr`.
    pub fn free(&self, ptr: u64) -> Result<()> {
        if self.free_unlocked(ptr) { Ok(()) } else { self.with_beside_caches(|heap| heap.free(ptr)) }
    }

    /// Resizes the blob at `ptr`, in place or by a move, and returns its offset. On failure the blob is as it was.
    pub fn resize(&self, ptr: u64, size: u64) -> Result<u64> {
        self.with(|heap| heap.resize(ptr, size))
    }

    /// The size of the data at `ptr`, of a live or a free block.
    pub fn size_of(&self, ptr: u64) -> Result<u64> {
        self.size_unlocked(ptr).map_or_else(|| self.with_beside_caches(|heap| heap.size_of(ptr)), Ok)
    }

    /// The blob with the lowest offset above `ptr`; None if there is no such blob. `ptr` may be any number; 0 gives the first blob.
    pub fn next(&self, ptr: u64) -> Result<Option<u64>> {
        let next = self.next_unlocked(ptr).map_or_else(|| self.lock().next(ptr), Ok)?;
        Ok((next != 0).then_some(next))
    }

    /// The blobs, by ascending offset. The medium may change during the iteration, which continues behind its last offset, even if that
    /// blob was freed.
    pub fn iter(&self) -> impl Iterator<Item = Result<u64>> + '_ {
        let mut last = Some(0);
        std::iter::from_fn(move || {
            let next = self.next(last?).transpose();
            last = match &next {
                Some(Ok(ptr)) => Some(*ptr),
                _ => None,
            };
            next
        })
    }

    /// Copies bytes of the blob at `ptr`, from `offset` in it on, to `bytes`. Fails iff the blob is too short, or there is no blob.
    pub fn read(&self, ptr: u64, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let mut heap = self.lock();
        heap.follow()?;
        heap.read(ptr, offset, bytes)
    }

    /// Copies `bytes` to the blob at `ptr`, from `offset` in it on. Fails iff the blob is too short, there is no blob, the medium is read
    /// only, a sync failed before, or the disk has no space for bytes in a hole. Not for bytes that [`Transaction::store`] changed since the
    /// last [`Palloc::sync`].
    pub fn write(&self, ptr: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        self.lock().write(ptr, offset, bytes)
    }

    /// The bytes of the blob at `ptr`, in memory. The address is valid until the medium is closed, or the blob is freed or moved. The user
    /// of the address must prevent races with other threads and with the descriptor.
    pub fn data(&self, ptr: u64) -> Result<NonNull<[u8]>> {
        match (self.data_unlocked(ptr), self.size_unlocked(ptr)) {
            (Some(start), Some(size)) => Ok(NonNull::slice_from_raw_parts(start, size as usize)),
            _ => self.with_beside_caches(|heap| heap.data(ptr)),
        }
    }

    /// Allocates a blob of at least `size` bytes, all zeros. A kill leaves zeros or no blob.
    pub fn alloc_zeroed(&self, size: u64) -> Result<u64> {
        self.with(|heap| heap.alloc_zeroed(size))
    }

    /// Allocates a blob of at least `size` bytes whose offset is a multiple of `alignment`, a power of two up to 2^30.
    pub fn alloc_aligned(&self, alignment: u64, size: u64) -> Result<u64> {
        self.with(|heap| heap.alloc_aligned(alignment, size))
    }

    /// Syncs, and gives the disk's space under free blocks back, where there are at least `least` bytes of it in one piece. Returns by how
    /// many bytes the file takes less space.
    pub fn trim(&self, least: u64) -> Result<u64> {
        let (heap, result) = self.trim_locked(least);
        self.update_view(&heap);
        result
    }

    /// As `trim`. Returns the medium still locked.
    pub(crate) fn trim_locked(&self, least: u64) -> (Locked<'_>, Result<u64>) {
        // The sync writes most of it without the lock.
        let (mut heap, result) = self.sync_locked();
        let result = result.and_then(|()| heap.trim(least));
        (heap, result)
    }

    /// The first blob, of at least `size` bytes. If there is no blob, this makes one of zeros.
    pub fn root(&self, size: u64) -> Result<u64> {
        self.with(|heap| heap.root(size))
    }

    /// Brings `len` bytes at `offset`, all of one blob, to the disk.
    pub fn flush(&self, offset: u64, len: u64) -> Result<()> {
        self.with(|heap| heap.flush_bytes(offset, len))
    }

    /// Begins a transaction: several blobs are allocated, filled, changed and freed in one step. Fails if 64 are open, and if the medium
    /// has no room for its log.
    pub fn begin(&self) -> Result<Transaction<'_>> {
        Ok(Transaction { medium: self, changes: self.with(|heap| heap.begin())? })
    }

    /// Makes everything done so far durable. The file is then exactly in the documented format,
    /// unless a transaction is open.
    pub fn sync(&self) -> Result<()> {
        let (heap, result) = self.sync_locked();
        self.update_view(&heap);
        result
    }

    /// Counts blocks and bytes.
    pub fn stat(&self) -> Result<Stat> {
        self.lock().stat()
    }

    /// The blocks, live and free, by ascending offset. The medium may change during the iteration.
    pub fn blocks(&self) -> impl Iterator<Item = Result<Block>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let block = self.lock().block_from(from).transpose()?;
            from = block.as_ref().map_or(u64::MAX, Block::end);
            Some(block)
        })
    }

    /// Panics if the medium and its index do not agree: for tests and fuzzing. Reads the whole chain.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.lock().check_invariants();
    }

    /// Writes a copy of the medium, as it is between two calls, to the new file at `path`. See [`Flags::CLONE`].
    pub fn snapshot(&self, path: impl AsRef<Path>, flags: Flags) -> Result<()> {
        self.snapshot_c(&os::c_path(path.as_ref())?, flags)
    }

    pub(crate) fn snapshot_c(&self, path: &CStr, flags: Flags) -> Result<()> {
        if flags != Flags::DEFAULT && flags != Flags::CLONE {
            return Err(Error::BadFlags(flags.0));
        }
        let file = {
            let heap = self.lock();
            heap.check_walkable()?;
            heap.medium.duplicate_file()?
        };
        let new = NewFile::create(path)?;
        let is_clone = flags == Flags::CLONE;
        // Most of what changed is written without the lock, so that a clone takes it for a short time only.
        if is_clone {
            let (heap, result) = self.tidied_for_clone();
            self.update_view(&heap);
            result?;
        }
        let again = os::open_again_to_read(&file);
        let (len, is_whole) = self.with(|heap| {
            heap.check_synced()?;
            let is_exact = |heap: &Heap<FileMedium>| !heap.writable && recover::check(&heap.medium, |_, _| {}) == 0;
            let is_whole = is_clone && (heap.tidy_for_clone()? || is_exact(heap));
            let len = if heap.writable { heap.size() } else { heap.medium.file_len() };
            if is_clone {
                os::clone_file(&file, &new.file).map_err(Error::system("share the blocks of the file"))?;
            } else {
                copy::copy_bytes(again.as_ref().unwrap_or(&file), &new.file, len, again.is_some(), |_, _| false)?;
            }
            Ok((len, is_whole))
        })?;
        os::extend(&new.file, len)?; // without the slack
        os::copy_permissions(&file, &new.file).map_err(Error::system("set the mode of the copy"))?;
        // A clone that needs no repair is not read: that would take as long as a copy of its bytes.
        if !is_whole {
            let mut copy = FileMedium::open(&new.temporary, Flags::DEFAULT)?;
            if is_clone {
                copy.copy_pages_before_stores();
            }
            finish_copy(copy)?;
        }
        new.give_name()
    }

    /// Makes everything done so far durable, and from now on each operation when it returns. Fails iff a sync fails or failed before.
    pub(crate) fn make_durable(&self) -> Result<()> {
        self.with(|heap| {
            heap.may_flush()?;
            heap.check_synced()?;
            heap.medium.make_durable();
            heap.barrier()
        })
    }

    /// Abandons the medium as a kill would: nothing is written, and the lock stays with other owners of the open file.
    pub(crate) fn forget(self) {
        let mut heap = self.lock();
        heap.writable = false;
        heap.medium.forget();
    }

    /// Closes the medium. Fails iff something could not be written; the medium is closed in any case.
    pub fn close(self) -> Result<()> {
        self.lock().close()
    }
}

impl Drop for Palloc {
    fn drop(&mut self) {
        if let Ok(heap) = self.heap.get_mut() {
            // On failure only data derived from the chain is missing, and the next open repairs it.
            let _ = heap.close();
        }
    }
}

/// A read section of a live reader. See [`Palloc::read_section`]. A drop ends it.
pub struct ReadSection<'a> {
    medium: &'a Palloc,
}

impl Drop for ReadSection<'_> {
    fn drop(&mut self) {
        self.medium.end_reading();
    }
}

/// Changes of several blobs which a kill or, with SYNC, a power cut leaves all done or all undone. Dropping it cancels them. One thread
/// at a time uses it; transactions of different threads wait for each other in [`Palloc::begin`] and [`Transaction::commit`] only.
///
/// ```
/// use palloc::{Flags, Palloc};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("list.db");
/// let medium = Palloc::open(&path, Flags::DYNAMIC)?;
/// let root = medium.alloc(8)?;
///
/// let mut transaction = medium.begin()?;
/// let node = transaction.alloc(100)?;
/// transaction.write(node, 0, b"hello")?;
/// transaction.store(root, &node.to_be_bytes())?;
/// transaction.commit()?; // now the node is there, and the root leads to it
/// # Ok::<(), palloc::Error>(())
/// ```
pub struct Transaction<'a> {
    medium: &'a Palloc,
    changes: Changes,
}

impl Transaction<'_> {
    /// Allocates a blob of at least `size` bytes and returns its offset. It is no blob for others until the commit.
    pub fn alloc(&mut self, size: u64) -> Result<u64> {
        match self.changes.alloc(size) {
            Some(ptr) => Ok(ptr),
            None => self.medium.with(|heap| heap.tx_alloc(&mut self.changes, size)),
        }
    }

    /// Where the bytes of a blob of this transaction are in memory, to fill them. The address is good as that of [`Palloc::data`] is,
    /// unless the transaction is cancelled.
    pub fn data(&self, ptr: u64) -> Result<NonNull<[u8]>> {
        self.changes.data(ptr)
    }

    /// Copies `bytes` to the blob of this transaction at `ptr`, from `offset` in it on.
    pub fn write(&mut self, ptr: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let data_len = self.changes.data(ptr)?.len() as u64;
        let len = bytes.len() as u64;
        if offset > data_len || !self.changes.store_in_new(ptr + offset, bytes) {
            return Err(Error::OutOfBlob { ptr, offset, len });
        }
        Ok(())
    }

    /// The commit frees the blob at `ptr`.
    pub fn free(&mut self, ptr: u64) -> Result<()> {
        if self.medium.tx_free_unlocked(&mut self.changes, ptr) {
            return Ok(());
        }
        self.medium.with(|heap| heap.tx_free(&mut self.changes, ptr))
    }

    /// The commit stores `bytes` at `at`, an offset in a blob. They must all be in it. In a blob of this transaction they are at once.
    ///
    /// Such bytes are changed by transactions only, until the next [`Palloc::sync`]: a kill or a power cut may bring back the stores of the
    /// last transaction.
    pub fn store(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        if self.medium.tx_store_unlocked(&mut self.changes, at, bytes) {
            return Ok(());
        }
        self.medium.with(|heap| heap.tx_store(&mut self.changes, at, bytes))
    }

    /// Does it all. On failure nothing is done, and the transaction is cancelled.
    pub fn commit(mut self) -> Result<()> {
        let (heap, result) = self.medium.commit_locked(&mut self.changes);
        self.medium.update_view(&heap);
        result
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.changes.is_over() {
            self.medium.lock().tx_cancel(&mut self.changes);
        }
    }
}

/// See [`Palloc::update_view`]. Nothing is made known of a medium that is read as if it was repaired, or whose blobs may have holes.
#[cold]
fn update(view: &View, heap: &Heap<FileMedium>) {
    if let Some(start) = heap.medium.mapping().filter(|_| heap.writable || heap.overlay.is_empty()) {
        view.update(heap.index.zones(), start, heap.size());
    }
}

/// Reads the medium in the file at `path` without opening it. Calls `report` for each violation of the format, with the offset of the
/// block and a description. Returns the number of violations.
pub fn check(path: impl AsRef<Path>, report: impl FnMut(u64, &CStr)) -> Result<u64> {
    check_c(&os::c_path(path.as_ref())?, report)
}

pub(crate) fn check_c(path: &CStr, report: impl FnMut(u64, &CStr)) -> Result<u64> {
    Ok(recover::check(&FileMedium::open(path, Flags::READONLY)?, report))
}

/// The findings of [`salvage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Salvage {
    /// The blobs in the copy, without those that stand for lost ranges.
    pub blobs: u64,
    /// Blocks one of whose markers was damaged, and is mended.
    pub healed: u64,
    /// Ranges that are lost: of their blocks nothing is known, or their bytes could not be read.
    pub lost_ranges: u64,
    /// Bytes of these ranges.
    pub lost_bytes: u64,
}

/// Reads the damaged medium in the file at `path` and writes a sound one to the new file at `copy`: every block that is known is where it
/// was, with its bytes. `report` is called for each block that was mended and each range that is lost, with its offset. The file at `path`
/// is not written to.
pub fn salvage(
    path: impl AsRef<Path>,
    copy: impl AsRef<Path>,
    flags: Flags,
    report: impl FnMut(u64, &CStr),
) -> Result<Salvage> {
    salvage_c(&os::c_path(path.as_ref())?, &os::c_path(copy.as_ref())?, flags, report)
}

pub(crate) fn salvage_c(path: &CStr, copy: &CStr, flags: Flags, mut report: impl FnMut(u64, &CStr)) -> Result<Salvage> {
    if !(Flags::FORCE | Flags::LOST_IS_FREE).contains(flags) {
        return Err(Error::BadFlags(flags.0));
    }
    let (source, len) = os::open_to_read(path)?;
    let mut head = [0; format::HEADER as usize];
    let has_head = len >= format::HEADER && os::read_all(&source, &mut head, 0).is_ok();
    let stored = salvage::check_header(has_head.then(|| u64::from_be_bytes(head)), flags)?;
    let new = NewFile::create(copy)?;
    let mut found = Salvage::default();
    let zeros_from = copy::copy_bytes(&source, &new.file, len, true, |at, n| {
        found.lost_ranges += 1;
        found.lost_bytes += n;
        report(at, c"bytes could not be read, and are zeros");
        true
    })?;
    let mut medium = FileMedium::open(&new.temporary, Flags::DEFAULT)?;
    let mut salvager = salvage::Salvager {
        medium: &mut medium,
        report,
        found,
        zeros_from,
        lost_is_free: flags.contains(Flags::LOST_IS_FREE),
        odd: false,
        stand_ins: 0,
        run_at: format::Start::FIRST,
    };
    salvager.mend(stored)?;
    let (mut found, stand_ins) = (salvager.found, salvager.stand_ins);
    os::copy_permissions(&source, &new.file).map_err(Error::system("set the mode of the copy"))?;
    found.blobs = finish_copy(medium)?.live_blobs.saturating_sub(stand_ins);
    new.give_name()?;
    Ok(found)
}

/// Opens a copy by the usual code, which repairs it, and closes it.
fn finish_copy(copy: FileMedium) -> Result<Stat> {
    let (mut heap, _) = recover::open(copy, Flags::DEFAULT)?;
    heap.close()?;
    heap.stat()
}

/// Opens and locks the file, and makes a descriptor of it for the program.
fn open_with_descriptor(path: &CStr, flags: Flags) -> Result<(FileMedium, Descriptor)> {
    let spare = os::spare_descriptor(); // kept for the program, so that no file is created without a descriptor for it
    let medium = open_file(path, flags)?;
    drop(spare);
    let descriptor = medium.descriptor()?;
    Ok((medium, descriptor))
}

/// Opens and locks the file, with O_DSYNC if the medium in it asks for that.
fn open_file(path: &CStr, flags: Flags) -> Result<FileMedium> {
    flags.check()?;
    let medium = FileMedium::open(path, flags)?;
    if flags.contains(Flags::SYNC) || !recover::wants_sync(recover::stored_flags(&medium), flags) {
        return Ok(medium);
    }
    // O_DSYNC can't be set on an open file. Nothing read so far is used any more.
    drop(medium);
    FileMedium::open(path, flags | Flags::SYNC)
}

/// Copies `bytes` to a C string. Returns None if they contain a NUL. Fails iff memory runs out.
pub(crate) fn try_c_string(bytes: &[u8]) -> std::result::Result<Option<CString>, TryReserveError> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len() + 1)?;
    copy.extend_from_slice(bytes);
    copy.push(0);
    Ok(CString::from_vec_with_nul(copy).ok())
}

/// Fallible Box::new: fails iff memory runs out. Returns a slice of one, because stable Rust has fallible allocation only through Vec.
pub(crate) fn try_box<T>(value: T) -> std::result::Result<Box<[T]>, TryReserveError> {
    let mut one = Vec::new();
    one.try_reserve_exact(1)?;
    one.push(value);
    Ok(one.into_boxed_slice())
}

/// As `try_box`, for a large value: it is made in its place, and never lies on the stack.
pub(crate) fn try_box_with<T>(make: impl FnMut() -> T) -> std::result::Result<Box<[T]>, TryReserveError> {
    let mut one = Vec::new();
    one.try_reserve_exact(1)?;
    one.resize_with(1, make);
    Ok(one.into_boxed_slice())
}
