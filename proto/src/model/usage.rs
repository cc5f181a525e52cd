//! What a container uses of its machine.

use std::collections::BTreeMap;

/// What a container has used up to a moment, as the kernel counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// When it was read, ns since the epoch.
    pub at_nanos: u64,
    /// Processors.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes and threads.
    pub pids: u64,
    /// How many of them there may be; 0 = any number.
    pub pids_limit: u64,
    /// Bytes to and from each block device.
    pub block_bytes: Vec<BlockUsage>,
    /// Operations on each block device.
    pub block_operations: Vec<BlockUsage>,
    /// The interfaces of its own network, by name; none in the machine's network.
    pub interfaces: BTreeMap<String, InterfaceUsage>,
}

/// Use of processors; times in ns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of it.
    pub user: u64,
    /// On each processor; only cgroup v1 counts that.
    pub per_cpu: Vec<u64>,
    /// What all processors of the machine have done since its start.
    pub machine: u64,
    /// Processors of the machine.
    pub online: u32,
    /// Periods in which a limit was looked at.
    pub periods: u64,
    /// Those in which it was reached.
    pub throttled_periods: u64,
    /// How long it was held up.
    pub throttled: u64,
}

/// Use of memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Now, caches included.
    pub usage: u64,
    /// The most that it has been; only cgroup v1 says so.
    pub max_usage: Option<u64>,
    /// How often the limit was reached; only cgroup v1 says so.
    pub failures: Option<u64>,
    /// The limit; without one, the machine's memory.
    pub limit: u64,
    /// What it consists of, by the kernel's names.
    pub parts: BTreeMap<String, u64>,
}

/// Use of one block device in one way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockUsage {
    /// The device.
    pub major: u64,
    /// The device.
    pub minor: u64,
    /// `read`, `write`, …
    pub operation: String,
    /// How much.
    pub value: u64,
}

/// What has gone through an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors of receiving.
    pub rx_errors: u64,
    /// Received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors of sending.
    pub tx_errors: u64,
    /// Dropped instead of sent.
    pub tx_dropped: u64,
}
