//! The lock of what several threads know.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is behind a lock. What a thread that panicked left there is as good as what was there before.
pub fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
