//! Gives the shared library its SONAME, libpalloc.so.MAJOR, and tells tests/c_programs.rs what it is compiled for. Nothing is
//! generated here.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let var = |name: &str| env::var(name).unwrap_or_default();
    let elf = var("CARGO_CFG_TARGET_FAMILY").split(',').any(|family| family == "unix")
        && var("CARGO_CFG_TARGET_VENDOR") != "apple"
        && !matches!(var("CARGO_CFG_TARGET_OS").as_str(), "aix" | "emscripten");
    if elf {
        let major = var("CARGO_PKG_VERSION_MAJOR");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpalloc.so.{major}");
    }
    println!("cargo:rustc-env=BUILD_HOST={}", var("HOST"));
    println!("cargo:rustc-env=BUILD_TARGET={}", var("TARGET"));
}
