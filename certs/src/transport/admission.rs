//! How much of a manager strangers may take up. Whoever has not proved to be a member is one: it takes its place among those of its own
//! address, and when places run out, the oldest of the address that holds most of them gives way. So one address can crowd out
//! itself only, and whoever is about to prove that it is a member always gets the moment that this takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Whom connections are counted for: an IPv4 address, or the /64 that an IPv6 address is in, since one host may take any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The one that an address belongs to.
    pub fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            v4 => Self(v4),
        }
    }
}

/// Slots for connections that have not proved a certificate yet. Clones share one set of slots.
#[derive(Debug, Clone)]
pub struct ConnectionSlots(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    total: usize,
    each: usize,
    serial: u64,
    /// The places that are taken, the oldest first, each with what ends it.
    taken: BTreeMap<Source, BTreeMap<u64, CancellationToken>>,
    count: usize,
}

/// A place; free again once this is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    slots: ConnectionSlots,
    source: Source,
    serial: u64,
    ended: CancellationToken,
}

impl ConnectionSlot {
    /// Cancelled when the place is needed for somebody else.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.table().free(self.source, self.serial);
    }
}

impl ConnectionSlots {
    /// So many in `total`, and so many for `each` source.
    pub fn new(total: usize, each: usize) -> Self {
        let (taken, count, serial) = (BTreeMap::new(), 0, 0);
        Self(Arc::new(Mutex::new(Table { total, each, serial, taken, count })))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, which always succeeds: where there is none left, an older one ends. It ends with `parent` too.
    pub fn take(&self, source: Source, parent: &CancellationToken) -> ConnectionSlot {
        let mut table = self.table();
        while table.held(source) >= table.each {
            table.evict(source);
        }
        while table.count >= table.total {
            // Of those that hold the same number, whichever comes first.
            let most = table.taken.iter().max_by_key(|(_, held)| held.len()).map(|(source, _)| *source);
            let Some(most) = most else { break };
            table.evict(most);
        }
        self.occupy(&mut table, source, parent.child_token())
    }

    /// Takes a place, if one is left.
    pub fn try_take(&self, source: Source) -> Option<ConnectionSlot> {
        let mut table = self.table();
        let left = table.count < table.total && table.held(source) < table.each;
        left.then(|| self.occupy(&mut table, source, CancellationToken::new()))
    }

    fn occupy(&self, table: &mut Table, source: Source, ended: CancellationToken) -> ConnectionSlot {
        table.serial += 1;
        let serial = table.serial;
        table.taken.entry(source).or_default().insert(serial, ended.clone());
        table.count += 1;
        ConnectionSlot { slots: self.clone(), source, serial, ended }
    }
}

impl Table {
    fn held(&self, source: Source) -> usize {
        self.taken.get(&source).map_or(0, BTreeMap::len)
    }

    fn free(&mut self, source: Source, serial: u64) {
        let Some(held) = self.taken.get_mut(&source) else { return };
        if held.remove(&serial).is_some() {
            self.count -= 1;
        }
        if held.is_empty() {
            self.taken.remove(&source);
        }
    }

    /// Ends the oldest place of a source.
    fn evict(&mut self, source: Source) {
        let oldest = self.taken.get(&source).and_then(|held| held.first_key_value());
        if let Some((serial, ended)) = oldest.map(|(serial, ended)| (*serial, ended.clone())) {
            ended.cancel();
            self.free(source, serial);
        }
    }
}

/// How often each source may do something that costs this machine work: `burst` times at once, and so many times a second after that.
#[derive(Debug)]
pub struct Rate {
    burst: f64,
    per_second: f64,
    /// What is left to each, and when that was so.
    left: BTreeMap<Source, (f64, Instant)>,
}

/// Sources whose rate is remembered. Beyond, those are forgotten that have all that they may have again, and then any.
const REMEMBERED: usize = 4096;

impl Rate {
    /// See the type.
    pub fn new(burst: u32, per_second: u32) -> Self {
        Self { burst: burst.into(), per_second: per_second.into(), left: BTreeMap::new() }
    }

    /// Whether a source may do it once more.
    pub fn allows(&mut self, source: Source, now: Instant) -> bool {
        let (burst, per_second) = (self.burst, self.per_second);
        let refilled = move |(left, at): (f64, Instant)| {
            burst.min(left + now.duration_since(at).as_secs_f64() * per_second)
        };
        if self.left.len() >= REMEMBERED && !self.left.contains_key(&source) {
            self.left.retain(|_, entry| refilled(*entry) < burst);
            if self.left.len() >= REMEMBERED {
                self.left.pop_first();
            }
        }
        let entry = self.left.entry(source).or_insert((burst, now));
        let left = refilled(*entry);
        let allowed = left >= 1.0;
        *entry = (if allowed { left - 1.0 } else { left }, now);
        allowed
    }
}

/// Sources from which a member has proved itself: no rate applies to them.
#[derive(Debug, Clone, Default)]
pub(super) struct TrustedSources(Arc<Mutex<BTreeSet<Source>>>);

impl TrustedSources {
    fn set(&self) -> MutexGuard<'_, BTreeSet<Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, source: Source) {
        self.set().insert(source);
    }

    pub(super) fn has(&self, source: Source) -> bool {
        self.set().contains(&source)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::time::Duration;

    use super::*;

    fn v4(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:0:7::1"), of("2001:db8:0:7:ffff::2"));
        assert_ne!(of("2001:db8:0:7::1"), of("2001:db8:0:8::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn who_holds_most_gives_way() {
        let (slots, root) = (ConnectionSlots::new(6, 4), CancellationToken::new());
        let mut flood: Vec<ConnectionSlot> = (0..10).map(|_| slots.take(v4(1), &root)).collect();
        let alive = |held: &[ConnectionSlot]| held.iter().filter(|p| !p.ended().is_cancelled()).count();
        assert_eq!(alive(&flood), 4, "its own places are bounded");
        assert!(flood[..6].iter().all(|p| p.ended().is_cancelled()), "the oldest went");
        let others: Vec<ConnectionSlot> = (2..=4).map(|n| slots.take(v4(n), &root)).collect();
        assert_eq!((alive(&others), alive(&flood)), (3, 3), "the flood made room");
        // What was evicted frees nothing a second time.
        flood.drain(..7);
        assert!(slots.try_take(v4(5)).is_none());
        drop(flood);
        assert!(slots.try_take(v4(5)).is_some());
        root.cancel();
        assert_eq!(alive(&others), 0);
    }

    #[test]
    fn a_source_has_a_burst_and_then_its_rate() {
        let (mut rate, start) = (Rate::new(3, 2), Instant::now());
        let mut count = |at: Duration| (0..10).filter(|_| rate.allows(v4(1), start + at)).count();
        assert_eq!(count(Duration::ZERO), 3);
        assert_eq!(count(Duration::from_secs(1)), 2);
        assert_eq!(count(Duration::from_secs(60)), 3);
        assert!(rate.allows(v4(2), start), "others have their own");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut rate, start) = (Rate::new(3, 2), Instant::now());
        for n in 0..50_000_u32 {
            let v6 = Ipv6Addr::from(u128::from(n) << 64);
            assert!(rate.allows(Source::of(v6.into()), start));
        }
        assert!(rate.left.len() <= REMEMBERED);
    }
}
