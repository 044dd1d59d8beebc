//! From features to coordinates: z = clip(round(Uᵀ(φ − c) / step)).
//!
//! Every sum runs in the order of the features and rounds as IEEE 754 says, so a sample's coordinates are the same alone or among
//! others, on every machine.

use super::error::{Error, ensure};

/// Bits of a coordinate, sign included: at least and at most.
pub const BITS: core::ops::RangeInclusive<u8> = 2..=16;

/// The largest coordinate of so many bits.
pub const fn value_max(bits: u8) -> i16 {
    ((1u32 << (bits - 1)) - 1) as i16
}

/// A number as a whole number of steps, and whether it had to be clipped. Halves go away from zero; NaN becomes 0.
pub fn quantise(value: f32, step: f32, value_max: i16) -> (i16, bool) {
    let steps = f64::from(value) / f64::from(step);
    let whole = (steps + if steps < 0.0 { -0.5 } else { 0.5 }) as i64;
    let limit = i64::from(value_max);
    let within = whole.clamp(-limit, limit);
    (within as i16, within != whole)
}

/// How features become coordinates. Borrowed, so that it may lie in flash.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Projection<'a> {
    /// c: subtracted from the features; empty for zeros.
    pub center: &'a [f32],
    /// U, `[features, coordinates]` row-major; empty for the identity.
    pub directions: &'a [f32],
    /// A step for each coordinate.
    pub steps: &'a [f32],
    /// Bits of a coordinate.
    pub bits: u8,
}

impl Projection<'_> {
    /// The coordinates of a sample's features, and how many were clipped. `work` has as many numbers as `coordinates`.
    ///
    /// # Errors
    /// Slices of other sizes, features that are not finite.
    pub fn apply(&self, features: &[f32], work: &mut [f32], coordinates: &mut [i16]) -> Result<u32, Error> {
        let width = self.steps.len();
        let identity = self.directions.is_empty();
        let fits = if identity { features.len() == width } else { self.directions.len() == features.len() * width };
        let centered = self.center.is_empty() || self.center.len() == features.len();
        ensure(fits && centered && work.len() == width && coordinates.len() == width, Error::Shape)?;
        ensure(features.iter().all(|feature| feature.is_finite()), Error::NotFinite)?;
        let center = |place: usize| self.center.get(place).copied().unwrap_or(0.0);
        if identity {
            work.iter_mut().zip(features).enumerate().for_each(|(i, (to, feature))| *to = feature - center(i));
        } else {
            work.fill(0.0);
            for (place, (feature, row)) in features.iter().zip(self.directions.chunks_exact(width)).enumerate() {
                let away = feature - center(place);
                work.iter_mut().zip(row).for_each(|(sum, direction)| *sum += away * direction);
            }
        }
        ensure(work.iter().all(|along| along.is_finite()), Error::NotFinite)?;
        let (limit, mut clipped) = (value_max(self.bits), 0);
        for ((to, along), step) in coordinates.iter_mut().zip(&*work).zip(self.steps) {
            let (z, over) = quantise(*along, *step, limit);
            (*to, clipped) = (z, clipped + u32::from(over));
        }
        Ok(clipped)
    }
}
