//! `edgetune-fleet serve`: the server.

use crate::cli::Done;
use crate::cli::membership::clock_ms;
use crate::cli::place::Place;
use crate::cli::print::Printer;
use crate::cli::stop::flag_on_signals;
use crate::fleet::{Folder, Identity, Limits, Settings, serve};
use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use serde_json::json;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Serve until SIGTERM
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  edgetune-fleet serve --listen 0.0.0.0:8443 --data /var/lib/edgetune-fleet --name fleet.example\n\nThe \
                  first start makes DIR/operator.token (sign in with it on the server's pages, or send it as \
                  `authorization: Bearer …`), DIR/release.pem (signs \
                  releases) and, where no certificate is given, DIR/tls.crt, which devices are given to trust. Variables \
                  that begin with AWS_ are options of an S3 store."
)]
pub struct Args {
    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    #[command(flatten)]
    place: Place,
    /// Devices fetch adapters from the S3 store themselves, by signed addresses that hold for 15 minutes; they must reach its endpoint
    #[arg(long, requires = "store")]
    store_direct: bool,
    /// Certificate chain in PEM, with --tls-key [default: DIR/tls.crt, made on the first start]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its secret key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Names in the certificate that is made on the first start, beside localhost
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Speak HTTP without TLS; only on a loopback address, behind a proxy that ends TLS and says so (x-forwarded-proto)
    #[arg(long, conflicts_with_all = ["tls_certificate", "name"])]
    insecure_http: bool,
    /// Bytes of a delta, at most
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().delta_bytes_max)]
    delta_bytes_max: u64,
    /// Root of the sum of the squares of a delta's values, at most
    #[arg(long, value_name = "NORM", default_value_t = Limits::default().norm_max)]
    norm_max: f64,
    /// Connections at once; where there are more, those that ask nothing make room
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections_max, value_parser = at_least_one)]
    connections_max: usize,
    /// Connections of one address (of IPv6: of its /64) at once; trusted proxies may have all
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections_per_address, value_parser = at_least_one)]
    connections_per_address: usize,
    /// Requests that an address, or a device wherever it asks from, may make a second in the long run
    #[arg(long, value_name = "N", default_value_t = Limits::default().requests_per_s)]
    requests_per_s: f64,
    /// Deltas that a device may begin to send in a day
    #[arg(long, value_name = "N", default_value_t = Limits::default().deltas_per_day, value_parser = clap::value_parser!(u32).range(1..))]
    deltas_per_day: u32,
    /// Address of a proxy in front of the server; where requests come from is then what it says (x-forwarded-for). Without it, all
    /// that comes through a proxy is one address, and shares one limit
    #[arg(long, value_name = "ADDR")]
    trusted_proxy: Vec<IpAddr>,
    /// Days that devices may believe what they are told of a release; then somebody is holding newer words back
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=3650))]
    release_life: u64,
    /// Devices whose deltas a round must have before it can be closed: of fewer, what one has learned is plain to see
    #[arg(long, value_name = "N", default_value_t = Limits::default().round_devices_min, value_parser = clap::value_parser!(u32).range(1..))]
    round_devices_min: u32,
    /// Rounds that deltas are kept for after their own; then only the database knows of them
    #[arg(long, value_name = "N", default_value_t = Limits::default().keep_rounds, value_parser = clap::value_parser!(i64).range(0..))]
    keep_rounds: i64,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("`{text}` is no count; give 1 or more"))
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let loopback = args.listen.ip().is_loopback();
    ensure!(loopback || !args.insecure_http, "--insecure-http is for loopback addresses; leave it out for TLS");
    ensure!(args.requests_per_s > 0.0, "--requests-per-s must be above 0, or nobody is answered");
    let folder = &args.place.data;
    let held = Folder::open(folder)?;
    let limits = Limits {
        delta_bytes_max: args.delta_bytes_max,
        norm_max: args.norm_max,
        requests_per_s: args.requests_per_s,
        connections_max: args.connections_max,
        connections_per_address: args.connections_per_address,
        deltas_per_day: args.deltas_per_day,
        release_life: Duration::from_secs(args.release_life * 24 * 3600),
        round_devices_min: args.round_devices_min,
        keep_rounds: args.keep_rounds,
        ..Limits::default()
    };
    let settings = Settings {
        folder: held,
        database: args.place.database(true),
        store: args.place.store(args.store_direct)?,
        identity: identity(args)?,
        limits,
        proxies: args.trusted_proxy.clone(),
        clock: Arc::new(clock_ms),
        chance: Arc::new(|bytes| getrandom::fill(bytes).map_err(|error| error.to_string())),
    };
    let listener = TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    let scheme = if args.insecure_http { "http" } else { "https" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    let ready = || {
        printer.text(format!("serving {url}, files in {}", folder.display()));
        printer.text(format!("sign in there with the text of {}", folder.join("operator.token").display()));
        printer.document(&json!({ "url": url, "data": folder }));
    };
    serve(settings, listener, ready, &*flag_on_signals()?)?;
    Ok(Done::Fully)
}

fn identity(args: &Args) -> Result<Option<Identity>> {
    match (&args.tls_certificate, &args.tls_key) {
        _ if args.insecure_http => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Identity::read(certificate, key)?)),
        _ => {
            let mut names = vec!["localhost".to_owned(), args.listen.ip().to_string()];
            names.extend(args.name.iter().cloned());
            Ok(Some(Identity::own(&args.place.data, &names)?))
        }
    }
}
