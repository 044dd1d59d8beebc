//! `edgetune delta`: keys, signatures, chains and encodings, from files to files.

use super::{Place, finished, not_tested};
use edgetune::delta::{Delta, Encoding, Header, TensorValues, encode, write};
use edgetune::engine::{Options, Session};
use edgetune::graph::Tensor;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Three classes learned by two runs: `a.edelta` after few epochs, `b.edelta` after more.
fn place() -> Place {
    let place = Place::with_table(3, "label", |row| {
        let class = if row[0] > 0.3 { "a" } else { "b" };
        if row[1] > 0.0 { class.into() } else { "c".into() }
    });
    for (name, epochs) in [("a", 4), ("b", 40)] {
        let options = format!("--train last:2 --epochs {epochs} --batch 8 --lr 0.02 --val-fraction 0");
        place.run(&format!("train base.onnx --data table.csv {options} --out {name}.edelta")).done();
    }
    place
}

fn values(bytes: &[u8]) -> Vec<f32> {
    Delta::parse(bytes).unwrap().tensors().flat_map(|tensor| tensor.values().collect::<Vec<_>>()).collect()
}

#[test]
fn only_the_holder_of_the_key_makes_a_delta_verify() {
    let place = place();
    place.run("delta keygen --out K.pem").done();
    place.run("delta keygen --out other.pem").done();
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("K.pem"), mode("K.pub.pem")), (0o600, 0o644));
    let secret = place.read("K.pem");
    place.run("delta keygen --out K.pem").fails(&["K.pem", "never written over"]);
    assert_eq!(place.read("K.pem"), secret);
    fs::rename(place.path("other.pem"), place.path("moved.pem")).unwrap();
    place.run("delta keygen --out other.pem").fails(&["other.pub.pem", "never written over"]);
    assert!(!place.path("other.pem").exists(), "a secret key without its public one");

    place.run("delta verify a.edelta --public K.pub.pem").fails(&["a.edelta", "not signed"]);
    place.run("delta sign a.edelta --key K.pem --out signed.edelta").done();
    place.run("delta verify signed.edelta --public K.pub.pem").done();
    place.run("delta verify signed.edelta --public other.pub.pem").fails(&["another key"]);
    place.run("delta verify signed.edelta --public K.pem").fails(&["K.pem", "keygen"]);
    place.run("delta sign a.edelta --key K.pub.pem --out x.edelta").fails(&["K.pub.pem", "keygen"]);
    let mut tampered = place.read("signed.edelta");
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    place.write("tampered.edelta", tampered);
    place.run("delta verify tampered.edelta --public K.pub.pem").fails(&["tampered.edelta", "damaged"]);

    let shown = place.run("delta show signed.edelta --json").json();
    assert_eq!(shown["signer"].as_str().unwrap().len(), 64);
    assert_eq!(shown["identity"], place.run("delta show a.edelta --json").json()["identity"]);
    assert_eq!(shown["labels"][2]["name"], "c");
    let text = place.run("delta show signed.edelta").done().out;
    assert!(text.contains("signed by") && text.contains("labels") && text.contains("identity"), "{text}");
    let eval = |name: &str| place.run(&format!("eval base.onnx --adapter {name} --data table.csv --json")).json();
    assert_eq!(eval("signed.edelta"), eval("a.edelta"));
}

/// OpenSSL reads the keys and agrees on what belongs together; without it there is nobody to ask, which is told.
#[test]
fn keys_are_those_of_openssl() {
    let place = Place::new();
    place.run("delta keygen --out K.pem").done();
    let mut command = Command::new("openssl");
    command.args(["pkey", "-in", "K.pem", "-pubout"]).current_dir(place.path("")).stdin(Stdio::null());
    let Ok(output) = command.output() else {
        return not_tested("keys against openssl, which is not installed: apt-get install openssl");
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&place.read("K.pub.pem")));
}

#[test]
fn a_difference_and_its_parent_give_the_newer_delta_back() {
    let place = place();
    let moved = place.run("delta diff a.edelta b.edelta --json").json();
    assert!(moved.as_array().unwrap().iter().all(|tensor| tensor["what"] == "changed"), "{moved}");
    place.run("delta diff a.edelta b.edelta --out d.edelta").done();
    place.run("eval base.onnx --adapter d.edelta --data table.csv").fails(&["d.edelta", "difference", "delta apply"]);
    place.run("delta apply a.edelta d.edelta --out again.edelta").done();
    assert_eq!(place.read("again.edelta"), place.read("b.edelta"));
    // Of a newer delta whose values are no fp16 numbers, nothing is lost either.
    place.run("delta convert b.edelta --encoding int8 --out b8.edelta").done();
    place.run("delta diff a.edelta b8.edelta --out d8.edelta").done();
    place.run("delta apply a.edelta d8.edelta --out again.edelta").done();
    assert_eq!(place.read("again.edelta"), place.read("b8.edelta"));
    place.run("delta apply b.edelta d.edelta --out x.edelta").fails(&["d.edelta", "another delta"]);
    place.run("delta merge a.edelta d.edelta --out x.edelta").fails(&["difference"]);

    place.run("delta merge a.edelta b.edelta --weights 3,1 --out m.edelta").done();
    let [a, b, m] = ["a.edelta", "b.edelta", "m.edelta"].map(|name| values(&place.read(name)));
    let mean = a.iter().zip(&b).map(|(a, b)| 0.75 * a + 0.25 * b);
    assert!(mean.zip(&m).all(|(mean, m)| (mean - m).abs() <= 1e-3 * mean.abs().max(1e-3)));
    place.run("delta merge a.edelta b.edelta --weights 1 --out x.edelta").fails(&["--weights"]);
    assert!(!place.path("x.edelta").exists());
}

#[test]
fn an_encoding_is_asked_for_or_found_by_measurement() {
    let place = place();
    place.run("delta convert b.edelta --encoding int8 --out q.edelta").done();
    let error = values(&place.read("b.edelta")).into_iter().zip(values(&place.read("q.edelta")));
    assert!(error.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 0.02);
    let bound = "--model base.onnx --data table.csv --out c.edelta";
    let loss = |name: &str| {
        place.run(&format!("eval base.onnx --adapter {name} --data table.csv --json")).json()["loss"].as_f64().unwrap()
    };
    let before = loss("b.edelta");
    for bound_max in [0.02, 0.0] {
        place.run(&format!("delta convert b.edelta --max-loss-increase {bound_max} {bound}")).done();
        assert!(loss("c.edelta") <= before + bound_max + 1e-6);
        assert!(place.read("c.edelta").len() <= place.read("b.edelta").len());
    }
    place.run(&format!("delta convert b.edelta --max-loss-increase=-9 {bound}")).fails(&["raise the bound"]);
    place.run("delta convert b.edelta --out c.edelta").fails(&["--encoding"]);
}

/// The model with the delta in it gives the losses that `eval` measures, weights inside and beside it.
#[test]
fn a_delta_is_applied_to_its_model() {
    let place = place();
    place.run("delta apply base.onnx b.edelta --out merged.onnx").done();
    place.run("delta apply base.onnx b.edelta --out beside.onnx --external-weights").done();
    let table = String::from_utf8(place.read("table.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let numbers: Vec<f32> = rows.iter().flat_map(|row| row[..4].iter().map(|cell| cell.parse().unwrap())).collect();
    let x = Tensor::from_f32(&[rows.len() as u64, 4], &numbers);
    let loss = |name: &str| {
        let mut session = Session::from_file(&place.path(name), &Options::default()).unwrap();
        let input = session.inputs()[0].0.clone();
        let logits = session.run(&[(&input, &x)]).unwrap()[0].to_f32().unwrap();
        let of_row = |(row, logits): (&Vec<&str>, &[f32])| {
            let class = ["a", "b", "c"].iter().position(|class| *class == row[4]).unwrap();
            logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln() - f64::from(logits[class])
        };
        rows.iter().zip(logits.chunks_exact(3)).map(of_row).sum::<f64>() / rows.len() as f64
    };
    crate::engine::runtime();
    let measured = place.run("eval base.onnx --adapter b.edelta --data table.csv --json").json();
    let measured = measured["loss"].as_f64().unwrap();
    assert!((loss("merged.onnx") - measured).abs() < 1e-4, "{} {measured}", loss("merged.onnx"));
    assert!((loss("beside.onnx") - measured).abs() < 1e-4);
}

/// A delta of 1 MB: long enough for a write to be met in its middle.
fn large() -> Vec<u8> {
    let noise = |index: u32| ((index.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0) - 0.5;
    let payload = encode(&(0..500_000).map(noise).collect::<Vec<f32>>(), Encoding::Fp16).unwrap();
    let header = Header { loss: "l", output: "o", ..Header::default() };
    write(&header, &[], &[TensorValues { name: "w", shape: &[500_000], payload: &payload }]).unwrap()
}

/// Killed at any moment, a write leaves the old file or the new one.
#[test]
fn a_killed_write_leaves_a_whole_file() {
    let place = Place::new();
    let large = large();
    place.write("a.edelta", &large);
    place.run("delta keygen --out K.pem").done();
    place.run("delta sign a.edelta --key K.pem --out new.edelta").done();
    let new = place.read("new.edelta");
    place.write("out.edelta", b"EDLT old");
    let (mut olds, mut pause) = (0, Duration::from_millis(4));
    for _ in 0..200 {
        let mut child = place
            .command("delta sign a.edelta --key K.pem --out out.edelta")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(pause);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = place.read("out.edelta");
        assert!(found == b"EDLT old" || found == new, "{} bytes", found.len());
        if found == new {
            break;
        }
        olds += 1;
        pause = pause * 13 / 10;
    }
    assert!(olds > 0, "never killed before the end");
    assert_eq!(place.read("out.edelta"), new, "never came to the end");
}

/// A full disk, played by a limit on the size of files: the old file stays, and nothing is left beside it.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let place = Place::new();
    place.write("a.edelta", large());
    place.run("delta keygen --out K.pem").done();
    place.write("out.edelta", b"EDLT old");
    let program = place.command("delta sign a.edelta --key K.pem --out out.edelta");
    let mut limited = Command::new("sh");
    // Ignored, the signal of the limit becomes an error of the write.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]).arg(program.get_program());
    limited.args(program.get_args()).current_dir(place.path("")).stdin(Stdio::null());
    finished(limited).fails(&["out.edelta"]);
    assert_eq!(place.read("out.edelta"), b"EDLT old");
    assert_eq!(place.names(), ["K.pem", "K.pub.pem", "a.edelta", "out.edelta"]);
}

/// Runs a command in the folder with a file system of 64 KiB, full to the last block, on `full/`; before it fills up, `old` is
/// there. Gives what the run did and the names that it left on it; `None` where this user may not mount.
fn on_a_full_disk(place: &Place, arguments: &str) -> Option<(super::Ran, Vec<String>)> {
    fs::create_dir_all(place.path("full")).unwrap();
    let program = place.command(arguments);
    let script = "mount -t tmpfs -o size=64k none full || exit 77; printf 'EDLT old' > full/out.edelta; \
                  cat /dev/zero > full/filler 2>/dev/null; \"$0\" \"$@\"; code=$?; ls -A full > left; cat full/out.edelta > kept; exit $code";
    let mut command = Command::new("unshare");
    // A mount namespace of its own, so that nothing stays mounted; as root in it, whoever asks.
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(program.get_program());
    command.args(program.get_args()).current_dir(place.path("")).stdin(Stdio::null()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let missing =
        |_| not_tested("a full disk: no `unshare` to mount one; the limit on the size of files stands in for it");
    let output = command.output().map_err(missing).ok()?;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran = super::Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    if ran.code == Some(77) || ran.err.starts_with("unshare:") {
        not_tested(&format!(
            "a full disk, which this user may not mount ({}); the limit on the size of files stands in for it",
            ran.err.trim()
        ));
        return None;
    }
    assert_eq!(place.read("kept"), b"EDLT old", "{}", ran.err);
    let left = text(place.read("left"));
    Some((ran, left.lines().map(str::to_owned).collect()))
}

/// Nothing half-written, the old file as it was, the file's name and the reason, exit code 1.
#[test]
fn a_really_full_disk_leaves_the_old_file() {
    let place = place();
    place.write("large.edelta", large());
    place.run("delta keygen --out K.pem").done();
    let train = "train base.onnx --data table.csv --train last:2 --epochs 2 --batch 8 --out full/out.edelta";
    for command in ["delta sign large.edelta --key K.pem --out full/out.edelta", train] {
        let Some((ran, left)) = on_a_full_disk(&place, command) else { return };
        ran.fails(&["full/out.edelta", "No space left on device"]);
        assert_eq!(left, ["filler", "out.edelta"], "{command}");
    }
}

#[test]
fn an_export_is_the_model_or_says_what_else_to_do() {
    let place = place();
    place.run("export --adapter a.edelta --to safetensors --out p").fails(&["whole layers", "--to onnx"]);
    place.run("export --adapter a.edelta --to onnx --model base.onnx --out merged.onnx").done();
    place.run("delta apply base.onnx a.edelta --out applied.onnx").done();
    assert_eq!(place.read("merged.onnx"), place.read("applied.onnx"));
    let merged = edgetune::onnx::read(&place.path("merged.onnx")).unwrap().graph;
    assert!(merged.outputs.iter().all(|id| merged.ty(*id).is_some()), "an output without a type");
}
