// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crate as Rust programs get it: the package that `cargo package` makes, and programs that depend on it, with and without std.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

fn packaged() -> Vec<String> {
    let output = run(cargo().args(["package", "--list", "--locked", "--offline", "--allow-dirty"]));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The files that cargo adds itself are among them.
#[test]
fn the_package_has_what_a_rust_program_needs_and_no_more() {
    let files = packaged();
    let expected = [
        ".cargo_vcs_info.json",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "Cargo.toml.orig",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "docs/COMPAT.md",
        "docs/DURABILITY.md",
        "docs/FORMAT.md",
    ];
    for file in &expected[1..] {
        assert!(files.iter().any(|packaged| packaged == file), "{file} is missing");
    }
    for file in &files {
        let is_source = file.starts_with("src/") && file.ends_with(".rs");
        assert!(is_source || expected.contains(&file.as_str()), "{file} does not belong into the package");
    }
}

const WITH_STD: &str = r#"
fn main() -> palloc::palloc::Result<()> {
    let medium = palloc::Palloc::open(std::env::args().nth(1).unwrap(), palloc::Flags::DYNAMIC)?;
    let blob = medium.alloc(3)?;
    medium.write(blob, 0, b"abc")?;
    medium.close()
}
"#;

const WITHOUT_STD: &str = r#"
fn main() {
    let mut memory = [0; 1024];
    let mut pool = palloc::buflib::Buflib::new(&mut memory);
    assert!(pool.alloc(10).is_ok());
}
"#;

/// The program is not in the workspace, and has a lock file of its own that starts with our versions.
#[test]
fn rust_programs_depend_on_the_package_with_and_without_std() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crate");
    let mut package = cargo();
    package.args(["package", "--quiet", "--locked", "--offline", "--allow-dirty", "--no-verify", "--target-dir"]);
    run(package.arg(dir.join("target")));
    let archive = concat!("libpalloc-", env!("CARGO_PKG_VERSION"));
    let archive_path = dir.join("target/package").join(format!("{archive}.crate"));
    run(Command::new("tar").arg("-xzf").arg(archive_path).arg("-C").arg(&dir));
    for (name, features, source) in [("std", "", WITH_STD), ("no-std", ", default-features = false", WITHOUT_STD)] {
        let program = dir.join(name);
        fs::create_dir_all(program.join("src")).unwrap();
        let manifest = format!(
            "[package]\nname = \"{name}\"\nedition = \"2024\"\n[workspace]\n[dependencies]\nlibpalloc = {{ path = \"../{archive}\"{features} }}\n"
        );
        fs::write(program.join("Cargo.toml"), manifest).unwrap();
        fs::write(program.join("src/main.rs"), source).unwrap();
        fs::copy(root.join("Cargo.lock"), program.join("Cargo.lock")).unwrap();
        let _ = fs::remove_file(dir.join("medium.pba"));
        let mut cargo = cargo();
        cargo
            .current_dir(&program)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .args(["run", "--offline", "--quiet", "--target-dir"])
            .arg(dir.join("target"));
        run(cargo.arg("--").arg(dir.join("medium.pba")));
    }
}
