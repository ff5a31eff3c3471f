// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slots of readers (src/palloc/live/epochs.rs): a block is not reused while a reader may read it.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::palloc::epochs;
use crate::palloc::sync::{AtomicU64, Ordering};
use crate::{Rule, is_found, is_left_out, model};

/// Two blocks, one of which the root leads to. What a real medium has in a file, and in FILE.live.
struct Medium {
    epoch: AtomicU64,
    slots: [AtomicU64; 2],
    root: AtomicU64,
    blocks: [UnsafeCell<u64>; 2],
}

// SAFETY: loom checks each access of the blocks.
unsafe impl Sync for Medium {}
// SAFETY: as above.
unsafe impl Send for Medium {}

impl Medium {
    fn new() -> Arc<Medium> {
        Arc::new(Medium {
            epoch: AtomicU64::new(epochs::FIRST),
            slots: [AtomicU64::new(0), AtomicU64::new(0)],
            root: AtomicU64::new(0),
            blocks: [UnsafeCell::new(1), UnsafeCell::new(1)],
        })
    }

    fn fill(&self, block: usize, version: u64) {
        // SAFETY: loom fails if another thread may access it at the same time.
        self.blocks[block].with_mut(|at| unsafe { *at = 0 });
        // SAFETY: as above.
        self.blocks[block].with_mut(|at| unsafe { *at = version });
    }

    /// A section: follows the root.
    fn read(&self, reader: usize) {
        let slot = &self.slots[reader];
        if epochs::enter(&self.epoch, slot).is_ok() {
            let block = self.root.load(Ordering::Acquire) as usize;
            // SAFETY: as above.
            let version = self.blocks[block].with(|at| unsafe { *at });
            assert_ne!(version, 0, "the block is being filled");
            epochs::leave(slot);
        }
    }

    /// Begins an epoch, or closes. Returns the oldest one that is pinned.
    fn go_on(&self, to: u64) -> u64 {
        epochs::next(&self.epoch, to, self.slots.iter(), |_, _| false)
    }

    fn advance(&self) -> u64 {
        self.go_on(self.epoch.load(Ordering::Relaxed) + 1)
    }

    /// The writer replaces the block so many times, each time if one is free.
    fn write(&self, times: u64) {
        let mut free = vec![1];
        let mut held: Vec<(usize, u64)> = Vec::new();
        for version in 2..2 + times {
            let oldest = self.advance();
            held.retain(|&(block, epoch)| {
                let may = epoch < oldest || (is_left_out(Rule::HeldEpoch) && epoch <= oldest);
                if may {
                    free.push(block);
                }
                !may
            });
            let Some(block) = free.pop() else { continue };
            self.fill(block, version);
            let old = self.root.load(Ordering::Relaxed) as usize;
            let mut epoch = self.epoch.load(Ordering::Relaxed);
            if is_left_out(Rule::UnlinkFirst) {
                self.advance();
                self.root.store(block as u64, Ordering::Release);
            } else {
                self.root.store(block as u64, Ordering::Release);
                epoch = self.epoch.load(Ordering::Relaxed);
            }
            held.push((old, epoch));
        }
    }
}

/// One thread for each entry, the slot that it uses, and the writer.
fn readers_and_a_writer(readers: &'static [usize], sections: usize, times: u64) {
    model(move || {
        let medium = Medium::new();
        let threads: Vec<_> = readers
            .iter()
            .map(|&reader| {
                let medium = Arc::clone(&medium);
                thread::spawn(move || (0..sections).for_each(|_| medium.read(reader)))
            })
            .collect();
        medium.write(times);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// The writer has died, or closes, and what comes then changes the medium at will, while a reader begins a section.
fn another_writer() {
    model(|| {
        let medium = Medium::new();
        let reader = {
            let medium = Arc::clone(&medium);
            thread::spawn(move || medium.read(0))
        };
        if medium.go_on(epochs::CLOSED) == epochs::NEVER {
            medium.fill(0, 2);
            medium.epoch.store(epochs::FIRST, Ordering::Release);
        }
        reader.join().unwrap();
    });
}

/// A reader died in a section. Its slot is cleared by the writer, and taken by another reader, which locks it first: the kernel's lock is
/// a mutex here, and dies with the reader. As `is_gone` and `Seat` of live.rs do it.
fn dead_reader() {
    model(|| {
        let medium = Medium::new();
        let byte = Arc::new(loom::sync::Mutex::new(()));
        epochs::enter(&medium.epoch, &medium.slots[0]).unwrap();
        let reader = {
            let (medium, byte) = (Arc::clone(&medium), Arc::clone(&byte));
            thread::spawn(move || {
                let Ok(_locked) = byte.try_lock() else { return };
                medium.slots[0].store(0, Ordering::Release);
                medium.read(0);
            })
        };
        let is_gone = |place: usize| {
            let Ok(locked) = byte.try_lock() else { return false };
            if is_left_out(Rule::ClearUnderLock) {
                drop(locked);
            }
            medium.slots[place].store(0, Ordering::Release);
            true
        };
        // The second time it is the block that the other reader may have found.
        for version in 2..4 {
            let held = medium.epoch.load(Ordering::Relaxed);
            let old = medium.root.load(Ordering::Relaxed);
            medium.root.store(1 - old, Ordering::Release);
            let oldest = epochs::next(&medium.epoch, held + 1, medium.slots.iter(), |place, _| is_gone(place));
            if held >= oldest {
                break;
            }
            medium.fill(old as usize, version);
        }
        reader.join().unwrap();
    });
}

#[test]
fn no_block_is_reused_while_a_reader_may_read_it() {
    readers_and_a_writer(&[0], 2, 3);
    readers_and_a_writer(&[0, 1], 1, 2);
}

#[test]
fn threads_that_share_a_slot_pin_it_until_the_last_one_ends() {
    readers_and_a_writer(&[0, 0], 1, 2);
}

#[test]
fn a_new_writer_sees_each_reader_that_is_inside() {
    another_writer();
}

#[test]
fn the_slot_of_a_dead_reader_is_cleared_and_no_other() {
    dead_reader();
}

#[test]
fn a_rule_left_out_is_found() {
    let rules = [Rule::PinFence, Rule::ReclaimFence, Rule::EpochBeforeScan, Rule::HeldEpoch, Rule::UnlinkFirst];
    let found = |&rule: &Rule| is_found(rule, || readers_and_a_writer(&[0], 2, 3));
    assert_eq!(rules.iter().filter(|rule| !found(rule)).collect::<Vec<_>>(), [] as [&Rule; 0]);
    let found = |&rule: &Rule| is_found(rule, || readers_and_a_writer(&[0, 0], 1, 2));
    assert_eq!(rules.iter().filter(|rule| !found(rule)).collect::<Vec<_>>(), [] as [&Rule; 0]);
    let rules = [Rule::PinFence, Rule::PinRecheck, Rule::ReclaimFence, Rule::EpochBeforeScan];
    let found = |&rule: &Rule| is_found(rule, another_writer);
    assert_eq!(rules.iter().filter(|rule| !found(rule)).collect::<Vec<_>>(), [] as [&Rule; 0]);
    assert!(is_found(Rule::ClearUnderLock, dead_reader));
}
