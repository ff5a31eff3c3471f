// SPDX-License-Identifier: MIT OR Apache-2.0
//! Held blocks: free on the medium, and nobody's yet.

use super::*;
use crate::palloc::block_index::State;
use crate::palloc::format::Start;
use crate::palloc::memory::PAGE;
use crate::palloc::sabotage::Rule;

fn extent(heap: &Heap<MemMedium>, ptr: u64) -> Extent {
    Extent { start: Start::of_blob(ptr), data_len: heap.size_of(ptr).unwrap() }
}

/// Held blocks keep their bytes among free ones of all kinds; nobody gets them, and they can't be freed again. A kill makes them free.
#[test]
fn held_blocks_keep_their_bytes_and_belong_to_nobody() {
    for flags in [Flags::DYNAMIC, Flags::DYNAMIC | Flags::SYNC] {
        let mut heap = open(Vec::new(), flags).unwrap();
        let size = |i: usize| [16, 48, 500, 3000][i % 4];
        let blobs: Vec<u64> = (0..200).map(|i| heap.alloc(size(i)).unwrap()).collect();
        let (mut held, mut live) = (Vec::new(), Vec::new());
        for (i, &ptr) in blobs.iter().enumerate() {
            fill(&mut heap, ptr, i as u8);
            match i % 3 {
                0 => {
                    let block = extent(&heap, ptr);
                    heap.hold(block).unwrap();
                    held.push((block, i as u8));
                }
                1 => heap.free(ptr).unwrap(),
                _ => live.push(ptr),
            }
        }
        heap.check_invariants();
        for &(block, value) in &held {
            assert!(matches!(heap.free(block.blob()), Err(Error::NoBlob(_))));
            assert!(!live.contains(&block.blob()) && heap.next(block.blob() - 1).unwrap() != block.blob());
            assert!(
                heap.medium.bytes[block.data().start as usize..block.data().end as usize].iter().all(|&b| b == value)
            );
        }
        assert_eq!(heap.first().unwrap(), live[0]);
        // Others get the free blocks between them.
        let more: Vec<u64> = (0..100).map(|i| heap.alloc(size(i)).unwrap()).collect();
        let in_use = |at: u64| held.iter().any(|(block, _)| (block.start.offset()..block.end()).contains(&at));
        assert!(more.iter().all(|&ptr| !in_use(ptr)));
        heap.sync().unwrap();
        heap.check_invariants();
        for &(block, value) in &held {
            assert!(
                heap.medium.bytes[block.data().start as usize..block.data().end as usize].iter().all(|&b| b == value)
            );
        }
        // A kill: they are free.
        let mut again = open(heap.medium.bytes.clone(), flags).unwrap();
        again.check_invariants();
        assert!(held.iter().all(|(block, _)| again.free(block.blob()).is_err()));
        let killed = again.stat().unwrap();

        held.iter().for_each(|&(block, _)| heap.free_held(block).unwrap());
        heap.sync().unwrap();
        heap.check_invariants();
        assert_eq!(heap.stat().unwrap(), killed, "the same blocks are free in both cases");
        for ptr in live.into_iter().chain(more) {
            heap.free(ptr).unwrap();
        }
        assert_eq!(closed(heap).len(), 8);
    }
}

/// A reader's section: the epoch that it pins, and the blobs that there were when it began.
struct Section {
    epoch: u64,
    sees: Blobs,
    /// The length of the file.
    end: u64,
}

impl Section {
    fn begin(heap: &mut Heap<MemMedium>) -> Section {
        let epoch = heap.medium.epoch();
        heap.medium.pins.push(epoch);
        Section { epoch, sees: blobs(heap), end: heap.medium.file_len() }
    }

    /// Nothing that it may read has changed. (A blob that has grown in place has more.) The file is as long as it was: a wrong offset is
    /// no SIGBUS.
    fn check(&self, heap: &Heap<MemMedium>) {
        assert!(heap.medium.file_len() >= self.end, "the file is cut from {} to {}", self.end, heap.medium.file_len());
        for (&ptr, bytes) in &self.sees {
            let marker = heap.medium.start_marker(Start::of_blob(ptr));
            assert!(marker.data_len() >= bytes.len() as u64, "marker of {ptr}: {marker:x?}");
            assert!(heap.medium.bytes[ptr as usize..].starts_with(bytes), "bytes of {ptr}");
        }
    }

    fn end(self, heap: &mut Heap<MemMedium>) {
        let pins = &mut heap.medium.pins;
        pins.swap_remove(pins.iter().position(|&pin| pin == self.epoch).unwrap());
    }
}

/// New blobs and frees in one step.
fn transaction(heap: &mut Heap<MemMedium>, before: &Blobs, random: &mut Random) -> (Operation, Option<u64>) {
    let Ok(mut changes) = heap.begin() else { return (Operation::Other, None) };
    let mut done = Ok(());
    for _ in 0..random.below(3) {
        done = done.and_then(|()| heap.tx_alloc(&mut changes, random.size()).map(drop));
    }
    let mut live: Vec<u64> = before.keys().copied().collect();
    for _ in 0..random.below(4).min(live.len() as u64) {
        let ptr = live.swap_remove(random.below(live.len() as u64) as usize);
        done = done.and_then(|()| heap.tx_free(&mut changes, ptr));
    }
    if done.and_then(|()| heap.tx_commit(&mut changes)).is_err() {
        heap.tx_cancel(&mut changes);
    }
    (Operation::Other, None)
}

/// Random operations while readers come and go. Returns how much the rules of this were needed: how many blocks were held.
fn share(flags: Flags, seed: u64, operations: u64) -> u64 {
    let mut random = Random(seed + 1);
    let medium = MemMedium::sparse(if flags == Flags::DEFAULT { vec![0; 60_000] } else { Vec::new() });
    let (mut heap, _) = recover::open(medium, flags).unwrap();
    if flags.contains(Flags::SYNC) {
        heap.medium.barriers = Some(Vec::new());
    }
    heap.medium.epoch = Some(1);
    heap.begin_sharing().unwrap();
    let (mut sections, mut most) = (Vec::<Section>::new(), 0);
    for step in 0..operations {
        let before = blobs(&heap);
        let with_kills = step % 16 == 0 && !flags.contains(Flags::SYNC);
        heap.medium.before_each_change = with_kills.then(Vec::new);
        let (operation, allocated) = match step % 5 {
            4 => transaction(&mut heap, &before, &mut random),
            _ => any_operation(&mut heap, &before, &mut random),
        };
        if step % 31 == 30 {
            heap.trim(64).unwrap();
        }
        let after = blobs(&heap);
        assert_eq!(heap.medium.first.get(), after.keys().next().copied().unwrap_or(0), "the first blob");
        for state in heap.medium.before_each_change.take().into_iter().flatten() {
            check_killed(state, &before, &after, &operation);
        }
        sections.iter().for_each(|section| section.check(&heap));
        if let Some(ptr) = allocated.filter(|ptr| matches!(operation, Operation::Alloc) && !before.contains_key(ptr)) {
            fill(&mut heap, ptr, step as u8 | 1);
        }
        most = most.max(heap.index.blocks().filter(|&(_, state)| state == State::Held).count() as u64);
        if sections.len() < 3 && random.below(20) == 0 {
            sections.push(Section::begin(&mut heap));
        }
        if !sections.is_empty() && random.below(60) == 0 {
            sections.swap_remove(random.below(sections.len() as u64) as usize).end(&mut heap);
        }
    }
    // A close leaves what they read; the next open makes the file exact.
    let (open_sections, live) = (sections.len(), blobs(&heap));
    heap.close().unwrap();
    sections.iter().for_each(|section| section.check(&heap));
    let again = open(heap.medium.bytes.clone(), flags).unwrap();
    assert_eq!(blobs(&again), live);
    closed(again);
    if open_sections == 0 {
        assert_eq!(recover::check(&heap.medium, |_, _| {}), 0);
    }
    most
}

#[test]
fn what_a_section_may_read_stays_whatever_the_writer_does() {
    for flags in [Flags::DYNAMIC, Flags::DEFAULT, Flags::DYNAMIC | Flags::SYNC] {
        for seed in 0..if is_deep() { 200 } else { 6 } {
            assert!(share(flags, seed, 700) > 64, "{flags:?}, seed {seed}");
        }
    }
}

/// A block that is allocated again beside readers has space on the disk for all of its bytes, also if its pages became a hole meanwhile.
#[test]
fn a_block_that_is_allocated_again_beside_readers_has_space_on_the_disk() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    heap.medium.epoch = Some(1);
    heap.begin_sharing().unwrap();
    let made = [0; 3].map(|_| heap.alloc(500).unwrap());
    heap.free(made[1]).unwrap();
    heap.reclaim(false);
    let pages = made[1].div_ceil(PAGE)..(made[1] + 500) / PAGE;
    heap.medium.holes.extend(pages.clone());
    assert_eq!(heap.alloc_quickly(500), Some(made[1]), "it was ready");
    assert!(pages.into_iter().all(|page| !heap.medium.holes.contains(&page)));
    heap.check_invariants();
}

/// Of the free blocks and those that are ready, the one of the smallest size is allocated, as the slow path would do if all were free.
#[test]
fn a_smaller_free_block_is_allocated_before_one_that_is_ready() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let made = [48, 48, 48, 64, 64].map(|size| heap.alloc(size).unwrap());
    heap.free(made[1]).unwrap();
    heap.medium.epoch = Some(1);
    heap.begin_sharing().unwrap();
    heap.free(made[3]).unwrap();
    heap.reclaim(false);
    assert_eq!(heap.alloc_quickly(48), None, "the free one is in the index");
    assert_eq!(heap.alloc(48).unwrap(), made[1]);
    assert_eq!(heap.alloc_quickly(48), Some(made[3]), "there is no smaller one any more");
    heap.check_invariants();
}

#[test]
fn a_rule_of_this_that_is_broken_is_found() {
    for rule in [Rule::HeldEpoch, Rule::CutAlone, Rule::ShrinkAlone] {
        let from = std::time::Instant::now();
        transactions::with_broken(rule, || {
            for seed in 0..6 {
                share(Flags::DYNAMIC, seed, 700);
            }
        });
        println!("{rule:?}: found after {} ms", from.elapsed().as_millis());
    }
}
