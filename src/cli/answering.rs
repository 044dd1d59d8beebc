//! The process that predicts for the agent: one model with one adapter, loaded, and samples over a pipe.
//!
//! Speaks [`frames`] on standard input and output. What is wrong with a sample is its answer; what is wrong with the model
//! is said first, and the process ends. It ends when its input does.

use super::Done;
use super::args::{Compute, Global};
use super::flags::with_options;
use super::sifting;
use crate::agent::work::frames::{self, Class};
use crate::engine;
use crate::predict::{Answer, Predictor};
use crate::recipe::Recipe;
use anyhow::{Context, Result};
use std::io::{self, BufReader, Write};
use std::path::Path;

/// Answers until standard input ends.
///
/// # Errors
/// A model or an adapter that cannot be loaded; a pipe that breaks.
pub fn answer(recipe: &Path, adapter: &Path, global: &Global) -> Result<Done> {
    let (mut from, mut to) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    let mut predictor = match load(recipe, adapter, global) {
        Ok(predictor) => predictor,
        Err(error) => {
            frames::write(&mut to, &[with_options(&format!("{error:#}")).as_bytes()])?;
            return Err(error);
        }
    };
    frames::write(&mut to, &[])?;
    while let Some(message) = frames::read(&mut from)? {
        let (top, sample) = message.split_first_chunk().context("a message without a number of classes")?;
        let answer = match predictor.predict_bytes(sample, u16::from_le_bytes(*top).into()) {
            Ok(answer) => to_frame(answer),
            Err(error) => frames::Answer::Refused(with_options(&error.to_string())),
        };
        frames::write(&mut to, &[&serde_json::to_vec(&answer)?])?;
    }
    to.flush()?;
    Ok(Done::Fully)
}

/// Of the model and, for texts, the tokenizer that the recipe names.
fn load(recipe: &Path, adapter: &Path, global: &Global) -> Result<Predictor> {
    let read = Recipe::read(recipe)?;
    let model = sifting::model_of(recipe, &read)?;
    engine::load(&global.choice())?;
    let files = (model.as_path(), adapter, read.samples.tokenizer.as_deref());
    Ok(Predictor::load(files, &Compute::default().options(), &global.folders()?)?)
}

/// As the agent reads it: a class that is decided for is the first of the classes.
fn to_frame(Answer { classes, values, .. }: Answer) -> frames::Answer {
    let classes = classes.into_iter().map(|class| Class { name: class.name, probability: class.probability });
    frames::Answer::Predicted { classes: classes.collect(), values }
}
