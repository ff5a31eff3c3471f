// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions: killed between any two stores, cut off between any two barriers, with every call failing; what the next open finds is
//! the state before or after, blobs and bytes. Each barrier and each rule of the design is needed: without it, something is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::power::{Durable, cut_power_between_syncs, power_cuts, short_medium};
use super::{
    Blobs, Flags, Heap, MemMedium, Operation, Random, Result, blobs, check_killed, closed, every_short_sequence, fill,
    is_deep, open, random_operation, recover,
};
use crate::palloc::error::Error;
use crate::palloc::format::{Extent, Start, WORD};
use crate::palloc::heap::Changes;
use crate::palloc::record::MAX_OFFSET;
use crate::palloc::sabotage::{BROKEN, Rule};

/// A transaction with new blobs, which are filled, frees and stores, at random. It is cancelled where the medium is full, and sometimes.
pub(super) fn random(heap: &mut Heap<MemMedium>, live: &[u64], random: &mut Random) {
    let mut news = Vec::new();
    for _ in 0..random.below(4) {
        news.push((random.size(), random.below(256) as u8));
    }
    let mut rest = live.to_vec();
    let mut frees = Vec::new();
    for _ in 0..random.below(4) {
        if !rest.is_empty() {
            frees.push(rest.swap_remove(random.below(rest.len() as u64) as usize));
        }
    }
    let mut stores = Vec::new();
    for _ in 0..random.below(4) {
        if !rest.is_empty() {
            let ptr = rest[random.below(rest.len() as u64) as usize];
            let n = heap.size_of(ptr).unwrap();
            let (at, len) = match random.below(2) {
                0 => (random.below(n / 8) * 8, 8),
                _ => {
                    let at = random.below(n);
                    (at, random.below((n - at).min(40) + 1))
                }
            };
            stores.push((ptr + at, vec![random.below(256) as u8; len as usize]));
        }
    }
    let Ok(mut changes) = heap.begin() else { return };
    let cancels = random.below(10) == 0;
    if change(heap, &mut changes, &news, &frees, &stores).is_err() || cancels {
        heap.tx_cancel(&mut changes);
    } else {
        heap.tx_commit(&mut changes).unwrap();
    }
}

/// A random transaction, as one of random operations.
pub(super) fn random_one(heap: &mut Heap<MemMedium>, before: &Blobs, random: &mut Random) -> (Operation, Option<u64>) {
    let live: Vec<u64> = before.keys().copied().collect();
    self::random(heap, &live, random);
    (Operation::Other, None)
}

pub(super) fn change(
    heap: &mut Heap<MemMedium>,
    changes: &mut Changes,
    news: &[(u64, u8)],
    frees: &[u64],
    stores: &[(u64, Vec<u8>)],
) -> Result<()> {
    for &(size, value) in news {
        let ptr = heap.tx_alloc(changes, size)?;
        let n = changes.data(ptr).unwrap().len();
        assert!(n as u64 >= size && heap.medium.bytes.len() as u64 >= ptr + n as u64);
        heap.medium.bytes[ptr as usize..][..n].fill(value);
    }
    frees.iter().try_for_each(|&ptr| heap.tx_free(changes, ptr))?;
    stores.iter().try_for_each(|(at, bytes)| heap.tx_store(changes, *at, bytes))
}

/// One operation of a short sequence; which blobs it takes depends on those that are there.
#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc(u64),
    FreeFirst,
    FreeLast,
    Resize(u64),
    Sync,
    /// New blobs, how many of the first ones to free, in how many of the last ones to store.
    Tx(&'static [u64], usize, usize),
}

const STEPS: [Step; 10] = [
    Step::Alloc(24),
    Step::Alloc(700),
    Step::FreeFirst,
    Step::Resize(1800),
    Step::Sync,
    Step::Tx(&[40, 600], 0, 0),
    Step::Tx(&[], 2, 0),
    Step::Tx(&[], 0, 2),
    Step::Tx(&[24, 300], 1, 1),
    Step::Tx(&[700], 1, 0),
];

impl Step {
    fn run(self, heap: &mut Heap<MemMedium>, before: &Blobs, value: u8) -> (Operation, Option<u64>) {
        match (self, before.keys().next()) {
            (Step::Alloc(size), _) => (Operation::Alloc, heap.alloc(size).ok()),
            (Step::FreeFirst, Some(&ptr)) => {
                heap.free(ptr).unwrap();
                (Operation::Other, None)
            }
            (Step::FreeLast, _) => {
                heap.free(*before.keys().next_back().expect("a blob is left")).unwrap();
                (Operation::Other, None)
            }
            (Step::Resize(size), Some(&ptr)) => match heap.resize(ptr, size) {
                Ok(new) => (Operation::Resize(ptr, new), Some(new)),
                Err(_) => (Operation::Other, None),
            },
            (Step::Sync, _) => {
                heap.sync().unwrap();
                (Operation::Other, None)
            }
            (Step::Tx(news, frees, stores), _) => {
                let news: Vec<(u64, u8)> = news.iter().map(|&size| (size, value)).collect();
                let frees: Vec<u64> = before.keys().take(frees).copied().collect();
                let kept = before.keys().filter(|ptr| !frees.contains(ptr)).rev().take(stores);
                let stores: Vec<(u64, Vec<u8>)> = kept.map(|&ptr| (ptr + 8, vec![value; 8])).collect();
                if let Ok(mut changes) = heap.begin() {
                    match change(heap, &mut changes, &news, &frees, &stores) {
                        Ok(()) => heap.tx_commit(&mut changes).unwrap(),
                        Err(_) => heap.tx_cancel(&mut changes),
                    }
                }
                (Operation::Other, None)
            }
            _ => (Operation::Other, None),
        }
    }
}

/// The media: a dynamic one, and a static one with room for logs and regions.
pub(super) const MEDIA: [(usize, Flags, bool); 2] = [(0, Flags::DYNAMIC, false), (12_008, Flags::DEFAULT, false)];

/// A static one in which a free block can be too large to become a region whole.
const WIDE: usize = MEDIA.len();

pub(super) fn start(medium: usize) -> Durable {
    let (size, flags, exact) = if medium == WIDE { (200_008, Flags::DEFAULT, false) } else { MEDIA[medium] };
    short_medium(vec![0; size], flags, exact)
}

/// Runs `steps` on a durable medium, of which the barrier with this number is left out, and opens every image of a power cut during the
/// steps from `first` on.
fn cut_power_from(first: usize, medium: usize, steps: &[Step], sabotage: Option<u64>) -> Durable {
    let mut random = Random(9);
    let mut medium = start(medium);
    medium.heap.medium.sabotage = sabotage;
    for (i, step) in steps.iter().enumerate() {
        let value = 0x40 + i as u8;
        let budget = if i < first { 0 } else { 2000 };
        let filled = medium.cut_power_during(&mut random, budget, |heap, before, _| step.run(heap, before, value));
        if let Some(ptr) = filled {
            medium.fill(ptr, value);
        }
    }
    medium
}

fn run_short(medium: usize, steps: &[Step], sabotage: Option<u64>) -> Durable {
    cut_power_from(0, medium, steps, sabotage)
}

pub(super) fn is_found(test: impl FnOnce()) -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = catch_unwind(AssertUnwindSafe(test)).is_err();
    std::panic::set_hook(hook);
    found
}

fn every_image_of_short_sequences(medium: usize) {
    let mut images = 0;
    every_short_sequence(&STEPS, &mut |steps| {
        let run = || cut_power_from(steps.len() - 1, medium, steps, None).images_opened;
        images += catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("medium {medium}: {steps:?}"));
    });
    println!("{images} images opened");
    assert!(images > 10_000);
}

#[test]
fn every_image_of_a_power_cut_in_every_short_sequence_with_transactions_opens_dynamic() {
    every_image_of_short_sequences(0);
}

#[test]
fn every_image_of_a_power_cut_in_every_short_sequence_with_transactions_opens_static() {
    every_image_of_short_sequences(1);
}

/// Without PALLOC_SYNC: before each store of each operation of every short sequence.
#[test]
fn a_kill_in_every_short_sequence_with_transactions_leaves_all_or_nothing() {
    let mut states_seen = 0;
    let mut kill_in = |medium: usize, steps: &[Step]| {
        let mut heap = start(medium).heap;
        heap.medium.barriers = None;
        for (i, step) in steps.iter().enumerate() {
            let before = blobs(&heap);
            heap.medium.before_each_change = Some(Vec::new());
            let (operation, filled) = step.run(&mut heap, &before, 0x40 + i as u8);
            let after = blobs(&heap);
            let mut states = heap.medium.before_each_change.take().unwrap();
            states.push(heap.medium.bytes.clone());
            // The states of the other steps belong to shorter sequences.
            if i + 1 == steps.len() {
                states_seen += states.len();
                states.into_iter().for_each(|state| check_killed(state, &before, &after, &operation));
            }
            if let Some(ptr) = filled {
                fill(&mut heap, ptr, 0x40 + i as u8);
            }
        }
        closed(heap);
    };
    for medium in 0..MEDIA.len() {
        every_short_sequence(&STEPS, &mut |steps| kill_in(medium, steps));
    }
    println!("{states_seen} states opened");
    assert!(states_seen > 10_000);
}

/// Random transactions, and now and then something else, on a durable medium. Returns how many images were opened.
fn cut_power_in_transactions(medium: usize, seed: u64, operations: u32, budget: usize) -> usize {
    let mut random = Random(seed);
    let (size, flags, exact) = MEDIA[medium];
    let mut medium = Durable::new(vec![0; size], flags, exact);
    for step in 0..operations {
        let filled = medium.cut_power_during(&mut random, budget, |heap, before, random| {
            if random.below(3) == 0 {
                return random_operation(heap, before, random);
            }
            random_one(heap, before, random)
        });
        if let Some(ptr) = filled {
            medium.fill(ptr, step as u8 | 1);
        }
    }
    medium.images_opened
}

#[test]
fn a_power_cut_in_any_transaction_leaves_all_or_nothing() {
    let seeds = if is_deep() { 200 } else { 6 };
    let images: usize = (1..=seeds).map(|seed| cut_power_in_transactions(seed as usize % 2, seed * 131, 120, 60)).sum();
    println!("{images} images opened");
    assert!(images > 10_000);
}

/// Without PALLOC_SYNC, with other operations between transactions: see `cut_power_between_syncs`.
#[test]
fn a_power_cut_between_two_syncs_with_transactions_loses_no_synced_blob() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 1..=if is_deep() { 1000 } else { 80 } {
        let cuts = cut_power_between_syncs(seed * 7919, 60, |heap, before, random| match random.below(3) {
            0 => random_operation(heap, before, random),
            _ => random_one(heap, before, random),
        });
        (opened, refused) = (opened + cuts.0, refused + cuts.1);
    }
    println!("{opened} images opened, {refused} refused");
    assert!(opened > 20_000 && refused < opened / 2);
}

#[test]
fn a_barrier_of_a_transaction_left_out_is_found() {
    let sequences: [(&str, usize, &[Step], usize); 7] = [
        ("new blobs of one region, and two logs", 1, &[Step::Tx(&[40, 600], 0, 0)], 2 + 2),
        ("a region made of all the slack", 0, &[Step::Tx(&[600], 0, 0)], 2 + 2),
        ("new, freed, stored", 1, &[Step::Tx(&[24, 300], 1, 1)], 2 + 2),
        (
            "two, the second one where the first one freed",
            1,
            &[Step::Tx(&[], 1, 1), Step::Tx(&[1000], 1, 1)],
            2 + 2 + 2,
        ),
        ("three", 1, &[Step::Tx(&[], 1, 1), Step::Tx(&[1000], 1, 1), Step::Tx(&[24], 1, 1)], 2 + 2 + 2 + 2),
        ("a plain call behind it", 1, &[Step::Tx(&[], 1, 1), Step::Alloc(700)], 2 + 2 + 1 + 2),
        (
            "a region made of a part of a large block",
            WIDE,
            &[
                Step::Alloc(150_000),
                Step::Alloc(40_000),
                Step::Tx(&[], 3, 0),
                Step::Alloc(700),
                Step::Tx(&[9000], 0, 0),
            ],
            2 + 2 + 2 + 2 + 1 + 2 + 1 + 2,
        ),
    ];
    for (name, medium, steps, expected) in sequences {
        let barriers = run_short(medium, steps, None).barriers;
        let missed: Vec<usize> =
            (0..barriers).filter(|&i| !is_found(|| drop(run_short(medium, steps, Some(i as u64))))).collect();
        assert_eq!(barriers, expected, "{name}");
        assert!(missed.is_empty(), "{name}: a power cut finds nothing when one of the barriers {missed:?} is left out");
    }
}

#[test]
fn the_barrier_of_a_region_made_where_a_blob_was_is_needed() {
    // The blob that stays is so long that the slack that is left of the last one is longer than a region.
    let freed = [Step::Tx(&[], 0, 1), Step::Alloc(1_300_000), Step::Alloc(140_000), Step::FreeLast];
    let before = cut_power_from(4, 0, &freed, None).barriers;
    let steps = [&freed[..], &[Step::Tx(&[9000], 0, 0)]].concat();
    assert_eq!(cut_power_from(4, 0, &steps, None).barriers, before + 1 + 2);
    assert!(is_found(|| drop(cut_power_from(4, 0, &steps, Some(before as u64)))));
    let zeros = [Step::Tx(&[], 0, 1), Step::Tx(&[9000], 0, 0)];
    assert_eq!(run_short(0, &zeros, None).barriers, 2 + 2 + 2);
}

/// No flush is between the two: if the start marker of the first is on the disk, and that of the rest is not, the words of the second are
/// behind the end of the chain. The rest is zeros, of slack where no blob was.
#[test]
fn two_regions_between_two_flushes_are_in_the_chain_after_any_power_cut() {
    let steps = [Step::Tx(&[], 0, 1), Step::Alloc(1_700_000), Step::Tx(&[60_000, 60_000], 0, 0)];
    let before = cut_power_from(2, 0, &steps[..2], None).barriers;
    assert_eq!(cut_power_from(2, 0, &steps, None).barriers, before + 2 + 2, "a barrier of each region");
    assert!(is_found(|| drop(cut_power_from(2, 0, &steps, Some(before as u64)))));
}

/// Opening frees the log, whose end marker is still a tag, and then walks along the chain once more.
#[test]
fn a_file_that_grows_behind_a_log_opens_after_any_power_cut() {
    run_short(0, &[Step::Tx(&[], 0, 1), Step::Alloc(140_000)], None);
    run_short(0, &[Step::Tx(&[], 1, 1), Step::Alloc(140_000), Step::Alloc(700_000)], None);
}

/// Two transactions on a durable medium, the first of which frees a blob that has free neighbours: the second one uses its place.
fn reuse(sabotage: Option<u64>) -> Durable {
    let steps = [Step::Tx(&[], 1, 1), Step::Tx(&[24, 1300], 0, 1), Step::Tx(&[900], 1, 0), Step::Alloc(700)];
    run_short(1, &steps, sabotage)
}

pub(super) fn with_broken(rule: Rule, test: impl FnOnce()) {
    BROKEN.set(Some(rule));
    let found = is_found(test);
    BROKEN.set(None);
    assert!(found, "{rule:?} can be broken without a loss");
}

#[test]
fn a_rule_that_is_broken_is_found() {
    reuse(None);
    for rule in [Rule::JoinAtOnce, Rule::Quarantine] {
        with_broken(rule, || {
            reuse(None);
            for seed in 1..40 {
                cut_power_in_transactions(seed as usize % 2, seed * 131, 120, 60);
            }
        });
    }
    with_broken(Rule::TagNamesRecord, a_tag_of_another_record_counts_as_reserved);
    with_broken(Rule::OldestFirst, || {
        cut_power_during_replay(true, None);
    });
}

/// A transaction that needs a log of its own, and others behind it, which free that log.
#[test]
fn a_log_of_one_transaction_is_no_blob_after_any_power_cut() {
    let mut random = Random(9);
    let mut medium = start(0);
    let ptr = medium.heap.alloc(3000).unwrap();
    medium.fill(ptr, 1);
    for round in 0..3 {
        medium.cut_power_during(&mut random, 300, |heap, _, _| {
            let mut changes = heap.begin().unwrap();
            change(heap, &mut changes, &[], &[], &[(ptr, vec![round + 2; 3000])]).unwrap();
            heap.tx_commit(&mut changes).unwrap();
            (Operation::Other, None::<u64>)
        });
        for _ in 0..3 {
            let step = Step::Tx(&[24], 0, 0);
            medium.cut_power_during(&mut random, 300, |heap, before, _| step.run(heap, before, 7));
        }
    }
    assert!(medium.images_opened > 1000);
}

/// Without PALLOC_SYNC a tag may be on the disk with the record that was in the log before.
#[test]
fn a_tag_of_another_record_counts_as_reserved() {
    let mut heap = start(1).heap;
    heap.medium.barriers = None;
    let mut kept_open = heap.begin().unwrap(); // the log stays where it is
    let ptrs: Vec<u64> = blobs(&heap).into_keys().collect();
    let mut first = heap.begin().unwrap();
    heap.tx_free(&mut first, ptrs[0]).unwrap();
    heap.tx_commit(&mut first).unwrap();
    assert_eq!(heap.alloc(1100).unwrap(), ptrs[0]);
    fill(&mut heap, ptrs[0], 9);
    heap.sync().unwrap();
    let synced = blobs(&heap);
    heap.medium.before_each_change = Some(Vec::new());
    let mut second = heap.begin().unwrap();
    heap.tx_store(&mut second, ptrs[1], &[7; 8]).unwrap();
    heap.tx_commit(&mut second).unwrap();
    let mut states = heap.medium.before_each_change.take().unwrap();
    states.push(heap.medium.bytes.clone());
    let images = power_cuts(&states, 5000, &mut Random(1), |image| {
        if let Ok(found) = open(image, Flags::DEFAULT) {
            assert_eq!(blobs(&found).get(&ptrs[0]), synced.get(&ptrs[0]));
        }
    });
    assert!((3..5000).contains(&images));
    heap.tx_cancel(&mut kept_open);
    closed(heap);
}

/// A medium whose power was cut behind the second barrier of a transaction, which has stored nothing yet, is opened, and the power is cut
/// again. With two records, that of the transaction before is on the disk too: its log was not taken back there yet.
fn cut_power_during_replay(two: bool, sabotage: Option<u64>) -> usize {
    let mut medium = start(1);
    let mut makes_logs = medium.heap.begin().unwrap();
    medium.heap.tx_cancel(&mut makes_logs);
    let behind_them = medium.heap.alloc(700).unwrap();
    medium.fill(behind_them, 5);
    for (i, step) in [Step::Tx(&[], 0, 2), Step::Tx(&[24], 0, 2)].into_iter().enumerate() {
        let before = blobs(&medium.heap);
        medium.heap.medium.before_each_change = Some(Vec::new());
        medium.heap.medium.barriers = Some(Vec::new());
        step.run(&mut medium.heap, &before, 0x40 + i as u8);
    }
    let after = blobs(&medium.heap);
    let states = medium.heap.medium.before_each_change.take().unwrap();
    let [first, second] = medium.heap.medium.barriers.as_ref().unwrap()[..] else { panic!("two barriers") };
    let mut image = states[second].clone();
    let tag = medium.heap.first_log_tag() as usize;
    assert_ne!(image[tag..][..8], states[first][tag..][..8]);
    if two {
        image[tag..][..8].copy_from_slice(&states[first][tag..][..8]);
    }

    let mut again = MemMedium::new(image.clone());
    again.before_each_change = Some(Vec::new());
    again.barriers = Some(Vec::new());
    again.sabotage = sabotage;
    let heap = recover::open(again, Flags::DEFAULT).unwrap().0;
    assert_eq!(blobs(&heap), after);
    let mut repaired = Durable { heap, since: vec![image], images_opened: 0, barriers: 0 };
    repaired.open_cuts_between_barriers(5000, &mut Random(3), &after, &after, &Operation::Other);
    repaired.open_cuts(5000, &mut Random(3), &after, &after, &Operation::Other);
    assert!(repaired.images_opened > 3);
    repaired.barriers
}

#[test]
fn a_power_cut_while_transactions_are_finished_by_the_next_open_loses_nothing() {
    // Before each record is taken back; before end markers are mended. (The last one is before the medium's first use.)
    for (two, needed) in [(false, vec![0, 1]), (true, vec![1, 2])] {
        let barriers = cut_power_during_replay(two, None);
        let found = |&i: &usize| {
            is_found(|| {
                cut_power_during_replay(two, Some(i as u64));
            })
        };
        assert_eq!(barriers, if two { 4 } else { 3 });
        assert_eq!((0..barriers).filter(found).collect::<Vec<_>>(), needed, "{two}");
    }
}

/// Random transactions of which every third has its n-th call fail, and as many behind that as `failures` says. Returns how many failed.
fn fail_everywhere(medium: usize, durable: bool, nth: u64, failures: u64) -> u32 {
    let mut random = Random(1000 * nth + 77 + medium as u64);
    let (size, flags, _) = MEDIA[medium];
    let mut heap = open(vec![0; size], flags).unwrap();
    heap.medium.barriers = durable.then(Vec::new);
    let mut failed = 0;
    for step in 0..200 {
        let before = blobs(&heap);
        let live: Vec<u64> = before.keys().copied().collect();
        let frees: Vec<u64> = live.iter().copied().filter(|_| random.below(6) == 0).collect();
        let stores = live
            .iter()
            .filter(|ptr| !frees.contains(ptr))
            .take(2)
            .map(|&ptr| (ptr, vec![step as u8; 8]))
            .collect::<Vec<_>>();
        let news: Vec<(u64, u8)> = (0..random.below(4)).map(|_| (random.below(400), step as u8)).collect();
        heap.medium.calls_left.set(nth);
        heap.medium.failures_left.set(if random.below(3) == 0 { failures } else { 0 });
        let result = heap.begin().and_then(|mut changes| {
            let result = change(&mut heap, &mut changes, &news, &frees, &stores);
            let result = result.and_then(|()| heap.tx_commit(&mut changes));
            if result.is_err() {
                heap.tx_cancel(&mut changes);
            }
            result
        });
        heap.medium.failures_left.set(0);
        assert!(result.is_err() || heap.failed_sync.is_none(), "a failed sync was not reported");
        if result.is_err() {
            failed += 1;
            assert_eq!(blobs(&heap), before);
        }
        assert_eq!(blobs(&open(heap.medium.bytes.clone(), flags).unwrap()), blobs(&heap));
        if heap.failed_sync.is_some() {
            heap = open(heap.medium.bytes, flags).unwrap();
            heap.medium.barriers = durable.then(Vec::new);
        }
    }
    closed(heap);
    failed
}

#[test]
fn whatever_call_fails_in_a_transaction_nothing_is_done() {
    for (durable, failures) in [(false, 1), (true, 1), (true, u64::MAX)] {
        for medium in 0..MEDIA.len() {
            let failed = (0..12).map(|nth| fail_everywhere(medium, durable, nth, failures)).sum::<u32>();
            assert!(failed > 100, "{failed}");
        }
    }
}

/// A log is no blob. So where no block is free, a program that only reads sees the log that a kill left as the free one.
#[test]
fn a_log_that_a_kill_left_is_shown_as_free_where_no_other_block_is() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let blob = heap.alloc(100).unwrap();
    let mut changes = heap.begin().unwrap();
    heap.tx_store(&mut changes, blob, &[1; 8]).unwrap();
    heap.sync().unwrap(); // cuts off the slack behind the log
    let reader = open(heap.medium.bytes.clone(), Flags::READONLY).unwrap();
    reader.check_invariants();
    assert_eq!(blobs(&reader).into_keys().collect::<Vec<_>>(), [blob]);
    assert_eq!(reader.index.first_free(), Start::NOWHERE);
    assert_eq!(reader.first_free(), blob + reader.size_of(blob).unwrap() + WORD);
    heap.tx_cancel(&mut changes);
    closed(heap);
}

#[test]
fn blocks_behind_what_48_bits_name_are_in_no_transaction() {
    let mut heap = recover::open(MemMedium::new(Vec::new()), Flags::DYNAMIC).unwrap().0;
    let mut changes = heap.begin().unwrap();
    let block = |start| Extent { start: Start::at(start), data_len: 48 };
    for start in [MAX_OFFSET, MAX_OFFSET + 64] {
        assert!(
            matches!(changes.place_of_new_free(block(start)), Err(Error::TooLarge(_))) && !changes.free(block(start))
        );
        assert!(matches!(changes.check_store(block(start), start + 8, 8), Err(Error::TooLarge(_))));
    }
    assert!(!changes.store(block(MAX_OFFSET - 16), MAX_OFFSET - 8, &[1; 8]));
    assert!(changes.store(block(MAX_OFFSET - 24), MAX_OFFSET - 16, &[1; 8]));
    assert!(changes.free(block(MAX_OFFSET - 64)));
    heap.tx_cancel(&mut changes);
}
