// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rockbox/core_alloc.h`: the functions of the later generation's core_alloc that differ from those of `core_alloc.h`.
#![allow(non_camel_case_types)]

use core::ffi::{c_char, c_int, c_void};

use super::buflib::{buflib_get_data_pinned, buflib_put_data_pinned};
use super::core_alloc::{core_alloc, core_alloc_ex, core_alloc_maximum, ctx};
use super::rockbox_buflib::rockbox_buflib_print_block_at;
use crate::buflib::layout::Callbacks as buflib_callbacks;

type size_t = usize;

/// buflib_alloc.
///
/// # Safety
/// As for buflib_alloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_core_alloc(size: size_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { core_alloc(core::ptr::null(), size) }
}

/// buflib_alloc_ex.
///
/// # Safety
/// As for buflib_alloc_ex.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_core_alloc_ex(size: size_t, ops: *mut buflib_callbacks) -> c_int {
    // SAFETY: the caller's.
    unsafe { core_alloc_ex(core::ptr::null(), size, ops) }
}

/// buflib_alloc_maximum.
///
/// # Safety
/// As for buflib_alloc_maximum.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_core_alloc_maximum(size: *mut size_t, ops: *mut buflib_callbacks) -> c_int {
    // SAFETY: the caller's.
    unsafe { core_alloc_maximum(core::ptr::null(), size, ops) }
}

/// buflib_get_data_pinned.
///
/// # Safety
/// As for buflib_get_data_pinned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_core_get_data_pinned(handle: c_int) -> *mut c_void {
    // SAFETY: the caller's.
    unsafe { buflib_get_data_pinned(ctx(), handle) }
}

/// buflib_put_data_pinned.
///
/// # Safety
/// As for buflib_put_data_pinned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_core_put_data_pinned(data: *mut c_void) {
    // SAFETY: the caller's.
    unsafe { buflib_put_data_pinned(ctx(), data) }
}

/// buflib_print_block_at.
///
/// # Safety
/// As for buflib_print_block_at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_core_print_block_at(block_num: c_int, buf: *mut c_char, bufsize: size_t) -> bool {
    // SAFETY: the caller's.
    unsafe { rockbox_buflib_print_block_at(ctx(), block_num, buf, bufsize) }
}
