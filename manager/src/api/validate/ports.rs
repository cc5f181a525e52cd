//! Published ports: within one service, and against all others.

use proto::{
    error::ApiError,
    model::{EndpointMode, EndpointSpec, PortConfig, PublishMode, Service, ServiceId},
};

use crate::store::state::State;

/// Checks the ports of one service by themselves.
pub fn endpoint(object: &str, endpoint: &EndpointSpec) -> Result<(), ApiError> {
    for (i, port) in endpoint.ports.iter().enumerate() {
        if port.target == 0 {
            return Err(ApiError::invalid(format!(
                "{object}: a published port needs a target port between 1 and 65535"
            ))
            .help("write --publish published=8080,target=80"));
        }
        if endpoint.mode == EndpointMode::DnsRr && port.mode == PublishMode::Ingress {
            return Err(ApiError::invalid(format!(
                "{object}: port published with ingress mode can't be used with dnsrr mode; host mode is allowed"
            ))
            .help(format!(
                "publish it on the nodes that run a task: --publish mode=host,target={},published={}; or use --endpoint-mode vip",
                port.target, port.published
            )));
        }
        let same = |other: &&PortConfig| {
            port.published != 0 && other.published == port.published && other.protocol == port.protocol
        };
        if endpoint.ports[..i].iter().any(|other| same(&other)) {
            return Err(ApiError::invalid(format!(
                "{object}: duplicate published port {}/{}",
                port.published, port.protocol
            )));
        }
    }
    Ok(())
}

/// Whether another service holds a port that `wanted` asks for.
///
/// Two services may publish one port in host mode: the scheduler keeps their tasks on different nodes. A mesh port is on
/// every node, so it conflicts with both modes (swarmkit `checkPortConflicts`).
pub fn conflict(
    state: &State,
    own: Option<&ServiceId>,
    object: &str,
    wanted: &[PortConfig],
) -> Result<(), ApiError> {
    for service in state.services.values().filter(|s| Some(&s.id) != own) {
        for held in held(service) {
            let clash = wanted.iter().find(|port| {
                port.published != 0
                    && port.published == held.published
                    && port.protocol == held.protocol
                    && (port.mode == PublishMode::Ingress || held.mode == PublishMode::Ingress)
            });
            if let Some(port) = clash {
                return Err(taken(object, port, &service.spec.name, held.mode));
            }
        }
    }
    Ok(())
}

/// The ports of a service: those it asks for, and those chosen for it.
fn held(service: &Service) -> impl Iterator<Item = &PortConfig> {
    let allocated =
        service.allocation.iter().flat_map(|a| &a.ports).filter(|p| p.mode == PublishMode::Ingress);
    service.spec.endpoint.ports.iter().chain(allocated).filter(|p| p.published != 0)
}

fn taken(object: &str, port: &PortConfig, holder: &str, mode: PublishMode) -> ApiError {
    let mode = if mode == PublishMode::Ingress { "an ingress" } else { "a host-mode" };
    ApiError::conflict(format!(
        "{object}: port {}/{} is already in use by service {holder:?} as {mode} port",
        port.published, port.protocol
    ))
    .help(format!(
        "choose another published port, or free it: rnctl service update --publish-rm {} {holder}",
        port.target
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::{error::Kind, model::Protocol};

    use super::*;
    use crate::api::validate::service::tests::service;

    fn port(published: u16, mode: PublishMode) -> PortConfig {
        PortConfig { target: 80, published, mode, ..PortConfig::default() }
    }

    fn holding(ports: Vec<PortConfig>) -> (State, ServiceId) {
        let mut holder = service("web");
        holder.spec.endpoint.ports = ports;
        let id = holder.id.clone();
        let mut state = State::default();
        state.put(holder);
        (state, id)
    }

    #[test]
    fn mesh_ports_are_taken_for_all_and_host_ports_for_the_mesh_only() {
        use PublishMode::{Host, Ingress};
        for (held, wanted, clash) in
            [(Ingress, Ingress, true), (Ingress, Host, true), (Host, Ingress, true), (Host, Host, false)]
        {
            let (state, id) = holding(vec![port(8080, held)]);
            let result = conflict(&state, None, "service api", &[port(8080, wanted)]);
            assert_eq!(result.is_err(), clash, "{held:?} {wanted:?}");
            assert_eq!(
                conflict(&state, Some(&id), "service web", &[port(8080, wanted)]),
                Ok(()),
                "its own ports"
            );
        }
    }

    #[test]
    fn the_holder_is_named() {
        let (state, _) = holding(vec![port(8080, PublishMode::Ingress)]);
        let error = conflict(&state, None, "service api", &[port(8080, PublishMode::Ingress)]).unwrap_err();
        assert_eq!(error.kind, Kind::Conflict);
        assert!(
            error.message.contains("port 8080/tcp is already in use by service \"web\" as an ingress port")
        );
        let udp = PortConfig { protocol: Protocol::Udp, ..port(8080, PublishMode::Ingress) };
        assert_eq!(
            conflict(&state, None, "service api", &[udp]),
            Ok(()),
            "another protocol is another space"
        );
    }

    #[test]
    fn ports_of_one_service() {
        let check =
            |mode, ports| endpoint("service web", &EndpointSpec { mode, ports }).map_err(|e| e.message);
        use PublishMode::{Host, Ingress};
        assert_eq!(check(EndpointMode::Vip, vec![port(8080, Ingress), port(8081, Ingress)]), Ok(()));
        assert_eq!(check(EndpointMode::DnsRr, vec![port(8080, Host)]), Ok(()));
        assert!(
            check(EndpointMode::DnsRr, vec![port(8080, Ingress)])
                .unwrap_err()
                .contains("host mode is allowed")
        );
        assert!(
            check(EndpointMode::Vip, vec![port(8080, Ingress), port(8080, Ingress)])
                .unwrap_err()
                .contains("8080/tcp")
        );
        // Each gets one of the managers' choice.
        assert_eq!(check(EndpointMode::Vip, vec![port(0, Ingress), port(0, Ingress)]), Ok(()));
        let no_target = PortConfig { target: 0, ..port(1, Ingress) };
        assert!(check(EndpointMode::Vip, vec![no_target]).unwrap_err().contains("target"));
    }
}
