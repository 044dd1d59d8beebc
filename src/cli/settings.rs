//! From a recipe to the settings of the loop: defaults, and what does not go together.

use super::print::Printer;
use super::recipe::{HeadName, LossName, OptimizerName, Recipe, ScheduleName, SolverName};
use super::sets::Data;
use crate::adapter::{self, HeadChoice};
use crate::cut::{self, Selection};
use crate::data::{self, Labels, Split, Target};
use crate::delta::Task;
use crate::graph::{DType, TensorType, ValueId};
use crate::train::artifact::Adapter;
use crate::train::fit::{ScheduleKind, Settings};
use crate::train::loss::Loss;
use crate::train::optimizer::Optimizer;
use crate::train::plan;
use crate::train::prepare::{Base, Bundle};
use crate::train::solve::{self, Solver, choose};
use anyhow::{Context, Result, bail};

/// The share of the data that validates, where nothing else is asked for.
const VAL_FRACTION: f64 = 0.2;

/// Settings of the loop, with the defaults, checked as far as that needs no data. Class weights follow with [`weigh`].
///
/// # Errors
/// A value out of its range, or an option that the others leave without effect; each with its name and the remedy.
pub fn settings(recipe: &Recipe) -> Result<Settings> {
    refuse_without_effect(recipe)?;
    let language = recipe.loss == Some(LossName::NextToken);
    let settings = Settings {
        epochs: recipe.epochs.unwrap_or(if language { 3 } else { 10 }),
        max_steps: recipe.max_steps,
        batch: recipe.batch.unwrap_or(if language { 4 } else { 32 }),
        accumulate: recipe.accumulate.unwrap_or(1),
        learning_rate: recipe.lr.unwrap_or(match recipe.optimizer {
            Some(OptimizerName::Sgd) => 0.01,
            _ => 0.001,
        }),
        schedule: match recipe.schedule {
            Some(ScheduleName::Cosine) => ScheduleKind::Cosine,
            _ => ScheduleKind::Constant,
        },
        warmup_share: recipe.warmup.unwrap_or(0.0),
        head_rate: recipe.head_rate.unwrap_or(1.0),
        optimizer: optimizer(recipe),
        clip_norm: recipe.clip_norm,
        patience: recipe.patience,
        seed: recipe.seed.unwrap_or(0),
        loss: loss(recipe.loss, recipe.label_smoothing),
    };
    settings.check()?;
    let fraction = val_fraction(recipe);
    if !(0.0..1.0).contains(&fraction) {
        bail!("--val-fraction {fraction}: write a share from 0 to below 1, such as 0.2");
    }
    if settings.patience.is_some() && fraction == 0.0 {
        bail!("--patience: without validation nothing tells when to stop; raise --val-fraction above 0, or remove it");
    }
    if recipe.per_class == Some(0) {
        bail!("--per-class: 0 of them would learn nothing; give 1 or more");
    }
    if super::budget::budgets(recipe)?.is_none() {
        selections(recipe)?;
    }
    recipe.change.check()?;
    recipe.delta.check(fraction > 0.0)?;
    Ok(settings)
}

/// The share of the data that validates.
pub fn val_fraction(recipe: &Recipe) -> f64 {
    recipe.val_fraction.unwrap_or(VAL_FRACTION)
}

/// What to solve by, where the recipe names it. `known` is the number of classes that are kept.
///
/// # Errors
/// A solver that the loss does not go with, or options without effect.
pub fn solver(recipe: &Recipe, loss: &Loss, known: usize) -> Result<Option<solve::Settings>> {
    let solver = match recipe.solver {
        Some(SolverName::Ridge) => Solver::Ridge,
        Some(SolverName::Lbfgs) => Solver::Lbfgs,
        Some(SolverName::Imprint) => Solver::Imprint,
        Some(SolverName::Moments) => Solver::Moments,
        None | Some(SolverName::Steps) => return Ok(None),
    };
    let settings = solve::Settings { solver, l2: recipe.l2, loss: loss.clone(), known, refit: true, below: false };
    settings.check()?;
    Ok(Some(settings))
}

/// How a fresh linear head is fitted where the recipe does not say it: at once, if nothing asks for gradient steps. `begun`:
/// whether there are values to go on from.
///
/// # Errors
/// `--l2` where steps are made.
pub fn by_default(
    recipe: &Recipe,
    loss: &Loss,
    begun: bool,
    bundle: &Bundle,
    data: &Data,
) -> Result<Option<solve::Settings>> {
    let steps = option_of_steps(recipe).is_some() || recipe.change.adapter.is_some();
    let head_alone = bundle.parameters.iter().all(|parameter| parameter.fresh);
    let free = recipe.solver.is_none() && !steps && !begun && head_alone;
    let found = free.then(|| choose::solver(bundle, data.labels(), &data.split, loss)).flatten();
    match (found, recipe.l2) {
        (None, Some(_)) if recipe.solver.is_none() => {
            bail!("--l2: what learns here learns by gradient steps, which have --weight-decay; remove --l2")
        }
        (found, l2) => Ok(found.map(|settings| solve::Settings { l2, ..settings })),
    }
}

/// A tenth of the rate for whole layers of the base below a fresh head, where the recipe names no rate: they have good values
/// to lose.
pub fn slow_below_head(settings: Settings, recipe: &Recipe, bundle: &Bundle) -> Settings {
    let named = recipe.lr.is_some() || recipe.head_rate.is_some();
    let any = |fresh: bool| bundle.parameters.iter().any(|parameter| parameter.fresh == fresh);
    if named || recipe.change.adapter.is_some() || !(any(true) && any(false)) {
        return settings;
    }
    plan::below_a_trained_head(settings)
}

/// Says where `--train last:N` or `--layers last:N` asks for more layers than there are.
///
/// # Errors
/// An output that the base does not have.
pub fn tell_of_all_layers(recipe: &Recipe, base: &Base, printer: &Printer) -> Result<()> {
    let layers = cut::layers(&base.graph, adapter::output(&base.graph, recipe.output.as_deref())?).len();
    for selection in selections(recipe)? {
        if let Selection::Last(count) = selection
            && count > layers
        {
            printer.warn(format!(
                "--train last:{count}: the model has {layers} layers with weights, so the whole model learns; `edgetune inspect` \
                 shows what each number of layers costs"
            ));
        }
    }
    if let Some(count) = recipe.change.places()?.last.filter(|count| *count > layers) {
        printer.warn(format!(
            "--layers last:{count}: the model has {layers} layers with weights, so all of them are changed; `edgetune inspect` lists them"
        ));
    }
    Ok(())
}

/// The first option that only gradient steps have a use for: whoever gives one asks for steps.
pub fn option_of_steps(recipe: &Recipe) -> Option<&'static str> {
    let of_steps = [
        ("--epochs", recipe.epochs.is_some()),
        ("--batch", recipe.batch.is_some()),
        ("--accumulate", recipe.accumulate.is_some()),
        ("--lr", recipe.lr.is_some()),
        ("--head-rate", recipe.head_rate.is_some()),
        ("--optimizer", recipe.optimizer.is_some()),
        ("--weight-decay", recipe.weight_decay.is_some()),
        ("--momentum", recipe.momentum.is_some()),
        ("--schedule", recipe.schedule.is_some()),
        ("--warmup", recipe.warmup.is_some()),
        ("--clip-norm", recipe.clip_norm.is_some()),
        ("--patience", recipe.patience.is_some()),
        ("--max-steps", recipe.max_steps.is_some()),
    ];
    of_steps.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
}

/// Options that one solver or the other leaves without effect.
fn refuse_beside_solver(recipe: &Recipe) -> Result<()> {
    let Some(solver) = recipe.solver.filter(|solver| *solver != SolverName::Steps) else {
        return match recipe.l2 {
            Some(_) if recipe.solver.is_some() || option_of_steps(recipe).is_some() => {
                bail!("--l2: gradient steps have --weight-decay; remove it, or choose --solver ridge or lbfgs")
            }
            _ => Ok(()),
        };
    };
    if let Some(flag) = option_of_steps(recipe) {
        bail!("{flag}: --solver {} makes no gradient steps; remove one of them", solver.name());
    }
    if recipe.change.adapter.is_some() {
        bail!("--adapter: --solver fits a whole linear head; remove one of them");
    }
    if recipe.loss == Some(LossName::NextToken) {
        bail!("--solver: a language model has no closed form; remove it to train by gradient steps");
    }
    if recipe.train.iter().any(|text| text == super::budget::AUTO) {
        bail!("--train auto: --solver fits the head and nothing else; remove one of them");
    }
    let of_lbfgs =
        [("--label-smoothing", recipe.label_smoothing.is_some()), ("--class-weights", recipe.class_weights.is_some())];
    if let Some((flag, _)) = of_lbfgs.into_iter().find(|(_, given)| *given && solver != SolverName::Lbfgs) {
        bail!("{flag}: only --solver lbfgs and gradient steps know it; choose lbfgs, or remove {flag}");
    }
    if recipe.from.is_some() && solver != SolverName::Imprint {
        bail!(
            "--from: ridge and lbfgs fit anew, from nothing; choose --solver imprint or gradient steps, or remove --from"
        );
    }
    Ok(())
}

fn refuse_without_effect(recipe: &Recipe) -> Result<()> {
    refuse_beside_solver(recipe)?;
    let classes = matches!(recipe.loss, None | Some(LossName::CrossEntropy));
    let sgd = recipe.optimizer == Some(OptimizerName::Sgd);
    if recipe.momentum.is_some() && !sgd {
        bail!("--momentum: adamw has none; remove it, or choose --optimizer sgd");
    }
    let only_classes = [
        ("--label-smoothing", recipe.label_smoothing.is_some_and(|share| share != 0.0)),
        ("--class-weights", recipe.class_weights.is_some()),
    ];
    match only_classes.into_iter().find(|(_, given)| *given && !classes) {
        Some((flag, _)) => bail!("{flag}: only --loss cross-entropy knows it; remove one of them"),
        None => Ok(()),
    }
}

/// The update that a recipe asks for.
pub fn optimizer(recipe: &Recipe) -> Optimizer {
    match recipe.optimizer.unwrap_or(OptimizerName::Adamw) {
        OptimizerName::Adamw => Optimizer::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: recipe.weight_decay.unwrap_or(0.01),
        },
        OptimizerName::Sgd => Optimizer::Sgd {
            momentum: recipe.momentum.unwrap_or(0.9),
            nesterov: false,
            weight_decay: recipe.weight_decay.unwrap_or(0.0),
        },
    }
}

/// The loss of that name; the default is cross-entropy.
pub fn loss(name: Option<LossName>, label_smoothing: Option<f32>) -> Loss {
    match name.unwrap_or(LossName::CrossEntropy) {
        LossName::CrossEntropy => {
            Loss::CrossEntropy { label_smoothing: label_smoothing.unwrap_or(0.0), class_weights: None }
        }
        LossName::BinaryCrossEntropy => Loss::BinaryCrossEntropy,
        LossName::MeanSquaredError => Loss::MeanSquaredError,
        LossName::Huber => Loss::Huber { delta: 1.0 },
        LossName::NextToken => Loss::NextToken,
    }
}

/// The recipe with the loss that base and data call for where it leaves that open: the next token's, where the output is
/// `[batch, sequence, vocabulary]` and the data are text without labels.
///
/// # Errors
/// An output that the base does not have; an option that the loss leaves without effect.
pub fn with_loss(mut recipe: Recipe, base: &Base) -> Result<Recipe> {
    let output = adapter::output(&base.graph, recipe.output.as_deref())?;
    let rank = base.graph.ty(output).and_then(TensorType::rank);
    let unlabelled = recipe.samples.label.is_empty() && recipe.data.as_deref().is_some_and(data::is_unlabelled_text);
    if recipe.loss.is_none() && rank == Some(3) && data::takes_text(&input_types(base)) && unlabelled {
        recipe.loss = Some(LossName::NextToken);
    }
    if recipe.loss != Some(LossName::NextToken) {
        let only_text = [
            ("--packing", recipe.samples.packing),
            ("--bos-token", recipe.samples.bos_token.is_some()),
            ("--eos-token", recipe.samples.eos_token.is_some()),
        ];
        if let Some((flag, _)) = only_text.into_iter().find(|(_, given)| *given) {
            bail!("{flag}: only a language model has use for it; remove it, or choose --loss next-token");
        }
    }
    Ok(recipe)
}

fn input_types(base: &Base) -> Vec<(String, DType)> {
    let named = |id: &ValueId| Some((base.graph.value_name(*id).to_string(), base.graph.ty(*id)?.dtype));
    base.graph.inputs.iter().filter_map(named).collect()
}

/// What labels are, for a loss.
pub fn target(loss: Option<LossName>) -> Target {
    match loss {
        None | Some(LossName::CrossEntropy) => Target::Classes,
        Some(LossName::BinaryCrossEntropy) => Target::MultiLabel,
        Some(LossName::MeanSquaredError | LossName::Huber) => Target::Values,
        Some(LossName::NextToken) => Target::NextTokens,
    }
}

/// Lets a recipe go on with what an adapter was trained for: the adapter says what learns.
///
/// # Errors
/// A loss for another kind of target.
pub fn go_on(recipe: &mut Recipe, adapter: &Adapter) -> Result<()> {
    (recipe.train, recipe.head, recipe.classes, recipe.output, recipe.change) = Default::default();
    (recipe.budget_memory, recipe.budget_time, recipe.budget_delta) = Default::default();
    let learned = match &adapter.loss {
        Loss::CrossEntropy { .. } => LossName::CrossEntropy,
        Loss::BinaryCrossEntropy => LossName::BinaryCrossEntropy,
        Loss::MeanSquaredError => LossName::MeanSquaredError,
        Loss::Huber { .. } => LossName::Huber,
        Loss::NextToken => LossName::NextToken,
    };
    let loss = *recipe.loss.get_or_insert(learned);
    if target(Some(loss)) != target(Some(learned)) {
        let name = adapter.loss.name();
        bail!(
            "--loss: {} was trained with {name}; remove the option, or train anew without --from",
            adapter.path.display()
        );
    }
    Ok(())
}

/// What the output means, for a loss.
pub fn task(loss: LossName) -> Task {
    match loss {
        LossName::CrossEntropy => Task::Classification,
        LossName::BinaryCrossEntropy => Task::MultiLabel,
        LossName::MeanSquaredError | LossName::Huber => Task::Regression,
        LossName::NextToken => Task::LanguageModel,
    }
}

/// What labels are, for the task of a delta.
pub fn target_of(task: Task) -> Target {
    match task {
        Task::MultiLabel => Target::MultiLabel,
        Task::Regression => Target::Values,
        Task::LanguageModel => Target::NextTokens,
        _ => Target::Classes,
    }
}

/// What `--train` selects.
///
/// # Errors
/// A text that is no selection.
pub fn selections(recipe: &Recipe) -> Result<Vec<Selection>> {
    Ok(recipe.train.iter().map(|text| Selection::parse(text)).collect::<Result<_, _>>()?)
}

/// What `--head` chooses.
pub fn head(name: Option<HeadName>) -> HeadChoice {
    match name {
        None | Some(HeadName::Auto) => HeadChoice::Auto,
        Some(HeadName::Keep) => HeadChoice::Keep,
        Some(HeadName::Replace) => HeadChoice::Replace,
        Some(HeadName::Append) => HeadChoice::Append,
    }
}

/// Gives the loss the recipe's class weights: `balanced` weighs each class by the inverse of its share of the training
/// samples.
///
/// # Errors
/// Anything but `balanced` or one number of 0 or more for each class.
pub fn weigh(settings: &mut Settings, recipe: &Recipe, labels: &Labels, split: &Split) -> Result<()> {
    let (Some(text), Labels::Classes { names, index }) = (recipe.class_weights.as_deref(), labels) else {
        return Ok(());
    };
    let Loss::CrossEntropy { class_weights, .. } = &mut settings.loss else { return Ok(()) };
    *class_weights = Some(if text == "balanced" {
        let mut counts = vec![0usize; names.len()];
        split.train.iter().for_each(|sample| counts[index[*sample] as usize] += 1);
        let weight = |count: &usize| split.train.len() as f32 / (names.len() * (*count).max(1)) as f32;
        counts.iter().map(weight).collect()
    } else {
        numbers(text, names)?
    });
    Ok(())
}

fn numbers(text: &str, names: &[String]) -> Result<Vec<f32>> {
    let what = || format!("--class-weights `{text}`: write `balanced`, or one number a class separated by commas");
    let weights: Vec<f32> =
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().with_context(what)?;
    let usable = |weight: &f32| *weight >= 0.0 && weight.is_finite();
    if weights.len() != names.len() || !weights.iter().all(usable) || weights.iter().all(|weight| *weight == 0.0) {
        let (given, classes) = (weights.len(), names.join(", "));
        bail!(
            "--class-weights: {given} weights for {} classes ({classes}); give each a number of 0 or more",
            names.len()
        );
    }
    Ok(weights)
}
