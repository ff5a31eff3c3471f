// SPDX-License-Identifier: MIT OR Apache-2.0
//! The callbacks of a program, and the calls of them. The context is `busy` while one runs.

use super::block::{Block, Result, check_crc};
use super::layout::*;
use core::ffi::{c_int, c_void};
use core::num::NonZeroI32;
use core::{fmt, ptr};

/// Names a block. It stays the same when the block moves; after the block is freed, the handle is given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(NonZeroI32);

impl Handle {
    pub(super) fn of(number: usize) -> Handle {
        // The table gives out 1 ..= i32::MAX.
        Handle(NonZeroI32::new(number as i32).unwrap_or(NonZeroI32::MIN))
    }

    /// The number of the handle: 1 for the first one.
    pub fn get(self) -> i32 {
        self.0.get()
    }
}

type MoveHook<'c> = dyn Fn(Handle, *const u8, *const u8) -> bool + 'c;
type ShrinkHook<'c> = dyn Fn(&mut Shrink<'_>) -> bool + 'c;
type SyncHook<'c> = dyn Fn(Handle, bool) + 'c;

/// The functions that the allocator calls before it moves or shrinks a block. A block that is allocated without hooks moves freely.
///
/// Hooks can't use the pool that calls them, except through a [`Shrink`].
#[derive(Clone, Copy, Default)]
pub struct Hooks<'c> {
    moves: Option<&'c MoveHook<'c>>,
    shrinks: Option<&'c ShrinkHook<'c>>,
    syncs: Option<&'c SyncHook<'c>>,
}

impl<'c> Hooks<'c> {
    /// A block that neither moves nor shrinks.
    pub const fn locked() -> Self {
        Hooks { moves: None, shrinks: None, syncs: None }
    }

    /// A block that moves freely.
    pub const fn movable() -> Self {
        Hooks { moves: Some(&|_, _, _| true), ..Self::locked() }
    }

    /// Asks `hook` before each move, with the addresses of the payload before and after. The block stays if it says false.
    pub const fn on_move(self, hook: &'c MoveHook<'c>) -> Self {
        Hooks { moves: Some(hook), ..self }
    }

    /// Asks `hook` to give memory back when there is not enough. It returns true if it did.
    pub const fn on_shrink(self, hook: &'c ShrinkHook<'c>) -> Self {
        Hooks { shrinks: Some(hook), ..self }
    }

    /// Calls `hook` before (true) and after (false) each move that is tried.
    pub const fn on_sync(self, hook: &'c SyncHook<'c>) -> Self {
        Hooks { syncs: Some(hook), ..self }
    }
}

impl fmt::Debug for Hooks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("movable", &self.moves.is_some())
            .field("shrinkable", &self.shrinks.is_some())
            .finish()
    }
}

/// The block that a shrink hook is asked to make smaller.
#[derive(Debug)]
pub struct Shrink<'a> {
    pub(super) ctx: &'a Context,
    pub(super) handle: Handle,
    pub(super) hints: u32,
}

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
            Ops::Rust(hooks) => hooks
                .shrinks
                .is_some_and(|shrinks| shrinks(&mut Shrink { ctx, handle: Handle::of(block.handle), hints })),
            _ => false,
        })
    }
}
