//! `--publish`.
//!
//! Long: `target=80,published=8080,protocol=tcp,mode=ingress|host`. Short: `[published:]target[/protocol]`, with ranges
//! on either side (`8080-8082:80-82`, or several published ports for one target: `8080-8082:80`).

use proto::model::{Port, PortConfig, Protocol, PublishMode};

use super::csv;

/// Parses one `--publish`; a range gives several ports.
pub fn publish(text: &str) -> Result<Vec<PortConfig>, String> {
    if text.contains('=') { long(text).map(|port| vec![port]) } else { short(text) }
}

fn long(text: &str) -> Result<PortConfig, String> {
    let mut port = PortConfig::default();
    for (key, value) in csv::pairs(text)? {
        let value = value.ok_or_else(|| format!("invalid field: {key}: write key=value"))?.to_lowercase();
        match key.as_str() {
            "target" => port.target = number(&value)?,
            "published" => port.published = number_or_zero(&value)?,
            "protocol" => port.protocol = value.parse()?,
            "mode" => {
                port.mode = match value.as_str() {
                    "ingress" => PublishMode::Ingress,
                    "host" => PublishMode::Host,
                    _ => return Err(format!("invalid publish mode value ({value}): use ingress or host")),
                }
            }
            _ => return Err(format!("invalid field key {key:?}: use target, published, protocol, mode")),
        }
    }
    if port.target == 0 {
        return Err("missing mandatory field \"target\"".into());
    }
    Ok(port)
}

fn short(text: &str) -> Result<Vec<PortConfig>, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol: Protocol = protocol.parse()?;
    let (published, target) = match ports.rsplit_once(':') {
        None => (None, ports),
        Some((published, _)) if published.contains(':') => {
            return Err(format!(
                "{text:?}: a host address is not supported for services, which publish on all addresses"
            ));
        }
        Some((published, target)) => (Some(published).filter(|p| !p.is_empty()), target),
    };
    let targets = range(target)?;
    let published = published.map(range).transpose()?;
    let config = |published, target| PortConfig { protocol, target, published, ..PortConfig::default() };
    let Some(published) = published else {
        return Ok(targets.into_iter().map(|target| config(0, target)).collect());
    };
    match (targets.as_slice(), published.len()) {
        ([target], _) => Ok(published.into_iter().map(|p| config(p, *target)).collect()),
        (_, n) if n == targets.len() => {
            Ok(published.into_iter().zip(targets).map(|(p, t)| config(p, t)).collect())
        }
        _ => Err(format!("invalid ranges specified for container and host ports: {text}")),
    }
}

fn range(text: &str) -> Result<Vec<Port>, String> {
    let Some((first, last)) = text.split_once('-') else { return Ok(vec![number(text)?]) };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("invalid range {text}: it ends before it starts"));
    }
    Ok((first..=last).collect())
}

fn number(text: &str) -> Result<Port, String> {
    match number_or_zero(text)? {
        0 => Err(format!("invalid port {text:?}: 1 to 65535")),
        port => Ok(port),
    }
}

fn number_or_zero(text: &str) -> Result<Port, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| format!("invalid port {text:?}: 1 to 65535"))
}

/// What `--publish-rm` names: ports by what is told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpublish {
    /// The port that the task listens on.
    pub target: Port,
    /// Its transport.
    pub protocol: Protocol,
    /// The port on the nodes; none = whichever.
    pub published: Option<Port>,
    /// How it is reached; none = either way.
    pub mode: Option<PublishMode>,
}

impl Unpublish {
    /// Whether it means this port.
    pub fn means(&self, port: &PortConfig) -> bool {
        self.target == port.target
            && self.protocol == port.protocol
            && self.published.is_none_or(|published| published == port.published)
            && self.mode.is_none_or(|mode| mode == port.mode)
    }
}

/// Parses one `--publish-rm`: everything that `--publish` takes.
pub fn unpublish(text: &str) -> Result<Vec<Unpublish>, String> {
    let says_mode = text.contains('=') && csv::pairs(text)?.iter().any(|(key, _)| key == "mode");
    let named = |p: PortConfig| Unpublish {
        target: p.target,
        protocol: p.protocol,
        published: Some(p.published).filter(|port| *port != 0),
        mode: says_mode.then_some(p.mode),
    };
    Ok(publish(text)?.into_iter().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Result<Vec<String>, String> {
        Ok(publish(text)?
            .into_iter()
            .map(|p| {
                let mode = if p.mode == PublishMode::Host { " host" } else { "" };
                format!("{}:{}/{}{mode}", p.published, p.target, p.protocol)
            })
            .collect())
    }

    #[test]
    fn accepted() {
        let table: &[(&str, &[&str])] = &[
            ("80", &["0:80/tcp"]),
            ("8080:80", &["8080:80/tcp"]),
            (":80", &["0:80/tcp"]),
            ("53:53/UDP", &["53:53/udp"]),
            ("8080-8082:80-82/udp", &["8080:80/udp", "8081:81/udp", "8082:82/udp"]),
            ("8080-8081:80", &["8080:80/tcp", "8081:80/tcp"]),
            ("80-81", &["0:80/tcp", "0:81/tcp"]),
            ("target=80", &["0:80/tcp"]),
            ("Target=80,Published=8080,Protocol=UDP,Mode=Host", &["8080:80/udp host"]),
            ("published=8080,target=80,mode=ingress", &["8080:80/tcp"]),
            ("target=5,protocol=sctp", &["0:5/sctp"]),
        ];
        for (text, want) in table {
            assert_eq!(seen(text), Ok(want.iter().map(|s| (*s).to_owned()).collect()), "{text}");
        }
    }

    #[test]
    fn refused() {
        let table = [
            ("", "invalid port"),
            ("0", "invalid port"),
            ("+80", "invalid port"),
            ("65536", "invalid port"),
            ("80:x", "invalid port"),
            ("82-80", "ends before"),
            ("8080-8082:80-81", "invalid ranges"),
            ("127.0.0.1:8080:80", "host address"),
            ("[::1]:8080:80", "host address"),
            ("80/icmp", "invalid protocol"),
            ("published=80", "target"),
            ("target=80,mode=both", "publish mode"),
            ("target=80,colour=red", "invalid field key"),
            ("target=80,mode", "write key=value"),
        ];
        for (text, want) in table {
            let error = seen(text).err().unwrap_or_default();
            assert!(error.contains(want), "{text}: {error:?}");
        }
    }

    #[test]
    fn removal() {
        let published =
            |texts: &[&str]| texts.iter().filter_map(|t| publish(t).ok()).flatten().collect::<Vec<_>>();
        let all = published(&[
            "8080:80",
            "8081:80",
            "80:80/udp",
            "target=80,published=9000,mode=host",
            "7000-7002:7000-7002",
        ]);
        let left = |text: &str| {
            let gone = unpublish(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let left = all.iter().filter(|p| !gone.iter().any(|g| g.means(p)));
            left.map(|p| format!("{}/{}", p.published, p.protocol)).collect::<Vec<_>>().join(" ")
        };
        for (text, want) in [
            ("80", "80/udp 7000/tcp 7001/tcp 7002/tcp"),
            ("80/udp", "8080/tcp 8081/tcp 9000/tcp 7000/tcp 7001/tcp 7002/tcp"),
            ("8080:80", "8081/tcp 80/udp 9000/tcp 7000/tcp 7001/tcp 7002/tcp"),
            ("target=80,mode=host", "8080/tcp 8081/tcp 80/udp 7000/tcp 7001/tcp 7002/tcp"),
            ("published=8081,target=80", "8080/tcp 80/udp 9000/tcp 7000/tcp 7001/tcp 7002/tcp"),
            ("7000-7001", "8080/tcp 8081/tcp 80/udp 9000/tcp 7002/tcp"),
            ("7001-7002:7001-7002", "8080/tcp 8081/tcp 80/udp 9000/tcp 7000/tcp"),
        ] {
            assert_eq!(left(text), want, "{text}");
        }
        assert!(unpublish("x").is_err() && unpublish("published=80").is_err());
    }
}
