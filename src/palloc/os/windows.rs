// SPDX-License-Identifier: MIT OR Apache-2.0
//! CreateFile, LockFileEx, file mappings, and descriptors of the C runtime.
//!
//! A mapping can't reach beyond the end of its file, and a mapped file can't be cut. So growth maps the file again, and a cut removes the
//! mapping for a moment. If the program has addresses, the mapping must stay. Then growth leaves the old mapping beside the new one,
//! which is longer than needed, so that there are few mappings; and the file can't be cut before it is closed.
//!
//! All work is done on a file object of our own, so the position of the program's descriptor does not change.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::{AsRawHandle, FromRawHandle, IntoRawHandle, RawHandle};
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};
use windows_sys::Win32::Foundation::{
    ERROR_COMMITMENT_LIMIT, ERROR_FILE_EXISTS, ERROR_FILENAME_EXCED_RANGE, ERROR_HANDLE_DISK_FULL,
    ERROR_INVALID_HANDLE, ERROR_INVALID_NAME, ERROR_LOCK_VIOLATION, ERROR_NOT_SUPPORTED, ERROR_SHARING_VIOLATION,
    ERROR_TOO_MANY_OPEN_FILES, ERROR_USER_MAPPED_FILE, GENERIC_READ, GENERIC_WRITE, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_FLAG_WRITE_THROUGH, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
    FILE_STANDARD_INFO, FILE_TYPE_DISK, FileStandardInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
    GetFileType, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, ReOpenFile, ReadFile, WriteFile,
};
use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0};

use super::{Buffer, Descriptor, empty_if_forced, retry, write_zeros};
use crate::palloc::{Error, Flags, Result, try_c_string};

const NO_FILE: &str = "neither a file nor a block device";
const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// It has no values: `MappedFile::flusher` returns None.
pub enum Flusher {}

impl Flusher {
    pub fn flush(self) -> Result<()> {
        match self {}
    }
}

/// An open file that the library keeps. Handles are no descriptors: a program does not close one by its number.
pub struct KeptFile(File);

impl KeptFile {
    pub fn new(file: File) -> io::Result<KeptFile> {
        Ok(KeptFile(file))
    }

    pub fn still_open(&self) -> io::Result<()> {
        Ok(())
    }

    /// For as long as this exists.
    pub fn borrow(&self) -> Borrowed {
        self.0.as_raw_handle()
    }
}

impl Deref for KeptFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

/// A [`KeptFile`] that somebody else keeps.
pub type Borrowed = RawHandle;

/// A file.
pub struct MappedFile {
    // First, because fields are dropped in this order: a mapping keeps the lock.
    window: MmapRaw,
    outgrown: Vec<MmapRaw>,
    file: File,
    /// The length of the file and of the window.
    end: u64,
    /// Whether a failed growth left zeros behind the end that could not be cut off yet.
    overlong: bool,
    writable: bool,
    durable: bool,
    /// Whether the program may use addresses in the window.
    keeps: Cell<bool>,
}

impl MappedFile {
    /// Opens and locks the file. It is created if it does not exist and `flags` has DYNAMIC.
    pub fn open(path: &CStr, flags: Flags) -> Result<MappedFile> {
        let path = path.to_str().map_err(|_| Error::Incompatible("its path is not UTF-8"))?;
        let writable = !flags.contains(Flags::READONLY);
        let durable = flags.contains(Flags::SYNC) && writable;
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .create(writable && flags.contains(Flags::DYNAMIC))
            .custom_flags(if durable { FILE_FLAG_WRITE_THROUGH } else { 0 })
            .open(path)
            .map_err(|source| not_opened(path, source))?;
        MappedFile::of_file(file, flags, durable)
    }

    /// As `open`, for the file that the program's descriptor is open on. The descriptor stays open, with its position in the file.
    pub fn of_descriptor(fd: c_int, flags: Flags) -> Result<MappedFile> {
        const USING: &str = "use the descriptor";
        let handle = handle_of(fd).map_err(Error::system(USING))?;
        if !is_file(handle) {
            return Err(Error::Incompatible(NO_FILE)); // before a read, which would wait for the other end of a pipe
        }
        let writable = !flags.contains(Flags::READONLY);
        if !is_readable(handle) || (writable && !is_writable(handle)) {
            return Err(Error::System { doing: "read and write with the descriptor", source: bad_descriptor() });
        }
        let file = open_again(handle, writable, false).map_err(Error::system(USING))?;
        MappedFile::of_file(file, flags, false)
    }

    /// Opens a file for reading while another process writes it, without a lock.
    pub fn open_beside_writer(path: &CStr) -> Result<MappedFile> {
        let path = text_of(path)?;
        let file = File::open(path).map_err(|source| not_opened(path, source))?;
        if !is_file(file.as_raw_handle()) {
            return Err(Error::Incompatible(NO_FILE));
        }
        MappedFile::mapped(file, Flags::READONLY, false)
    }

    /// The file has become longer, by another process.
    pub fn follow(&mut self, end: u64) -> Result<()> {
        if end > self.end {
            self.outgrown.try_reserve(1)?;
            let longer = map(&self.file, end, false)?;
            self.outgrown.push(std::mem::replace(&mut self.window, longer));
            self.end = end;
        }
        Ok(())
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn of_file(file: File, flags: Flags, durable: bool) -> Result<MappedFile> {
        let writable = !flags.contains(Flags::READONLY);
        if !is_file(file.as_raw_handle()) {
            return Err(Error::Incompatible(NO_FILE));
        }
        lock(&file, writable)?;
        MappedFile::mapped(file, flags, durable)
    }

    fn mapped(file: File, flags: Flags, durable: bool) -> Result<MappedFile> {
        let writable = !flags.contains(Flags::READONLY);
        let mut end = file.metadata().map_err(Error::system("find the end of the file"))?.len();
        let window = map(&file, end, writable).or_else(|error| {
            end = empty_if_forced(&file, end, flags, error)?;
            map(&file, end, writable)
        })?;
        Ok(MappedFile {
            window,
            outgrown: Vec::new(),
            file,
            end,
            overlong: false,
            writable,
            durable,
            keeps: Cell::new(false),
        })
    }

    /// A descriptor of the same file for the program, which may close it.
    pub fn descriptor(&self) -> Result<Descriptor> {
        let file = open_again(self.file.as_raw_handle(), self.writable, self.durable);
        let opened = file.and_then(|file| descriptor_over(file, self.writable));
        let opened = opened.map_err(Error::system("make a descriptor"))?;
        // If it is one of stdin, stdout and stderr, `opened` keeps it, so the next call gets another.
        if opened.number > 2 { Ok(opened) } else { self.descriptor() }
    }

    /// Another handle of the same open file, which the library keeps for a call.
    pub fn duplicate_file(&self) -> Result<File> {
        self.file.try_clone().map_err(Error::system("make a handle"))
    }

    /// From now on, a drop of this is like a kill.
    pub fn forget(&mut self) {
        self.overlong = false;
    }

    /// Whether the program's writes with its descriptor are on the disk when they return. False for a descriptor that the program opened:
    /// the system does not report it.
    pub fn writes_through(&self) -> bool {
        self.durable
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
        true
    }

    /// Moves the end up, further than `end` if the old mapping stays. New bytes are zero and have space on the disk. On failure the end does
    /// not change.
    pub fn grow(&mut self, end: u64) -> Result<()> {
        if !self.keeps.get() {
            return self.grow_to(end);
        }
        // Markers stay in step.
        self.grow_to(end + end / 8 / 16 * 16).or_else(|_| self.grow_to(end))
    }

    fn grow_to(&mut self, end: u64) -> Result<()> {
        let longer = self.allocate_to(end).and_then(|()| {
            self.outgrown.try_reserve(1)?;
            map(&self.file, end, true)
        });
        match longer {
            Ok(longer) => {
                let old = std::mem::replace(&mut self.window, longer);
                if self.keeps.replace(false) {
                    self.outgrown.push(old);
                }
                // A failed attempt to grow further may have left the file longer.
                self.overlong = self.file.metadata().map_or(true, |file| file.len() > end);
                self.end = end;
                Ok(())
            }
            Err(error) => {
                self.overlong = self.file.set_len(self.end).is_err();
                self.take_back();
                Err(error)
            }
        }
    }

    fn take_back(&mut self) {
        if self.overlong && self.can_be_cut() {
            self.overlong = self.cut(self.end).is_err();
        }
    }

    fn allocate_to(&self, end: u64) -> Result<()> {
        const GROWING: &str = "allocate space for the file";
        let len = self.file.metadata().map_err(Error::system(GROWING))?.len();
        if len < end {
            self.file.set_len(end).map_err(Error::system(GROWING))?;
        }
        if self.allocated() < end {
            // The file is sparse, or the file system allocates late.
            write_zeros(&self.file, self.end, end - self.end).map_err(Error::system(GROWING))?;
        }
        Ok(())
    }

    /// Moves the end down. Fails with Locked iff another process has the file mapped.
    pub fn cut(&mut self, end: u64) -> Result<()> {
        if !self.can_be_cut() {
            let source = io::Error::from_raw_os_error(ERROR_USER_MAPPED_FILE as i32);
            return Err(Error::System { doing: CUTTING, source });
        }
        let nothing = MmapOptions::new().len(1).map_anon().map_err(Error::system(MAPPING))?;
        self.window = nothing.into();
        let cut = self.file.set_len(end).map_err(|source| match source.raw_os_error() {
            Some(code) if code == ERROR_USER_MAPPED_FILE as i32 => Error::Locked, // a live reader has it mapped
            _ => Error::System { doing: CUTTING, source },
        });
        if cut.is_ok() {
            self.end = end;
        }
        // The file was mapped a moment ago. If the address space or the memory is gone since, the process ends.
        self.window = map(&self.file, self.end, true).expect("a file that was mapped can be mapped again");
        cut
    }

    /// False if a mapping must stay.
    pub fn can_be_cut(&self) -> bool {
        !self.keeps.get() && self.outgrown.is_empty()
    }

    /// From now on the program may use addresses in the file.
    pub fn keep_mappings(&self) {
        self.keeps.set(true);
    }

    /// Whether every mapping stays until the medium is closed.
    #[inline]
    pub fn keeps_mappings(&self) -> bool {
        self.keeps.get()
    }

    /// From now on it uses none of them.
    pub fn drop_outgrown_mappings(&mut self) {
        self.keeps.set(false);
        self.outgrown.clear();
        self.take_back();
    }

    /// Brings all stores so far to the disk.
    pub fn flush(&mut self) -> Result<()> {
        // Each mapping has its own record of changed pages.
        let mut views = self.outgrown.iter().chain([&self.window]);
        let written = views.try_for_each(|view| view.flush_async());
        written.and_then(|()| self.file.sync_all()).map_err(Error::system("write the file to the disk"))
    }

    /// Brings the bytes of a range to the disk. Here, those of the whole file.
    pub fn flush_range(&mut self, _at: u64, _len: u64) -> Result<()> {
        self.flush()
    }

    /// None: growth in another thread may remove the mapping that is being written back.
    pub fn flusher(&self) -> Option<Flusher> {
        None
    }

    /// Whether all bytes from `at` to `stop` are zero.
    pub fn is_zero(&self, at: u64, stop: u64) -> Result<bool> {
        let mut buffer = Buffer::new();
        let buffer = buffer.bytes();
        let mut at = at;
        while at < stop {
            let wanted = (stop - at).min(buffer.len() as u64) as usize;
            let result = retry(|| read_at(&self.file, &mut buffer[..wanted], at)).and_then(|n| match n {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                n => Ok(n),
            });
            let n = result.map_err(Error::system("read the file"))?;
            if buffer[..n].iter().any(|&b| b != 0) {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }

    /// The start of the first data at or behind `at`; always `at` here.
    pub fn data_from(&self, at: u64) -> u64 {
        at
    }

    /// The first data at or behind `at`: its start and its end. Fails iff the file has holes: their places are not asked for.
    pub fn next_data(&self, at: u64) -> io::Result<(u64, u64)> {
        if self.allocated() < self.end { Err(io::ErrorKind::Unsupported.into()) } else { Ok((at, u64::MAX)) }
    }

    pub fn restore_position(&self) -> Result<()> {
        Ok(())
    }

    pub fn do_loads_fill_holes(&self) -> bool {
        false
    }

    pub fn read_exact(&self, _bytes: &mut [u8], _at: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// An upper bound of the bytes that are allocated on the disk.
    pub fn allocated(&self) -> u64 {
        let mut info = MaybeUninit::<FILE_STANDARD_INFO>::uninit();
        let size = size_of::<FILE_STANDARD_INFO>() as u32;
        // SAFETY: takes a handle, which `file` keeps open; the out parameter is a local of the size said, which a call that succeeds
        // fills.
        unsafe {
            let handle = self.file.as_raw_handle();
            match GetFileInformationByHandleEx(handle, FileStandardInfo, info.as_mut_ptr().cast(), size) {
                0 => u64::MAX,
                _ => info.assume_init().AllocationSize as u64,
            }
        }
    }

    /// Always false: no system call allocates space in the middle of a file that then reads as zeros.
    pub fn allocate(&self, _at: u64, _len: u64, _new: u64) -> Result<bool> {
        Ok(false)
    }

    /// Writes zeros to the range, so that it is allocated. Precondition: the range is zeros, and nobody else writes there.
    pub fn write_zeros(&self, at: u64, len: u64) -> Result<()> {
        write_zeros(&self.file, at, len).map_err(Error::system("allocate space for the file"))
    }

    pub fn populate(&self, _at: u64, _len: u64) -> Result<bool> {
        Ok(false)
    }

    /// Not on this system, as the next two.
    pub fn advise_far_apart(&self, _far_apart: bool) {}

    pub fn start_reading(&self, _at: u64, _len: u64) {}

    pub fn is_in_memory(&self, _at: u64) -> bool {
        true
    }

    /// The page size. A store needs space on the disk for its whole page.
    pub fn page(&self) -> u64 {
        4096
    }

    /// Always fails: not tried under a mapping.
    pub fn punch_hole(&self, _at: u64, _len: u64) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(ERROR_NOT_SUPPORTED as i32))
    }
}

/// A descriptor of the C runtime that this library is linked with.
fn descriptor_over(file: File, writable: bool) -> io::Result<Descriptor> {
    let flags = libc::O_BINARY | libc::O_NOINHERIT | if writable { libc::O_RDWR } else { libc::O_RDONLY };
    let handle = file.into_raw_handle();
    // SAFETY: the handle is open, and nobody else has it. From now on it belongs to the descriptor.
    let number = unsafe { libc::open_osfhandle(handle as isize, flags) };
    if number < 0 {
        // SAFETY: open, and still ours.
        drop(unsafe { File::from_raw_handle(handle) });
        return Err(io::Error::from_raw_os_error(ERROR_TOO_MANY_OPEN_FILES as i32));
    }
    match file_of(number) {
        Ok(of) => Ok(Descriptor { number, of }),
        Err(error) => {
            // SAFETY: open, and ours.
            unsafe { close_descriptor(number) };
            Err(error)
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
    io::Error::from_raw_os_error(ERROR_INVALID_HANDLE as i32)
}

pub fn already_exists() -> io::Error {
    io::Error::from_raw_os_error(ERROR_FILE_EXISTS as i32)
}

/// The error's number in C.
pub fn errno_of(error: &io::Error) -> c_int {
    match error.raw_os_error().map(|code| code as u32) {
        Some(ERROR_INVALID_HANDLE) => return libc::EBADF,
        Some(ERROR_TOO_MANY_OPEN_FILES) => return libc::EMFILE,
        Some(ERROR_HANDLE_DISK_FULL) => return libc::ENOSPC,
        Some(ERROR_COMMITMENT_LIMIT) => return libc::ENOMEM,
        Some(ERROR_SHARING_VIOLATION) => return libc::EACCES,
        Some(ERROR_INVALID_NAME) => return libc::ENOENT,
        Some(ERROR_NOT_SUPPORTED) => return libc::EOPNOTSUPP,
        Some(ERROR_FILENAME_EXCED_RANGE) => return libc::ENAMETOOLONG,
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::NotFound => libc::ENOENT,
        io::ErrorKind::AlreadyExists => libc::EEXIST,
        io::ErrorKind::PermissionDenied => libc::EACCES,
        io::ErrorKind::ReadOnlyFilesystem => libc::EROFS,
        io::ErrorKind::StorageFull => libc::ENOSPC,
        io::ErrorKind::FileTooLarge => libc::EFBIG,
        io::ErrorKind::OutOfMemory => libc::ENOMEM,
        io::ErrorKind::InvalidInput => libc::EINVAL,
        _ => libc::EIO,
    }
}

/// The absolute path; `path` itself if the system can't find it.
pub fn absolute_path(path: &CStr) -> Result<CString> {
    let absolute = path.to_str().ok().and_then(|path| std::path::absolute(path).ok());
    let path = absolute.as_deref().and_then(Path::to_str).map_or(path.to_bytes(), str::as_bytes);
    Ok(try_c_string(path)?.expect("a C string has no NUL in it"))
}

/// The path as a C string.
pub fn c_path(path: &Path) -> Result<CString> {
    let path = path.to_str().ok_or(Error::Incompatible("its path is not Unicode"))?;
    try_c_string(path.as_bytes())?.ok_or(Error::Incompatible("its path has a NUL in it"))
}

pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(bytes, at)
}

pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.seek_write(bytes, at)
}

pub(super) fn set_length(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
}

/// Locks one byte far beyond every file. A lock on the file's bytes would also exclude the program's descriptor.
fn lock(file: &File, exclusive: bool) -> Result<()> {
    let how = LOCKFILE_FAIL_IMMEDIATELY | if exclusive { LOCKFILE_EXCLUSIVE_LOCK } else { 0 };
    let at = OVERLAPPED_0_0 { Offset: u32::MAX - 1, OffsetHigh: i32::MAX as u32 };
    let mut at = OVERLAPPED { Anonymous: OVERLAPPED_0 { Anonymous: at }, ..Default::default() };
    // SAFETY: takes a handle, which `file` keeps open, and a local.
    if unsafe { LockFileEx(file.as_raw_handle(), how, 0, 1, 0, &mut at) } != 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(ERROR_LOCK_VIOLATION as i32) => Err(Error::Locked),
        e => Err(Error::System { doing: "lock the file", source: e }),
    }
}

const MAPPING: &str = "map the file";
const CUTTING: &str = "cut the file";

/// Maps the file. An empty file can't be mapped: a page of memory, which is not used, replaces it.
fn map(file: &File, len: u64, writable: bool) -> Result<MmapRaw> {
    let mut options = MmapOptions::new();
    let mapped = match usize::try_from(len) {
        Ok(0) => options.len(1).map_anon().map(MmapRaw::from),
        Ok(len) if writable => options.len(len).map_raw(file),
        Ok(len) => options.len(len).map_raw_read_only(file),
        Err(_) => Err(io::ErrorKind::OutOfMemory.into()),
    };
    mapped.map_err(Error::system(MAPPING))
}

/// Opens the same file with a new file object, which has a lock and a position of its own.
fn open_again(handle: RawHandle, writable: bool, durable: bool) -> io::Result<File> {
    let access = GENERIC_READ | if writable { GENERIC_WRITE } else { 0 };
    // SAFETY: takes an open handle, and integers. Nobody else has the handle that it returns.
    unsafe {
        let new = ReOpenFile(handle, access, SHARE_ALL, if durable { FILE_FLAG_WRITE_THROUGH } else { 0 });
        if new == INVALID_HANDLE_VALUE { Err(io::Error::last_os_error()) } else { Ok(File::from_raw_handle(new)) }
    }
}

/// The handle of a descriptor. It is open as long as the descriptor.
fn handle_of(fd: c_int) -> io::Result<RawHandle> {
    // SAFETY: takes an integer.
    let handle = unsafe { libc::get_osfhandle(fd) };
    // -2: a standard stream that the program was started without.
    if handle == -1 || handle == -2 { Err(bad_descriptor()) } else { Ok(handle as RawHandle) }
}

pub(super) fn is_file(handle: RawHandle) -> bool {
    // SAFETY: takes a handle that is open.
    unsafe { GetFileType(handle) == FILE_TYPE_DISK }
}

/// Whether the handle allows reading.
fn is_readable(handle: RawHandle) -> bool {
    let mut read = 0;
    // SAFETY: takes a handle that is open; reads no byte, so that the position stays.
    unsafe { ReadFile(handle, [].as_mut_ptr(), 0, &mut read, std::ptr::null_mut()) != 0 }
}

/// Whether the handle allows writing.
fn is_writable(handle: RawHandle) -> bool {
    let mut written = 0;
    // SAFETY: takes a handle that is open; writes no byte, so that the position stays.
    unsafe { WriteFile(handle, [].as_ptr(), 0, &mut written, std::ptr::null_mut()) != 0 }
}

/// The error of an open that failed. The system reports a directory as a file without permission.
fn not_opened(path: &str, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied if Path::new(path).is_dir() => Error::Incompatible(NO_FILE),
        _ => Error::System { doing: "open", source },
    }
}

/// Opens a file for reading, and locks it as PALLOC_READONLY does. Returns its length too.
pub fn open_to_read(path: &CStr) -> Result<(File, u64)> {
    let path = text_of(path)?;
    let file = File::open(path).map_err(|source| not_opened(path, source))?;
    if !is_file(file.as_raw_handle()) {
        return Err(Error::Incompatible(NO_FILE));
    }
    lock(&file, false)?;
    let end = file.metadata().map_err(Error::system("find the end of the file"))?.len();
    Ok((file, end))
}

/// The same file, open anew for reading.
pub fn open_again_to_read(file: &File) -> Option<File> {
    file.try_clone().ok()
}

/// Creates a file. Fails iff there is one with this name.
pub fn create_new(path: &CStr) -> io::Result<File> {
    let path = path.to_str().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

fn text_of(path: &CStr) -> Result<&str> {
    path.to_str().map_err(|_| Error::Incompatible("its path is not UTF-8"))
}

/// Whether something has this name.
pub fn exists(path: &CStr) -> bool {
    path.to_str().is_ok_and(|path| Path::new(path).exists())
}

/// Gives a file a new name, which nothing must have, and takes the old one from it.
pub fn give_name(old: &CStr, new: &CStr) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let (old_path, new_path) = (old.to_str().map_err(invalid)?, new.to_str().map_err(invalid)?);
    match std::fs::hard_link(old_path, new_path) {
        Ok(()) => {
            remove(old);
            Ok(())
        }
        Err(_) if exists(new) => Err(already_exists()),
        Err(_) => std::fs::rename(old_path, new_path), // a file system without links, such as FAT
    }
}

/// Removes a file, if it is there.
pub fn remove(path: &CStr) {
    if let Ok(path) = path.to_str() {
        let _ = std::fs::remove_file(path);
    }
}

/// Directories can't be synced here.
pub fn sync_directory_of(_: &CStr) -> Result<()> {
    Ok(())
}

/// A new file has the access rights of its directory.
pub fn copy_permissions(_: &File, _: &File) -> io::Result<()> {
    Ok(())
}

/// Not on this system.
pub fn clone_file(_: &File, _: &File) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(ERROR_NOT_SUPPORTED as i32))
}

/// Always `at` here.
pub fn data_from(_: &File, at: u64, _: u64) -> u64 {
    at
}

/// Sets the length of a file.
pub fn extend(file: &File, len: u64) -> Result<()> {
    set_length(file, len).map_err(Error::system("set the length of the file"))
}

/// There are no such limits.
pub fn within_file_size_limit(_: u64) -> io::Result<()> {
    Ok(())
}

/// As it is.
pub fn error_of_mapping(error: io::Error) -> io::Error {
    error
}

/// Brings the bytes of a file to the disk, with all that is known of the file.
pub fn sync_all(file: &File) -> io::Result<()> {
    file.sync_all()
}

pub fn spare_descriptor() -> Option<File> {
    None
}

/// Identifies a file among all open files: volume and number.
pub type FileId = (u64, u64);

/// The file that a descriptor is open on; zeros for a pipe or the like.
pub fn file_of(fd: c_int) -> io::Result<FileId> {
    let handle = handle_of(fd)?;
    if is_file(handle) { id_of(handle) } else { Ok((0, 0)) }
}

pub(super) fn id_of(handle: RawHandle) -> io::Result<FileId> {
    let mut info = MaybeUninit::<BY_HANDLE_FILE_INFORMATION>::uninit();
    // SAFETY: takes a handle that is open; the out parameter is a local, which a call that succeeds fills.
    let info = unsafe {
        match GetFileInformationByHandle(handle, info.as_mut_ptr()) {
            0 => return Err(io::Error::last_os_error()),
            _ => info.assume_init(),
        }
    };
    let number = (info.nFileIndexHigh as u64) << 32 | info.nFileIndexLow as u64;
    Ok((info.dwVolumeSerialNumber as u64, number))
}
