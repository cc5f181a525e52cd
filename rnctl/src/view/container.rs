//! Containers, by what the daemon's list says of them.

use proto::model::Timestamp;
use serde_json::Value;

use super::{Object, service::image};
use crate::output::{
    ellipsis,
    listing::{Listing, Row},
    short_id, time,
    units::decimal,
};

/// `ps`.
pub const LISTING: Listing = Listing {
    table: "{{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Ports}}\\t{{.Names}}",
    quiet: "{{.ID}}",
    configured: |c| c.ps_format,
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("RunningFor", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Status", "STATUS"),
        ("State", "STATE"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Task", "TASK"),
        ("Service", "SERVICE"),
    ],
};

/// `ps --size`.
pub const LISTING_SIZE: Listing = Listing {
    table: "{{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Ports}}\\t{{.Names}}\\t{{.Size}}",
    ..LISTING
};

/// Docker cuts commands here, and names of mounts there.
const COMMAND_LENGTH: usize = 20;
const MOUNT_LENGTH: usize = 15;

/// A line of `ps`, of one of `GET /containers/json`.
pub fn row(container: &Value, no_trunc: bool, now: Timestamp) -> Row {
    let text = |key: &str| container[key].as_str().unwrap_or_default();
    let whole = |text: &str, max: usize| if no_trunc { text.to_owned() } else { ellipsis(text, max) };
    let created = Timestamp(container["Created"].as_u64().unwrap_or_default().saturating_mul(1000));
    let networks = container.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let networks: Vec<&str> = networks.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let names = container["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // Others are those of links, as `/other/alias`.
    let names: Vec<&str> =
        names.map(|n| n.trim_start_matches('/')).filter(|n| no_trunc || !n.contains('/')).collect();
    let labels = container["Labels"].as_object();
    let label = |key: &str| labels.and_then(|all| all.get(key)?.as_str()).unwrap_or_default().to_owned();
    let labels: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let all_mounts = || container["Mounts"].as_array().into_iter().flatten();
    let mounts: Vec<String> = all_mounts()
        .map(|mount| {
            let name = mount["Name"].as_str().filter(|name| !name.is_empty());
            whole(name.or(mount["Source"].as_str()).unwrap_or_default(), MOUNT_LENGTH)
        })
        .collect();
    let volumes = all_mounts().filter(|mount| mount["Driver"] == "local").count();
    Object::default()
        .with("ID", if no_trunc { text("Id") } else { short_id(text("Id")) })
        .with("Image", shown_image(text("Image"), no_trunc))
        .with("Command", format!("{:?}", whole(text("Command"), COMMAND_LENGTH)))
        .with("CreatedAt", time::long(created))
        .with("RunningFor", time::ago(created, now))
        .with("State", text("State"))
        .with("Status", text("Status"))
        .with("Size", size(container))
        .with("Ports", ports(&container["Ports"]))
        .with("Names", names.join(","))
        .with("Labels", labels.join(","))
        .with("Mounts", mounts.join(","))
        .with("LocalVolumes", volumes.to_string())
        .with("Networks", networks.join(","))
        .with("Task", label("com.docker.swarm.task.id"))
        .with("Service", label("com.docker.swarm.service.id"))
        .build()
}

fn shown_image(name: &str, no_trunc: bool) -> String {
    match name {
        "" => "<no image>".into(),
        _ if no_trunc => name.to_owned(),
        _ if name.starts_with("sha256:") => short_id(name).to_owned(),
        _ => image(name).to_owned(),
    }
}

/// What it has written, and what it sees where that is known.
fn size(container: &Value) -> String {
    let bytes = |key: &str| container[key].as_u64().unwrap_or_default();
    match bytes("SizeRootFs") {
        0 => decimal(bytes("SizeRw")),
        all => format!("{} (virtual {})", decimal(bytes("SizeRw")), decimal(all)),
    }
}

/// A port of a container, or several in a row.
#[derive(Debug, PartialEq, Eq)]
struct Ports<'a> {
    ip: &'a str,
    protocol: &'a str,
    private: (u64, u64),
    /// 0 where it is not published.
    public: (u64, u64),
}

/// Ports as Docker prints them, neighbours in one.
fn ports(all: &Value) -> String {
    let number = |port: &Value, key: &str| port[key].as_u64().unwrap_or_default();
    let text = |port: &'_ Value, key: &str| port[key].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<(u64, String, String, u64)> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            (number(port, "PrivatePort"), text(port, "IP"), text(port, "Type"), number(port, "PublicPort"))
        })
        .collect();
    // Those that are only exposed come first, as in Docker's list.
    found.sort_by(|a, b| (a.3 != 0, &a.1, &a.2, a.0, a.3).cmp(&(b.3 != 0, &b.1, &b.2, b.0, b.3)));
    let mut runs: Vec<Ports<'_>> = Vec::new();
    for (private, ip, protocol, public) in &found {
        let (private, public) = (*private, *public);
        let follows = |last: &Ports<'_>| {
            let next = if public == 0 { last.public.1 == 0 } else { last.public.1 + 1 == public };
            last.ip == ip && last.protocol == protocol && last.private.1 + 1 == private && next
        };
        match runs.last_mut() {
            Some(last) if follows(last) => (last.private.1, last.public.1) = (private, public),
            _ => runs.push(Ports { ip, protocol, private: (private, private), public: (public, public) }),
        }
    }
    let range = |(a, b): (u64, u64)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    let shown = |run: &Ports<'_>| {
        let private = format!("{}/{}", range(run.private), run.protocol);
        match run.public.0 {
            0 => private,
            _ if run.ip.contains(':') => format!("[{}]:{}->{private}", run.ip, range(run.public)),
            _ => format!("{}:{}->{private}", run.ip, range(run.public)),
        }
    };
    runs.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_of_neighbours_are_one() {
        let port = |ip: &str, private: u16, public: u16| json!({"IP": ip, "PrivatePort": private, "PublicPort": public, "Type": "tcp"});
        let all = json!([
            port("0.0.0.0", 80, 8080), port("::", 80, 8080), port("0.0.0.0", 81, 8081), port("::", 81, 8081),
            {"PrivatePort": 443, "Type": "tcp"}, port("0.0.0.0", 90, 9000),
        ]);
        assert_eq!(
            ports(&all),
            "443/tcp, 0.0.0.0:8080-8081->80-81/tcp, 0.0.0.0:9000->90/tcp, [::]:8080-8081->80-81/tcp"
        );
        assert_eq!(ports(&Value::Null), "");
    }

    #[test]
    fn lines_as_docker_prints_them() {
        let running = json!({
            "Id": "0123456789abcdef", "Names": ["/web.1.abc", "/other/alias"], "Image": "hello:1@sha256:00", "Created": 1,
            "Command": "/bin/httpd -f -p [::]:80", "State": "running", "Status": "Up 5 seconds",
            "Labels": {"a": "b", "com.docker.swarm.task.id": "t"}, "NetworkSettings": {"Networks": {"app": {}}},
            "Mounts": [{"Name": "data", "Driver": "local"}, {"Source": "/a/path/that/is/long"}], "SizeRw": 5, "SizeRootFs": 1005,
            "Ports": [
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            ],
        });
        let rows = [row(&running, false, Timestamp(7_000))];
        let text = LISTING.render(&rows, &Default::default()).unwrap_or_default();
        assert_eq!(
            text,
            "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS                                     NAMES\n\
             0123456789ab   hello:1   \"/bin/httpd -f -p [:…\"   6 seconds ago   Up 5 seconds   0.0.0.0:8080->80/tcp, [::]:8080->80/tcp   web.1.abc\n"
        );
        let [row] = &rows;
        let field = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!((field("Mounts"), field("LocalVolumes")), ("data,/a/path/that/i…".into(), "1".into()));
        assert_eq!((field("Size"), field("Task")), ("5B (virtual 1kB)".into(), "t".into()));
    }
}
