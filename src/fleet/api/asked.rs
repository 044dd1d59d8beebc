//! Who asks: a device by its signature, an operator by the token. What is extracted here has passed.

use super::{Answer, Problem};
use crate::fleet::Fleet;
use crate::fleet::limit::Source;
use crate::sync::wire::{Hex, Refused, Signed, TimeRefused, admit};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The address that a request comes from.
pub(in crate::fleet) struct Peer(pub IpAddr);

impl Peer {
    /// The address that a request has come from: the connection's, or what proxies that are trusted say, each of the one before it.
    pub(in crate::fleet) fn from_request(parts: &Parts, fleet: &Fleet) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(address)| address.ip().to_canonical());
        Self(origin(peer, &parts.headers, &fleet.current().proxies))
    }
}

/// Where a request that `peer` hands on comes from. What stands behind the first address that no trusted proxy has, anybody can write.
fn origin(peer: IpAddr, headers: &HeaderMap, proxies: &[IpAddr]) -> IpAddr {
    let mut origin = peer;
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    while proxies.contains(&origin) {
        let Some(Ok(before)) = hops.next().map(|hop| hop.trim().parse::<IpAddr>()) else { break };
        origin = before.to_canonical();
    }
    origin
}

impl FromRequestParts<Arc<Fleet>> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, fleet: &Arc<Fleet>) -> Result<Self, Infallible> {
        Ok(Self::from_request(parts, fleet))
    }
}

/// A request that an enrolled device has signed, its body at most `BYTES_MAX` long.
pub(super) struct Device<const BYTES_MAX: usize> {
    /// Its public key.
    pub key: Hex<32>,
    /// What was sent.
    pub body: Bytes,
}

/// A request that brings the key that it is signed by.
pub(super) struct Stranger<const BYTES_MAX: usize> {
    pub signed: Signed,
    pub body: Bytes,
}

/// A request of an operator.
pub(super) struct Operator;

impl<const BYTES_MAX: usize> FromRequest<Arc<Fleet>> for Device<BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, fleet: &Arc<Fleet>) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        let Peer(address) = Peer::from_request(&parts, fleet);
        let asked = async {
            announced(&parts.headers, BYTES_MAX)?;
            let signed = signature(&parts, &fleet.name)?;
            fleet.devices.take(Source::Device(signed.key.0), Instant::now()).map_err(Problem::too_many)?;
            counted(fleet, &signed).await?;
            // It is the device's request, not one of all that share its address.
            fleet.limiter.give_back(Source::from_address(address));
            read(body, &parts.headers, &signed, BYTES_MAX).await.map(|body| Self { key: signed.key, body })
        };
        asked.await.logged(fleet, address, &parts).await
    }
}

impl<const BYTES_MAX: usize> FromRequest<Arc<Fleet>> for Stranger<BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, fleet: &Arc<Fleet>) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        let Peer(address) = Peer::from_request(&parts, fleet);
        let asked = async {
            announced(&parts.headers, BYTES_MAX)?;
            let signed = signature(&parts, "")?;
            let now_ms = fleet.now_ms() as u64;
            admit(signed.time_ms, 0, now_ms).map_err(refused)?;
            read(body, &parts.headers, &signed, BYTES_MAX).await.map(|body| Self { signed, body })
        };
        asked.await.logged(fleet, address, &parts).await
    }
}

impl FromRequestParts<Arc<Fleet>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, fleet: &Arc<Fleet>) -> Answer<Self> {
        let Peer(address) = Peer::from_request(parts, fleet);
        let token =
            parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        // Comparing hashes takes as long whatever is equal.
        let is_operator = token.is_some_and(|token| blake3::hash(token.as_bytes()) == fleet.current().operator);
        let detail = "this is for operators; send the text of `operator.token` as `authorization: Bearer …`";
        let asked = is_operator.then_some(Self).ok_or_else(|| Problem::identity(detail));
        asked.logged(fleet, address, parts).await
    }
}

/// Refusals go to the audit log before they are told.
trait Logged {
    async fn logged(self, fleet: &Fleet, address: IpAddr, parts: &Parts) -> Self;
}

impl<T> Logged for Answer<T> {
    async fn logged(self, fleet: &Fleet, address: IpAddr, parts: &Parts) -> Self {
        if let Err(problem) = &self {
            // The path is somebody's text; it is bounded, and shown as a text wherever it is shown.
            let path: String = parts.uri.path().chars().take(200).collect();
            let detail = format!("{} {path}: {}", parts.method, problem.detail());
            fleet.refused(Source::from_address(address), &address.to_string(), "refused", &detail).await;
        }
        self
    }
}

/// The length that the request announces.
fn announced(headers: &HeaderMap, bytes_max: usize) -> Answer<()> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Problem::length());
    }
    let length = headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(None) => Err(Problem::length()),
        Some(Some(length)) if length > bytes_max as u64 => Err(Problem::too_long(bytes_max as u64)),
        Some(Some(_)) | None => Ok(()),
    }
}

fn signature(parts: &Parts, fleet: &str) -> Answer<Signed> {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let signed: Signed = header.unwrap_or_default().parse().map_err(refused)?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    signed.verify(fleet, parts.method.as_str(), target).map_err(refused)?;
    Ok(signed)
}

/// Counts the request in the database, so that no replica counts it again.
async fn counted(fleet: &Fleet, signed: &Signed) -> Answer<()> {
    let now_ms = fleet.now_ms() as u64;
    let key = signed.key.to_string();
    // A time that cannot count whatever the last one was does not reach the row.
    let plausible = admit(signed.time_ms, 0, now_ms).is_ok();
    if plausible && fleet.db.count_request(&key, signed.time_ms as i64).await? {
        return Ok(());
    }
    let device = fleet.db.device(&key).await?;
    let device = device.ok_or_else(|| Problem::identity("this key is not enrolled; enrol the device"))?;
    if device.revoked_ms != 0 {
        return Err(Problem::identity("this key was revoked; enrol the device again with a new token"));
    }
    let told = TimeRefused { now_ms, last_ms: device.last_ms as u64 };
    Err(refused(Refused::Time(told)))
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Form | Refused::Signature => Problem::identity(refused),
        Refused::Time(told) => Problem::time(told, refused),
    }
}

/// How long a body may take to come, beside what it takes at the slowest rate that is waited for.
const BODY: Duration = Duration::from_secs(15);
/// That rate, in bytes a second: a modem's.
const BODY_BYTES_PER_S: u64 = 1000;

/// All of a body, no longer than it may be and no slower than the slowest line that is waited for; none where it ends before its end.
///
/// # Errors
/// It comes too slowly.
pub(in crate::fleet) async fn whole(
    body: Body,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<Option<Bytes>, TooSlow> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let bytes = announced.unwrap_or(bytes_max as u64).min(bytes_max as u64);
    let patience = BODY + Duration::from_secs(bytes / BODY_BYTES_PER_S);
    tokio::time::timeout(patience, to_bytes(body, bytes_max)).await.map(Result::ok).map_err(|_| TooSlow)
}

/// A body that comes more slowly than is waited for.
#[derive(Debug)]
pub(in crate::fleet) struct TooSlow;

async fn read(body: Body, headers: &HeaderMap, signed: &Signed, bytes_max: usize) -> Answer<Bytes> {
    let body = whole(body, headers, bytes_max).await?;
    let body = body.ok_or_else(|| Problem::form("the body ended before its length; send it again"))?;
    if blake3::hash(&body) != signed.body.0 {
        return Err(Problem::identity("the body is not the one that was signed; send it again"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_say_where_a_request_comes_from() {
        let proxies: Vec<IpAddr> = ["127.0.0.1", "10.0.0.9"].map(|text| text.parse().unwrap()).into();
        let of = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            origin(peer.parse().unwrap(), &headers, &proxies).to_string()
        };
        assert_eq!(of("127.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(of("127.0.0.1", &["203.0.113.7, 10.0.0.9"]), "203.0.113.7");
        assert_eq!(of("127.0.0.1", &["203.0.113.7", "10.0.0.9"]), "203.0.113.7");
        assert_eq!(of("127.0.0.1", &["1.1.1.1, 203.0.113.7"]), "203.0.113.7", "what the client has written itself");
        assert_eq!(of("198.51.100.1", &["203.0.113.7"]), "198.51.100.1", "nobody trusts that one");
        for odd in [&[][..], &["unknown"], &[""], &["203.0.113.7, nonsense"]] {
            assert_eq!(of("127.0.0.1", odd), "127.0.0.1");
        }
        assert_eq!(of("127.0.0.1", &["::ffff:203.0.113.7"]), "203.0.113.7");
    }
}
