//! Who may send VXLAN here.
//!
//! The kernel's VXLAN sockets take frames from anybody who reaches the port and knows, or guesses, a segment's number. So the
//! host's namespace has a table that lets in what comes from other members' data-path addresses, and nothing else. Members are
//! elements: their coming and going rewrites no rule, and an address that goes stays for [`LINGER`].
//!
//! Tasks leave the gateway bridge masqueraded, with this node's own address, which other members trust. What they send to a
//! member's VXLAN port therefore ends here, and so does what they send to this node's, whatever its source address says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gossip::PeerView;
use kernel::{Family, Ns, Step};

use super::{Planner, TableKey, Unit, UnitKey, diff::Diff, elements, rulesets};
use crate::desired::NodeDesired;

/// How long an address that no member has any more is still let in: for what it sent before it left, or moved.
pub const LINGER: Duration = Duration::from_secs(60);

/// Addresses that members had lately, and when they were last seen to have them.
#[derive(Debug, Default)]
pub struct RecentMembers(BTreeMap<IpAddr, Instant>);

impl RecentMembers {
    /// Takes in a view; answers with the addresses of members and of who was one less than [`LINGER`] ago.
    pub fn after(&mut self, view: &PeerView, now: Instant) -> BTreeSet<IpAddr> {
        self.0.extend(view.nodes.values().map(|node| (node.vtep, now)));
        self.0.retain(|_, seen| now.duration_since(*seen) < LINGER);
        self.0.keys().copied().collect()
    }
}

fn key(desired: &NodeDesired) -> TableKey {
    (Ns::Host, Family::Inet, desired.names.vxlan_table.clone())
}

pub(super) fn plan(p: &mut Planner<'_>) -> Unit {
    let mut unit = Unit::new(UnitKey::Underlay);
    let desired = p.desired;
    let (ns, family, table) = key(desired);
    let mut d = Diff { ns: &ns, seen: p.observed.ns(&ns), steps: &mut unit.steps };
    match &desired.senders {
        Some(senders) => {
            let ruleset = rulesets::underlay(&desired.names, desired.underlay.port);
            let layers = vec![Arc::new(elements::members(senders))];
            unit.known.push(d.table(&ruleset, layers, p.known, |_| true, &mut p.cache));
        }
        None if desired.settled => {
            let tables = d.seen.map(|seen| &seen.tables);
            if tables.and_then(|all| all.get(&(family, table.clone()))).is_some_and(|t| t.digest.is_some()) {
                d.steps.push(Step::DeleteTable { ns: ns.clone(), family, table });
            }
        }
        None => {}
    }
    unit
}

/// Members alone.
pub(super) fn update(p: &mut Planner<'_>) -> Unit {
    let mut unit = Unit::new(UnitKey::Underlay);
    if let Some(senders) = &p.desired.senders {
        p.known_update(&mut unit, key(p.desired), vec![Arc::new(elements::members(senders))]);
    }
    unit
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::fixture::World;

    #[test]
    fn an_address_that_goes_stays_for_a_while() {
        let (mut world, mut recent, start) = (World::new(), RecentMembers::default(), Instant::now());
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(recent.after(&world.view, start).len(), 3);
        // One moves, one is forgotten.
        world.node("b", "fd77::2", &["10.0.0.2"]);
        world.view.nodes.remove("c");
        let at = |secs| start + Duration::from_secs(secs);
        let soon = recent.after(&world.view, at(59));
        assert!(soon.contains(&addr("fd77::2")) && soon.contains(&addr("10.77.0.2")), "{soon:?}");
        assert_eq!(recent.after(&world.view, at(60)), [addr("10.77.0.1"), addr("fd77::2")].into());
    }
}
