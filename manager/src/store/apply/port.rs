//! No published port has two owners.

use proto::model::{PortConfig, PublishMode, ServiceId};

use super::{Applying, refuse};
use crate::store::command::Rejected;

impl Applying<'_> {
    /// Refuses `ports` unless `service` can have them all.
    pub(super) fn ports_free(&self, ports: &[PortConfig], service: &ServiceId) -> Result<(), Rejected> {
        for (i, port) in ports.iter().enumerate().filter(|(_, p)| p.published != 0) {
            let same = |p: &PortConfig| (p.protocol, p.published) == (port.protocol, port.published);
            let excludes =
                |p: &PortConfig| p.mode == PublishMode::Ingress || port.mode == PublishMode::Ingress;
            let before = &ports[..i];
            if before.iter().any(|p| same(p) && (excludes(p) || p.target == port.target)) {
                return refuse(format!("port {}/{} is published twice", port.published, port.protocol));
            }
            if let Some((holder, mode)) =
                self.state.port_holder(port.protocol, port.published, port.mode, service)
            {
                let name = self.state.services.get(holder).map_or(holder.as_str(), |s| s.spec.name.as_str());
                return Err(Rejected::Taken {
                    what: format!("port {}/{}", port.published, port.protocol),
                    holder: match mode {
                        PublishMode::Ingress => format!("service {name} ({holder}) as an ingress port"),
                        PublishMode::Host => format!("service {name} ({holder}) as a host-published port"),
                    },
                });
            }
        }
        Ok(())
    }
}
