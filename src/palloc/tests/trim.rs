// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trim: a power cut does not bring back a blob without its bytes.

use super::power::power_cuts;
use super::*;

/// Frees blobs, trims, and cuts the power at every moment of that: a blob that is there has its bytes. The barrier number `sabotage` of the
/// trim is left out. Returns how many images were opened, and how many of them had a blob without its bytes.
fn trim_with_cuts(durable: bool, dynamic: bool, sabotage: Option<u64>) -> [usize; 2] {
    let mut medium = MemMedium::new(vec![0; if dynamic { 0 } else { 8 + 16 * 700 }]);
    medium.barriers = durable.then(Vec::new);
    let (mut heap, _) = recover::open(medium, if dynamic { Flags::DYNAMIC } else { Flags::DEFAULT }).unwrap();
    let made: Vec<u64> = [100, 1100, 330, 900, 2000, 60].into_iter().map(|size| heap.alloc(size).unwrap()).collect();
    made.iter().zip(1..).for_each(|(&ptr, value)| fill(&mut heap, ptr, value));
    heap.sync().unwrap();
    let before = blobs(&heap);
    heap.medium.before_each_change = Some(Vec::new());
    heap.medium.barriers.as_mut().unwrap_or(&mut heap.medium.syncs).clear();
    for i in [1, 3, 4] {
        heap.free(made[i]).unwrap();
    }
    heap.medium.sabotage = sabotage;
    let given_back = heap.trim(64).unwrap();
    assert!((2000..11_000).contains(&given_back), "{given_back}");
    let kept = blobs(&heap);
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), [made[0], made[2], made[5]]);
    let mut states = heap.medium.before_each_change.take().unwrap();
    states.push(heap.medium.bytes.clone());
    let syncs = heap.medium.barriers.as_ref().unwrap_or(&heap.medium.syncs).clone();
    let (mut from, mut images, mut lost) = (0, 0, 0);
    for to in syncs.into_iter().chain([states.len() - 1]) {
        images += power_cuts(&states[from..=to], 20_000, &mut Random(7), |image| {
            let Ok(heap) = open(image, Flags::DEFAULT) else { return };
            lost += usize::from(blobs(&heap).iter().any(|(ptr, bytes)| before.get(ptr) != Some(bytes)));
        });
        from = to;
    }
    // All of it can be used again.
    assert_eq!(heap.trim(64).unwrap(), 0);
    (0..20).for_each(|_| drop(heap.alloc(700)));
    closed(heap);
    [images, lost]
}

#[test]
fn a_power_cut_in_a_trim_brings_no_blob_back_without_its_bytes() {
    for (durable, dynamic) in [(false, true), (false, false), (true, true), (true, false)] {
        let [images, lost] = trim_with_cuts(durable, dynamic, None);
        assert!(images > 5 && lost == 0, "{images} images, {lost} of them with a blob without its bytes");
    }
}

#[test]
fn the_sync_of_a_trim_left_out_is_found() {
    for dynamic in [true, false] {
        // On a dynamic medium tidy may sync before: it cuts the file.
        let found = (0..3).any(|barrier| trim_with_cuts(false, dynamic, Some(barrier))[1] > 0);
        assert!(found);
    }
}

#[test]
fn short_blocks_and_media_that_are_read_only_are_not_trimmed() {
    let mut heap = open(vec![0; 20_008], Flags::DEFAULT).unwrap();
    let first = heap.alloc(4000).unwrap();
    fill(&mut heap, first, 7);
    heap.alloc(100).unwrap();
    heap.free(first).unwrap();
    let cleared = |heap: &Heap<MemMedium>| heap.medium.bytes[first as usize + 16..][..3984].contains(&0);
    assert_eq!(heap.trim(1 << 20).unwrap(), 0);
    assert!(!cleared(&heap));
    let given_back = heap.trim(4000).unwrap();
    assert!((14_000..16_000).contains(&given_back) && !cleared(&heap), "the block at the end only: {given_back}");
    assert!(heap.trim(3000).is_ok() && cleared(&heap));
    let mut heap = open(closed(heap), Flags::READONLY).unwrap();
    assert!(matches!(heap.trim(1), Err(Error::ReadOnly)));
}
