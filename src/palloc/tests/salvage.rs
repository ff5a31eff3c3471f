// SPDX-License-Identifier: MIT OR Apache-2.0
//! Salvage of media as kills leave them, in a transaction or not: no blob is lost. With a marker overwritten too, a few are: a kill leaves
//! blocks with one right marker, and the damage may be to that one.

use std::cell::Cell;

use super::*;
use crate::palloc::salvage::{Salvager, check_header};
use crate::palloc::{Salvage, format};

/// The copy that salvage makes of these bytes.
fn salvaged(bytes: Vec<u8>) -> (Blobs, Salvage) {
    let zeros_from = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1);
    let head = u64::from_be_bytes(bytes[..8].try_into().unwrap());
    let stored = check_header(Some(head), Flags::DEFAULT).unwrap();
    let mut medium = MemMedium::new(bytes);
    let mut salvager = Salvager {
        medium: &mut medium,
        report: |_, _: &std::ffi::CStr| {},
        found: Salvage::default(),
        zeros_from,
        dynamic: stored & format::DYNAMIC != 0,
        lost_is_free: false,
        odd: false,
        stand_ins: 0,
    };
    salvager.mend_chain().unwrap();
    let found = salvager.found;
    let (heap, _) = recover::open(medium, Flags::DEFAULT).expect("a salvaged medium opens");
    let blobs = blobs(&heap);
    closed(heap);
    (blobs, found)
}

/// All of `wanted` are in `found`. The bytes of the operation in flight are left out.
fn has_all(found: &Blobs, wanted: &Blobs) -> bool {
    wanted
        .iter()
        .all(|(ptr, bytes)| found.get(ptr).is_some_and(|there| there.len() >= bytes.len() && there.starts_with(bytes)))
}

/// Both markers of each block of the chain.
fn marker_places(bytes: &[u8]) -> Vec<usize> {
    let (mut places, mut at) = (Vec::new(), 8);
    while at + 32 <= bytes.len() {
        let n = Marker(u64::from_be_bytes(bytes[at..][..8].try_into().unwrap())).n() as usize;
        if n < 16 || n > bytes.len() - 16 - at {
            break;
        }
        places.extend([at, at + 8 + n]);
        at += 16 + n;
    }
    places
}

fn salvage_killed_states(flags: Flags, start: Vec<u8>, seed: u64, operations: u32) -> u32 {
    let mut random = Random(seed);
    let mut heap = open(start, flags).unwrap();
    let mut tried = 0;
    for step in 0..operations {
        let before = super::blobs(&heap);
        heap.medium.before_each_change = Some(Vec::new());
        let (_, allocated) = match step % 2 {
            0 => transactions::random_one(&mut heap, &before, &mut random),
            _ => any_operation(&mut heap, &before, &mut random),
        };
        let states = heap.medium.before_each_change.take().unwrap();
        if let Some(ptr) = allocated {
            fill(&mut heap, ptr, step as u8 | 1);
        }
        for state in states {
            if random.below(if is_deep() { 2 } else { 12 }) != 0 {
                continue;
            }
            let Ok(opened) = open(state.clone(), Flags::DEFAULT) else { panic!("a killed medium opens") };
            let wanted = super::blobs(&opened);
            let (found, count) = salvaged(state.clone());
            assert!(has_all(&found, &wanted), "{:?} of {:?}", found.keys(), wanted.keys());
            assert_eq!(count.lost_ranges, 0);
            let places = marker_places(&state);
            for _ in 0..4 {
                let Some(&at) = places.get(random.below(places.len().max(1) as u64) as usize) else { continue };
                // The tag that commits a transaction stands once only.
                if state[at..].starts_with(b"TX") {
                    continue;
                }
                let mut damaged = state.clone();
                let any = [0, u64::MAX, random.below(u64::MAX), 16, 1 << 40][random.below(5) as usize];
                damaged[at..][..8].copy_from_slice(&any.to_be_bytes());
                // At the place of the kill two markers differ already: damage there can be too much to repair.
                let (found, _) = salvaged(damaged);
                let lost =
                    wanted.iter().filter(|(ptr, bytes)| !has_all(&found, &Blobs::from([(**ptr, (*bytes).clone())])));
                tried += 1;
                let lost = lost.count();
                FAR.with(|far| far.set(far.get() + lost));
            }
        }
    }
    tried
}

thread_local! {
    /// Blobs that were lost, all in all.
    static FAR: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn a_killed_medium_is_salvaged_whole_and_with_one_more_damaged_marker_nearly_whole() {
    let mut tried = 0;
    for seed in 1..7 {
        tried += salvage_killed_states(Flags::DYNAMIC, Vec::new(), seed, 120);
        tried += salvage_killed_states(Flags::DEFAULT, vec![0; 30008], seed, 120);
    }
    let lost = FAR.get();
    println!("{tried} killed media with a damaged marker: {lost} blobs lost");
    assert!(tried > 500 && lost * 25 < tried as usize);
}
