// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads on one medium: the caches of free blocks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Mutex;

use super::memory;
use super::open;
use crate::palloc::caches::Caches;
use crate::palloc::medium::Medium;
use crate::palloc::sabotage::{BROKEN, OTHER, Rule};
use crate::palloc::{Error, Flags, Palloc};
use crate::random::Random;

/// Opens the caches, as threads do that want the lock at the same time again and again.
fn open_caches(medium: &Palloc) {
    for _ in 0..=1024 {
        drop(medium.lock_contended());
    }
    assert!(medium.heap.lock().unwrap().open_caches().is_some());
}

/// Two threads on one medium: this one has the lock now and then, and the other one uses a cache between any two of its accesses to the
/// medium. Kills are there too.
struct Duet {
    medium: Rc<Palloc>,
    random: Random,
    /// The blobs of both.
    live: Rc<RefCell<BTreeSet<u64>>>,
    others: Rc<RefCell<Vec<u64>>>,
    own: Vec<u64>,
    /// The blob that is being freed, or 0.
    in_flight: Rc<Cell<u64>>,
    is_calling: Rc<Cell<bool>>,
    other_calls: Rc<Cell<u32>>,
    kills: Rc<Cell<u32>>,
}

impl Duet {
    fn new(directory: &tempfile::TempDir, seed: u64) -> Duet {
        let medium = Palloc::open(directory.path().join(format!("{seed}.db")), Flags::DYNAMIC).unwrap();
        let duet = Duet {
            medium: Rc::new(medium),
            random: Random(seed),
            live: Rc::default(),
            others: Rc::default(),
            own: Vec::new(),
            in_flight: Rc::default(),
            is_calling: Rc::default(),
            other_calls: Rc::default(),
            kills: Rc::default(),
        };
        duet.begin_other(seed);
        duet
    }

    fn begin_other(&self, seed: u64) {
        let (medium, live, others) = (Rc::clone(&self.medium), Rc::clone(&self.live), Rc::clone(&self.others));
        let (in_flight, is_calling) = (Rc::clone(&self.in_flight), Rc::clone(&self.is_calling));
        let (calls, kills) = (Rc::clone(&self.other_calls), Rc::clone(&self.kills));
        let mut random = Random(seed + 1_000_000);
        let mut is_at_work = false;
        let other = move || {
            if is_at_work || !is_calling.get() {
                return;
            }
            is_at_work = true;
            let mut others = others.borrow_mut();
            if random.below(3) == 0 && !others.is_empty() {
                let at = random.below(others.len());
                if medium.free_unlocked(others[at]) {
                    assert!(live.borrow_mut().remove(&others.swap_remove(at)));
                    calls.set(calls.get() + 1);
                }
            } else if random.below(2) == 0 {
                if let Some(blob) = medium.alloc_unlocked(16 + random.below(100) as u64) {
                    assert!(live.borrow_mut().insert(blob), "{blob} was live already");
                    others.push(blob);
                    calls.set(calls.get() + 1);
                }
            }
            if random.below(100) == 0 {
                check_after_kill(&medium, &live.borrow(), in_flight.get());
                kills.set(kills.get() + 1);
            }
            is_at_work = false;
        };
        OTHER.set(Some(Box::new(other)));
    }

    fn step(&mut self) {
        if self.random.below(6) == 0 {
            open_caches(&self.medium);
        }
        self.is_calling.set(true);
        let size = 16 + self.random.below(if self.random.0 % 8 == 0 { 5000 } else { 100 }) as u64;
        match self.random.below(40) {
            0 => self.medium.sync().unwrap(),
            1 => drop(self.medium.stat().unwrap()),
            2 => self.add(|medium| medium.alloc_aligned(256, size)),
            3 => self.add(|medium| medium.alloc_zeroed(size)),
            4 => drop(self.medium.next(0).unwrap()),
            5..20 => self.add(|medium| medium.with_beside_caches(|heap| heap.alloc(size))),
            20..25 => self.add(|medium| medium.alloc(size)),
            25..28 if !self.own.is_empty() => {
                // What this thread has is the other one's from now on.
                let at = self.random.below(self.own.len());
                self.others.borrow_mut().push(self.own.swap_remove(at));
            }
            _ if !self.own.is_empty() => {
                let at = self.random.below(self.own.len());
                let blob = self.own.swap_remove(at);
                // The other one may get it as soon as it is free.
                self.in_flight.set(blob);
                assert!(self.live.borrow_mut().remove(&blob));
                let result = match self.random.below(2) {
                    0 => self.medium.with_beside_caches(|heap| heap.free(blob)),
                    _ => self.medium.free(blob),
                };
                result.unwrap();
                self.in_flight.set(0);
                self.is_calling.set(false);
                let is_reused = self.live.borrow().contains(&blob);
                assert!(is_reused || matches!(self.medium.free(blob), Err(Error::NoBlob(_))), "freed twice");
            }
            _ => {}
        }
        self.is_calling.set(false);
    }

    fn add(&mut self, alloc: impl FnOnce(&Palloc) -> crate::palloc::Result<u64>) {
        let blob = alloc(&self.medium).unwrap();
        assert!(self.live.borrow_mut().insert(blob), "{blob} was live already");
        self.own.push(blob);
    }

    /// All agrees, with the blocks that are kept.
    fn check(&self) {
        self.medium.heap.lock().unwrap().check_invariants();
    }

    /// The medium's blobs are those that both have.
    fn check_walk(&self) {
        let found: BTreeSet<u64> = self.medium.iter().map(Result::unwrap).collect();
        assert_eq!(found, *self.live.borrow());
    }
}

impl Drop for Duet {
    fn drop(&mut self) {
        OTHER.set(None);
    }
}

fn bytes_of(medium: &Palloc) -> Vec<u8> {
    std::fs::read(format!("/proc/self/fd/{}", medium.descriptor())).unwrap()
}

/// A medium whose process was killed now has these blobs, and perhaps the one that is being freed or allocated.
fn check_after_kill(medium: &Palloc, live: &BTreeSet<u64>, in_flight: u64) {
    let found: BTreeSet<u64> = memory::blobs(&open(bytes_of(medium), Flags::DYNAMIC).unwrap()).into_keys().collect();
    let missing: Vec<_> = live.difference(&found).collect();
    assert!(missing.is_empty(), "{missing:?} are missing");
    let more: Vec<_> = found.difference(live).collect();
    assert!(more.len() <= 1 && (in_flight == 0 || more.iter().all(|&&blob| blob == in_flight)), "{more:?} too many");
}

fn run(seed: u64, steps: u32) -> (u32, u32) {
    let directory = tempfile::tempdir().unwrap();
    let mut duet = Duet::new(&directory, seed);
    for step in 0..steps {
        duet.step();
        if step % 4 == 0 {
            duet.check();
        }
        if step % 64 == 0 {
            duet.check_walk();
        }
    }
    let counts = (duet.other_calls.get(), duet.kills.get());
    let medium = Rc::clone(&duet.medium);
    drop(duet);
    Rc::try_unwrap(medium).ok().expect("the other thread ended").close().unwrap();
    let path = directory.path().join(format!("{seed}.db"));
    let sound = crate::palloc::check(&path, |offset, what| eprintln!("{offset}: {what:?}")).unwrap();
    assert_eq!(sound, 0, "the closed medium is exactly the format");
    counts
}

#[test]
fn another_thread_between_any_two_accesses_and_kills_there() {
    let seeds = if super::is_deep() { 100 } else { 6 };
    let (mut calls, mut kills) = (0, 0);
    for seed in 0..seeds {
        let more = run(seed, 1500);
        (calls, kills) = (calls + more.0, kills + more.1);
    }
    println!("{calls} calls of the other thread, {kills} kills");
    assert!(calls > 1000 && kills > 50);
}

/// A medium with 20 blobs of 100 bytes and open caches.
fn small(directory: &tempfile::TempDir) -> (Rc<Palloc>, Vec<u64>) {
    let medium = Palloc::open(directory.path().join("small.db"), Flags::DYNAMIC).unwrap();
    let blobs = (0..20).map(|_| medium.alloc(100).unwrap()).collect();
    open_caches(&medium);
    (Rc::new(medium), blobs)
}

/// The other thread does something at the access with this number.
fn at_access(number: u32, mut other: impl FnMut() + 'static) {
    let mut before = number;
    let once = move || {
        if before == 0 {
            other();
        }
        before = before.wrapping_sub(1);
    };
    OTHER.set(Some(Box::new(once)));
}

/// Two threads free a blob at once, by a cache or under the lock: one of them does.
fn one_frees() {
    for (access, ways) in (0..12).flat_map(|access| (0..4).map(move |ways| (access, ways))) {
        let directory = tempfile::tempdir().unwrap();
        let (medium, blobs) = small(&directory);
        let (blob, freed) = (blobs[10], Rc::new(Cell::new(0)));
        let (second, count) = (Rc::clone(&medium), Rc::clone(&freed));
        at_access(access, move || count.set(count.get() + u32::from(second.free_unlocked(blob))));
        let result = match ways {
            0 => medium.free(blob).is_ok(),
            1 => medium.free_unlocked(blob),
            2 => medium.with_beside_caches(|heap| heap.free(blob)).is_ok(),
            _ => medium.with_beside_caches(|heap| heap.free_any(blob)).is_ok(),
        };
        OTHER.set(None);
        medium.heap.lock().unwrap().check_invariants();
        assert_eq!(freed.get() + u32::from(result), 1, "frees, the other at access {access}");
        assert_eq!(medium.stat().unwrap().live_blobs, 19);
    }
}

/// The caches are closed between the moment when a thread sees that they are open and when it has the lock of one.
fn closed_is_closed() {
    for frees in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (medium, blobs) = small(&directory);
        assert!(medium.free_unlocked(blobs[5]));
        let second = Rc::clone(&medium);
        at_access(0, move || second.sync().unwrap());
        let was_done = if frees { medium.free_unlocked(blobs[10]) } else { medium.alloc_unlocked(100).is_some() };
        OTHER.set(None);
        medium.heap.lock().unwrap().check_invariants();
        assert!(!was_done);
    }
}

/// What walks and counts does not see kept blocks as blobs.
fn kept_is_no_blob() {
    let directory = tempfile::tempdir().unwrap();
    let (medium, blobs) = small(&directory);
    assert!(medium.free_unlocked(blobs[10]));
    assert_eq!(medium.next(blobs[9]).unwrap(), Some(blobs[11]));
    open_caches(&medium);
    assert!(medium.free_unlocked(blobs[5]));
    assert_eq!(medium.stat().unwrap().live_blobs, 18);
}

/// After a failed sync no thread stores to the medium, and what was kept is free.
fn failed_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (medium, blobs) = small(&directory);
    assert!(medium.free_unlocked(blobs[10]));
    let before = bytes_of(&medium);
    let source = std::io::Error::from_raw_os_error(libc::EIO);
    medium.heap.lock().unwrap().note_failed_sync(&Error::System { doing: "flush", source });
    assert!(!medium.free_unlocked(blobs[5]) && medium.alloc_unlocked(100).is_none());
    assert!(matches!(medium.alloc(100), Err(Error::SyncFailed(libc::EIO))));
    assert_eq!(medium.next(blobs[9]).unwrap(), Some(blobs[11]));
    assert!(medium.blocks().map(Result::unwrap).any(|block| block.ptr == blobs[10] && block.is_free));
    medium.check_invariants();
    assert!(bytes_of(&medium) == before, "something was stored");
}

/// Kills while the heap makes kept blocks of a free block, and of slack.
fn kills_in_a_refill() {
    for (access, divides) in (0..40).flat_map(|access| [(access, false), (access, true)]) {
        let directory = tempfile::tempdir().unwrap();
        let (medium, mut blobs) = small(&directory);
        if divides {
            blobs.drain(5..15).for_each(|blob| medium.with_beside_caches(|heap| heap.free(blob)).unwrap());
        }
        let live: BTreeSet<u64> = blobs.into_iter().collect();
        let killed = Rc::clone(&medium);
        at_access(access, move || check_after_kill(&killed, &live, 0));
        medium.heap.lock().unwrap().prepare_alloc_beside_caches(16);
        OTHER.set(None);
    }
}

#[test]
fn each_rule_of_caches_is_needed() {
    need(failed_is_closed, &[Rule::CloseFailed]);
    need(kills_in_a_refill, &[Rule::RestFirst]);
    need(one_frees, &[Rule::OneFrees]);
    need(closed_is_closed, &[Rule::ClosedIsClosed]);
    need(kept_is_no_blob, &[Rule::AskMarkers, Rule::CloseFirst]);
}

fn need(test: fn(), rules: &[Rule]) {
    test();
    for &rule in rules {
        let broken = move || {
            BROKEN.set(Some(rule));
            test();
        };
        assert!(std::thread::spawn(broken).join().is_err(), "nothing goes wrong without {rule:?}");
    }
}

/// The file grows while caches are open: another thread uses its cache between any two accesses to the medium, and kills are there.
#[test]
fn the_medium_grows_beside_open_caches() {
    for access in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let (medium, blobs) = small(&directory);
        let (second, live) =
            (Rc::clone(&medium), Rc::new(RefCell::new(blobs.iter().copied().collect::<BTreeSet<u64>>())));
        let (of_second, blob) = (Rc::clone(&live), blobs[7]);
        at_access(access, move || {
            let mut live = of_second.borrow_mut();
            assert!(second.free_unlocked(blob) && live.remove(&blob));
            check_after_kill(&second, &live, 0);
            assert!(second.alloc_unlocked(100) == Some(blob) && live.insert(blob));
            check_after_kill(&second, &live, 0);
            assert!(second.free_unlocked(blob) && live.remove(&blob));
        });
        let before = medium.heap.lock().unwrap().medium.file_len();
        let large = medium.with_beside_caches(|heap| heap.alloc(before)).unwrap();
        OTHER.set(None);
        live.borrow_mut().insert(large);
        assert!(medium.heap.lock().unwrap().medium.file_len() > before && kept_is_open(&medium));
        medium.heap.lock().unwrap().check_invariants();
        check_after_kill(&medium, &live.borrow(), 0);
    }
}

/// The file is cut beside caches too: they are closed for it.
#[test]
fn long_slack_is_cut_though_caches_are_open() {
    let directory = tempfile::tempdir().unwrap();
    let (medium, blobs) = small(&directory);
    let large = medium.with_beside_caches(|heap| heap.alloc(10 << 20)).unwrap();
    assert!(medium.free_unlocked(blobs[7]) && kept_is_open(&medium));
    medium.with_beside_caches(|heap| heap.free(large)).unwrap();
    assert!(!kept_is_open(&medium));
    let file_len = medium.heap.lock().unwrap().medium.file_len();
    assert!(file_len < 100 << 10, "{file_len} bytes");
    assert_eq!(medium.stat().unwrap().live_blobs, 19);
}

/// In one cache there is at most a quarter of a medium, or eight blocks of each size, and never more than 64.
#[test]
fn a_cache_keeps_a_part_of_the_medium() {
    let directory = tempfile::tempdir().unwrap();
    for (count, kept) in [(100, 8), (4000, 4000 * 128 / 4 / 8960), (40_000, 64)] {
        let medium = Palloc::open(directory.path().join(format!("{count}.db")), Flags::DYNAMIC).unwrap();
        let blobs: Vec<u64> = (0..count).map(|_| medium.alloc(100).unwrap()).collect();
        open_caches(&medium);
        let freed = blobs.iter().take_while(|&&blob| medium.free_unlocked(blob)).count();
        assert_eq!(freed, kept, "{count} blobs");
        medium.free(blobs[freed]).unwrap();
        assert_eq!(
            medium.heap.lock().unwrap().index.blocks().count(),
            count - kept / 2 + 1,
            "half of them went back, and were joined"
        );
    }
}

/// Threads allocate and free, and free what others allocated; between their rounds all agrees.
#[test]
fn caches_lose_and_double_no_block() {
    let directory = tempfile::tempdir().unwrap();
    let medium = Palloc::open(directory.path().join("caches.db"), Flags::DYNAMIC).unwrap();
    let passed_on = Mutex::new(Vec::new());
    for round in 0..4 {
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (medium, passed_on) = (&medium, &passed_on);
                scope.spawn(move || {
                    let mut random = Random(round * 100 + thread);
                    let mut live = Vec::new();
                    for i in 0..30_000 {
                        if live.len() > 300 {
                            let at = random.below(live.len());
                            medium.free(live.swap_remove(at)).unwrap();
                        }
                        let limit = if random.below(100) == 0 { 5000 } else { 500 };
                        live.push(medium.alloc(16 + random.below(limit) as u64).unwrap());
                        if i % 1000 == 0 {
                            std::mem::swap(&mut *passed_on.lock().unwrap(), &mut live);
                        }
                        if random.below(50_000) == 0 {
                            medium.check_invariants();
                        }
                    }
                    for blob in live {
                        medium.free(blob).unwrap();
                    }
                });
            }
        });
        medium.heap.lock().unwrap().check_invariants(); // with what is kept
        assert_eq!(medium.stat().unwrap().live_blobs, passed_on.lock().unwrap().len() as u64);
        medium.check_invariants();
    }
    let size = medium.heap.lock().unwrap().medium.file_len();
    assert!(size < 8 << 20, "{size} bytes");
}

/// `Caches::new` makes them of zeros, and the model checker by `closed`.
#[test]
fn zeros_are_closed_caches() {
    let zeros = Caches::new().unwrap();
    // SAFETY: nobody else uses them.
    let caches = unsafe { zeros.as_ref() };
    for caches in [caches, &Caches::closed()] {
        assert!(!caches.are_open() && caches.count() == 0 && caches.take_any().is_none());
        assert_eq!(caches.alloc(0, |_| None), None);
        caches.open(8);
        assert!(caches.are_open() && caches.count() == 0);
        assert_eq!(caches.begin_close(), 0);
    }
    // SAFETY: as above.
    unsafe { Caches::drop(zeros) }
}

/// A thread that frees blobs and does nothing more does not keep them for ever: another one's calls wear the caches out.
#[test]
fn no_block_stays_in_the_cache_of_an_idle_thread() {
    let directory = tempfile::tempdir().unwrap();
    let medium = Palloc::open(directory.path().join("idle.db"), Flags::DYNAMIC).unwrap();
    let blobs: Vec<u64> = (0..20).map(|_| medium.alloc(100).unwrap()).collect();
    open_caches(&medium);
    std::thread::scope(|scope| {
        let idle = || assert!(blobs[..8].iter().all(|&blob| medium.free_unlocked(blob)));
        scope.spawn(idle).join().unwrap();
    });
    let kept = || medium.heap.lock().unwrap().index.blocks().count();
    let (before, mut calls) = (kept(), 0);
    // The blocks that this thread uses are others. When the caches are closed, those eight become free blocks, which are joined.
    while kept_is_open(&medium) {
        for _ in 0..1000 {
            let blob = medium.alloc(200).unwrap();
            medium.free(blob).unwrap();
        }
        calls += 2000;
        assert!(calls < 3 << 20, "the caches are still open after {calls} calls");
    }
    assert!(calls > 1 << 19, "{calls} calls");
    assert!(kept() < before, "the blocks are free, and joined");
}

fn kept_is_open(medium: &Palloc) -> bool {
    medium.heap.lock().unwrap().keeping.is_open()
}
