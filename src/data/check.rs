//! What a person should know about the data before training on them.
//!
//! A pure function of labels and content keys. It judges and proposes; whether to go on is the caller's matter.

use super::masks::Masks;
use super::numeric::{Looks, looks};
use super::same::Same;
use super::{Labels, Member, Picture, Role};
use crate::amounts::counted;
use crate::order::Order;
use std::collections::HashMap;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Training works, but its result may disappoint.
    Warning,
    /// Training or its measurement would be meaningless.
    Error,
}

/// Something about the data that a person should know.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was found.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
    /// The samples concerned, in ascending order; empty where it concerns all.
    pub samples: Vec<usize>,
}

/// A class with fewer samples cannot be divided into training and validation.
const SAMPLES_MIN: usize = 2;
/// A class with fewer samples is learnt and measured by chance.
const SAMPLES_FEW: usize = 10;
/// Classes that are named one by one, at most.
const NAMED_MAX: usize = 3;
/// The largest class over the smallest, above which plain accuracy misleads.
const IMBALANCE_MAX: usize = 10;

/// Looks for classes that are missing, rare or out of balance, for equal content, and for equal content that is labelled
/// differently. `keys` are the samples' content hashes. The gravest finding comes first.
pub fn check(labels: &Labels, keys: &[[u8; 32]]) -> Vec<Finding> {
    let mut findings = Vec::new();
    match labels {
        Labels::Classes { names, index } => {
            numbers(names, index.len(), &mut findings);
            classes(names, index, &mut findings);
        }
        Labels::Ordinal { names, index } => classes(names, index, &mut findings),
        Labels::MultiLabel { names, rows } => sets(names, rows, &mut findings),
        Labels::Values(rows) => values(rows, &mut findings),
        Labels::Pixels { names, masks } => pixels(names, masks, &mut findings),
        Labels::Boxes { names, pictures, .. } => boxes(names, pictures, &mut findings),
        Labels::Identities { members, scored: false, .. } => identities(members, &mut findings),
        Labels::Anomalies(anomalous) if !anomalous.contains(&false) => {
            let problem = "no normal sample: there is nothing to learn from".to_string();
            findings.push(finding(Severity::Error, problem, "add samples that are as they should be", vec![]));
        }
        Labels::OfLoss(_)
        | Labels::NextTokens(_)
        | Labels::Tokens { .. }
        | Labels::Lines { .. }
        | Labels::Identities { .. }
        | Labels::Anomalies(_)
        | Labels::Unlabelled(_) => {}
    }
    contents(labels, keys, &mut findings);
    findings.order_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn finding(severity: Severity, problem: String, remedy: &str, samples: Vec<usize>) -> Finding {
    Finding { severity, problem, remedy: remedy.into(), samples }
}

/// Classes of few samples: a line each, or one line where there are many of them.
fn few_samples(few: &[(&str, usize)]) -> Vec<String> {
    if few.len() <= NAMED_MAX {
        let line = |(name, count): &(&str, usize)| format!("class `{name}` has {}", counted(count, "sample"));
        return few.iter().map(line).collect();
    }
    let most = few.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let named: Vec<String> = few[..NAMED_MAX].iter().map(|(name, count)| format!("`{name}` {count}")).collect();
    let (classes, more) = (few.len(), few.len() - NAMED_MAX);
    vec![format!(
        "{classes} classes have {} or fewer each ({}, and {more} more classes)",
        counted(most, "sample"),
        named.join(", ")
    )]
}

/// Classes that are numbers, and more likely to be predicted as such.
fn numbers(names: &[String], samples: usize, findings: &mut Vec<Finding>) {
    let Some(looks) = looks(names.iter().map(String::as_str), samples) else { return };
    let shown: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
    let problem = format!(
        "the {} labels ({}, …) look like numbers to predict, and are learned as classes",
        names.len(),
        shown.join(", ")
    );
    let remedy = match looks {
        Looks::Measured => "setting `loss = mse` learns them as numbers",
        Looks::PerhapsMeasured => "if they are amounts and no names, setting `loss = mse` learns them as numbers",
    };
    findings.push(finding(Severity::Warning, problem, remedy, vec![]));
}

/// What cannot be compared: one identity alone, or none that has two samples.
fn identities(members: &[Member], findings: &mut Vec<Finding>) {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    members.iter().for_each(|member| *counts.entry(member.identity).or_default() += 1);
    let alone = counts.values().filter(|count| **count < SAMPLES_MIN).count();
    let is_of_rows = members.iter().any(|member| member.role != Role::Any);
    if counts.len() < 2 {
        let problem = "one identity: there is nothing that it could be told from".to_string();
        findings.push(finding(Severity::Error, problem, "add samples of another identity", vec![]));
    } else if alone == counts.len() {
        let problem = "no identity has two samples: nothing is like anything".to_string();
        findings.push(finding(Severity::Error, problem, "add samples of each identity", vec![]));
    } else if alone > 0 && !is_of_rows {
        let problem =
            format!("{} with one sample", if alone == 1 { "1 identity".into() } else { format!("{alone} identities") });
        let remedy = "others are told from it, but nothing is like it; add samples";
        findings.push(finding(Severity::Warning, problem, remedy, vec![]));
    }
}

fn pixels(names: &[String], masks: &Masks, findings: &mut Vec<Finding>) {
    let used = masks.used();
    let absent: Vec<&str> =
        names.iter().zip(used).filter(|(_, used)| !used).map(|(name, _)| name.as_str()).take(NAMED_MAX).collect();
    if used[..names.len().min(used.len())].iter().filter(|used| **used).count() < 2 {
        let problem = "fewer than two classes among the pixels: there is nothing to tell apart".to_string();
        findings.push(finding(Severity::Error, problem, "add masks with another class", vec![]));
    } else if !absent.is_empty() {
        let problem = format!("no pixel is of class {}", absent.join(", "));
        findings.push(finding(
            Severity::Note,
            problem,
            "nothing is learnt about it; add masks or leave the class out",
            vec![],
        ));
    }
}

fn classes(names: &[String], index: &[u32], findings: &mut Vec<Finding>) {
    let mut counts = vec![0usize; names.len()];
    index.iter().for_each(|class| counts[*class as usize] += 1);
    let present = counts.iter().filter(|count| **count > 0).count();
    if present < 2 {
        let problem = format!("{present} class with samples: there is nothing to tell apart");
        findings.push(finding(Severity::Error, problem, "add samples of another class", vec![]));
    }
    for (samples, severity, remedy) in [
        (0..1, Severity::Note, "nothing is learnt about it; add samples or leave the class out"),
        (1..SAMPLES_MIN, Severity::Warning, "add samples: one can train but none can measure"),
        (SAMPLES_MIN..SAMPLES_FEW, Severity::Warning, "add samples: 10 or more a class are advised"),
    ] {
        let few: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(counts.iter().copied()).collect();
        let few: Vec<_> = few.into_iter().filter(|(_, count)| samples.contains(count)).collect();
        findings.extend(few_samples(&few).into_iter().map(|problem| finding(severity, problem, remedy, vec![])));
    }
    let found = || names.iter().zip(&counts).filter(|(_, count)| **count > 0);
    let (most, least) = (found().max_by_key(|pair| pair.1), found().min_by_key(|pair| pair.1));
    if let (Some((most, most_count)), Some((least, least_count))) = (most, least)
        && *most_count > least_count * IMBALANCE_MAX
    {
        let problem = format!("class `{most}` has {}, `{least}` only {least_count}", counted(most_count, "sample"));
        let remedy = "add samples of the rare class, limit each class, or judge by macro F1 instead of accuracy";
        findings.push(finding(Severity::Warning, problem, remedy, vec![]));
    }
}

fn sets(names: &[String], rows: &ndarray::Array2<f32>, findings: &mut Vec<Finding>) {
    for (class, name) in names.iter().enumerate() {
        let positive = rows.column(class).iter().filter(|value| **value > 0.0).count();
        let (severity, problem) = match positive {
            0 => (Severity::Warning, format!("no sample has class `{name}`")),
            count if count == rows.nrows() => (Severity::Warning, format!("every sample has class `{name}`")),
            count if count < SAMPLES_FEW => {
                (Severity::Warning, format!("class `{name}` has {}", counted(count, "sample")))
            }
            _ => continue,
        };
        findings.push(finding(severity, problem, "add samples with and without it, or leave the class out", vec![]));
    }
}

fn boxes(names: &[String], pictures: &[Picture], findings: &mut Vec<Finding>) {
    let mut counts = vec![0usize; names.len()];
    pictures.iter().flat_map(|picture| &picture.objects).for_each(|object| counts[object.class as usize] += 1);
    if counts.iter().all(|count| *count == 0) {
        let problem = "no photograph has a box".into();
        findings.push(finding(Severity::Error, problem, "there is nothing to find; mark some objects", vec![]));
    }
    let few: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(counts).collect();
    let few: Vec<_> = few.into_iter().filter(|(_, count)| (1..SAMPLES_FEW).contains(count)).collect();
    if !few.is_empty() {
        let boxes = few_samples(&few).into_iter().map(|line| line.replace("sample", "box").replace("boxs", "boxes"));
        let remedy = "mark more of them: 10 or more a class are advised";
        findings.extend(boxes.map(|problem| finding(Severity::Warning, problem, remedy, vec![])));
    }
}

fn values(rows: &ndarray::Array2<f32>, findings: &mut Vec<Finding>) {
    for (target, column) in rows.columns().into_iter().enumerate() {
        if column.iter().all(|value| *value == column[0]) {
            let problem = format!("target {target} is {} for every sample", column.first().copied().unwrap_or(0.0));
            findings.push(finding(Severity::Error, problem, "leave it out or add samples that differ", vec![]));
        }
    }
}

fn contents(labels: &Labels, keys: &[[u8; 32]], findings: &mut Vec<Finding>) {
    let same = Same::new(keys);
    let (mut repeated, mut conflicting) = (Vec::new(), Vec::new());
    for first in same.firsts() {
        for sample in same.from(first).skip(1) {
            match labels.same(first as usize, sample) {
                true => repeated.push(sample),
                false => conflicting.extend([first as usize, sample]),
            }
        }
    }
    repeated.sort_unstable();
    if !repeated.is_empty() {
        let severity = if repeated.len() * 20 > keys.len() { Severity::Warning } else { Severity::Note };
        let problem = format!("{} of {} samples repeat an earlier one's content", repeated.len(), keys.len());
        findings.push(finding(
            severity,
            problem,
            "remove the copies: a sample that is there twice counts twice and teaches nothing new",
            repeated,
        ));
    }
    if !conflicting.is_empty() {
        conflicting.sort_unstable();
        conflicting.dedup();
        let problem = format!("{} samples have the same content as another but a different label", conflicting.len());
        findings.push(finding(
            Severity::Warning,
            problem,
            "decide which label is right and remove the other",
            conflicting,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes_of(counts: &[usize]) -> (Labels, Vec<[u8; 32]>) {
        let index: Vec<u32> = (0..).zip(counts).flat_map(|(class, count)| vec![class; *count]).collect();
        let keys = (0..index.len() as u64).map(key).collect();
        (Labels::Classes { names: (0..counts.len()).map(|class| format!("c{class}")).collect(), index }, keys)
    }

    fn key(content: u64) -> [u8; 32] {
        *blake3::hash(&content.to_le_bytes()).as_bytes()
    }

    /// The findings, each as severity and problem.
    fn found(labels: &Labels, keys: &[[u8; 32]]) -> Vec<(Severity, String)> {
        check(labels, keys).into_iter().map(|finding| (finding.severity, finding.problem)).collect()
    }

    #[test]
    fn good_data_have_no_findings() {
        let (labels, keys) = classes_of(&[30, 20, 10]);
        assert_eq!(found(&labels, &keys), []);
        let rows = ndarray::Array2::from_shape_fn((40, 2), |(row, column)| ((row + column) % 2) as f32);
        assert_eq!(found(&Labels::MultiLabel { names: vec!["a".into(), "b".into()], rows: rows.clone() }, &[]), []);
        assert_eq!(found(&Labels::Values(rows), &[]), []);
    }

    #[test]
    fn many_small_classes_are_one_finding() {
        let (labels, keys) = classes_of(&[5, 3, 20, 4, 4, 1]);
        let found = found(&labels, &keys);
        assert_eq!(found[0].1, "class `c5` has 1 sample");
        assert_eq!(found[1].1, "4 classes have 5 samples or fewer each (`c0` 5, `c1` 3, `c3` 4, and 1 more classes)");
    }

    #[test]
    fn each_trouble_with_classes_is_found() {
        use Severity::*;
        type Case = (&'static [usize], &'static [(Severity, &'static str)]);
        let cases: [Case; 5] = [
            (&[20], &[(Error, "1 class with samples: there is nothing to tell apart")]),
            (&[20, 1], &[(Warning, "class `c1` has 1 sample"), (Warning, "class `c0` has 20 samples, `c1` only 1")]),
            (&[20, 9], &[(Warning, "class `c1` has 9 samples")]),
            (&[20, 20, 0], &[(Note, "class `c2` has 0 samples")]),
            (&[101, 10], &[(Warning, "class `c0` has 101 samples, `c1` only 10")]),
        ];
        for (counts, expected) in cases {
            let (labels, keys) = classes_of(counts);
            let expected: Vec<_> = expected.iter().map(|(severity, text)| (*severity, text.to_string())).collect();
            assert_eq!(found(&labels, &keys), expected, "{counts:?}");
        }
    }

    #[test]
    fn equal_contents_are_found_with_their_samples() {
        let (labels, mut keys) = classes_of(&[10, 10]);
        keys[3] = keys[1];
        keys[15] = keys[2];
        let findings = check(&labels, &keys);
        assert_eq!(findings.len(), 2);
        assert!(findings[0].problem.contains("different label") && findings[0].samples == [2, 15], "{findings:?}");
        assert!(findings[1].problem.contains("repeat") && findings[1].samples == [3], "{findings:?}");
    }

    #[test]
    fn constant_targets_and_labels_are_found() {
        let rows = ndarray::Array2::from_shape_fn((20, 3), |(row, column)| [1.0, 0.0, (row % 2) as f32][column]);
        let names = vec!["all".into(), "none".into(), "half".into()];
        let sets = found(&Labels::MultiLabel { names, rows: rows.clone() }, &[]);
        assert_eq!(sets.len(), 2);
        assert!(sets[0].1.contains("every sample has class `all`") && sets[1].1.contains("no sample has class `none`"));
        assert_eq!(found(&Labels::Values(rows), &[]).len(), 2);
    }
}
