//! `edgetune moments known`.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::moments::{BasisArgs, File, Model, Reads, Summing, Wanted};
use crate::cli::outputs::{Files, Replacing};
use crate::cli::print::{Printer, number, percent};
use crate::moments::{Calibration, Known, head};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Measure how far samples are from everything that was learned: are they of none of these classes?
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune moments known C.emoments --model model.onnx --learned photos/ --data other/\n\n`known` is the share of \
                  the learned samples that are as far from all classes as this one, each measured without itself: 0.02 is one that hardly any \
                  of them is as strange as. Labels of --data are used for nothing but the last line: how well known and unknown \
                  classes are told apart (area under the ROC curve; 0.5 is chance, 1 perfect)."
)]
pub struct Args {
    /// The moments
    moments: PathBuf,
    /// The model that they were made with
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The samples that are asked about
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Samples that are in the moments, for comparison
    #[arg(long, value_name = "PATH")]
    learned: PathBuf,
    /// The basis of the moments, where it is a file
    #[arg(long, value_name = "FILE")]
    basis: Option<PathBuf>,
    #[command(flatten)]
    reads: Reads,
}

/// A sample that was asked about.
struct Answer {
    name: String,
    label: String,
    known: f64,
    distance: f64,
    /// The largest share of softmax, and whose it is.
    sure: f64,
    class: usize,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    Files::default().data("--data", [&args.data]).cache(global).check(Replacing::default())?;
    let file = File::read(&args.moments)?;
    let (moments, about) = (&file.moments, file.moments.about());
    let model = Model::from_moments(&args.model, &file, global, printer)?;
    let bundle = model.bundle(moments.sums().shape().targets, about.task, Some(about.appended))?;
    let basis = model.basis(&bundle, args.basis.as_deref(), Wanted::Of(about))?;
    let head = head(moments, &basis, None).with_context(|| args.moments.display().to_string())?;
    let known = Known::new(moments, &basis, head.l2).with_context(|| args.moments.display().to_string())?;
    let summing = |data: &Path, told: &mut dyn FnMut(String, &str, &[i16])| {
        let (reads, basis_file, asked) = (&args.reads, args.basis.as_deref(), &BasisArgs::default());
        Summing { model: &model, data, reads, known: Some(moments), basis_file, asked, global, printer }
            .tell(&basis, told)
    };
    let place = |label: &str| moments.labels().iter().position(|known| known == label);
    let (mut left_out, mut answers) = (Vec::new(), Vec::new());
    let done = summing(&args.learned, &mut |_, label, z| {
        left_out.extend(place(label).and_then(|class| known.distance_left_out(z, class)));
    })?;
    ensure!(
        !done || !left_out.is_empty(),
        "--learned: no class of the moments has two samples; name those that were added"
    );
    let calibration = Calibration::new(left_out);
    let done = done
        && summing(&args.data, &mut |name, label, z| {
            let (distance, (class, sure)) = (known.distance(z), head.surest(z, &basis));
            answers.push(Answer {
                name,
                label: label.into(),
                known: calibration.known(distance),
                distance,
                sure,
                class,
            });
        })?;
    if !done {
        return Ok(Done::Interrupted);
    }
    tell(&answers, calibration.len(), moments.labels(), printer);
    Ok(Done::Fully)
}

/// Each answer, and how well known classes and unknown ones are told apart. `learned`: the samples that tell how far is far.
fn tell(answers: &[Answer], learned: usize, labels: &[String], printer: &Printer) {
    let scored = |score: &dyn Fn(&Answer) -> f64| {
        let of = |known: bool| answers.iter().filter(move |answer| labels.contains(&answer.label) == known).map(score);
        area(&of(true).collect::<Vec<_>>(), &of(false).collect::<Vec<_>>())
    };
    let (by_distance, by_softmax) = (scored(&|answer| -answer.distance), scored(&|answer| answer.sure));
    let label = |class: usize| &labels[class];
    printer.document(&json!({
        "answers": answers.iter().map(|answer| json!({
            "sample": answer.name, "known": answer.known, "answer": label(answer.class), "share": answer.sure,
        })).collect::<Vec<_>>(),
        "learned": learned, "area_known": by_distance, "area_softmax": by_softmax,
    }));
    for answer in answers {
        printer.text(format!(
            "{}: known {}, {} {}",
            answer.name,
            number(answer.known),
            label(answer.class),
            percent(answer.sure)
        ));
    }
    if let (Some(known), Some(softmax)) = (by_distance, by_softmax) {
        printer
            .text(format!("known and unknown classes are told apart by distance {known:.3}, by softmax {softmax:.3}"));
    }
}

/// The share of pairs of one of each kind in which the first has more, half of those that are equal: the area under the ROC curve.
fn area(more: &[f64], less: &[f64]) -> Option<f64> {
    let mut sorted = less.to_vec();
    sorted.sort_by(f64::total_cmp);
    let below =
        |value: &f64| sorted.partition_point(|other| other < value) + sorted.partition_point(|other| other <= value);
    let pairs = 2 * more.len() * less.len();
    (pairs > 0).then(|| more.iter().map(below).sum::<usize>() as f64 / pairs as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_the_share_of_pairs() {
        assert_eq!(area(&[3.0, 4.0], &[1.0, 2.0]), Some(1.0));
        assert_eq!(area(&[1.0, 2.0], &[1.0, 2.0]), Some(0.5));
        assert_eq!(area(&[1.0, 4.0], &[2.0]), Some(0.5));
        assert_eq!(area(&[1.0], &[]), None);
    }
}
