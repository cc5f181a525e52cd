//! Keeps the node's certificate in force without a restart.

use std::{net::SocketAddr, time::SystemTime};

use certs::{CertificateDir, Connector, SharedIdentity, Target, join, renewal};
use tokio::sync::watch;
use worker::agent::AgentStatus;

/// Renews between 50 and 80 % of the certificate's life, for as long as it is polled.
pub async fn run(identity: SharedIdentity, dir: CertificateDir, mut status: watch::Receiver<AgentStatus>) {
    loop {
        let current = identity.current();
        tokio::time::sleep(renewal::wait(current.peer(), SystemTime::now(), rand::random())).await;
        let mut failures = 0;
        loop {
            let Ok(manager) = status.wait_for(|s| s.manager.is_some()).await.map(|s| s.manager) else {
                return;
            };
            let Some(manager) = manager else { continue };
            match renew(manager, &identity, &dir).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "the node's certificate could not be renewed; trying again");
                    tokio::time::sleep(renewal::retry(failures)).await;
                    failures += 1;
                }
            }
        }
    }
}

async fn renew(manager: SocketAddr, identity: &SharedIdentity, dir: &CertificateDir) -> anyhow::Result<()> {
    let channel = Connector::member(identity.clone()).connect(Target::manager(manager)).await?;
    let renewed = join::renew(channel, &identity.current()).await?;
    dir.save(&renewed)?;
    identity.replace(renewed);
    tracing::info!("certificate renewed");
    Ok(())
}
