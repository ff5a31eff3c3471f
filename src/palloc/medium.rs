//! Where the bytes of a medium are: length, loads and stores, space behind them, order and durability of writes. What the bytes
//! mean is not known here.
//!
//! [`FileMedium`] is a locked file under one shared mapping. The mapping is a window much longer than the file, so that growth moves
//! nothing; a file that outgrows it gets a longer window beside the old one, which stays until close, so that addresses handed out
//! stay good. A window may reach beyond the end of the file: nothing there is ever touched.
//!
//! A store to a page for which the disk has no room would be a SIGBUS. So growth allocates before it is used, and in a file with
//! holes every range is allocated before the first store to it. Pages of what is allocated are then made writable at once: some file
//! systems can fail at that too (ext4, in a file of very many pieces), and it is cheaper than a fault for each. (On tmpfs a load from
//! a hole takes space too: there, holes are read by system calls.)

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use memmap2::{MmapOptions, MmapRaw};

// 64-bit offsets, on 32-bit machines too.
#[cfg(any(target_os = "android", all(target_os = "linux", not(target_env = "gnu"))))]
use libc::fallocate;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use libc::{fallocate64 as fallocate, lseek64 as lseek, off64_t as off_t};
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use libc::{lseek, off_t};

use super::error::Error;
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
    /// Whether all bytes from `at` to the end are zero. Asked while the medium is being opened only.
    fn is_zero_from(&self, at: u64) -> Result<bool>;
    /// Whether the end can be moved: it can't on a block device.
    fn has_movable_end(&self) -> bool;
    /// Moves the end. New bytes are zero and have space on the disk. On failure the end is where it was.
    fn set_end(&mut self, end: u64) -> Result<()>;
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
    /// Where the range is in memory.
    fn address(&self, at: u64, len: u64) -> NonNull<[u8]>;
}

/// The window that a small medium gets: address space only, so it costs nothing but page tables.
#[cfg(target_pointer_width = "64")]
const WINDOW: u64 = 4 << 30;
#[cfg(not(target_pointer_width = "64"))]
const WINDOW: u64 = 64 << 20;

/// Holes are filled in pieces of this size.
const PIECE: u64 = 64 << 10;

/// A medium in a file or on a block device.
pub struct FileMedium {
    file: LockedFile,
    window: MmapRaw,
    outgrown: Vec<MmapRaw>,
    end: u64,
    writable: bool,
    is_file: bool,
    durable: bool,
    /// Pages of growth up to here are writable, as far as that was worth it.
    populated: u64,
    holes: Option<Holes>,
    /// The directory whose entry for the file is not on the disk yet.
    unsynced_directory: Option<File>,
    /// The descriptor's position when it was given to us, where opening leaves it.
    position: u64,
}

/// Unlocks when it is dropped, unless the lock is to stay with others who have the open file.
struct LockedFile(File, bool);

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl FileMedium {
    /// Opens and locks the file. It is created if it does not exist and `flags` has DYNAMIC.
    pub fn open(path: &CStr, flags: Flags) -> Result<FileMedium> {
        let writable = !flags.contains(Flags::READONLY);
        let durable = flags.contains(Flags::SYNC) && writable;
        let how = if writable { libc::O_RDWR } else { libc::O_RDONLY } | if durable { libc::O_DSYNC } else { 0 };
        let (file, is_new) = match open_file(path, how) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && writable && flags.contains(Flags::DYNAMIC) => {
                (open_file(path, how | libc::O_CREAT), true)
            }
            result => (result, false),
        };
        let file = file.map_err(Error::system("open"))?;
        let directory = if is_new { open_directory_of(path) } else { None };
        FileMedium::over(file, flags, directory)
    }

    /// The same for the file that a descriptor of the program is open on, which stays the program's, with its position in the file.
    pub fn of_descriptor(fd: c_int, flags: Flags) -> Result<FileMedium> {
        let file = duplicate(fd).map_err(Error::system("use the descriptor"))?;
        // SAFETY: fcntl takes a descriptor, which `file` keeps open, and integers.
        let how = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }).map_err(Error::system("fcntl"))?;
        let how = how as c_int;
        if how & libc::O_APPEND != 0 {
            return Err(Error::Incompatible("its descriptor has O_APPEND"));
        }
        let access = how & libc::O_ACCMODE;
        if access != libc::O_RDWR && !(access == libc::O_RDONLY && flags.contains(Flags::READONLY)) {
            let source = io::Error::from_raw_os_error(libc::EBADF);
            return Err(Error::System { doing: "read and write with the descriptor", source });
        }
        FileMedium::over(file, flags, None)
    }

    fn over(file: File, flags: Flags, unsynced_directory: Option<File>) -> Result<FileMedium> {
        let writable = !flags.contains(Flags::READONLY);
        let kind = file.metadata().map_err(Error::system("fstat"))?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::Incompatible("neither a file nor a block device"));
        }
        lock(&file, if writable { libc::LOCK_EX } else { libc::LOCK_SH })?;
        let file = LockedFile(file, true);

        let position = seek(&file, 0, libc::SEEK_CUR).map_err(Error::system("lseek"))?;
        let end = seek(&file, 0, libc::SEEK_END).map_err(Error::system("find the end of the file"))?;
        let holes = if kind.is_file() { Holes::find(&file, end) } else { None };
        seek(&file, position, libc::SEEK_SET).map_err(Error::system("lseek"))?;
        Ok(FileMedium {
            window: map_window(&file, end, writable)?,
            outgrown: Vec::new(),
            end,
            writable,
            is_file: kind.is_file(),
            durable: flags.contains(Flags::SYNC) && writable,
            populated: end,
            holes,
            unsynced_directory,
            position,
            file,
        })
    }

    /// The descriptor that C programs read and write with.
    pub fn descriptor(&self) -> c_int {
        self.file.as_raw_fd()
    }

    /// Another descriptor of the same open file: beyond those of stdin, stdout and stderr.
    pub fn another_descriptor(&self) -> Result<File> {
        duplicate(self.descriptor()).map_err(Error::system("make another descriptor"))
    }

    /// From here on every operation is on the disk when it returns.
    pub fn make_durable(&mut self) {
        self.durable = self.writable;
    }

    /// Dropping this does not unlock the file.
    pub fn keep_lock(&mut self) {
        self.file.1 = false;
    }

    fn pointer(&self, at: u64, len: u64) -> *mut u8 {
        assert!(len <= self.end && at <= self.end - len, "range {at}+{len} of a medium of {} bytes", self.end);
        // SAFETY: the window is at least `end` long, so the result is inside the mapping.
        unsafe { self.window.as_mut_ptr().add(at as usize) }
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Not left to close(2): a forked child's copy of the descriptor, or the program's own, would keep the lock.
        // SAFETY: flock takes a descriptor, which the file keeps open, and flags.
        unsafe {
            if self.1 {
                libc::flock(self.0.as_raw_fd(), libc::LOCK_UN);
            }
        }
    }
}

impl Medium for FileMedium {
    fn end(&self) -> u64 {
        self.end
    }

    fn head(&self) -> u64 {
        if self.end >= 8 {
            return self.load(0);
        }
        let mut bytes = [0; 8];
        for (at, byte) in (0..self.end).zip(&mut bytes) {
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
        while at < to.min(self.end) && self.holes.is_none() {
            // SAFETY: a byte of a mapped range. Volatile, so that the read is done though its result is not used.
            unsafe { self.pointer(at, 1).read_volatile() };
            at += 64;
        }
    }

    fn read(&self, at: u64, bytes: &mut [u8]) {
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

    fn is_zero_from(&self, at: u64) -> Result<bool> {
        let result = only_zeros(&self.file, at, self.end).map_err(Error::system("read the file"));
        seek(&self.file, self.position, libc::SEEK_SET).map_err(Error::system("lseek"))?;
        result
    }

    fn has_movable_end(&self) -> bool {
        self.is_file
    }

    fn set_end(&mut self, end: u64) -> Result<()> {
        if end > self.end {
            within_file_size_limit(end)?;
            if end > self.window.len() as u64 {
                let longer = map_window(&self.file, end, true)?;
                self.outgrown.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
                self.outgrown.push(std::mem::replace(&mut self.window, longer));
            }
            let (at, len) = (self.end, end - self.end);
            let allocated = allocate(&self.file, at, len, len).and_then(|done| zeros_unless(done, &self.file, at, len));
            if let Err(error) = allocated {
                // What was allocated before it failed goes back. If that fails too, the bytes are zeros behind the chain.
                let _ = self.file.set_len(self.end);
                return Err(error);
            }
        } else if end < self.end {
            retry(|| self.file.set_len(end)).map_err(Error::system("cut the file"))?;
            self.populated = self.populated.min(end);
        }
        self.end = end;
        Ok(())
    }

    fn reserve(&mut self, at: u64, len: u64) -> Result<()> {
        match &mut self.holes {
            Some(holes) if self.writable => holes.fill(&self.file, &self.window, at, len, self.end).map(drop),
            _ => Ok(()),
        }
    }

    fn reserve_free(&mut self, at: u64, len: u64) -> Result<()> {
        if at + len > self.populated {
            let (from, to) = (self.populated, (at + len + POPULATE_AHEAD).min(self.end));
            if to - from <= POPULATE_AT_MOST {
                populate(&self.window, from, to - from)?;
            }
            self.populated = to;
        }
        let Some(holes) = &mut self.holes else { return Ok(()) };
        let filled = holes
            .fill(&self.file, &self.window, at, len, self.end)
            .and_then(|done| zeros_unless(done, &self.file, at, len));
        filled.inspect_err(|_| holes.open_again(&self.file, at, len))
    }

    fn is_durable(&self) -> bool {
        self.durable
    }

    fn barrier(&mut self) -> Result<()> {
        if self.durable { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        retry(|| self.file.sync_data()).map_err(Error::system("write the file to the disk"))?;
        if let Some(directory) = &self.unsynced_directory {
            retry(|| directory.sync_all()).map_err(Error::system("write the file's directory to the disk"))?;
            self.unsynced_directory = None;
        }
        Ok(())
    }

    fn address(&self, at: u64, len: u64) -> NonNull<[u8]> {
        let start = NonNull::new(self.pointer(at, len)).expect("a mapping is never at NULL");
        NonNull::slice_from_raw_parts(start, len as usize)
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
    /// None if the file has none. Allocated space that was never written counts as a hole: it costs a call, no harm.
    fn find(file: &File, end: u64) -> Option<Holes> {
        let mut holes = Holes { filled: Vec::new(), loads_fill: is_tmpfs(file) };
        let mut at = 0;
        while at < end {
            // Beyond the last data there is only a hole. Other errors: not told, so nothing is known to be filled.
            let Ok(data) = seek(file, at, libc::SEEK_DATA) else { return Some(holes) };
            let Ok(hole) = seek(file, data, libc::SEEK_HOLE) else { return Some(holes) };
            if data == 0 && hole >= end {
                return None;
            }
            (data.div_ceil(PIECE)..hole / PIECE).for_each(|piece| holes.set_filled(piece));
            at = hole;
        }
        Some(holes)
    }

    /// Reads the word at `at`, if that is not to be done through the mapping.
    fn read(&self, file: &File, at: u64) -> Option<u64> {
        if !self.loads_fill || (self.is_filled(at / PIECE) && self.is_filled((at + 7) / PIECE)) {
            return None;
        }
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).ok().map(|()| u64::from_be_bytes(bytes))
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

    /// Fills whole pieces round the range, or where the disk has no room for that the range alone. False where the file system can't.
    fn fill(&mut self, file: &File, window: &MmapRaw, at: u64, len: u64, end: u64) -> Result<bool> {
        let pieces = at / PIECE..(at + len).div_ceil(PIECE);
        let Some(first) = pieces.clone().find(|&piece| !self.is_filled(piece)) else { return Ok(true) };
        let last = pieces.rev().find(|&piece| !self.is_filled(piece)).unwrap_or(first);
        let (start, stop) = (first * PIECE, ((last + 1) * PIECE).min(end));
        let there = file.metadata().map_or(u64::MAX, |meta| meta.blocks() * 512);
        let whole = match allocate(file, start, stop - start, (stop - start).saturating_sub(there)) {
            Ok(false) => return Ok(false),
            whole => whole.and_then(|_| populate(window, start, stop - start)),
        };
        if whole.is_ok() {
            (first..=last).for_each(|piece| self.set_filled(piece));
            return Ok(true);
        }
        allocate(file, at, len, len.saturating_sub(there))?;
        populate(window, at, len).map(|()| true)
    }

    /// Gives the range back to the disk, as far as the system can.
    fn open_again(&mut self, file: &File, at: u64, len: u64) {
        for piece in at / PIECE..(at + len).div_ceil(PIECE) {
            if let Some(word) = self.filled.get_mut((piece / 64) as usize) {
                *word &= !(1 << (piece % 64));
            }
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        // SAFETY: fallocate takes a descriptor, which `file` keeps open, and integers.
        unsafe {
            let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            fallocate(file.as_raw_fd(), how, at as off_t, len as off_t);
        }
    }
}

/// How far beyond what is needed pages of growth are made writable, and how many it pays for: a large blob may never be written whole.
const POPULATE_AHEAD: u64 = 256 << 10;
const POPULATE_AT_MOST: u64 = 1 << 20;

/// Makes the pages of the range writable, where the system can.
fn populate(window: &MmapRaw, at: u64, len: u64) -> Result<()> {
    #[cfg(target_os = "linux")]
    match window.advise_range(memmap2::Advice::PopulateWrite, at as usize, len as usize) {
        Err(e) if e.raw_os_error() == Some(libc::EFAULT) => {
            // What would be a SIGBUS.
            let source = io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(Error::System { doing: ALLOCATING, source });
        }
        _ => {} // an old system does not know it
    }
    let _ = (window, at, len);
    Ok(())
}

#[cfg(target_os = "linux")]
fn is_tmpfs(file: &File) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the out parameter is a local, which a call that succeeds fills.
    let info = unsafe {
        if libc::fstatfs(file.as_raw_fd(), info.as_mut_ptr()) != 0 {
            return false;
        }
        info.assume_init()
    };
    #[allow(clippy::unnecessary_cast)] // not everywhere the same type
    return info.f_type as i64 == libc::TMPFS_MAGIC as i64;
}

#[cfg(not(target_os = "linux"))]
fn is_tmpfs(_: &File) -> bool {
    false
}

fn lock(file: &File, how: c_int) -> Result<()> {
    // SAFETY: flock takes a descriptor, which `file` keeps open, and flags.
    match retry(|| check(unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) })) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked),
        Err(e) => Err(Error::System { doing: "lock the file", source: e }),
    }
}

/// lseek(2). Used only before the descriptor is handed out: from then on the position in the file is the program's.
fn seek(file: &File, at: u64, whence: c_int) -> io::Result<u64> {
    // SAFETY: lseek takes a descriptor, which `file` keeps open, and integers.
    check(unsafe { lseek(file.as_raw_fd(), at as off_t, whence) }).map(|offset| offset as u64)
}

/// Reads by pread(2), and skips holes: a read through the mapping would fill them on some file systems.
fn only_zeros(file: &File, at: u64, end: u64) -> io::Result<bool> {
    let mut buffer = [0; 32 << 10];
    let mut at = at;
    while at < end {
        match seek(file, at, libc::SEEK_DATA) {
            Ok(data) => at = data,
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(true),
            Err(_) => {} // not told: read on
        }
        let wanted = (end - at).min(buffer.len() as u64) as usize;
        let n = retry(|| file.read_at(&mut buffer[..wanted], at))?;
        if buffer[..n].iter().any(|&b| b != 0) {
            return Ok(false);
        }
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += n as u64;
    }
    Ok(true)
}

fn map_window(file: &File, end: u64, writable: bool) -> Result<MmapRaw> {
    let double = end.saturating_mul(2);
    let lengths = if writable {
        [double.max(WINDOW), double.max(WINDOW / 64), end.saturating_add(end / 8), end]
    } else {
        [end; 4]
    };
    let mut failure = io::Error::from_raw_os_error(libc::ENOMEM);
    for len in lengths {
        // An empty file gets its header through the window too.
        let Ok(len) = usize::try_from(len.max(8)) else { continue };
        let mut options = MmapOptions::new();
        options.len(len);
        match if writable { options.map_raw(file) } else { options.map_raw_read_only(file) } {
            Ok(window) => return Ok(window),
            Err(e) if e.raw_os_error().is_some() => failure = e,
            Err(_) => {} // more than the address space holds
        }
    }
    Err(Error::System { doing: "map the file", source: failure })
}

const ALLOCATING: &str = "allocate space for the file";

/// Allocates the range on the disk; bytes that were not there read as zero. At least `new` bytes of it are not allocated yet. False
/// where the file system can't.
fn allocate(file: &File, at: u64, len: u64, new: u64) -> Result<bool> {
    if new > AT_ONCE && free_space(file).is_some_and(|free| free < new) {
        // What can't be had is not taken for a moment from others either.
        let source = io::Error::from_raw_os_error(libc::ENOSPC);
        return Err(Error::System { doing: ALLOCATING, source });
    }
    for from in (0..len).step_by(AT_ONCE as usize) {
        match allocate_at_once(file, at + from, (len - from).min(AT_ONCE)) {
            Ok(()) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => return Ok(false),
            Err(e) => return Err(Error::System { doing: ALLOCATING, source: e }),
        }
    }
    Ok(true)
}

/// A call that a signal interrupts starts anew, and a program may have timers: so that it comes to an end.
const AT_ONCE: u64 = 16 << 20;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn allocate_at_once(file: &File, at: u64, len: u64) -> io::Result<()> {
    // SAFETY: fallocate takes a descriptor, which `file` keeps open, and integers.
    retry(|| check(unsafe { fallocate(file.as_raw_fd(), 0, at as off_t, len as off_t) })).map(drop)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn allocate_at_once(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// What the file system has left, if it tells.
fn free_space(file: &File) -> Option<u64> {
    let mut info = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the out parameter is a local, which a call that succeeds fills.
    let info = unsafe {
        if libc::fstatvfs(file.as_raw_fd(), info.as_mut_ptr()) != 0 {
            return None;
        }
        info.assume_init()
    };
    #[allow(clippy::unnecessary_cast)] // not everywhere u64
    (info.f_bfree as u64).checked_mul(info.f_frsize as u64)
}

/// Fills the range by hand where the file system could not allocate it.
fn zeros_unless(allocated: bool, file: &File, at: u64, len: u64) -> Result<()> {
    if allocated { Ok(()) } else { write_zeros(file, at, len).map_err(Error::system(ALLOCATING)) }
}

/// For file systems that can't allocate: writes zeros where zeros or nothing is, and nobody else writes.
fn write_zeros(file: &File, at: u64, len: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut buffer = ZEROS;
    let mut at = at;
    let stop = at + len;
    while at < stop {
        let n = (ZEROS.len() as u64 - at % ZEROS.len() as u64).min(stop - at) as usize;
        let there = retry(|| file.read_at(&mut buffer[..n], at))?;
        if buffer[..there].iter().all(|&b| b == 0) {
            retry(|| file.write_all_at(&ZEROS[..n], at))?;
        }
        at += n as u64;
    }
    Ok(())
}

/// Beyond RLIMIT_FSIZE the kernel would send a signal; here it is an error.
fn within_file_size_limit(end: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the out parameter is a local.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } == 0;
    #[allow(clippy::unnecessary_cast)] // not everywhere a u64
    let limit_bytes = limit.rlim_cur as u64;
    if known && limit.rlim_cur != libc::RLIM_INFINITY && end > limit_bytes {
        let source = io::Error::from_raw_os_error(libc::EFBIG);
        return Err(Error::System { doing: "grow the file", source });
    }
    Ok(())
}

/// open(2), on a path that needs no copy. Does not wait for the other end of a pipe.
fn open_file(path: &CStr, how: c_int) -> io::Result<File> {
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    use libc::open;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    use libc::open64 as open;
    let how = how | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let mode: libc::c_uint = 0o660;
    // SAFETY: open takes a C string, flags and a mode; a descriptor that it returns is nobody else's. fcntl takes integers.
    let file = retry(|| unsafe { check(open(path.as_ptr(), how, mode)).map(|fd| File::from_raw_fd(fd as c_int)) })?;
    // SAFETY: as above. Of the flags, those that can be changed are set: none of ours but O_NONBLOCK.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, how & !libc::O_NONBLOCK) })?;
    Ok(file)
}

/// Whether both descriptors are open, on the same file, as far as the system tells.
pub fn is_same_file(one: c_int, other: c_int) -> bool {
    let identity = |fd| {
        let mut info = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the out parameter is a local, which a call that succeeds fills.
        let info = unsafe { check(libc::fstat(fd, info.as_mut_ptr())).map(|_| info.assume_init()) };
        info.map(|info| (info.st_dev, info.st_ino))
    };
    match (identity(one), identity(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Err(e), _) | (_, Err(e)) => e.raw_os_error() != Some(libc::EBADF),
    }
}

fn duplicate(fd: c_int) -> io::Result<File> {
    // SAFETY: fcntl takes integers; a descriptor that it returns is nobody else's.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) }).map(|fd| unsafe { File::from_raw_fd(fd as c_int) })
}

/// The directory that holds the file, to be synced with the file's first sync. None where it can't be read.
fn open_directory_of(path: &CStr) -> Option<File> {
    let mut directory = [0; libc::PATH_MAX as usize];
    let path = path.to_bytes();
    let name = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    directory.get_mut(..name)?.copy_from_slice(&path[..name]);
    if name == 0 {
        directory[0] = b'.';
    }
    open_file(CStr::from_bytes_until_nul(&directory).ok()?, libc::O_RDONLY | libc::O_DIRECTORY).ok()
}

fn check(result: impl Into<i64>) -> io::Result<i64> {
    let result = result.into();
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
