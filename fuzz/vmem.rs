// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzz target of vmem, over its C functions: calls, right and wrong ones, on a few reservations; each answer, each page and each run is
//! compared with a model. System calls fail when the input says so, if the program has its own, as fuzz_targets/vmem.rs.
#![allow(dead_code)] // each user needs a part of it

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;

#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    ptr: *mut u8,
    size: usize,
    is_commited: u8,
    protect: u8,
}

unsafe extern "C" {
    fn vmem_reserve(size: usize) -> *mut u8;
    fn vmem_reserve_guarded(size: usize) -> *mut u8;
    fn vmem_reserve_aligned(size: usize, align: usize) -> *mut u8;
    fn vmem_release(at: *mut u8, size: usize) -> c_int;
    fn vmem_commit_protect(at: *mut u8, size: usize, protect: u8) -> c_int;
    fn vmem_decommit(at: *mut u8, size: usize) -> c_int;
    fn vmem_protect(at: *mut u8, size: usize, protect: u8) -> c_int;
    fn vmem_reset(at: *mut u8, size: usize) -> c_int;
    fn vmem_prefault(at: *mut u8, size: usize) -> c_int;
    fn vmem_query_range_info(at: *mut u8, size: usize, out: *mut Range, most: usize) -> usize;
    fn vmem_get_page_size() -> usize;
}

thread_local! {
    /// How many system calls succeed before one fails.
    static UNTIL_FAILURE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Whether this system call fails.
pub fn fails_now() -> bool {
    let Some(n) = UNTIL_FAILURE.get() else { return false };
    UNTIL_FAILURE.set(n.checked_sub(1));
    n == 0
}

const PAGES: usize = 12;
const RESERVATIONS: usize = 3;
const MAX_ACTIONS: usize = 200;
const READ: u8 = 2;
const READ_WRITE: u8 = 3;
const PROTECTIONS: u8 = 7;

#[derive(Clone, Copy, Default)]
struct Page {
    /// 0 if it is reserved.
    protect: u8,
    /// Its first byte and its last.
    value: u8,
}

impl Page {
    fn can_be_read(self) -> bool {
        matches!(self.protect, 2 | 3 | 5 | 6)
    }

    fn can_be_written(self) -> bool {
        matches!(self.protect, 3 | 6)
    }
}

#[derive(Clone, Copy)]
struct Reservation {
    at: *mut u8,
    pages: [Page; PAGES],
}

fn page_size() -> usize {
    // SAFETY: no precondition.
    unsafe { vmem_get_page_size() }
}

impl Reservation {
    fn page(&self, i: usize) -> *mut u8 {
        self.at.wrapping_add(i * page_size())
    }

    /// Writes a page's first byte and its last, if it can be written.
    fn fill(&mut self, i: usize, value: u8) {
        if self.pages[i].can_be_written() {
            self.pages[i].value = value;
            // SAFETY: the model says that the page is committed and can be written; if it is not, the target crashes, as it should.
            unsafe {
                self.page(i).write(value);
                self.page(i).add(page_size() - 1).write(value);
            }
        }
    }

    fn check(&self) {
        for (i, page) in self.pages.iter().enumerate() {
            if page.can_be_read() {
                // SAFETY: as in `fill`.
                let [first, last] = unsafe { [self.page(i).read(), self.page(i).add(page_size() - 1).read()] };
                assert_eq!([first, last], [page.value; 2], "page {i}");
            }
        }
        let mut runs = [Range { ptr: ptr::null_mut(), size: 0, is_commited: 0, protect: 0 }; PAGES + 1];
        // SAFETY: there is room for so many runs.
        let n = unsafe { vmem_query_range_info(self.at, PAGES * page_size(), runs.as_mut_ptr(), PAGES + 1) };
        let mut wanted: Vec<(usize, usize, u8, u8)> = Vec::new();
        for (i, page) in self.pages.iter().enumerate() {
            let run = (u8::from(page.protect > 0), if page.protect > 0 { page.protect } else { READ_WRITE });
            match wanted.last_mut() {
                Some(last) if (last.2, last.3) == run => last.1 += page_size(),
                _ => wanted.push((self.page(i).addr(), page_size(), run.0, run.1)),
            }
        }
        let found = runs[..n.min(PAGES + 1)].iter().map(|run| (run.ptr.addr(), run.size, run.is_commited, run.protect));
        assert_eq!(found.collect::<Vec<_>>(), wanted);
    }

    /// A call on pages. Returns what it returned and whether it should have succeeded, were it not for a failing system call.
    fn call(&mut self, what: u8, first: usize, pages: usize, protect: u8) -> (bool, bool) {
        let inside = first + pages <= PAGES;
        let page = page_size();
        let range = first..first + pages.min(PAGES - first);
        let all = |of: fn(Page) -> bool| inside && self.pages[range.clone()].iter().all(|&page| of(page));
        // An unaligned part of the first page and of the last.
        let (offset, cut) = (usize::from(what) * 7 % page, if pages > 1 { usize::from(protect) * 13 } else { 0 });
        let (at, size) = (self.page(first).wrapping_add(offset), pages * page - offset - cut);
        let (got, wanted, after): (c_int, bool, Option<u8>);
        // SAFETY: the functions check their arguments, and the pages are this target's.
        unsafe {
            match what % 8 {
                0..=2 => {
                    wanted = inside && protect > 0 && protect < PROTECTIONS;
                    (got, after) = (vmem_commit_protect(at, size, protect), Some(protect));
                }
                3 | 4 => {
                    wanted = inside;
                    (got, after) = (vmem_decommit(at, size), Some(0));
                }
                5 => {
                    wanted = all(|page| page.protect > 0) && protect > 0 && protect < PROTECTIONS;
                    (got, after) = (vmem_protect(at, size, protect), Some(protect));
                }
                6 => {
                    wanted = all(Page::can_be_read);
                    (got, after) = (vmem_prefault(at, size), None);
                }
                _ => {
                    wanted = all(|page| page.protect > 0);
                    let before = self.pages;
                    (got, after) = (vmem_reset(at, size), None);
                    if got != 0 && wanted {
                        UNTIL_FAILURE.set(None);
                        // The contents may be gone.
                        for i in range.clone() {
                            assert!(vmem_protect(self.page(i), page, READ_WRITE) != 0);
                            self.pages[i].protect = READ_WRITE;
                            self.fill(i, what ^ before[i].value);
                        }
                    }
                }
            }
        }
        if let (true, Some(protect)) = (got != 0 && wanted, after) {
            for page in &mut self.pages[range] {
                if protect == 0 || page.protect == 0 {
                    page.value = 0;
                }
                page.protect = protect;
            }
        }
        (got != 0, wanted)
    }
}

/// Each three bytes are a call and its arguments.
pub fn calls(data: &[u8]) {
    let mut reservations: [Option<Reservation>; RESERVATIONS] = [None; RESERVATIONS];
    let size = PAGES * page_size();
    for action in data.chunks_exact(3).take(MAX_ACTIONS) {
        let &[what, a, b] = action else { unreachable!() };
        let slot = &mut reservations[usize::from(what) % RESERVATIONS];
        let kind = what / 3 % 16;
        // One action of eight arms a failing call for itself.
        let armed = what >= 192 && b & 7 == 0;
        UNTIL_FAILURE.set(armed.then_some(u32::from(b >> 3) % 4));
        let Some(reservation) = slot else {
            // SAFETY: no precondition.
            let at = unsafe {
                match kind % 3 {
                    0 => vmem_reserve(size),
                    1 if !armed => vmem_reserve_aligned(size, 1 << 20), // it keeps what munmap does not take back
                    _ => vmem_reserve_guarded(size),
                }
            };
            let failed = armed && UNTIL_FAILURE.take().is_none();
            assert!(!at.is_null() || failed);
            if !at.is_null() {
                let made = Reservation { at, pages: [Page::default(); PAGES] };
                made.check();
                *slot = Some(made);
            }
            continue;
        };
        let (first, pages) = (usize::from(a) % PAGES, 1 + usize::from(b & 15) % (PAGES + 1));
        match kind {
            0 => {
                // SAFETY: as in `call`.
                let got = unsafe { vmem_release(reservation.at, size - usize::from(a)) };
                let failed = armed && UNTIL_FAILURE.take().is_none();
                assert!(got != 0 || failed);
                if got != 0 {
                    // SAFETY: as in `call`.
                    unsafe {
                        assert!(vmem_release(reservation.at, size) == 0 && vmem_decommit(reservation.at, 1) == 0)
                    };
                    *slot = None;
                    continue;
                }
            }
            1 => {
                // SAFETY: as in `call`.
                let wrong = unsafe {
                    vmem_release(reservation.page(1 + first % (PAGES - 1)), size)
                        | vmem_release(reservation.at, size + 1)
                        | vmem_release(reservation.at, first * page_size())
                        | vmem_decommit(reservation.at.wrapping_sub(1), 2)
                        | vmem_commit_protect(reservation.page(PAGES - 1), page_size() + 1 + usize::from(b), READ)
                        | vmem_commit_protect(reservation.at, 0, READ)
                };
                assert_eq!(wrong, 0);
            }
            2 | 3 if !armed => (0..PAGES).for_each(|i| reservation.fill(i, a ^ (i as u8).wrapping_mul(b))),
            _ => {
                let (got, wanted) = reservation.call(a ^ what, first, pages, b >> 4 & 7);
                let failed = armed && UNTIL_FAILURE.take().is_none();
                assert!(got == wanted || (failed && !got), "{} pages from {first}: {got}", pages);
            }
        }
        UNTIL_FAILURE.set(None);
        if let Some(reservation) = slot {
            reservation.check();
        }
    }
    for reservation in reservations.iter().flatten() {
        // SAFETY: as in `call`.
        assert!(unsafe { vmem_release(reservation.at, size) } != 0);
    }
}
