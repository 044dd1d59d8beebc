//! What the library calls a setting, the command line calls an option: the one place that says which is which.
//!
//! The library's messages name a setting as ``setting `epochs` `` and a setting with a value as ``setting `train = last:2` ``; a
//! person who typed a command reads `--epochs` and `--train last:2`.

/// Settings whose option has another name than the last part of theirs.
const OTHER_NAMES: &[(&str, &str)] =
    &[("adapter.method", "adapter"), ("loss-file", "loss"), ("retention.set", "retention")];

/// How a message names a setting.
const BEFORE: &str = "setting `";
const AFTER: char = '`';

/// A setting's option, as it is typed.
pub fn option(setting: &str) -> String {
    let other = OTHER_NAMES.iter().find(|(name, _)| *name == setting).map(|(_, option)| *option);
    format!("--{}", other.unwrap_or_else(|| setting.rsplit('.').next().unwrap_or(setting)))
}

/// A message with options in the place of settings.
pub fn with_options(message: &str) -> String {
    let mut rest = message;
    let mut told = String::with_capacity(message.len());
    while let Some((before, inside)) = rest.split_once(BEFORE) {
        let Some((named, after)) = inside.split_once(AFTER) else { break };
        told += before;
        match named.split_once(" = ") {
            Some((setting, value)) => told += &format!("{} {value}", option(setting)),
            None => told += &option(named),
        }
        rest = after;
    }
    told + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::recipe::RecipeArgs;
    use crate::recipe::Recipe;
    use clap::{Args, Command};

    #[test]
    fn a_message_names_options_where_the_library_names_settings() {
        for (library, command_line) in [
            ("setting `epochs`: 0 of them", "--epochs: 0 of them"),
            ("add setting `train = auto`, or remove it", "add --train auto, or remove it"),
            ("setting `adapter.method = lora` and setting `adapter.rank`", "--adapter lora and --rank"),
            ("setting `samples.size = 224`", "--size 224"),
            ("the setting `", "the setting `"),
            ("no `epochs` here", "no `epochs` here"),
        ] {
            assert_eq!(with_options(library), command_line);
        }
    }

    /// Every setting that a recipe file may hold, by its name in messages: the keys of its tables.
    fn settings() -> Vec<String> {
        let keys = |text: &str| -> Vec<String> {
            let error = toml::from_str::<Recipe>(text).unwrap_err().to_string();
            let list = error.split_once("expected one of ").expect("serde lists the keys").1;
            list.lines().next().unwrap().split(", ").map(|key| key.trim_matches('`').to_string()).collect()
        };
        let mut all = keys("no-such-key = 1");
        all.retain(|key| {
            !["model", "memory", "retention", "samples", "adapter", "delta", "gates"].contains(&key.as_str())
        });
        for table in ["retention", "samples", "adapter", "delta", "gates"] {
            all.extend(keys(&format!("[{table}]\nno-such-key = 1")).iter().map(|key| format!("{table}.{key}")));
        }
        all
    }

    #[test]
    fn every_setting_of_a_recipe_is_an_option() {
        let command = RecipeArgs::augment_args(Command::new("train"));
        let all = settings();
        assert!(all.len() > 50, "{all:?}");
        for setting in all {
            let name = option(&setting).trim_start_matches("--").to_string();
            let known = |arg: &clap::Arg| {
                arg.get_long() == Some(&name) || arg.get_all_aliases().unwrap_or_default().contains(&name.as_str())
            };
            assert!(command.get_arguments().any(known), "{setting} has no option --{name}");
        }
    }
}
