//! Services and tasks of stacks, as the API lists them.

use std::collections::BTreeMap;

use docker_api::{endpoint::PortConfig, service::Service, task::Task};
use proto::{
    error::ApiError,
    model::{self, Timestamp},
};

use super::{Object, port, service::image};
use crate::output::{ellipsis, listing::Row, short_id, time};

/// Docker's `maxErrLength`.
const ERROR_LENGTH: usize = 30;

/// A key by which names are sorted as people do: `web2` before `web10`.
pub fn natural(name: &str) -> Vec<(u64, String)> {
    let mut parts: Vec<(u64, String)> = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(text_end);
        let number_end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(number_end);
        if !text.is_empty() {
            parts.push((u64::MAX, text.to_owned()));
        }
        if !number.is_empty() {
            parts.push((number.parse().unwrap_or(u64::MAX - 1), String::new()));
        }
        rest = tail;
    }
    parts
}

fn ports(ports: &[PortConfig]) -> Result<Vec<model::PortConfig>, ApiError> {
    ports.iter().cloned().map(TryInto::try_into).collect()
}

/// A line of `stack services`.
pub fn service(service: &Service, whole_id: bool) -> Result<Row, ApiError> {
    let spec = &service.spec;
    let status = service.service_status.unwrap_or_default();
    let mode = match &spec.mode {
        mode if mode.global.is_some() => "global",
        mode if mode.replicated_job.is_some() => "replicated job",
        mode if mode.global_job.is_some() => "global job",
        _ => "replicated",
    };
    let most = spec.task_template.placement.as_ref().map_or(0, |p| p.max_replicas);
    let replicas = match most {
        0 => format!("{}/{}", status.running_tasks, status.desired_tasks),
        most => format!("{}/{} (max {most} per node)", status.running_tasks, status.desired_tasks),
    };
    let shown = spec.task_template.container_spec.as_ref().map_or("", |c| image(&c.image));
    Ok(Object::default()
        .with("ID", if whole_id { &service.id } else { short_id(&service.id) })
        .with("Name", spec.name.as_str())
        .with("Mode", mode)
        .with("Replicas", replicas)
        .with("Image", shown)
        .with("Ports", port::ingress(&ports(&service.endpoint.ports)?))
        .with("Labels", super::label_list(&spec.labels))
        .build())
}

/// What ids are called.
pub struct Names {
    /// Services.
    pub services: BTreeMap<String, String>,
    /// Nodes.
    pub nodes: BTreeMap<String, String>,
    /// Ids instead of names.
    pub no_resolve: bool,
}

impl Names {
    fn of<'a>(&self, names: &'a BTreeMap<String, String>, id: &'a str) -> &'a str {
        match names.get(id) {
            Some(name) if !self.no_resolve && !name.is_empty() => name,
            _ => id,
        }
    }

    /// `web.1`, or `web.NODE` in a global service. Tasks of one place replace each other.
    fn place(&self, task: &Task) -> String {
        let service = self.of(&self.services, &task.service_id);
        match task.slot {
            0 => format!("{service}.{}", task.node_id),
            slot => format!("{service}.{slot}"),
        }
    }

    /// By place; within one, those that are to run first, and the newest first.
    pub fn sort(&self, tasks: &mut [Task]) {
        tasks.sort_by(|a, b| {
            let place = |t: &Task| {
                (
                    self.of(&self.services, &t.service_id).to_owned(),
                    t.slot,
                    if t.slot == 0 { t.node_id.clone() } else { String::new() },
                )
            };
            let over = |t: &Task| t.desired_state != "running";
            let newest = b.meta.created_at.cmp(&a.meta.created_at);
            place(a).cmp(&place(b)).then(over(a).cmp(&over(b))).then(newest).then_with(|| a.id.cmp(&b.id))
        });
    }

    /// The lines of `stack ps`, of sorted tasks.
    pub fn rows(&self, tasks: &[Task], whole: bool, now: Timestamp) -> Result<Vec<Row>, ApiError> {
        let mut previous = String::new();
        let row = |task: &Task| {
            let place = self.place(task);
            let indent = if place == previous { " \\_ " } else { "" };
            let name = format!("{indent}{place}");
            previous = place;
            self.row(task, name, whole, now)
        };
        tasks.iter().map(row).collect()
    }

    fn row(&self, task: &Task, name: String, whole: bool, now: Timestamp) -> Result<Row, ApiError> {
        let status = &task.status;
        let at = docker_api::time::timestamp("Timestamp", &status.timestamp).unwrap_or_default();
        let state = capital(&status.state);
        let error = match (status.err.as_str(), whole) {
            ("", _) => String::new(),
            (error, true) => format!("\"{error}\""),
            (error, false) => format!("\"{}\"", ellipsis(error, ERROR_LENGTH)),
        };
        let container = task.spec.container_spec.as_ref().map_or("", |c| c.image.as_str());
        Ok(Object::default()
            .with("ID", if whole { &task.id } else { short_id(&task.id) })
            .with("Name", name)
            .with("Image", if whole { container } else { image(container) })
            .with("Node", self.of(&self.nodes, &task.node_id))
            .with("DesiredState", capital(&task.desired_state))
            .with(
                "CurrentState",
                format!("{state} {}", time::ago(Timestamp(at / 1_000_000), now).to_lowercase()),
            )
            .with("Error", error)
            .with("Ports", port::host(&ports(&status.port_status.ports)?))
            .build())
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_sort_them() {
        let mut names = ["web10", "web2", "db", "web"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["db", "web", "web2", "web10"]);
        assert_eq!(capital("running"), "Running");
    }
}
