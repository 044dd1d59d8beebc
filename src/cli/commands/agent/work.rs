//! `edgetune agent work`: does what the service asks for over standard input, in a process of its own.
//!
//! Each request is the command that a person would type for the same, with the request's values in the place of options: what is not
//! said there is as if nobody had typed it. What it prints, and where, is told in [`Request`].

use crate::agent::work::request::{HeldOut, HeldOutClass, Request, Training};
use crate::cli::args::{Compute, Global};
use crate::cli::commands::{predict, train};
use crate::cli::print::Printer;
use crate::cli::{Done, answering, sifting};
use crate::learn::checkpoint_path;
use crate::predict::Prediction;
use crate::priority;
use crate::recipe::Recipe;
use anyhow::{Context, Result};
use clap::{Args, Command};
use std::ffi::OsStr;
use std::io;
use std::path::Path;

pub fn run(global: &Global, printer: &Printer) -> Result<Done> {
    let request = Request::receive(&mut io::stdin().lock()).context("what is to be done")?;
    if matches!(request, Request::Train(_) | Request::Predict { .. }) {
        // Somebody waits for the others: for an answer, or to hear what is wrong with a recipe.
        priority::stand_back();
    }
    let answers = Printer::new(true);
    match request {
        Request::Train(training) => train::run(&train_args(training)?, global, printer),
        Request::Predict { recipe, adapter, base, samples } => {
            let args = predict_args(&recipe, &adapter, &samples, base)?;
            let Some(predictions) = predict::of_adapter(&args, global, &answers)? else {
                return Ok(Done::Interrupted);
            };
            answers.document(&predictions.into_iter().map(held_out).collect::<Vec<_>>());
            Ok(Done::Fully)
        }
        Request::Sift { recipe, samples } => {
            answers.document(&sifting::sift(&recipe, &samples, &Compute::default(), global)?);
            Ok(Done::Fully)
        }
        Request::Check { recipe } => sifting::check(&recipe, global),
        Request::Answer { recipe, adapter } => answering::answer(&recipe, &adapter, global),
    }
}

/// The options of a command of which somebody has typed nothing but its positional arguments: what the environment says counts, too.
fn typed<A: Args>(name: &'static str, positional: &[&OsStr]) -> Result<A> {
    let command = A::augment_args(Command::new(name).no_binary_name(true));
    let arguments = std::iter::once(OsStr::new("--")).chain(positional.iter().copied());
    Ok(A::from_arg_matches(&command.try_get_matches_from(arguments)?)?)
}

fn train_args(training: Training) -> Result<train::Args> {
    let Training { recipe, data, out, from, round } = training;
    let read = Recipe::read(&recipe)?;
    // Only gradient steps go on from values; the other solvers find theirs anew.
    let from = from.filter(|_| !read.closed_form());
    // A plan may choose differently now, so it begins anew, with the features that it has; a delta to go on from has no plan.
    let plans = from.is_none() && read.train.iter().any(|text| text == "auto");
    let mut args: train::Args = typed("train", &[recipe.as_os_str()])?;
    args.resume = checkpoint_path(&out).exists() && !plans;
    // One that has changed since it was taken is set aside, and so told; left out in silence it would be of no use for ever.
    args.no_skip = true;
    args.out = out;
    args.recipe.from = from;
    args.recipe.data = Some(data);
    args.recipe.delta.round = round.or(args.recipe.delta.round);
    Ok(args)
}

fn predict_args(recipe: &Path, adapter: &Path, samples: &Path, base: bool) -> Result<predict::Args> {
    let read = Recipe::read(recipe)?;
    let model = sifting::model_of(recipe, &read)?;
    let mut args: predict::Args = typed("predict", &[model.as_os_str(), samples.as_os_str()])?;
    args.adapter = Some(adapter.into());
    args.untrained = base;
    args.no_skip = true;
    args.reading.tokenizer = read.samples.tokenizer;
    Ok(args)
}

fn held_out(Prediction { input, answer, .. }: Prediction) -> HeldOut {
    let classes = answer.classes.into_iter().map(|class| HeldOutClass {
        name: class.name,
        probability: Some(class.probability).filter(|probability| probability.is_finite()),
    });
    HeldOut { input, classes: classes.collect() }
}
