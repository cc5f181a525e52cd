//! Ports in lists.

use proto::model::{PortConfig, PublishMode};
use serde_json::Value;

use super::Object;

/// The mesh's ports of a service: `*:8080->80/tcp`, neighbours folded into `*:8080-8082->80-82/tcp`.
pub fn ingress(ports: &[PortConfig]) -> String {
    let mut ports: Vec<_> =
        ports.iter().filter(|p| p.mode == PublishMode::Ingress && p.published != 0).collect();
    ports.sort_by_key(|p| (p.protocol, p.published, p.target));
    let mut runs: Vec<(&PortConfig, &PortConfig)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((_, last)) if follows(last, port) => *last = port,
            _ => runs.push((port, port)),
        }
    }
    let range = |a: u16, b: u16| if a == b { a.to_string() } else { format!("{a}-{b}") };
    let text = |(a, b): (&PortConfig, &PortConfig)| {
        format!("*:{}->{}/{}", range(a.published, b.published), range(a.target, b.target), a.protocol)
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

fn follows(last: &PortConfig, port: &PortConfig) -> bool {
    last.protocol == port.protocol
        && last.published.checked_add(1) == Some(port.published)
        && last.target.checked_add(1) == Some(port.target)
}

/// A task's host-mode ports as bound: `*:80->80/tcp`.
pub fn host(ports: &[PortConfig]) -> String {
    ports
        .iter()
        .filter(|p| p.published != 0)
        .map(|p| format!("*:{}->{}/{}", p.published, p.target, p.protocol))
        .collect::<Vec<_>>()
        .join(",")
}

/// Docker's `PortConfig`.
pub fn json(ports: &[PortConfig]) -> Value {
    ports
        .iter()
        .map(|p| {
            let mode = if p.mode == PublishMode::Host { "host" } else { "ingress" };
            Value::from(
                Object::default()
                    .some("Name", p.name.as_str())
                    .with("Protocol", p.protocol.as_str())
                    .with("TargetPort", p.target)
                    .some("PublishedPort", p.published)
                    .with("PublishMode", mode),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proto::model::Protocol;

    use super::*;

    fn port(published: u16, target: u16, protocol: Protocol) -> PortConfig {
        PortConfig { published, target, protocol, ..PortConfig::default() }
    }

    #[test]
    fn neighbours_fold() {
        let ports = [
            port(8082, 82, Protocol::Tcp),
            port(8080, 80, Protocol::Tcp),
            port(8081, 81, Protocol::Tcp),
            port(8081, 81, Protocol::Udp),
            port(9000, 90, Protocol::Tcp),
            PortConfig { mode: PublishMode::Host, ..port(80, 80, Protocol::Tcp) },
        ];
        assert_eq!(ingress(&ports), "*:8080-8082->80-82/tcp, *:9000->90/tcp, *:8081->81/udp");
        assert_eq!(ingress(&[]), "");
        assert_eq!(ingress(&[port(65535, 65535, Protocol::Tcp)]), "*:65535->65535/tcp");
    }
}
