// SPDX-License-Identifier: MIT OR Apache-2.0
//! Code that several threads or processes run at once, under loom, which tries the orders of loads and stores that the memory model allows.
//! Each rule is left out once: then loom finds the order in which something goes wrong.
#![cfg(test)]

mod caches;
mod palloc;
mod epochs;

use std::cell::Cell;
use std::panic::{UnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::LazyLock;

use palloc::sabotage::Rule;

std::thread_local! {
    static LEFT_OUT: Cell<Option<Rule>> = const { Cell::new(None) };
}

/// Names a rule that is left out in the whole process.
const LEAVE_OUT: &str = "PALLOC_LEAVE_OUT";

pub fn is_left_out(rule: Rule) -> bool {
    static OF_PROCESS: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(LEAVE_OUT).ok());
    LEFT_OUT.get() == Some(rule) || OF_PROCESS.as_deref().is_some_and(|name| name == format!("{rule:?}"))
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(f);
}

/// Whether this test fails without the rule. In a process of its own: loom aborts if a thread that fails has a lock.
fn is_found_by(rule: Rule, test: &str) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", test]).env(LEAVE_OUT, format!("{rule:?}")).output().unwrap();
    assert!(String::from_utf8_lossy(&child.stdout).contains("running 1 test"), "{test}");
    !child.status.success()
}

fn is_found(rule: Rule, f: impl Fn() + UnwindSafe) -> bool {
    LEFT_OUT.set(Some(rule));
    let result = catch_unwind(f);
    LEFT_OUT.set(None);
    result.is_err()
}
