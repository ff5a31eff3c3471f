// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of the library that are tried, and stand-ins for what they use.

#[path = "../../../src/palloc/caches.rs"]
#[allow(dead_code)]
pub mod caches;
#[path = "../../../src/palloc/format.rs"]
#[allow(dead_code)]
pub mod format;
#[path = "../../../src/palloc/live/epochs.rs"]
#[allow(dead_code)]
pub mod epochs;
#[path = "../../../src/palloc/block_index/stack.rs"]
#[allow(dead_code)]
mod stack;

pub mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

    pub const CACHES: usize = 2;

    pub fn wait(_: u32) {
        loom::thread::yield_now();
    }

    loom::thread_local! {
        static CACHE: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    pub fn own_cache() -> usize {
        CACHE.with(std::cell::Cell::get)
    }

    pub fn set_own_cache(number: usize) {
        CACHE.with(|place| place.set(number));
    }
}

pub mod sabotage {
    pub use crate::is_left_out as is_broken;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Rule {
        // Of epochs.rs.
        PinFence,
        PinRecheck,
        EpochBeforeScan,
        ReclaimFence,
        // Of those who use it.
        HeldEpoch,
        UnlinkFirst,
        ClearUnderLock,
        // Of caches.rs.
        OneFrees,
        ClosedIsClosed,
        OpenFirst,
    }

    pub fn between_accesses() {}
}

pub mod block_index {
    pub use super::stack::Stack;

    pub const CLASSES: usize = 2;

    pub fn class_of(data_len: u64) -> Option<usize> {
        [16, 32].iter().position(|&exact| exact == data_len)
    }

    pub fn data_len_of_class(class: usize) -> u64 {
        [16, 32][class]
    }
}
