// SPDX-License-Identifier: MIT OR Apache-2.0
//! Salvage of media as kills leave them, in a transaction or not: no blob is lost. With a marker overwritten too, a few are: a kill leaves
//! blocks with one right marker, and the damage may be to that one. And media made by hand, each for one rule of salvage.

use std::cell::Cell;

use super::*;
use crate::palloc::Salvage;
use crate::palloc::format::{self, Intent, Start};
use crate::palloc::record::{self, Change, Writer};
use crate::palloc::salvage::{Salvager, check_header};

/// The copy that salvage makes of these bytes, and how many loads that took.
fn salvaged_copy(bytes: Vec<u8>) -> (Heap<MemMedium>, Salvage, u64) {
    let zeros_from = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1);
    let head = bytes.get(..8).map(|head| u64::from_be_bytes(head.try_into().unwrap()));
    let stored = check_header(head, Flags::FORCE).unwrap();
    let mut medium = MemMedium::sparse(bytes);
    let mut salvager = Salvager {
        medium: &mut medium,
        report: |_, _: &std::ffi::CStr| {},
        found: Salvage::default(),
        zeros_from,
        lost_is_free: false,
        odd: false,
        stand_ins: 0,
        run_at: Start::FIRST,
    };
    salvager.mend(stored).unwrap();
    let found = salvager.found;
    let loads = medium.loads.get();
    let (heap, _) = recover::open(medium, Flags::DEFAULT).expect("a salvaged medium opens");
    (heap, found, loads)
}

fn salvaged(bytes: Vec<u8>) -> (Blobs, Salvage) {
    let (heap, found, _) = salvaged_copy(bytes);
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
        let n = Marker(u64::from_be_bytes(bytes[at..][..8].try_into().unwrap())).data_len() as usize;
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

/// A medium that is made by hand, block by block.
struct Crafted(Vec<u8>);

impl Crafted {
    fn new() -> Crafted {
        Crafted(format::header(format::DYNAMIC).to_be_bytes().to_vec())
    }

    fn end(&self) -> u64 {
        self.0.len() as u64
    }

    fn word(mut self, word: u64) -> Crafted {
        self.0.extend(word.to_be_bytes());
        self
    }

    /// Bytes that are no markers.
    fn bytes(mut self, n: u64) -> Crafted {
        self.0.resize(self.0.len() + n as usize, 0xee);
        self
    }

    fn zeros(mut self, n: u64) -> Crafted {
        self.0.resize(self.0.len() + n as usize, 0);
        self
    }

    /// A block of `n` bytes between these words.
    fn block(self, first: u64, n: u64, last: u64) -> Crafted {
        self.word(first).bytes(n).word(last)
    }

    fn live(self, n: u64) -> Crafted {
        self.block(n, n, n)
    }

    /// As many blobs as salvage needs to know that they are the chain.
    fn run(self) -> Crafted {
        (0..9).fold(self, |medium, _| medium.live(32))
    }

    /// A log of 48 bytes between these words, of which the transaction with this sequence is to be made again: it frees the block `freed`.
    fn log(self, first: u64, sequence: u64, freed: u64, last: Option<u64>) -> Crafted {
        let at = self.end();
        let mut medium = MemMedium::new(self.block(first, 48, 0).0);
        let mut writer = Writer::new(Start::at(at), sequence);
        writer.units(&mut medium, &record::unit_bytes(Change::Free { block: Start::at(freed) }.encode()));
        let tag = writer.finish(&mut medium);
        medium.store(at + 56, last.unwrap_or(tag));
        Crafted(medium.bytes)
    }

    /// As `make` changes it. (`make` sees where the medium ends.)
    fn then(self, make: impl FnOnce(Crafted, u64) -> Crafted) -> Crafted {
        let end = self.end();
        make(self, end)
    }
}

/// The blocks of a medium: their sizes, with a minus if they are free.
fn chain(heap: &Heap<MemMedium>) -> Vec<i64> {
    let mut from = 0;
    std::iter::from_fn(|| {
        let block = heap.block_from(from).unwrap()?;
        from = block.end();
        Some(if block.is_free { -(block.size as i64) } else { block.size as i64 })
    })
    .collect()
}

const BAD: u64 = 7;
const LIVE: i64 = 32;
const NINE: [i64; 9] = [LIVE; 9];

#[test]
fn each_rule_of_salvage_is_needed_by_a_medium_made_for_it() {
    let check = |rule: &str, medium: Crafted, wanted: &[&[i64]], healed: u64, lost: &[u64]| {
        let (heap, found, _) = salvaged_copy(medium.0);
        let counts = (found.healed, found.lost_ranges, found.lost_bytes);
        assert_eq!(chain(&heap), wanted.concat(), "{rule}");
        assert_eq!(counts, (healed, lost.len() as u64, lost.iter().sum()), "{rule}");
        closed(heap);
    };
    let new = Crafted::new;
    let tag = |at: u64| record::idle_tag(at + 56);
    // A move that was to free a block which is not there.
    let intent = Intent::Leave(Start::at(1 << 40)).word();

    let records = (0..17).fold(new(), |medium, _| medium.log(48, 5, 0, None)).run();
    check("more records than opening takes are blobs", records, &[&[-1008, 48], &NINE], 1, &[]);
    let sixteen = (0..16).fold(new(), |medium, _| medium.log(48, 5, 0, None)).run();
    check("others are transactions", sixteen, &[&[-1008], &NINE], 0, &[]);
    let log = new().then(|medium, at| medium.log(BAD, 5, at + 64, None)).run();
    check("the record of a log whose start marker is damaged counts", log, &[&[-96], &NINE[1..]], 1, &[]);
    let log = new().then(|medium, at| medium.log(BAD, 5, at + 64, Some(tag(at)))).run();
    check("the tag of a log without a record is a marker of nothing", log, &[&[48], &NINE], 0, &[64]);
    let freed = new().then(|medium, at| medium.block(Marker::free(48).0, 48, tag(at))).run();
    check("a free block with the tag of a log is damaged", freed, &[&[-48], &NINE], 1, &[]);
    let intents = new().block(BAD, 48, BAD).block(64, 64, intent).block(BAD, 80, 80).run();
    check("end markers lead back over an intent", intents, &[&[48, 64, 80], &NINE], 1, &[64]);
    let both = new().live(48).block(BAD, 48, BAD).run();
    check("a block without markers is lost", both, &[&[48, 48], &NINE], 0, &[64]);
    let short = new().word(BAD).bytes(8).block(64, 64, 64).run();
    check("no block is shorter than 32 bytes", short, &[&[80], &NINE], 0, &[96]);
    let ends = (0..20).fold(new(), |medium, _| medium.block(64, 64, BAD)).run();
    check("start markers lead to the next blocks", ends, &[&[64; 20], &NINE], 20, &[]);
    let starts = (0..20).fold(new(), |medium, _| medium.block(BAD, 64, 64)).run();
    check("end markers lead back from the next blocks", starts, &[&[64; 20], &NINE], 20, &[]);
    let meeting = new().block(64, 64, BAD).live(64).block(64, 64, BAD).block(BAD, 64, 64).block(BAD, 64, 64).run();
    check("markers that meet are right", meeting, &[&[64; 5], &NINE], 4, &[]);
    let ends = (0..10).fold(new(), |medium, _| medium.block(64, 64, BAD));
    let ends = (0..10).fold(ends.block(BAD, 64, BAD), |medium, _| medium.block(64, 64, BAD)).run();
    check("many start markers in a row are right", ends, &[&[64; 21], &NINE], 20, &[80]);
    let starts = (0..10).fold(new().block(BAD, 64, BAD), |medium, _| medium.block(BAD, 64, 64)).run();
    check("many end markers in a row are right", starts, &[&[64; 11], &NINE], 10, &[80]);
    let turns = (0..50).fold(new(), |medium, _| medium.block(64, 64, BAD).block(BAD, 64, 64)).run();
    check("one sound marker of each block is enough", turns, &[&[64; 100], &NINE], 100, &[]);
    let turns = (0..50).fold(new(), |medium, _| medium.block(BAD, 64, 64).block(64, 64, BAD)).run();
    check("whichever is the first", turns, &[&[64; 100], &NINE], 100, &[]);
    let three = |medium: Crafted| (0..3).fold(medium, |medium, _| medium.block(64, 64, BAD));
    let turns = (0..20).fold(new(), |medium, _| three(medium).block(BAD, 64, 64).block(BAD, 48, 48)).run();
    let wanted = [64, 64, 64, 64, 48].repeat(20);
    check("some of a kind in a row too", turns, &[&wanted, &NINE], 100, &[]);
    let island = new().block(BAD, 48, BAD).live(80).live(96).block(BAD, 48, BAD).run();
    check("two blocks between damaged ranges are kept", island, &[&[48, 80, 96, 48], &NINE], 0, &[64, 64]);
    let last = new().run().block(64, 200, BAD);
    check("a last block that leads into itself does not reach beyond the end", last, &[&NINE, &[200]], 0, &[216]);
    let last = new().run().word(4000).bytes(200);
    check("a last block that leads beyond the end ends with it", last, &[&NINE, &[192]], 1, &[]);
    let mut fixed = new().run().word(4000).bytes(200);
    fixed.0[7] = 0;
    check("in a static medium too", fixed, &[&NINE, &[192]], 1, &[]);

    // Pages of zeros are holes in the copy.
    check("the header gets its space", Crafted(vec![0; 4096]), &[&[-4072]], 0, &[]);
    let hole = new().block(128, 128, 128).zeros(8).zeros(400).word(400).run();
    check("a start marker that is mended gets its space", hole, &[&[128, 400], &NINE], 1, &[]);
    let hole = new().run().word(16 + 1000).zeros(1000);
    check("an end marker that is mended gets its space", hole, &[&NINE, &[992]], 1, &[]);
    let hole = new().run().then(|medium, at| medium.bytes((at + 8).next_multiple_of(64) - at).zeros(16));
    check("bytes that are no block get their space", hole, &[&NINE], 0, &[24]);
}

#[test]
fn salvage_reads_each_word_some_times_only() {
    // At each byte a block can start on an odd medium, and several kinds of runs are looked for.
    let most = |rule: &str, medium: Crafted| {
        let words = medium.end() / 8;
        let (_, _, loads) = salvaged_copy(medium.0);
        assert!(loads < words * 64, "{rule}: {loads} loads for {words} words");
    };
    let many = 4000;
    let damaged = |first, last| (0..many).fold(Crafted::new(), |medium, _| medium.block(first, 64, last));
    most("end markers damaged", damaged(64, BAD));
    most("start markers damaged", damaged(BAD, 64));
    most("all damaged", damaged(BAD, BAD));
    let mixed = |medium: Crafted, i| if i % 2 == 0 { medium.block(64, 64, BAD) } else { medium.block(BAD, 64, 64) };
    most("one of each block damaged", (0..many).fold(Crafted::new(), mixed));
    let mixed = |medium: Crafted, i| medium.block(if i % 10 == 9 { BAD } else { 64 }, 64, BAD);
    most("runs of start markers", (0..many).fold(Crafted::new(), mixed));
    let mixed = |medium: Crafted, i| medium.block(BAD, 64, if i % 10 == 9 { BAD } else { 64 });
    most("runs of end markers", (0..many).fold(Crafted::new(), mixed));
    // Each word leads to the one behind the next three, and in the end to nothing.
    most("a blob of numbers", (0..many).fold(Crafted::new().word(BAD), |medium, _| medium.word(16).word(BAD)).bytes(8));
    let island = |medium: Crafted| medium.block(BAD, 64, BAD).live(64).live(64).live(64);
    most("a few blocks between damaged ones", (0..many / 4).fold(Crafted::new(), |medium, _| island(medium)));
    let in_step = Crafted::new().word(BAD);
    most("the same in step", (0..many).fold(in_step, |medium, _| medium.word(BAD).word(16)).bytes(5));
    let zeros = Crafted::new().run().block(BAD, 64, BAD).live(32).bytes(8).zeros(1 << 20);
    let (_, _, loads) = salvaged_copy(zeros.0);
    assert!(loads < 10_000, "zeros at the end are not read: {loads} loads");
}
