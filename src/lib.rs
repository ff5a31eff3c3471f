//! libpalloc: memory that C programs manage in places malloc does not reach.
//!
//! * [`palloc`]: blobs allocated, freed and walked inside a file that outlives the process.
//! * [`vmem`]: address space reserved, and parts of it committed to memory and given back.
//!
//! C programs use them through `include/palloc.h` and `include/vmem.h`, made from `src/ffi/palloc.rs` and `src/ffi/vmem.rs`; Rust
//! programs through [`Palloc`], [`vmem::Reservation`] and [`vmem::Arena`]. Neither knows of the other.
//!
//! # Words of safety
//!
//! `unsafe` stands at the edges only: `src/ffi`, which trusts what a C caller promises, `src/palloc/medium.rs`, which touches mapped
//! memory, and `src/vmem`, which takes memory away and gives it. SAFETY comments refer to these terms:
//!
//! * *C string*: a pointer that is NULL or points to bytes ended by a NUL, unchanged during the call.
//! * *live handle*: a `struct palloc_t *` that palloc_init returned and palloc_close has not been given yet.
//! * *out parameter*: a pointer that is NULL or that the callee may write one value of its type to.
//! * *mapped range*: bytes below the medium's end, which the current window maps for as long as the medium is open.
//! * *own range*: a range of addresses whose contents and protection nobody relies on but the caller.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
#![deny(missing_docs)]

pub mod ffi;
#[cfg(unix)]
pub mod palloc;
pub mod vmem;

#[cfg(unix)]
pub use palloc::{Error, Flags, Palloc};
