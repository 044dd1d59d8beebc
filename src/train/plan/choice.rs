//! Which candidate fits, and which of those is chosen: plain numbers in, plain numbers out.

use crate::order::Order;
use serde::Serialize;

/// What a run may take; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budgets {
    /// Private memory of the process.
    pub memory_bytes: Option<u64>,
    /// Seconds from the start of the process to the end of training.
    pub time_s: Option<f64>,
    /// Bytes of the delta.
    pub delta_bytes: Option<u64>,
}

/// Whether a candidate fits, else the first budget that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BudgetVerdict {
    /// It fits.
    Fits,
    /// More private memory than allowed.
    TooMuchMemory,
    /// It would take too long.
    TooSlow,
    /// The delta would be too large.
    TooLargeDelta,
    /// It cannot be trained; [`Row::problem`] says why.
    Failed,
}

/// A line of the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The candidate's short name.
    pub name: String,
    /// The setting `train`, each of its values: what makes the same choice without a plan.
    pub train: Vec<String>,
    /// Learned values.
    pub parameters: u64,
    /// Estimated size of the delta.
    pub delta_bytes: u64,
    /// Samples in one run of the step graph.
    pub batch: u32,
    /// Estimated peak of private memory; null where it failed before that.
    pub memory_bytes: Option<u64>,
    /// Measured milliseconds of one run of the step graph; null where memory or delta rule it out.
    pub step_ms: Option<f64>,
    /// Estimated seconds of the run from here.
    pub run_s: Option<f64>,
    /// Decrease of the loss that one step promises.
    pub gain: Option<f64>,
    /// Whether it fits.
    pub verdict: BudgetVerdict,
    /// Why it cannot be trained, where it failed.
    pub problem: Option<String>,
    /// Whether it was chosen.
    pub chosen: bool,
}

impl Row {
    /// Rules the row out for good.
    pub fn fail(&mut self, problem: String) {
        (self.verdict, self.problem) = (BudgetVerdict::Failed, Some(problem));
    }

    /// Whether it is the head alone.
    pub fn is_head(&self) -> bool {
        self.train == ["head"]
    }

    /// Whether it could be trained in the memory and the time that there are.
    pub fn may_run(&self) -> bool {
        matches!(self.verdict, BudgetVerdict::Fits | BudgetVerdict::TooLargeDelta)
    }

    /// Whether the row fits, as far as its numbers are known. `elapsed_s` is what has passed already.
    pub fn judge(&self, budgets: &Budgets, elapsed_s: f64) -> BudgetVerdict {
        if budgets.memory_bytes.is_some_and(|budget| self.memory_bytes > Some(budget)) {
            return BudgetVerdict::TooMuchMemory;
        }
        if budgets.delta_bytes.is_some_and(|budget| self.delta_bytes > budget) {
            return BudgetVerdict::TooLargeDelta;
        }
        match (budgets.time_s, self.run_s) {
            (Some(budget), Some(run_s)) if elapsed_s + run_s > budget => BudgetVerdict::TooSlow,
            _ => BudgetVerdict::Fits,
        }
    }
}

/// What a row has to promise beyond the first one, which is the head, to be chosen: a share of the most that any fitting row promises.
/// The deepest layers often promise a little more and cost many times as much, and a gain is an estimate from one step.
const ENOUGH: f64 = 0.5;

/// The first fitting row that promises enough; rows are ordered from the cheapest.
pub fn best(rows: &[Row]) -> Option<usize> {
    let gain = |row: &Row| row.gain.unwrap_or(0.0);
    let beyond = |index: &usize| gain(&rows[*index]) - gain(&rows[0]).max(0.0);
    let fitting = || (0..rows.len()).filter(|index| rows[*index].verdict == BudgetVerdict::Fits);
    let most = fitting().map(|index| beyond(&index)).fold(f64::NEG_INFINITY, f64::max);
    fitting().find(|index| most <= 0.0 || beyond(index) >= ENOUGH * most)
}

/// Tensors that fit into `budget_bytes` of delta, by the most gain a byte, among those with a gain; those in `always` are in.
/// Each tensor is its bytes and its gain; the answer is in the order of `tensors`.
pub fn within_delta(tensors: &[(u64, f64)], always: &[bool], budget_bytes: u64) -> Vec<bool> {
    let mut taken = always.to_vec();
    let mut left = budget_bytes.saturating_sub(tensors.iter().zip(always).filter(|(_, a)| **a).map(|(t, _)| t.0).sum());
    let mut order: Vec<usize> = (0..tensors.len()).filter(|index| !taken[*index] && tensors[*index].1 > 0.0).collect();
    let density = |index: usize| tensors[index].1 / tensors[index].0.max(1) as f64;
    order.order_by(|a, b| density(*b).total_cmp(&density(*a)));
    for index in order {
        if tensors[index].0 <= left {
            left -= tensors[index].0;
            taken[index] = true;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(memory_bytes: u64, delta_bytes: u64, run_s: f64, gain: f64) -> Row {
        let (name, train, verdict) = (String::new(), Vec::new(), BudgetVerdict::Fits);
        let (step_ms, run_s, gain) = (Some(1.0), Some(run_s), Some(gain));
        Row {
            name,
            train,
            parameters: 1,
            delta_bytes,
            batch: 32,
            memory_bytes: Some(memory_bytes),
            step_ms,
            run_s,
            gain,
            verdict,
            problem: None,
            chosen: false,
        }
    }

    fn chosen(rows: &[Row], budgets: &Budgets) -> Option<usize> {
        let judged: Vec<Row> = rows.iter().map(|row| Row { verdict: row.judge(budgets, 0.0), ..row.clone() }).collect();
        best(&judged)
    }

    #[test]
    fn the_first_broken_budget_is_named() {
        let budgets = Budgets { memory_bytes: Some(10), time_s: Some(5.0), delta_bytes: Some(3) };
        assert_eq!(row(10, 3, 5.0, 1.0).judge(&budgets, 0.0), BudgetVerdict::Fits);
        assert_eq!(row(11, 4, 6.0, 1.0).judge(&budgets, 0.0), BudgetVerdict::TooMuchMemory);
        assert_eq!(row(10, 4, 6.0, 1.0).judge(&budgets, 0.0), BudgetVerdict::TooLargeDelta);
        assert_eq!(row(10, 3, 5.0, 1.0).judge(&budgets, 0.1), BudgetVerdict::TooSlow);
        assert_eq!(row(99, 99, 99.0, 1.0).judge(&Budgets::default(), 1e9), BudgetVerdict::Fits);
    }

    #[test]
    fn equal_promises_take_the_cheaper() {
        assert_eq!(
            chosen(&[row(1, 1, 1.0, 0.1), row(2, 2, 2.0, 0.6), row(3, 3, 99.0, 1.0)], &Budgets::default()),
            Some(1)
        );
        assert_eq!(chosen(&[row(1, 1, 1.0, -0.5), row(2, 2, 2.0, -0.1)], &Budgets::default()), Some(0));
        assert_eq!(chosen(&[row(1, 1, 1.0, 0.5), row(2, 2, 2.0, 0.5)], &Budgets::default()), Some(0));
        assert_eq!(chosen(&[], &Budgets::default()), None);
    }

    #[test]
    fn what_failed_is_never_chosen() {
        let mut rows = [row(1, 1, 1.0, 0.1), row(2, 2, 2.0, 0.5)];
        rows[1].fail("no gradient".into());
        assert_eq!(best(&rows), Some(0));
        assert!(!rows[1].may_run());
    }

    #[test]
    fn a_delta_takes_what_gains_most_a_byte() {
        let tensors = [(100, 1.0), (10, 0.5), (10, 0.4), (50, -1.0)];
        assert_eq!(within_delta(&tensors, &[false; 4], 119), [false, true, true, false]);
        assert_eq!(within_delta(&tensors, &[false; 4], 20), [false, true, true, false]);
        assert_eq!(within_delta(&tensors, &[false, false, false, true], 60), [false, true, false, true]);
    }

    proptest! {
        #[test]
        fn a_larger_budget_never_promises_much_less(
            numbers in prop::collection::vec((0u64..1000, 0u64..1000, 0.0f64..100.0, -1.0f64..1.0), 1..20),
            small in 0u64..1000,
            more in 0u64..1000,
        ) {
            let rows: Vec<Row> = numbers.iter().map(|(m, d, t, g)| row(*m, *d, *t, *g)).collect();
            let head = rows[0].gain.unwrap().max(0.0);
            let gain = |memory_bytes| {
                let budgets = Budgets { memory_bytes: Some(memory_bytes), ..Budgets::default() };
                chosen(&rows, &budgets).map(|index| rows[index].gain.unwrap() - head)
            };
            if let Some(promised) = gain(small).filter(|promised| *promised > 0.0) {
                prop_assert!(gain(small + more).unwrap() >= ENOUGH * promised);
            }
        }
    }
}
