//! Short help (`-h`): the options without a heading, which everyone needs first, with a line each; the others by name under
//! their headings. `--help` explains them all.

use clap::{Arg, Command};

/// Columns of the list of names: narrower than most terminals, so that clap does not break its lines a second time.
const COLUMNS: usize = 80;

/// The program with short help for each of its commands.
pub fn with_short_help(program: Command) -> Command {
    let everywhere: Vec<Arg> = program.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    let name = program.get_name().to_owned();
    shortened(program, &name, &everywhere)
}

fn shortened(command: Command, path: &str, everywhere: &[Arg]) -> Command {
    let long = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let is_root = !path.contains(' ');
    let inherited = everywhere.iter().filter(|_| !is_root);
    let listed = named_by_heading(command.get_arguments().chain(inherited));
    let about = if command.has_subcommands() && !is_root { all_examples(&long) } else { first_example(&long) };
    let short = if listed.is_empty() {
        about
    } else {
        format!("More options, which `{path} --help` explains:\n{listed}\n{about}")
    };
    let command = command.mut_args(adjusted).after_help(short).after_long_help(long);
    command.mut_subcommands(|inner| {
        let path = format!("{path} {}", inner.get_name());
        shortened(inner, &path, everywhere)
    })
}

/// An option under a heading is left to the long help. A number below 0 is a value: what is wrong with it is told by who reads it.
fn adjusted(arg: Arg) -> Arg {
    let takes_value = arg.get_action().takes_values() && !arg.is_allow_hyphen_values_set();
    let arg = if takes_value { arg.allow_negative_numbers(true) } else { arg };
    if arg.get_help_heading().is_some() { arg.hide_short_help(true) } else { arg }
}

/// A line (or more, where the names do not fit one) for each heading, in the order in which the headings first come.
fn named_by_heading<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = vec![];
    for arg in arguments.filter(|arg| !arg.is_hide_set()) {
        let (Some(heading), Some(long)) = (arg.get_help_heading(), arg.get_long()) else { continue };
        let name = format!("--{long}");
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, names)) => names.push(name),
            None => groups.push((heading, vec![name])),
        }
    }
    let width = groups.iter().map(|(heading, _)| heading.len()).max().unwrap_or(0) + 2;
    groups.iter().map(|(heading, names)| hanging(heading, names, width)).collect()
}

/// `heading` and the words after it, whose further lines begin below the first word.
fn hanging(heading: &str, words: &[String], width: usize) -> String {
    let mut text = String::new();
    let mut line = format!("  {heading:<width$}");
    for word in words {
        if line.len() + word.len() > COLUMNS {
            text += &format!("{}\n", line.trim_end());
            line = " ".repeat(width + 2);
        }
        line += &format!("{word} ");
    }
    text + &format!("{}\n", line.trim_end())
}

/// What stands below a command's options up to the first empty line: its examples.
fn all_examples(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().into()
}

/// The first of the examples, in one line.
fn first_example(text: &str) -> String {
    let all = all_examples(text);
    let mut lines = all.lines();
    match (lines.next(), lines.next()) {
        (Some("Examples:" | "Example:"), Some(first)) => format!("Example: {}", first.trim()),
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &'static str, heading: Option<&'static str>) -> Arg {
        Arg::new(name).long(name).help_heading(heading)
    }

    #[test]
    fn what_has_a_heading_is_named_under_it_alone() {
        let train = Command::new("train").args([option("data", None), option("loss", Some("Loss"))]);
        let train = train.arg(option("momentum", Some("Optimiser"))).after_help("Examples:\n  a\n  b\n  c\n\nMore.");
        let json = option("json", Some("Everywhere")).global(true);
        let mut program = with_short_help(Command::new("edgetune").arg(json).subcommand(train));
        let train = program.find_subcommand_mut("train").unwrap();
        let short = train.render_help().to_string();
        let list = "More options, which `edgetune train --help` explains:\n  Loss        --loss\n  Optimiser   --momentum\n  Everywhere  --json\n";
        assert!(short.contains(list) && short.contains("Example: a\n"), "{short}");
        assert!(!short.contains("  b") && !short.contains("More."), "{short}");
        let long = train.render_long_help().to_string();
        assert!(
            long.contains("Loss:\n") && long.ends_with("  c\n\nMore.\n") && !long.contains("More options"),
            "{long}"
        );
    }

    #[test]
    fn many_names_take_several_lines() {
        let names: Vec<String> = (0..12).map(|number| format!("--option-{number:02}")).collect();
        let text = hanging("Loss", &names, 6);
        assert!(text.lines().count() == 2 && text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("        --option"), "{text}");
    }
}
