// SPDX-License-Identifier: MIT OR Apache-2.0
//! `core_alloc.h`: buflib over one context for the whole program.
#![allow(non_camel_case_types)]

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_uint, c_void};
use core::sync::atomic::{AtomicI32, Ordering};

use super::buflib::*;
use crate::buflib::layout::{Callbacks as buflib_callbacks, Context as buflib_context};
use crate::buflib::room::Stat as buflib_stat;

type size_t = usize;

/// The context of all functions of this header.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut core_ctx: buflib_context = buflib_context::new();

/// Bytes of the pool of core_allocator_init.
pub const CORE_ALLOC_POOL_SIZE: usize = 7_602_176;

#[repr(align(64))]
struct StaticPool(UnsafeCell<[u8; CORE_ALLOC_POOL_SIZE]>);

// SAFETY: only core_ctx refers to the bytes, and its functions are called by one thread at a time.
unsafe impl Sync for StaticPool {}

static POOL: StaticPool = StaticPool(UnsafeCell::new([0; CORE_ALLOC_POOL_SIZE]));

/// The test allocation, 0 when it is gone.
static TEST: AtomicI32 = AtomicI32::new(0);

pub(crate) fn ctx() -> *mut buflib_context {
    &raw mut core_ctx
}

/// core_allocator_init_pool with a static pool of CORE_ALLOC_POOL_SIZE bytes, 7424 KiB, which costs no memory before it is used, but
/// counts for RLIMIT_AS and RLIMIT_DATA. In a file that defines MEMORYSIZE it has MEMORYSIZE * 1024 - 768 KiB: see below.
///
/// # Safety
/// No block of core_ctx is in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_allocator_init() {
    // SAFETY: the static pool is for core_ctx alone.
    unsafe { core_allocator_init_pool(POOL.0.get().cast(), CORE_ALLOC_POOL_SIZE) }
}

/// Makes the `size` bytes at `buf` the pool, as buflib_init does, and allocates 112 bytes with the name "test": handle 1.
///
/// # Safety
/// As for buflib_init; no block of core_ctx is in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_allocator_init_pool(buf: *mut c_void, size: size_t) {
    // SAFETY: the caller's.
    unsafe { buflib_init(ctx(), buf, size) };
    // SAFETY: core_ctx has just been initialized.
    let handle = unsafe { core_alloc(c"test".as_ptr(), 112) };
    TEST.store(handle.max(0), Ordering::Relaxed);
}

/// Frees the allocation "test". False iff that has been done, or was never made.
///
/// # Safety
/// As for buflib_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_test_free() -> bool {
    let handle = TEST.swap(0, Ordering::Relaxed);
    // SAFETY: the caller's.
    handle > 0 && unsafe { core_free(handle) } == 0
}

/// buflib_alloc_ex without callbacks. Note that the name comes first.
///
/// # Safety
/// As for buflib_alloc_ex.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_alloc(name: *const c_char, size: size_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { buflib_alloc_ex(ctx(), size, name, core::ptr::null_mut()) }
}

/// buflib_alloc_ex.
///
/// # Safety
/// As for buflib_alloc_ex.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_alloc_ex(name: *const c_char, size: size_t, ops: *mut buflib_callbacks) -> c_int {
    // SAFETY: the caller's.
    unsafe { buflib_alloc_ex(ctx(), size, name, ops) }
}

/// buflib_alloc_maximum.
///
/// # Safety
/// As for buflib_alloc_maximum.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_alloc_maximum(
    name: *const c_char,
    size: *mut size_t,
    ops: *mut buflib_callbacks,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { buflib_alloc_maximum(ctx(), name, size, ops) }
}

/// buflib_free.
///
/// # Safety
/// As for buflib_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_free(handle: c_int) -> c_int {
    // SAFETY: the caller's.
    unsafe { buflib_free(ctx(), handle) }
}

/// buflib_shrink.
///
/// # Safety
/// As for buflib_shrink.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_shrink(handle: c_int, new_start: *mut c_void, new_size: size_t) -> bool {
    // SAFETY: the caller's.
    unsafe { buflib_shrink(ctx(), handle, new_start, new_size) }
}

/// buflib_available.
///
/// # Safety
/// As for buflib_available.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_available() -> size_t {
    // SAFETY: the caller's.
    unsafe { buflib_available(ctx()) }
}

/// buflib_allocatable.
///
/// # Safety
/// As for buflib_allocatable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_allocatable() -> size_t {
    // SAFETY: the caller's.
    unsafe { buflib_allocatable(ctx()) }
}

/// buflib_compact_step.
///
/// # Safety
/// As for buflib_compact_step.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_compact_step(max_bytes: size_t) -> size_t {
    // SAFETY: the caller's.
    unsafe { buflib_compact_step(ctx(), max_bytes) }
}

/// buflib_get_stat.
///
/// # Safety
/// As for buflib_get_stat.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_get_stat(out: *mut buflib_stat) -> bool {
    // SAFETY: the caller's.
    unsafe { buflib_get_stat(ctx(), out) }
}

/// buflib_resize.
///
/// # Safety
/// As for buflib_resize.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_resize(size: size_t) -> bool {
    // SAFETY: the caller's.
    unsafe { buflib_resize(ctx(), size) }
}

/// buflib_get_size.
///
/// # Safety
/// As for buflib_get_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_get_size(handle: c_int) -> size_t {
    // SAFETY: the caller's.
    unsafe { buflib_get_size(ctx(), handle) }
}

/// buflib_next.
///
/// # Safety
/// As for buflib_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_next(handle: c_int) -> c_int {
    // SAFETY: the caller's.
    unsafe { buflib_next(ctx(), handle) }
}

/// buflib_get_name, but returns `<anonymous>` instead of NULL.
///
/// # Safety
/// As for buflib_get_name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_get_name(handle: c_int) -> *const c_char {
    // SAFETY: the caller's.
    let name = unsafe { buflib_get_name(ctx(), handle) };
    if name.is_null() { c"<anonymous>".as_ptr() } else { name }
}

/// buflib_pin.
///
/// # Safety
/// As for buflib_pin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_pin(handle: c_int) {
    // SAFETY: the caller's.
    unsafe { buflib_pin(ctx(), handle) }
}

/// buflib_unpin.
///
/// # Safety
/// As for buflib_unpin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_unpin(handle: c_int) {
    // SAFETY: the caller's.
    unsafe { buflib_unpin(ctx(), handle) }
}

/// buflib_pin_count.
///
/// # Safety
/// As for buflib_pin_count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_pin_count(handle: c_int) -> c_uint {
    // SAFETY: the caller's.
    unsafe { buflib_pin_count(ctx(), handle) }
}

/// buflib_get_num_blocks.
///
/// # Safety
/// As for buflib_get_num_blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_get_num_blocks() -> c_int {
    // SAFETY: the caller's.
    unsafe { buflib_get_num_blocks(ctx()) }
}

/// buflib_print_block_at.
///
/// # Safety
/// As for buflib_print_block_at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_print_block_at(block_num: c_int, buf: *mut c_char, bufsize: size_t) {
    // SAFETY: the caller's.
    unsafe { buflib_print_block_at(ctx(), block_num, buf, bufsize) }
}

/// buflib_check_valid.
///
/// # Safety
/// As for buflib_check_valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn core_check_valid() {
    // SAFETY: the caller's.
    unsafe { buflib_check_valid(ctx()) }
}
