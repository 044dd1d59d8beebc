//! `edgetune runtime`: which ONNX Runtime is used, and getting one.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::{Printer, bytes};
use crate::engine;
use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;

/// Find or install the ONNX Runtime library
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  edgetune runtime which\n  edgetune runtime install\n  edgetune --onnxruntime \
                  /opt/libonnxruntime.so runtime which")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the library that is used, its version, build and providers
    #[command(after_help = "Example:\n  edgetune runtime which --json")]
    Which,
    /// Take the library out of the Python wheel, through pip, into edgetune's data folder
    #[command(after_help = "Examples:\n  edgetune runtime install\n  edgetune runtime install --wheel \
                            onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_aarch64.whl")]
    Install {
        /// Version to install [default: the one this edgetune was tested with]
        #[arg(long, value_name = "X.Y.Z")]
        version: Option<String>,
        /// Take this wheel, copied from another machine, instead of downloading one; its SHA-256 must be a known one
        #[arg(long, value_name = "FILE", conflicts_with = "version")]
        wheel: Option<PathBuf>,
    },
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let choice = global.choice();
    match &args.action {
        Action::Which => {
            let library = engine::load(&choice)?;
            printer.document(&json!({
                "path": library.path, "version": library.version, "origin": library.origin.to_string(),
                "build_info": library.build_info, "providers": library.providers,
                "passed_over": library.passed_over,
            }));
            printer.text(format!("library    {}", library.path.display()));
            printer.text(format!("version    {} ({})", library.version, library.origin));
            printer.text(format!("providers  {}", library.providers.join(", ")));
            printer.text(format!("build      {}", library.build_info));
            for (path, reason) in &library.passed_over {
                printer.text(format!("passed by  {}: {reason}", path.display()));
            }
        }
        Action::Install { version, wheel } => {
            let install = || match wheel {
                Some(file) => engine::install_wheel(&choice, file, &mut printer.installing()),
                None => engine::install(&choice, version.as_deref(), &mut printer.installing()),
            };
            let installed = printer.during("installing ONNX Runtime", install)?;
            printer.document(&json!({
                "path": installed.path, "version": installed.version, "size_bytes": installed.size_bytes,
            }));
            let size = bytes(installed.size_bytes);
            printer.text(format!(
                "installed ONNX Runtime {} ({size}): {}",
                installed.version,
                installed.path.display()
            ));
        }
    }
    Ok(Done::Fully)
}
