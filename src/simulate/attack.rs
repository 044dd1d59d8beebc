//! What devices do that mean harm, or are broken in the same way.

use crate::data::Labels;

/// How a poisoned device spoils what it sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attack {
    /// It goes the opposite way, as far as it has learned.
    SignFlip,
    /// It goes as far again as often as this says.
    Scale(f32),
    /// It learns from samples whose class c is called the C − 1 − c-th of C.
    LabelFlip,
}

impl Attack {
    /// What is sent instead of `learned` by a device that began with `start`.
    pub(super) fn sent(self, start: &[Vec<f32>], learned: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let factor = match self {
            Attack::SignFlip => -1.0,
            Attack::Scale(factor) => factor,
            Attack::LabelFlip => return learned,
        };
        let moved = |(start, learned): (&Vec<f32>, Vec<f32>)| {
            start.iter().zip(learned).map(|(start, learned)| start + factor * (learned - start)).collect()
        };
        start.iter().zip(learned).map(moved).collect()
    }

    /// The labels that a poisoned device learns from.
    pub(super) fn labels(self, labels: &Labels) -> Labels {
        match labels {
            Labels::Classes { names, index } if self == Attack::LabelFlip => {
                let last = names.len() as u32 - 1;
                Labels::Classes { names: names.clone(), index: index.iter().map(|class| last - class).collect() }
            }
            labels => labels.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_does_what_its_name_says() {
        let (start, learned) = (vec![vec![1.0, 2.0]], vec![vec![1.5, 1.0]]);
        assert_eq!(Attack::SignFlip.sent(&start, learned.clone()), [[0.5, 3.0]]);
        assert_eq!(Attack::Scale(10.0).sent(&start, learned.clone()), [[6.0, -8.0]]);
        assert_eq!(Attack::LabelFlip.sent(&start, learned.clone()), learned);
        let labels = Labels::Classes { names: ["a", "b", "c"].map(String::from).into(), index: vec![0, 1, 2, 2] };
        let Labels::Classes { index, .. } = Attack::LabelFlip.labels(&labels) else { panic!("classes stay classes") };
        assert_eq!(index, [2, 1, 0, 0]);
    }
}
