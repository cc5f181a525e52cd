//! Services.

use std::{collections::BTreeMap, net::IpAddr};

use proto::model::{Network, NetworkId, Service, ServiceMode};
use serde_json::{Value, json};

use super::{Object, conditions, label_list, port, spec, with_meta};
use crate::output::{
    listing::{Listing, Row},
    short_id, time,
};

/// `service ls`.
pub const LISTING: Listing = Listing {
    table: "{{.ID}}\\t{{.Name}}\\t{{.Mode}}\\t{{.Replicas}}\\t{{.Image}}\\t{{.Ports}}",
    quiet: "{{.ID}}",
    configured: |c| c.services_format,
    headings: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Mode", "MODE"),
        ("Replicas", "REPLICAS"),
        ("Image", "IMAGE"),
        ("Ports", "PORTS"),
    ],
};

/// `replicated` or `global`.
pub fn mode(mode: ServiceMode) -> &'static str {
    match mode {
        ServiceMode::Replicated(_) => "replicated",
        ServiceMode::Global => "global",
    }
}

/// A line of `service ls`.
pub fn row(service: &Service, running: u64, desired: u64, full_id: bool) -> Row {
    let id = service.id.as_str();
    let replicas = match service.spec.task.placement.max_replicas {
        0 => format!("{running}/{desired}"),
        max => format!("{running}/{desired} (max {max} per node)"),
    };
    let ports = service.allocation.as_ref().map_or(&service.spec.endpoint.ports, |a| &a.ports);
    Object::default()
        .with("ID", if full_id { id } else { short_id(id) })
        .with("Name", service.spec.name.as_str())
        .with("Mode", mode(service.spec.mode))
        .with("Replicas", replicas)
        .with("Image", image(&service.spec.task.container.image))
        .with("Ports", port::ingress(ports))
        .with("Labels", label_list(&service.spec.labels))
        .build()
}

/// A reference without its digest.
pub fn image(reference: &str) -> &str {
    reference.split_once('@').map_or(reference, |(name, _)| name)
}

/// `service inspect`. The networks give the virtual addresses their prefix lengths.
pub fn inspect(service: &Service, networks: &BTreeMap<NetworkId, Network>) -> Row {
    let object = with_meta(Object::default().with("ID", service.id.as_str()), &service.meta)
        .with("Spec", spec::service(&service.spec))
        .some("PreviousSpec", service.previous_spec.as_ref().map_or(Value::Null, spec::service));
    let mut endpoint = Object::default().with("Spec", spec::endpoint(&service.spec.endpoint));
    if let Some(allocation) = &service.allocation {
        let vips: Vec<Value> = allocation
            .vips
            .iter()
            .flat_map(|vip| {
                vip.addrs.iter().map(|addr| {
                    json!({
                        "NetworkID": vip.network.as_str(),
                        "Addr": with_prefix(*addr, networks.get(&vip.network)),
                    })
                })
            })
            .collect();
        endpoint = endpoint.some("Ports", port::json(&allocation.ports)).some("VirtualIPs", vips);
    }
    let update = service.update_status.as_ref().map(|u| {
        let completed = (u.completed_at.0 > 0).then(|| time::rfc3339(u.completed_at));
        Object::default()
            .with("State", u.state.as_str())
            .with("StartedAt", time::rfc3339(u.started_at))
            .some("CompletedAt", completed.unwrap_or_default())
            .with("Message", u.message.as_str())
    });
    object
        .with("Endpoint", endpoint)
        .some("UpdateStatus", update.map_or(Value::Null, Into::into))
        .some("Conditions", conditions(&service.conditions))
        .build()
}

fn with_prefix(addr: IpAddr, network: Option<&Network>) -> String {
    network
        .and_then(|n| n.allocation.as_ref())
        .and_then(|a| a.subnets.iter().find(|s| s.subnet.contains(&addr)))
        .map_or_else(|| addr.to_string(), |s| format!("{addr}/{}", s.subnet.prefix_len()))
}
