//! rustls configurations: TLS 1.3 only, ALPN `h2`, no resumption (a resumed session would carry an identity past its rotation).

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{CertError, root::certificates, transport::Lane};

/// How long after its end a certificate still admits to asking for a new one: a machine that was off comes back by itself.
pub const RENEWAL_GRACE: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);

const ALPN: &[u8] = b"h2";

/// The one crypto provider; passed explicitly, so that no process-wide default is needed.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider()))
}

pub(crate) fn root_store(root_pem: &str) -> Result<Arc<RootCertStore>, CertError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(root_pem, "root certificate")? {
        store.add(certificate).map_err(|e| CertError::malformed("root certificate", e))?;
    }
    Ok(Arc::new(store))
}

/// To accept with. A client may come without certificate (a joiner) or with one of this cluster, expired for less than
/// [`RENEWAL_GRACE`] included; what each may do is decided per call, by [`crate::ConnInfo`].
pub(crate) fn server_config(
    roots: Arc<RootCertStore>,
    pair: Arc<CertifiedKey>,
) -> Result<ServerConfig, CertError> {
    let inner = WebPkiClientVerifier::builder_with_provider(roots, provider().clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| CertError::malformed("root certificate", e))?;
    let mut config = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(MemberVerifier { inner }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols =
        [Lane::Pulse.alpn(), Lane::Entries.alpn(), ALPN].into_iter().map(<[u8]>::to_vec).collect();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// To dial with as a member.
pub(crate) fn member_client_config(
    roots: Arc<RootCertStore>,
    pair: Arc<CertifiedKey>,
) -> Result<ClientConfig, CertError> {
    let config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    Ok(finished(config))
}

/// To dial with before having a certificate: the server is verified by the root that the token's digest vouched for.
pub fn joiner_client_config(root_pem: &str) -> Result<ClientConfig, CertError> {
    let config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(root_store(root_pem)?)
        .with_no_client_auth();
    Ok(finished(config))
}

/// To fetch the root certificate with, and for nothing else: believes any server. What comes back is compared with the token's digest.
pub fn unverified_client_config() -> Result<ClientConfig, CertError> {
    let config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(BelieveAnyServer))
        .with_no_client_auth();
    Ok(finished(config))
}

/// The same, for a connection of this lane; a server that knows no lanes takes it for any other.
pub(crate) fn on_lane(config: &ClientConfig, lane: Lane) -> ClientConfig {
    let mut config = config.clone();
    config.alpn_protocols = vec![lane.alpn().to_vec(), ALPN.to_vec()];
    config
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// WebPKI, but a certificate that is only expired passes within [`RENEWAL_GRACE`].
#[derive(Debug)]
struct MemberVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for MemberVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }))
                if time.as_secs().saturating_sub(not_after.as_secs()) <= RENEWAL_GRACE.as_secs() =>
            {
                // Everything else about it is checked as of its last second.
                self.inner.verify_client_cert(end_entity, intermediates, not_after)
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts any certificate, though the server must hold its key.
#[derive(Debug)]
struct BelieveAnyServer;

impl ServerCertVerifier for BelieveAnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
