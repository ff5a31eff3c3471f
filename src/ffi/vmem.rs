//! `vmem.h`: both generations of the documented functions of vmem, and ours beside them.
#![allow(non_camel_case_types, non_upper_case_globals)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::size_t;

use super::ErrorText;
use crate::vmem::arena::Bump;
use crate::vmem::region::{self, Request};
use crate::vmem::{self as engine, Error, Protect, Result};

/// For vmem_grow_init: huge pages where the system has them. Faster to fill, but memory is taken 2 MiB at a time.
pub const VMEM_GROW_HUGE: u32 = 1;
/// For vmem_grow_init: guards before and behind the arena, as with vmem_reserve_guarded.
pub const VMEM_GROW_GUARD: u32 = 2;

/// A size in bytes.
pub type VMemSize = size_t;
/// One of enum VMemProtect_.
pub type VMemProtect = u8;
/// One of enum VMemResult_: 1 if the function did what it says, 0 if it failed.
pub type VMemResult = c_int;

/// What functions return.
#[repr(C)]
pub enum VMemResult_ {
    /// The function failed.
    VMemResult_Error = 0,
    /// The function did what it says.
    VMemResult_Success = 1,
}

/// What may be done with a page.
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
    /// Run code; most machines let it be read too.
    VMemProtect_Execute,
    /// Run code and read.
    VMemProtect_ExecuteRead,
    /// All of it. Many systems refuse it; see vmem_set_executable.
    VMemProtect_ExecuteReadWrite,
    /// How many there are, with the invalid one.
    VMemProtect_COUNT,
}

/// The machine's memory.
#[repr(C)]
#[derive(Default)]
pub struct VMemUsageStatus {
    /// What the machine has.
    pub total_physical_bytes: VMemSize,
    /// What the process can still get without swapping.
    pub avail_physical_bytes: VMemSize,
}

/// A region whose first `commited` bytes are committed. All zero if it is not initialized.
#[repr(C)]
pub struct VMemArena {
    /// Where it begins.
    pub mem: *mut u8,
    /// How many bytes it has.
    pub size_bytes: VMemSize,
    /// How many of them are committed; changed by vmem_arena_set_commited.
    pub commited: VMemSize,
}

/// A run of pages in one state.
#[repr(C)]
pub struct VMemRangeInfo {
    /// The first page.
    pub ptr: *mut c_void,
    /// How many bytes the pages have.
    pub size_bytes: VMemSize,
    /// 1 if they are committed, or mapped by someone else than this library; 0 if they are reserved or free.
    pub is_commited: u8,
    /// Their protection. Of reserved pages: the one given when they were reserved. Of free ones: NoAccess.
    pub protect: VMemProtect,
}

/// A growing arena: bytes are pushed onto it, and commit themselves. Read the fields, never write them.
#[repr(C)]
pub struct VMemGrowArena {
    /// Where it begins; NULL if it is not initialized.
    pub mem: *mut u8,
    /// The first byte that is not in use.
    pub next: *mut u8,
    /// Behind what is committed.
    pub limit: *mut u8,
    /// Behind what is reserved.
    pub end: *mut u8,
    /// What is not in use from here on is zero.
    pub fresh: *mut u8,
    /// How many bytes are committed when the next are needed.
    pub step: VMemSize,
    /// As given to vmem_grow_init.
    pub flags: u32,
}

/// Called with the text of an error.
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

/// A vmem_error_fn that is not NULL, or NULL.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

fn handler_of(address: *mut ()) -> vmem_error_fn {
    // SAFETY: HANDLER holds what vmem_set_error_handler was given; NULL is None, by the layout of Option<fn>.
    unsafe { mem::transmute::<*mut (), vmem_error_fn>(address) }
}

/// Leaves the error's text for vmem_get_error_message(), and tells the handler.
fn report(function: &str, error: Error) {
    TEXT.with(|text| text.set(format_args!("{function}: {error}")));
    if let Some(handler) = handler_of(HANDLER.load(Ordering::Acquire)) {
        // SAFETY: a handler can be called with any text, says vmem_set_error_handler; no lock is held.
        unsafe { handler(TEXT.with(ErrorText::as_ptr)) };
    }
}

fn value<T>(function: &str, failed: T, result: Result<T>) -> T {
    result.unwrap_or_else(|error| {
        report(function, error);
        failed
    })
}

fn done(function: &str, result: Result<()>) -> VMemResult {
    value(function, ERROR, result.map(|()| SUCCESS))
}

fn address(pointer: *const c_void) -> usize {
    pointer.expose_provenance()
}

fn pointer<T>(address: usize) -> *mut T {
    ptr::with_exposed_provenance_mut(address)
}

fn reserve(function: &str, request: impl FnOnce() -> Result<Request>) -> *mut c_void {
    value(function, ptr::null_mut(), request().and_then(region::reserve).map(pointer))
}

/// Not needed: every function works without it. Programs of the second generation call it first. A malloc that is built on vmem.h calls it
/// before it installs its own handlers of pthread_atfork(3).
#[unsafe(no_mangle)]
pub extern "C" fn vmem_init() {
    engine::page_size();
    region::handle_fork();
}

/// Reserves `num_bytes` of address space, rounded up to whole pages. It takes no memory, and can't be accessed before it is
/// committed.
///
/// Returns its start, a multiple of vmem_get_allocation_granularity(), or NULL on failure. Fails iff:
/// - `num_bytes` is 0.
/// - There is no address space of this size, or a limit is in the way (RLIMIT_AS).
/// - There is no memory to note it.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_reserve(num_bytes: VMemSize) -> *mut c_void {
    reserve("vmem_reserve", || Ok(Request { size: num_bytes, ..Request::default() }))
}

/// As vmem_reserve, with a start that is a multiple of `alignment`, a power of two. Fails also iff it is none, or where the sum of both
/// is not free for a moment.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_reserve_aligned(num_bytes: VMemSize, alignment: VMemSize) -> *mut c_void {
    reserve("vmem_reserve_aligned", || Ok(Request { size: num_bytes, align: alignment, ..Request::default() }))
}

/// As vmem_reserve, between two guards that can't be accessed, ever: running over either end is a fault, not a corruption. They have
/// vmem_get_allocation_granularity() bytes each, a page on most systems, and do not count in the size.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_reserve_guarded(num_bytes: VMemSize) -> *mut c_void {
    reserve("vmem_reserve_guarded", || Ok(Request { size: num_bytes, guarded: true, ..Request::default() }))
}

/// Releases a reservation, whatever is committed or locked in it.
///
/// Fails, and touches nothing, iff:
/// - `ptr` is not the start of a live reservation: NULL, inside of one, released already, not of this library.
/// - `num_reserved_bytes`, rounded up to whole pages, is not its size.
/// - The system has no mappings left to split one that spans neighbouring reservations, or there is no memory to note it.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_release(ptr: *mut c_void, num_reserved_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_release", unsafe { region::release(address(ptr), num_reserved_bytes) })
}

/// The same as vmem_reserve, which is the name in the first generation.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_alloc(num_bytes: VMemSize) -> *mut c_void {
    reserve("vmem_alloc", || Ok(Request { size: num_bytes, ..Request::default() }))
}

/// As vmem_reserve; `protect` is what vmem_query_range_info tells of pages that are not committed. Nothing is accessible before a
/// commit, which gives its own protection. (Memory that is to become executable on Apple systems has to be reserved with one of the
/// Execute protections.) Fails also iff `protect` is not a protection.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_alloc_protect(num_bytes: VMemSize, protect: VMemProtect) -> *mut c_void {
    reserve("vmem_alloc_protect", || {
        Ok(Request { size: num_bytes, protect: Protect::from_number(protect)?, ..Request::default() })
    })
}

/// vmem_reserve and vmem_commit in one. Fails iff one of them would; then nothing is reserved, unless the process has no mappings left
/// to give the address space back.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_alloc_commited(num_bytes: VMemSize) -> *mut c_void {
    let reserved = region::reserve(Request { size: num_bytes, ..Request::default() });
    let committed = reserved.and_then(|start| {
        // SAFETY: own range: reserved above, and nobody knows of it.
        let result = unsafe { region::commit(start, num_bytes, Protect::ReadWrite) };
        if result.is_err() {
            // SAFETY: as above.
            let _also_fails = unsafe { region::release(start, num_bytes) };
        }
        result.map(|()| pointer(start))
    });
    value("vmem_alloc_commited", ptr::null_mut(), committed)
}

/// The same as vmem_release, which is the name in the first generation.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_dealloc(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_dealloc", unsafe { region::release(address(ptr), num_bytes) })
}

/// The same as vmem_commit_protect with VMemProtect_ReadWrite.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_commit(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_commit", unsafe { region::commit(address(ptr), num_bytes, Protect::ReadWrite) })
}

/// Commits the pages that the range touches: they are accessible from now on, as `protect` says, and zero. Pages that are
/// committed already keep their contents, and get the protection too.
///
/// Fails, and changes nothing, iff:
/// - The range is empty, or not inside one live reservation, or `protect` is not a protection.
/// - Memory is out, or a limit is in the way: RLIMIT_DATA, the commit limit of a system that has one, the number of mappings of
///   the process (Linux: vm.max_map_count, usually 65,530; each run of pages with one protection is one).
/// - The system forbids the protection.
/// - There is no memory to note it.
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
        unsafe { region::commit(address(ptr), num_bytes, protect) }
    });
    done("vmem_commit_protect", result)
}

/// Gives the memory of the pages that the range touches back to the system, and unlocks them; they are reserved again. Pages that are
/// not committed stay as they are. The pages keep the names and the advice that they have from vmem_set_name and vmem_advise_huge,
/// and lose all other advice: see "Memory" above.
///
/// Fails, and changes nothing, iff:
/// - The range is empty or not inside one live reservation.
/// - The process has no mappings left to split one, or there is no memory to note it.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_decommit(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_decommit", unsafe { region::decommit(address(ptr), num_bytes) })
}

/// Changes the protection of the pages that the range touches.
///
/// Fails iff:
/// - The range is empty, or not inside one live reservation; a page is not committed; `protect` is not a protection. Nothing changed.
/// - The system refuses, as with vmem_commit_protect.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_protect(ptr: *mut c_void, num_bytes: VMemSize, protect: VMemProtect) -> VMemResult {
    let result = Protect::from_number(protect).and_then(|protect| {
        // SAFETY: passed on to the caller.
        unsafe { region::protect(address(ptr), num_bytes, protect) }
    });
    done("vmem_protect", result)
}

/// For programs that write code, on systems that forbid memory to be written and executed at the same time. With `executable` 1 the pages that
/// the range touches become ExecuteRead, and the processor sees the code that was written; with 0 they become ReadWrite.
/// Fails iff vmem_protect would.
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_set_executable(ptr: *mut c_void, num_bytes: VMemSize, executable: c_int) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_set_executable", unsafe { region::set_executable(address(ptr), num_bytes, executable != 0) })
}

/// Keeps the pages that the range touches in memory, and brings them there. Locks do not nest, and a child of fork(2) has none.
///
/// Fails, and changes nothing, iff:
/// - The range is empty, or not inside one live reservation; a page is not committed, or NoAccess.
/// - The system refuses (RLIMIT_MEMLOCK), or memory is out.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_lock(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    done("vmem_lock", region::lock(address(ptr), num_bytes))
}

/// Undoes vmem_lock.
///
/// Fails, and changes nothing, iff:
/// - The range is empty, or not inside one live reservation; a page is not locked.
/// - The process has no mappings left to split one, or there is no memory to note it.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_unlock(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    done("vmem_unlock", region::unlock(address(ptr), num_bytes))
}

/// Tells the system that the contents of the pages that the range touches are not needed any more: it may take the memory when it runs short.
/// They stay committed. Until they are written again, they hold their old contents or zeros. Much faster than decommit and commit.
///
/// Fails iff:
/// - The range is empty, or not inside one live reservation; a page is not committed, or is locked by vmem_lock.
/// - mlockall(2) has locked a page, and the system is Linux before 5.18.
/// - The system refuses: a sandbox forbids madvise(2).
///
/// # Safety
/// Own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_reset(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_reset", unsafe { region::reset(address(ptr), num_bytes) })
}

/// Brings the pages that the range touches into memory now, so that touching them later costs nothing; contents stay as they are. They must
/// stay committed during the call. Where the system has no call for it, or forbids it, each page is touched.
///
/// Fails iff:
/// - The range is empty, or not inside one live reservation; a page is not committed, or can't be read.
/// - Memory is out.
///
/// # Safety
/// The pages stay committed, and as accessible as they are, during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_prefault(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    // SAFETY: passed on to the caller.
    done("vmem_prefault", unsafe { region::prefault(address(ptr), num_bytes) })
}

/// Advises the system to use huge pages for the range, committed or not, where they fit: first touch is several times faster then,
/// but takes memory 2 MiB at a time on most machines. The advice lasts until the reservation is released. Best with a range that
/// vmem_reserve_aligned aligned to 2 MiB.
///
/// Fails iff:
/// - The range is empty, or not inside one live reservation.
/// - The system has no huge pages to advise, or forbids it, or no mappings are left, or there is no memory to note it.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_advise_huge(ptr: *mut c_void, num_bytes: VMemSize) -> VMemResult {
    done("vmem_advise_huge", region::advise_huge(address(ptr), num_bytes))
}

/// Names the range in /proc/PID/maps until the reservation is released; NULL takes the name away. Where the system has no such names
/// (Linux before 5.17, and others), or forbids them, it succeeds without effect.
///
/// Fails iff:
/// - The range is empty, or not inside one live reservation.
/// - `name` has more than 79 bytes, or other than printable ASCII characters, or one of \ ` $ [ ]
/// - There is no memory to note it.
///
/// # Safety
/// `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_set_name(ptr: *mut c_void, num_bytes: VMemSize, name: *const c_char) -> VMemResult {
    // SAFETY: not NULL, hence ended by a NUL.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) });
    done("vmem_set_name", region::set_name(address(ptr), num_bytes, name))
}

/// The size of a page. Only the first call makes a system call.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_get_page_size() -> VMemSize {
    engine::page_size()
}

/// The same, asked of the system.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_query_page_size() -> VMemSize {
    engine::query_page_size()
}

/// What the starts of reservations are multiples of: 64 KiB on Windows, elsewhere the page size.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_get_allocation_granularity() -> VMemSize {
    engine::allocation_granularity()
}

/// The same, asked of the system.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_query_allocation_granularity() -> VMemSize {
    engine::query_allocation_granularity()
}

/// How much memory the machine has, and how much of it the process can still get without swapping; on Linux no more than its
/// cgroups and their ancestors leave below memory.max and memory.high, with cache that can be dropped counted as free.
///
/// Returns zeros on failure. Fails iff the system does not tell (Linux: /proc is not mounted).
#[unsafe(no_mangle)]
pub extern "C" fn vmem_query_usage_status() -> VMemUsageStatus {
    let status = engine::usage_status().map(|status| VMemUsageStatus {
        total_physical_bytes: status.total_physical_bytes,
        avail_physical_bytes: status.avail_physical_bytes,
    });
    value("vmem_query_usage_status", VMemUsageStatus::default(), status)
}

/// Describes the pages that the range touches, as runs of equal state with nothing left out, the lowest first, the last one cut at the end of the range;
/// and writes at most `max_items` of them to `out`. A run ends where a reservation ends. Memory that is not of this library is one run a
/// mapping of the system's.
///
/// Returns how many were written; 0 on failure. Fails iff:
/// - The range is empty, `out` is NULL, or `max_items` is 0.
/// - A part of the range is not of this library, and the system does not tell of it (Linux: /proc is not mounted).
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

/// What went wrong in the last call that failed in this thread, as one line that names the function, what was being done, and the
/// range. Never NULL; "" if nothing failed yet. It changes with the next failure in this thread.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_get_error_message() -> *const c_char {
    TEXT.with(ErrorText::as_ptr)
}

/// Has `handler` called once for each call that fails, in the thread that made it, with its message; NULL: errors are only returned. No lock is
/// held then: the handler may call this library. It must return.
///
/// Returns the handler there was, NULL at first. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_set_error_handler(handler: vmem_error_fn) -> vmem_error_fn {
    let address = handler.map_or(ptr::null_mut(), |handler| handler as *mut ());
    handler_of(HANDLER.swap(address, Ordering::AcqRel))
}

/// The protection's name: "NoAccess", "Read", "ReadWrite", "Execute", "ExecuteRead", "ExecuteReadWrite"; "INVALID" for 0, and
/// `<Unknown>` for what is not a protection.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_get_protect_name(protect: VMemProtect) -> *const c_char {
    let name = match Protect::from_number(protect) {
        Ok(protect) => protect.c_name(),
        Err(_) if protect == VMemProtect_::VMemProtect_Invalid as VMemProtect => c"INVALID",
        Err(_) => c"<Unknown>",
    };
    name.as_ptr()
}

fn mask_of(align: c_int) -> Result<usize> {
    match usize::try_from(align) {
        Ok(align) if align.is_power_of_two() => Ok(align - 1),
        _ => Err(Error::BadAlignment(align.into())),
    }
}

/// The first multiple of `align` that is not below `address`. Returns 0 on failure. Fails iff `align` is not a positive power of two, or there is
/// no such address.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_align_forward(address: usize, align: c_int) -> usize {
    let aligned = mask_of(align).and_then(|mask| {
        let sum = address.checked_add(mask).ok_or(Error::AlignOverflow(address))?;
        Ok(sum & !mask)
    });
    value("vmem_align_forward", 0, aligned)
}

/// The last multiple of `align` that is not above `address`. Returns 0 on failure. Fails iff `align` is not a positive power of two.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_align_backward(address: usize, align: c_int) -> usize {
    value("vmem_align_backward", 0, mask_of(align).map(|mask| address & !mask))
}

/// 1 if `address` is a multiple of `align`, 0 if not, which is no error, and 0 on failure. Fails iff `align` is not a positive power of two.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_is_aligned(address: usize, align: c_int) -> VMemResult {
    value("vmem_is_aligned", ERROR, mask_of(align).map(|mask| VMemResult::from(address & mask == 0)))
}

/// Of a region of which the first `prev_commited` bytes are committed, has the first `commited` bytes committed: in whole pages, those
/// between are committed as ReadWrite, but for those that are already, or decommitted.
///
/// Fails iff:
/// - The region is empty or not inside one live reservation; `prev_commited` or `commited` is more than `num_bytes`. Nothing
///   changed.
/// - vmem_commit or vmem_decommit of the pages would.
///
/// A page that the region shares with the bytes before or behind it in the reservation stays committed.
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
    let result = unsafe { region::set_committed(address(ptr), num_bytes, prev_commited, commited) };
    done("vmem_partially_commit_region", result)
}

impl VMemArena {
    const NONE: VMemArena = VMemArena { mem: ptr::null_mut(), size_bytes: 0, commited: 0 };
}

/// An arena on a part of a reservation, with nothing committed. A page that it shares with what lies before or behind it is committed for
/// both, and not decommitted when the arena shrinks. All zero on failure. Fails iff the range is empty or not inside
/// one live reservation.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_arena_init(mem: *mut c_void, size_bytes: VMemSize) -> VMemArena {
    let arena = region::check_owner(address(mem), size_bytes);
    let arena = arena.map(|()| VMemArena { mem: mem.cast(), size_bytes, commited: 0 });
    value("vmem_arena_init", VMemArena::NONE, arena)
}

/// An arena with a reservation of its own, with nothing committed. All zero on failure. Fails iff vmem_reserve would.
#[unsafe(no_mangle)]
pub extern "C" fn vmem_arena_init_alloc(size_bytes: VMemSize) -> VMemArena {
    let start = region::reserve(Request { size: size_bytes, ..Request::default() });
    let arena = start.map(|start| VMemArena { mem: pointer(start), size_bytes, commited: 0 });
    value("vmem_arena_init_alloc", VMemArena::NONE, arena)
}

/// Releases the reservation of an arena of vmem_arena_init_alloc; the arena is all zero then.
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
        unsafe { region::release(address(arena.mem.cast()), arena.size_bytes)? };
        *arena = VMemArena::NONE;
        Ok(())
    });
    done("vmem_arena_deinit_dealloc", result)
}

/// Commits or decommits pages so that the first `commited` bytes of the arena are committed. What was committed before keeps its protection and its contents.
///
/// Fails, and leaves the arena as it is, iff:
/// - `arena` is NULL or not initialized, or not inside one live reservation; `commited`, or the arena's own, is more than its size.
/// - vmem_commit or vmem_decommit of the pages would.
///
/// # Safety
/// `arena` is NULL or points to an arena that nobody else uses; own range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmem_arena_set_commited(arena: *mut VMemArena, commited: VMemSize) -> VMemResult {
    // SAFETY: NULL or an arena that nobody else uses.
    let result = unsafe { arena.as_mut() }.ok_or(Error::Null).and_then(|arena| {
        // SAFETY: passed on to the caller.
        unsafe { region::set_committed(address(arena.mem.cast()), arena.size_bytes, arena.commited, commited)? };
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

    fn set(&mut self, bump: &Bump) {
        self.mem = pointer(bump.start);
        self.next = pointer(bump.next);
        self.limit = pointer(bump.limit);
        self.end = pointer(bump.end);
        self.fresh = pointer(bump.fresh);
        self.step = bump.step;
    }
}

/// Runs `f` on the arena.
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

/// Makes a growing arena with a reservation of `size_bytes`, which is all that it can ever hold. `flags` are 0, or VMEM_GROW_HUGE and VMEM_GROW_GUARD.
///
/// Fails, and leaves the arena all zero, iff `arena` is NULL, a flag is not known, or vmem_reserve would.
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

/// What vmem_grow_push calls when what is committed does not suffice. Does the same, and fails as it does.
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

/// Gives back what was pushed since vmem_grow_mark returned `mark`; the memory is kept for what comes. 0 gives back everything.
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

/// Gives everything back, and all memory but the first `keep_bytes` to the system. (vmem_grow_pop_to(arena, 0) keeps all.)
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

/// Releases the arena's reservation; the arena is all zero then.
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
