// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks of the process that fork(2) waits for, so that a child finds them free and what they protect whole.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// Returns a number that no other living thread has, never 0.
fn this_thread() -> usize {
    thread_local! {
        static OWN: AtomicU8 = const { AtomicU8::new(0) };
    }
    OWN.with(|own| ptr::from_ref(own).addr())
}

/// Keeps the guards of locks while the thread that holds them forks.
pub struct ForkLock<G> {
    /// Whether the handlers are installed.
    installed: AtomicBool,
    /// The number of the thread that is in fork(2) and holds the locks, or 0.
    thread: AtomicUsize,
    /// How often `before` ran for this fork: as often as the handlers were installed.
    depth: AtomicUsize,
    /// The guards, while `thread` is not 0.
    guards: UnsafeCell<Option<G>>,
}

// SAFETY: only the thread that holds the locks accesses the cell. It took them and releases them itself, so that G need not be Send.
unsafe impl<G> Sync for ForkLock<G> {}

// `inline`, so that the code is in the objects of those who use it: a Windows program that links only one of them gets no other's names.
impl<G> ForkLock<G> {
    pub const fn new() -> ForkLock<G> {
        ForkLock {
            installed: AtomicBool::new(false),
            thread: AtomicUsize::new(0),
            depth: AtomicUsize::new(0),
            guards: UnsafeCell::new(None),
        }
    }

    #[inline]
    pub fn is_installed(&self) -> bool {
        self.installed.load(Ordering::Acquire)
    }

    /// Installs handlers that run before every fork(2), and after it in the parent and in the child, unless they are installed. If memory
    /// runs out, it installs nothing, and fork is as safe as without handlers. Does nothing if the system has no fork.
    ///
    /// Two threads may both install them: `depth` allows for that. If one waited for the other, and a third forked meanwhile, the child
    /// would wait for ever.
    #[inline]
    pub fn install(&self, before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
        if self.is_installed() {
            return;
        }
        #[cfg(unix)]
        // SAFETY: the functions have no preconditions.
        unsafe {
            libc::pthread_atfork(Some(before), Some(parent), Some(child));
        }
        #[cfg(not(unix))]
        let _ = (before, parent, child);
        self.installed.store(true, Ordering::Release);
    }

    /// Whether this thread is in fork(2) and holds the locks. Handlers of the program, which run then, may need what the locks protect.
    #[inline]
    pub fn is_held_here(&self) -> bool {
        let thread = self.thread.load(Ordering::Relaxed);
        thread != 0 && thread == this_thread()
    }

    /// Before a fork: takes the locks by `lock`, unless this thread holds them for this fork already.
    #[inline]
    pub fn before(&self, lock: impl FnOnce() -> G) {
        if !self.is_held_here() {
            let guards = lock();
            self.thread.store(this_thread(), Ordering::Relaxed);
            // SAFETY: this thread holds the locks.
            unsafe { *self.guards.get() = Some(guards) };
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
    }

    /// After a fork, in the parent and in the child: undoes one `before`. The last of them releases the locks.
    #[inline]
    pub fn after(&self) {
        if self.depth.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.thread.store(0, Ordering::Relaxed);
            // SAFETY: this thread holds the locks, since `before`.
            let guards = unsafe { (*self.guards.get()).take() };
            drop(guards);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_that_lives_has_a_number_of_its_own() {
        let own = this_thread();
        assert!(own != 0 && own == this_thread());
        std::thread::scope(|scope| {
            let other = scope.spawn(this_thread).join().unwrap();
            assert!(other != 0 && other != own);
        });
    }

    #[test]
    fn the_last_of_two_handlers_releases_the_locks_and_only_the_thread_that_forks_has_them() {
        static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let fork = ForkLock::new();
        fork.before(|| LOCK.lock().unwrap());
        fork.before(|| unreachable!("this thread has the lock"));
        assert!(fork.is_held_here() && LOCK.try_lock().is_err());
        std::thread::scope(|scope| assert!(!scope.spawn(|| fork.is_held_here()).join().unwrap()));
        fork.after();
        assert!(fork.is_held_here() && LOCK.try_lock().is_err());
        fork.after();
        assert!(!fork.is_held_here() && LOCK.try_lock().is_ok());
    }
}
