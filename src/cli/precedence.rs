//! What a recipe file says and the command line contradicts: what was typed wins, and the file's setting is left out.
//!
//! Takes the settings that were typed and those of a file; leaves out of the file's what would be of no effect, or an error,
//! beside the typed ones, and says what. Two typed options that contradict each other stay an error, which names both. Pure.

use crate::data;
use crate::recipe::{AUTO, EncodingName, LossName, MethodName, OptimizerName, Recipe, SolverName};

/// A setting of a recipe file.
struct Setting {
    /// Its name in the file.
    name: &'static str,
    is_given: fn(&Recipe) -> bool,
    clear: fn(&mut Recipe),
}

/// The setting of a name in a field.
macro_rules! setting {
    ($name:literal, $($field:ident).+) => {
        Setting {
            name: $name,
            is_given: |recipe| is_given(&recipe.$($field).+),
            clear: |recipe| recipe.$($field).+ = Default::default(),
        }
    };
}

impl Setting {
    /// As it is typed.
    fn option(&self) -> String {
        format!("--{}", self.name.rsplit('.').next().unwrap_or(self.name))
    }
}

fn is_given<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}

/// What only gradient steps use.
const STEPS: &[Setting] = &[
    setting!("epochs", epochs),
    setting!("max-steps", max_steps),
    setting!("batch", batch),
    setting!("accumulate", accumulate),
    setting!("lr", lr),
    setting!("head-rate", head_rate),
    setting!("optimizer", optimizer),
    setting!("weight-decay", weight_decay),
    setting!("momentum", momentum),
    setting!("schedule", schedule),
    setting!("warmup", warmup),
    setting!("clip-norm", clip_norm),
    setting!("patience", patience),
    setting!("retention.l2-sp", retention.l2_sp),
    setting!("retention.ewc", retention.ewc),
    setting!("retention.distill", retention.distill),
];
const EPOCHS: Setting = setting!("epochs", epochs);
const MAX_STEPS: Setting = setting!("max-steps", max_steps);
const PATIENCE: Setting = setting!("patience", patience);
const MOMENTUM: Setting = setting!("momentum", momentum);
const SOLVER: Setting = setting!("solver", solver);
const L2: Setting = setting!("l2", l2);
const FROM: Setting = setting!("from", from);
const TRAIN: Setting = setting!("train", train);
const LOSS: Setting = setting!("loss", loss);
const VAL: Setting = setting!("val", val);
const VAL_FRACTION: Setting = setting!("val-fraction", val_fraction);
const ENCODING: Setting = setting!("delta.encoding", delta.encoding);
const MAX_LOSS_INCREASE: Setting = setting!("delta.max-loss-increase", delta.max_loss_increase);
const RANK: Setting = setting!("adapter.rank", change.rank);
const ALPHA: Setting = setting!("adapter.alpha", change.alpha);
const TARGETS: Setting = setting!("adapter.targets", change.targets);
const FEEDFORWARD: Setting = setting!("adapter.feedforward", change.feedforward);
/// What a delta to go on from has decided.
const LEARNS: &[Setting] = &[
    setting!("train", train),
    setting!("head", head),
    setting!("output", output),
    setting!("adapter", change.adapter),
];
/// How the base is changed.
const CHANGE: &[Setting] = &[
    setting!("adapter.method", change.adapter),
    RANK,
    ALPHA,
    TARGETS,
    setting!("adapter.layers", change.layers),
    FEEDFORWARD,
];
/// What `auto` chooses by.
const BUDGETS: &[Setting] = &[
    setting!("budget-memory", budget_memory),
    setting!("budget-time", budget_time),
    setting!("budget-delta", budget_delta),
];
/// What only cross-entropy knows.
const OF_CLASSES: &[Setting] =
    &[setting!("label-smoothing", label_smoothing), setting!("class-weights", class_weights)];
/// What only a language model has use for.
const OF_TEXT: &[Setting] = &[
    setting!("samples.packing", samples.packing),
    setting!("samples.bos-token", samples.bos_token),
    setting!("samples.eos-token", samples.eos_token),
];
/// What a preset decides.
const PIXELS: &[Setting] = &[
    setting!("samples.resize", samples.resize),
    setting!("samples.interpolation", samples.interpolation),
    setting!("samples.scale", samples.scale),
    setting!("samples.mean", samples.mean),
    setting!("samples.std", samples.std),
];
/// What else only images have use for.
const OF_IMAGES: &[Setting] = &[
    setting!("samples.preprocessing", samples.preprocessing),
    setting!("samples.size", samples.size),
    setting!("samples.layout", samples.layout),
];

/// Leaves out of a file's settings what contradicts the typed ones. Gives a sentence for each typed option that did so.
pub fn give_way(typed: &Recipe, file: &mut Recipe) -> Vec<String> {
    let mut left = Left { file, notes: Vec::new() };
    left.beside_what_learns(typed);
    left.beside_the_solver(typed);
    left.beside_the_loss(typed);
    left.beside_the_steps(typed);
    left.beside_the_delta(typed);
    left.notes
}

/// A file's settings, and what was said of those that were left out.
struct Left<'f> {
    file: &'f mut Recipe,
    notes: Vec<String>,
}

impl Left<'_> {
    /// Leaves out settings, because an option was typed, and says so where one of them was given.
    fn out<'s>(&mut self, option: &str, settings: impl IntoIterator<Item = &'s Setting>) {
        let given: Vec<&Setting> = settings.into_iter().filter(|setting| (setting.is_given)(self.file)).collect();
        given.iter().for_each(|setting| (setting.clear)(self.file));
        let names: Vec<&str> = given.iter().map(|setting| setting.name).collect();
        match &names[..] {
            [] => {}
            [name] => self.notes.push(format!("the recipe's `{name}` is left out, because {option} was given")),
            names => {
                self.notes
                    .push(format!("the recipe's `{}` are left out, because {option} was given", names.join("`, `")));
            }
        }
    }

    fn beside_what_learns(&mut self, typed: &Recipe) {
        if let Some(setting) = given(typed, LEARNS) {
            self.out(&setting.option(), [&FROM]);
        }
        if is_given(&typed.train) {
            if !typed.train.iter().any(|text| text == AUTO) {
                self.out("--train", BUDGETS);
            }
            if typed.train.iter().any(|text| is_deep(text)) {
                self.the_closed_form_out("--train");
            }
        }
        let Some(method) = typed.change.adapter else { return };
        self.the_closed_form_out("--adapter");
        let has_factors =
            matches!(method, MethodName::Lora | MethodName::Rslora | MethodName::Dora | MethodName::LoraFa);
        if !has_factors {
            self.out("--adapter", [&RANK, &ALPHA]);
        }
        if matches!(method, MethodName::Bitfit | MethodName::Norm) {
            self.out("--adapter", [&TARGETS]);
        }
        if method != MethodName::Ia3 {
            self.out("--adapter", [&FEEDFORWARD]);
        }
    }

    /// Leaves out a solver that fits a linear head at once, and its penalty.
    fn the_closed_form_out(&mut self, option: &str) {
        if self.file.solver.is_none_or(is_closed) {
            self.out(option, [&SOLVER, &L2]);
        }
    }

    fn beside_the_solver(&mut self, typed: &Recipe) {
        match typed.solver {
            Some(solver) if is_closed(solver) => self.beside_a_closed_form(solver),
            Some(_) => self.out("--solver", [&L2]),
            None if typed.l2.is_some() => {
                self.out("--l2", STEPS);
                if self.file.solver.is_some_and(|solver| !is_closed(solver)) {
                    self.out("--l2", [&SOLVER]);
                }
            }
            None => {}
        }
        if typed.from.is_some()
            && matches!(self.file.solver, Some(SolverName::Ridge | SolverName::Lbfgs | SolverName::Moments))
        {
            self.the_closed_form_out("--from");
        }
        let knows_no_classes =
            matches!(self.file.solver, Some(SolverName::Ridge | SolverName::Imprint | SolverName::Moments));
        if let Some(setting) = given(typed, OF_CLASSES).filter(|_| knows_no_classes) {
            self.the_closed_form_out(&setting.option());
        }
        if let Some(setting) = given(typed, STEPS) {
            self.the_closed_form_out(&setting.option());
        }
    }

    fn beside_a_closed_form(&mut self, solver: SolverName) {
        self.out("--solver", STEPS.iter().chain(CHANGE));
        if self.file.train.iter().any(|text| is_deep(text)) {
            self.out("--solver", std::iter::once(&TRAIN).chain(BUDGETS));
        }
        if solver != SolverName::Lbfgs {
            self.out("--solver", OF_CLASSES);
        }
        self.out("--solver", [if solver == SolverName::Imprint { &L2 } else { &FROM }]);
    }

    fn beside_the_loss(&mut self, typed: &Recipe) {
        if let Some(loss) = typed.loss {
            if loss != LossName::CrossEntropy {
                self.out("--loss", OF_CLASSES);
            }
            if loss != LossName::NextToken {
                self.out("--loss", OF_TEXT);
            }
            if self.file.solver.is_some_and(|solver| is_unfit(solver, loss)) {
                self.the_closed_form_out("--loss");
            }
            return;
        }
        for (settings, loss) in [(OF_CLASSES, LossName::CrossEntropy), (OF_TEXT, LossName::NextToken)] {
            if let Some(setting) = given(typed, settings).filter(|_| self.file.loss != Some(loss)) {
                self.out(&setting.option(), [&LOSS]);
            }
        }
    }

    fn beside_the_steps(&mut self, typed: &Recipe) {
        if typed.max_steps.is_some() {
            self.out("--max-steps", [&EPOCHS]);
        }
        if typed.epochs.is_some() {
            self.out("--epochs", [&MAX_STEPS]);
        }
        if typed.optimizer == Some(OptimizerName::Adamw) {
            self.out("--optimizer", [&MOMENTUM]);
        }
        if typed.val_fraction == Some(0.0) {
            self.out("--val-fraction 0", [&PATIENCE]);
        }
        if typed.val_fraction.is_some() {
            self.out("--val-fraction", [&VAL]);
        }
        if typed.val.is_some() {
            self.out("--val", [&VAL_FRACTION]);
        }
        if typed.patience.is_some() && self.file.val_fraction == Some(0.0) {
            self.out("--patience", [&VAL_FRACTION]);
        }
        if typed.data.as_deref().is_some_and(data::holds_arrays) {
            self.out("--data of arrays", OF_IMAGES.iter().chain(PIXELS));
        }
        if typed.samples.preprocessing.is_some() {
            self.out("--preprocessing", PIXELS);
        }
    }

    fn beside_the_delta(&mut self, typed: &Recipe) {
        let is_auto = |encoding: Option<EncodingName>| encoding.is_some_and(|name| name == EncodingName::Auto);
        let (encoding, bound) = (typed.delta.encoding, typed.delta.max_loss_increase);
        if encoding.is_some() && !is_auto(encoding) {
            self.out("--encoding", [&MAX_LOSS_INCREASE]);
        }
        if bound.is_some() && !is_auto(self.file.delta.encoding) {
            self.out("--max-loss-increase", [&ENCODING]);
        }
        let measures = if is_auto(encoding) { Some("--encoding auto") } else { bound.map(|_| "--max-loss-increase") };
        match measures {
            Some(option) if self.file.val_fraction == Some(0.0) => self.out(option, [&VAL_FRACTION]),
            None if typed.val_fraction == Some(0.0) => {
                self.out("--val-fraction 0", [&MAX_LOSS_INCREASE]);
                if is_auto(self.file.delta.encoding) {
                    self.out("--val-fraction 0", [&ENCODING]);
                }
            }
            _ => {}
        }
    }
}

/// The first of these settings that is given.
fn given<'s>(recipe: &Recipe, settings: &'s [Setting]) -> Option<&'s Setting> {
    settings.iter().find(|setting| (setting.is_given)(recipe))
}

/// Whether a selection is more than a linear head.
fn is_deep(text: &str) -> bool {
    text == AUTO || text.strip_prefix("last:").is_some_and(|count| count != "1")
}

/// Whether a solver fits a linear head at once.
fn is_closed(solver: SolverName) -> bool {
    matches!(solver, SolverName::Ridge | SolverName::Lbfgs | SolverName::Imprint | SolverName::Moments)
}

/// Whether a solver cannot minimise a loss.
fn is_unfit(solver: SolverName, loss: LossName) -> bool {
    match loss {
        LossName::CrossEntropy => false,
        LossName::NextToken
        | LossName::Coral
        | LossName::TokenCrossEntropy
        | LossName::PixelCrossEntropy
        | LossName::DiceCrossEntropy
        | LossName::Ctc
        | LossName::Boxes
        | LossName::BoxClasses
        | LossName::MultipleNegatives
        | LossName::SupervisedContrastive
        | LossName::Triplet
        | LossName::CosineSimilarity
        | LossName::Residual
        | LossName::Mahalanobis
        | LossName::File => is_closed(solver),
        LossName::BinaryCrossEntropy => solver == SolverName::Imprint,
        LossName::MeanSquaredError => matches!(solver, SolverName::Lbfgs | SolverName::Imprint),
        LossName::Huber => matches!(solver, SolverName::Ridge | SolverName::Imprint | SolverName::Moments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::recipe::RecipeArgs;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        recipe: RecipeArgs,
    }

    fn typed(options: &str) -> Recipe {
        Typed::parse_from(std::iter::once("train").chain(options.split_whitespace())).recipe.into()
    }

    /// Each option with what a file says, what is left out of it, and that the outcome is one that can be trained by.
    #[test]
    fn what_is_typed_wins_over_a_file_that_contradicts_it() {
        for (options, file, left_out) in [
            ("--solver ridge", "epochs = 9\nlr = 0.1\nmax-steps = 3", "epochs, max-steps, lr"),
            ("--solver lbfgs", "optimizer = \"sgd\"\nmomentum = 0.5\npatience = 2", "optimizer, momentum, patience"),
            ("--solver ridge", "label-smoothing = 0.1", "label-smoothing"),
            ("--solver lbfgs", "label-smoothing = 0.1", ""),
            ("--solver ridge", "train = [\"auto\"]\nbudget-delta = \"64KiB\"", "train, budget-delta"),
            ("--solver ridge", "train = [\"head\"]", ""),
            ("--solver ridge", "from = \"a.edelta\"", "from"),
            ("--solver imprint", "l2 = 3.0", "l2"),
            ("--solver ridge", "[adapter]\nmethod = \"lora\"\nrank = 4", "adapter.method, adapter.rank"),
            ("--epochs 3", "solver = \"ridge\"\nl2 = 3.0", "solver, l2"),
            ("--epochs 3", "solver = \"steps\"", ""),
            ("--epochs 3", "max-steps = 7", "max-steps"),
            ("--max-steps 3", "epochs = 7", "epochs"),
            ("--lr 0.1", "solver = \"lbfgs\"", "solver"),
            ("--l2 2", "epochs = 3", "epochs"),
            ("--l2 2", "solver = \"ridge\"", ""),
            ("--adapter lora", "solver = \"lbfgs\"", "solver"),
            (
                "--adapter bitfit",
                "[adapter]\nmethod = \"lora\"\nrank = 4\ntargets = [\"a\"]",
                "adapter.rank, adapter.targets",
            ),
            ("--adapter dora", "[adapter]\nmethod = \"ia3\"\nfeedforward = [\"a\"]", "adapter.feedforward"),
            ("--train last:2", "solver = \"ridge\"", "solver"),
            ("--train head", "train = [\"auto\"]\nbudget-memory = \"1GB\"", "budget-memory"),
            ("--train head", "from = \"a.edelta\"", "from"),
            ("--head append", "from = \"a.edelta\"", "from"),
            ("--from a.edelta", "solver = \"ridge\"", "solver"),
            ("--from a.edelta", "solver = \"imprint\"", ""),
            ("--optimizer adamw", "optimizer = \"sgd\"\nmomentum = 0.9", "momentum"),
            ("--loss huber", "label-smoothing = 0.1\nclass-weights = \"balanced\"", "label-smoothing, class-weights"),
            ("--loss huber", "solver = \"ridge\"", "solver"),
            ("--loss mean-squared-error", "solver = \"ridge\"", ""),
            ("--loss cross-entropy", "[samples]\npacking = true", "samples.packing"),
            ("--label-smoothing 0.1", "loss = \"huber\"", "loss"),
            ("--label-smoothing 0.1", "solver = \"ridge\"", "solver"),
            ("--packing", "loss = \"cross-entropy\"", "loss"),
            ("--patience 2", "val-fraction = 0.0", "val-fraction"),
            ("--val-fraction 0", "patience = 2", "patience"),
            ("--val-fraction 0", "[delta]\nencoding = \"auto\"", "delta.encoding"),
            ("--val-fraction 0", "[delta]\nmax-loss-increase = 0.1", "delta.max-loss-increase"),
            ("--encoding auto", "val-fraction = 0.0", "val-fraction"),
            ("--encoding int8", "[delta]\nmax-loss-increase = 0.1", "delta.max-loss-increase"),
            ("--max-loss-increase 0.1", "[delta]\nencoding = \"int8\"", "delta.encoding"),
            ("--data rows.npz", "[samples]\nsize = \"224\"\nscale = \"1\"", "samples.size, samples.scale"),
            ("--preprocessing imagenet", "[samples]\nmean = \"0.5\"\nsize = \"224\"", "samples.mean"),
            ("--seed 3 --test t", "seed = 4\nepochs = 2\nbatch = 8\n[samples]\nsize = \"224\"", ""),
        ] {
            let (typed, mut file) = (typed(options), toml::from_str::<Recipe>(file).unwrap());
            let notes = give_way(&typed, &mut file).join("; ");
            let named: Vec<&str> = notes.split('`').skip(1).step_by(2).collect();
            assert_eq!(named.join(", "), left_out, "{options}: {notes}");
            let option = options.split(' ').next().unwrap();
            assert!(left_out.is_empty() || notes.contains(&format!("because {option}")), "{options}: {notes}");
            let both = typed.or(file);
            if let Err(error) = both.settings() {
                panic!("{options} with {file:?}: {error:#}", file = both.text());
            }
        }
    }
}
