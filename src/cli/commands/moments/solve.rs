//! `edgetune moments solve`.

use crate::amounts::counted;
use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::delta_args::created_unix_s;
use crate::cli::moments::{BasisArgs, File, Model, Reads, Summing, Wanted, key};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::{Printer, bytes, number, percent};
use crate::delta::{self, EncodingChoice, Label, Task};
use crate::moments::{Head, Moments, head};
use crate::task;
use crate::train::artifact::{self, Counted, Provenance};
use crate::train::prepare::{Bundle, hex};
use crate::train::solve::moments::parameters;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

/// Solve for the head that moments give: a delta that `predict`, `eval` and `export` take
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune moments solve C.emoments --model model.onnx --out H.edelta\n\nNo sample is needed and nothing is \
                  trained: it is ridge regression, whose penalty is chosen by generalised cross-validation from the sums."
)]
pub struct Args {
    /// The moments
    moments: PathBuf,
    /// The model that they were made with
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Where the delta goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// λ of ½·λ‖weights‖² beside the sum over samples [default: by cross-validation]
    #[arg(long, value_name = "X")]
    l2: Option<f64>,
    /// The basis of the moments, where it is a file
    #[arg(long, value_name = "FILE")]
    basis: Option<PathBuf>,
    /// Samples that are in the moments, to measure the accuracy (by the head without the sample itself) and how sure the head may be
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// A secret key, from `delta keygen`, that signs the delta
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Name of this device
    #[arg(long, value_name = "NAME", env = "EDGETUNE_DEVICE_ID", hide_env_values = true)]
    device_id: Option<String>,
    #[command(flatten)]
    reads: Reads,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let files = Files::default().reads("the moments", [&args.moments]).reads("the model", [&args.model]);
    let files = files.reads("--basis", &args.basis).reads("--key", &args.key).data("--data", &args.data).cache(global);
    files.writes("--out", [&args.out], Kind::Delta).check(args.replacing)?;
    let created_unix_s = created_unix_s(std::env::var_os("SOURCE_DATE_EPOCH"), SystemTime::now())?;
    let key = key(args.key.as_ref())?;
    let file = File::read(&args.moments)?;
    let (moments, about) = (&file.moments, file.moments.about());
    let model = Model::from_moments(&args.model, &file, global, printer)?;
    let targets = moments.sums().shape().targets;
    let bundle = model.bundle(targets, about.task, Some(about.appended))?;
    let basis = model.basis(&bundle, args.basis.as_deref(), Wanted::Of(about))?;
    let began = Instant::now();
    let mut head = head(moments, &basis, args.l2).with_context(|| args.moments.display().to_string())?;
    let seconds = began.elapsed().as_secs_f64();
    let mut left_out = None;
    if let Some(data) = &args.data {
        let summing = Summing {
            model: &model,
            data,
            reads: &args.reads,
            known: Some(moments),
            basis_file: args.basis.as_deref(),
            asked: &BasisArgs::default(),
            global,
            printer,
        };
        let Some((metrics, factor)) = summing.measured(moments, &basis, &head)? else { return Ok(Done::Interrupted) };
        head = head.scaled(factor);
        left_out = Some(metrics);
    }
    let notes = format!("solved from the moments {}", hex(file.view()?.identity()));
    let device = args.device_id.as_deref().unwrap_or_default();
    let provenance =
        Provenance { created_unix_s: Some(created_unix_s), device, notes: &notes, ..Provenance::default() };
    let mut encoded = delta_of(moments, &bundle, &head, provenance)?;
    if let Some(key) = &key {
        encoded = delta::sign(&encoded, key)?;
    }
    artifact::save(&args.out, &encoded)?;
    printer.document(&json!({
        "delta": args.out, "bytes": encoded.len(), "l2": head.l2, "samples": moments.samples(), "targets": targets,
        "factor": head.factor, "seconds": seconds, "left_out": left_out,
    }));
    if let Some(metrics) = &left_out {
        let accuracy = metrics.accuracy.map_or(String::new(), |accuracy| format!("accuracy {}, ", percent(accuracy)));
        let samples = counted(metrics.samples, "sample");
        printer
            .text(format!("left out  {accuracy}loss {} of {samples}, each by the others alone", number(metrics.loss)));
    }
    let (size, l2) = (bytes(encoded.len() as u64), number(head.l2));
    printer.text(format!("{}: {size}, from {}, --l2 {l2}", args.out.display(), counted(moments.samples(), "sample")));
    Ok(Done::Fully)
}

/// The head as a delta of the bundle's tensors.
fn delta_of(moments: &Moments, bundle: &Bundle, head: &Head, provenance: Provenance<'_>) -> Result<Vec<u8>> {
    let about = moments.about();
    let payloads = artifact::payloads(&parameters(bundle, head)?, EncodingChoice::Fp16)?;
    let classes = about.task != Task::Regression;
    let samples = |target: usize| if classes { moments.sums().count(target) as u32 } else { 0 };
    let labels = moments.labels().iter().enumerate().map(|(target, name)| Label { name, samples: samples(target) });
    let counted = Counted {
        loss: &task::of_wire(about.task).loss(),
        preprocessing: about.preprocessing.clone(),
        task: about.task,
        labels: labels.collect(),
        samples: moments.samples(),
        validation: None,
        test: None,
        provenance,
    };
    Ok(artifact::encode_counted(bundle, &payloads, counted)?)
}
