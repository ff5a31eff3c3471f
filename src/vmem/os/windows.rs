// SPDX-License-Identifier: MIT OR Apache-2.0
//! VirtualAlloc and its family.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_INVALID_ADDRESS, ERROR_NOT_ENOUGH_MEMORY, GetLastError};
use windows_sys::Win32::System::Diagnostics::Debug::FlushInstructionCache;
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_DECOMMIT, MEM_FREE, MEM_RELEASE, MEM_RESERVE, MEM_RESET, MEMORY_BASIC_INFORMATION, PAGE_EXECUTE,
    PAGE_EXECUTE_READ, PAGE_EXECUTE_READWRITE, PAGE_EXECUTE_WRITECOPY, PAGE_GUARD, PAGE_NOACCESS,
    PAGE_PROTECTION_FLAGS, PAGE_READONLY, PAGE_READWRITE, PAGE_WRITECOPY, VirtualAlloc, VirtualFree, VirtualLock,
    VirtualProtect, VirtualQuery, VirtualUnlock,
};
use windows_sys::Win32::System::SystemInformation::{GetSystemInfo, GlobalMemoryStatusEx, MEMORYSTATUSEX, SYSTEM_INFO};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use super::{Mapping, Result, Space, SystemError};
use crate::vmem::{Protect, UsageStatus};

impl SystemError {
    pub(super) fn last() -> Self {
        // SAFETY: no preconditions.
        SystemError(unsafe { GetLastError() } as i32)
    }
}

fn pointer(address: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(address)
}

fn check(success: i32) -> Result<()> {
    if success != 0 { Ok(()) } else { Err(SystemError::last()) }
}

fn flags(protect: Protect) -> PAGE_PROTECTION_FLAGS {
    match protect {
        Protect::NoAccess => PAGE_NOACCESS,
        Protect::Read => PAGE_READONLY,
        Protect::ReadWrite => PAGE_READWRITE,
        Protect::Execute => PAGE_EXECUTE,
        Protect::ExecuteRead => PAGE_EXECUTE_READ,
        Protect::ExecuteReadWrite => PAGE_EXECUTE_READWRITE,
    }
}

fn protect_of(flags: PAGE_PROTECTION_FLAGS) -> Protect {
    match flags & 0xff {
        _ if flags & PAGE_GUARD != 0 => Protect::NoAccess,
        PAGE_READONLY => Protect::Read,
        PAGE_READWRITE | PAGE_WRITECOPY => Protect::ReadWrite,
        PAGE_EXECUTE => Protect::Execute,
        PAGE_EXECUTE_READ => Protect::ExecuteRead,
        PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_WRITECOPY => Protect::ExecuteReadWrite,
        _ => Protect::NoAccess,
    }
}

fn system_info() -> SYSTEM_INFO {
    let mut info = MaybeUninit::uninit();
    // SAFETY: fills in the struct and can't fail.
    unsafe {
        GetSystemInfo(info.as_mut_ptr());
        info.assume_init()
    }
}

pub const UNLOCK_FIRST: bool = true;

pub fn page_size() -> usize {
    system_info().dwPageSize as usize
}

pub fn allocation_granularity() -> usize {
    system_info().dwAllocationGranularity as usize
}

/// Reserves at this address, or at an address of the system's choice if it is 0.
fn reserve_at(address: usize, size: usize, protect: Protect) -> Result<usize> {
    // SAFETY: a new reservation touches nothing that exists.
    let start = unsafe { VirtualAlloc(pointer(address), size, MEM_RESERVE, flags(protect)) };
    if start.is_null() { Err(SystemError::last()) } else { Ok(start.expose_provenance()) }
}

pub fn reserve(space: &Space, protect: Protect) -> Result<usize> {
    let no_memory = SystemError(ERROR_NOT_ENOUGH_MEMORY as i32);
    let total = space.total().ok_or(no_memory)?;
    if space.align <= allocation_granularity() {
        return Ok(reserve_at(0, total, protect)? + space.guard);
    }
    // Windows releases only whole reservations. So find an aligned place with a larger reservation, release that, and reserve the place.
    // Between the two calls another thread may reserve it; then try again.
    let more = total.checked_add(space.align).ok_or(no_memory)?;
    for _ in 0..64 {
        let place = reserve_at(0, more, protect)?;
        // SAFETY: reserved above, and nobody knows of it.
        unsafe { release(place, more)? };
        let usable = (place + space.guard).next_multiple_of(space.align);
        match reserve_at(usable - space.guard, total, protect) {
            Ok(_) => return Ok(usable),
            Err(SystemError(code)) if code == ERROR_INVALID_ADDRESS as i32 => {}
            Err(error) => return Err(error),
        }
    }
    Err(no_memory)
}

/// # Safety
/// The range is a reservation with its guards, and nobody relies on its contents.
pub unsafe fn release(start: usize, _size: usize) -> Result<()> {
    // SAFETY: passed on to the caller.
    check(unsafe { VirtualFree(pointer(start), 0, MEM_RELEASE) })
}

/// # Safety
/// The range is in one reservation, and nobody relies on more access than `protect` gives.
pub unsafe fn commit(start: usize, size: usize, protect: Protect) -> Result<()> {
    // SAFETY: passed on to the caller.
    let at = unsafe { VirtualAlloc(pointer(start), size, MEM_COMMIT, flags(protect)) };
    if at.is_null() { Err(SystemError::last()) } else { Ok(()) }
}

/// As `commit`; the pages are committed.
///
/// # Safety
/// As `commit`.
pub unsafe fn protect(start: usize, size: usize, protect: Protect) -> Result<()> {
    let mut before = 0;
    // SAFETY: passed on to the caller.
    check(unsafe { VirtualProtect(pointer(start), size, flags(protect), &mut before) })
}

/// # Safety
/// The range is in one reservation, and nobody relies on its contents.
pub unsafe fn decommit(start: usize, size: usize) -> Result<()> {
    // SAFETY: passed on to the caller.
    check(unsafe { VirtualFree(pointer(start), size, MEM_DECOMMIT) })
}

pub fn lock(start: usize, size: usize) -> Result<()> {
    // SAFETY: it does not change contents or protection.
    check(unsafe { VirtualLock(pointer(start), size) })
}

pub fn unlock(start: usize, size: usize) -> Result<()> {
    // SAFETY: it does not change contents or protection.
    check(unsafe { VirtualUnlock(pointer(start), size) })
}

/// # Safety
/// The range is committed, and nobody relies on its contents.
pub unsafe fn reset(start: usize, size: usize) -> Result<bool> {
    // Windows requires a valid protection, and does not use it.
    // SAFETY: passed on to the caller.
    let at = unsafe { VirtualAlloc(pointer(start), size, MEM_RESET, PAGE_READWRITE) };
    if at.is_null() { Err(SystemError::last()) } else { Ok(true) }
}

/// Always returns false: PrefetchVirtualMemory only reads pages that were paged out, and makes no fresh ones.
pub fn populate(_start: usize, _size: usize, _write: bool) -> Result<bool> {
    Ok(false)
}

pub fn advise_huge(_start: usize, _size: usize) -> Result<bool> {
    Ok(false)
}

pub fn set_name(_start: usize, _size: usize, _name: Option<&CStr>) {}

pub fn flush_instruction_cache(start: usize, size: usize) {
    // SAFETY: the range is the caller's own.
    unsafe { FlushInstructionCache(GetCurrentProcess(), pointer(start), size) };
}

pub fn usage_status() -> Result<UsageStatus> {
    // SAFETY: all zero is a value of this struct of numbers.
    let mut status: MEMORYSTATUSEX = unsafe { MaybeUninit::zeroed().assume_init() };
    status.dwLength = size_of::<MEMORYSTATUSEX>() as u32;
    // SAFETY: the struct contains its size.
    check(unsafe { GlobalMemoryStatusEx(&mut status) })?;
    let bytes = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(UsageStatus {
        total_physical_bytes: bytes(status.ullTotalPhys),
        avail_physical_bytes: bytes(status.ullAvailPhys),
    })
}

pub struct Mappings;

impl Mappings {
    pub fn new() -> Self {
        Mappings
    }

    pub fn at_or_after(&mut self, mut address: usize) -> Result<Option<Mapping>> {
        loop {
            let mut info = MaybeUninit::<MEMORY_BASIC_INFORMATION>::uninit();
            // SAFETY: the struct has the length that the call gets.
            let len =
                unsafe { VirtualQuery(pointer(address), info.as_mut_ptr(), size_of::<MEMORY_BASIC_INFORMATION>()) };
            if len == 0 {
                return Ok(None); // beyond the addresses that programs can map
            }
            // SAFETY: filled by VirtualQuery.
            let info = unsafe { info.assume_init() };
            let start = info.BaseAddress.addr();
            let end = start + info.RegionSize;
            if info.State != MEM_FREE {
                let protect = (info.State == MEM_COMMIT).then(|| protect_of(info.Protect));
                return Ok(Some(Mapping { start, end, protect }));
            }
            address = end;
        }
    }
}
