//! What fuzz targets, and their small version here, give to the conversions.

use prost::Message;

use crate::{model, pb};

/// Reads bytes as a message, converts it and back: what has been converted once is the same the second time.
macro_rules! kinds {
    ($bytes:expr, $which:expr; $($name:ident),* $(,)?) => {{
        const KINDS: &[fn(&[u8])] = &[$(|bytes| {
            let Ok(message) = pb::$name::decode(bytes) else { return };
            let Ok(value) = model::$name::try_from(message) else { return };
            let again = pb::$name::from(value.clone());
            assert_eq!(model::$name::try_from(again).as_ref(), Ok(&value));
        }),*];
        KINDS[usize::from($which) % KINDS.len()]($bytes)
    }};
}

/// The first byte says which message the others are.
pub fn message(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    kinds!(bytes, *which;
        Cluster, NetworkSpec, Network, NetworkAllocation, NodeSpec, NodeDescription, Node, ContainerSpec, TaskSpec,
        TaskAllocation, TaskStatus, Task, ServiceSpec, ServiceAllocation, UpdateStatus, Service, Secret, Config,
    );
}

/// A template in a service's spec.
pub fn template(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = crate::template::Context::example("web", &Default::default()).expand(text);
    }
}

/// What a user, a registry or a file may call a duration, a size, a signal or an image.
pub fn words(bytes: &[u8]) {
    use crate::parse::{Reference, duration, signal, size};
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (duration::nanos(text), duration::millis(text), size::bytes(text), signal::number(text));
        if let Ok(reference) = text.parse::<Reference>() {
            let printed = reference.to_string();
            assert_eq!(printed.parse::<Reference>().map(|r| r.to_string()), Ok(printed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_is_converted_or_refused() {
        let network = pb::NetworkSpec {
            name: "app".into(),
            driver: "overlay".into(),
            ipam: vec![pb::IpamConfig { subnet: "10.1.0.0/16".into(), ..Default::default() }],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Default::default()
        };
        let task = pb::Task {
            id: "task0000000000000000000001".into(),
            service_id: "svc00000000000000000000001".into(),
            slot: 3,
            spec: Some(pb::TaskSpec {
                container: Some(pb::ContainerSpec { image: "web:1".into(), ..Default::default() }),
                ..Default::default()
            }),
            status: Some(pb::TaskStatus { message: "started".into(), ..Default::default() }),
            ..Default::default()
        };
        let service = pb::ServiceSpec {
            name: "web".into(),
            task: task.spec.clone(),
            endpoint: Some(pb::EndpointSpec {
                ports: vec![pb::PortConfig { target_port: 80, published_port: 8080, ..Default::default() }],
                ..Default::default()
            }),
            ..Default::default()
        };
        let bodies = [network.encode_to_vec(), task.encode_to_vec(), service.encode_to_vec()];
        let seeds =
            (0..18u8).flat_map(|which| bodies.iter().map(move |body| [&[which], body.as_slice()].concat()));
        smoke::smoke(seeds, 300, message);
    }

    #[test]
    fn words_are_read_or_refused() {
        let seeds = ["1h30m5.5s", "64 MiB", "SIGRTMIN+3", "[fd00::1]:5000/team/web:1@sha256:00"];
        smoke::smoke(seeds, 3000, words);
    }

    #[test]
    fn templates_end() {
        smoke::smoke(["{{.Node.Hostname}}-{{.Task.Slot}} {{index .Service.Labels \"a\"}}"], 3000, template);
    }
}
