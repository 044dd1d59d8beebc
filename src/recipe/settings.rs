//! From a recipe to the settings of the loop and the solver: defaults, and what does not go together.

use super::budget::AUTO;
use super::error::{Error, refuse};
use super::{HeadName, LossName, OptimizerName, Rate, Recipe, ScheduleName, SolverName};
use crate::adapter::HeadChoice;
use crate::cut::Selection;
use crate::data::Target;
use crate::task::{self, Task};
use crate::train::fit::{ScheduleKind, Settings};
use crate::train::loss::Loss;
use crate::train::optimizer::Optimizer;
use crate::train::solve::{self, Solver};

/// The share of the data that validates, where nothing else is asked for.
const VAL_FRACTION: f64 = 0.2;
/// Numbers of a vector, at most.
const EMBEDDING_MAX: u32 = 4096;

impl Recipe {
    /// Settings of the loop, with the defaults, checked as far as that needs no data. Weights of classes need the data and follow.
    ///
    /// # Errors
    /// A value out of its range, or an option that the others leave without effect; each with its name and the remedy.
    pub fn settings(&self) -> Result<Settings, Error> {
        self.refuse_without_effect()?;
        let language = self.loss == Some(LossName::NextToken);
        // Of a text, a picture with a mask and a photograph with boxes one sample is many positions.
        let of_parts = |loss: LossName| loss.is_of_pixels() || matches!(loss, LossName::Boxes | LossName::BoxClasses);
        let few_at_once = language || self.loss.is_some_and(of_parts);
        let settings = Settings {
            epochs: self.epochs.unwrap_or(if language { 3 } else { 10 }),
            max_steps: self.max_steps,
            batch: self.batch.unwrap_or(if few_at_once { 4 } else { 32 }),
            accumulate: self.accumulate.unwrap_or(1),
            learning_rate: self.learning_rate(),
            schedule: match self.schedule {
                Some(ScheduleName::Cosine) => ScheduleKind::Cosine,
                _ => ScheduleKind::Constant,
            },
            warmup_share: self.warmup.unwrap_or(0.0),
            head_rate: self.head_rate.unwrap_or(1.0),
            optimizer: self.optimizer(),
            clip_norm: self.clip_norm,
            patience: self.patience,
            seed: self.seed.unwrap_or(0),
            loss: loss(self.loss, self.label_smoothing).with_false_alarms(self.false_alarms),
            hold: self.retention.hold(),
        };
        settings.check()?;
        let fraction = self.val_fraction();
        if !(0.0..1.0).contains(&fraction) {
            refuse!("setting `val-fraction = {fraction}`: write a share from 0 to below 1, such as 0.2");
        }
        if settings.patience.is_some() && fraction == 0.0 {
            refuse!(
                "setting `patience`: without validation nothing tells when to stop; raise setting `val-fraction` above 0, or remove it"
            );
        }
        if self.per_class == Some(0) {
            refuse!("setting `per-class`: 0 of them would learn nothing; give 1 or more");
        }
        if self.budgets()?.is_none() {
            self.selections()?;
        } else if self.lr == Some(Rate::Auto) {
            refuse!("setting `lr = auto`: setting `train = auto` finds a rate by itself; remove one of them");
        }
        self.change.check()?;
        self.retention.check()?;
        self.delta.check(fraction > 0.0)?;
        self.check_gates()?;
        Ok(settings)
    }

    /// The rate that is named; where a range test is to find one, what is taken if it finds none.
    fn learning_rate(&self) -> f64 {
        match (self.lr, self.optimizer) {
            (Some(Rate::Of(rate)), _) => rate,
            (_, Some(OptimizerName::Sgd)) => 0.01,
            _ => 0.001,
        }
    }

    /// The share of the data that validates.
    pub fn val_fraction(&self) -> f64 {
        self.val_fraction.unwrap_or(VAL_FRACTION)
    }

    /// What to solve by, where the recipe names it. `known` is the number of classes that are kept.
    ///
    /// # Errors
    /// A solver that the loss does not go with, or options without effect.
    pub fn solver(&self, loss: &Loss, known: usize) -> Result<Option<solve::Settings>, Error> {
        let solver = match self.solver {
            Some(SolverName::Ridge) => Solver::Ridge,
            Some(SolverName::Lbfgs) => Solver::Lbfgs,
            Some(SolverName::Imprint) => Solver::Imprint,
            Some(SolverName::Moments) => Solver::Moments,
            None | Some(SolverName::Steps) => return Ok(None),
        };
        let settings = solve::Settings { solver, l2: self.l2, loss: loss.clone(), known, refit: true, below: false };
        settings.check()?;
        Ok(Some(settings))
    }

    /// The first option that only gradient steps have a use for: whoever gives one asks for steps.
    pub fn option_of_steps(&self) -> Option<&'static str> {
        let of_steps = [
            ("epochs", self.epochs.is_some()),
            ("batch", self.batch.is_some()),
            ("accumulate", self.accumulate.is_some()),
            ("lr", self.lr.is_some()),
            ("head-rate", self.head_rate.is_some()),
            ("optimizer", self.optimizer.is_some()),
            ("weight-decay", self.weight_decay.is_some()),
            ("momentum", self.momentum.is_some()),
            ("schedule", self.schedule.is_some()),
            ("warmup", self.warmup.is_some()),
            ("clip-norm", self.clip_norm.is_some()),
            ("patience", self.patience.is_some()),
            ("max-steps", self.max_steps.is_some()),
            ("retention.l2-sp", self.retention.l2_sp.is_some()),
            ("retention.ewc", self.retention.ewc.is_some()),
            ("retention.distill", self.retention.distill.is_some()),
        ];
        of_steps.into_iter().find(|(_, given)| *given).map(|(setting, _)| setting)
    }

    /// The update that a recipe asks for.
    pub fn optimizer(&self) -> Optimizer {
        match self.optimizer.unwrap_or(OptimizerName::Adamw) {
            OptimizerName::Adamw => Optimizer::AdamW {
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                // What is pulled towards the start is not pulled towards zero.
                weight_decay: self.weight_decay.unwrap_or(
                    if self.retention.l2_sp.is_some() || self.loss == Some(LossName::BoxClasses) { 0.0 } else { 0.01 },
                ),
            },
            OptimizerName::Sgd => Optimizer::Sgd {
                momentum: self.momentum.unwrap_or(0.9),
                nesterov: false,
                weight_decay: self.weight_decay.unwrap_or(0.0),
            },
        }
    }

    /// What the setting `train` selects.
    ///
    /// # Errors
    /// A text that is no selection.
    pub fn selections(&self) -> Result<Vec<Selection>, Error> {
        Ok(self.train.iter().map(|text| Selection::parse(text)).collect::<Result<_, _>>()?)
    }

    /// Options that one solver or the other leaves without effect.
    fn refuse_beside_solver(&self) -> Result<(), Error> {
        let Some(solver) = self.solver.filter(|solver| *solver != SolverName::Steps) else {
            return match self.l2 {
                Some(_) if self.solver.is_some() || self.option_of_steps().is_some() => {
                    refuse!(
                        "setting `l2`: gradient steps have setting `weight-decay`; remove it, or choose setting `solver = ridge` or lbfgs"
                    )
                }
                _ => Ok(()),
            };
        };
        if let Some(setting) = self.option_of_steps() {
            refuse!(
                "setting `{setting}`: setting `solver = {}` makes no gradient steps; remove one of them",
                solver.name()
            );
        }
        if self.change.adapter.is_some() {
            refuse!("setting `adapter.method`: setting `solver` fits a whole linear head; remove one of them");
        }
        if let Some(what) = self.loss.and_then(without_closed_form) {
            refuse!("setting `solver`: {what} no closed form; remove it to train by gradient steps");
        }
        if self.train.iter().any(|text| text == AUTO) {
            refuse!("setting `train = auto`: setting `solver` fits the head and nothing else; remove one of them");
        }
        let of_lbfgs =
            [("label-smoothing", self.label_smoothing.is_some()), ("class-weights", self.class_weights.is_some())];
        if let Some((setting, _)) = of_lbfgs.into_iter().find(|(_, given)| *given && solver != SolverName::Lbfgs) {
            refuse!(
                "setting `{setting}`: only setting `solver = lbfgs` and gradient steps know it; choose lbfgs, or remove it"
            );
        }
        if self.from.is_some() && solver != SolverName::Imprint {
            refuse!(
                "setting `from`: ridge and lbfgs fit anew, from nothing; choose setting `solver = imprint` or gradient steps, or remove setting `from`"
            );
        }
        Ok(())
    }

    /// What normal samples are is found at once, from the features as they are.
    fn refuse_beside_normality(&self) -> Result<(), Error> {
        let is_asked = self.loss.is_some_and(LossName::is_of_normality);
        if let Some(share) = self.false_alarms {
            if !is_asked {
                refuse!(
                    "setting `false-alarms`: only anomalies have them; remove it, or choose setting `loss = residual`"
                );
            }
            if !(0.0..1.0).contains(&share) {
                refuse!("setting `false-alarms = {share}`: write a share from 0 to below 1, such as 0.01");
            }
        }
        if !is_asked {
            return Ok(());
        }
        let head = |text: &String| text == "head";
        let others = [
            ("adapter.method", self.change.adapter.is_some()),
            ("from", self.from.is_some()),
            ("train", !self.train.iter().all(head)),
            ("solver", self.solver.is_some()),
            ("head", self.head == Some(HeadName::Keep)),
        ];
        let others = others.into_iter().find(|(_, given)| *given).map(|(setting, _)| setting);
        match others.or(self.option_of_steps()) {
            Some(setting) => refuse!(
                "setting `{setting}`: what normal samples are is found at once, from the features as they are; remove it"
            ),
            None => Ok(()),
        }
    }

    fn refuse_without_effect(&self) -> Result<(), Error> {
        self.refuse_beside_normality()?;
        self.refuse_beside_solver()?;
        if self.loss == Some(LossName::BoxClasses) && self.weight_decay.is_some_and(|decay| decay != 0.0) {
            refuse!(
                "setting `weight-decay`: it would change what makes the edges of boxes, which setting `loss = box-classes` keeps; remove it"
            );
        }
        let classes = matches!(self.loss, None | Some(LossName::CrossEntropy));
        let sgd = self.optimizer == Some(OptimizerName::Sgd);
        if self.momentum.is_some() && !sgd {
            refuse!("setting `momentum`: adamw has none; remove it, or choose setting `optimizer = sgd`");
        }
        let only_classes = [
            ("label-smoothing", self.label_smoothing.is_some_and(|share| share != 0.0)),
            ("class-weights", self.class_weights.is_some()),
        ];
        let weighs = self.loss.is_some_and(|loss| loss == LossName::TokenCrossEntropy || loss.is_of_pixels());
        let knows = |setting: &str| classes || (weighs && setting == "class-weights");
        let of_vectors = |loss: LossName| loss.is_of_likeness() || loss.is_of_normality();
        if self.embedding.is_some() && !self.loss.is_some_and(of_vectors) {
            refuse!(
                "setting `embedding`: only likeness and anomalies have vectors of a length that is chosen; remove it, or choose setting `loss = \
                 multiple-negatives`"
            );
        }
        if self.embedding == Some(0) || self.embedding.is_some_and(|width| width > EMBEDDING_MAX) {
            refuse!("setting `embedding`: a vector has 1 to {EMBEDDING_MAX} numbers, such as 128");
        }
        if self.embedding.is_some() && self.head == Some(HeadName::Keep) {
            refuse!("setting `embedding`: setting `head = keep` keeps the model's own vectors; remove one of them");
        }
        match only_classes.into_iter().find(|(setting, given)| *given && !knows(setting)) {
            Some((setting, _)) => {
                refuse!("setting `{setting}`: only setting `loss = cross-entropy` knows it; remove one of them")
            }
            None => Ok(()),
        }
    }

    /// What labels are, for the recipe's loss.
    pub fn target(&self) -> Target {
        task(self.loss).target
    }

    /// What becomes of the model's head.
    pub fn head_choice(&self) -> HeadChoice {
        match self.head {
            None | Some(HeadName::Auto) => HeadChoice::Auto,
            Some(HeadName::Keep) => HeadChoice::Keep,
            Some(HeadName::Replace) => HeadChoice::Replace,
            Some(HeadName::Append) => HeadChoice::Append,
        }
    }
}

/// What learns by a loss that no solver knows.
fn without_closed_form(loss: LossName) -> Option<&'static str> {
    Some(match loss {
        LossName::NextToken => "a language model has",
        LossName::Coral => "classes in an order have",
        LossName::File => "a loss of one's own has",
        LossName::TokenCrossEntropy => "a class for each word has",
        LossName::Ctc => "a text has",
        LossName::Boxes | LossName::BoxClasses => "boxes have",
        loss if loss.is_of_pixels() => "a class for each pixel has",
        loss if loss.is_of_likeness() => "likeness has",
        _ => return None,
    })
}

/// The loss of that name; the default is cross-entropy.
pub fn loss(name: Option<LossName>, label_smoothing: Option<f32>) -> Loss {
    match name.unwrap_or(LossName::CrossEntropy) {
        LossName::CrossEntropy => {
            Loss::CrossEntropy { label_smoothing: label_smoothing.unwrap_or(0.0), class_weights: None }
        }
        // The file is read when the model is.
        other => Loss::named(other.name()).expect("every name has a loss"),
    }
}

/// The task that is learned by a loss; the default is cross-entropy.
pub fn task(loss: Option<LossName>) -> &'static Task {
    task::of_loss(loss.unwrap_or(LossName::CrossEntropy).name())
}
