//! What keeps a device from learning, and when it tries again: pure functions of the history.
//!
//! A training that failed has used up no samples. It is tried again when its cause may have gone: recipe, model or ONNX Runtime have
//! changed, new samples came, a person asked, or a while has passed, which doubles each time.

use crate::agent::record::adapters::Event;

/// Seconds until the same is tried again, doubled each time up to the second.
const WAIT_S: (i64, i64) = (300, 24 * 3600);
/// Equal failures after which a person is needed.
pub const BLOCKED: u64 = 3;

/// What went wrong since the last training that came to a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble<'a> {
    /// The last failure's reason.
    pub reason: &'a str,
    /// Failures with this reason, one after the other.
    pub equal: u64,
    /// Failures in all.
    pub failures: u64,
    /// When the last one was, in seconds since 1970.
    pub at: i64,
    /// Whether nothing was trained: recipe or model cannot be used.
    pub at_check: bool,
    cause: Option<&'a str>,
}

/// What keeps a device from learning, if anything does.
pub fn trouble(history: &[Event]) -> Option<Trouble<'_>> {
    let mut found: Option<Trouble<'_>> = None;
    for event in history.iter().rev() {
        match event {
            Event::Judged { release: None, .. } | Event::Checked { .. } | Event::SetAside { .. } => break,
            Event::Failed { at, samples, reason, release: None, cause } => match &mut found {
                None => {
                    let (cause, at_check) = (cause.as_deref(), *samples == 0);
                    found = Some(Trouble { reason, equal: 1, failures: 1, at: *at, at_check, cause });
                }
                Some(trouble) => {
                    trouble.equal += u64::from(trouble.equal == trouble.failures && trouble.reason == reason);
                    trouble.failures += 1;
                }
            },
            _ => {}
        }
    }
    found
}

impl Trouble<'_> {
    /// When it is tried again whatever happens, in seconds since 1970.
    pub fn retry_unix_s(&self) -> i64 {
        let doublings = (self.failures - 1).min(20) as u32;
        self.at + (WAIT_S.0 << doublings).min(WAIT_S.1)
    }

    /// Whether the failure was with these files (recipe, model, ONNX Runtime), as `cause` sums them up.
    pub fn is_with(&self, cause: &str) -> bool {
        self.cause == Some(cause)
    }

    /// Whether to try again: the files are others, `new` samples that came since are enough, or the while is over. A clock that was set
    /// back keeps nobody waiting.
    pub fn is_over(&self, cause: &str, new: u64, new_min: u64, now_unix_s: i64) -> bool {
        let waits = (self.at..self.retry_unix_s()).contains(&now_unix_s);
        !self.is_with(cause) || (new >= new_min.max(1) && !self.at_check) || !waits
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        let what = if self.at_check { "recipe and model cannot be used" } else { "the last training failed" };
        match self.equal {
            0..BLOCKED => format!("{what}: {}", self.reason),
            times => format!(
                "learning is blocked, the same went wrong {times} times: {}; correct that, then `edgetune agent train`",
                self.reason
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::judge::gate::{Comparison, judge};

    fn failed(at: i64, reason: &str, samples: u64) -> Event {
        Event::Failed { at, samples, reason: reason.into(), release: None, cause: Some("files".into()) }
    }

    fn judged(at: i64) -> Event {
        Event::Judged {
            at,
            adapter: "a".into(),
            against: "b".into(),
            samples: 9,
            verdict: judge(Comparison::default(), Some(0.95)),
            confidence: None,
            promise: None,
            release: None,
            accepted: None,
        }
    }

    #[test]
    fn equal_failures_are_counted_until_something_is_learned() {
        assert_eq!(trouble(&[failed(1, "r", 9), judged(2)]), None);
        let history = [failed(1, "r", 9), judged(2), failed(3, "s", 9), failed(4, "r", 9), failed(5, "r", 9)];
        let found = trouble(&history).unwrap();
        assert_eq!((found.reason, found.equal, found.failures, found.at), ("r", 2, 3, 5));
        assert!(!found.text().contains("blocked"));
        let history = [failed(1, "r", 9), failed(2, "r", 9), failed(3, "r", 9)];
        let text = trouble(&history).unwrap().text();
        assert!(
            text.contains("blocked") && text.contains("3 times: r") && text.contains("edgetune agent train"),
            "{text}"
        );
        assert_eq!(trouble(&[failed(1, "r", 0), Event::Checked { at: 2 }]), None);
    }

    #[test]
    fn it_is_tried_again_when_its_cause_may_have_gone() {
        let history = [failed(1000, "r", 9)];
        let found = trouble(&history).unwrap();
        let over = |cause: &str, new, now| found.is_over(cause, new, 5, now);
        assert!(!over("files", 0, 1001) && !over("files", 4, 1299));
        assert!(over("other files", 0, 1001), "recipe, model or library are others");
        assert!(over("files", 5, 1001), "new samples");
        assert!(over("files", 0, 1300), "a while");
        assert!(over("files", 0, 900), "a clock that was set back");
        let history: Vec<Event> = (0..30).map(|at| failed(at, "r", 9)).collect();
        assert_eq!(trouble(&history).unwrap().retry_unix_s(), 29 + 24 * 3600, "once a day at least");
    }
}
