//! What the managers want of this node: pure. Messages are folded into [`Assigned`]; nothing is kept of how it came about.

use std::sync::Arc;

use network::assigned::{Assigned, Fence};
use proto::{
    convert::Malformed,
    model::{Config, EndpointDigest, InvalidId, Network, NetworkId, Secret, Service, Task},
    pb::{self, assignments_message::Kind},
};

/// Why a message was not taken. The stream is reopened; it then starts with a complete set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Something was lost in between.
    #[error("assignments that apply to {applies_to:?} arrived at {at:?}")]
    ChainBreak {
        /// What the message builds on.
        applies_to: String,
        /// What is there.
        at: String,
    },
    /// The sender knows less than who spoke before: a manager that has fallen behind.
    #[error("assignments of entry {offered} refused: {known} is known already")]
    Stale {
        /// The message's.
        offered: Fence,
        /// What is known.
        known: Fence,
    },
    /// Not readable.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not readable.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// Folds messages of one stream.
#[derive(Debug, Clone)]
pub struct Fold {
    assigned: Assigned,
    /// `results_in` of the last message; none before the stream's complete set.
    at: Option<String>,
}

impl Fold {
    /// For a new stream, with what is known from before.
    pub fn new(assigned: Assigned) -> Self {
        Self { assigned, at: None }
    }

    /// What holds now.
    pub fn assigned(&self) -> &Assigned {
        &self.assigned
    }

    /// Takes a message, whole or not at all.
    pub fn apply(&mut self, message: pb::AssignmentsMessage) -> Result<(), FoldError> {
        let known = self.assigned.fence();
        let offered = Fence { epoch: message.epoch, generation: message.generation };
        if offered < known {
            return Err(FoldError::Stale { offered, known });
        }
        let results_in = message.results_in.clone();
        let next = match message.kind() {
            Kind::Complete => merged(Assigned::default(), message)?,
            Kind::Incremental if self.at.as_deref() == Some(message.applies_to.as_str()) => {
                merged(self.assigned.clone(), message)?
            }
            Kind::Incremental => {
                let at = self.at.clone().unwrap_or_default();
                return Err(FoldError::ChainBreak { applies_to: message.applies_to, at });
            }
        };
        self.assigned = next;
        self.at = Some(results_in);
        Ok(())
    }
}

fn merged(mut base: Assigned, message: pb::AssignmentsMessage) -> Result<Assigned, FoldError> {
    (base.epoch, base.generation) = (message.epoch, message.generation);
    if let Some(node) = message.node {
        base.node = Some(Arc::new(node.try_into()?));
    }
    for id in &message.removed_tasks {
        base.tasks.remove(id.as_str());
    }
    for id in &message.removed_networks {
        base.networks.remove(id.as_str());
        base.digests.remove(id.as_str());
    }
    for id in &message.removed_services {
        base.services.remove(id.as_str());
    }
    for id in &message.removed_secrets {
        base.secrets.remove(id.as_str());
    }
    for id in &message.removed_configs {
        base.configs.remove(id.as_str());
    }
    for secret in message.secrets {
        let secret = Secret::try_from(secret)?;
        base.secrets.insert(secret.id.clone(), Arc::new(secret));
    }
    for config in message.configs {
        let config = Config::try_from(config)?;
        base.configs.insert(config.id.clone(), Arc::new(config));
    }
    for task in message.tasks {
        let task = Task::try_from(task)?;
        base.tasks.insert(task.id.clone(), Arc::new(task));
    }
    for network in message.networks {
        let network = Network::try_from(network)?;
        base.networks.insert(network.id.clone(), Arc::new(network));
    }
    for service in message.services {
        let service = Service::try_from(service)?;
        base.services.insert(service.id.clone(), Arc::new(service));
    }
    for digest in message.digests {
        base.digests
            .insert(digest.network_id.parse()?, EndpointDigest { count: digest.count, hash: digest.hash });
    }
    Ok(base)
}

/// A set as one complete message, as it is kept on disk: without secrets and configs, which the managers send again.
pub fn to_message(assigned: &Assigned) -> pb::AssignmentsMessage {
    let digest = |(id, d): (&NetworkId, &EndpointDigest)| pb::EndpointDigest {
        network_id: id.to_string(),
        count: d.count,
        hash: d.hash,
    };
    pb::AssignmentsMessage {
        kind: Kind::Complete.into(),
        epoch: assigned.epoch,
        generation: assigned.generation,
        tasks: assigned.tasks.values().map(|t| pb::Task::from(&**t)).collect(),
        networks: assigned.networks.values().map(|n| pb::Network::from(&**n)).collect(),
        services: assigned.services.values().map(|s| pb::Service::from(&**s)).collect(),
        node: assigned.node.as_ref().map(|n| pb::Node::from(&**n)),
        digests: assigned.digests.iter().map(digest).collect(),
        ..pb::AssignmentsMessage::default()
    }
}

/// The set that a complete message says.
pub fn from_message(message: pb::AssignmentsMessage) -> Result<Assigned, FoldError> {
    merged(Assigned::default(), message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;
    use proto::model::{Meta, TaskSpec, TaskState, TaskStatus, Timestamp};

    use std::collections::BTreeMap;

    use super::*;

    fn task(n: u8, desired: TaskState) -> Task {
        Task {
            id: format!("t{n}").parse().unwrap(),
            meta: Meta::default(),
            service_id: "s1".parse().unwrap(),
            service_name: "web".into(),
            slot: u64::from(n) + 1,
            spec: TaskSpec::default(),
            spec_version: Default::default(),
            allocation: None,
            node_id: Some("a".parse().unwrap()),
            desired,
            status: TaskStatus::default(),
            conditions: Vec::new(),
            start_after: Timestamp(0),
            running_at: Timestamp(0),
            ended_at: Timestamp(0),
            attached_container: None,
        }
    }

    fn set(generation: u64, tasks: &BTreeMap<u8, TaskState>) -> Assigned {
        let tasks = tasks.iter().map(|(n, desired)| task(*n, *desired)).map(|t| (t.id.clone(), Arc::new(t)));
        let digest = EndpointDigest { count: generation, hash: 7 };
        Assigned {
            generation,
            tasks: tasks.collect(),
            digests: BTreeMap::from([("n1".parse().unwrap(), digest)]),
            ..Assigned::default()
        }
    }

    /// What a dispatcher sends to get from one set to the other.
    fn difference(before: &Assigned, after: &Assigned, from: u64) -> pb::AssignmentsMessage {
        pb::AssignmentsMessage {
            kind: Kind::Incremental.into(),
            applies_to: from.to_string(),
            results_in: (from + 1).to_string(),
            tasks: after
                .tasks
                .values()
                .filter(|t| before.tasks.get(&t.id) != Some(*t))
                .map(|t| pb::Task::from(&**t))
                .collect(),
            removed_tasks: before
                .tasks
                .keys()
                .filter(|id| !after.tasks.contains_key(*id))
                .map(ToString::to_string)
                .collect(),
            ..to_message(after)
        }
    }

    fn complete(set: &Assigned, results_in: u64) -> pb::AssignmentsMessage {
        pb::AssignmentsMessage { results_in: results_in.to_string(), ..to_message(set) }
    }

    #[test]
    fn broken_chains_and_managers_that_lag_are_refused() {
        let old = set(5, &BTreeMap::from([(1, TaskState::Running)]));
        let new = set(9, &BTreeMap::from([(2, TaskState::Running)]));
        let at = |generation| Fence { epoch: 0, generation };
        let mut fold = Fold::new(new.clone());
        assert_eq!(fold.apply(complete(&old, 1)), Err(FoldError::Stale { offered: at(5), known: at(9) }));
        let first = difference(&old, &new, 3);
        assert!(
            matches!(fold.apply(first.clone()), Err(FoldError::ChainBreak { .. })),
            "no complete set yet"
        );
        fold.apply(complete(&new, 1)).unwrap();
        assert!(matches!(fold.apply(first), Err(FoldError::ChainBreak { .. })));
        assert_eq!(*fold.assigned(), new, "what is refused changes nothing");
    }

    #[test]
    fn a_new_epoch_is_newer_whatever_its_index() {
        let tasks = BTreeMap::from([(1, TaskState::Running)]);
        let (before, lagging) = (set(150, &tasks), Assigned { epoch: 7, ..set(101, &tasks) });
        let mut fold = Fold::new(before.clone());
        fold.apply(complete(&lagging, 1)).unwrap();
        assert_eq!(*fold.assigned(), lagging);
        assert_eq!(from_message(to_message(&lagging)).unwrap(), lagging, "as on disk");
        let stale = FoldError::Stale { offered: before.fence(), known: lagging.fence() };
        assert_eq!(fold.apply(complete(&before, 1)), Err(stale.clone()), "a manager that was left behind");
        assert_eq!(stale.to_string(), "assignments of entry 150 refused: 101 of epoch 7 is known already");
    }

    proptest! {
        #[test]
        fn increments_lead_where_the_complete_set_does(
            steps in proptest::collection::vec(
                proptest::collection::btree_map(
                    0u8..6,
                    prop_oneof![Just(TaskState::Ready), Just(TaskState::Running), Just(TaskState::Shutdown)],
                    0..6,
                ),
                1..8,
            ),
        ) {
            let sets: Vec<_> = steps.iter().enumerate().map(|(i, tasks)| set(i as u64 + 1, tasks)).collect();
            let mut fold = Fold::new(Assigned::default());
            fold.apply(complete(&sets[0], 0)).unwrap();
            for (i, pair) in sets.windows(2).enumerate() {
                fold.apply(difference(&pair[0], &pair[1], i as u64)).unwrap();
            }
            let last = sets.last().unwrap();
            prop_assert_eq!(fold.assigned(), last);
            // And the set survives its own wire form.
            let again = from_message(to_message(last)).unwrap();
            prop_assert_eq!(&again, last);
        }
    }
}
