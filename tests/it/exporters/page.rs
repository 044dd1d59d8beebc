//! `docs/exporters.md`: its tables are what the goldens' files say, beside a sentence that was written for each.

use super::rows::{ROWS, Row};
use crate::engine::runtime;
use edgetune::adapter::Request;
use edgetune::cut::{self, Selection};
use edgetune::grad;
use edgetune::onnx;
use edgetune::train::loss::Loss;
use edgetune::train::prepare::{Base, prepare};
use edgetune::train::step::Again;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders of which every model is in the page.
const FOLDERS: [&str; 5] = ["exporters", "genai", "newest", "quantised", "sklearn"];

pub fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// The models of a row, each as what stands behind the row's name, in order: `_default_1`, or nothing.
fn variants(row: &Row) -> Vec<String> {
    let (folder, name) = row.golden.split_once('/').expect("a folder and a name");
    let mut found: Vec<String> =
        names(folder).iter().filter_map(|file| Some(file.strip_prefix(name)?.to_string())).collect();
    found.retain(|rest| {
        let longer = |other: &&Row| {
            other.golden.len() > row.golden.len() && format!("{}{rest}", row.golden).starts_with(other.golden)
        };
        (rest.is_empty() || rest.starts_with('_')) && !ROWS.iter().any(|other| longer(&other))
    });
    found
}

/// The models of a folder.
pub fn names(folder: &str) -> Vec<String> {
    let files = std::fs::read_dir(goldens().join(folder)).unwrap();
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".onnx")?.to_string())).collect();
    names.sort();
    names
}

/// What a file says: who wrote it, its operator set, what becomes of its batch, and how many layers it has and can learn.
fn facts(path: &Path) -> [String; 4] {
    let file = onnx::read(path).unwrap();
    let base = Base::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let batch = match (&base.baked, &base.stuck) {
        (_, Some(stuck)) => format!("refuses it: {stuck}"),
        (Some(_), None) => "frees the batch".into(),
        (None, None) => "takes any batch".into(),
    };
    let output = edgetune::adapter::output(&base.graph, None).unwrap();
    let layers = cut::layers(&base.graph, output);
    let learns = |layer: &&cut::Layer| {
        !layer.weights.is_empty() && grad::obstacle(&base.graph, output, &layer.weights).is_none()
    };
    let learning = layers.iter().filter(learns).count();
    let layers = match layers.len() {
        0 => "takes a new head".into(),
        1 if learning == 1 => "1 layer learns".into(),
        count if learning == count => format!("{count} layers learn"),
        count => format!("{learning} of {count} layers learn"),
    };
    // A build's number behind the version says nothing of the exporter.
    let words: Vec<&str> = file.producer.split(' ').filter(|word| *word != "None").collect();
    let producer = words.join(" ").split('+').next().unwrap_or_default().to_string();
    [producer, file.graph.opset.to_string(), batch, layers]
}

/// A row of the page.
fn line(row: &Row) -> String {
    let variants = variants(row);
    assert!(!variants.is_empty(), "{}: no golden has that name", row.golden);
    let mut said: [Vec<String>; 4] = Default::default();
    for rest in &variants {
        for (known, fact) in said.iter_mut().zip(facts(&goldens().join(format!("{}{rest}.onnx", row.golden)))) {
            if !known.contains(&fact) {
                known.push(fact);
            }
        }
    }
    let rest: Vec<&str> =
        variants.iter().map(|rest| rest.trim_start_matches('_')).filter(|rest| !rest.is_empty()).collect();
    let name = row.golden.split_once('/').expect("a folder").1;
    let name = if rest.is_empty() { format!("`{name}`") } else { format!("`{name}`: {}", rest.join(", ")) };
    let [producers, opsets, batch, layers] = said.map(|known| known.join(", "));
    let does = if row.does.is_empty() { String::new() } else { format!("; {}", row.does) };
    format!(
        "| {name} | {producers}, opset {opsets} | {} | {batch}; {layers}{does} | {} |\n",
        row.pattern, row.otherwise
    )
}

fn table(folder: &str) -> String {
    let head = "| golden | written by | pattern | what edgetune does | otherwise than one would guess |\n|---|---|---|---|---|\n";
    let rows = ROWS.iter().filter(|row| row.golden.starts_with(&format!("{folder}/")));
    rows.map(line).fold(head.to_string(), |page, line| page + &line)
}

/// `UPDATE=1 cargo test page_of_exporters` writes the tables anew.
#[test]
fn the_page_of_exporters_says_what_the_goldens_say() {
    runtime();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/exporters.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mut made = page.clone();
    for folder in FOLDERS {
        let mark = format!("<!-- goldens of {folder} -->\n");
        let start = made.find(&mark).unwrap_or_else(|| panic!("no table of {folder}")) + mark.len();
        let end = start + made[start..].find("<!-- end -->").expect("an end of the table");
        made = format!("{}{}{}", &made[..start], table(folder), &made[end..]);
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    assert!(page == made, "goldens or what is made of them changed: UPDATE=1 cargo test page_of_exporters");
}

#[test]
fn every_golden_is_in_the_page_once() {
    for folder in FOLDERS {
        let mut left: BTreeSet<String> = names(folder).into_iter().collect();
        for row in ROWS.iter().filter(|row| row.golden.starts_with(&format!("{folder}/"))) {
            let name = row.golden.split_once('/').expect("a folder").1;
            for rest in variants(row) {
                assert!(left.remove(&format!("{name}{rest}")), "{}{rest}: two rows", row.golden);
            }
        }
        assert!(left.is_empty(), "{folder}: no row of `ROWS` has {left:?}");
    }
}

/// What `inspect` says can learn can be trained: from the topmost layer down to the last that a gradient reaches, a step is made.
#[test]
fn what_is_said_to_learn_has_a_step() {
    runtime();
    let mut tried = 0;
    for folder in ["exporters", "families", "newest", "quantised", "sklearn"] {
        for name in names(folder) {
            let base = Base::read(&goldens().join(folder).join(format!("{name}.onnx"))).unwrap();
            let output = edgetune::adapter::output(&base.graph, None).unwrap();
            let layers = cut::layers(&base.graph, output);
            let reached = |layer: &&cut::Layer| {
                layer.weights.is_empty() || grad::obstacle(&base.graph, output, &layer.weights).is_none()
            };
            let count = layers.iter().rev().take_while(reached).count();
            if base.stuck.is_some() || layers.iter().rev().take(count).all(|layer| layer.weights.is_empty()) {
                continue;
            }
            let scratch = tempfile::tempdir().unwrap();
            let selections = [Selection::Last(count)];
            let rank = base.graph.ty(output).and_then(|ty| ty.rank());
            let loss = if rank == Some(3) { Loss::NextToken } else { Loss::MeanSquaredError };
            let request = Request {
                selections: &selections,
                activation: Some(loss.activation()),
                positions: loss.positions(),
                ..Request::default()
            };
            let step =
                prepare(&base, &request, scratch.path()).and_then(|bundle| bundle.step_graph(&loss, Again::Cheap));
            assert!(step.is_ok(), "{folder}/{name}, last:{count}: {}", step.unwrap_err());
            tried += 1;
        }
    }
    assert!(tried > 80, "only {tried} models");
}
