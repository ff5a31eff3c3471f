// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crates that the library is linked with: packaging/licences.txt lists them with their licences, and none of them needs a newer compiler
//! than Cargo.toml says. `make headers` (UPDATE_HEADERS=1) writes the list anew.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    let out = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The packages that some system links, without what only tests and builds use.
fn linked(metadata: &Value) -> Vec<&Value> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let mut found = BTreeSet::from([text(&metadata["resolve"], "root")]);
    let mut left = vec![text(&metadata["resolve"], "root")];
    while let Some(id) = left.pop() {
        let node = nodes.iter().find(|node| text(node, "id") == id).unwrap();
        for dep in node["deps"].as_array().unwrap() {
            let normal = dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            if normal && found.insert(text(dep, "pkg")) {
                left.push(text(dep, "pkg"));
            }
        }
    }
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().filter(|package| found.contains(text(package, "id"))).collect()
}

#[test]
fn licences_are_listed() {
    let metadata = metadata();
    let mut want = String::from(
        "What libpalloc is linked with, beside Rust's standard library (MIT OR Apache-2.0). Made by `make headers`.\n\n",
    );
    for package in linked(&metadata).iter().filter(|package| text(package, "name") != "libpalloc") {
        want += &format!("{} {}: {}\n", text(package, "name"), text(package, "version"), text(package, "license"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/licences.txt");
    if env::var_os("UPDATE_HEADERS").is_some() {
        fs::write(&path, &want).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        want,
        "packaging/licences.txt is stale, run `make headers`"
    );
}

#[test]
fn no_dependency_needs_a_newer_compiler() {
    fn parts(version: &str) -> Vec<u32> {
        version.split('.').map(|part| part.parse().unwrap()).collect()
    }
    let metadata = metadata();
    let linked = linked(&metadata);
    let ours = linked.iter().find(|package| text(package, "name") == "libpalloc").unwrap();
    for package in &linked {
        let theirs = text(package, "rust_version");
        assert!(
            theirs.is_empty() || parts(theirs) <= parts(text(ours, "rust_version")),
            "{} {} needs Rust {theirs}",
            text(package, "name"),
            text(package, "version"),
        );
    }
    assert!(linked.len() > 3, "the graph was not read");
}
