//! Closed forms against scikit-learn (tests/goldens/solve.*), and what must be true of them whatever the data.

use edgetune::data::Labels;
use edgetune::train::loss::Loss;
use edgetune::train::solve::logistic::Problem;
use edgetune::train::solve::ridge::{Layer, Moments, Ridge};
use edgetune::train::solve::targets::Targets;
use edgetune::train::solve::{imprint, temperature};
use ndarray::{Array1, Array2, Axis, Dimension, OwnedRepr, s};
use ndarray_npy::{NpzReader, ReadableElement};
use serde::Deserialize;
use std::fs::File;
use std::path::Path;

#[derive(Deserialize)]
struct Case {
    name: String,
    ridge_lambda: f64,
    logistic_lambda: f64,
    grid: Vec<f64>,
    ridge_cv: f64,
}

impl Case {
    fn all() -> Vec<Case> {
        serde_json::from_str(include_str!("../goldens/solve.json")).expect("JSON")
    }

    fn array<T: ReadableElement, D: Dimension>(&self, name: &str) -> ndarray::Array<T, D> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/solve.npz");
        let mut archive = NpzReader::new(File::open(path).expect("the archive")).expect("an archive");
        archive.by_name::<OwnedRepr<T>, D>(&format!("{}/{name}", self.name)).expect(name)
    }

    fn features(&self) -> Array2<f32> {
        self.array("x")
    }

    fn layer(&self, name: &str) -> Layer {
        Layer { weights: self.array(&format!("{name}/weights")), bias: self.array(&format!("{name}/bias")) }
    }
}

fn primal(x: &Array2<f32>, y: &Array2<f64>, bias: bool) -> Ridge {
    let mut moments = Moments::new(x.ncols(), y.ncols(), bias);
    for (x, y) in x.axis_chunks_iter(Axis(0), 9).zip(y.axis_chunks_iter(Axis(0), 9)) {
        moments.add(x, y);
    }
    moments.into_ridge()
}

/// Both forms of the same problem.
fn both(x: &Array2<f32>, y: &Array2<f64>, bias: bool) -> [Ridge; 2] {
    [primal(x, y, bias), Ridge::dual(x.clone(), y.view(), bias)]
}

/// Each within `tolerance` of the largest weight or bias.
#[track_caller]
fn alike(found: &Layer, wanted: &Layer, tolerance: f64) {
    let flat = |layer: &Layer| layer.weights.iter().chain(&layer.bias).copied().collect::<Vec<f64>>();
    let (found, wanted) = (flat(found), flat(wanted));
    assert_eq!(found.len(), wanted.len());
    let largest = wanted.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!((found - wanted).abs() <= tolerance * largest, "{found}, expected {wanted}");
    }
}

#[test]
fn ridge_is_scikit_learns_in_both_forms() {
    for case in Case::all() {
        let (x, y) = (case.features(), case.array("values"));
        for ridge in both(&x, &y, true) {
            alike(&ridge.solve(case.ridge_lambda), &case.layer("ridge"), 1e-6);
        }
        let bias = Array1::zeros(y.ncols());
        let plain = Layer { weights: case.array("ridge_no_bias/weights"), bias };
        for ridge in both(&x, &y, false) {
            alike(&ridge.solve(case.ridge_lambda), &plain, 1e-6);
        }
    }
}

#[test]
fn the_penalty_is_chosen_by_generalised_cross_validation() {
    for case in Case::all() {
        let errors: Array1<f64> = case.array("gcv");
        let best = (0..errors.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b])).unwrap();
        for ridge in both(&case.features(), &case.array("values"), true) {
            for (lambda, wanted) in case.grid.iter().zip(&errors) {
                let found = ridge.cross_validation_error(*lambda);
                assert!((found / wanted - 1.0).abs() < 1e-6, "{}, λ {lambda}: {found}, expected {wanted}", case.name);
            }
            let chosen = ridge.choose(&case.grid);
            assert_eq!(chosen, case.grid[best]);
            // RidgeCV leaves each sample out exactly: at most one step of the grid away.
            let step = (chosen / case.ridge_cv).log10().abs() * 4.0;
            assert!(step < 1.01, "{}: {chosen}, RidgeCV {}", case.name, case.ridge_cv);
            assert!(ridge.grid().windows(2).all(|pair| pair[0] > pair[1]));
        }
    }
}

/// Samples that are nearly equal, such as messages that are sent twice, let generalised cross-validation fall below all else where nothing is
/// left of the penalty.
#[test]
fn samples_that_are_nearly_equal_do_not_take_the_penalty_away() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
    let (count, width) = (70, 80);
    let scales: Vec<f64> = (0..width).map(|feature| 1.0 / (1.0 + feature as f64 / 4.0)).collect();
    let mut sample = |rows: usize| {
        let x = Array2::from_shape_fn((rows, width), |(_, feature)| scales[feature] * normal());
        let y = x.map_axis(Axis(1), |row| (row.slice(s![..5]).sum() + normal()).signum()).insert_axis(Axis(1));
        (x.mapv(|value| value as f32), y)
    };
    let ((mut x, mut y), (others, wanted)) = (sample(count), sample(2000));
    for pair in 0..5 {
        let (from, to) = (2 * pair, 2 * pair + 1);
        let twin = x.row(from).mapv(|value| value * (1.0 + 1e-6));
        x.row_mut(to).assign(&twin);
        y[(to, 0)] = y[(from, 0)];
    }
    for ridge in both(&x, &y, true) {
        let right = |lambda: f64| {
            let answers = ridge.solve(lambda).apply(others.view());
            answers.iter().zip(&wanted).filter(|(answer, wanted)| *answer * *wanted > 0.0).count()
        };
        let grid = ridge.grid();
        let least = grid
            .iter()
            .copied()
            .min_by(|one, other| ridge.cross_validation_error(*one).total_cmp(&ridge.cross_validation_error(*other)));
        let (chosen, best) = (ridge.choose(&grid), grid.iter().map(|lambda| right(*lambda)).max().unwrap());
        assert!(right(chosen) as f64 > 0.97 * best as f64, "{} of at best {best} at {chosen}", right(chosen));
        assert!((right(least.unwrap()) as f64) < 0.9 * best as f64, "what the least error answers: {least:?}");
    }
}

/// The formula gives what a fit of all others gives.
#[test]
fn what_is_left_out_is_answered_as_by_a_fit_without_it() {
    for case in Case::all() {
        let (x, y): (_, Array2<f64>) = (case.features(), case.array("values"));
        for bias in [true, false] {
            for ridge in both(&x, &y, bias) {
                let found = ridge.left_out(case.ridge_lambda, x.view(), y.view());
                for row in [0, x.nrows() / 2, x.nrows() - 1] {
                    let others: Vec<usize> = (0..x.nrows()).filter(|other| *other != row).collect();
                    let (others_x, others_y) = (x.select(Axis(0), &others), y.select(Axis(0), &others));
                    let layer = primal(&others_x, &others_y, bias).solve(case.ridge_lambda);
                    let wanted = layer.apply(x.select(Axis(0), &[row]).view());
                    for (found, wanted) in found.row(row).iter().zip(wanted.row(0)) {
                        let tolerance = 1e-6 * (1.0 + wanted.abs());
                        assert!((found - wanted).abs() < tolerance, "{}, {bias}: {found}, {wanted}", case.name);
                    }
                }
            }
        }
    }
}

#[test]
fn logistic_regression_is_scikit_learns() {
    for case in Case::all() {
        let x = case.features();
        let samples: Vec<usize> = (0..x.nrows()).collect();
        let index: Array1<i64> = case.array("labels");
        let names = (0..4).map(|class| class.to_string()).collect();
        let classes = Labels::Classes { names, index: index.iter().map(|class| *class as u32).collect() };
        let sets: Array2<f64> = case.array("sets");
        let names = (0..3).map(|class| class.to_string()).collect();
        let sets = Labels::MultiLabel { names, rows: sets.mapv(|on| on as f32) };
        let entropy = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
        for (labels, loss, golden) in [(classes, entropy, "logistic"), (sets, Loss::BinaryCrossEntropy, "binary")] {
            let targets = Targets::new(&labels, labels.names().len());
            let problem = Problem::new(x.view(), &samples, &targets, &loss, true).unwrap();
            let cold = problem.fit(case.logistic_lambda, None, 1e-8, &|| true);
            alike(&cold.layer, &case.layer(golden), 1e-4);
            let warm = problem.fit(case.logistic_lambda, Some(&cold.layer), 1e-8, &|| true);
            assert!(warm.iterations <= 1, "{}: a solution is no minimum", case.name);
            assert_eq!(problem.fit(case.logistic_lambda, None, 1e-8, &|| true), cold, "not the same bits");
        }
    }
}

#[test]
fn huber_bends_less_to_an_outlier_and_weights_and_smoothing_count() {
    let x = Array2::from_shape_fn((30, 1), |(row, _)| row as f32 / 10.0);
    let mut y = x.mapv(|x| 2.0 * x + 1.0);
    y[(29, 0)] = 100.0;
    let labels = Labels::Values(y.clone());
    let samples: Vec<usize> = (0..30).collect();
    let targets = Targets::new(&labels, 1);
    let huber = Problem::new(x.view(), &samples, &targets, &Loss::Huber { delta: 1.0 }, true).unwrap();
    let huber = huber.fit(1e-6, None, 1e-9, &|| true).layer;
    let square = Ridge::dual(x.clone(), y.mapv(f64::from).view(), true).solve(1e-6);
    assert!((huber.weights[(0, 0)] - 2.0).abs() < 0.2, "{huber:?}");
    assert!((square.weights[(0, 0)] - 2.0).abs() > 2.0, "{square:?}");

    let labels = Labels::Classes { names: vec!["a".into(), "b".into()], index: (0..30).map(|row| row % 2).collect() };
    let targets = Targets::new(&labels, 2);
    let share = |label_smoothing, class_weights| {
        let loss = Loss::CrossEntropy { label_smoothing, class_weights };
        let fit = Problem::new(x.view(), &samples, &targets, &loss, true).unwrap().fit(1e3, None, 1e-9, &|| true).layer;
        let z = fit.apply(x.view());
        let p: f64 = z.rows().into_iter().map(|z| 1.0 / (1.0 + (z[1] - z[0]).exp())).sum();
        p / 30.0
    };
    assert!((share(0.0, None) - 0.5).abs() < 1e-6);
    assert!((share(0.0, Some(vec![3.0, 1.0])) - 0.75).abs() < 1e-3);
    assert!((share(0.2, Some(vec![3.0, 1.0])) - (3.0 * 1.0) / 4.0).abs() < 0.05);
}

#[test]
fn the_temperature_undoes_any_factor() {
    let mut random = fastrand::Rng::with_seed(3);
    let logits = Array2::from_shape_fn((200, 3), |_| 4.0 * random.f64() - 2.0);
    let index = logits.rows().into_iter().map(|row| {
        let noisy = row.map(|z| z + 1.5 * random.f64());
        (0..3u32).max_by(|a, b| noisy[*a as usize].total_cmp(&noisy[*b as usize])).unwrap()
    });
    let labels = Labels::Classes { names: vec!["a".into(), "b".into(), "c".into()], index: index.collect() };
    let targets = Targets::new(&labels, 3);
    let samples: Vec<usize> = (0..200).collect();
    let factor = temperature::fit(&logits, &samples, &targets);
    let loss = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
    let mean = |factor: f64| -> f64 {
        let row = |sample: &usize| {
            let row: Vec<f32> = logits.row(*sample).iter().map(|z| (factor * z) as f32).collect();
            let target = edgetune::train::loss::Target::Class(targets.class(*sample).unwrap());
            loss.of_row(&row, target)
        };
        samples.iter().map(row).sum()
    };
    assert!(mean(factor) < mean(factor * 1.02) && mean(factor) < mean(factor / 1.02), "{factor}");
    let scaled = temperature::fit(&(&logits * 7.0), &samples, &targets);
    assert!((scaled * 7.0 / factor - 1.0).abs() < 1e-6, "{scaled} {factor}");
}

/// Three clusters of directions with `each` samples, in a space of 12.
fn clusters(each: usize) -> (Array2<f32>, Labels) {
    let mut random = fastrand::Rng::with_seed(5);
    let rows = Array2::from_shape_fn((3 * each, 12), |(row, column)| {
        let own = column / 4 == row / each;
        1.0 + f32::from(u8::from(own)) + 0.6 * random.f32()
    });
    let names = ["a", "b", "c"].map(String::from).to_vec();
    (rows, Labels::Classes { names, index: (0..3 * each).map(|row| (row / each) as u32).collect() })
}

fn right(layer: &Layer, rows: &Array2<f32>, targets: &Targets<'_>) -> usize {
    let outputs = layer.apply(rows.view());
    let best = |row: ndarray::ArrayView1<f64>| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    outputs.rows().into_iter().enumerate().filter(|(sample, row)| Some(best(*row)) == targets.class(*sample)).count()
}

#[test]
fn one_sample_makes_a_class_and_a_class_is_added_to_others() {
    let (rows, labels) = clusters(10);
    let targets = Targets::new(&labels, 3);
    for few in [vec![0, 10, 20], (0..30).collect()] {
        let layer = imprint::imprint(&rows.select(Axis(0), &few), &few, &targets);
        assert_eq!(right(&layer, &rows, &targets), 30, "from {} samples", few.len());
    }
    // A layer that knows a and b only.
    let old: Vec<usize> = (0..20).collect();
    let two = Labels::Classes { names: vec!["a".into(), "b".into()], index: (0..20).map(|row| row / 10).collect() };
    let signed = Targets::new(&two, 2).signed(&old);
    let known = Ridge::dual(rows.slice(s![..20, ..]).to_owned(), signed.view(), true).solve(0.1);
    for given in [vec![0, 10, 20, 21], vec![20, 21]] {
        let new = imprint::extend(&known, &rows.select(Axis(0), &given), &given, &targets);
        assert_eq!((new.weights.dim(), new.bias.len()), ((1, 12), 1));
        let norm = |row: ndarray::ArrayView1<f64>| row.dot(&row).sqrt();
        let mean = known.weights.rows().into_iter().map(norm).sum::<f64>() / 2.0;
        assert!((norm(new.weights.row(0)) / mean - 1.0).abs() < 1e-9);
        let whole = Layer {
            weights: ndarray::concatenate![Axis(0), known.weights, new.weights],
            bias: known.bias.iter().chain(&new.bias).copied().collect(),
        };
        let own: Vec<usize> = (20..30).collect();
        let own = right(&whole, &rows, &targets) - right_of(&whole, &rows, &own);
        assert!(given.len() == 2 || own == 20, "known classes: {own} of 20 with {given:?}");
        assert!(right_of(&whole, &rows, &(20..30).collect::<Vec<_>>()) >= 9, "{given:?}");
    }
}

/// How many of some samples of the last class are recognised.
fn right_of(layer: &Layer, rows: &Array2<f32>, samples: &[usize]) -> usize {
    let outputs = layer.apply(rows.select(Axis(0), samples).view());
    outputs.rows().into_iter().filter(|row| row[2] > row[0] && row[2] > row[1]).count()
}
