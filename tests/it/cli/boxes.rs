//! Boxes around objects: learned from every form of data, measured, told.

use super::Place;
use super::models::{bmp, decoding_detector, detector};
use edgetune::train::artifact::Adapter;
use serde_json::{Value, json};

const TRAIN: &str = "train base.onnx --epochs 30 --batch 8 --lr 0.02 --val-fraction 0.2";

/// Class, left, top, right, bottom of the object in a photograph; every seventh has none.
fn object(number: u32) -> Option<[u32; 5]> {
    let (left, top) = (number * 5 % 18, number * 7 % 16);
    (number % 7 != 6).then_some([number % 2, left, top, left + 10 + number % 3, top + 12])
}

/// A detector of three classes, and forty photographs of red and blue rectangles on grey, in three forms.
fn place() -> Place {
    let place = Place::new();
    place.write("base.onnx", detector(3));
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for number in 0..40u32 {
        let found = object(number);
        let photograph = bmp(32, 32, |x, y| match found {
            Some([class, left, top, right, bottom]) if (left..right).contains(&x) && (top..bottom).contains(&y) => {
                if class == 0 {
                    [250, 20, 20]
                } else {
                    [20, 20, 250]
                }
            }
            _ => [90 + (number % 40) as u8, 100, 100],
        });
        for folder in ["coco", "yolo/images", "voc/JPEGImages"] {
            place.write(&format!("{folder}/{number:02}.bmp"), &photograph);
        }
        images.push(json!({ "id": number, "file_name": format!("{number:02}.bmp") }));
        let (mut row, mut xml) = (String::new(), String::new());
        if let Some([class, left, top, right, bottom]) = found {
            let box_ = [left, top, right - left, bottom - top];
            annotations.push(json!({ "image_id": number, "category_id": class, "bbox": box_ }));
            let share = |pixels: u32| f64::from(pixels) / 32.0;
            let centre = [left + right, top + bottom].map(|both| share(both) / 2.0);
            row = format!("{class} {} {} {} {}\n", centre[0], centre[1], share(box_[2]), share(box_[3]));
            xml = format!(
                "<object><name>{}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>\
                 </bndbox></object>",
                ["red", "blue"][class as usize]
            );
        }
        place.write(&format!("yolo/labels/{number:02}.txt"), row);
        place.write(&format!("voc/Annotations/{number:02}.xml"), format!("<annotation>{xml}</annotation>"));
    }
    let categories = json!([{ "id": 0, "name": "red" }, { "id": 1, "name": "blue" }]);
    let coco = json!({ "images": images, "annotations": annotations, "categories": categories });
    place.write("coco/marks.json", coco.to_string());
    place.write("yolo/data.yaml", "train: images\nnames: [red, blue]\n");
    place
}

fn number(document: &Value, name: &str) -> f64 {
    document[name].as_f64().unwrap_or_else(|| panic!("{document}"))
}

#[test]
fn boxes_are_learned_from_every_form_and_told_in_pixels() {
    let place = place();
    let ran = place.run(&format!("{TRAIN} --data coco --out coco.edelta")).done();
    assert!(ran.err.contains("replaced: 3 → 2 classes; edges of boxes kept"), "{}", ran.err);
    assert!(ran.err.contains("stretched") && ran.err.contains("5 of them without any"), "{}", ran.err);
    assert!(ran.out.contains("map50"), "{}", ran.out);
    place.run(&format!("{TRAIN} --data yolo --out yolo.edelta")).done();
    assert!(place.read("coco.edelta").len() == place.read("yolo.edelta").len());
    let eval =
        |delta: &str, data: &str| place.run(&format!("eval base.onnx --adapter {delta} --data {data} --json")).json();
    let measured = eval("coco.edelta", "coco");
    assert!(number(&measured, "map50") > 0.8 && number(&measured, "map50_95") > 0.3, "{measured}");
    // Whatever the form, the boxes are the same.
    for data in ["yolo", "voc", "coco/marks.json", "yolo/data.yaml"] {
        let other = eval("coco.edelta", data);
        assert!((number(&other, "map50") - number(&measured, "map50")).abs() < 1e-9, "{data}: {other}");
        assert!((number(&other, "loss") - number(&measured, "loss")).abs() < 1e-4, "{data}: {other}");
    }
    let answers = place.run("predict base.onnx --adapter coco.edelta coco/00.bmp coco/01.bmp --json").json();
    for (place, number) in [(0, 0), (1, 1)] {
        let found = &answers[place]["boxes"][0];
        let [class, left, top, right, bottom] = object(number).unwrap();
        assert_eq!(found["class"], ["red", "blue"][class as usize], "{answers}");
        let near = [left, top, right, bottom].into_iter().zip(found["box"].as_array().unwrap());
        let off = near.map(|(wanted, found)| (f64::from(wanted) - found.as_f64().unwrap()).abs());
        assert!(off.fold(0.0, f64::max) < 5.0, "{answers}");
    }
    let line = place.run("predict base.onnx --adapter coco.edelta coco/00.bmp").done().out;
    assert!(line.contains("00.bmp: red "), "{line}");
    let table = place.run("predict base.onnx --adapter coco.edelta coco --csv").done().out;
    assert!(table.starts_with("input,left,top,right,bottom,class,score\n"), "{table}");
}

#[test]
fn classes_of_the_model_are_kept_and_new_ones_come_behind() {
    let place = place();
    let train = format!("{TRAIN} --data coco --classes green,red,black --out a.edelta");
    let ran = place.run(&train).done();
    assert!(ran.err.contains("kept: 3 classes, and 1 new; edges of boxes kept"), "{}", ran.err);
    let measured = place.run("eval base.onnx --adapter a.edelta --data voc --json").json();
    assert!(number(&measured, "map50") > 0.8, "{measured}");
    let again = "train base.onnx --data coco --from a.edelta --epochs 2 --batch 8 --lr 0.001 --out b.edelta";
    place.run(again).done();
    let after = place.run("eval base.onnx --adapter b.edelta --data coco --json").json();
    assert!(number(&after, "map50") > 0.8, "{after}");
}

/// The values of an adapter's tensor.
fn learned(place: &Place, delta: &str, of: &str) -> Vec<f32> {
    let adapter = Adapter::read(&place.path(delta)).unwrap();
    let tensor = adapter.tensors.iter().find(|(name, shape, _)| name.contains(of) && shape.len() == 4);
    tensor
        .unwrap_or_else(|| panic!("{:?}", adapter.tensors.iter().map(|tensor| &tensor.0).collect::<Vec<_>>()))
        .2
        .clone()
}

#[test]
fn classes_may_learn_alone() {
    let place = place();
    place.run(&format!("{TRAIN} --data coco --out both.edelta")).done();
    let train =
        "train base.onnx --batch 8 --lr 0.002 --val-fraction 0.2 --data coco --from both.edelta --loss box-classes";
    place.run(&format!("{train} --epochs 1 --out one.edelta")).done();
    place.run(&format!("{train} --epochs 3 --out three.edelta")).done();
    let names = Adapter::read(&place.path("both.edelta")).unwrap().tensors;
    let (mut moved, mut stayed) = (0, 0);
    for (name, shape, _) in names.iter().filter(|(_, shape, _)| shape.len() == 4) {
        let [both, one, three] =
            ["both", "one", "three"].map(|delta| learned(&place, &format!("{delta}.edelta"), name));
        let row = (shape[1] * shape[2] * shape[3]) as usize;
        // Scores are the first two rows, or all of them.
        let edges = match shape[0] {
            2 => 2 * row..2 * row,
            22 => 2 * row..22 * row,
            _ => 0..20 * row,
        };
        stayed += edges.len();
        assert!(both[edges.clone()] == one[edges.clone()] && one[edges.clone()] == three[edges], "{name}");
        moved += one.iter().zip(&three).filter(|(one, three)| one != three).count();
    }
    assert!(moved > 0 && stayed == 2 * 20 * 32, "{moved} moved, {stayed} stayed");
    let refused = place.run(&format!("{train} --weight-decay 0.1 --out a.edelta"));
    refused.fails(&["--weight-decay", "box-classes"]);
}

/// YOLOv8's form, whose one output is of decoded boxes; and models that are whole again, also with another number of classes.
#[test]
fn decoded_boxes_are_looked_through_and_a_merged_model_answers_as_its_adapter() {
    let place = place();
    place.write("yolo.onnx", decoding_detector(3));
    for (model, head) in [("yolo", "replaced: 3 → 2 classes"), ("base", "replaced: 3 → 2 classes")] {
        let train = TRAIN.replace("base.onnx", &format!("{model}.onnx"));
        let ran = place.run(&format!("{train} --data coco --out {model}.edelta")).done();
        assert!(ran.err.contains(head), "{}", ran.err);
        let eval = format!("eval {model}.onnx --adapter {model}.edelta --data coco --json");
        let learned = number(&place.run(&eval).json(), "map50");
        assert!(learned > 0.8, "{model}: {learned}");
        place.run(&format!("export --adapter {model}.edelta --model {model}.onnx --to onnx --out merged.onnx")).done();
        let again = "train merged.onnx --data coco --test coco --epochs 1 --lr 1e-9 --allow-idle --out again.edelta --json --force";
        let before = place.run(again).json();
        let known = number(&before["test"]["before"]["figures"], "map50");
        assert!((known - learned).abs() < 0.01, "{model}: {known}, as an adapter {learned}");
    }
    // Factors on layers of all levels: the adapter's tail and the merged model find them again.
    let lora = format!("{TRAIN} --data coco --adapter lora --rank 4 --layers last:6 --out lora.edelta");
    let ran = place.run(&lora).done();
    assert!(ran.err.contains("learns"), "{}", ran.err);
    let learned = number(&place.run("eval base.onnx --adapter lora.edelta --data coco --json").json(), "map50");
    assert!(learned > 0.8, "with factors {learned}");
    place.run("export --adapter lora.edelta --model base.onnx --to onnx --out merged.onnx").done();
    let again =
        "train merged.onnx --data coco --test coco --epochs 1 --lr 1e-9 --allow-idle --out again.edelta --json --force";
    let known = number(&place.run(again).json()["test"]["before"]["figures"], "map50");
    assert!((known - learned).abs() < 0.01, "with factors {known}, as an adapter {learned}");
    let optional = "export --adapter base.edelta --model base.onnx --to onnx-adapter --out optional";
    place.run(optional).fails(&["--to", "a detector's outputs"]);
}

#[test]
fn what_cannot_be_learned_is_refused_with_the_remedy() {
    let place = place();
    place.write("other.onnx", super::models::convolutional(1));
    let refused = |arguments: &str, words: &[&str]| {
        place.run(arguments).fails(words);
    };
    refused("train other.onnx --data coco --loss boxes", &["detector", "scores behind a sigmoid"]);
    refused(&format!("{TRAIN} --data coco --resize 40"), &["--resize", "stretched"]);
    refused("train base.onnx --data coco --solver ridge", &["--solver", "closed form"]);
    refused(&format!("{TRAIN} --data coco --loss cross-entropy"), &["class"]);
    place.write("coco/marks.json", place_with_a_box_outside(&place));
    refused(&format!("{TRAIN} --data coco"), &["marks.json: annotations[0]", "outside"]);
}

fn place_with_a_box_outside(place: &Place) -> String {
    let mut coco: Value = serde_json::from_slice(&place.read("coco/marks.json")).unwrap();
    coco["annotations"][0]["bbox"] = json!([40, 0, 5, 5]);
    coco.to_string()
}
