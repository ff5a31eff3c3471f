// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares a medium with the format.

use std::ffi::CStr;

use crate::palloc::chain::{Chain, ChainBlock};
use crate::palloc::format::{EXTENDED, Extent, HEADER, Start, WORD, header_flags};
use crate::palloc::medium::Medium;

/// Reports each violation of the format with the offset of its block. Returns how many there are. Reads only.
pub fn check(medium: &impl Medium, mut report: impl FnMut(u64, &CStr)) -> u64 {
    let mut count = 0;
    let mut found = |offset, what: &CStr| {
        count += 1;
        report(offset, what);
    };
    match if medium.file_len() < HEADER { None } else { header_flags(medium.head()) } {
        None => found(0, c"there is no palloc header"),
        Some(flags) if flags & EXTENDED != 0 => found(WORD / 2, c"the EXTENDED flag is set"),
        Some(_) => check_chain(medium, found),
    }
    count
}

fn check_chain(medium: &impl Medium, mut found: impl FnMut(u64, &CStr)) {
    let mut chain = Chain::new(medium, Start::FIRST, medium.file_len());
    let mut last_free: Option<Extent> = None;
    let mut after_free = false;
    let link_to = |block: Option<Extent>| block.map_or(0, |block| block.start.offset());
    for this in &mut chain {
        let ChainBlock { block, is_free } = this;
        if this.end_marker(medium) != this.marker() {
            found(block.start.offset(), c"the end marker differs from the start marker");
        }
        if is_free {
            if after_free {
                found(block.start.offset(), c"a free block stands beside a free block");
            }
            if let Some(last) = last_free.filter(|last| medium.load(last.start.next_link()) != block.start.offset()) {
                found(last.start.offset(), c"the next link is not the next free block");
            }
            if medium.load(block.start.prev_link()) != link_to(last_free) {
                found(block.start.offset(), c"the prev link is not the free block before");
            }
            last_free = Some(block);
        }
        after_free = is_free;
    }
    if !chain.walk.is_whole() {
        found(chain.walk.end.offset(), c"no block begins here, the rest cannot be read");
    } else if let Some(last) = last_free.filter(|last| medium.load(last.start.next_link()) != 0) {
        found(last.start.offset(), c"the last free block has a next link");
    }
}
