//! `completions` and `man` of both programs: what a package installs beside them.

use crate::cli::Done;
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use anyhow::{Context, Result};
use clap_complete::Shell;
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
    #[command(flatten)]
    replacing: Replacing,
}

pub fn completions(args: &Completions, mut program: clap::Command, printer: &Printer) -> Result<Done> {
    let mut script = Vec::new();
    let name = program.get_name().to_owned();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    printer.raw(&script);
    Ok(Done::Fully)
}

pub fn man(args: &Man, program: clap::Command, printer: &Printer) -> Result<Done> {
    match &args.out {
        Some(folder) => {
            let pages = pages(&program).into_iter().map(|page| folder.join(page)).collect::<Vec<_>>();
            Files::default().writes("--out", &pages, Kind::ManualPage).check(args.replacing)?;
            clap_mangen::generate_to(program, folder).with_context(|| {
                format!("--out {}: cannot write the pages; name a folder that exists and is writable", folder.display())
            })?
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(program).render(&mut page)?;
            printer.raw(&page);
        }
    }
    Ok(Done::Fully)
}

/// The names of the pages that `clap_mangen::generate_to` writes.
fn pages(program: &clap::Command) -> Vec<String> {
    fn collect(command: &clap::Command, pages: &mut Vec<String>) {
        pages.push(clap_mangen::Man::new(command.clone()).get_filename());
        command.get_subcommands().filter(|inner| !inner.is_hide_set()).for_each(|inner| collect(inner, pages));
    }
    let mut program = program.clone().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    collect(&program, &mut pages);
    pages
}
