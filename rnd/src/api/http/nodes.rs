//! Nodes.

use axum::{extract::State, response::Response};
use docker_api::node::{self, DockerNodeSpec};
use proto::{
    model::{Cluster, Node, NodeSpec},
    pb,
};

use super::{
    Answer, Api,
    request::{Json, Key, Params},
    respond::{Refusal, all, json},
};

impl Api {
    /// All nodes, as the managers know them.
    pub(super) async fn nodes(&self) -> Result<Vec<Node>, Refusal> {
        all(self.control().list_nodes(pb::ListNodesRequest {}).await?.into_inner().nodes)
    }

    /// The node that `key` means.
    pub(super) async fn node(&self, key: String) -> Result<Node, Refusal> {
        let reply = self.control().get_node(pb::GetRequest { key }).await?.into_inner();
        Ok(Node::try_from(reply).map_err(tonic::Status::from)?)
    }
}

/// What a node's certificate is of: while the root is being replaced, of the next one once it has moved.
fn root_of<'a>(cluster: &'a Cluster, node: &Node) -> &'a str {
    match &cluster.root_ca.rotation {
        Some(rotation) if rotation.moved.contains(&node.id) => &rotation.cert_pem,
        _ => &cluster.root_ca.cert_pem,
    }
}

/// `GET /nodes`.
pub async fn list(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&node::FILTERS)?;
    node::check_filters(&filters)?;
    let (nodes, cluster) = (api.nodes().await?, api.cluster().await?);
    let wanted = nodes.iter().filter(|n| node::is_wanted(n, &filters));
    json(&wanted.map(|n| node::node(n, root_of(&cluster, n))).collect::<Vec<_>>())
}

/// `GET /nodes/{id}`.
pub async fn inspect(State(api): State<Api>, Key(key): Key) -> Answer {
    let found = api.node(key).await?;
    let cluster = api.cluster().await?;
    json(&node::node(&found, root_of(&cluster, &found)))
}

/// `POST /nodes/{id}/update`.
pub async fn update(
    State(api): State<Api>,
    Key(key): Key,
    query: Params,
    Json(spec): Json<DockerNodeSpec>,
) -> Answer {
    let version = query.version()?;
    let spec = NodeSpec::try_from(spec)?;
    let request = pb::UpdateNodeRequest { key, version, spec: Some((&spec).into()) };
    api.control().update_node(request).await?;
    Ok(Response::default())
}

/// `DELETE /nodes/{id}`.
pub async fn remove(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    api.control().remove_node(pb::RemoveRequest { key, force: query.flag("force") }).await?;
    Ok(Response::default())
}
