//! How far this node is with what the managers have told it, for them to know: pure.

use gossip::PeerView;
use network::assigned::{Assigned, Fault, Fence};

use super::digest;

/// How far this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last assignments that are wholly in the kernel, and whose endpoints are all known.
    pub applied: Fence,
    /// What keeps the newest from being that; empty when nothing does.
    pub lag: String,
    /// Faults that this node cannot mend by itself, for instance a port that another program holds.
    pub faults: Vec<Fault>,
}

impl Progress {
    /// After a pass over these assignments and this view, of which `failed` could not be brought to what it should be.
    pub fn after(
        self,
        assigned: &Assigned,
        view: &PeerView,
        failed: Option<String>,
        faults: Vec<Fault>,
    ) -> Self {
        let unknown = || {
            let network = digest::mismatched(assigned, view)?;
            let name = assigned.networks.get(network).map_or(network.as_str(), |n| n.spec.name.as_str());
            Some(format!("does not yet know the endpoints of network {name} as the managers do"))
        };
        match failed.or_else(unknown) {
            None => Self { applied: assigned.fence(), lag: String::new(), faults },
            Some(lag) => Self { lag, faults, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proto::model::{NetworkId, endpoint_digest};

    use super::*;
    use network::fixture::World;

    #[test]
    fn applied_is_what_is_in_the_kernel_with_all_its_endpoints() {
        let mut world = World::new();
        let network: NetworkId = "app".parse().unwrap();
        let mut digest = endpoint_digest([]);
        world.assigned.generation = 7;
        let seventh = world.assigned.fence();
        let at = Progress::default().after(&world.assigned, &world.view, None, Vec::new());
        assert_eq!(at, Progress { applied: seventh, ..Progress::default() });

        world.assigned.generation = 8;
        let at = at.after(&world.assigned, &world.view, Some("no VXLAN".into()), Vec::new());
        assert_eq!(at, Progress { applied: seventh, lag: "no VXLAN".into(), ..Progress::default() });
        digest.add(&"missing".parse().unwrap());
        world.assigned.digests.insert(network, digest);
        let fault = Fault { kind: "port 80/tcp".into(), message: "in use".into() };
        let at = at.after(&world.assigned, &world.view, None, vec![fault.clone()]);
        assert_eq!(at.faults, [fault]);
        assert!(at.applied == seventh && at.lag.contains("endpoints of network app"), "{at:?}");
    }
}
