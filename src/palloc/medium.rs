// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access to the bytes of a medium: its length, loads and stores, space on the disk, order and durability of writes; and the lock of a
//! writer and the readers of a shared medium. What blocks mean to each other is the heap's.
//!
//! [`FileMedium`] is a locked file under one shared mapping. `space` knows which of its pages have space on the disk, `os` has the system
//! calls.

mod space;

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use self::space::Space;
use super::error::Sharing;
use super::format::{Extent, Marker, Start};
use super::live::epochs::NEVER;
use super::live::{Readers, Seat, Sections, Writer};
use super::os::{Descriptor, Flusher, MappedFile};
use super::sabotage::{Rule, between_accesses, is_broken};
use super::{Error, Flags, Result};
use crate::errno;

/// The bytes of a medium, as the heap uses them. Precondition of all functions: ranges are below [`Medium::file_len`]. Words are big-endian
/// on the medium.
pub trait Medium {
    /// The length of the file.
    fn file_len(&self) -> u64;
    /// The first 8 bytes as a word, padded with zeros if the file is shorter.
    fn head(&self) -> u64;
    /// Reads the word at `at`.
    fn load(&self, at: u64) -> u64;
    /// Writes the word at `at` by one store. A kill that leaves this store leaves all stores before it.
    fn store(&mut self, at: u64, word: u64);
    /// Writes `new` where `old` is, as `store`. Returns false, and changes nothing, if something else is there.
    fn replace(&mut self, at: u64, old: u64, new: u64) -> bool {
        self.replace_alone(at, old, new)
    }
    /// As `replace`. Precondition: no other thread stores to the word meanwhile.
    fn replace_alone(&mut self, at: u64, old: u64, new: u64) -> bool {
        let is_there = self.load(at) == old;
        if is_there {
            self.store(at, new);
        }
        is_there
    }
    /// Reads a start marker.
    #[inline]
    fn start_marker(&self, start: Start) -> Marker {
        Marker(self.load(start.offset()))
    }
    /// Writes a start marker, as `store`.
    #[inline]
    fn store_start(&mut self, start: Start, marker: Marker) {
        self.store(start.offset(), marker.0);
    }
    /// Fetches a range that will be read soon from memory, in one stream and not by one dependent cache miss after the other.
    fn prefetch(&self, from: u64, to: u64);
    /// Whether the words that are read from now on are far apart, so that the system need not read what is between them from the disk.
    /// Only advice.
    fn advise_far_apart(&self, _: bool) {}
    /// Starts to read a range from the disk, and does not wait for it. Only advice.
    fn start_reading(&self, _at: u64, _len: u64) {}
    /// Whether a load at `at` need not wait for the disk; true if the system does not say.
    fn is_in_memory(&self, _at: u64) -> bool {
        true
    }
    /// Reads bytes.
    fn read(&self, at: u64, bytes: &mut [u8]);
    /// Writes bytes.
    fn write(&mut self, at: u64, bytes: &[u8]);
    /// Makes the bytes of a range zero.
    fn clear(&mut self, at: u64, len: u64);
    /// Copies bytes between ranges that do not overlap.
    fn copy(&mut self, from: u64, to: u64, len: u64);
    /// Whether all bytes from `at` to `stop` are zero. Precondition: the medium is being opened.
    fn is_zero(&self, at: u64, stop: u64) -> Result<bool>;
    /// Returns an offset such that all bytes from `at` up to it are zero. Precondition: the medium is being opened.
    fn data_from(&self, at: u64) -> u64;
    /// Whether the length can change: not on a block device.
    fn has_movable_len(&self) -> bool;
    /// Whether the end can be moved down now.
    fn can_be_cut(&self) -> bool;
    /// Moves the end. If it moves up while addresses are in use, it may move further than `end`. New bytes are zero and have space on the
    /// disk. On failure the end does not change.
    fn set_file_len(&mut self, end: u64) -> Result<()>;
    /// Whether the file has holes. If it has none, `ensure_space` with `Bytes::Preserve` has nothing to do.
    fn has_holes(&self) -> bool;
    /// Makes sure that no store to the range fails for want of space on the disk. Called before stores to a range that a live block may
    /// not have used yet. Fails iff the disk has no space, or the system fails.
    ///
    /// | the pages of the range | after success | after failure |
    /// | --- | --- | --- |
    /// | have space on the disk | as before | as before; `Scratch` bytes may be zeros, without space |
    /// | are a hole | have space, and are zeros | a hole; for `Preserve` some may have space |
    /// | were added by growth | for `Scratch`, mapped for writing | as before |
    ///
    /// If the system can't allocate space, it writes zeros to `Scratch` bytes, and leaves the holes in others.
    ///
    /// Bytes that a reader of the file sees do not change, except for `Scratch` on failure. So it orders nothing and needs no barrier:
    /// with PALLOC_SYNC the barrier behind the stores brings the allocation to the disk too.
    fn ensure_space(&mut self, range: Range<u64>, bytes: Bytes) -> Result<()>;
    /// The bytes that the file takes on the disk.
    fn allocated(&self) -> u64;
    /// Gives the space of the whole pages of the range back to the disk, if they have at least `least` bytes. They are zeros then, and a
    /// hole. Fails iff the system can't.
    fn give_back(&mut self, range: Range<u64>, least: u64) -> Result<()>;
    /// Whether every operation is on the disk when it returns.
    fn is_durable(&self) -> bool;
    /// Whether it is durable or shared: asked by one load.
    fn is_durable_or_shared(&self) -> bool;
    /// Whether readers in other processes may have the medium open.
    fn is_shared(&self) -> bool;
    /// The epoch of a block that is freed now for live readers.
    fn epoch(&self) -> u64;
    /// As [`Writer::next_epoch`](super::live::Writer::next_epoch).
    fn next_epoch(&mut self, thorough: bool) -> u64;
    /// Ends sharing. Returns the oldest epoch that a reader still pins.
    fn end_sharing(&mut self) -> u64;
    /// Makes the first blob known to readers.
    fn show_first(&self, blob: u64);
    /// Makes known how many bytes are held for readers.
    fn show_held(&self, _bytes: u64) {}
    /// Whether this process is such a reader.
    fn is_reader(&self) -> bool {
        false
    }
    /// For a reader: the file has become longer.
    fn follow(&mut self) -> Result<()> {
        Ok(())
    }
    /// For a reader: the first blob, 0 if there is no blob.
    fn first_for_reader(&self) -> Result<u64> {
        Ok(0)
    }
    /// For a reader: the block of a blob, in a read section.
    fn block_for_reader(&self, _blob: u64) -> Option<Extent> {
        None
    }
    /// Brings all stores so far to the disk.
    fn flush(&mut self) -> Result<()>;
    /// On a durable medium, flushes: all stores so far are on the disk before any later one. Else does nothing.
    fn barrier(&mut self) -> Result<()> {
        if self.is_durable() { self.flush() } else { Ok(()) }
    }
    /// The address of the range in memory, valid until end_addresses.
    fn address(&self, at: u64, len: u64) -> NonNull<[u8]>;
    /// Ends the use of addresses that were returned. Precondition: the program uses none of them any more.
    fn end_addresses(&mut self) {}
}

/// Whether the bytes of a range are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// They stay as they are.
    Preserve,
    /// Nothing reads them before they are stored to: data of a free block. No marker is among them.
    Scratch,
}

/// A medium in a file or on a block device.
pub struct FileMedium {
    // First, because fields are dropped in this order: nobody else opens the medium before FILE.live is gone.
    role: Role,
    file: MappedFile,
    writable: bool,
    durable: bool,
    space: Space,
    /// Whether no hole is in a blob.
    blobs_have_space: bool,
    /// As [`Medium::is_durable_or_shared`].
    durable_or_shared: bool,
    /// Sharing has ended, and a read section is open still.
    is_read: bool,
}

/// The part that this process has in FILE.live.
enum Role {
    Nothing,
    Writer(Writer),
    Reader(Seat),
}

impl FileMedium {
    /// Opens and locks the file. It is created if it does not exist and `flags` has DYNAMIC.
    pub fn open(path: &CStr, flags: Flags) -> Result<FileMedium> {
        FileMedium::of_file(MappedFile::open(path, flags)?, flags)
    }

    /// As `open`, for the file that the program's descriptor is open on. The descriptor stays open, with its position in the file. The medium
    /// is durable if `flags` has SYNC or the descriptor has O_DSYNC.
    pub fn of_descriptor(fd: c_int, flags: Flags) -> Result<FileMedium> {
        let file = MappedFile::of_descriptor(fd, flags)?;
        let sync = if file.writes_through() { Flags::SYNC } else { Flags::DEFAULT };
        FileMedium::of_file(file, flags | sync)
    }

    fn of_file(file: MappedFile, flags: Flags) -> Result<FileMedium> {
        let writable = !flags.contains(Flags::READONLY);
        let space = Space::of(&file);
        file.restore_position()?;
        let durable = flags.contains(Flags::SYNC) && writable;
        let (durable_or_shared, role) = (durable, Role::Nothing);
        Ok(FileMedium {
            file,
            writable,
            durable,
            space,
            blobs_have_space: false,
            durable_or_shared,
            role,
            is_read: false,
        })
    }

    /// Opens the file for reading while another process writes it.
    pub fn open_beside_writer(path: &CStr) -> Result<FileMedium> {
        let mut medium = FileMedium::of_file(MappedFile::open_beside_writer(path)?, Flags::READONLY)?;
        medium.role = Role::Reader(Seat::new(medium.file.file(), path)?);
        medium.blobs_have_space = true; // the writer takes care of that
        medium.follow()?;
        Ok(medium)
    }

    /// Makes FILE.live. The medium is locked, and nothing was changed yet.
    #[inline(never)]
    pub fn prepare_sharing(&mut self, path: &CStr) -> Result<()> {
        self.role = Role::Writer(Writer::new(self.file.file(), path)?);
        self.durable_or_shared = true;
        Ok(())
    }

    /// From now on readers can open.
    pub fn begin_sharing(&self) {
        if let Some(writer) = self.writer() {
            writer.set_file_len(self.file_len());
            writer.begin();
        }
    }

    /// The read sections of a reader, for threads without the lock.
    pub fn sections(&self) -> Option<Sections> {
        if let Role::Reader(seat) = &self.role { Some(seat.sections()) } else { None }
    }

    /// Counts of the readers.
    pub fn readers(&self) -> Result<Readers> {
        match &self.role {
            Role::Nothing => Err(Sharing::NotShared.into()),
            Role::Writer(writer) => writer.readers(),
            Role::Reader(seat) => seat.readers(),
        }
    }

    /// The writer's side of FILE.live.
    fn writer(&self) -> Option<&Writer> {
        if let Role::Writer(writer) = &self.role { Some(writer) } else { None }
    }

    /// Whether a reader is open, whose mapping the end must not leave behind.
    fn has_readers(&self) -> bool {
        self.writer().is_some_and(Writer::has_readers) && !is_broken(Rule::CutAlone)
    }

    /// Fails iff a reader is open. Else readers that open now know the new end.
    fn leave_end_to_readers(&self, end: u64) -> Result<()> {
        let Some(writer) = self.writer() else { return Ok(()) };
        if self.has_readers() {
            return Err(Error::Locked);
        }
        writer.set_file_len(end);
        if self.has_readers() && !is_broken(Rule::CutRecheck) {
            writer.set_file_len(self.file_len()); // it may have seen the old one before that
            return Err(Error::Locked);
        }
        Ok(())
    }

    /// A new descriptor of the file for the program, which may close it.
    pub fn descriptor(&self) -> Result<Descriptor> {
        self.file.descriptor()
    }

    /// From now on every operation is on the disk when it returns.
    pub fn make_durable(&mut self) {
        self.durable = self.writable;
        self.durable_or_shared |= self.durable;
    }

    /// Brings the file to the disk while others work on it; None if the system can't.
    pub fn flusher(&self) -> Option<Flusher> {
        self.file.flusher()
    }

    /// Where the file is mapped for threads that don't have the medium's lock. It stays mapped there until the medium is closed. None if
    /// the system can't promise that now, or if a blob may need space on the disk before it is used.
    #[inline]
    pub fn mapping(&self) -> Option<NonNull<u8>> {
        NonNull::new(self.file.start()).filter(|_| self.blobs_have_space && self.file.keeps_mappings())
    }

    /// The medium has been opened, and has blobs or none. Blobs that are allocated from now on get their space on the disk at once.
    pub fn note_opened(&mut self, has_blobs: bool) {
        self.blobs_have_space = !self.has_holes() || !has_blobs;
    }

    /// From now on, a drop of this is like a kill: the lock stays with other owners of the open file.
    pub fn forget(&mut self) {
        self.file.forget();
    }

    /// The file shares its blocks on the disk with another: each page needs space before the first store to it, as in a hole.
    pub fn copy_pages_before_stores(&mut self) {
        self.space.assume_holes();
    }

    /// Another descriptor of the same open file, which the library keeps for a call.
    pub fn duplicate_file(&self) -> Result<File> {
        self.file.duplicate_file()
    }

    /// The offset of an address that [`Medium::address`] returned, and of those behind it in the medium.
    pub fn offset_of(&self, address: usize) -> Option<u64> {
        self.file.offset_of(address)
    }

    /// Brings the bytes of a range to the disk.
    pub fn flush_range(&mut self, at: u64, len: u64) -> Result<()> {
        self.file.flush_range(at, len)
    }

    /// The slow path of `ensure_space`. It leaves errno alone: the fast paths of palloc and pfree do not look after it.
    #[cold]
    #[inline(never)]
    fn take_space(&mut self, range: Range<u64>, bytes: Bytes) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        errno::unchanged_by(|| self.space.ensure(&self.file, range, bytes))
    }

    fn pointer(&self, at: u64, len: u64) -> *mut u8 {
        let end = self.file.end();
        if len > end || at > end - len {
            out_of_range(at, len, end);
        }
        // SAFETY: the file is mapped up to its end, so the result is in the mapping.
        unsafe { self.file.start().add(at as usize) }
    }
}

#[cold]
fn out_of_range(at: u64, len: u64, end: u64) -> ! {
    panic!("range {at}+{len} of a medium of {end} bytes");
}

impl Medium for FileMedium {
    fn file_len(&self) -> u64 {
        self.file.end()
    }

    fn head(&self) -> u64 {
        if self.file_len() >= 8 {
            return self.load(0);
        }
        let mut bytes = [0; 8];
        for (at, byte) in (0..self.file_len()).zip(&mut bytes) {
            // SAFETY: a byte of a mapped range.
            *byte = unsafe { self.pointer(at, 1).read() };
        }
        u64::from_be_bytes(bytes)
    }

    #[inline]
    fn load(&self, at: u64) -> u64 {
        between_accesses();
        if let Some(word) = self.space.read(&self.file, at) {
            return word;
        }
        let word = self.pointer(at, 8).cast::<AtomicU64>();
        // SAFETY: a mapped range. Aligned loads are atomic: C code of other threads may write there, against the rules.
        u64::from_be(unsafe {
            if word.is_aligned() { (*word).load(Ordering::Relaxed) } else { word.cast::<u64>().read_unaligned() }
        })
    }

    #[inline]
    fn store(&mut self, at: u64, value: u64) {
        between_accesses();
        let word = self.pointer(at, 8).cast::<AtomicU64>();
        let value = value.to_be();
        // SAFETY: a mapped range, writable (a heap that is read only stores nothing).
        unsafe {
            if word.is_aligned() {
                // Release: no earlier store of the program moves behind this one. A kill is an interrupt, so this is enough.
                (*word).store(value, Ordering::Release);
            } else {
                compiler_fence(Ordering::SeqCst);
                store_unaligned(word.cast(), value);
                compiler_fence(Ordering::SeqCst);
            }
        }
    }

    fn replace(&mut self, at: u64, old: u64, new: u64) -> bool {
        between_accesses();
        let word = self.pointer(at, 8).cast::<AtomicU64>();
        if !word.is_aligned() {
            return self.replace_alone(at, old, new); // no thread without the lock stores to such a word
        }
        // SAFETY: a mapped range, writable. Other threads may store to the word.
        let word = unsafe { &*word };
        word.compare_exchange(old.to_be(), new.to_be(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn prefetch(&self, from: u64, to: u64) {
        let mut at = from;
        while at < to.min(self.file_len()) && !self.space.has_holes() {
            // SAFETY: a byte of a mapped range. Volatile, so that the compiler keeps the read although its result is unused.
            unsafe { self.pointer(at, 1).read_volatile() };
            at += 64;
        }
    }

    fn advise_far_apart(&self, far_apart: bool) {
        self.file.advise_far_apart(far_apart);
    }

    fn start_reading(&self, at: u64, len: u64) {
        self.file.start_reading(at, len);
    }

    fn is_in_memory(&self, at: u64) -> bool {
        self.file.is_in_memory(at)
    }

    fn read(&self, at: u64, bytes: &mut [u8]) {
        if self.space.loads_fill_holes() && self.file.read_exact(bytes, at).is_ok() {
            return;
        }
        // SAFETY: a mapped range, and a slice outside of it.
        unsafe { self.pointer(at, bytes.len() as u64).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        // SAFETY: as in read.
        unsafe { self.pointer(at, bytes.len() as u64).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    fn clear(&mut self, at: u64, len: u64) {
        // SAFETY: a mapped range.
        unsafe { self.pointer(at, len).write_bytes(0, len as usize) }
        compiler_fence(Ordering::SeqCst);
    }

    fn copy(&mut self, from: u64, to: u64, len: u64) {
        assert!(from + len <= to || to + len <= from);
        // SAFETY: two mapped ranges that do not overlap.
        unsafe { self.pointer(from, len).copy_to_nonoverlapping(self.pointer(to, len), len as usize) }
        compiler_fence(Ordering::SeqCst);
    }

    fn is_zero(&self, at: u64, stop: u64) -> Result<bool> {
        self.file.is_zero(at, stop)
    }

    fn data_from(&self, at: u64) -> u64 {
        if self.space.has_holes() { self.file.data_from(at) } else { at }
    }

    fn has_movable_len(&self) -> bool {
        self.file.has_movable_len()
    }

    fn can_be_cut(&self) -> bool {
        self.file.can_be_cut() && !self.is_read && !self.has_readers()
    }

    fn set_file_len(&mut self, end: u64) -> Result<()> {
        let mut moved = Ok(());
        if end > self.file_len() {
            moved = self.file.grow(end);
        } else if end < self.file_len() {
            self.leave_end_to_readers(end)?;
            moved = self.file.cut(end).inspect(|()| self.space.note_cut(end));
        }
        if let Some(writer) = self.writer() {
            writer.set_file_len(self.file_len());
        }
        moved
    }

    fn is_durable_or_shared(&self) -> bool {
        self.durable_or_shared
    }

    fn is_shared(&self) -> bool {
        self.writer().is_some()
    }

    fn epoch(&self) -> u64 {
        self.writer().map_or(0, Writer::epoch)
    }

    fn next_epoch(&mut self, thorough: bool) -> u64 {
        if let Role::Writer(writer) = &mut self.role { writer.next_epoch(thorough) } else { NEVER }
    }

    fn end_sharing(&mut self) -> u64 {
        let Role::Writer(writer) = &mut self.role else { return NEVER };
        let oldest = writer.close();
        self.role = Role::Nothing;
        self.is_read = oldest != NEVER;
        oldest
    }

    fn show_first(&self, blob: u64) {
        if let Some(writer) = self.writer() {
            writer.set_first(blob);
        }
    }

    fn show_held(&self, bytes: u64) {
        if let Some(writer) = self.writer() {
            writer.set_held(bytes);
        }
    }

    fn is_reader(&self) -> bool {
        matches!(self.role, Role::Reader(_))
    }

    fn follow(&mut self) -> Result<()> {
        if let Role::Reader(seat) = &self.role { self.file.follow(seat.end()) } else { Ok(()) }
    }

    fn first_for_reader(&self) -> Result<u64> {
        let Role::Reader(seat) = &self.role else { return Ok(0) };
        seat.sections().first().ok_or(Sharing::NoSection.into())
    }

    fn block_for_reader(&self, blob: u64) -> Option<Extent> {
        let Role::Reader(seat) = &self.role else { return None };
        let base = NonNull::new(self.file.start())?;
        // SAFETY: the file is mapped up to its end there.
        unsafe { seat.sections().block(base, self.file_len(), blob) }
    }

    #[inline]
    fn has_holes(&self) -> bool {
        self.space.has_holes()
    }

    #[inline]
    fn ensure_space(&mut self, range: Range<u64>, bytes: Bytes) -> Result<()> {
        if self.space.is_ensured(&range, bytes) { Ok(()) } else { self.take_space(range, bytes) }
    }

    fn allocated(&self) -> u64 {
        self.file.allocated()
    }

    fn give_back(&mut self, range: Range<u64>, least: u64) -> Result<()> {
        self.space.give_back(&self.file, range, least)
    }

    fn is_durable(&self) -> bool {
        self.durable
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }

    fn address(&self, at: u64, len: u64) -> NonNull<[u8]> {
        self.file.keep_mappings();
        let start = NonNull::new(self.pointer(at, len)).expect("a mapping is never at NULL");
        NonNull::slice_from_raw_parts(start, len as usize)
    }

    fn end_addresses(&mut self) {
        self.file.drop_outgrown_mappings();
    }
}

/// Stores a word by one instruction, so that a kill cannot divide it.
///
/// # Safety
///
/// As with [`ptr::write_unaligned`](std::ptr::write_unaligned).
#[inline]
unsafe fn store_unaligned(word: *mut u64, value: u64) {
    // SAFETY: passed on to the caller. Only SSE2 registers have 64 bits on this machine, and the compiler would use others.
    #[cfg(all(target_arch = "x86", target_feature = "sse2"))]
    unsafe {
        use std::arch::x86::_mm_loadl_epi64;
        let value = _mm_loadl_epi64((&raw const value).cast());
        std::arch::asm!("movq [{}], {}", in(reg) word, in(xmm_reg) value, options(nostack, preserves_flags));
    }
    // SAFETY: passed on to the caller.
    #[cfg(not(all(target_arch = "x86", target_feature = "sse2")))]
    unsafe {
        word.write_unaligned(value);
    }
}
