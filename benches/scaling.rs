//! What a run takes while the data or the base grow: time is to grow as they do, private memory not at all.

use crate::bases::{self, Kind};
use crate::{Args, Held, MIB, machine};
use anyhow::{Context, Result, ensure};
use edgetune::plot::{self, Across, Curve, Panel, Scale};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What is measured, and where it goes.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The largest number of samples, a power of ten
    #[arg(long, default_value_t = 100_000)]
    samples: u64,
    /// MiB of weights in the bodies
    #[arg(long, value_delimiter = ',', default_values_t = [10, 40, 160, 640, 2048])]
    mebibytes: Vec<u64>,
    /// Runs of each; the shortest time and the largest memory count
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Where the points go
    #[arg(long, value_name = "FILE", default_value = "target/scaling.csv")]
    csv: PathBuf,
    /// Where the plot goes; the README's is models/scaling.svg
    #[arg(long, value_name = "FILE", default_value = "target/scaling.svg")]
    svg: PathBuf,
}

/// Samples of the runs over bases: few, so that the start is what is measured.
const SAMPLES: u64 = 32;

/// Number of samples or MiB of the base, with what it took.
type Point = (f64, Held);

pub fn scaling(args: &Args, scratch: &Path, options: &Options) -> Result<()> {
    println!("{}\n", machine());
    let samples = over_samples(args, scratch, options)?;
    let [low, balanced] = over_bases(args, scratch, options)?;
    let mut csv = String::from("series,size,seconds,private_mib\n");
    for (series, points) in [("samples", &samples), ("base_mib_low", &low), ("base_mib_balanced", &balanced)] {
        for (size, held) in points {
            writeln!(csv, "{series},{size},{:.3},{:.1}", held.seconds, held.private as f64 / MIB)?;
        }
    }
    fs::write(&options.csv, csv).with_context(|| format!("cannot write {}", options.csv.display()))?;
    fs::write(&options.svg, drawn(&samples, &low, &balanced))
        .with_context(|| format!("cannot write {}", options.svg.display()))
}

/// Three epochs of the head's two layers over a base of 0.5 MiB, with a cold cache.
fn over_samples(args: &Args, scratch: &Path, options: &Options) -> Result<Vec<Point>> {
    println!("| samples | seconds | ms a sample | private |\n|---:|---:|---:|---:|");
    let counts = std::iter::successors(Some(100u64), |count| Some(count * 10));
    let mut points = Vec::new();
    for samples in counts.take_while(|count| *count <= options.samples) {
        let folder = scratch.join(format!("samples{samples}"));
        bases::write(&folder, Kind::Dense, 1, samples)?;
        let held = measured(args, &folder, "balanced", "seconds", options.repeats)?;
        let [each_ms, private] = [held.seconds * 1e3 / samples as f64, held.private as f64 / MIB];
        println!("| {samples} | {:.2} | {each_ms:.3} | {private:.1} MiB |", held.seconds);
        points.push((samples as f64, held));
        fs::remove_dir_all(&folder)?;
    }
    Ok(points)
}

/// From the start of a process that has never seen the base to its first step, `--memory low` and `balanced`.
fn over_bases(args: &Args, scratch: &Path, options: &Options) -> Result<[Vec<Point>; 2]> {
    println!("\n| base | --memory | seconds to the first step | private |\n|---:|---|---:|---:|");
    let mut points = [Vec::new(), Vec::new()];
    for mebibytes in &options.mebibytes {
        let folder = scratch.join(format!("base{mebibytes}"));
        bases::write(&folder, Kind::Dense, mebibytes << 20, SAMPLES)?;
        for (memory, points) in ["low", "balanced"].iter().zip(&mut points) {
            let held = measured(args, &folder, memory, "first_step_s", options.repeats)?;
            println!("| {mebibytes} MiB | {memory} | {:.2} | {:.1} MiB |", held.seconds, held.private as f64 / MIB);
            points.push((*mebibytes as f64, held));
        }
        fs::remove_dir_all(&folder)?;
    }
    Ok(points)
}

/// The shortest time in a report's field and the largest private memory of some runs, each with nothing cached.
fn measured(args: &Args, folder: &Path, memory: &str, seconds: &str, repeats: usize) -> Result<Held> {
    let path = folder.join("report.json");
    let mut most = Held::default();
    for _ in 0..repeats.max(1) {
        let mut train = args.train(folder, memory, &["--epochs", "3", "--report", path.to_str().context("a path")?]);
        let output = train.output()?;
        ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
        let report: Value = serde_json::from_slice(&fs::read(&path)?)?;
        // What the process counts itself (`RssAnon`): to read its maps from outside holds up the more the larger they are.
        let private = report["peak_private_bytes"].as_u64().context("no peak_private_bytes in the report")?;
        let seconds = report[seconds].as_f64().with_context(|| format!("no {seconds} in the report"))?;
        most = most.or_more(Held { private, seconds, pss: 0 });
        fs::remove_dir_all(folder.join("cache"))?;
    }
    Ok(most)
}

fn drawn(samples: &[Point], low: &[Point], balanced: &[Point]) -> String {
    let seconds = |points: &[Point]| points.iter().map(|(size, held)| [*size, held.seconds]).collect();
    let private = |points: &[Point]| points.iter().map(|(size, held)| [*size, held.private as f64 / MIB]).collect();
    let curve = |label: &str, points| Curve { label: label.into(), points };
    let over_samples = |title: &str, unit: &str, scale, points| Panel {
        title: title.into(),
        x_label: "samples".into(),
        y_label: unit.into(),
        across: Across::Logarithmic,
        scale,
        curves: vec![curve("", points)],
    };
    let over_bases = |title: &str, unit: &str, scale, low, balanced| Panel {
        title: title.into(),
        x_label: "weights of the base, MiB".into(),
        y_label: unit.into(),
        across: Across::Logarithmic,
        scale,
        curves: vec![curve("--memory low", low), curve("--memory balanced", balanced)],
    };
    let from_zero = Scale::FromZero { top: 64.0 };
    plot::svg(&[
        over_samples("Three epochs", "s (dashed: in proportion)", Scale::Logarithmic, seconds(samples)),
        over_bases(
            "Start to first step",
            "s (dashed: in proportion)",
            Scale::Logarithmic,
            seconds(low),
            seconds(balanced),
        ),
        over_samples("Private memory", "MiB", from_zero, private(samples)),
        over_bases("Private memory", "MiB", from_zero, private(low), private(balanced)),
    ])
}
