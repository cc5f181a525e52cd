//! TCP throughput by iperf3.

use std::{net::IpAddr, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{cores, running::Running};
use crate::lan;

/// iperf3's own port.
pub const PORT: u16 = 5201;
/// Seconds of one measurement.
const SECONDS: &str = "1";

/// A server in a namespace, on every address there.
pub fn serve(netns: &Path) -> Result<Running> {
    let mut server = Running::start(lan::command(netns, "iperf3").arg("-s"), None)?;
    server.ready("iperf3 -s", || {
        let sockets = lan::run(lan::command(netns, "ss").args(["-Hltn", "sport", "=", ":5201"]))?;
        if sockets.stdout.is_empty() { bail!("nothing listens on 5201") } else { Ok(()) }
    })?;
    Ok(server)
}

/// Bits per second that arrive at the server, one connection, each side on a core of its own.
pub fn bits(netns: &Path, server: IpAddr, port: u16) -> Result<f64> {
    let affinity = format!("{},{}", cores::GENERATOR, cores::SERVER);
    let mut command: Command = lan::command(netns, "iperf3");
    command.args(["-J", "-t", SECONDS, "-A", &affinity, "-p", &port.to_string(), "-c", &server.to_string()]);
    let output = command.output().context("iperf3")?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3 -c {server}: {error}");
    }
    report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 reports no rate")
}
