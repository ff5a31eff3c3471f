// SPDX-License-Identifier: MIT OR Apache-2.0
//! open(2), flock(2), mmap(2), fallocate(2) and their like.
//!
//! The mapping is a window that is much longer than the file, so growth moves nothing. A file that outgrows its window gets a longer one.
//! The old window stays until close, so addresses that the program has stay valid. A window may reach beyond the end of the file; the
//! library accesses nothing there.

use std::ffi::{CStr, CString, c_int};
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};

// 64-bit offsets, on 32-bit machines too.
#[cfg(any(target_os = "android", all(target_os = "linux", not(target_env = "gnu"))))]
use libc::fallocate;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use libc::{fallocate64 as fallocate, ftruncate64 as ftruncate, lseek64 as lseek, off64_t as off_t};
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use libc::{ftruncate, lseek, off_t};

use super::{Buffer, Descriptor, empty_if_forced, retry, still_open, write_zeros};
use crate::palloc::{Error, Flags, Result, try_c_string};

/// The length of a small medium's window. It takes address space only, and no memory except page tables.
#[cfg(target_pointer_width = "64")]
const WINDOW: u64 = 4 << 30;
#[cfg(not(target_pointer_width = "64"))]
const WINDOW: u64 = 64 << 20;

const NO_FILE: &str = "neither a file nor a block device";

/// A file or a block device.
pub struct MappedFile {
    file: LockedFile,
    window: MmapRaw,
    outgrown: Vec<MmapRaw>,
    end: u64,
    is_file: bool,
    /// The directory whose entry for the file is not on the disk yet.
    unsynced_directory: Option<KeptFile>,
    /// The position in the file when it was opened. Opening restores it.
    position: u64,
}

/// An open file that the library keeps. The program may close the descriptor behind its back (closefrom(3)), and open another file that
/// gets its number. So it is used for nothing that changes the file, unless it is still open on `of`; nor does a drop close it then.
pub struct KeptFile {
    file: ManuallyDrop<File>,
    of: FileId,
}

impl KeptFile {
    pub fn new(file: File) -> io::Result<KeptFile> {
        let of = file_of(file.as_raw_fd())?;
        Ok(KeptFile { file: ManuallyDrop::new(file), of })
    }

    /// Fails with EBADF iff the program has closed the descriptor.
    pub fn still_open(&self) -> io::Result<()> {
        still_open(self.file.as_raw_fd(), self.of)
    }

    /// For as long as this exists.
    pub fn borrow(&self) -> Borrowed {
        Borrowed { fd: self.file.as_raw_fd(), of: self.of }
    }
}

impl Deref for KeptFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        if self.still_open().is_ok() {
            // SAFETY: this is the only drop, and nothing uses the field after it.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

/// A [`KeptFile`] that somebody else keeps.
#[derive(Clone, Copy)]
pub struct Borrowed {
    pub(super) fd: c_int,
    of: FileId,
}

impl Borrowed {
    /// As the function of [`KeptFile`].
    pub fn still_open(self) -> io::Result<()> {
        still_open(self.fd, self.of)
    }
}

/// A locked file. A drop sets the lock to `before`, its state before. If that is None, the lock stays with other owners of the open file.
struct LockedFile {
    file: KeptFile,
    before: Option<c_int>,
}

impl LockedFile {
    fn new(file: File, before: Option<c_int>) -> Result<LockedFile> {
        Ok(LockedFile { file: KeptFile::new(file).map_err(Error::system("fstat"))?, before })
    }
}

/// Brings a file to the disk while other threads work on it. Precondition: its [`MappedFile`] stays open.
pub struct Flusher(Borrowed);

impl Flusher {
    pub fn flush(self) -> Result<()> {
        let synced = self.0.still_open().and_then(|()| {
            // SAFETY: an open descriptor, by the precondition; not closed here.
            sync_data(&ManuallyDrop::new(unsafe { File::from_raw_fd(self.0.fd) }))
        });
        synced.map_err(Error::system(FLUSHING))
    }
}

impl Deref for LockedFile {
    type Target = KeptFile;

    fn deref(&self) -> &KeptFile {
        &self.file
    }
}

impl MappedFile {
    /// Opens and locks the file. It is created if it does not exist and `flags` has DYNAMIC.
    pub fn open(path: &CStr, flags: Flags) -> Result<MappedFile> {
        let writable = !flags.contains(Flags::READONLY);
        let durable = flags.contains(Flags::SYNC) && writable;
        let how = if writable { libc::O_RDWR } else { libc::O_RDONLY } | if durable { libc::O_DSYNC } else { 0 };
        // Without O_CREAT it has a meaning only for block devices: EBUSY if one is mounted.
        let alone = cfg!(any(target_os = "linux", target_os = "android")) && flags.contains(Flags::FORCE);
        let (file, directory) = match open_file(path, how | if alone { libc::O_EXCL } else { 0 }) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && writable && flags.contains(Flags::DYNAMIC) => {
                // Open the directory first, and try one descriptor for the file and one for FILE.live: without these, no file is created.
                let directory = open_directory_of(path)?;
                let spare = || open_file(c"/", libc::O_RDONLY).map_err(Error::system("open"));
                drop((spare()?, flags.contains(Flags::SHARED).then(spare).transpose()?));
                (open_file(path, how | libc::O_CREAT).inspect(avoid_copies), directory)
            }
            result => (result, None),
        };
        let file = LockedFile::new(file.map_err(Error::system("open"))?, Some(libc::LOCK_UN))?;
        MappedFile::of_file(file, flags, directory)
    }

    /// As `open`, for the file that the program's descriptor is open on. The descriptor stays open, with its position in the file.
    pub fn of_descriptor(fd: c_int, flags: Flags) -> Result<MappedFile> {
        let file = duplicate(fd).map_err(Error::system("use the descriptor"))?;
        // SAFETY: fcntl takes a descriptor, which `file` keeps open, and integers.
        let how = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }).map_err(Error::system("fcntl"))?;
        let how = how as c_int;
        if how & libc::O_APPEND != 0 {
            return Err(Error::Incompatible("its descriptor has O_APPEND"));
        }
        let access = how & libc::O_ACCMODE;
        if access != libc::O_RDWR && !(access == libc::O_RDONLY && flags.contains(Flags::READONLY)) {
            return Err(Error::System { doing: "read and write with the descriptor", source: bad_descriptor() });
        }
        let before = Some(lock_of(&file));
        MappedFile::of_file(LockedFile::new(file, before)?, flags, None)
    }

    /// Opens a file for reading while another process writes it: without a lock, and mapped with room ahead.
    pub fn open_beside_writer(path: &CStr) -> Result<MappedFile> {
        let file = open_file(path, libc::O_RDONLY).map_err(Error::system("open"))?;
        let kind = file.metadata().map_err(Error::system("fstat"))?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::Incompatible(NO_FILE));
        }
        let end = seek(&file, 0, libc::SEEK_END).map_err(Error::system("find the end of the file"))?;
        let window = map_ahead(&file, end, false)?;
        let (file, is_file, position, outgrown) = (LockedFile::new(file, None)?, kind.is_file(), 0, Vec::new());
        // The writer may cut the file until it sees that this reader is open: `follow` finds the end.
        Ok(MappedFile { file, window, outgrown, end: 0, is_file, unsynced_directory: None, position })
    }

    /// The file has become longer, by another process.
    pub fn follow(&mut self, end: u64) -> Result<()> {
        if end > self.window.len() as u64 {
            self.outgrown.try_reserve(1)?;
            self.file.still_open().map_err(Error::system("map the file"))?;
            let longer = map_ahead(&self.file, end, false)?;
            self.outgrown.push(std::mem::replace(&mut self.window, longer));
        }
        self.end = self.end.max(end);
        Ok(())
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn of_file(file: LockedFile, flags: Flags, unsynced_directory: Option<File>) -> Result<MappedFile> {
        let writable = !flags.contains(Flags::READONLY);
        let kind = file.metadata().map_err(Error::system("fstat"))?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::Incompatible(NO_FILE));
        }
        lock(&file, if writable { libc::LOCK_EX } else { libc::LOCK_SH })?;
        let position = seek(&file, 0, libc::SEEK_CUR).map_err(Error::system("lseek"))?;
        let mut end = seek(&file, 0, libc::SEEK_END).map_err(Error::system("find the end of the file"))?;
        let window = map_window(&file, end, writable).or_else(|error| {
            seek(&file, position, libc::SEEK_SET).map_err(Error::system("lseek"))?;
            end = empty_if_forced(&file, end, flags, error)?;
            map_window(&file, end, writable)
        })?;
        let (is_file, outgrown) = (kind.is_file(), Vec::new());
        let unsynced_directory = unsynced_directory.map(KeptFile::new).transpose().map_err(Error::system("fstat"))?;
        Ok(MappedFile { file, window, outgrown, end, is_file, unsynced_directory, position })
    }

    /// A descriptor of the same open file for the program, which may close it.
    pub fn descriptor(&self) -> Result<Descriptor> {
        let opened = duplicate(self.file.as_raw_fd()).and_then(|file| {
            let of = file_of(file.as_raw_fd())?;
            Ok(Descriptor { number: file.into_raw_fd(), of })
        });
        opened.map_err(Error::system("make a descriptor"))
    }

    /// Another descriptor of the same open file, which the library keeps for a call.
    pub fn duplicate_file(&self) -> Result<File> {
        self.file
            .still_open()
            .and_then(|()| duplicate(self.file.as_raw_fd()))
            .map_err(Error::system("make a descriptor"))
    }

    /// From now on, a drop of this is like a kill: it does not unlock the file.
    pub fn forget(&mut self) {
        self.file.before = None;
    }

    /// Whether the program's writes with its descriptor are on the disk when they return.
    pub fn writes_through(&self) -> bool {
        // SAFETY: fcntl takes a descriptor, which the file keeps open, and integers.
        check(unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETFL) })
            .is_ok_and(|how| how as c_int & libc::O_DSYNC == libc::O_DSYNC)
    }

    /// The address of the file in memory. Up to its end it is readable and, unless the file was opened for reading only, writable.
    #[inline]
    pub fn start(&self) -> *mut u8 {
        self.window.as_mut_ptr()
    }

    /// The offset of an address in the window, or in one that it has outgrown.
    pub fn offset_of(&self, address: usize) -> Option<u64> {
        let mut windows = self.outgrown.iter().chain([&self.window]);
        let offset = windows.find_map(|window| {
            let offset = address.checked_sub(window.as_mut_ptr().addr())?;
            (offset < window.len()).then_some(offset as u64)
        });
        offset.filter(|&offset| offset < self.end)
    }

    #[inline]
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn has_movable_len(&self) -> bool {
        self.is_file
    }

    /// Moves the end up. New bytes are zero and have space on the disk. On failure the end does not change.
    pub fn grow(&mut self, end: u64) -> Result<()> {
        within_file_size_limit(end).map_err(Error::system("grow the file"))?;
        self.file.still_open().map_err(Error::system("grow the file"))?;
        if end > self.window.len() as u64 {
            let longer = map_window(&self.file, end, true)?;
            self.outgrown.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
            self.outgrown.push(std::mem::replace(&mut self.window, longer));
        }
        let (at, len) = (self.end, end - self.end);
        // The length first. If fallocate(2) makes the file longer and its blocks are smaller than pages, some kernels lose stores to the
        // page at the old end (ext4, Linux 6.1).
        let longer = set_length(&self.file, end).map_err(Error::system("grow the file"));
        let allocated = longer.and_then(|()| self.allocate(at, len, len));
        let filled = allocated.and_then(|done| if done { Ok(()) } else { self.write_zeros(at, len) });
        if let Err(error) = filled {
            // Gives back the space that was allocated. If that fails too, the bytes are zeros behind the chain.
            let _ = set_length(&self.file, self.end);
            return Err(error);
        }
        self.end = end;
        Ok(())
    }

    /// Moves the end down.
    pub fn cut(&mut self, end: u64) -> Result<()> {
        let cut = self.file.still_open().and_then(|()| set_length(&self.file, end));
        cut.map_err(Error::system("cut the file"))?;
        self.end = end;
        Ok(())
    }

    pub fn can_be_cut(&self) -> bool {
        true
    }

    /// From now on the program may use addresses in the file.
    pub fn keep_mappings(&self) {}

    /// Whether every mapping stays until the medium is closed: here always.
    #[inline]
    pub fn keeps_mappings(&self) -> bool {
        true
    }

    /// From now on it uses none of them.
    pub fn drop_outgrown_mappings(&mut self) {}

    /// Brings all stores so far to the disk, and the entry of a new file in its directory.
    pub fn flush(&mut self) -> Result<()> {
        let synced = self.file.still_open().and_then(|()| sync_data(&self.file));
        synced.map_err(Error::system(FLUSHING))?;
        if let Some(directory) = &self.unsynced_directory {
            let synced = directory.still_open().and_then(|()| sync_all(directory));
            synced.map_err(Error::system("write the file's directory to the disk"))?;
            self.unsynced_directory = None;
        }
        Ok(())
    }

    /// Brings the bytes of a range to the disk, with the length of the file.
    pub fn flush_range(&mut self, at: u64, len: u64) -> Result<()> {
        let from = at / self.page() * self.page();
        let written = self.file.still_open().and_then(|()| {
            // SAFETY: whole pages of the window, from the one with the first byte to the one with the last.
            retry(|| unsafe {
                let start = self.start().add(from as usize).cast();
                check(libc::msync(start, (at + len - from) as usize, libc::MS_SYNC))
            })
        });
        written.map(drop).map_err(Error::system("write the file to the disk"))
    }

    /// None as long as the entry of a new file in its directory has to be brought to the disk too.
    pub fn flusher(&self) -> Option<Flusher> {
        let is_alone = self.unsynced_directory.is_none();
        is_alone.then(|| Flusher(self.file.borrow()))
    }

    /// Whether all bytes from `at` to `stop` are zero. Skips holes: a read through the mapping would fill them on some file systems.
    pub fn is_zero(&self, at: u64, stop: u64) -> Result<bool> {
        let result = only_zeros(&self.file, at, stop).map_err(Error::system("read the file"));
        self.restore_position()?;
        result
    }

    /// The first data at or behind `at`: its start and its end.
    pub fn next_data(&self, at: u64) -> io::Result<(u64, u64)> {
        let data = seek(&self.file, at, libc::SEEK_DATA)?;
        Ok((data, seek(&self.file, data, libc::SEEK_HOLE)?))
    }

    /// The start of the first data at or behind `at`, at most the end; `at` if the system does not know.
    pub fn data_from(&self, at: u64) -> u64 {
        let data = data_from(&self.file, at, self.end);
        let _ = self.restore_position();
        data
    }

    /// Sets the position in the file back to its place before opening. The program uses the position.
    pub fn restore_position(&self) -> Result<()> {
        seek(&self.file, self.position, libc::SEEK_SET).map(drop).map_err(Error::system("lseek"))
    }

    /// Whether a load from a hole through the mapping takes space on the disk, and is a SIGBUS if the disk is full.
    pub fn do_loads_fill_holes(&self) -> bool {
        // The file of an overlay may be on a tmpfs.
        #[cfg(target_os = "linux")]
        return [TMPFS, OVERLAYFS].contains(&file_system(&self.file));
        #[cfg(not(target_os = "linux"))]
        return false;
    }

    /// Reads by system calls.
    pub fn read_exact(&self, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
        self.file.still_open()?;
        while !bytes.is_empty() {
            let n = retry(|| self.file.read_at(bytes, at))?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (bytes, at) = (&mut bytes[n..], at + n as u64);
        }
        Ok(())
    }

    /// An upper bound of the bytes that are allocated on the disk.
    pub fn allocated(&self) -> u64 {
        self.file.metadata().map_or(u64::MAX, |meta| meta.blocks() * 512)
    }

    /// Allocates the range on the disk; new bytes are zero. Returns false if the file system can't. Precondition: at least `new` bytes of
    /// the range are not allocated yet.
    pub fn allocate(&self, at: u64, len: u64, new: u64) -> Result<bool> {
        self.file.still_open().map_err(Error::system(ALLOCATING))?;
        if new > AT_ONCE && free_space(&self.file).is_some_and(|free| free < new) {
            // Don't use up the disk, not even for a moment, for an allocation that must fail.
            let source = io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(Error::System { doing: ALLOCATING, source });
        }
        for from in (0..len).step_by(AT_ONCE as usize) {
            match allocate_at_once(&self.file, at + from, (len - from).min(AT_ONCE)) {
                Ok(()) => {}
                Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => return Ok(false),
                Err(e) => return Err(Error::System { doing: ALLOCATING, source: e }),
            }
        }
        Ok(true)
    }

    /// Writes zeros to the range, so that it is allocated. Precondition: the range is zeros, and nobody else writes there.
    pub fn write_zeros(&self, at: u64, len: u64) -> Result<()> {
        let written = within_file_size_limit(at + len).and_then(|()| write_zeros(&self.file, at, len));
        written.map_err(Error::system(ALLOCATING))
    }

    /// Makes the pages of the range writable. Returns false if the system can't.
    pub fn populate(&self, at: u64, len: u64) -> Result<bool> {
        #[cfg(target_os = "linux")]
        match self.window.advise_range(memmap2::Advice::PopulateWrite, at as usize, len as usize) {
            Ok(()) => return Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::EFAULT) => {
                // A store would be a SIGBUS.
                let source = io::Error::from_raw_os_error(libc::ENOSPC);
                return Err(Error::System { doing: ALLOCATING, source });
            }
            Err(_) => {} // an old system does not know it
        }
        let _ = (at, len);
        Ok(false)
    }

    /// As [`Medium::advise_far_apart`](crate::palloc::medium::Medium::advise_far_apart).
    pub fn advise_far_apart(&self, far_apart: bool) {
        let _ = self.window.advise(if far_apart { memmap2::Advice::Random } else { memmap2::Advice::Normal });
    }

    /// As [`Medium::start_reading`](crate::palloc::medium::Medium::start_reading).
    pub fn start_reading(&self, at: u64, len: u64) {
        let _ = self.window.advise_range(memmap2::Advice::WillNeed, at as usize, len as usize);
    }

    /// As [`Medium::is_in_memory`](crate::palloc::medium::Medium::is_in_memory).
    pub fn is_in_memory(&self, at: u64) -> bool {
        let page = at / self.page() * self.page();
        let mut state = 1;
        // SAFETY: a page of the window, for which mincore stores one byte.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::mincore(self.start().add(page as usize).cast(), 1, &mut state)
        };
        let _ = (page, &mut state);
        state & 1 != 0
    }

    /// The page size. A store needs space on the disk for its whole page.
    pub fn page(&self) -> u64 {
        const SMALLEST: u64 = 4096;
        // SAFETY: takes an integer.
        u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(SMALLEST).max(SMALLEST)
    }

    /// Gives the space of a range back to the disk. Its bytes are zeros then. Precondition: the range is whole pages.
    pub fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.file.still_open()?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.is_file {
            let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            // SAFETY: fallocate takes a descriptor, which the file keeps open, and integers.
            let punch = || check(unsafe { fallocate(self.file.as_raw_fd(), how, at as off_t, len as off_t) });
            return retry(punch).map(drop);
        }
        let _ = (at, len);
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if self.still_open().is_err() {
            return; // its number may belong to the program
        }
        // close(2) is not enough: a copy of the descriptor, in a forked child or in the program, would keep the lock.
        if let Some(before) = self.before {
            // SAFETY: flock takes a descriptor, which the file keeps open, and flags.
            unsafe { libc::flock(self.file.as_raw_fd(), before | libc::LOCK_NB) };
        }
    }
}

/// Closes a descriptor.
///
/// # Safety
/// Nobody uses it any more.
pub unsafe fn close_descriptor(fd: c_int) {
    // SAFETY: passed on to the caller.
    unsafe { libc::close(fd) };
}

pub fn bad_descriptor() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

pub fn already_exists() -> io::Error {
    io::Error::from_raw_os_error(libc::EEXIST)
}

/// The error's number in C.
pub fn errno_of(error: &io::Error) -> c_int {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// The absolute path without symbolic links; `path` itself if the system can't find it, or a directory above the current one is closed to
/// the process (musl's realpath does not say so).
pub fn absolute_path(path: &CStr) -> Result<CString> {
    // SAFETY: realpath takes a C string. It returns NULL, or a C string that the caller must free.
    unsafe {
        let absolute = libc::realpath(path.as_ptr(), std::ptr::null_mut());
        if absolute.is_null() && io::Error::last_os_error().raw_os_error() == Some(libc::ENOMEM) {
            return Err(Error::OutOfMemory);
        }
        let reachable = !absolute.is_null() && exists(CStr::from_ptr(absolute));
        let copy = try_c_string(if reachable { CStr::from_ptr(absolute) } else { path }.to_bytes());
        libc::free(absolute.cast());
        Ok(copy?.expect("a C string has no NUL in it"))
    }
}

/// The path as a C string.
pub fn c_path(path: &Path) -> Result<CString> {
    try_c_string(path.as_os_str().as_bytes())?.ok_or(Error::Incompatible("its path has a NUL in it"))
}

pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.read_at(bytes, at)
}

pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.write_at(bytes, at)
}

pub(super) fn set_length(file: &File, len: u64) -> io::Result<()> {
    // SAFETY: ftruncate takes a descriptor, which `file` keeps open, and an integer.
    retry(|| check(unsafe { ftruncate(file.as_raw_fd(), len as off_t) })).map(drop)
}

/// Brings the bytes of a file to the disk, with its length.
fn sync_data(file: &File) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: fdatasync takes a descriptor, which `file` keeps open.
    return retry(|| check(unsafe { libc::fdatasync(file.as_raw_fd()) })).map(drop);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return file.sync_data();
}

/// As `sync_data`, with all that the file system has of the file: its length and times too.
pub fn sync_all(file: &File) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: fsync takes a descriptor, which `file` keeps open.
    return retry(|| check(unsafe { libc::fsync(file.as_raw_fd()) })).map(drop);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return file.sync_all();
}

/// Numbers of file systems. Their type in libc differs between C libraries.
#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_cast)]
const TMPFS: i64 = libc::TMPFS_MAGIC as i64;
#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_cast)]
const OVERLAYFS: i64 = libc::OVERLAYFS_SUPER_MAGIC as i64;
#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_cast)]
const BTRFS: i64 = libc::BTRFS_SUPER_MAGIC as i64;

/// The kind of file system that the file is on, by its number in statfs(2); 0 if that fails.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn file_system(file: &File) -> i64 {
    let mut info = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the out parameter is a local, which a call that succeeds fills.
    let info = unsafe {
        if libc::fstatfs(file.as_raw_fd(), info.as_mut_ptr()) != 0 {
            return 0;
        }
        info.assume_init()
    };
    #[allow(clippy::unnecessary_cast)] // its type differs between systems
    return info.f_type as i64;
}

/// Sets the attribute NOCOW on an empty file on btrfs. Without it btrfs writes each page to a new place, and a store is a SIGBUS if the
/// disk is full.
#[cfg(target_os = "linux")]
fn avoid_copies(file: &File) {
    if file_system(file) == BTRFS {
        set_no_copies(file, true);
    }
}

/// Sets or clears the attribute NOCOW of an empty file. Returns whether that is done.
#[cfg(target_os = "linux")]
fn set_no_copies(file: &File, wanted: bool) -> bool {
    const NOCOW: c_int = 0x0080_0000; // FS_NOCOW_FL of <linux/fs.h>
    let mut flags: [c_int; 2] = [0; 2]; // these calls are declared with a long, but the kernel reads and writes an int
    // SAFETY: both calls take a descriptor, which `file` keeps open, and a local that is large enough.
    unsafe {
        if libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, flags.as_mut_ptr()) != 0 {
            return false;
        }
        flags[0] = if wanted { flags[0] | NOCOW } else { flags[0] & !NOCOW };
        libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, flags.as_ptr()) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn avoid_copies(_: &File) {}

fn lock(file: &File, how: c_int) -> Result<()> {
    // SAFETY: flock takes a descriptor, which `file` keeps open, and flags.
    match retry(|| check(unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) })) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked),
        Err(e) => Err(Error::System { doing: "lock the file", source: e }),
    }
}

/// The flock(2) that the open file has; LOCK_UN if the system does not report it.
#[inline(never)] // its buffers are on the stack for as long as it runs only
fn lock_of(file: &File) -> c_int {
    let (mut path, mut text) = ([0; 64], [0; 1024]);
    let _fits = write!(&mut path[..], "/proc/self/fdinfo/{}\0", file.as_raw_fd());
    let info = CStr::from_bytes_until_nul(&path).ok().and_then(|path| open_file(path, libc::O_RDONLY).ok());
    let len = info.and_then(|mut info| info.read(&mut text).ok()).unwrap_or(0);
    let has = |line: &[u8], word: &[u8]| line.windows(word.len()).any(|part| part == word);
    let flock =
        text[..len].split(|&byte| byte == b'\n').find(|line| line.starts_with(b"lock:") && has(line, b" FLOCK "));
    match flock {
        Some(line) if has(line, b" WRITE ") => libc::LOCK_EX,
        Some(_) => libc::LOCK_SH,
        None => libc::LOCK_UN,
    }
}

/// lseek(2). Precondition: the medium is being opened. After that only the program moves the position in the file.
fn seek(file: &File, at: u64, whence: c_int) -> io::Result<u64> {
    // SAFETY: lseek takes a descriptor, which `file` keeps open, and integers.
    check(unsafe { lseek(file.as_raw_fd(), at as off_t, whence) }).map(|offset| offset as u64)
}

/// Reads by pread(2), and skips holes: a read through the mapping would fill them on some file systems.
fn only_zeros(file: &File, at: u64, end: u64) -> io::Result<bool> {
    let mut buffer = Buffer::new();
    let buffer = buffer.bytes();
    let mut at = data_from(file, at, end);
    while at < end {
        let wanted = (end - at).min(buffer.len() as u64) as usize;
        let n = retry(|| file.read_at(&mut buffer[..wanted], at))?;
        if buffer[..n].iter().any(|&b| b != 0) {
            return Ok(false);
        }
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at = data_from(file, at + n as u64, end);
    }
    Ok(true)
}

fn map_window(file: &File, end: u64, writable: bool) -> Result<MmapRaw> {
    if writable { map_ahead(file, end, true) } else { map_one_of(file, &[end], false) }
}

/// Maps a file that will become longer.
fn map_ahead(file: &File, end: u64, writable: bool) -> Result<MmapRaw> {
    let double = end.saturating_mul(2);
    let lengths = [double.max(WINDOW), double.max(WINDOW / 64), end.saturating_add(end / 8), end];
    map_one_of(file, &lengths, writable)
}

fn map_one_of(file: &File, lengths: &[u64], writable: bool) -> Result<MmapRaw> {
    let mut failure = io::Error::from_raw_os_error(libc::ENOMEM);
    for &len in lengths {
        // An empty file gets its header through the window too.
        let Ok(len) = usize::try_from(len.max(8)) else { continue };
        let mut options = MmapOptions::new();
        options.len(len);
        match if writable { options.map_raw(file) } else { options.map_raw_read_only(file) } {
            Ok(window) => {
                // For an unlinked file, a core file would contain the whole window.
                #[cfg(target_os = "linux")]
                let _ = window.advise(memmap2::Advice::DontDump);
                return Ok(window);
            }
            Err(e) if e.raw_os_error().is_some() => failure = error_of_mapping(e),
            Err(_) => {} // more than the address space holds
        }
    }
    // mmap(2) has EINVAL for a block device that is read-only.
    let is_device = || file.metadata().is_ok_and(|meta| meta.file_type().is_block_device());
    if writable && failure.raw_os_error() == Some(libc::EINVAL) && is_device() {
        failure = io::Error::from_raw_os_error(libc::EROFS);
    }
    Err(Error::System { doing: "map the file", source: failure })
}

/// The error for one of mmap(2). It is ENOMEM for a limit of locked memory: as an errno, EAGAIN means that the medium is open elsewhere.
pub fn error_of_mapping(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EAGAIN) { io::Error::from_raw_os_error(libc::ENOMEM) } else { error }
}

const FLUSHING: &str = "write the file to the disk";
const ALLOCATING: &str = "allocate space for the file";

/// The bytes that one call allocates. A signal makes a call start again, so a long call might never end in a program with timers.
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

/// The free bytes of the file system; None if it does not report them.
fn free_space(file: &File) -> Option<u64> {
    let mut info = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the out parameter is a local, which a call that succeeds fills.
    let info = unsafe {
        if libc::fstatvfs(file.as_raw_fd(), info.as_mut_ptr()) != 0 {
            return None;
        }
        info.assume_init()
    };
    if info.f_blocks == 0 {
        return None; // tmpfs without a limit, ramfs, some in user space
    }
    #[allow(clippy::unnecessary_cast)] // not u64 on all systems
    (info.f_bfree as u64).checked_mul(info.f_frsize as u64)
}

/// Fails iff `end` is above RLIMIT_FSIZE. The kernel would send a signal.
pub fn within_file_size_limit(end: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the out parameter is a local.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } == 0;
    #[allow(clippy::unnecessary_cast)] // not u64 on all systems
    let limit_bytes = limit.rlim_cur as u64;
    if known && limit.rlim_cur != libc::RLIM_INFINITY && end > limit_bytes {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(())
}

/// open(2) without a copy of the path on the heap. It does not wait for the other end of a pipe. The descriptor is above those of stdin,
/// stdout and stderr: output to these must not go to the file.
pub(super) fn open_file(path: &CStr, how: c_int) -> io::Result<File> {
    let file = open_at_once(path, how)?;
    made_usable(file, how)
}

/// open(2) with a descriptor that may be one of the standard streams', and O_NONBLOCK.
fn open_at_once(path: &CStr, how: c_int) -> io::Result<File> {
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    use libc::open;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    use libc::open64 as open;
    let how = how | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let mode: libc::c_uint = 0o660;
    // SAFETY: open takes a C string, flags and a mode. Nobody else has the descriptor that it returns.
    retry(|| unsafe { check(open(path.as_ptr(), how, mode)).map(|fd| File::from_raw_fd(fd as c_int)) })
}

/// Gives the file a descriptor above those of the standard streams, and waits from now on. `how` are the flags that it was opened with.
fn made_usable(mut file: File, how: c_int) -> io::Result<File> {
    if file.as_raw_fd() < FIRST_DESCRIPTOR {
        file = duplicate(file.as_raw_fd())?;
    }
    // SAFETY: fcntl takes integers. It changes O_NONBLOCK only: the other flags in `how` can't be changed, or are set already.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, how & !libc::O_NONBLOCK) })?;
    Ok(file)
}

/// Opens a file or a block device for reading, and locks it as PALLOC_READONLY does. Returns its length too.
pub fn open_to_read(path: &CStr) -> Result<(File, u64)> {
    let file = open_file(path, libc::O_RDONLY).map_err(Error::system("open"))?;
    let kind = file.metadata().map_err(Error::system("fstat"))?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(Error::Incompatible("neither a file nor a block device"));
    }
    lock(&file, libc::LOCK_SH)?;
    let end = seek(&file, 0, libc::SEEK_END).map_err(Error::system("find the end of the file"))?;
    Ok((file, end))
}

/// The same file, open anew for reading: its position is not that of `file`. None if the system has no name for it.
pub fn open_again_to_read(file: &File) -> Option<File> {
    let mut path = [0; 64];
    write!(&mut path[..], "/proc/self/fd/{}\0", file.as_raw_fd()).ok()?;
    let again = open_file(CStr::from_bytes_until_nul(&path).ok()?, libc::O_RDONLY).ok()?;
    let is_same = file_of(again.as_raw_fd()).ok()? == file_of(file.as_raw_fd()).ok()?;
    is_same.then_some(again)
}

/// Creates a file. Fails iff there is one with this name, or as open(2).
pub fn create_new(path: &CStr) -> io::Result<File> {
    let how = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let file = open_at_once(path, how)?;
    made_usable(file, how).inspect_err(|_| remove(path)).inspect(avoid_copies)
}

/// Whether something has this name.
pub fn exists(path: &CStr) -> bool {
    // SAFETY: access takes a C string and an integer.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) == 0 }
}

/// Gives a file a new name, which nothing must have, and takes the old one from it.
pub fn give_name(old: &CStr, new: &CStr) -> io::Result<()> {
    // SAFETY: link takes C strings.
    match check(unsafe { libc::link(old.as_ptr(), new.as_ptr()) }) {
        Ok(_) => {
            remove(old);
            Ok(())
        }
        // A file system without links, such as FAT.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)) => {
            if exists(new) {
                return Err(already_exists());
            }
            // SAFETY: rename takes C strings.
            check(unsafe { libc::rename(old.as_ptr(), new.as_ptr()) }).map(drop)
        }
        Err(e) => Err(e),
    }
}

/// Removes a file, if it is there.
pub fn remove(path: &CStr) {
    // SAFETY: unlink takes a C string.
    unsafe { libc::unlink(path.as_ptr()) };
}

/// Brings the entry of a new file to the disk.
pub fn sync_directory_of(path: &CStr) -> Result<()> {
    match open_directory_of(path)? {
        Some(directory) => sync_all(&directory).map_err(Error::system("write the file's directory to the disk")),
        None => Ok(()),
    }
}

/// Gives `to` the permissions of `from`, without those of programs. The owner can read and write it.
pub fn copy_permissions(from: &File, to: &File) -> io::Result<()> {
    let mode = from.metadata()?.mode() & 0o666 | 0o600;
    // SAFETY: fchmod takes a descriptor, which `to` keeps open, and an integer.
    check(unsafe { libc::fchmod(to.as_raw_fd(), mode as libc::mode_t) }).map(drop)
}

/// Makes `to`, which is empty, a file that shares its blocks on the disk with `from`. Fails iff the file system can't.
#[cfg(target_os = "linux")]
pub fn clone_file(from: &File, to: &File) -> io::Result<()> {
    within_file_size_limit(from.metadata()?.len())?; // else the ioctl sends SIGXFSZ
    let shared = |to: &File| {
        // SAFETY: this ioctl takes two descriptors, which the files keep open.
        check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) }).map(drop)
    };
    // btrfs shares blocks only between files that both have NOCOW, or both have not.
    let result = shared(to).or_else(|error| match set_no_copies(to, false) {
        true if error.raw_os_error() == Some(libc::EINVAL) => shared(to),
        _ => Err(error),
    });
    result.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::EXDEV | libc::ENOTTY) => io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        _ => error,
    })
}

#[cfg(not(target_os = "linux"))]
pub fn clone_file(_: &File, _: &File) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// The start of the first data of the file at or behind `at`, at most `end`; `at` if the system does not know. Moves the position.
pub fn data_from(file: &File, at: u64, end: u64) -> u64 {
    match seek(file, at, libc::SEEK_DATA) {
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => end,
        data => data.unwrap_or(at).min(end),
    }
}

/// Sets the length of a file. Fails iff it is above RLIMIT_FSIZE, or as ftruncate(2).
pub fn extend(file: &File, len: u64) -> Result<()> {
    let set = within_file_size_limit(len).and_then(|()| set_length(file, len));
    set.map_err(Error::system("set the length of the file"))
}

/// Opens some file, to keep a descriptor free.
pub fn spare_descriptor() -> Option<File> {
    open_file(c"/", libc::O_RDONLY).ok()
}

/// Identifies a file among all open files: device and number.
pub type FileId = (u64, u64);

#[cfg(any(target_os = "android", all(target_os = "linux", not(target_env = "gnu"))))]
use libc::lstat;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
use libc::{fstat, stat};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use libc::{fstat64 as fstat, lstat64 as lstat, stat64 as stat};

/// The file that a descriptor is open on.
pub fn file_of(fd: c_int) -> io::Result<FileId> {
    // SAFETY: `file_from` passes a place for the result.
    file_from(|info| unsafe { fstat(fd, info) })
}

/// The file with this name. A symbolic link is not followed.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn file_at(path: &CStr) -> io::Result<FileId> {
    // SAFETY: as above, and the path is a C string.
    file_from(|info| unsafe { lstat(path.as_ptr(), info) })
}

fn file_from(ask: impl FnOnce(*mut stat) -> c_int) -> io::Result<FileId> {
    let mut info = std::mem::MaybeUninit::<stat>::uninit();
    check(ask(info.as_mut_ptr()))?;
    // SAFETY: a call that succeeds fills it.
    let info = unsafe { info.assume_init() };
    #[allow(clippy::unnecessary_cast)] // not u64 on all systems
    Ok((info.st_dev as u64, info.st_ino as u64))
}

/// The first descriptor above stdin, stdout and stderr.
const FIRST_DESCRIPTOR: c_int = libc::STDERR_FILENO + 1;

fn duplicate(fd: c_int) -> io::Result<File> {
    // SAFETY: fcntl takes integers. Nobody else has the descriptor that it returns.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR) });
    match copy {
        // SAFETY: as above.
        Ok(fd) => Ok(unsafe { File::from_raw_fd(fd as c_int) }),
        // The limit of the process is three descriptors or fewer.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        Err(e) => Err(e),
    }
}

/// Opens the directory in which a new file at `path` will be, to be synced with the file's first sync. If `path` is a symbolic link, it is
/// the directory of its target. Returns None if the process may not read the directory.
fn open_directory_of(path: &CStr) -> Result<Option<File>> {
    const LINKS: u32 = 40; // as many as open(2) follows
    const NO_NUL: Error = Error::Incompatible("its path has a NUL in it");
    let mut path = try_c_string(path.to_bytes())?.ok_or(NO_NUL)?;
    for _ in 0..LINKS {
        let Some(target) = read_link(&path)? else { break };
        let directory = directory_of(&path).len();
        let mut joined = path.into_bytes();
        joined.truncate(if target.starts_with(b"/") { 0 } else { directory });
        joined.try_reserve_exact(target.len())?;
        joined.extend_from_slice(&target);
        path = try_c_string(&joined)?.ok_or(NO_NUL)?;
    }
    let directory = match directory_of(&path) {
        [] => b".",
        directory => directory,
    };
    let directory = try_c_string(directory)?.ok_or(NO_NUL)?;
    match open_file(&directory, libc::O_RDONLY | libc::O_DIRECTORY) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        result => result.map(Some).map_err(Error::system("open the directory of the file")),
    }
}

/// The path up to and including the last slash.
fn directory_of(path: &CStr) -> &[u8] {
    let path = path.to_bytes();
    &path[..path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)]
}

/// The target of the symbolic link at `path`; None if it is no symbolic link.
fn read_link(path: &CStr) -> Result<Option<Vec<u8>>> {
    let mut target = Vec::<u8>::new();
    target.try_reserve_exact(libc::PATH_MAX as usize)?;
    // SAFETY: readlink takes a C string and a buffer of the given size. It writes as many bytes as it returns.
    unsafe {
        match libc::readlink(path.as_ptr(), target.as_mut_ptr().cast(), target.capacity()) {
            len @ 0.. => target.set_len(len as usize),
            _ => return Ok(None),
        }
    }
    Ok(Some(target))
}

pub(super) fn check(result: impl Into<i64>) -> io::Result<i64> {
    let result = result.into();
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
