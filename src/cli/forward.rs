//! Body and tail over samples, block by block: what `eval`, `predict` and a run's test have in common.

use super::print::Printer;
use crate::data::Dataset;
use crate::engine::{Options, Session};
use crate::train::evaluate;
use crate::train::features::{Features, Pass, Store};
use crate::train::prepare::Bundle;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Samples whose features are kept at the same time: memory stays bounded however many there are.
const BLOCK: usize = 1024;
/// Samples between two looks at the stop flag and two signs of progress.
const CHUNK: usize = 64;

/// How samples are run.
pub struct Forward<'a> {
    /// The body and tail.
    pub bundle: &'a Bundle,
    /// How ONNX Runtime computes.
    pub options: &'a Options,
    /// Where features are kept.
    pub store: Store<'a>,
    /// The preprocessing's bytes, which features are kept under.
    pub preprocessing: &'a [u8],
    /// Raised to end between two chunks.
    pub stop: &'a AtomicBool,
    /// Seconds since some fixed moment.
    pub clock: Arc<dyn Fn() -> f64>,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Answers {
    /// For each set of parameters the tail's output, row by row: `[samples, width]`.
    pub rows: Vec<Vec<Vec<f32>>>,
    /// What the body did.
    pub pass: Pass,
    /// What is wrong with the cache.
    pub warnings: Vec<String>,
}

impl Forward<'_> {
    /// The tail's output for some samples, once for each set of parameter values; `None` if it was stopped.
    pub fn run(
        &self,
        what: &'static str,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        sets: &[&[Vec<f32>]],
        printer: &Printer,
    ) -> Result<Option<Answers>> {
        let sets: Vec<_> = sets.iter().map(|values| evaluate::shipped(&self.bundle.parameters, values)).collect();
        let mut tail = Session::from_file(&self.bundle.tail, self.options)?;
        let mut answers = Answers { rows: vec![Vec::new(); sets.len()], ..Answers::default() };
        let progress = printer.progress(what, samples.len() as u64, "samples");
        for block in samples.chunks(BLOCK) {
            let (dataset, clock) = (dataset.clone(), self.clock.clone());
            let mut features =
                Features::open(self.bundle, dataset, block, self.preprocessing, self.store, self.options, clock)?;
            for chunk in block.chunks(CHUNK) {
                if !features.ready(chunk, self.stop)? {
                    return Ok(None);
                }
                for (rows, parameters) in answers.rows.iter_mut().zip(&sets) {
                    rows.extend(evaluate::outputs(&mut tail, &mut features, chunk, parameters)?);
                }
                progress.at(answers.rows.first().map_or(0, |rows| rows.len() as u64), String::new());
            }
            answers.pass = answers.pass.plus(features.pass());
            answers.warnings.extend(features.take_warnings());
        }
        progress.end();
        Ok(Some(answers))
    }
}
