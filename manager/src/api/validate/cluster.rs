//! The cluster's settings, at `swarm init` and later.

use ipnet::IpNet;
use proto::{
    error::ApiError,
    model::{ClusterSpec, Millis, Port},
};

/// The longest prefix of an overlay's IPv4 subnet: each takes four addresses for itself (swarm-behaviour 3.5).
pub const MAX_SUBNET_SIZE: u8 = 29;

/// Bounds that tests move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The shortest life of a node's certificate. 1 h as in Swarm: with less, a short outage of the managers locks nodes out.
    pub min_cert_expiry: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        Self { min_cert_expiry: Millis::secs(3600) }
    }
}

/// Checks the settings that `swarm update` may change.
pub fn spec(spec: &ClusterSpec, limits: Limits) -> Result<(), ApiError> {
    if spec.name != "default" {
        return Err(ApiError::invalid(format!(
            "the swarm cannot be named {:?}: its name is always \"default\"",
            spec.name
        )));
    }
    super::labels("the swarm", &spec.labels)?;
    if spec.heartbeat_tick == 0 || spec.election_tick < spec.heartbeat_tick.saturating_mul(2) {
        return Err(ApiError::invalid(format!(
            "raft election timeout ({} ms) must be at least twice the raft heartbeat ({} ms), and neither may be 0",
            spec.election_tick, spec.heartbeat_tick
        ))
        .help("an election timeout of six heartbeats or more tolerates lost packets"));
    }
    if spec.dispatcher_heartbeat < Millis(100) {
        return Err(ApiError::invalid(format!(
            "dispatcher heartbeat period of {} ms is too short: the least is 100 ms",
            spec.dispatcher_heartbeat.0
        ))
        .help("--dispatcher-heartbeat 5s is the default"));
    }
    if spec.keep_old_snapshots != 0 {
        return Err(ApiError::unsupported("old snapshots of the raft log are not kept")
            .help("leave out --max-snapshots"));
    }
    if spec.cert_expiry < limits.min_cert_expiry {
        return Err(ApiError::invalid(format!(
            "certificate validity of {} is too short: minimum certificate expiry time is {}",
            span(spec.cert_expiry),
            span(limits.min_cert_expiry)
        ))
        .help("--cert-expiry 2160h is the default"));
    }
    Ok(())
}

/// A duration as users write it, in its largest whole unit.
fn span(time: Millis) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.into_iter().find(|(n, _)| time.0 >= *n && time.0.is_multiple_of(*n)) {
        Some((n, unit)) => format!("{}{unit}", time.0 / n),
        None => format!("{}ms", time.0),
    }
}

/// Checks what is fixed at `swarm init`.
pub fn addressing(pools: &[IpNet], subnet_size: u8, data_path_port: Port) -> Result<(), ApiError> {
    if !(1024..=49151).contains(&data_path_port) {
        return Err(ApiError::invalid(format!(
            "data path port {data_path_port} is out of range: it must be between 1024 and 49151"
        )));
    }
    for (i, pool) in pools.iter().enumerate() {
        if pool.addr().is_ipv6() {
            return Err(ApiError::invalid(format!("default address pool {pool} is IPv6: pools are IPv4"))
                .help(
                    "IPv6 subnets come from a random unique local prefix of the swarm; nothing is to be set",
                ));
        }
        if *pool != pool.trunc() {
            return Err(ApiError::invalid(format!(
                "invalid default address pool {pool}: the host part is not zero; it should be {}",
                pool.trunc()
            )));
        }
        if subnet_size < pool.prefix_len() || subnet_size > MAX_SUBNET_SIZE {
            return Err(ApiError::invalid(format!(
                "subnet size /{subnet_size} does not fit the default address pool {pool}: it must be between {} and {MAX_SUBNET_SIZE}",
                pool.prefix_len()
            ))
            .help("set it with --default-addr-pool-mask-length"));
        }
        if let Some(other) = pools[..i].iter().find(|other| other.contains(pool) || pool.contains(*other)) {
            return Err(ApiError::invalid(format!("default address pools {other} and {pool} overlap")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(spec(&ClusterSpec::default(), Limits::default()), Ok(()));
        assert_eq!(addressing(&["10.0.0.0/8".parse().unwrap()], 24, 4789), Ok(()));
    }

    #[test]
    fn bad_settings_are_refused_with_the_reason() {
        let with = |change: fn(&mut ClusterSpec)| {
            let mut s = ClusterSpec::default();
            change(&mut s);
            spec(&s, Limits::default()).unwrap_err().message
        };
        assert!(with(|s| s.name = "mine".into()).contains("default"));
        assert!(with(|s| s.election_tick = s.heartbeat_tick).contains("election"));
        assert!(with(|s| s.dispatcher_heartbeat = Millis(1)).contains("heartbeat"));
        assert!(with(|s| s.keep_old_snapshots = 3).contains("old snapshots"));
        assert!(with(|s| s.cert_expiry = Millis::secs(60)).contains("1h"));
    }

    #[test]
    fn pools_are_disjoint_and_large_enough() {
        let refused = |pools: &[&str], size: u8, port: u16| {
            let pools: Vec<IpNet> = pools.iter().map(|p| p.parse().unwrap()).collect();
            addressing(&pools, size, port).unwrap_err().message
        };
        assert!(refused(&["10.0.0.0/8"], 24, 80).contains("1024"));
        assert!(refused(&["10.0.0.1/8"], 24, 4789).contains("10.0.0.0/8"));
        assert!(refused(&["10.0.0.0/25"], 24, 4789).contains("subnet size"));
        assert!(refused(&["10.0.0.0/8"], 30, 4789).contains("subnet size"));
        assert!(refused(&["10.0.0.0/8", "10.20.0.0/16"], 24, 4789).contains("overlap"));
        assert!(refused(&["fd00::/48"], 64, 4789).contains("IPv6"));
    }
}
