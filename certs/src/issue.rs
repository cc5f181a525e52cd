//! Signing requests and leaf certificates.

use std::{
    fmt,
    num::ParseIntError,
    str::FromStr,
    time::{Duration, SystemTime},
};

use proto::model::{ClusterId, NodeId, Revision, Role};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use crate::{CertError, RootCa, root::set_validity};

/// Life of a node's certificate unless the cluster says otherwise: 90 days.
pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(2160 * 3600);
/// The shortest life that a user may ask for.
pub const MIN_VALIDITY: Duration = Duration::from_secs(3600);

/// The name that certificates of this role carry, as organisational unit and as DNS name; what a peer dials.
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Manager => "swarm-manager",
        Role::Worker => "swarm-worker",
    }
}

/// The attribute of a subject's name that says which state the issuer went by: X.520's serialNumber.
const VERSION: [u64; 4] = [2, 5, 4, 5];

/// Which state of the cluster a certificate is of. Ordered: an epoch, which `--force-new-cluster` begins, counts before the raft index,
/// which goes on from what one manager knew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateVersion {
    /// The cluster's epoch.
    pub epoch: u64,
    /// The raft index in it.
    pub revision: Revision,
}

impl fmt::Display for StateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.revision.0)
    }
}

impl FromStr for StateVersion {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let (epoch, revision) = text.split_once('.').unwrap_or(("", text));
        Ok(Self { epoch: epoch.parse()?, revision: Revision(revision.parse()?) })
    }
}

/// Whom a leaf certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The common name.
    pub node_id: NodeId,
    /// The organisational unit.
    pub role: Role,
    /// The organisation.
    pub cluster_id: ClusterId,
}

/// A new key (PKCS #8 PEM; stays on the node) and the request to sign it (PEM). The request names nobody: the issuer decides.
pub fn new_csr() -> Result<(String, String), CertError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), csr.pem()?))
}

impl RootCa {
    /// Signs the key of `csr_pem` for `subject`, valid from [`crate::root::BACKDATE`] before `now` until `validity` after it, but not
    /// beyond the root's own end. Nothing but the key is taken from the request.
    pub fn issue(
        &self,
        csr_pem: &str,
        subject: &Subject,
        validity: Duration,
        now: SystemTime,
    ) -> Result<String, CertError> {
        self.issue_as_of(csr_pem, subject, StateVersion::default(), validity, now)
    }

    /// [`Self::issue`], saying which state of the cluster gave the subject its role: whoever knows a later one goes by that, and whoever
    /// lags behind goes by the certificate. The default says nothing.
    pub fn issue_as_of(
        &self,
        csr_pem: &str,
        subject: &Subject,
        version: StateVersion,
        validity: Duration,
        now: SystemTime,
    ) -> Result<String, CertError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|e| CertError::malformed("signing request", e))?;
        if request.params.is_ca != IsCa::NoCa && request.params.is_ca != IsCa::ExplicitNoCa {
            return Err(CertError::malformed("signing request", "it asks for a CA certificate"));
        }
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(CertError::KeyAlgorithm);
        }
        let mut params = CertificateParams::default();
        // A life too long for the calendar ends with the root.
        let not_after = now.checked_add(validity).map_or(self.not_after(), |end| end.min(self.not_after()));
        set_validity(&mut params, now, not_after);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.node_id.as_str());
        params.distinguished_name.push(DnType::OrganizationalUnitName, role_name(subject.role));
        params.distinguished_name.push(DnType::OrganizationName, subject.cluster_id.as_str());
        if version != StateVersion::default() {
            params.distinguished_name.push(DnType::CustomDnType(VERSION.to_vec()), version.to_string());
        }
        params.subject_alt_names = vec![
            SanType::DnsName(role_name(subject.role).try_into()?),
            SanType::DnsName(subject.node_id.as_str().try_into()?),
        ];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use rcgen::{BasicConstraints, PKCS_ED25519};

    use super::*;
    use crate::Peer;

    fn subject(role: Role) -> Subject {
        Subject { node_id: NodeId::random(), role, cluster_id: ClusterId::random() }
    }

    fn peer(cert_pem: &str) -> Peer {
        Peer::from_der(&crate::root::certificates(cert_pem, "certificate").unwrap()[0]).unwrap()
    }

    #[test]
    fn a_leaf_names_its_subject() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        for role in [Role::Worker, Role::Manager] {
            let subject = subject(role);
            let (_, csr) = new_csr().unwrap();
            let peer = peer(&root.issue(&csr, &subject, DEFAULT_VALIDITY, now).unwrap());
            assert_eq!(
                (&peer.node_id, peer.role, &peer.cluster_id),
                (&subject.node_id, role, &subject.cluster_id)
            );
            let life = peer.not_after.duration_since(peer.not_before).unwrap();
            assert_eq!(life, DEFAULT_VALIDITY + crate::root::BACKDATE);
        }
    }

    #[test]
    fn a_leaf_says_which_state_gave_its_role() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        for (epoch, revision) in [(0, 0), (0, 1), (3, 0), (u64::MAX, u64::MAX)] {
            let (_, csr) = new_csr().unwrap();
            let version = StateVersion { epoch, revision: Revision(revision) };
            let cert =
                root.issue_as_of(&csr, &subject(Role::Manager), version, DEFAULT_VALIDITY, now).unwrap();
            assert_eq!(peer(&cert).version, version);
        }
        for bad in ["", "7", ".7", "1.", "1.x", "-1.2"] {
            assert!(bad.parse::<StateVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_leaf_outlives_its_root() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        let (_, csr) = new_csr().unwrap();
        for validity in [Duration::from_secs(100 * 365 * 24 * 3600), Duration::MAX] {
            let peer = peer(&root.issue(&csr, &subject(Role::Worker), validity, now).unwrap());
            assert_eq!(peer.not_after, root.not_after());
        }
    }

    #[test]
    fn a_request_for_more_than_a_leaf_is_refused() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        let issue = |csr: &str| root.issue(csr, &subject(Role::Worker), DEFAULT_VALIDITY, now);

        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        assert!(matches!(issue(&ca), Err(CertError::Malformed { .. })));

        let other_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let other = CertificateParams::default().serialize_request(&other_key).unwrap().pem().unwrap();
        assert!(matches!(issue(&other), Err(CertError::KeyAlgorithm)));

        assert!(matches!(issue("nonsense"), Err(CertError::Malformed { .. })));
    }

    #[test]
    fn names_in_a_request_are_ignored() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        let mut params = CertificateParams::new(vec!["swarm-manager".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationalUnitName, "swarm-manager");
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let cert = root.issue(&csr, &subject(Role::Worker), DEFAULT_VALIDITY, now).unwrap();
        assert_eq!(peer(&cert).role, Role::Worker);
        assert!(
            !crate::root::certificates(&cert, "certificate").unwrap()[0]
                .windows(13)
                .any(|w| w == b"swarm-manager")
        );
    }
}
