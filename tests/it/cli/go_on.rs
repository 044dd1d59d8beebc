//! `train --from` by gradient steps: a training that begins where a delta ends.

use super::Place;
use edgetune::train::artifact::Adapter;

/// A step so small that it is lost in fp16: what comes out is what the training began with.
const STILL: &str = "--lr 1e-12 --allow-idle --weight-decay 0 --epochs 1 --val-fraction 0";

fn tensors(place: &Place, name: &str) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    Adapter::read(&place.path(name)).unwrap().tensors
}

/// Heads, whole tensors and factors; with samples of all classes and of one.
#[test]
fn it_begins_with_the_deltas_values_and_keeps_its_classes() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 8);
    place.photographs("dogs", &["dog"], 8);
    for what in ["--train head", "--train last:2", "--train head --adapter lora --rank 2"] {
        place.run(&format!("train base.onnx --data train {what} --epochs 2 --lr 0.01 --out a.edelta")).done();
        for data in ["train", "dogs"] {
            place.run(&format!("train base.onnx --data {data} --from a.edelta {STILL} --out b.edelta")).done();
            assert_eq!(tensors(&place, "b.edelta"), tensors(&place, "a.edelta"), "{what}, {data}");
            assert_eq!(Adapter::read(&place.path("b.edelta")).unwrap().labels, ["cat", "dog", "ship"]);
        }
        place.run("train base.onnx --data dogs --from a.edelta --val-fraction 0 --lr 0.01 --out b.edelta").done();
        let measured = place.run("eval base.onnx --adapter b.edelta --data dogs --json").json();
        assert!(measured["accuracy"].as_f64().unwrap() > 0.9, "{what}: {measured}");
    }
}

/// A head takes more classes; what a recipe says of what learns, the delta says now.
#[test]
fn a_head_takes_more_classes() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 8);
    place.photographs("more", &["cat", "ship"], 8);
    place.run("train base.onnx --data train --train head --epochs 2 --out a.edelta").done();
    place.write("recipe.toml", "model = \"base.onnx\"\ndata = \"more\"\ntrain = [\"last:2\"]\n");
    place.run(&format!("train recipe.toml --from a.edelta {STILL} --out b.edelta")).done();
    assert_eq!(Adapter::read(&place.path("b.edelta")).unwrap().labels, ["cat", "dog", "ship"]);
    for ((name, old, before), (_, new, after)) in tensors(&place, "a.edelta").iter().zip(&tensors(&place, "b.edelta")) {
        let axis = old.iter().position(|size| *size == 2).unwrap();
        let inner: usize = old[axis + 1..].iter().product::<u64>() as usize;
        assert_eq!(new[axis], 3, "{name}");
        let known = after.chunks(3 * inner).flat_map(|row| &row[..2 * inner]);
        assert!(known.eq(before), "{name}: a known class was changed");
    }
}

#[test]
fn what_does_not_go_on_is_refused() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 4);
    place.photographs("more", &["ship"], 4);
    place.run("train base.onnx --data train --train last:2 --epochs 1 --out a.edelta").done();
    let both = place.run("train base.onnx --data train --from a.edelta --train head");
    assert!(both.code == Some(2) && both.err.contains("cannot be used with '--train"), "{both:?}");
    for (more, parts) in [
        ("--data train --loss huber", ["--loss", "cross-entropy"]),
        ("--data train --solver ridge", ["--from", "imprint or gradient steps"]),
        ("--data more", ["--from", "train anew"]),
    ] {
        place.run(&format!("train base.onnx --from a.edelta --out b.edelta {more}")).fails(&parts);
        assert!(!place.path("b.edelta").exists(), "{more}");
    }
}
