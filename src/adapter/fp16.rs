//! Adapter tensors at rest: fp16, rounded to nearest even (IEEE 754 binary16).

use half::f16;

/// The value nearest to ±65504 that fp16 can hold; larger ones are clamped to it, so that a delta never holds an
/// infinity. NaN stays NaN: the writer of a delta refuses it.
pub const LARGEST: f32 = 65504.0;

/// Rounds fp32 values to those that will be shipped, into `rounded`: evaluation always runs on these.
pub fn round_into(values: &[f32], rounded: &mut [f32]) {
    for (to, value) in rounded.iter_mut().zip(values) {
        *to = f16::from_f32(value.clamp(-LARGEST, LARGEST)).to_f32();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_what_a_reader_of_the_delta_sees() {
        let values = [0.1, -1.0e-8, 70000.0, -70000.0, 2049.0, f32::MIN_POSITIVE];
        let mut rounded = [0.0; 6];
        round_into(&values, &mut rounded);
        assert_eq!(rounded, [0.099975586, -0.0, 65504.0, -65504.0, 2048.0, 0.0]);
    }
}
