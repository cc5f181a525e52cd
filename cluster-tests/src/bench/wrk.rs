//! HTTP by wrk.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::cores;
use crate::lan::{self, url_host};

/// Connections at a time.
const CONNECTIONS: &str = "32";
/// Of one measurement.
const DURATION: &str = "1s";

/// Requests per second from inside a namespace, on connections that are kept, or on a new one for each request.
pub fn requests(netns: &Path, server: SocketAddr, keep: bool) -> Result<f64> {
    let mut command: Command = lan::command(netns, "taskset");
    command.args(["-c", &cores::GENERATOR.to_string(), "wrk", "-t1", "-c", CONNECTIONS, "-d", DURATION]);
    if !keep {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(format!("http://{}:{}/", url_host(server.ip()), server.port()));
    let output = lan::run(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    // wrk 4.1 counts the server's orderly end of a connection as a read error; those of connecting are real ones.
    let failed_connects = text.split("connect ").nth(1).and_then(|r| r.split(',').next()).unwrap_or("0");
    ensure!(failed_connects == "0", "{server}: {failed_connects} connections failed:\n{text}");
    ensure!(!text.contains("Non-2xx"), "{server}: not all answers were good:\n{text}");
    let rate = text.lines().find_map(|l| l.strip_prefix("Requests/sec:"));
    Ok(rate.with_context(|| format!("wrk reports no rate:\n{text}"))?.trim().parse()?)
}
