//! `edgetune delta`: sign, inspect, compare and combine deltas.

mod apply;
mod convert;
mod diff;
mod keygen;
mod merge;
mod show;
mod sign;
mod verify;

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::Printer;
use anyhow::Result;
use clap::Subcommand;

/// Sign, inspect, compare and combine deltas
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune delta keygen --out K.pem\n  edgetune delta sign A.edelta --key K.pem --out \
                  B.edelta\n  edgetune delta verify B.edelta --public K.pub.pem\n  edgetune delta show B.edelta"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Keygen(keygen::Args),
    Sign(sign::Args),
    Verify(verify::Args),
    Show(show::Args),
    Diff(diff::Args),
    Apply(apply::Args),
    Merge(merge::Args),
    Convert(Box<convert::Args>),
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    match &args.action {
        Action::Keygen(args) => keygen::run(args, printer),
        Action::Sign(args) => sign::run(args, printer),
        Action::Verify(args) => verify::run(args, printer),
        Action::Show(args) => show::run(args, printer),
        Action::Diff(args) => diff::run(args, printer),
        Action::Apply(args) => apply::run(args, global, printer),
        Action::Merge(args) => merge::run(args, printer),
        Action::Convert(args) => convert::run(args, global, printer),
    }?;
    Ok(Done::Fully)
}
