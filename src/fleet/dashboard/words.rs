//! Values as people read them.

use crate::fleet::db::{Device, Place, Reported};
use crate::sync::wire::ReleaseVerdict;
use jiff::Timestamp;
use maud::{Markup, html};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A device that has asked nothing for as long is silent.
pub(super) const SILENT_MS: i64 = 7 * DAY_MS;

/// A moment, as how long ago it is and as what it is (UTC).
pub(super) fn moment(at_ms: i64, now_ms: i64) -> Markup {
    let time = Timestamp::from_millisecond(at_ms).ok().filter(|_| at_ms > 0);
    let Some(time) = time else { return html! { span.quiet { "never" } } };
    html! {
        time datetime=(time.strftime("%Y-%m-%dT%H:%M:%SZ")) {
            (ago(at_ms, now_ms)) " " span.exact { (time.strftime("%Y-%m-%d %H:%M")) }
        }
    }
}

/// How long ago a moment is, in one unit.
fn ago(at_ms: i64, now_ms: i64) -> String {
    let distance_ms = now_ms.saturating_sub(at_ms);
    let length = match distance_ms.saturating_abs() {
        length if length < MINUTE_MS => return "just now".into(),
        length if length < HOUR_MS => format!("{} min", length / MINUTE_MS),
        length if length < 2 * DAY_MS => format!("{} h", length / HOUR_MS),
        length => format!("{} days", length / DAY_MS),
    };
    if distance_ms < 0 { format!("in {length}") } else { format!("{length} ago") }
}

/// A number of bytes in the unit that leaves few digits.
pub(super) fn bytes(count: i64) -> String {
    match count as f64 {
        count if count < 1024.0 => format!("{count} B"),
        count if count < 1024.0 * 1024.0 => format!("{:.1} KiB", count / 1024.0),
        count => format!("{:.1} MiB", count / 1024.0 / 1024.0),
    }
}

/// A part of 1 in percent; a dash where there is none.
pub(super) fn percent(part: Option<f64>) -> String {
    part.map_or("–".into(), |part| format!("{:.1} %", 100.0 * part))
}

/// A change of a part, in percentage points with its sign; a dash where there is none.
pub(super) fn points(accuracy: Option<[f64; 2]>) -> String {
    let Some([before, after]) = accuracy else { return "–".into() };
    let change = 100.0 * (after - before);
    // A hyphen is no minus.
    format!("{}{:.1}", if change < 0.0 { "−" } else { "+" }, change.abs())
}

/// The first digits of a hash or key, all of them where they are looked for.
pub(super) fn short(hash: &str) -> Markup {
    html! { code title=(hash) { (hash.get(..10).unwrap_or(hash)) } }
}

/// A device by its name, with a link to it.
pub(super) fn device_link(key: &str, name: &str) -> Markup {
    html! { a href=(path(&["devices", key])) { (name) } }
}

/// A channel by its name, with a link to it.
pub(super) fn channel_link(name: &str) -> Markup {
    html! { a href=(path(&["channels", name])) { (name) } }
}

/// A number and what is counted.
pub(super) fn count(number: i64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A state or verdict: its word, and a mark whose form and colour say how good that is.
pub(super) fn mark(word: &str) -> Markup {
    let kind = match word {
        "activated" | "accepted" | "healthy" | "open" | "done" => "good",
        "rejected" | "silent" | "closing" | "receiving" | "paused" => "fair",
        "failed" | "refused" | "failing" | "halted" => "bad",
        _ => "plain",
    };
    html! { span class={ "mark " (kind) } { (word) } }
}

/// How a device is, in a word.
pub(super) fn health(device: &Device, last: Option<&Reported>, now_ms: i64) -> &'static str {
    if device.revoked_ms != 0 {
        "revoked"
    } else if last.is_some_and(|last| last.verdict == ReleaseVerdict::Failed) {
        "failing"
    } else if now_ms - device.last_ms > SILENT_MS {
        "silent"
    } else {
        "healthy"
    }
}

/// A path of segments, whatever signs they are made of.
pub(super) fn path(segments: &[&str]) -> String {
    let encoded = |segment: &&str| {
        // What is a blank in a query is a plus in a path.
        let text: String = form_urlencoded::byte_serialize(segment.as_bytes()).collect();
        format!("/{}", text.replace('+', "%20"))
    };
    segments.iter().map(encoded).collect()
}

/// A path and a query; what is empty is left out.
pub(super) fn link(path: &str, query: &[(&str, &str)]) -> String {
    let pairs = query.iter().filter(|(_, value)| !value.is_empty());
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    if text.is_empty() { path.into() } else { format!("{path}?{text}") }
}

/// A place in a list as a text, and back: the first one where the text is none.
pub(super) fn place_text(place: &Place) -> String {
    format!("{}-{}", place.at_ms, place.id)
}

/// See [`place_text`].
pub(super) fn place_of(text: &str) -> Place {
    let place = text.split_once('-').and_then(|(at, id)| Some(Place { at_ms: at.parse().ok()?, id: id.into() }));
    place.unwrap_or_else(Place::first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_one_unit() {
        let told = |distance_ms| ago(10 * DAY_MS, 10 * DAY_MS + distance_ms);
        assert_eq!(
            [0, 59_999, 60_000, 2 * HOUR_MS, 50 * HOUR_MS, -2 * HOUR_MS].map(told),
            ["just now", "just now", "1 min ago", "2 h ago", "2 days ago", "in 2 h"]
        );
        assert!(moment(0, 5).into_string().contains("never"));
        assert!(moment(i64::MAX, 5).into_string().contains("never"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 1023, 1024, 3 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "3.0 MiB"]);
        assert_eq!((percent(Some(0.875)), percent(None)), ("87.5 %".into(), "–".into()));
        assert_eq!([[0.5, 0.75], [0.75, 0.5]].map(|both| points(Some(both))), ["+25.0", "−25.0"]);
    }

    #[test]
    fn addresses_hold_any_name() {
        assert_eq!(path(&["channels", "a/b ?+%<é"]), "/channels/a%2Fb%20%3F%2B%25%3C%C3%A9");
        assert_eq!(link("/audit", &[("who", ""), ("before", "5-a&b")]), "/audit?before=5-a%26b");
        let place = Place { at_ms: 5, id: "a-b/c".into() };
        assert_eq!(place_of(&place_text(&place)), place);
        assert_eq!(place_of("x"), Place::first());
    }
}
