//! Inferred types on disk: kept once, used again, and never trusted where they are not what they should be.

use super::cli::Place;
use super::engine::runtime;
use edgetune::engine::{infer_types, infer_types_in};
use edgetune::graph::{Attr, Builder, DType, Dim, Graph, Tensor, TensorType, Val};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A graph with a symbolic size, one that is only known for given batches, a scalar and integers.
fn graph(width: u64) -> Graph {
    runtime();
    let b = Builder::new(Graph::new("typed", 17), "");
    let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("N".into()), Dim::Fixed(width), Dim::Fixed(2)]));
    let rows: Val<'_> = b.op("Shape", &[x], &[("end", Attr::Int(1))]);
    let shape = b.op("Concat", &[rows, b.ints(&[-1])], &[("axis", Attr::Int(0))]);
    let weight = b.constant(Tensor::from_f32(&[2 * width, 3], &vec![0.5; 6 * width as usize]));
    let y = x.reshape(shape).matmul(weight);
    b.output("y", y);
    b.output("loss", y.sum_all());
    b.finish()
}

fn types(graph: &Graph) -> Vec<(String, Option<TensorType>)> {
    graph.values.iter().map(|value| (value.name.clone(), value.ty.clone())).collect()
}

/// The types that are inferred or read with a folder, and whether they were read.
fn typed_in(folder: &Path, width: u64) -> (Vec<(String, Option<TensorType>)>, bool) {
    let mut graph = graph(width);
    let known = infer_types_in(&mut graph, Some(folder)).unwrap();
    (types(&graph), known)
}

fn inferred(width: u64) -> Vec<(String, Option<TensorType>)> {
    let mut graph = graph(width);
    infer_types(&mut graph).unwrap();
    types(&graph)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_is_read_is_what_was_inferred() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/when/needed");
    let fresh = inferred(4);
    let ty = |name: &str| fresh.iter().find(|(value, _)| value == name).unwrap().1.clone().unwrap();
    assert_eq!(ty("loss").shape.unwrap(), [], "a scalar is told from an unknown rank");
    assert_eq!(ty("y").shape.unwrap(), [Dim::Named("N".into()), Dim::Fixed(3)]);
    assert_eq!(typed_in(&folder, 4), (fresh.clone(), false));
    assert_eq!(typed_in(&folder, 4), (fresh, true));
    assert_eq!(typed_in(&folder, 5), (inferred(5), false), "another graph");
    assert_eq!(files(&folder).len(), 2);
}

#[test]
fn a_damaged_old_or_foreign_file_is_inferred_anew() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let fresh = inferred(4);
    typed_in(folder, 4);
    let path = files(folder).remove(0);
    let whole = fs::read(&path).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    typed_in(elsewhere.path(), 5);
    let foreign = fs::read(&files(elsewhere.path())[0]).unwrap();
    let mut damaged = vec![Vec::new(), whole[..31].to_vec(), whole[..whole.len() - 1].to_vec(), foreign];
    // A name or a size that was changed would still be a list of types.
    for place in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        damaged.push(flipped);
    }
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(typed_in(folder, 4), (fresh.clone(), false), "{} of {} bytes", bytes.len(), whole.len());
        assert_eq!(fs::read(&path).unwrap(), whole, "it is written anew");
    }
    assert_eq!(typed_in(folder, 4), (fresh, true));
}

#[test]
fn many_at_once_find_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = inferred(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..4).for_each(|_| assert_eq!(typed_in(folder.path(), 4).0, fresh)));
        }
    });
    assert_eq!(files(folder.path()).len(), 1, "one file and no temporary one");
    assert!(typed_in(folder.path(), 4).1);
}

#[test]
fn a_folder_that_cannot_be_made_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(typed_in(&file.join("types"), 4), (inferred(4), false));
}

#[test]
fn old_files_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.types");
    fs::write(&large, vec![0; 16 << 20]).unwrap();
    typed_in(folder.path(), 4);
    assert!(!large.exists(), "what is kept is bounded");
    assert_eq!(files(folder.path()).len(), 1);
}

/// Two programs that begin with an empty cache, and one that finds all of it, write the same delta.
#[test]
fn a_warm_start_gives_the_same_bytes_as_two_cold_ones_at_once() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 4);
    let command =
        |out: &str| place.command(&format!("train base.onnx --data train --train last:2 --epochs 1 --out {out}"));
    let both: Vec<_> = ["a.edelta", "b.edelta"]
        .iter()
        .map(|out| command(out).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    let kept = files(&place.path("home/.cache/edgetune/types"));
    assert!(kept.len() >= 4, "the base, the tail, the step graph and what the estimate binds: {kept:?}");
    assert!(kept.iter().all(|path| path.extension().is_some_and(|extension| extension == "types")), "{kept:?}");
    let warm = place
        .run_with("EDGETUNE_LOG", "debug", "train base.onnx --data train --train last:2 --epochs 1 --out c.edelta")
        .done();
    assert!(!warm.err.contains("inferred the types"), "{}", warm.err);
    assert_eq!(files(&place.path("home/.cache/edgetune/types")), kept);
    assert_eq!(place.read("a.edelta"), place.read("b.edelta"));
    assert_eq!(place.read("a.edelta"), place.read("c.edelta"));
}
