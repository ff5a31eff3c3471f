// SPDX-License-Identifier: MIT OR Apache-2.0
//! `finwo/palloc.h`: the second generation of palloc's functions, over file descriptors. The header maps their documented names to
//! those here.
#![allow(non_camel_case_types)]

use std::ffi::{CStr, c_char, c_int};

use super::open_media::{self, OpenedAs, Opening, Taken};
use super::palloc::{invalid, report, report_on};
use super::{get_errno, set_errno};
use crate::palloc::{self as engine, Error, Flags, Locked, Palloc, close_descriptor};

/// A descriptor that a medium is open on.
pub type PALLOC_FD = c_int;
/// PALLOC_DYNAMIC and the others, combined with |.
pub type PALLOC_FLAGS = u32;
/// PALLOC_OK or PALLOC_ERR.
pub type PALLOC_RESPONSE = c_int;
/// The offset of a blob in the medium; 0 is no blob.
pub type PALLOC_OFFSET = u64;
/// A number of bytes.
pub type PALLOC_SIZE = u64;

/// No flags: a static medium, which keeps the size of the file.
pub const PALLOC_DEFAULT: u32 = 0;
/// The medium grows and shrinks with its blobs. For a medium that is already initialized, the bit in its header counts.
pub const PALLOC_DYNAMIC: u32 = 1;
/// Every operation is on the disk when it returns. The descriptor that palloc_open returns has O_DSYNC, so the program's writes with it
/// are on the disk when they return, too.
pub const PALLOC_SYNC: u32 = 2;
/// Open with a shared lock. Nothing is written, not even a repair; palloc and pfree fail with EROFS.
pub const PALLOC_READONLY: u32 = 4;
/// Make a medium of a file that holds something else, or of a damaged medium. A sound medium is kept. On Linux palloc_open refuses a block
/// device that is in use, such as by a mounted file system.
pub const PALLOC_FORCE: u32 = 8;
/// Reserved: its layout is not defined. A medium that has it is refused.
pub const PALLOC_EXTENDED: u32 = 1u32 << 31;

/// Calls `f` with the locked medium that is open on `fd`. Returns the value of `f`, or `failed` after reporting the error. A call that
/// succeeds does not change errno.
fn with<T>(function: &str, fd: c_int, failed: T, f: impl FnMut(&mut Locked<'_>) -> engine::Result<T>) -> T {
    let errno = get_errno();
    let result = open_media::with_medium(fd, |medium| medium.with(f));
    value_or_report(function, fd, errno, failed, result)
}

fn value_or_report<T>(function: &str, fd: c_int, errno_before: c_int, failed: T, result: engine::Result<T>) -> T {
    match result {
        Ok(value) => {
            set_errno(errno_before);
            value
        }
        Err(error) => {
            report_on(function, format_args!("descriptor {fd}"), &error);
            failed
        }
    }
}

/// Opens the file, and the medium in it, if it holds one; then palloc_init is not needed. If the file is empty or all zeros, palloc_init
/// makes a medium. With PALLOC_DYNAMIC, a file that does not exist is created, mode 0660 minus the umask. The medium is locked (flock(2))
/// until palloc_close.
///
/// Returns a descriptor that has O_CLOEXEC and is larger than 2; 0 on failure. If memory ran out, an empty file that the call created may
/// remain. Fails iff:
/// - ENOENT: the file does not exist, and PALLOC_DYNAMIC is not given.
/// - EINVAL: the file holds something else (with PALLOC_FORCE palloc_open succeeds, and palloc_init with PALLOC_FORCE makes a medium);
///   `filename` is NULL; `flags` are unknown or contradict each other; neither a file nor a block device.
/// - EWOULDBLOCK: the medium is open already, in this process or another, unless both are PALLOC_READONLY.
/// - EBUSY: PALLOC_FORCE, and a block device that is in use: by a mounted file system, or by another PALLOC_FORCE (Linux).
/// - EILSEQ: the chain of blocks is damaged (palloc_error() names the offset); nothing was written.
/// - EROFS: PALLOC_READONLY, and a process was killed in palloc_commit of palloc.h: open the medium once for writing. EROFS too:
///   the file system or the block device is read-only, without PALLOC_READONLY.
/// - ENOTSUP: the medium or `flags` have PALLOC_EXTENDED set.
/// - ENOMEM: memory or address space ran out; the file is 2^47 bytes or longer and does not fit into the address space (PALLOC_FORCE
///   with PALLOC_DYNAMIC makes an empty medium of it). ENOSPC: the disk is full.
/// - EMFILE: the process has not enough descriptors. The call needs two, and three for a moment to create a file.
/// - ENODEV: the file system has no shared mappings.
/// - any other error of open(2), mmap(2) and the like.
///
/// # Safety
/// `filename` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn palloc_fd_open(filename: *const c_char, flags: PALLOC_FLAGS) -> PALLOC_FD {
    if filename.is_null() {
        invalid("palloc_open", "the filename is NULL");
        return 0;
    }
    let before = get_errno();
    // SAFETY: not NULL, hence ended by a NUL.
    let path = unsafe { CStr::from_ptr(filename) };
    match open(path, Flags::from_bits(flags)) {
        Ok(fd) => {
            set_errno(before);
            fd
        }
        Err(error) => {
            report("palloc_open", path, &error);
            0
        }
    }
}

fn open(path: &CStr, flags: Flags) -> engine::Result<c_int> {
    let opening = Opening::lock();
    opening.with_retry(|| {
        let (descriptor, medium) = Palloc::open_exact(path, flags)?;
        let fd = descriptor.number();
        match medium {
            Some(medium) => opening.register(fd, OpenedAs::of(fd, flags)?, medium)?,
            None => opening.forget(fd),
        }
        Ok(descriptor.into_number())
    })
}

/// Opens the medium in the file that `fd` is open on, and makes one first if the file holds none. `fd` comes from palloc_open or from
/// open(2). A descriptor from open(2) must be open for reading and writing (with PALLOC_READONLY for reading at least), without O_APPEND:
///
/// | the file | PALLOC_DYNAMIC | otherwise |
/// | --- | --- | --- |
/// | is empty | a medium of 8 bytes that grows | fails, EINVAL |
/// | is all zeros | initialized, one free block | the same |
/// | is a medium | opened; the flags in its header count | the same |
/// | is anything else | fails, EINVAL; initialized with PALLOC_FORCE | the same |
///
/// palloc and pfree are durable with PALLOC_SYNC, and if `fd` has O_DSYNC (as after palloc_open with PALLOC_SYNC). The program's own
/// writes are durable if `fd` has O_DSYNC. Only palloc_open makes the entry of a new file in its directory durable.
///
/// Returns PALLOC_OK, also if the medium is already open on `fd`; then PALLOC_SYNC makes it durable from now on. Returns PALLOC_ERR on
/// failure, and `fd` stays open. A flock(2) that `fd` had is then as before on Linux with /proc; on other systems it may be gone. Fails
/// iff:
/// - EBADF: `fd` is not open, or not for reading and writing.
/// - EINVAL: one of the cases above; `flags` are unknown or contradict each other; O_APPEND; neither a file nor a block device.
/// - EWOULDBLOCK: the medium is open already, unless both are PALLOC_READONLY. This includes a dup(2) of a descriptor that a medium is
///   open on.
/// - EILSEQ, EROFS, ENOTSUP, ENOMEM, ENOSPC, ...: as with palloc_open.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_init(fd: PALLOC_FD, flags: PALLOC_FLAGS) -> PALLOC_RESPONSE {
    let before = get_errno();
    let result = init(fd, Flags::from_bits(flags));
    value_or_report("palloc_init", fd, before, -1, result.map(|()| 0))
}

fn init(fd: c_int, flags: Flags) -> engine::Result<()> {
    flags.check_exact()?;
    let opening = Opening::lock();
    opening.with_retry(|| {
        let wanted = OpenedAs::of(fd, flags)?;
        let open_again = |medium: &Palloc| if flags.contains(Flags::SYNC) { medium.make_durable() } else { Ok(()) };
        if let Some(result) = opening.with_medium_of(fd, wanted, open_again) {
            return result;
        }
        if opening.is_excluded(wanted) {
            return Err(Error::Locked);
        }
        opening.register(fd, wanted, Palloc::attach_exact(fd, flags)?)
    })
}

/// Closes the medium and the descriptor, whether it came from palloc_open or open(2). The file is then exactly in the documented format. A
/// descriptor from palloc_open whose file holds no medium is closed too. No other thread may be using either. The call walks all free
/// blocks.
///
/// The call does not read the start markers of blobs. If the program has overwritten one, the call succeeds all the same, and the next
/// palloc_open or palloc_init may fail with EILSEQ.
///
/// Returns PALLOC_OK, or PALLOC_ERR on failure; even then both are closed, if they were open. Fails iff:
/// - EBADF: `fd` is not open; or the program closed it by close(2) and its number now belongs to another file, which stays open.
/// - EIO, ENOSPC, ...: something could not be written; the next palloc_open repairs it. EIO also if a sync failed before.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_close(fd: PALLOC_FD) -> PALLOC_RESPONSE {
    let before = get_errno();
    value_or_report("palloc_close", fd, before, -1, close(fd).map(|()| 0))
}

fn close(fd: c_int) -> engine::Result<()> {
    let Taken { medium, is_open, is_shared } = open_media::take(fd);
    // A palloc_open that failed returned 0, and the program may pass 0 to palloc_close: the standard descriptors stay open.
    let is_ours = is_open && (medium.is_some() || fd > 2);
    let closed = match medium {
        Some(medium) if is_ours && !is_shared => medium.close(),
        Some(medium) => {
            medium.forget();
            Ok(())
        }
        None => Ok(()),
    };
    if !is_ours {
        return Err(open_media::no_medium());
    }
    // SAFETY: open. The caller promises that nobody uses it any more, and asks to close it.
    unsafe { close_descriptor(fd) };
    closed
}

/// Allocates a blob of at least `size` bytes and returns the offset of its first byte. The offset is a multiple of 16 on media that this
/// library made. The contents of the bytes are undefined. A size of 0 gives a blob of 16 bytes.
///
/// Returns 0 on failure, and the medium is as it was. Fails iff:
/// - EBADF: no medium is open on `fd`.
/// - ENOSPC: no free block is large enough and the medium is static, or the disk is full.
/// - ENOMEM: no medium can hold `size` bytes, or memory or address space ran out.
/// - EROFS: opened with PALLOC_READONLY.
/// - EFBIG: the file would exceed what the file system or RLIMIT_FSIZE allows.
/// - EILSEQ: a marker was overwritten since the medium was opened (palloc_error() names the offset).
/// - EIO, EDQUOT, ...: an error of ftruncate(2), fallocate(2) or fdatasync(2). EIO also if a sync failed before.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_alloc(fd: PALLOC_FD, size: PALLOC_SIZE) -> PALLOC_OFFSET {
    with("palloc", fd, 0, |medium| medium.alloc(size))
}

/// Frees the blob at `ptr`. If it is the last of a dynamic medium, the file is cut.
///
/// Returns PALLOC_OK, or PALLOC_ERR on failure, and then nothing has changed. Fails iff:
/// - EBADF: no medium is open on `fd`.
/// - EINVAL: no allocated blob starts at `ptr` (0, a stray offset, inside a blob, freed already).
/// - EROFS: opened with PALLOC_READONLY.
/// - EILSEQ: a marker was overwritten since the medium was opened. The end marker of a blob of up to 512 bytes is not read.
/// - EIO, ...: with PALLOC_SYNC, an error of fdatasync(2). EIO also if a sync failed before.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_free(fd: PALLOC_FD, ptr: PALLOC_OFFSET) -> PALLOC_RESPONSE {
    with("pfree", fd, -1, |medium| medium.free(ptr).map(|()| 0))
}

/// Returns the size of the block's data at `ptr`: the size that was asked for, or more. The block may be free.
///
/// Returns 0 on failure. Fails iff:
/// - EBADF: no medium is open on `fd`.
/// - EINVAL: no block's data starts at `ptr`.
/// - EILSEQ: the marker was overwritten since the medium was opened.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_size(fd: PALLOC_FD, ptr: PALLOC_OFFSET) -> PALLOC_SIZE {
    with("palloc_size", fd, 0, |medium| medium.size_of(ptr))
}

/// Returns the allocated blob with the lowest offset above `ptr`, 0 if there is no such blob. `ptr` may be any number: 0 gives the first
/// blob, and the offset of a freed blob gives the blob behind it. So a program may free blobs while it iterates.
///
/// Returns 0 on failure too: to see a failure, set errno to 0 before the call. Fails iff:
/// - EBADF: no medium is open on `fd`.
/// - EILSEQ: a marker was overwritten since the medium was opened.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_next(fd: PALLOC_FD, ptr: PALLOC_OFFSET) -> PALLOC_OFFSET {
    with("palloc_next", fd, 0, |medium| medium.next(ptr))
}
