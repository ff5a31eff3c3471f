// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vmem.h`: the documented functions of both generations of vmem, and our additions.
#![allow(non_camel_case_types, non_upper_case_globals)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::size_t;

use super::ErrorText;
use crate::vmem::arena::Bump;
use crate::vmem::registry::{self, Request};
use crate::vmem::{self as engine, Error, Protect, Result};

/// A flag of vmem_grow_init: use huge pages, on systems that have them. The arena is faster to fill, and uses memory in steps of 2 MiB.
pub const VMEM_GROW_HUGE: u32 = 1;
/// A flag of vmem_grow_init: put a guard on each side of the arena, as vmem_reserve_guarded does.
pub const VMEM_GROW_GUARD: u32 = 2;

/// A size in bytes.
pub type VMemSize = size_t;
/// One of enum VMemProtect_.
pub type VMemProtect = u8;
/// One of enum VMemResult_: 1 if the function succeeded, 0 if it failed.
pub type VMemResult = c_int;

/// The results of functions.
#[repr(C)]
pub enum VMemResult_ {
    /// The function failed.
    VMemResult_Error = 0,
    /// The function succeeded.
    VMemResult_Success = 1,
}

/// The access that a page permits.
#[repr(C)]
pub enum VMemProtect_ {
    /// Not a protection.
    VMemProtect_Invalid = 0,
    /// Committed, but any access is a fault.
    VMemProtect_NoAccess,
    /// Read.
    VMemProtect_Read,
    /// Read and write.
    VMemProtect_ReadWrite,
    /// Run code. Most machines permit reading it too.
    VMemProtect_Execute,
    /// Run code and read.
    VMemProtect_ExecuteRead,
    /// Read, write and run code. Many systems refuse it; see vmem_set_executable.
    VMemProtect_ExecuteReadWrite,
    /// The number of values before this one, VMemProtect_Invalid included.
    VMemProtect_COUNT,
}

/// The machine's memory.
#[repr(C)]
#[derive(Default)]
pub struct VMemUsageStatus {
    /// Memory that the machine has.
    pub total_physical_bytes: VMemSize,
    /// Memory that the process can still get without swapping.
    pub avail_physical_bytes: VMemSize,
}

/// A region whose first `commited` bytes are committed. All zero if it is not initialized.
#[repr(C)]
pub struct VMemArena {
    /// Its first byte.
    pub mem: *mut u8,
    /// Its size.
    pub size_bytes: VMemSize,
    /// The number of committed bytes. vmem_arena_set_commited changes it.
    pub commited: VMemSize,
}

/// A run of pages in one state.
#[repr(C)]
pub struct VMemRangeInfo {
    /// The first page.
    pub ptr: *mut c_void,
    /// The size of its pages.
    pub size_bytes: VMemSize,
    /// 1 if the pages are committed, or mapped by others than this library; 0 if they are reserved or free.
    pub is_commited: u8,
    /// Their protection. Reserved pages have the one that they were reserved with. Free pages have NoAccess.
    pub protect: VMemProtect,
}

/// A growing arena: vmem_grow_push takes bytes from it, and commits pages when they are needed. Programs may read the fields, and must
/// not write them.
#[repr(C)]
pub struct VMemGrowArena {
    /// Its first byte; NULL if the arena is not initialized.
    pub mem: *mut u8,
    /// The first byte that is not in use.
    pub next: *mut u8,
    /// The end of the committed bytes.
    pub limit: *mut u8,
    /// The end of the reserved bytes.
    pub end: *mut u8,
    /// Committed bytes from here on that are not in use are zero.
    pub fresh: *mut u8,
    /// The number of bytes that the next commit adds, or more if a push needs more.
    pub step: VMemSize,
    /// The flags of vmem_grow_init.
    pub flags: u32,
}

/// A function that the library calls with the text of an error.
pub type vmem_error_fn = Option<unsafe extern "C" fn(message: *const c_char)>;

const _: () = {
    let word = size_of::<usize>();
    assert!(size_of::<VMemProtect>() == 1 && size_of::<VMemResult>() == 4);
    assert!(size_of::<VMemUsageStatus>() == 2 * word && size_of::<VMemArena>() == 3 * word);
    assert!(size_of::<VMemRangeInfo>() == 3 * word && size_of::<VMemGrowArena>() == 7 * word);
    // cbindgen needs the numbers written out here.
    assert!(VMemProtect_::VMemProtect_NoAccess as u8 == Protect::NoAccess as u8);
    assert!(VMemProtect_::VMemProtect_Read as u8 == Protect::Read as u8);
    assert!(VMemProtect_::VMemProtect_ReadWrite as u8 == Protect::ReadWrite as u8);
    assert!(VMemProtect_::VMemProtect_Execute as u8 == Protect::Execute as u8);
    assert!(VMemProtect_::VMemProtect_ExecuteRead as u8 == Protect::ExecuteRead as u8);
    assert!(VMemProtect_::VMemProtect_ExecuteReadWrite as u8 == Protect::ExecuteReadWrite as u8);
    assert!(VMemProtect_::VMemProtect_COUNT as usize == 1 + Protect::ALL.len());
};

const SUCCESS: VMemResult = VMemResult_::VMemResult_Success as VMemResult;
const ERROR: VMemResult = VMemResult_::VMemResult_Error as VMemResult;

thread_local! {
    static TEXT: ErrorText = const { ErrorText::new() };
}

/// The handler that vmem_set_error_handler set: a vmem_error_fn, or NULL.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Returns the handler with this address, a value of HANDLER.
fn handler_of(address: *mut ()) -> vmem_error_fn {
    // SAFETY: the address is a vmem_error_fn, or NULL, which stands for None in the layout of Option<fn>.
    unsafe { mem::transmute::<*mut (), vmem_error_fn>(address) }
}

/// Stores the error's text for vmem_get_error_message(), and calls the handler with it.
fn report(function: &str, error: Error) {
    TEXT.with(|text| text.set(format_args!("{function}: {error}")));
    if let Some(handler) = handler_of(HANDLER.load(Ordering::Acquire)) {
        // SAFETY: vmem_set_error_handler requires a handler that accepts any text. No lock is held.
        unsafe { handler(TEXT.with(ErrorText::as_ptr)) };
    }
}

/// Returns the result's value. If it is an error, reports that, and returns `failed`.
fn value<T>(function: &str, failed: T, result: Result<T>) -> T {
    result.unwrap_or_else(|error| {
        report(function, error);
        failed
    })
}

/// As `value`, for functions that return a VMemResult.
fn done(function: &str, result: Result<()>) -> VMemResult {
    value(function, ERROR, result.map(|()| SUCCESS))
}

fn address(pointer: *const c_void) -> usize {
    pointer.expose_provenance()
}

fn pointer<T>(address: usize) -> *mut T {
    ptr::with_exposed_provenance_mut(address)
}

/// Reserves address space for the C function `function`. Returns NULL, and reports the error, iff `request` or `registry::reserve` fails.
fn reserve(function: &str, request: impl FnOnce() -> Result<Request>) -> *mut c_void {
    value(function, ptr::null_mut(), request().and_then(registry::reserve).map(pointer))
}

/// Prepares the library for fork(2). Programs need not call it, because every other function does the same when it first needs to.
/// Programs of the second generation call it first. A malloc that is built on vmem.h calls it before it installs its own handlers of
/// pthread_atfork(3). Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_init() {
    engine::page_size();
    registry::handle_fork();
}

/// Reserves `num_bytes` of address space, rounded up to whole pages. The reservation uses no memory, and can't be accessed before it is
/// committed.
///
/// Returns its start, a multiple of vmem_get_allocation_granularity(), or NULL on failure. Fails iff:
/// - `num_bytes` is 0.
/// - No address space of this size is free, or a limit would be exceeded (RLIMIT_AS).
/// - No memory is left for the library's registry.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_reserve(num_bytes: VMemSize) -> *mut c_void {
    reserve("vmem_reserve", || Ok(Request { size: num_bytes, ..Request::default() }))
}

/// As vmem_reserve, with a start that is a multiple of `alignment`. Fails also if:
/// - `alignment` is not a power of two.
/// - No address space of `num_bytes` plus `alignment` is free; the function may reserve so much for a moment, to find an aligned start.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_reserve_aligned(num_bytes: VMemSize, alignment: VMemSize) -> *mut c_void {
    reserve("vmem_reserve_aligned", || Ok(Request { size: num_bytes, align: alignment, ..Request::default() }))
}

/// As vmem_reserve, with a guard on each side. A guard can never be accessed: an access just outside of the reservation is a fault, not a
/// corruption. Each guard has vmem_get_allocation_granularity() bytes, a page on most systems. The size of the reservation does not
/// include them.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_reserve_guarded(num_bytes: VMemSize) -> *mut c_void {
    reserve("vmem_reserve_guarded", || Ok(Request { size: num_bytes, guarded: true, ..Request::default() }))
}

/// Releases a whole reservation. Pages in it may be committed and locked.
///
/// Fails, and changes nothing, iff:
/// - `ptr` is not the start of a live reservation. (It is NULL, or inside a reservation, or was released, or is not of this library.)
/// - `num_reserved_bytes`, rounded up to whole pages, is not the size of the reservation.
/// - The process has no mapping left to split one that spans neighbouring reservations.
/// - No memory is left for the library's registry.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_release(ptr: *mut c_void, num_reserved_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_release", unsafe { registry::release(address(ptr), num_reserved_bytes) })
}

/// The same as vmem_reserve, under its name in the second generation.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_alloc(num_bytes: VMemSize) -> *mut c_void {
    reserve("vmem_alloc", || Ok(Request { size: num_bytes, ..Request::default() }))
}

/// As vmem_reserve. vmem_query_range_info reports `protect` for pages that are not committed. Pages can't be accessed before a commit,
/// which sets their protection. (On Apple systems, only a reservation with one of the Execute protections can become executable.) Fails
/// also if `protect` is not a protection.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_alloc_protect(num_bytes: VMemSize, protect: VMemProtect) -> *mut c_void {
    reserve("vmem_alloc_protect", || {
        Ok(Request { size: num_bytes, protect: Protect::from_number(protect)?, ..Request::default() })
    })
}

/// Does vmem_reserve and then vmem_commit of all. Fails iff one of them would. Then nothing stays reserved, unless the process has no
/// mapping left to release the address space.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_alloc_commited(num_bytes: VMemSize) -> *mut c_void {
    let reserved = registry::reserve(Request { size: num_bytes, ..Request::default() });
    let committed = reserved.and_then(|start| {
        // SAFETY: own range: reserved above, and nobody knows of it.
        let result = unsafe { registry::commit(start, num_bytes, Protect::ReadWrite) };
        if result.is_err() {
            // SAFETY: as above.
            let _also_fails = unsafe { registry::release(start, num_bytes) };
        }
        result.map(|()| pointer(start))
    });
    value("vmem_alloc_commited", ptr::null_mut(), committed)
}

/// The same as vmem_release, under its name in the second generation.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_dealloc(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_dealloc", unsafe { registry::release(address(ptr), num_bytes) })
}

/// The same as vmem_commit_protect with VMemProtect_ReadWrite.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_commit(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_commit", unsafe { registry::commit(address(ptr), num_bytes, Protect::ReadWrite) })
}

/// Commits the pages that the range touches, with the protection `protect`. They are zero. Pages that are committed already keep their
/// contents, and change their protection.
///
/// Fails, and changes nothing, iff:
/// - The range is empty or not inside one live reservation.
/// - `protect` is not a protection, or the system forbids it.
/// - Memory has run out, also for the library's registry.
/// - A limit would be exceeded: RLIMIT_DATA, the commit limit of a system that has one, or the number of mappings of the process (Linux:
///   vm.max_map_count, usually 65,530). Each run of pages with one protection needs a mapping.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_commit_protect(
    ptr: *mut c_void,
    num_bytes: VMemSize,
    protect: VMemProtect,
) -> VMemResult {
    let result = Protect::from_number(protect).and_then(|protect| {
        // SAFETY: passed on to the caller.
        unsafe { registry::commit(address(ptr), num_bytes, protect) }
    });
    done("vmem_commit_protect", result)
}

/// Decommits the pages that the range touches: discards their contents, unlocks them, and returns their memory to the system. They are
/// reserved again. Pages that are not committed stay as they are. The pages keep their names and advice from vmem_set_name and
/// vmem_advise_huge, and lose all other advice: see "Memory" above.
///
/// Fails, and changes nothing, iff:
/// - The range is empty or not inside one live reservation.
/// - The process has no mapping left to split one, or no memory is left for the library's registry.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_decommit(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_decommit", unsafe { registry::decommit(address(ptr), num_bytes) })
}

/// Changes the protection of the pages that the range touches.
///
/// Fails, and changes nothing, iff:
/// - The range is empty or not inside one live reservation.
/// - A page is not committed.
/// - `protect` is not a protection, or the system forbids it.
/// - A limit would be exceeded, as with vmem_commit_protect, or no memory is left for the library's registry.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_protect(ptr: *mut c_void, num_bytes: VMemSize, protect: VMemProtect) -> VMemResult {
    let result = Protect::from_number(protect).and_then(|protect| {
        // SAFETY: passed on to the caller.
        unsafe { registry::protect(address(ptr), num_bytes, protect) }
    });
    done("vmem_protect", result)
}

/// Prepares the pages that the range touches for running code or for writing it. If `executable` is 0, they become ReadWrite. Otherwise
/// they become ExecuteRead, and the processor sees the code that was written. Fails iff vmem_protect would. It is for programs that write
/// code, because many systems forbid memory that is writable and executable at the same time.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_set_executable(ptr: *mut c_void, num_bytes: VMemSize, executable: c_int) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_set_executable", unsafe { registry::set_executable(address(ptr), num_bytes, executable != 0) })
}

/// Locks the pages that the range touches: brings them into memory, and keeps them there. Locks do not nest. A child of fork(2) does not
/// inherit them.
///
/// Fails, and leaves the same pages locked as before, iff:
/// - The range is empty or not inside one live reservation.
/// - A page is not committed, or is NoAccess.
/// - The system refuses (RLIMIT_MEMLOCK), or memory has run out, also for the library's registry.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_lock(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    done("vmem_lock", registry::lock(address(ptr), num_bytes))
}

/// Unlocks the pages that the range touches.
///
/// Fails, and changes nothing, iff:
/// - The range is empty or not inside one live reservation.
/// - A page is not locked by vmem_lock.
/// - The process has no mapping left to split one, or no memory is left for the library's registry.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_unlock(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    done("vmem_unlock", registry::unlock(address(ptr), num_bytes))
}

/// Declares that the program does not need the contents of the pages that the range touches. The system may take their memory when memory
/// is short. The pages stay committed. Until a page is written again, it holds its old contents or zeros. This is much faster than a
/// decommit and a commit.
///
/// Fails iff:
/// - The range is empty or not inside one live reservation.
/// - A page is not committed, or is locked by vmem_lock.
/// - mlockall(2) has locked a page, and the system is Linux before 5.18.
/// - The system refuses: a sandbox forbids madvise(2).
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_reset(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_reset", unsafe { registry::reset(address(ptr), num_bytes) })
}

/// Brings the pages that the range touches into memory, so that a later access causes no page fault. It does not change their contents.
/// They must stay committed during the call. If the system has no call for it, or forbids it, the function accesses each page.
///
/// Fails iff:
/// - The range is empty or not inside one live reservation.
/// - A page is not committed, or not readable.
/// - Memory has run out.
///
/// # Safety
/// The pages stay committed, and as accessible as they are, during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_prefault(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_prefault", unsafe { registry::prefault(address(ptr), num_bytes) })
}

/// Advises the system to use huge pages for the range, where they fit. Its pages may be committed or not. The first access is then several
/// times faster, but uses memory in steps of 2 MiB on most machines. The advice lasts until the reservation is released. It works best if
/// the range is aligned to 2 MiB; see vmem_reserve_aligned.
///
/// Fails iff:
/// - The range is empty or not inside one live reservation.
/// - The system has no huge pages, or forbids the advice.
/// - The process has no mapping left to split one, or no memory is left for the library's registry.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_advise_huge(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    done("vmem_advise_huge", registry::advise_huge(address(ptr), num_bytes))
}

/// Names the range in /proc/PID/maps until the reservation is released. NULL removes the name. If the system has no such names (Linux
/// before 5.17, and other systems), or forbids them, the function succeeds without effect.
///
/// Fails iff:
/// - The range is empty or not inside one live reservation.
/// - `name` has more than 79 bytes, a character that is not printable ASCII, or one of \ ` $ [ ]
/// - No memory is left for the library's registry.
///
/// # Safety
/// `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_set_name(ptr: *mut c_void, num_bytes: VMemSize, name: *const c_char) -> VMemResult {
    // SAFETY: not NULL, hence ended by a NUL.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) });
    done("vmem_set_name", registry::set_name(address(ptr), num_bytes, name))
}

/// Returns the size of a page. Only the first call asks the system. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_get_page_size() -> VMemSize {
    engine::page_size()
}

/// Asks the system for the size of a page, and returns it. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_query_page_size() -> VMemSize {
    engine::query_page_size()
}

/// Returns the alignment of reservations: 64 KiB on Windows, the page size on other systems. Only the first call asks the system. Never
/// fails.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_get_allocation_granularity() -> VMemSize {
    engine::allocation_granularity()
}

/// Asks the system for the alignment of reservations, and returns it. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_query_allocation_granularity() -> VMemSize {
    engine::query_allocation_granularity()
}

/// Returns the memory that the machine has, and the memory that the process can still get without swapping. On Linux, the second number
/// respects the limits memory.max and memory.high of the process's cgroups and their ancestors; cache that the kernel can drop counts as
/// free.
///
/// Returns zeros on failure. Fails iff the system does not report its memory (Linux: /proc is not mounted).
#[unsafe(no_mangle)]
pub extern "C" fn vmem_query_usage_status() -> VMemUsageStatus {
    let status = engine::usage_status().map(|status| VMemUsageStatus {
        total_physical_bytes: status.total_physical_bytes,
        avail_physical_bytes: status.avail_physical_bytes,
    });
    value("vmem_query_usage_status", VMemUsageStatus::default(), status)
}

/// Describes the pages that the range touches, as runs of pages in one state, in ascending order. Writes the first `max_items` runs to
/// `out`, or all if they are fewer. The runs have no gaps between them, and the last one ends with the range. A run ends where a
/// reservation ends. Outside of reservations, each mapping of the system is a run.
///
/// Returns the number of runs written, or 0 on failure. Fails iff:
/// - The range is empty, `out` is NULL, or `max_items` is 0.
/// - A part of the range is in no reservation, and the system does not report its mappings (Linux: /proc is not mounted).
///
/// # Safety
/// `out` is an out parameter for `max_items` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_query_range_info(
    ptr: *mut c_void,
    num_bytes: VMemSize,
    out: *mut VMemRangeInfo,
    max_items: VMemSize,
) -> VMemSize {
    let mut items = 0;
    let result = match (out.is_null(), max_items) {
        (true, _) => Err(Error::Null),
        (_, 0) => Err(Error::Empty),
        _ => engine::query(address(ptr), num_bytes, |run| {
            let info = VMemRangeInfo {
                ptr: pointer(run.pages.start()),
                size_bytes: run.pages.size(),
                is_commited: u8::from(run.is_committed),
                protect: run.protect as u8,
            };
            // SAFETY: an out parameter, and `items` is below `max_items`.
            unsafe { out.add(items).write(info) };
            items += 1;
            items < max_items
        }),
    };
    value("vmem_query_range_info", 0, result.map(|()| items))
}

/// Returns the text of the last error in this thread: one line that names the function, the step that failed, and the range or argument.
/// Returns "" if no call has failed in this thread, and never NULL. The next failure in this thread changes the text. Never fails.
///
/// The system's part of it is the text of strerror(3) in the language of the program's locale (Windows: of FormatMessage). For the errors
/// EPERM, ENOENT, ESRCH, EIO, EAGAIN, ENOMEM, EACCES, EFAULT, EINVAL, ENFILE, EMFILE and ENOSYS it is always English, except with musl and
/// on Windows: strerror(3) may call malloc to translate, and malloc may be built on these functions.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_get_error_message() -> *const c_char {
    TEXT.with(ErrorText::as_ptr)
}

/// Sets the error handler of the process. The library calls it once for each call that fails, in the thread of that call, with the text of
/// the error. NULL removes the handler. The handler may call this library, because no lock is held. It must return.
///
/// Returns the handler that was set before, or NULL. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_set_error_handler(handler: vmem_error_fn) -> vmem_error_fn {
    let address = handler.map_or(ptr::null_mut(), |handler| handler as *mut ());
    handler_of(HANDLER.swap(address, Ordering::AcqRel))
}

/// Returns the protection's name: "NoAccess", "Read", "ReadWrite", "Execute", "ExecuteRead" or "ExecuteReadWrite". Returns "INVALID" for 0
/// and `<Unknown>` for any other number. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_get_protect_name(protect: VMemProtect) -> *const c_char {
    let name = match Protect::from_number(protect) {
        Ok(protect) => protect.c_name(),
        Err(_) if protect == VMemProtect_::VMemProtect_Invalid as VMemProtect => c"INVALID",
        Err(_) => c"<Unknown>",
    };
    name.as_ptr()
}

/// Returns `align` - 1. Fails iff `align` is not a positive power of two.
fn mask_of(align: c_int) -> Result<usize> {
    match usize::try_from(align) {
        Ok(align) if align.is_power_of_two() => Ok(align - 1),
        _ => Err(Error::BadAlignment(align.into())),
    }
}

/// Returns the lowest multiple of `align` at or above `address`, or 0 on failure. Fails iff `align` is not a positive power of two, or the
/// address space ends before such a multiple.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_align_forward(address: usize, align: c_int) -> usize {
    let aligned = mask_of(align).and_then(|mask| {
        let sum = address.checked_add(mask).ok_or(Error::AlignOverflow(address))?;
        Ok(sum & !mask)
    });
    value("vmem_align_forward", 0, aligned)
}

/// Returns the highest multiple of `align` at or below `address`, or 0 on failure. Fails iff `align` is not a positive power of two.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_align_backward(address: usize, align: c_int) -> usize {
    value("vmem_align_backward", 0, mask_of(align).map(|mask| address & !mask))
}

/// Returns 1 if `address` is a multiple of `align`, or else 0, also on failure. Fails iff `align` is not a positive power of two.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_is_aligned(address: usize, align: c_int) -> VMemResult {
    value("vmem_is_aligned", ERROR, mask_of(align).map(|mask| VMemResult::from(address & mask == 0)))
}

/// Changes the number of committed bytes at the start of a region from `prev_commited` to `commited`. To grow, it commits the pages between
/// the two as ReadWrite, except those that are committed already. To shrink, it decommits the pages between the two. A page stays committed
/// if bytes of the reservation before or behind the region share it.
///
/// Fails iff:
/// - The region is empty or not inside one live reservation. Nothing has changed then.
/// - `prev_commited` or `commited` is more than `num_bytes`. Nothing has changed then.
/// - vmem_commit or vmem_decommit of the pages would.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_partially_commit_region(
    ptr: *mut c_void,
    num_bytes: VMemSize,
    prev_commited: VMemSize,
    commited: VMemSize,
) -> VMemResult {
    // SAFETY: passed on to the caller.
    let result = unsafe { registry::set_committed(address(ptr), num_bytes, prev_commited, commited) };
    done("vmem_partially_commit_region", result)
}

impl VMemArena {
    const NONE: VMemArena = VMemArena { mem: ptr::null_mut(), size_bytes: 0, commited: 0 };
}

/// Returns an arena on a part of a reservation, with a `commited` of 0; all zero on failure. It commits nothing. The arena may share its
/// first and its last page with other bytes of the reservation: committing such a page commits it for both, and it stays committed when
/// the arena shrinks. Fails iff the range is empty or not inside one live reservation.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_arena_init(mem: *mut c_void, size_bytes: VMemSize) -> VMemArena {
    let arena = registry::check_owner(address(mem), size_bytes);
    let arena = arena.map(|()| VMemArena { mem: mem.cast(), size_bytes, commited: 0 });
    value("vmem_arena_init", VMemArena::NONE, arena)
}

/// Returns an arena with a reservation of its own, with nothing committed; all zero on failure. Fails iff vmem_reserve would.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_arena_init_alloc(size_bytes: VMemSize) -> VMemArena {
    let start = registry::reserve(Request { size: size_bytes, ..Request::default() });
    let arena = start.map(|start| VMemArena { mem: pointer(start), size_bytes, commited: 0 });
    value("vmem_arena_init_alloc", VMemArena::NONE, arena)
}

/// Releases the reservation of an arena that vmem_arena_init_alloc returned, and sets the arena to all zero.
///
/// Fails, and changes nothing, iff `arena` is NULL, or vmem_release of its memory would.
///
/// # Safety
/// `arena` is NULL or points to an arena that nobody else uses; own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_arena_deinit_dealloc(arena: *mut VMemArena) -> VMemResult {
    // SAFETY: NULL or an arena that nobody else uses.
    let result = unsafe { arena.as_mut() }.ok_or(Error::Null).and_then(|arena| {
        // SAFETY: passed on to the caller.
        unsafe { registry::release(address(arena.mem.cast()), arena.size_bytes)? };
        *arena = VMemArena::NONE;
        Ok(())
    });
    done("vmem_arena_deinit_dealloc", result)
}

/// Commits or decommits pages, so that the first `commited` bytes of the arena are committed. Pages that were committed and stay so keep
/// their contents and their protection.
///
/// Fails, and leaves `*arena` unchanged, iff:
/// - `arena` is NULL or not initialized, or its memory is not inside one live reservation.
/// - `commited`, or the arena's own `commited`, is more than its size.
/// - vmem_commit or vmem_decommit of the pages would.
///
/// # Safety
/// `arena` is NULL or points to an arena that nobody else uses; own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_arena_set_commited(arena: *mut VMemArena, commited: VMemSize) -> VMemResult {
    // SAFETY: NULL or an arena that nobody else uses.
    let result = unsafe { arena.as_mut() }.ok_or(Error::Null).and_then(|arena| {
        // SAFETY: passed on to the caller.
        unsafe { registry::set_committed(address(arena.mem.cast()), arena.size_bytes, arena.commited, commited)? };
        arena.commited = commited;
        Ok(())
    });
    done("vmem_arena_set_commited", result)
}

impl VMemGrowArena {
    const NONE: VMemGrowArena = VMemGrowArena {
        mem: ptr::null_mut(),
        next: ptr::null_mut(),
        limit: ptr::null_mut(),
        end: ptr::null_mut(),
        fresh: ptr::null_mut(),
        step: 0,
        flags: 0,
    };

    /// Returns the arena in the engine's form.
    fn bump(&self) -> Bump {
        let at = |pointer: *mut u8| address(pointer.cast());
        Bump {
            start: at(self.mem),
            next: at(self.next),
            limit: at(self.limit),
            end: at(self.end),
            fresh: at(self.fresh),
            step: self.step,
            huge: self.flags & VMEM_GROW_HUGE != 0,
        }
    }

    /// Stores the engine's form. It does not change the flags.
    fn set(&mut self, bump: &Bump) {
        self.mem = pointer(bump.start);
        self.next = pointer(bump.next);
        self.limit = pointer(bump.limit);
        self.end = pointer(bump.end);
        self.fresh = pointer(bump.fresh);
        self.step = bump.step;
    }
}

/// Calls `f` with the engine's form of the arena, stores the changes that `f` made, and returns its result. Fails also if `arena` is NULL.
///
/// # Safety
/// `arena` is NULL or points to an arena that nobody else uses.
unsafe fn with<T>(arena: *mut VMemGrowArena, f: impl FnOnce(&mut Bump) -> Result<T>) -> Result<T> {
    // SAFETY: passed on to the caller.
    let arena = unsafe { arena.as_mut() }.ok_or(Error::Null)?;
    let mut bump = arena.bump();
    let result = f(&mut bump);
    arena.set(&bump);
    result
}

/// Initializes a growing arena with a reservation of `size_bytes`, which it can't exceed. `flags` is 0, or any of VMEM_GROW_HUGE and
/// VMEM_GROW_GUARD.
///
/// Fails, and leaves the arena all zero, iff `arena` is NULL, a flag is not known, or the reservation fails; see vmem_reserve.
///
/// # Safety
/// `arena` is an out parameter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_grow_init(arena: *mut VMemGrowArena, size_bytes: VMemSize, flags: u32) -> VMemResult {
    let new = || {
        if arena.is_null() {
            return Err(Error::Null);
        }
        // SAFETY: an out parameter that is not NULL.
        unsafe { arena.write(VMemGrowArena::NONE) };
        if flags & !(VMEM_GROW_HUGE | VMEM_GROW_GUARD) != 0 {
            return Err(Error::BadArena("a flag is not known"));
        }
        let bump = Bump::new(size_bytes, flags & VMEM_GROW_HUGE != 0, flags & VMEM_GROW_GUARD != 0)?;
        let mut new = VMemGrowArena { flags, ..VMemGrowArena::NONE };
        new.set(&bump);
        // SAFETY: as above.
        unsafe { arena.write(new) };
        Ok(())
    };
    done("vmem_grow_init", new())
}

/// The slow path of vmem_grow_push, which calls it if the committed bytes do not suffice. Does the same as vmem_grow_push, and fails iff
/// that would.
///
/// # Safety
/// `arena` is NULL or points to an arena that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_grow_push_more(
    arena: *mut VMemGrowArena,
    size: VMemSize,
    align: VMemSize,
) -> *mut c_void {
    // SAFETY: passed on to the caller.
    let result = unsafe { with(arena, |bump| bump.push(size, align)) };
    value("vmem_grow_push", ptr::null_mut(), result.map(pointer))
}

/// Frees all bytes that were pushed since vmem_grow_mark returned `mark`. If `mark` is 0, frees all. Their memory stays committed for later
/// pushes.
///
/// Fails, and changes nothing, iff `arena` is NULL or not initialized, or `mark` is more than is in use.
///
/// # Safety
/// `arena` is NULL or points to an arena that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_grow_pop_to(arena: *mut VMemGrowArena, mark: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_grow_pop_to", unsafe { with(arena, |bump| bump.pop_to(mark)) })
}

/// Frees all bytes, and decommits all but the first `keep_bytes`. (vmem_grow_pop_to(arena, 0) decommits nothing.)
///
/// Fails, and changes nothing, iff `arena` is NULL or not initialized, or vmem_decommit would.
///
/// # Safety
/// `arena` is NULL or points to an arena that nobody else uses; own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_grow_reset(arena: *mut VMemGrowArena, keep_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    let result = unsafe { with(arena, |bump| bump.reset(keep_bytes)) };
    done("vmem_grow_reset", result)
}

/// Releases the arena's reservation, and sets the arena to all zero.
///
/// Fails, and changes nothing, iff `arena` is NULL or not initialized, or vmem_release would.
///
/// # Safety
/// `arena` is NULL or points to an arena that nobody else uses; own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_grow_deinit(arena: *mut VMemGrowArena) -> VMemResult {
    // SAFETY: NULL or an arena that nobody else uses.
    let result = unsafe { arena.as_mut() }.ok_or(Error::Null).and_then(|arena| {
        // SAFETY: own range, by the caller.
        unsafe { arena.bump().release()? };
        *arena = VMemGrowArena::NONE;
        Ok(())
    });
    done("vmem_grow_deinit", result)
}
