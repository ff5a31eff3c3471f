// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kills the process between any two stores of any operation, in memory: the medium as it is then is opened by the real code and
//! compared with a shadow. `power` cuts the power in the same way. C tests do the same with real files and real kills. Even seeds
//! work in exact mode.

mod aligned;
mod bounds;
#[cfg(target_os = "linux")]
mod caches;
mod failing;
mod held;
mod power;
mod salvage;
mod transactions;
mod trim;
mod waiting;
mod zeroed;

use std::collections::BTreeMap;

use super::block_index::BlockIndex;
use super::format::{Extent, Marker, Request, Start, WORD};
use super::heap::Heap;
use super::medium::Medium;
use super::memory::{self, Blobs, MemMedium, blobs};
use super::{Error, Flags, Result, recover};

fn open(bytes: Vec<u8>, flags: Flags) -> Result<Heap<MemMedium>> {
    Ok(recover::open(MemMedium::new(bytes), flags)?.0)
}

/// Whether long runs are asked for, `make check-deep`.
pub(super) fn is_deep() -> bool {
    std::env::var_os("DEEP").is_some_and(|deep| !deep.is_empty())
}

/// Calls `run` with every sequence of at most three steps, or four.
pub(super) fn every_short_sequence<S: Copy>(choices: &[S], run: &mut impl FnMut(&[S])) {
    fn extend<S: Copy>(choices: &[S], more: usize, steps: &mut Vec<S>, run: &mut impl FnMut(&[S])) {
        for &step in choices {
            steps.push(step);
            run(steps);
            if more > 0 {
                extend(choices, more - 1, steps, run);
            }
            steps.pop();
        }
    }
    let longest = if is_deep() { 4 } else { 3 };
    extend(choices, longest - 1, &mut Vec::new(), run);
}

/// A small generator of fixed sequences.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn size(&mut self) -> u64 {
        match self.below(8) {
            0 | 1 => self.below(3000),
            2 => 16 * self.below(20),
            _ => self.below(200),
        }
    }
}

fn fill(heap: &mut Heap<MemMedium>, ptr: u64, value: u8) {
    let n = heap.size_of(ptr).unwrap() as usize;
    heap.medium.bytes[ptr as usize..][..n].fill(value);
}

/// The file as close leaves it.
fn closed(heap: Heap<MemMedium>) -> Vec<u8> {
    memory::closed(heap).bytes
}

enum Operation {
    Alloc,
    /// Frees one, or changes no blob.
    Other,
    /// From the blob at one offset to the blob at another.
    Resize(u64, u64),
    /// To this blob, which kept so many bytes: it has returned.
    Resized(u64, usize),
}

/// A state that a kill left opens, with the operation done or undone, and no space is lost.
fn check_killed(state: Vec<u8>, before: &Blobs, after: &Blobs, operation: &Operation) {
    let read_only = match open(state.clone(), Flags::READONLY) {
        Err(Error::Unfinished) => None, // a committed transaction has to be done first
        result => Some(result.expect("a killed medium opens for reading only")),
    };
    let heap = open(state, Flags::DEFAULT).expect("a killed medium opens");
    let found = blobs(&heap);
    read_only.iter().for_each(|read_only| assert_eq!(found, blobs(read_only)));
    let same_but = |blobs: &Blobs, but: &[u64]| {
        let others = |blobs: &Blobs| blobs.clone().into_iter().filter(|(ptr, _)| !but.contains(ptr)).collect::<Blobs>();
        found.keys().eq(blobs.keys()) && others(&found) == others(blobs)
    };
    let as_it_should = match operation {
        Operation::Other => found == *before || found == *after,
        // The bytes of a new blob are not defined.
        Operation::Alloc => {
            let new: Vec<u64> = after.keys().filter(|ptr| !before.contains_key(ptr)).copied().collect();
            found == *before || same_but(after, &new)
        }
        // Undone, with every byte, or done, with those that both sizes have.
        Operation::Resize(old, new) => {
            let kept = before[old].len().min(after[new].len());
            let is_done = || found[new].len() == after[new].len() && found[new][..kept] == before[old][..kept];
            found == *before || (same_but(after, &[*new]) && is_done())
        }
        Operation::Resized(new, kept) => same_but(after, &[*new]) && found[new][..*kept] == after[new][..*kept],
    };
    assert!(as_it_should, "before {:?}\nafter {:?}\nfound {:?}", before.keys(), after.keys(), found.keys());

    // Everything that is not live is free, and the blocks account for every byte.
    let mut heap = heap;
    for &ptr in found.keys() {
        heap.free(ptr).unwrap();
    }
    let dynamic = heap.dynamic;
    let bytes = closed(heap);
    if dynamic {
        assert!(bytes.len() == 8 || Marker(u64::from_be_bytes(bytes[8..16].try_into().unwrap())).is_free());
    } else {
        let marker = Marker(u64::from_be_bytes(bytes[8..16].try_into().unwrap()));
        assert_eq!(marker, Marker::free(bytes.len() as u64 - 24));
    }
}

/// Returns what it did, and the blob whose bytes are to be filled.
fn random_operation(heap: &mut Heap<MemMedium>, blobs: &Blobs, random: &mut Random) -> (Operation, Option<u64>) {
    let live: Vec<u64> = blobs.keys().copied().collect();
    let some = (!live.is_empty()).then(|| live[random.below(live.len().max(1) as u64) as usize]);
    match (random.below(20), some) {
        (0..=6, Some(ptr)) => {
            heap.free(ptr).unwrap();
            (Operation::Other, None)
        }
        (7..=11, Some(ptr)) => match heap.resize(ptr, random.size()) {
            Ok(new) => (Operation::Resize(ptr, new), Some(new)),
            Err(_) => (Operation::Other, None),
        },
        (12, _) => {
            heap.sync().unwrap();
            (Operation::Other, None)
        }
        _ => (Operation::Alloc, heap.alloc(random.size()).ok()),
    }
}

/// A random operation, or an aligned allocation.
fn any_operation(heap: &mut Heap<MemMedium>, blobs: &Blobs, random: &mut Random) -> (Operation, Option<u64>) {
    if random.below(20) != 0 {
        return random_operation(heap, blobs, random);
    }
    let alignment = 1 << random.below(11);
    let blob = heap.alloc_aligned(alignment, random.size()).ok();
    assert!(blob.is_none_or(|blob| blob % alignment == 0));
    (Operation::Alloc, blob)
}

/// Random operations on a medium, each killed before every one of its stores. Returns how many states were opened.
fn kill_everywhere(start: Vec<u8>, flags: Flags, seed: u64, operations: u32) -> usize {
    let mut random = Random(seed);
    let mut heap = open(start, flags).unwrap();
    heap.exact = seed % 2 == 0;
    let mut states_seen = 0;
    for step in 0..operations {
        let before = blobs(&heap);
        heap.medium.before_each_change = Some(Vec::new());
        let (operation, allocated) = match step % 5 {
            4 if !heap.exact => transactions::random_one(&mut heap, &before, &mut random),
            _ => any_operation(&mut heap, &before, &mut random),
        };
        let after = blobs(&heap);
        let mut states = heap.medium.before_each_change.take().unwrap();
        assert!(!heap.exact || heap.medium.file_len() == heap.size());
        states.push(heap.medium.bytes.clone());
        for state in states {
            states_seen += 1;
            check_killed(state, &before, &after, &operation);
        }
        if let Some(ptr) = allocated {
            fill(&mut heap, ptr, step as u8 | 1);
        }
        if random.below(50) == 0 {
            let (shadow, exact) = (blobs(&heap), heap.exact);
            heap = open(closed(heap), flags).unwrap();
            heap.exact = exact;
            assert_eq!(blobs(&heap), shadow);
        }
    }
    closed(heap);
    states_seen
}

#[test]
fn a_kill_between_any_two_stores_loses_nothing_on_a_dynamic_medium() {
    let seeds = if is_deep() { 100 } else { 6 };
    let states = (1..=seeds).map(|seed| kill_everywhere(Vec::new(), Flags::DYNAMIC, seed * 77, 250)).sum::<usize>();
    println!("{states} states opened");
    assert!(states > 5000);
}

#[test]
fn a_kill_between_any_two_stores_loses_nothing_on_a_static_medium() {
    let sizes = [8 + 16 * 500, 8000 - 3, 4096, 5000, 20011];
    assert!(
        sizes.map(|size| kill_everywhere(vec![0; size], Flags::DEFAULT, size as u64, 250)).iter().sum::<usize>() > 5000
    );
}

/// A medium as the original leaves it: blocks of any size, side by side, of which every third is free.
fn odd_medium(flags: u8, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = b"PBA\0\0\0\0".to_vec();
    bytes.push(flags);
    for i in 0..20 {
        let n = 16 + random.below(90);
        let marker = if i % 3 == 1 { Marker::free(n) } else { Marker::live(n) };
        bytes.extend(marker.0.to_be_bytes());
        bytes.extend((0..n).map(|_| random.below(256) as u8));
        bytes.extend(marker.0.to_be_bytes());
    }
    bytes
}

#[test]
fn a_kill_between_any_two_stores_loses_nothing_on_odd_media() {
    for seed in 1..=4 {
        assert!(kill_everywhere(odd_medium(0, seed), Flags::DEFAULT, seed, 200) > 200);
        assert!(kill_everywhere(odd_medium(1, seed), Flags::DEFAULT, seed, 200) > 200);
    }
}

#[test]
fn a_kill_while_a_medium_is_made_or_repaired_loses_nothing() {
    let mut untidy = odd_medium(1, 9);
    let end = untidy.len();
    untidy[end - 8..].fill(0xee); // a stale end marker
    untidy.extend([0; 100]); // growth that was not used
    for (start, flags) in [
        (Vec::new(), Flags::DYNAMIC),
        (vec![0; 3], Flags::DYNAMIC),
        (vec![0; 20], Flags::DYNAMIC),
        (vec![0; 1000], Flags::DEFAULT),
        (untidy, Flags::DEFAULT),
    ] {
        let mut medium = MemMedium::new(start.clone());
        medium.before_each_change = Some(Vec::new());
        let mut heap = recover::open(medium, flags).unwrap().0;
        let states = heap.medium.before_each_change.take().unwrap();
        assert!(!states.is_empty());
        let shadow = blobs(&heap);
        let bytes = closed(heap);
        for state in states {
            let again = open(state, flags).unwrap();
            assert_eq!(blobs(&again), shadow);
            assert_eq!(closed(again).len(), bytes.len());
        }
    }
}

#[test]
fn a_kill_while_the_end_is_given_back_loses_nothing() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let (first, large) = (heap.alloc(100).unwrap(), heap.alloc(1 << 20).unwrap());
    fill(&mut heap, first, 1);
    let before = blobs(&heap);
    heap.medium.before_each_change = Some(Vec::new());
    heap.free(large).unwrap();
    let after = blobs(&heap);
    let mut states = heap.medium.before_each_change.take().unwrap();
    assert!(heap.medium.file_len() < 1 << 19, "the file was cut at once");
    states.push(heap.medium.bytes.clone());
    for state in states {
        check_killed(state, &before, &after, &Operation::Other);
    }
}

#[test]
fn a_kill_while_the_last_blob_grows_by_a_step_on_a_full_disk_loses_nothing() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let ptr = heap.alloc(100).unwrap();
    heap.sync().unwrap();
    fill(&mut heap, ptr, 1);
    heap.medium.disk_size = 1000; // room for that, and not for what is reserved ahead
    let before = blobs(&heap);
    heap.medium.before_each_change = Some(Vec::new());
    assert_eq!(heap.resize(ptr, 128).unwrap(), ptr);
    for state in heap.medium.before_each_change.take().unwrap() {
        check_killed(state, &before, &blobs(&heap), &Operation::Resize(ptr, ptr));
    }
    closed(heap);
}

#[test]
fn a_full_disk_is_an_error_and_changes_nothing() {
    let mut medium = MemMedium::new(Vec::new());
    medium.disk_size = 5000;
    let mut heap = recover::open(medium, Flags::DYNAMIC).unwrap().0;
    let mut last = 0;
    while let Ok(ptr) = heap.alloc(100) {
        fill(&mut heap, ptr, 7);
        last = ptr;
    }
    let shadow = blobs(&heap);
    assert_eq!(shadow.len(), (5000 - 8) / 128);
    assert!(heap.alloc(100).is_err() && heap.resize(last, 400).is_err());
    assert_eq!(blobs(&heap), shadow);
    heap.free(last).unwrap();
    assert_eq!(heap.alloc(100).unwrap(), last);
    closed(heap);
}

/// Random operations of which every third has its n-th call fail, and as many behind that as `failures` says.
fn fail_everywhere(start: Vec<u8>, flags: Flags, seed: u64, durable: bool, nth: u64, failures: u64) {
    let mut random = Random(seed * 1000 + nth + 1);
    let mut heap = open(start, flags).unwrap();
    heap.exact = seed % 2 == 0;
    heap.medium.barriers = durable.then(Vec::new);
    let mut failed = 0;
    for step in 0..300 {
        if heap.failed_sync.is_some() {
            // Nothing is changed any more, and all blobs can be read.
            let before = blobs(&heap);
            let any = before.keys().next().copied().unwrap_or(0);
            for result in [heap.alloc(1).map(drop), heap.free(any), heap.resize(any, 1).map(drop), heap.sync()] {
                assert!(matches!(result, Err(Error::SyncFailed(libc::EIO))), "{result:?}");
            }
            let bytes = heap.medium.bytes.clone();
            assert!(matches!(heap.close(), Err(Error::SyncFailed(libc::EIO))));
            assert_eq!(heap.medium.bytes, bytes);
            heap = open(bytes, flags).unwrap();
            heap.exact = seed % 2 == 0;
            heap.medium.barriers = durable.then(Vec::new);
            assert_eq!(blobs(&heap), before);
        }
        if !heap.exact && step % 4 == 0 {
            leave_reserves(&mut heap);
        }
        let (before, size, stat) = (blobs(&heap), heap.size(), heap.stat().unwrap());
        let had_traces = heap.has_traces();
        let fails = random.below(3) == 0;
        heap.medium.calls_left.set(nth);
        heap.medium.failures_left.set(if fails { failures } else { 0 });
        let live: Vec<u64> = before.keys().copied().collect();
        let some = (!live.is_empty()).then(|| live[random.below(live.len() as u64) as usize]);
        let result = match (random.below(20), some) {
            (0..=6, Some(ptr)) => heap.free(ptr).map(|()| None),
            (7..=11, Some(ptr)) => heap.resize(ptr, random.size()).map(Some),
            (12, _) => heap.sync().map(|()| None),
            _ => heap.alloc(random.size()).map(Some),
        };
        heap.medium.failures_left.set(0);
        // (A blob is free on the disk before the file is cut, and if that fails it stays so.)
        let is_done = matches!(result, Ok(None)) && some.is_some_and(|ptr| !blobs(&heap).contains_key(&ptr));
        assert!(result.is_err() || is_done || heap.failed_sync.is_none(), "a failed sync was not reported");
        match result {
            Ok(Some(ptr)) => fill(&mut heap, ptr, step as u8 | 1),
            Ok(None) => {}
            Err(_) => {
                failed += 1;
                assert_eq!(blobs(&heap), before);
                // Reserves of transactions may have been freed.
                assert!(had_traces || (heap.size(), heap.stat().unwrap()) == (size, stat));
            }
        }
        assert_eq!(blobs(&open(heap.medium.bytes.clone(), flags).unwrap()), blobs(&heap));
    }
    assert!(failed > 0 || nth > 2);
    if heap.failed_sync.is_none() {
        closed(heap);
    }
}

/// The blob moves behind what was a free block, and back: that cuts the file inside of the free block.
#[test]
fn a_resize_that_fails_and_cuts_the_file_leaves_the_blobs() {
    const LAST: u64 = 300_000;
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let (first, _, last) = (heap.alloc(100).unwrap(), heap.alloc(100).unwrap(), heap.alloc(LAST).unwrap());
    fill(&mut heap, first, 1);
    let mut bytes = closed(heap);
    let marker = Marker::free(bytes.len() as u64 - last - 8).0.to_be_bytes();
    let end = bytes.len() - 8;
    bytes[last as usize - 8..last as usize].copy_from_slice(&marker);
    bytes[end..].copy_from_slice(&marker);
    let (mut failed, mut cut) = (0, 0);
    for (nth, durable) in (0..40).flat_map(|nth| [(nth, false), (nth, true)]) {
        let mut heap = open(bytes.clone(), Flags::DYNAMIC).unwrap();
        heap.medium.barriers = durable.then(Vec::new);
        let before = blobs(&heap);
        heap.medium.calls_left.set(nth);
        heap.medium.failures_left.set(1);
        let result = heap.resize(first, LAST + 1000);
        heap.medium.failures_left.set(0);
        if result.is_err() {
            (failed, cut) = (failed + 1, cut + u32::from(heap.medium.file_len() < bytes.len() as u64));
            assert_eq!(blobs(&heap), before);
            assert_eq!(blobs(&open(heap.medium.bytes.clone(), Flags::DYNAMIC).unwrap()), before);
        }
    }
    assert!(failed > 5 && cut > 0, "{failed}, {cut}");
}

/// A transaction, after which a region and a log are kept for the next, if there is room for them.
fn leave_reserves(heap: &mut Heap<MemMedium>) {
    let mut changes = heap.begin().unwrap();
    let done = heap.tx_alloc(&mut changes, 24).and_then(|_| heap.tx_commit(&mut changes));
    if done.is_err() {
        heap.tx_cancel(&mut changes);
    }
}

#[test]
fn whatever_call_fails_the_medium_is_as_it_was() {
    for (durable, failures) in [(false, 1), (true, 1), (true, u64::MAX)] {
        for nth in 0..8 {
            fail_everywhere(Vec::new(), Flags::DYNAMIC, 5, durable, nth, failures);
            fail_everywhere(Vec::new(), Flags::DYNAMIC, 10, durable, nth, failures);
            fail_everywhere(vec![0; 8000], Flags::DEFAULT, 6, durable, nth, failures);
            fail_everywhere(odd_medium(1, 3), Flags::DEFAULT, 7, durable, nth, failures);
            fail_everywhere(odd_medium(0, 4), Flags::DEFAULT, 8, durable, nth, failures);
        }
    }
}

#[test]
fn opening_a_clean_medium_writes_nothing() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let ptrs: Vec<u64> = (0..20).map(|i| heap.alloc(i * 10).unwrap()).collect();
    ptrs.iter().step_by(3).for_each(|&ptr| heap.free(ptr).unwrap());
    let mut medium = MemMedium::new(closed(heap));
    medium.before_each_change = Some(Vec::new());
    let mut heap = recover::open(medium, Flags::DEFAULT).unwrap().0;
    heap.close().unwrap();
    assert_eq!(heap.medium.before_each_change, Some(Vec::new()));
}

/// Blocks all over 8 GiB, so that the trees have all their levels, against a map and lists of those that are recent.
#[test]
fn the_index_finds_what_a_search_through_all_blocks_finds() {
    let mut random = Random(99);
    let mut index = BlockIndex::new();
    let mut free = BTreeMap::<Start, u64>::new();
    let mut recent = BTreeMap::<u64, Vec<Start>>::new();
    let mut full_stacks = 0;
    for step in 0..40_000 {
        let span: u64 = [1 << 18, 1 << 22, 1 << 29, 1 << 33][(step / 2000).min(3)];
        if random.below(3) > 0 {
            let odd = random.below(4) == 0;
            let at = 8 + random.below(span / 64) * 64 + if odd { random.below(32) } else { 0 };
            let n = if odd { 16 + random.below(2000) } else { 16 * (1 + random.below(40)) };
            let around = Start::at(at.saturating_sub(64))..Start::at(at + 64);
            if free.range(around).next().is_none() {
                let at = Start::at(at);
                index.prepare(at).unwrap();
                if random.below(2) == 0 {
                    let is_recent = index.add_recent(Extent { start: at, data_len: n });
                    let stack = recent.entry(n).or_default();
                    assert_eq!(is_recent, n % 16 == 0 && n <= 512 && stack.len() < 63);
                    full_stacks += usize::from(stack.len() == 63);
                    if is_recent {
                        stack.push(at);
                    } else {
                        index.add_free(Extent { start: at, data_len: n });
                    }
                } else {
                    index.add_free(Extent { start: at, data_len: n });
                }
                free.insert(at, n);
            }
        } else if let Some((&at, &n)) = free.range(Start::at(random.below(span))..).next() {
            let stack = recent.entry(n).or_default();
            index.remove_free(Extent { start: at, data_len: n }, |at| free[&at]);
            stack.retain(|&recent| recent != at);
            free.remove(&at);
        }
        if step % 10_000 == 9_999 {
            index.settle(|Extent { start, data_len }| {
                assert!(free[&start] == data_len && recent.get_mut(&data_len).unwrap().pop() == Some(start));
            });
            assert!(recent.values().all(Vec::is_empty));
            assert_eq!(index.first_free(), free.keys().next().copied().unwrap_or(Start::NOWHERE));
            assert!(index.free_from(0).eq(free.keys().copied()));
        }
        let size = 16 * (1 + random.below(50));
        let least = size - random.below(16);
        if step % 40 == 0 {
            let is_exact = |n: u64| n % 16 == 0 && n <= 512;
            let smallest = free.values().copied().filter(|&n| is_exact(n) && n >= size).min();
            let wanted =
                |&(_, &n): &(&Start, &u64)| smallest.map_or(!is_exact(n) && n >= least, |smallest| n == smallest);
            let fitting = || free.iter().filter(wanted).map(|(&start, &data_len)| Extent { start, data_len });
            let first = fitting().take(4).min_by_key(|block| (block.data_len, block.start));
            let last = smallest.and_then(|n| Some(Extent { start: *recent.get(&n)?.last()?, data_len: n }));
            assert_eq!(
                index.find(Request::of(least).unwrap(), |at| free[&at]).unwrap(),
                last.or(first),
                "step {step}: {size}, {least}"
            );
            if size <= 512 {
                assert_eq!(
                    index.recent(size, size + 32),
                    last.filter(|block| block.data_len <= size + 32),
                    "step {step}: {size}"
                );
            }
            if step % 10_000 == 5_000 {
                index.check_invariants(|at| free.get(&at).copied().unwrap_or(0));
            }
            assert!(if free.is_empty() {
                index.first_free() == Start::NOWHERE
            } else {
                free.contains_key(&index.first_free())
            });
        }
    }
    assert!(full_stacks > 0);
}

/// A blob between two others is freed by one store and handed out again by one, whatever stands in the end marker meanwhile; close
/// leaves all end markers right.
#[test]
fn the_blob_freed_last_is_the_first_to_be_handed_out_by_one_store_each() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let ptrs: Vec<u64> = (0..100).map(|_| heap.alloc(100).unwrap()).collect();
    heap.medium.before_each_change = Some(Vec::new());
    for i in [80, 40, 60] {
        heap.free(ptrs[i]).unwrap();
        assert!(matches!(heap.free(ptrs[i]), Err(Error::NoBlob(_))));
    }
    assert_eq!(heap.medium.before_each_change.as_ref().unwrap().len(), 3);
    assert_eq!((heap.alloc(112).unwrap(), heap.alloc(70).unwrap()), (ptrs[60], ptrs[40]));
    assert_eq!(heap.medium.before_each_change.as_ref().unwrap().len(), 5);
    assert_eq!(heap.first_free(), ptrs[80] - WORD);
    assert_eq!(heap.alloc(112).unwrap(), ptrs[80]);
    assert_eq!(heap.first_free(), 0);
    heap.free(ptrs[41]).unwrap();
    assert_eq!(heap.first_free(), ptrs[41] - WORD);
    heap.free(ptrs[80]).unwrap();
    heap.sync().unwrap();
    assert_eq!(heap.first_free(), ptrs[41] - WORD);
    assert_eq!(blobs(&heap).len(), 98);
    closed(heap);
}

/// Also where the block before is free, so that none begins where the freed blob was.
#[test]
fn next_goes_on_from_any_number() {
    let mut heap = open(vec![0; 1 << 17], Flags::DEFAULT).unwrap();
    let ptrs: Vec<u64> = (0..300).map(|i| heap.alloc(i * 7 % 400).unwrap()).collect();
    for (i, &ptr) in ptrs.iter().enumerate().filter(|(i, _)| i % 5 != 0) {
        heap.free(ptr).unwrap();
        let later = ptrs[i..].iter().find(|&&later| later > ptr);
        assert_eq!(heap.next(ptr).unwrap(), later.map_or(0, |&later| later));
    }
    let live: Vec<u64> = ptrs.iter().step_by(5).copied().collect();
    for ptr in (0..1 << 17).chain([u64::MAX, u64::MAX - 8, 1 << 63, 1 << 47]) {
        let next = live.iter().find(|&&live| live > ptr).copied().unwrap_or(0);
        assert_eq!(heap.next(ptr).unwrap(), next, "above {ptr}");
    }
}

#[test]
fn an_overwritten_marker_is_reported_and_not_followed() {
    for n in [64, 1024] {
        let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
        let ptrs: Vec<u64> = (0..100).map(|_| heap.alloc(n).unwrap()).collect();
        for i in [1, 50] {
            overwrite_marker(&mut heap, &ptrs[i - 1..], n);
        }
        closed(heap);
    }
}

fn overwrite_marker(heap: &mut Heap<MemMedium>, ptrs: &[u64], n: u64) {
    let place = ptrs[1] - WORD;
    let next = 2 * n + 16; // up to the end of the next blob
    for word in [0, 15, n - 1, n | 1 << 63, n + 16, next, 1 << 40, u64::MAX, u64::MAX >> 1] {
        let before = heap.medium.load(place);
        heap.medium.store(place, word);
        let size_of_next = heap.next(ptrs[0]).and_then(|ptr| heap.size_of(ptr)).map(drop);
        let is_reported =
            |result: &Result<()>| matches!(result, Err(Error::Damaged { offset, .. }) if *offset == place);
        // A walk does not read the end markers of large blocks.
        assert!(is_reported(&size_of_next) || (n > 512 && word == next), "{word:#x}: {size_of_next:?}");
        for result in [heap.free(ptrs[1]), heap.resize(ptrs[1], n / 2).map(drop)] {
            assert!(is_reported(&result), "{word:#x}: {result:?}");
        }
        heap.medium.store(place, before);

        heap.free(ptrs[1]).unwrap();
        heap.medium.store(place, word);
        let result = heap.alloc(n).map(drop);
        assert!(is_reported(&result) || word == n | 1 << 63, "{word:#x}: {result:?}");
        heap.medium.store(place, n | 1 << 63);
        if result.is_err() {
            assert_eq!(heap.alloc(n).unwrap(), ptrs[1]);
        }
        heap.medium.store(place, before);
    }
}
