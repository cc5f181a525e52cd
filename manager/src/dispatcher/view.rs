//! What all nodes' assignments are cut from, computed once per revision and shared.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use proto::model::{EndpointDigest, NetworkId, Service, TaskState};

use crate::store::state::State;

/// The state, with what each node would otherwise have to look for in it.
#[derive(Default)]
pub struct View {
    /// The state that this is a view of.
    pub state: Arc<State>,
    /// The services on each network, by their specs.
    pub services: BTreeMap<NetworkId, Vec<Arc<Service>>>,
    /// The services that publish through the mesh: every node needs them.
    pub meshed: Vec<Arc<Service>>,
    /// The running endpoints of each network, `ingress` among them.
    pub digests: BTreeMap<NetworkId, EndpointDigest>,
}

impl View {
    /// The view of `state`.
    pub fn of(state: Arc<State>) -> Self {
        let mut view = Self::default();
        for service in state.services.values() {
            for config in &service.spec.task.networks {
                if let Some(network) = state.networks.get(config.target.as_str()) {
                    view.services.entry(network.id.clone()).or_default().push(service.clone());
                }
            }
            if service.spec.uses_ingress() {
                view.meshed.push(service.clone());
            }
        }
        let ingress = state.ingress_network().map(|n| n.id.clone());
        for task in state.tasks.values().filter(|t| t.status.state == TaskState::Running) {
            let Some(allocation) = &task.allocation else { continue };
            for attachment in &allocation.attachments {
                view.digests.entry(attachment.network.clone()).or_default().add(&task.id);
            }
            if let Some(ingress) = ingress.as_ref().filter(|_| !allocation.ingress_addrs.is_empty()) {
                view.digests.entry(ingress.clone()).or_default().add(&task.id);
            }
        }
        view.state = state;
        view
    }
}

/// The newest view: whoever asks first at a revision computes it.
#[derive(Default)]
pub struct ViewCache(Mutex<Arc<View>>);

impl ViewCache {
    /// The view of `state`, or of a newer one that somebody asked for already.
    pub fn get(&self, state: Arc<State>) -> Arc<View> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The first state that has anything in it has a revision above that of the default view.
        if newest.state.revision < state.revision {
            *newest = Arc::new(View::of(state));
        }
        newest.clone()
    }
}
