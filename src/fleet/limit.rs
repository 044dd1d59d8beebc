//! How often somebody may ask: a bucket of requests for each network or device, filled at a steady rate.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Sources that are remembered; full buckets are forgotten first, for they are like new ones.
const SOURCES_MAX: usize = 65_536;

/// Who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// All of a network: an address of IPv4, or what one customer has of IPv6, whose last 64 bits are theirs to choose.
    Network(IpAddr),
    /// A device, by its key.
    Device([u8; 32]),
}

impl Source {
    /// The network of an address.
    pub fn from_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self::Network(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
            address => Self::Network(address),
        }
    }
}

/// A limit for each source.
#[derive(Debug)]
pub struct Limiter(Mutex<Buckets>);

#[derive(Debug)]
struct Buckets {
    rate: f64,
    burst: f64,
    of: HashMap<Source, (f64, Instant)>,
}

impl Limiter {
    /// So many requests a second in the long run, and `burst` at once.
    pub fn new(rate: f64, burst: f64) -> Self {
        Self(Mutex::new(Buckets { rate, burst, of: HashMap::new() }))
    }

    /// Other numbers from now on; what has been taken stays taken.
    pub fn tune(&self, rate: f64, burst: f64) {
        let mut buckets = self.buckets();
        (buckets.rate, buckets.burst) = (rate, burst);
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        // A panic while the lock was held leaves numbers behind, and any number will do.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes a request of this source at this moment; gives how long to wait, where there were too many.
    ///
    /// # Errors
    /// Until then the source is refused.
    pub fn take(&self, source: Source, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets();
        let Buckets { rate, burst, of } = &mut *buckets;
        let filled =
            |left: f64, at: Instant| (left + *rate * now.saturating_duration_since(at).as_secs_f64()).min(*burst);
        if of.len() >= SOURCES_MAX && !of.contains_key(&source) {
            of.retain(|_, (left, at)| filled(*left, *at) < *burst);
            if of.len() >= SOURCES_MAX {
                return Err(Duration::from_secs(1));
            }
        }
        let (left, at) = of.entry(source).or_insert((*burst, now));
        (*left, *at) = (filled(*left, *at), now);
        if *left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - *left) / *rate));
        }
        *left -= 1.0;
        Ok(())
    }

    /// Gives a request back that somebody else has been charged for.
    pub fn give_back(&self, source: Source) {
        let mut buckets = self.buckets();
        let burst = buckets.burst;
        if let Some((left, _)) = buckets.of.get_mut(&source) {
            *left = (*left + 1.0).min(burst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let (limiter, now) = (Limiter::new(2.0, 3.0), Instant::now());
        let one = Source::from_address([10, 0, 0, 1].into());
        assert!((0..3).all(|_| limiter.take(one, now).is_ok()));
        assert_eq!(limiter.take(one, now), Err(Duration::from_millis(500)));
        assert!(limiter.take(Source::from_address([10, 0, 0, 2].into()), now).is_ok());
        assert!(limiter.take(one, now + Duration::from_millis(500)).is_ok());
        assert!(limiter.take(one, now + Duration::from_millis(500)).is_err());
        assert!((0..3).all(|_| limiter.take(one, now + Duration::from_secs(60)).is_ok()));
    }

    #[test]
    fn a_limit_can_be_changed_while_it_counts() {
        let (limiter, now, one) = (Limiter::new(1.0, 1.0), Instant::now(), Source::Device([1; 32]));
        assert!(limiter.take(one, now).is_ok() && limiter.take(one, now).is_err());
        limiter.tune(10.0, 5.0);
        assert!(limiter.take(one, now).is_err(), "what was taken is taken");
        assert!(limiter.take(one, now + Duration::from_millis(100)).is_ok());
        assert!((0..5).all(|_| limiter.take(one, now + Duration::from_secs(9)).is_ok()));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (limiter, now, one) = (Limiter::new(1.0, 2.0), Instant::now(), Source::Device([1; 32]));
        assert!((0..9).all(|_| limiter.take(one, now).map(|()| limiter.give_back(one)).is_ok()));
        limiter.give_back(one);
        assert!((0..2).all(|_| limiter.take(one, now).is_ok()) && limiter.take(one, now).is_err());
    }

    #[test]
    fn who_chooses_their_address_is_one_source() {
        let of = |text: &str| Source::from_address(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
