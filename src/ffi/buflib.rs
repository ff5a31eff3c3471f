// SPDX-License-Identifier: MIT OR Apache-2.0
//! `buflib.h`: the documented functions of buflib over a `struct buflib_context *`, and ours beside them.
#![allow(non_camel_case_types)]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::fmt::{self, Write};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::buflib::alloc::{self, Error, Request, log2_of_alignment};
use crate::buflib::block::{self, Any, Fault};
use crate::buflib::handles::{self, NoPin};
use crate::buflib::layout::{
    Callbacks as buflib_callbacks, Context as buflib_context, IDLE, NAME, USER_OPS,
    UserCallbacks as buflib_user_callbacks,
};
use crate::buflib::room::{self, Stat as buflib_stat};
use crate::buflib::{relocate, step, verify};

type size_t = usize;

/// Called when a pool turns out to be damaged, or a program to be wrong.
pub type buflib_panic_fn = Option<unsafe extern "C" fn(ctx: *mut buflib_context, message: *const c_char)>;

/// Called for each violation that buflib_check finds.
pub type buflib_report_fn = Option<unsafe extern "C" fn(user: *mut c_void, block: *const c_void, what: *const c_char)>;

/// Callbacks for a block that neither moves nor shrinks.
#[unsafe(no_mangle)]
pub static mut buflib_ops_locked: buflib_callbacks =
    buflib_callbacks { move_callback: None, shrink_callback: None, sync_callback: None };

/// Text for C: NUL terminated, cut where it does not fit.
struct Text<'a> {
    to: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl<'a> Text<'a> {
    fn new(to: &'a mut [MaybeUninit<u8>]) -> Self {
        let mut text = Text { to, len: 0 };
        text.push(b"");
        text
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = self.to.len().saturating_sub(self.len + 1);
        for &byte in bytes.iter().take(room) {
            self.to[self.len].write(byte);
            self.len += 1;
        }
        if let Some(end) = self.to.get_mut(self.len) {
            end.write(0);
        }
    }

    fn as_ptr(&self) -> *const c_char {
        self.to.as_ptr().cast()
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes());
        Ok(())
    }
}

const TEXT: usize = 512;
const BLANK: [MaybeUninit<u8>; TEXT] = [MaybeUninit::uninit(); TEXT];

static PANIC_HANDLER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Calls the panic handler; without one, reports to stderr and aborts.
#[cold]
#[inline(never)]
fn panic_for(ctx: &buflib_context, what: fmt::Arguments<'_>) {
    let mut buffer = BLANK;
    let mut text = Text::new(&mut buffer);
    let size = ctx.pool().words * size_of::<usize>();
    let _infallible = write!(text, "buflib error (CTX:{ctx:p}, {size} bytes):\n{what}");
    let handler = PANIC_HANDLER.load(Ordering::Acquire);
    // SAFETY: the pointer was stored from a buflib_panic_fn, which NULL is a value of.
    match unsafe { core::mem::transmute::<*mut c_void, buflib_panic_fn>(handler) } {
        // SAFETY: a handler gets the context that its program gave us, and a C string.
        Some(handler) => unsafe { handler(ptr::from_ref(ctx).cast_mut(), text.as_ptr()) },
        None => die(&text),
    }
}

#[cfg(feature = "std")]
fn die(text: &Text<'_>) {
    // SAFETY: Text is NUL terminated.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    eprintln!("{}", text.to_string_lossy());
    std::process::abort();
}

#[cfg(not(feature = "std"))]
fn die(text: &Text<'_>) {
    // SAFETY: Text is NUL terminated.
    panic!("{:?}", unsafe { CStr::from_ptr(text.as_ptr()) });
}

fn report(ctx: &buflib_context, fault: Fault) {
    panic_for(ctx, format_args!("{fault}"));
}

/// The result of the engine; or, after calling the panic handler with the fault, `failed`.
fn or_report<T>(ctx: &buflib_context, result: Result<T, Fault>, failed: T) -> T {
    result.unwrap_or_else(|fault| {
        report(ctx, fault);
        failed
    })
}

/// Adds a pin. If that fails it calls the panic handler, except in a callback, and returns false.
fn pin(ctx: &buflib_context, handle: c_int) -> bool {
    handles::pin(ctx, handle).map_err(|why| report_no_pin(ctx, handle, why)).is_ok()
}

/// Removes a pin. If that fails it calls the panic handler, except in a callback.
fn unpin(ctx: &buflib_context, handle: c_int) {
    if let Err(why) = handles::unpin(ctx, handle) {
        report_no_pin(ctx, handle, why);
    }
}

#[cold]
fn report_no_pin(ctx: &buflib_context, handle: c_int, why: NoPin) {
    match why {
        NoPin::InCallback => {}
        NoPin::BadHandle => panic_for(ctx, format_args!("invalid handle access: {handle}")),
        NoPin::TooMany => panic_for(ctx, format_args!("too many pins: handle {handle}")),
        NoPin::NotPinned => panic_for(ctx, format_args!("unpin without a pin: handle {handle}")),
        NoPin::Damaged(fault) => report(ctx, fault),
    }
}

fn error_number(ctx: &buflib_context, error: Error) -> c_int {
    match error {
        Error::NoHandle => -1,
        Error::NoMemory => -2,
        Error::InCallback => -3,
        Error::Damaged(fault) => {
            report(ctx, fault);
            -3
        }
    }
}

/// # Safety
/// `ctx` is NULL or an *initialized context*.
unsafe fn context<'a>(ctx: *mut buflib_context) -> Option<&'a buflib_context> {
    // SAFETY: the caller's. All fields are cells, and no exclusive reference is ever made.
    unsafe { ctx.as_ref() }
}

/// # Safety
/// `name` is a *C string*.
unsafe fn name_bytes<'a>(name: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller's.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_bytes())
}

/// # Safety
/// As for buflib_alloc_ex.
unsafe fn alloc_block(ctx: *mut buflib_context, size: usize, align: usize, name: *const c_char, ops: usize) -> c_int {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return -2 };
    // SAFETY: the caller's.
    let request = Request { size, name: unsafe { name_bytes(name) }, ops, align };
    match alloc::alloc(ctx, request) {
        Ok(handle) => handle as c_int,
        Err(error) => error_number(ctx, error),
    }
}

/// Makes the `size` bytes at `buf` a pool, without touching them, and `ctx` its context, whatever was in it. Both ends are aligned
/// inwards to words. If `buf` is NULL or no whole word is left, every allocation will fail.
///
/// # Safety
/// `ctx` may be written to; from then on the bytes are *pool memory* of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_init(ctx: *mut buflib_context, buf: *mut c_void, size: size_t) {
    if !ctx.is_null() {
        // SAFETY: the caller's.
        unsafe { alloc::init(ctx, buf.cast(), size) }
    }
}

/// `buflib_alloc_ex(ctx, size, NULL, NULL)`: a block without a name that may be moved at any time.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_alloc(ctx: *mut buflib_context, size: size_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { alloc_block(ctx, size, 0, ptr::null(), 0) }
}

/// Allocates a block of `size` bytes, which may be 0, and returns its handle, 1 or more: the lowest that is free. The payload is
/// aligned to a word. `name` is copied into the block, or NULL. `ops` is kept by reference and must live as long as the block; NULL
/// means that the block may be moved without being asked. `name` must not lie in the pool, as what buflib_get_name returns does: blocks may
/// move before it is copied.
///
/// The block lies in the first free place that is large enough. If there is none, the pool is compacted; if that does not help, all
/// blocks that have a shrink callback are asked, as long as that yields anything.
///
/// Fails iff
/// - no handle is free and there is no word for one: -1;
/// - there is no place for `size` bytes, with the header and the name: -2, at once if they are more than the whole pool;
/// - a callback is running, or the pool is damaged and the panic handler returned: -3.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; `name` is a *C string* outside of the pool; `ops` are *callbacks* that outlive the
/// block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_alloc_ex(
    ctx: *mut buflib_context,
    size: size_t,
    name: *const c_char,
    ops: *mut buflib_callbacks,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { alloc_block(ctx, size, 0, name, ops.expose_provenance()) }
}

/// As buflib_alloc_ex, with the payload aligned to `alignment` bytes, which every move keeps. `alignment` is a power of two; 0 and all
/// up to the size of a word are as buflib_alloc_ex. Up to `alignment` bytes may be left free in front of the block.
///
/// Where neither the end of the pool nor any free block has `alignment` bytes to spare, all blocks are looked at in turn, to see whether
/// one that is large enough starts at the right place: this costs time that grows with their number.
///
/// Fails iff buflib_alloc_ex does, or `alignment` is not a power of two or above the size of the pool: -2.
///
/// # Safety
/// As for buflib_alloc_ex.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_alloc_aligned(
    ctx: *mut buflib_context,
    size: size_t,
    alignment: size_t,
    name: *const c_char,
    ops: *mut buflib_callbacks,
) -> c_int {
    match log2_of_alignment(alignment) {
        // SAFETY: the caller's.
        Some(align) => unsafe { alloc_block(ctx, size, align, name, ops.expose_provenance()) },
        None => -2,
    }
}

/// As buflib_alloc_aligned, with callbacks that get the context and a pointer of yours: for programs with more than one pool. `ops` is kept by
/// reference and must live as long as the block; NULL means that the block may be moved without being asked.
///
/// Fails iff buflib_alloc_aligned does.
///
/// # Safety
/// As for buflib_alloc_ex.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_alloc_user(
    ctx: *mut buflib_context,
    size: size_t,
    alignment: size_t,
    name: *const c_char,
    ops: *const buflib_user_callbacks,
) -> c_int {
    let Some(align) = log2_of_alignment(alignment) else { return -2 };
    let ops = if ops.is_null() { 0 } else { ops.expose_provenance() | USER_OPS };
    // SAFETY: the caller's.
    unsafe { alloc_block(ctx, size, align, name, ops) }
}

/// Compacts, asks every block that has a shrink callback for all that it can give, and allocates all that there is then in one place:
/// `*size` bytes; with `size` NULL they are not reported. Room for some more handles is left. The name is cut to 15 bytes.
///
/// Fails iff (`*size` becomes 0; `size` NULL is no failure)
/// - there are fewer than 22 words and 16 bytes more at the end, and no other free block in which a byte has room, or there can be no
///   handle: -1;
/// - a callback is running, or the pool is damaged and the panic handler returned: -3.
///
/// # Safety
/// As for buflib_alloc_ex; `size` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_alloc_maximum(
    ctx: *mut buflib_context,
    name: *const c_char,
    size: *mut size_t,
    ops: *mut buflib_callbacks,
) -> c_int {
    // SAFETY: the caller's.
    let (ctx, name) = unsafe { (context(ctx), name_bytes(name)) };
    let Some(ctx) = ctx else { return -1 };
    let name = name.map(|name| &name[..name.len().min(15)]);
    let (handle, bytes) = match room::alloc_maximum(ctx, name, ops.expose_provenance()) {
        Ok((handle, bytes)) => (handle as c_int, bytes),
        Err(error) => (error_number(ctx, error), 0),
    };
    if !size.is_null() {
        // SAFETY: the caller's.
        unsafe { *size = bytes }
    }
    handle
}

/// buflib_get_data for files compiled with DEBUG: calls the panic handler if the handle is bad.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_get_data(ctx: *mut buflib_context, handle: c_int) -> *mut c_void {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return ptr::null_mut() };
    let data = handles::data(ctx, handle);
    if data.is_null() {
        panic_for(ctx, format_args!("invalid handle access: {handle}"));
    }
    data.cast()
}

/// Cuts a block down to the `new_size` bytes from `new_start`, which lie where they are: bytes to keep have to be moved there
/// before. Its payload then starts exactly at `new_start`, aligned or not; with NULL where it starts already. The words in front and
/// behind are free. No callback runs. A block may grow back to the end of its last word.
///
/// Fails iff (false, and nothing has changed) the handle is bad; the range is not within the payload, rounded up to words; a
/// move_callback or sync_callback is running; or the pool is damaged and the panic handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_shrink(
    ctx: *mut buflib_context,
    handle: c_int,
    new_start: *mut c_void,
    new_size: size_t,
) -> bool {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return false };
    or_report(ctx, alloc::shrink(ctx, handle, new_start.addr(), new_size), false)
}

/// Frees a block, whatever pins it has, and returns 0.
///
/// Fails iff the handle is bad: the argument is returned, so that `h = buflib_free(ctx, h)` may be repeated; or a move_callback or
/// sync_callback is running, or the pool is damaged and the panic handler returned: -3.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_free(ctx: *mut buflib_context, handle: c_int) -> c_int {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return handle };
    alloc::free(ctx, handle).unwrap_or_else(|error| error_number(ctx, error))
}

/// Bytes that are free in the pool, in whatever pieces; of those at the end, without the room for a header, 16 handles and a short name.
/// Never fails, and takes the same time however many blocks there are.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_available(ctx: *mut buflib_context) -> size_t {
    // SAFETY: the caller's.
    unsafe { context(ctx) }.map_or(0, room::available)
}

/// Compacts if that may help, and returns how many bytes buflib_alloc gives then, as long as the move callbacks of blocks that are in
/// the way agree. No shrink callback is asked.
///
/// Returns 0 iff there is nothing, no handle is free and there is no word for one, a callback is running, or the pool is damaged and
/// the panic handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_allocatable(ctx: *mut buflib_context) -> size_t {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return 0 };
    or_report(ctx, room::allocatable(ctx), 0)
}

/// Compacts a part of the pool, for callers that cannot wait for all of it: moves blocks together as compaction does, and asks their
/// callbacks. Blocks keep their order: a hole before a block that stays remains. Returns the bytes that still lie in holes if a further
/// step may close one; 0 when no step can before the next buflib_alloc, buflib_free, buflib_shrink or buflib_unpin. A block whose
/// move_callback refused is asked again only after one of these.
///
/// A step moves at most `max_bytes` bytes, headers included; or one block, if the first is longer. At most max(64, `max_bytes` / 256) + 1
/// blocks move or are found to stay (pinned, without a move_callback, refused); it calls at most one move_callback and two
/// sync_callbacks for each. Each costs O(log n) in a pool of n words; nothing else depends on the number of blocks. So a step takes longer
/// only by the time of the callbacks, and of one block that is longer than `max_bytes`. A step may move nothing, if so many blocks stay.
///
/// Fails iff (0) a callback is running, or the pool is damaged and the panic handler returned. Blocks that were moved before the damage was
/// found remain moved.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_compact_step(ctx: *mut buflib_context, max_bytes: size_t) -> size_t {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return 0 };
    or_report(ctx, step::step(ctx, max_bytes), 0)
}

/// Writes sums over all blocks, and counters since buflib_init, to `*out`. Looks at every block.
///
/// Fails iff (false, `*out` is unchanged) `out` is NULL, a callback is running, or the pool is damaged and the panic handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; `out` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_get_stat(ctx: *mut buflib_context, out: *mut buflib_stat) -> bool {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return false };
    match or_report(ctx, room::stat(ctx), None) {
        Some(stat) if !out.is_null() => {
            // SAFETY: the caller's.
            unsafe { out.write(stat) };
            true
        }
        _ => false,
    }
}

/// Makes the pool `size` bytes long, rounded down to words, more or less than before, at the same place: counted from the first whole word
/// that buflib_init was given. The handle table moves to the new end. Compacts if that is necessary. Before a pool becomes longer the memory
/// behind it must be there; after it became shorter the rest is the caller's.
///
/// Fails iff (false, and the pool is as long as before) the blocks and handles in use do not fit, because of pins and locked blocks perhaps;
/// `size` is less than a word or beyond the end of the address space; the context has no pool; a callback is running; or the pool is
/// damaged and the panic handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; the bytes up to `size` are *pool memory* of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_resize(ctx: *mut buflib_context, size: size_t) -> bool {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return false };
    or_report(ctx, relocate::resize(ctx, size), false)
}

/// Bytes of a block's payload, up to the end of the block: the size asked for, rounded up to words.
///
/// Fails iff (0) the handle is bad, or the pool is damaged and the panic handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_get_size(ctx: *mut buflib_context, handle: c_int) -> size_t {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return 0 };
    or_report(ctx, room::size(ctx, handle), None).unwrap_or(0)
}

/// The next handle in use after `handle`, which need not be in use; 0 or less: the first. Returns 0 at the end.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_next(ctx: *mut buflib_context, handle: c_int) -> c_int {
    // SAFETY: the caller's.
    unsafe { context(ctx) }.map_or(0, |ctx| handles::next(ctx, handle))
}

/// Prepares the pool for being copied to `buf`: all its pointers are changed to that place, and the pool may not be used before its
/// bytes lie there, the first whole word at `buf`. No callback runs.
///
/// Fails iff (false, and nothing has changed) `buf` is NULL, or not as aligned as a word and, relative to where the pool is, as each
/// aligned block; a block is pinned; memory is out (buflib_buffer_out); a callback is running; or the pool is damaged and the panic
/// handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; the bytes at `buf` become its *pool memory*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_context_relocate(ctx: *mut buflib_context, buf: *mut c_void) -> bool {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return false };
    or_report(ctx, relocate::relocate(ctx, buf.cast()), false)
}

/// Takes memory away from the free end of the pool, compacting it first if that may help: all blocks move up without being asked, and
/// the start of the pool, which is returned, is the caller's until buflib_buffer_in. `*size` is how many bytes are wanted, 0 for all;
/// then how many they are, rounded up to words, and up to the largest alignment of a block. They are fewer, even 0, if fewer are free.
///
/// Fails iff (NULL, `*size` becomes 0, and nothing has changed) the context has no pool, a block is pinned, a callback is running, `size`
/// is NULL, or the pool is damaged and the panic handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; `size` is NULL or may be read and written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_buffer_out(ctx: *mut buflib_context, size: *mut size_t) -> *mut c_void {
    // SAFETY: the caller's.
    let (Some(ctx), Some(size)) = (unsafe { (context(ctx), size.as_mut()) }) else { return ptr::null_mut() };
    let (start, given) = or_report(ctx, relocate::buffer_out(ctx, *size), None).unwrap_or((ptr::null_mut(), 0));
    *size = given;
    start.cast()
}

/// Brings back `size` bytes of those taken out last, without a rest that does not make a word or a multiple of the largest alignment of a
/// block:
/// all blocks move down without being asked.
///
/// Fails iff (nothing has changed) a block is pinned, a callback is running, `size` is negative or more than is out, or the pool is
/// damaged and the panic handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; no other thread uses the bytes that are given back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_buffer_in(ctx: *mut buflib_context, size: c_int) {
    // SAFETY: the caller's.
    if let (Some(ctx), Ok(size)) = (unsafe { context(ctx) }, usize::try_from(size)) {
        or_report(ctx, relocate::buffer_in(ctx, size), ());
    }
}

/// The name of a block, in the block itself: it moves with it. NULL iff the block has none, the handle is bad, or the pool is damaged
/// and the panic handler returned.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_get_name(ctx: *mut buflib_context, handle: c_int) -> *const c_char {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return ptr::null() };
    or_report(ctx, block::name(ctx, handle), ptr::null()).cast()
}

/// Keeps a block where it is, also from compaction, until as many buflib_unpin. Its shrink callback is still asked. The pins end with
/// the block.
///
/// Fails iff (nothing has changed) a callback is running; or, which calls the panic handler, the handle is bad, the block has 2^32 - 1
/// pins (4095 on 32-bit), or the pool is damaged.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_pin(ctx: *mut buflib_context, handle: c_int) {
    // SAFETY: the caller's.
    if let Some(ctx) = unsafe { context(ctx) } {
        pin(ctx, handle);
    }
}

/// Takes back one pin.
///
/// Fails iff (nothing has changed) a callback is running; or, which calls the panic handler, the handle is bad, the block has no pin, or
/// the pool is damaged.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_unpin(ctx: *mut buflib_context, handle: c_int) {
    // SAFETY: the caller's.
    if let Some(ctx) = unsafe { context(ctx) } {
        unpin(ctx, handle);
    }
}

/// How many pins a block has; 0 if the handle is bad.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_pin_count(ctx: *mut buflib_context, handle: c_int) -> c_uint {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return 0 };
    or_report(ctx, handles::pin_count(ctx, handle), 0) as c_uint
}

/// Pins a block and returns its data, which stays there until buflib_put_data_pinned.
///
/// Fails iff (NULL) buflib_pin does. A bad handle does not call the panic handler here.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_get_data_pinned(ctx: *mut buflib_context, handle: c_int) -> *mut c_void {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return ptr::null_mut() };
    let data = handles::data(ctx, handle);
    if data.is_null() || !pin(ctx, handle) { ptr::null_mut() } else { data.cast() }
}

/// Takes back the pin of buflib_get_data_pinned. `data` is the pointer that it returned or, when buflib_shrink has cut the front of the
/// block since, the one that buflib_get_data returns now; anything else is ignored. A shrink callback may be asked while the block is pinned: one that
/// cuts fronts is better served by buflib_unpin.
///
/// Fails iff buflib_unpin does.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_put_data_pinned(ctx: *mut buflib_context, data: *mut c_void) {
    // SAFETY: the caller's.
    if let Some(ctx) = unsafe { context(ctx) } {
        let handle = handles::handle_at(ctx, data.addr());
        if handle > 0 {
            unpin(ctx, handle);
        }
    }
}

/// Visits the blocks with their numbers, unless a callback is running.
fn visit(ctx: &buflib_context, mut f: impl FnMut(usize, usize, Any) -> bool) {
    let mut number = 0;
    if ctx.busy.get() == IDLE {
        let walked = block::walk(ctx, |start, block| {
            number += 1;
            f(number - 1, start, block)
        });
        or_report(ctx, walked, ());
    }
}

/// How many blocks there are, free ones too. 0 also iff a callback is running.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_get_num_blocks(ctx: *mut buflib_context) -> c_int {
    let mut count = 0;
    // SAFETY: the caller's.
    if let Some(ctx) = unsafe { context(ctx) } {
        visit(ctx, |number, _, _| {
            count = number as c_int + 1;
            true
        });
    }
    count
}

const ANONYMOUS: &[u8] = b"<anonymous>";

/// The name of the block at `start`, without its NUL.
fn push_name(ctx: &buflib_context, text: &mut Text<'_>, block: &block::Block) {
    if block.name_words() == 0 {
        text.push(ANONYMOUS);
    } else {
        ctx.pool().with_bytes(block.start + NAME, block.name_words(), |bytes| {
            text.push(bytes.split(|&byte| byte == 0).next().unwrap_or(bytes));
        });
    }
}

fn describe(ctx: &buflib_context, text: &mut Text<'_>, start: usize, block: Any) {
    let address = format_hex(ctx.pool().address(start));
    let length = match block {
        Any::Used(block) => block.len as isize,
        Any::Free(len) => -(len as isize),
    };
    let _infallible = write!(text, "{address:>8}: val: {length:4} (");
    match block {
        Any::Used(block) => push_name(ctx, text, &block),
        Any::Free(_) => text.push(b"<unallocated>"),
    }
    text.push(b")");
}

/// An address as C's %p shows it.
fn format_hex(address: usize) -> impl fmt::Display {
    struct Hex(usize);
    impl fmt::Display for Hex {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut buffer = [0u8; 2 + 16];
            let mut at = buffer.len();
            let mut rest = self.0;
            loop {
                at -= 1;
                buffer[at] = b"0123456789abcdef"[rest % 16];
                rest /= 16;
                if rest == 0 {
                    break;
                }
            }
            buffer[at - 2..at].copy_from_slice(b"0x");
            f.pad(core::str::from_utf8(&buffer[at - 2..]).unwrap_or(""))
        }
    }
    Hex(address)
}

/// Writes a line about the block of that number, from 0, into `buf`, cut to `bufsize` with its NUL: `ADDRESS: val: LENGTH (NAME)`.
/// LENGTH is in words, NAME `<unallocated>` for a free block, whose length is negative, and `<anonymous>` for one without a name. The
/// line is empty iff there is no such block or a callback is running.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; `bufsize` bytes at `buf` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_print_block_at(
    ctx: *mut buflib_context,
    block_num: c_int,
    buf: *mut c_char,
    bufsize: size_t,
) {
    if buf.is_null() {
        return;
    }
    // SAFETY: the caller's.
    let to = unsafe { core::slice::from_raw_parts_mut(buf.cast::<MaybeUninit<u8>>(), bufsize) };
    let mut text = Text::new(to);
    // SAFETY: the caller's.
    if let (Some(ctx), Ok(wanted)) = (unsafe { context(ctx) }, usize::try_from(block_num)) {
        visit(ctx, |number, start, block| {
            if number == wanted {
                describe(ctx, &mut text, start, block);
            }
            number < wanted
        });
    }
}

/// Calls `print` for each block in its order, with its number from 0 and the text of buflib_print_block_at. `print` must not use the
/// context.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; `print` is NULL or may be called, and does not use the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_print_blocks(
    ctx: *mut buflib_context,
    print: Option<unsafe extern "C" fn(c_int, *const c_char)>,
) {
    // SAFETY: the caller's.
    let (Some(ctx), Some(print)) = (unsafe { context(ctx) }, print) else { return };
    visit(ctx, |number, start, block| {
        let mut buffer = BLANK;
        let mut text = Text::new(&mut buffer);
        describe(ctx, &mut text, start, block);
        // SAFETY: the caller's; the text is a C string.
        unsafe { print(number as c_int, text.as_ptr()) };
        true
    });
}

/// Calls `print` for each live handle in its order, with the handle less 1 and the name, the handle, the addresses of the block and
/// its payload, and the bytes of the whole block. `print` must not use the context.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; `print` is NULL or may be called, and does not use the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_print_allocs(
    ctx: *mut buflib_context,
    print: Option<unsafe extern "C" fn(c_int, *const c_char)>,
) {
    // SAFETY: the caller's.
    let (Some(ctx), Some(print)) = (unsafe { context(ctx) }, print) else { return };
    if ctx.busy.get() != IDLE {
        return;
    }
    let pool = ctx.pool();
    for handle in 1..=ctx.handles() as c_int {
        let Some(block) = or_report(ctx, block::block_of(ctx, pool, handle), None) else { continue };
        let mut buffer = BLANK;
        let mut text = Text::new(&mut buffer);
        push_name(ctx, &mut text, &block);
        let (start, data) = (format_hex(pool.address(block.start)), format_hex(block.address));
        let bytes = block.len * size_of::<usize>();
        let _infallible = write!(text, "({handle}):\t{start}\n   \t{data}\n   \t{bytes}\n");
        // SAFETY: the caller's; the text is a C string.
        unsafe { print(handle - 1, text.as_ptr()) };
    }
}

/// Checks every header, and calls the panic handler for the first that is damaged.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_check_valid(ctx: *mut buflib_context) {
    // SAFETY: the caller's.
    if let Some(ctx) = unsafe { context(ctx) }.filter(|ctx| ctx.busy.get() == IDLE) {
        or_report(ctx, block::check_headers(ctx), None);
    }
}

/// Looks at every block, handle and link of the pool, and calls `report`, unless it is NULL, for each damage, with `user`, the address
/// and a text that is valid during the call; it must not use the context. Never calls the panic handler. True iff all is sound; false also in a callback, where the
/// pool can't be looked at.
///
/// # Safety
/// `ctx` is NULL or an *initialized context*; `report` is NULL or may be called with `user`, and does not use the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_check(ctx: *mut buflib_context, report: buflib_report_fn, user: *mut c_void) -> bool {
    // SAFETY: the caller's.
    let Some(ctx) = (unsafe { context(ctx) }) else { return false };
    ctx.busy.get() == IDLE
        && verify::check(ctx, |fault| {
            if let Some(report) = report {
                let mut buffer = BLANK;
                let mut text = Text::new(&mut buffer);
                let _infallible = write!(text, "{fault}");
                let block = ctx.pool().pointer(fault.at).cast_const().cast();
                // SAFETY: the caller's; the text is a C string.
                unsafe { report(user, block, text.as_ptr()) }
            }
        })
}

/// Lets `handler` be called when a pool turns out to be damaged, or, with DEBUG, a handle to be bad. NULL, as at the start: the message
/// goes to stderr, and the program ends by abort(). If the handler returns, the call it came from fails and has changed nothing; it may
/// leave by longjmp as well, unless that call was made in a callback. One handler serves all pools and threads.
///
/// # Safety
/// `handler` is NULL or may be called at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn buflib_set_panic_handler(handler: buflib_panic_fn) {
    PANIC_HANDLER.store(handler.map_or(ptr::null_mut(), |handler| handler as *mut c_void), Ordering::Release);
}
