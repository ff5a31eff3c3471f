// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registry: all reservations of the process, their committed pages with their protection, their locked pages, and those with a name or
//! advice for huge pages. The kernel does not distinguish a reserved page from one that is committed without access, nor one reservation
//! from the next. So the functions here check each call against the registry before they make a system call.
//!
//! The registry has one lock. A thread holds it during the system call: the checked state must still hold when the kernel acts, and the
//! registry must have the result before another thread reads it. Code that runs under the lock calls no handler and no malloc. The lock
//! costs no parallelism, because the kernel has one lock for the mappings of a process. `prefault` and `query` make their system calls
//! without it, because those may take long; so does `reserve`, as nobody knows of its pages yet.
//!
//! "Own range" under Safety: only the caller relies on the contents and the protection of these addresses (src/lib.rs).

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::error::{Error, Result};
use super::interval_map::{IntervalMap, Run};
use super::os::{self, Space, SystemError};
use super::{Pages, Protect, RangeInfo, allocation_granularity, page_size};
use crate::fork::ForkLock;

/// One reservation. Each has another `start`, so that the map never joins the runs of two reservations.
#[derive(Clone, Copy, PartialEq)]
struct Reserved {
    start: usize,
    /// The requested size. The last page may have more bytes.
    size: usize,
    /// The size of each of the two guards, 0 without guards.
    guard: usize,
    /// The protection that the reservation was made with; `query` reports it for pages that are not committed.
    protect: Protect,
}

struct Registry {
    /// Reservations, with their guards.
    reserved: IntervalMap<Reserved>,
    /// The committed pages of reservations, and their protections.
    committed: IntervalMap<Protect>,
    /// The committed pages that are locked.
    locked: IntervalMap<()>,
    /// Pages of reservations with advice for huge pages, committed or not.
    huge: IntervalMap<()>,
    /// Pages of reservations that have a name, committed or not.
    named: IntervalMap<Name>,
}

/// The longest name that the kernel accepts, without its NUL.
const NAME_MAX: usize = 79;

/// The name of a mapping, ended by a NUL.
#[derive(Clone, Copy, PartialEq)]
struct Name([u8; NAME_MAX + 1]);

impl Name {
    /// Fails iff the text is longer than NAME_MAX, or has a character that the kernel does not accept.
    fn new(text: &CStr) -> Result<Name> {
        let mut name = Name([0; NAME_MAX + 1]);
        let good = |&byte: &u8| (b' '..=b'~').contains(&byte) && !b"\\`$[]".contains(&byte);
        let text = text.to_bytes();
        let place = name.0[..NAME_MAX].get_mut(..text.len()).filter(|_| text.iter().all(good)).ok_or(Error::BadName)?;
        place.copy_from_slice(text);
        Ok(name)
    }

    /// Returns the name as a C string.
    fn text(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.0).ok()
    }
}

/// The registry and its lock.
struct Global {
    registry: UnsafeCell<Registry>,
    lock: os::Lock,
    /// While a thread forks, the program's handlers of pthread_atfork(3) run in it. They may call malloc, and malloc may be built on this
    /// library. So the forking thread may use the registry while it holds the lock.
    fork: ForkLock<os::Held>,
}

// SAFETY: only the thread that holds the lock accesses the cells.
unsafe impl Sync for Global {}

static GLOBAL: Global = Global {
    registry: UnsafeCell::new(Registry {
        reserved: IntervalMap::new(),
        committed: IntervalMap::new(),
        locked: IntervalMap::new(),
        huge: IntervalMap::new(),
        named: IntervalMap::new(),
    }),
    lock: os::Lock::new(),
    fork: ForkLock::new(),
};

/// Access to the registry. The thread holds the lock while this lives.
struct Access {
    /// None if the thread already held the lock, because it is in fork(2).
    _held: Option<os::Held>,
}

impl Deref for Access {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        // SAFETY: this thread holds the lock. It has one Access at a time: code that runs under the lock does not call `lock_registry`.
        unsafe { &*GLOBAL.registry.get() }
    }
}

impl DerefMut for Access {
    fn deref_mut(&mut self) -> &mut Registry {
        // SAFETY: as in `deref`.
        unsafe { &mut *GLOBAL.registry.get() }
    }
}

/// Waits for the lock, and returns access to the registry. Precondition: this thread has no other Access.
fn lock_registry() -> Access {
    handle_fork();
    if GLOBAL.fork.is_held_here() {
        return Access { _held: None };
    }
    Access { _held: Some(GLOBAL.lock.lock()) }
}

thread_local! {
    /// Whether this thread is installing the handlers.
    static INSTALLING: AtomicBool = const { AtomicBool::new(false) };
}

/// Installs handlers that make fork(2) wait for the lock. Does nothing if they are installed. The system may call malloc to install a
/// handler, and malloc may call this library: that inner call does nothing.
#[inline]
pub fn handle_fork() {
    if !GLOBAL.fork.is_installed() {
        install_fork_handlers();
    }
}

#[cold]
#[inline(never)]
fn install_fork_handlers() {
    INSTALLING.with(|installing| {
        if !installing.swap(true, Ordering::Relaxed) {
            GLOBAL.fork.install(before_fork, after_fork_in_parent, after_fork_in_child);
            installing.store(false, Ordering::Relaxed);
        }
    });
}

extern "C" fn before_fork() {
    GLOBAL.fork.before(|| GLOBAL.lock.lock());
}

extern "C" fn after_fork_in_parent() {
    GLOBAL.fork.after();
}

extern "C" fn after_fork_in_child() {
    lock_registry().locked.clear(); // a child does not inherit mlock(2)
    GLOBAL.fork.after();
}

impl Drop for Access {
    fn drop(&mut self) {
        if cfg!(debug_assertions) && self.reserved.is_checked_now() && self.committed.is_checked_now() {
            self.check_invariants();
        }
    }
}

impl Registry {
    /// Panics if the maps contradict each other. Each operation relies on the following, and debug builds check it: after each operation
    /// while the maps are small, and after some while they are large.
    /// - A reservation's run is the reservation with its guards, in whole pages.
    /// - Committed pages are in reservations and outside of guards. So are pages with advice and pages with a name.
    /// - Locked pages are committed.
    fn check_invariants(&self) {
        let page = page_size();
        for Run { start, end, value } in self.reserved.runs(0, usize::MAX) {
            assert!(start % page == 0 && end % page == 0);
            assert!(value.start == start + value.guard && value.size > 0);
            assert!(value.start + value.size.next_multiple_of(page) == end - value.guard);
        }
        for run in self.committed.runs(0, usize::MAX) {
            assert!(run.start % page == 0 && run.end % page == 0 && self.all_reserved(run.start, run.end));
        }
        for run in self.locked.runs(0, usize::MAX) {
            assert!(self.committed.first_gap(run.start, run.end).is_none());
        }
        for run in self.huge.runs(0, usize::MAX) {
            assert!(self.all_reserved(run.start, run.end));
        }
        for run in self.named.runs(0, usize::MAX) {
            assert!(self.all_reserved(run.start, run.end));
        }
    }

    /// Returns whether every page of the range is in a reservation and outside of guards.
    fn all_reserved(&self, mut start: usize, end: usize) -> bool {
        while start < end {
            match self.reserved.at(start) {
                Some(run) if (run.start + run.value.guard..run.end - run.value.guard).contains(&start) => {
                    start = run.end - run.value.guard;
                }
                _ => return false,
            }
        }
        true
    }

    /// Returns the reservation that contains all pages. Fails iff no reservation does; its guards do not count.
    fn owner(&self, pages: Pages) -> Result<Run<Reserved>> {
        let inside =
            |run: &Run<Reserved>| run.start + run.value.guard <= pages.start && pages.end <= run.end - run.value.guard;
        self.reserved.at(pages.start).filter(inside).ok_or(Error::NotReserved(pages))
    }

    /// Fails iff the pages are not all in one reservation, or one is not committed, or `good` refuses the protection of one.
    fn check_access(&self, pages: Pages, good: impl Fn(Protect) -> bool) -> Result<()> {
        self.owner(pages)?;
        if let Some(at) = self.committed.first_gap(pages.start, pages.end) {
            return Err(Error::NotCommitted(at));
        }
        match self.committed.runs(pages.start, pages.end).find(|run| !good(run.value)) {
            Some(run) => Err(Error::Forbidden { at: run.start, protect: run.value }),
            None => Ok(()),
        }
    }

    /// Prepares pages to be decommitted or released: unlocks them, on systems that refuse to decommit or release locked pages. If that fails,
    /// so does the call after it. If only the call after it fails, the pages count as locked, and are not.
    fn unlock_first(&self, pages: Pages) {
        if os::UNLOCK_FIRST {
            for run in self.locked.runs(pages.start, pages.end) {
                let _ = os::unlock(run.start, run.end - run.start);
            }
        }
    }

    /// Decommits the pages in the system, and then gives the fresh pages the advice and the names of the old ones, because the system
    /// discards those too. Fails iff the system refuses to decommit; the rest is best effort.
    ///
    /// # Safety
    /// Own range, in one reservation.
    unsafe fn decommit_keeping_advice(&self, pages: Pages) -> os::Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { os::decommit(pages.start, pages.size())? };
        if self.huge.is_empty() && self.named.is_empty() {
            return Ok(());
        }
        for run in self.huge.runs(pages.start, pages.end) {
            let _best_effort = os::advise_huge(run.start, run.end - run.start);
        }
        for run in self.named.runs(pages.start, pages.end) {
            os::set_name(run.start, run.end - run.start, run.value.text());
        }
        Ok(())
    }

    /// Undoes a system call that failed half-way through several mappings: makes the system's state of each page the registry's again. It
    /// repeats the system calls also for the pages that the failed call did not reach, which changes nothing.
    #[cold]
    fn restore(&self, pages: Pages) {
        let mut gap = pages.start;
        while gap < pages.end {
            let run = self.committed.at_or_after(gap).filter(|run| run.start < pages.end);
            let gap_end = run.map_or(pages.end, |run| run.start.max(gap));
            if gap_end > gap {
                // SAFETY: nobody can rely on pages that are not committed; in one reservation.
                unsafe {
                    if self.decommit_keeping_advice(Pages { start: gap, end: gap_end }).is_err() {
                        let _best_effort = os::protect(gap, gap_end - gap, Protect::NoAccess);
                    }
                }
            }
            gap = gap_end;
            if let Some(run) = run {
                let end = run.end.min(pages.end);
                // SAFETY: the protection that they had before the call; in one reservation.
                let _best_effort = unsafe { os::protect(gap_end, end - gap_end, run.value) };
                gap = end;
            }
        }
    }

    /// Commits or protects the pages with `call`, and stores their protection in the registry. Does nothing if all of them already have
    /// this protection. Fails, and changes nothing, iff memory for the registry runs out or the system refuses; `doing` describes the call.
    ///
    /// # Safety
    /// Own range, in one reservation.
    unsafe fn set_protection(
        &mut self,
        pages: Pages,
        protect: Protect,
        doing: &'static str,
        call: unsafe fn(usize, usize, Protect) -> os::Result<()>,
    ) -> Result<()> {
        let same = |run: Run<Protect>| run.end >= pages.end && run.value == protect;
        if self.committed.at(pages.start).is_some_and(same) {
            debug_assert!(self.check_access(pages, |now| now == protect).is_ok());
            return Ok(());
        }
        self.committed.make_room()?;
        // SAFETY: passed on to the caller.
        let result = unsafe { call(pages.start, pages.size(), protect) };
        match result {
            Ok(()) => self.committed.assign(pages.start, pages.end, Some(protect)),
            Err(_) if pages.size() == page_size() => {} // one page is in one mapping
            Err(_) => self.restore(pages),
        }
        result.map_err(failed(doing, pages))
    }
}

/// Returns a function that makes the Error of a system call on `pages`.
fn failed(doing: &'static str, pages: Pages) -> impl FnOnce(SystemError) -> Error {
    move |source| Error::System { doing, range: Some(pages), source }
}

/// The arguments of `reserve`.
#[derive(Clone, Copy)]
pub struct Request {
    /// In bytes; rounded up to whole pages.
    pub size: usize,
    /// The protection that `query` reports for pages that are not committed.
    pub protect: Protect,
    /// Alignment of the start, a power of two.
    pub align: usize,
    /// Whether to put a guard on each side. A guard can never be accessed.
    pub guarded: bool,
}

impl Default for Request {
    fn default() -> Self {
        Request { size: 0, protect: Protect::ReadWrite, align: 1, guarded: false }
    }
}

/// Reserves address space and returns its start. Fails iff the size is 0 or too large, the alignment is not a power of two, the system
/// refuses, or memory for the registry runs out.
pub fn reserve(request: Request) -> Result<usize> {
    let Request { size, protect, align, guarded } = request;
    let page = page_size();
    if size == 0 {
        return Err(Error::Empty);
    }
    if !align.is_power_of_two() {
        return Err(Error::BadAlignment(align as i128));
    }
    let too_large = Error::TooLarge { start: 0, size };
    let pages = size.checked_next_multiple_of(page).filter(|&size| isize::try_from(size).is_ok()).ok_or(too_large)?;
    let guard = if guarded { allocation_granularity() } else { 0 };
    let space = Space { size: pages, align: align.max(page), guard };
    let start = os::reserve(&space, protect).map_err(|source| Error::CannotReserve { size: pages, source })?;
    let (first, end) = (start - guard, start + pages + guard);
    let mut registry = lock_registry();
    if let Err(error) = registry.reserved.make_room() {
        // SAFETY: reserved above, and nobody knows of it.
        let _ = unsafe { os::release(first, end - first) };
        return Err(error);
    }
    registry.reserved.assign(first, end, Some(Reserved { start, size, guard, protect }));
    Ok(start)
}

/// Commits the pages that the range touches. Pages that are committed already change their protection. Fails iff the range is empty or not
/// in one reservation, or `Registry::set_protection` fails.
///
/// # Safety
/// Own range.
pub unsafe fn commit(address: usize, size: usize, protect: Protect) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = lock_registry();
    registry.owner(pages)?;
    // SAFETY: passed on to the caller; in one reservation.
    unsafe { registry.set_protection(pages, protect, "commit", os::commit) }
}

/// Changes the number of committed bytes at the start of a region from `before` to `after`. To grow, commits the pages between the two to
/// read and write, except those that are committed already. To shrink, decommits them, except a page that the region shares with other
/// bytes of the reservation. Fails iff the region is not in one reservation, a number is above `size`, or the commit or decommit fails.
///
/// # Safety
/// The bytes of the region from `after` on are an own range.
pub unsafe fn set_committed(start: usize, size: usize, before: usize, after: usize) -> Result<()> {
    let owner = lock_registry().owner(Pages::touched(start, size)?)?;
    if before.max(after) > size {
        return Err(Error::BeyondEnd { committed: before.max(after), size });
    }
    let page = page_size();
    let end_of = |bytes: usize| if bytes == 0 { start - start % page } else { (start + bytes).next_multiple_of(page) };
    let (before, after) = (end_of(before), end_of(after));
    if after > before {
        commit_missing(Pages { start: before, end: after })?;
        return Ok(());
    }
    // A page that the region shares with bytes before or behind it in the reservation stays committed.
    let shared_end = start + size < owner.value.start + owner.value.size && (start + size) % page != 0;
    let before = if shared_end { before.min((start + size) / page * page) } else { before };
    let after = if start > owner.value.start { after.max(start.next_multiple_of(page)) } else { after };
    if after < before {
        // SAFETY: passed on to the caller.
        unsafe { decommit(after, before - after)? };
    }
    Ok(())
}

/// Commits those of the pages that are not committed, to read and write, with one system call for each gap. Fails iff the pages are not in
/// one reservation, or `Registry::set_protection` fails; earlier gaps are committed then.
pub fn commit_missing(pages: Pages) -> Result<()> {
    let mut registry = lock_registry();
    registry.owner(pages)?;
    while let Some(start) = registry.committed.first_gap(pages.start, pages.end) {
        let end = registry.committed.at_or_after(start).map_or(pages.end, |run| run.start.min(pages.end));
        // SAFETY: nobody can rely on pages that are not committed; in one reservation.
        unsafe { registry.set_protection(Pages { start, end }, Protect::ReadWrite, "commit", os::commit)? };
    }
    Ok(())
}

/// Decommits the pages that the range touches. Fails iff the range is empty or not in one reservation, the system refuses, or memory for
/// the registry runs out.
///
/// # Safety
/// Own range.
pub unsafe fn decommit(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = lock_registry();
    registry.owner(pages)?;
    let mut runs = registry.committed.runs(pages.start, pages.end);
    let Some(first) = runs.next() else { return Ok(()) };
    let pages = Pages { start: first.start, end: runs.last().map_or(first.end, |last| last.end) };
    let any_locked = !registry.locked.is_empty();
    registry.committed.make_room()?;
    if any_locked {
        registry.locked.make_room()?;
        registry.unlock_first(pages);
    }
    // SAFETY: passed on to the caller; in one reservation.
    let decommitted = unsafe { registry.decommit_keeping_advice(pages) };
    decommitted.inspect_err(|_| registry.restore(pages)).map_err(failed("decommit", pages))?;
    registry.committed.assign(pages.start, pages.end, None);
    if any_locked {
        registry.locked.assign(pages.start, pages.end, None);
    }
    Ok(())
}

/// Changes the protection of the pages that the range touches. Fails iff they are not all committed and in one reservation, or
/// `Registry::set_protection` fails.
///
/// # Safety
/// Own range.
pub unsafe fn protect(address: usize, size: usize, protect: Protect) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = lock_registry();
    registry.check_access(pages, |_| true)?;
    // SAFETY: passed on to the caller; in one reservation.
    unsafe { registry.set_protection(pages, protect, "protect", os::protect) }
}

/// Protects committed pages as ExecuteRead if `executable` is set, and otherwise as ReadWrite. Fails iff `protect` does.
///
/// # Safety
/// Own range.
pub unsafe fn set_executable(address: usize, size: usize, executable: bool) -> Result<()> {
    let access = if executable { Protect::ExecuteRead } else { Protect::ReadWrite };
    // SAFETY: passed on to the caller.
    unsafe { protect(address, size, access)? };
    if executable {
        os::flush_instruction_cache(address, size);
    }
    Ok(())
}

/// Locks the pages that the range touches. Fails, with the same pages locked as before, iff they are not all committed, accessible and in
/// one reservation, the system refuses, or memory for the registry runs out.
pub fn lock(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = lock_registry();
    registry.check_access(pages, |protect| protect != Protect::NoAccess)?;
    registry.locked.make_room()?;
    if let Err(error) = os::lock(pages.start, pages.size()) {
        // The kernel may have locked some of the pages. Unlock those that were not locked before.
        let mut end = pages.start;
        while let Some(start) = registry.locked.first_gap(end, pages.end) {
            end = registry.locked.at_or_after(start).map_or(pages.end, |run| run.start.min(pages.end));
            let _best_effort = os::unlock(start, end - start);
        }
        return Err(failed("lock", pages)(error));
    }
    registry.locked.assign(pages.start, pages.end, Some(()));
    Ok(())
}

/// Unlocks the pages that the range touches. Fails iff they are not all locked and in one reservation, the system refuses, or memory for
/// the registry runs out.
pub fn unlock(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = lock_registry();
    registry.owner(pages)?;
    if let Some(at) = registry.locked.first_gap(pages.start, pages.end) {
        return Err(Error::NotLocked(at));
    }
    registry.locked.make_room()?;
    os::unlock(pages.start, pages.size()).map_err(failed("unlock", pages))?;
    registry.locked.assign(pages.start, pages.end, None);
    Ok(())
}

/// Releases a whole reservation. Fails iff no reservation starts at `start`, its size is another, the system refuses, or memory for the
/// registry runs out.
///
/// # Safety
/// Own range.
pub unsafe fn release(start: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(start, size)?;
    let mut registry = lock_registry();
    let run = registry.reserved.at(start).filter(|run| run.value.start == start).ok_or(Error::NotAStart(start))?;
    let reserved = run.end - run.value.guard - start;
    if pages.size() != reserved {
        return Err(Error::WrongSize { start, given: pages.size(), reserved });
    }
    registry.reserved.make_room()?;
    registry.committed.make_room()?;
    registry.locked.make_room()?;
    registry.huge.make_room()?;
    registry.named.make_room()?;
    registry.unlock_first(pages);
    // SAFETY: passed on to the caller; a whole reservation.
    unsafe { os::release(run.start, run.end - run.start) }.map_err(failed("release", pages))?;
    registry.reserved.assign(run.start, run.end, None);
    registry.committed.assign(run.start, run.end, None);
    registry.locked.assign(run.start, run.end, None);
    registry.huge.assign(run.start, run.end, None);
    registry.named.assign(run.start, run.end, None);
    Ok(())
}

/// Resets the pages that the range touches: the system may discard their contents, and they stay committed. Fails iff they are not all
/// committed and in one reservation, one is locked, or the system refuses.
///
/// # Safety
/// Own range.
pub unsafe fn reset(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    for start in (pages.start..pages.end).step_by(RESET_AT_ONCE) {
        let slice = Pages { start, end: start.saturating_add(RESET_AT_ONCE).min(pages.end) };
        let registry = lock_registry();
        // The first round checks all pages before it resets any. Each round checks again, because another thread may have had the lock.
        let checked = Pages { start, end: pages.end };
        registry.check_access(checked, |_| true)?;
        if let Some(run) = registry.locked.runs(checked.start, checked.end).next() {
            return Err(Error::Locked(run.start));
        }
        // SAFETY: committed; passed on to the caller.
        if !unsafe { os::reset(slice.start, slice.size()) }.map_err(failed("reset", slice))? {
            return Err(Error::Locked(slice.start));
        }
    }
    Ok(())
}

/// How many bytes `reset` resets while it holds the lock. The kernel visits each page, so a large range would make other threads wait long.
const RESET_AT_ONCE: usize = 64 << 20;

/// Brings the pages that the range touches into memory. Fails iff they are not all committed, readable and in one reservation, or memory
/// runs out. Does not hold the lock during the system calls, because they may take long.
///
/// # Safety
/// The pages stay committed, and as accessible as they are, during the call.
pub unsafe fn prefault(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    lock_registry().check_access(pages, Protect::reads)?;
    let mut start = pages.start;
    while start < pages.end {
        let run = lock_registry().committed.runs(start, pages.end).next().ok_or(Error::NotCommitted(start))?;
        let run_pages = Pages { start, end: run.end };
        if !os::populate(start, run_pages.size(), run.value.writes()).map_err(failed("prefault", run_pages))? {
            // SAFETY: passed on to the caller.
            unsafe { touch(run_pages, run.value.writes()) };
        }
        start = run.end;
    }
    Ok(())
}

/// Accesses each page, and so brings it into memory, without changing its contents. Writes if `write` is set.
///
/// # Safety
/// The pages are readable, and writable if `write` is set.
unsafe fn touch(pages: Pages, write: bool) {
    for page in (pages.start..pages.end).step_by(page_size()) {
        let byte = ptr::with_exposed_provenance_mut::<u8>(page);
        // SAFETY: accessible, by the caller; atomic, because other threads may be writing there.
        let byte = unsafe { AtomicU8::from_ptr(byte) };
        if write {
            // A page that is not in memory reads as zero, so the exchange stores, which allocates the page. (The compiler turns fetch_or(0)
            // into a load.)
            let _ = byte.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
        } else {
            byte.load(Ordering::Relaxed);
        }
    }
}

/// Advises huge pages for the pages that the range touches. Fails iff the range is empty or not in one reservation, the system has no huge
/// pages or refuses, or memory for the registry runs out.
pub fn advise_huge(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = lock_registry();
    registry.owner(pages)?;
    registry.huge.make_room()?;
    if !os::advise_huge(pages.start, pages.size()).map_err(failed("advise huge pages for", pages))? {
        return Err(Error::Unsupported("huge pages"));
    }
    registry.huge.assign(pages.start, pages.end, Some(()));
    Ok(())
}

/// Names the pages that the range touches, or removes their name. Fails iff the range is empty or not in one reservation, the name is not
/// valid, or memory for the registry runs out.
pub fn set_name(address: usize, size: usize, name: Option<&CStr>) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let named = name.map(Name::new).transpose()?;
    let mut registry = lock_registry();
    registry.owner(pages)?;
    registry.named.make_room()?;
    os::set_name(pages.start, pages.size(), name);
    registry.named.assign(pages.start, pages.end, named);
    Ok(())
}

/// Fails iff the range is empty, or `Registry::check_access` fails for the pages that it touches.
pub fn check_access(address: usize, size: usize, good: fn(Protect) -> bool) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    lock_registry().check_access(pages, good)
}

/// Fails iff the range is empty, or the pages that it touches are not in one reservation.
pub fn check_owner(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    lock_registry().owner(pages).map(drop)
}

/// The registry's description of an address.
enum Known {
    /// A run of pages in one state, which starts at the address.
    Ours(RangeInfo),
    /// No reservation contains the address. The next one starts at this address.
    Foreign(usize),
}

impl Registry {
    /// Describes the pages from `start` on.
    fn state_at(&self, start: usize) -> Known {
        let ours = |end: usize, is_committed: bool, protect: Protect| {
            Known::Ours(RangeInfo { pages: Pages { start, end }, is_committed, protect })
        };
        let run = match self.reserved.at_or_after(start) {
            Some(run) if run.start <= start => run,
            next => return Known::Foreign(next.map_or(usize::MAX, |run| run.start)),
        };
        let (first, end) = (run.start + run.value.guard, run.end - run.value.guard);
        if start < first || start >= end {
            return ours(if start < first { first } else { run.end }, false, Protect::NoAccess);
        }
        match self.committed.at_or_after(start).filter(|committed| committed.start < end) {
            Some(committed) if committed.start <= start => ours(committed.end.min(end), true, committed.value),
            Some(committed) => ours(committed.start, false, run.value.protect),
            None => ours(end, false, run.value.protect),
        }
    }
}

/// Calls `visit` for each run of pages in one state, cut to `range`, in ascending order, until it returns false. The lock is not held
/// during the call. Fails iff the system does not report the mappings outside of reservations.
pub fn query(range: Pages, mut visit: impl FnMut(RangeInfo) -> bool) -> Result<()> {
    let mut mappings = os::Mappings::new();
    let mut start = range.start;
    while start < range.end {
        let known = lock_registry().state_at(start);
        let mut info = match known {
            Known::Ours(info) => info,
            Known::Foreign(end) => {
                let end = end.min(range.end);
                let mapping = mappings.at_or_after(start).map_err(failed("find out what is mapped in", range))?;
                match mapping {
                    Some(mapping) if mapping.start <= start => RangeInfo {
                        pages: Pages { start, end: mapping.end.min(end) },
                        is_committed: mapping.protect.is_some(),
                        protect: mapping.protect.unwrap_or(Protect::NoAccess),
                    },
                    next => RangeInfo {
                        pages: Pages { start, end: next.map_or(end, |next| next.start.min(end)) },
                        is_committed: false,
                        protect: Protect::NoAccess,
                    },
                }
            }
        };
        info.pages.end = info.pages.end.min(range.end);
        start = info.pages.end;
        if !visit(info) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing of a reservation is in the registry once it is released, nor of a page's lock once it is decommitted: another reservation may
    /// get the addresses. That of another test may at once, so there are 20 tries.
    #[test]
    fn what_is_released_leaves_nothing_behind() {
        let page = page_size();
        let is_known = |start: usize| {
            let maps = lock_registry();
            let pages = [maps.committed.at(start).is_some(), maps.locked.at(start).is_some()];
            (pages, [maps.huge.at(start).is_some(), maps.named.at(start).is_some(), maps.reserved.at(start).is_some()])
        };
        let is_forgotten = |_| {
            let start = reserve(Request { size: 4 * page, ..Request::default() }).unwrap();
            // SAFETY: the range is this test's own.
            unsafe { commit(start, 4 * page, Protect::ReadWrite).unwrap() };
            let has_huge = advise_huge(start, 4 * page).is_ok();
            set_name(start, 4 * page, Some(c"a name")).unwrap();
            let can_lock = lock(start, 2 * page).is_ok();
            assert_eq!(is_known(start), ([true, can_lock], [has_huge, true, true]));
            // SAFETY: as above.
            unsafe { decommit(start, page).unwrap() };
            assert_eq!(is_known(start), ([false; 2], [has_huge, true, true]));
            assert_eq!(is_known(start + page), ([true, can_lock], [has_huge, true, true]));
            // SAFETY: as above.
            unsafe { release(start, 4 * page).unwrap() };
            (0..4).all(|i| is_known(start + i * page) == ([false; 2], [false; 3]))
        };
        assert!((0..20).any(is_forgotten));
    }
}
