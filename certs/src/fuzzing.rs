//! What fuzz targets, and their small version here, give to the parsers of what strangers show and users type.

use std::{sync::LazyLock, time::SystemTime};

use base64::Engine as _;
use proto::model::{ClusterId, NodeId, Role};

use crate::{JoinToken, Peer, RootCa, Subject, UnlockKey, issue::DEFAULT_VALIDITY, lock};

/// A join token.
pub fn token(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(token) = text.parse::<JoinToken>()
    {
        assert_eq!(token.to_string().parse::<JoinToken>().map(|t| t.to_string()), Ok(token.to_string()));
    }
}

/// A key that unlocks a manager, in the first line, and a file that it may open.
pub fn unlock(bytes: &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (key, file) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
    let key = std::str::from_utf8(key).ok().and_then(|text| text.parse::<UnlockKey>().ok());
    let _ = lock::wrappings(file);
    let _ = lock::opened(file.to_vec(), key.as_ref());
}

/// A certificate, as a peer shows it.
pub fn certificate(bytes: &[u8]) {
    if let Ok(peer) = Peer::from_der(bytes) {
        let _ = peer.is_expired(SystemTime::now());
    }
}

/// A request for a certificate, which anybody with a token may send.
pub fn request(bytes: &[u8]) {
    static ROOT: LazyLock<Option<RootCa>> = LazyLock::new(|| RootCa::create(SystemTime::now()).ok());
    let Some(root) = &*ROOT else { return };
    let subject = Subject { node_id: NodeId::random(), role: Role::Worker, cluster_id: ClusterId::random() };
    let _ = root.issue(&pem(bytes), &subject, DEFAULT_VALIDITY, SystemTime::now());
}

fn pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::new_csr;

    fn der(pem: &str) -> Vec<u8> {
        let body: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
        base64::engine::general_purpose::STANDARD.decode(body).unwrap()
    }

    #[test]
    fn tokens_and_keys_are_read_or_refused() {
        let root = RootCa::create(SystemTime::now()).unwrap();
        smoke::smoke([JoinToken::generate(root.digest()).unwrap().to_string()], 3000, token);
        let key = UnlockKey::generate().unwrap();
        let wrapped = lock::closed(b"secret", &[Some(&key)]).unwrap();
        smoke::smoke([[key.to_string().as_bytes(), b"\n", &wrapped].concat()], 3000, unlock);
    }

    #[test]
    fn certificates_and_requests_are_read_or_refused() {
        let root = RootCa::create(SystemTime::now()).unwrap();
        let (_, csr) = new_csr().unwrap();
        let subject =
            Subject { node_id: NodeId::random(), role: Role::Worker, cluster_id: ClusterId::random() };
        let cert = root.issue(&csr, &subject, DEFAULT_VALIDITY, SystemTime::now()).unwrap();
        smoke::smoke([der(&cert), der(root.cert_pem())], 3000, certificate);
        smoke::smoke([der(&csr)], 500, request);
    }
}
