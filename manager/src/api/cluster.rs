//! The cluster object.

use certs::{JoinToken, RootDigest};
use proto::{
    error::ApiError,
    model::{Cluster, ClusterSpec, Revision, RootCa, RootRotation, UnlockKey},
    pb,
};

use super::{Api, validate};
use crate::{
    ca::rotation,
    store::{command::Command, seal, state::State},
};

impl Api {
    /// The cluster, without its secrets but for the join tokens, which `swarm join-token` shows.
    pub(super) async fn cluster(&self) -> Result<Cluster, ApiError> {
        shown(&*self.fresh().await?)
    }

    /// What unlocks the managers' disks; empty while autolock is off.
    pub(super) async fn unlock_key(&self) -> Result<UnlockKey, ApiError> {
        Ok(known(&*self.fresh().await?)?.unlock_key.clone())
    }

    /// A new spec, if the version is still the one that was read, new join tokens, a new unlock key, a new root.
    pub(super) async fn set_cluster(&self, request: pb::UpdateClusterRequest) -> Result<Cluster, ApiError> {
        // Before anything is changed: what is refused changes nothing.
        let autolock = match &request.spec {
            Some(spec) => spec.autolock,
            None => known(&self.store.read())?.spec.autolock,
        };
        if request.rotate_unlock_key && !autolock {
            return Err(ApiError::precondition("autolock is off: there is no unlock key")
                .help("rnctl swarm update --autolock turns it on and shows the key"));
        }
        if let Some(spec) = request.spec {
            let spec = ClusterSpec::from(spec);
            validate::cluster::spec(&spec, self.limits)?;
            let autolock = spec.autolock;
            self.propose(Command::SetClusterSpec { expect: Revision(request.version), spec }).await?;
            let locked = !known(&self.store.read())?.unlock_key.0.is_empty();
            match (autolock, locked) {
                (true, false) => self.propose(Command::SetUnlockKey(seal::new_unlock_key()?)).await?,
                (false, true) => self.propose(Command::SetUnlockKey(UnlockKey::default())).await?,
                (true, true) | (false, false) => {}
            }
        }
        if request.rotate_unlock_key {
            self.propose(Command::SetUnlockKey(seal::new_unlock_key()?)).await?;
        }
        if let Some(root) = request.rotate_root {
            let state = self.fresh().await?;
            let given = (!root.cert_pem.is_empty() || !root.key_pem.is_empty())
                .then_some((root.cert_pem.as_str(), root.key_pem.as_str()));
            let next = rotation::begin(&known(&state)?.root_ca, given)?;
            self.propose(Command::BeginRootRotation(Box::new(next))).await?;
        }
        if request.rotate_worker_token || request.rotate_manager_token {
            let state = self.store.read();
            let digest = RootDigest::of_pem(&known(&state)?.root_ca.cert_pem)?;
            let token = |wanted: bool| match wanted {
                true => JoinToken::generate(digest).map(|t| Some(t.to_string())),
                false => Ok(None),
            };
            let command = Command::SetJoinTokens {
                worker: token(request.rotate_worker_token)?,
                manager: token(request.rotate_manager_token)?,
            };
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
    let rotation = cluster.root_ca.rotation.as_ref();
    let rotation = rotation.map(|r| Box::new(RootRotation { key_pem: String::new(), ..(**r).clone() }));
    Ok(Cluster {
        root_ca: RootCa { key_pem: String::new(), rotation, ..cluster.root_ca.clone() },
        network_keys: Vec::new(),
        unlock_key: UnlockKey::default(),
        ..cluster.clone()
    })
}
