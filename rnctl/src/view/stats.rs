//! What containers use, worked out as Docker's client does.

use serde_json::Value;

use super::Object;
use crate::output::{
    listing::{Listing, Row},
    short_id,
    units::{binary, decimal},
};

/// `stats`.
pub const LISTING: Listing = Listing {
    table: "{{.ID}}\\t{{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.MemPerc}}\\t{{.NetIO}}\\t{{.BlockIO}}\\t{{.PIDs}}",
    quiet: "{{.ID}}",
    configured: |c| c.stats_format,
    headings: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// A line of `stats`; `stats` is null as long as nothing is known. `key`: what the user, or the list, called it.
pub fn row(key: &str, stats: &Value, no_trunc: bool) -> Row {
    let known = stats.get("read").and_then(Value::as_str).is_some_and(|read| !read.starts_with("0001-"));
    let name = stats["name"].as_str().unwrap_or_default().trim_start_matches('/');
    let id = stats["id"].as_str().unwrap_or(key);
    let (usage, limit) = memory(&stats["memory_stats"]);
    let or_none = |text: String| if known { text } else { "--".to_owned() };
    let pair = |a: String, b: String| if known { format!("{a} / {b}") } else { "-- / --".to_owned() };
    let (read, written) = blocks(&stats["blkio_stats"]["io_service_bytes_recursive"]);
    let sum = |field: &str| {
        let all = stats["networks"].as_object().into_iter().flatten();
        all.filter_map(|(_, counts)| counts[field].as_u64()).sum::<u64>()
    };
    Object::default()
        .with("BlockIO", pair(decimal(read), decimal(written)))
        .with("CPUPerc", or_none(format!("{:.2}%", cpu(stats))))
        .with("Container", key)
        .with("ID", if no_trunc { id } else { short_id(id) })
        .with("MemPerc", or_none(format!("{:.2}%", percent(usage, limit))))
        .with("MemUsage", pair(binary(usage), binary(limit)))
        .with("Name", if name.is_empty() { "--" } else { name })
        .with("NetIO", pair(decimal(sum("rx_bytes")), decimal(sum("tx_bytes"))))
        .with("PIDs", or_none(stats["pids_stats"]["current"].as_u64().unwrap_or_default().to_string()))
        .build()
}

#[allow(clippy::cast_precision_loss)] // Two digits are printed.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

/// The part of one processor: two that are busy are 200 %.
fn cpu(stats: &Value) -> f64 {
    let number = |path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let used = number("/cpu_stats/cpu_usage/total_usage")
        .saturating_sub(number("/precpu_stats/cpu_usage/total_usage"));
    let all = number("/cpu_stats/system_cpu_usage").saturating_sub(number("/precpu_stats/system_cpu_usage"));
    let cpus = match number("/cpu_stats/online_cpus") {
        0 => stats.pointer("/cpu_stats/cpu_usage/percpu_usage").and_then(Value::as_array).map_or(0, Vec::len),
        online => usize::try_from(online).unwrap_or_default(),
    };
    #[allow(clippy::cast_precision_loss)] // Two digits are printed.
    let cpus = cpus as f64;
    percent(used, all) * cpus
}

/// What is used, without what the kernel would give back, and the limit.
fn memory(memory: &Value) -> (u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let usage = number(&memory["usage"]);
    let parts = &memory["stats"];
    let cache = match parts.get("total_inactive_file") {
        Some(of_version_1) => number(of_version_1),
        None => number(&parts["inactive_file"]),
    };
    (if cache < usage { usage - cache } else { usage }, number(&memory["limit"]))
}

/// Bytes read and written.
fn blocks(all: &Value) -> (u64, u64) {
    let sum = |letter: char| {
        let of = |op: &Value| op["op"].as_str().is_some_and(|op| op.to_lowercase().starts_with(letter));
        let found = all.as_array().into_iter().flatten().filter(|op| of(op));
        found.filter_map(|op| op["value"].as_u64()).sum()
    };
    (sum('r'), sum('w'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_dockers() {
        let stats = json!({
            "id": "0123456789abcdef", "name": "/web", "read": "2026-01-01T00:00:00Z",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3 << 20, "limit": 1 << 30, "stats": {"inactive_file": 1 << 20}},
            "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 5}, "eth1": {"rx_bytes": 500, "tx_bytes": 0}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 1}]},
            "pids_stats": {"current": 3},
        });
        let rows = [row("web", &stats, false), row("new", &Value::Null, false)];
        let text = LISTING.render(&rows, &Default::default()).unwrap_or_default();
        assert_eq!(
            text,
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O      BLOCK I/O    PIDS\n\
             0123456789ab   web       40.00%    2MiB / 1GiB         0.20%     1.5kB / 5B   4.1kB / 1B   3\n\
             new            --        --        -- / --             --        -- / --      -- / --      --\n"
        );
    }
}
