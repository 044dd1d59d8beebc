//! What `doctor` looks at: whether this machine is ready, and what would stand in the way.

use super::args::Global;
use super::print::bytes;
use crate::cache::{free_bytes, limit};
use crate::engine;
use crate::host::available_bytes;
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What it is.
    pub what: &'static str,
    /// Whether it is as it should be.
    pub fine: bool,
    /// What was found.
    pub found: String,
    /// What to do, where it is not fine.
    pub remedy: Option<String>,
}

/// Private memory that a small run needs: ONNX Runtime, a small base and its activations.
const MEMORY_WANTED_BYTES: u64 = 256 << 20;
/// Space for the bundle and features of a small run.
const SPACE_WANTED_BYTES: u64 = 512 << 20;
/// The C library that ONNX Runtime's wheels need.
const GLIBC_WANTED: (u32, u32) = (2, 28);

/// Checks the machine: the library, its C library, processor, memory and cache.
pub fn check_machine(global: &Global) -> Vec<Finding> {
    vec![library(global), c_library(), processor(), memory(), cache(global)]
}

fn fine(what: &'static str, found: String) -> Finding {
    Finding { what, fine: true, found, remedy: None }
}

fn wrong(what: &'static str, found: String, remedy: &str) -> Finding {
    Finding { what, fine: false, found, remedy: Some(remedy.into()) }
}

fn library(global: &Global) -> Finding {
    match engine::load(&global.choice()) {
        Ok(library) => {
            let (version, path, providers) = (&library.version, library.path.display(), library.providers.join(", "));
            fine("library", format!("ONNX Runtime {version} at {path} ({providers})"))
        }
        Err(error) => wrong("library", error.to_string(), "edgetune runtime install"),
    }
}

/// The version that the C library's own tool tells; without the tool nothing is known, which is no fault.
fn c_library() -> Finding {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok();
    let text = output.filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_string();
    let version = text.strip_prefix("glibc ").and_then(|version| {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.split('.').next()?.parse::<u32>().ok()?))
    });
    match version {
        Some(version) if version < GLIBC_WANTED => {
            let remedy = "name an ONNX Runtime that was built for this system with --onnxruntime, or update the system";
            let (major, minor) = GLIBC_WANTED;
            wrong("c library", format!("{text}; wheels of ONNX Runtime need {major}.{minor}"), remedy)
        }
        Some(_) => fine("c library", text),
        None => fine("c library", "unknown (no glibc, or no getconf)".into()),
    }
}

fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    fine("processor", format!("{cores} cores, {}", std::env::consts::ARCH))
}

fn memory() -> Finding {
    match available_bytes(Path::new("/")) {
        Some(available) if available < MEMORY_WANTED_BYTES => {
            let remedy = "stop other programs, or train with a smaller --batch";
            wrong("memory", format!("{} available", bytes(available)), remedy)
        }
        Some(available) => fine("memory", format!("{} available", bytes(available))),
        None => fine("memory", "unknown (no /proc/meminfo)".into()),
    }
}

fn cache(global: &Global) -> Finding {
    const REMEDY: &str = "name a writable folder with --cache DIR";
    let root = match global.cache_root() {
        Ok(root) => root,
        Err(error) => return wrong("cache", error.to_string(), REMEDY),
    };
    let free = fs::create_dir_all(&root)
        .and_then(|()| crate::atomic::probe(&root.join("probe")))
        .and_then(|()| free_bytes(&root));
    match free {
        Ok(free) => {
            let (used, limit, place) = (bytes(folder_bytes(&root)), bytes(limit(&root).bytes), root.display());
            let found = format!("{used} of at most {limit} in {place}, {} free; see `edgetune cache`", bytes(free));
            match free < SPACE_WANTED_BYTES {
                true => wrong("cache", found, "free some space, or name a folder on another disk with --cache DIR"),
                false => fine("cache", found),
            }
        }
        Err(error) => wrong("cache", format!("{}: {error}", root.display()), REMEDY),
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
