//! Which of the suitable nodes a task goes to.

use std::collections::BTreeMap;

use proto::model::{Node, ServiceId, Task};

use super::NodeInfo;

/// Picks among `suitable` (indexes into `nodes`): by placement preferences first, each of which evens out the service's
/// tasks over the values of a label; then the node with the fewest tasks of the service, then with the fewest tasks.
/// Nodes where the service keeps failing come last.
pub(super) fn pick(task: &Task, nodes: &[NodeInfo], suitable: &[usize]) -> Option<usize> {
    let service = &task.service_id;
    let mut candidates = suitable.to_vec();
    // The branch that a preference narrows to; counts cover all its nodes, suitable or not.
    let mut branch: Vec<usize> = (0..nodes.len()).collect();
    for label in task.spec.placement.preferences.iter().filter_map(|p| spread_over(p)) {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for i in &branch {
            *counts.entry(label.of(&nodes[*i].node)).or_default() += nodes[*i].tasks_of(service);
        }
        let fewest = candidates
            .iter()
            .map(|i| label.of(&nodes[*i].node))
            .min_by_key(|value| (counts.get(value), *value))?;
        let fewest = fewest.to_owned();
        candidates.retain(|i| label.of(&nodes[*i].node) == fewest);
        branch.retain(|i| label.of(&nodes[*i].node) == fewest);
    }
    candidates.into_iter().min_by_key(|i| rank(&nodes[*i], service, task))
}

fn rank<'a>(info: &'a NodeInfo, service: &ServiceId, task: &Task) -> (bool, u64, u64, &'a str) {
    (info.is_failing(task), info.tasks_of(service), info.total(), info.node.id.as_str())
}

/// A label that a preference spreads over.
enum Label<'a> {
    Node(&'a str),
    Engine(&'a str),
}

impl Label<'_> {
    /// A node without the label has the empty value, a branch of its own.
    fn of<'n>(&self, node: &'n Node) -> &'n str {
        let value = match self {
            Label::Node(name) => node.spec.labels.get(*name),
            Label::Engine(name) => node.description.as_ref().and_then(|d| d.engine_labels.get(*name)),
        };
        value.map_or("", String::as_str)
    }
}

/// Reads `spread=node.labels.X` or `spread=engine.labels.X`; anything else spreads over nothing.
fn spread_over(preference: &str) -> Option<Label<'_>> {
    let (strategy, descriptor) = preference.split_once('=')?;
    let descriptor = descriptor.trim();
    if !strategy.trim().eq_ignore_ascii_case("spread") {
        return None;
    }
    let node = descriptor.strip_prefix("node.labels.").map(Label::Node);
    node.or_else(|| descriptor.strip_prefix("engine.labels.").map(Label::Engine))
}
