//! `--pretty`: objects for people.

use std::collections::BTreeMap;

use docker_api::node::DockerNode;
use proto::model::{
    EndpointMode, Millis, Network, NetworkId, PublishMode, Service, ServiceMode, Timestamp, UpdateConfig,
};

use super::{capitalized, label_list, service as service_words, spec};
use crate::output::{time, units};

/// Lines of names and values, indented by a blank a level.
#[derive(Default)]
struct Text(String);

impl Text {
    fn put(&mut self, indent: usize, name: &str, value: impl AsRef<str>) {
        let name = format!("{}{name}:", " ".repeat(indent));
        let line = format!("{name:<24}{}", value.as_ref());
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn some(&mut self, indent: usize, name: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            self.put(indent, name, value);
        }
    }
}

/// A duration as Go prints it: `1m30s`, `500ms`.
fn duration(span: Millis) -> String {
    proto::parse::duration::text(i64::try_from(span.0.saturating_mul(1_000_000)).unwrap_or(i64::MAX))
}

/// `node inspect --pretty`; `root_ca` is the certificate that the cluster trusts.
pub fn node(node: &DockerNode) -> String {
    let (spec, description) = (&node.spec, &node.description);
    let extra = node.rn.clone().unwrap_or_default();
    let mut text = Text::default();
    text.put(0, "ID", &node.id);
    text.some(0, "Name", &spec.name);
    text.some(0, "Labels", label_list(&spec.labels));
    text.put(0, "Hostname", &description.hostname);
    text.put(0, "Joined at", time::of_rfc3339(&node.meta.created_at));
    text.put(0, "Role", capitalized(&spec.role));
    text.put(0, "Status", "");
    text.put(1, "State", capitalized(&node.status.state));
    text.some(1, "Message", &node.status.message);
    text.put(1, "Availability", capitalized(&spec.availability));
    text.put(1, "Address", &node.status.addr);
    if let Some(manager) = &node.manager_status {
        text.put(0, "Manager Status", "");
        text.put(1, "Address", &manager.addr);
        text.put(1, "Raft Status", capitalized(&manager.reachability));
        text.put(1, "Leader", if manager.leader { "Yes" } else { "No" });
    }
    if !description.hostname.is_empty() {
        text.put(0, "Platform", "");
        text.put(1, "Operating System", &description.platform.os);
        text.put(1, "Architecture", &description.platform.architecture);
        text.put(0, "Resources", "");
        text.put(1, "CPUs", (description.resources.nano_cpus / 1_000_000_000).to_string());
        text.put(1, "Memory", units::binary(description.resources.memory_bytes));
        text.put(0, "Engine Version", &description.engine.engine_version);
        text.some(0, "Engine Labels", label_list(&description.engine.labels));
        let pem = description.tls_info.trust_root.trim_end();
        if !pem.is_empty() {
            text.put(0, "TLS Info", "");
            text.put(1, "TrustRoot", "");
            text.0.push_str(pem);
            text.0.push('\n');
        }
        for missing in &extra.missing_features {
            text.put(0, "Missing", missing);
        }
    }
    for condition in &extra.conditions {
        text.put(0, "Condition", format!("{}: {}", condition.kind, condition.message));
    }
    text.0
}

/// `service inspect --pretty`.
pub fn service(service: &Service, networks: &BTreeMap<NetworkId, Network>, now: Timestamp) -> String {
    let s = &service.spec;
    let mut text = Text::default();
    text.put(0, "ID", service.id.as_str());
    text.put(0, "Name", &s.name);
    text.some(0, "Labels", label_list(&s.labels));
    text.put(0, "Service Mode", capitalized(service_words::mode(s.mode)));
    if let ServiceMode::Replicated(n) = s.mode {
        text.put(1, "Replicas", n.to_string());
    }
    if let Some(status) = &service.update_status {
        text.put(0, "UpdateStatus", "");
        text.put(1, "State", status.state.as_str());
        text.put(1, "Started", time::ago(status.started_at, now));
        if status.completed_at.0 > 0 {
            text.put(1, "Completed", time::ago(status.completed_at, now));
        }
        text.put(1, "Message", &status.message);
    }
    for condition in &service.conditions {
        text.put(0, "Condition", format!("{}: {}", condition.kind, condition.message));
    }
    if !s.task.placement.constraints.is_empty() || s.task.placement.max_replicas > 0 {
        text.put(0, "Placement", "");
        text.some(1, "Constraints", s.task.placement.constraints.join(", "));
        if s.task.placement.max_replicas > 0 {
            text.put(1, "Max Replicas Per Node", s.task.placement.max_replicas.to_string());
        }
    }
    update(&mut text, "UpdateConfig", s.update.as_ref());
    update(&mut text, "RollbackConfig", s.rollback.as_ref());
    container(&mut text, s);
    let targets = s.task.networks.iter().map(|n| {
        n.target
            .parse::<NetworkId>()
            .ok()
            .and_then(|id| networks.get(&id))
            .map_or(n.target.as_str(), |n| &n.spec.name)
    });
    text.some(0, "Networks", targets.collect::<Vec<_>>().join(", "));
    text.put(
        0,
        "Endpoint Mode",
        match s.endpoint.mode {
            EndpointMode::Vip => "vip",
            EndpointMode::DnsRr => "dnsrr",
        },
    );
    for port in service.allocation.as_ref().map_or(&s.endpoint.ports, |a| &a.ports) {
        text.put(0, "Ports", "");
        text.put(1, "PublishedPort", port.published.to_string());
        text.put(2, "Protocol", port.protocol.as_str());
        text.put(2, "TargetPort", port.target.to_string());
        text.put(2, "PublishMode", if port.mode == PublishMode::Host { "host" } else { "ingress" });
    }
    text.0
}

fn update(text: &mut Text, name: &str, config: Option<&UpdateConfig>) {
    let default = UpdateConfig::default();
    let config = config.unwrap_or(&default);
    text.put(0, name, "");
    text.put(1, "Parallelism", config.parallelism.to_string());
    if config.delay.0 > 0 {
        text.put(1, "Delay", duration(config.delay));
    }
    text.put(1, "On failure", spec::failure_action(config.failure_action));
    text.put(1, "Monitoring Period", duration(config.monitor));
    text.put(1, "Max failure ratio", config.max_failure_ratio.to_string());
    text.put(1, "Order", spec::order(config.order));
}

fn container(text: &mut Text, s: &proto::model::ServiceSpec) {
    let c = &s.task.container;
    text.put(0, "ContainerSpec", "");
    text.put(1, "Image", &c.image);
    text.some(1, "Command", c.command.join(" "));
    text.some(1, "Args", c.args.join(" "));
    text.some(1, "Env", c.env.join(" "));
    text.some(1, "Dir", &c.dir);
    text.some(1, "User", &c.user);
    for mount in &c.mounts {
        let mode = if mount.read_only { " (read-only)" } else { "" };
        text.put(1, "Mount", format!("{} {} -> {}{mode}", mount.kind, mount.source, mount.target));
    }
    let secrets = c.secrets.iter().map(|r| ("Secrets", &r.target, &r.name));
    let mut heading = "";
    for (kind, target, source) in secrets.chain(c.configs.iter().map(|r| ("Configs", &r.target, &r.name))) {
        if heading != kind {
            text.put(0, kind, "");
            heading = kind;
        }
        text.put(1, "Target", target);
        text.put(2, "Source", source);
    }
    for (name, amounts) in [("Limits", s.task.limits), ("Reservations", s.task.reservations)] {
        if amounts == proto::model::Resources::default() {
            continue;
        }
        text.put(0, name, "");
        #[allow(clippy::cast_precision_loss)] // A number of CPUs, to three digits.
        let cpus = amounts.nano_cpus as f64 / 1e9;
        text.some(1, "CPU", if amounts.nano_cpus > 0 { format!("{cpus}") } else { String::new() });
        text.some(
            1,
            "Memory",
            if amounts.memory_bytes > 0 { units::binary(amounts.memory_bytes) } else { String::new() },
        );
        text.some(1, "Pids", if amounts.pids > 0 { amounts.pids.to_string() } else { String::new() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (millis, want) in
            [(0, "0s"), (500, "500ms"), (5_000, "5s"), (90_000, "1m30s"), (3_600_000, "1h0m0s")]
        {
            assert_eq!(duration(Millis(millis)), want);
        }
    }
}
