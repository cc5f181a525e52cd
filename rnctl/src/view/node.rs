//! Nodes.

use docker_api::{node::DockerNode, swarm::ClusterInfo};

use super::{Object, capitalized};
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

/// Whether a node has a certificate of the root that it should have one of (docker/cli `nodeContext.TLSStatus`). A rotation of the
/// root ends once every node has one of the next.
fn tls_status(node: &DockerNode, swarm: Option<&ClusterInfo>) -> &'static str {
    match swarm {
        None => "Unknown",
        Some(swarm)
            if swarm.root_rotation_in_progress
                && node.description.tls_info.trust_root == swarm.tls_info.trust_root =>
        {
            "Needs Rotation"
        }
        Some(_) => "Ready",
    }
}

/// A line of `node ls`; `own` is the id of the node that was asked, `swarm` what it knows of the swarm, as far as that is known.
pub fn row(node: &DockerNode, own: &str, swarm: Option<&ClusterInfo>) -> Row {
    let manager = match &node.manager_status {
        Some(status) if status.leader => "Leader".to_owned(),
        Some(status) => capitalized(&status.reachability),
        None => String::new(),
    };
    Object::default()
        .with("ID", node.id.as_str())
        .with("Self", node.id == own)
        .with("Hostname", node.description.hostname.as_str())
        .with("Status", capitalized(&node.status.state))
        .with("Availability", capitalized(&node.spec.availability))
        .with("ManagerStatus", manager)
        .with("EngineVersion", node.description.engine.engine_version.as_str())
        .with("TLSStatus", tls_status(node, swarm))
        .build()
}
