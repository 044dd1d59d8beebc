//! What `edgetune.toml` says: one file for the service, beside the recipe that says how to train.

use super::judge::policy::{Hours, Policy, off};
use crate::data;
use crate::delta::Counting;
use crate::nearest;
use crate::sync::wire::{CHANNEL_RULE, is_channel};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Characters of what the ledger says of samples' purpose and of what allows it.
const TERMS_CHARS_MAX: usize = 200;

/// The agent's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// How to train: model, what learns, preprocessing; its `data` are the agent's own.
    pub recipe: PathBuf,
    /// Where samples, adapters and history are kept.
    pub state: PathBuf,
    /// Where applications put samples: one folder a class, a file appears by rename.
    pub spool: PathBuf,
    /// What is taken in.
    #[serde(default)]
    pub samples: Samples,
    /// When to train.
    #[serde(default)]
    pub policy: Policy,
    /// When to use what was learned.
    #[serde(default)]
    pub gate: Gate,
    /// When to take back what was learned.
    #[serde(default)]
    pub feedback: Feedback,
    /// Which predictions a person is asked about.
    #[serde(default)]
    pub wanted: Asking,
    /// What may be written.
    #[serde(default)]
    pub storage: Storage,
    /// What applications may ask; nothing listens without it.
    #[serde(default)]
    pub api: Api,
    /// The fleet that the device takes part in; none without it.
    #[serde(default)]
    pub fleet: Option<Fleet>,
}

/// What is taken in, and its bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Samples {
    /// What one is.
    pub kind: Kind,
    /// Kilobytes of one sample.
    pub each_max_kb: u64,
    /// Megabytes of all. What comes beyond waits in the spool, and is refused by the API; none is any number.
    #[serde(with = "off")]
    pub total_max_mb: Option<u64>,
    /// The classes that samples may have; none takes any.
    pub classes: Option<Vec<String>>,
    /// What tells the recording or person that a file in the spool is of, so that all of one are held out or none: `folder` for the
    /// folders inside a class, or a regular expression for the part of a file's name that tells it. None: each is one of its own.
    pub group: Option<String>,
    /// What samples may be used for, as the ledger and model cards say.
    pub purpose: Option<String>,
    /// What allows that, such as a consent or a contract.
    pub consent: Option<String>,
    /// Days after which a sample is deleted; none keeps it.
    #[serde(with = "off")]
    pub keep_days: Option<u32>,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            kind: Kind::Photograph,
            each_max_kb: 16_000,
            total_max_mb: Some(1_000),
            classes: None,
            group: None,
            purpose: None,
            consent: None,
            keep_days: None,
        }
    }
}

/// What a sample is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// JPEG, PNG, WebP, BMP, GIF or TIFF.
    Photograph,
    /// Text as UTF-8.
    Text,
    /// A NumPy array (`.npy`) of this shape, as the model takes one without its batch axis.
    Array(Vec<u64>),
    /// WAV or FLAC; the recipe's `samples` say at which rate the model takes it.
    Sound,
    /// One window of a sensor series: a CSV table with a header, or a NumPy array `[rows, channels]`; the recipe's `samples` say which
    /// columns are its channels.
    Series,
}

/// The condition that a new adapter must meet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gate {
    /// Share of samples that are never trained on, from 0 to 1, both excluded.
    pub held_out: f64,
    /// Held-out samples without which no training begins.
    pub held_out_min: u64,
    /// How sure it must be that the new adapter is better, from 0.5 to 1, both excluded; none takes each that gets at least as many
    /// held-out samples right.
    #[serde(with = "off")]
    pub confidence: Option<f64>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { held_out: 0.2, held_out_min: 20, confidence: Some(0.95) }
    }
}

/// What is made of answers to predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Feedback {
    /// How sure it must be that an adapter in use is worse than its verdict promised, from 0.5 to 1, both excluded; none never takes
    /// one back.
    #[serde(with = "off")]
    pub confidence: Option<f64>,
    /// What a prediction counts as that nobody answers.
    pub unanswered: Unanswered,
}

/// What a prediction counts as that nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unanswered {
    /// Right: people correct what is wrong and pass over what is right.
    Right,
    /// Nothing: what is answered is a fair share of all, right and wrong.
    Ignored,
}

impl Default for Feedback {
    fn default() -> Self {
        Self { confidence: Some(0.99), unanswered: Unanswered::Right }
    }
}

/// How many predictions wait for a person's label, in memory alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asking {
    /// Samples; none asks for nothing.
    #[serde(with = "off")]
    pub keep: Option<u32>,
    /// Megabytes of all of them.
    pub max_mb: u64,
}

impl Default for Asking {
    fn default() -> Self {
        Self { keep: Some(20), max_mb: 16 }
    }
}

/// Bounds of what is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Storage {
    /// Megabytes that the service and its trainings may write in any 24 hours; then training waits. None is any amount.
    pub flash_budget_mb_per_day: Option<u64>,
}

/// The fleet that the device takes part in. What it learns may leave it then, which its owner has to say; samples never do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fleet {
    /// What its adapters are learned for: a channel's name on the server.
    pub channel: String,
    /// Whether adapters that were learned here are sent.
    pub share: bool,
    /// Where the device's key and its membership lie, which `edgetune fleet enroll` has made; `STATE/fleet` without it.
    #[serde(default)]
    pub state: PathBuf,
    /// Seconds between two looks at the server, on average: chance keeps devices apart.
    #[serde(default = "Fleet::poll_s")]
    pub poll_s: u64,
    /// Local time in which the server may be spoken to, such as `22:00-06:00`; none is any time.
    #[serde(default)]
    pub hours: Option<Hours>,
    /// Kilobytes that go each way in a second, at most; none is any number.
    #[serde(default)]
    pub limit_rate_kb: Option<u64>,
    /// Devices that a round must have for anything to be sent to it, by the fleet's signed word; none is any number.
    #[serde(default)]
    pub devices_min: Option<u32>,
    /// Samples that a class must have to be learned from where the outcome is sent: of fewer, what is sent can give single ones away.
    #[serde(default = "Fleet::samples_min")]
    pub samples_min: u64,
    /// How exactly what is sent says how many samples it was learned from.
    #[serde(default)]
    pub counts: Counting,
}

impl Fleet {
    fn samples_min() -> u64 {
        5
    }

    /// Samples that a class must have for a training that begins with a release; 0 for any, where nothing is sent.
    pub fn samples_min_shared(&self) -> u64 {
        if self.share { self.samples_min } else { 0 }
    }

    fn poll_s() -> u64 {
        3600
    }
}

/// Where and how applications are answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Api {
    /// Such as `unix:/run/edgetune/edgetune.sock` or `127.0.0.1:7411`; sockets of systemd's are served besides.
    pub listen: Option<Address>,
    /// Connections that are answered at the same time; those beyond are told to come back.
    pub connections_max: u32,
    /// Seconds for a request to arrive, head and body each.
    pub timeout_s: u64,
    /// Megabytes of predicted samples that are remembered for their feedback.
    pub remembered_max_mb: u64,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: None, connections_max: 64, timeout_s: 10, remembered_max_mb: 16 }
    }
}

/// Where the API listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A socket in the file system, whose owner and group may connect.
    Unix(PathBuf),
    /// A port of this machine, which every process on it may connect to.
    Tcp(SocketAddr),
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            Ok(_) => {
                Err(format!("`{text}`: the API knows no passwords; listen on this machine alone, as 127.0.0.1:7411"))
            }
            Err(_) => Err(format!("`{text}`: write unix:/run/edgetune/edgetune.sock, or 127.0.0.1:7411")),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        match address {
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Tcp(address) => address.to_string(),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}; name the configuration with setting `config`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not what is expected.
    #[error("{}: line {line}: {problem}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Key and reason.
        problem: String,
    },
    /// No pattern for groups.
    #[error("{}: samples.group: {problem}", path.display())]
    Group {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to write.
        problem: String,
    },
    /// A text that does not fit one line of the ledger.
    #[error("{}: {key}: write one line of at most {TERMS_CHARS_MAX} characters", path.display())]
    Terms {
        /// The file.
        path: PathBuf,
        /// Table and key.
        key: &'static str,
    },
    /// A text that can be no channel's name.
    #[error("{}: fleet.channel = {name:?}: a channel's name has {}", path.display(), CHANNEL_RULE)]
    Channel {
        /// The file.
        path: PathBuf,
        /// What was given.
        name: String,
    },
    /// The agent's own files would be taken for samples.
    #[error(
        "{}: state = {:?} lies in spool = {:?}, where all files are taken for samples; name a folder outside of it", path.display(), state, spool
    )]
    Within {
        /// The file.
        path: PathBuf,
        /// The folder of the state.
        state: PathBuf,
        /// The folder that samples are put into.
        spool: PathBuf,
    },
    /// A number out of its range.
    #[error("{}: {key} = {value}: {remedy}", path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// Table and key.
        key: &'static str,
        /// What was given.
        value: f64,
        /// What may be given.
        remedy: &'static str,
    },
}

/// A value that is not what its key takes: the line as it stands, and what is expected.
fn bad_value(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text[..start].rfind('\n').map_or(0, |end| end + 1);
    let line = text[line..].lines().next().unwrap_or_default().trim();
    if line.is_empty() { error.message().into() } else { format!("`{line}`: {}", error.message()) }
}

impl Config {
    /// Reads a file; its relative paths begin where it lies.
    ///
    /// # Errors
    /// [`Error`], naming file, line and key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
            Error::Toml {
                path: path.into(),
                line: before.matches('\n').count() + 1,
                problem: nearest::unknown(error.message()).map_or_else(|| bad_value(&text, &error), |(_, told)| told),
            }
        })?;
        Self::refuse_bad_values(&config, path)?;
        // Without anything new there is nothing to learn.
        config.policy.new_samples_min = config.policy.new_samples_min.filter(|least| *least > 0);
        config.resolved(path)
    }

    /// Numbers outside of their range and names that are none.
    fn refuse_bad_values(config: &Self, path: &Path) -> Result<(), Error> {
        let range = |key, value: f64, inside: bool, remedy| match inside {
            true => Ok(()),
            false => Err(Error::Range { path: path.into(), key, value, remedy }),
        };
        let sizes = !matches!(&config.samples.kind, Kind::Array(shape) if shape.is_empty() || shape.contains(&0));
        range("samples.kind", 0.0, sizes, "write the sizes of one array, each from 1, such as { array = [3, 128] }")?;
        if let Some(Err(problem)) = config.samples.group.as_deref().map(|group| data::group_in_name(group, "")) {
            return Err(Error::Group { path: path.into(), problem });
        }
        Self::refuse_terms(&config.samples, path)?;
        let days = config.samples.keep_days;
        range("samples.keep-days", 0.0, days != Some(0), "write days from 1, such as 180, or \"off\"")?;
        let (held_out, confidence) = (config.gate.held_out, config.gate.confidence);
        range(
            "gate.held-out",
            held_out,
            held_out > 0.0 && held_out < 1.0,
            "write a share between 0 and 1, such as 0.2",
        )?;
        let sure = confidence.unwrap_or(0.95);
        let told = "write a share between 0.5 and 1, such as 0.95, or \"off\"";
        range("gate.confidence", sure, sure > 0.5 && sure < 1.0, told)?;
        let sure = config.feedback.confidence.unwrap_or(0.99);
        range("feedback.confidence", sure, sure > 0.5 && sure < 1.0, "write a share between 0.5 and 1, such as 0.99")?;
        let connections = config.api.connections_max;
        let some = (1..=1000).contains(&connections);
        range("api.connections-max", connections.into(), some, "write a number from 1 to 1000, such as 64")?;
        let timeout = config.api.timeout_s;
        range(
            "api.timeout-s",
            timeout as f64,
            (1..=3600).contains(&timeout),
            "write seconds from 1 to 3600, such as 10",
        )?;
        let load = config.policy.load_max.unwrap_or(1.0);
        let heat = config.policy.temperature_max_c.unwrap_or(0.0);
        range("policy.load-max", load.into(), load > 0.0 && load <= 1.0, "write a share above 0, up to 1, or \"off\"")?;
        range(
            "policy.temperature-max-c",
            heat.into(),
            heat.is_finite(),
            "write degrees Celsius, such as 75, or \"off\"",
        )?;
        if let Some(fleet) = &config.fleet {
            let (poll, rate) = (fleet.poll_s, fleet.limit_rate_kb);
            range("fleet.poll-s", poll as f64, poll > 0, "write seconds from 1, such as 3600")?;
            range("fleet.devices-min", 0.0, fleet.devices_min != Some(0), "write a count from 1, such as 5")?;
            range("fleet.samples-min", 0.0, fleet.samples_min > 0, "write a count from 1, such as 5")?;
            range("fleet.limit-rate-kb", 0.0, rate != Some(0), "write kilobytes a second from 1, such as 100")?;
            if !is_channel(&fleet.channel) {
                return Err(Error::Channel { path: path.into(), name: fleet.channel.clone() });
            }
        }
        Ok(())
    }

    /// Terms that fit no line of the ledger.
    fn refuse_terms(samples: &Samples, path: &Path) -> Result<(), Error> {
        for (key, text) in [("samples.purpose", &samples.purpose), ("samples.consent", &samples.consent)] {
            let is_one_line =
                |text: &String| text.chars().count() <= TERMS_CHARS_MAX && !text.contains(char::is_control);
            if !text.as_ref().is_none_or(is_one_line) {
                return Err(Error::Terms { path: path.into(), key });
            }
        }
        Ok(())
    }

    /// The configuration with its relative paths as they are from where its file lies.
    fn resolved(self, path: &Path) -> Result<Self, Error> {
        let mut config = self;
        let folder = path.parent().unwrap_or(Path::new(""));
        for path in [&mut config.recipe, &mut config.state, &mut config.spool] {
            *path = folder.join(&*path);
        }
        let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if resolved(&config.state).starts_with(resolved(&config.spool)) {
            return Err(Error::Within { path: path.into(), state: config.state.clone(), spool: config.spool.clone() });
        }
        if let Some(fleet) = &mut config.fleet {
            let is_said = !fleet.state.as_os_str().is_empty();
            fleet.state = if is_said { folder.join(&fleet.state) } else { config.state.join("fleet") };
        }
        if let Some(Address::Unix(path)) = &mut config.api.listen {
            *path = folder.join(&*path);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_inside_the_spool_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        for (state, spool) in [("in/state", "in"), ("same", "same")] {
            std::fs::create_dir_all(folder.path().join(state)).unwrap();
            std::fs::write(&path, format!("recipe = 'r.toml'\nstate = '{state}'\nspool = '{spool}'\n")).unwrap();
            let refusal = Config::read(&path).unwrap_err().to_string();
            assert!(refusal.contains("lies in spool"), "{refusal}");
        }
        std::fs::write(&path, "recipe = 'r.toml'\nstate = 'in'\nspool = 'in-2'\n").unwrap();
        Config::read(&path).unwrap();
    }

    #[test]
    fn a_group_is_folder_or_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgetune.toml");
        let read = |group: &str| {
            let text = format!("recipe = 'r.toml'\nstate = 's'\nspool = 'p'\n[samples]\ngroup = '{group}'\n");
            std::fs::write(&path, text).unwrap();
            Config::read(&path).map(|config| config.samples.group).map_err(|error| error.to_string())
        };
        assert_eq!(read("folder"), Ok(Some("folder".into())));
        assert_eq!(read("rec([0-9]+)"), Ok(Some("rec([0-9]+)".into())));
        let told = read("rec([0-9]+").unwrap_err();
        assert!(told.contains("edgetune.toml: samples.group: no pattern") && told.contains("write `folder`"), "{told}");
    }
}
