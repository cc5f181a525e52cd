//! Published ports of the routing mesh. One number space per protocol.

use std::collections::BTreeMap;

use proto::model::{Port, PortConfig, Protocol, PublishMode, ServiceId};

use super::AllocateError;

/// First port handed out when the user names none (swarmkit `cnmallocator/portallocator.go`).
pub const DYNAMIC_FIRST: Port = 30_000;
/// Last one.
pub const DYNAMIC_LAST: Port = 32_767;

/// Who publishes which port.
#[derive(Debug, Clone, Default)]
pub struct PublishedPorts {
    ingress: BTreeMap<(Protocol, Port), Holder>,
    /// Ports that tasks bind on their own nodes. Several services may share one; none may meet an ingress port.
    host: BTreeMap<(Protocol, Port), Vec<Holder>>,
}

#[derive(Debug, Clone)]
struct Holder {
    id: ServiceId,
    name: String,
}

impl PublishedPorts {
    /// Notes ports that a service holds; those without a number are yet to be chosen.
    pub fn hold(&mut self, id: &ServiceId, name: &str, ports: &[PortConfig]) {
        for port in ports.iter().filter(|p| p.published != 0) {
            let holder = Holder { id: id.clone(), name: name.to_owned() };
            let key = (port.protocol, port.published);
            match port.mode {
                PublishMode::Ingress => {
                    self.ingress.entry(key).or_insert(holder);
                }
                PublishMode::Host => self.host.entry(key).or_default().push(holder),
            }
        }
    }

    /// Chooses the ports of a service and holds them. A dynamic port stays the same across updates as long as its
    /// name, protocol and target do.
    ///
    /// # Errors
    /// A named port has another owner, or the dynamic range is used up. Then nothing is held that was not before.
    pub fn choose(
        &mut self,
        id: &ServiceId,
        name: &str,
        wanted: &[PortConfig],
        previous: &[PortConfig],
    ) -> Result<Vec<PortConfig>, AllocateError> {
        let named = |p: &&PortConfig| p.mode == PublishMode::Ingress && p.published != 0;
        for port in wanted.iter().filter(named) {
            if let Some(holder) = self.other_holder(id, port.protocol, port.published) {
                return Err(AllocateError::PortTaken {
                    port: port.published,
                    protocol: port.protocol,
                    holder: holder.name.clone(),
                });
            }
        }
        let mut sticky: Vec<&PortConfig> = previous
            .iter()
            .filter(named)
            .filter(|old| (DYNAMIC_FIRST..=DYNAMIC_LAST).contains(&old.published))
            .filter(|old| !wanted.iter().any(|p| p.protocol == old.protocol && p.published == old.published))
            .collect();
        let mut chosen = wanted.to_vec();
        let mut new = Vec::new();
        for port in chosen.iter_mut().filter(|p| p.mode == PublishMode::Ingress && p.published == 0) {
            let same = |old: &&PortConfig| {
                old.name == port.name && old.protocol == port.protocol && old.target == port.target
            };
            let kept = sticky
                .iter()
                .position(same)
                .map(|i| sticky.remove(i).published)
                .filter(|old| self.other_holder(id, port.protocol, *old).is_none());
            port.published = match kept {
                Some(old) => old,
                None => self.dynamic(id, port.protocol, wanted, previous, &new)?,
            };
            new.push((port.protocol, port.published));
        }
        self.ingress.retain(|_, holder| holder.id != *id);
        self.hold(id, name, &chosen);
        Ok(chosen)
    }

    fn dynamic(
        &self,
        id: &ServiceId,
        protocol: Protocol,
        wanted: &[PortConfig],
        previous: &[PortConfig],
        new: &[(Protocol, Port)],
    ) -> Result<Port, AllocateError> {
        let own = |port: Port| {
            let is = |p: &PortConfig| p.protocol == protocol && p.published == port;
            // A previous port may be kept by a later one of this service.
            wanted.iter().any(is) || previous.iter().any(is) || new.contains(&(protocol, port))
        };
        (DYNAMIC_FIRST..=DYNAMIC_LAST)
            .find(|port| !own(*port) && self.other_holder(id, protocol, *port).is_none())
            .ok_or(AllocateError::PortsExhausted { first: DYNAMIC_FIRST, last: DYNAMIC_LAST, protocol })
    }

    fn other_holder(&self, id: &ServiceId, protocol: Protocol, port: Port) -> Option<&Holder> {
        let key = (protocol, port);
        let ingress = self.ingress.get(&key).into_iter();
        ingress.chain(self.host.get(&key).into_iter().flatten()).find(|holder| holder.id != *id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn port(published: Port, target: Port) -> PortConfig {
        PortConfig { published, target, ..PortConfig::default() }
    }

    fn numbers(ports: &[PortConfig]) -> Vec<Port> {
        ports.iter().map(|p| p.published).collect()
    }

    #[test]
    fn dynamic_ports_are_distinct_per_protocol_and_sticky() {
        let (web, api) = (ServiceId::random(), ServiceId::random());
        let mut ports = PublishedPorts::default();
        let udp = PortConfig { protocol: Protocol::Udp, ..port(0, 53) };
        let first = ports
            .choose(&web, "web", &[port(0, 80), port(0, 80), port(30_001, 80), udp.clone()], &[])
            .unwrap();
        assert_eq!(numbers(&first), [30_000, 30_002, 30_001, 30_000]);
        assert_eq!(numbers(&ports.choose(&api, "api", &[port(0, 80)], &[]).unwrap()), [30_003]);
        // Dropping one and adding another keeps what is still asked for.
        let second = ports.choose(&web, "web", &[port(0, 443), port(0, 80), udp], &first).unwrap();
        assert_eq!(numbers(&second), [30_004, 30_000, 30_000]);
        // The ports given up are free again.
        let third = ports.choose(&ServiceId::random(), "x", &[port(0, 1), port(0, 2)], &[]).unwrap();
        assert_eq!(numbers(&third), [30_001, 30_002]);
    }

    #[test]
    fn a_taken_port_names_its_holder_and_host_ports_count() {
        let (web, api) = (ServiceId::random(), ServiceId::random());
        let mut ports = PublishedPorts::default();
        ports.choose(&web, "web", &[port(8080, 80)], &[]).unwrap();
        assert_eq!(
            ports.choose(&api, "api", &[port(8080, 80)], &[]).unwrap_err().to_string(),
            "port 8080/tcp is already published by service web"
        );
        let host = PortConfig { mode: PublishMode::Host, ..port(30_000, 80) };
        ports.choose(&api, "api", std::slice::from_ref(&host), &[]).unwrap();
        ports.choose(&ServiceId::random(), "other", &[host], &[]).unwrap();
        assert_eq!(
            numbers(&ports.choose(&web, "web", &[port(8080, 80), port(0, 81)], &[]).unwrap()),
            [8080, 30_001]
        );
    }
}
