//! `edgetune agent`: the service, and what a person asks about it.

mod change;
pub(super) mod history;
pub(super) mod status;
pub(super) mod stored;
mod work;

use crate::agent::api::listen::Socket;
use crate::agent::config::Config;
use crate::agent::moment::Moment;
use crate::agent::service::notify::Notifier;
use crate::agent::service::{World, serve};
use crate::cache;
use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::Printer;
use crate::cli::sifting;
use crate::cli::stop::{flag_on_hangup, flag_on_signals, terminate};
use crate::host::available_bytes;
use anyhow::{Context, Result};
use clap::{Args as ClapArgs, Subcommand};
use jiff::Zoned;
use listenfd::ListenFd;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Collect samples, train when the device has time, and use what is better
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  edgetune agent run --config edgetune.toml\n  edgetune agent status\n  edgetune agent rollback\n\nA \
                  sample is a photograph, a sound, a text, a window of a sensor series or a NumPy array (samples.kind) that appears by rename as \
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
    /// Do what the service asks for over standard input
    #[command(hide = true)]
    Work,
    /// Samples, what training waits for in numbers, the adapter in use, and a training in progress
    #[command(after_help = "Example:\n  edgetune agent status --json")]
    Status,
    /// Show what was trained, judged and put to use, oldest first
    #[command(after_help = "Example:\n  edgetune agent history --config edgetune.toml")]
    History,
    /// Train soon, without waiting for new samples
    #[command(
        after_help = "Examples:\n  edgetune agent train\n  edgetune agent train --now\n\nThe service does it. Heat, memory and disk still count, \
                      and the new adapter is used only if it is better; `edgetune agent accept` uses it all the same."
    )]
    Train {
        /// Do not wait for the hours, the load, the battery, the day's budgets or the usual number of held-out samples
        #[arg(long)]
        now: bool,
    },
    /// Use an adapter although it was not found to be better
    #[command(after_help = "Example:\n  edgetune agent accept\n\n`edgetune agent history` names the adapters.")]
    Accept {
        /// The adapter [default: the last one that was judged]
        adapter: Option<String>,
    },
    /// Use the adapter that was in use before; if there was none, the base alone
    #[command(after_help = "Examples:\n  edgetune agent rollback\n  edgetune agent rollback --base")]
    Rollback {
        /// Use the base without any adapter
        #[arg(long)]
        base: bool,
    },
    /// List samples, give them another label, delete them
    #[command(subcommand, after_help = "Example:\n  edgetune agent samples list --side aside")]
    Samples(stored::Action),
}

impl Args {
    /// Whether this is a process of the service's, not the service nor a person's question.
    pub fn works(&self) -> bool {
        matches!(self.action, Action::Work)
    }
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    match &args.action {
        Action::Run { flash_budget } => run_service(&args.config, *flash_budget, global),
        Action::Work => work::run(global, printer),
        Action::Status => status::run(&Config::read(&args.config)?, global, printer),
        Action::History => history::run(&Config::read(&args.config)?, printer),
        Action::Train { now } => change::train(&Config::read(&args.config)?, *now, printer),
        Action::Accept { adapter } => change::accept(&Config::read(&args.config)?, adapter.as_deref(), printer),
        Action::Rollback { base } => change::rollback(&Config::read(&args.config)?, *base, printer),
        Action::Samples(action) => stored::run(action, &Config::read(&args.config)?, printer),
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

fn run_service(config: &Path, flash_budget_mb: Option<u64>, global: &Global) -> Result<Done> {
    let began = Instant::now();
    let world = World {
        program: std::env::current_exe()?,
        root: PathBuf::from("/"),
        now: &|| moment(began),
        cause: &|config| sifting::cause(&config.recipe, global),
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

/// This moment; the clock that nobody sets counts from `began`.
fn moment(began: Instant) -> Moment {
    let now = Zoned::now();
    Moment {
        unix_s: now.timestamp().as_second(),
        minute_of_day: now.hour() as u16 * 60 + now.minute() as u16,
        steady_s: began.elapsed().as_secs_f64(),
    }
}
