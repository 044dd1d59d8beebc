//! The second stage: what learns is known, by the recipe's word or by measurements within its budgets.

use super::budget;
use super::division::target;
use super::observer::{Progress, tell_of_step};
use super::open::Opened;
use crate::host::private_bytes;
use crate::recipe::Error;
use crate::train::plan::choice::Budgets;
use crate::train::plan::{self, HeadBy, Plan, Situation, Told};
use crate::train::solve::VALIDATION_MIN;
use std::cell::OnceCell;

/// A training of which it is known what learns.
pub struct Planned<'a> {
    pub(super) opened: Opened<'a>,
    /// What was compared and chosen, where that was left open.
    pub(super) plan: Option<Plan>,
    /// When the time of the budget is over.
    pub(super) until_s: Option<f64>,
}

impl<'a> Opened<'a> {
    /// Chooses what learns, where the recipe leaves that open; `None` if it was stopped.
    ///
    /// # Errors
    /// A budget that nothing fits into; a base that cannot be trained.
    pub fn plan(mut self) -> Result<Option<Planned<'a>>, Error> {
        let Some(mut budgets) = self.recipe.budgets()? else {
            return Ok(Some(Planned { opened: self, plan: None, until_s: None }));
        };
        // Without a budget the limit is what there is.
        budgets.memory_bytes = budgets.memory_bytes.or(self.available_bytes.map(|bytes| private_bytes() + bytes));
        let Some(plan) = self.compare(budgets)? else { return Ok(None) };
        let chosen = plan.chosen();
        self.recipe.train.clone_from(&chosen.train);
        self.settings.accumulate *= self.settings.batch.div_ceil(chosen.batch);
        self.settings.batch = chosen.batch;
        if self.recipe.head_rate.is_none() && !plan.rows[0].chosen {
            self.settings = plan::below_a_trained_head(self.settings);
        }
        budget::print(&plan, self.context.observer);
        if self.data.split.validation.len() < VALIDATION_MIN {
            self.context.observer.note(&format!(
                "plan      the head alone: fewer than {VALIDATION_MIN} validation samples could not show that more helps"
            ));
        }
        Ok(Some(Planned { opened: self, plan: Some(plan), until_s: budgets.time_s }))
    }

    fn compare(&self, budgets: Budgets) -> Result<Option<Plan>, Error> {
        let (data, recipe, context) = (&self.data, &self.recipe, self.context);
        let samples = data.split.train.len();
        let (epochs, steps) = (self.settings.epochs_begun(samples), self.settings.total_steps(samples));
        // A bar of steps is shown where there are any.
        let progress: OnceCell<Box<dyn Progress>> = OnceCell::new();
        let shown = || progress.get_or_init(|| context.observer.progress("head", steps, "steps"));
        let told = Told {
            during: &|what, work| context.observer.while_doing(what, work),
            pass: &|| context.observer.body_pass(),
            step: &|event| tell_of_step(&**shown(), epochs, event),
        };
        let situation = Situation {
            base: &self.base,
            target: target(recipe, data.labels()),
            bundles: &context.folders.bundles()?,
            dataset: &data.train,
            split: &data.split,
            preprocessing: &data.preprocessing,
            store: context.store(),
            options: &self.options,
            settings: &self.settings,
            batch_is_free: recipe.batch.is_none() && recipe.accumulate.is_none(),
            rate_is_free: recipe.head_rate.is_none(),
            budgets,
            head: match recipe.option_of_steps() {
                _ if recipe.solver.is_some() => HeadBy::StepsFromZero,
                Some(_) => HeadBy::Steps,
                None => HeadBy::ClosedForm,
            },
            process_bytes: private_bytes(),
            stop: context.stop,
            clock: context.clock.clone(),
            told,
        };
        let plan = plan::plan(&situation);
        if let Some(progress) = progress.get() {
            progress.end();
        }
        Ok(plan?)
    }
}
