//! What a container uses.

use std::{collections::BTreeMap, path::Path};

use proto::model::{BlockUsage, ContainerUsage, CpuUsage, InterfaceUsage, MemoryUsage};

use super::{Group, Place, read};
use crate::now_nanos;

/// The kernel's ticks in a second, as programs see them (`USER_HZ`): the same on all machines that rn runs on.
const TICKS: u64 = 100;
const SECOND: u64 = 1_000_000_000;

impl Group {
    /// What the group's processes have used. `pid` is one of them; `own_network` = its network namespace is the container's own.
    /// Blocks.
    pub fn usage(&self, pid: i32, own_network: bool) -> ContainerUsage {
        let (machine, online) = machine(&read(Path::new("/proc/stat")));
        let cpu = match self.place("cpuacct", "cpu.stat") {
            Some(Place::V1(dir)) => {
                let times = fields(&read(&dir.join("cpuacct.stat")));
                let ticks = |name| times.get(name).copied().unwrap_or_default() * (SECOND / TICKS);
                CpuUsage {
                    total: number(&read(&dir.join("cpuacct.usage"))),
                    kernel: ticks("system"),
                    user: ticks("user"),
                    per_cpu: read(&dir.join("cpuacct.usage_percpu")).split_whitespace().map(number).collect(),
                    ..CpuUsage::default()
                }
            }
            Some(Place::V2(dir)) => {
                let stat = fields(&read(&dir.join("cpu.stat")));
                let nanos = |name| stat.get(name).copied().unwrap_or_default() * 1000;
                CpuUsage {
                    total: nanos("usage_usec"),
                    kernel: nanos("system_usec"),
                    user: nanos("user_usec"),
                    throttled: nanos("throttled_usec"),
                    ..CpuUsage::default()
                }
            }
            None => CpuUsage::default(),
        };
        let throttling = match self.place("cpu", "cpu.stat") {
            Some(Place::V1(dir) | Place::V2(dir)) => fields(&read(&dir.join("cpu.stat"))),
            None => BTreeMap::new(),
        };
        let throttling = |name| throttling.get(name).copied().unwrap_or_default();
        let cpu = CpuUsage {
            machine,
            online,
            periods: throttling("nr_periods"),
            throttled_periods: throttling("nr_throttled"),
            throttled: cpu.throttled.max(throttling("throttled_time")),
            ..cpu
        };
        let (pids, pids_limit) = match self.place("pids", "pids.current") {
            Some(Place::V1(dir) | Place::V2(dir)) => {
                (number(&read(&dir.join("pids.current"))), number(&read(&dir.join("pids.max"))))
            }
            None => (0, 0),
        };
        let (block_bytes, block_operations) = self.block();
        let interfaces = match own_network {
            true => interfaces(&read(Path::new(&format!("/proc/{pid}/net/dev")))),
            false => BTreeMap::new(),
        };
        ContainerUsage {
            at_nanos: now_nanos(),
            cpu,
            memory: self.memory(),
            pids,
            pids_limit,
            block_bytes,
            block_operations,
            interfaces,
        }
    }

    fn memory(&self) -> MemoryUsage {
        let most = fields(&read(Path::new("/proc/meminfo")).replace(':', " "));
        let most = most.get("MemTotal").copied().unwrap_or_default() * 1024;
        // Without a limit the kernel says a number that no machine has.
        let limit = |text: &str| match number(text) {
            0 => most,
            limit => limit.min(most),
        };
        match self.place("memory", "memory.current") {
            Some(Place::V1(dir)) => MemoryUsage {
                usage: number(&read(&dir.join("memory.usage_in_bytes"))),
                max_usage: Some(number(&read(&dir.join("memory.max_usage_in_bytes")))),
                failures: Some(number(&read(&dir.join("memory.failcnt")))),
                limit: limit(&read(&dir.join("memory.limit_in_bytes"))),
                parts: fields(&read(&dir.join("memory.stat"))),
            },
            Some(Place::V2(dir)) => MemoryUsage {
                usage: number(&read(&dir.join("memory.current"))),
                limit: limit(&read(&dir.join("memory.max"))),
                parts: fields(&read(&dir.join("memory.stat"))),
                ..MemoryUsage::default()
            },
            None => MemoryUsage::default(),
        }
    }

    /// Bytes and operations.
    fn block(&self) -> (Vec<BlockUsage>, Vec<BlockUsage>) {
        match self.place("blkio", "io.stat") {
            Some(Place::V1(dir)) => {
                let one = |names: [&str; 2]| {
                    let texts = names.iter().map(|name| read(&dir.join(name)));
                    texts.map(|text| blkio(&text)).find(|all| !all.is_empty()).unwrap_or_default()
                };
                (
                    one(["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"]),
                    one(["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"]),
                )
            }
            Some(Place::V2(dir)) => {
                let text = read(&dir.join("io.stat"));
                (io_stat(&text, "rbytes", "wbytes"), io_stat(&text, "rios", "wios"))
            }
            None => Default::default(),
        }
    }
}

/// A number; what is none (`max`) is 0.
fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// Lines of a name and a number.
fn fields(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// What all processors have done, in ns, idling included, and how many there are: of `/proc/stat`.
fn machine(stat: &str) -> (u64, u32) {
    let ticks: u64 = stat
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))
        .into_iter()
        // Time of guests is in that of users already.
        .flat_map(|line| line.split_whitespace().take(8))
        .map(number)
        .sum();
    let processor = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let online = stat.lines().filter(processor).count();
    (ticks * (SECOND / TICKS), u32::try_from(online).unwrap_or(u32::MAX))
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 Read 4096`.
fn blkio(text: &str) -> Vec<BlockUsage> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        Some(BlockUsage {
            major,
            minor,
            operation: words.next()?.to_ascii_lowercase(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// `8:0 rbytes=4096 wbytes=0 …`.
fn io_stat(text: &str, reads: &str, writes: &str) -> Vec<BlockUsage> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for word in words {
            let Some((name, value)) = word.split_once('=') else { continue };
            let operation = match name {
                _ if name == reads => "read",
                _ if name == writes => "write",
                _ => continue,
            };
            all.push(BlockUsage { major, minor, operation: operation.into(), value: number(value) });
        }
    }
    all
}

/// Of `/proc/<pid>/net/dev`; the loopback interface is left out, as in Docker.
fn interfaces(text: &str) -> BTreeMap<String, InterfaceUsage> {
    let line = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_whitespace().map(number).collect();
        let count = |n: usize| counts.get(n).copied().unwrap_or_default();
        let usage = InterfaceUsage {
            rx_bytes: count(0),
            rx_packets: count(1),
            rx_errors: count(2),
            rx_dropped: count(3),
            tx_bytes: count(8),
            tx_packets: count(9),
            tx_errors: count(10),
            tx_dropped: count(11),
        };
        Some((name.trim().to_owned(), usage)).filter(|(name, _)| name != "lo")
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let dev = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    1296      16    1    2    0     0          0         0     816      12    3    4    0     0       0          0
";
        let found = interfaces(dev);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found["eth0"].rx_bytes, found["eth0"].tx_packets, found["eth0"].tx_dropped),
            (1296, 12, 4)
        );
        assert_eq!(machine("cpu  1 2 3 4 0 0 0 0 9 9\ncpu0 1\ncpu1 2\nintr 5\n"), (100_000_000, 2));
        let both = blkio("8:0 Read 4096\n8:0 Write 1\nTotal 4097\n");
        assert_eq!((both.len(), both[0].operation.as_str(), both[0].value), (2, "read", 4096));
        let both = io_stat("254:0 rbytes=5 wbytes=6 rios=1 wios=2\n", "rios", "wios");
        assert_eq!((both[0].major, both[0].value, both[1].value), (254, 1, 2));
        assert_eq!(number("max\n"), 0);
    }
}
