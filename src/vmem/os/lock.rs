// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock for a static variable. It never uses the heap. (std's lock does, on systems where it is a pthread_mutex_t.)

#[cfg(any(windows, target_os = "linux", target_os = "android"))]
mod system {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    pub struct Lock(Mutex<()>);

    /// The lock is held while this lives.
    pub struct Held {
        _guard: MutexGuard<'static, ()>,
    }

    impl Lock {
        pub const fn new() -> Self {
            Lock(Mutex::new(()))
        }

        /// Waits for the lock, and holds it until the result is dropped. Precondition: this thread does not hold it.
        pub fn lock(&'static self) -> Held {
            Held { _guard: self.0.lock().unwrap_or_else(PoisonError::into_inner) }
        }
    }
}

#[cfg(not(any(windows, target_os = "linux", target_os = "android")))]
mod system {
    use std::cell::UnsafeCell;
    use std::marker::PhantomData;

    pub struct Lock(UnsafeCell<libc::pthread_mutex_t>);

    // SAFETY: only the pthread_mutex functions access the mutex, and any thread may call them.
    unsafe impl Sync for Lock {}

    /// The lock is held while this lives. It is not Send, because the thread that locks a mutex must unlock it.
    pub struct Held(&'static Lock, PhantomData<*const ()>);

    impl Lock {
        pub const fn new() -> Self {
            Lock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))
        }

        /// Waits for the lock, and holds it until the result is dropped. Precondition: this thread does not hold it.
        pub fn lock(&'static self) -> Held {
            // SAFETY: an initialized mutex that never moves. Locking a normal one can't fail.
            unsafe { libc::pthread_mutex_lock(self.0.get()) };
            Held(self, PhantomData)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            // SAFETY: this thread holds the lock.
            unsafe { libc::pthread_mutex_unlock(self.0.0.get()) };
        }
    }
}

pub use system::{Held, Lock};
