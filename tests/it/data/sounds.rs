//! Sounds: what is made of them, and what is refused.

use super::{folder, refusal};
use bytes::Bytes;
use edgetune::data::{
    Dataset, Labels, Limits, Options, Preprocessing, Recording, SoundPreprocessing, UnitAxis, decode_sound,
    parse_front_end, split_groups,
};
use edgetune::graph::Tensor;
use ndarray::IxDyn;
use ndarray_npy::NpzReader;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sounds").join(name)
}

/// An array of the golden, row-major.
fn array(name: &str) -> Vec<f32> {
    let mut npz = NpzReader::new(File::open(golden("sounds.npz")).unwrap()).unwrap();
    npz.by_name::<ndarray::OwnedRepr<f32>, IxDyn>(name).unwrap().into_iter().collect()
}

fn furthest(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f32::max)
}

/// A WAV file of floats.
fn wav(rate: u32, channels: u16, samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(3u16.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate.wrapping_mul(4 * u32::from(channels))).to_le_bytes());
    bytes.extend((4 * channels).to_le_bytes());
    bytes.extend(32u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    [bytes, data].concat()
}

fn plain(rate: u32, samples: u32) -> SoundPreprocessing {
    SoundPreprocessing { rate, samples, scale: 1.0, unit_axis: UnitAxis::None, mel: None, frames_first: false }
}

fn sounds(preprocessing: SoundPreprocessing) -> Options {
    Options { preprocessing: Preprocessing::Sound(preprocessing), ..Options::default() }
}

#[test]
fn every_coding_is_read_as_libsndfile_reads_it() {
    for name in ["pcm8.wav", "pcm16.wav", "pcm24.wav", "pcm32.wav", "float.wav", "pcm16.flac", "pcm24.flac"] {
        let sound = decode_sound(&fs::read(golden(name)).unwrap().into(), &Limits::default()).unwrap();
        assert_eq!(sound.rate, 44_100, "{name}");
        let apart = furthest(&sound.samples, &array(&format!("mono_{name}")));
        assert!(apart < 1e-6, "{name}: {apart} apart");
    }
}

#[test]
fn a_sound_is_resampled_as_torchaudio_does_it() {
    let sound = Recording { rate: 44_100, samples: array("mono") };
    for rate in [16_000, 22_050, 48_000, 8_000] {
        let apart = furthest(&sound.at(rate, usize::MAX), &array(&format!("at_{rate}")));
        assert!(apart < 1e-5, "{rate} Hz: {apart} apart");
    }
}

#[test]
fn spectrograms_are_those_of_torchaudio_and_librosa() {
    let clip = Recording { rate: 16_000, samples: array("clip") };
    for (name, front_end) in [
        ("torchaudio_htk", "torchaudio"),
        ("torchaudio_slaney", "torchaudio:fft=400,low=100,high=7000,scale=slaney,norm=slaney,log=ln"),
        ("librosa_slaney", "librosa"),
        ("librosa_htk_open", "librosa:scale=htk,norm=none,edge=open"),
    ] {
        let mel = parse_front_end(front_end, 16_000, 40).unwrap();
        let preprocessing = SoundPreprocessing { mel, ..plain(16_000, 2_000) };
        preprocessing.validate().unwrap();
        let told: Tensor = preprocessing.tensor(&clip);
        let apart = furthest(&told.to_f32().unwrap(), &array(name));
        assert!(apart < 1e-4, "{name}: {apart} apart");
    }
}

#[test]
fn class_folders_hold_sounds_and_arrays_of_samples() {
    let stereo = wav(8000, 2, &[0.5, -0.5, 1.0, 0.5]);
    let npy = edgetune::data::npy_of_floats(&[3], &[0.1, 0.2, 0.3]);
    let root = folder(&[("a/one.wav", &stereo), ("b/two.npy", &npy), ("b/notes.md", b"#")]);
    let (data, report) = Dataset::open(root.path(), &sounds(plain(8000, 4))).unwrap();
    assert_eq!(data.load(0).unwrap()[0].1.to_f32().unwrap(), [0.0, 0.75, 0.0, 0.0]);
    assert_eq!(data.load(1).unwrap()[0].1.to_f32().unwrap(), [0.1, 0.2, 0.3, 0.0]);
    assert_eq!(report.skipped.len(), 1, "{report:?}");
    fs::write(root.path().join("a/one.wav"), wav(8000, 1, &[0.0])).unwrap();
    assert!(data.load(0).unwrap_err().to_string().contains("one.wav: changed while it was in use"));
}

/// Each way in which a file can be no sound, with what is said of it.
#[test]
fn what_is_no_sound_is_left_out_with_its_reason() {
    let good = wav(8000, 1, &[0.5; 16]);
    let flac = fs::read(golden("pcm16.flac")).unwrap();
    let mut of_rate_0 = flac.clone();
    // The rate is 20 bits of the stream's information (RFC 9639, section 8.2).
    of_rate_0[18..20].fill(0);
    of_rate_0[20] &= 0x0f;
    let mut claiming = good.clone();
    claiming[40..44].copy_from_slice(&0x7fff_fffc_u32.to_le_bytes());
    let mut compressed = good.clone();
    compressed[20] = 0x55;
    let infinite = wav(8000, 1, &[0.0, f32::INFINITY]);
    for (bytes, reason) in [
        (Vec::new(), "an empty file"),
        (b"hello".to_vec(), "not a sound"),
        (wav(8000, 1, &[]), "a sound of 0 s"),
        (wav(0, 1, &[0.5]), "a sample rate of 0"),
        (of_rate_0, "invalid sample rate"),
        (wav(8000, 1, &[0.5, f32::NAN]), "sample 1 is no finite number"),
        (infinite, "sample 1 is no finite number"),
        (good[..good.len() - 6].to_vec(), "cut off"),
        (good[..30].to_vec(), "cut off"),
        (claiming, "too many"),
        (compressed, "ffmpeg"),
        (flac[..flac.len() / 2].to_vec(), "cut off"),
        (flac[..20].to_vec(), "cut off"),
        (b"OggS....".to_vec(), "Ogg; WAV and FLAC are read"),
        (b"ID3.....".to_vec(), "MP3; WAV and FLAC are read"),
        (edgetune::data::npy_of_floats(&[1, 2], &[0.0; 2]), "shape [1, 2]"),
    ] {
        let root = folder(&[("a/good.wav", &good), ("b/good.wav", &good), ("b/bad.wav", &bytes)]);
        let (data, report) = Dataset::open(root.path(), &sounds(plain(8000, 4))).unwrap();
        assert_eq!((data.len(), report.skipped.len()), (2, 1), "{reason}");
        let (path, told) = &report.skipped[0];
        assert!(path.ends_with("b/bad.wav") && told.contains(reason), "{told} instead of {reason}");
    }
}

#[test]
fn damaged_bytes_are_refused_or_read_and_nothing_worse() {
    let limits = Limits { decoded_bytes_max: 1 << 20, ..Limits::default() };
    let mut random = fastrand::Rng::with_seed(1);
    for name in ["pcm16.wav", "pcm24.wav", "float.wav", "pcm16.flac", "pcm24.flac"] {
        let good = fs::read(golden(name)).unwrap();
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..6) {
                // Headers are short, and most of what can be claimed stands there.
                let end = if random.bool() { 60 } else { bytes.len() };
                let place = random.usize(..end);
                bytes[place] = random.u8(..);
            }
            bytes.truncate(random.usize(1..=bytes.len()));
            let _ = decode_sound(&Bytes::from(bytes), &limits);
        }
    }
}

#[test]
fn a_table_names_parts_of_recordings_which_stay_together() {
    let ramp: Vec<f32> = (0..8).map(|place| place as f32 / 8.0).collect();
    let table = "file,start,end,label\nx.wav,0,0.5,a\nx.wav,0.25,0.75,b\nx.wav,5,6,a\ny.wav,0.5,1,b\ny.wav,0,0.5,a\n";
    let x = wav(8, 1, &ramp);
    let y: Vec<f32> = ramp.iter().map(|sample| -sample).collect();
    let root = folder(&[("list.csv", table.as_bytes()), ("x.wav", &x), ("y.wav", &wav(8, 1, &y))]);
    let options = Options { splits: true, ..sounds(plain(8, 4)) };
    let (data, report) = Dataset::open(&root.path().join("list.csv"), &options).unwrap();
    assert_eq!(data.load(1).unwrap()[0].1.to_f32().unwrap(), ramp[2..6]);
    assert!(data.name(1).ends_with("x.wav[0.25-0.75 s]"), "{}", data.name(1));
    let (path, reason) = &report.skipped[0];
    assert!(path.ends_with("list.csv:4") && reason.contains("starts at 5 s, behind the end"), "{report:?}");
    assert!(matches!(data.labels(), Labels::Classes { index, .. } if index == &[0, 1, 1, 0]));
    let groups = data.groups().expect("parts of one recording are a group");
    let split = split_groups(data.labels(), data.keys(), groups, 0.5, 0).unwrap();
    assert!(split.train == [0, 1] || split.train == [2, 3], "{split:?}");
}

#[test]
fn times_that_cannot_be_meant_are_refused_by_their_line() {
    let good = wav(8, 1, &[0.5; 8]);
    for (row, columns, parts) in [
        ("x.wav,1,0.5,a", "file,start,end,label", &["list.csv:2", "ends at 0.5 s"][..]),
        ("x.wav,-1,0.5,a", "file,start,end,label", &["list.csv:2", "`start`", "`-1` is no time"]),
        ("x.wav,0,nan,a", "file,start,end,label", &["list.csv:2", "`end`", "`nan` is no time"]),
        ("x.wav,0,soon,a", "file,onset,offset,label", &["list.csv:2", "`offset`", "`soon`"]),
        ("x.wav,0,a", "file,start,label", &["list.csv:1", "`start` and a column `end`"]),
        ("z.wav,0,1,a", "file,start,end,label", &["none of the 1 sounds", "z.wav"]),
        ("x.wav,9,10,a", "file,start,end,label", &["list.csv:2", "behind the end"]),
    ] {
        let root = folder(&[("list.csv", format!("{columns}\n{row}\n").as_bytes()), ("x.wav", &good)]);
        let told = refusal(&root.path().join("list.csv"), &sounds(plain(8, 4)));
        parts.iter().for_each(|part| assert!(told.contains(part), "{row}: {told}"));
    }
}
