//! The cluster object.

use certs::{JoinToken, RootDigest};
use proto::{
    error::ApiError,
    model::{Cluster, ClusterSpec, Revision, RootCa},
};

use super::{Api, validate};
use crate::store::{command::Command, state::State};

impl Api {
    /// The cluster, without its secrets but for the join tokens, which `swarm join-token` shows.
    pub(super) async fn cluster(&self) -> Result<Cluster, ApiError> {
        shown(&*self.fresh().await?)
    }

    /// A new spec, if the version is still `version`, and new join tokens.
    pub(super) async fn set_cluster(
        &self,
        version: Revision,
        spec: Option<ClusterSpec>,
        rotate_worker: bool,
        rotate_manager: bool,
    ) -> Result<Cluster, ApiError> {
        if let Some(spec) = spec {
            validate::cluster::spec(&spec)?;
            self.propose(Command::SetClusterSpec { expect: version, spec }).await?;
        }
        if rotate_worker || rotate_manager {
            let state = self.store.read();
            let digest = RootDigest::of_pem(&known(&state)?.root_ca.cert_pem)?;
            let token = |wanted: bool| match wanted {
                true => JoinToken::generate(digest).map(|t| Some(t.to_string())),
                false => Ok(None),
            };
            let command =
                Command::SetJoinTokens { worker: token(rotate_worker)?, manager: token(rotate_manager)? };
            self.propose(command).await?;
        }
        shown(&self.store.read())
    }
}

fn known(state: &State) -> Result<&Cluster, ApiError> {
    state.cluster.as_deref().ok_or_else(|| ApiError::unavailable("this manager does not know the swarm yet"))
}

fn shown(state: &State) -> Result<Cluster, ApiError> {
    let cluster = known(state)?;
    Ok(Cluster {
        root_ca: RootCa { key_pem: String::new(), ..cluster.root_ca.clone() },
        network_keys: Vec::new(),
        ..cluster.clone()
    })
}
