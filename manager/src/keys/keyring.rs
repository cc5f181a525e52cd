//! Key rings: three keys per subsystem, the second by Lamport order is the one to send with. So the newest is known to
//! all before anyone uses it, and the oldest still opens what is under way (swarmkit `manager/keymanager`).

use proto::model::{KeySubsystem, Millis, NetworkKey, Timestamp};

use crate::{
    control_loop::Plan,
    store::{command::Command, state::State},
};

/// Keys per subsystem.
pub const RING: usize = 3;
/// Bytes of a key: AES-128.
pub const KEY_LEN: usize = 16;
/// Time between rotations.
pub const ROTATION: Millis = Millis::secs(12 * 3600);
/// The first Lamport number lies below this, drawn at random.
pub const INITIAL_SKEW: u64 = 1 << 16;

const SUBSYSTEMS: [KeySubsystem; 2] = [KeySubsystem::Gossip, KeySubsystem::Data];

/// The rings of a new cluster and the clock that goes with them. `fill` fills a key with random bytes.
pub fn initial(skew: u64, fill: &mut dyn FnMut(&mut [u8])) -> (Vec<NetworkKey>, u64) {
    let mut keys = Vec::new();
    let mut clock = skew % INITIAL_SKEW;
    for _ in 0..RING {
        clock += 1;
        keys.extend(SUBSYSTEMS.map(|subsystem| draw(subsystem, clock, fill)));
    }
    (keys, clock)
}

/// The rings after one rotation: each subsystem gets a new key and loses its oldest beyond [`RING`].
pub fn rotated(keys: &[NetworkKey], clock: u64, fill: &mut dyn FnMut(&mut [u8])) -> (Vec<NetworkKey>, u64) {
    let newest = keys.iter().map(|k| k.lamport).max().unwrap_or_default();
    let clock = clock.max(newest) + 1;
    let mut rings = Vec::new();
    for subsystem in SUBSYSTEMS {
        let mut ring: Vec<NetworkKey> = keys.iter().filter(|k| k.subsystem == subsystem).cloned().collect();
        ring.push(draw(subsystem, clock, fill));
        ring.sort_by_key(|k| k.lamport);
        rings.extend(ring.split_off(ring.len().saturating_sub(RING)));
    }
    (rings, clock)
}

fn draw(subsystem: KeySubsystem, lamport: u64, fill: &mut dyn FnMut(&mut [u8])) -> NetworkKey {
    let mut key = vec![0; KEY_LEN];
    fill(&mut key);
    NetworkKey { subsystem, lamport, key }
}

/// Rotates the rings every `period` of this leader's reign; a new leader starts the period anew, as Swarm's does.
#[derive(Debug)]
pub struct KeyManager {
    period: Millis,
    /// The clock that was seen, and since when.
    seen: Option<(u64, Timestamp)>,
}

impl KeyManager {
    /// A manager that rotates every `period`; [`ROTATION`] unless set otherwise.
    pub fn new(period: Millis) -> Self {
        Self { period, seen: None }
    }

    /// First rings for a cluster that has none; a rotation when it is due.
    pub fn plan(&mut self, state: &State, now: Timestamp, fill: &mut dyn FnMut(&mut [u8])) -> Plan {
        let mut plan = Plan::default();
        let Some(cluster) = &state.cluster else { return plan };
        if cluster.network_keys.is_empty() {
            let mut skew = [0; 8];
            fill(&mut skew);
            let (keys, clock) = initial(u64::from_be_bytes(skew), fill);
            plan.push(Command::SetNetworkKeys { keys, clock });
            return plan;
        }
        let since = match self.seen {
            Some((clock, since)) if clock == cluster.key_clock => since,
            _ => now,
        };
        self.seen = Some((cluster.key_clock, since));
        let due = since.after(self.period);
        if now < due {
            plan.wake(due);
        } else {
            let (keys, clock) = rotated(&cluster.network_keys, cluster.key_clock, fill);
            plan.push(Command::SetNetworkKeys { keys, clock });
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::tests::fixture;

    fn counter() -> impl FnMut(&mut [u8]) {
        let mut n = 0u8;
        move |bytes| {
            n += 1;
            bytes.fill(n);
        }
    }

    fn primary(keys: &[NetworkKey], subsystem: KeySubsystem) -> &NetworkKey {
        let mut ring: Vec<&NetworkKey> = keys.iter().filter(|k| k.subsystem == subsystem).collect();
        ring.sort_by_key(|k| k.lamport);
        ring[1]
    }

    #[test]
    fn the_next_primary_is_known_before_it_is_used() {
        let mut fill = counter();
        let (mut keys, mut clock) = initial(70_000, &mut fill);
        assert_eq!(keys.len(), 2 * RING);
        assert!(clock < INITIAL_SKEW + 3);
        assert!(keys.iter().all(|k| k.key.len() == KEY_LEN && k.lamport <= clock));
        for _ in 0..5 {
            let before = keys.clone();
            (keys, clock) = rotated(&keys, clock, &mut fill);
            assert_eq!(keys.len(), 2 * RING);
            for subsystem in SUBSYSTEMS {
                assert!(
                    before.contains(primary(&keys, subsystem)),
                    "all nodes had it before it became primary"
                );
                assert!(
                    keys.contains(primary(&before, subsystem)),
                    "what was sent before can still be opened"
                );
            }
        }
    }

    #[test]
    fn a_rotation_is_due_once_per_period() {
        let mut state = fixture::state();
        let mut manager = KeyManager::new(Millis::secs(10));
        let mut fill = counter();
        let first = manager.plan(&state, Timestamp(0), &mut fill);
        fixture::apply(&mut state, first.commands, Timestamp(0));
        let at = |seconds: u64| Timestamp(0).after(Millis::secs(seconds));
        assert_eq!(
            manager.plan(&state, at(1), &mut fill),
            Plan { commands: Vec::new(), next_at: Some(at(11)) }
        );
        assert!(manager.plan(&state, at(10), &mut fill).commands.is_empty());
        let rotation = manager.plan(&state, at(11), &mut fill).commands;
        assert_eq!(rotation.len(), 1);
        assert!(fixture::apply(&mut state, rotation, at(11)).iter().all(Result::is_ok));
        assert_eq!(manager.plan(&state, at(12), &mut fill).next_at, Some(at(22)));
    }
}
