//! Where gossip and the managers disagree about a network's endpoints for longer than a change takes, the managers' list is
//! asked for: the tail that gossip may lose.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use gossip::{EndpointRecord, EndpointState, ListedEndpoint, PeerView};
use network::assigned::Assigned;
use proto::{
    model::{EndpointDigest, NetworkId, endpoint_digest},
    pb,
};

/// How long a disagreement may last: a notice, a gossip round and a report to the managers fit in several times.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a disagreement that keeps changing may put that off: where tasks come and go all the time, both are on the move and
/// a list would be old by the time it is here.
const PUT_OFF: u32 = 10;
/// Longest pause between two lists of one network: an owner whose word differs from the managers' is believed, and asking
/// again and again changes nothing.
const MAX_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Mismatch {
    /// What this node and the managers have.
    between: [EndpointDigest; 2],
    put_off: u32,
    ask_at: Instant,
    pause: Duration,
}

/// Networks in doubt.
#[derive(Debug, Default)]
pub(super) struct Mismatches(BTreeMap<NetworkId, Mismatch>);

impl Mismatches {
    /// The networks whose list is to be asked for now.
    pub(super) fn check(&mut self, assigned: &Assigned, view: &PeerView, now: Instant) -> Vec<NetworkId> {
        let mut ask = Vec::new();
        self.0.retain(|network, _| assigned.digests.contains_key(network));
        for (network, between) in compare(assigned, view) {
            if between[0] == between[1] {
                self.0.remove(network);
                continue;
            }
            let fresh = Mismatch { between, put_off: 0, ask_at: now + PATIENCE, pause: PATIENCE };
            let mismatch = self.0.entry(network.clone()).or_insert(fresh);
            if mismatch.between != between && mismatch.put_off < PUT_OFF {
                (mismatch.between, mismatch.put_off) = (between, mismatch.put_off + 1);
                mismatch.ask_at = mismatch.ask_at.max(now + PATIENCE);
            }
            if mismatch.ask_at <= now {
                mismatch.ask_at = now + mismatch.pause;
                mismatch.pause = (mismatch.pause * 2).min(MAX_PAUSE);
                ask.push(network.clone());
            }
        }
        ask
    }
}

/// What this node and the managers have of each network's endpoints.
fn compare<'a>(
    assigned: &'a Assigned,
    view: &'a PeerView,
) -> impl Iterator<Item = (&'a NetworkId, [EndpointDigest; 2])> {
    assigned.digests.iter().map(|(network, theirs)| {
        let counted = view.endpoints_of(network).filter(|r| r.state != EndpointState::Starting);
        (network, [endpoint_digest(counted.map(|r| &r.task)), *theirs])
    })
}

/// The first network whose endpoints are not known here as the managers know them.
pub(super) fn mismatched<'a>(assigned: &'a Assigned, view: &'a PeerView) -> Option<&'a NetworkId> {
    compare(assigned, view).find(|(_, between)| between[0] != between[1]).map(|(network, _)| network)
}

/// The managers' list as records. What cannot be read is left out.
pub(super) fn records(
    network: &NetworkId,
    reply: pb::ListEndpointsReply,
    assigned: &Assigned,
) -> Vec<ListedEndpoint> {
    let read = |e: pb::Endpoint| -> Option<ListedEndpoint> {
        let service = e.service_id.parse().ok()?;
        let known = assigned.services.get(&service);
        let attachment =
            known.and_then(|s| s.spec.task.networks.iter().find(|n| n.target == network.as_str()));
        let record = EndpointRecord {
            network: network.clone(),
            task: e.task_id.parse().ok()?,
            node: e.node_id.parse().ok()?,
            service_name: known.map(|s| s.spec.name.clone()).unwrap_or_default(),
            service,
            task_name: e.name,
            slot: 0,
            addrs: e.addrs.iter().filter_map(|a| a.parse::<IpAddr>().ok()).collect(),
            aliases: attachment.map(|a| a.aliases.clone()).unwrap_or_default(),
            task_aliases: Vec::new(),
            state: if e.running { EndpointState::Ready } else { EndpointState::Starting },
            seq: 0,
        };
        Some(ListedEndpoint { record, vtep: e.node_addr.parse().ok() })
    };
    reply.endpoints.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use network::fixture::World;

    #[test]
    fn what_keeps_changing_is_asked_for_late() {
        let mut world = World::new();
        let network: NetworkId = "app".parse().unwrap();
        let (mut mismatches, t0, mut digest) = (Mismatches::default(), Instant::now(), endpoint_digest([]));
        let asked = (0..60).find(|second| {
            digest.add(&format!("t{second}").parse().unwrap());
            world.assigned.digests.insert(network.clone(), digest);
            !mismatches.check(&world.assigned, &world.view, t0 + Duration::from_secs(*second)).is_empty()
        });
        assert_eq!(asked, Some(13));
    }

    #[test]
    fn only_a_lasting_disagreement_asks_and_ever_more_rarely() {
        let mut world = World::new();
        let network: NetworkId = "app".parse().unwrap();
        let mut digest = endpoint_digest([]);
        digest.add(&"missing".parse().unwrap());
        world.assigned.digests.insert(network.clone(), digest);
        let (mut mismatches, t0) = (Mismatches::default(), Instant::now());
        let mut asked = Vec::new();
        for second in 0..20 {
            if !mismatches.check(&world.assigned, &world.view, t0 + Duration::from_secs(second)).is_empty() {
                asked.push(second);
            }
        }
        assert_eq!(asked, [3, 6, 12]);
        world.assigned.digests.insert(network, endpoint_digest([]));
        mismatches.check(&world.assigned, &world.view, t0);
        assert!(mismatches.0.is_empty());
    }
}
