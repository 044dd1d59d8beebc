//! Predictions of which a person's label would teach most: those between two classes, and unlike each other.
//!
//! What a sample is worth is (1 − margin) × distance. The margin is the probability of the likeliest class less that of the second
//! (margin sampling: Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", 2001). The distance is that to
//! the nearest other question, between descriptors of their contents, from 0 to 1, so that ten pictures of one scene are one question. Pure.

use crate::order::Order;
use bytes::Bytes;

/// A prediction with a larger margin is sure enough not to be asked for.
const MARGIN_MAX: f32 = 0.5;
/// Contents that are as near as this are one question.
const SAME: f32 = 0.08;

/// A sample whose label is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its name.
    pub sample: String,
    /// The sample.
    pub content: Bytes,
    /// The adapter that predicted.
    pub adapter: String,
    /// The likeliest classes with their probabilities, the likeliest first.
    pub classes: Vec<(String, f32)>,
    /// When it was predicted, in seconds since 1970.
    pub at: i64,
    /// What its content is like, as a vector of length 1; contents that look alike have vectors that are near each other.
    pub descriptor: Vec<f32>,
}

/// The questions that are kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Questions(Vec<Question>);

/// The probability of the likeliest class less that of the second, from 0 to 1.
pub fn margin(classes: &[(String, f32)]) -> f32 {
    match classes {
        [(_, first), (_, second), ..] => first - second,
        _ => 1.0,
    }
}

impl Questions {
    /// Whether a prediction may be a question, before its content is looked at; `keep` are kept at most.
    pub fn may_take(&self, sample: &str, classes: &[(String, f32)], keep: usize) -> bool {
        let margin = margin(classes);
        let largest = self.0.iter().map(|kept| self::margin(&kept.classes)).fold(0.0, f32::max);
        keep > 0 && margin < MARGIN_MAX && (self.0.len() < keep || margin < largest) && self.get(sample).is_none()
    }

    /// Takes a question, and lets those go that are worth least, beyond `keep` of them or `bytes_max`. Of two that are alike, the one of
    /// the smaller margin stays.
    pub fn take(&mut self, question: Question, keep: usize, bytes_max: usize) {
        let alike = self.0.iter().position(|kept| distance(kept, &question) < SAME);
        match alike {
            Some(place) if margin(&self.0[place].classes) > margin(&question.classes) => self.0[place] = question,
            Some(_) => {}
            None => self.0.push(question),
        }
        let bytes = |kept: &[Question]| kept.iter().map(|one| one.content.len()).sum::<usize>();
        while self.0.len() > keep || bytes(&self.0) > bytes_max {
            let worths: Vec<f32> = (0..self.0.len()).map(|index| self.worth(index)).collect();
            let least = worths.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map(|(index, _)| index);
            self.0.remove(least.expect("there is one more than nothing"));
        }
    }

    fn worth(&self, index: usize) -> f32 {
        let one = &self.0[index];
        let others = self.0.iter().enumerate().filter(|(other, _)| *other != index);
        let nearest = others.map(|(_, other)| distance(one, other)).fold(1.0, f32::min);
        (1.0 - margin(&one.classes)) * nearest
    }

    /// All with their worths, what teaches most first.
    pub fn ranked(&self) -> Vec<(&Question, f32)> {
        let mut ranked: Vec<_> = self.0.iter().enumerate().map(|(index, one)| (one, self.worth(index))).collect();
        ranked.order_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.sample.cmp(&b.0.sample)));
        ranked
    }

    /// The question about a sample.
    pub fn get(&self, sample: &str) -> Option<&Question> {
        self.0.iter().find(|kept| kept.sample == sample)
    }

    /// No longer asks about a sample; gives the question, if there was one.
    pub fn remove(&mut self, sample: &str) -> Option<Question> {
        let place = self.0.iter().position(|kept| kept.sample == sample)?;
        Some(self.0.remove(place))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Between two contents, from 0 to 1.
fn distance(one: &Question, other: &Question) -> f32 {
    let squares = one.descriptor.iter().zip(&other.descriptor).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    squares.sqrt().min(1.0)
}

/// Numbers as a vector of length 1 around their mean: brightness and loudness make no difference, what is where does.
pub fn normalised(mut values: Vec<f32>) -> Vec<f32> {
    let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
    values.iter_mut().for_each(|value| *value -= mean);
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 && length.is_finite() {
        values.iter_mut().for_each(|value| *value /= length);
    } else {
        values.iter_mut().for_each(|value| *value = 0.0);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(sample: &str, first: f32, at: [f32; 2]) -> Question {
        Question {
            sample: sample.into(),
            content: Bytes::from_static(b"0123456789"),
            adapter: "a".into(),
            classes: vec![("x".into(), first), ("y".into(), 1.0 - first)],
            at: 1,
            descriptor: at.to_vec(),
        }
    }

    fn names(questions: &Questions) -> Vec<&str> {
        questions.ranked().into_iter().map(|(one, _)| one.sample.as_str()).collect()
    }

    #[test]
    fn what_teaches_most_stays() {
        let mut questions = Questions::default();
        let mut take = |sample: &str, first, at| questions.take(question(sample, first, at), 3, 1000);
        take("sure", 0.74, [0.0, 0.0]);
        take("unsure", 0.51, [1.0, 0.0]);
        take("half", 0.6, [0.0, 1.0]);
        take("unsure too", 0.52, [-1.0, 0.0]);
        assert_eq!(names(&questions), ["unsure", "unsure too", "half"], "the surest one had to go");
    }

    #[test]
    fn of_two_that_are_alike_the_less_sure_one_stays() {
        let mut questions = Questions::default();
        for (sample, first) in [("first", 0.6), ("surer", 0.7), ("less sure", 0.55)] {
            questions.take(question(sample, first, [0.5, 0.5]), 10, 1000);
        }
        assert_eq!(names(&questions), ["less sure"]);
    }

    #[test]
    fn a_scene_that_is_seen_from_near_is_worth_less() {
        let mut questions = Questions::default();
        for (sample, at) in [("one", [0.0, 0.0]), ("beside it", [0.0, 0.1]), ("elsewhere", [0.9, 0.0])] {
            questions.take(question(sample, 0.6, at), 10, 1000);
        }
        assert_eq!(names(&questions)[0], "elsewhere");
        questions.take(question("else", 0.6, [0.0, 0.9]), 3, 1000);
        assert_eq!(questions.count(), 3);
        assert!(names(&questions).contains(&"elsewhere") && names(&questions).contains(&"else"));
    }

    #[test]
    fn bytes_are_bounded_and_sure_predictions_are_not_asked_for() {
        let mut questions = Questions::default();
        for (number, at) in [[0.0, 0.0], [0.9, 0.0], [0.0, 0.9]].into_iter().enumerate() {
            questions.take(question(&number.to_string(), 0.6, at), 10, 25);
        }
        assert_eq!(questions.count(), 2);
        let classes = |first: f32| vec![("x".to_string(), first), ("y".to_string(), 1.0 - first)];
        assert!(!questions.may_take("new", &classes(0.8), 10), "it is sure");
        assert!(questions.may_take("new", &classes(0.55), 10) && !questions.may_take("new", &classes(0.55), 0));
        assert!(!questions.may_take("new", &classes(0.65), 2), "it is surer than all that are kept");
        let known = questions.ranked()[0].0.sample.clone();
        assert!(!questions.may_take(&known, &classes(0.5), 10), "it is asked for already");
        assert_eq!(questions.remove(&known).map(|one| one.sample), Some(known.clone()));
        assert!(questions.get(&known).is_none() && questions.remove(&known).is_none());
    }

    #[test]
    fn a_descriptor_tells_what_is_where() {
        assert_eq!(normalised(vec![3.0; 4]), [0.0; 4]);
        let (dark, bright) = (normalised(vec![1.0, 2.0, 1.0]), normalised(vec![101.0, 103.0, 101.0]));
        assert!(dark.iter().zip(&bright).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
