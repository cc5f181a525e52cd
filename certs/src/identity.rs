//! What a certificate says, and a node's own certificate ready for use.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto::model::{ClusterId, NodeId, Role};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::ParsedCertificate, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use tokio::sync::watch;
use x509_parser::{
    oid_registry::OID_X509_SERIALNUMBER,
    prelude::{FromDer, X509Certificate},
};

use crate::{
    CertError, RootDigest,
    issue::{StateVersion, role_name},
    root::{certificates, time_of},
    tls,
};

/// A member, as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node_id: NodeId,
    /// What it may do.
    pub role: Role,
    /// The cluster that it belongs to.
    pub cluster_id: ClusterId,
    /// The state of the cluster that gave it this role; the first of all where the certificate does not say.
    pub version: StateVersion,
    /// The certificate holds from here, one hour before it was issued,
    pub not_before: SystemTime,
    /// to here.
    pub not_after: SystemTime,
}

impl Peer {
    /// Reads a member's certificate. Says nothing about who signed it: that was the handshake's part.
    pub fn from_der(der: &[u8]) -> Result<Self, CertError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|e| CertError::malformed("certificate", e))?;
        let name = certificate.subject();
        let node = sole(name.iter_common_name(), "common name")?;
        let unit = sole(name.iter_organizational_unit(), "organisational unit")?;
        let cluster = sole(name.iter_organization(), "organisation")?;
        let role = [Role::Worker, Role::Manager]
            .into_iter()
            .find(|role| role_name(*role) == unit)
            .ok_or_else(|| CertError::NotAMember(format!("organisational unit {unit:?} is not a role")))?;
        let mut versions = name.iter_by_oid(&OID_X509_SERIALNUMBER).peekable();
        let version = match versions.peek() {
            None => StateVersion::default(),
            Some(_) => {
                let text = sole(versions, "serial number")?;
                text.parse().map_err(|_| {
                    CertError::NotAMember(format!("serial number {text:?} is no state of a cluster"))
                })?
            }
        };
        Ok(Self {
            version,
            node_id: node.parse().map_err(|e| CertError::NotAMember(format!("common name: {e}")))?,
            role,
            cluster_id: cluster.parse().map_err(|e| CertError::NotAMember(format!("organisation: {e}")))?,
            not_before: time_of(certificate.validity().not_before.timestamp()),
            not_after: time_of(certificate.validity().not_after.timestamp()),
        })
    }

    /// Whether the certificate's life is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }
}

/// The value of a name's only attribute of a kind: with two, readers could disagree on who this is.
fn sole<'a>(
    mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
    what: &str,
) -> Result<&'a str, CertError> {
    match (values.next(), values.next()) {
        (Some(value), None) => {
            value.as_str().map_err(|_| CertError::NotAMember(format!("{what} is not readable text")))
        }
        (None, _) => Err(CertError::NotAMember(format!("it has no {what}"))),
        (Some(_), Some(_)) => Err(CertError::NotAMember(format!("it has more than one {what}"))),
    }
}

/// A node's own certificate, its key and the roots that it trusts: checked to fit each other, with the TLS configurations made.
#[derive(Clone)]
pub struct Identity {
    peer: Peer,
    issuer: Option<RootDigest>,
    root_pem: String,
    cert_pem: String,
    key_pem: String,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// `root_pem`: the trusted roots, several during a rotation. `cert_pem`: the leaf, then intermediates if any. `key_pem`: PKCS #8.
    /// An expired certificate is no error: it still serves to ask for a new one.
    pub fn new(root_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let roots = tls::root_store(root_pem)?;
        let chain = certificates(cert_pem, "node certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| CertError::malformed("node key", e))?;
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(CertError::malformed("node certificate", "it holds no certificate"));
        };
        let peer = Peer::from_der(leaf)?;
        verify_chain(&peer, leaf, intermediates, &roots)?;
        let issuer = direct_issuer(&peer, leaf, root_pem)?;
        let signer = tls::provider()
            .key_provider
            .load_private_key(key)
            .map_err(|e| CertError::malformed("node key", e))?;
        let pair = CertifiedKey::new(chain, signer);
        pair.keys_match().map_err(|_| CertError::KeyMismatch { what: "node key" })?;
        let pair = Arc::new(pair);
        Ok(Self {
            issuer,
            server: Arc::new(tls::server_config(roots.clone(), pair.clone())?),
            client: Arc::new(tls::member_client_config(roots, pair)?),
            peer,
            root_pem: root_pem.to_owned(),
            cert_pem: cert_pem.to_owned(),
            key_pem: key_pem.to_owned(),
        })
    }

    /// What the certificate says.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The node's id.
    pub fn node_id(&self) -> &NodeId {
        &self.peer.node_id
    }

    /// The node's role.
    pub fn role(&self) -> Role {
        self.peer.role
    }

    /// The node's cluster.
    pub fn cluster_id(&self) -> &ClusterId {
        &self.peer.cluster_id
    }

    /// The trusted roots.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Which of the trusted roots has issued the certificate itself; none where it is believed through another only.
    pub fn issuer(&self) -> Option<RootDigest> {
        self.issuer
    }

    /// The last of the trusted roots: the one to have a certificate of.
    ///
    /// # Errors
    /// The roots cannot be read.
    pub fn newest_root(&self) -> Result<RootDigest, CertError> {
        let roots = certificates(&self.root_pem, "root certificate")?;
        Ok(RootDigest::of_der(roots.last().map(std::slice::from_ref).unwrap_or_default()))
    }

    /// The certificate chain, leaf first.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The private key, for [`crate::CertificateDir`].
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// To accept connections with.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// To dial members with.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// The same certificate with other trusted roots, as the session message delivers them.
    pub fn with_roots(&self, root_pem: &str) -> Result<Self, CertError> {
        Self::new(root_pem, &self.cert_pem, &self.key_pem)
    }
}

impl fmt::Debug for Identity {
    // The key must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The root of the bundle that signed the leaf.
fn direct_issuer(
    peer: &Peer,
    leaf: &CertificateDer<'_>,
    root_pem: &str,
) -> Result<Option<RootDigest>, CertError> {
    for root in certificates(root_pem, "root certificate")? {
        let mut alone = RootCertStore::empty();
        alone.add(root.clone()).map_err(|e| CertError::malformed("root certificate", e))?;
        if verify_chain(peer, leaf, &[], &alone).is_ok() {
            return Ok(Some(RootDigest::of_der(&[root])));
        }
    }
    Ok(None)
}

fn verify_chain(
    peer: &Peer,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Result<(), CertError> {
    // Verified as of its own last second: whether it is expired by now is another question.
    let end = peer.not_after.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let algorithms = tls::provider().signature_verification_algorithms.all;
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf)?,
        roots,
        intermediates,
        UnixTime::since_unix_epoch(end),
        algorithms,
    )
    .map_err(|e| CertError::OtherRoot { node: peer.node_id.clone(), reason: e.to_string() })
}

/// The identity in use, shared by everything that accepts or dials. Replacing it affects the next handshake, on either side;
/// connections that stand go on until their certificate expires.
#[derive(Clone)]
pub struct SharedIdentity(Arc<watch::Sender<Arc<Identity>>>);

impl SharedIdentity {
    /// Starts with `identity`.
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(identity))))
    }

    /// The one in use.
    pub fn current(&self) -> Arc<Identity> {
        self.0.borrow().clone()
    }

    /// Uses `identity` from now on: renewal, promotion, demotion, root rotation.
    pub fn replace(&self, identity: Identity) {
        self.0.send_replace(Arc::new(identity));
    }

    /// Tells of replacements.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Identity>> {
        self.0.subscribe()
    }
}

impl fmt::Debug for SharedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;
    use crate::{
        RootCa, Subject,
        issue::{DEFAULT_VALIDITY, new_csr},
    };

    fn issued(root: &RootCa, now: SystemTime) -> (String, String) {
        let (key, csr) = new_csr().unwrap();
        let subject =
            Subject { node_id: NodeId::random(), role: Role::Worker, cluster_id: ClusterId::random() };
        (root.issue(&csr, &subject, DEFAULT_VALIDITY, now).unwrap(), key)
    }

    #[test]
    fn an_identity_needs_parts_that_fit() {
        let now = SystemTime::now();
        let (root, other) = (RootCa::create(now).unwrap(), RootCa::create(now).unwrap());
        let ((cert, key), (_, other_key)) = (issued(&root, now), issued(&root, now));
        assert!(Identity::new(root.cert_pem(), &cert, &key).is_ok());
        assert!(matches!(
            Identity::new(root.cert_pem(), &cert, &other_key),
            Err(CertError::KeyMismatch { what: "node key" })
        ));
        assert!(matches!(Identity::new(other.cert_pem(), &cert, &key), Err(CertError::OtherRoot { .. })));
        let both = format!("{}{}", other.cert_pem(), root.cert_pem());
        assert!(Identity::new(&both, &cert, &key).is_ok(), "a bundle during a rotation");
        assert!(matches!(Identity::new("", &cert, &key), Err(CertError::Malformed { .. })));
        assert!(matches!(Identity::new(root.cert_pem(), "", &key), Err(CertError::Malformed { .. })));
        assert!(matches!(Identity::new(root.cert_pem(), &cert, ""), Err(CertError::Malformed { .. })));
    }

    #[test]
    fn an_expired_certificate_is_still_an_identity() {
        let now = SystemTime::now();
        let root = RootCa::create(now - DEFAULT_VALIDITY * 3).unwrap();
        let (cert, key) = issued(&root, now - DEFAULT_VALIDITY * 2);
        let identity = Identity::new(root.cert_pem(), &cert, &key).unwrap();
        assert!(identity.peer().is_expired(now));
    }

    #[test]
    fn ambiguous_or_foreign_names_are_no_member() {
        let made = |attributes: &[(DnType, &str)]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            for (kind, value) in attributes {
                params.distinguished_name.push(kind.clone(), *value);
            }
            Peer::from_der(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
        };
        let (cn, ou, o) = (DnType::CommonName, DnType::OrganizationalUnitName, DnType::OrganizationName);
        assert!(
            made(&[(cn.clone(), "node1"), (ou.clone(), "swarm-worker"), (o.clone(), "cluster1")]).is_ok()
        );
        for (attributes, wanted) in [
            (vec![(cn.clone(), "node1"), (ou.clone(), "swarm-worker")], "no organisation"),
            (vec![(cn.clone(), "node1"), (ou.clone(), "admin"), (o.clone(), "cluster1")], "not a role"),
            (
                vec![(cn.clone(), "../x"), (ou.clone(), "swarm-worker"), (o.clone(), "cluster1")],
                "common name",
            ),
        ] {
            let error = made(&attributes).expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error}");
        }
        assert!(Peer::from_der(b"nonsense").is_err());
    }

    #[test]
    fn debug_output_has_no_key() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        let (cert, key) = issued(&root, now);
        let identity = Identity::new(root.cert_pem(), &cert, &key).unwrap();
        assert!(
            !format!("{identity:?} {:?}", SharedIdentity::new(identity_again(&root))).contains("PRIVATE")
        );
    }

    fn identity_again(root: &RootCa) -> Identity {
        let (cert, key) = issued(root, SystemTime::now());
        Identity::new(root.cert_pem(), &cert, &key).unwrap()
    }
}
