//! What became of a release on this device, for those who decide whether others get it.

use super::line::Request;
use super::{Client, Error, Queue};
use crate::sync::wire::ReleaseReport;

/// Keeps a report for [`deliver_reports`].
///
/// # Errors
/// A channel that can be none; a file that cannot be written.
pub fn keep_report(reports: &Queue, report: &ReleaseReport) -> Result<(), Error> {
    let bytes = serde_json::to_vec(report).map_err(|error| Error::file(&reports.folder, error))?;
    reports.put(&report.channel, &bytes)
}

/// Tells the server all that waits, in the order of the channels' names. What it was told, or will never hear, such as of a release
/// that it does not know, waits no longer; where it is not reached, the rest stays.
///
/// # Errors
/// Each report's own; one for all if the queue cannot be read.
pub fn deliver_reports(
    client: &mut Client<'_>,
    reports: &Queue,
    told: &mut dyn FnMut(&str, Result<(), Error>),
) -> Result<(), Error> {
    for waiting in reports.list()? {
        let channel = waiting.channel;
        let Some(body) = reports.get(&channel)? else { continue };
        let headers = [("content-type", "application/json")];
        let request = Request { method: "POST", target: "/v1/reports", headers: &headers, body: &body };
        let done = client.ask(&request).map(drop);
        let is_settled = done.as_ref().map_or_else(Error::is_final, |()| true);
        let is_offline = done.as_ref().is_err_and(Error::is_temporary);
        if is_settled {
            reports.remove(&channel, &body)?;
        }
        told(&channel, done);
        if is_offline {
            break;
        }
    }
    Ok(())
}
