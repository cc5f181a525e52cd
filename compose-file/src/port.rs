//! Published ports in their short form: `[address:][published:]target[/protocol]`, with ranges on either side.

use crate::document::Port;

/// Most ports that one line may stand for.
const MOST: u32 = 65_535;

/// Reads a short form: its ports, and whether it names an address, on which services cannot publish by itself.
///
/// # Errors
/// Why it publishes nothing, without the path.
pub(crate) fn short(text: &str) -> Result<(Vec<Port>, bool), String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid protocol {protocol:?} in {text:?}"));
    }
    let (rest, target) = ports.rsplit_once(':').map_or((None, ports), |(rest, target)| (Some(rest), target));
    let (address, published) = match rest {
        None => ("", ""),
        Some(rest) => rest.rsplit_once(':').unwrap_or(("", rest)),
    };
    let has_address = !address.is_empty();
    if has_address {
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        bare.parse::<std::net::IpAddr>()
            .map_err(|_| format!("invalid IP address {address:?} in {text:?}"))?;
    }
    let (first, last) =
        range(target).ok_or_else(|| format!("invalid containerPort: {target:?} in {text:?}"))?;
    let port =
        |target, published| Port { mode: "ingress".into(), target, published, protocol: protocol.clone() };
    if published.is_empty() {
        return Ok(((first..=last).map(|target| port(target, 0)).collect(), has_address));
    }
    let (from, to) =
        range(published).ok_or_else(|| format!("invalid hostPort: {published:?} in {text:?}"))?;
    if first == last {
        return Ok(((from..=to).map(|published| port(first, published)).collect(), has_address));
    }
    if to - from != last - first {
        return Err(format!("invalid ranges specified for container and host ports: {text:?}"));
    }
    Ok((
        (first..=last).zip(from..=to).map(|(target, published)| port(target, published)).collect(),
        has_address,
    ))
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| (1..=MOST).contains(port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn seen(text: &str) -> Vec<String> {
        let (ports, _) = short(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        ports.iter().map(|p| format!("{}:{}/{}", p.published, p.target, p.protocol)).collect()
    }

    #[test]
    fn dockers_forms() {
        for (text, want) in [
            ("80", vec!["0:80/tcp"]),
            ("8080:80", vec!["8080:80/tcp"]),
            (":80", vec!["0:80/tcp"]),
            ("53:53/UDP", vec!["53:53/udp"]),
            ("8080-8081:80-81", vec!["8080:80/tcp", "8081:81/tcp"]),
            ("8080-8081:80", vec!["8080:80/tcp", "8081:80/tcp"]),
            ("80-81", vec!["0:80/tcp", "0:81/tcp"]),
            ("127.0.0.1:8080:80", vec!["8080:80/tcp"]),
            ("[::1]:8080:80", vec!["8080:80/tcp"]),
            ("127.0.0.1::80", vec!["0:80/tcp"]),
        ] {
            assert_eq!(seen(text), want, "{text}");
        }
        assert!(short("127.0.0.1:80:80").unwrap().1 && !short("80:80").unwrap().1);
        for bad in
            ["", "x", "80:", "80/icmp", "0", "70000", "8080-8082:80-81", "81-80", "a:1:2", "-1", "80:80:80"]
        {
            assert!(short(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_ports_or_refused(text in "[0-9:/.a-t\\[\\]-]{0,24}") {
            let _ = short(&text);
        }
    }
}
