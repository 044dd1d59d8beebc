//! `edgetune fleet report`.

use crate::cli::args::Global;
use crate::cli::membership::{Patience, State};
use crate::cli::print::Printer;
use crate::sync::client::{Client, Error, deliver_reports, keep_report};
use crate::sync::wire;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::json;

/// Tell the fleet what became of the release that was pulled last
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune fleet report activated --channel photos --accuracy 0.81 0.86\n  edgetune fleet report \
                  failed --channel photos\n\nThe accuracies are parts from 0 to 1 of this device's held-out samples, before and \
                  with the release. What cannot be told now waits on the disk for the next `edgetune fleet report` or `sync`."
)]
pub struct Args {
    /// What the device makes of it
    #[arg(value_enum)]
    verdict: ReportedVerdict,
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: String,
    /// Accuracy before and with the release, from 0 to 1
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"])]
    accuracy: Option<Vec<f32>>,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    patience: Patience,
}

/// What a device makes of a release.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReportedVerdict {
    /// It is in use
    Activated,
    /// What was learned here stays in use, which says nothing of the release
    Kept,
    /// It was worse than what is in use
    Rejected,
    /// It could not be tried
    Failed,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    Error::unless_channel(&args.channel)?;
    let channel = args.channel.clone();
    let folder = args.state.open(global)?;
    let _lock = folder.lock()?;
    let taken = folder.seen()?.0.remove(&channel);
    let none = || format!("channel `{channel}`: nothing was pulled; edgetune fleet pull --channel {channel}");
    let release = taken.with_context(none)?.release;
    let number = release.number();
    let verdict = match args.verdict {
        ReportedVerdict::Activated => wire::ReleaseVerdict::Activated,
        ReportedVerdict::Kept => wire::ReleaseVerdict::Kept,
        ReportedVerdict::Rejected => wire::ReleaseVerdict::Rejected,
        ReportedVerdict::Failed => wire::ReleaseVerdict::Failed,
    };
    let accuracy = args.accuracy.as_deref().and_then(|both| <[f32; 2]>::try_from(both).ok());
    let is_part = |value: &f32| (0.0..=1.0).contains(value);
    ensure!(accuracy.iter().flatten().all(is_part), "--accuracy: write two parts from 0 to 1, such as 0.81 0.86");
    let told = wire::ReleaseReport { channel, epoch: number.epoch, version: number.version, verdict, accuracy };
    keep_report(&folder.reports(), &told)?;
    let mut refused = Ok(());
    deliver_reports(&mut Client::open(&folder, args.patience.outside())?, &folder.reports(), &mut |reported, done| {
        if reported == told.channel {
            refused = done;
        }
    })?;
    refused?;
    printer.document(&json!(told));
    printer.text(format!("{}: reported on release {number}", told.channel));
    Ok(())
}
