//! What a whole layer has learned, as factors of low rank: W′ − W ≈ B A.
//!
//! Takes a base, whole layers that were learned on it, and a rank; gives factors in the shapes of LoRA's, so that every reader
//! of a LoRA delta takes them. Never looks at data.

use super::attach::{LORA_A, LORA_B, shape_a, shape_b};
use super::merge::{by_outputs, constant};
use super::method::first_values;
use super::target::{self, Target};
use super::{Change, Error, found_output};
use crate::graph::{Graph, Tensor, ValueId};
use ndarray::{Array1, Array2, Axis, s};
use std::collections::HashMap;

/// Columns of the sketch beyond the rank, and passes over the matrix: each pass raises the singular values that are compared
/// to two powers more, so that the error comes near the best one's (Halko, Martinsson and Tropp, arXiv 0909.4061, section 10.4).
const OVERSAMPLING: usize = 8;
const PASSES: usize = 6;
/// Sweeps of Jacobi rotations, at most; six are usual.
const SWEEPS: usize = 30;

/// A layer's change as LoRA's factors, of which the scale is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Factored {
    /// The learned tensor in whose place they stand.
    pub weight: String,
    /// Name, sizes and values of A and of B.
    pub factors: [(String, Vec<u64>, Vec<f32>); 2],
    /// ‖W′ − W − B A‖ / ‖W′ − W‖.
    pub error: f64,
}

/// The changes of all whole layers that are larger than their factors of this rank. `values` are the learned tensors' by name.
/// Left out are tensors of another width than the base's (a new classifier), and weights that several nodes read.
///
/// # Errors
/// An output or a value that is not there.
pub fn factored(
    graph: &Graph,
    change: &Change<'_>,
    values: &HashMap<&str, &[f32]>,
    rank: u32,
) -> Result<Vec<Factored>, Error> {
    let targets = target::all(graph, found_output(graph, change.output)?);
    let consumers = graph.consumers();
    let once = |id: ValueId| consumers.get(&id).is_some_and(|readers| readers.len() == 1);
    let mut learned = graph.clone();
    let mut found = Vec::new();
    for tensor in &change.learned {
        let Some(id) = graph.find(tensor.name).filter(|id| once(*id)) else { continue };
        let Some((_, target)) = targets.iter().find(|(_, target)| target.weight == id && once(target.read)) else {
            continue;
        };
        let known = graph.initializers.get(&id).filter(|known| known.dtype.is_float());
        if known.is_none_or(|known| known.shape != tensor.shape) {
            continue;
        }
        let values = values.get(tensor.name).copied().unwrap_or_default();
        learned.initializers.insert(id, Tensor::from_f32(&tensor.shape, values));
        let (Some(before), Some(after)) = (weight(graph, target), weight(&learned, target)) else { continue };
        let (m, n) = before.dim();
        if rank as usize * (m + n) >= m * n {
            continue;
        }
        let difference = after - before;
        let (b, a) = factors(&difference, rank as usize);
        let error = norm(&(&difference - &b.dot(&a))) / norm(&difference).max(f64::MIN_POSITIVE);
        let named = |suffix: &str, shape: Vec<u64>, values: Array2<f32>| {
            (format!("{}{suffix}", target.module), shape, values.into_iter().collect())
        };
        let factors = [named(LORA_A, shape_a(target, rank.into()), a), named(LORA_B, shape_b(target, rank.into()), b)];
        found.push(Factored { weight: tensor.name.into(), factors, error });
    }
    Ok(found)
}

/// The weight as `[out, in·k…]`.
fn weight(graph: &Graph, target: &Target) -> Option<Array2<f32>> {
    Some(by_outputs(target, constant(graph, &graph.producers(), target.read)?))
}

fn norm(matrix: &Array2<f32>) -> f64 {
    matrix.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// `b · a` next to `matrix: [m, n]`, with `b: [m, rank]`, `a: [rank, n]`: the truncated singular value decomposition, its
/// values shared by both factors by their roots, so that neither is far larger than the other in fp16. Exact up to rounding
/// where the matrix has no higher rank; else off by little more than the values left out: ‖matrix − b a‖² ≈ Σ σᵢ², i > rank.
/// Equal matrices give equal factors.
pub fn factors(matrix: &Array2<f32>, rank: usize) -> (Array2<f32>, Array2<f32>) {
    let (m, n) = matrix.dim();
    let matrix = matrix.mapv(f64::from);
    let width = (rank + OVERSAMPLING).min(m).min(n);
    let sketch = first_values(0, "edgetune low rank", &[width as u64, n as u64]).into_iter().map(f64::from).collect();
    let sketch = Array2::from_shape_vec((width, n), sketch).expect("as many values as the shape has");
    // Subspace iteration: the span of the matrix's largest directions.
    let mut q = orthonormal(matrix.dot(&sketch.t()));
    for _ in 0..PASSES {
        q = orthonormal(matrix.dot(&orthonormal(matrix.t().dot(&q))));
    }
    // matrix ≈ q (qᵀ matrix); the small one's decomposition is the large one's: (qᵀ matrix)ᵀ = v s wᵀ.
    let (vs, w) = jacobi(matrix.t().dot(&q));
    let norms: Array1<f64> = vs.map_axis(Axis(0), |column| column.dot(&column).sqrt());
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|i, j| norms[*j].total_cmp(&norms[*i]));
    let u = q.dot(&w);
    let (mut b, mut a) = (Array2::zeros((m, rank)), Array2::zeros((rank, n)));
    for (place, column) in order.into_iter().take(rank).enumerate().filter(|(_, column)| norms[*column] > 0.0) {
        let root = norms[column].sqrt();
        b.slice_mut(s![.., place]).assign(&u.column(column).mapv(|value| (value * root) as f32));
        a.slice_mut(s![place, ..]).assign(&vs.column(column).mapv(|value| (value / root) as f32));
    }
    (b, a)
}

/// Orthonormal columns that span the same: modified Gram–Schmidt, twice for the sake of rounding. What depends on the columns
/// before becomes zero.
fn orthonormal(mut columns: Array2<f64>) -> Array2<f64> {
    for i in 0..columns.ncols() {
        let before = columns.column(i).dot(&columns.column(i)).sqrt();
        for _ in 0..2 {
            for j in 0..i {
                let share = columns.column(i).dot(&columns.column(j));
                let known = columns.column(j).to_owned();
                columns.column_mut(i).scaled_add(-share, &known);
            }
        }
        let norm = columns.column(i).dot(&columns.column(i)).sqrt();
        let factor = if norm > 1e-12 * before { 1.0 / norm } else { 0.0 };
        columns.column_mut(i).mapv_inplace(|value| value * factor);
    }
    columns
}

/// Turns columns of `x` in pairs until all are orthogonal (one-sided Jacobi; Golub and Van Loan, Matrix Computations, section
/// 8.6.3): gives x·w, whose columns' norms are the singular values, and the rotation w.
fn jacobi(mut x: Array2<f64>) -> (Array2<f64>, Array2<f64>) {
    let count = x.ncols();
    let mut w = Array2::eye(count);
    for _ in 0..SWEEPS {
        let mut turned = false;
        for (i, j) in (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j))) {
            let (p, q) = (x.column(i), x.column(j));
            let (pp, qq, pq) = (p.dot(&p), q.dot(&q), p.dot(&q));
            if pq.abs() <= 1e-15 * (pp * qq).sqrt() {
                continue;
            }
            turned = true;
            let zeta = (qq - pp) / (2.0 * pq);
            let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
            let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
            rotate(&mut x, (i, j), (cosine, cosine * tangent));
            rotate(&mut w, (i, j), (cosine, cosine * tangent));
        }
        if !turned {
            break;
        }
    }
    (x, w)
}

fn rotate(x: &mut Array2<f64>, (i, j): (usize, usize), (cosine, sine): (f64, f64)) {
    for mut row in x.rows_mut() {
        let (p, q) = (row[i], row[j]);
        (row[i], row[j]) = (cosine * p - sine * q, sine * p + cosine * q);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64, m: usize, n: usize) -> Array2<f32> {
        Array2::from_shape_vec((m, n), first_values(seed, "noise", &[m as u64, n as u64])).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        /// A matrix of the rank or less comes back, zero too; the factors keep to its size.
        #[test]
        fn a_change_of_low_rank_is_exact(m in 1usize..60, n in 1usize..60, of in 0usize..6, more in 0usize..3, seed: u64) {
            let matrix = noise(seed, m, of.max(1)).dot(&noise(seed ^ 1, of.max(1), n)) * if of == 0 { 0.0 } else { 3.0 };
            let (b, a) = factors(&matrix, of + more + 1);
            prop_assert_eq!((b.dim(), a.dim()), ((m, of + more + 1), (of + more + 1, n)));
            let error = norm(&(&matrix - &b.dot(&a)));
            prop_assert!(error <= 1e-5 * norm(&matrix), "{error} of {}", norm(&matrix));
            prop_assert_eq!(factors(&matrix, of + more + 1), (b, a));
        }

        /// A matrix of known singular values: the error is that of the values left out, within a part in a hundred.
        #[test]
        fn the_error_is_what_is_left_out(
            m in 12usize..60, n in 12usize..60, rank in 1usize..6, falls in 0.5f64..0.95, seed: u64,
        ) {
            let count = m.min(n).min(12);
            let u = orthonormal(noise(seed, m, count).mapv(f64::from));
            let v = orthonormal(noise(seed ^ 1, n, count).mapv(f64::from));
            let sizes = Array1::from_shape_fn(count, |i| falls.powi(i as i32));
            let matrix = (&u * &sizes).dot(&v.t()).mapv(|value| value as f32);
            let (b, a) = factors(&matrix, rank);
            let best = sizes.iter().skip(rank).map(|size| size * size).sum::<f64>().sqrt();
            let error = norm(&(&matrix - &b.dot(&a)));
            prop_assert!(error <= 1.01 * best + 1e-6 && error >= 0.99 * best - 1e-6, "{error}, at best {best}");
        }
    }

    /// No spectrum to speak of: noise. The best rank-8 error is known from the largest values of the Gram matrix.
    #[test]
    fn noise_is_no_worse_than_its_norm_says() {
        let matrix = noise(3, 120, 80);
        let (b, a) = factors(&matrix, 8);
        let (vs, _) = jacobi(matrix.mapv(f64::from));
        let mut sizes: Vec<f64> = vs.columns().into_iter().map(|column| column.dot(&column)).collect();
        sizes.sort_by(|x, y| y.total_cmp(x));
        let best = sizes[8..].iter().sum::<f64>().sqrt();
        let error = norm(&(&matrix - &b.dot(&a)));
        assert!(error >= 0.999 * best && error <= 1.02 * best, "{error}, at best {best}");
    }
}
