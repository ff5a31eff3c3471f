// SPDX-License-Identifier: MIT OR Apache-2.0
//! rlsf and talc for benches/buflib.c, as the functions of `struct pool_peer` there. An allocator's state lies at `state`, STATE_BYTES
//! of it; `size` is what a block was allocated with. Addresses are those of words, as buflib's.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{NonNull, null_mut};

use rlsf::Tlsf;
use talc::TalcCell;
use talc::source::Manual;

const ALIGN: usize = align_of::<usize>();

/// 16 classes for each power of two, up to 512 MiB.
type Rlsf = Tlsf<'static, u32, u16, 24, 16>;
type Talc = TalcCell<Manual>;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("no size is that large")
}

#[unsafe(no_mangle)]
pub static rlsf_state_bytes: usize = size_of::<Rlsf>();
#[unsafe(no_mangle)]
pub static talc_state_bytes: usize = size_of::<Talc>();

/// # Safety
/// `state` is room for a state, and `size` bytes from `memory` are given to it for good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rlsf_init(state: *mut Rlsf, memory: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        state.write(Tlsf::new());
        let memory = NonNull::new(memory).expect("memory is not NULL");
        (*state).insert_free_block_ptr(NonNull::slice_from_raw_parts(memory, size));
    }
}

/// # Safety
/// `state` was made by `rlsf_init`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rlsf_alloc(state: *mut Rlsf, size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { (*state).allocate(layout(size)).map_or(null_mut(), NonNull::as_ptr) }
}

/// # Safety
/// `block` is a block of `state`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rlsf_free(state: *mut Rlsf, block: *mut u8, _size: usize) {
    // SAFETY: the caller's promise.
    unsafe { (*state).deallocate(NonNull::new_unchecked(block), ALIGN) }
}

/// # Safety
/// `block` is a block of `state`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rlsf_shrink(state: *mut Rlsf, block: *mut u8, _size: usize, new_size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { (*state).reallocate(NonNull::new_unchecked(block), layout(new_size)).map_or(null_mut(), NonNull::as_ptr) }
}

/// # Safety
/// `state` is room for a state, and `size` bytes from `memory` are given to it for good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn talc_init(state: *mut Talc, memory: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        state.write(TalcCell::new(Manual));
        (*state).claim(memory, size).expect("the memory is large enough");
    }
}

/// # Safety
/// `state` was made by `talc_init`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn talc_alloc(state: *mut Talc, size: usize) -> *mut u8 {
    // SAFETY: the caller's promise; no size is 0.
    unsafe { (*state).alloc(layout(size)) }
}

/// # Safety
/// `block` is a block of `state` with `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn talc_free(state: *mut Talc, block: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { (*state).dealloc(block, layout(size)) }
}

/// # Safety
/// `block` is a block of `state` with `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn talc_shrink(state: *mut Talc, block: *mut u8, size: usize, new_size: usize) -> *mut u8 {
    // SAFETY: the caller's promise; no size is 0.
    unsafe { (*state).realloc(block, layout(size), new_size) }
}
