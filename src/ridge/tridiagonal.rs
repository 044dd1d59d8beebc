//! A symmetric matrix made tridiagonal: A = Q·T·Qᵀ by Householder reflections (Golub and Van Loan, *Matrix Computations*,
//! section 8.3.1), after which (A + λ)⁻¹ and its trace cost O(n) for each λ.
//!
//! That is all that choosing a ridge penalty needs: no eigenvectors, and no linear-algebra crate in the device's build.

use ndarray::{Array2, ArrayView1, Axis, s};

/// T, with the reflections that lead to it.
#[derive(Debug, Clone)]
pub struct Tridiagonal {
    /// Row `i` holds in `0..i` the vector v of the reflection H = I − v·vᵀ that was made at that row, ‖v‖² = 2 or 0.
    reflections: Array2<f64>,
    /// T's diagonal.
    diagonal: Vec<f64>,
    /// T's other diagonal: element `i` is at (i, i + 1).
    beside: Vec<f64>,
}

impl Tridiagonal {
    /// Reduces a symmetric matrix `[n, n]`, of which only the lower triangle is read. 4/3·n³ operations, in place.
    pub fn reduce(mut matrix: Array2<f64>) -> Self {
        let n = matrix.nrows();
        let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
        for row in (1..n).rev() {
            diagonal[row] = matrix[(row, row)];
            let (mut leading, mut last) = matrix.view_mut().split_at(Axis(0), row);
            let mut v = last.slice_mut(s![0, ..row]);
            beside[row - 1] = reflection(v.as_slice_mut().expect("a row is contiguous"));
            let v = v.as_slice().expect("a row is contiguous");
            let p = times(&leading, v);
            // With H = I − v·vᵀ: H·A·H = A − v·wᵀ − w·vᵀ for w = A·v − ½·(vᵀ·A·v)·v.
            let half = 0.5 * dot(v, &p);
            let w: Vec<f64> = p.iter().zip(v).map(|(p, v)| p - half * v).collect();
            for (i, mut below) in leading.rows_mut().into_iter().enumerate() {
                let below = &mut below.as_slice_mut().expect("a row is contiguous")[..=i];
                let (vi, wi) = (v[i], w[i]);
                below.iter_mut().zip(v).zip(&w).for_each(|((a, v), w)| *a -= vi * w + wi * v);
            }
        }
        if n > 0 {
            diagonal[0] = matrix[(0, 0)];
        }
        Self { reflections: matrix, diagonal, beside }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.diagonal.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.diagonal.is_empty()
    }

    /// Qᵀ·X for X `[n, columns]`.
    pub fn into_basis(&self, mut x: Array2<f64>) -> Array2<f64> {
        (1..self.len()).rev().for_each(|row| self.reflect(row, &mut x));
        x
    }

    /// Q·X for X `[n, columns]`.
    pub fn out_of_basis(&self, mut x: Array2<f64>) -> Array2<f64> {
        (1..self.len()).for_each(|row| self.reflect(row, &mut x));
        x
    }

    fn reflect(&self, row: usize, x: &mut Array2<f64>) {
        let v: ArrayView1<f64> = self.reflections.slice(s![row, ..row]);
        let mut upper = x.slice_mut(s![..row, ..]);
        let along = v.dot(&upper);
        for (v, mut row) in v.iter().zip(upper.rows_mut()) {
            row.scaled_add(-v, &along);
        }
    }

    /// (T + λ)⁻¹·X for X `[n, columns]`, by elimination without pivoting: T + λ must be positive definite.
    pub fn solve(&self, lambda: f64, mut x: Array2<f64>) -> Array2<f64> {
        let pivots = self.pivots(lambda);
        for i in 1..self.len() {
            let factor = self.beside[i - 1] / pivots[i - 1];
            let (above, mut here) = x.view_mut().split_at(Axis(0), i);
            here.row_mut(0).scaled_add(-factor, &above.row(i - 1));
        }
        for i in (0..self.len()).rev() {
            let (mut here, below) = x.view_mut().split_at(Axis(0), i + 1);
            let mut here = here.row_mut(i);
            if i + 1 < self.len() {
                here.scaled_add(-self.beside[i], &below.row(0));
            }
            here /= pivots[i];
        }
        x
    }

    /// The trace of (T + λ)⁻¹, which is that of (A + λ)⁻¹: element (i, i) is 1 / (p + q − t) with the pivots p of the
    /// elimination from above, q of that from below, and t the element of T + λ (Meurant 1992, theorem 3.1).
    pub fn inverse_trace(&self, lambda: f64) -> f64 {
        let from_above = self.pivots(lambda);
        let mut below: Option<f64> = None;
        let mut sum = 0.0;
        for i in (0..self.len()).rev() {
            let element = self.diagonal[i] + lambda;
            let pivot = element - below.map_or(0.0, |pivot| self.beside[i].powi(2) / pivot);
            sum += 1.0 / (from_above[i] + pivot - element);
            below = Some(pivot);
        }
        sum
    }

    fn pivots(&self, lambda: f64) -> Vec<f64> {
        let mut pivots: Vec<f64> = self.diagonal.iter().map(|element| element + lambda).collect();
        for i in 1..pivots.len() {
            pivots[i] -= self.beside[i - 1].powi(2) / pivots[i - 1];
        }
        pivots
    }
}

/// Turns x into the v of the reflection that leaves of x its last element alone, and gives that element. v is zero where
/// x is that already.
fn reflection(x: &mut [f64]) -> f64 {
    let (last, rest) = x.split_last().expect("a row to reduce has an element");
    let last = *last;
    let below = dot(rest, rest);
    if below == 0.0 {
        x.fill(0.0);
        return last;
    }
    let left = -(below + last * last).sqrt().copysign(last);
    let end = x.len() - 1;
    x[end] -= left;
    // ‖v‖² = 2 makes H = I − v·vᵀ.
    let scale = (2.0 / (below + x[end] * x[end])).sqrt();
    x.iter_mut().for_each(|x| *x *= scale);
    left
}

/// A·v from A's lower triangle, each row read once.
fn times(matrix: &ndarray::ArrayViewMut2<f64>, v: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; v.len()];
    for (i, row) in matrix.rows().into_iter().enumerate() {
        let row = &row.to_slice().expect("a row is contiguous")[..=i];
        let (diagonal, left) = row.split_last().expect("a row has its diagonal");
        product[i] += dot(left, &v[..i]) + diagonal * v[i];
        product[..i].iter_mut().zip(left).for_each(|(product, a)| *product += v[i] * a);
    }
    product
}

/// ⟨a, b⟩ in ndarray's unrolled order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    ArrayView1::from(a).dot(&ArrayView1::from(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn symmetric(n: usize, seed: u64) -> Array2<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        let half = Array2::from_shape_fn((n, n + 2), |_| random.f64() - 0.5);
        half.dot(&half.t())
    }

    proptest! {
        #[test]
        fn solving_gives_back_what_was_multiplied(n in 1usize..24, seed in 0u64..1000) {
            let matrix = symmetric(n, seed);
            let wanted = Array2::from_shape_fn((n, 3), |(i, j)| (i as f64 - 2.0 * j as f64).sin());
            let lambda = 0.25;
            let right = matrix.dot(&wanted) + lambda * &wanted;
            let reduced = Tridiagonal::reduce(matrix);
            let found = reduced.out_of_basis(reduced.solve(lambda, reduced.into_basis(right)));
            for (found, wanted) in found.iter().zip(&wanted) {
                prop_assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
            }
            let inverse = reduced.out_of_basis(reduced.solve(lambda, reduced.into_basis(Array2::eye(n))));
            prop_assert!((inverse.diag().sum() / reduced.inverse_trace(lambda) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_matrix_that_is_diagonal_or_zero_is_left_as_it_is() {
        for matrix in [Array2::zeros((4, 4)), Array2::from_diag(&ndarray::arr1(&[3.0, 1.0, 2.0, 5.0]))] {
            let reduced = Tridiagonal::reduce(matrix.clone());
            assert_eq!(reduced.diagonal, matrix.diag().to_vec());
            assert_eq!(reduced.beside, [0.0; 3]);
        }
    }
}
