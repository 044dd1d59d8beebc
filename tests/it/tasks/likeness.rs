//! Losses of likeness against PyTorch's formulas, figures against scikit-learn's and SciPy's.

use super::{Golden, is_as_pytorch};
use edgetune::data::{Labels, Member, Role};
use edgetune::task::compared::{area, spearman};
use edgetune::task::{self, Counts, Likeness, Loss};
use serde::Deserialize;

fn identities(golden: &mut Golden) -> Labels {
    let identities = golden.array::<i32>("identities");
    let member = |identity: &i32| {
        let identity = *identity as u32;
        Member { identity, group: identity, role: Role::Any, score: 1.0 }
    };
    Labels::Identities { names: vec![], members: identities.iter().map(member).collect(), scored: false }
}

/// Loss and gradient by nodes; gives the loss of all samples as one batch in Rust.
fn in_rust(golden: &mut Golden, labels: &Labels, by: Likeness) -> f64 {
    is_as_pytorch(golden, labels, &Loss::Likeness { by }, 6, &[]).beside_mean()
}

#[test]
fn identities_are_learned_as_in_pytorch() {
    for (before, by) in [("supervised_", Likeness::SupervisedContrastive), ("triplet_", Likeness::Triplet)] {
        let mut golden = Golden::read("likeness").named(before);
        let labels = identities(&mut golden);
        let (found, expected) = (in_rust(&mut golden, &labels, by), golden.number(&format!("{before}loss")));
        assert!((found - expected).abs() < 1e-5 * expected, "{before} in Rust {found}, PyTorch {expected}");
    }
}

#[test]
fn triplets_are_told_among_all_of_the_batch() {
    let mut golden = Golden::read("likeness").named("negatives_");
    let member = |place: u32| Member {
        identity: if place % 3 == 2 { 100 + place } else { place / 3 },
        group: place / 3,
        role: [Role::Anchor, Role::Positive, Role::Negative][place as usize % 3],
        score: 1.0,
    };
    let labels = Labels::Identities { names: vec![], members: (0..12).map(member).collect(), scored: false };
    let found = in_rust(&mut golden, &labels, Likeness::MultipleNegatives);
    let expected = golden.number("negatives_loss");
    assert!((found - expected).abs() < 1e-5 * expected, "in Rust {found}, PyTorch {expected}");
}

#[test]
fn scores_are_learned_as_cosines() {
    let mut golden = Golden::read("likeness").named("cosine_");
    let scores: Vec<f32> = golden.array::<f32>("scores").iter().copied().collect();
    let member = |place: u32| Member {
        identity: place / 2,
        group: place / 2,
        role: [Role::Anchor, Role::Positive][place as usize % 2],
        score: scores[place as usize / 2],
    };
    let labels = Labels::Identities { names: vec![], members: (0..12).map(member).collect(), scored: true };
    let found = in_rust(&mut golden, &labels, Likeness::CosineSimilarity);
    let expected = golden.number("cosine_loss");
    assert!((found - expected).abs() < 1e-5 * expected, "in Rust {found}, PyTorch {expected}");
}

#[derive(Deserialize)]
struct Cases {
    numbers: Vec<Numbers>,
    searches: Vec<Search>,
}

#[derive(Deserialize)]
struct Numbers {
    one: Vec<f64>,
    other: Vec<f64>,
    alike: Vec<bool>,
    auc: f64,
    spearman: f64,
}

#[derive(Deserialize)]
struct Search {
    vectors: Vec<Vec<f32>>,
    identities: Vec<u32>,
    auc: f64,
    recall: f64,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("../../goldens/tasks/compared.json")).unwrap()
}

#[test]
fn areas_and_correlations_are_those_of_the_libraries() {
    let cases = cases().numbers;
    assert_eq!(cases.len(), 200);
    for (number, case) in cases.into_iter().enumerate() {
        let found = spearman(&case.one, &case.other);
        assert!((found - case.spearman).abs() < 1e-6, "case {number}: {found}, SciPy {}", case.spearman);
        let found = area(case.one.into_iter().zip(case.alike).collect());
        assert!((found - case.auc).abs() < 1e-6, "case {number}: {found}, scikit-learn {}", case.auc);
    }
}

#[test]
fn the_nearest_are_those_of_scikit_learn() {
    let cases = cases().searches;
    assert_eq!(cases.len(), 200);
    for (number, case) in cases.into_iter().enumerate() {
        let member = |identity: &u32| Member { identity: *identity, group: *identity, role: Role::Any, score: 1.0 };
        let members = case.identities.iter().map(member).collect();
        let labels = Labels::Identities { names: vec![], members, scored: false };
        let task = task::of_labels(&labels).unwrap();
        let (mut counts, loss) = (Counts::new(&labels), Loss::named("triplet").unwrap());
        for (sample, vector) in case.vectors.iter().enumerate() {
            (task.measure)(&mut counts, &labels, &loss, vector, sample);
        }
        let figures = (task.figures)(&counts);
        for ((name, found), expected) in figures.into_iter().zip([case.auc, case.recall]) {
            assert!((found - expected).abs() < 1e-6, "case {number}: {name} {found}, scikit-learn {expected}");
        }
    }
}
