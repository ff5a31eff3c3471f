// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which medium is open on which descriptor, for `finwo/palloc.h`, whose functions get a descriptor.
//!
//! Each descriptor number has a slot, which holds the medium that is open on it. A slot is made for the first medium of its number and
//! is never freed, so that a call may use it without a lock on the table.
//!
//! [`Registry`] has all of this, and the order of the locks.

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::fork::ForkLock;
use crate::palloc::{self as engine, Error, FileId, Flags, Palloc, bad_descriptor, errno_of, file_of};

/// The medium that is open on a descriptor, if any.
type Slot = RwLock<Option<Palloc>>;

/// The entry of the table for a descriptor number.
#[derive(Clone, Copy, Default)]
struct Number {
    slot: Option<&'static Slot>,
    /// The registry's generation when the medium was opened.
    generation: usize,
    /// The file of the medium in the slot; None without a medium. Set under `opening`. `take` clears it.
    opened: Option<OpenedAs>,
}

/// The file that a medium is in, and how it was opened.
#[derive(Clone, Copy)]
pub struct OpenedAs {
    file: FileId,
    read_only: bool,
}

impl OpenedAs {
    /// The file that `fd` is open on now.
    pub fn of(fd: c_int, flags: Flags) -> engine::Result<OpenedAs> {
        let file = file_of(fd).map_err(Error::system("use the descriptor"))?;
        Ok(OpenedAs { file, read_only: flags.contains(Flags::READONLY) })
    }

    /// Whether `fd` is open on this file. Where the system cannot say, it is unless `fd` is closed.
    fn is_open_on(self, fd: c_int) -> bool {
        file_of(fd).map_or_else(|e| errno_of(&e) != libc::EBADF, |file| file == self.file)
    }
}

/// Which medium is open on which descriptor. Lock order:
///
/// 1. `opening`, which an [`Opening`] holds: while a medium is looked for, opened and registered. Two threads may do that with one
///    descriptor or with one file.
/// 2. `numbers`: to read or change the table. No medium is used, opened or closed under it.
/// 3. A slot: shared for a call that works on its medium; exclusive to put a medium in or to take it out.
/// 4. The medium's own lock.
///
/// fork(2) waits for 1 and 2, so a child finds both free. A thread that holds 3 or 4 at the fork does not exist in the child, where
/// that lock stays taken for ever. The child can use other media: if such a slot's number comes back, it gets a new slot.
struct Registry {
    opening: Mutex<()>,
    numbers: RwLock<Vec<Number>>,
    /// How many forks lead from the first process to this one.
    generation: AtomicUsize,
    fork: ForkLock<Guards>,
}

static REGISTRY: Registry = Registry {
    opening: Mutex::new(()),
    numbers: RwLock::new(Vec::new()),
    generation: AtomicUsize::new(0),
    fork: ForkLock::new(),
};

const NO_PANIC: &str = "no thread panicked at work on a medium";

impl Registry {
    fn read_numbers(&self) -> RwLockReadGuard<'_, Vec<Number>> {
        self.numbers.read().expect(NO_PANIC)
    }

    fn write_numbers(&self) -> RwLockWriteGuard<'_, Vec<Number>> {
        self.numbers.write().expect(NO_PANIC)
    }

    fn number(&self, fd: c_int) -> Option<Number> {
        self.read_numbers().get(usize::try_from(fd).ok()?).copied()
    }

    fn generation(&self) -> usize {
        self.generation.load(Ordering::Relaxed)
    }

    /// How many open media fit.
    fn count_open(&self, fits: impl Fn(OpenedAs) -> bool) -> usize {
        self.read_numbers().iter().filter(|number| number.opened.is_some_and(&fits)).count()
    }

    /// The slot of a number, which is made if need be. Fails iff there is no memory.
    fn slot_for(&self, index: usize) -> engine::Result<&'static Slot> {
        let mut numbers = self.write_numbers();
        if index >= numbers.len() {
            let more = index + 1 - numbers.len();
            numbers.try_reserve(more)?;
            numbers.resize(index + 1, Number::default());
        }
        Ok(match numbers[index].slot {
            Some(slot) => slot,
            None => numbers[index].slot.insert(&Box::leak(engine::try_box(Slot::default())?)[0]),
        })
    }
}

/// EBADF.
pub fn no_medium() -> Error {
    Error::System { doing: "find the medium", source: bad_descriptor() }
}

/// Calls `f` with the medium that is open on `fd`. Fails iff there is none (EBADF), or `f` does.
pub fn with_medium<T>(fd: c_int, f: impl FnOnce(&Palloc) -> engine::Result<T>) -> engine::Result<T> {
    let slot = REGISTRY.number(fd).and_then(|number| number.slot);
    let slot = slot.ok_or_else(no_medium)?.read().expect(NO_PANIC);
    f(slot.as_ref().ok_or_else(no_medium)?)
}

/// The lock on opening. Its functions change which media are open.
pub struct Opening {
    _guard: MutexGuard<'static, ()>,
}

impl Opening {
    /// Waits for the lock.
    pub fn lock() -> Opening {
        REGISTRY.fork.install(before_fork, after_fork_in_parent, after_fork_in_child);
        Opening { _guard: REGISTRY.opening.lock().expect(NO_PANIC) }
    }

    /// Makes `medium` the one that is open on `fd`. Fails iff there is no memory; then `medium` is closed.
    pub fn register(&self, fd: c_int, opened: OpenedAs, medium: Palloc) -> engine::Result<()> {
        self.forget(fd);
        let index = fd as usize; // an open descriptor is not negative
        let slot = REGISTRY.slot_for(index)?;
        *slot.write().expect(NO_PANIC) = Some(medium);
        let number = &mut REGISTRY.write_numbers()[index];
        number.opened = Some(opened);
        number.generation = REGISTRY.generation();
        Ok(())
    }

    /// Forgets the medium of a number whose descriptor the program closed by close(2). Nothing is written, as after a kill: the process
    /// may be a forked child whose parent works on the file.
    pub fn forget(&self, fd: c_int) {
        let Some(Number { slot: Some(slot), opened: Some(_), generation }) = REGISTRY.number(fd) else { return };
        let was_forked = generation != REGISTRY.generation();
        // A lock that another thread held at the fork stays taken here. The medium is then left to it.
        let locked = if was_forked { slot.try_write().ok() } else { Some(slot.write().expect(NO_PANIC)) };
        let is_lost = locked.is_none();
        if let Some(medium) = locked.and_then(|mut slot| slot.take()) {
            medium.forget();
        }
        let number = &mut REGISTRY.write_numbers()[fd as usize];
        number.opened = None;
        if is_lost {
            number.slot = None;
        }
    }

    /// Calls `attempt`. If that fails and there are media whose descriptors the program closed by close(2), forgets those and tries
    /// once more: they may hold the lock, the descriptors or the memory that were missing.
    pub fn with_retry<T>(&self, attempt: impl Fn() -> engine::Result<T>) -> engine::Result<T> {
        attempt().or_else(|error| {
            let count = REGISTRY.read_numbers().len() as c_int;
            let is_closed = |fd: &c_int| {
                REGISTRY.number(*fd).and_then(|number| number.opened).is_some_and(|opened| !opened.is_open_on(*fd))
            };
            let forgotten = (0..count).filter(is_closed).map(|fd| self.forget(fd)).count();
            if forgotten > 0 { attempt() } else { Err(error) }
        })
    }

    /// Calls `f` with the medium that is open on `fd`, if there is one and it is in this file.
    pub fn with_medium_of<T>(&self, fd: c_int, file: OpenedAs, f: impl FnOnce(&Palloc) -> T) -> Option<T> {
        let known =
            REGISTRY.number(fd).filter(|number| number.opened.is_some_and(|opened| opened.file == file.file))?;
        known.slot?.read().expect(NO_PANIC).as_ref().map(f)
    }

    /// Whether a medium in this file is open, unless both are read only. Descriptors that were made by dup(2) share the file's lock, so
    /// the lock does not show that.
    pub fn is_excluded(&self, wanted: OpenedAs) -> bool {
        REGISTRY.count_open(|opened| opened.file == wanted.file && !(opened.read_only && wanted.read_only)) > 0
    }
}

/// The findings of `take`.
pub struct Taken {
    /// The medium, if one was open.
    pub medium: Option<Palloc>,
    /// Whether `fd` is still open on the medium's file, or on any file if no medium was open.
    pub is_open: bool,
    /// Whether another medium is open in the same file, for reading as this one. If it is open on a dup(2) of `fd`, it has the same
    /// lock.
    pub is_shared: bool,
}

/// Takes the medium out that is open on `fd`. Precondition: no other thread uses it.
pub fn take(fd: c_int) -> Taken {
    let Number { slot, opened, .. } = REGISTRY.number(fd).unwrap_or_default();
    let medium = slot.and_then(|slot| slot.write().expect(NO_PANIC).take());
    let Some(opened) = opened else {
        return Taken { medium, is_open: file_of(fd).is_ok(), is_shared: false };
    };
    let is_shared = REGISTRY.count_open(|other| other.file == opened.file) > 1;
    REGISTRY.write_numbers()[fd as usize].opened = None;
    Taken { medium, is_open: opened.is_open_on(fd), is_shared }
}

/// The guards of `opening` and `numbers`.
type Guards = (MutexGuard<'static, ()>, RwLockWriteGuard<'static, Vec<Number>>);

extern "C" fn before_fork() {
    REGISTRY.fork.before(|| (REGISTRY.opening.lock().expect(NO_PANIC), REGISTRY.write_numbers()));
}

extern "C" fn after_fork_in_parent() {
    REGISTRY.fork.after();
}

extern "C" fn after_fork_in_child() {
    REGISTRY.generation.fetch_add(1, Ordering::Relaxed);
    REGISTRY.fork.after();
}
