//! The base divided as a recipe and the data's labels ask for it.

use crate::adapter::{self, Request};
use crate::data::Labels;
use crate::recipe::{self, Error, Recipe};
use crate::task;
use crate::train::plan::candidates::Target;
use crate::train::prepare::{self, Base, Bundle, Divided};
use std::path::Path;

/// Output, width and head that a recipe and the data's labels ask for.
pub(super) fn target<'a>(recipe: &'a Recipe, labels: &Labels) -> Target<'a> {
    let embedding = recipe.embedding.map(u64::from);
    let width = task::of_labels(labels).and_then(|task| (task.width)(labels)).or(embedding);
    let loss = recipe::loss(recipe.loss, None);
    let (activation, positions) = (Some(loss.activation()), loss.positions());
    Target { output: recipe.output.as_deref(), width, head: recipe.head_choice(), activation, positions }
}

/// The bundle for a recipe and the data's labels.
///
/// # Errors
/// A selection that the model does not have, or that no gradient reaches; a folder that cannot be written.
pub fn bundle(base: &Base, recipe: &Recipe, labels: &Labels, bundles: &Path) -> Result<Bundle, Error> {
    Ok(prepare::write(base, divided(base, recipe, labels)?, bundles)?)
}

/// The base divided for a recipe and the data's labels.
///
/// # Errors
/// A selection that the model does not have, or that no gradient reaches.
pub fn divided(base: &Base, recipe: &Recipe, labels: &Labels) -> Result<Divided, Error> {
    let Target { output, width, head, activation, positions } = target(recipe, labels);
    let request = Request {
        output,
        selections: &recipe.selections()?,
        method: recipe.change.method(),
        places: recipe.change.places()?,
        seed: recipe.seed.unwrap_or(0),
        width,
        head,
        activation,
        positions,
    };
    base.refuse_fixed_batch()?;
    Ok(prepare::divide(adapter::install(base.graph.clone(), &request)?)?)
}
