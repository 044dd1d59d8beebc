//! Limited-memory BFGS with a strong Wolfe line search (Nocedal and Wright, *Numerical Optimization*, algorithms 7.4, 7.5,
//! 3.5 and 3.6), in f64 and in one fixed order: the same function gives the same bits.

use std::collections::VecDeque;

/// Pairs of steps and gradient differences that are kept, as many as SciPy keeps.
const PAIRS: usize = 10;
/// c₁ of the strong Wolfe conditions: the share of the promised decrease that a step must bring.
const DECREASE: f64 = 1e-4;
/// c₂ of the strong Wolfe conditions: the share of the slope that a step may leave.
const CURVATURE: f64 = 0.9;
/// Values of the function in one line search, at most.
const TRIALS_MAX: usize = 30;

/// Where the descent ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Minimum {
    /// The place.
    pub x: Vec<f64>,
    /// The function's value there.
    pub value: f64,
    /// Steps that were made.
    pub iterations: usize,
}

/// A place with the function's value and gradient.
struct Point {
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// Descends from `start` until no element of the gradient is larger than `tolerance`, no step leads lower, or
/// `iterations_max` steps are made. `function(x, gradient)` gives the value and writes the gradient; `go_on` is asked before
/// each step.
pub fn minimize(
    start: Vec<f64>,
    tolerance: f64,
    iterations_max: usize,
    function: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
    go_on: &dyn Fn() -> bool,
) -> Minimum {
    let mut at = evaluate(start, function);
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    let mut iterations = 0;
    while iterations < iterations_max && largest(&at.gradient) > tolerance && go_on() {
        let direction = direction(&at.gradient, &pairs);
        let slope = dot(&at.gradient, &direction);
        // Without pairs nothing tells the scale: the first step has length 1 at most.
        let first = if pairs.is_empty() { 1.0f64.min(1.0 / dot(&direction, &direction).sqrt()) } else { 1.0 };
        let Some(next) = search(&at, &direction, slope, first, function) else {
            // Old pairs can mislead near the end: steepest descent has the last word.
            if pairs.is_empty() {
                break;
            }
            pairs.clear();
            continue;
        };
        let step: Vec<f64> = next.x.iter().zip(&at.x).map(|(new, old)| new - old).collect();
        let change: Vec<f64> = next.gradient.iter().zip(&at.gradient).map(|(new, old)| new - old).collect();
        if dot(&step, &change) > 1e-10 * dot(&change, &change) {
            pairs.push_back((step, change));
            if pairs.len() > PAIRS {
                pairs.pop_front();
            }
        }
        at = next;
        iterations += 1;
    }
    Minimum { x: at.x, value: at.value, iterations }
}

fn evaluate(x: Vec<f64>, function: &mut dyn FnMut(&[f64], &mut [f64]) -> f64) -> Point {
    let mut gradient = vec![0.0; x.len()];
    let value = function(&x, &mut gradient);
    Point { x, value, gradient }
}

/// −H·gradient by the two-loop recursion.
fn direction(gradient: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(pairs.len());
    for (step, change) in pairs.iter().rev() {
        let share = dot(step, &q) / dot(step, change);
        add(&mut q, -share, change);
        shares.push(share);
    }
    if let Some((step, change)) = pairs.back() {
        let scale = dot(step, change) / dot(change, change);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((step, change), share) in pairs.iter().zip(shares.into_iter().rev()) {
        let other = dot(change, &q) / dot(step, change);
        add(&mut q, share - other, step);
    }
    q
}

/// A point along the direction that meets the strong Wolfe conditions, or the best of those that lead lower.
fn search(
    from: &Point,
    direction: &[f64],
    slope: f64,
    first: f64,
    function: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<Point> {
    if slope >= 0.0 {
        return None;
    }
    // (length, value, slope) of the bracket's better end, and of its other end once there is one.
    let mut low = (0.0, from.value, slope);
    let mut high: Option<(f64, f64, f64)> = None;
    let mut best: Option<Point> = None;
    let mut length = first;
    for _ in 0..TRIALS_MAX {
        let x = from.x.iter().zip(direction).map(|(x, d)| x + length * d).collect();
        let point = evaluate(x, function);
        let here = (length, point.value, dot(&point.gradient, direction));
        let enough = point.value <= from.value + DECREASE * length * slope;
        if !(enough && point.value.is_finite()) || (point.value >= low.1 && low.0 > 0.0) {
            high = Some(here);
        } else {
            if here.2.abs() <= -CURVATURE * slope {
                return Some(point);
            }
            let back = high.map_or(1.0, |high| high.0 - low.0);
            if here.2 * back >= 0.0 {
                high = Some(low);
            }
            low = here;
            best = Some(point);
        }
        length = match high {
            None => 2.0 * length,
            Some(high) => between(low, high),
        };
        if high.is_some_and(|high| (high.0 - low.0).abs() < 1e-16 * high.0.abs().max(low.0.abs())) {
            break;
        }
    }
    best
}

/// The minimum of the cubic through both ends, kept a tenth of the bracket away from them; the middle where there is none.
fn between(low: (f64, f64, f64), high: (f64, f64, f64)) -> f64 {
    let (a, b) = (low, high);
    let d1 = a.2 + b.2 - 3.0 * (a.1 - b.1) / (a.0 - b.0);
    let root = (d1 * d1 - a.2 * b.2).sqrt().copysign(b.0 - a.0);
    let cubic = b.0 - (b.0 - a.0) * (b.2 + root - d1) / (b.2 - a.2 + 2.0 * root);
    let (from, to) = (a.0.min(b.0), a.0.max(b.0));
    let margin = 0.1 * (to - from);
    if cubic.is_finite() { cubic.clamp(from + margin, to - margin) } else { 0.5 * (from + to) }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    ndarray::ArrayView1::from(a).dot(&ndarray::ArrayView1::from(b))
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valley_of_rosenbrock_is_followed_to_its_end() {
        let mut function = |x: &[f64], gradient: &mut [f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            gradient[0] = -2.0 * a - 400.0 * x[0] * b;
            gradient[1] = 200.0 * b;
            a * a + 100.0 * b * b
        };
        let found = minimize(vec![-1.2, 1.0], 1e-9, 200, &mut function, &|| true);
        assert!(found.iterations < 60, "{found:?}");
        assert!(found.x.iter().all(|x| (x - 1.0).abs() < 1e-8), "{found:?}");
    }

    #[test]
    fn a_search_may_be_stopped_and_ends_where_nothing_leads_lower() {
        let mut function = |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = 2.0 * x[0];
            x[0] * x[0]
        };
        assert_eq!(minimize(vec![3.0], 1e-9, 100, &mut function, &|| false).x, [3.0]);
        assert_eq!(minimize(vec![0.0], 0.0, 100, &mut function, &|| true).iterations, 0);
        // A gradient that lies: no step can follow it.
        let mut wrong = |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = -2.0 * x[0];
            x[0] * x[0]
        };
        assert_eq!(minimize(vec![1.0], 1e-9, 100, &mut wrong, &|| true).x, [1.0]);
    }
}
