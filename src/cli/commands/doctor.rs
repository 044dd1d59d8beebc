//! `edgetune doctor`: is this machine ready, and what would stand in the way.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::{Printer, bytes};
use crate::engine;
use anyhow::{Result, bail};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// Check this machine: library, processor, memory, cache
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune doctor --json")]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    fine: bool,
    found: String,
    remedy: Option<String>,
}

pub fn run(_args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let findings = [library(global), processor(), memory(), cache(global)];
    printer.document(&findings);
    for finding in &findings {
        let mark = if finding.fine { "ok  " } else { "FAIL" };
        printer.text(format!("{mark}  {:<10} {}", finding.what, finding.found));
        if let Some(remedy) = &finding.remedy {
            printer.text(format!("      {:<10} → {remedy}", ""));
        }
    }
    if findings.iter().any(|finding| !finding.fine) {
        bail!("this machine is not ready; see the remedies above");
    }
    Ok(Done::Fully)
}

fn library(global: &Global) -> Finding {
    match engine::load(&global.choice()) {
        Ok(library) => Finding {
            what: "library",
            fine: true,
            found: format!(
                "ONNX Runtime {} at {} ({})",
                library.version,
                library.path.display(),
                library.providers.join(", ")
            ),
            remedy: None,
        },
        Err(error) => Finding {
            what: "library",
            fine: false,
            found: error.to_string(),
            remedy: Some("edgetune runtime install".into()),
        },
    }
}

fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Finding { what: "processor", fine: true, found: format!("{cores} cores, {}", std::env::consts::ARCH), remedy: None }
}

/// Private memory that a small run needs: ONNX Runtime, a small base and its activations.
const MEMORY_WANTED_BYTES: u64 = 256 << 20;

fn memory() -> Finding {
    let available = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    match available {
        Some(available) => Finding {
            what: "memory",
            fine: available >= MEMORY_WANTED_BYTES,
            found: format!("{} available", bytes(available)),
            remedy: (available < MEMORY_WANTED_BYTES)
                .then(|| "stop other programs, or train with a smaller --batch".into()),
        },
        None => Finding { what: "memory", fine: true, found: "unknown (no /proc/meminfo)".into(), remedy: None },
    }
}

fn cache(global: &Global) -> Finding {
    let root = match global.cache_root() {
        Ok(root) => root,
        Err(error) => {
            return Finding {
                what: "cache",
                fine: false,
                found: error.to_string(),
                remedy: Some("--cache DIR".into()),
            };
        }
    };
    match fs::create_dir_all(&root) {
        Ok(()) => Finding {
            what: "cache",
            fine: true,
            found: format!("{} in {} (may be deleted at any time)", bytes(folder_bytes(&root)), root.display()),
            remedy: None,
        },
        Err(error) => Finding {
            what: "cache",
            fine: false,
            found: format!("{}: {error}", root.display()),
            remedy: Some("name a writable folder with --cache DIR".into()),
        },
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
