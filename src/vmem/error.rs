//! What can go wrong with virtual memory. The text of an error says what was being done to which range; the C layer adds the function.

use std::fmt;

use super::os::SystemError;
use super::{Pages, Protect};

/// What calls on virtual memory return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed. Unless it is a [`Error::System`] on a range with several protections, it changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    System {
        /// What was being done.
        doing: &'static str,
        /// To which range; `None` if to none.
        range: Option<Pages>,
        /// What the system said.
        source: SystemError,
    },
    /// The system has no address space of this size, or a limit is in the way (RLIMIT_AS).
    CannotReserve {
        /// In bytes.
        size: usize,
        /// What the system said.
        source: SystemError,
    },
    /// The pointer is NULL.
    Null,
    /// The size is 0.
    Empty,
    /// The range goes beyond the end of the address space, or a size beyond what can be reserved.
    TooLarge {
        /// Its start, 0 for a reservation.
        start: usize,
        /// Its size.
        size: usize,
    },
    /// The number names no protection.
    BadProtect(u8),
    /// The alignment is not a positive power of two.
    BadAlignment(i128),
    /// Aligning the address forward goes beyond the end of the address space.
    AlignOverflow(usize),
    /// The name of a mapping is too long or has characters that systems do not take.
    BadName,
    /// The range is not inside one live reservation.
    NotReserved(Pages),
    /// A page of the range is not committed.
    NotCommitted(usize),
    /// The protection of a page does not permit what is asked for.
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
    /// No live reservation starts here.
    NotAStart(usize),
    /// The reservation that starts here has another size.
    WrongSize {
        /// Its start.
        start: usize,
        /// The size that was given, in whole pages.
        given: usize,
        /// Its size.
        reserved: usize,
    },
    /// An arena's numbers contradict each other, or it was not initialized.
    BadArena(&'static str),
    /// An arena would have to be larger than its reservation.
    ArenaFull {
        /// Bytes that were asked for.
        size: usize,
        /// What their address is to be a multiple of.
        align: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// An arena does not have as many bytes in use as the mark says.
    BadMark {
        /// The mark.
        mark: usize,
        /// Bytes in use.
        used: usize,
    },
    /// More is to be committed than the arena or region has.
    BeyondEnd {
        /// Bytes to be committed, or said to be.
        committed: usize,
        /// Bytes that there are.
        size: usize,
    },
    /// This system does not have what was asked for.
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
