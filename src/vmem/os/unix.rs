// SPDX-License-Identifier: MIT OR Apache-2.0
//! mmap, mprotect, madvise, mlock. `linux` has the parts that only Linux has.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use super::{Result, Space, SystemError};
use crate::vmem::{Protect, UsageStatus};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::linux;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use super::linux::Mappings;

impl SystemError {
    pub(super) fn last() -> Self {
        SystemError(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

fn pointer(address: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(address)
}

fn check(status: c_int) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(SystemError::last()) }
}

fn bits(protect: Protect) -> c_int {
    let bit = |has: bool, bit: c_int| if has { bit } else { libc::PROT_NONE };
    bit(protect.reads(), libc::PROT_READ)
        | bit(protect.writes(), libc::PROT_WRITE)
        | bit(protect.executes(), libc::PROT_EXEC)
}

const _: () = assert!(libc::PROT_NONE == 0);

/// Flags of mmap for address space that the kernel does not charge as memory.
const RESERVED: c_int = libc::MAP_PRIVATE | libc::MAP_ANON | UNCHARGED;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const UNCHARGED: c_int = libc::MAP_NORESERVE;
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
const UNCHARGED: c_int = 0;

/// Flags of mmap for memory that can become executable. Apple systems require MAP_JIT for it.
#[cfg(target_vendor = "apple")]
const FOR_CODE: c_int = libc::MAP_JIT;
#[cfg(not(target_vendor = "apple"))]
const FOR_CODE: c_int = 0;

pub const UNLOCK_FIRST: bool = false;

pub fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

pub fn allocation_granularity() -> usize {
    page_size()
}

/// Maps inaccessible pages at an address of the system's choice, and returns it.
fn map(size: usize, protect: Protect) -> Result<usize> {
    let flags = RESERVED | if protect.executes() { FOR_CODE } else { 0 };
    // SAFETY: a new mapping at an address of the system's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(SystemError::last()) } else { Ok(start.expose_provenance()) }
}

pub fn reserve(space: &Space, protect: Protect) -> Result<usize> {
    let no_memory = SystemError(libc::ENOMEM);
    let total = space.total().ok_or(no_memory)?;
    let start = map(total, protect)?;
    if (start + space.guard) % space.align == 0 {
        return Ok(start + space.guard);
    }
    // SAFETY: mapped above, and nobody knows of it.
    unsafe { release(start, total)? };
    // Map so much more that an aligned part is inside, and unmap the rest.
    let more = total.checked_add(space.align).ok_or(no_memory)?;
    let start = map(more, protect)?;
    let usable = (start + space.guard).next_multiple_of(space.align);
    let (first, last) = (usable - space.guard, usable - space.guard + total);
    let trim = |from: usize, to: usize| {
        // SAFETY: a part of the mapping made above, and nobody knows of it.
        if from < to { unsafe { release(from, to - from) } } else { Ok(()) }
    };
    if let Err(error) = trim(start, first).and_then(|()| trim(last, start + more)) {
        let _also_fails = trim(start, start + more);
        return Err(error);
    }
    Ok(usable)
}

/// # Safety
/// The range is a reservation with its guards, or a part of one, and nobody relies on its contents.
pub unsafe fn release(start: usize, size: usize) -> Result<()> {
    // SAFETY: passed on to the caller.
    check(unsafe { libc::munmap(pointer(start), size) })
}

/// # Safety
/// The range is in one reservation, and nobody relies on more access than `protect` gives.
pub unsafe fn commit(start: usize, size: usize, protect: Protect) -> Result<()> {
    // SAFETY: passed on to the caller.
    check(unsafe { libc::mprotect(pointer(start), size, bits(protect)) })
}

/// As `commit`; the pages are committed.
///
/// # Safety
/// As `commit`.
pub unsafe fn protect(start: usize, size: usize, protect: Protect) -> Result<()> {
    // SAFETY: passed on to the caller.
    unsafe { commit(start, size, protect) }
}

/// Maps fresh pages over the old ones. Unlike madvise and mprotect, that ends the commit charge in every mode of overcommit, and unlocks
/// the pages. It also lets the kernel join adjacent mappings, whose number is limited: pages that are only made inaccessible may stay
/// separate mappings.
///
/// # Safety
/// The range is in one reservation, and nobody relies on its contents.
pub unsafe fn decommit(start: usize, size: usize) -> Result<()> {
    let fresh = || {
        let flags = RESERVED | libc::MAP_FIXED;
        // SAFETY: passed on to the caller.
        let at = unsafe { libc::mmap(pointer(start), size, libc::PROT_NONE, flags, -1, 0) };
        if at == libc::MAP_FAILED { Err(SystemError::last()) } else { Ok(()) }
    };
    match fresh() {
        // After mlockall(MCL_FUTURE) the old pages and the fresh ones both count as locked. Together they may exceed RLIMIT_MEMLOCK.
        Err(SystemError(libc::EAGAIN)) => {
            unlock(start, size)?;
            // The fresh pages alone may exceed it, too. Then the old ones stay mapped, which needs no locked memory.
            // SAFETY: passed on to the caller.
            fresh().or_else(|error| unsafe { empty(start, size, error) }).inspect_err(|_| {
                let _best_effort = lock(start, size);
            })
        }
        result => result,
    }
}

/// Makes the pages inaccessible and discards their contents. Fails iff the system refuses; with `error`, iff it can't discard contents.
///
/// # Safety
/// As `decommit`; the pages are not locked.
unsafe fn empty(start: usize, size: usize, error: SystemError) -> Result<()> {
    if cfg!(not(any(target_os = "linux", target_os = "android"))) {
        return Err(error); // others may keep the contents after this advice
    }
    // SAFETY: passed on to the caller.
    unsafe {
        commit(start, size, Protect::NoAccess)?;
        check(libc::madvise(pointer(start), size, libc::MADV_DONTNEED))
    }
}

pub fn lock(start: usize, size: usize) -> Result<()> {
    // SAFETY: mlock does not change contents or protection.
    check(unsafe { libc::mlock(pointer(start), size) })
}

pub fn unlock(start: usize, size: usize) -> Result<()> {
    // SAFETY: munlock does not change contents or protection.
    check(unsafe { libc::munlock(pointer(start), size) })
}

/// # Safety
/// The range is committed, and nobody relies on its contents.
pub unsafe fn reset(start: usize, size: usize) -> Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const DONTNEED_LOCKED: &[c_int] = &[24];
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const DONTNEED_LOCKED: &[c_int] = &[];
    // Use the first advice that the system has. MADV_FREE exists since Linux 4.5. MADV_DONTNEED_LOCKED, which accepts locked pages, exists
    // since 5.18.
    for &advice in [libc::MADV_FREE, libc::MADV_DONTNEED].iter().chain(DONTNEED_LOCKED) {
        // SAFETY: passed on to the caller.
        match check(unsafe { libc::madvise(pointer(start), size, advice) }) {
            Err(SystemError(libc::EINVAL)) => {}
            result => return result.map(|()| true),
        }
    }
    Ok(false)
}

pub fn populate(start: usize, size: usize, write: bool) -> Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        linux::populate(start, size, write)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (start, size, write);
        Ok(false)
    }
}

pub fn advise_huge(start: usize, size: usize) -> Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        linux::advise_huge(start, size)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (start, size);
        Ok(false)
    }
}

pub fn set_name(start: usize, size: usize, name: Option<&CStr>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    linux::set_name(start, size, name);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (start, size, name);
}

pub fn flush_instruction_cache(start: usize, size: usize) {
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    {
        unsafe extern "C" {
            /// A function of the C compiler's own library.
            fn __clear_cache(start: *mut c_void, end: *mut c_void);
        }
        // SAFETY: the range is readable.
        unsafe { __clear_cache(pointer(start), pointer(start + size)) };
    }
    let _ = (start, size);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn usage_status() -> Result<UsageStatus> {
    linux::usage_status()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn usage_status() -> Result<UsageStatus> {
    // SAFETY: sysconf has no preconditions.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    let total = usize::try_from(pages).unwrap_or(0).saturating_mul(page_size());
    // Each of these systems reports available memory in another way. The total is an upper bound.
    Ok(UsageStatus { total_physical_bytes: total, avail_physical_bytes: total })
}

/// A walk over mappings that always fails: these systems have no portable list of mappings.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub struct Mappings;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Mappings {
    pub fn new() -> Self {
        Mappings
    }

    pub fn at_or_after(&mut self, _address: usize) -> Result<Option<super::Mapping>> {
        Err(SystemError(libc::ENOSYS))
    }
}
