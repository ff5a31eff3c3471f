// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions of every operating system. The constants below make the compiler check that each system has all of them, with these
//! types. If a system does more or less, its file says so.

use super::*;

/// The file of a medium: open, locked, and mapped up to its end.
#[expect(dead_code, reason = "only the compiler uses it, for its check")]
struct OfFile {
    /// Opens and locks the file. It is created if it does not exist and the flags have DYNAMIC.
    open: fn(&CStr, Flags) -> Result<MappedFile>,
    /// As `open`, for the file that the program's descriptor is open on. The descriptor stays open, with its position.
    of_descriptor: fn(c_int, Flags) -> Result<MappedFile>,
    /// Opens the file as a live reader: without a lock, and mapped with room ahead.
    open_beside_writer: fn(&CStr) -> Result<MappedFile>,
    /// A live reader's file is so long now. Addresses stay valid.
    follow: fn(&mut MappedFile, end: u64) -> Result<()>,
    /// The open file.
    file: fn(&MappedFile) -> &File,
    /// A descriptor of the same file for the program, which may close it.
    descriptor: fn(&MappedFile) -> Result<Descriptor>,
    /// Another handle of the same open file, which the library keeps for a call.
    duplicate_file: fn(&MappedFile) -> Result<File>,
    /// Makes the drop of this like a kill: it does not unlock the file.
    forget: fn(&mut MappedFile),
    /// Whether the program's writes with its descriptor are on the disk when they return. False if the system does not say.
    writes_through: fn(&MappedFile) -> bool,
    /// Sets the position of the program's descriptor back to its place before opening.
    restore_position: fn(&MappedFile) -> Result<()>,

    /// The address of the file in memory. Up to its end it is readable and, unless it was opened for reading only, writable.
    start: fn(&MappedFile) -> *mut u8,
    /// The offset of an address in this mapping of the file, or in one that was replaced and stays.
    offset_of: fn(&MappedFile, address: usize) -> Option<u64>,
    /// The program may use addresses in the mapping from now on.
    keep_mappings: fn(&MappedFile),
    /// Whether every mapping stays until the medium is closed.
    keeps_mappings: fn(&MappedFile) -> bool,
    /// The program uses no address any more.
    drop_outgrown_mappings: fn(&mut MappedFile),

    /// The length of the file.
    end: fn(&MappedFile) -> u64,
    /// Whether the length can change: not on a block device.
    has_movable_len: fn(&MappedFile) -> bool,
    /// Moves the end up, perhaps further than to `end`. New bytes are zero and have space on the disk. On failure the end is as before.
    grow: fn(&mut MappedFile, end: u64) -> Result<()>,
    /// Moves the end down.
    cut: fn(&mut MappedFile, end: u64) -> Result<()>,
    /// Whether `cut` is possible now.
    can_be_cut: fn(&MappedFile) -> bool,

    /// Brings all stores so far to the disk, and the entry of a new file in its directory.
    flush: fn(&mut MappedFile) -> Result<()>,
    /// Brings at least the bytes of a range to the disk, with the length of the file.
    flush_range: fn(&mut MappedFile, at: u64, len: u64) -> Result<()>,
    /// For a thread without the medium's lock. None if only `flush` does all that is necessary now.
    flusher: fn(&MappedFile) -> Option<Flusher>,
    /// As `flush`, for a thread without the medium's lock.
    flush_unlocked: fn(Flusher) -> Result<()>,

    /// Whether all bytes from `at` to `stop` are zero. Does not fill holes.
    is_zero: fn(&MappedFile, at: u64, stop: u64) -> Result<bool>,
    /// The first data at or behind `at`: its start and its end.
    next_data: fn(&MappedFile, at: u64) -> io::Result<(u64, u64)>,
    /// The start of the first data at or behind `at`; `at` if the system does not know.
    data_from: fn(&MappedFile, at: u64) -> u64,
    /// Whether a load from a hole through the mapping takes space on the disk.
    do_loads_fill_holes: fn(&MappedFile) -> bool,
    /// Reads by system calls.
    read_exact: fn(&MappedFile, &mut [u8], at: u64) -> io::Result<()>,
    /// An upper bound of the bytes that are allocated on the disk.
    allocated: fn(&MappedFile) -> u64,
    /// Allocates a range on the disk, of which at least `new` bytes are not allocated; new bytes are zero. Returns false if the file
    /// system can't.
    allocate: fn(&MappedFile, at: u64, len: u64, new: u64) -> Result<bool>,
    /// Writes zeros to a range of zeros, so that it is allocated. Precondition: nobody else writes there.
    write_zeros: fn(&MappedFile, at: u64, len: u64) -> Result<()>,
    /// Makes the pages of a range writable. Returns false if the system can't.
    populate: fn(&MappedFile, at: u64, len: u64) -> Result<bool>,
    /// The page size. A store needs space on the disk for its whole page.
    page: fn(&MappedFile) -> u64,
    /// Gives the space of whole pages back to the disk. Their bytes are zeros then.
    punch_hole: fn(&MappedFile, at: u64, len: u64) -> io::Result<()>,
    /// As the function of [`Medium`](crate::palloc::medium::Medium). Only advice; a system need not do it.
    advise_far_apart: fn(&MappedFile, bool),
    /// As the function of `Medium`. Only advice.
    start_reading: fn(&MappedFile, at: u64, len: u64),
    /// As the function of `Medium`. True if the system does not say.
    is_in_memory: fn(&MappedFile, at: u64) -> bool,
}

const _: OfFile = OfFile {
    open: MappedFile::open,
    of_descriptor: MappedFile::of_descriptor,
    open_beside_writer: MappedFile::open_beside_writer,
    follow: MappedFile::follow,
    file: MappedFile::file,
    descriptor: MappedFile::descriptor,
    duplicate_file: MappedFile::duplicate_file,
    forget: MappedFile::forget,
    writes_through: MappedFile::writes_through,
    restore_position: MappedFile::restore_position,
    start: MappedFile::start,
    offset_of: MappedFile::offset_of,
    keep_mappings: MappedFile::keep_mappings,
    keeps_mappings: MappedFile::keeps_mappings,
    drop_outgrown_mappings: MappedFile::drop_outgrown_mappings,
    end: MappedFile::end,
    has_movable_len: MappedFile::has_movable_len,
    grow: MappedFile::grow,
    cut: MappedFile::cut,
    can_be_cut: MappedFile::can_be_cut,
    flush: MappedFile::flush,
    flush_range: MappedFile::flush_range,
    flusher: MappedFile::flusher,
    flush_unlocked: Flusher::flush,
    is_zero: MappedFile::is_zero,
    next_data: MappedFile::next_data,
    data_from: MappedFile::data_from,
    do_loads_fill_holes: MappedFile::do_loads_fill_holes,
    read_exact: MappedFile::read_exact,
    allocated: MappedFile::allocated,
    allocate: MappedFile::allocate,
    write_zeros: MappedFile::write_zeros,
    populate: MappedFile::populate,
    page: MappedFile::page,
    punch_hole: MappedFile::punch_hole,
    advise_far_apart: MappedFile::advise_far_apart,
    start_reading: MappedFile::start_reading,
    is_in_memory: MappedFile::is_in_memory,
};

/// Live readers. Nothing else here is used where CAN_SHARE is false.
#[expect(dead_code, reason = "only the compiler uses it, for its check")]
struct OfLiveReaders {
    can_share: bool,
    /// Whether the file system may be that of another machine.
    is_remote: fn(&File) -> bool,
    /// The number of the file in its file system.
    file_number: fn(&File) -> io::Result<u64>,
    /// Opens FILE.live, which must be a file and no symbolic link.
    open_beside: fn(&CStr) -> io::Result<File>,
    /// Takes the name from FILE.live, unless another file than the one with this number has it. Processes that have it mapped keep it.
    /// Precondition: this one has not.
    remove_live: fn(&CStr, number: u64),
    /// Lets those write to FILE.live who may read the medium.
    let_readers_write: fn(medium: &File, live: &File) -> io::Result<()>,
    /// Locks a byte, if no other open file has it locked. The lock ends with the open file, hence with the process.
    lock_byte: fn(&File, at: u64) -> io::Result<bool>,
    /// Gives it back.
    unlock_byte: fn(&File, at: u64),
    /// Whether another open file has one of these bytes locked.
    is_locked: fn(&File, at: u64, len: u64) -> io::Result<bool>,
    /// Keeps a file open. The program may close its descriptor all the same, if it has a number that the program can come by.
    keep: fn(File) -> io::Result<KeptFile>,
    /// Fails with EBADF iff the program has closed it.
    still_open: fn(&KeptFile) -> io::Result<()>,
    /// The same, while somebody else keeps it.
    borrow: fn(&KeptFile) -> Borrowed,
    /// As is_locked for one byte; false if the system can't say.
    is_locked_borrowed: fn(Borrowed, at: u64) -> bool,
    /// A clock that costs little, in ms.
    coarse_ms: fn() -> u64,
}

const _: OfLiveReaders = OfLiveReaders {
    can_share: CAN_SHARE,
    is_remote,
    file_number,
    open_beside,
    remove_live,
    let_readers_write,
    lock_byte,
    unlock_byte,
    is_locked,
    keep: KeptFile::new,
    still_open: KeptFile::still_open,
    borrow: KeptFile::borrow,
    is_locked_borrowed,
    coarse_ms,
};

/// Descriptors, paths, and files other than that of a medium.
#[expect(dead_code, reason = "only the compiler uses it, for its check")]
struct Others {
    /// Closes a descriptor, which nobody uses any more.
    close_descriptor: unsafe fn(c_int),
    /// Opens some file, to keep a descriptor free. None if the system has enough of them.
    spare_descriptor: fn() -> Option<File>,
    /// The file that a descriptor is open on, among all open files.
    file_of: fn(c_int) -> io::Result<FileId>,
    /// EBADF.
    bad_descriptor: fn() -> io::Error,
    /// The error's number in C.
    errno_of: fn(&io::Error) -> c_int,

    /// The absolute path; the path itself if the system can't find it.
    absolute_path: fn(&CStr) -> Result<CString>,
    /// The path as a C string.
    c_path: fn(&std::path::Path) -> Result<CString>,
    /// Whether something has this name.
    exists: fn(&CStr) -> bool,
    /// Gives a file a new name, which nothing may have, and takes the old one from it.
    give_name: fn(old: &CStr, new: &CStr) -> io::Result<()>,
    /// Removes a file, if it is there.
    remove: fn(&CStr),
    /// Brings the entry of a new file to the disk, if the system has a call for that.
    sync_directory_of: fn(&CStr) -> Result<()>,

    /// Opens a file for reading, and locks it as PALLOC_READONLY does. Returns its length too.
    open_to_read: fn(&CStr) -> Result<(File, u64)>,
    /// The same file, open anew for reading, with a position of its own. None if the system can't.
    open_again_to_read: fn(&File) -> Option<File>,
    /// Creates a file. Fails iff something has this name, or as open(2).
    create_new: fn(&CStr) -> io::Result<File>,
    /// Gives the second file the permissions of the first, without those of programs.
    copy_permissions: fn(from: &File, to: &File) -> io::Result<()>,
    /// Makes the second file, which is empty, share its blocks on the disk with the first. Fails iff the file system can't.
    clone_file: fn(from: &File, to: &File) -> io::Result<()>,
    /// The start of the first data at or behind `at`, at most `end`; `at` if the system does not know.
    data_from: fn(&File, at: u64, end: u64) -> u64,
    /// Sets the length of a file.
    extend: fn(&File, len: u64) -> Result<()>,
    /// Fails iff a file may not have this length in this process. The system would send a signal.
    within_file_size_limit: fn(len: u64) -> io::Result<()>,
    /// The error for one of mapping a file. It is never EAGAIN, by which a program learns that the medium is open elsewhere.
    error_of_mapping: fn(io::Error) -> io::Error,
    /// Brings the bytes of a file to the disk, with all that is known of the file.
    sync_all: fn(&File) -> io::Result<()>,
}

const _: Others = Others {
    close_descriptor,
    spare_descriptor,
    file_of,
    bad_descriptor,
    errno_of,
    absolute_path,
    c_path,
    exists,
    give_name,
    remove,
    sync_directory_of,
    open_to_read,
    open_again_to_read,
    create_new,
    copy_permissions,
    clone_file,
    data_from,
    extend,
    within_file_size_limit,
    error_of_mapping,
    sync_all,
};
