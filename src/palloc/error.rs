//! What can go wrong with a medium. The text of an error names the offset or the argument; the C layer adds the function and the path.

use std::{fmt, io};

use crate::system_text;

/// Why a call on a medium failed. A failed call changed nothing, but for the empty file that opening may have created.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Memory for the index of the blocks ran out.
    OutOfMemory,
    /// The file holds something that is not a medium.
    NotAMedium,
    /// The file can't become a medium with the flags given.
    Incompatible(&'static str),
    /// The medium's header, or the flags given, have the bit of a layout that is not defined.
    Extended,
    /// The flags given contradict each other or are not known.
    BadFlags(u32),
    /// The medium is open elsewhere.
    Locked,
    /// The chain of blocks is broken.
    Damaged {
        /// Where the broken start marker is.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The offset given is not one that an allocation returned, or its blob was freed.
    NoBlob(u64),
    /// No block, allocated or free, has its data at the offset given.
    NoBlock(u64),
    /// The bytes to be read or written are not all in the blob.
    OutOfBlob {
        /// The blob.
        ptr: u64,
        /// Where in it the bytes begin.
        offset: u64,
        /// How many they are.
        len: u64,
    },
    /// No medium can hold a blob of this size.
    TooLarge(u64),
    /// No free block is large enough, and the medium does not grow.
    Full {
        /// The size asked for.
        size: u64,
    },
    /// The medium was opened for reading only.
    ReadOnly,
    /// A sync failed since the medium was opened, with this error of the system. What is on the disk is not known.
    SyncFailed(i32),
}

impl Error {
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System { doing, source } => {
                write!(f, "{doing}: ")?;
                match source.raw_os_error() {
                    Some(code) => system_text::write(f, code),
                    None => source.fmt(f), // a text of Rust's, a constant
                }
            }
            Error::OutOfMemory => f.write_str("out of memory for the index of the blocks"),
            Error::NotAMedium => f.write_str("not a palloc medium (PALLOC_FORCE initializes it all the same)"),
            Error::Incompatible(why) => write!(f, "incompatible medium: {why}"),
            Error::Extended => f.write_str("PALLOC_EXTENDED is reserved, no layout is defined for it"),
            Error::BadFlags(flags) => write!(f, "flags {flags:#x} are unknown or contradict each other"),
            Error::Locked => f.write_str("the medium is open elsewhere"),
            Error::Damaged { offset, what } => write!(f, "damaged medium, at offset {offset}: {what}"),
            Error::NoBlob(ptr) => write!(f, "no allocated blob starts at offset {ptr}"),
            Error::NoBlock(ptr) => write!(f, "no block's data starts at offset {ptr}"),
            Error::OutOfBlob { ptr, offset, len } => {
                write!(f, "{len} bytes from {offset} on are not all in the blob at offset {ptr}")
            }
            Error::TooLarge(size) => write!(f, "no medium can hold a blob of {size} bytes"),
            Error::Full { size } => write!(f, "no free block holds {size} bytes, and the medium does not grow"),
            Error::ReadOnly => f.write_str("the medium was opened with PALLOC_READONLY"),
            Error::SyncFailed(code) => {
                f.write_str("a sync failed before: ")?;
                system_text::write(f, *code)
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System { source, .. } => Some(source),
            _ => None,
        }
    }
}
