//! What a sample's content is like, in a few numbers: near-duplicates have nearly the same ones. And its curves, for a person to see.

use crate::agent::config::Kind;
use crate::agent::judge::questions::normalised;
use crate::data::{self, ImagePreprocessing, Limits};
use crate::graph::{DType, Tensor};
use bytes::Bytes;

/// Pixels of a photograph's side, and its colours.
const SIDE: u32 = 8;
/// Parts that a curve is taken in.
const PARTS: usize = 64;
/// Curves that are drawn.
const CURVES_MAX: usize = 8;

/// A vector of length 1 (or of zeros) that tells what is where in a photograph, when in a curve, and which words are in a text; `None` for
/// what cannot be decoded.
pub(super) fn descriptor(kind: &Kind, content: &Bytes) -> Option<Vec<f32>> {
    let values = match kind {
        Kind::Photograph => {
            let small = ImagePreprocessing { scale: 1.0, ..ImagePreprocessing::new(SIDE, SIDE) };
            data::decode_photograph(content, &small, &Limits::default()).ok()?.to_f32()?
        }
        Kind::Text => words(std::str::from_utf8(content).ok()?),
        _ => curves(kind, content)?.iter().flat_map(|curve| parts(curve)).collect(),
    };
    Some(normalised(values))
}

/// How often words fall into each of some bins.
fn words(text: &str) -> Vec<f32> {
    let mut bins = vec![0.0; 4 * PARTS];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let hash = blake3::hash(word.to_lowercase().as_bytes());
        bins[usize::from(hash.as_bytes()[0]) % (4 * PARTS)] += 1.0;
    }
    bins
}

/// Means of a curve's parts.
fn parts(curve: &[f32]) -> Vec<f32> {
    let length = curve.len().div_ceil(PARTS).max(1);
    curve.chunks(length).map(|part| part.iter().sum::<f32>() / part.len() as f32).collect()
}

/// The channels of a sound, an array (whose last axis is the time) or a window of a series; `None` for what has none.
pub(super) fn curves(kind: &Kind, content: &Bytes) -> Option<Vec<Vec<f32>>> {
    match kind {
        // Its loudness: the wave itself is a matter of where it was cut.
        Kind::Sound => {
            let samples = data::decode_sound(content, &Limits::default()).ok()?.samples;
            let length = samples.len().div_ceil(4 * PARTS).max(1);
            let loud = |part: &[f32]| (part.iter().map(|value| value * value).sum::<f32>() / part.len() as f32).sqrt();
            Some(vec![samples.chunks(length).map(loud).collect()])
        }
        Kind::Array(_) => rows(&data::decode_array(content, DType::Float).ok()?, false),
        Kind::Series if content.starts_with(b"\x93NUMPY") => {
            rows(&data::decode_array(content, DType::Float).ok()?, true)
        }
        Kind::Series => {
            let text = std::str::from_utf8(content).ok()?;
            let row = |line: &str| line.split([',', ';', '\t']).map(|cell| cell.trim().parse::<f32>().ok()).collect();
            let table: Vec<Vec<Option<f32>>> = text.lines().skip(1).map(row).collect();
            let columns = table.first()?.len().min(CURVES_MAX);
            let column = |index: usize| table.iter().map(|row| *row.get(index)?).collect::<Option<Vec<f32>>>();
            Some((0..columns).filter_map(column).collect())
        }
        Kind::Photograph | Kind::Text => None,
    }
}

/// The rows of an array, or its columns where the first axis is the time.
fn rows(array: &Tensor, is_time_first: bool) -> Option<Vec<Vec<f32>>> {
    let values = array.to_f32()?;
    let length = array.shape.last().map_or(1, |length| *length as usize).max(1);
    let rows: Vec<&[f32]> = values.chunks(length).collect();
    Some(match is_time_first {
        true => (0..length.min(CURVES_MAX)).map(|column| rows.iter().map(|row| row[column]).collect()).collect(),
        false => rows.into_iter().take(CURVES_MAX).map(<[f32]>::to_vec).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(one: &[f32], other: &[f32]) -> f32 {
        one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
    }

    #[test]
    fn contents_that_look_alike_are_near_each_other() {
        let text = |text: &'static str| descriptor(&Kind::Text, &Bytes::from_static(text.as_bytes())).unwrap();
        let mail = text("Please pay the bill by Monday.");
        assert!(distance(&mail, &text("please pay the bill by monday")) < 1e-6);
        assert!(distance(&mail, &text("Shall we meet for lunch?")) > 0.5);

        let wave = |phase: f32| {
            let values: Vec<f32> = (0..256).map(|t| (t as f32 / 20.0 + phase).sin()).collect();
            descriptor(&Kind::Array(vec![2, 128]), &data::npy_of_floats(&[2, 128], &values).into()).unwrap()
        };
        assert!(distance(&wave(0.0), &wave(0.01)) < 0.05 && distance(&wave(0.0), &wave(3.1)) > 0.9);
        let table = |last: &str| Bytes::from(format!("time,x,name\n0,1,a\n1,2,b\n2,{last},c\n"));
        let of = |last: &str| curves(&Kind::Series, &table(last)).unwrap();
        assert_eq!(of("5"), [vec![0.0, 1.0, 2.0], vec![1.0, 2.0, 5.0]], "a column of names is no curve");
        assert_eq!(descriptor(&Kind::Photograph, &Bytes::from_static(b"no picture")), None);
    }
}
