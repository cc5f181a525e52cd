//! `--network app` or `--network name=app,alias=web,ip=10.0.1.9` of a container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto::model::EndpointSettings;

use super::csv;

/// Parses one `--network` of a container.
pub fn endpoint(text: &str) -> Result<EndpointSettings, String> {
    let mut settings = EndpointSettings::default();
    if !text.contains('=') {
        if text.is_empty() {
            return Err("the network's name is empty".into());
        }
        settings.network = text.to_owned();
        return Ok(settings);
    }
    for (key, value) in csv::pairs(text)? {
        let value = value.ok_or_else(|| format!("invalid field {key:?}: write key=value"))?;
        match key.as_str() {
            "name" => settings.network = value,
            "alias" => settings.aliases.push(value),
            "ip" => settings.addrs.push(v4(&value)?),
            "ip6" => settings.addrs.push(v6(&value)?),
            _ => return Err(format!("invalid field key {key:?}: use name, alias, ip, ip6")),
        }
    }
    if settings.network.is_empty() {
        return Err(format!("{text:?} names no network: add name=…"));
    }
    Ok(settings)
}

/// An IPv4 address.
pub fn v4(text: &str) -> Result<IpAddr, String> {
    text.parse::<Ipv4Addr>().map(Into::into).map_err(|_| format!("{text:?} is not an IPv4 address"))
}

/// An IPv6 address.
pub fn v6(text: &str) -> Result<IpAddr, String> {
    text.parse::<Ipv6Addr>().map(Into::into).map_err(|_| format!("{text:?} is not an IPv6 address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long() {
        assert!(endpoint("app").is_ok_and(|e| e.network == "app" && e.addrs.is_empty()));
        let long = endpoint("name=app,alias=a,alias=b,ip=10.0.1.9,ip6=fd00::9");
        assert!(long.is_ok_and(|e| e.network == "app" && e.aliases == ["a", "b"] && e.addrs.len() == 2));
        for bad in [
            "",
            "alias=a",
            "name=app,ip=here",
            "name=app,ip=fd00::9",
            "name=app,ip6=10.0.1.9",
            "name=app,mac=x",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
