// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only Rust programs have: values that go out of scope, methods of transactions, sources of errors.

use std::error::Error as _;
use std::{fs, io};

use palloc::palloc::{Error, Flags, Palloc};

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

fn bytes(medium: &Palloc, ptr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    medium.read(ptr, 0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_commit_does_all_of_a_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let medium = Palloc::open(directory.path().join("medium"), Flags::DYNAMIC).unwrap();
    let root = medium.root(16).unwrap();
    assert_eq!(medium.root(16).unwrap(), root);
    let old = medium.alloc(50).unwrap();
    let mut transaction = medium.begin().unwrap();
    let new = transaction.alloc(100).unwrap();
    let len = transaction.data(new).unwrap().len() as u64;
    assert!(len >= 100);
    transaction.write(new, 3, b"hello").unwrap();
    for (offset, bytes) in [(len - 4, "hello"), (len + 1, ""), (u64::MAX, "h")] {
        let error = transaction.write(new, offset, bytes.as_bytes()).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("{} bytes from {offset} on are not all in", bytes.len())),
            "{error}"
        );
    }
    assert!(transaction.data(old).is_err());
    transaction.store(root, &new.to_be_bytes()).unwrap();
    transaction.free(old).unwrap();
    assert!(transaction.store(old, b"x").is_err());
    assert_eq!(bytes(&medium, root, 16), [0; 16]);
    assert!(medium.iter().all(|blob| blob.unwrap() != new));
    transaction.commit().unwrap();
    assert_eq!(bytes(&medium, root, 8), new.to_be_bytes());
    assert_eq!(&bytes(&medium, new, 8)[3..], b"hello");
    assert!(medium.iter().all(|blob| blob.unwrap() != old));
}

#[test]
fn a_snapshot_is_the_medium_and_trim_and_flush_keep_what_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let medium = Palloc::open(directory.path().join("medium"), Flags::DYNAMIC).unwrap();
    let (first, large) = (medium.alloc(50).unwrap(), medium.alloc(1 << 20).unwrap());
    let last = medium.alloc(50).unwrap();
    medium.write(last, 0, b"last").unwrap();
    medium.free(large).unwrap();
    medium.trim(0).unwrap();
    medium.flush(last, 50).unwrap();
    assert!(medium.flush(last, 1000).is_err());
    medium.snapshot(directory.path().join("copy"), Flags::DEFAULT).unwrap();
    let copy = Palloc::open(directory.path().join("copy"), Flags::READONLY).unwrap();
    assert_eq!(copy.iter().collect::<Result<Vec<_>, _>>().unwrap(), [first, last]);
    assert_eq!(bytes(&copy, last, 4), b"last");
}

#[test]
fn an_error_of_the_system_is_the_source_of_the_error() {
    let directory = tempfile::tempdir().unwrap();
    let Err(missing) = Palloc::open(directory.path().join("none"), Flags::DEFAULT) else { panic!("it opened") };
    let source = missing.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
    assert!(Error::ReadOnly.source().is_none());
}

#[test]
#[cfg(any(target_os = "linux", windows))]
fn a_read_section_that_goes_out_of_scope_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("medium");
    let writer = Palloc::open(&path, Flags::DYNAMIC | Flags::SHARED).unwrap();
    assert!(writer.read_section().is_err(), "it is no reader");
    let reader = Palloc::open(&path, Flags::READONLY | Flags::SHARED).unwrap();
    for _ in 0..70_000 {
        let _section = reader.read_section().unwrap(); // 65,535 may be open at a time
    }
}
