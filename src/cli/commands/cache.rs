//! `edgetune cache`: what is kept to save work, how much it may take, and getting rid of it.

use crate::cache::{self, Entry, Holds};
use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::{Printer, bytes};
use crate::recipe::amount_bytes;
use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::json;
use std::io::ErrorKind;
use std::path::Path;

/// Show, limit or clear what is kept to save work
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune cache show\n  edgetune cache limit 500MB\n  edgetune cache clear\n\nThe cache holds the weights \
                  of models, shared by all runs, and the features of samples, so that the frozen part of a model runs once for \
                  each. Nothing in it is needed: what is missing is computed again. Where the limit is reached, what was used \
                  longest ago gives way, but never what a running process uses."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what the cache holds and how much it may take
    #[command(after_help = "Example:\n  edgetune cache show --json")]
    Show,
    /// Remove everything that no running process uses
    #[command(after_help = "Example:\n  edgetune cache clear")]
    Clear,
    /// Set how much the cache may take
    #[command(after_help = "Examples:\n  edgetune cache limit 500MB\n  edgetune cache limit default")]
    Limit {
        /// A number with its unit, such as 500MB; or default: a tenth of the file system, at most 2 GB
        #[arg(value_name = "SIZE|default")]
        size: String,
    },
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let root = global.cache_root()?;
    match &args.action {
        Action::Show => show(&root, printer),
        Action::Clear => clear(&root, printer),
        Action::Limit { size } => {
            let set = if size == "default" { None } else { Some(amount_bytes("edgetune cache limit", size)?) };
            let remedy = || format!("{}: name a writable folder with --cache DIR", root.display());
            cache::set_limit(&root, set).with_context(remedy)?;
            show(&root, printer);
        }
    }
    Ok(Done::Fully)
}

/// What a folder is called: by the first digits of the model's hash.
fn name(entry: &Entry) -> String {
    entry.folder.file_name().unwrap_or_default().to_string_lossy().chars().take(16).collect()
}

fn word(holds: Holds) -> &'static str {
    match holds {
        Holds::Model => "model",
        Holds::Features => "features",
    }
}

/// Everything, used last first, with its limit.
fn show(root: &Path, printer: &Printer) {
    let (limit, taken, types) = (cache::limit(root), cache::taken_bytes(root), cache::types_bytes(root));
    let mut entries: Vec<_> = cache::entries(root).into_iter().map(|entry| (entry.in_use(), entry)).collect();
    entries.reverse();
    printer.document(&json!({
        "folder": root, "limit_bytes": limit.bytes, "limit_is_set": limit.is_set, "taken_bytes": taken,
        "types_bytes": types,
        "entries": entries.iter().map(|(in_use, entry)| json!({
            "holds": word(entry.holds), "folder": entry.folder, "bytes": entry.bytes, "in_use": in_use,
        })).collect::<Vec<_>>(),
    }));
    let how = if limit.is_set { "set by `edgetune cache limit`" } else { "a tenth of the file system, at most 2 GB" };
    printer.text(format!("folder    {}", root.display()));
    printer.text(format!("limit     {} ({how})", bytes(limit.bytes)));
    printer.text(format!("taken     {}", bytes(taken)));
    for (in_use, entry) in &entries {
        let in_use = if *in_use { ", in use" } else { "" };
        printer.text(format!("{:<9} {} {}{in_use}", word(entry.holds), name(entry), bytes(entry.bytes)));
    }
}

fn clear(root: &Path, printer: &Printer) {
    let before = cache::taken_bytes(root);
    let why = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock => "a running process uses it".into(),
        _ => error.to_string(),
    };
    let kept: Vec<_> = cache::clear(root).into_iter().map(|(entry, error)| (entry, why(error))).collect();
    let removed = before.saturating_sub(cache::taken_bytes(root));
    printer.document(&json!({
        "folder": root, "removed_bytes": removed,
        "kept": kept.iter().map(|(entry, _)| json!({ "folder": entry.folder, "bytes": entry.bytes })).collect::<Vec<_>>(),
    }));
    printer.text(format!("{}: {} removed", root.display(), bytes(removed)));
    for (entry, reason) in &kept {
        printer.text(format!("kept      {} {}: {reason}", word(entry.holds), name(entry)));
    }
}
