//! Trigonometric and hyperbolic functions and their inverses; sin and cos are in `elementwise`.

use super::elementwise::{product, ratio};
use crate::grad::{At, Grads};

/// y = tan x  ⇒  dx = dy · (1 + y²)
pub fn tan<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * (n.y(0) * n.y(0) + 1.0))])
}

/// y = sin⁻¹ x  ⇒  dx = dy / √(1 − x²) (0 where |x| = 1)
pub fn asin<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(ratio(n.dy(0), (1.0 - n.x(0) * n.x(0)).sqrt()))])
}

/// y = cos⁻¹ x  ⇒  dx = −dy / √(1 − x²) (0 where |x| = 1)
pub fn acos<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(ratio(-n.dy(0), (1.0 - n.x(0) * n.x(0)).sqrt()))])
}

/// y = tan⁻¹ x  ⇒  dx = dy / (1 + x²)
pub fn atan<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) / (n.x(0) * n.x(0) + 1.0))])
}

/// y = sinh x  ⇒  dx = dy · cosh x (0 where dy = 0)
pub fn sinh<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(product(n.dy(0), n.x(0).unary("Cosh")))])
}

/// y = cosh x  ⇒  dx = dy · sinh x (0 where dy = 0)
pub fn cosh<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(product(n.dy(0), n.x(0).unary("Sinh")))])
}

/// y = sinh⁻¹ x  ⇒  dx = dy / √(x² + 1)
pub fn asinh<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) / (n.x(0) * n.x(0) + 1.0).sqrt())])
}

/// y = cosh⁻¹ x  ⇒  dx = dy / √(x² − 1) (0 where x = 1)
pub fn acosh<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(ratio(n.dy(0), (n.x(0) * n.x(0) - 1.0).sqrt()))])
}

/// y = tanh⁻¹ x  ⇒  dx = dy / (1 − x²) (0 where |x| = 1)
pub fn atanh<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(ratio(n.dy(0), 1.0 - n.x(0) * n.x(0)))])
}
