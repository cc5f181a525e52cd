//! What a container may use of its machine.

use clap::Args;
use docker_api::container_config::HostConfig;
use proto::model::Ulimit;

use crate::parse::{container::memory_swap, units};

/// Limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Resource limit; may be repeated
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = units::ulimit)]
    ulimit: Vec<Ulimit>,
    /// CPUs that it may use
    #[arg(long, value_name = "CPUS", value_parser = units::cpus, default_value = "0", hide_default_value = true)]
    cpus: u64,
    /// Its part of the CPUs' time beside others'
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    cpu_shares: i64,
    /// What --cpu-quota counts in, microseconds
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0, hide_default_value = true)]
    cpu_period: i64,
    /// Microseconds of the CPUs' time in each period
    #[arg(
        long,
        value_name = "MICROSECONDS",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    cpu_quota: i64,
    /// CPUs that it may run on: 0-3, 0,1
    #[arg(long, value_name = "CPUS", default_value = "", hide_default_value = true)]
    cpuset_cpus: String,
    /// Memory nodes that it may use: 0-3, 0,1
    #[arg(long, value_name = "NODES", default_value = "", hide_default_value = true)]
    cpuset_mems: String,
    /// Memory that it may use
    #[arg(short, long, value_name = "BYTES", value_parser = units::memory, default_value = "0", hide_default_value = true)]
    memory: u64,
    /// Memory that it keeps when memory is short
    #[arg(long, value_name = "BYTES", value_parser = units::memory, default_value = "0", hide_default_value = true)]
    memory_reservation: u64,
    /// Memory and swap together, -1 without a limit
    #[arg(long, value_name = "BYTES", value_parser = memory_swap, allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// How readily it is swapped out, 0 to 100, -1 as the machine has it
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(i64).range(-1..=100), allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,
    /// Do not kill it when memory runs out
    #[arg(long)]
    oom_kill_disable: bool,
    /// How readily it is killed when memory runs out, -1000 to 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(-1000..=1000), allow_negative_numbers = true)]
    oom_score_adj: Option<i64>,
    /// Processes that it may have, -1 without a limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pids_limit: i64,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = units::memory, default_value = "0", hide_default_value = true)]
    shm_size: u64,
}

/// Docker's numbers have a sign.
pub fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl LimitFlags {
    /// Sets what was given.
    pub fn apply(self, host: &mut HostConfig) {
        host.ulimits = self
            .ulimit
            .into_iter()
            .map(|u| docker_api::container_spec::Ulimit { name: u.name, hard: u.hard, soft: u.soft })
            .collect();
        host.nano_cpus = signed(self.cpus);
        host.cpu_shares = self.cpu_shares;
        host.cpu_period = self.cpu_period;
        host.cpu_quota = self.cpu_quota;
        host.cpuset_cpus = self.cpuset_cpus;
        host.cpuset_mems = self.cpuset_mems;
        host.memory = signed(self.memory);
        host.memory_reservation = signed(self.memory_reservation);
        host.memory_swap = self.memory_swap.unwrap_or_default();
        host.memory_swappiness = self.memory_swappiness;
        host.oom_kill_disable = self.oom_kill_disable;
        host.oom_score_adj = self.oom_score_adj.unwrap_or_default();
        host.pids_limit = self.pids_limit;
        host.shm_size = signed(self.shm_size);
    }
}
