//! `finwo/palloc.h`: the second generation of palloc's functions, over file descriptors. The header maps their documented names to
//! those here.
#![allow(non_camel_case_types)]

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockWriteGuard};

use super::palloc::{invalid, report, report_on};
use super::{get_errno, set_errno};
use crate::palloc::{
    self as engine, Error, FileId, Flags, Locked, Palloc, at_fork, bad_descriptor, close_descriptor, errno_of, file_of,
};

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

/// The medium that is open on a descriptor, if any.
type Slot = RwLock<Option<Palloc>>;

/// What is known of a number of a descriptor.
#[derive(Clone, Copy, Default)]
struct Number {
    /// Made for the first medium, and it stays.
    slot: Option<&'static Slot>,
    /// GENERATION when the medium was opened.
    generation: usize,
    /// Where the medium in the slot is. Set while OPENING is locked; palloc_close takes it away.
    opened: Option<Opened>,
}

#[derive(Clone, Copy)]
struct Opened {
    file: FileId,
    read_only: bool,
}

static NUMBERS: RwLock<Vec<Number>> = RwLock::new(Vec::new());

/// Held while media are looked for, opened and registered: two threads may be at it with one descriptor or one file.
static OPENING: Mutex<()> = Mutex::new(());

const NO_PANIC: &str = "no thread panicked at work on a medium";

/// How many forks lead from the first process to this one.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

static FORK_HANDLED: AtomicBool = AtomicBool::new(false);

fn lock_opening() -> MutexGuard<'static, ()> {
    if !FORK_HANDLED.load(Ordering::Acquire) {
        // Whoever holds the lock has seen to it that fork(2) waits for it. Two threads may both do so here, which does no harm;
        // waiting for the other would, in a child of a third one.
        at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
        FORK_HANDLED.store(true, Ordering::Release);
    }
    OPENING.lock().expect(NO_PANIC)
}

/// Both locks, while the thread that holds them forks: a child must not find them locked by a thread that it does not have.
struct Fork {
    /// Which thread: the address of a variable of its own; 0 for none.
    thread: AtomicUsize,
    /// How often `before_fork` ran; more than once if it was registered more than once.
    depth: AtomicUsize,
    locks: UnsafeCell<Option<(MutexGuard<'static, ()>, RwLockWriteGuard<'static, Vec<Number>>)>>,
}

// SAFETY: the cell is touched by the thread only that holds OPENING.
unsafe impl Sync for Fork {}

static FORK: Fork = Fork { thread: AtomicUsize::new(0), depth: AtomicUsize::new(0), locks: UnsafeCell::new(None) };

extern "C" fn before_fork() {
    thread_local! {
        static OWN: AtomicU8 = const { AtomicU8::new(0) };
    }
    let this_thread = OWN.with(|own| std::ptr::from_ref(own).addr());
    if FORK.thread.load(Ordering::Relaxed) != this_thread {
        let locks = (OPENING.lock().expect(NO_PANIC), NUMBERS.write().expect(NO_PANIC));
        FORK.thread.store(this_thread, Ordering::Relaxed);
        // SAFETY: this thread holds OPENING.
        unsafe { *FORK.locks.get() = Some(locks) };
    }
    FORK.depth.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn after_fork_in_parent() {
    if FORK.depth.fetch_sub(1, Ordering::Relaxed) == 1 {
        FORK.thread.store(0, Ordering::Relaxed);
        // SAFETY: this thread holds OPENING, since `before_fork`.
        let locks = unsafe { (*FORK.locks.get()).take() };
        drop(locks);
    }
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    after_fork_in_parent();
}

fn number(fd: c_int) -> Option<Number> {
    NUMBERS.read().expect(NO_PANIC).get(usize::try_from(fd).ok()?).copied()
}

/// From here on `medium` is the one of `fd`.
fn register(fd: c_int, opened: Opened, medium: Palloc) -> engine::Result<()> {
    let_go(fd);
    let mut numbers = NUMBERS.write().expect(NO_PANIC);
    let index = fd as usize; // an open descriptor
    if index >= numbers.len() {
        let more = index + 1 - numbers.len();
        numbers.try_reserve(more)?;
        numbers.resize(index + 1, Number::default());
    }
    let slot = match numbers[index].slot {
        Some(slot) => slot,
        None => numbers[index].slot.insert(&Box::leak(engine::try_box(Slot::default())?)[0]),
    };
    *slot.write().expect(NO_PANIC) = Some(medium);
    numbers[index].opened = Some(opened);
    numbers[index].generation = GENERATION.load(Ordering::Relaxed);
    Ok(())
}

/// Forgets the medium of a number whose descriptor the program closed by close(2), as after a kill: the process may be a forked child,
/// whose parent is at work on the file.
fn let_go(fd: c_int) {
    if let Some(Number { slot: Some(slot), opened: Some(_), generation }) = number(fd) {
        let was_forked = generation != GENERATION.load(Ordering::Relaxed);
        // A thread that was at work in it at the fork does not exist here, and never ends: the medium is left to it.
        let lock = if was_forked { slot.try_write().ok() } else { Some(slot.write().expect(NO_PANIC)) };
        let is_left = lock.is_none();
        if let Some(medium) = lock.and_then(|mut medium| medium.take()) {
            medium.forget();
        }
        let number = &mut NUMBERS.write().expect(NO_PANIC)[fd as usize];
        number.opened = None;
        if is_left {
            number.slot = None;
        }
    }
}

/// Tries once more after letting go of what the program closed by close(2): the lock, a descriptor or the memory may be what is wanted.
fn with_retry<T>(attempt: impl Fn() -> engine::Result<T>) -> engine::Result<T> {
    attempt().or_else(|error| {
        let count = NUMBERS.read().expect(NO_PANIC).len() as c_int;
        let closed = (0..count).filter(|&fd| is_stale(fd)).map(let_go).count();
        if closed > 0 { attempt() } else { Err(error) }
    })
}

/// Whether a medium is open on that number, but the descriptor is closed, or that of another file by now.
fn is_stale(fd: c_int) -> bool {
    number(fd).and_then(|number| number.opened).is_some_and(|opened| !is_open_on(fd, opened.file))
}

fn count_open(which: impl Fn(Opened) -> bool) -> usize {
    let numbers = NUMBERS.read().expect(NO_PANIC);
    numbers.iter().filter(|number| number.opened.is_some_and(&which)).count()
}

/// Whether `fd` is open on the file, as far as the system tells.
fn is_open_on(fd: c_int, file: FileId) -> bool {
    file_of(fd).map_or_else(|e| errno_of(&e) != libc::EBADF, |of| of == file)
}

fn no_medium() -> Error {
    Error::System { doing: "find the medium", source: bad_descriptor() }
}

/// Runs `f` on the medium of `fd`, or reports why not. errno is left alone on success.
fn with<T>(function: &str, fd: c_int, failed: T, f: impl FnOnce(&mut Locked<'_>) -> engine::Result<T>) -> T {
    let before = get_errno();
    let result = number(fd).and_then(|number| number.slot).ok_or_else(no_medium).and_then(|slot| {
        let medium = slot.read().expect(NO_PANIC);
        f(&mut medium.as_ref().ok_or_else(no_medium)?.lock())
    });
    told(function, fd, before, failed, result)
}

fn told<T>(function: &str, fd: c_int, errno_before: c_int, failed: T, result: engine::Result<T>) -> T {
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
    let _opening = lock_opening();
    with_retry(|| {
        let (descriptor, medium) = Palloc::open_exact(path, flags)?;
        let fd = descriptor.number();
        match medium {
            Some(medium) => register(fd, opened(fd, flags)?, medium)?,
            None => let_go(fd),
        }
        Ok(descriptor.into_number())
    })
}

fn opened(fd: c_int, flags: Flags) -> engine::Result<Opened> {
    let file = file_of(fd).map_err(Error::system("use the descriptor"))?;
    Ok(Opened { file, read_only: flags.contains(Flags::READONLY) })
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
    told("palloc_init", fd, before, -1, result.map(|()| 0))
}

fn init(fd: c_int, flags: Flags) -> engine::Result<()> {
    flags.check()?;
    let _opening = lock_opening();
    with_retry(|| {
        let wanted = opened(fd, flags)?;
        let known = number(fd).filter(|number| number.opened.is_some_and(|there| there.file == wanted.file));
        if let Some(slot) = known.and_then(|number| number.slot) {
            if let Some(medium) = slot.read().expect(NO_PANIC).as_ref() {
                return if flags.contains(Flags::SYNC) { medium.make_durable() } else { Ok(()) };
            }
        }
        // Before the lock is asked for, which a dup(2) of a descriptor shares.
        let excludes = |there: Opened| there.file == wanted.file && !(there.read_only && wanted.read_only);
        if count_open(excludes) > 0 {
            return Err(Error::Locked);
        }
        register(fd, wanted, Palloc::attach_exact(fd, flags)?)
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
    told("palloc_close", fd, before, -1, close(fd).map(|()| 0))
}

fn close(fd: c_int) -> engine::Result<()> {
    let Number { slot, opened, .. } = number(fd).unwrap_or_default();
    let is_ours = match opened {
        Some(opened) => is_open_on(fd, opened.file),
        None => fd > 2 && file_of(fd).is_ok(), // 0 is what a palloc_open that failed returned
    };
    let medium = slot.and_then(|slot| slot.write().expect(NO_PANIC).take());
    let mut closed = Ok(());
    if let (Some(medium), Some(opened)) = (medium, opened) {
        // Others read the medium too. If they do so by a dup(2) of `fd`, the lock is theirs as well.
        let is_shared = count_open(|other| other.file == opened.file) > 1;
        if is_ours && !is_shared {
            closed = medium.close();
        } else {
            medium.forget();
        }
        NUMBERS.write().expect(NO_PANIC)[fd as usize].opened = None;
    }
    if !is_ours {
        return Err(no_medium());
    }
    // SAFETY: open, on the caller's word no longer used, and given to us to be closed.
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
