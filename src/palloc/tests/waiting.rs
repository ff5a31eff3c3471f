// SPDX-License-Identifier: MIT OR Apache-2.0
//! What other threads do while one waits for the disk without the lock, one step at a time: between the steps of a group commit and of a
//! palloc_sync come random calls. Then the power is cut, as in `power` and `transactions`.

use super::power::{cut_power_since_sync, power_cuts};
use super::transactions::{MEDIA, change, is_found, start};
use super::{
    Blobs, Error, Flags, Heap, MemMedium, Operation, Random, Result, blobs, closed, fill, is_deep, open,
    random_operation,
};
use crate::palloc::heap::Changes;
use crate::palloc::medium::Medium;

/// A transaction and its changes.
struct Member {
    ticket: u64,
    news: Vec<(u64, u8)>,
    frees: Vec<u64>,
    stores: Vec<(u64, Vec<u8>)>,
}

/// Sizes of new blobs and the values of their bytes, what is freed, what is stored where.
type Work = (Vec<(u64, u8)>, Vec<u64>, Vec<(u64, Vec<u8>)>);

/// Some changes of the blobs in `live`, at random.
fn random_changes(live: &Blobs, random: &mut Random) -> Work {
    let news = (0..random.below(3)).map(|_| (random.size(), random.below(256) as u8)).collect();
    let mut ptrs: Vec<u64> = live.keys().copied().collect();
    let (mut frees, mut stores) = (Vec::new(), Vec::new());
    for i in 0..random.below(5) {
        if !ptrs.is_empty() {
            let ptr = ptrs.swap_remove(random.below(ptrs.len() as u64) as usize);
            if i % 2 == 0 { stores.push((ptr + 8, vec![random.below(256) as u8; 8])) } else { frees.push(ptr) }
        }
    }
    (news, frees, stores)
}

/// Begins a transaction with these changes and queues it. Fails as its calls do; then it is cancelled.
fn enqueue(heap: &mut Heap<MemMedium>, live: &Blobs, random: &mut Random) -> Result<Member> {
    let (sizes, frees, stores) = random_changes(live, random);
    let mut changes = heap.begin()?;
    heap.medium.note_change();
    if let Err(error) = change(heap, &mut changes, &sizes, &frees, &stores) {
        heap.tx_cancel(&mut changes);
        return Err(error);
    }
    let news = changes.offsets().into_iter().map(|ptr| (ptr, heap.medium.bytes[ptr as usize])).collect();
    Ok(Member { ticket: heap.queue(&mut changes), news, frees, stores })
}

/// The blobs. Skips the checks that do not hold while a group is under way.
fn seen(heap: &Heap<MemMedium>) -> Blobs {
    let mut blobs = Blobs::new();
    let mut from = 0;
    while let Some(block) = heap.block_from(from).unwrap() {
        if !block.is_free {
            blobs.insert(block.ptr, heap.medium.bytes[block.ptr as usize..][..block.size as usize].to_vec());
        }
        from = block.end();
    }
    let mut ptr = heap.first().unwrap();
    for &known in blobs.keys() {
        assert_eq!(ptr, known);
        ptr = heap.next(ptr).unwrap();
    }
    assert_eq!(ptr, 0);
    blobs
}

/// The calls of other threads while a group is on its way to the disk. Nothing of it is stored but what programs store in their blobs.
fn meanwhile(heap: &mut Heap<MemMedium>, before: &Blobs, random: &mut Random, members: &mut Vec<Member>) {
    heap.medium.is_frozen = true;
    let live: Vec<u64> = before.keys().copied().collect();
    for _ in 0..random.below(5) {
        let some = live.get(random.below(live.len().max(1) as u64) as usize).copied();
        match (random.below(6), some) {
            (0, _) => assert!(matches!(heap.alloc(random.size()), Err(Error::Busy))),
            (1, Some(ptr)) => assert!(matches!(heap.free(ptr), Err(Error::Busy))),
            (2, Some(ptr)) => assert!(matches!(heap.resize(ptr, random.size()), Err(Error::Busy))),
            (3, Some(ptr)) => assert_eq!(heap.data(ptr).unwrap().len(), before[&ptr].len()),
            _ => match enqueue(heap, before, random) {
                Ok(member) => members.push(member),
                Err(error) => assert!(matches!(error, Error::Busy | Error::Full { .. } | Error::NoBlob(_)), "{error}"),
            },
        }
        assert!(seen(heap) == *before);
    }
    heap.medium.is_frozen = false;
}

/// A flush without the lock: it brings what was stored before it began.
fn flush(heap: &mut Heap<MemMedium>, before: &Blobs, random: &mut Random, members: &mut Vec<Member>) -> Result<()> {
    let place = heap.medium.states();
    meanwhile(heap, before, random, members);
    heap.medium.flush_from(place).inspect_err(|error| heap.note_failed_sync(error))
}

/// Commits a group, on a disk that needs no time.
fn commit_group(heap: &mut Heap<MemMedium>) {
    let mut commit = heap.begin_group();
    while commit.needs_flush() {
        heap.advance_commit(&mut commit, true);
    }
    heap.end_group(commit, Ok(()));
    heap.end_turn();
}

/// Leads a group, with random calls of other threads during its flushes.
fn lead(heap: &mut Heap<MemMedium>, before: &Blobs, random: &mut Random, members: &mut Vec<Member>) {
    let mut commit = heap.begin_group();
    let mut result = Ok(());
    while commit.needs_flush() {
        result = flush(heap, before, random, members);
        heap.advance_commit(&mut commit, result.is_ok());
    }
    heap.end_group(commit, result);
    heap.end_turn();
}

/// The blobs once the members that are over have done what they do. Takes these out. Returns how many were done, and how many not.
fn expected(heap: &mut Heap<MemMedium>, before: &Blobs, members: &mut Vec<Member>) -> (Blobs, [usize; 2]) {
    let mut blobs = before.clone();
    let mut counts = [0, 0];
    members.retain(|member| {
        let Some((mut changes, result)) = heap.take_result(member.ticket) else { return true };
        counts[usize::from(result.is_err())] += 1;
        if result.is_err() {
            heap.tx_cancel(&mut changes);
            return false;
        }
        for &(ptr, value) in &member.news {
            blobs.insert(ptr, vec![value; heap.size_of(ptr).unwrap() as usize]);
        }
        for (at, bytes) in &member.stores {
            let blob = blobs.get_mut(&(at - 8)).expect("it stores to a blob that is there");
            blob[8..16].copy_from_slice(bytes);
        }
        for ptr in &member.frees {
            assert!(blobs.remove(ptr).is_some(), "no two transactions free one blob");
        }
        false
    });
    (blobs, counts)
}

/// Groups of random transactions, with random calls of other threads between their steps, and plain calls between groups. Returns how many
/// images were opened, how many transactions were done, and how many groups there were.
fn cut_power_in_groups(medium: usize, seed: u64, rounds: u32, sabotage: Option<u64>) -> [usize; 3] {
    let mut random = Random(seed);
    let mut durable = start(medium);
    durable.heap.medium.sabotage = sabotage;
    let mut members = Vec::new();
    let (mut done, mut groups) = (0, 0);
    for round in 0..rounds {
        if round % 4 == 3 {
            let filled = durable.cut_power_during(&mut random, 40, random_operation);
            filled.into_iter().for_each(|ptr| durable.fill(ptr, round as u8 | 1));
        }
        // Their calls may claim a log or a region, which changes no blob.
        durable.cut_power_during(&mut random, 40, |heap, before, random| {
            for _ in 0..random.below(4) {
                members.extend(enqueue(heap, before, random));
            }
            (Operation::Other, ())
        });
        durable.cut_power_during(&mut random, 80, |heap, before, random| {
            lead(heap, before, random, &mut members);
            let (blobs, counts) = expected(heap, before, &mut members);
            assert!(seen(heap) == blobs);
            (done, groups) = (done + counts[0], groups + usize::from(counts[0] > 0));
            (Operation::Other, ())
        });
    }
    [durable.images_opened, done, groups]
}

#[test]
fn a_power_cut_in_a_group_with_calls_of_other_threads_leaves_each_transaction_done_or_undone() {
    let mut sums = [0; 3];
    for seed in 1..=if is_deep() { 200 } else { 4 } {
        let counts = cut_power_in_groups(seed as usize % MEDIA.len(), seed * 173, 30, None);
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [images, done, groups] = sums;
    println!("{images} images opened, {done} transactions in {groups} groups");
    assert!(images > 3_000 && done > groups * 3 / 2);
}

#[test]
fn a_barrier_of_a_group_left_out_is_found() {
    let run = |seed: u64, left_out| {
        cut_power_in_groups(1, seed * 173, 12, Some(left_out));
    };
    let missed = |i| !(1..=4).any(|seed| is_found(|| run(seed, i)));
    let missed: Vec<u64> = (0..8).filter(|&i| missed(i)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// Two transactions are queued when the group begins, a third joins the queue while it is on its way. The flush with this number fails.
fn fail_in_group(failing: usize) {
    let mut durable = start(0);
    let heap = &mut durable.heap;
    let before = blobs(heap);
    let [first, second] = *before.keys().copied().collect::<Vec<_>>() else { panic!("two blobs") };
    let mut tickets = Vec::new();
    let mut add = |heap: &mut Heap<MemMedium>, news: &[(u64, u8)], frees: &[u64], store: u64| {
        let mut changes = heap.begin().unwrap();
        change(heap, &mut changes, news, frees, &[(store + 8, vec![7; 8])]).unwrap();
        tickets.push(heap.queue(&mut changes));
    };
    add(heap, &[(50, 9)], &[], first);
    add(heap, &[(60, 9)], &[second], first);
    let mut states = Vec::new();
    let mut commit = heap.begin_group();
    heap.medium.before_each_change = Some(Vec::new());
    add(heap, &[], &[], first);
    let error = || Error::System { doing: "flush", source: std::io::Error::from_raw_os_error(libc::EDQUOT) };
    if failing == 1 {
        heap.advance_commit(&mut commit, true);
        states = heap.medium.before_each_change.take().unwrap();
    }
    states.push(heap.medium.bytes.clone());
    heap.note_failed_sync(&error());
    heap.advance_commit(&mut commit, false);
    heap.end_group(commit, Err(error()));
    heap.end_turn();
    let after = heap.begin_group();
    assert!(!after.needs_flush(), "nothing is stored after a failed sync");
    heap.end_group(after, Ok(()));
    heap.end_turn();
    for (i, &ticket) in tickets.iter().enumerate() {
        let (mut changes, result) = heap.take_result(ticket).expect("each member has a result");
        match result {
            Err(Error::System { source, .. }) if i < 2 => assert_eq!(source.raw_os_error(), Some(libc::EDQUOT)),
            Err(Error::SyncFailed(libc::EDQUOT)) if i == 2 => {}
            other => panic!("{other:?}"),
        }
        assert!(!changes.is_over(), "the transaction goes on");
        assert!(matches!(heap.tx_commit(&mut changes), Err(Error::SyncFailed(libc::EDQUOT))));
        heap.tx_cancel(&mut changes);
    }
    assert!(blobs(heap) == before);
    assert!(blobs(&open(heap.medium.bytes.clone(), Flags::DEFAULT).unwrap()) == before, "undone for every process");
    let mut found = [0, 0];
    power_cuts(&states, 5000, &mut Random(1), |image| {
        let blobs = blobs(&open(image, Flags::DEFAULT).unwrap());
        let is_done = !blobs.contains_key(&second);
        assert_eq!(blobs.len(), if is_done { 3 } else { 2 });
        assert_eq!(blobs[&first][8..16] == [7; 8], is_done);
        found[usize::from(is_done)] += 1;
    });
    assert!(found[0] > 0 && (found[1] > 0) == (failing == 1), "on the disk it is done or undone as a whole: {found:?}");
}

#[test]
fn a_failed_barrier_fails_each_transaction_of_the_group_and_undoes_it() {
    fail_in_group(0);
    fail_in_group(1);
}

#[test]
fn a_group_takes_as_many_as_its_log_holds_and_the_rest_is_the_next_group() {
    let mut durable = start(0);
    let heap = &mut durable.heap;
    let ptr = *blobs(heap).keys().next().unwrap();
    let tickets: Vec<u64> = (0..5)
        .map(|i| {
            let mut changes = heap.begin().unwrap();
            let stores: Vec<_> = (0..if i == 3 { 100 } else { 20 }).map(|k| (ptr + 8 * k, vec![i; 8])).collect();
            change(heap, &mut changes, &[], &[], &stores).unwrap();
            heap.queue(&mut changes)
        })
        .collect();
    let mut groups = Vec::new();
    while heap.queued() > 0 {
        commit_group(heap);
        let over: Vec<usize> =
            (0..5).filter(|&i| heap.take_result(tickets[i]).is_some_and(|(_, result)| result.is_ok())).collect();
        groups.push(over);
    }
    assert_eq!(groups, [vec![0, 1, 2], vec![3, 4]]);
}

/// Changes to a blob that two transactions of one group make: in the order of the queue, or the later one fails.
#[test]
fn in_a_group_the_later_transaction_wins_or_fails() {
    let mut durable = start(1);
    let heap = &mut durable.heap;
    let ptrs: Vec<u64> = blobs(heap).into_keys().collect();
    let mut add = |frees: &[u64], stores: &[(u64, Vec<u8>)]| {
        let mut changes = heap.begin().unwrap();
        change(heap, &mut changes, &[], frees, stores).unwrap();
        heap.queue(&mut changes)
    };
    let tickets = [
        add(&[], &[(ptrs[0], vec![1; 8]), (ptrs[1], vec![1; 8])]),
        add(&[], &[(ptrs[0], vec![2; 8])]),
        add(&[ptrs[1]], &[]),
        add(&[ptrs[1]], &[]),
        add(&[], &[(ptrs[1], vec![5; 8])]),
    ];
    commit_group(heap);
    let mut rest = Vec::new();
    let results = tickets.map(|ticket| {
        let (changes, result) = heap.take_result(ticket).unwrap();
        rest.push(changes);
        result
    });
    assert!(matches!(results, [Ok(()), Ok(()), Ok(()), Err(Error::NoBlob(_)), Err(Error::NoBlob(_))]));
    rest[3..].iter_mut().for_each(|changes: &mut Changes| heap.tx_cancel(changes));
    let blobs = blobs(heap);
    assert_eq!(blobs.len(), 1);
    assert_eq!(blobs[&ptrs[0]][..8], [2; 8]);
}

/// Without PALLOC_SYNC: calls of other threads while a palloc_sync writes back. Each returns, or waits because it has to flush itself.
/// Returns how many images were opened, how many of them refused, and how many calls were made meanwhile.
fn sync_beside_others(seed: u64) -> [usize; 3] {
    let mut random = Random(seed);
    let (size, flags) = if seed % 2 == 0 { (0, Flags::DYNAMIC) } else { (20_008, Flags::DEFAULT) };
    let mut heap = open(vec![0; size], flags).unwrap();
    let mut synced = Blobs::new();
    let mut sums = [0; 3];
    heap.medium.before_each_change = Some(Vec::new());
    let others = |heap: &mut Heap<MemMedium>, random: &mut Random, synced: &mut Blobs| {
        let before = blobs(heap);
        let live: Vec<u64> = before.keys().copied().collect();
        let some = live.get(random.below(live.len().max(1) as u64) as usize).copied();
        let result = match (random.below(8), some) {
            (0..=2, Some(ptr)) => heap.free(ptr),
            (3 | 4, Some(ptr)) => heap.resize(ptr, random.size()).map(drop),
            (5, _) => {
                super::transactions::random(heap, &live, random);
                Ok(())
            }
            _ => heap.alloc(random.size()).map(|ptr| fill(heap, ptr, random.below(256) as u8)),
        };
        match result {
            Ok(()) | Err(Error::Full { .. }) => {}
            Err(error) => {
                assert!(matches!(error, Error::Busy) && heap.turns.disk_busy && blobs(heap) == before, "{error}")
            }
        }
        let after = blobs(heap);
        synced.retain(|ptr, bytes| after.get(ptr) == Some(bytes));
    };
    for round in 0..12 {
        for _ in 0..random.below(10) {
            others(&mut heap, &mut random, &mut synced);
        }
        let mut flush = |heap: &mut Heap<MemMedium>, random: &mut Random, synced: &mut Blobs| {
            let place = heap.medium.states();
            heap.turns.disk_busy = true;
            for _ in 0..random.below(6) {
                others(heap, random, synced);
                sums[2] += 1;
            }
            heap.end_turn();
            place
        };
        if heap.begin_sync() {
            flush(&mut heap, &mut random, &mut synced);
            heap.note_flushed();
        }
        assert!(heap.tidy_for_sync().unwrap());
        let mut now = blobs(&heap);
        let place = flush(&mut heap, &mut random, &mut now);
        // It returns: what was there when it began to flush is on the disk, and of what came since anything.
        heap.medium.before_each_change.as_mut().unwrap().drain(..place);
        synced = now;
        let cuts = cut_power_since_sync(&heap, &synced, &mut random, (seed, round));
        (sums[0], sums[1]) = (sums[0] + cuts.0, sums[1] + cuts.1);
    }
    closed(heap);
    sums
}

#[test]
fn a_sync_beside_calls_of_other_threads_keeps_what_was_there_when_it_flushed() {
    let mut sums = [0; 3];
    for seed in 1..=if is_deep() { 2000 } else { 100 } {
        let counts = sync_beside_others(seed * 7919);
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    println!("{sums:?}: images opened, refused, calls meanwhile");
    assert!(sums[0] > 5_000 && sums[2] > 2_000);
}

/// The last block is freed while a palloc_sync flushes, before it cuts the file: what it flushed still leads there.
#[test]
fn a_sync_flushes_again_if_the_last_block_was_freed_meanwhile() {
    for (frees, flushes) in [(false, 3), (true, 4)] {
        let mut heap = open(Vec::new(), Flags::DYNAMIC).unwrap();
        let ptrs = [100, 100_000, 100_000].map(|size| heap.alloc(size).unwrap());
        heap.free(ptrs[2]).unwrap();
        heap.medium.before_each_change = Some(Vec::new());
        assert!(heap.begin_sync());
        heap.turns.disk_busy = true;
        let began = heap.medium.states();
        if frees {
            heap.free(ptrs[1]).unwrap();
        }
        heap.medium.flush_from(began).unwrap();
        heap.end_turn();
        heap.note_flushed();
        assert!(heap.tidy_for_sync().unwrap());
        heap.medium.flush().unwrap();
        assert_eq!(heap.medium.syncs.len(), flushes);
        assert_eq!(heap.medium.file_len(), heap.size());
    }
}
