//! What columns of tables are usually called. Plain lists.

/// Usual names, in the order in which they are tried, whatever their case.
pub(super) const LABELS: &[&str] =
    &["label", "labels", "class", "target", "category", "kategorie", "klasse", "classe", "sentiment", "intent", "y"];
pub(super) const TEXTS: &[&str] = &[
    "text",
    "sentence",
    "message",
    "content",
    "review",
    "comment",
    "utterance",
    "tweet",
    "question",
    "document",
    "description",
    "body",
    "nachricht",
    "satz",
    "kommentar",
    "beschreibung",
    "texte",
];
pub(super) const FILES: &[&str] = &[
    "file",
    "image",
    "path",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "image_id",
    "img",
    "picture",
    "photo",
    "datei",
    "dateiname",
    "bild",
    "foto",
];
pub(super) const GROUPS: &[&str] = &[
    "group",
    "groups",
    "group_id",
    "subject",
    "subject_id",
    "participant",
    "participant_id",
    "person_id",
    "patient_id",
    "speaker_id",
    "recording_id",
    "session_id",
];

/// Whether a name is one of the usual ones of columns.
pub(super) fn is_usual(name: &str) -> bool {
    let name = name.trim().to_lowercase();
    [LABELS, TEXTS, FILES, GROUPS].iter().any(|names| names.contains(&name.as_str()))
}
