//! The root of trust of a cluster.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::CertError;

/// Life of a root certificate (swarmkit `ca.RootCAExpiration`: 20 years of 365 days).
pub const ROOT_VALIDITY: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How far certificates reach back, so that a slow clock accepts them (swarmkit `ca.CertBackdate`).
pub const BACKDATE: Duration = Duration::from_secs(3600);
/// Common name of every root.
pub const ROOT_COMMON_NAME: &str = "swarm-ca";

/// SHA-256 over the DER of the certificates of a root bundle, in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RootDigest([u8; 32]);

impl RootDigest {
    /// The digest of a bundle. White space and comments of the PEM do not matter.
    pub fn of_pem(root_pem: &str) -> Result<Self, CertError> {
        Ok(Self::of_der(&certificates(root_pem, "root certificate")?))
    }

    /// The digest of a bundle that has been read.
    pub(crate) fn of_der(bundle: &[CertificateDer<'_>]) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for certificate in bundle {
            context.update(certificate);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }

    /// A digest from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A root certificate with its key: can issue.
pub struct RootCa {
    cert_pem: String,
    key_pem: String,
    not_after: SystemTime,
    digest: RootDigest,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

impl RootCa {
    /// A new ECDSA P-256 root, valid for [`ROOT_VALIDITY`] from `now`.
    pub fn create(now: SystemTime) -> Result<Self, CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        set_validity(&mut params, now, now + ROOT_VALIDITY);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, ROOT_COMMON_NAME);
        // No path length: during a rotation the old root signs the new one as an intermediate.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key)?;
        Self::from_pem(&cert.pem(), &key.serialize_pem())
    }

    /// A root from its PEM texts. Refuses a key that is not the certificate's.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let key = KeyPair::from_pem(key_pem).map_err(|e| CertError::malformed("root key", e))?;
        let bundle = certificates(cert_pem, "root certificate")?;
        let [der] = bundle.as_slice() else {
            return Err(CertError::malformed(
                "root certificate",
                format!("{} certificates, not 1", bundle.len()),
            ));
        };
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|e| CertError::malformed("root certificate", e))?;
        if !parsed.is_ca() {
            return Err(CertError::malformed("root certificate", "it is not a CA's"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CertError::KeyMismatch { what: "root key" });
        }
        Ok(Self {
            cert_pem: cert_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            not_after: time_of(parsed.validity().not_after.timestamp()),
            digest: RootDigest::of_pem(cert_pem)?,
            issuer: Issuer::from_ca_cert_der(der, key)?,
        })
    }

    /// The certificate.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The key: belongs in the replicated store and nowhere else.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What join tokens pin.
    pub fn digest(&self) -> RootDigest {
        self.digest
    }

    /// The end of its life; nothing that it issues lives longer.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

impl fmt::Debug for RootCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCa").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// All certificates of a PEM text; at least one.
pub(crate) fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| CertError::malformed(what, e))?;
    if found.is_empty() { Err(CertError::malformed(what, "it holds no certificate")) } else { Ok(found) }
}

/// Sets the validity of a certificate issued at `now`: whole seconds, reaching [`BACKDATE`] back.
pub(crate) fn set_validity(params: &mut CertificateParams, now: SystemTime, not_after: SystemTime) {
    let seconds =
        |time: SystemTime| Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    // rcgen speaks the `time` crate's dates; counting from the epoch needs none of its names.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + seconds(now).saturating_sub(BACKDATE);
    params.not_after = epoch + seconds(not_after);
}

/// The time of a certificate field.
pub(crate) fn time_of(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_root_survives_its_pem() {
        let root = RootCa::create(SystemTime::now()).unwrap();
        let read = RootCa::from_pem(root.cert_pem(), root.key_pem()).unwrap();
        assert_eq!(read.digest(), root.digest());
        let years = read.not_after().duration_since(SystemTime::now()).unwrap().as_secs() / (365 * 24 * 3600);
        assert!((19..=20).contains(&years), "{years}");
    }

    #[test]
    fn the_digest_ignores_white_space_and_tells_roots_apart() {
        let (one, two) =
            (RootCa::create(SystemTime::now()).unwrap(), RootCa::create(SystemTime::now()).unwrap());
        let spaced = format!("# our root\n\n{}\n\n", one.cert_pem());
        assert_eq!(RootDigest::of_pem(&spaced).unwrap(), one.digest());
        assert_ne!(one.digest(), two.digest());
        let bundle = format!("{}{}", one.cert_pem(), two.cert_pem());
        assert_ne!(RootDigest::of_pem(&bundle).unwrap(), one.digest());
    }

    #[test]
    fn a_foreign_key_or_no_certificate_is_refused() {
        let (one, two) =
            (RootCa::create(SystemTime::now()).unwrap(), RootCa::create(SystemTime::now()).unwrap());
        assert!(matches!(
            RootCa::from_pem(one.cert_pem(), two.key_pem()),
            Err(CertError::KeyMismatch { .. })
        ));
        assert!(matches!(RootCa::from_pem("", one.key_pem()), Err(CertError::Malformed { .. })));
        assert!(RootDigest::of_pem("nothing").is_err());
    }
}
