// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work of the fuzz target of the interval map on its input.

use std::cell::RefCell;

use super::interval_map::IntervalMap;

/// Addresses of the map.
const SIZE: usize = 64;
const MOST_CHANGES: usize = 100;

thread_local! {
    /// The map of the last input, for the next one: an input costs no mapping. It is empty then, but the priorities of its nodes go on.
    static MAP: RefCell<IntervalMap<u8>> = const { RefCell::new(IntervalMap::new()) };
}

/// Each two bytes are a change: where, how far, and the value. The map is compared with an array.
pub fn intervals(data: &[u8]) {
    MAP.with_borrow_mut(|map| {
        map.make_room().unwrap();
        map.assign(0, SIZE, None);
        assert!(map.is_empty());
        let mut shadow = [None; SIZE];
        for change in data.chunks_exact(2).take(MOST_CHANGES) {
            let (start, length) = (usize::from(change[0]) % SIZE, 1 + usize::from(change[1] >> 2) % 16);
            let end = (start + length).min(SIZE);
            let value = Some(change[1] & 3).filter(|&value| value > 0);
            map.make_room().unwrap();
            map.assign(start, end, value);
            shadow[start..end].fill(value);
            let gap = (start.saturating_sub(1)..SIZE).find(|&at| shadow[at].is_none());
            assert_eq!(map.first_gap(start.saturating_sub(1), SIZE), gap);
            assert_eq!(map.at(end - 1).map(|run| run.value), value);
        }
        map.check_invariants();
        let mut at = 0;
        for run in map.runs(0, SIZE) {
            assert!(shadow[at..run.start].iter().all(Option::is_none));
            assert!(shadow[run.start..run.end].iter().all(|&value| value == Some(run.value)));
            at = run.end;
        }
        assert!(shadow[at..].iter().all(Option::is_none));
    });
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::random::Random;

    /// The corpus, and 3,000 random inputs.
    #[test]
    fn any_changes_of_an_interval_map() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/intervals");
        let paths: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(paths.len() > 5);
        paths.iter().for_each(|path| super::intervals(&fs::read(path).unwrap()));
        let mut random = Random(1);
        for _ in 0..3000 {
            let mut data = [0; 60];
            for byte in &mut data {
                *byte = random.below(256) as u8;
            }
            super::intervals(&data[..random.below(61)]);
        }
    }
}
