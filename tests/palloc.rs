// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values of Rust that go out of scope: a medium is closed, a transaction is cancelled.

use std::fs;

use palloc::palloc::{Flags, Palloc};

/// A medium that was closed with one blob of 112 bytes: a header of 8 bytes, and a block with two markers.
const CLOSED: u64 = 8 + 8 + 112 + 8;

#[test]
fn a_medium_that_goes_out_of_scope_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("medium");
    let medium = Palloc::open(&path, Flags::DYNAMIC).unwrap();
    medium.alloc(100).unwrap();
    assert!(fs::metadata(&path).unwrap().len() > CLOSED, "there is slack");
    drop(medium);
    assert_eq!(fs::metadata(&path).unwrap().len(), CLOSED);
}

#[test]
fn a_transaction_that_goes_out_of_scope_is_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("medium");
    let medium = Palloc::open(&path, Flags::DYNAMIC).unwrap();
    medium.alloc(100).unwrap();
    for _ in 0..100 {
        let mut transaction = medium.begin().unwrap(); // 64 may be open at a time
        transaction.alloc(1000).unwrap();
    }
    assert_eq!(medium.stat().unwrap().live_blobs, 1);
    medium.close().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), CLOSED);
}
