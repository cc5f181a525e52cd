//! A cluster changes its root: the new one is also certified by the old one, so that nodes that know only the old one believe
//! certificates of the new.

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, KeyPair, KeyUsagePurpose,
};
use x509_parser::{
    asn1_rs::Tag,
    prelude::{FromDer, X509Certificate, X509Name},
};

use crate::{
    CertError, RootCa,
    root::{certificates, set_validity},
};

/// How long a root that a user brings must still be valid (swarmkit: a year).
pub const MIN_ROOT_LIFE: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);

impl RootCa {
    /// `next`'s name and key, certified by this root: belongs into the chain of every certificate that `next` issues while some nodes
    /// trust only this one.
    ///
    /// # Errors
    /// `next` has a name that cannot be written again, or signing fails.
    pub fn certify(&self, next: &RootCa, now: SystemTime) -> Result<String, CertError> {
        let bundle = certificates(next.cert_pem(), "root certificate")?;
        let Some(der) = bundle.first() else {
            return Err(CertError::malformed("root certificate", "it holds no certificate"));
        };
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|e| CertError::malformed("root certificate", e))?;
        let key = KeyPair::from_pem(next.key_pem()).map_err(|e| CertError::malformed("root key", e))?;
        let mut params = CertificateParams::default();
        set_validity(&mut params, now, next.not_after().min(self.not_after()));
        params.distinguished_name = name(parsed.subject())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&key, &self.issuer)?.pem())
    }
}

/// The same name, byte for byte: that is how issuers are found.
fn name(of: &X509Name<'_>) -> Result<DistinguishedName, CertError> {
    let mut name = DistinguishedName::new();
    for attribute in of.iter_attributes() {
        let unreadable = |e: &dyn std::fmt::Display| CertError::malformed("root certificate", e);
        let oid: Vec<u64> = attribute
            .attr_type()
            .iter()
            .map(Iterator::collect)
            .ok_or_else(|| unreadable(&"an attribute of its name is too long"))?;
        let text = attribute.as_str().map_err(|e| unreadable(&e))?;
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => {
                DnValue::PrintableString(text.try_into().map_err(|e: rcgen::Error| unreadable(&e))?)
            }
            Tag::Ia5String => DnValue::Ia5String(text.try_into().map_err(|e: rcgen::Error| unreadable(&e))?),
            _ => DnValue::Utf8String(text.to_owned()),
        };
        name.push(DnType::from_oid(&oid), value);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::model::{ClusterId, NodeId, Role};

    use super::*;
    use crate::{Identity, Subject, issue::DEFAULT_VALIDITY, new_csr};

    #[test]
    fn what_the_next_root_issues_is_believed_by_who_knows_the_old_one() {
        let now = SystemTime::now();
        let (old, next) = (RootCa::create(now).unwrap(), RootCa::create(now).unwrap());
        let cross = old.certify(&next, now).unwrap();
        let (key, csr) = new_csr().unwrap();
        let subject =
            Subject { node_id: NodeId::random(), role: Role::Worker, cluster_id: ClusterId::random() };
        let leaf = next.issue(&csr, &subject, DEFAULT_VALIDITY, now).unwrap();
        assert!(Identity::new(old.cert_pem(), &leaf, &key).is_err(), "without the chain it is a stranger's");
        let chain = format!("{leaf}{cross}");
        let before = Identity::new(old.cert_pem(), &chain, &key).unwrap();
        let both = Identity::new(&format!("{}{}", old.cert_pem(), next.cert_pem()), &chain, &key).unwrap();
        let after = Identity::new(next.cert_pem(), &chain, &key).unwrap();
        assert_eq!(before.issuer(), None, "by way of the old one only");
        assert_eq!(both.issuer(), Some(next.digest()));
        assert_eq!(after.issuer(), Some(next.digest()));
    }

    #[test]
    fn a_root_of_another_name_can_follow() {
        let now = SystemTime::now();
        let old = RootCa::create(now).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        set_validity(&mut params, now, now + MIN_ROOT_LIFE * 2);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CountryName, DnValue::PrintableString("CH".try_into().unwrap()));
        params.distinguished_name.push(DnType::OrganizationName, "Our house");
        params.distinguished_name.push(DnType::CommonName, "our root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = RootCa::from_pem(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem()).unwrap();
        let cross = old.certify(&own, now).unwrap();
        let (key, csr) = new_csr().unwrap();
        let subject =
            Subject { node_id: NodeId::random(), role: Role::Manager, cluster_id: ClusterId::random() };
        let leaf = own.issue(&csr, &subject, DEFAULT_VALIDITY, now).unwrap();
        assert!(Identity::new(old.cert_pem(), &format!("{leaf}{cross}"), &key).is_ok());
    }
}
