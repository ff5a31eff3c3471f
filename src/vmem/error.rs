// SPDX-License-Identifier: MIT OR Apache-2.0
//! The errors of virtual memory. Each text names the step that failed and its range or argument. The C layer puts the name of the function
//! before it.

use std::fmt;

use super::os::SystemError;
use super::{Pages, Protect};

/// The result of a call on virtual memory.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    System {
        /// The step that failed.
        doing: &'static str,
        /// The range of the step; `None` if it has no range.
        range: Option<Pages>,
        /// The system's error.
        source: SystemError,
    },
    /// No address space of this size is free, or a limit would be exceeded (RLIMIT_AS).
    CannotReserve {
        /// In bytes.
        size: usize,
        /// The system's error.
        source: SystemError,
    },
    /// The pointer is NULL.
    Null,
    /// The size is 0.
    Empty,
    /// The range ends beyond the address space, or a reservation of this size would.
    TooLarge {
        /// Its start, 0 for a reservation.
        start: usize,
        /// Its size.
        size: usize,
    },
    /// No protection has this number.
    BadProtect(u8),
    /// The alignment is not a positive power of two.
    BadAlignment(i128),
    /// The address space ends before the next aligned address.
    AlignOverflow(usize),
    /// The name of a mapping is too long, or has a character that systems do not accept.
    BadName,
    /// The range is not inside one live reservation.
    NotReserved(Pages),
    /// A page of the range is not committed.
    NotCommitted(usize),
    /// The protection of a page does not permit the requested access.
    Forbidden {
        /// The page.
        at: usize,
        /// Its protection.
        protect: Protect,
    },
    /// A page of the range is not locked.
    NotLocked(usize),
    /// A page of the range is locked.
    Locked(usize),
    /// No live reservation starts at this address.
    NotAStart(usize),
    /// The reservation that starts at `start` has another size.
    WrongSize {
        /// Its start.
        start: usize,
        /// The size that the caller gave, in whole pages.
        given: usize,
        /// Its size.
        reserved: usize,
    },
    /// An arena is not initialized, or its fields contradict each other.
    BadArena(&'static str),
    /// An arena's reservation has too few bytes left.
    ArenaFull {
        /// Requested bytes.
        size: usize,
        /// Requested alignment.
        align: usize,
        /// Bytes left.
        left: usize,
    },
    /// The mark is more than the number of bytes in use in the arena.
    BadMark {
        /// The mark.
        mark: usize,
        /// Bytes in use.
        used: usize,
    },
    /// A number of committed bytes is more than the size of the arena or region.
    BeyondEnd {
        /// The number of committed bytes, before or after the call.
        committed: usize,
        /// The size of the arena or region.
        size: usize,
    },
    /// The system does not have this feature.
    Unsupported(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::System { doing, range: Some(range), source } => write!(f, "cannot {doing} {range}: {source}"),
            Error::System { doing, range: None, source } => write!(f, "cannot {doing}: {source}"),
            Error::CannotReserve { size, source } => write!(f, "cannot reserve {size} bytes: {source}"),
            Error::Null => f.write_str("the pointer is NULL"),
            Error::Empty => f.write_str("the size is 0"),
            Error::TooLarge { start: 0, size } => write!(f, "{size} bytes are more than the address space has"),
            Error::TooLarge { start, size } => {
                write!(f, "{size} bytes from {start:#x} on end behind the address space")
            }
            Error::BadProtect(protect) => write!(f, "{protect} is not a protection"),
            Error::BadAlignment(align) => write!(f, "the alignment {align} is not a positive power of two"),
            Error::AlignOverflow(address) => {
                write!(f, "{address:#x} aligned forward lies behind the end of the address space")
            }
            Error::BadName => f.write_str("a name has at most 79 printable ASCII characters, none of them \\ ` $ [ ]"),
            Error::NotReserved(range) => write!(f, "{range} is not inside one live reservation"),
            Error::NotCommitted(at) => write!(f, "the page at {at:#x} is not committed"),
            Error::Forbidden { at, protect } => {
                write!(f, "the protection of the page at {at:#x} is {}", protect.name())
            }
            Error::NotLocked(at) => write!(f, "the page at {at:#x} is not locked"),
            Error::Locked(at) => write!(f, "the page at {at:#x} is locked"),
            Error::NotAStart(at) => write!(f, "no live reservation starts at {at:#x}"),
            Error::WrongSize { start, given, reserved } => {
                write!(f, "the reservation at {start:#x} has {reserved} bytes, not {given}")
            }
            Error::BadArena(why) => write!(f, "not a valid arena: {why}"),
            Error::ArenaFull { size, align, left } => {
                write!(f, "the arena has {left} bytes left, not {size} aligned to {align}")
            }
            Error::BadMark { mark, used } => {
                write!(f, "the mark {mark} is not one of the arena, which uses {used} bytes")
            }
            Error::BeyondEnd { committed, size } => {
                write!(f, "{committed} bytes committed are more than {size} in all")
            }
            Error::Unsupported(what) => write!(f, "this system has no {what}"),
        }
    }
}

impl std::error::Error for Error {}
