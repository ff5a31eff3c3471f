//! Placing, splitting and merging blocks.
//!
//! The chain of start markers is the truth: from the header on, each says where the next one is. Every operation prepares bytes that
//! the chain does not lead to, then commits by one store of one start marker, then mends what is derived from the chain: end markers.
//! Links between free blocks are derived too, and written only by sync and close. docs/FORMAT.md has the order of stores of each
//! operation and what a kill between any two of them leaves.
//!
//! ```text
//!   header | live | free | live | live | slack
//!          8                           size   medium.end()
//! ```
//!
//! A dynamic medium that is open may end in slack: a free block that is not in the index nor counted, space reserved ahead or given
//! back. `size` is the end of what the program can see. The slack has no end marker, so that behind the chain there are zeros where no
//! blob was. In exact mode there is none between operations: the file ends with the last block.
//!
//! After a failed sync nobody knows what is on the disk, and the kernel may have dropped what was to be written. From then on nothing
//! is changed or promised, until the medium is opened anew.

use std::ptr::NonNull;

use super::error::Error;
use super::format::{
    Extent, HEADER, Intent, MAX_DATA, MIN_BLOCK, MIN_DATA, Marker, OVERHEAD, SPLIT_ABOVE, STEP, WORD, in_step, round_up,
};
use super::free_index::{FreeIndex, MAX_EXACT, State};
use super::medium::Medium;
use super::recover::Overlay;
use super::{Block, Result, Stat};

/// An open medium.
pub struct Heap<M> {
    pub(super) medium: M,
    pub(super) index: FreeIndex,
    pub(super) size: u64,
    pub(super) dynamic: bool,
    pub(super) writable: bool,
    pub(super) first_free: u64,
    pub(super) exact: bool,
    /// Behind this there are zeros only, on the disk too, but for the start marker of the slack.
    pub(super) used: u64,
    /// The system's error if a sync failed: then the heap is not `writable` any more.
    pub(super) failed_sync: Option<i32>,
    /// On a medium that is read only: what a repair would have changed.
    pub(super) overlay: Overlay,
}

/// Where a blob can be made: a free block at `at`, of which a block with `take` bytes of data is used.
struct Place {
    at: u64,
    end: u64,
    take: u64,
}

/// A live block that is freed, with its free neighbours, each by start and data size.
struct Joined {
    start: u64,
    end: u64,
    before: Option<(u64, u64)>,
    behind: Option<(u64, u64)>,
}

impl Joined {
    fn marker(&self) -> Marker {
        Marker::free(self.end - self.start - OVERHEAD)
    }
}

impl<M: Medium> Heap<M> {
    /// The end of the last block.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Start of a free block, the lowest after opening and sync; 0 if there is none.
    pub fn first_free(&self) -> u64 {
        self.first_free
    }

    /// Allocates a blob of at least `size` bytes. Returns its offset.
    #[inline]
    pub fn alloc(&mut self, size: u64) -> Result<u64> {
        match self.alloc_recent(size) {
            Some(ptr) => Ok(ptr),
            None => self.alloc_any(size),
        }
    }

    /// The short way to allocate a blob, where a block of its size was freed lately: its end marker is that of a live one already,
    /// unless the program wrote over it. None, and nothing is changed, where that is not all there is to do.
    #[inline]
    fn alloc_recent(&mut self, size: u64) -> Option<u64> {
        if size > MAX_EXACT || !self.writable || self.medium.is_durable() {
            return None;
        }
        let want = round_up(size)?;
        let block = self.index.recent(want, want + SPLIT_ABOVE)?;
        if self.medium.load(block.start) != Marker::free(block.data_len).0 {
            return None;
        }
        self.medium.reserve(block.start, WORD).ok()?;
        self.medium.reserve_free(block.blob(), block.data_len).ok()?;
        self.medium.store(block.start, Marker::live(block.data_len).0);
        self.index.take_recent(block);
        if self.first_free == block.start {
            self.first_free = self.index.any_free().unwrap_or(0);
        }
        Some(block.blob())
    }

    #[inline(never)]
    fn alloc_any(&mut self, size: u64) -> Result<u64> {
        self.check_writable()?;
        self.growing(|heap| {
            let Place { at, end, take } = heap.place(size)?;
            heap.claim(at, take, at, end, Marker::live(take).0)?;
            Ok(at + WORD)
        })
    }

    /// Frees the blob at `ptr`.
    #[inline]
    pub fn free(&mut self, ptr: u64) -> Result<()> {
        if self.free_alone(ptr) { Ok(()) } else { self.free_any(ptr) }
    }

    #[inline(never)]
    fn free_any(&mut self, ptr: u64) -> Result<()> {
        self.check_writable()?;
        let (at, n) = self.live(ptr)?;
        self.check_end(at, n)?;
        self.release(at, n)
    }

    /// The short way to free a blob of an exact size between two others, which is how most are: its end marker stays. False, and nothing
    /// is changed, where that is not all there is to do.
    #[inline]
    fn free_alone(&mut self, ptr: u64) -> bool {
        let at = ptr.wrapping_sub(WORD);
        if at > self.size - WORD || !self.writable || self.medium.is_durable() {
            return false;
        }
        if self.medium.reserve(at, WORD).is_err() {
            return false;
        }
        // The marker, which often is a cache miss, is compared only: nothing waits for it.
        let marker = self.medium.load(at);
        let Some(n) = self.index.free_between_live(at, |n| marker == Marker::live(n).0) else { return false };
        self.medium.store(at, Marker::free(n).0);
        self.note_first_free(at);
        true
    }

    /// Resizes the blob at `ptr`, in place or by a move. Returns its offset.
    pub fn resize(&mut self, ptr: u64, size: u64) -> Result<u64> {
        if ptr == 0 {
            return self.alloc(size);
        }
        self.check_writable()?;
        let (at, n) = self.live(ptr)?;
        self.check_end(at, n)?;
        let want = round_up(size).ok_or(Error::TooLarge(size))?;
        if size <= n {
            if split(n, want) == want && want < n && at + OVERHEAD + want < Intent::MAX_OFFSET {
                self.shrink(at, n, want)?;
            }
            return Ok(ptr);
        }
        self.growing(|heap| if heap.grow_in_place(at, n, size, want)? { Ok(ptr) } else { heap.move_blob(at, n, size) })
    }

    /// The size of the data section at `ptr`, of an allocated or a free block.
    pub fn size_of(&self, ptr: u64) -> Result<u64> {
        let at = ptr.wrapping_sub(WORD);
        let state = self.index.state(at).ok_or(Error::NoBlock(ptr))?;
        self.block(at, state)
    }

    /// The allocated blob with the lowest offset, 0 if there is none.
    pub fn first(&self) -> Result<u64> {
        self.live_from(HEADER)
    }

    /// The allocated blob with the lowest offset above `ptr`, 0 if there is none. `ptr` may be any number: that of a blob that was
    /// freed, for one.
    #[inline]
    pub fn next(&self, ptr: u64) -> Result<u64> {
        let at = ptr.wrapping_sub(WORD);
        match self.index.state(at) {
            Some(state) => self.live_from(at + OVERHEAD + self.block(at, state)?),
            None => match self.index.next_start(ptr.saturating_sub(WORD - 1)) {
                Some(at) => self.live_from(at),
                None => Ok(0),
            },
        }
    }

    /// The bytes of the blob at `ptr`, in memory.
    pub fn data(&mut self, ptr: u64) -> Result<NonNull<[u8]>> {
        let (_, n) = self.live(ptr)?;
        self.medium.reserve(ptr, n)?;
        Ok(self.medium.address(ptr, n))
    }

    /// The first block that begins at or behind `from`.
    pub fn block_from(&self, from: u64) -> Result<Option<Block>> {
        let from = from.max(HEADER);
        let at = if self.index.state(from).is_some() { Some(from) } else { self.index.next_start(from) };
        at.map(|at| {
            let state = self.index.state(at).expect("a block begins there");
            Ok(Block { ptr: at + WORD, size: self.block(at, state)?, is_free: state == State::Free })
        })
        .transpose()
    }

    /// Copies bytes of the blob at `ptr`, from `offset` in it on, to `bytes`.
    pub fn read(&self, ptr: u64, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let (_, n) = self.live(ptr)?;
        check_range(ptr, n, offset, bytes.len() as u64)?;
        self.medium.read(ptr + offset, bytes);
        Ok(())
    }

    /// Copies `bytes` to the blob at `ptr`, from `offset` in it on.
    pub fn write(&mut self, ptr: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        let (_, n) = self.live(ptr)?;
        check_range(ptr, n, offset, bytes.len() as u64)?;
        self.medium.reserve(ptr, n)?;
        self.medium.write(ptr + offset, bytes);
        Ok(())
    }

    /// Counts blocks and bytes.
    pub fn stat(&self) -> Result<Stat> {
        let mut stat = Stat { medium_size: self.size, ..Stat::default() };
        let mut from = HEADER;
        while let Some(block) = self.block_from(from)? {
            if block.is_free {
                stat.free_blocks += 1;
                stat.free_bytes += block.size;
                stat.largest_free = stat.largest_free.max(block.size);
            } else {
                stat.live_blobs += 1;
                stat.live_bytes += block.size;
            }
            from = block.end();
        }
        Ok(stat)
    }

    /// The file is exactly the format and on the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.check_synced()?;
        if self.writable {
            self.tidy()?;
            self.flush()?;
        }
        Ok(())
    }

    /// The file is exactly the format, and nothing is written to it from here on.
    pub fn close(&mut self) -> Result<()> {
        self.medium.end_addresses();
        let result = if self.writable { self.tidy().and_then(|()| self.barrier()) } else { self.check_synced() };
        self.writable = false;
        result
    }

    /// The file is exactly the format: no slack, free blocks linked by address. Where the file can't be cut, the slack is one of them.
    fn tidy(&mut self) -> Result<()> {
        self.cut_slack()?;
        let medium = &mut self.medium;
        self.index.settle(|block| medium.store(block.end_marker(), Marker::free(block.data_len).0));
        let slack = (self.size < self.medium.end()).then_some(self.size);
        if slack.is_some() {
            self.mark_slack();
            self.medium.store(self.medium.end() - WORD, self.medium.load(self.size));
        }
        let mut prev = 0;
        for at in self.index.free_from(0).chain(slack) {
            if prev != 0 {
                put_link(&mut self.medium, prev + 2 * WORD, at)?;
            }
            put_link(&mut self.medium, at + WORD, prev)?;
            prev = at;
        }
        if prev != 0 {
            put_link(&mut self.medium, prev + 2 * WORD, 0)?;
        }
        self.first_free = self.index.first_free().unwrap_or(0);
        Ok(())
    }

    /// Panics if the heap, its index and the medium do not agree. Its cost grows with the medium.
    ///
    /// The end marker of a free block may be that of a live one: a block that was freed lately keeps it.
    pub fn check_invariants(&self) {
        let mut indexed = self.index.blocks();
        let mut start = HEADER;
        while start < self.size {
            let marker = self.marker_or_repaired(start);
            let block = Extent { start, data_len: marker.n() };
            assert!(block.data_len >= MIN_DATA && block.end() <= self.size, "{block:?} fits in {}", self.size);
            let (indexed_start, state) = indexed.next().expect("the index has each block");
            assert_eq!(indexed_start, start, "the index has the blocks of the chain, and no others");
            if self.writable {
                assert_eq!(state == State::Free, marker.is_free(), "state of {block:?}");
                let end_marker = self.marker(block.end_marker());
                let is_right = end_marker == marker || (marker.is_free() && end_marker == Marker::live(block.data_len));
                assert!(is_right, "end marker of {block:?}: {end_marker:x?}");
            }
            start = block.end();
        }
        assert_eq!(start, self.size, "the chain leads to the end");
        assert_eq!(indexed.next(), None, "the index has the blocks of the chain, and no others");
        let data_len = |start| {
            if self.writable { data_size(&self.medium, start) } else { self.marker_or_repaired(start).n() }
        };
        self.index.check_invariants(data_len);

        let is_free = self.index.state(self.first_free) == Some(State::Free);
        assert!(if self.first_free == 0 { self.index.any_free().is_none() } else { is_free }, "first_free");
        if self.writable && self.size < self.medium.end() {
            assert!(self.dynamic, "only a dynamic medium has slack");
            let slack = Extent::between(self.size, self.medium.end());
            // Zeros are slack too: growth that failed after the file had grown leaves them, if the file can't be cut again.
            let marker = self.marker(self.size);
            assert!(
                [Marker::free(slack.data_len), Marker(0)].contains(&marker),
                "start marker of the slack: {marker:x?}"
            );
        } else if self.writable {
            assert_eq!(self.size, self.medium.end(), "the last block ends the medium");
        }
    }

    fn check_writable(&self) -> Result<()> {
        self.check_synced()?;
        if self.writable { Ok(()) } else { Err(Error::ReadOnly) }
    }

    /// Fails if a sync failed.
    pub(super) fn check_synced(&self) -> Result<()> {
        self.failed_sync.map_or(Ok(()), |code| Err(Error::SyncFailed(code)))
    }

    /// If the medium is durable: what was stored before this is on the disk before anything that is stored after it.
    pub(super) fn barrier(&mut self) -> Result<()> {
        let result = self.medium.barrier();
        result.inspect_err(|error| self.note_failed_sync(error))
    }

    /// The same in any mode.
    fn order(&mut self) -> Result<()> {
        if self.medium.is_durable() { self.barrier() } else { self.flush() }
    }

    /// Everything stored is on the disk.
    fn flush(&mut self) -> Result<()> {
        let result = self.medium.flush();
        result.inspect_err(|error| self.note_failed_sync(error))
    }

    #[cold]
    fn note_failed_sync(&mut self, error: &Error) {
        let code = match error {
            Error::System { source, .. } => source.raw_os_error(),
            _ => None,
        };
        self.failed_sync = Some(code.unwrap_or(libc::EIO));
        self.writable = false;
    }

    fn marker(&self, at: u64) -> Marker {
        Marker(self.medium.load(at))
    }

    /// The data size of the block at `at`, which the index says begins there, after checking that its marker fits what is known.
    #[inline]
    fn block(&self, at: u64, state: State) -> Result<u64> {
        let damaged = Error::Damaged { offset: at, what: "a start marker was overwritten" };
        let Some(room) = self.size.checked_sub(at + OVERHEAD) else { return Err(damaged) };
        let marker = if self.writable { self.marker(at) } else { self.marker_or_repaired(at) };
        let n = marker.n();
        let next = at + OVERHEAD + n.min(room);
        let fits = n >= MIN_DATA
            && n <= room
            && (next == self.size || self.index.state(next).is_some())
            && (n > MAX_EXACT || self.index.is_next(at, next));
        if fits && marker.is_free() == (state == State::Free) { Ok(n) } else { Err(damaged) }
    }

    #[cold]
    fn marker_or_repaired(&self, at: u64) -> Marker {
        self.overlay.iter().find(|(start, _)| *start == at).map_or_else(|| self.marker(at), |(_, marker)| *marker)
    }

    /// Start and data size of the allocated block whose data begin at `ptr`.
    #[inline]
    fn live(&self, ptr: u64) -> Result<(u64, u64)> {
        let at = ptr.wrapping_sub(WORD);
        match self.index.state(at) {
            Some(State::Live) => Ok((at, self.block(at, State::Live)?)),
            _ => Err(Error::NoBlob(ptr)),
        }
    }

    /// The blob of the first allocated block from the block at `at` on, 0 if there is none.
    #[inline]
    fn live_from(&self, at: u64) -> Result<u64> {
        let mut at = at;
        while at < self.size {
            match self.index.state(at) {
                Some(State::Live) => return Ok(at + WORD),
                Some(State::Free) => at += OVERHEAD + self.block(at, State::Free)?,
                None => return Err(Error::Damaged { offset: at, what: "no block begins here" }),
            }
        }
        Ok(0)
    }

    /// The data size of the free block at `at`, if one is there.
    fn free_at(&self, at: u64) -> Result<Option<u64>> {
        match self.index.state(at) {
            Some(State::Free) if at < self.size => {
                let n = self.block(at, State::Free)?;
                self.check_end(at, n).map(|()| Some(n))
            }
            _ => Ok(None),
        }
    }

    /// Checks the end marker of a large block before it is changed: a start marker that was overwritten may lead to a later block.
    /// (For others the index tells. Their end markers are not looked at, which often saves a cache miss.)
    #[inline]
    fn check_end(&self, at: u64, n: u64) -> Result<()> {
        if n <= MAX_EXACT || self.medium.load(at) == self.medium.load(at + WORD + n) {
            Ok(())
        } else {
            Err(Error::Damaged { offset: at, what: "the markers of a block differ, one was overwritten" })
        }
    }

    /// Start and data size of the free block that ends at `at`, if there is one. The end marker of a large block, which the index
    /// does not lead to, is not trusted: it leads to a start marker that must say the same.
    #[inline]
    fn free_before(&self, at: u64) -> Option<(u64, u64)> {
        let start = match self.index.start_near_before(at) {
            Some(start) => start,
            None if at <= HEADER => return None,
            None => at.checked_sub(OVERHEAD)?.checked_sub(self.marker(at - WORD).n())?,
        };
        if self.index.state(start) != Some(State::Free) {
            return None;
        }
        let n = (at - start).checked_sub(OVERHEAD)?;
        (self.marker(start) == Marker::free(n)).then_some((start, n))
    }

    /// Finds a free block for `size` bytes, behind the last block of a dynamic medium if there is none before.
    fn place(&mut self, size: u64) -> Result<Place> {
        let want = round_up(size).ok_or(Error::TooLarge(size))?;
        let found = self.index.find(want, size.max(MIN_DATA), |at| data_size(&self.medium, at));
        let overwritten = |offset| Error::Damaged { offset, what: "the start marker of a free block was overwritten" };
        if let Some(Extent { start: at, data_len: n }) = found.map_err(overwritten)? {
            self.block(at, State::Free)?;
            self.check_end(at, n)?;
            return Ok(Place { at, end: at + OVERHEAD + n, take: split(n, want) });
        }
        if !self.dynamic {
            return Err(Error::Full { size });
        }
        let at = if self.size < self.medium.end() { None } else { self.free_before(self.size) };
        let at = at.map_or(self.size, |(at, _)| at);
        let want = want_in_step(at, size).ok_or(Error::TooLarge(size))?;
        self.extend_tail(at, at + OVERHEAD + want)?;
        let n = self.medium.end() - at - OVERHEAD;
        Ok(Place { at, end: self.medium.end(), take: split(n, want) })
    }

    /// Makes slack of everything from `at` on, where a free block that ends the medium or nothing is, so that it reaches `need` or
    /// enough beyond it to be split there. Grows the file ahead of that, if the disk has room.
    fn extend_tail(&mut self, at: u64, need: u64) -> Result<()> {
        self.index.prepare(at)?;
        let before = self.medium.end();
        let fits = before >= need;
        if !fits || (before > need && before - need <= SPLIT_ABOVE && !self.exact) {
            self.forget_blobs(at)?;
            let ahead = self.medium.set_end(need + self.reserve_ahead(need));
            if ahead.is_err() && !fits {
                self.medium.set_end(need)?;
            }
        }
        if at < self.size {
            let bytes = (need + 3 * WORD).min(self.size - WORD) - at - WORD;
            let markers = self.reserve_words([Some(at), Some(self.size - WORD)]);
            if let Err(error) = markers.and_then(|()| self.medium.reserve_free(at + WORD, bytes)) {
                let _ = self.medium.set_end(before);
                return Err(error);
            }
            let n = self.marker(at).n();
            self.take_from_index(at, n);
            self.size = at;
            self.forget_first_free(at);
        }
        self.mark_slack();
        // On the disk before anything but zeros is behind it: else the chain would break there. In any mode, as it is seldom; but in
        // exact mode each blob would wait for the disk.
        match before < self.medium.end() {
            true if self.exact => self.barrier(),
            true => self.order(),
            false => Ok(()),
        }
    }

    /// Before the free block from `at` to the end of the file gets longer: where blobs were in it, their markers are gone on the disk too.
    /// The longer start marker may be there before the longer file is, and would seem to hide them.
    fn forget_blobs(&mut self, at: u64) -> Result<()> {
        let end = self.medium.end();
        let is_ordered = self.medium.is_durable() || !self.exact;
        if !is_ordered || at >= end || self.used <= at {
            return Ok(());
        }
        self.reserve_words([Some(end - WORD)])?;
        self.medium.store(end - WORD, Marker::free(Extent::between(at, end).data_len).0);
        self.order()
    }

    /// Runs `operation`. If it fails and a free tail had become slack for it, that is a free tail again; in exact mode the file ends
    /// where it did.
    fn growing<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let size = self.size;
        let result = operation(self);
        if result.is_err() && self.size < size {
            let tail = std::mem::replace(&mut self.size, size);
            self.mark_slack();
            let marker = Marker::free(size - tail - OVERHEAD);
            self.medium.store(tail, marker.0);
            self.medium.store(size - WORD, marker.0);
            self.index.add_free(Extent { start: tail, data_len: marker.n() });
            if self.first_free == 0 {
                self.first_free = tail;
            }
        }
        if self.exact {
            let _ = self.cut_slack(); // failing that, a later operation does
        }
        result
    }

    /// Writes the start marker of the slack, if there is any.
    fn mark_slack(&mut self) {
        let end = self.medium.end();
        if self.size < end {
            let marker = Marker::free(end - self.size - OVERHEAD);
            self.medium.store(self.size, marker.0);
        }
    }

    /// Commits by one store: the block at `at` has this marker from now on. On failure it has the one before.
    fn commit(&mut self, at: u64, marker: Marker) -> Result<()> {
        let before = self.medium.load(at);
        self.medium.store(at, marker.0);
        self.barrier().inspect_err(|_| self.medium.store(at, before))
    }

    /// Makes sure that stores of these words cannot fail for want of space: in a file with holes, a page in which there is a marker may
    /// have some.
    #[inline]
    fn reserve_words<const N: usize>(&mut self, places: [Option<u64>; N]) -> Result<()> {
        places.into_iter().flatten().try_for_each(|at| self.medium.reserve(at, WORD))
    }

    /// Clears start markers that no block begins with any more. Without barriers, a split's first part may be on the disk before the
    /// start marker of its rest: were an older one found there, the chain might lead over blobs that came to be there since.
    fn erase<const N: usize>(&mut self, dead: [Option<u64>; N]) {
        dead.into_iter().flatten().for_each(|at| self.medium.store(at, 0));
    }

    /// The start of the slack, if there is any and it ends at `end`.
    fn slack_before(&self, end: u64) -> Option<u64> {
        (self.size < end && end == self.medium.end()).then_some(self.size)
    }

    /// Makes the block at `at` a live one with `take` bytes of data, out of the free block from `free` to `end`, which is at `at` or
    /// just behind the live block there; what remains becomes a free block at `rest`.
    ///
    /// ```text
    ///   before   at: free                     end        at: live | free: free          end
    ///   after    at: live, take | rest: free  end        at: live, take    | rest: free end
    /// ```
    fn claim(&mut self, at: u64, take: u64, free: u64, end: u64, end_word: u64) -> Result<()> {
        let is_slack = free == self.size;
        let free_n = end - free - OVERHEAD;
        let rest = at + OVERHEAD + take;
        let splits = rest != end;
        if splits && !is_slack {
            self.index.prepare(rest)?;
        }
        if is_slack {
            self.used = self.used.max(rest);
        }
        self.reserve_words([Some(at), Some(free), (!is_slack).then_some(end - WORD)])?;
        self.medium.reserve_free(free + WORD, (rest + 3 * WORD).min(end - WORD) - free - WORD)?;

        if splits {
            self.medium.store(rest, Marker::free(end - rest - OVERHEAD).0);
        }
        self.medium.store(rest - WORD, end_word);
        // A whole block needs nothing before its commit, but for the data and the intent of a move.
        let prepared = splits || end_word != Marker::live(take).0;
        let ordered = if prepared { self.barrier() } else { Ok(()) };
        if let Err(error) = ordered.and_then(|()| self.commit(at, Marker::live(take))) {
            // Of a recent block too: only a durable medium gets here, where nothing is allocated in the short way.
            self.medium.store(end - WORD, Marker::free(free_n).0);
            self.erase([splits.then_some(rest)]);
            return Err(error);
        }
        self.erase([(at != free).then_some(free)]);

        if is_slack {
            self.size = rest;
        } else {
            self.take_from_index(free, free_n);
            if splits {
                self.enter(rest, end);
            }
            if self.first_free == free {
                self.first_free = if splits { rest } else { self.index.any_free().unwrap_or(0) };
            }
        }
        self.index.put_live(at);
        Ok(())
    }

    /// Frees the live block at `at`: joins it with free neighbours, and with the slack if it then ends a dynamic medium.
    ///
    /// ```text
    ///   before   start: free | at: live | next: free   end      (either neighbour may be live or missing: then start = at, end = next)
    ///   after    start: free                           end
    /// ```
    fn release(&mut self, at: u64, n: u64) -> Result<()> {
        let joined = self.joined(at, n)?;
        let slack = self.slack_before(joined.end);
        let next = joined.behind.map(|(next, _)| next);
        self.reserve_words([Some(joined.start), Some(at), next, slack, Some(joined.end - WORD)])?;
        self.commit(joined.start, joined.marker())?;
        self.erase([joined.before.map(|_| at), joined.behind.map(|(next, _)| next), self.slack_before(joined.end)]);
        self.note_released(at, joined);
        Ok(())
    }

    /// The same where the disk takes nothing: it is done in memory, and on the disk by the next barrier that succeeds.
    fn release_without_barrier(&mut self, at: u64, n: u64) -> Result<()> {
        let joined = self.joined(at, n)?;
        self.medium.store(joined.start, joined.marker().0);
        self.note_released(at, joined);
        Ok(())
    }

    /// What becomes one free block when the live block at `at` is freed.
    fn joined(&self, at: u64, n: u64) -> Result<Joined> {
        let (end, behind) = self.free_space_behind(at + OVERHEAD + n)?;
        let before = self.free_before(at);
        Ok(Joined { start: before.map_or(at, |(start, _)| start), end, before, behind })
    }

    fn note_released(&mut self, at: u64, joined: Joined) {
        self.index.remove_live(at);
        self.note_free(joined.start, joined.end, joined.before.into_iter().chain(joined.behind));
    }

    /// What can be joined to a block that is freed before `next`: where that ends, and the free block in the index that it takes up.
    fn free_space_behind(&self, next: u64) -> Result<(u64, Option<(u64, u64)>)> {
        let behind = self.free_at(next)?.map(|n| (next, n));
        let end = behind.map_or(next, |(next, n)| next + OVERHEAD + n);
        Ok((if end == self.size { self.medium.end() } else { end }, behind))
    }

    /// From `start` to `end` there is one free block now, which took up those in `joined`. If it ends a dynamic medium it is slack.
    fn note_free(&mut self, start: u64, end: u64, joined: impl Iterator<Item = (u64, u64)>) {
        for (at, n) in joined {
            self.take_from_index(at, n);
        }
        if self.dynamic && end == self.medium.end() {
            self.size = start;
            self.forget_first_free(start);
            self.trim_slack();
        } else {
            self.enter(start, end);
            self.note_first_free(start);
        }
    }

    /// Enters the free block from `start` to `end` into the index, and writes its end marker: that of a live one if it is recent, as
    /// alloc_recent leaves it.
    fn enter(&mut self, start: u64, end: u64) {
        let n = end - start - OVERHEAD;
        let is_recent = self.index.add_recent(Extent { start, data_len: n });
        if !is_recent {
            self.index.add_free(Extent { start, data_len: n });
        }
        self.medium.store(end - WORD, if is_recent { Marker::live(n) } else { Marker::free(n) }.0);
    }

    fn note_first_free(&mut self, at: u64) {
        if self.first_free == 0 || self.first_free > at {
            self.first_free = at;
        }
    }

    /// The free block at `at` is no block any more.
    fn take_from_index(&mut self, at: u64, n: u64) {
        self.index.remove_free(Extent { start: at, data_len: n }, |at| data_size(&self.medium, at));
    }

    /// No free block begins at or behind `from` any more.
    fn forget_first_free(&mut self, from: u64) {
        if self.first_free >= from {
            self.first_free = self.index.any_free().unwrap_or(0);
        }
    }

    /// How much is reserved behind the last block of a medium of `size` bytes when it grows.
    fn reserve_ahead(&self, size: u64) -> u64 {
        if self.exact { 0 } else { (size / 8).clamp(64 << 10, 64 << 20) / STEP * STEP }
    }

    /// Gives slack back to the file system when it is much more than what growth reserves. Failing that, close does.
    fn trim_slack(&mut self) {
        if self.exact {
            let _ = self.cut_slack();
            return;
        }
        let mut ahead = self.reserve_ahead(self.size);
        // A blob that ended there is not to be found by the next open, if this is killed half-way.
        if self.medium.end() - self.size > 4 * ahead
            && self.medium.load(self.size + ahead - WORD) == Marker::live(ahead - OVERHEAD).0
        {
            ahead += STEP;
        }
        if self.medium.end() - self.size > 4 * ahead && self.medium.set_end(self.size + ahead).is_ok() {
            let end = self.medium.end();
            // Shorter on the disk before the marker says so: else bytes that are no block would be behind it.
            if self.used > end && self.order().is_ok() {
                self.used = end;
            }
            self.mark_slack();
        }
    }

    /// Cuts the file at the end of the last block.
    fn cut_slack(&mut self) -> Result<()> {
        if self.size == self.medium.end() || !self.medium.can_be_cut() {
            return Ok(());
        }
        // Without PALLOC_SYNC nobody waits for the disk in exact mode, nor where no blob was.
        let is_cared_for = self.medium.is_durable() || (!self.exact && self.used > self.size);
        let cut = if is_cared_for && self.failed_sync.is_none() { self.prepare_cut() } else { Ok(()) };
        cut.and_then(|()| self.medium.set_end(self.size)).inspect_err(|_| self.mark_slack())
    }

    /// A file that is cut gets zeros up to the end of its last page, and these may be on the disk before it is shorter: the slack then
    /// has no marker, which opening understands if there is nothing but zeros behind. So that there is.
    fn prepare_cut(&mut self) -> Result<()> {
        let behind = self.size + WORD;
        let page_end = behind.next_multiple_of(LARGEST_PAGE).min(self.medium.end());
        if page_end < self.medium.end() {
            if !self.medium.is_durable() {
                self.flush()?; // the chain does not lead there any more
            }
            self.medium.set_end(page_end)?;
        }
        self.medium.reserve(behind, page_end - behind)?;
        self.medium.clear(behind, page_end - behind);
        self.order()?;
        self.used = self.size;
        Ok(())
    }

    /// Gives back the end of the live block at `at`: `want` bytes of data remain. The intent in its end marker commits that: the start
    /// marker of the rest is written where the blob has bytes, and these must be there if it is undone.
    ///
    /// ```text
    ///   before   at: live                | next: free  end      (or next is live, or slack)
    ///   after    at: live, want | rest: free           end
    /// ```
    fn shrink(&mut self, at: u64, n: u64, want: u64) -> Result<()> {
        let (rest, end_marker) = (at + OVERHEAD + want, at + WORD + n);
        let (end, behind) = self.free_space_behind(end_marker + WORD)?;
        self.index.prepare(rest)?;
        self.medium.reserve(rest - WORD, 4 * WORD)?;
        let next = behind.map(|(next, _)| next);
        self.reserve_words([Some(at), Some(end_marker), next, self.slack_before(end), Some(end - WORD)])?;
        self.commit(end_marker, Marker(Intent::ShrinkTo(rest).word()))?;
        let given_up = [rest - WORD, rest].map(|at| (at, self.medium.load(at)));
        self.medium.store(rest - WORD, Marker::live(want).0);
        self.medium.store(rest, Marker::free(end - rest - OVERHEAD).0);
        let ordered = self.barrier();
        if let Err(error) = ordered.and_then(|()| self.commit(at, Marker::live(want))) {
            for (at, word) in given_up {
                self.medium.store(at, word);
            }
            self.medium.store(end_marker, Marker::live(n).0);
            return Err(error);
        }
        self.erase([Some(end_marker), behind.map(|(next, _)| next), self.slack_before(end)]);
        self.note_free(rest, end, behind.into_iter());
        Ok(())
    }

    /// Grows the live block at `at` into free space behind it; false if there is not enough.
    fn grow_in_place(&mut self, at: u64, n: u64, size: u64, want: u64) -> Result<bool> {
        let next = at + OVERHEAD + n;
        let behind = self.free_at(next)?.map_or(next, |n| next + OVERHEAD + n);
        let room = behind - at - OVERHEAD;
        let (take, end) = if room >= size {
            (split(room, want), behind)
        } else if self.dynamic && behind == self.size {
            let Some(want) = want_in_step(at, size) else { return Err(Error::TooLarge(size)) };
            // A new marker less than 16 bytes behind the old one would be written over it. Only odd media have that.
            if want - n < STEP {
                return Ok(false);
            }
            // What the file grows by must hold a block until that is joined.
            let need = at + OVERHEAD + if want - n < MIN_BLOCK { want + STEP } else { want };
            if self.extend_tail(next, need).is_err() {
                return Ok(false);
            }
            let end = self.medium.end();
            (split(end - at - OVERHEAD, want), end)
        } else {
            return Ok(false);
        };
        if take - n < STEP {
            return Ok(false);
        }
        self.claim(at, take, next, end, Marker::live(take).0)?;
        Ok(true)
    }

    /// Moves the blob of the live block at `at` to a place with room for `size` bytes. Two start markers change, so the end marker of
    /// the new block says which block is left until that one is free.
    fn move_blob(&mut self, at: u64, n: u64, size: u64) -> Result<u64> {
        if at >= Intent::MAX_OFFSET {
            return Err(Error::TooLarge(size));
        }
        self.free_space_behind(at + OVERHEAD + n)?;
        let Place { at: new, end, take } = self.place(size)?;
        self.medium.reserve(at + WORD, n)?;
        self.medium.reserve_free(new + WORD, take)?;
        self.medium.copy(at + WORD, new + WORD, n);
        self.claim(new, take, new, end, Intent::Leave(at).word())?;
        self.release(at, n).inspect_err(|_| {
            let _ = self.release_without_barrier(new, take);
        })?;
        self.medium.store(new + WORD + take, Marker::live(take).0);
        Ok(new + WORD)
    }
}

/// No file system has larger pages or blocks that it clears.
const LARGEST_PAGE: u64 = 64 << 10;

/// How much of a free block with `n` bytes of data is handed out for `want`: all of it if less remains than is worth a block.
fn split(n: u64, want: u64) -> u64 {
    if n > want && n - want > SPLIT_ABOVE { want } else { n }
}

/// The data size for `size` bytes in a block at `at` that the last block of a dynamic medium gets: the next block is in step.
fn want_in_step(at: u64, size: u64) -> Option<u64> {
    let want = round_up(size)?;
    if in_step(at) {
        return Some(want);
    }
    let end = at.checked_add(OVERHEAD + size.max(MIN_DATA)).filter(|&end| end <= MAX_DATA)?;
    Some((end - HEADER).next_multiple_of(STEP) + HEADER - at - OVERHEAD)
}

fn check_range(ptr: u64, n: u64, offset: u64, len: u64) -> Result<()> {
    if offset <= n && len <= n - offset { Ok(()) } else { Err(Error::OutOfBlob { ptr, offset, len }) }
}

/// The size in the start marker at `at`, which may have been overwritten and then lead anywhere.
fn data_size(medium: &impl Medium, at: u64) -> u64 {
    if at <= medium.end() - WORD { Marker(medium.load(at)).n() } else { 0 }
}

fn put_link(medium: &mut impl Medium, at: u64, link: u64) -> Result<()> {
    if medium.load(at) != link {
        medium.reserve(at, WORD)?;
        medium.store(at, link);
    }
    Ok(())
}
