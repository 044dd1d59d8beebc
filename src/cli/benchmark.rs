//! `doctor MODEL --benchmark`: which provider and how many threads train that model fastest on this machine.

use super::args::{Compute, Global};
use super::print::Printer;
use crate::adapter::{HeadChoice, Positions};
use crate::engine::{self, Options, Placed, Provider};
use crate::graph::Tensor;
use crate::order::Order;
use crate::recipe;
use crate::train::check::random_inputs;
use crate::train::loss::Loss;
use crate::train::plan::candidates::{self, Target};
use crate::train::prepare::{self, Base, Bundle};
use crate::train::speed::{BATCH, measure};
use crate::train::step::Again;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// Where a model's nodes are computed.
#[derive(Debug, Serialize)]
pub struct Nodes {
    /// The provider, by ONNX Runtime's name.
    provider: String,
    /// How many nodes.
    nodes: usize,
    /// How many of each operator.
    operators: std::collections::BTreeMap<String, usize>,
}

/// One way to compute, measured.
#[derive(Debug, Serialize)]
pub struct Row {
    provider: &'static str,
    threads: usize,
    /// Milliseconds of the frozen body for a sample.
    body_ms: f64,
    /// Milliseconds of a step over 32 samples.
    step_ms: f64,
    /// Milliseconds that a training of ten epochs takes for each of its samples.
    sample_ms: f64,
}

/// A model ready to be run: its last layer learns.
pub struct Subject {
    bundle: Bundle,
    loss: Loss,
}

impl Subject {
    /// Prepares a model in the cache.
    ///
    /// # Errors
    /// A model that cannot be read or whose last layer cannot learn, a cache that cannot be written.
    pub fn new(model: &Path, global: &Global) -> Result<Self> {
        let base = Base::read(model)?;
        let target = Target {
            output: None,
            width: None,
            head: HeadChoice::Auto,
            activation: None,
            positions: Positions::Sample,
        };
        let divided = candidates::install(&base, target, &["last:1".to_string()]).and_then(prepare::divide)?;
        let bundle = prepare::write(&base, divided, &global.bundles()?)?;
        let losses = [recipe::loss(None, None), Loss::NextToken, Loss::MeanSquaredError];
        let mut refused = None;
        for loss in losses {
            match bundle.step(&loss, Again::Cheap) {
                Ok(_) => return Ok(Self { bundle, loss }),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.context("a loss was tried")?.into())
    }

    /// Which provider computes which of the model's nodes.
    ///
    /// # Errors
    /// A provider that is absent, ONNX Runtime's refusal.
    pub fn nodes(&self, model: &Path, compute: &Compute, global: &Global) -> Result<Vec<Nodes>> {
        let options = compute.options();
        let inputs = random_inputs(&self.bundle, &options, 0)?;
        let fed: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let placed = engine::placement(model, &options, &fed, &global.bundles()?)?;
        let counted = |Placed { provider, operators }| Nodes { provider, nodes: operators.values().sum(), operators };
        Ok(placed.into_iter().map(counted).collect())
    }

    /// Measures every provider that edgetune and the loaded library both have, fastest first, with what was left out and why.
    ///
    /// # Errors
    /// A step or body that the CPU refuses.
    pub fn benchmark(&self, compute: &Compute) -> Result<(Vec<Row>, Vec<String>)> {
        let began = Instant::now();
        let clock = || began.elapsed().as_secs_f64();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut rows, mut left_out) = (Vec::new(), Vec::new());
        for provider in Provider::ALL {
            for threads in threads(provider, cores) {
                let options = Options { threads, provider, ..compute.options() };
                let speed = match measure(&self.bundle, &self.loss, &options, &clock) {
                    Ok(speed) => speed,
                    Err(error) if provider == Provider::Cpu => return Err(error.into()),
                    Err(error) => {
                        left_out.push(error.to_string());
                        break;
                    }
                };
                let [body_ms, step_ms, sample_ms] = [speed.body_s, speed.step_s, speed.sample_s()].map(|s| s * 1e3);
                rows.push(Row { provider: provider.name(), threads, body_ms, step_ms, sample_ms });
            }
        }
        rows.order_by(|a, b| a.sample_ms.total_cmp(&b.sample_ms));
        Ok((rows, left_out))
    }
}

/// One thread, two, four… and all cores; for a GPU, which computes by itself, all cores alone.
fn threads(provider: Provider, cores: usize) -> Vec<usize> {
    match provider {
        Provider::Cuda | Provider::TensorRt => vec![cores],
        Provider::Cpu | Provider::Xnnpack => {
            let mut counts: Vec<usize> = (0..).map(|power| 1 << power).take_while(|count| *count < cores).collect();
            counts.push(cores);
            counts
        }
    }
}

/// Prints the nodes' places.
pub fn show_nodes(nodes: &[Nodes], printer: &Printer) {
    for Nodes { provider, nodes, operators } in nodes {
        let each: Vec<String> = operators.iter().map(|(operator, count)| format!("{count} {operator}")).collect();
        printer.text(format!("nodes {nodes:>5}  {provider}: {}", each.join(", ")));
    }
}

/// Prints what was measured, and the options to use.
pub fn show_rows(rows: &[Row], left_out: &[String], printer: &Printer) {
    printer.text(format!(
        "{:<9} {:>7} {:>15} {:>16}",
        "provider",
        "threads",
        "body ms/sample",
        format!("step ms/{BATCH}")
    ));
    for row in rows {
        printer.text(format!("{:<9} {:>7} {:>15.2} {:>16.2}", row.provider, row.threads, row.body_ms, row.step_ms));
    }
    left_out.iter().for_each(|why| printer.text(format!("not measured: {why}")));
    if let Some(Row { provider, threads, .. }) = rows.first() {
        printer.text(format!("fastest: --provider {provider} --threads {threads}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_counts_double_up_to_all_cores() {
        assert_eq!(threads(Provider::Cpu, 1), [1]);
        assert_eq!(threads(Provider::Cpu, 4), [1, 2, 4]);
        assert_eq!(threads(Provider::Xnnpack, 6), [1, 2, 4, 6]);
        assert_eq!(threads(Provider::Cuda, 8), [8]);
    }
}
