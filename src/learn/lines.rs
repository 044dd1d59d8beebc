//! Text lines: which characters a model's outputs stand for, how wide pictures become, and how many steps the model gives for one.

use super::classes::own_width;
use super::observer::Observer;
use super::samples::inputs_of;
use crate::adapter::{self, Positions};
use crate::amounts::counted;
use crate::data::{self, ImagePreprocessing, Preprocessing, Stated};
use crate::delta;
use crate::engine::{Options, Session};
use crate::graph::{Dim, Graph, Tensor, TensorType};
use crate::recipe::{Error, HeadName, Recipe, Samples, refuse};
use crate::train::prepare::Base;
use std::path::Path;

/// Pixels that a width chosen by the data is a multiple of: models of lines halve it several times.
const MULTIPLE: u32 = 32;
/// Pixels down that PaddleOCR's readers of lines take since PP-OCRv3 (`image_shape: [3, 48, 320]`).
const PADDLE: u32 = 48;
/// The widest picture that the data choose.
const WIDTH_MAX: u32 = 8192;

/// How pictures of lines become a model's input: as high as that is and filled up to one width, which is the model's, the setting's, or that of the
/// widest line at `path`.
///
/// # Errors
/// A model that takes no pictures, settings that would cut a line, data without pictures.
pub fn preprocessing(
    samples: &Samples,
    base: &Base,
    path: &Path,
    observer: &dyn Observer,
) -> Result<Preprocessing, Error> {
    let inputs = inputs_of(base);
    let is_picture = |ty: &TensorType| ty.rank() == Some(4) && ty.dtype.is_float();
    let [(name, ty)] = &inputs[..] else {
        refuse!(
            "setting `loss = ctc`: texts are read from pictures, one an input, and the model has {} inputs",
            inputs.len()
        )
    };
    if !is_picture(ty) || data::holds_arrays(path) {
        refuse!("setting `loss = ctc`: texts are read from files of pictures, and the model's input is `{name}` {ty}");
    }
    if let Some(side) = samples.resize {
        refuse!(
            "setting `samples.resize = {side}`: a line is seen as a whole, as high as the model takes it; remove it"
        );
    }
    let mut samples = samples.clone();
    if let (None, Some(height)) = (&samples.size, height_of_open_width(base, ty)) {
        let reading = data::Options {
            label: samples.label.clone(),
            text: samples.text.clone(),
            file: samples.file.clone(),
            ..data::Options::default()
        };
        if let Some(widest) = data::widest(path, &reading)? {
            let width = (widest * f64::from(height)).ceil().min(f64::from(WIDTH_MAX)) as u32;
            let width = width.next_multiple_of(MULTIPLE).min(WIDTH_MAX);
            observer.note(&format!(
                "size      {width}x{height}, as wide as the widest line asks for; setting `samples.size` sets another"
            ));
            samples.size = Some(format!("{width}x{height}"));
        }
    }
    let given = samples.scale.is_some() || samples.mean.is_some() || samples.std.is_some();
    let told = data::stated_image(&base.path, &base.metadata)?.is_some();
    if samples.preprocessing.is_none() && !given && !told && base.metadata.contains_key("character") {
        // `resize_norm_img` of PaddleOCR's readers of lines has (p / 255 - 0.5) / 0.5. Its detectors name classes there, too, and scale otherwise.
        observer
            .note("pixels    are scaled as PaddleOCR's readers of lines have it, by the model's metadata `character`");
        samples.preprocessing = Some("inception".into());
    }
    let image =
        ImagePreprocessing { resize: ImagePreprocessing::AS_LINE, ..samples.image((name, ty), base, observer)? };
    observer.note(&format!("pixels    {} (for lines)", image.described()));
    Ok(Preprocessing::Image(image))
}

/// The height of a model's pictures where it leaves their width open: its own, or that of PaddleOCR's readers for one of these that leaves it
/// open, too.
fn height_of_open_width(base: &Base, ty: &TensorType) -> Option<u32> {
    let shape = ty.shape.as_deref()?;
    let size = |axis: usize| shape.get(axis).and_then(Dim::fixed);
    let is_channels = |size: Option<u64>| matches!(size, Some(1 | 3));
    let [rows, columns] = if !is_channels(size(1)) && is_channels(size(3)) { [1, 2] } else { [2, 3] };
    let height = size(rows).map(|height| height as u32).or(base.metadata.contains_key("character").then_some(PADDLE));
    height.filter(|_| size(columns).is_none())
}

/// Tells how many steps the model gives for a picture, which bounds the length of a text.
///
/// # Errors
/// A model without scores at each step.
pub fn steps_for(base: &Base, output: Option<&str>, options: &mut data::Options) -> Result<(), Error> {
    let Preprocessing::Image(image) = &options.preprocessing else {
        refuse!("setting `data`: texts are read from pictures, and these are none; give pictures with their texts")
    };
    options.steps = Some(steps(base, output, image)?);
    Ok(())
}

fn steps(base: &Base, output: Option<&str>, image: &ImagePreprocessing) -> Result<u64, Error> {
    let graph = base.of_pictures(image.shape());
    let graph = graph.as_ref().unwrap_or(&base.graph);
    let output = adapter::output_of(graph, output, Positions::Token)?;
    let shape = graph.ty(output).and_then(|ty| ty.shape.as_deref()).unwrap_or_default();
    let [_, steps, _] = shape else {
        let ty = graph.ty(output).map_or("of an unknown type".into(), ToString::to_string);
        refuse!(
            "setting `loss = ctc`: output `{}` is {ty}, and a text is read from scores at each step, [batch, steps, characters]; name such an \
             output with setting `output`",
            graph.value_name(output)
        )
    };
    match steps.fixed() {
        Some(steps) => Ok(steps),
        None => measured(graph, output, image),
    }
}

/// Steps that nothing but a run over an empty picture tells.
fn measured(graph: &Graph, output: crate::graph::ValueId, image: &ImagePreprocessing) -> Result<u64, Error> {
    let part = graph.extract("steps", &graph.inputs, &[output]);
    let mut session = Session::from_graph(&part, &Options { threads: 1, ..Options::default() })?;
    let shape = [&[1], &image.shape()[..]].concat();
    let blank = Tensor::from_vec(&shape, vec![0.0f32; shape.iter().product::<u64>() as usize]);
    let name = graph.value_name(graph.inputs[0]).to_string();
    let found = session.run(&[(name.as_str(), &blank)])?.remove(0);
    Ok(found.shape.get(1).copied().unwrap_or(0))
}

/// What the model's outputs are: characters and the blank, by the setting, by what stands in or beside the model; `None` where a head for those of
/// the data is to learn.
///
/// # Errors
/// Nothing that names the outputs; characters that stand there twice.
pub fn alphabet(recipe: &Recipe, base: &Base, observer: &dyn Observer) -> Result<Option<Vec<String>>, Error> {
    let outputs = own_width(recipe, base)?;
    let anew = matches!(recipe.head, Some(HeadName::Replace | HeadName::Append));
    if let Some(given) = &recipe.classes {
        let path = Path::new(given);
        let characters =
            if path.is_file() { data::characters_of(path)? } else { given.chars().map(String::from).collect() };
        let names = data::alphabet(characters, outputs.filter(|_| !anew));
        refuse_unwritable(&names, given)?;
        if let Some((_, twice)) = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
            refuse!(
                "setting `classes = {given}`: `{twice}` stands there twice; each output has a character of its own"
            );
        }
        return Ok(Some(names));
    }
    if anew {
        return Ok(None);
    }
    if let Some(Stated { value, source }) = data::characters(&base.path, &base.metadata)? {
        let names = data::alphabet(value, outputs);
        if outputs == Some(names.len() as u64) {
            refuse_unwritable(&names, &source)?;
            let place = data::blank_of(&names);
            observer.note(&format!(
                "classes   {} from {source}, and the blank, output {place}",
                counted(names.len() - 1, "character")
            ));
            return Ok(Some(names));
        }
        observer
            .note(&format!("classes   {} names in {source}, which are not as many as the outputs", names.len() - 1));
    }
    refuse!(
        "setting `classes`: nothing in or beside the model says which characters its {}outputs are; name a file with one a line in their order, \
         where no line `{}` stands for the blank that is the first output, or let a head for the characters of the data learn with setting `head = \
         replace`",
        outputs.map_or(String::new(), |outputs| format!("{outputs} ")),
        data::BLANK
    )
}

/// A delta holds so many characters, none of which is empty or controls a terminal; that is said before anything is learned.
fn refuse_unwritable(names: &[String], source: &str) -> Result<(), Error> {
    let most = delta::LABELS_MAX;
    if names.len() > most {
        refuse!("{source}: {} characters, and an adapter holds {most} at most; give a model of fewer", names.len());
    }
    match names.iter().position(|name| name.is_empty() || name.contains(char::is_control)) {
        Some(place) => refuse!("{source}: output {place} is an empty line or no printable character; write one there"),
        None => Ok(()),
    }
}
