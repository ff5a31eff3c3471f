//! `finwo/palloc.h`: the second generation of palloc's functions, over file descriptors. The header maps their documented names to
//! those here.
#![allow(non_camel_case_types)]

use std::ffi::{CStr, c_char, c_int};

use super::palloc::{invalid, report, report_on};
use super::registry::{self, OpenedAs, Opening, Taken};
use super::{get_errno, set_errno};
use crate::palloc::{self as engine, Error, Flags, Locked, Palloc, close_descriptor};

/// A descriptor on which a medium is open.
pub type PALLOC_FD = c_int;
/// PALLOC_DYNAMIC and the others, combined with |.
pub type PALLOC_FLAGS = u32;
/// PALLOC_OK or PALLOC_ERR.
pub type PALLOC_RESPONSE = c_int;
/// Where a blob is in the medium; 0 is none.
pub type PALLOC_OFFSET = u64;
/// How many bytes.
pub type PALLOC_SIZE = u64;

/// No flags: a static medium, whose size is that of the file and does not change.
pub const PALLOC_DEFAULT: u32 = 0;
/// The medium grows and shrinks with its blobs. A medium that is already initialized knows whether it does; its own bit wins.
pub const PALLOC_DYNAMIC: u32 = 1;
/// Every operation is on the disk when it returns. The descriptor that palloc_open returns carries O_DSYNC, so that what the program
/// writes with it is on the disk too.
pub const PALLOC_SYNC: u32 = 2;
/// Open with a shared lock and write nothing at all, not even a repair; palloc and pfree fail with EROFS.
pub const PALLOC_READONLY: u32 = 4;
/// Initialize a file that holds something else, or a damaged medium. A good medium is kept.
pub const PALLOC_FORCE: u32 = 8;
/// Reserved. No layout is defined for it; a medium that has it is refused.
pub const PALLOC_EXTENDED: u32 = 1u32 << 31;

/// Calls `f` with the medium that is open on `fd`. Returns its value, or `failed` after reporting the error. A successful call leaves
/// errno alone.
fn with<T>(function: &str, fd: c_int, failed: T, f: impl FnOnce(&mut Locked<'_>) -> engine::Result<T>) -> T {
    let errno = get_errno();
    let result = registry::with_medium(fd, |medium| f(&mut medium.lock()));
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

/// Opens the file, and the medium in it if it is one: for that no palloc_init is needed. In a file that is empty or all zeros,
/// palloc_init makes one. A file that does not exist is created with PALLOC_DYNAMIC, mode 0660 minus the umask. The medium is locked
/// (flock(2)) until palloc_close.
///
/// Returns a descriptor that has O_CLOEXEC and is larger than 2; 0 on failure; a file that was created for it may remain, empty, where
/// memory ran out, but not for want of descriptors. Fails iff:
/// - ENOENT: the file does not exist, and PALLOC_DYNAMIC is not given.
/// - EINVAL: the file holds something else (palloc_init makes a medium of it if PALLOC_FORCE is given to both); filename is NULL;
///   flags that are unknown or contradict each other; neither a file nor a block device.
/// - EWOULDBLOCK: the medium is open already, in this process or another, unless both are PALLOC_READONLY.
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

/// Makes a medium of the file that `fd` is open on, if it is not one yet, and opens it. `fd` comes from palloc_open, or from open(2):
/// then for reading and writing (for reading only with PALLOC_READONLY) and without O_APPEND. What the file may hold is
/// as with palloc_open; also:
///
/// | the file | PALLOC_DYNAMIC | otherwise |
/// | --- | --- | --- |
/// | is empty | a medium of 8 bytes that grows | fails, EINVAL |
/// | is all zeros | initialized, one free block | the same |
/// | is a medium | opened; its own flags win | the same |
///
/// palloc and pfree are durable with PALLOC_SYNC, and if `fd` has O_DSYNC (as that of a palloc_open with PALLOC_SYNC has); the program's
/// own writes are if it has O_DSYNC. A new file's entry in its directory is palloc_open's matter.
///
/// Returns PALLOC_OK, also if the medium is open on `fd` already (with PALLOC_SYNC it is durable from then on); PALLOC_ERR on failure,
/// and `fd` stays open. A flock(2) that `fd` had is then as it was, on Linux with /proc; elsewhere it may be gone. Fails iff:
/// - EBADF: `fd` is not open, or not for reading and writing.
/// - EINVAL: one of the cases above; the file holds something else and PALLOC_FORCE is not given; flags as with palloc_open; O_APPEND.
/// - EROFS, EWOULDBLOCK, EILSEQ, ENOTSUP, ENOMEM, ENOSPC, ...: as with palloc_open. EWOULDBLOCK also for a dup(2) of a descriptor that
///   a medium is open on, unless both are PALLOC_READONLY.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_init(fd: PALLOC_FD, flags: PALLOC_FLAGS) -> PALLOC_RESPONSE {
    let before = get_errno();
    let result = init(fd, Flags::from_bits(flags));
    value_or_report("palloc_init", fd, before, -1, result.map(|()| 0))
}

fn init(fd: c_int, flags: Flags) -> engine::Result<()> {
    flags.check()?;
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

/// Closes the medium, which leaves the file exactly in the documented format, and the descriptor, wherever that came from. A
/// descriptor from palloc_open whose file was never made a medium is closed too. No other thread may be using them.
///
/// Returns PALLOC_OK; PALLOC_ERR on failure, and both are closed all the same, as far as they were open. Fails iff:
/// - EBADF: `fd` is not open; or it was closed by close(2), and its number now is that of another file, which stays open.
/// - EIO, ENOSPC, ...: what could not be written; the next palloc_open makes it good.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_close(fd: PALLOC_FD) -> PALLOC_RESPONSE {
    let before = get_errno();
    value_or_report("palloc_close", fd, before, -1, close(fd).map(|()| 0))
}

fn close(fd: c_int) -> engine::Result<()> {
    let Taken { medium, is_open, is_shared } = registry::take(fd);
    // A palloc_open that failed returned 0, and a program may pass that on: the standard descriptors stay open.
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
        return Err(registry::no_medium());
    }
    // SAFETY: open, no longer used by the caller's word, and given to us to be closed.
    unsafe { close_descriptor(fd) };
    closed
}

/// Allocates a blob of at least `size` bytes and returns the offset of its first byte, 16-byte aligned on media that this
/// library made. What the bytes hold is not defined. A size of 0 gives a blob of 16 bytes.
///
/// Returns 0 on failure, and the medium is as it was. Fails iff:
/// - EBADF: no medium is open on `fd`.
/// - ENOSPC: no free block is large enough and the medium is static, or the disk is full.
/// - ENOMEM: no medium can hold `size` bytes, or memory or address space ran out.
/// - EROFS: opened with PALLOC_READONLY.
/// - EFBIG: the file would exceed what the file system or RLIMIT_FSIZE allows.
/// - EILSEQ: a marker was overwritten since the medium was opened (palloc_error() says where).
/// - EIO, EDQUOT, ...: what ftruncate(2), fallocate(2) and fdatasync(2) say. EIO: a sync failed before.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_alloc(fd: PALLOC_FD, size: PALLOC_SIZE) -> PALLOC_OFFSET {
    with("palloc", fd, 0, |medium| medium.alloc(size))
}

/// Frees the blob at `ptr`. If it is the last of a dynamic medium, the file is cut.
///
/// Returns PALLOC_OK; PALLOC_ERR on failure, and nothing was changed. Fails iff:
/// - EBADF: no medium is open on `fd`.
/// - EINVAL: no allocated blob starts at `ptr` (0, a stray offset, inside a blob, freed already).
/// - EROFS: opened with PALLOC_READONLY.
/// - EILSEQ: a marker was overwritten since the medium was opened (the one at the end of a blob of up to 512 bytes is not looked at).
/// - EIO, ...: with PALLOC_SYNC, what fdatasync(2) says. EIO: a sync failed before.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_free(fd: PALLOC_FD, ptr: PALLOC_OFFSET) -> PALLOC_RESPONSE {
    with("pfree", fd, -1, |medium| medium.free(ptr).map(|()| 0))
}

/// The size of the data section at `ptr`: what was asked for or more. Answers for free blocks too.
///
/// Returns 0 on failure. Fails iff:
/// - EBADF: no medium is open on `fd`.
/// - EINVAL: no block's data starts at `ptr`.
/// - EILSEQ: the marker was overwritten since the medium was opened.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_size(fd: PALLOC_FD, ptr: PALLOC_OFFSET) -> PALLOC_SIZE {
    with("palloc_size", fd, 0, |medium| medium.size_of(ptr))
}

/// The allocated blob with the lowest offset above `ptr`, 0 if there is none. `ptr` can be any number: 0 gives the first blob, and
/// that of a blob which was freed the one behind it, so a program may free blobs while it iterates. Fails (0 too: set errno to 0 before
/// to tell) iff:
/// - EBADF: no medium is open on `fd`.
/// - EILSEQ: a marker was overwritten since the medium was opened.
#[unsafe(no_mangle)]
pub extern "C" fn palloc_fd_next(fd: PALLOC_FD, ptr: PALLOC_OFFSET) -> PALLOC_OFFSET {
    with("palloc_next", fd, 0, |medium| medium.next(ptr))
}
