//! The system's text of an error number (errno, GetLastError), without the heap: memory may be what ran out.

use std::fmt;

#[cfg(unix)]
pub(crate) fn write(f: &mut fmt::Formatter<'_>, code: i32) -> fmt::Result {
    if let Some(text) = english(code) {
        return f.write_str(text);
    }
    let mut text: [std::ffi::c_char; 128] = [0; 128];
    // SAFETY: the buffer is as long as is said.
    let known = unsafe { libc::strerror_r(code, text.as_mut_ptr(), text.len()) } == 0;
    // SAFETY: filled and ended by strerror_r, or all zero.
    match unsafe { std::ffi::CStr::from_ptr(text.as_ptr()) }.to_str() {
        Ok(text) if known => f.write_str(text),
        _ => write!(f, "error {code}"),
    }
}

/// The errors that vmem can meet. strerror_r may call malloc to translate one, and malloc may be built on vmem.
#[cfg(all(unix, not(target_env = "musl")))]
fn english(code: i32) -> Option<&'static str> {
    Some(match code {
        libc::EPERM => "Operation not permitted",
        libc::ENOENT => "No such file or directory",
        libc::ESRCH => "No such process",
        libc::EIO => "Input/output error",
        libc::EAGAIN => "Resource temporarily unavailable",
        libc::ENOMEM => "Cannot allocate memory",
        libc::EACCES => "Permission denied",
        libc::EFAULT => "Bad address",
        libc::EINVAL => "Invalid argument",
        libc::ENFILE => "Too many open files in system",
        libc::EMFILE => "Too many open files",
        libc::ENOSYS => "Function not implemented",
        _ => return None,
    })
}

/// musl's never does.
#[cfg(all(unix, target_env = "musl"))]
fn english(_code: i32) -> Option<&'static str> {
    None
}

#[cfg(windows)]
pub(crate) fn write(f: &mut fmt::Formatter<'_>, code: i32) -> fmt::Result {
    use windows_sys::Win32::System::Diagnostics::Debug::{
        FORMAT_MESSAGE_FROM_SYSTEM, FORMAT_MESSAGE_IGNORE_INSERTS, FormatMessageA,
    };
    let mut text = [0_u8; 256];
    let flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    let (buffer, room) = (text.as_mut_ptr(), text.len() as u32);
    // SAFETY: the buffer is as long as is said, and without inserts there are no arguments.
    let len = unsafe { FormatMessageA(flags, std::ptr::null(), code as u32, 0, buffer, room, std::ptr::null()) };
    match std::str::from_utf8(&text[..len as usize]) {
        Ok(text) if !text.is_empty() => f.write_str(text.trim_end()),
        _ => write!(f, "error {code}"),
    }
}
