//! What a cell of a table holds where a number is expected. Pure.

/// What stands in a cell of numbers where there is none, as pandas and spreadsheets write it.
pub(super) const EMPTY: [&str; 9] = ["", "nan", "na", "n/a", "#n/a", "null", "none", "-", "?"];

/// A number with a decimal comma, with a point instead.
pub(super) fn with_point(cell: &str) -> Option<String> {
    let cell = cell.trim();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = cell.split_once(',')?;
    let (fraction, exponent) = fraction.split_once(['e', 'E']).unwrap_or((fraction, "0"));
    let whole = whole.trim_start_matches(['+', '-']);
    (digits(whole) && digits(fraction) && digits(exponent.trim_start_matches(['+', '-'])))
        .then(|| cell.replace(',', "."))
}
