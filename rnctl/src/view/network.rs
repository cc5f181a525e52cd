//! Networks.

use docker_api::network::NetworkInspect;

use super::{Object, label_list};
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

/// A line of `network ls`.
pub fn row(network: &NetworkInspect, shown_id: &str) -> Row {
    Object::default()
        .with("ID", shown_id)
        .with("Name", network.name.as_str())
        .with("Driver", network.driver.as_str())
        .with("Scope", network.scope.as_str())
        .with("IPv4", network.enable_ipv4.to_string())
        .with("IPv6", network.enable_ipv6.to_string())
        .with("Internal", network.internal.to_string())
        .with("Labels", label_list(&network.labels))
        .with("CreatedAt", time::of_rfc3339(&network.created))
        .build()
}
