//! The process that predicts for the agent: one model with one adapter, loaded, and photographs over a pipe.
//!
//! Speaks [`frames`] on standard input and output. What is wrong with a photograph is its answer; what is wrong with the model
//! is said first, and the process ends. It ends when its input does.

use super::Done;
use super::args::{Compute, Global};
use super::predictions::scored;
use crate::agent::frames::{self, Answer, Class};
use crate::data::{ImagePreprocessing, Limits, Preprocessing, decode_photograph};
use crate::delta::Task;
use crate::engine;
use crate::train::artifact::Adapter;
use crate::train::prepare::Base;
use crate::train::single::Single;
use anyhow::{Context, Result, bail};
use std::io::{self, BufReader, Write};
use std::path::Path;

/// A model with an adapter, loaded.
struct Loaded {
    adapter: Adapter,
    image: ImagePreprocessing,
    single: Single,
}

/// Answers until standard input ends.
///
/// # Errors
/// A model or an adapter that cannot be loaded; a pipe that breaks.
pub fn answer(model: &Path, adapter: &Path, compute: &Compute, global: &Global) -> Result<Done> {
    let (mut from, mut to) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    let mut loaded = match load(model, adapter, compute, global) {
        Ok(loaded) => loaded,
        Err(error) => {
            frames::write(&mut to, &[format!("{error:#}").as_bytes()])?;
            return Err(error);
        }
    };
    frames::write(&mut to, &[])?;
    while let Some(message) = frames::read(&mut from)? {
        let (top, photograph) = message.split_first_chunk().context("a message without a number of classes")?;
        let answer = loaded.predict(u16::from_le_bytes(*top), photograph);
        frames::write(&mut to, &[&serde_json::to_vec(&answer)?])?;
    }
    to.flush()?;
    Ok(Done::Fully)
}

fn load(model: &Path, adapter: &Path, compute: &Compute, global: &Global) -> Result<Loaded> {
    let adapter = Adapter::read(adapter)?;
    let Preprocessing::Image(image) = adapter.preprocessing else {
        bail!("{}: its samples are no photographs; use `edgetune predict`", adapter.path.display());
    };
    engine::load(&global.choice())?;
    let base = Base::read(model)?;
    let (bundle, values) = adapter.bundle(&base, &global.bundles()?)?;
    if bundle.inputs.len() != 1 {
        bail!("{}: it has {} inputs, and a photograph is one", model.display(), bundle.inputs.len());
    }
    let mut single = Single::new(&bundle, &values, &compute.options())?;
    // What only the first run allocates and packs is done before somebody waits.
    let shape = image.shape().to_vec();
    let blank = vec![0.0f32; shape.iter().product::<u64>() as usize];
    single.output(vec![crate::graph::Tensor::from_vec(&shape, blank)])?;
    Ok(Loaded { adapter, image, single })
}

impl Loaded {
    fn predict(&mut self, top: u16, photograph: &[u8]) -> Answer {
        let pixels = match decode_photograph(photograph, &self.image, &Limits::default()) {
            Ok(pixels) => pixels,
            Err(reason) => return Answer::Refused(reason),
        };
        match self.single.output(vec![pixels]) {
            Err(error) => Answer::Refused(error.to_string()),
            Ok(values) if self.adapter.task == Task::Regression => Answer::Predicted { classes: vec![], values },
            Ok(logits) => {
                let classes = scored(&self.adapter, &logits, top.into()).into_iter();
                let class =
                    |class: super::predictions::Scored| Class { name: class.name, probability: class.probability };
                Answer::Predicted { classes: classes.map(class).collect(), values: vec![] }
            }
        }
    }
}
