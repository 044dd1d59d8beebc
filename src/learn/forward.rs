//! Body and tail over samples, block by block: what `eval`, `predict` and a run's test have in common.

use super::context::Context;
use super::observer::Progress;
use crate::adapter::Positions;
use crate::data::{Dataset, Preprocessing};
use crate::engine::{Options, Session};
use crate::graph::Tensor;
use crate::recipe::Error;
use crate::train::evaluate::{self, Metrics, Tally};
use crate::train::features::{Features, Pass, Source};
use crate::train::loss::Loss;
use crate::train::prepare::Bundle;
use std::rc::Rc;
use std::sync::Arc;

/// Samples whose features are kept at the same time: memory stays bounded however many there are.
const BLOCK: usize = 1024;
/// Samples between two looks at the stop flag and two signs of progress.
const CHUNK: usize = 64;

/// The same where a sample's features are of pixels.
const FEW: usize = 8;

/// How samples are run.
pub struct Forward<'a> {
    /// Where features are kept, who is told, and who may want an end.
    pub context: &'a Context<'a>,
    /// The body and tail.
    pub bundle: &'a Bundle,
    /// How ONNX Runtime computes.
    pub options: &'a Options,
    /// What is done to a sample, which features are kept under.
    pub preprocessing: &'a Preprocessing,
}

/// What came out, for each set of parameter values.
#[derive(Debug)]
pub struct Answers<T> {
    /// What was found.
    pub found: Vec<T>,
    /// What the body did.
    pub pass: Pass,
    /// What is wrong with the cache.
    pub warnings: Vec<String>,
}

/// Parameters as the tail's inputs.
type Set = Vec<(String, Tensor)>;

/// What is done with the tail, a chunk of samples whose features are there, and a set by its number.
type Each<'e> = dyn FnMut(&mut Session, &mut Features, &[usize], usize, &Set) -> Result<(), Error> + 'e;

impl Forward<'_> {
    /// The tail's output for some samples row by row, `[samples, width]`, once for each set of parameter values; `None` if
    /// it was stopped.
    pub fn run(
        &self,
        what: &'static str,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        sets: &[&[Vec<f32>]],
    ) -> Result<Option<Answers<Vec<Vec<f32>>>>, Error> {
        let mut rows = vec![Vec::new(); sets.len()];
        let each = &mut |tail: &mut Session, features: &mut Features, chunk: &[usize], set: usize, values: &Set| {
            rows[set].extend(evaluate::outputs(tail, features, chunk, values)?);
            Ok(())
        };
        let ran = self.each(what, dataset, samples, sets, each)?;
        Ok(ran.map(|(pass, warnings)| Answers { found: rows, pass, warnings }))
    }

    /// Hands the tail's output for each sample to `take`, in the shape that it has, as soon as it is there; `None` if it was stopped. None is
    /// kept: scores of pixels are large.
    pub fn each_output(
        &self,
        what: &'static str,
        (dataset, samples): (&Arc<Dataset>, &[usize]),
        values: &[Vec<f32>],
        take: &mut dyn FnMut(usize, Tensor) -> Result<(), Error>,
    ) -> Result<Option<Vec<String>>, Error> {
        let each = &mut |tail: &mut Session, features: &mut Features, chunk: &[usize], _, values: &Set| {
            for sample in chunk {
                take(*sample, evaluate::output(tail, features, &[*sample], values)?)?;
            }
            Ok(())
        };
        let ran = self.each(what, dataset, samples, &[values], each)?;
        Ok(ran.map(|(_, warnings)| warnings))
    }

    /// Loss and accuracy on some samples, once for each set of parameter values; `None` if it was stopped.
    pub fn measure(
        &self,
        what: &'static str,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        (sets, loss): (&[&[Vec<f32>]], &Loss),
    ) -> Result<Option<Answers<Metrics>>, Error> {
        let tally = Tally::new(dataset.labels(), loss);
        let ran = self.tally(what, dataset, samples, (sets, tally))?;
        Ok(ran.map(|Answers { found, pass, warnings }| {
            let found = found.iter().map(Tally::metrics).collect();
            Answers { found, pass, warnings }
        }))
    }

    /// The same as what was added up, which begins with `tally`; `None` if it was stopped.
    pub fn tally<'t>(
        &self,
        what: &'static str,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        (sets, tally): (&[&[Vec<f32>]], Tally<'t>),
    ) -> Result<Option<Answers<Tally<'t>>>, Error> {
        let mut tallies = vec![tally; sets.len()];
        let each = &mut |tail: &mut Session, features: &mut Features, chunk: &[usize], set: usize, values: &Set| {
            Ok(tallies[set].measure(tail, features, chunk, values)?)
        };
        let ran = self.each(what, dataset, samples, sets, each)?;
        Ok(ran.map(|(pass, warnings)| Answers { found: tallies, pass, warnings }))
    }

    /// Calls back with each chunk of samples, whose features are there, and each set; `None` if it was stopped.
    fn each(
        &self,
        what: &'static str,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        sets: &[&[Vec<f32>]],
        each: &mut Each<'_>,
    ) -> Result<Option<(Pass, Vec<String>)>, Error> {
        let sets: Vec<Set> = sets.iter().map(|values| evaluate::fed(&self.bundle.parameters, values)).collect();
        let mut tail = Session::from_file(&self.bundle.tail, self.options)?;
        let (mut pass, mut warnings, mut done) = (Pass::default(), Vec::new(), 0);
        let progress: Rc<dyn Progress> =
            Rc::from(self.context.observer.progress(what, samples.len() as u64, "samples"));
        // Features of a token each are many times those of a sample, and those of pixels more than memory has room for.
        let (block, size) = match self.bundle.positions() {
            Positions::Sample => (BLOCK, CHUNK),
            Positions::Token => (CHUNK, CHUNK),
            Positions::Cell => (CHUNK, FEW),
            Positions::Pixel => (FEW, FEW),
        };
        for block in samples.chunks(block) {
            let clock = self.context.clock.clone();
            let source = Source { dataset: dataset.clone(), order: block, preprocessing: self.preprocessing };
            let features = Features::open(self.bundle, source, self.context.store(), self.options, clock)?;
            let shown = Rc::clone(&progress);
            let tell = move |computed, _| shown.at(done + computed as u64, "");
            let mut features = features.telling(Box::new(tell));
            for chunk in block.chunks(size) {
                if !features.ready(chunk, self.context.stop)? {
                    return Ok(None);
                }
                for (set, values) in sets.iter().enumerate() {
                    each(&mut tail, &mut features, chunk, set, values)?;
                }
                done += chunk.len() as u64;
                progress.at(done, "");
            }
            pass = pass.plus(features.pass());
            warnings.extend(features.take_warnings());
        }
        progress.end();
        Ok(Some((pass, warnings)))
    }
}
