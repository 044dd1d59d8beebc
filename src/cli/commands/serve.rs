//! `edgetune-fleet serve`: the server.

use crate::cli::Done;
use crate::cli::limiting::Limiting;
use crate::cli::membership::clock_ms;
use crate::cli::place::Place;
use crate::cli::print::Printer;
use crate::cli::stop::{flag_on_hangup, flag_on_signals};
use crate::fleet::{Folder, Identity, Settings, Signals, Tuning, serve};
use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

/// Serve until SIGTERM
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  edgetune-fleet serve --listen 0.0.0.0:8443 --data /var/lib/edgetune-fleet --name fleet.example\n\nThe \
                  first start makes DIR/operator.token (sign in with it on the server's pages, or send it as \
                  `authorization: Bearer …`), DIR/release.pem (signs \
                  releases) and, where no certificate is given, DIR/tls.crt, which devices are given to trust. SIGHUP has \
                  certificate, keys and --settings read again; what is wrong then changes nothing, and is logged. Variables \
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
    #[command(flatten)]
    limiting: Limiting,
    /// Limits in TOML, read again at SIGHUP: the options from --delta-bytes-max on without their dashes. What is typed wins
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let loopback = args.listen.ip().is_loopback();
    ensure!(loopback || !args.insecure_http, "--insecure-http is for loopback addresses; leave it out for TLS");
    let folder = &args.place.data;
    let held = Folder::open(folder)?;
    let settings = Settings {
        folder: held,
        database: args.place.database(true),
        store: args.place.store(args.store_direct)?,
        tuning: tuning(args)?,
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
    let signals = Signals { stop: &*flag_on_signals()?, reload: &*flag_on_hangup()? };
    serve(settings, listener, ready, signals, &|| tuning(args).map_err(|error| format!("{error:#}")))?;
    Ok(Done::Fully)
}

/// What may change while the server runs.
fn tuning(args: &Args) -> Result<Tuning> {
    let (limits, proxies) = args.limiting.all(args.settings.as_deref())?;
    Ok(Tuning { identity: identity(args)?, limits, proxies })
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
