// SPDX-License-Identifier: MIT OR Apache-2.0
//! Aligned blobs: where they start, and what stays free around them. Kills and power cuts are in the random operations of the others.

use super::*;

fn is_aligned(heap: &mut Heap<MemMedium>, alignment: u64, size: u64) -> u64 {
    let ptr = heap.alloc_aligned(alignment, size).unwrap();
    assert_eq!(ptr % alignment, 0, "{ptr}, {alignment}");
    assert!(heap.size_of(ptr).unwrap() >= size);
    heap.check_invariants();
    ptr
}

#[test]
fn every_alignment_and_size_is_kept_on_media_of_any_step() {
    let odd = (0..10).map(|seed| odd_medium(1, seed));
    for (start, flags) in
        odd.chain([Vec::new()]).map(|bytes| (bytes, Flags::DYNAMIC)).chain([(vec![0; 200_001], Flags::DEFAULT)])
    {
        for exact in [false, true] {
            let mut heap = open(start.clone(), flags).unwrap();
            heap.exact = exact;
            let before = blobs(&heap);
            let mut made = Vec::new();
            for power in 0..14 {
                for size in [0, 1, 16, 40, 90, 512, 513, 3000] {
                    made.push(is_aligned(&mut heap, 1 << power, size));
                }
                if power % 3 == 2 {
                    for ptr in made.drain(..).step_by(2) {
                        heap.free(ptr).unwrap();
                    }
                }
            }
            assert!(before.iter().all(|(ptr, bytes)| blobs(&heap)[ptr] == *bytes));
            made.iter().for_each(|&ptr| heap.free(ptr).unwrap_or_default());
            closed(heap);
        }
    }
}

#[test]
fn a_place_that_happens_to_be_aligned_is_used_again() {
    let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
    let made: Vec<u64> = (0..40).map(|_| is_aligned(&mut heap, 4096, 4096)).collect();
    let size = heap.size();
    let fillers: Vec<u64> = (0..200).map(|_| heap.alloc(1000).unwrap()).collect();
    for (&ptr, &filler) in made.iter().zip(&fillers).rev() {
        heap.free(filler).unwrap();
        heap.free(ptr).unwrap();
        assert!(is_aligned(&mut heap, 4096, 4096) < size);
    }
    closed(heap);
}

#[test]
fn what_is_no_alignment_and_what_does_not_fit_is_refused() {
    let mut heap = open(vec![0; 10_008], Flags::DEFAULT).unwrap();
    for alignment in [0, 3, 24, 1 << 31, u64::MAX] {
        assert!(matches!(heap.alloc_aligned(alignment, 1), Err(Error::BadAlignment(_))));
    }
    let bytes = heap.medium.bytes.clone();
    assert!(matches!(heap.alloc_aligned(1 << 14, 1), Err(Error::Full { size: 1 })));
    assert!(matches!(heap.alloc_aligned(4096, 4000), Ok(4096)));
    assert!(matches!(heap.alloc_aligned(16, u64::MAX), Err(Error::TooLarge(_))));
    assert!(matches!(heap.alloc_aligned(16, 1 << 62), Err(Error::TooLarge(_))));
    assert_ne!(heap.medium.bytes, bytes);
    closed(heap);
}
