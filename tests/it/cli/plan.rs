//! `--train auto` through the program: budgets kept, choices told, what does not fit refused.

use super::Place;
use super::kinds::npz;
use super::models::{npy_i64, regrouped};
use serde_json::Value;

fn ready() -> Place {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog", "ship"], 16);
    place
}

const AUTO: &str = "train base.onnx --data train --epochs 3 --out a.edelta --json --train auto";
/// A head that begins with zeros: three epochs leave so much to learn that more than the head is worth trying.
const FROM_ZERO: &str = "--solver steps";

fn rows(report: &Value) -> &Vec<Value> {
    report["plan"]["rows"].as_array().unwrap_or_else(|| panic!("{report}"))
}

fn chosen(report: &Value) -> &Value {
    rows(report).iter().find(|row| row["chosen"] == true).unwrap()
}

#[test]
fn the_measured_memory_stays_within_the_budget() {
    let place = ready();
    let free = place.run(&format!("{AUTO} {FROM_ZERO}")).json();
    let cheapest = rows(&free)[0]["memory_bytes"].as_u64().unwrap();
    let dearest = rows(&free).iter().map(|row| row["memory_bytes"].as_u64().unwrap()).max().unwrap();
    assert!(dearest > cheapest, "{free}");
    let mut gain = f64::NEG_INFINITY;
    for share in [0.05, 0.5, 1.0] {
        let budget = cheapest + ((dearest - cheapest) as f64 * share) as u64 + (1 << 20);
        let report = place.run(&format!("{AUTO} {FROM_ZERO} --budget-memory {budget}B")).json();
        let (measured, row) = (report["peak_private_bytes"].as_u64().unwrap(), chosen(&report));
        assert!(measured as f64 <= budget as f64 * 1.1, "{measured} of {budget}: {row}");
        assert!(row["memory_bytes"].as_u64().unwrap() <= budget);
        // Where nothing but the head fits, no gain is measured.
        let promised = |row: &Value| row["gain"].as_f64().unwrap_or(0.0);
        gain = gain.max(promised(row));
        assert!(promised(row) >= promised(&rows(&report)[0]));
    }
    assert!(gain > 0.0);
}

#[test]
fn the_choice_can_be_made_again_without_a_plan_and_is_no_worse_than_the_head() {
    let place = ready();
    let auto = place.run(&format!("{AUTO} --budget-memory 4GiB")).json();
    let row = chosen(&auto);
    let train: Vec<String> =
        row["train"].as_array().unwrap().iter().map(|text| format!("--train {}", text.as_str().unwrap())).collect();
    let again = place
        .run(&format!(
            "train base.onnx --data train --epochs 3 --out b.edelta --json {} --batch {}",
            train.join(" "),
            row["batch"]
        ))
        .json();
    let head = place.run("train base.onnx --data train --epochs 3 --out h.edelta --json --train head").json();
    let loss = |report: &Value| report["validation"]["after"]["loss"].as_f64().unwrap();
    assert!(loss(&auto) <= loss(&head) + 1e-6, "{} > {}", loss(&auto), loss(&head));
    let accuracy = |report: &Value| report["validation"]["after"]["accuracy"].as_f64().unwrap();
    assert!(accuracy(&auto) >= accuracy(&head), "{} < {}", accuracy(&auto), accuracy(&head));
    // What did not beat the head beyond chance is not in the delta.
    let head_kept = auto["best_epoch"] == 0;
    assert_eq!(auto["trained"], if head_kept { &head } else { &again }["trained"]);
    if head_kept {
        assert_eq!(loss(&auto), loss(&head));
        assert_eq!(place.read("a.edelta").len(), place.read("h.edelta").len());
    }
}

/// What is printed can be typed in the place of `--train auto`, and gives the same delta.
#[test]
fn the_same_without_a_plan_is_the_same() {
    let place = ready();
    let same = |ran: &super::Ran| {
        let line = ran.err.lines().find_map(|line| line.strip_prefix("the same without a plan: ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("{}", ran.err))
    };
    // With steps the head of a plan learns alone before the rest; then the line says so.
    for more in ["", "--epochs 3"] {
        let train = format!("train base.onnx --data train {more}");
        let auto = place.run(&format!("{train} --train auto --out a.edelta")).done();
        let given = same(&auto);
        place.run(&format!("{train} {given} --out b.edelta")).done();
        let values = |delta: &str| place.run(&format!("delta diff {delta} b.edelta --json")).json();
        assert_eq!(values("a.edelta"), values("b.edelta"), "{more}: {given}");
    }
}

#[test]
fn without_validation_only_the_head_is_trained() {
    let place = ready();
    let report = place.run(&format!("{AUTO} --val-fraction 0")).json();
    assert_eq!(chosen(&report)["name"], "head", "{report}");
}

/// With few samples no difference could be told from chance: the head learns from all, and each is left out in turn.
#[test]
fn with_few_samples_only_the_head_is_trained() {
    let place = Place::with_model("mobilenet_folded");
    place.photographs("train", &["cat", "dog"], 8);
    let ran = place.run("train base.onnx --data train --train auto --out a.edelta").done();
    for line in ["too few to validate by", "plan      the head alone", "the same without a plan: --train head\n"] {
        assert!(ran.err.contains(line), "`{line}`: {}", ran.err);
    }
    let steps = place.run("train base.onnx --data train --train last:2 --epochs 1 --out b.edelta").done();
    assert!(steps.err.contains("few       3 validation samples are too few"), "{}", steps.err);
}

/// Planning and training together.
#[test]
fn a_budget_of_time_is_kept() {
    let place = ready();
    let train = "train base.onnx --data train --train auto --out a.edelta";
    let began = std::time::Instant::now();
    place.run(&format!("{train} --epochs 1")).done();
    // What planning alone takes on a busy machine; most of the budget is then left for steps.
    let budget = (3.0 * began.elapsed().as_secs_f64()).max(6.0).ceil();
    let began = std::time::Instant::now();
    let ran = place.run(&format!("{train} --epochs 8000 --budget-time {budget}s --no-cache --force")).done();
    let seconds = began.elapsed().as_secs_f64();
    assert!(seconds < 2.0 * budget, "{seconds} s of {budget}: {}", ran.err);
}

#[test]
fn a_delta_budget_bounds_the_delta() {
    let place = ready();
    let report = place.run(&format!("{AUTO} --budget-delta 12KiB")).json();
    assert!(place.read("a.edelta").len() <= 12 << 10, "{}", chosen(&report));
    assert!(rows(&report).iter().any(|row| row["verdict"] == "too-large-delta"), "{report}");
}

#[test]
fn budgets_that_nothing_fits_are_refused_with_what_would() {
    let place = ready();
    let auto = AUTO.replace(" --json", "");
    place.run(&format!("{auto} --budget-memory 1MiB")).fails(&["--budget-memory", "the head alone", "MiB"]);
    place.run(&format!("{auto} --budget-delta 100B")).fails(&["--budget-delta", "the head alone", "KiB"]);
    place.run(&format!("{auto} --budget-time 0.001s")).fails(&["--budget-time", "the head alone", "--per-class"]);
    place.run(&format!("{auto} --budget-memory 256")).fails(&["--budget-memory `256`", "unit", "256MiB"]);
    let head = auto.replace("auto", "head");
    place.run(&format!("{head} --budget-memory 1MiB")).fails(&["--budget-memory", "--train auto"]);
    assert!(!place.names().contains(&"a.edelta".to_string()));
}

#[test]
fn the_plan_is_a_table() {
    let place = ready();
    let ran = place.run(&format!("{} {FROM_ZERO}", AUTO.replace(" --json", ""))).done();
    for part in [
        "candidate",
        "ms/step",
        "gain",
        "chosen",
        "nearly the same without a plan: --train ",
        " is kept",
        "standard error",
    ] {
        assert!(ran.err.contains(part) || ran.out.contains(part), "`{part}` is not in {}{}", ran.out, ran.err);
    }
}

#[test]
fn a_step_is_timed_with_the_users_own_texts_whose_length_the_model_leaves_open() {
    let place = Place::with_model("encoder_torchscript");
    let ids: Vec<i64> = (0..64 * 6).map(|place| 2 + (place * 7 + place / 6) % 20).collect();
    let labels: Vec<i64> = (0..64).map(|row| row % 2).collect();
    let arrays = [
        ("input_ids", npy_i64(&[64, 6], &ids)),
        ("attention_mask", npy_i64(&[64, 6], &[1; 64 * 6])),
        ("labels", npy_i64(&[64], &labels)),
    ];
    place.write("tokens.npz", npz(&arrays));
    let report = place.run(&AUTO.replace("--data train", "--data tokens.npz")).json();
    assert!(rows(&report).len() > 5, "{report}");
    for row in rows(&report) {
        assert!(row["step_ms"].as_f64().is_some_and(|step_ms| step_ms > 0.0), "{row}");
        assert!(row["gain"].is_number() && row["problem"].is_null(), "{row}");
    }
}

#[test]
fn a_candidate_that_fails_is_a_row_with_its_reason_and_not_the_end() {
    let place = Place::with_table(3, "label", |row| if row[0] > 0.0 { "up".into() } else { "down".into() });
    place.write("base.onnx", regrouped());
    let auto = AUTO.replace("--data train", "--data table.csv");
    let report = place.run(&auto).json();
    let failed: Vec<&Value> = rows(&report).iter().filter(|row| row["verdict"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{report}");
    assert!(failed[0]["name"] == "last:2" && failed[0]["gain"].is_null(), "{report}");
    assert!(failed[0]["problem"].as_str().unwrap().contains("mixes samples"), "{report}");
    assert!(chosen(&report)["name"] != "last:2", "{report}");
    let told = place.run(&auto.replace(" --json", "")).done().err;
    assert!(told.contains("cannot be trained: ") && told.contains("mixes samples"), "{told}");
}
