// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system's text of an error number (errno, GetLastError). It does not use the heap, because memory may have run out.

use std::fmt;

/// Writes the text of `code`, or "error CODE" if the system has no text in UTF-8. Fails iff `f` does.
#[cfg(unix)]
pub(crate) fn write(f: &mut fmt::Formatter<'_>, code: i32) -> fmt::Result {
    if let Some(text) = english(code) {
        return f.write_str(text);
    }
    let mut text: [std::ffi::c_char; 128] = [0; 128];
    // SAFETY: the buffer has the length that the call gets.
    let known = unsafe { libc::strerror_r(code, text.as_mut_ptr(), text.len()) } == 0;
    // SAFETY: strerror_r filled the buffer and ended the text with a NUL, or the buffer is all zero.
    match unsafe { std::ffi::CStr::from_ptr(text.as_ptr()) }.to_str() {
        Ok(text) if known => f.write_str(text),
        _ => write!(f, "error {code}"),
    }
}

/// Returns the text of an error that vmem's system calls return, or None for others. strerror_r may call malloc to translate a text, and
/// malloc may be built on vmem.
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

/// Returns None, because musl's strerror_r never calls malloc.
#[cfg(all(unix, target_env = "musl"))]
fn english(_code: i32) -> Option<&'static str> {
    None
}

/// Writes the text of `code`, or "error CODE" if the system has no text in UTF-8. Fails iff `f` does.
#[cfg(windows)]
pub(crate) fn write(f: &mut fmt::Formatter<'_>, code: i32) -> fmt::Result {
    use windows_sys::Win32::System::Diagnostics::Debug::{
        FORMAT_MESSAGE_FROM_SYSTEM, FORMAT_MESSAGE_IGNORE_INSERTS, FormatMessageA,
    };
    let mut text = [0_u8; 256];
    let flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    let (buffer, room) = (text.as_mut_ptr(), text.len() as u32);
    // SAFETY: the buffer has the length that the call gets. Without inserts, the call reads no arguments.
    let len = unsafe { FormatMessageA(flags, std::ptr::null(), code as u32, 0, buffer, room, std::ptr::null()) };
    match std::str::from_utf8(&text[..len as usize]) {
        Ok(text) if !text.is_empty() => f.write_str(text.trim_end()),
        _ => write!(f, "error {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text(i32);

    impl fmt::Display for Text {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write(f, self.0)
        }
    }

    /// A test sets no locale, so strerror_r does not translate.
    #[test]
    #[cfg(all(unix, not(target_env = "musl")))]
    fn texts_are_those_of_the_system() {
        for code in (0..140).filter(|&code| english(code).is_some()) {
            let mut text: [std::ffi::c_char; 128] = [0; 128];
            // SAFETY: as in `write`.
            let system = unsafe {
                assert_eq!(libc::strerror_r(code, text.as_mut_ptr(), text.len()), 0);
                std::ffi::CStr::from_ptr(text.as_ptr())
            };
            if cfg!(target_os = "linux") {
                assert_eq!(Text(code).to_string(), system.to_str().unwrap());
            }
        }
    }

    #[test]
    #[cfg(all(unix, not(target_env = "musl")))]
    fn no_error_of_vmem_s_system_calls_needs_malloc_for_its_text() {
        use libc::*;
        for code in [EPERM, ENOENT, ESRCH, EIO, EAGAIN, ENOMEM, EACCES, EFAULT, EINVAL, ENFILE, EMFILE, ENOSYS] {
            assert!(english(code).is_some(), "{code}");
        }
    }

    #[test]
    #[cfg(not(target_env = "musl"))] // which has one text for all numbers that it does not know
    fn a_number_that_the_system_does_not_know_is_given_as_it_is() {
        assert_eq!(Text(99_999_999).to_string(), "error 99999999");
    }
}
