//! The service as a device meets it: its real process with a service manager's socket, photographs in its spool, trainings
//! that are killed, and what applications see.

mod api;
mod bad;
mod changes;
mod evidence;
mod kills;
mod kinds;
mod limits;
mod wanted;

use super::Place;
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What a test waits for at most; a machine with other work is slow.
const PATIENCE: Duration = Duration::from_secs(180);

const CONFIG: &str = r#"
recipe = "recipe.toml"
state = "state"
spool = "spool"

[policy]
new-samples-min = 40
load-max = 1.0
temperature-max-c = 1000
memory-free-min-mb = 1
memory-pressure-max = 1000
disk-free-min-mb = 1
on-battery = true
interval-min = 0

[gate]
held-out-min = 8
"#;

const RECIPE: &str = "model = \"base.onnx\"\ntrain = [\"head\"]\nepochs = 30\nbatch = 4\nlr = 0.02\n";

fn ready() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.write("edgetune.toml", CONFIG);
    place.write("recipe.toml", RECIPE);
    place
}

/// A picture of about one colour, as a PNG file.
fn picture(colour: [u8; 3], number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number * 3 + u64::from(colour[0]));
    let picture = image::RgbImage::from_fn(16, 16, |_, _| {
        image::Rgb(colour.map(|channel| channel.saturating_add(random.u8(0..60))))
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// Drops pictures of about one colour into the spool as applications do: written under another name, then renamed.
fn drop_pictures(place: &Place, class: &str, colour: [u8; 3], numbers: std::ops::Range<u64>) {
    let folder = place.path("spool").join(class);
    fs::create_dir_all(&folder).unwrap();
    for number in numbers {
        let unfinished = folder.join(format!("{number}.png.part"));
        fs::write(&unfinished, picture(colour, number)).unwrap();
        fs::rename(unfinished, folder.join(format!("{number}.png"))).unwrap();
    }
}

fn drop_reds_and_blues(place: &Place) {
    drop_pictures(place, "red", [190, 0, 0], 0..45);
    drop_pictures(place, "blue", [0, 0, 190], 0..45);
}

/// The service's process and what its manager hears.
struct Service {
    child: Child,
    heard: Receiver<String>,
}

impl Service {
    fn start(place: &Place) -> Self {
        Self::start_by(place, place.command("agent run --config edgetune.toml"))
    }

    /// A service whose socket answers.
    fn start_answering(place: &Place) -> Self {
        let service = Self::start(place);
        service.hear("READY=1");
        service
    }

    fn start_by(place: &Place, mut command: Command) -> Self {
        let path = place.path("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            let mut message = [0; 1024];
            while let Ok(length) = socket.recv(&mut message) {
                if tell.send(String::from_utf8_lossy(&message[..length]).into_owned()).is_err() {
                    break;
                }
            }
        });
        let log = fs::OpenOptions::new().create(true).append(true).open(place.path("log")).unwrap();
        command.env("NOTIFY_SOCKET", &path).env("SOURCE_DATE_EPOCH", "0").stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap(), heard }
    }

    /// Waits for a message that begins so.
    fn hear(&self, start: &str) -> String {
        let began = Instant::now();
        while let Some(left) = PATIENCE.checked_sub(began.elapsed()) {
            match self.heard.recv_timeout(left) {
                Ok(message) if message.starts_with(start) => return message,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        panic!("no `{start}`");
    }

    fn send(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGTERM, and how long the end took.
    fn stop(mut self) -> Duration {
        let asked = Instant::now();
        self.send("TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        asked.elapsed()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(place: &Place, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        let log = || String::from_utf8_lossy(&fs::read(place.path("log")).unwrap_or_default()).into_owned();
        assert!(began.elapsed() < PATIENCE, "{what} did not come about: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn history(place: &Place) -> Vec<Value> {
    let events = place.run("agent history --config edgetune.toml --json").json();
    events.as_array().unwrap().clone()
}

fn count(events: &[Value], event: &str) -> usize {
    events.iter().filter(|found| found["event"] == event).count()
}

fn samples(place: &Place) -> u64 {
    let status = place.run("agent status --config edgetune.toml --json").json();
    status["samples"]["train"].as_u64().unwrap() + status["samples"]["held_out"].as_u64().unwrap()
}

/// The class of a picture with the adapter in use.
fn predicted(place: &Place, class: &str, colour: [u8; 3]) -> String {
    drop_pictures(place, class, colour, 1000..1001);
    fs::rename(place.path("spool").join(class).join("1000.png"), place.path("asked.png")).unwrap();
    let answers = place.run("predict base.onnx --adapter state/active.edelta asked.png --json").json();
    answers[0]["classes"][0]["name"].as_str().unwrap().to_string()
}

#[test]
fn samples_become_an_adapter_in_use() {
    let place = ready();
    let service = Service::start(&place);
    service.hear("READY=1");
    service.hear("STATUS=waiting: 0 of 40 new samples; 0 of 8 held-out samples; 0 of 2 classes; 0 samples, 0 held out");
    drop_reds_and_blues(&place);
    service.hear("STATUS=training on");
    service.hear("WATCHDOG=1");
    until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    assert_eq!(predicted(&place, "red", [190, 0, 0]), "red");
    assert_eq!(predicted(&place, "blue", [0, 0, 190]), "blue");
    until(&place, "an end of the run", || !place.path("state/run").exists());
    assert_eq!(samples(&place), 90);
    assert!(fs::read_dir(place.path("spool/red")).unwrap().next().is_none(), "what is taken leaves the spool");

    // A configuration that cannot be used leaves the old one, a good one is taken.
    place.write("edgetune.toml", CONFIG.replace("new-samples-min", "new-sample-min"));
    service.send("HUP");
    service.hear("RELOADING=1");
    service.hear("READY=1");
    place.write("edgetune.toml", CONFIG.replace("= 40", "= 20"));
    service.send("HUP");
    service.hear("READY=1");
    let log = String::from_utf8(place.read("log")).unwrap();
    assert!(log.contains("the old configuration stays") && log.contains("new-sample-min"), "{log}");
    let took = service.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");

    let events = history(&place);
    assert_eq!((count(&events, "judged"), count(&events, "activated")), (1, 1), "{events:?}");
    let text = place.run("agent history --config edgetune.toml").done().out;
    assert!(text.contains("is better than the ") && text.contains("by gate"), "{text}");
    assert!(text.contains(" right, before ") && text.contains(", needs < 0.05"), "{text}");
    let text = place.run("agent rollback --config edgetune.toml").done().out;
    assert!(text.contains("the base stands alone"), "{text}");
    assert!(!place.path("state/active.edelta").exists());
    place.run("agent rollback --config edgetune.toml").fails(&["no adapter is in use", "history"]);
}

#[test]
fn what_is_no_better_is_not_used_and_what_was_used_can_come_back() {
    let place = ready();
    drop_reds_and_blues(&place);
    let service = Service::start(&place);
    until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    let first = fs::read_link(place.path("state/active.edelta")).unwrap();
    // More of the same teaches nothing new.
    drop_pictures(&place, "red", [190, 0, 0], 100..130);
    drop_pictures(&place, "blue", [0, 0, 190], 100..130);
    until(&place, "a second verdict", || count(&history(&place), "judged") == 2);
    assert_eq!(fs::read_link(place.path("state/active.edelta")).unwrap(), first);
    assert_eq!(history(&place).iter().rfind(|event| event["event"] == "judged").unwrap()["verdict"]["better"], false);
    // A class that the one in use cannot know.
    drop_pictures(&place, "green", [0, 190, 0], 0..60);
    until(&place, "a second adapter in use", || fs::read_link(place.path("state/active.edelta")).unwrap() != first);
    service.stop();
    assert_eq!(predicted(&place, "green", [0, 190, 0]), "green");
    place.run("agent rollback --config edgetune.toml").done();
    assert_eq!(fs::read_link(place.path("state/active.edelta")).unwrap(), first);
    assert_ne!(predicted(&place, "green", [0, 190, 0]), "green");
}

#[test]
fn a_state_has_one_agent_and_a_configuration_is_checked() {
    let place = ready();
    let service = Service::start(&place);
    service.hear("READY=1");
    place.run("agent run --config edgetune.toml").fails(&["another agent", "state"]);
    service.stop();
    place.run("agent status --config nowhere.toml").fails(&["nowhere.toml", "--config"]);
    for (from, to, parts) in [
        ("interval-min = 0", "interval-mins = 0", ["interval-mins", "edgetune.toml"]),
        ("held-out-min = 8", "held-out = 1.5", ["gate.held-out", "0.2"]),
        ("held-out-min = 8", "confidence = 0.5", ["gate.confidence", "0.95"]),
        ("load-max = 1.0", "load-max = 70", ["policy.load-max", "up to 1"]),
        ("interval-min = 0", "hours = \"22-6\"", ["`22-6`", "22:00-06:00"]),
    ] {
        place.write("edgetune.toml", CONFIG.replace(from, to));
        place.run("agent run --config edgetune.toml").fails(&parts);
    }
}

/// The service said `waiting for new samples`, and a failed training used them up.
#[test]
fn a_recipe_that_cannot_be_used_is_told_at_once_and_uses_up_no_samples() {
    let place = ready();
    place.write("recipe.toml", RECIPE.replace("base.onnx", "missing.onnx"));
    let service = Service::start(&place);
    service.hear("STATUS=recipe and model cannot be used: ");
    let status = || place.run("agent status --config edgetune.toml --json").json();
    let trouble = status()["trouble"].as_str().unwrap().to_string();
    assert!(trouble.contains("missing.onnx") && trouble.contains("when recipe, model or samples change"), "{trouble}");
    drop_reds_and_blues(&place);
    until(&place, "all samples", || samples(&place) == 90);
    assert_eq!(count(&history(&place), "failed"), 1, "nothing is trained, and it is said once");

    // A model that can be read, and a recipe that can not.
    place.write("recipe.toml", RECIPE.replace("epochs = 30", "epochs = \"many\""));
    service.send("HUP");
    until(&place, "the other reason", || count(&history(&place), "failed") == 2);
    assert!(status()["trouble"].as_str().unwrap().contains("recipe.toml"), "{}", status());

    // Nobody says that it is mended, and no sample comes.
    place.write("recipe.toml", RECIPE);
    until(&place, "an adapter in use", || place.path("state/active.edelta").exists());
    until(&place, "an end of the run", || !place.path("state/run").exists());
    assert_eq!((status()["trouble"].clone(), samples(&place)), (Value::Null, 90));
    service.stop();
}
