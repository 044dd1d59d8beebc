//! A program of somebody else: ten lines outside of the repository, which depend on the crate with photographs and on nothing else.

use super::engine::runtime;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program says, with the places of the project's own model and photographs.
fn program(root: &Path) -> String {
    let model = root.join("models/efficientnet_lite0/model.onnx");
    let (data, photographs) = (root.join("models/cifar10/train"), root.join("models/cifar10/test/frog"));
    let photograph = fs::read_dir(photographs).unwrap().next().unwrap().unwrap().path();
    format!(
        "use edgetune::prelude::*;\n\
         fn main() -> Result<(), edgetune::Error> {{\n\
             let run = Trainer::new({model:?}).data({data:?}).set(|recipe| recipe.per_class = Some(6)).run()?;\n\
             run.save(\"A.edelta\")?;\n\
             let mut predictor = Predictor::open({model:?}, \"A.edelta\")?;\n\
             for (class, share) in predictor.predict({photograph:?})?.top(1) {{\n\
                 println!(\"{{class}} {{share:.2}}\");\n\
             }}\n\
             Ok(())\n\
         }}\n"
    )
}

/// The target folder that this test was built in, and its profile: what is there need not be built again.
fn built() -> (PathBuf, &'static str) {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).expect("target/debug/deps/it");
    let profile = if built.ends_with("release") { "release" } else { "dev" };
    (built.parent().unwrap().into(), profile)
}

#[test]
fn the_library_with_photographs_needs_no_command_line_and_no_network() {
    let ran = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--no-default-features", "--features", "image"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let crates = String::from_utf8_lossy(&ran.stdout);
    let has = |name: &str| crates.lines().any(|line| line.split(' ').next() == Some(name));
    assert!(ran.status.success() && has("image") && has("ort"), "{crates}");
    for name in ["clap", "tokio", "hyper", "tokenizers", "ureq", "rustls"] {
        assert!(!has(name), "{name} is among the crates of the feature `image`");
    }
}

#[test]
fn ten_lines_outside_of_the_repository_train_and_predict() {
    let library = &runtime().path;
    let (target, profile) = built();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = program(root);
    assert_eq!(text.lines().count(), 10);
    let place = tempfile::tempdir().unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    // Built with the same profile, so that the dependencies are those that are there.
    let profiles = &manifest[manifest.find("[profile.release]").unwrap()..];
    // Only compiled quickly: the program computes for a second.
    let quick = "[profile.release.package.edgetune]\nopt-level = 0\n";
    let package = format!(
        "[package]\nname = \"outside\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nedgetune = {{ path = {root:?}, default-features = false, features = [\"image\"] }}\n\n{profiles}\n{quick}"
    );
    fs::create_dir(place.path().join("src")).unwrap();
    fs::write(place.path().join("src/main.rs"), text).unwrap();
    fs::write(place.path().join("Cargo.toml"), package).unwrap();
    fs::copy(root.join("Cargo.lock"), place.path().join("Cargo.lock")).unwrap();
    let ran = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--profile", profile])
        .current_dir(place.path())
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_INCREMENTAL", "0")
        .env("ORT_DYLIB_PATH", library)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{err}");
    assert!(out.starts_with("frog "), "{out}{err}");
    assert!(place.path().join("A.edelta").metadata().unwrap().len() < 64 << 10);
}
