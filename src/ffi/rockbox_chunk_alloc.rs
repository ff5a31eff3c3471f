// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rockbox/chunk_alloc.h`: many small blocks of one life in a few blocks of buflib, the chunks.
//!
//! An offset counts the bytes of all blocks before. The *list*, in a block of its own, says for each chunk its handle and where the next
//! one begins:
//!
//! ```text
//!     chunk 0: | a | b | c | unused      chunk 1: | d | e | unused
//!     offset     0  10  30                         45  60  70            list: { 45, handle }, { 70, handle }
//! ```
//!
//! The unused bytes of a chunk are given back when the next one is begun. The list is read anew after each allocation: it may have moved.
#![allow(non_camel_case_types)]

use core::ffi::{c_int, c_void};
use core::ptr;

use super::buflib::*;
use crate::buflib::layout::Context as buflib_context;

type size_t = usize;

/// The chunk of the last chunk_get_data or chunk_put_data.
#[repr(C)]
pub struct chunk_alloc_cache {
    /// Its handle, 0 if there is no such chunk.
    pub handle: c_int,
    /// Its first offset.
    pub min_offset: size_t,
    /// The offset behind its last block.
    pub max_offset: size_t,
}

/// An allocator of small blocks.
#[repr(C)]
pub struct chunk_alloc_header {
    /// Where the chunks are.
    pub context: *mut buflib_context,
    /// The block of the list, 0 if the allocator is not initialized.
    pub chunk_handle: c_int,
    /// Bytes of the last chunk.
    pub chunk_bytes_total: size_t,
    /// How many of them are left.
    pub chunk_bytes_free: size_t,
    /// Bytes of the next chunk.
    pub chunk_size: size_t,
    /// How many chunks there can be.
    pub count: size_t,
    /// The number of the last chunk.
    pub current: size_t,
    /// The chunk that was looked up last.
    pub cached_chunk: chunk_alloc_cache,
}

/// An entry of the list; `handle` is 0 if there is no chunk yet.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Chunk {
    /// The offset behind the last block.
    end: size_t,
    handle: c_int,
}

const INVALID: size_t = size_t::MAX;
const NO_CACHE: chunk_alloc_cache = chunk_alloc_cache { handle: 0, min_offset: 0, max_offset: 0 };

impl chunk_alloc_header {
    fn none(context: *mut buflib_context, chunk_size: size_t) -> Self {
        chunk_alloc_header {
            context,
            chunk_handle: 0,
            chunk_bytes_total: 0,
            chunk_bytes_free: 0,
            chunk_size,
            count: 0,
            current: 0,
            cached_chunk: NO_CACHE,
        }
    }

    /// # Safety
    /// `context` is NULL or an *initialized context*.
    unsafe fn chunk_ptr(&self, number: size_t) -> Option<*mut Chunk> {
        // SAFETY: the caller's.
        let (list, bytes) =
            unsafe { (handle_data(self.context, self.chunk_handle), buflib_get_size(self.context, self.chunk_handle)) };
        let inside = number < self.count && number < bytes / size_of::<Chunk>();
        (inside && !list.is_null()).then(|| list.cast::<Chunk>().wrapping_add(number))
    }

    /// # Safety
    /// `context` is NULL or an *initialized context*.
    unsafe fn chunk(&self, number: size_t) -> Chunk {
        // SAFETY: the caller's; `chunk_ptr` is within the payload of the list, which is aligned to a word.
        unsafe { self.chunk_ptr(number).map_or(Chunk::default(), |chunk| chunk.read()) }
    }

    /// # Safety
    /// As for `chunk`.
    unsafe fn set_chunk(&self, number: size_t, chunk: Chunk) {
        // SAFETY: as for `chunk`.
        unsafe {
            if let Some(place) = self.chunk_ptr(number) {
                place.write(chunk);
            }
        }
    }

    /// The offset at which a chunk begins.
    ///
    /// # Safety
    /// As for `chunk`.
    unsafe fn begin(&self, number: size_t) -> size_t {
        // SAFETY: the caller's.
        number.checked_sub(1).map_or(0, |before| unsafe { self.chunk(before) }.end)
    }

    /// The chunk with a byte at `offset`, remembered for the next time. Its handle is 0 if there is none.
    ///
    /// # Safety
    /// As for `chunk`.
    unsafe fn find(&mut self, offset: size_t) -> c_int {
        let cached = &self.cached_chunk;
        if cached.handle > 0 && (cached.min_offset..cached.max_offset).contains(&offset) {
            return cached.handle;
        }
        let (mut low, mut high) = (0, self.count.min(self.current.saturating_add(1)));
        while low < high {
            let middle = low + (high - low) / 2;
            // SAFETY: the caller's.
            if unsafe { self.chunk(middle) }.end > offset { high = middle } else { low = middle + 1 }
        }
        // SAFETY: the caller's.
        let (chunk, min_offset) = unsafe { (self.chunk(low), self.begin(low)) };
        if chunk.handle <= 0 || offset >= chunk.end {
            return 0;
        }
        self.cached_chunk = chunk_alloc_cache { handle: chunk.handle, min_offset, max_offset: chunk.end };
        chunk.handle
    }
}

/// The data of a handle, NULL if it is bad. (buflib_get_data calls the panic handler.)
///
/// # Safety
/// `context` is NULL or an *initialized context*.
unsafe fn handle_data(context: *mut buflib_context, handle: c_int) -> *mut u8 {
    // SAFETY: the caller's. All fields of a context are cells.
    unsafe { context.as_ref() }.map_or(ptr::null_mut(), |ctx| crate::buflib::handles::data(ctx, handle))
}

/// # Safety
/// `header` is NULL or a *chunk header*: points to a struct chunk_alloc_header that nobody else uses during the call, and that is zeros or
/// was initialized.
unsafe fn header<'a>(header: *mut chunk_alloc_header) -> Option<&'a mut chunk_alloc_header> {
    // SAFETY: the caller's.
    unsafe { header.as_mut() }
}

/// Makes an allocator of at most `max_chunks` chunks of `chunk_size` bytes, in blocks of `ctx`, whatever was in `*hdr`. The list of chunks
/// is allocated at once, the chunks when they are used.
///
/// Fails iff (false, and chunk_alloc_is_initialized says so too) `hdr` or `ctx` is NULL, `chunk_size` or `max_chunks` is 0, or buflib_alloc
/// fails for the list.
///
/// # Safety
/// `hdr` is NULL or may be written to; `ctx` is NULL or an *initialized context* and outlives it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_chunk_alloc_init(
    hdr: *mut chunk_alloc_header,
    ctx: *mut buflib_context,
    chunk_size: size_t,
    max_chunks: size_t,
) -> bool {
    if hdr.is_null() {
        return false;
    }
    // SAFETY: the caller's; the header has no destructor.
    unsafe { hdr.write(chunk_alloc_header::none(ctx, chunk_size)) };
    if ctx.is_null() {
        return false;
    }
    // SAFETY: the caller's.
    unsafe { rockbox_chunk_realloc(hdr, chunk_size, max_chunks) }
}

/// From now on chunks are of `chunk_size` bytes, and there can be `max_chunks` of them. Blocks stay as they are.
///
/// Fails iff (false, and nothing has changed) there are more chunks than that, `chunk_size` or `max_chunks` is 0, or buflib_alloc fails for
/// the list.
///
/// # Safety
/// `hdr` is NULL or a *chunk header*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_chunk_realloc(
    hdr: *mut chunk_alloc_header,
    chunk_size: size_t,
    max_chunks: size_t,
) -> bool {
    // SAFETY: the caller's.
    let Some(hdr) = (unsafe { header(hdr) }) else { return false };
    // SAFETY: the caller's, of the header's context.
    unsafe {
        let used = if hdr.chunk(hdr.current).handle > 0 { hdr.current + 1 } else { hdr.current };
        let Some(bytes) = max_chunks.checked_mul(size_of::<Chunk>()) else { return false };
        if hdr.context.is_null() || chunk_size == 0 || max_chunks == 0 || max_chunks < used {
            return false;
        }
        let list = buflib_alloc(hdr.context, bytes);
        let to = handle_data(hdr.context, list);
        if list <= 0 || to.is_null() {
            return false;
        }
        to.write_bytes(0, bytes);
        if hdr.chunk_handle > 0 {
            let from = handle_data(hdr.context, hdr.chunk_handle);
            if !from.is_null() {
                ptr::copy_nonoverlapping(from, to, used.min(hdr.count) * size_of::<Chunk>());
            }
            buflib_free(hdr.context, hdr.chunk_handle);
        }
        hdr.chunk_handle = list;
        hdr.chunk_size = chunk_size;
        hdr.count = max_chunks;
    }
    true
}

/// Frees all blocks, pinned or not, and the list: the allocator is not initialized any more. Does nothing if it was not.
///
/// # Safety
/// `hdr` is NULL or a *chunk header*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_chunk_alloc_free(hdr: *mut chunk_alloc_header) {
    // SAFETY: the caller's.
    let Some(hdr) = (unsafe { header(hdr) }) else { return };
    if hdr.chunk_handle <= 0 {
        return;
    }
    for number in 0..hdr.count.min(hdr.current.saturating_add(1)) {
        // SAFETY: the caller's, of the header's context. `buflib_free` of a bad handle does nothing.
        unsafe {
            let handle = hdr.chunk(number).handle;
            if handle > 0 {
                buflib_free(hdr.context, handle);
            }
        }
    }
    // SAFETY: as above.
    unsafe { buflib_free(hdr.context, hdr.chunk_handle) };
    *hdr = chunk_alloc_header::none(hdr.context, hdr.chunk_size);
}

/// Gives back what the last chunk has left. The next chunk_alloc begins a new one.
///
/// # Safety
/// `hdr` is NULL or a *chunk header*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_chunk_alloc_finalize(hdr: *mut chunk_alloc_header) {
    // SAFETY: the caller's.
    let Some(hdr) = (unsafe { header(hdr) }) else { return };
    // SAFETY: the caller's, of the header's context.
    unsafe {
        let handle = hdr.chunk(hdr.current).handle;
        let used = hdr.chunk_bytes_total - hdr.chunk_bytes_free.min(hdr.chunk_bytes_total);
        if handle > 0 && hdr.chunk_bytes_free > 0 && buflib_shrink(hdr.context, handle, ptr::null_mut(), used) {
            hdr.chunk_bytes_total = used;
            hdr.chunk_bytes_free = 0;
        }
    }
}

/// Allocates a block of `size` bytes and returns its offset. Blocks of a chunk lie one behind the other without gaps, and a chunk begins at
/// a word: who wants aligned blocks asks for sizes that are multiples of the alignment. A block that does not fit into the last chunk begins
/// a new one, of chunk_size bytes or of `size` if that is more, after chunk_alloc_finalize.
///
/// Fails iff (CHUNK_ALLOC_INVALID) `size` is 0, there are as many chunks as there can be, buflib_alloc fails for a new chunk, or the allocator
/// is not initialized.
///
/// # Safety
/// `hdr` is NULL or a *chunk header*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_chunk_alloc(hdr: *mut chunk_alloc_header, size: size_t) -> size_t {
    // SAFETY: the caller's.
    let Some(hdr_ref) = (unsafe { header(hdr) }) else { return INVALID };
    // SAFETY: the caller's, of the header's context.
    unsafe {
        if size == 0 || hdr_ref.chunk_handle <= 0 {
            return INVALID;
        }
        let last = hdr_ref.chunk(hdr_ref.current);
        if last.handle <= 0 || size > hdr_ref.chunk_bytes_free {
            let number = if last.handle > 0 { hdr_ref.current + 1 } else { hdr_ref.current };
            let end = hdr_ref.begin(number);
            if number >= hdr_ref.count || end.checked_add(size).is_none_or(|end| end == INVALID) {
                return INVALID;
            }
            rockbox_chunk_alloc_finalize(hdr_ref);
            let bytes = hdr_ref.chunk_size.max(size);
            let handle = buflib_alloc(hdr_ref.context, bytes);
            if handle <= 0 {
                return INVALID;
            }
            hdr_ref.set_chunk(number, Chunk { end, handle });
            hdr_ref.current = number;
            hdr_ref.chunk_bytes_total = bytes;
            hdr_ref.chunk_bytes_free = bytes;
        }
        let chunk = hdr_ref.chunk(hdr_ref.current);
        hdr_ref.set_chunk(hdr_ref.current, Chunk { end: chunk.end + size, ..chunk });
        hdr_ref.chunk_bytes_free -= size;
        chunk.end
    }
}

/// Pins the chunk of the block at `offset` and returns where the block is, until chunk_put_data. An offset within a block is good too.
///
/// Fails iff (NULL) there is no block, or buflib_get_data_pinned fails.
///
/// # Safety
/// `hdr` is NULL or a *chunk header*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_chunk_get_data(hdr: *mut chunk_alloc_header, offset: size_t) -> *mut c_void {
    // SAFETY: the caller's, also of the header's context.
    unsafe {
        let Some(hdr) = header(hdr) else { return ptr::null_mut() };
        let handle = hdr.find(offset);
        let data = buflib_get_data_pinned(hdr.context, handle).cast::<u8>();
        if data.is_null() { ptr::null_mut() } else { data.wrapping_add(offset - hdr.cached_chunk.min_offset).cast() }
    }
}

/// Takes the pin of chunk_get_data back. `data` is what that returned; only `offset` counts. Calls the panic handler iff buflib_unpin does,
/// or there is no block.
///
/// # Safety
/// `hdr` is NULL or a *chunk header*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rockbox_chunk_put_data(hdr: *mut chunk_alloc_header, data: *mut c_void, offset: size_t) {
    let _ = data;
    // SAFETY: the caller's, also of the header's context.
    unsafe {
        if let Some(hdr) = header(hdr) {
            let handle = hdr.find(offset);
            buflib_unpin(hdr.context, handle);
        }
    }
}
