// SPDX-License-Identifier: MIT OR Apache-2.0
//! Atomics, and what else of threads the protocols of caches.rs and live/epochs.rs use. A model checker puts its own in their place (models/).

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

pub use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// The number of caches of a medium. If more threads use it, some share a cache.
pub const CACHES: usize = 16;
/// So often a thread that waits for the lock of a cache gives others the processor before it sleeps.
const YIELDS: u32 = 100;

/// Waits for another thread, after so many tries.
pub fn wait(tries: u32) {
    if tries <= YIELDS {
        thread::yield_now();
    } else {
        thread::sleep(Duration::from_micros(100)); // the other may have a lower priority
    }
}

thread_local! {
    /// From 1 on; 0: the thread has none yet.
    static CACHE: Cell<usize> = const { Cell::new(0) };
}

/// The number of this thread's cache.
#[inline]
pub fn own_cache() -> usize {
    match CACHE.get() {
        0 => new_number(),
        number => number - 1,
    }
}

pub fn set_own_cache(number: usize) {
    CACHE.set(number + 1);
}

#[cold]
fn new_number() -> usize {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed) % CACHES;
    set_own_cache(number);
    number
}
