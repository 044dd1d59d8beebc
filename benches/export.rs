//! `cargo bench --bench export`: how fast exported models are, beside their base: with LoRA folded into the weights (`export --to
//! onnx`), and with it as optional inputs (`export --to onnx-adapter`), which compute the same whether fed or not.
//!
//! Turns alternate, and each form's time is compared with the base's of the same turn, so that what else the machine does
//! falls on all alike; the fastest turns of a busy machine are those that it left alone. Weights are random: they do not change what is computed.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use edgetune::adapter::{self, Kind, Method, Request};
use edgetune::data::Preprocessing;
use edgetune::delta::Task;
use edgetune::engine::{self, LibraryChoice, Options, Session};
use edgetune::graph::{DType, Graph, Tensor};
use edgetune::train::artifact::Adapter;
use edgetune::train::export;
use edgetune::train::loss::Loss;
use edgetune::train::prepare::Base;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Measures exported models against their base
#[derive(Debug, Parser)]
struct Args {
    /// The base
    #[arg(default_value = "models/efficientnet_lite0/model.onnx")]
    model: PathBuf,
    /// Turns; medians over them are printed
    #[arg(long, default_value_t = 7)]
    turns: usize,
    /// Runs of each model in a turn
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Samples in a run
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Size of all other dimensions that the model leaves open
    #[arg(long, default_value_t = 32)]
    open: u64,
    /// Rank of LoRA, on all layers
    #[arg(long, default_value_t = 8)]
    rank: u32,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The ONNX Runtime library [default: the device's, or one that is installed under target/]
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    edgetune::configure_process();
    let args = Args::parse();
    ensure!(args.turns > 0 && args.runs > 0, "--turns and --runs: at least 1");
    let mut choice = LibraryChoice::new(args.onnxruntime.clone(), |name| std::env::var_os(name));
    choice.data_folder = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).into());
    engine::load_or_install(&choice, &mut |_| {})?;
    let base = Base::read(&args.model)?;
    let learned = adapter(&base, args.rank)?;
    let forms = [
        ("base", base.graph.clone()),
        ("onnx", export::merged(&base, &learned)?),
        ("onnx-adapter", export::with_optional_inputs(&base, &learned)?),
    ];
    let options = Options { threads: args.threads, ..Options::default() };
    let samples = samples(&base.graph, &args);
    let fed: Vec<(&str, &Tensor)> = samples.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut sessions = Vec::new();
    for (_, graph) in &forms {
        let mut session = Session::from_graph(graph, &options)?;
        session.run(&fed).context("the first run")?;
        sessions.push(session);
    }
    let mut seconds = vec![Vec::new(); forms.len()];
    for turn in 0..args.turns {
        // There and back again, so that no form always follows the same one.
        let order: Vec<usize> =
            if turn % 2 == 0 { (0..forms.len()).collect() } else { (0..forms.len()).rev().collect() };
        for form in order {
            let (session, seconds) = (&mut sessions[form], &mut seconds[form]);
            let began = Instant::now();
            for _ in 0..args.runs {
                session.run(&fed)?;
            }
            seconds.push(began.elapsed().as_secs_f64() / args.runs as f64);
        }
    }
    println!(
        "{}: batch {}, {} threads, {} turns of {} runs",
        args.model.display(),
        args.batch,
        args.threads,
        args.turns,
        args.runs
    );
    println!("              median ms  × base  fastest ms  × base");
    let fastest = |taken: &[f64]| taken.iter().copied().fold(f64::INFINITY, f64::min);
    for ((name, _), taken) in forms.iter().zip(&seconds) {
        let ratio = median(taken.iter().zip(&seconds[0]).map(|(taken, base)| taken / base).collect());
        let (middle, least) = (1e3 * median(taken.clone()), 1e3 * fastest(taken));
        println!("{name:13} {middle:9.3} {ratio:7.3} {least:11.3} {:7.3}", least / (1e3 * fastest(&seconds[0])));
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// LoRA of that rank on all layers, with random factors.
fn adapter(base: &Base, rank: u32) -> Result<Adapter> {
    let method = Some(Method { kind: Kind::Lora, rank, alpha: rank as f32 });
    let adapted = adapter::install(base.graph.clone(), &Request { method, ..Request::default() })?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut values = |count: usize| (0..count).map(|_| 0.02 * (random.f32() - 0.5)).collect();
    let parameters = adapted.parameters.into_iter();
    Ok(Adapter {
        path: "(random)".into(),
        base: base.hash,
        labels: Vec::new(),
        task: Task::Classification,
        loss: Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None },
        output: adapted.graph.value_name(adapted.output).into(),
        head: None,
        method,
        seed: 0,
        preprocessing: Preprocessing::Plain,
        tensors: parameters.map(|p| (p.name, p.shape, values(p.initial.len()))).collect(),
        batch_axis: None,
        bytes: 0,
    })
}

fn samples(graph: &Graph, args: &Args) -> Vec<(String, Tensor)> {
    let mut made = Vec::new();
    for id in &graph.inputs {
        let Some(ty) = graph.ty(*id) else { continue };
        let dims = ty.shape.iter().flatten().enumerate();
        let size = |(axis, dim): (usize, &edgetune::graph::Dim)| match axis {
            0 => args.batch,
            _ => dim.fixed().unwrap_or(args.open),
        };
        let shape: Vec<u64> = dims.map(size).collect();
        let count = shape.iter().product::<u64>() as usize;
        let tensor = match ty.dtype {
            DType::Int64 => Tensor::from_vec(&shape, vec![1i64; count]),
            _ => Tensor::from_vec(&shape, vec![0.5f32; count]),
        };
        made.push((graph.value_name(*id).to_string(), tensor));
    }
    made
}
