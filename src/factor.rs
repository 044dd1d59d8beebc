//! Matrices of low rank: the first values of a factor, and the two factors whose product is next to a matrix.
//!
//! Takes sizes or a matrix, gives values; equal arguments give equal bits on every machine. Never looks at data, a graph or a
//! delta: who adapts layers and who combines adapters both use it.

use crate::order::Order;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

/// Columns of the sketch beyond the rank, and passes over the matrix: each pass raises the singular values that are compared
/// to two powers more, so that the error comes near the best one's (Halko, Martinsson and Tropp, arXiv 0909.4061, section 10.4).
const OVERSAMPLING: usize = 8;
const PASSES: usize = 6;
/// Passes where only the span is wanted.
const SPAN_PASSES: usize = 4;
/// Sweeps of Jacobi rotations, at most; six are usual.
const SWEEPS: usize = 30;

/// First values of a factor `A`: uniform in ±1/√fan_in, which is PEFT's `kaiming_uniform_(a=√5)`. The generator is
/// BLAKE3 over seed and name, and the arithmetic exact, so that every machine gets the same bits: LoRA-FA's `A` need not
/// be sent.
///
/// Gives `[product of shape]` values for `shape`: `[rank, fan_in…]`.
pub fn first_values(seed: u64, name: &str, shape: &[u64]) -> Vec<f32> {
    let fan_in: u64 = shape[1..].iter().product();
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"edgetune lora_A").update(&seed.to_le_bytes()).update(name.as_bytes());
    let mut bytes = vec![0; 4 * shape.iter().product::<u64>() as usize];
    hasher.finalize_xof().fill(&mut bytes);
    let value = |bytes: &[u8; 4]| {
        // 24 bits are what an f32 of that size can tell apart.
        let share = f64::from(u32::from_le_bytes(*bytes) >> 8) / f64::from(1u32 << 24);
        ((2.0 * share - 1.0) * bound) as f32
    };
    bytes.as_chunks::<4>().0.iter().map(value).collect()
}

/// Root of the sum of the squares (Frobenius).
pub fn norm(matrix: ArrayView2<'_, f64>) -> f64 {
    matrix.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// `b · a` next to `matrix: [m, n]`, all of it finite, with `b: [m, rank]`, `a: [rank, n]`: the truncated singular value decomposition, its
/// values shared by both factors by their roots, so that neither is far larger than the other in fp16. Exact up to rounding
/// where the matrix has no higher rank; else off by little more than the values left out: ‖matrix − b a‖² ≈ Σ σᵢ², i > rank.
/// Equal matrices give equal factors.
pub fn factors(matrix: ArrayView2<'_, f64>, rank: usize) -> (Array2<f32>, Array2<f32>) {
    let (m, n) = matrix.dim();
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
    order.order_by(|i, j| norms[*j].total_cmp(&norms[*i]));
    let u = q.dot(&w);
    let (mut b, mut a) = (Array2::zeros((m, rank)), Array2::zeros((rank, n)));
    for (place, column) in order.into_iter().take(rank).enumerate().filter(|(_, column)| norms[*column] > 0.0) {
        let root = norms[column].sqrt();
        b.slice_mut(s![.., place]).assign(&u.column(column).mapv(|value| (value * root) as f32));
        a.slice_mut(s![place, ..]).assign(&vs.column(column).mapv(|value| (value / root) as f32));
    }
    (b, a)
}

/// Rows of length 1, orthogonal to each other, that span the `rank` largest directions of the rows of `matrix: [m, n]`: `[rank, n]`, by
/// subspace iteration. What the matrix does not tell is zero.
pub fn span(matrix: ArrayView2<'_, f64>, rank: usize) -> Array2<f64> {
    let n = matrix.ncols();
    let first = first_values(0, "edgetune span", &[rank as u64, n as u64]).into_iter().map(f64::from).collect();
    let mut columns =
        Array2::from_shape_vec((rank, n), first).expect("as many values as the shape has").reversed_axes();
    for _ in 0..SPAN_PASSES {
        columns = orthonormal(matrix.t().dot(&matrix.dot(&columns)));
    }
    columns.reversed_axes()
}

/// Orthonormal columns that span the same: modified Gram–Schmidt, twice for the sake of rounding. What depends on the columns
/// before becomes zero.
pub fn orthonormal(mut columns: Array2<f64>) -> Array2<f64> {
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

    fn noise(seed: u64, m: usize, n: usize) -> Array2<f64> {
        Array2::from_shape_vec((m, n), first_values(seed, "noise", &[m as u64, n as u64])).unwrap().mapv(f64::from)
    }

    /// ‖matrix − b a‖ of the factors.
    fn error(matrix: &Array2<f64>, (b, a): &(Array2<f32>, Array2<f32>)) -> f64 {
        norm((matrix - &b.dot(a).mapv(f64::from)).view())
    }

    #[test]
    fn first_values_are_uniform_and_belong_to_seed_and_name() {
        let values = first_values(1, "a", &[100, 25]);
        assert!(values.iter().all(|value| value.abs() <= 0.2));
        let mean_square = values.iter().map(|value| f64::from(value * value)).sum::<f64>() / 2500.0;
        assert!((mean_square - 0.04 / 3.0).abs() < 0.001, "{mean_square}");
        assert_eq!(values, first_values(1, "a", &[100, 25]));
        assert_ne!(values, first_values(2, "a", &[100, 25]));
        assert_ne!(values, first_values(1, "b", &[100, 25]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        /// A matrix of the rank or less comes back, zero too; the factors keep to its size.
        #[test]
        fn a_change_of_low_rank_is_exact(m in 1usize..60, n in 1usize..60, of in 0usize..6, more in 0usize..3, seed: u64) {
            let matrix = noise(seed, m, of.max(1)).dot(&noise(seed ^ 1, of.max(1), n)) * if of == 0 { 0.0 } else { 3.0 };
            let made = factors(matrix.view(), of + more + 1);
            prop_assert_eq!((made.0.dim(), made.1.dim()), ((m, of + more + 1), (of + more + 1, n)));
            let (error, size) = (error(&matrix, &made), norm(matrix.view()));
            prop_assert!(error <= 1e-5 * size, "{error} of {size}");
            prop_assert_eq!(factors(matrix.view(), of + more + 1), made);
        }

        /// A matrix of known singular values: the error is that of the values left out, within a part in a hundred.
        #[test]
        fn the_error_is_what_is_left_out(
            m in 12usize..60, n in 12usize..60, rank in 1usize..6, falls in 0.5f64..0.95, seed: u64,
        ) {
            let count = m.min(n).min(12);
            let u = orthonormal(noise(seed, m, count));
            let v = orthonormal(noise(seed ^ 1, n, count));
            let sizes = Array1::from_shape_fn(count, |i| falls.powi(i as i32));
            let matrix = (&u * &sizes).dot(&v.t());
            let best = sizes.iter().skip(rank).map(|size| size * size).sum::<f64>().sqrt();
            let error = error(&matrix, &factors(matrix.view(), rank));
            prop_assert!(error <= 1.01 * best + 1e-6 && error >= 0.99 * best - 1e-6, "{error}, at best {best}");
        }
    }

    /// No spectrum to speak of: noise. The best rank-8 error is known from the largest values of the Gram matrix.
    #[test]
    fn noise_is_no_worse_than_its_norm_says() {
        let matrix = noise(3, 120, 80);
        let (vs, _) = jacobi(matrix.clone());
        let mut sizes: Vec<f64> = vs.columns().into_iter().map(|column| column.dot(&column)).collect();
        sizes.sort_by(|x, y| y.total_cmp(x));
        let best = sizes[8..].iter().sum::<f64>().sqrt();
        let error = error(&matrix, &factors(matrix.view(), 8));
        assert!(error >= 0.999 * best && error <= 1.02 * best, "{error}, at best {best}");
    }
}
