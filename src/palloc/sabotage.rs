// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules of transactions, of caches and of live readers. Tests break one at a time, to see that without it something is lost. And other
//! threads, for tests that say when these do something.

/// A rule that does not show in the order of stores and barriers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// A freed block is joined with its neighbours when it is freed, not when it leaves the quarantine: there a barrier would be missing.
    JoinAtOnce,
    /// Nobody may allocate a freed block until the record that freed it is taken back.
    Quarantine,
    /// The tag that commits a record names it.
    TagNamesRecord,
    /// Opening takes back the oldest record first.
    OldestFirst,
    /// A block is put into a cache by an exchange of its start marker, so that of two threads one frees it.
    OneFrees,
    /// A thread without the medium's lock asks whether the caches are open once it has the lock of one.
    ClosedIsClosed,
    /// Whoever may not see kept blocks closes the caches.
    CloseFirst,
    /// A failed sync closes the caches: nothing is stored to the medium any more.
    CloseFailed,
    /// The heap makes a kept block of free space: the start marker of the rest is there before that of the block leads to it.
    RestFirst,
    /// The caches count as open before a thread can keep a block.
    OpenFirst,
    /// Where blocks may be kept, the slot map alone does not say what is live.
    AskMarkers,
    /// A reader pins its slot before it reads: a fence is between.
    PinFence,
    /// A reader looks again whether the writer has closed, after that fence.
    PinRecheck,
    /// The writer begins the next epoch before it looks at the slots,
    EpochBeforeScan,
    /// and a fence is between.
    ReclaimFence,
    /// What was held in the oldest epoch that is pinned stays.
    HeldEpoch,
    /// The file is not cut while a reader is open,
    CutAlone,
    /// and the writer asks once more when the new end is known.
    CutRecheck,
    /// Resizing gives nothing back in place while readers may be open.
    ShrinkAlone,
}

#[cfg(test)]
thread_local! {
    pub static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// The rule that the environment names, in a library that c_tests/sabotage.sh builds.
#[cfg(palloc_sabotage)]
static LEFT_OUT: std::sync::LazyLock<Option<String>> =
    std::sync::LazyLock::new(|| std::env::var("PALLOC_LEAVE_OUT").ok());

/// Whether a test has the rule broken.
#[inline]
pub fn is_broken(rule: Rule) -> bool {
    #[cfg(test)]
    return BROKEN.get() == Some(rule);
    #[cfg(all(palloc_sabotage, not(test)))]
    return LEFT_OUT.as_deref().is_some_and(|name| name == format!("{rule:?}"));
    #[cfg(not(any(test, palloc_sabotage)))]
    {
        let _ = rule;
        false
    }
}

/// The work of another thread.
#[cfg(test)]
pub type Other = Box<dyn FnMut()>;

#[cfg(test)]
thread_local! {
    pub static OTHER: std::cell::RefCell<Option<Other>> = const { std::cell::RefCell::new(None) };
}

/// Called before each access to a file's words: another thread does something.
#[inline]
pub fn between_accesses() {
    #[cfg(test)]
    if let Ok(Some(mut other)) = OTHER.try_with(std::cell::RefCell::take) {
        other();
        OTHER.set(Some(other));
    }
}
