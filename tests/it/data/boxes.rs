//! Photographs with boxes, in the three forms that people have, and each way in which they can be wrong.

use super::{folder, refusal};
use edgetune::data::{
    Dataset, Grid, ImagePreprocessing, Labels, Object, Options, Picture, Preprocessing, Target, holds_boxes,
};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A photograph in one colour of which no two are alike.
fn bmp(width: u32, height: u32, colour: u8) -> Vec<u8> {
    let row = (width * 3).div_ceil(4) * 4;
    let mut bytes = b"BM".to_vec();
    for number in [54 + row * height, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(vec![colour; (row * height) as usize]);
    bytes
}

fn options() -> Options {
    let image = ImagePreprocessing { resize: 0, ..ImagePreprocessing::new(32, 32) };
    let grid = Grid { input: [32, 32], levels: vec![[4, 4]], bins: 4 };
    let preprocessing = Preprocessing::Image(image);
    Options { preprocessing, target: Target::Boxes, grid: Some(grid), ..Options::default() }
}

const COCO: &str = r#"{"images": [{"id": 7, "file_name": "a.bmp"}, {"id": 3, "file_name": "b.bmp"}],
 "annotations": [{"image_id": 7, "category_id": 2, "bbox": [2, 3, 8, 5]},
  {"image_id": 7, "category_id": 5, "bbox": [-4, 0, 10.0, 40], "iscrowd": 1}],
 "categories": [{"id": 5, "name": "dog", "supercategory": "pets"}, {"id": 2, "name": "cat", "supercategory": "pets"},
  {"id": 1, "name": "pets", "supercategory": "none"}]}"#;
const YAML: &str = "train: images\nval: images\nnc: 2\nnames: [cat, dog]\n";
const XML: &str = "<annotation>\n <filename>a.bmp</filename>\n <object>\n  <name>cat</name>\n  <bndbox><xmin>2</xmin><ymin>3</ymin>\
                   <xmax>10</xmax><ymax>8</ymax></bndbox>\n </object>\n</annotation>\n";

/// The same two photographs, 20 × 16 and 12 × 12 pixels, in a form; `marks` are its files.
fn data(images: &str, marks: &[(&str, &str)]) -> TempDir {
    let root = folder(&[]);
    let put = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(&format!("{images}a.bmp"), &bmp(20, 16, 1));
    put(&format!("{images}b.bmp"), &bmp(12, 12, 2));
    marks.iter().for_each(|(name, text)| put(name, text.as_bytes()));
    root
}

fn opened(path: &Path) -> (Vec<String>, Vec<Picture>, Vec<String>) {
    assert!(holds_boxes(path), "{}", path.display());
    let (dataset, report) = Dataset::open(path, &options()).unwrap();
    assert_eq!(dataset.load(0).unwrap()[0].1.shape, [3, 32, 32]);
    let Labels::Boxes { names, pictures, .. } = dataset.labels().clone() else { panic!() };
    (names, pictures, report.notes)
}

fn cat() -> Object {
    Object { class: 0, corners: [2.0, 3.0, 10.0, 8.0], crowd: false }
}

#[test]
fn boxes_are_the_same_from_every_form() {
    let coco = data("", &[("marks.json", COCO)]);
    let (names, pictures, notes) = opened(coco.path());
    assert_eq!(names, ["cat", "dog"], "by their ids, without the heading");
    let dogs = Object { class: 1, corners: [0.0, 0.0, 6.0, 16.0], crowd: true };
    let expected =
        [Picture { size: [20, 16], objects: vec![cat(), dogs] }, Picture { size: [12, 12], objects: vec![] }];
    assert_eq!(pictures, expected);
    assert!(notes[0].contains("2 in 2 photographs, 1 of them without any"), "{notes:?}");
    assert!(notes[1].contains("1 of the boxes reach beyond") && notes[1].contains("a.bmp"), "{notes:?}");
    assert_eq!(opened(&coco.path().join("marks.json")).1, expected);

    let as_exported = data("train2017/", &[("annotations/instances_train2017.json", COCO)]);
    assert_eq!(opened(&as_exported.path().join("annotations/instances_train2017.json")).1, expected);

    let one = [Picture { size: [20, 16], objects: vec![cat()] }, Picture { size: [12, 12], objects: vec![] }];
    let outline = "0 0.1 0.1875 0.5 0.1875 0.5 0.5 0.3 0.4\n";
    for row in ["0 0.3 0.34375 0.4 0.3125\n\n", outline] {
        let yolo = data("images/", &[("labels/a.txt", row), ("data.yaml", YAML)]);
        for path in ["", "data.yaml", "images"] {
            let (names, pictures, _) = opened(&yolo.path().join(path));
            assert_eq!((names, pictures), (vec!["cat".to_string(), "dog".into()], one.to_vec()), "{path}");
        }
    }
    let parts = data("images/train/", &[("labels/train/a.txt", "1 0.3 0.34375 0.4 0.3125")]);
    assert_eq!(opened(&parts.path().join("images/train")).0, ["0", "1"], "without names, numbers");

    let empty = "<annotation><filename>b.bmp</filename></annotation>";
    let voc = data("JPEGImages/", &[("Annotations/a.xml", XML), ("Annotations/b.xml", empty)]);
    let (names, pictures, _) = opened(voc.path());
    assert_eq!((names, pictures), (vec!["cat".to_string()], one.to_vec()));
    let beside = data("", &[("a.xml", XML), ("b.xml", empty)]);
    assert_eq!(opened(beside.path()).1, one);
}

#[test]
fn classes_are_those_that_are_known() {
    let coco = data("", &[("marks.json", COCO)]);
    let known = |names: &[&str]| {
        let classes = Some(names.iter().map(|name| name.to_string()).collect());
        Options { classes, ..options() }
    };
    let (dataset, _) = Dataset::open(coco.path(), &known(&["bird", "Dog", "cat"])).unwrap();
    let Labels::Boxes { pictures, .. } = dataset.labels() else { panic!() };
    assert_eq!(pictures[0].objects.iter().map(|object| object.class).collect::<Vec<_>>(), [2, 1]);
    let refused = refusal(coco.path(), &known(&["dog", "bird"]));
    assert!(refused.contains("marks.json: annotations[0]: class `cat` is not among"), "{refused}");
}

#[test]
fn what_is_wrong_with_a_file_is_named_with_its_place() {
    let coco = |from: &str, to: &str| {
        assert!(COCO.contains(from), "{from}");
        data("", &[("marks.json", &COCO.replacen(from, to, 1))])
    };
    for (from, to, words) in [
        ("[2, 3, 8, 5]", "[NaN, 3, 8, 5]", &["marks.json:2: ", "column"][..]),
        ("[2, 3, 8, 5]", "[2, 3, 0, 5]", &["annotations[0]: ", "0×5 pixels"]),
        ("[2, 3, 8, 5]", "[25, 3, 8, 5]", &["annotations[0]: ", "outside", "20×16"]),
        ("[2, 3, 8, 5]", "[2, 3, 8]", &["marks.json:2: ", "column"]),
        ("\"category_id\": 2", "\"category_id\": 9", &["annotations[0]: category_id 9", "categories"]),
        ("\"image_id\": 7", "\"image_id\": 8", &["annotations[0]: image_id 8", "images"]),
        ("a.bmp", "gone.bmp", &["images[0].file_name: ", "gone.bmp", "add the photograph"]),
        ("\"id\": 3", "\"id\": 7", &["images[1]: id 7 is there twice"]),
        ("}]}", "}]", &["marks.json:5: "]),
    ] {
        let refused = refusal(coco(from, to).path(), &options());
        assert!(words.iter().all(|word| refused.contains(word)), "{to}: {refused}");
    }
    for (row, words) in [
        ("cat 0.5 0.5 0.1 0.1", &["a.txt:2: `cat` is no class's number"][..]),
        ("2 0.5 0.5 0.1 0.1", &["a.txt:2: class 2 is beyond the 2 names"]),
        ("0 0.5 0.5 x 0.1", &["a.txt:2: `x` is no number"]),
        ("0 0.5 0.5 0.1", &["a.txt:2: 3 numbers behind the class"]),
        ("0 nan 0.5 0.1 0.1", &["a.txt:2: a box with NaN"]),
        ("0 0.5 0.5 0 0.1", &["a.txt:2: a box of 0×"]),
        ("0 1.5 0.5 0.1 0.1", &["a.txt:2: ", "outside"]),
    ] {
        let yolo = data("images/", &[("labels/a.txt", &format!("0 0.5 0.5 0.1 0.1\n{row}\n")), ("data.yaml", YAML)]);
        let refused = refusal(yolo.path(), &options());
        assert!(words.iter().all(|word| refused.contains(word)), "{row}: {refused}");
    }
    let yaml = YAML.replace("[cat, dog]", "\n  0: cat\n  2: dog");
    let yolo = data("images/", &[("labels/a.txt", "0 0.5 0.5 0.1 0.1\n"), ("data.yaml", &yaml)]);
    assert!(refusal(yolo.path(), &options()).contains("data.yaml:6: "));
    for (from, to, words) in [
        ("<xmin>2</xmin>", "<xmin>two</xmin>", &["a.xml:5: <xmin> is `two`"][..]),
        ("<ymax>8</ymax>", "", &["a.xml:5: <bndbox> without <ymax>"]),
        ("<ymax>8</ymax>", "<ymax>3</ymax>", &["a.xml:3: a box of 8×0"]),
        ("  <name>cat</name>\n", "", &["a.xml:3: <object> without <name>"]),
        ("</annotation>", "", &["a.xml:8: no XML element that is closed"]),
        ("<filename>a.bmp", "<filename>c.bmp", &[]),
    ] {
        let text = XML.replacen(from, to, 1);
        let voc = data("JPEGImages/", &[("Annotations/a.xml", &text)]);
        match Dataset::open(voc.path(), &options()) {
            // A renamed photograph is found by the file's own name.
            Ok(_) => assert!(words.is_empty(), "{to}"),
            Err(error) => assert!(words.iter().all(|word| error.to_string().contains(word)), "{to}: {error}"),
        }
    }
    let voc = data("JPEGImages/", &[("Annotations/z.xml", &XML.replace("a.bmp", "y.bmp"))]);
    assert!(refusal(voc.path(), &options()).contains("z.xml: its photograph `y.bmp` is neither"));
    let nothing = data("", &[]);
    assert!(refusal(nothing.path(), &options()).contains("no boxes in a form that is known"));
    assert!(!holds_boxes(nothing.path()) && !holds_boxes(Path::new("/no/such/folder")));
}

#[test]
fn a_damaged_photograph_is_left_out_and_told() {
    let coco = data("", &[("marks.json", COCO)]);
    fs::write(coco.path().join("b.bmp"), &bmp(12, 12, 2)[..60]).unwrap();
    let (dataset, report) = Dataset::open(coco.path(), &options()).unwrap();
    assert_eq!((dataset.len(), report.skipped.len()), (1, 1));
    assert!(report.skipped[0].0.ends_with("b.bmp"), "{report:?}");
}
