//! Weight imprinting (Qi, Brown and Lowe 2018, arXiv 1712.07136): the weight of a class is the mean direction of its samples'
//! features, so that one to five samples make a class, and a trained layer takes a class more.

use super::ridge::Layer;
use super::targets::Targets;
use super::temperature;
use ndarray::{Array1, Array2, ArrayView1, Axis, concatenate, s};

/// What the logit of a sample that lies exactly in its class's direction is, where no class has two samples to tell by.
const LONE_LOGIT: f64 = 10.0;
/// ln(p / (1 − p)) for p = 0.9: how sure a new class is of its own samples where none of the known classes are given.
const SURE: f64 = 2.197;
/// Rounds over the new classes' biases.
const ROUNDS: usize = 20;

/// A layer of classes from their samples alone, without bias. `rows`: the features of `samples`. The lengths of all weights
/// are one number, chosen so that softmax fits samples that are left out of their own class's mean.
pub fn imprint(rows: &Array2<f32>, samples: &[usize], targets: &Targets<'_>) -> Layer {
    let rows = rows.mapv(f64::from);
    let class = |place: usize| targets.class(samples[place]).expect("one class a sample was asked for");
    let mut sums = Array2::<f64>::zeros((targets.width, rows.ncols()));
    let mut counts = vec![0usize; targets.width];
    for (place, row) in rows.rows().into_iter().enumerate() {
        sums.row_mut(class(place)).scaled_add(1.0 / length(row), &row);
        counts[class(place)] += 1;
    }
    let mut weights = sums.clone();
    weights.rows_mut().into_iter().for_each(|mut row| row /= length(row.view()));
    let told: Vec<usize> = (0..samples.len()).filter(|place| counts[class(*place)] > 1).collect();
    let scale = if told.is_empty() {
        let lengths: f64 = rows.rows().into_iter().map(length).sum();
        LONE_LOGIT * samples.len() as f64 / lengths
    } else {
        let mut logits = rows.select(Axis(0), &told).dot(&weights.t());
        for (place, mut logits) in told.iter().zip(logits.rows_mut()) {
            let (row, own) = (rows.row(*place), class(*place));
            let others = &sums.row(own) - &(&row / length(row));
            logits[own] = others.dot(&row) / length(others.view());
        }
        let told: Vec<usize> = told.iter().map(|place| samples[*place]).collect();
        temperature::fit(&logits, &told, targets)
    };
    Layer { weights: weights * scale, bias: Array1::zeros(targets.width) }
}

/// Rows for the classes that a trained layer does not have: those of `targets` from `known.bias.len()` on. Gives a layer of
/// the new rows alone.
///
/// A new row is as long as the known ones on average. Its direction is that of its class's samples, seen from the mean of
/// the known classes' samples where the data hold some. Its bias then is the one with which softmax over all classes fits
/// the data, each class weighing the same; without samples of known classes it is the one with which the class is 90 % sure
/// of its own samples.
pub fn extend(known: &Layer, rows: &Array2<f32>, samples: &[usize], targets: &Targets<'_>) -> Layer {
    let rows = rows.mapv(f64::from);
    let old = known.bias.len();
    let classes: Vec<usize> =
        samples.iter().map(|sample| targets.class(*sample).expect("one class a sample was asked for")).collect();
    let places = |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..classes.len()).filter(|place| wanted(classes[*place])).collect()
    };
    let seen = places(&|class| class < old);
    let center = rows.select(Axis(0), &seen).mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(rows.ncols()));
    let norm = known.weights.rows().into_iter().map(length).sum::<f64>() / old.max(1) as f64;
    let mut weights = Array2::zeros((targets.width - old, rows.ncols()));
    for (class, mut weight) in (old..targets.width).zip(weights.rows_mut()) {
        for place in places(&|other| other == class) {
            let away = &rows.row(place) - &center;
            weight.scaled_add(1.0 / length(away.view()), &away);
        }
        weight *= norm / length(weight.view());
    }
    let fixed = rows.dot(&known.weights.t()) + &known.bias;
    let logits = concatenate(Axis(1), &[fixed.view(), rows.dot(&weights.t()).view()]).expect("rows are the same");
    let bias = if seen.is_empty() { sure(&logits, &classes, old) } else { fitted(logits, &classes, old) };
    Layer { weights, bias }
}

/// For each new class the bias that puts its own samples' mean logit [`SURE`] above log Σ exp of the known ones.
fn sure(logits: &Array2<f64>, classes: &[usize], old: usize) -> Array1<f64> {
    let bias = |class: usize| {
        let own = logits.rows().into_iter().zip(classes).filter(|(_, of)| **of == class);
        let (mut count, mut sum) = (0.0, 0.0);
        for (row, _) in own {
            sum += SURE + log_sum(row.slice(s![..old]).iter().copied()) - row[class];
            count += 1.0;
        }
        sum / f64::max(count, 1.0)
    };
    (old..logits.ncols()).map(bias).collect()
}

/// The biases that minimise the cross-entropy, one class after the other in rounds: it is convex, and its slope by one bias
/// grows with it.
fn fitted(mut logits: Array2<f64>, classes: &[usize], old: usize) -> Array1<f64> {
    let mut counts = vec![0.0; logits.ncols()];
    classes.iter().for_each(|class| counts[*class] += 1.0);
    let mut bias = sure(&logits, classes, old);
    for (class, bias) in (old..).zip(&bias) {
        logits.column_mut(class).mapv_inplace(|logit| logit + bias);
    }
    for _ in 0..ROUNDS {
        for class in old..logits.ncols() {
            let others = |(row, of): (ArrayView1<f64>, &usize)| {
                let rest = row.iter().enumerate().filter(|(other, _)| *other != class).map(|(_, logit)| *logit);
                (row[class] - log_sum(rest), *of == class, 1.0 / counts[*of])
            };
            let ahead: Vec<(f64, bool, f64)> = logits.rows().into_iter().zip(classes).map(others).collect();
            let slope = |shift: f64| -> f64 {
                let one = |(ahead, own, weight): &(f64, bool, f64)| {
                    weight * (1.0 / (1.0 + (-(ahead + shift)).exp()) - f64::from(u8::from(*own)))
                };
                ahead.iter().map(one).sum()
            };
            let shift = root(slope);
            bias[class - old] += shift;
            logits.column_mut(class).mapv_inplace(|logit| logit + shift);
        }
    }
    bias
}

/// Where an increasing function is zero, sought between −10⁴ and 10⁴.
fn root(function: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-1e4, 1e4);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if function(middle) > 0.0 { high = middle } else { low = middle }
    }
    0.5 * (low + high)
}

/// log Σ exp.
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::NEG_INFINITY, f64::max);
    top + values.map(|value| (value - top).exp()).sum::<f64>().ln()
}

/// ‖x‖, or a number that divides without harm where x is zero.
fn length(x: ArrayView1<f64>) -> f64 {
    x.dot(&x).sqrt().max(f64::MIN_POSITIVE.sqrt())
}
