// SPDX-License-Identifier: MIT OR Apache-2.0
//! New files with copies of media: they get their name when they are whole and on the disk.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::Error;
use super::os::{self, Buffer};
use super::{Result, try_c_string};

/// A file that is being made. A drop removes it, unless it has its name.
pub struct NewFile {
    pub file: File,
    /// Its name until then.
    pub temporary: CString,
    name: CString,
    has_name: bool,
}

impl NewFile {
    /// Creates a file that is to be called `name`, under another name in the same directory. Fails iff there is a file with that name,
    /// or as open(2).
    pub fn create(name: &CStr) -> Result<NewFile> {
        const CREATING: &str = "create the copy";
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if os::exists(name) {
            return Err(Error::System { doing: CREATING, source: os::already_exists() });
        }
        let own_name = os::copy_path(name)?; // first: nothing fails any more once the file is there
        loop {
            let temporary = temporary_name(name, NUMBER.fetch_add(1, Ordering::Relaxed))?;
            match os::create_new(&temporary) {
                Ok(file) => return Ok(NewFile { file, temporary, name: own_name, has_name: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::System { doing: CREATING, source }),
            }
        }
    }

    /// Brings the file to the disk and gives it its name. Fails iff a file with that name exists, or the system fails.
    pub fn give_name(mut self) -> Result<()> {
        os::sync_all(&self.file).map_err(Error::system("write the copy to the disk"))?;
        os::give_name(&self.temporary, &self.name).map_err(Error::system("give the copy its name"))?;
        self.has_name = true;
        os::sync_directory_of(&self.name).inspect_err(|_| os::remove(&self.name))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.has_name {
            os::remove(&self.temporary);
        }
    }
}

/// `NAME.PROCESS.NUMBER.tmp`. NAME is the first `LONG` bytes of a longer name, without a part of a character at the end: systems limit the
/// bytes, the characters or the UTF-16 units of a name, to more than all of that.
fn temporary_name(name: &CStr, number: u32) -> Result<CString> {
    const LONG: usize = 100;
    let suffix = Decimals::of(&[std::process::id(), number]);
    let mut name = name.to_bytes();
    let last = name.iter().rev().take_while(|&&byte| !std::path::is_separator(byte.into())).count();
    if last > LONG {
        let end = name.len() - last + LONG;
        let within = name[end - 2..=end].iter().rev().take_while(|&byte| byte & 0xc0 == 0x80).count();
        name = &name[..end - within];
    }
    let mut path = Vec::new();
    path.try_reserve_exact(name.len() + suffix.len + 5)?;
    path.extend_from_slice(name);
    path.extend_from_slice(&suffix.bytes[..suffix.len]);
    path.extend_from_slice(b".tmp");
    Ok(try_c_string(&path)?.expect("neither a C string nor digits have a NUL in them"))
}

/// Numbers as text, each behind a dot, without the heap.
struct Decimals {
    bytes: [u8; 24],
    len: usize,
}

impl Decimals {
    fn of(numbers: &[u32; 2]) -> Decimals {
        use io::Write;
        let mut bytes = [0; 24];
        let mut rest = &mut bytes[..];
        let _fits = write!(rest, ".{}.{}", numbers[0], numbers[1]);
        let left = rest.len();
        Decimals { bytes, len: 24 - left }
    }
}

/// Copies `len` bytes of a file to a new one. Zeros become holes, and with `skips` holes are not read, which moves the position in the
/// file. `lost` is called with ranges that can't be read, which become zeros; if it returns false, the copy fails. Returns the offset
/// behind the last byte that is not zero.
pub fn copy_bytes(
    from: &File,
    to: &File,
    len: u64,
    skips: bool,
    mut lost: impl FnMut(u64, u64) -> bool,
) -> Result<u64> {
    /// A disk reads or fails to read no less.
    const SECTOR: u64 = 4096;
    os::extend(to, len)?;
    let mut buffer = Buffer::new();
    let buffer = buffer.bytes();
    let (mut at, mut used) = (0, 0);
    while at < len {
        if skips {
            at = os::data_from(from, at, len);
        }
        let mut n = (len - at).min(buffer.len() as u64);
        let mut read = os::read_all(from, &mut buffer[..n as usize], at);
        if read.is_err() && n > SECTOR {
            n = SECTOR - at % SECTOR; // others of the piece can be read
            read = os::read_all(from, &mut buffer[..n as usize], at);
        }
        match read {
            Ok(()) => {
                let piece = &buffer[..n as usize];
                if let Some(last) = piece.iter().rposition(|&byte| byte != 0) {
                    os::write_all(to, piece, at).map_err(Error::system("write the copy"))?;
                    used = at + last as u64 + 1;
                }
            }
            Err(source) if !lost(at, n) => return Err(Error::System { doing: "read the file", source }),
            Err(_) => {}
        }
        at += n;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_has_whole_characters_of_the_name_in_its_first_100_bytes() {
        for characters in ["b", "é", "€", "𝄞"] {
            for n in 0..150 {
                let directory = "d".repeat(200);
                let name = format!("{}{}", "b".repeat(n % 5), characters.repeat(n));
                let path = CString::new(format!("{directory}/{name}")).unwrap();
                let temporary = temporary_name(&path, u32::MAX).unwrap();
                let mut end = name.len().min(100);
                while !name.is_char_boundary(end) {
                    end -= 1;
                }
                let wanted = format!("{directory}/{}.{}.4294967295.tmp", &name[..end], std::process::id());
                assert_eq!(temporary.to_str().unwrap(), wanted);
            }
        }
    }
}
