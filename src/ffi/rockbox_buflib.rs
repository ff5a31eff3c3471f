// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rockbox/buflib.h`: the functions of buflib's later generation that have other parameters than those of `buflib.h`.
#![allow(non_camel_case_types)]

use core::ffi::{c_char, c_int};
use core::ptr;

use super::buflib::{buflib_alloc_ex, buflib_alloc_maximum, buflib_get_num_blocks, buflib_print_block_at};
use crate::buflib::layout::{Callbacks as buflib_callbacks, Context as buflib_context};

type size_t = usize;

/// buflib_alloc_ex of buflib.h without a name.
///
/// # Safety
/// As for buflib_alloc_ex.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_buflib_alloc_ex(
    ctx: *mut buflib_context,
    size: size_t,
    ops: *mut buflib_callbacks,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { buflib_alloc_ex(ctx, size, ptr::null(), ops) }
}

/// buflib_alloc_maximum of buflib.h without a name.
///
/// # Safety
/// As for buflib_alloc_maximum.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_buflib_alloc_maximum(
    ctx: *mut buflib_context,
    size: *mut size_t,
    ops: *mut buflib_callbacks,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { buflib_alloc_maximum(ctx, ptr::null(), size, ops) }
}

/// buflib_print_block_at of buflib.h. False iff the line is empty: there is no such block, or a callback is running.
///
/// # Safety
/// As for buflib_print_block_at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_buflib_print_block_at(
    ctx: *mut buflib_context,
    block_num: c_int,
    buf: *mut c_char,
    bufsize: size_t,
) -> bool {
    // SAFETY: the caller's.
    unsafe {
        buflib_print_block_at(ctx, block_num, buf, bufsize);
        block_num >= 0 && block_num < buflib_get_num_blocks(ctx)
    }
}
