// SPDX-License-Identifier: MIT OR Apache-2.0
//! The errors of calls on a medium. The text of an error names the offset or the argument; the C layer adds the function and the path.

use std::{fmt, io};

use super::heap::{MAX_ALIGNMENT, MAX_OPEN};
use crate::system_text;

/// The reason why a call on a medium failed. A call that fails changes nothing, except that opening may leave an empty file that it
/// created, or a part of a repair done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    System {
        /// The action that failed.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// Memory ran out.
    OutOfMemory,
    /// The file holds something that is not a medium.
    NotAMedium,
    /// The file to be salvaged does not begin with the header of a medium.
    NoHeader,
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
        /// The offset of the damaged start marker.
        offset: u64,
        /// A description of the damage.
        what: &'static str,
    },
    /// No live block has its data at the offset given: no allocation returned it, or the blob was freed.
    NoBlob(u64),
    /// No block, live or free, has its data at the offset given.
    NoBlock(u64),
    /// The medium ends at or before the offset given.
    BeyondEnd(u64),
    /// The bytes to be read or written are not all in the blob.
    OutOfBlob {
        /// The blob.
        ptr: u64,
        /// The offset of the first byte in the blob.
        offset: u64,
        /// The number of bytes.
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
    /// A sync has failed since the medium was opened, with this error number of the system. The contents of the disk are unknown.
    SyncFailed(i32),
    /// As many transactions are open as can be.
    TooManyTransactions,
    /// The transaction's record would be longer than a record can be.
    TooManyChanges {
        /// So many bytes it can have.
        limit: u64,
    },
    /// The bytes to be stored, or to be brought to the disk, are not all in one blob.
    NotInBlob {
        /// Where they begin.
        at: u64,
        /// How many they are.
        len: u64,
    },
    /// The transaction frees the blob at this offset already.
    FreedByTransaction(u64),
    /// The transaction has not allocated a blob at this offset.
    NoBlobOfTransaction(u64),
    /// The first blob, the root, is shorter than the program needs.
    RootTooShort {
        /// The blob.
        ptr: u64,
        /// Its size.
        len: u64,
        /// The size that is needed.
        size: u64,
    },
    /// There is no blob, and a transaction is open: its blobs could be placed before the root.
    RootInTransaction,
    /// The alignment is no power of two, or too large.
    BadAlignment(u64),
    /// The address is not one of bytes of the medium.
    NoAddress,
    /// A process was killed in a commit, which opening the medium for writing finishes.
    Unfinished,
    /// A process that reads while another one writes, or that one, can't do it.
    Sharing(Sharing),
    /// There may be room once the blocks are free that are held for readers. No call returns this: it frees them, and is made again.
    #[doc(hidden)]
    Held,
    /// Another thread brings the medium to the disk. No call returns this: it waits.
    #[doc(hidden)]
    Busy,
}

/// The reason why a call of a live reader, or for live readers, failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Sharing {
    /// No process has the medium open with SHARED: the writer has closed it, or has died.
    NoWriter,
    /// A reader is in a section that began with the last writer.
    InSection,
    /// As many readers are open as can be.
    TooManyReaders,
    /// As many read sections are open in the process as can be.
    TooManySections,
    /// A live reader can't walk the blocks: the writer changes them.
    Reader,
    /// The medium was not opened as that of a live reader.
    NotReader,
    /// The medium was not opened with SHARED.
    NotShared,
    /// No read section is open.
    NoSection,
    /// Processes of other machines may have the medium open, or the system has no locks of single bytes that end with their process.
    Remote,
    /// The file with the name of FILE.live is something else.
    Foreign,
    /// FILE.live is that of another file, which had the medium's name.
    NameInUse,
}

impl Sharing {
    fn text(self) -> &'static str {
        match self {
            Sharing::NoWriter => "no process has the medium open for writing with PALLOC_SHARED (any more)",
            Sharing::InSection => "a reader is in a section that began with the last writer",
            Sharing::TooManyReaders => "254 readers are open, no more can be",
            Sharing::TooManySections => "65535 read sections of this process are open, no more can be",
            Sharing::Reader => "a live reader can't walk the blocks, which the writer changes",
            Sharing::NotReader => "the medium was not opened with PALLOC_SHARED and PALLOC_READONLY",
            Sharing::NotShared => "the medium was not opened with PALLOC_SHARED",
            Sharing::NoSection => "no read section is open",
            Sharing::Remote => "PALLOC_SHARED needs Linux or Windows, and a file system of this machine",
            Sharing::Foreign => "the file with this name and .live at its end is not one of live readers: rename it",
            Sharing::NameInUse => {
                "the file with this name and .live at its end is in use by the writer of another medium"
            }
        }
    }
}

impl From<Sharing> for Error {
    fn from(sharing: Sharing) -> Error {
        Error::Sharing(sharing)
    }
}

impl Error {
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { doing, source }
    }

    /// The error of a flush, for one more of the transactions that needed it.
    pub(crate) fn duplicate(&self) -> Error {
        match self {
            Error::System { doing, source } => {
                let source = source.raw_os_error().map_or(source.kind().into(), io::Error::from_raw_os_error);
                Error::System { doing, source }
            }
            _ => Error::SyncFailed(libc::EIO),
        }
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
            Error::OutOfMemory => f.write_str("out of memory"),
            Error::NotAMedium => {
                f.write_str("not a palloc medium (PALLOC_FORCE without PALLOC_READONLY initializes it)")
            }
            Error::NoHeader => f.write_str("there is no palloc header (PALLOC_FORCE salvages it all the same)"),
            Error::Incompatible(why) => write!(f, "incompatible medium: {why}"),
            Error::Extended => f.write_str("PALLOC_EXTENDED is reserved, no layout is defined for it"),
            Error::BadFlags(flags) => write!(f, "flags {flags:#x} are unknown or contradict each other"),
            Error::Locked => f.write_str("the medium is open elsewhere"),
            Error::Damaged { offset, what } => {
                write!(f, "damaged medium, at offset {offset}: {what} (palloc_salvage makes a sound copy)")
            }
            Error::NoBlob(ptr) => write!(f, "no allocated blob starts at offset {ptr}"),
            Error::NoBlock(ptr) => write!(f, "no block's data starts at offset {ptr}"),
            Error::BeyondEnd(offset) => write!(f, "the medium ends at or before offset {offset}"),
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
            Error::TooManyTransactions => write!(f, "{MAX_OPEN} transactions are open, no more can be"),
            Error::TooManyChanges { limit } => {
                write!(f, "the record of a transaction can't be longer than {limit} bytes")
            }
            Error::NotInBlob { at, len } => {
                write!(f, "{len} bytes from offset {at} on are not all in one blob")
            }
            Error::NoBlobOfTransaction(ptr) => write!(f, "the transaction has no blob at offset {ptr}"),
            Error::FreedByTransaction(ptr) => write!(f, "the transaction frees the blob at offset {ptr}"),
            Error::RootTooShort { ptr, len, size } => {
                write!(f, "the first blob, at offset {ptr}, has {len} bytes, not {size}")
            }
            Error::RootInTransaction => f.write_str("there is no root yet, and a transaction is open"),
            Error::BadAlignment(alignment) => {
                write!(f, "alignment {alignment} is no power of two up to {MAX_ALIGNMENT}")
            }
            Error::NoAddress => f.write_str("the address is not in a block of the medium"),
            Error::Sharing(sharing) => f.write_str(sharing.text()),
            Error::Held => f.write_str("blocks are held for readers"),
            Error::Busy => f.write_str("another thread brings the medium to the disk"),
            Error::Unfinished => f.write_str("a process was killed in a commit: open the medium once for writing"),
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
