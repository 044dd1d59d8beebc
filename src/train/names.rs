//! Names in graphs that several files agree on: a step's input and output, and the caches of a language model.

/// Name of the labels' input.
pub const LABELS: &str = "edgetune.labels";
/// Name of the loss's output, a scalar.
pub const LOSS: &str = "edgetune.loss";

/// Whether an output holds after a run what the input held before it: `present.0.key` for `past_key_values.0.key`.
pub(super) fn is_present_of(output: &str, input: &str) -> bool {
    let bare = |name: &str, word: &str| {
        let rest = name.strip_prefix(word)?;
        Some(rest.strip_prefix("_key_values").unwrap_or(rest).to_string())
    };
    bare(output, "present").is_some_and(|rest| bare(input, "past").is_some_and(|past| past == rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasts_find_their_presents() {
        for (output, input) in [
            ("present.0.key", "past_key_values.0.key"),
            ("present_1", "past_1"),
            ("present_key_values.1.value", "past_key_values.1.value"),
        ] {
            assert!(is_present_of(output, input), "{output} {input}");
        }
        for (output, input) in
            [("present.1.key", "past_key_values.0.key"), ("logits", "past_1"), ("present.0.key", "input_ids")]
        {
            assert!(!is_present_of(output, input), "{output} {input}");
        }
    }
}
