//! Global services: one task on each node that fits.

use proto::model::{Availability, Node, TaskState};

use super::{
    Pass, replicated, restart,
    slot::{self, Key, Slot},
};
use crate::scheduler::{constraint, is_available};

/// Brings the tasks of a global service nearer to its spec.
pub(super) fn reconcile(pass: &mut Pass<'_>, slots: &[Slot<'_>]) {
    let mut kept: Vec<&Slot<'_>> = Vec::new();
    for slot in slots {
        let Key::Node(id) = &slot.key else { continue };
        match pass.state.nodes.get(id) {
            Some(node) if keeps(pass, node) => {
                if slot.has_live() || restart::is_settled(slot, pass.service) {
                    kept.push(slot);
                } else if is_available(node) {
                    let at = restart::soonest(pass, slot);
                    pass.fill(&slot.key, at);
                }
            }
            Some(_) => slot.live().for_each(|task| pass.desire(task, TaskState::Shutdown)),
            // The node was removed: so is what it ran.
            None => slot.tasks.iter().for_each(|task| pass.desire(task, TaskState::Remove)),
        }
    }
    for node in pass.state.nodes.values() {
        let key = Key::Node(node.id.clone());
        let known = slots.binary_search_by(|s| s.key.cmp(&key)).is_ok();
        if !known && is_available(node) && keeps(pass, node) {
            pass.fill(&key, pass.now);
        }
    }
    replicated::tend(pass, &kept);
}

/// Whether a node may have a task of this service: a paused one keeps its task and gets no new one.
fn keeps(pass: &Pass<'_>, node: &Node) -> bool {
    !slot::is_node_gone(&node.id, pass.state)
        && node.spec.availability != Availability::Drain
        && constraint::all_match(&pass.service.spec.task.placement.constraints, node)
}
