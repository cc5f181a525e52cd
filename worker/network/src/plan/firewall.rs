//! Other people's firewalls (ufw, firewalld, dockerd): where one drops whatever it does not know on the forward hook, our flows
//! pass only if its own chain says so. The daemon keeps its marked rules at the head of such chains, and nowhere else.

use std::fmt;

use kernel::{Family, Ns, NsObserved, Step, observed::FORWARD};

use super::{Planner, Unit, UnitKey, rulesets::USER_TABLE};
use crate::desired::NodeDesired;

/// A chain that drops what it does not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DroppingChain {
    /// Family of its table.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// It has the daemon's rules.
    pub opened: bool,
}

impl fmt::Display for DroppingChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, opened } = self;
        write!(
            f,
            "another firewall drops what it does not know (nft list chain {family} {table} {chain}): "
        )?;
        f.write_str(if *opened {
            "rules of rn at its head let the traffic of tasks through"
        } else {
            "published ports and tasks' way out are blocked; accept rn_gwbridge and rn-ingress there, or set firewall-compat"
        })
    }
}

/// The comment of a daemon's rules.
fn mark(desired: &NodeDesired) -> String {
    format!("rn:{}:forward", desired.names.daemon)
}

fn links(desired: &NodeDesired) -> Vec<String> {
    vec![desired.names.gateway_bridge.clone(), desired.names.mesh_device.clone()]
}

/// Chains on the forward hook that are not ours, what they do, and how many rules of this daemon they have. The
/// administrator's own table is left out: who drops there means it.
fn chains<'a>(
    seen: &'a NsObserved,
    mark: &'a str,
) -> impl Iterator<Item = ((Family, &'a str, &'a str), bool, usize)> {
    let foreign = seen.tables.iter().filter(|((family, name), table)| {
        matches!(family, Family::Inet | Family::Ip | Family::Ip6)
            && table.digest.is_none()
            && name != USER_TABLE
    });
    foreign.flat_map(move |((family, name), table)| {
        let forward = table.base_chains.iter().filter(|c| c.hook == FORWARD && c.kind == "filter");
        forward.map(move |chain| {
            let place = (*family, name.as_str(), chain.name.as_str());
            (place, chain.drops, chain.marks.get(mark).copied().unwrap_or_default())
        })
    })
}

/// The chains that drop, as they were before this pass.
pub fn dropping(desired: &NodeDesired, seen: &NsObserved) -> Vec<DroppingChain> {
    let mark = mark(desired);
    let dropping = chains(seen, &mark).filter(|(_, drops, _)| *drops);
    let tell = |((family, table, chain), _, rules): ((Family, &str, &str), bool, usize)| DroppingChain {
        family,
        table: table.into(),
        chain: chain.into(),
        opened: desired.firewall_compat || rules > 0,
    };
    dropping.map(tell).collect()
}

pub(super) fn plan(p: &mut Planner<'_>) -> Unit {
    let mut unit = Unit::new(UnitKey::Firewall);
    let desired = p.desired;
    let Some(seen) = p.observed.ns(&Ns::Host) else { return unit };
    let (mark, links) = (mark(desired), links(desired));
    let serving = desired.mesh.is_some() || !desired.sandboxes.is_empty();
    for ((family, table, chain), drops, rules) in chains(seen, &mark) {
        let wanted = if desired.firewall_compat && serving && drops { 2 * links.len() } else { 0 };
        if rules == wanted || (rules > 0 && wanted == 0 && !desired.settled) {
            continue;
        }
        let (ns, table, chain) = (Ns::Host, table.to_owned(), chain.to_owned());
        if rules > 0 {
            let (ns, table, chain) = (ns.clone(), table.clone(), chain.clone());
            unit.steps.push(Step::CloseChain { ns, family, table, chain, mark: mark.clone() });
        }
        if wanted > 0 {
            let (links, mark) = (links.clone(), mark.clone());
            unit.steps.push(Step::OpenChain { ns, family, table, chain, links, mark });
        }
    }
    unit
}
