// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work on each input of a fuzz target: by libFuzzer (fuzz_targets/) and by tests/fuzz.rs, which needs no libFuzzer.
#![allow(dead_code)] // each target uses one of them

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, process, thread};

use palloc::palloc::{Flags, Palloc, check, salvage};

const LARGEST: usize = 1 << 20;

/// A file of this thread, in memory where files can be made there.
fn scratch(name: &str) -> PathBuf {
    let name = format!("palloc-{name}-{}-{:?}", process::id(), thread::current().id());
    let in_memory = Path::new("/dev/shm").join(&name);
    if fs::write(&in_memory, []).is_ok() { in_memory } else { env::temp_dir().join(name) }
}

type Blobs = BTreeMap<u64, Vec<u8>>;

fn blobs(medium: &Palloc) -> Blobs {
    let read = |ptr| {
        let mut bytes = vec![0; medium.size_of(ptr).unwrap() as usize];
        medium.read(ptr, 0, &mut bytes).unwrap();
        (ptr, bytes)
    };
    medium.iter().map(|ptr| read(ptr.unwrap())).collect()
}

/// A file with any bytes is opened or refused, the same for reading only, and unchanged if it is refused; what was opened is worked on
/// and is sound afterwards.
pub fn bytes(data: &[u8]) {
    if data.len() > LARGEST {
        return;
    }
    let path = scratch("bytes");
    fs::write(&path, data).unwrap();
    let _ = check(&path, |_, _| {});
    let read_only = Palloc::open(&path, Flags::READONLY).map(|medium| {
        let blocks = medium.blocks().map(|block| block.unwrap().size).sum::<u64>();
        assert!(blocks <= data.len() as u64);
        medium.stat().unwrap();
        medium.check_invariants();
        blobs(&medium)
    });
    assert_eq!(fs::read(&path).unwrap(), data, "READONLY writes nothing");
    match Palloc::open(&path, Flags::DEFAULT) {
        Err(_) => assert_eq!(fs::read(&path).unwrap(), data, "what is refused is not written to"),
        Ok(medium) => {
            medium.check_invariants();
            let mut shadow = blobs(&medium);
            if let Ok(read_only) = read_only {
                // The last one may have been given what is too little for a block.
                assert!(read_only.keys().eq(shadow.keys()));
                assert!(read_only.iter().all(|(ptr, bytes)| shadow[ptr].starts_with(bytes)));
            }
            if let Ok(ptr) = medium.alloc(24) {
                shadow.insert(ptr, vec![7; medium.size_of(ptr).unwrap() as usize]);
                medium.write(ptr, 0, &shadow[&ptr]).unwrap();
            }
            if let Some((&ptr, _)) = shadow.first_key_value() {
                medium.free(ptr).unwrap();
                assert!(medium.free(ptr).is_err());
                shadow.remove(&ptr);
            }
            if let Some((ptr, bytes)) = shadow.pop_last() {
                let new = medium.resize(ptr, bytes.len() as u64 + 40).unwrap_or(ptr);
                let mut longer = vec![0; medium.size_of(new).unwrap() as usize];
                medium.read(new, 0, &mut longer).unwrap();
                assert_eq!(longer[..bytes.len()], bytes);
                shadow.insert(new, longer);
            }
            medium.check_invariants();
            assert_eq!(blobs(&medium), shadow);
            medium.close().unwrap();
            assert_eq!(check(&path, |_, _| {}).unwrap(), 0);
            assert_eq!(blobs(&Palloc::open(&path, Flags::DEFAULT).unwrap()), shadow);
        }
    }
    fs::remove_file(&path).unwrap();
}

/// Any bytes whatever are salvaged to a sound copy, with every blob that opening finds; only what is no header is refused.
pub fn salvaging(data: &[u8]) {
    if data.len() > LARGEST {
        return;
    }
    let (path, copy) = (scratch("salvage"), scratch("salvaged"));
    fs::write(&path, data).unwrap();
    fs::remove_file(&copy).unwrap();
    let free = if data.len() % 2 == 0 { Flags::DEFAULT } else { Flags::LOST_IS_FREE };
    let found = salvage(&path, &copy, Flags::FORCE | free, |_, _| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), data, "salvage reads only");
    assert_eq!(check(&copy, |_, _| {}).unwrap(), 0);
    assert!(found.lost_bytes <= data.len().max(40) as u64);
    let made = Palloc::open(&copy, Flags::READONLY).unwrap();
    assert!(found.blobs <= made.stat().unwrap().live_blobs);
    drop(made);
    fs::remove_file(&path).unwrap();
    fs::remove_file(&copy).unwrap();
}

/// The first byte is the kind of medium; each three behind it are an operation and its arguments.
pub fn operations(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let path = scratch("operations");
    let size = if kind & 1 == 0 { 0 } else { 40 + usize::from(kind) * 50 };
    fs::write(&path, vec![0; size]).unwrap();
    let flags = if kind & 1 == 0 { Flags::DYNAMIC } else { Flags::DEFAULT };
    let mut medium = Palloc::open(&path, flags).unwrap();
    let mut shadow = Blobs::new();
    for (step, operation) in data.chunks_exact(3).take(500).enumerate() {
        let &[what, a, b] = operation else { unreachable!() };
        let wanted = match what >> 4 & 3 {
            0 => u64::from(b),
            1 => u64::from(b) * 16,
            2 => u64::from(b) * 129,
            _ => u64::from(a) << 8 | u64::from(b),
        };
        let chosen = shadow.keys().nth(usize::from(a) % shadow.len().max(1)).copied();
        let mut filled = None;
        match (what & 7, chosen) {
            (0..=2, _) => filled = medium.alloc(wanted).ok().inspect(|ptr| assert!(!shadow.contains_key(ptr))),
            (3 | 4, Some(ptr)) => {
                medium.free(ptr).unwrap();
                shadow.remove(&ptr);
            }
            (5, Some(ptr)) => {
                if let Ok(new) = medium.resize(ptr, wanted) {
                    let old = shadow.remove(&ptr).unwrap();
                    let mut bytes = vec![0; medium.size_of(new).unwrap() as usize];
                    medium.read(new, 0, &mut bytes).unwrap();
                    let kept = old.len().min(bytes.len());
                    assert_eq!(bytes[..kept], old[..kept]);
                    filled = Some(new);
                }
            }
            (6, _) => medium.sync().unwrap(),
            (7, _) => {
                medium.close().unwrap();
                assert_eq!(check(&path, |_, _| {}).unwrap(), 0);
                medium = Palloc::open(&path, Flags::DEFAULT).unwrap();
            }
            _ => assert!(medium.free(u64::from(a) << 8 | u64::from(b)).is_err()),
        }
        if let Some(ptr) = filled {
            let bytes = vec![step as u8 | 1; medium.size_of(ptr).unwrap() as usize];
            medium.write(ptr, 0, &bytes).unwrap();
            shadow.insert(ptr, bytes);
        }
        medium.check_invariants();
    }
    assert_eq!(blobs(&medium), shadow);
    medium.close().unwrap();
    assert_eq!(check(&path, |_, _| {}).unwrap(), 0);
    fs::remove_file(&path).unwrap();
}
