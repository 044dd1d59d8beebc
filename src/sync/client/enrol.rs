//! How a device comes into a fleet.

use super::line::{Line, Request};
use super::{Client, Error, Folder, Member, Outside};
use crate::sync::wire::{Enrol, Enrolled, Hex, is_name};
use std::path::PathBuf;

/// What a device comes in with.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The server's address.
    pub url: String,
    /// The one-time token that an operator has made.
    pub token: String,
    /// What people are to call the device.
    pub name: String,
    /// PEM of whom the server's certificate must be from; none: one of the public authorities.
    pub ca: Option<String>,
    /// Files of the device's own certificate and its key in PEM.
    pub client_certificate: Option<[PathBuf; 2]>,
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
    let Invitation { url, token, name, ca, client_certificate } = invitation;
    if !is_name(&name) {
        return Err(Error::Name { what: format!("--name {name:?}") });
    }
    let line = Line::new(&url, ca.as_deref(), client_certificate.as_ref())?;
    let url = line.url.clone();
    let (pending, key) = folder.key_for(&token, secret)?;
    let mut client = Client::new(line, key, String::new(), outside);
    let body = serde_json::to_vec(&Enrol { token, name: name.clone() }).map_err(|error| client.odd(error))?;
    let headers = [("content-type", "application/json")];
    let request = Request { method: "POST", target: "/v1/enrol", headers: &headers, body: &body };
    let Enrolled { fleet, key, release_key, .. } = client.ask_json(&request)?;
    // What is signed has one line for the fleet.
    if key != Hex(client.key.public()) || !is_name(&fleet) {
        return Err(client.odd("the answer is to another device, or names no fleet"));
    }
    let member = Member { url, fleet, name, release_key, ca, client_certificate };
    folder.join(&member, &client.key, &pending)?;
    Ok(member)
}
