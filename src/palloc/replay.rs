// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening a medium that a process left in a transaction: its changes are made if it was committed, and else leave nothing.

use super::Result;
use super::block_index::{BlockIndex, State};
use super::chain::{Chain, ChainBlock, Walk};
use super::error::Error;
use super::format::{Extent, MIN_BLOCK, MIN_DATA, Marker, OVERHEAD, Start, WORD};
use super::medium::{Bytes, Medium};
use super::record::{self, Change, Record, is_inside, put};
use super::sabotage::{Rule, is_broken};

/// A durable medium has at most two records; a power cut without PALLOC_SYNC can leave some more.
pub const MAX_RECORDS: usize = 16;
const _: () = assert!(MAX_RECORDS >= 2);

/// Makes the changes of the records on the medium, and frees the logs. `index` has the blocks up to `end`. Returns whether it changed the
/// medium. A medium that is not written to can have logs; they are reserved for the index. A record that is not done makes it fail.
pub fn finish(medium: &mut impl Medium, index: &mut BlockIndex, end: u64, writable: bool) -> Result<bool> {
    let mut records = [None; MAX_RECORDS];
    let (mut count, mut logs) = (0, 0);
    let mut walk = Walk::new(Start::FIRST, end);
    while let Some(ChainBlock { block, is_free }) = walk.next(medium) {
        if is_free || !record::is_log(medium, block) {
            continue;
        }
        logs += 1;
        if writable {
            medium.ensure_space(block.start.marker(), Bytes::Preserve)?;
        }
        if let Some(record) = Record::find(medium, block) {
            *records
                .get_mut(count)
                .ok_or(Error::Damaged { offset: block.start.offset(), what: "too many transactions are recorded" })? =
                Some(record);
            count += 1;
        }
    }
    if logs == 0 {
        return Ok(false);
    }
    let records = &mut records[..count];
    records.sort_unstable();
    for record in records.iter().flatten().filter(|_| writable) {
        reserve(medium, *record)?;
    }
    for record in records.iter().flatten() {
        replay(medium, index, *record, writable)?;
    }
    // The changes of the records are on the disk before the records are taken back. The oldest is taken back first, each on the disk before
    // the next: a younger record can be done again without an older one, not the other way round.
    if is_broken(Rule::OldestFirst) {
        records.reverse();
    }
    for record in records.iter().flatten().filter(|_| writable) {
        medium.barrier()?;
        medium.store_start(record.log, Marker::free(medium.start_marker(record.log).data_len()));
    }
    let mut walk = Walk::new(Start::FIRST, end);
    while let Some(ChainBlock { block, is_free }) = walk.next(medium) {
        if !is_free && record::is_log(medium, block) {
            if writable {
                medium.store_start(block.start, Marker::free(block.data_len));
            } else {
                index.put_reserved(block.start);
            }
        }
    }
    Ok(writable)
}

/// Makes sure that doing the record cannot fail for want of space on the disk: in a file with holes, the place of a store may be in one.
fn reserve(medium: &mut impl Medium, record: Record) -> Result<()> {
    let mut number = 0;
    while let Some((change, _, next)) = record.change(medium, number) {
        number = next;
        let (at, len) = match change {
            Change::Store { at, len, .. } => (at, len.into()),
            Change::Mark { block, .. } | Change::Free { block } => (block.offset(), WORD),
        };
        // A change that leads beyond the medium is not done.
        if at + len <= medium.file_len() {
            medium.ensure_space(at..at + len, Bytes::Preserve)?;
        }
    }
    Ok(())
}

/// Makes the changes of the record that are not made yet. Whatever they are, only live blocks that are no logs are changed, and free ones
/// are divided.
fn replay(medium: &mut impl Medium, index: &mut BlockIndex, record: Record, writable: bool) -> Result<()> {
    let mut number = 0;
    while let Some((change, bytes_at, next)) = record.change(medium, number) {
        number = next;
        let (start, wanted) = match change {
            Change::Mark { block, .. } => (block, State::Free),
            Change::Free { block } | Change::Store { block, .. } => (block, State::Live),
        };
        if index.state(start) != Some(wanted) {
            continue;
        }
        let block = Extent { start, data_len: medium.start_marker(start).data_len() };
        if wanted == State::Live && record::is_log(medium, block) {
            continue;
        }
        if let Change::Store { at, len, .. } = change {
            if is_inside(block, at, len.into()) {
                store(medium, at, bytes_at, len.into(), writable)?;
            }
            continue;
        }
        if let Change::Mark { marker, .. } = change {
            if Marker(marker).is_free() || !leads_on(medium, start, Marker(marker), block.end()) {
                continue;
            }
        }
        if !writable {
            return Err(Error::Unfinished);
        }
        match change {
            Change::Mark { marker, .. } => {
                index.remove_free(block, |start| medium.start_marker(start).data_len());
                let mut new_marker = Marker(marker);
                let mut new_start = start;
                loop {
                    index.prepare(new_start)?;
                    let new_block = Extent { start: new_start, data_len: new_marker.data_len() };
                    if new_marker.is_free() {
                        index.add_free(new_block)
                    } else {
                        index.put_live(new_start)
                    }
                    new_start = new_block.next();
                    if new_start == block.next() {
                        break;
                    }
                    new_marker = medium.start_marker(new_start);
                }
                medium.store_start(start, Marker(marker));
            }
            _ => {
                medium.store_start(start, Marker::free(block.data_len));
                index.add_free(block);
            }
        }
    }
    Ok(())
}

/// Copies `len` bytes of a record from `from` to `to`, unless they are there.
fn store(medium: &mut impl Medium, to: u64, from: u64, len: u64, writable: bool) -> Result<()> {
    let mut piece = [0; 256];
    let mut there = [0; 256];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(piece.len() as u64) as usize;
        medium.read(from + done, &mut piece[..n]);
        medium.read(to + done, &mut there[..n]);
        if piece[..n] != there[..n] {
            if !writable {
                return Err(Error::Unfinished);
            }
            put(medium, to + done, &piece[..n]);
        }
        done += n as u64;
    }
    Ok(())
}

/// Whether from the block at `start`, if it had the start marker `first`, sizes that fit lead exactly to `end`.
fn leads_on(medium: &impl Medium, start: Start, first: Marker, end: u64) -> bool {
    let len = end - start.offset();
    if len < MIN_BLOCK || !(MIN_DATA..=len - OVERHEAD).contains(&first.data_len()) {
        return false;
    }
    let mut chain = Chain::new(medium, Extent { start, data_len: first.data_len() }.next(), end);
    chain.by_ref().for_each(drop);
    chain.walk.is_whole()
}
