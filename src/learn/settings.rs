//! What a recipe leaves open and the model, the data or a delta to go on from decides.

use super::observer::Observer;
use super::sets::Data;
use crate::adapter::{self, Detector, Positions};
use crate::amounts::counted;
use crate::cut::{self, Selection};
use crate::data::{self, Labels, Pairs, Preprocessing, Split};
use crate::graph::{DType, Dim, TensorType, ValueId};
use crate::recipe::{self, Error, HeadName, LossName, Recipe, SolverName, refuse};
use crate::task::OwnLoss;
use crate::train::artifact::Adapter;
use crate::train::fit::Settings;
use crate::train::loss::Loss;
use crate::train::own_loss;
use crate::train::plan;
use crate::train::prepare::{Base, Bundle};
use crate::train::solve::{self, choose};
use std::num::ParseFloatError;
use std::path::Path;

/// Vectors that tell likeness are as long as the features up to here, and else so long.
const EMBEDDING_KEPT_MAX: u64 = 512;
const EMBEDDING: u32 = 128;
/// Those that tell anomalies: the longer, the better they keep what is left of a sample.
const RESIDUAL: u32 = 256;

/// How a fresh linear head is fitted where the recipe does not say it: at once, if nothing asks for gradient steps. `begun`:
/// whether there are values to go on from.
///
/// # Errors
/// The setting `l2` where steps are made.
pub fn by_default(
    recipe: &Recipe,
    loss: &Loss,
    begun: bool,
    bundle: &Bundle,
    data: &Data,
) -> Result<Option<solve::Settings>, Error> {
    let steps = recipe.option_of_steps().is_some() || recipe.change.adapter.is_some();
    let head_alone = bundle.parameters.iter().all(|parameter| parameter.fresh);
    let free = recipe.solver.is_none() && !steps && !begun && head_alone;
    let mut found = free.then(|| choose::solver(bundle, data.labels(), &data.split, loss)).flatten();
    if recipe.solver.is_none()
        && !steps
        && data.retained.is_some()
        && !bundle.parameters.iter().any(|known| known.fresh)
    {
        let split = data.learning();
        let samples = (split.train.len() + split.validation.len()) as u64;
        found = choose::kept(bundle, samples, data.labels(), loss);
    }
    match (found, recipe.l2) {
        (None, Some(_)) if recipe.solver.is_none() => {
            refuse!(
                "setting `l2`: what learns here learns by gradient steps, which have setting `weight-decay`; remove setting `l2`"
            )
        }
        (found, l2) => Ok(found.map(|settings| solve::Settings { l2, ..settings })),
    }
}

/// A tenth of the rate for whole layers of the base below a fresh head, where the recipe names no rate: they have good values
/// to lose.
pub fn slow_below_head(settings: Settings, recipe: &Recipe, bundle: &Bundle) -> Settings {
    let named = recipe.lr.is_some() || recipe.head_rate.is_some();
    let any = |fresh: bool| bundle.parameters.iter().any(|parameter| parameter.fresh == fresh);
    if named || recipe.change.adapter.is_some() || !(any(true) && any(false)) {
        return settings;
    }
    plan::below_a_trained_head(settings)
}

/// Says where the setting `train = last:N` or `adapter.layers = last:N` asks for more layers than there are.
///
/// # Errors
/// An output that the base does not have.
pub fn tell_of_all_layers(recipe: &Recipe, base: &Base, observer: &dyn Observer) -> Result<(), Error> {
    let positions = recipe::loss(recipe.loss, None).positions();
    let output = adapter::output_of(&base.graph, recipe.output.as_deref(), positions)?;
    let layers = cut::layers(&base.graph, output).len();
    for selection in recipe.selections()? {
        if let Selection::Last(count) = selection
            && count > layers
        {
            let layers = counted(layers, "layer");
            observer.warn(&format!(
                "setting `train = last:{count}`: the model has {layers} with weights, so the whole model learns; `edgetune inspect` \
                 shows what each number of layers costs"
            ));
        }
    }
    if let Some(count) = recipe.change.places()?.last.filter(|count| *count > layers) {
        observer.warn(&format!(
            "setting `adapter.layers = last:{count}`: the model has {} with weights, so all of them are changed; `edgetune inspect` lists them", counted(layers, "layer")
        ));
    }
    Ok(())
}

/// Says that a tensor learns which several modules share, as exporters unite tensors that are equal.
pub fn tell_of_united(bundle: &Bundle, base: &Base, observer: &dyn Observer) {
    let learns = |name: &str| bundle.parameters.iter().any(|parameter| parameter.name == name);
    // A detector's one output is no output of its file.
    let Some(output) = base.graph.find(&bundle.output) else { return };
    for (id, modules) in cut::united(&base.graph, output) {
        let name = base.graph.value_name(id);
        if learns(name) {
            observer.note(&format!("shared    {name} is one tensor of {}: all of them change", modules.join(" and ")));
        }
    }
}

/// The recipe with the loss that base and data call for where it leaves that open: the next token's, where the output is
/// `[batch, sequence, vocabulary]` and the data are text without labels; each word's, where they are words with tags; the squared
/// error, where labels are fractions that nearly all differ.
///
/// # Errors
/// An output that the base does not have; an option that the loss leaves without effect.
pub fn with_loss(mut recipe: Recipe, base: &Base) -> Result<Recipe, Error> {
    let output = adapter::output(&base.graph, recipe.output.as_deref())?;
    let rank = base.graph.ty(output).and_then(TensorType::rank);
    let unlabelled = recipe.samples.label.is_empty() && recipe.data.as_deref().is_some_and(data::is_unlabelled_text);
    if recipe.loss.is_none() && rank == Some(3) && data::takes_text(&input_types(base)) && unlabelled {
        recipe.loss = Some(LossName::NextToken);
    }
    let each_token = base.graph.outputs.iter().any(|id| base.graph.ty(*id).and_then(TensorType::rank) == Some(3));
    let by_token = matches!(recipe.loss, None | Some(LossName::CrossEntropy)) && each_token;
    let tagged = || recipe.data.as_deref().is_some_and(|data| data::holds_tags(data, &recipe.samples.label));
    if by_token && data::takes_text(&input_types(base)) && tagged() {
        recipe.loss = Some(LossName::TokenCrossEntropy);
    }
    if recipe.loss.is_none()
        && recipe.data.as_deref().is_some_and(data::holds_boxes)
        && Detector::find(&base.graph).is_ok()
    {
        recipe.loss = Some(LossName::Boxes);
    }
    if matches!(recipe.loss, None | Some(LossName::CrossEntropy)) && each_token && reads_lines(&recipe, base) {
        recipe.loss = Some(LossName::Ctc);
    }
    if measured(&recipe).is_some() {
        recipe.loss = Some(LossName::MeanSquaredError);
    }
    let each_pixel = adapter::output_of(&base.graph, recipe.output.as_deref(), Positions::Pixel)?;
    let each_pixel = base.graph.ty(each_pixel).and_then(TensorType::rank) == Some(4);
    let masked = || recipe.data.as_deref().is_some_and(data::holds_masks);
    if matches!(recipe.loss, None | Some(LossName::CrossEntropy)) && each_pixel && masked() {
        recipe.loss = Some(LossName::PixelCrossEntropy);
    }
    if recipe.loss.is_none() {
        recipe.loss = recipe.data.as_deref().and_then(data::holds_pairs).map(|pairs| match pairs {
            Pairs::Alike => LossName::MultipleNegatives,
            Pairs::Scored => LossName::CosineSimilarity,
        });
    }
    if recipe.loss.is_some_and(|loss| loss.is_of_likeness() || loss.is_of_normality()) {
        choose_embedding(&mut recipe, base)?;
    }
    if recipe.loss != Some(LossName::NextToken) {
        let only_text = [
            ("samples.packing", recipe.samples.packing),
            ("samples.bos-token", recipe.samples.bos_token.is_some()),
            ("samples.eos-token", recipe.samples.eos_token.is_some()),
        ];
        if let Some((setting, _)) = only_text.into_iter().find(|(_, given)| *given) {
            refuse!(
                "setting `{setting}`: only a language model has use for it; remove it, or choose setting `loss = next-token`"
            );
        }
    }
    Ok(recipe)
}

/// Whether the model takes pictures, and the data are pictures with a text each.
fn reads_lines(recipe: &Recipe, base: &Base) -> bool {
    let takes_pictures = base.graph.inputs.iter().all(|id| base.graph.ty(*id).and_then(TensorType::rank) == Some(4));
    let samples = &recipe.samples;
    let options = data::Options {
        label: samples.label.clone(),
        text: samples.text.clone(),
        file: samples.file.clone(),
        ..data::Options::default()
    };
    takes_pictures && recipe.data.as_deref().is_some_and(|data| data::holds_lines(data, &options))
}

/// The length of vectors where the recipe leaves it open: that of the features, where it is not large. Vectors that have that length get a layer
/// behind them, for there is none in its place.
fn choose_embedding(recipe: &mut Recipe, base: &Base) -> Result<(), Error> {
    if recipe.head == Some(HeadName::Keep) || recipe.from.is_some() {
        return Ok(());
    }
    let output = adapter::output(&base.graph, recipe.output.as_deref())?;
    let own = adapter::width(&base.graph, output, Positions::Sample);
    let classifier = adapter::classifier_weight(&base.graph, recipe.output.as_deref())?;
    let read = classifier.as_ref().map(|(_, [_, features])| *features as u64);
    let shape = base.graph.ty(output).and_then(|ty| ty.shape.as_deref()).unwrap_or_default();
    // Channels come first in pictures, and last elsewhere.
    let channels = shape.get(1).and_then(Dim::fixed).filter(|size| shape.len() >= 4 && *size > 1);
    let read = read.or(channels).or_else(|| shape.last().and_then(Dim::fixed));
    let kept = read.filter(|features| *features <= EMBEDDING_KEPT_MAX).map(|features| features as u32);
    let usual = if recipe.loss.is_some_and(LossName::is_of_normality) { RESIDUAL } else { EMBEDDING };
    recipe.embedding = recipe.embedding.or(kept).or(Some(usual));
    if recipe.head.is_none() && own == recipe.embedding.map(u64::from) {
        recipe.head = Some(if classifier.is_some() { HeadName::Replace } else { HeadName::Append });
    }
    Ok(())
}

/// The column of numbers to predict, where the recipe leaves open what is learned and the labels leave no doubt.
fn measured(recipe: &Recipe) -> Option<String> {
    let of_classes = recipe.classes.is_some()
        || recipe.class_weights.is_some()
        || recipe.label_smoothing.is_some()
        || matches!(recipe.solver, Some(SolverName::Lbfgs | SolverName::Imprint))
        || matches!(recipe.head, Some(HeadName::Append));
    let samples = &recipe.samples;
    let series = samples.window.is_some() || samples.hop.is_some() || samples.time.is_some();
    if recipe.loss.is_some() || of_classes || series {
        return None;
    }
    data::numbers_to_predict(recipe.data.as_deref()?, &samples.label, samples.file.as_deref())
}

/// Says that numbers are learned, where that follows from the labels alone.
pub fn tell_of_measured(recipe: &Recipe, observer: &dyn Observer) {
    if let Some(column) = measured(recipe) {
        observer.note(&format!(
            "loss      mse: the labels in column {column} are numbers to predict (setting `loss = cross-entropy` takes each as a class)"
        ));
    }
}

/// The model's inputs with their types.
pub(super) fn input_types(base: &Base) -> Vec<(String, DType)> {
    let named = |id: &ValueId| Some((base.graph.value_name(*id).to_string(), base.graph.ty(*id)?.dtype));
    base.graph.inputs.iter().filter_map(named).collect()
}

/// Lets a recipe go on with what an adapter was trained for: the adapter says what learns.
///
/// # Errors
/// A loss for another kind of target.
pub fn go_on(recipe: &mut Recipe, adapter: &Adapter) -> Result<(), Error> {
    (recipe.train, recipe.head, recipe.classes, recipe.output, recipe.change) = Default::default();
    (recipe.budget_memory, recipe.budget_time, recipe.budget_delta) = Default::default();
    recipe.batch_axis = adapter.batch_axis.or(recipe.batch_axis);
    let learned = LossName::named(adapter.loss.name()).expect("every loss has a name in recipes");
    let loss = *recipe.loss.get_or_insert(learned);
    if recipe::task(Some(loss)).name != recipe::task(Some(learned)).name {
        let name = adapter.loss.name();
        refuse!(
            "setting `loss`: {} was trained with {name}; remove the option, or train anew without setting `from`",
            adapter.path.display()
        );
    }
    Ok(())
}

/// Says that a recipe with a loss of one's own minimises that.
///
/// # Errors
/// A loss by name beside the file, or neither; samples' labels by name.
pub fn name_own_loss(recipe: &mut Recipe) -> Result<(), Error> {
    let Some(path) = &recipe.loss_file else {
        if recipe.loss == Some(LossName::File) {
            refuse!(
                "setting `loss-file`: what learns here learns by a loss of one's own; name its ONNX file with setting `loss-file = FILE.onnx`"
            );
        }
        if recipe.loss_hash.is_some() {
            refuse!(
                "setting `loss-hash`: there is no file that it is of; name it with setting `loss-file`, or remove it"
            );
        }
        return Ok(());
    };
    if let Some(named) = recipe.loss.filter(|loss| *loss != LossName::File) {
        refuse!(
            "setting `loss-file`: {} stands beside setting `loss = {}`; remove one of them",
            path.display(),
            named.name()
        );
    }
    if let [label, ..] = &recipe.samples.label[..] {
        refuse!("setting `samples.label = {label}`: a loss of one's own names what it takes by its inputs; remove it");
    }
    recipe.loss = Some(LossName::File);
    Ok(())
}

/// Reads a recipe's loss of one's own, if it has one; the recipe holds its hash from here on.
///
/// # Errors
/// A file that is no loss, or not the one that `loss-hash` says.
pub fn read_own_loss(recipe: &mut Recipe) -> Result<Option<OwnLoss>, Error> {
    let Some(path) = &recipe.loss_file else { return Ok(None) };
    let loss = own_loss::read(path)?;
    refuse_other_hash(path, &loss, recipe.loss_hash.as_deref())?;
    recipe.loss_hash = Some(loss.hash.clone());
    Ok(Some(loss))
}

fn refuse_other_hash(path: &Path, loss: &OwnLoss, wanted: Option<&str>) -> Result<(), Error> {
    match wanted.filter(|wanted| wanted.is_empty() || !loss.hash.starts_with(&wanted.to_lowercase())) {
        None => Ok(()),
        Some(wanted) => {
            refuse!(
                "{} is another file than the one meant: its hash is {}, not {wanted}; give that file",
                path.display(),
                loss.hash
            )
        }
    }
}

/// What an adapter is measured by: the loss that it was trained with, whose file is to be named where it is one of one's own.
///
/// # Errors
/// No file where the adapter has a loss of one's own, another file, or a file where it has none.
pub fn loss_to_measure(adapter: &Adapter, file: Option<&Path>) -> Result<Loss, Error> {
    let path = adapter.path.display();
    match (&adapter.loss, file) {
        (Loss::File(own), Some(file)) => {
            let loss = own_loss::read(file)?;
            refuse_other_hash(file, &loss, Some(&own.hash))?;
            Ok(Loss::File(loss))
        }
        (Loss::File(own), None) => {
            let name = &own.file;
            refuse!(
                "{path} was trained with {name}, a loss of one's own; name that file with setting `loss-file = {name}`"
            )
        }
        (loss, Some(_)) => {
            refuse!("setting `loss-file`: {path} was trained with {}, and is measured by it; remove it", loss.name())
        }
        (loss, None) => Ok(loss.clone()),
    }
}

/// Tells a loss of pixels how large the masks are, and the model how large pictures of masks or lines are: what it gives for each pixel or step has a
/// size then.
pub fn fit_to_masks(loss: &mut Loss, base: &mut Base, data: &Data) {
    if let (Loss::PixelCrossEntropy { size, .. }, Labels::Pixels { masks, .. }) = (loss, data.labels()) {
        *size = Some(masks.size());
        if let Preprocessing::Image(image) = &data.preprocessing {
            base.fix_pictures(image.shape());
        }
    }
    if let (Labels::Lines { .. }, Preprocessing::Image(image)) = (data.labels(), &data.preprocessing) {
        base.fix_pictures(image.shape());
    }
}

/// Gives the loss what it takes from the data: how many classes there are, and the recipe's class weights: `balanced` weighs each class by the inverse of its share of the training
/// samples.
///
/// # Errors
/// Anything but `balanced` or one number of 0 or more for each class.
pub fn weigh(settings: &mut Settings, recipe: &Recipe, labels: &Labels, split: &Split) -> Result<(), Error> {
    if let Loss::Boxes { classes, .. } = &mut settings.loss {
        *classes = labels.names().len() as u64;
    }
    // A row of pairs or triplets that two batches shared would have nobody to compare in either.
    if let Labels::Identities { members, .. } = labels
        && let Some(size) = data::row_size(members)
    {
        settings.batch = (settings.batch / size as u32).max(1) * size as u32;
    }
    let Some(text) = recipe.class_weights.as_deref() else { return Ok(()) };
    let (Loss::CrossEntropy { class_weights, .. }
    | Loss::TokenCrossEntropy { class_weights }
    | Loss::PixelCrossEntropy { class_weights, .. }) = &mut settings.loss
    else {
        return Ok(());
    };
    let names = labels.names();
    *class_weights = Some(if text == "balanced" {
        let mut counts = vec![0usize; names.len()];
        match labels {
            Labels::Classes { index, .. } => {
                split.train.iter().for_each(|sample| counts[index[*sample] as usize] += 1);
            }
            Labels::Tokens { rows, .. } => {
                let all = split.train.iter().flat_map(|sample| rows.row(*sample));
                all.filter_map(|class| usize::try_from(*class).ok()).for_each(|class| counts[class] += 1);
            }
            Labels::Pixels { masks, .. } => {
                for sample in &split.train {
                    let pixels = masks.counts(*sample, names.len());
                    counts.iter_mut().zip(pixels).for_each(|(count, more)| *count += more as usize);
                }
            }
            _ => return Ok(()),
        }
        let all: usize = counts.iter().sum();
        let weight = |count: &usize| all as f32 / (names.len() * (*count).max(1)) as f32;
        counts.iter().map(weight).collect()
    } else {
        numbers(text, names)?
    });
    Ok(())
}

fn numbers(text: &str, names: &[String]) -> Result<Vec<f32>, Error> {
    let what =
        || format!("setting `class-weights` `{text}`: write `balanced`, or one number a class separated by commas");
    let weights: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let weights = weights.map_err(|error: ParseFloatError| Error::Refused(format!("{}: {error}", what())))?;
    let usable = |weight: &f32| *weight >= 0.0 && weight.is_finite();
    if weights.len() != names.len() || !weights.iter().all(usable) || weights.iter().all(|weight| *weight == 0.0) {
        let (given, classes) = (weights.len(), names.join(", "));
        refuse!(
            "setting `class-weights`: {given} weights for {} classes ({classes}); give each a number of 0 or more",
            names.len()
        );
    }
    Ok(weights)
}
