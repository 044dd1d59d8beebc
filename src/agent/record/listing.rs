//! Samples as a list, piece by piece: by side, label and name, with those that were set aside.
//!
//! Reads the state's folders and changes nothing.

use super::aside::Aside;
use super::folders::{file_name, visible};
use super::inventory::SIDES;
use super::sample_name;
use crate::order::Order;
use serde::Serialize;
use std::io;
use std::path::Path;

/// A sample, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub sample: String,
    /// Its label.
    pub label: String,
    /// `train`, `held-out` or `aside`.
    pub side: &'static str,
    /// Its bytes.
    pub bytes: u64,
    /// Why it was set aside, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which samples are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this label alone.
    pub label: Option<String>,
    /// Of this side alone; `aside` is one here.
    pub side: Option<String>,
    /// Those behind this one: its side, label and name, as [`Listed::place`] writes them.
    pub after: Option<String>,
    /// So many at most.
    pub limit: usize,
}

impl Listed {
    /// Its place in the list, for a list that goes on.
    pub fn place(&self) -> String {
        format!("{}/{}/{}", self.side, self.label, self.sample)
    }
}

/// Samples by side, label and name; also those that were set aside.
///
/// # Errors
/// The system's.
pub fn list(state: &Path, wanted: &Wanted) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    let is_wanted = |listed: &Listed| {
        wanted.label.as_ref().is_none_or(|label| *label == listed.label)
            && wanted.after.as_ref().is_none_or(|after| place_key(&listed.place()) > place_key(after))
    };
    for side in SIDES.into_iter().filter(|side| wanted.side.as_deref().is_none_or(|wanted| wanted == *side)) {
        for class in visible(&state.join("samples").join(side))? {
            let label = file_name(&class);
            for file in visible(&class)? {
                if found.len() >= wanted.limit {
                    return Ok(found);
                }
                let bytes = file.symlink_metadata().map_or(0, |file| file.len());
                let sample = sample_name::text(&sample_name::name_of(&file));
                let listed = Listed { sample, label: label.clone(), side, bytes, reason: None };
                found.extend(Some(listed).filter(&is_wanted));
            }
        }
    }
    if wanted.side.as_deref().is_none_or(|side| side == "aside") {
        let aside = Aside::read(state)?;
        let mut listed: Vec<Listed> = aside
            .latest()
            .into_iter()
            .map(|(name, why)| Listed {
                sample: sample_name::text(&name),
                label: why.label.clone(),
                side: "aside",
                bytes: why.bytes,
                reason: Some(why.reason.clone()),
            })
            .collect();
        listed.order_by_key(Listed::place);
        found.extend(listed.into_iter().filter(&is_wanted));
        found.truncate(wanted.limit);
    }
    Ok(found)
}

/// Sides in the order in which they are listed.
fn place_key(place: &str) -> (usize, &str) {
    let side = place.split('/').next().unwrap_or_default();
    (["train", "held-out", "aside"].iter().position(|known| *known == side).unwrap_or(3), place)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Door, Store};
    use super::*;
    use crate::agent::config::{Kind, Samples};

    #[test]
    fn samples_are_listed_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let (state, store) = (folder.path(), Store::read(folder.path()).unwrap());
        let limits = Samples { kind: Kind::Text, ..Samples::default() };
        let door = Door { limits: &limits, held_out: 0.2, group: None };
        for number in 0..30 {
            store.add(door, ["cat", "dog"][number % 2], number.to_string().as_bytes()).unwrap();
        }
        let first = list(state, &Wanted { limit: 1000, ..Wanted::default() }).unwrap();
        let name = sample_name::parse(&first[3].sample).unwrap();
        store.set_aside(&name, "not finite", 7).unwrap();
        let all = list(state, &Wanted { limit: 1000, ..Wanted::default() }).unwrap();
        assert_eq!((all.len(), all[29].reason.as_deref()), (30, Some("not finite")));
        let (mut pieces, mut after) = (Vec::new(), None);
        loop {
            let piece = list(state, &Wanted { limit: 7, after: after.clone(), ..Wanted::default() }).unwrap();
            let Some(last) = piece.last() else { break };
            after = Some(last.place());
            pieces.extend(piece);
        }
        assert_eq!(pieces, all);
        let of = |label: Option<&str>, side: Option<&str>| {
            let wanted = Wanted { label: label.map(Into::into), side: side.map(Into::into), after: None, limit: 1000 };
            list(state, &wanted).unwrap().len()
        };
        assert_eq!((of(None, Some("aside")), of(Some("cat"), None) + of(Some("dog"), None)), (1, 30));
        assert_eq!(of(None, Some("train")) + of(None, Some("held-out")), 29);
    }
}
