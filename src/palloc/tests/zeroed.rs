// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blobs of zeros are zeros before the chain leads to them, on the disk too.

use super::*;

/// A static medium whose free blocks hold old bytes, some of them of just the size that is asked for.
fn used_medium(durable: bool) -> Heap<MemMedium> {
    let mut medium = MemMedium::new(vec![0; 8 + 32 * 200]);
    medium.barriers = durable.then(Vec::new);
    let (mut heap, _) = recover::open(medium, Flags::DEFAULT).unwrap();
    let blobs: Vec<u64> = (0..20).map(|_| heap.alloc(112).unwrap()).collect();
    for &ptr in &blobs {
        fill(&mut heap, ptr, 0xee);
    }
    for &ptr in blobs.iter().step_by(3) {
        heap.free(ptr).unwrap();
    }
    heap
}

#[test]
fn a_kill_leaves_zeros_or_no_blob() {
    for (exact, growing, size) in [(false, false, 112), (false, false, 60), (true, true, 700), (false, true, 700)] {
        let mut heap = used_medium(false);
        heap.exact = exact;
        heap.dynamic = growing;
        while growing && heap.size() > 2000 {
            let last = *blobs(&heap).last_key_value().unwrap().0;
            heap.free(last).unwrap();
        }
        let before = blobs(&heap);
        heap.medium.before_each_change = Some(Vec::new());
        let ptr = heap.alloc_zeroed(size).unwrap();
        let states = heap.medium.before_each_change.take().unwrap();
        assert!(blobs(&heap)[&ptr].iter().all(|&byte| byte == 0));
        let mut done = 0;
        for state in states.into_iter().chain([heap.medium.bytes.clone()]) {
            let found = blobs(&open(state, Flags::DEFAULT).unwrap());
            if let Some(bytes) = found.get(&ptr) {
                assert!(bytes.iter().all(|&byte| byte == 0), "{bytes:?}");
                done += 1;
            } else {
                assert_eq!(found, before);
            }
        }
        assert!(done > 0);
    }
}

/// A medium whose last blob was freed: the slack begins with its old bytes, and has zeros behind them.
fn medium_with_used_slack() -> Heap<MemMedium> {
    let mut medium = MemMedium::new(Vec::new());
    medium.barriers = Some(Vec::new());
    let (mut heap, _) = recover::open(medium, Flags::DYNAMIC).unwrap();
    heap.alloc(100).unwrap();
    let last = heap.alloc(1000).unwrap();
    fill(&mut heap, last, 0xee);
    heap.free(last).unwrap();
    heap
}

/// A whole free block, a part of one, a part of the slack with old bytes behind it, and one with only zeros behind it. Some of them have no
/// other barrier before the blob is published.
#[test]
fn zeros_are_on_the_disk_before_the_blob_is() {
    let media = [
        (used_medium(true), 112),
        (used_medium(true), 60),
        (medium_with_used_slack(), 500),
        (medium_with_used_slack(), 2000),
    ];
    for (mut heap, size) in media {
        heap.medium.before_each_change = Some(Vec::new());
        heap.medium.barriers = Some(Vec::new());
        let ptr = heap.alloc_zeroed(size).unwrap();
        let mut states = heap.medium.before_each_change.take().unwrap();
        let start = (ptr - WORD) as usize;
        // The file may have grown on the way.
        states.iter_mut().for_each(|state| state.resize(heap.medium.bytes.len(), 0));
        let marker_of = |state: &Vec<u8>| Marker(u64::from_be_bytes(state[start..][..8].try_into().unwrap()));
        let is_clear = |state: &Vec<u8>| state[ptr as usize..][..size as usize].iter().all(|&byte| byte == 0);
        let is_published = |state: &Vec<u8>| !marker_of(state).is_free() && marker_of(state).data_len() > 0;
        let committed = states.iter().position(is_published).unwrap_or(states.len());
        let cleared = states.iter().position(is_clear).unwrap();
        assert!(cleared < committed, "cleared before change {cleared}, committed before {committed}");
        let barriers = heap.medium.barriers.as_ref().unwrap();
        assert!(
            barriers.iter().any(|at| (cleared..committed).contains(at)),
            "{size}: {barriers:?}, {cleared}, {committed}"
        );
    }
}

#[test]
fn the_root_is_at_the_lowest_place_or_is_not_made() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let mut changes = heap.begin().unwrap();
    assert!(matches!(heap.root(40), Err(Error::RootInTransaction)));
    heap.tx_cancel(&mut changes);
    // The logs of transactions stay at the beginning; the root must not be behind them.
    assert_eq!(heap.root(40).unwrap(), 16);
    assert_eq!(heap.root(48).unwrap(), 16);
    assert!(matches!(heap.root(49), Err(Error::RootTooShort { ptr: 16, len: 48, size: 49 })));
    let other = heap.alloc(10).unwrap();
    heap.free(16).unwrap();
    assert_eq!(heap.root(1).unwrap(), other);
    closed(heap);
}
