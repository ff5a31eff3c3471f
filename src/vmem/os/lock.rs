//! A lock in a static variable that never uses the heap. (std's does, on systems where it stands on pthread_mutex_t.)

#[cfg(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd"))]
mod system {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    pub struct Lock(Mutex<()>);

    /// The lock is held for as long as this lives.
    pub struct Held {
        _guard: MutexGuard<'static, ()>,
    }

    impl Lock {
        pub const fn new() -> Self {
            Lock(Mutex::new(()))
        }

        pub fn lock(&'static self) -> Held {
            Held { _guard: self.0.lock().unwrap_or_else(PoisonError::into_inner) }
        }
    }
}

#[cfg(not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd")))]
mod system {
    use std::cell::UnsafeCell;
    use std::marker::PhantomData;

    pub struct Lock(UnsafeCell<libc::pthread_mutex_t>);

    // SAFETY: the functions that are given the mutex are made for many threads.
    unsafe impl Sync for Lock {}

    /// The lock is held for as long as this lives, which is in one thread: a pointer is not Send.
    pub struct Held(&'static Lock, PhantomData<*const ()>);

    impl Lock {
        pub const fn new() -> Self {
            Lock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))
        }

        pub fn lock(&'static self) -> Held {
            // SAFETY: an initialized mutex that never moves. Locking a normal one can't fail.
            unsafe { libc::pthread_mutex_lock(self.0.get()) };
            Held(self, PhantomData)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            // SAFETY: this thread has it locked.
            unsafe { libc::pthread_mutex_unlock(self.0.0.get()) };
        }
    }
}

pub use system::{Held, Lock};
