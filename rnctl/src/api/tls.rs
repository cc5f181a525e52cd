//! TLS to a daemon, as Docker's clients speak it: mutual where there is a client's certificate.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{context::endpoint::Tls, exit::Failure};

/// What a connection is made with.
///
/// # Errors
/// The certificates make no sense, or there is nothing to check the daemon's by.
pub fn config(tls: &Tls) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(ring::default_provider());
    let bad = |what: &str, e: &dyn std::fmt::Display| Failure::local(format!("{what} makes no sense: {e}"));
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("the choice of protocols", &e))?;
    let builder = if tls.verifies {
        let Some(ca) = &tls.ca else {
            return Err(Failure::local("there is no certificate to check the daemon's by")
                .with_help("name the one that has signed it with --tlscacert, or put it into ~/.rn/ca.pem"));
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca.pem", ca)? {
            roots.add(certificate).map_err(|e| bad("ca.pem", &e))?;
        }
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    };
    let made = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad("key.pem", &e))?;
            builder
                .with_client_auth_cert(certificates("cert.pem", cert)?, key)
                .map_err(|e| bad("cert.pem", &e))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            return Err(Failure::local("a certificate needs its key, and a key its certificate")
                .with_help("name both: --tlscert and --tlskey"));
        }
    };
    Ok(Arc::new(made))
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Failure::local(format!("{name} holds no certificate"))),
        Err(e) => Err(Failure::local(format!("{name} makes no sense: {e}"))),
    }
}

/// Speaks TLS on a connection.
pub async fn connect(
    config: Arc<ClientConfig>,
    host: &str,
    tcp: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no name of a host")))?;
    TlsConnector::from(config).connect(name, tcp).await
}

/// Takes any certificate, as users ask for by `--tls` or `skip-tls-verify`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let error = |tls: Tls| config(&tls).err().map(|e| e.to_string()).unwrap_or_default();
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert!(error(Tls { verifies: true, ..Tls::default() }).contains("--tlscacert"));
        assert!(
            error(Tls { verifies: true, ca: some("x"), ..Tls::default() })
                .contains("ca.pem holds no certificate")
        );
        assert!(error(Tls { cert: some("x"), ..Tls::default() }).contains("a certificate needs its key"));
        assert!(
            error(Tls { cert: some("x"), key: some("y"), ..Tls::default() })
                .contains("key.pem makes no sense")
        );
        assert_eq!(error(Tls::default()), "");
    }
}
