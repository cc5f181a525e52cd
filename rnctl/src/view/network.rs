//! Networks, the cluster's and the daemon's own.

use proto::{model::Network, pb::LocalNetwork};
use serde_json::{Value, json};

use super::{Object, conditions, label_list, strings};
use crate::output::{
    listing::{Listing, Row},
    time,
};

/// `network ls`.
pub const LISTING: Listing = Listing {
    table: "{{.ID}}\\t{{.Name}}\\t{{.Driver}}\\t{{.Scope}}",
    quiet: "{{.ID}}",
    configured: |c| c.networks_format,
    headings: &[("ID", "NETWORK ID"), ("Name", "NAME"), ("Driver", "DRIVER"), ("Scope", "SCOPE")],
};

/// A line of `network ls` for a network of the cluster.
pub fn row(network: &Network, shown_id: &str) -> Row {
    Object::default()
        .with("ID", shown_id)
        .with("Name", network.spec.name.as_str())
        .with("Driver", network.spec.driver.as_str())
        .with("Scope", "swarm")
        .with("IPv4", network.spec.ipv4.to_string())
        .with("IPv6", network.spec.ipv6.to_string())
        .with("Internal", network.spec.internal.to_string())
        .with("Labels", label_list(&network.spec.labels))
        .with("CreatedAt", time::long(network.meta.created_at))
        .build()
}

/// A line of `network ls` for a network of this machine.
pub fn local_row(network: &LocalNetwork, shown_id: &str) -> Row {
    let detail: Value = serde_json::from_str(&network.inspect_json).unwrap_or_default();
    let flag = |key: &str| detail.get(key).and_then(Value::as_bool).unwrap_or(false).to_string();
    Object::default()
        .with("ID", shown_id)
        .with("Name", network.name.as_str())
        .with("Driver", if network.driver == "none" { "null" } else { &network.driver })
        .with("Scope", network.scope.as_str())
        .with("IPv4", flag("EnableIPv4"))
        .with("IPv6", flag("EnableIPv6"))
        .with("Internal", flag("Internal"))
        .with("Labels", "")
        .with("CreatedAt", time::long(proto::model::Timestamp(network.created_at)))
        .build()
}

/// `network inspect` of a network of the cluster; `local` is what this node's kernel has of it.
pub fn inspect(network: &Network, local: Option<&LocalNetwork>) -> Row {
    let config: Vec<Value> = match &network.allocation {
        Some(allocation) => allocation
            .subnets
            .iter()
            .map(|s| {
                Object::default()
                    .with("Subnet", s.subnet.to_string())
                    .some("IPRange", s.ip_range.map(|r| r.to_string()).unwrap_or_default())
                    .with("Gateway", s.gateway.to_string())
                    .into()
            })
            .collect(),
        None => network
            .spec
            .ipam
            .iter()
            .map(|c| {
                Object::default()
                    .some("Subnet", c.subnet.map(|s| s.to_string()).unwrap_or_default())
                    .some("IPRange", c.ip_range.map(|r| r.to_string()).unwrap_or_default())
                    .some("Gateway", c.gateway.map(|g| g.to_string()).unwrap_or_default())
                    .into()
            })
            .collect(),
    };
    let mut options = network.spec.options.clone();
    if let Some(allocation) = &network.allocation {
        options
            .entry("com.docker.network.driver.overlay.vxlanid_list".into())
            .or_insert_with(|| allocation.vni.to_string());
        options.entry("com.docker.network.driver.mtu".into()).or_insert_with(|| allocation.mtu.to_string());
    }
    let detail: Value = local.and_then(|l| serde_json::from_str(&l.inspect_json).ok()).unwrap_or_default();
    Object::default()
        .with("Name", network.spec.name.as_str())
        .with("Id", network.id.as_str())
        .with("Created", time::rfc3339(network.meta.created_at))
        .with("Scope", "swarm")
        .with("Driver", network.spec.driver.as_str())
        .with("EnableIPv4", network.spec.ipv4)
        .with("EnableIPv6", network.spec.ipv6)
        .with(
            "IPAM",
            json!({
                "Driver": network.spec.ipam_driver,
                "Options": strings(&network.spec.ipam_options),
                "Config": config,
            }),
        )
        .with("Internal", network.spec.internal)
        .with("Attachable", network.spec.attachable)
        .with("Ingress", network.spec.ingress)
        .with("ConfigFrom", json!({"Network": ""}))
        .with("ConfigOnly", false)
        .with("Containers", detail.get("Containers").cloned().unwrap_or_else(|| json!({})))
        .with("Options", strings(&options))
        .with("Labels", strings(&network.spec.labels))
        .some("Peers", detail.get("Peers").cloned().unwrap_or_default())
        .some("Conditions", conditions(&network.conditions))
        .build()
}

/// `network inspect` of a network of this machine: the daemon's own words, with the fields of the list when it has none.
pub fn local_inspect(network: &LocalNetwork) -> Row {
    if let Ok(Value::Object(detail)) = serde_json::from_str(&network.inspect_json)
        && !detail.is_empty()
    {
        return detail;
    }
    Object::default()
        .with("Name", network.name.as_str())
        .with("Id", network.id.as_str())
        .with("Created", time::rfc3339(proto::model::Timestamp(network.created_at)))
        .with("Scope", network.scope.as_str())
        .with("Driver", if network.driver == "none" { "null" } else { &network.driver })
        .build()
}
