//! `edgetune fleet enroll`.

use crate::cli::args::Global;
use crate::cli::membership::{Patience, State, host_name, secret};
use crate::cli::print::Printer;
use crate::sync::client::{Invitation, Name, enrol};
use crate::sync::wire::Root;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a token, at most.
const TOKEN_BYTES_MAX: u64 = 1000;

/// Enrol this device with a fleet's server, by a one-time token of an operator
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune fleet enroll https://fleet.example:8443 --token-file token\n  ssh server edgetune-fleet token | \
                  edgetune fleet enroll https://10.0.0.7:8443 --token-file - --ca tls.crt --name hall-3\n\nMakes a new key, whose secret half never \
                  leaves the device. A device that was enrolled is enrolled anew, which is also what helps after its key was \
                  revoked. A name that another device has is refused without --replace. What waits to be sent still waits."
)]
pub struct Args {
    /// The server: https://HOST:PORT
    url: String,
    /// File with the one-time token; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The one-time token itself. Whoever may list this machine's processes reads it: better --token-file
    #[arg(long, value_name = "TOKEN", env = "EDGETUNE_FLEET_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// What people call the device [default: the system's host name and four digits of the key, such as raspberrypi-3f9c]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take the place of the device of that name, whose key is revoked: with a token that was made for the name, or with the key that
    /// the device still has
    #[arg(long, requires = "name")]
    replace: bool,
    /// Trust servers whose certificate is from this one (PEM), and no others [default: the public authorities]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Whose word counts in the fleet: root.json as an operator has given it out [default: what the server says]
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// This device's own certificate (PEM), for a server that asks for one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its secret key (PEM); both files are read anew each time
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    patience: Patience,
}

/// The token, from where it does not stand on a command line if there is such a place.
fn token(args: &Args) -> Result<String> {
    let text = match (&args.token_file, &args.token) {
        (Some(path), _) if path == Path::new("-") => std::io::read_to_string(std::io::stdin().take(TOKEN_BYTES_MAX))?,
        (Some(path), _) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        (None, Some(token)) => token.clone(),
        (None, None) => bail!(
            "no token is given; --token-file FILE, or - for standard input, with what `edgetune-fleet token` prints"
        ),
    };
    let token = text.trim();
    ensure!(
        !token.is_empty() && token.len() < TOKEN_BYTES_MAX as usize,
        "that is no token; give what `edgetune-fleet token` prints"
    );
    Ok(token.into())
}

fn root(path: &Path) -> Result<Root> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text)
        .with_context(|| format!("{}: it is no root; give the server's root.json", path.display()))
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let name = args.name.clone().map(Name::Given).or_else(|| host_name().map(Name::OfHost));
    let name = name.context("this system has no host name; say what people call the device with --name NAME")?;
    let in_file = |path: &PathBuf| path.display().to_string();
    let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| in_file(path));
    let client = args.client_cert.as_ref().zip(args.client_key.as_ref());
    let invitation = Invitation {
        url: args.url.clone(),
        token: token(args)?,
        name,
        replace: args.replace,
        root: args.root.as_deref().map(root).transpose()?,
        ca: args.ca.as_ref().map(|path| std::fs::read_to_string(path).with_context(|| in_file(path))).transpose()?,
        client_certificate: client
            .map(|(certificate, key)| Ok::<_, anyhow::Error>([absolute(certificate)?, absolute(key)?]))
            .transpose()?,
    };
    let folder = args.state.open(global)?;
    let _lock = folder.lock()?;
    let member = enrol(&folder, invitation, &secret, args.patience.outside())?;
    let key = crate::sync::wire::Hex(folder.key()?.public());
    printer.document(&json!({
        "url": member.url, "fleet": member.fleet, "name": member.name, "key": key, "release_key": member.release_key,
        "state": folder.path(),
    }));
    printer.text(format!("enrolled at {} as {}", member.url, member.name));
    printer.text(format!("key          {key}"));
    member.release_keys().iter().for_each(|key| printer.text(format!("releases by  {key}")));
    if let Some(root) = &member.root {
        printer.text(format!("root         {} of {} keys, epoch {}", root.threshold, root.roots.len(), root.epoch));
    }
    Ok(())
}
