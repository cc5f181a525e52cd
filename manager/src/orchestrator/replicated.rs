//! Replicated services: so many slots, wherever.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use proto::model::TaskState;

use super::{
    Pass, restart, rolling,
    slot::{Key, Slot},
};

/// Brings the tasks of a replicated service nearer to its spec. A change of `replicas` touches no slot that stays.
pub(super) fn reconcile(pass: &mut Pass<'_>, replicas: u64, slots: &[Slot<'_>]) {
    let replicas = usize::try_from(replicas).unwrap_or(usize::MAX);
    let (mut occupied, vacant): (Vec<&Slot<'_>>, Vec<&Slot<'_>>) =
        slots.iter().partition(|s| s.has_live() || restart::is_settled(s, pass.service));
    let excess = occupied.len().saturating_sub(replicas);
    for slot in surplus(&occupied, excess) {
        for task in &slot.tasks {
            pass.desire(task, TaskState::Remove);
        }
        occupied.retain(|s| s.key != slot.key);
    }
    let mut filled: BTreeSet<Key> = occupied.iter().map(|s| s.key.clone()).collect();
    let missing = replicas.saturating_sub(filled.len());
    let free: Vec<Key> = (1..).map(Key::Slot).filter(|k| !filled.contains(k)).take(missing).collect();
    for key in free {
        let before = vacant.iter().find(|s| s.key == key);
        let at = before.map_or(pass.now, |slot| restart::soonest(pass, slot));
        pass.fill(&key, at);
        filled.insert(key);
    }
    for slot in vacant.iter().filter(|s| !filled.contains(&s.key)) {
        for task in &slot.tasks {
            pass.desire(task, TaskState::Remove);
        }
    }
    tend(pass, &occupied);
}

/// What every slot that stays needs: restarts, delayed starts, the update.
pub(super) fn tend(pass: &mut Pass<'_>, slots: &[&Slot<'_>]) {
    let mut quiet = Vec::new();
    for slot in slots {
        if !restart::keep(pass, slot) {
            restart::promote(pass, slot);
            quiet.push(*slot);
        }
    }
    rolling::advance(pass, slots, &quiet);
}

/// The slots to give up: first those that do not run, then from the nodes that run most of them; the highest numbers
/// first.
fn surplus<'s, 'a>(slots: &[&'s Slot<'a>], count: usize) -> Vec<&'s Slot<'a>> {
    let mut on_node: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let mut ranked: Vec<(bool, usize, &'s Slot<'a>)> = slots
        .iter()
        .map(|slot| {
            let running = slot.running();
            let node = running.and_then(|t| t.node_id.as_ref()).map(|id| id.as_str());
            // The n-th slot of its node: whoever has the highest n is on a busiest node.
            let nth = on_node.entry(node).and_modify(|n| *n += 1).or_default();
            (running.is_some(), *nth, *slot)
        })
        .collect();
    ranked.sort_by_key(|(running, nth, slot)| (*running, Reverse(*nth), Reverse(slot.key.clone())));
    ranked.into_iter().take(count).map(|(.., slot)| slot).collect()
}
