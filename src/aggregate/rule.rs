//! What becomes of one coordinate: the numbers that the devices have for it → one number.

use super::Error;

/// How coordinates are combined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The weighted mean (FedAvg, arXiv 1602.05629). One device can move it anywhere.
    Mean,
    /// The median. Half of the devices less one cannot move it beyond what the others have. Weights do not count: they are
    /// what an attacker would choose.
    Median,
    /// The mean without the part (0 to below 0.5) of the devices that have the smallest numbers, and those that have the
    /// largest (arXiv 1803.01498). As many attackers are without power as are left out at one end. Weights do not count.
    TrimmedMean {
        /// What is left out at each end.
        part: f64,
    },
}

impl Rule {
    /// # Errors
    /// A part that cannot be.
    pub(super) fn check(self) -> Result<(), Error> {
        match self {
            Rule::TrimmedMean { part } if !(0.0..0.5).contains(&part) => Err(Error::Trim(part)),
            _ => Ok(()),
        }
    }

    /// Coordinates that can be worked on at once with `devices` devices in `bytes_max` bytes.
    pub(super) fn coordinates_max(self, devices: usize, bytes_max: usize) -> usize {
        match self {
            Rule::Mean => bytes_max / size_of::<f64>(),
            Rule::Median | Rule::TrimmedMean { .. } => bytes_max / size_of::<f32>() / devices.max(1),
        }
    }
}

/// Coordinates on their way to one number each; takes the devices' one after another.
pub(super) enum Reducer {
    Mean(Vec<f64>),
    /// Sorted at the end, so all are kept: those of a coordinate beside each other.
    Sorted {
        values: Vec<f32>,
        devices: usize,
        /// Numbers that count, from the middle out.
        trim: Trim,
    },
}

pub(super) enum Trim {
    ToMedian,
    Part(f64),
}

impl Reducer {
    pub(super) fn new(rule: Rule, coordinates: usize, devices: usize) -> Self {
        let sorted = |trim| Self::Sorted { values: vec![0.0; coordinates * devices], devices, trim };
        match rule {
            Rule::Mean => Self::Mean(vec![0.0; coordinates]),
            Rule::Median => sorted(Trim::ToMedian),
            Rule::TrimmedMean { part } => sorted(Trim::Part(part)),
        }
    }

    /// Takes a device's numbers for all coordinates. `place` is its own among all, `share` its part of all weights.
    pub(super) fn take(&mut self, numbers: &[f32], place: usize, share: f64) {
        match self {
            Self::Mean(sums) => {
                for (sum, number) in sums.iter_mut().zip(numbers) {
                    *sum += share * f64::from(*number);
                }
            }
            Self::Sorted { values, devices, .. } => {
                for (column, number) in values.chunks_exact_mut(*devices).zip(numbers) {
                    column[place] = *number;
                }
            }
        }
    }

    /// One number for each coordinate.
    pub(super) fn reduced(self) -> Vec<f64> {
        match self {
            Self::Mean(sums) => sums,
            Self::Sorted { mut values, devices, trim } => {
                let left_out = match trim {
                    Trim::ToMedian => (devices - 1) / 2,
                    Trim::Part(part) => (part * devices as f64) as usize,
                };
                values.chunks_exact_mut(devices).map(|column| middle_mean(column, left_out)).collect()
            }
        }
    }
}

/// The mean without the `left_out` smallest and largest; the median where one or two are left.
fn middle_mean(column: &mut [f32], left_out: usize) -> f64 {
    column.sort_unstable_by(f32::total_cmp);
    let kept = &column[left_out..column.len() - left_out];
    kept.iter().map(|value| f64::from(*value)).sum::<f64>() / kept.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(rule: Rule, columns: &[&[f32]]) -> Vec<f64> {
        let devices = columns.len();
        let mut reducer = Reducer::new(rule, columns[0].len(), devices);
        for (place, numbers) in columns.iter().enumerate() {
            reducer.take(numbers, place, 1.0 / devices as f64);
        }
        reducer.reduced()
    }

    #[test]
    fn each_rule_does_what_its_name_says() {
        let five: [&[f32]; 5] = [&[1.0, 9.0], &[-50.0, 1.0], &[2.0, 2.0], &[4.0, 3.0], &[600.0, 7.0]];
        assert_eq!(reduced(Rule::Median, &five), [2.0, 3.0]);
        assert_eq!(reduced(Rule::TrimmedMean { part: 0.2 }, &five), [7.0 / 3.0, 4.0]);
        assert_eq!(reduced(Rule::TrimmedMean { part: 0.0 }, &five), [557.0 / 5.0, 22.0 / 5.0]);
        assert_eq!(reduced(Rule::Median, &five[..4]), [1.5, 2.5]);
        assert_eq!(reduced(Rule::Median, &five[..1]), [1.0, 9.0]);
        assert_eq!(reduced(Rule::Mean, &five[2..4]), [3.0, 2.5]);
    }

    #[test]
    fn a_part_that_leaves_nothing_is_refused() {
        assert!(Rule::TrimmedMean { part: 0.5 }.check().is_err());
        assert!(Rule::TrimmedMean { part: -0.1 }.check().is_err());
        assert!(Rule::TrimmedMean { part: f64::NAN }.check().is_err());
        assert!(Rule::TrimmedMean { part: 0.49 }.check().is_ok());
    }
}
