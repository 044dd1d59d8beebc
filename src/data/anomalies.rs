//! Normal samples, and others to measure by.
//!
//! Takes classes, of which those that are called as normal ones are; gives [`Labels::Anomalies`].

use super::labels::Labels;
use super::{Dataset, Error, Options, ReadingReport, Target, table};
use std::path::Path;

/// What normal samples are called, whatever the letters' case.
const NORMAL: [&str; 9] = ["good", "normal", "ok", "healthy", "nominal", "defect-free", "0", "0.0", "false"];

impl Dataset {
    /// A folder of normal samples without any folder in it, else classes of which some are normal.
    pub(super) fn open_anomalies(path: &Path, options: &Options) -> Result<(Self, ReadingReport), Error> {
        let has_folders =
            || std::fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_dir()));
        let classes = Options { target: Target::Classes, ..options.clone() };
        if path.is_dir() && !has_folders() && table::resolve(path, options.preprocessing.takes_files())?.is_none() {
            let (dataset, report) = Self::open_unlabelled(&[path.into()], &classes)?;
            let labels = Labels::Anomalies(vec![false; dataset.len()]);
            return Ok((Self { labels, ..dataset }, report));
        }
        let (dataset, report) = Self::opened(path, &classes)?;
        let labels = anomalies(dataset.labels).map_err(|problem| Error::content(path, problem))?;
        Ok((Self { labels, ..dataset }, report))
    }
}

/// Labels of classes, of which those that are called normal are normal and all others are not.
///
/// # Errors
/// Labels that are no classes; no class that is called normal.
fn anomalies(labels: Labels) -> Result<Labels, String> {
    let Labels::Classes { names, index } = labels else {
        return Err("normal samples are a folder of files, or classes such as `good` beside those of defects".into());
    };
    let is_normal: Vec<bool> =
        names.iter().map(|name| NORMAL.iter().any(|known| name.eq_ignore_ascii_case(known))).collect();
    if !is_normal.contains(&true) {
        return Err(format!(
            "no class is called as normal samples are ({}), but `{}`; rename the folder or label of the normal ones to `good`",
            NORMAL.join(", "),
            names.first().map_or("", String::as_str)
        ));
    }
    Ok(Labels::Anomalies(index.into_iter().map(|class| !is_normal[class as usize]).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_normal_is() {
        let classes = |names: &[&str], index: &[u32]| Labels::Classes {
            names: names.iter().map(|name| name.to_string()).collect(),
            index: index.to_vec(),
        };
        let found = anomalies(classes(&["crack", "Good", "scratch"], &[1, 0, 2, 1]));
        assert_eq!(found.unwrap(), Labels::Anomalies(vec![false, true, true, false]));
        assert_eq!(anomalies(classes(&["0", "1"], &[1, 0])).unwrap(), Labels::Anomalies(vec![true, false]));
        let refused = anomalies(classes(&["a", "b"], &[0, 1])).unwrap_err();
        assert!(refused.contains("`a`") && refused.contains("`good`"), "{refused}");
        assert!(anomalies(Labels::Unlabelled(1)).is_err());
    }
}
