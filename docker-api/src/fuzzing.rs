//! Requests as strangers may send them, for the fuzz target and its small version here: whatever they are, they are read or refused.

use proto::model;
use serde_json::Value;

use crate::{
    auth, connect, container_create, event, file, json, network, node, query::Query, service, service_spec,
    swarm, version, volume,
};

/// Reads bytes as a path's version, as parameters, as each header, and as the body of each request.
pub fn request(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        parameters(text);
    }
    let _ = json::read::<service_spec::ServiceSpec>(bytes).map(model::ServiceSpec::try_from);
    let _ = json::read::<node::DockerNodeSpec>(bytes).map(model::NodeSpec::try_from);
    let _ = json::read::<network::NetworkCreateRequest>(bytes).map(model::NetworkSpec::try_from);
    let _ = json::read::<file::FileSpec>(bytes).map(model::FileSpec::try_from);
    let _ = json::read::<swarm::InitRequest>(bytes).map(proto::pb::SwarmInitRequest::try_from);
    let _ = json::read::<swarm::JoinRequest>(bytes).map(proto::pb::SwarmJoinRequest::try_from);
    let _ = json::read::<swarm::SwarmSpec>(bytes).map(|spec| spec.onto(&model::ClusterSpec::default()));
    let _ = json::read::<volume::VolumeCreate>(bytes).map(|volume| volume.check());
    let _ = json::read::<auth::AuthConfig>(bytes).map(auth::AuthConfig::check);
    if let Ok(body) = json::read::<Value>(bytes) {
        let _ = container_create::read(body.clone(), "name");
        let _ = connect::Connect::read(body);
    }
}

fn parameters(text: &str) {
    let _ = version::split(text).0.map(|named| named.spoken());
    let _ = auth::header(text);
    let names = ["version", "since", "tail", "filters"];
    let query = Query::new(names.iter().map(|name| ((*name).to_owned(), text.to_owned())).collect());
    let _ = (query.version(), query.time("since"), query.number::<i64>("tail"), query.flag("tail"));
    for known in [&event::FILTERS[..], &node::FILTERS, &network::FILTERS, &file::FILTERS] {
        let _ = query.filters(known);
    }
    if let Ok(filters) = crate::filters::Filters::parse(text) {
        let _ = (node::check_filters(&filters), service::check_filters(&filters));
        let _ = network::check_filters(&filters);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn whatever_is_sent_is_read_or_refused() {
        let seeds = [
            r#"{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"a:1","Env":["A=1"],"Mounts":[{"Type":"tmpfs","Target":"/t",
                "TmpfsOptions":{"SizeBytes":9}}],"StopGracePeriod":3000000000,"Secrets":[{"File":{"Name":"s","UID":"0","Mode":292},
                "SecretID":"x","SecretName":"s"}]},"Resources":{"Limits":{"NanoCPUs":1,"MemoryBytes":67108864}},
                "Networks":[{"Target":"n","Aliases":["a"]}]},"Mode":{"Replicated":{"Replicas":2}},
                "EndpointSpec":{"Ports":[{"TargetPort":80,"PublishedPort":8080}]}}"#,
            r#"{"Image":"a:1","Cmd":["x"],"HostConfig":{"NetworkMode":"app","PortBindings":{"80/tcp":[{"HostPort":"8080"}]},
                "Binds":["/a:/b:ro"],"Memory":67108864},"NetworkingConfig":{"EndpointsConfig":{"app":{"IPAMConfig":
                {"IPv4Address":"10.0.0.2"}}}},"Container":"c","EndpointConfig":{"Aliases":["x"]}}"#,
            r#"{"Name":"n","Driver":"overlay","IPAM":{"Config":[{"Subnet":"10.1.0.0/16","Gateway":"10.1.0.1"}]},"Options":{"a":"b"},
                "Data":"aGk=","ListenAddr":"0.0.0.0:2377","RemoteAddrs":["10.0.0.1:2377"],"JoinToken":"SWMTKN-1-a-b"}"#,
            r#"{"label":{"a=b":true},"name":["x"]}"#,
            "/v1.41/info",
            "1700000000.123456789",
            "eyJ1c2VybmFtZSI6ImEifQ==",
        ];
        smoke::smoke(seeds, 1500, super::request);
    }
}
