//! Nodes.

use proto::{
    model::{Availability, Node, NodeState, Reachability},
    pb,
};
use serde_json::{Value, json};

use super::{Object, capitalized, conditions, strings, with_meta};
use crate::output::listing::{Listing, Row};

/// `node ls`.
pub const LISTING: Listing = Listing {
    table: "{{.ID}}{{if .Self}} *{{end}}\\t{{.Hostname}}\\t{{.Status}}\\t{{.Availability}}\\t{{.ManagerStatus}}\\t{{.EngineVersion}}",
    quiet: "{{.ID}}",
    configured: |c| c.nodes_format,
    headings: &[
        ("ID", "ID"),
        ("Self", ""),
        ("Hostname", "HOSTNAME"),
        ("Status", "STATUS"),
        ("Availability", "AVAILABILITY"),
        ("ManagerStatus", "MANAGER STATUS"),
        ("EngineVersion", "ENGINE VERSION"),
        ("TLSStatus", "TLS STATUS"),
    ],
};

/// `unknown`, `down`, `ready`, `disconnected`.
pub fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Unknown => "unknown",
        NodeState::Down => "down",
        NodeState::Ready => "ready",
        NodeState::Disconnected => "disconnected",
    }
}

/// `active`, `pause`, `drain`.
pub fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

fn reachability(reachability: Reachability) -> &'static str {
    match reachability {
        Reachability::Unknown => "unknown",
        Reachability::Unreachable => "unreachable",
        Reachability::Reachable => "reachable",
    }
}

/// Whether a node has a certificate of the root that it should have one of (docker/cli `nodeContext.TLSStatus`). A rotation of the
/// root ends once every node has.
fn tls_status(node: &Node, root: Option<&pb::RootCa>) -> &'static str {
    match root.map(|r| &r.rotation) {
        None => "Unknown",
        Some(Some(rotation)) if !rotation.moved.iter().any(|id| id == node.id.as_str()) => "Needs Rotation",
        Some(_) => "Ready",
    }
}

/// A line of `node ls`; `own` is the id of the node that was asked, `root` what the cluster trusts, as far as that is known.
pub fn row(node: &Node, own: &str, root: Option<&pb::RootCa>) -> Row {
    let manager = match &node.manager_status {
        Some(status) if status.leader => "Leader".to_owned(),
        Some(status) => capitalized(reachability(status.reachability)),
        None => String::new(),
    };
    Object::default()
        .with("ID", node.id.as_str())
        .with("Self", node.id.as_str() == own)
        .with("Hostname", node.hostname())
        .with("Status", capitalized(state(node.status.state)))
        .with("Availability", capitalized(availability(node.spec.availability)))
        .with("ManagerStatus", manager)
        .with("EngineVersion", node.description.as_ref().map_or("", |d| &d.engine_version))
        .with("TLSStatus", tls_status(node, root))
        .build()
}

/// `node inspect`.
pub fn inspect(node: &Node, root_ca: Option<&str>) -> Row {
    let mut spec = Object::default();
    spec = spec
        .some("Name", node.spec.name.as_str())
        .with("Labels", strings(&node.spec.labels))
        .with("Role", node.spec.role.as_str())
        .with("Availability", availability(node.spec.availability));
    let mut object = with_meta(Object::default().with("ID", node.id.as_str()), &node.meta).with("Spec", spec);
    if let Some(d) = &node.description {
        object = object.with(
            "Description",
            Object::default()
                .with("Hostname", d.hostname.as_str())
                .with("Platform", json!({"Architecture": d.arch, "OS": d.os}))
                .with("Resources", json!({"NanoCPUs": d.nano_cpus, "MemoryBytes": d.memory_bytes}))
                .with(
                    "Engine",
                    Object::default()
                        .with("EngineVersion", d.engine_version.as_str())
                        .some("Labels", strings(&d.engine_labels)),
                )
                .some("TLSInfo", root_ca.map_or(Value::Null, |pem| json!({"TrustRoot": pem})))
                .some("DataPathAddr", d.data_path_addr.map(|a| a.to_string()).unwrap_or_default())
                .some("UnderlayMTU", d.underlay_mtu)
                .some("MissingFeatures", d.missing_features.clone()),
        );
    }
    object = object.with(
        "Status",
        Object::default()
            .with("State", state(node.status.state))
            .some("Message", node.status.message.as_str())
            .with("Addr", node.status.addr.map(|a| a.to_string()).unwrap_or_default()),
    );
    if let Some(m) = &node.manager_status {
        object = object.with(
            "ManagerStatus",
            Object::default()
                .some("Leader", m.leader)
                .with("Reachability", reachability(m.reachability))
                .with("Addr", m.addr.map(|a| a.to_string()).unwrap_or_default()),
        );
    }
    object
        .some("IngressAddrs", node.ingress_addrs.iter().map(ToString::to_string).collect::<Vec<_>>())
        .some("Conditions", conditions(&node.conditions))
        .build()
}
