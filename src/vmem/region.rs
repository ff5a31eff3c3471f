//! The registry: all reservations of the process, their committed pages with their protection, and their locked pages. The kernel does
//! not distinguish a reserved page from one that is committed without access, nor one reservation from the next. So each call is checked
//! here before it becomes a system call.
//!
//! The registry has one lock. A thread holds it during the system call: the checked state must still hold when the kernel acts, and the
//! result must be noted before another thread looks. Nothing that runs under the lock calls back: no handler, and no malloc. The lock
//! costs no parallelism, because the kernel has one lock for the mappings of a process. `prefault` and `query`, which may take long, do
//! their system calls without it.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use super::error::{Error, Result};
use super::interval_map::{IntervalMap, Run};
use super::os::{self, Space, SystemError};
use super::{Pages, Protect, RangeInfo, allocation_granularity, page_size};

/// One reservation. Its start makes it differ from its neighbours, so that two runs of the map never join.
#[derive(Clone, Copy, PartialEq)]
struct Reserved {
    start: usize,
    /// The bytes that were asked for; the last page may have more.
    size: usize,
    guard: usize,
    protect: Protect,
}

struct Registry {
    /// Reservations, with their guards.
    reserved: IntervalMap<Reserved>,
    /// Their committed pages.
    committed: IntervalMap<Protect>,
    /// Those of the committed pages that are locked.
    locked: IntervalMap<()>,
    /// Pages of reservations that huge pages are advised for, committed or not.
    huge: IntervalMap<()>,
    /// Pages of reservations that have a name, committed or not.
    named: IntervalMap<Name>,
}

const NAME_MAX: usize = 79;

/// The name of a mapping, ended by a NUL.
#[derive(Clone, Copy, PartialEq)]
struct Name([u8; NAME_MAX + 1]);

impl Name {
    fn new(text: &CStr) -> Result<Name> {
        let mut name = Name([0; NAME_MAX + 1]);
        let good = |&byte: &u8| (b' '..=b'~').contains(&byte) && !b"\\`$[]".contains(&byte);
        let text = text.to_bytes();
        let place = name.0[..NAME_MAX].get_mut(..text.len()).filter(|_| text.iter().all(good)).ok_or(Error::BadName)?;
        place.copy_from_slice(text);
        Ok(name)
    }

    fn text(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.0).ok()
    }
}

/// The registry, its lock, and the thread that holds the lock because it is in fork(2).
///
/// While that thread forks, handlers of pthread_atfork(3) that are not ours run in it. They may call malloc, and malloc may be built on
/// this library: so that thread may enter here although the lock is held.
struct Shared {
    registry: UnsafeCell<Registry>,
    lock: os::Lock,
    /// The thread that is in fork(2), and holds the lock; 0 if there is none.
    forking: AtomicUsize,
    /// How often `before_fork` ran for this fork: as often as the handlers were installed.
    depth: AtomicUsize,
    /// The lock, while `forking` is not 0.
    held: UnsafeCell<Option<os::Held>>,
}

// SAFETY: the cells are touched only by the thread that holds the lock.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared {
    registry: UnsafeCell::new(Registry {
        reserved: IntervalMap::new(),
        committed: IntervalMap::new(),
        locked: IntervalMap::new(),
        huge: IntervalMap::new(),
        named: IntervalMap::new(),
    }),
    lock: os::Lock::new(),
    forking: AtomicUsize::new(0),
    depth: AtomicUsize::new(0),
    held: UnsafeCell::new(None),
};

/// The registry, for as long as this lives.
struct Access {
    /// None if the thread holds the lock already, because it is in fork(2).
    _held: Option<os::Held>,
}

impl Deref for Access {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        // SAFETY: this thread holds the lock. It has one Access at a time: nothing that runs under the lock calls back.
        unsafe { &*SHARED.registry.get() }
    }
}

impl DerefMut for Access {
    fn deref_mut(&mut self) -> &mut Registry {
        // SAFETY: as in `deref`.
        unsafe { &mut *SHARED.registry.get() }
    }
}

fn registry() -> Access {
    if !FORK_HANDLED.load(Ordering::Acquire) {
        handle_fork();
    }
    let forking = SHARED.forking.load(Ordering::Relaxed);
    if forking != 0 && forking == this_thread() {
        return Access { _held: None };
    }
    Access { _held: Some(SHARED.lock.lock()) }
}

static FORK_HANDLED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Set while this thread installs the handlers. Its address identifies the thread.
    static INSTALLING: AtomicBool = const { AtomicBool::new(false) };
}

/// Installs handlers that let fork(2) wait for the lock. Every thread that takes the lock first sees to it that they are there.
///
/// Two threads may both install them, which does no harm; waiting for the other would hang, in a child that a third one forks. The
/// system may call malloc for it, which may come back here: then the lock is taken without.
#[cold]
pub fn handle_fork() {
    INSTALLING.with(|installing| {
        if !installing.swap(true, Ordering::Relaxed) {
            os::at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
            FORK_HANDLED.store(true, Ordering::Release);
            installing.store(false, Ordering::Relaxed);
        }
    });
}

fn this_thread() -> usize {
    INSTALLING.with(|own| ptr::from_ref(own).addr())
}

extern "C" fn before_fork() {
    if SHARED.forking.load(Ordering::Relaxed) != this_thread() {
        let held = SHARED.lock.lock();
        SHARED.forking.store(this_thread(), Ordering::Relaxed);
        // SAFETY: this thread holds the lock.
        unsafe { *SHARED.held.get() = Some(held) };
    }
    SHARED.depth.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn after_fork_in_parent() {
    if SHARED.depth.fetch_sub(1, Ordering::Relaxed) == 1 {
        SHARED.forking.store(0, Ordering::Relaxed);
        // SAFETY: this thread holds the lock, since `before_fork`.
        let held = unsafe { (*SHARED.held.get()).take() };
        drop(held);
    }
}

extern "C" fn after_fork_in_child() {
    registry().locked.clear(); // a child does not inherit mlock(2)
    after_fork_in_parent();
}

impl Drop for Access {
    fn drop(&mut self) {
        if cfg!(debug_assertions) && self.reserved.is_checked_now() && self.committed.is_checked_now() {
            self.check_invariants();
        }
    }
}

impl Registry {
    /// Panics if the maps contradict each other. Each operation relies on this, and debug builds check it after each:
    /// - A reservation's run is the reservation with its guards, in whole pages.
    /// - Committed pages are in reservations, and not in guards. So are pages with advice or a name.
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

    /// Every page of the range is in a reservation, and in no guard.
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

    /// The reservation that all of `pages` are in, guards apart.
    fn owner(&self, pages: Pages) -> Result<Run<Reserved>> {
        let inside =
            |run: &Run<Reserved>| run.start + run.value.guard <= pages.start && pages.end <= run.end - run.value.guard;
        self.reserved.at(pages.start).filter(inside).ok_or(Error::NotReserved(pages))
    }

    /// All pages are committed, in one reservation, and their protection is `good`.
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

    /// Unlocks pages that are about to be given back, on systems that refuse to take locked ones.
    fn unlock_first(&self, pages: Pages) {
        if os::UNLOCK_FIRST {
            for run in self.locked.runs(pages.start, pages.end) {
                let _decommit_tells = os::unlock(run.start, run.end - run.start);
            }
        }
    }

    /// Has the system take the pages' memory, and gives the fresh ones the advice that the old ones had: the system forgets it with
    /// them.
    ///
    /// # Safety
    /// Own range, in one reservation.
    unsafe fn renew(&self, pages: Pages) -> os::Result<()> {
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

    /// After a system call that failed half-way through several mappings: makes each page again as the registry has it. Pages that the
    /// call did not reach are still so; asking for that once more does not fail.
    #[cold]
    fn restore(&self, pages: Pages) {
        let mut at = pages.start;
        while at < pages.end {
            let run = self.committed.at_or_after(at).filter(|run| run.start < pages.end);
            let gap_end = run.map_or(pages.end, |run| run.start.max(at));
            if gap_end > at {
                // SAFETY: nobody can rely on pages that are not committed; in one reservation.
                unsafe {
                    if self.renew(Pages { start: at, end: gap_end }).is_err() {
                        let _best_effort = os::protect(at, gap_end - at, Protect::NoAccess);
                    }
                }
            }
            at = gap_end;
            if let Some(run) = run {
                let end = run.end.min(pages.end);
                // SAFETY: the protection that they had before the call; in one reservation.
                let _best_effort = unsafe { os::protect(at, end - at, run.value) };
                at = end;
            }
        }
    }

    /// Calls the system to commit or protect the pages, and notes the result. Does nothing if the pages are so already.
    ///
    /// # Safety
    /// Own range, in one reservation.
    unsafe fn set(
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

fn failed(doing: &'static str, pages: Pages) -> impl FnOnce(SystemError) -> Error {
    move |source| Error::System { doing, range: Some(pages), source }
}

/// A reservation that is asked for.
#[derive(Clone, Copy)]
pub struct Request {
    /// In bytes; rounded up to whole pages.
    pub size: usize,
    /// The protection that the range query reports for pages that are not committed.
    pub protect: Protect,
    /// Alignment of the start, a power of two.
    pub align: usize,
    /// Between two guards that can never be accessed.
    pub guarded: bool,
}

impl Default for Request {
    fn default() -> Self {
        Request { size: 0, protect: Protect::ReadWrite, align: 1, guarded: false }
    }
}

/// Reserves address space and returns its start.
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
    let mut registry = registry();
    if let Err(error) = registry.reserved.make_room() {
        // SAFETY: reserved above, and nobody knows of it.
        let _also_fails = unsafe { os::release(first, end - first) };
        return Err(error);
    }
    registry.reserved.assign(first, end, Some(Reserved { start, size, guard, protect }));
    Ok(start)
}

/// Commits the pages that the range touches, and gives those that are committed already this protection.
///
/// # Safety
/// Own range.
pub unsafe fn commit(address: usize, size: usize, protect: Protect) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = registry();
    registry.owner(pages)?;
    // SAFETY: passed on to the caller; in one reservation.
    unsafe { registry.set(pages, protect, "commit", os::commit) }
}

/// Changes how many bytes at the start of a region are committed from `before` to `after`: commits the pages between to read and write,
/// except those that are committed already, or decommits them.
///
/// # Safety
/// Own range, what is behind `after`.
pub unsafe fn set_committed(start: usize, size: usize, before: usize, after: usize) -> Result<()> {
    let owner = registry().owner(Pages::touched(start, size)?)?;
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
    // A page that the region shares with what lies before or behind it in the reservation stays.
    let shared_end = start + size < owner.value.start + owner.value.size && (start + size) % page != 0;
    let before = if shared_end { before.min((start + size) / page * page) } else { before };
    let after = if start > owner.value.start { after.max(start.next_multiple_of(page)) } else { after };
    if after < before {
        // SAFETY: passed on to the caller.
        unsafe { decommit(after, before - after)? };
    }
    Ok(())
}

/// Commits those pages of the range that are not committed, to read and write, with one system call for each gap.
pub fn commit_missing(pages: Pages) -> Result<()> {
    let mut registry = registry();
    registry.owner(pages)?;
    while let Some(start) = registry.committed.first_gap(pages.start, pages.end) {
        let end = registry.committed.at_or_after(start).map_or(pages.end, |run| run.start.min(pages.end));
        // SAFETY: nobody can rely on pages that are not committed; in one reservation.
        unsafe { registry.set(Pages { start, end }, Protect::ReadWrite, "commit", os::commit)? };
    }
    Ok(())
}

/// Gives the memory of the pages that the range touches back.
///
/// # Safety
/// Own range.
pub unsafe fn decommit(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = registry();
    registry.owner(pages)?;
    let mut runs = registry.committed.runs(pages.start, pages.end);
    let Some(first) = runs.next() else { return Ok(()) };
    let pages = Pages { start: first.start, end: runs.last().map_or(first.end, |last| last.end) };
    registry.committed.make_room()?;
    registry.locked.make_room()?;
    registry.unlock_first(pages);
    // SAFETY: passed on to the caller; in one reservation.
    unsafe { registry.renew(pages) }.map_err(failed("decommit", pages))?;
    registry.committed.assign(pages.start, pages.end, None);
    registry.locked.assign(pages.start, pages.end, None);
    Ok(())
}

/// Changes the protection of committed pages.
///
/// # Safety
/// Own range.
pub unsafe fn protect(address: usize, size: usize, protect: Protect) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = registry();
    registry.check_access(pages, |_| true)?;
    // SAFETY: passed on to the caller; in one reservation.
    unsafe { registry.set(pages, protect, "protect", os::protect) }
}

/// Makes committed pages code that runs and can't be written, or memory that can be written and does not run.
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

/// Keeps committed pages in memory.
pub fn lock(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = registry();
    registry.check_access(pages, |protect| protect != Protect::NoAccess)?;
    registry.locked.make_room()?;
    if let Err(error) = os::lock(pages.start, pages.size()) {
        // The kernel may have locked some; those that were not locked before are unlocked again.
        let mut at = pages.start;
        while let Some(start) = registry.locked.first_gap(at, pages.end) {
            at = registry.locked.at_or_after(start).map_or(pages.end, |run| run.start.min(pages.end));
            let _best_effort = os::unlock(start, at - start);
        }
        return Err(failed("lock", pages)(error));
    }
    registry.locked.assign(pages.start, pages.end, Some(()));
    Ok(())
}

/// Undoes `lock`.
pub fn unlock(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = registry();
    registry.owner(pages)?;
    if let Some(at) = registry.locked.first_gap(pages.start, pages.end) {
        return Err(Error::NotLocked(at));
    }
    registry.locked.make_room()?;
    os::unlock(pages.start, pages.size()).map_err(failed("unlock", pages))?;
    registry.locked.assign(pages.start, pages.end, None);
    Ok(())
}

/// Releases a whole reservation.
///
/// # Safety
/// Own range.
pub unsafe fn release(start: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(start, size)?;
    let mut registry = registry();
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

/// Gives up the contents of committed pages, which stay committed.
///
/// # Safety
/// Own range.
pub unsafe fn reset(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    for start in (pages.start..pages.end).step_by(RESET_AT_ONCE) {
        let slice = Pages { start, end: start.saturating_add(RESET_AT_ONCE).min(pages.end) };
        let registry = registry();
        // All is checked before any of it is reset.
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

/// The kernel looks at every page: other threads get the lock between two slices.
const RESET_AT_ONCE: usize = 64 << 20;

/// Brings committed pages into memory, so that touching them later costs nothing. Without the lock, because it may take long.
///
/// # Safety
/// The pages stay committed, and as accessible as they are, during the call.
pub unsafe fn prefault(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    registry().check_access(pages, Protect::reads)?;
    let mut at = pages.start;
    while at < pages.end {
        let run = registry().committed.runs(at, pages.end).next().ok_or(Error::NotCommitted(at))?;
        let run_pages = Pages { start: at, end: run.end };
        if !os::populate(at, run_pages.size(), run.value.writes()).map_err(failed("prefault", run_pages))? {
            // SAFETY: passed on to the caller.
            unsafe { touch(run_pages, run.value.writes()) };
        }
        at = run.end;
    }
    Ok(())
}

/// # Safety
/// The pages are readable, and writable if `write` is set.
unsafe fn touch(pages: Pages, write: bool) {
    for at in (pages.start..pages.end).step_by(page_size()) {
        let byte = ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: accessible, by the caller; atomic, because other threads may be writing there.
        let byte = unsafe { AtomicU8::from_ptr(byte) };
        if write {
            // A page that is not there reads as zero, and gets one. (The compiler makes a load of fetch_or(0).)
            let _ = byte.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
        } else {
            byte.load(Ordering::Relaxed);
        }
    }
}

/// Advises huge pages for a part of one reservation.
pub fn advise_huge(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let mut registry = registry();
    registry.owner(pages)?;
    registry.huge.make_room()?;
    if !os::advise_huge(pages.start, pages.size()).map_err(failed("advise huge pages for", pages))? {
        return Err(Error::Unsupported("huge pages"));
    }
    registry.huge.assign(pages.start, pages.end, Some(()));
    Ok(())
}

/// Names a part of one reservation, or takes the name away.
pub fn set_name(address: usize, size: usize, name: Option<&CStr>) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    let named = name.map(Name::new).transpose()?;
    let mut registry = registry();
    registry.owner(pages)?;
    registry.named.make_room()?;
    os::set_name(pages.start, pages.size(), name);
    registry.named.assign(pages.start, pages.end, named);
    Ok(())
}

/// All pages of the range are committed, in one reservation, with a protection that is `good`.
pub fn check_access(address: usize, size: usize, good: fn(Protect) -> bool) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    registry().check_access(pages, good)
}

/// The range is inside one reservation.
pub fn check_owner(address: usize, size: usize) -> Result<()> {
    let pages = Pages::touched(address, size)?;
    registry().owner(pages).map(drop)
}

/// The registry's answer about an address.
enum Known {
    /// The run of pages in one state that begins here.
    Ours(RangeInfo),
    /// No reservation from here up to this address.
    Foreign(usize),
}

impl Registry {
    fn at(&self, at: usize) -> Known {
        let ours = |end: usize, is_committed: bool, protect: Protect| {
            Known::Ours(RangeInfo { pages: Pages { start: at, end }, is_committed, protect })
        };
        let run = match self.reserved.at_or_after(at) {
            Some(run) if run.start <= at => run,
            next => return Known::Foreign(next.map_or(usize::MAX, |run| run.start)),
        };
        let (first, end) = (run.start + run.value.guard, run.end - run.value.guard);
        if at < first || at >= end {
            return ours(if at < first { first } else { run.end }, false, Protect::NoAccess);
        }
        match self.committed.at_or_after(at).filter(|committed| committed.start < end) {
            Some(committed) if committed.start <= at => ours(committed.end.min(end), true, committed.value),
            Some(committed) => ours(committed.start, false, run.value.protect),
            None => ours(end, false, run.value.protect),
        }
    }
}

/// Calls `visit` for each run of equal state, cut to `range`, until it returns false. The lock is not held then.
pub fn query(range: Pages, mut visit: impl FnMut(RangeInfo) -> bool) -> Result<()> {
    let mut mappings = os::Mappings::new();
    let mut at = range.start;
    while at < range.end {
        let known = registry().at(at);
        let mut info = match known {
            Known::Ours(info) => info,
            Known::Foreign(end) => {
                let end = end.min(range.end);
                let mapping = mappings.at_or_after(at).map_err(failed("find out what is mapped in", range))?;
                match mapping {
                    Some(mapping) if mapping.start <= at => RangeInfo {
                        pages: Pages { start: at, end: mapping.end.min(end) },
                        is_committed: mapping.protect.is_some(),
                        protect: mapping.protect.unwrap_or(Protect::NoAccess),
                    },
                    next => RangeInfo {
                        pages: Pages { start: at, end: next.map_or(end, |next| next.start.min(end)) },
                        is_committed: false,
                        protect: Protect::NoAccess,
                    },
                }
            }
        };
        info.pages.end = info.pages.end.min(range.end);
        at = info.pages.end;
        if !visit(info) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_that_lives_has_a_number_of_its_own() {
        let own = this_thread();
        assert!(own != 0 && own == this_thread());
        std::thread::scope(|scope| {
            let other = scope.spawn(this_thread).join().unwrap();
            assert!(other != 0 && other != own);
        });
    }
}
