//! Classes in an order against coral-pytorch's loss and scikit-learn's metrics.

use super::{Golden, TOLERANCE, is_as_pytorch};
use edgetune::data::Labels;
use edgetune::task::Loss;

#[test]
fn coral_is_pytorchs_and_the_mean_absolute_error_is_scikit_learns() {
    let mut golden = Golden::read("ordinal");
    let index = golden.array::<i64>("classes").iter().map(|class| *class as u32).collect::<Vec<_>>();
    let names = (0..5).map(|class| class.to_string()).collect();
    let samples = index.len() as f64;
    let labels = Labels::Ordinal { names, index };
    let counts = is_as_pytorch(&mut golden, &labels, &Loss::Coral, 4, &["mean_absolute_error"]);
    let (loss, expected) = (counts.sum / samples, golden.number("loss"));
    assert!((loss - expected).abs() <= TOLERANCE * expected, "in Rust {loss}, PyTorch {expected}");
    assert_eq!(counts.right as f64 / samples, golden.number("accuracy"));
}
