//! A recording's samples at another rate: band-limited interpolation by a windowed sinc.

/// A sound as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Samples in a second; 0 where nothing tells.
    pub rate: u32,
    /// The mean of the channels, in -1 to 1.
    pub samples: Vec<f32>,
}

/// Zeros of the sinc on each side: torchaudio's `lowpass_filter_width`.
const ZEROS: f64 = 6.0;
/// The part of the lower of both Nyquist frequencies that passes: torchaudio's `rolloff`.
const ROLLOFF: f64 = 0.99;
/// Filters that are kept, at most; of rates with more phases each is computed when it is needed.
const PHASES_MAX: usize = 4096;

/// A filter: the place of the first sample that it weighs, from the sample before the output, and its weights.
type Taps = (i64, Vec<f32>);

impl Recording {
    /// The first `length` samples at `rate`, fewer where the recording is shorter; a rate of 0, on either side, leaves them as they are.
    ///
    /// An output at the time t (in input samples) is `Σ x[m] · b · sinc(b (m - t)) · cos²(π b (m - t) / 12)` over `|b (m - t)| < 6`, where b is
    /// 0.99 · min(1, rate / own rate): `torchaudio.functional.resample` with its defaults (sinc interpolation with a Hann window).
    pub fn at(&self, rate: u32, length: usize) -> Vec<f32> {
        if rate == self.rate || rate == 0 || self.rate == 0 {
            return self.samples[..self.samples.len().min(length)].to_vec();
        }
        let divisor = gcd(self.rate.into(), rate.into());
        let (from, to) = (u64::from(self.rate) / divisor, u64::from(rate) / divisor);
        let pass = ROLLOFF * (to as f64 / from as f64).min(1.0);
        let outputs = ((self.samples.len() as u64 * to).div_ceil(from)).min(length as u64);
        let mut kept: Vec<Option<Taps>> = vec![None; if to as usize <= PHASES_MAX { to as usize } else { 0 }];
        let mut resampled = Vec::with_capacity(outputs as usize);
        for output in 0..outputs {
            let (before, phase) = (output * from / to, output * from % to);
            let fraction = phase as f64 / to as f64;
            resampled.push(match kept.get_mut(phase as usize) {
                Some(taps) => self.weighed(before, taps.get_or_insert_with(|| taps_at(fraction, pass))),
                None => self.weighed(before, &taps_at(fraction, pass)),
            });
        }
        resampled
    }

    /// The sum of samples by a filter; outside of the recording there is silence.
    fn weighed(&self, before: u64, (first, weights): &Taps) -> f32 {
        let start = before as i64 + first;
        let skipped = start.min(0).unsigned_abs() as usize;
        let samples = self.samples.get(start.max(0) as usize..).unwrap_or_default();
        weights.iter().skip(skipped).zip(samples).map(|(weight, sample)| weight * sample).sum()
    }
}

/// The filter for an output that lies `fraction` behind a sample.
fn taps_at(fraction: f64, pass: f64) -> Taps {
    use std::f64::consts::PI;
    let reach = ZEROS / pass;
    let (first, last) = ((fraction - reach).ceil() as i64, (fraction + reach).floor() as i64);
    let weight = |place: i64| {
        let time = (place as f64 - fraction) * pass;
        let window = (time * PI / ZEROS / 2.0).cos().powi(2);
        let sinc = if time == 0.0 { 1.0 } else { (time * PI).sin() / (time * PI) };
        (pass * sinc * window) as f32
    };
    (first, (first..=last).map(weight).collect())
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, hertz: f64, seconds: f64) -> Recording {
        let samples = (0..(f64::from(rate) * seconds) as usize)
            .map(|n| (std::f64::consts::TAU * hertz * n as f64 / f64::from(rate)).sin() as f32);
        Recording { rate, samples: samples.collect() }
    }

    #[test]
    fn a_tone_stays_the_tone_that_it_was_at_any_rate() {
        for (from, to) in [(44_100, 16_000), (8_000, 16_000), (16_000, 16_000), (22_050, 44_100), (44_099, 16_001)] {
            let (given, wanted) = (tone(from, 440.0, 0.2), tone(to, 440.0, 0.2));
            let found = given.at(to, usize::MAX);
            assert!(found.len().abs_diff(wanted.samples.len()) <= 1, "{from} to {to}: {} samples", found.len());
            // The ends lie beside silence.
            let inside = 200..found.len().min(wanted.samples.len()) - 200;
            let apart = inside.map(|n| (found[n] - wanted.samples[n]).abs()).fold(0.0, f32::max);
            assert!(apart < 0.01, "{from} to {to}: {apart} apart");
        }
    }

    #[test]
    fn what_lies_over_the_new_limit_is_taken_out_instead_of_mirrored() {
        let found = tone(44_100, 12_000.0, 0.2).at(16_000, usize::MAX);
        let loudest = found[200..found.len() - 200].iter().fold(0.0f32, |most, sample| most.max(sample.abs()));
        assert!(loudest < 0.02, "{loudest} of a tone that cannot be at that rate");
    }

    #[test]
    fn no_more_is_computed_than_asked_for() {
        assert_eq!(tone(1, 0.1, 4.0).at(1_000_000, 10).len(), 10);
        assert_eq!(tone(8_000, 440.0, 0.1).at(0, 5).len(), 5, "without a rate the samples are as they are");
    }
}
