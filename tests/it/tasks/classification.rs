//! One class a sample against PyTorch's loss and scikit-learn's metrics.

use super::{Golden, is_as_pytorch};
use edgetune::data::Labels;
use edgetune::task::Loss;

#[test]
fn cross_entropy_is_pytorchs_and_the_macro_f1_is_scikit_learns() {
    let mut golden = Golden::read("classification");
    let index: Vec<u32> = golden.array::<i64>("classes").iter().map(|class| *class as u32).collect();
    let samples = index.len() as f64;
    let labels = Labels::Classes { names: (0..6).map(|class| class.to_string()).collect(), index };
    let loss = Loss::named("cross-entropy").unwrap();
    let counts = is_as_pytorch(&mut golden, &labels, &loss, 6, &["macro_f1"]);
    assert_eq!(counts.right as f64 / samples, golden.number("accuracy"));
}
