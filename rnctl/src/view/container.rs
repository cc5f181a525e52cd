//! Containers.

use proto::{
    model::{JSON_FILE, Timestamp},
    pb::{Container, ContainerDetail, HealthReport, Protocol, PublishMode, health_report},
};
use serde_json::{Map, Value, json};

use super::{Object, capitalized, label_list, service::image, strings};
use crate::output::{
    ellipsis,
    listing::{Listing, Row},
    short_id, time,
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
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
    ],
};

/// Docker cuts commands here.
const COMMAND_LENGTH: usize = 20;

/// A line of `ps`.
pub fn row(container: &Container, no_trunc: bool, now: Timestamp) -> Row {
    let command =
        if no_trunc { container.command.clone() } else { ellipsis(&container.command, COMMAND_LENGTH) };
    let networks: Vec<&str> = container.networks.iter().map(|n| n.name.as_str()).collect();
    Object::default()
        .with("ID", if no_trunc { &container.id } else { short_id(&container.id) })
        .with("Image", if no_trunc { &container.image } else { image(&container.image) })
        .with("Command", format!("{command:?}"))
        .with("CreatedAt", time::long(Timestamp(container.created_at)))
        .with("RunningFor", time::ago(Timestamp(container.created_at), now))
        .with("State", container.state.as_str())
        .with("Status", status(container, now))
        .with("Ports", ports(container))
        .with("Names", container.name.as_str())
        .with("Labels", label_list(&container.labels))
        .with("Networks", networks.join(","))
        .with("Task", container.task_id.as_str())
        .with("Service", container.service_id.as_str())
        .build()
}

/// `Up 5 seconds (healthy)`, `Exited (0) 2 minutes ago`, `Created`.
pub fn status(container: &Container, now: Timestamp) -> String {
    match container.state.as_str() {
        "running" => {
            let up = time::span(now.0.saturating_sub(container.started_at));
            match container.health.as_str() {
                "" | "none" => format!("Up {up}"),
                "starting" => format!("Up {up} (health: starting)"),
                health => format!("Up {up} ({health})"),
            }
        }
        "exited" => {
            format!("Exited ({}) {}", container.exit_code, time::ago(Timestamp(container.finished_at), now))
        }
        "restarting" => {
            let ago = time::ago(Timestamp(container.finished_at), now);
            format!("Restarting ({}) {ago}", container.exit_code)
        }
        other => capitalized(other),
    }
}

fn protocol(number: i32) -> &'static str {
    match Protocol::try_from(number) {
        Ok(Protocol::Udp) => "udp",
        Ok(Protocol::Sctp) => "sctp",
        Ok(Protocol::Tcp | Protocol::Unspecified) | Err(_) => "tcp",
    }
}

/// Host-mode ports as Docker prints them, for both families; the others as what the container listens on.
fn ports(container: &Container) -> String {
    let texts: Vec<String> = container
        .ports
        .iter()
        .map(|p| {
            let (published, target, protocol) = (p.published_port, p.target_port, protocol(p.protocol));
            if p.mode == PublishMode::Host as i32 && published != 0 {
                format!("0.0.0.0:{published}->{target}/{protocol}, [::]:{published}->{target}/{protocol}")
            } else {
                format!("{target}/{protocol}")
            }
        })
        .collect();
    texts.join(", ")
}

/// `inspect` of a container.
pub fn inspect(detail: &ContainerDetail) -> Row {
    let container = detail.container.clone().unwrap_or_default();
    let oci: Value = serde_json::from_str(&detail.oci_config_json).unwrap_or_default();
    let part = |pointer: &str| oci.pointer(pointer).cloned().unwrap_or_default();
    let networks: Map<String, Value> = container
        .networks
        .iter()
        .map(|n| {
            let object = Object::default()
                .with("NetworkID", n.network_id.as_str())
                .with("Addresses", n.addrs.clone())
                .some("Gateway", n.gateway.as_str())
                .with("MacAddress", n.mac.as_str())
                .with("Interface", n.interface.as_str());
            (n.name.clone(), with_families(object, &n.addrs).into())
        })
        .collect();
    let ports: Map<String, Value> = container
        .ports
        .iter()
        .map(|p| {
            let bound = p.mode == PublishMode::Host as i32 && p.published_port != 0;
            let port = p.published_port.to_string();
            let bindings = if bound {
                json!([{"HostIp": "0.0.0.0", "HostPort": port}, {"HostIp": "::", "HostPort": port}])
            } else {
                Value::Null
            };
            (format!("{}/{}", p.target_port, protocol(p.protocol)), bindings)
        })
        .collect();
    let args = part("/process/args");
    let args = args.as_array().map(Vec::as_slice).unwrap_or_default();
    Object::default()
        .with("Id", container.id.as_str())
        .with("Created", time::rfc3339(Timestamp(container.created_at)))
        .with("Path", args.first().cloned().unwrap_or_else(|| "".into()))
        .with("Args", args.get(1..).unwrap_or_default().to_vec())
        .with(
            "State",
            Object::default()
                .with("Status", container.state.as_str())
                // As Docker's: one that is about to start again counts as running.
                .with("Running", matches!(container.state.as_str(), "running" | "restarting"))
                .with("Paused", false)
                .with("Restarting", container.state == "restarting")
                .with("OOMKilled", detail.oom_killed)
                .with("Dead", false)
                .with("Pid", container.pid)
                .with("ExitCode", container.exit_code)
                .with("Error", detail.error.as_str())
                .with("StartedAt", time::rfc3339(Timestamp(container.started_at)))
                .with("FinishedAt", time::rfc3339(Timestamp(container.finished_at)))
                .some("Health", detail.health.as_ref().map_or(Value::Null, health)),
        )
        .with("Image", container.image.as_str())
        .with("LogPath", detail.log_path.as_str())
        .with("Name", container.name.as_str())
        .with("RestartCount", detail.restarts)
        .with("HostConfig", host_config(detail))
        .some("RootFS", detail.rootfs_path.as_str())
        .with(
            "Config",
            Object::default()
                .with("Hostname", detail.hostname.as_str())
                .with("Tty", detail.tty)
                .with("OpenStdin", detail.open_stdin)
                .with("Env", part("/process/env"))
                .with("WorkingDir", part("/process/cwd"))
                .with("Image", container.image.as_str())
                .with("Labels", strings(&container.labels)),
        )
        .with(
            "NetworkSettings",
            Object::default()
                .with("SandboxKey", detail.netns_path.as_str())
                .with("Ports", Value::Object(ports))
                .with("Networks", Value::Object(networks)),
        )
        .with("Mounts", mounts(&part("/mounts")))
        .some("TaskID", container.task_id.as_str())
        .some("ServiceID", container.service_id.as_str())
        .build()
}

/// The mounts that a user asked for, as Docker shows them: what every container has (`/proc`, `/etc/hosts`, …) is left out.
fn mounts(oci: &Value) -> Value {
    const EVERY: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let text = |m: &Value, key: &str| m.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let own = |m: &&Value| {
        let (kind, target) = (text(m, "type"), text(m, "destination"));
        let usual = EVERY.contains(&target.as_str()) || target == "/dev" || target.starts_with("/dev/");
        matches!(kind.as_str(), "bind" | "tmpfs") && !usual
    };
    let view = |m: &Value| {
        let options: Vec<&str> = m
            .get("options")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        json!({
            "Type": text(m, "type"),
            "Source": text(m, "source"),
            "Destination": text(m, "destination"),
            "Mode": options.join(","),
            "RW": !options.contains(&"ro"),
        })
    };
    oci.as_array().into_iter().flatten().filter(own).map(view).collect()
}

fn health(health: &HealthReport) -> Value {
    let check = |c: &health_report::Check| {
        Object::default()
            .with("Start", time::rfc3339_nanos(c.start_nanos))
            .with("End", time::rfc3339_nanos(c.end_nanos))
            .with("ExitCode", c.exit_code)
            .with("Output", c.output.as_str())
            .into()
    };
    Object::default()
        .with("Status", health.status.as_str())
        .with("FailingStreak", health.failing_streak)
        .with("Log", health.log.iter().map(check).collect::<Vec<Value>>())
        .into()
}

/// What of Docker's `HostConfig` there is.
fn host_config(detail: &ContainerDetail) -> Value {
    let log = detail.log_driver.clone().unwrap_or_default();
    let name = if log.name.is_empty() { JSON_FILE } else { &log.name };
    let (policy, times) = detail.restart.split_once(':').unwrap_or((detail.restart.as_str(), "0"));
    Object::default()
        .with("LogConfig", json!({"Type": name, "Config": strings(&log.options)}))
        .some(
            "RestartPolicy",
            match policy {
                "" => Value::Null,
                _ => json!({"Name": policy, "MaximumRetryCount": times.parse::<u32>().unwrap_or_default()}),
            },
        )
        .into()
}

/// Docker's fields for the first address of each family.
fn with_families(mut object: Object, addrs: &[String]) -> Object {
    let find = |v6: bool| addrs.iter().find(|a| a.contains(':') == v6);
    let keys = [(false, "IPAddress", "IPPrefixLen"), (true, "GlobalIPv6Address", "GlobalIPv6PrefixLen")];
    for (v6, address, length) in keys {
        if let Some((addr, prefix)) = find(v6).and_then(|a| a.split_once('/')) {
            object = object.with(address, addr).with(length, prefix.parse::<u8>().unwrap_or_default());
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use proto::pb::PortConfig;

    use super::*;

    #[test]
    fn only_the_users_mounts_are_shown() {
        let oci = json!([
            {"type": "proc", "source": "proc", "destination": "/proc", "options": ["nosuid"]},
            {"type": "tmpfs", "source": "shm", "destination": "/dev/shm"},
            {"type": "bind", "source": "/x/hosts", "destination": "/etc/hosts", "options": ["rw"]},
            {"type": "bind", "source": "/data", "destination": "/srv", "options": ["rbind", "ro"]},
        ]);
        let want = json!([{"Type": "bind", "Source": "/data", "Destination": "/srv", "Mode": "rbind,ro", "RW": false}]);
        assert_eq!(mounts(&oci), want);
    }

    #[test]
    fn states_in_dockers_words() {
        let at = |state: &str, health: &str| Container {
            state: state.into(),
            health: health.into(),
            exit_code: 1,
            started_at: 2_000,
            finished_at: 4_000,
            ..Container::default()
        };
        for (state, health, want) in [
            ("running", "", "Up 5 seconds"),
            ("running", "healthy", "Up 5 seconds (healthy)"),
            ("running", "unhealthy", "Up 5 seconds (unhealthy)"),
            ("running", "starting", "Up 5 seconds (health: starting)"),
            ("exited", "healthy", "Exited (1) 3 seconds ago"),
            ("restarting", "", "Restarting (1) 3 seconds ago"),
            ("created", "", "Created"),
        ] {
            assert_eq!(status(&at(state, health), Timestamp(7_000)), want);
        }
    }

    #[test]
    fn lines_as_docker_prints_them() {
        let running = Container {
            id: "0123456789abcdef".into(),
            name: "web.1.abc".into(),
            image: "hello:1".into(),
            command: "/bin/httpd -f -p [::]:80".into(),
            state: "running".into(),
            created_at: 1_000,
            started_at: 2_000,
            ports: vec![PortConfig {
                target_port: 80,
                published_port: 8080,
                mode: PublishMode::Host as i32,
                ..Default::default()
            }],
            ..Container::default()
        };
        let exited = Container {
            state: "exited".into(),
            exit_code: 3,
            finished_at: 5_000,
            ports: vec![],
            ..running.clone()
        };
        let now = Timestamp(7_000);
        let rows = [row(&running, false, now), row(&exited, false, now)];
        let text = LISTING.render(&rows, &Default::default()).unwrap_or_default();
        assert_eq!(
            text,
            "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS                     PORTS                                     NAMES\n\
             0123456789ab   hello:1   \"/bin/httpd -f -p [:…\"   6 seconds ago   Up 5 seconds               0.0.0.0:8080->80/tcp, [::]:8080->80/tcp   web.1.abc\n\
             0123456789ab   hello:1   \"/bin/httpd -f -p [:…\"   6 seconds ago   Exited (3) 2 seconds ago                                             web.1.abc\n"
        );
    }
}
