//! Sounds, from the files to the predictions.

use super::Place;
use super::models::{noise, npy};
use serde_json::Value;

/// A WAV file of one channel, 16 bits.
fn wav(rate: u32, samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| ((sample * 32767.0) as i16).to_le_bytes()).collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(rate.to_le_bytes());
    bytes.extend((2 * rate).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((data.len() as u32).to_le_bytes());
    [bytes, data].concat()
}

/// `base.onnx`, which takes four samples, and clips of three to six that are told apart by the first.
fn place(rate: impl Fn(usize) -> u32) -> Place {
    let place = Place::with_table(2, "label", |_| "unused".into());
    for (number, values) in noise(5, 64 * 6).chunks_exact(6).enumerate() {
        let class = if values[0] > 0.0 { "up" } else { "down" };
        place.write(&format!("clips/{class}/{number}.wav"), wav(rate(number), &values[..3 + number % 4]));
    }
    place
}

const LONG: &str = "--train last:2 --epochs 40 --batch 8 --lr 0.02 --scale 2 --out a.edelta";

fn answers(place: &Place, inputs: &str) -> Vec<Value> {
    let answers = place.run(&format!("predict base.onnx --adapter a.edelta {inputs} --json")).json();
    answers.as_array().unwrap().clone()
}

#[test]
fn a_folder_of_sounds_is_learned_and_a_clip_predicted_in_the_same_way() {
    let place = place(|_| 8000);
    let run = place.run(&format!("train base.onnx --data clips {LONG}")).done();
    assert!(run.err.contains("mono 8000 Hz, 4 samples") && run.err.contains("the files' own"), "{}", run.err);
    let right = |answer: &&Value| {
        answer["input"].as_str().unwrap().contains(&format!("/{}/", answer["classes"][0]["name"].as_str().unwrap()))
    };
    let all = answers(&place, "clips");
    assert!(all.len() == 64 && all.iter().filter(right).count() > 57, "{all:?}");
    let shown = place.run("delta show a.edelta --json").json();
    let sound = &shown["preprocessing"]["Sound"];
    assert_eq!((&sound["rate"], &sound["samples"], &sound["scale"]), (&8000.into(), &4.into(), &2.0.into()), "{shown}");
    // The same sound at twice the rate is the same sound, but for what lies over the limit.
    let slow = [0.3f32, 0.3, 0.3, 0.3];
    place.write("clip.wav", wav(8000, &slow));
    place.write("fast.wav", wav(16_000, &[slow, slow].concat()));
    let both = answers(&place, "clip.wav fast.wav");
    let score = |answer: &Value| answer["classes"][0]["probability"].as_f64().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(both[0]["classes"][0]["name"], both[1]["classes"][0]["name"]);
    assert!((score(&both[0]) - score(&both[1])).abs() < 0.1, "{both:?}");
    place.write("cut.wav", &wav(8000, &slow)[..46]);
    place.run("predict base.onnx --adapter a.edelta cut.wav").fails(&["cut.wav", "cut off"]);
}

#[test]
fn a_table_of_parts_is_learned_and_each_part_answered() {
    let place = place(|_| 8000);
    let mut table = String::from("file,start,end,label\n");
    let long: Vec<f32> = noise(5, 64 * 6);
    place.write("long.wav", wav(8000, &long));
    for (number, values) in long.chunks_exact(6).enumerate() {
        let class = if values[0] > 0.0 { "up" } else { "down" };
        let [start, end] = [number * 6, number * 6 + 6].map(|sample| sample as f64 / 8000.0);
        table += &format!("long.wav,{start},{end},{class}\n");
    }
    place.write("parts.csv", table);
    place.run(&format!("train base.onnx --data parts.csv {LONG}")).done();
    let all = answers(&place, "parts.csv");
    assert_eq!(all.len(), 64);
    assert!(all[1]["input"].as_str().unwrap().ends_with("long.wav[0.00075-0.0015 s]"), "{}", all[1]);
}

#[test]
fn what_nothing_tells_is_asked_for_and_what_does_not_fit_refused() {
    let place = place(|number| if number % 2 == 0 { 8000 } else { 16_000 });
    let run = "train base.onnx --data clips --epochs 1 --out a.edelta";
    place.run(run).fails(&["several rates (8000 Hz, 16000 Hz)", "--sample-rate 16000"]);
    place.run(&format!("{run} --sample-rate 0")).fails(&["--sample-rate 0"]);
    place.run(&format!("{run} --sample-rate 8000 --duration 1s")).fails(&["--duration", "8000 samples", "takes 4"]);
    place.run(&format!("{run} --sample-rate 8000 --front-end librosa")).fails(&["--front-end librosa", "waveform"]);
    place
        .run("train base.onnx --data table.csv --sample-rate 8000 --out a.edelta")
        .fails(&["--sample-rate", "no sounds"]);
    assert!(!place.path("a.edelta").exists());
    place.run(&format!("{run} --sample-rate 8000")).done();
    // What was trained on arrays knows no rate.
    place.write("rows/a/1.npy", npy(&[4], &[1.0; 4]));
    place.write("rows/a/2.npy", npy(&[4], &[0.9; 4]));
    place.write("rows/b/1.npy", npy(&[4], &[-1.0; 4]));
    place.write("rows/b/2.npy", npy(&[4], &[-0.9; 4]));
    place.run("train base.onnx --data rows --epochs 1 --out b.edelta").done();
    place.run("predict base.onnx --adapter b.edelta clips/up").fails(&["was not trained on sounds"]);
}
