// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work of the fuzz targets over a medium in memory on their input: no file and no system call. A shadow has the blobs and the open
//! transactions; after each operation it is compared with the heap, whose invariants are checked.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::format::{Extent, HEADER, MIN_BLOCK, MIN_DATA, Marker, OVERHEAD, STEP, Start, WORD, header};
use super::heap::{Changes, Heap};
use super::memory::{Blobs, MemMedium, blobs, closed};
use super::record::{Change, HEAD, UNIT, Writer, committed_tag, idle_tag, unit_bytes, units_of};
use super::{Error, Flags, Result, recover};

/// No medium becomes larger: so the bytes do not move.
const LARGEST: usize = 512 << 10;
const MOST_OPERATIONS: usize = 200;
const MOST_OPEN: usize = 4;

thread_local! {
    /// The memory of the last medium, for the next one.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A medium that has these bytes.
fn medium(bytes: &[u8]) -> MemMedium {
    let mut own = SPARE.take();
    own.clear();
    own.reserve(LARGEST);
    own.extend_from_slice(bytes);
    MemMedium { disk_size: LARGEST as u64, ..MemMedium::new(own) }
}

fn done_with(medium: MemMedium) {
    SPARE.set(medium.bytes);
}

fn bytes_at(heap: &Heap<MemMedium>, at: u64, len: usize) -> &[u8] {
    &heap.medium.bytes[at as usize..][..len]
}

fn live(heap: &Heap<MemMedium>) -> impl Iterator<Item = (u64, &[u8])> {
    let mut next = heap.first();
    std::iter::from_fn(move || {
        let ptr = *next.as_ref().unwrap();
        let n = if ptr == 0 { return None } else { heap.size_of(ptr).unwrap() };
        next = heap.next(ptr);
        Some((ptr, bytes_at(heap, ptr, n as usize)))
    })
}

/// Frees all blobs: then the medium is one free block, or nothing.
fn nothing_is_lost(mut heap: Heap<MemMedium>, shadow: &Blobs) {
    for &ptr in shadow.keys() {
        heap.free(ptr).unwrap();
    }
    let dynamic = heap.dynamic;
    let medium = closed(heap);
    let len = medium.bytes.len() as u64;
    let first = medium.bytes.get(8..16).map(|word| Marker(u64::from_be_bytes(word.try_into().unwrap())));
    assert!(if dynamic { len == HEADER || first.unwrap().is_free() } else { first == Some(Marker::free(len - 24)) });
    done_with(medium);
}

/// A transaction and its planned changes.
struct Open {
    changes: Changes,
    news: Blobs,
    frees: BTreeSet<u64>,
    /// The blob, where in the medium, the bytes.
    stores: Vec<(u64, u64, Vec<u8>)>,
}

struct State {
    heap: Heap<MemMedium>,
    flags: Flags,
    durable: bool,
    exact: bool,
    shadow: Blobs,
    open: Vec<Open>,
}

impl State {
    /// Opens a killed medium that has these bytes: it has the blobs of before, or these.
    fn reopen(&mut self, bytes: &[u8], after: Blobs) {
        for open in &mut self.open {
            self.heap.tx_cancel(&mut open.changes);
        }
        self.open.clear();
        let mut again = medium(bytes);
        again.barriers = self.durable.then(Vec::new);
        let heap = recover::open(again, self.flags).expect("a killed medium opens").0;
        done_with(std::mem::replace(&mut self.heap, heap).medium);
        self.heap.exact = self.exact;
        let found = blobs(&self.heap);
        assert!(found == self.shadow || found == after, "done or undone");
        self.shadow = found;
    }

    /// A block that was handed out is nobody else's.
    fn is_nobodys(&self, ptr: u64, n: usize) {
        let news = self.open.iter().flat_map(|open| &open.news);
        for (&other, bytes) in self.shadow.iter().chain(news) {
            let is_apart = ptr + n as u64 + OVERHEAD <= other || other + bytes.len() as u64 + OVERHEAD <= ptr;
            assert!(is_apart, "{ptr} with {n} bytes is beside {other} with {}", bytes.len());
        }
        assert!(ptr + n as u64 + WORD <= self.heap.medium.bytes.len() as u64);
    }

    /// The blobs once the transaction is committed; None if that is refused.
    fn committed(&self, open: &Open) -> Option<Blobs> {
        let mut blobs = self.shadow.clone();
        for (blob, at, bytes) in &open.stores {
            let offset = (at - blob) as usize;
            blobs.get_mut(blob)?.get_mut(offset..offset + bytes.len())?.copy_from_slice(bytes);
        }
        for ptr in &open.frees {
            blobs.remove(ptr)?;
        }
        blobs.extend(open.news.clone());
        Some(blobs)
    }

    fn check(&self) {
        self.heap.check_invariants();
        assert!(live(&self.heap).eq(self.shadow.iter().map(|(&ptr, bytes)| (ptr, &bytes[..]))));
        for (&ptr, bytes) in self.open.iter().flat_map(|open| &open.news) {
            assert_eq!(bytes_at(&self.heap, ptr, bytes.len()), bytes);
        }
    }

    fn fill(&mut self, ptr: u64, value: u8) {
        let n = self.heap.size_of(ptr).unwrap() as usize;
        self.heap.medium.bytes[ptr as usize..][..n].fill(value);
        self.shadow.insert(ptr, vec![value; n]);
    }

    fn operation(&mut self, what: u8, a: u8, b: u8) {
        let size = match what >> 5 & 3 {
            0 | 1 => u64::from(b),
            2 => u64::from(b) * 16,
            _ => u64::from(b) * 300,
        };
        let value = a ^ b;
        let chosen = self.shadow.keys().nth(usize::from(a) % self.shadow.len().max(1)).copied();
        let slot = usize::from(b) % self.open.len().max(1);
        let can_fail = self.heap.medium.failures_left.get() > 0;
        match (what & 31, chosen) {
            (0..=2, _) => {
                if let Ok(ptr) = self.heap.alloc(size) {
                    let n = self.heap.size_of(ptr).unwrap();
                    assert!(n >= size);
                    self.is_nobodys(ptr, n as usize);
                    self.fill(ptr, value);
                }
            }
            (3 | 4, Some(ptr)) => match self.heap.free(ptr) {
                Ok(()) => drop(self.shadow.remove(&ptr)),
                Err(error) => assert!(can_fail, "{error}"),
            },
            (5 | 6, Some(ptr)) => {
                if let Ok(new) = self.heap.resize(ptr, size) {
                    let old = self.shadow.remove(&ptr).unwrap();
                    let n = self.heap.size_of(new).unwrap() as usize;
                    self.is_nobodys(new, n);
                    let kept = old.len().min(n);
                    assert_eq!(bytes_at(&self.heap, new, kept), &old[..kept]);
                    self.fill(new, value);
                }
            }
            (7, _) => {
                let result = self.heap.sync();
                assert!(result.is_ok() || can_fail);
            }
            (8, _) if !can_fail => {
                self.heap.close().unwrap();
                self.open.clear();
                assert_eq!(recover::check(&self.heap.medium, |_, _| {}), 0);
                let bytes = self.heap.medium.bytes.clone();
                self.reopen(&bytes, Blobs::new());
            }
            (9, _) => {
                let bytes = self.heap.medium.bytes.clone();
                self.reopen(&bytes, self.shadow.clone());
            }
            (10, _) => {
                self.heap.medium.calls_left.set(u64::from(a) % 16);
                self.heap.medium.failures_left.set(u64::from(b) % 8);
            }
            (11, _) => {
                let wrong = u64::from(a) << 8 | u64::from(b);
                assert!(self.shadow.contains_key(&wrong) || self.heap.free(wrong).is_err());
            }
            _ if self.exact => {} // no transactions there
            (12..=15, _) if self.open.len() < MOST_OPEN => {
                if let Ok(changes) = self.heap.begin() {
                    self.open.push(Open { changes, news: Blobs::new(), frees: BTreeSet::new(), stores: Vec::new() });
                }
            }
            (12..=19, _) if !self.open.is_empty() => {
                let mut open = self.open.swap_remove(slot);
                if let Ok(ptr) = self.heap.tx_alloc(&mut open.changes, size) {
                    let data = open.changes.data(ptr).unwrap();
                    assert_eq!(
                        data.cast::<u8>().as_ptr().cast_const(),
                        self.heap.medium.bytes[ptr as usize..].as_ptr()
                    );
                    assert!(data.len() as u64 >= size);
                    self.is_nobodys(ptr, data.len());
                    open.news.keys().for_each(|&other| assert_ne!(ptr, other));
                    self.heap.medium.bytes[ptr as usize..][..data.len()].fill(value);
                    self.open.push(open);
                    self.is_new(ptr, data.len(), value);
                } else {
                    self.open.push(open);
                }
            }
            (20 | 21, Some(ptr)) if !self.open.is_empty() => {
                let open = &mut self.open[slot];
                match self.heap.tx_free(&mut open.changes, ptr) {
                    Ok(()) => assert!(open.frees.insert(ptr), "twice"),
                    Err(_) => assert!(
                        can_fail
                            || open.frees.contains(&ptr)
                            || self.heap.medium.bytes.len() > LARGEST / 2
                            || !self.heap.dynamic
                    ),
                }
            }
            (22..=24, _) if !self.open.is_empty() => self.store(slot, chosen, a, b, size),
            (25, _) if !self.open.is_empty() => {
                let mut open = self.open.swap_remove(slot);
                self.heap.tx_cancel(&mut open.changes);
                assert!(open.changes.is_over());
            }
            (26 | 27, _) if !self.open.is_empty() => self.killed_commit(slot, u64::from(a) % 64),
            (28..=31, _) if !self.open.is_empty() => {
                let mut open = self.open.swap_remove(slot);
                let after = self.committed(&open);
                match self.heap.tx_commit(&mut open.changes) {
                    Ok(()) => self.shadow = after.expect("a commit that should be refused"),
                    Err(error) => {
                        assert!(after.is_none() || (can_fail && self.durable), "{error}");
                        self.open.push(open);
                    }
                }
            }
            _ => {}
        }
        if self.heap.failed_sync.is_some() {
            self.heap.medium.failures_left.set(0);
            let bytes = self.heap.medium.bytes.clone();
            self.reopen(&bytes, self.shadow.clone());
        }
    }

    /// The last transaction in the list has a new blob.
    fn is_new(&mut self, ptr: u64, n: usize, value: u8) {
        let open = self.open.last_mut().unwrap();
        assert!(open.news.insert(ptr, vec![value; n]).is_none());
        let ends: Vec<(u64, u64)> = open.news.iter().map(|(&ptr, bytes)| (ptr, ptr + bytes.len() as u64)).collect();
        assert!(ends.windows(2).all(|two| two[0].1 + OVERHEAD <= two[1].0));
    }

    /// Stores to a blob of the transaction's own, or to one that is live.
    fn store(&mut self, slot: usize, chosen: Option<u64>, a: u8, b: u8, size: u64) {
        let bytes = vec![a.wrapping_add(b); if b & 1 == 0 { 8 } else { size as usize % 600 }];
        let open = &mut self.open[slot];
        if let Some((&ptr, new)) = open.news.iter_mut().nth(usize::from(a) % 8) {
            let offset = usize::from(b) % new.len();
            let fits = bytes.len() <= new.len() - offset;
            assert_eq!(open.changes.store_in_new(ptr + offset as u64, &bytes), fits);
            if fits {
                new[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
            return;
        }
        let Some(ptr) = chosen else { return };
        let blob = &self.shadow[&ptr];
        let offset = if a & 1 == 0 { usize::from(b) / 8 * 8 } else { usize::from(b) };
        let (at, can_fail) = (ptr + offset as u64, self.heap.medium.failures_left.get() > 0);
        match self.heap.tx_store(&mut open.changes, at, &bytes) {
            Ok(()) => {
                // Where it does not fit into this blob, it is in another one.
                let (&owner, in_blob) = self.shadow.range(..=at).next_back().unwrap();
                assert!(
                    at - owner <= in_blob.len() as u64 && bytes.len() as u64 <= in_blob.len() as u64 - (at - owner)
                );
                assert!(!open.frees.contains(&owner));
                if !bytes.is_empty() {
                    open.stores.push((owner, at, bytes)); // else it is no change, and the blob may be freed meanwhile
                }
            }
            Err(Error::NotInBlob { .. }) => {
                assert!(offset > blob.len() || bytes.len() > blob.len() - offset)
            }
            Err(Error::FreedByTransaction(ptr)) => assert!(open.frees.contains(&ptr)),
            Err(error) => assert!(can_fail || matches!(error, Error::Full { .. } | Error::System { .. }), "{error}"),
        }
    }

    /// Commits and is killed before the store of this number.
    fn killed_commit(&mut self, slot: usize, store: u64) {
        let mut open = self.open.swap_remove(slot);
        let after = self.committed(&open);
        self.heap.medium.picture_before = Some(store);
        let result = self.heap.tx_commit(&mut open.changes);
        self.heap.medium.picture_before = None;
        let picture = self.heap.medium.picture.take();
        if result.is_err() {
            self.heap.tx_cancel(&mut open.changes);
        }
        let bytes = picture.unwrap_or_else(|| self.heap.medium.bytes.clone());
        self.heap.medium.failures_left.set(0);
        self.reopen(&bytes, after.unwrap_or_default());
    }
}

/// The first byte is the kind of medium; each three behind it are an operation and its arguments.
pub fn transactions(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let (flags, size) = if kind & 1 == 0 { (Flags::DYNAMIC, 0) } else { (Flags::DEFAULT, 40 + usize::from(kind) * 80) };
    let (durable, exact) = (kind & 2 != 0, kind & 12 == 12);
    let mut start = medium(&[]);
    start.bytes.resize(size, 0);
    start.barriers = durable.then(Vec::new);
    let mut heap = recover::open(start, flags).unwrap().0;
    heap.exact = exact;
    let mut state = State { heap, flags, durable, exact, shadow: Blobs::new(), open: Vec::new() };
    for operation in data.chunks_exact(3).take(MOST_OPERATIONS) {
        state.operation(operation[0], operation[1], operation[2]);
        state.check();
    }
    state.heap.medium.failures_left.set(0);
    let bytes = state.heap.medium.bytes.clone();
    state.reopen(&bytes, state.shadow.clone());
    nothing_is_lost(state.heap, &state.shadow);
}

/// The end of `work`. One input has one of these, because each costs an opening.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Killed,
    Closed,
    Everything,
}

/// Works on a medium that was opened, with transactions too: no blob's space is handed out.
fn work(mut heap: Heap<MemMedium>, then: Then) -> Result<()> {
    let mut shadow = blobs(&heap);
    let is_apart = |shadow: &Blobs, ptr: u64, n: u64| {
        shadow.iter().all(|(&other, bytes)| ptr + n < other || other + bytes.len() as u64 <= ptr)
    };
    if let Ok(ptr) = heap.alloc(24) {
        let n = heap.size_of(ptr)?;
        assert!(is_apart(&shadow, ptr, n));
        heap.medium.bytes[ptr as usize..][..n as usize].fill(7);
        shadow.insert(ptr, vec![7; n as usize]);
    }
    if then == Then::Closed {
        if let Some((ptr, _)) = shadow.pop_first() {
            heap.free(ptr)?;
        }
    } else if let Ok(mut changes) = heap.begin() {
        let mut after = shadow.clone();
        if let Ok(ptr) = heap.tx_alloc(&mut changes, 40) {
            let n = changes.data(ptr)?.len();
            assert!(is_apart(&shadow, ptr, n as u64));
            heap.medium.bytes[ptr as usize..][..n].fill(9);
            after.insert(ptr, vec![9; n]);
        }
        let mut old = shadow.keys();
        if let Some(&ptr) = old.next() {
            if heap.tx_free(&mut changes, ptr).is_ok() {
                after.remove(&ptr);
            }
        }
        if let Some(&ptr) = old.next() {
            if heap.tx_store(&mut changes, ptr, &[5; 8]).is_ok() {
                after.get_mut(&ptr).unwrap()[..8].fill(5);
            }
        }
        heap.tx_commit(&mut changes)?;
        shadow = after;
    }
    let mut again = match then {
        Then::Closed => closed(heap),
        Then::Killed => heap.medium,
        Then::Everything => {
            assert_eq!(blobs(&heap), shadow);
            let again = recover::open(MemMedium::new(heap.medium.bytes.clone()), Flags::DEFAULT)?.0;
            assert_eq!(blobs(&again), shadow, "killed");
            closed(heap)
        }
    };
    again.barriers = None;
    let again = recover::open(again, Flags::DEFAULT)?.0;
    assert_eq!(blobs(&again), shadow, "opened again");
    done_with(again.medium);
    Ok(())
}

/// A medium with any bytes is opened or refused, the same for reading only, and unchanged if it is refused; what was opened is worked
/// on and is sound afterwards. A hash of the input says which of these is tried, all of them for one value of eight.
pub fn media(data: &[u8]) {
    if data.len() > LARGEST / 4 {
        return;
    }
    let kind = data.iter().fold(data.len(), |hash, &byte| hash.wrapping_mul(31).wrapping_add(byte.into())) / 16 % 8;
    let everything = kind == 7;
    let second = medium(data);
    let changes = second.changes.clone();
    let opened = match recover::open(second, Flags::DEFAULT) {
        Err(_) => {
            assert_eq!(changes.get(), 0, "what is refused is not written to");
            None
        }
        Ok((heap, _)) => Some(heap),
    };
    if everything || kind < 2 {
        let first = MemMedium::new(data.to_vec());
        let changes = first.changes.clone();
        let read_only = recover::open(first, Flags::READONLY).map(|(heap, _)| blobs(&heap));
        assert_eq!(changes.get(), 0, "READONLY writes nothing");
        if let (Some(heap), Ok(read_only)) = (&opened, read_only) {
            // The last one may have been given what is too little for a block.
            let found = blobs(heap);
            assert!(read_only.keys().eq(found.keys()));
            assert!(read_only.iter().all(|(ptr, bytes)| found[ptr].starts_with(bytes)));
        }
    }
    let then = match kind {
        7 => Then::Everything,
        2..=4 => Then::Killed,
        5 | 6 => Then::Closed,
        _ => return opened.into_iter().for_each(|heap| done_with(heap.medium)),
    };
    if let Some(heap) = opened {
        work(heap, then).unwrap();
    }
}

/// A medium that was made of the input: what is in each block, and what records say.
#[derive(Default)]
struct Crafted {
    bytes: Vec<u8>,
    live: Vec<Extent>,
    free: Vec<Extent>,
    /// The blocks that the records name.
    marked: Vec<Start>,
    freed: Vec<Start>,
    stored: Vec<(u64, u64)>,
}

impl Crafted {
    fn put(&mut self, at: u64, word: u64) {
        self.bytes[at as usize..][..8].copy_from_slice(&word.to_be_bytes());
    }

    /// The first byte is how many blocks there are, each has two: its kind and its size. The end marker of a live or a free block may be a
    /// tag. Then for each log how many changes it has, and for each of these four bytes; its record or its tag may be damaged.
    fn new(data: &[u8]) -> Option<Crafted> {
        let (&count, data) = data.split_first()?;
        let count = 2 + usize::from(count % 12);
        let (blocks, mut rest) = data.split_at_checked(2 * count)?;
        let mut crafted = Crafted::default();
        let mut logs = Vec::new();
        let mut all = Vec::new();
        crafted.bytes.extend_from_slice(&header(0).to_be_bytes());
        for block in blocks.chunks_exact(2) {
            let start = Start::at(crafted.bytes.len() as u64);
            let data_len = MIN_DATA.next_multiple_of(STEP) + STEP * u64::from(block[1] % 32);
            let extent = Extent { start, data_len };
            crafted.bytes.resize(extent.end() as usize, block[1]);
            let marker = if block[0] & 3 == 1 { Marker::free(data_len) } else { Marker::live(data_len) };
            crafted.put(start.offset(), marker.0);
            let own_tag = idle_tag(extent.end_marker());
            let mut end = match block[0] >> 2 & 7 {
                0 => idle_tag(start.offset()),                       // of another place
                1 => idle_tag(extent.end_marker() + OVERHEAD),       // and another one
                2 => committed_tag(block[1].into(), start.offset()), // of no record
                3 => own_tag,
                _ => marker.0,
            };
            match block[0] & 3 {
                1 => crafted.free.push(extent),
                2 => {
                    logs.push((extent, block[0]));
                    end = own_tag;
                }
                _ if end == own_tag => {} // nobody's
                _ => crafted.live.push(extent),
            }
            crafted.put(extent.end_marker(), end);
            all.push(extent);
        }
        for (log, kind) in logs {
            let Some((&count, behind)) = rest.split_first() else { break };
            let mut units: Vec<u8> = Vec::new();
            let mut own = MemMedium::new(std::mem::take(&mut crafted.bytes));
            let mut writer = Writer::new(log.start, u64::from(kind >> 4));
            let most = (log.data_len.saturating_sub(HEAD) / UNIT) as usize;
            let named = (crafted.marked.len(), crafted.freed.len(), crafted.stored.len());
            rest = behind;
            for _ in 0..count {
                let Some((&[what, which, a, b], behind)) = rest.split_first_chunk() else { break };
                let block = all[usize::from(which) % all.len()];
                let mut more = Vec::new();
                match what & 3 {
                    0 => {
                        let n = MIN_DATA.next_multiple_of(STEP) + STEP * u64::from(a % 16);
                        let next = Extent { start: block.start, data_len: n }.next();
                        if next.offset() + MIN_BLOCK <= block.end() && b & 1 == 0 && crafted.free.contains(&block) {
                            let rest = Extent::between(next, block.end());
                            own.bytes[next.offset() as usize..][..8]
                                .copy_from_slice(&Marker::live(rest.data_len).0.to_be_bytes());
                        }
                        let marker = Marker::live(if b & 2 == 0 { n } else { block.data_len }).0;
                        more.extend_from_slice(&unit_bytes(Change::Mark { block: block.start, marker }.encode()));
                        crafted.marked.push(block.start);
                    }
                    1 => {
                        more.extend_from_slice(&unit_bytes(Change::Free { block: block.start }.encode()));
                        crafted.freed.push(block.start);
                    }
                    2 => {
                        let (at, len) = (block.start.offset() + u64::from(a) * 4, u16::from(b));
                        more.extend_from_slice(&unit_bytes(Change::Store { block: block.start, at, len }.encode()));
                        more.resize(more.len() + units_of(len.into()) * UNIT as usize, what);
                        crafted.stored.push((at, at + u64::from(len)));
                    }
                    _ if b & 1 == 0 => {
                        more.extend_from_slice(&unit_bytes([u64::from(a) << 56 | u64::from(which), u64::from(b)]))
                    }
                    // Of more bytes than any record here has.
                    _ => {
                        let store = Change::Store { block: block.start, at: block.blob(), len: 31 * UNIT as u16 };
                        more.extend_from_slice(&unit_bytes(store.encode()));
                    }
                }
                if (units.len() + more.len()) / UNIT as usize > most {
                    break;
                }
                units.extend_from_slice(&more);
                rest = behind;
            }
            if log.data_len >= HEAD {
                writer.units(&mut own, &units);
                let tag = writer.finish(&mut own);
                let variant = kind >> 2 & 7; // 0 and 1: it is no record, or that of another tag, and names nothing
                if variant == 0 && !units.is_empty() {
                    own.bytes[(log.blob() + HEAD + UNIT - 2) as usize] ^= 1;
                }
                if variant < 2 {
                    crafted.marked.truncate(named.0);
                    crafted.freed.truncate(named.1);
                    crafted.stored.truncate(named.2);
                }
                let tag = tag ^ u64::from(variant == 1);
                own.bytes[log.end_marker() as usize..][..8].copy_from_slice(&tag.to_be_bytes());
            }
            crafted.bytes = own.bytes;
        }
        Some(crafted)
    }
}

/// A medium with logs and records that say anything: only what they name is freed and stored to, and blobs are made of free blocks only.
pub fn records(data: &[u8]) {
    let Some(crafted) = Crafted::new(data) else { return };
    let again = medium(&crafted.bytes);
    let changes = again.changes.clone();
    let Ok((heap, _)) = recover::open(again, Flags::DEFAULT) else {
        return assert_eq!(changes.get(), 0, "what is refused is not written to");
    };
    let found = blobs(&heap);
    for &block in &crafted.live {
        let Some(bytes) = found.get(&block.blob()) else {
            assert!(crafted.freed.contains(&block.start), "{block:?} is lost");
            continue;
        };
        assert_eq!(bytes.len() as u64, block.data_len);
        for (i, byte) in bytes.iter().enumerate() {
            let at = block.blob() + i as u64;
            let is_stored = || crafted.stored.iter().any(|&(from, to)| (from..to).contains(&at));
            assert!(*byte == crafted.bytes[at as usize] || is_stored(), "byte {at} is changed");
        }
    }
    for (&ptr, bytes) in &found {
        let is_old = crafted.live.iter().any(|block| block.blob() == ptr);
        let end = ptr + bytes.len() as u64 + WORD;
        let mut made_of = crafted.free.iter().filter(|free| crafted.marked.contains(&free.start));
        let was_freed = |start: Start| crafted.freed.contains(&start) && crafted.marked.contains(&start);
        let is_made = made_of.any(|free| free.blob() <= ptr && end <= free.end())
            || crafted.live.iter().any(|live| was_freed(live.start) && live.blob() <= ptr && end <= live.end());
        assert!(is_old || is_made, "{ptr} comes from nowhere");
    }
    work(heap, Then::Everything).unwrap();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::random::Random;

    /// Runs `body` with the corpora of this name, and with changed ones.
    fn replay(name: &str, body: fn(&[u8])) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let inputs: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(inputs.len() > 5);
        inputs.iter().for_each(|input| body(input));
        let mut random = Random(77);
        let mut below = |n: usize| random.below(n.max(1));
        for _ in 0..if super::super::tests::is_deep() { 300_000 } else { 3_000 } {
            let mut input = inputs[below(inputs.len())].clone();
            for _ in 0..=below(6) {
                let at = below(input.len());
                match below(4) {
                    0 => input.truncate(at + 1),
                    1 => input.extend((0..3 * below(40)).map(|_| below(256) as u8).collect::<Vec<_>>()),
                    _ if !input.is_empty() => input[at] = below(256) as u8,
                    _ => {}
                }
            }
            body(&input);
        }
    }

    #[test]
    fn any_transactions_keep_what_was_written() {
        replay("transactions", super::transactions);
    }

    #[test]
    fn any_bytes_in_memory_are_opened_or_refused() {
        replay("bytes", super::media);
    }

    #[test]
    fn any_records_change_what_they_name() {
        replay("records", super::records);
    }
}
