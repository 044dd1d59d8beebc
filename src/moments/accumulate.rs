//! Many samples at a time: the same sums to the bit, by products of short integers in vectors.

use super::error::{Error, ensure};
use super::sums::{SAMPLES_MAX, Sample, Sums, Target};
use std::vec;
use std::vec::Vec;

/// Samples that are summed up together.
const BLOCK: usize = 256;
/// Products that are worth a sum of 32 bits of their own.
const RUN_MIN: usize = 16;

impl<C: AsRef<[i64]> + AsMut<[i64]>> Sums<C> {
    /// Adds samples: `rows` holds their coordinates one sample behind the other, `clipped` and `target` what belongs to each. The sums are
    /// those of [`Sums::add`], sample by sample.
    ///
    /// # Errors
    /// As [`Sums::add`]; then no sample was added.
    pub fn add_all(&mut self, rows: &[i16], samples: &[(u32, Target<'_>)]) -> Result<(), Error> {
        let m = self.shape().coordinates;
        ensure(rows.len() == samples.len() * m, Error::Shape)?;
        ensure(self.samples() + samples.len() as i64 <= SAMPLES_MAX, Error::TooMany)?;
        let of_each = rows.chunks_exact(m).zip(samples);
        let all: Vec<Sample> = of_each
            .map(|(row, (clipped, target))| Sample { coordinates: row, clipped: *clipped, target: *target })
            .collect();
        all.iter().try_for_each(|sample| self.refuse(sample))?;
        for block in all.chunks(BLOCK) {
            self.add_products(block);
            block.iter().for_each(|sample| self.apply_target(sample, 1));
        }
        Ok(())
    }

    /// Σ z·zᵀ of a block, coordinate by coordinate, so that what is multiplied lies side by side.
    fn add_products(&mut self, block: &[Sample<'_>]) {
        let (shape, count) = (self.shape(), block.len());
        let mut columns = vec![1i16; shape.rows() * count];
        for (place, sample) in block.iter().enumerate() {
            for (i, z) in sample.coordinates.iter().enumerate() {
                columns[i * count + place] = *z;
            }
        }
        let largest = columns.iter().map(|z| i64::from(z.unsigned_abs())).max().unwrap_or(1);
        // So many products of these coordinates fit into 32 bits, whatever their signs.
        let run = (i64::from(i32::MAX) / (largest * largest).max(1)) as usize;
        let mut cells = self.cells_mut().iter_mut();
        for (i, column) in columns.chunks_exact(count).enumerate() {
            let others = columns[i * count..].chunks_exact(count);
            others.zip(&mut cells).for_each(|(other, cell)| *cell += product(column, other, run));
        }
    }
}

/// ⟨a, b⟩. Of `run` products no sum leaves 32 bits.
fn product(a: &[i16], b: &[i16], run: usize) -> i64 {
    if run < RUN_MIN {
        return a.iter().zip(b).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
    }
    let short = |(a, b): (&[i16], &[i16])| a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum::<i32>();
    a.chunks(run).zip(b.chunks(run)).map(|both| i64::from(short(both))).sum()
}
