//! The line to the server: one request, one answer, over TLS.
//!
//! Takes an address and whom to trust; gives status, headers and a body to read. It never follows a redirect with a signature (what was
//! signed was signed for one address), never unpacks a body, and never speaks without TLS but to this machine itself.

use super::Error;
use super::pace::Pace;
use crate::sync::is_this_machine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::SendBody;
use ureq::http::{self, Uri};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(15);
/// Until the next byte moves: a slow line may take as long as it likes, a dead one may not.
const SILENCE: Duration = Duration::from_secs(60);

/// A request, as it is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub method: &'static str,
    /// Path and query.
    pub target: &'a str,
    /// Besides those that belong to the line.
    pub headers: &'a [(&'static str, &'a str)],
    /// Sent with its length; a GET has none.
    pub body: &'a [u8],
}

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub(super) struct Answer(http::Response<ureq::Body>);

impl Answer {
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    /// The body as it comes in.
    pub fn reader(self) -> impl Read {
        self.0.into_body().into_reader()
    }
}

/// The line.
#[derive(Debug)]
pub(super) struct Line {
    agent: ureq::Agent,
    /// Speaks to the store that the server keeps its bodies in, which may be anybody's.
    elsewhere: ureq::Agent,
    /// `https://HOST:PORT`.
    pub url: String,
}

impl Line {
    /// A line to `url`; `ca` is PEM of whom to trust, the pair files of the device's own certificate and its key. Connects to nobody
    /// yet.
    pub fn new(url: &str, ca: Option<&str>, client: Option<&[PathBuf; 2]>) -> Result<Self, Error> {
        let url = address(url)?;
        let mut tls = TlsConfig::builder();
        if let Some(ca) = ca {
            let certificates = authorities(ca).map_err(|problem| Error::Tls { url: url.clone(), problem })?;
            let certificates = certificates.iter().map(|der| Certificate::from_der(der).to_owned());
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates.collect())));
        }
        if let Some(files) = client {
            tls = tls.client_cert(Some(client_certificate(files)?));
        }
        Ok(Self { agent: agent(tls.build()), elsewhere: agent(TlsConfig::default()), url })
    }

    /// Fetches from an address that the server has named, without a signature. Trusted are who the server is trusted by, and the
    /// public authorities: what comes is looked at afterwards, whoever has sent it.
    pub fn fetch(&self, place: &str, headers: &[(&'static str, &str)]) -> Result<Answer, Error> {
        let uri: Uri = place.parse().map_err(|_| Error::Address { url: place.into(), problem: "no address".into() })?;
        let host = format!("{}://{}", uri.scheme_str().unwrap_or(""), uri.authority().map_or("", |host| host.as_str()));
        let url = address(&host)?;
        if url.starts_with("http:") && !self.url.starts_with("http:") {
            let problem = "the server keeps its adapters where no TLS is spoken; ask an operator".into();
            return Err(Error::Address { url, problem });
        }
        let send = |agent: &ureq::Agent| {
            let request =
                headers.iter().fold(http::Request::get(&uri), |request, (name, value)| request.header(*name, *value));
            request.body(()).map_err(ureq::Error::from).and_then(|request| agent.run(request))
        };
        let sent = send(&self.elsewhere).or_else(|error| match by_tls(&error) {
            Some(_) => send(&self.agent),
            None => Err(error),
        });
        sent.map(Answer).map_err(|error| explained(url, error))
    }

    /// Sends a request at a pace and waits for the head of its answer.
    pub fn send(&self, request: &Request<'_>, authorization: &str, pace: Pace<'_>) -> Result<Answer, Error> {
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(format!("{}{}", self.url, request.target))
            .header("authorization", authorization);
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        let sent = if request.method == "GET" {
            builder.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
        } else {
            let mut body = pace.keep(request.body);
            builder = builder.header("content-length", request.body.len());
            let body = SendBody::from_reader(&mut body);
            builder.body(body).map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
        };
        sent.map(Answer).map_err(|error| explained(self.url.clone(), error))
    }
}

fn agent(tls: TlsConfig) -> ureq::Agent {
    ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("edgetune/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE))
        .build()
        .into()
}

/// What TLS has against it, where it was TLS.
fn by_tls(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        _ => None,
    }
}

/// What it means that nothing came of a request.
fn explained(url: String, error: ureq::Error) -> Error {
    if let Some(problem) = by_tls(&error).and_then(remedy) {
        return Error::Tls { url, problem };
    }
    match error {
        ureq::Error::Io(error) => Error::Unreachable { url, problem: error.to_string() },
        ureq::Error::HostNotFound => Error::Unreachable { url, problem: "no host of that name is known".into() },
        error => Error::Unreachable { url, problem: error.to_string() },
    }
}

/// What helps against a failure of TLS that does not go away by itself.
fn remedy(error: &rustls::Error) -> Option<String> {
    use CertificateError as Fault;
    let text = match error {
        rustls::Error::InvalidCertificate(fault) => match fault {
            Fault::UnknownIssuer => {
                "the server's certificate is from nobody who is trusted here; enrol with setting `ca = FILE`, where FILE is the \
                 certificate of who issued it (for a server's own: its tls.crt)"
            }
            Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
                "the server's certificate is for another name; use the address that it is for, or have that name put into it"
            }
            Fault::Expired | Fault::ExpiredContext { .. } => {
                "the server's certificate has expired by this device's clock; set the clock, or renew the certificate"
            }
            Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet by this device's clock; set the clock"
            }
            _ => return Some(format!("the server's certificate is not to be trusted: {error}; ask an operator")),
        },
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => {
            "the server wants a certificate of this device that it trusts; enrol with setting `client-cert = FILE` and setting `client-key = FILE`"
        }
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "what answers there speaks no TLS; check the port"
        }
        _ => return None,
    };
    Some(text.into())
}

/// `SCHEME://HOST:PORT` of an address, if a server can have it.
fn address(url: &str) -> Result<String, Error> {
    let refused = |problem: &str| Error::Address { url: url.into(), problem: problem.into() };
    let uri: Uri = url.parse().map_err(|_| refused("no address; write https://HOST or https://HOST:PORT"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(refused("write https:// in front of the host"));
    };
    let is_here = is_this_machine(authority.as_str());
    if authority.as_str().contains('@') || !["", "/"].contains(&uri.path()) || uri.query().is_some() {
        return Err(refused("only host and port; leave the rest out"));
    }
    match scheme {
        "https" => Ok(format!("https://{authority}")),
        "http" if is_here => Ok(format!("http://{authority}")),
        "http" => Err(refused("without TLS only this machine itself is spoken to; write https://")),
        _ => Err(refused("write https:// in front of the host")),
    }
}

/// The certificates in a text of PEM, each of which can be trusted.
pub(super) fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| format!("the file of setting `ca` is no PEM: {error}"))?;
    let mut store = RootCertStore::empty();
    for certificate in &found {
        store.add(certificate.clone()).map_err(|error| format!("setting `ca`: {error}; give a certificate in PEM"))?;
    }
    if found.is_empty() {
        return Err(
            "the file of setting `ca` has no `BEGIN CERTIFICATE`; give the authority's certificate in PEM".into()
        );
    }
    Ok(found)
}

/// The device's own certificate. Looked at here, for ureq would end the program over a pair that does not fit.
fn client_certificate([certificate, key]: &[PathBuf; 2]) -> Result<ClientCert, Error> {
    fn in_file<T>(path: &Path, read: Result<T, rustls::pki_types::pem::Error>, what: &str) -> Result<T, Error> {
        read.map_err(|error| Error::file(path, format!("{error}; give {what} in PEM")))
    }
    let chain = CertificateDer::pem_file_iter(certificate).and_then(|items| items.collect::<Result<Vec<_>, _>>());
    let chain = in_file(certificate, chain, "a certificate")?;
    let secret = in_file(key, PrivateKeyDer::from_pem_file(key), "its secret key")?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|config| config.with_root_certificates(RootCertStore::empty()))
        .and_then(|config| config.with_client_auth_cert(chain.clone(), secret))
        .map_err(|error| Error::file(certificate, format!("{error}; give the key that belongs to it")))?;
    let pem = std::fs::read(key).map_err(|error| Error::file(key, error))?;
    let secret = PrivateKey::from_pem(&pem).map_err(|error| Error::file(key, error))?;
    let chain: Vec<_> = chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(ClientCert::new_with_certs(&chain, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        for (given, url) in [
            ("https://fleet.example", "https://fleet.example"),
            ("https://fleet.example:8443/", "https://fleet.example:8443"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("http://localhost", "http://localhost"),
        ] {
            assert_eq!(address(given).unwrap(), url);
        }
        for (given, remedy) in [
            ("fleet.example", "https://"),
            ("", "https://"),
            ("ftp://fleet.example", "https://"),
            ("http://fleet.example", "TLS"),
            ("http://127.0.0.1.example", "TLS"),
            ("https://me:secret@fleet.example", "leave the rest out"),
            ("https://fleet.example/v1", "leave the rest out"),
            ("https://fleet.example/?a=b", "leave the rest out"),
        ] {
            let error = address(given).unwrap_err().to_string();
            assert!(error.contains(given) && error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn who_is_trusted_must_be_a_certificate() {
        for (pem, part) in [
            ("", "BEGIN CERTIFICATE"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "setting `ca`"),
        ] {
            let error = authorities(pem).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
