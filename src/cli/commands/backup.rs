//! `edgetune-fleet backup` and `edgetune-fleet restore`: a server as files, and back.

use crate::amounts::counted;
use crate::cli::Done;
use crate::cli::membership::clock_ms;
use crate::cli::place::Place;
use crate::cli::print::Printer;
use crate::fleet::{self, Folder};
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Write all that a server knows to a folder, while it runs
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  edgetune-fleet backup /backups/2026-11-30 --data /var/lib/edgetune-fleet\n\nDatabase, adapters, deltas of open \
                  rounds, keys and certificate, all as they were at one moment; PostgreSQL and S3 by the options that the server is \
                  started with. Whoever has the folder can be the server: keep it as you keep keys."
)]
pub struct Backup {
    /// Where to: a folder that is missing or empty
    folder: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Make a server from a backup
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  edgetune-fleet restore /backups/2026-11-30 --data /var/lib/edgetune-fleet\n\nInto a new folder and an empty \
                  database; then start the server as before. It has a new epoch, so devices take its releases for newer than all \
                  that they have seen, and go on. What came after the backup is lost: devices that were enrolled since are enrolled \
                  again, and those that were revoked since have to be revoked again. End the old server before: two of one name \
                  would give out releases that contradict each other."
)]
pub struct Restore {
    /// The backup
    folder: PathBuf,
    #[command(flatten)]
    place: Place,
}

pub fn run(args: &Backup, printer: &Printer) -> Result<Done> {
    let Place { data, .. } = &args.place;
    ensure!(data.is_dir(), "{}: no such folder; name the server's with --data DIR", data.display());
    let (database, store) = (args.place.database(false), args.place.store(false)?);
    let place = fleet::Place { database: &database, store: &store };
    let made = fleet::back_up(data, &place, &args.folder, clock_ms())?;
    printer.document(&json!({ "folder": args.folder, "files": made.files.len(), "made_ms": made.made_ms }));
    printer.text(format!(
        "{}: {}; whoever has them can be the server",
        args.folder.display(),
        counted(made.files.len(), "file")
    ));
    Ok(Done::Fully)
}

pub fn restore(args: &Restore, printer: &Printer) -> Result<Done> {
    let folder = Folder::open(&args.place.data)?;
    let (database, store) = (args.place.database(true), args.place.store(false)?);
    let place = fleet::Place { database: &database, store: &store };
    let backup = fleet::restore(&args.folder, &folder, &place, clock_ms())?;
    let data = args.place.data.display();
    printer.document(&json!({ "data": args.place.data, "files": backup.files.len(), "made_ms": backup.made_ms }));
    printer.text(format!(
        "{data}: a server again, from {}; start it with --data {data}",
        counted(backup.files.len(), "file")
    ));
    Ok(Done::Fully)
}
