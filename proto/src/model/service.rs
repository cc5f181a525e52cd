//! Services.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Condition, Meta, Millis, NetworkId, Port, Protocol, Revision, ServiceId, TaskSpec, Timestamp};

/// How a published port is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishMode {
    /// On every node, through the routing mesh.
    #[default]
    Ingress,
    /// On the nodes that run a task.
    Host,
}

/// How a service name resolves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointMode {
    /// To one virtual address per family.
    #[default]
    Vip,
    /// To the tasks' addresses.
    DnsRr,
}

/// A published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortConfig {
    /// Optional name.
    pub name: String,
    /// Transport.
    pub protocol: Protocol,
    /// The port that the task listens on.
    pub target: Port,
    /// The port on the nodes; 0 in a spec = choose from 30000-32767; 0 in host mode = chosen by the node.
    pub published: Port,
    /// How it is reached.
    pub mode: PublishMode,
}

/// Number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceMode {
    /// This many.
    Replicated(u64),
    /// One on each active node that fits.
    Global,
}

/// Which task goes first in an update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpdateOrder {
    /// The old one stops, then the new one starts.
    #[default]
    StopFirst,
    /// The new one runs before the old one stops.
    StartFirst,
}

/// What a failing update does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailureAction {
    /// Stops and waits for the user.
    #[default]
    Pause,
    /// Goes on.
    Continue,
    /// Goes back to the previous spec.
    Rollback,
}

/// How tasks are replaced when the spec changes.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateConfig {
    /// Slots at once; 0 = all.
    pub parallelism: u64,
    /// Pause between slots.
    pub delay: Millis,
    /// What to do when it fails.
    pub failure_action: FailureAction,
    /// How long a new task is watched.
    pub monitor: Millis,
    /// Share of failed tasks that is borne, 0 to 1.
    pub max_failure_ratio: f64,
    /// Which task goes first.
    pub order: UpdateOrder,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Millis(0),
            failure_action: FailureAction::Pause,
            monitor: Millis::secs(5),
            max_failure_ratio: 0.0,
            order: UpdateOrder::StopFirst,
        }
    }
}

/// How far an update or a rollback is (Docker's states).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpdateState {
    /// Tasks are being replaced, or the last ones are being watched.
    #[default]
    Updating,
    /// Failed; waits for the user.
    Paused,
    /// Done.
    Completed,
    /// Tasks are being replaced by those of the previous spec.
    RollbackStarted,
    /// The rollback failed; waits for the user.
    RollbackPaused,
    /// The rollback is done.
    RollbackCompleted,
}

impl UpdateState {
    /// Whether it concerns a rollback.
    pub fn is_rollback(self) -> bool {
        matches!(
            self,
            UpdateState::RollbackStarted | UpdateState::RollbackPaused | UpdateState::RollbackCompleted
        )
    }

    /// Whether it waits for the user.
    pub fn is_paused(self) -> bool {
        matches!(self, UpdateState::Paused | UpdateState::RollbackPaused)
    }

    /// Whether tasks are being replaced or watched.
    pub fn is_going(self) -> bool {
        matches!(self, UpdateState::Updating | UpdateState::RollbackStarted)
    }

    /// The word that `service inspect` shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            UpdateState::Updating => "updating",
            UpdateState::Paused => "paused",
            UpdateState::Completed => "completed",
            UpdateState::RollbackStarted => "rollback_started",
            UpdateState::RollbackPaused => "rollback_paused",
            UpdateState::RollbackCompleted => "rollback_completed",
        }
    }
}

/// The newest update or rollback of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateStatus {
    /// How far it is.
    pub state: UpdateState,
    /// When it began, by the leader's clock.
    pub started_at: Timestamp,
    /// When it was done; 0 = not yet.
    pub completed_at: Timestamp,
    /// What is going on, for a user.
    pub message: String,
    /// Slots that had to change when it began: what the failure ratio is a share of.
    pub slots: u64,
}

/// How a service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// How its name resolves.
    pub mode: EndpointMode,
    /// Its published ports.
    pub ports: Vec<PortConfig>,
}

/// What a user asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSpec {
    /// Unique in the cluster; a DNS label.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What each task runs.
    pub task: TaskSpec,
    /// How many.
    pub mode: ServiceMode,
    /// How an update goes; none = defaults.
    pub update: Option<UpdateConfig>,
    /// How a rollback goes; none = defaults.
    pub rollback: Option<UpdateConfig>,
    /// How it is reached.
    pub endpoint: EndpointSpec,
}

impl ServiceSpec {
    /// Whether any port goes through the routing mesh.
    pub fn uses_ingress(&self) -> bool {
        self.endpoint.ports.iter().any(|p| p.mode == PublishMode::Ingress)
    }
}

/// A service's virtual addresses on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// The network.
    pub network: NetworkId,
    /// One address per family of the network.
    pub addrs: Vec<IpAddr>,
}

/// Written by the allocator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// The spec's ports, in its order, with every ingress-mode port chosen.
    pub ports: Vec<PortConfig>,
    /// One entry per overlay of the spec; empty for dnsrr. None on `ingress`: the mesh needs no virtual address.
    pub vips: Vec<Vip>,
    /// The spec version that this answers.
    pub of_version: Revision,
}

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Bookkeeping.
    pub meta: Meta,
    /// What the user asked for.
    pub spec: ServiceSpec,
    /// What the user asked for before.
    pub previous_spec: Option<ServiceSpec>,
    /// The entry that last changed the spec.
    pub spec_version: Revision,
    /// None while the allocator has not answered; `conditions` says why.
    pub allocation: Option<ServiceAllocation>,
    /// Why it is pending.
    pub conditions: Vec<Condition>,
    /// How its newest update went; none before the first one that concerned its tasks.
    pub update_status: Option<UpdateStatus>,
}
