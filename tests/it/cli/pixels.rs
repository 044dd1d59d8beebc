//! What is done to pixels: by an option, as the model's exporter states it, or by default; always told.

use super::Place;
use edgetune::data::{ImagePreprocessing, Preprocessing};
use edgetune::train::artifact::Adapter;

const TRAIN: &str = "train base.onnx --data train --epochs 1 --batch 8 --out a.edelta";

fn learned(place: &Place) -> ImagePreprocessing {
    let Preprocessing::Image(image) = Adapter::read(&place.path("a.edelta")).unwrap().preprocessing else { panic!() };
    image
}

#[test]
fn pixels_are_told_and_come_from_options_presets_or_files() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 6);
    let told = |more: &str| {
        let err = place.run(&format!("{TRAIN} {more}")).done().err;
        err.lines().find(|line| line.starts_with("pixels ")).unwrap_or_else(|| panic!("{err}")).to_string()
    };
    let line = told("");
    assert!(line.contains(" RGB nchw, ") && line.contains("bilinear, scale 1/255, mean 0, std 1 (assumed; "), "{line}");
    let line = told("--preprocessing inception");
    assert!(line.ends_with("scale 1/255, mean 0.5, std 0.5 (--preprocessing inception)"), "{line}");
    let told_by_predict = place.run("predict base.onnx --adapter a.edelta train").done().err;
    assert!(told_by_predict.contains("mean 0.5, std 0.5 (from the adapter)"), "{told_by_predict}");

    let config = r#"{"do_rescale": false, "image_mean": [127, 127, 127], "image_std": [128, 128, 128], "resample": 3}"#;
    place.write("preprocessor_config.json", config);
    let line = told("");
    assert!(line.contains("bicubic, scale 1, mean 127, std 128 (from preprocessor_config.json)"), "{line}");
    assert_eq!((learned(&place).scale, learned(&place).mean, learned(&place).std), (1.0, [127.0; 3], [128.0; 3]));
    // A mean of the file would be wrong for another scale.
    let line = told("--scale 1/127.5");
    assert!(line.contains("mean 0, std 1 (from the options)"), "{line}");
    place.write("preprocessor_config.json", "{");
    let ran = place.run(TRAIN).done();
    assert!(ran.err.contains("warning: how images are prepared: ") && ran.err.contains("is no JSON"), "{}", ran.err);
    place.run(&format!("{TRAIN} --preprocessing none")).fails(&["`preprocessing` = `none`", "imagenet", "clip"]);
}

/// The demo's model: nothing has to be typed with its file beside it; without, what a head learns from its features tells.
#[test]
fn pixels_that_a_head_learns_more_from_are_told() {
    let place = Place::new();
    place.link("models/efficientnet_lite0/model.onnx", "base.onnx");
    place.link("models/cifar10/train", "train");
    let ran = place.run(&format!("{TRAIN} --per-class 12")).done();
    let told =
        "warning: of 64 photographs, each left out in turn, a head on the model's features misses the labels by ";
    let better = " less with --preprocessing inception: ";
    assert!(ran.err.contains(told) && ran.err.contains(better), "{}", ran.err);
    // With few photographs its own answers have to tell; here they do not, and nothing is claimed.
    let ran = place.run(&format!("{TRAIN} --per-class 2")).done();
    assert!(!ran.err.contains("may want its pixels"), "{}", ran.err);
    place.link("models/efficientnet_lite0/preprocessor_config.json", "preprocessor_config.json");
    let ran = place.run(&format!("{TRAIN} --per-class 1 --val-fraction 0")).done();
    assert!(ran.err.contains("scale 1, mean 127, std 128 (from preprocessor_config.json)"), "{}", ran.err);
    assert!(!ran.err.contains("may want its pixels"), "{}", ran.err);
}
