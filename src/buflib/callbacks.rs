// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls a program's callbacks. The context is `busy` while one runs.

use super::block::{Block, Result, check_crc};
use super::layout::*;
use super::{Handle, Hooks};
use core::ffi::{c_int, c_void};
use core::ptr;

/// The callbacks of a block.
#[derive(Clone, Copy)]
pub(crate) enum Ops<'a> {
    None,
    C(&'a Callbacks),
    User(&'a UserCallbacks),
    Rust(&'a Hooks<'a>),
}

/// The callbacks that a block's ops word refers to. Checks the header once more, because another block's callback may have run since.
#[inline]
pub(crate) fn ops<'a>(ctx: &'a Context, block: &Block) -> Result<Ops<'a>> {
    let address = block.ops(ctx.pool());
    if address == 0 {
        return Ok(Ops::None);
    }
    check_crc(ctx.pool(), block)?;
    Ok(if ctx.closures.get() {
        // SAFETY: the crc matches, so the word is as it was written; a pool of `Buflib<'pool>` holds addresses of Hooks that live for 'pool.
        Ops::Rust(unsafe { &*ptr::with_exposed_provenance(address) })
    } else if address & USER_OPS != 0 {
        // SAFETY: the crc matches, so the word is as it was written; the caller of the allocation promised *callbacks* that outlive the block.
        Ops::User(unsafe { &*ptr::with_exposed_provenance(address - USER_OPS) })
    } else {
        // SAFETY: the crc matches, so the word is as it was written; the caller of the allocation promised *callbacks* that outlive the block.
        Ops::C(unsafe { &*ptr::with_exposed_provenance(address) })
    })
}

/// Sets `busy` while a callback runs.
fn during<T>(ctx: &Context, busy: usize, call: impl FnOnce() -> T) -> T {
    let before = ctx.busy.replace(busy);
    let result = call();
    ctx.busy.set(before);
    result
}

/// The context as C has it. All its fields are cells.
fn context(ctx: &Context) -> *mut Context {
    ptr::from_ref(ctx).cast_mut()
}

impl Ops<'_> {
    pub fn movable(self) -> bool {
        match self {
            Ops::None => true,
            Ops::C(callbacks) => callbacks.move_callback.is_some(),
            Ops::User(callbacks) => callbacks.move_callback.is_some(),
            Ops::Rust(hooks) => hooks.moves.is_some(),
        }
    }

    pub fn shrinkable(self) -> bool {
        match self {
            Ops::None => false,
            Ops::C(callbacks) => callbacks.shrink_callback.is_some(),
            Ops::User(callbacks) => callbacks.shrink_callback.is_some(),
            Ops::Rust(hooks) => hooks.shrinks.is_some(),
        }
    }

    /// Asks whether the block may move to where its payload is at `to`.
    pub fn agrees(self, ctx: &Context, block: &Block, to: usize) -> bool {
        let pool = ctx.pool();
        let (handle, from, to) = (block.handle as c_int, pool.pointer(block.address), pool.pointer(to));
        during(ctx, MOVING, || match self {
            Ops::C(Callbacks { move_callback: Some(move_callback), .. }) => {
                // SAFETY: a callback gets its handle and two addresses in the pool.
                unsafe { move_callback(handle, from.cast::<c_void>(), to.cast()) != 1 }
            }
            Ops::User(&UserCallbacks { move_callback: Some(move_callback), user, .. }) => {
                // SAFETY: as above, and its context and pointer.
                unsafe { move_callback(context(ctx), handle, from.cast(), to.cast(), user) != 1 }
            }
            Ops::Rust(hooks) => hooks.moves.is_none_or(|moves| moves(Handle::of(block.handle), from, to)),
            _ => true,
        })
    }

    pub fn sync(self, ctx: &Context, block: &Block, on: bool) {
        let handle = block.handle as c_int;
        during(ctx, MOVING, || match self {
            Ops::C(Callbacks { sync_callback: Some(sync_callback), .. }) => {
                // SAFETY: a callback gets its handle.
                unsafe { sync_callback(handle, on) }
            }
            Ops::User(&UserCallbacks { sync_callback: Some(sync_callback), user, .. }) => {
                // SAFETY: as above, and its context and pointer.
                unsafe { sync_callback(context(ctx), handle, on, user) }
            }
            Ops::Rust(hooks) => {
                if let Some(sync) = hooks.syncs {
                    sync(Handle::of(block.handle), on);
                }
            }
            _ => {}
        });
    }

    /// Asks the block to give memory back. Returns whether its callback returned OK.
    pub fn shrink(self, ctx: &Context, block: &Block, hints: u32) -> bool {
        let handle = block.handle as c_int;
        during(ctx, SHRINKING, || match self {
            Ops::C(Callbacks { shrink_callback: Some(shrink_callback), .. }) => {
                let start = ctx.pool().pointer(block.address).cast();
                // SAFETY: a callback gets its handle, and the start and size of its payload.
                unsafe { shrink_callback(handle, hints, start, block.payload_bytes()) == 0 }
            }
            Ops::User(&UserCallbacks { shrink_callback: Some(shrink_callback), user, .. }) => {
                let start = ctx.pool().pointer(block.address).cast();
                // SAFETY: as above, and its context and pointer.
                unsafe { shrink_callback(context(ctx), handle, hints, start, block.payload_bytes(), user) == 0 }
            }
            Ops::Rust(hooks) => hooks.shrinks.is_some_and(|shrinks| super::ask(ctx, handle, hints, shrinks)),
            _ => false,
        })
    }
}
