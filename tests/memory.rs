// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening a medium takes memory of at most a sixteenth of the file and a constant, whatever bytes it has, also while it is repaired.

#![cfg(unix)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use palloc::palloc::{Flags, Palloc, check};

/// The system's, with a count.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that was in use at a time during `work`, beyond what was before.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    work();
    MOST.load(Relaxed) - before
}

fn medium(len: usize, mut block: impl FnMut(usize) -> (u64, u64, u64)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    bytes.extend(b"PBA\0\0\0\0\x01");
    for i in 0.. {
        let (n, start, end) = block(i);
        if bytes.len() + n as usize + 16 > len {
            break;
        }
        bytes.extend((n | start).to_be_bytes());
        bytes.resize(bytes.len() + n as usize, 0);
        bytes.extend((n ^ end).to_be_bytes());
    }
    bytes
}

#[test]
fn opening_takes_a_sixteenth_of_the_file() {
    const FREE: u64 = 1 << 63;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("medium");
    for len in [1 << 12, 1 << 20, 8 << 20] {
        let media = [
            medium(len, |_| (16, 0, 0)),
            medium(len, |_| (16, FREE, FREE)),
            medium(len, |_| (16, FREE, 5)),
            medium(len, |i| (16, if i % 2 == 0 { FREE } else { 0 }, 7)),
            medium(len, |i| (if i % 9 == 0 { 24000 } else { 17 }, if i % 3 == 0 { FREE } else { 0 }, 7)),
            medium(len, |_| (32752, FREE, 7)),
        ];
        for (i, bytes) in media.iter().enumerate() {
            for flags in [Flags::READONLY, Flags::DEFAULT] {
                fs::write(&path, bytes).unwrap();
                let most = peak(|| drop(Palloc::open(&path, flags).unwrap()));
                assert!(most <= bytes.len() / 16 + (32 << 10), "medium {i} of {len}, {flags:?}: {most} bytes");
                assert!(i != 0 || len < 1 << 20 || most > bytes.len() / 100, "the count counts");
            }
            fs::write(&path, bytes).unwrap();
            let most = peak(|| drop(check(&path, |_, _| {})));
            assert!(most <= 32 << 10, "palloc_check of medium {i} of {len}: {most} bytes");
        }
    }
}
