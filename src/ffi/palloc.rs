// SPDX-License-Identifier: MIT OR Apache-2.0
//! `palloc.h`: the documented functions of palloc over a `struct palloc_t *`, and our additions.
#![allow(non_camel_case_types)]

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::{self, Write};
use std::ops::ControlFlow;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use libc::size_t;

use super::{ErrorText, errno, get_errno, set_errno};
use crate::palloc::{self as engine, Changes, Error, Flags, Locked, Palloc, Sharing};

/// No flags: a static medium, which keeps the size of the file.
pub const PALLOC_DEFAULT: u32 = 0;
/// The medium grows and shrinks with its blobs. For a medium that is already initialized, the bit in its header counts.
pub const PALLOC_DYNAMIC: u32 = 1;
/// Every operation is on the disk when it returns. `descriptor` has O_DSYNC, so the program's writes with it are on the disk when they
/// return, too. Stores through the address that palloc_data returned are on the disk after palloc_sync.
pub const PALLOC_SYNC: u32 = 2;
/// Open with a shared lock. Nothing is written, not even a repair; palloc, pfree and prealloc fail with EROFS.
pub const PALLOC_READONLY: u32 = 4;
/// Make a medium of a file that holds something else, or of a damaged medium. A sound medium is kept. A medium that is open elsewhere, or
/// has PALLOC_EXTENDED, is still refused; on Linux a block device too that is in use, such as by a mounted file system.
pub const PALLOC_FORCE: u32 = 8;
/// Other processes may read the medium while this one writes it: see "Live readers" above. With PALLOC_READONLY: be such a reader.
pub const PALLOC_SHARED: u32 = 16;
/// For palloc_salvage: a range that is lost becomes a free block, not a live one.
pub const PALLOC_SALVAGE_FREE: u32 = 16;
/// For palloc_snapshot: the copy shares its blocks on the disk with the medium.
pub const PALLOC_SNAPSHOT_CLONE: u32 = 32;
/// Reserved: its layout is not defined. A medium that has it is refused.
pub const PALLOC_EXTENDED: u32 = 1u32 << 31;

/// An open medium. A program may read the fields and must not write them; first_free and size may change with each call. palloc_init makes
/// the struct, which may be longer than shown here: use it by pointer only.
#[repr(C)]
pub struct palloc_t {
    /// The absolute path, without symbolic links, `.` and `..`. If the system can't find it, the path that was given to palloc_init.
    pub filename: *mut c_char,
    /// A descriptor of the file, larger than 2, for reading and writing blobs with pread(2), pwrite(2), or lseek(2) with read(2) and
    /// write(2). The library uses another one, so a program may close this one.
    pub descriptor: c_int,
    /// PALLOC_DYNAMIC if the medium grows; PALLOC_SYNC if every operation is durable.
    pub flags: u32,
    /// Where the first block begins: 8.
    pub header_size: u32,
    /// Start of a free block, 0 if no block is free but those that threads keep. After palloc_init and palloc_sync it is the lowest one.
    pub first_free: u64,
    /// End of the last block. A dynamic medium's file may be longer while it is open.
    pub size: u64,
    /// For palloc_at only: where the medium is mapped.
    pub at_base: *mut c_char,
    /// For palloc_at only: how many bytes it may find there.
    pub at_size: size_t,
}

/// Counts of a medium. Bytes are those of blocks' data, without the 16 bytes of markers of each block.
#[repr(C)]
pub struct palloc_stat {
    /// End of the last block, as `size` in struct palloc_t.
    pub medium_size: u64,
    /// How many blobs are allocated.
    pub live_blobs: u64,
    /// Sum of their palloc_size.
    pub live_bytes: u64,
    /// How many blocks are free.
    pub free_blocks: u64,
    /// Sum of their sizes.
    pub free_bytes: u64,
    /// The size of the largest of them: the largest blob that a static medium can allocate. A dynamic one grows.
    pub largest_free: u64,
}

/// The live readers of a medium.
#[repr(C)]
pub struct palloc_readers {
    /// How many readers are open.
    pub open: u32,
    /// How many of them are in a read section.
    pub reading: u32,
    /// The process id of the reader whose section is the oldest, 0 if none is in a section. It is the id that the process itself sees: in
    /// another container it means another process.
    pub oldest_pid: i64,
    /// Bytes of blobs that were freed or moved, and are not reused yet because a reader may be reading them.
    pub held_bytes: u64,
    /// The process id of the writer, as it sees itself.
    pub writer_pid: i64,
}

/// The findings of palloc_salvage.
#[repr(C)]
pub struct palloc_salvage {
    /// The blobs in the copy, without those in the place of lost ranges.
    pub blobs: u64,
    /// Blocks one of whose markers was damaged, and is mended.
    pub healed: u64,
    /// Ranges that are lost: of their blocks nothing is known, or their bytes could not be read.
    pub lost_ranges: u64,
    /// Bytes of these ranges.
    pub lost_bytes: u64,
}

/// Called for each block: `ptr` is the offset of its data, `size` the size of its data, `is_free` 1 or 0. A result other than 0 ends the
/// walk. The function must return: no longjmp, no exception.
pub type palloc_walk_fn = Option<unsafe extern "C" fn(user: *mut c_void, ptr: u64, size: u64, is_free: c_int) -> c_int>;

/// Called for each violation of the format: `offset` is that of the block, `what` describes the violation and is valid during the call.
/// The function must return: no longjmp, no exception.
pub type palloc_report_fn = Option<unsafe extern "C" fn(user: *mut c_void, offset: u64, what: *const c_char)>;

/// Given to a palloc_trace_fn, which calls it with its `mark` and an offset that the blob holds. 0 is ignored.
pub type palloc_visit_fn = Option<unsafe extern "C" fn(mark: *mut c_void, ptr: u64)>;

/// Calls `visit(mark, p)` for each offset `p` that the blob at `ptr` holds. `data` are its `size` bytes. A result other than 0 ends the call
/// of palloc_unreachable. The function must return: no longjmp, no exception.
pub type palloc_trace_fn = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        ptr: u64,
        data: *const c_void,
        size: u64,
        visit: palloc_visit_fn,
        mark: *mut c_void,
    ) -> c_int,
>;

/// The memory behind the pointer that palloc_init returns: the documented fields, then private ones.
#[repr(C, align(8))] // the atomic fields of `public`; 32-bit machines align a u64 to 4
struct Handle {
    public: UnsafeCell<palloc_t>,
    filename: CString,
    medium: Palloc,
    /// For the thread that has the medium's lock.
    transactions: UnsafeCell<TxHandles>,
}

/// A transaction: made by palloc_begin, gone after palloc_commit or palloc_cancel. One thread at a time uses it.
pub struct palloc_tx {
    pt: *mut palloc_t,
    changes: Changes,
}

/// The transactions that palloc_begin has made. palloc_close frees them.
#[derive(Default)]
struct TxHandles {
    /// The open ones first. The others are for the next palloc_begin.
    all: Vec<*mut palloc_tx>,
    open: usize,
}

impl TxHandles {
    /// One that is not open, the first behind the open ones.
    fn spare(&mut self, pt: *mut palloc_t) -> engine::Result<*mut palloc_tx> {
        if self.open == self.all.len() {
            self.all.try_reserve(1)?;
            let tx = engine::try_box(palloc_tx { pt, changes: Changes::default() })?;
            self.all.push(Box::into_raw(tx).cast());
        }
        Ok(self.all[self.open])
    }

    /// That one is open from now on.
    fn note_begun(&mut self) {
        self.open += 1;
    }

    /// An open one is over.
    fn note_over(&mut self, tx: *mut palloc_tx) {
        if let Some(place) = self.all[..self.open].iter().position(|&open| open == tx) {
            self.open -= 1;
            self.all.swap(place, self.open);
        }
    }
}

impl Drop for TxHandles {
    fn drop(&mut self) {
        for &tx in &self.all {
            // SAFETY: it came from Box::into_raw in `spare`, as a slice of one. No thread uses it any more.
            drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(tx, 1)) });
        }
    }
}

thread_local! {
    static ERROR: ErrorText = const { ErrorText::new() };
}

/// Leaves `error` in errno and in palloc_error(). A long path is cut at its start, so that the error fits too.
pub(super) fn report(function: &str, path: &CStr, error: &Error) {
    let path = path.to_bytes();
    let end = &path[path.len().saturating_sub(500)..];
    let dots = if end.len() < path.len() { "..." } else { "" };
    report_on(function, format_args!("{dots}{}", Lossy(end)), error);
}

/// Shows what is not UTF-8 as U+FFFD.
struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

pub(super) fn report_on(function: &str, what: fmt::Arguments<'_>, error: &Error) {
    ERROR.with(|text| text.set(format_args!("{function}: {what}: {error}")));
    set_errno(errno_of(error));
}

#[cfg(not(windows))]
const ESTALE: c_int = libc::ESTALE;
#[cfg(windows)]
const ESTALE: c_int = libc::EOWNERDEAD; // Windows has no such number

/// The one place where an error becomes a number.
fn errno_of(error: &Error) -> c_int {
    match error {
        Error::System { source, .. } => engine::errno_of(source),
        Error::OutOfMemory | Error::TooLarge(_) => libc::ENOMEM,
        Error::NotAMedium
        | Error::NoHeader
        | Error::Incompatible(_)
        | Error::BadFlags(_)
        | Error::BeyondEnd(_)
        | Error::NoBlob(_)
        | Error::NoBlock(_)
        | Error::OutOfBlob { .. }
        | Error::NotInBlob { .. }
        | Error::FreedByTransaction(_)
        | Error::NoBlobOfTransaction(_)
        | Error::RootTooShort { .. }
        | Error::RootInTransaction
        | Error::BadAlignment(_)
        | Error::NoAddress => libc::EINVAL,
        Error::Extended => libc::ENOTSUP,
        Error::Sharing(sharing) => match sharing {
            Sharing::NoWriter => ESTALE,
            Sharing::InSection | Sharing::NameInUse => libc::EWOULDBLOCK,
            Sharing::TooManyReaders | Sharing::TooManySections => libc::EAGAIN,
            Sharing::Reader | Sharing::Remote => libc::ENOTSUP,
            Sharing::Foreign => libc::EEXIST,
            Sharing::NotReader | Sharing::NotShared | Sharing::NoSection => libc::EINVAL,
        },
        Error::Locked => libc::EWOULDBLOCK,
        Error::Damaged { .. } => libc::EILSEQ,
        Error::Full { .. } | Error::TooManyChanges { .. } => libc::ENOSPC,
        Error::ReadOnly | Error::Unfinished => libc::EROFS,
        Error::Busy | Error::Held => libc::EBUSY,
        Error::SyncFailed(_) => libc::EIO,
        Error::TooManyTransactions => libc::EMFILE,
    }
}

pub(super) fn invalid(function: &str, what: &str) {
    ERROR.with(|text| text.set(format_args!("{function}: {what}")));
    set_errno(libc::EINVAL);
}

impl Handle {
    /// The transactions. They are not used any more when the lock is given back, or this is called again.
    fn transactions<'a>(&'a self, _lock: &'a mut Locked<'_>) -> &'a mut TxHandles {
        // SAFETY: the lock is that of this medium, so no other thread is here; and it is borrowed as long as the result is.
        unsafe { &mut *self.transactions.get() }
    }

    /// Updates the documented fields. The caller holds the lock, so the last call's values stay.
    fn update(&self, medium: &Locked<'_>) {
        let public = self.public.get();
        // SAFETY: `public` is in a live handle; each field is aligned for its type. Atomic, because other threads of the program
        // may be reading them.
        unsafe {
            AtomicU64::from_ptr(&raw mut (*public).first_free).store(medium.first_free(), Ordering::Relaxed);
            AtomicU64::from_ptr(&raw mut (*public).size).store(medium.size(), Ordering::Relaxed);
        }
        if self.medium.update_view(medium) {
            self.update_mapping();
        }
    }

    /// Updates the fields for palloc_at.
    #[cold]
    fn update_mapping(&self) {
        let (public, (base, size)) = (self.public.get(), self.medium.mapping());
        // SAFETY: as in `update`. The address first: a longer mapping of which less is known is harmless.
        unsafe {
            AtomicPtr::from_ptr(&raw mut (*public).at_base).store(base.cast(), Ordering::Relaxed);
            AtomicUsize::from_ptr(&raw mut (*public).at_size).store(size, Ordering::Release);
        }
    }
}

/// Locks the medium and calls `f` with its Heap, as `Palloc::with` in waiting.rs. Updates the fields of the handle. Returns the value of `f`, or
/// `failed` after reporting the error. A call that succeeds does not change errno.
///
/// # Safety
/// `pt` is NULL or a live handle.
unsafe fn with<T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    f: impl FnMut(&mut Locked<'_>) -> engine::Result<T>,
) -> T {
    // SAFETY: passed on to the caller.
    unsafe { with_lock(function, pt, failed, Palloc::lock, f) }
}

/// As `with`, and the caches of threads stay open: for an `f` of which [`Palloc::lock_beside_caches`] speaks.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[inline]
unsafe fn with_beside_caches<T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    f: impl FnMut(&mut Locked<'_>) -> engine::Result<T>,
) -> T {
    // SAFETY: passed on to the caller.
    unsafe { with_lock(function, pt, failed, Palloc::lock_beside_caches, f) }
}

/// As `with_beside_caches`, for palloc and pfree: calls `quick` first, which does not change errno, and `f` only if that returns None.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[inline(always)]
unsafe fn with_quick<T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    quick: impl FnOnce(&mut Locked<'_>) -> Option<T>,
    f: impl FnMut(&mut Locked<'_>) -> engine::Result<T>,
) -> T {
    // SAFETY: as in `with_handle`.
    let handle = unsafe { pt.cast::<Handle>().as_ref() };
    if let Some((handle, mut medium)) = handle.and_then(|handle| Some((handle, handle.medium.try_lock()?))) {
        if let Some(value) = quick(&mut medium) {
            handle.update(&medium);
            return value;
        }
        // SAFETY: passed on to the caller.
        return unsafe { with_locked(function, pt, failed, medium, f) };
    }
    // SAFETY: passed on to the caller.
    unsafe { with_beside_caches_cold(function, pt, failed, f) }
}

/// As `with`, with a medium that is locked already.
///
/// # Safety
/// As of `with`.
#[inline(never)]
unsafe fn with_locked<'a, T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    medium: Locked<'a>,
    f: impl FnMut(&mut Locked<'_>) -> engine::Result<T>,
) -> T {
    // SAFETY: passed on to the caller.
    unsafe { with_lock(function, pt, failed, move |_: &'a Palloc| medium, f) }
}

/// Calls `f` with the medium, which `lock` locks, by `Palloc::call_locked`. The functions around this one:
///
/// | function | caches of threads | lock |
/// | --- | --- | --- |
/// | `with` | closes them | waits for it |
/// | `with_beside_caches` | leaves them open; opens them if the lock is taken | waits for it |
/// | `with_quick` | as `with_beside_caches` | the fast path if the lock is free, else waits for it |
/// | `with_locked` | as they are | the caller has it |
/// | `with_waiting` | closes them | `f` takes it |
///
/// # Safety
/// As of `with`.
#[inline]
unsafe fn with_lock<'a, T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    lock: impl FnOnce(&'a Palloc) -> Locked<'a>,
    f: impl FnMut(&mut Locked<'_>) -> engine::Result<T>,
) -> T {
    let call = |handle: &'a Handle| handle.medium.call_locked(lock(&handle.medium), f, |medium| handle.update(medium));
    // SAFETY: passed on to the caller.
    unsafe { with_handle(function, pt, failed, call) }
}

/// As `with`, for an `f` that waits for the disk: it gets the medium without the lock, and returns it locked.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[inline]
unsafe fn with_waiting<T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    f: impl FnOnce(&Palloc) -> (Locked<'_>, engine::Result<T>),
) -> T {
    let call = |handle: &Handle| {
        let (medium, result) = f(&handle.medium);
        handle.update(&medium);
        result
    };
    // SAFETY: passed on to the caller.
    unsafe { with_handle(function, pt, failed, call) }
}

/// Returns the value of `f`, or `failed` after reporting the error.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[inline]
unsafe fn with_handle<'a, T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    f: impl FnOnce(&'a Handle) -> engine::Result<T>,
) -> T {
    if pt.is_null() {
        invalid(function, "the medium is NULL");
        return failed;
    }
    // SAFETY: a live handle points to the first field of a Handle, which lives until palloc_close.
    let handle = unsafe { &*pt.cast::<Handle>() };
    let errno = errno();
    // SAFETY: the address is that of an integer of this thread.
    let before = unsafe { *errno };
    match f(handle) {
        Ok(value) => {
            // SAFETY: as above.
            unsafe { *errno = before };
            value
        }
        Err(error) => {
            report(function, &handle.filename, &error);
            failed
        }
    }
}

/// `with_beside_caches` out of line: for functions whose usual way is another one.
///
/// # Safety
/// As of `with`.
#[cold]
#[inline(never)]
unsafe fn with_beside_caches_cold<T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    f: impl FnMut(&mut Locked<'_>) -> engine::Result<T>,
) -> T {
    // SAFETY: passed on to the caller.
    unsafe { with_beside_caches(function, pt, failed, f) }
}

/// The open medium of a handle, for what needs no lock. None if `pt` is NULL.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[inline]
unsafe fn medium_of<'a>(pt: *mut palloc_t) -> Option<&'a Palloc> {
    // SAFETY: as in `with`.
    unsafe { pt.cast::<Handle>().as_ref() }.map(|handle| &handle.medium)
}

/// Opens the medium in `filename`, and makes one first if the file holds none:
///
/// | the file | PALLOC_DYNAMIC | otherwise |
/// | --- | --- | --- |
/// | does not exist | created, mode 0660 minus the umask | fails, ENOENT |
/// | is empty | a medium of 8 bytes that grows | fails, EINVAL |
/// | is all zeros | initialized, one free block | the same |
/// | is a medium | opened; repaired if a process was killed while it changed the medium | the same |
/// | is anything else | fails, EINVAL; initialized with PALLOC_FORCE | the same |
///
/// A file of zeros must have 8 bytes, or at least 40. With PALLOC_DYNAMIC a shorter one is made longer; without, it is refused (EINVAL).
/// So `truncate -s 1M FILE` and palloc_init(FILE, PALLOC_DEFAULT) make a static medium of 1 MiB.
///
/// PALLOC_READONLY opens media only. The medium is locked (flock(2)) until palloc_close; with PALLOC_READONLY the lock is shared. With
/// PALLOC_SHARED too, the medium is that of a live reader, which has no such lock, and is open for writing elsewhere.
///
/// Returns the open medium, or NULL on failure. An empty file that the call created may then remain, but not after EMFILE. Fails iff:
/// - EINVAL: one of the cases above; `filename` is NULL; `flags` are unknown or contradict each other; neither a file nor a block device.
/// - ENOENT: the file does not exist, and PALLOC_DYNAMIC is not given.
/// - EWOULDBLOCK: the medium is open already, in this process or another, unless both are PALLOC_READONLY. A child that was
///   forked meanwhile has it open too, until it ends or calls exec(3), unless palloc_close was called.
/// - EBUSY: PALLOC_FORCE, and a block device that is in use: by a mounted file system, or by another PALLOC_FORCE (Linux).
/// - EILSEQ: the chain of blocks is damaged (palloc_error() names the offset); nothing was written.
/// - EROFS: PALLOC_READONLY, and a process was killed in palloc_commit: open the medium once for writing. EROFS too:
///   the file system or the block device is read-only, without PALLOC_READONLY.
/// - ENOTSUP: the medium or `flags` have PALLOC_EXTENDED set; or PALLOC_SHARED, and the system or the file system can't do it.
/// - ESTALE: PALLOC_SHARED and PALLOC_READONLY, and no process has the medium open for writing with PALLOC_SHARED. (Windows has no such
///   number: EOWNERDEAD there. PALLOC_E_NO_WRITER is the right one.)
/// - EAGAIN (the same number as EWOULDBLOCK): the same flags, and 254 readers are open.
/// - EWOULDBLOCK too: PALLOC_SHARED, and a reader is in a section that began with the last writer; or `filename.live` belongs to the
///   writer of another medium, which had this name.
/// - EEXIST: PALLOC_SHARED, and there is a file `filename.live` that is something else. EACCES: that file can't be made or opened.
/// - ENOMEM: memory or address space ran out; the file is 2^47 bytes or longer and does not fit into the address space (PALLOC_FORCE
///   with PALLOC_DYNAMIC makes an empty medium of it). ENOSPC: the disk is full.
/// - EMFILE: the process has not enough descriptors. The call needs two, and three for a moment to create a file; one more with
///   PALLOC_SHARED.
/// - ENODEV: the file system has no shared mappings.
/// - any other error of open(2), mmap(2) and the like.
///
/// # Safety
/// `filename` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_init(filename: *const c_char, flags: u32) -> *mut palloc_t {
    if filename.is_null() {
        invalid("palloc_init", "the filename is NULL");
        return ptr::null_mut();
    }
    let before = get_errno();
    // SAFETY: not NULL, hence ended by a NUL.
    let path = unsafe { CStr::from_ptr(filename) };
    match open(path, flags) {
        Ok(pt) => {
            set_errno(before);
            pt
        }
        Err(error) => {
            report("palloc_init", path, &error);
            ptr::null_mut()
        }
    }
}

fn open(path: &CStr, flags: u32) -> engine::Result<*mut palloc_t> {
    let medium = Palloc::open_c(path, Flags::from_bits(flags))?;
    let filename = engine::absolute_path(path)?;
    let public = palloc_t {
        filename: filename.as_ptr().cast_mut(),
        descriptor: medium.descriptor(),
        flags: medium.flags().bits(),
        header_size: engine::HEADER_SIZE,
        first_free: 0,
        size: 0,
        at_base: ptr::null_mut(),
        at_size: 0,
    };
    let handle = engine::try_box(Handle {
        public: UnsafeCell::new(public),
        filename,
        medium,
        transactions: UnsafeCell::default(),
    })?;
    handle[0].update(&handle[0].medium.lock());
    handle[0].update_mapping();
    Ok(Box::into_raw(handle).cast())
}

/// Closes the medium. The file is then exactly in the documented format, without space reserved ahead. If `pt` is NULL, nothing happens.
/// No other thread may be using the medium, and addresses from palloc_data are not valid any more. The call walks all free blocks.
///
/// Returns nothing. If something could not be written, errno and palloc_error() report it, and the next palloc_init repairs it. The
/// medium is closed in any case.
///
/// As with palloc_sync, the start markers of blobs are not read.
///
/// # Safety
/// `pt` is NULL or a live handle, which no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_close(pt: *mut palloc_t) {
    if pt.is_null() {
        return;
    }
    let before = get_errno();
    // SAFETY: a live handle came from Box::into_raw in palloc_init, as a slice of one, and has not been given back.
    let handle = unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(pt.cast::<Handle>(), 1)) };
    let closed = handle[0].medium.lock().close();
    let errno = match closed {
        Ok(()) => before,
        Err(error) => {
            report("palloc_close", &handle[0].filename, &error);
            get_errno()
        }
    };
    drop(handle);
    set_errno(errno);
}

/// Allocates a blob of at least `size` bytes and returns the offset of its first byte. The offset is a multiple of 16 on media that this
/// library made. The contents of the bytes are undefined. A size of 0 gives a blob of 16 bytes.
///
/// Returns 0 on failure, and the medium is as it was. Fails iff:
/// - ENOSPC: no free block is large enough and the medium is static, or the disk is full.
/// - ENOMEM: no medium can hold `size` bytes, or memory or address space ran out.
/// - EROFS: opened with PALLOC_READONLY. EINVAL: `pt` is NULL.
/// - EFBIG: the file would exceed what the file system or RLIMIT_FSIZE allows.
/// - EILSEQ: a marker was overwritten since the medium was opened (palloc_error() names the offset).
/// - EIO, EDQUOT, ...: an error of ftruncate(2), fallocate(2) or fdatasync(2). EIO also if a sync failed before.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc(pt: *mut palloc_t, size: size_t) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe {
        match medium_of(pt).and_then(|medium| medium.alloc_unlocked(size as u64)) {
            Some(ptr) => ptr,
            None => with_quick(
                "palloc",
                pt,
                0,
                |medium| medium.alloc_quickly(size as u64),
                |medium| medium.alloc_any(size as u64),
            ),
        }
    }
}

/// Allocates a blob of at least `count` times `size` bytes, all of which are zeros, and returns its offset. A kill during the call leaves
/// a blob of zeros or no blob, and so does a power cut, with PALLOC_SYNC. If the product is 0, the blob has 16 bytes.
///
/// Returns 0 on failure, and the medium is as it was. Fails iff:
/// - ENOMEM: the product is larger than any medium, or memory or address space ran out.
/// - ENOSPC, EROFS, EINVAL, EFBIG, EILSEQ, EIO, ...: as with palloc.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcalloc(pt: *mut palloc_t, count: size_t, size: size_t) -> u64 {
    let bytes = (count as u64).saturating_mul(size as u64);
    // SAFETY: passed on to the caller.
    unsafe { with("pcalloc", pt, 0, |medium| medium.alloc_zeroed(bytes)) }
}

/// As palloc, and the offset of the blob is a multiple of `alignment`, a power of two up to 2^30. Up to the page size, so is its address.
/// The space before the blob stays free, less than `alignment` + 32 bytes of it. On a dynamic medium that may be a part of the file that
/// holds nothing else. prealloc that moves the blob keeps an alignment of 16 only: to resize it, use palloc_aligned, a copy and pfree.
///
/// Returns 0 on failure, and the medium is as it was. Fails iff:
/// - EINVAL: `alignment` is no power of two, or more than 2^30; `pt` is NULL.
/// - ENOSPC, ENOMEM, EROFS, EFBIG, EILSEQ, EIO, ...: as with palloc.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_aligned(pt: *mut palloc_t, alignment: size_t, size: size_t) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { with("palloc_aligned", pt, 0, |medium| medium.alloc_aligned(alignment as u64, size as u64)) }
}

/// Returns the offset of the root: the first blob of the medium, in which a program keeps the offsets of its other blobs. If there is no
/// blob, allocates one of at least `size` zeros, as pcalloc does. Its offset is 16, so no other blob is ever before it. It stays the root
/// until it is freed or moved by prealloc.
///
/// Returns 0 on failure, and the medium is as it was. Fails iff:
/// - EINVAL: the first blob has fewer than `size` bytes; or there is no blob, and a transaction is open; or `pt` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
/// - ENOSPC, ENOMEM, EROFS, EFBIG, EIO, ...: as with palloc, if there is no blob.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_root(pt: *mut palloc_t, size: size_t) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { with("palloc_root", pt, 0, |medium| medium.root(size as u64)) }
}

/// Frees the blob at `ptr`. If it is the last of a dynamic medium, `size` shrinks at once; the file is cut by palloc_sync and
/// palloc_close, and when much space is free at its end. With PALLOC_SHARED its space is free when no read section needs it any more, and
/// `size` may shrink only then.
///
/// Returns nothing: to see a failure, set errno to 0 before the call. Fails, and changes nothing, iff:
/// - EINVAL: no allocated blob starts at `ptr` (0, a stray offset, inside a blob, freed already), or `pt` is NULL.
/// - EROFS: opened with PALLOC_READONLY.
/// - EILSEQ: a marker was overwritten since the medium was opened. The end marker of a blob of up to 512 bytes is not read.
/// - EIO, ...: with PALLOC_SYNC, an error of fdatasync(2). EIO also if a sync failed before.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pfree(pt: *mut palloc_t, ptr: u64) {
    // SAFETY: passed on to the caller.
    unsafe {
        if !medium_of(pt).is_some_and(|medium| medium.free_unlocked(ptr)) {
            let quick = |medium: &mut Locked<'_>| medium.free_quickly(ptr).then_some(());
            with_quick("pfree", pt, (), quick, |medium| medium.free_any(ptr));
        }
    }
}

/// Returns the size of the block's data at `ptr`: the size that was asked for, or more. The block may be free.
///
/// Returns 0 on failure. Fails iff:
/// - EINVAL: no block's data starts at `ptr`, or `pt` is NULL.
/// - EILSEQ: the marker was overwritten since the medium was opened.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_size(pt: *mut palloc_t, ptr: u64) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe {
        match medium_of(pt).and_then(|medium| medium.size_unlocked(ptr)) {
            Some(size) => size,
            None => with_beside_caches_cold("palloc_size", pt, 0, |medium| medium.size_of(ptr)),
        }
    }
}

/// Returns the allocated blob with the lowest offset, 0 if there is no blob.
///
/// Returns 0 on failure too: to see a failure, set errno to 0 before the call. Fails iff:
/// - EINVAL: `pt` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_first(pt: *mut palloc_t) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe {
        match medium_of(pt).and_then(Palloc::first_beside_writer) {
            Some(first) => first,
            None => with("palloc_first", pt, 0, |medium| medium.first()),
        }
    }
}

/// Returns the allocated blob with the lowest offset above `ptr`, 0 if there is no such blob. `ptr` may be any number: 0 gives the first
/// blob, and the offset of a freed blob gives the blob behind it. So a program may free blobs while it iterates.
///
/// Returns 0 on failure too: to see a failure, set errno to 0 before the call. Fails iff:
/// - EINVAL: `pt` is NULL.
/// - EILSEQ: a marker that the call read was overwritten since the medium was opened. It does not read all markers on its way.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_next(pt: *mut palloc_t, ptr: u64) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe {
        match medium_of(pt).and_then(|medium| medium.next_unlocked(ptr)) {
            Some(next) => next,
            None => with("palloc_next", pt, 0, |medium| medium.next(ptr)),
        }
    }
}

/// Resizes the blob at `ptr` and returns its offset. The blob stays in place if there is space for it, else it moves; the old offset and
/// address are then invalid. The first bytes, up to the smaller of both sizes, are kept. A kill during the call leaves either the old
/// blob, with every byte, or the new one; never both, and always one of them.
/// With `ptr` 0 the call is palloc(pt, size). A size of 0 shrinks to 16 bytes. A shorter blob frees the space behind it if that is more
/// than 32 bytes; otherwise the blob keeps it. With PALLOC_SHARED it keeps it always.
///
/// Returns 0 on failure, and the blob at `ptr` is as it was. Fails iff:
/// - EINVAL: `ptr` is not 0 and no allocated blob starts there, or `pt` is NULL.
/// - ENOSPC, ENOMEM, EFBIG, EIO, ...: as with palloc.
/// - EROFS: opened with PALLOC_READONLY.
/// - EILSEQ: a marker was overwritten since the medium was opened. The end marker of a blob of up to 512 bytes is not read.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn prealloc(pt: *mut palloc_t, ptr: u64, size: size_t) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { with("prealloc", pt, 0, |medium| medium.resize(ptr, size as u64)) }
}

/// Returns the address of the blob's bytes, palloc_size of them. The program may read them and, except with PALLOC_READONLY, write them.
/// The address is valid until palloc_close, also when the medium grows, unless the blob is freed or moved. It shows the same bytes as
/// pread(2) and pwrite(2) on `descriptor`. A store there is safe from a kill at once, and from a power cut after the next palloc_sync,
/// also with PALLOC_SYNC.
///
/// The address is 16-byte aligned on media that this library made. On media of the original it can be odd: use memcpy there.
///
/// Returns NULL on failure. Fails iff:
/// - EINVAL: no allocated blob starts at `ptr`, or `pt` is NULL.
/// - ENOSPC, EDQUOT, EIO: the file is sparse at the blob, and the disk is full or fails.
/// - EILSEQ: the start marker of the blob was overwritten since the medium was opened. The end marker is not read.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_data(pt: *mut palloc_t, ptr: u64) -> *mut c_void {
    // SAFETY: passed on to the caller.
    unsafe {
        match medium_of(pt).and_then(|medium| medium.data_unlocked(ptr)) {
            Some(data) => data.as_ptr().cast(),
            None => with_beside_caches_cold("palloc_data", pt, ptr::null_mut(), |medium| {
                Ok(medium.data(ptr)?.cast().as_ptr())
            }),
        }
    }
}

/// Called by palloc_at if it can't answer itself. Call palloc_at instead.
///
/// Returns NULL on failure. Fails iff:
/// - EINVAL: the medium ends at or before `offset`, or `pt` is NULL.
/// - ENOSPC, EDQUOT, EFBIG: the byte is in a hole of the file, and the disk is full.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_at_locked(pt: *const palloc_t, offset: u64) -> *mut c_void {
    let pt = pt.cast_mut(); // palloc_at takes a pointer to const, as the program does not write the fields
    // SAFETY: passed on to the caller.
    unsafe {
        with_beside_caches("palloc_at", pt, ptr::null_mut(), |medium| Ok(medium.address(offset)?.cast().as_ptr()))
    }
}

/// Returns the offset of the byte at `address`: the reverse of palloc_data, for an address that it returned, and for those of the other
/// bytes of the blob. Addresses from before the medium grew are good too.
///
/// Returns 0 on failure. Fails iff:
/// - EINVAL: the address is not in a block of the medium, or `pt` is NULL.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_offset(pt: *mut palloc_t, address: *const c_void) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { with_beside_caches("palloc_offset", pt, 0, |medium| medium.offset_of(address.addr())) }
}

/// Brings `len` bytes at `offset`, all of one blob, to the disk: they are there when the call returns. Only the pages that hold them are
/// written (on Windows, all that changed). Without PALLOC_SYNC, the blob itself is safe from a power cut after the next palloc_sync, as
/// always. With PALLOC_READONLY, and if `len` is 0, the call only checks its arguments.
///
/// Returns 0, or -1 on failure. Fails iff:
/// - EINVAL: the bytes are not all in one allocated blob, or `pt` is NULL.
/// - EILSEQ: the marker of the blob was overwritten since the medium was opened.
/// - EIO, ENOSPC, ...: an error of msync(2). As after a failed palloc_sync, the medium is not changed any more. EIO also if a sync failed
///   before.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_flush(pt: *mut palloc_t, offset: u64, len: size_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { with("palloc_flush", pt, -1, |medium| medium.flush_bytes(offset, len as u64).map(|()| 0)) }
}

/// Makes everything done so far durable, with the bytes of blobs. The file is then exactly in the documented format: it ends with the
/// last block, and free blocks are linked in order. The call walks all free blocks. With PALLOC_READONLY it does nothing and succeeds.
///
/// The call does not read the start markers of blobs. If the program has overwritten one, the call succeeds all the same, and the next
/// palloc_init may fail with EILSEQ. palloc_stat reads all of them.
///
/// Returns 0, or -1 on failure. Fails iff:
/// - EINVAL: `pt` is NULL.
/// - EIO, ENOSPC, ...: an error of fdatasync(2) or ftruncate(2). EIO also if a sync failed before.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_sync(pt: *mut palloc_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe {
        with_waiting("palloc_sync", pt, -1, |medium| {
            let (locked, result) = medium.sync_locked();
            (locked, result.map(|()| 0))
        })
    }
}

/// Gives the disk's space under free blocks back to the file system, where there are at least `min_bytes` of it in one piece; 0 stands for
/// 1 MiB. The file keeps its length and gets holes. A blob that is made there later gets its space before its palloc returns. Calls
/// palloc_sync first, and then writes to the disk once more, with the medium locked: that the blocks are free is on the disk before their
/// space is given back.
///
/// The library never does this by itself: a file of many small holes is slow to read, to copy and to remove, and each page of a hole costs a
/// system call when it is used again. Trim when much is free that will not be needed soon.
///
/// Returns by how many bytes the file takes less space on the disk; -1 on failure. Blobs are the same in both cases. Fails iff:
/// - EOPNOTSUPP: there is such space, and the file system or the operating system can't give it back; or it is a block device.
/// - EROFS: opened with PALLOC_READONLY. EINVAL: `pt` is NULL.
/// - EILSEQ: a marker of a free block was overwritten since the medium was opened.
/// - EIO, ENOSPC, ...: as with palloc_sync, or an error of fallocate(2).
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_trim(pt: *mut palloc_t, min_bytes: u64) -> i64 {
    const DEFAULT: u64 = 1 << 20;
    let least = if min_bytes == 0 { DEFAULT } else { min_bytes };
    // SAFETY: passed on to the caller.
    unsafe {
        with_waiting("palloc_trim", pt, -1, |medium| {
            let (locked, result) = medium.trim_locked(least);
            (locked, result.map(|bytes| bytes as i64))
        })
    }
}

/// Counts blocks and bytes into `out`. The call walks all blocks.
///
/// Returns 0, or -1 on failure, and then `out` is unchanged. Fails iff:
/// - EINVAL: `pt` or `out` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
/// - ENOTSUP: the medium is that of a live reader.
///
/// # Safety
/// `pt` is NULL or a live handle; `out` is an out parameter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_stat(pt: *mut palloc_t, out: *mut palloc_stat) -> c_int {
    if out.is_null() {
        invalid("palloc_stat", "out is NULL");
        return -1;
    }
    // SAFETY: passed on to the caller.
    unsafe {
        with("palloc_stat", pt, -1, |medium| {
            let stat = medium.stat()?;
            let out_value = palloc_stat {
                medium_size: stat.medium_size,
                live_blobs: stat.live_blobs,
                live_bytes: stat.live_bytes,
                free_blocks: stat.free_blocks,
                free_bytes: stat.free_bytes,
                largest_free: stat.largest_free,
            };
            // SAFETY: an out parameter that is not NULL.
            out.write(out_value);
            Ok(0)
        })
    }
}

/// Calls `fn` for every block, allocated or free, by ascending offset. The medium is not locked during the call of `fn`, which may call
/// every function on it except palloc_close. Blocks that exist during the whole walk are visited once.
///
/// Returns the last result of `fn`; 0 at the end of the medium. Returns -1 on failure too: to see a failure, set errno to 0 before the
/// call. Fails iff:
/// - EINVAL: `pt` or `fn` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
/// - ENOTSUP: the medium is that of a live reader.
///
/// # Safety
/// `pt` is NULL or a live handle; `fn` is NULL or callable with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_walk(pt: *mut palloc_t, r#fn: palloc_walk_fn, user: *mut c_void) -> c_int {
    let Some(visit) = r#fn else {
        invalid("palloc_walk", "fn is NULL");
        return -1;
    };
    let mut from = 0;
    loop {
        // SAFETY: passed on to the caller.
        let step = unsafe { with("palloc_walk", pt, Err(()), |medium| Ok(Ok(medium.block_from(from)?))) };
        let block = match step {
            Err(()) => return -1,
            Ok(None) => return 0,
            Ok(Some(block)) => block,
        };
        // SAFETY: not NULL, hence callable.
        let answer = unsafe { visit(user, block.ptr, block.size, block.is_free.into()) };
        if answer != 0 {
            return answer;
        }
        from = block.end();
    }
}

/// Follows references from the `count` offsets in `roots`: calls `trace` for each blob that they lead to, which calls `visit` for each
/// offset in it. Then calls `fn` for every blob that is not reached, by ascending offset, with `is_free` 0. `fn` may pfree it, and others of them. So a program
/// whose process was killed between palloc and the store of the offset finds the blob that nothing leads to. (With palloc_begin there is
/// none.) An offset that is not the first byte of a blob goes to `report`, if not NULL; one inside of a blob keeps the blob, all the same.
///
/// Nothing is written. The call needs 1/256 of the medium's size as memory, and 8 bytes for each blob at most. The medium is not locked
/// during the calls of the functions.
///
/// Returns the first result of `trace` or `fn` that is not 0, and ends there; else 0. Blobs may not be reached if `trace` ended it, so `fn`
/// is not called then. Returns -1 on failure too: to see a failure, set errno to 0 before the call. Fails iff:
/// - EINVAL: `pt`, `trace` or `fn` is NULL, or `roots` is and `count` is not 0.
/// - ENOMEM: memory ran out; `fn` was not called.
/// - EILSEQ: a marker was overwritten since the medium was opened.
/// - ENOSPC, ...: as with palloc_data.
///
/// Precondition: during the call no other thread changes the medium or stores offsets, `trace` changes nothing, and `fn` frees no blob that
/// is reached. It is called neither for blobs that it has freed, nor for those that it makes (unless it has freed others than its own).
///
/// # Safety
/// `pt` is NULL or a live handle; `roots` are `count` offsets; `trace`, `fn` and `report` are NULL or callable with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_unreachable(
    pt: *mut palloc_t,
    roots: *const u64,
    count: size_t,
    trace: palloc_trace_fn,
    r#fn: palloc_walk_fn,
    report: palloc_report_fn,
    user: *mut c_void,
) -> c_int {
    let (Some(trace), Some(each)) = (trace, r#fn) else {
        invalid("palloc_unreachable", "trace or fn is NULL");
        return -1;
    };
    if roots.is_null() && count > 0 {
        invalid("palloc_unreachable", "the roots are NULL");
        return -1;
    }
    // SAFETY: not NULL, or none, so there are `count` offsets.
    let roots = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(roots, count) } };
    let follow = |handle: &Handle| {
        let mut failed = Ok(());
        let traced = |blob: engine::Block, mut visit: &mut dyn FnMut(u64)| {
            let data = match handle.medium.data(blob.ptr) {
                Ok(data) => data.cast().as_ptr(),
                Err(error) => {
                    failed = Err(error);
                    return ControlFlow::Break(-1);
                }
            };
            let mark = (&raw mut visit).cast();
            // SAFETY: not NULL, hence callable; visit_blob knows `mark`.
            answer(unsafe { trace(user, blob.ptr, data, blob.size, Some(visit_blob), mark) })
        };
        let unreached = |blob: engine::Block| {
            // SAFETY: not NULL, hence callable.
            answer(unsafe { each(user, blob.ptr, blob.size, 0) })
        };
        let dangling = |offset: u64, what: &CStr| {
            if let Some(report) = report {
                // SAFETY: not NULL, hence callable; the text lives until the call returns.
                unsafe { report(user, offset, what.as_ptr()) };
            }
        };
        let ended = handle.medium.unreachable(roots, traced, unreached, dangling)?;
        failed?;
        Ok(if let ControlFlow::Break(result) = ended { result } else { 0 })
    };
    // SAFETY: passed on to the caller.
    unsafe { with_handle("palloc_unreachable", pt, -1, follow) }
}

/// The `mark` that palloc_unreachable gives to a palloc_trace_fn.
///
/// # Safety
/// `mark` is what palloc_unreachable gave with it, during that call.
unsafe extern "C" fn visit_blob(mark: *mut c_void, ptr: u64) {
    // SAFETY: it points to this reference, which is in use here only.
    unsafe { (*mark.cast::<&mut dyn FnMut(u64)>())(ptr) }
}

fn answer(result: c_int) -> ControlFlow<c_int> {
    if result == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(result) }
}

/// Begins a read section: every blob that the writer frees or moves from here on keeps its bytes until palloc_read_end. For a medium that
/// was opened with PALLOC_SHARED and PALLOC_READONLY. Keep sections short: they hold back the space of what is freed meanwhile. The process
/// may have several open on one `pt`, in one thread or in several; they end with the last palloc_read_end, and hold back what was freed
/// since the first began. Threads that read all the time therefore open a `pt` each.
///
/// Outside of sections palloc_data, palloc_size, palloc_first and palloc_root fail, and offsets and addresses of the last section are not
/// valid any more.
///
/// Returns 0, or -1 on failure. Fails iff:
/// - ESTALE: the writer has closed the medium, or its process has ended (it may take 100 ms until this is noticed): close, and open anew.
/// - EAGAIN: 65535 sections of this process are open on `pt`.
/// - EINVAL: `pt` is NULL, or was not opened with both flags.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_read_begin(pt: *mut palloc_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { with_handle("palloc_read_begin", pt, -1, |handle| handle.medium.begin_reading().map(|()| 0)) }
}

/// Ends a read section. Does nothing if `pt` is NULL or was not opened with PALLOC_SHARED and PALLOC_READONLY.
///
/// Precondition: palloc_read_begin returned 0 before, once for each call of this.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_read_end(pt: *mut palloc_t) {
    // SAFETY: passed on to the caller.
    if let Some(medium) = unsafe { medium_of(pt) } {
        medium.end_reading();
    }
}

/// Counts the live readers of the medium into `out`, for its writer or for one of its readers, which counts itself.
///
/// Returns 0, or -1 on failure, and then `out` is unchanged. Fails iff:
/// - EINVAL: `pt` or `out` is NULL, or the medium was not opened with PALLOC_SHARED.
/// - any error of fcntl(2) (LockFileEx).
///
/// # Safety
/// `pt` is NULL or a live handle; `out` is an out parameter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_get_readers(pt: *mut palloc_t, out: *mut palloc_readers) -> c_int {
    if out.is_null() {
        invalid("palloc_get_readers", "out is NULL");
        return -1;
    }
    let count = |handle: &Handle| {
        let readers = handle.medium.readers()?;
        let counts = palloc_readers {
            open: readers.open,
            reading: readers.reading,
            oldest_pid: readers.oldest_process as i64,
            held_bytes: readers.held_bytes,
            writer_pid: readers.writer_process as i64,
        };
        // SAFETY: an out parameter that is not NULL.
        unsafe { out.write(counts) };
        Ok(0)
    };
    // SAFETY: passed on to the caller.
    unsafe { with_handle("palloc_get_readers", pt, -1, count) }
}

/// Begins a transaction: blobs are allocated, filled, changed and freed in one step. After a kill the next palloc_init finds all of it
/// done or nothing, and so it does after a power cut, with PALLOC_SYNC from the moment on that palloc_commit returns, else from the next
/// palloc_sync on. Blobs of a transaction that is not committed do not exist: palloc_first, palloc_next, palloc_stat and palloc_walk
/// do not show them, and a kill leaves nothing of them.
///
/// A transaction sees nothing of others, and others see nothing of it, before its palloc_commit. It locks nothing: of two that store to
/// the same bytes, the later commit wins; of two that free the same blob, the later one fails.
///
/// Returns the transaction, NULL on failure. Fails iff:
/// - EMFILE: 64 transactions are open on this medium.
/// - ENOSPC, ENOMEM, EFBIG, EIO, ...: as with palloc. A transaction needs a log of 2 KiB on the medium, with PALLOC_SYNC two, which all
///   transactions share; palloc_sync gives them back when none is open, and palloc_close does.
/// - EROFS: opened with PALLOC_READONLY. EINVAL: `pt` is NULL.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_begin(pt: *mut palloc_t) -> *mut palloc_tx {
    let begin = |medium: &mut Locked<'_>| {
        // SAFETY: `with` calls this for a live handle only.
        let handle = unsafe { &*pt.cast::<Handle>() };
        let tx = handle.transactions(medium).spare(pt)?;
        // SAFETY: no thread has it yet.
        medium.begin_in(unsafe { &mut (*tx).changes })?;
        handle.transactions(medium).note_begun();
        Ok(tx)
    };
    // SAFETY: passed on to the caller.
    unsafe { with("palloc_begin", pt, ptr::null_mut(), begin) }
}

/// Runs `f` on the transaction and its locked medium, or reports why not.
///
/// # Safety
/// `tx` is NULL or a transaction that is open.
#[cold]
#[inline(never)]
unsafe fn with_tx<T>(
    function: &str,
    tx: *mut palloc_tx,
    failed: T,
    mut f: impl FnMut(&mut Locked<'_>, &mut Changes) -> engine::Result<T>,
) -> T {
    if tx.is_null() {
        invalid(function, "the transaction is NULL");
        return failed;
    }
    // SAFETY: open, so it and its medium live, and no other thread uses it.
    unsafe { with(function, (*tx).pt, failed, |medium| f(medium, &mut (*tx).changes)) }
}

/// Allocates a blob of at least `size` bytes which is one once the transaction is committed, and returns the offset of its first byte.
/// The contents of the bytes are undefined. Fill them through palloc_tx_data, or with pwrite(2).
///
/// Returns 0 on failure, and the transaction is as it was. Fails iff:
/// - ENOSPC, ENOMEM, EFBIG, EILSEQ, EIO, ...: as with palloc. After a sync that failed it may return a blob still: palloc_commit fails with
///   EIO then. ENOSPC too: the record of the transaction would be longer than 16 MiB.
/// - EINVAL: `tx` is NULL.
///
/// # Safety
/// `tx` is NULL or a transaction that is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_tx_alloc(tx: *mut palloc_tx, size: size_t) -> u64 {
    if !tx.is_null() {
        // SAFETY: open, and no other thread uses it. Where a region of it has room, nothing of the medium is needed.
        if let Some(ptr) = unsafe { (*tx).changes.alloc(size as u64) } {
            return ptr;
        }
    }
    // SAFETY: passed on to the caller.
    unsafe { with_tx("palloc_tx_alloc", tx, 0, |medium, changes| medium.tx_alloc(changes, size as u64)) }
}

/// The address of the bytes of a blob of this transaction, to fill them. It is that of palloc_data once the transaction is committed.
///
/// Returns NULL on failure. Fails iff:
/// - EINVAL: no blob of this transaction starts at `ptr`, or `tx` is NULL.
///
/// # Safety
/// `tx` is NULL or a transaction that is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_tx_data(tx: *mut palloc_tx, ptr: u64) -> *mut c_void {
    if !tx.is_null() {
        // SAFETY: open, and no other thread uses it.
        if let Ok(data) = unsafe { (*tx).changes.data(ptr) } {
            return data.cast().as_ptr();
        }
    }
    // SAFETY: passed on to the caller.
    unsafe { with_tx("palloc_tx_data", tx, ptr::null_mut(), |_, _| Err(Error::NoBlobOfTransaction(ptr))) }
}

/// The blob at `ptr` is freed by palloc_commit, and stays until then. (A blob of the same transaction can't be: cancel it.)
///
/// Returns 0, or -1 on failure, and the transaction is as it was. Fails iff:
/// - EINVAL: no allocated blob starts at `ptr`, the transaction frees it already, or `tx` is NULL.
/// - ENOSPC: the record of the transaction would be longer than 16 MiB, or there is no room for it on the medium.
/// - ENOMEM, EFBIG, EILSEQ, EIO, ...: as with palloc. After a sync that failed it may return 0 still: palloc_commit fails with EIO then.
///
/// # Safety
/// `tx` is NULL or a transaction that is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_tx_free(tx: *mut palloc_tx, ptr: u64) -> c_int {
    if !tx.is_null() {
        // SAFETY: open, so it and its medium live, and no other thread uses it.
        let is_added =
            unsafe { medium_of((*tx).pt).is_some_and(|medium| medium.tx_free_unlocked(&mut (*tx).changes, ptr)) };
        if is_added {
            return 0;
        }
    }
    // SAFETY: passed on to the caller.
    unsafe { with_tx("palloc_tx_free", tx, -1, |medium, changes| medium.tx_free(changes, ptr).map(|()| 0)) }
}

/// The `len` bytes at the offset `at`, which are all in one blob, become `bytes` by palloc_commit, and stay as they are until then. 8
/// bytes whose offset is a multiple of 8 change by one store: a thread that reads them sees the old ones or the new ones. In a blob of
/// the same transaction they change at once.
///
/// Bytes that were changed in this way are changed by transactions only, until the next palloc_sync (which palloc_close does too, with
/// PALLOC_SYNC): a kill or a power cut may bring back the stores of the last transaction. palloc_flush does not prevent it.
///
/// Returns 0, or -1 on failure, and the transaction is as it was. Fails iff:
/// - EINVAL: the bytes are not all in one allocated blob, or the transaction frees that blob; `bytes` or `tx` is NULL.
/// - ENOSPC: the record of the transaction would be longer than 16 MiB, or there is no room for it on the medium. (It takes 16 bytes
///   for each store, and its bytes rounded up to 16.)
/// - ENOMEM, EFBIG, EILSEQ, EIO, ...: as with palloc; after a sync that failed as with palloc_tx_free.
///
/// # Safety
/// `tx` is NULL or a transaction that is open; `bytes` are `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_tx_store(tx: *mut palloc_tx, at: u64, bytes: *const c_void, len: size_t) -> c_int {
    if bytes.is_null() {
        invalid("palloc_tx_store", "bytes is NULL");
        return -1;
    }
    if len > isize::MAX as usize {
        invalid("palloc_tx_store", "no blob is that long");
        return -1;
    }
    // SAFETY: not NULL, so there are `len` bytes; nobody changes them during the call.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len) };
    if !tx.is_null() {
        // SAFETY: open, so it and its medium live, and no other thread uses it.
        let (medium, changes) = unsafe { (medium_of((*tx).pt), &mut (*tx).changes) };
        if medium.is_some_and(|medium| medium.tx_store_unlocked(changes, at, bytes)) {
            return 0;
        }
    }
    let store = |medium: &mut Locked<'_>, changes: &mut Changes| medium.tx_store(changes, at, bytes).map(|()| 0);
    // SAFETY: passed on to the caller.
    unsafe { with_tx("palloc_tx_store", tx, -1, store) }
}

/// Does all that the transaction says, in one step. It needs no space and no memory. With PALLOC_SYNC it is on the disk, with the bytes
/// of the new blobs, when this returns: that takes two barriers (fdatasync(2)), however many blobs there are. Transactions of threads
/// that commit at once share them, as far as one record holds their changes.
///
/// Returns 0, and `tx` is gone; or -1 on failure: nothing was done, and the transaction goes on, to be committed again or cancelled.
/// Fails iff:
/// - EINVAL: a blob that it frees or stores to was freed since, or is too small now; or `tx` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
/// - EIO, ...: with PALLOC_SYNC, an error of fdatasync(2). Then the next palloc_init finds it done or undone; of those that shared the
///   barrier, all or none. EIO also if a sync failed before.
///
/// # Safety
/// `tx` is NULL or a transaction that is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_commit(tx: *mut palloc_tx) -> c_int {
    if tx.is_null() {
        invalid("palloc_commit", "the transaction is NULL");
        return -1;
    }
    // SAFETY: open, so it and its medium live, and no other thread uses it.
    unsafe {
        with_waiting("palloc_commit", (*tx).pt, -1, |medium| {
            let (mut locked, result) = medium.commit_locked(&mut (*tx).changes);
            if result.is_ok() {
                (*(*tx).pt.cast::<Handle>()).transactions(&mut locked).note_over(tx);
            }
            (locked, result.map(|()| 0))
        })
    }
}

/// Ends the transaction: none of it is done. NULL is accepted. palloc_close cancels those that are open.
///
/// # Safety
/// `tx` is NULL or a transaction that is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_cancel(tx: *mut palloc_tx) {
    if tx.is_null() {
        return;
    }
    // SAFETY: open, so it and its medium live, and no other thread uses it.
    unsafe {
        with("palloc_cancel", (*tx).pt, (), |medium| {
            medium.tx_cancel(&mut (*tx).changes);
            (*(*tx).pt.cast::<Handle>()).transactions(medium).note_over(tx);
            Ok(())
        });
    }
}

/// Reads the medium in `filename`, without opening it or writing to it, and calls `report`, if not NULL, for every violation of the
/// format: wrong or missing markers, gaps, adjacent free blocks, links that do not form the sorted list. The file has a shared lock
/// during the call.
///
/// Returns the number of violations, 0 for a sound medium; -1 on failure. Fails iff:
/// - EINVAL: `filename` is NULL, or names neither a file nor a block device.
/// - EWOULDBLOCK: the medium is open for writing.
/// - ENOENT, EACCES, EIO, ENOMEM, ...: an error of open(2), mmap(2) and the like.
///
/// # Safety
/// `filename` is a C string; `report` is NULL or callable with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_check(filename: *const c_char, report: palloc_report_fn, user: *mut c_void) -> i64 {
    if filename.is_null() {
        invalid("palloc_check", "the filename is NULL");
        return -1;
    }
    let before = get_errno();
    // SAFETY: not NULL, hence ended by a NUL.
    let path = unsafe { CStr::from_ptr(filename) };
    let violations = engine::check_c(path, |offset, what| {
        if let Some(report) = report {
            // SAFETY: not NULL, hence callable; the text lives until the call returns.
            unsafe { report(user, offset, what.as_ptr()) };
        }
    });
    match violations {
        Ok(count) => {
            set_errno(before);
            count as i64
        }
        Err(error) => {
            self::report("palloc_check", path, &error);
            -1
        }
    }
}

/// Reads the damaged medium in `filename`, and writes a sound one to the new file `copy`: every block that is known is where it was,
/// with its bytes. If the medium was closed, one damaged marker loses no blob, because each size stands in the block's other marker
/// too. If its process was killed, a marker may have been wrong before: then the blob of the damaged one and those beside it can be
/// lost, and, if it is in the record of a transaction, what that transaction did. Of several damaged ranges, each loses only the blobs
/// that it touches, but a blob alone between two of them can be lost too. A range of which nothing is known is one blob, so that no
/// later blob overwrites it; with PALLOC_SALVAGE_FREE it is a free block. `report`, if not NULL, is called for each block that was
/// mended and each range that is lost. `out`, if not NULL, gets the counts. `filename` is not written to; it has a shared lock during
/// the call. `copy` gets its name when it is whole and on the disk. A kill may leave a file `copy.PROCESS.NUMBER.tmp`;
/// of a `copy` of more than 100 bytes the end is cut off there.
///
/// The call finishes operations that a kill cut off, as palloc_init does, but keeps a block of which the markers disagree on whether it is
/// free. So a blob that was freed just before a kill can be there again. `flags` are 0, PALLOC_FORCE, PALLOC_SALVAGE_FREE or both.
///
/// Returns 0, or -1 on failure, and then there is no new file. Fails iff:
/// - EINVAL: the file does not begin with the header of a medium (with PALLOC_FORCE the call goes on as if it did); it is neither a file
///   nor a block device; `filename` or `copy` is NULL, or `flags` are others.
/// - ENOTSUP: the header has PALLOC_EXTENDED, and `flags` not PALLOC_FORCE.
/// - EEXIST: there is a file `copy`. EWOULDBLOCK: the medium is open for writing.
/// - ENOENT, EACCES, ENOSPC, EFBIG, ENOMEM, EIO, ...: an error of open(2), write(2) and the like. Bytes of `filename` that can't be read
///   are zeros in the copy, and counted.
///
/// # Safety
/// `filename` and `copy` are C strings; `report` is NULL or callable with `user`; `out` is NULL or an out parameter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_salvage(
    filename: *const c_char,
    copy: *const c_char,
    flags: u32,
    report: palloc_report_fn,
    user: *mut c_void,
    out: *mut palloc_salvage,
) -> c_int {
    if filename.is_null() || copy.is_null() {
        invalid("palloc_salvage", "a filename is NULL");
        return -1;
    }
    let before = get_errno();
    // SAFETY: not NULL, hence ended by a NUL.
    let (path, copy) = unsafe { (CStr::from_ptr(filename), CStr::from_ptr(copy)) };
    let found = engine::salvage_c(path, copy, Flags::from_bits(flags), |offset, what| {
        if let Some(report) = report {
            // SAFETY: not NULL, hence callable; the text lives until the call returns.
            unsafe { report(user, offset, what.as_ptr()) };
        }
    });
    match found {
        Ok(engine::Salvage { blobs, healed, lost_ranges, lost_bytes }) => {
            if !out.is_null() {
                // SAFETY: an out parameter that is not NULL.
                unsafe { out.write(palloc_salvage { blobs, healed, lost_ranges, lost_bytes }) };
            }
            set_errno(before);
            0
        }
        Err(error) => {
            self::report("palloc_salvage", path, &error);
            -1
        }
    }
}

/// Writes a copy of the medium to the new file `filename`: the state between two calls of other threads, exactly in the documented format,
/// without changes of transactions that are not committed. It is on the disk when the call returns, and has its name only when it is
/// whole. A kill may leave a file `filename.PROCESS.NUMBER.tmp`; of a name of more than 100 bytes the end is cut off there. The copy has the
/// medium's mode.
///
/// With PALLOC_SNAPSHOT_CLONE the copy shares its blocks on the disk with the medium, where the file system can do that (xfs, btrfs). The
/// call writes to the disk what the program has changed since the last sync, as palloc_sync does, and locks the medium while it goes
/// through the free blocks and shares the disk's: its time does not grow with the number or the bytes of blobs. The copy is not read, so a
/// marker that the program has overwritten is so in the copy: palloc_check finds it. While a transaction is open, and if the medium was opened
/// with PALLOC_SHARED, the copy is read and repaired. With PALLOC_READONLY the medium is read, and if it was not closed the copy is repaired.
/// Stores of the program are in the copy up to one moment. From then on a store to a page that is shared needs space on the disk: see
/// docs/COMPAT.md.
///
/// With `flags` 0 the bytes are copied, and the medium is locked meanwhile: readers of blobs don't wait, allocation does. Bytes that the
/// program stores during the call may be in the copy or not.
///
/// Returns 0, or -1 on failure, and then there is no new file. Fails iff:
/// - EEXIST: there is a file `filename`. EOPNOTSUPP: PALLOC_SNAPSHOT_CLONE, and the file system can't.
/// - EINVAL: `pt` or `filename` is NULL, or `flags` are others. EIO: a sync failed, now or before, or bytes can't be read.
/// - EILSEQ: the copy is read, and a start marker in it was overwritten.
/// - ENOSPC, EACCES, ENOMEM, EMFILE, ...: an error of open(2), write(2) and the like.
///
/// # Safety
/// `pt` is NULL or a live handle; `filename` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_snapshot(pt: *mut palloc_t, filename: *const c_char, flags: u32) -> c_int {
    if pt.is_null() || filename.is_null() {
        invalid("palloc_snapshot", "the medium or the filename is NULL");
        return -1;
    }
    let before = get_errno();
    // SAFETY: not NULL, hence ended by a NUL; a live handle points to the first field of a Handle, which lives until palloc_close.
    let (path, handle) = unsafe { (CStr::from_ptr(filename), &*pt.cast::<Handle>()) };
    match handle.medium.snapshot_c(path, Flags::from_bits(flags)) {
        Ok(()) => {
            set_errno(before);
            0
        }
        Err(error) => {
            report("palloc_snapshot", path, &error);
            -1
        }
    }
}

/// Returns the text of the last error in this thread: one line that names the function, the file and the offset or argument. Never NULL;
/// "" if no call has failed yet. The next failure in this thread changes it.
///
/// The system's part of it is the text of strerror(3) in the language of the program's locale (Windows: of FormatMessage). For the errors
/// EPERM, ENOENT, ESRCH, EIO, EAGAIN, ENOMEM, EACCES, EFAULT, EINVAL, ENFILE, EMFILE and ENOSYS it is always English, except with musl and
/// on Windows: vmem.h reports them too, strerror(3) may call malloc to translate, and malloc may be built on vmem.h.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_error() -> *const c_char {
    ERROR.with(ErrorText::as_ptr)
}
