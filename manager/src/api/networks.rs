//! Networks.

use std::time::Duration;

use proto::{
    error::ApiError,
    model::{Meta, Network, NetworkId, NetworkSpec, TaskState},
    pb,
};
use tokio::time::{Instant, timeout_at};

use super::{Api, validate};
use crate::store::{command::Command, state::State};

/// How long `network rm` waits for tasks that are stopping already, so that it works right after `service rm`: their grace
/// period is 10 s by default.
const STOPPING: Duration = Duration::from_secs(15);

impl Api {
    /// Creates a network; the allocator gives it addresses in a moment.
    pub(super) async fn new_network(&self, spec: NetworkSpec) -> Result<Network, ApiError> {
        let state = self.fresh().await?;
        validate::network::create(&state, &spec)?;
        let network = Network {
            id: NetworkId::random(),
            meta: Meta::default(),
            spec,
            allocation: None,
            conditions: Vec::new(),
        };
        let id = network.id.clone();
        self.propose(Command::CreateNetwork(Box::new(network))).await?;
        Ok((*self.store.read().find_network(id.as_str())?).clone())
    }

    /// Removes a network that nothing uses.
    pub(super) async fn drop_network(&self, key: &str) -> Result<pb::RemoveReply, ApiError> {
        let network = self.fresh().await?.find_network(key)?;
        let deadline = Instant::now() + STOPPING;
        let mut changed = self.store.watch();
        loop {
            changed.mark_unchanged();
            match in_use(&self.store.read(), &network) {
                Use::Free => break,
                Use::Permanent(error) => return Err(error),
                Use::Stopping(error) => {
                    if timeout_at(deadline, changed.changed()).await.is_err() {
                        return Err(error);
                    }
                }
            }
        }
        self.propose(Command::RemoveNetwork(network.id.clone())).await?;
        Ok(pb::RemoveReply { id: network.id.to_string(), name: network.spec.name.clone() })
    }
}

enum Use {
    Free,
    /// By something that stays.
    Permanent(ApiError),
    /// By tasks only that are to stop.
    Stopping(ApiError),
}

fn in_use(state: &State, network: &Network) -> Use {
    let name = &network.spec.name;
    let id = network.id.as_str();
    for service in state.services.values() {
        if network.spec.ingress && service.spec.uses_ingress() {
            return Use::Permanent(
                ApiError::precondition(format!(
                    "ingress network cannot be removed because service {} depends on it",
                    service.spec.name
                ))
                .help("remove the services that publish ports in ingress mode first"),
            );
        }
        if service.spec.task.networks.iter().any(|n| n.target == id) {
            return Use::Permanent(
                ApiError::precondition(format!("network {name} is in use by service {}", service.spec.name))
                    .help(format!(
                        "rnctl service rm {0}; or take it off: rnctl service update --network-rm {name} {0}",
                        service.spec.name
                    )),
            );
        }
    }
    let mut stopping = None;
    for task in state.tasks.values().filter(|t| !t.status.state.is_terminal()) {
        let by_spec = task.spec.networks.iter().any(|n| n.target == id);
        let meshed = task.allocation.as_ref().is_some_and(|a| !a.ingress_addrs.is_empty());
        if !(by_spec || network.spec.ingress && meshed) {
            continue;
        }
        let node = task.node_id.as_ref().map(|n| format!(" on node {}", label(state, n))).unwrap_or_default();
        let what = format!("network {name} is in use by {}{node}", task.described());
        if task.attached_container.is_some() {
            return Use::Permanent(ApiError::precondition(what).help(format!(
                "stop or remove it there: rnctl rm -f {}; a node that is down frees it with rnctl node rm",
                task.name()
            )));
        }
        if task.desired < TaskState::Shutdown {
            return Use::Permanent(ApiError::precondition(what));
        }
        stopping.get_or_insert_with(|| {
            ApiError::precondition(format!("{what}, which is shutting down"))
            .help("try again when it has stopped: its grace period is --stop-grace-period of its service; a node that is down frees it with rnctl node rm")
        });
    }
    stopping.map_or(Use::Free, Use::Stopping)
}

fn label<'a>(state: &'a State, node: &'a proto::model::NodeId) -> &'a str {
    state.nodes.get(node).map_or(node.as_str(), |n| validate::node::label(n))
}
