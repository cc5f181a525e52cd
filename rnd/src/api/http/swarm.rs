//! The swarm itself.

use axum::{extract::State, response::Response};
use docker_api::swarm::{InitRequest, JoinRequest, Swarm, SwarmSpec, UnlockKey};
use proto::{
    model::{Cluster, ClusterSpec},
    pb::{self, local_server::Local as _},
};
use tonic::Request;

use super::{
    Answer, Api,
    request::{Json, Params},
    respond::{Refusal, json},
};

impl Api {
    /// The cluster, as the managers know it.
    pub(super) async fn cluster(&self) -> Result<Cluster, Refusal> {
        let reply = self.control().get_cluster(pb::GetClusterRequest {}).await?.into_inner();
        Ok(Cluster::try_from(reply).map_err(tonic::Status::from)?)
    }
}

/// `GET /swarm`.
pub async fn inspect(State(api): State<Api>) -> Answer {
    json(&Swarm::from(&api.cluster().await?))
}

/// `POST /swarm/init`: the node's id.
pub async fn init(State(api): State<Api>, Json(request): Json<InitRequest>) -> Answer {
    let request = pb::SwarmInitRequest::try_from(request)?;
    let reply = api.local.swarm_init(Request::new(request)).await?.into_inner();
    json(&reply.node_id)
}

/// `POST /swarm/join`.
pub async fn join(State(api): State<Api>, Json(request): Json<JoinRequest>) -> Answer {
    let request = pb::SwarmJoinRequest::try_from(request)?;
    api.local.swarm_join(Request::new(request)).await?;
    Ok(Response::default())
}

/// `POST /swarm/leave`.
pub async fn leave(State(api): State<Api>, query: Params) -> Answer {
    let request = pb::SwarmLeaveRequest { force: query.flag("force") };
    api.local.swarm_leave(Request::new(request)).await?;
    Ok(Response::default())
}

/// `POST /swarm/update`.
pub async fn update(State(api): State<Api>, query: Params, Json(spec): Json<SwarmSpec>) -> Answer {
    let version = query.version()?;
    let now = api.cluster().await?;
    let wanted: ClusterSpec = spec.onto(&now.spec)?;
    let request = pb::UpdateClusterRequest {
        version,
        spec: Some((&wanted).into()),
        rotate_worker_token: query.flag("rotateWorkerToken"),
        rotate_manager_token: query.flag("rotateManagerToken"),
        // Docker takes the switch without a lock, and does nothing.
        rotate_unlock_key: query.flag("rotateManagerUnlockKey") && wanted.autolock,
        rotate_root: spec.rotate_root(),
    };
    api.control().update_cluster(request).await?;
    Ok(Response::default())
}

/// `GET /swarm/unlockkey`.
pub async fn unlock_key(State(api): State<Api>) -> Answer {
    let reply = api.control().get_unlock_key(pb::GetUnlockKeyRequest {}).await?.into_inner();
    json(&UnlockKey { unlock_key: reply.key })
}

/// `POST /swarm/unlock`.
pub async fn unlock(State(api): State<Api>, Json(key): Json<UnlockKey>) -> Answer {
    api.local.swarm_unlock(Request::new(pb::SwarmUnlockRequest { key: key.unlock_key })).await?;
    Ok(Response::default())
}
