// SPDX-License-Identifier: MIT OR Apache-2.0
//! How threads wait for the disk and for each other. `heap/group.rs` has the invariants of that time.
//!
//! One lock has the heap. A palloc_sync, and a palloc_commit on a durable medium, release it while the disk works, so no other call
//! waits for the disk but those that need it themselves: those that store to a durable medium or grow the file, and palloc_sync.
//! They go on in the order in which they came: a thread that makes such calls all the time goes behind those that wait for it.

use std::sync::{Condvar, PoisonError};
use std::time::{Duration, Instant};

use super::heap::Changes;
use super::medium::Medium;
use super::{Error, Locked, Palloc, Result};

/// A thread that leads a group waits for others this part of the time that the last flush took.
const GATHER_DIVISOR: u32 = 4;
/// After it waited in vain, so many groups do without.
const NO_GATHERING: u32 = 16;

/// Wakes the waiting threads when it is dropped: if the thread that they wait for panics, they do too.
struct Wake<'a>(&'a Condvar);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.notify_all();
    }
}

impl Palloc {
    fn wait<'a>(&'a self, heap: Locked<'a>) -> Locked<'a> {
        let mut heap = self.turn_over.wait(heap).unwrap_or_else(|error| panicked(error));
        heap.close_caches();
        heap
    }

    /// Runs `call` on the medium, which it locks, as `call_locked` does.
    pub(crate) fn with<T>(&self, call: impl FnMut(&mut Locked<'_>) -> Result<T>) -> Result<T> {
        self.call(self.lock(), call)
    }

    /// As `with`, and the caches of threads stay open: for a `call` of which [`Palloc::lock_beside_caches`] speaks.
    pub(crate) fn with_beside_caches<T>(&self, call: impl FnMut(&mut Locked<'_>) -> Result<T>) -> Result<T> {
        self.call(self.lock_beside_caches(), call)
    }

    fn call<T>(&self, heap: Locked<'_>, call: impl FnMut(&mut Locked<'_>) -> Result<T>) -> Result<T> {
        self.call_locked(heap, call, |heap| _ = self.update_view(heap))
    }

    /// Runs `call` on the locked medium. If that fails, runs it again after the caches of threads were closed, if they were open, and after
    /// each wait for the disk. Then runs `update`, still locked. Precondition: after an error `call` can run again, as it has done no part
    /// of its operation.
    #[inline]
    pub(crate) fn call_locked<'a, T>(
        &'a self,
        mut heap: Locked<'a>,
        mut call: impl FnMut(&mut Locked<'_>) -> Result<T>,
        update: impl FnOnce(&Locked<'_>),
    ) -> Result<T> {
        let mut result = call(&mut heap);
        if result.is_err() {
            (heap, result) = self.retry(heap, result, call);
        }
        update(&heap);
        result
    }

    /// The slow path of `call_locked`. Kept blocks may be what the call missed.
    #[cold]
    #[inline(never)]
    fn retry<'a, T>(
        &'a self,
        mut heap: Locked<'a>,
        mut result: Result<T>,
        mut call: impl FnMut(&mut Locked<'_>) -> Result<T>,
    ) -> (Locked<'a>, Result<T>) {
        if heap.close_caches() {
            result = call(&mut heap);
        }
        while let Err(Error::Busy) = result {
            heap = self.wait_for_disk(heap);
            result = call(&mut heap);
        }
        (heap, result)
    }

    /// Waits until no thread brings the medium to the disk, behind those that wait already.
    #[cold]
    fn wait_for_disk<'a>(&'a self, mut heap: Locked<'a>) -> Locked<'a> {
        let place = heap.turns.take_place();
        while !heap.turns.is_turn_of(place) {
            heap = self.wait(heap);
        }
        heap.turns.pass_turn();
        if heap.turns.is_awaited() {
            self.turn_over.notify_all();
        }
        heap
    }

    /// Brings all stores so far to the disk, without the lock if the system can. Precondition: `disk_busy` is set.
    fn flush_all<'a>(&'a self, mut heap: Locked<'a>) -> (Locked<'a>, Result<()>) {
        debug_assert!(heap.turns.disk_busy);
        let from = Instant::now();
        let (mut heap, result) = match heap.medium.flusher() {
            Some(flusher) => {
                drop(heap);
                let result = flusher.flush();
                (self.lock(), result)
            }
            None => {
                let result = heap.medium.flush();
                (heap, result)
            }
        };
        heap.turns.last_flush = from.elapsed();
        let result = result.inspect_err(|error| heap.note_failed_sync(error));
        (heap, result)
    }

    /// As `flush_all`, between operations.
    fn flush_alone<'a>(&'a self, mut heap: Locked<'a>) -> (Locked<'a>, Result<()>) {
        let _wake = Wake(&self.turn_over);
        heap.turns.disk_busy = true;
        let (mut heap, result) = self.flush_all(heap);
        heap.end_turn();
        (heap, result)
    }

    /// Locks the medium for a call that brings it to the disk.
    fn lock_for_disk(&self) -> Locked<'_> {
        let heap = self.lock();
        if heap.turns.disk_busy || heap.turns.is_awaited() { self.wait_for_disk(heap) } else { heap }
    }

    /// Makes the file what a clone is to be, and brings it to the disk. Returns the medium still locked.
    pub(crate) fn tidied_for_clone(&self) -> (Locked<'_>, Result<()>) {
        let mut heap = self.lock_for_disk();
        match heap.tidy_for_clone() {
            Ok(_) if heap.writable => self.flush_alone(heap),
            result => (heap, result.map(drop)),
        }
    }

    /// Makes the file exactly the format, and brings it to the disk. Returns the medium still locked.
    pub(crate) fn sync_locked(&self) -> (Locked<'_>, Result<()>) {
        let mut heap = self.lock_for_disk();
        if heap.begin_sync() {
            let (locked, result) = self.flush_alone(heap);
            heap = locked;
            if result.is_err() {
                return (heap, result);
            }
            heap.note_flushed();
        }
        match heap.tidy_for_sync() {
            Ok(true) => self.flush_alone(heap),
            Ok(false) => (heap, Ok(())),
            Err(error) => (heap, Err(error)),
        }
    }

    /// Commits. Returns the medium still locked. On failure nothing is done, and the transaction goes on.
    pub(crate) fn commit_locked(&self, changes: &mut Changes) -> (Locked<'_>, Result<()>) {
        let mut heap = self.lock();
        if !heap.medium.is_durable() {
            let result = heap.tx_commit(changes);
            return (heap, result);
        }
        let ticket = heap.queue(changes);
        if heap.turns.gathering && heap.queued() >= heap.turns.expected {
            self.turn_over.notify_all();
        }
        loop {
            if let Some((back, result)) = heap.take_result(ticket) {
                *changes = back;
                return (heap, result);
            }
            heap = match heap.turns.is_turn_of_group() && !heap.turns.gathering {
                true => self.lead(heap),
                false => self.wait(heap),
            };
        }
    }

    /// Commits those in the queue, or as many of them as one record holds.
    fn lead<'a>(&'a self, heap: Locked<'a>) -> Locked<'a> {
        let _wake = Wake(&self.turn_over);
        let mut heap = self.gather(heap);
        debug_assert!(heap.turns.is_turn_of_group());
        let mut commit = heap.begin_group();
        let mut result = Ok(());
        while commit.needs_flush() {
            (heap, result) = self.flush_all(heap);
            heap.advance_commit(&mut commit, result.is_ok());
        }
        heap.end_group(commit, result);
        heap.end_turn();
        heap
    }

    /// Gives those that were committed together the last time a moment to come again: else threads that commit in a loop would form two
    /// groups which alternate, most of them waiting for the one that came too late.
    fn gather<'a>(&'a self, mut heap: Locked<'a>) -> Locked<'a> {
        if heap.queued() >= heap.turns.expected {
            return heap;
        }
        if heap.turns.groups_without_gathering > 0 {
            heap.turns.groups_without_gathering -= 1;
            return heap;
        }
        let until = Instant::now() + heap.turns.last_flush / GATHER_DIVISOR;
        let before = heap.queued();
        heap.turns.gathering = true;
        while heap.queued() < heap.turns.expected {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            heap = self.turn_over.wait_timeout(heap, left).unwrap_or_else(|error| panicked(error)).0;
        }
        heap.turns.gathering = false;
        if heap.queued() == before {
            heap.turns.groups_without_gathering = NO_GATHERING;
        }
        heap
    }
}

fn panicked<T>(_: PoisonError<T>) -> ! {
    panic!("a thread panicked at work on the medium")
}
