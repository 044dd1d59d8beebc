//! The full circle, with nothing in it that is not real: a server, TLS, and five agents with samples of their own, which learn
//! from a release, send what they have learned, and get back what became of it; then a release that is worse, which comes not far.

use super::server::{Process, Server, unique};
use edgetune::delta::Delta;
use edgetune::engine::{self, LibraryChoice};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CLASSES: [(&str, [u8; 3]); 3] = [("blue", [0, 0, 190]), ("green", [0, 190, 0]), ("red", [190, 0, 0])];

const RECIPE: &str = "train = [\"head\"]\nepochs = 30\nbatch = 8\nlr = 0.02\n";

/// A release waits for three reports; two that refuse it are enough to halt it, and of three devices one at most is the one that
/// trusts. Nearly all are in the first stage, for where the database is shared it waits for three, however many are there.
const STAGED: &str = "rule=mean&stages=97,100&stage_s=0&stage_reports=3&tolerated=0.01";

/// Trains whenever it has the samples; the device that trusts takes whatever the fleet gives.
fn config(channel: &str, confidence: f64) -> String {
    format!(
        "recipe = \"recipe.toml\"\nstate = \"state\"\nspool = \"spool\"\n[policy]\nnew-samples-min = 20\nload-max = 1.0\n\
         temperature-max-c = 1000\nmemory-free-min-mb = 1\nmemory-pressure-max = 1000\ndisk-free-min-mb = 1\non-battery = true\n\
         interval-min = 0\n[gate]\nheld-out = 0.4\nheld-out-min = 6\nconfidence = {confidence}\n[fleet]\nchannel = \"{channel}\"\nshare = true\n\
         poll-s = 1\nsamples-min = 8\ncounts = \"none\"\n"
    )
}

/// A picture of about one colour, as a PNG file.
fn picture(colour: [u8; 3], number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number * 3 + u64::from(colour[0] | colour[1] >> 1));
    let picture = image::RgbImage::from_fn(16, 16, |_, _| {
        image::Rgb(colour.map(|channel| channel.saturating_add(random.u8(0..60))))
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

fn put_pictures(folder: &Path, class: &str, colour: [u8; 3], numbers: std::ops::Range<u64>) {
    let folder = folder.join(class);
    fs::create_dir_all(&folder).unwrap();
    for number in numbers {
        let unfinished = folder.join(format!("{number}.png.part"));
        fs::write(&unfinished, picture(colour, number)).unwrap();
        fs::rename(unfinished, folder.join(format!("{number}.png"))).unwrap();
    }
}

/// A folder with a base and a recipe, and the program in it.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training/mobilenet_folded.onnx");
        fs::write(folder.path().join("recipe.toml"), format!("model = \"{}\"\n{RECIPE}", base.display())).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut choice = LibraryChoice::new(None, |name| std::env::var_os(name));
        choice.data_folder = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).into());
        let library = engine::load_or_install(&choice, &mut |_| {}).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgetune"));
        command.args(arguments).current_dir(self.0.path()).env("HOME", self.0.path()).stdin(Stdio::null());
        command.env("ORT_DYLIB_PATH", &library.path);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// An adapter of pictures whose classes are called like this.
    pub fn trained(&self, data: &str, names: [&str; 3]) -> Vec<u8> {
        for (name, (_, colour)) in names.iter().zip(CLASSES) {
            put_pictures(&self.path(data), name, colour, 0..12);
        }
        self.run(&["train", "recipe.toml", "--data", data, "--out", "trained.edelta"]);
        fs::read(self.path("trained.edelta")).unwrap()
    }
}

/// A device with its agent.
struct Device {
    place: Place,
    process: Option<Process>,
}

impl Device {
    fn enrolled(server: &Server, channel: &str, number: usize) -> Self {
        let place = Place::new();
        let confidence = if number == 4 { 0.999_999_999_9 } else { 0.9 };
        fs::write(place.path("edgetune.toml"), config(channel, confidence)).unwrap();
        let url = format!("https://127.0.0.1:{}", server.port());
        let ca = server.folder.path().join("tls.crt").display().to_string();
        let (token, name) = (server.token(), unique("device"));
        let enroll = ["fleet", "enroll", &url, "--token", &token, "--name", &name, "--ca", &ca];
        place.run(&[&enroll, ["--config", "edgetune.toml"].as_slice()].concat());
        Self { place, process: None }
    }

    /// Starts the agent; one that runs is killed before.
    fn start(&mut self) {
        self.process = None;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.place.path("log")).unwrap();
        let mut command = self.place.command(&["agent", "run", "--config", "edgetune.toml"]);
        self.process = Some(Process(command.stdout(Stdio::null()).stderr(log).spawn().unwrap()));
    }

    /// New samples: every device sees much of one class and little of another.
    fn see(&self, number: usize, round: u64) {
        for (place, (class, colour)) in CLASSES.into_iter().enumerate() {
            let count = [22, 14, 10][(place + number) % 3];
            let from = 1000 + 1000 * number as u64 + 100 * round;
            put_pictures(&self.place.path("spool"), class, colour, from..from + count);
        }
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.place.run(&["agent", "status", "--config", "edgetune.toml", "--json"])).unwrap()
    }

    fn history(&self) -> Vec<Value> {
        serde_json::from_str(&self.place.run(&["agent", "history", "--config", "edgetune.toml", "--json"])).unwrap()
    }

    /// What became of a release here; nothing where it was not offered.
    fn accepted(&self, version: u64) -> Option<String> {
        let history = self.history();
        let event = history.iter().find(|event| event["release"]["version"] == version)?;
        Some(event["accepted"].as_str().unwrap_or("failed").to_owned())
    }
}

/// The deltas that lie in a server's store, where that is a folder.
fn sent(server: &Server) -> Vec<Vec<u8>> {
    let listed = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let devices = listed(server.folder.path().join("deltas/deltas"));
    devices.flat_map(listed).flat_map(listed).map(|chunk| fs::read(chunk).unwrap()).collect()
}

/// Waits until something is so on all devices.
fn until(devices: &[Device], what: &str, is: impl Fn(&Device) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    for (number, device) in devices.iter().enumerate() {
        while !is(device) {
            let log = fs::read_to_string(device.place.path("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "device {number}: {what} did not come about: {log}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn five_agents_learn_together_and_a_bad_release_comes_not_far() {
    let server = Server::with(&[]);
    let operator = Place::new();
    let channel = server.channel_of(STAGED, &operator.trained("photographs", ["blue", "green", "red"]));
    let mut devices: Vec<Device> = (0..5).map(|number| Device::enrolled(&server, &channel, number)).collect();
    devices.iter_mut().for_each(Device::start);
    until(&devices, "a release", |device| device.status()["fleet"]["release"] == 1);

    // Two rounds: from a release to five deltas to the next release, which all of them use.
    for round in 1..=2 {
        devices.iter().enumerate().for_each(|(number, device)| device.see(number, round));
        // What is killed goes on.
        devices[0].start();
        until(&devices, "a release in use", |device| device.accepted(round).as_deref() == Some("activated"));
        until(&devices, "a delta of each", |_| {
            let row = server.channel_row(&channel);
            row["round"] == round && row["deltas"] == 5
        });
        if round == 1 {
            // Of each device's smallest class there are too few samples for what is sent, which tells no counts either.
            let few: Vec<Value> = devices.iter().map(|device| device.status()["not_shared"].clone()).collect();
            assert!(few.iter().any(|few| few[0]["samples"].as_u64().is_some_and(|samples| samples < 8)), "{few:?}");
            sent(&server).iter().for_each(|delta| {
                let delta = Delta::parse(delta).unwrap();
                assert!(delta.labels().all(|label| label.samples == 0), "{:?}", delta.labels().collect::<Vec<_>>());
                assert_eq!((delta.labels().count(), delta.header().samples % 10), (3, 0));
            });
        }
        let released = server.turn(&channel);
        assert_eq!((&released["version"], &released["round"]), (&(round + 1).into(), &(round + 1).into()));
    }
    until(&devices, "the last release in use", |device| device.accepted(3).as_deref() == Some("activated"));
    let good = server.channel_row(&channel)["adapter"].as_str().unwrap()[..16].to_owned();
    until(&devices, "one adapter", |device| device.status()["active"] == good.as_str());
    for device in &devices {
        // What they have sent was learned from a release, for its round.
        let asked = device.place.path("asked.png");
        fs::write(&asked, picture([0, 190, 0], 7)).unwrap();
        let active = device.place.path("state/active.edelta").display().to_string();
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training/mobilenet_folded.onnx");
        let base = base.display().to_string();
        let answers = device.place.run(&["predict", &base, "--adapter", &active, "asked.png", "--json"]);
        let answers: Value = serde_json::from_str(&answers).unwrap();
        assert_eq!(answers[0]["classes"][0]["name"], "green", "{answers}");
    }

    // Its classes are mixed up.
    let bad = operator.trained("mixed", ["green", "red", "blue"]);
    let answer = server.operator("POST", &format!("/v1/admin/channels/{channel}/release"), &bad);
    assert_eq!(answer.status, 202, "{answer:?}");
    let row = server.until(&channel, |row| row["version"] == 5 && row["rollout"] == "done");
    assert!(row["problem"].as_str().unwrap().contains("version 4 was taken back"), "{row}");
    assert!(row["adapter"].as_str().unwrap().starts_with(&good), "{row}");
    until(&devices, "what was in use before", |device| device.accepted(5).as_deref() == Some("activated"));
    let became: Vec<Option<String>> = devices.iter().map(|device| device.accepted(4)).collect();
    let refused = became[..4].iter().flatten().filter(|became| *became == "rejected").count();
    assert!(refused >= 1 && !became[..4].contains(&Some("activated".into())), "{became:?}");
    for device in &devices {
        assert_eq!(device.status()["active"], good.as_str(), "{:?}", device.history());
    }
}
