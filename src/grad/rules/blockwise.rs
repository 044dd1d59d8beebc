//! Products with weights that are quantised block by block to 4 or 8 bits (`com.microsoft.MatMulNBits`).

use super::quant::{MICROSOFT, dequantised};
use crate::grad::{At, Grads};
use crate::graph::{DType, Tensor, Val};
use bytes::Bytes;

/// Weights of more elements are dequantised some rows at a time: 16 MiB of floats live at once.
const CHUNK_ELEMENTS_MAX: i64 = 1 << 22;

/// y = x·Wᵀ + b with W: \[N, K\] in blocks along K  ⇒  dx = dy·W, db = dy summed to b's shape
///
/// W is dequantised by `DequantizeLinear`, whose rows are the blocks: its bytes are those of the weight under another
/// type, so nothing is stored twice, and the floats are gone after the product.
///
/// Measured for K = 2048, N = 8192 in 4 bits on ONNX Runtime 1.32 (two threads, without pre-packing, a batch of 128 rows):
///
/// | W from | ms | private MiB kept | peak |
/// |---|---|---|---|
/// | `DequantizeLinear`, a row a block | 92 | 0 | 66 |
/// | the same in four chunks | 93 | 1 | **40** |
/// | `DequantizeLinear` of opset 21 with `block_size` | 149 | 0 | 66 |
/// | `GatherBlockQuantized` | 84 | 0 | 66 |
/// | `Mod`, `Div`, `Cast`, `Mul` | 59 | **105**: folded to floats for good | 105 |
/// | `MatMulNBits` of the unit matrix | 1127 | 17 | 83 |
pub fn product<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let mut gradients = vec![None; n.inputs()];
    if n.needs(0) {
        let weight = Blocks::read(n)?;
        let dy = n.dy(0).cast(DType::Float);
        let last = n.rank(0)? as i64 - 1;
        let parts = weight.chunks().into_iter().map(|(first, end)| {
            let part = if end - first == weight.rows { dy } else { dy.slice(&[first], &[end], &[last]) };
            Ok(part.matmul(weight.floats(n, first, end)?))
        });
        let parts: Vec<Val<'b>> = parts.collect::<Result<_, String>>()?;
        let dx = parts.into_iter().reduce(|sum, part| sum + part).ok_or("it has no columns; the model is invalid")?;
        gradients[0] = Some(dx.cast(n.dtype(0)));
    }
    if n.needs(5) {
        gradients[5] = Some(n.sum_to_input(5, n.dy(0), 0));
    }
    Ok(gradients)
}

/// A frozen weight in blocks.
struct Blocks<'a> {
    bits: i64,
    /// N, K, the elements of a block, and the blocks of a row.
    rows: i64,
    columns: i64,
    block: i64,
    blocks: i64,
    data: &'a Tensor,
    scales: &'a Tensor,
    zero_points: Option<&'a Tensor>,
}

impl<'a> Blocks<'a> {
    fn read(n: &At<'a, '_>) -> Result<Self, String> {
        let int = |name: &str, default: i64| n.node().int(name, default);
        let (bits, rows, columns, block) = (int("bits", 4), int("N", 0), int("K", 0), int("block_size", 0));
        if bits != 4 && bits != 8 {
            return Err(format!("no gradient through weights of {bits} bits; quantise the model to 4 or 8 bits"));
        }
        if n.has(4) {
            return Err(
                "no gradient through weights with g_idx; quantise the model without reordering by activations \
                        (GPTQ's desc_act=False)"
                    .into(),
            );
        }
        let constant = |i: usize| {
            n.constant(i).ok_or_else(|| format!("input {i} of quantised weights must be a constant; export it as one"))
        };
        let zero_points = if n.has(3) { Some(constant(3)?) } else { None };
        if rows < 1 || columns < 1 || block < 2 || block % 2 != 0 {
            return Err(format!("N {rows}, K {columns}, block_size {block} are no weight; the model is invalid"));
        }
        let blocks = (columns + block - 1) / block;
        let weight = Self { bits, rows, columns, block, blocks, data: constant(1)?, scales: constant(2)?, zero_points };
        let (bytes, scales) = (weight.data.data.len() as i64, weight.scales.len() as i64);
        if bytes != rows * blocks * block * bits / 8 || scales != rows * blocks {
            return Err(format!(
                "{bytes} bytes with {scales} scales are not {rows}×{blocks} blocks; the model is invalid"
            ));
        }
        Ok(weight)
    }

    /// First and end of the rows that are dequantised at a time; an even number, so that each begins with a whole byte.
    fn chunks(&self) -> Vec<(i64, i64)> {
        let count = (self.rows * self.columns + CHUNK_ELEMENTS_MAX - 1) / CHUNK_ELEMENTS_MAX;
        let rows = (self.rows + count - 1) / count;
        let rows = rows + rows % 2;
        (0..self.rows).step_by(rows as usize).map(|first| (first, (first + rows).min(self.rows))).collect()
    }

    /// Rows of the weight as floats, `[end − first, K]`.
    fn floats<'b>(&self, n: &At<'_, 'b>, first: i64, end: i64) -> Result<Val<'b>, String> {
        let b = n.builder();
        let (start, count) = ((first * self.blocks) as usize, ((end - first) * self.blocks) as usize);
        let packed = |elements: usize| elements * self.bits as usize / 8;
        let dtype = if self.bits == 4 { DType::Uint4 } else { DType::Uint8 };
        let (from, to) = (packed(start * self.block as usize), packed((start + count) * self.block as usize));
        let shape = vec![count as u64, self.block as u64];
        let data = b.weight(Tensor { dtype, shape, data: self.data.data.slice(from..to) });
        let scales = Tensor { data: elements(self.scales, start, count)?, ..self.scales.clone() };
        let scales = b.weight(floats_of(scales, &[count as u64])?);
        let float_points = self.zero_points.filter(|points| points.dtype != DType::Uint8);
        let zero = match float_points {
            Some(_) => None,
            None => Some(b.weight(Tensor { dtype, shape: vec![count as u64], data: self.points(start, count)? })),
        };
        // In older opsets only the contributed operator knows 4 bits.
        let domain = if self.bits == 4 && n.opset_of_onnx() < 21 { MICROSOFT } else { "" };
        let mut floats = dequantised(b, domain, data, scales, zero, 0);
        if let Some(points) = float_points {
            let points = Tensor { data: elements(points, start, count)?, ..points.clone() };
            let points = b.weight(floats_of(points, &[count as u64])?);
            floats = floats - (points * scales).unsqueeze(&[1]);
        }
        let padded = self.blocks * self.block;
        let floats = floats.reshape_to(&[end - first, padded]);
        Ok(if padded == self.columns { floats } else { floats.slice(&[0], &[self.columns], &[1]) })
    }

    /// Zero points of `count` blocks, packed without a gap. Those of the file begin each row with a whole byte; without
    /// any, they are the middle.
    fn points(&self, start: usize, count: usize) -> Result<Bytes, String> {
        let bytes = |elements: usize| (elements * self.bits as usize).div_ceil(8);
        let Some(points) = self.zero_points else {
            return Ok(vec![if self.bits == 4 { 0x88 } else { 0x80 }; bytes(count)].into());
        };
        let blocks = self.blocks as usize;
        let row = bytes(blocks);
        if points.data.len() != row * self.rows as usize {
            return Err(format!("{} bytes of zero points do not fit; the model is invalid", points.data.len()));
        }
        if bytes(2 * blocks) == 2 * row {
            return Ok(points.data.slice(bytes(start)..bytes(start + count)));
        }
        let nibble = |index: usize| {
            let (block, byte) = (index % blocks, points.data[index / blocks * row + index % blocks / 2]);
            if block.is_multiple_of(2) { byte & 15 } else { byte >> 4 }
        };
        let pair = |at: usize| nibble(at) | if at + 1 < start + count { nibble(at + 1) << 4 } else { 0 };
        Ok((start..start + count).step_by(2).map(pair).collect())
    }
}

/// The bytes of some elements of a float tensor.
fn elements(tensor: &Tensor, start: usize, count: usize) -> Result<Bytes, String> {
    let size = tensor.dtype.bits() / 8;
    if (start + count) * size > tensor.data.len() {
        return Err(format!("{} does not have a value for each block; the model is invalid", tensor.ty()));
    }
    Ok(tensor.data.slice(start * size..(start + count) * size))
}

/// A tensor whose data is that of `shape`, as floats of 32 bits.
fn floats_of(tensor: Tensor, shape: &[u64]) -> Result<Tensor, String> {
    let tensor = Tensor { shape: shape.to_vec(), ..tensor };
    match tensor.dtype {
        DType::Float => Ok(tensor),
        _ => {
            let values = tensor.to_f32().ok_or_else(|| format!("scales of {}; the model is invalid", tensor.dtype))?;
            Ok(Tensor::from_f32(shape, &values))
        }
    }
}
