//! What the agent asks about before and after a training: whether recipe and model can be used, and which samples cannot.
//!
//! In processes of their own: both load ONNX Runtime, and one reads files that have already been the end of a training.

use super::Done;
use super::args::{Compute, Global};
use super::print::Printer;
use crate::agent::record::folders::visible;
use crate::agent::record::inventory::SIDES;
use crate::agent::record::sample_name::{name_of_content, parse};
use crate::agent::work::request::Unusable;
use crate::data::{Labels, Options, Texts};
use crate::engine;
use crate::graph::Tensor;
use crate::learn::samples::{inputs_of, named_types};
use crate::learn::{bundle, divided, settings};
use crate::order::Order;
use crate::predict::Takes;
use crate::recipe::{LossName, Recipe};
use crate::train::prepare::Base;
use crate::train::single::Single;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A sample is out of proportion where its largest feature is so many times that of the middle sample: squared, in `float`, nothing of
/// the others is left beside it.
const OUT_OF_PROPORTION: f32 = 1e6;

/// Whether a recipe can be used: it is read, with its model, its tokenizer and ONNX Runtime, and the model is divided as the recipe says.
///
/// # Errors
/// What cannot be used, with its file.
pub fn check(recipe: &Path, global: &Global) -> Result<Done> {
    let read = Recipe::read(recipe)?;
    read.settings().with_context(|| format!("the recipe {}", recipe.display()))?;
    let model = model_of(recipe, &read)?;
    engine::load(&global.choice())?;
    let base = Base::read_with(&model, read.batch_axis)?;
    if let Some(tokenizer) = &read.samples.tokenizer {
        let inputs = named_types(&inputs_of(&base));
        let options = Options { inputs, tokenizer: Some(tokenizer.clone()), ..Options::default() };
        Texts::open(&model, read.samples.max_length.unwrap_or(1), &options)?;
    }
    let read = settings::with_loss(read, &base)?;
    let of_parts = |loss: LossName| {
        let of_parts = [LossName::TokenCrossEntropy, LossName::Ctc, LossName::Boxes, LossName::BoxClasses];
        loss.is_of_pixels() || of_parts.contains(&loss)
    };
    if read.loss.is_some_and(of_parts) {
        bail!(
            "loss {}: the agent takes one class a sample; train this with `edgetune train`",
            read.loss.map_or("", LossName::name)
        );
    }
    // How many classes there will be is not known yet, and of a language model's data nothing is.
    let names = ["one", "other"].map(String::from).to_vec();
    let plain = read.train.first().is_none_or(|train| train != "auto");
    if plain && read.loss != Some(LossName::NextToken) {
        divided(&base, &read, &Labels::Classes { names, index: vec![] })?;
    }
    Ok(Done::Fully)
}

/// The model that a recipe names.
///
/// # Errors
/// It names none.
pub fn model_of(file: &Path, recipe: &Recipe) -> Result<PathBuf> {
    let missing = || format!("{}: it names no model; write `model = \"model.onnx\"`", file.display());
    recipe.model.clone().with_context(missing)
}

/// Samples of a state from which nothing can be learned by a recipe: what cannot be read or has changed, and what the body makes
/// nothing finite of.
///
/// # Errors
/// A recipe or model that cannot be used.
pub fn sift(recipe: &Path, samples: &Path, compute: &Compute, global: &Global) -> Result<Vec<Unusable>> {
    let read = Recipe::read(recipe)?;
    let model = model_of(recipe, &read)?;
    engine::load(&global.choice())?;
    let base = Base::read_with(&model, read.batch_axis)?;
    let mut classes = BTreeSet::new();
    let mut files = Vec::new();
    for side in SIDES {
        for class in visible(&samples.join(side))? {
            classes.extend(class.file_name().map(|name| name.to_string_lossy().into_owned()));
            files.extend(visible(&class)?);
        }
    }
    let preprocessing = read.samples.preprocessing(&base, &samples.join(SIDES[0]), &Printer::new(true))?;
    let labels = Labels::Classes { names: classes.into_iter().collect(), index: vec![] };
    let plain = Recipe { output: read.output.clone(), head: read.head, ..Recipe::default() };
    let bundle = bundle(&base, &plain, &labels, &global.bundles()?)?;
    let values: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
    let takes = Takes::open(preprocessing, &bundle.inputs, (&model, read.samples.tokenizer.as_deref()))?;
    let mut single = Single::new(&bundle, &values, &compute.options())?;
    let (mut unusable, mut sizes) = (Vec::new(), Vec::new());
    for input in files {
        match largest(&input, &takes, &mut single) {
            Ok(size) => sizes.push((input, size)),
            Err(reason) => unusable.push(Unusable { input, reason }),
        }
    }
    unusable.extend(out_of_proportion(sizes));
    Ok(unusable)
}

/// The largest feature of a sample.
fn largest(file: &Path, takes: &Takes, single: &mut Single) -> Result<f32, String> {
    let content = read_plain(file).map_err(|error| format!("cannot be read: {error}"))?;
    let name = file.file_stem().and_then(|stem| parse(&stem.to_string_lossy()));
    if name.is_some_and(|name| name != name_of_content(&content)) {
        return Err("its content has changed since it was taken".into());
    }
    let inputs = takes.decode(&content)?;
    let features = single.features(inputs).map_err(|error| error.to_string())?;
    let output = single.output_of(&features).map_err(|error| error.to_string())?;
    let sizes = |tensor: &Tensor| tensor.to_f32().unwrap_or_default();
    let largest = features
        .iter()
        .flat_map(sizes)
        .chain(output)
        .fold(0.0f32, |largest, value| if value.is_finite() { largest.max(value.abs()) } else { f32::INFINITY });
    if largest.is_finite() { Ok(largest) } else { Err("the model makes numbers of it that are not finite".into()) }
}

fn read_plain(file: &Path) -> io::Result<Vec<u8>> {
    if !file.symlink_metadata()?.is_file() {
        return Err(io::Error::other("no plain file"));
    }
    fs::read(file)
}

/// Samples beside which nothing of the others is left.
fn out_of_proportion(mut sizes: Vec<(PathBuf, f32)>) -> Vec<Unusable> {
    sizes.order_by(|one, other| one.1.total_cmp(&other.1));
    let Some(middle) = sizes.get(sizes.len() / 2).map(|(_, size)| *size).filter(|size| *size > 0.0) else {
        return Vec::new();
    };
    let beyond = sizes.into_iter().filter(|(_, size)| *size / middle > OUT_OF_PROPORTION);
    let reason = |size: f32| format!("its largest number is {:.0e} times that of the middle sample", size / middle);
    beyond.map(|(input, size)| Unusable { input, reason: reason(size) }).collect()
}

/// What recipe, model, tokenizer and ONNX Runtime are on the disk, summed up: another text where one of them has changed.
pub fn cause(recipe: &Path, global: &Global) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fs::read(recipe).unwrap_or_default());
    let named = Recipe::read(recipe).ok().map(|recipe| [recipe.model, recipe.samples.tokenizer]);
    let library = engine::find(&global.choice()).ok().and_then(|search| Some(search.found.first()?.path.clone()));
    for path in named.into_iter().flatten().flatten().chain(library) {
        let known = fs::metadata(&path).ok().map(|file| (file.len(), file.modified().ok()));
        hasher.update(format!("{path:?} {known:?}").as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_out_of_proportion_is_found_and_none_where_all_are_alike() {
        let sized = |sizes: &[f32]| -> Vec<(PathBuf, f32)> {
            sizes.iter().enumerate().map(|(number, size)| (PathBuf::from(number.to_string()), *size)).collect()
        };
        let found = out_of_proportion(sized(&[1.0, 2.0, 4e9, 3.0]));
        assert_eq!((found.len(), found[0].input.as_path()), (1, Path::new("2")));
        assert!(found[0].reason.contains("times"), "{}", found[0].reason);
        for sizes in [&[][..], &[0.0, 0.0, 5.0], &[1e12, 2e12, 1e12], &[1.0, 1e5]] {
            assert_eq!(out_of_proportion(sized(sizes)), [], "{sizes:?}");
        }
    }
}
