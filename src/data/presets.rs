//! What is done to pixels, by name or as a model's exporter states it: `preprocessor_config.json` of Transformers, `config.json`
//! of timm, the metadata of Ultralytics' classifiers.

use super::stated::{Stated, beside, shown};
use super::{Error, Filter, ImagePreprocessing};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How pixels are scaled for models of one family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// What the setting `samples.preprocessing` calls it.
    pub name: &'static str,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
    /// The shortest side before the crop, for a crop of 224.
    resize_of_224: u32,
    /// How photographs are resized.
    filter: Filter,
}

const BYTE: f32 = 1.0 / 255.0;
const IMAGENET: Preset = Preset {
    name: "imagenet",
    scale: BYTE,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    resize_of_224: 224,
    filter: Filter::Bilinear,
};

/// The presets, with their sources:
/// - `unit`: 0 to 1, as `torchvision.transforms.ToTensor` gives it.
/// - `imagenet`: mean and deviation of ImageNet (timm's `IMAGENET_DEFAULT_MEAN`, Keras' `preprocess_input` in mode `torch`).
/// - `torchvision`: the same behind a resize to 256 for a crop of 224 (`torchvision.transforms._presets.ImageClassification`).
/// - `timm`: the same by bicubic interpolation (timm's `_cfg`: `interpolation='bicubic'`, `crop_pct` 0.875; torchvision's
///   `EfficientNet_B0_Weights.IMAGENET1K_V1`, `resize_size=256, interpolation=BICUBIC`).
/// - `inception`: -1 to 1 (timm's `IMAGENET_INCEPTION_MEAN`, Keras' `preprocess_input` in mode `tf`).
/// - `clip`: timm's and Transformers' `OPENAI_CLIP_MEAN`, bicubic (`_transform` of OpenAI's `clip.py`, `CLIPImageProcessor`).
/// - `efficientnet-lite`: (pixel - 127) / 128 (`MEAN_RGB` of TensorFlow Model Maker's `efficientnet_lite_builder.py`).
/// - `raw`: 0 to 255, for models that scale by themselves, as Keras' EfficientNet does.
///
/// What is not said above is resized by bilinear interpolation, which is `torchvision.transforms.Resize`'s own default.
pub const PRESETS: [Preset; 8] = [
    Preset { name: "unit", mean: [0.0; 3], std: [1.0; 3], ..IMAGENET },
    IMAGENET,
    Preset { name: "torchvision", resize_of_224: 256, ..IMAGENET },
    Preset { name: "timm", resize_of_224: 256, filter: Filter::Bicubic, ..IMAGENET },
    Preset { name: "inception", mean: [0.5; 3], std: [0.5; 3], ..IMAGENET },
    Preset {
        name: "clip",
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        filter: Filter::Bicubic,
        ..IMAGENET
    },
    Preset { name: "efficientnet-lite", scale: 1.0, mean: [127.0; 3], std: [128.0; 3], ..IMAGENET },
    Preset { name: "raw", scale: 1.0, mean: [0.0; 3], std: [1.0; 3], ..IMAGENET },
];

impl Preset {
    /// The preset of a name.
    ///
    /// # Errors
    /// [`Error::Setting`] with all names.
    pub fn named(name: &str) -> Result<Self, Error> {
        let known = || PRESETS.map(|preset| preset.name).join(", ");
        let found = PRESETS.iter().find(|preset| preset.name == name);
        found.copied().ok_or_else(|| Error::setting("preprocessing", name, format!("there are {}", known())))
    }

    /// Whether an image's pixels come out nearly as by the preset.
    pub fn is_like(&self, image: &ImagePreprocessing) -> bool {
        let ends = |scale: f32, mean: &[f32; 3], std: &[f32; 3], channel: usize| {
            [0.0, 255.0].map(|value: f32| (value * scale - mean[channel]) / std[channel])
        };
        (0..3).all(|channel| {
            let own = ends(self.scale, &self.mean, &self.std, channel);
            let other = ends(image.scale, &image.mean, &image.std, channel);
            own.iter().zip(other).all(|(own, other)| (own - other).abs() < 0.05)
        })
    }

    /// The same image with the preset's pixels.
    pub fn put_into(&self, image: &mut ImagePreprocessing) {
        (image.scale, image.mean, image.std) = (self.scale, self.mean, self.std);
        image.resize = image.width.min(image.height) * self.resize_of_224 / 224;
        image.filter = self.filter;
    }
}

/// What an exporter states of images; what it leaves out stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatedImage {
    /// Width and height.
    pub size: Option<(u32, u32)>,
    /// Shortest side before the crop.
    pub resize: Option<u32>,
    /// How photographs are resized.
    pub filter: Option<Filter>,
    /// Factor, mean and deviation.
    pub pixels: Option<(f32, [f32; 3], [f32; 3])>,
    /// What it asks for that is done in another way here.
    pub otherwise: Vec<String>,
}

/// What a model's metadata or a file beside it states of images.
///
/// # Errors
/// A file that cannot be read.
pub fn stated_image(model: &Path, metadata: &BTreeMap<String, String>) -> Result<Option<Stated<StatedImage>>, Error> {
    if let Some(value) = metadata.get("edgetune.preprocessing").and_then(|text| of_edgetune(text)) {
        return Ok(Some(Stated { value, source: "the model's metadata `edgetune.preprocessing`".into() }));
    }
    if metadata.get("task").is_some_and(|task| task == "classify") && metadata.contains_key("imgsz") {
        // Ultralytics' classify_transforms: a crop of the centre, 0 to 1.
        let value = StatedImage { pixels: Some((BYTE, [0.0; 3], [1.0; 3])), ..StatedImage::default() };
        return Ok(Some(Stated { value, source: "the model's metadata".into() }));
    }
    for path in beside(model, &["preprocessor_config.json", "config.json"]) {
        let text = fs::read_to_string(&path).map_err(|source| Error::io(&path, source))?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|error| Error::content(&path, format!("is no JSON ({error}); correct or remove it")))?;
        let found = match json.get("pretrained_cfg") {
            Some(config) => of_timm(config),
            None if shown(&path).starts_with("preprocessor") => of_transformers(&json),
            None => None,
        };
        if let Some(value) = found {
            return Ok(Some(Stated { value, source: shown(&path) }));
        }
    }
    Ok(None)
}

/// What `edgetune export` wrote; what is no image's, or of a later version, states nothing.
fn of_edgetune(text: &str) -> Option<StatedImage> {
    let mut json: Value = serde_json::from_str(text).ok()?;
    let image: ImagePreprocessing = serde_json::from_value(json.get_mut("image")?.take()).ok()?;
    let ImagePreprocessing { width, height, resize, scale, mean, std, filter, .. } = image;
    let (pixels, filter) = (Some((scale, mean, std)), Some(filter));
    Some(StatedImage { size: Some((width, height)), resize: Some(resize), filter, pixels, otherwise: Vec::new() })
}

/// `(p · rescale_factor - image_mean) / image_std`, each where its `do_…` is not false.
fn of_transformers(json: &Value) -> Option<StatedImage> {
    let does = |what: &str| json.get(what).and_then(Value::as_bool);
    let mean = channels(json.get("image_mean"));
    let (scales, normalises) = (does("do_rescale").unwrap_or(true), does("do_normalize").unwrap_or(mean.is_some()));
    let factor = json.get("rescale_factor").and_then(Value::as_f64).map_or(BYTE, |factor| factor as f32);
    let (mean, std) = match normalises {
        true => (mean?, channels(json.get("image_std"))?),
        false => ([0.0; 3], [1.0; 3]),
    };
    let sides = |value: &Value| match value {
        Value::Number(side) => side.as_u64().map(|side| (side as u32, side as u32)),
        value => Some((number(value, "width")?, number(value, "height")?)),
    };
    let (asked, crop) = (json.get("size"), json.get("crop_size").filter(|_| does("do_center_crop") != Some(false)));
    let shortest =
        asked.and_then(|size| number(size, "shortest_edge").or_else(|| size.as_u64().map(|side| side as u32)));
    let mut stated =
        StatedImage { pixels: Some((if scales { factor } else { 1.0 }, mean, std)), ..StatedImage::default() };
    stated.size = crop.and_then(sides).or_else(|| asked.and_then(sides));
    stated.resize = crop.and(shortest);
    if crop.is_none() && asked.and_then(|size| number(size, "width")).is_some() {
        stated.otherwise.push("stretches photographs to the size; here the centre is cut out".into());
    }
    // Pillow's numbers.
    match json.get("resample").and_then(Value::as_u64) {
        Some(0) => stated.filter = Some(Filter::Nearest),
        Some(1) => stated.filter = Some(Filter::Lanczos),
        Some(2) => stated.filter = Some(Filter::Bilinear),
        Some(3) => stated.filter = Some(Filter::Bicubic),
        Some(4) => stated.filter = Some(Filter::Area),
        Some(_) => stated.otherwise.push("resizes by Hamming's interpolation; here it is bilinear".into()),
        None => {}
    }
    Some(stated)
}

/// timm's `pretrained_cfg`: the shortest side is the size over `crop_pct`.
fn of_timm(config: &Value) -> Option<StatedImage> {
    let (mean, std) = (channels(config.get("mean"))?, channels(config.get("std"))?);
    let mut stated = StatedImage { pixels: Some((BYTE, mean, std)), ..StatedImage::default() };
    if let Some([_, height, width]) = config.get("input_size").and_then(Value::as_array).map(Vec::as_slice) {
        stated.size = width.as_u64().zip(height.as_u64()).map(|(width, height)| (width as u32, height as u32));
    }
    let share = config.get("crop_pct").and_then(Value::as_f64).filter(|share| (0.1..=1.0).contains(share));
    stated.resize =
        stated.size.zip(share).map(|((width, height), share)| (f64::from(width.min(height)) / share) as u32);
    if let Some(name) = config.get("interpolation").and_then(Value::as_str) {
        stated.filter = Filter::named(name).ok();
        if stated.filter.is_none() {
            stated.otherwise.push(format!("resizes by {name} interpolation; here it is bilinear"));
        }
    }
    Some(stated)
}

fn number(value: &Value, name: &str) -> Option<u32> {
    value.get(name)?.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// Three numbers, or one for all.
fn channels(value: Option<&Value>) -> Option<[f32; 3]> {
    let numbers: Vec<f32> = match value? {
        Value::Array(values) => values.iter().map(|value| Some(value.as_f64()? as f32)).collect::<Option<_>>()?,
        value => vec![value.as_f64()? as f32],
    };
    match numbers[..] {
        [one] => Some([one; 3]),
        [red, green, blue] => Some([red, green, blue]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(file: &str, text: &str) -> Option<StatedImage> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), text).unwrap();
        stated_image(&folder.path().join("m.onnx"), &BTreeMap::new()).unwrap().map(|stated| stated.value)
    }

    #[test]
    fn transformers_timm_and_ultralytics_are_understood() {
        let clip = r#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "image_mean": [0.4, 0.5, 0.6],
            "image_std": [0.2, 0.3, 0.4], "resample": 3, "size": {"shortest_edge": 256}}"#;
        let clip = stated("preprocessor_config.json", clip).unwrap();
        assert_eq!((clip.size, clip.resize), (Some((224, 224)), Some(256)));
        assert_eq!(clip.pixels, Some((BYTE, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])));
        assert_eq!((clip.filter, &clip.otherwise[..]), (Some(Filter::Bicubic), &[][..]));
        let raw = r#"{"do_rescale": false, "image_mean": 127, "image_std": [128, 128, 128], "size": 192}"#;
        let raw = stated("preprocessor_config.json", raw).unwrap();
        assert_eq!((raw.size, raw.pixels), (Some((192, 192)), Some((1.0, [127.0; 3], [128.0; 3]))));
        let timm = r#"{"pretrained_cfg": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.875,
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;
        let timm = stated("config.json", timm).unwrap();
        assert_eq!((timm.size, timm.resize), (Some((224, 224)), Some(256)));
        assert_eq!(timm.filter, Some(Filter::Bicubic));
        assert_eq!(stated("config.json", r#"{"id2label": {}}"#), None);
        let metadata = [("task", "classify"), ("imgsz", "[224, 224]")].map(|(k, v)| (k.to_string(), v.to_string()));
        let found = stated_image(Path::new("none.onnx"), &metadata.into()).unwrap().unwrap();
        assert_eq!(found.value.pixels, Some((BYTE, [0.0; 3], [1.0; 3])));
    }

    #[test]
    fn presets_have_names_and_margins() {
        let mut image = ImagePreprocessing::new(192, 192);
        Preset::named("torchvision").unwrap().put_into(&mut image);
        assert_eq!((image.resize, image.mean), (219, [0.485, 0.456, 0.406]));
        assert!(image.validate().is_ok());
        let filters = ["torchvision", "timm", "clip"].map(|name| Preset::named(name).unwrap().filter);
        assert_eq!(filters, [Filter::Bilinear, Filter::Bicubic, Filter::Bicubic]);
        assert!(Preset::named("x").unwrap_err().to_string().contains("unit, imagenet, torchvision"));
    }
}
