// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of how much work an operation does, counted in words of the pool.

use super::alloc::{Error, Request, alloc, free, init};
use super::layout::*;
use super::step::step;
use crate::random::Random;

const BLOCKS: usize = 100_000;
/// Bytes of a pool for so many blocks of 16 to 512 bytes, in which no allocation has to compact.
const BYTES: usize = BLOCKS * 420 / 8 * W;

fn pool(memory: &mut Vec<usize>) -> Context {
    memory.resize(BYTES / W, 0);
    let mut ctx = Context::new();
    // SAFETY: the memory outlives the context and nothing else uses it.
    unsafe { init(&mut ctx, memory.as_mut_ptr().cast(), BYTES) };
    ctx
}

fn alloc_some(ctx: &Context, random: &mut Random) -> i32 {
    let size = (16 + random.below(497)) / 8 * W;
    alloc(ctx, Request { size, name: None, ops: 0, align: 0 }).unwrap() as i32
}

/// The most words of trees that a free or an allocation may touch: four of a node, its sibling and a word to write at each level of a
/// tree, for two changes.
fn bound(ctx: &Context) -> usize {
    24 * ctx.tree_bits.get()
}

/// The most words that an allocation may touch: those of trees, and of two groups of handles for the lowest free one.
fn alloc_bound(ctx: &Context) -> usize {
    bound(ctx) + (2 << ctx.group_shift.get())
}

#[test]
fn no_call_of_a_churn_with_steps_does_work_that_grows_with_the_pool() {
    let mut memory = Vec::new();
    let ctx = pool(&mut memory);
    let mut random = Random(1);
    let mut handles: Vec<i32> = (0..BLOCKS).map(|_| alloc_some(&ctx, &mut random)).collect();
    let mut most = [0; 3];
    for _ in 0..BLOCKS {
        let some = random.below(BLOCKS);
        work::take();
        assert_eq!(free(&ctx, handles[some]), Ok(0));
        most[0] = most[0].max(work::take());
        handles[some] = alloc_some(&ctx, &mut random);
        most[1] = most[1].max(work::take());
        step(&ctx, 16384).unwrap();
        most[2] = most[2].max(work::take());
    }
    println!(
        "words touched by a free, an allocation, a step of 16 KiB at most: {most:?}, tree bits {}",
        ctx.tree_bits.get()
    );
    assert_eq!(ctx.worst_alloc.get(), 0, "an allocation compacted");
    assert!(most[0] <= bound(&ctx) && most[1] <= alloc_bound(&ctx), "{most:?}");
    assert!(most[2] <= 65 * bound(&ctx) + 16384 / W, "{most:?}");
}

/// Handles become free and are given out again from the end of the table to its start, so that the search for the lowest one passes all of
/// their groups.
#[test]
fn an_allocation_does_not_search_the_handle_table() {
    let mut memory = Vec::new();
    let ctx = pool(&mut memory);
    let mut random = Random(1);
    for _ in 0..BLOCKS {
        alloc_some(&ctx, &mut random);
    }
    let mut most = 0;
    for handle in (1..BLOCKS as i32).rev().step_by(50).chain([BLOCKS as i32 - 1]) {
        assert_eq!(free(&ctx, handle), Ok(0));
        work::take();
        assert_eq!(alloc_some(&ctx, &mut random), handle);
        most = most.max(work::take());
    }
    println!("words touched by an allocation at most: {most}, groups of {} handles", 1 << ctx.group_shift.get());
    assert!(most <= alloc_bound(&ctx), "{most}");
}

/// A fault of buflib itself would be such an access; damage of the pool leads to none.
#[test]
fn an_access_outside_of_the_pool_panics_and_changes_nothing() {
    const WORDS: usize = 100;
    let mut memory = vec![7usize; WORDS + 10];
    let mut ctx = Context::new();
    // SAFETY: the memory outlives the context and nothing else uses it.
    unsafe { init(&mut ctx, memory.as_mut_ptr().cast(), WORDS * W) };
    let pool = ctx.pool();
    let accesses: [&dyn Fn(); 13] = [
        &|| _ = pool.get(pool.words),
        &|| _ = pool.get(usize::MAX),
        &|| pool.set(pool.words, 1),
        &|| pool.set_all(pool.words - 1, [1; 2]),
        &|| pool.set_all(usize::MAX, [1; 2]),
        &|| pool.with_bytes(pool.words - 1, 2, |_| ()),
        &|| pool.with_bytes(usize::MAX, 2, |_| ()),
        &|| pool.copy(0, pool.words - 1, 2),
        &|| pool.copy(pool.words - 1, 0, 2),
        &|| pool.copy(0, usize::MAX, 2),
        &|| pool.set_name(pool.words - 1, 2, b"name"),
        &|| pool.set_name(usize::MAX, 2, b"name"),
        &|| pool.set_name(0, 1, &[b'n'; W]),
    ];
    let before: Vec<usize> = (0..pool.words).map(|i| pool.get(i)).collect();
    for (number, access) in accesses.into_iter().enumerate() {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(access));
        let text = result.expect_err("it panics").downcast::<&str>();
        assert_eq!(text.ok().as_deref(), Some(&"buflib: access outside of the pool"), "access {number}");
    }
    assert!((0..pool.words).map(|i| pool.get(i)).eq(before));
    assert_eq!(memory[WORDS..], [7; 10]);
}

/// A pool with ten blocks, of which the fifth was freed, and their handles.
fn pool_with_a_hole(memory: &mut Vec<usize>) -> (Context, Vec<i32>) {
    let ctx = pool(memory);
    let mut random = Random(3);
    let handles: Vec<i32> = (0..10).map(|_| alloc_some(&ctx, &mut random)).collect();
    free(&ctx, handles[4]).unwrap();
    (ctx, handles)
}

/// The text of an error has the place and the kind of the damage.
#[test]
fn damage_is_an_error_with_its_place() {
    let mut memory = Vec::new();
    let (ctx, handles) = pool_with_a_hole(&mut memory);
    let words = ctx.pool();
    let block = super::handles::data(&ctx, handles[3]).addr() / W - words.address(0) / W;
    (1..=4).for_each(|before| words.set(block - before, usize::MAX / 3));
    let error = free(&ctx, handles[3]).expect_err("its header is damaged");
    assert!(matches!(error, Error::Damaged(_)));
    let text = error.to_string();
    assert!(!text.is_empty() && text.contains("0x"), "{text}");
}

/// The longest free block is known from a word of the pool, which may be damaged.
#[test]
fn a_longest_free_block_that_is_a_damaged_word_is_not_allocated() {
    let mut memory = Vec::new();
    let (ctx, _) = pool_with_a_hole(&mut memory);
    ctx.compact.set(true); // it does not try to move blocks, which counts the free ones again
    let before = ctx.longest[0].replace(usize::MAX / 2);
    assert!(super::room::alloc_maximum(&ctx, None, 0).is_err());
    ctx.longest[0].set(before);
    super::room::alloc_maximum(&ctx, None, 0).unwrap();
}
