//! Resizing as Pillow's `Resample.c` does it: a convolution across, rounded to 8 bits, then one down.
//!
//! For the filters whose overshoot makes that rounding show; the crate that resizes bilinearly differs by up to two levels there.

use super::preprocessing::Filter;

/// Bits of the weights' fractions.
const FRACTION: u32 = 22;
/// What falls between two pixels is the second's: it must not be the first's by rounding.
const ROUNDING: f64 = 1e-7;

/// One axis: the part of the source that becomes so many pixels, and where the source ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub start: f64,
    pub length: f64,
    pub count: u32,
    pub end: u32,
}

/// A target pixel's weights, and the source pixel of the first.
type Weights = (usize, Vec<i32>);

/// Interleaved pixels of a part of an image.
pub(super) fn resample(pixels: &[u8], channels: usize, [across, down]: [Axis; 2], filter: Filter) -> Vec<u8> {
    let (columns, rows) = (across.weights(filter), down.weights(filter));
    let first = rows.first().map_or(0, |(first, _)| *first);
    let last = rows.last().map_or(0, |(first, weights)| first + weights.len());
    let source_row = across.end as usize * channels;
    let target_row = columns.len() * channels;
    let mut between = Vec::with_capacity((last - first) * target_row);
    for row in pixels.chunks_exact(source_row).take(last).skip(first) {
        for (start, weights) in &columns {
            let part = &row[start * channels..];
            between.extend((0..channels).map(|channel| sum(&part[channel..], channels, weights)));
        }
    }
    let mut target = Vec::with_capacity(rows.len() * target_row);
    for (start, weights) in &rows {
        let part = &between[(start - first) * target_row..];
        target.extend((0..target_row).map(|place| sum(&part[place..], target_row, weights)));
    }
    target
}

/// Every so-many-th value by its weight.
fn sum(values: &[u8], stride: usize, weights: &[i32]) -> u8 {
    let products = values.iter().step_by(stride).zip(weights).map(|(value, weight)| i32::from(*value) * weight);
    let sum: i32 = products.sum::<i32>() + (1 << (FRACTION - 1));
    (sum >> FRACTION).clamp(0, 255) as u8
}

impl Axis {
    fn weights(&self, filter: Filter) -> Vec<Weights> {
        let scale = self.length / f64::from(self.count);
        // Where the image shrinks, the filter is as much wider: that is the antialiasing.
        let widened = scale.max(1.0);
        let support = reach(filter) * widened;
        let one = |target: u32| {
            let centre = self.start + (f64::from(target) + 0.5) * scale + ROUNDING;
            if filter == Filter::Nearest {
                return ((centre as usize).min(self.end as usize - 1), vec![1 << FRACTION]);
            }
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(self.end as usize);
            let weight = |place: usize| kernel(filter, (place as f64 - centre + 0.5) / widened);
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let all: f64 = weights.iter().sum();
            let fixed = |weight: &f64| (weight / all * f64::from(1 << FRACTION)).round() as i32;
            (first, weights.iter().map(fixed).collect())
        };
        (0..self.count).map(one).collect()
    }
}

/// How far from its middle a filter reaches, in target pixels.
fn reach(filter: Filter) -> f64 {
    match filter {
        Filter::Nearest | Filter::Area => 0.5,
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    }
}

fn kernel(filter: Filter, x: f64) -> f64 {
    let sinc = |x: f64| {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    };
    let far = x.abs();
    match filter {
        Filter::Nearest | Filter::Area => f64::from(x > -0.5 && x <= 0.5),
        Filter::Bilinear => (1.0 - far).max(0.0),
        // Keys 1981 with a = -0.5.
        Filter::Bicubic if far < 1.0 => (1.5 * far - 2.5) * far * far + 1.0,
        Filter::Bicubic if far < 2.0 => (((far - 5.0) * far + 8.0) * far - 4.0) * -0.5,
        Filter::Lanczos if far < 3.0 => sinc(x) * sinc(x / 3.0),
        Filter::Bicubic | Filter::Lanczos => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_make_one_and_stay_inside() {
        for filter in [Filter::Nearest, Filter::Area, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (start, length, count, end) in
                [(0.0, 7.0, 3, 7), (2.5, 3.0, 11, 6), (0.0, 1.0, 4, 1), (0.0, 900.0, 2, 900)]
            {
                for (first, weights) in (Axis { start, length, count, end }).weights(filter) {
                    assert!(first + weights.len() <= end as usize && !weights.is_empty(), "{filter:?}");
                    let all = f64::from(weights.iter().sum::<i32>()) / f64::from(1 << FRACTION);
                    assert!((all - 1.0).abs() < 1e-3, "{filter:?}: {all}");
                }
            }
        }
        let grey = vec![77; 9 * 9];
        let axis = Axis { start: 1.0, length: 7.0, count: 4, end: 9 };
        assert_eq!(resample(&grey, 1, [axis, axis], Filter::Lanczos), vec![77; 16]);
    }
}
