//! The sums themselves: integers in memory that the caller owns, added to, taken from and put together exactly.
//!
//! With z the coordinates of a sample, a last coordinate 1 behind them, and y its targets, the cells hold Σ z·zᵀ (the upper
//! triangle), Σ z·yᵀ, for regression Σ y², and how often a coordinate was clipped. All of them are sums over samples, so every
//! operation is one walk over the cells.

use super::error::{Error, Field, ensure};
use crate::delta::Task;

/// Coordinates, at most.
pub const COORDINATES_MAX: usize = 4096;
/// Targets, at most.
pub const TARGETS_MAX: usize = 4096;
/// Cells, at most: 128 MiB.
pub const CELLS_MAX: usize = 1 << 24;
/// The largest coordinate and target: 16 bits, the same on both sides of zero.
pub const VALUE_MAX: i64 = i16::MAX as i64;
/// Samples, at most. With [`VALUE_MAX`] no cell can reach 2⁶², so that no sum of two overflows.
pub const SAMPLES_MAX: i64 = u32::MAX as i64;

const _: () = assert!((VALUE_MAX * VALUE_MAX) as i128 * (SAMPLES_MAX as i128) < 1 << 62);

/// How many coordinates and targets there are, and what the targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What the targets are; never a language model.
    pub task: Task,
    /// Numbers of a sample, without the last one, which is always 1.
    pub coordinates: usize,
    /// Classes or values to predict.
    pub targets: usize,
}

impl Shape {
    /// A shape within the limits.
    ///
    /// # Errors
    /// [`Error::Wrong`] with the field.
    pub const fn new(task: Task, coordinates: usize, targets: usize) -> Result<Self, Error> {
        if matches!(
            task,
            Task::LanguageModel
                | Task::Ordinal
                | Task::TokenClassification
                | Task::Segmentation
                | Task::Anything
                | Task::Detection
                | Task::Transcription
                | Task::Likeness
                | Task::Anomaly
        ) {
            return Err(Error::Wrong(Field::Task));
        }
        if coordinates == 0 || coordinates > COORDINATES_MAX {
            return Err(Error::Wrong(Field::Coordinates));
        }
        let shape = Self { task, coordinates, targets };
        if targets > TARGETS_MAX || shape.cells() > CELLS_MAX {
            return Err(Error::Wrong(Field::Targets));
        }
        Ok(shape)
    }

    /// Rows of Σ z·zᵀ: the coordinates and the 1.
    pub const fn rows(&self) -> usize {
        self.coordinates + 1
    }

    /// Cells of the sums.
    pub const fn cells(&self) -> usize {
        self.squares_at() + if matches!(self.task, Task::Regression) { self.targets } else { 0 } + 1
    }

    /// Where Σ zᵢ·zⱼ lies, i ≤ j.
    pub(super) const fn product_at(&self, i: usize, j: usize) -> usize {
        i * (2 * self.rows() - i + 1) / 2 + (j - i)
    }

    /// Where Σ zᵢ·yₖ lies.
    pub(super) const fn mixed_at(&self, i: usize, target: usize) -> usize {
        self.rows() * (self.rows() + 1) / 2 + target * self.rows() + i
    }

    pub(super) const fn squares_at(&self) -> usize {
        self.mixed_at(0, self.targets)
    }

    pub(super) const fn clipped_at(&self) -> usize {
        self.cells() - 1
    }
}

/// What a sample should give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Its class, for classification.
    Class(usize),
    /// A number for each target: 0 or 1 for multi-label, any but −32,768 for regression.
    Row(&'a [i16]),
}

/// A sample as it is added: see [`super::Projection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Its coordinates, none of them −32,768.
    pub coordinates: &'a [i16],
    /// How many of them were clipped.
    pub clipped: u32,
    /// What it should give.
    pub target: Target<'a>,
}

/// The sums in cells of the caller's: a `Vec<i64>`, an array, a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums<C> {
    shape: Shape,
    cells: C,
}

impl<C: AsRef<[i64]> + AsMut<[i64]>> Sums<C> {
    /// Of no sample: writes zeros into the cells.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of cells than the shape has.
    pub fn zero(shape: Shape, mut cells: C) -> Result<Self, Error> {
        ensure(cells.as_ref().len() == shape.cells(), Error::Shape)?;
        cells.as_mut().fill(0);
        Ok(Self { shape, cells })
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// Another number of coordinates, a target that is none, 2³² samples; the sums are as before then.
    pub fn add(&mut self, sample: &Sample<'_>) -> Result<(), Error> {
        self.refuse(sample)?;
        ensure(self.samples() < SAMPLES_MAX, Error::TooMany)?;
        self.apply(sample, 1);
        Ok(())
    }

    /// Takes a sample away that was added: the cells are then what they had been without it, to the bit.
    ///
    /// # Errors
    /// [`Error::NotContained`] for one that cannot have been added; the sums are as before then.
    pub fn remove(&mut self, sample: &Sample<'_>) -> Result<(), Error> {
        self.refuse(sample)?;
        ensure(self.samples() > 0, Error::NotContained(Field::Samples))?;
        self.apply(sample, -1);
        let left = self.remains();
        if left.is_err() {
            self.apply(sample, 1);
        }
        left
    }

    /// Adds other sums.
    ///
    /// # Errors
    /// Another shape, 2³² samples; the sums are as before then.
    pub fn merge<D: AsRef<[i64]>>(&mut self, other: &Sums<D>) -> Result<(), Error> {
        ensure(self.shape == other.shape, Error::Shape)?;
        ensure(self.samples() + other.samples() <= SAMPLES_MAX, Error::TooMany)?;
        let cells = self.cells.as_mut().iter_mut().zip(other.cells.as_ref());
        cells.for_each(|(cell, other)| *cell += other);
        Ok(())
    }

    /// Takes other sums away, all of which were added: the cells are then what they had been without them, to the bit.
    ///
    /// # Errors
    /// [`Error::NotContained`] for what cannot have been added; the sums are as before then.
    pub fn subtract<D: AsRef<[i64]>>(&mut self, other: &Sums<D>) -> Result<(), Error> {
        ensure(self.shape == other.shape, Error::Shape)?;
        ensure(self.samples() >= other.samples(), Error::NotContained(Field::Samples))?;
        let cells = self.cells.as_mut().iter_mut().zip(other.cells.as_ref());
        cells.for_each(|(cell, other)| *cell -= other);
        let left = self.remains();
        if left.is_err() {
            let cells = self.cells.as_mut().iter_mut().zip(other.cells.as_ref());
            cells.for_each(|(cell, other)| *cell += other);
        }
        left
    }

    /// The cells, for whoever keeps what they mean.
    #[cfg(feature = "std")]
    pub(super) fn cells_mut(&mut self) -> &mut [i64] {
        self.cells.as_mut()
    }

    /// Whether what is left after taking away can be sums of data.
    fn remains(&self) -> Result<(), Error> {
        self.check(VALUE_MAX).map_err(|error| match error {
            Error::Impossible(field) => Error::NotContained(field),
            error => error,
        })
    }

    fn apply(&mut self, sample: &Sample<'_>, sign: i64) {
        let shape = self.shape;
        let cells = self.cells.as_mut();
        let mut at = 0;
        for i in 0..shape.rows() {
            let z = sign * coordinate(sample.coordinates, i);
            for other in &sample.coordinates[i.min(shape.coordinates)..] {
                cells[at] += z * i64::from(*other);
                at += 1;
            }
            cells[at] += z;
            at += 1;
        }
        self.apply_target(sample, sign);
    }

    /// What of the sums has to do with targets, and the clipped coordinates.
    pub(super) fn apply_target(&mut self, sample: &Sample<'_>, sign: i64) {
        let shape = self.shape;
        let cells = self.cells.as_mut();
        let mut column = |target: usize, y: i64| {
            let column = &mut cells[shape.mixed_at(0, target)..][..shape.rows()];
            for (i, cell) in column.iter_mut().enumerate() {
                *cell += y * coordinate(sample.coordinates, i);
            }
        };
        match sample.target {
            Target::Class(class) => column(class, sign),
            Target::Row(row) => row.iter().enumerate().for_each(|(target, y)| column(target, sign * i64::from(*y))),
        }
        if let (Task::Regression, Target::Row(row)) = (shape.task, sample.target) {
            let squares = cells[shape.squares_at()..].iter_mut().zip(row);
            squares.for_each(|(cell, y)| *cell += sign * i64::from(*y) * i64::from(*y));
        }
        cells[shape.clipped_at()] += sign * i64::from(sample.clipped);
    }
}

/// The i-th coordinate; behind the last one stands 1.
fn coordinate(coordinates: &[i16], i: usize) -> i64 {
    coordinates.get(i).map_or(1, |z| i64::from(*z))
}

impl<C: AsRef<[i64]>> Sums<C> {
    /// Cells from somewhere else, checked for everything that costs no matrix: see [`super::possible`] for the rest.
    /// `value_max`: the largest coordinate that the quantiser gives.
    ///
    /// # Errors
    /// [`Error::Impossible`] with the field that no data can give.
    pub fn from_cells(shape: Shape, cells: C, value_max: i64) -> Result<Self, Error> {
        ensure(cells.as_ref().len() == shape.cells(), Error::Shape)?;
        let sums = Self { shape, cells };
        sums.check(value_max)?;
        Ok(sums)
    }

    /// Sizes and task.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The numbers.
    pub fn cells(&self) -> &[i64] {
        self.cells.as_ref()
    }

    /// The cells back.
    pub fn into_cells(self) -> C {
        self.cells
    }

    /// Samples that were added.
    pub fn samples(&self) -> i64 {
        self.product(self.shape.coordinates, self.shape.coordinates)
    }

    /// Coordinates that were clipped.
    pub fn clipped(&self) -> i64 {
        self.cells()[self.shape.clipped_at()]
    }

    /// Σ zᵢ.
    pub fn sum(&self, i: usize) -> i64 {
        self.product(i, self.shape.coordinates)
    }

    /// Σ zᵢ·zⱼ, i ≤ j.
    pub fn product(&self, i: usize, j: usize) -> i64 {
        self.cells()[self.shape.product_at(i, j)]
    }

    /// Σ zᵢ·yₖ; behind the last coordinate Σ yₖ, for classes the number of their samples.
    pub fn mixed(&self, i: usize, target: usize) -> i64 {
        self.cells()[self.shape.mixed_at(i, target)]
    }

    /// Σ yₖ.
    pub fn count(&self, target: usize) -> i64 {
        self.mixed(self.shape.coordinates, target)
    }

    /// Σ yₖ².
    pub fn square(&self, target: usize) -> i64 {
        match self.shape.task {
            Task::Regression => self.cells()[self.shape.squares_at() + target],
            _ => self.count(target),
        }
    }

    pub(super) fn refuse(&self, sample: &Sample<'_>) -> Result<(), Error> {
        ensure(sample.coordinates.len() == self.shape.coordinates, Error::Shape)?;
        ensure(!sample.coordinates.contains(&i16::MIN), Error::Shape)?;
        ensure(sample.clipped as usize <= self.shape.coordinates, Error::Shape)?;
        let fits = match (self.shape.task, sample.target) {
            (Task::Classification, Target::Class(class)) => class < self.shape.targets,
            (Task::MultiLabel, Target::Row(row)) => {
                row.len() == self.shape.targets && row.iter().all(|y| matches!(y, 0 | 1))
            }
            (Task::Regression, Target::Row(row)) => row.len() == self.shape.targets && !row.contains(&i16::MIN),
            _ => false,
        };
        ensure(fits, Error::Target)
    }

    /// All that holds of sums over data, but what takes a matrix: sizes by the number of samples, and that no product of two is
    /// larger than their squares allow (Cauchy and Schwarz).
    fn check(&self, value_max: i64) -> Result<(), Error> {
        let (shape, n) = (self.shape, self.samples());
        let impossible = |holds: bool, field: Field| ensure(holds, Error::Impossible(field));
        impossible((0..=SAMPLES_MAX).contains(&n), Field::Samples)?;
        impossible((0..=n * shape.coordinates as i64).contains(&self.clipped()), Field::Clipped)?;
        for target in 0..shape.targets {
            let (count, square) = (self.count(target), self.square(target));
            impossible((0..=n * VALUE_MAX * VALUE_MAX).contains(&square), Field::Squares)?;
            let counts = shape.task == Task::Regression || (0..=n).contains(&count);
            impossible(counts && within(count, n, square), Field::Counts)?;
        }
        for i in 0..shape.coordinates {
            let (own, sum) = (self.product(i, i), self.sum(i));
            impossible((0..=n * value_max * value_max).contains(&own), Field::Products)?;
            // z² is odd where z is.
            impossible((own ^ sum) & 1 == 0 && within(sum, n, own), Field::Sums)?;
            let bounded = (0..shape.targets).all(|target| within(self.mixed(i, target), own, self.square(target)));
            impossible(bounded, Field::Mixed)?;
        }
        for i in 0..shape.coordinates {
            let own = self.product(i, i);
            let bounded = (i + 1..shape.coordinates).all(|j| within(self.product(i, j), own, self.product(j, j)));
            impossible(bounded, Field::Products)?;
        }
        if shape.task == Task::Classification {
            let all = |i: usize| (0..shape.targets).map(|target| self.mixed(i, target)).sum::<i64>();
            impossible(all(shape.coordinates) == n, Field::Counts)?;
            impossible((0..shape.coordinates).all(|i| all(i) == self.sum(i)), Field::Mixed)?;
        }
        Ok(())
    }
}

/// Whether x² ≤ a·b, for a and b of at least 0 and below 2⁶².
fn within(x: i64, a: i64, b: i64) -> bool {
    let x = i128::from(x);
    x * x <= i128::from(a) * i128::from(b)
}
