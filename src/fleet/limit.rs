//! How often somebody may ask: a bucket of requests for each address, filled at a steady rate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Addresses that are remembered; full buckets are forgotten first, for they are like new ones.
const ADDRESSES_MAX: usize = 65_536;

/// A limit for each address.
#[derive(Debug)]
pub struct Limiter {
    rate: f64,
    burst: f64,
    buckets: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Limiter {
    /// So many requests a second in the long run, and `burst` at once.
    pub fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, buckets: Mutex::default() }
    }

    /// Takes a request of this address at this moment; gives how long to wait, where there were too many.
    ///
    /// # Errors
    /// Until then the address is refused.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        // A panic while the lock was held leaves numbers behind, and any number will do.
        let mut buckets = self.buckets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let filled = |left: f64, at: Instant| {
            (left + self.rate * now.saturating_duration_since(at).as_secs_f64()).min(self.burst)
        };
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            buckets.retain(|_, (left, at)| filled(*left, *at) < self.burst);
            if buckets.len() >= ADDRESSES_MAX {
                return Err(Duration::from_secs(1));
            }
        }
        let (left, at) = buckets.entry(address).or_insert((self.burst, now));
        (*left, *at) = (filled(*left, *at), now);
        if *left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - *left) / self.rate));
        }
        *left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let (limiter, now) = (Limiter::new(2.0, 3.0), Instant::now());
        let one: IpAddr = [10, 0, 0, 1].into();
        assert!((0..3).all(|_| limiter.take(one, now).is_ok()));
        assert_eq!(limiter.take(one, now), Err(Duration::from_millis(500)));
        assert!(limiter.take([10, 0, 0, 2].into(), now).is_ok());
        assert!(limiter.take(one, now + Duration::from_millis(500)).is_ok());
        assert!(limiter.take(one, now + Duration::from_millis(500)).is_err());
        assert!((0..3).all(|_| limiter.take(one, now + Duration::from_secs(60)).is_ok()));
    }
}
