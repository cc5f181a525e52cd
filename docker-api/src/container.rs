//! Lists of containers.

use proto::{
    error::ApiError,
    model::{Protocol, Timestamp},
    pb::{Container, PortConfig, PublishMode},
};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::{filters::Filters, time};

/// The filters of `GET /containers/json`.
pub const FILTERS: [&str; 14] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
];

/// A container, and what a list says of it besides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    /// The container.
    pub container: Container,
    /// Its image, `sha256:…`.
    pub image_id: String,
    /// Its mounts, as [`crate::container_inspect::mounts`] shows them.
    pub mounts: Vec<Value>,
    /// Bytes that it has written, and all that it sees; where that was asked for.
    pub size: Option<(u64, u64)>,
}

/// `Up 5 seconds (healthy)`, `Exited (0) 2 minutes ago`, `Created`.
pub fn status(container: &Container, now: Timestamp) -> String {
    let since = |then: u64| time::in_words(now.0.saturating_sub(then));
    match container.state.as_str() {
        "running" | "paused" => {
            let up = since(container.started_at);
            match container.health.as_str() {
                _ if container.state == "paused" => format!("Up {up} (Paused)"),
                "" | "none" => format!("Up {up}"),
                "starting" => format!("Up {up} (health: starting)"),
                health => format!("Up {up} ({health})"),
            }
        }
        "exited" => format!("Exited ({}) {} ago", container.exit_code, since(container.finished_at)),
        "restarting" => format!("Restarting ({}) {} ago", container.exit_code, since(container.finished_at)),
        _ => "Created".into(),
    }
}

pub(crate) fn protocol(port: &PortConfig) -> &'static str {
    Protocol::try_from(port.protocol()).map_or("tcp", Protocol::as_str)
}

pub(crate) fn is_published(port: &PortConfig) -> bool {
    port.mode() == PublishMode::Host && port.published_port != 0
}

/// A line of `GET /containers/json`.
pub fn summary(listed: &Listed, now: Timestamp) -> Value {
    let Listed { container: c, image_id, mounts, size } = listed;
    let ports = c.ports.iter().flat_map(|port| {
        let one = |ip: &str| {
            json!({"IP": ip, "PrivatePort": port.target_port, "PublicPort": port.published_port, "Type": protocol(port)})
        };
        match is_published(port) {
            true => vec![one("0.0.0.0"), one("::")],
            false => vec![json!({"PrivatePort": port.target_port, "Type": protocol(port)})],
        }
    });
    let mut summary = json!({
        "Id": c.id,
        "Names": [format!("/{}", c.name)],
        "Image": c.image,
        "ImageID": image_id,
        "Command": c.command,
        "Created": c.created_at / 1000,
        "Ports": ports.collect::<Vec<_>>(),
        "Labels": c.labels,
        "State": c.state,
        "Status": status(c, now),
        "HostConfig": {"NetworkMode": network_mode(c)},
        "NetworkSettings": {"Networks": networks(c)},
        "Mounts": mounts,
    });
    if let (Some((written, all)), Some(fields)) = (size, summary.as_object_mut()) {
        fields.insert("SizeRw".into(), (*written).into());
        fields.insert("SizeRootFs".into(), (*all).into());
    }
    summary
}

/// The network that comes first.
pub(crate) fn network_mode(container: &Container) -> &str {
    container.networks.first().map_or("", |n| n.name.as_str())
}

/// Its places on networks, by their names.
pub(crate) fn networks(container: &Container) -> Map<String, Value> {
    let networks = container.networks.iter().map(|n| {
        let find = |v6: bool| {
            let found = n.addrs.iter().find(|a| a.contains(':') == v6).and_then(|a| a.split_once('/'));
            found.map_or(("", 0), |(addr, length)| (addr, length.parse::<u8>().unwrap_or_default()))
        };
        let ((v4, v4_length), (v6, v6_length)) = (find(false), find(true));
        let endpoint = json!({
            "IPAMConfig": null, "Links": null, "Aliases": null, "DriverOpts": null, "DNSNames": null, "GwPriority": 0,
            "MacAddress": n.mac, "NetworkID": n.network_id, "EndpointID": "",
            "Gateway": n.gateway, "IPAddress": v4, "IPPrefixLen": v4_length,
            "IPv6Gateway": "", "GlobalIPv6Address": v6, "GlobalIPv6PrefixLen": v6_length,
        });
        (n.name.clone(), endpoint)
    });
    networks.collect()
}

/// Refuses filters whose values cannot be.
///
/// # Errors
/// One of them; named.
pub fn check(filters: &Filters) -> Result<(), ApiError> {
    filters.check_values(
        "status",
        &["created", "running", "paused", "restarting", "removing", "exited", "dead"],
    )?;
    filters.check_values("health", &["none", "starting", "healthy", "unhealthy"])?;
    filters.switch("is-task")?;
    match filters.values("exited").find(|code| code.parse::<i32>().is_err()) {
        Some(code) => Err(ApiError::invalid(format!("invalid filter 'exited={code}'"))),
        None => Ok(()),
    }
}

/// What filters of containers refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// When the container of `before` was made.
    pub before: Option<u64>,
    /// When the container of `since` was made.
    pub since: Option<u64>,
    /// The images of `ancestor`, `sha256:…`.
    pub ancestors: Vec<String>,
}

/// Whether a container is among those that filters ask for.
pub fn is_wanted(listed: &Listed, filters: &Filters, bounds: &Bounds) -> bool {
    let c = &listed.container;
    let is_port = |wanted: &str, published: bool| {
        let (number, wanted_protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let (from, to) = number.split_once('-').unwrap_or((number, number));
        let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) else { return false };
        c.ports.iter().any(|port| {
            let number = if published { port.published_port } else { port.target_port };
            (!published || is_published(port))
                && (from..=to).contains(&number)
                && protocol(port) == wanted_protocol
        })
    };
    let of_volume = |wanted: &str| {
        listed
            .mounts
            .iter()
            .any(|m| [&m["Name"], &m["Destination"], &m["Source"]].contains(&&Value::from(wanted)))
    };
    // By its image, whatever that is called; one that has lost its image is found by the name that it was made with.
    let ancestor = |wanted: &str| {
        bounds.ancestors.contains(&listed.image_id)
            || c.image == wanted
            || c.image.strip_suffix(":latest") == Some(wanted)
    };
    let health = if c.health.is_empty() { "none" } else { &c.health };
    filters.any("id", |value| c.id.contains(value))
        && filters.any("name", |value| name_fits(&c.name, value))
        && filters.labels("label", &c.labels.clone().into_iter().collect())
        && filters.exact("status", &c.state)
        && filters.any("exited", |code| c.state == "exited" && code.parse() == Ok(c.exit_code))
        && filters.exact("health", health)
        && filters.any("network", |value| {
            c.networks
                .iter()
                .any(|n| n.name == value || (!n.network_id.is_empty() && n.network_id.starts_with(value)))
        })
        && filters.any("ancestor", ancestor)
        && filters.any("volume", of_volume)
        && filters.any("publish", |value| is_port(value, true))
        && filters.any("expose", |value| is_port(value, false))
        && filters.switch("is-task").ok().flatten().is_none_or(|wanted| wanted != c.task_id.is_empty())
        && bounds.before.is_none_or(|before| c.created_at < before)
        && bounds.since.is_none_or(|since| c.created_at > since)
}

/// A filter of names is a regular expression, or the whole name; with a slash before it or without.
fn name_fits(name: &str, wanted: &str) -> bool {
    let fits = |text: &str| text == wanted || Regex::new(wanted).is_ok_and(|wanted| wanted.is_match(text));
    fits(name) || fits(&format!("/{name}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn web() -> Listed {
        let port = PortConfig {
            target_port: 80,
            published_port: 8080,
            mode: PublishMode::Host.into(),
            ..PortConfig::default()
        };
        let container = Container {
            id: "abcdef".into(),
            name: "web".into(),
            image: "img:1".into(),
            state: "exited".into(),
            exit_code: 3,
            created_at: 2000,
            finished_at: 4000,
            ports: vec![port],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..Container::default()
        };
        Listed { container, mounts: vec![json!({"Name": "vol", "Destination": "/v"})], ..Listed::default() }
    }

    #[test]
    fn filters_choose() {
        for (filters, expected) in [
            (r#"{"name":["we"]}"#, true),
            (r#"{"name":["^/web$"]}"#, true),
            (r#"{"name":["^eb"]}"#, false),
            (r#"{"name":["^/we"]}"#, true),
            (r#"{"name":["w.b","x"]}"#, true),
            (r#"{"name":["(we"]}"#, false),
            (r#"{"id":["abc"],"status":["exited","running"]}"#, true),
            (r#"{"exited":["3"]}"#, true),
            (r#"{"exited":["0"]}"#, false),
            (r#"{"publish":["8080"],"expose":["80/tcp"]}"#, true),
            (r#"{"publish":["80"]}"#, false),
            (r#"{"ancestor":["img:1"]}"#, true),
            (r#"{"ancestor":["other"]}"#, false),
            (r#"{"volume":["vol"]}"#, true),
            (r#"{"volume":["/w"]}"#, false),
            (r#"{"label":["a=b"],"health":["none"],"is-task":["false"]}"#, true),
            (r#"{"is-task":["true"]}"#, false),
        ] {
            let filters = Filters::parse(filters).unwrap();
            check(&filters).unwrap();
            assert_eq!(is_wanted(&web(), &filters, &Bounds::default()), expected, "{filters:?}");
        }
        assert!(!is_wanted(&web(), &Filters::default(), &Bounds { before: Some(2000), ..Bounds::default() }));
        for bad in [r#"{"status":["well"]}"#, r#"{"exited":["x"]}"#, r#"{"is-task":["x"]}"#] {
            assert!(check(&Filters::parse(bad).unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_says_what_docker_does() {
        let line = summary(&web(), Timestamp(7000));
        assert_eq!(line["Names"], json!(["/web"]));
        assert_eq!(line["Status"], "Exited (3) 3 seconds ago");
        assert_eq!(line["Ports"][1]["IP"], "::");
        assert!(line.get("SizeRw").is_none());
    }
}
