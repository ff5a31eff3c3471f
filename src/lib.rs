//! libpalloc: memory that C programs manage in places malloc does not reach.
//!
//! * [`palloc`]: blobs allocated, freed and walked inside a file that outlives the process.
//!
//! C programs use it through `include/palloc.h`, made from `src/ffi/palloc.rs`; Rust programs through [`Palloc`].
//!
//! # Words of safety
//!
//! `unsafe` stands at two edges only: `src/ffi`, which trusts what a C caller promises, and `src/palloc/medium.rs`, which touches
//! mapped memory. SAFETY comments refer to these terms:
//!
//! * *C string*: a pointer that is NULL or points to bytes ended by a NUL, unchanged during the call.
//! * *live handle*: a `struct palloc_t *` that palloc_init returned and palloc_close has not been given yet.
//! * *out parameter*: a pointer that is NULL or that the callee may write one value of its type to.
//! * *mapped range*: bytes below the medium's end, which the current window maps for as long as the medium is open.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
#![deny(missing_docs)]

pub mod ffi;
#[cfg(unix)]
pub mod palloc;
pub mod vmem;

#[cfg(unix)]
pub use palloc::{Error, Flags, Palloc};
