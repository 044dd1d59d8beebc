//! A server that asks devices for certificates of their own, as a proxy in front of the fleet's may.

use super::client::clock_ms;
use edgetune::sync::client::{self, Error, Folder, Invitation, Name, Outside};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate of its own authority, `NAME.crt` and `NAME.key` in the folder.
fn certificate(folder: &Path, name: &str) -> [PathBuf; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let files = ["crt", "key"].map(|extension| folder.join(name).with_extension(extension));
    std::fs::write(&files[0], made.cert.pem()).unwrap();
    std::fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
    files
}

/// Serves refusals to those whose certificate is `client`'s; gives the address.
fn serve(server: &[PathBuf; 2], client: &Path) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(client).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(&server[0]).unwrap()];
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&server[1]).unwrap())
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            let body = r#"{"type": "t", "title": "t", "status": 401, "detail": "seen"}"#;
            let head = format!("HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            if stream.read(&mut [0; 4096]).is_ok() {
                stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).unwrap();
            } else {
                // The alert is on its way; until it has been read the connection stays.
                let _ = stream.sock.read_to_end(&mut Vec::new());
            }
        }
    });
    url
}

#[test]
fn a_device_shows_its_certificate_where_it_is_asked() {
    let place = tempfile::tempdir().unwrap();
    let [server, device, other] = ["server", "device", "other"].map(|name| certificate(place.path(), name));
    let url = serve(&server, &device[0]);
    let folder = Folder::open(&place.path().join("state")).unwrap();
    let enrol = |client_certificate: Option<[PathBuf; 2]>| {
        let sleep = |time| panic!("waited {time:?}");
        let outside = Outside { clock_ms: &clock_ms, chance: &|| 0.5, sleep: &sleep, tries: 1, bytes_per_s: None };
        let ca = std::fs::read_to_string(&server[0]).ok();
        let invitation = Invitation {
            url: url.clone(),
            token: "t".into(),
            name: Name::Given("n".into()),
            replace: false,
            root: None,
            ca,
            client_certificate,
        };
        client::enrol(&folder, invitation, &|| Ok([3; 32]), outside).unwrap_err()
    };
    let seen = enrol(Some(device.clone()));
    assert!(matches!(&seen, Error::Refused { status: 401, detail } if detail == "seen"), "{seen}");
    for wrong in [None, Some(other.clone())] {
        let error = enrol(wrong);
        assert!(
            matches!(error, Error::Tls { .. }) && error.to_string().contains("setting `client-cert = FILE`"),
            "{error}"
        );
    }
    let [certificate, _] = device;
    let [_, key] = other;
    let error = enrol(Some([certificate, key])).to_string();
    assert!(error.contains("device.crt") && error.contains("give the key that belongs to it"), "{error}");
}
