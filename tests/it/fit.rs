//! The loop under a clock that the test turns.

use crate::engine::runtime;
use edgetune::adapter::Request;
use edgetune::cut::Selection;
use edgetune::data::{self, Dataset, ImagePreprocessing, Preprocessing};
use edgetune::engine::Options;
use edgetune::train::features::{Features, Source, Store};
use edgetune::train::fit::{Around, End, Outcome, ScheduleKind, Settings, fit};
use edgetune::train::loss::Loss;
use edgetune::train::optimizer::Optimizer;
use edgetune::train::prepare::{Base, prepare};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Steps in an epoch: 16 samples, 4 at a time.
const STEPS: u64 = 4;

/// Looks at the clock, a second each, beside those that a step and a validation are measured by.
const LOOKS: f64 = 6.0;

/// Three epochs of a head on 16 photographs and 8 to validate, where every look at the clock takes a second.
fn train_until(until_s: Option<f64>, keep_start: bool) -> (Outcome, f64) {
    runtime();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = Base::read(&project.join("tests/goldens/training/mobilenet_folded.onnx")).unwrap();
    let preprocessing = Preprocessing::Image(ImagePreprocessing::new(16, 16));
    let (dataset, _) = Dataset::open(
        &project.join("models/cifar10/train"),
        &data::Options { preprocessing, ..data::Options::default() },
    )
    .unwrap();
    let classes = dataset.labels().names().len() as u64;
    let scratch = tempfile::tempdir().unwrap();
    let request = Request { selections: &[Selection::Head], width: Some(classes), ..Request::default() };
    let bundle = prepare(&base, &request, scratch.path()).unwrap();
    let split = data::Split { train: (0..16).collect(), validation: (16..24).collect() };
    let order: Vec<usize> = (0..24).collect();
    let options = Options { threads: 1, ..Options::default() };
    let fixed: Arc<dyn Fn() -> f64> = Arc::new(|| 0.0);
    let labels = dataset.labels().clone();
    let preprocessing = Preprocessing::Image(ImagePreprocessing::new(16, 16));
    let source = Source { dataset: Arc::new(dataset), order: &order, preprocessing: &preprocessing };
    let mut features = Features::open(&bundle, source, Store::Memory, &options, fixed).unwrap();
    let seconds = Rc::new(Cell::new(0.0));
    let settings = Settings {
        epochs: 3,
        max_steps: None,
        batch: 4,
        accumulate: 1,
        learning_rate: 0.01,
        schedule: ScheduleKind::Constant,
        warmup_share: 0.0,
        head_rate: 1.0,
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        clip_norm: None,
        patience: None,
        seed: 0,
        loss: Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None },
        hold: Default::default(),
    };
    let mut around = Around {
        checkpoint: None,
        resume: false,
        keep_start,
        first: None,
        until_s,
        stop: &AtomicBool::new(false),
        clock: &|| seconds.replace(seconds.get() + 1.0),
        tell: &mut |_| {},
    };
    let learned = data::Labelled { labels: &labels, split: &split };
    let outcome = fit(&bundle, &mut features, learned, &settings, &options, &mut around).unwrap();
    (outcome, seconds.get())
}

#[test]
fn a_run_ends_with_the_time_that_it_may_take() {
    let (all, needed_s) = train_until(None, false);
    assert_eq!((all.end, all.steps, all.history.len()), (End::Finished, 3 * STEPS, 3));
    assert_eq!(train_until(Some(2.0 * needed_s), false).0.end, End::Finished);
    let mut steps = 0;
    for until_s in 0..needed_s as u32 {
        let (outcome, ended_s) = train_until(Some(until_s.into()), false);
        assert!(outcome.steps >= steps.max(1), "more time never gives less");
        steps = outcome.steps;
        // What is begun is finished and validated: an epoch in part counts as one.
        assert_eq!(outcome.history.len() as u64, steps.div_ceil(STEPS));
        assert!(outcome.history.iter().all(|record| record.validation_loss.is_some()));
        // How long a validation takes is known from the first.
        assert!(outcome.history.len() < 2 || ended_s <= f64::from(until_s) + LOOKS, "{ended_s} s of {until_s} s");
        // The steps that were done are those of the undisturbed run.
        let whole = steps / STEPS;
        for (found, expected) in outcome.history.iter().zip(&all.history).take(whole as usize) {
            assert_eq!((found.train_loss, found.validation_loss), (expected.train_loss, expected.validation_loss));
        }
    }
    assert!(steps > STEPS, "{steps}");
}

#[test]
fn without_time_the_first_values_are_the_result_where_they_count_as_one() {
    let (outcome, _) = train_until(Some(0.0), true);
    assert_eq!((outcome.end, outcome.steps, outcome.best_epoch), (End::OutOfTime, 0, 0));
    assert!(outcome.start.is_some() && outcome.history.is_empty());
}
