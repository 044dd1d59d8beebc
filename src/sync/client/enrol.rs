//! How a device comes into a fleet.

use super::line::{Line, Request};
use super::{Client, Error, Folder, Member, Outside};
use crate::sync::wire::{Consent, Enrol, Enrolled, Hex, NAME_BYTES_MAX, Root, is_name};
use std::path::PathBuf;

/// What a device comes in with.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The server's address.
    pub url: String,
    /// The one-time token that an operator has made.
    pub token: String,
    /// What people are to call the device.
    pub name: Name,
    /// Whether it takes the place of a device of that name.
    pub replace: bool,
    /// Whose word counts in the fleet, as it was brought here; none: what the server says.
    pub root: Option<Root>,
    /// PEM of whom the server's certificate must be from; none: one of the public authorities.
    pub ca: Option<String>,
    /// Files of the device's own certificate and its key in PEM.
    pub client_certificate: Option<[PathBuf; 2]>,
}

/// What a device is to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// As somebody wants it.
    Given(String),
    /// As its system is called, and four digits of its key behind it: many systems have one name.
    OfHost(String),
}

impl Name {
    fn for_key(self, key: Hex<32>) -> String {
        let host = match self {
            Self::Given(name) => return name,
            Self::OfHost(host) => host,
        };
        let digits = &key.to_string()[..4];
        let end = (0..=host.len().min(NAME_BYTES_MAX - 5)).rev().find(|end| host.is_char_boundary(*end));
        format!("{}-{digits}", &host[..end.unwrap_or(0)])
    }
}

/// Enrols the device with a new key, made of the 32 bytes that `secret` gives from the system's source of randomness. A device that
/// was a member is a new one then: what it had taken is forgotten (also which releases it has seen, so a fleet that it is enrolled
/// with again may offer it an older one once), what waits to be sent is not.
///
/// # Errors
/// A token that is none; a server that is not to be trusted. The folder is then as it was.
pub fn enrol(
    folder: &Folder,
    invitation: Invitation,
    secret: &dyn Fn() -> Result<[u8; 32], String>,
    outside: Outside<'_>,
) -> Result<Member, Error> {
    let Invitation { url, token, name, replace, root, ca, client_certificate } = invitation;
    let line = Line::new(&url, ca.as_deref(), client_certificate.as_ref())?;
    let url = line.url.clone();
    if let Name::Given(name) = &name
        && !is_name(name)
    {
        return Err(Error::Name { what: format!("setting `name = {name:?}`") });
    }
    let (pending, key) = folder.key_for(&token, secret)?;
    let public = Hex(key.public());
    let name = name.for_key(public);
    if !is_name(&name) {
        return Err(Error::Name { what: format!("setting `name = {name:?}`") });
    }
    // A device that enrols anew is asked for nobody's leave to take its own place.
    let old = if replace { folder.key().ok() } else { None };
    let consent = old.map(|old| Consent::sign(&old, public, &token, &name));
    let mut client = Client::new(line, key, String::new(), outside);
    let enrol = Enrol { token, name: name.clone(), replace, consent };
    let body = serde_json::to_vec(&enrol).map_err(|error| client.odd(error))?;
    let headers = [("content-type", "application/json")];
    let request = Request { method: "POST", target: "/v1/enrol", headers: &headers, body: &body };
    let Enrolled { fleet, key, release_key, root: told, .. } = client.ask_json(&request)?;
    // What is signed has one line for the fleet.
    if key != Hex(client.key.public()) || !is_name(&fleet) {
        return Err(client.odd("the answer is to another device, or names no fleet"));
    }
    let root = rooted(root, told, release_key).map_err(|problem| client.odd(problem))?;
    let member = Member { url, fleet, name, release_key, root, ca, client_certificate };
    folder.join(&member, &client.key, &pending)?;
    Ok(member)
}

/// The root that the device holds: the one that was brought to it, or what the server says where that follows it.
fn rooted(brought: Option<Root>, told: Option<Root>, release_key: Hex<32>) -> Result<Option<Root>, String> {
    let root = match (brought, told) {
        (Some(brought), Some(told)) if told.epoch > brought.epoch => {
            brought.check().and_then(|()| told.follows(&brought)).map(|()| told)
        }
        (Some(root), _) | (None, Some(root)) => root.check().map(|()| root),
        (None, None) => return Ok(None),
    };
    let root = root.map_err(|error| error.to_string())?;
    match root.releases.contains(&release_key) {
        true => Ok(Some(root)),
        false => Err("the server's release key is none that the root names; ask an operator which is right".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_name_has_digits_of_the_key_and_is_a_name() {
        let key = Hex([0xab; 32]);
        let of = |host: &str| Name::OfHost(host.into()).for_key(key);
        assert_eq!(
            (of("raspberrypi"), Name::Given("hall".into()).for_key(key)),
            ("raspberrypi-abab".into(), "hall".into())
        );
        for host in ["x".repeat(64), "é".repeat(32), "é".repeat(64), String::new()] {
            let name = of(&host);
            assert!(is_name(&name) && name.ends_with("-abab"), "{name}");
        }
    }
}
