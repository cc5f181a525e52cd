//! Drivers of networks: each is one file beside this one, and one row here.

use proto::model::{Network, NetworkDriver, NetworkId};

use super::{Planner, Unit, overlay};
use crate::{
    desired::{DesiredNetwork, DriverState, InterfaceLink, LocalFacts, Swarm},
    workload::WorkloadId,
};

/// What the planners ask a driver. Plain functions over values, as all planners.
pub(crate) struct Driver {
    /// What a network needs on this node that has an endpoint here; none while that cannot be known.
    pub network: fn(&Network, Option<Swarm<'_>>, &LocalFacts) -> Option<DesiredNetwork>,
    /// What a workload's interface on it is, and where it leads.
    pub link: fn(&NetworkId, &WorkloadId, &LocalFacts) -> InterfaceLink,
    /// Settings to look at where the network's devices are.
    pub sysctls: fn() -> Vec<String>,
    /// The steps that make the network what it should be.
    pub plan: for<'a> fn(&mut Planner<'a>, &'a DesiredNetwork) -> Unit,
}

/// The driver of a network that is to be.
pub(crate) fn of(driver: &NetworkDriver) -> &'static Driver {
    match driver {
        NetworkDriver::Overlay(_) => &overlay::DRIVER,
    }
}

/// The driver of a network that has been looked into.
pub(super) fn of_state(state: &DriverState) -> &'static Driver {
    match state {
        DriverState::Overlay { .. } => &overlay::DRIVER,
    }
}
