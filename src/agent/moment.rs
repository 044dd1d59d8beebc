//! A moment, as the service is told it.

/// A moment, by three clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Seconds since 1970.
    pub unix_s: i64,
    /// Minute of the local day.
    pub minute_of_day: u16,
    /// Seconds of the clock that nobody sets.
    pub steady_s: f64,
}
