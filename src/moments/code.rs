//! The entropy stage of the sums: one walk over the cells, which a writer and a reader take alike.
//!
//! A cell is coded as its difference to what the cells before it let expect, in magnitude relative to what they let expect of
//! that, so that a few adaptive probabilities do for all sizes. `format.md` has the order and the expectations.

use super::sums::Shape;
use crate::delta::Task;
use crate::delta::range::{Decoder, Tree};

/// What a number is of: each kind learns its probabilities alone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Counts, sums, squares and the diagonal: few.
    Few,
    /// Σ z·y.
    Mixed,
    /// Σ z·z off the diagonal.
    Product,
}

/// Adaptive probabilities: of how many bits a number has, and of its second highest bit.
#[derive(Debug, Clone)]
pub(super) struct Trees([Tree; 3], [Tree; 3]);

impl Trees {
    pub(super) const NEW: Self = Self([Tree::NEW; 3], [Tree::NEW; 3]);
}

/// Whoever writes or reads numbers.
pub(super) trait Numbers {
    /// Codes `value`, of which about `bits` bits are expected, and gives it back; a reader ignores it and gives what it has read.
    fn number(&mut self, value: i64, bits: u32, kind: Kind) -> Option<i64>;
}

/// Bits of a symbol that tells how many bits a number has: −63…63 beside what was expected.
const LENGTH_BITS: u32 = 7;
const LENGTH_ZERO: u32 = 64;
/// Bits below the highest that are learned.
const LEARNED_BITS: u32 = 1;

impl Numbers for (Decoder<'_>, Trees) {
    fn number(&mut self, _: i64, bits: u32, kind: Kind) -> Option<i64> {
        let (decoder, Trees(lengths, seconds)) = self;
        let symbol = decoder.symbol(LENGTH_BITS, &mut lengths[kind as usize])?;
        let length = (u32::from(symbol) + bits.min(63)).checked_sub(LENGTH_ZERO).filter(|length| *length < 64)?;
        if length == 0 {
            return Some(0);
        }
        let mut magnitude = 1u64;
        if length > 1 {
            magnitude = magnitude << 1 | u64::from(decoder.symbol(LEARNED_BITS, &mut seconds[kind as usize])?);
            magnitude = magnitude << (length - 2) | decoder.even(length - 2)?;
        }
        let negative = decoder.even(1)? == 1;
        Some(if negative { -(magnitude as i64) } else { magnitude as i64 })
    }
}

#[cfg(feature = "std")]
impl Numbers for (crate::delta::range::Encoder, Trees) {
    fn number(&mut self, value: i64, bits: u32, kind: Kind) -> Option<i64> {
        let (encoder, Trees(lengths, seconds)) = self;
        let magnitude = value.unsigned_abs();
        let length = length(magnitude);
        let symbol = (length + LENGTH_ZERO).checked_sub(bits.min(63))?;
        encoder.symbol(
            u8::try_from(symbol).ok().filter(|symbol| *symbol < 128)?,
            LENGTH_BITS,
            &mut lengths[kind as usize],
        );
        if length > 1 {
            let second = magnitude >> (length - 2) & 1;
            encoder.symbol(second as u8, LEARNED_BITS, &mut seconds[kind as usize]);
            encoder.even(magnitude & ((1 << (length - 2)) - 1), length - 2);
        }
        if length > 0 {
            encoder.even(u64::from(value < 0), 1);
        }
        Some(value)
    }
}

/// Bits of a number without its leading zeros.
fn length(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

/// Half the bits of a product of two numbers, divided by a third: those of √(a·b/n).
fn middle(a: i64, b: i64, n: i64) -> u32 {
    let [a, b, n] = [a, b, n].map(|number| length(number.unsigned_abs()));
    (a + b).saturating_sub(n.saturating_sub(1)) / 2
}

/// Walks over the cells of moments of `samples` samples in the order of the format. `None` for numbers that do not decode.
pub(super) fn walk(shape: Shape, samples: i64, cells: &mut [i64], numbers: &mut impl Numbers) -> Option<()> {
    let (m, k) = (shape.coordinates, shape.targets);
    let classes = shape.task == Task::Classification;
    cells[shape.product_at(m, m)] = samples;
    let mut last = length(samples.unsigned_abs());
    let mut few = |cell: &mut i64, numbers: &mut dyn Numbers| {
        *cell = numbers.number(*cell, last, Kind::Few)?;
        last = length(cell.unsigned_abs());
        Some(())
    };
    // Of classes the last one's count is what is left.
    for target in 0..k.saturating_sub(usize::from(classes)) {
        few(&mut cells[shape.mixed_at(m, target)], numbers)?;
    }
    if classes && k > 0 {
        let others = (0..k - 1).try_fold(0i64, |sum, target| sum.checked_add(cells[shape.mixed_at(m, target)]))?;
        cells[shape.mixed_at(m, k - 1)] = samples.checked_sub(others)?;
    }
    for i in 0..m {
        few(&mut cells[shape.product_at(i, i)], numbers)?;
    }
    if shape.task == Task::Regression {
        for target in 0..k {
            few(&mut cells[shape.squares_at() + target], numbers)?;
        }
    }
    for target in 0..k {
        let square =
            if shape.task == Task::Regression { shape.squares_at() + target } else { shape.mixed_at(m, target) };
        for i in 0..m {
            let bits = middle(cells[shape.product_at(i, i)], cells[square], 1);
            let cell = &mut cells[shape.mixed_at(i, target)];
            *cell = numbers.number(*cell, bits, Kind::Mixed)?;
        }
    }
    for i in 0..m {
        let bits = middle(cells[shape.product_at(i, i)], samples, 1);
        let cell = match classes {
            true => (0..k).try_fold(0i64, |sum, target| sum.checked_add(cells[shape.mixed_at(i, target)]))?,
            false => numbers.number(cells[shape.product_at(i, m)], bits, Kind::Mixed)?,
        };
        cells[shape.product_at(i, m)] = cell;
    }
    walk_products(shape, samples, cells, numbers)
}

/// The cells off the diagonal, less what the means explain of them.
fn walk_products(shape: Shape, samples: i64, cells: &mut [i64], numbers: &mut impl Numbers) -> Option<()> {
    let m = shape.coordinates;
    let explained = |cells: &[i64], i: usize, j: usize| {
        let product = i128::from(cells[shape.product_at(i, m)]) * i128::from(cells[shape.product_at(j, m)]);
        i64::try_from(product / i128::from(samples.max(1))).ok()
    };
    for i in 0..m {
        let own = cells[shape.product_at(i, i)].checked_sub(explained(cells, i, i)?)?;
        for j in i + 1..m {
            let other = cells[shape.product_at(j, j)].checked_sub(explained(cells, j, j)?)?;
            let known = explained(cells, i, j)?;
            let cell = &mut cells[shape.product_at(i, j)];
            // A reader's cell holds nothing yet; what a writer's holds lies within 2⁶² as `known` does.
            let rest = numbers.number(cell.wrapping_sub(known), middle(own, other, samples), Kind::Product)?;
            *cell = rest.checked_add(known)?;
        }
    }
    Some(())
}
