//! Images made larger or smaller.

use super::shape::{joined, sizes};
use crate::grad::{At, Grads};
use crate::graph::{Tensor, Val};

/// What happens along one axis.
enum Along {
    /// Each element is repeated so many times.
    Repeated(i64),
    /// y = R · x with R `[outputs, inputs]`.
    Product(Vec<f32>, [u64; 2]),
}

/// y = R x along each axis, where a row of R says of which elements of x an element of y is made  ⇒  dx = Rᵀ dy
///
/// Where every element is only repeated, that is the sum over its copies, for any size of the image.
pub fn resize<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let node = n.node();
    let (mode, coordinates) = (node.str("mode", "nearest"), node.str("coordinate_transformation_mode", "half_pixel"));
    if !matches!(mode, "nearest" | "linear") || node.int("antialias", 0) != 0 || coordinates == "tf_crop_and_resize" {
        return Err(format!(
            "no gradient for mode {mode} with {coordinates}, cropped or with antialiasing; export the model with nearest \
             or bilinear resizing"
        ));
    }
    if node.str("keep_aspect_ratio_policy", "stretch") != "stretch" {
        return Err("no gradient for keep_aspect_ratio_policy; export the model with the sizes written out".into());
    }
    let rank = n.rank(0)?;
    let (mut dx, mut repeats) = (n.dy(0), vec![1; rank]);
    for (axis, scale) in scales(n, rank)?.into_iter().enumerate() {
        match scale.map(|scale| along(n, axis, scale)).transpose()? {
            Some(Along::Product(table, shape)) => {
                let table = n.builder().constant(Tensor::from_f32(&shape, &table)).cast(dx.dtype());
                dx = product(dx, table, axis, rank);
            }
            Some(Along::Repeated(times)) => repeats[axis] = times,
            None => {}
        }
    }
    Ok(vec![Some(copies_summed(n, dx, &repeats))])
}

/// How much longer each axis becomes; `None` where nothing changes.
fn scales(n: &At<'_, '_>, rank: usize) -> Result<Vec<Option<f32>>, String> {
    let axes = n.node().ints("axes").map_or_else(|| (0..rank as i64).collect(), <[i64]>::to_vec);
    let by_size = n.has(3);
    let given = if by_size { None } else { n.constant(2).and_then(Tensor::to_f32) };
    let mut scales = vec![None; rank];
    for (i, axis) in axes.iter().enumerate() {
        let axis = n.axis(*axis, rank) as usize;
        let scale = match &given {
            Some(values) => *values.get(i).ok_or("it has fewer scales than axes; the model is invalid")?,
            None if by_size => size_ratio(n, axis)?,
            None => return Err("its scales are computed at run time; export the model with a fixed image size".into()),
        };
        scales[axis] = (scale != 1.0).then_some(scale);
    }
    Ok(scales)
}

/// The size of y along an axis by that of x. A batch, whose size is not known, stays as it is.
fn size_ratio(n: &At<'_, '_>, axis: usize) -> Result<f32, String> {
    let (x, y) = (&n.x_shape(0)?[axis], &n.y_shape(0)?[axis]);
    if x.same(y) || (axis == 0 && x.fixed().is_none() && y.fixed().is_none()) {
        return Ok(1.0);
    }
    let size = n.fixed(0, axis)?;
    Ok(output_size(n, axis)? as f32 / size as f32)
}

fn output_size(n: &At<'_, '_>, axis: usize) -> Result<u64, String> {
    n.y_shape(0)?[axis].fixed().ok_or_else(|| {
        format!("dimension {axis} of output 0 must be fixed for its gradient; export the model with it fixed")
    })
}

/// What the node does along an axis that it changes.
fn along(n: &At<'_, '_>, axis: usize, scale: f32) -> Result<Along, String> {
    let node = n.node();
    let coordinates = node.str("coordinate_transformation_mode", "half_pixel");
    let rounding = node.str("nearest_mode", "round_prefer_floor");
    let nearest = node.str("mode", "nearest") == "nearest";
    let copies = match coordinates {
        "asymmetric" => rounding == "floor",
        "align_corners" => false,
        _ => rounding.starts_with("round_prefer"),
    };
    if nearest && copies && scale.fract() == 0.0 && scale > 0.0 {
        return Ok(Along::Repeated(scale as i64));
    }
    let (inputs, outputs) = (n.fixed(0, axis)? as u64, output_size(n, axis)?);
    let last = inputs as f32 - 1.0;
    let mut table = vec![0.0f32; (inputs * outputs) as usize];
    for (output, row) in table.chunks_exact_mut(inputs.max(1) as usize).enumerate() {
        let place = place(coordinates, output as f32, scale, (inputs as f32, outputs as f32))?;
        if nearest {
            let place = match rounding {
                "floor" => place.floor(),
                "ceil" => place.ceil(),
                "round_prefer_ceil" => (place + 0.5).floor(),
                _ => (place - 0.5).ceil(),
            };
            row[place.clamp(0.0, last) as usize] = 1.0;
        } else {
            let place = place.clamp(0.0, last);
            let before = place as usize;
            row[before] += 1.0 - place.fract();
            row[(before + 1).min(inputs as usize - 1)] += place.fract();
        }
    }
    Ok(Along::Product(table, [outputs, inputs]))
}

/// Where in x an element of y lies, as the operator's specification computes it.
fn place(coordinates: &str, at: f32, scale: f32, (inputs, outputs): (f32, f32)) -> Result<f32, String> {
    Ok(match coordinates {
        "half_pixel" => (at + 0.5) / scale - 0.5,
        "pytorch_half_pixel" if outputs > 1.0 => (at + 0.5) / scale - 0.5,
        "align_corners" if outputs > 1.0 => at * (inputs - 1.0) / (outputs - 1.0),
        "pytorch_half_pixel" | "align_corners" => 0.0,
        "asymmetric" => at / scale,
        "half_pixel_symmetric" => inputs / 2.0 * (1.0 - outputs / (scale * inputs)) + (at + 0.5) / scale - 0.5,
        other => return Err(format!("no gradient for coordinates {other}; export the model with half_pixel")),
    })
}

/// Rᵀ dy along an axis, for R `[outputs, inputs]`.
fn product<'b>(dy: Val<'b>, table: Val<'b>, axis: usize, rank: usize) -> Val<'b> {
    if axis + 1 == rank {
        return dy.matmul(table);
    }
    if axis + 2 == rank {
        return table.transpose(&[1, 0]).matmul(dy);
    }
    let mut swapped: Vec<i64> = (0..rank as i64).collect();
    swapped.swap(axis, rank - 1);
    dy.transpose(&swapped).matmul(table).transpose(&swapped)
}

/// The sum over the copies of each element of x.
fn copies_summed<'b>(n: &At<'_, 'b>, dy: Val<'b>, repeats: &[i64]) -> Val<'b> {
    let (mut shape, mut summed) = (Vec::new(), Vec::new());
    for (axis, times) in repeats.iter().enumerate() {
        shape.push(n.fixed(0, axis).map_err(|_| axis as i64));
        if *times > 1 {
            summed.push(shape.len() as i64);
            shape.push(Ok(*times));
        }
    }
    if summed.is_empty() {
        return dy;
    }
    let known: Vec<i64> = shape.iter().map(|size| size.unwrap_or(-1)).collect();
    let blocks = if shape.iter().filter(|size| size.is_err()).count() <= 1 && !known.contains(&0) {
        dy.reshape_to(&known)
    } else {
        let size = |size: &Result<i64, i64>| match size {
            Ok(size) => n.builder().ints(&[*size]),
            Err(axis) => sizes(n.x(0), *axis, Some(axis + 1)),
        };
        dy.reshape(joined(&shape.iter().map(size).collect::<Vec<_>>()))
    };
    blocks.reduce_sum(&summed, false)
}
