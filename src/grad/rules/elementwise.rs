//! Operators that work element by element.

use crate::grad::{At, Grads};

/// y = a + b  ⇒  da = dy, db = dy
pub fn add<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0)), Some(n.dy(0))])
}

/// y = a · b  ⇒  da = dy · b, db = dy · a
pub fn mul<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * n.x(1)), Some(n.dy(0) * n.x(0))])
}

/// y = x  ⇒  dx = dy
pub fn identity<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0))])
}

/// y = max(x, 0)  ⇒  dx = dy where y > 0, else 0
pub fn relu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let zero = n.dy(0).scalar_like(0.0);
    Ok(vec![Some(n.y(0).greater(zero).select(n.dy(0), zero))])
}

/// y = σ(x)  ⇒  dx = dy · y · (1 − y)
pub fn sigmoid<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * n.y(0) * (1.0 - n.y(0)))])
}
