//! How two recipes differ, for somebody who wants to know why a delta does not count.
//!
//! The texts are TOML as edgetune writes it, a setting a line. They come from devices, so that nothing is taken for granted: a text of
//! another kind is compared line by line all the same.

use std::collections::BTreeMap;

/// Settings that are named at most.
const NAMED_MAX: usize = 4;

/// What is other in one recipe than in another, in words that continue "has another"; the second one is what is asked for. Without a text
/// of both there is only to say that they differ.
pub fn difference(one: &str, asked: &str) -> String {
    if one.is_empty() || asked.is_empty() {
        return "recipe".into();
    }
    let (one, asked) = (settings(one), settings(asked));
    let mut names: Vec<&String> = one.keys().chain(asked.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| one.get(*name) != asked.get(*name));
    let told = |name: &&String| {
        let [one, asked] = [&one, &asked].map(|settings| settings.get(*name).map_or("the default", String::as_str));
        format!("`{name}` is {one} instead of {asked}")
    };
    let mut lines: Vec<String> = names.iter().take(NAMED_MAX).map(told).collect();
    if names.len() > NAMED_MAX {
        lines.push(format!("{} more", names.len() - NAMED_MAX));
    }
    format!("recipe ({})", lines.join("; "))
}

/// Each setting with its value, named `table.key`.
fn settings(text: &str) -> BTreeMap<String, String> {
    let mut table = "";
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name;
        } else if let Some((key, value)) = line.split_once('=') {
            let dot = if table.is_empty() { "" } else { "." };
            found.insert(format!("{table}{dot}{}", key.trim()), value.trim().into());
        } else if !line.is_empty() {
            found.insert(line.into(), "there".into());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_differ_are_named_with_both_values() {
        let (one, asked) =
            ("lr = 0.01\n[adapter]\nmethod = \"lora\"\nrank = 4\n", "lr = 0.1\n[adapter]\nmethod = \"lora\"\n");
        assert_eq!(
            difference(one, asked),
            "recipe (`adapter.rank` is 4 instead of the default; `lr` is 0.01 instead of 0.1)"
        );
        assert_eq!(difference(one, ""), "recipe");
        let many: String = (0..9).map(|number| format!("s{number} = {number}\n")).collect();
        assert!(difference(&many, "a = 1").ends_with("; 6 more)"), "{}", difference(&many, "a = 1"));
    }

    #[test]
    fn texts_of_another_kind_are_compared_by_lines() {
        assert_eq!(
            difference("what", "[x"),
            "recipe (`[x` is the default instead of there; `what` is there instead of the default)"
        );
    }
}
