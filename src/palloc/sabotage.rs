// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules of transactions. Tests break one at a time, to see that without it something is lost.

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
}

#[cfg(test)]
thread_local! {
    pub static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Whether a test has the rule broken.
#[inline]
pub fn is_broken(rule: Rule) -> bool {
    #[cfg(test)]
    return BROKEN.get() == Some(rule);
    #[cfg(not(test))]
    {
        let _ = rule;
        false
    }
}
