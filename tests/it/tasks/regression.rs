//! Numbers against PyTorch's loss and scikit-learn's metrics.

use super::{Golden, is_as_pytorch};
use edgetune::data::Labels;
use edgetune::task::Loss;
use ndarray::Ix2;

#[test]
fn the_squared_error_is_pytorchs_and_the_mean_absolute_error_is_scikit_learns() {
    let mut golden = Golden::read("regression");
    let values = golden.array::<f32>("values").into_dimensionality::<Ix2>().unwrap();
    let loss = Loss::named("mean-squared-error").unwrap();
    is_as_pytorch(&mut golden, &Labels::Values(values), &loss, 3, &["mean_absolute_error"]);
}
