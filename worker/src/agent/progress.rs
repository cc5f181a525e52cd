//! How far this node is with what the managers have told it, for them to know: pure.

use std::fmt;

use gossip::PeerView;
use network::{
    assigned::{Assigned, Fence},
    error::{Fault, UnitFailure},
};

use super::digest;

/// How far this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last assignments that are wholly in the kernel, and whose endpoints are all known.
    pub applied: Fence,
    /// What keeps the newest from being that; none when nothing does.
    pub lag: Option<Lag>,
    /// Faults that this node cannot mend by itself, for instance a port that another program holds.
    pub faults: Vec<Fault>,
}

/// Why a node is behind the newest assignments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lag {
    /// A part of its network cannot be brought to what it should be.
    Unit(UnitFailure),
    /// Gossip has not brought it the endpoints of this network as the managers know them.
    Endpoints(String),
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(failure) => failure.fmt(f),
            Self::Endpoints(network) => {
                write!(f, "does not yet know the endpoints of network {network} as the managers do")
            }
        }
    }
}

impl Progress {
    /// After a pass over these assignments and this view, of which `failed` could not be brought to what it should be.
    pub fn after(
        self,
        assigned: &Assigned,
        view: &PeerView,
        failed: Option<UnitFailure>,
        faults: Vec<Fault>,
    ) -> Self {
        let unknown = || {
            let network = digest::mismatched(assigned, view)?;
            let name = assigned.networks.get(network).map_or(network.as_str(), |n| n.spec.name.as_str());
            Some(Lag::Endpoints(name.to_owned()))
        };
        match failed.map(Lag::Unit).or_else(unknown) {
            None => Self { applied: assigned.fence(), lag: None, faults },
            lag @ Some(_) => Self { lag, faults, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use network::{
        fixture::World,
        plan::{Obstacle, UnitKey},
        reconciler::PortConflict,
    };
    use proto::model::{NetworkId, Protocol, endpoint_digest};

    use super::*;

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
        let obstacle = Obstacle::Link { name: "rn_gwbridge".into(), alias: None };
        let failure = UnitFailure { key: UnitKey::Gateway, error: obstacle.into() };
        let at = at.after(&world.assigned, &world.view, Some(failure.clone()), Vec::new());
        assert_eq!(at, Progress { applied: seventh, lag: Some(Lag::Unit(failure)), ..Progress::default() });
        let told = at.lag.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(told.starts_with("gateway bridge: a link rn_gwbridge that is not ours"), "{told}");
        digest.add(&"missing".parse().unwrap());
        world.assigned.digests.insert(network, digest);
        let fault = Fault::Port(PortConflict {
            protocol: Protocol::Tcp,
            port: 80,
            wanted_by: "web".into(),
            holder: None,
            reason: "in use".into(),
        });
        assert_eq!(fault.kind(), "port 80/tcp");
        let at = at.after(&world.assigned, &world.view, None, vec![fault.clone()]);
        assert_eq!(at.faults, [fault]);
        assert!(at.applied == seventh && at.lag == Some(Lag::Endpoints("app".into())), "{at:?}");
    }
}
