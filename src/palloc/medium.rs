//! Access to the bytes of a medium: its length, loads and stores, space on the disk, order and durability of writes. This file does not
//! know the meaning of the bytes.
//!
//! [`FileMedium`] is a locked file under one shared mapping. `os` has the system calls.
//!
//! A store to a page is a SIGBUS if the disk has no space for it. So growth allocates space before anything uses it. In a file with
//! holes, each range is allocated before the first store to it, in whole pages, because the file system's blocks may be smaller. The
//! pages of an allocated range are then made writable in one call, for three reasons: some file systems can still fail there (ext4, in a
//! file of very many pieces), others can't allocate otherwise (ext2), and it costs less than a fault for each page. On tmpfs a load from
//! a hole takes space too: there, holes are read by system calls.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use super::os::{Descriptor, MappedFile};
use super::{Flags, Result};

/// The bytes of a medium, as the heap uses them. Precondition of all functions: ranges are below [`Medium::end`]. Words are big-endian
/// on the medium.
pub trait Medium {
    /// The length of the file.
    fn end(&self) -> u64;
    /// The first 8 bytes as a word, padded with zeros if the file is shorter.
    fn head(&self) -> u64;
    /// Reads the word at `at`.
    fn load(&self, at: u64) -> u64;
    /// Writes the word at `at` by one store. A kill that leaves this store leaves all stores before it.
    fn store(&mut self, at: u64, word: u64);
    /// Fetches a range that will be read soon from memory, in one stream and not by one dependent cache miss after the other.
    fn prefetch(&self, from: u64, to: u64);
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
    fn has_movable_end(&self) -> bool;
    /// Whether the end can be moved down now.
    fn can_be_cut(&self) -> bool {
        true
    }
    /// Moves the end. If it moves up while addresses are in use, it may move further than `end`. New bytes are zero and have space on the
    /// disk. On failure the end does not change.
    fn set_end(&mut self, end: u64) -> Result<()>;
    /// Whether `reserve` may have holes to fill.
    fn has_holes(&self) -> bool;
    /// Makes sure that the disk has space for stores to the range.
    fn reserve(&mut self, at: u64, len: u64) -> Result<()>;
    /// The same for bytes without meaning, which never include a marker. On failure the space goes back to the disk, and the bytes may
    /// become zeros.
    fn reserve_free(&mut self, at: u64, len: u64) -> Result<()>;
    /// Whether every operation is on the disk when it returns.
    fn is_durable(&self) -> bool;
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

/// Holes are filled in pieces of this size.
const PIECE: u64 = 64 << 10;

/// A medium in a file or on a block device.
pub struct FileMedium {
    file: MappedFile,
    writable: bool,
    durable: bool,
    /// Pages of growth up to here were made writable, or would have cost too much.
    populated: u64,
    holes: Option<Holes>,
}

impl FileMedium {
    /// Opens and locks the file. It is created if it does not exist and `flags` has DYNAMIC.
    pub fn open(path: &CStr, flags: Flags) -> Result<FileMedium> {
        FileMedium::over(MappedFile::open(path, flags)?, flags)
    }

    /// The same for the file that the program's descriptor is open on. The descriptor stays open, with its position in the file. The medium
    /// is durable if `flags` has SYNC or the descriptor has O_DSYNC.
    pub fn of_descriptor(fd: c_int, flags: Flags) -> Result<FileMedium> {
        let file = MappedFile::of_descriptor(fd, flags)?;
        let sync = if file.writes_through() { Flags::SYNC } else { Flags::DEFAULT };
        FileMedium::over(file, flags | sync)
    }

    fn over(file: MappedFile, flags: Flags) -> Result<FileMedium> {
        let writable = !flags.contains(Flags::READONLY);
        let holes = if file.has_movable_end() { Holes::find(&file) } else { None };
        file.restore_position()?;
        let populated = file.end();
        Ok(FileMedium { file, writable, durable: flags.contains(Flags::SYNC) && writable, populated, holes })
    }

    /// A new descriptor of the file for the program, which may close it.
    pub fn descriptor(&self) -> Result<Descriptor> {
        self.file.descriptor()
    }

    /// From now on every operation is on the disk when it returns.
    pub fn make_durable(&mut self) {
        self.durable = self.writable;
    }

    /// From now on, a drop of this is like a kill: the lock stays with other owners of the open file.
    pub fn forget(&mut self) {
        self.file.forget();
    }

    /// The offset of an address that [`Medium::address`] returned, and of those behind it in the medium.
    pub fn offset_of(&self, address: usize) -> Option<u64> {
        self.file.offset_of(address)
    }

    /// Brings the bytes of a range to the disk.
    pub fn flush_range(&mut self, at: u64, len: u64) -> Result<()> {
        self.file.flush_range(at, len)
    }

    fn pointer(&self, at: u64, len: u64) -> *mut u8 {
        let end = self.file.end();
        if len > end || at > end - len {
            out_of_range(at, len, end);
        }
        // SAFETY: the file is mapped up to its end, so the result is in the mapping.
        unsafe { self.file.start().add(at as usize) }
    }

    /// The slow path of reserve: fills holes in the range.
    #[cold]
    fn fill_holes(&mut self, at: u64, len: u64) -> Result<()> {
        match &mut self.holes {
            Some(holes) if self.writable => holes.fill(&self.file, at, len).map(drop),
            _ => Ok(()),
        }
    }

    /// The slow path of reserve_free: makes pages writable, and fills holes in the range.
    #[cold]
    fn prepare_free(&mut self, at: u64, len: u64) -> Result<()> {
        if at + len > self.populated {
            let (from, to) = (self.populated, (at + len + POPULATE_AHEAD).min(self.end()));
            if to - from <= POPULATE_AT_MOST {
                self.file.populate(from, to - from)?;
            }
            self.populated = to;
        }
        let Some(holes) = &mut self.holes else { return Ok(()) };
        let filled = holes.fill(&self.file, at, len).and_then(|done| self.file.zeros_unless(done, at, len));
        filled.inspect_err(|_| holes.open_again(&self.file, at, len))
    }
}

#[cold]
fn out_of_range(at: u64, len: u64, end: u64) -> ! {
    panic!("range {at}+{len} of a medium of {end} bytes");
}

impl Medium for FileMedium {
    fn end(&self) -> u64 {
        self.file.end()
    }

    fn head(&self) -> u64 {
        if self.end() >= 8 {
            return self.load(0);
        }
        let mut bytes = [0; 8];
        for (at, byte) in (0..self.end()).zip(&mut bytes) {
            // SAFETY: a byte of a mapped range.
            *byte = unsafe { self.pointer(at, 1).read() };
        }
        u64::from_be_bytes(bytes)
    }

    #[inline]
    fn load(&self, at: u64) -> u64 {
        if let Some(word) = self.holes.as_ref().and_then(|holes| holes.read(&self.file, at)) {
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

    fn prefetch(&self, from: u64, to: u64) {
        let mut at = from;
        while at < to.min(self.end()) && self.holes.is_none() {
            // SAFETY: a byte of a mapped range. Volatile, so that the compiler keeps the read although its result is unused.
            unsafe { self.pointer(at, 1).read_volatile() };
            at += 64;
        }
    }

    fn read(&self, at: u64, bytes: &mut [u8]) {
        if self.holes.as_ref().is_some_and(|holes| holes.loads_fill) && self.file.read_exact(bytes, at).is_ok() {
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
        if self.holes.is_some() { self.file.data_from(at) } else { at }
    }

    fn has_movable_end(&self) -> bool {
        self.file.has_movable_end()
    }

    fn can_be_cut(&self) -> bool {
        self.file.can_be_cut()
    }

    fn set_end(&mut self, end: u64) -> Result<()> {
        if end > self.end() {
            self.file.grow(end)?;
        } else if end < self.end() {
            self.file.cut(end)?;
            self.populated = self.populated.min(end);
        }
        Ok(())
    }

    #[inline]
    fn has_holes(&self) -> bool {
        self.holes.is_some()
    }

    #[inline]
    fn reserve(&mut self, at: u64, len: u64) -> Result<()> {
        if self.holes.is_none() { Ok(()) } else { self.fill_holes(at, len) }
    }

    #[inline]
    fn reserve_free(&mut self, at: u64, len: u64) -> Result<()> {
        if at + len <= self.populated && self.holes.is_none() { Ok(()) } else { self.prepare_free(at, len) }
    }

    fn is_durable(&self) -> bool {
        self.durable
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }

    fn address(&self, at: u64, len: u64) -> NonNull<[u8]> {
        self.file.share();
        let start = NonNull::new(self.pointer(at, len)).expect("a mapping is never at NULL");
        NonNull::slice_from_raw_parts(start, len as usize)
    }

    fn end_addresses(&mut self) {
        self.file.unshare();
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

/// The pieces of a file with holes, and which of them have space on the disk.
struct Holes {
    filled: Vec<u64>,
    /// Whether a load from a hole through the mapping takes space on the disk, and is a SIGBUS if the disk is full.
    loads_fill: bool,
}

impl Holes {
    /// Returns None iff the file has no holes; an empty file has none. Allocated space that was never written counts as a hole: this costs
    /// one call later.
    fn find(file: &MappedFile) -> Option<Holes> {
        let (mut at, end) = (0, file.end());
        if end == 0 {
            return None;
        }
        let mut holes = Holes { filled: Vec::new(), loads_fill: file.do_loads_fill_holes() };
        while at < end {
            // ENXIO: behind the last data there is only a hole. Other errors: the system does not know, so nothing more counts as filled.
            let Ok((data, hole)) = file.next_data(at) else { return Some(holes) };
            if data == 0 && hole >= end {
                return None;
            }
            (data.div_ceil(PIECE)..hole / PIECE).for_each(|piece| holes.set_filled(piece));
            at = hole;
        }
        Some(holes)
    }

    /// Reads the word at `at` by a system call, if a load through the mapping would fill a hole; else returns None.
    #[cold]
    fn read(&self, file: &MappedFile, at: u64) -> Option<u64> {
        if !self.loads_fill || (self.is_filled(at / PIECE) && self.is_filled((at + 7) / PIECE)) {
            return None;
        }
        let mut word = [0; 8];
        file.read_exact(&mut word, at).ok().map(|()| u64::from_be_bytes(word))
    }

    fn is_filled(&self, piece: u64) -> bool {
        self.filled.get((piece / 64) as usize).is_some_and(|word| word >> (piece % 64) & 1 == 1)
    }

    fn set_filled(&mut self, piece: u64) {
        let word = (piece / 64) as usize;
        if word >= self.filled.len() {
            let more = word + 1 - self.filled.len();
            if self.filled.try_reserve(more).is_err() {
                return; // the piece counts as a hole, and is filled again: one more call
            }
            self.filled.resize(word + 1, 0);
        }
        self.filled[word] |= 1 << (piece % 64);
    }

    /// Fills the whole pieces around the range; if the disk has no space for these, only the pages of the range. Returns false if the
    /// system can't allocate.
    fn fill(&mut self, file: &MappedFile, at: u64, len: u64) -> Result<bool> {
        let pieces = at / PIECE..(at + len).div_ceil(PIECE);
        let Some(first) = pieces.clone().find(|&piece| !self.is_filled(piece)) else { return Ok(true) };
        let last = pieces.rev().find(|&piece| !self.is_filled(piece)).unwrap_or(first);
        let (start, stop) = (first * PIECE, ((last + 1) * PIECE).min(file.end()));
        let there = file.allocated();
        let take = |start: u64, stop: u64| {
            let allocated = file.allocate(start, stop - start, (stop - start).saturating_sub(there))?;
            Ok(file.populate(start, stop - start)? || allocated)
        };
        match take(start, stop) {
            Ok(true) => (first..=last).for_each(|piece| self.set_filled(piece)),
            Ok(false) => return Ok(false),
            Err(_) => {
                let page = file.page();
                return take(at / page * page, (at + len).next_multiple_of(page).min(file.end()));
            }
        }
        Ok(true)
    }

    /// Gives the space of the range back to the disk, if the system can.
    fn open_again(&mut self, file: &MappedFile, at: u64, len: u64) {
        for piece in at / PIECE..(at + len).div_ceil(PIECE) {
            if let Some(word) = self.filled.get_mut((piece / 64) as usize) {
                *word &= !(1 << (piece % 64));
            }
        }
        file.punch_hole(at, len);
    }
}

/// How far beyond a request pages of growth are made writable, and for how many bytes this pays: a large blob may never be written whole.
const POPULATE_AHEAD: u64 = 256 << 10;
const POPULATE_AT_MOST: u64 = 1 << 20;
