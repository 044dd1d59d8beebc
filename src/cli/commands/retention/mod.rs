//! `edgetune retention`: what a base knows, as a file that trainings keep it by.

mod make;

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::Printer;
use anyhow::Result;
use clap::Subcommand;

/// Write down what a base knows, so that trainings keep it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune retention make model.onnx --data known/ --out base.retention\n  edgetune train model.onnx --data new/ \
                  --retention base.retention --keep-base 0.05 --out A.edelta"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Make(Box<make::Args>),
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    match &args.action {
        Action::Make(args) => make::run(args, global, printer),
    }
}
