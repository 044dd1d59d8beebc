//! `edgetune agent`: the service, and what a person asks about it.

use crate::agent::adapters::{self, Event};
use crate::agent::api::listen::Socket;
use crate::agent::config::Config;
use crate::agent::gate::Accepted;
use crate::agent::member;
use crate::agent::notify::Notifier;
use crate::agent::samples::{SIDES, count};
use crate::agent::service::{Moment, World, serve};
use crate::agent::training;
use crate::cache;
use crate::cli::Done;
use crate::cli::answering;
use crate::cli::args::{Compute, Global};
use crate::cli::measure::available_bytes;
use crate::cli::print::{Printer, percent};
use crate::cli::stop::{flag_on_hangup, flag_on_signals, terminate};
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use jiff::{Timestamp, Zoned};
use listenfd::ListenFd;
use serde_json::json;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Collect samples, train when the device has time, and use what is better
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  edgetune agent run --config edgetune.toml\n  edgetune agent status\n  edgetune agent rollback\n\nA \
                  sample is a photograph, a text or a NumPy array (samples.kind) that appears by rename as \
                  SPOOL/<class>/<file>; it is durable once it is gone from there. Applications use STATE/active.edelta."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/edgetune/edgetune.toml", global = true)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve until SIGTERM; SIGHUP reads the configuration again
    #[command(
        after_help = "Example:\n  edgetune agent run --config edgetune.toml\n\nWith [api] listen = \"127.0.0.1:7411\":\n  \
                      curl --data-binary @cat.jpg 'http://127.0.0.1:7411/samples?label=cat'\n  \
                      curl --data-binary @photo.jpg http://127.0.0.1:7411/predict\n  \
                      curl --data '{\"id\": \"…\", \"label\": \"dog\"}' http://127.0.0.1:7411/feedback\n  \
                      curl http://127.0.0.1:7411/status"
    )]
    Run {
        /// Megabytes that may be written in 24 hours; then training waits [default: storage.flash-budget-mb-per-day]
        #[arg(long, value_name = "MB")]
        flash_budget: Option<u64>,
    },
    /// Predict for the service, over a pipe
    #[command(hide = true)]
    Predictor {
        model: PathBuf,
        adapter: PathBuf,
        #[arg(long)]
        tokenizer: Option<PathBuf>,
        #[command(flatten)]
        compute: Compute,
    },
    /// Samples, the adapter in use, and a training in progress
    #[command(after_help = "Example:\n  edgetune agent status --json")]
    Status,
    /// What was trained, judged and put to use, from the first
    #[command(after_help = "Example:\n  edgetune agent history --config edgetune.toml")]
    History,
    /// Put the adapter to use that was in use before
    #[command(after_help = "Example:\n  edgetune agent rollback")]
    Rollback,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    match &args.action {
        Action::Run { flash_budget } => run_service(&args.config, *flash_budget),
        Action::Predictor { model, adapter, tokenizer, compute } => {
            answering::answer((model, adapter, tokenizer.as_deref()), compute, global)
        }
        Action::Status => status(&Config::read(&args.config)?, printer),
        Action::History => history(&Config::read(&args.config)?, printer),
        Action::Rollback => rollback(&Config::read(&args.config)?, printer),
    }
}

/// Sockets that the service manager holds (sd_listen_fds(3)). Processes that are started from here do not get them.
fn sockets_of_manager() -> Result<Vec<Socket>> {
    let mut held = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..held.len() {
        let socket = match held.take_unix_listener(index) {
            Ok(socket) => socket.map(Socket::Unix),
            Err(_) => held.take_tcp_listener(index).context("a socket of the service manager's")?.map(Socket::Tcp),
        };
        if let Some(socket) = &socket {
            let descriptor = match socket {
                Socket::Unix(socket) => socket.as_fd(),
                Socket::Tcp(socket) => socket.as_fd(),
            };
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
        }
        sockets.extend(socket);
    }
    Ok(sockets)
}

fn run_service(config: &Path, flash_budget_mb: Option<u64>) -> Result<Done> {
    let began = Instant::now();
    let world = World {
        program: std::env::current_exe()?,
        root: PathBuf::from("/"),
        now: &|| {
            let now = Zoned::now();
            Moment {
                unix_s: now.timestamp().as_second(),
                minute_of_day: now.hour() as u16 * 60 + now.minute() as u16,
                steady_s: began.elapsed().as_secs_f64(),
            }
        },
        memory_free: &|| available_bytes(Path::new("/")),
        disk_free: &|folder| cache::free_bytes(folder).ok(),
        chance: &fastrand::f64,
        terminate: &terminate,
        stop: &*flag_on_signals()?,
        reload: &*flag_on_hangup()?,
        notifier: Notifier::new(std::env::var("NOTIFY_SOCKET").ok().as_deref())?,
        flash_budget_mb,
    };
    serve(config, &world, sockets_of_manager()?)?;
    Ok(Done::Fully)
}

fn status(config: &Config, printer: &Printer) -> Result<Done> {
    let state = &config.state;
    let [(train, classes), (held_out, _)] = [count(state, SIDES[0])?, count(state, SIDES[1])?];
    let (active, run, history) = (adapters::active(state)?, training::current(state)?, adapters::history(state)?);
    let fleet =
        config.fleet.as_ref().map(|fleet| Ok::<_, anyhow::Error>((fleet, member::offer(fleet)?))).transpose()?;
    let fleet = fleet.map(|(fleet, offer)| {
        let release = offer.map(|offer| offer.release.version);
        let last = member::last(&history, &fleet.channel).filter(|(version, _)| release == Some(*version));
        (fleet.channel.clone(), release, last.map(|(_, accepted)| accepted))
    });
    printer.document(&json!({
        "fleet": fleet.as_ref().map(|(channel, release, became)| json!({
            "channel": channel, "release": release, "tried": became.is_some(), "accepted": became.flatten(),
        })),
        "samples": { "train": train, "held_out": held_out, "classes": classes },
        "active": active, "training": run, "last": history.last(),
    }));
    printer.text(format!("samples   {train} to train, {held_out} held out, {} classes", classes.len()));
    printer.text(format!("adapter   {}", active.as_deref().unwrap_or("none yet")));
    if let Some(run) = run {
        printer.text(format!("training  on {} samples, since {}", run.samples, time(run.began)));
    }
    if let Some((channel, release, became)) = fleet {
        let release = release.map_or("no release heard of yet".into(), |version| format!("release {version}"));
        let became = match became {
            None => "",
            Some(Some(Accepted::Activated)) => ", put to use",
            Some(Some(Accepted::Kept)) => ", not put to use: what was learned here is better",
            Some(Some(Accepted::Rejected)) => ", refused: it is worse here",
            Some(None) => ", which could not be tried",
        };
        printer.text(format!("fleet     {channel}: {release}{became}"));
    }
    if let Some(event) = history.last() {
        printer.text(format!("last      {}", line(event)));
    }
    Ok(Done::Fully)
}

fn history(config: &Config, printer: &Printer) -> Result<Done> {
    let events = adapters::history(&config.state)?;
    printer.document(&events);
    events.iter().for_each(|event| printer.text(line(event)));
    Ok(Done::Fully)
}

fn rollback(config: &Config, printer: &Printer) -> Result<Done> {
    let state = &config.state;
    let Some(previous) = adapters::previous(state)? else {
        bail!("{}: no adapter was in use before; `edgetune agent history` tells what was", state.display());
    };
    let before = adapters::activate(state, &previous, "rollback", Timestamp::now().as_second())?;
    printer.document(&json!({ "active": previous, "before": before }));
    printer.text(format!("adapter {previous} is in use again, in place of {}", before.unwrap_or_default()));
    Ok(Done::Fully)
}

fn time(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |time| time.to_string())
}

fn line(event: &Event) -> String {
    let what = match event {
        Event::Trained { seconds, .. } => format!("trained for {seconds} s"),
        Event::Judged { adapter, against, samples, verdict, release, accepted, .. } => {
            let counted = verdict.counted;
            let outcome = match (release, accepted) {
                (Some(release), Some(accepted)) => {
                    let outcome = match accepted {
                        Accepted::Activated => "is taken in place of",
                        Accepted::Kept => "does not take the place of",
                        Accepted::Rejected => "is worse than",
                    };
                    format!("release {} of {}, adapter {adapter}, {outcome}", release.version, release.channel)
                }
                _ => {
                    let outcome = if verdict.better { "better" } else { "not better" };
                    format!("adapter {adapter}, of {samples} samples, is {outcome} than")
                }
            };
            format!(
                "{outcome} {against}: right alone on {}, wrong alone on {} \
                 of {} held-out samples ({} more, chance {:.4})",
                counted.wins,
                counted.losses,
                counted.samples(),
                percent(counted.gain()),
                verdict.p
            )
        }
        Event::Activated { adapter, before, by, reason, .. } => {
            let instead = before.as_ref().map_or(String::new(), |before| format!(" in place of {before}"));
            let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            format!("adapter {adapter} in use{instead}, by {by}{reason}")
        }
        Event::Failed { reason, release: Some(release), .. } => {
            format!("release {} of {} could not be tried: {reason}", release.version, release.channel)
        }
        Event::Failed { samples, reason, .. } => format!("a training of {samples} samples failed: {reason}"),
    };
    format!("{}  {what}", time(event.at()))
}
