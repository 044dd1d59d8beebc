//! Parts of a data set as devices would have them: each sees some classes often and others hardly ever.

use std::f64::consts::PI;

/// Data that cannot be parted as asked.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Error {
    /// Not a concentration.
    #[error(
        "setting `alpha = {0}`: give a number above 0; 0.1 makes devices that know two or three classes, 100 ones that are all alike"
    )]
    Alpha(f64),
    /// Too few samples.
    #[error(
        "{samples} samples are too few for {devices} devices with at least {least} each at this setting `alpha`; take fewer devices \
         (setting `devices`), a larger setting `alpha` or more data"
    )]
    TooFew {
        /// Samples that there are.
        samples: usize,
        /// Devices that want some.
        devices: usize,
        /// What each wants.
        least: usize,
    },
}

/// Draws that are tried until every device has enough.
const TRIES: u32 = 1000;

/// Parts samples among devices: of each class, device k gets a share that is drawn from a Dirichlet distribution with
/// concentration `alpha` for all (Hsu, Qi and Brown, arXiv 1909.06335, by class as Yurochkin et al., arXiv 1905.12022, do).
/// `classes` is the class of each of `samples`. It is drawn anew until each device has `least` samples.
///
/// # Errors
/// [`Error`].
pub fn dirichlet(
    samples: &[usize],
    classes: &[usize],
    devices: usize,
    alpha: f64,
    least: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, Error> {
    debug_assert_eq!(samples.len(), classes.len());
    if !(alpha > 0.0 && alpha.is_finite()) {
        return Err(Error::Alpha(alpha));
    }
    let too_few = Error::TooFew { samples: samples.len(), devices, least };
    if devices == 0 || samples.len() < devices * least {
        return Err(too_few);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let count = classes.iter().max().map_or(0, |last| last + 1);
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); count];
    samples.iter().zip(classes).for_each(|(sample, class)| of_class[*class].push(*sample));
    of_class.iter_mut().for_each(|samples| random.shuffle(samples));
    for _ in 0..TRIES {
        let mut parts: Vec<Vec<usize>> = vec![Vec::new(); devices];
        for samples in &of_class {
            let draws: Vec<f64> = (0..devices).map(|_| gamma(alpha, &mut random)).collect();
            let whole: f64 = draws.iter().sum();
            let (mut begin, mut sum) = (0, 0.0);
            for (part, draw) in parts.iter_mut().zip(&draws) {
                sum += draw;
                // Sums are rounded, not shares, so that the shares of all make up the whole.
                let end = ((sum / whole * samples.len() as f64).round() as usize).clamp(begin, samples.len());
                part.extend(&samples[begin..end]);
                begin = end;
            }
            // A sum that was rounded down leaves a sample, which is the last device's.
            parts[devices - 1].extend(&samples[begin..]);
        }
        if parts.iter().all(|part| part.len() >= least) {
            parts.iter_mut().for_each(|part| part.sort_unstable());
            return Ok(parts);
        }
    }
    Err(too_few)
}

/// A draw from a gamma distribution of shape `alpha` and scale 1 (Marsaglia and Tsang, "A simple method for generating gamma
/// variables", 2000; below 1 by their boost).
fn gamma(alpha: f64, random: &mut fastrand::Rng) -> f64 {
    if alpha < 1.0 {
        // A draw of 0 would leave nothing to take a logarithm of.
        let boost = (1.0 - random.f64()).powf(1.0 / alpha);
        return (gamma(alpha + 1.0, random) * boost).max(f64::MIN_POSITIVE);
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(random);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - random.f64()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// A draw from the standard normal distribution (Box and Muller, 1958).
fn normal(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (2.0 * PI * random.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(alpha: f64, devices: usize, seed: u64) -> Vec<Vec<usize>> {
        let samples: Vec<usize> = (0..1000).collect();
        let classes: Vec<usize> = samples.iter().map(|sample| sample % 10).collect();
        dirichlet(&samples, &classes, devices, alpha, 2, seed).unwrap()
    }

    /// Classes that make up most of a device's samples: how many hold nine tenths of them.
    fn classes_that_count(part: &[usize]) -> usize {
        let mut counts = [0; 10];
        part.iter().for_each(|sample| counts[sample % 10] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let mut sum = 0;
        counts.iter().take_while(|count| (sum < part.len() * 9 / 10, sum += **count).0).count()
    }

    #[test]
    fn every_sample_is_on_one_device() {
        for (alpha, devices) in [(0.1, 20), (1.0, 7), (100.0, 50)] {
            let mut all: Vec<usize> = parts(alpha, devices, 3).concat();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>(), "α {alpha}");
        }
    }

    #[test]
    fn a_small_concentration_gives_each_device_few_classes() {
        let mean = |alpha| parts(alpha, 20, 5).iter().map(|part| classes_that_count(part)).sum::<usize>() as f64 / 20.0;
        assert!(mean(0.1) < 4.0, "{}", mean(0.1));
        assert!(mean(100.0) > 8.0, "{}", mean(100.0));
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(parts(0.5, 10, 1), parts(0.5, 10, 1));
        assert_ne!(parts(0.5, 10, 1), parts(0.5, 10, 2));
    }

    #[test]
    fn what_cannot_be_parted_is_refused() {
        let part = |devices, alpha| dirichlet(&[0, 1, 2], &[0, 0, 1], devices, alpha, 1, 0);
        assert!(matches!(part(4, 1.0), Err(Error::TooFew { .. })));
        assert!(matches!(part(0, 1.0), Err(Error::TooFew { .. })));
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(part(2, alpha), Err(Error::Alpha(_))), "{alpha}");
        }
    }

    #[test]
    fn gamma_has_its_mean_and_variance() {
        let mut random = fastrand::Rng::with_seed(8);
        for alpha in [0.1, 1.0, 4.5] {
            let draws: Vec<f64> = (0..40_000).map(|_| gamma(alpha, &mut random)).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            assert!(
                (mean / alpha - 1.0).abs() < 0.06 && (variance / alpha - 1.0).abs() < 0.12,
                "{alpha}: {mean} {variance}"
            );
        }
    }
}
