//! A class for each pixel: from the folders that people have to masks of new pictures.

use super::Place;
use super::models::segmenter;
use edgetune::data::mask_png;
use serde_json::Value;
use std::fs;

const TRAIN: &str = "train base.onnx --size 16 --train last:2 --epochs 40 --batch 4 --lr 0.03 --val-fraction 0.25";

/// Rectangles of the classes 1 and 2 on a ground of 0, by a number. In a picture each class has a colour.
fn rectangles(number: u64, side: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut pixels = vec![0u8; side * side];
    for class in [1, 2] {
        let (left, top) = (random.usize(0..side / 2), random.usize(0..side / 2));
        let (right, bottom) = (left + random.usize(4..side / 2), top + random.usize(4..side / 2));
        (top..bottom).for_each(|row| pixels[row * side + left..row * side + right].fill(class));
    }
    pixels
}

fn png(pixels: &[u8]) -> Vec<u8> {
    let side = pixels.len().isqrt() as u32;
    mask_png(pixels, side, side).unwrap()
}

/// A model of `width` scores, and pictures with masks in the layouts that people have.
fn place(width: u64) -> Place {
    let place = Place::new();
    place.write("base.onnx", segmenter(width, false));
    for number in 0..16 {
        let pixels = rectangles(number, 16);
        let picture = png(&pixels);
        for picture_at in ["pages/images/", "beside/", "folders/imgs/", "nested/JPEGImages/a/"] {
            place.write(&format!("{picture_at}{number}.png"), &picture);
        }
        place.write(&format!("pages/masks/{number}.png"), &picture);
        place.write(&format!("beside/{number}_mask.png"), &picture);
        place.write(&format!("nested/SegmentationClass/a/{number}_gt.png"), &picture);
        for (class, name) in [(1, "a"), (2, "b")] {
            let mask: Vec<u8> = pixels.iter().map(|pixel| if *pixel == class { 255 } else { 0 }).collect();
            place.write(&format!("folders/masks/{name}/{number}.png"), png(&mask));
        }
    }
    place.write("pages/classes.txt", "background\na\nb\n");
    place.write("beside/_classes.csv", "Pixel Value, Class\n0, background\n1, a\n2, b\n");
    place.write("nested/classes.txt", "background\na\nb\n");
    place
}

fn number(document: &Value, name: &str) -> f64 {
    document[name].as_f64().unwrap_or_else(|| panic!("{document}"))
}

#[test]
fn pixels_are_learned_from_every_layout_and_told_as_masks() {
    let place = place(3);
    let mut deltas = Vec::new();
    for data in ["pages", "beside", "folders", "nested"] {
        let ran = place.run(&format!("{TRAIN} --data {data} --out {data}.edelta")).done();
        assert!(ran.out.contains("mean iou") && ran.err.contains("kept: 3 outputs"), "{data}: {}{}", ran.out, ran.err);
        deltas.push(place.read(&format!("{data}.edelta")));
    }
    assert!(deltas.iter().all(|delta| *delta == deltas[0]), "the same masks gave another delta");
    let eval = "eval base.onnx --adapter pages.edelta --json --data";
    let measured = place.run(&format!("{eval} beside")).json();
    assert!(number(&measured, "accuracy") > 0.85 && number(&measured, "mean_iou") > 0.6, "{measured}");
    let per_class = &measured["per_class"];
    let ious = ["background", "a", "b"].map(|class| number(&per_class[class], "iou"));
    assert!((ious.iter().sum::<f64>() / 3.0 - number(&measured, "mean_iou")).abs() < 1e-12, "{measured}");

    // A picture that is wider than high: what is cut off has no class.
    let wide: Vec<u8> = (0..16).flat_map(|row| [&rectangles(99, 16)[row * 16..][..16], &[0; 8]].concat()).collect();
    place.write("new/wide.png", mask_png(&wide, 24, 16).unwrap());
    fs::copy(place.path("pages/images/3.png"), place.path("new/three.png")).unwrap();
    let predict = "predict base.onnx --adapter pages.edelta new --masks masks";
    let told = place.run(&format!("{predict} --json")).json();
    assert_eq!(told.as_array().unwrap().len(), 2);
    for answer in told.as_array().unwrap() {
        let shares = answer["shares"].as_array().unwrap();
        let sum: f64 = shares.iter().map(|share| number(share, "share")).sum();
        assert!((sum - 1.0).abs() < 1e-9 && shares[0]["class"] == "background", "{answer}");
        assert!(fs::read(place.path(answer["mask"].as_str().unwrap())).unwrap().starts_with(b"\x89PNG"));
    }
    let lines = place.run(predict).done().out;
    assert!(lines.contains("three.png: background "), "{lines}");
    let table = place.run(&format!("{predict} --csv")).done().out;
    assert!(table.starts_with("input,class,share,mask\nnew/three.png,background,0."), "{table}");
    // Measured against its own masks, what was learned is right everywhere, and the size of each is its picture's.
    fs::create_dir_all(place.path("again")).unwrap();
    fs::rename(place.path("new"), place.path("again/images")).unwrap();
    fs::rename(place.path("masks"), place.path("again/masks")).unwrap();
    let measured = place.run(&format!("{eval} again")).json();
    assert_eq!(number(&measured, "accuracy"), 1.0, "{measured}");
}

#[test]
fn another_number_of_classes_gets_a_head_of_its_own_and_what_is_learned_goes_on() {
    let place = place(5);
    let ran = place.run(&format!("{TRAIN} --data pages --class-weights balanced --out a.edelta")).done();
    assert!(ran.err.contains("replaced: 5 → 3 outputs"), "{}", ran.err);
    let eval = "eval base.onnx --data pages --json --adapter";
    assert!(number(&place.run(&format!("{eval} a.edelta")).json(), "mean_iou") > 0.6);
    let more = "--output hidden --loss dice-cross-entropy --out b.edelta";
    let ran = place.run(&format!("{TRAIN} --data pages {more}")).done();
    assert!(ran.err.contains("appended to `hidden`: 6 → 3"), "{}", ran.err);
    let before = place.run(&format!("{eval} b.edelta")).json();
    assert!(number(&before, "mean_iou") > 0.6, "{before}");
    place.run("train base.onnx --data pages --from b.edelta --epochs 3 --lr 0.02 --out c.edelta").done();
    assert!(number(&place.run(&format!("{eval} c.edelta")).json(), "mean_iou") > 0.6);
    // A model with what was learned in it measures the same as the model beside it.
    place.run("export --adapter a.edelta --model base.onnx --to onnx --out merged.onnx").done();
    let merged =
        "train merged.onnx --data pages --size 16 --max-steps 1 --lr 1e-9 --allow-idle --val-fraction 0 --out m.edelta";
    assert!(place.run(merged).done().err.contains("kept: 3 outputs"));
    let measured = place.run("eval merged.onnx --data pages --json --adapter m.edelta").json();
    let known = place.run(&format!("{eval} a.edelta")).json();
    assert!((number(&measured, "loss") - number(&known, "loss")).abs() < 1e-3, "{measured} {known}");
    // The gradient, where a size is open, and what an application would ship.
    place.run("check base.onnx --train last:2 --loss pixel-cross-entropy").done();
    place.run("prepare base.onnx --classes 3 --loss dice-cross-entropy --out bundle").done();
}

#[test]
fn one_score_behind_a_sigmoid_tells_two_classes_also_with_channels_last() {
    let place = Place::new();
    place.write("base.onnx", segmenter(1, true));
    for number in 0..16 {
        let pixels: Vec<u8> =
            rectangles(number, 16).into_iter().map(|class| if class == 1 { 255 } else { 0 }).collect();
        let colours: Vec<u8> = pixels.iter().map(|pixel| pixel / 255).collect();
        place.write(&format!("data/images/{number}.png"), png(&colours));
        place.write(&format!("data/masks/{number}.png"), png(&pixels));
    }
    let ran = place.run(&format!("{TRAIN} --data data --classes ground,thing --out a.edelta")).done();
    assert!(ran.err.contains("255 is class 1 here") && ran.err.contains("the second class's"), "{}", ran.err);
    let measured = place.run("eval base.onnx --adapter a.edelta --data data --json").json();
    assert!(number(&measured, "accuracy") > 0.85 && number(&measured, "mean_iou") > 0.6, "{measured}");
}

#[test]
fn what_is_no_picture_with_its_mask_is_told_with_its_file() {
    let place = place(3);
    let train = format!("{TRAIN} --loss pixel-cross-entropy --out a.edelta --data");
    let pixels = rectangles(0, 16);
    let one = |name: &str, mask: &[u8]| {
        place.write(&format!("{name}/images/0.png"), png(&pixels));
        place.write(&format!("{name}/masks/0.png"), mask);
        place.write(&format!("{name}/classes.txt"), "background\na\nb\n");
    };
    one("size", &png(&[0; 64]));
    one("class", &png(&[&[7; 16][..], &[0; 240]].concat()));
    one("jpeg", b"\xff\xd8\xff\xe0");
    one("cut", &png(&pixels)[..60]);
    one("missing", &png(&pixels));
    place.write("missing/images/1.png", png(&rectangles(1, 16)));
    one("holes", &png(&pixels.iter().map(|class| class * 40).collect::<Vec<u8>>()));
    fs::remove_file(place.path("holes/classes.txt")).unwrap();
    one("ground", &png(&[0; 256]));
    place.write("twice/images/0.png", png(&pixels));
    place.write("twice/masks/0.png", png(&pixels));
    place.write("twice/masks/0_mask.png", png(&pixels));
    place.write("parts/images/train/0.png", png(&pixels));
    place.write("parts/masks/train/0.png", png(&pixels));
    one("table", &png(&pixels));
    fs::remove_file(place.path("table/classes.txt")).unwrap();
    place.write("table/_classes.csv", "Pixel Value, Class\n0, background\ntwo, b\n");
    for (data, parts) in [
        ("size", &["size/masks/0.png", "8×8 pixels", "size/images/0.png has 16×16"][..]),
        ("class", &["class/images/0.png", "class 7", "3 classes (background, a, b)"]),
        ("jpeg", &["jpeg/masks/0.png", "no PNG"]),
        ("cut", &["cut/masks/0.png", "damaged"]),
        ("missing", &["missing/images/1.png", "no mask", "missing/masks"]),
        ("holes", &["holes/images/0.png", "class 40", "no mask has class 1", "--classes"]),
        ("ground", &["fewer than two classes"]),
        ("twice", &["a second mask of twice/images/0.png"]),
        ("parts", &["parts/images/train", "train/images with train/masks"]),
        ("table", &["table/_classes.csv:3", "`1, NAME`"]),
        ("pages/images", &["no pictures with masks"]),
    ] {
        place.run(&format!("{train} {data}")).fails(parts);
    }
    assert!(!place.path("a.edelta").exists());
    let solved = "train base.onnx --size 16 --data pages --solver ridge --loss dice-cross-entropy --out a.edelta";
    place.run(solved).fails(&["--solver", "each pixel"]);
    place.run(&format!("{train} pages --classes background,a")).fails(&["class 2", "2 classes"]);
    // A classifier of whole pictures has nothing to say about a pixel, and says where to look.
    place.run("train base.onnx --size 16 --data pages --loss binary-cross-entropy --out a.edelta").fails(&[
        "images",
        "masks",
        "pixel-cross-entropy",
    ]);
    // Masks are written over nothing but masks.
    place.run(&format!("{TRAIN} --data pages --out b.edelta")).done();
    place.write("out/0.png", "a diary");
    let predict = "predict base.onnx --adapter b.edelta pages/images/0.png --masks out";
    place.run(predict).fails(&["--masks", "out/0.png", "--force"]);
    assert_eq!(place.read("out/0.png"), b"a diary");
    place.run(&format!("{predict} --force")).done();
    place.run(predict).done();
    place
        .run("predict base.onnx --adapter b.edelta pages/images/0.png nested/JPEGImages/a/0.png --masks out")
        .fails(&["0.png", "two folders"]);
}
