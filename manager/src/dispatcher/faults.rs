//! What nodes cannot put right by themselves: a port that another program holds, a firewall that blocks. They say it in their
//! heartbeats; it is named on the node, on the services that it concerns, and keeps the cluster from having converged.

use std::collections::BTreeSet;

use proto::{
    model::{Condition, Node, NodeId, NodeState, PublishMode, Service, Timestamp},
    pb::Fault,
};

use super::sessions::Progress;
use crate::store::{
    command::{Command, ObjectId},
    state::State,
};

/// Kinds of a node's conditions that are its own to say; the others are the managers' loops'.
const PORT: &str = "port ";
const FIREWALL: &str = "firewall";
/// As much is kept of what a node says: faults, and bytes of each.
const FAULTS: usize = 64;
const TEXT: usize = 512;

fn is_own(kind: &str) -> bool {
    kind.starts_with(PORT) || kind == FIREWALL
}

/// What a node says, as far as it is its own to say: one fault of each kind, as a node has one condition of each. Two would take
/// turns for ever.
pub fn bounded(faults: Vec<Fault>) -> Vec<Fault> {
    let cut = |mut fault: Fault| {
        fault.kind.truncate(fault.kind.floor_char_boundary(TEXT));
        fault.message.truncate(fault.message.floor_char_boundary(TEXT));
        fault
    };
    let mut kinds = BTreeSet::new();
    let own = faults.into_iter().filter(|f| is_own(&f.kind) && !f.message.is_empty()).map(cut);
    own.filter(|f| kinds.insert(f.kind.clone())).take(FAULTS).collect()
}

/// The fault that keeps a node from having converged, if any. A firewall that its administrator wants closed does not.
pub fn first(progress: &Progress) -> Option<&str> {
    let mut ports = progress.faults.iter().flatten().filter(|f| f.kind.starts_with(PORT));
    ports.next().map(|f| f.message.as_str())
}

/// Makes the nodes' conditions those they report. A node that has reported nothing in this term keeps what it has.
pub fn plan(state: &State, said: impl Fn(&NodeId) -> Option<Vec<Fault>>, now: Timestamp) -> Vec<Command> {
    let mut commands = Vec::new();
    for node in state.nodes.values() {
        let Some(said) = said(&node.id) else { continue };
        let mut set = |kind: &str, message: &str| {
            let condition = Condition { kind: kind.to_owned(), message: message.to_owned(), since: now };
            commands.push(Command::SetCondition { object: ObjectId::Node(node.id.clone()), condition });
        };
        for fault in &said {
            let stands = node.conditions.iter().any(|c| c.kind == fault.kind && c.message == fault.message);
            if !stands {
                set(&fault.kind, &fault.message);
            }
        }
        let over = |c: &&Condition| is_own(&c.kind) && !said.iter().any(|f| f.kind == c.kind);
        node.conditions.iter().filter(over).for_each(|c| set(&c.kind, ""));
    }
    commands
}

/// A service with what is wrong with its ports on the nodes, which is derived from theirs and kept nowhere else.
pub fn shown(state: &State, service: &Service) -> Service {
    let ports = service.allocation.iter().flat_map(|a| &a.ports).filter(|p| p.mode == PublishMode::Ingress);
    let mut shown = service.clone();
    for port in ports {
        let kind = format!("{PORT}{}/{}", port.published, port.protocol);
        let on = |node: &Node| {
            let condition = node.conditions.iter().find(|c| c.kind == kind)?;
            Some((format!("{}: {}", node.hostname(), condition.message), condition.since))
        };
        let live = state.nodes.values().filter(|n| n.status.state == NodeState::Ready);
        let (texts, times): (Vec<String>, Vec<Timestamp>) = live.filter_map(|n| on(n)).unzip();
        if let Some(since) = times.into_iter().min() {
            shown.conditions.push(Condition { kind, message: texts.join("; "), since });
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::model::ServiceAllocation;

    use super::*;
    use crate::tests::fixture::{self, port};

    fn fault(kind: &str, message: &str) -> Fault {
        Fault { kind: kind.into(), message: message.into() }
    }

    #[test]
    fn what_a_node_says_stands_on_it_until_it_says_otherwise() {
        let mut state = fixture::state();
        fixture::add_nodes(&mut state, &["n1", "n2"]);
        let of_allocator =
            Condition { kind: "allocation".into(), message: "why".into(), since: Timestamp(1) };
        let object = ObjectId::Node(fixture::node_id("n1"));
        fixture::must(
            &mut state,
            vec![Command::SetCondition { object, condition: of_allocator }],
            Timestamp(1),
        );
        let mut pass = |said: Option<Vec<Fault>>| {
            let at = Timestamp(2);
            let commands = plan(&state, |id| said.clone().filter(|_| id.as_str() == "n1"), at);
            let count = commands.len();
            fixture::must(&mut state, commands, at);
            let node = state.nodes.get("n1").unwrap();
            let kinds: Vec<String> = node.conditions.iter().map(|c| c.kind.clone()).collect();
            (count, kinds)
        };
        let all = |kinds: &[&str]| kinds.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>();
        assert_eq!(pass(None), (0, all(&["allocation"])));
        let taken = vec![fault("port 80/tcp", "in use by nginx")];
        assert_eq!(pass(Some(taken.clone())), (1, all(&["allocation", "port 80/tcp"])));
        assert_eq!(pass(Some(taken)).0, 0, "said once");
        assert_eq!(pass(None).1, all(&["allocation", "port 80/tcp"]), "a new leader has not heard it yet");
        assert_eq!(pass(Some(vec![fault("firewall", "drops")])), (2, all(&["allocation", "firewall"])));
        assert_eq!(pass(Some(Vec::new())), (1, all(&["allocation"])));
    }

    #[test]
    fn what_is_not_a_nodes_own_to_say_is_passed_by_and_the_rest_is_bounded() {
        let odd = [fault("allocation", "mine"), fault("port 80/tcp", "")];
        assert_eq!(bounded(odd.into()), []);
        let ports = (1..=100).map(|n| fault(&format!("port {n}/tcp"), &"ü".repeat(400)));
        let long = bounded(ports.collect());
        assert_eq!((long.len(), long[0].message.len()), (FAULTS, TEXT));
        let twice = bounded(vec![fault("port 80/tcp", "one"), fault("port 80/tcp", "another")]);
        assert_eq!(twice, [fault("port 80/tcp", "one")]);
        let long = |end: &str| fault(&format!("port {}{end}", "8".repeat(TEXT)), "in use");
        assert_eq!(bounded(vec![long("a"), long("b")]).len(), 1, "which differ beyond what is kept");
        let at = |faults| Progress { faults: Some(faults), ..Progress::default() };
        assert_eq!(first(&at(vec![fault("firewall", "drops")])), None);
        assert_eq!(first(&at(vec![fault("port 80/tcp", "in use")])), Some("in use"));
    }

    #[test]
    fn a_service_shows_where_its_ports_are_not_served() {
        let mut state = fixture::state();
        fixture::add_nodes(&mut state, &["n1", "n2"]);
        let mut web = fixture::service(&state, "web", 1, &[], &[port(80, 8080)]);
        web.allocation =
            Some(ServiceAllocation { ports: vec![port(80, 8080)], ..ServiceAllocation::default() });
        assert_eq!(shown(&state, &web).conditions, []);
        let commands = plan(&state, |_| Some(vec![fault("port 80/tcp", "in use by nginx")]), Timestamp(2));
        fixture::must(&mut state, commands, Timestamp(2));
        fixture::report_node(&mut state, "n2", NodeState::Down);
        let shown = shown(&state, &web);
        assert_eq!(shown.conditions.len(), 1);
        assert_eq!(
            shown.conditions[0].message, "n1: in use by nginx",
            "of a node that is down nothing is known"
        );
    }
}
