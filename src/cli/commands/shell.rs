//! `edgetune completions` and `edgetune man`: what a package installs beside the program.

use crate::cli::{Cli, Done};
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::stdout;
use std::path::PathBuf;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune completions bash > ~/.local/share/bash-completion/completions/edgetune")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Print the manual page, or write one for each command into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  edgetune man | man -l -\n  edgetune man --out ~/.local/share/man/man1")]
pub struct Man {
    /// The folder for one page a command
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn completions(args: &Completions) -> Result<Done> {
    clap_complete::generate(args.shell, &mut Cli::command(), "edgetune", &mut stdout());
    Ok(Done::Fully)
}

pub fn man(args: &Man) -> Result<Done> {
    match &args.out {
        Some(folder) => clap_mangen::generate_to(Cli::command(), folder)?,
        None => clap_mangen::Man::new(Cli::command()).render(&mut stdout())?,
    }
    Ok(Done::Fully)
}
