// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single calls that fail inside of operations, and markers that are overwritten between two: where random operations seldom come to.

use super::*;
use crate::palloc::Palloc;
use crate::palloc::block_index::State;
use crate::palloc::format::OVERHEAD;
use crate::palloc::heap::Changes;

const MOST_CALLS: u64 = 60;
/// So long that slack is cut when a blob like this is freed at the end.
const LONG: u64 = 300_000;

/// Runs `operation` on what `prepare` returns, with each of its calls failing, `failures` at once. If it fails, all blobs are as they were;
/// a kill then leaves what there is; and what is allocated later is sound. Returns how often it failed, and after how many failed syncs.
fn fail_each(
    failures: u64,
    prepare: impl Fn() -> Heap<MemMedium>,
    operation: impl Fn(&mut Heap<MemMedium>) -> Result<()>,
) -> (u32, u32) {
    let (mut failed, mut unsynced) = (0, 0);
    for nth in 0..MOST_CALLS {
        let mut heap = prepare();
        let before = blobs(&heap);
        heap.medium.calls_left.set(nth);
        heap.medium.failures_left.set(failures);
        let result = operation(&mut heap);
        heap.medium.failures_left.set(0);
        let after = blobs(&heap);
        let again = open(heap.medium.bytes.clone(), Flags::DEFAULT).unwrap();
        assert_eq!(blobs(&again), after, "call {nth}, killed");
        if let Err(error) = &result {
            failed += 1;
            assert_eq!(after, before, "call {nth}: {error}");
            heap.check_invariants();
        }
        if heap.failed_sync.is_some() {
            unsynced += 1;
            assert!(matches!(heap.close(), Err(Error::SyncFailed(_))));
            continue;
        }
        for size in [96, 16, 80, 500, 3000, 96, 16, 80] {
            if let Ok(ptr) = heap.alloc(size) {
                fill(&mut heap, ptr, 99);
                heap.check_invariants();
            }
        }
        for (ptr, bytes) in after {
            let n = bytes.len();
            assert_eq!(heap.medium.bytes[ptr as usize..][..n], bytes);
        }
        closed(heap);
    }
    (failed, unsynced)
}

/// A dynamic medium with blobs of these sizes.
fn with_blobs(durable: bool, sizes: &[u64]) -> (Heap<MemMedium>, Vec<u64>) {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    heap.medium.barriers = durable.then(Vec::new);
    let made: Vec<u64> = sizes.iter().map(|&size| heap.alloc(size).unwrap()).collect();
    for (&ptr, value) in made.iter().zip(1..) {
        fill(&mut heap, ptr, value);
    }
    (heap, made)
}

/// A closed dynamic medium that ends in a free block of so many bytes, as other programs leave it.
fn ends_in_free(sizes: &[u64], last: u64) -> Vec<u8> {
    let (mut heap, _) = with_blobs(false, sizes);
    let ptr = heap.alloc(last).unwrap();
    let n = heap.size_of(ptr).unwrap();
    let mut bytes = closed(heap);
    for at in [ptr - WORD, ptr + n] {
        bytes[at as usize..][..8].copy_from_slice(&Marker::free(n).0.to_be_bytes());
    }
    bytes
}

fn overwrite(heap: &mut Heap<MemMedium>, ptr: u64) {
    heap.medium.bytes[ptr as usize - 8..ptr as usize].fill(0xee);
}

/// A recent block at the end of the file has a free block's end marker before the file grows. If that fails, it is not recent any more.
#[test]
fn growth_that_fails_leaves_no_recent_block_with_the_end_marker_of_a_free_one() {
    let bytes = ends_in_free(&[16; 3], 16 + OVERHEAD + 96);
    for failures in [1, 2] {
        let prepare = || {
            let mut heap = open(bytes.clone(), Flags::DYNAMIC).unwrap();
            let ptr = heap.alloc(16).unwrap();
            fill(&mut heap, ptr, 5);
            assert_eq!(heap.medium.file_len(), ptr + 24 + OVERHEAD + 96, "there is a free block at the end");
            heap
        };
        let (failed, unsynced) = fail_each(failures, prepare, |heap| heap.alloc(300).map(drop));
        assert!(failed >= 2 && unsynced >= 1, "{failed}, {unsynced}");
    }
}

/// An allocation fails behind its growth, so there is slack behind a free block. Then the last blob grows over both; that fails, and so do
/// the cut that takes it back, and moving the blob to a free block.
#[test]
fn growth_over_slack_that_can_t_be_taken_back_leaves_slack_with_the_marker_of_its_length() {
    let bytes = ends_in_free(&[LONG + 100, 16, 16], 16 + OVERHEAD + 96);
    let mut failed = 0;
    for first in 0..MOST_CALLS {
        let prepare = || {
            let mut heap = open(bytes.clone(), Flags::DYNAMIC).unwrap();
            heap.medium.calls_left.set(first);
            heap.medium.failures_left.set(1);
            let _ = heap.alloc(300);
            heap.medium.failures_left.set(0);
            let front = heap.first().unwrap();
            heap.free(front).map(|()| heap)
        };
        let Ok(heap) = prepare() else { continue };
        let last = *blobs(&heap).last_key_value().unwrap().0;
        let last_end = last + heap.size_of(last).unwrap() + WORD;
        if last_end < heap.size() && heap.size() < heap.medium.file_len() {
            let grow = |heap: &mut Heap<MemMedium>| heap.resize(last, LONG).map(|new| fill(heap, new, 7));
            failed += fail_each(3, || prepare().unwrap(), grow).0;
        }
    }
    assert!(failed >= 4, "{failed}");
}

/// The flush before growth fails: the blob is not moved instead, to a place that there is.
#[test]
fn a_blob_that_can_t_grow_in_place_after_a_failed_sync_is_not_moved() {
    for durable in [false, true] {
        let prepare = || {
            let (mut heap, made) = with_blobs(durable, &[LONG, 100, 100, 60_000]);
            heap.free(made[3]).unwrap();
            heap.free(made[0]).unwrap();
            heap
        };
        let grow = |heap: &mut Heap<MemMedium>| {
            let last = blobs(heap).into_keys().next_back().unwrap();
            let new = heap.resize(last, 250_000)?;
            fill(heap, new, 7);
            assert!(heap.failed_sync.is_none());
            Ok(())
        };
        let (failed, unsynced) = fail_each(1, prepare, grow);
        assert!(failed >= 1 && unsynced >= 1, "{failed}, {unsynced}");
    }
}

/// Frees these in one transaction.
fn free_all(heap: &mut Heap<MemMedium>, ptrs: &[u64]) -> Result<()> {
    let mut changes = heap.begin()?;
    let result = ptrs.iter().try_for_each(|&ptr| heap.tx_free(&mut changes, ptr));
    let result = result.and_then(|()| heap.tx_commit(&mut changes));
    if result.is_err() {
        heap.tx_cancel(&mut changes);
    }
    result
}

/// Freeing the last blob cuts the file, which flushes. If that fails, whatever freed it stops there.
#[test]
fn a_cut_whose_flush_fails_is_the_last_store_of_an_operation() {
    type Work = fn(&mut Heap<MemMedium>, &[u64]) -> Result<()>;
    let works: [Work; 10] = [
        |heap, ptrs| heap.free(ptrs[4]),
        |heap, ptrs| free_all(heap, &[ptrs[4], ptrs[1], ptrs[3]]),
        |heap, ptrs| heap.resize(ptrs[4], 100).map(drop),
        |heap, ptrs| free_all(heap, &ptrs[3..]).and_then(|()| heap.free(ptrs[1])),
        |heap, ptrs| free_all(heap, &ptrs[3..]).and_then(|()| heap.alloc(3000).map(drop)),
        |heap, ptrs| free_all(heap, &ptrs[3..]).and_then(|()| heap.resize(ptrs[1], 3000).map(drop)),
        |heap, ptrs| free_all(heap, &ptrs[3..]).and_then(|()| free_all(heap, &[ptrs[1], ptrs[0]])),
        |heap, ptrs| free_all(heap, &ptrs[3..]).and_then(|()| heap.alloc(1 << 40).map(drop)),
        |heap, ptrs| free_all(heap, &ptrs[3..]).and_then(|()| heap.sync()),
        |heap, ptrs| {
            let mut changes = heap.begin()?;
            let result = heap.tx_free(&mut changes, ptrs[3]).and_then(|()| heap.tx_alloc(&mut changes, LONG));
            heap.tx_cancel(&mut changes);
            result.and_then(|_| heap.free(ptrs[4])).and_then(|()| heap.alloc(1 << 40)).map(drop)
        },
    ];
    for durable in [false, true] {
        let mut cuts = 0;
        for (number, work) in works.iter().enumerate() {
            for nth in 0..MOST_CALLS {
                let (mut heap, mut ptrs) = with_blobs(durable, &[100, 100, 100, 3000, 100]);
                free_all(&mut heap, &ptrs[4..]).unwrap(); // so the logs are in front of the last blob
                ptrs[4] = heap.alloc(LONG).unwrap();
                heap.medium.calls_left.set(nth);
                heap.medium.failures_left.set(1);
                let result = work(&mut heap, &ptrs);
                heap.medium.failures_left.set(0);
                let Some((stores, true)) = heap.medium.since_failed_flush else { continue };
                cuts += 1;
                // The start marker of the slack; and without barriers a commit, or the free, is done.
                let most = if durable { 1 } else { 2 };
                assert!(stores <= most, "work {number}, call {nth}: {stores} stores, {result:?}");
                let found = blobs(&heap);
                assert_eq!(blobs(&open(heap.medium.bytes.clone(), Flags::DEFAULT).unwrap()), found);
            }
        }
        assert!(cuts > 8, "{cuts}");
    }
}

/// As with random ones, for aligned blobs.
#[test]
fn whatever_call_of_an_aligned_allocation_fails_the_medium_is_as_it_was() {
    let sizes = [100, 3000, 100, 100];
    let at = with_blobs(false, &sizes).1[1];
    let to_its_end = at + 3008 - (at + 64).next_multiple_of(512);
    // In the slack; in the middle of a free block; up to the end of that; and in slack where a blob was.
    for (durable, (freed, size)) in [(None, 700), (Some(1), 700), (Some(1), to_its_end), (Some(3), 700)]
        .into_iter()
        .flat_map(|case| [(false, case), (true, case)])
    {
        let prepare = || {
            let (mut heap, made) = with_blobs(durable, &sizes);
            freed.iter().for_each(|&i: &usize| heap.free(made[i]).unwrap());
            heap
        };
        let (failed, unsynced) = fail_each(1, prepare, |heap| {
            let result = heap.alloc_aligned(512, size).map(drop);
            if result.is_err() && freed == Some(1) {
                let marker = heap.medium.start_marker(Start::of_blob(at));
                assert!(marker.is_free() && heap.medium.load(at + marker.data_len()) == marker.0);
            }
            result
        });
        assert!(failed >= 1 && (!durable || unsynced >= 1), "{failed}, {unsynced}");
    }
}

fn shared(durable: bool, sizes: &[u64]) -> (Heap<MemMedium>, Vec<u64>) {
    let (mut heap, made) = with_blobs(durable, sizes);
    heap.medium.epoch = Some(1);
    heap.begin_sharing().unwrap();
    (heap, made)
}

/// Held blocks that can't be freed now: a call fails, or their markers were overwritten.
#[test]
fn whatever_call_fails_when_held_blocks_are_freed_the_blobs_are_as_they_were() {
    type End = fn(&mut Heap<MemMedium>) -> Result<()>;
    let ends: [End; 3] = [
        |heap| {
            heap.reclaim(true);
            heap.check_synced()
        },
        |heap| heap.close(),
        |heap| heap.alloc(1 << 40).map(drop),
    ];
    let kinds =
        [(false, false, false), (false, false, true), (false, true, false), (true, false, false), (true, true, false)];
    for (durable, unlisted, are_ready) in kinds {
        let mut unsynced = 0;
        for end in ends {
            for nth in 0..MOST_CALLS {
                let (mut heap, made) = shared(durable, &[16, 100, 16, 3000, 100, 100, 100, 100, LONG]);
                for i in [1, 2, 3, 6, 8] {
                    if i == 8 && are_ready {
                        heap.reclaim(false);
                    }
                    heap.free(made[i]).unwrap();
                }
                if unlisted {
                    heap.held.forget_list();
                }
                let before = blobs(&heap);
                heap.medium.calls_left.set(nth);
                heap.medium.failures_left.set(1);
                let result = end(&mut heap);
                heap.medium.failures_left.set(0);
                assert!(result.is_err() || heap.failed_sync.is_none(), "a failed sync was not reported");
                assert_eq!(blobs(&heap), before);
                let mut again = open(heap.medium.bytes.clone(), Flags::DEFAULT).unwrap();
                assert_eq!(blobs(&again), before);
                if heap.failed_sync.is_some() {
                    unsynced += 1;
                    // A marker is taken back, that of the slack is stored, or both.
                    let stores = heap.medium.since_failed_flush;
                    assert!(stores.is_some_and(|(stores, _)| stores <= 2), "call {nth}: {stores:?}");
                } else if heap.medium.is_shared() {
                    std::mem::swap(&mut heap, &mut again);
                }
                // No block is lost: all become one, or nothing.
                made.iter().for_each(|&ptr| drop(again.free(ptr)));
                let bytes = closed(again);
                let is_one = |bytes: &[u8]| bytes[8..16] == Marker::free(bytes.len() as u64 - 24).0.to_be_bytes();
                assert!(bytes.len() == 8 || is_one(&bytes), "call {nth}");
            }
        }
        assert!(unsynced > 2, "{unsynced}");
    }
}

#[test]
fn a_held_block_whose_marker_was_overwritten_stays_held_and_is_given_to_nobody() {
    for (unlisted, is_ready) in [(false, false), (true, false), (false, true)] {
        let (mut heap, made) = shared(false, &[100; 5]);
        heap.free(made[1]).unwrap();
        heap.free(made[3]).unwrap();
        if unlisted {
            heap.held.forget_list();
        }
        if is_ready {
            heap.reclaim(false);
        }
        overwrite(&mut heap, made[1]);
        heap.reclaim(!is_ready);
        let got: Vec<u64> = (0..8).map(|_| heap.alloc(100).unwrap()).collect();
        assert!(!got.contains(&made[1]) && (got.contains(&made[3]) || unlisted), "{got:?}");
        assert_eq!(heap.index.state(Start::of_blob(made[1])), Some(State::Held));
    }
}

#[test]
fn sharing_begins_iff_all_blobs_are_sound_and_have_space() {
    let (mut heap, made) = with_blobs(false, &[100; 3]);
    heap.medium.epoch = Some(1);
    heap.medium.failures_left.set(1);
    assert!(matches!(heap.begin_sharing(), Err(Error::System { .. })));
    heap.begin_sharing().unwrap();
    overwrite(&mut heap, made[1]);
    assert!(matches!(heap.begin_sharing(), Err(Error::Damaged { .. })));
}

/// Readers see the old first blob, which they may read, if the way to the next one is damaged.
#[test]
fn the_first_blob_stays_known_to_readers_if_the_next_is_not_found() {
    let (mut heap, made) = shared(false, &[100; 4]);
    heap.free(made[2]).unwrap();
    overwrite(&mut heap, made[2]);
    for ptr in &made[..2] {
        heap.free(*ptr).unwrap();
        assert_eq!(heap.medium.first.get(), made[1]);
    }
}

/// A transaction that changes nothing, one that is too long for the log that all share, and one whose region was overwritten.
#[test]
fn transactions_that_change_nothing_are_long_or_find_damage() {
    for durable in [false, true] {
        let (mut heap, made) = with_blobs(durable, &[3000; 40]);
        let before = blobs(&heap);
        let mut changes = heap.begin().unwrap();
        heap.tx_commit(&mut changes).unwrap();
        assert_eq!(blobs(&heap), before);

        let store = |heap: &mut Heap<MemMedium>, changes: &mut Changes| {
            made.iter().try_for_each(|&ptr| heap.tx_store(changes, ptr, &[77; 2000]))
        };
        let mut changes = heap.begin().unwrap();
        store(&mut heap, &mut changes).unwrap();
        heap.tx_cancel(&mut changes);
        assert_eq!(blobs(&heap), before);

        // There is space for a log of this length only, or for none.
        let len = heap.medium.file_len();
        for more in [0, 20_000, 90_000, 130_000, 200_000] {
            heap.medium.disk_size = len + more;
            let mut changes = heap.begin().unwrap();
            let stored = store(&mut heap, &mut changes);
            assert!(stored.is_ok() || more < 200_000, "{more}: {stored:?}");
            heap.tx_cancel(&mut changes);
            assert_eq!(blobs(&heap), before);
        }
        heap.medium.disk_size = u64::MAX;

        let mut changes = heap.begin().unwrap();
        let ptr = heap.tx_alloc(&mut changes, 100).unwrap();
        overwrite(&mut heap, ptr);
        assert!(matches!(heap.tx_commit(&mut changes), Err(Error::Damaged { .. })));
    }
}

/// The chain leads to where no block begins.
#[test]
fn a_walk_along_an_overwritten_marker_stops_with_the_place() {
    for (is_held, size, wrong) in [(false, 100, 48), (true, 100, 48), (false, 5000, 3008), (true, 5000, 3008)] {
        let sizes = [size; 4];
        let (mut heap, made) = if is_held { shared(false, &sizes) } else { with_blobs(false, &sizes) };
        heap.free(made[1]).unwrap();
        heap.medium.store(made[1] - WORD, Marker::free(wrong).0);
        let found = heap.next(made[0]);
        let place = made[1] - WORD..made[2] - WORD;
        assert!(matches!(found, Err(Error::Damaged { offset, .. }) if place.contains(&offset)), "{found:?}");
        assert_eq!(heap.next(made[2]).unwrap(), made[3], "behind the damage");
    }
}

/// No range that a program or a medium names gets so far.
#[test]
fn an_access_outside_of_a_mapped_medium_panics() {
    let directory = tempfile::tempdir().unwrap();
    let medium = Palloc::open(directory.path().join("medium"), Flags::DYNAMIC).unwrap();
    medium.alloc(100).unwrap();
    let heap = medium.lock();
    let end = heap.medium.file_len();
    for (at, len) in [(end, 8), (end - 7, 8), (u64::MAX - 7, 8), (0, end + 1), (8, u64::MAX)] {
        let access = std::panic::AssertUnwindSafe(|| heap.medium.address(at, len));
        let text = std::panic::catch_unwind(access).expect_err("it panics").downcast::<String>().unwrap();
        assert_eq!(*text, format!("range {at}+{len} of a medium of {end} bytes"));
    }
}

/// What other calls of the same group return, and errors that no call of the interface shows.
#[test]
fn errors_have_texts_and_are_told_to_each_waiting_thread() {
    let source = std::io::Error::from_raw_os_error(libc::ENOSPC);
    let error = Error::System { doing: "write", source };
    assert_eq!(error.duplicate().to_string(), error.to_string());
    assert!(matches!(Error::Busy.duplicate(), Error::SyncFailed(libc::EIO)));
    let own = Error::System { doing: "write", source: std::io::ErrorKind::WriteZero.into() };
    assert!(own.to_string().starts_with("write: ") && own.duplicate().to_string() == own.to_string());
    assert!(Error::Held.to_string().contains("held") && Error::Busy.to_string().contains("another thread"));
}

/// An allocation for which held blocks are freed, and the flush of one of them fails: it does not go on to a block that was freed before.
#[test]
fn an_allocation_stores_nothing_after_freeing_held_blocks_failed() {
    let mut failed = 0;
    for nth in 0..MOST_CALLS {
        let (mut heap, made) = shared(true, &[LONG, 100, 3000, 100, 3000, 100]);
        for i in [0, 2, 3] {
            heap.free(made[i]).unwrap();
        }
        heap.medium.calls_left.set(nth);
        heap.medium.failures_left.set(1);
        let result = heap.alloc(LONG - 1000);
        heap.medium.failures_left.set(0);
        if heap.failed_sync.is_some() {
            failed += 1;
            assert!(matches!(result, Err(Error::SyncFailed(_) | Error::System { .. })));
            let (stores, _) = heap.medium.since_failed_flush.unwrap();
            assert!(stores <= 3, "call {nth}: {stores} stores, more than it takes to undo one operation");
        }
    }
    assert!(failed > 2, "{failed}");
}

/// A cut at the end of a page leaves slack that is a block, though the last block ends just before it: the next step may fail.
#[test]
fn a_sync_that_fails_leaves_no_slack_that_is_no_block() {
    const PAGE: u64 = 64 << 10;
    for (durable, before_page_end) in [8, 24, 40, 56].into_iter().flat_map(|n| [(false, n), (true, n)]) {
        let prepare = || {
            let (mut heap, made) = with_blobs(durable, &[PAGE - 24 - before_page_end, 100_000]);
            heap.free(made[1]).unwrap();
            assert_eq!(heap.size(), PAGE - before_page_end);
            assert!(heap.medium.file_len() > PAGE);
            heap
        };
        let (failed, _) = fail_each(1, prepare, |heap| heap.sync());
        assert!(failed > 2, "{failed}");
    }
}

/// Growth fails, and so does the cut that takes it back. The next growth fails, too.
#[test]
fn growth_that_fails_and_is_not_taken_back_leaves_a_medium_that_opens() {
    let bytes = ends_in_free(&[100; 3], 5000);
    let mut failed = 0;
    for (first, second, failures) in (0..8).flat_map(|n| (0..8).flat_map(move |m| (1..4).map(move |k| (n, m, k)))) {
        let mut heap = open(bytes.clone(), Flags::DYNAMIC).unwrap();
        let before = blobs(&heap);
        let last = *before.keys().next_back().unwrap();
        for (nth, failures, size) in [(first, failures, 30_000), (second, 1, 300_000)] {
            heap.medium.calls_left.set(nth);
            heap.medium.failures_left.set(failures);
            // The first one uses the free block and what is behind it, the second one begins at the last blob.
            let result = if size < 300_000 { heap.alloc(size) } else { heap.resize(last, size) };
            heap.medium.failures_left.set(0);
            failed += u32::from(result.is_err());
            let again = open(heap.medium.bytes.clone(), Flags::DEFAULT);
            assert_eq!(blobs(&again.unwrap()), blobs(&heap), "{first}, {second}, {failures}");
            assert!(result.is_ok() || blobs(&heap).keys().take(3).eq(before.keys()));
        }
    }
    assert!(failed > 100, "{failed}");
}

/// In exact mode growth behind a last free block fails, and so does the cut that takes it back: what is left is too short for a block.
#[test]
fn growth_that_fails_in_exact_mode_leaves_a_medium_that_opens() {
    let bytes = ends_in_free(&[100; 3], 48);
    for (durable, failures) in (1..6).flat_map(|n| [(false, n), (true, n)]) {
        for size in [64, 80, 600] {
            let prepare = || {
                let mut heap = open(bytes.clone(), Flags::DYNAMIC).unwrap();
                heap.medium.barriers = durable.then(Vec::new);
                heap.exact = true;
                heap
            };
            let (failed, _) = fail_each(failures, prepare, |heap| heap.alloc(size).map(drop));
            assert!(failed > 0, "{failures}, {size}");
        }
    }
}
