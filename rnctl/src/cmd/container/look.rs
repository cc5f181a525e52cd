//! `diff`, `port` and `top`.

use clap::Args;
use serde_json::Value;

use crate::{
    api::Client,
    exit::Failure,
    output::{self, table},
};

/// Flags of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "A line each: A for what is new, C for what is changed, D for what is gone.")]
pub struct DiffArgs {
    /// The container, by name or id
    container: String,
}

/// Flags of `port`.
#[derive(Debug, Args)]
pub struct PortArgs {
    /// The container, by name or id
    container: String,
    /// Only this port of it
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Flags of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// The container, by name or id, then options of ps
    #[arg(value_names = ["CONTAINER", "PS-OPTIONS"], num_args = 1.., required = true, trailing_var_arg = true,
          allow_hyphen_values = true)]
    container_and_options: Vec<String>,
}

/// `diff`.
pub async fn diff(rn: &Client, args: DiffArgs) -> Result<(), Failure> {
    let changes: Option<Vec<Value>> = rn.get(&["containers", &args.container, "changes"]).json().await?;
    for change in changes.unwrap_or_default() {
        let kind = match change["Kind"].as_u64() {
            Some(1) => "A",
            Some(2) => "D",
            _ => "C",
        };
        output::line(&format!("{kind} {}", change["Path"].as_str().unwrap_or_default()));
    }
    Ok(())
}

/// Where a port is published, a line each; sorted, since JSON has no order.
fn bindings(bound: &Value) -> Vec<String> {
    let text = |binding: &Value| {
        let (ip, port) = (binding["HostIp"].as_str()?, binding["HostPort"].as_str()?);
        Some(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
    };
    let mut lines: Vec<String> = bound.as_array().into_iter().flatten().filter_map(text).collect();
    lines.sort();
    lines
}

/// `port`.
pub async fn port(rn: &Client, args: PortArgs) -> Result<(), Failure> {
    let detail = rn.get(&["containers", &args.container, "json"]).object().await?;
    let ports = detail.get("NetworkSettings").map(|settings| settings["Ports"].clone()).unwrap_or_default();
    let Some(wanted) = args.port else {
        let all = ports.as_object().into_iter().flatten();
        let mut all: Vec<(u16, &str, &Value)> = all
            .map(|(port, bound)| {
                let number = port.split('/').next().and_then(|n| n.parse().ok());
                (number.unwrap_or_default(), port.as_str(), bound)
            })
            .collect();
        all.sort_by_key(|(number, port, _)| (*number, *port));
        for (_, port, bound) in all {
            for binding in bindings(bound) {
                output::line(&format!("{port} -> {binding}"));
            }
        }
        return Ok(());
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((&wanted, "tcp"));
    if number.parse::<u16>().is_err() {
        return Err(Failure::local(format!("invalid port {wanted:?}: write a number, or number/udp")));
    }
    let found = bindings(&ports[format!("{number}/{protocol}")]);
    if found.is_empty() {
        return Err(Failure::local(format!(
            "no public port '{number}/{protocol}' published for {}",
            args.container
        )));
    }
    found.iter().for_each(|binding| output::line(binding));
    Ok(())
}

/// Docker's columns of `top` are this wide at least.
const TOP_WIDTH: usize = 20;

/// `top`.
pub async fn top(rn: &Client, args: TopArgs) -> Result<(), Failure> {
    let mut words = args.container_and_options.into_iter();
    let container = words.next().unwrap_or_default();
    if container.starts_with('-') {
        return Err(Failure::usage("top", format!("unknown option {container}")));
    }
    let options = words.collect::<Vec<_>>().join(" ");
    let asked = rn.get(&["containers", &container, "top"]);
    let shown: Value = asked.maybe("ps_args", Some(options).filter(|o| !o.is_empty())).json().await?;
    let line = |cells: &Value| {
        let cells = cells.as_array().into_iter().flatten().filter_map(Value::as_str);
        cells.collect::<Vec<_>>().join("\t")
    };
    let mut lines = vec![line(&shown["Titles"])];
    lines.extend(shown["Processes"].as_array().into_iter().flatten().map(line));
    output::emit(&table::align_to(TOP_WIDTH, &lines));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::bindings;

    #[test]
    fn addresses_of_both_families() {
        let bound = json!([{"HostIp": "::", "HostPort": "80"}, {"HostIp": "0.0.0.0", "HostPort": "80"}]);
        assert_eq!(bindings(&bound), ["0.0.0.0:80", "[::]:80"]);
        assert!(bindings(&serde_json::Value::Null).is_empty());
    }
}
