//! `cargo bench --bench step`: how near a training step comes to what the machine can do.
//!
//! - `optimizer`: bytes a second of the optimisers' update, beside those of `memcpy` over as much memory. AdamW reads four
//!   values an element and writes three (28 bytes), SGD reads two and writes one (12 bytes); a copy reads one and writes one.
//! - `products`: FLOP a second of whole steps (of their `MatMul`, `Gemm` and `Conv` nodes alone, over the time of all nodes), beside
//!   those of ONNX Runtime's own `MatMul` of 2048 × 2048 × 2048 with as many threads.
//!
//! What is compared takes turns; the fastest turn of each counts, for nothing can make a step faster than it is.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use edgetune::adapter::{self, Kind, Method, Places, Request};
use edgetune::cut::Selection;
use edgetune::engine::{self, LibraryChoice, Options, Session};
use edgetune::graph::{Builder, DType, Dim, Graph, Node, Tensor, TensorType, ValueId};
use edgetune::train::loss::Loss;
use edgetune::train::optimizer::{Optimizer, State};
use edgetune::train::plan::liveness::bind;
use edgetune::train::plan::usefulness::{Batch, step_seconds};
use edgetune::train::prepare::{Base, divide, write};
use edgetune::train::step::Again;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Measures steps against the machine
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Turns of each
    #[arg(long, default_value_t = 9, global = true)]
    turns: usize,
    /// Threads of ONNX Runtime
    #[arg(long, default_value_t = 2, global = true)]
    threads: usize,
    /// Folder with the transformers of the design's shared models, for LoRA
    #[arg(long, value_name = "DIR", global = true)]
    models: Option<PathBuf>,
    /// The ONNX Runtime library [default: the device's, or one that is installed under target/]
    #[arg(long, value_name = "PATH", global = true)]
    onnxruntime: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The update of the parameters beside memcpy
    Optimizer,
    /// The step's products beside ONNX Runtime's MatMul
    Products,
}

fn main() -> Result<()> {
    edgetune::configure_process();
    let args = Args::parse();
    match args.what {
        What::Optimizer => optimizer(args.turns.max(1)),
        What::Products => products(&args),
    }
    .context("nothing was measured")
}

fn optimizer(turns: usize) -> Result<()> {
    println!(
        "    values     memcpy GB/s   AdamW GB/s  × memcpy     SGD GB/s  × memcpy   (fastest of {turns}, 1 thread)"
    );
    for count in [12_810, 423_690, 10_000_000] {
        // About as many bytes each time, so that a small one is timed over many passes.
        let passes = (40_000_000 / count).max(1);
        let gradient = vec![1e-3f32; count];
        let mut least = [f64::INFINITY; 3];
        let mut updated: Vec<_> = [Optimizer::ADAMW, Optimizer::SGD]
            .map(|optimizer| (optimizer, vec![0.5f32; count], State::new(&optimizer, count)))
            .into();
        let mut copy = vec![0.0f32; count];
        for _ in 0..turns {
            least[0] = least[0].min(seconds(passes, || copy.copy_from_slice(black_box(&gradient))));
            black_box(&copy);
            for ((optimizer, values, state), least) in updated.iter_mut().zip(&mut least[1..]) {
                *least =
                    least.min(seconds(passes, || optimizer.update(values, black_box(&gradient), 1.0, 1e-3, state)));
                black_box(&values);
            }
        }
        let rate = |bytes: usize, seconds: f64| (bytes * count) as f64 / seconds / 1e9;
        let [copied, adamw, sgd] = [rate(8, least[0]), rate(28, least[1]), rate(12, least[2])];
        println!("{count:10} {copied:15.2} {adamw:12.2} {:9.2} {sgd:12.2} {:9.2}", adamw / copied, sgd / copied);
    }
    Ok(())
}

/// Seconds of one pass.
fn seconds(passes: usize, mut pass: impl FnMut()) -> f64 {
    let began = Instant::now();
    (0..passes).for_each(|_| pass());
    began.elapsed().as_secs_f64() / passes as f64
}

/// A tail that learns.
struct Case {
    name: &'static str,
    model: PathBuf,
    selections: Vec<Selection>,
    /// Layers that get LoRA of rank 8.
    targets: Vec<String>,
    width: Option<u64>,
    loss: Loss,
    batch: u64,
    /// Sizes of all named dimensions but the batch.
    dims: &'static [(&'static str, u64)],
}

fn products(args: &Args) -> Result<()> {
    let mut choice = LibraryChoice::new(args.onnxruntime.clone(), |name| std::env::var_os(name));
    choice.data_folder = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).into());
    engine::load_or_install(&choice, &mut |_| {})?;
    let peak = matmul_rate(args)?;
    println!("MatMul 2048³, {} threads: {:.1} GFLOP/s", args.threads, peak / 1e9);
    println!("step                  GFLOP  fastest ms   GFLOP/s  × MatMul");
    for case in cases(args.models.as_deref()) {
        let (flop, seconds) = measured(&case, args).context(case.name)?;
        let rate = flop / seconds;
        println!("{:20} {:6.2} {:11.2} {:9.1} {:9.2}", case.name, flop / 1e9, 1e3 * seconds, rate / 1e9, rate / peak);
    }
    Ok(())
}

/// FLOP of a step's products, and seconds of the step.
fn measured(case: &Case, args: &Args) -> Result<(f64, f64)> {
    let base = Base::read(&case.model)?;
    let lora = Method { kind: Kind::Lora, rank: 8, alpha: 16.0 };
    let request = Request {
        selections: &case.selections,
        width: case.width,
        method: (!case.targets.is_empty()).then_some(lora),
        places: Places { targets: &case.targets, ..Places::default() },
        ..Request::default()
    };
    let divided = divide(adapter::install(base.graph.clone(), &request)?)?;
    let mut sizes: BTreeMap<String, u64> = case.dims.iter().map(|(name, size)| ((*name).into(), *size)).collect();
    // An exporter may have more than one name for the batch; it is the first dimension always.
    for dims in divided.tail.inputs.iter().filter_map(|id| divided.tail.ty(*id)?.shape.as_ref()) {
        if let Some(Dim::Named(name)) = dims.first() {
            sizes.insert(name.clone(), case.batch);
        }
    }
    let flop = flop_of(&bind(&divided.step(&case.loss, Again::Cheap)?, &sizes)?);
    let scratch = tempfile::tempdir()?;
    let bundle = write(&base, divided, scratch.path())?;
    let options = Options { threads: args.threads, ..Options::default() };
    let began = Instant::now();
    let clock = || began.elapsed().as_secs_f64();
    let features = bundle.features.iter().map(|(name, ty)| (name.clone(), made_up(ty, case.batch, &sizes))).collect();
    let output =
        bundle.tail_graph().ty(bundle.tail_graph().outputs[0]).and_then(|ty| ty.shape.clone()).unwrap_or_default();
    let rows = output[..output.len().saturating_sub(1)].to_vec();
    let labels = made_up(&case.loss.labels_type(rows, bundle.width), case.batch, &sizes);
    let batch = Batch { features, labels };
    let turn = |_| step_seconds(&bundle, &case.loss, &batch, &options, &clock);
    let turns = (0..args.turns.max(1)).map(turn).collect::<Result<Vec<f64>, _>>()?;
    Ok((flop, turns.into_iter().fold(f64::INFINITY, f64::min)))
}

/// A tensor of that type: a ramp for floats, zeros for all others (a class, a token, a mask).
fn made_up(ty: &TensorType, batch: u64, dims: &BTreeMap<String, u64>) -> Tensor {
    let size = |(axis, dim): (usize, &Dim)| match dim {
        _ if axis == 0 => batch,
        Dim::Fixed(size) => *size,
        Dim::Named(name) => dims.get(name).copied().unwrap_or(1),
        Dim::Unknown => 1,
    };
    let shape: Vec<u64> = ty.shape.iter().flatten().enumerate().map(size).collect();
    let count: u64 = shape.iter().product();
    if ty.dtype == DType::Float {
        return Tensor::from_vec(&shape, (0..count).map(|index| (index % 17) as f32 * 0.1 - 0.8).collect::<Vec<f32>>());
    }
    let bytes = (count as usize * ty.dtype.bits()).div_ceil(8);
    Tensor { dtype: ty.dtype, shape, data: vec![0u8; bytes].into() }
}

fn cases(models: Option<&Path>) -> Vec<Case> {
    let classes = || Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
    let photographs = |name, selection| Case {
        name,
        model: Path::new(env!("CARGO_MANIFEST_DIR")).join("models/efficientnet_lite0/model.onnx"),
        selections: vec![selection],
        targets: vec![],
        width: Some(10),
        loss: classes(),
        batch: 32,
        dims: &[],
    };
    let mut cases = vec![photographs("head", Selection::Head), photographs("last:2", Selection::Last(2))];
    if let Some(models) = models {
        cases.push(Case {
            name: "LoRA, encoder",
            model: models.join("text/minilm/model.onnx"),
            selections: vec![Selection::Head],
            targets: vec!["*query*".into(), "*value*".into()],
            width: Some(6),
            loss: classes(),
            batch: 32,
            // The first layer's keys are of the body: heads, their width and the tokens.
            dims: &[("seq", 25), ("unk__3", 25), ("unk__4", 12), ("unk__5", 32)],
        });
        cases.push(Case {
            name: "LoRA, language model",
            model: models.join("lm/minimind2/model_fp16.onnx"),
            selections: vec![],
            targets: vec!["*q_proj*".into(), "*v_proj*".into()],
            width: None,
            loss: Loss::NextToken,
            batch: 4,
            dims: &[("seq", 128)],
        });
    }
    cases
}

/// FLOP a second of ONNX Runtime's `MatMul` at its best.
fn matmul_rate(args: &Args) -> Result<f64> {
    const SIZE: u64 = 2048;
    let ty = TensorType::new(DType::Float, vec![Dim::Fixed(SIZE), Dim::Fixed(SIZE)]);
    let b = Builder::new(Graph::new("peak", 17), "");
    let product = b.input("a", ty.clone()).matmul(b.input("b", ty));
    b.output("y", product);
    let mut session = Session::from_graph(&b.finish(), &Options { threads: args.threads, ..Options::default() })?;
    let matrix = Tensor::from_vec(&[SIZE, SIZE], vec![0.5f32; (SIZE * SIZE) as usize]);
    let mut least = f64::INFINITY;
    for _ in 0..args.turns.max(2) {
        let began = Instant::now();
        session.run(&[("a", &matrix), ("b", &matrix)])?;
        least = least.min(began.elapsed().as_secs_f64());
    }
    Ok(2.0 * (SIZE * SIZE * SIZE) as f64 / least)
}

/// Two for each multiplication and addition in the products of a graph whose sizes are all known.
fn flop_of(graph: &Graph) -> f64 {
    let shape = |id: Option<ValueId>| graph.ty(id?)?.fixed_shape();
    let input = |node: &Node, i: usize| shape(node.inputs.get(i).copied().flatten());
    let of = |node: &Node| -> Option<u64> {
        let results: u64 = shape(node.outputs[0])?.iter().product();
        let inner = match node.op.as_str() {
            "MatMul" => *input(node, 0)?.last()?,
            "Gemm" => input(node, 0)?[if node.int("transA", 0) == 1 { 0 } else { 1 }],
            "Conv" => input(node, 1)?[1..].iter().product(),
            _ => return None,
        };
        Some(2 * results * inner)
    };
    graph.nodes.iter().filter_map(of).sum::<u64>() as f64
}
