//! The rules of `tidy`, each shown files that break it and files that keep it.

use super::*;

fn faults(rule: fn(&File) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&File::new(path, text)).len()
}

#[test]
fn imports_are_seen_however_they_are_written() {
    let breaking = [
        "use crate::train::Loop;",
        "use crate::{graph::{Graph, Val}, train};",
        "use super::super::train::{self};",
        "pub fn f() { crate::train::run() }",
        "use crate::*;",
        "use ::edgetune::train;",
    ];
    for text in breaking {
        assert_eq!(faults(import_faults, "src/grad/walk.rs", text), 1, "{text}");
    }
    let keeping = [
        "use crate::graph::{Graph, build::*};",
        "use super::rules;",
        "// crate::train\nconst A: &str = \"crate::train\";",
        "#[cfg(test)]\nmod tests { use crate::train; }",
        "pub(crate) fn f() {}",
    ];
    for text in keeping {
        assert_eq!(faults(import_faults, "src/grad/walk.rs", text), 0, "{text}");
    }
}

#[test]
fn a_module_without_a_row_and_an_import_deeper_than_allowed_are_faults() {
    assert_eq!(faults(import_faults, "src/brand_new.rs", "//! New."), 1);
    assert_eq!(faults(import_faults, "src/fleet/mod.rs", "use crate::sync::wire::Hello;"), 0);
    assert_eq!(faults(import_faults, "src/fleet/mod.rs", "use crate::sync::client;"), 1);
}

#[test]
fn owners_are_kept() {
    assert_eq!(faults(owner_faults, "src/train/mod.rs", "use ort;"), 1);
    assert_eq!(faults(owner_faults, "src/train/mod.rs", "fn f(s: &ort::session::Session) {}"), 1);
    assert_eq!(faults(owner_faults, "src/engine/session.rs", "use ort::session::Session;"), 0);
    assert_eq!(faults(owner_faults, "src/delta/read.rs", "use bytes::Bytes;"), 1);
    assert_eq!(faults(owner_faults, "src/delta/read.rs", "use core::fmt; use half::f16;"), 0);
}

#[test]
fn the_outside_world_is_recognised() {
    assert_eq!(faults(outside_faults, "src/train/mod.rs", "use std::time::{Duration, Instant};"), 1);
    assert_eq!(faults(outside_faults, "src/train/mod.rs", "use std::{fs, time::Duration};"), 0);
    assert_eq!(faults(outside_faults, "src/cut.rs", "use std::{fs, fmt};"), 1);
    assert_eq!(faults(outside_faults, "src/train/mod.rs", "let a = std::env::var_os(\"A\");"), 1);
    assert_eq!(faults(outside_faults, "src/train/mod.rs", "let a = std::env::consts::ARCH;"), 0);
    assert_eq!(faults(outside_faults, "src/grad/mod.rs", "let a = fastrand::f32();"), 1);
}

#[test]
fn printing_and_unfinished_work_are_recognised() {
    assert_eq!(faults(printing_faults, "src/train/mod.rs", "fn f() { println!(\"a\"); }"), 1);
    assert_eq!(faults(printing_faults, "src/cli/printer.rs", "fn f() { println!(\"a\"); }"), 0);
    assert_eq!(faults(unfinished_faults, "src/cut.rs", "fn f() { todo!() }"), 1);
    assert_eq!(faults(unfinished_faults, "src/cut.rs", concat!("// TO", "DO: later")), 1);
    assert_eq!(faults(unfinished_faults, "src/cut.rs", "let a = r#\"todo!()\"#;"), 0);
}

#[test]
fn unsafe_needs_its_place_and_its_reason() {
    let reason = "// SAFETY: the map outlives it.\nlet a =\n    unsafe { b() };";
    assert_eq!(faults(unsafe_faults, "src/engine/a.rs", reason), 0);
    assert_eq!(faults(unsafe_faults, "src/engine/a.rs", "let a = unsafe { b() };"), 1);
    assert_eq!(faults(unsafe_faults, "src/train/a.rs", reason), 1);
    assert_eq!(faults(unsafe_faults, "src/mapped.rs", reason), 0);
    assert_eq!(faults(unsafe_faults, "src/lib.rs", "#![deny(unsafe_code)]"), 0);
}

#[test]
fn form_is_checked() {
    assert_eq!(faults(form_faults, "src/cut.rs", "//! Stage 2.\n"), 0);
    assert_eq!(faults(form_faults, "src/cut.rs", "use a::b;\n"), 1);
    assert_eq!(faults(form_faults, "src/train/loss_utils.rs", "//! Stage 7.\nmod helpers;\n"), 2);
    assert_eq!(faults(form_faults, "src/cut.rs", &format!("//! Stage 2.\n{}", "\n".repeat(600))), 1);
}

#[test]
fn rows_of_the_rule_table_are_recognised() {
    let table = "rule(\"ArgMax\", 1..=13, Stops),\nbroadcast(\"Add\", 7..=NEWEST, 0, elementwise::add),\n\
                 rule(\"LSTM\", 1..=NEWEST, Refuses(\"cut\")), rule(\"Relu\", 6..=NEWEST, Flows(f(1))), note(\"Relu\")";
    let found = flowing_operators(&File::new("src/grad/rules/mod.rs", table));
    assert_eq!(found, [(2, "Add".to_owned()), (3, "Relu".to_owned())]);
}
