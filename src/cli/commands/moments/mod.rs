//! `edgetune moments`: sums of features that are added, taken away and put together exactly, and the heads that they give.

mod add;
mod basis;
mod known;
mod merge;
mod remove;
mod show;
mod solve;
mod verify;

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::Printer;
use anyhow::Result;
use clap::Subcommand;

/// Sum up samples once, then add, remove, merge and solve for a head
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune moments add model.onnx --data monday/ --out A.emoments\n  edgetune moments add model.onnx \
                  --data tuesday/ --to A.emoments --out B.emoments\n  edgetune moments solve B.emoments --model model.onnx --out \
                  H.edelta\n  edgetune predict model.onnx --adapter H.edelta photo.jpg\n\nMoments are sums over samples of what a linear \
                  head needs to know of them, as integers: a file of a few kilobytes, whatever the number of samples. Sums do not depend on \
                  order: what is added on one device or on many gives the same file, and what is removed leaves the file that would be \
                  there without it, to the bit. A new class is added without the samples of the others."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Add(Box<add::Args>),
    Merge(merge::Args),
    Remove(Box<remove::Args>),
    Solve(Box<solve::Args>),
    Known(Box<known::Args>),
    Show(show::Args),
    Verify(verify::Args),
    Basis(Box<basis::Args>),
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    match &args.action {
        Action::Add(args) => add::run(args, global, printer),
        Action::Merge(args) => merge::run(args, printer),
        Action::Remove(args) => remove::run(args, global, printer),
        Action::Solve(args) => solve::run(args, global, printer),
        Action::Known(args) => known::run(args, global, printer),
        Action::Show(args) => show::run(args, printer),
        Action::Verify(args) => verify::run(args, printer),
        Action::Basis(args) => basis::run(args, global, printer),
    }
}
