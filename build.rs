// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hands the target triple to tests/c_programs.rs. Generates nothing.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["HOST", "TARGET"] {
        println!("cargo:rustc-env=BUILD_{name}={}", env::var(name).unwrap_or_default());
    }
}
