//! What must hold of every state of every manager, computed anew from its tables: none of the product's own indexes is asked.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use manager::store::State;
use proto::model::{Mac, NetworkId, NodeId, NodeState, Port, Protocol, PublishMode, Task, TaskId, TaskState};

use crate::users::{LedgerEntries, NUMBER, Told};

/// A rule that was broken, in words.
pub type Broken = String;

/// The newest that was seen of a task.
struct Seen {
    revision: u64,
    state: TaskState,
    desired: TaskState,
    gone: bool,
}

/// What a leader gives every node at least, in microseconds: three heartbeats of this cluster.
const GRACE: u64 = 3_000_000;

/// How things stand when a state is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Circumstances {
    /// For how many microseconds the leader of the state's last entries has led, where that is certain.
    pub leads_us: Option<u64>,
    /// Nothing has happened so far that is a reason to give a node up, or to replace a task.
    pub mild: bool,
}

/// What has been seen of all managers' states, to hold the next one against.
#[derive(Default)]
pub struct Invariants {
    /// The digest of the state at each revision, and who showed it first.
    states: BTreeMap<u64, (u64, usize)>,
    tasks: BTreeMap<TaskId, Seen>,
    /// At which revision each node was seen down last, or not down.
    nodes: BTreeMap<NodeId, (u64, bool)>,
    /// States looked at.
    pub looked: u64,
}

/// Who has what; a second owner is a breach.
struct Owners<K>(BTreeMap<K, String>);

impl<K: Ord + Debug> Owners<K> {
    fn take(&mut self, what: K, owner: String) -> Result<(), Broken> {
        match self.0.entry(what) {
            Entry::Vacant(free) => {
                free.insert(owner);
                Ok(())
            }
            Entry::Occupied(taken) if *taken.get() == owner => Ok(()),
            Entry::Occupied(taken) => {
                Err(format!("two owners (invariant 4): {:?} is {}'s and {owner}'s", taken.key(), taken.get()))
            }
        }
    }
}

impl Invariants {
    /// Looks at the state of `manager`; its digest.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn look(
        &mut self,
        manager: usize,
        state: &State,
        book: &LedgerEntries,
        around: Circumstances,
    ) -> Result<u64, Broken> {
        self.looked += 1;
        let revision = state.revision.0;
        let mut hasher = DefaultHasher::new();
        state.to_bytes().hash(&mut hasher);
        let digest = hasher.finish();
        match self.states.entry(revision) {
            Entry::Occupied(known) => {
                let (expected, first) = *known.get();
                if expected != digest {
                    return Err(format!(
                        "same log, same state (invariant 5): managers {first} and {manager} differ at {revision}"
                    ));
                }
                // Everything else was looked at when it was first seen.
                return Ok(digest);
            }
            Entry::Vacant(new) => {
                new.insert((digest, manager));
            }
        }
        owners(state)?;
        self.history(state)?;
        self.given_up(state, around)?;
        kept(state, book)?;
        Ok(digest)
    }

    /// No node is down that its leader cannot have waited for, or that there was no reason to give up; nor is a task replaced then.
    fn given_up(&mut self, state: &State, around: Circumstances) -> Result<(), Broken> {
        let revision = state.revision.0;
        for node in state.nodes.values() {
            let down = node.status.state == NodeState::Down;
            let known = self.nodes.get(&node.id).copied();
            if known.is_some_and(|(seen, _)| seen >= revision) {
                continue;
            }
            self.nodes.insert(node.id.clone(), (revision, down));
            let news = down && !known.is_some_and(|(_, down)| down);
            // Managers have no agents here, and are down sooner or later.
            let worker = node.raft_id == 0;
            let breach = match around.leads_us {
                _ if !news => continue,
                _ if around.mild && worker => "though there was no reason to".to_owned(),
                Some(us) if us < GRACE => format!("by a leader of {} ms", us / 1000),
                Some(_) | None => continue,
            };
            let said = &node.status.message;
            return Err(format!(
                "a node is given up (invariant 13): {} at {revision} {breach}: {said}",
                node.id
            ));
        }
        let replaced =
            |t: &&std::sync::Arc<Task>| t.desired > TaskState::Running || t.status.state > TaskState::Running;
        match state.tasks.values().find(replaced).filter(|_| around.mild) {
            Some(task) => Err(format!(
                "a task is replaced without a reason (invariant 13): {} is {}/{} at {revision}: {}",
                task.id,
                task.status.state,
                task.desired,
                task.reason()
            )),
            None => Ok(()),
        }
    }

    /// No task goes back, whichever manager shows it.
    fn history(&mut self, state: &State) -> Result<(), Broken> {
        let revision = state.revision.0;
        for task in state.tasks.values() {
            let now = Seen { revision, state: task.status.state, desired: task.desired, gone: false };
            let Some(seen) = self.tasks.get_mut(&task.id) else {
                self.tasks.insert(task.id.clone(), now);
                continue;
            };
            let (older, newer) = if seen.revision <= revision { (&*seen, &now) } else { (&now, &*seen) };
            let back = older.state > newer.state || older.desired > newer.desired;
            if back || (older.gone && !newer.gone) {
                return Err(format!(
                    "a task went back (invariant 6): {} was {}/{} at {} and {}/{} at {}",
                    task.id,
                    older.state,
                    older.desired,
                    older.revision,
                    newer.state,
                    newer.desired,
                    newer.revision
                ));
            }
            if seen.revision < revision {
                *seen = now;
            }
        }
        for (id, seen) in &mut self.tasks {
            if seen.revision < revision && state.tasks.get(id.as_str()).is_none() {
                (seen.gone, seen.revision) = (true, revision);
            }
        }
        Ok(())
    }
}

fn holds(task: &Task) -> bool {
    !task.status.state.is_terminal()
}

/// Invariant 4.
fn owners(state: &State) -> Result<(), Broken> {
    let mut addrs: Owners<(NetworkId, IpAddr)> = Owners(BTreeMap::new());
    let mut macs: Owners<(NetworkId, Mac)> = Owners(BTreeMap::new());
    let mut segments: Owners<u32> = Owners(BTreeMap::new());
    let mut subnets: Owners<String> = Owners(BTreeMap::new());
    let mut mesh: Owners<(Protocol, Port)> = Owners(BTreeMap::new());
    let mut host: Owners<(NodeId, Protocol, Port)> = Owners(BTreeMap::new());
    let ingress = state.networks.values().find(|n| n.spec.ingress).map(|n| n.id.clone());
    let mut endpoint = |network: &NetworkId, all: &[IpAddr], owner: String| {
        for addr in all {
            addrs.take((network.clone(), *addr), owner.clone())?;
        }
        match Mac::of_any(all.iter().copied()) {
            Some(mac) => macs.take((network.clone(), mac), owner),
            None => Ok(()),
        }
    };
    for network in state.networks.values() {
        let Some(allocation) = &network.allocation else { continue };
        segments.take(allocation.vni.0, format!("network {}", network.id))?;
        for subnet in &allocation.subnets {
            subnets.take(subnet.subnet.to_string(), format!("network {}", network.id))?;
        }
        let gateways: Vec<IpAddr> = allocation.subnets.iter().map(|s| s.gateway).collect();
        endpoint(&network.id, &gateways, "the gateway".into())?;
    }
    for node in state.nodes.values() {
        if let Some(ingress) = &ingress {
            endpoint(ingress, &node.ingress_addrs, format!("node {}", node.id))?;
        }
    }
    for service in state.services.values() {
        let Some(allocation) = &service.allocation else { continue };
        for vip in &allocation.vips {
            endpoint(&vip.network, &vip.addrs, format!("service {}", service.id))?;
        }
        for port in allocation.ports.iter().filter(|p| p.mode == PublishMode::Ingress && p.published != 0) {
            mesh.take((port.protocol, port.published), format!("service {}", service.id))?;
        }
    }
    for task in state.tasks.values().filter(|t| holds(t)) {
        let Some(allocation) = &task.allocation else { continue };
        let owner = || format!("task {}", task.id);
        for attachment in &allocation.attachments {
            let all: Vec<IpAddr> = attachment.addrs.iter().map(|a| a.addr).collect();
            endpoint(&attachment.network, &all, owner())?;
        }
        if let Some(ingress) = &ingress {
            endpoint(ingress, &allocation.ingress_addrs, owner())?;
        }
        let placed = task.status.state >= TaskState::Assigned;
        let Some(node) = task.node_id.as_ref().filter(|_| placed) else { continue };
        for port in allocation.ports.iter().filter(|p| p.mode == PublishMode::Host && p.published != 0) {
            host.take((node.clone(), port.protocol, port.published), owner())?;
        }
    }
    Ok(())
}

/// Invariant 7, of one state: what was acknowledged with an entry is there in every state from that entry on.
fn kept(state: &State, book: &LedgerEntries) -> Result<(), Broken> {
    for told in book.told.iter().filter(|t| t.version <= state.revision.0) {
        there(state, told, book)?;
    }
    Ok(())
}

/// At the end, when all managers know everything: nothing that was acknowledged is missing.
///
/// # Errors
/// What is missing.
pub fn complete(state: &State, book: &LedgerEntries) -> Result<(), Broken> {
    book.told.iter().try_for_each(|told| there(state, told, book))
}

fn there(state: &State, told: &Told, book: &LedgerEntries) -> Result<(), Broken> {
    let lost = |what: &str| {
        let Told { kind, name, version, number, .. } = told;
        let now = state.revision.0;
        Err(format!(
            "an acknowledged write is lost (invariant 7): {kind} {name}, entry {version}, number {number:?}: {what} at {now}"
        ))
    };
    if told.kind == "network" {
        return match state.networks.get(told.id.as_str()) {
            Some(_) => Ok(()),
            None => lost("absent"),
        };
    }
    let Some(service) = state.services.get(told.id.as_str()) else {
        return if book.removing.contains(&told.name) { Ok(()) } else { lost("absent") };
    };
    if service.spec_version.0 < told.version && told.number.is_some() {
        return lost("older");
    }
    let number = service.spec.labels.get(NUMBER).and_then(|n| n.parse::<u64>().ok());
    // With later updates another number may stand; with this very entry only its own can.
    if service.spec_version.0 == told.version && told.number.is_some() && told.number != number {
        return lost("another number");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use manager::{
        bootstrap::{Bootstrap, InitOptions},
        ca::joined,
        store::{
            apply::apply,
            command::{Command, Proposal, RULES},
        },
    };
    use proto::model::{
        Availability, EndpointSpec, Meta, NodeStatus, Revision, Role, Service, ServiceId, ServiceMode,
        ServiceSpec, TaskSpec, TaskStatus, Timestamp,
    };

    use super::*;

    const CALM: Circumstances = Circumstances { leads_us: None, mild: false };

    fn state(revision: u64, commands: Vec<Command>) -> State {
        let mut state = State::default();
        let applied =
            apply(&mut state, Revision(revision), &Proposal { commands, at: Timestamp(1), rules: RULES });
        assert!(applied.outcomes.iter().all(Result::is_ok), "{applied:?}");
        state
    }

    #[test]
    fn a_second_owner_is_seen() {
        let mut owners = Owners(BTreeMap::new());
        owners.take(7, "a".into()).unwrap();
        owners.take(7, "a".into()).unwrap();
        assert!(owners.take(7, "b".into()).unwrap_err().contains("invariant 4"));
    }

    #[test]
    fn two_states_of_one_revision_are_seen() {
        let begun = || Bootstrap::new(InitOptions::default()).unwrap().commands();
        let mut invariants = Invariants::default();
        let (book, one) = (LedgerEntries::default(), state(3, begun()));
        invariants.look(0, &one, &book, CALM).unwrap();
        invariants.look(1, &one, &book, CALM).unwrap();
        assert!(invariants.look(2, &state(3, begun()), &book, CALM).unwrap_err().contains("invariant 5"));
    }

    #[test]
    fn a_task_that_goes_back_is_seen() {
        let service = Service {
            id: ServiceId::random(),
            meta: Meta::default(),
            spec: ServiceSpec {
                name: "web".into(),
                labels: BTreeMap::new(),
                task: TaskSpec::default(),
                mode: ServiceMode::Replicated(1),
                update: None,
                rollback: None,
                endpoint: EndpointSpec::default(),
            },
            previous_spec: None,
            spec_version: Revision(0),
            allocation: None,
            conditions: Vec::new(),
            update_status: None,
        };
        let task = Task {
            id: TaskId::random(),
            meta: Meta::default(),
            service_id: service.id.clone(),
            service_name: "web".into(),
            slot: 1,
            spec: TaskSpec::default(),
            spec_version: Revision(0),
            allocation: None,
            node_id: None,
            desired: TaskState::Ready,
            status: TaskStatus::default(),
            conditions: Vec::new(),
            start_after: Timestamp(0),
            running_at: Timestamp(0),
            ended_at: Timestamp(0),
            attached_container: None,
        };
        let begun = Bootstrap::new(InitOptions::default()).unwrap().commands();
        let with = |more: Vec<Command>| begun.clone().into_iter().chain(more).collect::<Vec<_>>();
        let made =
            vec![Command::CreateService(Box::new(service)), Command::CreateTask(Box::new(task.clone()))];
        let up =
            Command::SetTaskDesired { id: task.id, desired: TaskState::Running, start_after: Timestamp(0) };
        let up = made.iter().cloned().chain([up]).collect();
        let (mut invariants, book) = (Invariants::default(), LedgerEntries::default());
        invariants.look(0, &state(5, with(up)), &book, CALM).unwrap();
        // Another manager, which lags, is no breach; one that is ahead is.
        invariants.look(1, &state(4, with(made.clone())), &book, CALM).unwrap();
        assert!(invariants.look(1, &state(6, with(made)), &book, CALM).unwrap_err().contains("invariant 6"));
        assert!(invariants.look(2, &state(7, with(vec![])), &book, CALM).is_ok());
    }

    #[test]
    fn a_node_that_is_given_up_for_nothing_is_seen() {
        let node = joined(&NodeId::random(), Role::Worker, Availability::Active);
        let begun = Bootstrap::new(InitOptions::default()).unwrap().commands();
        let status = NodeStatus { state: NodeState::Down, message: "heartbeat failure".into(), addr: None };
        let report = Command::ReportNode { id: node.id.clone(), status: Some(status), description: None };
        let made: Vec<Command> = begun.into_iter().chain([Command::CreateNode(Box::new(node))]).collect();
        let (up, down) = (state(5, made.clone()), state(6, made.into_iter().chain([report]).collect()));
        let breach = |around: Circumstances| {
            let (mut invariants, book) = (Invariants::default(), LedgerEntries::default());
            invariants.look(0, &up, &book, around).unwrap();
            invariants.look(0, &down, &book, around).err().unwrap_or_default()
        };
        assert!(breach(Circumstances { mild: true, ..CALM }).contains("invariant 13"));
        assert!(breach(Circumstances { leads_us: Some(40_000), ..CALM }).contains("by a leader of 40 ms"));
        assert_eq!(breach(Circumstances { leads_us: Some(GRACE), ..CALM }), "");
        assert_eq!(breach(CALM), "", "whose doing it was is not certain");
    }
}
