//! Blobs in a file that outlives the process: allocate, free, resize and walk them; survive a kill at any moment.
//!
//! docs/FORMAT.md has the bytes of the file, and the order of stores. The modules, from the bytes up: `format` says what they mean,
//! `medium` where they are, by the system calls in `os`, `free_index` which blocks there are, `heap` works on them, `recover` opens and
//! repairs. A [`Palloc`] puts one lock round a heap.
//!
//! ```
//! use palloc::{Flags, Palloc};
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("notes.db");
//! let medium = Palloc::open(&path, Flags::DYNAMIC)?;
//! let note = medium.alloc(5)?;
//! medium.write(note, 0, b"hello")?;
//! medium.close()?;
//!
//! let medium = Palloc::open(&path, Flags::DYNAMIC)?;
//! let mut text = [0; 5];
//! medium.read(medium.iter().next().unwrap()?, 0, &mut text)?;
//! assert_eq!(&text, b"hello");
//! # Ok::<(), palloc::Error>(())
//! ```

mod error;
mod format;
mod free_index;
mod heap;
mod medium;
mod os;
mod recover;
#[cfg(test)]
mod tests;

use std::collections::TryReserveError;
use std::ffi::{CStr, CString, c_int};
use std::ops::BitOr;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

pub use error::Error;
use heap::Heap;
use medium::{FileMedium, Medium};
pub(crate) use os::{Descriptor, FileId, absolute_path, at_fork, bad_descriptor, close_descriptor, errno_of, file_of};

/// What calls on a medium return.
pub type Result<T> = std::result::Result<T, Error>;

/// Where the first block begins.
pub const HEADER_SIZE: u32 = format::HEADER as u32;

impl From<TryReserveError> for Error {
    fn from(_: TryReserveError) -> Error {
        Error::OutOfMemory
    }
}

/// How a medium is opened. Combine with `|`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u32);

impl Flags {
    /// A static medium, as large as its file.
    pub const DEFAULT: Flags = Flags(0);
    /// The medium grows, unless it is initialized already and says that it does not.
    pub const DYNAMIC: Flags = Flags(format::DYNAMIC);
    /// Every operation is on the disk when it returns.
    pub const SYNC: Flags = Flags(format::SYNC);
    /// A shared lock, and no write of any kind.
    pub const READONLY: Flags = Flags(4);
    /// Initialize a file that holds something else or a damaged medium.
    pub const FORCE: Flags = Flags(8);

    /// Flags from their numbers in C. [`Palloc::open`] refuses those that are not defined.
    pub const fn from_bits(bits: u32) -> Flags {
        Flags(bits)
    }

    /// The numbers in C.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `flags` are set.
    pub const fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub(crate) fn check(self) -> Result<()> {
        let known = Flags::DYNAMIC | Flags::SYNC | Flags::READONLY | Flags::FORCE;
        if self.0 & format::EXTENDED != 0 {
            Err(Error::Extended)
        } else if !known.contains(self) || self.contains(Flags::READONLY | Flags::FORCE) {
            Err(Error::BadFlags(self.0))
        } else {
            Ok(())
        }
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A block, allocated or free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Offset of its data.
    pub ptr: u64,
    /// Size of its data.
    pub size: u64,
    /// Whether it is free.
    pub is_free: bool,
}

impl Block {
    /// Where the next block begins.
    pub(crate) fn end(&self) -> u64 {
        self.ptr + self.size + format::WORD
    }
}

/// What a medium holds. Bytes are those of data sections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// End of the last block.
    pub medium_size: u64,
    /// How many blobs are allocated.
    pub live_blobs: u64,
    /// Sum of their sizes.
    pub live_bytes: u64,
    /// How many blocks are free.
    pub free_blocks: u64,
    /// Sum of their sizes.
    pub free_bytes: u64,
    /// Size of the largest of them.
    pub largest_free: u64,
}

/// An open medium. It may be used by many threads; each call locks it. Dropping it closes it.
pub struct Palloc {
    heap: Mutex<Heap<FileMedium>>,
    flags: Flags,
    /// None where it is not ours: in the second generation.
    descriptor: Option<Descriptor>,
}

pub(crate) type Locked<'a> = MutexGuard<'a, Heap<FileMedium>>;

impl Palloc {
    /// Opens the medium in the file at `path`, after making one or repairing it where that is called for. Fails if it is open
    /// already, if the file holds something else or a damaged medium, and where the system does.
    pub fn open(path: impl AsRef<Path>, flags: Flags) -> Result<Palloc> {
        Palloc::open_c(&os::c_path(path.as_ref())?, flags)
    }

    pub(crate) fn open_c(path: &CStr, flags: Flags) -> Result<Palloc> {
        let (medium, descriptor) = open_with_descriptor(path, flags)?;
        let mut opened = Palloc::over(medium, flags, false)?;
        opened.descriptor = Some(descriptor);
        Ok(opened)
    }

    /// Opens the medium in the file at `path` if it is one, else only the file. The descriptor is the program's. In exact mode: the
    /// file ends with the last block, at every moment.
    pub(crate) fn open_exact(path: &CStr, flags: Flags) -> Result<(Descriptor, Option<Palloc>)> {
        let (mut medium, descriptor) = open_with_descriptor(path, flags)?;
        if recover::is_initialized(&medium, flags)? {
            return Palloc::over(medium, flags, true).map(|opened| (descriptor, Some(opened)));
        }
        medium.flush().map(|()| (descriptor, None)) // the entry of a new file in its directory, too
    }

    /// Opens the medium that the program's descriptor is open on, in exact mode, after making one where that is called for.
    pub(crate) fn attach_exact(fd: c_int, flags: Flags) -> Result<Palloc> {
        flags.check()?;
        let mut medium = FileMedium::of_descriptor(fd, flags)?;
        if recover::is_durable(recover::stored_flags(&medium), flags) {
            medium.make_durable(); // before it is repaired
        }
        Palloc::over(medium, flags, true)
    }

    fn over(medium: FileMedium, flags: Flags, exact: bool) -> Result<Palloc> {
        let (mut heap, stored) = recover::open(medium, flags)?;
        heap.exact = exact;
        let sync = Flags(if recover::is_durable(stored, flags) { format::SYNC } else { 0 });
        Ok(Palloc { heap: Mutex::new(heap), flags: Flags(stored) | sync, descriptor: None })
    }

    /// The flags in the medium's header, and SYNC if it was asked for.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// A descriptor of the file, for reading and writing blobs at their offsets. The medium itself does not need it.
    pub fn descriptor(&self) -> c_int {
        self.descriptor.as_ref().map_or(-1, Descriptor::number)
    }

    /// Runs under the lock. After a panic in the middle of an update nothing may be written any more, so this panics too.
    pub(crate) fn lock(&self) -> Locked<'_> {
        self.heap.lock().expect("no thread panicked at work on the medium")
    }

    /// Allocates a blob of at least `size` bytes and returns its offset.
    pub fn alloc(&self, size: u64) -> Result<u64> {
        self.lock().alloc(size)
    }

    /// Frees the blob at `ptr`.
    pub fn free(&self, ptr: u64) -> Result<()> {
        self.lock().free(ptr)
    }

    /// Resizes the blob at `ptr`, in place or by a move, and returns its offset. On failure the blob is as it was.
    pub fn resize(&self, ptr: u64, size: u64) -> Result<u64> {
        self.lock().resize(ptr, size)
    }

    /// The size of the blob at `ptr`.
    pub fn size_of(&self, ptr: u64) -> Result<u64> {
        self.lock().size_of(ptr)
    }

    /// The allocated blob with the lowest offset above `ptr`, whatever `ptr` is; None if there is none. 0 is the beginning.
    pub fn next(&self, ptr: u64) -> Result<Option<u64>> {
        self.lock().next(ptr).map(|next| (next != 0).then_some(next))
    }

    /// The allocated blobs, by ascending offset. The medium may be changed meanwhile: the walk goes on behind where it stands, if that
    /// blob was freed too.
    pub fn iter(&self) -> impl Iterator<Item = Result<u64>> + '_ {
        let mut last = Some(0);
        std::iter::from_fn(move || {
            let next = self.next(last?).transpose();
            last = match &next {
                Some(Ok(ptr)) => Some(*ptr),
                _ => None,
            };
            next
        })
    }

    /// Copies bytes of the blob at `ptr`, from `offset` in it on, to `bytes`. Fails if it is not that long.
    pub fn read(&self, ptr: u64, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.lock().read(ptr, offset, bytes)
    }

    /// Copies `bytes` to the blob at `ptr`, from `offset` in it on. Fails if it is not that long.
    pub fn write(&self, ptr: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        self.lock().write(ptr, offset, bytes)
    }

    /// Where the bytes of the blob at `ptr` are in memory. The address stays valid until the medium is closed, as long as the blob is
    /// not freed or moved; whoever uses it answers for races with other threads and with the descriptor.
    pub fn data(&self, ptr: u64) -> Result<NonNull<[u8]>> {
        self.lock().data(ptr)
    }

    /// Makes everything done so far durable, and the file exactly the documented format.
    pub fn sync(&self) -> Result<()> {
        self.lock().sync()
    }

    /// Counts blocks and bytes.
    pub fn stat(&self) -> Result<Stat> {
        self.lock().stat()
    }

    /// Every block, allocated or free, by ascending offset. The medium may be changed meanwhile.
    pub fn blocks(&self) -> impl Iterator<Item = Result<Block>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let block = self.lock().block_from(from).transpose()?;
            from = block.as_ref().map_or(u64::MAX, Block::end);
            Some(block)
        })
    }

    /// Panics if the medium and what is known of it in memory do not agree: for tests and fuzzing. Reads the whole chain.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.lock().check_invariants();
    }

    /// From here on every operation is on the disk when it returns, and so is what was done before.
    pub(crate) fn make_durable(&self) -> Result<()> {
        let mut heap = self.lock();
        heap.check_synced()?;
        heap.medium.make_durable();
        heap.barrier()
    }

    /// Lets go of the medium as a kill would: nothing is written, and the lock stays with those who share the open file.
    pub(crate) fn forget(self) {
        let mut heap = self.lock();
        heap.writable = false;
        heap.medium.forget();
    }

    /// Closes the medium and tells what could not be written.
    pub fn close(self) -> Result<()> {
        self.lock().close()
    }
}

impl Drop for Palloc {
    fn drop(&mut self) {
        if let Ok(heap) = self.heap.get_mut() {
            // What could not be written is derived from the chain: the next open makes it good.
            let _ = heap.close();
        }
    }
}

/// Reads the medium in the file at `path` without opening it, and tells `report` of everything that is not exactly the format: the
/// offset of the block, and what is wrong. Returns how much there was.
pub fn check(path: impl AsRef<Path>, report: impl FnMut(u64, &CStr)) -> Result<u64> {
    check_c(&os::c_path(path.as_ref())?, report)
}

pub(crate) fn check_c(path: &CStr, report: impl FnMut(u64, &CStr)) -> Result<u64> {
    Ok(recover::check(&FileMedium::open(path, Flags::READONLY)?, report))
}

/// Opens and locks the file, and makes a descriptor of it for the program.
fn open_with_descriptor(path: &CStr, flags: Flags) -> Result<(FileMedium, Descriptor)> {
    let spare = os::spare_descriptor(); // where there is none for the program, no file is created either
    let medium = open_file(path, flags)?;
    drop(spare);
    let descriptor = medium.descriptor()?;
    Ok((medium, descriptor))
}

/// Opens and locks the file, with O_DSYNC if the medium in it asks for that.
fn open_file(path: &CStr, flags: Flags) -> Result<FileMedium> {
    flags.check()?;
    let medium = FileMedium::open(path, flags)?;
    if flags.contains(Flags::SYNC) || !recover::is_durable(recover::stored_flags(&medium), flags) {
        return Ok(medium);
    }
    // O_DSYNC can't be set later. Nothing that was read until now is used any more.
    drop(medium);
    FileMedium::open(path, flags | Flags::SYNC)
}

/// A copy as a C string, or None with a NUL in `bytes`; an error, not an abort, when memory runs out.
pub(crate) fn try_c_string(bytes: &[u8]) -> std::result::Result<Option<CString>, TryReserveError> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len() + 1)?;
    copy.extend_from_slice(bytes);
    copy.push(0);
    Ok(CString::from_vec_with_nul(copy).ok())
}

/// A box, or an error, not an abort, when memory runs out: only slices have that.
pub(crate) fn try_box<T>(value: T) -> std::result::Result<Box<[T]>, TryReserveError> {
    let mut one = Vec::new();
    one.try_reserve_exact(1)?;
    one.push(value);
    Ok(one.into_boxed_slice())
}
