//! Who looks: somebody with a session. What is extracted here has passed.
//!
//! A session is a secret in a cookie and its hash in the database, so all replicas know it. What changes something comes from a
//! form of our own: the browser says that the page was of this origin, and the form carries a token that is made of the session's
//! secret, which no other page can know.

use super::FORM_BYTES_MAX;
use super::failure::Failure;
use crate::fleet::Fleet;
use crate::fleet::api::{Peer, whole};
use crate::fleet::db::Role;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Multipart, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use maud::{Markup, html};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Why a form is not acted upon.
const OF_ANOTHER: &str = "The form is not one of this session; open the page again and repeat what you did.";
const FOR_OPERATORS: &str =
    "Viewers see, operators act. Ask an operator to do it, or for an access token of that role.";

/// How long somebody stays signed in.
pub(super) const SESSION_MS: i64 = 12 * 60 * 60 * 1000;

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// What the audit log calls them: `operator` for the token of the first start, as in requests; `access NAME` otherwise.
    pub who: String,
    /// Where they are.
    pub address: IpAddr,
    /// What they may do.
    pub role: Role,
    /// Hash of the session's secret.
    pub session: String,
    /// What forms carry.
    pub token: FormToken,
}

/// What a form carries to show that it is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FormToken(String);

/// A form of somebody who may act.
pub(super) struct Acting {
    pub visitor: Visitor,
    pub fields: Fields,
}

/// A form with a file, of somebody who may act.
pub(super) struct Uploaded {
    pub visitor: Visitor,
    pub fields: Fields,
    /// What the field `delta` holds.
    pub file: Bytes,
    /// Memory has room for as many files as are held at once.
    pub _room: OwnedSemaphorePermit,
}

/// A form of somebody who is signed in.
pub(super) struct Posted {
    pub visitor: Visitor,
}

/// Names and values of a form or a query; what holds a NUL, which PostgreSQL has no text for, is left out.
#[derive(Debug, Default)]
pub(super) struct Fields(HashMap<String, String>);

impl Fields {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(bytes).into_owned();
        Self(pairs.filter(|(_, value)| !value.contains('\0')).collect())
    }

    /// The field of that name; empty where there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl<S: Sync> FromRequestParts<S> for Fields {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default().as_bytes()))
    }
}

impl FormToken {
    /// The token of the forms of whoever has this secret in a cookie.
    pub(super) fn from_secret(secret: &str) -> Self {
        Self(
            crate::sync::wire::Hex(blake3::derive_key("edgetune fleet 2026 form token", secret.as_bytes())).to_string(),
        )
    }

    /// The field that carries it.
    pub(super) fn field(&self) -> Markup {
        html! { input type="hidden" name="token" value=(self.0); }
    }

    /// Whether a form carries it. Comparing hashes takes as long whatever is equal.
    pub(super) fn is_in(&self, fields: &Fields) -> bool {
        blake3::hash(fields.get("token").as_bytes()) == blake3::hash(self.0.as_bytes())
    }
}

/// A cookie of ours. Under TLS its name binds it to this host and to TLS (`__Host-`, RFC 6265bis).
pub(super) fn cookie_name(name: &str, is_secure: bool) -> String {
    if is_secure { format!("__Host-{name}") } else { name.into() }
}

/// The line that sets a cookie for so long; 0 s removes it.
pub(super) fn cookie(name: &str, value: &str, seconds: i64, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    let name = cookie_name(name, is_secure);
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// The value of a cookie that was sent.
pub(super) fn cookie_of(headers: &HeaderMap, name: &str, is_secure: bool) -> Option<String> {
    let name = cookie_name(name, is_secure);
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// Whether the browser speaks TLS, here or at the proxy that ends it.
pub(super) fn is_secure(fleet: &Fleet, headers: &HeaderMap) -> bool {
    // Who says so without TLS takes nothing but their own cookie away.
    fleet.is_tls || headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https")
}

/// Whether a request that changes something comes from a page of this server.
pub(super) fn same_origin(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let is_ours = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin",
        // Browsers leave it out where there is no TLS; then the origin's host is the one that was asked.
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == text("host")
        }
        (None, None) => false,
    };
    let refused = "This was asked by a page of somebody else. If you wanted it, do it on the pages of this server.";
    is_ours.then_some(()).ok_or(Failure::Forbidden(refused))
}

/// The secret of the session, and who it is.
async fn visitor(fleet: &Fleet, address: IpAddr, headers: &HeaderMap) -> Result<Visitor, Failure> {
    let secret = cookie_of(headers, "session", is_secure(fleet, headers)).ok_or(Failure::SignIn(None))?;
    let session = blake3::hash(secret.as_bytes()).to_string();
    let known = fleet.db.session(&session, fleet.now_ms()).await?.ok_or(Failure::SignIn(None))?;
    let who = known.name.map_or("operator".into(), |name| format!("access {name}"));
    Ok(Visitor { who, address, role: known.role, session, token: FormToken::from_secret(&secret) })
}

/// The address and the fields of a form that this origin has sent.
pub(super) async fn form(fleet: &Arc<Fleet>, request: Request) -> Result<(HeaderMap, IpAddr, Fields), Failure> {
    let (parts, body) = request.into_parts();
    let Peer(address) = Peer::from_request(&parts, fleet);
    if let Err(failure) = same_origin(&parts.headers) {
        return Err(failure.logged(fleet, (address, &address.to_string()), &parts.method, &parts.uri).await);
    }
    let bytes = whole(body, &parts.headers, FORM_BYTES_MAX).await?;
    let bytes = bytes.ok_or_else(|| Failure::form("The form is too long; send less."))?;
    Ok((parts.headers, address, Fields::parse(&bytes)))
}

impl FromRequestParts<Arc<Fleet>> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, fleet: &Arc<Fleet>) -> Result<Self, Failure> {
        let Peer(address) = Peer::from_request(parts, fleet);
        visitor(fleet, address, &parts.headers).await.map_err(|failure| match failure {
            Failure::SignIn(_) => Failure::SignIn(parts.uri.path_and_query().map(|to| to.as_str().to_owned())),
            other => other,
        })
    }
}

/// A form that is ours, of somebody who is signed in and, where it `acts`, is an operator.
async fn ours(fleet: &Arc<Fleet>, request: Request, acts: bool) -> Result<(Visitor, Fields), Failure> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let (headers, address, fields) = form(fleet, request).await?;
    let visitor = visitor(fleet, address, &headers).await?;
    let refusal = if !visitor.token.is_in(&fields) {
        Some(OF_ANOTHER)
    } else if acts && visitor.role != Role::Operator {
        Some(FOR_OPERATORS)
    } else {
        None
    };
    match refusal {
        Some(detail) => Err(Failure::Forbidden(detail).logged(fleet, (address, &visitor.who), &method, &uri).await),
        None => Ok((visitor, fields)),
    }
}

impl FromRequest<Arc<Fleet>> for Acting {
    type Rejection = Failure;

    async fn from_request(request: Request, fleet: &Arc<Fleet>) -> Result<Self, Failure> {
        ours(fleet, request, true).await.map(|(visitor, fields)| Self { visitor, fields })
    }
}

impl FromRequest<Arc<Fleet>> for Uploaded {
    type Rejection = Failure;

    /// Who asks is looked at before the file is read.
    async fn from_request(request: Request, fleet: &Arc<Fleet>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let Peer(address) = Peer::from_request(&parts, fleet);
        let refused = |who: String, failure: Failure| {
            let (method, uri) = (parts.method.clone(), parts.uri.clone());
            async move { Err(failure.logged(fleet, (address, &who), &method, &uri).await) }
        };
        if let Err(failure) = same_origin(&parts.headers) {
            return refused(address.to_string(), failure).await;
        }
        let visitor = visitor(fleet, address, &parts.headers).await?;
        if visitor.role != Role::Operator {
            return refused(visitor.who, Failure::Forbidden(FOR_OPERATORS)).await;
        }
        let _room = fleet.room.clone().acquire_owned().await.map_err(|_| Failure::Unavailable)?;
        let bytes_max = fleet.current().limits.delta_bytes_max as usize;
        let told = || Failure::Form(format!("The file is too long; at most {bytes_max} bytes are taken."));
        let body = whole(body, &parts.headers, bytes_max + FORM_BYTES_MAX).await?.ok_or_else(told)?;
        let (fields, file) = parted(Request::from_parts(parts.clone(), Body::from(body)), fleet).await?;
        if !visitor.token.is_in(&fields) {
            return refused(visitor.who, Failure::Forbidden(OF_ANOTHER)).await;
        }
        Ok(Self { visitor, fields, file, _room })
    }
}

/// The fields of a form with a file (RFC 7578), and what its field `delta` holds.
async fn parted(request: Request, fleet: &Arc<Fleet>) -> Result<(Fields, Bytes), Failure> {
    let mut form = Multipart::from_request(request, fleet).await.map_err(Failure::form)?;
    let (mut fields, mut file) = (HashMap::new(), None);
    while let Some(field) = form.next_field().await.map_err(Failure::form)? {
        let name = field.name().unwrap_or_default().to_owned();
        let value = field.bytes().await.map_err(Failure::form)?;
        if name == "delta" {
            file = Some(value);
        } else {
            let value = String::from_utf8(value.into()).map_err(Failure::form)?;
            fields.insert(name, value);
        }
    }
    fields.retain(|_, value| !value.contains('\0'));
    let file = file.filter(|file| !file.is_empty());
    Ok((Fields(fields), file.ok_or_else(|| Failure::form("No file was chosen; choose the adapter's."))?))
}

impl FromRequest<Arc<Fleet>> for Posted {
    type Rejection = Failure;

    async fn from_request(request: Request, fleet: &Arc<Fleet>) -> Result<Self, Failure> {
        ours(fleet, request, false).await.map(|(visitor, _)| Self { visitor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_form_of_another_origin_is_refused() {
        let is_ours = |lines: &[(&'static str, &str)]| same_origin(&headers(lines)).is_ok();
        assert!(is_ours(&[("sec-fetch-site", "same-origin")]));
        assert!(is_ours(&[("origin", "http://fleet:8443"), ("host", "fleet:8443")]));
        for other in [
            &[][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site"), ("origin", "http://fleet"), ("host", "fleet")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://evil"), ("host", "fleet")],
            &[("origin", "null"), ("host", "fleet")],
            &[("origin", "http://fleet")],
        ] {
            assert!(!is_ours(other), "{other:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let sent = headers(&[("cookie", "a=1; __Host-session=secret; session=other")]);
        assert_eq!(cookie_of(&sent, "session", true).as_deref(), Some("secret"));
        assert_eq!(cookie_of(&sent, "session", false).as_deref(), Some("other"));
        assert_eq!(cookie_of(&sent, "b", false), None);
    }
}
