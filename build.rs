// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells tests/c_programs.rs what it is compiled for. Nothing is generated here.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["HOST", "TARGET"] {
        println!("cargo:rustc-env=BUILD_{name}={}", env::var(name).unwrap_or_default());
    }
}
