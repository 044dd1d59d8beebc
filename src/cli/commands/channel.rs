//! `edgetune-fleet channel` and `edgetune-fleet token`: what operators do at a terminal.

use crate::cli::Done;
use crate::cli::deltas;
use crate::cli::print::Printer;
use crate::fleet::Folder;
use crate::sync::client::Operator;
use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Make a channel, publish a release, close a round
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune-fleet channel create photos --from A.edelta\n  edgetune-fleet channel release photos --from \
                  B.edelta\n  edgetune-fleet channel close photos\n\nThe server must run. Where it listens, its certificate and the \
                  operator's token are read from its folder (--data)."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Box<Create>),
    Release(Release),
    Close(Close),
}

/// The server, and who asks it.
#[derive(Debug, clap::Args)]
struct Console {
    /// The server's folder
    #[arg(long, value_name = "DIR", default_value = "/var/lib/edgetune-fleet", help_heading = "Server")]
    data: PathBuf,
    /// Its address, https://HOST:PORT [default: where the server of --data listens]
    #[arg(long, value_name = "URL", help_heading = "Server")]
    server: Option<String>,
    /// The operator's token [default: DIR/operator.token]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    token_file: Option<PathBuf>,
    /// Trust a server whose certificate is from this one (PEM) [default: DIR/tls.crt where there is one, else the public authorities]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    ca: Option<PathBuf>,
}

impl Console {
    fn operator(&self) -> Result<Operator> {
        let none = || {
            let lock = self.data.join("lock");
            format!(
                "{}: it does not say where a server listens; start `edgetune-fleet serve`, or give --server URL",
                lock.display()
            )
        };
        let url = self.server.clone().or_else(|| Folder::address(&self.data)).with_context(none)?;
        let token = self.token_file.clone().unwrap_or_else(|| self.data.join("operator.token"));
        let remedy = || {
            format!(
                "{}: name the server's folder with --data DIR, or the token's file with --token-file",
                token.display()
            )
        };
        let token = std::fs::read_to_string(&token).with_context(remedy)?;
        let own = self.data.join("tls.crt");
        let ca = self.ca.clone().or_else(|| own.exists().then_some(own));
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
        Ok(Operator::new(&url, ca.as_ref().map(read).transpose()?.as_deref(), &token)?)
    }
}

/// Make a channel: what devices of one kind learn together
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune-fleet channel create photos --from A.edelta\n  edgetune-fleet channel create photos --from \
                  A.edelta --rule median,clip --stages 10,100\n\nThe channel begins with the adapter of --from, which the server signs \
                  itself; devices send deltas of the same base, classes and tensors."
)]
struct Create {
    /// What it is called
    name: String,
    /// The adapter that its devices begin with: a file that `edgetune train` has written
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// How deltas are combined: mean, median or trimmed:PART, with `,clip` for a bound of the norms [default: trimmed:0.2,clip]
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Shares of the devices that get a release, one after another, in per cent [default: 5,25,100]
    #[arg(long, value_name = "PARTS")]
    stages: Option<String>,
    /// Seconds that a stage lasts at least [default: 3600]
    #[arg(long, value_name = "S")]
    stage_s: Option<u32>,
    /// Devices that must have reported before the next stage begins, where as many have the release [default: 20]
    #[arg(long, value_name = "N")]
    stage_reports: Option<u32>,
    /// Share of the devices that may refuse a release without it being halted, from 0 to below 1 [default: 0.25]
    #[arg(long, value_name = "SHARE")]
    tolerated: Option<f64>,
    #[command(flatten)]
    console: Console,
}

/// Publish an adapter as a channel's next release, which is rolled out stage by stage
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune-fleet channel release photos --from B.edelta")]
struct Release {
    /// The channel
    name: String,
    /// The adapter, as `edgetune train` writes it
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    console: Console,
}

/// Close a channel's round: its deltas are combined into the next release
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune-fleet channel close photos")]
struct Close {
    /// The channel
    name: String,
    #[command(flatten)]
    console: Console,
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    match &args.action {
        Action::Create(args) => create(args, printer),
        Action::Release(args) => {
            let delta = deltas::File::read(&args.from)?;
            delta.parsed()?;
            args.console.operator()?.ask("POST", &["channels", &args.name, "release"], &[], &delta.bytes)?;
            printer.document(&json!({ "channel": args.name, "bytes": delta.bytes.len() }));
            printer.text(format!("{}: published, and on its way to the first devices", args.name));
            Ok(())
        }
        Action::Close(args) => {
            args.console.operator()?.ask("POST", &["channels", &args.name, "close"], &[], b"")?;
            printer.document(&json!({ "channel": args.name }));
            printer.text(format!("{}: the round is closed, and is being combined", args.name));
            Ok(())
        }
    }?;
    Ok(Done::Fully)
}

fn create(args: &Create, printer: &Printer) -> Result<()> {
    let delta = deltas::File::read(&args.from)?;
    delta.parsed()?;
    let given = [
        ("rule", args.rule.clone()),
        ("stages", args.stages.clone()),
        ("stage_s", args.stage_s.map(|seconds| seconds.to_string())),
        ("stage_reports", args.stage_reports.map(|reports| reports.to_string())),
        ("tolerated", args.tolerated.map(|share| share.to_string())),
    ];
    let query: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let operator = args.console.operator()?;
    let made = operator.ask("POST", &["channels", &args.name], &query, &delta.bytes)?;
    let made: Value = serde_json::from_slice(&made).context("the server's answer")?;
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    printer.document(&made);
    printer.text(format!("{}: made, at {}", text("name"), operator.url()));
    printer.text(format!("base      {}", text("base")));
    printer.text(format!("combined  by {}", text("rule")));
    printer.text(format!("devices   edgetune fleet pull --channel {:?}", text("name")));
    Ok(())
}

/// Make a one-time token for a device
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune-fleet token\n  edgetune-fleet token hall-3\n\nIt is good for one device and one day; the server \
                  keeps its hash alone. With a name it is for a device of that name, which may take the place of the one that has it: \
                  edgetune fleet enroll … --name hall-3 --replace"
)]
pub struct Token {
    /// What the device is to be called [default: whatever it calls itself, if that is free]
    name: Option<String>,
    #[command(flatten)]
    console: Console,
}

pub fn token(args: &Token, printer: &Printer) -> Result<Done> {
    let query: Vec<_> = args.name.iter().map(|name| ("name", name.clone())).collect();
    let operator = args.console.operator()?;
    let made: Value =
        serde_json::from_slice(&operator.ask("POST", &["tokens"], &query, b"")?).context("the server's answer")?;
    printer.document(&made);
    printer.text(made["token"].as_str().context("the server's answer has no token")?);
    Ok(Done::Fully)
}
