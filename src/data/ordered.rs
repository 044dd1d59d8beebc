//! Classes in an order: as the caller has them, else by the numbers that they are.

use super::labels::{Labels, finite};
use crate::order::Order;

/// Classes shown of many.
const SHOWN: usize = 12;

/// Labels of classes, in their order, with a line that tells it. `given`: whether the classes stand in the order that somebody
/// has said, the lowest first.
///
/// # Errors
/// Classes that are no numbers where nobody has said their order; fewer than two; labels that are no classes.
pub(super) fn ordered(labels: Labels, given: bool) -> Result<(Labels, String), String> {
    let Labels::Classes { names, .. } = &labels else {
        return Err("classes in an order are one class a sample; give each sample a class or a number".into());
    };
    if names.len() < 2 {
        return Err(format!("{} class: an order needs two or more; add samples of another class", names.len()));
    }
    let mut sorted = names.clone();
    if !given {
        if let Some(name) = names.iter().find(|name| finite(name).is_none()) {
            return Err(format!(
                "nothing tells the order of the classes, such as `{name}`, which is no number; name all of them, the lowest first, with \
                 setting `classes` (a list, or a file with a name a line)"
            ));
        }
        sorted.order_by(|one, other| finite(one).unwrap_or_default().total_cmp(&finite(other).unwrap_or_default()));
    }
    let Labels::Classes { names, index } = labels.with_names(sorted) else { unreachable!("classes stay classes") };
    let by = if given { "setting `classes`" } else { "sorted as numbers; setting `classes` says it otherwise" };
    let more = names.len().saturating_sub(SHOWN);
    let mut shown = names[..names.len() - more].join(" < ");
    if more > 0 {
        shown += &format!(" < … ({more} more)");
    }
    Ok((Labels::Ordinal { names, index }, format!("order     {shown} ({by})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(names: &[&str], index: &[u32]) -> Labels {
        Labels::Classes { names: names.iter().map(|name| name.to_string()).collect(), index: index.to_vec() }
    }

    #[test]
    fn numbers_order_themselves_and_names_are_asked_for() {
        let (labels, told) = ordered(classes(&["-1", "10", "2.5"], &[1, 0, 2]), false).unwrap();
        let names = ["-1", "2.5", "10"].map(String::from).to_vec();
        assert_eq!(labels, Labels::Ordinal { names, index: vec![2, 0, 1] });
        assert!(told.starts_with("order     -1 < 2.5 < 10 (sorted as numbers"), "{told}");
        let refused = ordered(classes(&["high", "low"], &[0, 1]), false).unwrap_err();
        assert!(refused.contains("`high`") && refused.contains("setting `classes`"), "{refused}");
        let (labels, told) = ordered(classes(&["low", "high"], &[0, 1]), true).unwrap();
        assert_eq!(labels.names(), ["low", "high"]);
        assert!(told.contains("low < high (setting `classes`)"), "{told}");
        assert!(ordered(classes(&["1"], &[0]), false).unwrap_err().contains("two or more"));
        assert!(ordered(Labels::Unlabelled(2), false).is_err());
    }
}
