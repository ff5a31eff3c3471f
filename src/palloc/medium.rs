//! Where the bytes of a medium are: length, loads and stores, space behind them, order and durability of writes. What the bytes
//! mean is not known here.
//!
//! [`FileMedium`] is a locked file under one shared mapping; `os` has the system calls.
//!
//! A store to a page for which the disk has no room would be a SIGBUS. So growth allocates before it is used, and in a file with
//! holes every range is allocated before the first store to it, in whole pages: blocks may be smaller. Pages of what is allocated are
//! then made writable at once: some file systems can fail at that too (ext4, in a file of very many pieces), others can't allocate in
//! another way (ext2), and it is cheaper than a fault for each. (On tmpfs a load from a hole takes space too: there, holes are read by
//! system calls.)

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use super::os::{Descriptor, MappedFile};
use super::{Flags, Result};

/// What the heap needs of the bytes under it. Offsets are below [`Medium::end`]; words are big-endian on the medium.
pub trait Medium {
    /// The length of the file.
    fn end(&self) -> u64;
    /// The first 8 bytes as a word, padded with zeros where the file is shorter.
    fn head(&self) -> u64;
    /// Reads the word at `at`.
    fn load(&self, at: u64) -> u64;
    /// Writes the word at `at` by one store, after all stores before it as seen after a kill.
    fn store(&mut self, at: u64, word: u64);
    /// Words in this range will be read soon: fetches it from memory in one stream, not one dependent miss after the other.
    fn prefetch(&self, from: u64, to: u64);
    /// Reads bytes.
    fn read(&self, at: u64, bytes: &mut [u8]);
    /// Writes bytes.
    fn write(&mut self, at: u64, bytes: &[u8]);
    /// Makes the bytes of a range zero.
    fn clear(&mut self, at: u64, len: u64);
    /// Copies bytes between ranges that do not overlap.
    fn copy(&mut self, from: u64, to: u64, len: u64);
    /// Whether all bytes from `at` to `stop` are zero. Asked while the medium is being opened only.
    fn is_zero(&self, at: u64, stop: u64) -> Result<bool>;
    /// From `at` up to there, all bytes are known to be zero. Asked while the medium is being opened only.
    fn data_from(&self, at: u64) -> u64;
    /// Whether the end can be moved: it can't on a block device.
    fn has_movable_end(&self) -> bool;
    /// Whether the end can be moved down now.
    fn can_be_cut(&self) -> bool {
        true
    }
    /// Moves the end, up perhaps further than asked for where addresses are in use. New bytes are zero and have space on the disk. On
    /// failure the end is where it was.
    fn set_end(&mut self, end: u64) -> Result<()>;
    /// Whether there may be ranges for which `reserve` has something to do.
    fn has_holes(&self) -> bool;
    /// Makes sure that stores to the range cannot fail for want of space.
    fn reserve(&mut self, at: u64, len: u64) -> Result<()>;
    /// The same for bytes that mean nothing (so never those of a marker): on failure, what was taken from the disk is given back, and
    /// they may be zeros.
    fn reserve_free(&mut self, at: u64, len: u64) -> Result<()>;
    /// Whether every operation is to be on the disk when it returns.
    fn is_durable(&self) -> bool;
    /// If the medium is durable: what was stored before this is on the disk before anything that is stored after it.
    fn barrier(&mut self) -> Result<()>;
    /// Everything stored is on the disk.
    fn flush(&mut self) -> Result<()>;
    /// Where the range is in memory. The address stays good up to end_addresses.
    fn address(&self, at: u64, len: u64) -> NonNull<[u8]>;
    /// Addresses that were handed out are not used any more.
    fn end_addresses(&mut self) {}
}

/// Holes are filled in pieces of this size.
const PIECE: u64 = 64 << 10;

/// A medium in a file or on a block device.
pub struct FileMedium {
    file: MappedFile,
    writable: bool,
    durable: bool,
    /// Pages of growth up to here are writable, as far as that was worth it.
    populated: u64,
    holes: Option<Holes>,
}

impl FileMedium {
    /// Opens and locks the file. It is created if it does not exist and `flags` has DYNAMIC.
    pub fn open(path: &CStr, flags: Flags) -> Result<FileMedium> {
        FileMedium::over(MappedFile::open(path, flags)?, flags)
    }

    /// The same for the file that a descriptor of the program is open on, which stays the program's, with its position in the file. It
    /// is durable too if the program's own writes are.
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

    /// A descriptor of the file for the program, which may close it.
    pub fn descriptor(&self) -> Result<Descriptor> {
        self.file.descriptor()
    }

    /// From here on every operation is on the disk when it returns.
    pub fn make_durable(&mut self) {
        self.durable = self.writable;
    }

    /// Dropping this is as a kill: the lock stays with others who share the open file.
    pub fn forget(&mut self) {
        self.file.forget();
    }

    fn pointer(&self, at: u64, len: u64) -> *mut u8 {
        let end = self.file.end();
        if len > end || at > end - len {
            out_of_range(at, len, end);
        }
        // SAFETY: the file is mapped up to its end, so the result is inside the mapping.
        unsafe { self.file.start().add(at as usize) }
    }

    /// reserve where it may take a system call.
    #[cold]
    fn fill_holes(&mut self, at: u64, len: u64) -> Result<()> {
        match &mut self.holes {
            Some(holes) if self.writable => holes.fill(&self.file, at, len).map(drop),
            _ => Ok(()),
        }
    }

    /// reserve_free where it takes a system call.
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
                // Release: no store that stands before this one in the program is moved behind it. A kill is an interrupt, it needs
                // no more than that.
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
            // SAFETY: a byte of a mapped range. Volatile, so that the read is done though its result is not used.
            unsafe { self.pointer(at, 1).read_volatile() };
            at += 64;
        }
    }

    fn read(&self, at: u64, bytes: &mut [u8]) {
        if self.holes.as_ref().is_some_and(|holes| holes.loads_fill) && self.file.read_exact(bytes, at).is_ok() {
            return;
        }
        // SAFETY: a mapped range, and a slice that is no part of it.
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

    fn barrier(&mut self) -> Result<()> {
        if self.durable { self.flush() } else { Ok(()) }
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

/// One instruction, between the halves of which no kill can come.
///
/// # Safety
///
/// As with [`ptr::write_unaligned`](std::ptr::write_unaligned).
#[inline]
unsafe fn store_unaligned(word: *mut u64, value: u64) {
    // SAFETY: the caller's. Of this machine's registers only those of SSE2 hold a whole word, and the compiler prefers the others.
    #[cfg(all(target_arch = "x86", target_feature = "sse2"))]
    unsafe {
        use std::arch::x86::_mm_loadl_epi64;
        let value = _mm_loadl_epi64((&raw const value).cast());
        std::arch::asm!("movq [{}], {}", in(reg) word, in(xmm_reg) value, options(nostack, preserves_flags));
    }
    // SAFETY: the caller's.
    #[cfg(not(all(target_arch = "x86", target_feature = "sse2")))]
    unsafe {
        word.write_unaligned(value);
    }
}

/// Which pieces of a file with holes have been filled.
struct Holes {
    filled: Vec<u64>,
    /// A load from a hole through the mapping would take space on the disk, and be a SIGBUS where there is none.
    loads_fill: bool,
}

impl Holes {
    /// None if the file has none, as an empty one. Allocated space that was never written counts as a hole: it costs a call, no harm.
    fn find(file: &MappedFile) -> Option<Holes> {
        let (mut at, end) = (0, file.end());
        if end == 0 {
            return None;
        }
        let mut holes = Holes { filled: Vec::new(), loads_fill: file.do_loads_fill_holes() };
        while at < end {
            // Beyond the last data there is only a hole. Other errors: not told, so nothing is known to be filled.
            let Ok((data, hole)) = file.next_data(at) else { return Some(holes) };
            if data == 0 && hole >= end {
                return None;
            }
            (data.div_ceil(PIECE)..hole / PIECE).for_each(|piece| holes.set_filled(piece));
            at = hole;
        }
        Some(holes)
    }

    /// Reads the word at `at`, if that is not to be done through the mapping.
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
                return; // it will be filled again: a call, no harm
            }
            self.filled.resize(word + 1, 0);
        }
        self.filled[word] |= 1 << (piece % 64);
    }

    /// Fills whole pieces round the range, or where the disk has no room for that its pages alone. False where the system can't.
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

    /// Gives the range back to the disk, as far as the system can.
    fn open_again(&mut self, file: &MappedFile, at: u64, len: u64) {
        for piece in at / PIECE..(at + len).div_ceil(PIECE) {
            if let Some(word) = self.filled.get_mut((piece / 64) as usize) {
                *word &= !(1 << (piece % 64));
            }
        }
        file.punch_hole(at, len);
    }
}

/// How far beyond what is needed pages of growth are made writable, and how many it pays for: a large blob may never be written whole.
const POPULATE_AHEAD: u64 = 256 << 10;
const POPULATE_AT_MOST: u64 = 1 << 20;
