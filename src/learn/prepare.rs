//! The third stage: the model is divided into its frozen body and its trainable tail, and the machine has room for them.

use super::budget;
use super::division::divided;
use super::observer::Observer;
use super::open::Opened;
use super::plan::Planned;
use super::settings;
use crate::amounts::counted;
use crate::data::Split;
use crate::host::private_bytes;
use crate::recipe::Error;
use crate::train::plan::memory::{self, Demand, Memory};
use crate::train::plan::{self, Plan};
use crate::train::prepare::{self, Bundle, Divided};
use crate::train::solve;
use std::path::Path;

/// A training whose model is divided.
pub struct Prepared<'a> {
    pub(super) opened: Opened<'a>,
    pub(super) plan: Option<Plan>,
    pub(super) bundle: Bundle,
    /// How the head is fitted at once; `None` where gradient steps are made.
    pub(super) solver: Option<solve::Settings>,
    /// Whether the first values, of a head that was trained before, are a result already.
    pub(super) keep_start: bool,
    /// When the time of the budget is over.
    pub(super) until_s: Option<f64>,
    /// Private memory that was expected before the first session.
    pub(super) predicted_bytes: Option<u64>,
}

impl<'a> Planned<'a> {
    /// Divides the model, and decides how its values are learned.
    ///
    /// # Errors
    /// A selection that the model does not have, or that no gradient reaches; more memory needed than there is.
    pub fn prepare(self) -> Result<Prepared<'a>, Error> {
        let Planned { mut opened, plan, until_s } = self;
        let mut predicted_bytes = plan.as_ref().and_then(|plan| plan.chosen().memory_bytes);
        let bundles = opened.context.folders.bundles()?;
        let mut bundle = match &opened.known {
            Some(adapter) => adapter.with_classes(opened.data.labels().names(), &opened.base, &bundles)?,
            None => {
                let (bundle, needed_bytes) = opened.divide(plan.is_none(), &bundles)?;
                predicted_bytes = predicted_bytes.or(needed_bytes);
                bundle
            }
        };
        // What learns below the head starts from the trained head and has to beat it.
        let keep_start = plan.as_ref().is_some_and(|plan| !plan.rows[0].chosen);
        if let Some(plan) = plan.as_ref().filter(|_| keep_start) {
            plan::start_from(&mut bundle, &plan.head);
        }
        let begun = opened.known.is_some() || keep_start;
        let observer = opened.context.observer;
        let solver = opened.solver_of(&bundle, begun)?;
        match solver {
            Some(_) => opened.data.learn_from_all_of_few(&opened.recipe, observer),
            None => opened.data.tell_of_few(observer),
        }
        if !begun && plan.is_none() {
            opened.settings = settings::slow_below_head(opened.settings, &opened.recipe, &bundle);
        }
        describe(&bundle, &opened.data.split, observer);
        settings::tell_of_united(&bundle, &opened.base, observer);
        Ok(Prepared { opened, plan, bundle, solver, keep_start, until_s, predicted_bytes })
    }
}

impl Opened<'_> {
    /// How a bundle's head is fitted at once: as the recipe says, or else as it is best; `None` where gradient steps are made. `begun`:
    /// whether there are values to go on from.
    pub(super) fn solver_of(&self, bundle: &Bundle, begun: bool) -> Result<Option<solve::Settings>, Error> {
        match self.solver.clone() {
            None => settings::by_default(&self.recipe, &self.settings.loss, begun, bundle, &self.data),
            named => Ok(named),
        }
    }

    /// The bundle that the recipe asks for, and the private memory that a training of it will take, where gradient steps are
    /// made and that is `unknown` so far.
    fn divide(&mut self, unknown: bool, bundles: &Path) -> Result<(Bundle, Option<u64>), Error> {
        let weights = self.base.write_weights_ahead(bundles);
        settings::tell_of_all_layers(&self.recipe, &self.base, self.context.observer)?;
        let divided = divided(&self.base, &self.recipe, self.data.labels())?;
        let needed = if unknown && self.solver.is_none() { self.fit_into_memory(&divided)? } else { None };
        drop(weights);
        let bundle =
            (self.context.observer).during("preparing the model", || prepare::write(&self.base, divided, bundles))?;
        Ok((bundle, needed))
    }

    /// Refuses what would be killed for its memory, and gives up copies of weights that would not fit. Gives the private
    /// memory that is expected of the process; nothing where that cannot be estimated.
    fn fit_into_memory(&mut self, divided: &Divided) -> Result<Option<u64>, Error> {
        let (split, available, observer) = (&self.data.split, self.available_bytes, self.context.observer);
        let kept = if self.context.keeps_features { 0 } else { split.train.len() + split.validation.len() };
        let mut demand = Demand {
            batch: self.settings.batch.into(),
            accumulate: self.settings.accumulate,
            loss: &self.settings.loss,
            optimizer: &self.settings.optimizer,
            packed_bytes_max: self.options.packed_bytes_max,
            kept_samples: kept as u64,
            validates: !split.validation.is_empty(),
            dims: &plan::dims(&self.base, &self.data.train, split)?,
        };
        // What cannot be estimated is told later, by what it is that does not fit.
        let Ok(mut memory) = memory::estimate(divided, &demand) else { return Ok(None) };
        let beyond = |memory: &Memory| available.is_some_and(|bytes| memory.peak_bytes() > bytes);
        if beyond(&memory) && self.is_balanced {
            demand.packed_bytes_max = 0;
            memory = memory::estimate(divided, &demand)?;
            if !beyond(&memory) {
                self.options.packed_bytes_max = 0;
                observer.note("memory    copies of the weights would not fit now: setting `memory = low` is taken");
            }
        }
        tracing::debug!(?memory, dims = ?demand.dims, process = private_bytes(), "estimated");
        budget::refuse_beyond(memory.peak_bytes(), available)?;
        budget::compare(memory.peak_bytes(), available, observer);
        Ok(Some(private_bytes() + memory.peak_bytes()))
    }
}

fn describe(bundle: &Bundle, split: &Split, observer: &dyn Observer) {
    let cut: Vec<String> = bundle.features.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    let how = match bundle.method {
        Some(method) if method.kind.low_rank() => {
            format!(" ({}, rank {}, alpha {})", method.kind, method.rank, method.alpha)
        }
        Some(method) => format!(" ({})", method.kind),
        None => String::new(),
    };
    observer.note(&output_line(bundle));
    observer.note(&format!(
        "learns    {} in {}{how}",
        counted(bundle.parameter_count(), "value"),
        counted(bundle.parameters.len(), "tensor")
    ));
    observer.note(&format!("features  {}", cut.join(", ")));
    observer.note(&format!("samples   {} to train, {} to validate", split.train.len(), split.validation.len()));
}

/// The output that learns, and what became of the head.
pub fn output_line(bundle: &Bundle) -> String {
    match bundle.head_note.as_str() {
        "" => format!("output    {}", bundle.output),
        note => format!("output    {} (head {note})", bundle.output),
    }
}
