// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions that several threads commit at once share one record and its two barriers.
//!
//! A thread that commits on a durable medium puts its changes into the queue. One thread leads: it makes a group of those in the queue,
//! waits for the disk twice, without the lock, and leaves the results. `waiting.rs` has the threads; here are the steps between the
//! barriers, each under the lock:
//!
//! ```text
//!   begin_group      checks each transaction, prepares, writes the record    |B|
//!   advance_commit   the store that commits them all                         |B|
//!   end_group        makes the changes in the record; or takes it back, if a barrier failed
//! ```
//!
//! The invariant: from begin_group to end_group [`Turns::disk_busy`] is set, and nothing but the group stores to a durable medium, except
//! programs to the bytes of their blobs. So its stores and barriers are those of one commit after the other, as if the lock had been held
//! for all of it. Meanwhile other threads change only memory: they read, add changes to transactions, take whole free blocks as
//! regions, cancel. For them the group has not happened yet: the blocks that it frees are live, and its new blobs are a free block. A call
//! that needs a store or a flush fails with [`Error::Busy`], unchanged, and is called again later.
//!
//! If a barrier fails, none of the group is done in this process: each member gets the error, its transaction goes on, and the medium
//! is not changed any more. On the disk all of them are done or none: they have one record.

use std::time::Duration;

use super::Heap;
use super::transaction::{Changes, Commit, units_in};
use crate::palloc::Result;
use crate::palloc::error::Error;
use crate::palloc::format::Extent;
use crate::palloc::heap::MAX_OPEN;
use crate::palloc::medium::Medium;

/// The state of the groups and of the calls that wait for the disk.
///
/// | disk_busy | gathering | awaited | state | a commit | a palloc_sync | other calls |
/// | --- | --- | --- | --- | --- | --- | --- |
/// | no | no | no | idle | leads a group | goes to the disk | go on |
/// | no | yes | yes | a leader gives others time | joins the queue | waits | go on |
/// | yes | no | any | a group or a sync is on its way to the disk | joins the queue | waits | wait to store or flush |
/// | no | no | yes | the call whose turn it is was woken, and has not the lock yet | joins the queue | waits | go on |
///
/// Only a durable medium has groups. All fields are read and changed under the medium's lock.
#[derive(Default)]
pub struct Turns {
    /// A thread brings stores to the disk, without the lock or between two such times.
    pub(in crate::palloc) disk_busy: bool,
    /// Calls that wait until that is over have places, and go on in their order: the next free place, and the place whose turn it is.
    next_place: u64,
    turn: u64,
    /// The place of the next group, if transactions are queued.
    group_place: Option<u64>,
    /// A thread gives others time to join its group.
    pub(in crate::palloc) gathering: bool,
    /// So many transactions are expected to be committed at once: as many as the last time.
    pub(in crate::palloc) expected: usize,
    /// So many groups do not wait for others: the last one did in vain.
    pub(in crate::palloc) groups_without_gathering: u32,
    /// How long the last flush took.
    pub(in crate::palloc) last_flush: Duration,
    /// All that the outstanding record says is on the disk.
    pub(super) record_flushed: bool,
    /// In a palloc_sync that has flushed: whether no start marker on the disk leads behind `size`.
    pub(super) tail_flushed: Option<bool>,
    /// The region whose start marker publishes new blobs and is on its way to the disk. Until it is there the region is one free block.
    pub(super) in_flight: Option<Extent>,
    queue: Vec<Member>,
    last_ticket: u64,
}

impl Turns {
    /// Returns the place behind all calls that wait.
    pub(in crate::palloc) fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place - 1
    }

    /// Whether it is the turn of the call at this place.
    pub(in crate::palloc) fn is_turn_of(&self, place: u64) -> bool {
        !self.disk_busy && self.turn == place
    }

    /// Whether it is the turn of the next group.
    pub(in crate::palloc) fn is_turn_of_group(&self) -> bool {
        self.group_place.is_some_and(|place| self.is_turn_of(place))
    }

    /// Ends the turn of the call whose turn it is. The caller wakes those that wait.
    pub(in crate::palloc) fn pass_turn(&mut self) {
        self.turn += 1;
    }

    /// Whether a call waits for its turn.
    pub(in crate::palloc) fn is_awaited(&self) -> bool {
        self.turn != self.next_place
    }

    /// Notes for a palloc_sync that the last block was freed: `size` is lower.
    pub(super) fn note_shrunk(&mut self) {
        if self.tail_flushed.is_some() {
            self.tail_flushed = Some(false);
        }
    }
}

/// A transaction that is being committed.
struct Member {
    ticket: u64,
    changes: Changes,
    progress: Progress,
}

enum Progress {
    Queued,
    InGroup,
    Over(Result<()>),
}

impl Member {
    fn is_in_group(&self) -> bool {
        matches!(self.progress, Progress::InGroup)
    }
}

/// Lists the transactions of the group, in the order of the queue. Returns how many they are.
fn list_group<'a>(queue: &'a [Member], list: &mut [&'a Changes; MAX_OPEN]) -> usize {
    let members = queue.iter().filter(|member| member.is_in_group());
    list.iter_mut().zip(members).map(|(place, member)| *place = &member.changes).count()
}

impl<M: Medium> Heap<M> {
    /// Fails iff a thread brings a durable medium to the disk, where nobody else may store then.
    #[inline]
    pub(super) fn may_store(&self) -> Result<()> {
        if self.turns.disk_busy && self.medium.is_durable() { Err(Error::Busy) } else { Ok(()) }
    }

    /// Fails iff a thread brings the medium to the disk. Why: of two at once, only one would see a failure.
    pub(in crate::palloc) fn may_flush(&self) -> Result<()> {
        if self.turns.disk_busy { Err(Error::Busy) } else { Ok(()) }
    }

    /// Queues a transaction. Returns its ticket.
    pub fn queue(&mut self, changes: &mut Changes) -> u64 {
        self.turns.last_ticket += 1;
        let (ticket, progress) = (self.turns.last_ticket, Progress::Queued);
        let changes = std::mem::take(changes);
        self.turns.queue.push(Member { ticket, changes, progress }); // `begin_in` reserved the place
        self.give_group_a_turn();
        ticket
    }

    /// Gives the next group a place, unless it has one: the queue waits as one call, from its first transaction on.
    fn give_group_a_turn(&mut self) {
        if self.turns.group_place.is_none() {
            self.turns.group_place = Some(self.turns.take_place());
        }
    }

    /// Reserves memory in the queue for all transactions that can be open. Fails iff memory runs out.
    pub(super) fn reserve_queue(&mut self) -> Result<()> {
        let queue = &mut self.turns.queue;
        Ok(queue.try_reserve(MAX_OPEN - queue.len().min(MAX_OPEN))?)
    }

    /// How many transactions are queued.
    pub fn queued(&self) -> usize {
        self.turns.queue.iter().filter(|member| matches!(member.progress, Progress::Queued)).count()
    }

    /// Removes a transaction from the queue. Returns it with its result, or None if its group is not over.
    pub fn take_result(&mut self, ticket: u64) -> Option<(Changes, Result<()>)> {
        let place = self.turns.queue.iter().position(|member| member.ticket == ticket)?;
        if !matches!(self.turns.queue[place].progress, Progress::Over(_)) {
            return None;
        }
        match self.turns.queue.remove(place) {
            Member { changes, progress: Progress::Over(result), .. } => Some((changes, result)),
            _ => None,
        }
    }

    /// Makes a group of those in the queue that can be committed and whose changes one record holds.
    pub fn begin_group(&mut self) -> Commit {
        self.turns.disk_busy = true;
        if self.turns.group_place.take().is_some() {
            self.turns.pass_turn();
        }
        let mut queue = std::mem::take(&mut self.turns.queue);
        let (mut units, mut capacity) = (0, 0); // of the record, and of the log that holds it
        for i in 0..queue.len() {
            let (before, rest) = queue.split_at_mut(i);
            let member = &mut rest[0];
            if !matches!(member.progress, Progress::Queued) {
                continue;
            }
            let mut before = before.iter().filter(|member| member.is_in_group()).peekable();
            let more = member.changes.units();
            if before.peek().is_some() && units + more > capacity {
                continue; // in the next group
            }
            let is_first = before.peek().is_none();
            let freed = |block| before.clone().any(|before| before.changes.frees(block));
            member.progress = match self.commit_check(&member.changes, freed) {
                Ok(()) => Progress::InGroup,
                Err(error) => Progress::Over(Err(error)),
            };
            if member.is_in_group() {
                units += more;
                if is_first {
                    capacity = self.log_of(&member.changes).map_or(0, |log| units_in(log.data_len));
                }
            }
        }
        let nothing = Changes::default();
        let mut list = [&nothing; MAX_OPEN];
        let n = list_group(&queue, &mut list);
        let commit = self.commit_prepare(&list[..n]);
        self.turns.queue = queue;
        if self.queued() > 0 {
            self.give_group_a_turn();
        }
        commit
    }

    /// Makes the changes of the group, or takes its record back if a flush failed. Gives each transaction the result of the last flush.
    pub fn end_group(&mut self, commit: Commit, result: Result<()>) {
        let mut queue = std::mem::take(&mut self.turns.queue);
        let nothing = Changes::default();
        let mut list = [&nothing; MAX_OPEN];
        let n = list_group(&queue, &mut list);
        self.commit_end(&list[..n], commit);
        for member in queue.iter_mut().filter(|member| member.is_in_group()) {
            if result.is_ok() {
                self.tx_end(&mut member.changes);
            }
            member.progress = Progress::Over(result.as_ref().copied().map_err(Error::duplicate));
        }
        self.after_commit();
        self.turns.queue = queue;
        self.turns.expected = n + self.queued();
    }

    /// Ends the time in which a thread brings the medium to the disk.
    pub fn end_turn(&mut self) {
        self.turns.disk_busy = false;
    }
}
