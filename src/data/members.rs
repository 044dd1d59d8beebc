//! What samples are to each other where likeness is learned, and the order in which they meet in a batch.
//!
//! Plain values and pure functions of them.

use std::collections::BTreeMap;

/// Samples of one identity that are put next to each other, at most: enough positives for each in a batch, and room for others.
const TOGETHER: usize = 4;

/// What a sample is among those that it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One of several samples of an identity.
    Any,
    /// What is asked with: a query, a first sentence.
    Anchor,
    /// What is to be found: a passage, a second sentence.
    Positive,
    /// What is not to be found.
    Negative,
}

/// A sample where likeness is learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// Samples of equal identity are alike.
    pub identity: u32,
    /// Samples of one row of pairs or triplets belong together; else as `identity`.
    pub group: u32,
    /// What it is in its row.
    pub role: Role,
    /// How alike the two of a pair are, −1 to 1; 1 where nobody says it.
    pub score: f32,
}

/// Samples in an order in which those that are to meet in a batch stand next to each other: the rows of pairs and triplets whole, of
/// an identity's samples a few at a time. Which ones, and which groups follow each other, is the seed's.
pub fn together(members: &[Member], samples: &[usize], seed: u64) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut of_group: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    samples.iter().for_each(|sample| of_group.entry(members[*sample].group).or_default().push(*sample));
    let mut few: Vec<Vec<usize>> = Vec::new();
    for mut group in of_group.into_values() {
        if members[group[0]].role != Role::Any {
            few.push(group);
            continue;
        }
        random.shuffle(&mut group);
        // As even as may be, so that nobody is left alone.
        let parts = group.len().div_ceil(TOGETHER);
        let each = group.len().div_ceil(parts);
        few.extend(group.chunks(each).map(<[usize]>::to_vec));
    }
    random.shuffle(&mut few);
    few.concat()
}

/// So many samples does each row of pairs (2) or triplets (3) have; `None` where that differs or there are no rows.
pub fn row_size(members: &[Member]) -> Option<usize> {
    let is_rows = members.first().is_some_and(|member| member.role != Role::Any);
    let size = members.iter().take_while(|member| member.group == members[0].group).count();
    (is_rows && members.chunks(size).all(|row| row.len() == size && row[0].group == row[size - 1].group))
        .then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(group: u32, role: Role) -> Member {
        Member { identity: group, group, role, score: 1.0 }
    }

    #[test]
    fn an_identity_s_samples_meet_and_all_come_once() {
        let members: Vec<Member> = (0..40).map(|sample| member(sample % 4, Role::Any)).collect();
        let all: Vec<usize> = (0..40).collect();
        let order = together(&members, &all, 1);
        assert_eq!(order, together(&members, &all, 1));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, all);
        // Ten samples each are 4, 4 and 2.
        let alone = (1..39).filter(|at| {
            let group = |at: usize| members[order[at]].group;
            group(*at) != group(at - 1) && group(*at) != group(at + 1)
        });
        assert_eq!(alone.count(), 0);
    }

    #[test]
    fn rows_stay_whole() {
        let roles = [Role::Anchor, Role::Positive, Role::Negative];
        let members: Vec<Member> = (0..30).map(|sample| member(sample / 3, roles[sample as usize % 3])).collect();
        let all: Vec<usize> = (0..30).collect();
        let order = together(&members, &all, 7);
        for row in order.chunks(3) {
            assert!(row[0] % 3 == 0 && row[1] == row[0] + 1 && row[2] == row[0] + 2, "{row:?}");
        }
        assert_ne!(order, all);
        assert_eq!(row_size(&members), Some(3));
        assert_eq!(row_size(&members[..29]), None);
        assert_eq!(row_size(&[member(0, Role::Any), member(0, Role::Any)]), None);
    }
}
