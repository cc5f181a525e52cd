//! `GET /containers/{id}/stats`.

use proto::model::{BlockUsage, ContainerUsage, CpuUsage, MemoryUsage};
use serde_json::{Map, Value, json};

use crate::time::{NEVER, rfc3339_nanos};

/// A container's use; `before` is the last that was told, which clients work out percentages with. Without `now` it does not run.
pub fn stats(id: &str, name: &str, now: Option<&ContainerUsage>, before: Option<&ContainerUsage>) -> Value {
    let time =
        |usage: Option<&ContainerUsage>| usage.map_or_else(|| NEVER.into(), |u| rfc3339_nanos(u.at_nanos));
    let mut stats = json!({
        "id": id,
        "name": format!("/{name}"),
        "read": time(now),
        "preread": time(before.filter(|_| now.is_some())),
        "num_procs": 0,
        "pids_stats": now.map_or_else(|| json!({}), pids),
        "cpu_stats": cpu(now.map(|u| &u.cpu)),
        "precpu_stats": cpu(before.filter(|_| now.is_some()).map(|u| &u.cpu)),
        "memory_stats": now.map_or_else(|| json!({}), |u| memory(&u.memory)),
        "blkio_stats": blocks(now),
        "storage_stats": {},
    });
    if let (Some(now), Some(fields)) = (now.filter(|u| !u.interfaces.is_empty()), stats.as_object_mut()) {
        let networks = now.interfaces.iter().map(|(name, i)| {
            let counts = json!({
                "rx_bytes": i.rx_bytes, "rx_packets": i.rx_packets, "rx_errors": i.rx_errors, "rx_dropped": i.rx_dropped,
                "tx_bytes": i.tx_bytes, "tx_packets": i.tx_packets, "tx_errors": i.tx_errors, "tx_dropped": i.tx_dropped,
            });
            (name.clone(), counts)
        });
        fields.insert("networks".into(), networks.collect::<Map<_, _>>().into());
    }
    stats
}

fn pids(usage: &ContainerUsage) -> Value {
    match usage.pids_limit {
        0 => json!({"current": usage.pids}),
        limit => json!({"current": usage.pids, "limit": limit}),
    }
}

fn cpu(cpu: Option<&CpuUsage>) -> Value {
    let none = CpuUsage::default();
    let c = cpu.unwrap_or(&none);
    let mut usage = json!({
        "total_usage": c.total, "usage_in_kernelmode": c.kernel, "usage_in_usermode": c.user,
    });
    if let (false, Some(fields)) = (c.per_cpu.is_empty(), usage.as_object_mut()) {
        fields.insert("percpu_usage".into(), json!(c.per_cpu));
    }
    let mut all = json!({
        "cpu_usage": usage,
        "throttling_data": {
            "periods": c.periods, "throttled_periods": c.throttled_periods, "throttled_time": c.throttled,
        },
    });
    if let (Some(c), Some(fields)) = (cpu, all.as_object_mut()) {
        fields.insert("system_cpu_usage".into(), c.machine.into());
        fields.insert("online_cpus".into(), c.online.into());
    }
    all
}

fn memory(memory: &MemoryUsage) -> Value {
    let mut all = json!({"usage": memory.usage, "limit": memory.limit, "stats": memory.parts});
    let only_v1 = [("max_usage", memory.max_usage), ("failcnt", memory.failures)];
    if let Some(fields) = all.as_object_mut() {
        for (name, value) in only_v1 {
            fields.extend(value.map(|value| (name.to_owned(), value.into())));
        }
    }
    all
}

fn blocks(usage: Option<&ContainerUsage>) -> Value {
    let list = |all: &[BlockUsage]| {
        let one =
            |b: &BlockUsage| json!({"major": b.major, "minor": b.minor, "op": b.operation, "value": b.value});
        if all.is_empty() { Value::Null } else { all.iter().map(one).collect() }
    };
    json!({
        "io_service_bytes_recursive": usage.map_or(Value::Null, |u| list(&u.block_bytes)),
        "io_serviced_recursive": usage.map_or(Value::Null, |u| list(&u.block_operations)),
        "io_queue_recursive": null, "io_service_time_recursive": null, "io_wait_time_recursive": null,
        "io_merged_recursive": null, "io_time_recursive": null, "sectors_recursive": null,
    })
}

#[cfg(test)]
mod tests {
    use proto::model::InterfaceUsage;

    use super::*;

    #[test]
    fn clients_find_what_they_work_out_percentages_with() {
        let usage = |total| ContainerUsage {
            at_nanos: 5_000_000_000,
            cpu: CpuUsage { total, machine: 100, online: 2, ..CpuUsage::default() },
            memory: MemoryUsage { usage: 7, limit: 9, ..MemoryUsage::default() },
            interfaces: [("eth0".to_owned(), InterfaceUsage { rx_bytes: 3, ..Default::default() })].into(),
            ..ContainerUsage::default()
        };
        let json = stats("abc", "web", Some(&usage(20)), Some(&usage(10)));
        assert_eq!((&json["name"], &json["read"]), (&json!("/web"), &json!("1970-01-01T00:00:05Z")));
        assert_eq!(json["cpu_stats"]["cpu_usage"]["total_usage"], 20);
        assert_eq!(json["precpu_stats"]["cpu_usage"]["total_usage"], 10);
        assert_eq!(json["networks"]["eth0"]["rx_bytes"], 3);
        assert_eq!(json["memory_stats"]["limit"], 9);
        let json = stats("abc", "web", None, Some(&usage(1)));
        assert_eq!((&json["read"], &json["memory_stats"]), (&json!(NEVER), &json!({})));
        assert!(json["precpu_stats"].get("system_cpu_usage").is_none() && json.get("networks").is_none());
    }
}
