//! What became of a release on this device, for those who decide whether others get it.

use super::line::Request;
use super::{Client, Error};
use crate::sync::wire::Report;

/// Tells the server.
///
/// # Errors
/// A server that is not reached or refuses: 404 for a release that it does not know.
pub fn report(client: &mut Client<'_>, report: &Report) -> Result<(), Error> {
    let body = serde_json::to_vec(report).map_err(|error| client.odd(error))?;
    let headers = [("content-type", "application/json")];
    client.ask(&Request { method: "POST", target: "/v1/reports", headers: &headers, body: &body })?;
    Ok(())
}
