//! What a joiner, and a node that renews its certificate, say to a manager.

use std::net::{IpAddr, SocketAddr};

use proto::{
    error::ApiError,
    pb::{self, ca_client::CaClient},
};
use tonic::transport::Channel;

use crate::{
    CertError, Connector, Identity, JoinToken, Target,
    issue::new_csr,
    transport::{DialOptions, explain},
};

/// A new member.
#[derive(Debug)]
pub struct Joined {
    /// Its identity; not yet on disk.
    pub identity: Identity,
    /// Its address as the manager saw it, for who gave no advertise address.
    pub observed_addr: Option<IpAddr>,
}

/// Becomes a member: fetches the root certificate from `manager`, compares it with the token's digest, and only then, on a verified
/// connection, shows the token and asks for a certificate. The key is made here and stays here.
pub async fn join(
    manager: SocketAddr,
    token: &JoinToken,
    availability: pb::Availability,
    hostname: &str,
    options: DialOptions,
) -> Result<Joined, ApiError> {
    let target = Target::manager(manager);
    let root_pem = {
        let channel = Connector::unverified()?.with_options(options).connect(target.clone()).await?;
        let reply =
            CaClient::new(channel).get_root_ca(pb::GetRootCaRequest {}).await.map_err(|s| explain(&s))?;
        reply.into_inner().cert_pem
    };
    token.verify_root(&root_pem)?;
    let channel = Connector::joiner(&root_pem)?.with_options(options).connect(target).await?;
    let (reply, key_pem) = issue(channel, token.to_string(), availability, hostname).await?;
    // The roots that count are those that the verified connection delivered: during a rotation there are several.
    let identity = Identity::new(&reply.root_pem, &reply.cert_pem, &key_pem)?;
    Ok(Joined { identity, observed_addr: reply.observed_addr.parse().ok() })
}

/// Gets a new certificate for the member that `channel` authenticates: for a new key, with the role that the cluster now gives it.
pub async fn renew(channel: Channel, current: &Identity) -> Result<Identity, ApiError> {
    let (reply, key_pem) = issue(channel, String::new(), pb::Availability::default(), "").await?;
    let renewed = Identity::new(&reply.root_pem, &reply.cert_pem, &key_pem)?;
    if renewed.node_id() != current.node_id() {
        let (wanted, peer) = (current.node_id().clone(), renewed.peer());
        return Err(
            CertError::OtherSubject { wanted, found: peer.node_id.clone(), found_role: peer.role }.into()
        );
    }
    Ok(renewed)
}

async fn issue(
    channel: Channel,
    token: String,
    availability: pb::Availability,
    hostname: &str,
) -> Result<(pb::IssueCertificateReply, String), ApiError> {
    let (key_pem, csr_pem) = new_csr()?;
    let request = pb::IssueCertificateRequest {
        csr_pem,
        token,
        availability: availability.into(),
        hostname: hostname.to_owned(),
    };
    let reply = CaClient::new(channel).issue_certificate(request).await.map_err(|s| explain(&s))?;
    Ok((reply.into_inner(), key_pem))
}
