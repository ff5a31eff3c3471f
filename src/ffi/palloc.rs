//! `palloc.h`: the documented functions of palloc over a `struct palloc_t *`, and ours beside them.
#![allow(non_camel_case_types)]

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::size_t;

use super::{ErrorText, get_errno, set_errno};
use crate::palloc::{self as engine, Error, Flags, Locked, Palloc};

/// No flags: a static medium, whose size is that of the file and does not change.
pub const PALLOC_DEFAULT: u32 = 0;
/// The medium grows and shrinks with its blobs. A medium that is already initialized knows whether it does; its own bit wins.
pub const PALLOC_DYNAMIC: u32 = 1;
/// Every operation is on the disk when it returns. `descriptor` carries O_DSYNC, so that what the program writes with it is on the
/// disk too. What it stores through palloc_data is not: that needs palloc_sync.
pub const PALLOC_SYNC: u32 = 2;
/// Open with a shared lock and write nothing at all, not even a repair; palloc, pfree and prealloc fail with EROFS.
pub const PALLOC_READONLY: u32 = 4;
/// Initialize a file that holds something else, or a damaged medium. A good medium is kept. One that is open elsewhere, or has
/// PALLOC_EXTENDED, is refused all the same.
pub const PALLOC_FORCE: u32 = 8;
/// Reserved. No layout is defined for it; a medium that has it is refused.
pub const PALLOC_EXTENDED: u32 = 1u32 << 31;

/// An open medium. Read the fields, never write them; first_free and size may change with each call. The struct is made by palloc_init and may be longer than what is shown here: handle it by pointer only.
#[repr(C)]
pub struct palloc_t {
    /// The absolute path, without symbolic links, `.` and `..`; the path that was given to palloc_init where the system can't tell it.
    pub filename: *mut c_char,
    /// The file, for reading and writing blobs with pread(2), pwrite(2), or lseek(2) with read(2) and write(2). It is larger than 2. The
    /// library uses one of its own: a program that closes this one, by mistake or to save it, harms nothing.
    pub descriptor: c_int,
    /// PALLOC_DYNAMIC if the medium grows; PALLOC_SYNC if every operation is durable.
    pub flags: u32,
    /// Where the first block begins: 8.
    pub header_size: u32,
    /// Start of a free block, 0 if there is none; the lowest one after palloc_init and palloc_sync.
    pub first_free: u64,
    /// End of the last block. A dynamic medium's file may be longer while it is open.
    pub size: u64,
}

/// What palloc_stat tells of a medium. Bytes are those of data sections, without the 16 bytes of markers of each block.
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
    /// The size of the largest of them. A static medium cannot give a larger blob; a dynamic one grows.
    pub largest_free: u64,
}

/// Called for each block: `ptr` is the offset of its data, `size` that of its data section, `is_free` 1 or 0. Non-zero ends the walk.
/// It has to return: no longjmp, no exception.
pub type palloc_walk_fn = Option<unsafe extern "C" fn(user: *mut c_void, ptr: u64, size: u64, is_free: c_int) -> c_int>;

/// Called for each violation of the format: the offset of the block, and what is wrong, valid during the call. It has to return: no
/// longjmp, no exception.
pub type palloc_report_fn = Option<unsafe extern "C" fn(user: *mut c_void, offset: u64, what: *const c_char)>;

/// What palloc_init hands out: the documented fields, and behind them what is ours.
#[repr(C, align(8))] // the atomic fields of `public`; 32-bit machines align a u64 to 4
struct Handle {
    public: UnsafeCell<palloc_t>,
    filename: CString,
    medium: Palloc,
}

thread_local! {
    static ERROR: ErrorText = const { ErrorText::new() };
}

/// Leaves `error` in errno and in palloc_error(). Of a long path the end is told: what is wrong must fit too.
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

/// The one place where an error becomes a number.
fn errno_of(error: &Error) -> c_int {
    match error {
        Error::System { source, .. } => engine::errno_of(source),
        Error::OutOfMemory | Error::TooLarge(_) => libc::ENOMEM,
        Error::NotAMedium
        | Error::Incompatible(_)
        | Error::BadFlags(_)
        | Error::NoBlob(_)
        | Error::NoBlock(_)
        | Error::OutOfBlob { .. } => libc::EINVAL,
        Error::Extended => libc::ENOTSUP,
        Error::Locked => libc::EWOULDBLOCK,
        Error::Damaged { .. } => libc::EILSEQ,
        Error::Full { .. } => libc::ENOSPC,
        Error::ReadOnly => libc::EROFS,
        Error::SyncFailed(_) => libc::EIO,
    }
}

pub(super) fn invalid(function: &str, what: &str) {
    ERROR.with(|text| text.set(format_args!("{function}: {what}")));
    set_errno(libc::EINVAL);
}

impl Handle {
    /// Brings the documented fields up to date; the lock is held, so that threads do not undo each other's.
    fn publish(&self, medium: &Locked<'_>) {
        let public = self.public.get();
        // SAFETY: `public` is in a live handle; each field is aligned for its type. Atomic, because other threads of the program
        // may be reading them.
        unsafe {
            AtomicU64::from_ptr(&raw mut (*public).first_free).store(medium.first_free(), Ordering::Relaxed);
            AtomicU64::from_ptr(&raw mut (*public).size).store(medium.size(), Ordering::Relaxed);
        }
    }
}

/// Runs `f` on the locked medium, or reports why not. errno is left alone on success.
///
/// # Safety
/// `pt` is NULL or a live handle.
unsafe fn with<T>(
    function: &str,
    pt: *mut palloc_t,
    failed: T,
    f: impl FnOnce(&mut Locked<'_>) -> engine::Result<T>,
) -> T {
    if pt.is_null() {
        invalid(function, "the medium is NULL");
        return failed;
    }
    // SAFETY: a live handle points to the first field of a Handle, which lives until palloc_close.
    let handle = unsafe { &*pt.cast::<Handle>() };
    let before = get_errno();
    let mut medium = handle.medium.lock();
    let result = f(&mut medium);
    handle.publish(&medium);
    drop(medium);
    match result {
        Ok(value) => {
            set_errno(before);
            value
        }
        Err(error) => {
            report(function, &handle.filename, &error);
            failed
        }
    }
}

/// Opens the medium in `filename`, and makes one where there is none:
///
/// | the file | PALLOC_DYNAMIC | otherwise |
/// | --- | --- | --- |
/// | does not exist | created, mode 0660 minus the umask | fails, ENOENT |
/// | is empty | a medium of 8 bytes that grows | fails, EINVAL |
/// | is all zeros | initialized, one free block | the same |
/// | is a medium | opened; repaired if a process was killed at work in it | the same |
/// | is anything else | fails, EINVAL; initialized with PALLOC_FORCE | the same |
///
/// A file of zeros must have 8 bytes, or at least 40; a smaller one is made that long with PALLOC_DYNAMIC and refused without
/// (EINVAL). So `truncate -s 1M FILE` and palloc_init(FILE, PALLOC_DEFAULT) make a static medium of 1 MiB.
///
/// With PALLOC_READONLY only a medium can be opened. The medium is locked (flock(2)) until palloc_close; with PALLOC_READONLY the
/// lock is shared.
///
/// Returns the open medium, NULL on failure; a file that was created for it may remain, empty, but not for want of descriptors. Fails
/// iff:
/// - EINVAL: one of the cases above; filename is NULL; flags that are unknown or contradict each other; neither a file nor a block
///   device.
/// - EWOULDBLOCK: the medium is open already, in this process or another.
/// - EILSEQ: the chain of blocks is damaged (palloc_error() says where); nothing was written.
/// - ENOTSUP: the medium or `flags` have PALLOC_EXTENDED set.
/// - ENOMEM: memory or address space ran out. ENOSPC: the disk is full. EMFILE: it takes two descriptors, three for a moment to create
///   a file.
/// - ENODEV: the file system has no shared mappings.
/// - whatever else open(2), mmap(2) and their like say.
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
    };
    let handle = engine::try_box(Handle { public: UnsafeCell::new(public), filename, medium })?;
    handle[0].publish(&handle[0].medium.lock());
    Ok(Box::into_raw(handle).cast())
}

/// Closes the medium: gives back what was reserved ahead, and leaves the file exactly in the documented format. NULL is accepted.
/// No other thread may be using the medium, and pointers from palloc_data end here. It walks all free blocks.
///
/// What could not be written is reported in errno and palloc_error(), and made good by the next palloc_init; the medium is closed
/// all the same.
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

/// Allocates a blob of at least `size` bytes and returns the offset of its first byte, 16-byte aligned on media that this
/// library made. What the bytes hold is not defined. A size of 0 gives a blob of 16 bytes.
///
/// Returns 0 on failure, and the medium is as it was. Fails iff:
/// - ENOSPC: no free block is large enough and the medium is static, or the disk is full.
/// - ENOMEM: no medium can hold `size` bytes, or memory or address space ran out.
/// - EROFS: opened with PALLOC_READONLY. EINVAL: `pt` is NULL.
/// - EFBIG: the file would exceed what the file system or RLIMIT_FSIZE allows.
/// - EILSEQ: a marker was overwritten since the medium was opened (palloc_error() says where).
/// - EIO, EDQUOT, ...: what ftruncate(2), fallocate(2) and fdatasync(2) say. EIO: a sync failed before.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc(pt: *mut palloc_t, size: size_t) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { with("palloc", pt, 0, |medium| medium.alloc(size as u64)) }
}

/// Frees the blob at `ptr`. On a dynamic medium, freeing the last one gives its space back to the file system.
///
/// Returns nothing: to see a failure, set errno to 0 before the call. Fails, and changes nothing, iff:
/// - EINVAL: no allocated blob starts at `ptr` (0, a stray offset, inside a blob, freed already), or `pt` is NULL.
/// - EROFS: opened with PALLOC_READONLY.
/// - EILSEQ: a marker was overwritten since the medium was opened (the one at the end of a blob of up to 512 bytes is not looked at).
/// - EIO, ...: with PALLOC_SYNC, what fdatasync(2) says. EIO: a sync failed before.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pfree(pt: *mut palloc_t, ptr: u64) {
    // SAFETY: passed on to the caller.
    unsafe { with("pfree", pt, (), |medium| medium.free(ptr)) }
}

/// The size of the data section at `ptr`: what was asked for or more. Answers for free blocks too.
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
    unsafe { with("palloc_size", pt, 0, |medium| medium.size_of(ptr)) }
}

/// The allocated blob with the lowest offset, 0 if there is none. Fails (0 too: set errno to 0 before to tell) iff:
/// - EINVAL: `pt` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_first(pt: *mut palloc_t) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { with("palloc_first", pt, 0, |medium| medium.first()) }
}

/// The allocated blob with the lowest offset above `ptr`, 0 if there is none. `ptr` can be any number: 0 gives the first blob, and
/// that of a blob which was freed the one behind it, so a program may free blobs while it iterates. Fails (0 too: set errno to 0 before
/// to tell) iff:
/// - EINVAL: `pt` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_next(pt: *mut palloc_t, ptr: u64) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { with("palloc_next", pt, 0, |medium| medium.next(ptr)) }
}

/// Resizes the blob at `ptr`, in place where there is room and by a move where not, and returns its offset. The first bytes, up
/// to the smaller of both sizes, are kept; a kill during the call leaves either the old blob, with every byte, or the new one, never both or none. If
/// it moves, the old offset and address are dead.
/// With `ptr` 0 it is palloc(pt, size). A size of 0 shrinks to 16 bytes. Space given up is freed when it is worth a block
/// (more than 32 bytes).
///
/// Returns 0 on failure, and the blob at `ptr` is as it was. Fails iff:
/// - EINVAL: `ptr` is not 0 and no allocated blob starts there, or `pt` is NULL.
/// - ENOSPC, ENOMEM, EFBIG, EIO, ...: as with palloc.
/// - EROFS: opened with PALLOC_READONLY.
/// - EILSEQ: a marker was overwritten since the medium was opened (the one at the end of a blob of up to 512 bytes is not looked at).
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn prealloc(pt: *mut palloc_t, ptr: u64, size: size_t) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { with("prealloc", pt, 0, |medium| medium.resize(ptr, size as u64)) }
}

/// The address of the blob's bytes, palloc_size of them, to read and (except with PALLOC_READONLY) write. It stays valid until
/// palloc_close, whatever the medium does, as long as the blob is not freed or moved; it shows the same bytes as pread(2) and
/// pwrite(2) on `descriptor`. What is stored here is safe from a kill at once, and from a power cut after palloc_sync only, with
/// PALLOC_SYNC too.
///
/// The address is 16-byte aligned on media that this library made. On media of the original it can be odd: use memcpy there.
///
/// Returns NULL on failure. Fails iff:
/// - EINVAL: no allocated blob starts at `ptr`, or `pt` is NULL.
/// - ENOSPC, EDQUOT, EIO: the file is sparse under the blob, and the disk is full or fails.
/// - EILSEQ: the marker right before the blob was overwritten since the medium was opened. The one behind it is not looked at.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_data(pt: *mut palloc_t, ptr: u64) -> *mut c_void {
    // SAFETY: passed on to the caller.
    unsafe { with("palloc_data", pt, ptr::null_mut(), |medium| Ok(medium.data(ptr)?.cast().as_ptr())) }
}

/// Makes everything done so far durable, blobs' bytes included, and the file exactly the documented format: nothing behind the last
/// block, free blocks linked in order. It walks all free blocks. With PALLOC_READONLY it does nothing and succeeds.
///
/// Returns 0, or -1 on failure. Fails iff:
/// - EINVAL: `pt` is NULL.
/// - EIO, ENOSPC, ...: what fdatasync(2) and ftruncate(2) say. EIO: a sync failed before.
///
/// # Safety
/// `pt` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_sync(pt: *mut palloc_t) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { with("palloc_sync", pt, -1, |medium| medium.sync().map(|()| 0)) }
}

/// Counts blocks and bytes into `out`, by a walk over all blocks.
///
/// Returns 0, or -1 on failure, with `out` untouched. Fails iff:
/// - EINVAL: `pt` or `out` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
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

/// Calls `fn` for every block, allocated or free, by ascending offset. The medium is not locked during the call of `fn`, which may
/// use it in every way except palloc_close: blocks that exist throughout are seen once.
///
/// Returns what `fn` returned last; 0 when the end was reached or there is no block. Fails (-1, with errno set; a walk that ends well
/// leaves errno alone) iff:
/// - EINVAL: `pt` or `fn` is NULL.
/// - EILSEQ: a marker was overwritten since the medium was opened.
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

/// Reads the medium in `filename`, without opening it or writing to it, and calls `report` (if not NULL) for every violation of
/// the format: wrong or missing markers, gaps, free blocks that are side by side, links that do not form the sorted list. While it
/// runs the file has a shared lock.
///
/// Returns how many there are, 0 for a sound medium; -1 if it can't be read. Fails iff:
/// - EINVAL: `filename` is NULL, or names neither a file nor a block device.
/// - EWOULDBLOCK: the medium is open for writing.
/// - ENOENT, EACCES, EIO, ENOMEM, ...: what open(2), mmap(2) and their like say.
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

/// What went wrong in the last call that failed in this thread, as one line that names the function, the file and the offset or
/// argument. Never NULL; "" if nothing failed yet. The system's own words in it are those of strerror(3). It changes with the next failure in this thread.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_error() -> *const c_char {
    ERROR.with(ErrorText::as_ptr)
}
