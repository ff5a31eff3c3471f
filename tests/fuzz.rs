// SPDX-License-Identifier: MIT OR Apache-2.0
//! The inputs of the fuzz targets, as they are and changed at random, without libFuzzer. DEEP in the environment asks for many.

#![cfg(unix)]

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../fuzz/buflib.rs"]
mod buflib;
#[path = "../src/random.rs"]
mod random;
#[path = "../fuzz/vmem.rs"]
mod vmem;

use std::path::Path;
use std::{env, fs};

use random::Random;

fn inputs(dirs: &[&str], extension: Option<&str>) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    for dir in dirs {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if extension.is_none_or(|extension| path.extension().is_none_or(|it| it == extension)) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Words that a medium might hold in a wrong place, among them the sizes of what there is.
fn word(bytes: &[u8], random: &mut Random) -> u64 {
    let any = random.below(bytes.len().max(1)) as u64;
    match random.below(8) {
        0 => 0,
        1 => any | (1 << 63),
        2 => any,
        3 => (bytes.len() as u64).wrapping_sub(any),
        4 => (0x4d56 << 48) | any,
        5 => u64::MAX >> random.below(64),
        6 => 1 << random.below(64),
        _ => (16 * random.below(8) as u64) | ((random.below(2) as u64) << 63),
    }
}

fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len().max(1));
        match random.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.below(256) as u8,
            2 => bytes.truncate(at),
            3 => bytes.extend(vec![0; random.below(200)]),
            4 => {
                let other = &others[random.below(others.len())];
                let from = random.below(other.len().max(1));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if bytes.len() >= 8 => {
                let at = random.below(bytes.len() - 7) / if random.below(2) == 0 { 8 } else { 1 };
                let new = word(bytes, random).to_be_bytes();
                bytes[at..at + 8].copy_from_slice(&new);
            }
            _ => {}
        }
    }
}

/// Whether this runs on an emulator: by its limit of time, as tap_every of the C tests decides.
fn is_slow() -> bool {
    env::var("TEST_TIMEOUT").is_ok_and(|seconds| seconds.parse().is_ok_and(|seconds: u32| seconds >= 3000))
}

fn replay(inputs: &[Vec<u8>], body: fn(&[u8]), mutants: usize) {
    assert!(inputs.len() > 5);
    let mutants = match env::var_os("DEEP").is_some_and(|deep| !deep.is_empty()) {
        true => 20 * mutants,
        false if is_slow() => mutants / 20,
        false => mutants,
    };
    let mut random = Random(77);
    for input in inputs {
        body(input);
    }
    for _ in 0..mutants {
        let mut bytes = inputs[random.below(inputs.len())].clone();
        mutate(&mut bytes, inputs, &mut random);
        body(&bytes);
    }
    println!("{} executions", inputs.len() + mutants);
}

#[test]
fn any_bytes_are_opened_or_refused() {
    replay(&inputs(&["fuzz/corpus/bytes", "c_tests/golden/palloc"], Some("db")), bodies::bytes, 10_000);
}

#[test]
fn any_bytes_are_salvaged_to_a_sound_copy() {
    replay(&inputs(&["fuzz/corpus/bytes", "c_tests/golden/palloc"], Some("db")), bodies::salvaging, 10_000);
}

#[test]
fn any_operations_keep_what_was_written() {
    replay(&inputs(&["fuzz/corpus/operations"], None), bodies::operations, 2_000);
}

#[test]
fn operations_on_blocks_keep_them_and_damage_reaches_no_other_memory() {
    replay(&inputs(&["fuzz/corpus/buflib"], None), buflib::operations, 5_000);
}

#[test]
fn any_calls_of_vmem_do_what_the_model_does() {
    replay(&inputs(&["fuzz/corpus/vmem"], None), vmem::calls, 1_000);
}
