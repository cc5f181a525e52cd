//! `update`: what containers may use, changed while they run.

use clap::Args;
use docker_api::container_config::RestartPolicy;
use serde_json::{Map, Value, json};

use super::flags::signed;
use crate::{
    api::Client,
    exit::Failure,
    output::{self, complain},
    parse::{
        container::{memory_swap, restart},
        units,
    },
};

/// Flags of `update`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rnctl update --memory 256m --cpus 0.5 web")]
pub struct UpdateArgs {
    /// CPUs that they may use
    #[arg(long, value_name = "CPUS", value_parser = units::cpus)]
    cpus: Option<u64>,
    /// Their part of the CPUs' time beside others'
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<i64>,
    /// What --cpu-quota counts in, microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Microseconds of the CPUs' time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// CPUs that they may run on: 0-3, 0,1
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that they may use: 0-3, 0,1
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Memory that they may use
    #[arg(short, long, value_name = "BYTES", value_parser = units::memory)]
    memory: Option<u64>,
    /// Memory that they keep when memory is short
    #[arg(long, value_name = "BYTES", value_parser = units::memory)]
    memory_reservation: Option<u64>,
    /// Memory and swap together, -1 without a limit
    #[arg(long, value_name = "BYTES", value_parser = memory_swap, allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// Processes that they may have, -1 without a limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// When they start again: no, on-failure[:times], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    restart: Option<RestartPolicy>,
    /// Containers, by name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl UpdateArgs {
    /// What was given, by Docker's names.
    fn body(&self) -> Map<String, Value> {
        let given = [
            ("NanoCpus", self.cpus.map(signed).map(Value::from)),
            ("CpuShares", self.cpu_shares.map(Value::from)),
            ("CpuPeriod", self.cpu_period.map(Value::from)),
            ("CpuQuota", self.cpu_quota.map(Value::from)),
            ("CpusetCpus", self.cpuset_cpus.clone().map(Value::from)),
            ("CpusetMems", self.cpuset_mems.clone().map(Value::from)),
            ("Memory", self.memory.map(signed).map(Value::from)),
            ("MemoryReservation", self.memory_reservation.map(signed).map(Value::from)),
            ("MemorySwap", self.memory_swap.map(Value::from)),
            ("PidsLimit", self.pids_limit.map(Value::from)),
            ("RestartPolicy", self.restart.as_ref().map(|policy| json!(policy))),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// `update`.
pub async fn run(rn: &Client, args: UpdateArgs) -> Result<(), Failure> {
    let body = args.body();
    if body.is_empty() {
        return Err(Failure::usage("update", "you must provide one or more flags when using this command"));
    }
    let mut failures = Vec::new();
    for key in &args.containers {
        match rn.post(&["containers", key, "update"]).body(&body).json::<Value>().await {
            Ok(said) => {
                output::line(key);
                for warning in said["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    complain(&format!("WARNING: {warning}"));
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}
