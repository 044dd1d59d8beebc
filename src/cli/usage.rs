//! What clap says of a value that it cannot read, in words that say what is wrong with it.

use clap::error::{Error, ErrorKind};

/// Ends the process with what is wrong with its arguments, or with the help that they ask for.
pub fn end(error: &Error) -> ! {
    if error.kind() != ErrorKind::ValueValidation {
        error.exit();
    }
    eprint!("{}", plain(&error.render().to_string()));
    std::process::exit(2)
}

fn plain(message: &str) -> String {
    let words = [
        ("is not in 0..=4294967295", "is no whole number of 0 or more"),
        ("invalid float literal", "write a number, such as 0.001"),
        ("invalid digit found in string", "write a whole number, such as 8"),
        ("cannot parse integer from empty string", "write a whole number, such as 8"),
    ];
    let message = words.iter().fold(message.to_owned(), |message, (said, plain)| message.replace(said, plain));
    let Some((before, (first, rest))) =
        message.split_once("is not in ").and_then(|(before, range)| Some((before, range.split_once("..=")?)))
    else {
        return message;
    };
    format!("{before}is not from {first} to {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_numbers_are_told_in_words() {
        let said = |problem: &str| plain(&format!("error: invalid value '-2' for '--epochs <N>': {problem}\n"));
        assert!(said("-2 is not in 0..=4294967295").ends_with(": -2 is no whole number of 0 or more\n"));
        assert!(said("0 is not in 1..=65536").ends_with(": 0 is not from 1 to 65536\n"));
        assert!(said("invalid float literal").ends_with(": write a number, such as 0.001\n"));
        assert!(said("something else").ends_with(": something else\n"));
    }
}
