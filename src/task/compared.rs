//! Vectors that are compared with each other: whether the nearest is one's own, and how well likeness is told.
//!
//! Takes vectors with what their samples are to each other; gives recall@1, the area under the ROC curve and Spearman's rank correlation, as
//! scikit-learn and SciPy have them. Pure.

use super::likeness_loss::{Likeness, cosine, rows, sum_of, unit};
use crate::data::{Member, Role, together};
use crate::order::Order;

/// Samples of a batch by which the loss of many is measured.
const BATCH: usize = 32;
/// Pairs that the area under the curve is of, at most: those of the first samples that are asked with.
const PAIRS_MAX: usize = 4_000_000;

/// Vectors so far.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    by: Likeness,
    width: usize,
    vectors: Vec<f32>,
    members: Vec<Member>,
}

impl Compared {
    /// Adds a sample's vector, whose length need not be 1.
    pub fn push(&mut self, by: Likeness, vector: &[f32], member: Member) {
        (self.by, self.width) = (by, vector.len());
        self.vectors.extend(unit(vector));
        self.members.push(member);
    }

    fn vector(&self, place: usize) -> &[f32] {
        &self.vectors[place * self.width..(place + 1) * self.width]
    }

    /// The mean loss of batches of all samples, made as in training.
    pub(super) fn loss(&self) -> f64 {
        let all: Vec<usize> = (0..self.members.len()).collect();
        let order = together(&self.members, &all, 0);
        let of_batch = |batch: &[usize]| {
            let vectors: Vec<&[f32]> = batch.iter().map(|place| self.vector(*place)).collect();
            sum_of(self.by, &vectors, &rows(&self.members, batch))
        };
        let add = |(sum, count): (f64, usize), (more, of): (f64, usize)| (sum + more, count + of);
        let (sum, count) = order.chunks(BATCH).map(of_batch).fold((0.0, 0), add);
        sum / count.max(1) as f64
    }

    /// What is told: of pairs with scores the rank correlation, else how often the nearest is one's own, and the area under the curve.
    pub(super) fn figures(&self) -> Vec<(&'static str, f64)> {
        if self.by == Likeness::CosineSimilarity {
            let (cosines, scores): (Vec<f64>, Vec<f64>) = self.scored().unzip();
            return vec![("spearman", spearman(&cosines, &scores))];
        }
        let (recall, pairs) = self.search();
        vec![("auc", area(pairs)), ("recall_at_1", recall)]
    }

    /// Of each pair its cosine and its score.
    fn scored(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let rows = (0..self.members.len()).filter(|place| self.members[*place].role == Role::Anchor);
        rows.filter_map(|row| {
            let group = self.members[row].group;
            let pair =
                |place: &usize| self.members[*place].group == group && self.members[*place].role == Role::Positive;
            // The two of a pair stand next to each other.
            let found = (row + 1..self.members.len()).take(2).find(pair)?;
            Some((cosine(self.vector(row), self.vector(found)), f64::from(self.members[row].score)))
        })
    }

    /// How often the nearest of what can be found is one's own, of those of whom there is another; and the cosines of pairs, with whether
    /// they are alike.
    fn search(&self) -> (f64, Vec<(f64, bool)>) {
        let has_roles = self.members.iter().any(|member| member.role != Role::Any);
        let all = 0..self.members.len();
        let (mut right, mut asked, mut pairs) = (0usize, 0usize, Vec::new());
        for row in all.clone().filter(|row| !has_roles || self.members[*row].role == Role::Anchor) {
            let (mut nearest, mut any) = ((f64::NEG_INFINITY, false), false);
            let seen_before = pairs.len() < PAIRS_MAX;
            for place in all.clone().filter(|place| *place != row && self.members[*place].role != Role::Anchor) {
                let near = cosine(self.vector(row), self.vector(place));
                let own = self.members[place].identity == self.members[row].identity;
                any |= own;
                if near > nearest.0 {
                    nearest = (near, own);
                }
                if seen_before && (has_roles || place > row) {
                    pairs.push((near, own));
                }
            }
            asked += usize::from(any);
            right += usize::from(any && nearest.1);
        }
        (right as f64 / asked.max(1) as f64, pairs)
    }
}

/// The area under the ROC curve: how often an alike pair has the higher number than one that is not, ties half. 0.5 where there is but one kind.
pub fn area(mut pairs: Vec<(f64, bool)>) -> f64 {
    pairs.order_by(|one, other| one.0.total_cmp(&other.0));
    let alike = pairs.iter().filter(|(_, alike)| *alike).count();
    let strange = pairs.len() - alike;
    if alike == 0 || strange == 0 {
        return 0.5;
    }
    let numbers: Vec<f64> = pairs.iter().map(|(number, _)| *number).collect();
    let mut sum = 0.0;
    each_rank(&numbers, &mut |place, rank| sum += if pairs[place].1 { rank } else { 0.0 });
    let least = alike as f64 * (alike as f64 + 1.0) / 2.0;
    (sum - least) / (alike as f64 * strange as f64)
}

/// Spearman's rank correlation; 0 where one of both is always the same.
pub fn spearman(one: &[f64], other: &[f64]) -> f64 {
    let (one, other) = (ranks(one), ranks(other));
    let mean = (one.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let size = (product(&one, &one) * product(&other, &other)).sqrt();
    if size > 0.0 { product(&one, &other) / size } else { 0.0 }
}

/// The rank of each number from 1; equal ones share the mean of theirs.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.order_by(|one, other| numbers[*one].total_cmp(&numbers[*other]));
    let sorted: Vec<f64> = order.iter().map(|place| numbers[*place]).collect();
    let mut ranks = vec![0.0; numbers.len()];
    each_rank(&sorted, &mut |place, rank| ranks[order[place]] = rank);
    ranks
}

/// Tells the rank of each of sorted numbers.
fn each_rank(sorted: &[f64], tell: &mut dyn FnMut(usize, f64)) {
    let mut first = 0;
    while first < sorted.len() {
        let equal = sorted[first..].iter().take_while(|number| **number == sorted[first]).count();
        (first..first + equal).for_each(|place| tell(place, first as f64 + (equal as f64 + 1.0) / 2.0));
        first += equal;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_what_can_be_found_is_asked_for() {
        let mut compared = Compared::default();
        let member = |identity, role| Member { identity, group: identity, role, score: 1.0 };
        let rows = [
            ([1.0, 0.0], member(0, Role::Anchor)),
            ([0.9, 0.1], member(0, Role::Positive)),
            ([1.0, 0.05], member(1, Role::Anchor)),
            ([0.0, 2.0], member(1, Role::Positive)),
        ];
        rows.iter().for_each(|(vector, member)| compared.push(Likeness::MultipleNegatives, vector, *member));
        // The second anchor is nearest to the first one's passage; other anchors are not among what can be found.
        assert_eq!(compared.figures(), [("auc", 0.5), ("recall_at_1", 0.5)]);
    }

    #[test]
    fn ties_are_halves_and_constants_tell_nothing() {
        assert_eq!(area(vec![(0.5, true), (0.5, false)]), 0.5);
        assert_eq!(area(vec![(0.9, true), (0.5, false), (0.9, false)]), 0.75);
        assert_eq!(area(vec![(0.9, true)]), 0.5);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 15.0]), 0.5);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
        assert_eq!(ranks(&[2.0, 1.0, 2.0]), [2.5, 1.0, 2.5]);
    }
}
