#![allow(clippy::unwrap_used)]

use proto::model::OverlayOptions;

use super::*;
use crate::json::read;

fn spec(body: &str) -> Result<NetworkSpec, ApiError> {
    read::<NetworkCreateRequest>(body.as_bytes())?.try_into()
}

#[test]
fn what_clients_send_finds_its_place() {
    // As `docker network create -d overlay --attachable --subnet 10.9.0.0/24 --label a=b mynet` sends it.
    let body = r#"{"CheckDuplicate":true,"Driver":"overlay","Scope":"","EnableIPv6":false,"IPAM":{"Driver":"default","Options":{},
        "Config":[{"Subnet":"10.9.0.0/24","AuxiliaryAddresses":{"x":"10.9.0.7"}}]},"Internal":false,"Attachable":true,"Ingress":false,
        "ConfigOnly":false,"ConfigFrom":{"Network":""},"Options":{},"Labels":{"a":"b"},"Name":"mynet"}"#;
    let made = spec(body).unwrap();
    assert!(made.attachable && made.ipv4 && made.ipv6, "{made:?}");
    assert_eq!(made.ipam[0].subnet.unwrap().to_string(), "10.9.0.0/24");
    assert_eq!(made.ipam[0].aux_addresses["x"].to_string(), "10.9.0.7");
    let without =
        spec(r#"{"Name":"n","Driver":"overlay","Options":{"com.docker.network.enable_ipv6":"false"}}"#)
            .unwrap();
    assert!(!without.ipv6 && without.driver == NetworkDriver::default());
    let sized = spec(r#"{"Driver":"overlay","Options":{"com.docker.network.driver.mtu":"1400"}}"#).unwrap();
    let options = OverlayOptions { mtu: Some(1400), ..OverlayOptions::default() };
    assert_eq!(sized.driver, NetworkDriver::Overlay(options));
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    for (body, words) in [
        (r#"{"ConfigOnly":true}"#, "ConfigOnly"),
        (r#"{"ConfigFrom":{"Network":"x"}}"#, "ConfigFrom"),
        (r#"{"Scope":"local"}"#, "scope \"local\""),
        (r#"{"IPAM":{"Config":[{"Subnet":"10.0.0.0/99"}]}}"#, "subnet"),
        (r#"{"IPAM":{"Config":[{"Gateway":"x"}]}}"#, "gateway"),
        (r#"{"Options":{"com.docker.network.enable_ipv6":"maybe"}}"#, "enable_ipv6"),
    ] {
        assert!(spec(body).unwrap_err().message.contains(words), "{body}");
    }
    let refused = |body: &str| {
        let error = spec(body).unwrap_err();
        (crate::error::status(&error), error.message)
    };
    for (body, status, words) in [
        (r#"{"Name":"n","Driver":"weave"}"#, 404, "plugin weave"),
        (r#"{"Name":"n"}"#, 400, "network n: networks of driver \"bridge\""),
        (r#"{"Name":"n","Driver":"host"}"#, 403, "\"host\" network"),
        (
            r#"{"Name":"n","Driver":"overlay","Options":{"com.docker.network.bridge.name":"br0"}}"#,
            400,
            "bridge.name",
        ),
        (
            r#"{"Name":"n","Driver":"overlay","Options":{"com.docker.network.driver.mtu":"9"}}"#,
            400,
            "MTU \"9\"",
        ),
    ] {
        let (code, message) = refused(body);
        assert!(code == status && message.contains(words), "{body}: {code} {message}");
    }
}

#[test]
fn filters_choose() {
    let net = of_machine("host", "abc", "host", "local", model::Timestamp(1));
    for (filters, expected) in [
        ("", true),
        (r#"{"name":["os"]}"#, true),
        (r#"{"name":["x"]}"#, false),
        (r#"{"type":["builtin"]}"#, true),
        (r#"{"type":["custom"]}"#, false),
        (r#"{"dangling":["true"]}"#, false),
        (r#"{"scope":["swarm"]}"#, false),
        (r#"{"id":["ab"]}"#, true),
    ] {
        assert_eq!(is_wanted(&net, &Filters::parse(filters).unwrap(), true), expected, "{filters}");
    }
    let until = |text: &str| {
        let filters = Filters::parse(&format!(r#"{{"until":["{text}"]}}"#)).unwrap();
        pruned_until(&filters, model::Timestamp(3_600_000))
    };
    assert_eq!(until("1h").unwrap(), Some(0));
    assert_eq!(until("5").unwrap(), Some(5_000_000_000));
    assert!(until("soon").is_err());
}
