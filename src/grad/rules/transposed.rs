//! Transposed convolution: a convolution's way back, so that its own way back is a convolution.

use super::conv::weights;
use super::window::{Window, fixed_shape, spatial_shape, windows};
use crate::grad::{At, Grads};
use crate::graph::Attr;

/// y = x ∗ᵀ W + b  ⇒  dx = dy ∗ W, dW = dy ∗ x (a convolution's, with x and dy in each other's place),
/// db = Σ over batch and space of dy. `W: [inputs, outputs / group, kernel…]`.
pub fn conv_transpose<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let shape = fixed_shape(n, 1)?;
    let group = n.node().int("group", 1);
    if shape.len() < 3 || group < 1 || shape[0] % group != 0 {
        return Err(format!("weights of shape {shape:?} do not fit {group} groups; the model is invalid"));
    }
    if n.node().str("auto_pad", "NOTSET") != "NOTSET" || n.node().ints("output_shape").is_some() {
        return Err("its padding follows from auto_pad or output_shape; export the model with pads written out".into());
    }
    let windows = windows(n, &shape[2..])?;
    let beyond = n.node().ints("output_padding").unwrap_or_default();
    if beyond.iter().zip(&windows).any(|(more, w)| *more >= w.stride) {
        return Err(format!("output_padding {beyond:?} is as large as the strides; use a smaller one in the model"));
    }
    let dx = n.needs(0).then(|| {
        let each = |of: &dyn Fn(&Window) -> i64| windows.iter().map(of).collect::<Vec<i64>>();
        let attributes = [
            ("group", Attr::Int(group)),
            ("strides", Attr::Ints(each(&|w| w.stride))),
            ("dilations", Attr::Ints(each(&|w| w.dilation))),
            ("pads", Attr::Ints([each(&|w| w.begin), each(&|w| w.end)].concat())),
        ];
        n.builder().op("Conv", &[n.dy(0), n.x(1)], &attributes)
    });
    let space = n.y_shape(0).ok().and_then(spatial_shape);
    let dw = n.needs(1).then(|| weights((n.dy(0), space), n.x(0), &shape, group, &windows));
    let db = n.needs(2).then(|| {
        let axes: Vec<i64> = (0..shape.len() as i64).filter(|axis| *axis != 1).collect();
        n.dy(0).reduce_sum(&axes, false)
    });
    let mut gradients = vec![dx, dw, db];
    gradients.truncate(n.inputs());
    Ok(gradients)
}
