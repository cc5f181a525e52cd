//! Tasks.

use std::collections::BTreeMap;

use proto::model::{Node, NodeId, Task, TaskState, Timestamp};
use serde_json::{Value, json};

use super::{Object, conditions, port, service::image, spec, with_meta};
use crate::output::{
    ellipsis,
    listing::{Listing, Row},
    short_id, time,
};

/// `service ps` and `node ps`.
pub const LISTING: Listing = Listing {
    table: "{{.ID}}\\t{{.Name}}\\t{{.Image}}\\t{{.Node}}\\t{{.DesiredState}}\\t{{.CurrentState}}\\t{{.Error}}\\t{{.Ports}}",
    quiet: "{{.ID}}",
    configured: |c| c.tasks_format,
    headings: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Image", "IMAGE"),
        ("Node", "NODE"),
        ("DesiredState", "DESIRED STATE"),
        ("CurrentState", "CURRENT STATE"),
        ("Error", "ERROR"),
        ("Ports", "PORTS"),
    ],
};

/// Docker's `maxErrLength`.
const ERROR_LENGTH: usize = 30;

/// How tasks are printed.
#[derive(Debug, Clone, Copy)]
pub struct Style<'a> {
    /// Nodes, for their host names.
    pub nodes: &'a BTreeMap<NodeId, Node>,
    /// Ids instead of names.
    pub no_resolve: bool,
    /// Nothing is cut.
    pub no_trunc: bool,
    /// The machine's clock.
    pub now: Timestamp,
}

/// The task's place in its service: `web.1`, or `web.NODE` in a global one. Tasks of one place replace each other.
pub fn place(task: &Task) -> String {
    match (task.slot, &task.node_id) {
        (0, Some(node)) => format!("{}.{node}", task.service_name),
        (0, None) => format!("{}.{}", task.service_name, task.id),
        (slot, _) => format!("{}.{slot}", task.service_name),
    }
}

/// The order of `service ps`: by place, newest first within one; the live ones of a place before its history.
pub fn sort(tasks: &mut [Task]) {
    tasks.sort_by(|a, b| {
        let key = |t: &Task| (t.service_name.clone(), t.slot, t.node_id.clone().filter(|_| t.slot == 0));
        key(a).cmp(&key(b)).then_with(|| {
            let over = |t: &Task| t.desired > TaskState::Running;
            let newer = (b.meta.created_in, b.meta.version).cmp(&(a.meta.created_in, a.meta.version));
            over(a).cmp(&over(b)).then(newer).then_with(|| a.id.cmp(&b.id))
        })
    });
}

/// The lines of `service ps`, of sorted tasks: those that a newer task of the same place replaced are drawn under it.
pub fn rows(tasks: &[Task], style: &Style<'_>) -> Vec<Row> {
    let mut previous = None;
    tasks
        .iter()
        .map(|task| {
            let place = place(task);
            let replaced = previous.as_ref() == Some(&place);
            let row = row(task, &place, replaced, style);
            previous = Some(place);
            row
        })
        .collect()
}

fn row(task: &Task, place: &str, replaced: bool, style: &Style<'_>) -> Row {
    let id = task.id.as_str();
    let indent = if replaced { " \\_ " } else { "" };
    let shown_image = &task.spec.container.image;
    let current = format!(
        "{} {}",
        task.status.state,
        time::ago(if task.status.at.0 == 0 { task.meta.updated_at } else { task.status.at }, style.now)
            .to_lowercase()
    );
    let error = task.reason();
    let error = match (error.is_empty(), style.no_trunc) {
        (true, _) => String::new(),
        (false, true) => format!("\"{error}\""),
        (false, false) => format!("\"{}\"", ellipsis(error, ERROR_LENGTH)),
    };
    Object::default()
        .with("ID", if style.no_trunc { id } else { short_id(id) })
        .with("Name", format!("{indent}{place}"))
        .with("Image", if style.no_trunc { shown_image } else { image(shown_image) })
        .with("Node", node_name(task, style))
        .with("DesiredState", task.desired.as_str())
        .with("CurrentState", current)
        .with("Error", error)
        .with("Ports", port::host(&task.status.ports))
        .build()
}

fn node_name(task: &Task, style: &Style<'_>) -> String {
    let Some(id) = &task.node_id else { return String::new() };
    let name = style.nodes.get(id).map_or("", |n| n.hostname());
    if style.no_resolve || name.is_empty() { id.to_string() } else { name.to_owned() }
}

/// `inspect` of a task.
pub fn inspect(task: &Task) -> Row {
    let status = &task.status;
    let container = Object::default()
        .some("ContainerID", status.container_id.as_str())
        .some("PID", status.pid)
        .some("ExitCode", status.exit_code.map_or(Value::Null, Value::from));
    let attachments: Vec<Value> = task
        .allocation
        .iter()
        .flat_map(|a| &a.attachments)
        .map(|a| {
            Object::default()
                .with("Network", json!({"ID": a.network.as_str()}))
                .with("Addresses", a.addrs.iter().map(ToString::to_string).collect::<Vec<_>>())
                .some("Aliases", a.aliases.clone())
                .into()
        })
        .collect();
    let ingress: Vec<String> =
        task.allocation.iter().flat_map(|a| &a.ingress_addrs).map(ToString::to_string).collect();
    with_meta(Object::default().with("ID", task.id.as_str()), &task.meta)
        .with("Name", task.name())
        .with("Labels", json!({}))
        .with("Spec", spec::task(&task.spec))
        .with("ServiceID", task.service_id.as_str())
        .some("Slot", task.slot)
        .some("NodeID", task.node_id.as_ref().map_or("", |n| n.as_str()))
        .with(
            "Status",
            Object::default()
                .with("Timestamp", time::rfc3339(status.at))
                .with("State", status.state.as_str().to_lowercase())
                .with("Message", status.message.as_str())
                .some("Err", status.err.as_str())
                .with("ContainerStatus", container)
                .with("PortStatus", Object::default().some("Ports", port::json(&status.ports))),
        )
        .with("DesiredState", task.desired.as_str().to_lowercase())
        .some("NetworksAttachments", attachments)
        .some("IngressAddresses", ingress)
        .some("Conditions", conditions(&task.conditions))
        .build()
}
