//! The devices, and how one comes in.

use super::LINES;
use super::failure::Failure;
use super::frame::{Part, cell, empty, page, pages, table};
use super::visitor::{Acting, Fields, Visitor, is_secure};
use super::words::{SILENT_MS, count, device_link, health, mark, moment, percent, points};
use crate::fleet::Fleet;
use crate::fleet::api::TOKEN_MS;
use crate::fleet::db::{Device, Reported, Role, Seen, Word};
use crate::sync::wire::is_name;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Html;
use maud::{Markup, html};
use std::sync::Arc;

/// Devices in the order of their names; those whose names contain `name`, behind the device `after`.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    visitor: Visitor,
    asked: Fields,
) -> Result<Html<String>, Failure> {
    let (name, after) = (asked.get("name").trim(), asked.get("after"));
    let devices = fleet.db.devices_named(name, after, LINES).await?;
    let reports = fleet.db.last_reports(&devices).await?;
    let now_ms = fleet.now_ms();
    let seen = fleet.db.devices_seen(now_ms - SILENT_MS).await?;
    let listed = Listed { devices, reports, seen, name, after, now_ms };
    Ok(page(&visitor, Part::Devices, "Devices", markup(&visitor, &listed)))
}

/// What a page of devices shows.
struct Listed<'a> {
    devices: Vec<Device>,
    /// Their last reports, of those that have any.
    reports: Vec<Reported>,
    /// How many there are in all.
    seen: Seen,
    /// What the names of these contain.
    name: &'a str,
    /// The device behind which the page begins.
    after: &'a str,
    now_ms: i64,
}

fn markup(visitor: &Visitor, listed: &Listed<'_>) -> Markup {
    let Listed { devices, reports, seen, name, after, now_ms } = listed;
    let now_ms = *now_ms;
    let next = devices.last().filter(|_| devices.len() as i64 == LINES).map(|last| last.key.clone());
    let heads = ["Name", "State", "Last seen", "Last verdict", "#Accuracy", "#Change", "Enrolled"];
    let last = |device: &Device| reports.iter().find(|report| report.device == device.key);
    let rows = table("Devices by name", heads, devices.iter().map(|device| row(device, last(device), now_ms)));
    let is_new = seen.enrolled + seen.revoked == 0;
    html! {
        h1 { "Devices" }
        @if is_new {
            (empty("No device has enrolled yet.", enrolling(visitor)))
        } @else {
            p {
                (count(seen.enrolled, "device", "devices")) " enrolled, " (seen.lately) " of them seen in the last 7 days, "
                (seen.revoked) " revoked."
            }
            form.row role="search" action="/devices" {
                div {
                    label for="name" { "Name contains" }
                    input #name type="search" name="name" value=(name) maxlength="64";
                }
                button type="submit" { "Search" }
            }
            @if devices.is_empty() {
                (empty("No device of that name.", html! { p { a href="/devices" { "Show all devices" } } }))
            } @else {
                (rows)
                (pages("/devices", &[("name", name)], "after", after, next))
            }
            section aria-labelledby="enrol" { h2 #enrol { "Enrol a device" } (enrolling(visitor)) }
        }
    }
}

fn row(device: &Device, last: Option<&Reported>, now_ms: i64) -> [Markup; 7] {
    let accuracy = last.and_then(|last| last.accuracy);
    let verdict = match last {
        Some(last) => html! { (mark(last.verdict.word())) " version " (last.version) },
        None => html! { span.quiet { "none" } },
    };
    [
        device_link(&device.key, &device.name),
        mark(health(device, last, now_ms)),
        moment(device.last_ms, now_ms),
        verdict,
        cell(percent(accuracy.map(|[_, after]| after))),
        cell(points(accuracy)),
        moment(device.enrolled_ms, now_ms),
    ]
}

/// How a device comes in.
fn enrolling(visitor: &Visitor) -> Markup {
    html! {
        @if visitor.role == Role::Operator {
            p { "A device enrols with a token that is good for one device and one day." }
            form.row method="post" action="/devices/enrol" {
                (visitor.token.field())
                div {
                    label for="for" { "For the device called (empty: any whose name is free)" }
                    input #for name="name" maxlength="64" autocomplete="off";
                }
                button type="submit" { "Make a token for a device" }
            }
        } @else {
            p { "Ask an operator for a token that is good for one device and one day." }
        }
    }
}

/// Makes a one-time token, and shows it this once.
pub(super) async fn enrol(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    Acting { visitor, fields }: Acting,
) -> Result<Html<String>, Failure> {
    let name = fields.get("name").trim();
    if !name.is_empty() && !is_name(name) {
        return Err(Failure::form("The name is over 64 bytes or has control characters; give a plain name."));
    }
    let (token, now_ms) = (fleet.random_name()?, fleet.now_ms());
    fleet.db.add_token(&blake3::hash(token.as_bytes()).to_string(), name, now_ms, now_ms + TOKEN_MS).await?;
    fleet.audit(&visitor.who, "token made", name).await;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("SERVER");
    let is_secure = is_secure(&fleet, &headers);
    let command = enrolment(&format!("{}://{host}", if is_secure { "https" } else { "http" }), &token, is_secure, name);
    let content = html! {
        h1 { "A token for one device" }
        p {
            "It is shown this once, and is good for one day (" (moment(now_ms + TOKEN_MS, now_ms)) ") and "
            @if name.is_empty() { "one device, under a name that no other has." }
            @else { "for " (name) " alone, in place of a device of that name where there is one." }
        }
        p { label for="made" { "Token" } }
        input.secret #made readonly value=(token);
        p { "On the device:" }
        pre tabindex="0" { code { (command) } }
        @if is_secure {
            p {
                code { "tls.crt" } " is the certificate in the server's folder, for the device to trust; leave " code { "--ca" } " out where the \
                 server's is from a public authority."
            }
        }
        p { a href="/devices" { "Done" } }
    };
    Ok(page(&visitor, Part::Devices, "A token for a device", content))
}

/// What enrols a device in its shell: the token goes through a pipe, for other users see what stands on command lines.
fn enrolment(url: &str, token: &str, has_certificate: bool, name: &str) -> String {
    let mut words = vec!["echo", token, "|", "edgetune", "fleet", "enroll", url, "--token-file", "-"];
    if has_certificate {
        words.extend(["--ca", "tls.crt"]);
    }
    let quoted = format!("'{}'", name.replace('\'', "'\\''"));
    if !name.is_empty() {
        words.extend(["--name", &quoted, "--replace"]);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_on_no_command_line() {
        let plain = enrolment("http://fleet.example", "abc", false, "");
        assert_eq!(plain, "echo abc | edgetune fleet enroll http://fleet.example --token-file -");
        let named = enrolment("https://fleet.example", "abc", true, "the hall's");
        assert!(named.ends_with("--token-file - --ca tls.crt --name 'the hall'\\''s' --replace"), "{named}");
    }
}
