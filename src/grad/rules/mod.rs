//! The rule table. One row and one small pure function per operator; families as files.
//!
//! A rule reads like the mathematics in a textbook: `x` inputs, `y` outputs, `dy` their gradients. It never sees the
//! batch as a number, never sums a broadcast back (the walk does), and emits only `ai.onnx` operators of opset 17.

mod elementwise;
mod linear;

use super::{Action, Rule, RuleFn};
use Action::{Flows, Refuses, Stops};
use std::ops::RangeInclusive;

/// A row whose gradients have the inputs' shapes already.
const fn rule(op: &'static str, opsets: RangeInclusive<i64>, action: Action) -> Rule {
    Rule { op, domain: "", opsets, action, broadcasts: None, note: "" }
}

/// A row whose gradients have the broadcast shape; `trailing` dimensions take no part in broadcasting.
const fn broadcast(op: &'static str, opsets: RangeInclusive<i64>, trailing: usize, apply: RuleFn) -> Rule {
    Rule { op, domain: "", opsets, action: Flows(apply), broadcasts: Some(trailing), note: "" }
}

impl Rule {
    /// Adds what a user should know.
    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// Puts the row into another domain than `ai.onnx`.
    const fn of(mut self, domain: &'static str) -> Self {
        self.domain = domain;
        self
    }
}

/// The newest opset that the rules were checked against.
const NEWEST: i64 = 25;

/// All rules, sorted by operator and domain.
pub fn all() -> &'static [Rule] {
    RULES
}

#[rustfmt::skip]
static RULES: &[Rule] = &[
    broadcast("Add",    7..=NEWEST, 0, elementwise::add),
    rule("ArgMax",      1..=NEWEST, Stops),
    rule("Identity",    1..=NEWEST, Flows(elementwise::identity)),
    rule("LSTM",        1..=NEWEST, Refuses("cut above it: train only layers after the LSTM (--train last:1)")),
    broadcast("MatMul", 1..=NEWEST, 2, linear::matmul),
    broadcast("Mul",    7..=NEWEST, 0, elementwise::mul),
    rule("Relu",        6..=NEWEST, Flows(elementwise::relu)),
    rule("Sigmoid",     6..=NEWEST, Flows(elementwise::sigmoid)),
];
