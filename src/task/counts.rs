//! What outputs have shown so far, as sums: the outputs of a data set would not fit into memory.

use super::average_precision::OfClass;
use super::compared::Compared;
use super::edits::Edits;
use crate::data::Labels;

/// Sums over samples.
#[derive(Debug, Clone)]
pub struct Counts {
    /// The losses of samples, or of tokens.
    pub sum: f64,
    /// What the losses are divided by in the place of the samples' number; 0 where it is that number.
    pub weight: f64,
    /// Positions that count, such as tokens of a text; 0 where a sample has one answer.
    pub positions: usize,
    /// Right ones among all decisions.
    pub right: usize,
    /// All decisions.
    pub decisions: usize,
    /// How far answers are from the labels: of classes in an order in classes, of numbers in all of them together.
    pub distance: f64,
    /// Numbers that were answered.
    pub numbers: usize,
    /// Entities in texts: right ones among the answered, all answered, all that there are.
    pub entities: [usize; 3],
    /// Of each class its share at the pixels that have it, and at all pixels: what Dice is made of. Empty where no loss asks for it.
    pub overlap: Vec<[f64; 2]>,
    /// Samples and right ones of each class.
    pub classes: Vec<(usize, usize)>,
    /// Boxes that were found of each class.
    pub boxes: Vec<OfClass>,
    /// Vectors that are to be compared with each other.
    pub compared: Compared,
    /// How far samples are from normal ones, with whether they are none.
    pub scores: Vec<(f64, bool)>,
    /// How far texts are from what is written.
    pub edits: Edits,
    /// How often each class was answered.
    pub answered: Vec<usize>,
}

impl Counts {
    /// No sample yet.
    pub fn new(labels: &Labels) -> Self {
        let classes = vec![(0, 0); labels.names().len()];
        let answered = vec![0; classes.len()];
        let boxes = vec![OfClass::default(); if matches!(labels, Labels::Boxes { .. }) { classes.len() } else { 0 }];
        #[rustfmt::skip]
        let none = Self {
            sum: 0.0, weight: 0.0, boxes, positions: 0, right: 0, decisions: 0, distance: 0.0, numbers: 0, entities: [0; 3],
            overlap: vec![], classes, answered, compared: Compared::default(), scores: vec![], edits: Edits::default(),
        };
        none
    }

    /// What a loss of all samples together adds to the mean of their own: of pixels 1 − the mean of 2·∩ / (answered + labelled) over the classes
    /// that are there, of vectors that of their batches.
    pub fn beside_mean(&self) -> f64 {
        let there = self.overlap.iter().zip(&self.classes).filter(|(_, (pixels, _))| *pixels > 0);
        let each: Vec<f64> = there.map(|([both, all], (pixels, _))| 2.0 * both / (all + *pixels as f64)).collect();
        let dice = if each.is_empty() { 0.0 } else { 1.0 - each.iter().sum::<f64>() / each.len() as f64 };
        dice + self.compared.loss()
    }
}
