//! Samples that belong together: all of one recording, or all of one person, stand on one side of a split.
//!
//! Takes what a column, an array, a folder's or a file's name says; gives [`Groups`], a split that keeps each of them whole, and
//! the option to give where names suggest groups that nobody named. Pure functions.

use super::names::Paths;
use super::same::Same;
use super::split::{Split, classes_of, refuse_fraction};
use super::{Error, Labels};
use fancy_regex::Regex;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// How many ways of choosing groups are compared for the shares of the classes.
const DRAWS: usize = 16;
/// What recordings and people are called in names of files, longer words first.
const WORDS: &str = "participant|volunteer|recording|subjekt|aufnahme|subject|patient|speaker|proband|session|person|record|video|\
                     subj|user|clip|take|sess|sub|spk|rec|vid";
/// So many files a group there must be on average for a name to suggest one.
const FILES_EACH_MIN: usize = 3;

/// Which samples belong together.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// What told them, for messages: "column `person`".
    pub source: String,
    names: Vec<String>,
    index: Vec<u32>,
    positions: HashMap<String, u32>,
}

impl Groups {
    pub(super) fn new(source: String) -> Self {
        Self { source, ..Self::default() }
    }

    /// Appends the next sample, which is of this group.
    pub(super) fn push(&mut self, name: &str) {
        let position = self.positions.get(name).copied().unwrap_or_else(|| {
            self.names.push(name.into());
            self.positions.insert(name.into(), self.names.len() as u32 - 1);
            self.names.len() as u32 - 1
        });
        self.index.push(position);
    }

    /// The number of groups.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// How many groups some samples are of.
    pub fn count_of(&self, samples: &[usize]) -> usize {
        samples.iter().map(|sample| self.index[*sample]).collect::<HashSet<_>>().len()
    }

    /// The classes that samples of one group alone have, each with that group.
    pub fn classes_of_one_group<'g>(&'g self, labels: &'g Labels) -> Vec<(&'g str, &'g str)> {
        let names = labels.names();
        let mut groups: Vec<HashSet<u32>> = vec![HashSet::new(); names.len()];
        for sample in 0..labels.len() {
            classes_of(labels, sample, |class| {
                groups[class].insert(self.index[sample]);
            });
        }
        let only = |(name, groups): (&'g String, &HashSet<u32>)| match groups.len() {
            1 => groups.iter().next().map(|group| (name.as_str(), self.names[*group as usize].as_str())),
            _ => None,
        };
        names.iter().zip(&groups).filter_map(only).collect()
    }
}

/// The groups of files below `root`, by their folders (`folder`) or by a pattern for their names. `depth`: how many folders stand
/// for something else, such as a class.
///
/// # Errors
/// No folders that tell groups, a pattern that is no regular expression, a file without a part that it fits.
pub(super) fn of_files(root: &Path, depth: usize, files: &Paths, told: &str) -> Result<Groups, Error> {
    if told == "folder" {
        return of_folders(root, depth, files);
    }
    let pattern = pattern(told).map_err(|problem| Error::setting("group", told, problem))?;
    let mut groups = Groups::new(format!("pattern `{told}`"));
    for place in 0..files.len() {
        let path = files.path(place);
        let name = below(root, depth, &path);
        let part = part_of(&pattern, &name).ok_or_else(|| {
            let problem = format!(
                "`{name}` has no part that setting `samples.group` '{told}' fits; change the pattern so that it fits every file"
            );
            Error::content(&path, problem)
        })?;
        groups.push(part);
    }
    Ok(groups)
}

/// The group that a pattern finds in a file's name: its first parenthesis, or all of it. `None` where it does not fit.
///
/// # Errors
/// A pattern that is no regular expression, with what to write.
pub fn group_in_name(told: &str, name: &str) -> Result<Option<String>, String> {
    Ok(part_of(&pattern(told)?, name).map(String::from))
}

fn pattern(told: &str) -> Result<Regex, String> {
    let remedy = "write `folder`, or a regular expression for the part of a file's name that tells the group, such as 'subject[0-9]+'";
    Regex::new(told).map_err(|problem| format!("no pattern ({problem}); {remedy}"))
}

fn part_of<'n>(pattern: &Regex, name: &'n str) -> Option<&'n str> {
    let found = pattern.captures(name).ok().flatten()?;
    found.get(1).or_else(|| found.get(0)).map(|part| part.as_str()).filter(|part| !part.is_empty())
}

/// A group is the first folder below those that stand for something else; a file that lies in none is a group of its own.
fn of_folders(root: &Path, depth: usize, files: &Paths) -> Result<Groups, Error> {
    let mut groups = Groups::new("folder".into());
    let mut in_folders = false;
    for place in 0..files.len() {
        let name = below(root, depth, &files.path(place));
        let folder = name.split_once('/').map(|(folder, _)| folder);
        in_folders |= folder.is_some();
        groups.push(folder.unwrap_or(&name));
    }
    match in_folders {
        true => Ok(groups),
        false => {
            let problem = format!(
                "no folders that tell groups in {}; put the files of each recording or person into a folder named after it, or \
                 give a pattern for their names",
                root.display()
            );
            Err(Error::setting("group", "folder", problem))
        }
    }
}

/// A path below `root`, without the first `depth` folders.
fn below(root: &Path, depth: usize, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts[depth.min(parts.len().saturating_sub(1))..].join("/")
}

/// What to give as setting `samples.group` where names of files suggest recordings or people, with what was seen.
///
/// Silent unless nearly all names have such a part, several files share each, and it does not just repeat the class.
pub(super) fn suggested(root: &Path, files: &Paths, labels: &Labels) -> Option<(String, String)> {
    let Labels::Classes { index, .. } = labels else { return None };
    let names: Vec<String> = (0..files.len()).map(|place| below(root, 1, &files.path(place))).collect();
    let folders = Seen::count(index, names.iter().map(|name| name.split_once('/').map(|(folder, _)| folder)));
    if folders.crosses_classes() {
        return Some(("folder".into(), folders.describe()));
    }
    let pattern = |text: &str| Regex::new(text).expect("the pattern is right");
    let named = pattern(&format!("(?i)(?:^|[^a-z])((?:{WORDS})[-_ ]?)[0-9]{{1,4}}(?![0-9])"));
    let leading = pattern("^([A-Za-z]{0,8}[-_ ]?)[0-9]{1,4}(?=[-_. ].*[0-9])");
    let stem = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_string()
    };
    let stems: Vec<String> = names.iter().map(|name| stem(name)).collect();
    for (kind, anchor) in [(&named, ""), (&leading, "^")] {
        let Some(found) = kind.captures(stems.first()?).ok().flatten() else { continue };
        let told = format!("{anchor}{}[0-9]+", fancy_regex::escape(found.get(1)?.as_str()));
        let finds = pattern(&told);
        let parts: Vec<Option<String>> =
            stems.iter().map(|stem| Some(finds.find(stem).ok()??.as_str().to_string())).collect();
        let seen = Seen::count(index, parts.iter().map(|part| part.as_deref()));
        if seen.crosses_classes() || (anchor.is_empty() && seen.divides_classes()) {
            return Some((format!("'{told}'"), seen.describe()));
        }
    }
    None
}

/// What parts of names were seen.
struct Seen<'n> {
    files: usize,
    matching: usize,
    /// For each part, the classes that it occurs in.
    parts: HashMap<&'n str, HashSet<u32>>,
    classes: usize,
}

impl<'n> Seen<'n> {
    fn count(index: &[u32], names: impl Iterator<Item = Option<&'n str>>) -> Self {
        let mut parts: HashMap<&str, HashSet<u32>> = HashMap::new();
        let mut matching = 0;
        for (name, class) in names.zip(index) {
            let Some(name) = name else { continue };
            matching += 1;
            parts.entry(name).or_default().insert(*class);
        }
        let classes = index.iter().collect::<HashSet<_>>().len();
        Self { files: index.len(), matching, parts, classes }
    }

    fn is_regular(&self) -> bool {
        self.matching * 10 >= self.files * 9 && self.parts.len() > 1 && self.files >= self.parts.len() * FILES_EACH_MIN
    }

    /// Whether most parts occur in several classes, so they say something besides the class.
    fn crosses_classes(&self) -> bool {
        self.is_regular() && self.parts.values().filter(|classes| classes.len() > 1).count() * 2 >= self.parts.len()
    }

    /// Whether classes have several parts each.
    fn divides_classes(&self) -> bool {
        self.is_regular() && self.parts.len() >= self.classes * 2
    }

    fn describe(&self) -> String {
        let mut names: Vec<&str> = self.parts.keys().copied().collect();
        names.sort_unstable();
        let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        format!("{} of them, such as {shown}", names.len())
    }
}

/// Samples of a group by class, and all of them.
struct Counts {
    size: usize,
    classes: Vec<(usize, usize)>,
}

/// Parts the samples so that about `fraction` of them, and of each class, validates, and each group stands on one side, as
/// scikit-learn's `GroupShuffleSplit` and `StratifiedGroupKFold` do. Each class keeps a training sample. What validates and has
/// the content of a training sample is left out of both sides. The same arguments give the same split on every machine.
///
/// # Errors
/// A fraction outside 0..1; too few groups.
pub fn split_groups(
    labels: &Labels,
    keys: &[[u8; 32]],
    groups: &Groups,
    fraction: f64,
    seed: u64,
) -> Result<Split, Error> {
    refuse_fraction(fraction)?;
    let all: Vec<usize> = (0..keys.len()).collect();
    if fraction == 0.0 {
        return Ok(Split { train: all, validation: Vec::new() });
    }
    let (counts, totals) = count(labels, groups);
    let chosen = GroupChoice { counts: &counts, totals: &totals, samples: keys.len(), fraction }.best(seed);
    let chosen = chosen.ok_or_else(|| too_few(labels, groups))?;
    let (mut validation, train): (Vec<usize>, Vec<usize>) =
        all.into_iter().partition(|sample| chosen[groups.index[*sample] as usize]);
    let mut trains = vec![false; keys.len()];
    let same = Same::new(keys);
    for first in same.firsts() {
        if same.from(first).any(|sample| !chosen[groups.index[sample] as usize]) {
            same.from(first).for_each(|sample| trains[sample] = true);
        }
    }
    validation.retain(|sample| !trains[*sample]);
    Ok(Split { train, validation })
}

fn count(labels: &Labels, groups: &Groups) -> (Vec<Counts>, Vec<usize>) {
    let mut totals = vec![0usize; labels.names().len()];
    let mut found: Vec<HashMap<usize, usize>> = vec![HashMap::new(); groups.count()];
    let mut sizes = vec![0usize; groups.count()];
    for (sample, group) in groups.index.iter().enumerate() {
        sizes[*group as usize] += 1;
        classes_of(labels, sample, |class| {
            totals[class] += 1;
            *found[*group as usize].entry(class).or_default() += 1;
        });
    }
    let counts = sizes.into_iter().zip(found).map(|(size, classes)| {
        let mut classes: Vec<(usize, usize)> = classes.into_iter().collect();
        classes.sort_unstable();
        Counts { size, classes }
    });
    (counts.collect(), totals)
}

fn too_few(labels: &Labels, groups: &Groups) -> Error {
    let remedy =
        "add data of more recordings or people, or give setting `val-fraction = 0` to train without validation";
    let problem = match (groups.count(), groups.classes_of_one_group(labels).first()) {
        (0 | 1, _) => {
            let name = groups.names.first().map_or("", String::as_str);
            format!(
                "all samples are of one group (`{name}`), and two are needed at least: to train and to validate; {remedy}"
            )
        }
        (count, Some((class, group))) => {
            format!(
                "{count} groups are too few: class `{class}` is in group `{group}` alone, which must train; {remedy}"
            )
        }
        (count, None) => format!("{count} groups are too few to keep a sample of each class for training; {remedy}"),
    };
    Error::setting("group", &groups.source, problem)
}

/// What a choice of groups is judged by.
struct GroupChoice<'a> {
    counts: &'a [Counts],
    totals: &'a [usize],
    samples: usize,
    fraction: f64,
}

impl GroupChoice<'_> {
    /// For each group whether it validates: of several draws the one whose shares are nearest to the wanted.
    fn best(&self, seed: u64) -> Option<Vec<bool>> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut best: Option<(f64, Vec<bool>)> = None;
        for _ in 0..DRAWS {
            let mut order: Vec<usize> = (0..self.counts.len()).collect();
            random.shuffle(&mut order);
            let Some((cost, chosen)) = self.draw(&order) else { continue };
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, chosen));
            }
        }
        best.map(|(_, chosen)| chosen)
    }

    /// Takes each group in turn that brings the shares nearer to the wanted; if there is none, the one that is off by the least.
    fn draw(&self, order: &[usize]) -> Option<(f64, Vec<bool>)> {
        let mut chosen = vec![false; self.counts.len()];
        let mut taken = vec![0usize; self.totals.len()];
        let (mut size, mut cost) = (0usize, 0.0);
        let mut take = |group: usize, change: f64, taken: &mut Vec<usize>, size: &mut usize| {
            chosen[group] = true;
            self.counts[group].classes.iter().for_each(|(class, count)| taken[*class] += count);
            *size += self.counts[group].size;
            cost += change;
        };
        let mut least: Option<(f64, usize)> = None;
        for group in order {
            let Some(change) = self.change(*group, &taken, size) else { continue };
            if change < 0.0 {
                take(*group, change, &mut taken, &mut size);
            } else if least.is_none_or(|(other, _)| change < other) {
                least = Some((change, *group));
            }
        }
        if size == 0 {
            let (change, group) = least?;
            take(group, change, &mut taken, &mut size);
        }
        Some((cost, chosen))
    }

    /// How the squared distance from the wanted counts changes when a group validates, too; `None` if a class would have no
    /// training sample left.
    fn change(&self, group: usize, taken: &[usize], size: usize) -> Option<f64> {
        let Counts { size: more, classes } = &self.counts[group];
        if size + more >= self.samples
            || classes.iter().any(|(class, count)| taken[*class] + count >= self.totals[*class])
        {
            return None;
        }
        let change = |before: usize, more: usize, total: usize| {
            let (before, more, total) = (before as f64, more as f64, total as f64);
            more * (2.0 * (before - self.fraction * total) + more) / total
        };
        let of_classes = classes.iter().map(|(class, count)| change(taken[*class], *count, self.totals[*class]));
        Some(of_classes.sum::<f64>() + change(size, *more, self.samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes(index: Vec<u32>) -> Labels {
        let count = index.iter().max().map_or(0, |most| most + 1);
        Labels::Classes { names: (0..count).map(|class| class.to_string()).collect(), index }
    }

    fn groups(of: impl IntoIterator<Item = u64>) -> Groups {
        let mut groups = Groups::new("column `person`".into());
        of.into_iter().for_each(|group| groups.push(&group.to_string()));
        groups
    }

    fn keys(count: usize) -> Vec<[u8; 32]> {
        (0..count as u64).map(|content| *blake3::hash(&content.to_le_bytes()).as_bytes()).collect()
    }

    proptest! {
        #[test]
        fn no_group_stands_on_both_sides(
            samples in prop::collection::vec((0u32..4, 0u64..9), 2..120), fraction in 0.05..0.6f64, seed: u64,
        ) {
            let labels = classes(samples.iter().map(|(class, _)| *class).collect());
            let groups = groups(samples.iter().map(|(_, group)| *group));
            let keys = keys(samples.len());
            let Ok(split) = split_groups(&labels, &keys, &groups, fraction, seed) else { return Ok(()) };
            prop_assert_eq!(&split, &split_groups(&labels, &keys, &groups, fraction, seed).unwrap());
            prop_assert!(!split.validation.is_empty());
            prop_assert_eq!(split.train.len() + split.validation.len(), samples.len());
            for sample in &split.validation {
                prop_assert!(split.train.iter().all(|other| samples[*other].1 != samples[*sample].1));
                prop_assert!(split.train.iter().any(|other| samples[*other].0 == samples[*sample].0));
            }
        }
    }

    #[test]
    fn classes_have_their_shares_where_groups_allow_it() {
        // Ten people, each with six samples of each of three classes.
        let labels = classes((0..180).map(|sample| sample % 3).collect());
        let groups = groups((0..180).map(|sample| sample / 18));
        let split = split_groups(&labels, &keys(180), &groups, 0.2, 7).unwrap();
        assert_eq!((split.train.len(), split.validation.len()), (144, 36));
        assert_eq!((groups.count_of(&split.train), groups.count_of(&split.validation)), (8, 2));
        assert_ne!(split, split_groups(&labels, &keys(180), &groups, 0.2, 8).unwrap());
        assert!(split_groups(&labels, &keys(180), &groups, 0.0, 7).unwrap().validation.is_empty());
        assert!(split_groups(&labels, &keys(180), &groups, 1.0, 7).is_err());
    }

    #[test]
    fn content_that_trains_does_not_validate() {
        let labels = classes((0..40).map(|sample| sample % 2).collect());
        let mut keys = keys(40);
        (0..40).step_by(10).for_each(|sample| keys[sample] = [7; 32]);
        let split = split_groups(&labels, &keys, &groups((0..40).map(|sample| sample / 10)), 0.25, 0).unwrap();
        assert_eq!((split.train.len(), split.validation.len()), (30, 9));
    }

    #[test]
    fn too_few_groups_are_an_error_that_says_what_to_do() {
        let refused = |labels: Vec<u32>, of: Vec<u64>| {
            let keys = keys(labels.len());
            split_groups(&classes(labels), &keys, &groups(of), 0.2, 0).unwrap_err().to_string()
        };
        let one = refused(vec![0, 1, 0, 1], vec![5; 4]);
        assert!(
            one.contains("column `person`")
                && one.contains("one group (`5`)")
                && one.contains("setting `val-fraction = 0`")
        );
        let apart = refused(vec![0, 0, 1, 1], vec![1, 1, 2, 2]);
        assert!(apart.contains("class `0` is in group `1` alone"), "{apart}");
    }

    /// What is suggested for files `CLASS/NAME`, a few classes each.
    fn suggestion(names: &[&str]) -> Option<String> {
        let mut files = Paths::default();
        let mut index = Vec::new();
        for name in names {
            files.push(&Path::new("d").join(name));
            index.push(u32::from(name.as_bytes()[0]));
        }
        let first = *index.iter().min().unwrap();
        index.iter_mut().for_each(|class| *class -= first);
        suggested(Path::new("d"), &files, &classes(index)).map(|(option, _)| option)
    }

    /// `{class}` and `{group}` and `{number}` filled in: two classes, four groups, five files of each.
    fn all(template: &str) -> Vec<String> {
        let mut names = Vec::new();
        for class in ["a", "b"] {
            for group in 1..5 {
                for number in 0..5 {
                    let name = template.replace("{class}", class).replace("{group}", &group.to_string());
                    let unique = number + 5 * group + if class == "a" { 0 } else { 50 };
                    names.push(name.replace("{number}", &number.to_string()).replace("{unique}", &unique.to_string()));
                }
            }
        }
        names
    }

    #[test]
    fn names_of_recordings_and_people_are_recognised() {
        for (template, expected) in [
            ("{class}/subject0{group}_{number}.png", Some("'subject[0-9]+'")),
            ("{class}/walk_Person{group}-{number}.npy", Some("'Person[0-9]+'")),
            ("{class}/rec1{group}-000{number}.png", Some("'rec[0-9]+'")),
            ("{class}/rec{group}{class}-000{number}.png", Some("'rec[0-9]+'")),
            ("{class}/s{group}_{number}.png", Some("'^s[0-9]+'")),
            ("{class}/anna{group}/{number}.png", Some("folder")),
            // Running numbers, dates and names that repeat the class say nothing.
            ("{class}/{unique}.png", None),
            ("{class}/IMG_00{unique}.jpg", None),
            ("{class}/IMG_2024010{group}_{unique}.jpg", None),
            ("{class}/{class}_{unique}.png", None),
            ("{class}/{class}.{unique}.png", None),
            ("{class}/photo {unique}.png", None),
            ("{class}/n0144{class}_{unique}.JPEG", None),
            ("{class}/{class}{group}/{unique}.png", None),
        ] {
            let names = all(template);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(suggestion(&names).as_deref(), expected, "{template}");
        }
    }

    #[test]
    fn files_are_grouped_by_folder_or_pattern() {
        let mut files = Paths::default();
        for path in ["d/a/p1/x.png", "d/b/p1/y.png", "d/b/p2/deep/z.png"] {
            files.push(Path::new(path));
        }
        let folders = of_files(Path::new("d"), 1, &files, "folder").unwrap();
        assert_eq!((folders.names, folders.index), (vec!["p1".to_string(), "p2".into()], vec![0, 0, 1]));
        let pattern = of_files(Path::new("d"), 1, &files, "p([0-9])").unwrap();
        assert_eq!((pattern.names, pattern.index), (vec!["1".to_string(), "2".into()], vec![0, 0, 1]));
        let refused = |told: &str| of_files(Path::new("d"), 1, &files, told).unwrap_err().to_string();
        assert!(refused("(").contains("`group` = `(`: no pattern"));
        assert!(refused("x").contains("d/b/p1/y.png: `p1/y.png` has no part that setting `samples.group` 'x' fits"));
        let mut flat = Paths::default();
        flat.push(Path::new("d/a/1.png"));
        assert!(
            of_files(Path::new("d"), 1, &flat, "folder")
                .unwrap_err()
                .to_string()
                .contains("no folders that tell groups")
        );
    }
}
