// SPDX-License-Identifier: MIT OR Apache-2.0
//! Held blocks: free on the medium, and nobody's yet.

use super::*;
use crate::palloc::format::start_of;

fn extent(heap: &Heap<MemMedium>, ptr: u64) -> Extent {
    Extent { start: start_of(ptr), data_len: heap.size_of(ptr).unwrap() }
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
        let in_use = |at: u64| held.iter().any(|(block, _)| (block.start..block.end()).contains(&at));
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

        held.iter().for_each(|&(block, _)| heap.free_held(block));
        heap.sync().unwrap();
        heap.check_invariants();
        assert_eq!(heap.stat().unwrap(), killed, "the same blocks are free in both cases");
        for ptr in live.into_iter().chain(more) {
            heap.free(ptr).unwrap();
        }
        assert_eq!(closed(heap).len(), 8);
    }
}
