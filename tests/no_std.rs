// SPDX-License-Identifier: MIT OR Apache-2.0
//! Without the feature `std` the crate is core only, for small machines: here it is built so, put into a static library together with
//! a panic handler, as the firmware of such a machine would be, and a C program runs with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

const FIRMWARE: &str = "
#![no_std]
pub use palloc::ffi::{buflib::*, core_alloc::*};
unsafe extern \"C\" { fn abort() -> !; }
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { unsafe { abort() } }
";

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn a_c_program_runs_with_buflib_without_std() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no_std");
    fs::create_dir_all(&dir).unwrap();
    let (host, target) = (env!("BUILD_HOST"), env!("BUILD_TARGET"));
    if host != target {
        println!("skipped: for the machine it is built on only");
        return;
    }

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root).args(["rustc", "--lib", "--release", "--locked", "--no-default-features"]);
    run(cargo.args(["--crate-type", "rlib", "--target-dir"]).arg(&dir));
    let release = dir.join("release");

    let (source, library) = (dir.join("firmware.rs"), dir.join("libfirmware.a"));
    fs::write(&source, FIRMWARE).unwrap();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "staticlib", "-O", "-Cpanic=abort", "-Clto", "--extern"]);
    rustc.arg(format!("palloc={}", release.join("libpalloc.rlib").display()));
    rustc.arg("-L").arg(release.join("deps")).arg(&source).arg("-o").arg(&library);
    run(&mut rustc);

    let program = dir.join("program");
    let compiler = cc::Build::new().host(host).target(target).opt_level(1).cargo_metadata(false).get_compiler();
    let mut cc = compiler.to_command();
    cc.arg("-I").arg(root.join("include")).arg(root.join("examples_c/audio_buffer.c")).arg(&library);
    run(cc.arg("-o").arg(&program));
    let output = run(&mut Command::new(&program)).stdout;
    assert!(String::from_utf8_lossy(&output).contains("gives back"));
}
