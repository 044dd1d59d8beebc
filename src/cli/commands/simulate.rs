//! `edgetune-fleet simulate`: many virtual devices with real trainings, before there is a fleet.

use crate::aggregate::{Options, Rule};
use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::precedence;
use crate::cli::print::{Printer, Progress, bytes, percent};
use crate::cli::recipe::over;
use crate::cli::stop::flag_on_signals;
use crate::data::{Dataset, Labels};
use crate::fleet::Combining;
use crate::host::processor_seconds;
use crate::learn::{self, Job, Opened};
use crate::moments::{BITS, Basis, Directions};
use crate::plot::{self, Across, Curve, Panel, Scale};
use crate::recipe::{AUTO, Recipe};
use crate::simulate::{self, Arm, Attack, Outcome, Setting, World, dirichlet};
use crate::train::artifact;
use crate::train::features::{Features, Source};
use crate::train::prepare::Bundle;
use crate::train::solve;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Train many virtual devices on parts of your data, and compare ways of combining what they learn
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune-fleet simulate recipe.toml --data train/ --test test/ --devices 50 --alpha 0.1\n  \
                  edgetune-fleet simulate recipe.toml --poisoned 0.2 --attack sign-flip --plot rounds.svg\n\nThe recipe is the one \
                  that devices will train by (`edgetune train --help` has its fields); its `epochs` are those of one round. Each \
                  class is parted among the devices by a Dirichlet distribution: the smaller --alpha, the fewer classes a device \
                  knows. `moments` sums up features in one round and solves for a head. `alone` is what devices reach without a fleet, `together` what all samples in one place would give; \
                  `own` counts classes as often as a device has them."
)]
pub struct Args {
    /// The recipe
    #[arg(value_name = "RECIPE.toml")]
    recipe: PathBuf,
    /// Labelled data that are divided among the devices [default: the recipe's]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Labelled data that everything is measured on [default: the recipe's]
    #[arg(long, value_name = "PATH")]
    test: Option<PathBuf>,
    /// Virtual devices
    #[arg(long, value_name = "N", default_value_t = 50)]
    devices: usize,
    /// How alike the devices are: 0.1 gives each two or three classes, 100 the same to all
    #[arg(long, value_name = "A", default_value_t = 0.1)]
    alpha: f64,
    /// Samples of a device, at least
    #[arg(long, value_name = "N", default_value_t = 4)]
    samples_min: usize,
    /// Turns of learn, send, combine
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u32,
    /// A rule for combining deltas, as a channel has it; repeatable [default: mean, median, trimmed:0.2, mean,clip]
    #[arg(long, value_name = "RULE")]
    rule: Vec<Combining>,
    /// Coordinates of the features that moments are of
    #[arg(long, value_name = "N", default_value_t = 256)]
    coordinates: usize,
    /// Share of the devices that are poisoned
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    poisoned: f64,
    /// What they do; repeatable [default: all]
    #[arg(long, value_enum)]
    attack: Vec<AttackName>,
    /// Decides parts, orders and which devices are poisoned [default: the recipe's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write accuracy over rounds as an SVG picture
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    compute: Compute,
}

/// Attacks by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AttackName {
    /// Go the opposite way
    SignFlip,
    /// Go ten times as far
    Scale,
    /// Learn from wrong labels
    LabelFlip,
}

impl AttackName {
    fn attack(self) -> Attack {
        match self {
            AttackName::SignFlip => Attack::SignFlip,
            AttackName::Scale => Attack::Scale(10.0),
            AttackName::LabelFlip => Attack::LabelFlip,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().expect("every attack has a name").get_name().into()
    }
}

/// One row of the table.
struct Row {
    name: String,
    arm: Arm,
    /// Without an attack, then with each.
    outcomes: Vec<Option<Outcome>>,
    /// Processor seconds without an attack.
    seconds: f64,
}

impl Row {
    /// Whether attacks are tried on it: moments have no rule that would withstand them, and the two others have no fleet.
    fn is_attacked(&self) -> bool {
        !matches!(self.arm, Arm::Alone | Arm::Moments | Arm::Together)
    }
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let job = Job { recipe: recipe(args, printer)?, ..Job::default() };
    let stop = flag_on_signals()?;
    let context = args.global.context(&args.compute, Instant::now(), &stop, printer)?;
    let opened = Opened::open(&job, &context)?;
    let data = &opened.data;
    let (test, test_samples) = data.test.as_ref().context("no test data: name some with --test PATH")?;
    let parts = parts(args, &opened)?;
    let bundle = learn::bundle(&opened.base, &opened.recipe, data.labels(), &context.folders.bundles()?)?;
    let poisoned = (args.poisoned * args.devices as f64).round() as usize;
    let basis = basis(args, &bundle, &opened, printer)?;
    let low_rank = bundle.method.filter(|method| method.kind.low_rank());
    let rows = rows(args, low_rank.map(|method| method.rank), basis.is_some());
    let attacks: Vec<AttackName> = match &args.attack[..] {
        _ if poisoned == 0 => Vec::new(),
        [] => AttackName::value_variants().to_vec(),
        attacks => attacks.to_vec(),
    };
    let mut train = features(&opened, &bundle, &data.train, &data.split.train)?;
    let mut tested = features(&opened, &bundle, test, test_samples)?;
    printer.note("features  every sample goes through the frozen part once");
    if !train.ready(&data.split.train, &stop)? || !tested.ready(test_samples, &stop)? {
        return Ok(Done::Interrupted);
    }
    let attacked = rows.iter().filter(|row| row.is_attacked()).count();
    let runs = (rows.len() + attacks.len() * attacked) as u64;
    let progress = printer.progress("simulating", runs * u64::from(args.rounds) * args.devices as u64, "trainings");
    let setting = Setting { parts, rounds: args.rounds, settings: opened.settings.clone(), poisoned: 0, attack: None };
    let mut study =
        Study { args, opened: &opened, bundle, basis, train, tested, attacks, poisoned, setting, progress, done: 0 };
    let mut finished = Vec::new();
    for row in rows {
        let Some(row) = study.outcomes(row, &stop)? else {
            study.progress.end();
            printer.note("stopped; features are kept, so the same command begins sooner");
            return Ok(Done::Interrupted);
        };
        finished.push(row);
    }
    study.progress.end();
    tell(args, &study.setting, &finished, &study.attacks, printer);
    if let Some(path) = &args.plot {
        artifact::save(path, drawn(args, &finished, &study.attacks).as_bytes())?;
        printer.note(format!("plot      {}", path.display()));
    }
    Ok(Done::Fully)
}

/// The recipe that all devices train by.
fn recipe(args: &Args, printer: &Printer) -> Result<Recipe> {
    ensure!(
        (0.0..=1.0).contains(&args.poisoned),
        "--poisoned {}: give a share from 0 to 1, such as 0.2",
        args.poisoned
    );
    ensure!(args.rounds > 0, "--rounds 0: nothing would be learned; give at least 1");
    let given = Recipe { data: args.data.clone(), test: args.test.clone(), seed: args.seed, ..Recipe::default() };
    let mut recipe = over(given, Recipe::read(&args.recipe)?, printer);
    let unvalidated = Recipe { val_fraction: Some(0.0), ..Recipe::default() };
    if !precedence::give_way(&unvalidated, &mut recipe).is_empty() {
        printer.note("recipe    what needs validation samples is left out: everything is measured on the test data");
    }
    let recipe = unvalidated.or(recipe);
    let files = Files::of_recipe(&recipe).reads("the recipe", [&args.recipe]).cache(&args.global);
    files.writes("--plot", &args.plot, Kind::Picture).check(args.replacing)?;
    let file = args.recipe.display();
    if recipe.closed_form() || recipe.from.is_some() || recipe.train.iter().any(|spec| spec == AUTO) {
        bail!("{file}: devices of a fleet learn alike, by gradient steps; leave out `solver`, `from` and `auto`");
    }
    ensure!(recipe.model.is_some(), "{file}: no `model = …`");
    Ok(recipe)
}

/// The samples of each device.
fn parts(args: &Args, opened: &Opened<'_>) -> Result<Vec<Vec<usize>>> {
    let (data, seed) = (&opened.data, opened.recipe.seed.unwrap_or(0));
    let Labels::Classes { index, .. } = data.labels() else {
        bail!("the data: parts are made by class, so each sample needs one class");
    };
    let classes: Vec<usize> = data.split.train.iter().map(|sample| index[*sample] as usize).collect();
    let parts = dirichlet(&data.split.train, &classes, args.devices, args.alpha, args.samples_min, seed);
    let mut parts = parts.map_err(simulate::Error::from)?;
    // What has no sample takes no part.
    parts.retain(|part| !part.is_empty());
    Ok(parts)
}

fn features(opened: &Opened<'_>, bundle: &Bundle, set: &Arc<Dataset>, samples: &[usize]) -> Result<Features> {
    let (context, clock) = (opened.context, opened.context.clock.clone());
    let source = Source { dataset: Arc::clone(set), order: samples, preprocessing: &opened.data.preprocessing };
    let features = Features::open(bundle, source, context.store(), &opened.options, clock)?;
    Ok(features.telling(context.observer.body_pass()))
}

/// All that the rows are computed with.
struct Study<'a> {
    args: &'a Args,
    opened: &'a Opened<'a>,
    bundle: Bundle,
    /// What moments are of; none without a fresh linear head.
    basis: Option<Basis>,
    train: Features,
    tested: Features,
    attacks: Vec<AttackName>,
    /// Devices that are poisoned under an attack.
    poisoned: usize,
    setting: Setting,
    progress: Progress,
    /// Trainings that are done.
    done: u64,
}

impl Study<'_> {
    /// The row with what came of it, without an attack and with each; `None` if it was stopped.
    fn outcomes(&mut self, row: Row, stop: &AtomicBool) -> Result<Option<Row>> {
        let mut row = Row { outcomes: Vec::new(), ..row };
        let (data, devices) = (&self.opened.data, self.args.devices as u64);
        let (test, test_samples) = data.test.as_ref().context("no test data: name some with --test PATH")?;
        for attack in std::iter::once(None).chain(self.attacks.iter().map(Some)) {
            if attack.is_some() && !row.is_attacked() {
                row.outcomes.push(None);
                continue;
            }
            self.setting.poisoned = if attack.is_some() { self.poisoned } else { 0 };
            self.setting.attack = attack.map(|attack| attack.attack());
            let under = attack.map_or(String::new(), |attack| format!(", {}", attack.name()));
            let (what, done, progress) = (format!("{}{under}", row.name), self.done, &self.progress);
            let mut world = World {
                bundle: &mut self.bundle,
                train: &mut self.train,
                labels: data.labels(),
                test: &mut self.tested,
                test_labels: test.labels(),
                test_samples,
                preprocessing: &data.preprocessing,
                basis: self.basis.as_ref(),
                options: &self.opened.options,
                stop,
                tell: &mut |at| {
                    let place = u64::from(at.round - 1) * devices + at.device as u64;
                    progress.at(done + place, format!("{what}, round {}", at.round));
                },
            };
            let before = processor_seconds();
            let Some(outcome) = simulate::run(&mut world, &self.setting, row.arm)? else { return Ok(None) };
            if attack.is_none() {
                row.seconds = processor_seconds() - before;
            }
            self.done += u64::from(self.args.rounds) * devices;
            row.outcomes.push(Some(outcome));
        }
        Ok(Some(row))
    }
}

/// What is compared; the first and the last are not of a fleet.
/// `rank`: that of low-rank factors; `moments`: whether there is a head that they can be summed up for.
fn rows(args: &Args, rank: Option<u32>, moments: bool) -> Vec<Row> {
    let row = |name: String, arm| Row { name, arm, outcomes: Vec::new(), seconds: 0.0 };
    let default = || ["mean", "median", "trimmed:0.2", "mean,clip"].map(|rule| rule.parse().expect("a rule")).to_vec();
    let rules: Vec<Combining> = if args.rule.is_empty() { default() } else { args.rule.clone() };
    let mut rows = vec![row("alone".into(), Arm::Alone)];
    if rank.is_some() {
        rows.push(row("mean of factors".into(), Arm::TensorMean));
    }
    for combining in rules {
        let options = Options { rule: combining.rule, clip: combining.clip, rank, ..Options::default() };
        let exact = rank.is_some() && combining.rule == Rule::Mean;
        let name = if exact { format!("{combining} (exact)") } else { combining.to_string() };
        rows.push(row(name, Arm::Combined(options)));
    }
    if moments {
        rows.push(row("moments".into(), Arm::Moments));
    }
    rows.push(row("together".into(), Arm::Together));
    rows
}

/// The coordinates that moments are of: of the base's own classifier, else orthogonal ones. None where the recipe has no fresh linear
/// head.
fn basis(args: &Args, bundle: &Bundle, opened: &Opened<'_>, printer: &Printer) -> Result<Option<Basis>> {
    let classifier = solve::moments::classifier(&opened.base, opened.recipe.output.as_deref())?;
    let source = match solve::moments::source(bundle, classifier.as_ref()) {
        Ok(source) => source,
        Err(error) => {
            printer.note(format!("moments   are left out: {error}"));
            return Ok(None);
        }
    };
    let count = args.coordinates.min(source.features);
    let enough = source.classifier.is_some_and(|weight| weight.nrows().min(weight.ncols()) >= count);
    let directions = if enough { Directions::Classifier } else { Directions::Orthogonal { seed: 0 } };
    Ok(Some(Basis::build(source, directions, count, *BITS.end()).context("--coordinates")?))
}

fn tell(args: &Args, setting: &Setting, rows: &[Row], attacks: &[AttackName], printer: &Printer) {
    let sizes: Vec<usize> = setting.parts.iter().map(Vec::len).collect();
    let last = |outcome: &Option<Outcome>| outcome.as_ref().and_then(|outcome| outcome.rounds.last().copied());
    printer.document(&json!({
        "devices": args.devices, "alpha": args.alpha, "rounds": args.rounds, "epochs": setting.settings.epochs,
        "samples": sizes, "poisoned": args.poisoned, "attacks": attacks.iter().map(|attack| attack.name()).collect::<Vec<_>>(),
        "rows": rows.iter().map(|row| json!({
            "name": row.name,
            "processor_s": row.seconds,
            "clean": row.outcomes[0],
            "attacked": row.outcomes[1..],
        })).collect::<Vec<_>>(),
    }));
    let (least, most) = (sizes.iter().min().unwrap_or(&0), sizes.iter().max().unwrap_or(&0));
    printer.text(format!(
        "{} devices with {least} to {most} samples, alpha {}, {} rounds of {} epochs",
        args.devices, args.alpha, args.rounds, setting.settings.epochs
    ));
    let mut head = format!("{:18} {:>9} {:>9} {:>10} {:>10}", "", "accuracy", "own", "sent", "processor");
    attacks.iter().for_each(|attack| head += &format!(" {:>11}", attack.name()));
    printer.text(head);
    for row in rows {
        let mut line = format!("{:18}", row.name);
        if let Some(clean) = last(&row.outcomes[0]) {
            line += &format!(" {:>9} {:>9}", percent(clean.accuracy), percent(clean.own_accuracy));
        }
        let sent = row.outcomes[0].as_ref().map_or(0, |outcome| outcome.sent_bytes);
        let sent = if sent > 0 { bytes(sent) } else { "–".into() };
        line += &format!(" {sent:>10} {:>9.1}s", row.seconds);
        for attacked in &row.outcomes[1..] {
            line += &format!(" {:>11}", last(attacked).map_or("–".into(), |measured| percent(measured.accuracy)));
        }
        printer.text(line);
    }
}

fn drawn(args: &Args, rows: &[Row], attacks: &[AttackName]) -> String {
    let rounds = f64::from(args.rounds);
    let curve = |row: &Row, outcome: &Outcome| {
        let point = |measured: &simulate::Measured| [f64::from(measured.round), 100.0 * measured.accuracy];
        let mut points: Vec<[f64; 2]> = outcome.rounds.iter().map(point).collect();
        if let [[_, only]] = points[..] {
            points = vec![[0.0, only], [rounds, only]];
        }
        Curve { label: row.name.clone(), points }
    };
    let panel = |title: String, at: usize| Panel {
        title,
        x_label: "rounds".into(),
        y_label: "accuracy, %".into(),
        across: Across::Linear,
        scale: Scale::FromZero { top: 100.0 },
        curves: rows.iter().filter_map(|row| Some(curve(row, row.outcomes[at].as_ref()?))).collect(),
    };
    let clean = panel(format!("{} devices, alpha {}", args.devices, args.alpha), 0);
    let attacked = attacks
        .iter()
        .enumerate()
        .map(|(at, attack)| panel(format!("{}, {:.0} % poisoned", attack.name(), 100.0 * args.poisoned), at + 1));
    plot::svg(&std::iter::once(clean).chain(attacked).collect::<Vec<_>>())
}
