//! Ridge regression (Hoerl and Kennard 1970): W, b that minimise Σ‖y − W·x − b‖² + λ‖W‖², with b free of the penalty.
//!
//! Takes rows of features and targets; gives weights for any λ, and the λ that generalised cross-validation prefers. Where
//! there are more samples than features the normal equations are summed up as samples come (*primal*: memory does not
//! grow with them), else the samples' inner products are used (*dual*). All sums are in f64.

mod tridiagonal;

pub use tridiagonal::Tridiagonal;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, s};

/// Steps of the grid of penalties in a decade.
const DECADE: usize = 4;
/// Rows and columns of the blocks that products of a matrix with itself are made of: half of them are never computed.
const BLOCK: usize = 128;

/// Sums over samples that come a block at a time: all that the primal form needs.
#[derive(Debug, Clone)]
pub struct Moments {
    count: usize,
    /// Subtracted from all features before they are summed up: the first block's mean, so that little cancels later.
    shift: Option<Array1<f64>>,
    features: Array1<f64>,
    targets: Array1<f64>,
    /// Σ x·xᵀ `[features, features]`, the lower triangle.
    products: Array2<f64>,
    /// Σ x·yᵀ `[features, targets]`.
    mixed: Array2<f64>,
    targets_squared: f64,
    intercept: bool,
}

impl Moments {
    /// Of no sample yet. `intercept`: whether there is a b.
    pub fn new(features: usize, targets: usize, intercept: bool) -> Self {
        Self {
            count: 0,
            shift: None,
            features: Array1::zeros(features),
            targets: Array1::zeros(targets),
            products: Array2::zeros((features, features)),
            mixed: Array2::zeros((features, targets)),
            targets_squared: 0.0,
            intercept,
        }
    }

    /// Adds samples: x `[samples, features]`, y `[samples, targets]`.
    pub fn add(&mut self, x: ArrayView2<f32>, y: ArrayView2<f64>) {
        let mut x = x.mapv(f64::from);
        if self.intercept && x.nrows() > 0 {
            x -= &*self.shift.get_or_insert_with(|| x.mean_axis(Axis(0)).expect("a block has rows"));
        }
        self.count += x.nrows();
        self.features += &x.sum_axis(Axis(0));
        self.targets += &y.sum_axis(Axis(0));
        self.targets_squared += y.iter().map(|y| y * y).sum::<f64>();
        add_lower(&mut self.products, x.t());
        self.mixed += &x.t().dot(&y);
    }

    /// The problem that these sums pose.
    pub fn into_ridge(mut self) -> Ridge {
        let n = self.count.max(1) as f64;
        if self.intercept {
            let (x, y) = (&self.features, &self.targets);
            for (i, mut row) in self.products.rows_mut().into_iter().enumerate() {
                row.scaled_add(-x[i] / n, x);
            }
            for (i, mut row) in self.mixed.rows_mut().into_iter().enumerate() {
                row.scaled_add(-x[i] / n, y);
            }
            self.targets_squared -= y.dot(y) / n;
        }
        let shift = self.shift.unwrap_or_else(|| Array1::zeros(self.features.len()));
        let (feature_means, target_means) = if self.intercept {
            (shift + self.features / n, self.targets / n)
        } else {
            (shift, Array1::zeros(self.targets.len()))
        };
        Ridge::new(Equations {
            count: self.count,
            intercept: self.intercept,
            feature_means,
            target_means,
            products: self.products,
            mixed: self.mixed,
            targets_squared: self.targets_squared,
        })
    }
}

/// Normal equations: what [`Ridge::new`] takes from whoever has summed up. Where there is an intercept, the sums are without the
/// means.
#[derive(Debug, Clone)]
pub struct Equations {
    /// Samples.
    pub count: usize,
    /// Whether there is a b.
    pub intercept: bool,
    /// Means of the features, zeros without an intercept.
    pub feature_means: Array1<f64>,
    /// Means of the targets, zeros without an intercept.
    pub target_means: Array1<f64>,
    /// Σ x·xᵀ `[features, features]`, the lower triangle.
    pub products: Array2<f64>,
    /// Σ x·yᵀ `[features, targets]`.
    pub mixed: Array2<f64>,
    /// Σ ‖y‖².
    pub targets_squared: f64,
}

/// A posed problem: for every λ its solution at little cost.
#[derive(Debug, Clone)]
pub struct Ridge {
    count: usize,
    intercept: bool,
    feature_means: Array1<f64>,
    target_means: Array1<f64>,
    /// The mean eigenvalue: what a λ is measured by.
    scale: f64,
    reduced: Tridiagonal,
    /// The right side in the basis of `reduced`.
    right: Array2<f64>,
    form: Formulation,
}

#[derive(Debug, Clone)]
enum Formulation {
    Primal { targets_squared: f64 },
    Dual { samples: Array2<f32> },
}

/// Weights `[targets, features]` and biases `[targets]` of a linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// A row a target.
    pub weights: Array2<f64>,
    /// One a target; zeros where the layer has none.
    pub bias: Array1<f64>,
}

impl Layer {
    /// W·x + b for each row of x `[samples, features]`.
    pub fn apply(&self, x: ArrayView2<f32>) -> Array2<f64> {
        x.mapv(f64::from).dot(&self.weights.t()) + &self.bias
    }
}

impl Ridge {
    /// Prepares the problem that normal equations state.
    pub fn new(equations: Equations) -> Self {
        let Equations { count, intercept, feature_means, target_means, products, mixed, targets_squared } = equations;
        let scale = products.diag().sum() / products.nrows().max(1) as f64;
        let reduced = Tridiagonal::reduce(products);
        let right = reduced.into_basis(mixed);
        let form = Formulation::Primal { targets_squared };
        Self { count, intercept, feature_means, target_means, scale, reduced, right, form }
    }

    /// The dual form of samples x `[samples, features]` with targets y `[samples, targets]`.
    pub fn dual(samples: Array2<f32>, targets: ArrayView2<f64>, intercept: bool) -> Self {
        let (count, width) = samples.dim();
        let means = |x: ArrayView2<f64>| x.sum_axis(Axis(0)) / count.max(1) as f64;
        let (feature_means, target_means) = if intercept {
            let sums = samples.fold_axis(Axis(0), 0.0f64, |sum, x| sum + f64::from(*x));
            (sums / count.max(1) as f64, means(targets))
        } else {
            (Array1::zeros(width), Array1::zeros(targets.ncols()))
        };
        let mut products = Array2::zeros((count, count));
        // A slice of the features at a time, so that no second copy of all samples is made in f64.
        for start in (0..width).step_by(4 * BLOCK) {
            let columns = s![.., start..width.min(start + 4 * BLOCK)];
            let means = feature_means.slice(s![start..width.min(start + 4 * BLOCK)]);
            add_lower(&mut products, (samples.slice(columns).mapv(f64::from) - means).view());
        }
        let scale = products.diag().sum() / count.max(1) as f64;
        let reduced = Tridiagonal::reduce(products);
        let right = reduced.into_basis(&targets - &target_means);
        let form = Formulation::Dual { samples };
        Self { count, intercept, feature_means, target_means, scale, reduced, right, form }
    }

    /// The weights for a λ above 0.
    pub fn solve(&self, lambda: f64) -> Layer {
        let solved = self.reduced.out_of_basis(self.reduced.solve(lambda, self.right.clone()));
        let weights = match &self.form {
            Formulation::Primal { .. } => solved.reversed_axes(),
            Formulation::Dual { samples } => {
                // Σ α·(x − μ) = Σ α·x − (Σ α)·μ
                let mut weights = Array2::zeros((solved.ncols(), samples.ncols()));
                let rows = 4 * BLOCK;
                for (x, alpha) in samples.axis_chunks_iter(Axis(0), rows).zip(solved.axis_chunks_iter(Axis(0), rows)) {
                    general_mat_mul(1.0, &alpha.t(), &x.mapv(f64::from), 1.0, &mut weights);
                }
                let sums = solved.sum_axis(Axis(0));
                for (mut row, sum) in weights.rows_mut().into_iter().zip(&sums) {
                    row.scaled_add(-sum, &self.feature_means);
                }
                weights
            }
        };
        let bias = &self.target_means - &weights.dot(&self.feature_means);
        Layer { weights: weights.as_standard_layout().into_owned(), bias }
    }

    /// Σ of the squared residuals, and tr(I − H) where H gives the predictions from the targets.
    fn residual(&self, lambda: f64) -> (f64, f64) {
        let solved = self.reduced.solve(lambda, self.right.clone());
        let trace = lambda * self.reduced.inverse_trace(lambda);
        let intercept = f64::from(u8::from(self.intercept));
        match &self.form {
            // The residual is λ·α, and the vector of ones is an eigenvector that belongs to the intercept.
            Formulation::Dual { .. } => {
                (lambda * lambda * solved.iter().map(|a| a * a).sum::<f64>(), trace - intercept)
            }
            // ‖y − X·w‖² = ‖y‖² − ⟨w, Xᵀy⟩ − λ‖w‖², because XᵀX·w = Xᵀy − λ·w.
            Formulation::Primal { targets_squared } => {
                let fitted: f64 = Zip::from(&solved).and(&self.right).fold(0.0, |sum, w, right| sum + w * right);
                let length: f64 = solved.iter().map(|w| w * w).sum();
                let free = self.count as f64 - intercept - self.reduced.len() as f64 + trace;
                ((targets_squared - fitted - lambda * length).max(0.0), free)
            }
        }
    }

    /// The generalised cross-validation error, Σ residual² / n / (tr(I − H) / n)² (Golub, Heath and Wahba 1979).
    pub fn cross_validation_error(&self, lambda: f64) -> f64 {
        let (squares, free) = self.residual(lambda);
        let n = self.count as f64;
        if free > 0.0 { squares / n / (free / n).powi(2) } else { f64::INFINITY }
    }

    /// The share of freedom that the fit leaves, tr(I − H) / n: a residual divided by it is about what the sample's residual
    /// would be had it not been fitted.
    pub fn freedom(&self, lambda: f64) -> f64 {
        (self.residual(lambda).1 / self.count as f64).clamp(f64::MIN_POSITIVE, 1.0)
    }

    /// What each sample that was learned from would be given had it not been: `[samples, targets]`, y − (y − ŷ) / (1 − h) with its own
    /// leverage h (Allen 1974). `x`, `y`: all of the samples in their order.
    pub fn left_out(&self, lambda: f64, x: ArrayView2<f32>, y: ArrayView2<f64>) -> Array2<f64> {
        let mut found = self.solve(lambda).apply(x);
        let leverages = self.leverages(lambda, x);
        for ((mut row, y), leverage) in found.rows_mut().into_iter().zip(y.rows()).zip(leverages) {
            let free = (1.0 - leverage).max(f64::EPSILON);
            Zip::from(&mut row).and(y).for_each(|found, y| *found = y - (y - *found) / free);
        }
        found
    }

    /// The diagonal of H, which gives the predictions from the targets.
    fn leverages(&self, lambda: f64, x: ArrayView2<f32>) -> Vec<f64> {
        let intercept = if self.intercept { 1.0 / self.count.max(1) as f64 } else { 0.0 };
        // The diagonal of Cᵀ·(A + λ)⁻¹·C, some columns at a time.
        let diagonal = |columns: Array2<f64>| {
            let columns = self.reduced.into_basis(columns);
            (&self.reduced.solve(lambda, columns.clone()) * &columns).sum_axis(Axis(0))
        };
        let mut found = Vec::with_capacity(x.nrows());
        for (block, rows) in x.axis_chunks_iter(Axis(0), 4 * BLOCK).enumerate() {
            let place = |row: usize| 4 * BLOCK * block + row;
            match &self.form {
                Formulation::Primal { .. } => {
                    let centred = (rows.mapv(f64::from) - &self.feature_means).reversed_axes();
                    found.extend(diagonal(centred).iter().map(|h| h + intercept));
                }
                // H = K·(K + λ)⁻¹ = 1 − λ·(K + λ)⁻¹.
                Formulation::Dual { .. } => {
                    let unit = |(at, row)| f64::from(u8::from(at == place(row)));
                    let units = Array2::from_shape_fn((self.reduced.len(), rows.nrows()), unit);
                    found.extend(diagonal(units).iter().map(|inverse| 1.0 - lambda * inverse + intercept));
                }
            }
        }
        found
    }

    /// λ from 10⁻⁶ to 10³ mean eigenvalues, four to a decade, largest first.
    pub fn grid(&self) -> Vec<f64> {
        let scale = if self.scale > 0.0 { self.scale } else { 1.0 };
        (-24..=12).rev().map(|step| scale * 10f64.powf(f64::from(step) / DECADE as f64)).collect()
    }

    /// The λ of a list, largest first, where the cross-validation error has its first minimum: below which none of the next four λ gets, which
    /// of [`Ridge::grid`] are a decade.
    ///
    /// It may fall again where next to nothing is left of the penalty, and lower: samples that are equal, or nearly, make an eigenvalue of nearly
    /// nothing, which the error is divided by twice. What is chosen there interpolates, and answers new samples badly (240 questions on 384
    /// features: 58 % right in the place of 72 %).
    pub fn choose(&self, lambdas: &[f64]) -> f64 {
        let (mut best, mut least, mut since) = (lambdas.first().copied().unwrap_or(1.0), f64::INFINITY, 0);
        for lambda in lambdas {
            let error = self.cross_validation_error(*lambda);
            since += 1;
            if error < least * (1.0 - 1e-12) {
                (best, least, since) = (*lambda, error, 0);
            } else if since == DECADE {
                break;
            }
        }
        best
    }
}

/// Adds A·Aᵀ to a square matrix, block by block on and below the diagonal; above it nothing is defined.
fn add_lower(sum: &mut Array2<f64>, a: ArrayView2<f64>) {
    let n = a.nrows();
    for top in (0..n).step_by(BLOCK) {
        let rows = top..n.min(top + BLOCK);
        for left in (0..=top).step_by(BLOCK) {
            let columns = left..n.min(left + BLOCK);
            let other = a.slice(s![columns.clone(), ..]);
            let mut block = sum.slice_mut(s![rows.clone(), columns]);
            general_mat_mul(1.0, &a.slice(s![rows.clone(), ..]), &other.t(), 1.0, &mut block);
        }
    }
}
