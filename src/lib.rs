// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three allocators for memory that malloc does not manage. They do not use each other.
//!
//! [`palloc`] allocates blobs in a file that outlives the process, with transactions. A kill at any moment loses nothing:
//!
//! ```
//! use palloc::{Flags, Palloc};
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("notes.pba");
//! let medium = Palloc::open(&path, Flags::DYNAMIC)?;
//! let root = medium.root(8)?; // the first blob; here it holds the offset of another one
//! let mut change = medium.begin()?;
//! let note = change.alloc(5)?;
//! change.write(note, 0, b"hello")?;
//! change.store(root, &note.to_le_bytes())?;
//! change.commit()?; // both, or none
//! medium.close()?;
//!
//! let medium = Palloc::open(&path, Flags::READONLY)?;
//! let (mut offset, mut text) = ([0; 8], [0; 5]);
//! medium.read(medium.root(8)?, 0, &mut offset)?;
//! medium.read(u64::from_le_bytes(offset), 0, &mut text)?;
//! assert_eq!(&text, b"hello");
//! # Ok::<(), palloc::Error>(())
//! ```
//!
//! [`vmem`] reserves address space and commits memory to parts of it. A [`vmem::Reservation`] does so by ranges, a [`vmem::Arena`] as it
//! grows:
//!
//! ```
//! use palloc::vmem::Arena;
//!
//! let mut arena = Arena::new(1 << 30)?; // 1 GiB of addresses, no memory yet
//! let numbers = arena.alloc_slice(1000, 7_u32)?; // never moves
//! numbers[999] += 1;
//! assert_eq!(numbers[998..], [7, 8]);
//! arena.reset(); // frees all at once
//! # Ok::<(), palloc::vmem::Error>(())
//! ```
//!
//! [`buflib`] allocates blocks in one buffer, and moves them together when space is short. It is `no_std` without the default feature
//! `std`:
//!
//! ```
//! use palloc::buflib::Buflib;
//!
//! let mut memory = [0; 4096];
//! let mut pool = Buflib::new(&mut memory);
//! let (gap, kept) = (pool.alloc(1500)?, pool.alloc(1500)?);
//! pool.data_mut(kept).unwrap()[0] = 42;
//! pool.free(gap);
//! let large = pool.alloc(2000)?; // there is room for it when `kept` has moved
//! assert_eq!(pool.data(kept).unwrap()[0], 42);
//! # pool.free(large);
//! # Ok::<(), palloc::buflib::Error>(())
//! ```
//!
//! The package is called `libpalloc`, this crate `palloc`. C programs use the headers in `include/`; each .h is
//! generated from a file in `src/ffi`, palloc.hpp is written by hand.
//!
//! # Glossary
//!
//! The words of code, comments and manuals.
//!
//! | word | meaning |
//! | --- | --- |
//! | **palloc** | |
//! | medium | a file or block device that holds a header and blocks |
//! | static, dynamic | a static medium keeps its length; a dynamic one grows and shrinks |
//! | block | a start marker, data and an end marker; blocks fill the medium without gaps |
//! | live, free | a live block holds a blob; a free block can be allocated |
//! | blob | the data of a live block; the program names it by the offset of its first byte |
//! | start | the offset of a block's start marker; the type `Start` keeps it apart from blobs and lengths, which are u64 |
//! | marker | 8 bytes with the size of the data and a bit that is set in free blocks; start marker before the data, end marker behind it |
//! | chain | the blocks as the start markers lead from one to the next; only the chain is trusted |
//! | derived | end markers and links are derived from the chain: they can be written again at any time |
//! | index | the blocks of an open medium, in memory |
//! | publish | to make an operation happen by one store: of a start marker, so that what was prepared becomes part of the chain; of an intent; or of a record's tag |
//! | transaction, commit | several changes; the commit makes all of them happen, or, if it is cut off, none |
//! | region | a free block that a transaction makes new blobs in |
//! | log, record | a log is a live block without a blob; it holds the record of a commit, which says what to change |
//! | reserved | a block that nobody may allocate: a region, a log, or a block in quarantine or spent; the program sees it as free |
//! | idle | a region that no transaction uses; a log whose tag says that no record in it counts |
//! | quarantine | the blocks that a commit freed, until the next operation takes its record back: a cut of the power may make them live |
//! | spent | a log or a region of a durable medium that nobody needs; a record on the disk may still name it, so it goes into the next quarantine |
//! | odd | a size or a medium of the original that is not a multiple of 16; a block at such a place is out of step |
//! | slack | the free end of an open dynamic medium, which is not counted in its size; close cuts it off |
//! | kept | a block in the cache of a thread (caches.rs); on the medium it is free |
//! | held | a block that was freed, and whose bytes stay because a live reader may read them |
//! | section, epoch | what a live reader reads between palloc_read_begin and palloc_read_end; the number that tells the writer how old a section is |
//! | plain, careful | a medium is plain if its operations are their stores alone: it may be changed, is neither durable nor shared, and its caches are closed; a careful function is for all others |
//! | used | a block that the index does not have as free: live, reserved or held |
//! | recent block | a free block of an exact size that was freed last, is allocated first, and keeps the end marker of a live one |
//! | exact size, class | a multiple of 16 bytes up to 512; its class is its number among these |
//! | slot, granule, zone | 32 bytes, 512 bytes and 32 KiB of the medium, in the index |
//! | settle | to make recent blocks ordinary free ones, with their end markers |
//! | intent | a word in the end marker of a live block while an operation changes two start markers: "MV", a move, or "SH", a shrink |
//! | damaged | a medium whose chain is broken; opening refuses it (EILSEQ) |
//! | repair | to finish an operation that a kill or a power cut interrupted, and to write derived data again; part of opening |
//! | hole | a range of a sparse file without space on the disk; to fill a hole is to allocate it |
//! | window | a mapping of the file from its start, which may be longer than the file |
//! | flush, barrier | a flush brings all stores to the disk; a barrier is a flush with PALLOC_SYNC, and else nothing |
//! | tidy | to make the file exactly the documented format |
//! | exact mode | the file ends with the last block after each operation, as in the second generation's interface |
//! | **buflib** | |
//! | pool | the buffer of a context: blocks from its start, the table of handles from its end |
//! | handle | a number that stays while the block it stands for moves |
//! | compaction | moving blocks to lower addresses, so that free space is in one piece |
//! | pin | a pinned block is not moved |
//! | seal | bits in a free block's links that show whether the links were overwritten |
//! | hole | a free block between blocks |
//! | gap, pocket | during a compaction: the free words right before the next block; those before the last block that stayed |
//! | **vmem** | |
//! | reserve, release | take address space from the system, and give it back |
//! | commit, decommit | give memory to reserved pages, and take it away |
//! | run | consecutive pages of the same state |
//! | registry | the reservations and their runs, as the library made them |
//! | arena | a reservation that is committed from its start up to the end of its used part |
//!
//! # Words of safety
//!
//! `unsafe` is at the edges only:
//!
//! * `src/ffi` trusts what a C caller promises;
//! * `src/palloc/medium.rs` and `os` access mapped memory; `view.rs`, `block_index/slots.rs` and `block_index/zones.rs` read without the
//!   lock; `heap/transaction/changes.rs` writes to the bytes of new blobs; `caches.rs` and `heap/keeping.rs` share the caches between threads;
//!   `live.rs` maps FILE.live; `mod.rs` calls the functions of these that rely on the lock, or on the mapping;
//! * `src/vmem` takes memory away and gives it; `src/fork.rs` keeps the guards of locks during fork(2);
//! * `src/errno.rs` and `src/system_text.rs` call the C library;
//! * in `src/buflib`, `layout.rs` accesses a pool's memory, `alloc.rs` writes a context, `mod.rs` hands payloads out, `callbacks.rs` calls the program, and
//!   `free_tree.rs` has an array that is initialized while it is used.
//!
//! SAFETY comments use these terms:
//!
//! * *C string*: a pointer that is NULL or points to bytes ended by a NUL, unchanged during the call.
//! * *live handle*: a `struct palloc_t *` that palloc_init returned and that was not given to palloc_close yet.
//! * *out parameter*: a pointer that is NULL or that the callee may write one value of its type to.
//! * *initialized context*: a `struct buflib_context` that buflib_init was called for, or one of zeros. Nobody else uses it during the
//!   call but callbacks that the call makes.
//! * *pool memory*: words that the owner of a buflib context gave to it, readable and writable, for as long as the context is used.
//!   Others write only to the payloads of live blocks.
//! * *chunk header*: a `struct chunk_alloc_header` of zeros, or one that chunk_alloc_init has been given, that nobody else uses during the
//!   call.
//! * *callbacks*: NULL, or a `struct buflib_callbacks` whose functions follow the rules of buflib.h.
//! * *mapped range*: bytes below the medium's end, which the current window maps for as long as the medium is open.
//! * *own range*: a range of addresses whose contents and protection only the caller relies on.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
#![deny(missing_docs)]
#![cfg_attr(not(feature = "std"), no_std)]

pub mod buflib;
mod crc;
#[cfg(feature = "std")]
mod errno;
#[cfg(feature = "std")]
pub mod ffi;
#[cfg(feature = "std")]
mod fork;
#[cfg(not(feature = "std"))]
pub mod ffi {
    //! The C layer: one file for each header.
    pub mod buflib;
    pub mod core_alloc;
    pub mod rockbox_buflib;
    pub mod rockbox_chunk_alloc;
    pub mod rockbox_core_alloc;
}
#[cfg(feature = "std")]
pub mod palloc;
#[cfg(test)]
mod random;
#[cfg(feature = "std")]
mod system_text;
#[cfg(feature = "std")]
pub mod vmem;

#[cfg(feature = "std")]
pub use palloc::{Error, Flags, Palloc, Transaction};
