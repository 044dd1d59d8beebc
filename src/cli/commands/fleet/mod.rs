//! `edgetune fleet`: this device in a fleet.

mod enroll;
mod pull;
mod push;
mod report;
mod status;
mod sync;

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::Printer;
use anyhow::Result;
use clap::Subcommand;

/// Take part in a fleet: send what was learned, take what is released
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune fleet enroll https://fleet.example:8443 --token-file token --ca tls.crt\n  edgetune fleet push \
                  A.edelta --channel photos\n  edgetune fleet pull --channel photos --out B.edelta\n  edgetune fleet \
                  status\n\nThe server is `edgetune-fleet serve`. Whatever fails for the line or the server's load is tried \
                  again a few times, at growing and random intervals."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Enroll(enroll::Args),
    Push(push::Args),
    Pull(pull::Args),
    Report(report::Args),
    Sync(sync::Args),
    Status(status::Args),
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    match &args.action {
        Action::Enroll(args) => enroll::run(args, global, printer),
        Action::Push(args) => push::run(args, global, printer),
        Action::Pull(args) => pull::run(args, global, printer),
        Action::Report(args) => report::run(args, global, printer),
        Action::Sync(args) => sync::run(args, global, printer),
        Action::Status(args) => status::run(args, global, printer),
    }?;
    Ok(Done::Fully)
}
