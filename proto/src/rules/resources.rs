//! Limits and reservations.

use crate::{error::ApiError, model::Resources};

/// The least memory that the Docker engine accepts: a process cannot start in less.
const MIN_MEMORY: u64 = 4 << 20;
/// 0.001 CPU, in billionths (swarmkit `validateResources`).
const MIN_NANO_CPUS: u64 = 1_000_000;

/// Checks limits and reservations.
///
/// # Errors
/// One that is too small to be meant, or a reservation above its limit.
pub fn resources(object: &str, limits: &Resources, reservations: &Resources) -> Result<(), ApiError> {
    for (what, r) in [("limit", limits), ("reservation", reservations)] {
        if r.nano_cpus != 0 && r.nano_cpus < MIN_NANO_CPUS {
            return Err(ApiError::invalid(format!(
                "{object}: invalid cpu {what} of {} CPUs: must be at least 0.001",
                r.nano_cpus as f64 / 1e9
            )));
        }
        if r.memory_bytes != 0 && r.memory_bytes < MIN_MEMORY {
            return Err(ApiError::invalid(format!(
                "{object}: invalid memory {what} of {} bytes: must be at least 4 MiB",
                r.memory_bytes
            )));
        }
    }
    if reservations.pids != 0 {
        return Err(ApiError::invalid(format!("{object}: processes can be limited, not reserved")));
    }
    if limits.memory_bytes != 0 && reservations.memory_bytes > limits.memory_bytes {
        return Err(ApiError::invalid(format!(
            "{object}: memory reservation of {} bytes is above the limit of {} bytes",
            reservations.memory_bytes, limits.memory_bytes
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_floors() {
        let r = |nano_cpus, memory_bytes| Resources { nano_cpus, memory_bytes, pids: 0 };
        let none = Resources::default();
        assert!(resources("s", &r(1_000_000, 4 << 20), &none).is_ok());
        assert!(resources("s", &r(999_999, 0), &none).is_err());
        assert!(resources("s", &none, &r(0, (4 << 20) - 1)).is_err());
        assert!(resources("s", &r(0, 8 << 20), &r(0, 9 << 20)).is_err());
        assert!(resources("s", &none, &Resources { pids: 1, ..none }).is_err());
    }
}
