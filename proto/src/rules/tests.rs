#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::Mount;

fn with(change: impl FnOnce(&mut ContainerSpec)) -> Result<(), String> {
    let mut c = ContainerSpec { image: "nginx:1.27".into(), ..ContainerSpec::default() };
    change(&mut c);
    image("service web", &c.image).and_then(|()| container("service web", &c, false)).map_err(|e| e.message)
}

fn mount(kind: &str, source: &str, target: &str) -> Mount {
    Mount { kind: kind.into(), source: source.into(), target: target.into(), ..Mount::default() }
}

#[test]
fn what_is_right_passes() {
    for image in ["nginx", "localhost:5000/a/b:1.0", "[::1]:5000/x"] {
        assert_eq!(with(|c| c.image = image.into()), Ok(()), "{image}");
    }
    assert_eq!(
        with(|c| {
            c.env = vec!["A=b".into(), "EMPTY=".into(), "FROM_HOST".into()];
            c.hostname = "a-x.b".into();
            c.mounts = vec![
                mount("bind", "/srv", "/data"),
                mount("tmpfs", "", "/tmp"),
                mount("volume", "db", "/db"),
            ];
            c.hosts = vec!["10.0.0.1 db".into()];
            c.stop_signal = "SigRTMIN+3".into();
            c.dns.search = vec![".".into(), "corp.example".into(), "lan.".into()];
            c.cap_add = vec!["net_admin".into(), "ALL".into()];
            c.ulimits = vec![Ulimit { name: "core".into(), soft: 0, hard: -1 }];
            c.sysctls = [("net.core.somaxconn".to_owned(), "1024".to_owned())].into();
        }),
        Ok(())
    );
}

#[test]
fn each_mistake_is_named() {
    let cases: Vec<(Box<dyn FnOnce(&mut ContainerSpec)>, &str)> = vec![
        (Box::new(|c| c.image.clear()), "image reference must be provided"),
        (Box::new(|c| c.image = "a b".into()), "invalid reference format"),
        (Box::new(|c| c.image = "UPPER:1".into()), "must be lowercase"),
        (Box::new(|c| c.image = "busybox@sha256:abcdef".into()), "invalid reference format"),
        (Box::new(|c| c.cap_add = vec!["NOPE".into()]), "unknown capability"),
        (Box::new(|c| c.cap_drop = vec!["NOPE".into()]), "unknown capability"),
        (Box::new(|c| c.dns.search = vec!["a b".into()]), "not a valid search domain"),
        (Box::new(|c| c.dns.search = vec![String::new()]), "not a valid search domain"),
        (Box::new(|c| c.dns.search = vec!["127".into()]), "not a valid search domain"),
        (Box::new(|c| c.dns.options = vec!["ndots:1 debug".into()]), "not one option"),
        (
            Box::new(|c| c.ulimits = vec![Ulimit { name: "nosuch".into(), soft: 1, hard: 1 }]),
            "invalid ulimit type: nosuch",
        ),
        (
            Box::new(|c| c.ulimits = vec![Ulimit { name: "nofile".into(), soft: 2, hard: 1 }]),
            "above hard limit",
        ),
        (Box::new(|c| c.ulimits = vec![Ulimit { name: "nofile".into(), soft: -2, hard: -1 }]), "below -1"),
        (Box::new(|c| c.groups = vec![String::new()]), "further group"),
        (Box::new(|c| c.labels = [(" ".to_owned(), String::new())].into()), "label without a name"),
        (Box::new(|c| c.stop_signal = "SIGNOPE".into()), "invalid stop signal"),
        (Box::new(|c| drop(c.sysctls.insert("net.nope".into(), "1".into()))), "no net.nope"),
        (Box::new(|c| c.env = vec!["=x".into()]), "environment variable"),
        (Box::new(|c| c.hostname = "-x".into()), "invalid hostname"),
        (Box::new(|c| c.hostname = "a_b".into()), "invalid hostname"),
        (Box::new(|c| c.dir = "rel".into()), "absolute"),
        (Box::new(|c| c.mounts = vec![mount("bind", "rel", "/a")]), "absolute path"),
        (Box::new(|c| c.mounts = vec![mount("bind", "/a", "rel")]), "target must be an absolute path"),
        (
            Box::new(|c| c.mounts = vec![mount("tmpfs", "", "/a"), mount("tmpfs", "", "/a/")]),
            "duplicate mount point",
        ),
        (Box::new(|c| c.mounts = vec![mount("nfs", "x", "/a")]), "unknown type"),
        (Box::new(|c| c.mounts = vec![mount("tmpfs", "x", "/a")]), "no source"),
        (Box::new(|c| c.mounts = vec![mount("volume", "/x", "/a")]), "not a volume name"),
        (Box::new(|c| c.hosts = vec!["db 10.0.0.1".into()]), "host entry"),
        (Box::new(|c| c.stop_signal = "sig term".into()), "stop signal"),
        (Box::new(|c| c.stop_signal = "99".into()), "stop signal"),
        (Box::new(|c| drop(c.sysctls.insert("vm.swappiness".into(), "1".into()))), "whole machine"),
        (
            Box::new(|c| {
                c.healthcheck = Some(Healthcheck { test: vec!["CMD".into()], ..Healthcheck::default() })
            }),
            "health check",
        ),
    ];
    for (change, expected) in cases {
        let message = with(change).expect_err(expected);
        assert!(message.contains(expected) && message.starts_with("service web: "), "{message}");
    }
}

#[test]
fn the_hosts_network_is_not_a_containers_to_change() {
    let mut c = ContainerSpec::default();
    c.sysctls.insert("net.core.somaxconn".into(), "1".into());
    assert_eq!(container("container db", &c, false), Ok(()));
    let error = container("container db", &c, true).unwrap_err().message;
    assert_eq!(error, "container db: sysctl net.core.somaxconn is not allowed in network host");
}

fn mounted(text: &str) -> Mount {
    let mut m = Mount { kind: "volume".into(), target: "/t".into(), ..Mount::default() };
    for pair in text.split(' ').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "type" => m.kind = value.into(),
            "source" => m.source = value.into(),
            "target" => m.target = value.into(),
            "ro" => m.read_only = true,
            "driver" => m.driver = value.into(),
            "label" => drop(m.labels.insert(value.into(), String::new())),
            _ => match key.strip_prefix("opt.") {
                Some(key) => drop(m.driver_options.insert(key.into(), value.into())),
                None => drop(m.options.insert(key.into(), value.into())),
            },
        }
    }
    m
}

#[test]
fn mounts_that_can_be() {
    for text in [
        "",
        "source=data",
        "source=data driver=local volume-nocopy=true label=a",
        "source=nfs opt.type=nfs opt.o=addr=10.0.0.1,rw opt.device=:/srv",
        "opt.type=tmpfs opt.device=tmpfs",
        "type=tmpfs tmpfs-size=64MB tmpfs-mode=1770",
        "type=bind source=/a consistency=cached",
        "type=bind source=/a bind-propagation=rslave",
        "type=bind source=/a bind-recursive=disabled",
        "type=bind source=/a bind-nonrecursive=true",
        "type=bind source=/a ro bind-recursive=readonly bind-propagation=rprivate",
        "type=bind source=/a ro bind-recursive=writable",
    ] {
        assert_eq!(mount::one(&mounted(text)), Ok(()), "{text}");
    }
}

#[test]
fn mounts_that_cannot() {
    for (text, words) in [
        ("target=", "target is required"),
        ("target=rel", "absolute path"),
        ("target=/./", "root directory"),
        ("target=/a/../b", "upwards"),
        ("type=bind", "source is required"),
        ("type=bind source=a", "absolute path"),
        ("type=tmpfs source=/a", "no source"),
        ("type=nfs source=x", "unknown type"),
        ("type=npipe source=x", "not supported"),
        ("source=a/b", "not a volume name"),
        ("source=.a", "not a volume name"),
        ("driver=rexray", "volume driver \"rexray\" is not supported"),
        ("opt.type=nfs", "volume-opt=device"),
        ("opt.o=rw opt.device=x", "volume-opt=type"),
        ("opt.type=nfs opt.device=x opt.nope=1", "volume-opt \"nope\" is not supported"),
        ("opt.size=1g", "volume-opt \"size\" is not supported"),
        ("label=", "volume-label without a name"),
        ("volume-subpath=a", "volume-subpath is not supported"),
        ("volume-nocopy=maybe", "invalid value for volume-nocopy"),
        ("colour=red", "'colour' is not supported"),
        ("tmpfs-size=1m", "cannot mix 'tmpfs-size'"),
        ("type=tmpfs tmpfs-size=lots", "invalid size"),
        ("type=tmpfs tmpfs-mode=9", "invalid tmpfs-mode"),
        ("type=tmpfs volume-nocopy=true", "cannot mix"),
        ("type=bind source=/a driver=local", "cannot mix"),
        ("type=bind source=/a opt.type=nfs", "cannot mix"),
        ("type=bind source=/a bind-recursive=nonsense", "invalid value for bind-recursive: nonsense"),
        ("type=bind source=/a bind-recursive=writable", "requires 'readonly'"),
        ("type=bind source=/a bind-recursive=readonly", "requires 'readonly'"),
        ("type=bind source=/a ro bind-recursive=readonly bind-propagation=rslave", "requires 'readonly'"),
        ("type=bind source=/a bind-propagation=rshared", "bind-propagation=rshared is not supported"),
        ("type=bind source=/a bind-propagation=sideways", "invalid value for bind-propagation"),
        ("type=bind source=/a consistency=strong", "invalid consistency"),
    ] {
        let error = mount::one(&mounted(text)).expect_err(text);
        assert!(error.message.contains(words), "{text}: {}", error.message);
    }
    let mixed = [
        mounted("type=bind source=/a bind-propagation=rslave"),
        mounted("type=bind source=/a target=/u bind-propagation=private"),
    ];
    assert!(mount::all("service web", &mixed).is_err_and(|e| e.message.starts_with("service web: ")));
}
