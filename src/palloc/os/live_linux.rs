// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks of open files on single bytes (F_OFD_SETLK), and what else live readers need of the system.

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::retry;
use super::unix::{Borrowed, check, file_at, file_of, file_system, open_file};

/// Whether this system has what live readers need.
pub const CAN_SHARE: bool = true;

#[cfg(not(all(target_env = "gnu", target_pointer_width = "32")))]
use libc::{fcntl, flock};
// 64-bit offsets, on 32-bit machines too.
#[cfg(all(target_env = "gnu", target_pointer_width = "32"))]
use libc::flock64 as flock;

fn byte_lock(kind: c_int, at: u64, len: u64) -> flock {
    // SAFETY: integers only, of which all zeros is a value.
    let mut lock: flock = unsafe { zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    (lock.l_start, lock.l_len) = (at as _, len as _);
    lock
}

fn call(fd: c_int, command: c_int, lock: &mut flock) -> io::Result<()> {
    let lock = std::ptr::from_mut(lock);
    retry(|| {
        // SAFETY: fcntl takes a descriptor, which the caller keeps open, and for these commands a lock, which it may change. (The
        // function of glibc takes a shorter one on these machines, the system call does not.)
        #[cfg(all(target_env = "gnu", target_pointer_width = "32"))]
        return check(unsafe { libc::syscall(libc::SYS_fcntl64, fd, command, lock) } as i64);
        // SAFETY: as above.
        #[cfg(not(all(target_env = "gnu", target_pointer_width = "32")))]
        return check(unsafe { fcntl(fd, command, lock) });
    })
    .map(drop)
    // The arguments are right: a system without these locks says EINVAL.
    .map_err(|e| if e.raw_os_error() == Some(libc::EINVAL) { io::Error::from_raw_os_error(libc::ENOTSUP) } else { e })
}

/// Locks a byte of the open file, if nobody else has it locked. Returns whether it did. The lock ends with the open file.
pub fn lock_byte(file: &File, at: u64) -> io::Result<bool> {
    match call(file.as_raw_fd(), libc::F_OFD_SETLK, &mut byte_lock(libc::F_WRLCK as c_int, at, 1)) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Gives the lock of a byte back.
pub fn unlock_byte(file: &File, at: u64) {
    let _ = call(file.as_raw_fd(), libc::F_OFD_SETLK, &mut byte_lock(libc::F_UNLCK as c_int, at, 1));
}

/// Whether another open file has a lock on one of these bytes.
pub fn is_locked(file: &File, at: u64, len: u64) -> io::Result<bool> {
    is_locked_fd(file.as_raw_fd(), at, len)
}

/// As `is_locked`, for one byte; false if the system can't say.
pub fn is_locked_borrowed(file: Borrowed, at: u64) -> bool {
    file.still_open().and_then(|()| is_locked_fd(file.fd, at, 1)).unwrap_or(false)
}

fn is_locked_fd(fd: c_int, at: u64, len: u64) -> io::Result<bool> {
    let mut lock = byte_lock(libc::F_WRLCK as c_int, at, len);
    call(fd, libc::F_OFD_GETLK, &mut lock)?;
    Ok(lock.l_type as c_int != libc::F_UNLCK as c_int)
}

/// Opens FILE.live.
pub fn open_beside(path: &CStr) -> io::Result<File> {
    let file = open_file(path, libc::O_RDWR | libc::O_NOFOLLOW)?;
    let is_file = file.metadata()?.is_file();
    if is_file { Ok(file) } else { Err(io::Error::from_raw_os_error(libc::EEXIST)) }
}

/// Removes FILE.live, the file with this number, if it has the name. Processes that have it mapped keep it.
pub fn remove_live(path: &CStr, number: u64) {
    if file_at(path).is_ok_and(|(_, at)| at == number) {
        super::remove(path);
    }
}

/// Gives FILE.live the owner group of the medium, and lets all write to it that may read the medium: readers have to.
pub fn let_readers_write(medium: &File, live: &File) -> io::Result<()> {
    let of = medium.metadata()?;
    let readers = of.mode() & 0o444;
    // SAFETY: these calls take a descriptor, which `live` keeps open, and integers.
    unsafe {
        libc::fchown(live.as_raw_fd(), libc::uid_t::MAX, of.gid()); // if it may not, the group is its own
        check(libc::fchmod(live.as_raw_fd(), (readers | readers >> 1 | 0o600) as libc::mode_t)).map(drop)
    }
}

/// The number of the file in its file system.
pub fn file_number(file: &File) -> io::Result<u64> {
    file_of(file.as_raw_fd()).map(|(_, number)| number)
}

/// A clock that costs little, in ms.
#[inline]
pub fn coarse_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the out parameter is a local.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    #[allow(clippy::unnecessary_cast)] // not i64 on all systems
    let ms = (now.tv_sec as u64).wrapping_mul(1000).wrapping_add(now.tv_nsec as u64 / 1_000_000);
    ms
}

/// Whether the file system may be that of another machine, with which no memory is shared.
pub fn is_remote(file: &File) -> bool {
    const REMOTE: [u32; 20] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x0102_1997, // 9P
        0x6573_5546, // FUSE: sshfs, virtiofs and others don't say what they are
        0x00c3_6400, // Ceph
        0x5346_414f, // OpenAFS
        0x6b41_4653, // AFS
        0x7375_7245, // Coda
        0x564c,      // NCP
        0x0116_1970, // GFS2
        0x7461_636f, // OCFS2
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x1983_0326, // BeeGFS
        0x2003_0528, // OrangeFS
        0x786f_4256, // VirtualBox's shared folders
        0xbacb_acbc, // VMware's
        0xaad7_aaea, // PanFS
    ];
    REMOTE.contains(&(file_system(file) as u32))
}
