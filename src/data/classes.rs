//! Which of a model's outputs a class of the data is, by its name.
//!
//! Pure functions of names: the folders of a data set sort otherwise than a model's outputs do.

use std::collections::HashMap;

/// Names, and how one is found among them: as it is written, or where only one is written alike but for case, `_`, `-` and
/// spaces. Of a name such as `tench, Tinca tinca`, as ImageNet's are, each part counts, too.
#[derive(Debug)]
pub struct Names<'n> {
    exact: HashMap<&'n str, usize>,
    /// `None` where several are alike.
    alike: HashMap<String, Option<usize>>,
}

impl<'n> Names<'n> {
    /// Names in the order of their positions.
    pub fn new(names: &'n [String]) -> Self {
        let exact = names.iter().enumerate().rev().map(|(position, name)| (name.as_str(), position)).collect();
        let mut alike: HashMap<String, Option<usize>> = HashMap::new();
        for (position, name) in names.iter().enumerate() {
            let parts = name.split(", ").map(folded);
            for form in std::iter::once(folded(name)).chain(parts) {
                let known = alike.entry(form).or_insert(Some(position));
                if *known != Some(position) {
                    *known = None;
                }
            }
        }
        Self { exact, alike }
    }

    /// The position of a name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.exact.get(name).copied().or_else(|| self.alike.get(&folded(name)).copied().flatten())
    }
}

/// A name without what people write in several ways.
fn folded(name: &str) -> String {
    let plain = |letter: char| if matches!(letter, '_' | '-') { ' ' } else { letter };
    let spaced: String = name.chars().map(plain).flat_map(char::to_lowercase).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the data's classes are to a model whose outputs have names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// The model's names in its order, then those that only the data have.
    pub names: Vec<String>,
    /// Classes of the data that are among the model's.
    pub found: usize,
    /// Classes that only the data have.
    pub new: Vec<String>,
}

impl Matched {
    /// Looks each class of the data up among the model's.
    pub fn new(outputs: &[String], data: &[String]) -> Self {
        let known = Names::new(outputs);
        let new: Vec<String> = data.iter().filter(|name| known.find(name).is_none()).cloned().collect();
        let names = outputs.iter().chain(&new).cloned().collect();
        Self { names, found: data.len() - new.len(), new }
    }

    /// Whether most of the data's classes are the model's: a few may be alike by chance.
    pub fn is_the_model_s(&self) -> bool {
        self.found > 0 && self.found >= self.new.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn names_are_found_as_written_or_alike() {
        let names = owned(&["tench, Tinca tinca", "Great White", "cat", "Cat", "dog"]);
        let names = Names::new(&names);
        assert_eq!(names.find("great_white"), Some(1));
        assert_eq!(names.find("great-White "), Some(1));
        assert_eq!(names.find("tench"), Some(0));
        assert_eq!(names.find("tinca tinca"), Some(0));
        assert_eq!((names.find("Cat"), names.find("cat")), (Some(3), Some(2)), "as it is written");
        assert_eq!(names.find("CAT"), None, "two are alike");
        assert_eq!(names.find("bird"), None);
    }

    #[test]
    fn missing_classes_stay_and_new_ones_come_last() {
        let outputs = owned(&["red", "green", "blue"]);
        let two = Matched::new(&outputs, &owned(&["blue", "red"]));
        assert_eq!((two.names, two.found, two.new.len()), (outputs.clone(), 2, 0));
        let more = Matched::new(&outputs, &owned(&["Blue", "amber", "red"]));
        assert_eq!(more.names, ["red", "green", "blue", "amber"]);
        assert!(more.is_the_model_s());
        assert!(!Matched::new(&outputs, &owned(&["amber", "red", "teal"])).is_the_model_s());
        assert!(!Matched::new(&outputs, &[]).is_the_model_s());
    }
}
