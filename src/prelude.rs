//! What most programs that train or predict need: `use edgetune::prelude::*;`.

pub use crate::cut::Selection;
pub use crate::data::Labels;
pub use crate::facade::{Predictor, Run, Trainer};
pub use crate::graph::Tensor;
pub use crate::learn::Event;
pub use crate::predict::Answer;
pub use crate::recipe::Recipe;
