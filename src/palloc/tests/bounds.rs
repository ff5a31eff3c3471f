// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opening takes time in proportion to the file, whatever bytes it has: counted in loads, not by a clock. (tests/memory.rs has the
//! bound of memory.)

use super::{Flags, MemMedium, Random};
use crate::palloc::format::{Intent, Marker, Start, header};
use crate::palloc::recover;

/// Blocks with the smallest data there is: whatever is done for each is done most often here.
fn dense(len: usize, mut markers: impl FnMut(u64) -> (u64, u64)) -> Vec<u8> {
    let mut bytes = header(1).to_be_bytes().to_vec();
    while bytes.len() + 32 <= len {
        let (start, end) = markers(bytes.len() as u64);
        bytes.extend(start.to_be_bytes());
        bytes.extend([0; 16]);
        bytes.extend(end.to_be_bytes());
    }
    bytes
}

#[test]
fn opening_takes_loads_in_proportion_to_the_file() {
    let mut random = Random(3);
    let mut noise = dense(1 << 18, |_| (Marker::live(16).0, Marker::live(16).0));
    for _ in 0..2000 {
        let at = 8 + random.below(noise.len() as u64 - 8) as usize;
        noise[at] = random.below(256) as u8;
    }
    for len in [1 << 18, 1 << 19, 1 << 20] {
        let (live, free) = (Marker::live(16).0, Marker::free(16).0);
        let media = [
            dense(len, |_| (live, live)),
            dense(len, |_| (free, free)),
            dense(len, |_| (free, 1)),
            dense(len, |at| if at % 64 == 8 { (live, live) } else { (free, live) }),
            dense(len, |at| (live, Intent::Leave(Start::at(at ^ 32)).word())),
            dense(len, |_| (live, Intent::Leave(Start::FIRST).word())),
            [dense(len / 2, |_| (free, free)), vec![0; len / 2]].concat(),
            vec![0; len],
            noise.clone(),
        ];
        for (i, bytes) in media.into_iter().enumerate() {
            let blocks = bytes.len() as u64 / 32;
            for flags in [Flags::DEFAULT, Flags::READONLY, Flags::DYNAMIC | Flags::FORCE] {
                let medium = MemMedium::new(bytes.clone());
                let loads = match recover::open(medium, flags) {
                    Ok((heap, _)) => heap.medium.loads.get(),
                    Err(_) => continue,
                };
                assert!(loads <= 16 * blocks + 100, "medium {i} of {len}, {flags:?}: {loads} loads");
            }
        }
    }
}
