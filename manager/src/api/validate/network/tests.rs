#![allow(clippy::unwrap_used, clippy::expect_used)]

use proto::{
    error::Kind,
    model::{Meta, NetworkAllocation, NetworkId, OverlayOptions, Subnet, Vni},
};

use super::*;

fn spec(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.into(), ..NetworkSpec::default() }
}

fn subnet(text: &str) -> IpamConfig {
    IpamConfig { subnet: Some(text.parse().unwrap()), ..IpamConfig::default() }
}

fn with(change: impl FnOnce(&mut NetworkSpec)) -> Result<(), ApiError> {
    let mut spec = spec("app");
    change(&mut spec);
    create(&existing(), &spec)
}

fn with_options(change: impl FnOnce(&mut OverlayOptions)) -> Result<(), ApiError> {
    let mut options = OverlayOptions::default();
    change(&mut options);
    with(|s| s.driver = NetworkDriver::Overlay(options))
}

/// A cluster with the networks `ingress` (10.0.0.0/24, VNI 4096) and `db` (10.0.9.0/24, VNI 4097).
fn existing() -> State {
    let mut state = State::default();
    for (name, net, vni) in [("ingress", "10.0.0.0/24", 4096), ("db", "10.0.9.0/24", 4097)] {
        let net: IpNet = net.parse().unwrap();
        let network = Network {
            id: NetworkId::random(),
            meta: Meta::default(),
            spec: NetworkSpec { ingress: name == "ingress", ..spec(name) },
            allocation: Some(NetworkAllocation {
                vni: Vni(vni),
                mtu: 1450,
                subnets: vec![Subnet { subnet: net, gateway: net.hosts().next().unwrap(), ip_range: None }],
            }),
            conditions: Vec::new(),
        };
        state.put(network);
    }
    state
}

#[test]
fn what_is_right_passes() {
    assert_eq!(with(|_| ()), Ok(()));
    assert_eq!(with(|s| s.ipam = vec![subnet("10.5.0.0/16"), subnet("fd00:5::/64")]), Ok(()));
    assert_eq!(
        with(|s| {
            s.ipam = vec![IpamConfig {
                ip_range: Some("10.5.1.0/24".parse().unwrap()),
                gateway: Some("10.5.0.254".parse().unwrap()),
                aux_addresses: [("router".to_owned(), "10.5.0.7".parse().unwrap())].into(),
                ..subnet("10.5.0.0/16")
            }];
        }),
        Ok(())
    );
    assert_eq!(with_options(|o| o.mtu = Some(9000)), Ok(()));
    assert_eq!(with_options(|o| o.vnis = vec![Vni(5000)]), Ok(()));
}

#[test]
fn names_are_unique_and_not_reserved() {
    assert_eq!(with(|s| s.name = "db".into()).unwrap_err().kind, Kind::Conflict);
    for reserved in ["bridge", "host", "none", "rn_gwbridge", "docker_gwbridge"] {
        assert_eq!(with(|s| s.name = reserved.into()).unwrap_err().kind, Kind::Invalid, "{reserved}");
    }
    assert!(create(&State::default(), &spec("ingress")).unwrap_err().message.contains("routing mesh"));
}

#[test]
fn subnets_are_checked_against_themselves_and_each_other() {
    let refused = |configs: Vec<IpamConfig>| with(|s| s.ipam = configs).unwrap_err().message;
    assert!(refused(vec![subnet("10.5.0.1/16")]).contains("it should be 10.5.0.0/16"));
    assert!(refused(vec![subnet("10.0.9.128/25")]).contains("overlaps with 10.0.9.0/24 of network db"));
    assert!(refused(vec![subnet("10.0.0.0/8")]).contains("overlaps"));
    assert!(refused(vec![subnet("10.5.0.0/24"), subnet("10.6.0.0/24")]).contains("one of each family"));
    assert!(refused(vec![subnet("127.0.0.0/8")]).contains("cannot be used"));
    assert!(refused(vec![subnet("fe80::/64")]).contains("cannot be used"));
    assert!(refused(vec![subnet("10.5.0.0/30")]).contains("too small"));
}

#[test]
fn gateways_ranges_and_auxiliary_addresses_lie_inside() {
    let refused = |change: fn(&mut IpamConfig)| {
        let mut config = subnet("10.5.0.0/24");
        change(&mut config);
        with(|s| s.ipam = vec![config]).unwrap_err().message
    };
    assert!(refused(|c| c.gateway = Some("10.6.0.1".parse().unwrap())).contains("gateway 10.6.0.1"));
    assert!(refused(|c| c.gateway = Some("10.5.0.0".parse().unwrap())).contains("gateway"));
    assert!(refused(|c| c.gateway = Some("10.5.0.255".parse().unwrap())).contains("gateway"));
    assert!(refused(|c| c.ip_range = Some("10.6.0.0/25".parse().unwrap())).contains("not inside"));
    assert!(refused(|c| c.ip_range = Some("10.5.0.3/25".parse().unwrap())).contains("should be"));
    assert!(
        refused(|c| c.aux_addresses = [("a".to_owned(), "10.9.0.1".parse().unwrap())].into())
            .contains("auxiliary")
    );
    assert!(
        refused(|c| {
            c.aux_addresses.insert("a".into(), "10.5.0.9".parse().unwrap());
            c.aux_addresses.insert("b".into(), "10.5.0.9".parse().unwrap());
        })
        .contains("twice")
    );
    let without_subnet = IpamConfig { gateway: Some("10.5.0.1".parse().unwrap()), ..IpamConfig::default() };
    assert!(with(|s| s.ipam = vec![without_subnet]).unwrap_err().message.contains("corresponding subnet"));
}

#[test]
fn options_are_checked() {
    let refused = |change: fn(&mut OverlayOptions)| with_options(change).unwrap_err();
    assert_eq!(refused(|o| o.encrypted = true).kind, Kind::Unsupported);
    assert!(refused(|o| o.mtu = Some(600)).message.contains("MTU \"600\""), "too small for IPv6");
    assert!(refused(|o| o.vnis = vec![Vni(5000), Vni(4097)]).message.contains("network db"));
    let mut small = spec("app");
    small.ipv6 = false;
    small.driver = NetworkDriver::Overlay(OverlayOptions { mtu: Some(600), ..OverlayOptions::default() });
    assert_eq!(create(&existing(), &small), Ok(()));
}

#[test]
fn families_and_the_ingress_network() {
    assert!(with(|s| s.ipv4 = false).unwrap_err().message.contains("IPv4"));
    assert!(
        with(|s| s.ingress = true)
            .unwrap_err()
            .message
            .contains("ingress network (ingress) is already present")
    );
    assert!(with(|s| s.ipam_driver = "acme".into()).unwrap_err().message.contains("IPAM"));
    let mut ingress = spec("mesh");
    ingress.ingress = true;
    assert_eq!(create(&State::default(), &ingress), Ok(()));
    ingress.internal = true;
    assert!(create(&State::default(), &ingress).is_err());
}
