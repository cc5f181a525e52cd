//! One pass of the scheduler.

use std::{collections::BTreeMap, sync::Arc};

use proto::model::{ServiceMode, Task, TaskState, Timestamp};

use super::{
    CONDITION, NodeInfo,
    filter::{self, Refusal},
    spread,
};
use crate::{
    control_loop::Plan,
    store::{
        command::{Command, ObjectId},
        state::State,
    },
};

/// Places every task that waits for a node, or says on it why no node suits.
pub fn plan(state: &State, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    nowhere(state, &mut plan, now);
    let mut waiting: Vec<&Arc<Task>> = state.tasks.values().filter(|t| is_waiting(t)).collect();
    if waiting.is_empty() {
        return plan;
    }
    // Groups of equal tasks, the oldest group first. Tasks bound to a node (global services) have no choice: they go
    // first, so that the others go round them.
    waiting.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut nodes: Vec<NodeInfo> = state.nodes.values().map(|n| NodeInfo::of(n, state, now)).collect();
    let (bound, free): (Vec<&Arc<Task>>, Vec<&Arc<Task>>) =
        waiting.into_iter().partition(|t| t.node_id.is_some());
    for task in bound {
        let node = nodes.iter().position(|n| task.node_id.as_ref() == Some(&n.node.id));
        let result = match node {
            Some(i) => filter::check(task, &nodes[i], state).map(|()| i).map_err(|r| explain(&[r])),
            None => Err("its node is gone".to_owned()),
        };
        place(task, result, &mut nodes, &mut plan, now);
    }
    let same =
        |a: &&Arc<Task>, b: &&Arc<Task>| (&a.service_id, a.spec_version) == (&b.service_id, b.spec_version);
    for group in free.chunk_by(same) {
        place_group(group, state, &mut nodes, &mut plan, now);
    }
    plan
}

/// Says on a global service that has no task on any node why no node is for it.
fn nowhere(state: &State, plan: &mut Plan, now: Timestamp) {
    for service in state.services.values().filter(|s| s.spec.mode == ServiceMode::Global) {
        let lives = || state.tasks_by_service(&service.id).any(|t| t.desired <= TaskState::Running);
        let constraints = &service.spec.task.placement.constraints;
        let refusals = || -> Vec<Refusal> {
            state.nodes.values().filter_map(|n| filter::eligible(constraints, n).err()).collect()
        };
        let result = match lives() {
            true => Ok(()),
            false => match refusals() {
                all if all.len() == state.nodes.values().count() => Err(explain(&all)),
                _ => Ok(()),
            },
        };
        let object = ObjectId::Service(service.id.clone());
        plan.settle(object, &service.conditions, CONDITION, result, now);
    }
}

fn is_waiting(task: &Task) -> bool {
    task.status.state == TaskState::Pending && task.desired <= TaskState::Running
}

fn order(task: &Task) -> impl Ord + '_ {
    (task.meta.created_in, &task.service_id, task.spec_version, task.slot, &task.id)
}

/// Tasks of a group are alike, so the nodes are filtered once; a node's answer changes only when it gets a task.
fn place_group(group: &[&Arc<Task>], state: &State, nodes: &mut [NodeInfo], plan: &mut Plan, now: Timestamp) {
    let Some(first) = group.first() else { return };
    let mut suitable = Vec::new();
    let mut refusals: BTreeMap<usize, Refusal> = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        match filter::check(first, node, state) {
            Ok(()) => suitable.push(i),
            Err(refusal) => {
                refusals.insert(i, refusal);
            }
        }
    }
    for task in group {
        let picked = spread::pick(task, nodes, &suitable);
        let why = || explain(&refusals.values().cloned().collect::<Vec<_>>());
        place(task, picked.ok_or_else(why), nodes, plan, now);
        if let Some(i) = picked
            && let Err(refusal) = filter::check(task, &nodes[i], state)
        {
            suitable.retain(|s| *s != i);
            refusals.insert(i, refusal);
        }
    }
}

fn place(
    task: &Arc<Task>,
    result: Result<usize, String>,
    nodes: &mut [NodeInfo],
    plan: &mut Plan,
    now: Timestamp,
) {
    let object = ObjectId::Task(task.id.clone());
    if let Some(i) = plan.settle(object, &task.conditions, CONDITION, result, now) {
        nodes[i].add(task);
        plan.push(Command::PlaceTask { id: task.id.clone(), node: nodes[i].node.id.clone() });
    }
}

/// `no suitable node (scheduling constraint node.labels.zone==a not satisfied on 2 nodes; insufficient resources (CPU) on 1 node)`.
fn explain(refusals: &[Refusal]) -> String {
    if refusals.is_empty() {
        return "no suitable node (the cluster has no nodes)".into();
    }
    let mut counts: BTreeMap<&Refusal, usize> = BTreeMap::new();
    for refusal in refusals {
        *counts.entry(refusal).or_default() += 1;
    }
    let mut counts: Vec<(&Refusal, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(refusal, count)| (std::cmp::Reverse(*count), *refusal));
    let parts: Vec<String> = counts
        .iter()
        .map(|(refusal, count)| format!("{refusal} on {count} node{}", if *count == 1 { "" } else { "s" }))
        .collect();
    format!("no suitable node ({})", parts.join("; "))
}
