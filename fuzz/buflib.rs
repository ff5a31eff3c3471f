// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzz target of buflib, over its C functions: operations, with callbacks that agree, refuse, lie, shrink, and free their own and other
//! blocks; beside a model of every block. At most once, one word of the pool is damaged: any word between two operations; or, in a callback
//! that asks about a move or follows it, one that is no payload and no slot. Then all payloads stay what they are.
#![allow(dead_code)] // each user needs a part of it

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// At least as large as `struct buflib_context`.
type Context = [usize; 128];

#[repr(C)]
struct Callbacks {
    move_callback: Option<extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int>,
    shrink_callback: Option<extern "C" fn(c_int, u32, *mut c_void, usize) -> c_int>,
    sync_callback: Option<extern "C" fn(c_int, bool)>,
}

type PanicFn = Option<unsafe extern "C" fn(*mut Context, *const c_char)>;

unsafe extern "C" {
    fn buflib_init(ctx: *mut Context, buf: *mut c_void, size: usize);
    fn buflib_alloc_ex(ctx: *mut Context, size: usize, name: *const c_char, ops: *const Callbacks) -> c_int;
    fn buflib_alloc_aligned(
        ctx: *mut Context,
        size: usize,
        alignment: usize,
        name: *const c_char,
        ops: *const Callbacks,
    ) -> c_int;
    fn buflib_alloc_maximum(ctx: *mut Context, name: *const c_char, size: *mut usize, ops: *const Callbacks) -> c_int;
    fn buflib_free(ctx: *mut Context, handle: c_int) -> c_int;
    fn buflib_shrink(ctx: *mut Context, handle: c_int, start: *mut c_void, size: usize) -> bool;
    fn buflib_get_data(ctx: *mut Context, handle: c_int) -> *mut c_void;
    fn buflib_get_size(ctx: *mut Context, handle: c_int) -> usize;
    fn buflib_pin(ctx: *mut Context, handle: c_int);
    fn buflib_unpin(ctx: *mut Context, handle: c_int);
    fn buflib_compact_step(ctx: *mut Context, max_bytes: usize) -> usize;
    fn buflib_allocatable(ctx: *mut Context) -> usize;
    fn buflib_resize(ctx: *mut Context, size: usize) -> bool;
    fn buflib_buffer_out(ctx: *mut Context, size: *mut usize) -> *mut c_void;
    fn buflib_buffer_in(ctx: *mut Context, size: c_int);
    fn buflib_check(ctx: *mut Context, report: *const c_void, user: *mut c_void) -> bool;
    fn buflib_set_panic_handler(handler: PanicFn);
}

/// Words of the pool.
const WORDS: usize = 512;
/// Words on both sides that nothing may write to.
const GUARD: usize = 16;
const GUARD_WORD: usize = usize::MAX / 3;
const W: usize = size_of::<usize>();
const MAX_ACTIONS: usize = 400;

/// The expected state of a live block.
struct Block {
    bytes: Vec<u8>,
    align: usize,
    pins: usize,
    movable: bool,
}

struct State {
    ctx: Box<Context>,
    memory: Vec<usize>,
    /// The rest of the input.
    input: Vec<u8>,
    blocks: BTreeMap<c_int, Block>,
    panics: usize,
    damaged: bool,
    /// The next callback for a move damages a word.
    armed: bool,
    /// A callback has damaged a word.
    hit: bool,
    serial: u8,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    STATE.with(|state| f(state.borrow_mut().as_mut().unwrap()))
}

fn ctx() -> *mut Context {
    with(|state| ptr::from_mut(&mut *state.ctx))
}

/// The next byte of the input, modulo `n`; 0 behind its end.
fn pick(n: usize) -> usize {
    with(|state| usize::from(state.input.pop().unwrap_or(0)) % n)
}

unsafe extern "C" fn on_panic(_: *mut Context, message: *const c_char) {
    with(|state| {
        state.panics += 1;
        // SAFETY: the message is a string.
        assert!(state.damaged, "{:?}", unsafe { std::ffi::CStr::from_ptr(message) });
    });
}

/// Whether the payload of a block is what it must be.
fn check_block(handle: c_int) {
    let ctx = ctx();
    // SAFETY: the context is initialized. The payload of a live block is `get_size` bytes.
    let data = unsafe {
        let data = buflib_get_data(ctx, handle).cast::<u8>();
        assert!(!data.is_null());
        std::slice::from_raw_parts(data, buflib_get_size(ctx, handle))
    };
    with(|state| {
        let block = &state.blocks[&handle];
        assert!(data.len() >= block.bytes.len());
        assert_eq!(&data[..block.bytes.len()], &block.bytes[..]);
        assert_eq!(data.as_ptr().addr() % block.align, 0);
    });
}

extern "C" fn on_move(handle: c_int, current: *mut c_void, new_start: *mut c_void) -> c_int {
    damage_if_armed();
    if with(|state| state.damaged) {
        return c_int::from(pick(4) == 0);
    }
    // SAFETY: the context is initialized.
    assert_eq!(unsafe { buflib_get_data(ctx(), handle) }, current);
    assert!(new_start < current);
    with(|state| {
        let block = &state.blocks[&handle];
        assert!(block.movable && block.pins == 0);
    });
    c_int::from(pick(4) == 0)
}

extern "C" fn on_shrink(handle: c_int, _: u32, start: *mut c_void, size: usize) -> c_int {
    match pick(6) {
        0 => 1,
        1 => 0, // a lie
        2 => free(handle),
        3 => {
            let (count, nth) = (with(|state| state.blocks.len()), pick(256));
            let other = with(|state| state.blocks.keys().nth(nth % count.max(1)).copied());
            other.map_or(1, free)
        }
        _ => {
            let (front, keep) = (pick(8) * W * size / 64 / W, pick(8) * size / 16);
            c_int::from(!shrink(handle, start, front, keep))
        }
    }
}

extern "C" fn on_sync(_: c_int, _: bool) {
    damage_if_armed();
}

static LOCKED: Callbacks = Callbacks { move_callback: None, shrink_callback: None, sync_callback: None };
static MOVES: Callbacks =
    Callbacks { move_callback: Some(on_move), shrink_callback: None, sync_callback: Some(on_sync) };
static GIVES: Callbacks =
    Callbacks { move_callback: Some(on_move), shrink_callback: Some(on_shrink), sync_callback: None };

fn free(handle: c_int) -> c_int {
    // SAFETY: the context is initialized.
    let result = unsafe { buflib_free(ctx(), handle) };
    if result == 0 {
        with(|state| state.blocks.remove(&handle));
    }
    assert!(result == 0 || with(|state| state.damaged || !state.blocks.contains_key(&handle)));
    result
}

/// Keeps `keep` bytes, from `front` bytes behind `start`.
fn shrink(handle: c_int, start: *mut c_void, front: usize, keep: usize) -> bool {
    // SAFETY: the context is initialized, and `start` is that of the payload.
    let done = unsafe { buflib_shrink(ctx(), handle, start.cast::<u8>().wrapping_add(front).cast(), keep) };
    if done {
        with(|state| {
            let Some(block) = state.blocks.get_mut(&handle) else { return };
            block.bytes.drain(..front.min(block.bytes.len()));
            block.bytes.truncate(keep);
            if front > 0 {
                block.align = 1;
            }
        });
    }
    done
}

/// Adds a block that was allocated to the model, and fills it.
fn add(handle: c_int, size: usize, align: usize, movable: bool) {
    if handle <= 0 {
        assert!(handle >= -3);
        return;
    }
    let fill = with(|state| {
        state.serial = state.serial.wrapping_add(1);
        state.serial
    });
    let bytes: Vec<u8> = (0..size).map(|i| fill ^ (i as u8)).collect();
    // SAFETY: the payload has `size` bytes at least.
    unsafe {
        let data = buflib_get_data(ctx(), handle).cast::<u8>();
        if data.is_null() || (with(|state| state.damaged) && buflib_get_size(ctx(), handle) < size) {
            assert!(with(|state| state.damaged));
            return;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), data, size);
    }
    let old = with(|state| state.blocks.insert(handle, Block { bytes, align: align.max(1), pins: 0, movable }));
    assert!(old.is_none() || with(|state| state.damaged), "a handle in use was given out");
}

fn some_handle() -> c_int {
    let (count, nth) = (with(|state| state.blocks.len()), pick(256));
    with(|state| state.blocks.keys().nth(nth % count.max(1)).copied()).unwrap_or(1)
}

fn action() {
    let ctx = ctx();
    // SAFETY of all calls: the context is initialized, and the callbacks are static.
    match pick(16) {
        0..5 => {
            let (size, kind) = (pick(256) * pick(4), pick(4));
            let ops: *const Callbacks = [ptr::null(), &LOCKED, &MOVES, &GIVES][kind];
            let name = if pick(3) == 0 { c"name".as_ptr() } else { ptr::null() };
            if pick(6) == 0 {
                let align = W << pick(4);
                let handle = unsafe { buflib_alloc_aligned(ctx, size, align, name, ops) };
                add(handle, size, align, kind != 1);
            } else {
                let handle = unsafe { buflib_alloc_ex(ctx, size, name, ops) };
                add(handle, size, 1, kind != 1);
            }
        }
        5..9 => {
            free(some_handle());
        }
        9 => {
            let handle = some_handle();
            if !with(|state| state.blocks.contains_key(&handle)) {
                return; // buflib_get_data reports a bad handle
            }
            let (start, size) = unsafe { (buflib_get_data(ctx, handle), buflib_get_size(ctx, handle)) };
            let front = pick(256) * size / 512;
            shrink(handle, start, front, pick(256) * (size - front) / 256);
        }
        10 => {
            let handle = some_handle();
            let pins = with(|state| state.blocks.get(&handle).map(|block| block.pins));
            match pins {
                Some(0) => unsafe { buflib_pin(ctx, handle) },
                Some(_) => unsafe { buflib_unpin(ctx, handle) },
                None => return,
            }
            with(|state| state.blocks.get_mut(&handle).unwrap().pins ^= 1);
        }
        11 => {
            unsafe { buflib_compact_step(ctx, pick(256) * 8) };
        }
        12 => {
            unsafe { buflib_allocatable(ctx) };
        }
        13 => {
            let mut size = 0;
            let handle = unsafe { buflib_alloc_maximum(ctx, c"all".as_ptr(), &mut size, &LOCKED) };
            add(handle, size, 1, false);
            if handle > 0 {
                free(handle);
            }
        }
        14 => {
            let mut size = W * (1 + pick(64));
            let out = unsafe { buflib_buffer_out(ctx, &mut size) };
            if !out.is_null() && size > 0 {
                unsafe { buflib_buffer_in(ctx, size as c_int) };
            }
        }
        _ => {
            let words = WORDS - pick(200);
            if unsafe { buflib_resize(ctx, words * W) } {
                unsafe { buflib_resize(ctx, WORDS * W) };
            }
        }
    }
}

/// One word of the pool becomes another number.
fn damage() {
    let (low, high) = (pick(256), pick(2));
    damage_word(low + 256 * high);
}

fn damage_word(index: usize) {
    let how = pick(8);
    let (a, b) = (pick(256), pick(256));
    with(|state| {
        state.damaged = true;
        let start = state.memory[GUARD..].as_ptr().addr();
        let word = &mut state.memory[GUARD + index];
        let any = a + 256 * (b % 2);
        *word = match how {
            0 => any,
            1 => any.wrapping_neg(),
            2 => *word ^ (1 << (a % usize::BITS as usize)),
            3 => start + any * W,
            4 => word.wrapping_add(b).wrapping_sub(128),
            5 => (*word & !1023) | (any + 1),
            6 => *word ^ (a << (b % usize::BITS as usize)),
            _ => word.wrapping_neg(),
        };
    });
}

/// In a callback: one word becomes another number, if it is no payload, and between the start of the pool and the end of its blocks.
fn damage_if_armed() {
    if !with(|state| std::mem::take(&mut state.armed)) {
        return;
    }
    let (low, high) = (pick(256), pick(2));
    let index = low + 256 * high;
    let address = with(|state| state.memory[GUARD + index..].as_ptr().addr());
    // The fields buf_start and alloc_end.
    let used = with(|state| state.ctx[3]..state.ctx[4]);
    if used.contains(&address)
        && !payloads().iter().any(|payload| {
            (payload.cast::<u8>().addr()..payload.cast::<u8>().addr() + payload.len()).contains(&address)
        })
    {
        with(|state| state.hit = true);
        damage_word(index);
    }
}

/// Where the payloads of all blocks lie, in the order of their handles.
fn payloads() -> Vec<*const [u8]> {
    let blocks: Vec<(c_int, usize)> =
        with(|state| state.blocks.iter().map(|(&handle, block)| (handle, block.bytes.len())).collect());
    let ctx = ctx();
    // SAFETY: the context is initialized.
    let data = |handle| unsafe { buflib_get_data(ctx, handle) }.cast::<u8>().cast_const();
    blocks.into_iter().map(|(handle, size)| ptr::slice_from_raw_parts(data(handle), size)).collect()
}

fn payloads_are_whole() -> bool {
    let payloads = payloads();
    with(|state| {
        let pool = state.memory[GUARD..GUARD + WORDS].as_ptr_range();
        payloads.iter().zip(state.blocks.values()).all(|(payload, block)| {
            let start = payload.cast::<u8>();
            assert!(start >= pool.start.cast() && start.wrapping_add(payload.len()) <= pool.end.cast());
            // SAFETY: they are bytes of the pool.
            unsafe { **payload == block.bytes[..] }
        })
    })
}

fn guards_are_whole() -> bool {
    with(|state| {
        let (front, back) = (&state.memory[..GUARD], &state.memory[GUARD + WORDS..]);
        front.iter().chain(back).all(|&word| word == GUARD_WORD)
    })
}

/// Runs one input.
pub fn operations(data: &[u8]) {
    let mut memory = vec![0; WORDS + 2 * GUARD];
    memory[..GUARD].fill(GUARD_WORD);
    memory[GUARD + WORDS..].fill(GUARD_WORD);
    let start = memory[GUARD..].as_mut_ptr();
    let input: Vec<u8> = data.iter().rev().copied().collect();
    let state = State {
        ctx: Box::new([0; 128]),
        memory,
        input,
        blocks: BTreeMap::new(),
        panics: 0,
        damaged: false,
        armed: false,
        hit: false,
        serial: 0,
    };
    STATE.with(|place| *place.borrow_mut() = Some(state));
    // SAFETY: the memory is used by the pool and by `damage` only.
    unsafe {
        buflib_init(ctx(), start.cast(), WORDS * W);
        buflib_set_panic_handler(Some(on_panic));
    }
    for _ in 0..MAX_ACTIONS {
        if with(|state| state.input.is_empty()) {
            break;
        }
        match pick(64) {
            63 if !with(|state| state.damaged || state.armed) => damage(),
            62 => with(|state| state.armed = !state.damaged),
            _ => {}
        }
        action();
        assert!(guards_are_whole(), "a word outside of the pool was written to");
        assert!(!with(|state| state.hit) || payloads_are_whole());
        if !with(|state| state.damaged) {
            // SAFETY: the context is initialized; without a report the check is silent.
            assert!(unsafe { buflib_check(ctx(), ptr::null(), ptr::null_mut()) });
            let handles: Vec<c_int> = with(|state| state.blocks.keys().copied().collect());
            handles.into_iter().for_each(check_block);
        }
    }
    // SAFETY: as above; with damage the result is of no interest.
    unsafe { buflib_check(ctx(), ptr::null(), ptr::null_mut()) };
    STATE.with(|place| place.borrow_mut().take());
}
