//! Moments against the ridge solver that has the samples, and against really leaving them out.

use edgetune::delta::{KeptPreprocessing, KeyPair, Task};
use edgetune::factor::first_values;
use edgetune::moments::{
    About, Basis, Calibration, Directions, Error, Known, LeftOut, Moments, Source, Target, basis_signer, head,
    sign_basis,
};
use edgetune::ridge::{self, Layer};
use ndarray::{Array1, Array2, s};

const BASE: [u8; 32] = [5; 32];
/// The step of a basis that follows from nothing but the features.
const STEP: f32 = 1.0 / 64.0;

fn noise(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
    let scale = (columns as f32).sqrt();
    let values =
        first_values(seed, "moments", &[rows as u64, columns as u64]).iter().map(|value| value * scale).collect();
    Array2::from_shape_vec((rows, columns), values).unwrap()
}

/// Features on the grid of the steps, so that rounding loses nothing, and a class that they tell for the most part.
fn samples(count: usize, width: usize, classes: usize) -> (Array2<f32>, Vec<usize>) {
    let x = noise(3, count, width).mapv(|value| (value / STEP).round() * STEP);
    let directions = noise(4, classes, width);
    let scores = x.dot(&directions.t()) + noise(5, count, classes);
    let largest = |row: ndarray::ArrayView1<f32>| (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let class = scores.rows().into_iter().map(largest).collect();
    (x, class)
}

fn about(basis: &Basis, task: Task, target_step: f32) -> About {
    About {
        base: BASE,
        basis: basis.hash(),
        directions: basis.kind(),
        output: "scores".into(),
        appended: false,
        features: basis.features() as u32,
        coordinates: basis.coordinates() as u32,
        bits: basis.bits(),
        task,
        target_step,
        preprocessing: KeptPreprocessing::default(),
    }
}

fn source(features: usize, classifier: Option<&Array2<f32>>) -> Source<'_> {
    Source { base: &BASE, features, classifier: classifier.map(|weight| weight.view()) }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

/// Coordinates of all rows, one behind the other.
fn coordinates(basis: &Basis, x: &Array2<f32>) -> Vec<i16> {
    let width = basis.coordinates();
    let (mut z, mut work) = (vec![0; x.nrows() * width], vec![0.0; width]);
    for (row, z) in x.rows().into_iter().zip(z.chunks_exact_mut(width)) {
        assert_eq!(basis.projection().apply(row.as_slice().unwrap(), &mut work, z), Ok(0));
    }
    z
}

fn of_classes(basis: &Basis, x: &Array2<f32>, class: &[usize], classes: usize) -> Moments {
    let mut moments = Moments::new(about(basis, Task::Classification, 1.0), classes, &names(classes)).unwrap();
    let targets: Vec<(u32, Target)> = class.iter().map(|class| (0, Target::Class(*class))).collect();
    moments.add_all(&coordinates(basis, x), &targets).unwrap();
    moments
}

fn solver(x: &Array2<f32>, y: &Array2<f64>) -> ridge::Ridge {
    let mut sums = ridge::Moments::new(x.ncols(), y.ncols(), true);
    sums.add(x.view(), y.view());
    sums.into_ridge()
}

#[track_caller]
fn alike(found: &Layer, wanted: &Layer) {
    let flat = |layer: &Layer| layer.weights.iter().chain(&layer.bias).copied().collect::<Vec<f64>>();
    let largest = flat(wanted).iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for (found, wanted) in flat(found).iter().zip(flat(wanted)) {
        assert!((found - wanted).abs() < 1e-8 * largest, "{found} {wanted}");
    }
}

/// λ, weights and intercepts are those of the solver that sees the features, for every penalty and every task.
#[test]
fn a_head_of_integers_is_ridge_s_own() {
    let (x, class) = samples(60, 12, 3);
    let basis = Basis::build(source(12, None), Directions::Identity, 12, 16).unwrap();
    let signed = Array2::from_shape_fn((60, 3), |(i, target)| if class[i] == target { 1.0 } else { -1.0 });
    let ridge = solver(&x, &signed);
    let moments = of_classes(&basis, &x, &class, 3);
    for l2 in [None, Some(0.01), Some(3.0), Some(500.0)] {
        let found = head(&moments, &basis, l2).unwrap();
        let lambda = l2.unwrap_or_else(|| ridge.choose(&ridge.grid()));
        assert!((found.l2 / lambda - 1.0).abs() < 1e-9, "{} {lambda}", found.l2);
        let wanted = ridge.solve(lambda);
        let scaled = Layer { weights: wanted.weights * found.factor, bias: wanted.bias * found.factor };
        alike(&found.layer, &scaled);
        assert!((found.freedom / ridge.freedom(lambda) - 1.0).abs() < 1e-8);
    }

    let numbers = (x.dot(&noise(8, 2, 12).t()) / 0.25).mapv(f32::round) * 0.25;
    let mut moments = Moments::new(about(&basis, Task::Regression, 0.25), 2, &[]).unwrap();
    let steps: Vec<Vec<i16>> =
        numbers.rows().into_iter().map(|row| row.iter().map(|y| (y / 0.25) as i16).collect()).collect();
    let targets: Vec<(u32, Target)> = steps.iter().map(|row| (0, Target::Row(row))).collect();
    moments.add_all(&coordinates(&basis, &x), &targets).unwrap();
    let ridge = solver(&x, &numbers.mapv(f64::from));
    alike(&head(&moments, &basis, Some(2.0)).unwrap().layer, &ridge.solve(2.0));

    let sets = Array2::from_shape_fn((60, 2), |(i, target)| i16::from(x[(i, target)] + x[(i, 2)] > 0.0));
    let mut moments = Moments::new(about(&basis, Task::MultiLabel, 1.0), 2, &names(2)).unwrap();
    let targets: Vec<(u32, Target)> =
        sets.rows().into_iter().map(|row| (0, Target::Row(row.to_slice().unwrap()))).collect();
    moments.add_all(&coordinates(&basis, &x), &targets).unwrap();
    let found = head(&moments, &basis, Some(2.0)).unwrap();
    let wanted = solver(&x, &sets.mapv(|y| 2.0 * f64::from(y) - 1.0)).solve(2.0);
    alike(&found.layer, &Layer { weights: wanted.weights * found.factor, bias: wanted.bias * found.factor });
}

/// Turned features, centre and steps of data: the head is that of the features all the same, as far as steps let it be.
#[test]
fn a_basis_of_all_directions_changes_nothing_but_rounding() {
    let (x, class) = samples(80, 10, 3);
    let classifier = noise(9, 30, 10);
    let plain = Basis::build(source(10, None), Directions::Identity, 10, 16).unwrap();
    let wanted = head(&of_classes(&plain, &x, &class, 3), &plain, Some(1.0)).unwrap();
    for directions in [Directions::Classifier, Directions::Orthogonal { seed: 3 }, Directions::Identity] {
        let basis = Basis::build(source(10, Some(&classifier)), directions, 10, 16).unwrap();
        for basis in [basis.learned(x.view()).unwrap(), basis] {
            let found = head(&of_classes(&basis, &x, &class, 3), &basis, Some(1.0)).unwrap();
            let (off, size) = (
                &found.layer.weights / found.factor - &wanted.layer.weights / wanted.factor,
                &wanted.layer.weights / wanted.factor,
            );
            let norm = |matrix: &Array2<f64>| matrix.iter().map(|value| value * value).sum::<f64>().sqrt();
            assert!(norm(&off) < 0.02 * norm(&size), "{directions:?}: {} of {}", norm(&off), norm(&size));
        }
    }
}

/// A residual over 1 − h is what the sample shows to a head that was solved without it.
#[test]
fn leaving_out_by_formula_is_leaving_out() {
    let (x, class) = samples(25, 30, 3);
    let basis = Basis::build(source(30, None), Directions::Identity, 30, 16).unwrap();
    let moments = of_classes(&basis, &x, &class, 3);
    let whole = head(&moments, &basis, Some(4.0)).unwrap();
    let left_out = LeftOut::new(&moments, &basis, &whole).unwrap();
    let z = coordinates(&basis, &x);
    for sample in 0..x.nrows() {
        let mut rest = moments.clone();
        rest.subtract(&of_classes(&basis, &x.slice(s![sample..=sample, ..]).to_owned(), &class[sample..=sample], 3))
            .unwrap();
        let without = head(&rest, &basis, Some(4.0)).unwrap();
        let wanted = without.layer.apply(x.slice(s![sample..=sample, ..])) / without.factor;
        let targets: Array1<f64> = (0..3).map(|target| f64::from(u8::from(class[sample] == target))).collect();
        let found = left_out.output(&z[sample * 30..][..30], targets.as_slice().unwrap());
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found / whole.factor - wanted).abs() < 1e-8, "sample {sample}: {found} {wanted}");
        }
    }
}

#[test]
fn directions_are_orthonormal_and_those_the_classifier_looks_along() {
    let weight = noise(1, 40, 6).dot(&noise(2, 6, 50)) + noise(3, 40, 50) * 0.01;
    let basis = Basis::build(source(50, Some(&weight)), Directions::Classifier, 6, 16).unwrap();
    let (u, wide) = (basis.directions().mapv(f64::from), weight.mapv(f64::from));
    let products = u.t().dot(&u) - Array2::<f64>::eye(6);
    assert!(products.iter().all(|value| value.abs() < 1e-5), "{products}");
    let kept = wide.dot(&u).mapv(|value| value * value).sum() / wide.mapv(|value| value * value).sum();
    assert!(kept > 0.999, "{kept}");
    // A classifier twice as steep reads features half as large.
    let steep = Basis::build(source(50, Some(&(&weight * 2.0))), Directions::Classifier, 6, 16).unwrap();
    assert_eq!(steep.steps()[0], basis.steps()[0] / 2.0);
    let seeded = |seed| Basis::build(source(50, None), Directions::Orthogonal { seed }, 20, 16).unwrap();
    assert_eq!(seeded(1), seeded(1));
    assert_ne!(seeded(1).hash(), seeded(2).hash());
    // Of a classifier of lower rank some directions are none, and not what rounding makes of nothing.
    let low = noise(1, 40, 3).dot(&noise(2, 3, 50));
    let basis = Basis::build(source(50, Some(&low)), Directions::Classifier, 5, 16).unwrap();
    let lengths: Vec<f32> = basis.directions().columns().into_iter().map(|column| column.dot(&column)).collect();
    assert_eq!(lengths.iter().filter(|length| **length < 0.5).count(), 2, "{lengths:?}");

    let refused =
        |directions, coordinates, weight| Basis::build(source(50, weight), directions, coordinates, 16).unwrap_err();
    assert_eq!(refused(Directions::Classifier, 6, None), Error::NoClassifier);
    assert_eq!(refused(Directions::Classifier, 41, Some(&weight)), Error::Coordinates(40));
    assert_eq!(refused(Directions::Orthogonal { seed: 0 }, 51, None), Error::Coordinates(50));
    assert_eq!(refused(Directions::Identity, 49, None), Error::Coordinates(50));
}

#[test]
fn a_basis_file_is_bound_to_its_base_and_believes_nothing() {
    let (x, weight) = (noise(6, 30, 20), noise(7, 40, 20));
    let source = source(20, Some(&weight));
    let basis = Basis::build(source, Directions::Classifier, 8, 12).unwrap().learned(x.view()).unwrap();
    let bytes = basis.encode().unwrap();
    assert!(basis.is_learned() && Basis::parse(&bytes, source).unwrap() == basis);
    let other = Source { base: &[6; 32], ..source };
    assert_eq!(Basis::parse(&bytes, other), Err(Error::OtherBasis));
    let key = KeyPair::from_secret(&[9; 32]);
    let signed = sign_basis(&bytes, &key).unwrap();
    assert_eq!((basis_signer(&bytes), basis_signer(&signed)), (Ok(None), Ok(Some(key.public()))));
    assert_eq!(Basis::parse(&signed, source).unwrap(), basis);
    for file in [&bytes, &signed] {
        for place in 0..file.len() {
            let mut changed = file.clone();
            changed[place] ^= 1 << (place % 8);
            assert!(Basis::parse(&changed, source).is_err(), "byte {place}");
            assert!(Basis::parse(&file[..place], source).is_err(), "cut at {place}");
        }
        assert_eq!(Basis::parse(&[&file[..], &[0]].concat(), source), Err(Error::BasisFile));
    }
}

/// The head follows from the sums, and the sums from the samples, whatever was merged in whatever order.
#[test]
fn tasks_in_any_order_end_in_the_head_of_all_at_once() {
    let (x, class) = samples(90, 16, 6);
    let basis = Basis::build(source(16, None), Directions::Identity, 16, 16).unwrap();
    let wanted = head(&of_classes(&basis, &x, &class, 6), &basis, None).unwrap();
    let task = |number: usize| {
        let rows: Vec<usize> = (0..90).filter(|sample| class[*sample] / 2 == number).collect();
        let class: Vec<usize> = rows.iter().map(|sample| class[*sample]).collect();
        of_classes(&basis, &x.select(ndarray::Axis(0), &rows), &class, 6)
    };
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
        let mut all = task(order[0]);
        order[1..].iter().for_each(|number| all.merge(&task(*number)).unwrap());
        let found = head(&all, &basis, None).unwrap();
        assert!(found == wanted, "{order:?}: another head");
    }
    let other = Basis::build(source(16, None), Directions::Identity, 16, 8).unwrap();
    assert_eq!(head(&of_classes(&basis, &x, &class, 6), &other, None).unwrap_err(), Error::OtherBasis);
}

/// Exact bytes: a change of the format, or of what is made of equal samples, shows here. `UPDATE=1 cargo test the_files_are` writes them
/// anew.
#[test]
fn the_files_are_those_of_the_first_version() {
    let basis = Basis::build(source(6, None), Directions::Orthogonal { seed: 7 }, 4, 12).unwrap();
    let (x, class) = samples(20, 6, 3);
    let z = coordinates(&basis, &x);
    let rows: Vec<[i16; 2]> = (0..20).map(|sample| [(sample % 3) as i16 - 1, 100 * sample as i16]).collect();
    let sets: Vec<[i16; 2]> = (0..20).map(|sample| [i16::from(sample % 3 == 0), i16::from(sample % 2 == 0)]).collect();
    let of_rows = |task, step, names: &[String], rows: &[[i16; 2]]| {
        let mut moments = Moments::new(about(&basis, task, step), 2, names).unwrap();
        let targets: Vec<(u32, Target)> = rows.iter().map(|row| (1, Target::Row(row))).collect();
        moments.add_all(&z, &targets).unwrap();
        moments
    };
    let made = [
        ("classification", of_classes(&basis, &x, &class, 3)),
        ("multi-label", of_rows(Task::MultiLabel, 1.0, &names(2), &sets)),
        ("regression", of_rows(Task::Regression, 0.5, &[], &rows)),
    ];
    for (name, moments) in made {
        let found = edgetune::moments::sign(&moments.encode().unwrap(), &KeyPair::from_secret(&[7; 32])).unwrap();
        let path = format!("{}/tests/goldens/moments/v1-{name}.emoments", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == found, "{name}: other bytes");
        assert_eq!(Moments::parse(&found).unwrap(), moments);
    }
}

/// The formula's distance is the one to moments from which the sample was taken away.
#[test]
fn a_distance_without_itself_is_that_to_all_others() {
    let (x, class) = samples(40, 8, 3);
    let basis = Basis::build(source(8, None), Directions::Identity, 8, 16).unwrap();
    let moments = of_classes(&basis, &x, &class, 3);
    let known = Known::new(&moments, &basis, 2.0).unwrap();
    let z = coordinates(&basis, &x);
    for sample in 0..40 {
        let mut rest = moments.clone();
        let one = of_classes(&basis, &x.slice(s![sample..=sample, ..]).to_owned(), &class[sample..=sample], 3);
        rest.subtract(&one).unwrap();
        let wanted = Known::new(&rest, &basis, 2.0).unwrap().distance(&z[sample * 8..][..8]);
        let found = known.distance_left_out(&z[sample * 8..][..8], class[sample]).unwrap();
        assert!((found - wanted).abs() < 1e-8 * wanted.abs().max(1e-3), "sample {sample}: {found} {wanted}");
    }
    let distances = (0..40).filter_map(|sample| known.distance_left_out(&z[sample * 8..][..8], class[sample]));
    let calibration = Calibration::new(distances.collect());
    assert_eq!(calibration.len(), 40);
    assert_eq!(calibration.known(f64::INFINITY), 1.0 / 41.0);
    assert_eq!(calibration.known(f64::NEG_INFINITY), 1.0);
    let shares: Vec<f64> = (0..40).map(|sample| calibration.known(known.distance(&z[sample * 8..][..8]))).collect();
    assert!(shares.iter().sum::<f64>() / 40.0 > 0.5, "what was learned is nearer with itself than without");
}
