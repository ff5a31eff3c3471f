// SPDX-License-Identifier: MIT OR Apache-2.0
//! Live readers: other processes read a medium while one writes it.
//!
//! Beside the medium lies FILE.live. The writer makes it, each process maps it, and the writer's close removes it:
//!
//! ```text
//!   magic, number of the medium's file, process of the writer | epoch | end of the file, first blob, held bytes | 254 slots
//! ```
//!
//! `epochs` has the protocol of the epoch and the slots. The kernel says who lives: the writer has a lock on byte 0 of FILE.live, and the
//! reader with slot i one on byte 1 + i. They are locks of open files, which end with their process. So nothing in the file is trusted
//! after a crash: a new writer makes a new one, once no reader is in a section that began with the old one.
//!
//! The medium itself has the writer's exclusive lock, as ever. So writers and readers without PALLOC_SHARED stay out.

pub mod epochs;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};

use self::epochs::{CLOSED, FIRST, NEVER, Refused};
use super::error::{Error, Sharing};
use super::format::{Extent, MIN_DATA, Marker, OVERHEAD, Start, WORD};
use super::sync::{AtomicU64, Ordering};
use super::{Result, os, try_c_string};

/// "PBALIVE" and the version of the layout.
const MAGIC: u64 = u64::from_be_bytes(*b"PBALIVE\x01");
/// So many readers can be open at once.
pub const SLOTS: usize = 254;
/// The byte of FILE.live that the writer locks. The byte of a reader is FIRST_READER plus its slot.
const WRITER: u64 = 0;
const FIRST_READER: u64 = 1;

/// How often a reader asks the kernel at most whether the writer lives.
const LOOK_EVERY_MS: u64 = 100;
/// `last_look` of a reader whose writer is gone.
const GONE: u64 = u64::MAX;
/// A reclaim asks whether the process of a slot lives only if that is so many epochs behind, or a power of two times as many.
const SUSPICIOUS: u64 = 16;
/// How long a writer that closes or opens waits for read sections, and how often it looks.
const WAIT: Duration = Duration::from_millis(1);
const WAITS: u32 = 50;
/// How often opening begins again, because another process opens or closes.
const TRIES: u32 = 10;

/// A word in a cache line of its own.
#[repr(C, align(64))]
struct Line(AtomicU64);

#[repr(C, align(64))]
struct Slot {
    pin: AtomicU64,
    /// The process that has the slot, as it sees itself; 0 if none.
    process: AtomicU64,
}

/// The contents of FILE.live, which the processes share. Its integers are in the machine's order of bytes: no other machine maps them.
#[repr(C)]
struct LiveFields {
    magic: AtomicU64,
    /// The number of the medium's file.
    medium: AtomicU64,
    writer: AtomicU64,
    /// No slot behind these has been used.
    used: AtomicU64,
    epoch: Line,
    /// The length of the medium's file.
    end: Line,
    /// The offset of the first blob, 0 if there is no blob.
    first: AtomicU64,
    held_bytes: AtomicU64,
    slots: [Slot; SLOTS],
}

/// The length of FILE.live.
const LEN: usize = size_of::<LiveFields>();
const _: () = assert!(LEN == 16_512, "docs/FORMAT.md says so");

const _: () = assert!(SLOTS < u8::MAX as usize && size_of::<Slot>() == 64, "no two readers store to one cache line");

/// FILE.live, open and mapped.
struct LiveFile {
    file: os::KeptFile,
    map: MmapRaw,
}

impl LiveFile {
    /// Precondition: the file is LEN bytes long or longer.
    fn map(file: File) -> Result<LiveFile> {
        const MAPPING: &str = "map the file of the live readers";
        let map = MmapOptions::new().len(LEN).map_raw(&file).map_err(os::error_of_mapping);
        let map = map.map_err(Error::system(MAPPING))?;
        Ok(LiveFile { file: os::KeptFile::new(file).map_err(Error::system(MAPPING))?, map })
    }

    /// The file, to ask for locks or to change them. Fails iff the program has closed its descriptor.
    fn file(&self) -> std::io::Result<&File> {
        self.file.still_open().map(|()| &*self.file)
    }

    fn shared(&self) -> &LiveFields {
        // SAFETY: LEN bytes, at the beginning of a page. All are atomics, so any bytes are a value, and other processes may store.
        unsafe { &*self.map.as_mut_ptr().cast::<LiveFields>() }
    }

    /// The pins of the slots that have been used.
    fn pins(&self) -> impl Iterator<Item = &AtomicU64> {
        let shared = self.shared();
        let used = shared.used.load(Ordering::Acquire).min(SLOTS as u64) as usize;
        shared.slots[..used].iter().map(|slot| &slot.pin)
    }

    /// Whether no process has the slot. It is clear then. Precondition: this is the writer's.
    fn is_gone(&self, place: usize) -> bool {
        let byte = FIRST_READER + place as u64;
        let Ok(file) = self.file() else { return false };
        // Nobody else can take it meanwhile. If the system can't say, the reader may live.
        let is_gone = os::lock_byte(file, byte).unwrap_or(false);
        if is_gone {
            self.shared().slots[place].pin.store(0, Ordering::Release);
            self.shared().slots[place].process.store(0, Ordering::Relaxed);
            os::unlock_byte(file, byte);
        }
        is_gone
    }

    /// Ends sharing, and waits a moment for the read sections that are open. Returns the oldest epoch that is still pinned.
    fn close(&self) -> u64 {
        let mut waits = 0;
        loop {
            let oldest = self.next(CLOSED, |_| true);
            if oldest == NEVER || waits == WAITS {
                return oldest;
            }
            waits += 1;
            thread::sleep(WAIT);
        }
    }

    /// Begins an epoch, or closes. Returns the oldest one that is pinned. `is_suspicious`: whether to ask if its reader lives.
    fn next(&self, epoch: u64, is_suspicious: impl Fn(u64) -> bool) -> u64 {
        let is_gone = |place, pinned| is_suspicious(pinned) && self.is_gone(place);
        epochs::next(&self.shared().epoch.0, epoch, self.pins(), is_gone)
    }

    /// Counts of the readers.
    fn readers(&self, own: Option<usize>) -> Result<Readers> {
        let shared = self.shared();
        let mut readers = Readers {
            open: 0,
            reading: 0,
            oldest_process: 0,
            held_bytes: shared.held_bytes.load(Ordering::Relaxed),
            writer_process: shared.writer.load(Ordering::Relaxed),
        };
        let mut oldest = NEVER;
        for (place, slot) in shared.slots.iter().enumerate() {
            // The system does not report a process's own lock.
            if slot.process.load(Ordering::Relaxed) == 0 || !(own == Some(place) || self.is_locked(place)?) {
                continue;
            }
            readers.open += 1;
            if let Some(epoch) = epochs::pinned(&slot.pin) {
                readers.reading += 1;
                if epoch < oldest {
                    (oldest, readers.oldest_process) = (epoch, slot.process.load(Ordering::Relaxed));
                }
            }
        }
        Ok(readers)
    }

    fn is_locked(&self, place: usize) -> Result<bool> {
        self.file().and_then(|file| os::is_locked(file, FIRST_READER + place as u64, 1)).map_err(Error::system(ASKING))
    }
}

const ASKING: &str = "ask for the locks of the live readers";
const LOCKING: &str = "lock FILE.live for the live readers";

/// Counts of the readers of a medium. See [`Palloc::readers`](super::Palloc::readers).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Readers {
    /// How many are open.
    pub open: u32,
    /// How many of them are in a read section.
    pub reading: u32,
    /// The process whose section is the oldest, as it sees itself; 0 if none is open.
    pub oldest_process: u64,
    /// Bytes of blobs that were freed and are not reused yet, because a reader may read them.
    pub held_bytes: u64,
    /// The writer's process, as it sees itself.
    pub writer_process: u64,
}

/// The name of FILE.live for the medium in `file`: it lies beside the file that `path` leads to by symbolic links. Fails iff the file system
/// may be that of another machine.
fn path_beside(file: &File, path: &CStr) -> Result<CString> {
    const SUFFIX: &[u8] = b".live";
    if !os::CAN_SHARE || os::is_remote(file) {
        return Err(Sharing::Remote.into());
    }
    let medium = os::absolute_path(path)?;
    let mut path = Vec::new();
    path.try_reserve_exact(medium.count_bytes() + SUFFIX.len())?;
    path.extend_from_slice(medium.to_bytes());
    path.extend_from_slice(SUFFIX);
    Ok(try_c_string(&path)?.expect("a C string has no NUL in it"))
}

/// The writer's side of FILE.live.
pub struct Writer {
    live: LiveFile,
    // Behind `live`, so that this process does not have the file mapped any more when the name goes.
    name: Name,
    epoch: u64,
    is_closed: bool,
}

/// The name of FILE.live. A drop removes it, unless readers are in sections, or it is another file's by now.
struct Name {
    path: CString,
    /// The number of FILE.live.
    number: u64,
    stays: bool,
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.stays {
            os::remove_live(&self.path, self.number);
        }
    }
}

impl Writer {
    /// Makes FILE.live for the medium in `file`, which is locked, in place of one that a former writer left. Sharing begins with
    /// [`Writer::begin`]. Fails iff a reader is in a section that began with a former writer, FILE.live can't be made, or the file system
    /// may be that of another machine.
    pub fn new(file: &File, path: &CStr) -> Result<Writer> {
        const MAKING: &str = "make FILE.live for the live readers";
        let path = path_beside(file, path)?;
        let number = os::file_number(file).map_err(Error::system(MAKING))?;
        for _ in 0..TRIES {
            take_over(&path)?;
            let new = match os::create_new(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                new => new.map_err(Error::system(MAKING))?,
            };
            let name = Name { path, number: os::file_number(&new).map_err(Error::system(MAKING))?, stays: false };
            let live = Writer::fill(new, file, number)?;
            return Ok(Writer { live, name, epoch: FIRST, is_closed: false });
        }
        Err(Error::Locked)
    }

    fn fill(new: File, medium: &File, number: u64) -> Result<LiveFile> {
        const FILLING: &str = "fill FILE.live for the live readers";
        if !os::lock_byte(&new, WRITER).map_err(Error::system(LOCKING))? {
            return Err(Error::Locked);
        }
        os::let_readers_write(medium, &new).map_err(Error::system(FILLING))?;
        // Not by ftruncate(2): a reader that opens it meanwhile must find space on the disk wherever it has length.
        os::within_file_size_limit(LEN as u64).map_err(Error::system(FILLING))?;
        os::write_zeros(&new, 0, LEN as u64).map_err(Error::system(FILLING))?;
        let live = LiveFile::map(new)?;
        let shared = live.shared();
        shared.medium.store(number, Ordering::Relaxed);
        shared.writer.store(std::process::id().into(), Ordering::Relaxed);
        shared.magic.store(MAGIC, Ordering::Relaxed);
        Ok(live)
    }

    /// From now on readers can open.
    pub fn begin(&self) {
        self.live.shared().epoch.0.store(self.epoch, Ordering::Release);
    }

    /// The epoch of a block that is freed now.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Begins the next epoch. Returns the oldest one that a reader pins, NEVER if none is. Blocks that are held from before that on can be
    /// reused. `thorough`: also asks whether readers that hold something back live.
    pub fn next_epoch(&mut self, thorough: bool) -> u64 {
        self.epoch += 1;
        let behind = |pinned| self.epoch.saturating_sub(pinned) / SUSPICIOUS;
        self.live.next(self.epoch, |pinned| thorough || behind(pinned).is_power_of_two())
    }

    /// Whether a reader is open.
    pub fn has_readers(&self) -> bool {
        self.live.file().and_then(|file| os::is_locked(file, FIRST_READER, SLOTS as u64)).unwrap_or(true)
    }

    /// Makes the length of the medium's file known: when it has become longer, or before it becomes shorter.
    pub fn set_file_len(&self, end: u64) {
        self.live.shared().end.0.store(end, Ordering::Release);
    }

    /// Makes the first blob known; 0 if there is no blob.
    pub fn set_first(&self, first: u64) {
        self.live.shared().first.store(first, Ordering::Release);
    }

    /// Makes known how much is held back.
    pub fn set_held(&self, bytes: u64) {
        self.live.shared().held_bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn readers(&self) -> Result<Readers> {
        self.live.readers(None)
    }

    /// Ends sharing: no read section begins any more. Returns the oldest epoch that is still pinned. The drop then removes FILE.live,
    /// unless one is.
    pub fn close(&mut self) -> u64 {
        self.is_closed = true;
        let oldest = self.live.close();
        self.name.stays = oldest != NEVER;
        oldest
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_closed {
            self.close(); // opening failed, or the medium can't be written to any more
        }
        // close(2) is not enough, as for a reader.
        if let Ok(file) = self.live.file() {
            os::unlock_byte(file, WRITER);
        }
    }
}

/// Ends what a former writer left at this path, and removes it. Fails iff the writer lives, or a reader is in a section.
fn take_over(path: &CStr) -> Result<()> {
    const OPENING: &str = "look for FILE.live of a former writer";
    let old = match os::open_beside(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        old => old.map_err(Error::system(OPENING))?,
    };
    let number = os::file_number(&old).map_err(Error::system(OPENING))?;
    if !os::lock_byte(&old, WRITER).map_err(Error::system(LOCKING))? {
        return Err(Sharing::NameInUse.into()); // not by a writer of this medium, which would have that locked
    }
    let len = old.metadata().map_err(Error::system(OPENING))?.len();
    let mut head = [0; size_of::<u64>()];
    let head = &mut head[..len.min(WORD) as usize];
    os::read_all(&old, head, 0).map_err(Error::system(OPENING))?;
    // A power cut may leave its beginning, zeros, or anything in its length.
    let has_magic = MAGIC.to_ne_bytes().starts_with(head);
    let is_ours = has_magic || len == LEN as u64 || head.iter().all(|&byte| byte == 0);
    if has_magic && len >= LEN as u64 {
        if LiveFile::map(old)?.close() != NEVER {
            return Err(Sharing::InSection.into());
        }
    } else if os::is_locked(&old, FIRST_READER, SLOTS as u64).map_err(Error::system(ASKING))? {
        return Err(Sharing::InSection.into()); // a reader of another version of this library
    } else if !is_ours {
        return Err(Sharing::Foreign.into());
    }
    os::remove_live(path, number);
    Ok(())
}

/// A reader's side of FILE.live: its slot. A drop gives the slot back.
pub struct Seat {
    live: LiveFile,
    place: usize,
}

impl Seat {
    /// Takes a slot beside the writer of the medium in `file`. Fails iff no process has that open with PALLOC_SHARED, or no slot is free.
    pub fn new(file: &File, path: &CStr) -> Result<Seat> {
        Seat::at(file, &path_beside(file, path)?)?.ok_or(Sharing::NoWriter.into())
    }

    /// None if there is no writer that shares.
    fn at(medium: &File, path: &CStr) -> Result<Option<Seat>> {
        const OPENING: &str = "open FILE.live of the live readers";
        let file = match os::open_beside(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(Error::system(OPENING))?,
        };
        let asked = |result: std::io::Result<bool>| result.map_err(Error::system(ASKING));
        let has_writer = |file: &File| asked(os::is_locked(file, WRITER, 1));
        if !has_writer(&file)? || file.metadata().map_err(Error::system(OPENING))?.len() < LEN as u64 {
            return Ok(None);
        }
        let live = LiveFile::map(file)?;
        let number = os::file_number(medium).map_err(Error::system(OPENING))?;
        let shared = live.shared();
        // The epoch first: it is stored last.
        let is_its = shared.epoch.0.load(Ordering::Acquire) != CLOSED
            && shared.magic.load(Ordering::Relaxed) == MAGIC
            && shared.medium.load(Ordering::Relaxed) == number;
        if !is_its {
            return Ok(None);
        }
        for place in 0..SLOTS {
            if asked(os::lock_byte(&live.file, FIRST_READER + place as u64))? {
                shared.slots[place].pin.store(0, Ordering::Release);
                shared.slots[place].process.store(std::process::id().into(), Ordering::Relaxed);
                shared.used.fetch_max(place as u64 + 1, Ordering::SeqCst);
                let seat = Seat { live, place };
                // The writer may have gone meanwhile, and another one have made a new file.
                let is_open =
                    seat.live.shared().epoch.0.load(Ordering::Acquire) != CLOSED && has_writer(&seat.live.file)?;
                return Ok(is_open.then_some(seat));
            }
        }
        Err(Sharing::TooManyReaders.into())
    }

    /// The read sections.
    pub fn sections(&self) -> Sections {
        let shared = NonNull::from(self.live.shared());
        Sections { shared, place: self.place, file: self.live.file.borrow(), last_look: AtomicU64::new(0) }
    }

    /// The length of the medium's file. It is not cut as long as this exists.
    pub fn end(&self) -> u64 {
        self.live.shared().end.0.load(Ordering::Acquire)
    }

    pub fn readers(&self) -> Result<Readers> {
        self.live.readers(Some(self.place))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let slot = &self.live.shared().slots[self.place];
        slot.pin.store(0, Ordering::Release);
        slot.process.store(0, Ordering::Relaxed);
        // close(2) is not enough: a forked child would keep the lock. (If the program has closed it, the lock ends with the mapping.)
        if let Ok(file) = self.live.file() {
            os::unlock_byte(file, FIRST_READER + self.place as u64);
        }
    }
}

/// Read sections, for threads without the medium's lock. Precondition of all functions: the [`Seat`] that it is of is not dropped.
pub struct Sections {
    shared: NonNull<LiveFields>,
    place: usize,
    file: os::Borrowed,
    /// When this last asked whether the writer lives, in ms; GONE if it does not.
    last_look: AtomicU64,
}

// SAFETY: it leads to atomics only, and to a descriptor that stays open.
unsafe impl Send for Sections {}
// SAFETY: as above.
unsafe impl Sync for Sections {}

impl Sections {
    #[inline]
    fn shared(&self) -> &LiveFields {
        // SAFETY: mapped as long as its seat exists, by the precondition.
        unsafe { self.shared.as_ref() }
    }

    #[inline]
    fn pin(&self) -> &AtomicU64 {
        &self.shared().slots[self.place].pin
    }

    /// Begins a read section. Fails iff the writer has closed or died, or too many are open.
    #[inline]
    pub fn enter(&self) -> Result<()> {
        let now = os::coarse_ms();
        let last = self.last_look.load(Ordering::Relaxed);
        if now.wrapping_sub(last) >= LOOK_EVERY_MS {
            self.look(now, last)?;
        }
        epochs::enter(&self.shared().epoch.0, self.pin()).map_err(|refused| self.refused(refused))
    }

    #[cold]
    fn refused(&self, refused: Refused) -> Error {
        match refused {
            Refused::Closed => self.gone(),
            Refused::TooMany => Sharing::TooManySections.into(),
        }
    }

    #[cold]
    fn gone(&self) -> Error {
        self.last_look.store(GONE, Ordering::Relaxed);
        Sharing::NoWriter.into()
    }

    #[cold]
    #[inline(never)]
    fn look(&self, now: u64, last: u64) -> Result<()> {
        let lives = last != GONE && os::is_locked_borrowed(self.file, WRITER);
        if !lives {
            return Err(self.gone());
        }
        let _ = self.last_look.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed); // another thread may have looked
        Ok(())
    }

    /// Ends a read section.
    #[inline]
    pub fn leave(&self) {
        epochs::leave(self.pin());
    }

    /// The first blob, 0 if there is no blob. None if no section is open.
    pub fn first(&self) -> Option<u64> {
        epochs::is_open(self.pin()).then(|| self.shared().first.load(Ordering::Acquire))
    }

    /// The block of a blob, in a mapping of so many bytes. None if no section is open, or it is not there.
    ///
    /// # Safety
    /// `base` is where the first `size` bytes of the medium are mapped.
    #[inline]
    pub unsafe fn block(&self, base: NonNull<u8>, size: u64, blob: u64) -> Option<Extent> {
        let start = Start::of_blob(blob);
        let offset = start.offset();
        if !epochs::is_open(self.pin()) || blob % WORD != 0 || offset >= size.checked_sub(WORD)? {
            return None;
        }
        // SAFETY: an aligned word in the mapping, by the precondition; the file has it, as it is not cut while a reader is open.
        let marker = Marker(u64::from_be(unsafe {
            base.add(offset as usize).cast::<AtomicU64>().as_ref().load(Ordering::Acquire)
        }));
        // It may be free: then it is held.
        let block = Extent { start, data_len: marker.data_len() };
        let fits = block.data_len >= MIN_DATA && block.data_len <= (size - offset).checked_sub(OVERHEAD)?;
        fits.then_some(block)
    }
}
