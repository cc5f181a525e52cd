#![allow(clippy::unwrap_used)]

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
    assert_eq!(spec(r#"{"Name":"n"}"#).unwrap().driver, "bridge");
    let without = spec(r#"{"Name":"n","Options":{"com.docker.network.enable_ipv6":"false"}}"#).unwrap();
    assert!(!without.ipv6 && without.options.is_empty());
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
    assert_eq!(crate::error::status(&no_driver("n", "weave")), 404);
    assert_eq!(crate::error::status(&no_driver("n", "bridge")), 400);
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
