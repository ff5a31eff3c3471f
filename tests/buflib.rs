// SPDX-License-Identifier: MIT OR Apache-2.0
//! The safe interface of buflib, beside a shadow that keeps a copy of every payload.

#[path = "../src/random.rs"]
mod random;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use palloc::buflib::{Buflib, Error, Handle, Hooks, Options, Shrink};
use random::Random;

/// The expected bytes, name and alignment of each live block.
type Shadow = RefCell<BTreeMap<Handle, (Vec<u8>, Option<String>, usize)>>;

#[test]
fn random_operations_keep_every_payload_name_and_alignment() {
    for seed in 1..20 {
        let mut random = Random(seed);
        let mut memory = vec![0u8; 1000 + random.below(20_000)];
        let shadow = Shadow::default();
        let dice = RefCell::new(Random(seed + 100));
        let refuse = |_: Handle, from: *const u8, to: *const u8| {
            assert!(to < from);
            dice.borrow_mut().below(8) > 0
        };
        let cut = |block: &mut Shrink<'_>| {
            let mut shadow = shadow.borrow_mut();
            let (bytes, ..) = shadow.get_mut(&block.handle()).unwrap();
            assert_eq!(&block.data()[..bytes.len()], &bytes[..]);
            match dice.borrow_mut().below(5) {
                0 => {
                    assert!(block.free());
                    assert!(block.data().is_empty());
                    shadow.remove(&block.handle());
                    true
                }
                1 => true, // a lie
                n => {
                    let (from, to) = (bytes.len() / (2 * n), bytes.len() - bytes.len() / 8);
                    assert!(block.keep(from..to));
                    bytes.truncate(to);
                    bytes.drain(..from);
                    true
                }
            }
        };
        let locked = Hooks::locked();
        let refusing = Hooks::movable().on_move(&refuse);
        let shrinking = Hooks::movable().on_shrink(&cut);
        let all = [None, None, Some(&locked), Some(&refusing), Some(&shrinking)];

        let mut pool = Buflib::new(&mut memory);
        for step in 0..3000u32 {
            let some = {
                let shadow = shadow.borrow();
                let nth = random.below(shadow.len().max(1));
                shadow.keys().nth(nth).copied()
            };
            match (random.below(10), some) {
                (0..2, Some(handle)) => {
                    assert!(pool.free(handle));
                    assert!(!pool.free(handle));
                    assert!(pool.data(handle).is_none());
                    shadow.borrow_mut().remove(&handle);
                }
                (2, Some(handle)) => {
                    let mut shadow = shadow.borrow_mut();
                    let (bytes, _, alignment) = shadow.get_mut(&handle).unwrap();
                    let from = random.below(bytes.len() / 8 + 1);
                    let to = bytes.len() - random.below(bytes.len() / 8 + 1);
                    if from <= to {
                        assert!(pool.shrink(handle, from..to));
                        bytes.truncate(to);
                        bytes.drain(..from);
                        if from > 0 {
                            *alignment = 1;
                        }
                    }
                    assert!(!pool.shrink(handle, 0..bytes.len() + 8));
                }
                (8, _) => {
                    let before = pool.stat();
                    let left = pool.compact_step(random.below(1000));
                    let after = pool.stat();
                    assert!(left == 0 || left == after.holes);
                    assert_eq!((before.live, before.blocks), (after.live, after.blocks));
                    assert_eq!(pool.handles().collect::<Vec<_>>(), shadow.borrow().keys().copied().collect::<Vec<_>>());
                }
                (9, _) if random.below(4) == 0 => {
                    let size = pool.stat().pool;
                    if pool.resize(size - random.below(size / 2)) {
                        assert!(pool.resize(size));
                    }
                    assert!(!pool.resize(size + size_of::<usize>()) && pool.stat().pool == size);
                }
                (3, Some(handle)) => {
                    assert!(pool.pin(handle));
                    let before = pool.data(handle).unwrap().as_ptr();
                    let most = pool.allocatable();
                    assert_eq!(pool.data(handle).unwrap().as_ptr(), before);
                    assert!(most <= pool.available());
                    pool.unpin(handle);
                    assert_eq!(pool.pin_count(handle), 0);
                }
                _ => {
                    let limit = if random.below(10) == 0 { 4000 } else { 120 };
                    let size = random.below(limit);
                    let name = (random.below(2) == 0).then(|| format!("block {step}"));
                    let alignment = if random.below(6) == 0 { 8 << random.below(4) } else { 0 };
                    let options = Options { name: name.as_deref(), alignment, hooks: all[random.below(all.len())] };
                    match pool.alloc_with(size, &options) {
                        Ok(handle) => {
                            let data = pool.data_mut(handle).unwrap();
                            assert!(data.len() >= size && data.len() < size + size_of::<usize>());
                            assert_eq!(data.as_ptr().addr() % alignment.max(1), 0);
                            let bytes: Vec<u8> = (0..size).map(|i| i as u8 ^ step as u8).collect();
                            data[..size].copy_from_slice(&bytes);
                            let old = shadow.borrow_mut().insert(handle, (bytes, name, alignment.max(1)));
                            assert!(old.is_none());
                        }
                        Err(error) => assert!(matches!(error, Error::NoHandle | Error::NoMemory), "{error}"),
                    }
                }
            }
            assert_eq!(pool.check(), Ok(()));
            for (&handle, (bytes, name, _)) in shadow.borrow().iter() {
                assert_eq!(&pool.data(handle).unwrap()[..bytes.len()], &bytes[..]);
                assert_eq!(pool.name(handle), name.as_deref());
            }
        }
    }
}

#[test]
fn hooks_are_called_around_a_move() {
    let log = RefCell::new(Vec::new());
    let sync = |handle: Handle, on: bool| log.borrow_mut().push((handle.get(), on));
    let hooks = Hooks::movable().on_sync(&sync);
    let mut memory = [0u8; 4096];
    let mut pool = Buflib::new(&mut memory);
    let first = pool.alloc(100).unwrap();
    let second = pool.alloc_with(100, &Options { hooks: Some(&hooks), ..Options::default() }).unwrap();
    pool.free(first);
    assert!(pool.allocatable() > 3000);
    assert_eq!(*log.borrow(), [(second.get(), true), (second.get(), false)]);
}

#[test]
fn alloc_maximum_takes_what_hooks_give_and_cuts_the_name_between_letters() {
    let asked = Cell::new(0);
    let give = |block: &mut Shrink<'_>| {
        asked.set(asked.get() + 1);
        assert!(block.front() && block.back() && block.wanted() > 0);
        block.keep(0..100)
    };
    let hooks = Hooks::movable().on_shrink(&give);
    let mut memory = [0u8; 8192];
    let mut pool = Buflib::new(&mut memory);
    let cache = pool.alloc_with(4000, &Options { hooks: Some(&hooks), ..Options::default() }).unwrap();
    let (most, size) = pool.alloc_maximum(Some("fourteen bytesé"), None).unwrap();
    assert_eq!(pool.name(most), Some("fourteen bytes"));
    assert!(size > 7000 && asked.get() >= 1);
    assert_eq!(pool.data(cache).unwrap().len(), 100usize.next_multiple_of(size_of::<usize>()));
    assert_eq!(pool.check(), Ok(()));
}

#[test]
fn names_end_at_a_nul_and_bad_alignments_are_refused() {
    let mut memory = [0u8; 1024];
    let mut pool = Buflib::new(&mut memory);
    let handle = pool.alloc_named(10, "a\0b").unwrap();
    assert_eq!(pool.name(handle), Some("a"));
    for alignment in [3, 4096, 1 << (usize::BITS - 1)] {
        let options = Options { alignment, ..Options::default() };
        assert_eq!(pool.alloc_with(1, &options), Err(Error::NoMemory));
    }
    assert_eq!(pool.alloc(usize::MAX), Err(Error::NoMemory));
    assert_eq!(Buflib::new(&mut []).alloc(0), Err(Error::NoMemory));
}

#[test]
fn allocatable_is_granted_when_moves_that_were_refused_are_agreed_to() {
    for seed in 1..2000 {
        let random = RefCell::new(Random(seed));
        let below = |limit| random.borrow_mut().below(limit);
        let agree = Cell::new(false);
        let refuse = |_: Handle, _: *const u8, _: *const u8| agree.get() || below(2) == 0;
        let (locked, moody) = (Hooks::locked(), Hooks::movable().on_move(&refuse));
        let mut memory = vec![0usize; 200 + below(400)];
        let len = size_of_val(&memory[..]);
        // SAFETY: the same memory, as bytes.
        let bytes = unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), len) };
        let mut pool = Buflib::new(bytes);
        let mut live = Vec::new();
        for _ in 0..150 {
            if below(5) < 3 {
                let hooks = [None, Some(&locked), Some(&moody), Some(&moody)][below(4)];
                let alignment = if below(8) == 0 { 64 } else { 0 };
                if let Ok(handle) = pool.alloc_with(below(200), &Options { alignment, hooks, ..Options::default() }) {
                    live.push(handle);
                    if below(9) == 0 {
                        assert!(pool.pin(handle));
                    }
                }
            } else if !live.is_empty() {
                assert!(pool.free(live.swap_remove(below(live.len()))));
            }
        }
        let most = pool.allocatable();
        agree.set(true);
        if most > 0 {
            assert!(pool.alloc(most).is_ok(), "{most} bytes, seed {seed}");
        }
        assert_eq!(pool.check(), Ok(()));
    }
}

/// A shrink hook that keeps what its block has not, or has no more.
#[test]
fn a_range_that_is_not_in_the_block_is_not_kept() {
    let asked = Cell::new(0);
    let cut = |block: &mut Shrink<'_>| {
        asked.set(asked.get() + 1);
        let bytes = block.data().len();
        let reversed = std::ops::Range { start: 8, end: 0 };
        assert!(!block.keep(reversed) && !block.keep(bytes..bytes + 1) && !block.keep(usize::MAX - 1..usize::MAX));
        assert_eq!(block.data().len(), bytes);
        assert!(block.free() && !block.keep(0..8) && block.data().is_empty());
        true
    };
    let hooks = Hooks::movable().on_shrink(&cut);
    let mut memory = [0; 4000];
    let mut pool = Buflib::new(&mut memory);
    pool.alloc_with(2000, &Options { hooks: Some(&hooks), ..Options::default() }).unwrap();
    pool.alloc(3000).unwrap();
    assert_eq!(asked.get(), 1);
}

#[test]
fn errors_hooks_and_sizes_are_shown() {
    for (error, text) in [
        (Error::NoHandle, "no handle is left"),
        (Error::NoMemory, "the pool has no memory left"),
        (Error::InCallback, "not while a callback is running"),
    ] {
        assert!(error.to_string().starts_with(text), "{error}");
    }
    let shrinks = |_: &mut Shrink<'_>| false;
    assert_eq!(format!("{:?}", Hooks::locked()), "Hooks { movable: false, shrinkable: false }");
    assert_eq!(format!("{:?}", Hooks::movable().on_shrink(&shrinks)), "Hooks { movable: true, shrinkable: true }");
    let mut memory = [0; 2000];
    let mut pool = Buflib::new(&mut memory);
    let handle = pool.alloc(41).unwrap();
    assert_eq!(pool.size(handle), Some(41usize.next_multiple_of(size_of::<usize>())));
    assert!(pool.free(handle));
    assert_eq!(pool.size(handle), None);
}
