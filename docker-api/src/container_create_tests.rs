#![allow(clippy::unwrap_used)]

use proto::model::ContainerSpec;
use serde_json::json;

use super::*;

fn wanted(body: Value) -> Result<Wanted, ApiError> {
    read(crate::json::read(body.to_string().as_bytes())?, "/web")
}

/// `docker run -d --network host img`, as the client sends it.
fn plain() -> Value {
    let text = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,
        "OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"img","Volumes":{},"WorkingDir":"","Entrypoint":null,
        "OnBuild":null,"Labels":{},"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},
        "NetworkMode":"host","PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,
        "VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],
        "ExtraHosts":null,"Links":null,"OomScoreAdj":0,"Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,
        "ShmSize":0,"CpuShares":0,"Memory":0,"NanoCpus":0,"MemorySwappiness":-1,"PidsLimit":0,"Ulimits":[],"MaskedPaths":null},
        "NetworkingConfig":{"EndpointsConfig":{"host":{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"",
        "DriverOpts":null,"GwPriority":0,"NetworkID":"","IPPrefixLen":0,"DNSNames":null}}}}"#;
    serde_json::from_str(text).unwrap()
}

fn with(pointer: &str, value: Value) -> Value {
    let mut body = plain();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(field.into(), value);
    body
}

#[test]
fn what_clients_send_of_themselves_means_nothing() {
    let wanted = wanted(plain()).unwrap();
    let spec = ContainerSpec { image: "img".into(), ..ContainerSpec::default() };
    assert_eq!(wanted.definition.spec, Some((&spec).into()));
    assert_eq!((wanted.definition.name.as_str(), wanted.definition.restart.as_str()), ("web", "no"));
    assert_eq!(wanted.definition.networks.len(), 1);
    assert_eq!(wanted.console, None);
}

#[test]
fn what_is_asked_for_is_read() {
    let body = json!({
        "Image": "img", "Cmd": "one word", "Entrypoint": ["/e"], "Tty": true, "StopTimeout": -1, "Volumes": {"/a": {}, "/v": {}},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000_u64},
        "HostConfig": {
            "NetworkMode": "app", "Binds": ["v:/v:ro", "/h:/h", "/x"], "Tmpfs": {"/t": "size=1m,mode=700"},
            "PortBindings": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "PidsLimit": -1, "Memory": 4096,
            "ExtraHosts": ["x:1.2.3.4"], "Dns": ["1.1.1.1"], "ConsoleSize": [40, 100], "Init": true,
        },
        "NetworkingConfig": {"EndpointsConfig": {"app": {"IPAMConfig": {"IPv4Address": "10.1.2.3"}, "Aliases": ["al"]}, "more": {}}},
    });
    let Wanted { definition, console } = wanted(body).unwrap();
    let spec = ContainerSpec::try_from(definition.spec.unwrap()).unwrap();
    assert_eq!((spec.args, spec.command), (vec!["one word".to_owned()], vec!["/e".to_owned()]));
    let mounts: Vec<_> = spec
        .mounts
        .iter()
        .map(|m| (m.kind.as_str(), m.source.as_str(), m.target.as_str(), m.read_only))
        .collect();
    assert_eq!(
        mounts,
        [
            ("volume", "v", "/v", true),
            ("bind", "/h", "/h", false),
            ("volume", "", "/x", false),
            ("tmpfs", "", "/t", false),
            ("volume", "", "/a", false),
        ]
    );
    assert_eq!(spec.mounts[3].options["tmpfs-size"], "1048576");
    assert_eq!((spec.stop_grace_period, spec.init, spec.tty), (Some(Millis::UNLIMITED), Some(true), true));
    assert_eq!(spec.hosts, ["1.2.3.4 x"]);
    assert_eq!(spec.healthcheck.unwrap().interval, Millis::secs(5));
    assert_eq!(definition.ports.len(), 1, "both families are one");
    let exposed: Vec<_> = definition.exposed.iter().map(|p| (p.target_port, p.published_port)).collect();
    assert_eq!(exposed, [(53, 0), (80, 0)]);
    assert_eq!(definition.restart, "on-failure:3");
    assert_eq!(definition.limits.unwrap(), pb::Resources { memory_bytes: 4096, ..pb::Resources::default() });
    let networks: Vec<_> =
        definition.networks.iter().map(|n| (n.network.as_str(), n.addrs.len(), n.aliases.len())).collect();
    assert_eq!(networks, [("app", 1, 1), ("more", 0, 0)]);
    assert_eq!(console, Some((40, 100)));
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    for (pointer, value, words) in [
        (
            "/HostConfig/Privileged",
            json!(true),
            "HostConfig.Privileged is not supported by rn; add the capabilities",
        ),
        ("/HostConfig/Devices", json!([{"PathOnHost": "/dev/x"}]), "HostConfig.Devices"),
        ("/HostConfig/MemorySwap", json!(100), "HostConfig.MemorySwap"),
        ("/HostConfig/IpcMode", json!("host"), "HostConfig.IpcMode"),
        ("/HostConfig/NewThing", json!(7), "HostConfig.NewThing"),
        ("/Domainname", json!("x"), "Domainname"),
        ("/ExposedPorts", json!({"0/tcp": {}}), "1 to 65535"),
        ("/HostConfig/NetworkMode", json!("default"), "no bridge network for containers; name one"),
        ("/HostConfig/NetworkMode", json!("container:x"), "shares no container's network"),
        ("/HostConfig/Binds", json!(["a:/b:z"]), "SELinux"),
        ("/HostConfig/Binds", json!(["a:b"]), "absolute"),
        ("/HostConfig/Tmpfs", json!({"/t": "uid=1"}), "option \"uid=1\""),
        ("/HostConfig/PortBindings", json!({"80/tcp": [{"HostIp": "127.0.0.1"}]}), "HostIp 127.0.0.1"),
        ("/HostConfig/PortBindings", json!({"0/tcp": []}), "1 to 65535"),
        ("/HostConfig/PortBindings", json!({"1/xtp": []}), "tcp, udp or sctp"),
        (
            "/HostConfig/RestartPolicy",
            json!({"Name": "always", "MaximumRetryCount": 1}),
            "maximum retry count",
        ),
        ("/HostConfig/Memory", json!(-1), "HostConfig.Memory"),
        ("/HostConfig/Memory", json!("x"), "HostConfig.Memory"),
        ("/HostConfig/ExtraHosts", json!(["x"]), "add-host"),
        ("/HostConfig/Dns", json!(["x"]), "HostConfig.Dns"),
        (
            "/NetworkingConfig/EndpointsConfig/host/MacAddress",
            json!("02:00:00:00:00:01"),
            "EndpointsConfig.host.MacAddress",
        ),
    ] {
        let error = wanted(with(pointer, value.clone())).unwrap_err();
        assert!(error.message.contains(words), "{pointer} {value}: {error}");
    }
    for (pointer, value) in
        [("/HostConfig/IpcMode", json!("private")), ("/HostConfig/ShmSize", json!(67_108_864))]
    {
        wanted(with(pointer, value)).unwrap();
    }
}
