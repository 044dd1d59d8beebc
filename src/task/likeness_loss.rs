//! The losses of likeness: how near the vectors of alike samples are to each other in a batch, as nodes and in Rust.
//!
//! All are of cosines, so vectors count by their direction. Who is like whom stands in the labels, `[batch, 5]`: identity, row, role,
//! score and place in the batch. Which samples are compared is decided between forward and gradient by comparisons, which carry none.
//!
//! - `multiple-negatives`: van den Oord et al. 2018 (InfoNCE) and Henderson et al. 2017, as MultipleNegativesRankingLoss of
//!   sentence-transformers, scale 20; of several positives of an anchor, the mean.
//! - `supervised-contrastive`: Khosla et al. 2020, L_out, as SupConLoss of pytorch-metric-learning, temperature 0.1.
//! - `triplet`: Hermans, Beyer and Leibe 2017, batch hard, on Euclidean distances of unit vectors, margin 0.2.
//! - `cosine-similarity`: the squared error of the cosine, as CosineSimilarityLoss of sentence-transformers.

use crate::data::{Member, Role};
use crate::graph::{Attr, Builder, DType, Val};
use serde::{Deserialize, Serialize};

/// Columns of the labels.
pub(super) const COLUMNS: usize = 5;
/// Factor of the cosines of `multiple-negatives`.
const SCALE: f64 = 20.0;
/// Divisor of the cosines of `supervised-contrastive`.
const TEMPERATURE: f64 = 0.1;
/// By how much one's own are to be nearer than others.
const MARGIN: f64 = 0.2;
/// The square of the shortest vector that has a direction, and of the least distance.
const TINY: f64 = 1e-12;
/// What stands for minus infinity: finite, for 0 times infinity is no number.
const FAR: f64 = -1e9;
/// More than any distance.
const BEYOND: f64 = 8.0;

/// A loss of likeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likeness {
    /// Each anchor's own positive among all that the batch holds.
    #[default]
    MultipleNegatives,
    /// All of an identity among all others of the batch.
    SupervisedContrastive,
    /// The farthest of one's own nearer than the nearest other.
    Triplet,
    /// The cosine as it was scored.
    CosineSimilarity,
}

impl Likeness {
    /// All of them; the first is the default.
    pub const ALL: [Self; 4] =
        [Self::MultipleNegatives, Self::SupervisedContrastive, Self::Triplet, Self::CosineSimilarity];

    /// As recipes have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultipleNegatives => "multiple-negatives",
            Self::SupervisedContrastive => "supervised-contrastive",
            Self::Triplet => "triplet",
            Self::CosineSimilarity => "cosine-similarity",
        }
    }
}

/// Numbers of roles in the labels.
const ANCHOR: f32 = 0.0;
const POSITIVE: f32 = 1.0;
const NEGATIVE: f32 = 2.0;

/// The labels of some samples that are compared with each other. Of an identity without roles the first is the anchor. Identities and rows
/// are numbered anew, for a float does not tell large numbers apart.
pub(super) fn rows(members: &[Member], samples: &[usize]) -> Vec<[f32; COLUMNS]> {
    let members: Vec<&Member> = samples.iter().map(|sample| &members[*sample]).collect();
    let first = |of: fn(&Member) -> u32, member: &Member| {
        members.iter().position(|other| of(other) == of(member)).unwrap_or(0) as f32
    };
    let row = |(place, member): (usize, &&Member)| {
        let identity = first(|member| member.identity, member);
        let role = match member.role {
            Role::Any if identity as usize == place => ANCHOR,
            Role::Any | Role::Positive => POSITIVE,
            Role::Anchor => ANCHOR,
            Role::Negative => NEGATIVE,
        };
        [identity, first(|member| member.group, member), role, member.score, place as f32]
    };
    members.iter().enumerate().map(row).collect()
}

/// Appends the loss of vectors `[batch, width]`.
pub(super) fn append<'b>(builder: &'b Builder, vectors: Val<'b>, labels: Val<'b>, by: Likeness) -> Val<'b> {
    let column = |place: i64| labels.slice(&[place], &[place + 1], &[1]);
    let [identity, group, role, score, place] = [0, 1, 2, 3, 4].map(column);
    let across = |value: Val<'b>| value.transpose(&[1, 0]);
    let number = |value: f64| builder.scalar(DType::Float, value);
    let (zero, one) = (number(0.0), number(1.0));
    let mask = |value: Val<'b>| value.select(one, zero);
    let norm = ((vectors * vectors).reduce_sum(&[1], true) + TINY).sqrt();
    let unit = vectors / norm;
    let cosine = unit.matmul(across(unit));
    let same = mask(identity.equal(across(identity)));
    let others = one - mask(place.equal(across(place)));
    let anchors = mask(role.equal(number(ANCHOR.into())));
    match by {
        Likeness::MultipleNegatives => {
            let found = across(one - anchors);
            let rows = anchors;
            contrast(builder, cosine * SCALE, (found, same * found, rows))
        }
        Likeness::SupervisedContrastive => {
            contrast(builder, cosine * (1.0 / TEMPERATURE), (others, same * others, anchors * 0.0 + 1.0))
        }
        Likeness::Triplet => {
            let distance = builder.op("Max", &[(number(2.0) - cosine * 2.0), number(TINY)], &[]).sqrt();
            let hardest = |of: Val<'b>| {
                let place = builder.op("ArgMax", &[of], &[("axis", Attr::Int(1)), ("keepdims", Attr::Int(1))]);
                builder.op("GatherElements", &[distance, place], &[("axis", Attr::Int(1))])
            };
            let own = same * others;
            let strange = one - same;
            let (farthest, nearest) = (hardest((distance + 1.0) * own), hardest((number(BEYOND) - distance) * strange));
            let has = |of: Val<'b>| mask(of.reduce_sum(&[1], true).greater(zero));
            let rows = has(own) * has(strange);
            let hinge = ((farthest - nearest) + MARGIN).unary("Relu");
            mean_of(builder, hinge, rows)
        }
        Likeness::CosineSimilarity => {
            let found = across(mask(role.equal(number(POSITIVE.into()))));
            let pairs = mask(group.equal(across(group))) * anchors * found;
            let error = cosine - score;
            mean_of(builder, error * error, pairs)
        }
    }
}

/// −log softmax over the `columns` of each of the `rows`, the mean over a row's `positives`; the mean over the rows that have one.
fn contrast<'b>(
    builder: &'b Builder,
    logits: Val<'b>,
    (columns, positives, rows): (Val<'b>, Val<'b>, Val<'b>),
) -> Val<'b> {
    let (zero, one) = (builder.scalar(DType::Float, 0.0), builder.scalar(DType::Float, 1.0));
    let there = columns.greater(zero);
    let log = builder.op(
        "LogSoftmax",
        &[there.select(logits, builder.scalar(DType::Float, FAR))],
        &[("axis", Attr::Int(-1))],
    );
    let count = positives.reduce_sum(&[1], true);
    let each = (log * positives).reduce_sum(&[1], true) / builder.op("Max", &[count, one], &[]);
    -mean_of(builder, each, rows * count.greater(zero).select(one, zero))
}

/// The mean of the values where `counts` is 1; 0 where it is nowhere.
fn mean_of<'b>(builder: &'b Builder, values: Val<'b>, counts: Val<'b>) -> Val<'b> {
    let all = builder.op("Max", &[counts.sum_all(), builder.scalar(DType::Float, 1.0)], &[]);
    (values * counts).sum_all() / all
}

/// The cosine of two unit vectors.
pub fn cosine(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// A vector of length 1 in the same direction.
pub fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = (cosine(vector, vector) + TINY).sqrt();
    vector.iter().map(|value| (f64::from(*value) / norm) as f32).collect()
}

/// The same in Rust, of unit vectors: the sum over the rows that count, and their number.
pub(super) fn sum_of(by: Likeness, vectors: &[&[f32]], labels: &[[f32; COLUMNS]]) -> (f64, usize) {
    let places = 0..labels.len();
    let of_row = |row: usize| -> Option<f64> {
        let own = |place: usize| labels[place][0] == labels[row][0];
        let is_anchor = |place: usize| labels[place][2] == ANCHOR;
        let cosine = |place: usize| cosine(vectors[row], vectors[place]);
        match by {
            Likeness::MultipleNegatives if !is_anchor(row) => None,
            Likeness::MultipleNegatives => contrast_of(SCALE, labels.len(), &cosine, &|place| !is_anchor(place), &own),
            Likeness::SupervisedContrastive => {
                contrast_of(1.0 / TEMPERATURE, labels.len(), &cosine, &|place| place != row, &own)
            }
            Likeness::Triplet => {
                let distance = |place: usize| (2.0 - 2.0 * cosine(place)).max(TINY).sqrt();
                let farthest = places.clone().filter(|place| own(*place) && *place != row).map(distance);
                let nearest = places.clone().filter(|place| !own(*place)).map(distance);
                let (farthest, nearest) = (farthest.reduce(f64::max)?, nearest.reduce(f64::min)?);
                Some((farthest - nearest + MARGIN).max(0.0))
            }
            Likeness::CosineSimilarity if !is_anchor(row) => None,
            Likeness::CosineSimilarity => {
                let pair = |place: &usize| labels[*place][1] == labels[row][1] && labels[*place][2] == POSITIVE;
                let error = cosine(places.clone().find(pair)?) - f64::from(labels[row][3]);
                Some(error * error)
            }
        }
    };
    let found: Vec<f64> = places.clone().filter_map(of_row).collect();
    (found.iter().sum(), found.len())
}

fn contrast_of(
    scale: f64,
    count: usize,
    cosine: &dyn Fn(usize) -> f64,
    there: &dyn Fn(usize) -> bool,
    own: &dyn Fn(usize) -> bool,
) -> Option<f64> {
    let columns: Vec<(bool, f64)> =
        (0..count).filter(|place| there(*place)).map(|place| (own(place), scale * cosine(place))).collect();
    let positives: Vec<f64> = columns.iter().filter(|(own, _)| *own).map(|(_, logit)| *logit).collect();
    let most = columns.iter().map(|(_, logit)| *logit).reduce(f64::max)?;
    let all = most + columns.iter().map(|(_, logit)| (logit - most).exp()).sum::<f64>().ln();
    (!positives.is_empty()).then(|| all - positives.iter().sum::<f64>() / positives.len() as f64)
}
