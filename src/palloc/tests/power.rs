// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cuts the power at every moment of operations on a durable medium, in memory. All stores before a barrier are on the disk; of
//! what was stored since, each sector is there or not, in any version that it went through, and so is the length of the file. The
//! real code opens what is left.
//!
//! Every barrier is needed: with any one left out, a power cut is found that loses something.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    Blobs, Flags, Heap, MemMedium, Operation, Random, any_operation, blobs, check_killed, closed, every_short_sequence,
    fill, is_deep, open, random_operation, recover,
};
use crate::palloc::medium::Medium;

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// The sector at `start` as it is on the disk in `states[i]`. A file that was cut may end in zeros, up to the end of its page, before
/// it is shorter; what was behind that is there until it is.
fn sector(states: &[Vec<u8>], i: usize, start: usize) -> [u8; SECTOR] {
    let state = &states[i];
    let cleared = start < state.len() / PAGE * PAGE + PAGE && state.len() % PAGE != 0;
    let state = if start < state.len() || cleared {
        state
    } else {
        states[..i].iter().rev().find(|state| start < state.len()).unwrap_or(state)
    };
    let there = state.get(start..(start + SECTOR).min(state.len())).unwrap_or_default();
    let mut bytes = [0; SECTOR];
    bytes[..there.len()].copy_from_slice(there);
    bytes
}

/// The images that a power cut leaves of a medium that went through `states` since the last barrier: every image, if there are at most `budget`
/// of them, else as many random ones. Returns how many.
pub(super) fn power_cuts(
    states: &[Vec<u8>],
    budget: usize,
    random: &mut Random,
    mut visit: impl FnMut(Vec<u8>),
) -> usize {
    let lengths: Vec<usize> = states.iter().map(Vec::len).collect::<BTreeSet<_>>().into_iter().collect();
    let longest = *lengths.last().unwrap();
    let versions: Vec<Vec<[u8; SECTOR]>> = (0..longest)
        .step_by(SECTOR)
        .map(|start| {
            let mut versions = Vec::new();
            for i in 0..states.len() {
                let version = sector(states, i, start);
                if !versions.contains(&version) {
                    versions.push(version);
                }
            }
            versions
        })
        .collect();
    let image = |len: usize, pick: &mut dyn FnMut(&[[u8; SECTOR]]) -> [u8; SECTOR]| {
        let mut image: Vec<u8> =
            versions.iter().take(len.div_ceil(SECTOR)).flat_map(|versions| pick(versions)).collect();
        image.truncate(len);
        image
    };
    // A length that cuts sectors off makes their versions meaningless: counted for each length by itself.
    let of_length = |len: usize| {
        let counts = versions.iter().take(len.div_ceil(SECTOR)).map(Vec::len);
        counts.fold(1_usize, |product, count| product.saturating_mul(count))
    };
    let all = lengths.iter().fold(0_usize, |sum, &len| sum.saturating_add(of_length(len)));
    if all <= budget {
        for &len in &lengths {
            for number in 0..of_length(len) {
                let mut number = number;
                visit(image(len, &mut |versions| {
                    let version = versions[number % versions.len()];
                    number /= versions.len();
                    version
                }));
            }
        }
        return all;
    }
    for _ in 0..budget {
        let len = lengths[random.below(lengths.len() as u64) as usize];
        // Often most of it is as it was first or last.
        let (mostly, stray) = (random.below(2) == 0, 1 + random.below(4));
        visit(image(len, &mut |versions| {
            let any = random.below(versions.len() as u64) as usize;
            let usual = if mostly { 0 } else { versions.len() - 1 };
            versions[if random.below(stray) == 0 { any } else { usual }]
        }));
    }
    budget
}

/// A durable medium, and the states that it went through since the last barrier.
pub(super) struct Durable {
    pub(super) heap: Heap<MemMedium>,
    pub(super) since: Vec<Vec<u8>>,
    pub(super) images_opened: usize,
    pub(super) barriers: usize,
}

impl Durable {
    pub(super) fn new(start: Vec<u8>, flags: Flags, exact: bool) -> Durable {
        let mut heap = open(start, flags).unwrap();
        heap.exact = exact;
        heap.medium.barriers = Some(Vec::new());
        Durable { since: vec![heap.medium.bytes.clone()], heap, images_opened: 0, barriers: 0 }
    }

    pub(super) fn open_cuts(
        &mut self,
        budget: usize,
        random: &mut Random,
        before: &Blobs,
        after: &Blobs,
        operation: &Operation,
    ) {
        self.images_opened +=
            power_cuts(&self.since, budget, random, |image| check_killed(image, before, after, operation));
    }

    /// Cuts the power between any two barriers that the medium has noted, at most `budget` times each.
    pub(super) fn open_cuts_between_barriers(
        &mut self,
        budget: usize,
        random: &mut Random,
        before: &Blobs,
        after: &Blobs,
        operation: &Operation,
    ) {
        let mut states = self.heap.medium.before_each_change.take().unwrap();
        states.push(self.heap.medium.bytes.clone());
        let mut from = 0;
        let barriers = std::mem::take(self.heap.medium.barriers.as_mut().unwrap());
        self.barriers += barriers.len();
        for barrier in barriers {
            self.since.extend_from_slice(&states[from..=barrier]);
            self.open_cuts(budget, random, before, after, operation);
            self.since = vec![states[barrier].clone()];
            from = barrier;
        }
        self.since.extend_from_slice(&states[from..]);
    }

    /// Operates, and cuts the power between any two barriers, at most `budget` times each.
    pub(super) fn cut_power_during<T>(
        &mut self,
        random: &mut Random,
        budget: usize,
        operate: impl FnOnce(&mut Heap<MemMedium>, &Blobs, &mut Random) -> (Operation, T),
    ) -> T {
        let before = blobs(&self.heap);
        self.heap.medium.before_each_change = Some(Vec::new());
        let (operation, result) = operate(&mut self.heap, &before, random);
        let after = blobs(&self.heap);
        self.open_cuts_between_barriers(budget, random, &before, &after, &operation);
        // It has returned: nothing undoes it any more.
        let returned = match operation {
            Operation::Resize(old, new) => Operation::Resized(new, before[&old].len().min(after[&new].len())),
            _ => Operation::Other,
        };
        self.open_cuts(budget, random, &after, &after, &returned);
        result
    }

    /// The program's own writes are synced, O_DSYNC, and with them what was stored before.
    pub(super) fn fill(&mut self, ptr: u64, value: u8) {
        fill(&mut self.heap, ptr, value);
        self.since = vec![self.heap.medium.bytes.clone()];
    }
}

/// Random operations on a durable medium. Returns how many images were opened.
fn cut_power_everywhere(start: Vec<u8>, flags: Flags, seed: u64, operations: u32) -> usize {
    let mut random = Random(seed);
    let mut medium = Durable::new(start, flags, seed % 2 == 0);
    for step in 0..operations {
        if let Some(ptr) = medium.cut_power_during(&mut random, 60, any_operation) {
            medium.fill(ptr, step as u8 | 1);
        }
    }
    medium.images_opened
}

#[test]
fn a_power_cut_anywhere_undoes_no_synced_operation() {
    let rounds = if is_deep() { 20 } else { 1 };
    let mut images = [0, 0];
    for round in 0..rounds {
        for seed in 1..=8 {
            images[0] += cut_power_everywhere(Vec::new(), Flags::DYNAMIC, 1000 * round + seed * 31, 250);
        }
        for size in [8 + 16 * 700, 8192, 4096, 12288, 9000 - 3] {
            images[1] += cut_power_everywhere(vec![0; size], Flags::DEFAULT, 1000 * round + size as u64, 400);
        }
    }
    println!("{images:?} images opened");
    assert!(images.iter().all(|&images| images > 10_000 * rounds as usize));
}

/// One operation of a short sequence; which blob it takes depends on those that are there.
#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc(u64),
    /// Of 512 bytes.
    Aligned(u64),
    FreeFirst,
    FreeLast,
    Resize(u64),
    Sync,
}

const STEPS: [Step; 10] = [
    Step::Alloc(24),
    Step::Alloc(700),
    Step::Aligned(64),
    Step::FreeFirst,
    Step::FreeLast,
    Step::Resize(16),
    Step::Resize(500),
    Step::Resize(1300),
    Step::Resize(1800),
    Step::Sync,
];

impl Step {
    fn run(self, heap: &mut Heap<MemMedium>, before: &Blobs) -> (Operation, Option<u64>) {
        let (first, last) = (before.keys().next(), before.keys().next_back());
        match (self, first, last) {
            (Step::Alloc(size), ..) => (Operation::Alloc, heap.alloc(size).ok()),
            (Step::Aligned(size), ..) => (Operation::Alloc, heap.alloc_aligned(512, size).ok()),
            (Step::FreeFirst, Some(&ptr), _) | (Step::FreeLast, _, Some(&ptr)) => {
                heap.free(ptr).unwrap();
                (Operation::Other, None)
            }
            (Step::Resize(size), Some(&ptr), _) => match heap.resize(ptr, size) {
                Ok(new) => (Operation::Resize(ptr, new), Some(new)),
                Err(_) => (Operation::Other, None),
            },
            (Step::Sync, ..) => {
                heap.sync().unwrap();
                (Operation::Other, None)
            }
            _ => (Operation::Other, None),
        }
    }
}

/// A medium with a free block between two blobs, each longer than a sector.
pub(super) fn short_medium(start: Vec<u8>, flags: Flags, exact: bool) -> Durable {
    let mut medium = Durable::new(start, flags, exact);
    for (i, size) in [1100, 330, 900].into_iter().enumerate() {
        let ptr = medium.heap.alloc(size).unwrap();
        medium.fill(ptr, i as u8 + 1);
    }
    let second = *blobs(&medium.heap).keys().nth(1).unwrap();
    if flags == Flags::DYNAMIC && !exact {
        // Slack that is not all zeros.
        let last = medium.heap.alloc(2000).unwrap();
        fill(&mut medium.heap, last, 4);
        medium.heap.free(last).unwrap();
    }
    medium.heap.free(second).unwrap();
    medium.since = vec![medium.heap.medium.bytes.clone()];
    medium.heap.medium.barriers = Some(Vec::new());
    medium
}

pub(super) const SHORT: [(usize, Flags, bool); 3] =
    [(0, Flags::DYNAMIC, false), (0, Flags::DYNAMIC, true), (5000, Flags::DEFAULT, false)];

/// Runs `steps`, with `sabotage` as in MemMedium, and opens every image of a power cut during the steps from `first` on.
fn cut_power_from(first: usize, medium: (usize, Flags, bool), steps: &[Step], sabotage: Option<u64>) -> Durable {
    let mut random = Random(9);
    let mut medium = short_medium(vec![0; medium.0], medium.1, medium.2);
    medium.heap.medium.sabotage = sabotage;
    for (i, step) in steps.iter().enumerate() {
        let budget = if i < first { 0 } else { 5000 };
        let filled = medium.cut_power_during(&mut random, budget, |heap, before, _| step.run(heap, before));
        if let Some(ptr) = filled {
            medium.fill(ptr, 0x40 + i as u8);
        }
    }
    medium
}

fn run_short(medium: (usize, Flags, bool), steps: &[Step], sabotage: Option<u64>) -> Durable {
    cut_power_from(0, medium, steps, sabotage)
}

#[test]
fn every_image_of_a_power_cut_in_every_short_sequence_opens() {
    let mut images = 0;
    for medium in SHORT {
        every_short_sequence(&STEPS, &mut |steps| {
            images += cut_power_from(steps.len() - 1, medium, steps, None).images_opened;
        });
    }
    println!("{images} images opened");
    assert!(images > 10_000);
}

#[test]
fn a_barrier_left_out_is_found() {
    let sequences: [(&str, usize, &[Step], usize); 13] = [
        ("free", 2, &[Step::FreeFirst], 1),
        ("free and cut the file", 1, &[Step::FreeLast], 2),
        ("allocate a part", 2, &[Step::Alloc(700)], 2),
        ("allocate inside of a block", 2, &[Step::Alloc(700), Step::Aligned(64)], 4),
        ("allocate inside of the slack", 0, &[Step::Alloc(700), Step::Aligned(64)], 4),
        ("allocate a part of the slack", 0, &[Step::Alloc(700)], 2),
        ("allocate zeros of the slack", 0, &[Step::Alloc(2200)], 1),
        ("allocate where the file grows", 1, &[Step::Alloc(700)], 2),
        ("allocate where the slack grows", 0, &[Step::FreeLast, Step::FreeLast, Step::Alloc(70_000)], 5),
        ("shrink", 2, &[Step::Resize(500)], 3),
        ("grow in place", 2, &[Step::Resize(1300)], 2),
        ("move", 2, &[Step::Resize(1800)], 3),
        ("sync, which cuts off the slack with what a blob had there", 0, &[Step::FreeLast, Step::Sync], 4),
    ];
    for (name, medium, steps, expected) in sequences {
        let barriers = run_short(SHORT[medium], steps, None).barriers;
        // The last flush of a sync orders no stores: it is for bytes that the program wrote to blobs.
        let is_sync = matches!(steps.last(), Some(Step::Sync));
        let missed: Vec<usize> = (0..barriers - usize::from(is_sync))
            .filter(|&i| {
                let sabotaged = || run_short(SHORT[medium], steps, Some(i as u64));
                catch_unwind(AssertUnwindSafe(sabotaged)).is_ok()
            })
            .collect();
        assert_eq!(barriers, expected, "{name}");
        // The first flush of a sync neither: it writes back without the lock, so that the next one, with it, is short.
        let expected: &[usize] = if is_sync { &[1] } else { &[] };
        assert_eq!(missed, expected, "{name}: a power cut finds nothing when one of these barriers is left out");
    }
}

#[test]
fn a_power_cut_while_the_end_is_given_back_loses_nothing() {
    let mut random = Random(5);
    let mut medium = Durable::new(Vec::new(), Flags::DYNAMIC, false);
    let (first, large) = (medium.heap.alloc(100).unwrap(), medium.heap.alloc(1 << 20).unwrap());
    fill(&mut medium.heap, first, 1);
    medium.fill(large, 2);
    medium.cut_power_during(&mut random, 100, |heap, _, _| (Operation::Other, heap.free(large).unwrap()));
    assert!(medium.heap.medium.file_len() < 1 << 19, "the file was cut at once");
    medium.cut_power_during(&mut random, 100, |heap, _, _| (Operation::Other, heap.sync().unwrap()));
    assert_eq!(medium.heap.medium.file_len(), 8 + 16 + 112);
}

/// A medium whose power was cut when a blob had moved and its old block was not free yet is opened, and the power is cut again.
fn cut_power_during_repair(sabotage: Option<u64>) {
    let mut moving = short_medium(vec![0; SHORT[2].0], SHORT[2].1, SHORT[2].2);
    let before = blobs(&moving.heap);
    moving.heap.medium.before_each_change = Some(Vec::new());
    let (operation, _) = Step::Resize(1800).run(&mut moving.heap, &before);
    let after = blobs(&moving.heap);
    let old_is_left = moving.heap.medium.barriers.as_ref().unwrap()[1];
    let image = moving.heap.medium.before_each_change.as_ref().unwrap()[old_is_left].clone();

    let mut medium = MemMedium::new(image.clone());
    medium.before_each_change = Some(Vec::new());
    medium.barriers = Some(Vec::new());
    medium.sabotage = sabotage;
    let heap = recover::open(medium, Flags::DEFAULT).unwrap().0;
    let mut repaired = Durable { heap, since: vec![image], images_opened: 0, barriers: 0 };
    repaired.open_cuts_between_barriers(5000, &mut Random(3), &before, &after, &operation);
    repaired.open_cuts(5000, &mut Random(3), &after, &after, &Operation::Other);
    assert!(repaired.images_opened > 3);
}

#[test]
fn a_power_cut_while_a_move_is_finished_by_the_next_open_loses_nothing() {
    cut_power_during_repair(None);
    let without_the_first_barrier = || cut_power_during_repair(Some(0));
    assert!(catch_unwind(without_the_first_barrier).is_err());
}

/// Cuts the power in any state since the last sync: the image is refused, or each synced blob is there. Returns how many images were
/// opened, and how many of them were refused.
pub(super) fn cut_power_since_sync(
    heap: &Heap<MemMedium>,
    synced: &Blobs,
    random: &mut Random,
    (seed, step): (u64, u32),
) -> (usize, usize) {
    let mut states = heap.medium.before_each_change.clone().unwrap();
    states.push(heap.medium.bytes.clone());
    let mut refused = 0;
    let opened = power_cuts(&states, 10, random, |image| match open(image, Flags::DEFAULT) {
        Err(_) => refused += 1,
        Ok(found) => {
            let found = blobs(&found);
            for (ptr, bytes) in synced {
                assert_eq!(found.get(ptr), Some(bytes), "the blob at {ptr}, seed {seed}, step {step}");
            }
        }
    });
    (opened, refused)
}

/// Works without PALLOC_SYNC and syncs now and then. A power cut leaves any mix of what was stored since: it is refused, or every blob
/// that was synced and not freed or moved since is there. Media of even seeds are dynamic. Returns how many images were opened, and how
/// many of them were refused.
pub(super) fn cut_power_between_syncs(
    seed: u64,
    operations: u32,
    mut operate: impl FnMut(&mut Heap<MemMedium>, &Blobs, &mut Random) -> (Operation, Option<u64>),
) -> (usize, usize) {
    let mut random = Random(seed);
    let (flags, size) = if seed % 2 == 0 { (Flags::DYNAMIC, 0) } else { (Flags::DEFAULT, 8 + 16 * 400) };
    let mut heap = open(vec![0; size], flags).unwrap();
    let mut synced = Blobs::new();
    let (mut opened, mut refused) = (0, 0);
    heap.medium.before_each_change = Some(Vec::new());
    for step in 0..operations {
        let before = blobs(&heap);
        let filled = operate(&mut heap, &before, &mut random).1;
        // Often a program writes less than it allocated: what was there before stays.
        if let Some(ptr) = filled.filter(|_| random.below(2) == 0) {
            fill(&mut heap, ptr, step as u8 | 1);
        }
        let after = blobs(&heap);
        synced.retain(|ptr, bytes| after.get(ptr) == Some(bytes));
        let cuts = cut_power_since_sync(&heap, &synced, &mut random, (seed, step));
        (opened, refused) = (opened + cuts.0, refused + cuts.1);
        if step % 12 == 11 {
            heap.sync().unwrap();
            synced = blobs(&heap);
            heap.medium.before_each_change = Some(Vec::new());
        }
    }
    (opened, refused)
}

#[test]
fn a_power_cut_between_two_syncs_loses_no_synced_blob() {
    let seeds = if is_deep() { 1000 } else { 100 };
    let mut total = (0, 0);
    for seed in 1..=seeds {
        let (opened, refused) = cut_power_between_syncs(seed * 17, 100, random_operation);
        total = (total.0 + opened, total.1 + refused);
    }
    println!("{total:?} images opened, and refused");
    assert!(total.0 > 20_000);
}

/// Two blobs, the second of which is behind the place where a block once began that reached beyond it.
#[test]
fn a_marker_of_a_block_that_was_joined_does_not_come_back() {
    for (flags, size) in [(Flags::DYNAMIC, 0), (Flags::DEFAULT, 8 + 16 * 400)] {
        let mut heap = open(vec![0; size], flags).unwrap();
        let old = heap.alloc(600).unwrap();
        heap.free(old).unwrap();
        let joined = heap.alloc(900).unwrap();
        let kept = heap.alloc(100).unwrap();
        fill(&mut heap, kept, 7);
        heap.free(joined).unwrap();
        heap.sync().unwrap();
        let synced = blobs(&heap);
        heap.medium.before_each_change = Some(Vec::new());
        assert_eq!(heap.alloc(600).unwrap(), old);
        let mut states = heap.medium.before_each_change.take().unwrap();
        states.push(heap.medium.bytes.clone());
        let images = power_cuts(&states, 5000, &mut Random(1), |image| {
            if let Ok(found) = open(image, Flags::DEFAULT) {
                assert_eq!(blobs(&found).get(&kept), synced.get(&kept));
            }
        });
        assert!((3..5000).contains(&images));
    }
}

/// Without PALLOC_SYNC: cuts the power before, between and after the syncs in `operate`. Every image opens, with these blobs.
fn every_cut_opens(heap: &mut Heap<MemMedium>, kept: &[u64], operate: impl FnOnce(&mut Heap<MemMedium>)) -> usize {
    let before = blobs(heap);
    heap.medium.syncs.clear();
    heap.medium.before_each_change = Some(Vec::new());
    operate(heap);
    let mut states = heap.medium.before_each_change.take().unwrap();
    states.push(heap.medium.bytes.clone());
    let syncs = std::mem::take(&mut heap.medium.syncs);
    let (mut from, mut images) = (0, 0);
    for to in syncs.into_iter().chain([states.len() - 1]) {
        images += power_cuts(&states[from..=to], 20_000, &mut Random(7), |image| {
            let found = blobs(&open(image, Flags::DEFAULT).expect("a medium whose power was cut opens"));
            for ptr in kept {
                let n = before[ptr].len();
                assert_eq!(found[ptr][..n], before[ptr][..], "the blob at {ptr}");
            }
        });
        from = to;
    }
    images
}

#[test]
fn a_power_cut_while_a_sync_cuts_the_file_leaves_a_medium_that_opens() {
    for freed in [600, 3000, 9000, 100_000] {
        for others in [[100, 100], [2000, 4500]] {
            let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
            let kept = others.map(|size| heap.alloc(size).unwrap());
            let large = heap.alloc(freed).unwrap();
            kept.into_iter().chain([large]).zip(1..).for_each(|(ptr, value)| fill(&mut heap, ptr, value));
            heap.sync().unwrap();
            let images = every_cut_opens(&mut heap, &kept, |heap| {
                heap.free(large).unwrap();
                heap.sync().unwrap();
            });
            assert!(images > 5, "{images}");
            assert_eq!(heap.medium.file_len(), heap.size());
            let images = every_cut_opens(&mut heap, &kept[..1], |heap| {
                heap.free(kept[1]).unwrap();
                heap.close().unwrap();
            });
            assert!(images > 1, "{images}");
        }
    }
}

#[test]
fn a_power_cut_after_growth_leaves_a_medium_that_opens() {
    for size in [600, 5000, 200_000] {
        let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
        let kept = [heap.alloc(100).unwrap(), heap.alloc(480).unwrap()];
        kept.into_iter().zip(1..).for_each(|(ptr, value)| fill(&mut heap, ptr, value));
        let mut heap = open(closed(heap), Flags::DEFAULT).unwrap();
        let images = every_cut_opens(&mut heap, &kept, |heap| {
            let new = heap.alloc(size).unwrap();
            fill(heap, new, 9);
        });
        assert!(images > 3, "{images}");
    }
}
