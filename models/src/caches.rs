// SPDX-License-Identifier: MIT OR Apache-2.0
//! Caches of free blocks (src/palloc/caches.rs): no two threads get a block, of two that free one at once one does, and what is kept is
//! never taken for live. The heap is played by a thread that opens the caches, closes them, and takes what they kept.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::palloc::caches::Caches;
use crate::palloc::format::{Extent, Marker, Start};
use crate::palloc::sabotage::Rule;
use crate::palloc::sync::{AtomicBool, AtomicU64, Ordering, set_own_cache};
use crate::{is_found_by, model};

const LEN: u64 = 16;
/// Its class.
const CLASS: usize = 0;

/// A medium of blocks of LEN bytes, and the caches.
struct Medium {
    caches: Caches,
    words: [AtomicU64; 2],
    /// Whether the slot map says that the block is live. Stored to by the heap only.
    slots: [AtomicBool; 2],
    /// The bytes of the blobs: loom fails if two threads use them at once.
    bytes: [UnsafeCell<u64>; 2],
}

// SAFETY: loom checks each access of the bytes.
unsafe impl Sync for Medium {}
// SAFETY: as for Sync.
unsafe impl Send for Medium {}

fn block(i: usize) -> Extent {
    Extent { start: Start::at(8 + 32 * i as u64), data_len: LEN }
}

impl Medium {
    /// The first block is live, the second is kept. The caches are open.
    fn new() -> Arc<Medium> {
        let word = |marker: Marker| AtomicU64::new(marker.0.to_be());
        let medium = Medium {
            caches: Caches::closed(),
            words: [word(Marker::live(LEN)), word(Marker::free(LEN))],
            slots: [AtomicBool::new(true), AtomicBool::new(true)],
            bytes: [UnsafeCell::new(0), UnsafeCell::new(0)],
        };
        medium.caches.open(8);
        assert!(medium.caches.put(CLASS, block(1).start));
        Arc::new(medium)
    }

    fn index_of(start: Start) -> usize {
        (start.offset() / 32) as usize
    }

    fn alloc(&self) -> Option<usize> {
        let start = self.caches.alloc(CLASS, |start| Some(&self.words[Medium::index_of(start)]))?;
        Some(Medium::index_of(start))
    }

    fn free(&self, i: usize) -> bool {
        self.caches.free(block(i), &self.words[i])
    }

    /// The owner of the blob stores to it.
    fn fill(&self, i: usize) {
        // SAFETY: loom fails if another thread may access it at once.
        self.bytes[i].with_mut(|at| unsafe { *at += 1 });
    }

    /// As `close_caches` of the heap. It owns the blocks that are free then.
    fn close(&self) {
        self.caches.begin_close();
        while let Some(kept) = self.caches.take_any() {
            let i = Medium::index_of(kept.start);
            assert_eq!(u64::from_be(self.words[i].load(Ordering::Relaxed)), Marker::free(LEN).0);
            self.slots[i].store(false, Ordering::Relaxed);
            self.fill(i);
        }
        self.caches.end_close();
    }
}

/// A thread with this cache. The first thread has cache 0.
fn spawn(medium: &Arc<Medium>, cache: usize, f: impl FnOnce(&Medium) + 'static) -> thread::JoinHandle<()> {
    let medium = Arc::clone(medium);
    thread::spawn(move || {
        set_own_cache(cache);
        f(&medium);
    })
}

/// Two threads allocate, fill and free; a third closes the caches meanwhile.
fn two_threads_and_the_heap() {
    model(|| {
        let medium = Medium::new();
        let work = |medium: &Medium| {
            if let Some(i) = medium.alloc() {
                medium.fill(i);
                medium.free(i);
            }
        };
        let threads = [spawn(&medium, 0, work), spawn(&medium, 1, work)];
        medium.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(medium.caches.count(), 0, "blocks stay in caches that were closed");
    });
}

/// Two threads free a blob at once.
fn one_frees() {
    model(|| {
        let medium = Medium::new();
        let freed = spawn(&medium, 1, |medium| _ = medium.free(0));
        let own = medium.free(0);
        freed.join().unwrap();
        assert!(own || medium.caches.has(block(0)), "nobody did");
        assert_eq!(medium.caches.count(), 2, "the block is kept twice");
    });
}

/// A thread that was told that a blob was freed looks whether it is live: by the slot map if no block may be kept.
fn kept_is_not_live() {
    model(|| {
        let medium = Medium::new();
        medium.close();
        let is_freed = Arc::new(AtomicBool::new(false));
        let other = {
            let is_freed = Arc::clone(&is_freed);
            spawn(&medium, 1, move |medium| {
                if medium.free(0) {
                    is_freed.store(true, Ordering::Release);
                }
            })
        };
        let reader = spawn(&medium, 1, move |medium| {
            if is_freed.load(Ordering::Acquire) && !medium.caches.are_open() {
                assert!(!medium.slots[0].load(Ordering::Relaxed), "a blob that was freed is live");
            }
        });
        medium.caches.open(8);
        medium.close();
        other.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn no_two_threads_get_a_block() {
    two_threads_and_the_heap();
}

#[test]
fn of_two_threads_that_free_a_blob_one_does() {
    one_frees();
}

#[test]
fn a_kept_block_is_not_taken_for_live() {
    kept_is_not_live();
}

#[test]
fn a_rule_left_out_is_found() {
    assert!(is_found_by(Rule::OneFrees, "caches::of_two_threads_that_free_a_blob_one_does"));
    assert!(is_found_by(Rule::ClosedIsClosed, "caches::no_two_threads_get_a_block"));
    assert!(is_found_by(Rule::OpenFirst, "caches::a_kept_block_is_not_taken_for_live"));
}
