// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks of single bytes by LockFileEx, and what else live readers need of the system.
//!
//! The locked bytes are far behind the end of FILE.live: others can't read or write a locked byte.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, RawHandle};
use std::thread;

use windows_sys::Win32::Foundation::ERROR_LOCK_VIOLATION;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_REMOTE_PROTOCOL_INFO, FileRemoteProtocolInfo, GetFileInformationByHandleEx,
    LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::SystemInformation::GetTickCount64;

use super::windows::{Borrowed, id_of, is_file};

/// Whether this system has what live readers need.
pub const CAN_SHARE: bool = true;

/// The place of the lock of byte 0.
const LOCKS: u64 = 1 << 62;
/// So often a lock is tried anew that somebody has who asks for it. That takes him a few system calls.
const TRIES: u32 = 1000;

fn range(at: u64) -> OVERLAPPED {
    // SAFETY: integers, pointers and a union of these, of which all zeros are values.
    let mut range: OVERLAPPED = unsafe { zeroed() };
    range.Anonymous.Anonymous.Offset = at as u32;
    range.Anonymous.Anonymous.OffsetHigh = ((LOCKS + at) >> 32) as u32;
    range
}

/// Locks bytes of an open file, for itself or with others who do not want that. Returns false if somebody else's lock is in the way.
fn try_lock(file: RawHandle, at: u64, len: u64, exclusive: bool) -> io::Result<bool> {
    let how = LOCKFILE_FAIL_IMMEDIATELY | if exclusive { LOCKFILE_EXCLUSIVE_LOCK } else { 0 };
    // SAFETY: takes a handle, which the caller keeps open, and a local.
    if unsafe { LockFileEx(file, how, 0, len as u32, 0, &mut range(at)) } != 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(ERROR_LOCK_VIOLATION as i32) => Ok(false),
        error => Err(error),
    }
}

fn unlock(file: RawHandle, at: u64, len: u64) {
    // SAFETY: as above.
    unsafe { UnlockFileEx(file, 0, len as u32, 0, &mut range(at)) };
}

/// Locks a byte of the open file, if nobody else has it locked. Returns whether it did. The lock ends with the open file.
pub fn lock_byte(file: &File, at: u64) -> io::Result<bool> {
    let file = file.as_raw_handle();
    for _ in 0..TRIES {
        if try_lock(file, at, 1, true)? {
            return Ok(true);
        }
        if is_locked_handle(file, at, 1)? {
            return Ok(false);
        }
        thread::yield_now(); // another process has just asked
    }
    Ok(false)
}

/// Gives the lock of a byte back.
pub fn unlock_byte(file: &File, at: u64) {
    unlock(file.as_raw_handle(), at, 1);
}

/// Whether another open file has a lock on one of these bytes. Precondition: this one has none there.
pub fn is_locked(file: &File, at: u64, len: u64) -> io::Result<bool> {
    is_locked_handle(file.as_raw_handle(), at, len)
}

/// As `is_locked`, for one byte; false if the system can't say.
pub fn is_locked_borrowed(file: Borrowed, at: u64) -> bool {
    is_locked_handle(file, at, 1).unwrap_or(false)
}

/// There is no call that asks. A lock that does not exclude others who ask does it.
fn is_locked_handle(file: RawHandle, at: u64, len: u64) -> io::Result<bool> {
    let is_free = try_lock(file, at, len, false)?;
    if is_free {
        unlock(file, at, len);
    }
    Ok(!is_free)
}

/// Opens FILE.live.
pub fn open_beside(path: &CStr) -> io::Result<File> {
    let path = path.to_str().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(path)?;
    let is_one = is_file(file.as_raw_handle()) && file.metadata()?.is_file();
    if is_one { Ok(file) } else { Err(super::already_exists()) }
}

/// Removes FILE.live, the file with this number, if it has the name. As long as a process has it mapped, that is impossible: then it gets
/// another name, and a later call removes it.
pub fn remove_live(path: &CStr, number: u64) {
    const NAMES: std::ops::RangeInclusive<u8> = b'0'..=b'9';
    let mut has_name = open_beside(path).and_then(|file| file_number(&file)).is_ok_and(|at| at == number);
    let Ok(path) = path.to_str() else { return };
    let mut old = String::new();
    if old.try_reserve_exact(path.len() + 2).is_err() {
        return;
    }
    for digit in NAMES {
        old.clear();
        old.push_str(path);
        old.push('.');
        old.push(digit.into());
        let _ = std::fs::remove_file(&old);
        if has_name && std::fs::rename(path, &old).is_ok() {
            has_name = false;
            let _ = std::fs::remove_file(&old);
        }
    }
}

/// Nothing to do: it has the rights of its directory.
pub fn let_readers_write(_: &File, _: &File) -> io::Result<()> {
    Ok(())
}

/// The number of the file in its file system.
pub fn file_number(file: &File) -> io::Result<u64> {
    id_of(file.as_raw_handle()).map(|(_, number)| number)
}

/// A clock that costs little, in ms.
#[inline]
pub fn coarse_ms() -> u64 {
    // SAFETY: takes nothing.
    unsafe { GetTickCount64() }
}

/// Whether the file system is that of another machine.
pub fn is_remote(file: &File) -> bool {
    let mut info = MaybeUninit::<FILE_REMOTE_PROTOCOL_INFO>::uninit();
    let size = size_of::<FILE_REMOTE_PROTOCOL_INFO>() as u32;
    // SAFETY: takes a handle, which `file` keeps open; the out parameter is a local of the size said. The call fails for a local file.
    unsafe {
        GetFileInformationByHandleEx(file.as_raw_handle(), FileRemoteProtocolInfo, info.as_mut_ptr().cast(), size) != 0
    }
}
