//! `edgetune-fleet root`: keys that are kept offline, and what they say.

use crate::atomic::write_atomically;
use crate::cli::Done;
use crate::cli::deltas::create_new;
use crate::cli::locked::{locked, unlocked};
use crate::cli::membership::{clock_ms, secret};
use crate::cli::print::Printer;
use crate::delta::{self, KeyPair};
use crate::sync::wire::{Hex, Root};
use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use serde_json::json;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Characters of a passphrase, at least.
const PASSPHRASE_MIN: usize = 8;

/// Name the keys that sign releases, by keys that are kept offline
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune-fleet root init root/ --keys 3 --threshold 2 --release release.pem --passphrase-file words\n  \
                  edgetune-fleet root rotate root/root.json --release new.pem\n  edgetune-fleet root sign root/root.json --key \
                  root/root-1.pem --passphrase-file word\n\nOn a machine that is not the server. root.json goes to the server's folder, beside \
                  release.pem, and `systemctl reload edgetune-fleet` has it read; the keys go nowhere. Devices hold the root that they \
                  were told last, and take another where enough of its keys have signed that: so a release key that was lost is \
                  exchanged without a device being enrolled anew."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Init(Init),
    Sign(Sign),
    Rotate(Rotate),
}

/// What a root says, besides its own keys.
#[derive(Debug, clap::Args)]
struct Said {
    /// A key that signs releases: the server's release.pem, or its public half in PEM; more than once for more
    #[arg(long, value_name = "FILE", required = true)]
    release: Vec<PathBuf>,
    /// Public key of an author: devices then take an adapter only if an author has signed it. Such a fleet publishes releases and
    /// closes no rounds
    #[arg(long, value_name = "FILE")]
    author: Vec<PathBuf>,
    /// Days until the root has to be signed anew
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

/// Make the keys, and the first root
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune-fleet root init root/ --keys 3 --threshold 2 --release release.pem --passphrase-file words\n\nWrites \
                  root-1.pem and so on, each encrypted with its line of --passphrase-file, and root.json, signed by all of them. Give each \
                  key to somebody else; nobody needs more than one."
)]
struct Init {
    /// Where keys and root go: a folder that has none
    folder: PathBuf,
    /// How many keys
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    keys: u32,
    /// How many of them have to sign
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    threshold: u32,
    /// File with a passphrase a key, each in a line of its own; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    #[command(flatten)]
    said: Said,
}

/// Sign a root with one more key
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune-fleet root sign root.json --key root-1.pem --passphrase-file word")]
struct Sign {
    /// The root
    root: PathBuf,
    /// The key, of this root or of the one before
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File with its passphrase; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
}

/// Write the next root, with other keys for releases, for signing
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune-fleet root rotate root.json --release new.pem\n  edgetune-fleet root rotate root.json --release \
                  release.pem --exchange lost.pub.pem=root-4.pem\n\nThe next root takes the place of the file, unsigned: sign it with \
                  as many keys of the root before as that wanted, and of its own. Keys that are not named with --release or --author again \
                  count no more."
)]
struct Rotate {
    /// The root
    root: PathBuf,
    /// A root key that is lost and the one that takes its place, as OLD=NEW: PEM files, or the old key's 64 hexadecimal digits
    #[arg(long, value_name = "OLD=NEW")]
    exchange: Vec<String>,
    /// File with the passphrase of new root keys, which are made where they are missing; `-` reads standard input
    #[arg(long, value_name = "FILE", requires = "exchange")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    said: Said,
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let (path, root) = match &args.action {
        Action::Init(args) => init(args)?,
        Action::Sign(args) => sign(args)?,
        Action::Rotate(args) => rotate(args)?,
    };
    let (signatures, needed) = (root.signatures.len(), root.threshold);
    let left_days = root.expires_ms.saturating_sub(clock_ms()) / DAY_MS;
    printer.document(&json!({ "root": path, "epoch": root.epoch, "signatures": signatures, "days": left_days, "releases": root.releases }));
    printer.text(format!(
        "{}: epoch {}, {signatures} signatures ({needed} needed), {left_days} days",
        path.display(),
        root.epoch
    ));
    for key in &root.releases {
        printer.text(format!("releases by  {key}"));
    }
    Ok(Done::Fully)
}

fn init(args: &Init) -> Result<(PathBuf, Root)> {
    let Init { folder, keys, threshold, passphrase_file, said } = args;
    ensure!(threshold <= keys, "--threshold {threshold} is above --keys {keys}; give fewer");
    let phrases = passphrases(passphrase_file)?;
    ensure!(
        phrases.len() == *keys as usize,
        "{}: {} passphrases for {keys} keys; write one a line, for each key its own",
        passphrase_file.display(),
        phrases.len()
    );
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join("root.json");
    ensure!(!path.exists(), "{}: there is a root; the next one is made by root rotate", path.display());
    let mut pairs = Vec::new();
    for (number, phrase) in phrases.iter().enumerate() {
        pairs.push(make(&folder.join(format!("root-{}.pem", number + 1)), phrase)?);
    }
    let roots = pairs.iter().map(|pair| Hex(pair.public())).collect();
    let mut root = saying(said, 1, *threshold, roots)?;
    pairs.iter().for_each(|pair| root.sign(pair));
    root.check()?;
    write(&path, &root)?;
    Ok((path, root))
}

fn sign(args: &Sign) -> Result<(PathBuf, Root)> {
    let mut root = read(&args.root)?;
    let phrases = passphrases(&args.passphrase_file)?;
    let [phrase] = phrases.as_slice() else { bail!("{}: one passphrase is wanted", args.passphrase_file.display()) };
    root.sign(&open(&args.key, phrase)?);
    write(&args.root, &root)?;
    Ok((args.root.clone(), root))
}

fn rotate(args: &Rotate) -> Result<(PathBuf, Root)> {
    let held = read(&args.root)?;
    held.check().with_context(|| args.root.display().to_string())?;
    let mut roots = held.roots.clone();
    let phrases = args.passphrase_file.as_deref().map_or(Ok(Vec::new()), passphrases)?;
    for (number, exchange) in args.exchange.iter().enumerate() {
        let (old, new) = exchange.split_once('=').context("--exchange: write OLD=NEW")?;
        let old = old.parse().or_else(|_| public(Path::new(old)))?;
        let place = roots.iter_mut().find(|key| **key == old);
        let place = place.with_context(|| format!("--exchange: {old} is no key of this root"))?;
        let phrase = phrases
            .get(number)
            .with_context(|| format!("no passphrase for {new}; write one a line into --passphrase-file"))?;
        *place = Hex(make(Path::new(new), phrase)?.public());
    }
    let next = saying(&args.said, held.epoch + 1, held.threshold, roots)?;
    write(&args.root, &next)?;
    Ok((args.root.clone(), next))
}

fn saying(said: &Said, epoch: u64, threshold: u32, roots: Vec<Hex<32>>) -> Result<Root> {
    let keys = |files: &[PathBuf]| files.iter().map(|file| public(file)).collect::<Result<Vec<_>>>();
    let expires_ms = clock_ms() + said.days * DAY_MS;
    let (releases, authors) = (keys(&said.release)?, keys(&said.author)?);
    Ok(Root { epoch, expires_ms, threshold, roots, releases, authors, signatures: Vec::new() })
}

/// Makes a key in a file that is not there yet.
fn make(path: &Path, phrase: &str) -> Result<KeyPair> {
    let random = || secret().map_err(anyhow::Error::msg);
    let (pair, salts) = (KeyPair::from_secret(&random()?), random()?);
    let salts = <&[[u8; 16]; 2]>::try_from(salts.as_chunks().0)?;
    create_new(path, &locked(&pair, phrase, salts)?, 0o600)?;
    Ok(pair)
}

fn open(path: &Path, phrase: &str) -> Result<KeyPair> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    unlocked(&text, phrase).with_context(|| format!("{}: it is no key that this passphrase opens", path.display()))
}

/// The public key of a file that holds it, or its secret half.
fn public(path: &Path) -> Result<Hex<32>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let key = KeyPair::from_pem(&text).map(|pair| pair.public()).or_else(|_| delta::public_key(&text));
    key.map(Hex).with_context(|| format!("{}: give a secret or a public Ed25519 key in PEM", path.display()))
}

/// The lines of a file that are passphrases.
fn passphrases(path: &Path) -> Result<Vec<String>> {
    let mut text = String::new();
    let in_file = || path.display().to_string();
    match path == Path::new("-") {
        true => std::io::stdin().take(1 << 16).read_to_string(&mut text),
        false => std::fs::File::open(path).with_context(in_file)?.take(1 << 16).read_to_string(&mut text),
    }
    .with_context(in_file)?;
    let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let is_long = |line: &String| line.chars().count() >= PASSPHRASE_MIN;
    ensure!(lines.iter().all(is_long), "{}: a passphrase has {PASSPHRASE_MIN} characters or more", path.display());
    Ok(lines)
}

fn read(path: &Path) -> Result<Root> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{}: it is no root", path.display()))
}

fn write(path: &Path, root: &Root) -> Result<()> {
    let text = serde_json::to_string_pretty(root)? + "\n";
    let written: std::io::Result<()> = write_atomically(path, |file| file.write_all(text.as_bytes()));
    written.with_context(|| path.display().to_string())
}
