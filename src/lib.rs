//! libpalloc: memory that C programs manage in places malloc does not reach.
//!
//! * [`palloc`]: blobs allocated, freed and walked inside a file that outlives the process.
//! * [`vmem`]: address space reserved, and parts of it committed to memory and given back.
//! * [`buflib`]: blocks that may be moved together, in one buffer of yours; `no_std`, without the default feature `std`.
//!
//! C programs use them through the headers in `include/`, each made from the file of its name in `src/ffi`; Rust programs through
//! [`Palloc`], [`vmem::Reservation`], [`vmem::Arena`] and [`buflib::Buflib`]. None knows of the others.
//!
//! # Words of safety
//!
//! `unsafe` stands at the edges only: `src/ffi`, which trusts what a C caller promises; `src/palloc/medium.rs`, which touches mapped
//! memory, and `os` under it; `src/vmem`, which takes memory away and gives it; in `src/buflib`, `layout.rs` and `alloc.rs`, which touch a
//! pool's memory, `mod.rs`, which hands it out, `callbacks.rs`, which calls out, and a path in `free_tree.rs`, which is not initialized
//! before it is used. SAFETY comments refer to these terms:
//!
//! * *C string*: a pointer that is NULL or points to bytes ended by a NUL, unchanged during the call.
//! * *live handle*: a `struct palloc_t *` that palloc_init returned and palloc_close has not been given yet.
//! * *out parameter*: a pointer that is NULL or that the callee may write one value of its type to.
//! * *initialized context*: a `struct buflib_context` that buflib_init has been given, or one of zeros, and that nobody else uses during
//!   the call but callbacks that the call makes.
//! * *pool memory*: words that the owner of a buflib context handed over to it, readable and writable, for as long as the context is
//!   used, and written by others only in the payloads of live blocks.
//! * *callbacks*: NULL, or a `struct buflib_callbacks` whose functions follow the rules of buflib.h.
//! * *mapped range*: bytes below the medium's end, which the current window maps for as long as the medium is open.
//! * *own range*: a range of addresses whose contents and protection nobody relies on but the caller.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
#![deny(missing_docs)]
#![cfg_attr(not(feature = "std"), no_std)]

pub mod buflib;
#[cfg(feature = "std")]
pub mod ffi;
#[cfg(not(feature = "std"))]
pub mod ffi {
    //! The C layer: one file for each header.
    pub mod buflib;
    pub mod core_alloc;
}
#[cfg(feature = "std")]
pub mod palloc;
#[cfg(feature = "std")]
mod system_text;
#[cfg(feature = "std")]
pub mod vmem;

#[cfg(feature = "std")]
pub use palloc::{Error, Flags, Palloc};
