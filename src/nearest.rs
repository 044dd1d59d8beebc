//! What a mistyped name was probably meant to be.
//!
//! Takes what was given and the names that there are; gives one of them or a sentence. Never decides anything: a suggestion is
//! printed, not followed.

/// How alike two names must be: one letter of four may differ, or two of ten.
const ALIKE: f64 = 0.8;

/// The known name that is most like the given one, if one is alike at all.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let given = plain(given);
    let scored = known.into_iter().map(|name| (strsim::jaro(&given, &plain(name)), name));
    let alike = scored.filter(|(score, _)| *score >= ALIKE);
    // The first of the best: `max_by` would take the last.
    alike.reduce(|best, other| if other.0 > best.0 { other } else { best }).map(|(_, name)| name)
}

/// `; did you mean …?` for the nearest known name, else nothing.
pub fn suggestion<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, known).map_or(String::new(), |name| format!("; did you mean `{name}`?"))
}

/// The key (or the choice) that serde does not know, out of its message: what was given, and a sentence with the nearest known one.
pub fn unknown(message: &str) -> Option<(&str, String)> {
    let what = ["field", "variant"].iter().find(|what| message.contains(&format!("unknown {what} `")))?;
    let (_, rest) = message.split_once(&format!("unknown {what} `"))?;
    let (given, rest) = rest.split_once('`')?;
    let word = if *what == "field" { "unknown key" } else { "unknown value" };
    let known = || rest.split('`').skip(1).step_by(2);
    let hint = match nearest(given, known()) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => format!("; possible here: {}", known().collect::<Vec<_>>().join(", ")),
    };
    Some((given, format!("{word} `{given}`{hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_found_and_another_word_is_not() {
        let keys = ["epochs", "batch", "val-fraction", "learning-rate", "classifier.weight"];
        for (given, meant) in [
            ("epoch", "epochs"),
            ("Batch", "batch"),
            ("val_fraction", "val-fraction"),
            ("val-fracton", "val-fraction"),
            ("classifer.weight", "classifier.weight"),
        ] {
            assert_eq!(nearest(given, keys), Some(meant));
        }
        assert_eq!(nearest("optimizer", keys), None);
        assert_eq!(suggestion("epoch", keys), "; did you mean `epochs`?");
        assert_eq!(suggestion("zebra", keys), "");
    }

    #[test]
    fn serdes_message_becomes_a_sentence() {
        let told = |message: &str| unknown(message).map(|(_, told)| told);
        let message = "unknown field `epoch`, expected one of `model`, `epochs`, `batch`";
        assert_eq!(told(message).unwrap(), "unknown key `epoch`; did you mean `epochs`?");
        let message = "unknown variant `hinge`, expected one of `cross-entropy`, `huber`";
        assert_eq!(told(message).unwrap(), "unknown value `hinge`; possible here: cross-entropy, huber");
        assert_eq!(told("invalid type: string \"three\", expected u32"), None);
    }
}
